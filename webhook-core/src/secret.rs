//! Secrets with which senders sign their calls: sealed at rest, and never read back.

use std::fmt;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::clock::milliseconds;
use crate::id::{SecretId, WebhookId};
use crate::token::{Sealed, TokenKeys, UnsealError, fill_random, hexadecimal};

/// Upper bound on the secrets of one webhook: the present one, and the next or the former one while it is replaced.
pub const LIVE_SECRETS: usize = 2;

/// Fewest and most bytes of a secret.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 8..=512;
/// Fewest characters of a secret whose last four may be shown.
const HINTED_CHARACTERS: usize = 16;

/// A secret that a sender shares with one webhook, as text. Its memory is wiped on drop, and `Debug` hides it.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

/// The form of a generated secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretForm {
    /// 64 hexadecimal digits, which are the key as they are.
    Hex,
    /// `whsec_` and base64, as Standard Webhooks demand.
    StandardWebhooks,
    /// A user's name and a password of 64 hexadecimal digits, with a colon between them.
    UserAndPassword,
}

impl Secret {
    /// Makes a secret from 32 bytes of the operating system's generator.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    #[must_use]
    pub fn generate(form: SecretForm) -> Self {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        fill_random(&mut *bytes);
        Self(Zeroizing::new(match form {
            SecretForm::Hex => hexadecimal(&*bytes),
            SecretForm::StandardWebhooks => format!("whsec_{}", STANDARD.encode(*bytes)),
            SecretForm::UserAndPassword => format!("webhook:{}", hexadecimal(&*bytes)),
        }))
    }

    /// Takes a secret that a person gives.
    ///
    /// # Errors
    /// [`InvalidSecret`], which repeats nothing of it.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidSecret> {
        let text = Zeroizing::new(text.into());
        if text.trim().len() != text.len() {
            Err(InvalidSecret::SurroundingBlanks)
        } else if text.chars().any(char::is_control) {
            Err(InvalidSecret::ControlCharacter)
        } else if SECRET_BYTES.contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(InvalidSecret::Length { least: *SECRET_BYTES.start(), most: *SECRET_BYTES.end() })
        }
    }

    /// A secret of any form, such as an empty one.
    #[cfg(test)]
    pub(crate) fn unchecked(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// Returns the secret's text, to be shown once or compared with.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the last four characters, by which people tell secrets apart, and nothing of a short secret.
    #[must_use]
    pub fn hint(&self) -> String {
        let characters = self.0.chars().count();
        if characters < HINTED_CHARACTERS {
            return String::new();
        }
        self.0.chars().skip(characters - 4).collect()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(***)")
    }
}

/// The reason why a text cannot be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSecret {
    /// It begins or ends with white space, most likely a line end that was pasted along.
    #[error("the secret begins or ends with white space, which is no part of it")]
    SurroundingBlanks,
    /// It has a control character.
    #[error("the secret has a control character")]
    ControlCharacter,
    /// It is too short or too long.
    #[error("a secret of {least} to {most} bytes is expected")]
    #[non_exhaustive]
    Length {
        /// Fewest bytes of a secret.
        least: usize,
        /// Most bytes of a secret.
        most: usize,
    },
    /// It does not have the form of a key that the webhook's verification needs.
    #[error("{expected} is expected")]
    #[non_exhaustive]
    Form {
        /// The form that is needed.
        expected: &'static str,
    },
    /// The webhook has as many live secrets as it may have.
    #[error("a webhook has at most {LIVE_SECRETS} secrets; delete one first")]
    TooMany,
}

/// A secret as stores keep it: sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SealedSecret {
    /// Id of the secret.
    pub id: SecretId,
    /// The secret; it opens for its own webhook and id only.
    pub sealed: Sealed,
    /// The end of the secret, or nothing.
    pub hint: String,
    /// When it was stored.
    #[serde(with = "milliseconds")]
    pub created_at: SystemTime,
}

/// The live secrets of one webhook, oldest first: at most [`LIVE_SECRETS`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealedSecrets(Vec<SealedSecret>);

impl SealedSecrets {
    /// Seals one more secret, for `webhook` alone.
    ///
    /// # Errors
    /// [`InvalidSecret::TooMany`].
    pub fn add(
        &mut self,
        secret: &Secret,
        webhook: WebhookId,
        keys: &TokenKeys,
        now: SystemTime,
    ) -> Result<&SealedSecret, InvalidSecret> {
        if self.0.len() >= LIVE_SECRETS {
            return Err(InvalidSecret::TooMany);
        }
        let id = SecretId::generate(now);
        let sealed = keys.seal(secret.0.as_bytes(), &place(webhook, id));
        self.0.push(SealedSecret { id, sealed, hint: secret.hint(), created_at: now });
        Ok(&self.0[self.0.len() - 1])
    }

    /// Removes a secret. Returns whether it was there.
    pub fn remove(&mut self, id: SecretId) -> bool {
        let before = self.0.len();
        self.0.retain(|secret| secret.id != id);
        self.0.len() < before
    }

    /// Opens every secret.
    ///
    /// # Errors
    /// [`UnsealError`] when one of them cannot be opened.
    pub fn open(&self, webhook: WebhookId, keys: &TokenKeys) -> Result<Vec<Secret>, UnsealError> {
        let open = |secret: &SealedSecret| {
            let plaintext = keys.open(&secret.sealed, &place(webhook, secret.id))?;
            let text = std::str::from_utf8(&plaintext).map_err(|_| UnsealError::Damaged)?;
            Ok(Secret(Zeroizing::new(text.to_owned())))
        };
        self.0.iter().map(open).collect()
    }

