//! Values of a webhook's own over those of a call.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::parameters::*;

fn blocks() -> ParameterBlocks {
    ParameterBlocks::new(vec![
        ParameterBlock::new("region", ParameterType::Text).with_default("EMEA"),
        ParameterBlock::new("rows", ParameterType::Integer),
        ParameterBlock::new("tags", ParameterType::List),
    ])
    .unwrap()
}

fn fixed(members: Value) -> BTreeMap<String, Value> {
    members.as_object().unwrap().clone().into_iter().collect()
}

fn merged(
    overlay: &Overlay,
    query: &str,
    body: Value,
    strict: bool,
) -> Result<Merged, Vec<ParameterProblem>> {
    let query = parse_query(query).unwrap().parameters;
    let body = BodyParameters::from_object(body.as_object().cloned().unwrap_or_default());
    merge_over(&blocks(), &query, &body, overlay, strict, &ParameterLimits::default())
}

fn shown(merged: Merged) -> Value {
    serde_json::to_value(merged.parameters).unwrap()
}

#[test]
fn fixed_goes_before_mapped_and_mapped_before_body_and_query() {
    let mut overlay = Overlay::new(PassThrough::All, fixed(json!({"fixed": "f", "rows": 7})));
    overlay.map_text("region", "APAC");
    overlay.map_value("tags", json!(["a", 1]));
    let found = merged(&overlay, "region=q&other=q", json!({"region": "b", "tags": ["b"]}), false).unwrap();
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    let expected = json!({
        "region": {"value": "APAC", "source": "mapping"}, "tags": {"value": ["a", 1], "source": "mapping"},
        "rows": {"value": 7, "source": "fixed"}, "fixed": {"value": "f", "source": "fixed"},
        "other": {"value": "q", "source": "query"},
    });
    assert_eq!(shown(found), expected);
}

#[test]
fn a_mapped_value_is_converted_and_null_means_not_given() {
    let mut overlay = Overlay::default();
    overlay.map_text("rows", "5");
    overlay.map_value("region", Value::Null);
    let found = shown(merged(&overlay, "", json!({"region": "b"}), false).unwrap());
    assert_eq!(found["rows"], json!({"value": 5, "source": "mapping"}));
    assert_eq!(found["region"], json!({"value": "b", "source": "body"}));
    overlay.map_text("rows", "many");
    let problems = merged(&overlay, "", json!({}), false).unwrap_err();
    assert_eq!((problems[0].parameter.as_str(), problems[0].code), ("rows", ProblemCode::WrongType));
}

#[test]
fn what_may_not_pass_counts_for_nothing() {
    for (pass_through, names) in [
        (PassThrough::All, vec!["extra", "more", "region"]),
        (PassThrough::Declared, vec!["region"]),
        (PassThrough::None, vec!["region"]),
    ] {
        let overlay = Overlay::new(pass_through, BTreeMap::new());
        let found = merged(&overlay, "region=APAC&extra=1", json!({"more": 1}), false).unwrap();
        let given: Vec<_> = found.parameters.iter().map(|(name, _)| name).collect();
        assert_eq!(given, names, "{pass_through:?}");
        let passes = pass_through != PassThrough::None;
        let region = found.parameters.get("region").unwrap();
        assert_eq!(region.source, if passes { Source::Query } else { Source::Default }, "{pass_through:?}");
    }
    let overlay = Overlay::new(PassThrough::Declared, BTreeMap::new());
    assert!(merged(&overlay, "extra=1", json!({"more": 1}), true).is_ok(), "strict sees what passes");
}

#[test]
fn a_strict_webhook_maps_to_declared_names_only() {
    let mut overlay = Overlay::default();
    overlay.map_text("other", "x");
    assert!(merged(&overlay, "", json!({}), false).is_ok());
    let problems = merged(&overlay, "", json!({}), true).unwrap_err();
    assert_eq!((problems[0].parameter.as_str(), problems[0].code), ("other", ProblemCode::Undeclared));
}

