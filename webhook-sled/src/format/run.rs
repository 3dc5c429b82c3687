//! The record of a run. Fields that every run has come first, as bytes; those that few have follow as JSON.
//!
//! Large parameters are not in the record, which has their size only: they are written once, while a record is written again
//! with every change of its run.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use webhook_core::clock::{from_milliseconds, to_milliseconds};
use webhook_core::id::{RunId, WebhookId, WorkflowKey};
use webhook_core::run::{Artifact, Caller, CancelReason, Progress, Run, RunError, RunParameters, RunState};
use webhook_core::store::StoreError;

use crate::format::codec::{RecordReader, RecordWriter, not_the_json};
use crate::format::keys::{self, state_byte, state_of_byte};
use crate::format::value::{VALUE_BYTES, damaged};

/// Size above which parameters are kept apart from their run's record, in bytes.
const LARGE: usize = 1_024;
/// Upper bound on parameters that are kept apart, in bytes: the number of a part has two bytes.
const MOST_APART: usize = VALUE_BYTES << 16;

/// The fields that few runs have, as JSON.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct OptionalFields<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
    /// Size of the parameters that are kept apart. New in the fourth format.
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
pub(crate) struct RecordedRun {
    /// The run, without the parameters that are kept apart.
    pub(crate) run: Run,
    /// Size of the parameters that are kept apart, in bytes.
    pub(crate) apart: usize,
}

impl RecordedRun {
    /// Size of the run's parameters, in bytes.
    pub(crate) fn parameter_bytes(&self) -> usize {
        self.apart + self.run.parameters.bytes()
    }

    /// Returns true if the record has parameters that a new record would keep apart.
    pub(crate) fn has_large_parameters(&self) -> bool {
        parameters_apart(&self.run) > 0
    }
}

/// Size of the parameters that a run's record keeps apart: of all of them, or zero.
pub(crate) fn parameters_apart(run: &Run) -> usize {
    Some(run.parameters.bytes()).filter(|bytes| *bytes > LARGE).unwrap_or(0)
}

/// Encodes a run as one record, where so many bytes of parameters are kept apart.
pub(crate) fn record(run: &Run, apart: usize) -> Result<Vec<u8>, StoreError> {
    let mut out = RecordWriter(Vec::with_capacity(224));
    out.0.extend(run.id.as_bytes());
    out.0.extend(run.webhook_id.as_bytes());
    out.0.push(state_byte(run.state));
    out.text(run.workflow.kind.as_str());
    out.text(run.workflow.id.as_str());
    put_details(&mut out, run, apart)?;
    Ok(out.0)
}

/// Writes the rest of a record, behind its id, webhook, state and workflow.
fn put_details(out: &mut RecordWriter, run: &Run, apart: usize) -> Result<(), StoreError> {
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
    out.optional(run.summary.as_deref(), RecordWriter::text);
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
    out.optional(caller.user_agent.as_deref(), RecordWriter::text);
    out.request_id(caller.request_id.as_deref());
    let texts = [&caller.token_hint, &caller.content_type, &caller.traceparent];
    for text in texts {
        out.optional(text.as_deref(), RecordWriter::text);
    }
    let optional = optional_fields(run, apart).map_err(not_as_json)?;
    out.0.push(u8::from(optional.is_some()));
    if let Some(optional) = optional {
        serde_json::to_writer(&mut out.0, &optional).map_err(not_as_json)?;
    }
    Ok(())
}

fn not_as_json(error: serde_json::Error) -> StoreError {
    StoreError::unavailable_because("a record cannot be written as JSON", error)
}

fn optional_fields(run: &Run, apart: usize) -> serde_json::Result<Option<OptionalFields<'_>>> {
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
    Ok(Some(OptionalFields {
        parameters: is_within.then(|| serde_json::from_str(run.parameters.as_json())).transpose()?,
        parameters_apart: apart,
        cancel_requested: run.cancel_requested,
        retried_from: run.retried_from,
        progress: run.progress.clone(),
        artifacts: run.artifacts.clone(),
        error: run.error.clone(),
    }))
}

/// Decodes a record.
pub(crate) fn decode_run(record: &[u8]) -> Result<RecordedRun, StoreError> {
    let mut rest = RecordReader(record);
    let (id, webhook_id) = (RunId::from_bytes(rest.array()?), WebhookId::from_bytes(rest.array()?));
    let state = state_of_byte(rest.byte()?).ok_or_else(|| damaged("a run is in no known state"))?;
    let workflow = workflow(&mut rest)?;
    details(rest, id, webhook_id, workflow, state)
}

/// The facts at the beginning of a record. Ended runs share a value only if theirs are equal.
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

/// Reads the group key of a record, and the end of its run in milliseconds of the Unix epoch.
pub(crate) fn group_key(record: &[u8]) -> Result<(GroupKey, u64), StoreError> {
    let mut rest = RecordReader(record.get(16..).unwrap_or_default());
    let webhook = WebhookId::from_bytes(rest.array()?);
    let state = state_of_byte(rest.byte()?).ok_or_else(|| damaged("a run is in no known state"))?;
    let workflow = workflow(&mut rest)?;
    let queued = rest.signed()?;
    let end = queued.wrapping_add(rest.optional(RecordReader::signed)?.unwrap_or(0));
    Ok((GroupKey { webhook, workflow, state }, u64::try_from(end).unwrap_or(0)))
}

