//! Bearer tokens: a file of the digests of what their holders show, with what each may do. Tickets are something else:
//! they are signed, and let peers in (`nodectl token issue`).

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use magpie_core::limits::HTTP_TOKENS_MAX;
use magpie_core::time::Wall;
use magpie_net::secret_file::{self, SecretFileError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::mcp::approve::Approve;
use crate::mcp::catalog::Scope;
use crate::mcp::namespace;
use crate::mcp::principal::Principal;
use crate::mcp::quota::{Account, Quota};

const FILE_BYTES_MAX: u64 = 512 * 1024;
/// How often the file is looked at while requests come.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);
const NAME_LEN_MAX: usize = 64;
/// What tokens of a file begin with.
pub const PREFIX: &str = "magpie_";

/// What is said of a file that cannot be used.
pub const NONE_TAKEN: &str = "no bearer token is taken until their file is right";

/// What says who may come in, and cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    #[error(transparent)]
    File(#[from] SecretFileError),
    #[error("there is no file {}: `nodectl token bearer add NAME --file FILE --scope SCOPE` makes it", .0.display())]
    Missing(PathBuf),
    #[error("{}: {problem}", file.display())]
    Wrong { file: PathBuf, problem: String },
    #[error("http.jwt: {0}")]
    Jwt(String),
}

/// What the file says of one token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    pub name: String,
    /// Of the token, in hexadecimal digits.
    pub sha256: String,
    pub scope: Scope,
    /// Its holder sees and uses nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Which calls of its holder wait until a person approves them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve: Option<Approve>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Wall>,
    /// How much its holder may use. A table, which stands behind all that is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

/// The file as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFile {
    #[serde(default)]
    pub token: Vec<TokenEntry>,
}

impl TokenFile {
    /// What `file` says.
    ///
    /// # Errors
    /// If there is none, others may read it, or it says something else.
    pub fn read(file: &Path) -> Result<Self, TokensError> {
        let is_one = |text: &str| toml::from_str::<Self>(text).is_ok();
        let text = secret_file::read_long(file, "list of tokens", FILE_BYTES_MAX, is_one)?;
        let text = text.ok_or_else(|| TokensError::Missing(file.to_owned()))?;
        let wrong = |problem| TokensError::Wrong { file: file.to_owned(), problem };
        let read: Self = toml::from_str(&text).map_err(|error| wrong(error.message().to_owned()))?;
        read.check().map_err(wrong)?;
        Ok(read)
    }

    /// Replaces `file` in one step, with a mode that keeps others out.
    ///
    /// # Errors
    /// If the list is not right, or the disk does not take it.
    pub fn write(&self, file: &Path) -> Result<(), TokensError> {
        let wrong = |problem| TokensError::Wrong { file: file.to_owned(), problem };
        self.check().map_err(wrong)?;
        let text = toml::to_string(self).map_err(|error| wrong(error.to_string()))?;
        // What could not be read again would keep everybody out.
        let read: Result<Self, _> = toml::from_str(&text);
        if read.as_ref() != Ok(self) || text.len() as u64 > FILE_BYTES_MAX {
            let why = read.map_or_else(|error| error.message().to_owned(), |_| "it would be too long".to_owned());
            return Err(wrong(format!("the list could not be read again, and is left as it was: {why}")));
        }
        Ok(secret_file::replace(file, &text)?)
    }

    fn check(&self) -> Result<(), String> {
        if self.token.len() > HTTP_TOKENS_MAX {
            return Err(format!("it has {} tokens, at most {HTTP_TOKENS_MAX}", self.token.len()));
        }
        let mut names: Vec<&str> = self.token.iter().map(|token| token.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("the name {:?} is there twice", twice[0]));
        }
        self.token.iter().try_for_each(TokenEntry::check)
    }
}

