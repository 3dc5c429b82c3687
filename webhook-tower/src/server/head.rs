//! Requests that HTTP requires to be refused, and that no service sees.

use http::header::{HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{Request, StatusCode, Version};

/// Returns the status and reason of a refusal; `None` if the request is valid.
pub(super) fn refusal<B>(request: &Request<B>) -> Option<(StatusCode, &'static str)> {
    if request.uri().path().is_empty() {
        return Some((StatusCode::BAD_REQUEST, "the request target has no path"));
    }
    if !has_fitting_host(request.version(), request.headers()) {
        let detail = "a request has exactly one Host, which is a name or an address with or without a port";
        return Some((StatusCode::BAD_REQUEST, detail));
    }
    let is_chunked = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    if !request.headers().get_all(TRANSFER_ENCODING).iter().all(is_chunked) {
        return Some((StatusCode::NOT_IMPLEMENTED, "no Transfer-Encoding but chunked is understood"));
    }
    None
}

/// Checks `Host` by RFC 9112 section 3.2. It may be empty, and before HTTP/1.1 be missing.
fn has_fitting_host(version: Version, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => version < Version::HTTP_11,
        (Some(host), None) => is_host(host),
        (Some(_), Some(_)) => false,
    }
}

fn is_host(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    if text.is_empty() {
        return true;
    }
    let Ok(authority) = text.parse::<Authority>() else { return false };
    let port = text.strip_prefix(authority.host()).unwrap_or(text);
    let digits = port.strip_prefix(':').unwrap_or_default();
    let is_port = port.is_empty() || port.starts_with(':');
    !text.contains('@') && is_port && digits.bytes().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: http::request::Builder) -> Option<u16> {
        refusal(&request.body(()).unwrap()).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn a_target_needs_a_path() {
        let to = |target: &str| status(Request::builder().uri(target).header("host", "a"));
        for target in ["x:80", "localhost", "127.0.0.1:8080"] {
            assert_eq!(to(target), Some(400), "{target}");
        }
        for target in ["/", "*", "/?x", "http://a", "http://a?x", "http://a/b"] {
            assert_eq!(to(target), None, "{target}");
        }
    }

    #[test]
    fn there_is_exactly_one_host_and_it_is_one() {
        let with = |hosts: &[&str], version| {
            let request = Request::builder().uri("/").version(version);
            status(hosts.iter().fold(request, |request, host| request.header("host", *host)))
        };
        for host in ["a", "a.example:80", "127.0.0.1:8080", "[::1]", "[::1]:80", "", "a:"] {
            assert_eq!(with(&[host], Version::HTTP_11), None, "{host}");
        }
        for host in ["a b", "a/b", "u@a", "a:b", "a:80:80", "a b/@", "http://a", "a,b c"] {
            assert_eq!(with(&[host], Version::HTTP_11), Some(400), "{host}");
        }
        assert_eq!(with(&[], Version::HTTP_11), Some(400));
        assert_eq!(with(&[], Version::HTTP_10), None);
        assert_eq!(with(&["a", "a"], Version::HTTP_11), Some(400));
        assert_eq!(with(&["a", "a"], Version::HTTP_10), Some(400));
    }

    #[test]
    fn what_is_coded_otherwise_than_in_chunks_is_not_understood() {
        let coded = |coding: &str| {
            status(Request::builder().uri("/").header("host", "a").header("transfer-encoding", coding))
        };
        assert_eq!(coded("chunked"), None);
        assert_eq!(coded(" Chunked "), None);
        for coding in ["gzip, chunked", "gzip", "chunked, chunked", "identity"] {
            assert_eq!(coded(coding), Some(501), "{coding}");
        }
    }
}
