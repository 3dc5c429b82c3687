//! The thread that writes the journal, makes it durable, and answers those who wait for that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::{io, mem};

use metrics::{Histogram, describe_histogram, histogram};

use crate::commit::{Group, Level};
use crate::database::Folder;
use crate::error::panic_text;
use crate::journal::Journal;
use crate::options::Durability;
use crate::shared::{Failure, Shared, lock};

/// Hands groups to the thread. What comes while one is made durable becomes one group, and is next.
pub(crate) struct Flusher {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// How many bytes of groups may wait.
const MOST_WAITING: usize = 1 << 20;

#[derive(Default)]
struct Desk {
    state: Mutex<DeskState>,
    changed: Condvar,
}

#[derive(Default)]
struct DeskState {
    group: Option<Group>,
    busy: bool,
    closed: bool,
}

impl Flusher {
    pub(crate) fn start(shared: Arc<Shared>, folder: Arc<Folder>) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let worker = desk.clone();
        let meters = CommitMeters::new();
        let thread = Builder::new()
            .name("webhook-sled-flusher".to_owned())
            .spawn(move || worker.work(&shared, &folder, &meters))?;
        Ok(Self { desk, thread: Some(thread) })
    }

    /// Hands over a group. One that nobody waits for goes along with the next.
    pub(crate) fn submit(&self, group: Group) {
        let full = |state: &mut DeskState| {
            state
                .group
                .as_ref()
                .is_some_and(|waiting| waiting.frames.len() > MOST_WAITING && waiting.is_urgent())
        };
        let state = lock(&self.desk.state);
        let mut state = self.desk.changed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        let is_urgent = group.is_urgent();
        match &mut state.group {
            Some(waiting) => waiting.extend(group),
            none => *none = Some(group),
        }
        if is_urgent && !state.busy {
            self.desk.changed.notify_all();
        }
    }

    /// Whether everything that somebody waits for is durable.
    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.desk.state).is_idle()
    }

    /// Waits until everything that somebody waits for is durable.
    pub(crate) fn wait_idle(&self) {
        let state = lock(&self.desk.state);
        drop(self.desk.changed.wait_while(state, |state| !state.is_idle()));
    }

    /// Forgets what nobody waits for.
    pub(crate) fn forget(&self) {
        lock(&self.desk.state).group = None;
    }
}

impl DeskState {
    fn is_idle(&self) -> bool {
        !self.busy && !self.group.as_ref().is_some_and(Group::is_urgent)
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        lock(&self.desk.state).closed = true;
        self.desk.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It catches panics, so there is nothing to learn from how it ended.
            let _ = thread.join();
        }
    }
}

impl Desk {
    fn work(&self, shared: &Shared, folder: &Folder, meters: &CommitMeters) {
        while let Some(group) = self.next() {
            let finish = AssertUnwindSafe(|| finish(shared, folder, meters, group));
            if let Err(panic) = catch_unwind(finish) {
                let reason = format!("the flusher panicked: {}", panic_text(&*panic));
                shared.condition.fail(Failure { reason, is_full: false });
            }
            lock(&self.state).busy = false;
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<Group> {
        let idle =
            |state: &mut DeskState| !state.group.as_ref().is_some_and(Group::is_urgent) && !state.closed;
        let state = lock(&self.state);
        let mut state = self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        let group = state.group.take_if(|group| group.is_urgent());
        state.busy = group.is_some();
        group
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

/// Makes a group durable and answers, or fails it.
fn finish(shared: &Shared, folder: &Folder, meters: &CommitMeters, mut group: Group) {
    let begun = std::time::Instant::now();
    let mut journal = folder.journal();
    if let Err(failure) = write(shared, &mut journal, &group) {
        return fail(shared, group, failure);
    }
    mem::take(&mut group.flushed).into_iter().for_each(|acknowledge| acknowledge(Ok(())));
    if group.level == Level::Synced
        && let Err(failure) = sync(shared, folder, &mut journal, group.number)
    {
        return fail(shared, group, failure);
    }
    drop(journal);
    meters.seconds.record(begun.elapsed());
    meters.size.record(group.synced.len() as f64);
    {
        let mut runs = shared.runs();
        group.admitted.iter().for_each(|run| runs.live.commit(*run));
        let ended = group.published.iter().filter(|run| run.state.is_ended());
        ended.for_each(|run| runs.show_end(run.id));
    }
    group.published.iter().for_each(|run| shared.events.publish_state(run));
    group.synced.into_iter().for_each(|acknowledge| acknowledge(Ok(())));
    if !group.published.is_empty() {
        shared.runs_changed.notify_waiters();
    }
    if group.wakes_deliveries {
        shared.deliveries_changed.notify_waiters();
    }
}

/// Refuses those who wait, and forgets the runs that were to be admitted.
pub(crate) fn fail(shared: &Shared, group: Group, failure: Failure) {
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
fn write(shared: &Shared, journal: &mut Journal, group: &Group) -> Result<(), Failure> {
    // An error that was met in the background concerns these changes as well.
    if let Some(failure) = shared.condition.failure() {
        return Err(failure);
    }
    if group.frames.is_empty() {
        return Ok(());
    }
    if let Some(number) = journal.must_be_durable() {
        shared.backlog.wait_durable(number)?;
        sync_journal(shared, journal)?;
        shared.backlog.want_durable(journal.turn());
    }
    Failure::of_writing(|| {
        shared.disk.before_write()?;
        Ok(journal.append(&group.frames, group.number)?)
    })
}

/// Waits for the disk.
fn sync(shared: &Shared, folder: &Folder, journal: &mut Journal, number: u64) -> Result<(), Failure> {
    if shared.options.durability != Durability::Power || !journal.is_dirty {
        return Ok(());
    }
    sync_journal(shared, journal)?;
    let noted = folder.marker.acknowledge(number);
    noted.map_err(|error| Failure::of_sync("the store's marker cannot be written", &error))
}

fn sync_journal(shared: &Shared, journal: &mut Journal) -> Result<(), Failure> {
    if shared.options.durability == Durability::Power && journal.is_dirty {
        let synced = shared.disk.sync_journal(&journal.file());
        synced.map_err(|error| Failure::of_sync("the disk did not confirm a write", &error))?;
        journal.is_dirty = false;
    }
    Ok(())
}
