//! Tests of every row of the conversion table.

use super::*;

#[test]
fn text_takes_any_text_and_the_json_text_of_an_integer_or_boolean() {
    let texts = ["", "007", "null", " a ", "é\n", "2026-01-01®ion=EMEA"];
    let accepted: Vec<_> = texts.iter().map(|text| (*text, json!(text))).collect();
    assert_texts(ParameterType::Text, &accepted, &[]);
    assert_json(
        ParameterType::Text,
        &[
            (json!(5), json!("5")),
            (json!(-5), json!("-5")),
            (json!(u64::MAX), json!("18446744073709551615")),
            (json!(true), json!("true")),
            (json!(false), json!("false")),
        ],
        &[json!(5.0), json!(0.1), json!([]), json!(["a"]), json!({})],
    );
}

#[test]
fn an_integer_is_written_in_one_way_and_fits_64_bits() {
    assert_texts(
        ParameterType::Integer,
        &[
            ("0", json!(0)),
            ("-0", json!(0)),
            ("7", json!(7)),
            ("-10", json!(-10)),
            ("9223372036854775807", json!(i64::MAX)),
            ("-9223372036854775808", json!(i64::MIN)),
        ],
        &[
            "",
            "-",
            "+7",
            "007",
            "-07",
            "00",
            "1_000",
            "1e5",
            "5.0",
            "nan",
            "infinity",
            " 7",
            "7 ",
            "7\n",
            "٣",
            "0x10",
            "1,000",
            "--7",
            "9223372036854775808",
            "-9223372036854775809",
            "true",
        ],
    );
    assert_json(
        ParameterType::Integer,
        &[
            (json!(5), json!(5)),
            (json!(i64::MIN), json!(i64::MIN)),
            (json!(5.0), json!(5)),
            (json!(-5.0), json!(-5)),
            (json!(-0.0), json!(0)),
            (json!(9007199254740991.0), json!(9007199254740991_i64)),
        ],
        &[
            json!(5.5),
            // The literal 9007199254740993.0 becomes the same double.
            json!(9007199254740992.0),
            json!(1e300),
            json!(u64::MAX),
            json!(true),
            json!([1]),
            json!({}),
        ],
    );
}

#[test]
fn a_number_keeps_integers_exact_and_never_overflows_or_vanishes() {
    assert_texts(
        ParameterType::Number,
        &[
            ("0", json!(0)),
            ("-0", json!(0)),
            ("12.5", json!(12.5)),
            ("-0.1", json!(-0.1)),
            ("5.0", json!(5.0)),
            ("1e3", json!(1000.0)),
            ("1E+3", json!(1000.0)),
            ("25e-1", json!(2.5)),
            ("0.000", json!(0.0)),
            ("0e99999", json!(0.0)),
            ("5e-324", json!(5e-324)),
            ("1.7976931348623157e308", json!(f64::MAX)),
            ("9007199254740993", json!(9007199254740993_i64)),
            ("18446744073709551615", json!(u64::MAX)),
            ("-9223372036854775808", json!(i64::MIN)),
        ],
        &[
            "",
            "-",
            ".5",
            "5.",
            "+5",
            "05",
            "-05.1",
            "1e",
            "1e+",
            "e5",
            "1_000",
            "1e5.0",
            "1.2.3",
            "nan",
            "NaN",
            "inf",
            "infinity",
            "Infinity",
            "0x10",
            " 1",
            "1 ",
            "1e400",
            "-1e400",
            "1e-400",
            "0.0001e-999",
            "18446744073709551616",
            "-9223372036854775809",
            "1,5",
            "٣",
        ],
    );
    let (_, message) = text(one(ParameterType::Number), "18446744073709551616").unwrap_err();
    assert!(message.contains("64 bits"), "{message}");
    assert_json(
        ParameterType::Number,
        &[(json!(5), json!(5)), (json!(5.0), json!(5.0)), (json!(u64::MAX), json!(u64::MAX))],
        &[json!(true), json!([1]), json!({})],
    );
}

