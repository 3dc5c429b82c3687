//! Reading runs, logs and deliveries.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use uuid::Uuid;
use webhook_core::calls::{CallRecord, KeptContent, LoggedCall};
use webhook_core::id::{CallId, DeliveryId, RunId, WebhookId};
use webhook_core::notifier::{Delivery, DeliveryState};
use webhook_core::run::Run;
use webhook_core::store::{CallQuery, DeliveryQuery, LogPart, Page, RunQuery};
use webhook_core::token::Sealed;

use crate::database::{Database, Via};
use crate::failure::Failure;
use crate::record::*;

/// The run with this id.
pub(crate) async fn run(database: &Database, id: RunId) -> Result<Option<Arc<Run>>, Failure> {
    Ok(runs(database, &[id]).await?.pop())
}

/// The run with this id, as a host's transaction sees it.
pub(crate) async fn run_via(via: Via<'_>, id: RunId) -> Result<Option<Arc<Run>>, Failure> {
    let rows = via.query("SELECT * FROM @S@.runs_1($1)", &[uuids(&vec![uuid_of_run(id)])]).await?;
    rows.first().map(read_run).transpose()
}

/// The runs with these ids, in no order.
pub(crate) async fn runs(database: &Database, ids: &[RunId]) -> Result<Vec<Arc<Run>>, Failure> {
    let ids: Vec<Uuid> = ids.iter().map(|id| uuid_of_run(*id)).collect();
    database.read("SELECT * FROM @S@.runs_1($1)", &[uuids(&ids)]).await?.iter().map(read_run).collect()
}

/// Lists runs, newest first.
pub(crate) async fn list_runs(
    database: &Database,
    query: &RunQuery,
) -> Result<Page<Arc<Run>, RunId>, Failure> {
    let (live, ended) = match query.state {
        Some(state) => stored_states(state),
        None => (LIVE_STATES, ENDED_STATES),
    };
    let (live, ended) = (live.to_vec(), ended.to_vec());
    let before = query.before.map_or(Uuid::max(), uuid_of_run);
    let webhook = query.webhook.map(uuid_of_webhook);
    let workflow = query.workflow.as_ref().map(ToString::to_string);
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX - 1) + 1;
    let rows = database
        .read(
            "SELECT r.* FROM @S@.runs_1(@S@.list_runs_2($1, $2, $3, $4, $5, $6)) r",
            &[
                smalls(&live),
                smalls(&ended),
                maybe_uuid(&webhook),
                maybe_text(&workflow),
                uuid(&before),
                long(&limit),
            ],
        )
        .await?;
    let mut items = rows.iter().map(read_run).collect::<Result<Vec<_>, _>>()?;
    items.sort_unstable_by_key(|run| std::cmp::Reverse(run.id()));
    Ok(Page::cut(items, query.limit, |run: &Arc<Run>| run.id()))
}

/// Reads a log from an offset on.
pub(crate) async fn log(database: &Database, run: RunId, offset: u64) -> Result<LogPart, Failure> {
    let id = uuid_of_run(run);
    let rows = database.read("SELECT start, text FROM @S@.log_1($1, NULL)", &[uuid(&id)]).await?;
    let (mut start, mut whole) = (None, Vec::new());
    for row in &rows {
        let (first, text): (i64, &[u8]) = (at(row, 0)?, at(row, 1)?);
        start.get_or_insert(first);
        whole.extend_from_slice(text);
    }
    let Some(start) = start else { return Ok(LogPart::new(offset, String::new())) };
    let text = String::from_utf8(whole).map_err(|error| Failure::corrupt("a log", error))?;
    Ok(LogPart::of_log(start.unsigned_abs(), &text, offset))
}

