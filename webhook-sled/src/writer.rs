//! The thread that decides every change and writes it.

mod deliveries;
mod log;
mod runs;
mod webhooks;

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use webhook_core::id::RunId;
use webhook_core::store::StoreError;

use crate::commit::{Change, Group, Level};
use crate::database::Folder;
use crate::error::panic_text;
use crate::flusher::{self, Flusher};
use crate::keys;
use crate::operation::Operation;
use crate::record::encode_number;
use crate::restore::{Restored, restore};
use crate::shared::{Failure, Shared};

use log::LogEnd;
use runs::Claims;

/// How much is written before it is made durable.
///
/// sled reuses the parts of its log (512 KiB each) whose content was moved elsewhere, and it does not know what
/// the disk has confirmed. A batch that fills less than one part before the sync of the one before it is done
/// cannot overwrite anything that was moved to a place not yet synced; its pages amplify what is written by some
/// four. A larger batch is written only after that sync.
const WINDOW: usize = 96 * 1024;

/// How long what needs not be durable stays in memory only, and how often it is looked whether there is room again.
const PAUSE: Duration = Duration::from_millis(500);

pub(crate) struct Writer {
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    flusher: Flusher,
    /// What is gathered for the next batch.
    change: Change,
    /// How many further values the records of live runs have, where they have any.
    tails: HashMap<RunId, u16>,
    claims: Claims,
    /// Where the logs of live runs are.
    logs: HashMap<RunId, LogEnd>,
    /// The number of the last batch.
    number: u64,
    /// Whether something was written that nobody waits for.
    unflushed: bool,
}

impl Writer {
    /// A writer for the database as it is on disk.
    pub(crate) fn new(
        shared: Arc<Shared>,
        folder: Arc<Folder>,
        flusher: Flusher,
        restored: Restored,
        number: u64,
    ) -> Self {
        let mut writer = Self {
            shared,
            folder,
            flusher,
            change: Change::default(),
            tails: HashMap::new(),
            claims: Claims::default(),
            logs: HashMap::new(),
            number,
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
            self.recover_if_possible();
            let work = AssertUnwindSafe(|| self.perform(&mut operations));
            if let Err(panic) = catch_unwind(work) {
                let reason = format!("the writer panicked: {}", panic_text(&*panic));
                let failure = Failure { reason, is_full: false };
                flusher::fail(&shared, mem::take(&mut self.change).group, failure);
            }
        }
        self.close();
    }

    fn pause(&self) -> Option<Duration> {
        let waits_for_room = self.shared.condition.failure().is_some_and(|failure| failure.is_full);
        (self.unflushed || waits_for_room).then_some(PAUSE)
    }

    fn perform(&mut self, operations: &mut VecDeque<Operation>) {
        if operations.is_empty() && self.unflushed {
            // Nothing has come for a while.
            self.change.group.level = Level::Flushed;
            self.commit();
        }
        while let Some(operation) = operations.pop_front() {
            match self.shared.condition.check() {
                Ok(()) => self.decide(operation),
                Err(error) => operation.refuse(error),
            }
            if self.change.bytes >= WINDOW {
                self.commit();
            }
        }
        self.commit();
    }

    fn decide(&mut self, operation: Operation) {
        match operation {
            Operation::CreateWebhook(webhook, reply) => self.create_webhook(*webhook, reply),
            Operation::UpdateWebhook(webhook, expected, reply) => {
                self.update_webhook(*webhook, expected, reply);
            }
            Operation::DeleteWebhook(id, now, reply) => self.delete_webhook(id, now, reply),
            Operation::RecordUse(uses, reply) => self.record_use(&uses, reply),
            Operation::Enqueue(request, instant, reply) => self.enqueue(*request, instant, reply),
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

    /// Writes what was gathered as one batch and has it made durable.
    fn commit(&mut self) {
        let mut change = mem::take(&mut self.change);
        if change.bytes > 0 {
            if change.bytes > WINDOW {
                self.flusher.wait_idle();
            }
            self.number += 1;
            change.insert(keys::BATCH_NUMBER, encode_number(self.number).as_slice());
            if let Err(failure) = self.apply(change.batch) {
                flusher::fail(&self.shared, change.group, failure);
                return;
            }
            self.shared.runs().ending.clear();
            let mut outbox = self.shared.outbox();
            change.due.iter().for_each(|(run, id, due)| outbox.put(*run, *id, *due));
            drop(outbox);
            self.unflushed = true;
        }
        mem::take(&mut change.group.written).into_iter().for_each(|acknowledge| acknowledge(Ok(())));
        if change.group.level > Level::None {
            self.unflushed = false;
            self.flusher.submit(Group { number: self.number, ..change.group });
        }
    }

    fn apply(&self, batch: sled::Batch) -> Result<(), Failure> {
        Failure::of_writing(|| {
            self.shared.disk.before_write()?;
            match &*self.shared.database.read().unwrap_or_else(PoisonError::into_inner) {
                Some(database) => database.apply_batch(batch),
                None => Ok(()),
            }
        })
    }

    /// Stops all writing because what was decided cannot be written down.
    fn fail(&self, error: &StoreError) {
        self.shared.condition.fail(Failure { reason: error.to_string(), is_full: false });
    }

    /// Takes what was read from the database into memory, and writes down what that changed.
    fn adopt(&mut self, restored: Restored) {
        self.change = Change::default();
        self.logs.clear();
        self.claims = Claims::default();
        self.tails = restored.tails;
        *self.shared.webhooks_mut() = restored.webhooks;
        *self.shared.outbox() = restored.outbox;
        self.shared.runs().replace(restored.live);
        let interrupted = restored.interrupted.into_iter().try_for_each(|run| self.put_live(run));
        let ended = restored.ended.into_iter().try_for_each(|run| self.end_run(run));
        restored.claims.into_iter().for_each(|key| self.change.remove(key));
        if let Err(error) = interrupted.and(ended) {
            self.fail(&error);
        }
        if !self.change.is_empty() {
            self.change.group.level = Level::Synced;
        }
        self.commit();
        self.flusher.wait_idle();
    }

    /// Opens the database anew when the disk was full and has room again.
    fn recover_if_possible(&mut self) {
        let is_full = self.shared.condition.failure().is_some_and(|failure| failure.is_full);
        if !is_full || self.shared.check_space().is_err() {
            return;
        }
        self.flusher.wait_idle();
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
        let opened = self.folder.reopen()?;
        self.number = self.folder.batch_number(&opened)?;
        let restored = restore(&opened, SystemTime::now(), Instant::now())?;
        *database = Some(opened);
        Ok(restored)
    }

    fn close(mut self) {
        if self.unflushed {
            self.change.group.level = Level::Flushed;
            self.commit();
        }
        self.flusher.wait_idle();
        close(self.shared.database.write().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Lets go of a database. sled syncs it then, and panics when that fails.
fn close(database: Option<sled::Db>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(database))) {
        tracing::error!(reason = panic_text(&*panic), "the database was not closed in order");
    }
}
