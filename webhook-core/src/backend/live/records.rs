//! The records of live runs in memory: of all running ones, and of as many waiting ones as fit.

use std::collections::{BTreeMap, HashMap};
use std::mem::size_of;
use std::sync::Arc;

use crate::id::RunId;
use crate::run::Run;

/// Records by run. Of waiting runs, those that were put longest ago go first.
#[derive(Debug)]
pub(crate) struct RecordCache {
    cached: HashMap<RunId, CachedRecord>,
    /// Waiting runs in the order in which their records were put.
    turns: BTreeMap<u64, RunId>,
    last_turn: u64,
    /// Bytes of the waiting runs' records: the sum of their sizes in `cached`.
    bytes: usize,
    /// Upper bound on `bytes` after a [trim](Self::trim).
    budget: usize,
}

#[derive(Debug)]
struct CachedRecord {
    run: Arc<Run>,
    /// Turn and size of the record of a waiting run.
    waits: Option<(u64, usize)>,
}

impl RecordCache {
    /// Creates an empty cache with so many bytes for waiting runs.
    pub(crate) fn new(budget: usize) -> Self {
        Self { cached: HashMap::new(), turns: BTreeMap::new(), last_turn: 0, bytes: 0, budget }
    }

    pub(crate) fn get(&self, id: RunId) -> Option<&Arc<Run>> {
        self.cached.get(&id).map(|cached| &cached.run)
    }

    pub(crate) fn has(&self, id: RunId) -> bool {
        self.cached.contains_key(&id)
    }

    /// Takes a run's record, or a newer version of it.
    pub(crate) fn put(&mut self, run: Arc<Run>, is_waiting: bool) {
        let id = run.id();
        self.remove(id);
        let waits = is_waiting.then(|| {
            self.last_turn += 1;
            self.turns.insert(self.last_turn, id);
            let size = memory_of(&run);
            self.bytes += size;
            (self.last_turn, size)
        });
        self.cached.insert(id, CachedRecord { run, waits });
    }

    pub(crate) fn remove(&mut self, id: RunId) {
        if let Some((turn, size)) = self.cached.remove(&id).and_then(|cached| cached.waits) {
            self.turns.remove(&turn);
            self.bytes -= size;
        }
    }

    /// Forgets records of waiting runs until the rest fits.
    pub(crate) fn trim(&mut self) {
        while self.bytes > self.budget
            && let Some((_, id)) = self.turns.first_key_value()
        {
            self.remove(*id);
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.cached.is_empty() && self.turns.is_empty() && self.bytes == 0
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.turns.len()
    }
}

/// Size of a record in memory, in bytes, about.
fn memory_of(run: &Run) -> usize {
    run.bytes_in_memory() + size_of::<CachedRecord>() + 64
}
