//! How bodies look. An object in an answer has exactly the members that stand here.

use serde_json::{Map, Value, json};
use webhook_core::notifier::DeliveryState;
use webhook_core::run::RunState;

use super::settings;
use crate::contract::problem::Slug;

/// Refers to a schema by its name.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Whether an object of this schema must have some member, so that it cannot be left out.
pub(super) fn has_required(name: &str) -> bool {
    matches!(name, "NewWebhook" | "ResendDeliveries")
}

/// All schemas by name.
pub(super) fn all() -> Value {
    let run = run();
    let mut managed = run.clone();
    managed["caller"] = reference("Caller");
    managed["deliveries"] = list_of("Delivery");
    let mut accepted = json!({"run_id": id(), "state": reference("State"), "status_url": text()});
    let plain = warned(exact(&accepted));
    accepted["run"] = reference("CallerRun");
    let mut all = json!({
        "Any": true,
        "Text": text(),
        "Empty": {"type": "object", "additionalProperties": false},
        "State": {"enum": RunState::ALL.map(RunState::as_str)},
        "WorkflowKey": exact(&json!({"kind": text(), "id": text()})),
        "Problem": problem(),
        "Health": health(),
        "Accepted": plain,
        "Answered": {"oneOf": [warned(exact(&accepted)), reference("DryRun")]},
        "DryRun": warned(exact(&json!({"dry_run": {"const": true}, "parameters": by_name("Parameter")}))),
        "Warning": exact(&json!({
            "parameter": text(), "code": {"enum": ["look_alike", "body_ignored", "more"]}, "message": text(),
        })),
        "Parameter": cut(&json!({"value": true, "source": {"enum": ["default", "query", "body"]}})),
        "CallerRun": exact(&run),
        "Run": cut(&managed),
        "RunPage": page("Run"),
        "Progress": cut(&json!({"fraction": {"type": "number", "minimum": 0, "maximum": 1}, "message": maybe_text()})),
        "Artifact": exact(&json!({
            "name": text(), "content_type": text(), "size": {"type": "integer", "minimum": 0}, "url": text(),
        })),
        "RunError": cut(&json!({
            "kind": {"enum": ["retryable", "fatal", "panicked", "timed_out", "interrupted", "superseded"]},
            "message": text(),
        })),
        "Caller": exact(&json!({
            "method": maybe_text(), "address": maybe_text(), "user_agent": maybe_text(),
            "request_id": maybe_text(), "token_hint": maybe_text(),
        })),
        "Delivery": delivery(),
        "Tested": exact(&json!({"items": {"type": "array", "items": exact(&json!({
            "channel": channel(), "recipient": text(), "delivered": {"type": "boolean"}, "error": maybe_text(),
        }))}})),
        "Url": exact(&json!({"url": text()})),
        "Settings": {"type": "object", "properties": settings::asked(), "additionalProperties": false},
        "NewWebhook": new_webhook(),
        "NewRun": {
            "type": "object", "additionalProperties": false,
            "properties": {"parameters": {"type": ["object", "null"]}},
        },
        "Webhook": exact(&webhook()),
        "CreatedWebhook": exact(&json!({"webhook": reference("Webhook"), "url": text()})),
        "WebhookPage": page("Webhook"),
        "Workflow": cut(&json!({
            "kind": text(), "id": text(), "title": text(), "parameters": list_of("ParameterBlock"),
            "unavailable": maybe_text(), "webhooks": list_of("Webhook"),
        })),
        "WorkflowPage": page("Workflow"),
        "ParameterBlock": cut(&json!({
            "name": text(),
            "type": {"enum": [
                "text", "integer", "number", "boolean", "date", "datetime", "choice", "list", "json",
            ]},
            "default": true, "required": {"type": "boolean"}, "choices": {"type": "array", "items": text()},
            "secret": {"type": "boolean"}, "description": maybe_text(),
        })),
    });
    if let (Value::Object(all), Value::Object(of_deliveries)) = (&mut all, deliveries()) {
        all.extend(of_deliveries);
    }
    all
}

fn delivery() -> Value {
    let mut schema = cut(&json!({
        "id": id(), "run_id": id(), "channel": reference("Channel"), "recipient": text(), "event": event(),
        "state": reference("DeliveryState"), "attempts": count(),
        "last_error": maybe_text(), "next_at": maybe(&time()),
    }));
    schema["properties"]["workflow"] = reference("WorkflowKey");
    schema["properties"]["workflow"]["description"] =
        "The workflow of its run, in lists of notifications".into();
    schema
}

