//! Finds expired records: ended runs with everything that belongs to them, and idempotency keys.

use std::collections::VecDeque;
use std::time::Instant;

use sled::Tree;
use webhook_core::clock::to_milliseconds;
use webhook_core::id::{RunId, WebhookId};
use webhook_core::run::{Run, RunState};
use webhook_core::store::{PruneRequest, StoreError};

use crate::engine::parts::Parts;
use crate::error::store_error;
use crate::format::keys::{self, KeyPlace};
use crate::format::run::RecordedRun;
use crate::format::value::{decode_number, tail_count};
use crate::reader::read::{self, CHUNK, NewestFirst};
use crate::tree::blocks;
use crate::tree::damage::{Damage, RecordKind};
use crate::tree::scan::{self, Scan};

/// A run to remove, with the keys of everything that belongs to it.
#[derive(Debug)]
pub(crate) struct Removal {
    pub(crate) run: RunId,
    pub(crate) keys: Vec<Vec<u8>>,
}

/// An idempotency key to remove.
pub(crate) struct ExpiredKey {
    pub(crate) expires: u64,
    pub(crate) place: KeyPlace,
}

/// Runs that are removed in one step, so other operations need not wait for long.
const STEP: usize = 64;
/// Keys after which a step takes no further run.
const STEP_KEYS: usize = 2_000;

/// Position of a search for expired runs. The search pauses after a few milliseconds, so no other operation waits for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct RetentionSearch {
    /// The webhook whose runs are searched. `None` before the first.
    webhook: Option<WebhookSearch>,
    is_over: bool,
}

#[derive(Debug, Clone)]
struct WebhookSearch {
    id: WebhookId,
    /// The newest run beyond the number to keep, once it is known. All older ones exceed that number as well.
    newest_too_many: Option<RunId>,
    /// Number of newest runs still to skip until `newest_too_many` is found, and the run to continue before. `None` once it is
    /// found.
    counting: Option<(usize, Option<RunId>)>,
    /// Number of completely searched states. `after` is the last searched key of the current state.
    state: usize,
    after: Option<Vec<u8>>,
}

impl RetentionSearch {
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Searches for a few milliseconds. Adds expired runs to `past`, until it has one more than the request's limit.
    pub(crate) fn go_on(
        &mut self,
        parts: &Parts,
        tree: &Tree,
        request: &PruneRequest,
        past: &mut Vec<RunId>,
    ) -> Result<(), StoreError> {
        let begun = Instant::now();
        while past.len() <= request.limit && begun.elapsed() < CHUNK && !self.is_over {
            match self.webhook.take() {
                Some(mut of_webhook) => {
                    if !of_webhook.go_on(parts, tree, request, past, begun)? {
                        self.webhook = Some(of_webhook);
                        continue;
                    }
                    self.begin(parts.damage(), tree, request, Some(of_webhook.id));
                }
                None => self.begin(parts.damage(), tree, request, None),
            }
        }
        Ok(())
    }

    /// Continues with the webhook after this one, or with the first, that has ended runs.
    fn begin(&mut self, damage: &Damage, tree: &Tree, request: &PruneRequest, after: Option<WebhookId>) {
        let next = match after {
            None => read::next_group(tree, keys::BY_WEBHOOK, None, damage),
            Some(last) => read::next_group(tree, keys::BY_WEBHOOK, Some(last.as_bytes()), damage),
        };
        let Some(id) = next.map(WebhookId::from_bytes) else {
            self.is_over = true;
            return;
        };
        let counting =
            request.keep_per_webhook.map(|keep| (usize::try_from(keep).unwrap_or(usize::MAX), None));
        self.webhook = Some(WebhookSearch { id, newest_too_many: None, counting, state: 0, after: None });
    }
}

