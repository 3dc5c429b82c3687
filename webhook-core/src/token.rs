//! Tokens: the secret in a webhook's URL, its digest, and its sealed form.
//!
//! A token consists of `whk_`, 43 base62 digits that hold 256 random bits, and 6 base62 digits of a
//! CRC-32/ISO-HDLC over the preceding characters.
//! The checksum lets secret scanners recognize a leaked token; it never authenticates.
//! Stores keep the SHA-256 digest for look-up. If the host gave a [`TokenKey`], they also keep the token
//! sealed with XChaCha20-Poly1305, so its URL can be shown again.

mod key;
mod mask;
mod seal;
mod url;

use std::fmt;

use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::{InvalidName, NameKind};

pub use key::{KeyFileError, TokenKey};
pub(crate) use key::{fill_random, hexadecimal};
pub(crate) use mask::token_start;
pub use mask::{MASKED_TOKEN, mask_tokens};
pub use seal::{InvalidSealed, Sealed, TokenKeys, UnsealError};
pub use url::TriggerUrl;

const PREFIX: &str = "whk_";
const SECRET_DIGITS: usize = 43;
const CHECKSUM_DIGITS: usize = 6;
const LENGTH: usize = PREFIX.len() + SECRET_DIGITS + CHECKSUM_DIGITS;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Secret token of a webhook. `Debug` hides it, there is no `Display`, and its memory is wiped on drop.
///
/// ```
/// use webhook_core::token::Token;
/// let token = Token::generate();
/// assert!(token.expose().starts_with("whk_"));
/// assert_eq!(format!("{token:?}"), "Token(***)");
/// assert!(token.digest().matches(&Token::parse(token.expose())?.digest()));
/// # Ok::<(), webhook_core::error::InvalidName>(())
/// ```
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Generates a token from 256 bits of the operating system's random generator.
    ///
    /// # Panics
    /// When the operating system has no randomness, since no token would be safe then.
    #[must_use]
    pub fn generate() -> Self {
        let mut secret = Zeroizing::new([0_u8; 32]);
        SysRng.try_fill_bytes(&mut *secret).expect("the operating system's random generator failed");
        Self::from_secret(&secret)
    }

    fn from_secret(secret: &[u8; 32]) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(LENGTH));
        text.push_str(PREFIX);
        push_base62(&mut text, secret, SECRET_DIGITS);
        let checksum = crc32fast::hash(text.as_bytes());
        push_base62(&mut text, &checksum.to_be_bytes(), CHECKSUM_DIGITS);
        Self(text)
    }

    /// Parses the text form of a token and verifies its checksum, which detects typing errors.
    ///
    /// Fails with [`InvalidName`], which repeats nothing of the text.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let form = text
            .strip_prefix(PREFIX)
            .is_some_and(|digits| digits.bytes().all(|it| it.is_ascii_alphanumeric()));
        match <&[u8; LENGTH]>::try_from(text.as_bytes()) {
            Ok(bytes) if form && has_checksum(bytes) => Ok(Self(Zeroizing::new(text.to_owned()))),
            _ => Err(InvalidName::new(NameKind::Token, "whk_ and 49 base62 digits with a matching checksum")),
        }
    }

    /// Returns the token's text. The caller must not log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the digest under which stores keep and find the token.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(&self.0)
    }

    /// Returns the last four characters, by which people distinguish tokens. They belong to the checksum, so
    /// they reveal next to nothing of the secret.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.0[LENGTH - 4..]
    }
}

/// Returns whether the last digits are the checksum of the characters before them.
fn has_checksum(token: &[u8; LENGTH]) -> bool {
    let (body, checksum) = token.split_at(LENGTH - CHECKSUM_DIGITS);
    let mut expected = String::with_capacity(CHECKSUM_DIGITS);
    push_base62(&mut expected, &crc32fast::hash(body).to_be_bytes(), CHECKSUM_DIGITS);
    expected.as_bytes() == checksum
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(***)")
    }
}

/// SHA-256 digest (FIPS 180-4) of a token's text form.
///
/// [`matches`](Self::matches) compares it in constant time. `Eq` and `Hash` exist for indexes keyed by it: the timing of such an index reveals the digest of a guess, which its sender knows anyway.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Returns the digest of the text that a caller presented, whatever its form.
    #[must_use]
    pub fn of(presented: &str) -> Self {
        Self(Sha256::digest(presented.as_bytes()).into())
    }

    /// Takes the bytes of a digest, as read from a store.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes of the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares in constant time.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenDigest(***)")
    }
}

/// Appends the big-endian number in `bytes` as exactly `digits` base62 digits, zero-padded.
fn push_base62(text: &mut String, bytes: &[u8], digits: usize) {
    let mut number = Zeroizing::new(bytes.to_vec());
    let mut output = Zeroizing::new(vec![0_u8; digits]);
    for digit in output.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in number.iter_mut() {
            let value = remainder << 8 | u32::from(*byte);
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        *digit = ALPHABET[remainder as usize];
    }
    text.extend(output.iter().map(|digit| char::from(*digit)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_form_is_the_documented_one() {
        let zero = Token::from_secret(&[0; 32]);
        assert_eq!(&zero.expose()[..47], format!("whk_{}", "0".repeat(43)));
        let mut one = [0; 32];
        one[31] = 61;
        assert!(Token::from_secret(&one).expose()[..47].ends_with("0z"));
        let mut sixty_two = [0; 32];
        sixty_two[31] = 62;
        assert!(Token::from_secret(&sixty_two).expose()[..47].ends_with("010"));
        assert_eq!(Token::from_secret(&[0xff; 32]).expose().len(), 53);
    }

    #[test]
    fn the_checksum_is_crc_32_iso_hdlc() {
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
        let token = Token::generate();
        let checksum = token.expose()[47..].bytes().fold(0_u64, |number, digit| {
            number * 62 + ALPHABET.iter().position(|candidate| *candidate == digit).unwrap() as u64
        });
        assert_eq!(checksum, u64::from(crc32fast::hash(&token.expose().as_bytes()[..47])));
    }

    #[test]
    fn a_changed_character_or_another_form_is_refused() {
        let token = Token::generate();
        assert!(Token::parse(token.expose()).is_ok());
        let mut changed = token.expose().to_owned();
        changed.replace_range(10..11, if &changed[10..11] == "a" { "b" } else { "a" });
        for bad in [changed.as_str(), "", "whk_", &"é".repeat(26), &token.expose()[1..]] {
            assert!(Token::parse(bad).is_err());
        }
    }

    #[test]
    fn two_tokens_differ_and_only_equal_ones_match() {
        let (first, second) = (Token::generate(), Token::generate());
        assert_ne!(first.expose(), second.expose());
        assert!(first.digest().matches(&TokenDigest::of(first.expose())));
        assert!(!first.digest().matches(&second.digest()));
    }

    #[test]
    fn nothing_of_the_secret_shows_in_debug() {
        let token = Token::generate();
        let shown = format!("{token:?} {:?}", token.digest());
        assert!(!shown.contains(&token.expose()[4..20]));
        assert_eq!(shown, "Token(***) TokenDigest(***)");
    }

    proptest! {
        #[test]
        fn every_secret_gives_a_token_that_parses(secret: [u8; 32]) {
            let token = Token::from_secret(&secret);
            prop_assert_eq!(token.expose().len(), LENGTH);
            prop_assert!(Token::parse(token.expose()).is_ok());
        }

        #[test]
        fn reading_any_text_never_panics(text: String) {
            let _ = Token::parse(&text);
            let _ = TokenDigest::of(&text);
        }
    }
}
