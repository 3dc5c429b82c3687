//! Values as a call gives them, before they are converted and merged.

use std::collections::BTreeMap;

use serde_json::Value;

use super::number_literal::NumberFlaw;
use super::paste::paste_hint;
use super::query::Pairs;

/// Values given under one name by one source.
pub(super) enum Given<'a> {
    /// Values of a query or form, in the order sent; never empty.
    Texts(Vec<&'a str>),
    /// Value of a member of a JSON body.
    Json {
        value: &'a Value,
        /// Flaw of a number in the value.
        flaw: Option<NumberFlaw>,
    },
}

impl<'a> Given<'a> {
    pub(super) fn by_name(pairs: &'a Pairs) -> BTreeMap<&'a str, Self> {
        let mut by_name = BTreeMap::new();
        for (name, value) in pairs.iter() {
            match by_name.entry(name).or_insert_with(|| Self::Texts(Vec::new())) {
                Self::Texts(values) => values.push(value),
                Self::Json { .. } => {}
            }
        }
        by_name
    }

    pub(super) fn is_repeated(&self) -> bool {
        matches!(self, Self::Texts(values) if values.len() > 1)
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Json { value: Value::Null, .. })
    }

    /// Returns a sentence for the problem message if the value looks like a known accident.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Texts(values) => values.iter().find_map(|text| paste_hint(text)),
            Self::Json { value: Value::String(text), .. } => paste_hint(text),
            Self::Json { .. } => None,
        }
    }
}
