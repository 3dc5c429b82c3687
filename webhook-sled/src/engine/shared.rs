//! What the store's handles and its two threads share.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use webhook_core::clock::later;
use webhook_core::clock::to_milliseconds;
use webhook_core::events::EventLog;
use webhook_core::id::RunId;
use webhook_core::live::{ClaimedRuns, ListedRun, LiveRuns};
use webhook_core::run::{Run, RunState};
use webhook_core::store::{ClaimRequest, Renewal, Renewed, RunQuery, StoreError};

use crate::check::walk::Checking;
use crate::engine::checkpointer::{Awaited, Backlog};
use crate::engine::disk::{Disk, SledFiles};
use crate::engine::open_files::OpenFiles;
use crate::engine::watch::Watch;
use crate::error::is_full;
use crate::format::value::SavedClock;
use crate::options::SledOptions;
use crate::outbox::Outbox;
use crate::panics::catch;
use crate::reader::read;
use crate::tree::damage::Damage;
use crate::webhooks::Webhooks;
use crate::writer::operation::Operation;

pub(crate) struct Shared {
    /// `None` once the store is closed. Readers hold the lock while they read, so that the database is really
    /// gone when the writer has replaced it.
    pub(crate) database: RwLock<Option<sled::Db>>,
    webhooks: RwLock<Webhooks>,
    runs: Mutex<Runs>,
    outbox: Mutex<Outbox>,
    pub(crate) events: EventLog,
    pub(crate) runs_changed: Notify,
    pub(crate) deliveries_changed: Notify,
    pub(crate) queue: Queue,
    pub(crate) backlog: Backlog,
    pub(crate) condition: Condition,
    pub(crate) damage: Arc<Damage>,
    pub(crate) watch: Watch,
    /// Held while sled is changed, and while it is checked, which therefore does not meet anything halfway.
    pub(crate) checking: Mutex<Checking>,
    /// Runs that have ended with a log, and the batches in which they did, until the parts of the log are joined.
    pub(crate) ended_logs: Mutex<VecDeque<(u64, RunId)>>,
    /// How many reads may be under way, so that a disk that hangs does not take all threads that may block.
    reads: Arc<Semaphore>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) files: SledFiles,
    pub(crate) open_files: OpenFiles,
    pub(crate) options: SledOptions,
    pub(crate) clock: StoreClock,
    /// Bytes in the database.
    pub(crate) stored_bytes: AtomicU64,
    /// How much was free when it was last looked, for a moment.
    free: Mutex<Option<(std::time::Instant, u64)>>,
}

/// How many reads may be under way at once.
const MOST_READS: usize = 16;

/// For how long it is taken for granted how much of the disk is free.
const FREE_FOR: Duration = Duration::from_millis(50);

/// The runs that are in memory.
#[derive(Default)]
pub(crate) struct Runs {
    pub(crate) live: LiveRuns,
    /// Runs that have ended and are not in the database yet.
    pub(crate) ending: HashMap<RunId, Arc<Run>>,
    /// Runs whose end is not durable yet, and what is shown of them until it is.
    unsynced: HashMap<RunId, Option<Arc<Run>>>,
    /// Length of the lease that was last asked for.
    lease: Duration,
}

impl Runs {
    /// A run as the writer has decided, whether that is durable or not, if its record is in memory.
    pub(crate) fn record(&self, id: RunId) -> Option<Arc<Run>> {
        self.live.record(id).or_else(|| self.ending.get(&id).cloned())
    }

    /// A run has ended. Until that is durable, it is shown as it was before; `None` is not shown at all.
    pub(crate) fn end(&mut self, run: Arc<Run>, before: Option<Arc<Run>>) {
        self.unsynced.insert(run.id, before);
        self.ending.insert(run.id, run);
    }

    /// The database has these ended runs now.
    pub(crate) fn forget_ended(&mut self, ids: &[RunId]) {
        for id in ids {
            drop(self.ending.remove(id));
        }
    }

    /// The end of a run is durable.
    pub(crate) fn show_end(&mut self, id: RunId) {
        self.unsynced.remove(&id);
    }