/// The id of the run in a record.
pub(crate) fn id_of(record: &[u8]) -> Result<RunId, StoreError> {
    RecordReader(record).array().map(RunId::from_bytes)
}

/// Splits a record behind its id: the prefix that successive runs mostly share (webhook, state and workflow), and the rest.
pub(crate) fn shared_prefix(record: &[u8]) -> Result<(&[u8], &[u8]), StoreError> {
    let prefix = record.get(16..).unwrap_or_default();
    let mut rest = RecordReader(prefix);
    rest.take(17)?;
    rest.text_slice()?;
    rest.text_slice()?;
    Ok(prefix.split_at(prefix.len() - rest.0.len()))
}

/// Reads the rest of a record, behind these.
fn details(
    mut rest: RecordReader<'_>,
    id: RunId,
    webhook_id: WebhookId,
    workflow: WorkflowKey,
    state: RunState,
) -> Result<RecordedRun, StoreError> {
    let queued = rest.signed()?;
    let at = |since: i64| from_milliseconds(queued.wrapping_add(since));
    let finished_at = rest.optional(RecordReader::signed)?.map(at);
    let started_at = rest.optional(RecordReader::signed)?.map(at);
    let due_at = at(rest.signed()?);
    let (attempt, max_attempts, interruptions) = (rest.small()?, rest.small()?, rest.small()?);
    let fence = rest.number()?;
    let summary = rest.optional(RecordReader::text)?;
    let caller = caller(&mut rest)?;
    let optional: OptionalFields<'_> = rest.optional(RecordReader::json)?.unwrap_or_default();
    let queued_at = from_milliseconds(queued);
    if optional.parameters_apart > MOST_APART
        || (optional.parameters_apart > 0 && optional.parameters.is_some())
    {
        return Err(damaged("a run says wrongly where its parameters are"));
    }
    let parameters = match optional.parameters {
        Some(json) => RunParameters::from_json(json.get()).map_err(not_the_json)?,
        None => RunParameters::default(),
    };
    let mut run = Run::new(id, workflow, webhook_id, parameters, max_attempts, caller, queued_at);
    run.state = state;
    run.attempt = attempt;
    run.interruptions = interruptions;
    run.fence = fence;
    run.cancel_requested = optional.cancel_requested;
    run.retried_from = optional.retried_from;
    run.started_at = started_at;
    run.finished_at = finished_at;
    run.due_at = due_at;
    run.progress = optional.progress;
    run.summary = summary;
    run.artifacts = optional.artifacts;
    run.error = optional.error;
    Ok(RecordedRun { run, apart: optional.parameters_apart })
}

fn workflow(rest: &mut RecordReader<'_>) -> Result<WorkflowKey, StoreError> {
    let (kind, id) = (rest.text_slice()?, rest.text_slice()?);
    let corrupt = |error| StoreError::corrupt("a run's workflow has no valid name", error);
    Ok(WorkflowKey::new(kind.parse().map_err(corrupt)?, id.parse().map_err(corrupt)?))
}

fn caller(rest: &mut RecordReader<'_>) -> Result<Caller, StoreError> {
    let mut caller = Caller::default();
    caller.method = rest.text()?.into();
    caller.address = match rest.byte()? {
        0 => None,
        4 => Some(IpAddr::from(rest.array::<4>()?)),
        6 => Some(IpAddr::from(rest.array::<16>()?)),
        _ => return Err(damaged("a caller's address is of no known kind")),
    };
    caller.user_agent = rest.optional(RecordReader::text)?;
    caller.request_id = rest.request_id()?;
    caller.token_hint = rest.optional(RecordReader::text)?;
    caller.content_type = rest.optional(RecordReader::text)?;
    caller.traceparent = rest.optional(RecordReader::text)?;
    Ok(caller)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};
    use webhook_core::run::ErrorKind;

    use super::*;
    use crate::format::block::{BlockBuilder, WHOLE, first_group_key, ids, records};
    use crate::format::value::FIRST_RUNS_VERSION;

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
        // A new field of a run belongs into the record, into `full` above and here.
        assert_eq!(names(&full()), 20);
        let mut over_ipv4 = Caller::default();
        over_ipv4.address = Some("192.0.2.1".parse().unwrap());
        let mut called = plain();
        called.caller = Arc::new(over_ipv4);
        for run in [plain(), full(), called] {
            let record = record(&run, 0).unwrap();
            assert_eq!(decode_run(&record).unwrap(), RecordedRun { run: run.clone(), apart: 0 });
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
        let mut value = BlockBuilder::new(0);
        for run in &runs {
            value.push(&record(run, 0).unwrap()).unwrap();
        }
        let mut first_version = vec![FIRST_RUNS_VERSION, 0, 0];
        for run in &runs {
            let mut out = RecordWriter(first_version);
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

    /// Values that a release has written must be read forever, so the bytes are spelled out.
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
        let mut value = BlockBuilder::new(0);
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
        let mut value = BlockBuilder::new(256);
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
        let mut value = BlockBuilder::new(0);
        value.push(&whole).unwrap();
        value.push(&record(&full(), 0).unwrap()).unwrap();
        let value = value.into_bytes();
        assert!(matches!(records(&value[..value.len() - 1]), Err(StoreError::Corrupt { .. })));
    }
}
