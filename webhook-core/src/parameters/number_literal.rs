//! Numbers in JSON's grammar (RFC 8259 §6), before they become 64 bits or a double.

use std::collections::BTreeMap;

use serde_json::Number;

/// Text that has the grammar of a JSON number.
#[derive(Debug, Clone, Copy)]
pub(super) struct NumberLiteral<'a> {
    text: &'a str,
    whole: &'a str,
    fraction: Option<&'a str>,
    exponent: Option<&'a str>,
}

/// Reason why a number cannot be kept as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberFlaw {
    /// An integer below -2^63 or above 2^64-1, which would have to be rounded.
    BeyondIntegers,
    /// Too large for a double.
    TooLarge,
    /// Not zero, but zero as a double.
    Vanishes,
    /// Not whole, but whole as a double. A flaw only where an integer is expected.
    RoundedToWhole,
}

impl NumberFlaw {
    /// Returns a sentence about the value.
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::BeyondIntegers => "As an integer it does not fit 64 bits.",
            Self::TooLarge => "It is too large for a double.",
            Self::Vanishes => "It is too close to zero for a double.",
            Self::RoundedToWhole => "It is no whole number.",
        }
    }
}

impl<'a> NumberLiteral<'a> {
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (unsigned, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let exponent_digits = exponent.map(|text| text.strip_prefix(['+', '-']).unwrap_or(text));
        let fits = is_digits(whole)
            && (whole == "0" || !whole.starts_with('0'))
            && fraction.is_none_or(is_digits)
            && exponent_digits.is_none_or(is_digits);
        fits.then_some(Self { text, whole, fraction, exponent })
    }

    /// Returns the number: exact if it is an integer, otherwise the nearest double.
    pub(super) fn value(&self) -> Result<Number, NumberFlaw> {
        if self.is_integer() {
            return match (self.text.parse::<i64>(), self.text.parse::<u64>()) {
                (Ok(integer), _) => Ok(integer.into()),
                (_, Ok(integer)) => Ok(integer.into()),
                _ => Err(NumberFlaw::BeyondIntegers),
            };
        }
        let double: f64 = self.text.parse().map_err(|_| NumberFlaw::TooLarge)?;
        if double == 0.0 && !self.is_zero() {
            return Err(NumberFlaw::Vanishes);
        }
        Number::from_f64(double).ok_or(NumberFlaw::TooLarge)
    }

    /// Returns the flaw of the number as a JSON value, if it has one.
    fn flaw(&self) -> Option<NumberFlaw> {
        match self.value() {
            Err(flaw) => Some(flaw),
            Ok(number) => {
                let looks_whole = number.as_f64().is_some_and(|double| double.fract() == 0.0);
                (looks_whole && !self.is_whole()).then_some(NumberFlaw::RoundedToWhole)
            }
        }
    }

    fn is_integer(&self) -> bool {
        self.fraction.is_none() && self.exponent.is_none()
    }

    fn digits(&self) -> impl DoubleEndedIterator<Item = u8> {
        self.whole.bytes().chain(self.fraction.unwrap_or_default().bytes())
    }

    fn is_zero(&self) -> bool {
        self.digits().all(|digit| digit == b'0')
    }

    /// Returns whether the text denotes a whole number, whatever the nearest double is.
    fn is_whole(&self) -> bool {
        let exponent = self.exponent.unwrap_or("0");
        let saturated = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
        let exponent = exponent.parse().unwrap_or(saturated);
        let ending_zeros = self.digits().rev().take_while(|digit| *digit == b'0').count() as i64;
        let behind_the_point = self.fraction.unwrap_or_default().len() as i64;
        self.is_zero() || exponent + ending_zeros >= behind_the_point
    }
}

/// Finds the members of the outermost object that contain a flawed number at any depth, each with its worst
/// flaw.
///
/// [`RoundedToWhole`](NumberFlaw::RoundedToWhole) is reported only if the member itself is the number.
/// `text` must be valid JSON. serde_json reports a number as the double it became, so the text is scanned
/// again.
pub(super) fn flawed_members(text: &[u8]) -> BTreeMap<String, NumberFlaw> {
    let mut flawed = BTreeMap::new();
    visit_numbers(text, |member, depth, _, flaw| {
        let name = member.and_then(|quoted| serde_json::from_slice::<String>(quoted).ok());
        match (name, flaw) {
            (Some(name), NumberFlaw::RoundedToWhole) if depth == 1 => {
                flawed.entry(name).or_insert(flaw);
            }
            (_, NumberFlaw::RoundedToWhole) | (None, _) => {}
            (Some(name), _) => {
                flawed.insert(name, flaw);
            }
        }
    });
    flawed
}

