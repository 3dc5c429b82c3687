//! What a caller should know although the call is accepted.

use serde::Serialize;

/// The most warnings that one answer has.
const MOST_WARNINGS: usize = 16;

/// Something about a call that is accepted and probably not meant so, in the form of a `warnings` item of an answer.
///
/// The message shows names and no values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ParameterWarning {
    /// The name as it was given, cut when it is long; `*` when the call as a whole is meant.
    pub parameter: String,
    /// What kind of warning it is, stable for programs.
    pub code: WarningCode,
    /// One or more sentences for people.
    pub message: String,
}

/// The kind of a [`ParameterWarning`]. Its text on the wire is snake_case, such as `look_alike`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WarningCode {
    /// The name is not declared and looks like one that is.
    LookAlike,
    /// The call is a GET with a body, which is ignored.
    BodyIgnored,
    /// There are more warnings than an answer has.
    More,
}

impl ParameterWarning {
    /// Warns of `parameter`.
    pub fn new(parameter: impl Into<String>, code: WarningCode, message: impl Into<String>) -> Self {
        Self { parameter: parameter.into(), code, message: message.into() }
    }
}

/// The warnings that fit into an answer, and how many more there are.
pub(super) fn bounded(mut warnings: Vec<ParameterWarning>) -> Vec<ParameterWarning> {
    if let Some(more) = warnings.len().checked_sub(MOST_WARNINGS).filter(|more| *more > 0) {
        warnings.truncate(MOST_WARNINGS);
        let message = format!("There are {more} more warnings.");
        warnings.push(ParameterWarning::new("*", WarningCode::More, message));
    }
    warnings
}
