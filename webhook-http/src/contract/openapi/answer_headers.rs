//! Headers of answers, beside those that every HTTP answer has.

use serde_json::{Map, Value, json};

/// Returns the meaning of a header, and the schema of its value.
fn meaning(name: &str) -> (&'static str, Value) {
    let positive = || json!({"type": "integer", "minimum": 1});
    let count = || json!({"type": "integer", "minimum": 0});
    match name {
        "X-Request-Id" => ("The id of the request, given or made", text()),
        "Location" => ("Where what was made can be read; it holds no token", text()),
        "ETag" => (
            "Stands for what was sent: the revision of a webhook, for `If-Match`; else for `If-None-Match`",
            text(),
        ),
        "Idempotency-Replayed" => {
            ("The call was answered before: this is the same run", json!({"const": "true"}))
        }
        "Allow" => ("The methods that start a run", text()),
        "WebHook-Allowed-Origin" => ("Who may call, by the rules of CloudEvents", text()),
        "WebHook-Allowed-Rate" => ("Calls a minute, or `*`, by the rules of CloudEvents", text()),
        "Preference-Applied" => ("How long the answer would have waited (RFC 7240)", text()),
        "Retry-After" => ("After how many seconds to try again", positive()),
        "Accept-Encoding" => {
            ("There when the body's coding, and not its media type, is refused", json!({"const": "identity"}))
        }
        "WWW-Authenticate" => ("The token is presented as Bearer (RFC 6750)", text()),
        "Webhook-Log-Offset" => ("The byte of the log that this text begins with", count()),
        "Webhook-Log-End" => ("The `offset` at which to go on reading", count()),
        "Content-Disposition" => ("Whether to show it or to save it, and by which name (RFC 6266)", text()),
        "Content-Security-Policy" => ("What a browser lets the content do: next to nothing", text()),
        "X-Accel-Buffering" => ("Asks a reverse proxy to pass events on at once", json!({"const": "no"})),
        _ => ("", text()),
    }
}

pub(super) fn described(name: &str, required: bool) -> Value {
    let (description, schema) = meaning(name);
    json!({"description": description, "required": required, "schema": schema})
}

/// Returns the headers that every answer has.
pub(super) fn common() -> Map<String, Value> {
    always(&["X-Request-Id"])
}

/// Returns the headers of a problem with this status.
pub(super) fn of_problem(status: u16) -> Map<String, Value> {
    match status {
        401 => always(&["X-Request-Id", "WWW-Authenticate"]),
        405 => always(&["X-Request-Id", "Allow"]),
        415 => {
            let mut headers = common();
            headers.insert("Accept-Encoding".to_owned(), described("Accept-Encoding", false));
            headers
        }
        429 | 503 => always(&["X-Request-Id", "Retry-After"]),
        _ => common(),
    }
}

fn always(names: &[&str]) -> Map<String, Value> {
    names.iter().map(|name| ((*name).to_owned(), described(name, true))).collect()
}

fn text() -> Value {
    json!({"type": "string"})
}
