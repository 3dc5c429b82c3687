//! A check of all records of the database, in steps, for damaged and missing ones.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sled::{IVec, Tree};
use webhook_core::id::RunId;
use webhook_core::notifier::{Delivery, DeliveryState};
use webhook_core::run::Run;
use webhook_core::store::StoreError;
use webhook_core::webhook::Webhook;

use crate::engine::parts::Parts;
use crate::format::keys::{self, KINDS};
use crate::format::value::{KeyRecord, damaged, decode_claims, decode_number, decode_pending, tail_count};
use crate::reader::prune::Removal;
use crate::reader::read;
use crate::tree::blocks::{self, Block};
use crate::tree::damage::{Damage, RecordKind};
use crate::tree::scan::{self, Scan};
use crate::tree::sums::{StoredSums, Sums};
use crate::tree::values;

/// Upper bound on the parts without a record that one check removes.
const MOST_SWEPT: usize = 1_000;

/// A check under way.
#[derive(Debug)]
pub(crate) struct Walk {
    /// Identifies its tally, which is removed once this is dropped.
    identity: Arc<()>,
    log: Option<LogSeen>,
    /// Number of values that were checked.
    pub(crate) checked: u64,
    /// Parts of logs and of large records that belong to no run. A crash leaves them behind; they only take room.
    pub(crate) leftovers: Vec<Removal>,
}

/// The log that is being checked.
#[derive(Debug)]
struct LogSeen {
    run: RunId,
    end: u64,
    has_run: bool,
}

impl Walk {
    pub(crate) fn new() -> Self {
        Self { identity: Arc::default(), log: None, checked: 0, leftovers: Vec::new() }
    }

    /// Continues for about `time`. Breaks at the end of the check.
    pub(crate) fn go_on(&mut self, parts: &Parts, time: Duration) -> Result<ControlFlow<()>, StoreError> {
        let begun = Instant::now();
        let mut tallies = parts.database.tallies();
        // In a failed store, memory and database may disagree.
        parts.condition.check()?;
        let (tally, begins) = tallies.tally_of(&self.identity);
        if begins {
            self.checked = 0;
            self.leftovers.clear();
        }
        // Parts of the log may have been joined or removed since the last step.
        self.log = None;
        parts.database.read(|tree| {
            let _watched = parts.database.watch().begin();
            while let Some(kind) = tally.kind() {
                let from = tally.after.as_ref().map(|after| [&after[..], &[0]].concat());
                for (key, value) in Scan::up(tree, parts.damage(), &[kind], from.as_deref()) {
                    self.checked += 1;
                    let found = scan::guarded(|| self.check(parts, tree, &key, value.clone()));
                    parts.damage().set_aside(&key, found)?;
                    tally.sums.add(&key, &value);
                    tally.after = Some(key);
                    if begun.elapsed() > time {
                        return Ok(ControlFlow::Continue(()));
                    }
                }
                (tally.kinds, tally.after) = (tally.kinds + 1, None);
            }
            scan::guarded(|| compare_sums(parts, tree, &tally.sums))?;
            if parts.damage().count() > 0 {
                // A part without a record may belong to a damaged one.
                self.leftovers.clear();
            }
            Ok(ControlFlow::Break(()))
        })
    }