    /// What is shown of a run whose end is not durable yet.
    pub(crate) fn before_end(&self, id: RunId) -> Option<&Option<Arc<Run>>> {
        self.unsynced.get(&id)
    }

    /// A run as it is shown, if that is known in memory; a run of which nothing is to be seen is shown as `None`.
    pub(crate) fn shown(&self, id: RunId) -> Option<Option<Arc<Run>>> {
        self.before_end(id).cloned().or_else(|| self.record(id).map(Some))
    }

    /// Forgets all that was read or decided since the store was opened.
    pub(crate) fn replace(&mut self, live: LiveRuns) {
        *self = Self { live, lease: self.lease, ..Self::default() };
    }

    /// Extends a lease. It is held as well while the end of the run is on its way to the disk, or was refused there.
    pub(crate) fn renew(&mut self, renewal: &Renewal, lease: Duration, now: Instant) -> Renewed {
        self.lease = lease;
        match (self.live.renew(renewal, later(now, lease)), self.unsynced.get(&renewal.run)) {
            (Renewed::Lost, Some(Some(before)))
                if before.state == RunState::Running && before.fence == renewal.fence =>
            {
                Renewed::Held { cancel: before.cancel_requested }
            }
            (renewed, _) => renewed,
        }
    }

    pub(crate) fn claim(&mut self, request: &ClaimRequest, now: Instant) -> ClaimedRuns {
        self.lease = request.lease;
        self.live.claim(request, now)
    }

    /// The runs that are being executed as far as the disk knows, and the length of their leases.
    pub(crate) fn executing(&self) -> (HashMap<RunId, Arc<Run>>, Duration) {
        let ending = self.unsynced.values().flatten().filter(|run| run.state == RunState::Running).cloned();
        (self.live.claimed().chain(ending).map(|run| (run.id, run)).collect(), self.lease)
    }

    /// The runs known in memory that a query asks for, as they are shown: at least the newest `limit`. Of some, the record
    /// is in the database only.
    pub(crate) fn list(&self, query: &RunQuery, limit: usize) -> BTreeMap<Reverse<RunId>, Option<Arc<Run>>> {
        let ending = self.ending.values().filter(|run| !self.unsynced.contains_key(&run.id));
        let shown = ending.chain(self.unsynced.values().flatten());
        let asked = |run: &&Arc<Run>| query.matches(run) && query.before.is_none_or(|before| run.id < before);
        let mut found: BTreeMap<_, _> =
            shown.filter(asked).map(|run| (Reverse(run.id), Some(run.clone()))).collect();
        if !query.state.is_some_and(RunState::is_ended) {
            found.extend(self.live.list(query, limit).into_iter().map(|(id, run)| (Reverse(id), run)));
        }
        found
    }
}

impl Shared {
    pub(crate) fn new(
        database: Option<sled::Db>,
        disk: Arc<dyn Disk>,
        files: SledFiles,
        open_files: OpenFiles,
        options: SledOptions,
        damage: Arc<Damage>,
        clock: StoreClock,
    ) -> Self {
        Self {
            database: RwLock::new(database),
            webhooks: RwLock::default(),
            runs: Mutex::default(),
            outbox: Mutex::default(),
            events: EventLog::new(),
            runs_changed: Notify::new(),
            deliveries_changed: Notify::new(),
            queue: Queue::default(),
            backlog: Backlog::default(),
            condition: Condition::default(),
            damage,
            watch: Watch::default(),
            checking: Mutex::default(),
            ended_logs: Mutex::default(),
            reads: Arc::new(Semaphore::new(MOST_READS)),
            disk,
            files,
            open_files,
            options,
            clock,
            stored_bytes: AtomicU64::new(0),
            free: Mutex::default(),
        }
    }

