//! Decodes a query and a form body into name-value pairs.

use std::fmt;

use zeroize::Zeroizing;

use super::problem::{excerpt, shortened};

/// The one reserved query name. Its value is the secret of the call.
pub(super) const TOKEN: &str = "token";

/// Decodes the query of a trigger call, the text after the `?`, and separates the tokens from it.
///
/// The rules are those of `application/x-www-form-urlencoded`, without leniency:
///
/// - `+` is a space, `%` must be followed by two hexadecimal digits, and the decoded bytes must be UTF-8.
/// - `flag` is a parameter with an empty value. Empty pairs, as in `a=1&&b=2`, are skipped.
///
/// The caller first checks the length of the query
/// ([`ParameterLimits::query_bytes`](super::ParameterLimits::query_bytes)).
///
/// # Errors
///
/// A malformed escape or malformed UTF-8. The error never repeats a value, which might be the token.
///
/// ```
/// use webhook_core::parameters::parse_query;
///
/// let parsed = parse_query("token=whk_example&region=EMEA&note=a+b%21")?;
/// assert_eq!(parsed.tokens[0].as_str(), "whk_example");
/// let pairs: Vec<_> = parsed.parameters.iter().collect();
/// assert_eq!(pairs, [("region", "EMEA"), ("note", "a b!")]);
///
/// let error = parse_query("region=%zz").unwrap_err();
/// assert!(error.to_string().contains("\"region\""));
/// # Ok::<(), webhook_core::parameters::MalformedQuery>(())
/// ```
pub fn parse_query(raw: &str) -> Result<ParsedQuery, MalformedQuery> {
    let mut parsed = ParsedQuery::default();
    decode_pairs(raw.as_bytes(), |name, value| {
        if name == TOKEN {
            parsed.tokens.push(Zeroizing::new(value.to_owned()));
        } else {
            parsed.parameters.pairs.push(name, value);
        }
        true
    })?;
    Ok(parsed)
}

/// Decoded query, with the tokens separate from the parameters.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParsedQuery {
    /// Values of every name that decodes to exactly `token`, in the order sent. Their memory is wiped on
    /// drop.
    pub tokens: Vec<Zeroizing<String>>,
    /// All other pairs.
    pub parameters: QueryParameters,
}

impl fmt::Debug for ParsedQuery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ParsedQuery")
            .field("tokens", &format_args!("{} redacted", self.tokens.len()))
            .field("parameters", &self.parameters)
            .finish()
    }
}

/// Decoded pairs of a query, in the order sent, without `token`.
///
/// `Debug` shows names only, since this type does not know which values are secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct QueryParameters {
    pairs: Pairs,
}

impl QueryParameters {
    /// Creates a query of decoded pairs.
    pub(crate) fn from_pairs(pairs: &[(String, String)]) -> Self {
        let mut query = Self::default();
        for (name, value) in pairs {
            query.pairs.push(name, value);
        }
        query
    }

    /// Iterates over the pairs of name and value, in the order sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter()
    }

    /// Returns the number of pairs; a repeated name counts each time.
    pub fn len(&self) -> usize {
        self.pairs.bounds.len()
    }

    /// Returns whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.pairs.bounds.is_empty()
    }

    /// Returns bytes that are equal for two queries exactly when the queries mean the same.
    ///
    /// They hold the pairs ordered by name, and the values of a repeated name in the order sent.
    /// Each name and value is preceded by its length (eight bytes, big-endian), so two different queries
    /// never share their bytes.
    /// They are part of the fingerprint that binds an idempotency key to its request.
    pub fn canonical(&self) -> Vec<u8> {
        let mut sorted: Vec<_> = self.iter().collect();
        sorted.sort_by_key(|(name, _)| *name);
        let mut bytes = Vec::with_capacity(self.pairs.text.len() + 16 * sorted.len());
        for text in sorted.into_iter().flat_map(|(name, value)| [name, value]) {
            bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }
}

impl fmt::Debug for QueryParameters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("QueryParameters")?;
        formatter.debug_list().entries(self.iter().map(|(name, _)| shortened(name))).finish()
    }
}

/// Error for a query that cannot be decoded.
///
/// It identifies the parameter by its position in the query, and by its name if the name could be decoded. It
/// holds no part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MalformedQuery {
    place: usize,
    name: Option<String>,
    flaw: Flaw,
}

impl MalformedQuery {
    /// Returns the position of the malformed parameter in the query, from 1.
    pub fn place(&self) -> usize {
        self.place
    }

