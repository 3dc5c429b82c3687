//! A value that holds runs, as it is found in the database: several of them, one that is too large for a single
//! value, or one in the JSON of the first format.

use sled::{IVec, Tree};
use webhook_core::id::RunId;
use webhook_core::run::Run;
use webhook_core::store::StoreError;

use crate::error::store_error;
use crate::keys::{self, Span};
use crate::read;
use crate::record::{damaged, tail_count};
use crate::run_record::{self, Belonging, Recorded, decode_run};

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

    /// The run that the key names.
    pub(crate) fn first(&self) -> RunId {
        self.first
    }

    /// How many bytes its first value has.
    pub(crate) fn len(&self) -> usize {
        self.head.len()
    }

    /// Of how many further values the only run in it needs the content.
    pub(crate) fn tails(&self) -> u16 {
        self.tails
    }

    /// The runs in it, oldest first.
    pub(crate) fn ids(&self) -> Result<Vec<RunId>, StoreError> {
        if !self.is_shared() {
            return Ok(vec![self.first]);
        }
        run_record::ids(&self.head)
    }

    /// Where all of them belong.
    pub(crate) fn belonging(&self, tree: &Tree) -> Result<Belonging, StoreError> {
        if run_record::holds_records(&self.head) {
            return run_record::first_belonging(&self.head).map(|(belonging, _)| belonging);
        }
        let run: Run = read::read(tree, &self.key, &self.head)?;
        Ok(Belonging { webhook: run.webhook_id, workflow: run.workflow, state: run.state })
    }

    /// The records in it. A run that is alone in its value has none to share.
    pub(crate) fn records(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        if self.is_shared() { run_record::records(&self.head) } else { Ok(Vec::new()) }
    }

    /// All runs in it as they are recorded, oldest first.
    pub(crate) fn runs(&self, tree: &Tree) -> Result<Vec<Recorded>, StoreError> {
        if !run_record::holds_records(&self.head) {
            return Ok(vec![Recorded { run: read::read(tree, &self.key, &self.head)?, apart: 0 }]);
        }
        if self.tails == 0 {
            return self.records()?.iter().map(|record| decode_run(record)).collect();
        }
        let whole = read::whole(tree, &self.key, &self.head)?;
        run_record::records(&whole)?.iter().map(|record| decode_run(record)).collect()
    }

    /// All runs in it, to be read when they are needed.
    pub(crate) fn entries(&self) -> Result<Vec<Entry<'_>>, StoreError> {
        if !self.is_shared() {
            return Ok(vec![Entry { id: self.first, content: Content::Alone(self) }]);
        }
        let entry = |record: Vec<u8>| {
            let id = run_record::id_of(&record)?;
            Ok(Entry { id, content: Content::Record(record) })
        };
        self.records()?.into_iter().map(entry).collect()
    }

    fn is_shared(&self) -> bool {
        run_record::holds_records(&self.head) && self.tails == 0
    }
}

/// A run in a value, by its id.
pub(crate) struct Entry<'a> {
    id: RunId,
    content: Content<'a>,
}

enum Content<'a> {
    Record(Vec<u8>),
    Alone(&'a Block),
}

impl Entry<'_> {
    pub(crate) fn id(&self) -> RunId {
        self.id
    }

    pub(crate) fn run(&self, tree: &Tree) -> Result<Option<Recorded>, StoreError> {
        match &self.content {
            Content::Record(record) => decode_run(record).map(Some),
            Content::Alone(block) => Ok(block.runs(tree)?.pop()),
        }
    }
}

/// The values that hold the runs of a span, oldest first.
pub(crate) fn of_span(tree: &Tree, kind: u8, span: Span) -> impl Iterator<Item = Result<Block, StoreError>> {
    let (first, last) = keys::of_span(kind, span);
    tree.range(first..=last).map(|entry| {
        let (key, head) = entry.map_err(store_error)?;
        Block::new(key, head)
    })
}

/// The value whose key names this run.
pub(crate) fn named(tree: &Tree, kind: u8, run: RunId) -> Result<Option<Block>, StoreError> {
    let key = keys::by_id(kind, run.as_bytes());
    let head = tree.get(key).map_err(store_error)?;
    head.map(|head| Block::new(IVec::from(&key), head)).transpose()
}

/// The value that holds a run.
pub(crate) fn find(tree: &Tree, kind: u8, run: RunId) -> Result<Option<Block>, StoreError> {
    for block in of_span(tree, kind, keys::span(run)) {
        let block = block?;
        if block.first() <= run && block.ids()?.contains(&run) {
            return Ok(Some(block));
        }
    }
    Ok(None)
}
