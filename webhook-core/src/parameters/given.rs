//! Values that the sources give under one name, and the one that counts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::effective::Source;
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

/// Values of each source, by name.
pub(super) struct Layers<'a> {
    pub(super) fixed: BTreeMap<&'a str, Given<'a>>,
    pub(super) mapped: BTreeMap<&'a str, Given<'a>>,
    pub(super) body: BTreeMap<&'a str, Given<'a>>,
    pub(super) query: BTreeMap<&'a str, Given<'a>>,
}

impl<'a> Layers<'a> {
    /// Returns every name that a source gives, ordered.
    pub(super) fn names(&self) -> BTreeSet<&'a str> {
        let layers = [&self.fixed, &self.mapped, &self.body, &self.query];
        layers.into_iter().flat_map(BTreeMap::keys).copied().collect()
    }

    /// Returns the values of the sources under one name.
    pub(super) fn of(&self, name: &str) -> Candidates<'_, 'a> {
        Candidates {
            fixed: self.fixed.get(name),
            mapped: self.mapped.get(name),
            body: self.body.get(name),
            query: self.query.get(name),
        }
    }
}

/// Values of the sources under one name.
#[derive(Clone, Copy)]
pub(super) struct Candidates<'l, 'a> {
    fixed: Option<&'l Given<'a>>,
    mapped: Option<&'l Given<'a>>,
    pub(super) body: Option<&'l Given<'a>>,
    pub(super) query: Option<&'l Given<'a>>,
}

impl<'l, 'a> Candidates<'l, 'a> {
    /// Drops each `null`, which means not given where a block is declared.
    pub(super) fn without_nulls(self) -> Self {
        let given = |given: Option<&'l Given<'a>>| given.filter(|given| !given.is_null());
        Self { mapped: given(self.mapped), body: given(self.body), ..self }
    }

    /// Returns the value that counts, and its source.
    pub(super) fn strongest(self) -> Option<(&'l Given<'a>, Source)> {
        let order = [
            (self.fixed, Source::Fixed),
            (self.mapped, Source::Mapping),
            (self.body, Source::Body),
            (self.query, Source::Query),
        ];
        order.into_iter().find_map(|(given, source)| Some((given?, source)))
    }
}