    fn check(&mut self, parts: &Parts, tree: &Tree, key: &IVec, value: IVec) -> Result<(), StoreError> {
        let damage = parts.damage();
        match key.first().copied().unwrap_or(0) {
            keys::WEBHOOK => {
                values::read::<Webhook>(tree, key, &value)?;
            }
            keys::LIVE => {
                complete_runs(tree, &Block::new(key.clone(), value)?)?;
            }
            keys::CLAIMS => {
                decode_claims(&value)?;
            }
            keys::LAST_USE | keys::KEPT => {
                decode_number(&value)?;
            }
            keys::ENDED => check_ended(tree, damage, &Block::new(key.clone(), value)?)?,
            keys::BY_WORKFLOW | keys::BY_WEBHOOK => {
                let first = keys::last_id(key).ok_or_else(|| damaged("an index entry is too short"))?;
                require(
                    tree,
                    damage,
                    RecordKind::Index,
                    key,
                    &keys::by_id(keys::ENDED, &first),
                    read::MISSING,
                )?;
            }
            keys::IDEMPOTENCY => {
                let record = KeyRecord::decode(&value)?;
                let place = key[1..].try_into().map_err(|_| damaged("an idempotency key is too short"))?;
                let expiry = keys::expiry(record.expires, &place);
                require(
                    tree,
                    damage,
                    RecordKind::IdempotencyKey,
                    key,
                    &expiry,
                    "when it expires is missing",
                )?;
            }
            keys::EXPIRY => {
                let (_, place) = keys::parse_expiry(key).ok_or_else(|| damaged("an expiry is too short"))?;
                let of = keys::idempotency(&place);
                require(tree, damage, RecordKind::IdempotencyKey, &of, &of, "it is missing")?;
            }
            keys::DELIVERY => check_delivery(tree, damage, key, &value)?,
            keys::DELIVERY_RUN => {
                let (run, id) = (keys::last_id(&value), keys::last_id(key));
                let (run, id) = run.zip(id).ok_or_else(|| damaged("a delivery's run is too short"))?;
                let of = [&[keys::DELIVERY][..], &run, &id].concat();
                require(tree, damage, RecordKind::Delivery, &of, &of, "it is missing")?;
            }
            keys::PENDING => {
                let (run, _) = decode_pending(&value)?;
                let id = keys::last_id(key).ok_or_else(|| damaged("a delivery's id is too short"))?;
                let of = [&[keys::DELIVERY][..], run.as_bytes(), &id].concat();
                require(tree, damage, RecordKind::Delivery, &of, &of, "it is missing")?;
            }
            keys::PARAMETERS => self.check_part_of_run(parts, tree, key)?,
            keys::LOG => self.check_log(parts, tree, key, &value)?,
            keys::TAIL => self.check_tail(parts, tree, key)?,
            _ => {}
        }
        Ok(())
    }

    fn check_log(&mut self, parts: &Parts, tree: &Tree, key: &IVec, value: &IVec) -> Result<(), StoreError> {
        let too_short = || damaged("a log's key is too short");
        let run = RunId::from_bytes(*key.get(1..).and_then(<[u8]>::first_chunk).ok_or_else(too_short)?);
        let at = keys::log_offset(key)?;
        let end = at + value.len() as u64;
        match &mut self.log {
            Some(seen) if seen.run == run => {
                if seen.end != at && seen.has_run {
                    parts.damage().note_because(RecordKind::Log, key, "what comes before it is missing");
                }
                seen.end = end;
            }
            seen => {
                let has_run = has_run(parts, tree, run)?;
                *seen = Some(LogSeen { run, end, has_run });
            }
        }
        if self.log.as_ref().is_some_and(|seen| !seen.has_run) {
            self.leave_over(run, key);
        }
        str::from_utf8(value).map_err(|error| StoreError::corrupt("a log is not UTF-8", error))?;
        Ok(())
    }

    fn check_tail(&mut self, parts: &Parts, tree: &Tree, key: &IVec) -> Result<(), StoreError> {
        let too_short = || damaged("the key of a part is too short");
        let (record, number) = key.get(1..).and_then(<[u8]>::split_last_chunk).ok_or_else(too_short)?;
        let of_run = matches!(record.first(), Some(&(keys::LIVE | keys::ENDED)));
        let Some(run) = keys::last_id(record).map(RunId::from_bytes).filter(|_| of_run) else {
            return Ok(());
        };
        let head = scan::get(tree, record)?;
        let is_needed = match head {
            Some(head) => tail_count(&head)? > u16::from_be_bytes(*number),
            None => false,
        };
        if !is_needed && !has_run(parts, tree, run)? {
            self.leave_over(run, key);
        }
        Ok(())
    }

