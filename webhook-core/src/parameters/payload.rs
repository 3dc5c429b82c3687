//! The content of a body, before it is known which parts become parameters.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use serde_json::value::RawValue;

use super::body_error::BodyError;
use super::json::{Read, read, without_byte_order_mark};
use super::limits::ParameterLimits;
use super::media_type::MediaType;
use super::multipart::parse_multipart;
use super::number_literal::{NumberFlaw, worst_flaw};
use super::pointer::Pointer;
use super::problem::{ParameterProblem, ProblemCode, excerpt, shortened};
use super::query::{MalformedForm, Pairs, parse_form};
use super::quotes::{
    QUOTES_HINT, begins_like_json, has_shell_quotes, has_single_quotes, is_encoded_json, is_like_form,
};

/// The form field that holds the body as JSON, with senders that do so.
const PAYLOAD_FIELD: &str = "payload";

/// The content of a body: any JSON value, or a form. `Debug` shows none of it.
pub struct Payload<'a> {
    pub(super) content: Content<'a>,
    /// Fields of a multipart form that hold files.
    files: Vec<String>,
}

/// Forms of a body that are read only where a webhook's sender needs them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PayloadForms {
    /// Set if the field `payload` of a form holds the body as JSON.
    pub payload_field: bool,
    /// Set if `multipart/form-data` is read.
    pub multipart: bool,
}

impl PayloadForms {
    /// Reads the field `payload` of a form as JSON.
    #[must_use]
    pub fn with_payload_field(mut self) -> Self {
        self.payload_field = true;
        self
    }

    /// Accepts bodies of the type `multipart/form-data`.
    #[must_use]
    pub fn with_multipart(mut self) -> Self {
        self.multipart = true;
        self
    }
}

pub(super) enum Content<'a> {
    Empty,
    Json {
        value: Value,
        /// The JSON text, without a byte order mark.
        text: Cow<'a, [u8]>,
        /// Set if a number became a double. No other number can differ from what is written.
        has_doubles: bool,
    },
    Form(Pairs),
}

/// Parses a body by its media type, as [`parse_body`](super::parse_body) does, but lets any JSON value pass.
///
/// `forms` says which forms are read beside those.
///
/// # Errors
/// As [`parse_body`](super::parse_body), except that any JSON value passes.
pub fn parse_payload<'a>(
    content_type: Option<&str>,
    bytes: &'a [u8],
    limits: &ParameterLimits,
    forms: PayloadForms,
) -> Result<Payload<'a>, BodyError> {
    let content_type = content_type.map(str::trim).filter(|text| !text.is_empty());
    let media_type = match content_type {
        Some(text) => Some(MediaType::parse(text).ok_or_else(|| BodyError::unsupported(text))?),
        None => None,
    };
    let bytes = without_byte_order_mark(bytes);
    if bytes.iter().all(|byte| b" \t\r\n".contains(byte)) {
        return Ok(Payload::empty());
    }
    let content = match media_type {
        None => parse_json(Cow::Borrowed(bytes), limits)?,
        Some(media_type) if media_type.is_json() => parse_json(Cow::Borrowed(bytes), limits)?,
        Some(media_type) if media_type.is_form() => {
            let pairs = parse_form_body(bytes, limits)?;
            match single(&pairs, PAYLOAD_FIELD).filter(|_| forms.payload_field) {
                Some(json) => parse_json(Cow::Owned(json.as_bytes().to_vec()), limits)?,
                None => Content::Form(pairs),
            }
        }
        Some(media_type) if media_type.is_multipart_form() && forms.multipart => {
            let form = parse_multipart(content_type.unwrap_or_default(), bytes, limits)?;
            return Ok(Payload { content: Content::Form(form.texts), files: form.files });
        }
        Some(_) => return Err(BodyError::unsupported(content_type.unwrap_or_default())),
    };
    Ok(Payload { content, files: Vec::new() })
}

fn parse_json<'a>(text: Cow<'a, [u8]>, limits: &ParameterLimits) -> Result<Content<'a>, BodyError> {
    match read(&text, limits) {
        Ok(Read { value, has_doubles }) => Ok(Content::Json { value, text, has_doubles }),
        Err(error) => {
            let hint = if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
                "; it is UTF-16, and must be UTF-8"
            } else if has_shell_quotes(&text) {
                QUOTES_HINT
            } else if has_single_quotes(&text) {
                "; names and texts must be in double quotes"
            } else if is_like_form(&text) {
                "; it looks like a form, which needs the header Content-Type: application/x-www-form-urlencoded"
            } else {
                ""
            };
            Err(BodyError::Malformed { message: format!("the body was refused as JSON: {error}{hint}") })
        }
    }
}

