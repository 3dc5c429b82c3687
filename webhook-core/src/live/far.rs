//! Runs that wait far behind others of their webhook: kept as bytes, many in one piece, since they are not needed soon.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::id::{RunId, WebhookId, WorkflowKey};
use crate::run::{Run, RunState};
use crate::store::RunQuery;

/// How runs that wait for long take little memory: as the bytes that a store makes of them.
#[derive(Clone, Copy, Default)]
pub struct Packing(Option<Both>);

#[derive(Clone, Copy)]
struct Both {
    pack: fn(&Run) -> Option<Vec<u8>>,
    unpack: fn(RunId, WebhookId, &WorkflowKey, &[u8]) -> Option<Run>,
}

impl Packing {
    /// Packs with one function what the other one unpacks to the very same run, given its id, webhook and workflow;
    /// its state is `queued`. A run that `pack` answers nothing for is kept as it is.
    #[must_use]
    pub fn new(
        pack: fn(&Run) -> Option<Vec<u8>>,
        unpack: fn(RunId, WebhookId, &WorkflowKey, &[u8]) -> Option<Run>,
    ) -> Self {
        Self(Some(Both { pack, unpack }))
    }

    pub(super) fn packs(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn pack(&self, run: &Run) -> Option<Vec<u8>> {
        (self.0?.pack)(run)
    }
}

impl fmt::Debug for Packing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Packing").field(&self.0.is_some()).finish()
    }
}

/// From where on runs are far, in numbers of runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depth {
    /// How many of a webhook's runs, those that are next, are never far.
    pub(super) near: usize,
    /// How many of the newest are not either, since others may still come that are older than they are.
    pub(super) newest: usize,
    /// How many must have come before it is looked again which of them are far.
    pub(super) step: usize,
    /// How many share a piece.
    pub(super) piece: usize,
}

impl Default for Depth {
    fn default() -> Self {
        Self { near: 1_024, newest: 64, step: 512, piece: 64 }
    }
}

/// The far runs of one webhook, oldest first.
#[derive(Debug, Default)]
pub(super) struct Far {
    pieces: VecDeque<Piece>,
    count: usize,
}

/// Successive runs of one webhook and workflow.
#[derive(Debug)]
struct Piece {
    webhook: WebhookId,
    workflow: WorkflowKey,
    first: RunId,
    last: RunId,
    count: usize,
    /// Of each run how much its id is greater than that of the one before, the length of what it is packed to, and
    /// that. Numbers are in LEB128.
    bytes: Vec<u8>,
}

impl Far {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(super) fn first(&self) -> Option<RunId> {
        self.pieces.front().map(|piece| piece.first)
    }

    pub(super) fn last(&self) -> Option<RunId> {
        self.pieces.back().map(|piece| piece.last)
    }

    /// Adds a run that is newer than all that are there.
    pub(super) fn push(&mut self, run: &Run, packed: &[u8], depth: &Depth) {
        let fits = |piece: &Piece| piece.count < depth.piece && piece.workflow == run.workflow;
        if !self.pieces.back().is_some_and(fits) {
            if let Some(full) = self.pieces.back_mut() {
                full.shrink();
            }
            self.pieces.push_back(Piece::new(run.webhook_id, run.workflow.clone(), run.id));
        }
        if let Some(piece) = self.pieces.back_mut() {
            piece.push(run.id, packed);
            self.count += 1;
        }
    }

    pub(super) fn get(&self, id: RunId, packing: &Packing) -> Option<Arc<Run>> {
        let piece = &self.pieces[self.candidate(id)?];
        let (_, packed) = piece.packed().find(|(found, _)| *found == id)?;
        piece.unpack(id, packed, packing)
    }

    /// Takes out the first piece. Answers how many runs were in it, and these runs, less those that their store unpacks
    /// no more.
    pub(super) fn take_first(&mut self, packing: &Packing) -> Option<(usize, Vec<Arc<Run>>)> {
        let piece = self.pieces.pop_front()?;
        self.count -= piece.count;
        let runs = piece.packed().filter_map(|(id, packed)| piece.unpack(id, packed, packing)).collect();
        Some((piece.count, runs))
    }

