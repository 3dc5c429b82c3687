//! Tests of real senders: their bodies, queries and headers, and the results.

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use webhook_core::executor::Workflow;
use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType};
use webhook_core::token::Token;
use webhook_testing::ScriptedExecutor;

use crate::front::server::ServerOptions;
use crate::support::{Hook, World, content, problem, raw};

const FORM: &str = "application/x-www-form-urlencoded";

/// Starts a world whose workflow declares blocks of most types, with one webhook.
async fn typed(settings: Value) -> (World, Hook) {
    let block = ParameterBlock::new;
    let blocks = ParameterBlocks::new(vec![
        block("region", ParameterType::Choice).with_choices(["EMEA", "APAC"]).with_default("EMEA"),
        block("n", ParameterType::Integer),
        block("x", ParameterType::Number),
        block("flag", ParameterType::Boolean),
        block("day", ParameterType::Date),
        block("text", ParameterType::Text).with_default("hello"),
        block("tags", ParameterType::List),
        block("doc", ParameterType::Json),
        block("password", ParameterType::Text).secret(),
    ]);
    let executor =
        ScriptedExecutor::new([Workflow::new("report/typed".parse().unwrap(), "Typed", blocks.unwrap())]);
    let world = World::start_with(|builder| builder.executor(executor), ServerOptions::default(), true).await;
    let hook = world.hook_of("report/typed", settings).await;
    (world, hook)
}

fn dry(call: RequestBuilder) -> RequestBuilder {
    call.header("webhook-dry-run", "true")
}

fn json_body(world: &World, hook: &Hook, body: impl Into<reqwest::Body>) -> RequestBuilder {
    world.post(&hook.url).header(CONTENT_TYPE, "application/json").body(body)
}

fn form(world: &World, hook: &Hook, body: impl Into<reqwest::Body>) -> RequestBuilder {
    world.post(&hook.url).header(CONTENT_TYPE, FORM).body(body)
}

async fn refused(call: RequestBuilder, status: u16, slug: &str) -> Value {
    problem(call.send().await.unwrap(), status, slug).await
}

async fn detail(call: RequestBuilder, status: u16, slug: &str) -> String {
    refused(call, status, slug).await["detail"].as_str().unwrap().to_owned()
}

async fn value(call: RequestBuilder, name: &str) -> Value {
    content(dry(call).send().await.unwrap(), 200).await["parameters"][name]["value"].clone()
}

/// Returns the names that an answer warns of, with the messages.
async fn warned(response: Response, status: u16) -> Vec<(String, String)> {
    let answer = content(response, status).await;
    let warnings = answer["warnings"].as_array().cloned().unwrap_or_default();
    let text = |warning: &Value, member: &str| warning[member].as_str().unwrap().to_owned();
    warnings.iter().map(|warning| (text(warning, "parameter"), text(warning, "message"))).collect()
}

#[tokio::test]
async fn a_body_that_repeats_the_trigger_url_leaves_the_token_nowhere() {
    let (world, hook) = typed(json!({})).await;
    let ping = json!({
        "zen": "Keep it logically awesome.", "hook_id": 412, "hook": {"type": "Repository", "active": true,
        "config": {"content_type": "json", "insecure_ssl": "0", "url": hook.url}}, "token": hook.token(),
        "repository": {"id": 98765, "full_name": "acme/sales-data"},
    });
    let digits = &hook.token()[4..47];
    let dry_run = dry(json_body(&world, &hook, ping.to_string())).send().await.unwrap().text().await.unwrap();
    let call = json_body(&world, &hook, ping.to_string())
        .header("user-agent", format!("Hookshot {}", hook.url))
        .header("x-request-id", hook.token());
    let response = call.send().await.unwrap();
    assert_ne!(response.headers()["x-request-id"], hook.token());
    let accepted = content(response, 202).await;
    world.ended(&accepted).await;
    let record = world.managed_run(&accepted).await.to_string();
    let status = world.get(accepted["status_url"].as_str().unwrap()).bearer_auth(hook.token());
    let status = status.send().await.unwrap().text().await.unwrap();
    for shown in [&dry_run, &record, &status] {
        assert!(!shown.contains(digits), "{shown}");
        assert!(shown.contains("/api/v1/report/typed/webhook?token=whk_***"), "{shown}");
    }
}

