//! The store's handle: asks the writer for changes, and reads.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use webhook_core::backend::wait_for_work;
use webhook_core::events::{EventCursor, Events};
use webhook_core::id::{DeliveryId, RunId, WebhookId};
use webhook_core::notifier::Delivery;
use webhook_core::run::Run;
use webhook_core::store::{
    Begun, Cancelled, Claim, ClaimRequest, DeliveryClaimRequest, DeliveryQuery, DeliverySettlement, Enqueue,
    Enqueued, LogPart, Page, PruneRequest, Pruned, Renewal, Renewed, RunQuery, Settled, Settlement, Store,
    StoreError, StoreHealth, WebhookQuery, Work,
};
use webhook_core::token::TokenDigest;
use webhook_core::webhook::Webhook;

use crate::check::scrub::Scrubber;
use crate::check::verify::{VerifyReport, verify};
use crate::engine::capacity::Capacity;
use crate::engine::checkpointer::{Checkpointed, Checkpointer};
use crate::engine::clock::StoreClock;
use crate::engine::condition::Condition;
use crate::engine::database::Database;
use crate::engine::disk::{Disk, FileDisk};
use crate::engine::flusher::{Flushed, Flusher};
use crate::engine::folder::Folder;
use crate::engine::parts::Parts;
use crate::engine::sled_files::SledFiles;
use crate::engine::visible_runs::Shown;
use crate::error::OpenError;
use crate::format::run::encode_run;
use crate::options::SledOptions;
use crate::reader::delivery_claims::claim_deliveries;
use crate::reader::prune::{self, EXPIRED_AT_ONCE, Search};
use crate::reader::read;
use crate::reader::restore::{Before, Restored, restore};
use crate::tree::damage::Damage;
use crate::writer::operation::{Answer, Operation, deciding, replying};
use crate::writer::queue::Queue;
use crate::writer::reply::Decided;
use crate::writer::state::Writer;
use crate::writer::work::WriterThread;

/// The default durable store. Its clones share one open folder.
///
/// When the last clone is dropped, the folder is closed, which waits for work in progress and blocks the
/// thread for some syncs. In async code, drop the last clone within `spawn_blocking` if that matters.
/// See the [crate] for its promises.
///
/// An acknowledgement never precedes the disk. A read may, for changes that a crash would merely repeat. A
/// run shows as running, waiting for its retry, or cancelled in favour of a newer run or by the deletion of
/// its webhook, a moment before that is durable.
/// The end of an execution, a cancellation on request, a skipped run, and a new run in a list show only once
/// they are durable.
#[derive(Clone)]
pub struct SledStore(Arc<Handle>);

struct Handle {
    options: SledOptions,
    parts: Arc<Parts>,
    queue: Arc<Queue<Operation>>,
    writer: Option<JoinHandle<()>>,
    scrubber: Option<Scrubber>,
}

