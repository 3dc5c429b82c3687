//! A host's own store: one SQLite file behind `webhook_trigger::backend::RecordStore`, which decides; this file reads and writes.
//!
//! `cargo test --example own_store` holds it to the promises of a store. A record is kept as its JSON, beside the columns by which
//! it is found.

#![allow(clippy::print_stdout, reason = "it prints what to call")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Params, ToSql, TransactionBehavior, params, params_from_iter};
use serde::Serialize;
use serde::de::DeserializeOwned;
use webhook_trigger::RunId;
use webhook_trigger::backend::{LiveRecords, RecordChange, RecordStore, Records, RunLog};
use webhook_trigger::clock::to_milliseconds;
use webhook_trigger::error::BoxError;
use webhook_trigger::id::DeliveryId;
use webhook_trigger::notifier::Delivery;
use webhook_trigger::prelude::*;
use webhook_trigger::store::{DeliveryQuery, PruneRequest, RunQuery, StoreError};

/// Times in records are milliseconds since 1970. The file is open in one process.
const SCHEMA: &str = "
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;

    CREATE TABLE IF NOT EXISTS webhooks (
        id TEXT PRIMARY KEY,
        retention_days INTEGER,
        record TEXT NOT NULL
    );

    CREATE TABLE IF NOT EXISTS runs (
        id TEXT PRIMARY KEY,
        webhook TEXT NOT NULL,
        workflow TEXT NOT NULL,
        state TEXT NOT NULL,
        finished INTEGER,
        record TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS runs_of_webhook ON runs (webhook, state, id);
    CREATE INDEX IF NOT EXISTS runs_of_workflow ON runs (workflow, state, id);
    CREATE INDEX IF NOT EXISTS runs_by_state ON runs (state, id);

    CREATE TABLE IF NOT EXISTS keys (
        webhook TEXT,
        key TEXT,
        record TEXT NOT NULL,
        PRIMARY KEY (webhook, key)
    );

    CREATE TABLE IF NOT EXISTS logs (
        run TEXT PRIMARY KEY,
        start INTEGER NOT NULL,
        text TEXT NOT NULL
    );

    CREATE TABLE IF NOT EXISTS deliveries (
        id TEXT PRIMARY KEY,
        run TEXT NOT NULL,
        channel TEXT NOT NULL,
        state TEXT NOT NULL,
        record TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS deliveries_of_run ON deliveries (run, id);
    CREATE INDEX IF NOT EXISTS deliveries_by_state ON deliveries (state, channel, id);
";

/// Ended runs to remove at the time `?1`: those past their retention, which is `?2` unless their webhook sets another, and all but
/// the newest `?3` of each webhook.
const EXPIRED: &str = "
    SELECT id FROM (
        SELECT runs.id, finished, retention_days,
            row_number() OVER (PARTITION BY webhook ORDER BY finished DESC, runs.id DESC) AS place
        FROM runs LEFT JOIN webhooks ON webhooks.id = webhook
        WHERE finished IS NOT NULL
    )
    WHERE finished <= ?1 - coalesce(retention_days * 86400000, ?2) OR place > ?3";

/// The records of a store in an SQLite file.
struct SqliteRecords {
    file: Connection,
}

type Done<T> = Result<T, BoxError>;

fn json(record: &impl Serialize) -> Done<String> {
    Ok(serde_json::to_string(record)?)
}

/// Conditions of a query, with the values of their parameters.
struct Filter {
    conditions: String,
    values: Vec<Value>,
}

impl Filter {
    fn new() -> Self {
        Self { conditions: "TRUE".to_owned(), values: Vec::new() }
    }

    /// Adds a condition on the value that is to follow, if there is one.
    fn and(mut self, condition: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.conditions += &format!(" AND {condition} ?");
            self.values.push(Value::Text(value.to_string()));
        }
        self
    }
}

impl SqliteRecords {
    fn open(path: impl AsRef<Path>) -> Done<Self> {
        let file = Connection::open(path)?;
        file.execute_batch(SCHEMA)?;
        Ok(Self { file })
    }

    /// Reads the records in the first column of the answer.
    fn records<T: DeserializeOwned>(&self, sql: &str, values: impl Params) -> Done<Vec<T>> {
        let mut statement = self.file.prepare(sql)?;
        let mut rows = statement.query(values)?;
        let mut records = Vec::new();
        while let Some(row) = rows.next()? {
            let record = serde_json::from_str(row.get_ref(0)?.as_str()?);
            records.push(record.map_err(|error| StoreError::corrupt("a record cannot be read", error))?);
        }
        Ok(records)
    }

    fn newest<T: DeserializeOwned>(&self, table: &str, filter: Filter, limit: usize) -> Done<Vec<T>> {
        let sql =
            format!("SELECT record FROM {table} WHERE {} ORDER BY id DESC LIMIT {limit}", filter.conditions);
        self.records(&sql, params_from_iter(filter.values))
    }
}

/// Writes one change. The caller's transaction makes it durable.
fn apply(file: &Connection, change: &RecordChange) -> Done<()> {
    let execute = |sql: &str, values: &[&dyn ToSql]| -> Done<()> {
        file.prepare(sql)?.execute(values)?;
        Ok(())
    };
    match change {
        RecordChange::PutWebhook(webhook) => {
            let put = "INSERT OR REPLACE INTO webhooks (id, retention_days, record) VALUES (?, ?, ?)";
            execute(put, params![webhook.id.to_string(), webhook.settings.retention_days, json(&**webhook)?])
        }
        RecordChange::RemoveWebhook(id) => {
            execute("DELETE FROM webhooks WHERE id = ?", params![id.to_string()])
        }
        RecordChange::PutRun(run) => {
            let put = "INSERT OR REPLACE INTO runs (id, webhook, workflow, state, finished, record)
                VALUES (?, ?, ?, ?, ?, ?)";
            let values = params![
                run.id().to_string(),
                run.webhook_id().to_string(),
                run.workflow().to_string(),
                run.state().as_str(),
                run.finished_at().map(to_milliseconds),
                json(&**run)?,
            ];
            execute(put, values)
        }
        RecordChange::RemoveRun(id) => {
            let id = id.to_string();
            execute("DELETE FROM runs WHERE id = ?", params![id])?;
            execute("DELETE FROM logs WHERE run = ?", params![id])?;
            execute("DELETE FROM deliveries WHERE run = ?", params![id])
        }
        RecordChange::AppendLog { run, text } => {
            let mut log = log(file, *run)?.unwrap_or_default();
            log.append(text);
            let put = "INSERT OR REPLACE INTO logs (run, start, text) VALUES (?, ?, ?)";
            execute(put, params![run.to_string(), i64::try_from(log.start)?, log.text])
        }
        RecordChange::PutKey(key) => {
            let put = "INSERT OR REPLACE INTO keys (webhook, key, record) VALUES (?, ?, ?)";
            execute(put, params![key.webhook_id.to_string(), key.key, json(key)?])
        }
        RecordChange::RemoveKey { webhook_id, key } => {
            execute("DELETE FROM keys WHERE webhook = ? AND key = ?", params![webhook_id.to_string(), key])
        }
        RecordChange::PutDelivery(delivery) => {
            let put = "INSERT OR REPLACE INTO deliveries (id, run, channel, state, record)
                VALUES (?, ?, ?, ?, ?)";
            let values = params![
                delivery.id.to_string(),
                delivery.run.to_string(),
                delivery.channel.as_str(),
                delivery.state.as_str(),
                json(delivery)?,
            ];
            execute(put, values)
        }
        other => Err(format!("a change that this store does not know: {other:?}").into()),
    }
}

fn log(file: &Connection, run: RunId) -> Done<Option<RunLog>> {
    let mut statement = file.prepare("SELECT start, text FROM logs WHERE run = ?")?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?));
    let Some((start, text)) = statement.query_row([run.to_string()], read).optional()? else {
        return Ok(None);
    };
    Ok(Some(RunLog::new(u64::try_from(start)?, text)))
}

