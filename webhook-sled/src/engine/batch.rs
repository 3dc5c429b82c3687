//! Gathering log records for one checkpoint.

use std::collections::{BTreeMap, VecDeque};

use sled::IVec;
use webhook_core::id::RunId;

use crate::engine::change::{LogRecord, Write, cost};
use crate::format::keys::{self, ENDED};

/// Upper bound on the changes of sled between two syncs, in bytes.
///
/// sled reuses a segment of its log (512 KiB) once its content was moved elsewhere, and does not know what the disk has
/// confirmed. If less than a segment is written between two syncs, the content of a reused segment was moved before the
/// last sync. For each byte of a change, sled writes about four.
pub(crate) const BYTES_BETWEEN_SYNCS: usize = 96 * 1024;

/// Log records that reach sled together. Of several writes of one key, only the last is left: much is removed soon after it
/// was put.
#[derive(Default)]
pub(crate) struct CheckpointBatch {
    writes: BTreeMap<IVec, (Option<IVec>, bool)>,
    cost: usize,
    /// Sequence number of the last record in it.
    pub(crate) number: u64,
}

impl CheckpointBatch {
    /// Takes as many records as may be written together, at least one. `None` when there are none.
    pub(crate) fn take_from(records: &mut VecDeque<LogRecord>) -> Option<Self> {
        let mut batch = Self::default();
        while let Some(next) = records.front()
            && (batch.number == 0 || batch.has_room_for(next))
        {
            debug_assert!(next.number > batch.number, "sequence numbers only grow");
            batch.number = next.number;
            for write in records.pop_front()?.writes {
                batch.add(write);
            }
        }
        (batch.number > 0).then_some(batch)
    }

    /// Returns true if a record fits into it. A record that removes values of the batch makes room.
    fn has_room_for(&self, next: &LogRecord) -> bool {
        let gross = next.cost();
        if self.cost + gross <= BYTES_BETWEEN_SYNCS {
            return true;
        }
        // A value that the record itself puts and removes costs nothing either.
        let mut net = Self::default();
        for write in &next.writes {
            net.add(write.clone());
        }
        let removed: usize = net.writes.iter().filter_map(|(key, (value, _))| self.saved(key, value)).sum();
        self.cost + net.cost <= BYTES_BETWEEN_SYNCS + removed
    }

    /// Returns the cost that is saved when this replaces the write under the same key, or `None` where there is none.
    ///
    /// Removing a value that the database never had costs nothing.
    fn saved(&self, key: &IVec, value: &Option<IVec>) -> Option<usize> {
        let (old, was_fresh) = self.writes.get(key)?;
        let removal = if *was_fresh && value.is_none() { cost(key, None) } else { 0 };
        Some(cost(key, old.as_ref()) + removal)
    }

    fn add(&mut self, write: Write) {
        let added = write.cost();
        let Write { key, value, fresh } = write;
        let (mut fresh, is_removal) = (fresh, value.is_none());
        if let Some((old, was_fresh)) = self.writes.get(&key) {
            self.cost -= cost(&key, old.as_ref());
            fresh |= *was_fresh;
        }
        if fresh && is_removal {
            // The database never had it.
            self.writes.remove(&key);
            return;
        }
        self.cost += added;
        self.writes.insert(key, (value, fresh));
    }

    /// Runs in it that have ended.
    pub(crate) fn ended(&self) -> Vec<RunId> {
        let ended = self.writes.range(IVec::from(&[ENDED])..IVec::from(&[ENDED + 1]));
        ended.filter_map(|(key, _)| keys::last_id(key).map(RunId::from_bytes)).collect()
    }

    /// The remaining write of each key: its value, or `None` for a removal; and true if the database never had the key.
    pub(crate) fn into_writes(self) -> impl Iterator<Item = (IVec, (Option<IVec>, bool))> {
        self.writes.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::value::VALUE_BYTES;

    fn part(number: u16, value: Option<&[u8]>, fresh: bool) -> Write {
        let key = IVec::from(keys::tail(b"record", number));
        Write { key, value: value.map(IVec::from), fresh }
    }

    #[test]
    fn what_is_put_and_removed_again_takes_no_room_in_a_batch() {
        let value = [7; VALUE_BYTES];
        let numbers = 0..15;
        let puts: Vec<Write> = numbers.clone().map(|number| part(number, Some(&value), true)).collect();
        let removals: Vec<Write> = numbers.map(|number| part(number, None, false)).collect();
        let both = [puts.clone(), removals.clone()].concat();
        let batches = [puts, removals, both].into_iter().zip(1..);
        let mut batches: VecDeque<_> = batches.map(|(writes, number)| LogRecord { number, writes }).collect();
        let batch = CheckpointBatch::take_from(&mut batches).unwrap();
        assert!(batch.number == 3 && batch.cost == 0 && batch.writes.is_empty());
    }
}
