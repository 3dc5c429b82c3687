//! The thread of the writer: takes operations, commits what they decide, and recovers from a full disk.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use webhook_core::error::chain;

use crate::engine::batch::BYTES_BETWEEN_SYNCS;
use crate::engine::checkpointer::Checkpointer;
use crate::engine::condition::{Failure, Severity};
use crate::engine::folder::Folder;
use crate::engine::group::Level;
use crate::error::{OpenError, comes_of_full_disk};
use crate::format::keys::CLOCK;
use crate::panics::catch;
use crate::reader::restore::{EarlierMemory, RestoredState, restore};
use crate::writer::change::GatheredChange;
use crate::writer::memory::{OpenClaims, PendingKeys};
use crate::writer::operation::Operation;
use crate::writer::queue::Queue;
use crate::writer::state::Writer;

/// Pause between two looks whether the disk has room again.
const RECOVERY_PAUSE: Duration = Duration::from_millis(500);

/// The writer with what its thread needs besides.
pub(crate) struct WriterThread {
    pub(crate) writer: Writer,
    pub(crate) queue: Arc<Queue<Operation>>,
    pub(crate) folder: Arc<Folder>,
    pub(crate) checkpointer: Checkpointer,
}

impl WriterThread {
    /// Works until the queue is closed, then closes the database.
    pub(crate) fn run(mut self) {
        let mut operations = VecDeque::new();
        let queue = self.queue.clone();
        while queue.take(&mut operations, self.pause()) {
            // A caller that is about to ask can join this group.
            std::thread::yield_now();
            queue.take_more(&mut operations);
            self.guarded(|thread| {
                thread.recover_if_possible();
                thread.perform(&mut operations);
            });
        }
        self.guarded(Self::finish);
        let parts = self.writer.parts.clone();
        drop(self.checkpointer);
        parts.database.close();
    }

    /// Works, and fails the store when that panics.
    fn guarded(&mut self, work: impl FnOnce(&mut Self)) {
        if let Err(panic) = catch(|| work(self)) {
            let reason = format!("the writer panicked: {panic}");
            let group = mem::take(&mut self.writer.change).group;
            self.writer.flusher.fail(group, Failure { reason, severity: Severity::Panicked });
        }
    }

    /// Longest wait for operations. `None` when there is nothing else to do.
    fn pause(&self) -> Option<Duration> {
        if !self.writer.closing.is_empty() {
            return Some(Duration::ZERO);
        }
        let failure = self.writer.parts.condition.failure();
        failure.filter(Failure::is_recoverable).map(|_| RECOVERY_PAUSE)
    }

    fn perform(&mut self, operations: &mut VecDeque<Operation>) {
        let writer = &mut self.writer;
        while let Some(operation) = operations.pop_front() {
            match writer.parts.condition.check() {
                Ok(()) => operation(Ok(writer)),
                Err(error) => operation(Err(error)),
            }
            // A record must fit into one checkpoint batch.
            if writer.change.cost >= BYTES_BETWEEN_SYNCS {
                writer.commit();
            }
            if writer.flusher.is_full() {
                writer.flusher.flush();
            }
        }
        writer.cancel_some();
        writer.commit();
        writer.flusher.flush();
    }

    /// Takes what was read from the database into memory, and records what that changed.
    pub(crate) fn adopt(&mut self, restored: RestoredState) {
        let writer = &mut self.writer;
        writer.change = GatheredChange::default();
        writer.logs.clear();
        writer.claims = OpenClaims::default();
        writer.keys = PendingKeys::default();
        writer.tails = restored.tails;
        writer.with_large_parameters = restored.with_large_parameters;
        writer.unapplied.clear();
        writer.refuse_closing();
        writer.newest_ended = restored.newest_ended;
        let parts = writer.parts.clone();
        parts.checkpoints.restart(writer.number);
        parts.database.set_stored_bytes(restored.stored_bytes);
        *parts.webhooks_mut() = restored.webhooks;
        parts.deliveries().replace(restored.deliveries);
        parts.runs().replace(restored.live);
        let rewritten = restored.rewritten.into_iter().try_for_each(|run| writer.put_restored(run));
        for key in restored.claims {
            writer.change.remove(key);
        }
        if let Err(error) = rewritten {
            writer.fail(&error);
        }
        writer.cancel_orphans(restored.orphans);
        // Cancels the first batch of them before a caller can read.
        writer.cancel_some();
        if !writer.change.is_empty() {
            writer.change.group.level = Level::Synced;
        }
        writer.commit();
        writer.flusher.flush();
    }

    /// Opens the database again when the disk was full and has room again. Runs that execute meanwhile stay claimed.
    fn recover_if_possible(&mut self) {
        let parts = self.writer.parts.clone();
        let waits_for_room = || parts.condition.failure().filter(Failure::is_recoverable);
        if waits_for_room().is_none() || parts.capacity.check_space().is_err() {
            return;
        }
        parts.checkpoints.stop();
        // The checkpointer may have met something worse.
        let Some(failure) = waits_for_room() else { return };
        match self.reopen(failure.severity == Severity::FullAtSync) {
            Ok(restored) => {
                if parts.condition.recover() {
                    self.adopt(restored);
                }
                parts.announcements.runs_changed.notify_waiters();
                parts.announcements.deliveries_changed.notify_waiters();
            }
            Err(OpenError::InUse { .. }) => {}
            Err(error) if comes_of_full_disk(&error) => {}
            Err(error) => {
                let reason = format!("the store cannot be opened again: {}", chain(&error));
                parts.condition.fail(Failure { reason, severity: Severity::Damaged });
            }
        }
    }

    fn reopen(&mut self, rewrite: bool) -> Result<RestoredState, OpenError> {
        let parts = self.writer.parts.clone();
        let before = EarlierMemory::of(&parts, Instant::now());
        let (restored, number) = parts.database.reopen(|| {
            let (opened, number) = self.folder.recover(rewrite, parts.damage())?;
            let (now, instant) = (SystemTime::now(), Instant::now());
            let restored = restore(&self.folder, &opened, now, instant, &before, parts.damage())?;
            Ok::<_, OpenError>((opened.into_inner(), (restored, number)))
        })?;
        self.writer.number = number;
        // Sequence numbers may be given again, so these say nothing any more. The logs keep their parts.
        parts.ended_logs.lock().clear();
        Ok(restored)
    }

    /// Writes what is left, and closes the folder once the database has everything.
    fn finish(&mut self) {
        let writer = &mut self.writer;
        let parts = writer.parts.clone();
        if writer.clock_saved.is_some() && parts.condition.failure().is_none() {
            // There were changes, and the time since then counts for their idempotency keys.
            writer.change.insert(CLOCK, parts.clock.save().encode().as_slice());
        }
        writer.commit();
        writer.flusher.flush();
        let in_order =
            parts.condition.failure().is_none() && parts.checkpoints.wait_durable(writer.number).is_ok();
        // Otherwise the journal holds what the database may lack.
        if in_order {
            // With `Durability::Process`, this is the only sync.
            let synced = parts.database.sync_files();
            if let Err(error) = synced.and_then(|()| self.folder.close(writer.number)) {
                tracing::warn!(%error, "the store was not closed in order, and its journal will be read again");
            }
        }
    }
}
