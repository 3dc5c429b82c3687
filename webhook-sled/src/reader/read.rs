//! Reading records from the database. Everything here may read the disk.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sled::{IVec, Tree};
use webhook_core::backend::ListedRun;
use webhook_core::id::{DeliveryId, RunId};
use webhook_core::notifier::{Delivery, DeliveryState};
use webhook_core::run::{Run, RunParameters, RunState};
use webhook_core::store::{DeliveryQuery, LogPart, Page, RunQuery, StoreError};

use crate::engine::parts::Parts;
use crate::error::store_error;
use crate::format::keys::{self, TimeBucket};
use crate::format::run::RecordedRun;
use crate::format::value::{SavedClock, VALUE_BYTES, damaged, decode_pending};
use crate::tree::blocks::{self, Block};
use crate::tree::damage::{Damage, RecordKind};
use crate::tree::scan::{self, Scan};
use crate::tree::values;

/// Deliveries that are looked at for one page, so a rare match does not read the whole history.
const MOST_EXAMINED: usize = 2_000;

/// The store's clock as it was.
pub(crate) fn saved_clock(tree: &Tree) -> Result<Option<SavedClock>, StoreError> {
    scan::get(tree, keys::CLOCK)?.map(|clock| SavedClock::decode(&clock)).transpose()
}

/// A run that has ended.
pub(crate) fn ended_run(tree: &Tree, id: RunId, damage: &Damage) -> Result<Option<Arc<Run>>, StoreError> {
    let Some(block) = blocks::find(tree, keys::ENDED, id, damage)? else { return Ok(None) };
    let recorded = block.runs(tree)?.into_iter().find(|recorded| recorded.run.id() == id);
    recorded.map(|recorded| complete(tree, recorded).map(Arc::new)).transpose()
}

/// A run with its parameters, wherever they are.
pub(crate) fn complete(tree: &Tree, recorded: RecordedRun) -> Result<Run, StoreError> {
    let RecordedRun { run, apart } = recorded;
    if apart > 0 {
        let mut json = Vec::with_capacity(apart);
        for number in 0..apart.div_ceil(VALUE_BYTES) {
            let number =
                u16::try_from(number).map_err(|_| damaged("a run's parameters have too many parts"))?;
            let part = scan::get(tree, &keys::parameters(run.id(), number))?;
            json.extend_from_slice(&part.ok_or_else(|| damaged("a part of a run's parameters is missing"))?);
        }
        let text = String::from_utf8(json)
            .map_err(|error| StoreError::corrupt("a run's parameters are not UTF-8", error))?;
        let parameters = RunParameters::from_json(&text).map_err(|error| {
            StoreError::corrupt("a run's parameters are not the JSON they should be", error)
        })?;
        return Ok(run.with_parameters(parameters));
    }
    Ok(run)
}

/// Those of these queued runs that exist, each as its record or the fault of its record.
pub(crate) fn queued_runs(
    tree: &Tree,
    ids: &[RunId],
    damage: &Damage,
) -> Vec<(RunId, Result<Run, StoreError>)> {
    let mut by_bucket = BTreeMap::<TimeBucket, HashSet<RunId>>::new();
    for id in ids {
        by_bucket.entry(keys::time_bucket(*id)).or_default().insert(*id);
    }
    let mut found = Vec::new();
    for (bucket, mut wanted) in by_bucket {
        for block in blocks::downwards(tree, keys::LIVE, bucket, wanted.iter().max().copied(), damage) {
            if wanted.is_empty() {
                break;
            }
            if let Err(error) = queued_in(tree, &block, &mut wanted, &mut found) {
                damage.note(RecordKind::LiveRun, &block.key, &error);
            }
        }
    }
    found
}

/// Finds wanted runs in a value.
fn queued_in(
    tree: &Tree,
    block: &Block,
    wanted: &mut HashSet<RunId>,
    found: &mut Vec<(RunId, Result<Run, StoreError>)>,
) -> Result<(), StoreError> {
    for (id, content) in block.entries()? {
        if wanted.remove(&id) {
            let read = content.run(tree).transpose();
            let run = read.map(|recorded| recorded.and_then(|recorded| complete(tree, recorded)));
            found.extend(run.map(|run| (id, run)));
        }
    }
    Ok(())
}

