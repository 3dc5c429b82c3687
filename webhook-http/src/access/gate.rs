//! Access to the management paths by an admin token.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use http::HeaderMap;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use webhook_core::intake::{FailureLimiter, TriggerError};

use crate::contract::problem::{Problem, Realm};
use crate::contract::slug::Slug;
use crate::headers;

/// Lower bound on the characters of an admin token.
const TOKEN_CHARACTERS: usize = 32;
/// Shortest pause between two log lines about wrong admin tokens.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// Access to the management paths.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AdminAccess {
    /// Clients that present this token as `Authorization: Bearer` (RFC 6750).
    Token(AdminToken),
    /// Everybody. The host's own filter in front of these paths checks access.
    ///
    /// Requests must then name a `Host` that is the base URL's or
    /// [allowed](webhook_core::WebhooksBuilder::allow_origin), so a DNS name rebound to this server opens nothing.
    Open,
    /// No client: there are no management paths.
    Disabled,
}

impl AdminAccess {
    /// Creates the access of clients that present this token.
    ///
    /// # Errors
    /// [`InvalidAdminToken`] for a token that is too short or cannot be sent in a header.
    pub fn token(token: &str) -> Result<Self, InvalidAdminToken> {
        AdminToken::new(token).map(Self::Token)
    }

    /// Returns whether these headers give access.
    fn allows(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Token(token) => {
                matches!(headers::bearer(headers), Ok(Some(presented)) if token.matches(&presented))
            }
            Self::Open => true,
            Self::Disabled => false,
        }
    }
}

/// Token of the management paths. Only its digest is kept, and `Debug` shows nothing.
#[derive(Clone)]
pub struct AdminToken([u8; 32]);

impl AdminToken {
    /// Takes the digest (SHA-256, FIPS 180-4) of a token.
    ///
    /// # Errors
    /// [`InvalidAdminToken`] for a token that is too short or cannot be sent in a header.
    pub fn new(token: &str) -> Result<Self, InvalidAdminToken> {
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidAdminToken::NotVisible);
        }
        if token.len() < TOKEN_CHARACTERS {
            return Err(InvalidAdminToken::TooShort { characters: token.len() });
        }
        Ok(Self(Sha256::digest(token.as_bytes()).into()))
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

/// Error: a text cannot be an admin token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAdminToken {
    /// It is so short that it can be guessed.
    #[error("an admin token needs at least {TOKEN_CHARACTERS} characters; this one has {characters}")]
    TooShort {
        /// Length of the text, in characters.
        characters: usize,
    },
    /// The token could not be sent in a header.
    #[error("an admin token must consist of visible ASCII characters without spaces")]
    NotVisible,
}

/// Checks admin tokens: limits wrong ones by address, and logs them with the address at most every ten
/// seconds.
#[derive(Default)]
pub(crate) struct Gate {
    failures: FailureLimiter,
    log: Mutex<LogPause>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Gate")
    }
}

impl Gate {
    /// Admits a request with the right token, whatever others did from its address.
    pub(crate) fn check(
        &self,
        access: &AdminAccess,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<(), Problem> {
        if access.allows(headers) {
            return Ok(());
        }
        let due = self.log.lock().due(Instant::now());
        if let Some(unlogged) = due {
            let address = peer.map(tracing::field::display);
            tracing::warn!(address, unlogged, "a management request came without the right admin token");
        }
        self.failures.fail(peer).map_err(|retry_after| TriggerError::TooManyFailures { retry_after })?;
        Err(Problem::new(Slug::Unauthorized).with_realm(Realm::Management))
    }
}

/// Time of the last log line, and the number of events since.
#[derive(Debug, Default)]
struct LogPause {
    last: Option<Instant>,
    unlogged: u64,
}

impl LogPause {
    /// Returns the number of unlogged events if a line is due.
    fn due(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < LOG_PAUSE) {
            self.unlogged += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "an-admin-token-of-32-characters!";

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::AUTHORIZATION, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_right_token_opens() {
        let access = AdminAccess::token(TOKEN).unwrap();
        assert!(access.allows(&headers(&format!("Bearer {TOKEN}"))));
        assert!(access.allows(&headers(&format!("bearer  {TOKEN}"))));
        let wrong = [
            format!("Bearer {TOKEN}2"),
            "Bearer ".to_owned(),
            format!("Basic {TOKEN}"),
            TOKEN.to_owned(),
            format!("Bearer {TOKEN},{TOKEN}"),
        ];
        for wrong in wrong {
            assert!(!access.allows(&headers(&wrong)), "{wrong}");
        }
        assert!(!access.allows(&HeaderMap::new()));
    }

    #[test]
    fn a_token_that_can_be_guessed_or_not_be_sent_is_refused_without_showing_it() {
        for (token, characters) in [("", 0), (&TOKEN[1..], 31)] {
            assert_eq!(AdminToken::new(token).unwrap_err(), InvalidAdminToken::TooShort { characters });
        }
        for token in [format!("{TOKEN} "), format!("{TOKEN}é"), format!("{TOKEN}\n")] {
            let error = AdminToken::new(&token).unwrap_err();
            assert_eq!(error, InvalidAdminToken::NotVisible);
            assert!(!error.to_string().contains(TOKEN));
        }
    }

    #[test]
    fn debug_hides_the_token() {
        assert_eq!(format!("{:?}", AdminAccess::token(TOKEN).unwrap()), "Token(AdminToken(***))");
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_tokens_are_limited_by_address_and_a_right_one_never_is() {
        let (gate, access) = (Gate::default(), AdminAccess::token(TOKEN).unwrap());
        let peer = Some("192.0.2.7".parse().unwrap());
        let (wrong, right) = (headers("Bearer wrong"), headers(&format!("Bearer {TOKEN}")));
        for _ in 0..60 {
            let refused = gate.check(&access, &wrong, peer).unwrap_err();
            assert_eq!(refused.slug(), Slug::Unauthorized);
        }
        let refused = gate.check(&access, &wrong, peer).unwrap_err();
        assert_eq!(refused.slug(), Slug::RateLimited);
        assert!(refused.into_response().headers().contains_key("retry-after"));
        assert!(gate.check(&access, &right, peer).is_ok());
        let other = gate.check(&access, &wrong, Some("192.0.2.8".parse().unwrap()));
        assert_eq!(other.unwrap_err().slug(), Slug::Unauthorized);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(gate.check(&access, &wrong, peer).unwrap_err().slug(), Slug::Unauthorized);
    }

    #[test]
    fn wrong_tokens_are_logged_at_most_every_ten_seconds_with_how_many_were_passed_over() {
        let (mut pause, start) = (LogPause::default(), Instant::now());
        assert_eq!(pause.due(start), Some(0));
        for _ in 0..1_000 {
            assert_eq!(pause.due(start + Duration::from_secs(9)), None);
        }
        assert_eq!(pause.due(start + Duration::from_secs(10)), Some(1_000));
        assert_eq!(pause.due(start + Duration::from_secs(21)), Some(0));
    }
}
