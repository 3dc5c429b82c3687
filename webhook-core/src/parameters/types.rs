//! Types of parameters.

use std::fmt;
use std::str::FromStr;

use super::problem::shortened;

/// Type of a parameter. On the wire it is snake_case.
///
/// | type | text (query, form, JSON string) | other JSON values |
/// |---|---|---|
/// | `text` | as given | an integer or boolean becomes its JSON text |
/// | `integer` | `-?(0\|[1-9][0-9]*)` from -2^63 to 2^63-1 | an integer in that range; `5.0`, below 2^53 either way |
/// | `number` | a JSON number (RFC 8259 §6); an integer within 64 bits stays exact, another number is the nearest double, and neither overflows nor vanishes | a number as given |
/// | `boolean` | `true` or `false` in any case, `1`, `0` | `true`, `false`, `1`, `0` |
/// | `date` | a calendar day `YYYY-MM-DD` (ISO 8601), kept as text | none |
/// | `datetime` | RFC 3339 with offset, kept as text | none |
/// | `choice` | one of the choices, byte for byte | an integer or boolean whose JSON text is a choice |
/// | `list` | each repetition of the name is an item, one value is a list of one text | an array as given |
/// | `json` | JSON text; in a JSON body a string stays a string | as given |
///
/// Every other value is a problem. A JSON `null` means that no value was given, also for `json`. The *text*
/// `null` for a `json` block is the value `null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ParameterType {
    /// Text of any content.
    Text,
    /// An integer from -2^63 to 2^63-1.
    Integer,
    /// A number in JSON's grammar.
    Number,
    /// True or false.
    Boolean,
    /// A calendar day (ISO 8601).
    Date,
    /// An instant with its offset from UTC (RFC 3339).
    Datetime,
    /// One of the block's choices.
    Choice,
    /// A list of values.
    List,
    /// Any JSON value.
    Json,
}

impl ParameterType {
    const ALL: [Self; 9] = [
        Self::Text,
        Self::Integer,
        Self::Number,
        Self::Boolean,
        Self::Date,
        Self::Datetime,
        Self::Choice,
        Self::List,
        Self::Json,
    ];

    /// Returns the text on the wire, such as `integer`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Datetime => "datetime",
            Self::Choice => "choice",
            Self::List => "list",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for ParameterType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for ParameterType {
    type Err = UnknownParameterType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str() == text)
            .ok_or_else(|| UnknownParameterType { text: shortened(text) })
    }
}

/// Error for a text that names no [`ParameterType`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a parameter type; the types are text, integer, number, boolean, date, datetime, choice, \
     list and json"
)]
#[non_exhaustive]
pub struct UnknownParameterType {
    /// The text, shortened if it is long.
    pub text: String,
}
