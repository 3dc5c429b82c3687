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
use webhook_core::run::{
    Artifact, Caller, CancelReason, Progress, Run, RunError, RunParameters, RunParts, RunState,
};
use webhook_core::store::StoreError;

use crate::format::codec::{RecordReader, RecordWriter, not_the_json};
use crate::format::keys::{self, state_byte, state_of_byte};
use crate::format::value::{ClaimRecord, VALUE_BYTES, damaged};

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
    /// Returns the run as its newest claim has it, due at the `latest` time at most.
    pub(crate) fn restored(
        self,
        claim: Option<&ClaimRecord>,
        latest: SystemTime,
    ) -> Result<Self, StoreError> {
        let mut parts = self.run.into_parts();
        if let Some(claim) = claim {
            claim.apply(&mut parts);
        }
        parts.due_at = parts.due_at.min(latest);
        Ok(Self { run: run_of(parts)?, ..self })
    }

    /// Size of the run's parameters, in bytes.
    pub(crate) fn parameter_bytes(&self) -> usize {
        self.apart + self.run.parameters().bytes()
    }

    /// Returns true if the record has parameters that a new record would keep apart.
    pub(crate) fn has_large_parameters(&self) -> bool {
        parameters_apart(&self.run) > 0
    }
}

/// Size of the parameters that a run's record keeps apart: of all of them, or zero.
pub(crate) fn parameters_apart(run: &Run) -> usize {
    Some(run.parameters().bytes()).filter(|bytes| *bytes > LARGE).unwrap_or(0)
}

/// Encodes a run as one record, where so many bytes of parameters are kept apart.
pub(crate) fn record(run: &Run, apart: usize) -> Result<Vec<u8>, StoreError> {
    let mut out = RecordWriter(Vec::with_capacity(224));
    out.0.extend(run.id().as_bytes());
    out.0.extend(run.webhook_id().as_bytes());
    out.0.push(state_byte(run.state()));
    out.text(run.workflow().kind.as_str());
    out.text(run.workflow().id.as_str());
    put_details(&mut out, run, apart)?;
    Ok(out.0)
}

/// Writes the rest of a record, behind its id, webhook, state and workflow.
fn put_details(out: &mut RecordWriter, run: &Run, apart: usize) -> Result<(), StoreError> {
    let queued = to_milliseconds(run.queued_at());
    let since = |time: SystemTime| to_milliseconds(time).wrapping_sub(queued);
    out.signed(queued);
    out.optional(run.finished_at(), |out, at| out.signed(since(at)));
    out.optional(run.started_at(), |out, at| out.signed(since(at)));
    out.signed(since(run.due_at()));
    out.number(run.attempt().into());
    out.number(run.max_attempts().into());
    out.number(run.interruptions().into());
    out.number(run.fence());
    out.optional(run.summary(), RecordWriter::text);
    let caller = run.caller();
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
        && run.parameters().is_empty()
        && run.cancel_requested().is_none()
        && run.retried_from().is_none()
        && run.progress().is_none()
        && run.artifacts().is_empty()
        && run.error().is_none();
    if has_none {
        return Ok(None);
    }
    let is_within = apart == 0 && !run.parameters().is_empty();
    Ok(Some(OptionalFields {
        parameters: is_within.then(|| serde_json::from_str(run.parameters().as_json())).transpose()?,
        parameters_apart: apart,
        cancel_requested: run.cancel_requested(),
        retried_from: run.retried_from(),
        progress: run.progress().cloned(),
        artifacts: run.artifacts().to_vec(),
        error: run.error().cloned(),
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
    let mut run = RunParts::new(id, workflow, webhook_id, caller, queued_at);
    run.parameters = parameters;
    run.max_attempts = max_attempts;
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
    Ok(RecordedRun { run: run_of(run)?, apart: optional.parameters_apart })
}

/// Makes a run of its fields, as they were read.
fn run_of(parts: RunParts) -> Result<Run, StoreError> {
    Run::from_parts(parts).map_err(|error| StoreError::corrupt("a run is as no run can be", error))
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
mod tests;
