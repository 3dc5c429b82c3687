//! How records become values: a version byte, the number of further parts, and JSON. Runs have a form of their own,
//! see [`run_record`](crate::format::run); the first format had them as JSON too.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;
use webhook_core::backend::KeyHolder;
use webhook_core::clock::{from_milliseconds, to_milliseconds};
use webhook_core::id::RunId;
use webhook_core::run::{Run, RunParts, RunState};
use webhook_core::store::StoreError;

/// The version of all records but runs.
pub(crate) const VERSION: u8 = 1;
/// The version of values that hold runs in their compact form.
pub(crate) const RUNS_VERSION: u8 = 3;
/// The first version of that form. Values of it are read, and written no more.
pub(crate) const FIRST_RUNS_VERSION: u8 = 2;

/// The largest value. A page of sled holds up to 16 values, and one of more than 128 KiB would go to a file
/// that sled does not sync.
pub(crate) const VALUE_BYTES: usize = 6_000;

pub(crate) const HEADER_BYTES: usize = 3;

/// A record as values: the first one, and those that follow it when it is large.
#[derive(Debug)]
pub(crate) struct EncodedRecord {
    pub(crate) head: Vec<u8>,
    pub(crate) tails: Vec<Vec<u8>>,
}

pub(crate) fn encode<T: Serialize>(record: &T) -> Result<EncodedRecord, StoreError> {
    let mut head = Vec::with_capacity(640);
    head.extend([VERSION, 0, 0]);
    serde_json::to_writer(&mut head, record)
        .map_err(|error| StoreError::unavailable_because("a record cannot be written as JSON", error))?;
    EncodedRecord::split(head)
}

impl EncodedRecord {
    /// Splits a value, which begins with its header, into parts that are small enough.
    pub(crate) fn split(mut head: Vec<u8>) -> Result<Self, StoreError> {
        if head.len() <= VALUE_BYTES {
            return Ok(Self { head, tails: Vec::new() });
        }
        let tails: Vec<Vec<u8>> = head[VALUE_BYTES..].chunks(VALUE_BYTES).map(<[u8]>::to_vec).collect();
        head.truncate(VALUE_BYTES);
        let count =
            u16::try_from(tails.len()).map_err(|_| StoreError::unavailable("a record is too large"))?;
        head[1..HEADER_BYTES].copy_from_slice(&count.to_be_bytes());
        Ok(Self { head, tails })
    }
}

/// Number of values that follow this first one.
pub(crate) fn tail_count(head: &[u8]) -> Result<u16, StoreError> {
    check_version(head, RUNS_VERSION)?;
    match head.get(1..HEADER_BYTES) {
        Some(&[high, low]) => Ok(u16::from_be_bytes([high, low])),
        _ => Err(damaged("a record ends too early")),
    }
}

/// Reads a record that is JSON, all parts of it together.
pub(crate) fn decode<T: DeserializeOwned>(whole: &[u8]) -> Result<T, StoreError> {
    check_version(whole, VERSION)?;
    serde_json::from_slice(whole.get(HEADER_BYTES..).unwrap_or_default())
        .map_err(|error| StoreError::corrupt("a record is not the JSON it should be", error))
}

fn check_version(value: &[u8], newest: u8) -> Result<(), StoreError> {
    match value.first() {
        Some(&found) if found > newest => {
            Err(StoreError::NewerFormat { found: u32::from(found), known: u32::from(newest) })
        }
        Some(1..) => Ok(()),
        _ => Err(damaged("a record has no version")),
    }
}

pub(crate) fn damaged(reason: &str) -> StoreError {
    StoreError::Corrupt { reason: reason.to_owned(), source: None }
}

/// The fields of a run that a claim changes. They are small enough to be written with every claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClaimRecord {
    pub(crate) run: RunId,
    fence: u64,
    attempt: u32,
    started: i64,
}

const CLAIM_BYTES: usize = 36;
/// Number of claims that fit into one value.
pub(crate) const CLAIMS_PER_VALUE: usize = VALUE_BYTES / CLAIM_BYTES - 1;

impl ClaimRecord {
    pub(crate) fn of(run: &Run) -> Self {
        let started = run.started_at().map_or(i64::MIN, to_milliseconds);
        Self { run: run.id(), fence: run.fence(), attempt: run.attempt(), started }
    }