/// A queued run.
pub(crate) fn queued_run(tree: &Tree, id: RunId, damage: &Damage) -> Result<Option<Arc<Run>>, StoreError> {
    queued_runs(tree, &[id], damage).pop().map(|(_, run)| run.map(Arc::new)).transpose()
}

/// Longest time of one read, so the checkpointer need not wait for long to move ended runs.
pub(crate) const CHUNK: Duration = Duration::from_millis(3);

/// Some of the ended runs that a query asks for, newest first.
pub(crate) struct EndedRuns {
    pub(crate) runs: Vec<Arc<Run>>,
    /// Runs before this one were not looked at. `None` at the end.
    pub(crate) before: Option<RunId>,
}

/// The newest ended runs that a query asks for, at most `limit`; fewer if the read would exceed [`CHUNK`]. Skips damaged
/// records.
pub(crate) fn list_ended(
    tree: &Tree,
    query: &RunQuery,
    limit: usize,
    damage: &Damage,
) -> Result<EndedRuns, StoreError> {
    let begun = Instant::now();
    let prefixes = prefixes(tree, query, damage);
    let mut newest =
        NewestFirst::new(prefixes.iter().map(|prefix| older(tree, prefix, query.before, damage)));
    let mut found = Vec::new();
    loop {
        let Some((bucket, blocks)) = newest.next_bucket(tree, damage)? else {
            return Ok(EndedRuns { runs: found, before: None });
        };
        let mut keys_of_bucket = Vec::new();
        for block in &blocks {
            keys_of_bucket.extend(damage.set_aside(&block.key, block.entries())?.unwrap_or_default());
        }
        keys_of_bucket.retain(|(id, _)| query.before.is_none_or(|before| *id < before));
        keys_of_bucket.sort_unstable_by_key(|(id, _)| Reverse(*id));
        // There may be thousands, of which a page needs few.
        let mut last = None;
        for (id, content) in keys_of_bucket {
            if found.len() == limit || last.is_some() && begun.elapsed() > CHUNK {
                return Ok(EndedRuns { runs: found, before: last });
            }
            let key = keys::by_id(keys::ENDED, id.as_bytes());
            let recorded = damage.set_aside(&key, content.run(tree))?.flatten();
            if let Some(recorded) = recorded.filter(|recorded| query.matches(&recorded.run)) {
                found.extend(damage.set_aside(&key, complete(tree, recorded))?.map(Arc::new));
            }
            last = Some(id);
        }
        if found.len() >= limit || begun.elapsed() > CHUNK {
            return Ok(EndedRuns { runs: found, before: Some(keys::first_of_bucket(bucket)) });
        }
    }
}

/// Where the ended runs that a query asks for are indexed.
fn prefixes(tree: &Tree, query: &RunQuery, damage: &Damage) -> Vec<Vec<u8>> {
    if query.workflow.is_none() && query.webhook.is_none() && query.state.is_none() {
        return vec![vec![keys::ENDED]];
    }
    let states = RunState::ALL.into_iter().filter(|state| state.is_ended());
    let states: Vec<_> = states.filter(|state| query.state.is_none_or(|wanted| wanted == *state)).collect();
    if states.is_empty() {
        return Vec::new();
    }
    let (kind, groups) = match (&query.webhook, &query.workflow) {
        (Some(webhook), _) => (keys::BY_WEBHOOK, vec![*webhook.as_bytes()]),
        (None, Some(workflow)) => (keys::BY_WORKFLOW, vec![keys::workflow(workflow)]),
        (None, None) => (keys::BY_WORKFLOW, groups(tree, keys::BY_WORKFLOW, damage)),
    };
    let of_group = |group| states.iter().map(move |state| keys::ended(kind, group, *state));
    groups.iter().flat_map(of_group).collect()
}

