//! The store's handle: asks the writer for changes, and reads.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use webhook_core::events::{EventCursor, Events};
use webhook_core::id::{DeliveryId, RunId, WebhookId};
use webhook_core::live::wait_for_work;
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
use crate::engine::checkpointer::Applier;
use crate::engine::disk::{Disk, SledFiles};
use crate::engine::flusher::Flusher;
use crate::engine::folder::Folder;
use crate::engine::shared::{Shared, StoreClock};
use crate::error::OpenError;
use crate::format::run::encode_run;
use crate::options::SledOptions;
use crate::reader::delivery_claims::claim_deliveries;
use crate::reader::prune::{self, EXPIRED_AT_ONCE, Search};
use crate::reader::read;
use crate::reader::restore::{Before, restore};
use crate::tree::damage::Damage;
use crate::writer::Writer;
use crate::writer::operation::{Operation, Reply};

/// The default durable store. Its clones share one open folder; when the last one is dropped, the folder is closed,
/// which waits for what is under way. That blocks the thread for some syncs: in async code, drop the last one within
/// `spawn_blocking` where that matters. See the [crate] for what it promises.
///
/// An acknowledgement never runs ahead of the disk. Reads may, in what a crash would merely repeat: a run shows as
/// running, waiting for its retry, or cancelled because another took its place or its webhook was deleted, a moment
/// before that is durable. That a run was executed to its end, was cancelled on request or was skipped shows
/// only once it is durable, and so does a new run in a list.
#[derive(Clone)]
pub struct SledStore(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    scrubber: Option<Scrubber>,
}

