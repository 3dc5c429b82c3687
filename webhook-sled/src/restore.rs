//! What is read when the store is opened: webhooks, live runs and pending deliveries, and nothing of the history.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sled::{IVec, Tree};
use tokio::time::Instant;
use webhook_core::clock::from_milliseconds;
use webhook_core::id::{DeliveryId, RunId, WebhookId};
use webhook_core::live::{LiveRuns, later};
use webhook_core::run::{Run, RunState};
use webhook_core::store::StoreError;
use webhook_core::webhook::Webhook;

use crate::block::Block;
use crate::error::store_error;
use crate::keys;
use crate::outbox::Outbox;
use crate::read;
use crate::record::{ClaimRecord, damaged, decode_claims, decode_number, decode_pending};
use crate::run_record::packing;
use crate::webhooks::Webhooks;

/// What the store has in memory.
#[derive(Default)]
pub(crate) struct Restored {
    pub(crate) webhooks: Webhooks,
    pub(crate) live: LiveRuns,
    pub(crate) outbox: Outbox,
    /// Live runs that have further values.
    pub(crate) tails: HashMap<RunId, u16>,
    /// Runs that were running, queued again.
    pub(crate) interrupted: Vec<Arc<Run>>,
    /// Where their claims were kept.
    pub(crate) claims: Vec<IVec>,
    /// Runs that ended because their webhook was deleted while they ran.
    pub(crate) ended: Vec<Arc<Run>>,
    /// No run that has ended is newer than this one.
    pub(crate) newest_ended: Option<RunId>,
}

pub(crate) fn restore(tree: &Tree, now: SystemTime, instant: Instant) -> Result<Restored, StoreError> {
    let mut restored = Restored { live: LiveRuns::packed(packing()), ..Restored::default() };
    read_webhooks(tree, &mut restored.webhooks)?;
    read_live_runs(tree, &mut restored, now, instant)?;
    read_pending_deliveries(tree, &mut restored.outbox, now, instant)?;
    let newest = tree.scan_prefix([keys::ENDED]).next_back().transpose().map_err(store_error)?;
    restored.newest_ended = newest.map(|(key, _)| id(&key).map(keys::last_of_span)).transpose()?;
    Ok(restored)
}

fn read_webhooks(tree: &Tree, webhooks: &mut Webhooks) -> Result<(), StoreError> {
    for entry in tree.scan_prefix([keys::WEBHOOK]) {
        let (key, head) = entry.map_err(store_error)?;
        webhooks.put(read::read::<Webhook>(tree, &key, &head)?);
    }
    for entry in tree.scan_prefix([keys::LAST_USE]) {
        let (key, value) = entry.map_err(store_error)?;
        let at = i64::try_from(decode_number(&value)?).unwrap_or(i64::MAX);
        webhooks.record_use(WebhookId::from_bytes(id(&key)?), from_milliseconds(at));
    }
    Ok(())
}

fn read_live_runs(
    tree: &Tree,
    restored: &mut Restored,
    now: SystemTime,
    instant: Instant,
) -> Result<(), StoreError> {
    let mut claims = HashMap::<RunId, ClaimRecord>::new();
    for entry in tree.scan_prefix([keys::CLAIMS]) {
        let (key, value) = entry.map_err(store_error)?;
        for claim in decode_claims(&value)? {
            let earlier = claims.get(&claim.run).copied().unwrap_or(claim);
            claims.insert(claim.run, earlier.later(claim));
        }
        restored.claims.push(key);
    }
    let mut orphans = BTreeSet::new();
    for entry in tree.scan_prefix([keys::LIVE]) {
        let (key, head) = entry.map_err(store_error)?;
        let block = Block::new(key, head)?;
        if block.tails() > 0 {
            restored.tails.insert(block.first(), block.tails());
        }
        for mut run in block.runs(tree)? {
            if let Some(claim) = claims.get(&run.id) {
                run = claim.apply(run);
            }
            if restored.webhooks.get(run.webhook_id).is_none() {
                orphans.insert(run.webhook_id);
            }
            let was_running = run.state == RunState::Running;
            let run = restored.live.restore(run, now, instant);
            if was_running {
                restored.interrupted.push(run);
            }
        }
    }
    for webhook in restored.webhooks.all() {
        restored.live.set_bound(webhook.id, webhook.settings.concurrency.bound());
    }
    for webhook in orphans {
        restored.ended.extend(restored.live.close_webhook(webhook, now));
    }
    Ok(())
}

fn read_pending_deliveries(
    tree: &Tree,
    outbox: &mut Outbox,
    now: SystemTime,
    instant: Instant,
) -> Result<(), StoreError> {
    for entry in tree.scan_prefix([keys::PENDING]) {
        let (key, value) = entry.map_err(store_error)?;
        let (run, due) = decode_pending(&value)?;
        let pause = due.duration_since(now).unwrap_or(Duration::ZERO);
        outbox.put(run, DeliveryId::from_bytes(id(&key)?), later(instant, pause));
    }
    Ok(())
}

fn id(key: &[u8]) -> Result<[u8; 16], StoreError> {
    keys::last_id(key).ok_or_else(|| damaged("a key is too short"))
}
