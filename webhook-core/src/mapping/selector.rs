//! The place in a call that a setting looks at.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::parameters::{Payload, Pointer, QueryParameters};
use crate::raw_call::RawCall;

/// A call with its query and body read.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct CallContent<'a> {
    /// The call as it was sent.
    pub raw: &'a RawCall<'a>,
    /// Query of the call, without the token.
    pub query: &'a QueryParameters,
    /// Body of the call.
    pub payload: &'a Payload<'a>,
}

impl<'a> CallContent<'a> {
    /// Creates a call of these parts.
    #[must_use]
    pub fn new(raw: &'a RawCall<'a>, query: &'a QueryParameters, payload: &'a Payload<'a>) -> Self {
        Self { raw, query, payload }
    }
}

/// A place in a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "from", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Selector {
    /// A value in the body. A form is an object of texts, and of lists where a name is repeated.
    #[non_exhaustive]
    Body {
        /// The path to the value.
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        pointer: Pointer,
    },
    /// A header. Several of one name are one text, with a comma and a blank between them (RFC 9110 section 5.3).
    #[non_exhaustive]
    Header {
        /// The name, in any case.
        name: String,
    },
    /// A parameter of the query. A repeated one is a list of texts.
    #[non_exhaustive]
    Query {
        /// The name, matched by exact bytes.
        name: String,
    },
    /// Method of the call.
    Method,
    /// The body as a text.
    RawBody,
}

/// Value at the place.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Selected<'a> {
    Missing,
    Text(Cow<'a, str>),
    Value(Cow<'a, Value>),
    /// Bytes that are not UTF-8.
    NotText,
}

impl Selector {
    /// Selects a value in the body.
    #[must_use]
    pub fn body(pointer: Pointer) -> Self {
        Self::Body { pointer }
    }

    /// Selects a header.
    #[must_use]
    pub fn header(name: impl Into<String>) -> Self {
        Self::Header { name: name.into() }
    }

    /// Selects a parameter of the query.
    #[must_use]
    pub fn query(name: impl Into<String>) -> Self {
        Self::Query { name: name.into() }
    }

    /// Returns whether a call has a value at the place.
    #[must_use]
    pub fn exists_in(&self, content: &CallContent<'_>) -> bool {
        self.select(content) != Selected::Missing
    }

    pub(super) fn select<'a>(&self, content: &CallContent<'a>) -> Selected<'a> {
        match self {
            Self::Body { pointer } => {
                content.payload.find(pointer).map_or(Selected::Missing, Selected::Value)
            }
            Self::Header { name } => {
                let values: Vec<_> = content.raw.headers(name).collect();
                match values.as_slice() {
                    [] => Selected::Missing,
                    [value] => text(value),
                    several => match String::from_utf8(several.join(&b", "[..])) {
                        Ok(joined) => Selected::Text(joined.into()),
                        Err(_) => Selected::NotText,
                    },
                }
            }
            Self::Query { name } => {
                let named = content.query.iter().filter(|(given, _)| given == name);
                let values: Vec<_> = named.map(|(_, value)| value).collect();
                match values.as_slice() {
                    [] => Selected::Missing,
                    [value] => Selected::Text(Cow::Borrowed(value)),
                    _ => Selected::Value(Cow::Owned(Value::from(values))),
                }
            }
            Self::Method => Selected::Text(content.raw.method.into()),
            Self::RawBody if content.raw.body.is_empty() => Selected::Missing,
            Self::RawBody => text(content.raw.body),
        }
    }
}

/// Leaves places out of the JSON Schema of a selector, or of what holds one.
#[cfg(feature = "schema")]
pub(super) fn leave_out(places: &[&str], schema: &mut schemars::Schema) {
    fn retain(places: &[&str], part: &mut serde_json::Map<String, Value>) {
        if let Some(Value::Array(alternatives)) = part.get_mut("oneOf") {
            alternatives.retain(|alternative| {
                let place = alternative["properties"]["from"]["const"].as_str();
                place.is_none_or(|place| !places.contains(&place))
            });
        }
        let parts = part.get_mut("allOf").and_then(Value::as_array_mut).into_iter().flatten();
        for part in parts.filter_map(Value::as_object_mut) {
            retain(places, part);
        }
    }
    retain(places, schema.ensure_object());
}

fn text(bytes: &[u8]) -> Selected<'_> {
    std::str::from_utf8(bytes).map_or(Selected::NotText, |text| Selected::Text(text.into()))
}