    /// Checks that the run of a part of parameters exists.
    fn check_part_of_run(&mut self, parts: &Parts, tree: &Tree, key: &IVec) -> Result<(), StoreError> {
        let too_short = || damaged("the key of a part is too short");
        let run = RunId::from_bytes(*key.get(1..).and_then(<[u8]>::first_chunk).ok_or_else(too_short)?);
        if !has_run(parts, tree, run)? {
            self.leave_over(run, key);
        }
        Ok(())
    }

    fn leave_over(&mut self, run: RunId, key: &IVec) {
        if self.leftovers.len() >= MOST_SWEPT {
            return;
        }
        match self.leftovers.last_mut() {
            Some(removal) if removal.run == run => removal.keys.push(key.to_vec()),
            _ => self.leftovers.push(Removal { run, keys: vec![key.to_vec()] }),
        }
    }
}

/// Compares the found sums with those in the database. A database of an earlier format has none, and gets these.
fn compare_sums(parts: &Parts, tree: &Tree, sums: &Sums) -> Result<(), StoreError> {
    let damage = parts.damage();
    parts.database.set_stored_bytes(sums.bytes());
    let Some(kept) = damage.set_aside(keys::SUMS, StoredSums::read(tree))? else { return Ok(()) };
    let Some(kept) = kept else { return StoredSums::begin(tree, *sums) };
    for kind in KINDS {
        kept.compare(kind, sums, damage);
    }
    Ok(())
}

/// Notes damage if there is no value under `key`.
fn require(
    tree: &Tree,
    damage: &Damage,
    kind: RecordKind,
    of: &[u8],
    key: &[u8],
    reason: &str,
) -> Result<(), StoreError> {
    if scan::get(tree, key)?.is_none() {
        damage.note_because(kind, of, reason);
    }
    Ok(())
}

/// Decodes the runs of a value with their parameters.
fn complete_runs(tree: &Tree, block: &Block) -> Result<Vec<Run>, StoreError> {
    block.runs(tree)?.into_iter().map(|recorded| read::complete(tree, recorded)).collect()
}

fn check_ended(tree: &Tree, damage: &Damage, block: &Block) -> Result<(), StoreError> {
    let runs = complete_runs(tree, block)?;
    if runs.first().is_none_or(|run| run.id() != block.first()) {
        return Err(damaged("its key is not that of its first run"));
    }
    for entry in block.group_key(tree)?.index_keys(block.first()) {
        require(tree, damage, RecordKind::Index, &entry, &entry, "it is missing")?;
    }
    Ok(())
}

fn check_delivery(tree: &Tree, damage: &Damage, key: &IVec, head: &IVec) -> Result<(), StoreError> {
    let delivery: Delivery = values::read(tree, key, head)?;
    let of_run = keys::delivery_run(delivery.id);
    require(tree, damage, RecordKind::Delivery, &of_run, &of_run, "the run of a delivery is missing")?;
    if delivery.state == DeliveryState::Pending {
        let pending = keys::by_id(keys::PENDING, delivery.id.as_bytes());
        require(tree, damage, RecordKind::Delivery, &pending, &pending, "when a delivery is due is missing")?;
    }
    Ok(())
}

fn has_run(parts: &Parts, tree: &Tree, run: RunId) -> Result<bool, StoreError> {
    let is_known = {
        let runs = parts.runs();
        runs.live.is_live(run) || runs.record(run).is_some()
    };
    if is_known {
        return Ok(true);
    }
    // A run whose enqueue failed may be in the database, although it is not in memory.
    let is_live = blocks::find(tree, keys::LIVE, run, parts.damage())?.is_some();
    Ok(is_live || blocks::find(tree, keys::ENDED, run, parts.damage())?.is_some())
}

#[cfg(test)]
mod tests;