    pub(crate) fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock()
    }

    pub(crate) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock()
    }

    pub(crate) fn webhooks(&self) -> RwLockReadGuard<'_, Webhooks> {
        self.webhooks.read()
    }

    pub(crate) fn webhooks_mut(&self) -> RwLockWriteGuard<'_, Webhooks> {
        self.webhooks.write()
    }

    /// Reads the database on this thread.
    pub(crate) fn with_tree<T>(
        &self,
        read: impl FnOnce(&sled::Tree) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match &*self.database.read() {
            Some(database) => read(database),
            None => Err(StoreError::unavailable("it is closed")),
        }
    }

    /// Reads the database, with all that was acknowledged before, on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Self, &sled::Tree) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let newest = self.backlog.newest();
        self.read_after(newest, read).await
    }

    /// Reads the database, once it shows this change, on a thread that may block.
    pub(crate) async fn read_after<T: Send + 'static>(
        self: &Arc<Self>,
        awaited: Awaited,
        read: impl FnOnce(&Self, &sled::Tree) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.work_after(awaited, |shared| shared.with_tree(|tree| read(shared, tree))).await
    }

    /// Works on a thread that may block, once the database shows this change.
    pub(crate) async fn work_after<T: Send + 'static>(
        self: &Arc<Self>,
        awaited: Awaited,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.watch.check()?;
        let permit = self.unless_hung(self.reads.clone().acquire_owned()).await?;
        let shared = self.clone();
        let reading = move || {
            // It holds the permit for as long as it takes, whether anybody still waits for it or not.
            let _permit = permit;
            let _watched = shared.watch.begin();
            shared.backlog.wait_applied(awaited).map_err(|failure| failure.error())?;
            work(&shared)
        };
        match self.unless_hung(tokio::task::spawn_blocking(reading)).await? {
            Ok(answer) => answer,
            // sled asserts what it expects of its files.
            Err(error) if error.is_panic() => Err(StoreError::corrupt("the database cannot be read", error)),
            Err(error) => Err(StoreError::unavailable_because("the runtime shuts down", error)),
        }
    }

    /// Runs with those records that are in the database only. What has ended and was removed meanwhile is left out.
    pub(crate) async fn with_records(
        self: &Arc<Self>,
        listed: Vec<ListedRun>,
    ) -> Result<Vec<Arc<Run>>, StoreError> {
        if listed.iter().all(|(_, run)| run.is_some()) {
            return Ok(listed.into_iter().filter_map(|(_, run)| run).collect());
        }
        let complete = move |shared: &Self, tree: &sled::Tree| {
            let missing: Vec<RunId> =
                listed.iter().filter(|(_, run)| run.is_none()).map(|(id, _)| *id).collect();
            let mut queued = HashMap::new();
            for (id, run) in read::queued_runs(tree, &missing, &shared.damage) {
                queued.insert(id, Arc::new(run?));
            }
            let mut runs = Vec::with_capacity(listed.len());
            for (id, run) in listed {
                match run.or_else(|| queued.remove(&id)) {
                    Some(run) => runs.push(run),
                    None => runs.extend(read::ended_run(tree, id, &shared.damage)?),
                }
            }
            Ok(runs)
        };
        self.read(complete).await
    }

    /// Waits for something that needs the disk, unless the disk hangs.
    pub(crate) async fn unless_hung<T>(&self, work: impl Future<Output = T>) -> Result<T, StoreError> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.watch.hung() => {
                Err(StoreError::unavailable("the disk hangs; what was asked for may be done later"))
            }
        }
    }

    /// Whether there is room for another run.
    pub(crate) fn check_room(&self) -> Result<(), StoreError> {
        let (stored, quota) = (self.stored_bytes.load(Ordering::Relaxed), self.options.quota_bytes);
        if stored > quota {
            let (stored, quota) = (stored >> 20, quota >> 20);
            return Err(StoreError::unavailable(format!(
                "the store holds {stored} MiB, more than its quota of {quota} MiB; older runs must be pruned first"
            )));
        }
        self.check_space()
    }

    /// Whether the folder is in its place, and the disk has room.
    pub(crate) fn check_space(&self) -> Result<(), StoreError> {
        self.open_files.check()?;
        let reserve = self.options.reserve_bytes;
        match self.free_bytes() {
            Ok(free) if free >= reserve => Ok(()),
            Ok(free) => {
                let (free, reserve) = (free >> 20, reserve >> 20);
                Err(StoreError::unavailable(format!(
                    "the disk is nearly full: {free} MiB are free, {reserve} MiB are kept in reserve"
                )))
            }
            Err(error) => Err(StoreError::unavailable_because("the free space is not known", error)),
        }
    }
}