#[test]
fn a_boolean_is_true_or_false_in_any_case_or_one_or_zero() {
    assert_texts(
        ParameterType::Boolean,
        &[
            ("true", json!(true)),
            ("TRUE", json!(true)),
            ("tRue", json!(true)),
            ("1", json!(true)),
            ("false", json!(false)),
            ("False", json!(false)),
            ("0", json!(false)),
        ],
        &["", "yes", "no", "on", "off", "t", "f", "y", "01", "-0", "1.0", " true", "ｔrue", "2"],
    );
    assert_json(
        ParameterType::Boolean,
        &[
            (json!(true), json!(true)),
            (json!(false), json!(false)),
            (json!(1), json!(true)),
            (json!(0), json!(false)),
        ],
        &[json!(2), json!(-1), json!(1.0), json!(0.0), json!([true]), json!({})],
    );
}

#[test]
fn a_date_is_a_real_calendar_day_and_stays_text() {
    let days = ["2026-01-31", "2024-02-29", "0000-01-01", "9999-12-31"];
    let accepted: Vec<_> = days.iter().map(|day| (*day, json!(day))).collect();
    assert_texts(
        ParameterType::Date,
        &accepted,
        &[
            "",
            "2026-02-29",
            "2026-02-30",
            "2026-13-01",
            "2026-00-10",
            "2026-01-00",
            "2026-1-1",
            "20260101",
            "26-01-01",
            "+2026-01-01",
            "-2026-01-01",
            "2026-W05-1",
            "2026-031",
            "2026/01/01",
            "01.02.2026",
            "2026-01-01T00:00:00Z",
            " 2026-01-01",
            "2026-01-01 ",
            "2026-01-0١",
            "today",
        ],
    );
    assert_json(ParameterType::Date, &[], &[json!(20260101), json!(true), json!(["2026-01-01"]), json!({})]);
}

#[test]
fn a_datetime_is_rfc_3339_with_offset_and_stays_text() {
    let moments = [
        "2026-01-31T08:00:00Z",
        "2026-01-31t08:00:00z",
        "2026-01-31T08:00:00.5Z",
        "2026-01-31T08:00:00.123456789012345+02:00",
        "2026-01-31T08:00:00-00:00",
        "2026-01-31T23:59:59+23:59",
        "1990-12-31T23:59:60Z",
        "1990-12-31T15:59:60-08:00",
    ];
    let accepted: Vec<_> = moments.iter().map(|moment| (*moment, json!(moment))).collect();
    assert_texts(
        ParameterType::Datetime,
        &accepted,
        &[
            "",
            "2026-01-31",
            "2026-01-31T08:00:00",
            "2026-01-31 08:00:00Z",
            "2026-01-31_08:00:00Z",
            "2026-01-31T08:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T08:60:00Z",
            "2026-01-31T08:00:61Z",
            "2026-01-31T08:00:60Z",
            "2026-02-30T08:00:00Z",
            "2026-01-31T08:00:00.Z",
            "2026-01-31T08:00:00,5Z",
            "2026-01-31T08:00:00+0200",
            "2026-01-31T08:00:00+02",
            "2026-01-31T08:00:00+24:00",
            "2026-01-31T08:00:00+02:60",
            "2026-01-31T08:00:00 Z",
            "2026-01-31T08:00:00Z ",
            "2026-01-31T08:00:00ZZ",
            "2026-01-31T08:00:00−02:00",
            "20260131T080000Z",
            "1769846400",
            "now",
        ],
    );
    assert_json(ParameterType::Datetime, &[], &[json!(1769846400), json!(true), json!([]), json!({})]);
}

#[test]
fn a_plus_that_became_a_space_in_a_datetime_is_explained() {
    let blocks = blocks([one(ParameterType::Datetime)]);
    let raw = query("p=2026-01-31T08:00:00+02:00");
    let (code, message) = first_value(merged(&blocks, &raw, &BodyParameters::default())).unwrap_err();
    assert_eq!(code, ProblemCode::WrongType);
    assert!(message.contains("%2B") && message.contains("means a space"), "{message}");
    for unrelated in ["2026-01-31 08:00:00Z", "a b"] {
        assert!(!text(one(ParameterType::Datetime), unrelated).unwrap_err().1.contains("%2B"), "{unrelated}");
    }
}

