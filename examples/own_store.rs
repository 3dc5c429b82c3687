//! A host's own store: one SQLite file, around the parts of `webhook_trigger::backend`, which decide.
//!
//! `cargo test --example own_store` holds it to the promises of a store. Each call is one transaction. A record is kept as its
//! JSON, from which SQLite takes the columns that it looks for.

#![allow(clippy::print_stdout, reason = "it prints what to call")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Params, Row, params, params_from_iter};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use webhook_trigger::backend::{CallLog, CallRates, EventLog, LiveCancel, LiveRuns, WebhookIndex};
use webhook_trigger::calls::{CALLS_KEPT, CallRecord, KeptContent, LoggedCall};
use webhook_trigger::clock::{later, to_milliseconds};
use webhook_trigger::error::{BoxError, Resource};
use webhook_trigger::events::{EventCursor, Events};
use webhook_trigger::id::{CallId, DeliveryId};
use webhook_trigger::notifier::Delivery;
use webhook_trigger::prelude::*;
use webhook_trigger::run::CancelReason;
use webhook_trigger::store::*;
use webhook_trigger::token::{Sealed, TokenDigest};
use webhook_trigger::webhook::RateLimit;
use webhook_trigger::{RunId, WebhookId};

/// `due` and `expires` are milliseconds since the file was opened, so a jump of the clock changes nothing; other times are
/// times of day. The file is open in one process.
const SCHEMA: &str = "
    PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS webhooks (record TEXT, id TEXT AS (record ->> 'id') STORED UNIQUE);
    CREATE TABLE IF NOT EXISTS runs (record TEXT, id TEXT AS (record ->> 'id') STORED UNIQUE,
        webhook TEXT AS (record ->> 'webhook_id') STORED, workflow TEXT AS (record ->> 'workflow') STORED,
        state TEXT AS (record ->> 'state') STORED, finished INTEGER AS (record ->> 'finished_at') STORED);
    CREATE INDEX IF NOT EXISTS runs_of_webhook ON runs (webhook, state, id);
    CREATE INDEX IF NOT EXISTS runs_of_workflow ON runs (workflow, state, id);
    CREATE INDEX IF NOT EXISTS runs_by_state ON runs (state, id);
    CREATE TABLE IF NOT EXISTS keys (webhook TEXT, key TEXT, fingerprint BLOB, run TEXT, expires INTEGER,
        expires_at INTEGER, PRIMARY KEY (webhook, key));
    CREATE INDEX IF NOT EXISTS keys_of_run ON keys (run);
    CREATE TABLE IF NOT EXISTS logs (run TEXT PRIMARY KEY, start INTEGER, text TEXT);
    CREATE TABLE IF NOT EXISTS deliveries (record TEXT, due INTEGER, id TEXT AS (record ->> 'id') STORED UNIQUE,
        run TEXT AS (record ->> 'run') STORED, channel TEXT AS (record ->> 'channel') STORED,
        state TEXT AS (record ->> 'state') STORED);
    CREATE INDEX IF NOT EXISTS deliveries_of_run ON deliveries (run, id);
    CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (state, due);
    CREATE TABLE IF NOT EXISTS calls (record TEXT, id TEXT AS (record ->> 'id') STORED UNIQUE,
        webhook TEXT AS (record ->> 'webhook_id') STORED);
    CREATE INDEX IF NOT EXISTS calls_of_webhook ON calls (webhook, id);
    CREATE TABLE IF NOT EXISTS contents (call TEXT PRIMARY KEY, sealed BLOB);";

/// Ended runs to remove at `?1`: after their retention (`?2` by default), or behind the newest `?3` of their webhook.
const EXPIRED: &str =
    "SELECT id FROM (SELECT runs.id, finished, webhooks.record ->> '$.settings.retention_days' AS days,
        row_number() OVER (PARTITION BY webhook ORDER BY finished DESC, runs.id DESC) AS place
        FROM runs LEFT JOIN webhooks ON webhooks.id = webhook WHERE finished IS NOT NULL) AS ended
    WHERE (finished <= ?1 - coalesce(days * 86400000, ?2) OR place > ?3)
        AND NOT EXISTS (SELECT 1 FROM deliveries WHERE run = ended.id AND state = 'pending')
        AND NOT EXISTS (SELECT 1 FROM keys WHERE run = ended.id AND expires_at > ?1)
    LIMIT ?4";

