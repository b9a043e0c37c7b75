//! In whose name a request comes.

use std::path::Path;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap};

use super::jwt::{Doubt, Jwt, JwtRules};
use super::refused::Refused;
use super::tokens::{self, Tokens, TokensError};
use crate::mcp::principal::Principal;

pub enum Who {
    /// Whoever reaches this server.
    Anyone(Arc<Principal>),
    Holders {
        tokens: Option<Tokens>,
        jwt: Option<Box<Jwt>>,
    },
}

impl Who {
    /// # Errors
    /// If the file of the tokens cannot be used, or what is said of an issuer cannot be right.
    pub fn new(tokens: Option<&Path>, jwt: Option<JwtRules>) -> Result<Self, TokensError> {
        if tokens.is_none() && jwt.is_none() {
            return Ok(Self::Anyone(Arc::new(super::local())));
        }
        let tokens = tokens.map(|file| Tokens::open(file.to_owned())).transpose()?;
        let jwt = jwt.map(|rules| Jwt::new(rules).map(Box::new).map_err(TokensError::Jwt)).transpose()?;
        Ok(Self::Holders { tokens, jwt })
    }

    pub fn asks_for_tokens(&self) -> bool {
        matches!(self, Self::Holders { .. })
    }

    /// Whose signed tokens are believed, if anybody's are.
    pub fn issuer(&self) -> Option<&Jwt> {
        match self {
            Self::Anyone(_) => None,
            Self::Holders { jwt, .. } => jwt.as_deref(),
        }
    }

    /// Whether there is a file of tokens, which may say that calls wait.
    pub fn keeps_tokens(&self) -> bool {
        matches!(self, Self::Holders { tokens: Some(_), .. })
    }

    /// The holder of a token of the file, by name: of an issuer's nothing is kept.
    pub fn named(&self, name: &str) -> Option<Arc<Principal>> {
        match self {
            Self::Anyone(_) => None,
            Self::Holders { tokens, .. } => tokens.as_ref()?.named(name),
        }
    }

    /// # Errors
    /// 401 without a token that is good; 503 while it cannot be known.
    pub async fn comes(&self, headers: &HeaderMap, host: &str) -> Result<Arc<Principal>, Refused> {
        let (tokens, jwt) = match self {
            Self::Anyone(principal) => return Ok(principal.clone()),
            Self::Holders { tokens, jwt } => (tokens, jwt),
        };
        let token = bearer(headers).ok_or_else(|| Refused::unknown_token(host, None))?;
        let known = tokens.as_ref().and_then(|tokens| tokens.holder(token));
        if let Some(principal) = known {
            return Ok(principal);
        }
        match jwt {
            Some(jwt) if !token.starts_with(tokens::PREFIX) => jwt.holder(token).await.map_err(|doubt| match doubt {
                Doubt::Refused(why) => Refused::unknown_token(host, Some(&format!("the token: {why}"))),
                Doubt::NoKeys(problem) => Refused::no_keys(&problem),
            }),
            Some(_) | None => Err(Refused::unknown_token(host, Some("the token is not known, or its time is over"))),
        }
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
