//! The signed text of a scheme, such as `{timestamp}.{body}`.

/// A part of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Text that stands for itself.
    Literal(&'a str),
    /// A part of the call.
    Place(Place),
}

/// A part of a call that a sender signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The time of the call, as the sender wrote it.
    Timestamp,
    /// The id of the event.
    Id,
    /// The bytes of the body.
    Body,
    /// The URL that is called.
    Url,
}

const PLACES: [(&str, Place); 4] =
    [("{timestamp}", Place::Timestamp), ("{id}", Place::Id), ("{body}", Place::Body), ("{url}", Place::Url)];

/// Splits a template into its parts. Braces that name no place stand for themselves.
pub(super) fn parts(template: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut literal = 0;
    let mut at = 0;
    while at < template.len() {
        let found = PLACES.into_iter().find(|(name, _)| template[at..].starts_with(name));
        match found {
            Some((name, place)) => {
                if literal < at {
                    parts.push(Part::Literal(&template[literal..at]));
                }
                parts.push(Part::Place(place));
                at += name.len();
                literal = at;
            }
            None => at += template[at..].chars().next().map_or(1, char::len_utf8),
        }
    }
    if literal < at {
        parts.push(Part::Literal(&template[literal..]));
    }
    parts
}

/// Returns the name in braces of the first place that does not exist.
pub(super) fn unknown_place(template: &str) -> Option<&str> {
    let literals = parts(template).into_iter().filter_map(|part| match part {
        Part::Literal(text) => Some(text),
        Part::Place(_) => None,
    });
    literals.into_iter().find_map(|text| {
        let start = text.find('{')?;
        let end = start + text[start..].find('}')?;
        let name = &text[start + 1..end];
        name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_').then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_split_into_literals_and_places() {
        let expected = [
            Part::Literal("v0:"),
            Part::Place(Place::Timestamp),
            Part::Literal(":"),
            Part::Place(Place::Body),
            Part::Place(Place::Url),
            Part::Literal("é{"),
        ];
        assert_eq!(parts("v0:{timestamp}:{body}{url}é{"), expected);
        assert_eq!(parts("{id}"), [Part::Place(Place::Id)]);
        assert_eq!(parts(""), []);
    }

    #[test]
    fn a_place_that_does_not_exist_is_named() {
        assert_eq!(unknown_place("{body}.{time}"), Some("time"));
        assert_eq!(unknown_place("{body}{}"), Some(""));
        assert_eq!(unknown_place("{\"a\":{body}"), None);
        assert_eq!(unknown_place("{timestamp}.{id}.{body}.{url}"), None);
    }
}