impl Records for SqliteRecords {
    fn load(&mut self) -> Done<LiveRecords> {
        let mut live = LiveRecords::default();
        live.webhooks = self.records("SELECT record FROM webhooks", [])?;
        live.runs = self.records("SELECT record FROM runs WHERE state IN ('queued', 'running')", [])?;
        live.keys = self.records("SELECT record FROM keys", [])?;
        live.deliveries = self.records("SELECT record FROM deliveries WHERE state = 'pending'", [])?;
        Ok(live)
    }

    fn write(&mut self, changes: &[RecordChange]) -> Done<()> {
        // It is rolled back when it is dropped.
        let transaction = self.file.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for change in changes {
            apply(&transaction, change)?;
        }
        Ok(transaction.commit()?)
    }

    fn get_run(&mut self, id: RunId) -> Done<Option<Arc<Run>>> {
        let found = self.records("SELECT record FROM runs WHERE id = ?", [id.to_string()])?;
        Ok(found.into_iter().next().map(Arc::new))
    }

    fn list_runs(&mut self, query: &RunQuery) -> Done<Vec<Arc<Run>>> {
        let filter = Filter::new()
            .and("workflow =", query.workflow.as_ref())
            .and("webhook =", query.webhook)
            .and("state =", query.state.map(RunState::as_str))
            .and("id <", query.before);
        Ok(self.newest("runs", filter, query.limit)?.into_iter().map(Arc::new).collect())
    }

