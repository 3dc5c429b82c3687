//! Settings as they are saved.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::setting::SettingProblem;

fn problems(read: impl FnOnce(&mut Vec<SettingProblem>)) -> Vec<String> {
    let mut problems = Vec::new();
    read(&mut problems);
    problems.into_iter().map(|problem| problem.field).collect()
}

fn of_condition(condition: Value) -> Vec<String> {
    problems(|problems| {
        Conditions::read(json!({"all": [condition]}), problems);
    })
    .into_iter()
    .map(|field| field.trim_start_matches("conditions.all[0].").to_owned())
    .collect()
}

fn of_mapping(mapping: Value) -> Vec<String> {
    problems(|problems| {
        MappingRule::read_all(mapping, problems);
    })
}

#[test]
fn settings_read_back_as_they_were_written() {
    let conditions = json!({"all": [
        {"from": "header", "name": "X-GitHub-Event", "op": "equals", "value": "push"},
        {"from": "body", "pointer": "/ref", "op": "matches", "value": "^refs/heads/"},
        {"from": "query", "name": "a", "op": "one_of", "value": ["1", "2"]},
        {"from": "body", "pointer": "/n", "op": "not_equals", "value": 5},
        {"from": "body", "pointer": "/x", "op": "exists", "value": false},
    ]});
    let mut found = Vec::new();
    let read = Conditions::read(conditions.clone(), &mut found);
    assert_eq!(found, []);
    assert_eq!(serde_json::to_value(&read).unwrap(), conditions);
    assert_eq!(from_json::<Conditions>(conditions), read);
    let mapping = json!([
        {"parameter": "region", "from": "body", "pointer": "/a~1b", "default": "EMEA"},
        {"parameter": "event", "from": "header", "name": "X-Event", "default": null},
        {"parameter": "raw", "from": "raw_body", "default": null},
    ]);
    let read = MappingRule::read_all(mapping.clone(), &mut found);
    assert_eq!(found, []);
    assert_eq!(serde_json::to_value(&read).unwrap(), mapping);
    assert_eq!(from_json::<Vec<MappingRule>>(mapping), read);
    let key = json!({"from": "header", "name": "X-Event-Id"});
    let read = KeySource::read(key.clone(), &mut found).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), key);
}

#[test]
fn a_condition_that_cannot_be_meant_names_its_field() {
    let header = |op: &str, value: Value| json!({"from": "header", "name": "X-A", "op": op, "value": value});
    assert_eq!(of_condition(json!({})), ["from", "op"]);
    assert_eq!(of_condition(json!({"from": "cookie", "op": "exists", "value": true})), ["from"]);
    assert_eq!(of_condition(json!({"from": "method", "op": "exists", "value": true})), ["from"]);
    assert_eq!(of_condition(header("is", json!("x"))), ["op"]);
    assert_eq!(of_condition(header("equals", json!(5))), ["value"]);
    assert_eq!(of_condition(header("equals", json!(null))), ["value"]);
    assert_eq!(of_condition(header("one_of", json!([]))), ["value"]);
    assert_eq!(of_condition(header("one_of", json!(["a", 5]))), ["value"]);
    assert_eq!(of_condition(header("exists", json!("yes"))), ["value"]);
    assert_eq!(of_condition(header("matches", json!("(a")),), ["value"]);
    assert_eq!(of_condition(header("equals", json!("x".repeat(5_000)))), ["value"]);
    assert_eq!(of_condition(json!({"from": "body", "op": "exists", "value": true})), ["pointer"]);
    assert_eq!(
        of_condition(json!({"from": "body", "pointer": "a", "op": "exists", "value": true})),
        ["pointer"]
    );
    assert_eq!(
        of_condition(json!({"from": "header", "name": "X A", "op": "exists", "value": true})),
        ["name"]
    );
    let mut extra = header("exists", json!(true));
    extra["pointer"] = "/a".into();
    assert_eq!(of_condition(extra), ["pointer"]);
    let many = vec![header("exists", json!(true)); 17];
    let all = |all: Value| problems(|found| drop(Conditions::read(json!({"all": all}), found)));
    assert_eq!(all(json!(many)), ["conditions.all"]);
    assert_eq!(all(json!([])), ["conditions.all"]);
    assert_eq!(all(json!("x")), ["conditions.all"]);
}

#[test]
fn a_mapping_that_cannot_be_meant_names_its_field() {
    assert_eq!(of_mapping(json!({})), ["mapping"]);
    assert_eq!(of_mapping(json!([5])), ["mapping[0]", "mapping[0].parameter", "mapping[0].from"]);
    let rule = |name: &str| json!({"parameter": name, "from": "method"});
    assert_eq!(of_mapping(json!([rule("a"), rule("b"), rule("a")])), ["mapping[2].parameter"]);
    assert_eq!(of_mapping(json!([rule("")])), ["mapping[0].parameter"]);
    assert_eq!(of_mapping(json!([rule(&"x".repeat(129))])), ["mapping[0].parameter"]);
    let many: Vec<_> = (0..65).map(|index| rule(&index.to_string())).collect();
    assert_eq!(of_mapping(json!(many)), ["mapping"]);
    let large = json!([{"parameter": "a", "from": "method", "default": "x".repeat(5_000)}]);
    assert_eq!(of_mapping(large), ["mapping[0].default"]);
    assert_eq!(
        of_mapping(json!([{"parameter": "a", "from": "query", "name": "token"}])),
        ["mapping[0].name"]
    );
}

#[test]
fn a_header_with_a_secret_is_never_kept() {
    for name in ["Authorization", "COOKIE", "proxy-authorization"] {
        let rule = json!([{"parameter": "a", "from": "header", "name": name}]);
        assert_eq!(of_mapping(rule), ["mapping[0].name"], "{name}");
    }
}

#[test]
fn fixed_values_are_bounded() {
    let read = |value: Value| problems(|problems| drop(read_fixed(value, problems)));
    assert_eq!(read(json!([1])), ["fixed"]);
    assert_eq!(read(json!({"": 1})), ["fixed."]);
    assert_eq!(read(json!({"a": "x".repeat(40_000)})), ["fixed"]);
    let many: BTreeMap<_, _> = (0..65).map(|index| (index.to_string(), 1)).collect();
    assert_eq!(read(json!(many)), ["fixed"]);
    let fixed = read_fixed(json!({"a": 1, "b": null}), &mut Vec::new());
    assert_eq!(fixed.keys().collect::<Vec<_>>(), ["a"]);
}
