//! How runs become values: several in one, in a compact form of their own.
//!
//! A value holds, after the header that every record has, one or more runs, each after its length. Of a run, what
//! every run has comes first, as bytes; what few have follows as JSON. Numbers are in LEB128, signed ones zigzag.
//!
//! A run whose webhook, state and workflow are those of the run before it in the value does not repeat them, and has
//! of its id only the difference. In the first version of this form every run was whole, and every text a text.
//!
//! Parameters that are large are not in the record, which says how many bytes they have: they are written once, while a
//! record is written anew with every change of its run.

use std::net::IpAddr;
use std::ops::Range;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;
use webhook_core::clock::{from_milliseconds, to_milliseconds};
use webhook_core::id::{RunId, WebhookId, WorkflowKey};
use webhook_core::run::{Artifact, Caller, CancelReason, Progress, Run, RunError, RunParameters, RunState};
use webhook_core::store::StoreError;

use crate::format::keys::{self, state_byte, state_of_byte};
use crate::format::value::{Encoded, FIRST_RUNS_VERSION, HEADER_BYTES, RUNS_VERSION, VALUE_BYTES, damaged};

/// How a record stands in a value: whole, or without what the one before it says as well.
const WHOLE: u8 = 0;
const LIKE_THE_LAST: u8 = 1;

/// From how many bytes on parameters are kept apart from their run's record.
const LARGE: usize = 1_024;
/// How many bytes of parameters can be kept apart: the number of a part has two bytes.
const MOST_APART: usize = VALUE_BYTES << 16;

/// What few runs have.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Rare<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
    /// How many bytes of parameters are kept apart. Only the fourth format has it.
    #[serde(skip_serializing_if = "is_zero")]
    parameters_apart: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_requested: Option<CancelReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retried_from: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    artifacts: Vec<Artifact>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<RunError>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A run as its record has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recorded {
    /// The run, without the parameters that are kept apart.
    pub(crate) run: Run,
    /// How many bytes of parameters are kept apart.
    pub(crate) apart: usize,
}

impl Recorded {
    /// How many bytes of parameters the run has.
    pub(crate) fn parameter_bytes(&self) -> usize {
        self.apart + self.run.parameters.bytes()
    }

    /// Whether the record has parameters that are kept apart nowadays.
    pub(crate) fn has_large_parameters(&self) -> bool {
        parameters_apart(&self.run) > 0
    }
}

/// How many bytes of a run's parameters are to be kept apart from its record.
pub(crate) fn parameters_apart(run: &Run) -> usize {
    Some(run.parameters.bytes()).filter(|bytes| *bytes > LARGE).unwrap_or(0)
}

/// A value that holds this run alone, less parameters that are kept apart.
pub(crate) fn encode_run(run: &Run) -> Result<Encoded, StoreError> {
    encode_recorded(run, parameters_apart(run))
}

/// The same of a run of which so many bytes of parameters are kept apart, whether it is here with them or without.
pub(crate) fn encode_recorded(run: &Run, apart: usize) -> Result<Encoded, StoreError> {
    let mut value = Value::new(256);
    value.push(&record(run, apart)?)?;
    Encoded::split(value.bytes)
}

/// A run as one record, less so many bytes of parameters that are kept apart.
pub(crate) fn record(run: &Run, apart: usize) -> Result<Vec<u8>, StoreError> {
    let mut out = Out(Vec::with_capacity(224));
    out.0.extend(run.id.as_bytes());
    out.0.extend(run.webhook_id.as_bytes());
    out.0.push(state_byte(run.state));
    out.text(run.workflow.kind.as_str());
    out.text(run.workflow.id.as_str());
    put_details(&mut out, run, apart)?;
    Ok(out.0)
}

