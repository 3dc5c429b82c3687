//! Values that hold runs, as they are found in the database.
//!
//! A value holds several runs, or one that is too large for a single value, or one in the JSON of the first format.

use std::collections::HashSet;

use sled::{IVec, Tree};
use webhook_core::id::RunId;
use webhook_core::run::Run;
use webhook_core::store::StoreError;

use crate::format::block;
use crate::format::keys::{self, TimeBucket};
use crate::format::run::{self, GroupKey, RecordedRun, decode_run};
use crate::format::value::{damaged, tail_count};
use crate::tree::damage::Damage;
use crate::tree::scan::{self, Scan};
use crate::tree::values;

#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) key: IVec,
    first: RunId,
    head: IVec,
    tails: u16,
}

impl Block {
    pub(crate) fn new(key: IVec, head: IVec) -> Result<Self, StoreError> {
        let first = keys::last_id(&key).ok_or_else(|| damaged("a run's key is too short"))?;
        Ok(Self { first: RunId::from_bytes(first), tails: tail_count(&head)?, key, head })
    }

    /// Returns the run that the key names.
    pub(crate) fn first(&self) -> RunId {
        self.first
    }

    /// Bytes of its first value.
    pub(crate) fn len(&self) -> usize {
        self.head.len()
    }

    /// Number of further values, which only a single large run has.
    pub(crate) fn tails(&self) -> u16 {
        self.tails
    }

    /// Returns the ids of the runs in it, oldest first.
    pub(crate) fn ids(&self) -> Result<Vec<RunId>, StoreError> {
        if !self.is_shared() {
            return Ok(vec![self.first]);
        }
        block::ids(&self.head)
    }

    /// The group key of all runs in it.
    pub(crate) fn group_key(&self, tree: &Tree) -> Result<GroupKey, StoreError> {
        if block::holds_records(&self.head) {
            return block::first_group_key(&self.head).map(|(group_key, _)| group_key);
        }
        let run: Run = values::read(tree, &self.key, &self.head)?;
        Ok(GroupKey { webhook: run.webhook_id(), workflow: run.workflow().clone(), state: run.state() })
    }

    /// Returns the records in it; none for a run that is alone in its value.
    pub(crate) fn records(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        if self.is_shared() { block::records(&self.head) } else { Ok(Vec::new()) }
    }

    /// All runs in it as they are recorded, oldest first.
    pub(crate) fn runs(&self, tree: &Tree) -> Result<Vec<RecordedRun>, StoreError> {
        if !block::holds_records(&self.head) {
            return Ok(vec![RecordedRun { run: values::read(tree, &self.key, &self.head)?, apart: 0 }]);
        }
        if self.tails == 0 {
            return self.records()?.iter().map(|record| decode_run(record)).collect();
        }
        let whole = values::whole(tree, &self.key, &self.head)?;
        block::records(&whole)?.iter().map(|record| decode_run(record)).collect()
    }

    /// All runs in it by their ids, to be read when they are needed.
    pub(crate) fn entries(&self) -> Result<Vec<(RunId, BlockEntry<'_>)>, StoreError> {
        if !self.is_shared() {
            return Ok(vec![(self.first, BlockEntry::Alone(self))]);
        }
        let entry = |record: Vec<u8>| Ok((run::id_of(&record)?, BlockEntry::Record(record)));
        self.records()?.into_iter().map(entry).collect()
    }

    fn is_shared(&self) -> bool {
        block::holds_records(&self.head) && self.tails == 0
    }
}

/// A run in a value.
pub(crate) enum BlockEntry<'a> {
    Record(Vec<u8>),
    Alone(&'a Block),
}

impl BlockEntry<'_> {
    pub(crate) fn run(&self, tree: &Tree) -> Result<Option<RecordedRun>, StoreError> {
        match self {
            Self::Record(record) => decode_run(record).map(Some),
            Self::Alone(block) => Ok(block.runs(tree)?.pop()),
        }
    }
}

/// Returns the value whose key names this run.
pub(crate) fn named(tree: &Tree, kind: u8, run: RunId) -> Result<Option<Block>, StoreError> {
    let key = keys::by_id(kind, run.as_bytes());
    let head = scan::get(tree, &key)?;
    head.map(|head| Block::new(IVec::from(&key), head)).transpose()
}

/// A value with the records in it.
pub(crate) type Held = (Block, Vec<Vec<u8>>);

/// Returns the values that hold some of these runs, which share a time bucket, with the records in them. A
/// damaged value holds none.
///
/// The search goes down from the newest of the runs, where most of them are close by.
pub(crate) fn holding(
    tree: &Tree,
    kind: u8,
    bucket: TimeBucket,
    runs: &HashSet<RunId>,
    damage: &Damage,
) -> Result<Vec<Held>, StoreError> {
    let (mut left, mut found) = (runs.len(), Vec::new());
    for block in downwards(tree, kind, bucket, runs.iter().max().copied(), damage) {
        let read = || Ok((block.ids()?, block.records()?));
        let Some((ids, records)) = damage.set_aside(&block.key, read())? else { continue };
        let held = ids.iter().filter(|id| runs.contains(id)).count();
        if held > 0 {
            found.push((block, records));
            left = left.saturating_sub(held);
        }
        if left == 0 {
            break;
        }
    }
    Ok(found)
}

/// Returns the value that holds a run.
pub(crate) fn find(tree: &Tree, kind: u8, run: RunId, damage: &Damage) -> Result<Option<Block>, StoreError> {
    let mut is_damaged = false;
    for block in downwards(tree, kind, keys::time_bucket(run), Some(run), damage) {
        match damage.set_aside(&block.key, block.ids())? {
            Some(ids) if ids.contains(&run) => return Ok(Some(block)),
            Some(_) => {}
            None => is_damaged = true,
        }
    }
    if is_damaged { Err(damaged("a value that may hold the run is damaged")) } else { Ok(None) }
}

/// Iterates over the values with runs of a time bucket up to this run, newest first.
pub(crate) fn downwards<'a>(
    tree: &'a Tree,
    kind: u8,
    bucket: TimeBucket,
    newest: Option<RunId>,
    damage: &'a Damage,
) -> impl Iterator<Item = Block> + use<'a> {
    let (first, _) = keys::keys_of_bucket(kind, bucket);
    // The first key behind that of the newest run.
    let end = newest.map(|newest| [&keys::by_id(kind, newest.as_bytes())[..], &[0]].concat());
    Scan::down(tree, damage, &[kind], end.as_deref())
        .take_while(move |(key, _)| key[..] >= first[..])
        .filter_map(|(key, head)| damage.set_aside(&key.clone(), Block::new(key, head)).ok().flatten())
}
