//! The host's token key, which seals tokens and secret parameter values at rest.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const FORMAT: u8 = 1;
const KEY_ID: usize = 8;
const NONCE: usize = 24;
const HEADER: usize = 1 + KEY_ID;

/// 256-bit key that seals tokens and secret parameter values. `Debug` shows only its id.
///
/// Keep a copy of it. Without it, URLs cannot be shown again, and secret values of queued runs are lost.
/// Callers that have their URLs are not affected.
/// A service refuses to start without the key that sealed its store's secrets, unless it is told to [forget
/// unknown keys](crate::WebhooksBuilder::forget_unknown_keys).
#[derive(Clone)]
pub struct TokenKey(Zeroizing<[u8; 32]>);

impl TokenKey {
    /// Generates a key with the operating system's random generator.
    ///
    /// # Panics
    /// When the operating system has no randomness.
    #[must_use]
    pub fn generate() -> Self {
        let mut key = Zeroizing::new([0_u8; 32]);
        fill_random(&mut *key);
        Self(key)
    }

    /// Takes 32 bytes that the host keeps, for example in a secret manager.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads the key at `path`, or creates one there with mode 0600 if the file does not exist.
    ///
    /// The file holds 44 base64 characters (RFC 4648) and a line end. It appears in one step, so two
    /// processes that start at once agree on one key.
    /// The call blocks on the file system; make it at start-up.
    ///
    /// Fails with a [`KeyFileError`], which names the file, when it cannot be read, cannot be created, or
    /// holds no key.
    ///
    /// ```
    /// # use webhook_core::token::TokenKey;
    /// # let folder = tempfile::tempdir()?;
    /// let key = TokenKey::load_or_create(folder.path().join("token.key"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let path = path.as_ref();
        match Self::load(path) {
            Err(KeyFileError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Self::generate().write_new(path)?;
                Self::load(path)
            }
            outcome => outcome,
        }
    }

    /// Reads the key at `path`.
    ///
    /// Fails with [`KeyFileError`] when the file cannot be read or holds no key.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let path = path.as_ref();
        let mut text = Zeroizing::new(String::new());
        std::fs::File::open(path)
            .and_then(|file| file.take(4096).read_to_string(&mut text))
            .map_err(|source| KeyFileError::Read { path: path.to_owned(), source })?;
        let malformed = || KeyFileError::Malformed { path: path.to_owned() };
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| malformed())?);
        let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| malformed())?;
        Ok(Self::from_bytes(key))
    }

    /// Writes the key to a temporary file and links that to its final path.
    ///
    /// So no reader sees half a key, and an existing key is never replaced.
    fn write_new(&self, path: &Path) -> Result<(), KeyFileError> {
        let failed = |source| KeyFileError::Create { path: path.to_owned(), source };
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut suffix = [0_u8; 8];
        fill_random(&mut suffix);
        let draft = folder.join(format!(".token-key-{:016x}", u64::from_be_bytes(suffix)));
        let written = self.write_draft(&draft).and_then(|()| match std::fs::hard_link(&draft, path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome,
        });
        let removed = std::fs::remove_file(&draft);
        written.and(removed).and_then(|()| std::fs::File::open(folder)?.sync_all()).map_err(failed)
    }

    fn write_draft(&self, draft: &Path) -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(draft)?;
        let text = Zeroizing::new(STANDARD.encode(self.0.as_slice()));
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    }

    /// Returns the HMAC-SHA-256 (RFC 2104) of these parts, under a key derived from this one for `purpose`
    /// alone.
    fn authentication_code(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        Self(Zeroizing::new(self.hmac(&[purpose.as_bytes()]))).hmac(parts)
    }

    /// Each part is preceded by its length, so two different lists never have the same bytes.
    fn hmac(&self, parts: &[&[u8]]) -> [u8; 32] {
        // HMAC takes keys of any length.
        #[allow(clippy::expect_used)]
        let mut code = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("a key");
        for part in parts {
            code.update(&(part.len() as u64).to_be_bytes());
            code.update(part);
        }
        code.finalize().into_bytes().into()
    }

    fn id(&self) -> [u8; KEY_ID] {
        let mut hasher = Sha256::new();
        hasher.update(b"webhook token key id\0");
        hasher.update(self.0.as_slice());
        let digest: [u8; 32] = hasher.finalize().into();
        let mut id = [0; KEY_ID];
        id.copy_from_slice(&digest[..KEY_ID]);
        id
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TokenKey({})", hexadecimal(&self.id()))
    }
}

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
        #[allow(clippy::expect_used)]
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

/// Error of a key file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file could not be read.
    #[error("the token key file {} cannot be read", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The file could not be created.
    #[error("the token key file {} cannot be created", path.display())]
    Create {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The file does not hold a key.
    #[error("the token key file {} does not hold a key, which is 44 base64 characters: restore it from a backup", path.display())]
    Malformed {
        /// Path of the file.
        path: PathBuf,
    },
}

pub(crate) fn fill_random(bytes: &mut [u8]) {
    #[allow(clippy::expect_used)]
    SysRng.try_fill_bytes(bytes).expect("the operating system's random generator failed");
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
    fn an_hmac_is_that_of_the_standard() {
        // Computed with Python's hmac, over the length and the text.
        let key = TokenKey::from_bytes([0x0b; 32]);
        let expected = "0bc448fbd942bda00fa596aed1a2014da91bb53394aafc0fd1b510d9ce5de26a";
        assert_eq!(hexadecimal(&key.hmac(&[b"Hi There"])), expected);
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
    fn the_key_file_is_made_once_private_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/token.key");
        let made = TokenKey::load_or_create(&path).unwrap();
        let read = TokenKey::load_or_create(&path).unwrap();
        assert_eq!(made.id(), read.id());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_no_key_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token.key");
        std::fs::write(&path, "not a key").unwrap();
        let error = TokenKey::load_or_create(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Malformed { .. }));
        assert!(error.to_string().contains("token.key"));
        assert!(!error.to_string().contains("not a key"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "not a key");
    }

    #[test]
    fn debug_shows_no_key_and_no_ciphertext() {
        let keys = TokenKeys::new(TokenKey::from_bytes(*b"canary-canary-canary-canary-cana"));
        let shown = format!("{keys:?} {:?}", keys.seal(b"canary", b""));
        assert!(!shown.contains("canary"));
        assert!(shown.contains("Sealed(***)"));
    }
}