impl SledStore {
    /// Opens the store in this folder with the default options. Where there is none it is made, for its owner alone
    /// (mode 0700).
    ///
    /// It blocks while it recovers what a crash may have left, typically for less than a second.
    ///
    /// # Errors
    /// [`OpenError`]; the folder's records are unchanged then.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::options().open(path)
    }

    /// Options to open a store with.
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
        let open_files = folder.open_files(&files).map_err(&io)?;
        let shared = Shared::new(opened.into_inner(), disk, files, open_files, options, damage, clock);
        let shared = Arc::new(shared);
        let folder = Arc::new(folder);
        let flusher = Flusher::new(shared.clone(), folder.clone());
        let applier = Applier::start(shared.clone(), folder.clone()).map_err(&io)?;
        let writer = Writer::new(shared.clone(), folder, flusher, applier, restored, number);
        shared.condition.check().map_err(|error| OpenError::from_store(path, error))?;
        let thread = Builder::new().name("webhook-sled-writer".to_owned()).spawn(move || writer.work());
        let writer = Some(thread.map_err(&io)?);
        let scrubber = Some(Scrubber::start(shared.clone()).map_err(io)?);
        Ok(Self(Arc::new(Handle { shared, writer, scrubber })))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// Asks for a change that somebody relies on once it is made, so it is refused while the folder is not in its place.
    async fn ask_in_place<T>(&self, operation: impl FnOnce(Reply<T>) -> Operation) -> Result<T, StoreError> {
        self.shared().open_files.check()?;
        self.ask(operation).await
    }

    /// Asks the writer for a change and waits for its answer.
    async fn ask<T>(&self, operation: impl FnOnce(Reply<T>) -> Operation) -> Result<T, StoreError> {
        self.shared().condition.check()?;
        self.shared().watch.check()?;
        let (reply, answer) = oneshot::channel();
        self.shared().queue.push(operation(reply));
        match self.shared().unless_hung(answer).await? {
            Ok(answer) => answer,
            Err(_) => {
                self.shared().condition.check()?;
                Err(StoreError::unavailable("it is closed"))
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue.close();
        if self.shared.watch.hangs() {
            // Its threads end when the disk does what it was asked.
            std::mem::forget(self.scrubber.take());
            return;
        }
        drop(self.scrubber.take());
        if let Some(writer) = self.writer.take() {
            // It catches panics, so there is nothing to learn from how it ended.
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for SledStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SledStore").field("options", &self.shared().options).finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl Store for SledStore {
    async fn create_webhook(&self, webhook: Webhook) -> Result<(), StoreError> {
        self.ask_in_place(|reply| Operation::CreateWebhook(Box::new(webhook), reply)).await
    }

    async fn get_webhook(&self, id: WebhookId) -> Result<Option<Arc<Webhook>>, StoreError> {
        Ok(self.shared().webhooks().get(id).cloned())
    }

    async fn find_webhook(&self, digest: &TokenDigest) -> Result<Option<Arc<Webhook>>, StoreError> {
        Ok(self.shared().webhooks().find(digest).cloned())
    }

    async fn update_webhook(&self, webhook: Webhook, expected_revision: u64) -> Result<(), StoreError> {
        self.ask_in_place(|reply| Operation::UpdateWebhook(Box::new(webhook), expected_revision, reply)).await
    }

    async fn delete_webhook(
        &self,
        id: WebhookId,
        expected_revision: Option<u64>,
        now: SystemTime,
    ) -> Result<Vec<RunId>, StoreError> {
        self.ask_in_place(|reply| Operation::DeleteWebhook(id, expected_revision, now, reply)).await
    }

    async fn list_webhooks(&self, query: WebhookQuery) -> Result<Page<Arc<Webhook>, WebhookId>, StoreError> {
        Ok(self.shared().webhooks().list(&query))
    }

    async fn record_use(&self, uses: &[(WebhookId, SystemTime)]) -> Result<(), StoreError> {
        self.ask(|reply| Operation::RecordUse(uses.to_vec(), reply)).await
    }

    async fn enqueue(&self, request: Enqueue) -> Result<Enqueued, StoreError> {
        let (instant, record) = (Instant::now(), encode_run(&request.run)?);
        self.ask(|reply| Operation::Enqueue(Box::new(request), record, instant, reply)).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, StoreError> {
        self.shared().condition.check()?;
        let instant = Instant::now();
        if !self.shared().runs().live.has_work(instant) {
            return Ok(Vec::new());
        }
        self.ask(|reply| Operation::Claim(request, instant, reply)).await
    }

    async fn begin(&self, begun: Vec<Begun>) -> Result<(), StoreError> {
        let mut runs = self.shared().runs();
        for run in begun.iter().filter_map(|begun| runs.live.begin(begun)) {
            // With the runs locked, so that nobody hears of its end before.
            self.shared().events.publish_state(&run, &Arc::default());
        }
        Ok(())
    }

    async fn renew(&self, renewals: Vec<Renewal>, lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        // Leases are in memory: nobody else can claim a run while the store waits for room on the disk.
        if let Some(failure) = self.shared().condition.failure().filter(|failure| !failure.is_recoverable()) {
            return Err(failure.error());
        }
        let now = Instant::now();
        let mut runs = self.shared().runs();
        let renew = |renewal: &Renewal| {
            let renewed = runs.renew(renewal, lease, now);
            if renewed != Renewed::Lost
                && let (Some(progress), Some(run)) = (&renewal.progress, runs.live.record(renewal.run))
            {
                self.shared().events.publish_progress(&run, progress);
            }
            renewed
        };
        Ok(renewals.iter().map(renew).collect())
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        let instant = Instant::now();
        self.ask(|reply| Operation::Settle(settlements, instant, reply)).await
    }

    async fn cancel_run(&self, id: RunId, now: SystemTime) -> Result<Cancelled, StoreError> {
        self.ask_in_place(|reply| Operation::Cancel(id, now, reply)).await
    }

    async fn get_run(&self, id: RunId) -> Result<Option<Arc<Run>>, StoreError> {
        if let Some(shown) = self.shared().runs().shown(id) {
            return Ok(shown);
        }
        let read = move |shared: &Shared, tree: &sled::Tree| match read::queued_run(tree, id, &shared.damage)?
        {
            Some(run) => Ok(Some(run)),
            None => read::ended_run(tree, id, &shared.damage),
        };
        let read = self.shared().read(read).await?;
        // What has become of it meanwhile is in memory.
        Ok(self.shared().runs().shown(id).unwrap_or(read))
    }

    async fn list_runs(&self, query: RunQuery) -> Result<Page<Arc<Run>, RunId>, StoreError> {
        let limit = query.limit;
        if self.shared().webhooks().contradicts(&query) {
            return Ok(Page::new(Vec::new(), None));
        }
        let enough = limit.saturating_add(1);
        // Memory first: a run that ends in between is then seen in one place at least.
        let mut found = self.shared().runs().list(&query, enough);
        let (mut ended, mut before) = (Vec::new(), query.before);
        loop {
            let (query, missing) = (query.clone().before(before), enough - ended.len());
            let list = move |shared: &Shared, tree: &sled::Tree| {
                read::list_ended(tree, &query, missing, &shared.damage)
            };
            let part = self.shared().read(list).await?;
            {
                let runs = self.shared().runs();
                // What is not durable was found in memory, as it was before.
                ended.extend(part.runs.into_iter().filter(|run| runs.before_end(run.id).is_none()));
            }
            match part.before {
                Some(rest) if ended.len() < enough => before = Some(rest),
                _ => break,
            }
        }
        found.extend(ended.into_iter().map(|run| (Reverse(run.id), Some(run))));
        let page: Vec<_> = found.into_iter().take(enough).map(|(Reverse(id), run)| (id, run)).collect();
        let page = self.shared().with_records(page).await?;
        Ok(Page::cut(page, limit, |run: &Arc<Run>| run.id))
    }

    async fn prune(&self, request: PruneRequest) -> Result<Pruned, StoreError> {
        let instant = Instant::now();
        let expire = move |shared: &Shared, tree: &sled::Tree| {
            Ok(prune::expired_keys(tree, shared.clock.now(instant), EXPIRED_AT_ONCE, &shared.damage))
        };
        let expired = self.shared().read(expire).await?;
        let (mut search, mut past) = (Search::default(), Vec::new());
        while !search.is_over() && past.len() <= request.limit {
            let go_on = move |shared: &Shared, tree: &sled::Tree| {
                search.go_on(shared, tree, &request, &mut past)?;
                Ok((search, past))
            };
            (search, past) = self.shared().read(go_on).await?;
        }
        let more = past.len() > request.limit || expired.len() == EXPIRED_AT_ONCE;
        past.truncate(request.limit);
        if !expired.is_empty() {
            self.ask(|reply| Operation::Prune(Vec::new(), expired, reply)).await?;
        }
        let mut removed = Vec::with_capacity(past.len());
        let mut past = VecDeque::from(past);
        while !past.is_empty() {
            let gather = move |shared: &Shared, tree: &sled::Tree| {
                let removals = prune::removals(tree, &mut past, &shared.damage)?;
                Ok((removals, past))
            };
            let removals;
            (removals, past) = self.shared().read(gather).await?;
            if !removals.is_empty() {
                removed.extend(self.ask(|reply| Operation::Prune(removals, Vec::new(), reply)).await?);
            }
        }
        Ok(Pruned::new(removed, more))
    }

    async fn append_log(&self, run: RunId, fence: u64, text: String) -> Result<(), StoreError> {
        self.ask(|reply| Operation::AppendLog(run, fence, text, reply)).await
    }

    async fn read_log(&self, run: RunId, offset: u64) -> Result<LogPart, StoreError> {
        self.shared().read(move |_, tree| read::log(tree, run, offset)).await
    }

    async fn wait_for_work(&self, work: Work) {
        let shared = self.shared();
        if shared.condition.check().is_err() {
            // The next claim tells; until then there is no hurry.
            sleep(Duration::from_secs(1)).await;
            return;
        }
        let changes = match &work {
            Work::Deliveries(_) => &shared.deliveries_changed,
            _ => &shared.runs_changed,
        };
        let work_at = |now| match &work {
            Work::Deliveries(channels) => shared.outbox().next_deadline(channels),
            _ => shared.runs().live.work_at(now),
        };
        wait_for_work(changes, work_at).await;
    }

    async fn events_since(&self, cursor: Option<EventCursor>) -> Result<Events, StoreError> {
        Ok(self.shared().events.since(cursor).await)
    }

    async fn claim_deliveries(&self, request: DeliveryClaimRequest) -> Result<Vec<Delivery>, StoreError> {
        self.shared().condition.check()?;
        let first = self.shared().outbox().claim(&request, Instant::now());
        if first.is_empty() {
            return Ok(Vec::new());
        }
        self.shared().read(move |shared, tree| claim_deliveries(shared, tree, request, first)).await
    }

    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<(), StoreError> {
        let instant = Instant::now();
        self.ask(|reply| Operation::SettleDeliveries(settlements, instant, reply)).await
    }

    async fn list_deliveries(&self, runs: &[RunId]) -> Result<Vec<Delivery>, StoreError> {
        // A store that notifies nobody need not wait for the database to show what was written last.
        if runs.is_empty() || !self.shared().outbox().has_any() {
            return Ok(Vec::new());
        }
        let runs = runs.to_vec();
        self.shared().read(move |shared, tree| read::deliveries(tree, &runs, &shared.damage)).await
    }

    async fn find_deliveries(&self, query: DeliveryQuery) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        self.shared().read(move |shared, tree| read::find_deliveries(tree, &query, &shared.damage)).await
    }

    async fn resend_delivery(&self, id: DeliveryId, now: SystemTime) -> Result<Delivery, StoreError> {
        let instant = Instant::now();
        self.ask_in_place(|reply| Operation::ResendDelivery(id, now, instant, reply)).await
    }

    async fn health(&self) -> Result<StoreHealth, StoreError> {
        self.shared().condition.check()?;
        self.shared().watch.check()?;
        self.shared().open_files.look()?;
        let pending = self.shared().outbox().len() as u64;
        let runs = self.shared().runs();
        let health = StoreHealth::new(runs.live.queued() as u64, runs.live.running() as u64, pending);
        drop(runs);
        let is_full = self.shared().check_room().is_err();
        Ok(health.with_damaged(self.shared().damage.count()).with_full(is_full))
    }
}
