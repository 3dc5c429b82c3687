//! Tests that requests generated from the OpenAPI document get no answer that is not in it.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::support::description::Description;
use crate::support::{ADMIN, NOBODY, World};

#[test]
fn an_answer_that_is_not_described_is_noticed() {
    let description = Description::shared();
    let operation = &description.item("/my/hooks/healthz").unwrap()["get"];
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    assert!(description.check(operation, 200, &headers, "{\"status\":\"ok\"}").is_err(), "no request id");
    headers.insert("x-request-id", "7".parse().unwrap());
    let check = |status, text: &str| description.check(operation, status, &headers, text);
    assert_eq!(check(200, "{\"status\":\"ok\"}"), Ok(()));
    assert!(check(200, "{\"status\":\"well\"}").is_err());
    assert!(check(200, "{\"status\":\"ok\",\"more\":1}").is_err());
    assert!(check(500, "{\"status\":\"ok\"}").is_err());
    assert!(check(503, "{\"status\":\"ok\"}").is_err());
    headers.insert("location", "/elsewhere".parse().unwrap());
    assert!(description.check(operation, 200, &headers, "{\"status\":\"ok\"}").is_err());
}

/// A request generated from the document.
#[derive(Debug, Clone)]
struct MadeUp {
    path: String,
    method: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: String,
}

fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("report/sales".to_owned()),
        Just(NOBODY.to_owned()),
        Just("0".to_owned()),
        Just("7".to_owned()),
        Just("queued".to_owned()),
        Just("EMEA".to_owned()),
        "[ -~]{0,20}",
        "\\PC{0,8}",
    ]
}

fn bodies() -> impl Strategy<Value = String> {
    let object = prop::collection::vec((names(), json_values()), 0..4)
        .prop_map(|members| Value::Object(members.into_iter().collect()).to_string());
    prop_oneof![Just(String::new()), object, "\\PC{0,40}"]
}

fn names() -> impl Strategy<Value = String> {
    let known = [
        "workflow",
        "label",
        "enabled",
        "retries",
        "concurrency",
        "notifications",
        "parameters",
        "count",
        "verification",
        "conditions",
        "mapping",
        "fixed",
        "answer",
        "secret",
        "method",
        "headers",
        "body",
    ];
    prop_oneof![prop::sample::select(known.to_vec()).prop_map(str::to_owned), "[a-z_]{1,8}"]
}

fn json_values() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!({"kind": "report", "id": "sales"})),
        Just(json!({"max_attempts": 3, "count": 1})),
        Just(json!({"preset": "trello"})),
        Just(json!({"status": 204})),
        Just(json!({"all": [{"from": "query", "name": "count", "op": "exists", "value": true}]})),
        Just(json!([{"parameter": "count", "from": "method"}])),
        Just(json!({"email": {"recipients": ["a@example.com"], "on": ["success"]}})),
        Just(json!([1, "a", null])),
    ]
}

/// Generates any operation with any values for its inputs; `run` and `webhook` are ids that exist.
fn requests(token: String, webhook: String, run: String) -> impl Strategy<Value = MadeUp> {
    let mut operations = Vec::new();
    for (path, item) in Description::shared().0["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let of_place = |place: &str| -> Vec<String> {
                let all = operation["parameters"].as_array().unwrap().iter();
                let here = all.filter(|parameter| parameter["in"] == place);
                here.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
            };
            operations.push((path.clone(), method.to_uppercase(), of_place("query"), of_place("header")));
        }
    }
    let pick = (prop::sample::select(operations), any::<[bool; 6]>());
    (pick, prop::collection::vec(values(), 12), bodies()).prop_map(
        move |(((path, method, query, headers), choices), values, body)| {
            let id = match (path.contains("/webhooks/"), choices[0]) {
                (true, true) => webhook.clone(),
                (false, true) => run.clone(),
                _ => NOBODY.to_owned(),
            };
            let path = [("{kind}", "report"), ("{workflow_id}", "sales"), ("{name}", "a.txt")]
                .iter()
                .chain(&[("{id}", id.as_str()), ("{run_id}", id.as_str()), ("{secret_id}", id.as_str())])
                .fold(path, |path, (name, value)| path.replace(name, value));
            let mut values = values.into_iter();
            let mut given = |names: Vec<String>, wanted: bool| -> Vec<(String, String)> {
                names.into_iter().filter(|_| wanted).zip(values.by_ref()).collect()
            };
            let mut query = given(query, choices[1]);
            let mut headers = given(headers, choices[2]);
            for (_, value) in &mut headers {
                value.retain(|it| it == ' ' || it.is_ascii_graphic());
            }
            // There are no workers, so a wait would last its whole minute.
            headers.retain(|(name, value)| name != "Prefer" || !value.contains("wait"));
            let bearer = if path.starts_with("/admin") { ADMIN } else { &token };
            if choices[3] || choices[4] {
                headers.push(("authorization".to_owned(), format!("Bearer {bearer}")));
            }
            if choices[5] {
                query.push(("count".to_owned(), "5".to_owned()));
                headers.push(("content-type".to_owned(), "application/json".to_owned()));
            }
            MadeUp { path, method, query, headers, body }
        },
    )
}

#[test]
fn requests_made_up_from_the_document_get_only_answers_that_are_in_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (world, hook, run) = runtime.block_on(async {
        let world = World::start_idle().await;
        let hook = world.hook(json!({})).await;
        let accepted = world.post(&hook.url).send().await.unwrap().json::<Value>().await.unwrap();
        let run = accepted["run_id"].as_str().unwrap().to_owned();
        (world, hook, run)
    });
    let strategy = requests(hook.token().to_owned(), hook.id.to_string(), run);
    let config = Config { cases: 600, failure_persistence: None, ..Config::default() };
    let asked = TestRunner::new(config).run(&strategy, |made_up| {
        runtime.block_on(async {
            let method: Method = made_up.method.parse().unwrap();
            let url = format!("{}{}", world.base, made_up.path);
            let mut request =
                world.client.request(method, url).query(&made_up.query).body(made_up.body.clone());
            for (name, value) in &made_up.headers {
                request = request.header(name, value);
            }
            let mut response = request.send().await.unwrap();
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let endless = headers.get("content-type").is_some_and(|it| it == "text/event-stream");
            let text = match endless && made_up.method == "GET" {
                true => String::from_utf8(response.chunk().await.unwrap().unwrap().to_vec()).unwrap(),
                false => response.text().await.unwrap(),
            };
            prop_assert!(status < 500, "{status}: {text}");
            let description = Description::shared();
            let operation = &description.item(&made_up.path).unwrap()[made_up.method.to_lowercase()];
            prop_assert_eq!(description.check(operation, status, &headers, &text), Ok(()));
            Ok(())
        })
    });
    asked.unwrap();
}