fn parse_form_body(bytes: &[u8], limits: &ParameterLimits) -> Result<Pairs, BodyError> {
    let is_json = begins_like_json(bytes) || is_encoded_json(bytes);
    if is_json || has_shell_quotes(bytes) {
        let hint = if has_shell_quotes(bytes) { QUOTES_HINT } else { "" };
        return Err(BodyError::Malformed {
            message: format!(
                "the body looks like JSON, but was sent as application/x-www-form-urlencoded, as `curl -d` does by \
                 default; add the header -H 'Content-Type: application/json'{hint}"
            ),
        });
    }
    parse_form(bytes, limits.json_values).map_err(|error| BodyError::Malformed {
        message: match error {
            MalformedForm::Pair(error) => format!("the form in the body is malformed: {error}"),
            MalformedForm::TooMany { limit } => format!("the form in the body has more than {limit} pairs"),
        },
    })
}

/// Returns the value of a field that the form has once.
fn single<'a>(pairs: &'a Pairs, name: &str) -> Option<&'a str> {
    let mut values = pairs.iter().filter(|(given, _)| *given == name).map(|(_, value)| value);
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

impl Payload<'_> {
    /// Creates the payload of a body without bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self { content: Content::Empty, files: Vec::new() }
    }

    /// Returns a problem for every field with a file: a parameter holds no file.
    pub fn file_problems(&self) -> impl Iterator<Item = ParameterProblem> {
        self.files.iter().map(|name| {
            let message = format!("The field {} holds a file; send its content as text.", excerpt(name));
            ParameterProblem::new(shortened(name), ProblemCode::WrongType, message)
        })
    }

    /// Returns the value that a pointer leads to. A form is an object of texts, and of lists where a name is repeated.
    #[must_use]
    pub fn find(&self, pointer: &Pointer) -> Option<Cow<'_, Value>> {
        match &self.content {
            Content::Empty => None,
            Content::Json { value, .. } => pointer.find(value).map(Cow::Borrowed),
            Content::Form(pairs) => find_in_form(pairs, pointer).map(Cow::Owned),
        }
    }

    /// Says where a pointer leads nowhere, as [`Pointer::missing_in`] does.
    #[must_use]
    pub fn missing(&self, pointer: &Pointer) -> Option<String> {
        match &self.content {
            Content::Empty => Some("the body is empty".to_owned()),
            Content::Json { value, .. } => pointer.missing_in(value),
            Content::Form(pairs) => pointer.missing_in(&as_object(pairs)),
        }
    }

    /// Changes a JSON value, but no number in it.
    pub(crate) fn change_json(&mut self, change: impl FnOnce(&mut Value)) {
        if let Content::Json { value, .. } = &mut self.content {
            change(value);
        }
    }

    /// Returns the worst flaw of a number in the value that a pointer leads to.
    pub(super) fn flaw(&self, pointer: &Pointer) -> Option<NumberFlaw> {
        let Content::Json { value, text, has_doubles: true } = &self.content else { return None };
        if !holds_double(pointer.find(value)?) {
            return None;
        }
        worst_flaw(raw_at(std::str::from_utf8(text).ok()?, pointer)?.as_bytes())
    }
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.content {
            Content::Empty => "Payload(empty)",
            Content::Json { .. } => "Payload(JSON)",
            Content::Form(_) => "Payload(form)",
        })
    }
}

fn find_in_form(pairs: &Pairs, pointer: &Pointer) -> Option<Value> {
    let Some(name) = pointer.tokens().next() else { return Some(as_object(pairs)) };
    let field = pairs.iter().filter(|(given, _)| *given == name);
    let object = object_of(field);
    pointer.find(&object).cloned()
}

fn as_object(pairs: &Pairs) -> Value {
    object_of(pairs.iter())
}

fn object_of<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    let mut fields: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in pairs {
        fields.entry(name).or_default().push(value);
    }
    let fields = fields.into_iter().map(|(name, values)| match values.as_slice() {
        [value] => (name.to_owned(), Value::from(*value)),
        _ => (name.to_owned(), Value::from(values)),
    });
    Value::Object(fields.collect())
}

/// Returns whether a number in a value is a double: no other can differ from what is written.
fn holds_double(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(holds_double),
        Value::Object(members) => members.values().any(holds_double),
        _ => false,
    }
}

