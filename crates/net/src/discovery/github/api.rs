//! The few calls of GitHub's API that a registry takes. They block.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::limits;
use crate::secret_file::{self, SecretFileError};

/// Where the registry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GithubConfig {
    /// `owner/name`
    pub repository: String,
    /// The issue whose comments are the registry.
    pub issue: u64,
    /// Without one nothing can be written, and little be read.
    pub token: Option<Token>,
    /// `https://api.github.com`, or that of an installation of one's own.
    pub api: String,
}

/// A secret that says who writes.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl Token {
    /// Loads the token in the file at `path`.
    ///
    /// # Errors
    /// If there is no such file, or others may read it.
    pub fn load(path: &Path) -> Result<Self, SecretFileError> {
        let text = secret_file::read(path, "token of GitHub", is_token)?;
        let absent = || SecretFileError::Io { path: path.to_owned(), source: io::ErrorKind::NotFound.into() };
        text.map(Self).ok_or_else(absent)
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic())
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

/// A registry that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GithubConfigError {
    #[error("{presented:?} is not a repository, as owner/name")]
    Repository { presented: String },
    #[error("0 is not the number of an issue")]
    Issue,
    #[error("{presented:?} is not the address of an API: https://..., or http:// to this machine")]
    Api { presented: String },
    #[error("the token is empty or has letters that no token has")]
    Token,
}

impl GithubConfig {
    /// # Errors
    /// The first field that cannot be right.
    pub fn check(&self) -> Result<(), GithubConfigError> {
        let is_name = |name: &str| {
            let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
            !name.is_empty() && name.len() <= 100 && name.chars().all(is_letter) && name != "." && name != ".."
        };
        let names = self.repository.split_once('/');
        if !names.is_some_and(|(owner, name)| is_name(owner) && is_name(name)) {
            return Err(GithubConfigError::Repository { presented: self.repository.clone() });
        }
        if self.issue == 0 {
            return Err(GithubConfigError::Issue);
        }
        if !is_safe(&self.api) {
            return Err(GithubConfigError::Api { presented: self.api.clone() });
        }
        if self.token.as_ref().is_some_and(|token| !is_token(&token.0)) {
            return Err(GithubConfigError::Token);
        }
        Ok(())
    }
}

/// A token goes over an encrypted way, or over none.
fn is_safe(api: &str) -> bool {
    let Ok(uri) = api.parse::<ureq::http::Uri>() else { return false };
    let Some(host) = uri.host() else { return false };
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_here = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    uri.query().is_none() && (uri.scheme_str() == Some("https") || (uri.scheme_str() == Some("http") && is_here))
}

/// A comment of the issue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Comment {
    pub id: u64,
    pub body: Option<String>,
}

/// A call that came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("the rate limit is reached, it is asked again in {} s", .wait_s.unwrap_or(limits::GITHUB_LIMITED_S))]
    Limited { wait_s: Option<u64> },
    #[error("it answers {status}: {remedy}")]
    Refused { status: u16, remedy: &'static str },
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] ureq::Error),
    #[error("its answer is none: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl ApiError {
    /// When to try again after so many failures in a row.
    pub fn wait_ms(&self, failures: u32) -> u64 {
        let doubled = |first_s: u64| first_s << failures.saturating_sub(1).min(6);
        let wait_s = match self {
            Self::Limited { wait_s: Some(wait_s) } => (*wait_s).max(1),
            Self::Limited { wait_s: None } => doubled(limits::GITHUB_LIMITED_S),
            Self::Refused { .. } | Self::Unreachable(_) | Self::Malformed(_) => doubled(limits::GITHUB_RETRY_S),
        };
        wait_s.min(limits::GITHUB_WAIT_S_MAX) * 1_000
    }
}

pub(super) struct Api {
    agent: Agent,
    config: GithubConfig,
}

impl Api {
    pub fn new(config: GithubConfig) -> Self {
        let settings = Agent::config_builder()
            .timeout_global(Some(Duration::from_millis(limits::GITHUB_CALL_MS)))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("magpie/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: settings.into(), config }
    }

    pub fn may_write(&self) -> bool {
        self.config.token.is_some()
    }

    /// Who is not known to GitHub may ask sixty times an hour, from one address.
    pub fn every_ms(&self) -> u64 {
        if self.may_write() { limits::GITHUB_EVERY_MS } else { limits::GITHUB_ANONYMOUS_EVERY_MS }
    }

    /// All comments, page by page, at most [`limits::GITHUB_PAGES_MAX`] of a hundred.
    pub fn comments(&self) -> Result<Vec<Comment>, ApiError> {
        let mut comments = Vec::new();
        for page in 1..=limits::GITHUB_PAGES_MAX {
            let url = self.url(&format!("issues/{}/comments?per_page=100&page={page}", self.config.issue));
            let request = self.agent.get(url);
            let listed: Vec<Comment> = serde_json::from_slice(&answer(self.with_head(request).call()?)?)?;
            let is_last = listed.len() < 100;
            comments.extend(listed);
            if is_last {
                return Ok(comments);
            }
        }
        tracing::warn!(
            issue = self.config.issue,
            comments = comments.len(),
            "the registry's issue has more comments than are read"
        );
        Ok(comments)
    }

    /// The id of the comment that was written.
    pub fn write(&self, body: &str) -> Result<u64, ApiError> {
        let request = self.agent.post(self.url(&format!("issues/{}/comments", self.config.issue)));
        let written = answer(self.with_head(request).send(&text(body)?)?)?;
        Ok(serde_json::from_slice::<Comment>(&written)?.id)
    }

    pub fn edit(&self, id: u64, body: &str) -> Result<(), ApiError> {
        let request = self.agent.patch(self.url(&format!("issues/comments/{id}")));
        answer(self.with_head(request).send(&text(body)?)?).map(drop)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/repos/{}/{path}", self.config.api.trim_end_matches('/'), self.config.repository)
    }

    fn with_head<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        let request =
            request.header("Accept", "application/vnd.github+json").header("X-GitHub-Api-Version", "2022-11-28");
        match &self.config.token {
            Some(token) => request.header("Authorization", format!("Bearer {}", token.0)),
            None => request,
        }
    }
}

