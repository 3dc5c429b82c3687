//! The places of runs in the database: runs of the same few milliseconds share a value, since for sled a large value costs
//! hardly more than a small one.

use std::collections::{BTreeMap, HashMap, HashSet};

use sled::{IVec, Tree};
use webhook_core::id::RunId;
use webhook_core::store::StoreError;

use crate::engine::batch::CheckpointBatch;
use crate::engine::change::is_part;
use crate::engine::step::CheckpointSteps;
use crate::format::block::{self, BlockBuilder, first_group_key};
use crate::format::keys::{self, ENDED, LIVE, TimeBucket};
use crate::format::run::{self, GroupKey, group_key};
use crate::format::value::{encode_number, tail_count};
use crate::tree::blocks::{self, Block};
use crate::tree::damage::Damage;

/// Upper bound on a value that several runs share, in bytes.
///
/// sled keeps at least one page of up to 16 values in memory for each of the 256 parts of its cache. So larger values would
/// raise the smallest size of the cache.
const SHARED_BYTES: usize = 2_000;

/// Places a checkpoint batch in the database as it is now.
///
/// Everything up to `acknowledged` is durable in the journal.
pub(crate) fn place(
    batch: CheckpointBatch,
    tree: &Tree,
    acknowledged: u64,
    damage: &Damage,
) -> Result<CheckpointSteps, StoreError> {
    let number = batch.number;
    let mut steps = CheckpointSteps::default();
    let (mut live, mut ended) = (Relocation::default(), Relocation::default());
    for (key, (value, fresh)) in batch.into_writes() {
        match key.first() {
            Some(&LIVE) => live.add(&key, value, fresh)?,
            Some(&ENDED) => ended.add(&key, value, fresh)?,
            _ if is_part(&key) => steps.write_part(key, value, fresh),
            _ => steps.write(key, value),
        }
    }
    live.place(tree, LIVE, damage, &mut steps)?;
    steps.records.moves_history = !ended.gone.is_empty();
    ended.place(tree, ENDED, damage, &mut steps)?;
    steps.write(keys::BATCH_NUMBER, Some(IVec::from(&encode_number(number))));
    steps.write(keys::ACKNOWLEDGED, Some(IVec::from(&encode_number(acknowledged))));
    steps.add_up(tree, number, damage)?;
    Ok(steps)
}

/// Runs of one kind, live or ended, that a batch puts, moves or removes.
#[derive(Default)]
struct Relocation {
    /// Runs whose present place may be in the database, and is no longer theirs.
    gone: HashMap<TimeBucket, HashSet<RunId>>,
    /// Records of runs that need a place.
    arriving: BTreeMap<RunId, Vec<u8>>,
    /// Values of runs that are too large to share one.
    alone: Vec<(RunId, IVec)>,
}