#[test]
fn a_caller_that_gives_a_fixed_parameter_is_told_so() {
    let overlay = Overlay::new(PassThrough::All, fixed(json!({"region": "APAC"})));
    for (query, body) in [("region=q", json!({})), ("", json!({"region": "b"}))] {
        let found = merged(&overlay, query, body.clone(), false).unwrap();
        assert_eq!(found.parameters.get("region").unwrap().value, "APAC");
        assert_eq!(found.warnings[0].code, WarningCode::Fixed);
        let problems = merged(&overlay, query, body, true).unwrap_err();
        assert_eq!((problems[0].parameter.as_str(), problems[0].code), ("region", ProblemCode::Fixed));
    }
    let hidden = Overlay::new(PassThrough::None, fixed(json!({"region": "APAC"})));
    assert!(merged(&hidden, "region=q", json!({}), true).is_ok(), "what may not pass overrides nothing");
}

#[test]
fn a_mapped_number_that_would_be_rounded_is_a_problem() {
    let text = br#"{"order": {"id": 99999999999999999999, "price": 1.5}}"#;
    let payload = parse_payload(None, text, &ParameterLimits::default(), Default::default()).unwrap();
    let mut overlay = Overlay::new(PassThrough::None, BTreeMap::new());
    assert!(overlay.map_payload("price", &payload, &"/order/price".parse().unwrap()));
    assert!(!overlay.map_payload("none", &payload, &"/order/none".parse().unwrap()));
    assert_eq!(shown(merged(&overlay, "", json!({}), false).unwrap())["price"]["value"], 1.5);
    assert!(overlay.map_payload("id", &payload, &"/order/id".parse().unwrap()));
    let problems = merged(&overlay, "", json!({}), false).unwrap_err();
    assert_eq!((problems[0].parameter.as_str(), problems[0].code), ("id", ProblemCode::WrongType));
}

#[test]
fn a_mapping_can_not_multiply_what_a_call_gives() {
    let mut overlay = Overlay::default();
    for name in 0..64 {
        overlay.map_text(&format!("text{name}"), "x".repeat(100_000));
    }
    let problems = merged(&overlay, "", json!({}), false).unwrap_err();
    assert_eq!(problems[0].code, ProblemCode::TooLarge);
    let mut overlay = Overlay::default();
    for name in 0..64 {
        overlay.map_value(&format!("list{name}"), json!(vec![0; 1_000]));
    }
    assert_eq!(merged(&overlay, "", json!({}), false).unwrap_err()[0].code, ProblemCode::TooMany);
}

#[test]
fn tokens_in_mapped_values_are_masked_and_debug_shows_names_only() {
    let token = crate::token::Token::generate();
    let mut overlay = Overlay::new(PassThrough::All, fixed(json!({"name": "canary"})));
    overlay.map_text("url", format!("https://a.example/?token={}", token.expose()));
    assert_eq!(
        shown(merged(&overlay, "", json!({}), false).unwrap())["url"]["value"],
        "https://a.example/?token=whk_***"
    );
    let debug = format!("{overlay:?}");
    assert!(debug.contains("url") && !debug.contains("canary") && !debug.contains(token.expose()), "{debug}");
}

#[test]
fn an_array_has_no_parameters_of_its_own_and_is_refused_where_no_mapping_takes_it() {
    let payload = || parse_payload(None, b"[1]", &ParameterLimits::default(), Default::default()).unwrap();
    assert!(BodyParameters::from_mapped(payload()).is_empty());
    assert!(parse_body(None, b"[1]", &ParameterLimits::default()).is_err());
    let object =
        parse_payload(None, br#"{"a": 1}"#, &ParameterLimits::default(), Default::default()).unwrap();
    assert!(
        BodyParameters::from_mapped(object)
            == BodyParameters::from_object(Map::from_iter([("a".to_owned(), json!(1))]))
    );
}
