//! Presets: senders whose rules are known.

use schemars::JsonSchema;
use serde::Serialize;
use webhook_core::verification::{Handshake, Preset, PresetKey, Verification};

/// Senders whose rules are known.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Presets {
    items: Vec<PresetView>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct PresetView {
    preset: Preset,
    /// Name for people.
    title: &'static str,
    /// False where the token in the URL is all.
    needs_secret: bool,
    /// Place of the event id: the name of a header, or a pointer into the body.
    event_id: Option<&'static str>,
    /// Call by which the sender checks the URL. It starts no run.
    handshake: Option<&'static str>,
    /// Status of an accepted call.
    success_status: u16,
}

impl Presets {
    pub(crate) fn all() -> Self {
        Self { items: Preset::all().map(PresetView::new).collect() }
    }
}

impl PresetView {
    fn new(preset: Preset) -> Self {
        Self {
            preset,
            title: preset.title(),
            needs_secret: Verification::from(preset).needs_secret(),
            event_id: event_id(preset.key()),
            handshake: handshake(preset.handshake()),
            success_status: preset.status().unwrap_or(202),
        }
    }
}

fn event_id(key: PresetKey) -> Option<&'static str> {
    match key {
        PresetKey::Header(name) => Some(name),
        PresetKey::Body(pointer) => Some(pointer),
        PresetKey::CloudEvent => Some("source and id"),
        _ => None,
    }
}

fn handshake(handshake: Handshake) -> Option<&'static str> {
    match handshake {
        Handshake::GitHubPing => Some("signed ping"),
        Handshake::SlackChallenge => Some("signed url_verification"),
        Handshake::MetaChallenge => Some("GET with hub.challenge and the verify token"),
        Handshake::GraphToken => Some("POST with validationToken"),
        Handshake::Head => Some("HEAD"),
        Handshake::CloudEvents => Some("OPTIONS with WebHook-Request-Origin, or SubscriptionValidation"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_preset_is_shown_with_all_that_its_user_has_to_know() {
        let shown = serde_json::to_value(Presets::all()).unwrap();
        let find = |name: &str| shown["items"].as_array().unwrap().iter().find(|item| item["preset"] == name);
        let github = json!({
            "preset": "github", "title": "GitHub", "needs_secret": true, "event_id": "X-GitHub-Delivery",
            "handshake": "signed ping", "success_status": 202,
        });
        assert_eq!(find("github"), Some(&github));
        assert_eq!(find("cloudevents").unwrap()["needs_secret"], false);
        assert_eq!(find("linear").unwrap()["success_status"], 200);
        // Whoever adds a kind of handshake has to say here what it is.
        for (preset, item) in Preset::all().zip(shown["items"].as_array().unwrap()) {
            assert_eq!(item["handshake"].is_null(), preset.handshake() == Handshake::None, "{item}");
            assert_eq!(item["event_id"].is_null(), preset.key() == PresetKey::None, "{item}");
        }
    }
}
