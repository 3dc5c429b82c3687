//! Tests of the management paths of runs.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::LOCATION;
use serde_json::{Value, json};
use webhook_testing::{DeliverFailure, Step};

use crate::support::{ADMIN, NOBODY, World, content, named, problem};

#[tokio::test]
async fn runs_are_listed_by_workflow_webhook_and_state() {
    let world = World::start_idle().await;
    let (hook, other) = (world.hook(json!({})).await, world.hook_of("notebook/train", json!({})).await);
    let mut ids = Vec::new();
    for url in [&hook.url, &other.url, &hook.url] {
        let accepted = content(world.post(url).send().await.unwrap(), 202).await;
        ids.push(accepted["run_id"].as_str().unwrap().to_owned());
    }
    let cancel = world.admin(Method::POST, &format!("/runs/{}/cancel", ids[0]));
    assert_eq!(content(cancel.send().await.unwrap(), 200).await["state"], "cancelled");
    let list = async |query: &str| {
        let response = world.admin(Method::GET, &format!("/runs{query}")).send().await.unwrap();
        let page = content(response, 200).await;
        let items = page["items"].as_array().unwrap().clone();
        let ids = items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        (ids, page["next_cursor"].clone())
    };
    let (newest, middle, oldest) = (ids[2].clone(), ids[1].clone(), ids[0].clone());
    assert_eq!(list("").await.0, [newest.as_str(), &middle, &oldest]);
    assert_eq!(list("?workflow=report%2Fsales").await.0, [newest.as_str(), &oldest]);
    assert_eq!(list(&format!("?webhook={}", other.id)).await.0, [middle.as_str()]);
    assert_eq!(list("?state=cancelled&workflow=report/sales").await.0, [oldest.as_str()]);
    assert!(list("?workflow=report/nothing").await.0.is_empty());
    let (first, next) = list("?limit=2").await;
    assert_eq!(first.len(), 2);
    assert_eq!(list(&format!("?limit=2&cursor={}", next.as_str().unwrap())).await.0, [oldest.as_str()]);
}

#[tokio::test]
async fn what_a_list_does_not_know_is_refused() {
    let world = World::start_idle().await;
    for (query, field) in [
        ("runs?limit=0", "limit"),
        ("runs?limit=201", "limit"),
        ("runs?limit=x", "limit"),
        ("runs?state=done", "state"),
        ("runs?webhook=7", "webhook"),
        ("runs?workflow=sales", "workflow"),
        ("runs?cursor=x", "cursor"),
        ("runs?stat=failed", "stat"),
        ("runs?state=failed&state=queued", "state"),
        ("webhooks?limit=1000", "limit"),
        ("webhooks?cursor=x", "cursor"),
        ("workflows?cursor=x", "cursor"),
        ("workflows?colour=red", "colour"),
    ] {
        let response = world.admin(Method::GET, &format!("/{query}")).send().await.unwrap();
        let answer = problem(response, 422, "settings-invalid").await;
        assert_eq!(named(&answer)[0].0, field, "{query}");
    }
}

#[tokio::test]
async fn a_run_is_started_by_hand_also_for_a_disabled_webhook() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({"enabled": false})).await;
    let run = |body: Value| world.admin(Method::POST, &format!("/webhooks/{}/run", hook.id)).json(&body);
    let response = run(json!({"parameters": {"region": "APAC", "count": "7"}})).send().await.unwrap();
    let location = response.headers()[LOCATION].to_str().unwrap().to_owned();
    let accepted = content(response, 202).await;
    let id = accepted["run_id"].as_str().unwrap();
    assert_eq!(location, format!("{}/admin/api/v1/runs/{id}", world.base));
    assert_eq!(
        accepted,
        json!({"run_id": id, "state": "queued", "status_url": location}),
        "its caller can read it"
    );
    let shown = content(world.get(&location).bearer_auth(ADMIN).send().await.unwrap(), 200).await;
    let parameters = json!({
        "region": {"value": "APAC", "source": "body"}, "count": {"value": 7, "source": "body"},
    });
    assert_eq!(shown["parameters"], parameters);
    assert_eq!(shown["caller"]["token_hint"], Value::Null);
    assert_eq!(shown["caller"]["method"], "POST");

    let bare = world.admin(Method::POST, &format!("/webhooks/{}/run", hook.id));
    content(bare.send().await.unwrap(), 202).await;
    let response = run(json!({"parameters": {"count": "x"}})).send().await.unwrap();
    problem(response, 422, "parameters-invalid").await;
    for (body, field) in [(json!({"parameter": {}}), "parameter"), (json!({"parameters": []}), "parameters")]
    {
        let answer = problem(run(body).send().await.unwrap(), 422, "settings-invalid").await;
        assert_eq!(named(&answer)[0].0, field);
    }
}