impl Shared {
    fn free_bytes(&self) -> std::io::Result<u64> {
        let mut last = self.free.lock();
        match *last {
            Some((looked, free)) if looked.elapsed() < FREE_FOR => Ok(free),
            _ => {
                let free = self.disk.free_bytes(&self.files.folder)?;
                *last = Some((std::time::Instant::now(), free));
                Ok(free)
            }
        }
    }
}

/// What waits for the writer, in the order of arrival. Each caller waits for its own, so callers bound it.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    operations: VecDeque<Operation>,
    nudged: bool,
    closed: bool,
}

impl Queue {
    pub(crate) fn push(&self, operation: Operation) {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            drop(waiting);
            operation.refuse(StoreError::unavailable("it is closed"));
            return;
        }
        let was_empty = waiting.operations.is_empty();
        waiting.operations.push_back(operation);
        drop(waiting);
        if was_empty {
            self.arrived.notify_one();
        }
    }

    /// Ends the wait for operations: something else has changed.
    pub(crate) fn nudge(&self) {
        self.waiting.lock().nudged = true;
        self.arrived.notify_one();
    }

    /// Moves everything that waits into `taken`, after waiting for it, at most for `pause`. Answers whether the
    /// queue is still open.
    pub(crate) fn take(&self, taken: &mut VecDeque<Operation>, pause: Option<Duration>) -> bool {
        let idle =
            |waiting: &mut Waiting| waiting.operations.is_empty() && !waiting.closed && !waiting.nudged;
        let mut waiting = self.waiting.lock();
        match pause {
            None => self.arrived.wait_while(&mut waiting, idle),
            Some(pause) => {
                self.arrived.wait_while_for(&mut waiting, idle, pause);
            }
        }
        waiting.nudged = false;
        std::mem::swap(&mut waiting.operations, taken);
        !(waiting.closed && taken.is_empty())
    }

    /// Adds what has come in the meantime, without waiting.
    pub(crate) fn take_what_came(&self, taken: &mut VecDeque<Operation>) {
        taken.append(&mut self.waiting.lock().operations);
    }

    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_one();
    }
}

/// Whether the store can be written.
#[derive(Default)]
pub(crate) struct Condition {
    failed: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

/// How bad a failure is, the worse the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// A write found no room. The database is opened anew once there is some.
    Full,
    /// A sync found no room. The same, and what was to be synced is written once more, since nobody knows which part of it
    /// the disk has.
    FullAtSync,
    /// Something panicked.
    Panicked,
    /// The disk failed. After that, what is read may never have been written, so nothing but a restart helps.
    Damaged,
}

/// Why the store cannot be written any more.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) severity: Severity,
}

impl Failure {
    /// Lets sled write, and says what it means when it fails or panics.
    pub(crate) fn of_writing<T>(write: impl FnOnce() -> sled::Result<T>) -> Result<T, Self> {
        match catch(write) {
            Ok(Ok(written)) => Ok(written),
            Ok(Err(error)) => {
                let is_full = matches!(&error, sled::Error::Io(error) if is_full(error));
                let severity = if is_full { Severity::Full } else { Severity::Damaged };
                Err(Self { reason: format!("the database cannot be written: {error}"), severity })
            }
            Err(panic) => {
                let reason = format!("the database cannot be written: {panic}");
                Err(Self { reason, severity: Severity::Panicked })
            }
        }
    }

    /// What a failed sync means: nobody knows what is on the disk, and trying again would not tell.
    pub(crate) fn of_sync(reason: &str, error: &std::io::Error) -> Self {
        if is_full(error) {
            return Self { reason: format!("{reason}: {error}"), severity: Severity::FullAtSync };
        }
        let reason = format!("{reason}: {error}; restart to continue with the data on disk");
        Self { reason, severity: Severity::Damaged }
    }

