//! The atomic writes that one checkpoint makes in sled.

use std::collections::HashMap;

use sled::{Batch, IVec, Tree};
use webhook_core::store::StoreError;

use crate::engine::batch::BYTES_BETWEEN_SYNCS;
use crate::engine::change::cost;
use crate::format::keys;
use crate::format::value::VALUE_BYTES;
use crate::tree::damage::Damage;
use crate::tree::scan;
use crate::tree::sums::{StoredSums, ValueChange};

/// Cost of removing a part of a log or of a large record, in bytes. Every few removals rewrite or merge a page of them.
const PART_REMOVAL: usize = VALUE_BYTES;

/// A checkpoint batch as writes of sled, in this order: new parts; in one atomic step, all records and index entries with the
/// batch's sequence number; removed parts.
///
/// A crash between two steps leaves only parts that belong to no record. A check removes them.
#[derive(Default)]
pub(crate) struct CheckpointSteps {
    pub(crate) new_parts: Vec<Step>,
    pub(crate) records: Step,
    gone_parts: Vec<Step>,
}

/// One atomic write of sled.
#[derive(Default)]
pub(crate) struct Step {
    writes: HashMap<IVec, Option<IVec>>,
    /// Its share of what may be written between two syncs, in bytes.
    pub(crate) cost: usize,
    /// True if ended runs or parts of logs change their places. No reader may be under way then.
    pub(crate) moves_history: bool,
    /// Its changes of values that are in the sums.
    pub(crate) changed: Vec<ValueChange>,
    /// Bytes in the database after it. `None` while the database keeps no sums.
    pub(crate) stored_bytes: Option<u64>,
}

/// Room of a step for the sums, in bytes.
const SUMS_ROOM: usize = 512;

impl Step {
    /// A step that moves ended runs or parts of logs.
    pub(crate) fn that_moves_history() -> Self {
        Self { moves_history: true, ..Self::default() }
    }

    pub(crate) fn write(&mut self, key: impl Into<IVec>, value: Option<IVec>, cost: usize) {
        self.cost += cost;
        self.writes.insert(key.into(), value);
    }

    /// Adds the step's changes to the sums, and writes these with it. A database without sums gets none.
    fn add_up(
        &mut self,
        tree: &Tree,
        kept: Option<&mut StoredSums>,
        damage: &Damage,
    ) -> Result<(), StoreError> {
        for (key, new) in self.writes.iter().filter(|(key, _)| keys::kind_index(key).is_some()) {
            // A fresh key may have an old value all the same: a crash can come between its write and the next opening.
            let old = damage.set_aside(key, scan::get(tree, key))?.flatten();
            self.changed.push(ValueChange { key: key.clone(), old, new: new.clone() });
        }
        if let Some(kept) = kept {
            for changed in &self.changed {
                kept.sums.change(changed);
            }
            self.stored_bytes = Some(kept.sums.bytes());
            self.write(keys::SUMS, Some(kept.encode().into()), SUMS_ROOM);
        }
        Ok(())
    }

    pub(crate) fn into_batch(self) -> Batch {
        let mut batch = Batch::default();
        for (key, value) in self.writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        batch
    }
}

impl CheckpointSteps {
    pub(crate) fn into_steps(self) -> impl Iterator<Item = Step> {
        self.new_parts.into_iter().chain([self.records]).chain(self.gone_parts)
    }

    pub(crate) fn add_up(&mut self, tree: &Tree, number: u64, damage: &Damage) -> Result<(), StoreError> {
        let mut kept = kept(tree, damage)?;
        for step in &mut self.new_parts {
            step.add_up(tree, kept.as_mut(), damage)?;
        }
        if let Some(kept) = &mut kept {
            kept.number = number;
        }
        for step in [&mut self.records].into_iter().chain(&mut self.gone_parts) {
            step.add_up(tree, kept.as_mut(), damage)?;
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, key: impl Into<IVec>, value: Option<IVec>) {
        let key = key.into();
        let cost = cost(&key, value.as_ref());
        self.records.write(key, value, cost);
    }

    /// Removes a value that several runs share, which has this length.
    pub(crate) fn remove_shared(&mut self, key: IVec, length: usize) {
        // At worst its whole page is rewritten.
        let cost = cost(&key, None) + length;
        self.records.write(key, None, cost);
    }

    /// Writes a part of a log or of a large record. A part that replaces another changes together with its record.
    pub(crate) fn write_part(&mut self, key: IVec, value: Option<IVec>, fresh: bool) {
        let (steps, cost) = match &value {
            Some(value) if fresh => (&mut self.new_parts, key.len() + value.len()),
            Some(_) => return self.write(key, value),
            None => (&mut self.gone_parts, PART_REMOVAL),
        };
        if steps.last().is_none_or(|step| step.cost + cost > BYTES_BETWEEN_SYNCS - SUMS_ROOM) {
            steps.push(Step::default());
        }
        if let Some(step) = steps.last_mut() {
            step.write(key, value, cost);
        }
    }
}

/// Adds the changes of steps that change no record to the sums.
pub(crate) fn add_up(steps: &mut [Step], tree: &Tree, damage: &Damage) -> Result<(), StoreError> {
    let mut kept = kept(tree, damage)?;
    for step in steps {
        step.add_up(tree, kept.as_mut(), damage)?;
    }
    Ok(())
}

fn kept(tree: &Tree, damage: &Damage) -> Result<Option<StoredSums>, StoreError> {
    Ok(damage.set_aside(keys::SUMS, StoredSums::read(tree))?.flatten())
}
