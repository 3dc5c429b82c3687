//! The rules that presets and schemes are made of.

use serde::{Deserialize, Serialize};

/// One way to tell that a call comes from its sender. Of several, one that fits is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check<'a> {
    /// The call is signed.
    Signature(SignatureRule<'a>),
    /// A header holds the secret itself.
    SecretHeader(&'a str),
    /// The `Authorization` header holds the secret as user name and password (RFC 7617).
    Basic,
    /// Every item of `/value` in the body holds the secret as its `clientState`.
    ClientState,
    /// The token in the URL is all there is.
    TokenAlone,
}

impl<'a> Check<'a> {
    /// Returns the header that is looked at first.
    pub(super) fn header(&self) -> &'a str {
        match *self {
            Self::Signature(SignatureRule { header, .. }) | Self::SecretHeader(header) => header,
            Self::Basic => "Authorization",
            Self::ClientState | Self::TokenAlone => "",
        }
    }
}

/// Rule by which a call is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SignatureRule<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) key: KeyForm,
    /// The header with the signatures.
    pub(super) header: &'a str,
    /// Text before each signature in the header. Parts of the header that begin otherwise are passed over.
    pub(super) prefix: &'a str,
    pub(super) encoding: Encoding,
    pub(super) signed: Signed<'a>,
    /// The header with the id of the event, where it is signed.
    pub(super) id_header: Option<&'a str>,
    /// The signed time of the call.
    pub(super) timestamp: Option<Timestamp<'a>>,
}

/// Algorithm that signs a text with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hmac(HmacAlgorithm),
    Ed25519,
}

/// The hash function of an HMAC (RFC 2104).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HmacAlgorithm {
    /// SHA-1, which some senders still use. HMAC does not depend on what is broken in it.
    Sha1,
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-512 (FIPS 180-4).
    Sha512,
}

/// The text form of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Encoding {
    /// Hexadecimal digits in either case.
    Hex,
    /// Base64 (RFC 4648 section 4), with or without padding.
    Base64,
}

/// Form of the key that a secret's text stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyForm {
    /// The bytes of the text, as they are.
    Text,
    /// The bytes that base64 after `whsec_` stands for.
    StandardWebhooks,
    /// A public key: base64 after `whpk_`.
    StandardWebhooksPublic,
    /// A public key in hexadecimal digits or base64.
    Public,
}

/// The text that a sender signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed<'a> {
    /// Literal text with `{timestamp}`, `{id}`, `{body}` and `{url}` in it.
    Template(&'a str),
    /// Twilio's: the URL, and behind it the fields of a form, or in it the hash of the body.
    UrlAndForm,
}

/// The signed time of a call, and how far it may be from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timestamp<'a> {
    pub(super) place: TimestampPlace<'a>,
    pub(super) tolerance_s: u32,
}

/// Where the time of a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimestampPlace<'a> {
    /// In a header of its own: seconds since 1970.
    Header(&'a str),
    /// In the signature's header, after this prefix: seconds since 1970.
    InSignature(&'a str),
    /// In this member of the JSON object that is the body: milliseconds since 1970.
    BodyMilliseconds(&'a str),
}