/// A store in one SQLite file. Its clones share it.
#[derive(Clone)]
struct SqliteStore(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    opened: Instant,
    changed: Notify,
}

struct State {
    file: Connection,
    webhooks: WebhookIndex,
    live: LiveRuns,
    rates: CallRates,
    calls: CallLog,
    events: Arc<EventLog>,
    /// True once a change was decided and could not be written. The file must then be opened again.
    has_failed: bool,
}

/// The moment of a call: now, and in milliseconds since the file was opened.
#[derive(Clone, Copy)]
struct Moment(Instant, i64);

type Done<T> = Result<T, BoxError>;

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).min(i64::MAX / 4)
}

fn json(record: &impl Serialize) -> Done<String> {
    Ok(serde_json::to_string(record)?)
}

fn parsed<T: DeserializeOwned>(record: &str) -> Done<T> {
    Ok(serde_json::from_str(record).map_err(|error| StoreError::corrupt("a record cannot be read", error))?)
}

/// Conditions for what is asked for.
struct Filter(String, Vec<Value>);

impl Filter {
    fn new(condition: &str) -> Self {
        Self(condition.to_owned(), Vec::new())
    }

    fn and(mut self, condition: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.0 += &format!(" AND {condition} ?");
            self.1.push(Value::Text(value.to_string()));
        }
        self
    }

    fn through(self, channels: &Channels) -> Self {
        match channels {
            Channels::Only(channel) => self.and("channel =", Some(channel.as_str())),
            Channels::Except(out) => {
                out.iter().fold(self, |filter, channel| filter.and("channel <>", Some(channel.as_str())))
            }
        }
    }
}

impl State {
    fn open(path: &Path) -> Done<Self> {
        let file = Connection::open(path)?;
        file.execute_batch(SCHEMA)?;
        let now = SystemTime::now();
        // A due time is a time of day in the file, and a monotonic one in the process: the time left until then is what counts.
        let left = "UPDATE deliveries SET due = max(0, (record ->> 'next_at') - ?) WHERE state = 'pending'";
        file.execute(left, [to_milliseconds(now)])?;
        file.execute("UPDATE keys SET expires = expires_at - ?", [to_milliseconds(now)])?;
        let (webhooks, live, rates) = (WebhookIndex::default(), LiveRuns::new(), CallRates::default());
        let (calls, events) = (CallLog::default(), Arc::default());
        let mut state = Self { file, webhooks, live, rates, calls, events, has_failed: false };
        for webhook in state.records::<Webhook>("SELECT record FROM webhooks", [])? {
            state.webhooks.put(webhook);
        }
        for run in state.records::<Run>("SELECT record FROM runs WHERE state IN ('queued', 'running')", [])? {
            let (webhook, bytes) = (run.webhook_id(), run.parameters().bytes());
            // A running one is interrupted: the process that ran it is gone.
            let run = state.live.restore(run, bytes, now, Instant::now());
            state.put_run(&run)?;
            state.live.provide(Arc::new(run));
            match state.webhooks.get(webhook) {
                Some(webhook) => state.live.set_bound(webhook.id, webhook.settings.concurrency.bound()),
                None => state.cancel_queued(webhook, now).map(drop)?,
            }
        }
        for call in state.records::<CallRecord>("SELECT record FROM calls ORDER BY id", [])? {
            let length = "SELECT length(sealed) FROM contents WHERE call = ?";
            let read = |row: &Row<'_>| row.get::<_, i64>(0);
            let bytes = state.file.query_row(length, [call.id.to_string()], read).optional()?;
            let (content, call) = (bytes.zip(call.replayable_until), Arc::new(call));
            state.calls.add(call.clone());
            if let Some((bytes, end)) = content {
                state.calls.add_content(&call, usize::try_from(bytes)?, end);
            }
        }
        Ok(state)
    }

