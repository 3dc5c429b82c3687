//! Reading a body by its media type.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::json::{read_json, without_byte_order_mark};
use super::limits::ParameterLimits;
use super::media_type::{BodyFormat, body_format};
use super::merge::Given;
use super::problem::{excerpt, shortened};
use super::query::{Pairs, parse_form};

/// Reads the body of a POST call.
///
/// `application/json` and every type with the suffix `+json` must hold an object without duplicate names
/// ([`read_json`]); `application/x-www-form-urlencoded` is decoded like a query. No
/// `Content-Type`, or a blank one, means JSON. A body of no bytes, or of white space only, has no parameters,
/// whatever its media type. The charset may be left out or be UTF-8. A UTF-8 byte order mark in front of JSON
/// is ignored (RFC 8259 §8.1).
///
/// Of `limits` only [`json_depth`](ParameterLimits::json_depth) matters here: the number of bytes is checked
/// while the body streams in, names and their number by [`merge`](super::merge()).
///
/// # Errors
///
/// [`BodyError::Malformed`] when the body does not have the form its media type demands, and
/// [`BodyError::UnsupportedMediaType`] for another media type or charset.
pub fn parse_body(
    content_type: Option<&str>,
    bytes: &[u8],
    limits: &ParameterLimits,
) -> Result<BodyParameters, BodyError> {
    let content_type = content_type.map(str::trim).filter(|text| !text.is_empty());
    let format = match content_type {
        None => BodyFormat::Json,
        Some(text) => body_format(text).ok_or_else(|| BodyError::unsupported(text))?,
    };
    if is_blank(bytes) {
        return Ok(BodyParameters::default());
    }
    match format {
        BodyFormat::Json => parse_object(bytes, limits),
        BodyFormat::Form => parse_form_body(bytes),
        BodyFormat::Other => Err(BodyError::unsupported(content_type.unwrap_or_default())),
    }
}

fn is_blank(bytes: &[u8]) -> bool {
    without_byte_order_mark(bytes).iter().all(|byte| b" \t\r\n".contains(byte))
}

fn parse_object(bytes: &[u8], limits: &ParameterLimits) -> Result<BodyParameters, BodyError> {
    let value = read_json(bytes, limits.json_depth).map_err(|error| BodyError::Malformed {
        message: format!("the body was refused as JSON: {error}"),
    })?;
    let kind = match value {
        Value::Object(members) => return Ok(BodyParameters::from_object(members)),
        Value::Array(_) => "an array",
        Value::String(_) => "a string",
        Value::Number(_) => "a number",
        Value::Bool(_) => "a boolean",
        Value::Null => "null",
    };
    Err(BodyError::Malformed {
        message: format!(
            "the body is JSON, but {kind}; an object is expected whose members are the parameters, such as \
             {{\"region\": \"EMEA\"}}"
        ),
    })
}

fn parse_form_body(bytes: &[u8]) -> Result<BodyParameters, BodyError> {
    if without_byte_order_mark(bytes).trim_ascii_start().starts_with(b"{") {
        return Err(BodyError::Malformed {
            message:
                "the body looks like JSON, but was sent as application/x-www-form-urlencoded, as `curl -d` \
                      does by default; add the header -H 'Content-Type: application/json'"
                    .to_owned(),
        });
    }
    let pairs = parse_form(bytes).map_err(|error| BodyError::Malformed {
        message: format!("the form in the body is malformed: {error}"),
    })?;
    Ok(BodyParameters { given: GivenBody::Form(pairs) })
}

/// The parameters that a body gives: members of a JSON object, or pairs of a form.
///
/// `Debug` shows names only: which values are secret is not known here.
#[derive(Clone, Default, PartialEq)]
pub struct BodyParameters {
    given: GivenBody,
}

#[derive(Clone, PartialEq)]
enum GivenBody {
    Object(Map<String, Value>),
    Form(Pairs),
}

impl Default for GivenBody {
    fn default() -> Self {
        Self::Object(Map::new())
    }
}

impl BodyParameters {
    /// The members of a JSON object, for a run that is not started through a trigger call.
    pub fn from_object(members: Map<String, Value>) -> Self {
        Self { given: GivenBody::Object(members) }
    }

    /// Whether the body gives nothing.
    pub fn is_empty(&self) -> bool {
        match &self.given {
            GivenBody::Object(members) => members.is_empty(),
            GivenBody::Form(pairs) => pairs.is_empty(),
        }
    }

    /// Every name with what was given for it.
    pub(super) fn by_name(&self) -> BTreeMap<&str, Given<'_>> {
        match &self.given {
            GivenBody::Object(members) => {
                members.iter().map(|(name, value)| (name.as_str(), Given::Json(value))).collect()
            }
            GivenBody::Form(pairs) => Given::by_name(pairs),
        }
    }
}

