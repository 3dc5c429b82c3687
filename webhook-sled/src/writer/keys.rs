//! Idempotency keys.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;
use webhook_core::clock::to_milliseconds;
use webhook_core::run::Run;
use webhook_core::store::{Idempotency, StoreError};

use super::Writer;
use crate::error::store_error;
use crate::format::keys::{self, KeyPlace};
use crate::format::value::{KeyRecord, encode_number};

/// What an idempotency key stands for.
pub(super) enum LookUp {
    /// Nothing, or no longer anything; this is what is left of it.
    Unknown(Option<KeyRecord>),
    Found(Arc<Run>),
    Mismatch,
}

/// Keys that the database may not show yet, with the number of the batch that they are in.
#[derive(Default)]
pub(super) struct PendingKeys {
    by_place: HashMap<KeyPlace, (KeyRecord, u64)>,
    /// With so many it is looked which ones the database shows.
    many: usize,
}

impl PendingKeys {
    fn get(&self, place: &KeyPlace) -> Option<KeyRecord> {
        self.by_place.get(place).map(|(record, _)| *record)
    }

    /// Takes a key of the batch with this number, when the database shows all batches up to `applied`.
    fn put(&mut self, place: KeyPlace, record: KeyRecord, number: u64, applied: u64) {
        self.by_place.insert(place, (record, number));
        if self.by_place.len() >= self.many {
            self.by_place.retain(|_, (_, number)| *number > applied);
            self.many = self.by_place.len() * 2 + 256;
        }
    }
}

impl Writer {
    pub(super) fn look_up(
        &mut self,
        given: &Idempotency,
        place: &KeyPlace,
        instant: Instant,
    ) -> Result<LookUp, StoreError> {
        let Some(record) = self.key_record(place)? else { return Ok(LookUp::Unknown(None)) };
        if record.expires <= self.shared.clock.now(instant) {
            return Ok(LookUp::Unknown(Some(record)));
        }
        if !given.matches(&record.fingerprint) {
            return Ok(LookUp::Mismatch);
        }
        // A key whose run was pruned stands for nothing any more.
        Ok(self.run(record.run)?.map_or(LookUp::Unknown(Some(record)), LookUp::Found))
    }

    pub(super) fn key_record(&self, place: &KeyPlace) -> Result<Option<KeyRecord>, StoreError> {
        if let Some(record) = self.keys.get(place) {
            return Ok(Some(record));
        }
        let key = keys::idempotency(place);
        let value = self.shared.with_tree(|tree| tree.get(key).map_err(store_error))?;
        value.map(|value| KeyRecord::decode(&value)).transpose()
    }

    pub(super) fn put_key(
        &mut self,
        given: &Idempotency,
        place: KeyPlace,
        leftover: Option<KeyRecord>,
        run: &Run,
        instant: Instant,
    ) {
        if let Some(old) = leftover {
            self.change.remove(keys::expiry(old.expires, &place));
            self.change.remove(&keys::by_id(keys::KEPT, old.run.as_bytes()));
        }
        let kept = u64::try_from(given.keep_for.as_millis()).unwrap_or(u64::MAX);
        let expires = self.shared.clock.now(instant).saturating_add(kept);
        let until = u64::try_from(to_milliseconds(run.queued_at)).unwrap_or(0).saturating_add(kept);
        self.change.insert(&keys::by_id(keys::KEPT, run.id.as_bytes()), encode_number(until).as_slice());
        let record = KeyRecord { run: run.id, fingerprint: given.fingerprint, expires };
        self.change.insert(keys::idempotency(&place), record.encode().as_slice());
        self.change.insert(keys::expiry(expires, &place), &[]);
        self.keys.put(place, record, self.number + 1, self.shared.backlog.applied());
    }
}
