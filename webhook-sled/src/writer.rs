//! The thread that decides every change and writes it.

mod deliveries;
mod keys;
mod log;
mod runs;
mod webhooks;

use std::collections::{HashMap, HashSet, VecDeque};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use webhook_core::id::RunId;
use webhook_core::store::StoreError;

use crate::backlog::Applier;
use crate::commit::{Change, Level};
use crate::database::Folder;
use crate::error::panic_text;
use crate::flusher::Flusher;
use crate::journal;
use crate::keys::{CLOCK, COUNTS};
use crate::operation::Operation;
use crate::record::Counts;
use crate::restore::{Restored, restore};
use crate::shared::{Failure, Shared, lock};
use crate::window::{Numbered, WINDOW};

use keys::PendingKeys;
use log::LogEnd;
use runs::Claims;
use webhooks::Closing;

/// How long what needs not be durable stays in memory only, and how often it is looked whether there is room again.
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
    /// The number of the last batch.
    number: u64,
    /// When the store's clock was saved.
    clock_saved: Option<std::time::Instant>,
    /// How many records there are, as written last.
    counts: Option<Counts>,
    /// Whether something was written that nobody waits for.
    unflushed: bool,
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
            counts: None,
            unflushed: false,
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
        close(shared.database.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Works, and fails the store when that panics.
    fn guarded(&mut self, work: impl FnOnce(&mut Self)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) {
            let reason = format!("the writer panicked: {}", panic_text(&*panic));
            let group = mem::take(&mut self.change).group;
            self.flusher.fail(group, Failure { reason, is_full: false });
        }
    }

    fn pause(&self) -> Option<Duration> {
        if !self.closing.is_empty() {
            return Some(Duration::ZERO);
        }
        let waits_for_room = self.shared.condition.failure().is_some_and(|failure| failure.is_full);
        (self.unflushed || waits_for_room).then_some(PAUSE)
    }

    fn perform(&mut self, operations: &mut VecDeque<Operation>) {
        if operations.is_empty() && self.unflushed && self.closing.is_empty() {
            // Nothing has come for a while.
            self.change.group.level = Level::Flushed;
            self.commit();
        }
        while let Some(operation) = operations.pop_front() {
            match self.shared.condition.check() {
                Ok(()) => self.decide(operation),
                Err(error) => operation.refuse(error),
            }
            if self.change.cost >= WINDOW {
                self.commit();
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
            Operation::SettleDeliveries(outcomes, instant, reply) => {
                self.settle_deliveries(&outcomes, instant, reply);
            }
            Operation::ResendDelivery(id, now, instant, reply) => self.resend(id, now, instant, reply),
            Operation::Prune(removals, expired, reply) => self.prune(removals, expired, reply),
        }
    }

    /// Makes one batch of what was gathered. It is made durable with the next flush.
    fn commit(&mut self) {
        let mut change = mem::take(&mut self.change);
        if !change.writes.is_empty() {
            let mut outbox = self.shared.outbox();
            change.due.iter().for_each(|(run, id, due)| outbox.put(*run, *id, *due));
            drop(outbox);
            self.count(&mut change);
            self.save_clock(&mut change);
            self.number += 1;
            let ended = change.ended_logs.drain(..).map(|run| (self.number, run));
            lock(&self.shared.ended_logs).extend(ended);
            change.group.frames = journal::frame(self.number, &change.writes);
            self.shared.backlog.push(Numbered { number: self.number, writes: change.writes });
            self.unflushed = true;
        }
        self.forget_applied();
        change.group.number = self.number;
        mem::take(&mut change.group.written).into_iter().for_each(|acknowledge| acknowledge(Ok(())));
        if change.group.is_urgent() {
            self.unflushed = false;
        }
        if change.group.is_urgent() || !change.group.frames.is_empty() {
            self.flusher.add(change.group);
        }
    }

    /// Notes how many records there are with a change, so that it is seen when some are missing.
    fn count(&mut self, change: &mut Change) {
        let pending = self.shared.outbox().len() as u64;
        let webhooks = self.shared.webhooks().len() as u64;
        let live = {
            let runs = self.shared.runs();
            (runs.live.queued() + runs.live.running()) as u64
        };
        let counts = Counts { webhooks, live, pending };
        if self.counts != Some(counts) {
            change.insert(COUNTS, counts.encode().as_slice());
            self.counts = Some(counts);
        }
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
    fn catch_up_before_change(&self) -> Result<(), StoreError> {
        self.shared.backlog.wait_applied(self.number).map_err(|failure| failure.error())
    }

    /// Stops all writing because what was decided cannot be written down.
    fn fail(&self, error: &StoreError) {
        self.shared.condition.fail(Failure { reason: error.to_string(), is_full: false });
    }

    /// Takes what was read from the database into memory, and writes down what that changed.
    fn adopt(&mut self, restored: Restored) {
        self.change = Change::default();
        self.counts = None;
        self.logs.clear();
        self.claims = Claims::default();
        self.keys = PendingKeys::default();
        self.tails = restored.tails;
        self.with_large_parameters = restored.with_large_parameters;
        self.unapplied.clear();
        self.refuse_closing();
        self.newest_ended = restored.newest_ended;
        self.shared.backlog.restart(self.number);
        *self.shared.webhooks_mut() = restored.webhooks;
        *self.shared.outbox() = restored.outbox;
        self.shared.runs().replace(restored.live);
        let interrupted = restored.interrupted.into_iter().try_for_each(|run| self.put_restored(run));
        restored.claims.into_iter().for_each(|key| self.change.remove(key));
        if let Err(error) = interrupted {
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

    /// Opens the database anew when the disk was full and has room again.
    fn recover_if_possible(&mut self) {
        let is_full = self.shared.condition.failure().is_some_and(|failure| failure.is_full);
        if !is_full || self.shared.check_space().is_err() {
            return;
        }
        self.flusher.forget();
        self.shared.backlog.stop();
        match self.reopen() {
            Ok(restored) => {
                self.shared.condition.recover();
                self.adopt(restored);
                self.shared.runs_changed.notify_waiters();
                self.shared.deliveries_changed.notify_waiters();
            }
            Err(error) => tracing::warn!(%error, "the store cannot be opened again yet"),
        }
    }

    fn reopen(&mut self) -> Result<Restored, Box<dyn std::error::Error>> {
        let mut database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner);
        close(database.take());
        let opened = self.folder.recover(&self.shared.damage)?;
        self.number = self.folder.batch_number(&opened)?;
        let restored = restore(&opened, SystemTime::now(), Instant::now(), &self.shared.damage)?;
        lock(&self.shared.checking).forget();
        lock(&self.shared.ended_logs).clear();
        *database = Some(opened);
        Ok(restored)
    }

    /// Writes what is left, and empties the journal once sled has all that is in it.
    fn finish(&mut self) {
        if self.clock_saved.is_some() && self.shared.condition.failure().is_none() {
            // There were changes, and what time has passed since counts for their keys.
            self.change.insert(CLOCK, self.shared.clock.save().encode().as_slice());
            self.unflushed = true;
        }
        if self.unflushed {
            self.change.group.level = Level::Flushed;
            self.commit();
        }
        self.flusher.flush();
        let in_order = self.shared.condition.failure().is_none()
            && self.shared.backlog.wait_durable(self.number).is_ok();
        // Otherwise the journal holds what the database may lack.
        if in_order && let Err(error) = self.folder.journal().empty() {
            tracing::warn!(%error, "the journal was not emptied, and will be read again");
        }
    }
}

/// Lets go of a database. sled syncs it then, and panics when that fails.
fn close(database: Option<sled::Db>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(database))) {
        tracing::error!(reason = panic_text(&*panic), "the database was not closed in order");
    }
}
