//! JSON Pointer (RFC 6901): the path to a value in a JSON text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::problem::excerpt;

/// Most bytes of a pointer.
const POINTER_BYTES: usize = 512;
/// Most names of an object that a message lists.
const LISTED_NAMES: usize = 8;

/// A path to a value in a JSON text (RFC 6901), such as `/repository/full_name`. The empty one is the whole text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pointer(String);

impl Pointer {
    /// Returns the text of the pointer.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the value that the pointer leads to.
    #[must_use]
    pub fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        value.pointer(&self.0)
    }

    /// Returns the names and indexes on the path, decoded.
    pub(super) fn tokens(&self) -> impl Iterator<Item = String> {
        self.0.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~"))
    }

    /// Says where the path ends too early in `value`, and what is there instead. `None` when it leads to a value.
    ///
    /// ```
    /// use serde_json::json;
    /// use webhook_core::parameters::Pointer;
    ///
    /// let pointer: Pointer = "/repository/fullname".parse()?;
    /// let sample = json!({"repository": {"full_name": "acme/sales", "id": 1}});
    /// let missing = pointer.missing_in(&sample).unwrap_or_default();
    /// assert_eq!(missing, "\"/repository\" has no \"fullname\"; it has \"full_name\" and \"id\"");
    /// # Ok::<(), webhook_core::parameters::InvalidPointer>(())
    /// ```
    #[must_use]
    pub fn missing_in(&self, value: &Value) -> Option<String> {
        let mut reached = value;
        let mut path = String::new();
        for (encoded, token) in self.0.split('/').skip(1).zip(self.tokens()) {
            let next = match reached {
                Value::Object(members) => members.get(&token),
                // An index as the standard writes it, without leading zeros.
                Value::Array(_) => reached.pointer(&format!("/{encoded}")),
                _ => None,
            };
            match next {
                Some(next) => reached = next,
                None => return Some(missing(&path, &token, reached)),
            }
            path.push('/');
            path.push_str(encoded);
        }
        None
    }
}

fn missing(path: &str, token: &str, reached: &Value) -> String {
    let place = if path.is_empty() { "the body".to_owned() } else { excerpt(path) };
    let token = excerpt(token);
    match reached {
        Value::Object(members) if members.is_empty() => {
            format!("{place} has no {token}; it is an empty object")
        }
        Value::Object(members) => {
            let mut names: Vec<_> = members.keys().take(LISTED_NAMES).map(|name| excerpt(name)).collect();
            let more = members.len().saturating_sub(LISTED_NAMES);
            let last = if more > 0 { Some(format!("{more} more")) } else { names.pop() };
            let listed = match (names.is_empty(), last) {
                (true, last) => last.unwrap_or_default(),
                (false, last) => format!("{} and {}", names.join(", "), last.unwrap_or_default()),
            };
            format!("{place} has no {token}; it has {listed}")
        }
        Value::Array(items) => {
            format!("{place} is an array of {} items and has no item {token}", items.len())
        }
        _ => format!("{place} is neither an object nor an array, so it has no {token}"),
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Pointer {
    type Err = InvalidPointer;

    fn from_str(text: &str) -> Result<Self, InvalidPointer> {
        let mut after_tilde = text.split('~').skip(1);
        if text.len() > POINTER_BYTES {
            Err(InvalidPointer::TooLong)
        } else if !text.is_empty() && !text.starts_with('/') {
            Err(InvalidPointer::NoSlash)
        } else if after_tilde.any(|rest| !rest.starts_with(['0', '1'])) {
            Err(InvalidPointer::Escape)
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Pointer {
    type Error = InvalidPointer;
    fn try_from(text: String) -> Result<Self, InvalidPointer> {
        text.parse()
    }
}

impl From<Pointer> for String {
    fn from(pointer: Pointer) -> String {
        pointer.0
    }
}

/// The reason why a text is no JSON Pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPointer {
    /// It does not begin with a slash.
    #[error("a JSON Pointer begins with a slash, such as /repository/full_name")]
    NoSlash,
    /// A tilde is followed by something else than 0 or 1.
    #[error("in a JSON Pointer ~ is written ~0, and / in a name ~1")]
    Escape,
    /// It is too long.
    #[error("a JSON Pointer of at most {POINTER_BYTES} bytes is expected")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_examples_of_the_standard_lead_where_it_says() {
        // RFC 6901 section 5.
        let document = json!({
            "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7,
            "m~n": 8,
        });
        let found = |text: &str| text.parse::<Pointer>().unwrap().find(&document).cloned();
        assert_eq!(found(""), Some(document.clone()));
        assert_eq!(found("/foo"), Some(json!(["bar", "baz"])));
        assert_eq!(found("/foo/0"), Some(json!("bar")));
        for (index, text) in
            ["/", "/a~1b", "/c%d", "/e^f", "/g|h", "/i\\j", "/k\"l", "/ ", "/m~0n"].iter().enumerate()
        {
            assert_eq!(found(text), Some(json!(index)), "{text}");
        }
        for text in ["/foo/2", "/foo/00", "/foo/-", "/foo/bar", "/x", "//"] {
            assert_eq!(found(text), None, "{text}");
            assert!(text.parse::<Pointer>().unwrap().missing_in(&document).is_some(), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_pointer_is_refused() {
        for bad in ["foo", "#/foo", "/a~", "/a~2", "/~~0", " /a"] {
            assert!(bad.parse::<Pointer>().is_err(), "{bad}");
        }
        assert_eq!("/a".repeat(257).parse::<Pointer>(), Err(InvalidPointer::TooLong));
        assert!(serde_json::from_value::<Pointer>(json!("foo")).is_err());
    }

    #[test]
    fn what_is_missing_is_said_with_what_is_there() {
        let sample = json!({"a": {"b": [1, 2]}, "c": "text", "many": (0..20).map(|n| (n.to_string(), n)).collect::<std::collections::BTreeMap<_, _>>(), "e": {}});
        let missing = |text: &str| text.parse::<Pointer>().unwrap().missing_in(&sample).unwrap();
        assert_eq!(missing("/x"), r#"the body has no "x"; it has "a", "c", "e" and "many""#);
        assert_eq!(missing("/a/b/2"), r#""/a/b" is an array of 2 items and has no item "2""#);
        assert_eq!(missing("/c/d"), r#""/c" is neither an object nor an array, so it has no "d""#);
        assert!(missing("/many/x").ends_with(r#""15" and 12 more"#), "{}", missing("/many/x"));
        assert_eq!(missing("/e/x"), r#""/e" has no "x"; it is an empty object"#);
    }

    proptest! {
        #[test]
        fn a_pointer_made_of_any_names_leads_through_them(names in prop::collection::vec("[/~ab0é\"]{0,3}", 0..5)) {
            let value = names.iter().rev().fold(json!("found"), |inner, name| json!({name.as_str(): inner}));
            let text: String =
                names.iter().map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1"))).collect();
            let pointer: Pointer = text.parse().unwrap();
            prop_assert_eq!(pointer.find(&value), Some(&json!("found")));
            prop_assert_eq!(pointer.tokens().collect::<Vec<_>>(), names);
            prop_assert_eq!(pointer.missing_in(&value), None);
        }

        #[test]
        fn finding_and_missing_never_agree(text in "(/[ab0-2~]{0,2}){0,4}", value in "[\\[\\]{}\"ab:,0-2]{0,20}") {
            if let (Ok(pointer), Ok(value)) = (text.parse::<Pointer>(), serde_json::from_str::<Value>(&value)) {
                prop_assert_eq!(pointer.find(&value).is_none(), pointer.missing_in(&value).is_some());
            }
        }
    }
}
