//! Reading records from the database. Everything here may read the disk.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Bound;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use sled::{IVec, Tree};
use webhook_core::id::{DeliveryId, RunId};
use webhook_core::notifier::{Delivery, DeliveryState};
use webhook_core::run::{Run, RunParameters, RunState};
use webhook_core::store::{DeliveryQuery, LogPart, Page, RunQuery, StoreError};

use crate::block::{self, Block};
use crate::error::store_error;
use crate::keys::{self, Span};
use crate::record::{VALUE_BYTES, damaged, decode, decode_pending, tail_count};
use crate::run_record::Recorded;

/// How many deliveries a page is looked for in, so that a rare one does not make a page read the whole history.
const MOST_EXAMINED: usize = 2_000;

/// The record under this key.
pub(crate) fn record<T: DeserializeOwned>(tree: &Tree, key: &[u8]) -> Result<Option<T>, StoreError> {
    let Some(head) = tree.get(key).map_err(store_error)? else { return Ok(None) };
    read(tree, key, &head).map(Some)
}

/// The record with this first value.
pub(crate) fn read<T: DeserializeOwned>(tree: &Tree, key: &[u8], head: &IVec) -> Result<T, StoreError> {
    if tail_count(head)? == 0 { decode(head) } else { decode(&whole(tree, key, head)?) }
}

/// All of a value of which this is the first part.
pub(crate) fn whole(tree: &Tree, key: &[u8], head: &IVec) -> Result<Vec<u8>, StoreError> {
    let mut whole = head.to_vec();
    for number in 0..tail_count(head)? {
        let tail = tree.get(keys::tail(key, number)).map_err(store_error)?;
        whole.extend_from_slice(&tail.ok_or_else(|| damaged("a part of a record is missing"))?);
    }
    Ok(whole)
}

/// A run that has ended.
pub(crate) fn ended_run(tree: &Tree, id: RunId) -> Result<Option<Arc<Run>>, StoreError> {
    let Some(block) = block::find(tree, keys::ENDED, id)? else { return Ok(None) };
    let recorded = block.runs(tree)?.into_iter().find(|recorded| recorded.run.id == id);
    recorded.map(|recorded| complete(tree, recorded).map(Arc::new)).transpose()
}

/// A run with its parameters, wherever they are.
pub(crate) fn complete(tree: &Tree, recorded: Recorded) -> Result<Run, StoreError> {
    let Recorded { mut run, apart } = recorded;
    if apart > 0 {
        let mut json = Vec::with_capacity(apart);
        for number in 0..apart.div_ceil(VALUE_BYTES) {
            let number =
                u16::try_from(number).map_err(|_| damaged("a run's parameters have too many parts"))?;
            let part = tree.get(keys::parameters(run.id, number)).map_err(store_error)?;
            json.extend_from_slice(&part.ok_or_else(|| damaged("a part of a run's parameters is missing"))?);
        }
        let text = String::from_utf8(json)
            .map_err(|error| StoreError::corrupt("a run's parameters are not UTF-8", error))?;
        run.parameters = RunParameters::from_json(&text).map_err(|error| {
            StoreError::corrupt("a run's parameters are not the JSON they should be", error)
        })?;
    }
    Ok(run)
}

/// Of these queued runs, those that are there, as they are recorded or with what is wrong with their records.
pub(crate) fn queued_runs(tree: &Tree, ids: &[RunId]) -> Vec<(RunId, Result<Run, StoreError>)> {
    let mut by_span = BTreeMap::<Span, BTreeSet<RunId>>::new();
    for id in ids {
        by_span.entry(keys::span(*id)).or_default().insert(*id);
    }
    let mut found = Vec::new();
    for (span, mut wanted) in by_span {
        for block in block::of_span(tree, keys::LIVE, span) {
            if wanted.is_empty() {
                break;
            }
            if let Err(error) = block.and_then(|block| queued_in(tree, &block, &mut wanted, &mut found)) {
                tracing::error!(%error, "a value that holds queued runs cannot be read");
            }
        }
    }
    found
}

/// Finds wanted runs in a value.
fn queued_in(
    tree: &Tree,
    block: &Block,
    wanted: &mut BTreeSet<RunId>,
    found: &mut Vec<(RunId, Result<Run, StoreError>)>,
) -> Result<(), StoreError> {
    for entry in block.entries()? {
        if wanted.remove(&entry.id()) {
            let read = entry.run(tree).transpose();
            let run = read.map(|recorded| recorded.and_then(|recorded| complete(tree, recorded)));
            found.extend(run.map(|run| (entry.id(), run)));
        }
    }
    Ok(())
}

