//! Recipes for Linear, Sentry and Trello.

use serde_json::json;

use super::recipe::{FieldValue, JSON, Recipe, SecretOrigin, choice, field, sample, step, text};

pub(super) static LINEAR: Recipe = Recipe {
    name: "linear",
    title: "Linear",
    starts: "An issue that is completed starts a run for the region after which its team is named.",
    secret: SecretOrigin::Sender,
    settings: || {
        json!({
            "verification": {"preset": "linear"},
            "conditions": {"all": [
                {"from": "body", "pointer": "/type", "op": "equals", "value": "Issue"},
                {"from": "body", "pointer": "/action", "op": "equals", "value": "update"},
                {"from": "body", "pointer": "/data/state/type", "op": "equals", "value": "completed"},
                {"from": "body", "pointer": "/updatedFrom/stateId", "op": "exists", "value": true},
            ]},
            "mapping": [{"parameter": "region", "from": "body", "pointer": "/data/team/key"}],
            "pass_through": "none",
        })
    },
    steps: &[
        step("Open Settings, API, Webhooks, and choose New webhook.", &[]),
        step(
            "Fill in the form.",
            &[
                text("Label", "daily-sales"),
                field("URL", FieldValue::Url),
                choice("Data change events", "Issues"),
                choice("Team selection", "All public teams"),
            ],
        ),
        step(
            "Choose Create webhook. Open it, show the Signing secret, and enter it here, as a secret of this webhook.",
            &[],
        ),
    ],
    sample: sample!(
        "linear_issue.json",
        &[JSON, ("Linear-Event", "Issue"), ("Linear-Delivery", "234d1a4e-b617-4388-90fe-adc3633d6b72"),]
    ),
    parameters: &[("region", "APAC")],
    verified: &[
        "The body, by its HMAC-SHA256 in Linear-Signature.",
        "The time, which is in the signed body. It may be 300 s from now.",
        "A repeated call, by its id in Linear-Delivery: it gives the run of the first.",
    ],
    not_verified: &["The headers with the event and the id of the delivery, which Linear does not sign."],
};

pub(super) static SENTRY: Recipe = Recipe {
    name: "sentry",
    title: "Sentry",
    starts: "An alert rule starts a run for the region after which the environment of its event is named.",
    secret: SecretOrigin::Sender,
    settings: || {
        json!({
            "verification": {"preset": "sentry"},
            "conditions": {"all": [
                {"from": "header", "name": "Sentry-Hook-Resource", "op": "equals", "value": "event_alert"},
            ]},
            "mapping": [{"parameter": "region", "from": "body", "pointer": "/data/event/environment"}],
            "pass_through": "none",
        })
    },
    steps: &[
        step(
            "Open Settings, Custom Integrations, choose Create New Integration, and then Internal Integration.",
            &[],
        ),
        step(
            "Fill in the form.",
            &[
                text("Name", "daily-sales"),
                field("Webhook URL", FieldValue::Url),
                choice("Alert Rule Action", "on"),
            ],
        ),
        step(
            "Choose Save Changes. Under Credentials, Sentry shows the Client Secret: enter it here, as a secret of this \
             webhook.",
            &[],
        ),
        step(
            "In an alert rule, add an action that notifies the integration.",
            &[choice("Send a notification via an integration", "daily-sales")],
        ),
    ],
    sample: sample!("sentry_alert.json", &[JSON, ("Sentry-Hook-Resource", "event_alert")]),
    parameters: &[("region", "APAC")],
    verified: &[
        "The body, by its HMAC-SHA256 in Sentry-Hook-Signature.",
        "A repeated event, by event_id in the body: it gives the run of the first.",
    ],
    not_verified: &[
        "The header with the kind of the event, which Sentry does not sign.",
        "The time of the call, which Sentry does not sign.",
    ],
};

pub(super) static TRELLO: Recipe = Recipe {
    name: "trello",
    title: "Trello",
    starts: "A card that is moved to the list Done starts a run for the region after which its board is named.",
    secret: SecretOrigin::Sender,
    settings: || {
        json!({
            "verification": {"preset": "trello"},
            "conditions": {"all": [
                {"from": "body", "pointer": "/action/type", "op": "equals", "value": "updateCard"},
                {"from": "body", "pointer": "/action/data/listAfter/name", "op": "equals", "value": "Done"},
            ]},
            "mapping": [{"parameter": "region", "from": "body", "pointer": "/action/data/board/name"}],
            "pass_through": "none",
        })
    },
    steps: &[
        step(
            "At trello.com/power-ups/admin, open the Power-Up or create one. Under API key, show the Secret, and enter \
             it here, as a secret of this webhook.",
            &[],
        ),
        step(
            "Trello has no page for webhooks. Send a POST to https://api.trello.com/1/webhooks with the API key and a \
             token of Trello, and with these parameters.",
            &[
                text("description", "daily-sales"),
                field("callbackURL", FieldValue::Url),
                choice("idModel", "the id of the board"),
            ],
        ),
        step("Trello checks the URL at once by a HEAD, which is answered and starts no run.", &[]),
    ],
    sample: sample!("trello_card.json", &[JSON]),
    parameters: &[("region", "APAC")],
    verified: &[
        "The body and the URL, by their HMAC-SHA1 in X-Trello-Webhook.",
        "A repeated action, by its id in the body: it gives the run of the first.",
    ],
    not_verified: &["The time of the call, which Trello does not sign."],
};
