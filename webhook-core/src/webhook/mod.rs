//! Webhooks: the workflow that a token starts, and the rules for it.

mod channel;
mod settings;
mod settings_form;

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::clock::milliseconds;
use crate::id::{WebhookId, WorkflowKey};
use crate::secret::{SealedSecrets, Secret};
use crate::token::{Sealed, Token, TokenDigest, TokenKeys, UnsealError};

pub use crate::setting::{InvalidSettings, SettingCode, SettingProblem};
pub use channel::Channel;
pub use settings::{
    Concurrency, Email, EventKind, Notifications, OnOverlap, RateLimit, Recipients, Slack, WebhookSettings,
};

/// A webhook, as stores keep it. It holds the token's digest and its sealed form, never the token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Webhook {
    /// Id of the webhook, which never changes.
    pub id: WebhookId,
    /// Workflow that it starts, which never changes.
    pub workflow: WorkflowKey,
    /// Settings that people may change.
    pub settings: WebhookSettings,
    /// Digest by which a presented token finds this webhook.
    pub token_digest: TokenDigest,
    /// Sealed token for "copy URL", if the host gave a key.
    pub sealed_token: Option<Sealed>,
    /// Sealed secrets with which the sender signs its calls.
    #[serde(default, skip_serializing_if = "SealedSecrets::is_empty")]
    pub secrets: SealedSecrets,
    /// Sealed verify token, which the sender presents in a handshake that it does not sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_token: Option<Sealed>,
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
            secrets: SealedSecrets::default(),
            verify_token: None,
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

    /// Returns the next revision, with other secrets of its sender.
    #[must_use]
    pub fn with_secrets(&self, secrets: SealedSecrets, now: SystemTime) -> Self {
        Self { secrets, updated_at: now, revision: self.revision + 1, ..self.clone() }
    }

    /// Sets the verify token, or removes it. The revision stays.
    #[must_use]
    pub fn with_verify_token(self, token: Option<&Secret>, keys: &TokenKeys) -> Self {
        let seal = |token: &Secret| keys.seal(token.expose().as_bytes(), &verify_token_place(self.id));
        Self { verify_token: token.map(seal), ..self }
    }

    /// Opens the verify token. `None` if there is none.
    ///
    /// # Errors
    /// [`UnsealError`] when none of `keys` sealed it, or when it is damaged.
    pub fn open_verify_token(&self, keys: &TokenKeys) -> Result<Option<Secret>, UnsealError> {
        let Some(sealed) = &self.verify_token else { return Ok(None) };
        let plaintext = keys.open(sealed, &verify_token_place(self.id))?;
        let text = std::str::from_utf8(&plaintext).map_err(|_| UnsealError::Damaged)?;
        Secret::new(text).map(Some).map_err(|_| UnsealError::Damaged)
    }

    /// Returns the next revision, with the sender's secrets sealed by the sealing key. `None` when they are already.
    ///
    /// # Errors
    /// [`UnsealError`] when one of them cannot be opened.
    pub fn resealed(&self, keys: &TokenKeys, now: SystemTime) -> Result<Option<Self>, UnsealError> {
        let secrets = self.secrets.resealed(self.id, keys)?;
        let place = verify_token_place(self.id);
        let verify_token =
            self.verify_token.as_ref().map(|sealed| keys.reseal(sealed, &place)).transpose()?.flatten();
        if secrets.is_none() && verify_token.is_none() {
            return Ok(None);
        }
        let mut resealed = self.with_secrets(secrets.unwrap_or_else(|| self.secrets.clone()), now);
        resealed.verify_token = verify_token.or(resealed.verify_token);
        Ok(Some(resealed))
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

/// Returns the place that a verify token is sealed for, which is that of no token and of no secret.
fn verify_token_place(id: WebhookId) -> [u8; 28] {
    let mut place = *b"                verify token";
    place[..16].copy_from_slice(id.as_bytes());
    place
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

    #[test]
    fn secrets_of_the_sender_survive_other_changes_and_are_sealed_again_by_a_new_key() {
        let (old, new) = (TokenKey::generate(), TokenKey::generate());
        let keys = TokenKeys::new(old.clone());
        let (now, token) = (SystemTime::UNIX_EPOCH, Token::generate());
        let workflow = "report/a".parse().unwrap();
        let id = WebhookId::generate(now);
        let webhook = Webhook::new(id, workflow, WebhookSettings::default(), &token, Some(&keys), now);
        let former = serde_json::to_value(&webhook).unwrap();
        assert!(former.get("secrets").is_none() && former.get("verify_token").is_none());
        assert_eq!(serde_json::from_value::<Webhook>(former).unwrap(), webhook);
        let (secret, verify) =
            (Secret::new("secret-for-tests").unwrap(), Secret::new("my-verify-token").unwrap());
        let mut secrets = SealedSecrets::default();
        secrets.add(&secret, id, &keys, now).unwrap();
        let webhook = webhook.with_secrets(secrets, now).with_verify_token(Some(&verify), &keys);
        let webhook =
            webhook.with_settings(WebhookSettings::default(), now).with_token(&token, Some(&keys), now);
        assert_eq!((webhook.resealed(&keys, now), webhook.revision), (Ok(None), 4));
        let both = TokenKeys::new(new.clone()).with_opening_key(old);
        let resealed = webhook.resealed(&both, now).unwrap().unwrap();
        assert_eq!(resealed.revision, 5);
        let keys = TokenKeys::new(new);
        assert_eq!(resealed.secrets.open(id, &keys).unwrap()[0].expose(), secret.expose());
        assert_eq!(resealed.open_verify_token(&keys).unwrap().unwrap().expose(), verify.expose());
        let stored = serde_json::to_value(&resealed).unwrap();
        assert!(
            !stored.to_string().contains("my-verify-token")
                && !format!("{resealed:?}").contains("verify-token")
        );
        assert_eq!(serde_json::from_value::<Webhook>(stored).unwrap(), resealed);
    }
}