impl WebhookSearch {
    /// Continues the search. Returns true once all runs of the webhook were looked at.
    fn go_on(
        &mut self,
        parts: &Parts,
        tree: &Tree,
        request: &PruneRequest,
        past: &mut Vec<RunId>,
        begun: Instant,
    ) -> Result<bool, StoreError> {
        let damage = parts.damage();
        let states = RunState::ALL.into_iter().filter(|state| state.is_ended());
        let indexes: Vec<_> =
            states.map(|state| keys::ended(keys::BY_WEBHOOK, self.id.as_bytes(), state)).collect();
        if !self.count(tree, damage, &indexes, begun)? {
            return Ok(false);
        }
        let retention = request.retention(parts.webhooks().get(self.id).map(|webhook| &**webhook));
        let newest_gone =
            request.now.checked_sub(retention).and_then(|end| u64::try_from(to_milliseconds(end)).ok());
        let now = u64::try_from(to_milliseconds(request.now)).unwrap_or(0);
        let newest_too_many = self.newest_too_many;
        let too_many = |run: RunId| newest_too_many.is_some_and(|newest| run <= newest);
        while let Some(index) = indexes.get(self.state) {
            for (key, first_end) in Scan::up(tree, damage, index, self.after.as_deref()) {
                let Some(first) = keys::last_id(&key).map(RunId::from_bytes) else { continue };
                if !too_many(first) && newest_gone.is_none_or(|gone| age(first) > gone) {
                    // All that follow are younger.
                    break;
                }
                if past.len() > request.limit || begun.elapsed() > CHUNK {
                    self.after = Some(key.to_vec());
                    return Ok(false);
                }
                let first_end = damage.set_aside(&key, decode_number(&first_end))?;
                if !too_many(first) && first_end.is_some_and(|end| end > newest_gone.unwrap_or(0)) {
                    continue;
                }
                let record = keys::by_id(keys::ENDED, first.as_bytes());
                let block = damage.set_aside(&record, blocks::named(tree, keys::ENDED, first))?;
                let Some(Some(block)) = block else {
                    if block.is_some() {
                        damage.note_because(RecordKind::Index, &key, read::MISSING);
                    }
                    continue;
                };
                for RecordedRun { run, .. } in
                    damage.set_aside(&record, block.runs(tree))?.unwrap_or_default()
                {
                    let is_past = too_many(run.id()) || newest_gone.is_some_and(|gone| end_of(&run) <= gone);
                    let may_go = is_past && !parts.deliveries().has_pending(run.id());
                    if may_go && !key_is_kept(tree, run.id(), now, damage)? {
                        past.push(run.id());
                    }
                }
            }
            (self.state, self.after) = (self.state + 1, None);
        }
        Ok(true)
    }

    /// Searches for the newest run beyond the number to keep. Returns true once it is known.
    fn count(
        &mut self,
        tree: &Tree,
        damage: &Damage,
        indexes: &[Vec<u8>],
        begun: Instant,
    ) -> Result<bool, StoreError> {
        let Some((mut left, before)) = self.counting else { return Ok(true) };
        let mut newest =
            NewestFirst::new(indexes.iter().map(|index| read::older(tree, index, before, damage)));
        while let Some((span, blocks)) = newest.next_bucket(tree, damage)? {
            let mut ids = Vec::new();
            for block in blocks {
                ids.extend(damage.set_aside(&block.key, block.ids())?.unwrap_or_default());
            }
            if left < ids.len() {
                ids.sort_unstable();
                self.newest_too_many = Some(ids[ids.len() - 1 - left]);
                break;
            }
            left -= ids.len();
            if begun.elapsed() > CHUNK {
                self.counting = Some((left, Some(keys::first_of_bucket(span))));
                return Ok(false);
            }
        }
        self.counting = None;
        Ok(true)
    }
}

/// When a run ended, in milliseconds.
fn end_of(run: &Run) -> u64 {
    u64::try_from(to_milliseconds(run.finished_at().unwrap_or(run.queued_at()))).unwrap_or(0)
}

/// Returns true if a run must be kept, because its idempotency key stands for it.
fn key_is_kept(tree: &Tree, run: RunId, now: u64, damage: &Damage) -> Result<bool, StoreError> {
    let key = keys::by_id(keys::KEPT, run.as_bytes());
    let until = damage.set_aside(&key, scan::get(tree, &key))?.flatten();
    let until = until.map(|until| damage.set_aside(&key, decode_number(&until))).transpose()?.flatten();
    Ok(until.is_some_and(|until| until > now))
}

