//! Tokens that an issuer signed: believed by its keys, in their time, and if they are for this server.

mod keys;
mod signatures;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, Validation};
use magpie_core::limits::HTTP_JWT_CALLERS_MAX;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::mcp::catalog::Scope;
use crate::mcp::namespace;
use crate::mcp::principal::Principal;
use crate::mcp::quota::{Account, Quota};
use keys::{KeySet, Keys, Source, Wanted};

/// How far the clocks of the issuer and of this node may differ.
const LEEWAY_S: u64 = 30;
const TOKEN_BYTES_MAX: usize = 8 * 1024;
const SUBJECT_LEN_MAX: usize = 128;
/// What a scope of ours may be called beside its name, where an issuer has scopes of several servers.
const SCOPE_PREFIX: &str = "magpie:";

/// Whose tokens are believed, as `[http.jwt]` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtRules {
    /// Their `iss`; clients are told to get their tokens there.
    pub issuer: String,
    /// What this server is called in their `aud`.
    pub audience: String,
    /// The issuer's public keys (JSON Web Key Set): a file, or `https://...`.
    pub jwks: String,
    #[serde(default = "algorithms")]
    pub algorithms: Vec<JwtAlgorithm>,
    /// The claim that names scopes, as text with spaces between or as a list.
    #[serde(default = "scope_claim")]
    pub scope_claim: String,
    /// The claim that names the namespace its holder is kept to; every token must have it. Unset: none is kept to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_claim: Option<String>,
    /// How much each of its callers may use, by its `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

/// A signature by a key pair: what everybody may check, and one alone can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JwtAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl JwtAlgorithm {
    fn named(self) -> Algorithm {
        match self {
            Self::RS256 => Algorithm::RS256,
            Self::RS384 => Algorithm::RS384,
            Self::RS512 => Algorithm::RS512,
            Self::PS256 => Algorithm::PS256,
            Self::PS384 => Algorithm::PS384,
            Self::PS512 => Algorithm::PS512,
            Self::ES256 => Algorithm::ES256,
            Self::ES384 => Algorithm::ES384,
            Self::EdDSA => Algorithm::EdDSA,
        }
    }
}

fn algorithms() -> Vec<JwtAlgorithm> {
    vec![JwtAlgorithm::RS256, JwtAlgorithm::ES256, JwtAlgorithm::EdDSA]
}

fn scope_claim() -> String {
    "scope".to_owned()
}

impl JwtRules {
    /// # Errors
    /// In words, what of it cannot be right.
    pub fn check(&self) -> Result<(), String> {
        for (name, value) in
            [("issuer", &self.issuer), ("audience", &self.audience), ("scope_claim", &self.scope_claim)]
        {
            if value.is_empty() || value.chars().any(|c| c.is_control() || c == '"') {
                return Err(format!("{name} is {value:?}: write it as it stands in the tokens"));
            }
        }
        if self.algorithms.is_empty() {
            return Err("algorithms is empty: leave it out, or name those that the issuer signs with".to_owned());
        }
        self.quota.map_or(Ok(()), |quota| quota.check())?;
        Source::named(&self.jwks).map(drop)
    }

    /// What a token says, if it is to be believed.
    fn believe(&self, token: &str, keys: &KeySet) -> Result<Said, Disbelief> {
        let refused = |error: Error| Disbelief::Refused(self.in_words(&error));
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Disbelief::Refused(format!(
                "it has {} bytes, at most {TOKEN_BYTES_MAX} are read",
                token.len()
            )));
        }
        let header = jsonwebtoken::decode_header(token).map_err(refused)?;
        if !self.algorithms.iter().any(|taken| taken.named() == header.alg) {
            let taken = self.algorithms.iter().map(|taken| format!("{taken:?}")).collect::<Vec<_>>().join(", ");
            return Err(Disbelief::Refused(format!("it is signed with {:?}, taken are {taken}", header.alg)));
        }
        let key = keys.find(header.kid.as_deref(), header.alg).ok_or(Disbelief::UnknownKey)?;
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_S;
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &validation).map_err(refused)?;
        self.said(&decoded.claims).map_err(Disbelief::Refused)
    }

    fn said(&self, claims: &Map<String, Value>) -> Result<Said, String> {
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        if subject.is_empty() || subject.len() > SUBJECT_LEN_MAX || !subject.chars().all(|c| c.is_ascii_graphic()) {
            return Err(format!("its sub is not 1 to {SUBJECT_LEN_MAX} letters, digits and signs of ASCII"));
        }
        let scope = self.scope_in(claims)?;
        let namespace = match &self.namespace_claim {
            None => None,
            Some(claim) => {
                let named = claims.get(claim).and_then(Value::as_str);
                let named = named.ok_or_else(|| format!("it has no claim {claim}, which names its namespace"))?;
                namespace::check_name(named).map_err(|problem| format!("its {claim}: {problem}"))?;
                Some(named.to_owned())
            }
        };
        Ok(Said { name: format!("jwt:{}", plain(subject)), scope, namespace })
    }

    /// The highest scope of ours that it names.
    fn scope_in(&self, claims: &Map<String, Value>) -> Result<Scope, String> {
        let named: Vec<&str> = match claims.get(&self.scope_claim) {
            Some(Value::String(text)) => text.split_whitespace().collect(),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let ours = named.into_iter().map(|name| name.strip_prefix(SCOPE_PREFIX).unwrap_or(name));
        ours.filter_map(|name| name.parse().ok()).max().ok_or_else(|| {
            let scopes = Scope::ALL.map(Scope::name).join(", ");
            format!("its claim {} names none of {scopes}", self.scope_claim)
        })
    }

    fn in_words(&self, error: &Error) -> String {
        match error.kind() {
            ErrorKind::ExpiredSignature => "its time is over".to_owned(),
            ErrorKind::ImmatureSignature => "its time has not come".to_owned(),
            ErrorKind::InvalidIssuer => format!("it is of another issuer than {}", self.issuer),
            ErrorKind::InvalidAudience => format!("it is for another server: its aud is not {}", self.audience),
            ErrorKind::InvalidSignature => "its signature is not by the issuer's key".to_owned(),
            ErrorKind::MissingRequiredClaim(claim) => format!("it has no claim {claim}"),
            _ => "it is no token that can be read here: a JWT with a signature by a key pair is".to_owned(),
        }
    }
}

