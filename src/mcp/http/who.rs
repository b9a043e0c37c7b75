//! In whose name a request comes.

use std::path::Path;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap};

use super::refused::Refused;
use super::tokens::{Tokens, TokensError};
use crate::mcp::principal::Principal;

pub enum Who {
    /// Whoever reaches this server.
    Anyone(Arc<Principal>),
    Holders(Tokens),
}

impl Who {
    /// # Errors
    /// If the file of the tokens cannot be used.
    pub fn new(tokens: Option<&Path>) -> Result<Self, TokensError> {
        match tokens {
            Some(file) => Tokens::open(file.to_owned()).map(Self::Holders),
            None => Ok(Self::Anyone(Arc::new(super::local()))),
        }
    }

    pub fn asks_for_tokens(&self) -> bool {
        matches!(self, Self::Holders(_))
    }

    /// # Errors
    /// 401 without a token that is good.
    pub fn comes(&self, headers: &HeaderMap, host: &str) -> Result<Arc<Principal>, Refused> {
        let tokens = match self {
            Self::Anyone(principal) => return Ok(principal.clone()),
            Self::Holders(tokens) => tokens,
        };
        let token = bearer(headers).ok_or_else(|| Refused::unknown_token(host, None))?;
        tokens
            .holder(token)
            .ok_or_else(|| Refused::unknown_token(host, Some("the token is not known, or its time is over")))
    }
}

/// The one token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (scheme, token) = values.next()?.to_str().ok()?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && values.next().is_none()).then_some(token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bearer_token_is_read_and_nothing_else() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|value| _ = headers.append(AUTHORIZATION, http::HeaderValue::from_static(value)));
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(read(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(read(&["bearer  abc"]).as_deref(), Some("abc"));
        for values in [&[][..], &["abc"], &["Basic abc"], &["Bearer a", "Bearer b"]] {
            assert_eq!(read(values), None, "{values:?}");
        }
    }
}
