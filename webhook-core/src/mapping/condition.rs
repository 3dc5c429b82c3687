//! Conditions, under which a call starts a run.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::pattern::Pattern;
use super::selector::{CallContent, Selected, Selector};

/// Upper bound on the conditions of one webhook.
pub(super) const CONDITIONS: usize = 16;

/// The conditions under which a call starts a run. Of a call that does not meet them all, the sender learns that it was
/// ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Conditions {
    /// All of them must hold.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = CONDITIONS)))]
    pub all: Vec<Condition>,
}

/// Condition on the value at one place in a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = only_values))]
#[non_exhaustive]
pub struct Condition {
    /// Place of the value.
    #[serde(flatten)]
    pub selector: Selector,
    /// Test of the value.
    #[serde(flatten)]
    pub test: Test,
}

/// A condition tests a value. Method and raw body are for a mapping.
#[cfg(feature = "schema")]
fn only_values(schema: &mut schemars::Schema) {
    super::selector::leave_out(&["method", "raw_body"], schema);
}

/// Test of the value at a place.
///
/// A missing value fails every test but [`NotEquals`](Self::NotEquals) and [`Exists(false)`](Self::Exists).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "op", content = "value", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Test {
    /// It is this value. What stands in a header, query or form is a text.
    Equals(Value),
    /// It is another value, or missing.
    NotEquals(Value),
    /// It is one of these values.
    OneOf(Vec<Value>),
    /// It is a text, or the JSON text of a number or boolean, and the pattern matches anywhere in it.
    Matches(#[cfg_attr(feature = "schema", schemars(with = "String"))] Pattern),
    /// It is there, or with `false` is not. A `null` is there.
    Exists(bool),
}

impl Conditions {
    /// Demands all of these.
    #[must_use]
    pub fn new(all: Vec<Condition>) -> Self {
        Self { all }
    }

    /// Returns the first condition that a call does not meet.
    #[must_use]
    pub fn unmet(&self, content: &CallContent<'_>) -> Option<&Condition> {
        self.all.iter().find(|condition| !condition.is_met(content))
    }
}

impl Condition {
    /// Demands this of the value at a place.
    #[must_use]
    pub fn new(selector: Selector, test: Test) -> Self {
        Self { selector, test }
    }

    /// Returns whether a call meets the condition.
    #[must_use]
    pub fn is_met(&self, content: &CallContent<'_>) -> bool {
        let selected = self.selector.select(content);
        match &self.test {
            Test::Equals(value) => is_value(&selected, value),
            Test::NotEquals(value) => !is_value(&selected, value),
            Test::OneOf(values) => values.iter().any(|value| is_value(&selected, value)),
            Test::Matches(pattern) => matches(&selected, pattern),
            Test::Exists(expected) => (selected != Selected::Missing) == *expected,
        }
    }

    /// Returns whether only a value that is there can meet the condition.
    #[must_use]
    pub fn needs_value(&self) -> bool {
        !matches!(self.test, Test::NotEquals(_) | Test::Exists(_))
    }
}

fn is_value(selected: &Selected<'_>, expected: &Value) -> bool {
    match (selected, expected) {
        (Selected::Text(text), Value::String(expected)) => text == expected,
        (Selected::Value(value), expected) => is_equal(value, expected),
        _ => false,
    }
}

/// Numbers are equal by value, so 5 is 5.0.
fn is_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) if one.is_f64() != other.is_f64() => {
            one.as_f64() == other.as_f64()
        }
        _ => one == other,
    }
}

fn matches(selected: &Selected<'_>, pattern: &Pattern) -> bool {
    match selected {
        Selected::Text(text) => pattern.is_match(text),
        Selected::Value(value) => match &**value {
            Value::String(text) => pattern.is_match(text),
            scalar @ (Value::Number(_) | Value::Bool(_)) => pattern.is_match(&scalar.to_string()),
            _ => false,
        },
        Selected::Missing | Selected::NotText => false,
    }
}
