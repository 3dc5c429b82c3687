//! Parser of media types.

/// Media type, as given by a `Content-Type` header (RFC 9110 §8.3.1).
///
/// The `mime` crate refuses white space before a semicolon, which the RFC allows and some clients send. Hence
/// this parser.
///
/// ```
/// use webhook_core::parameters::MediaType;
///
/// let json = MediaType::parse("Application/CloudEvents+JSON; charset=utf-8").expect("a media type");
/// assert_eq!(json.essence(), "application/cloudevents+json");
/// assert!(json.is_json() && !json.is_form());
/// assert!(MediaType::parse("application/json garbage").is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType {
    essence: String,
    is_utf8: bool,
}

impl MediaType {
    /// Parses a `Content-Type`. Returns `None` if it is not a media type.
    pub fn parse(content_type: &str) -> Option<Self> {
        let (essence, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        let essence = trimmed(essence);
        let (main, sub) = essence.split_once('/')?;
        if !is_token(main) || !is_token(sub) {
            return None;
        }
        let parameters = header_parameters(parameters)?;
        let mut charsets = parameters.iter().filter(|(name, _)| name.eq_ignore_ascii_case("charset"));
        let is_utf8 = charsets
            .all(|(_, value)| value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8"));
        Some(Self { essence: essence.to_ascii_lowercase(), is_utf8 })
    }

    /// Returns type and subtype in lower case, without parameters, such as `application/json`.
    pub fn essence(&self) -> &str {
        &self.essence
    }

    /// Returns whether no other charset than UTF-8 is named.
    pub(super) fn is_utf8(&self) -> bool {
        self.is_utf8
    }

    /// Returns whether it is JSON in UTF-8: `application/json`, `text/json`, or any type with the suffix
    /// `+json`.
    pub fn is_json(&self) -> bool {
        let has_suffix = || {
            let sub = self.essence.split_once('/').map_or("", |(_, sub)| sub);
            sub.strip_suffix("+json").is_some_and(|name| !name.is_empty())
        };
        self.is_utf8 && (matches!(self.essence(), "application/json" | "text/json") || has_suffix())
    }

    /// Returns whether it is `application/x-www-form-urlencoded` in UTF-8.
    pub fn is_form(&self) -> bool {
        self.is_utf8 && self.essence == "application/x-www-form-urlencoded"
    }

    /// Returns whether it is `multipart/form-data` in UTF-8.
    pub fn is_multipart_form(&self) -> bool {
        self.is_utf8 && self.essence == "multipart/form-data"
    }
}

/// Returns names and values of the parameters of a header, which stand behind its first semicolon. `None` if one is
/// malformed. Escapes in quoted values are kept.
pub(super) fn header_parameters(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut parameters = Vec::new();
    let mut rest = trimmed(text);
    while !rest.is_empty() {
        let (parameter, behind) = next_parameter(rest)?;
        parameters.extend(parameter);
        rest = trimmed(behind);
    }
    Some(parameters)
}

/// Splits off the first parameter. An empty one, as in `;;`, is `None` in the pair (RFC 9110 §5.6.6).
fn next_parameter(text: &str) -> Option<(Option<(&str, &str)>, &str)> {
    if let Some(behind) = text.strip_prefix(';') {
        return Some((None, behind));
    }
    let (name, behind) = text.split_once('=')?;
    if !is_token(name) {
        return None;
    }
    let (value, behind) = match behind.strip_prefix('"') {
        Some(quoted) => split_quoted(quoted)?,
        None => {
            let end = behind.find([';', ' ', '\t']).unwrap_or(behind.len());
            let (value, behind) = behind.split_at(end);
            (is_token(value)).then_some((value, behind))?
        }
    };
    let behind = trimmed(behind);
    match behind.strip_prefix(';') {
        Some(behind) => Some((Some((name, value)), behind)),
        None => behind.is_empty().then_some((Some((name, value)), "")),
    }
}

/// Splits the inside of a quoted string from the text after its closing quote. Escapes are kept.
fn split_quoted(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (index, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some((&text[..index], &text[index + 1..])),
            _ if character.is_control() && character != '\t' => return None,
            _ => {}
        }
    }
    None
}

fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_read_by_the_grammar_of_http() {
        #[derive(Debug, PartialEq)]
        enum Read {
            Json,
            Form,
            Other,
        }
        use Read::{Form, Json, Other};
        let read = |content_type| {
            MediaType::parse(content_type).map(|media_type| match &media_type {
                json if json.is_json() => Json,
                form if form.is_form() => Form,
                _ => Other,
            })
        };
        let cases = [
            ("application/json", Some(Json)),
            ("Application/JSON", Some(Json)),
            ("application/json; charset=utf-8", Some(Json)),
            ("application/json;charset=\"UTF-8\"", Some(Json)),
            ("application/json ; charset=utf8 ;", Some(Json)),
            ("application/json;;\tversion=1; note=\"a;\\\"b\"", Some(Json)),
            ("application/vnd.api+json", Some(Json)),
            ("application/cloudevents+JSON; charset=UTF-8", Some(Json)),
            ("image/x+json", Some(Json)),
            ("application/a+b+json", Some(Json)),
            ("application/json; charset=latin1", Some(Other)),
            ("application/json; charset=utf-8; charset=utf-16", Some(Other)),
            ("application/+json", Some(Other)),
            ("application/json+xml", Some(Other)),
            ("application/jsonp", Some(Other)),
            ("text/json", Some(Json)),
            ("Text/JSON; charset=UTF-8", Some(Json)),
            ("text/json; charset=latin1", Some(Other)),
            ("raw/json", Some(Other)),
            ("text/plain", Some(Other)),
            ("multipart/form-data; boundary=x", Some(Other)),
            ("application/x-www-form-urlencoded", Some(Form)),
            ("application/x-www-form-urlencoded; charset=UTF-8", Some(Form)),
            ("application/x-www-form-urlencoded; charset=iso-8859-1", Some(Other)),
            ("", None),
            ("json", None),
            ("application/", None),
            ("/json", None),
            ("application/json charset=utf-8", None),
            ("application/json, text/plain", None),
            ("application/json; charset", None),
            ("application/json; charset=", None),
            ("application/json; charset =utf-8", None),
            ("application/json; charset=\"utf-8", None),
            ("application/json; charset=\"utf-8\"x", None),
            ("application/json; a=b c", None),
            ("application/jsön", None),
        ];
        for (content_type, expected) in cases {
            assert_eq!(read(content_type), expected, "{content_type}");
        }
    }
}