#[test]
fn a_choice_is_one_of_the_choices_byte_for_byte() {
    assert_texts(
        ParameterType::Choice,
        &[("EMEA", json!("EMEA")), ("1", json!("1")), ("true", json!("true"))],
        &["", "emea", " EMEA", "EMEA ", "AMER", "01"],
    );
    assert_json(
        ParameterType::Choice,
        &[(json!(1), json!("1")), (json!(true), json!("true"))],
        &[json!(2), json!(1.0), json!(false), json!(["EMEA"]), json!({})],
    );
    let (_, message) = text(one(ParameterType::Choice), "AMER").unwrap_err();
    assert!(message.contains("\"EMEA\", \"APAC\""), "{message}");
}

#[test]
fn a_long_list_of_choices_is_cut_in_the_message() {
    let block =
        ParameterBlock::new("p", ParameterType::Choice).with_choices((100..150).map(|n| n.to_string()));
    let (_, message) = text(block, "x").unwrap_err();
    assert!(message.contains("\"119\" and 30 more"), "{message}");
    assert!(!message.contains("\"120\""), "{message}");
}

#[test]
fn a_list_takes_repetitions_one_value_or_an_array() {
    let blocks = blocks([one(ParameterType::List)]);
    let nothing = BodyParameters::default();
    assert_eq!(first_value(merged(&blocks, &query("p=b&x=1&p=a"), &nothing)), Ok(json!(["b", "a"])));
    let from_form = merged(&blocks, &QueryParameters::default(), &form("p=b&p=a"));
    assert_eq!(first_value(from_form), Ok(json!(["b", "a"])));
    assert_texts(
        ParameterType::List,
        &[("a", json!(["a"])), ("", json!([""])), ("[1]", json!(["[1]"]))],
        &[],
    );
    assert_json(
        ParameterType::List,
        &[(json!([]), json!([])), (json!([1, null, {"a": []}]), json!([1, null, {"a": []}]))],
        &[json!(1), json!(true), json!({})],
    );
}

#[test]
fn json_text_is_read_strictly_and_a_json_value_is_taken_as_it_is() {
    assert_texts(
        ParameterType::Json,
        &[
            ("{\"a\":[1]}", json!({"a": [1]})),
            ("5", json!(5)),
            ("\"a\"", json!("a")),
            ("null", json!(null)),
            (" [] ", json!([])),
        ],
        &["", "a", "{", "{'a':1}", "{\"a\":1,\"a\":2}", "NaN", "1 2"],
    );
    assert_json(
        ParameterType::Json,
        &[
            (json!("a"), json!("a")),
            (json!("{}"), json!("{}")),
            (json!([1]), json!([1])),
            (json!(true), json!(true)),
        ],
        &[],
    );
    let deep = "[".repeat(65) + &"]".repeat(65);
    assert!(text(one(ParameterType::Json), &deep).unwrap_err().1.contains("more than 64 levels"));
}

fn assert_texts(parameter_type: ParameterType, accepted: &[(&str, Value)], refused: &[&str]) {
    for (given, expected) in accepted {
        assert_eq!(text(one(parameter_type), given).as_ref(), Ok(expected), "{parameter_type} {given:?}");
    }
    let expected_code = match parameter_type {
        ParameterType::Choice => ProblemCode::NotAChoice,
        _ => ProblemCode::WrongType,
    };
    for given in refused {
        let (code, message) = text(one(parameter_type), given).unwrap_err();
        assert_eq!(code, expected_code, "{parameter_type} {given:?}");
        assert!(message.contains("\"p\""), "{message}");
        assert!(message.contains(parameter_type.as_str()), "{message}");
    }
}

fn assert_json(parameter_type: ParameterType, accepted: &[(Value, Value)], refused: &[Value]) {
    for (given, expected) in accepted {
        assert_eq!(
            json_value(one(parameter_type), given.clone()).as_ref(),
            Ok(expected),
            "{parameter_type} {given}"
        );
    }
    for given in refused {
        let outcome = json_value(one(parameter_type), given.clone());
        assert!(outcome.is_err(), "{parameter_type} {given} {outcome:?}");
    }
}
