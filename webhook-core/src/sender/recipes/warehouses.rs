//! Recipes for dbt Cloud, Airbyte, Snowflake, BigQuery and Azure Event Grid.

use serde_json::json;

use super::recipe::{FieldValue, JSON, Recipe, SecretOrigin, choice, field, paste, sample, step, text};

pub(super) static DBT_CLOUD: Recipe = Recipe {
    name: "dbt-cloud",
    title: "dbt Cloud",
    starts: "A job that succeeds starts a run for the region after which its environment is named.",
    secret: SecretOrigin::Sender,
    settings: || {
        json!({
            "verification": {"scheme": "hmac", "algorithm": "sha256", "header": "Authorization", "encoding": "hex"},
            "idempotency_from": {"from": "body", "pointer": "/eventId"},
            "conditions": {"all": [
                {"from": "body", "pointer": "/eventType", "op": "equals", "value": "job.run.completed"},
                {"from": "body", "pointer": "/data/runStatus", "op": "equals", "value": "Success"},
            ]},
            "mapping": [{"parameter": "region", "from": "body", "pointer": "/data/environmentName"}],
            "pass_through": "none",
        })
    },
    steps: &[
        step("Open Account settings, Webhooks, and choose Create webhook.", &[]),
        step(
            "Fill in the form.",
            &[
                text("Webhook name", "daily-sales"),
                choice("Events", "Run completed"),
                choice("Jobs", "the jobs that load the sales"),
                field("Endpoint", FieldValue::Url),
            ],
        ),
        step(
            "Choose Save. dbt Cloud then shows the Secret key, this once: enter it here, as a secret of this webhook.",
            &[],
        ),
        step(
            "Choose Test endpoint. Its call is refused until the secret is stored here, and ignored afterwards, since \
             no job has succeeded.",
            &[],
        ),
    ],
    sample: sample!("dbt_cloud_job.json", &[JSON]),
    parameters: &[("region", "APAC")],
    verified: &[
        "The body, by its HMAC-SHA256 in Authorization.",
        "A repeated event, by eventId in the body: it gives the run of the first.",
    ],
    not_verified: &["The time of the call, which is in the body but is not compared with the clock."],
};

pub(super) static AIRBYTE: Recipe = Recipe {
    name: "airbyte",
    title: "Airbyte",
    starts: "A sync that succeeds starts a run for the region after which its connection is named.",
    secret: SecretOrigin::None,
    settings: || {
        json!({
            "idempotency_from": {"from": "body", "pointer": "/data/jobId"},
            "conditions": {"all": [
                {"from": "body", "pointer": "/data/success", "op": "equals", "value": true},
                {
                    "from": "body", "pointer": "/data/connection/name", "op": "one_of",
                    "value": ["EMEA", "APAC", "AMER"],
                },
            ]},
            "mapping": [{"parameter": "region", "from": "body", "pointer": "/data/connection/name"}],
            "pass_through": "none",
        })
    },
    steps: &[
        step("In the workspace, open Settings, Notifications.", &[]),
        step(
            "Switch on the webhook of one event, and enter the URL. Each event has its own.",
            &[choice("Event", "Successful syncs"), field("Webhook URL", FieldValue::Url)],
        ),
        step(
            "Choose Test: its call holds only a text, so it is ignored, and Airbyte shows a success. Then choose Save \
             changes.",
            &[],
        ),
    ],
    sample: sample!("airbyte_notification.json", &[JSON]),
    parameters: &[("region", "APAC")],
    verified: &[
        "The token in the URL, and nothing else.",
        "A repeated call, by jobId in the body: it gives the run of the first.",
    ],
    not_verified: &[
        "The sender and the body: Airbyte signs nothing and sends no header of your choice. Anyone who learns the URL \
         can start runs; allowed networks narrow who may call.",
    ],
};

/// Creates what a procedure needs to call the webhook, and the procedure.
const SNOWFLAKE_PROCEDURE: &str = r#"CREATE OR REPLACE NETWORK RULE webhook_rule
  MODE = EGRESS TYPE = HOST_PORT VALUE_LIST = ('{host}');
