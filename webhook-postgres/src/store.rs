//! The store: each call is one statement, most of them shared with other calls.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use uuid::Uuid;
use webhook_core::calls::{
    ALL_CONTENT_BYTES, CALL_LOG_BYTES, CALLS_KEPT, CONTENT_BYTES, CallRecord, LoggedCall,
};
use webhook_core::error::Resource;
use webhook_core::events::{EventCursor, Events};
use webhook_core::id::{CallId, DeliveryId, RunId, WebhookId};
use webhook_core::notifier::Delivery;
use webhook_core::run::Run;
use webhook_core::store::{
    Begun, CallQuery, CallStore, CancelNotice, Cancelled, Claim, ClaimRequest, DeliveryClaimRequest,
    DeliveryQuery, DeliverySettlement, Enqueue, Enqueued, LOG_BYTES, LogPart, Page, PruneRequest, Pruned,
    Renewal, Renewed, RunQuery, Settled, Settlement, Store, StoreError, StoreHealth, WebhookQuery, Work,
};
use webhook_core::token::TokenDigest;
use webhook_core::webhook::{RateLimit, Webhook};

use crate::database::Database;
use crate::enqueue::Enqueuer;
use crate::failure::Failure;
use crate::group::{Bounds, Group, Grouped};
use crate::listener::{Listener, random_uuid};
use crate::migrations::{MIGRATIONS, migrate};
use crate::options::PostgresOptions;
use crate::record::*;
use crate::waiting::Waits;
use crate::working::Working;
use crate::{deliveries, reading, webhooks};

/// A store in a PostgreSQL database. Its clones share connections.
#[derive(Clone)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

struct Inner {
    database: Arc<Database>,
    enqueuer: Enqueuer,
    working: Working,
    waits: Arc<Waits>,
    listener: Arc<Listener>,
    logs: Arc<Group<Append, ()>>,
    rates: Arc<Group<Call, Option<Duration>>>,
    lookups: Arc<Group<TokenDigest, Option<Arc<Webhook>>>>,
    listening: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PostgresStore")
            .field("schema", &self.inner.database.schema())
            .finish_non_exhaustive()
    }
}

/// Lines on their way to a log.
#[derive(Clone)]
struct Append {
    run: RunId,
    fence: u64,
    text: String,
}

impl Grouped for Append {
    type Key = ();

    fn key(&self) -> Option<()> {
        None
    }

    fn bytes(&self) -> usize {
        self.text.len()
    }
}

/// A call that counts towards its webhook's rate.
#[derive(Clone, Copy)]
struct Call {
    webhook: WebhookId,
    limit: RateLimit,
}

impl Grouped for Call {
    type Key = ();

    fn key(&self) -> Option<()> {
        None
    }

    fn bytes(&self) -> usize {
        32
    }
}

