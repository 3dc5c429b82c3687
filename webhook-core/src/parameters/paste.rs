//! The paste accident: a web page turns `&region=` into `®ion=`.

use super::problem::shortened;

/// Characters that HTML makes of a named reference without a semicolon, each with the name.
///
/// HTML knows about a hundred such names. Accented letters are omitted: they are far more often ordinary text
/// before a word than this accident.
const REFERENCES: &[(char, &str)] = &[
    ('"', "quot"),
    ('<', "lt"),
    ('>', "gt"),
    ('\u{a0}', "nbsp"),
    ('¡', "iexcl"),
    ('¢', "cent"),
    ('£', "pound"),
    ('¤', "curren"),
    ('¥', "yen"),
    ('¦', "brvbar"),
    ('§', "sect"),
    ('¨', "uml"),
    ('©', "copy"),
    ('ª', "ordf"),
    ('«', "laquo"),
    ('¬', "not"),
    ('\u{ad}', "shy"),
    ('®', "reg"),
    ('¯', "macr"),
    ('°', "deg"),
    ('±', "plusmn"),
    ('²', "sup2"),
    ('³', "sup3"),
    ('´', "acute"),
    ('µ', "micro"),
    ('¶', "para"),
    ('·', "middot"),
    ('¸', "cedil"),
    ('¹', "sup1"),
    ('º', "ordm"),
    ('»', "raquo"),
    ('¼', "frac14"),
    ('½', "frac12"),
    ('¾', "frac34"),
    ('¿', "iquest"),
    ('×', "times"),
    ('÷', "divide"),
    ('Ð', "ETH"),
    ('ð', "eth"),
    ('Þ', "THORN"),
    ('þ', "thorn"),
    ('ß', "szlig"),
];

/// Returns a sentence for the problem message if `text` looks like the paste accident.
pub(super) fn paste_hint(text: &str) -> Option<String> {
    text.char_indices().find_map(|(index, character)| {
        let (_, reference) = REFERENCES.iter().find(|(candidate, _)| *candidate == character)?;
        let behind = &text[index + character.len_utf8()..];
        let word_end = behind.find(|next: char| !(next.is_ascii_alphanumeric() || "_-.".contains(next)))?;
        if !behind[word_end..].starts_with('=') {
            return None;
        }
        let word = shortened(&behind[..word_end]);
        let (changed, original) = (format!("{character}{word}="), format!("&{reference}{word}="));
        Some(format!("It holds \"{changed}\", which looks like \"{original}\" that a web page changed."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoded_reference_in_front_of_a_word_and_an_equals_sign_is_recognised() {
        for (text, changed, original) in [
            ("2026-01-01®ion=EMEA", "®ion=", "&region="),
            ("5©=2", "©=", "&copy="),
            ("5¶ms=2", "¶ms=", "&params="),
            ("5§ion=2", "§ion=", "&section="),
            ("5¤cy=EUR", "¤cy=", "&currency="),
            ("5×tamp=2", "×tamp=", "&timestamp="),
            ("5¬ify=2", "¬ify=", "&notify="),
            ("5°ree=2", "°ree=", "&degree="),
            ("5µservice=2", "µservice=", "&microservice="),
            ("5¢er=2", "¢er=", "&center="),
            ("5¯o=2", "¯o=", "&macro="),
            ("5ðnicity=2", "ðnicity=", "&ethnicity="),
            ("5>e=2", ">e=", "&gte="),
            ("5® 6®ion=2", "®ion=", "&region="),
        ] {
            let hint = paste_hint(text).unwrap();
            assert!(hint.contains(changed) && hint.contains(original), "{hint}");
        }
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in ["", "®", "®ion", "ACME® a=b", "région=5", "a=b", "20°C", "x < y"] {
            assert_eq!(paste_hint(text), None, "{text}");
        }
    }

    #[test]
    fn a_token_behind_the_accident_is_masked() {
        assert!(!paste_hint("5®whk_canary=1").unwrap().contains("canary"));
    }
}