/// An address as a name: what keeps callers to namespaces apart from others is `@`.
fn plain(subject: &str) -> String {
    subject.replace('%', "%25").replace('@', "%40")
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Said {
    name: String,
    scope: Scope,
    namespace: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Disbelief {
    UnknownKey,
    Refused(String),
}

/// Why a token lets nobody in.
#[derive(Debug, PartialEq, Eq)]
pub enum Doubt {
    /// In words, for who sent it.
    Refused(String),
    /// The issuer's keys are not there: a good token would be refused as well.
    NoKeys(String),
}

/// The tokens of one issuer.
pub struct Jwt {
    rules: JwtRules,
    keys: Keys,
    callers: Mutex<HashMap<Said, (Arc<Principal>, Instant)>>,
}

impl Jwt {
    /// # Errors
    /// In words, if the rules cannot be right.
    pub fn new(rules: JwtRules) -> Result<Self, String> {
        rules.check()?;
        signatures::install();
        let keys = Keys::new(Source::named(&rules.jwks)?);
        Ok(Self { rules, keys, callers: Mutex::default() })
    }

    pub fn issuer(&self) -> &str {
        &self.rules.issuer
    }

    pub fn audience(&self) -> &str {
        &self.rules.audience
    }

    /// Whose token this is. A key that is missing may be new: the keys are read again, but not more often than they may.
    ///
    /// # Errors
    /// See [`Doubt`].
    pub async fn holder(&self, token: &str) -> Result<Arc<Principal>, Doubt> {
        let keys = self.keys.get(Wanted::Any).await.map_err(Doubt::NoKeys)?;
        let believed = match self.rules.believe(token, &keys) {
            Err(Disbelief::UnknownKey) => {
                let keys = self.keys.get(Wanted::Missing).await.map_err(Doubt::NoKeys)?;
                self.rules.believe(token, &keys)
            }
            believed => believed,
        };
        match believed {
            Ok(said) => Ok(self.caller(said)),
            Err(Disbelief::UnknownKey) => Err(Doubt::Refused("its key is none of the issuer's".to_owned())),
            Err(Disbelief::Refused(why)) => Err(Doubt::Refused(why)),
        }
    }

    /// One caller, one account, for as long as it is among those that came last.
    fn caller(&self, said: Said) -> Arc<Principal> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((principal, used)) = callers.get_mut(&said) {
            *used = Instant::now();
            return principal.clone();
        }
        if callers.len() >= HTTP_JWT_CALLERS_MAX {
            let oldest = callers.iter().min_by_key(|(_, (_, used))| *used).map(|(said, _)| said.clone());
            oldest.map(|oldest| callers.remove(&oldest));
        }
        let principal = Principal::new(&said.name, said.scope);
        let mut principal = match &said.namespace {
            Some(namespace) => principal.kept_to(namespace),
            None => principal,
        };
        // One subject with tokens of two scopes has one quota.
        let beside = callers.values().find(|(other, _)| other.name == principal.name);
        let beside = beside.and_then(|(other, _)| other.account.as_ref());
        principal.account = self.rules.quota.map(|quota| match beside {
            Some(other) => Account::new(quota).beside(other),
            None => Account::new(quota),
        });
        let principal = Arc::new(principal);
        callers.insert(said, (principal.clone(), Instant::now()));
        principal
    }
}

#[cfg(test)]
mod tests;
