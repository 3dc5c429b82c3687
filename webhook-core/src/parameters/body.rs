//! Decodes a body by its media type.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use super::body_error::BodyError;
use super::limits::ParameterLimits;
use super::number_literal::{NumberFlaw, flawed_members};
use super::payload::{Content, Payload, PayloadForms, parse_payload};
use super::problem::shortened;
use super::query::Pairs;

/// Decodes the body of a POST call.
///
/// - `application/json`, `text/json` and every type with the suffix `+json` must hold one object without
///   duplicate names, as [`read_json`](super::read_json) reads it.
/// - `application/x-www-form-urlencoded` is decoded like a query.
/// - No `Content-Type`, or a blank one, means JSON.
/// - A body without bytes, or of white space only, has no parameters, whatever its media type.
/// - The charset may be omitted or be UTF-8. A leading UTF-8 byte order mark is never part of the body (RFC
///   8259 §8.1).
///
/// A form that is, or was meant as, JSON is refused. `curl -d` sends a form unless a header says otherwise,
/// and the JSON text would become the name of a parameter.
///
/// Of `limits`, only [`json_depth`](ParameterLimits::json_depth) and
/// [`json_values`](ParameterLimits::json_values) apply here. The number of bytes is checked while the body
/// streams in; [`merge`](super::merge()) checks names and their number.
/// A number that cannot be kept is a problem that [`merge`](super::merge()) reports.
///
/// Fails with [`BodyError::Malformed`] when the body does not have the form that its media type demands, and
/// [`BodyError::UnsupportedMediaType`] for another media type or charset.
pub fn parse_body(
    content_type: Option<&str>,
    bytes: &[u8],
    limits: &ParameterLimits,
) -> Result<BodyParameters, BodyError> {
    BodyParameters::from_payload(parse_payload(content_type, bytes, limits, PayloadForms::default())?)
}

/// Checks that a body is not compressed or otherwise encoded (RFC 9110 §8.4).
///
/// `encoding` is the `Content-Encoding` header, in which commas separate several codings.
///
/// Fails with [`BodyError::UnsupportedContentEncoding`] for every coding but `identity`.
pub fn check_content_encoding(encoding: Option<&str>) -> Result<(), BodyError> {
    let mut codings = encoding.unwrap_or_default().split(',').map(str::trim);
    match codings.find(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity")) {
        Some(coding) => Err(BodyError::UnsupportedContentEncoding { coding: shortened(coding) }),
        None => Ok(()),
    }
}

/// Returns the kind of a JSON value, with its article.
fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "an object",
        Value::Array(_) => "an array",
        Value::String(_) => "a string",
        Value::Number(_) => "a number",
        Value::Bool(_) => "a boolean",
        Value::Null => "null",
    }
}

/// Parameters of a body: members of a JSON object, or pairs of a form.
///
/// `Debug` shows names only, since this type does not know which values are secret.
#[derive(Clone, Default, PartialEq)]
pub struct BodyParameters {
    pub(super) given: GivenBody,
}

#[derive(Clone, PartialEq)]
pub(super) enum GivenBody {
    Object {
        members: Map<String, Value>,
        /// Members with a number that JSON cannot keep as it was written.
        flawed: BTreeMap<String, NumberFlaw>,
    },
    Form(Pairs),
}

impl Default for GivenBody {
    fn default() -> Self {
        Self::Object { members: Map::new(), flawed: BTreeMap::new() }
    }
}

impl BodyParameters {
    /// Takes the members of a JSON object, for a run that no trigger call starts.
    pub fn from_object(members: Map<String, Value>) -> Self {
        Self { given: GivenBody::Object { members, flawed: BTreeMap::new() } }
    }

    /// Takes the members or pairs of a payload, which must be an object or a form.
    ///
    /// # Errors
    /// [`BodyError::Malformed`] for any other JSON value.
    pub fn from_payload(payload: Payload<'_>) -> Result<Self, BodyError> {
        let kind = match payload.content {
            Content::Empty => return Ok(Self::default()),
            Content::Form(pairs) => return Ok(Self { given: GivenBody::Form(pairs) }),
            Content::Json { value: Value::Object(members), text, has_doubles } => {
                let flawed = if has_doubles { flawed_members(&text) } else { BTreeMap::new() };
                return Ok(Self { given: GivenBody::Object { members, flawed } });
            }
            Content::Json { value, .. } => json_kind(&value),
        };
        Err(BodyError::Malformed {
            message: format!(
                "the body is JSON, but {kind}; an object is expected whose members are the parameters, such as \
                 {{\"region\": \"EMEA\"}}"
            ),
        })
    }

    /// Takes the members or pairs of a payload, or nothing from an array or scalar, of which a mapping takes what it needs.
    pub fn from_mapped(payload: Payload<'_>) -> Self {
        Self::from_payload(payload).unwrap_or_default()
    }

    /// Returns whether the body gives no parameters.
    pub fn is_empty(&self) -> bool {
        match &self.given {
            GivenBody::Object { members, .. } => members.is_empty(),
            GivenBody::Form(pairs) => pairs.is_empty(),
        }
    }