#[tokio::test]
async fn a_token_in_any_spelling_is_masked_in_query_form_and_json() {
    let (world, hook) = typed(json!({})).await;
    let token = hook.token();
    let escaped = token.replace('_', "%5F");
    let calls = [
        world.get(&hook.with(&format!("note={escaped}"))),
        world.get(&hook.with(&format!("note={}", escaped.replace('%', "%25")))),
        form(&world, &hook, format!("token={token}&note=x{escaped}x")),
        json_body(&world, &hook, format!("{{\"note\":\"{}\"}}", token.replace('_', "\\u005f"))),
        json_body(&world, &hook, format!("{{\"note\":\"\\\"{}\\\"\"}}", token.replace('_', "\\\\u005f"))),
        json_body(&world, &hook, format!("{{\"note\":[{{\"{token}\":\"{token}\"}}]}}")),
        json_body(&world, &hook, format!("{{\"{token}\":\"note\"}}")),
        world.get(&hook.with(&format!("tags=a&tags={token}"))),
        json_body(&world, &hook, format!("{{\"note\":\"{}\"}}", Token::generate().expose())),
    ];
    for (index, call) in calls.into_iter().enumerate() {
        let shown = content(dry(call).send().await.unwrap(), 200).await.to_string();
        assert!(!shown.contains(&token[4..47]) && shown.contains("whk_***"), "{index}: {shown}");
    }
}

#[tokio::test]
async fn a_name_that_looks_like_a_declared_one_is_warned_of_in_every_answer() {
    let (world, hook) = typed(json!({})).await;
    for (query, name, says) in [
        ("Region=APAC", "Region", "case"),
        ("regoin=APAC", "regoin", "spelling"),
        ("regin=APAC", "regin", "spelling"),
        ("amp;region=APAC", "amp;region", "&amp;"),
        ("%EF%BB%BFregion=APAC", "\u{feff}region", "byte order mark"),
        ("%EF%BD%92egion=APAC", "ｒegion", "look alike"),
        ("tags[]=a", "tags[]", "tags=a&tags=b"),
        ("tags[0]=a&tags[1]=b", "tags[0]", "tags=a&tags=b"),
    ] {
        let url = hook.with(query);
        let answers = [
            (dry(world.post(&url)), 200),
            (world.post(&url), 202),
            (world.post(&url).header("prefer", "wait=20"), 200),
            (world.post(&hook.url).header(CONTENT_TYPE, FORM).body(query), 202),
        ];
        for (call, status) in answers {
            let warnings = warned(call.send().await.unwrap(), status).await;
            let (parameter, message) = &warnings[0];
            assert_eq!(parameter, name);
            assert!(message.contains(says), "{message}");
        }
    }
    assert!(
        warned(world.post(&hook.with("region=APAC&other=1")).send().await.unwrap(), 202).await.is_empty()
    );
}

#[tokio::test]
async fn with_a_strict_webhook_a_name_that_looks_like_a_declared_one_is_a_problem_that_says_so() {
    let (world, hook) = typed(json!({"strict": true})).await;
    for (query, says) in [
        ("Region=APAC", "\\\"region\\\""),
        ("regoin=APAC", "\\\"region\\\""),
        ("amp;region=APAC", "&amp;"),
        ("tags[]=a", "tags=a&tags=b"),
    ] {
        let refused = refused(world.post(&hook.with(query)), 422, "parameters-invalid").await;
        assert_eq!(refused["errors"][0]["code"], "undeclared");
        assert!(refused["errors"][0].to_string().contains(says), "{refused}");
    }
}

#[tokio::test]
async fn a_repeated_name_with_brackets_is_refused_with_the_way_to_write_it() {
    let (world, hook) = typed(json!({})).await;
    for call in
        [form(&world, &hook, "tags[]=a&tags[]=b"), world.post(&hook.with("tags%5B%5D=a&tags%5B%5D=b"))]
    {
        let refused = refused(call, 422, "parameters-invalid").await;
        assert_eq!(refused["errors"][0]["code"], "repeated");
        assert!(refused["errors"][0]["message"].as_str().unwrap().contains("tags=a&tags=b"), "{refused}");
    }
    assert_eq!(value(form(&world, &hook, "tags=a&tags=b"), "tags").await, json!(["a", "b"]));
}

