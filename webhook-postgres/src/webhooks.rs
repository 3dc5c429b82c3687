//! Webhooks, with those that were claimed for cached by their revision.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio_postgres::Row;
use uuid::Uuid;
use webhook_core::clock::from_milliseconds;
use webhook_core::error::Resource;
use webhook_core::id::{RunId, WebhookId};
use webhook_core::store::{Page, StoreError, WebhookQuery};
use webhook_core::token::TokenDigest;
use webhook_core::webhook::Webhook;

use crate::database::Database;
use crate::failure::Failure;
use crate::group::Grouped;
use crate::record::*;

/// Webhooks as of a revision that a claim has named. Nothing is decided by them but how a run is executed.
#[derive(Default)]
pub(crate) struct Known(Mutex<HashMap<WebhookId, Arc<Webhook>>>);

/// Upper bound on cached webhooks.
const KNOWN: usize = 10_000;

impl Known {
    /// The webhooks of claims, each at least of the revision named. What is missing is read.
    pub(crate) async fn of(
        &self,
        database: &Database,
        wanted: &HashMap<Uuid, i64>,
    ) -> Result<HashMap<Uuid, Arc<Webhook>>, Failure> {
        let mut found = HashMap::with_capacity(wanted.len());
        let missing: Vec<Uuid> = {
            let known = self.0.lock();
            let mut is_known = |(id, revision): (&Uuid, &i64)| match known.get(&webhook_id(*id)) {
                Some(webhook) if webhook.revision == revision.unsigned_abs() => {
                    found.insert(*id, webhook.clone());
                    None
                }
                _ => Some(*id),
            };
            wanted.iter().filter_map(&mut is_known).collect()
        };
        if missing.is_empty() {
            return Ok(found);
        }
        let rows = database
            .read("SELECT record, last_used_ms FROM @S@.webhooks WHERE id = ANY ($1)", &[uuids(&missing)])
            .await?;
        for row in &rows {
            let webhook = read(row)?;
            let mut known = self.0.lock();
            if known.len() >= KNOWN {
                known.clear();
            }
            known.insert(webhook.id, webhook.clone());
            found.insert(uuid_of_webhook(webhook.id), webhook);
        }
        Ok(found)
    }

    /// Those of these webhooks that have a bound, as far as is known.
    pub(crate) fn bounded(&self, ids: impl Iterator<Item = WebhookId>) -> Vec<Uuid> {
        let known = self.0.lock();
        let bound =
            |id: &WebhookId| known.get(id).is_some_and(|it| it.settings.concurrency.bound().is_some());
        let bounded: HashSet<WebhookId> = ids.filter(bound).collect();
        bounded.into_iter().map(uuid_of_webhook).collect()
    }
}

fn read(row: &Row) -> Result<Arc<Webhook>, Failure> {
    let mut webhook: Webhook =
        serde_json::from_slice(at(row, 0)?).map_err(|error| Failure::corrupt("a webhook", error))?;
    webhook.last_used_at = at::<Option<i64>>(row, 1)?.map(from_milliseconds);
    Ok(Arc::new(webhook))
}

fn bound(webhook: &Webhook) -> Option<i32> {
    webhook.settings.concurrency.bound().map(|bound| i32::try_from(bound).unwrap_or(i32::MAX))
}

fn retention(webhook: &Webhook) -> Option<i32> {
    webhook.settings.retention_days.map(|days| i32::try_from(days).unwrap_or(i32::MAX))
}

fn conflict(failure: Failure) -> StoreError {
    if failure.violates("webhooks_token_digest") {
        StoreError::Conflict(Resource::TokenDigest)
    } else if failure.violates("webhooks_pkey") {
        StoreError::Conflict(Resource::Webhook)
    } else {
        failure.into()
    }
}

pub(crate) async fn create(database: &Database, webhook: &Webhook) -> Result<(), StoreError> {
    let last_used = webhook.last_used_at.map(milliseconds);
    database
        .query(
            "INSERT INTO @S@.webhooks (id, revision, last_used_ms, bound, retention_days, enabled, workflow, \
             token_digest, record) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            &[
                uuid(&uuid_of_webhook(webhook.id)),
                long(&webhook.revision.cast_signed()),
                maybe_long(&last_used),
                maybe_int(&bound(webhook)),
                maybe_int(&retention(webhook)),
                flag(&webhook.settings.enabled),
                text(&webhook.workflow.to_string()),
                bytes(&webhook.token_digest.as_bytes().to_vec()),
                bytes(&json(webhook)),
            ],
        )
        .await
        .map(drop)
        .map_err(conflict)
}

pub(crate) async fn get_by_id(database: &Database, id: WebhookId) -> Result<Option<Arc<Webhook>>, Failure> {
    let sql = "SELECT record, last_used_ms FROM @S@.webhooks WHERE id = $1";
    database.read(sql, &[uuid(&uuid_of_webhook(id))]).await?.first().map(read).transpose()
}