/// Returns the part of a valid JSON text that a pointer leads to. It reads the text once for each name of the path.
fn raw_at<'a>(text: &'a str, pointer: &Pointer) -> Option<&'a str> {
    pointer.tokens().try_fold(text.trim(), |text, token| {
        let raw: &RawValue = if text.starts_with('{') {
            serde_json::from_str::<BTreeMap<String, &RawValue>>(text).ok()?.remove(&token)?
        } else {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            items.get(token.parse::<usize>().ok()?).copied()?
        };
        Some(raw.get())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

    fn parse(
        content_type: Option<&'static str>,
        body: &'static str,
        payload_field: bool,
    ) -> Payload<'static> {
        let forms = PayloadForms { payload_field, multipart: true };
        parse_payload(content_type, body.as_bytes(), &ParameterLimits::default(), forms).unwrap()
    }

    fn found(payload: &Payload<'_>, pointer: &str) -> Option<Value> {
        payload.find(&pointer.parse().unwrap()).map(Cow::into_owned)
    }

    #[test]
    fn any_json_value_and_a_form_can_be_pointed_into() {
        let array = parse(None, r#"[{"id": 5}]"#, false);
        assert_eq!(found(&array, "/0/id"), Some(json!(5)));
        assert_eq!(found(&parse(None, "5", false), ""), Some(json!(5)));
        assert_eq!(found(&Payload::empty(), ""), None);
        let form = parse(FORM, "a=1&b=x&a=2&c/d=%3D", false);
        assert_eq!(found(&form, "/a"), Some(json!(["1", "2"])));
        assert_eq!(found(&form, "/a/1"), Some(json!("2")));
        assert_eq!(found(&form, "/b"), Some(json!("x")));
        assert_eq!(found(&form, "/c~1d"), Some(json!("=")));
        assert_eq!(found(&form, ""), Some(json!({"a": ["1", "2"], "b": "x", "c/d": "="})));
        assert_eq!(found(&form, "/x"), None);
        assert!(form.missing(&"/x".parse().unwrap()).unwrap().contains("\"a\""));
    }

    #[test]
    fn the_field_payload_is_read_as_json_where_the_sender_means_it_so() {
        let body = "payload=%7B%22ref%22%3A%22main%22%7D";
        assert_eq!(found(&parse(FORM, body, true), "/ref"), Some(json!("main")));
        assert_eq!(found(&parse(FORM, body, false), "/payload"), Some(json!(r#"{"ref":"main"}"#)));
        assert_eq!(found(&parse(FORM, "payload=a&payload=b", true), "/payload/0"), Some(json!("a")));
        let refused = parse_payload(
            FORM,
            b"payload=canary",
            &ParameterLimits::default(),
            PayloadForms { payload_field: true, multipart: false },
        )
        .unwrap_err();
        assert!(!refused.to_string().contains("canary"), "{refused}");
    }

    #[test]
    fn a_multipart_form_is_a_form_whose_files_are_problems() {
        let body = "--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--X\r\n\
            Content-Disposition: form-data; name=\"f\"; filename=\"f.csv\"\r\n\r\ncanary\r\n--X--\r\n";
        let content_type = Some("multipart/form-data; boundary=X");
        let form = parse(content_type, body, false);
        assert_eq!(found(&form, ""), Some(json!({"a": "1"})));
        let problems: Vec<_> = form.file_problems().collect();
        assert_eq!((problems.len(), problems[0].parameter.as_str()), (1, "f"));
        let limits = ParameterLimits::default();
        let refused =
            parse_payload(content_type, body.as_bytes(), &limits, PayloadForms::default()).unwrap_err();
        assert!(matches!(refused, BodyError::UnsupportedMediaType { .. }));
    }

    #[test]
    fn a_flaw_is_that_of_the_value_pointed_to_and_of_no_other() {
        let payload = parse(
            None,
            r#" {"a\u0062": [1.5, {"big": 99999999999999999999}], "whole": 4503599627370497.4, "small": 1} "#,
            false,
        );
        let flaw = |pointer: &str| payload.flaw(&pointer.parse().unwrap());
        assert_eq!(flaw("/ab/1/big"), Some(NumberFlaw::BeyondIntegers));
        assert_eq!(flaw("/ab/1"), Some(NumberFlaw::BeyondIntegers));
        assert_eq!(flaw(""), Some(NumberFlaw::BeyondIntegers));
        assert_eq!(flaw("/whole"), Some(NumberFlaw::RoundedToWhole));
        assert_eq!(flaw("/ab/0"), None);
        assert_eq!(flaw("/small"), None);
        assert_eq!(flaw("/none"), None);
    }

    #[test]
    fn debug_shows_nothing_of_the_content() {
        assert_eq!(format!("{:?}", parse(None, r#"{"canary": 1}"#, false)), "Payload(JSON)");
    }
}
