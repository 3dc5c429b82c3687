//! Keys, from the text of a secret.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ed25519_dalek::VerifyingKey;
use zeroize::Zeroizing;

use super::rule::{Encoding, KeyForm};

/// Base64 whose padding may be left out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Returns the key that a secret stands for, or `None` when it has not the form of one. An empty key is none.
pub(super) fn key_bytes(form: KeyForm, secret: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = match form {
        KeyForm::Text => Some(secret.as_bytes().to_vec()),
        // A public key is known to everyone, so it must never become the key of an HMAC.
        KeyForm::StandardWebhooks if secret.starts_with("whpk_") => None,
        KeyForm::StandardWebhooks => BASE64.decode(secret.strip_prefix("whsec_").unwrap_or(secret)).ok(),
        KeyForm::StandardWebhooksPublic => BASE64.decode(secret.strip_prefix("whpk_")?).ok(),
        KeyForm::Public => {
            let text = secret.strip_prefix("whpk_").unwrap_or(secret);
            decode(Encoding::Hex, text.as_bytes()).or_else(|| BASE64.decode(text).ok())
        }
    };
    bytes.filter(|bytes| !bytes.is_empty()).map(Zeroizing::new)
}

/// Reads a public key of Ed25519 (RFC 8032). One of small order, under which a signature of any text fits, is none.
pub(super) fn public_key(bytes: &[u8]) -> Option<VerifyingKey> {
    let key = VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()?;
    (!key.is_weak()).then_some(key)
}

/// Decodes a signature.
pub(super) fn decode(encoding: Encoding, text: &[u8]) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Base64 => BASE64.decode(text).ok(),
        Encoding::Hex => {
            let (pairs, []) = text.as_chunks::<2>() else { return None };
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_becomes_a_key_by_its_form_and_an_empty_key_is_none() {
        let bytes = |form, secret| key_bytes(form, secret).map(|key| key.to_vec());
        assert_eq!(bytes(KeyForm::Text, "whsec_AAEC"), Some(b"whsec_AAEC".to_vec()));
        assert_eq!(bytes(KeyForm::Text, ""), None);
        for text in ["whsec_AAE=", "whsec_AAE", "AAE="] {
            assert_eq!(bytes(KeyForm::StandardWebhooks, text), Some(vec![0, 1]), "{text}");
        }
        for text in ["whsec_", "", "whsec_é", "whsec_A", "whpk_AAE="] {
            assert_eq!(bytes(KeyForm::StandardWebhooks, text), None, "{text}");
        }
        assert_eq!(bytes(KeyForm::StandardWebhooksPublic, "whsec_AAE="), None);
        assert_eq!(bytes(KeyForm::Public, "0aFF"), Some(vec![10, 255]));
    }

    #[test]
    fn a_key_of_small_order_is_no_public_key() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(public_key(&identity).is_none());
        assert!(public_key(&[0; 31]).is_none());
    }

    #[test]
    fn signatures_are_decoded_in_either_case_and_nothing_is_guessed() {
        assert_eq!(decode(Encoding::Hex, b"0aF0"), Some(vec![10, 240]));
        for bad in [&b"0"[..], b"0g", b"0x00", b"+1", b"0a "] {
            assert_eq!(decode(Encoding::Hex, bad), None);
        }
        assert_eq!(decode(Encoding::Base64, b"AAE="), decode(Encoding::Base64, b"AAE"));
        assert_eq!(decode(Encoding::Base64, b"AA-_"), None);
    }
}
