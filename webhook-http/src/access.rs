//! Who may use the management paths.

use std::fmt;

use http::HeaderMap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::headers;
use crate::problem::{Problem, Slug};

/// How the management paths tell who may use them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AdminAccess {
    /// Who presents this token as `Authorization: Bearer` (RFC 6750).
    Token(AdminToken),
    /// Everybody: the host's own filter in front of these paths has checked already.
    Open,
    /// Nobody: there are no management paths.
    Disabled,
}

impl AdminAccess {
    /// Access for who presents this token. An empty one gives access to nobody.
    #[must_use]
    pub fn token(token: &str) -> Self {
        Self::Token(AdminToken::new(token))
    }

    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let allowed = match self {
            Self::Token(token) => {
                matches!(headers::bearer(headers), Ok(Some(presented)) if token.matches(&presented))
            }
            Self::Open => true,
            Self::Disabled => false,
        };
        if allowed { Ok(()) } else { Err(Problem::new(Slug::Unauthorized).with_realm("management")) }
    }
}

/// The token of the management paths. Only its digest is kept, and `Debug` shows nothing.
#[derive(Clone)]
pub struct AdminToken([u8; 32]);

impl AdminToken {
    /// Takes the digest (SHA-256, FIPS 180-4) of a token.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Compares in constant time.
    fn matches(&self, presented: &str) -> bool {
        let presented: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
        self.0.ct_eq(&presented).into()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AdminToken(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::AUTHORIZATION, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_right_token_opens() {
        let access = AdminAccess::token("secret");
        assert!(access.check(&headers("Bearer secret")).is_ok());
        assert!(access.check(&headers("bearer  secret")).is_ok());
        for wrong in ["Bearer secret2", "Bearer ", "Basic secret", "secret", "Bearer secret,secret"] {
            assert!(access.check(&headers(wrong)).is_err(), "{wrong}");
        }
        assert!(access.check(&HeaderMap::new()).is_err());
    }

    #[test]
    fn an_empty_token_opens_to_nobody() {
        let access = AdminAccess::token("");
        assert!(access.check(&headers("Bearer ")).is_err());
        assert!(access.check(&HeaderMap::new()).is_err());
    }

    #[test]
    fn debug_hides_the_token() {
        assert_eq!(format!("{:?}", AdminAccess::token("canary")), "Token(AdminToken(***))");
    }
}
