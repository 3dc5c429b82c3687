//! Runs as rows.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type};
use uuid::Uuid;
use webhook_core::clock::{from_milliseconds, to_milliseconds};
use webhook_core::id::{CallId, DeliveryId, RunId, WebhookId};
use webhook_core::run::{Artifact, Caller, CancelReason, Run, RunError, RunParameters, RunParts, RunState};

use crate::failure::Failure;

/// States of live runs, as stored.
pub(crate) const READY: i16 = 0;
pub(crate) const DELAYED: i16 = 1;
pub(crate) const HELD_BACK: i16 = 2;
pub(crate) const AHEAD: i16 = 3;
pub(crate) const RUNNING: i16 = 4;

/// The states in the table of live runs and in that of ended ones that are shown as this state.
pub(crate) fn stored_states(state: RunState) -> (&'static [i16], &'static [i16]) {
    match state {
        RunState::Queued => (&[READY, DELAYED, HELD_BACK, AHEAD], &[]),
        RunState::Running => (&[RUNNING], &[]),
        RunState::Succeeded => (&[], &[5]),
        RunState::Failed => (&[], &[6]),
        RunState::TimedOut => (&[], &[7]),
        RunState::Cancelled => (&[], &[8]),
        RunState::Skipped => (&[], &[9]),
        // A state that this version does not know is that of no run.
        _ => (&[], &[]),
    }
}

pub(crate) const LIVE_STATES: &[i16] = &[READY, DELAYED, HELD_BACK, AHEAD, RUNNING];
pub(crate) const ENDED_STATES: &[i16] = &[5, 6, 7, 8, 9];

pub(crate) fn ended_state(state: RunState) -> i32 {
    stored_states(state).1.first().copied().map_or(8, i32::from)
}

fn shown_state(state: i16) -> Result<RunState, Failure> {
    Ok(match state {
        READY | DELAYED | HELD_BACK | AHEAD => RunState::Queued,
        RUNNING => RunState::Running,
        5 => RunState::Succeeded,
        6 => RunState::Failed,
        7 => RunState::TimedOut,
        8 => RunState::Cancelled,
        9 => RunState::Skipped,
        other => return Err(Failure::Corrupt(format!("a run is in the unknown state {other}"))),
    })
}

pub(crate) fn cancel_reason(number: Option<i16>) -> Option<CancelReason> {
    Some(match number? {
        2 => CancelReason::Superseded,
        3 => CancelReason::WebhookDeleted,
        _ => CancelReason::Requested,
    })
}

pub(crate) fn uuid_of_run(id: RunId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

pub(crate) fn uuid_of_webhook(id: WebhookId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

pub(crate) fn uuid_of_delivery(id: DeliveryId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

pub(crate) fn uuid_of_call(id: CallId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

pub(crate) fn run_id(id: Uuid) -> RunId {
    RunId::from_bytes(*id.as_bytes())
}

pub(crate) fn webhook_id(id: Uuid) -> WebhookId {
    WebhookId::from_bytes(*id.as_bytes())
}

/// Fields of a run that never change.
#[derive(Serialize, Deserialize)]
struct Fixed<'a> {
    queued_ms: i64,
    due_ms: i64,
    max_attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retried_from: Option<RunId>,
    caller: std::borrow::Cow<'a, Caller>,
}

/// Result of a run, or the error of its last attempt.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Left {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) summary: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) artifacts: Vec<Artifact>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<RunError>,
}

impl Left {
    /// Returns the result in a run's record, or `None` if it is empty.
    pub(crate) fn of(run: &Run) -> Option<Vec<u8>> {
        let left = Self {
            summary: run.parts().summary.clone(),
            artifacts: run.parts().artifacts.clone(),
            error: run.parts().error.clone(),
        };
        let is_empty = left.summary.is_none() && left.artifacts.is_empty() && left.error.is_none();
        (!is_empty).then(|| json(&left))
    }
}

/// JSON of a record. Text is escaped, so there is no NUL in it.
pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records have texts as keys, and their values are JSON")
}

pub(crate) fn fixed_of(run: &Run) -> Vec<u8> {
    json(&Fixed {
        queued_ms: to_milliseconds(run.parts().queued_at),
        due_ms: to_milliseconds(run.parts().due_at),
        max_attempts: run.parts().max_attempts,
        retried_from: run.parts().retried_from,
        caller: std::borrow::Cow::Borrowed(&run.parts().caller),
    })
}

pub(crate) fn parameters_of(run: &Run) -> Option<&[u8]> {
    (!run.parts().parameters.is_empty()).then(|| run.parts().parameters.as_json().as_bytes())
}

/// Fields of a run that change, as stored.
#[derive(Debug, Default)]
pub(crate) struct Changing<'a> {
    pub(crate) state: i16,
    pub(crate) attempt: i32,
    pub(crate) interruptions: i32,
    pub(crate) fence: i64,
    pub(crate) cancel: Option<i16>,
    pub(crate) started_ms: Option<i64>,
    pub(crate) due_ms: Option<i64>,
    pub(crate) finished_ms: Option<i64>,
    pub(crate) progress: Option<&'a [u8]>,
    pub(crate) outcome: Option<&'a [u8]>,
    pub(crate) worker: Option<&'a str>,
}

