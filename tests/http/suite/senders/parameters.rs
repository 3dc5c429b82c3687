//! Tests of names and values as senders write them.

use reqwest::header::CONTENT_TYPE;
use serde_json::json;

use super::{FORM, dry, form, json_body, refused, typed, value, warned};
use crate::support::content;

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
async fn a_problem_over_an_unescaped_plus_or_a_web_pages_reference_says_what_happened() {
    let (world, hook) = typed(json!({})).await;
    let refused =
        refused(world.post(&hook.with("day=2026-01-01%C2%AEion=EMEA")), 422, "parameters-invalid").await;
    assert!(refused["errors"][0]["message"].as_str().unwrap().contains("&region="), "{refused}");
}
