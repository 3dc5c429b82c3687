//! Tests of the management paths.

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, ETAG, IF_MATCH, LOCATION, WWW_AUTHENTICATE};
use serde_json::{Value, json};
use webhook_core::Webhooks;
use webhook_testing::{DeliverFailure, ScriptedExecutor};

use crate::front::server::Server;
use crate::front::{self, AdminAccess};
use crate::support::{NOBODY, World, content, named, problem};

/// Returns a webhook in its wire form, with these settings changed.
fn expected_webhook(changes: Value) -> Value {
    let mut webhook = json!({
        "id": "ID", "workflow": {"kind": "report", "id": "sales"}, "label": null, "enabled": true,
        "allow_get": true, "strict": false, "token_hint": "HINT", "created_at": "TIME", "updated_at": "TIME",
        "last_used_at": null, "revision": 1, "timeout_s": null,
        "retries": {"max_attempts": 1, "base_s": 10, "factor": 2.0, "cap_s": 600, "jitter": 0.2},
        "concurrency": {"max": null, "on_overlap": "queue"}, "queue_limit": null, "rate_limit": null,
        "verification": null, "idempotency_from": null, "allowed_networks": null, "conditions": null, "mapping": [],
        "pass_through": "all", "fixed": {}, "answer": null, "retention_days": null, "keep_bodies_s": null, "notifications": {"email": null, "slack": null},
    });
    for (name, value) in changes.as_object().unwrap() {
        webhook[name] = value.clone();
    }
    webhook
}

#[tokio::test]
async fn nothing_is_managed_without_the_admin_token() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let requests = [
        (Method::GET, "/workflows".to_owned()),
        (Method::GET, "/webhooks".to_owned()),
        (Method::POST, "/webhooks".to_owned()),
        (Method::GET, format!("/webhooks/{}", hook.id)),
        (Method::PATCH, format!("/webhooks/{}", hook.id)),
        (Method::DELETE, format!("/webhooks/{}", hook.id)),
        (Method::GET, format!("/webhooks/{}/url", hook.id)),
        (Method::POST, format!("/webhooks/{}/refresh-token", hook.id)),
        (Method::POST, format!("/webhooks/{}/run", hook.id)),
        (Method::POST, format!("/webhooks/{}/test-notification", hook.id)),
        (Method::GET, "/webhooks/not-an-id".to_owned()),
        (Method::GET, "/runs".to_owned()),
        (Method::GET, "/events".to_owned()),
        (Method::GET, format!("/runs/{NOBODY}")),
        (Method::GET, format!("/runs/{NOBODY}/log")),
        (Method::GET, format!("/runs/{NOBODY}/artifacts/a")),
        (Method::POST, format!("/runs/{NOBODY}/cancel")),
        (Method::POST, format!("/runs/{NOBODY}/retry")),
        (Method::POST, format!("/deliveries/{NOBODY}/resend")),
    ];
    for (method, path) in requests {
        let url = format!("{}/admin/api/v1{path}", world.base);
        let bare = world.client.request(method.clone(), &url).header("x-request-id", "same");
        let mut bodies = Vec::new();
        for token in [None, Some("wrong"), Some(hook.token())] {
            let request = bare.try_clone().unwrap();
            let request = match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer realm=\"management\"");
            bodies.push(problem(response, 401, "unauthorized").await);
        }
        assert!(bodies.iter().all(|body| body == &bodies[0]), "{method} {path}");
        assert!(bodies[0]["detail"].as_str().unwrap().contains("the admin token"), "{method} {path}");
    }
}

