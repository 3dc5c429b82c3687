//! Tests of bodies and media types, well formed or not.

use reqwest::Method;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::json;

use super::{detail, form, json_body, refused, typed, value, warned};
use crate::support::{content, problem, raw};

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
async fn curly_quotes_not_a_number_lone_surrogates_and_duplicates_are_refused_with_their_place() {
    let (world, hook) = typed(json!({})).await;
    for body in ["{“a”:1}", "{\"a\":NaN}", "{\"a\":\"\\ud800\"}", "{\"a\":1,\"a\":2}", "{\"a\":1e400}"] {
        let detail = detail(json_body(&world, &hook, body), 400, "malformed-body").await;
        assert!(detail.contains("line 1"), "{detail}");
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