/// When a run was made, in milliseconds, as its id says (RFC 9562, UUIDv7). It cannot have ended before.
fn age(run: RunId) -> u64 {
    let [a, b, c, d, e, f, ..] = *run.as_bytes();
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// Takes the first of these runs, as many as are removed in one step, and returns everything that belongs to them.
pub(crate) fn removals(
    tree: &Tree,
    runs: &mut VecDeque<RunId>,
    damage: &Damage,
) -> Result<Vec<Removal>, StoreError> {
    let (begun, mut removals, mut keys) = (Instant::now(), Vec::new(), 0);
    while removals.len() < STEP && keys < STEP_KEYS && begun.elapsed() < CHUNK {
        let Some(run) = runs.pop_front() else { break };
        if let Some(removal) = removal(tree, run, damage)? {
            keys += removal.keys.len();
            removals.push(removal);
        }
    }
    Ok(removals)
}

/// Everything that belongs to a run. `None` when some of it is damaged: it could not be removed either, and the attempt
/// would fail the store.
fn removal(tree: &Tree, id: RunId, damage: &Damage) -> Result<Option<Removal>, StoreError> {
    let record = keys::by_id(keys::ENDED, id.as_bytes());
    Ok(damage.set_aside(&record, whole_removal(tree, id, damage))?.flatten())
}

fn whole_removal(tree: &Tree, id: RunId, damage: &Damage) -> Result<Option<Removal>, StoreError> {
    let Some(block) = blocks::find(tree, keys::ENDED, id, damage)? else { return Ok(None) };
    for index in block.group_key(tree)?.index_keys(block.first()) {
        scan::get(tree, &index)?;
    }
    let record = keys::by_id(keys::ENDED, id.as_bytes());
    let mut keys = vec![record.to_vec()];
    let tails = (0..block.tails()).map(|number| keys::tail(&record, number));
    keys.extend(if block.tails() > 0 { readable(tree, tails)? } else { Vec::new() });
    let kept = keys::by_id(keys::KEPT, id.as_bytes());
    if scan::get(tree, &kept)?.is_some() {
        keys.push(kept.to_vec());
    }
    for prefix in [keys::log_of(id), keys::by_id(keys::PARAMETERS, id.as_bytes())] {
        for key in tree.scan_prefix(prefix).keys() {
            keys.push(key.map_err(store_error)?.to_vec());
        }
    }
    for entry in tree.scan_prefix(keys::by_id(keys::DELIVERY, id.as_bytes())) {
        let (key, head) = entry.map_err(store_error)?;
        keys.extend(readable(tree, (0..tail_count(&head)?).map(|number| keys::tail(&key, number)))?);
        if let Some(delivery) = keys::last_id(&key) {
            keys.extend(readable(tree, [keys::by_id(keys::DELIVERY_RUN, &delivery).to_vec()])?);
        }
        keys.push(key.to_vec());
    }
    Ok(Some(Removal { run: id, keys }))
}

/// These keys, of which each one is tried.
fn readable(tree: &Tree, keys: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<Vec<u8>>, StoreError> {
    keys.into_iter().map(|key| scan::get(tree, &key).map(|_| key)).collect()
}

/// Expired idempotency keys, at most `limit`. Skips damaged ones.
pub(crate) fn expired_keys(tree: &Tree, now: u64, limit: usize, damage: &Damage) -> Vec<ExpiredKey> {
    Scan::up(tree, damage, &[keys::EXPIRY], None)
        .map_while(|(key, _)| keys::parse_expiry(&key))
        .take_while(|(expires, _)| *expires <= now)
        // A key that cannot be read cannot be removed.
        .filter(|(_, place)| {
            let key = keys::idempotency(place);
            damage.set_aside(&key, scan::get(tree, &key)).is_ok_and(|key| key.is_some())
        })
        .take(limit)
        .map(|(expires, place)| ExpiredKey { expires, place })
        .collect()
}

/// Idempotency keys that are removed at once.
pub(crate) const EXPIRED_AT_ONCE: usize = 1_000;
