//! Tests that the OpenAPI document says of settings what the service takes.

use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Value, json};
use webhook_core::sender::recipes::Recipe;

use crate::support::description::Description;
use crate::support::{World, content};

/// Returns the described body of a request.
fn described(path: &str, method: &str) -> Validator {
    let description = Description::shared();
    let operation = &description.item(path).unwrap()[method];
    let mut schema = operation["requestBody"]["content"]["application/json"]["schema"].clone();
    schema["components"] = description.0["components"].clone();
    jsonschema::validator_for(&schema).unwrap()
}

/// Asserts that document and service agree on each patch of a webhook's settings.
async fn check(patches: &[Value], are_taken: bool) {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let path = format!("/webhooks/{}", hook.id);
    let schema = described("/admin/api/v1/webhooks/{id}", "patch");
    for patch in patches {
        assert_eq!(schema.is_valid(patch), are_taken, "described: {patch}");
        let answer = world.admin(Method::PATCH, &path).json(patch).send().await.unwrap();
        content(answer, if are_taken { 200 } else { 422 }).await;
    }
}

#[tokio::test]
async fn the_settings_of_each_recipe_are_as_described_and_taken() {
    let world = World::start_idle().await;
    let schema = described("/admin/api/v1/webhooks", "post");
    for recipe in Recipe::all() {
        let mut webhook = recipe.settings();
        webhook["workflow"] = json!({"kind": "report", "id": "sales"});
        assert!(schema.is_valid(&webhook), "{webhook}");
        let created = world.admin(Method::POST, "/webhooks").json(&webhook).send().await.unwrap();
        content(created, 201).await;
    }
}

#[tokio::test]
async fn what_has_a_default_may_be_left_out_or_null() {
    let hmac = json!({"scheme": "hmac", "algorithm": "sha256", "header": "X-Signature", "encoding": "hex"});
    let mut nulls = hmac.clone();
    for name in ["prefix", "signed", "timestamp_header", "id_header", "tolerance_s"] {
        nulls[name] = Value::Null;
    }
    let place = json!({"parameter": "region", "from": "body", "pointer": "/region"});
    let with_default = json!({"parameter": "region", "from": "method", "default": null});
    let condition = |op: &str, value: Value| json!({"conditions": {"all": [{"from": "header", "name": "X-Event", "op": op, "value": value}]}});
    check(
        &[
            json!({"verification": hmac}),
            json!({"verification": nulls}),
            json!({"verification": {"scheme": "ed25519", "header": "X-Signature", "encoding": "base64"}}),
            json!({"verification": {"scheme": "shared-secret", "header": "X-Key"}}),
            json!({"verification": {"scheme": "basic"}}),
            json!({"verification": {"preset": "stripe"}}),
            json!({"verification": {"preset": "meta"}}),
            json!({"verification": {"preset": "meta", "verify_token": "a verify token"}}),
            json!({"verification": {"preset": "meta", "verify_token": null}}),
            json!({"idempotency_from": {"from": "header", "name": "X-Id"}}),
            json!({"idempotency_from": {"from": "body", "pointer": "/id"}}),
            condition("equals", json!("push")),
            condition("not_equals", json!("ping")),
            condition("one_of", json!(["push", "release"])),
            condition("matches", json!("^pu")),
            condition("exists", json!(false)),
            json!({"mapping": [place]}),
            json!({"mapping": [with_default, {"parameter": "count", "from": "query", "name": "n", "default": 1}]}),
            json!({"mapping": [{"parameter": "region", "from": "raw_body"}]}),
            json!({"pass_through": "declared"}),
            json!({"fixed": {"count": 7, "region": null}}),
            json!({"answer": {"status": 204}}),
            json!({"allowed_networks": ["192.0.2.0/24", "::1"]}),
            json!({"rate_limit": {"per_minute": 60}}),
            json!({"retries": {"max_attempts": 2}}),
            json!({"retries": {"factor": null}}),
            json!({"concurrency": {"on_overlap": "skip"}}),
            json!({"timeout_s": 1.5, "queue_limit": 1, "retention_days": 1, "keep_bodies_s": 60, "label": "A"}),
            json!({
                "verification": null, "idempotency_from": null, "conditions": null, "mapping": null,
                "pass_through": null, "fixed": null, "answer": null, "allowed_networks": null, "rate_limit": null,
                "retries": null, "concurrency": null, "timeout_s": null, "queue_limit": null, "retention_days": null,
                "keep_bodies_s": null, "label": null, "enabled": null, "allow_get": null, "strict": null,
                "notifications": null,
            }),
            json!({}),
        ],
        true,
    )
    .await;
}

#[tokio::test]
async fn what_has_no_default_is_required_and_what_is_no_form_of_a_setting_is_refused() {
    let condition = |condition: Value| json!({"conditions": {"all": [condition]}});
    check(
        &[
            json!({"verification": {}}),
            json!({"verification": {"preset": null}}),
            json!({"verification": {"preset": "bitbucket"}}),
            json!({"verification": {"preset": "github", "scheme": "basic"}}),
            json!({"verification": {"preset": "github", "verify_token": "a verify token"}}),
            json!({"verification": {"scheme": "hmac", "header": "X-Signature", "encoding": "hex"}}),
            json!({"verification": {"scheme": "hmac", "algorithm": "sha256", "encoding": "hex"}}),
            json!({"verification": {"scheme": "hmac", "algorithm": "sha256", "header": "X-Signature"}}),
            json!({"verification": {"scheme": "ed25519", "header": "X-Signature"}}),
            json!({"verification": {"scheme": "shared-secret"}}),
            json!({"verification": {"scheme": "basic", "header": "X-Key"}}),
            json!({"idempotency_from": {}}),
            json!({"idempotency_from": {"from": "header"}}),
            json!({"idempotency_from": {"from": "query", "name": "id"}}),
            json!({"idempotency_from": {"from": "raw_body"}}),
            json!({"conditions": {}}),
            json!({"conditions": {"all": []}}),
            condition(json!({"from": "method", "op": "equals", "value": "POST"})),
            condition(json!({"from": "body", "op": "exists", "value": true})),
            condition(json!({"from": "query", "name": "a", "value": "b"})),
            condition(json!({"from": "query", "name": "a", "op": "equals"})),
            condition(json!({"from": "query", "name": "a", "op": "exists", "value": "true"})),
            json!({"mapping": [{"from": "method"}]}),
            json!({"mapping": [{"parameter": "region"}]}),
            json!({"mapping": [{"parameter": "region", "from": "body", "name": "region"}]}),
            json!({"pass_through": "some"}),
            json!({"answer": {"status": 201}}),
            json!({"allowed_networks": "192.0.2.0/24"}),
            json!({"more": 1}),
        ],
        false,
    )
    .await;
}
