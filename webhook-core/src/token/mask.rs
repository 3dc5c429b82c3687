//! Masks tokens within other text, since senders repeat the URL that they call.

use std::borrow::Cow;
use std::ops::Range;

use zeroize::Zeroizing;

use super::{LENGTH, PREFIX, has_checksum};

/// Replacement for a token that is found in other text.
pub const MASKED_TOKEN: &str = "whk_***";

/// Upper bound on nested escapes that are decoded, such as `%25255F` or `\\\\u005f`.
const ESCAPES: usize = 8;

/// Replaces every token in `text` by `whk_***`.
///
/// A token is any text of its form with a valid checksum, so every token of any webhook is found.
/// Its characters may be percent-encoded (`whk%5F…`) or escaped as in JSON (`whk\u005f…`), even several
/// times. Masking twice equals masking once.
///
/// ```
/// use webhook_core::token::{Token, mask_tokens};
///
/// let token = Token::generate();
/// let url = format!("https://example.com/webhook?token={}&x=1", token.expose());
/// assert_eq!(mask_tokens(&url), "https://example.com/webhook?token=whk_***&x=1");
/// assert_eq!(mask_tokens(&url.replace('_', "%5F")), "https://example.com/webhook?token=whk_***&x=1");
/// assert_eq!(mask_tokens("whk_ and no token"), "whk_ and no token");
/// ```
#[must_use]
pub fn mask_tokens(text: &str) -> Cow<'_, str> {
    let tokens = token_ranges(text.as_bytes());
    if tokens.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut copied = 0;
    for token in tokens {
        masked.push_str(&text[copied..token.start]);
        masked.push_str(MASKED_TOKEN);
        copied = token.end;
    }
    masked.push_str(&text[copied..]);
    Cow::Owned(masked)
}

/// Returns the offset at which a token seems to begin in `text`, even if no whole token follows.
pub(crate) fn token_start(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    starts(bytes).find(|start| {
        let mut place = *start;
        PREFIX.bytes().all(|expected| match character(bytes, place) {
            Some((found, end)) if found == expected => {
                place = end;
                true
            }
            _ => false,
        })
    })
}

/// Returns the ranges of all tokens. Two overlapping tokens are one range, so masking leaves no part of
/// either.
fn token_ranges(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for start in starts(bytes) {
        let Some(end) = token_end(bytes, start) else { continue };
        match found.last_mut() {
            Some(last) if start < last.end => last.end = last.end.max(end),
            _ => found.push(start..end),
        }
    }
    found
}

/// Returns the offsets at which the first character of a token may begin, in any of its spellings.
fn starts(bytes: &[u8]) -> impl Iterator<Item = usize> {
    memchr::memchr3_iter(PREFIX.as_bytes()[0], b'%', b'\\', bytes)
}

/// Returns the end of the token that begins at `start`, if there is one.
fn token_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut token = Zeroizing::new([0; LENGTH]);
    let mut place = start;
    for (index, slot) in token.iter_mut().enumerate() {
        let (found, end) = character(bytes, place)?;
        let fits = match PREFIX.as_bytes().get(index) {
            Some(expected) => found == *expected,
            None => found.is_ascii_alphanumeric(),
        };
        if !fits {
            return None;
        }
        (*slot, place) = (found, end);
    }
    has_checksum(&token).then_some(place)
}