impl Grouped for TokenDigest {
    type Key = ();

    fn key(&self) -> Option<()> {
        None
    }

    fn bytes(&self) -> usize {
        self.as_bytes().len()
    }
}

/// Returns the webhook of each digest. Calls of one webhook share its row.
pub(crate) async fn find(
    database: &Database,
    digests: &[TokenDigest],
) -> Result<Vec<Option<Arc<Webhook>>>, Failure> {
    let distinct: HashSet<&[u8]> = digests.iter().map(|digest| digest.as_bytes().as_slice()).collect();
    let distinct: Vec<_> = distinct.into_iter().map(<[u8]>::to_vec).collect();
    let sql = "SELECT record, last_used_ms FROM @S@.webhooks WHERE token_digest = ANY ($1)";
    let rows = database.read(sql, &[many_bytes(&distinct)]).await?;
    let found = rows.iter().map(|row| read(row).map(|webhook| (webhook.token_digest, webhook)));
    let found: HashMap<TokenDigest, Arc<Webhook>> = found.collect::<Result<_, _>>()?;
    Ok(digests.iter().map(|digest| found.get(digest).cloned()).collect())
}

pub(crate) async fn update(database: &Database, webhook: &Webhook, expected: u64) -> Result<(), StoreError> {
    let rows = database
        .query(
            "SELECT @S@.update_webhook_1($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            &[
                uuid(&uuid_of_webhook(webhook.id)),
                long(&expected.cast_signed()),
                long(&webhook.revision.cast_signed()),
                maybe_int(&bound(webhook)),
                maybe_int(&retention(webhook)),
                flag(&webhook.settings.enabled),
                text(&webhook.workflow.to_string()),
                bytes(&webhook.token_digest.as_bytes().to_vec()),
                bytes(&json(webhook)),
            ],
        )
        .await
        .map_err(conflict)?;
    match rows.first().map(|row| at::<&str>(row, 0)).transpose()? {
        Some("u") => Ok(()),
        Some("n") => Err(StoreError::NotFound(Resource::Webhook)),
        _ => Err(StoreError::Conflict(Resource::Webhook)),
    }
}

pub(crate) async fn delete(
    database: &Database,
    id: WebhookId,
    expected: Option<u64>,
    now: SystemTime,
) -> Result<Vec<RunId>, StoreError> {
    let expected = expected.map(u64::cast_signed);
    let rows = database
        .query(
            "SELECT failed, cancelled FROM @S@.delete_webhook_1($1, $2, $3)",
            &[uuid(&uuid_of_webhook(id)), maybe_long(&expected), long(&milliseconds(now))],
        )
        .await?;
    let row = rows.first().ok_or_else(|| Failure::Corrupt("no answer to a deletion".to_owned()))?;
    match at::<Option<&str>>(row, 0)? {
        None => Ok(at::<Vec<Uuid>>(row, 1)?.into_iter().map(run_id).collect()),
        Some("n") => Err(StoreError::NotFound(Resource::Webhook)),
        Some(_) => Err(StoreError::Conflict(Resource::Webhook)),
    }
}

pub(crate) async fn list(
    database: &Database,
    query: &WebhookQuery,
) -> Result<Page<Arc<Webhook>, WebhookId>, Failure> {
    let workflow = query.workflow.as_ref().map(ToString::to_string);
    let before = query.before.map_or(Uuid::max(), uuid_of_webhook);
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX - 1) + 1;
    let condition = if workflow.is_some() { "workflow = $1" } else { "$1::text IS NULL" };
    let sql = format!(
        "SELECT record, last_used_ms FROM @S@.webhooks WHERE {condition} AND id < $2 ORDER BY id DESC LIMIT $3"
    );
    let rows = database.read(&sql, &[maybe_text(&workflow), uuid(&before), long(&limit)]).await?;
    let items = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(Page::cut(items, query.limit, |webhook: &Arc<Webhook>| webhook.id))
}

pub(crate) async fn record_use(database: &Database, uses: &[(WebhookId, SystemTime)]) -> Result<(), Failure> {
    if uses.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = uses.iter().map(|(id, _)| uuid_of_webhook(*id)).collect();
    let times: Vec<i64> = uses.iter().map(|(_, time)| milliseconds(*time)).collect();
    database
        .query(
            "UPDATE @S@.webhooks w SET last_used_ms = u.time FROM (SELECT id, max(time) AS time \
             FROM unnest($1::uuid[], $2::bigint[]) AS t (id, time) GROUP BY id ORDER BY id) u \
             WHERE w.id = u.id AND (w.last_used_ms IS NULL OR w.last_used_ms < u.time)",
            &[uuids(&ids), longs(&times)],
        )
        .await
        .map(drop)
}