#[tokio::test]
async fn a_form_that_was_meant_as_json_is_refused_with_the_missing_header_or_quotes() {
    let (world, hook) = typed(json!({})).await;
    for (body, says) in [
        ("{\"text\":\"test\"}", "-H 'Content-Type: application/json'"),
        ("[{\"text\":\"test\"}]", "-H 'Content-Type: application/json'"),
        ("\"text\"", "-H 'Content-Type: application/json'"),
        ("\u{feff}{\"text\":\"test\"}", "-H 'Content-Type: application/json'"),
        ("%7B%22text%22%3A%22test%22%7D", "-H 'Content-Type: application/json'"),
        ("'{message:test}'", "cmd.exe"),
        ("{message:test}", "cmd.exe"),
        ("'text=a'", "cmd.exe"),
    ] {
        let detail = detail(form(&world, &hook, body), 400, "malformed-body").await;
        assert!(detail.contains(says), "{detail}");
    }
    let detail = detail(json_body(&world, &hook, "'{message:test}'"), 400, "malformed-body").await;
    assert!(detail.contains("cmd.exe"), "{detail}");
    assert_eq!(world.runs().await, 0);
}

#[tokio::test]
async fn a_byte_order_mark_is_no_part_of_a_body() {
    let (world, hook) = typed(json!({})).await;
    assert_eq!(value(json_body(&world, &hook, "\u{feff}{\"region\":\"APAC\"}"), "region").await, "APAC");
    assert_eq!(value(form(&world, &hook, "\u{feff}region=APAC"), "region").await, "APAC");
    let utf16 = b"\xff\xfe{\0}\0".to_vec();
    assert!(detail(json_body(&world, &hook, utf16), 400, "malformed-body").await.contains("UTF-16"));
    let latin1 = b"{\"text\":\"\xe9\"}".to_vec();
    refused(json_body(&world, &hook, latin1), 400, "malformed-body").await;
}

#[tokio::test]
async fn an_integer_beyond_64_bits_is_a_problem_in_query_form_and_body() {
    let (world, hook) = typed(json!({})).await;
    let calls = [
        (world.post(&hook.with("x=18446744073709551616")), "x"),
        (world.post(&hook.with("doc=%7B%22wei%22%3A18446744073709551616%7D")), "doc"),
        (form(&world, &hook, "doc=[100000000000000000000]"), "doc"),
        (json_body(&world, &hook, "{\"x\":18446744073709551617}"), "x"),
        (json_body(&world, &hook, "{\"other\":1234567890123456789012}"), "other"),
        (json_body(&world, &hook, "{\"doc\":{\"wei\":[100000000000000000001]}}"), "doc"),
        (json_body(&world, &hook, "{\"deep\":{\"a\":[{\"b\":-9223372036854775809}]}}"), "deep"),
        (json_body(&world, &hook, "{\"n\":9223372036854775808}"), "n"),
        (json_body(&world, &hook, "{\"text\":18446744073709551616}"), "text"),
    ];
    for (call, name) in calls {
        let refused = refused(call, 422, "parameters-invalid").await;
        assert_eq!(refused["errors"].as_array().unwrap().len(), 1);
        assert_eq!(refused["errors"][0]["parameter"], name);
    }
    let body = "{\"n\":7615917337495251231,\"doc\":{\"id\":9007199254740993,\"most\":18446744073709551615},\"x\":1e20}";
    let answer = content(dry(json_body(&world, &hook, body)).send().await.unwrap(), 200).await;
    assert_eq!(answer["parameters"]["n"]["value"], 7_615_917_337_495_251_231_u64);
    assert_eq!(
        answer["parameters"]["doc"]["value"],
        json!({"id": 9_007_199_254_740_993_u64, "most": u64::MAX})
    );
    assert_eq!(answer["parameters"]["x"]["value"], 1e20);
}

#[tokio::test]
async fn doubles_come_back_as_they_were_sent() {
    let (world, hook) = typed(json!({})).await;
    for literal in ["0.9867188950008383", "9.204938554384977", "5e-324", "1.7976931348623157e308", "-0.1"] {
        let body = json_body(&world, &hook, format!("{{\"extra\":[{literal}],\"x\":{literal}}}"));
        let accepted = content(body.send().await.unwrap(), 202).await;
        let record = world.managed_run(&accepted).await;
        let double: f64 = literal.parse().unwrap();
        for shown in [&record["parameters"]["x"]["value"], &record["parameters"]["extra"]["value"][0]] {
            assert_eq!(shown.as_f64().unwrap().to_bits(), double.to_bits(), "{literal}");
        }
    }
}

