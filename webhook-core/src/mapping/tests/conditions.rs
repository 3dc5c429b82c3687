//! Conditions, under which a call starts a run.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn is_met(condition: Value, sent: &Sent) -> bool {
    let condition: Condition = from_json(condition);
    sent.read(|content| condition.is_met(content))
}

fn body(pointer: &str, op: &str, value: Value) -> Value {
    json!({"from": "body", "pointer": pointer, "op": op, "value": value})
}

fn header(op: &str, value: Value) -> Value {
    json!({"from": "header", "name": "x-github-event", "op": op, "value": value})
}

#[test]
fn each_test_holds_for_what_it_says() {
    let push = Sent::json(PUSH).with("X-GitHub-Event", "push").query("a=1&b=x&b=y&empty=");
    for (condition, expected) in [
        (header("equals", json!("push")), true),
        (header("equals", json!("Push")), false),
        (header("not_equals", json!("ping")), true),
        (header("one_of", json!(["ping", "push"])), true),
        (header("one_of", json!(["ping"])), false),
        (header("matches", json!("^pu.h$")), true),
        (header("exists", json!(true)), true),
        (header("exists", json!(false)), false),
        (body("/ref", "matches", json!("emea")), true),
        (body("/ref", "matches", json!("^emea")), false),
        (body("/size", "equals", json!(2)), true),
        (body("/size", "equals", json!(2.0)), true),
        (body("/size", "equals", json!("2")), false),
        (body("/size", "matches", json!("^2$")), true),
        (body("/forced", "equals", json!(false)), true),
        (body("/forced", "matches", json!("false")), true),
        (body("/commits/1/id", "equals", json!("c2")), true),
        (body("/commits", "equals", json!([{"id": "c1"}, {"id": "c2"}])), true),
        (body("/commits", "matches", json!(".*")), false),
        (body("/head_commit", "exists", json!(true)), true),
        (body("/head_commit", "equals", json!("x")), false),
        (json!({"from": "query", "name": "a", "op": "equals", "value": "1"}), true),
        (json!({"from": "query", "name": "b", "op": "equals", "value": "x"}), false),
        (json!({"from": "query", "name": "b", "op": "exists", "value": true}), true),
        (json!({"from": "query", "name": "empty", "op": "equals", "value": ""}), true),
    ] {
        assert_eq!(is_met(condition.clone(), &push), expected, "{condition}");
    }
}

#[test]
fn for_a_missing_value_everything_is_false_but_that_it_is_another_or_not_there() {
    for (op, value, expected) in [
        ("equals", json!("x"), false),
        ("one_of", json!(["x"]), false),
        ("matches", json!(""), false),
        ("exists", json!(true), false),
        ("not_equals", json!("x"), true),
        ("exists", json!(false), true),
    ] {
        for sent in [Sent::json(PUSH), Sent::default(), Sent::form("a=1"), Sent::json("[1]")] {
            assert_eq!(is_met(body("/none/here", op, value.clone()), &sent), expected, "{op}");
            assert_eq!(is_met(header(op, value.clone()), &sent), expected, "{op}");
        }
    }
}

#[test]
fn a_repeated_header_is_one_text_and_one_that_is_no_text_equals_nothing() {
    let twice = Sent::json("{}").with("X-GitHub-Event", "push").with("x-github-event", "ping");
    assert!(is_met(header("equals", json!("push, ping")), &twice));
    assert!(!is_met(header("equals", json!("push")), &twice));
    let headers: [(&[u8], &[u8]); 1] = [(b"x-github-event", b"\xff")];
    let raw = RawCall::new("POST", "https://a.example/w", &headers, b"");
    let (query, payload) = (Default::default(), crate::parameters::Payload::empty());
    let content = CallContent::new(&raw, &query, &payload);
    let met = |condition| from_json::<Condition>(condition).is_met(&content);
    assert!(!met(header("matches", json!(""))) && met(header("exists", json!(true))));
}

#[test]
fn the_first_unmet_condition_is_reported_as_it_was_set() {
    let set =
        json!({"all": [header("equals", json!("push")), body("/ref", "equals", json!("refs/heads/main"))]});
    let conditions: Conditions = from_json(set.clone());
    let push = Sent::json(PUSH).with("X-GitHub-Event", "push");
    let unmet = push.read(|content| conditions.unmet(content).cloned()).unwrap();
    assert_eq!(serde_json::to_value(&unmet).unwrap(), set["all"][1]);
    let main = Sent::json(r#"{"ref":"refs/heads/main"}"#).with("X-GitHub-Event", "push");
    assert!(main.read(|content| conditions.unmet(content).is_none()));
}

proptest! {
    #[test]
    fn equals_and_not_equals_never_agree(text in "[a-c]{0,2}", expected in "[a-c]{0,2}", given: bool) {
        let sent = if given { Sent::json(&json!({"a": text}).to_string()) } else { Sent::json("{}") };
        let equals = is_met(body("/a", "equals", json!(expected)), &sent);
        prop_assert_eq!(equals, given && text == expected);
        prop_assert_eq!(is_met(body("/a", "not_equals", json!(expected)), &sent), !equals);
        prop_assert_eq!(is_met(body("/a", "one_of", json!([expected])), &sent), equals);
    }
}
