//! Writes the journal, makes it durable, and answers those who wait for that.

use std::mem;
use std::sync::Arc;

use metrics::{Histogram, describe_histogram, histogram};

use crate::commit::{Group, Level};
use crate::database::Folder;
use crate::journal::Journal;
use crate::options::Durability;
use crate::shared::{Failure, Shared};

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

/// How many bytes may be gathered that nobody waits for.
const MOST_GATHERED: usize = 1 << 20;

impl Flusher {
    pub(crate) fn new(shared: Arc<Shared>, folder: Arc<Folder>) -> Self {
        Self { shared, folder, meters: CommitMeters::new(), group: Group::default() }
    }

    /// Takes a group, which goes along with the next flush.
    pub(crate) fn add(&mut self, group: Group) {
        self.group.extend(group);
        if self.group.frames.len() > MOST_GATHERED {
            self.group.level = self.group.level.max(Level::Flushed);
        }
    }

    /// Whether everything that somebody waits for is durable.
    pub(crate) fn is_idle(&self) -> bool {
        !self.group.is_urgent()
    }

    /// Makes durable what somebody waits for, and answers.
    pub(crate) fn flush(&mut self) {
        if self.group.is_urgent() {
            let group = mem::take(&mut self.group);
            self.finish(group);
        }
    }

    /// Forgets what nobody waits for.
    pub(crate) fn forget(&mut self) {
        self.group = Group::default();
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
        if let Err(failure) = self.write(&mut journal, &group) {
            return self.refuse(group, failure);
        }
        mem::take(&mut group.flushed).into_iter().for_each(|acknowledge| acknowledge(Ok(())));
        if group.level == Level::Synced
            && let Err(failure) = self.sync(&mut journal, group.number)
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
        let waiting = group.written.into_iter().chain(group.flushed).chain(group.synced);
        waiting.for_each(|acknowledge| acknowledge(Err(failure.error())));
    }

    /// Appends a group to the journal, so that it survives the process.
    fn write(&self, journal: &mut Journal, group: &Group) -> Result<(), Failure> {
        let shared = &*self.shared;
        // An error that was met in the background concerns these changes as well.
        if let Some(failure) = shared.condition.failure() {
            return Err(failure);
        }
        if group.frames.is_empty() {
            return Ok(());
        }
        if let Some(number) = journal.must_be_durable() {
            shared.backlog.wait_durable(number)?;
            self.sync_journal(journal)?;
            shared.backlog.want_durable(journal.turn());
        }
        Failure::of_writing(|| {
            shared.disk.before_write()?;
            Ok(journal.append(&group.frames, group.number)?)
        })
    }

    /// Waits for the disk.
    fn sync(&self, journal: &mut Journal, number: u64) -> Result<(), Failure> {
        if self.shared.options.durability != Durability::Power || !journal.is_dirty {
            return Ok(());
        }
        self.sync_journal(journal)?;
        let noted = self.folder.superblock.acknowledge(number);
        noted.map_err(|error| Failure::of_sync("the store's superblock cannot be written", &error))
    }

    fn sync_journal(&self, journal: &mut Journal) -> Result<(), Failure> {
        if self.shared.options.durability == Durability::Power && journal.is_dirty {
            let synced = self.shared.disk.sync_journal(&journal.file());
            synced.map_err(|error| Failure::of_sync("the disk did not confirm a write", &error))?;
            journal.is_dirty = false;
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
            self.0.condition.fail(Failure { reason, is_full: false });
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
