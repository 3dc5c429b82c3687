//! Warnings about a call that is accepted.

use serde::Serialize;

/// Upper bound on the warnings in one answer.
const MOST_WARNINGS: usize = 16;

/// Warning about a probable mistake in an accepted call, in the form of a `warnings` item of an answer.
///
/// The message shows names and no values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Warning"))]
#[non_exhaustive]
pub struct ParameterWarning {
    /// Name as it was given, shortened if it is long; `*` for the call as a whole.
    pub parameter: String,
    /// Kind of the warning, stable for programs.
    pub code: WarningCode,
    /// One or more sentences for people.
    pub message: String,
}

/// Kind of a [`ParameterWarning`]. Its text on the wire is snake_case, such as `look_alike`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WarningCode {
    /// The name is undeclared and looks like a declared one.
    LookAlike,
    /// The call is a GET with a body, which is ignored.
    BodyIgnored,
    /// The webhook fixes the value, and the call gives one as well.
    Fixed,
    /// There are more warnings than an answer holds.
    More,
}

impl ParameterWarning {
    /// Creates a warning about `parameter`.
    pub fn new(parameter: impl Into<String>, code: WarningCode, message: impl Into<String>) -> Self {
        Self { parameter: parameter.into(), code, message: message.into() }
    }
}

/// Returns the warnings that fit into an answer, with a last one that counts the rest.
pub(super) fn bounded(mut warnings: Vec<ParameterWarning>) -> Vec<ParameterWarning> {
    if let Some(more) = warnings.len().checked_sub(MOST_WARNINGS).filter(|more| *more > 0) {
        warnings.truncate(MOST_WARNINGS);
        let message = format!("There are {more} more warnings.");
        warnings.push(ParameterWarning::new("*", WarningCode::More, message));
    }
    warnings
}
