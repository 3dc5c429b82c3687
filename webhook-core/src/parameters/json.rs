//! The strict JSON reader: no duplicate names, bounded depth.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, map::Entry};

use super::limits::ParameterLimits;
use super::number_literal::first_flaw;
use super::problem::excerpt;

/// Prefix of the names that serde_json reserves.
///
/// An object with such a name does not survive serde_json: the member's text replaces the object, or reading
/// fails.
pub(super) const RESERVED: &str = "$serde_json::private::";

/// Returns whether serde_json reserves a name.
pub(super) fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED)
}

/// Returns whether a text may be the name of a parameter, by the limits that hold where none are set.
pub(crate) fn is_parameter_name(name: &str) -> bool {
    (1..=ParameterLimits::default().name_bytes).contains(&name.len()) && !is_reserved(name)
}

/// Returns whether a value contains, at any depth, a name that serde_json reserves.
pub(super) fn has_reserved_name(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_reserved_name),
        Value::Object(members) => {
            members.iter().any(|(name, member)| is_reserved(name) || has_reserved_name(member))
        }
        _ => false,
    }
}

/// Reads one JSON text (RFC 8259), and refuses texts that readers interpret differently (I-JSON, RFC 7493
/// §2.3): those that have an object with the same name twice.
///
/// - [`json_depth`](ParameterLimits::json_depth) bounds the nesting of arrays and objects. A scalar has depth
///   0; `{}` and `[1]` have depth 1.
/// - [`json_values`](ParameterLimits::json_values) bounds the number of values, including arrays and objects.
/// - A leading UTF-8 byte order mark is ignored (RFC 8259 §8.1).
/// - Integers are exact from -2^63 to 2^64-1; an integer beyond is refused. So is a nonzero number that a
///   double would make zero. Every other number becomes the nearest double.
/// - Names that serde_json reserves are refused.
///
/// # Errors
///
/// The text is not one JSON text, has a duplicate name or a number that cannot be kept, is nested too deeply,
/// or has too many values. No error repeats a value.
///
/// ```
/// use webhook_core::parameters::{ParameterLimits, StrictJsonError, read_json};
///
/// let limits = ParameterLimits::default().with_json_depth(2);
/// assert_eq!(read_json(br#"{"rows": 5}"#, &limits)?["rows"], 5);
/// assert!(matches!(read_json(br#"{"a": 1, "a": 2}"#, &limits), Err(StrictJsonError::DuplicateName { .. })));
/// assert!(matches!(read_json(b"[[[]]]", &limits), Err(StrictJsonError::TooDeep { limit: 2 })));
/// # Ok::<(), StrictJsonError>(())
/// ```
pub fn read_json(bytes: &[u8], limits: &ParameterLimits) -> Result<Value, StrictJsonError> {
    let Read { value, has_doubles } = read(bytes, limits)?;
    match has_doubles.then(|| first_flaw(bytes)).flatten() {
        Some((place, flaw)) => Err(StrictJsonError::Number {
            line: 1 + bytes[..place].iter().filter(|byte| **byte == b'\n').count(),
            message: flaw.sentence(),
        }),
        None => Ok(value),
    }
}

/// A decoded JSON text. A number that cannot be kept has become the nearest double.
pub(super) struct Read {
    pub(super) value: Value,
    /// True if a number became a double. No other number can differ from its spelling.
    pub(super) has_doubles: bool,
}

/// Reads like [`read_json`], but refuses no number.
pub(super) fn read(bytes: &[u8], limits: &ParameterLimits) -> Result<Read, StrictJsonError> {
    let limit = limits.depth();
    let refusal = RefCell::new(None);
    let (left, has_doubles) = (Cell::new(limits.json_values), Cell::new(false));
    let mut deserializer = serde_json::Deserializer::from_slice(without_byte_order_mark(bytes));
    let outcome = Reader { level: 0, limit, left: &left, has_doubles: &has_doubles, refusal: &refusal }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    let read = |value| Read { value, has_doubles: has_doubles.get() };
    outcome.map(read).map_err(|error| match refusal.into_inner() {
        Some(JsonRefusal::TooDeep) => StrictJsonError::TooDeep { limit },
        Some(JsonRefusal::TooMany) => StrictJsonError::TooManyValues { limit: limits.json_values },
        Some(JsonRefusal::DuplicateName { name }) => {
            StrictJsonError::DuplicateName { name, line: error.line(), column: error.column() }
        }
        Some(JsonRefusal::ReservedName) => {
            StrictJsonError::ReservedName { line: error.line(), column: error.column() }
        }
        None => StrictJsonError::Malformed { message: error.to_string() },
    })
}

