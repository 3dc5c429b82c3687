//! Refuses management requests that pages of other sites cause, or that come through a DNS name rebound to
//! this server.
//!
//! A browser adds cookies, client certificates and its place in the network to any request that a page asks
//! it to send.
//! It also states the origin of the request: in `Sec-Fetch-Site` (Fetch Metadata), in `Origin` (RFC 6454) and
//! in `Host`. Programs other than browsers send neither of the first two and are not affected.

use http::{HeaderMap, HeaderName, Method, header, uri::Authority};
use webhook_core::Webhooks;

use crate::access::gate::AdminAccess;
use crate::contract::problem::Problem;
use crate::contract::slug::Slug;
use crate::request::head::RequestHead;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses a request to a management path that another site may have caused.
pub(crate) fn check(webhooks: &Webhooks, access: &AdminAccess, head: &RequestHead) -> Result<(), Problem> {
    if matches!(access, AdminAccess::Open) && !names_this_service(webhooks, &head.headers) {
        let base = base_origin(webhooks);
        return Err(refused(format!("the Host header must name the server of {base}, or one it allows")));
    }
    if matches!(head.method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let is_own = |value: &http::HeaderValue| value == "same-origin" || value == "none";
    if !head.headers.get_all(FETCH_SITE).iter().all(is_own) {
        return Err(refused("a page of another site caused this request (Sec-Fetch-Site)".to_owned()));
    }
    let mut origins = head.headers.get_all(header::ORIGIN).iter();
    if !origins.all(|origin| is_allowed_origin(webhooks, origin.as_bytes())) {
        let base = base_origin(webhooks);
        return Err(refused(format!(
            "the Origin of this request is another one than {base}; open the panel there"
        )));
    }
    Ok(())
}

fn refused(detail: String) -> Problem {
    Problem::new(Slug::CrossSiteRefused).with_detail(detail)
}

fn base_origin(webhooks: &Webhooks) -> String {
    webhooks.base_url().origin().ascii_serialization()
}

fn is_allowed_origin(webhooks: &Webhooks, origin: &[u8]) -> bool {
    // All of them are http or https, so none is written as `null`.
    let allowed = |url: &url::Url| url.origin().ascii_serialization();
    webhooks.origins().any(|url| allowed(url).as_bytes().eq_ignore_ascii_case(origin))
}

/// Returns whether there is exactly one `Host`, and it is that of the base URL or of an allowed origin.
fn names_this_service(webhooks: &Webhooks, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().filter(|_| hosts.next().is_none());
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    authority.is_some_and(|authority| webhooks.origins().any(|url| is_host_of(url, &authority)))
}

/// Compares host and port. A `Host` without a port has the default port of the URL's scheme.
fn is_host_of(url: &url::Url, authority: &Authority) -> bool {
    let host = authority.host();
    let port = match authority.as_str().strip_prefix(host) {
        Some("") => match url.scheme() {
            "https" => Some(443),
            _ => Some(80),
        },
        Some(rest) => rest.strip_prefix(':').and_then(|port| port.parse().ok()),
        // A user name stands before it, which no client sends.
        None => None,
    };
    port.is_some()
        && port == url.port_or_known_default()
        && url.host_str().is_some_and(|known| known.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use webhook_core::memory::MemoryStore;
    use webhook_testing::ScriptedExecutor;

    use super::*;

    async fn service(base: &str, allowed: Option<&str>) -> Webhooks {
        let builder = Webhooks::builder().store(MemoryStore::new()).executor(ScriptedExecutor::new([]));
        let builder = builder.base_url(base.parse().unwrap());
        let allow = |origin: &str| origin.parse().unwrap();
        let builder =
            allowed.into_iter().fold(builder, |builder, origin| builder.allow_origin(allow(origin)));
        builder.build().await.unwrap()
    }

    fn head(method: Method, pairs: &[(&'static str, &str)]) -> RequestHead {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        RequestHead::new(method, "", headers)
    }

    fn token() -> AdminAccess {
        AdminAccess::token(&"t".repeat(32)).unwrap()
    }

    #[tokio::test]
    async fn a_changing_request_of_another_site_is_refused_under_any_access() {
        let webhooks = service("https://app.example.com/hooks", None).await;
        let host = ("host", "app.example.com");
        let refused: [&[_]; 9] = [
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
            &[("origin", "http://app.example.com")],
            &[("origin", "https://app.example.com:8443")],
            &[("origin", "https://app.example.com.evil.example")],
            &[("origin", "https://app.example.com"), ("origin", "https://evil.example")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site"), ("origin", "https://app.example.com")],
            &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
        ];
        let taken: [&[_]; 5] = [
            &[],
            &[("origin", "https://app.example.com")],
            &[("origin", "HTTPS://APP.example.com")],
            &[("sec-fetch-site", "same-origin"), ("origin", "https://app.example.com")],
            &[("sec-fetch-site", "none")],
        ];
        for access in [token(), AdminAccess::Open] {
            for method in [Method::POST, Method::PATCH, Method::DELETE, Method::PUT] {
                let outcome = |pairs: &[_]| {
                    check(&webhooks, &access, &head(method.clone(), &[pairs, &[host]].concat()))
                };
                for pairs in refused {
                    let Err(problem) = outcome(pairs) else { panic!("{method} {pairs:?}") };
                    assert_eq!(problem.slug(), Slug::CrossSiteRefused);
                }
                for pairs in taken {
                    assert!(outcome(pairs).is_ok(), "{method} {pairs:?}");
                }
            }
            for method in [Method::GET, Method::HEAD] {
                let pairs = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), host];
                assert!(check(&webhooks, &access, &head(method, &pairs)).is_ok());
            }
        }
    }

    #[tokio::test]
    async fn open_access_needs_a_host_of_this_service_for_reading_too() {
        let webhooks = service("https://app.example.com/hooks", Some("http://panel.internal:8443")).await;
        let outcome = |access: &AdminAccess, hosts: &[&str]| {
            let pairs: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            [Method::GET, Method::POST].map(|method| check(&webhooks, access, &head(method, &pairs)).is_ok())
        };
        for host in ["app.example.com", "APP.example.com", "app.example.com:443", "panel.internal:8443"] {
            assert_eq!(outcome(&AdminAccess::Open, &[host]), [true; 2], "{host}");
        }
        let wrong: [&[&str]; 9] = [
            &[],
            &["evil.example"],
            &["app.example.com:80"],
            &["app.example.com.evil.example"],
            &["x@app.example.com"],
            &["panel.internal"],
            &["app.example.com", "app.example.com"],
            &["app.example.com:"],
            &["app.example.com/"],
        ];
        for hosts in wrong {
            assert_eq!(outcome(&AdminAccess::Open, hosts), [false; 2], "{hosts:?}");
            assert_eq!(outcome(&token(), hosts), [true; 2], "a token cannot be rebound: {hosts:?}");
        }
    }

    #[tokio::test]
    async fn pages_of_an_allowed_origin_may_change_things() {
        let webhooks = service("https://app.example.com", Some("http://[::1]:8080/panel")).await;
        let pairs = [("origin", "http://[::1]:8080"), ("host", "[::1]:8080")];
        assert!(check(&webhooks, &AdminAccess::Open, &head(Method::POST, &pairs)).is_ok());
        let other = [("origin", "http://[::1]:8081"), ("host", "[::1]:8080")];
        assert!(check(&webhooks, &AdminAccess::Open, &head(Method::POST, &other)).is_err());
    }
}
