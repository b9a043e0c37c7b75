//! `[http]`: whether and where a node serves HTTP, and to whom.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::mcp::http::HttpRules;
use crate::mcp::http::gate::Gate;
use crate::mcp::http::jwt::JwtRules;

/// Unless `listen` is set, no HTTP is served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address and port: `127.0.0.1:7480`.
    pub listen: Option<SocketAddr>,
    /// Names, with or without a port, by which it may be called beside loopback's and the address it listens on.
    pub hosts: Vec<String>,
    /// Web pages that may call it beside those of this machine: `https://app.example.com`.
    pub origins: Vec<String>,
    /// A file of bearer tokens, of mode 0600; without one, whoever is on this machine submits and reads.
    pub tokens: Option<PathBuf>,
    /// An issuer whose signed tokens (JWT) are taken, beside those of the file.
    pub jwt: Option<JwtRules>,
}

impl HttpConfig {
    pub(super) fn validate(&self) -> Result<(), String> {
        if let Some(jwt) = &self.jwt {
            jwt.check().map_err(|problem| format!("http.jwt: {problem}"))?;
        }
        if let Some(wrong) = Gate::new(&self.rules()).unread.into_iter().next() {
            return Err(wrong);
        }
        let asks_for_tokens = self.tokens.is_some() || self.jwt.is_some();
        match self.listen {
            Some(listen) if !listen.ip().is_loopback() && !asks_for_tokens => Err(format!(
                "listen is {listen}, which other machines reach: name a file of bearer tokens in http.tokens (`nodectl token \
                 bearer add` makes it), an issuer in [http.jwt], or listen on 127.0.0.1:{}",
                listen.port()
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Who may come in, and how.
    pub fn rules(&self) -> HttpRules {
        HttpRules {
            hosts: self.hosts.clone(),
            origins: self.origins.clone(),
            tokens: self.tokens.clone(),
            jwt: self.jwt.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_are_served_with_tokens_only() {
        let at = |listen: &str, tokens: Option<&str>| {
            let (listen, tokens) = (Some(listen.parse().unwrap()), tokens.map(PathBuf::from));
            HttpConfig { listen, tokens, ..HttpConfig::default() }.validate()
        };
        for loopback in ["127.0.0.1:7480", "127.9.9.9:0", "[::1]:7480"] {
            assert_eq!(at(loopback, None), Ok(()));
        }
        for wide in ["0.0.0.0:7480", "[::]:7480", "192.0.2.1:7480"] {
            assert!(at(wide, None).is_err_and(|words| words.contains("http.tokens")), "{wide}");
            assert_eq!(at(wide, Some("tokens.toml")), Ok(()));
        }
    }
}
