//! Tests of the rules for parameters from outside: bytes of a query and a body in, parameters or problems
//! out.

mod blocks;
mod conversion;
mod merging;
mod overlay;
mod properties;

use serde_json::{Value, json};

use super::*;

const FORM: &str = "application/x-www-form-urlencoded";

fn blocks(declared: impl IntoIterator<Item = ParameterBlock>) -> ParameterBlocks {
    ParameterBlocks::new(declared.into_iter().collect()).unwrap()
}

fn one(parameter_type: ParameterType) -> ParameterBlock {
    let block = ParameterBlock::new("p", parameter_type);
    if parameter_type == ParameterType::Choice {
        block.with_choices(["EMEA", "APAC", "1", "true"])
    } else {
        block
    }
}

fn query(raw: &str) -> QueryParameters {
    parse_query(raw).unwrap().parameters
}

fn body(json: Value) -> BodyParameters {
    parse_body(None, json.to_string().as_bytes(), &ParameterLimits::default()).unwrap()
}

fn form(raw: &str) -> BodyParameters {
    parse_body(Some(FORM), raw.as_bytes(), &ParameterLimits::default()).unwrap()
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn merged(
    blocks: &ParameterBlocks,
    query: &QueryParameters,
    body: &BodyParameters,
) -> Result<EffectiveParameters, Vec<ParameterProblem>> {
    merge(blocks, query, body, false, &ParameterLimits::default()).map(|merged| merged.parameters)
}

fn first_value(
    outcome: Result<EffectiveParameters, Vec<ParameterProblem>>,
) -> Result<Value, (ProblemCode, String)> {
    match outcome {
        Ok(parameters) => Ok(parameters.get("p").unwrap().value.clone()),
        Err(problems) => {
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert_eq!(problems[0].parameter, "p");
            Err((problems[0].code, problems[0].message.clone()))
        }
    }
}

/// Converts a query text by a block; a form text and a JSON string must give the same.
fn text(block: ParameterBlock, text: &str) -> Result<Value, (ProblemCode, String)> {
    let parameter_type = block.parameter_type;
    let blocks = blocks([block]);
    let raw = format!("p={}", encoded(text));
    let from_query = first_value(merged(&blocks, &query(&raw), &BodyParameters::default()));
    let from_form = first_value(merged(&blocks, &QueryParameters::default(), &form(&raw)));
    assert_eq!(from_query, from_form, "{text}");
    if parameter_type != ParameterType::Json {
        let from_json =
            first_value(merged(&blocks, &QueryParameters::default(), &body(json!({ "p": text }))));
        assert_eq!(from_query, from_json, "{text}");
    }
    from_query
}

fn json_value(block: ParameterBlock, value: Value) -> Result<Value, (ProblemCode, String)> {
    let members = serde_json::Map::from_iter([("p".to_owned(), value)]);
    first_value(merged(&blocks([block]), &QueryParameters::default(), &BodyParameters::from_object(members)))
}