fn text(body: &str) -> Result<Vec<u8>, ApiError> {
    Ok(serde_json::to_vec(&serde_json::json!({ "body": body }))?)
}

/// The body of an answer that says yes.
fn answer(mut response: Response<Body>) -> Result<Vec<u8>, ApiError> {
    let status = response.status().as_u16();
    let head = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let (retry_after_s, left, reset_s): (Option<u64>, Option<u64>, Option<u64>) =
        (head("retry-after"), head("x-ratelimit-remaining"), head("x-ratelimit-reset"));
    let is_limited = retry_after_s.is_some() || left == Some(0);
    match status {
        200..=299 => Ok(response.body_mut().with_config().limit(limits::GITHUB_ANSWER_BYTES_MAX).read_to_vec()?),
        429 => Err(ApiError::Limited { wait_s: wait_s(retry_after_s, reset_s, super::unix_s()) }),
        403 if is_limited => Err(ApiError::Limited { wait_s: wait_s(retry_after_s, reset_s, super::unix_s()) }),
        401 => Err(ApiError::Refused { status, remedy: "the token is not valid" }),
        403 => Err(ApiError::Refused { status, remedy: "the token may not write comments of this repository" }),
        404 | 410 => {
            Err(ApiError::Refused { status, remedy: "no such repository or issue, or the token may not see it" })
        }
        _ => Err(ApiError::Refused { status, remedy: "tried again" }),
    }
}

/// How long GitHub asks to be left alone.
fn wait_s(retry_after_s: Option<u64>, reset_s: Option<u64>, now_s: u64) -> Option<u64> {
    retry_after_s.or_else(|| reset_s.map(|reset_s| reset_s.saturating_sub(now_s) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> GithubConfig {
        GithubConfig {
            repository: "owner/name".into(),
            issue: 7,
            token: Some(Token("ghp_secret".into())),
            api: "https://api.github.com".into(),
        }
    }

    #[test]
    fn a_registry_that_cannot_be_used_is_refused_in_words() {
        assert_eq!(config().check(), Ok(()));
        for repository in ["", "owner", "owner/", "/name", "a/b/c", "owner/../x", "owner/..", "o wner/name"] {
            let words = GithubConfig { repository: repository.into(), ..config() }.check().unwrap_err().to_string();
            assert!(words.contains("is not a repository"), "{words}");
        }
        for api in ["", "api.github.com", "http://api.github.com", "ftp://127.0.0.1", "https://", "https://a/?b=c"] {
            let words = GithubConfig { api: api.into(), ..config() }.check().unwrap_err().to_string();
            assert!(words.contains("is not the address of an API"), "{api}: {words}");
        }
        for api in ["http://127.0.0.1:80", "http://[::1]:80/api/v3", "http://localhost:1", "https://git.example/api/v3"]
        {
            assert_eq!(GithubConfig { api: api.into(), ..config() }.check(), Ok(()), "{api}");
        }
        let token = |text: &str| GithubConfig { token: Some(Token(text.into())), ..config() }.check();
        assert_eq!((token(""), token("a\r\nX: y")), (Err(GithubConfigError::Token), Err(GithubConfigError::Token)));
        assert_eq!(GithubConfig { issue: 0, ..config() }.check(), Err(GithubConfigError::Issue));
    }

    #[test]
    fn debug_prints_no_token() {
        assert!(!format!("{:?}", config()).contains("ghp_secret"));
    }

    #[test]
    fn a_limit_is_waited_for_as_long_as_it_says() {
        assert_eq!(wait_s(Some(5), Some(2_000), 1_000), Some(5));
        assert_eq!(wait_s(None, Some(1_060), 1_000), Some(61));
        assert_eq!(wait_s(None, Some(900), 1_000), Some(1));
        assert_eq!(wait_s(None, None, 1_000), None);
        let limited = |wait_s, failures| ApiError::Limited { wait_s }.wait_ms(failures);
        assert_eq!((limited(Some(0), 1), limited(Some(90), 9)), (1_000, 90_000));
        assert_eq!((limited(None, 1), limited(None, 2)), (60_000, 120_000));
        assert_eq!(limited(Some(u64::MAX), 1), limits::GITHUB_WAIT_S_MAX * 1_000);
    }
}
