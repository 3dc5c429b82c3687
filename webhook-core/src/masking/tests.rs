use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::parameters::{EffectiveParameter, Source};

fn masker(secrets: &[&str]) -> Masker {
    Masker::new(secrets.iter().map(|secret| (*secret).to_owned()))
}

fn of(value: Value) -> Masker {
    let mut parameters = EffectiveParameters::new();
    parameters.insert("secret", EffectiveParameter::new(value, Source::Body).secret());
    parameters.insert("open", EffectiveParameter::new("visible", Source::Body));
    Masker::of(&parameters)
}

/// Returns what a stream shows of a text in these pieces.
fn streamed<'a>(masker: &Masker, pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut stream = masker.stream();
    let mut shown: Vec<u8> = pieces.into_iter().flat_map(|piece| stream.push(piece)).collect();
    shown.append(&mut stream.finish());
    assert!(stream.is_empty());
    String::from_utf8(shown).unwrap()
}

/// Cuts a text into pieces of these sizes, repeated in turn.
fn pieces_of<'a>(mut rest: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, more) = rest.split_at(rest.len().min(*size));
        pieces.push(piece);
        rest = more;
    }
    pieces
}

/// Escapes a text as ASCII JSON: with lower-case digits as Python does, or with capitals as others do.
fn ascii_json(text: &str, capitals: bool) -> String {
    let json = Value::from(text).to_string();
    let mut written = String::new();
    for character in json[1..json.len() - 1].chars() {
        if character.is_ascii() {
            written.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let escape = if capitals { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
                written.push_str(&escape);
            }
        }
    }
    written
}

#[test]
fn secret_values_are_masked_in_every_form_they_may_take() {
    let masker = of(json!("pass\"wörd/\u{1F6B2}\nline two"));
    for text in [
        "pass\"wörd/\u{1F6B2}\nline two",
        "{\"a\":\"pass\\\"wörd/\u{1F6B2}\\nline two\"}",
        r#"{"a":"pass\"w\u00f6rd\/\ud83d\udeb2\u000aline two"}"#,
        r#"{"a":"pass\"w\u00F6rd/\uD83D\uDEB2\nline two"}"#,
        r#"'pass"w\xf6rd/\U0001f6b2\nline two'"#,
        r#""pass\"w\u{f6}rd/\u{1F6B2}\nline two""#,
        "<b>pass&quot;w&#246;rd&#x2f;\u{1F6B2}\nline two</b>",
        r#"b'pass"w\xc3\xb6rd/\xf0\x9f\x9a\xb2\nline two'"#,
        r#"$'pass"w\303\266rd/\360\237\232\262\nline two'"#,
        "line two",
        "pass\"wörd/\u{1F6B2}",
    ] {
        let shown = masker.mask(text);
        assert!(!shown.contains("rd") && !shown.contains("two") && shown.contains(MASK), "{shown}");
    }
    assert_eq!(of(json!(987_654_321)).mask("pin 987654321."), "pin ***.");
    assert_eq!(of(json!({"key": ["hunter22", 1234]})).mask("hunter22! 1234"), "***! ***");
    assert_eq!(of(json!("  hunter22\n")).mask("hunter22!"), "***!");
}

#[test]
fn what_a_shell_quotes_is_masked() {
    let masker = masker(&[r"it's 'a' \x&b", "''x'"]);
    for text in [
        r"+ true 'it'\''s '\''a'\'' \x&b'",
        r#"+ true 'it'"'"'s '"'"'a'"'"' \x&b'"#,
        r"+ true ''\'''\''x'\'''",
        r"['\'\'x\'', '\'']",
    ] {
        let shown = masker.mask(text);
        assert!(shown.contains(MASK) && !shown.contains('x'), "{shown}");
    }
    for text in ["it's '", r"'\''", r#"''"'" '"'"#, r"'\"] {
        assert_eq!(masker.mask(text), text);
    }
}

#[test]
fn bytes_beyond_ascii_are_read_as_utf_8_or_each_as_a_character() {
    let masker = masker(&["señal-é", "kééu", "kéz1"]);
    for text in
        [r"se\xc3\xb1al-\xc3\xa9", r"se\303\261al-\303\251", r"se\xf1al-\xe9", r"k\xe9\xe9u", r"k\xe9\x7a1"]
    {
        for (before, after) in
            [("", ""), ("'", "'"), (r"\xc3", r"\xc3"), (r"\303", r"\30"), (r"\x", r"\xff"), ("3", "\\")]
        {
            assert_eq!(masker.mask(format!("{before}{text}{after}")), format!("{before}***{after}"));
        }
    }
    for text in [
        r"\xc3",
        r"\303\2",
        r"\377\377 \399 \3",
        r"\xf0\x9f\x98",
        r"\xe0\x80\x80 \xc3(",
        r"a\xc3\xb1al-\xc3\xa9",
    ] {
        assert_eq!(masker.mask(text), text);
    }
}

