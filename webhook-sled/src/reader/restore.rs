//! Reading webhooks, live runs and pending deliveries into memory when the store is opened. The history is not read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sled::{IVec, Tree};
use tokio::time::Instant;
use webhook_core::backend::{DueIndex, LiveRuns, WebhookIndex};
use webhook_core::clock::from_milliseconds;
use webhook_core::clock::later;
use webhook_core::id::{DeliveryId, RunId, WebhookId};
use webhook_core::retry::RetryPolicy;
use webhook_core::run::{Run, RunState};
use webhook_core::store::StoreError;
use webhook_core::webhook::Webhook;

use crate::engine::folder::Folder;
use crate::engine::parts::Parts;
use crate::engine::sled_folder::OpenDatabase;
use crate::error::OpenError;
use crate::format::keys;
use crate::format::run::RecordedRun;
use crate::format::value::{ClaimRecord, damaged, decode_claims, decode_number, decode_pending};
use crate::tree::blocks::Block;
use crate::tree::damage::Damage;
use crate::tree::scan::Scan;
use crate::tree::sums::{StoredSums, Sums};
use crate::tree::values;

/// Upper bound on the records of queued runs in memory, in bytes, about. The newest are kept.
const CACHE_BYTES: usize = 8 << 20;

/// The state in memory of a store that was just opened.
#[derive(Default)]
pub(crate) struct RestoredState {
    pub(crate) webhooks: WebhookIndex,
    pub(crate) live: LiveRuns,
    pub(crate) deliveries: DueIndex,
    /// Live runs that have further values.
    pub(crate) tails: HashMap<RunId, u16>,
    /// Live runs that have large parameters in their records, as earlier formats do.
    pub(crate) with_large_parameters: HashSet<RunId>,
    /// Runs that were running: queued again, or still claimed. Their records are written again.
    pub(crate) rewritten: Vec<RecordedRun>,
    /// Where their claims were kept.
    pub(crate) claims: Vec<IVec>,
    /// Queued runs whose webhook was deleted, and which are to be cancelled.
    pub(crate) orphans: Vec<RunId>,
    /// Bytes in the database. Zero in folders of earlier formats until the first check.
    pub(crate) stored_bytes: u64,
    /// No run that has ended is newer than this one.
    pub(crate) newest_ended: Option<RunId>,
}

/// Memory of this process from before it reopened the store, so its executions continue.
///
/// Leases start again once the store is open: nothing can be claimed meanwhile, and the opening may take longer than a lease.
#[derive(Default)]
pub(crate) struct EarlierMemory {
    executing: HashMap<RunId, Arc<Run>>,
    lease: Duration,
    deliveries: Option<Deliveries>,
}

/// The pending deliveries as they were.
struct Deliveries {
    deadlines: HashMap<DeliveryId, Instant>,
    lease: Duration,
    at: Instant,
}

impl EarlierMemory {
    pub(crate) fn of(parts: &Parts, at: Instant) -> Self {
        let (executing, lease) = parts.runs().executing();
        let (deadlines, delivery_lease) = parts.deliveries().deadlines();
        let deliveries = Some(Deliveries { deadlines, lease: delivery_lease, at });
        Self { executing, lease, deliveries }
    }

    /// A run as it was in memory, and the end of its lease, if it stays claimed.
    fn claim_of(&self, run: &Run, now: Instant) -> Option<(&Run, Instant)> {
        let before = self.executing.get(&run.id()).filter(|before| before.fence() == run.fence())?;
        Some((before, later(now, self.lease)))
    }

    /// Returns the deadline of a delivery, where it is not that of its record. A delivery that is no longer pending in memory
    /// was tried, and the outcome could not be recorded. The worker that tried it keeps it for another lease.
    fn deadline_of(&self, id: DeliveryId, now: Instant) -> Option<Instant> {
        let Deliveries { deadlines, lease, at } = self.deliveries.as_ref()?;
        let as_much_later = |deadline: &Instant| later(*deadline, now.saturating_duration_since(*at));
        Some(deadlines.get(&id).map_or_else(|| later(now, *lease), as_much_later))
    }
}

/// Reads the state of a store. Damaged records are set aside.
pub(crate) fn restore(
    folder: &Folder,
    opened: &OpenDatabase,
    now: SystemTime,
    instant: Instant,
    before: &EarlierMemory,
    damage: &Damage,
) -> Result<RestoredState, OpenError> {
    let at = Start { now, instant, before };
    folder.read(opened, |tree| read_all(tree, &at, damage))
}

/// Time of a restoration, and what continues from before it.
struct Start<'a> {
    now: SystemTime,
    instant: Instant,
    before: &'a EarlierMemory,
}

fn read_all(tree: &Tree, at: &Start<'_>, damage: &Damage) -> Result<RestoredState, StoreError> {
    let mut restored = RestoredState { live: LiveRuns::with_cache(CACHE_BYTES), ..RestoredState::default() };
    let kept = damage.set_aside(keys::SUMS, StoredSums::read(tree))?.flatten();
    restored.stored_bytes = kept.map_or(0, |kept| kept.sums.bytes());
    let mut found = Sums::default();
    let compare = |kind, found: &Sums| kept.is_none_or(|kept| kept.compare(kind, found, damage));
    let known = damage.count();
    read_webhooks(tree, &mut restored.webhooks, &mut found, damage)?;
    let lacks_webhooks = !compare(keys::WEBHOOK, &found) || damage.count() > known;
    read_live_runs(tree, &mut restored, &mut found, at, lacks_webhooks, damage)?;
    read_pending_deliveries(tree, &mut restored.deliveries, &mut found, at, damage)?;
    for kind in [keys::LAST_USE, keys::CLAIMS, keys::LIVE, keys::PENDING] {
        compare(kind, &found);
    }
    let newest = Scan::down(tree, damage, &[keys::ENDED], None).next();
    restored.newest_ended = newest.map(|(key, _)| id(&key).map(keys::last_of_bucket)).transpose()?;
    Ok(restored)
}

