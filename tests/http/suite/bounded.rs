//! Tests that answers are bounded in bytes, whatever callers send.

use reqwest::Method;
use serde_json::{Map, Value, json};
use webhook_core::run::Caller;

use crate::support::{World, content};

const PAGE_BYTES: usize = 1024 * 1024;

async fn page(world: &World, query: &str) -> (Value, usize) {
    let answer = world.admin(Method::GET, &format!("/runs?{query}")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    (serde_json::from_str(&text).unwrap(), text.len())
}

#[tokio::test]
async fn a_list_shows_the_beginning_of_long_values_and_the_record_shows_all() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({})).await;
    let given = json!({"text": "é".repeat(100_000), "json": vec![json!({"a": 1}); 2_000], "short": 7});
    let Value::Object(given) = given else { unreachable!() };
    let run = world.webhooks.manage().start_run(hook.id, given.clone(), Caller::default()).await.unwrap();
    let (listed, _) = page(&world, "").await;
    let listed = &listed["items"][0];
    assert_eq!(listed["truncated"], true);
    let shown = &listed["parameters"];
    assert_eq!(shown["text"], json!({"value": "é".repeat(512), "source": "body", "truncated": true}));
    let beginning = Value::from(given["json"].to_string()[..1_024].to_owned());
    assert_eq!(shown["json"], json!({"value": beginning, "source": "body", "truncated": true}));
    assert_eq!(shown["short"], json!({"value": 7, "source": "body"}));
    let whole = world.admin(Method::GET, &format!("/runs/{}", run.run.id())).send().await.unwrap();
    let whole = content(whole, 200).await;
    assert_eq!(whole["truncated"], Value::Null);
    for (name, value) in &given {
        assert_eq!(whole["parameters"][name], json!({"value": value, "source": "body"}), "{name}");
    }
}

#[tokio::test]
async fn fifty_runs_of_a_mebibyte_are_a_small_page() {
    let world = World::start_idle_with_room().await;
    let hook = world.hook(json!({})).await;
    let given = Map::from_iter([("x".to_owned(), Value::from("x".repeat(1_000_000)))]);
    for _ in 0..50 {
        world.webhooks.manage().start_run(hook.id, given.clone(), Caller::default()).await.unwrap();
    }
    let (listed, bytes) = page(&world, "limit=50").await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 50);
    assert!(bytes < 100 * 1024, "{bytes}");
}

#[tokio::test]
async fn a_page_ends_early_rather_than_exceed_its_bound_and_a_walk_misses_nothing() {
    let world = World::start_idle_with_room().await;
    let hook = world.hook(json!({})).await;
    let value = || Value::from("\u{1}".repeat(2_000));
    let given: Map<String, Value> = (0..200).map(|number| (format!("{number:0>128}"), value())).collect();
    let mut runs = Vec::new();
    for _ in 0..30 {
        runs.push(
            world
                .webhooks
                .manage()
                .start_run(hook.id, given.clone(), Caller::default())
                .await
                .unwrap()
                .run
                .id(),
        );
    }
    let (mut seen, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let (listed, bytes) = page(&world, &format!("limit=200{cursor}")).await;
        assert!(bytes <= PAGE_BYTES + 100, "{bytes}");
        pages += 1;
        let items = listed["items"].as_array().unwrap();
        seen.extend(items.iter().map(|run| run["id"].as_str().unwrap().to_owned()));
        let Some(next) = listed["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let newest_first: Vec<String> = runs.iter().rev().map(ToString::to_string).collect();
    assert_eq!(seen, newest_first);
    assert!(pages > 1, "{pages}");
}

#[tokio::test]
async fn every_cursor_and_event_id_is_answered() {
    let world = World::start_idle().await;
    let most = u64::MAX;
    let listed = world.admin(Method::GET, &format!("/workflows?cursor={most}")).send().await.unwrap();
    assert_eq!(content(listed, 200).await, json!({"items": [], "next_cursor": null}));
}

#[tokio::test]
async fn one_workflow_is_read_by_its_own_address() {
    let world = World::start_idle().await;
    let hook = world.hook(json!({"label": "Shop"})).await;
    let read = world.admin(Method::GET, "/workflows/report/sales").send().await.unwrap();
    let workflow = content(read, 200).await;
    assert_eq!((&workflow["kind"], &workflow["id"]), (&json!("report"), &json!("sales")));
    assert_eq!(workflow["webhooks"][0]["id"], hook.id.to_string());
    for missing in ["/workflows/report/nothing", "/workflows/unheard/sales", "/workflows/report/.."] {
        let answer = world.admin(Method::GET, missing).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{missing}");
    }
}
