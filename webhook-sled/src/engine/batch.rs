//! Changes of the database that are made together, and how runs are placed in it: those made within the same few
//! milliseconds share a value, since for sled a large value costs hardly more than a small one.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use sled::{Batch, IVec, Tree};
use webhook_core::id::RunId;
use webhook_core::store::StoreError;

use crate::format::keys::{self, ENDED, LIVE, LOG, PARAMETERS, Span, TAIL};
use crate::format::run::{self, Belonging, Value, belonging, first_belonging};
use crate::format::value::{VALUE_BYTES, encode_number, tail_count};
use crate::tree::blocks::{self, Block};
use crate::tree::damage::Damage;
use crate::tree::scan;
use crate::tree::sums::{Changed, Kept};

/// Upper bound on the changes of sled between two syncs, in bytes.
///
/// sled reuses the parts of its log (512 KiB each) whose content was moved elsewhere, and it does not know what
/// the disk has confirmed. Changes that fill less than one part between two syncs cannot overwrite anything that was
/// moved to a place not yet synced; sled's pages amplify what is written by some four.
pub(crate) const WINDOW: usize = 96 * 1024;

/// Cost of removing a small value, in bytes. Only its key is written, but its page is rewritten once enough has gone from it.
const REMOVAL: usize = 200;
/// Cost of removing a part of a log or of a large record, in bytes. Every few removals rewrite or merge a page of them.
const PART_REMOVAL: usize = VALUE_BYTES;

/// How large a value is that several runs share. sled keeps pages of up to 16 values in memory, one of each of 256
/// parts of its cache at least, so that larger values would make the least of its cache a large one.
const SHARED_BYTES: usize = 2_000;

/// One record put or removed. The key of a run is `l` or `r` and its id; where it is placed follows from that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) key: IVec,
    /// `None` removes it.
    pub(crate) value: Option<IVec>,
    /// Nothing was ever put under this key.
    pub(crate) fresh: bool,
}

impl Write {
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, |value| value.len())
    }

    /// Its share of a window, in bytes.
    pub(crate) fn cost(&self) -> usize {
        cost(&self.key, self.value.as_ref())
    }
}

fn cost(key: &[u8], value: Option<&IVec>) -> usize {
    key.len() + value.map_or(REMOVAL, |value| value.len())
}

/// Whether the key is that of a part of a log, of parameters or of a large record. Readers reach a part through its record.
fn is_part(key: &[u8]) -> bool {
    matches!(key.first(), Some(&(LOG | PARAMETERS | TAIL)))
}

/// One change of the writer, with its sequence number.
pub(crate) struct Numbered {
    pub(crate) number: u64,
    pub(crate) writes: Vec<Write>,
}

impl Numbered {
    pub(crate) fn cost(&self) -> usize {
        self.writes.iter().map(Write::cost).sum()
    }

    /// About its bytes in the journal.
    pub(crate) fn bytes(&self) -> usize {
        self.writes.iter().map(Write::bytes).sum()
    }
}

/// Changes that are made in one atomic step: what is left of successive ones, since much is removed soon after it
/// was put.
#[derive(Default)]
pub(crate) struct Window {
    writes: BTreeMap<IVec, (Option<IVec>, bool)>,
    cost: usize,
    /// The number of the last batch in it.
    pub(crate) number: u64,
}

impl Window {
    /// Takes as many batches as may be written together, one at least. `None` when there are none.
    pub(crate) fn of(batches: &mut VecDeque<Numbered>) -> Option<Self> {
        let mut window = Self::default();
        while let Some(next) = batches.front()
            && (window.number == 0 || window.has_room_for(next))
        {
            window.number = next.number;
            batches.pop_front()?.writes.into_iter().for_each(|write| window.add(write));
        }
        (window.number > 0).then_some(window)
    }

    /// Whether a batch fits into it. What the batch removes again of what is here makes room.
    fn has_room_for(&self, next: &Numbered) -> bool {
        let gross = next.cost();
        if self.cost + gross <= WINDOW {
            return true;
        }
        // What it puts and removes itself counts for nothing either.
        let mut net = Self::default();
        next.writes.iter().cloned().for_each(|write| net.add(write));
        let removed: usize = net.writes.iter().filter_map(|(key, (value, _))| self.saved(key, value)).sum();
        self.cost + net.cost <= WINDOW + removed
    }

