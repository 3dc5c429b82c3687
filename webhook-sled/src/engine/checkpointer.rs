//! The thread that takes log records to sled, many at once.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use parking_lot::{Mutex, MutexGuard};
use webhook_core::id::RunId;

use crate::engine::batch::{BYTES_BETWEEN_SYNCS, CheckpointBatch};
use crate::engine::checkpoint_queue::{CheckpointQueue, Task};
use crate::engine::condition::{Condition, Failure, Severity};
use crate::engine::database::Database;
use crate::engine::folder::Folder;
use crate::engine::log_joining::{self, EndedLogs};
use crate::engine::placement;
use crate::engine::step::Step;
use crate::engine::visible_runs::VisibleRuns;
use crate::panics::catch;
use crate::tree::scan;
use crate::tree::tallies::Tallies;

/// The thread, until this is dropped. Dropping it waits until the waiting records are in sled.
pub(crate) struct Checkpointer {
    queue: Arc<CheckpointQueue>,
    thread: Option<JoinHandle<()>>,
}

/// The parts of the store that the checkpointer works on.
pub(crate) struct Checkpointed {
    pub(crate) queue: Arc<CheckpointQueue>,
    pub(crate) database: Arc<Database>,
    pub(crate) folder: Arc<Folder>,
    pub(crate) condition: Arc<Condition>,
    pub(crate) runs: Arc<Mutex<VisibleRuns>>,
    pub(crate) ended_logs: Arc<EndedLogs>,
}

impl Checkpointer {
    pub(crate) fn start(store: Checkpointed) -> io::Result<Self> {
        let queue = store.queue.clone();
        let work = Work { store, unsynced: 0 };
        let thread = Builder::new().name("webhook-sled-checkpoint".to_owned()).spawn(move || work.run())?;
        Ok(Self { queue, thread: Some(thread) })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // It catches panics, so its result says nothing.
            let _ = thread.join();
        }
    }
}

struct Work {
    store: Checkpointed,
    /// Cost of the writes to sled since its last sync, in bytes. At most [`BYTES_BETWEEN_SYNCS`], or one step.
    unsynced: usize,
}

impl Work {
    fn run(mut self) {
        let queue = self.store.queue.clone();
        while let Some(task) = queue.next() {
            let done = catch(|| self.perform(task)).unwrap_or_else(|panic| {
                let reason = format!("the database cannot be written: {panic}");
                Err(Failure { reason, severity: Severity::Panicked })
            });
            queue.finish_task(done.err().map(|failure| self.store.condition.fail(failure)));
        }
    }

    fn perform(&mut self, mut task: Task) -> Result<(), Failure> {
        while let Some(batch) = CheckpointBatch::take_from(&mut task.records) {
            self.apply(batch, task.acknowledged)?;
        }
        if task.sync {
            self.sync()?;
        }
        if task.sync_superblock {
            let synced = self.store.folder.superblock().sync(self.store.database.disk());
            synced.map_err(|error| Failure::of_sync("the disk did not confirm the superblock", &error))?;
        }
        Ok(())
    }

    /// Takes a batch to sled. Its records show in one atomic step.
    fn apply(&mut self, batch: CheckpointBatch, acknowledged: u64) -> Result<(), Failure> {
        let (number, ended) = (batch.number, batch.ended());
        let database = self.store.database.clone();
        // Held from the first read of old values to the last write: a check in between would count some values twice.
        let mut tallies = database.tallies();
        let place = |tree: &sled::Tree| {
            scan::guarded(|| placement::place(batch, tree, acknowledged, database.damage()))
        };
        let steps = database.read(place).map_err(|error| Failure::of_reading(&error))?;
        for step in steps.into_steps() {
            self.write(step, &mut tallies)?;
        }
        self.join_logs(number, &mut tallies)?;
        drop(tallies);
        // In this order: a reader that is told of the record finds the run in sled, and no longer needs it in memory.
        self.store.runs.lock().forget_ended(&ended);
        self.store.queue.note_applied(number);
        Ok(())
    }

    /// Takes the next run that ended up to this record.
    fn next_ended_log(&self, number: u64) -> Option<RunId> {
        let mut ended = self.store.ended_logs.lock();
        let &(at, run) = ended.front()?;
        if at > number {
            return None;
        }
        ended.pop_front();
        Some(run)
    }

    /// Joins the parts of the logs of runs that ended up to this record.
    fn join_logs(&mut self, number: u64, tallies: &mut MutexGuard<'_, Tallies>) -> Result<(), Failure> {
        let database = self.store.database.clone();
        loop {
            // The lock is not held during the join, since each commit takes it.
            let Some(run) = self.next_ended_log(number) else { return Ok(()) };
            let join = |tree: &sled::Tree| scan::guarded(|| log_joining::join(tree, run, database.damage()));
            // A log that cannot be read keeps its parts.
            for step in database.read(join).unwrap_or_default() {
                self.write(step, tallies)?;
            }
        }
    }

    fn write(&mut self, step: Step, tallies: &mut Tallies) -> Result<(), Failure> {
        if self.unsynced > 0 && self.unsynced + step.cost > BYTES_BETWEEN_SYNCS {
            self.sync()?;
        }
        self.unsynced += step.cost;
        self.store.database.write(step, tallies)
    }

    /// Makes the writes to sled as durable as the store promises.
    fn sync(&mut self) -> Result<(), Failure> {
        // Read before the sync, which says nothing about later records.
        let applied = self.store.queue.applied();
        self.store.database.sync()?;
        self.unsynced = 0;
        self.store.queue.note_durable(applied);
        Ok(())
    }
}
