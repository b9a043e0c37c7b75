//! The keys of an issuer: read from a file or an address, read again when they are old or one is missing.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use ureq::Agent;

const KEYS_BYTES_MAX: u64 = 256 * 1024;
const KEYS_MAX: usize = 64;
/// Keys that were read so long ago are read again.
const FRESH: Duration = Duration::from_secs(300);
/// Keys that could not be read again count so long.
const STALE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// The least time between two readings, whatever tokens come.
const READ_EVERY: Duration = Duration::from_secs(10);
const READ_PATIENCE: Duration = Duration::from_secs(5);

/// One key that signatures are checked with.
pub struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    pub key: DecodingKey,
}

/// Those of one reading.
#[derive(Default)]
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// Keys that this version does not know are left out: an issuer may have others for others.
    ///
    /// # Errors
    /// In words, if it is no set of keys.
    pub fn read(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let Document { keys } =
            serde_json::from_str(text).map_err(|error| format!("it is no JSON Web Key Set: {error}"))?;
        if keys.len() > KEYS_MAX {
            return Err(format!("it has {} keys, at most {KEYS_MAX} are taken", keys.len()));
        }
        let known: Vec<Key> = keys.into_iter().filter_map(Key::of).collect();
        if known.is_empty() {
            return Err("it has no public key that signatures are checked with (kty RSA, EC or OKP)".to_owned());
        }
        Ok(Self(known))
    }

    /// The key that a token names; one without a name is for a token that names none.
    pub fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let name = format!("{algorithm:?}");
        let fits =
            |key: &&Key| key.key.family() == algorithm.family() && key.algorithm.as_ref().is_none_or(|of| *of == name);
        let mut found = self.0.iter().filter(|key| id.is_none() || key.id.as_deref() == id).filter(fits);
        let first = found.next()?;
        // Which of several it would be, nothing says.
        (id.is_some() || found.next().is_none()).then_some(first)
    }
}

/// What a key says of itself beside its numbers.
#[derive(Deserialize)]
struct About {
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
}

impl Key {
    fn of(jwk: Value) -> Option<Self> {
        let About { kid, alg, used_for } = About::deserialize(&jwk).ok()?;
        let key = DecodingKey::from_jwk(&Jwk::deserialize(jwk).ok()?).ok()?;
        let is_for_signatures = used_for.is_none_or(|used_for| used_for == "sig");
        let is_public = key.family() != AlgorithmFamily::Hmac;
        (is_for_signatures && is_public).then_some(Self { id: kid, algorithm: alg, key })
    }
}

/// Where keys are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    Address(String),
}

impl Source {
    /// # Errors
    /// In words, if keys would come over a way that others can write on.
    pub fn named(text: &str) -> Result<Self, String> {
        if !text.contains("://") {
            return if text.is_empty() { Err("jwks is empty".to_owned()) } else { Ok(Self::File(text.into())) };
        }
        let uri: http::Uri = text.parse().map_err(|error| format!("jwks {text:?} is no address: {error}"))?;
        let host = uri.host().unwrap_or_default();
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_here = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
        match uri.scheme_str() {
            Some("https") => Ok(Self::Address(text.to_owned())),
            Some("http") if is_here => Ok(Self::Address(text.to_owned())),
            _ => Err(format!("jwks {text:?}: write a file, or https://; http:// is for this machine alone")),
        }
    }

    /// It blocks.
    fn text(&self) -> Result<String, String> {
        match self {
            Self::File(file) => {
                let failed = |error: std::io::Error| format!("{} cannot be read: {error}", file.display());
                let len = std::fs::metadata(file).map_err(failed)?.len();
                if len > KEYS_BYTES_MAX {
                    return Err(format!("{} has {len} bytes, at most {KEYS_BYTES_MAX} are read", file.display()));
                }
                std::fs::read_to_string(file).map_err(failed)
            }
            Self::Address(address) => {
                let agent: Agent =
                    Agent::config_builder().timeout_global(Some(READ_PATIENCE)).max_redirects(0).build().into();
                let read = agent
                    .get(address)
                    .call()
                    .and_then(|mut response| response.body_mut().with_config().limit(KEYS_BYTES_MAX).read_to_string());
                read.map_err(|error| format!("{address} cannot be read: {error}"))
            }
        }
    }

