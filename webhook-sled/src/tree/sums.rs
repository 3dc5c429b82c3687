//! Sums over the values of each kind, kept in the database and changed in the same atomic step as the values.
//!
//! A check of a kind compares them with the values that it finds. They differ when a value is missing, outdated, or back
//! after its removal.
//!
//! When its log is damaged in the middle, sled shows earlier versions of the pages there. Each page is intact by itself, so
//! only the sums show the fault.

use sled::{IVec, Tree};
use webhook_core::store::StoreError;

use crate::error::store_error;
use crate::format::keys::{self, KINDS};
use crate::format::value::{damaged, decode_number};
use crate::tree::damage::{Damage, RecordKind};
use crate::tree::scan;

/// Count, bytes and checksums of some values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    values: u64,
    /// Bytes of keys and values.
    bytes: u64,
    /// Sum of the CRC-32 of each key and value, modulo 2⁶⁴. It misses an accidental difference with a
    /// probability of about 2⁻³².
    checksums: u64,
}

impl Sum {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.values = self.values.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(bytes(key, value));
        self.checksums = self.checksums.wrapping_add(checksum(key, value));
    }

    fn subtract(&mut self, key: &[u8], value: &[u8]) {
        self.values = self.values.wrapping_sub(1);
        self.bytes = self.bytes.wrapping_sub(bytes(key, value));
        self.checksums = self.checksums.wrapping_sub(checksum(key, value));
    }

    /// Returns the fault if these sums were found instead of the expected ones.
    fn fault(self, expected: Self) -> Option<String> {
        let (found, known) = (self.values, expected.values);
        if found < known {
            let missing = known - found;
            let are = if missing == 1 { "is" } else { "are" };
            Some(format!("{missing} of {known} values {are} missing or cannot be read"))
        } else if found > known {
            let back = found - known;
            let values_are = if back == 1 { "value is" } else { "values are" };
            Some(format!("{back} removed {values_are} back"))
        } else if self != expected {
            Some("some values are outdated".to_owned())
        } else {
            None
        }
    }
}

fn bytes(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

fn checksum(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    u64::from(hasher.finalize())
}

/// A value before and after a change.
#[derive(Debug)]
pub(crate) struct ValueChange {
    pub(crate) key: IVec,
    pub(crate) old: Option<IVec>,
    pub(crate) new: Option<IVec>,
}

/// Sums of all kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums([Sum; KINDS.len()]);

impl Sums {
    /// Returns the bytes of all keys and values.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.iter().fold(0, |bytes, sum| bytes.wrapping_add(sum.bytes))
    }

    fn of(&self, kind: u8) -> Sum {
        keys::kind_index(&[kind]).map_or_else(Sum::default, |index| self.0[index])
    }

    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        if let Some(index) = keys::kind_index(key) {
            self.0[index].add(key, value);
        }
    }

    pub(crate) fn change(&mut self, changed: &ValueChange) {
        let ValueChange { key, old, new } = changed;
        let Some(sum) = keys::kind_index(key).map(|index| &mut self.0[index]) else { return };
        if let Some(old) = old {
            sum.subtract(key, old);
        }
        if let Some(new) = new {
            sum.add(key, new);
        }
    }
}

/// Sums as the database keeps them, with the number of the last change included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StoredSums {
    pub(crate) number: u64,
    pub(crate) sums: Sums,
}

const VERSION: u8 = 1;

impl StoredSums {
    /// Returns `None` if nothing is known: folders of earlier formats have no sums until everything in them
    /// was read once.
    pub(crate) fn read(tree: &Tree) -> Result<Option<Self>, StoreError> {
        let Some(value) = scan::get(tree, keys::SUMS)? else { return Ok(None) };
        let kept = Self::decode(&value)?;
        if kept.number != last_change(tree)? {
            return Err(damaged("the sums of its values are not those of its last change"));
        }
        Ok(Some(kept))
    }

