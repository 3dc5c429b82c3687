//! Recipes for Grafana and Alertmanager.

use serde_json::json;

use super::recipe::{FieldValue, JSON, Recipe, SecretOrigin, choice, field, paste, sample, step, text};

pub(super) static GRAFANA: Recipe = Recipe {
    name: "grafana",
    title: "Grafana",
    starts: "An alert that begins to fire starts a run for the region in its labels.",
    secret: SecretOrigin::Webhook,
    settings: || {
        json!({
            "verification": {
                "scheme": "hmac", "algorithm": "sha256", "header": "X-Grafana-Alerting-Signature", "encoding": "hex",
                "signed": "{timestamp}:{body}", "timestamp_header": "X-Grafana-Alerting-Timestamp",
            },
            "conditions": {"all": [{"from": "body", "pointer": "/status", "op": "equals", "value": "firing"}]},
            "mapping": [{
                "parameter": "region", "from": "body", "pointer": "/commonLabels/region", "default": "EMEA",
            }],
            "pass_through": "none",
        })
    },
    steps: &[
        step("Open Alerting, Contact points, and choose Create contact point.", &[]),
        step(
            "Fill in the form. The token stands in a field that Grafana stores safely, and not in the URL, which \
             Grafana shows to everybody who may read contact points.",
            &[
                choice("Integration", "Webhook"),
                field("URL", FieldValue::Address),
                choice("Optional Webhook settings, HTTP Method", "POST"),
                text("Authorization Header - Scheme", "Bearer"),
                field("Authorization Header - Credentials", FieldValue::Token),
                choice("Disable resolved message", "on"),
            ],
        ),
        step(
            "Under Optional Webhook settings, HMAC Signature (Grafana 12), fill in all three fields.",
            &[
                field("Secret", FieldValue::Secret),
                text("Header", "X-Grafana-Alerting-Signature"),
                text("Timestamp Header", "X-Grafana-Alerting-Timestamp"),
            ],
        ),
        step(
            "Choose Test: its call has no region, so the default counts. Then choose Save contact point, and name it \
             in a notification policy whose alert rules have a label region.",
            &[],
        ),
    ],
    sample: sample!("grafana_alert.json", &[JSON]),
    parameters: &[("region", "APAC")],
    verified: &[
        "The time and the body, by the signature in X-Grafana-Alerting-Signature. The time may be 300 s from now.",
    ],
    not_verified: &[
        "A repeated notification: Grafana sends no id. As long as an alert fires, each Repeat interval starts a run.",
    ],
};

pub(super) static ALERTMANAGER: Recipe = Recipe {
    name: "alertmanager",
    title: "Alertmanager",
    starts: "An alert that begins to fire starts a run for the region in its labels.",
    secret: SecretOrigin::None,
    settings: || {
        json!({
            "conditions": {"all": [{"from": "body", "pointer": "/status", "op": "equals", "value": "firing"}]},
            "mapping": [{"parameter": "region", "from": "body", "pointer": "/commonLabels/region"}],
            "pass_through": "none",
        })
    },
    steps: &[
        step(
            "Write the token into a file that only Alertmanager reads.",
            &[field("/etc/alertmanager/webhook.token", FieldValue::Token)],
        ),
        paste(
            "Add a receiver to alertmanager.yml. The token is sent in a header, so it stands in no configuration.",
            &[],
            "\
receivers:
  - name: run-report
    webhook_configs:
      - url: {address}
        send_resolved: false
        http_config:
          authorization:
            type: Bearer
            credentials_file: /etc/alertmanager/webhook.token
",
        ),
        step(
            "Name the receiver in a route whose group_by has region, so that the alerts of a call share it. Then \
             reload Alertmanager.",
            &[],
        ),
    ],
    sample: sample!("alertmanager_v4.json", &[JSON]),
    parameters: &[("region", "APAC")],
    verified: &["The token, which is a secret of Alertmanager's own."],
    not_verified: &[
        "The body, which Alertmanager does not sign. HTTPS alone protects it; allowed networks narrow who may call.",
        "A repeated notification: Alertmanager sends no id. As long as an alert fires, each repeat_interval starts a run.",
    ],
};
