//! Idempotency keys: what they stand for, and their records.

use std::sync::Arc;

use tokio::time::Instant;
use webhook_core::backend::KeyMeaning;
use webhook_core::clock::to_milliseconds;
use webhook_core::run::Run;
use webhook_core::store::{Idempotency, StoreError};

use crate::error::store_error;
use crate::format::keys::{self, KeyPlace};
use crate::format::value::{KeyRecord, encode_number};
use crate::writer::state::Writer;

/// Meaning of an idempotency key.
pub(crate) enum LookUp {
    /// No run, or no longer one. An expired record may be left.
    Unknown(Option<KeyRecord>),
    Found(Arc<Run>),
    Mismatch,
}

impl Writer {
    pub(crate) fn look_up(
        &mut self,
        given: &Idempotency,
        place: &KeyPlace,
        instant: Instant,
    ) -> Result<LookUp, StoreError> {
        let Some(record) = self.key_record(place)? else { return Ok(LookUp::Unknown(None)) };
        Ok(match record.holder().meaning(given, self.parts.clock.now(instant)) {
            KeyMeaning::Free => LookUp::Unknown(Some(record)),
            KeyMeaning::Mismatch => LookUp::Mismatch,
            KeyMeaning::Run(run) => self.run(run)?.map_or(LookUp::Unknown(Some(record)), LookUp::Found),
        })
    }

    pub(crate) fn key_record(&self, place: &KeyPlace) -> Result<Option<KeyRecord>, StoreError> {
        if let Some(record) = self.keys.get(place) {
            return Ok(Some(record));
        }
        let key = keys::idempotency(place);
        let value = self.parts.database.read(|tree| tree.get(key).map_err(store_error))?;
        value.map(|value| KeyRecord::decode(&value)).transpose()
    }

    pub(crate) fn put_key(
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
        let expires = self.parts.clock.now(instant).saturating_add(kept);
        let until = u64::try_from(to_milliseconds(run.queued_at())).unwrap_or(0).saturating_add(kept);
        self.change.insert(&keys::by_id(keys::KEPT, run.id().as_bytes()), encode_number(until).as_slice());
        let record = KeyRecord { run: run.id(), fingerprint: given.fingerprint, expires };
        self.change.insert(keys::idempotency(&place), record.encode().as_slice());
        self.change.insert(keys::expiry(expires, &place), &[]);
        self.keys.put(place, record, self.number + 1, self.parts.checkpoints.applied());
    }
}
