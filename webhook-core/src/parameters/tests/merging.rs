//! Tests of sources, names, limits, secrets and reported problems.

use super::*;

#[test]
fn a_value_of_the_body_beats_the_query_and_the_query_beats_the_default() {
    let blocks = blocks([ParameterBlock::new("p", ParameterType::Integer).with_default(1)]);
    let source = |raw: &str, given: &BodyParameters| {
        let parameters = merged(&blocks, &query(raw), given).unwrap();
        let parameter = parameters.get("p").unwrap();
        (parameter.value.as_i64().unwrap(), parameter.source)
    };
    assert_eq!(source("", &BodyParameters::default()), (1, Source::Default));
    assert_eq!(source("p=2", &BodyParameters::default()), (2, Source::Query));
    assert_eq!(source("p=2", &body(json!({"p": 3}))), (3, Source::Body));
    assert_eq!(source("p=2", &form("p=3")), (3, Source::Body));
    assert_eq!(source("p=nonsense", &body(json!({"p": 3}))), (3, Source::Body));
}

#[test]
fn null_for_a_declared_block_means_not_given() {
    let declared = blocks([ParameterBlock::new("p", ParameterType::Json).with_default(1)]);
    let null = body(json!({"p": null}));
    assert_eq!(first_value(merged(&declared, &query("p=2"), &null)), Ok(json!(2)));
    assert_eq!(first_value(merged(&declared, &query(""), &null)), Ok(json!(1)));
    let required = blocks([one(ParameterType::Text).required()]);
    let (code, _) = first_value(merged(&required, &query(""), &null)).unwrap_err();
    assert_eq!(code, ProblemCode::Required);
}

#[test]
fn a_block_without_default_and_value_is_absent_unless_required() {
    let blocks = blocks([one(ParameterType::Text), ParameterBlock::new("q", ParameterType::Text).required()]);
    let problems = merged(&blocks, &query(""), &BodyParameters::default()).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].parameter.as_str(), problems[0].code), ("q", ProblemCode::Required));
    let parameters = merged(&blocks, &query("q="), &BodyParameters::default()).unwrap();
    assert_eq!(parameters.values().collect::<Vec<_>>(), [("q", &json!(""))]);
}

#[test]
fn undeclared_values_are_taken_as_given_unless_the_webhook_is_strict() {
    let blocks = ParameterBlocks::default();
    let raw = query("a=5&b=true&c=x");
    let given = body(json!({"c": null, "d": [1.5], "token": "t"}));
    let parameters = merged(&blocks, &raw, &given).unwrap();
    assert_eq!(
        serde_json::to_value(&parameters).unwrap(),
        json!({
            "a": {"value": "5", "source": "query"},
            "b": {"value": "true", "source": "query"},
            "c": {"value": null, "source": "body"},
            "d": {"value": [1.5], "source": "body"},
            "token": {"value": "t", "source": "body"},
        })
    );
    let problems = merge(&blocks, &raw, &given, true, &ParameterLimits::default()).unwrap_err();
    let names: Vec<_> = problems.iter().map(|problem| problem.parameter.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "token"]);
    assert!(problems.iter().all(|problem| problem.code == ProblemCode::Undeclared));
}

#[test]
fn names_match_by_exact_bytes() {
    let declared = blocks([ParameterBlock::new("Région", ParameterType::Integer)]);
    let parameters =
        merged(&declared, &query("région=x&Re%CC%81gion=y"), &BodyParameters::default()).unwrap();
    assert!(parameters.get("Région").is_none());
    assert_eq!(parameters.len(), 2);
}

#[test]
fn a_repeated_name_is_a_problem_even_where_the_body_overrides_it() {
    let blocks = blocks([one(ParameterType::Integer)]);
    let nothing = BodyParameters::default();
    let codes = |raw: &str, given: &BodyParameters| -> Vec<(String, ProblemCode)> {
        let problems = merged(&blocks, &query(raw), given).unwrap_err();
        problems.into_iter().map(|problem| (problem.parameter, problem.code)).collect()
    };
    let repeated = |name: &str| (name.to_owned(), ProblemCode::Repeated);
    assert_eq!(codes("p=1&p=1", &nothing), [repeated("p")]);
    assert_eq!(codes("p=x&p=y", &nothing), [repeated("p")]);
    assert_eq!(codes("p=1&p=1", &body(json!({"p": 2}))), [repeated("p")]);
    assert_eq!(codes("p=1&p=1", &form("p=1&p=2")), [repeated("p"), repeated("p")]);
    assert_eq!(codes("u=1&u=2", &nothing), [repeated("u")]);
    assert_eq!(codes("u=1&u=2", &body(json!({"u": 3}))), [repeated("u")]);
    assert_eq!(
        codes("p=1&p=1", &body(json!({"p": "x"}))),
        [repeated("p"), ("p".to_owned(), ProblemCode::WrongType)]
    );
}