    /// Returns the cost that is saved when this replaces the write under the same key, or `None` where there is none.
    ///
    /// Removing a value that the database never had costs nothing.
    fn saved(&self, key: &IVec, value: &Option<IVec>) -> Option<usize> {
        let (old, was_fresh) = self.writes.get(key)?;
        let removal = if *was_fresh && value.is_none() { cost(key, None) } else { 0 };
        Some(cost(key, old.as_ref()) + removal)
    }

    fn add(&mut self, write: Write) {
        let added = write.cost();
        let Write { key, value, fresh } = write;
        let (mut fresh, is_removal) = (fresh, value.is_none());
        if let Some((old, was_fresh)) = self.writes.get(&key) {
            self.cost -= cost(&key, old.as_ref());
            fresh |= *was_fresh;
        }
        if fresh && is_removal {
            // The database never had it.
            self.writes.remove(&key);
            return;
        }
        self.cost += added;
        self.writes.insert(key, (value, fresh));
    }

    /// The runs in it that have ended.
    pub(crate) fn ended(&self) -> Vec<RunId> {
        let ended = self.writes.range(IVec::from(&[ENDED])..IVec::from(&[ENDED + 1]));
        ended.filter_map(|(key, _)| keys::last_id(key).map(RunId::from_bytes)).collect()
    }

    /// As changes of the database as it is now.
    ///
    /// Everything up to `acknowledged` is durable in the journal.
    pub(crate) fn place(self, tree: &Tree, acknowledged: u64, damage: &Damage) -> Result<Placed, StoreError> {
        let mut placed = Placed::default();
        let (mut live, mut ended) = (Moves::default(), Moves::default());
        for (key, (value, fresh)) in self.writes {
            let moves = match key.first() {
                Some(&LIVE) => &mut live,
                Some(&ENDED) => &mut ended,
                _ if is_part(&key) => {
                    placed.write_part(key, value, fresh);
                    continue;
                }
                _ => {
                    placed.write(key, value);
                    continue;
                }
            };
            moves.add(&key, value, fresh)?;
        }
        live.place(tree, LIVE, damage, &mut placed)?;
        placed.records.moves_history = !ended.gone.is_empty();
        ended.place(tree, ENDED, damage, &mut placed)?;
        placed.write(keys::BATCH_NUMBER, Some(IVec::from(&encode_number(self.number))));
        placed.write(keys::ACKNOWLEDGED, Some(IVec::from(&encode_number(acknowledged))));
        placed.add_up(tree, self.number, damage)?;
        Ok(placed)
    }
}

/// A window as batches for sled, in the order in which they are to be written: parts that are new, then everything that
/// readers find, in one atomic step together with the window's number, then parts that are gone.
///
/// A crash between two of them leaves nothing but parts that belong to no record.
#[derive(Default)]
pub(crate) struct Placed {
    new_parts: Vec<Step>,
    records: Step,
    gone_parts: Vec<Step>,
}

/// One batch for sled, which is written atomically.
#[derive(Default)]
pub(crate) struct Step {
    writes: HashMap<IVec, Option<IVec>>,
    /// Its share of what may be written between two syncs, in bytes.
    pub(crate) cost: usize,
    /// Whether ended runs change their places, so that no reader may be under way.
    pub(crate) moves_history: bool,
    /// Its changes of values that are in the sums.
    pub(crate) changed: Vec<Changed>,
    /// Bytes in the database after it. `None` while the database keeps no sums.
    pub(crate) stored_bytes: Option<u64>,
}

/// Part of a step that is left for the sums, in bytes.
const SUMS_ROOM: usize = 512;

impl Step {
    /// One after which ended runs or parts of logs are elsewhere.
    pub(crate) fn that_moves_history() -> Self {
        Self { moves_history: true, ..Self::default() }
    }

