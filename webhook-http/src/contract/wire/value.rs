//! Values of several wire types. Unset values are `null`, times RFC 3339 with milliseconds, secrets `***`.

use std::borrow::Cow;
use std::time::SystemTime;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use webhook_core::clock::format_timestamp;
use webhook_core::run::{EXCERPT_BYTES, excerpt_text};

/// Extent to which a record is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// All of it.
    Full,
    /// The part that fits into a list or an event.
    Excerpt,
}

impl Detail {
    /// Returns the shown part of a text, and whether the rest was cut.
    pub(crate) fn of_text(self, text: &str) -> (&str, bool) {
        let cut = if self == Self::Excerpt { excerpt_text(text, EXCERPT_BYTES) } else { None };
        (cut.unwrap_or(text), cut.is_some())
    }

    pub(crate) fn of_number(self, most: usize) -> usize {
        if self == Self::Excerpt { most } else { usize::MAX }
    }
}

/// A time, written as RFC 3339 with milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timestamp(pub(crate) SystemTime);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_timestamp(self.0))
    }
}

impl JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// Mark of an object in which something was cut. An object that is whole has no such member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Truncated(pub(crate) bool);

impl Truncated {
    pub(crate) fn is_whole(&self) -> bool {
        !self.0
    }
}

impl JsonSchema for Truncated {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Truncated".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "const": true,
            "description": "Something in this object was cut, as lists and events do with values longer than 1 KiB \
                 (1,024 bytes of text; a value that is no text becomes the beginning of its JSON text) and with more \
                 than 16 KiB of parameters, 20 artifacts or 20 deliveries of one run. The record by its own address is \
                 whole.",
        })
    }
}