impl SledStore {
    /// Opens the store in this folder with the default options. A missing store is created, for its owner
    /// only (mode 0700).
    ///
    /// Blocks while it recovers from a crash, typically for less than a second.
    ///
    /// # Errors
    /// [`OpenError`]; the folder's records are unchanged then.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::options().open(path)
    }

    /// Returns options for opening a store.
    #[must_use]
    pub fn options() -> SledOptions {
        SledOptions::default()
    }

    pub(crate) fn open_with(
        path: &Path,
        options: SledOptions,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, OpenError> {
        let damage = Arc::new(Damage::new());
        let (folder, opened, number) = Folder::open(path, options.cache_bytes, disk.clone(), &damage)?;
        let (now, instant) = (SystemTime::now(), Instant::now());
        let restored = restore(&folder, &opened, now, instant, &Before::default(), &damage)?;
        let clock = StoreClock::start(folder.read(&opened, read::saved_clock)?, now);
        let io = OpenError::io(path);
        let files = SledFiles::open(&folder.sled()).map_err(&io)?;
        let capacity = Capacity {
            open_files: folder.open_files(&files).map_err(&io)?,
            disk: disk.clone(),
            folder: folder.sled(),
            reserve_bytes: options.reserve_bytes,
            quota_bytes: options.quota_bytes,
            last_look: Mutex::default(),
        };
        let queue = Arc::new(Queue::new());
        let condition = {
            let queue = queue.clone();
            Condition::new(move || queue.nudge())
        };
        let database = Database::new(opened.into_inner(), files, disk, options.durability, damage);
        let parts = Arc::new(Parts::new(database, condition, capacity, clock));
        let writer = start_writer(&parts, &queue, folder, restored, number).map_err(&io)?;
        parts.condition.check().map_err(|error| OpenError::from_store(path, error))?;
        let writer = Builder::new().name("webhook-sled-writer".to_owned()).spawn(move || writer.run());
        let mut handle = Handle {
            options,
            parts: parts.clone(),
            queue: queue.clone(),
            writer: Some(writer.map_err(&io)?),
            scrubber: None,
        };
        let sweep = move |leftovers| {
            // No caller waits for the result, and a closed store removes nothing.
            let (operation, _) = deciding(|writer: &mut Writer| writer.prune(leftovers, Vec::new()));
            let _ = queue.push(operation);
        };
        handle.scrubber = Some(Scrubber::start(parts, sweep).map_err(io)?);
        Ok(Self(Arc::new(handle)))
    }

    pub(crate) fn parts(&self) -> &Arc<Parts> {
        &self.0.parts
    }

    /// Checks everything in the store, which can be used meanwhile.
    ///
    /// Each record must be readable, indexes and records must match, and no record may be missing or
    /// outdated.
    /// A thread does the same slowly, after the opening and then once a day. The report includes the faults
    /// that this thread and reads have found.
    ///
    /// # Errors
    /// [`StoreError`] when the check cannot continue, as when the store cannot be read.
    pub async fn verify(&self) -> Result<VerifyReport, StoreError> {
        verify(self.parts()).await
    }

    /// Requests a change that outlasts the call, so it is refused while the folder is not in its place.
    async fn ask_in_place<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Writer) -> Decided<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.parts().capacity.open_files.check()?;
        self.ask(decide).await
    }

    /// Requests a change from the writer and waits for its result.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Writer) -> Decided<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (operation, answer) = deciding(decide);
        self.submit(operation, answer).await
    }

    async fn submit<T>(&self, operation: Operation, answer: Answer<T>) -> Result<T, StoreError> {
        let closed = || StoreError::unavailable("it is closed");
        self.parts().condition.check()?;
        self.parts().database.watch().check()?;
        if self.0.queue.push(operation).is_err() {
            return Err(closed());
        }
        match self.parts().unless_hung(answer).await? {
            Ok(result) => result,
            // The writer panicked or ended.
            Err(_) => {
                self.parts().condition.check()?;
                Err(closed())
            }
        }
    }
}

/// Starts the checkpointer, and creates the writer of a database that was just opened.
fn start_writer(
    parts: &Arc<Parts>,
    queue: &Arc<Queue<Operation>>,
    folder: Folder,
    restored: Restored,
    number: u64,
) -> io::Result<WriterThread> {
    let folder = Arc::new(folder);
    let flusher = Flusher::new(Flushed {
        folder: folder.clone(),
        database: parts.database.clone(),
        condition: parts.condition.clone(),
        checkpoints: parts.checkpoints.clone(),
        runs: parts.runs.clone(),
        announcements: parts.announcements.clone(),
    });
    let checkpointer = Checkpointer::start(Checkpointed {
        queue: parts.checkpoints.clone(),
        database: parts.database.clone(),
        folder: folder.clone(),
        condition: parts.condition.clone(),
        runs: parts.runs.clone(),
        ended_logs: parts.ended_logs.clone(),
    })?;
    let writer = Writer::new(parts.clone(), flusher, number);
    let mut thread = WriterThread { writer, queue: queue.clone(), folder, checkpointer };
    thread.adopt(restored);
    Ok(thread)
}