/// A queued run.
pub(crate) fn queued_run(tree: &Tree, id: RunId) -> Result<Option<Arc<Run>>, StoreError> {
    queued_runs(tree, &[id]).pop().map(|(_, run)| run.map(Arc::new)).transpose()
}

/// The newest ended runs that a query asks for, at most `limit`, newest first.
pub(crate) fn list_ended(tree: &Tree, query: &RunQuery, limit: usize) -> Result<Vec<Arc<Run>>, StoreError> {
    let prefixes = prefixes(tree, query)?;
    let mut newest = Newest::new(prefixes.iter().map(|prefix| older(tree, prefix, query.before)))?;
    let mut found = Vec::new();
    while found.len() < limit {
        let Some(blocks) = newest.next_span(tree)? else { break };
        let mut of_span = Vec::new();
        for block in &blocks {
            of_span.extend(block.entries()?);
        }
        of_span.retain(|entry| query.before.is_none_or(|before| entry.id() < before));
        of_span.sort_unstable_by_key(|entry| Reverse(entry.id()));
        // There may be thousands, of which a page needs few.
        for entry in of_span {
            if found.len() == limit {
                break;
            }
            if let Some(recorded) = entry.run(tree)?.filter(|recorded| query.matches(&recorded.run)) {
                found.push(Arc::new(complete(tree, recorded)?));
            }
        }
    }
    Ok(found)
}

/// Where the ended runs that a query asks for are indexed.
fn prefixes(tree: &Tree, query: &RunQuery) -> Result<Vec<Vec<u8>>, StoreError> {
    if query.workflow.is_none() && query.webhook.is_none() && query.state.is_none() {
        return Ok(vec![vec![keys::ENDED]]);
    }
    let states = RunState::ALL.into_iter().filter(|state| state.is_ended());
    let states: Vec<_> = states.filter(|state| query.state.is_none_or(|wanted| wanted == *state)).collect();
    if states.is_empty() {
        return Ok(Vec::new());
    }
    let (kind, groups) = match (&query.webhook, &query.workflow) {
        (Some(webhook), _) => (keys::BY_WEBHOOK, vec![*webhook.as_bytes()]),
        (None, Some(workflow)) => (keys::BY_WORKFLOW, vec![keys::workflow(workflow)]),
        (None, None) => (keys::BY_WORKFLOW, groups(tree, keys::BY_WORKFLOW)?),
    };
    let of_group = |group| states.iter().map(move |state| keys::ended(kind, group, *state));
    Ok(groups.iter().flat_map(of_group).collect())
}

/// The workflows or webhooks that have ended runs.
pub(crate) fn groups(tree: &Tree, kind: u8) -> Result<Vec<[u8; 16]>, StoreError> {
    let (mut groups, mut next) = (Vec::new(), Some(vec![kind]));
    while let Some(start) = next {
        let Some(entry) = tree.range(&start[..]..&[kind + 1][..]).next() else { break };
        let (key, _) = entry.map_err(store_error)?;
        let (group, after) = keys::first_id(&key).ok_or_else(|| damaged("an index entry is too short"))?;
        groups.push(group);
        next = after;
    }
    Ok(groups)
}

/// The keys with this prefix that end with an older id.
pub(crate) fn older(tree: &Tree, prefix: &[u8], before: Option<RunId>) -> sled::Iter {
    let start = Bound::Included(prefix.to_vec());
    let end = match before {
        Some(before) => Bound::Excluded([prefix, before.as_bytes()].concat()),
        None => Bound::Included([prefix, &[0xff; 16]].concat()),
    };
    tree.range::<Vec<u8>, _>((start, end))
}

/// Goes through several indexes at once, newest first, span by span: within one, runs lie in any order.
pub(crate) struct Newest {
    indexes: Vec<sled::Iter>,
    heads: BinaryHeap<([u8; 16], usize)>,
}

impl Newest {
    pub(crate) fn new(indexes: impl Iterator<Item = sled::Iter>) -> Result<Self, StoreError> {
        let mut newest = Self { indexes: indexes.collect(), heads: BinaryHeap::new() };
        (0..newest.indexes.len()).try_for_each(|place| newest.advance(place))?;
        Ok(newest)
    }