/// Returns the bytes after a leading UTF-8 byte order mark, or all bytes if there is none.
pub(super) fn without_byte_order_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Error of the strict reader.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StrictJsonError {
    /// The text is not one JSON text.
    #[error("not valid JSON: {message}")]
    Malformed {
        /// The expected syntax, with line and column.
        message: String,
    },
    /// One object has the same name twice.
    #[error("{} occurs twice in one object, line {line} column {column}", duplicated(.name.as_deref()))]
    DuplicateName {
        /// The name, shortened if it is long. `None` for an object inside another value, since such a name
        /// may be part of a secret.
        name: Option<String>,
        /// Line of the second occurrence, from 1.
        line: usize,
        /// Column of the second occurrence in bytes, from 1.
        column: usize,
    },
    /// A name is one that serde_json reserves.
    #[error("a name begins with {RESERVED}, which is reserved, line {line} column {column}")]
    #[non_exhaustive]
    ReservedName {
        /// Line of the name, from 1.
        line: usize,
        /// Column of the name in bytes, from 1.
        column: usize,
    },
    /// Arrays and objects are nested too deeply.
    #[error("nested more than {limit} levels deep")]
    TooDeep {
        /// Upper bound on the levels of nesting.
        limit: usize,
    },
    /// There are too many values, including arrays and objects.
    #[error("it has more than {limit} values, each array, object and item counted")]
    TooManyValues {
        /// Upper bound on the number of values.
        limit: usize,
    },
    /// A number cannot be kept as it is written.
    #[error("a number in line {line} cannot be kept: {message}")]
    #[non_exhaustive]
    Number {
        /// Line of the number, from 1.
        line: usize,
        /// Reason, as a sentence.
        message: &'static str,
    },
}

fn duplicated(name: Option<&str>) -> String {
    match name {
        Some(name) => format!("the name {}", excerpt(name)),
        None => "a name".to_owned(),
    }
}

/// Refusal of the visitor, kept beside serde_json's error, which can only carry text.
enum JsonRefusal {
    DuplicateName { name: Option<String> },
    ReservedName,
    TooDeep,
    TooMany,
}

/// Reads one value that is nested in `level` arrays and objects.
#[derive(Clone, Copy)]
struct Reader<'a> {
    level: usize,
    limit: usize,
    /// Number of further values that are allowed.
    left: &'a Cell<usize>,
    has_doubles: &'a Cell<bool>,
    refusal: &'a RefCell<Option<JsonRefusal>>,
}

impl Reader<'_> {
    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.level == self.limit {
            return Err(self.refuse(JsonRefusal::TooDeep));
        }
        Ok(Self { level: self.level + 1, ..self })
    }

    fn refuse<E: serde::de::Error>(self, refusal: JsonRefusal) -> E {
        self.refusal.replace(Some(refusal));
        E::custom("refused")
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => return Err(self.refuse(JsonRefusal::TooMany)),
        }
        let value = deserializer.deserialize_any(self)?;
        if value.is_f64() {
            self.has_doubles.set(true);
        }
        Ok(value)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inside)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        let mut inside = None;
        while let Some(key) = members.next_key_seed(KeyReader)? {
            let name = match key {
                Key::Name(name) if is_reserved(&name) => return Err(self.refuse(JsonRefusal::ReservedName)),
                Key::Name(name) => name,
                Key::Number => {
                    let literal: String = members.next_value()?;
                    let number = number(&literal).ok_or_else(|| A::Error::custom("number out of range"))?;
                    return Ok(Value::Number(number));
                }
            };
            let inside = match inside {
                Some(inside) => inside,
                None => *inside.insert(self.inside()?),
            };
            match object.entry(name) {
                Entry::Vacant(vacant) => {
                    vacant.insert(members.next_value_seed(inside)?);
                }
                Entry::Occupied(occupied) => {
                    let name = (self.level == 0).then(|| super::problem::shortened(occupied.key()));
                    return Err(self.refuse(JsonRefusal::DuplicateName { name }));
                }
            }
        }
        if inside.is_none() {
            self.inside()?;
        }
        Ok(Value::Object(object))
    }
}

/// Text in the position of a member name.
enum Key {
    Name(String),
    Number,
}

/// Distinguishes a member name from the stand-in that serde_json uses for a number when its feature
/// `arbitrary_precision` is on.
///
/// This workspace leaves the feature off, but any other crate of a host can turn it on for all crates. A
/// number then arrives as a map with one private key.
/// serde_json offers a real name as a newtype, and the private key as plain text. So a caller who sends the
/// private key as a name is recognized, and refused.
struct KeyReader;

impl<'de> DeserializeSeed<'de> for KeyReader {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_newtype_struct("Name", self)
    }
}

impl<'de> Visitor<'de> for KeyReader {
    type Value = Key;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a member name")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        serde::Deserialize::deserialize(deserializer).map(Key::Name)
    }

    fn visit_str<E>(self, _: &str) -> Result<Key, E> {
        Ok(Key::Number)
    }
}

/// Parses a JSON literal as serde_json reads a number without `arbitrary_precision`.
fn number(literal: &str) -> Option<Number> {
    if literal != "-0" {
        if let Ok(integer) = literal.parse::<i64>() {
            return Some(integer.into());
        }
        if let Ok(integer) = literal.parse::<u64>() {
            return Some(integer.into());
        }
    }
    literal.parse().ok().and_then(Number::from_f64)
}

#[cfg(test)]
mod tests;
