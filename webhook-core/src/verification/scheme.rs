//! The setting by which the calls of one webhook are verified.

use serde::{Deserialize, Serialize};

use super::key::{key_bytes, public_key};
use super::preset::Preset;
use super::rule::{
    Algorithm, Check, Encoding, HmacAlgorithm, KeyForm, SignatureRule, Signed, Timestamp, TimestampPlace,
};
use crate::secret::{InvalidSecret, Secret, SecretForm};

/// Tolerance of a signed time in seconds, where nothing else is set.
const DEFAULT_TOLERANCE_S: u32 = 300;
/// Longest tolerance: a day, after which a sender's last attempt has long been made.
pub(super) const LONGEST_TOLERANCE_S: u32 = 86_400;
/// Fewest bytes of a key of Standard Webhooks. The specification asks senders for 24.
const STANDARD_KEY_BYTES: usize = 16;

/// Rule by which the calls of a webhook are verified, in its wire form: `{"preset": …}` or `{"scheme": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
#[non_exhaustive]
pub enum Verification {
    /// As a known sender signs them.
    #[non_exhaustive]
    Preset {
        /// Preset of the sender.
        preset: Preset,
    },
    /// By rules that the webhook's owner describes.
    Scheme(Scheme),
}

/// The rules of a sender without a preset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "scheme", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Scheme {
    /// Signed with the secret as it is (RFC 2104).
    #[non_exhaustive]
    Hmac {
        /// The hash function.
        algorithm: HmacAlgorithm,
        /// Place of the signature, and the text that is signed.
        #[serde(flatten)]
        signature: SignatureScheme,
    },
    /// Signed with a private key of the sender, of which the secret is the public one (RFC 8032).
    #[non_exhaustive]
    Ed25519 {
        /// Place of the signature, and the text that is signed.
        #[serde(flatten)]
        signature: SignatureScheme,
    },
    /// A header holds the secret itself.
    #[non_exhaustive]
    SharedSecret {
        /// Name of the header.
        header: String,
    },
    /// The secret is user name and password, with a colon between them (RFC 7617).
    Basic,
}

/// Place of a signature, and the text that is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct SignatureScheme {
    /// The header with one signature, or several with commas or blanks between them.
    pub header: String,
    /// The text form of the signature.
    pub encoding: Encoding,
    /// Text before each signature, such as `sha256=`.
    #[serde(default)]
    pub prefix: Option<String>,
    /// The signed text, with `{timestamp}`, `{id}`, `{body}` and `{url}` for parts of the call.
    #[serde(default = "body_alone")]
    pub signed: String,
    /// The header with the signed time, in seconds since 1970.
    #[serde(default)]
    pub timestamp_header: Option<String>,
    /// The header with the signed id of the event.
    #[serde(default)]
    pub id_header: Option<String>,
    /// Seconds that the signed time may be from now, in either direction.
    #[serde(default = "default_tolerance_s")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LONGEST_TOLERANCE_S)))]
    pub tolerance_s: u32,
}

/// The signed text of a scheme that does not say.
pub(super) fn body_alone() -> String {
    "{body}".to_owned()
}

/// The tolerance of a scheme that does not say, in seconds.
pub(super) fn default_tolerance_s() -> u32 {
    DEFAULT_TOLERANCE_S
}

impl From<Preset> for Verification {
    fn from(preset: Preset) -> Self {
        Self::Preset { preset }
    }
}

impl Verification {
    /// Returns the preset, if it is one.
    #[must_use]
    pub fn preset(&self) -> Option<Preset> {
        match self {
            Self::Preset { preset } => Some(*preset),
            Self::Scheme(_) => None,
        }
    }

    /// Returns whether calls are refused until there is a secret.
    #[must_use]
    pub fn needs_secret(&self) -> bool {
        !self.checks().contains(&Check::TokenAlone)
    }

    /// Returns the header that holds the secret itself, if there is one.
    #[must_use]
    pub fn secret_header(&self) -> Option<&str> {
        self.checks().into_iter().find_map(|check| match check {
            Check::SecretHeader(name) => Some(name),
            Check::Basic => Some("Authorization"),
            _ => None,
        })
    }

