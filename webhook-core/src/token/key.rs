//! The host's token key and its file.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::KeyInit;
use hmac::{Hmac, Mac};
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub(super) const KEY_ID: usize = 8;

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
    pub(super) fn authentication_code(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        Self(Zeroizing::new(self.hmac(&[purpose.as_bytes()]))).hmac(parts)
    }

    /// Each part is preceded by its length, so two different lists never have the same bytes.
    fn hmac(&self, parts: &[&[u8]]) -> [u8; 32] {
        // HMAC takes keys of any length.
        let mut code = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("a key");
        for part in parts {
            code.update(&(part.len() as u64).to_be_bytes());
            code.update(part);
        }
        code.finalize().into_bytes().into()
    }

    pub(super) fn id(&self) -> [u8; KEY_ID] {
        let mut hasher = Sha256::new();
        hasher.update(b"webhook token key id\0");
        hasher.update(self.0.as_slice());
        let digest: [u8; 32] = hasher.finalize().into();
        let mut id = [0; KEY_ID];
        id.copy_from_slice(&digest[..KEY_ID]);
        id
    }

    pub(super) fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TokenKey({})", hexadecimal(&self.id()))
    }
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
    SysRng.try_fill_bytes(bytes).expect("the operating system's random generator failed");
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hmac_is_that_of_the_standard() {
        // Computed with Python's hmac, over the length and the text.
        let key = TokenKey::from_bytes([0x0b; 32]);
        let expected = "0bc448fbd942bda00fa596aed1a2014da91bb53394aafc0fd1b510d9ce5de26a";
        assert_eq!(hexadecimal(&key.hmac(&[b"Hi There"])), expected);
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
}
