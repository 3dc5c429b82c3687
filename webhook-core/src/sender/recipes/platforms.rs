//! Recipes for Shopify, Twilio, Meta, Microsoft Graph, and every sender that follows Standard Webhooks.

use serde_json::json;

use super::recipe::{FieldValue, JSON, Recipe, SecretOrigin, choice, field, sample, step, text};

pub(super) static SHOPIFY: Recipe = Recipe {
    name: "shopify",
    title: "Shopify",
    starts: "An order starts a run for the region in its first additional detail.",
    secret: SecretOrigin::Sender,
    settings: || {
        json!({
            "verification": {"preset": "shopify"},
            "conditions": {"all": [
                {"from": "header", "name": "X-Shopify-Topic", "op": "equals", "value": "orders/create"},
            ]},
            "mapping": [{
                "parameter": "region", "from": "body", "pointer": "/note_attributes/0/value", "default": "EMEA",
            }],
            "pass_through": "none",
        })
    },
    steps: &[
        step("In the admin, open Settings, Notifications, Webhooks, and choose Create webhook.", &[]),
        step(
            "Fill in the form.",
            &[
                choice("Event", "Order creation"),
                choice("Format", "JSON"),
                field("URL", FieldValue::Url),
                choice("Webhook API version", "the newest one that is not a release candidate"),
            ],
        ),
        step(
            "Choose Save. Below the list, Shopify shows the key that your webhooks are signed with: enter it here, as \
             a secret of this webhook.",
            &[],
        ),
        step("Choose Send test notification. Its order has no region, so the default counts.", &[]),
    ],
    sample: sample!(
        "shopify_order.json",
        &[
            JSON,
            ("X-Shopify-Topic", "orders/create"),
            ("X-Shopify-Shop-Domain", "acme.myshopify.example"),
            ("X-Shopify-Webhook-Id", "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"),
        ]
    ),
    parameters: &[("region", "APAC")],
    verified: &[
        "The body, by its HMAC-SHA256 in X-Shopify-Hmac-Sha256.",
        "A repeated call, by its id in X-Shopify-Webhook-Id: it gives the run of the first.",
    ],
    not_verified: &[
        "The headers with the topic, the shop and the id, which Shopify does not sign.",
        "The time of the call, which Shopify does not sign.",
    ],
};

pub(super) static TWILIO: Recipe = Recipe {
    name: "twilio",
    title: "Twilio",
    starts: "A text message APAC to your number starts a run for that region.",
    secret: SecretOrigin::Sender,
    settings: || {
        json!({
            "verification": {"preset": "twilio"},
            "conditions": {"all": [
                {"from": "body", "pointer": "/Body", "op": "one_of", "value": ["EMEA", "APAC", "AMER"]},
            ]},
            "mapping": [{"parameter": "region", "from": "body", "pointer": "/Body"}],
            "pass_through": "none",
        })
    },
    steps: &[
        step(
            "In the Console, under Account Info, show the Auth Token, and enter it here, as a secret of this webhook.",
            &[],
        ),
        step("Open Phone Numbers, Manage, Active numbers, and choose the number.", &[]),
        step(
            "Under Messaging Configuration, fill in the form. Twilio signs the URL as it stands here, so it must begin \
             with the base URL of this server.",
            &[
                choice("A message comes in", "Webhook"),
                field("URL", FieldValue::Url),
                choice("HTTP", "HTTP POST"),
            ],
        ),
        step("Choose Save configuration. Twilio sends no reply, since the answer to it has no body.", &[]),
    ],
    sample: sample!(
        "twilio_message.form",
        &[
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("I-Twilio-Idempotency-Token", "6c8b1fb0-9a3d-4b9a-8d0e-2f6a5c1d7e90"),
        ]
    ),
    parameters: &[("region", "APAC")],
    verified: &[
        "The URL and the fields, by their HMAC-SHA1 in X-Twilio-Signature.",
        "A repeated call, by its id in I-Twilio-Idempotency-Token: it gives the run of the first.",
    ],
    not_verified: &[
        "The borders between fields: Twilio signs names and values one behind the other, so text can move from one \
         field to the next under the same signature. Anyone who tries that needs the URL with its token.",
        "The time of the call, which Twilio does not sign.",
        "The header with the id, which Twilio does not sign.",
    ],
};

