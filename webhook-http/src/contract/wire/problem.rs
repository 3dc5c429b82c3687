//! The document of a problem (RFC 9457).

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use webhook_core::parameters::{ParameterProblem, ProblemCode};
use webhook_core::webhook::{SettingCode, SettingProblem};

use crate::contract::slug::Slug;

/// A problem (RFC 9457).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem", extend("additionalProperties" = true))]
pub(crate) struct ProblemDocument<'a> {
    pub(crate) detail: &'a str,
    /// Parameters or fields that cannot be used. Left out when there are none.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) errors: &'a [ErrorItem],
    #[schemars(range(min = 400, max = 599))]
    pub(crate) status: u16,
    pub(crate) title: &'a str,
    #[serde(rename = "type")]
    pub(crate) problem_type: &'a str,
}

/// A parameter or field that cannot be used.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline, extend("additionalProperties" = true))]
pub(crate) struct ErrorItem {
    /// Kind of the error, stable for programs.
    pub(crate) code: ErrorCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(crate) field: Option<String>,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(crate) parameter: Option<String>,
}

impl From<&ParameterProblem> for ErrorItem {
    fn from(problem: &ParameterProblem) -> Self {
        Self {
            code: ErrorCode::Parameter(problem.code),
            field: None,
            message: problem.message.clone(),
            parameter: Some(problem.parameter.clone()),
        }
    }
}

impl From<&SettingProblem> for ErrorItem {
    fn from(problem: &SettingProblem) -> Self {
        Self {
            code: ErrorCode::Setting(problem.code),
            field: Some(problem.field.clone()),
            message: problem.message.clone(),
            parameter: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(with = "String")]
pub(crate) enum ErrorCode {
    Setting(SettingCode),
    Parameter(ProblemCode),
    /// A call that is refused as a whole.
    Call(#[serde(serialize_with = "in_snake_case")] Slug),
}

fn in_snake_case<S: Serializer>(slug: &Slug, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&slug.as_str().replace('-', "_"))
}