/// Finds the first number of a valid JSON text that cannot be kept, with the offset of its first byte.
pub(super) fn first_flaw(text: &[u8]) -> Option<(usize, NumberFlaw)> {
    let mut first = None;
    visit_numbers(text, |_, _, place, flaw| {
        if flaw != NumberFlaw::RoundedToWhole {
            first.get_or_insert((place, flaw));
        }
    });
    first
}

/// Returns the worst flaw of the numbers in a valid JSON text.
///
/// [`RoundedToWhole`](NumberFlaw::RoundedToWhole) counts only where the text is that number itself.
pub(super) fn worst_flaw(text: &[u8]) -> Option<NumberFlaw> {
    let mut worst = None;
    visit_numbers(text, |_, depth, _, flaw| match flaw {
        NumberFlaw::RoundedToWhole if depth > 0 => {}
        NumberFlaw::RoundedToWhole => worst = worst.or(Some(flaw)),
        _ => worst = Some(flaw),
    });
    worst
}

/// Calls `visit` for every flawed number, with the quoted name of its member in the outermost object, its
/// depth, and the offset of its first byte.
fn visit_numbers(text: &[u8], mut visit: impl FnMut(Option<&[u8]>, usize, usize, NumberFlaw)) {
    let (mut place, mut depth, mut member) = (0, 0_usize, None);
    while let Some(byte) = text.get(place) {
        let end = match byte {
            b'"' => {
                let end = string_end(text, place);
                let is_name = text[end..].trim_ascii_start().starts_with(b":");
                if depth == 1 && is_name {
                    member = Some(&text[place..end]);
                }
                end
            }
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
                let end = place + text[place..].iter().take_while(|byte| is_part(byte)).count();
                let literal = std::str::from_utf8(&text[place..end]).ok().and_then(NumberLiteral::read);
                if let Some(flaw) = literal.and_then(|literal| literal.flaw()) {
                    visit(member, depth, place, flaw);
                }
                end
            }
            other => {
                match other {
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                place + 1
            }
        };
        place = end;
    }
}

/// Returns the offset after the string that begins at `start`.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut place = start + 1;
    while let Some(byte) = text.get(place) {
        match byte {
            b'"' => return place + 1,
            b'\\' => place += 2,
            _ => place += 1,
        }
    }
    text.len()
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flaws_are_found_at_any_depth_and_named_by_the_outermost_member() {
        let text = br#" { "a\u0062" : [1, {"x": 18446744073709551616}], "b": "99999999999999999999", "c": 1e20,
            "d": [-9223372036854775809], "e": {"f\"": 1e-400}, "g": 4503599627370497.4, "h": [4503599627370497.4],
            "i": 18446744073709551615, "j": -9223372036854775808, "k": 5.0, "l": 0e-999, "m": 50e-1 } "#;
        let found = flawed_members(text);
        let expected = [
            ("ab", NumberFlaw::BeyondIntegers),
            ("d", NumberFlaw::BeyondIntegers),
            ("e", NumberFlaw::Vanishes),
            ("g", NumberFlaw::RoundedToWhole),
        ];
        assert_eq!(found, expected.map(|(name, flaw)| (name.to_owned(), flaw)).into());
    }

    #[test]
    fn a_text_without_members_has_flaws_too() {
        assert_eq!(first_flaw(b"[1, 99999999999999999999]"), Some((4, NumberFlaw::BeyondIntegers)));
        assert_eq!(first_flaw(b"1e-999"), Some((0, NumberFlaw::Vanishes)));
        assert_eq!(first_flaw(br#"["99999999999999999999", 1.5, -0, 0.1]"#), None);
        assert!(flawed_members(b"[99999999999999999999]").is_empty());
    }

    #[test]
    fn whole_is_what_is_written_and_not_what_a_double_makes_of_it() {
        for (text, whole) in [
            ("5", true),
            ("5.0", true),
            ("5.5", false),
            ("4503599627370497.4", false),
            ("5.0000000000000000000001", false),
            ("50e-1", true),
            ("55e-1", false),
            ("1.5e1", true),
            ("1e-99999999999999999999", false),
            ("0e-99999999999999999999", true),
            ("1e99999999999999999999", true),
        ] {
            assert_eq!(NumberLiteral::read(text).unwrap().is_whole(), whole, "{text}");
        }
    }
}
