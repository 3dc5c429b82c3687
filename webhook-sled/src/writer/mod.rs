//! The thread that decides every change and writes it.

mod deliveries;
mod keys;
mod log;
pub(crate) mod operation;
mod runs;
mod webhooks;

use std::collections::{HashMap, HashSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use webhook_core::error::chain;
use webhook_core::id::RunId;
use webhook_core::store::StoreError;

use crate::engine::batch::{Numbered, WINDOW};
use crate::engine::checkpointer::Applier;
use crate::engine::flusher::Flusher;
use crate::engine::folder::{Folder, close};
use crate::engine::group::{Change, Level};
use crate::engine::shared::{Failure, Severity, Shared};
use crate::error::{OpenError, is_full};
use crate::format::keys::CLOCK;
use crate::panics::catch;
use crate::reader::restore::{Before, Restored, restore};
use crate::writer::operation::Operation;

use keys::PendingKeys;
use log::LogEnd;
use runs::Claims;
use webhooks::Closing;

/// How often it is looked whether there is room again.
const PAUSE: Duration = Duration::from_millis(500);

/// How often the store's clock is saved while there are changes.
const CLOCK_PAUSE: Duration = Duration::from_secs(60);

pub(crate) struct Writer {
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    flusher: Flusher,
    applier: Applier,
    /// What is gathered for the next batch.
    change: Change,
    /// How many further values the records of live runs have, where they have any.
    tails: HashMap<RunId, u16>,
    /// Live runs that have large parameters in their records, as earlier formats do.
    with_large_parameters: HashSet<RunId>,
    /// Records of live runs that the database may not show yet, with the numbers of their batches, oldest first.
    unapplied: VecDeque<(u64, RunId)>,
    /// Deleted webhooks whose queued runs are being cancelled.
    closing: VecDeque<Closing>,
    claims: Claims,
    keys: PendingKeys,
    /// Where the logs of live runs are.
    logs: HashMap<RunId, LogEnd>,
    /// No run that has ended is newer than this one, so a newer one cannot be there yet.
    newest_ended: Option<RunId>,
    /// The number of the last change.
    number: u64,
    /// When the store's clock was saved.
    clock_saved: Option<std::time::Instant>,
}

impl Writer {
    /// A writer for the database as it is on disk.
    pub(crate) fn new(
        shared: Arc<Shared>,
        folder: Arc<Folder>,
        flusher: Flusher,
        applier: Applier,
        restored: Restored,
        number: u64,
    ) -> Self {
        let mut writer = Self {
            shared,
            folder,
            flusher,
            applier,
            change: Change::default(),
            tails: HashMap::new(),
            with_large_parameters: HashSet::new(),
            unapplied: VecDeque::new(),
            closing: VecDeque::new(),
            claims: Claims::default(),
            keys: PendingKeys::default(),
            logs: HashMap::new(),
            newest_ended: None,
            number,
            clock_saved: None,
        };
        writer.adopt(restored);
        writer
    }

    /// Works until the queue is closed, then closes the database.
    pub(crate) fn work(mut self) {
        let mut operations = VecDeque::new();
        let shared = self.shared.clone();
        while shared.queue.take(&mut operations, self.pause()) {
            // Whoever is about to ask for something gets the chance to come along.
            std::thread::yield_now();
            shared.queue.take_what_came(&mut operations);
            self.guarded(|writer| {
                writer.recover_if_possible();
                writer.perform(&mut operations);
            });
        }
        self.guarded(Self::finish);
        drop(self.applier);
        close(shared.database.write().take());
    }

    /// Works, and fails the store when that panics.
    fn guarded(&mut self, work: impl FnOnce(&mut Self)) {
        if let Err(panic) = catch(|| work(self)) {
            let reason = format!("the writer panicked: {panic}");
            let group = mem::take(&mut self.change).group;
            self.flusher.fail(group, Failure { reason, severity: Severity::Panicked });
        }
    }

    fn pause(&self) -> Option<Duration> {
        if !self.closing.is_empty() {
            return Some(Duration::ZERO);
        }
        self.shared.condition.failure().filter(Failure::is_recoverable).map(|_| PAUSE)
    }

    fn perform(&mut self, operations: &mut VecDeque<Operation>) {
        while let Some(operation) = operations.pop_front() {
            match self.shared.condition.check() {
                Ok(()) => self.decide(operation),
                Err(error) => operation.refuse(error),
            }
            if self.change.cost >= WINDOW {
                self.commit();
            }
            if self.flusher.is_full() {
                self.flusher.flush();
            }
        }
        self.cancel_some();
        self.commit();
        self.flusher.flush();
    }

    fn decide(&mut self, operation: Operation) {
        match operation {
            Operation::CreateWebhook(webhook, reply) => self.create_webhook(*webhook, reply),
            Operation::UpdateWebhook(webhook, expected, reply) => {
                self.update_webhook(*webhook, expected, reply);
            }
            Operation::DeleteWebhook(id, expected, now, reply) => {
                self.delete_webhook(id, expected, now, reply);
            }
            Operation::RecordUse(uses, reply) => self.record_use(&uses, reply),
            Operation::Enqueue(request, record, instant, reply) => {
                self.enqueue(*request, record, instant, reply);
            }
            Operation::Claim(request, instant, reply) => self.claim(&request, instant, reply),
            Operation::Settle(settlements, instant, reply) => self.settle(settlements, instant, reply),
            Operation::Cancel(id, now, reply) => self.cancel(id, now, reply),
            Operation::AppendLog(run, fence, text, reply) => self.append_log(run, fence, text, reply),
            Operation::SettleDeliveries(settlements, instant, reply) => {
                self.settle_deliveries(&settlements, instant, reply);
            }
            Operation::ResendDelivery(id, now, instant, reply) => self.resend(id, now, instant, reply),
            Operation::Prune(removals, expired, reply) => self.prune(removals, expired, reply),
        }
    }

    /// Makes one change of what was gathered. It is made durable with the next flush.
    fn commit(&mut self) {
        let mut change = mem::take(&mut self.change);
        if !change.writes.is_empty() {
            let mut outbox = self.shared.outbox();
            change.due.drain(..).for_each(|due| outbox.put(due.run, due.id, Some(due.channel), due.at));
            drop(outbox);
            self.save_clock(&mut change);
            self.number += 1;
            if !change.ended_logs.is_empty() {
                let ended = change.ended_logs.drain(..).map(|run| (self.number, run));
                self.shared.ended_logs.lock().extend(ended);
            }
            change.group.changes.push(Numbered { number: self.number, writes: change.writes });
        }
        self.forget_applied();
        self.flusher.add(change.group);
    }

    /// Saves the store's clock with a change, now and then.
    fn save_clock(&mut self, change: &mut Change) {
        if self.clock_saved.is_none_or(|saved| saved.elapsed() > CLOCK_PAUSE) {
            change.insert(CLOCK, self.shared.clock.save().encode().as_slice());
            self.clock_saved = Some(std::time::Instant::now());
        }
    }

    /// Waits until the database shows all that was decided.
    fn catch_up(&mut self) -> Result<(), StoreError> {
        self.commit();
        self.catch_up_before_change()
    }

    /// Waits until the database shows all that was decided before the present change.
    fn catch_up_before_change(&mut self) -> Result<(), StoreError> {
        self.wait_applied(self.number)
    }

    /// Waits until the database shows a change that was decided.
    fn wait_applied(&mut self, number: u64) -> Result<(), StoreError> {
        let backlog = &self.shared.backlog;
        let applied = self.flusher.append().and_then(|()| backlog.wait_applied(backlog.awaited(number)));
        applied.map_err(|failure| failure.error())
    }

    /// Stops all writing because what was decided cannot be written down.
    fn fail(&self, error: &StoreError) {
        self.shared.condition.fail(Failure { reason: error.to_string(), severity: Severity::Panicked });
    }

    /// Takes what was read from the database into memory, and writes down what that changed.
    fn adopt(&mut self, restored: Restored) {
        self.change = Change::default();
        self.logs.clear();
        self.claims = Claims::default();
        self.keys = PendingKeys::default();
        self.tails = restored.tails;
        self.with_large_parameters = restored.with_large_parameters;
        self.unapplied.clear();
        self.refuse_closing();
        self.newest_ended = restored.newest_ended;
        self.shared.backlog.restart(self.number);
        self.shared.stored_bytes.store(restored.stored_bytes, Ordering::Relaxed);
        *self.shared.webhooks_mut() = restored.webhooks;
        self.shared.outbox().replace(restored.outbox);
        self.shared.runs().replace(restored.live);
        let rewritten = restored.rewritten.into_iter().try_for_each(|run| self.put_restored(run));
        restored.claims.into_iter().for_each(|key| self.change.remove(key));
        if let Err(error) = rewritten {
            self.fail(&error);
        }
        self.cancel_orphans(restored.orphans);
        // The first of them before anybody can look.
        self.cancel_some();
        if !self.change.is_empty() {
            self.change.group.level = Level::Synced;
        }
        self.commit();
        self.flusher.flush();
    }

    /// Opens the database anew when the disk was full and has room again. What is executed meanwhile stays claimed.
    fn recover_if_possible(&mut self) {
        let waits_for_room =
            |writer: &Self| writer.shared.condition.failure().is_some_and(|failure| failure.is_recoverable());
        if !waits_for_room(self) || self.shared.check_space().is_err() {
            return;
        }
        self.shared.backlog.stop();
        // The applier may have met something worse.
        let Some(failure) = self.shared.condition.failure().filter(Failure::is_recoverable) else { return };
        match self.reopen(failure.severity == Severity::FullAtSync) {
            Ok(restored) => {
                if self.shared.condition.recover() {
                    self.adopt(restored);
                }
                self.shared.runs_changed.notify_waiters();
                self.shared.deliveries_changed.notify_waiters();
            }
            Err(OpenError::InUse { .. }) => {}
            Err(OpenError::Io { source, .. }) if is_full(&source) => {}
            Err(error) => {
                let reason = format!("the store cannot be opened again: {}", chain(&error));
                self.shared.condition.fail(Failure { reason, severity: Severity::Damaged });
            }
        }
    }

    fn reopen(&mut self, rewrite: bool) -> Result<Restored, OpenError> {
        let before = Before::of(&self.shared, Instant::now());
        let mut checking = self.shared.checking.lock();
        let mut database = self.shared.database.write();
        close(database.take());
        let (opened, number) = self.folder.recover(rewrite, &self.shared.damage)?;
        let (now, instant) = (SystemTime::now(), Instant::now());
        let restored = restore(&self.folder, &opened, now, instant, &before, &self.shared.damage)?;
        self.number = number;
        checking.forget();
        self.shared.ended_logs.lock().clear();
        *database = opened.into_inner();
        Ok(restored)
    }

    /// Writes what is left, and closes the folder once the database has everything.
    fn finish(&mut self) {
        if self.clock_saved.is_some() && self.shared.condition.failure().is_none() {
            // There were changes, and what time has passed since counts for their keys.
            self.change.insert(CLOCK, self.shared.clock.save().encode().as_slice());
        }
        self.commit();
        self.flusher.flush();
        let in_order = self.shared.condition.failure().is_none()
            && self.shared.backlog.wait_durable(self.number).is_ok();
        // Otherwise the journal holds what the database may lack.
        if in_order {
            // What is only as durable as the process is synced once as well.
            let synced = self.shared.files.sync(&*self.shared.disk);
            if let Err(error) = synced.and_then(|()| self.folder.close(self.number)) {
                tracing::warn!(%error, "the store was not closed in order, and its journal will be read again");
            }
        }
    }
}
