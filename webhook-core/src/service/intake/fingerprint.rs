//! Fingerprints, which show whether two requests under one idempotency key are the same request.

use sha2::{Digest, Sha256};

use super::call::{Method, TriggerCall};
use crate::parameters::{MediaType, QueryParameters};
use crate::token::TokenKeys;

/// Use of the token key, which separates these hashes from its other uses.
const FINGERPRINT: &str = "webhook idempotency fingerprint";

/// Returns hashes of the parts that make a request the same request: method, query without token, media type
/// and body.
///
/// The first is to be recorded. It is under the token key, so a reader of the store alone cannot test guesses
/// of secret values.
/// The others may already be recorded: those under replaced keys, and the plain SHA-256 of earlier versions
/// and of services without a key.
pub(super) fn fingerprints(
    keys: Option<&TokenKeys>,
    call: &TriggerCall,
    query: &QueryParameters,
    body: &[u8],
) -> ([u8; 32], Vec<[u8; 32]>) {
    let canonical = query.canonical();
    let media_type = match call.method {
        Method::Get | Method::Head | Method::Options => "",
        Method::Post => call.content_type.as_deref().unwrap_or_default(),
    };
    let media_type =
        MediaType::parse(media_type).map(|parsed| parsed.essence().to_owned()).unwrap_or_default();
    let parts = [call.method.as_str().as_bytes(), &canonical, media_type.as_bytes(), body];
    let plain = plain_fingerprint(&parts);
    let mut keyed =
        keys.map_or_else(Vec::new, |keys| keys.authentication_codes(FINGERPRINT, &parts)).into_iter();
    match keyed.next() {
        Some(first) => (first, keyed.chain([plain]).collect()),
        None => (plain, Vec::new()),
    }
}

/// Returns the SHA-256 over the parts, each preceded by its length, so two different requests never have the
/// same bytes.
fn plain_fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenKey;

    #[test]
    fn a_fingerprint_cannot_be_tried_without_the_key_and_one_of_before_still_counts() {
        let mut call = TriggerCall::new("report/a".parse().unwrap(), Method::Post);
        call.content_type = Some("Application/JSON; charset=utf-8".to_owned());
        let of = |keys: Option<&TokenKeys>, body: &[u8]| {
            fingerprints(keys, &call, &QueryParameters::default(), body)
        };
        let body = br#"{"secret":"092291"}"#;
        let plain = plain_fingerprint(&[b"POST", b"", b"application/json", body]);
        assert_eq!(of(None, body), (plain, vec![]));
        let key = TokenKey::generate();
        let old = TokenKeys::new(key.clone());
        let (before, former) = of(Some(&old), body);
        assert!(before != plain && before != of(Some(&old), b"{}").0);
        assert_eq!(former, [plain]);
        let new = TokenKeys::new(TokenKey::generate()).with_opening_key(key);
        let (after, former) = of(Some(&new), body);
        assert_ne!(after, before);
        assert_eq!(former, [before, plain]);
    }
}
