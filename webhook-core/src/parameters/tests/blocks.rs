//! Tests of the declaration of a workflow, and of its wire form.

use super::*;

#[test]
fn a_block_is_written_in_its_wire_form() {
    let block = ParameterBlock::new("region", ParameterType::Choice)
        .with_choices(["EMEA", "APAC"])
        .with_default("EMEA")
        .with_description("Where");
    assert_eq!(
        serde_json::to_string(&blocks([block, one(ParameterType::Datetime).required().secret()])).unwrap(),
        concat!(
            r#"[{"name":"region","type":"choice","default":"EMEA","required":false,"choices":["EMEA","APAC"],"#,
            r#""secret":false,"description":"Where"},"#,
            r#"{"name":"p","type":"datetime","default":null,"required":true,"choices":[],"secret":true,"#,
            r#""description":null}]"#
        )
    );
}

#[test]
fn defaults_are_converted_when_the_blocks_are_checked() {
    let declared = blocks([
        ParameterBlock::new("b", ParameterType::Integer).with_default("7"),
        ParameterBlock::new("a", ParameterType::List).with_default("x"),
        ParameterBlock::new("c", ParameterType::Text).with_default(Value::Null),
        ParameterBlock::new("d", ParameterType::Text).with_default(5),
    ]);
    let default = |name: &str| declared.get(name).unwrap().default.clone();
    assert_eq!(default("b"), Some(json!(7)));
    assert_eq!(default("a"), Some(json!(["x"])));
    assert_eq!(default("c"), None);
    assert_eq!(default("d"), Some(json!("5")));
    let order: Vec<_> = declared.iter().map(|block| block.name.as_str()).collect();
    assert_eq!(order, ["b", "a", "c", "d"]);
    assert!(declared.get("e").is_none());
}

#[test]
fn blocks_that_are_not_usable_are_refused_with_all_reasons() {
    let error = ParameterBlocks::new(vec![
        ParameterBlock::new("token", ParameterType::Text),
        ParameterBlock::new("", ParameterType::Text),
        ParameterBlock::new("n".repeat(129), ParameterType::Text),
        ParameterBlock::new("twice", ParameterType::Text),
        ParameterBlock::new("twice", ParameterType::Integer).with_default("x"),
        ParameterBlock::new("bare", ParameterType::Choice).with_default("x"),
        ParameterBlock::new("odd", ParameterType::Text).with_choices(["a"]),
        ParameterBlock::new("off", ParameterType::Choice).with_choices(["a"]).with_default("b"),
        ParameterBlock::new("hidden", ParameterType::Integer).with_default("canary").secret(),
        ParameterBlock::new("fine", ParameterType::Text),
    ])
    .unwrap_err();
    let expected = [
        ("token", "reserved"),
        ("", "needs a name"),
        ("nnn", "at most 128 bytes"),
        ("twice", "more than once"),
        ("twice", "default does not fit"),
        ("bare", "at least one entry"),
        ("odd", "only a choice has choices"),
        ("off", "one of \"a\""),
        ("hidden", "default does not fit"),
    ];
    assert_eq!(error.problems.len(), expected.len(), "{error}");
    for (problem, (name, message)) in error.problems.iter().zip(expected) {
        assert!(problem.parameter.starts_with(name) && problem.message.contains(message), "{problem:?}");
    }
    assert!(!format!("{error} {error:?}").contains("canary"));
}

#[test]
fn a_parameter_type_is_read_from_its_text_on_the_wire() {
    for name in ["text", "integer", "number", "boolean", "date", "datetime", "choice", "list", "json"] {
        let parsed: ParameterType = name.parse().unwrap();
        assert_eq!(parsed.to_string(), name);
        assert_eq!(serde_json::to_value(parsed).unwrap(), name);
        assert_eq!(serde_json::from_value::<ParameterType>(json!(name)).unwrap(), parsed);
    }
    assert!("Text".parse::<ParameterType>().unwrap_err().to_string().contains("datetime"));
}
