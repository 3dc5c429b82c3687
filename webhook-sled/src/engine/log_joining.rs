//! Joins the parts of a log once its run has ended, since many small values cost sled much.

use std::collections::VecDeque;

use parking_lot::Mutex;
use sled::Tree;
use webhook_core::id::RunId;
use webhook_core::store::StoreError;

use crate::engine::step::{self, Step};
use crate::format::keys::{self, log_offset};
use crate::format::value::VALUE_BYTES;
use crate::tree::damage::Damage;
use crate::tree::scan::Scan;

/// Runs that ended with a log, each with the sequence number of its end, until the parts of the log are joined.
pub(crate) type EndedLogs = Mutex<VecDeque<(u64, RunId)>>;

/// The steps that make the parts of a log as few as possible. After each of them the log reads the same.
pub(crate) fn join(tree: &Tree, run: RunId, damage: &Damage) -> Result<Vec<Step>, StoreError> {
    let (mut steps, mut joined) = (Vec::new(), Joined::default());
    for (key, part) in Scan::up(tree, damage, &keys::log_of(run), None) {
        let Ok(at) = log_offset(&key) else { continue };
        let fits = joined.text.len() + part.len() <= VALUE_BYTES && at == joined.end;
        if !fits && let Some(step) = std::mem::take(&mut joined).into_step() {
            steps.push(step);
        }
        joined.end = at + part.len() as u64;
        joined.text.extend_from_slice(&part);
        joined.keys.push(key);
    }
    steps.extend(joined.into_step());
    step::add_up(&mut steps, tree, damage)?;
    Ok(steps)
}

/// Parts that become one.
#[derive(Default)]
struct Joined {
    keys: Vec<sled::IVec>,
    text: Vec<u8>,
    end: u64,
}

impl Joined {
    /// `None` when there is nothing to join.
    fn into_step(self) -> Option<Step> {
        let (first, others) = self.keys.split_first().filter(|(_, others)| !others.is_empty())?;
        // A reader of the log would miss parts that change their places meanwhile.
        let mut step = Step::that_moves_history();
        let rewritten = self.text.len();
        for key in others {
            step.write(key.clone(), None, key.len());
        }
        step.write(first.clone(), Some(self.text.into()), 2 * rewritten);
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::reader::read;

    #[test]
    fn the_parts_of_a_log_become_few_and_read_the_same() {
        let tree = sled::Config::new().temporary(true).open().unwrap();
        let (run, other) = (RunId::generate(SystemTime::now()), RunId::generate(SystemTime::now()));
        let mut at = 700;
        for number in 0..1_000 {
            let line = format!("line {number}: é\n");
            for run in [run, other] {
                tree.insert(keys::log(run, at), line.as_bytes()).unwrap();
            }
            at += line.len() as u64;
        }
        let before = read::log(&tree, run, 0).unwrap();
        let steps = join(&tree, run, &Damage::default()).unwrap();
        let count = steps.len();
        for step in steps {
            tree.apply_batch(step.into_batch()).unwrap();
            assert_eq!(read::log(&tree, run, 0).unwrap(), before, "after each step");
        }
        assert_eq!(tree.scan_prefix(keys::log_of(run)).count(), count);
        assert!(count <= before.text.len() / VALUE_BYTES + 1, "{count}");
        assert_eq!(read::log(&tree, other, 0).unwrap(), before, "another log is as it was");
        assert!(join(&tree, run, &Damage::default()).unwrap().is_empty());
    }
}