/// What a record holds besides its id, webhook, state and workflow.
fn put_details(out: &mut Out, run: &Run, apart: usize) -> Result<(), StoreError> {
    let queued = to_milliseconds(run.queued_at);
    let since = |time: SystemTime| to_milliseconds(time).wrapping_sub(queued);
    out.signed(queued);
    out.optional(run.finished_at, |out, at| out.signed(since(at)));
    out.optional(run.started_at, |out, at| out.signed(since(at)));
    out.signed(since(run.due_at));
    out.number(run.attempt.into());
    out.number(run.max_attempts.into());
    out.number(run.interruptions.into());
    out.number(run.fence);
    out.optional(run.summary.as_deref(), Out::text);
    let caller = &run.caller;
    out.text(&caller.method);
    match caller.address {
        None => out.0.push(0),
        Some(IpAddr::V4(address)) => {
            out.0.push(4);
            out.0.extend(address.octets());
        }
        Some(IpAddr::V6(address)) => {
            out.0.push(6);
            out.0.extend(address.octets());
        }
    }
    out.optional(caller.user_agent.as_deref(), Out::text);
    out.request_id(caller.request_id.as_deref());
    let texts = [&caller.token_hint, &caller.content_type, &caller.traceparent];
    for text in texts {
        out.optional(text.as_deref(), Out::text);
    }
    let rare = rare(run, apart).map_err(not_as_json)?;
    out.0.push(u8::from(rare.is_some()));
    if let Some(rare) = rare {
        serde_json::to_writer(&mut out.0, &rare).map_err(not_as_json)?;
    }
    Ok(())
}

fn not_as_json(error: serde_json::Error) -> StoreError {
    StoreError::unavailable_because("a record cannot be written as JSON", error)
}

fn rare(run: &Run, apart: usize) -> serde_json::Result<Option<Rare<'_>>> {
    let has_none = apart == 0
        && run.parameters.is_empty()
        && run.cancel_requested.is_none()
        && run.retried_from.is_none()
        && run.progress.is_none()
        && run.artifacts.is_empty()
        && run.error.is_none();
    if has_none {
        return Ok(None);
    }
    let is_within = apart == 0 && !run.parameters.is_empty();
    Ok(Some(Rare {
        parameters: is_within.then(|| serde_json::from_str(run.parameters.as_json())).transpose()?,
        parameters_apart: apart,
        cancel_requested: run.cancel_requested,
        retried_from: run.retried_from,
        progress: run.progress.clone(),
        artifacts: run.artifacts.clone(),
        error: run.error.clone(),
    }))
}

/// The run in a record.
pub(crate) fn decode_run(record: &[u8]) -> Result<Recorded, StoreError> {
    let mut rest = In(record);
    let (id, webhook_id) = (RunId::from_bytes(rest.array()?), WebhookId::from_bytes(rest.array()?));
    let state = state_of_byte(rest.byte()?).ok_or_else(|| damaged("a run is in no known state"))?;
    let workflow = rest.workflow()?;
    rest.details(id, webhook_id, workflow, state)
}

/// What a record says at its beginning, which decides where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupKey {
    pub(crate) webhook: WebhookId,
    pub(crate) workflow: WorkflowKey,
    pub(crate) state: RunState,
}

impl GroupKey {
    /// Keys of the index entries of a value whose oldest run is `first`: by workflow, and by webhook.
    pub(crate) fn index_keys(&self, first: RunId) -> [Vec<u8>; 2] {
        let of_workflow = keys::ended(keys::BY_WORKFLOW, &keys::workflow(&self.workflow), self.state);
        let of_webhook = keys::ended(keys::BY_WEBHOOK, self.webhook.as_bytes(), self.state);
        [of_workflow, of_webhook].map(|prefix| [&prefix[..], first.as_bytes()].concat())
    }
}

/// Where the run in a record belongs, and when it ended, in milliseconds of the Unix epoch.
pub(crate) fn group_key(record: &[u8]) -> Result<(GroupKey, u64), StoreError> {
    let mut rest = In(record.get(16..).unwrap_or_default());
    let webhook = WebhookId::from_bytes(rest.array()?);
    let state = state_of_byte(rest.byte()?).ok_or_else(|| damaged("a run is in no known state"))?;
    let workflow = rest.workflow()?;
    let queued = rest.signed()?;
    let end = queued.wrapping_add(rest.optional(In::signed)?.unwrap_or(0));
    Ok((GroupKey { webhook, workflow, state }, u64::try_from(end).unwrap_or(0)))
}