#[tokio::test]
async fn a_webhook_is_created_with_its_url_and_shown_without_it() {
    let world = World::start_idle().await;
    let create = world.admin(Method::POST, "/webhooks").json(&json!({
        "workflow": {"kind": "report", "id": "sales"}, "label": "CI", "timeout_s": 1.5,
        "rate_limit": {"per_minute": 60, "burst": 5},
        "notifications": {"email": {"recipients": ["a@example.com"], "on": ["failure", "success"]}},
    }));
    let response = create.send().await.unwrap();
    let headers = response.headers().clone();
    let created = content(response, 201).await;
    let id = created["webhook"]["id"].as_str().unwrap().to_owned();
    assert_eq!(headers[LOCATION], format!("{}/admin/api/v1/webhooks/{id}", world.base));
    assert_eq!(headers[ETAG], "\"1\"");
    let webhook = expected_webhook(json!({
        "label": "CI", "timeout_s": 1.5, "rate_limit": {"per_minute": 60, "burst": 5},
        "notifications": {"email": {"recipients": ["a@example.com"], "on": ["success", "failure"]}, "slack": null},
    }));
    let url = "BASE/api/v1/report/sales/webhook?token=TOKEN";
    assert_eq!(world.settled(created.clone()), json!({"webhook": webhook, "url": url}));

    let response = world.admin(Method::GET, &format!("/webhooks/{id}")).send().await.unwrap();
    assert_eq!(response.headers()[ETAG], "\"1\"");
    assert_eq!(content(response, 200).await, created["webhook"]);
    let list = content(world.admin(Method::GET, "/webhooks").send().await.unwrap(), 200).await;
    assert_eq!(list, json!({"items": [created["webhook"]], "next_cursor": null}));
    let url =
        content(world.admin(Method::GET, &format!("/webhooks/{id}/url")).send().await.unwrap(), 200).await;
    assert_eq!(url, json!({"url": created["url"]}));

    content(world.post(created["url"].as_str().unwrap()).send().await.unwrap(), 202).await;
    let used = content(world.admin(Method::GET, &format!("/webhooks/{id}")).send().await.unwrap(), 200).await;
    assert_eq!(world.settled(used)["last_used_at"], "TIME");
}

#[tokio::test]
async fn everything_wrong_with_a_new_webhook_is_named() {
    let world = World::start_idle().await;
    let refused = async |body: Value, expected: &[(&str, &str)]| {
        let response = world.admin(Method::POST, "/webhooks").json(&body).send().await.unwrap();
        let answer = problem(response, 422, "settings-invalid").await;
        assert_eq!(named(&answer), expected, "{body}");
    };
    refused(json!({}), &[("workflow", "required")]).await;
    refused(json!({"workflow": "report/sales"}), &[("workflow", "wrong_type")]).await;
    refused(json!({"workflow": {"kind": "report"}}), &[("workflow", "invalid")]).await;
    let more = json!({"workflow": {"kind": "report", "id": "sales", "x": 1}});
    refused(more, &[("workflow.x", "unknown")]).await;
    refused(json!({"workflow": {"kind": "report", "id": "no"}}), &[("workflow", "unknown")]).await;
    refused(json!({"workflow": {"kind": "table", "id": "a"}}), &[("workflow", "unknown")]).await;
    let body = json!({"enabled": 1, "colour": "red"});
    refused(body, &[("workflow", "required"), ("enabled", "wrong_type"), ("colour", "unknown")]).await;
    let malformed = world.admin(Method::POST, "/webhooks").header(CONTENT_TYPE, "application/json");
    let malformed = malformed.body("{\"label\": 1, \"label\": 2}");
    problem(malformed.send().await.unwrap(), 400, "malformed-body").await;
    let list = world.admin(Method::POST, "/webhooks").json(&json!([]));
    problem(list.send().await.unwrap(), 400, "malformed-body").await;
    let form = world.admin(Method::POST, "/webhooks").header(CONTENT_TYPE, "text/plain").body("{}");
    problem(form.send().await.unwrap(), 415, "unsupported-media-type").await;
    let large = world.admin(Method::POST, "/webhooks").body(vec![b' '; 1024 * 1024 + 1]);
    problem(large.send().await.unwrap(), 413, "too-large").await;
}