    /// Reads the records in the first column.
    fn records<T: DeserializeOwned>(&self, sql: &str, values: impl Params) -> Done<Vec<T>> {
        let mut statement = self.file.prepare(sql)?;
        let texts = statement.query_map(values, |row| row.get::<_, String>(0))?;
        texts.map(|text: rusqlite::Result<String>| parsed(&text?)).collect()
    }

    fn record<T: DeserializeOwned>(&self, sql: &str, id: impl ToString) -> Done<Option<T>> {
        Ok(self.records(sql, [id.to_string()])?.pop())
    }

    fn execute(&self, sql: &str, values: impl Params) -> Done<()> {
        self.file.prepare(sql)?.execute(values)?;
        Ok(())
    }

    /// Reads the newest records, one more than a page has.
    fn newest<T: DeserializeOwned>(&self, table: &str, filter: Filter, limit: usize) -> Done<Vec<T>> {
        let sql =
            format!("SELECT record FROM {table} WHERE {} ORDER BY id DESC LIMIT {}", filter.0, limit + 1);
        self.records(&sql, params_from_iter(filter.1))
    }

    fn put_webhook(&mut self, webhook: Webhook) -> Done<()> {
        self.execute("INSERT OR REPLACE INTO webhooks (record) VALUES (?)", [json(&webhook)?])?;
        self.webhooks.put(webhook);
        Ok(())
    }

    fn run(&self, id: RunId) -> Done<Option<Arc<Run>>> {
        Ok(self.record("SELECT record FROM runs WHERE id = ?", id)?.map(Arc::new))
    }

    fn put_run(&self, run: &Run) -> Done<()> {
        self.execute("INSERT OR REPLACE INTO runs (record) VALUES (?)", [json(run)?])
    }

    /// Writes a run whose state has changed, and tells of it.
    fn change(&self, run: &Arc<Run>, told: &Arc<[Delivery]>) -> Done<()> {
        self.put_run(run)?;
        self.events.publish_state(run, told);
        Ok(())
    }

    fn cancel_queued(&mut self, webhook: WebhookId, now: SystemTime) -> Done<Vec<RunId>> {
        let queued = self.live.close_webhook(webhook);
        for id in &queued {
            if let Some(LiveCancel::Ended(run)) = self.live.cancel(*id, CancelReason::WebhookDeleted, now) {
                self.change(&run, &Arc::default())?;
            }
        }
        Ok(queued)
    }