    pub(crate) fn write(&mut self, key: impl Into<IVec>, value: Option<IVec>, cost: usize) {
        self.cost += cost;
        self.writes.insert(key.into(), value);
    }

    /// Adds the step's changes to the sums, and writes these with it. A database without sums gets none.
    fn add_up(&mut self, tree: &Tree, kept: Option<&mut Kept>, damage: &Damage) -> Result<(), StoreError> {
        for (key, new) in self.writes.iter().filter(|(key, _)| keys::kind_index(key).is_some()) {
            // Also where nothing was ever put under the key: after a crash it may have been put before.
            let old = damage.set_aside(key, scan::get(tree, key))?.flatten();
            self.changed.push(Changed { key: key.clone(), old, new: new.clone() });
        }
        if let Some(kept) = kept {
            self.changed.iter().for_each(|changed| kept.sums.change(changed));
            self.stored_bytes = Some(kept.sums.bytes());
            self.write(keys::SUMS, Some(kept.encode().into()), SUMS_ROOM);
        }
        Ok(())
    }

    pub(crate) fn into_batch(self) -> Batch {
        let mut batch = Batch::default();
        for (key, value) in self.writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        batch
    }
}

impl Placed {
    pub(crate) fn into_steps(self) -> impl Iterator<Item = Step> {
        self.new_parts.into_iter().chain([self.records]).chain(self.gone_parts)
    }

    fn add_up(&mut self, tree: &Tree, number: u64, damage: &Damage) -> Result<(), StoreError> {
        let mut kept = kept(tree, damage)?;
        for step in &mut self.new_parts {
            step.add_up(tree, kept.as_mut(), damage)?;
        }
        if let Some(kept) = &mut kept {
            kept.number = number;
        }
        for step in [&mut self.records].into_iter().chain(&mut self.gone_parts) {
            step.add_up(tree, kept.as_mut(), damage)?;
        }
        Ok(())
    }

    fn write(&mut self, key: impl Into<IVec>, value: Option<IVec>) {
        let key = key.into();
        let cost = cost(&key, value.as_ref());
        self.records.write(key, value, cost);
    }

    /// Removes a value that holds runs.
    fn remove_block(&mut self, block: &Block) {
        // At worst all that shares its page is rewritten for it.
        let cost = cost(&block.key, None) + block.len();
        self.records.write(block.key.clone(), None, cost);
    }

    /// Writes a part of a log or of a large record. One that replaces another changes together with its record.
    fn write_part(&mut self, key: IVec, value: Option<IVec>, fresh: bool) {
        let (steps, cost) = match &value {
            Some(value) if fresh => (&mut self.new_parts, key.len() + value.len()),
            Some(_) => return self.write(key, value),
            None => (&mut self.gone_parts, PART_REMOVAL),
        };
        if steps.last().is_none_or(|step| step.cost + cost > WINDOW - SUMS_ROOM) {
            steps.push(Step::default());
        }
        if let Some(step) = steps.last_mut() {
            step.write(key, value, cost);
        }
    }
}

/// Adds the changes of steps that change no record to the sums.
pub(crate) fn add_up(steps: &mut [Step], tree: &Tree, damage: &Damage) -> Result<(), StoreError> {
    let mut kept = kept(tree, damage)?;
    steps.iter_mut().try_for_each(|step| step.add_up(tree, kept.as_mut(), damage))
}

fn kept(tree: &Tree, damage: &Damage) -> Result<Option<Kept>, StoreError> {
    Ok(damage.set_aside(keys::SUMS, Kept::read(tree))?.flatten())
}

/// Runs of one kind, live or ended, that come to the database or leave their places in it.
#[derive(Default)]
struct Moves {
    gone: HashMap<Span, HashSet<RunId>>,
    /// Records by the id of their run.
    coming: BTreeMap<RunId, Vec<u8>>,
    /// Values of runs that are too large to share one.
    alone: Vec<(RunId, IVec)>,
}

