//! Verification that a call comes from the sender with a webhook's secret.
//!
//! [`verify`] is a pure function over the bytes of a call. A [`Preset`] names a sender whose rules are known, as a row
//! of one table; a [`Scheme`] describes the rules of any other.
//!
//! # Promises
//!
//! - Signatures are checked over the bytes as they were sent, before anything of them is decoded.
//! - Every signature of a header is compared with every live secret, in constant time.
//! - A signed time may be as far ahead of now as behind it.
//! - A header that is looked at and was sent twice is refused: readers disagree about which of them counts.
//! - Without a secret nothing fits, and neither does an empty key.
//! - The token in the URL is demanded as well; verification is never in its place.

mod header;
mod key;
mod outcome;
mod preset;
mod rule;
mod scheme;
mod scheme_form;
mod shared_secret;
mod signature;
mod template;
mod twilio;

#[cfg(test)]
mod tests;

use std::time::SystemTime;

use crate::raw_call::RawCall;
use crate::secret::Secret;

pub use outcome::{Refusal, Verified};
pub use preset::{Handshake, Preset, PresetKey};
pub use rule::{Encoding, HmacAlgorithm};
pub use scheme::{Scheme, SignatureScheme, Verification};
pub(crate) use scheme_form::VerifyTokenChange;
pub(crate) use shared_secret::withhold_client_state;

use rule::Check;

/// Checks that a call comes from the sender that shares one of `secrets`.
///
/// # Errors
/// [`Refusal`] with the reason.
///
/// ```
/// use std::time::SystemTime;
/// use webhook_core::raw_call::RawCall;
/// use webhook_core::secret::Secret;
/// use webhook_core::verification::{Preset, Refusal, Verification, verify};
///
/// // GitHub's published example.
/// let secrets = [Secret::new("It's a Secret to Everybody")?];
/// let signature = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
/// let headers: [(&[u8], &[u8]); 1] = [(b"X-Hub-Signature-256", signature)];
/// let url = "https://example.com/api/v1/report/sales/webhook?token=whk_example";
/// let github = Verification::from(Preset::GitHub);
///
/// let call = RawCall::new("POST", url, &headers, b"Hello, World!");
/// assert!(verify(&github, &call, &secrets, SystemTime::now()).is_ok());
/// let changed = RawCall::new("POST", url, &headers, b"Hello, world!");
/// assert_eq!(verify(&github, &changed, &secrets, SystemTime::now()), Err(Refusal::Mismatch));
/// assert_eq!(verify(&github, &call, &[], SystemTime::now()), Err(Refusal::NoSecret));
/// # Ok::<(), webhook_core::secret::InvalidSecret>(())
/// ```
pub fn verify(
    verification: &Verification,
    call: &RawCall<'_>,
    secrets: &[Secret],
    now: SystemTime,
) -> Result<Verified, Refusal> {
    let (mut refusal, mut progress) = (Refusal::NoSecret, 0);
    for check in verification.checks() {
        match fits(&check, call, secrets, now) {
            Ok(verified) => return Ok(verified),
            Err(found) => {
                let found_progress = found.progress(check.header());
                if refusal == Refusal::NoSecret || found_progress > progress {
                    (refusal, progress) = (found, found_progress);
                }
            }
        }
    }
    Err(refusal)
}

fn fits(
    check: &Check<'_>,
    call: &RawCall<'_>,
    secrets: &[Secret],
    now: SystemTime,
) -> Result<Verified, Refusal> {
    if *check == Check::TokenAlone {
        return Ok(Verified::default());
    }
    if secrets.is_empty() {
        return Err(Refusal::NoSecret);
    }
    match check {
        Check::Signature(rule) => return signature::check(rule, call, secrets, now),
        Check::SecretHeader(name) => shared_secret::check_header(call, name, secrets)?,
        Check::Basic => shared_secret::check_basic(call, secrets)?,
        Check::ClientState => shared_secret::check_client_state(call, secrets)?,
        Check::TokenAlone => {}
    }
    Ok(Verified::default())
}
