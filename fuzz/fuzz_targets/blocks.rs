//! The blocks that queries and bodies are laid over, and what must hold of every result.

use std::sync::OnceLock;
use std::time::SystemTime;

use serde_json::Value;
use webhook_core::id::RunId;
use webhook_core::parameters::{
    BodyParameters, ParameterBlock, ParameterBlocks, ParameterLimits, ParameterType, QueryParameters, Source,
    merge, recheck,
};
use webhook_core::run::RunParameters;
use webhook_core::token::{MASKED_TOKEN, TokenKey, TokenKeys};

/// Limits that a short input can reach, and those of a host that sets none.
pub fn limits() -> [ParameterLimits; 2] {
    let default = ParameterLimits::default();
    [default.with_name_bytes(12).with_parameters(4).with_json_depth(3).with_json_values(12), default]
}

/// One block of each type, named after it.
fn every_type() -> &'static ParameterBlocks {
    static BLOCKS: OnceLock<ParameterBlocks> = OnceLock::new();
    BLOCKS.get_or_init(|| {
        ParameterBlocks::new(vec![
            ParameterBlock::new("text", ParameterType::Text).with_default("hello"),
            ParameterBlock::new("integer", ParameterType::Integer),
            ParameterBlock::new("number", ParameterType::Number),
            ParameterBlock::new("boolean", ParameterType::Boolean),
            ParameterBlock::new("date", ParameterType::Date),
            ParameterBlock::new("datetime", ParameterType::Datetime),
            ParameterBlock::new("choice", ParameterType::Choice).with_choices(["EMEA", "APAC"]),
            ParameterBlock::new("list", ParameterType::List),
            ParameterBlock::new("json", ParameterType::Json),
            ParameterBlock::new("secret", ParameterType::Text).secret(),
        ])
        .expect("the blocks are valid")
    })
}

/// Merges a query and a body with blocks of every type, and checks the result.
///
/// A refusal has a reason. Accepted parameters are within the limits, fit the blocks, and are the same after
/// storing and reading.
pub fn merge_and_check(query: &QueryParameters, body: &BodyParameters, limits: &ParameterLimits) {
    for strict in [false, true] {
        let merged = match merge(every_type(), query, body, strict, limits) {
            Ok(merged) => merged,
            Err(problems) => {
                assert!(!problems.is_empty(), "a refusal without a reason");
                continue;
            }
        };
        assert!(
            !strict || merged.warnings.is_empty(),
            "a strict webhook refuses what is a warning elsewhere"
        );
        let all = merged.parameters.iter();
        let given: Vec<_> = all.filter(|(_, parameter)| parameter.source != Source::Default).collect();
        assert!(given.len() <= limits.parameters, "more names than allowed");
        let mut values = 0;
        for (name, parameter) in given {
            let is_declared = every_type().get(name).is_some();
            assert!(is_declared || !strict, "a strict webhook accepted {name:?}");
            // Masking shortens a name, and asterisks are added to keep two masked names distinct.
            let is_bounded = is_declared || name.len() <= limits.name_bytes || name.contains(MASKED_TOKEN);
            assert!(is_bounded, "the name {name:?} is too long");
            let (own, depth) = size(&parameter.value);
            assert!(depth <= limits.json_depth, "{name:?} is too deep");
            values += if parameter.source == Source::Body || name == "json" { own } else { 0 };
        }
        // A list that is given as text has one more value, and pairs of a form count apart from the JSON in
        // one of them.
        assert!(values <= 2 * limits.json_values + 1, "more values than allowed");

        let rechecked = recheck(every_type(), merged.parameters.clone());
        assert_eq!(rechecked.as_ref(), Ok(&merged.parameters), "what fits the blocks fits them again");

        let keys = TokenKeys::new(TokenKey::from_bytes([7; 32]));
        let id = RunId::generate(SystemTime::UNIX_EPOCH);
        let kept = RunParameters::seal(merged.parameters.clone(), Some(&keys), id).expect("it can be stored");
        let read = RunParameters::from_json(kept.as_json()).expect("what was stored can be read");
        assert_eq!(read.open(Some(&keys), id).expect("what was sealed can be opened"), merged.parameters);
    }
}

/// Returns the number of values in a value, itself included, and the nesting depth of its arrays and objects.
fn size(value: &Value) -> (usize, usize) {
    let inner: Vec<&Value> = match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(members) => members.values().collect(),
        _ => return (1, 0),
    };
    let sizes = inner.into_iter().map(size);
    sizes.fold((1, 1), |(values, depth), (own, below)| (values + own, depth.max(1 + below)))
}