impl Moves {
    fn add(&mut self, key: &IVec, value: Option<IVec>, fresh: bool) -> Result<(), StoreError> {
        let Some(id) = keys::last_id(key).map(RunId::from_bytes) else { return Ok(()) };
        if !fresh {
            self.gone.entry(keys::span(id)).or_default().insert(id);
        }
        match value {
            Some(value) if tail_count(&value)? > 0 => self.alone.push((id, value)),
            Some(value) => {
                for record in run::records(&value)? {
                    self.coming.insert(id, record);
                }
            }
            None => {}
        }
        Ok(())
    }

    fn place(
        mut self,
        tree: &Tree,
        kind: u8,
        damage: &Damage,
        placed: &mut Placed,
    ) -> Result<(), StoreError> {
        for (span, ids) in std::mem::take(&mut self.gone) {
            for (block, records) in blocks::holding(tree, kind, span, &ids, damage)? {
                let taken = self.take_apart(tree, kind, &block, records, &ids, placed);
                // What cannot be read stops nothing else of its time.
                damage.set_aside(&keys::by_id(kind, block.first().as_bytes()), taken)?;
            }
        }
        for (id, value) in std::mem::take(&mut self.alone) {
            let (belonging, end) = first_belonging(&value)?;
            put(kind, id, value, Some(&belonging), end, placed);
        }
        for ((_, belonging), runs) in self.grouped(kind)? {
            put_together(kind, belonging.as_ref(), &runs, placed)?;
        }
        Ok(())
    }

    /// Removes a value that has any of these runs, and lets the runs in it that stay come anew.
    fn take_apart(
        &mut self,
        tree: &Tree,
        kind: u8,
        block: &Block,
        records: Vec<Vec<u8>>,
        gone: &HashSet<RunId>,
        placed: &mut Placed,
    ) -> Result<(), StoreError> {
        let belonging = if kind == ENDED { Some(block.belonging(tree)?) } else { None };
        let with_id = |record: Vec<u8>| Ok((run::id_of(&record)?, record));
        let records = records.into_iter().map(with_id).collect::<Result<Vec<_>, StoreError>>()?;
        // From here on nothing fails, so that a value is taken apart wholly or not at all.
        if let Some(belonging) = belonging {
            for key in index(&belonging, block.first()) {
                placed.write(key, None);
            }
        }
        placed.remove_block(block);
        for (id, record) in records {
            if !gone.contains(&id) {
                self.coming.entry(id).or_insert(record);
            }
        }
        Ok(())
    }

    /// Which runs may share a value: those of one span and, once they have ended, of one webhook, workflow and state.
    fn grouped(self, kind: u8) -> Result<Groups, StoreError> {
        let mut groups = Groups::new();
        for (id, record) in self.coming {
            let (belonging, end) = match kind {
                ENDED => belonging(&record).map(|(belonging, end)| (Some(belonging), end))?,
                _ => (None, 0),
            };
            groups.entry((keys::span(id), belonging)).or_default().push(Coming { id, record, end });
        }
        Ok(groups)
    }
}

type Groups = BTreeMap<(Span, Option<Belonging>), Vec<Coming>>;

struct Coming {
    id: RunId,
    record: Vec<u8>,
    /// When it ended.
    end: u64,
}

/// Puts runs, oldest first, into as few values as they fit into.
fn put_together(
    kind: u8,
    belonging: Option<&Belonging>,
    mut runs: &[Coming],
    placed: &mut Placed,
) -> Result<(), StoreError> {
    while let Some(first) = runs.first() {
        let (mut value, mut end, mut count) = (Value::new(SHARED_BYTES), first.end, 0);
        for run in runs {
            if count > 0 && value.len() + run.record.len() + 3 > SHARED_BYTES {
                break;
            }
            value.push(&run.record)?;
            end = end.min(run.end);
            count += 1;
        }
        put(kind, first.id, value.into_bytes().into(), belonging, end, placed);
        runs = &runs[count..];
    }
    Ok(())
}

fn put(kind: u8, first: RunId, value: IVec, belonging: Option<&Belonging>, end: u64, placed: &mut Placed) {
    if let Some(belonging) = belonging.filter(|_| kind == ENDED) {
        let [of_workflow, of_webhook] = index(belonging, first);
        placed.write(of_workflow, Some(IVec::default()));
        placed.write(of_webhook, Some(IVec::from(&encode_number(end))));
    }
    placed.write(&keys::by_id(kind, first.as_bytes()), Some(value));
}

