//! The state that the store's handles, its writer and its checks share.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::Semaphore;
use webhook_core::backend::{CallRates, DueIndex, WebhookIndex};
use webhook_core::store::StoreError;

use crate::engine::announcements::Announcements;
use crate::engine::call_file::CallFile;
use crate::engine::capacity::Capacity;
use crate::engine::checkpoint_queue::{AwaitedRecord, CheckpointQueue};
use crate::engine::clock::StoreClock;
use crate::engine::condition::Condition;
use crate::engine::database::Database;
use crate::engine::log_joining::EndedLogs;
use crate::engine::visible_runs::VisibleRuns;
use crate::tree::damage::Damage;

/// Most reads at once, so a disk that hangs does not take all threads that may block.
const MOST_READS: usize = 16;

/// The parts of an open store.
///
/// No thread holds two of the locks of `runs`, `webhooks` and `deliveries` at once. An event is published with `runs` locked
/// where a later one must not overtake it.
pub(crate) struct Parts {
    pub(crate) database: Arc<Database>,
    pub(crate) condition: Arc<Condition>,
    pub(crate) checkpoints: Arc<CheckpointQueue>,
    pub(crate) ended_logs: Arc<EndedLogs>,
    pub(crate) announcements: Arc<Announcements>,
    pub(crate) capacity: Capacity,
    pub(crate) calls: CallFile,
    pub(crate) clock: StoreClock,
    pub(crate) runs: Arc<Mutex<VisibleRuns>>,
    /// Held for a moment by each call of a webhook with a rate limit, and with no other lock.
    pub(crate) rates: Mutex<CallRates>,
    webhooks: RwLock<WebhookIndex>,
    deliveries: Mutex<DueIndex>,
    reads: Arc<Semaphore>,
}

impl Parts {
    pub(crate) fn new(
        database: Database,
        condition: Condition,
        capacity: Capacity,
        calls: CallFile,
        clock: StoreClock,
    ) -> Self {
        Self {
            database: Arc::new(database),
            condition: Arc::new(condition),
            checkpoints: Arc::default(),
            ended_logs: Arc::default(),
            announcements: Arc::new(Announcements::new()),
            capacity,
            calls,
            clock,
            runs: Arc::default(),
            rates: Mutex::default(),
            webhooks: RwLock::default(),
            deliveries: Mutex::default(),
            reads: Arc::new(Semaphore::new(MOST_READS)),
        }
    }

    pub(crate) fn runs(&self) -> MutexGuard<'_, VisibleRuns> {
        self.runs.lock()
    }

    pub(crate) fn deliveries(&self) -> MutexGuard<'_, DueIndex> {
        self.deliveries.lock()
    }

    pub(crate) fn webhooks(&self) -> RwLockReadGuard<'_, WebhookIndex> {
        self.webhooks.read()
    }

    pub(crate) fn webhooks_mut(&self) -> RwLockWriteGuard<'_, WebhookIndex> {
        self.webhooks.write()
    }

    pub(crate) fn damage(&self) -> &Damage {
        self.database.damage()
    }

    /// Checks that another run may be accepted.
    ///
    /// Fails with [`StoreError::Unavailable`] with the reason.
    pub(crate) fn check_room(&self) -> Result<(), StoreError> {
        self.capacity.check(self.database.stored_bytes())
    }

    /// Reads the database on a thread that may block, once it shows everything acknowledged before.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Self, &sled::Tree) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let newest = self.checkpoints.newest();
        self.work_after(newest, |parts| parts.database.read(|tree| read(parts, tree))).await
    }

    /// Works on a thread that may block, once the database shows this record.
    pub(crate) async fn work_after<T: Send + 'static>(
        self: &Arc<Self>,
        awaited: AwaitedRecord,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.database.watch().check()?;
        let permit = self.unless_hung(self.reads.clone().acquire_owned()).await?;
        let parts = self.clone();
        let reading = move || {
            // Held for as long as the read takes, even if its caller is gone: the thread is taken that long.
            let _permit = permit;
            let _watched = parts.database.watch().begin();
            parts.checkpoints.wait_applied(awaited).map_err(|failure| failure.error())?;
            work(&parts)
        };
        match self.unless_hung(tokio::task::spawn_blocking(reading)).await? {
            Ok(result) => result,
            // sled asserts what it expects of its files.
            Err(error) if error.is_panic() => Err(StoreError::corrupt("the database cannot be read", error)),
            Err(error) => Err(StoreError::unavailable_because("the runtime shuts down", error)),
        }
    }

    /// Waits for work that needs the disk, unless the disk hangs.
    pub(crate) async fn unless_hung<T>(&self, work: impl Future<Output = T>) -> Result<T, StoreError> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.database.watch().hung() => {
                Err(StoreError::unavailable("the disk hangs; what was asked for may be done later"))
            }
        }
    }

    /// Works on a thread that may block, on what no promise depends on.
    pub(crate) async fn work_aside<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let parts = self.clone();
        let working = tokio::task::spawn_blocking(move || work(&parts));
        self.unless_hung(working)
            .await?
            .map_err(|error| StoreError::unavailable_because("the call log cannot be written", error))
    }
}