/// The workflows or webhooks that have ended runs.
fn groups(tree: &Tree, kind: u8, damage: &Damage) -> Vec<[u8; 16]> {
    let mut groups: Vec<[u8; 16]> = Vec::new();
    while let Some(group) = next_group(tree, kind, groups.last(), damage) {
        groups.push(group);
    }
    groups
}

/// The first workflow or webhook that has ended runs, or the next one after `last`.
pub(crate) fn next_group(
    tree: &Tree,
    kind: u8,
    last: Option<&[u8; 16]>,
    damage: &Damage,
) -> Option<[u8; 16]> {
    let start = match last {
        None => vec![kind],
        Some(last) => keys::by_id(kind, &u128::from_be_bytes(*last).checked_add(1)?.to_be_bytes()).to_vec(),
    };
    let (key, _) = Scan::up(tree, damage, &[kind], Some(&start)).next()?;
    keys::first_id(&key)
}

/// The keys with this prefix that end with an older id, newest first.
pub(crate) fn older<'a>(
    tree: &'a Tree,
    prefix: &[u8],
    before: Option<RunId>,
    damage: &'a Damage,
) -> Scan<'a> {
    let before = before.map(|before| [prefix, before.as_bytes()].concat());
    Scan::down(tree, damage, prefix, before.as_deref())
}

/// Merges several indexes, newest first, bucket by bucket. Within a bucket, runs have no order.
pub(crate) struct NewestFirst<'a> {
    indexes: Vec<Scan<'a>>,
    /// The next of each index: the oldest run of a value, and the key that names it.
    heads: BinaryHeap<([u8; 16], usize, IVec)>,
}

impl<'a> NewestFirst<'a> {
    pub(crate) fn new(indexes: impl Iterator<Item = Scan<'a>>) -> Self {
        let mut newest = Self { indexes: indexes.collect(), heads: BinaryHeap::new() };
        for place in 0..newest.indexes.len() {
            newest.advance(place);
        }
        newest
    }

    /// The values with the ended runs of the newest bucket that is left. A missing value that an index names is damage: values
    /// change their places only under the lock that readers hold.
    pub(crate) fn next_bucket(
        &mut self,
        tree: &Tree,
        damage: &Damage,
    ) -> Result<Option<(TimeBucket, Vec<Block>)>, StoreError> {
        let Some((newest, ..)) = self.heads.peek() else { return Ok(None) };
        let bucket = keys::time_bucket(RunId::from_bytes(*newest));
        let mut blocks = Vec::new();
        while self.heads.peek().is_some_and(|(id, ..)| keys::time_bucket(RunId::from_bytes(*id)) == bucket)
            && let Some((id, place, key)) = self.heads.pop()
        {
            self.advance(place);
            let named = blocks::named(tree, keys::ENDED, RunId::from_bytes(id));
            match damage.set_aside(&keys::by_id(keys::ENDED, &id), named)? {
                Some(Some(block)) => blocks.push(block),
                Some(None) => damage.note_because(RecordKind::Index, &key, MISSING),
                None => {}
            }
        }
        Ok(Some((bucket, blocks)))
    }

    fn advance(&mut self, place: usize) {
        for (key, _) in self.indexes[place].by_ref() {
            if let Some(id) = keys::last_id(&key) {
                self.heads.push((id, place, key));
                return;
            }
        }
    }
}

/// The fault of an index entry without its runs.
pub(crate) const MISSING: &str = "the ended runs that it names are missing";

/// Reads a delivery of a run.
pub(crate) fn delivery(tree: &Tree, run: RunId, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
    values::record(tree, &keys::delivery(run, id))
}

/// The run that a delivery tells of.
pub(crate) fn run_of_delivery(tree: &Tree, id: DeliveryId) -> Result<Option<RunId>, StoreError> {
    let run = scan::get(tree, &keys::delivery_run(id))?;
    run.map(|run| run_in(&run)).transpose()
}

fn run_in(value: &[u8]) -> Result<RunId, StoreError> {
    let run = keys::last_id(value).map(RunId::from_bytes);
    run.ok_or_else(|| damaged("a delivery's run is too short"))
}