/// Returns the text that was appended to a log at this offset.
pub(crate) async fn log_piece(database: &Database, run: Uuid, start: i64) -> Result<Option<String>, Failure> {
    let rows = database.read("SELECT text FROM @S@.log_1($1, $2)", &[uuid(&run), long(&start)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(String::from_utf8_lossy(at(row, 0)?).into_owned()))
}

pub(crate) fn read_delivery(record: &[u8]) -> Result<Delivery, Failure> {
    serde_json::from_slice(record).map_err(|error| Failure::corrupt("a delivery", error))
}

/// The deliveries of these runs, each run's oldest first.
pub(crate) async fn deliveries(database: &Database, runs: &[RunId]) -> Result<Vec<Delivery>, Failure> {
    let ids: Vec<Uuid> = runs.iter().map(|id| uuid_of_run(*id)).collect();
    let rows = database.read("SELECT * FROM @S@.deliveries_of_1($1)", &[uuids(&ids)]).await?;
    let mut of_run: HashMap<RunId, Vec<Delivery>> = HashMap::new();
    for row in &rows {
        let delivery = read_delivery(at(row, 0)?)?;
        of_run.entry(delivery.run).or_default().push(delivery);
    }
    Ok(runs.iter().flat_map(|run| of_run.remove(run).unwrap_or_default()).collect())
}

pub(crate) fn delivery_state(state: DeliveryState) -> i16 {
    match state {
        DeliveryState::Pending => 0,
        DeliveryState::Delivered => 1,
        _ => 2,
    }
}

/// Lists deliveries of all runs, newest first.
pub(crate) async fn find_deliveries(
    database: &Database,
    query: &DeliveryQuery,
) -> Result<Page<Delivery, DeliveryId>, Failure> {
    let states: Vec<i16> = match query.state {
        Some(state) => vec![delivery_state(state)],
        None => vec![0, 1, 2],
    };
    let channel = query.channel.map(|channel| channel.as_str().to_owned());
    let before = query.before.map_or(Uuid::max(), uuid_of_delivery);
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX - 1) + 1;
    let sql = "SELECT * FROM @S@.find_deliveries_1($1, $2, $3, $4)";
    let parameters = [smalls(&states), maybe_text(&channel), uuid(&before), long(&limit)];
    let rows = database.read(sql, &parameters).await?;
    let items = rows.iter().map(|row| read_delivery(at(row, 0)?)).collect::<Result<Vec<_>, _>>()?;
    Ok(Page::cut(items, query.limit, |delivery: &Delivery| delivery.id))
}

fn read_call(record: &[u8]) -> Result<Arc<CallRecord>, Failure> {
    serde_json::from_slice(record).map(Arc::new).map_err(|error| Failure::corrupt("a call", error))
}

/// Lists the calls of a webhook, newest first.
pub(crate) async fn list_calls(
    database: &Database,
    query: &CallQuery,
) -> Result<Page<Arc<CallRecord>, CallId>, Failure> {
    let before = query.before.map_or(Uuid::max(), uuid_of_call);
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX - 1) + 1;
    let webhook = uuid_of_webhook(query.webhook);
    let sql = "SELECT * FROM @S@.list_calls_1($1, $2, $3)";
    let rows = database.read(sql, &[uuid(&webhook), uuid(&before), long(&limit)]).await?;
    let items = rows.iter().map(|row| read_call(at(row, 0)?)).collect::<Result<Vec<_>, _>>()?;
    Ok(Page::cut(items, query.limit, |call: &Arc<CallRecord>| call.id))
}

/// A call of a webhook, with its content unless that has expired.
pub(crate) async fn call(
    database: &Database,
    webhook: WebhookId,
    call: CallId,
    now: SystemTime,
) -> Result<Option<LoggedCall>, Failure> {
    let (webhook, call, now) = (uuid_of_webhook(webhook), uuid_of_call(call), milliseconds(now));
    let sql = "SELECT record, sealed FROM @S@.call_1($1, $2, $3)";
    let rows = database.read(sql, &[uuid(&webhook), uuid(&call), long(&now)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (record, sealed): (_, Option<Vec<u8>>) = (read_call(at(row, 0)?)?, at(row, 1)?);
    let content = sealed.zip(record.replayable_until);
    let content =
        content.map(|(sealed, until)| Arc::new(KeptContent::new(Sealed::from_bytes(sealed), until)));
    Ok(Some(LoggedCall::new(record).with_content(content)))
}

/// The calls with these ids, oldest first.
pub(crate) async fn calls(database: &Database, ids: &Vec<Uuid>) -> Result<Vec<Arc<CallRecord>>, Failure> {
    let sql = "SELECT record FROM @S@.calls WHERE id = ANY ($1) ORDER BY id";
    database.read(sql, &[uuids(ids)]).await?.iter().map(|row| read_call(at(row, 0)?)).collect()
}