impl PostgresStore {
    /// Opens the schema that the options name, after bringing it to this version.
    ///
    /// # Errors
    /// [`StoreError::NewerFormat`] when the schema is of a newer version that this one cannot work beside, and
    /// [`StoreError::Unavailable`] when the database cannot be reached or refuses.
    pub async fn open(options: PostgresOptions) -> Result<Self, StoreError> {
        let database = Arc::new(Database::new(&options)?);
        migrate(&database, MIGRATIONS).await?;
        let waits = Waits::new();
        let listener = Listener::new(database.clone(), waits.clone(), random_uuid(), options.name.clone());
        let listening = options.listens.then(|| tokio::spawn(listener.clone().run()));
        if listening.is_some() {
            listener.connected(options.timeout.min(Duration::from_secs(5))).await;
        }
        let logs = {
            let database = database.clone();
            let bounds = Bounds { executors: 1, requests: 256, bytes: 1024 * 1024 };
            Group::new(bounds, move |appends| {
                let database = database.clone();
                Box::pin(async move { append(&database, &appends).await })
            })
        };
        let rates = {
            let database = database.clone();
            let bounds = Bounds { executors: 1, requests: 512, bytes: 1024 * 1024 };
            Group::new(bounds, move |calls| {
                let database = database.clone();
                Box::pin(async move { take_calls(&database, &calls).await })
            })
        };
        let lookups = {
            let database = database.clone();
            let bounds = Bounds { executors: 2, requests: 512, bytes: 1024 * 1024 };
            Group::new(bounds, move |digests| {
                let database = database.clone();
                Box::pin(async move { webhooks::find(&database, &digests).await })
            })
        };
        let inner = Inner {
            enqueuer: Enqueuer::new(database.clone()),
            working: Working::new(database.clone(), options.name.clone(), waits.clone()),
            database,
            waits,
            listener,
            logs,
            rates,
            lookups,
            listening,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Records a run within a transaction of the host's own, on a connection to the same database: it starts if and
    /// only if that transaction commits.
    ///
    /// Keep such a transaction short. Until it ends, changes of the webhook wait for it, and so do other runs of a
    /// webhook with a bound or with a queue that is nearly full.
    ///
    /// # Errors
    /// As [`Store::enqueue`]. After [`StoreError::Unavailable`] the transaction cannot be committed.
    pub async fn enqueue_in(
        &self,
        transaction: &tokio_postgres::Transaction<'_>,
        request: Enqueue,
    ) -> Result<Enqueued, StoreError> {
        self.inner.enqueuer.enqueue_in(transaction, request).await
    }

    fn database(&self) -> &Database {
        &self.inner.database
    }
}

async fn append(database: &Database, appends: &[Append]) -> Result<Vec<()>, Failure> {
    let texts: Vec<Option<&[u8]>> = appends.iter().map(|it| Some(it.text.as_bytes())).collect();
    database
        .query(
            "SELECT @S@.append_log_1($1, $2, $3, $4)",
            &[
                uuids(&appends.iter().map(|it| uuid_of_run(it.run)).collect()),
                longs(&appends.iter().map(|it| it.fence.cast_signed()).collect()),
                slices!(&texts),
                int(&(LOG_BYTES as i32)),
            ],
        )
        .await?;
    Ok(appends.iter().map(|_| ()).collect())
}

async fn take_calls(database: &Database, calls: &[Call]) -> Result<Vec<Option<Duration>>, Failure> {
    let clamp = |number: u32| i32::try_from(number).unwrap_or(i32::MAX).max(1);
    let mut order: Vec<usize> = (0..calls.len()).collect();
    // In one order everywhere, so that two groups do not wait for each other.
    order.sort_by_key(|index| calls[*index].webhook);
    let sorted = || order.iter().map(|index| &calls[*index]);
    let rows = database
        .query(
            "SELECT @S@.take_calls_1($1, $2, $3, $4)",
            &[
                uuids(&sorted().map(|it| uuid_of_webhook(it.webhook)).collect()),
                ints(&sorted().map(|it| clamp(it.limit.per_minute)).collect()),
                ints(&sorted().map(|it| clamp(it.limit.burst)).collect()),
                ints(&sorted().map(|_| 1).collect()),
            ],
        )
        .await?;
    let pauses: Vec<i64> = rows.first().map(|row| at(row, 0)).transpose()?.unwrap_or_default();
    let mut answers = vec![None; calls.len()];
    for (index, pause) in order.into_iter().zip(pauses) {
        answers[index] = (pause > 0).then(|| Duration::from_millis(pause.unsigned_abs()));
    }
    Ok(answers)
}

#[async_trait::async_trait]
impl Store for PostgresStore {
    async fn create_webhook(&self, webhook: Webhook) -> Result<(), StoreError> {
        webhooks::create(self.database(), &webhook).await
    }

    async fn get_webhook(&self, id: WebhookId) -> Result<Option<Arc<Webhook>>, StoreError> {
        Ok(webhooks::get_by_id(self.database(), id).await?)
    }

    async fn find_webhook(&self, digest: &TokenDigest) -> Result<Option<Arc<Webhook>>, StoreError> {
        Ok(self.inner.lookups.submit(*digest).await?)
    }

    async fn update_webhook(&self, webhook: Webhook, expected_revision: u64) -> Result<(), StoreError> {
        webhooks::update(self.database(), &webhook, expected_revision).await
    }

    async fn delete_webhook(
        &self,
        id: WebhookId,
        expected_revision: Option<u64>,
        now: SystemTime,
    ) -> Result<Vec<RunId>, StoreError> {
        webhooks::delete(self.database(), id, expected_revision, now).await
    }

    async fn list_webhooks(&self, query: WebhookQuery) -> Result<Page<Arc<Webhook>, WebhookId>, StoreError> {
        Ok(webhooks::list(self.database(), &query).await?)
    }

    async fn record_use(&self, uses: &[(WebhookId, SystemTime)]) -> Result<(), StoreError> {
        Ok(webhooks::record_use(self.database(), uses).await?)
    }

    async fn enqueue(&self, request: Enqueue) -> Result<Enqueued, StoreError> {
        self.inner.enqueuer.enqueue(request).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, StoreError> {
        self.inner.working.claim(request).await
    }

    async fn begin(&self, begun: Vec<Begun>) -> Result<(), StoreError> {
        self.inner.working.begin(begun).await
    }

    async fn renew(&self, renewals: Vec<Renewal>, lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        self.inner.working.renew(renewals, lease).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        self.inner.working.settle(settlements).await
    }

    async fn cancel_run(&self, id: RunId, now: SystemTime) -> Result<Cancelled, StoreError> {
        let sql = "SELECT @S@.cancel_1($1, $2)";
        let rows = self.database().query(sql, &[uuid(&uuid_of_run(id)), long(&milliseconds(now))]).await?;
        let letter = rows.first().map(|row| at::<&str>(row, 0)).transpose()?.unwrap_or_default();
        if letter == "n" {
            return Err(StoreError::NotFound(Resource::Run));
        }
        let Some(run) = reading::run(self.database(), id).await? else {
            return Err(StoreError::NotFound(Resource::Run));
        };
        Ok(match letter {
            "e" => Cancelled::Ended(run),
            "r" => Cancelled::Requested(run),
            _ => Cancelled::TooLate(run),
        })
    }

    async fn get_run(&self, id: RunId) -> Result<Option<Arc<Run>>, StoreError> {
        Ok(reading::run(self.database(), id).await?)
    }

    async fn list_runs(&self, query: RunQuery) -> Result<Page<Arc<Run>, RunId>, StoreError> {
        Ok(reading::list_runs(self.database(), &query).await?)
    }

    async fn prune(&self, request: PruneRequest) -> Result<Pruned, StoreError> {
        let keep = request.keep_per_webhook.map(|keep| i64::try_from(keep).unwrap_or(i64::MAX));
        let limit = i32::try_from(request.limit).unwrap_or(i32::MAX - 1);
        let (now, keep_for) = (milliseconds(request.now), duration_ms(request.keep_for));
        let parameters = [long(&now), long(&keep_for), maybe_long(&keep), int(&limit)];
        let rows = self
            .database()
            .query("SELECT removed, more FROM @S@.prune_1($1, $2, $3, $4)", &parameters)
            .await?;
        let row = rows.first().ok_or_else(|| Failure::Corrupt("no answer to a prune".to_owned()))?;
        let removed: Vec<Uuid> = at(row, 0)?;
        Ok(Pruned::new(removed.into_iter().map(run_id).collect(), at(row, 1)?))
    }

    async fn append_log(&self, run: RunId, fence: u64, text: String) -> Result<(), StoreError> {
        Ok(self.inner.logs.submit(Append { run, fence, text }).await?)
    }

    async fn read_log(&self, run: RunId, offset: u64) -> Result<LogPart, StoreError> {
        Ok(reading::log(self.database(), run, offset).await?)
    }

    async fn wait_for_work(&self, work: Work) {
        self.inner.waits.wait(&self.inner.database, &work).await;
    }

    async fn wait_for_cancellations(&self) -> Vec<CancelNotice> {
        self.inner.listener.cancellations().await
    }

    async fn events_since(&self, cursor: Option<EventCursor>) -> Result<Events, StoreError> {
        Ok(self.inner.listener.since(cursor).await?)
    }

    async fn claim_deliveries(&self, request: DeliveryClaimRequest) -> Result<Vec<Delivery>, StoreError> {
        Ok(deliveries::claim(self.database(), &self.inner.waits, &request).await?)
    }

    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<(), StoreError> {
        Ok(deliveries::settle(self.database(), &settlements).await?)
    }

    async fn list_deliveries(&self, runs: &[RunId]) -> Result<Vec<Delivery>, StoreError> {
        Ok(reading::deliveries(self.database(), runs).await?)
    }

    async fn find_deliveries(&self, query: DeliveryQuery) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        Ok(reading::find_deliveries(self.database(), &query).await?)
    }

    async fn resend_delivery(&self, id: DeliveryId, now: SystemTime) -> Result<Delivery, StoreError> {
        deliveries::resend(self.database(), id, now).await
    }

    async fn health(&self) -> Result<StoreHealth, StoreError> {
        let rows = self
            .database()
            .read("SELECT queued, running, pending, is_read_only FROM @S@.health_1()", &[])
            .await?;
        let row = rows.first().ok_or_else(|| Failure::Corrupt("no answer to a question".to_owned()))?;
        if at::<bool>(row, 3)? {
            return Err(StoreError::unavailable("the database is read-only"));
        }
        let count = |place| at::<i64>(row, place).map(|count| count.max(0).unsigned_abs());
        Ok(StoreHealth::new(count(0)?, count(1)?, count(2)?))
    }

    fn calls(&self) -> Option<&dyn CallStore> {
        Some(self)
    }

    async fn close(&self) {
        let Inner { database, enqueuer, working, logs, rates, listening, .. } = &*self.inner;
        // Requests of dropped calls are executed, too.
        tokio::join!(enqueuer.drained(), working.drained(), logs.drained(), rates.drained());
        if let Some(listening) = listening {
            listening.abort();
        }
        database.close();
    }
}

#[async_trait::async_trait]
impl CallStore for PostgresStore {
    async fn take_call(&self, webhook: WebhookId, limit: RateLimit) -> Result<Option<Duration>, StoreError> {
        Ok(self.inner.rates.submit(Call { webhook, limit }).await?)
    }

    async fn append_calls(&self, calls: Vec<LoggedCall>) -> Result<(), StoreError> {
        let records = || calls.iter().map(|call| &*call.record);
        let size = |call: &CallRecord| i32::try_from(call.bytes_in_memory()).unwrap_or(i32::MAX);
        self.database()
            .query(
                "SELECT @S@.append_calls_1($1, $2, $3, $4, $5, $6)",
                &[
                    uuids(&records().map(|call| uuid_of_call(call.id)).collect()),
                    uuids(&records().map(|call| uuid_of_webhook(call.webhook_id)).collect()),
                    ints(&records().map(size).collect()),
                    many_bytes(&records().map(json).collect()),
                    int(&(CALLS_KEPT as i32)),
                    long(&(CALL_LOG_BYTES as i64)),
                ],
            )
            .await?;
        let kept: Vec<_> = calls.iter().filter_map(|call| Some((call, call.content.as_deref()?))).collect();
        if kept.is_empty() {
            return Ok(());
        }
        self.database()
            .query(
                "SELECT @S@.keep_contents_1($1, $2, $3, $4, $5)",
                &[
                    uuids(&kept.iter().map(|(call, _)| uuid_of_call(call.record.id)).collect()),
                    longs(&kept.iter().map(|(_, content)| milliseconds(content.expires_at)).collect()),
                    many_bytes(&kept.iter().map(|(_, content)| content.sealed.as_bytes().to_vec()).collect()),
                    long(&(CONTENT_BYTES as i64)),
                    long(&(ALL_CONTENT_BYTES as i64)),
                ],
            )
            .await?;
        Ok(())
    }

    async fn get_call(
        &self,
        webhook: WebhookId,
        call: CallId,
        now: SystemTime,
    ) -> Result<Option<LoggedCall>, StoreError> {
        Ok(reading::call(self.database(), webhook, call, now).await?)
    }

    async fn list_calls(&self, query: CallQuery) -> Result<Page<Arc<CallRecord>, CallId>, StoreError> {
        Ok(reading::list_calls(self.database(), &query).await?)
    }
}