/// The deliveries of these runs, each run's oldest first. What is damaged is passed over.
pub(crate) fn deliveries(tree: &Tree, runs: &[RunId], damage: &Damage) -> Result<Vec<Delivery>, StoreError> {
    let mut deliveries = Vec::new();
    for run in runs {
        for (key, head) in Scan::up(tree, damage, &keys::by_id(keys::DELIVERY, run.as_bytes()), None) {
            deliveries.extend(damage.set_aside(&key, values::read(tree, &key, &head))?);
        }
    }
    Ok(deliveries)
}

/// A page of deliveries, newest first. What is damaged is passed over.
pub(crate) fn find_deliveries(
    tree: &Tree,
    query: &DeliveryQuery,
    damage: &Damage,
) -> Result<Page<Delivery, DeliveryId>, StoreError> {
    // The pending ones have an index of their own.
    let pending = query.state == Some(DeliveryState::Pending);
    let kind = if pending { keys::PENDING } else { keys::DELIVERY_RUN };
    let before = query.before.map(|before| keys::by_id(kind, before.as_bytes()));
    let entries = Scan::down(tree, damage, &[kind], before.as_ref().map(|before| &before[..]));
    let (mut items, mut last) = (Vec::new(), None);
    for (examined, (key, value)) in entries.enumerate() {
        if items.len() >= query.limit || examined == MOST_EXAMINED {
            return Ok(Page::new(items, last));
        }
        let Some(id) = keys::last_id(&key).map(DeliveryId::from_bytes) else { continue };
        last = Some(id);
        let run = if pending { decode_pending(&value).map(|(run, _)| run) } else { run_in(&value) };
        let Some(run) = damage.set_aside(&key, run)? else { continue };
        let found = damage.set_aside(&keys::delivery(run, id), delivery(tree, run, id))?.flatten();
        items.extend(found.filter(|delivery| query.matches(delivery)));
    }
    Ok(Page::new(items, None))
}

/// A run's log from an offset on.
pub(crate) fn log(tree: &Tree, run: RunId, offset: u64) -> Result<LogPart, StoreError> {
    let (mut start, mut bytes) = (None, Vec::new());
    for entry in tree.scan_prefix(keys::log_of(run)) {
        let (key, value) = entry.map_err(store_error)?;
        let at = keys::log_offset(&key)?;
        let end = *start.get_or_insert(at) + bytes.len() as u64;
        if end != at {
            // Older parts went while this was read.
            start = Some(at);
            bytes.clear();
        }
        bytes.extend_from_slice(&value);
    }
    let Some(start) = start else { return Ok(LogPart::new(offset, String::new())) };
    let text = String::from_utf8(bytes).map_err(|error| StoreError::corrupt("a log is not UTF-8", error))?;
    Ok(LogPart::of_log(start, &text, offset))
}

/// Completes a list of runs with the records that only the database has. A run that was pruned meanwhile is left out.
pub(crate) async fn with_records(
    parts: &Arc<Parts>,
    listed: Vec<ListedRun>,
) -> Result<Vec<Arc<Run>>, StoreError> {
    if listed.iter().all(|(_, run)| run.is_some()) {
        return Ok(listed.into_iter().filter_map(|(_, run)| run).collect());
    }
    let complete = move |parts: &Parts, tree: &Tree| {
        let missing: Vec<RunId> = listed.iter().filter(|(_, run)| run.is_none()).map(|(id, _)| *id).collect();
        let mut queued = HashMap::new();
        for (id, run) in queued_runs(tree, &missing, parts.damage()) {
            queued.insert(id, Arc::new(run?));
        }
        let mut runs = Vec::with_capacity(listed.len());
        for (id, run) in listed {
            match run.or_else(|| queued.remove(&id)) {
                Some(run) => runs.push(run),
                None => runs.extend(ended_run(tree, id, parts.damage())?),
            }
        }
        Ok(runs)
    };
    parts.read(complete).await
}