#[tokio::test]
async fn settings_are_changed_by_a_merge_patch_if_nobody_else_changed_them() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({"label": "CI", "retries": {"max_attempts": 3}})).await;
    let patch = |body: &Value| world.admin(Method::PATCH, &format!("/webhooks/{}", hook.id)).json(body);
    let change = json!({"enabled": false, "label": null, "retries": {"base_s": 2}});
    let response = patch(&change).header(CONTENT_TYPE, "application/merge-patch+json").send().await.unwrap();
    assert_eq!(response.headers()[ETAG], "\"2\"");
    let expected = expected_webhook(json!({
        "enabled": false, "revision": 2,
        "retries": {"max_attempts": 3, "base_s": 2, "factor": 2.0, "cap_s": 600, "jitter": 0.2},
    }));
    assert_eq!(world.settled(content(response, 200).await), expected);

    for stale in ["\"1\"", "W/\"2\"", "\"abc\""] {
        let response = patch(&json!({"enabled": true})).header(IF_MATCH, stale).send().await.unwrap();
        problem(response, 412, "precondition-failed").await;
    }
    for (present, revision) in [("\"2\"", 3), ("\"7\", \"3\"", 4), ("*", 5)] {
        let response = patch(&json!({"enabled": true})).header(IF_MATCH, present).send().await.unwrap();
        assert_eq!(content(response, 200).await["revision"], revision);
    }
    let response = patch(&json!({"timeout_s": -1, "colour": 1})).send().await.unwrap();
    let answer = problem(response, 422, "settings-invalid").await;
    assert_eq!(named(&answer), [("timeout_s", "out_of_range"), ("colour", "unknown")]);
    let nobody = world.admin(Method::PATCH, &format!("/webhooks/{NOBODY}")).json(&json!({}));
    problem(nobody.send().await.unwrap(), 404, "not-found").await;
}

#[tokio::test]
async fn a_deleted_webhook_is_gone_and_its_history_stays() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let accepted = content(world.post(&hook.url).send().await.unwrap(), 202).await;
    let path = format!("/webhooks/{}", hook.id);
    let stale = world.admin(Method::DELETE, &path).header(IF_MATCH, "\"9\"");
    problem(stale.send().await.unwrap(), 412, "precondition-failed").await;
    let response = world.admin(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(content(response, 204).await, Value::Null);
    problem(world.admin(Method::DELETE, &path).send().await.unwrap(), 404, "not-found").await;
    problem(world.admin(Method::GET, &path).send().await.unwrap(), 404, "not-found").await;
    problem(world.post(&hook.url).send().await.unwrap(), 401, "unauthorized").await;
    let run = format!("/runs/{}", accepted["run_id"].as_str().unwrap());
    let run = content(world.admin(Method::GET, &run).send().await.unwrap(), 200).await;
    assert_eq!(run["state"], "cancelled");
}

#[tokio::test]
async fn without_a_key_a_url_cannot_be_shown_again() {
    let world = World::start_idle().await;
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let base = format!("http://{}", server.local_address().unwrap());
    let webhooks = Webhooks::builder().store(world.store.clone()).executor(world.executor.clone());
    let webhooks = webhooks.base_url(base.parse().unwrap()).build().await.unwrap();
    let created = webhooks
        .manage()
        .create_webhook("notebook/train".parse().unwrap(), Default::default())
        .await
        .unwrap();
    let routes = front::management_routes(&webhooks, AdminAccess::Open);
    tokio::spawn(front::serve(server, routes, std::future::pending()));
    let url = format!("{base}/admin/api/v1/webhooks/{}/url", created.webhook.id);
    problem(world.get(&url).send().await.unwrap(), 409, "url-not-recoverable").await;
}

#[tokio::test]
async fn channels_without_an_integration_are_refused() {
    let world = World::start_idle().await;
    let executor: ScriptedExecutor = world.executor.clone();
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let base = format!("http://{}", server.local_address().unwrap());
    let webhooks = Webhooks::builder().store(world.store.clone()).executor(executor);
    let webhooks = webhooks.base_url(base.parse().unwrap()).build().await.unwrap();
    let hook = world.hook_of("notebook/train", json!({})).await;
    let routes = front::management_routes(&webhooks, AdminAccess::Open);
    tokio::spawn(front::serve(server, routes, std::future::pending()));
    let settings = json!({"notifications": {"slack": {"channel": "#ops", "on": ["failure"]}}});
    let patch = world.client.patch(format!("{base}/admin/api/v1/webhooks/{}", hook.id)).json(&settings);
    let answer = problem(patch.send().await.unwrap(), 422, "integration-missing").await;
    assert_eq!(named(&answer), [("notifications.slack", "integration_missing")]);
    let mut body = settings;
    body["workflow"] = json!({"kind": "notebook", "id": "train"});
    let create = world.post(&format!("{base}/admin/api/v1/webhooks")).json(&body);
    problem(create.send().await.unwrap(), 422, "integration-missing").await;
}

