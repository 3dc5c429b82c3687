//! Outcome of a verification.

/// A call that comes from its sender.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The id of the event, where the sender signs one.
    pub id: Option<String>,
}

/// The reason why a call is refused as not its sender's. It shows names of headers, and nothing that the call holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The webhook demands a signature, and has no secret to check one with.
    #[error(
        "the webhook has no secret yet, so every call is refused; add the secret that the sender signs with"
    )]
    NoSecret,
    /// No secret of the webhook has the form of a key that is needed.
    #[error("no secret of the webhook has the form that its verification needs")]
    UnusableSecret,
    /// A header that is needed is missing or empty.
    #[error("the header {header} is missing")]
    #[non_exhaustive]
    HeaderMissing {
        /// Name of the header.
        header: String,
    },
    /// A header was sent several times.
    #[error("the header {header} was sent more than once")]
    #[non_exhaustive]
    HeaderRepeated {
        /// Name of the header.
        header: String,
    },
    /// A header, or what is signed in the body, does not have the form that the sender gives it.
    #[error("{place} does not have the form that the sender gives it: {expected} is expected")]
    #[non_exhaustive]
    Malformed {
        /// The header, or the place in the body.
        place: String,
        /// The form that is expected.
        expected: String,
    },
    /// The header holds no signature of the form that is looked for.
    #[error("the header {header} holds no signature of the form {expected}")]
    #[non_exhaustive]
    SignatureMissing {
        /// Name of the header.
        header: String,
        /// The form that is expected.
        expected: String,
    },
    /// The header has more signatures than are looked at.
    #[error("the header {header} has more than {limit} signatures")]
    #[non_exhaustive]
    TooManySignatures {
        /// Name of the header.
        header: String,
        /// The number of signatures that are allowed.
        limit: usize,
    },
    /// The secret that the call holds is none of the webhook's.
    #[error("the secret in the call is none of the webhook's; enter the same secret on both sides")]
    SecretMismatch,
    /// The webhook has no verify token, which the sender presents when it checks the URL.
    #[error("the webhook has no verify token yet; set the text that was entered at the sender")]
    NoVerifyToken,
    /// The verify token of the call is another one.
    #[error("the verify token in the call is not the webhook's; enter the same text on both sides")]
    VerifyTokenMismatch,
    /// No secret fits the signature.
    #[error(
        "the signature does not fit the body and any secret of the webhook; either the secret is another one, or \
         something changed the call on its way"
    )]
    Mismatch,
    /// The call was signed too long ago.
    #[error("the call was signed {age_s} s ago, and at most {tolerance_s} s are allowed")]
    #[non_exhaustive]
    TooOld {
        /// Seconds since it was signed.
        age_s: u64,
        /// Seconds that are allowed.
        tolerance_s: u32,
    },
    /// The call was signed at a time that is still to come.
    #[error(
        "the call bears a time {ahead_s} s ahead of this server's clock, and at most {tolerance_s} s are allowed"
    )]
    #[non_exhaustive]
    InFuture {
        /// Seconds until the signed time.
        ahead_s: u64,
        /// Seconds that are allowed.
        tolerance_s: u32,
    },
}

impl Refusal {
    pub(super) fn header_missing(header: &str) -> Self {
        Self::HeaderMissing { header: header.to_owned() }
    }

    pub(super) fn malformed(place: &str, expected: impl Into<String>) -> Self {
        Self::Malformed { place: place.to_owned(), expected: expected.into() }
    }

    /// Returns how far a check got that looks at `header` first. Of several checks, the sender meant the one that got
    /// farthest.
    pub(super) fn progress(&self, header: &str) -> u8 {
        match self {
            Self::HeaderMissing { header: missing } if missing == header => 0,
            Self::SignatureMissing { .. } => 1,
            Self::UnusableSecret => 2,
            _ => 3,
        }
    }
}