#[tokio::test]
async fn a_run_is_shown_with_who_called_and_who_was_told() {
    let world = World::start().await;
    let settings = json!({"notifications": {"email": {"recipients": ["a@example.com"], "on": ["failure"]}}});
    let hook = world.hook(settings).await;
    world.notifier.fail_next(1, DeliverFailure::Permanent);
    world.executor.script_next([Step::FailFatal("no such table".into())]);
    let call = world.post(&hook.url).header("user-agent", "test/1").header("x-request-id", "r-1");
    let accepted = content(call.send().await.unwrap(), 202).await;
    world.ended(&accepted).await;
    let path = format!("/runs/{}", accepted["run_id"].as_str().unwrap());
    let shown = loop {
        let shown = content(world.admin(Method::GET, &path).send().await.unwrap(), 200).await;
        if shown["deliveries"][0]["state"] != "pending" {
            break shown;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let delivery = shown["deliveries"][0]["id"].as_str().unwrap().to_owned();
    let expected = json!({
        "id": "ID", "workflow": {"kind": "report", "id": "sales"}, "webhook_id": "ID", "state": "failed",
        "attempt": 1, "max_attempts": 1, "interruptions": 0, "retried_from": null,
        "queued_at": "TIME", "started_at": "TIME", "finished_at": "TIME", "due_at": "TIME",
        "parameters": {"region": {"value": "EMEA", "source": "default"}},
        "progress": null, "summary": null, "artifacts": [],
        "error": {"kind": "fatal", "message": "no such table"},
        "caller": {
            "method": "POST", "address": "127.0.0.1", "user_agent": "test/1", "request_id": "r-1",
            "token_hint": "HINT",
        },
        "deliveries": [{
            "id": "ID", "run_id": "ID", "channel": "email", "recipient": "a@example.com", "event": "failure",
            "state": "given_up", "attempts": 1, "last_error": "told to fail for good", "next_at": null,
        }],
    });
    assert_eq!(world.settled(shown), expected);

    let resend = world.admin(Method::POST, &format!("/deliveries/{delivery}/resend"));
    let resent = content(resend.send().await.unwrap(), 200).await;
    assert_eq!(resent["id"], delivery.as_str());
    assert_eq!((&resent["state"], &resent["attempts"]), (&json!("pending"), &json!(0)));
    assert_eq!(world.notifier.delivered(1).await[0].recipient, "a@example.com");
    let nobody = world.admin(Method::POST, &format!("/deliveries/{NOBODY}/resend"));
    problem(nobody.send().await.unwrap(), 404, "not-found").await;
}

#[tokio::test]
async fn notifications_of_all_runs_are_listed_and_sent_again_together() {
    let world = World::start().await;
    let settings = json!({"notifications": {
        "email": {"recipients": ["a@example.com", "b@example.com"], "on": ["success"]},
        "slack": {"channel": "#ops", "on": ["success"]},
    }});
    let hook = world.hook(settings).await;
    world.notifier.fail_next(9, DeliverFailure::Permanent);
    for _ in 0..3 {
        let accepted = content(world.post(&hook.url).send().await.unwrap(), 202).await;
        world.ended(&accepted).await;
    }
    let list = async |query: &str| {
        let answer = world.admin(Method::GET, &format!("/deliveries?{query}")).send().await.unwrap();
        content(answer, 200).await
    };
    while list("state=given_up").await["items"].as_array().unwrap().len() < 9 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let slack = list("state=given_up&channel=slack").await;
    assert!(slack["items"].as_array().unwrap().iter().all(|it| it["recipient"] == "#ops"));
    assert_eq!((slack["items"].as_array().unwrap().len(), &slack["next_cursor"]), (3, &Value::Null));
    let first = list("limit=5").await;
    let second = list(&format!("limit=5&cursor={}", first["next_cursor"].as_str().unwrap())).await;
    assert_eq!(second["items"].as_array().unwrap().len(), 4);
    let sales = json!({"kind": "report", "id": "sales"});
    assert!(first["items"].as_array().unwrap().iter().all(|it| it["workflow"] == sales), "{first}");

    // Deliveries of one run.
    let run = second["items"][3]["run_id"].as_str().unwrap();
    let page = list(&format!("run={run}&channel=email&limit=1")).await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = list(&format!("run={run}&channel=email&limit=1&cursor={cursor}")).await;
    assert_eq!(
        (page["items"][0]["run_id"].as_str(), rest["items"][0]["run_id"].as_str()),
        (Some(run), Some(run))
    );
    assert_eq!(
        (&page["items"][0]["recipient"], &rest["items"][0]["recipient"]),
        (&json!("b@example.com"), &json!("a@example.com"))
    );
    assert_eq!((&rest["next_cursor"], &page["items"][0]["workflow"]), (&Value::Null, &sales));
    assert_eq!(list(&format!("run={run}&state=pending")).await["items"], json!([]));
    assert_eq!(list(&format!("run={NOBODY}")).await["items"], json!([]));

    let resend =
        async |body: Value| world.admin(Method::POST, "/deliveries/resend").json(&body).send().await.unwrap();
    let dry = json!({"filter": {"state": "given_up", "channel": "email"}, "dry_run": true});
    let expected = json!({"matched": 6, "done": 0, "next_cursor": null});
    assert_eq!(content(resend(dry).await, 200).await, expected);
    assert_eq!(list("state=given_up").await["items"].as_array().unwrap().len(), 9, "a dry run sends nothing");
    let done = content(resend(json!({"filter": {"state": "given_up"}})).await, 200).await;
    assert_eq!(done, json!({"matched": 9, "done": 9, "next_cursor": null}));
    assert_eq!(world.notifier.delivered(9).await.len(), 9);
    for (body, field) in [
        (json!({}), "filter"),
        (json!({"filter": {}}), "filter.state"),
        (json!({"filter": {"state": "given_up", "run": null}}), "filter.run"),
    ] {
        let refused = problem(resend(body).await, 422, "settings-invalid").await;
        assert_eq!(named(&refused)[0].0, field);
    }
    let wrong = world.admin(Method::GET, "/deliveries?state=lost").send().await.unwrap();
    problem(wrong, 422, "settings-invalid").await;
}

#[tokio::test]
async fn runs_are_cancelled_and_retried() {
    let world = World::start().await;
    let hook = world.hook(json!({})).await;
    world.executor.script_next([Step::WaitForRelease]);
    let accepted = content(world.post(&hook.with("count=5")).send().await.unwrap(), 202).await;
    let id = accepted["run_id"].as_str().unwrap();
    world.executor.executed(1).await;
    let act = |what: &str| world.admin(Method::POST, &format!("/runs/{id}/{what}"));
    problem(act("retry").send().await.unwrap(), 412, "precondition-failed").await;
    let cancelled = content(act("cancel").send().await.unwrap(), 202).await;
    assert_eq!(cancelled["state"], "running");
    assert_eq!(world.ended(&accepted).await.state().as_str(), "cancelled");
    problem(act("cancel").send().await.unwrap(), 412, "precondition-failed").await;
    let unknown = act("retry").json(&json!({"force": true}));
    let answer = problem(unknown.send().await.unwrap(), 422, "settings-invalid").await;
    assert_eq!(named(&answer), [("force", "unknown")]);
    let retried = content(act("retry").send().await.unwrap(), 202).await;
    let run = world.ended(&retried).await;
    let status = world.get(retried["status_url"].as_str().unwrap()).bearer_auth(ADMIN);
    assert_eq!(content(status.send().await.unwrap(), 200).await["id"], retried["run_id"]);
    assert_eq!(run.state().as_str(), "succeeded");
    assert_eq!(run.retried_from().unwrap().to_string(), id);
    let path = format!("/runs/{}", run.id());
    let shown = content(world.admin(Method::GET, &path).send().await.unwrap(), 200).await;
    assert_eq!(shown["retried_from"], id);
    assert_eq!(shown["parameters"]["count"], json!({"value": 5, "source": "query"}));
    for what in ["cancel", "retry"] {
        let nobody = world.admin(Method::POST, &format!("/runs/{NOBODY}/{what}"));
        problem(nobody.send().await.unwrap(), 404, "not-found").await;
    }
}

#[tokio::test]
async fn logs_and_artifacts_are_read_with_the_admin_token() {
    let world = World::start().await;
    let hook = world.hook(json!({})).await;
    let artifact =
        Step::Artifact { name: "r.csv".into(), content_type: "text/csv".into(), bytes: b"a,b\n".to_vec() };
    world.executor.script_next([Step::Log("hello".into()), artifact]);
    let accepted = content(world.post(&hook.url).send().await.unwrap(), 202).await;
    world.ended(&accepted).await;
    let path = format!("/runs/{}", accepted["run_id"].as_str().unwrap());
    let log = world.admin(Method::GET, &format!("{path}/log")).send().await.unwrap();
    assert_eq!(log.headers()["webhook-log-end"], "6");
    assert_eq!(log.text().await.unwrap(), "hello\n");
    let shown = content(world.admin(Method::GET, &path).send().await.unwrap(), 200).await;
    let url = shown["artifacts"][0]["url"].as_str().unwrap();
    assert!(url.starts_with(&format!("{}/admin/api/v1/runs/", world.base)), "{url}");
    let response = world.get(url).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(response.headers()["content-disposition"], "inline; filename=\"r.csv\"");
    assert_eq!(response.text().await.unwrap(), "a,b\n");
    let nobody = format!("/runs/{NOBODY}/log");
    problem(world.admin(Method::GET, &nobody).send().await.unwrap(), 404, "not-found").await;
}

#[tokio::test]
async fn a_service_that_shuts_down_starts_no_runs_by_hand() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    world.webhooks.stop_accepting();
    let run = world.admin(Method::POST, &format!("/webhooks/{}/run", hook.id));
    problem(run.send().await.unwrap(), 503, "shutting-down").await;
}