    fn names(&self) -> BTreeSet<&str> {
        match &self.given {
            GivenBody::Object { members, .. } => members.keys().map(String::as_str).collect(),
            GivenBody::Form(pairs) => pairs.iter().map(|(name, _)| name).collect(),
        }
    }
}

impl fmt::Debug for BodyParameters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BodyParameters")?;
        formatter.debug_list().entries(self.names().into_iter().map(shortened)).finish()
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
    fn a_byte_order_mark_in_front_is_no_part_of_the_body() {
        assert!(!parse(None, "\u{feff}{\"a\":1}").unwrap().is_empty());
        let names = |body: BodyParameters| body.names().into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names(parse(FORM, "\u{feff}region=APAC").unwrap()), ["region"]);
    }

    #[test]
    fn json_that_a_shell_took_the_quotes_from_says_so() {
        for body in ["'{message:test}'", "{message:test}", "\\'{a:1}\\'", "\u{201c}{\"a\":1}\u{201d}"] {
            assert!(message(None, body).contains("cmd.exe"), "{body}");
        }
        for body in [r#"{"a": tru}"#, "{\"a\":1,}", "a=1", "{", "NaN"] {
            assert!(!message(None, body).contains("cmd.exe"), "{body}");
        }
        let refused = parse_body(None, b"\xff\xfe{\0}\0", &ParameterLimits::default());
        assert!(format!("{refused:?}").contains("UTF-16"));
    }

    #[test]
    fn a_form_or_a_python_dictionary_that_is_sent_as_json_says_so() {
        for body in ["region=EMEA", "region=EMEA&rows=5", "\u{feff}a_b-c.d%20=1&e", "tags[]=1", " a=1"] {
            let message = message(Some("application/json"), body);
            assert!(message.contains("Content-Type: application/x-www-form-urlencoded"), "{body}: {message}");
        }
        for body in ["{'region': 'EMEA'}", "{ 'a': 1}"] {
            let message = message(None, body);
            assert!(message.contains("double quotes") && !message.contains("form"), "{body}: {message}");
        }
        for body in ["=1", "a", "{\"a\"=1}", "\"a\"=1", "NaN", "<a b=\"c\">", "{\"a\":'b=c'}"] {
            let message = message(None, body);
            assert!(!message.contains("form"), "{body}: {message}");
        }
        assert!(!message(None, "canary=canary").contains("canary"));
    }

    #[test]
    fn a_form_has_as_many_pairs_as_json_has_values() {
        let limits = ParameterLimits::default().with_json_values(3);
        assert!(parse_body(FORM, b"a&b&&a", &limits).is_ok());
        let refused = parse_body(FORM, b"a&a&a&a", &limits).unwrap_err();
        assert!(refused.to_string().contains("more than 3 pairs"), "{refused}");
        assert!(message(FORM, &"a&".repeat(500_000)).contains("more than 10000 pairs"));
    }

    #[test]
    fn only_a_body_that_is_sent_as_it_is_can_be_read() {
        for fine in [None, Some(""), Some("identity"), Some("Identity , identity,")] {
            assert_eq!(check_content_encoding(fine), Ok(()), "{fine:?}");
        }
        for other in ["gzip", "br", "identity, zstd", "deflate, identity", "x-gzip"] {
            let refused = check_content_encoding(Some(other)).unwrap_err();
            assert!(refused.to_string().contains("content coding"), "{refused}");
        }
    }

    #[test]
    fn a_form_is_decoded_like_a_query_but_token_is_an_ordinary_name() {
        let body = parse(FORM, "a=1+2&token=x&a=%33").unwrap();
        let GivenBody::Form(pairs) = &body.given else { panic!("{body:?}") };
        assert_eq!(pairs.iter().collect::<Vec<_>>(), [("a", "1 2"), ("token", "x"), ("a", "3")]);
        assert!(message(FORM, "a=%zz").contains("parameter number 1 (\"a\")"));
    }

    #[test]
    fn a_form_that_is_or_was_meant_as_json_says_which_header_or_quotes_are_missing() {
        let json = [r#"{"a":1}"#, " \n{}", "\u{feff}{}", "[1]", "\"a\"", "%7B%22a%22%3A+1%7D", "%5B1%5D="];
        let quoted =
            ["'{message:test}'", "{message:test}", "'a=1&b=2'", "\\'{a:1}\\'", "\u{2018}{\"a\":1}\u{2019}"];
        for body in json.into_iter().chain(quoted) {
            let message = message(FORM, body);
            assert!(message.contains("-H 'Content-Type: application/json'"), "{body}");
            assert_eq!(message.contains("cmd.exe"), quoted.contains(&body), "{body}: {message}");
        }
        for form in ["%7B=1", "%7Ba%7D=1", "a='1'", "a={}", "it's=1", "%27a=1", "(a)=1"] {
            assert!(parse(FORM, form).is_ok(), "{form}");
        }
    }

    #[test]
    fn debug_shows_names_and_no_values() {
        for body in [parse(None, r#"{"password":"canary"}"#), parse(FORM, "password=canary")] {
            let shown = format!("{body:?}");
            assert!(shown.contains("password") && !shown.contains("canary"), "{shown}");
        }
    }
}