pub(super) static META: Recipe = Recipe {
    name: "meta",
    title: "Meta",
    starts: "A WhatsApp message APAC to your business starts a run for that region.",
    secret: SecretOrigin::Sender,
    settings: || {
        json!({
            "verification": {"preset": "meta"},
            "idempotency_from": {"from": "body", "pointer": "/entry/0/changes/0/value/messages/0/id"},
            "conditions": {"all": [
                {"from": "body", "pointer": "/entry/0/changes/0/field", "op": "equals", "value": "messages"},
                {
                    "from": "body", "pointer": "/entry/0/changes/0/value/messages/0/text/body", "op": "one_of",
                    "value": ["EMEA", "APAC", "AMER"],
                },
            ]},
            "mapping": [{
                "parameter": "region", "from": "body", "pointer": "/entry/0/changes/0/value/messages/0/text/body",
            }],
            "pass_through": "none",
        })
    },
    steps: &[
        step(
            "In the App Dashboard, open App settings, Basic, show the App secret, and enter it here, as a secret of \
             this webhook. Choose a verify token, and enter it here in Verify token.",
            &[],
        ),
        step(
            "Open WhatsApp, Configuration, and fill in the form.",
            &[
                field("Callback URL", FieldValue::Url),
                choice("Verify token", "the verify token that you entered here"),
            ],
        ),
        step(
            "Choose Verify and save. Meta checks the URL by a GET, which is answered if the verify token is right, and \
             starts no run.",
            &[],
        ),
        step("Under Webhook fields, subscribe to the messages.", &[choice("messages", "Subscribed")]),
    ],
    sample: sample!("meta_message.json", &[JSON]),
    parameters: &[("region", "APAC")],
    verified: &[
        "The body, by its HMAC-SHA256 in X-Hub-Signature-256.",
        "A repeated message, by its id in the body: it gives the run of the first.",
    ],
    not_verified: &[
        "The time of the call, which Meta does not sign.",
        "Further messages in the same call: the mapping takes the first.",
    ],
};

pub(super) static MICROSOFT_GRAPH: Recipe = Recipe {
    name: "microsoft-graph",
    title: "Microsoft Graph",
    starts: "A change in a folder of OneDrive starts a run. Graph does not send what changed, so each region has its own \
             webhook with the region fixed, here APAC.",
    secret: SecretOrigin::Webhook,
    settings: || {
        json!({
            "verification": {"preset": "microsoft-graph"},
            "conditions": {"all": [
                {"from": "body", "pointer": "/value/0/changeType", "op": "equals", "value": "updated"},
            ]},
            "fixed": {"region": "APAC"},
            "pass_through": "none",
        })
    },
    steps: &[
        step(
            "Graph has no page for subscriptions. Send a POST to https://graph.microsoft.com/v1.0/subscriptions with a \
             JSON object of these members, for example in Graph Explorer.",
            &[
                text("changeType", "updated"),
                field("notificationUrl", FieldValue::Url),
                text("resource", "me/drive/root"),
                choice("expirationDateTime", "a time at most 42300 minutes from now"),
                field("clientState", FieldValue::Secret),
            ],
        ),
        step("Graph checks the URL at once by a POST, which is answered and starts no run.", &[]),
        step("Send a PATCH with a new expirationDateTime before the subscription expires.", &[]),
    ],
    sample: sample!("microsoft_graph_change.json", &[JSON]),
    parameters: &[("region", "APAC")],
    verified: &["The sender, by the clientState of every notification in the body."],
    not_verified: &[
        "The body, which Graph does not sign. HTTPS alone protects it.",
        "The check of the URL, which Graph does not sign. It starts nothing.",
        "The tokens of notifications with resource data, which are JWTs: this server checks no JWT.",
        "A repeated notification: Graph sends no id that is unique.",
    ],
};

pub(super) static STANDARD_WEBHOOKS: Recipe = Recipe {
    name: "standard-webhooks",
    title: "Standard Webhooks",
    starts: "An event of the type sales.loaded starts a run for the region in its data.",
    secret: SecretOrigin::Sender,
    settings: || {
        json!({
            "verification": {"preset": "standard-webhooks"},
            "conditions": {"all": [
                {"from": "body", "pointer": "/type", "op": "equals", "value": "sales.loaded"},
            ]},
            "mapping": [{"parameter": "region", "from": "body", "pointer": "/data/region"}],
            "pass_through": "none",
        })
    },
    steps: &[
        step(
            "At the sender, open the page of its webhooks. With Svix, which many senders use, it is Endpoints, Add \
             Endpoint.",
            &[],
        ),
        step(
            "Fill in the form.",
            &[field("Endpoint URL", FieldValue::Url), choice("Subscribe to events", "sales.loaded")],
        ),
        step(
            "Choose Create. Show the Signing Secret, which starts with whsec_, and enter it here, as a secret of this \
             webhook. A sender that signs with a key pair shows a public key instead, which starts with whpk_.",
            &[],
        ),
    ],
    sample: sample!(
        "standard_webhooks_event.json",
        &[JSON, ("webhook-id", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W")]
    ),
    parameters: &[("region", "APAC")],
    verified: &[
        "The id, the time and the body, by the signatures in webhook-signature or svix-signature. The time may be \
         300 s from now.",
        "A repeated event, by its signed id: it gives the run of the first.",
    ],
    not_verified: &["The query of the URL, which is not signed."],
};