#[tokio::test]
async fn lists_go_on_where_a_page_ended() {
    let world = World::start_idle().await;
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.push(world.hook(json!({})).await.id.to_string());
    }
    world.hook_of("notebook/train", json!({})).await;
    expected.reverse();
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/webhooks?workflow=report/sales&limit=2{cursor}");
        let page = content(world.admin(Method::GET, &path).send().await.unwrap(), 200).await;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn workflows_are_listed_with_their_blocks_and_webhooks() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let list = content(world.admin(Method::GET, "/workflows").send().await.unwrap(), 200).await;
    let block = |name: &str, kind: &str| {
        json!({
            "name": name, "type": kind, "default": null, "required": false, "choices": [], "secret": false,
            "description": null,
        })
    };
    let mut region = block("region", "choice");
    region["default"] = json!("EMEA");
    region["choices"] = json!(["EMEA", "APAC"]);
    region["description"] = json!("Which part of the world");
    let mut password = block("password", "text");
    password["secret"] = json!(true);
    let refused = json!({"unauthorized": 0, "last_at": null});
    let expected = json!({"items": [
        {
            "kind": "notebook", "id": "train", "title": "Training", "parameters": [], "unavailable": null, "webhooks": [],
            "refused": refused,
        },
        {
            "kind": "report", "id": "sales", "title": "Sales",
            "parameters": [region, block("count", "integer"), password], "unavailable": null,
            "webhooks": [expected_webhook(json!({}))], "refused": refused,
        },
    ], "next_cursor": null});
    assert_eq!(list["items"][1]["webhooks"][0]["id"], hook.id.to_string());
    assert_eq!(world.settled(list), expected);
    let page = content(world.admin(Method::GET, "/workflows?limit=1").send().await.unwrap(), 200).await;
    let path = format!("/workflows?limit=1&cursor={}", page["next_cursor"].as_str().unwrap());
    let page = content(world.admin(Method::GET, &path).send().await.unwrap(), 200).await;
    assert_eq!((&page["items"][0]["id"], &page["next_cursor"]), (&json!("sales"), &json!(null)));
}

#[tokio::test]
async fn a_test_notification_says_whom_it_reached() {
    let world = World::start_idle().await;
    let settings = json!({"notifications": {
        "email": {"recipients": ["a@example.com", "b@example.com"], "on": ["failure"]},
        "slack": {"channel": "#ops", "on": ["success"]},
    }});
    let hook = world.hook(settings).await;
    world.notifier.fail_next(1, DeliverFailure::Permanent);
    let test = world.admin(Method::POST, &format!("/webhooks/{}/test-notification", hook.id));
    let expected = json!({"items": [
        {"channel": "email", "recipient": "a@example.com", "delivered": false, "error": "told to fail for good"},
        {"channel": "email", "recipient": "b@example.com", "delivered": true, "error": null},
        {"channel": "slack", "recipient": "#ops", "delivered": true, "error": null},
    ]});
    assert_eq!(content(test.send().await.unwrap(), 200).await, expected);
}

#[tokio::test]
async fn a_token_stands_in_no_answer_but_those_that_show_a_url() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let called = world.post(&hook.url).send().await.unwrap();
    assert!(!format!("{:?}", called.headers()).contains("whk_"));
    let accepted = called.text().await.unwrap();
    assert!(!accepted.contains("whk_"));
    let run = serde_json::from_str::<Value>(&accepted).unwrap()["run_id"].as_str().unwrap().to_owned();
    for path in [
        "/workflows".to_owned(),
        "/webhooks".to_owned(),
        format!("/webhooks/{}", hook.id),
        "/runs".to_owned(),
        format!("/runs/{run}"),
    ] {
        let response = world.admin(Method::GET, &path).send().await.unwrap();
        assert!(!format!("{:?}", response.headers()).contains("whk_"));
        assert!(!response.text().await.unwrap().contains("whk_"), "{path}");
    }
}