    /// Returns whether the body of a call holds the secret itself.
    pub(crate) fn has_secret_in_body(&self) -> bool {
        self.checks().contains(&Check::ClientState)
    }

    /// Returns the form of a secret that can be generated. `None` when only the sender can make one, as a pair of keys.
    #[must_use]
    pub fn secret_form(&self) -> Option<SecretForm> {
        match self {
            Self::Preset { preset: Preset::StandardWebhooks } => Some(SecretForm::StandardWebhooks),
            Self::Scheme(Scheme::Ed25519 { .. }) => None,
            Self::Scheme(Scheme::Basic) => Some(SecretForm::UserAndPassword),
            _ => Some(SecretForm::Hex),
        }
    }

    /// Checks that a secret has the form that is needed, so that a wrong one shows when it is stored and not with the
    /// first call.
    ///
    /// # Errors
    /// [`InvalidSecret::Form`], which repeats nothing of the secret.
    pub fn check_secret(&self, secret: &Secret) -> Result<(), InvalidSecret> {
        let checks = self.checks();
        match checks.iter().find_map(|check| unusable(check, secret.expose())) {
            Some(expected) if checks.iter().all(|check| unusable(check, secret.expose()).is_some()) => {
                Err(InvalidSecret::Form { expected })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn checks(&self) -> Vec<Check<'_>> {
        match self {
            Self::Preset { preset } => preset.row().checks.to_vec(),
            Self::Scheme(Scheme::Hmac { algorithm, signature }) => {
                vec![Check::Signature(signature.rule(Algorithm::Hmac(*algorithm), KeyForm::Text))]
            }
            Self::Scheme(Scheme::Ed25519 { signature }) => {
                vec![Check::Signature(signature.rule(Algorithm::Ed25519, KeyForm::Public))]
            }
            Self::Scheme(Scheme::SharedSecret { header }) => vec![Check::SecretHeader(header)],
            Self::Scheme(Scheme::Basic) => vec![Check::Basic],
        }
    }
}

impl SignatureScheme {
    fn rule(&self, algorithm: Algorithm, key: KeyForm) -> SignatureRule<'_> {
        let timestamp =
            |header| Timestamp { place: TimestampPlace::Header(header), tolerance_s: self.tolerance_s };
        SignatureRule {
            algorithm,
            key,
            header: &self.header,
            prefix: self.prefix.as_deref().unwrap_or_default(),
            encoding: self.encoding,
            signed: Signed::Template(&self.signed),
            id_header: self.id_header.as_deref(),
            timestamp: self.timestamp_header.as_deref().map(timestamp),
        }
    }
}

/// Returns the form of secret that a check needs, if this secret is of no use to it.
fn unusable(check: &Check<'_>, secret: &str) -> Option<&'static str> {
    let (fits, expected) = match check {
        Check::Signature(SignatureRule { key, .. }) => {
            let bytes = key_bytes(*key, secret);
            match key {
                KeyForm::Text => (bytes.is_some(), "a secret"),
                KeyForm::StandardWebhooks => (
                    bytes.is_some_and(|bytes| bytes.len() >= STANDARD_KEY_BYTES),
                    "whsec_ and base64 of at least 16 bytes, or whpk_ and base64 of a public key,",
                ),
                KeyForm::StandardWebhooksPublic | KeyForm::Public => (
                    bytes.is_some_and(|bytes| public_key(&bytes).is_some()),
                    "the sender's public key of 32 bytes, in hexadecimal digits or base64,",
                ),
            }
        }
        Check::Basic => {
            let parts =
                secret.split_once(':').filter(|(user, password)| !user.is_empty() && !password.is_empty());
            (parts.is_some(), "a user name and a password, with a colon between them,")
        }
        Check::SecretHeader(_) | Check::ClientState | Check::TokenAlone => (true, ""),
    };
    (!fits).then_some(expected)
}