    /// Seals the secrets with the sealing key. `None` when all of them are sealed with it already.
    ///
    /// # Errors
    /// [`UnsealError`] when one of them cannot be opened.
    pub fn resealed(&self, webhook: WebhookId, keys: &TokenKeys) -> Result<Option<Self>, UnsealError> {
        let mut resealed = self.clone();
        let mut changed = false;
        for secret in &mut resealed.0 {
            if let Some(sealed) = keys.reseal(&secret.sealed, &place(webhook, secret.id))? {
                secret.sealed = sealed;
                changed = true;
            }
        }
        Ok(changed.then_some(resealed))
    }

    /// Returns every secret, oldest first.
    pub fn iter(&self) -> std::slice::Iter<'_, SealedSecret> {
        self.0.iter()
    }

    /// Returns whether there is no secret.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a SealedSecrets {
    type Item = &'a SealedSecret;
    type IntoIter = std::slice::Iter<'a, SealedSecret>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Returns the place that a secret is sealed for.
fn place(webhook: WebhookId, secret: SecretId) -> [u8; 32] {
    let mut place = [0; 32];
    place[..16].copy_from_slice(webhook.as_bytes());
    place[16..].copy_from_slice(secret.as_bytes());
    place
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenKey;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn a_generated_secret_has_32_bytes_in_the_form_asked_for() {
        let hex = Secret::generate(SecretForm::Hex);
        assert_eq!(hex.expose().len(), 64);
        assert!(hex.expose().bytes().all(|byte| byte.is_ascii_hexdigit()));
        let standard = Secret::generate(SecretForm::StandardWebhooks);
        let encoded = standard.expose().strip_prefix("whsec_").unwrap();
        assert_eq!(STANDARD.decode(encoded).unwrap().len(), 32);
        assert_eq!(Secret::generate(SecretForm::UserAndPassword).expose().len(), 72);
        assert_ne!(hex.expose(), Secret::generate(SecretForm::Hex).expose());
    }

    #[test]
    fn an_empty_short_long_or_badly_pasted_secret_is_refused_and_not_repeated() {
        for bad in
            ["", "canary", " canary-canary", "canary-canary\n", "canary\u{0}canary", &"canary".repeat(100)]
        {
            let error = Secret::new(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
        assert!(Secret::new("It's a Secret to Everybody").is_ok());
    }

    #[test]
    fn debug_and_hint_show_no_secret_and_a_short_one_has_no_hint() {
        let secret = Secret::new("canary-canary-12345").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(***)");
        assert_eq!(secret.hint(), "2345");
        assert_eq!(Secret::new("canary-12345").unwrap().hint(), "");
        let mut secrets = SealedSecrets::default();
        let keys = TokenKeys::new(TokenKey::generate());
        secrets.add(&secret, WebhookId::generate(NOW), &keys, NOW).unwrap();
        assert!(!format!("{secrets:?}").contains("canary"));
        assert!(!serde_json::to_string(&secrets).unwrap().contains("canary"));
    }

    #[test]
    fn at_most_two_secrets_live_and_a_removed_one_makes_room() {
        let keys = TokenKeys::new(TokenKey::generate());
        let webhook = WebhookId::generate(NOW);
        let mut secrets = SealedSecrets::default();
        let texts = ["secret-one", "secret-two", "secret-three"].map(|text| Secret::new(text).unwrap());
        let first = secrets.add(&texts[0], webhook, &keys, NOW).unwrap().id;
        secrets.add(&texts[1], webhook, &keys, NOW).unwrap();
        assert_eq!(secrets.add(&texts[2], webhook, &keys, NOW), Err(InvalidSecret::TooMany));
        assert!(secrets.remove(first) && !secrets.remove(first));
        secrets.add(&texts[2], webhook, &keys, NOW).unwrap();
        let stored = serde_json::to_value(&secrets).unwrap();
        let read: SealedSecrets = serde_json::from_value(stored).unwrap();
        let opened = read.open(webhook, &keys).unwrap();
        assert_eq!(opened.iter().map(Secret::expose).collect::<Vec<_>>(), ["secret-two", "secret-three"]);
    }

    #[test]
    fn a_secret_opens_for_its_own_webhook_and_id_only() {
        let keys = TokenKeys::new(TokenKey::generate());
        let webhook = WebhookId::generate(NOW);
        let mut secrets = SealedSecrets::default();
        secrets.add(&Secret::generate(SecretForm::Hex), webhook, &keys, NOW).unwrap();
        assert_eq!(secrets.open(WebhookId::generate(NOW), &keys).unwrap_err(), UnsealError::Damaged);
        secrets.0[0].id = SecretId::generate(NOW);
        assert_eq!(secrets.open(webhook, &keys).unwrap_err(), UnsealError::Damaged);
    }

    #[test]
    fn secrets_are_sealed_again_when_the_key_was_replaced() {
        let (old, new) = (TokenKey::generate(), TokenKey::generate());
        let webhook = WebhookId::generate(NOW);
        let mut secrets = SealedSecrets::default();
        let secret = Secret::generate(SecretForm::Hex);
        secrets.add(&secret, webhook, &TokenKeys::new(old.clone()), NOW).unwrap();
        let both = TokenKeys::new(new.clone()).with_opening_key(old);
        let resealed = secrets.resealed(webhook, &both).unwrap().unwrap();
        assert_eq!(resealed.resealed(webhook, &both).unwrap(), None);
        let opened = resealed.open(webhook, &TokenKeys::new(new)).unwrap();
        assert_eq!(opened[0].expose(), secret.expose());
    }
}
