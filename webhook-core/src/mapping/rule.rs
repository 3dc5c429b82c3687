//! Mapping: parameters that are taken from places in a call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::selector::{CallContent, Selected, Selector};
use crate::parameters::{Overlay, ParameterProblem, PassThrough, ProblemCode};

/// One parameter that is taken from a place in the call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct MappingRule {
    /// The name of the parameter.
    pub parameter: String,
    /// The place of its value.
    #[serde(flatten)]
    pub selector: Selector,
    /// The value where the place is missing or `null`. Without one, the parameter is not given by the mapping.
    #[serde(default)]
    pub default: Option<Value>,
}

impl MappingRule {
    /// Takes a parameter from a place.
    #[must_use]
    pub fn new(parameter: impl Into<String>, selector: Selector) -> Self {
        Self { parameter: parameter.into(), selector, default: None }
    }

    /// Sets the value where the place is missing or `null`.
    #[must_use]
    pub fn with_default(mut self, default: impl Into<Value>) -> Self {
        self.default = Some(default.into());
        self
    }

    fn apply(&self, content: &CallContent<'_>, overlay: &mut Overlay) {
        let parameter = &self.parameter;
        match (self.selector.select(content), &self.default) {
            (Selected::Missing, None) => {}
            (Selected::Missing, Some(default)) => overlay.map_value(parameter, default.clone()),
            (Selected::Value(value), Some(default)) if value.is_null() => {
                overlay.map_value(parameter, default.clone());
            }
            (Selected::Text(text), _) => overlay.map_text(parameter, text),
            (Selected::Value(value), _) => match &self.selector {
                Selector::Body { pointer } => {
                    overlay.map_payload(parameter, content.payload, pointer);
                }
                _ => overlay.map_value(parameter, value.into_owned()),
            },
            (Selected::NotText, _) => {
                let message = format!("The parameter {parameter:?} is mapped from bytes that are not UTF-8.");
                overlay.report(ParameterProblem::new(parameter, ProblemCode::WrongType, message));
            }
        }
    }

    /// Returns whether the parameter is taken from the body.
    pub(super) fn takes_body(&self) -> bool {
        matches!(self.selector, Selector::Body { .. } | Selector::RawBody)
    }
}

/// Returns whether a mapping takes a parameter from the body. The body may then be an array or a scalar.
#[must_use]
pub fn takes_body(mapping: &[MappingRule]) -> bool {
    mapping.iter().any(MappingRule::takes_body)
}

/// Takes the mapped parameters from a call, and adds the fixed ones.
#[must_use]
pub fn overlay(
    mapping: &[MappingRule],
    pass_through: PassThrough,
    fixed: &BTreeMap<String, Value>,
    content: &CallContent<'_>,
) -> Overlay {
    let mut overlay = Overlay::new(pass_through, fixed.clone());
    for problem in content.payload.file_problems() {
        overlay.report(problem);
    }
    for rule in mapping {
        rule.apply(content, &mut overlay);
    }
    overlay
}