impl fmt::Debug for BodyParameters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BodyParameters")?;
        formatter.debug_list().entries(self.by_name().into_keys().map(shortened)).finish()
    }
}

/// Why a body could not be read. No error repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The body does not have the form that its media type demands.
    #[error("{message}")]
    Malformed {
        /// What is wrong and how to mend it.
        message: String,
    },
    /// The `Content-Type` is not a media type, or not one that is read here, or names another charset.
    #[error(
        "the media type {} is not supported; send application/json or application/x-www-form-urlencoded in \
         UTF-8",
        excerpt(.content_type)
    )]
    UnsupportedMediaType {
        /// The `Content-Type` as sent, cut when it is long.
        content_type: String,
    },
}

impl BodyError {
    fn unsupported(content_type: &str) -> Self {
        Self::UnsupportedMediaType { content_type: shortened(content_type) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(content_type: Option<&str>, body: &str) -> Result<BodyParameters, BodyError> {
        parse_body(content_type, body.as_bytes(), &ParameterLimits::default())
    }

    fn message(content_type: Option<&str>, body: &str) -> String {
        match parse(content_type, body) {
            Err(BodyError::Malformed { message }) => message,
            other => panic!("{other:?}"),
        }
    }

    const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

    #[test]
    fn a_body_without_content_type_is_json() {
        for content_type in [None, Some(""), Some(" "), Some("application/json")] {
            let body = parse(content_type, r#"{"a": 1}"#).unwrap();
            assert!(body == BodyParameters::from_object(Map::from_iter([("a".to_owned(), 1.into())])));
        }
        assert!(message(None, "a=1").starts_with("the body was refused as JSON: not valid JSON"));
    }

    #[test]
    fn an_empty_body_is_fine_whatever_its_media_type() {
        for content_type in [None, Some("application/json"), FORM, Some("text/plain"), Some("image/png; a=b")]
        {
            for body in ["", " \r\n\t", "\u{feff}"] {
                assert!(parse(content_type, body).unwrap().is_empty(), "{content_type:?} {body:?}");
            }
        }
    }

    #[test]
    fn another_media_type_or_charset_or_no_media_type_at_all_is_unsupported() {
        for content_type in
            ["text/plain", "multipart/form-data; boundary=x", "application/json; charset=latin1"]
        {
            let error = parse(Some(content_type), "{}").unwrap_err();
            assert!(matches!(error, BodyError::UnsupportedMediaType { .. }), "{content_type}");
            assert!(error.to_string().contains("send application/json"), "{error}");
        }
        let error = parse(Some("nonsense"), "").unwrap_err();
        assert!(matches!(error, BodyError::UnsupportedMediaType { .. }));
    }

    #[test]
    fn a_json_body_must_be_an_object_and_the_message_says_so() {
        for (body, kind) in [
            ("[1]", "an array"),
            ("\"canary\"", "a string"),
            ("5", "a number"),
            ("true", "a boolean"),
            ("null", "null"),
        ] {
            let message = message(None, body);
            assert!(message.contains(kind) && message.contains("an object is expected"), "{message}");
            assert!(!message.contains("canary"), "{message}");
        }
    }

    #[test]
    fn a_json_body_with_a_duplicate_name_or_nested_too_deeply_is_malformed() {
        assert!(message(None, r#"{"a":1,"a":2}"#).contains("the name \"a\" occurs twice"));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(64), "]".repeat(64));
        assert!(message(None, &deep).contains("nested more than 64 levels deep"));
    }

    #[test]
    fn a_byte_order_mark_in_front_of_json_is_ignored() {
        assert!(!parse(None, "\u{feff}{\"a\":1}").unwrap().is_empty());
    }

    #[test]
    fn a_form_is_decoded_like_a_query_but_token_is_an_ordinary_name() {
        let body = parse(FORM, "a=1+2&token=x&a=%33").unwrap();
        let GivenBody::Form(pairs) = &body.given else { panic!("{body:?}") };
        assert_eq!(pairs.iter().collect::<Vec<_>>(), [("a", "1 2"), ("token", "x"), ("a", "3")]);
        assert!(message(FORM, "a=%zz").contains("parameter number 1 (\"a\")"));
    }

    #[test]
    fn a_form_that_starts_with_a_brace_says_which_header_is_missing() {
        for body in [r#"{"a":1}"#, " \n{}", "\u{feff}{}"] {
            assert!(message(FORM, body).contains("-H 'Content-Type: application/json'"), "{body}");
        }
        assert!(parse(FORM, "%7B=1").is_ok());
    }

    #[test]
    fn debug_shows_names_and_no_values() {
        for body in [parse(None, r#"{"password":"canary"}"#), parse(FORM, "password=canary")] {
            let shown = format!("{body:?}");
            assert!(shown.contains("password") && !shown.contains("canary"), "{shown}");
        }
    }
}