impl TokenEntry {
    /// A new token, and what the file says of it: the token itself is shown once and kept nowhere.
    pub fn make(name: &str, scope: Scope, expires: Option<Wall>) -> (String, Self) {
        let secret: [u8; 32] = rand::random();
        let token = format!("{PREFIX}{}", BASE32_NOPAD.encode(&secret).to_lowercase());
        let sha256 = HEXLOWER.encode(&Sha256::digest(&token));
        (token, Self { name: name.to_owned(), sha256, scope, namespace: None, approve: None, quota: None, expires })
    }

    /// The same, kept to a namespace.
    #[must_use]
    pub fn kept_to(self, namespace: Option<String>) -> Self {
        Self { namespace, ..self }
    }

    /// The same, whose holder's calls wait.
    #[must_use]
    pub fn waiting_for(self, approve: Option<Approve>) -> Self {
        Self { approve, ..self }
    }

    /// The same, with so much that its holder may use.
    #[must_use]
    pub fn within(self, quota: Option<Quota>) -> Self {
        Self { quota, ..self }
    }

    /// In whose name its holder calls: the owner of what it submits, under which its use is counted.
    pub fn owner(&self) -> String {
        self.principal().name.to_string()
    }

    fn is_same_caller(&self, other: &Self) -> bool {
        (&self.name, self.scope, &self.namespace, &self.approve, self.quota)
            == (&other.name, other.scope, &other.namespace, &other.approve, other.quota)
    }

    fn principal(&self) -> Principal {
        let account = self.quota.map(Account::new);
        let principal = Principal::new(&format!("token:{}", self.name), self.scope).within(account);
        let principal = principal.waiting_for(self.approve.clone());
        match &self.namespace {
            Some(namespace) => principal.kept_to(namespace),
            None => principal,
        }
    }

    fn check(&self) -> Result<(), String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.len() > NAME_LEN_MAX || !self.name.chars().all(is_plain) {
            return Err(format!("{:?} is no name: letters, digits, - _ . and at most {NAME_LEN_MAX}", self.name));
        }
        if let Some(namespace) = &self.namespace {
            namespace::check_name(namespace).map_err(|problem| format!("{}: {problem}", self.name))?;
        }
        if let Some(approve) = &self.approve {
            approve.check().map_err(|problem| format!("{}: {problem}", self.name))?;
        }
        if let Some(quota) = &self.quota {
            quota.check().map_err(|problem| format!("{}: {problem}", self.name))?;
        }
        let digest = HEXLOWER.decode(self.sha256.as_bytes());
        if digest.is_ok_and(|digest| digest.len() == 32) {
            return Ok(());
        }
        Err(format!("{}: sha256 is not 64 hexadecimal digits in lower case", self.name))
    }
}

/// A token that a request may show.
struct Known {
    entry: TokenEntry,
    principal: Arc<Principal>,
}

/// The tokens of a file, read again when it changes: who is taken out of it is out within a second.
pub struct Tokens {
    file: PathBuf,
    held: Mutex<Held>,
}

struct Held {
    known: Vec<Known>,
    changed: Option<Version>,
    looked: Instant,
}

impl Tokens {
    /// # Errors
    /// If the file cannot be used.
    pub fn open(file: PathBuf) -> Result<Self, TokensError> {
        let changed = changed(&file);
        let known = known(TokenFile::read(&file)?, Vec::new());
        Ok(Self { held: Mutex::new(Held { known, changed, looked: Instant::now() }), file })
    }

    /// Whose token this is, if it is one and its time is not over. It takes as long whether it is or not.
    pub fn holder(&self, token: &str) -> Option<Arc<Principal>> {
        let shown = HEXLOWER.encode(&Sha256::digest(token));
        let now = now_ms();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.looked.elapsed() >= LOOK_AGAIN_AFTER {
            self.look_again(&mut held);
        }
        let mut found = None;
        for known in &held.known {
            let is_it = bool::from(shown.as_bytes().ct_eq(known.entry.sha256.as_bytes()));
            if is_it && known.entry.expires.is_none_or(|expires| now < expires.0) {
                found = Some(&known.principal);
            }
        }
        found.cloned()
    }

