//! What is read when the store is opened: webhooks, live runs and pending deliveries, and nothing of the history.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use sled::{IVec, Tree};
use tokio::time::Instant;
use webhook_core::clock::from_milliseconds;
use webhook_core::id::{DeliveryId, RunId, WebhookId};
use webhook_core::live::{LiveRuns, later};
use webhook_core::run::RunState;
use webhook_core::store::StoreError;
use webhook_core::webhook::Webhook;

use crate::block::Block;
use crate::error::{set_aside, store_error};
use crate::keys;
use crate::outbox::Outbox;
use crate::read;
use crate::record::{ClaimRecord, damaged, decode_claims, decode_number, decode_pending};
use crate::run_record::Recorded;
use crate::webhooks::Webhooks;

/// About how many bytes the records of queued runs may take in memory. Those that came last are there.
const CACHE_BYTES: usize = 8 << 20;

/// What the store has in memory.
#[derive(Default)]
pub(crate) struct Restored {
    pub(crate) webhooks: Webhooks,
    pub(crate) live: LiveRuns,
    pub(crate) outbox: Outbox,
    /// Live runs that have further values.
    pub(crate) tails: HashMap<RunId, u16>,
    /// Live runs that have large parameters in their records, as earlier formats do.
    pub(crate) with_large_parameters: HashSet<RunId>,
    /// Runs that were running, queued again.
    pub(crate) interrupted: Vec<Recorded>,
    /// Where their claims were kept.
    pub(crate) claims: Vec<IVec>,
    /// Queued runs whose webhook was deleted, and which are to be cancelled.
    pub(crate) orphans: Vec<RunId>,
    /// No run that has ended is newer than this one.
    pub(crate) newest_ended: Option<RunId>,
}

pub(crate) fn restore(tree: &Tree, now: SystemTime, instant: Instant) -> Result<Restored, StoreError> {
    let mut restored = Restored { live: LiveRuns::with_cache(CACHE_BYTES), ..Restored::default() };
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
        let read = Block::new(key.clone(), head).and_then(|block| Ok((block.runs(tree)?, block)));
        let (runs, block) = match read {
            Ok(read) => read,
            Err(error @ StoreError::Corrupt { .. }) => {
                set_aside("queued runs", &key, &error);
                continue;
            }
            Err(error) => return Err(error),
        };
        if block.tails() > 0 {
            restored.tails.insert(block.first(), block.tails());
        }
        for mut recorded in runs {
            if let Some(claim) = claims.get(&recorded.run.id) {
                recorded.run = claim.apply(recorded.run);
            }
            if restored.webhooks.get(recorded.run.webhook_id).is_none() {
                orphans.insert(recorded.run.webhook_id);
            }
            if recorded.has_large_parameters() {
                restored.with_large_parameters.insert(recorded.run.id);
            }
            let was_running = recorded.run.state == RunState::Running;
            let (bytes, apart) = (recorded.parameter_bytes(), recorded.apart);
            let run = restored.live.restore(recorded.run, bytes, now, instant);
            if was_running {
                restored.interrupted.push(Recorded { run, apart });
            }
        }
    }
    for webhook in restored.webhooks.all() {
        restored.live.set_bound(webhook.id, webhook.settings.concurrency.bound());
    }
    for webhook in orphans {
        restored.orphans.extend(restored.live.close_webhook(webhook));
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