    /// Removes a run. Answers whether it was there.
    pub(super) fn remove(&mut self, id: RunId) -> bool {
        let Some(index) = self.candidate(id) else { return false };
        let piece = &mut self.pieces[index];
        if !piece.packed().any(|(found, _)| found == id) {
            return false;
        }
        self.count -= 1;
        match piece.without(id) {
            Some(rest) => *piece = rest,
            None => drop(self.pieces.remove(index)),
        }
        true
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = RunId> {
        self.pieces.iter().flat_map(Piece::packed).map(|(id, _)| id)
    }

    /// The runs that a query asks for and that are newer than `floor`, newest first, at most `limit`.
    pub(super) fn newest(
        &self,
        query: &RunQuery,
        floor: Option<RunId>,
        limit: usize,
        packing: &Packing,
    ) -> Vec<Arc<Run>> {
        let is_above = |id: RunId| floor.is_none_or(|floor| id > floor);
        let is_below = |id: RunId| query.before.is_none_or(|before| id < before);
        let mut found = Vec::new();
        for piece in self.pieces.iter().rev().take_while(|piece| is_above(piece.last)) {
            if !is_below(piece.first) || !piece.is_asked_for(query) {
                continue;
            }
            let packed: Vec<_> = piece.packed().filter(|(id, _)| is_above(*id) && is_below(*id)).collect();
            found.extend(packed.iter().rev().filter_map(|(id, packed)| piece.unpack(*id, packed, packing)));
            if found.len() >= limit {
                break;
            }
        }
        found.truncate(limit);
        found
    }

    /// Which piece this run is in, if it is in one: ids of other webhooks lie in between.
    fn candidate(&self, id: RunId) -> Option<usize> {
        let index = self.pieces.partition_point(|piece| piece.last < id);
        self.pieces.get(index).filter(|piece| piece.first <= id).map(|_| index)
    }
}

impl Piece {
    /// An empty piece for runs from this one on.
    fn new(webhook: WebhookId, workflow: WorkflowKey, first: RunId) -> Self {
        Self { webhook, workflow, first, last: first, count: 0, bytes: Vec::new() }
    }

    fn push(&mut self, id: RunId, packed: &[u8]) {
        put_number(&mut self.bytes, number_of(id) - number_of(self.last));
        put_number(&mut self.bytes, packed.len() as u128);
        self.bytes.extend(packed);
        self.last = id;
        self.count += 1;
    }

    /// Shrinking in place would leave to some allocators what was too much.
    fn shrink(&mut self) {
        self.bytes = self.bytes.as_slice().to_vec();
    }

    /// The piece without this run; `None` when nothing is left.
    fn without(&self, gone: RunId) -> Option<Self> {
        let mut rest: Option<Self> = None;
        for (id, packed) in self.packed().filter(|(id, _)| *id != gone) {
            rest.get_or_insert_with(|| Self::new(self.webhook, self.workflow.clone(), id)).push(id, packed);
        }
        rest.iter_mut().for_each(Self::shrink);
        rest
    }

    fn is_asked_for(&self, query: &RunQuery) -> bool {
        query.matches_these(&self.workflow, self.webhook, RunState::Queued)
    }

    fn packed(&self) -> impl Iterator<Item = (RunId, &[u8])> {
        let (mut id, mut rest) = (number_of(self.first), &self.bytes[..]);
        std::iter::from_fn(move || {
            id += take_number(&mut rest)?;
            let length = usize::try_from(take_number(&mut rest)?).ok()?;
            let (packed, after) = rest.split_at_checked(length)?;
            rest = after;
            Some((RunId::from_bytes(id.to_be_bytes()), packed))
        })
    }

    fn unpack(&self, id: RunId, packed: &[u8], packing: &Packing) -> Option<Arc<Run>> {
        let unpacked = (packing.0?.unpack)(id, self.webhook, &self.workflow, packed).map(Arc::new);
        if unpacked.is_none() {
            tracing::error!(run = %id, "a queued run cannot be unpacked; it is queued again at the next start");
        }
        unpacked
    }
}

fn number_of(id: RunId) -> u128 {
    u128::from_be_bytes(*id.as_bytes())
}

fn put_number(bytes: &mut Vec<u8>, mut number: u128) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(rest: &mut &[u8]) -> Option<u128> {
    let mut number = 0;
    for shift in (0..128).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u128::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}
