//! Reading records from the database. Everything here may read the disk.

use std::collections::BinaryHeap;
use std::ops::Bound;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use sled::{IVec, Tree};
use webhook_core::id::{DeliveryId, RunId};
use webhook_core::notifier::Delivery;
use webhook_core::run::{Run, RunState};
use webhook_core::store::{LogPart, RunQuery, StoreError};

use crate::error::store_error;
use crate::keys;
use crate::record::{damaged, decode, tail_count};

/// The record under this key.
pub(crate) fn record<T: DeserializeOwned>(tree: &Tree, key: &[u8]) -> Result<Option<T>, StoreError> {
    let Some(head) = tree.get(key).map_err(store_error)? else { return Ok(None) };
    read(tree, key, &head).map(Some)
}

/// The record with this first value.
pub(crate) fn read<T: DeserializeOwned>(tree: &Tree, key: &[u8], head: &IVec) -> Result<T, StoreError> {
    let tail = |number| {
        let value = tree.get(keys::tail(key, number)).map_err(store_error)?;
        value.ok_or_else(|| damaged("a part of a record is missing"))
    };
    let tails: Vec<IVec> = (0..tail_count(head)?).map(tail).collect::<Result<_, _>>()?;
    decode(head, &tails)
}

/// A run that has ended.
pub(crate) fn ended_run(tree: &Tree, id: RunId) -> Result<Option<Arc<Run>>, StoreError> {
    record(tree, &keys::by_id(keys::ENDED, id.as_bytes())).map(|run| run.map(Arc::new))
}

/// The newest ended runs that a query asks for, at most `limit`, newest first.
pub(crate) fn list_ended(tree: &Tree, query: &RunQuery, limit: usize) -> Result<Vec<Arc<Run>>, StoreError> {
    let mut runs = Vec::new();
    let prefixes = prefixes(tree, query)?;
    let mut newest = Newest::new(prefixes.iter().map(|prefix| older(tree, prefix, query.before)))?;
    while runs.len() < limit {
        let Some(id) = newest.next()? else { break };
        // A run that was pruned since its index entry was read is gone.
        runs.extend(ended_run(tree, id)?.filter(|run| query.matches(run)));
    }
    Ok(runs)
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

/// Goes through several indexes at once, newest first.
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

    pub(crate) fn next(&mut self) -> Result<Option<RunId>, StoreError> {
        let Some((id, place)) = self.heads.pop() else { return Ok(None) };
        self.advance(place)?;
        Ok(Some(RunId::from_bytes(id)))
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
    run.map(|run| keys::last_id(&run).map(RunId::from_bytes))
        .map(|run| run.ok_or_else(|| damaged("a delivery's run is too short")))
        .transpose()
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
