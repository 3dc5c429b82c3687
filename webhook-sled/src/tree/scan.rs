//! Scans of keys that skip unreadable parts: a damaged page hides only its own records.

use std::ops::Bound;

use sled::{IVec, Tree};
use webhook_core::store::StoreError;

use crate::error::{DAMAGED_PAGE, store_error};
use crate::format::value::damaged;
use crate::panics::catch;
use crate::tree::damage::{Damage, RecordKind};

/// Reads, and converts a panic into a typed error: sled asserts its expectations of its pages.
pub(crate) fn guarded<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch(read).unwrap_or_else(|panic| {
        tracing::debug!(panic, "sled cannot read a page");
        Err(damaged(DAMAGED_PAGE))
    })
}

/// Returns the value under a key.
pub(crate) fn get(tree: &Tree, key: &[u8]) -> Result<Option<IVec>, StoreError> {
    guarded(|| tree.get(key).map_err(store_error))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// Iterator over the records whose keys begin with a prefix.
pub(crate) struct Scan<'a> {
    tree: &'a Tree,
    damage: &'a Damage,
    prefix: Vec<u8>,
    direction: Direction,
    /// Bound of the next key.
    next: Option<Bound<Vec<u8>>>,
}

impl<'a> Scan<'a> {
    /// Scans upwards from the first key of the prefix, or from this key on.
    pub(crate) fn up(tree: &'a Tree, damage: &'a Damage, prefix: &[u8], from: Option<&[u8]>) -> Self {
        let next = Bound::Included(from.unwrap_or(prefix).to_vec());
        Self { tree, damage, prefix: prefix.to_vec(), direction: Direction::Up, next: Some(next) }
    }

    /// Scans downwards from the last key of the prefix, or from the last one before this key.
    pub(crate) fn down(tree: &'a Tree, damage: &'a Damage, prefix: &[u8], before: Option<&[u8]>) -> Self {
        let next = match before {
            Some(before) => Bound::Excluded(before.to_vec()),
            None => Bound::Included([prefix, &[0xff; LONGEST_REST]].concat()),
        };
        Self { tree, damage, prefix: prefix.to_vec(), direction: Direction::Down, next: Some(next) }
    }

    /// Returns the record at a bound, in the direction of the scan.
    fn at(&self, bound: Bound<Vec<u8>>) -> Result<Option<(IVec, IVec)>, StoreError> {
        let found = guarded(|| {
            let range = match self.direction {
                Direction::Up => (bound, Bound::Unbounded),
                Direction::Down => (Bound::Included(self.prefix.clone()), bound),
            };
            let mut entries = self.tree.range::<Vec<u8>, _>(range);
            let entry = match self.direction {
                Direction::Up => entries.next(),
                Direction::Down => entries.next_back(),
            };
            entry.transpose().map_err(store_error)
        })?;
        Ok(found.filter(|(key, _)| key.starts_with(&self.prefix)))
    }

    /// Returns the nearest readable bound after damage, if there is one.
    fn past_damage(&self, bound: &Bound<Vec<u8>>) -> Option<Bound<Vec<u8>>> {
        let (mut bad, mut good) = (self.place_of(bound), self.end());
        self.at(self.bound_of(good)).ok()?;
        while bad.abs_diff(good) > 1 {
            let middle = bad.midpoint(good);
            if self.at(self.bound_of(middle)).is_ok() { good = middle } else { bad = middle }
        }
        Some(self.bound_of(good))
    }

    fn end(&self) -> u128 {
        if self.direction == Direction::Up { u128::MAX } else { 0 }
    }

    /// Returns the position of a key among those of its prefix, by the sixteen bytes that follow it.
    fn place_of(&self, bound: &Bound<Vec<u8>>) -> u128 {
        let (Bound::Included(key) | Bound::Excluded(key)) = bound else { return 0 };
        let mut place = [0; 16];
        let rest = key.get(self.prefix.len()..).unwrap_or_default();
        let length = rest.len().min(16);
        place[..length].copy_from_slice(&rest[..length]);
        u128::from_be_bytes(place)
    }

    fn bound_of(&self, place: u128) -> Bound<Vec<u8>> {
        Bound::Included([&self.prefix[..], &place.to_be_bytes()].concat())
    }
}

/// Upper bound on the length of a key after its prefix.
const LONGEST_REST: usize = 80;

impl Iterator for Scan<'_> {
    type Item = (IVec, IVec);

    fn next(&mut self) -> Option<(IVec, IVec)> {
        loop {
            let bound = self.next.take()?;
            match self.at(bound.clone()) {
                Ok(Some((key, value))) => {
                    self.next = Some(Bound::Excluded(key.to_vec()));
                    return Some((key, value));
                }
                Ok(None) => return None,
                Err(error) => {
                    let (Bound::Included(key) | Bound::Excluded(key)) = &bound else { return None };
                    self.damage.note(RecordKind::of(key), key, &error);
                    self.next = self.past_damage(&bound);
                }
            }
        }
    }
}
