//! Values that hold runs: one or several records, each after its length.
//!
//! A run whose webhook, state and workflow are those of the run before it in the value does not repeat them, and has
//! only the difference of its id. In the first version of this form every run was whole, and every text a text.

use std::ops::Range;

use webhook_core::id::RunId;
use webhook_core::run::Run;
use webhook_core::store::StoreError;

use crate::format::codec::{RecordReader, RecordWriter};
use crate::format::run::{GroupKey, group_key, id_of, parameters_apart, record, shared_prefix};
use crate::format::value::{EncodedRecord, FIRST_RUNS_VERSION, HEADER_BYTES, RUNS_VERSION, damaged};

/// Form of a record in a value: whole, or without the prefix that it shares with the record before it.
pub(crate) const WHOLE: u8 = 0;
const SHARED_PREFIX: u8 = 1;

/// Encodes a value with this run alone, without parameters that are kept apart.
pub(crate) fn encode_run(run: &Run) -> Result<EncodedRecord, StoreError> {
    encode_recorded(run, parameters_apart(run))
}

/// Like [`encode_run`], for a run of which so many bytes of parameters are kept apart. It may come without them.
pub(crate) fn encode_recorded(run: &Run, apart: usize) -> Result<EncodedRecord, StoreError> {
    let mut value = BlockBuilder::new(256);
    value.push(&record(run, apart)?)?;
    EncodedRecord::split(value.bytes)
}

/// Like [`group_key`], for the first run in a value. Only the beginning of the value is needed.
pub(crate) fn first_group_key(value: &[u8]) -> Result<(GroupKey, u64), StoreError> {
    group_key(first_record(value)?)
}

/// The first record in a value. It is whole, so its beginning can be read without the rest.
fn first_record(value: &[u8]) -> Result<&[u8], StoreError> {
    let mut rest = RecordReader(value.get(HEADER_BYTES..).unwrap_or_default());
    rest.number()?;
    if value.first() != Some(&FIRST_RUNS_VERSION) && rest.byte()? != WHOLE {
        return Err(damaged("the first run in a value is not whole"));
    }
    Ok(rest.0)
}

/// Returns true if a value holds runs in this form and not in the JSON of the first format.
pub(crate) fn holds_records(value: &[u8]) -> bool {
    value.first().is_some_and(|version| *version >= FIRST_RUNS_VERSION)
}

/// Puts a value that holds runs together.
pub(crate) struct BlockBuilder {
    bytes: Vec<u8>,
    /// Id of the last run, and the place of its shared prefix in `bytes`.
    last: Option<(u128, Range<usize>)>,
}

impl BlockBuilder {
    /// Creates a value without runs, with room for so many bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.extend([RUNS_VERSION, 0, 0]);
        Self { bytes, last: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Adds a run's record.
    pub(crate) fn push(&mut self, record: &[u8]) -> Result<(), StoreError> {
        let id = u128::from_be_bytes(*id_of(record)?.as_bytes());
        let (prefix, details) = shared_prefix(record)?;
        let mut out = RecordWriter(std::mem::take(&mut self.bytes));
        let like_last = self.last.take().filter(|(last, at)| id > *last && out.0[at.clone()] == *prefix);
        let at = match like_last {
            Some((last, at)) => {
                let mut difference = RecordWriter(Vec::with_capacity(19));
                difference.wide(id - last);
                out.number((1 + difference.0.len() + details.len()) as u64);
                out.0.push(SHARED_PREFIX);
                out.0.extend(difference.0);
                out.0.extend_from_slice(details);
                at
            }
            None => {
                out.number(1 + record.len() as u64);
                out.0.push(WHOLE);
                let start = out.0.len() + 16;
                out.0.extend_from_slice(record);
                start..start + prefix.len()
            }
        };
        self.bytes = out.0;
        self.last = Some((id, at));
        Ok(())
    }
}

/// The records of a whole value.
pub(crate) fn records(value: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut records = Vec::<Vec<u8>>::new();
    each_stored(value, |form, stored| {
        records.push(match (form, records.last()) {
            (WHOLE, _) => id_of(stored.0).map(|_| stored.0.to_vec())?,
            (SHARED_PREFIX, Some(last)) => like(last, stored)?,
            _ => return Err(unknown_form()),
        });
        Ok(())
    })?;
    Ok(records)
}

/// The ids of the runs in a value.
pub(crate) fn ids(value: &[u8]) -> Result<Vec<RunId>, StoreError> {
    let mut ids = Vec::<RunId>::new();
    each_stored(value, |form, mut stored| {
        ids.push(match (form, ids.last()) {
            (WHOLE, _) => id_of(stored.0)?,
            (SHARED_PREFIX, Some(last)) => id_after(*last, &mut stored)?,
            _ => return Err(unknown_form()),
        });
        Ok(())
    })?;
    Ok(ids)
}

/// Calls `act` with the form and the bytes of each record of a value.
fn each_stored<'a>(
    value: &'a [u8],
    mut act: impl FnMut(u8, RecordReader<'a>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let is_first_version = value.first() == Some(&FIRST_RUNS_VERSION);
    let mut rest = RecordReader(value.get(HEADER_BYTES..).unwrap_or_default());
    while !rest.0.is_empty() {
        let length = rest.number()?;
        let mut stored = RecordReader(rest.take(length)?);
        let form = if is_first_version { WHOLE } else { stored.byte()? };
        act(form, stored)?;
    }
    Ok(())
}

fn unknown_form() -> StoreError {
    damaged("a run in a value is in no known form")
}

/// The record that was stored without the prefix that it shares with the last one.
fn like(last: &[u8], mut stored: RecordReader<'_>) -> Result<Vec<u8>, StoreError> {
    let id = id_after(id_of(last)?, &mut stored)?;
    let (prefix, _) = shared_prefix(last)?;
    Ok([id.as_bytes(), prefix, stored.0].concat())
}

fn id_after(last: RunId, stored: &mut RecordReader<'_>) -> Result<RunId, StoreError> {
    let id = u128::from_be_bytes(*last.as_bytes()).wrapping_add(stored.wide()?);
    Ok(RunId::from_bytes(id.to_be_bytes()))
}
