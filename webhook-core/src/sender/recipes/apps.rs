//! Recipes for GitHub, GitLab, Stripe and Slack.

use serde_json::json;

use super::recipe::{FieldValue, JSON, Recipe, SecretOrigin, choice, field, sample, step, text};

pub(super) static GITHUB: Recipe = Recipe {
    name: "github",
    title: "GitHub",
    starts: "A push to the branch main starts a run for the region of the repository.",
    secret: SecretOrigin::Webhook,
    settings: || {
        json!({
            "verification": {"preset": "github"},
            "conditions": {"all": [
                {"from": "header", "name": "X-GitHub-Event", "op": "equals", "value": "push"},
                {"from": "body", "pointer": "/ref", "op": "equals", "value": "refs/heads/main"},
            ]},
            "mapping": [{"parameter": "region", "from": "body", "pointer": "/repository/custom_properties/region"}],
            "pass_through": "none",
        })
    },
    steps: &[
        step(
            "In the organization, open Settings, Custom properties, and give the repository a property region. In a \
             repository without an organization, set the region as a fixed parameter instead.",
            &[],
        ),
        step("In the repository, open Settings, Webhooks, and choose Add webhook.", &[]),
        step(
            "Fill in the form.",
            &[
                field("Payload URL", FieldValue::Url),
                choice("Content type", "application/json"),
                field("Secret", FieldValue::Secret),
                choice("SSL verification", "Enable SSL verification"),
                choice("Which events would you like to trigger this webhook?", "Just the push event."),
                choice("Active", "on"),
            ],
        ),
        step(
            "Choose Add webhook. GitHub sends a ping at once: it is answered with 200 and starts no run. Recent \
             Deliveries shows every call, and Redeliver repeats one under the same id.",
            &[],
        ),
    ],
    sample: sample!(
        "github_push.json",
        &[JSON, ("X-GitHub-Event", "push"), ("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),]
    ),
    parameters: &[("region", "APAC")],
    verified: &[
        "The body, by its HMAC-SHA256 in X-Hub-Signature-256.",
        "A repeated delivery, by its id in X-GitHub-Delivery: it gives the run of the first.",
    ],
    not_verified: &[
        "The headers with the event and the id of the delivery, which GitHub does not sign.",
        "The time of the call, which GitHub does not send.",
    ],
};

pub(super) static GITLAB: Recipe = Recipe {
    name: "gitlab",
    title: "GitLab",
    starts: "A pipeline that succeeds starts a run for the region in its first variable.",
    secret: SecretOrigin::Webhook,
    settings: || {
        json!({
            "verification": {"preset": "gitlab"},
            "conditions": {"all": [
                {"from": "body", "pointer": "/object_kind", "op": "equals", "value": "pipeline"},
                {"from": "body", "pointer": "/object_attributes/status", "op": "equals", "value": "success"},
            ]},
            "mapping": [{"parameter": "region", "from": "body", "pointer": "/object_attributes/variables/0/value"}],
            "pass_through": "none",
        })
    },
    steps: &[
        step("In the project, open Settings, Webhooks, and choose Add new webhook.", &[]),
        step(
            "Fill in the form. From GitLab 19.1 on, a Signing token protects the body as well: generate it at GitLab \
             and enter it here instead of a Secret token.",
            &[
                field("URL", FieldValue::Url),
                field("Secret token", FieldValue::Secret),
                choice("Trigger", "Pipeline events"),
                choice("SSL verification", "Enable SSL verification"),
            ],
        ),
        step(
            "Choose Add webhook, then Test, Pipeline events. GitLab sends the newest pipeline of the project.",
            &[],
        ),
    ],
    sample: sample!(
        "gitlab_pipeline.json",
        &[
            JSON,
            ("X-Gitlab-Event", "Pipeline Hook"),
            ("Idempotency-Key", "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"),
        ]
    ),
    parameters: &[("region", "APAC")],
    verified: &[
        "The sender, by the Secret token in X-Gitlab-Token.",
        "With a Signing token instead: id, time and body, by the signature in webhook-signature.",
        "A repeated call, by Idempotency-Key (from GitLab 17.4 on): it gives the run of the first.",
    ],
    not_verified: &[
        "With a Secret token, the body, which GitLab then does not sign. HTTPS alone protects it.",
        "With a Secret token, the time of the call.",
    ],
};

pub(super) static STRIPE: Recipe = Recipe {
    name: "stripe",
    title: "Stripe",
    starts: "A charge that succeeds starts a run for the region in its metadata.",
    secret: SecretOrigin::Sender,
    settings: || {
        json!({
            "verification": {"preset": "stripe"},
            "conditions": {"all": [
                {"from": "body", "pointer": "/type", "op": "equals", "value": "charge.succeeded"},
            ]},
            "mapping": [{
                "parameter": "region", "from": "body", "pointer": "/data/object/metadata/region", "default": "EMEA",
            }],
            "pass_through": "none",
        })
    },
    steps: &[
        step("Open Workbench, Webhooks, and choose Add destination.", &[]),
        step(
            "Choose the events, and then the type of the destination.",
            &[
                choice("Events from", "Your account"),
                choice("Events", "charge.succeeded"),
                choice("Destination type", "Webhook endpoint"),
                field("Endpoint URL", FieldValue::Url),
            ],
        ),
        step(
            "Choose Create destination. Under Signing secret, choose Reveal, and enter the text that starts with \
             whsec_ here, as a secret of this webhook.",
            &[],
        ),
        step(
            "Choose Send test events. Until the secret is stored here, Stripe's calls are refused, and Stripe repeats \
             them.",
            &[],
        ),
    ],
    sample: sample!("stripe_event.json", &[JSON]),
    parameters: &[("region", "APAC")],
    verified: &[
        "The time and the body, by the signatures in Stripe-Signature. The time may be 300 s from now.",
        "A repeated event, by its id in the body: it gives the run of the first.",
    ],
    not_verified: &["The order of events, which Stripe does not keep."],
};

pub(super) static SLACK: Recipe = Recipe {
    name: "slack",
    title: "Slack",
    starts: "The slash command /daily-sales APAC starts a run for that region.",
    secret: SecretOrigin::Sender,
    settings: || {
        json!({
            "verification": {"preset": "slack"},
            "conditions": {"all": [
                {"from": "body", "pointer": "/command", "op": "equals", "value": "/daily-sales"},
            ]},
            "mapping": [{"parameter": "region", "from": "body", "pointer": "/text"}],
            "pass_through": "none",
        })
    },
    steps: &[
        step(
            "At api.slack.com/apps, open the app or create one. Under Basic Information, App Credentials, show the \
             Signing Secret, and enter it here, as a secret of this webhook.",
            &[],
        ),
        step(
            "Under Slash Commands, choose Create New Command and fill in the form.",
            &[
                text("Command", "/daily-sales"),
                field("Request URL", FieldValue::Url),
                text("Short Description", "Makes the sales report of a region"),
                text("Usage Hint", "EMEA, APAC or AMER"),
            ],
        ),
        step("Choose Save, then Install App, and type the command in a channel: /daily-sales APAC.", &[]),
        step(
            "For events instead of a command, enter the URL under Event Subscriptions, Request URL. Slack's check of \
             the URL is answered once its signature fits, so store the secret first.",
            &[],
        ),
    ],
    sample: sample!("slack_slash_command.form", &[("Content-Type", "application/x-www-form-urlencoded")]),
    parameters: &[("region", "APAC")],
    verified: &[
        "The time and the body, by the signature in X-Slack-Signature. The time may be 300 s from now.",
        "A repeated event, by event_id in the body: it gives the run of the first.",
    ],
    not_verified: &["A repeated slash command, which has no id. Slack does not repeat commands by itself."],
};