#[test]
fn all_problems_are_reported_declared_ones_first() {
    let blocks = blocks([
        ParameterBlock::new("z", ParameterType::Integer),
        ParameterBlock::new("a", ParameterType::Date).required(),
        ParameterBlock::new("m", ParameterType::Boolean),
    ]);
    let limits = ParameterLimits::default().with_name_bytes(8);
    let raw = query("much_too_long=1&z=x&b=1&=2");
    let problems = merge(&blocks, &raw, &body(json!({"m": []})), true, &limits).unwrap_err();
    let found: Vec<_> = problems.iter().map(|problem| (problem.parameter.as_str(), problem.code)).collect();
    assert_eq!(
        found,
        [
            ("z", ProblemCode::WrongType),
            ("a", ProblemCode::Required),
            ("m", ProblemCode::WrongType),
            ("", ProblemCode::NameInvalid),
            ("b", ProblemCode::Undeclared),
            ("much_too_long", ProblemCode::NameInvalid),
        ]
    );
}

/// Masking searches for each secret value in all output of a run.
#[test]
fn secret_values_are_bounded_in_number_and_defaults_and_open_ones_are_not() {
    let many = |count: usize| json!(vec!["x"; count]);
    let list = |name: &str| ParameterBlock::new(name, ParameterType::List);
    let blocks = blocks([
        list("a").secret(),
        list("b").secret(),
        list("open"),
        list("own").with_default(many(2_000)).secret(),
    ]);
    // A list is a value too.
    assert!(
        merged(&blocks, &query(""), &body(json!({"a": many(500), "b": many(498), "open": many(2_000)})))
            .is_ok()
    );
    let problems = merged(&blocks, &query(""), &body(json!({"a": many(500), "b": many(499)}))).unwrap_err();
    assert_eq!(problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), [ProblemCode::TooMany]);
    let problems = merged(&blocks, &query(""), &body(json!({"a": many(500), "B": many(500)}))).unwrap_err();
    assert_eq!(problems.len(), 1, "what looks like a secret is one");
}

/// serde_json reads an object with such a name back as its text, or not at all.
#[test]
fn names_that_serde_json_keeps_for_itself_are_problems_wherever_they_stand() {
    let blocks = blocks([ParameterBlock::new("j", ParameterType::Json)]);
    let name = "$serde_json::private::RawValue";
    let refused = |raw: &str, given: &BodyParameters| {
        let problems = merged(&blocks, &query(raw), given).unwrap_err();
        problems.into_iter().map(|problem| (problem.parameter, problem.code)).collect::<Vec<_>>()
    };
    let object = |value: Value| BodyParameters::from_object(value.as_object().unwrap().clone());
    let own = (name.to_owned(), ProblemCode::NameInvalid);
    assert_eq!(refused(&format!("{name}=[1"), &BodyParameters::default()), std::slice::from_ref(&own));
    assert_eq!(refused("", &form(&format!("{name}=[1"))), std::slice::from_ref(&own));
    assert_eq!(refused("", &object(json!({name: "[1"}))), [own]);
    let text = format!("j={{\"{name}\":\"[1\"}}");
    assert_eq!(refused(&text, &BodyParameters::default()), [("j".to_owned(), ProblemCode::WrongType)]);
    for within in [json!({name: "[1"}), json!([{"a": {"b": 1, name: "[1"}}])] {
        for parameter in ["j", "undeclared"] {
            let expected = [(parameter.to_owned(), ProblemCode::NameInvalid)];
            assert_eq!(refused("", &object(json!({parameter: within}))), expected);
        }
    }
}

#[test]
fn a_name_may_have_128_bytes_and_a_call_256_names() {
    let blocks = blocks([one(ParameterType::Integer)]);
    let raw = query(&format!("{}=1", "n".repeat(128)));
    assert!(merged(&blocks, &raw, &BodyParameters::default()).is_ok());
    let raw = query(&format!("{}=1", "n".repeat(129)));
    let problems = merged(&blocks, &raw, &BodyParameters::default()).unwrap_err();
    assert_eq!((problems[0].parameter.len(), problems[0].code), (64, ProblemCode::NameInvalid));

    let many = |count: usize| (0..count).map(|n| format!("n{n}=1")).collect::<Vec<_>>().join("&");
    assert!(merged(&blocks, &query(&many(256)), &form(&many(256))).is_ok());
    let problems = merge(
        &blocks,
        &query(&format!("p=x&{}", many(256))),
        &form("n0=1"),
        true,
        &ParameterLimits::default(),
    )
    .unwrap_err();
    let found: Vec<_> = problems.iter().map(|problem| (problem.parameter.as_str(), problem.code)).collect();
    assert_eq!(found, [("p", ProblemCode::WrongType), ("*", ProblemCode::TooMany)]);
}

