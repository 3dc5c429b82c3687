//! The identity of a store, which all its files carry: a random id, and the number of openings.

use std::fmt;

use crate::format::value::{VERSION, damaged};
use webhook_core::store::StoreError;

/// Random number of a store, generated when the store is created.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreId(pub(crate) [u8; 16]);

impl StoreId {
    pub(crate) fn generate() -> Self {
        Self(rand::random())
    }

    pub(crate) fn parse(hexadecimal: &str) -> Option<Self> {
        let digits = hexadecimal.len() == 32 && hexadecimal.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(hexadecimal, 16).ok().filter(|_| digits)?;
        Some(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The store that a file belongs to, and the opening that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store: StoreId,
    /// Number of the opening or recovery. It only grows; 0 is the creation of the store.
    pub(crate) epoch: u64,
}

const IDENTITY_BYTES: usize = 25;

impl Identity {
    /// Returns the form that the database keeps.
    pub(crate) fn encode(&self) -> [u8; IDENTITY_BYTES] {
        let mut value = [VERSION; IDENTITY_BYTES];
        value[1..17].copy_from_slice(&self.store.0);
        value[17..].copy_from_slice(&self.epoch.to_be_bytes());
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, StoreError> {
        let is_whole = value.len() == IDENTITY_BYTES && value[0] == VERSION;
        let parts = value.get(1..).and_then(|value| value.split_first_chunk());
        match parts.and_then(|(store, epoch)| Some((*store, u64::from_be_bytes(epoch.try_into().ok()?)))) {
            Some((store, epoch)) if is_whole => Ok(Self { store: StoreId(store), epoch }),
            _ => Err(damaged("the store's id has not the right form")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_back_and_anything_else_is_an_error() {
        let identity = Identity { store: StoreId::generate(), epoch: 7 };
        assert_eq!(Identity::decode(&identity.encode()).unwrap(), identity);
        assert_eq!(StoreId::parse(&identity.store.to_string()), Some(identity.store));
        for text in ["", "+0000000000000000000000000000001", "00", "g0000000000000000000000000000000"] {
            assert_eq!(StoreId::parse(text), None, "{text}");
        }
        for value in [&[][..], &[1; 24], &[2; 25], &[1; 26]] {
            assert!(Identity::decode(value).is_err(), "{value:?}");
        }
    }
}
