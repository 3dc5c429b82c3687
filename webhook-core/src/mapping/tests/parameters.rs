//! Parameters that are taken from a call.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::parameters::{
    BodyParameters, ParameterBlock, ParameterBlocks, ParameterType, PassThrough, QueryParameters, merge_over,
};

fn mapped(mapping: Value, sent: &Sent) -> Result<Value, Vec<String>> {
    let mapping: Vec<MappingRule> = from_json(mapping);
    let overlay = sent.read(|content| overlay(&mapping, PassThrough::None, &BTreeMap::new(), content));
    let blocks = ParameterBlocks::new(vec![
        ParameterBlock::new("region", ParameterType::Choice)
            .with_choices(["emea", "apac"])
            .with_default("apac"),
        ParameterBlock::new("rows", ParameterType::Integer),
    ])
    .unwrap();
    let (query, body) = (QueryParameters::default(), BodyParameters::default());
    match merge_over(&blocks, &query, &body, &overlay, false, &ParameterLimits::default()) {
        Ok(merged) => {
            let values = merged.parameters.iter().map(|(name, given)| (name.to_owned(), given.value.clone()));
            Ok(Value::Object(values.collect()))
        }
        Err(problems) => Err(problems.into_iter().map(|problem| problem.parameter).collect()),
    }
}

#[test]
fn parameters_are_taken_from_every_place() {
    let sent = Sent::json(PUSH).with("X-GitHub-Delivery", "d-1").query("tag=a&tag=b&rows=5");
    let mapping = json!([
        {"parameter": "repository", "from": "body", "pointer": "/repository"},
        {"parameter": "delivery", "from": "header", "name": "x-github-delivery"},
        {"parameter": "rows", "from": "query", "name": "rows"},
        {"parameter": "tags", "from": "query", "name": "tag"},
        {"parameter": "method", "from": "method"},
        {"parameter": "raw", "from": "raw_body"},
    ]);
    let expected = json!({
        "repository": {"full_name": "acme/sales-data", "id": 98765}, "delivery": "d-1", "rows": 5, "tags": ["a", "b"],
        "method": "POST", "raw": PUSH, "region": "apac",
    });
    assert_eq!(mapped(mapping, &sent).unwrap(), expected);
}

#[test]
fn a_default_stands_for_what_is_missing_or_null_and_is_checked_as_the_rest() {
    let rule = |pointer: &str, default: Value| json!([{"parameter": "region", "from": "body", "pointer": pointer, "default": default}]);
    let region =
        |pointer, default| mapped(rule(pointer, default), &Sent::json(r#"{"a": null, "b": "apac"}"#));
    assert_eq!(region("/none", json!("emea")).unwrap()["region"], "emea");
    assert_eq!(region("/a", json!("emea")).unwrap()["region"], "emea");
    assert_eq!(region("/b", json!("emea")).unwrap()["region"], "apac");
    assert_eq!(region("/none", Value::Null).unwrap()["region"], "apac", "the default of the block");
    assert_eq!(region("/none", json!("mars")).unwrap_err(), ["region"]);
}

#[test]
fn arrays_scalars_and_forms_can_be_mapped() {
    let rule = |pointer: &str| json!([{"parameter": "id", "from": "body", "pointer": pointer}]);
    let events = Sent::json(r#"[{"eventType": "x", "id": "9aeb"}]"#);
    assert_eq!(mapped(rule("/0/id"), &events).unwrap()["id"], "9aeb");
    assert_eq!(mapped(rule(""), &Sent::json("5")).unwrap()["id"], 5);
    let form = Sent::form("command=%2Freport&text=emea&x=1&x=2");
    assert_eq!(mapped(rule("/command"), &form).unwrap()["id"], "/report");
    assert_eq!(mapped(rule("/x"), &form).unwrap()["id"], json!(["1", "2"]));
    let rules: Vec<MappingRule> = from_json(rule("/0/id"));
    assert!(takes_body(&rules));
    assert!(!takes_body(&[MappingRule::new("m", Selector::Method)]));
}

#[test]
fn bytes_that_are_no_text_are_a_problem_and_nothing_is_guessed() {
    let mut sent = Sent::json("{}");
    let mapping: Vec<MappingRule> = from_json(json!([{"parameter": "raw", "from": "raw_body"}]));
    sent.body = b"\xff".to_vec();
    let raw = RawCall::new("POST", "https://a.example/w", &[], &sent.body);
    let (query, payload) = (QueryParameters::default(), crate::parameters::Payload::empty());
    let content = CallContent::new(&raw, &query, &payload);
    let overlay = overlay(&mapping, PassThrough::None, &BTreeMap::new(), &content);
    let blocks = ParameterBlocks::default();
    let body = BodyParameters::default();
    let merged = merge_over(&blocks, &query, &body, &overlay, false, &ParameterLimits::default());
    assert_eq!(merged.unwrap_err()[0].parameter, "raw");
}

proptest! {
    #[test]
    fn any_body_can_be_mapped(body in "[\\[\\]{}\"a:,0-9.e-]{0,24}", pointer in "(/[a0-9~]{0,2}){0,3}") {
        let bytes = body.as_bytes();
        let (Ok(payload), Ok(pointer)) =
            (parse_payload(None, bytes, &ParameterLimits::default(), Default::default()), pointer.parse())
        else {
            return Ok(());
        };
        let raw = RawCall::new("POST", "https://a.example/w", &[], bytes);
        let query = QueryParameters::default();
        let content = CallContent::new(&raw, &query, &payload);
        let rule = MappingRule::new("a", Selector::body(pointer)).with_default("default");
        let overlay = overlay(&[rule], PassThrough::None, &BTreeMap::new(), &content);
        let (blocks, body) = (ParameterBlocks::default(), BodyParameters::default());
        if let Ok(merged) = merge_over(&blocks, &query, &body, &overlay, false, &ParameterLimits::default()) {
            prop_assert!(merged.parameters.get("a").is_some());
        }
    }
}