#[test]
fn what_urls_and_forms_make_of_a_secret_is_masked() {
    let masker = masker(&["p@ss/w%rd & +é%41"]);
    for text in [
        "https://example.com/p%40ss%2Fw%25rd%20%26%20%2B%C3%A9%2541?x",
        "https://example.com/p%40ss%2fw%25rd%20%26%20%2b%c3%a9%2541?x",
        "https://example.com/p@ss/w%25rd%20&%20+%C3%A9%2541?x",
        "https://example.com/p@ss/w%rd%20&%20+%C3%A9%41?x",
        "https://example.com/p%40ss%2Fw%25rd+%26+%2B%C3%A9%2541?x",
        "https://example.com/p%2540ss%252Fw%2525rd%2520%2526%2520%252B%25C3%25A9%252541?x",
        r"https://example.com/p%40ss\/w%25rd%20\u0026%20%2B%C3%A9%2541?x",
        "https://example.com/p@ss/w%25rd%20&amp;%20+%C3%A9%2541?x",
    ] {
        assert_eq!(masker.mask(text), "https://example.com/***?x", "{text}");
    }
    for text in [
        "?filter=%7B%22word%22%3A%22p%5C%22%5Cu00e4%5C%5Css%22%7D",
        "?filter={%22word%22:%22p\\%22%C3%A4\\\\ss%22}",
        "?filter=%257B%2522word%2522%253A%2522p%255C%2522%255Cu00E4%255C%255Css%2522%257D",
    ] {
        let shown = super::tests::masker(&["p\"ä\\ss"]).mask(text);
        assert!(shown.contains("2***%2") && !shown.contains("ss"), "JSON in a URL: {shown}");
    }
    let text = "100%, 5% of %41 and %zz, a+b, %2";
    assert_eq!(masker.mask(text), text);
}

#[test]
fn an_encoded_secret_is_held_back_and_endless_percent_signs_are_not() {
    let mut stream = masker(&["p@ss word"]).stream();
    assert_eq!(stream.push(b"a=p%4"), b"a=");
    assert_eq!(stream.push(b"0ss+wo"), b"");
    assert_eq!(stream.push(b"r%"), b"");
    assert_eq!(stream.push(b"64&b=p%40s"), b"***&b=");
    assert_eq!(stream.cut(), b"***");
    for piece in ["%", "%25", "%4", "p%", "p%4"] {
        let text = piece.repeat(10_000);
        assert!(stream.push(text.as_bytes()).len() > text.len() - 100, "{piece}");
        assert!(stream.finish().len() < 100, "{piece}");
    }
}

#[test]
fn what_is_not_secret_or_very_short_stays() {
    assert_eq!(of(json!("abc")).mask("abc visible"), "abc visible");
    assert!(of(json!(null)).is_empty());
    let text = r"no \escape, \u00e, &amp &; \ud83d and & at the end \";
    assert_eq!(masker(&["secret"]).mask(text), text);
}

#[test]
fn secrets_that_overlap_are_hidden_together() {
    let masker = masker(&["pass", "password", "word-1"]);
    assert_eq!(masker.mask("a password-1, a pass"), "a ***, a ***");
    assert_eq!(super::tests::masker(&["abcabcab"]).mask("xabcabcabcabcaby"), "x***y");
}

#[test]
fn of_very_many_lines_the_longest_are_masked_alone_and_all_together() {
    let text: String =
        (0..3 * LINES).map(|line| format!("line {line:06}\n")).chain(["a long line\n".repeat(9)]).collect();
    let masker = masker(&[&text]);
    assert_eq!(masker.mask(format!("<{}>", text.trim())), "<***>");
    assert_eq!(masker.mask("line 000007"), MASK);
    assert!(masker.0.unwrap().texts.len() <= LINES + 2);
}