#[tokio::test]
async fn a_body_of_too_many_values_is_refused_whatever_its_form() {
    let (world, hook) = typed(json!({})).await;
    let array = |items: usize, item: &str| format!("{{\"a\":[{}]}}", vec![item; items].join(","));
    content(json_body(&world, &hook, array(9_998, "0")).send().await.unwrap(), 202).await;
    for body in [array(9_999, "0"), array(5_000, "{\"\":0}"), array(131_000, "{\"\":0}")] {
        let detail = detail(json_body(&world, &hook, body), 400, "malformed-body").await;
        assert!(detail.contains("10000 values"), "{detail}");
    }
    let pairs = detail(form(&world, &hook, "a&".repeat(500_000)), 400, "malformed-body").await;
    assert!(pairs.contains("10000 pairs"), "{pairs}");
    let text = format!("doc=[{}]", vec!["0"; 10_000].join(","));
    let refused_form = refused(form(&world, &hook, text), 422, "parameters-invalid").await;
    assert!(refused_form["errors"][0]["message"].as_str().unwrap().contains("values"), "{refused_form}");
    let deep = format!("doc={}{}", "[".repeat(65), "]".repeat(65));
    refused(world.post(&hook.with(&deep)), 422, "parameters-invalid").await;
}

#[tokio::test]
async fn a_compressed_body_is_415_with_the_codings_that_are_read() {
    let (world, hook) = typed(json!({})).await;
    for coding in ["gzip", "br", "identity, deflate"] {
        let call = json_body(&world, &hook, "{\"text\":\"a\"}").header(CONTENT_ENCODING, coding);
        let response = call.send().await.unwrap();
        assert_eq!(response.headers()[ACCEPT_ENCODING], "identity");
        let refused = problem(response, 415, "unsupported-media-type").await;
        assert!(refused["detail"].as_str().unwrap().contains("Content-Encoding"), "{refused}");
    }
    let plain = json_body(&world, &hook, "{\"text\":\"a\"}").header(CONTENT_ENCODING, "Identity");
    content(plain.send().await.unwrap(), 202).await;
    let empty = world.post(&hook.url).header(CONTENT_ENCODING, "gzip");
    content(empty.send().await.unwrap(), 202).await;
    let managed =
        world.admin(Method::PATCH, &format!("/webhooks/{}", hook.id)).header(CONTENT_ENCODING, "gzip");
    let response = managed.json(&json!({"enabled": false})).send().await.unwrap();
    assert_eq!(response.headers()[ACCEPT_ENCODING], "identity");
    problem(response, 415, "unsupported-media-type").await;
}

#[tokio::test]
async fn media_types_of_json_are_read_and_others_are_415() {
    let (world, hook) = typed(json!({})).await;
    let call =
        |media_type: &str| world.post(&hook.url).header(CONTENT_TYPE, media_type).body("{\"text\":\"a\"}");
    for media_type in [
        "text/json",
        "application/cloudevents+json",
        "application/hal+json; charset=utf-8",
        "application/json;charset=\"UTF-8\"",
    ] {
        assert_eq!(value(call(media_type), "text").await, "a", "{media_type}");
    }
    for media_type in
        ["text/plain; charset=UTF-8", "raw/json", "multipart/form-data; boundary=x", "application/json x"]
    {
        let response = call(media_type).send().await.unwrap();
        assert!(!response.headers().contains_key(ACCEPT_ENCODING), "RFC 9110 section 12.5.3");
        let refused = problem(response, 415, "unsupported-media-type").await;
        assert!(refused["detail"].as_str().unwrap().contains("application/json"), "{refused}");
    }
}

#[tokio::test]
async fn the_body_of_a_get_is_ignored_and_a_warning_says_so() {
    let (world, hook) = typed(json!({})).await;
    let call = || world.get(&hook.url).header(CONTENT_TYPE, "application/json");
    let warnings = warned(call().body("{\"region\":\"APAC\"}").send().await.unwrap(), 202).await;
    assert!(warnings.len() == 1 && warnings[0].0 == "*" && warnings[0].1.contains("POST"), "{warnings:?}");
    assert_eq!(value(call().body("{\"region\":\"APAC\"}"), "region").await, "EMEA");
    assert!(warned(call().send().await.unwrap(), 202).await.is_empty());
    let path = hook.url.strip_prefix(&world.base).unwrap();
    let chunked = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\n{{}}\r\n0\r\n\r\n",
        world.address
    );
    assert!(raw(world.address, &[chunked.as_bytes()]).await.contains("body_ignored"));
}