    fn enqueue(&mut self, request: Enqueue, Moment(_, passed): Moment) -> Done<Enqueued> {
        let (run, webhook_id) = (request.run.clone(), request.run.webhook_id());
        let webhook = self.webhooks.get(webhook_id).ok_or(StoreError::NotFound(Resource::Webhook))?;
        if let Some(refusal) = request.refused_by(webhook) {
            return Ok(refusal);
        }
        let bound = webhook.settings.concurrency.bound();
        if let Some(given) = &request.idempotency {
            let sql = "SELECT fingerprint, record FROM keys JOIN runs ON runs.id = keys.run
                WHERE keys.webhook = ? AND key = ? AND expires > ?";
            let read = |row: &Row<'_>| Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, String>(1)?));
            let values = params![webhook_id.to_string(), given.key, passed];
            match self.file.query_row(sql, values, read).optional()? {
                Some((fingerprint, _)) if !given.matches(&fingerprint) => return Ok(Enqueued::KeyMismatch),
                Some((_, record)) => return Ok(Enqueued::Replayed(Arc::new(parsed(&record)?))),
                None => {}
            }
        }
        if self.run(run.id())?.is_some() {
            return Err(StoreError::Conflict(Resource::Run).into());
        }
        // No record is missing, since all are in memory.
        let Ok(admission) = self.live.admit(&request, bound) else { return Ok(Enqueued::QueueFull) };
        for run in &admission.superseded {
            self.change(run, &Arc::default())?;
        }
        for run in &admission.asked_to_stop {
            self.put_run(run)?;
        }
        self.change(&admission.run, &Arc::default())?;
        if let Some(given) = &request.idempotency {
            let (keep, id) = (ms(given.keep_for), run.id().to_string());
            let (expires, expires_at) = (passed + keep, to_milliseconds(run.queued_at()) + keep);
            let values =
                params![webhook_id.to_string(), given.key, given.fingerprint, id, expires, expires_at];
            self.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?, ?)", values)?;
        }
        // It is claimed after this transaction, which holds the lock until it is durable.
        self.live.commit(run.id());
        let asked_to_stop = admission.asked_to_stop.iter().map(|run| run.id()).collect();
        Ok(Enqueued::Created { run: admission.run, asked_to_stop })
    }

    fn claim(&mut self, request: &ClaimRequest, now: Instant) -> Done<Vec<Claim>> {
        let claimed = self.live.claim(request, now);
        for run in claimed.ended.iter().chain(&claimed.interrupted).chain(&claimed.claimed) {
            self.change(run, &Arc::default())?;
        }
        // In the file, those claimed ahead are queued.
        let now = claimed.claimed.into_iter().map(|run| (run, false));
        let all = now.chain(claimed.ahead.into_iter().map(|run| (run, true)));
        let claim = |(run, is_ahead): (Arc<Run>, _)| {
            let webhook = self.webhooks.get(run.webhook_id()).cloned();
            Claim::new(run, webhook).with_ahead(is_ahead)
        };
        Ok(all.map(claim).collect())
    }

    fn renew(&mut self, renewal: &Renewal, end: Instant) -> Done<Renewed> {
        let renewed = self.live.renew(renewal, end);
        if let (Renewed::Held { .. }, Some(progress)) = (renewed, &renewal.progress)
            && let Some(run) = self.live.record(renewal.run)
        {
            self.put_run(&run)?;
            self.events.publish_progress(&run, progress);
        }
        Ok(renewed)
    }

    fn settle(&mut self, settlement: &Settlement, moment: Moment) -> Done<Settled> {
        let Some(run) = self.live.settle(settlement, moment.0) else { return Ok(Settled::Stale) };
        for delivery in settlement.deliveries() {
            self.put_delivery(delivery, moment.1)?;
        }
        self.change(&run, &settlement.deliveries().into())?;
        Ok(Settled::Applied(run))
    }

    fn cancel_run(&mut self, id: RunId, now: SystemTime) -> Done<Cancelled> {
        match self.live.cancel(id, CancelReason::Requested, now) {
            Some(LiveCancel::Ended(run)) => {
                self.change(&run, &Arc::default())?;
                Ok(Cancelled::Ended(run))
            }
            Some(LiveCancel::Requested(run)) => {
                self.put_run(&run)?;
                Ok(Cancelled::Requested(run))
            }
            _ => Ok(Cancelled::TooLate(self.run(id)?.ok_or(StoreError::NotFound(Resource::Run))?)),
        }
    }

    fn prune(&mut self, request: &PruneRequest, Moment(_, passed): Moment) -> Done<Pruned> {
        self.execute("DELETE FROM keys WHERE expires <= ?", [passed])?;
        self.calls.expire_contents(request.now);
        self.remove_dropped_contents()?;
        let most = |number: u64| i64::try_from(number).unwrap_or(i64::MAX - 1);
        let keep = most(request.keep_per_webhook.unwrap_or(u64::MAX));
        let limit = most(request.limit as u64) + 1;
        let mut statement = self.file.prepare(EXPIRED)?;
        let values = params![to_milliseconds(request.now), ms(request.keep_for), keep, limit];
        let ids = statement.query_map(values, |row| row.get::<_, String>(0))?;
        let mut ids = ids.collect::<Result<Vec<_>, _>>()?;
        let more = ids.len() > request.limit;
        ids.truncate(request.limit);
        for id in &ids {
            for place in ["runs WHERE id", "logs WHERE run", "deliveries WHERE run"] {
                self.execute(&format!("DELETE FROM {place} = ?"), [id])?;
            }
        }
        let ids: Result<Vec<RunId>, _> = ids.iter().map(|id| id.parse()).collect();
        Ok(Pruned::new(ids?, more))
    }

    fn log(&self, run: RunId) -> Done<(i64, String)> {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let sql = "SELECT start, text FROM logs WHERE run = ?";
        Ok(self.file.query_row(sql, [run.to_string()], read).optional()?.unwrap_or_default())
    }

    fn append_log(&mut self, id: RunId, fence: u64, text: &str) -> Done<()> {
        let held = |run: &Arc<Run>| run.state() == RunState::Running && run.fence() == fence;
        let Some(run) = self.live.record(id).filter(held) else { return Ok(()) };
        let (start, mut log) = self.log(id)?;
        log.push_str(text);
        let surplus = log_surplus(&log);
        let values = params![id.to_string(), start + surplus as i64, &log[surplus..]];
        self.execute("INSERT OR REPLACE INTO logs VALUES (?, ?, ?)", values)?;
        self.events.publish_log(&run, text);
        Ok(())
    }

    fn put_delivery(&self, delivery: &Delivery, due: i64) -> Done<()> {
        let values = params![json(delivery)?, due];
        self.execute("INSERT OR REPLACE INTO deliveries (record, due) VALUES (?, ?)", values)
    }

    fn delivery(&self, id: DeliveryId) -> Done<Option<Delivery>> {
        self.record("SELECT record FROM deliveries WHERE id = ?", id)
    }

    fn claim_deliveries(&mut self, request: &DeliveryClaimRequest, passed: i64) -> Done<Vec<Delivery>> {
        let filter =
            Filter::new("state = 'pending'").and("due <= 0 +", Some(passed)).through(&request.channels);
        let sql = format!(
            "SELECT record FROM deliveries WHERE {} ORDER BY due, id LIMIT {}",
            filter.0, request.limit
        );
        let claimed: Vec<Delivery> = self.records(&sql, params_from_iter(filter.1))?;
        for delivery in &claimed {
            self.put_delivery(delivery, passed + ms(request.lease))?;
        }
        Ok(claimed)
    }

    fn append_calls(&mut self, calls: Vec<LoggedCall>) -> Done<()> {
        for call in self.calls.append(calls, &self.webhooks, &self.events) {
            let LoggedCall { record, content, .. } = call;
            self.execute("INSERT OR REPLACE INTO calls (record) VALUES (?)", [json(&*record)?])?;
            if let Some(content) = content {
                let insert = "INSERT OR REPLACE INTO contents (call, sealed) VALUES (?, ?)";
                self.execute(insert, params![record.id.to_string(), content.sealed.as_bytes()])?;
            }
            let surplus = "DELETE FROM calls WHERE webhook = ?1 AND id NOT IN
                (SELECT id FROM calls WHERE webhook = ?1 ORDER BY id DESC LIMIT ?2)";
            self.execute(surplus, params![record.webhook_id.to_string(), CALLS_KEPT as i64])?;
        }
        let oldest = self.calls.iter().next().map(|call| call.id.to_string());
        self.execute("DELETE FROM calls WHERE id < ?", [oldest])?;
        self.remove_dropped_contents()
    }

    /// Removes the contents of calls that the log no longer keeps.
    fn remove_dropped_contents(&mut self) -> Done<()> {
        for call in self.calls.take_dropped() {
            self.execute("DELETE FROM contents WHERE call = ?", [call.to_string()])?;
        }
        Ok(())
    }

    fn call(&self, webhook: WebhookId, id: CallId, now: SystemTime) -> Done<Option<LoggedCall>> {
        let Some(record) = self.calls.get(webhook, id).cloned() else { return Ok(None) };
        let sql = "SELECT sealed FROM contents WHERE call = ?";
        let sealed = self.file.query_row(sql, [id.to_string()], |row| row.get(0)).optional()?;
        let content = sealed.zip(record.replayable_until).filter(|_| self.calls.has_content(id, now));
        let content =
            content.map(|(sealed, end)| Arc::new(KeptContent::new(Sealed::from_bytes(sealed), end)));
        Ok(Some(LoggedCall::new(record).with_content(content)))
    }
}