    /// Who has this name among those that a token of the file lets in: of the file as it is now, since this is asked seldom, and
    /// what is done in that name may not be taken back.
    pub fn named(&self, name: &str) -> Option<Arc<Principal>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.look_again(&mut held);
        let now = now_ms();
        let lets_in = |known: &&Known| known.entry.expires.is_none_or(|expires| now < expires.0);
        held.known
            .iter()
            .filter(lets_in)
            .find(|known| *known.principal.name == *name)
            .map(|known| known.principal.clone())
    }

    /// A file that cannot be read lets nobody in: it may have been changed to keep somebody out.
    fn look_again(&self, held: &mut Held) {
        held.looked = Instant::now();
        let changed = changed(&self.file);
        if changed == held.changed {
            return;
        }
        held.changed = changed;
        let former = std::mem::take(&mut held.known);
        match TokenFile::read(&self.file) {
            Ok(file) => held.known = known(file, former),
            Err(error) => tracing::error!(%error, "{NONE_TAKEN}"),
        }
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64)
}

/// By when it was written, its length and its place on the disk: one that is put in its place at once may share the others.
type Version = (SystemTime, u64, u64);

fn changed(file: &Path) -> Option<Version> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// Whoever is the same as before keeps its calls under way.
fn known(file: TokenFile, former: Vec<Known>) -> Vec<Known> {
    let of = |entry: TokenEntry| {
        let same = former.iter().find(|known| known.entry.is_same_caller(&entry));
        let fresh = || {
            let mut principal = entry.principal();
            let before = former.iter().find(|known| known.principal.name == principal.name);
            let before = before.and_then(|known| known.principal.account.as_ref());
            principal.account = match (principal.account, before) {
                (Some(account), Some(before)) => Some(account.beside(before)),
                (account, _) => account,
            };
            Arc::new(principal)
        };
        Known { principal: same.map_or_else(fresh, |known| known.principal.clone()), entry }
    };
    file.token.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(entries: &[&TokenEntry]) -> TokenFile {
        TokenFile { token: entries.iter().map(|entry| (*entry).clone()).collect() }
    }

    fn name(tokens: &Tokens, token: &str) -> Option<String> {
        tokens.holder(token).map(|principal| principal.name.to_string())
    }

    /// Puts the last look so far back that the next request looks again.
    fn look(tokens: &Tokens) {
        tokens.held.lock().unwrap().looked -= LOOK_AGAIN_AFTER;
    }

    #[test]
    fn a_token_is_known_by_its_digest_until_its_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let (first, entry) = TokenEntry::make("ci", Scope::Submit, None);
        let (old, over) = TokenEntry::make("old", Scope::Admin, Some(Wall(1)));
        let (later, good) = TokenEntry::make("later", Scope::Read, Some(Wall(4_102_444_800_000)));
        file(&[&entry, &over, &good]).write(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!std::fs::read_to_string(&path).unwrap().contains(&first), "the token itself is kept nowhere");
        let tokens = Tokens::open(path).unwrap();
        assert_eq!(name(&tokens, &first).as_deref(), Some("token:ci"));
        assert_eq!(name(&tokens, &later).as_deref(), Some("token:later"));
        for wrong in [old.as_str(), "", "magpie_", &entry.sha256, &first[1..]] {
            assert_eq!(name(&tokens, wrong), None, "{wrong}");
        }
        assert!(
            Arc::ptr_eq(&tokens.holder(&first).unwrap(), &tokens.holder(&first).unwrap()),
            "one caller, one account"
        );
    }

    #[test]
    fn who_is_kept_to_another_namespace_is_another_caller() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let (token, entry) = TokenEntry::make("ci", Scope::Submit, None);
        let kept = |namespace: &str| entry.clone().kept_to(Some(namespace.to_owned()));
        file(&[&kept("books")]).write(&path).unwrap();
        let tokens = Tokens::open(path.clone()).unwrap();
        let before = tokens.holder(&token).unwrap();
        assert_eq!((&*before.name, before.namespace.as_deref()), ("token:ci@books", Some("books")));
        file(&[&kept("films")]).write(&path).unwrap();
        look(&tokens);
        assert_eq!(name(&tokens, &token).as_deref(), Some("token:ci@films"));
    }

    #[test]
    fn a_quota_is_kept_in_the_file_and_taken_from_it_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let (token, entry) = TokenEntry::make("ci", Scope::Submit, Some(Wall(4_102_444_800_000)));
        let with = |quota: &str| entry.clone().within(Some(Quota::parse(quota).unwrap()));
        file(&[&with("tasks=1,per=2h")]).write(&path).unwrap();
        assert_eq!(TokenFile::read(&path).unwrap(), file(&[&with("tasks=1,per=2h")]));
        let tokens = Tokens::open(path.clone()).unwrap();
        let quota = || tokens.holder(&token).unwrap().account.as_ref().map(|account| account.quota);
        assert_eq!(quota(), with("tasks=1,per=2h").quota);
        file(&[&with("tasks=20,per=2h")]).write(&path).unwrap();
        look(&tokens);
        assert_eq!(quota(), with("tasks=20,per=2h").quota);
    }

    #[test]
    fn who_is_taken_out_of_the_file_is_out_and_a_damaged_file_lets_nobody_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let ((one, first), (two, second)) =
            (TokenEntry::make("one", Scope::Read, None), TokenEntry::make("two", Scope::Read, None));
        file(&[&first, &second]).write(&path).unwrap();
        let tokens = Tokens::open(path.clone()).unwrap();
        let before = tokens.holder(&two).unwrap();
        file(&[&second]).write(&path).unwrap();
        look(&tokens);
        assert_eq!(name(&tokens, &one), None);
        assert!(Arc::ptr_eq(&tokens.holder(&two).unwrap(), &before), "who stays keeps its account");
        std::fs::write(&path, "[[token]]\nname = ").unwrap();
        look(&tokens);
        assert_eq!(name(&tokens, &two), None);
        file(&[&second]).write(&path).unwrap();
        look(&tokens);
        assert!(name(&tokens, &two).is_some());
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_wrong_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let words = |path: &Path| TokenFile::read(path).unwrap_err().to_string();
        assert!(words(&path).contains("nodectl token bearer add"), "{}", words(&path));
        let (_, entry) = TokenEntry::make("a", Scope::Read, None);
        file(&[&entry]).write(&path).unwrap();
        for (text, said) in [
            ("token = 7", "invalid type"),
            ("[[token]]\nname = \"a\"\nsha256 = \"00\"\nscope = \"read\"", "64 hexadecimal"),
            ("[[token]]\nname = \"a\"\nsha256 = \"00\"\nscope = \"root\"", "unknown variant"),
            ("[[token]]\nname = \"a\"\nsha256 = \"00\"\nscope = \"read\"\nnamespace = \"A b\"", "no namespace"),
            ("[[token]]\nname = \"a\"\nsha256 = \"00\"\nscope = \"read\"\nscopes = 1", "unknown field"),
            ("[[token]]\nname = \"a\"\nsha256 = \"00\"\nscope = \"read\"\nquota = {per = \"1h\"}", "bounds nothing"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(words(&path).contains(said), "{text}: {}", words(&path));
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(words(&path).contains("chmod 600"), "{}", words(&path));
        let endless = TokenEntry { expires: Some(Wall(u64::MAX)), ..entry.clone() };
        let before = std::fs::read_to_string(&path).unwrap();
        let refused = file(&[&endless]).write(&path).unwrap_err().to_string();
        assert!(refused.contains("could not be read again"), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        assert!(file(&[&entry, &entry]).write(&path).unwrap_err().to_string().contains("twice"));
        let nameless = TokenEntry { name: "a b".to_owned(), ..entry };
        assert!(file(&[&nameless]).write(&path).unwrap_err().to_string().contains("no name"));
    }
}