/// Reads a run whose row has the columns of `runs_1`.
pub(crate) fn read_run(row: &Row) -> Result<Arc<Run>, Failure> {
    let base = read_base(
        get(row, "id")?,
        get(row, "webhook")?,
        get(row, "workflow")?,
        get(row, "fixed")?,
        get(row, "parameters")?,
    )?;
    let changing = Changing {
        state: get(row, "state")?,
        attempt: get(row, "attempt")?,
        interruptions: get(row, "interruptions")?,
        fence: get(row, "fence")?,
        cancel: get(row, "cancel")?,
        started_ms: get(row, "started_ms")?,
        due_ms: get(row, "due_ms")?,
        finished_ms: get(row, "finished_ms")?,
        progress: get(row, "progress")?,
        outcome: get(row, "outcome")?,
        worker: get(row, "claimer")?,
    };
    changed(base, &changing).map(Arc::new)
}

/// A run as it was queued.
pub(crate) fn read_base(
    id: Uuid,
    webhook: Uuid,
    workflow: &str,
    fixed: &[u8],
    parameters: Option<&[u8]>,
) -> Result<RunParts, Failure> {
    let fixed: Fixed<'static> =
        serde_json::from_slice(fixed).map_err(|error| Failure::corrupt("a run", error))?;
    let parameters = match parameters {
        Some(text) => {
            let text = std::str::from_utf8(text).map_err(|error| Failure::corrupt("parameters", error))?;
            RunParameters::from_json(text).map_err(|error| Failure::corrupt("parameters", error))?
        }
        None => RunParameters::default(),
    };
    let workflow = workflow.parse().map_err(|error| Failure::corrupt("a workflow", error))?;
    let queued_at = from_milliseconds(fixed.queued_ms);
    let caller = fixed.caller.into_owned();
    let mut parts = RunParts::new(run_id(id), workflow, webhook_id(webhook), caller, queued_at);
    parts.parameters = parameters;
    parts.max_attempts = fixed.max_attempts;
    parts.retried_from = fixed.retried_from;
    parts.due_at = from_milliseconds(fixed.due_ms);
    Ok(parts)
}

/// A run with other values of what changes.
pub(crate) fn changed(mut parts: RunParts, to: &Changing<'_>) -> Result<Run, Failure> {
    let time = |milliseconds: Option<i64>| milliseconds.map(from_milliseconds);
    let left: Left = match to.outcome {
        Some(text) => serde_json::from_slice(text).map_err(|error| Failure::corrupt("an outcome", error))?,
        None => Left::default(),
    };
    parts.state = shown_state(to.state)?;
    parts.attempt = to.attempt.max(0).unsigned_abs();
    parts.interruptions = to.interruptions.max(0).unsigned_abs();
    parts.fence = to.fence.max(0).unsigned_abs();
    parts.cancel_requested = cancel_reason(to.cancel);
    parts.started_at = time(to.started_ms);
    parts.finished_at = time(to.finished_ms);
    if let Some(due) = time(to.due_ms) {
        parts.due_at = due;
    }
    parts.progress = match to.progress {
        Some(text) => {
            Some(serde_json::from_slice(text).map_err(|error| Failure::corrupt("a progress", error))?)
        }
        None => None,
    };
    parts.summary = left.summary;
    parts.artifacts = left.artifacts;
    parts.error = left.error;
    parts.worker = to.worker.map(str::to_owned);
    Run::from_parts(parts).map_err(|error| Failure::corrupt("a run", error))
}

/// A column of a row.
pub(crate) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: &str) -> Result<T, Failure> {
    row.try_get(column).map_err(|error| Failure::corrupt(column, error))
}

/// The column at this place.
pub(crate) fn at<'a, T: FromSql<'a>>(row: &'a Row, place: usize) -> Result<T, Failure> {
    row.try_get(place).map_err(|error| Failure::corrupt("an answer", error))
}

pub(crate) fn milliseconds(time: SystemTime) -> i64 {
    to_milliseconds(time)
}

pub(crate) fn duration_ms(duration: std::time::Duration) -> i64 {
    // A century, so that the database can add it to any time.
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).min(3_155_760_000_000)
}

/// A value with its type.
macro_rules! typed {
    ($($name:ident: $rust:ty => $type:ident;)+) => {
        $(pub(crate) fn $name(value: &$rust) -> (&(dyn ToSql + Sync), Type) {
            (value, Type::$type)
        })+
    };
}

typed! {
    uuid: Uuid => UUID;
    uuids: Vec<Uuid> => UUID_ARRAY;
    maybe_uuid: Option<Uuid> => UUID;
    long: i64 => INT8;
    maybe_long: Option<i64> => INT8;
    longs: Vec<i64> => INT8_ARRAY;
    maybe_longs: Vec<Option<i64>> => INT8_ARRAY;
    int: i32 => INT4;
    maybe_int: Option<i32> => INT4;
    ints: Vec<i32> => INT4_ARRAY;
    smalls: Vec<i16> => INT2_ARRAY;
    flag: bool => BOOL;
    flags: Vec<bool> => BOOL_ARRAY;
    double: f64 => FLOAT8;
    text: String => TEXT;
    maybe_text: Option<String> => TEXT;
    texts: Vec<String> => TEXT_ARRAY;
    maybe_texts: Option<Vec<String>> => TEXT_ARRAY;
    bytes: Vec<u8> => BYTEA;
    many_bytes: Vec<Vec<u8>> => BYTEA_ARRAY;
    maybe_many_bytes: Vec<Option<Vec<u8>>> => BYTEA_ARRAY;
}

/// Borrowed bytes with their type. No function, since its signature makes clippy 1.95 panic.
macro_rules! slices {
    ($value:expr) => {
        ($value as &(dyn tokio_postgres::types::ToSql + Sync), tokio_postgres::types::Type::BYTEA_ARRAY)
    };
}
pub(crate) use slices;