/// The same of the first run in a value, of which only the beginning need be there.
pub(crate) fn first_group_key(value: &[u8]) -> Result<(GroupKey, u64), StoreError> {
    group_key(first_record(value)?)
}

/// The first record in a value is whole, so that what it begins with can be read alone.
fn first_record(value: &[u8]) -> Result<&[u8], StoreError> {
    let mut rest = In(value.get(HEADER_BYTES..).unwrap_or_default());
    rest.number()?;
    if value.first() != Some(&FIRST_RUNS_VERSION) && rest.byte()? != WHOLE {
        return Err(damaged("the first run in a value is not whole"));
    }
    Ok(rest.0)
}

/// The id of the run in a record.
pub(crate) fn id_of(record: &[u8]) -> Result<RunId, StoreError> {
    In(record).array().map(RunId::from_bytes)
}

/// What records of successive runs mostly have in common: webhook, state and workflow. Answers what follows it too.
fn heading(record: &[u8]) -> Result<(&[u8], &[u8]), StoreError> {
    let heading = record.get(16..).unwrap_or_default();
    let mut rest = In(heading);
    rest.take(17)?;
    rest.text_slice()?;
    rest.text_slice()?;
    Ok(heading.split_at(heading.len() - rest.0.len()))
}

/// Whether a value holds runs in this form.
pub(crate) fn holds_records(value: &[u8]) -> bool {
    value.first().is_some_and(|version| *version >= FIRST_RUNS_VERSION)
}

/// A value that holds runs, while it is put together.
pub(crate) struct Value {
    bytes: Vec<u8>,
    /// The id of the last run in it, and where its heading is.
    last: Option<(u128, Range<usize>)>,
}

impl Value {
    /// One without runs, with room for so many bytes.
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
        let (heading, details) = heading(record)?;
        let mut out = Out(std::mem::take(&mut self.bytes));
        let like_last = self.last.take().filter(|(last, at)| id > *last && out.0[at.clone()] == *heading);
        let at = match like_last {
            Some((last, at)) => {
                let mut difference = Out(Vec::with_capacity(19));
                difference.wide(id - last);
                out.number((1 + difference.0.len() + details.len()) as u64);
                out.0.push(LIKE_THE_LAST);
                out.0.extend(difference.0);
                out.0.extend_from_slice(details);
                at
            }
            None => {
                out.number(1 + record.len() as u64);
                out.0.push(WHOLE);
                let start = out.0.len() + 16;
                out.0.extend_from_slice(record);
                start..start + heading.len()
            }
        };
        self.bytes = out.0;
        self.last = Some((id, at));
        Ok(())
    }
}

/// The records in a value, which is whole.
pub(crate) fn records(value: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut records = Vec::<Vec<u8>>::new();
    each_stored(value, |form, stored| {
        records.push(match (form, records.last()) {
            (WHOLE, _) => id_of(stored.0).map(|_| stored.0.to_vec())?,
            (LIKE_THE_LAST, Some(last)) => like(last, stored)?,
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
            (LIKE_THE_LAST, Some(last)) => id_after(*last, &mut stored)?,
            _ => return Err(unknown_form()),
        });
        Ok(())
    })?;
    Ok(ids)
}

/// Goes through what a value holds: how each record stands in it, and the rest.
fn each_stored<'a>(
    value: &'a [u8],
    mut act: impl FnMut(u8, In<'a>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let is_first_version = value.first() == Some(&FIRST_RUNS_VERSION);
    let mut rest = In(value.get(HEADER_BYTES..).unwrap_or_default());
    while !rest.0.is_empty() {
        let length = rest.number()?;
        let mut stored = In(rest.take(length)?);
        let form = if is_first_version { WHOLE } else { stored.byte()? };
        act(form, stored)?;
    }
    Ok(())
}

fn unknown_form() -> StoreError {
    damaged("a run in a value is in no known form")
}

