//! Sums of the values that a running check has passed, corrected with every change of such a value.

use std::sync::{Arc, Weak};

use sled::IVec;

use crate::format::keys::{self, KINDS};
use crate::tree::sums::{Sums, ValueChange};

/// Tallies of the running checks.
#[derive(Debug, Default)]
pub(crate) struct Tallies(Vec<Tally>);

/// The progress of a check, and the sums of the values up to there.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Identifies the check. A dropped check leaves a tally without one.
    check: Weak<()>,
    /// Number of kinds that were checked completely.
    pub(crate) kinds: usize,
    /// Last key of the present kind that was checked.
    pub(crate) after: Option<IVec>,
    pub(crate) sums: Sums,
}

impl Tally {
    fn of(check: &Arc<()>) -> Self {
        Self { check: Arc::downgrade(check), kinds: 0, after: None, sums: Sums::default() }
    }

    /// The kind that is being checked. `None` at the end.
    pub(crate) fn kind(&self) -> Option<u8> {
        KINDS.get(self.kinds).copied()
    }

    fn has_passed(&self, key: &IVec) -> bool {
        match keys::kind_index(key) {
            Some(kind) if kind == self.kinds => self.after.as_ref().is_some_and(|after| key <= after),
            kind => kind.is_some_and(|kind| kind < self.kinds),
        }
    }
}

impl Tallies {
    /// Adds changes to the tallies of the checks that have passed these values.
    pub(crate) fn note(&mut self, changed: &[ValueChange]) {
        self.0.retain(|tally| tally.check.strong_count() > 0);
        for tally in &mut self.0 {
            for changed in changed {
                if tally.has_passed(&changed.key) {
                    tally.sums.change(changed);
                }
            }
        }
    }

    /// Makes the running checks start again, for a database that was reopened.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }

    /// Returns the tally of a check, and whether it starts with this call.
    pub(crate) fn tally_of(&mut self, check: &Arc<()>) -> (&mut Tally, bool) {
        let is_of = |tally: &Tally| std::ptr::eq(tally.check.as_ptr(), Arc::as_ptr(check));
        let present = self.0.iter().position(is_of);
        let index = present.unwrap_or_else(|| {
            self.0.push(Tally::of(check));
            self.0.len() - 1
        });
        (&mut self.0[index], present.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_takes_changes_of_what_it_has_passed_and_is_forgotten_when_it_is_dropped() {
        let changed = |key: &str| ValueChange { key: key.into(), old: None, new: Some("new".into()) };
        let mut tallies = Tallies::default();
        let (walk, other): (Arc<()>, Arc<()>) = (Arc::default(), Arc::default());
        assert!(tallies.tally_of(&other).1, "it begins");
        let (tally, _) = tallies.tally_of(&walk);
        (tally.kinds, tally.after) = (1, Some("u5".into()));
        tallies.note(&["w9", "u5", "u6", "l1"].map(changed));
        let mut passed = Sums::default();
        for key in [b"w9", b"u5"] {
            passed.add(key, b"new");
        }
        assert_eq!(tallies.tally_of(&walk).0.sums, passed);
        assert_eq!(tallies.tally_of(&other).0.sums, Sums::default());
        drop(other);
        tallies.note(&[]);
        assert_eq!(tallies.0.len(), 1);
    }
}
