//! A call as its sender made it: the bytes that signatures cover, before anything is decoded.

use std::fmt;

/// A call as its sender made it. `Debug` shows the names of headers alone: URL, values and body may hold secrets.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct RawCall<'a> {
    /// The method in upper case, such as `POST`.
    pub method: &'a str,
    /// The URL as it was entered at the sender: the host's base URL with path and query of the call, token included.
    pub url: &'a str,
    /// Every header line, in the order sent.
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// The bytes of the body as they were sent; none for a GET, whose body is ignored.
    pub body: &'a [u8],
}

/// A header that may be given once was given several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeaderRepeated;

impl<'a> RawCall<'a> {
    /// Creates a call of these parts.
    #[must_use]
    pub fn new(method: &'a str, url: &'a str, headers: &'a [(&'a [u8], &'a [u8])], body: &'a [u8]) -> Self {
        Self { method, url, headers, body }
    }

    /// Returns the values of every header of this name in any case, without surrounding blanks.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.headers.iter().filter(move |(given, _)| given.eq_ignore_ascii_case(name.as_bytes()));
        named.map(|(_, value)| value.trim_ascii())
    }

    /// Returns the value of the one header of this name. An empty one counts as not given.
    pub(crate) fn single_header(&self, name: &str) -> Result<Option<&'a [u8]>, HeaderRepeated> {
        let mut values = self.headers(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(HeaderRepeated);
        }
        Ok(first.filter(|value| !value.is_empty()))
    }

    /// Returns the query as it stands in the URL, without the question mark.
    pub(crate) fn query(&self) -> &'a str {
        let url = self.url.split_once('#').map_or(self.url, |(url, _)| url);
        url.split_once('?').map_or("", |(_, query)| query)
    }
}

impl fmt::Debug for RawCall<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect();
        formatter
            .debug_struct("RawCall")
            .field("method", &self.method)
            .field("headers", &names)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_by_name_in_any_case_and_an_empty_one_is_not_given() {
        let headers: [(&[u8], &[u8]); 4] = [(b"X-A", b" 1 "), (b"x-b", b""), (b"x-c", b"1"), (b"X-C", b"1")];
        let call = RawCall::new("POST", "https://a.example/w?token=canary#x", &headers, b"canary");
        assert_eq!(call.single_header("x-a"), Ok(Some(&b"1"[..])));
        assert_eq!(call.single_header("X-B"), Ok(None));
        assert_eq!(call.single_header("X-c"), Err(HeaderRepeated));
        assert_eq!(call.query(), "token=canary");
        let shown = format!("{call:?}");
        assert!(shown.contains("x-b") && !shown.contains("canary"), "{shown}");
    }
}