/// The record that was stored without what the last one says as well.
fn like(last: &[u8], mut stored: In<'_>) -> Result<Vec<u8>, StoreError> {
    let id = id_after(id_of(last)?, &mut stored)?;
    let (heading, _) = heading(last)?;
    Ok([id.as_bytes(), heading, stored.0].concat())
}

fn id_after(last: RunId, stored: &mut In<'_>) -> Result<RunId, StoreError> {
    let id = u128::from_be_bytes(*last.as_bytes()).wrapping_add(stored.wide()?);
    Ok(RunId::from_bytes(id.to_be_bytes()))
}

struct Out(Vec<u8>);

impl Out {
    fn number(&mut self, number: u64) {
        self.wide(number.into());
    }

    fn wide(&mut self, mut number: u128) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// The ids that requests are given here are UUIDs, which take half as much as bytes.
    fn request_id(&mut self, id: Option<&str>) {
        match id.and_then(|id| Some((id, Uuid::try_parse(id).ok()?))) {
            Some((id, uuid)) if is_text_of(&uuid, id) => {
                self.0.push(2);
                self.0.extend(uuid.as_bytes());
            }
            _ => self.optional(id, Self::text),
        }
    }

    fn signed(&mut self, number: i64) {
        self.number((number << 1 ^ number >> 63) as u64);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn optional<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            put(self, value);
        }
    }
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take(&mut self, length: u64) -> Result<&'a [u8], StoreError> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(ends_too_early)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(ends_too_early)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, StoreError> {
        self.array().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u64, StoreError> {
        u64::try_from(self.wide()?).map_err(|_| damaged("a number in a record is too large"))
    }

    fn wide(&mut self) -> Result<u128, StoreError> {
        let mut number = 0;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            number |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(damaged("a number in a record is too long"))
    }

    fn request_id(&mut self) -> Result<Option<String>, StoreError> {
        if self.0.first() == Some(&2) {
            self.byte()?;
            return Ok(Some(Uuid::from_bytes(self.array()?).as_hyphenated().to_string()));
        }
        self.optional(Self::text)
    }

    fn small(&mut self) -> Result<u32, StoreError> {
        u32::try_from(self.number()?).map_err(|_| damaged("a number in a record is too large"))
    }

    fn signed(&mut self) -> Result<i64, StoreError> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn text(&mut self) -> Result<String, StoreError> {
        self.text_slice().map(str::to_owned)
    }

    fn text_slice(&mut self) -> Result<&'a str, StoreError> {
        let length = self.number()?;
        str::from_utf8(self.take(length)?)
            .map_err(|error| StoreError::corrupt("a text in a record is not UTF-8", error))
    }

    fn optional<T>(
        &mut self,
        get: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match self.byte()? {
            0 => Ok(None),
            1 => get(self).map(Some),
            _ => Err(damaged("a record has a part that is neither there nor not")),
        }
    }

    /// What is left, as JSON.
    fn json<T: Deserialize<'a>>(&mut self) -> Result<T, StoreError> {
        serde_json::from_slice(self.0).map_err(not_the_json)
    }

    /// What a record holds besides these.
    fn details(
        mut self,
        id: RunId,
        webhook_id: WebhookId,
        workflow: WorkflowKey,
        state: RunState,
    ) -> Result<Recorded, StoreError> {
        let queued = self.signed()?;
        let at = |since: i64| from_milliseconds(queued.wrapping_add(since));
        let finished_at = self.optional(In::signed)?.map(at);
        let started_at = self.optional(In::signed)?.map(at);
        let due_at = at(self.signed()?);
        let (attempt, max_attempts, interruptions) = (self.small()?, self.small()?, self.small()?);
        let fence = self.number()?;
        let summary = self.optional(In::text)?;
        let caller = self.caller()?;
        let rare: Rare<'_> = self.optional(In::json)?.unwrap_or_default();
        let queued_at = from_milliseconds(queued);
        if rare.parameters_apart > MOST_APART || (rare.parameters_apart > 0 && rare.parameters.is_some()) {
            return Err(damaged("a run says wrongly where its parameters are"));
        }
        let parameters = match rare.parameters {
            Some(json) => RunParameters::from_json(json.get()).map_err(not_the_json)?,
            None => RunParameters::default(),
        };
        let mut run = Run::new(id, workflow, webhook_id, parameters, max_attempts, caller, queued_at);
        run.state = state;
        run.attempt = attempt;
        run.interruptions = interruptions;
        run.fence = fence;
        run.cancel_requested = rare.cancel_requested;
        run.retried_from = rare.retried_from;
        run.started_at = started_at;
        run.finished_at = finished_at;
        run.due_at = due_at;
        run.progress = rare.progress;
        run.summary = summary;
        run.artifacts = rare.artifacts;
        run.error = rare.error;
        Ok(Recorded { run, apart: rare.parameters_apart })
    }

    fn workflow(&mut self) -> Result<WorkflowKey, StoreError> {
        let (kind, id) = (self.text_slice()?, self.text_slice()?);
        let corrupt = |error| StoreError::corrupt("a run's workflow has no valid name", error);
        Ok(WorkflowKey::new(kind.parse().map_err(corrupt)?, id.parse().map_err(corrupt)?))
    }

    fn caller(&mut self) -> Result<Caller, StoreError> {
        let mut caller = Caller::default();
        caller.method = self.text()?.into();
        caller.address = match self.byte()? {
            0 => None,
            4 => Some(IpAddr::from(self.array::<4>()?)),
            6 => Some(IpAddr::from(self.array::<16>()?)),
            _ => return Err(damaged("a caller's address is of no known kind")),
        };
        caller.user_agent = self.optional(Self::text)?;
        caller.request_id = self.request_id()?;
        caller.token_hint = self.optional(Self::text)?;
        caller.content_type = self.optional(Self::text)?;
        caller.traceparent = self.optional(Self::text)?;
        Ok(caller)
    }
}

