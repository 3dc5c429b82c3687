//! Finding what is past its time: ended runs with all that belongs to them, and idempotency keys.

use sled::Tree;
use webhook_core::clock::to_milliseconds;
use webhook_core::id::{RunId, WebhookId};
use webhook_core::notifier::Delivery;
use webhook_core::run::{Run, RunState};
use webhook_core::store::{PruneRequest, StoreError};

use crate::block;
use crate::error::store_error;
use crate::keys::{self, KeyPlace};
use crate::read::{self, Newest};
use crate::record::{decode_number, tail_count};
use crate::run_record::Recorded;
use crate::shared::Shared;

/// A run to remove, with the keys of everything that belongs to it.
pub(crate) struct Removal {
    pub(crate) run: RunId,
    pub(crate) keys: Vec<Vec<u8>>,
}

/// An idempotency key to remove.
pub(crate) struct ExpiredKey {
    pub(crate) expires: u64,
    pub(crate) place: KeyPlace,
}

/// How many runs are removed in one step, so that others need not wait for long.
pub(crate) const STEP: usize = 64;

/// Ended runs past their retention, at most one more than are to be removed.
pub(crate) fn past_retention(
    shared: &Shared,
    tree: &Tree,
    request: &PruneRequest,
) -> Result<Vec<RunId>, StoreError> {
    let mut past = Vec::new();
    for webhook in read::groups(tree, keys::BY_WEBHOOK)? {
        if past.len() > request.limit {
            break;
        }
        past_of_webhook(shared, tree, request, WebhookId::from_bytes(webhook), &mut past)?;
    }
    Ok(past)
}

fn past_of_webhook(
    shared: &Shared,
    tree: &Tree,
    request: &PruneRequest,
    webhook: WebhookId,
    past: &mut Vec<RunId>,
) -> Result<(), StoreError> {
    let states = RunState::ALL.into_iter().filter(|state| state.is_ended());
    let indexes: Vec<_> =
        states.map(|state| keys::ended(keys::BY_WEBHOOK, webhook.as_bytes(), state)).collect();
    let newest_too_many = match request.keep_per_webhook {
        Some(keep) => nth_newest(tree, &indexes, keep)?,
        None => None,
    };
    let retention = request.retention(shared.webhooks().get(webhook).map(|webhook| &**webhook));
    let newest_gone =
        request.now.checked_sub(retention).and_then(|end| u64::try_from(to_milliseconds(end)).ok());
    let now = u64::try_from(to_milliseconds(request.now)).unwrap_or(0);
    for index in indexes {
        for entry in tree.scan_prefix(index) {
            let (key, first_end) = entry.map_err(store_error)?;
            let Some(first) = keys::last_id(&key).map(RunId::from_bytes) else { continue };
            let too_many = |run: RunId| newest_too_many.is_some_and(|newest| run <= newest);
            if past.len() > request.limit
                || !too_many(first) && newest_gone.is_none_or(|gone| age(first) > gone)
            {
                // All that follow are younger.
                break;
            }
            if !too_many(first) && decode_number(&first_end)? > newest_gone.unwrap_or(0) {
                continue;
            }
            let Some(block) = block::named(tree, keys::ENDED, first)? else { continue };
            for Recorded { run, .. } in block.runs(tree)? {
                let is_past = too_many(run.id) || newest_gone.is_some_and(|gone| end_of(&run) <= gone);
                if is_past && !shared.outbox().has_pending(run.id) && !key_is_kept(tree, run.id, now)? {
                    past.push(run.id);
                }
            }
        }
    }
    Ok(())
}

/// When a run ended, in milliseconds.
fn end_of(run: &Run) -> u64 {
    u64::try_from(to_milliseconds(run.finished_at.unwrap_or(run.queued_at))).unwrap_or(0)
}

/// The newest run that is one too many when so many are kept. All older ones are too many as well.
fn nth_newest(tree: &Tree, indexes: &[Vec<u8>], keep: u64) -> Result<Option<RunId>, StoreError> {
    let mut newest = Newest::new(indexes.iter().map(|index| read::older(tree, index, None)))?;
    let mut left = usize::try_from(keep).unwrap_or(usize::MAX);
    while let Some(blocks) = newest.next_span(tree)? {
        let mut ids = Vec::new();
        for block in blocks {
            ids.extend(block.ids()?);
        }
        if left < ids.len() {
            ids.sort_unstable();
            return Ok(Some(ids[ids.len() - 1 - left]));
        }
        left -= ids.len();
    }
    Ok(None)
}

/// Whether the idempotency key of a run is still to find it.
fn key_is_kept(tree: &Tree, run: RunId, now: u64) -> Result<bool, StoreError> {
    let until = tree.get(keys::by_id(keys::KEPT, run.as_bytes())).map_err(store_error)?;
    Ok(until.map(|until| decode_number(&until)).transpose()?.is_some_and(|until| until > now))
}

/// When a run was made, in milliseconds, as its id says (RFC 9562, UUIDv7). It cannot have ended before.
fn age(run: RunId) -> u64 {
    let [a, b, c, d, e, f, ..] = *run.as_bytes();
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// Everything that belongs to a run.
pub(crate) fn removal(tree: &Tree, id: RunId) -> Result<Option<Removal>, StoreError> {
    let Some(block) = block::find(tree, keys::ENDED, id)? else { return Ok(None) };
    let record = keys::by_id(keys::ENDED, id.as_bytes());
    let mut keys = vec![record.to_vec()];
    keys.extend((0..block.tails()).map(|number| keys::tail(&record, number)));
    let kept = keys::by_id(keys::KEPT, id.as_bytes());
    if tree.contains_key(kept).map_err(store_error)? {
        keys.push(kept.to_vec());
    }
    for prefix in [keys::log_of(id), keys::by_id(keys::PARAMETERS, id.as_bytes())] {
        for key in tree.scan_prefix(prefix).keys() {
            keys.push(key.map_err(store_error)?.to_vec());
        }
    }
    for entry in tree.scan_prefix(keys::by_id(keys::DELIVERY, id.as_bytes())) {
        let (key, head) = entry.map_err(store_error)?;
        let delivery: Delivery = read::read(tree, &key, &head)?;
        keys.extend((0..tail_count(&head)?).map(|number| keys::tail(&key, number)));
        keys.push(keys::delivery_run(delivery.id).to_vec());
        keys.push(key.to_vec());
    }
    Ok(Some(Removal { run: id, keys }))
}

/// Idempotency keys past their time, at most `limit`.
pub(crate) fn expired_keys(tree: &Tree, now: u64, limit: usize) -> Result<Vec<ExpiredKey>, StoreError> {
    let mut end = vec![keys::EXPIRY];
    end.extend(now.saturating_add(1).to_be_bytes());
    let entries = tree.range(&[keys::EXPIRY][..]..&end).take(limit);
    let expired = |entry: sled::Result<(sled::IVec, sled::IVec)>| {
        let parsed = entry.map(|(key, _)| keys::parse_expiry(&key)).map_err(store_error);
        parsed.map(|parsed| parsed.map(|(expires, place)| ExpiredKey { expires, place })).transpose()
    };
    entries.filter_map(expired).collect()
}

/// How many idempotency keys are removed at once.
pub(crate) const EXPIRED_AT_ONCE: usize = 1_000;
