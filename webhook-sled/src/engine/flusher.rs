//! Group commit: appends groups to the journal, syncs it, and tells the callers.

use std::mem;
use std::sync::Arc;

use metrics::{Histogram, describe_histogram, histogram};
use parking_lot::Mutex;

use crate::engine::announcements::Announcements;
use crate::engine::change::LogRecord;
use crate::engine::checkpoint_queue::CheckpointQueue;
use crate::engine::condition::{Condition, Failure, Severity};
use crate::engine::database::Database;
use crate::engine::folder::Folder;
use crate::engine::group::{Group, Level};
use crate::engine::journal::Journal;
use crate::engine::visible_runs::VisibleRuns;
use crate::options::Durability;

/// Bytes of records at which a group is written at once, although more could join it. So a file of the journal exceeds its
/// size by at most this and one record.
const GROUP_BYTES: usize = 1 << 20;

/// Gathers groups. Operations that arrive while one becomes durable are the next group.
///
/// The thread of the writer calls it, so one thread decides and waits for the disk. Two threads would divide the callers
/// between the group that is written and the one that is decided: twice as many syncs and switches.
pub(crate) struct Flusher {
    store: Flushed,
    meters: CommitMeters,
    group: Group,
}

/// The parts of the store that the flusher works on.
pub(crate) struct Flushed {
    pub(crate) folder: Arc<Folder>,
    pub(crate) database: Arc<Database>,
    pub(crate) condition: Arc<Condition>,
    pub(crate) checkpoints: Arc<CheckpointQueue>,
    pub(crate) runs: Arc<Mutex<VisibleRuns>>,
    pub(crate) announcements: Arc<Announcements>,
}

impl Flusher {
    pub(crate) fn new(store: Flushed) -> Self {
        Self { store, meters: CommitMeters::new(), group: Group::default() }
    }

    /// Adds a group to the next flush.
    pub(crate) fn add(&mut self, group: Group) {
        self.group.extend(group);
    }

    /// Returns true if there is nothing to flush.
    pub(crate) fn is_idle(&self) -> bool {
        self.group.is_empty()
    }

    /// Returns true if the group is large enough to be flushed at once.
    pub(crate) fn is_full(&self) -> bool {
        self.group.bytes() >= GROUP_BYTES
    }

    /// Makes the gathered group as durable as its callers need it, and tells them.
    pub(crate) fn flush(&mut self) {
        if !self.group.is_empty() {
            let group = mem::take(&mut self.group);
            self.finish(group);
        }
    }

    /// Appends the gathered records to the journal, so sled gets them soon. No caller is told yet.
    pub(crate) fn append(&mut self) -> Result<(), Failure> {
        let mut records = mem::take(&mut self.group.records);
        let written = self.write(&mut self.store.folder.journal(), &mut records);
        written.map_err(|failure| self.store.condition.fail(failure))
    }

    /// Refuses the gathered group and this one.
    pub(crate) fn fail(&mut self, group: Group, failure: Failure) {
        self.group.extend(group);
        let group = mem::take(&mut self.group);
        self.refuse(group, failure);
    }

    /// Makes a group durable and tells its callers, or refuses it.
    fn finish(&self, mut group: Group) {
        let store = &self.store;
        // Dropped before the group: a caller whose reply is dropped then finds the failure.
        let _on_panic = FailOnPanic(&store.condition);
        let begun = std::time::Instant::now();
        let _watched = store.database.watch().begin();
        let mut journal = store.folder.journal();
        if let Err(failure) = self.write(&mut journal, &mut group.records) {
            return self.refuse(group, failure);
        }
        for acknowledge in mem::take(&mut group.flushed) {
            acknowledge(Ok(()));
        }
        if group.level == Level::Synced
            && let Err(failure) = self.sync(&mut journal)
        {
            return self.refuse(group, failure);
        }
        drop(journal);
        self.meters.seconds.record(begun.elapsed());
        self.meters.size.record(group.synced.len() as f64);
        {
            // One lock for the whole group: a claim waits for it at most once.
            let mut runs = store.runs.lock();
            for run in &group.admitted {
                runs.live.commit(*run);
            }
            for (run, _) in group.published.iter().filter(|(run, _)| run.state().is_ended()) {
                runs.show_end(run.id());
            }
        }
        // After the runs show their new states, so a listener that reads a run on its event finds them.
        for (run, deliveries) in &group.published {
            store.announcements.events.publish_state(run, deliveries);
        }
        for acknowledge in group.synced {
            acknowledge(Ok(()));
        }
        if group.wakes_runs || !group.published.is_empty() {
            store.announcements.runs_changed.notify_waiters();
        }
        if group.wakes_deliveries {
            store.announcements.deliveries_changed.notify_waiters();
        }
    }