#[test]
fn a_stream_holds_back_only_what_may_become_a_secret() {
    let mut stream = masker(&["canary-5f1c2a"]).stream();
    assert_eq!(stream.push(b"a line\n"), b"a line\n");
    assert_eq!(stream.push(b"the can"), b"the ");
    assert_eq!(stream.push(b"dle\n"), b"candle\n");
    assert_eq!(stream.push(b"canary-5f1c"), b"");
    assert_eq!(stream.push(b"2a, can"), b"***, ");
    assert_eq!(stream.finish(), b"can");
    assert_eq!(stream.push(b"ary-5f1c2a"), b"ary-5f1c2a", "another text");
}

#[test]
fn a_text_whose_rest_is_lost_shows_no_beginning_of_a_secret() {
    let masker = masker(&["canary-5f1c2a", "päck-chen"]);
    for (text, shown) in [
        ("x canary-5f1c2", "x ***"),
        ("x can", "x can"),
        ("x p\\u00e4ck", "x ***"),
        ("x canary-5f1c2a", "x ***"),
    ] {
        let mut stream = masker.stream();
        let mut all = stream.push(text.as_bytes());
        all.append(&mut stream.cut());
        assert_eq!(String::from_utf8(all).unwrap(), shown);
    }
}

#[test]
fn a_secret_longer_than_any_piece_is_masked() {
    let secret: String = (0..40_000).map(|number| format!("{number:05}")).collect();
    let masker = masker(&[&secret]);
    let text = format!("before {secret} after");
    assert_eq!(streamed(&masker, text.as_bytes().chunks(64 * 1024)), "before *** after");
}

#[test]
fn debug_shows_no_secret() {
    let masker = masker(&["canary-5f1c2a"]);
    let mut stream = masker.stream();
    assert!(stream.push(b"canary-5f").is_empty());
    assert_eq!(format!("{masker:?} {stream:?}"), "Masker(***) MaskingStream(***)");
}

proptest! {
    #[test]
    fn a_stream_shows_the_same_wherever_its_pieces_end(
        secrets in prop::collection::vec("[ab\"é\\\\%4+ ]{4,8}", 1..4),
        text in "[ab\"é\\\\&u0e9;%42+ ]{0,60}",
        pieces in prop::collection::vec(1..9_usize, 1..40),
    ) {
        let masker = Masker::new(secrets.clone());
        let text = format!("{text}{}{text}", secrets[0]);
        let shown = streamed(&masker, pieces_of(text.as_bytes(), &pieces));
        prop_assert_eq!(&shown, &masker.mask(text));
        for secret in &secrets {
            prop_assert!(!shown.contains(secret.as_str()), "{} in {}", secret, shown);
        }
    }

    #[test]
    fn a_secret_is_masked_whichever_of_its_bytes_are_percent_encoded_and_how_often(
        secret in prop_oneof![any::<String>(), "[%0-9a-f+ ü\\\\&]{4,12}"],
        kinds in prop::collection::vec(0..5_u8, 1..20),
        pieces in prop::collection::vec(1..9_usize, 1..9),
    ) {
        let read = percents::read(secret.as_bytes());
        prop_assume!(secret.chars().count() >= SHORTEST && read.len() >= SHORTEST && !read.contains(&b'|'));
        let mut text = vec![b'|'];
        for (byte, kind) in secret.bytes().zip(kinds.iter().cycle()) {
            match kind {
                0 if byte == b' ' => text.push(b'+'),
                0 | 1 => text.push(byte),
                2 => text.extend(format!("%{byte:02X}").bytes()),
                3 => text.extend(format!("%{byte:02x}").bytes()),
                _ => text.extend(format!("%25{byte:02x}").bytes()),
            }
        }
        text.push(b'|');
        let masker = Masker::new([secret]);
        prop_assert_eq!(streamed(&masker, pieces_of(&text, &pieces)), "|***|");
    }

    #[test]
    fn what_json_writes_of_a_secret_is_masked(
        secret in any::<String>().prop_filter("long", |text| text.chars().count() >= 4),
        before in "[a-z \\\\]{0,3}",
    ) {
        let masker = Masker::new([secret.clone()]);
        let json = Value::from(secret.as_str()).to_string();
        let inner = json[1..json.len() - 1].to_owned();
        for written in [inner, ascii_json(&secret, false), ascii_json(&secret, true)] {
            let before = before.trim_end_matches('\\');
            let shown = masker.mask(format!("{before}\"{written}\""));
            prop_assert!(!shown.contains(&written) || MASK.contains(&written), "{}", shown);
        }
    }
}
