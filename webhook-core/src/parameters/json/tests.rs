//! Strict JSON: repeated names, bounds and reserved names.

use super::*;
use crate::parameters::limits::DEEPEST_JSON;
use serde_json::json;

fn read(bytes: &[u8], depth: usize) -> Result<Value, StrictJsonError> {
    read_json(bytes, &ParameterLimits::default().with_json_depth(depth))
}

fn message(text: &str) -> String {
    read(text.as_bytes(), 64).unwrap_err().to_string()
}

#[test]
fn every_kind_of_value_is_read() {
    let text = r#" {"n":null,"b":true,"i":-1,"u":18446744073709551615,"f":0.5,"s":"\u00e9","a":[{}]} "#;
    let expected = json!({"n": null, "b": true, "i": -1, "u": u64::MAX, "f": 0.5, "s": "é", "a": [{}]});
    assert_eq!(read(text.as_bytes(), 64), Ok(expected));
}

#[test]
fn a_duplicate_name_is_refused_at_any_level_and_in_any_spelling() {
    assert_eq!(message(r#"{"a":1,"a":1}"#), r#"the name "a" occurs twice in one object, line 1 column 10"#);
    assert_eq!(
        message(r#"{"a":1,"\u0061":1}"#).split(',').next(),
        Some(r#"the name "a" occurs twice in one object"#)
    );
    assert!(message("[[{\"a\":{\"canary\":1,\n\"canary\":2}}]]").starts_with("a name occurs twice"));
    assert!(!message("[{\"canary\":1,\"canary\":2}]").contains("canary"));
}

#[test]
fn the_same_name_in_different_objects_is_fine() {
    assert!(read(br#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#, 64).is_ok());
}

#[test]
fn depth_counts_arrays_and_objects() {
    for (text, depth) in [("1", 0), ("{}", 1), ("[]", 1), (r#"{"a":1}"#, 1), (r#"[{"a":[1]}]"#, 3)] {
        assert!(read(text.as_bytes(), depth).is_ok(), "{text}");
        if depth > 0 {
            let limit = depth - 1;
            assert_eq!(read(text.as_bytes(), limit), Err(StrictJsonError::TooDeep { limit }), "{text}");
        }
    }
}

#[test]
fn a_depth_beyond_what_serde_json_reads_is_bounded() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(read(nested(DEEPEST_JSON).as_bytes(), usize::MAX).is_ok());
    let refused = read(nested(DEEPEST_JSON + 1).as_bytes(), usize::MAX);
    assert_eq!(refused, Err(StrictJsonError::TooDeep { limit: DEEPEST_JSON }));
    assert!(read("[".repeat(1_000_000).as_bytes(), usize::MAX).is_err());
}

#[test]
fn every_value_counts_arrays_and_objects_among_them() {
    let limits = ParameterLimits::default().with_json_values(4);
    for (text, fits) in [
        (r#"{"a":[1,2]}"#, true),
        (r#"{"a":[1,2,3]}"#, false),
        ("[[],[],[]]", true),
        ("[{},{},{},{}]", false),
        ("[null,null,null,null]", false),
    ] {
        let refused = read_json(text.as_bytes(), &limits).err();
        assert_eq!(refused, (!fits).then_some(StrictJsonError::TooManyValues { limit: 4 }), "{text}");
    }
    let many = format!("[{}]", vec!["{\"\":0}"; 5_000].join(","));
    assert!(message(&many).contains("more than 10000 values"));
}

#[test]
fn an_integer_beyond_64_bits_is_refused_and_not_rounded() {
    let refused = message("[1,\n {\"a\": 18446744073709551616}]");
    assert_eq!(refused, "a number in line 2 cannot be kept: As an integer it does not fit 64 bits.");
    assert!(message("-9223372036854775809").contains("64 bits"));
    assert!(message("1e-400").contains("too close to zero"));
    assert_eq!(read(b"1e20", 0), Ok(json!(1e20)));
}

#[test]
fn a_byte_order_mark_in_front_is_ignored() {
    assert_eq!(read(b"\xef\xbb\xbf[1]", 64), Ok(json!([1])));
    assert!(read(b"\xef\xbb\xbf\xef\xbb\xbf[1]", 64).is_err());
}

#[test]
fn a_text_that_is_not_one_json_text_is_refused_with_its_place() {
    for text in
        ["", " ", "{", "[1,]", "01", "+1", ".5", "NaN", "'a'", "\"a\nb\"", r#""\ud800""#, "1 2", "1e400"]
    {
        assert!(message(text).contains("line"), "{text}");
    }
    assert!(read(b"\"\xff\"", 64).is_err());
}

#[test]
fn a_name_that_serde_json_keeps_for_itself_is_refused_at_any_level() {
    for name in ["Number", "RawValue", "Other"] {
        for (before, after) in [("{", "}"), ("{\"a\":1,", "}"), ("{\"a\":[{\"b\":0,", "}]}")] {
            let message = message(&format!("{before}\"$serde_json::private::{name}\":\"5\"{after}"));
            assert!(message.contains("reserved") && message.contains("line 1"), "{message}");
        }
    }
    assert!(message(r#"{"\u0024serde_json::private::RawValue":"[1"}"#).contains("reserved"));
    assert!(
        read(br#"{"$serde_json":"$serde_json::private::RawValue","x$serde_json::private::":1}"#, 64).is_ok()
    );
}

#[test]
fn a_number_literal_means_the_same_with_and_without_arbitrary_precision() {
    for literal in ["0", "-0", "5", "-9223372036854775808", "18446744073709551615", "0.5", "1e3"] {
        assert_eq!(number(literal).map(Value::Number), read(literal.as_bytes(), 0).ok(), "{literal}");
    }
    assert_eq!(number("1e400"), None);
}
