//! Tests that settings are checked when they are saved, and that the OpenAPI document says what the service takes.

use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Value, json};
use webhook_core::sender::recipes::Recipe;

use super::verified::{SECRET, hook};
use crate::support::description::Description;
use crate::support::{World, content, named, problem};

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

#[tokio::test]
async fn values_that_the_workflow_can_never_take_are_refused_when_they_are_saved() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let path = format!("/webhooks/{}", hook.id);
    let undeclared = json!([{"parameter": "regoin", "from": "method"}]);
    let no_number = json!([{"parameter": "count", "from": "method", "default": "x"}]);
    for (settings, field, code) in [
        (json!({"fixed": {"region": "MARS"}}), "fixed.region", "invalid"),
        (json!({"fixed": {"count": "x"}}), "fixed.count", "invalid"),
        (json!({"fixed": {"password": "canary"}}), "fixed.password", "invalid"),
        (json!({"fixed": {"regoin": 1}, "strict": true}), "fixed.regoin", "invalid"),
        (json!({"mapping": no_number}), "mapping[0].default", "invalid"),
        (json!({"mapping": undeclared, "strict": true}), "mapping[0].parameter", "unknown"),
    ] {
        let patch = world.admin(Method::PATCH, &path).json(&settings).send().await.unwrap();
        let refused = problem(patch, 422, "settings-invalid").await;
        assert_eq!(named(&refused), [(field, code)]);
        let mut webhook = settings.clone();
        webhook["workflow"] = json!({"kind": "report", "id": "sales"});
        let created = world.admin(Method::POST, "/webhooks").json(&webhook).send().await.unwrap();
        assert_eq!(named(&problem(created, 422, "settings-invalid").await), [(field, code)]);
    }
    // Only strict settings refuse an undeclared name, whichever of the two comes last.
    let patch = world.admin(Method::PATCH, &path).json(&json!({"mapping": undeclared, "fixed": {"more": 1}}));
    content(patch.send().await.unwrap(), 200).await;
    let strict = world.admin(Method::PATCH, &path).json(&json!({"strict": true})).send().await.unwrap();
    let refused = problem(strict, 422, "settings-invalid").await;
    assert_eq!(named(&refused), [("fixed.more", "invalid"), ("mapping[0].parameter", "unknown")]);
    let disabled = world.admin(Method::PATCH, &path).json(&json!({"enabled": false})).send().await.unwrap();
    content(disabled, 200).await;
}

#[tokio::test]
async fn a_verification_that_no_secret_fits_is_refused_when_it_is_saved() {
    let world = World::start_idle().await;
    let hook = hook(&world, json!({"verification": {"preset": "github"}})).await;
    let path = format!("/webhooks/{}", hook.id);
    let standard = json!({"verification": {"preset": "standard-webhooks"}});
    let patch = || world.admin(Method::PATCH, &path).json(&standard);
    let refused = problem(patch().send().await.unwrap(), 422, "settings-invalid").await;
    assert_eq!(named(&refused), [("verification", "invalid")]);
    assert!(!refused.to_string().contains(SECRET), "{refused}");
    let stripe = world.admin(Method::PATCH, &path).json(&json!({"verification": {"preset": "stripe"}}));
    content(stripe.send().await.unwrap(), 200).await;
    let secrets = world.admin(Method::GET, &format!("{path}/secrets")).send().await.unwrap();
    let secret = content(secrets, 200).await["items"][0]["id"].as_str().unwrap().to_owned();
    let removed = world.admin(Method::DELETE, &format!("{path}/secrets/{secret}")).send().await.unwrap();
    content(removed, 204).await;
    content(patch().send().await.unwrap(), 200).await;
}
