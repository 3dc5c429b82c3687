//! Presets: senders whose rules are known.

use schemars::JsonSchema;
use serde::Serialize;
use webhook_core::verification::{Preset, Verification};

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
            event_id: preset.key().place(),
            handshake: preset.handshake().form(),
            success_status: preset.status().unwrap_or(202),
        }
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
    }
}