    /// Returns the decoded name of the parameter whose value is malformed, shortened if it is long. `None` if
    /// the name itself is malformed.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

impl fmt::Display for MalformedQuery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => {
                write!(formatter, "the value of parameter number {} ({})", self.place, excerpt(name))?;
            }
            None => write!(formatter, "the name of parameter number {}", self.place)?,
        }
        formatter.write_str(match self.flaw {
            Flaw::Escape => {
                " has a % that is not followed by two hexadecimal digits; a percent sign itself is written %25"
            }
            Flaw::Utf8 => " is not UTF-8 once its % escapes are decoded",
        })
    }
}

impl std::error::Error for MalformedQuery {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    Escape,
    Utf8,
}

/// Names and values side by side in one text.
///
/// A body of 1 MiB can hold half a million pairs. Two allocations for each would multiply the memory that one
/// caller can make the process hold.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Pairs {
    text: String,
    bounds: Vec<Bounds>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Bounds {
    name_end: usize,
    value_end: usize,
}

impl Pairs {
    pub(super) fn push(&mut self, name: &str, value: &str) {
        self.text.push_str(name);
        let name_end = self.text.len();
        self.text.push_str(value);
        self.bounds.push(Bounds { name_end, value_end: self.text.len() });
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.bounds.iter().map(move |bounds| {
            let pair = (&self.text[start..bounds.name_end], &self.text[bounds.name_end..bounds.value_end]);
            start = bounds.value_end;
            pair
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bounds.is_empty()
    }
}

impl QueryParameters {
    pub(super) fn pairs(&self) -> &Pairs {
        &self.pairs
    }
}

/// Decodes a form body of at most `limit` pairs. No name is reserved in it.
pub(super) fn parse_form(raw: &[u8], limit: usize) -> Result<Pairs, MalformedForm> {
    let mut pairs = Pairs::default();
    let mut fits = true;
    decode_pairs(raw, |name, value| {
        fits = pairs.bounds.len() < limit;
        if fits {
            pairs.push(name, value);
        }
        fits
    })
    .map_err(MalformedForm::Pair)?;
    if fits { Ok(pairs) } else { Err(MalformedForm::TooMany { limit }) }
}

/// Error for a form that cannot be decoded.
pub(super) enum MalformedForm {
    /// A pair cannot be decoded.
    Pair(MalformedQuery),
    /// The form has more than `limit` pairs.
    TooMany { limit: usize },
}

/// Returns a name or value with its escapes decoded, or `None` if it cannot be decoded.
pub(super) fn decoded_text(encoded: &[u8]) -> Option<String> {
    decode(encoded, &mut Vec::new()).ok().map(str::to_owned)
}

/// Passes each pair to `give`, until `give` returns false.
fn decode_pairs(raw: &[u8], mut give: impl FnMut(&str, &str) -> bool) -> Result<(), MalformedQuery> {
    let pairs = || raw.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    // One of the values may be the token. A buffer that never grows leaves no copy behind that is not wiped.
    let longest = pairs().map(<[u8]>::len).max().unwrap_or_default();
    let buffer = || Zeroizing::new(Vec::with_capacity(longest));
    let (mut name_bytes, mut value_bytes) = (buffer(), buffer());
    for (index, pair) in pairs().enumerate() {
        let place = index + 1;
        let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(equals) => (&pair[..equals], &pair[equals + 1..]),
            None => (pair, &[][..]),
        };
        let name =
            decode(name, &mut name_bytes).map_err(|flaw| MalformedQuery { place, name: None, flaw })?;
        let value = decode(value, &mut value_bytes).map_err(|flaw| MalformedQuery {
            place,
            name: Some(shortened(name)),
            flaw,
        })?;
        if !give(name, value) {
            break;
        }
    }
    Ok(())
}

/// Decodes one name or value. Returns it as it is if there is nothing to decode, otherwise a view of
/// `decoded`.
///
/// The memory of `decoded` is reused for the next name or value.
fn decode<'a>(encoded: &'a [u8], decoded: &'a mut Vec<u8>) -> Result<&'a str, Flaw> {
    if !encoded.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return std::str::from_utf8(encoded).map_err(|_| Flaw::Utf8);
    }
    decoded.clear();
    let mut rest = encoded;
    while let [first, behind @ ..] = rest {
        rest = behind;
        decoded.push(match first {
            b'+' => b' ',
            b'%' => {
                let [high, low, behind @ ..] = rest else { return Err(Flaw::Escape) };
                rest = behind;
                hexadecimal(*high)? << 4 | hexadecimal(*low)?
            }
            other => *other,
        });
    }
    std::str::from_utf8(decoded).map_err(|_| Flaw::Utf8)
}

