//! The headers in which proxies note the addresses that called them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::raw_call::RawCall;

/// Most hops that are read, from the right.
const HOPS: usize = 64;

/// Returns the `for` of every hop in the `Forwarded` headers (RFC 7239 section 4), from left to right; `None` for one that is
/// unknown, hidden or malformed.
pub(super) fn forwarded_for(call: &RawCall<'_>) -> Vec<Option<IpAddr>> {
    let lines: Vec<_> = call.headers("Forwarded").collect();
    // A quote that is never closed takes in what follows, so such a line counts as one hop that tells nothing.
    let hops = lines.into_iter().flat_map(|line| match split(line, b',') {
        Some(elements) => elements.into_iter().map(read_element).collect(),
        None => vec![None],
    });
    last(hops.collect())
}

/// Returns every address in the `X-Forwarded-For` headers, from left to right.
pub(super) fn x_forwarded_for(call: &RawCall<'_>) -> Vec<Option<IpAddr>> {
    let lines: Vec<_> = call.headers("X-Forwarded-For").collect();
    let hops = lines.into_iter().flat_map(|line| line.split(|byte| *byte == b','));
    last(hops.map(|hop| std::str::from_utf8(hop).ok().and_then(|text| read_address(text.trim()))).collect())
}

fn last(mut hops: Vec<Option<IpAddr>>) -> Vec<Option<IpAddr>> {
    hops.split_off(hops.len().saturating_sub(HOPS))
}

/// Returns the `for` of one element. An element that has it twice tells nothing.
fn read_element(element: &[u8]) -> Option<IpAddr> {
    let mut found = split(element, b';')?.into_iter().filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&pair[..equals], &pair[equals + 1..]);
        name.trim_ascii().eq_ignore_ascii_case(b"for").then_some(value)
    });
    let value = found.next().filter(|_| found.next().is_none())?;
    read_address(without_hidden_port(&unquote(value.trim_ascii())?))
}

/// Drops a port that is hidden behind a name of its own, such as `_gazonk` (RFC 7239 section 6.2).
fn without_hidden_port(node: &str) -> &str {
    let is_name = |port: &str| {
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    node.rsplit_once(":_").filter(|(_, port)| is_name(port)).map_or(node, |(host, _)| host)
}

/// Splits at a separator that stands in no quoted text. `None` when a quote is not closed.
fn split(text: &[u8], separator: u8) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (place, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            byte if *byte == separator && !quoted => {
                parts.push(&text[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!quoted).then_some(parts)
}

fn unquote(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let Some(inner) = text.strip_prefix('"') else { return Some(text.to_owned()) };
    let inner = inner.strip_suffix('"')?;
    let mut unquoted = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        unquoted.push(if character == '\\' { characters.next()? } else { character });
    }
    Some(unquoted)
}

/// Parses an address with or without a port, and IPv6 with or without brackets.
fn read_address(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<Ipv6Addr>().ok().map(IpAddr::from)
    };
    address.or_else(with_port).or_else(in_brackets).map(|address| address.to_canonical())
}
