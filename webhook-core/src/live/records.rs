//! The records of live runs that are in memory: of all that run, and of those that wait as many as fit.

use std::collections::{BTreeMap, HashMap};
use std::mem::size_of;
use std::sync::Arc;

use crate::id::RunId;
use crate::run::{Caller, Run};

/// Records by run. Of the waiting ones, those that were put longest ago go first.
#[derive(Debug)]
pub(super) struct Records {
    held: HashMap<RunId, Held>,
    /// The waiting runs in the order in which their records were put.
    turns: BTreeMap<u64, RunId>,
    last_turn: u64,
    /// How many bytes the records of waiting runs take, and may take.
    bytes: usize,
    budget: usize,
}

#[derive(Debug)]
struct Held {
    run: Arc<Run>,
    /// Its turn and its size, while it waits.
    waits: Option<(u64, usize)>,
}

impl Records {
    /// None, of which those of waiting runs may take so many bytes.
    pub(super) fn new(budget: usize) -> Self {
        Self { held: HashMap::new(), turns: BTreeMap::new(), last_turn: 0, bytes: 0, budget }
    }

    pub(super) fn get(&self, id: RunId) -> Option<&Arc<Run>> {
        self.held.get(&id).map(|held| &held.run)
    }

    pub(super) fn has(&self, id: RunId) -> bool {
        self.held.contains_key(&id)
    }

    /// Takes a run's record, or a newer version of it.
    pub(super) fn put(&mut self, run: Arc<Run>, is_waiting: bool) {
        let id = run.id;
        self.remove(id);
        let waits = is_waiting.then(|| {
            self.last_turn += 1;
            self.turns.insert(self.last_turn, id);
            let size = memory_of(&run);
            self.bytes += size;
            (self.last_turn, size)
        });
        self.held.insert(id, Held { run, waits });
    }

    pub(super) fn remove(&mut self, id: RunId) {
        if let Some((turn, size)) = self.held.remove(&id).and_then(|held| held.waits) {
            self.turns.remove(&turn);
            self.bytes -= size;
        }
    }

    /// Forgets records of waiting runs until the rest fits.
    pub(super) fn trim(&mut self) {
        while self.bytes > self.budget
            && let Some((_, id)) = self.turns.first_key_value()
        {
            self.remove(*id);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.turns.is_empty() && self.bytes == 0
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.turns.len()
    }
}

/// About how many bytes a record takes.
fn memory_of(run: &Run) -> usize {
    let caller = &run.caller;
    let texts = [
        &caller.user_agent,
        &caller.request_id,
        &caller.token_hint,
        &caller.content_type,
        &caller.traceparent,
        &run.summary,
    ];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    let error = run.error.as_ref().map_or(0, |error| error.message.len());
    size_of::<Run>() + size_of::<Caller>() + size_of::<Held>() + 64 + texts + error + run.parameters.bytes()
}
