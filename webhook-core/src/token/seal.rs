//! Tokens and secret parameter values at rest: sealed with a token key.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::XNonce;
use chacha20poly1305::aead::{Aead, Payload};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::key::{KEY_ID, TokenKey, fill_random, hexadecimal};

const FORMAT: u8 = 1;
const NONCE: usize = 24;
const HEADER: usize = 1 + KEY_ID;

/// The key that seals, and the keys that may still open what was sealed before.
///
/// To replace a key, seal with the new one and keep the old one for opening. Keep it until every URL was
/// refreshed, and as long as there are runs with secret parameters that it sealed.
/// Without the old key, queued runs of that kind fail, and ended runs cannot be retried.
#[derive(Debug, Clone)]
pub struct TokenKeys {
    sealing: TokenKey,
    opening: Vec<TokenKey>,
}

impl TokenKeys {
    /// Seals and opens with one key.
    #[must_use]
    pub fn new(key: TokenKey) -> Self {
        Self { sealing: key, opening: Vec::new() }
    }

    /// Adds a key that opens but does not seal.
    #[must_use]
    pub fn with_opening_key(mut self, key: TokenKey) -> Self {
        self.opening.push(key);
        self
    }

    /// Returns a keyed hash of these parts under each key, the sealing key first. Each purpose has hashes of
    /// its own.
    pub(crate) fn authentication_codes(&self, purpose: &str, parts: &[&[u8]]) -> Vec<[u8; 32]> {
        let keys = std::iter::once(&self.sealing).chain(&self.opening);
        keys.map(|key| key.authentication_code(purpose, parts)).collect()
    }

    /// Seals `plaintext` for the place named by `associated_data`. It opens only for the same place.
    ///
    /// # Panics
    /// When the operating system has no randomness.
    #[must_use]
    pub fn seal(&self, plaintext: &[u8], associated_data: &[u8]) -> Sealed {
        let mut sealed = Vec::with_capacity(HEADER + NONCE + plaintext.len() + 16);
        sealed.push(FORMAT);
        sealed.extend_from_slice(&self.sealing.id());
        let mut nonce = [0_u8; NONCE];
        fill_random(&mut nonce);
        sealed.extend_from_slice(&nonce);
        let payload = Payload { msg: plaintext, aad: associated_data };
        // XChaCha20-Poly1305 refuses only messages of 256 GiB and more.
        let ciphertext =
            self.sealing.cipher().encrypt(&XNonce::from(nonce), payload).expect("a short message");
        sealed.extend_from_slice(&ciphertext);
        Sealed(sealed)
    }

    /// Opens a value that was sealed for the same `associated_data`.
    ///
    /// Fails with [`UnsealError::UnknownKey`] when none of these keys sealed it,
    /// [`UnsealError::UnknownFormat`] when a newer version did, and [`UnsealError::Damaged`] when it was
    /// changed or sealed for another place.
    pub fn open(&self, sealed: &Sealed, associated_data: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let key = self.key_for(sealed)?;
        let body = sealed.0.get(HEADER..).ok_or(UnsealError::Damaged)?;
        let (nonce, ciphertext) = body.split_first_chunk::<NONCE>().ok_or(UnsealError::Damaged)?;
        let payload = Payload { msg: ciphertext, aad: associated_data };
        let plaintext =
            key.cipher().decrypt(&XNonce::from(*nonce), payload).map_err(|_| UnsealError::Damaged)?;
        Ok(Zeroizing::new(plaintext))
    }

    /// Seals a value again if an opening key sealed it. `None` when the sealing key sealed it already.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # Panics
    /// As [`seal`](Self::seal).
    pub fn reseal(&self, sealed: &Sealed, associated_data: &[u8]) -> Result<Option<Sealed>, UnsealError> {
        if self.key_for(sealed)?.id() == self.sealing.id() {
            return Ok(None);
        }
        let plaintext = self.open(sealed, associated_data)?;
        Ok(Some(self.seal(&plaintext, associated_data)))
    }

    /// Checks that one of these keys sealed a value, without opening it.
    ///
    /// Fails like [`open`](Self::open), except [`UnsealError::Damaged`] for changed content.
    pub fn check(&self, sealed: &Sealed) -> Result<(), UnsealError> {
        self.key_for(sealed).map(|_| ())
    }

    fn key_for(&self, sealed: &Sealed) -> Result<&TokenKey, UnsealError> {
        match sealed.0.split_first() {
            None => Err(UnsealError::Damaged),
            Some((&FORMAT, rest)) => {
                let id = rest.first_chunk::<KEY_ID>().ok_or(UnsealError::Damaged)?;
                std::iter::once(&self.sealing)
                    .chain(&self.opening)
                    .find(|key| key.id() == *id)
                    .ok_or_else(|| UnsealError::UnknownKey { key_id: hexadecimal(id) })
            }
            Some((&format, _)) => Err(UnsealError::UnknownFormat { format }),
        }
    }
}

