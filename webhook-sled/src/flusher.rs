//! The thread that makes groups of changes durable and answers those who wait for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::{io, mem};

use crate::commit::{Group, Level};
use crate::database::Folder;
use crate::error::panic_text;
use crate::options::Durability;
use crate::shared::{Failure, Shared, lock};

/// Hands groups to the thread, one at a time: while one is made durable, the next is gathered and written, and no
/// more than that. So sled never reuses a part of its log whose content was moved to a place that is not synced.
pub(crate) struct Flusher {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

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
        let thread = Builder::new()
            .name("webhook-sled-flusher".to_owned())
            .spawn(move || worker.work(&shared, &folder))?;
        Ok(Self { desk, thread: Some(thread) })
    }

    /// Hands over a group, once the one before it is durable.
    pub(crate) fn submit(&self, group: Group) {
        let idle = |state: &mut DeskState| state.busy || state.group.is_some();
        let state = lock(&self.desk.state);
        let mut state = self.desk.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        state.group = Some(group);
        self.desk.changed.notify_all();
    }

    pub(crate) fn is_idle(&self) -> bool {
        let state = lock(&self.desk.state);
        !state.busy && state.group.is_none()
    }

    /// Waits until everything that was handed over is durable.
    pub(crate) fn wait_idle(&self) {
        let busy = |state: &mut DeskState| state.busy || state.group.is_some();
        let state = lock(&self.desk.state);
        drop(self.desk.changed.wait_while(state, busy));
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
    fn work(&self, shared: &Shared, folder: &Folder) {
        while let Some(group) = self.next() {
            let finish = AssertUnwindSafe(|| finish(shared, folder, group));
            if let Err(panic) = catch_unwind(finish) {
                let reason = format!("the flusher panicked: {}", panic_text(&*panic));
                shared.condition.fail(Failure { reason, is_full: false });
            }
            lock(&self.state).busy = false;
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<Group> {
        let idle = |state: &mut DeskState| state.group.is_none() && !state.closed;
        let state = lock(&self.state);
        let mut state = self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        state.busy = state.group.is_some();
        state.group.take()
    }
}

/// Makes a group durable and answers, or fails it.
fn finish(shared: &Shared, folder: &Folder, mut group: Group) {
    if let Err(failure) = flush(shared) {
        return fail(shared, group, failure);
    }
    mem::take(&mut group.flushed).into_iter().for_each(|acknowledge| acknowledge(Ok(())));
    let must_sync = group.level == Level::Synced && shared.options.durability == Durability::Power;
    if must_sync && let Err(failure) = sync(shared, folder, group.number) {
        return fail(shared, group, failure);
    }
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

/// Makes sled write what it holds in memory, so that it survives the process.
fn flush(shared: &Shared) -> Result<(), Failure> {
    // An error that sled met in the background concerns these changes as well.
    if let Some(failure) = shared.condition.failure() {
        return Err(failure);
    }
    let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
    let Some(database) = &*database else { return Ok(()) };
    Failure::of_writing(|| database.flush()).map(|_| ())
}

/// Waits for the disk. After an error nobody knows what is on it, and trying again would not tell.
fn sync(shared: &Shared, folder: &Folder, number: u64) -> Result<(), Failure> {
    let failed = |reason: &str, error: io::Error| Failure {
        reason: format!("{reason}: {error}; restart to go on with what is on the disk"),
        is_full: false,
    };
    shared.disk.sync().map_err(|error| failed("the disk did not confirm a write", error))?;
    folder.marker.acknowledge(number).map_err(|error| failed("the store's marker cannot be written", error))
}