impl Relocation {
    fn add(&mut self, key: &IVec, value: Option<IVec>, fresh: bool) -> Result<(), StoreError> {
        let Some(id) = keys::last_id(key).map(RunId::from_bytes) else { return Ok(()) };
        if !fresh {
            self.gone.entry(keys::time_bucket(id)).or_default().insert(id);
        }
        match value {
            Some(value) if tail_count(&value)? > 0 => self.alone.push((id, value)),
            Some(value) => {
                for record in block::records(&value)? {
                    self.arriving.insert(id, record);
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
        steps: &mut CheckpointSteps,
    ) -> Result<(), StoreError> {
        for (bucket, ids) in std::mem::take(&mut self.gone) {
            for (block, records) in blocks::holding(tree, kind, bucket, &ids, damage)? {
                let taken = self.take_apart(tree, kind, &block, records, &ids, steps);
                // A damaged value stops no other one of its bucket.
                damage.set_aside(&keys::by_id(kind, block.first().as_bytes()), taken)?;
            }
        }
        for (id, value) in std::mem::take(&mut self.alone) {
            let (group_key, end) = first_group_key(&value)?;
            put(kind, id, value, Some(&group_key), end, steps);
        }
        for ((_, group_key), runs) in self.grouped(kind)? {
            put_together(kind, group_key.as_ref(), &runs, steps)?;
        }
        Ok(())
    }

    /// Removes a value that has any of these runs. Its other runs need a new place.
    fn take_apart(
        &mut self,
        tree: &Tree,
        kind: u8,
        block: &Block,
        records: Vec<Vec<u8>>,
        gone: &HashSet<RunId>,
        steps: &mut CheckpointSteps,
    ) -> Result<(), StoreError> {
        let group_key = if kind == ENDED { Some(block.group_key(tree)?) } else { None };
        let with_id = |record: Vec<u8>| Ok((run::id_of(&record)?, record));
        let records = records.into_iter().map(with_id).collect::<Result<Vec<_>, StoreError>>()?;
        // Nothing below fails, so a value is taken apart wholly or not at all.
        if let Some(group_key) = group_key {
            for key in group_key.index_keys(block.first()) {
                steps.write(key, None);
            }
        }
        steps.remove_shared(block.key.clone(), block.len());
        for (id, record) in records {
            if !gone.contains(&id) {
                self.arriving.entry(id).or_insert(record);
            }
        }
        Ok(())
    }

    /// Groups runs that may share a value: those of one bucket and, if they have ended, of one group key.
    fn grouped(self, kind: u8) -> Result<Groups, StoreError> {
        let mut groups = Groups::new();
        for (id, record) in self.arriving {
            let (group_key, end) = match kind {
                ENDED => group_key(&record).map(|(group_key, end)| (Some(group_key), end))?,
                _ => (None, 0),
            };
            groups.entry((keys::time_bucket(id), group_key)).or_default().push(Arriving { id, record, end });
        }
        Ok(groups)
    }
}

type Groups = BTreeMap<(TimeBucket, Option<GroupKey>), Vec<Arriving>>;

struct Arriving {
    id: RunId,
    record: Vec<u8>,
    /// End of the run, in milliseconds.
    end: u64,
}

/// Puts a group of runs, oldest first, into as few values as possible.
fn put_together(
    kind: u8,
    group_key: Option<&GroupKey>,
    mut runs: &[Arriving],
    steps: &mut CheckpointSteps,
) -> Result<(), StoreError> {
    while let Some(first) = runs.first() {
        let (mut value, mut end, mut count) = (BlockBuilder::new(SHARED_BYTES), first.end, 0);
        for run in runs {
            if count > 0 && value.len() + run.record.len() + 3 > SHARED_BYTES {
                break;
            }
            value.push(&run.record)?;
            end = end.min(run.end);
            count += 1;
        }
        put(kind, first.id, value.into_bytes().into(), group_key, end, steps);
        runs = &runs[count..];
    }
    Ok(())
}

fn put(
    kind: u8,
    first: RunId,
    value: IVec,
    group_key: Option<&GroupKey>,
    end: u64,
    steps: &mut CheckpointSteps,
) {
    if let Some(group_key) = group_key.filter(|_| kind == ENDED) {
        let [of_workflow, of_webhook] = group_key.index_keys(first);
        steps.write(of_workflow, Some(IVec::default()));
        steps.write(of_webhook, Some(IVec::from(&encode_number(end))));
    }
    steps.write(&keys::by_id(kind, first.as_bytes()), Some(value));
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::SystemTime;

    use webhook_core::id::WebhookId;
    use webhook_core::run::{Caller, Ending, Run, RunParameters};

    use super::*;
    use crate::engine::batch::BYTES_BETWEEN_SYNCS;
    use crate::engine::change::{LogRecord, Write};
    use crate::engine::step::Step;
    use crate::format::block::encode_run;
    use crate::format::keys::TAIL;
    use crate::format::run::{RecordedRun, record};
    use crate::format::value::{FIRST_RUNS_VERSION, VALUE_BYTES, encode};

    fn run(number: u8, now: SystemTime, webhook: WebhookId) -> Run {
        let id = RunId::from_bytes(u128::from(number).to_be_bytes());
        let workflow = "report/a".parse().unwrap();
        Run::new(id, workflow, webhook, RunParameters::default(), 1, Caller::default(), now)
    }

    fn put(kind: u8, run: &Run, value: Vec<u8>, fresh: bool) -> Write {
        Write { key: IVec::from(&keys::by_id(kind, run.id().as_bytes())), value: Some(value.into()), fresh }
    }

    fn apply(tree: &sled::Db, number: u64, writes: Vec<Write>) {
        let mut batches = VecDeque::from([LogRecord { number, writes }]);
        let placed =
            place(CheckpointBatch::take_from(&mut batches).unwrap(), tree, 0, &Damage::default()).unwrap();
        placed.into_steps().for_each(|step| tree.apply_batch(step.into_batch()).unwrap());
    }

    fn runs(tree: &sled::Db, kind: u8, bucket: TimeBucket) -> Vec<Run> {
        let (first, last) = keys::keys_of_bucket(kind, bucket);
        let of_block = |entry: sled::Result<(IVec, IVec)>| {
            let (key, head) = entry.unwrap();
            Block::new(key, head).unwrap().runs(tree).unwrap()
        };
        let recorded = tree.range(first..=last).flat_map(of_block);
        let mut runs: Vec<Run> = recorded.map(|RecordedRun { run, .. }| run).collect();
        runs.sort_by_key(|run| run.id());
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
            let mut batches = VecDeque::from([LogRecord { number, writes }]);
            let steps: Vec<Step> =
                place(CheckpointBatch::take_from(&mut batches).unwrap(), &tree, 0, &Damage::default())
                    .unwrap()
                    .into_steps()
                    .collect();
            assert!(steps.len() > 6 && steps.iter().all(|step| step.cost <= BYTES_BETWEEN_SYNCS));
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
        let mut batches = VecDeque::from([LogRecord { number: 1, writes }]);
        let placed =
            place(CheckpointBatch::take_from(&mut batches).unwrap(), &tree, 0, &Damage::default()).unwrap();
        assert!(placed.new_parts.is_empty());
        tree.apply_batch(placed.records.into_batch()).unwrap();
        assert_eq!(tree.get(keys::tail(b"record", 0)).unwrap().unwrap(), b"new");
    }

    #[test]
    fn a_value_that_cannot_be_read_stops_no_other_of_its_bucket() {
        let tree = sled::Config::new().temporary(true).open().unwrap();
        let (now, webhook) = (SystemTime::UNIX_EPOCH, WebhookId::generate(SystemTime::UNIX_EPOCH));
        let [damaged, gone, stays] = [1, 2, 3].map(|number| run(number, now, webhook));
        let key = keys::by_id(LIVE, damaged.id().as_bytes());
        tree.insert(key, &[3, 0, 0, 9, 9, 9]).unwrap();
        let puts = [&gone, &stays].map(|run| put(LIVE, run, encode_run(run).unwrap().head, true));
        apply(&tree, 1, puts.into());
        let removed = IVec::from(&keys::by_id(LIVE, gone.id().as_bytes()));
        apply(&tree, 2, vec![Write { key: removed, value: None, fresh: false }]);
        let found = blocks::named(&tree, LIVE, stays.id()).unwrap().unwrap();
        assert_eq!(found.ids().unwrap(), [stays.id()]);
        assert_eq!(tree.get(key).unwrap().unwrap(), &[3, 0, 0, 9, 9, 9], "it stays where it is");
    }

    #[test]
    fn runs_of_all_formats_share_a_bucket_and_leave_it_one_by_one() {
        let tree = sled::Config::new().temporary(true).open().unwrap();
        let (now, webhook) = (SystemTime::UNIX_EPOCH, WebhookId::generate(SystemTime::UNIX_EPOCH));
        for kind in [LIVE, ENDED] {
            let made = |number| {
                let run = run(number, now, webhook);
                if kind == ENDED { run.ended(Ending::Skipped, now).unwrap() } else { run }
            };
            let mut left: Vec<Run> = (0..6).map(made).collect();
            let bucket = keys::time_bucket(left[0].id());
            // Two as the first format wrote them, two from a journal of the second one, two of today.
            for run in &left[..2] {
                let key = keys::by_id(kind, run.id().as_bytes());
                tree.insert(key, encode(run).unwrap().head).unwrap();
            }
            let of_journal =
                left[2..4].iter().map(|run| put(kind, run, of_first_version(run), true)).collect();
            apply(&tree, 1, of_journal);
            let of_today = left[4..].iter().map(|run| put(kind, run, encode_run(run).unwrap().head, true));
            apply(&tree, 2, of_today.collect());
            assert_eq!(runs(&tree, kind, bucket), left);
            for (index, gone) in [4, 2, 0, 1, 1, 0].into_iter().enumerate() {
                let gone = left.remove(gone);
                let key = IVec::from(&keys::by_id(kind, gone.id().as_bytes()));
                apply(&tree, 3 + index as u64, vec![Write { key, value: None, fresh: false }]);
                assert_eq!(runs(&tree, kind, bucket), left);
            }
        }
    }
}
