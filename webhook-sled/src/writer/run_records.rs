//! The records of runs, as operations write and read them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use webhook_core::id::RunId;
use webhook_core::notifier::Delivery;
use webhook_core::run::Run;
use webhook_core::store::StoreError;

use crate::format::block::{encode_recorded, encode_run};
use crate::format::keys;
use crate::format::run::{RecordedRun, parameters_apart};
use crate::format::value::{EncodedRecord, VALUE_BYTES, damaged};
use crate::reader::read;
use crate::tree::damage::RecordKind;
use crate::writer::change::GatheredChange;
use crate::writer::state::Writer;

impl Writer {
    /// Writes a live run's record again.
    pub(crate) fn put_live(&mut self, run: Arc<Run>) -> Result<(), StoreError> {
        let record = encode_run(&run)?;
        self.release_claim(run.id());
        self.move_parameters(&run);
        self.put_live_record(&run, record, false);
        self.change.group.published.push((run, Arc::default()));
        Ok(())
    }

    /// Writes down that a run was interrupted when the store was closed.
    pub(crate) fn put_restored(&mut self, RecordedRun { run, apart }: RecordedRun) -> Result<(), StoreError> {
        if apart == 0 {
            return self.put_live(Arc::new(run));
        }
        let record = encode_recorded(&run, apart)?;
        self.put_live_record(&run, record, false);
        Ok(())
    }

    /// Writes the parameters of a run that are kept apart from its record.
    pub(crate) fn put_parameters(&mut self, run: &Run) {
        if parameters_apart(run) > 0 {
            for (number, part) in (0..).zip(run.parameters().as_json().as_bytes().chunks(VALUE_BYTES)) {
                self.change.insert_fresh(&keys::parameters(run.id(), number), part);
            }
        }
    }

    /// Moves parameters out of a record of an earlier format, which is about to be written again.
    fn move_parameters(&mut self, run: &Run) {
        if self.with_large_parameters.remove(&run.id()) {
            self.put_parameters(run);
        }
    }

    pub(crate) fn put_live_record(&mut self, run: &Run, record: EncodedRecord, is_new: bool) {
        let key = keys::by_id(keys::LIVE, run.id().as_bytes());
        let old_tails = self.tails.remove(&run.id()).unwrap_or(0);
        let tails = if is_new {
            self.change.insert_fresh_tails(&key, record.tails)
        } else {
            self.change.insert_tails(&key, record.tails, old_tails)
        };
        if tails > 0 {
            self.tails.insert(run.id(), tails);
        }
        self.unapplied.push_back((self.number + 1, run.id()));
        let put = if is_new { GatheredChange::insert_fresh } else { GatheredChange::insert };
        put(&mut self.change, &key, record.head);
    }

    /// Moves a run that ended without deliveries to the history.
    pub(crate) fn end_run(&mut self, run: Arc<Run>) -> Result<(), StoreError> {
        self.end_run_with(run, Arc::default())
    }

    pub(crate) fn end_run_with(
        &mut self,
        run: Arc<Run>,
        deliveries: Arc<[Delivery]>,
    ) -> Result<(), StoreError> {
        let live = keys::by_id(keys::LIVE, run.id().as_bytes());
        self.change.remove(&live);
        let tails = self.tails.remove(&run.id()).unwrap_or(0);
        for number in 0..tails {
            self.change.remove(keys::tail(&live, number));
        }
        self.release_claim(run.id());
        if self.logs.remove(&run.id()).is_some() {
            self.change.ended_logs.push(run.id());
        }
        self.move_parameters(&run);
        let (key, record) = (keys::by_id(keys::ENDED, run.id().as_bytes()), encode_run(&run)?);
        self.change.insert_fresh_tails(&key, record.tails);
        self.change.insert_fresh(&key, record.head);
        self.newest_ended = self.newest_ended.max(Some(run.id()));
        self.change.group.published.push((run, deliveries));
        Ok(())
    }

    /// Drops the stored claim of a run whose record was written after it.
    fn release_claim(&mut self, run: RunId) {
        if let Some(fence) = self.claims.close(run) {
            self.change.remove(&keys::claims(fence));
        }
    }

    /// The run with this id, wherever it is.
    pub(crate) fn run(&mut self, id: RunId) -> Result<Option<Arc<Run>>, StoreError> {
        let (record, is_live) = {
            let runs = self.parts.runs();
            (runs.record(id), runs.live.is_live(id))
        };
        if record.is_none() && is_live {
            self.load(&[id])?;
            return Ok(self.parts.runs().record(id));
        }
        if record.is_some() || self.newest_ended.is_none_or(|newest| id > newest) {
            return Ok(record);
        }
        self.parts.database.read(|tree| read::ended_run(tree, id, self.parts.damage()))
    }

    /// Reads the records of queued runs into memory. A run whose record cannot be read is set aside: it is queued no
    /// longer, and its record stays where it is.
    pub(crate) fn load(&mut self, ids: &[RunId]) -> Result<(), StoreError> {
        let wanted: HashSet<RunId> = ids.iter().copied().collect();
        // Waits for these records only: waiting for every decided change would tie each claim to the checkpointer.
        let newest = self.unapplied.iter().rev().find(|(_, run)| wanted.contains(run));
        if let Some(number) = newest.map(|(number, _)| *number) {
            if number > self.number {
                // It is part of the gathered change.
                self.commit();
            }
            self.wait_applied(number)?;
        }
        let mut read: HashMap<RunId, Result<Run, StoreError>> = self
            .parts
            .database
            .read(|tree| Ok(read::queued_runs(tree, ids, self.parts.damage())))?
            .into_iter()
            .collect();
        let mut runs = self.parts.runs();
        // Those that are due first are provided last, and so stay longest in the cache.
        for id in ids.iter().rev() {
            match read.remove(id).unwrap_or_else(|| Err(damaged("a queued run has no record"))) {
                Ok(run) => runs.live.provide(Arc::new(run)),
                Err(error @ StoreError::Corrupt { .. }) => {
                    let key = keys::by_id(keys::LIVE, id.as_bytes());
                    self.parts.damage().note(RecordKind::LiveRun, &key, &error);
                    runs.live.forget(*id);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