/// Reads one ASCII character, plain or escaped, and returns it with the offset after it.
fn character(bytes: &[u8], place: usize) -> Option<(u8, usize)> {
    match *bytes.get(place)? {
        b'%' => {
            let mut digits = place + 1;
            for _ in 0..ESCAPES {
                if bytes.get(digits..digits + 2)? != b"25" {
                    break;
                }
                digits += 2;
            }
            let code = hexadecimal(bytes.get(digits..digits + 2)?)?;
            Some((u8::try_from(code).ok().filter(u8::is_ascii)?, digits + 2))
        }
        b'\\' => {
            let backslashes = bytes[place..].iter().take(ESCAPES).take_while(|byte| **byte == b'\\').count();
            let digits = bytes.get(place + backslashes..)?.strip_prefix(b"u")?.get(..4)?;
            let code = hexadecimal(digits)?;
            Some((u8::try_from(code).ok().filter(u8::is_ascii)?, place + backslashes + 5))
        }
        plain => plain.is_ascii().then_some((plain, place + 1)),
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Token;
    use super::*;

    /// Spells a token in one of the ways that senders do.
    fn spelled(token: &str, way: u8) -> String {
        let each = |spell: fn(u32) -> String| token.chars().map(|c| spell(u32::from(c))).collect::<String>();
        match way {
            0 => token.to_owned(),
            1 => token.replace('_', "%5F"),
            2 => token.replace('_', "%25255f"),
            3 => token.replace('_', "\\u005f"),
            4 => token.replace('_', "\\\\\\u005F"),
            5 => each(|code| format!("%{code:02x}")),
            _ => each(|code| format!("\\u{code:04x}")),
        }
    }

    #[test]
    fn a_token_is_found_in_every_spelling_and_wherever_it_stands() {
        let token = Token::generate();
        for way in 0..=6 {
            let text = format!("é{}é", spelled(token.expose(), way));
            assert_eq!(mask_tokens(&text), "éwhk_***é", "{text}");
            assert_eq!(mask_tokens(&text.repeat(2)), "éwhk_***ééwhk_***é", "{text}");
        }
        let inside = format!("awhk_{}b", token.expose());
        assert_eq!(mask_tokens(&inside), "awhk_whk_***b");
    }

    #[test]
    fn what_has_not_the_form_of_a_token_is_left_alone() {
        let mut changed = Token::generate().expose().to_owned();
        let last = if changed.ends_with('0') { "1" } else { "0" };
        changed.replace_range(52.., last);
        for text in
            [changed.as_str(), "", "whk_", "%", "%2", "%25", "\\", "\\u", "\\u00", "%%%%", "whk%5", "wwwé"]
        {
            assert!(matches!(mask_tokens(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn two_tokens_that_overlap_are_masked_together() {
        // The second begins with the last three digits of the first.
        let first = (0_u32..).find_map(|number| {
            let body = format!("whk_{number:043}");
            let mut digits = String::new();
            super::super::push_base62(&mut digits, &crc32fast::hash(body.as_bytes()).to_be_bytes(), 6);
            digits.ends_with("whk").then(|| body + &digits)
        });
        let first = first.unwrap();
        let second = Token::generate();
        let both = format!("{first}{}", &second.expose()[3..]);
        assert_eq!(mask_tokens(&both), MASKED_TOKEN);
    }

    #[test]
    fn a_long_text_of_escapes_is_read_in_linear_time() {
        for unit in ["%25", "\\", "whk_", "%", "w", "%2525"] {
            let text = unit.repeat(1_000_000 / unit.len());
            assert_eq!(mask_tokens(&text), text);
        }
    }

    proptest! {
        #[test]
        fn masking_hides_every_token_and_masking_again_changes_nothing(
            parts in prop::collection::vec(("[w%\\\\u25_hka0é]{0,6}", 0..=6_u8), 0..4),
        ) {
            let token = Token::generate();
            let text: String =
                parts.iter().map(|(before, way)| format!("{before}{}", spelled(token.expose(), *way))).collect();
            let masked = mask_tokens(&text).into_owned();
            prop_assert!(!masked.contains(&token.expose()[10..40]), "{}", masked);
            prop_assert_eq!(mask_tokens(&masked), masked.as_str());
        }

        #[test]
        fn any_text_can_be_masked(text in "([whk_%\\\\u0-9a-fé]|\\PC){0,80}") {
            let masked = mask_tokens(&text).into_owned();
            prop_assert_eq!(mask_tokens(&masked), masked.as_str());
        }
    }
}