    async fn read(&self) -> Result<KeySet, String> {
        let source = self.clone();
        let text = tokio::task::spawn_blocking(move || source.text()).await.map_err(|error| error.to_string())??;
        KeySet::read(&text)
    }
}

/// The keys as they were read last.
pub struct Keys {
    source: Source,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    set: Option<(Arc<KeySet>, Instant)>,
    tried: Option<Instant>,
    problem: String,
}

/// What a reading is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Any,
    /// One that was not among those of the last reading.
    Missing,
}

impl Keys {
    pub fn new(source: Source) -> Self {
        Self { source, held: Mutex::default() }
    }

    /// The keys. Whoever comes while they are read waits for the same reading.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn get(&self, wanted: Wanted) -> Result<Arc<KeySet>, String> {
        let mut held = self.held.lock().await;
        if held.is_due(wanted, Instant::now()) {
            held.tried = Some(Instant::now());
            match self.source.read().await {
                Ok(set) => held.set = Some((Arc::new(set), Instant::now())),
                Err(problem) => {
                    tracing::error!(%problem, "the keys of http.jwt are not read");
                    held.problem = problem;
                }
            }
        }
        held.current(Instant::now()).ok_or_else(|| held.problem.clone())
    }

    /// As if the last reading had been long ago.
    #[cfg(test)]
    pub async fn age(&self, by: Duration) {
        let mut held = self.held.lock().await;
        held.tried = held.tried.and_then(|tried| tried.checked_sub(by));
        held.set = held.set.take().and_then(|(set, read)| Some((set, read.checked_sub(by)?)));
    }
}

impl Held {
    fn is_due(&self, wanted: Wanted, now: Instant) -> bool {
        if self.tried.is_some_and(|tried| now.duration_since(tried) < READ_EVERY) {
            return false;
        }
        let is_old = self.set.as_ref().is_none_or(|(_, read)| now.duration_since(*read) >= FRESH);
        is_old || wanted == Wanted::Missing
    }

    fn current(&self, now: Instant) -> Option<Arc<KeySet>> {
        let (set, read) = self.set.as_ref()?;
        (now.duration_since(*read) < STALE_MAX).then(|| set.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn set(keys: &[String]) -> Result<KeySet, String> {
        KeySet::read(&format!("{{\"keys\": [{}]}}", keys.join(",")))
    }

    fn point(more: &str) -> String {
        format!("{{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"{POINT}\"{more}}}")
    }

    #[test]
    fn keys_for_other_ends_and_of_unknown_kinds_are_left_out() {
        let others = [point(", \"use\": \"enc\""), "{\"kty\": \"new\"}".to_owned(), "7".to_owned()];
        assert!(set(&others).is_err_and(|words| words.contains("no public key")));
        let known = set(&[others.to_vec(), vec![point(", \"kid\": \"a\"")]].concat()).unwrap();
        assert!(known.find(Some("a"), Algorithm::EdDSA).is_some());
        for (id, algorithm) in
            [(Some("b"), Algorithm::EdDSA), (Some("a"), Algorithm::ES256), (Some("a"), Algorithm::HS256)]
        {
            assert!(known.find(id, algorithm).is_none(), "{id:?} {algorithm:?}");
        }
    }

    #[test]
    fn a_token_without_a_keys_name_is_of_the_only_one_and_of_no_other() {
        let (a, b) = (point(", \"kid\": \"a\""), point(", \"kid\": \"b\""));
        assert!(set(std::slice::from_ref(&a)).unwrap().find(None, Algorithm::EdDSA).is_some());
        assert!(set(&[a, b]).unwrap().find(None, Algorithm::EdDSA).is_none());
        let other = point(", \"alg\": \"ES256\"");
        assert!(set(&[other]).unwrap().find(None, Algorithm::EdDSA).is_none(), "it says what it is for");
    }

    #[test]
    fn too_many_keys_are_refused() {
        let many = vec![point(""); KEYS_MAX + 1];
        assert!(set(&many).is_err_and(|words| words.contains("at most 64")));
    }
}