    /// Applies the claim to a run, unless its record is newer.
    pub(crate) fn apply(&self, run: &mut RunParts) {
        if self.fence > run.fence {
            run.state = RunState::Running;
            run.fence = self.fence;
            run.attempt = self.attempt;
            run.started_at = (self.started != i64::MIN).then(|| from_milliseconds(self.started));
            run.progress = None;
        }
    }

    /// The later of two claims of one run.
    pub(crate) fn later(self, other: Self) -> Self {
        if other.fence > self.fence { other } else { self }
    }
}

pub(crate) fn encode_claims(runs: &[Arc<Run>]) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + runs.len() * CLAIM_BYTES);
    value.push(VERSION);
    for claim in runs.iter().map(|run| ClaimRecord::of(run)) {
        value.extend_from_slice(claim.run.as_bytes());
        value.extend_from_slice(&claim.fence.to_be_bytes());
        value.extend_from_slice(&claim.attempt.to_be_bytes());
        value.extend_from_slice(&claim.started.to_be_bytes());
    }
    value
}

pub(crate) fn decode_claims(value: &[u8]) -> Result<Vec<ClaimRecord>, StoreError> {
    check_version(value, VERSION)?;
    let claims = value[1..].chunks(CLAIM_BYTES).map(|claim| {
        let claim: &[u8; CLAIM_BYTES] = claim.try_into().map_err(|_| damaged("claims end too early"))?;
        Ok(ClaimRecord {
            run: RunId::from_bytes(part(claim, 0)),
            fence: u64::from_be_bytes(part(claim, 16)),
            attempt: u32::from_be_bytes(part(claim, 24)),
            started: i64::from_be_bytes(part(claim, 28)),
        })
    });
    claims.collect()
}

/// The record of an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyRecord {
    pub(crate) run: RunId,
    pub(crate) fingerprint: [u8; 32],
    /// Milliseconds of the store's clock.
    pub(crate) expires: u64,
}

impl KeyRecord {
    pub(crate) fn holder(&self) -> KeyHolder<u64> {
        KeyHolder { run: self.run, fingerprint: self.fingerprint, expires: self.expires }
    }

    pub(crate) fn encode(&self) -> [u8; 57] {
        let mut value = [VERSION; 57];
        value[1..17].copy_from_slice(self.run.as_bytes());
        value[17..49].copy_from_slice(&self.fingerprint);
        value[49..].copy_from_slice(&self.expires.to_be_bytes());
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, StoreError> {
        check_version(value, VERSION)?;
        let value: &[u8; 57] =
            value.try_into().map_err(|_| damaged("an idempotency key has not the right size"))?;
        let run = RunId::from_bytes(part(value, 1));
        Ok(Self { run, fingerprint: part(value, 17), expires: u64::from_be_bytes(part(value, 49)) })
    }
}

/// Where a pending delivery belongs and when it is due.
pub(crate) fn encode_pending(run: RunId, due: Option<SystemTime>) -> [u8; 25] {
    let mut value = [VERSION; 25];
    value[1..17].copy_from_slice(run.as_bytes());
    value[17..].copy_from_slice(&due.map_or(0, to_milliseconds).to_be_bytes());
    value
}

pub(crate) fn decode_pending(value: &[u8]) -> Result<(RunId, SystemTime), StoreError> {
    check_version(value, VERSION)?;
    let value: &[u8; 25] =
        value.try_into().map_err(|_| damaged("a pending delivery has not the right size"))?;
    let due = from_milliseconds(i64::from_be_bytes(part(value, 17)));
    Ok((RunId::from_bytes(part(value, 1)), due))
}

/// The store's clock, and what time of day it was then, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SavedClock {
    pub(crate) time: u64,
    pub(crate) time_of_day: u64,
}

impl SavedClock {
    pub(crate) fn encode(self) -> [u8; 17] {
        let mut value = [VERSION; 17];
        value[1..9].copy_from_slice(&self.time.to_be_bytes());
        value[9..].copy_from_slice(&self.time_of_day.to_be_bytes());
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, StoreError> {
        check_version(value, VERSION)?;
        let value: &[u8; 17] = value.try_into().map_err(|_| damaged("a clock has not the right size"))?;
        let number = |place| u64::from_be_bytes(part(value, place));
        Ok(Self { time: number(1), time_of_day: number(9) })
    }
}

pub(crate) fn encode_number(number: u64) -> [u8; 9] {
    let mut value = [VERSION; 9];
    value[1..].copy_from_slice(&number.to_be_bytes());
    value
}

pub(crate) fn decode_number(value: &[u8]) -> Result<u64, StoreError> {
    check_version(value, VERSION)?;
    let value: &[u8; 9] = value.try_into().map_err(|_| damaged("a number has not the right size"))?;
    Ok(u64::from_be_bytes(part(value, 1)))
}

/// `N` bytes from `start` on, which lie within the value.
fn part<const N: usize>(value: &[u8], start: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&value[start..start + N]);
    bytes
}