    /// Compares the sums of a kind with the found ones, and records a difference as damage. Returns whether
    /// they are equal.
    pub(crate) fn compare(&self, kind: u8, found: &Sums, damage: &Damage) -> bool {
        let fault = found.of(kind).fault(self.sums.of(kind));
        let is_whole = fault.is_none();
        if let Some(fault) = fault {
            damage.note_because(RecordKind::of(&[kind]), &[kind], fault);
        }
        is_whole
    }

    /// Starts the sums of a database that has none.
    pub(crate) fn begin(tree: &Tree, sums: Sums) -> Result<(), StoreError> {
        let kept = Self { number: last_change(tree)?, sums };
        tree.insert(keys::SUMS, kept.encode()).map(drop).map_err(store_error)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut value = vec![VERSION];
        value.extend_from_slice(&self.number.to_be_bytes());
        for Sum { values, bytes, checksums } in self.sums.0 {
            for number in [values, bytes, checksums] {
                value.extend_from_slice(&number.to_be_bytes());
            }
        }
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, StoreError> {
        let wrong = || damaged("the sums of its values have not the right size or version");
        let (&[VERSION], rest) = value.split_first_chunk().ok_or_else(wrong)? else { return Err(wrong()) };
        let (numbers, rest) = rest.as_chunks();
        let mut numbers = numbers.iter().copied().map(u64::from_be_bytes);
        if !rest.is_empty() || numbers.len() != 1 + 3 * KINDS.len() {
            return Err(wrong());
        }
        let mut kept = Self { number: numbers.next().unwrap_or_default(), sums: Sums::default() };
        for sum in &mut kept.sums.0 {
            for number in [&mut sum.values, &mut sum.bytes, &mut sum.checksums] {
                *number = numbers.next().unwrap_or_default();
            }
        }
        Ok(kept)
    }
}

fn last_change(tree: &Tree) -> Result<u64, StoreError> {
    scan::get(tree, keys::BATCH_NUMBER)?.map_or(Ok(0), |number| decode_number(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(key: &str, old: Option<&str>, new: Option<&str>) -> ValueChange {
        let value = |text: Option<&str>| text.map(IVec::from);
        ValueChange { key: IVec::from(key), old: value(old), new: value(new) }
    }

    #[test]
    fn sums_follow_every_change_and_are_read_back() {
        let mut followed = Sums::default();
        for change in [
            changed("w1", None, Some("a")),
            changed("w2", None, Some("b")),
            changed("w1", Some("a"), Some("c")),
            changed("w2", Some("b"), None),
            changed("r1", None, Some("d")),
            changed("g1", None, Some("a part of a log")),
            changed("n", None, Some("no kind")),
        ] {
            followed.change(&change);
        }
        let mut found = Sums::default();
        for (key, value) in [("r1", "d"), ("w1", "c"), ("g1", "a part of a log")] {
            found.add(key.as_bytes(), value.as_bytes());
        }
        assert_eq!(followed, found);
        assert_eq!(found.bytes(), 3 + 3 + 17);
        let kept = StoredSums { number: 7, sums: found };
        assert_eq!(StoredSums::decode(&kept.encode()).unwrap(), kept);
        assert!(StoredSums::decode(&kept.encode()[1..]).is_err() && StoredSums::decode(&[]).is_err());
    }

    #[test]
    fn what_is_missing_older_or_back_is_told_apart() {
        let sum = |records: &[(&str, &str)]| {
            let mut sum = Sum::default();
            for (key, value) in records {
                sum.add(key.as_bytes(), value.as_bytes());
            }
            sum
        };
        let expected = sum(&[("w1", "a"), ("w2", "b")]);
        let fault = |records: &[(&str, &str)]| sum(records).fault(expected);
        assert_eq!(fault(&[("w2", "b"), ("w1", "a")]), None);
        assert!(fault(&[("w1", "a")]).unwrap().starts_with("1 of 2 values is missing"));
        assert!(fault(&[("w1", "a"), ("w2", "b"), ("w3", "c")]).unwrap() == "1 removed value is back");
        assert!(fault(&[("w1", "a"), ("w2", "old")]).unwrap() == "some values are outdated");
    }
}