#[tokio::test]
async fn white_space_around_a_token_is_trimmed_and_a_torn_token_is_401() {
    let (world, hook) = typed(json!({})).await;
    let bare = hook.bare();
    let encoded = hook.token().replace('_', "%5F");
    for query in [format!("token=%20{}%0D%0A", hook.token()), format!("token={encoded}")] {
        content(world.post(&format!("{bare}?{query}")).send().await.unwrap(), 202).await;
    }
    for scheme in ["Bearer", "bearer", "BEARER  "] {
        let call = world.post(bare).header(AUTHORIZATION, format!("{scheme} {}  ", hook.token()));
        content(call.send().await.unwrap(), 202).await;
    }
    for query in [format!("token={}?uid=7", hook.token()), format!("token={};text=a", hook.token())] {
        refused(world.post(&format!("{bare}?{query}")), 401, "unauthorized").await;
    }
    for (name, text) in
        [("x-gitlab-token", ""), ("authorization", "token "), ("authorization", ""), ("token", "")]
    {
        let call = world.post(bare).header(name, format!("{text}{}", hook.token()));
        refused(call, 401, "unauthorized").await;
    }
    refused(world.post(bare).basic_auth("", Some(hook.token())), 401, "unauthorized").await;
}

#[tokio::test]
async fn another_path_is_404() {
    let (world, hook) = typed(json!({})).await;
    let query = format!("token={}", hook.token());
    for path in
        ["/api/v1/report/typed/webhook/", "//api/v1/report/typed/webhook", "/api/v1/report%2Ftyped/webhook"]
    {
        refused(world.post(&format!("{}{path}?{query}", world.base)), 404, "not-found").await;
    }
    let escaped = format!("{}/api/v1/report/%74yped/webhook?{query}", world.base);
    content(world.post(&escaped).send().await.unwrap(), 202).await;
}

#[tokio::test]
async fn values_of_unset_variables_are_problems_for_every_type_but_text() {
    let (world, hook) = typed(json!({})).await;
    let refused =
        refused(world.post(&hook.with("n=&day=&region=&flag=&x=&text=")), 422, "parameters-invalid").await;
    assert_eq!(refused["errors"].as_array().unwrap().len(), 5);
    assert_eq!(value(world.post(&hook.with("text=")), "text").await, "");
    let nulls = json_body(&world, &hook, "{\"n\":null,\"day\":null,\"region\":null}");
    assert_eq!(value(nulls, "region").await, "EMEA");
}

#[tokio::test]
async fn curly_quotes_not_a_number_lone_surrogates_and_duplicates_are_refused_with_their_place() {
    let (world, hook) = typed(json!({})).await;
    for body in ["{“a”:1}", "{\"a\":NaN}", "{\"a\":\"\\ud800\"}", "{\"a\":1,\"a\":2}", "{\"a\":1e400}"] {
        let detail = detail(json_body(&world, &hook, body), 400, "malformed-body").await;
        assert!(detail.contains("line 1"), "{detail}");
    }
}

#[tokio::test]
async fn a_problem_over_an_unescaped_plus_or_a_web_pages_reference_says_what_happened() {
    let (world, hook) = typed(json!({})).await;
    let refused =
        refused(world.post(&hook.with("day=2026-01-01%C2%AEion=EMEA")), 422, "parameters-invalid").await;
    assert!(refused["errors"][0]["message"].as_str().unwrap().contains("&region="), "{refused}");
}

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

#[tokio::test]
async fn a_sender_of_arrays_or_of_json_as_text_is_refused_with_what_is_expected() {
    let (world, hook) = typed(json!({})).await;
    let events = json!([{"email": "a@example.com", "event": "processed"}]).to_string();
    let detail_of_array = detail(json_body(&world, &hook, events), 400, "malformed-body").await;
    assert!(detail_of_array.contains("an array") && detail_of_array.contains("an object is expected"));
    let sns = json!({"Type": "SubscriptionConfirmation", "Token": "2336412f"}).to_string();
    let call = world.post(&hook.url).header(CONTENT_TYPE, "text/plain; charset=UTF-8").body(sns);
    let detail = detail(call, 415, "unsupported-media-type").await;
    assert!(detail.contains("application/json"), "{detail}");
}

#[tokio::test]
async fn a_body_comes_over_old_and_chunked_http_and_in_absolute_form() {
    let (world, hook) = typed(json!({})).await;
    let path = hook.url.strip_prefix(&world.base).unwrap();
    let address = world.address;
    for request in [
        format!("POST {path} HTTP/1.0\r\nContent-Type: text/json\r\nContent-Length: 2\r\n\r\n{{}}"),
        format!(
            "POST {} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            hook.url
        ),
        format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\n{{}}\r\n0\r\n\r\n"
        ),
    ] {
        let answer = raw(address, &[request.as_bytes()]).await;
        assert!(answer.contains(" 202 "), "{answer}");
    }
}