impl SqliteStore {
    fn open(path: impl AsRef<Path>) -> Done<Self> {
        let (state, opened) = (Mutex::new(State::open(path.as_ref())?), Instant::now());
        Ok(Self(Arc::new(Shared { state, opened, changed: Notify::new() })))
    }

    /// Executes one durable transaction. It goes on if this future is dropped.
    async fn step<T, F>(&self, step: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut State, Moment) -> Done<T> + Send + 'static,
    {
        let shared = self.0.clone();
        let task = tokio::task::spawn_blocking(move || {
            let (state, now) = (&mut *shared.state.lock(), Instant::now());
            if state.has_failed {
                return Err("a change could not be written; open the file again".into());
            }
            state.file.execute_batch("BEGIN IMMEDIATE")?;
            // Stays if the step panics or cannot be written: memory may then be ahead of the file.
            state.has_failed = true;
            let result = step(state, Moment(now, ms(now - shared.opened)));
            let is_refused = result.as_ref().is_err_and(|error| error.is::<StoreError>());
            state.file.execute_batch(if result.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
            state.has_failed = result.is_err() && !is_refused;
            result
        });
        task.await.unwrap_or_else(|panic| Err(panic.into())).map_err(|error| {
            let other = |error| StoreError::unavailable_because("SQLite failed", error);
            error.downcast::<StoreError>().map_or_else(other, |error| *error)
        })
    }

    /// Like [`step`](Self::step), and wakes those who wait for work.
    async fn step_and_wake<T, F>(&self, step: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut State, Moment) -> Done<T> + Send + 'static,
    {
        let result = self.step(step).await;
        self.0.changed.notify_waiters();
        result
    }

    /// Returns the moment at which there is work, if nothing changes.
    async fn work_at(&self, work: Work) -> Result<Option<Instant>, StoreError> {
        let opened = self.0.opened;
        self.step(move |state, Moment(now, _)| match work {
            Work::RunsOf(workflows) => Ok(state.live.work_at(&workflows, now)),
            Work::Deliveries(channels) => {
                let filter = Filter::new("state = 'pending'").through(&channels);
                let sql = format!("SELECT min(due) FROM deliveries WHERE {}", filter.0);
                let due: Option<i64> =
                    state.file.query_row(&sql, params_from_iter(filter.1), |row| row.get(0))?;
                Ok(due.map(|due| later(opened, Duration::from_millis(due.max(0) as u64))))
            }
            _ => Ok(state.live.work_at(&Workflows::All, now)),
        })
        .await
    }
}

#[async_trait::async_trait]
impl Store for SqliteStore {
    async fn create_webhook(&self, webhook: Webhook) -> Result<(), StoreError> {
        self.step(move |state, _| {
            state.webhooks.check_new(&webhook)?;
            state.put_webhook(webhook)
        })
        .await
    }

