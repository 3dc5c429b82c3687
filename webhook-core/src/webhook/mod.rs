//! Webhooks: the workflow that a token starts, and the rules for it.

mod settings;
mod settings_form;

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::clock::milliseconds;
use crate::id::{WebhookId, WorkflowKey};
use crate::token::{Sealed, Token, TokenDigest, TokenKeys, UnsealError};

pub use settings::{
    Channel, Concurrency, Email, EventKind, Notifications, OnOverlap, RateLimit, SettingCode, SettingProblem,
    Slack, WebhookSettings,
};

/// A webhook, as stores keep it. It holds the token's digest and its sealed form, never the token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Webhook {
    /// Id of the webhook, which never changes.
    pub id: WebhookId,
    /// Workflow that it starts.
    pub workflow: WorkflowKey,
    /// Settings that people may change.
    pub settings: WebhookSettings,
    /// Digest by which a presented token finds this webhook.
    pub token_digest: TokenDigest,
    /// Sealed token for "copy URL", if the host gave a key.
    pub sealed_token: Option<Sealed>,
    /// Last four characters of the token.
    pub token_hint: String,
    /// Time at which it was created.
    #[serde(with = "milliseconds")]
    pub created_at: SystemTime,
    /// Time at which its settings or token last changed.
    #[serde(with = "milliseconds")]
    pub updated_at: SystemTime,
    /// Time of the last call with its token. May lag a few seconds.
    #[serde(with = "milliseconds::option")]
    pub last_used_at: Option<SystemTime>,
    /// Revision of the record: 1 at first, one more after each change of settings or token.
    pub revision: u64,
}

impl Webhook {
    /// Creates a webhook for `workflow` with its first `token`.
    #[must_use]
    pub fn new(
        id: WebhookId,
        workflow: WorkflowKey,
        settings: WebhookSettings,
        token: &Token,
        keys: Option<&TokenKeys>,
        now: SystemTime,
    ) -> Self {
        Self {
            id,
            workflow,
            settings,
            token_digest: token.digest(),
            sealed_token: seal(id, token, keys),
            token_hint: token.hint().to_owned(),
            created_at: now,
            updated_at: now,
            last_used_at: None,
            revision: 1,
        }
    }

    /// Returns the next revision, with other settings.
    #[must_use]
    pub fn with_settings(&self, settings: WebhookSettings, now: SystemTime) -> Self {
        Self { settings, updated_at: now, revision: self.revision + 1, ..self.clone() }
    }

    /// Returns the next revision, with another token. The old token no longer finds this webhook.
    #[must_use]
    pub fn with_token(&self, token: &Token, keys: Option<&TokenKeys>, now: SystemTime) -> Self {
        Self {
            token_digest: token.digest(),
            sealed_token: seal(self.id, token, keys),
            token_hint: token.hint().to_owned(),
            updated_at: now,
            revision: self.revision + 1,
            ..self.clone()
        }
    }

    /// Opens the sealed token. `None` if it was never sealed.
    ///
    /// Fails with [`UnsealError`] when none of `keys` sealed it, or when it is damaged.
    pub fn open_token(&self, keys: &TokenKeys) -> Result<Option<Token>, UnsealError> {
        let Some(sealed) = &self.sealed_token else { return Ok(None) };
        let plaintext = keys.open(sealed, self.id.as_bytes())?;
        let text = std::str::from_utf8(&plaintext).map_err(|_| UnsealError::Damaged)?;
        Token::parse(text).map(Some).map_err(|_| UnsealError::Damaged)
    }
}

/// Seals a token with its webhook's id as associated data, so it opens for no other webhook.
fn seal(id: WebhookId, token: &Token, keys: Option<&TokenKeys>) -> Option<Sealed> {
    keys.map(|keys| keys.seal(token.expose().as_bytes(), id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenKey;

    #[test]
    fn a_sealed_token_opens_for_its_own_webhook_only() {
        let keys = TokenKeys::new(TokenKey::generate());
        let now = SystemTime::UNIX_EPOCH;
        let make = |token: &Token| {
            let workflow = "report/a".parse().unwrap();
            Webhook::new(
                WebhookId::generate(now),
                workflow,
                WebhookSettings::default(),
                token,
                Some(&keys),
                now,
            )
        };
        let (token, other) = (Token::generate(), Token::generate());
        let webhook = make(&token);
        assert_eq!(webhook.open_token(&keys).unwrap().unwrap().expose(), token.expose());
        let mut swapped = webhook.clone();
        swapped.sealed_token = make(&other).sealed_token;
        assert_eq!(swapped.open_token(&keys).unwrap_err(), UnsealError::Damaged);
    }

    #[test]
    fn a_refreshed_webhook_has_another_digest_and_a_higher_revision() {
        let token = Token::generate();
        let now = SystemTime::UNIX_EPOCH;
        let webhook = Webhook::new(
            WebhookId::generate(now),
            "report/a".parse().unwrap(),
            WebhookSettings::default(),
            &token,
            None,
            now,
        );
        let refreshed = webhook.with_token(&Token::generate(), None, now);
        assert!(!refreshed.token_digest.matches(&token.digest()));
        assert_eq!(refreshed.revision, 2);
        assert_eq!(refreshed.sealed_token, None);
    }
}
