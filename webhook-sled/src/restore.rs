//! What is read when the store is opened: webhooks, live runs and pending deliveries, and nothing of the history.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use sled::{IVec, Tree};
use tokio::time::Instant;
use webhook_core::clock::from_milliseconds;
use webhook_core::id::{DeliveryId, RunId, WebhookId};
use webhook_core::live::{LiveRuns, later};
use webhook_core::retry::RetryPolicy;
use webhook_core::run::{Run, RunState};
use webhook_core::store::StoreError;
use webhook_core::webhook::Webhook;

use crate::block::Block;
use crate::damage::{Damage, Kind};
use crate::keys;
use crate::outbox::Outbox;
use crate::read;
use crate::record::{ClaimRecord, Counts, damaged, decode_claims, decode_number, decode_pending};
use crate::run_record::Recorded;
use crate::scan::{self, Scan};
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

/// What is damaged is set aside, and the rest is restored.
pub(crate) fn restore(
    tree: &Tree,
    now: SystemTime,
    instant: Instant,
    damage: &Damage,
) -> Result<Restored, StoreError> {
    let mut restored = Restored { live: LiveRuns::with_cache(CACHE_BYTES), ..Restored::default() };
    let known = damage.count();
    read_webhooks(tree, &mut restored.webhooks, damage)?;
    let lacks_webhooks = damage.count() > known;
    let counts = scan::get(tree, keys::COUNTS)?.map(|counts| Counts::decode(&counts)).transpose()?;
    let lacks_webhooks =
        lacks_webhooks || counts.is_some_and(|counts| counts.webhooks > restored.webhooks.len() as u64);
    read_live_runs(tree, &mut restored, now, instant, lacks_webhooks, damage)?;
    read_pending_deliveries(tree, &mut restored.outbox, now, instant, damage)?;
    if let Some(counts) = counts {
        let found = Counts {
            webhooks: restored.webhooks.len() as u64,
            live: (restored.live.queued() + restored.live.running()) as u64,
            pending: restored.outbox.len() as u64,
        };
        compare(counts, found, damage);
    }
    let newest = Scan::down(tree, damage, &[keys::ENDED], None).next();
    restored.newest_ended = newest.map(|(key, _)| id(&key).map(keys::last_of_span)).transpose()?;
    Ok(restored)
}

/// Notes what is missing although it was written: sled passes over damage in the middle of its log.
fn compare(counts: Counts, found: Counts, damage: &Damage) {
    let kinds = [
        (Kind::Webhook, counts.webhooks, found.webhooks),
        (Kind::LiveRun, counts.live, found.live),
        (Kind::Delivery, counts.pending, found.pending),
    ];
    for (kind, expected, found) in kinds {
        if found < expected {
            let reason = format!("{} of {expected} are missing or cannot be read", expected - found);
            damage.note_because(kind, &[], reason);
        } else if found > expected {
            let reason =
                format!("{} have come back that were gone: newer changes are missing", found - expected);
            damage.note_because(kind, &[], reason);
        }
    }
}

fn read_webhooks(tree: &Tree, webhooks: &mut Webhooks, damage: &Damage) -> Result<(), StoreError> {
    for (key, head) in Scan::up(tree, damage, &[keys::WEBHOOK], None) {
        if let Some(webhook) = damage.set_aside(&key, read::read::<Webhook>(tree, &key, &head))? {
            webhooks.put(webhook);
        }
    }
    for (key, value) in Scan::up(tree, damage, &[keys::LAST_USE], None) {
        let Some(at) = damage.set_aside(&key, decode_number(&value))? else { continue };
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        webhooks.record_use(WebhookId::from_bytes(id(&key)?), from_milliseconds(at));
    }
    Ok(())
}

fn read_live_runs(
    tree: &Tree,
    restored: &mut Restored,
    now: SystemTime,
    instant: Instant,
    lacks_webhooks: bool,
    damage: &Damage,
) -> Result<(), StoreError> {
    let mut claims = HashMap::<RunId, ClaimRecord>::new();
    for (key, value) in Scan::up(tree, damage, &[keys::CLAIMS], None) {
        let Some(claimed) = damage.set_aside(&key, decode_claims(&value))? else { continue };
        for claim in claimed {
            let earlier = claims.get(&claim.run).copied().unwrap_or(claim);
            claims.insert(claim.run, earlier.later(claim));
        }
        restored.claims.push(key);
    }
    let mut orphans = BTreeSet::new();
    for (key, head) in Scan::up(tree, damage, &[keys::LIVE], None) {
        let Some(block) = damage.set_aside(&key, Block::new(key.clone(), head))? else { continue };
        let Some(runs) = damage.set_aside(&key, block.runs(tree))? else { continue };
        if block.tails() > 0 {
            restored.tails.insert(block.first(), block.tails());
        }
        for mut recorded in runs {
            let run = &mut recorded.run;
            if let Some(claim) = claims.get(&run.id) {
                *run = claim.apply(run.clone());
            }
            run.due_at = run.due_at.min(later_time(now, longest_pause(&restored.webhooks, run)));
            if restored.webhooks.get(run.webhook_id).is_none() {
                orphans.insert(run.webhook_id);
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
    if lacks_webhooks {
        // Theirs may be the one that is damaged, so they wait for it.
        return Ok(());
    }
    for webhook in orphans {
        restored.orphans.extend(restored.live.close_webhook(webhook));
    }
    Ok(())
}

/// No delivery waits for longer than this between two tries.
const LONGEST_DELIVERY_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// For how long a run may wait for its next attempt. When it seems to wait for longer, the clock was wrong, then or now.
fn longest_pause(webhooks: &Webhooks, run: &Run) -> Duration {
    webhooks.get(run.webhook_id).map_or(RetryPolicy::default().cap, |webhook| webhook.settings.retries.cap)
}

fn later_time(now: SystemTime, pause: Duration) -> SystemTime {
    now.checked_add(pause).unwrap_or(now)
}

fn read_pending_deliveries(
    tree: &Tree,
    outbox: &mut Outbox,
    now: SystemTime,
    instant: Instant,
    damage: &Damage,
) -> Result<(), StoreError> {
    if Scan::up(tree, damage, &[keys::DELIVERY], None).next().is_some() {
        outbox.note_delivery();
    }
    for (key, value) in Scan::up(tree, damage, &[keys::PENDING], None) {
        let Some((run, due)) = damage.set_aside(&key, decode_pending(&value))? else { continue };
        let pause = due.duration_since(now).unwrap_or(Duration::ZERO).min(LONGEST_DELIVERY_PAUSE);
        outbox.put(run, DeliveryId::from_bytes(id(&key)?), later(instant, pause));
    }
    Ok(())
}

fn id(key: &[u8]) -> Result<[u8; 16], StoreError> {
    keys::last_id(key).ok_or_else(|| damaged("a key is too short"))
}