#[test]
fn a_problem_on_a_value_with_the_paste_accident_says_so() {
    let (_, message) = text(one(ParameterType::Date), "2026-01-01®ion=EMEA").unwrap_err();
    assert!(message.contains("®ion=") && message.contains("&region="), "{message}");
    let (_, message) = text(one(ParameterType::Choice), "EMEA¤cy=EUR").unwrap_err();
    assert!(message.contains("&currency="), "{message}");
    let (_, message) = text(one(ParameterType::Date).secret(), "2026-01-01®ion=EMEA").unwrap_err();
    assert!(!message.contains("region"), "{message}");
    let undeclared = merge(
        &ParameterBlocks::default(),
        &query("u=1®ion=EMEA"),
        &BodyParameters::default(),
        true,
        &ParameterLimits::default(),
    );
    assert!(undeclared.unwrap_err()[0].message.contains("&region="));
}

#[test]
fn a_problem_shows_a_short_excerpt_and_never_a_token() {
    let (_, message) = text(one(ParameterType::Integer), &"x\n".repeat(5000)).unwrap_err();
    assert!(message.len() < 400 && message.contains(r"x\nx\n") && message.contains('…'), "{message}");
    let (_, message) = text(one(ParameterType::Integer), "5&token=whk_canary").unwrap_err();
    assert!(message.contains("whk_***") && !message.contains("canary"), "{message}");
    let problems = merge(
        &ParameterBlocks::default(),
        &query("whk_canary=1"),
        &BodyParameters::default(),
        true,
        &ParameterLimits::default(),
    );
    assert!(!format!("{problems:?}").contains("canary"));
}

#[test]
fn a_secret_value_keeps_its_mark_and_is_masked_wherever_it_is_shown() {
    let declared = blocks([
        ParameterBlock::new("given", ParameterType::Text).secret(),
        ParameterBlock::new("preset", ParameterType::Integer).with_default(424242).secret(),
    ]);
    assert!(declared.has_secret());
    let parameters = merged(&declared, &query("given=canary"), &BodyParameters::default()).unwrap();
    assert!(parameters.iter().all(|(_, parameter)| parameter.secret));
    assert_eq!(parameters.get("given").unwrap().value, "canary");
    let shown = format!("{parameters:?} {declared:?}")
        + &serde_json::to_string(&parameters).unwrap()
        + &serde_json::to_string(&declared).unwrap();
    assert!(!shown.contains("canary") && !shown.contains("424242"), "{shown}");
}

#[test]
fn json_given_by_hand_is_held_to_the_limits_of_a_body() {
    let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    let codes = |value: Value, limits: ParameterLimits| -> Option<ProblemCode> {
        let given = BodyParameters::from_object(serde_json::Map::from_iter([("p".to_owned(), value)]));
        let problems =
            merge(&blocks([one(ParameterType::Json)]), &query(""), &given, false, &limits).err()?;
        Some(problems[0].code)
    };
    let limits = ParameterLimits::default();
    assert_eq!(codes(nested(64), limits), None);
    assert_eq!(codes(nested(65), limits), Some(ProblemCode::TooDeep));
    assert_eq!(codes(nested(97), limits.with_json_depth(usize::MAX)), Some(ProblemCode::TooDeep));
    assert_eq!(codes(json!([1, 2]), limits.with_json_values(3)), None);
    assert_eq!(codes(json!([1, 2]), limits.with_json_values(2)), Some(ProblemCode::TooMany));
    assert_eq!(codes(json!("abcd"), limits.with_body_bytes(5)), None);
    assert_eq!(codes(json!("abcd"), limits.with_body_bytes(4)), Some(ProblemCode::TooLarge));
}

#[test]
fn the_json_values_of_all_parts_of_a_call_count_together() {
    let declared = blocks([one(ParameterType::Json), ParameterBlock::new("q", ParameterType::Json)]);
    let limits = ParameterLimits::default().with_json_values(6);
    let ok = |raw: &str, given: Value| merge(&declared, &query(raw), &body(given), false, &limits).is_ok();
    assert!(ok("p=[1,2]&q=[1,2]", json!({})));
    assert!(!ok("p=[1,2]&q=[1,2,3]", json!({})));
    assert!(!ok("p=[1,2]&q=[1,2]", json!({"r": 1})));
}

#[test]
fn a_required_block_says_which_name_was_given_instead() {
    let declared = blocks([ParameterBlock::new("region", ParameterType::Text).required()]);
    let problems = merged(&declared, &query("Region=APAC"), &BodyParameters::default()).unwrap_err();
    assert!(problems[0].message.contains("\"Region\""), "{problems:?}");
}

#[test]
fn a_number_that_is_not_whole_as_it_is_written_is_no_integer() {
    let integer = blocks([one(ParameterType::Integer)]);
    let number = blocks([one(ParameterType::Number)]);
    for (literal, whole) in
        [("5.0", true), ("50e-1", true), ("4503599627370497.4", false), ("9007199254740993.0", false)]
    {
        let text = format!("{{\"p\":{literal}}}");
        let given = parse_body(None, text.as_bytes(), &ParameterLimits::default()).unwrap();
        assert_eq!(merged(&integer, &query(""), &given).is_ok(), whole, "{literal}");
        assert!(merged(&number, &query(""), &given).is_ok(), "{literal}");
    }
}
