//! The text that Twilio signs.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use url::form_urlencoded;

use super::key::decode;
use super::outcome::Refusal;
use super::rule::Encoding;
use crate::parameters::MediaType;
use crate::raw_call::RawCall;

/// The query parameter with the hash of a body that is no form.
const BODY_HASH: &str = "bodySHA256";

/// Returns every text of which a signature is accepted.
///
/// With a form it is the URL and the fields behind it. Any other body is covered by its hash in the URL. The URL may
/// name the standard port or not, as Twilio's own libraries allow.
pub(super) fn signed_texts(call: &RawCall<'_>) -> Result<Vec<Vec<u8>>, Refusal> {
    let fields = if is_form(call)? { sorted_fields(call.body) } else { check_body_hash(call)? };
    let url = call.url.split_once('#').map_or(call.url, |(url, _)| url);
    let spellings = std::iter::once(url.to_owned()).chain(with_other_port(url));
    Ok(spellings.map(|url| [url.as_bytes(), &fields].concat()).collect())
}

fn is_form(call: &RawCall<'_>) -> Result<bool, Refusal> {
    let header = "Content-Type";
    let value =
        call.single_header(header).map_err(|_| Refusal::HeaderRepeated { header: header.to_owned() })?;
    let media_type = value.and_then(|value| std::str::from_utf8(value).ok()).and_then(MediaType::parse);
    Ok(media_type.is_some_and(|media_type| media_type.is_form()))
}

/// Returns name and value of each field, ordered by name and then by value, each pair once.
fn sorted_fields(form: &[u8]) -> Vec<u8> {
    let mut fields: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(form) {
        fields.entry(name).or_default().insert(value);
    }
    let pairs = fields.iter().flat_map(|(name, values)| values.iter().map(move |value| [name, value]));
    pairs.flatten().flat_map(|text| text.bytes()).collect()
}

/// Compares a body with the hash in the URL, which is signed. Nothing follows the URL then.
fn check_body_hash(call: &RawCall<'_>) -> Result<Vec<u8>, Refusal> {
    let mut hashes = form_urlencoded::parse(call.query().as_bytes()).filter(|(name, _)| name == BODY_HASH);
    let hash = match (hashes.next(), hashes.next()) {
        (None, _) if call.body.is_empty() => return Ok(Vec::new()),
        (Some((_, hash)), None) => decode(Encoding::Hex, hash.as_bytes()),
        _ => None,
    };
    let expected = Sha256::digest(call.body);
    match hash {
        Some(hash) if bool::from(hash.ct_eq(expected.as_slice())) => Ok(Vec::new()),
        _ => Err(Refusal::Mismatch),
    }
}

/// Returns the URL with the standard port if it has none, and without a port if it has the standard one.
fn with_other_port(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let has_port =
        host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    match host.strip_suffix(port) {
        Some(host) => Some(format!("{scheme}://{host}{path}")),
        None if has_port => None,
        None => Some(format!("{scheme}://{host}{port}{path}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_with_and_without_its_standard_port() {
        for (url, other) in [
            ("https://a.example/w?x=1", Some("https://a.example:443/w?x=1")),
            ("https://a.example:443/w", Some("https://a.example/w")),
            ("http://a.example:80?x=1", Some("http://a.example?x=1")),
            ("http://[::1]/w", Some("http://[::1]:80/w")),
            ("https://a.example:8443/w", None),
            ("ftp://a.example/w", None),
            ("a", None),
        ] {
            assert_eq!(with_other_port(url).as_deref(), other, "{url}");
        }
    }

    #[test]
    fn fields_are_sorted_by_their_bytes_and_repeated_pairs_count_once() {
        assert_eq!(
            sorted_fields(b"b=2&a=%C3%BC+x&b=1&b=2&B=&"),
            "aü xb1b2".replacen('a', "Ba", 1).as_bytes()
        );
    }
}
