//! Writes the journal, makes it durable, and answers those who wait for that.

use std::mem;
use std::sync::Arc;

use metrics::{Histogram, describe_histogram, histogram};

use crate::engine::batch::Numbered;
use crate::engine::folder::Folder;
use crate::engine::group::{Group, Level};
use crate::engine::journal::Journal;
use crate::engine::shared::{Failure, Severity, Shared};
use crate::options::Durability;

/// Gathers groups. What comes while one is made durable is the next.
///
/// The thread that decides is also the one that waits for the disk: with a thread for each, callers would be shared out
/// between the group that is written and the one that is decided, for twice as many syncs and changes of threads.
pub(crate) struct Flusher {
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    meters: CommitMeters,
    group: Group,
}

/// With how many bytes a group is written, although more could come along. A file of the journal is longer than it is made by
/// no more than that and one change.
const GROUP_BYTES: usize = 1 << 20;

impl Flusher {
    pub(crate) fn new(shared: Arc<Shared>, folder: Arc<Folder>) -> Self {
        Self { shared, folder, meters: CommitMeters::new(), group: Group::default() }
    }

    /// Takes a group, which goes along with the next flush.
    pub(crate) fn add(&mut self, group: Group) {
        self.group.extend(group);
    }

    /// Whether nothing is gathered.
    pub(crate) fn is_idle(&self) -> bool {
        self.group.is_empty()
    }

    /// Whether no more should be gathered.
    pub(crate) fn is_full(&self) -> bool {
        self.group.bytes() >= GROUP_BYTES
    }

    /// Makes what was gathered as durable as those who wait for it need it, and answers.
    pub(crate) fn flush(&mut self) {
        if !self.group.is_empty() {
            let group = mem::take(&mut self.group);
            self.finish(group);
        }
    }

    /// Appends to the journal what was gathered, so that the database gets to show it. Nobody is answered yet.
    pub(crate) fn append(&mut self) -> Result<(), Failure> {
        let mut changes = mem::take(&mut self.group.changes);
        let written = self.write(&mut self.folder.journal(), &mut changes);
        written.map_err(|failure| self.shared.condition.fail(failure))
    }

    /// Refuses those who wait for what was gathered, and for this group.
    pub(crate) fn fail(&mut self, group: Group, failure: Failure) {
        self.group.extend(group);
        let group = mem::take(&mut self.group);
        self.refuse(group, failure);
    }

    /// Makes a group durable and answers, or fails it.
    fn finish(&self, mut group: Group) {
        let shared = &*self.shared;
        // Dropped before the group, so that whoever finds the answer missing finds out why.
        let _on_panic = FailOnPanic(shared);
        let begun = std::time::Instant::now();
        let _watched = shared.watch.begin();
        let mut journal = self.folder.journal();
        if let Err(failure) = self.write(&mut journal, &mut group.changes) {
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
            let mut runs = shared.runs();
            group.admitted.iter().for_each(|run| runs.live.commit(*run));
            let ended = group.published.iter().filter(|(run, _)| run.state.is_ended());
            ended.for_each(|(run, _)| runs.show_end(run.id));
        }
        for (run, deliveries) in &group.published {
            shared.events.publish_state(run, deliveries);
        }
        group.synced.into_iter().for_each(|acknowledge| acknowledge(Ok(())));
        if !group.published.is_empty() {
            shared.runs_changed.notify_waiters();
        }
        if group.wakes_deliveries {
            shared.deliveries_changed.notify_waiters();
        }
    }

    /// Refuses those who wait, and forgets the runs that were to be admitted.
    fn refuse(&self, group: Group, failure: Failure) {
        let shared = &*self.shared;
        let failure = shared.condition.fail(failure);
        // The writer looks now and then whether there is room again.
        shared.queue.nudge();
        {
            let mut runs = shared.runs();
            group.admitted.iter().for_each(|run| runs.live.forget(*run));
        }
        let waiting = group.flushed.into_iter().chain(group.synced);
        waiting.for_each(|acknowledge| acknowledge(Err(failure.error())));
    }

    /// Appends changes to the journal, so that they survive the process, and only then lets them go on to the database.
    fn write(&self, journal: &mut Journal, changes: &mut Vec<Numbered>) -> Result<(), Failure> {
        let shared = &*self.shared;
        // An error that was met in the background concerns these changes as well.
        if let Some(failure) = shared.condition.failure() {
            return Err(failure);
        }
        let Some(newest) = changes.last().map(|change| change.number) else { return Ok(()) };
        if let Some(number) = journal.must_be_durable() {
            shared.backlog.wait_durable(number)?;
            self.sync_journal(journal)?;
            shared.backlog.want_durable(journal.turn());
        }
        Failure::of_writing(|| {
            shared.disk.before_write()?;
            let mut records = Vec::with_capacity(changes.iter().map(|change| change.bytes() + 64).sum());
            for change in &*changes {
                records.extend(journal.record(change.number, &change.writes)?);
            }
            Ok(journal.append(&records, newest)?)
        })?;
        if shared.options.durability != Durability::Power {
            journal.needs_no_sync();
        }
        changes.drain(..).for_each(|change| shared.backlog.push(change));
        Ok(())
    }

    /// Waits for the disk.
    fn sync(&self, journal: &mut Journal) -> Result<(), Failure> {
        if !journal.is_dirty() {
            return Ok(());
        }
        self.sync_journal(journal)?;
        let noted = self.folder.superblock().acknowledge(journal.synced());
        noted.map_err(|error| Failure::of_sync("the store's superblock cannot be written", &error))?;
        self.shared.backlog.acknowledged(journal.synced());
        Ok(())
    }

    fn sync_journal(&self, journal: &mut Journal) -> Result<(), Failure> {
        if journal.is_dirty() {
            let synced = journal.sync(&*self.shared.disk);
            synced.map_err(|error| Failure::of_sync("the disk did not confirm a write", &error))?;
        }
        Ok(())
    }
}

/// Fails the store when a panic passes by.
struct FailOnPanic<'a>(&'a Shared);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "the writer panicked while it made changes durable".to_owned();
            self.0.condition.fail(Failure { reason, severity: Severity::Panicked });
        }
    }
}

/// What is counted of commits, made once when the store is opened.
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