CREATE OR REPLACE SECRET webhook_token TYPE = GENERIC_STRING SECRET_STRING = 'the token';
CREATE OR REPLACE SECRET webhook_key TYPE = GENERIC_STRING SECRET_STRING = 'the secret';
CREATE OR REPLACE EXTERNAL ACCESS INTEGRATION webhook_access
  ALLOWED_NETWORK_RULES = (webhook_rule)
  ALLOWED_AUTHENTICATION_SECRETS = (webhook_token, webhook_key)
  ENABLED = TRUE;

CREATE OR REPLACE PROCEDURE start_daily_sales(id STRING, region STRING, day STRING)
  RETURNS STRING
  LANGUAGE PYTHON RUNTIME_VERSION = '3.11' HANDLER = 'run'
  PACKAGES = ('snowflake-snowpark-python', 'requests')
  EXTERNAL_ACCESS_INTEGRATIONS = (webhook_access)
  SECRETS = ('token' = webhook_token, 'key' = webhook_key)
AS $$
import hashlib, hmac, json, time
import _snowflake, requests

def run(session, id, region, day):
    secret = _snowflake.get_generic_secret_string
    body = json.dumps({"id": id, "region": region, "day": day}).encode()
    now = str(int(time.time()))
    signature = hmac.new(secret("key").encode(), now.encode() + b"." + body, hashlib.sha256)
    answer = requests.post("{address}", data=body, timeout=30, headers={
        "Authorization": "Bearer " + secret("token"),
        "Content-Type": "application/json",
        "X-Timestamp": now,
        "X-Signature": signature.hexdigest(),
    })
    answer.raise_for_status()
    return answer.text
$$;
"#;

pub(super) static SNOWFLAKE: Recipe = Recipe {
    name: "snowflake",
    title: "Snowflake",
    starts: "A procedure at the end of a load starts a run for a region and a day.",
    secret: SecretOrigin::Webhook,
    settings: || {
        json!({
            "verification": {
                "scheme": "hmac", "algorithm": "sha256", "header": "X-Signature", "encoding": "hex",
                "signed": "{timestamp}.{body}", "timestamp_header": "X-Timestamp",
            },
            "idempotency_from": {"from": "body", "pointer": "/id"},
            "mapping": [
                {"parameter": "region", "from": "body", "pointer": "/region"},
                {"parameter": "date", "from": "body", "pointer": "/day"},
            ],
            "pass_through": "none",
        })
    },
    steps: &[
        step(
            "A notification integration of the TYPE = WEBHOOK calls only Slack, Teams and PagerDuty. A procedure with \
             an external access integration calls any server, and signs its calls.",
            &[],
        ),
        paste(
            "Run this in a worksheet, with the two secrets in place of the two texts.",
            &[field("webhook_token", FieldValue::Token), field("webhook_key", FieldValue::Secret)],
            SNOWFLAKE_PROCEDURE,
        ),
        paste(
            "Call the procedure, for example in a task AFTER the one that loads the sales. A call with the same id \
             starts no second run.",
            &[],
            "CALL start_daily_sales('load-2026-01-14-APAC', 'APAC', '2026-01-14');\n",
        ),
        step(
            "For tasks that fail, Snowflake sends notifications to Google Pub/Sub or Azure Event Grid: see the recipes \
             for BigQuery and Azure Event Grid.",
            &[],
        ),
    ],
    sample: sample!("snowflake_call.json", &[JSON]),
    parameters: &[("region", "APAC"), ("date", "2026-01-14")],
    verified: &[
        "The time and the body, by the signature that the procedure makes. The time may be 300 s from now.",
        "A repeated call, by id in the body: it gives the run of the first.",
    ],
    not_verified: &["The role that calls the procedure. Snowflake's grants decide who may."],
};