fn read_webhooks(
    tree: &Tree,
    webhooks: &mut WebhookIndex,
    found: &mut Sums,
    damage: &Damage,
) -> Result<(), StoreError> {
    for (key, head) in Scan::up(tree, damage, &[keys::WEBHOOK], None) {
        found.add(&key, &head);
        if let Some(webhook) = damage.set_aside(&key, values::read::<Webhook>(tree, &key, &head))? {
            webhooks.put(webhook);
        }
    }
    for (key, value) in Scan::up(tree, damage, &[keys::LAST_USE], None) {
        found.add(&key, &value);
        let Some(at) = damage.set_aside(&key, decode_number(&value))? else { continue };
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        webhooks.record_use(WebhookId::from_bytes(id(&key)?), from_milliseconds(at));
    }
    Ok(())
}

fn read_live_runs(
    tree: &Tree,
    restored: &mut RestoredState,
    found: &mut Sums,
    at: &Start<'_>,
    lacks_webhooks: bool,
    damage: &Damage,
) -> Result<(), StoreError> {
    let mut claims = HashMap::<RunId, ClaimRecord>::new();
    for (key, value) in Scan::up(tree, damage, &[keys::CLAIMS], None) {
        found.add(&key, &value);
        let Some(claimed) = damage.set_aside(&key, decode_claims(&value))? else { continue };
        for claim in claimed {
            let earlier = claims.get(&claim.run).copied().unwrap_or(claim);
            claims.insert(claim.run, earlier.later(claim));
        }
        restored.claims.push(key);
    }
    let mut orphans = BTreeSet::new();
    for (key, head) in Scan::up(tree, damage, &[keys::LIVE], None) {
        found.add(&key, &head);
        let Some(block) = damage.set_aside(&key, Block::new(key.clone(), head))? else { continue };
        let Some(runs) = damage.set_aside(&key, block.runs(tree))? else { continue };
        if block.tails() > 0 {
            restored.tails.insert(block.first(), block.tails());
        }
        for recorded in runs {
            let latest = later_time(at.now, longest_pause(&restored.webhooks, &recorded.run));
            let claim = claims.get(&recorded.run.id());
            let Some(recorded) = damage.set_aside(&key, recorded.restored(claim, latest))? else { continue };
            let run = &recorded.run;
            if restored.webhooks.get(run.webhook_id()).is_none() {
                orphans.insert(run.webhook_id());
            }
            if recorded.has_large_parameters() {
                restored.with_large_parameters.insert(recorded.run.id());
            }
            let was_running = recorded.run.state() == RunState::Running;
            let (bytes, apart) = (recorded.parameter_bytes(), recorded.apart);
            let run = match at.before.claim_of(&recorded.run, at.instant).filter(|_| was_running) {
                Some((before, lease_end)) => {
                    let run = recorded.run.clone().with_parameters(before.parameters().clone());
                    let progress = before.progress().cloned();
                    let run = progress.and_then(|progress| run.progressed(progress).ok()).unwrap_or(run);
                    restored.live.resume(Arc::new(run), bytes, lease_end);
                    recorded.run
                }
                None => restored.live.restore(recorded.run, bytes, at.now, at.instant),
            };
            if was_running {
                restored.rewritten.push(RecordedRun { run, apart });
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

/// Longest pause between two tries of a delivery.
const LONGEST_DELIVERY_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest pause before the next attempt of a run. A longer one shows that the clock was wrong, then or now.
fn longest_pause(webhooks: &WebhookIndex, run: &Run) -> Duration {
    webhooks.get(run.webhook_id()).map_or(RetryPolicy::default().cap, |webhook| webhook.settings.retries.cap)
}

fn later_time(now: SystemTime, pause: Duration) -> SystemTime {
    now.checked_add(pause).unwrap_or(now)
}

fn read_pending_deliveries(
    tree: &Tree,
    deliveries: &mut DueIndex,
    found: &mut Sums,
    at: &Start<'_>,
    damage: &Damage,
) -> Result<(), StoreError> {
    if Scan::up(tree, damage, &[keys::DELIVERY], None).next().is_some() {
        deliveries.note_delivery();
    }
    for (key, value) in Scan::up(tree, damage, &[keys::PENDING], None) {
        found.add(&key, &value);
        let Some((run, due)) = damage.set_aside(&key, decode_pending(&value))? else { continue };
        let Some(id) = damage.set_aside(&key, id(&key).map(DeliveryId::from_bytes))? else { continue };
        let pause = due.duration_since(at.now).unwrap_or(Duration::ZERO).min(LONGEST_DELIVERY_PAUSE);
        deliveries.put(
            run,
            id,
            None,
            at.before.deadline_of(id, at.instant).unwrap_or_else(|| later(at.instant, pause)),
        );
    }
    Ok(())
}

fn id(key: &[u8]) -> Result<[u8; 16], StoreError> {
    keys::last_id(key).ok_or_else(|| damaged("a key is too short"))
}