#[cfg(test)]
mod tests {
    use webhook_core::id::WebhookId;
    use webhook_core::run::{Caller, Progress, RunParameters};

    use super::*;

    fn run() -> Run {
        let now = from_milliseconds(1_767_225_600_000);
        let (id, webhook) = (RunId::generate(now), WebhookId::generate(now));
        let workflow = "report/a".parse().unwrap();
        Run::new(id, workflow, webhook, RunParameters::default(), 3, Caller::default(), now)
    }

    #[test]
    fn a_claim_says_everything_that_claiming_changes() {
        let mut queued = run().into_parts();
        queued.progress = Some(Progress::new(0.5, None));
        let queued = Run::from_parts(queued).unwrap();
        let apply = |claim: ClaimRecord, run: &Run| {
            let mut parts = run.clone().into_parts();
            claim.apply(&mut parts);
            Run::from_parts(parts).unwrap()
        };
        let claimed = queued.claimed(7, 5, from_milliseconds(1_767_225_601_000)).unwrap();
        let stored = |run: &Run| decode_claims(&encode_claims(&[Arc::new(run.clone())])).unwrap()[0];
        assert_eq!(apply(stored(&claimed), &queued), claimed);
        let again = claimed.interrupted(queued.queued_at()).unwrap();
        assert_eq!(apply(stored(&claimed), &again), again, "its record is newer than the claim");
        let exhausted = again.claimed(8, 1, queued.queued_at()).unwrap();
        assert_eq!(exhausted.attempt(), claimed.attempt());
        assert_eq!(apply(stored(&claimed).later(stored(&exhausted)), &again), exhausted);
        let claimed = Arc::new(claimed);
        let many: Vec<_> = (0..CLAIMS_PER_VALUE).map(|_| claimed.clone()).collect();
        assert!(encode_claims(&many).len() <= VALUE_BYTES);
    }

    #[test]
    fn a_large_record_is_split_and_put_together_again() {
        let text = "é".repeat(10_000);
        let encoded = encode(&text).unwrap();
        assert_eq!(usize::from(tail_count(&encoded.head).unwrap()), encoded.tails.len());
        assert!(encoded.tails.len() == 3 && encoded.tails.iter().all(|tail| tail.len() <= VALUE_BYTES));
        let whole = [encoded.head, encoded.tails.concat()].concat();
        assert_eq!(decode::<String>(&whole).unwrap(), text);
    }

    #[test]
    fn other_versions_and_cut_values_are_typed_errors() {
        assert!(matches!(tail_count(&[4, 0, 0]), Err(StoreError::NewerFormat { found: 4, known: 3 })));
        for value in [&[][..], &[0, 0, 0], &[1], &[1, 0]] {
            assert!(matches!(tail_count(value), Err(StoreError::Corrupt { .. })), "{value:?}");
        }
        assert!(matches!(decode::<String>(&[1, 0, 0, b'"']), Err(StoreError::Corrupt { .. })));
        assert!(matches!(KeyRecord::decode(&[1, 2]), Err(StoreError::Corrupt { .. })));
        assert!(matches!(decode_pending(&[1, 2]), Err(StoreError::Corrupt { .. })));
        assert!(matches!(decode_number(&[9; 9]), Err(StoreError::NewerFormat { .. })));
        assert!(matches!(decode_claims(&[1, 2]), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn small_records_survive_the_round_trip() {
        let run = run();
        let record = KeyRecord { run: run.id(), fingerprint: [7; 32], expires: 5 };
        assert_eq!(KeyRecord::decode(&record.encode()).unwrap(), record);
        let pending = encode_pending(run.id(), Some(run.queued_at()));
        assert_eq!(decode_pending(&pending).unwrap(), (run.id(), run.queued_at()));
        assert_eq!(decode_number(&encode_number(42)).unwrap(), 42);
    }
}