/// What is asked for and answered about deliveries.
fn deliveries() -> Value {
    json!({
        "Channel": channel(),
        "DeliveryState": {"enum": DeliveryState::ALL.map(DeliveryState::as_str)},
        "DeliveryPage": page("Delivery"),
        "ResendDeliveries": {
            "type": "object", "required": ["filter"], "additionalProperties": false,
            "properties": {
                "filter": {
                    "type": "object", "required": ["state"], "additionalProperties": false,
                    "properties": {"state": reference("DeliveryState"), "channel": maybe(&reference("Channel"))},
                },
                "dry_run": {"type": ["boolean", "null"], "description": "Counts them and sends nothing"},
                "cursor": {"type": ["string", "null"], "description": "The `next_cursor` of the call before"},
            },
        },
        "ResentDeliveries": exact(&json!({"matched": count(), "done": count(), "next_cursor": maybe(&id())})),
    })
}

fn run() -> Value {
    json!({
        "id": id(), "workflow": reference("WorkflowKey"), "webhook_id": id(), "state": reference("State"),
        "attempt": count(), "max_attempts": count(), "interruptions": count(), "retried_from": maybe(&id()),
        "queued_at": time(), "started_at": maybe(&time()), "finished_at": maybe(&time()), "due_at": time(),
        "parameters": by_name("Parameter"), "progress": maybe(&reference("Progress")), "summary": maybe_text(),
        "artifacts": list_of("Artifact"), "error": maybe(&reference("RunError")),
    })
}

fn problem() -> Value {
    let types: Vec<String> =
        Slug::ALL.iter().map(|slug| format!("urn:webhook:problem:{}", slug.as_str())).collect();
    let mut types = types;
    types.dedup();
    let error = json!({
        "type": "object", "required": ["code", "message"],
        "properties": {"parameter": text(), "field": text(), "pointer": text(), "code": text(), "message": text()},
    });
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"enum": types}, "title": text(), "status": {"type": "integer"}, "detail": text(),
            "errors": {"type": "array", "items": error},
        },
    })
}

fn new_webhook() -> Value {
    let mut properties = settings::asked();
    properties["workflow"] = reference("WorkflowKey");
    json!({
        "type": "object", "required": ["workflow"], "properties": properties, "additionalProperties": false,
    })
}

fn webhook() -> Value {
    let mut members = settings::answered();
    for (name, schema) in [
        ("id", id()),
        ("workflow", reference("WorkflowKey")),
        ("token_hint", text()),
        ("created_at", time()),
        ("updated_at", time()),
        ("last_used_at", maybe(&time())),
        ("revision", count()),
    ] {
        members[name] = schema;
    }
    members
}

/// An object with these members, all of them and no others.
pub(super) fn exact(members: &Value) -> Value {
    let names: Vec<&String> = members.as_object().into_iter().flat_map(Map::keys).collect();
    json!({"type": "object", "required": names, "properties": members, "additionalProperties": false})
}

/// What is stuck is told beside the status, and left out when nothing is.
fn health() -> Value {
    let mut schema = exact(&json!({"status": {"const": "ok"}}));
    let count = json!({"type": "integer", "minimum": 0});
    schema["properties"]["stuck"] = exact(&json!({"blocked_executors": count, "unrecorded_outcomes": count}));
    schema
}

/// What is accepted and may not be meant so is told in `warnings`, which is left out when there is nothing to tell.
fn warned(mut schema: Value) -> Value {
    schema["properties"]["warnings"] = json!({
        "type": "array", "items": reference("Warning"), "minItems": 1,
        "description": "What the caller should know although the call is accepted, such as a name that looks like a \
             declared one",
    });
    schema
}

/// An object with these members, of which long ones are cut in lists and events.
fn cut(members: &Value) -> Value {
    let mut schema = exact(members);
    schema["properties"]["truncated"] = json!({
        "const": true,
        "description": "Something in this object was cut, as lists and events do with values longer than 1 KiB (1,024 \
             bytes of text; a value that is no text becomes the beginning of its JSON text) and with more than 16 KiB \
             of parameters, 20 artifacts or 20 deliveries of one run. The record by its own address is whole.",
    });
    schema
}

fn page(items: &str) -> Value {
    let mut schema = exact(&json!({"items": list_of(items), "next_cursor": maybe_text()}));
    schema["description"] =
        "At most 1 MiB: a page with long items ends earlier than asked, with a `next_cursor`.".into();
    schema
}

fn list_of(items: &str) -> Value {
    json!({"type": "array", "items": reference(items)})
}

fn by_name(values: &str) -> Value {
    json!({"type": "object", "additionalProperties": reference(values)})
}

pub(super) fn maybe(schema: &Value) -> Value {
    json!({"oneOf": [schema, {"type": "null"}]})
}

pub(super) fn text() -> Value {
    json!({"type": "string"})
}

fn maybe_text() -> Value {
    json!({"type": ["string", "null"]})
}

pub(super) fn id() -> Value {
    json!({"type": "string", "format": "uuid"})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn channel() -> Value {
    json!({"enum": ["email", "slack"]})
}

fn event() -> Value {
    json!({"enum": ["success", "failure"]})
}

/// Of what a channel is told.
pub(super) fn channel_events() -> Value {
    json!({"type": "array", "minItems": 1, "items": event()})
}