/// Whether this is the lower-case hyphenated form, which is what a UUID is read back as.
fn is_text_of(uuid: &Uuid, text: &str) -> bool {
    text == uuid.as_hyphenated().encode_lower(&mut Uuid::encode_buffer())
}

fn not_the_json(error: serde_json::Error) -> StoreError {
    StoreError::corrupt("a record is not the JSON it should be", error)
}

fn ends_too_early() -> StoreError {
    damaged("a record ends too early")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};
    use webhook_core::run::ErrorKind;

    use super::*;

    fn plain() -> Run {
        let now = from_milliseconds(1_767_225_600_123);
        let (id, webhook) = (RunId::generate(now), WebhookId::generate(now));
        let workflow = "report/a".parse().unwrap();
        Run::new(id, workflow, webhook, RunParameters::default(), 3, Caller::default(), now)
    }

    fn full() -> Run {
        let mut run = plain();
        let at = |milliseconds: i64| Some(from_milliseconds(1_767_225_600_123 + milliseconds));
        let effective: EffectiveParameters =
            [("a".to_owned(), EffectiveParameter::new(json!([1, "é"]), Source::Query))].into_iter().collect();
        run.parameters = RunParameters::seal(effective, None, run.id).unwrap();
        run.state = RunState::TimedOut;
        (run.attempt, run.interruptions, run.fence) = (u32::MAX, 300, u64::MAX);
        run.cancel_requested = Some(CancelReason::Requested);
        run.retried_from = Some(plain().id);
        (run.started_at, run.finished_at, run.due_at) = (at(5), at(86_400_000), from_milliseconds(-1));
        run.progress = Some(Progress::new(0.25, Some("x".to_owned())));
        run.summary = Some("é".repeat(300));
        run.artifacts = vec![Artifact::new("a.html", "text/html", 7)];
        run.error = Some(RunError::new(ErrorKind::TimedOut, "late"));
        let mut caller = Caller::default();
        caller.method = "POST".into();
        caller.address = Some("2001:db8::1".parse().unwrap());
        caller.user_agent = Some("curl".to_owned());
        caller.request_id = Some("id".to_owned());
        caller.token_hint = Some("abcd".to_owned());
        caller.content_type = Some("application/json".to_owned());
        caller.traceparent = Some("00-1".to_owned());
        run.caller = Arc::new(caller);
        run
    }

    #[test]
    fn nothing_of_a_run_is_lost() {
        let names = |run: &Run| serde_json::to_value(run).unwrap().as_object().unwrap().len();
        // Whoever adds a field to a run adds it to the record, to `full` above and here.
        assert_eq!(names(&full()), 20);
        let mut over_ipv4 = Caller::default();
        over_ipv4.address = Some("192.0.2.1".parse().unwrap());
        let mut called = plain();
        called.caller = Arc::new(over_ipv4);
        for run in [plain(), full(), called] {
            let record = record(&run, 0).unwrap();
            assert_eq!(decode_run(&record).unwrap(), Recorded { run: run.clone(), apart: 0 });
            assert_eq!(id_of(&record).unwrap(), run.id);
            let (group_key, end) = group_key(&record).unwrap();
            assert_eq!((group_key.webhook, group_key.state), (run.webhook_id, run.state));
            assert_eq!(group_key.workflow, run.workflow);
            assert_eq!(end as i64, to_milliseconds(run.finished_at.unwrap_or(run.queued_at)));
        }
    }

    #[test]
    fn an_ordinary_run_takes_few_bytes() {
        assert!(record(&plain(), 0).unwrap().len() < 80);
    }

    #[test]
    fn several_runs_in_one_value_are_told_apart() {
        let (first, mut second, mut older) = (plain(), plain(), plain());
        (second.webhook_id, older.webhook_id) = (first.webhook_id, first.webhook_id);
        older.id = RunId::from_bytes([0; 16]);
        let runs = [first, second, older, full(), plain()];
        let mut value = Value::new(0);
        for run in &runs {
            value.push(&record(run, 0).unwrap()).unwrap();
        }
        let mut first_version = vec![FIRST_RUNS_VERSION, 0, 0];
        for run in &runs {
            let mut out = Out(first_version);
            let record = record(run, 0).unwrap();
            out.number(record.len() as u64);
            out.0.extend(record);
            first_version = out.0;
        }
        assert!(value.len() + 30 < first_version.len(), "{} {}", value.len(), first_version.len());
        for value in [value.into_bytes(), first_version] {
            let decoded = |record: &Vec<u8>| decode_run(record).unwrap().run;
            let read: Vec<Run> = records(&value).unwrap().iter().map(decoded).collect();
            assert_eq!(read, runs);
            assert_eq!(ids(&value).unwrap(), runs.iter().map(|run| run.id).collect::<Vec<_>>());
            assert_eq!(first_group_key(&value).unwrap().0.webhook, runs[0].webhook_id);
        }
    }

    /// What a release has written must be read for ever, so the bytes are spelled out.
    #[test]
    fn a_value_of_format_three_is_written_as_ever() {
        let now = from_milliseconds(1_767_225_600_123);
        let run = |last: u8| {
            let (id, webhook) = (
                RunId::from_bytes([[1; 15].as_slice(), &[last]].concat().try_into().unwrap()),
                WebhookId::from_bytes([2; 16]),
            );
            let mut caller = Caller::default();
            caller.method = "POST".into();
            caller.request_id = Some("0b8c9a4e-6c1f-4f0e-9d2b-1a2b3c4d5e6f".to_owned());
            Run::new(id, "report/a".parse().unwrap(), webhook, RunParameters::default(), 3, caller, now)
        };
        let runs = [run(1), run(200)];
        let mut value = Value::new(0);
        for run in &runs {
            value.push(&record(run, 0).unwrap()).unwrap();
        }
        let hex: String = value.into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let whole = "5500\
            01010101010101010101010101010101\
            02020202020202020202020202020202\
            0006 7265706f7274 0161\
            f6a1d5edee66 0000 00 000300 00 00\
            04504f5354 00 00 02 0b8c9a4e6c1f4f0e9d2b1a2b3c4d5e6f 00 00 00 00";
        let like_the_last = "2d01 c701\
            f6a1d5edee66 0000 00 000300 00 00\
            04504f5354 00 00 02 0b8c9a4e6c1f4f0e9d2b1a2b3c4d5e6f 00 00 00 00";
        assert_eq!(hex, format!("030000{whole}{like_the_last}").replace(' ', ""));
    }

    #[test]
    fn a_request_id_is_read_as_it_was_written_whatever_its_form() {
        let uuid = "0b8c9a4e-6c1f-4f0e-9d2b-1a2b3c4d5e6f";
        let forms = ["ci-17".to_owned(), uuid.to_owned(), uuid.to_uppercase(), uuid.replace('-', "")];
        for id in forms.into_iter().map(Some).chain([None, Some(String::new())]) {
            let mut caller = Caller::default();
            caller.request_id = id.clone();
            let mut run = plain();
            run.caller = Arc::new(caller);
            let record = record(&run, 0).unwrap();
            assert_eq!(decode_run(&record).unwrap().run.caller.request_id, id);
        }
    }

    #[test]
    fn large_parameters_are_kept_apart_and_small_ones_are_not() {
        let is_apart = |length: usize| {
            let mut run = plain();
            let text = EffectiveParameter::new(json!("x".repeat(length)), Source::Body);
            run.parameters =
                RunParameters::seal([("a".to_owned(), text)].into_iter().collect(), None, run.id).unwrap();
            let record = record(&run, parameters_apart(&run)).unwrap();
            let recorded = decode_run(&record).unwrap();
            assert_eq!(recorded.parameter_bytes(), run.parameters.bytes());
            assert!(record.len() < 100 + LARGE);
            if recorded.apart == 0 {
                assert_eq!(recorded.run, run);
            } else {
                let mut without = run;
                without.parameters = RunParameters::default();
                assert_eq!(recorded.run, without);
            }
            recorded.apart > 0
        };
        assert_eq!([0, 900, 1_100, 1 << 20].map(is_apart), [false, false, true, true]);
    }

    #[test]
    fn a_record_without_a_whole_id_is_damaged_wherever_it_stands_in_a_value() {
        let mut value = Value::new(256);
        value.push(&record(&plain(), 0).unwrap()).unwrap();
        let bytes = [value.into_bytes(), vec![1, WHOLE]].concat();
        assert!(matches!(ids(&bytes), Err(StoreError::Corrupt { .. })));
        assert!(matches!(records(&bytes), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn a_record_that_says_wrongly_where_its_parameters_are_is_damaged() {
        let saying = |members: &str| {
            let mut bytes = record(&plain(), 0).unwrap();
            *bytes.last_mut().unwrap() = 1;
            bytes.extend_from_slice(members.as_bytes());
            decode_run(&bytes)
        };
        let most = format!(r#"{{"parameters_apart":{MOST_APART}}}"#);
        assert_eq!(saying(&most).unwrap().apart, MOST_APART);
        let within = r#""parameters":{"a":{"value":1,"source":"query"}}"#;
        assert_eq!(saying(&format!("{{{within}}}")).unwrap().apart, 0);
        for members in [
            format!(r#"{{"parameters_apart":{}}}"#, MOST_APART + 1),
            format!(r#"{{"parameters_apart":{}}}"#, usize::MAX),
            format!(r#"{{"parameters_apart":5,{within}}}"#),
        ] {
            assert!(matches!(saying(&members), Err(StoreError::Corrupt { .. })), "{members}");
        }
    }

    #[test]
    fn a_record_that_was_cut_is_a_typed_error() {
        let whole = record(&full(), 0).unwrap();
        for length in 0..whole.len() {
            let error = decode_run(&whole[..length]);
            assert!(matches!(error, Err(StoreError::Corrupt { .. })), "{length}: {error:?}");
        }
        let mut value = Value::new(0);
        value.push(&whole).unwrap();
        value.push(&record(&full(), 0).unwrap()).unwrap();
        let value = value.into_bytes();
        assert!(matches!(records(&value[..value.len() - 1]), Err(StoreError::Corrupt { .. })));
    }
}
