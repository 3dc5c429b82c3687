//! Fields of queries and headers: each is named, described and typed once, for its reader and for the document.

use std::marker::PhantomData;

use schemars::{Schema, SchemaGenerator, json_schema};
use webhook_core::id::{RunId, WebhookId, WorkflowKey};
use webhook_core::notifier::DeliveryState;
use webhook_core::run::RunState;
use webhook_core::webhook::Channel;

/// Adds a type to the document and returns the reference to it.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// Upper bound on the items of one page.
pub(crate) const MOST_ITEMS: usize = 200;
/// Number of items of a page by default.
pub(crate) const DEFAULT_ITEMS: usize = 50;

/// A field in the form of the document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) schema: SchemaOf,
}

/// A field of a query that is read as a `T`.
pub(crate) struct QueryField<T> {
    pub(crate) field: Field,
    /// Describes a valid value, for people.
    pub(crate) expected: fn() -> String,
    read: PhantomData<fn() -> T>,
}

impl<T> QueryField<T> {
    const fn new(
        name: &'static str,
        description: &'static str,
        schema: SchemaOf,
        expected: fn() -> String,
    ) -> Self {
        Self { field: Field { name, description, schema }, expected, read: PhantomData }
    }
}

pub(crate) const WORKFLOW: QueryField<WorkflowKey> =
    QueryField::new("workflow", "`kind/id`", text, || "kind/id".to_owned());
pub(crate) const WEBHOOK: QueryField<WebhookId> =
    QueryField::new("webhook", "The id of a webhook", text, || "the id of a webhook".to_owned());
pub(crate) const RUN_STATE: QueryField<RunState> =
    QueryField::new("state", "The state they are in", SchemaGenerator::subschema_for::<RunState>, || {
        format!("one of {}", RunState::ALL.map(RunState::as_str).join(", "))
    });
pub(crate) const DELIVERY_STATE: QueryField<DeliveryState> = QueryField::new(
    "state",
    "The state they are in",
    SchemaGenerator::subschema_for::<DeliveryState>,
    delivery_states,
);
pub(crate) const CHANNEL: QueryField<Channel> = QueryField::new(
    "channel",
    "Through which channel they go",
    SchemaGenerator::subschema_for::<Channel>,
    channels,
);
pub(crate) const RUN_OF_DELIVERIES: QueryField<RunId> =
    QueryField::new("run", "The id of the run they tell of", text, || "the id of a run".to_owned());
pub(crate) const RUN_OF_EVENTS: QueryField<RunId> =
    QueryField::new("run", "The id of a run", text, || "a run's id".to_owned());
pub(crate) const OFFSET: QueryField<u64> =
    QueryField::new("offset", "From which byte on", offset, || "a whole number of bytes".to_owned());
pub(crate) const LIMIT: QueryField<usize> = QueryField::new("limit", "How many items at most", limit, || {
    format!("a whole number from 1 to {MOST_ITEMS}")
});

const CURSOR_DESCRIPTION: &str = "The `next_cursor` of the page before";
pub(crate) const CURSOR: Field = cursor::<()>().field;

/// Returns the cursor of a list, which each list reads as an id of its own items.
pub(crate) const fn cursor<T>() -> QueryField<T> {
    QueryField::new("cursor", CURSOR_DESCRIPTION, text, || "a cursor that this list gave out".to_owned())
}

/// Lists the states of deliveries, for people.
pub(crate) fn delivery_states() -> String {
    format!("one of {}", DeliveryState::ALL.map(DeliveryState::as_str).join(", "))
}

/// Describes the names of channels, for people.
pub(crate) fn channels() -> String {
    "the name of a channel, such as email or slack".to_owned()
}

macro_rules! request_headers {
    ($($constant:ident = $name:literal, $description:literal;)*) => {
        $(pub(crate) const $constant: Field = Field { name: $name, description: $description, schema: text };)*
    };
}

request_headers! {
    IDEMPOTENCY_KEY = "Idempotency-Key", "The same key and request give the same run";
    PREFER = "Prefer", "`wait=N` waits up to N seconds, 60 at most, for the run's end (RFC 7240)";
    DRY_RUN = "Webhook-Dry-Run", "Checks everything and starts nothing";
    TRACEPARENT = "traceparent", "The caller's trace (W3C Trace Context)";
    IF_MATCH = "If-Match", "The `ETag` that the webhook must still have";
    IF_NONE_MATCH = "If-None-Match", "What `ETag` said: unchanged, it is 304";
    LAST_EVENT_ID = "Last-Event-ID", "Go on after this event";
    REQUEST_ID = "X-Request-Id", "Taken over if it is 1 to 128 visible ASCII characters";
}

fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string"})
}

fn offset(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 0, "default": 0})
}

fn limit(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 1, "maximum": MOST_ITEMS, "default": DEFAULT_ITEMS})
}
