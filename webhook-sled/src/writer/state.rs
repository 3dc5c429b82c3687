//! The writer's state: the change that is being gathered, and what sled does not show yet.

use std::collections::{HashMap, HashSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use webhook_core::id::RunId;
use webhook_core::store::StoreError;

use crate::engine::change::LogRecord;
use crate::engine::condition::{Failure, Severity};
use crate::engine::flusher::Flusher;
use crate::engine::group::Level;
use crate::engine::parts::Parts;
use crate::error::store_error;
use crate::format::keys::CLOCK;
use crate::format::value::tail_count;
use crate::writer::change::GatheredChange;
use crate::writer::memory::{ClosingWebhook, LogExtent, OpenClaims, PendingKeys};
use crate::writer::reply::{Decided, Decision, Reply, acknowledge, send};

/// Time between two saves of the store's clock while there are changes.
const CLOCK_PAUSE: Duration = Duration::from_secs(60);

/// Decides every change of the store. One thread owns it, so an operation sees all earlier ones, and none runs beside it.
pub(crate) struct Writer {
    pub(crate) parts: Arc<Parts>,
    pub(crate) flusher: Flusher,
    /// The change that is being gathered, for the next record.
    pub(crate) change: GatheredChange,
    /// Number of further values of live runs' records, where they have any.
    pub(crate) tails: HashMap<RunId, u16>,
    /// Live runs that have large parameters in their records, as earlier formats do.
    pub(crate) with_large_parameters: HashSet<RunId>,
    /// Live runs whose newest record sled may lack, with the sequence number of that record, oldest first.
    pub(crate) unapplied: VecDeque<(u64, RunId)>,
    pub(crate) closing: VecDeque<ClosingWebhook>,
    pub(crate) claims: OpenClaims,
    pub(crate) keys: PendingKeys,
    /// Stored parts of the logs of live runs that had a line since the opening.
    pub(crate) logs: HashMap<RunId, LogExtent>,
    /// Upper bound on the ids of ended runs. A newer run has not ended, so sled need not be asked for it.
    pub(crate) newest_ended: Option<RunId>,
    /// Sequence number of the last record. That of the gathered change is the next one.
    pub(crate) number: u64,
    /// When the store's clock was last saved.
    pub(crate) clock_saved: Option<Instant>,
}

impl Writer {
    /// A writer that goes on after this record, and has no runs yet.
    pub(crate) fn new(parts: Arc<Parts>, flusher: Flusher, number: u64) -> Self {
        Self {
            parts,
            flusher,
            change: GatheredChange::default(),
            tails: HashMap::new(),
            with_large_parameters: HashSet::new(),
            unapplied: VecDeque::new(),
            closing: VecDeque::new(),
            claims: OpenClaims::default(),
            keys: PendingKeys::default(),
            logs: HashMap::new(),
            newest_ended: None,
            number,
            clock_saved: None,
        }
    }

    /// Tells a caller what was decided: at once, or when the gathered change is durable enough.
    pub(crate) fn tell<T: Send + 'static>(&mut self, reply: Reply<T>, decided: Decided<T>) {
        match decided {
            Ok(Decision { result, level: Level::None }) => send(reply, Ok(result)),
            Ok(Decision { result, level }) => self.change.group.when(level, acknowledge(reply, result)),
            Err(error) => send(reply, Err(error)),
        }
    }

    /// Makes a record of the gathered change. It becomes durable with the next flush.
    pub(crate) fn commit(&mut self) {
        let mut change = mem::take(&mut self.change);
        if !change.writes.is_empty() {
            let mut deliveries = self.parts.deliveries();
            for due in change.due.drain(..) {
                deliveries.put(due.run, due.id, Some(due.channel), due.at);
            }
            drop(deliveries);
            self.save_clock(&mut change);
            self.number += 1;
            if !change.ended_logs.is_empty() {
                let ended = change.ended_logs.drain(..).map(|run| (self.number, run));
                self.parts.ended_logs.lock().extend(ended);
            }
            change.group.records.push(LogRecord { number: self.number, writes: change.writes });
        }
        self.forget_applied();
        self.flusher.add(change.group);
    }

    /// Saves the store's clock with a change, now and then.
    fn save_clock(&mut self, change: &mut GatheredChange) {
        if self.clock_saved.is_none_or(|saved| saved.elapsed() > CLOCK_PAUSE) {
            change.insert(CLOCK, self.parts.clock.save().encode().as_slice());
            self.clock_saved = Some(Instant::now());
        }
    }

    /// Forgets the runs whose newest record has reached sled.
    fn forget_applied(&mut self) {
        if !self.unapplied.is_empty() {
            let applied = self.parts.checkpoints.applied();
            while self.unapplied.front().is_some_and(|(number, _)| *number <= applied) {
                self.unapplied.pop_front();
            }
        }
    }

    /// Waits until sled shows everything that was decided.
    pub(crate) fn catch_up(&mut self) -> Result<(), StoreError> {
        self.commit();
        self.catch_up_before_change()
    }

    /// Waits until sled shows everything that was decided before the gathered change.
    pub(crate) fn catch_up_before_change(&mut self) -> Result<(), StoreError> {
        self.wait_applied(self.number)
    }

    /// Waits until sled shows a record.
    pub(crate) fn wait_applied(&mut self, number: u64) -> Result<(), StoreError> {
        debug_assert!(number <= self.number, "the gathered change would be waited for without end");
        let checkpoints = &self.parts.checkpoints;
        let applied =
            self.flusher.append().and_then(|()| checkpoints.wait_applied(checkpoints.record(number)));
        applied.map_err(|failure| failure.error())
    }

    /// Stops all writing, because memory has changed and the record of that cannot be made.
    pub(crate) fn fail(&self, error: &StoreError) {
        let failure = Failure { reason: error.to_string(), severity: Severity::Panicked };
        self.parts.condition.fail(failure);
    }

    /// Number of further values of the record under this key in sled. The gathered change may have changed it. A part that is
    /// left over then belongs to no record and is harmless.
    pub(crate) fn stored_tails(&self, key: &[u8]) -> Result<u16, StoreError> {
        let head = self.parts.database.read(|tree| tree.get(key).map_err(store_error))?;
        head.map_or(Ok(0), |head| tail_count(&head))
    }
}