    /// Refuses the callers of a group, and forgets its new runs.
    fn refuse(&self, group: Group, failure: Failure) {
        let failure = self.store.condition.fail(failure);
        {
            let mut runs = self.store.runs.lock();
            for run in &group.admitted {
                runs.live.forget(*run);
            }
        }
        for acknowledge in group.flushed.into_iter().chain(group.synced) {
            acknowledge(Err(failure.error()));
        }
    }

    /// Appends records to the journal, where they survive the process, and only then gives them to the checkpointer.
    fn write(&self, journal: &mut Journal, records: &mut Vec<LogRecord>) -> Result<(), Failure> {
        let store = &self.store;
        // A failure in the background concerns these records too.
        if let Some(failure) = store.condition.failure() {
            return Err(failure);
        }
        let Some(newest) = records.last().map(|record| record.number) else { return Ok(()) };
        if let Some(number) = journal.must_be_durable() {
            // The other file is overwritten, so sled must hold its content. The full file is synced before it is left, since
            // later syncs concern the other one. It is wanted durable in sled now, so the next turn need not wait.
            store.checkpoints.wait_durable(number)?;
            self.sync_journal(journal)?;
            store.checkpoints.want_durable(journal.turn());
        }
        Failure::of_writing(|| {
            store.database.disk().before_write()?;
            let mut bytes = Vec::with_capacity(records.iter().map(|record| record.bytes() + 64).sum());
            for record in &*records {
                bytes.extend(journal.record(record.number, &record.writes)?);
            }
            Ok(journal.append(&bytes, newest)?)
        })?;
        if store.database.durability() != Durability::Power {
            journal.needs_no_sync();
        }
        for record in records.drain(..) {
            store.checkpoints.push(record);
        }
        Ok(())
    }

    /// Makes the appended records durable, and notes that in the superblock.
    fn sync(&self, journal: &mut Journal) -> Result<(), Failure> {
        if !journal.is_dirty() {
            return Ok(());
        }
        self.sync_journal(journal)?;
        let noted = self.store.folder.superblock().acknowledge(journal.synced());
        noted.map_err(|error| Failure::of_sync("the store's superblock cannot be written", &error))?;
        self.store.checkpoints.acknowledge(journal.synced());
        Ok(())
    }

    fn sync_journal(&self, journal: &mut Journal) -> Result<(), Failure> {
        if journal.is_dirty() {
            let synced = journal.sync(self.store.database.disk());
            synced.map_err(|error| Failure::of_sync("the disk did not confirm a write", &error))?;
        }
        Ok(())
    }
}

/// Fails the store when it is dropped by a panic.
struct FailOnPanic<'a>(&'a Condition);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "the writer panicked while it made changes durable".to_owned();
            self.0.fail(Failure { reason, severity: Severity::Panicked });
        }
    }
}

/// Metrics of commits, looked up once when the store is opened.
struct CommitMeters {
    seconds: Histogram,
    size: Histogram,
}

impl CommitMeters {
    fn new() -> Self {
        describe_histogram!("webhook_store_commit_seconds", "How long a group of changes took to be durable");
        describe_histogram!("webhook_store_commit_size", "How many changes were answered by one commit");
        Self {
            seconds: histogram!("webhook_store_commit_seconds"),
            size: histogram!("webhook_store_commit_size"),
        }
    }
}
