//! The idempotency key that a sender's own event id makes.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::selector::{CallContent, Selected, Selector};
use crate::parameters::{Payload, Pointer};
use crate::token::{hexadecimal, mask_tokens};
use crate::verification::{Preset, PresetKey, Verification, Verified};

/// Most bytes of a key that is kept as it is.
const KEY_BYTES: usize = 255;

/// The place of the event id: a header, or a value in the body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeySource(pub(super) Selector);

#[cfg(feature = "schema")]
impl schemars::JsonSchema for KeySource {
    fn schema_name() -> Cow<'static, str> {
        "KeySource".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = Selector::json_schema(generator);
        super::selector::leave_out(&["query", "method", "raw_body"], &mut schema);
        schema
    }
}

impl KeySource {
    /// Returns the place of the event id.
    #[must_use]
    pub fn selector(&self) -> &Selector {
        &self.0
    }
}

/// The idempotency key of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKey {
    /// The webhook says nothing of it: the `Idempotency-Key` header counts.
    FromCaller,
    /// The call has no event id.
    Absent,
    /// The call has this key.
    Key(String),
}

/// Finds the key of a call: by the setting, or else by the preset.
#[must_use]
pub fn event_key(
    setting: Option<&KeySource>,
    verification: Option<&Verification>,
    verified: &Verified,
    content: &CallContent<'_>,
) -> EventKey {
    if let Some(KeySource(selector)) = setting {
        return selected_key(selector, content);
    }
    match verification.and_then(Verification::preset).map_or(PresetKey::None, Preset::key) {
        PresetKey::None => EventKey::FromCaller,
        // Anyone who repeats a call can change an id that is not signed.
        PresetKey::Header(_) if verified.id.is_some() => key(verified.id.as_deref().unwrap_or_default()),
        PresetKey::Header(name) => selected_key(&Selector::header(name), content),
        PresetKey::Body(pointer) => body_key(pointer, content.payload),
        PresetKey::CloudEvent => cloud_event_key(content),
    }
}

fn selected_key(selector: &Selector, content: &CallContent<'_>) -> EventKey {
    match selector.select(content) {
        Selected::Text(text) => key(&text),
        Selected::Value(value) => scalar(&value).map_or(EventKey::Absent, |text| key(&text)),
        Selected::Missing | Selected::NotText => EventKey::Absent,
    }
}

fn body_key(pointer: &str, payload: &Payload<'_>) -> EventKey {
    let text = value_at(payload, pointer).and_then(|value| scalar(&value).map(Cow::into_owned));
    text.map_or(EventKey::Absent, |text| key(&text))
}

fn value_at<'a>(payload: &'a Payload<'_>, pointer: &str) -> Option<Cow<'a, Value>> {
    payload.find(&pointer.parse::<Pointer>().ok()?)
}

fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

/// Makes a key of a text: the text itself where stores can keep it so, and otherwise its hash.
fn key(text: &str) -> EventKey {
    let is_visible = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let holds_token = matches!(mask_tokens(text), Cow::Owned(_));
    if text.is_empty() {
        EventKey::Absent
    } else if text.len() <= KEY_BYTES && is_visible && !holds_token {
        EventKey::Key(text.to_owned())
    } else {
        hashed(&[text])
    }
}

/// Makes one key of several texts. Each is preceded by its length, so no two lists of texts share their bytes.
fn hashed(texts: &[&str]) -> EventKey {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    EventKey::Key(format!("sha256:{}", hexadecimal(&hash.finalize())))
}

/// Names an event by source and id together, and a batch by all of its events: another batch may begin with the same.
fn cloud_event_key(content: &CallContent<'_>) -> EventKey {
    let header = |name| match Selector::header(name).select(content) {
        Selected::Text(text) => Some(text),
        _ => None,
    };
    if let Some(id) = header("ce-id") {
        return hashed(&[&header("ce-source").unwrap_or_default(), &id]);
    }
    let Some(body) = value_at(content.payload, "") else { return EventKey::Absent };
    let events = match &*body {
        Value::Array(events) => events.as_slice(),
        event => std::slice::from_ref(event),
    };
    let mut texts = Vec::with_capacity(2 * events.len());
    for event in events {
        let Some(id) = event["id"].as_str().filter(|id| !id.is_empty()) else { return EventKey::Absent };
        texts.extend([event["source"].as_str().unwrap_or_default(), id]);
    }
    if texts.is_empty() { EventKey::Absent } else { hashed(&texts) }
}