    /// The values with the ended runs of the newest span that is left.
    pub(crate) fn next_span(&mut self, tree: &Tree) -> Result<Option<Vec<Block>>, StoreError> {
        let Some((newest, _)) = self.heads.peek() else { return Ok(None) };
        let span = keys::span(RunId::from_bytes(*newest));
        let mut blocks = Vec::new();
        while let Some((id, place)) = self.heads.peek().copied()
            && keys::span(RunId::from_bytes(id)) == span
        {
            self.heads.pop();
            self.advance(place)?;
            // What was pruned since its index entry was read is gone.
            blocks.extend(block::named(tree, keys::ENDED, RunId::from_bytes(id))?);
        }
        Ok(Some(blocks))
    }

    fn advance(&mut self, place: usize) -> Result<(), StoreError> {
        if let Some(entry) = self.indexes[place].next_back() {
            let (key, _) = entry.map_err(store_error)?;
            let id = keys::last_id(&key).ok_or_else(|| damaged("an index entry is too short"))?;
            self.heads.push((id, place));
        }
        Ok(())
    }
}

/// One delivery.
pub(crate) fn delivery(tree: &Tree, run: RunId, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
    record(tree, &keys::delivery(run, id))
}

/// The run that a delivery tells of.
pub(crate) fn run_of_delivery(tree: &Tree, id: DeliveryId) -> Result<Option<RunId>, StoreError> {
    let run = tree.get(keys::delivery_run(id)).map_err(store_error)?;
    run.map(|run| run_in(&run)).transpose()
}

fn run_in(value: &[u8]) -> Result<RunId, StoreError> {
    let run = keys::last_id(value).map(RunId::from_bytes);
    run.ok_or_else(|| damaged("a delivery's run is too short"))
}

/// The deliveries of a run, oldest first.
pub(crate) fn deliveries(tree: &Tree, run: RunId) -> Result<Vec<Delivery>, StoreError> {
    let entries = tree.scan_prefix(keys::by_id(keys::DELIVERY, run.as_bytes()));
    let delivery = |entry: sled::Result<(IVec, IVec)>| {
        let (key, head) = entry.map_err(store_error)?;
        read(tree, &key, &head)
    };
    entries.map(delivery).collect()
}

/// A page of deliveries, newest first.
pub(crate) fn find_deliveries(
    tree: &Tree,
    query: &DeliveryQuery,
) -> Result<Page<Delivery, DeliveryId>, StoreError> {
    // The pending ones have an index of their own.
    let pending = query.state == Some(DeliveryState::Pending);
    let kind = if pending { keys::PENDING } else { keys::DELIVERY_RUN };
    let end = query.before.map_or(vec![kind + 1], |before| keys::by_id(kind, before.as_bytes()).to_vec());
    let (mut items, mut last) = (Vec::new(), None);
    for (examined, entry) in tree.range(vec![kind]..end).rev().enumerate() {
        if items.len() >= query.limit || examined == MOST_EXAMINED {
            return Ok(Page::new(items, last));
        }
        let (key, value) = entry.map_err(store_error)?;
        let id = keys::last_id(&key).map(DeliveryId::from_bytes);
        let id = id.ok_or_else(|| damaged("a delivery's key is too short"))?;
        let run = match pending {
            true => decode_pending(&value)?.0,
            false => run_in(&value)?,
        };
        items.extend(delivery(tree, run, id)?.filter(|delivery| query.matches(delivery)));
        last = Some(id);
    }
    Ok(Page::new(items, None))
}

/// A run's log from an offset on.
pub(crate) fn log(tree: &Tree, run: RunId, offset: u64) -> Result<LogPart, StoreError> {
    let (mut start, mut bytes) = (None, Vec::new());
    for entry in tree.scan_prefix(keys::log_of(run)) {
        let (key, value) = entry.map_err(store_error)?;
        let at = log_offset(&key)?;
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

/// The offset in the key of a part of a log.
pub(crate) fn log_offset(key: &[u8]) -> Result<u64, StoreError> {
    let offset = key.last_chunk().ok_or_else(|| damaged("a log's key is too short"))?;
    Ok(u64::from_be_bytes(*offset))
}