fn hexadecimal(digit: u8) -> Result<u8, Flaw> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(Flaw::Escape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(raw: &str) -> Vec<(String, String)> {
        let parsed = parse_query(raw).unwrap();
        parsed.parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn a_query_is_decoded_into_pairs_in_the_order_sent() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("", &[]),
            ("&&", &[]),
            ("a=1&b=2&a=3", &[("a", "1"), ("b", "2"), ("a", "3")]),
            ("&a=1&&b=2&", &[("a", "1"), ("b", "2")]),
            ("flag", &[("flag", "")]),
            ("flag=", &[("flag", "")]),
            ("a=b=c", &[("a", "b=c")]),
            ("=1", &[("", "1")]),
            ("a+b=c+d", &[("a b", "c d")]),
            ("a=%2B%26%3d%25", &[("a", "+&=%")]),
            ("a=%C3%A9é", &[("a", "éé")]),
            ("a=%00;b=2", &[("a", "\0;b=2")]),
        ];
        for (raw, expected) in cases {
            let expected: Vec<_> =
                expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!(pairs(raw), expected, "{raw}");
        }
    }

    #[test]
    fn every_spelling_of_the_name_token_is_taken_out() {
        let parsed = parse_query("token=a&x=1&tok%65n=b+c&token&Token=d&token%20=e").unwrap();
        let tokens: Vec<_> = parsed.tokens.iter().map(|token| token.as_str()).collect();
        assert_eq!(tokens, ["a", "b c", ""]);
        let left: Vec<_> = parsed.parameters.iter().collect();
        assert_eq!(left, [("x", "1"), ("Token", "d"), ("token ", "e")]);
    }

    #[test]
    fn a_malformed_escape_or_utf8_names_the_parameter_and_not_the_value() {
        let cases = [
            ("a=1&region=canary%", "the value of parameter number 2 (\"region\") has a %"),
            ("region=canary%4", "the value of parameter number 1 (\"region\") has a %"),
            ("region=canary%+4", "the value of parameter number 1 (\"region\") has a %"),
            ("region=canary%zz", "the value of parameter number 1 (\"region\") has a %"),
            ("region=canary%FF", "the value of parameter number 1 (\"region\") is not UTF-8"),
            ("region=canary%ED%A0%80", "the value of parameter number 1 (\"region\") is not UTF-8"),
            ("&&canary%zz=1", "the name of parameter number 1 has a %"),
            ("canary%FF", "the name of parameter number 1 is not UTF-8"),
            ("token=canary%FF", "the value of parameter number 1 (\"token\") is not UTF-8"),
            ("token%3Dwhk_canary=%", "the value of parameter number 1 (\"token=whk_***\") has a %"),
        ];
        for (raw, expected) in cases {
            let error = parse_query(raw).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{raw}: {error}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{raw}: {error:?}");
        }
    }

    #[test]
    fn a_long_name_in_an_error_is_cut() {
        let error = parse_query(&format!("{}=%", "n".repeat(5000))).unwrap_err();
        assert_eq!(error.name().map(str::len), Some(64));
        assert_eq!(error.place(), 1);
    }

    #[test]
    fn debug_shows_names_and_neither_values_nor_tokens() {
        let parsed = parse_query("token=whk_canary&password=canary&whk_canary=1").unwrap();
        let shown = format!("{parsed:?}");
        assert!(shown.contains("password") && shown.contains("1 redacted"), "{shown}");
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn canonical_bytes_ignore_the_order_of_names_the_spelling_and_the_token() {
        let canonical = |raw| parse_query(raw).unwrap().parameters.canonical();
        assert_eq!(canonical("a=1&b=2"), canonical("b=%32&token=x&a=1"));
        assert_eq!(canonical("a=1&b=x&a=2"), canonical("b=x&a=1&a=2"));
        for (one, other) in [
            ("a=1&a=2", "a=2&a=1"),
            ("a=1", "a=1&a=1"),
            ("ab=c", "a=bc"),
            ("a=1%26b%3D2", "a=1&b=2"),
            ("", "="),
        ] {
            assert_ne!(canonical(one), canonical(other), "{one} {other}");
        }
    }
}
