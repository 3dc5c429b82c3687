//! The store's handle: asks the writer for changes, and reads.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};
use webhook_core::backend::wait_for_work;
use webhook_core::calls::{CallRecord, LoggedCall};
use webhook_core::events::{EventCursor, Events};
use webhook_core::id::{CallId, DeliveryId, RunId, WebhookId};
use webhook_core::notifier::Delivery;
use webhook_core::run::Run;
use webhook_core::store::{
    Begun, CallQuery, CallStore, Cancelled, Claim, ClaimRequest, DeliveryClaimRequest, DeliveryQuery,
    DeliverySettlement, Enqueue, Enqueued, LogPart, Page, PruneRequest, Pruned, Renewal, Renewed, RunQuery,
    Settled, Settlement, Store, StoreError, StoreHealth, WebhookQuery, Work, Workflows,
};
use webhook_core::token::TokenDigest;
use webhook_core::webhook::{RateLimit, Webhook};

use crate::check::verify::{VerifyReport, verify};
use crate::engine::disk::{Disk, FileDisk};
use crate::engine::parts::Parts;
use crate::engine::visible_runs::Shown;
use crate::error::OpenError;
use crate::format::block::encode_run;
use crate::handle::Handle;
use crate::options::SledOptions;
use crate::reader::delivery_claims::claim_deliveries;
use crate::reader::prune::{self, EXPIRED_AT_ONCE, RetentionSearch};
use crate::reader::read;
use crate::writer::operation::{deciding, replying};
use crate::writer::reply::Decided;
use crate::writer::state::Writer;

/// The default durable store. Its clones share one open folder.
///
/// [`close`](Self::close) it before the program ends. Dropping the last clone closes it too, but a task that still holds a clone
/// when the runtime ends may be the last to drop one. A store that was not closed loses nothing: the next opening recovers it.
///
/// A change is acknowledged only once it is durable. A read may show some changes earlier: those that the store would repeat
/// after a crash. Such a run is running, waits for its retry, or was cancelled (a newer run took its place, or its webhook was
/// deleted). All other ends of runs, and new runs in lists, show only once they are durable.
#[derive(Clone)]
pub struct SledStore(Arc<Handle>);

impl SledStore {
    /// Opens the store in this folder with the default options. A missing store is created, for its owner
    /// only (mode 0700).
    ///
    /// Blocks while it recovers from a crash, typically for less than a second.
    ///
    /// Fails with [`OpenError`]; the folder's records are unchanged then.
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
        Ok(Self(Arc::new(Handle::open(path, options, disk)?)))
    }

    /// Closes the store for all its clones, and releases the folder. Later calls fail as unavailable, except for reads that
    /// need no database.
    ///
    /// Blocks until the changes in hand are in the database, so that the next opening has nothing to recover. It does not
    /// wait for a disk that hangs. Closing a closed store does nothing.
    pub fn close(&self) {
        self.0.close();
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
    /// Fails with [`StoreError`] when the check cannot continue, as when the store cannot be read.
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
        self.0.submit(operation, answer).await
    }
}

impl SledOptions {
    /// Opens the store in this folder. A missing store is created, for its owner only (mode 0700).
    ///
    /// Blocks while it recovers from a crash, typically for less than a second, and for up to a second while
    /// another process has the folder open. Runs that were running are queued again.
    ///
    /// Fails with [`OpenError`]; the folder's records are unchanged then.
    pub fn open(self, path: impl AsRef<Path>) -> Result<SledStore, OpenError> {
        SledStore::open_with(path.as_ref(), self, Arc::new(FileDisk))
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
        let had_calls = self.parts().calls.has_any(id);
        let cancelled = self.0.submit(operation, answer).await?;
        if had_calls {
            // If this is not reached, the next opening leaves them out.
            self.parts().work_aside(|parts| parts.calls.rewrite()).await?;
        }
        Ok(cancelled)
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
            // With the runs locked, so the event of its end cannot come first.
            self.parts().announcements.events.publish_state(&run, &Arc::default());
        }
        Ok(())
    }

    async fn renew(&self, renewals: Vec<Renewal>, lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        // Leases are in memory, so they hold while the store waits for room on the disk.
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
        // If it changed during the read, memory has it.
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
                // A run whose end is not durable was found in memory, as it was before.
                ended.extend(part.runs.into_iter().filter(|run| !runs.has_unsynced_end(run.id())));
            }
            match part.before {
                Some(rest) if ended.len() < enough => before = Some(rest),
                _ => break,
            }
        }
        found.extend(ended.into_iter().map(|run| (Reverse(run.id()), Some(run))));
        let page: Vec<_> = found.into_iter().take(enough).map(|(Reverse(id), run)| (id, run)).collect();
        let page = read::with_records(self.parts(), page).await?;
        Ok(Page::cut(page, limit, |run: &Arc<Run>| run.id()))
    }

    async fn prune(&self, request: PruneRequest) -> Result<Pruned, StoreError> {
        let (instant, now) = (Instant::now(), request.now);
        self.parts().work_aside(move |parts| parts.calls.expire_contents(now)).await?;
        let expire = move |parts: &Parts, tree: &sled::Tree| {
            Ok(prune::expired_keys(tree, parts.clock.now(instant), EXPIRED_AT_ONCE, parts.damage()))
        };
        let expired = self.parts().read(expire).await?;
        let (mut search, mut past) = (RetentionSearch::default(), Vec::new());
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
            Work::RunsOf(workflows) => parts.runs().live.work_at(workflows, now),
            _ => parts.runs().live.work_at(&Workflows::All, now),
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
        // A store without deliveries need not wait until sled shows the newest records.
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
        self.0.check_open()?;
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

    fn calls(&self) -> Option<&dyn CallStore> {
        Some(self)
    }

    /// Closes the store as [`SledStore::close`] does, on a thread that may block.
    async fn close(&self) {
        let handle = self.0.clone();
        // Closing does not panic, so there is nothing to learn from how it ended.
        let _ = tokio::task::spawn_blocking(move || handle.close()).await;
    }
}

#[async_trait::async_trait]
impl CallStore for SledStore {
    async fn take_call(&self, webhook: WebhookId, limit: RateLimit) -> Result<Option<Duration>, StoreError> {
        Ok(self.parts().rates.lock().take(webhook, limit, Instant::now()))
    }

    async fn append_calls(&self, calls: Vec<LoggedCall>) -> Result<(), StoreError> {
        self.0.check_open()?;
        let append = move |parts: &Parts| {
            let added = parts.calls.append(calls, &parts.webhooks(), &parts.announcements.events);
            if parts.capacity.check_space().is_ok() {
                parts.calls.write(&added);
            } else {
                parts.calls.skip();
            }
        };
        self.parts().work_aside(append).await
    }

    async fn list_calls(&self, query: CallQuery) -> Result<Page<Arc<CallRecord>, CallId>, StoreError> {
        Ok(self.parts().calls.list(&query))
    }

    async fn get_call(
        &self,
        webhook: WebhookId,
        call: CallId,
        now: SystemTime,
    ) -> Result<Option<LoggedCall>, StoreError> {
        let Some((record, has_content)) = self.parts().calls.get(webhook, call, now) else { return Ok(None) };
        let logged = LoggedCall::new(record.clone());
        if !has_content {
            return Ok(Some(logged));
        }
        let content = self.parts().work_aside(move |parts| parts.calls.content(&record)).await?;
        Ok(Some(logged.with_content(content)))
    }
}