    async fn get_webhook(&self, id: WebhookId) -> Result<Option<Arc<Webhook>>, StoreError> {
        Ok(self.0.state.lock().webhooks.get(id).cloned())
    }

    async fn find_webhook(&self, digest: &TokenDigest) -> Result<Option<Arc<Webhook>>, StoreError> {
        Ok(self.0.state.lock().webhooks.find(digest).cloned())
    }

    async fn update_webhook(&self, webhook: Webhook, expected_revision: u64) -> Result<(), StoreError> {
        self.step_and_wake(move |state, _| {
            let webhook = state.webhooks.updated(webhook, expected_revision)?;
            state.live.set_bound(webhook.id, webhook.settings.concurrency.bound());
            state.put_webhook(webhook)
        })
        .await
    }

    async fn delete_webhook(
        &self,
        id: WebhookId,
        expected_revision: Option<u64>,
        now: SystemTime,
    ) -> Result<Vec<RunId>, StoreError> {
        self.step(move |state, _| {
            state.webhooks.check_removal(id, expected_revision)?;
            state.webhooks.remove(id);
            state.calls.forget(id);
            state.remove_dropped_contents()?;
            state.execute("DELETE FROM webhooks WHERE id = ?", [id.to_string()])?;
            state.execute("DELETE FROM calls WHERE webhook = ?", [id.to_string()])?;
            state.cancel_queued(id, now)
        })
        .await
    }

    async fn list_webhooks(&self, query: WebhookQuery) -> Result<Page<Arc<Webhook>, WebhookId>, StoreError> {
        Ok(self.0.state.lock().webhooks.list(&query))
    }

