//! Values that a webhook's settings map or fix, and the limits on what else may pass.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::given::Given;
use super::number_literal::NumberFlaw;
use super::payload::Payload;
use super::pointer::Pointer;
use super::problem::{ParameterProblem, shortened};

/// Parameters of query and body that reach a run beside those that are mapped or fixed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PassThrough {
    /// All that the call gives.
    #[default]
    All,
    /// Those that the workflow declares.
    Declared,
    /// None of what the call gives.
    None,
}

/// Values that go before those of query and body. `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Overlay {
    pub(super) pass_through: PassThrough,
    fixed: BTreeMap<String, Value>,
    mapped: BTreeMap<String, MappedValue>,
    pub(super) problems: Vec<ParameterProblem>,
}

#[derive(Clone)]
enum MappedValue {
    Text(String),
    Json { value: Value, flaw: Option<NumberFlaw> },
}

impl MappedValue {
    fn given(&self) -> Given<'_> {
        match self {
            Self::Text(text) => Given::Texts(vec![text]),
            Self::Json { value, flaw } => Given::Json { value, flaw: *flaw },
        }
    }
}

impl Overlay {
    /// Creates an overlay that maps nothing yet.
    #[must_use]
    pub fn new(pass_through: PassThrough, fixed: BTreeMap<String, Value>) -> Self {
        Self { pass_through, fixed, ..Self::default() }
    }

    /// Maps a text, which is converted like one of a query.
    pub fn map_text(&mut self, parameter: &str, text: impl Into<String>) {
        self.mapped.insert(parameter.to_owned(), MappedValue::Text(text.into()));
    }

    /// Maps a JSON value, which is converted like one of a body.
    pub fn map_value(&mut self, parameter: &str, value: Value) {
        self.mapped.insert(parameter.to_owned(), MappedValue::Json { value, flaw: None });
    }

    /// Maps the value that a pointer leads to. Returns whether there is one.
    pub fn map_payload(&mut self, parameter: &str, payload: &Payload<'_>, pointer: &Pointer) -> bool {
        let Some(value) = payload.find(pointer) else { return false };
        let mapped = MappedValue::Json { value: value.into_owned(), flaw: payload.flaw(pointer) };
        self.mapped.insert(parameter.to_owned(), mapped);
        true
    }

    /// Reports that a parameter cannot be mapped.
    pub fn report(&mut self, problem: ParameterProblem) {
        self.problems.push(problem);
    }

    pub(super) fn mapped(&self) -> impl Iterator<Item = (&str, Given<'_>)> {
        self.mapped.iter().map(|(name, value)| (name.as_str(), value.given()))
    }

    pub(super) fn fixed(&self) -> impl Iterator<Item = (&str, Given<'_>)> {
        self.fixed.iter().map(|(name, value)| (name.as_str(), Given::Json { value, flaw: None }))
    }
}

impl fmt::Debug for Overlay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            |names: &mut dyn Iterator<Item = &String>| names.map(|name| shortened(name)).collect::<Vec<_>>();
        formatter
            .debug_struct("Overlay")
            .field("pass_through", &self.pass_through)
            .field("mapped", &names(&mut self.mapped.keys()))
            .field("fixed", &names(&mut self.fixed.keys()))
            .finish_non_exhaustive()
    }
}