/// Value sealed by a [`TokenKey`]: format version, key id, nonce and ciphertext. Its text form is base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Takes the bytes as a store kept them. They are checked when the value is opened.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns the bytes for a store to keep.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sealed(***)")
    }
}

impl From<Sealed> for String {
    fn from(sealed: Sealed) -> String {
        STANDARD.encode(sealed.0)
    }
}

impl TryFrom<String> for Sealed {
    type Error = InvalidSealed;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD.decode(text).map(Self).map_err(InvalidSealed)
    }
}

/// Error: a text is no sealed value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value is base64, and this text is not")]
pub struct InvalidSealed(#[source] base64::DecodeError);

/// Error of opening a sealed value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsealError {
    /// None of the given keys sealed it.
    #[error("it was sealed with key {key_id}, which was not given; add that key as an opening key")]
    UnknownKey {
        /// Id of the key that sealed it, as in the key's `Debug`.
        key_id: String,
    },
    /// A newer version of this library sealed it.
    #[error("it has the unknown format {format}, probably of a newer version")]
    UnknownFormat {
        /// Format byte that was found.
        format: u8,
    },
    /// It was changed, cut, or sealed for another place.
    #[error("it is damaged or was sealed for another place")]
    Damaged,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_for_its_place_and_with_its_key() {
        let keys = TokenKeys::new(TokenKey::generate());
        let sealed = keys.seal(b"secret", b"webhook 1");
        assert_eq!(&**keys.open(&sealed, b"webhook 1").unwrap(), b"secret");
        assert_eq!(keys.open(&sealed, b"webhook 2").unwrap_err(), UnsealError::Damaged);
        let other = TokenKeys::new(TokenKey::generate());
        assert!(matches!(other.open(&sealed, b"webhook 1"), Err(UnsealError::UnknownKey { .. })));
        assert!(other.check(&sealed).is_err());
    }

    #[test]
    fn an_old_key_still_opens_after_the_key_was_replaced() {
        let (old, new) = (TokenKey::generate(), TokenKey::generate());
        let sealed = TokenKeys::new(old.clone()).seal(b"secret", b"");
        let keys = TokenKeys::new(new).with_opening_key(old);
        assert_eq!(&**keys.open(&sealed, b"").unwrap(), b"secret");
    }

    #[test]
    fn what_an_old_key_sealed_is_sealed_again_once() {
        let (old, new) = (TokenKey::generate(), TokenKey::generate());
        let sealed = TokenKeys::new(old.clone()).seal(b"secret", b"place");
        let keys = TokenKeys::new(new.clone()).with_opening_key(old);
        assert_eq!(keys.reseal(&sealed, b"elsewhere").unwrap_err(), UnsealError::Damaged);
        let again = keys.reseal(&sealed, b"place").unwrap().unwrap();
        assert_eq!(keys.reseal(&again, b"place").unwrap(), None);
        let alone = TokenKeys::new(new);
        assert_eq!(&**alone.open(&again, b"place").unwrap(), b"secret");
        assert!(matches!(alone.reseal(&sealed, b"place"), Err(UnsealError::UnknownKey { .. })));
    }

    #[test]
    fn a_keyed_hash_differs_by_key_purpose_and_the_bounds_of_its_parts() {
        let (old, new) = (TokenKey::from_bytes([1; 32]), TokenKey::from_bytes([2; 32]));
        let before = TokenKeys::new(old.clone()).authentication_codes("a", &[b"one", b"two"]);
        let after = TokenKeys::new(new).with_opening_key(old.clone());
        assert_eq!(after.authentication_codes("a", &[b"one", b"two"])[1..], before);
        let mut codes = after.authentication_codes("a", &[b"one", b"two"]);
        codes.append(&mut after.authentication_codes("b", &[b"one", b"two"]));
        codes.append(&mut after.authentication_codes("a", &[b"on", b"etwo"]));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), 6);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let keys = TokenKeys::new(TokenKey::from_bytes([7; 32]));
        let sealed = keys.seal(b"secret", b"place");
        for index in 0..sealed.0.len() {
            let mut changed = sealed.clone();
            changed.0[index] ^= 1;
            assert!(keys.open(&changed, b"place").is_err(), "byte {index}");
            changed.0.truncate(index);
            assert!(keys.open(&changed, b"place").is_err(), "cut at {index}");
        }
    }

    #[test]
    fn debug_shows_no_key_and_no_ciphertext() {
        let keys = TokenKeys::new(TokenKey::from_bytes(*b"canary-canary-canary-canary-cana"));
        let shown = format!("{keys:?} {:?}", keys.seal(b"canary", b""));
        assert!(!shown.contains("canary"));
        assert!(shown.contains("Sealed(***)"));
    }
}