    async fn record_use(&self, uses: &[(WebhookId, SystemTime)]) -> Result<(), StoreError> {
        let uses = uses.to_vec();
        self.step(move |state, _| {
            for (id, at) in uses {
                state.webhooks.record_use(id, at);
                if let Some(webhook) = state.webhooks.get(id) {
                    state.execute(
                        "INSERT OR REPLACE INTO webhooks (record) VALUES (?)",
                        [json(&**webhook)?],
                    )?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn enqueue(&self, request: Enqueue) -> Result<Enqueued, StoreError> {
        self.step_and_wake(move |state, now| state.enqueue(request, now)).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, StoreError> {
        self.step(move |state, Moment(now, _)| state.claim(&request, now)).await
    }

    async fn begin(&self, begun: Vec<Begun>) -> Result<(), StoreError> {
        self.step(move |state, _| {
            for begun in &begun {
                if let Some(run) = state.live.begin(begun) {
                    state.change(&run, &Arc::default())?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn renew(&self, renewals: Vec<Renewal>, lease: Duration) -> Result<Vec<Renewed>, StoreError> {
        self.step(move |state, Moment(now, _)| {
            let end = later(now, lease);
            renewals.iter().map(|renewal| state.renew(renewal, end)).collect()
        })
        .await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> {
        self.step_and_wake(move |state, now| settlements.iter().map(|own| state.settle(own, now)).collect())
            .await
    }

    async fn cancel_run(&self, id: RunId, now: SystemTime) -> Result<Cancelled, StoreError> {
        self.step_and_wake(move |state, _| state.cancel_run(id, now)).await
    }

    async fn get_run(&self, id: RunId) -> Result<Option<Arc<Run>>, StoreError> {
        self.step(move |state, _| state.run(id)).await
    }

    async fn list_runs(&self, query: RunQuery) -> Result<Page<Arc<Run>, RunId>, StoreError> {
        self.step(move |state, _| {
            let filter = Filter::new("TRUE")
                .and("workflow =", query.workflow.as_ref().map(json).transpose()?)
                .and("webhook =", query.webhook)
                .and("state =", query.state.map(RunState::as_str))
                .and("id <", query.before);
            let runs = state.newest("runs", filter, query.limit)?.into_iter().map(Arc::new).collect();
            Ok(Page::cut(runs, query.limit, |run: &Arc<Run>| run.id()))
        })
        .await
    }

    async fn prune(&self, request: PruneRequest) -> Result<Pruned, StoreError> {
        self.step(move |state, now| state.prune(&request, now)).await
    }

    async fn append_log(&self, run: RunId, fence: u64, text: String) -> Result<(), StoreError> {
        self.step(move |state, _| state.append_log(run, fence, &text)).await
    }

    async fn read_log(&self, run: RunId, offset: u64) -> Result<LogPart, StoreError> {
        let (start, text) = self.step(move |state, _| state.log(run)).await?;
        Ok(LogPart::of_log(start as u64, &text, offset))
    }

    async fn claim_deliveries(&self, request: DeliveryClaimRequest) -> Result<Vec<Delivery>, StoreError> {
        self.step(move |state, Moment(_, passed)| state.claim_deliveries(&request, passed)).await
    }

    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<(), StoreError> {
        self.step_and_wake(move |state, Moment(_, passed)| {
            for settlement in settlements {
                let delivery = state.delivery(settlement.id)?;
                if let Some(after) = delivery.and_then(|delivery| settlement.applied_to(&delivery)) {
                    state.put_delivery(&after, passed + ms(settlement.pause()))?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn list_deliveries(&self, runs: &[RunId]) -> Result<Vec<Delivery>, StoreError> {
        let runs = runs.to_vec();
        self.step(move |state, _| {
            let sql = "SELECT record FROM deliveries WHERE run = ? ORDER BY id";
            let of_each: Done<Vec<_>> =
                runs.iter().map(|run| state.records(sql, [run.to_string()])).collect();
            Ok(of_each?.concat())
        })
        .await
    }

    async fn find_deliveries(&self, query: DeliveryQuery) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        self.step(move |state, _| {
            let filter = Filter::new("TRUE")
                .and("state =", query.state.map(|state| state.as_str()))
                .and("channel =", query.channel.as_ref().map(|channel| channel.as_str()))
                .and("id <", query.before);
            let deliveries = state.newest("deliveries", filter, query.limit)?;
            Ok(Page::cut(deliveries, query.limit, |delivery: &Delivery| delivery.id))
        })
        .await
    }

    async fn resend_delivery(&self, id: DeliveryId, now: SystemTime) -> Result<Delivery, StoreError> {
        self.step_and_wake(move |state, Moment(_, passed)| {
            let delivery = state.delivery(id)?.ok_or(StoreError::NotFound(Resource::Delivery))?.resent(now);
            state.put_delivery(&delivery, passed)?;
            Ok(delivery)
        })
        .await
    }

    async fn wait_for_work(&self, work: Work) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change falls between the two.
            changed.as_mut().enable();
            match self.work_at(work.clone()).await {
                Ok(Some(from)) if from <= Instant::now() => return,
                Ok(Some(from)) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(from) => {}
                },
                Ok(None) | Err(_) => changed.await,
            }
        }
    }

    async fn events_since(&self, cursor: Option<EventCursor>) -> Result<Events, StoreError> {
        let events = self.0.state.lock().events.clone();
        Ok(events.since(cursor).await)
    }

    async fn health(&self) -> Result<StoreHealth, StoreError> {
        self.step(|state, _| {
            let pending = "SELECT count(*) FROM deliveries WHERE state = 'pending'";
            let pending: i64 = state.file.query_row(pending, [], |row| row.get(0))?;
            Ok(StoreHealth::new(state.live.queued() as u64, state.live.running() as u64, pending as u64))
        })
        .await
    }

    fn calls(&self) -> Option<&dyn CallStore> {
        Some(self)
    }
}

#[async_trait::async_trait]
impl CallStore for SqliteStore {
    async fn take_call(&self, webhook: WebhookId, limit: RateLimit) -> Result<Option<Duration>, StoreError> {
        Ok(self.0.state.lock().rates.take(webhook, limit, Instant::now()))
    }

    async fn append_calls(&self, calls: Vec<LoggedCall>) -> Result<(), StoreError> {
        self.step(move |state, _| state.append_calls(calls)).await
    }

    async fn list_calls(&self, query: CallQuery) -> Result<Page<Arc<CallRecord>, CallId>, StoreError> {
        Ok(self.0.state.lock().calls.list(&query))
    }

    async fn get_call(
        &self,
        webhook: WebhookId,
        call: CallId,
        now: SystemTime,
    ) -> Result<Option<LoggedCall>, StoreError> {
        self.step(move |state, _| state.call(webhook, call, now)).await
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let server = Server::bind(address.parse()?).await?;
    let sales = Workflow::new("report/sales".parse()?, "Sales", ParameterBlocks::default());
    let webhooks = Webhooks::builder()
        .store(SqliteStore::open("own-store.sqlite")?)
        .executor(FnExecutor::new([sales], async |_| Ok(RunOutput::new().with_summary("printed"))))
        .token_key(TokenKey::load_or_create("own-store.key")?)
        .base_url(format!("http://{}", server.local_address()?).parse()?)
        .build()
        .await?;
    let settings = WebhookSettings::default();
    let ensured = webhooks.manage().ensure_webhook("report/sales".parse()?, "example", settings).await?;
    if let Some(url) = ensured.url {
        println!("curl '{}'", url.expose());
    }
    let workers = webhooks.start_workers(WorkerOptions::default());
    let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    let routes = webhook_trigger::warp::service(webhook_trigger::warp::routes(&webhooks));
    server.serve(routes, webhooks.shutdown_on(interrupted)).await;
    workers.shutdown(Duration::from_secs(30)).await;
    webhooks.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_store() -> (Arc<SqliteStore>, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        (Arc::new(SqliteStore::open(folder.path().join("sqlite")).expect("a store")), folder)
    }

    webhook_testing::conformance_tests!(new_store());
}
