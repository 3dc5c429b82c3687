//! Values that the sources give under one name, and the one that counts.

use serde_json::Value;

use super::effective::Source;
use super::number_literal::NumberFlaw;
use super::paste::paste_hint;

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
    /// Adds a text to those that a source gives under one name.
    pub(super) fn add_text(given: &mut Option<Self>, text: &'a str) {
        match given {
            Some(Self::Texts(texts)) => texts.push(text),
            _ => *given = Some(Self::Texts(vec![text])),
        }
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

/// Values of the sources under one name.
#[derive(Default)]
pub(super) struct Candidates<'a> {
    pub(super) fixed: Option<Given<'a>>,
    pub(super) mapped: Option<Given<'a>>,
    pub(super) body: Option<Given<'a>>,
    pub(super) query: Option<Given<'a>>,
}

impl<'a> Candidates<'a> {
    /// Returns the value that counts, and its source.
    pub(super) fn strongest(&self) -> Option<(&Given<'a>, Source)> {
        self.by_strength().next()
    }

    /// Returns the value that counts where a block is declared: `null` then means not given, unless it is fixed.
    pub(super) fn strongest_but_null(&self) -> Option<(&Given<'a>, Source)> {
        self.by_strength().find(|(given, source)| *source == Source::Fixed || !given.is_null())
    }

    /// Returns whether query or body give a value.
    pub(super) fn is_from_caller(&self) -> bool {
        self.query.is_some() || self.body.is_some()
    }

    fn by_strength(&self) -> impl Iterator<Item = (&Given<'a>, Source)> {
        let sources = [
            (&self.fixed, Source::Fixed),
            (&self.mapped, Source::Mapping),
            (&self.body, Source::Body),
            (&self.query, Source::Query),
        ];
        sources.into_iter().filter_map(|(given, source)| Some((given.as_ref()?, source)))
    }
}