    /// Whether the database can be opened anew in this process.
    pub(crate) fn is_recoverable(&self) -> bool {
        self.severity <= Severity::FullAtSync
    }

    pub(crate) fn error(&self) -> StoreError {
        StoreError::unavailable(self.reason.clone())
    }
}

impl Condition {
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.failure().map_or(Ok(()), |failure| Err(failure.error()))
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        if self.failed.load(Ordering::Acquire) { self.failure.lock().clone() } else { None }
    }

    /// Notes a failure; the worst one stays.
    pub(crate) fn fail(&self, failure: Failure) -> Failure {
        let mut present = self.failure.lock();
        let worst = match present.take() {
            Some(present) if present.severity >= failure.severity => present,
            _ => {
                tracing::error!(reason = failure.reason, "the store cannot be written any more");
                failure
            }
        };
        *present = Some(worst.clone());
        self.failed.store(true, Ordering::Release);
        worst
    }

    /// Forgets a failure that was recovered from. Answers whether it was the last one.
    pub(crate) fn recover(&self) -> bool {
        let mut present = self.failure.lock();
        if present.as_ref().is_some_and(|failure| !failure.is_recoverable()) {
            return false;
        }
        *present = None;
        self.failed.store(false, Ordering::Release);
        tracing::info!("the store can be written again");
        true
    }
}

/// How many milliseconds count at most between two lives of a store.
const MOST_BETWEEN: u64 = 60 * 60 * 1_000;

/// The time by which idempotency keys expire: the time of day when the store was made, and from then on the time that
/// has passed while it was open, so that a clock that jumps or is wrong at a start expires nothing. Of the time between,
/// which only the clock tells, at most an hour counts.
pub(crate) struct StoreClock {
    base: u64,
    origin: Instant,
}

impl StoreClock {
    /// Goes on from where it was, at this time of day.
    pub(crate) fn start(saved: Option<SavedClock>, time_of_day: SystemTime) -> Self {
        let wall = u64::try_from(to_milliseconds(time_of_day)).unwrap_or(0);
        let base = saved.map_or(wall, |saved| {
            saved.time.saturating_add(wall.saturating_sub(saved.time_of_day).min(MOST_BETWEEN))
        });
        Self { base, origin: Instant::now() }
    }

    /// To go on from at the next start.
    pub(crate) fn save(&self) -> SavedClock {
        let time_of_day = u64::try_from(to_milliseconds(SystemTime::now())).unwrap_or(0);
        SavedClock { time: self.now(Instant::now()), time_of_day }
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now(&self, instant: Instant) -> u64 {
        let passed = instant.saturating_duration_since(self.origin);
        self.base.saturating_add(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_wrong_for_a_day_expires_nothing_at_the_next_start() {
        let day = Duration::from_secs(86_400);
        let noon = SystemTime::UNIX_EPOCH + 20_000 * day;
        let time = |clock: &StoreClock| clock.now(clock.origin);
        let first = StoreClock::start(None, noon);
        let saved = SavedClock { time: time(&first), time_of_day: time(&first) };
        for (wrong, passed) in [(noon + day, MOST_BETWEEN), (noon - day, 0), (noon + day / 48, 1_800_000)] {
            assert_eq!(time(&StoreClock::start(Some(saved), wrong)) - time(&first), passed);
        }
    }

    #[test]
    fn the_worst_of_several_failures_decides_whether_the_store_can_recover() {
        let failure = |severity| Failure { reason: format!("{severity:?}"), severity };
        let condition = Condition::default();
        condition.fail(failure(Severity::Full));
        assert_eq!(condition.fail(failure(Severity::FullAtSync)).severity, Severity::FullAtSync);
        assert_eq!(condition.fail(failure(Severity::Full)).severity, Severity::FullAtSync);
        assert!(condition.failure().unwrap().is_recoverable() && condition.recover());
        assert!(condition.check().is_ok());
        condition.fail(failure(Severity::Full));
        condition.fail(failure(Severity::Damaged));
        condition.fail(failure(Severity::Panicked));
        assert!(!condition.recover() && condition.check().unwrap_err().to_string().contains("Damaged"));
    }
}
