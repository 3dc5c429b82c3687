//! Events of runs and calls, as they happen, for live views and for callers that wait for a run's end.
//!
//! Events are news, not records: only a bounded number, in bounded memory, is kept. A reader that falls
//! behind is told so, and reads the runs again.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::calls::CallRecord;
use crate::error::{InvalidName, NameKind};
use crate::id::{RunId, WebhookId, WorkflowKey};
use crate::notifier::Delivery;
use crate::run::{EXCERPT_BYTES, Progress, Run};
use crate::webhook::Webhook;

/// Event of a run, or of calls of a webhook.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Event {
    /// Position of this event in the stream, from which a reader can resume.
    pub cursor: EventCursor,
    /// Id of the run. `None` for an event of calls.
    pub run: Option<RunId>,
    /// Workflow of the run or the webhook.
    pub workflow: WorkflowKey,
    /// Webhook of the run, or the called one.
    pub webhook_id: WebhookId,
    /// The change itself.
    pub change: Change,
    /// Deliveries recorded with the run's end, as they were then. Empty for every other event.
    pub deliveries: Arc<[Delivery]>,
}

/// Change of a run, or calls of a webhook.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Change {
    /// The state changed. Holds the run after the change, with long parameter values cut as by
    /// [`Run::excerpt`].
    State(Arc<Run>),
    /// The executor reported progress.
    Progress(Progress),
    /// The run logged lines.
    Log {
        /// The lines, or their beginning: at most [`EXCERPT_BYTES`] bytes.
        text: String,
        /// True if there is more text in the run's log.
        truncated: bool,
    },
    /// Calls of the webhook were logged.
    Calls {
        /// The newest of them, oldest first: at most [`CALLS_IN_EVENT`].
        calls: Arc<[Arc<CallRecord>]>,
        /// True if there were more.
        truncated: bool,
    },
}

impl Change {
    /// Tells of lines that a run logged, by their beginning.
    #[must_use]
    pub fn of_log(text: &str) -> Self {
        let beginning = &text[..text.floor_char_boundary(EXCERPT_BYTES)];
        Self::Log { text: beginning.to_owned(), truncated: beginning.len() < text.len() }
    }
}

/// Upper bound on the calls in one event.
pub const CALLS_IN_EVENT: usize = 20;

impl Event {
    /// Combines a change with the run that it belongs to, without deliveries.
    #[must_use]
    pub fn new(cursor: EventCursor, run: &Run, change: Change) -> Self {
        let (workflow, webhook_id) = (run.workflow().clone(), run.webhook_id());
        Self { cursor, run: Some(run.id()), workflow, webhook_id, change, deliveries: Arc::default() }
    }

    /// Tells of calls of a webhook, oldest first. It keeps the newest [`CALLS_IN_EVENT`] of them.
    #[must_use]
    pub fn of_calls(cursor: EventCursor, webhook: &Webhook, calls: &[Arc<CallRecord>]) -> Self {
        let newest = &calls[calls.len().saturating_sub(CALLS_IN_EVENT)..];
        let change = Change::Calls { calls: newest.into(), truncated: newest.len() < calls.len() };
        let (workflow, webhook_id) = (webhook.workflow.clone(), webhook.id);
        Self { cursor, run: None, workflow, webhook_id, change, deliveries: Arc::default() }
    }

    /// Sets the deliveries that were recorded with the run's end.
    #[must_use]
    pub fn with_deliveries(mut self, deliveries: Arc<[Delivery]>) -> Self {
        self.deliveries = deliveries;
        self
    }

    /// Returns the approximate size of this event in memory, in bytes.
    #[must_use]
    pub fn bytes_in_memory(&self) -> usize {
        let change = match &self.change {
            Change::State(run) => run.bytes_in_memory(),
            Change::Progress(progress) => progress.message.as_ref().map_or(0, String::len),
            Change::Log { text, .. } => text.len(),
            Change::Calls { calls, .. } => calls.iter().map(|call| call.bytes_in_memory()).sum(),
        };
        let text = |delivery: &Delivery| delivery.last_error.as_ref().map_or(0, String::len);
        let deliveries = self.deliveries.iter().map(|it| size_of_val(it) + it.recipient.len() + text(it));
        size_of_val(self) + change + deliveries.sum::<usize>()
    }
}

/// Position in the stream of events. Its text form is opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventCursor {
    /// Identity of the log that gave it out.
    pub(crate) life: u64,
    /// Number of the event, from 1.
    pub(crate) sequence: u64,
}

impl EventCursor {
    /// Makes the cursor of the event with this number, from 1, in the log with this identity.
    #[must_use]
    pub const fn new(life: u64, sequence: u64) -> Self {
        Self { life, sequence }
    }

    /// Returns the identity of the log that gave it out.
    #[must_use]
    pub fn life(&self) -> u64 {
        self.life
    }

    /// Returns the number of the event.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl fmt::Display for EventCursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}-{}", self.life, self.sequence)
    }
}

impl FromStr for EventCursor {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let parse = || {
            let (life, sequence) = text.split_once('-')?;
            Some(Self { life: u64::from_str_radix(life, 16).ok()?, sequence: sequence.parse().ok()? })
        };
        parse().ok_or(InvalidName::new(NameKind::EventId, "an id that this service gave out"))
    }
}

/// Events after a cursor.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Events {
    /// Events, oldest first.
    pub items: Vec<Event>,
    /// Cursor for the next request.
    pub cursor: EventCursor,
    /// True if events before these were missed, so a view must read everything again.
    pub reset: bool,
}

impl Events {
    /// Combines events, oldest first, with the cursor for the next request.
    #[must_use]
    pub fn new(items: Vec<Event>, cursor: EventCursor) -> Self {
        Self { items, cursor, reset: false }
    }

    /// Reports that events were missed, with the cursor for the next request.
    #[must_use]
    pub fn gap(cursor: EventCursor) -> Self {
        Self { items: Vec::new(), cursor, reset: true }
    }
}