    fn expired_runs(&mut self, request: &PruneRequest, stays: &dyn Fn(RunId) -> bool) -> Done<Vec<RunId>> {
        let keep_for = i64::try_from(request.keep_for.as_millis()).unwrap_or(i64::MAX / 2);
        let keep = request.keep_per_webhook.map_or(i64::MAX, |keep| i64::try_from(keep).unwrap_or(i64::MAX));
        let mut statement = self.file.prepare(EXPIRED)?;
        let mut rows = statement.query(params![to_milliseconds(request.now), keep_for, keep])?;
        let mut expired = Vec::new();
        while expired.len() < request.limit
            && let Some(row) = rows.next()?
        {
            let run: RunId = row.get_ref(0)?.as_str()?.parse()?;
            if !stays(run) {
                expired.push(run);
            }
        }
        Ok(expired)
    }

    fn get_log(&mut self, run: RunId) -> Done<Option<RunLog>> {
        log(&self.file, run)
    }

    fn get_delivery(&mut self, id: DeliveryId) -> Done<Option<Delivery>> {
        let found = self.records("SELECT record FROM deliveries WHERE id = ?", [id.to_string()])?;
        Ok(found.into_iter().next())
    }

    fn deliveries_of(&mut self, run: RunId) -> Done<Vec<Delivery>> {
        self.records("SELECT record FROM deliveries WHERE run = ? ORDER BY id", [run.to_string()])
    }

    fn find_deliveries(&mut self, query: &DeliveryQuery) -> Done<Vec<Delivery>> {
        let filter = Filter::new()
            .and("state =", query.state.map(|state| state.as_str()))
            .and("channel =", query.channel.as_ref().map(|channel| channel.as_str()))
            .and("id <", query.before);
        self.newest("deliveries", filter, query.limit)
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let server = Server::bind(address.parse()?).await?;
    let sales = Workflow::new("report/sales".parse()?, "Sales", ParameterBlocks::default());
    let webhooks = Webhooks::builder()
        .store(RecordStore::open(SqliteRecords::open("own-store.sqlite")?)?)
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

    webhook_testing::conformance_tests!(opened_again: {
        let folder = tempfile::tempdir().expect("a folder");
        async move || {
            let records = SqliteRecords::open(folder.path().join("sqlite")).expect("a file");
            RecordStore::open(records).expect("a store")
        }
    });
}