/// Where ended runs are indexed: by workflow, and by webhook together with when the first of them ended.
pub(crate) fn index(belonging: &Belonging, first: RunId) -> [Vec<u8>; 2] {
    let of_workflow = keys::ended(keys::BY_WORKFLOW, &keys::workflow(&belonging.workflow), belonging.state);
    let of_webhook = keys::ended(keys::BY_WEBHOOK, belonging.webhook.as_bytes(), belonging.state);
    [of_workflow, of_webhook].map(|prefix| [&prefix[..], first.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use webhook_core::id::WebhookId;
    use webhook_core::run::{Caller, Ending, Run, RunParameters};

    use super::*;
    use crate::format::run::{Recorded, encode_run, record};
    use crate::format::value::{FIRST_RUNS_VERSION, encode};

    fn run(number: u8, now: SystemTime, webhook: WebhookId) -> Run {
        let id = RunId::from_bytes(u128::from(number).to_be_bytes());
        let workflow = "report/a".parse().unwrap();
        Run::new(id, workflow, webhook, RunParameters::default(), 1, Caller::default(), now)
    }

    fn put(kind: u8, run: &Run, value: Vec<u8>, fresh: bool) -> Write {
        Write { key: IVec::from(&keys::by_id(kind, run.id.as_bytes())), value: Some(value.into()), fresh }
    }

    fn apply(tree: &sled::Db, number: u64, writes: Vec<Write>) {
        let mut batches = VecDeque::from([Numbered { number, writes }]);
        let placed = Window::of(&mut batches).unwrap().place(tree, 0, &Damage::default()).unwrap();
        placed.into_steps().for_each(|step| tree.apply_batch(step.into_batch()).unwrap());
    }

    fn runs(tree: &sled::Db, kind: u8, span: Span) -> Vec<Run> {
        let (first, last) = keys::of_span(kind, span);
        let of_block = |entry: sled::Result<(IVec, IVec)>| {
            let (key, head) = entry.unwrap();
            Block::new(key, head).unwrap().runs(tree).unwrap()
        };
        let recorded = tree.range(first..=last).flat_map(of_block);
        let mut runs: Vec<Run> = recorded.map(|Recorded { run, .. }| run).collect();
        runs.sort_by_key(|run| run.id);
        runs
    }

    /// A value as the first version of the compact form had it.
    fn of_first_version(run: &Run) -> Vec<u8> {
        let record = record(run, 0).unwrap();
        let length = u8::try_from(record.len()).unwrap();
        assert!(length < 0x80, "so that it is its own LEB128");
        [&[FIRST_RUNS_VERSION, 0, 0, length], &record[..]].concat()
    }

    fn part(number: u16, value: Option<&[u8]>, fresh: bool) -> Write {
        let key = IVec::from(keys::tail(b"record", number));
        Write { key, value: value.map(IVec::from), fresh }
    }

    #[test]
    fn removals_count_for_what_they_make_sled_write_and_are_spread_over_steps() {
        let tree = sled::Config::new().temporary(true).open().unwrap();
        let value = [7; VALUE_BYTES];
        let count = 100;
        let puts = (0..count).map(|number| part(number, Some(&value), true)).collect();
        let removals = (0..count).map(|number| part(number, None, false)).collect();
        for (number, writes) in [(1, puts), (2, removals)] {
            let mut batches = VecDeque::from([Numbered { number, writes }]);
            let steps: Vec<Step> = Window::of(&mut batches)
                .unwrap()
                .place(&tree, 0, &Damage::default())
                .unwrap()
                .into_steps()
                .collect();
            assert!(steps.len() > 6 && steps.iter().all(|step| step.cost <= WINDOW));
            for step in steps {
                tree.apply_batch(step.into_batch()).unwrap();
            }
            let left = tree.scan_prefix([TAIL]).count();
            assert_eq!(left, if number == 1 { usize::from(count) } else { 0 });
        }
    }

    #[test]
    fn a_part_that_replaces_another_changes_together_with_its_record() {
        let tree = sled::Config::new().temporary(true).open().unwrap();
        let writes = vec![part(0, Some(b"new"), false), part(1, None, false)];
        let mut batches = VecDeque::from([Numbered { number: 1, writes }]);
        let placed = Window::of(&mut batches).unwrap().place(&tree, 0, &Damage::default()).unwrap();
        assert!(placed.new_parts.is_empty());
        tree.apply_batch(placed.records.into_batch()).unwrap();
        assert_eq!(tree.get(keys::tail(b"record", 0)).unwrap().unwrap(), b"new");
    }

    #[test]
    fn what_is_put_and_removed_again_takes_no_room_in_a_window() {
        let value = [7; VALUE_BYTES];
        let numbers = 0..15;
        let puts: Vec<Write> = numbers.clone().map(|number| part(number, Some(&value), true)).collect();
        let removals: Vec<Write> = numbers.map(|number| part(number, None, false)).collect();
        let both = [puts.clone(), removals.clone()].concat();
        let batches = [puts, removals, both].into_iter().zip(1..);
        let mut batches: VecDeque<_> = batches.map(|(writes, number)| Numbered { number, writes }).collect();
        let window = Window::of(&mut batches).unwrap();
        assert!(window.number == 3 && window.cost == 0 && window.writes.is_empty());
    }

    #[test]
    fn a_value_that_cannot_be_read_stops_no_other_of_its_span() {
        let tree = sled::Config::new().temporary(true).open().unwrap();
        let (now, webhook) = (SystemTime::UNIX_EPOCH, WebhookId::generate(SystemTime::UNIX_EPOCH));
        let [damaged, gone, stays] = [1, 2, 3].map(|number| run(number, now, webhook));
        let key = keys::by_id(LIVE, damaged.id.as_bytes());
        tree.insert(key, &[3, 0, 0, 9, 9, 9]).unwrap();
        let puts = [&gone, &stays].map(|run| put(LIVE, run, encode_run(run).unwrap().head, true));
        apply(&tree, 1, puts.into());
        let removed = IVec::from(&keys::by_id(LIVE, gone.id.as_bytes()));
        apply(&tree, 2, vec![Write { key: removed, value: None, fresh: false }]);
        let found = blocks::named(&tree, LIVE, stays.id).unwrap().unwrap();
        assert_eq!(found.ids().unwrap(), [stays.id]);
        assert_eq!(tree.get(key).unwrap().unwrap(), &[3, 0, 0, 9, 9, 9], "it stays where it is");
    }

    #[test]
    fn runs_of_all_formats_share_a_span_and_leave_it_one_by_one() {
        let tree = sled::Config::new().temporary(true).open().unwrap();
        let (now, webhook) = (SystemTime::UNIX_EPOCH, WebhookId::generate(SystemTime::UNIX_EPOCH));
        for kind in [LIVE, ENDED] {
            let made = |number| {
                let run = run(number, now, webhook);
                if kind == ENDED { run.ended(Ending::Skipped, now).unwrap() } else { run }
            };
            let mut left: Vec<Run> = (0..6).map(made).collect();
            let span = keys::span(left[0].id);
            // Two as the first format wrote them, two from a journal of the second one, two of today.
            for run in &left[..2] {
                let key = keys::by_id(kind, run.id.as_bytes());
                tree.insert(key, encode(run).unwrap().head).unwrap();
            }
            let of_journal =
                left[2..4].iter().map(|run| put(kind, run, of_first_version(run), true)).collect();
            apply(&tree, 1, of_journal);
            let of_today = left[4..].iter().map(|run| put(kind, run, encode_run(run).unwrap().head, true));
            apply(&tree, 2, of_today.collect());
            assert_eq!(runs(&tree, kind, span), left);
            for (index, gone) in [4, 2, 0, 1, 1, 0].into_iter().enumerate() {
                let gone = left.remove(gone);
                let key = IVec::from(&keys::by_id(kind, gone.id.as_bytes()));
                apply(&tree, 3 + index as u64, vec![Write { key, value: None, fresh: false }]);
                assert_eq!(runs(&tree, kind, span), left);
            }
        }
    }
}