impl SledOptions {
    /// Opens the store in this folder. A missing store is created, for its owner only (mode 0700).
    ///
    /// Blocks while it recovers from a crash, typically for less than a second, and for up to a second while
    /// another process has the folder open. Runs that were running are queued again.
    ///
    /// # Errors
    /// [`OpenError`]; the folder's records are unchanged then.
    pub fn open(self, path: impl AsRef<Path>) -> Result<SledStore, OpenError> {
        SledStore::open_with(path.as_ref(), self, Arc::new(FileDisk))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close();
        if self.parts.database.watch().hangs() {
            // Its threads end when the disk has completed its operations.
            std::mem::forget(self.scrubber.take());
            return;
        }
        drop(self.scrubber.take());
        if let Some(writer) = self.writer.take() {
            // It catches panics, so its result carries no information.
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for SledStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SledStore").field("options", &self.0.options).finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl Store for SledStore {
    async fn create_webhook(&self, webhook: Webhook) -> Result<(), StoreError> {
        self.ask_in_place(|writer| writer.create_webhook(webhook)).await
    }

    async fn get_webhook(&self, id: WebhookId) -> Result<Option<Arc<Webhook>>, StoreError> {
        Ok(self.parts().webhooks().get(id).cloned())
    }

    async fn find_webhook(&self, digest: &TokenDigest) -> Result<Option<Arc<Webhook>>, StoreError> {
        Ok(self.parts().webhooks().find(digest).cloned())
    }

    async fn update_webhook(&self, webhook: Webhook, expected_revision: u64) -> Result<(), StoreError> {
        self.ask_in_place(move |writer| writer.update_webhook(webhook, expected_revision)).await
    }

    async fn delete_webhook(
        &self,
        id: WebhookId,
        expected_revision: Option<u64>,
        now: SystemTime,
    ) -> Result<Vec<RunId>, StoreError> {
        self.parts().capacity.open_files.check()?;
        let (operation, answer) =
            replying(move |writer, reply| writer.delete_webhook(id, expected_revision, now, reply));
        self.submit(operation, answer).await
    }

    async fn list_webhooks(&self, query: WebhookQuery) -> Result<Page<Arc<Webhook>, WebhookId>, StoreError> {
        Ok(self.parts().webhooks().list(&query))
    }

    async fn record_use(&self, uses: &[(WebhookId, SystemTime)]) -> Result<(), StoreError> {
        let uses = uses.to_vec();
        self.ask(move |writer| writer.record_use(&uses)).await
    }

    async fn enqueue(&self, request: Enqueue) -> Result<Enqueued, StoreError> {
        let (instant, record) = (Instant::now(), encode_run(&request.run)?);
        self.ask(move |writer| writer.enqueue(request, record, instant)).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, StoreError> {
        self.parts().condition.check()?;
        let instant = Instant::now();
        if !self.parts().runs().live.has_work(instant) {
            return Ok(Vec::new());
        }
        self.ask(move |writer| writer.claim(&request, instant)).await
    }

    async fn begin(&self, begun: Vec<Begun>) -> Result<(), StoreError> {
        let mut runs = self.parts().runs();
        for run in begun.iter().filter_map(|begun| runs.live.begin(begun)) {
            // With the runs locked, so that no reader sees its end before the event.
            self.parts().announcements.events.publish_state(&run, &Arc::default());
        }
        Ok(())
    }

    async fn renew(&self, renewals: Vec<Renewal>, lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        // Leases are in memory, and no other worker can claim a run while the store waits for disk space.
        if let Some(failure) = self.parts().condition.failure().filter(|failure| !failure.is_recoverable()) {
            return Err(failure.error());
        }
        let now = Instant::now();
        let mut runs = self.parts().runs();
        let renew = |renewal: &Renewal| {
            let renewed = runs.renew(renewal, lease, now);
            if renewed != Renewed::Lost
                && let (Some(progress), Some(run)) = (&renewal.progress, runs.live.record(renewal.run))
            {
                self.parts().announcements.events.publish_progress(&run, progress);
            }
            renewed
        };
        Ok(renewals.iter().map(renew).collect())
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        let instant = Instant::now();
        self.ask(move |writer| writer.settle(settlements, instant)).await
    }

    async fn cancel_run(&self, id: RunId, now: SystemTime) -> Result<Cancelled, StoreError> {
        self.ask_in_place(move |writer| writer.cancel(id, now)).await
    }

    async fn get_run(&self, id: RunId) -> Result<Option<Arc<Run>>, StoreError> {
        if let Some(shown) = self.parts().runs().shown(id) {
            return Ok(shown.into_run());
        }
        let read = move |parts: &Parts, tree: &sled::Tree| match read::queued_run(tree, id, parts.damage())? {
            Some(run) => Ok(Some(run)),
            None => read::ended_run(tree, id, parts.damage()),
        };
        let read = self.parts().read(read).await?;
        // Changes since are in memory.
        Ok(self.parts().runs().shown(id).map_or(read, Shown::into_run))
    }

    async fn list_runs(&self, query: RunQuery) -> Result<Page<Arc<Run>, RunId>, StoreError> {
        let limit = query.limit;
        if self.parts().webhooks().contradicts(&query) {
            return Ok(Page::new(Vec::new(), None));
        }
        let enough = limit.saturating_add(1);
        // Memory first: a run that ends in between is then seen in at least one place.
        let mut found = self.parts().runs().list(&query, enough);
        let (mut ended, mut before) = (Vec::new(), query.before);
        loop {
            let (query, missing) = (query.clone().before(before), enough - ended.len());
            let list = move |parts: &Parts, tree: &sled::Tree| {
                read::list_ended(tree, &query, missing, parts.damage())
            };
            let part = self.parts().read(list).await?;
            {
                let runs = self.parts().runs();
                // A run whose end is not durable was found in memory, in its earlier state.
                ended.extend(part.runs.into_iter().filter(|run| !runs.has_unsynced_end(run.id)));
            }
            match part.before {
                Some(rest) if ended.len() < enough => before = Some(rest),
                _ => break,
            }
        }
        found.extend(ended.into_iter().map(|run| (Reverse(run.id), Some(run))));
        let page: Vec<_> = found.into_iter().take(enough).map(|(Reverse(id), run)| (id, run)).collect();
        let page = read::with_records(self.parts(), page).await?;
        Ok(Page::cut(page, limit, |run: &Arc<Run>| run.id))
    }

    async fn prune(&self, request: PruneRequest) -> Result<Pruned, StoreError> {
        let instant = Instant::now();
        let expire = move |parts: &Parts, tree: &sled::Tree| {
            Ok(prune::expired_keys(tree, parts.clock.now(instant), EXPIRED_AT_ONCE, parts.damage()))
        };
        let expired = self.parts().read(expire).await?;
        let (mut search, mut past) = (Search::default(), Vec::new());
        while !search.is_over() && past.len() <= request.limit {
            let go_on = move |parts: &Parts, tree: &sled::Tree| {
                search.go_on(parts, tree, &request, &mut past)?;
                Ok((search, past))
            };
            (search, past) = self.parts().read(go_on).await?;
        }
        let more = past.len() > request.limit || expired.len() == EXPIRED_AT_ONCE;
        past.truncate(request.limit);
        if !expired.is_empty() {
            self.ask(|writer| writer.prune(Vec::new(), expired)).await?;
        }
        let mut removed = Vec::with_capacity(past.len());
        let mut past = VecDeque::from(past);
        while !past.is_empty() {
            let gather = move |parts: &Parts, tree: &sled::Tree| {
                let removals = prune::removals(tree, &mut past, parts.damage())?;
                Ok((removals, past))
            };
            let removals;
            (removals, past) = self.parts().read(gather).await?;
            if !removals.is_empty() {
                removed.extend(self.ask(|writer| writer.prune(removals, Vec::new())).await?);
            }
        }
        Ok(Pruned::new(removed, more))
    }

    async fn append_log(&self, run: RunId, fence: u64, text: String) -> Result<(), StoreError> {
        self.ask(move |writer| writer.append_log(run, fence, &text)).await
    }

    async fn read_log(&self, run: RunId, offset: u64) -> Result<LogPart, StoreError> {
        self.parts().read(move |_, tree| read::log(tree, run, offset)).await
    }

    async fn wait_for_work(&self, work: Work) {
        let parts = self.parts();
        if parts.condition.check().is_err() {
            // The next claim reports the error; until then there is no hurry.
            sleep(Duration::from_secs(1)).await;
            return;
        }
        let changes = match &work {
            Work::Deliveries(_) => &parts.announcements.deliveries_changed,
            _ => &parts.announcements.runs_changed,
        };
        let work_at = |now| match &work {
            Work::Deliveries(channels) => parts.deliveries().next_deadline(channels),
            _ => parts.runs().live.work_at(now),
        };
        wait_for_work(changes, work_at).await;
    }

    async fn events_since(&self, cursor: Option<EventCursor>) -> Result<Events, StoreError> {
        Ok(self.parts().announcements.events.since(cursor).await)
    }

    async fn claim_deliveries(&self, request: DeliveryClaimRequest) -> Result<Vec<Delivery>, StoreError> {
        self.parts().condition.check()?;
        let first = self.parts().deliveries().claim(&request, Instant::now());
        if first.is_empty() {
            return Ok(Vec::new());
        }
        self.parts().read(move |parts, tree| claim_deliveries(parts, tree, request, first)).await
    }

    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<(), StoreError> {
        let instant = Instant::now();
        self.ask(move |writer| writer.settle_deliveries(&settlements, instant)).await
    }

    async fn list_deliveries(&self, runs: &[RunId]) -> Result<Vec<Delivery>, StoreError> {
        // A store without notifications need not wait until the database shows the last writes.
        if runs.is_empty() || !self.parts().deliveries().has_any() {
            return Ok(Vec::new());
        }
        let runs = runs.to_vec();
        self.parts().read(move |parts, tree| read::deliveries(tree, &runs, parts.damage())).await
    }

    async fn find_deliveries(&self, query: DeliveryQuery) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        self.parts().read(move |parts, tree| read::find_deliveries(tree, &query, parts.damage())).await
    }

    async fn resend_delivery(&self, id: DeliveryId, now: SystemTime) -> Result<Delivery, StoreError> {
        let instant = Instant::now();
        self.ask_in_place(move |writer| writer.resend_delivery(id, now, instant)).await
    }

    async fn health(&self) -> Result<StoreHealth, StoreError> {
        self.parts().condition.check()?;
        self.parts().database.watch().check()?;
        self.parts().capacity.open_files.look()?;
        let pending = self.parts().deliveries().len() as u64;
        let runs = self.parts().runs();
        let health = StoreHealth::new(runs.live.queued() as u64, runs.live.running() as u64, pending);
        drop(runs);
        let is_full = self.parts().check_room().is_err();
        Ok(health.with_damaged(self.parts().damage().count()).with_full(is_full))
    }
}