pub(super) static BIGQUERY: Recipe = Recipe {
    name: "bigquery",
    title: "BigQuery via Pub/Sub",
    starts: "A scheduled query that succeeds starts a run for the region after which its dataset is named.",
    secret: SecretOrigin::None,
    settings: || {
        json!({
            "idempotency_from": {"from": "header", "name": "x-goog-pubsub-message-id"},
            "conditions": {"all": [{"from": "body", "pointer": "/state", "op": "equals", "value": "SUCCEEDED"}]},
            "mapping": [{"parameter": "region", "from": "body", "pointer": "/destinationDatasetId"}],
            "pass_through": "none",
        })
    },
    steps: &[
        step(
            "In BigQuery, open Scheduled queries and edit the query. Under Notification options, choose or create a \
             topic.",
            &[text("Cloud Pub/Sub topic", "daily-sales")],
        ),
        step("In Pub/Sub, open the topic and choose Create subscription.", &[]),
        step(
            "Fill in the form. With payload unwrapping, the body is the run of the query itself, and the id of the \
             message is a header. Authentication stays off: a second token in Authorization makes the call be refused.",
            &[
                choice("Delivery type", "Push"),
                field("Endpoint URL", FieldValue::Url),
                choice("Enable authentication", "off"),
                choice("Enable payload unwrapping", "on"),
                choice("Write metadata", "on"),
                choice("Retry policy", "Retry after exponential backoff delay"),
            ],
        ),
        step("Choose Create, then run the query: Schedule backfill, Run one time scheduled query.", &[]),
    ],
    sample: sample!(
        "bigquery_transfer_run.json",
        &[
            ("eventType", "TRANSFER_RUN_FINISHED"),
            ("payloadFormat", "JSON_API_V1"),
            ("x-goog-pubsub-message-id", "14775877918276049"),
            ("x-goog-pubsub-subscription-name", "projects/acme/subscriptions/daily-sales"),
        ]
    ),
    parameters: &[("region", "APAC")],
    verified: &[
        "The token in the URL, and nothing else.",
        "A repeated message, by its id in x-goog-pubsub-message-id: it gives the run of the first.",
    ],
    not_verified: &[
        "Pub/Sub's JWT, which Enable authentication would add: this server checks no JWT. Anyone who learns the URL \
         can start runs.",
        "The body and the headers, which Pub/Sub does not sign.",
    ],
};

pub(super) static EVENT_GRID: Recipe = Recipe {
    name: "azure-event-grid",
    title: "Azure Event Grid",
    starts: "An event of your own type starts a run for the region and the day in its data.",
    secret: SecretOrigin::None,
    settings: || {
        json!({
            "verification": {"preset": "cloudevents"},
            "conditions": {"all": [
                {"from": "body", "pointer": "/type", "op": "equals", "value": "Acme.Sales.DayLoaded"},
            ]},
            "mapping": [
                {"parameter": "region", "from": "body", "pointer": "/data/region"},
                {"parameter": "date", "from": "body", "pointer": "/data/day"},
            ],
            "pass_through": "none",
        })
    },
    steps: &[
        step("Open the topic and choose Event Subscription.", &[]),
        step(
            "Fill in the form.",
            &[
                text("Name", "daily-sales"),
                choice("Event Schema", "Cloud Event Schema v1.0"),
                text("Filter to Event Types", "Acme.Sales.DayLoaded"),
                choice("Endpoint Type", "Web Hook"),
                field("Subscriber Endpoint", FieldValue::Url),
            ],
        ),
        step(
            "Under Delivery, leave Microsoft Entra authentication off: a second token in Authorization makes the call \
             be refused.",
            &[],
        ),
        step(
            "Choose Create. Event Grid checks the URL by an OPTIONS call, which is answered and starts no run.",
            &[],
        ),
    ],
    sample: sample!("eventgrid_cloudevent.json", &[("Content-Type", "application/cloudevents+json")]),
    parameters: &[("region", "APAC"), ("date", "2026-01-14")],
    verified: &[
        "The token in the URL, and nothing else.",
        "A repeated event, by source and id together: it gives the run of the first.",
    ],
    not_verified: &[
        "The sender and the body: neither CloudEvents nor Event Grid signs them, and this server checks no token of \
         Microsoft Entra. Anyone who learns the URL can start runs.",
        "The origin that the OPTIONS call names. Every origin is allowed, since the token admits the call.",
    ],
};
