//! Checks the parameters of an earlier run against the current blocks.

use serde_json::Value;

use super::block::ParameterBlock;
use super::blocks::ParameterBlocks;
use super::convert;
use super::effective::{EffectiveParameter, EffectiveParameters, Source};
use super::problem::{ParameterProblem, ProblemCode, excerpt};

/// Checks the parameters of an earlier run, which is to run again, against the current blocks of its
/// workflow.
///
/// Values stay as they were. A value is secret if it was secret, or if its block is secret now.
/// A block added since then gets its default. A value whose block was removed is kept as an undeclared
/// parameter.
///
/// # Errors
///
/// All problems: values that do not fit the current type, and required blocks with neither value nor default.
pub fn recheck(
    blocks: &ParameterBlocks,
    earlier: EffectiveParameters,
) -> Result<EffectiveParameters, Vec<ParameterProblem>> {
    let mut checked = earlier;
    let mut problems = Vec::new();
    for block in blocks {
        match check(block, checked.get(&block.name)) {
            Ok(Some(parameter)) => {
                checked.insert(&block.name, parameter);
            }
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(checked) } else { Err(problems) }
}

fn check(
    block: &ParameterBlock,
    earlier: Option<&EffectiveParameter>,
) -> Result<Option<EffectiveParameter>, ParameterProblem> {
    // As in a call, a given null means that no value was given. A default may be null.
    let earlier = earlier.filter(|earlier| earlier.value != Value::Null || earlier.source == Source::Default);
    let (value, source, was_secret) = match (earlier, &block.default) {
        (Some(earlier), _) if earlier.value == Value::Null => {
            return Ok(Some(marked(earlier.clone(), block)));
        }
        (Some(earlier), _) => (convert::from_json(block, &earlier.value)?, earlier.source, earlier.secret),
        (None, Some(default)) => (default.clone(), Source::Default, false),
        (None, None) if block.required => {
            let message = format!(
                "The parameter {} is required by now, and the earlier run had none; start a new run.",
                excerpt(&block.name)
            );
            return Err(ParameterProblem::new(&block.name, ProblemCode::Required, message));
        }
        (None, None) => return Ok(None),
    };
    let mut parameter = EffectiveParameter::new(value, source);
    parameter.secret = was_secret;
    Ok(Some(marked(parameter, block)))
}

fn marked(mut parameter: EffectiveParameter, block: &ParameterBlock) -> EffectiveParameter {
    parameter.secret |= block.secret;
    parameter
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::parameters::ParameterType;

    #[test]
    fn earlier_values_meet_the_present_blocks() {
        let blocks = ParameterBlocks::new(vec![
            ParameterBlock::new("now_secret", ParameterType::Text).secret(),
            ParameterBlock::new("was_secret", ParameterType::Text),
            ParameterBlock::new("new", ParameterType::Integer).with_default(7),
            ParameterBlock::new("kept", ParameterType::Integer).with_default(1),
        ])
        .unwrap();
        let earlier = || -> EffectiveParameters {
            [
                ("now_secret", EffectiveParameter::new("a", Source::Query)),
                ("was_secret", EffectiveParameter::new("b", Source::Body).secret()),
                ("kept", EffectiveParameter::new(5, Source::Default)),
                ("gone", EffectiveParameter::new(json!([1]), Source::Body)),
            ]
            .map(|(name, parameter)| (name.to_owned(), parameter))
            .into_iter()
            .collect()
        };
        let checked = recheck(&blocks, earlier()).unwrap();
        let secret = |name: &str| checked.get(name).unwrap().secret;
        assert!(secret("now_secret") && secret("was_secret") && !secret("gone"));
        assert_eq!(checked.get("kept").unwrap(), &EffectiveParameter::new(5, Source::Default));
        assert_eq!(checked.get("new").unwrap(), &EffectiveParameter::new(7, Source::Default));
        assert_eq!(checked.len(), 5);

        // A given null means that no value was given, once its block exists; a null default is a value.
        let null =
            |source| [("new".to_owned(), EffectiveParameter::new(Value::Null, source))].into_iter().collect();
        let new = |source| recheck(&blocks, null(source)).unwrap().get("new").unwrap().clone();
        assert_eq!(new(Source::Body), EffectiveParameter::new(7, Source::Default));
        assert_eq!(new(Source::Default), EffectiveParameter::new(Value::Null, Source::Default));

        let blocks = ParameterBlocks::new(vec![
            ParameterBlock::new("gone", ParameterType::Integer).secret(),
            ParameterBlock::new("other", ParameterType::Date).required(),
        ])
        .unwrap();
        let problems = recheck(&blocks, earlier()).unwrap_err();
        let codes: Vec<_> = problems.iter().map(|problem| problem.code).collect();
        assert_eq!(codes, [ProblemCode::WrongType, ProblemCode::Required]);
    }
}
