//! Tests of the payloads of known senders.

use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::{FORM, typed};
use crate::support::content;

/// Returns small bodies in the documented form of the named senders, with invented data.
fn payloads(url: &str) -> Vec<(&'static str, &'static str, String)> {
    let json = |name, body: Value| (name, "application/json", body.to_string());
    let push = json!({"ref": "refs/heads/main", "repository": {"id": 9_007_199_254_740_993_u64, "private": true},
        "commits": [{"message": "Add January’s numbers — naïve café ✅", "added": ["data/2026-01.csv"]}]});
    let push_form: String = push.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
    vec![
        json("github push", push),
        json("github ping", json!({"zen": "Design.", "hook": {"config": {"url": url}}})),
        ("github form", FORM, format!("payload={push_form}")),
        json(
            "gitlab",
            json!({"object_kind": "pipeline", "object_attributes": {"id": 31, "duration": null,
            "variables": [{"key": "REGION", "value": "APAC"}]}, "builds": [{"queued_duration": 0.28}]}),
        ),
        json(
            "stripe",
            json!({"id": "evt_1", "object": "event", "type": "charge.succeeded", "livemode": false,
            "data": {"object": {"id": "ch_3", "amount": 2000}}, "request": {"id": null}}),
        ),
        json(
            "shopify",
            json!({"id": 820_982_911_946_154_508_u64, "total_price": "398.00", "token": "123456abcd",
            "line_items": [{"id": 866_550_311_766_439_020_u64, "grams": 567}], "note": null}),
        ),
        json(
            "sentry",
            json!({"action": "triggered", "data": {"event": {"timestamp": 1_768_381_200.123,
            "tags": [["environment", "prod"]]}}}),
        ),
        json(
            "grafana",
            json!({"status": "firing", "alerts": [{"labels": {"zone": "us-1"},
            "values": {"B": 44.239_437_375_419_08, "C": 1}}], "groupKey": "{}:{}", "version": "1"}),
        ),
        json(
            "alertmanager",
            json!({"version": "4", "truncatedAlerts": 0, "commonLabels": {"region": "APAC"}}),
        ),
        json(
            "jira",
            json!({"timestamp": 1_768_381_200_000_u64, "user": {"displayName": "Bo 🐙"},
            "changelog": {"items": [{"toString": "A", "to": null}]}}),
        ),
        json(
            "snowflake",
            json!({"messageType": "USER_TASK_FAILED", "taskName": "S.\"Täglich\"", "messages": [{}]}),
        ),
        json("dbt", json!({"accountId": 1, "data": {"jobId": "123", "runStatusCode": 10}})),
        json(
            "airbyte",
            json!({"text": "*Shop → Warehouse*", "data": {"success": true, "errorMessage": null}}),
        ),
        (
            "cloudevent",
            "application/cloudevents+json",
            json!({"specversion": "1.0", "id": "9a", "type": "a.b",
            "source": "/x", "data": {"contentLength": 447}})
            .to_string(),
        ),
        (
            "slack command",
            FORM,
            "token=gIkuvaNz&command=/daily-sales&text=APAC+2026-01-10&response_url=https://a.example/1"
                .into(),
        ),
        json(
            "slack verification",
            json!({"token": "Jhj5dZrV", "challenge": "3eZbrw1a", "type": "url_verification"}),
        ),
    ]
}

#[tokio::test]
async fn the_bodies_of_known_senders_start_runs() {
    let (world, hook) = typed(json!({})).await;
    for (name, media_type, body) in payloads(&hook.url) {
        let call = world.post(&hook.url).header(CONTENT_TYPE, media_type).body(body.clone());
        let accepted = content(call.send().await.unwrap(), 202).await;
        let run = world.ended(&accepted).await;
        assert_eq!(run.state().as_str(), "succeeded", "{name}");
        assert!(!serde_json::to_string(&*run).unwrap().contains(&hook.token()[4..47]), "{name}");
        if media_type == "application/json" && name != "github ping" {
            let given: Value = serde_json::from_str(&body).unwrap();
            for (member, value) in given.as_object().unwrap() {
                let kept = run.parameters().iter().find(|(name, _)| name == member);
                assert_eq!(
                    kept.map(|(_, parameter)| parameter.shown()).as_ref(),
                    Some(value),
                    "{name}: {member}"
                );
            }
        }
    }
}
