//! The panel: which paths it has, and their answers.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, header};
use webhook_http::{Asset, ResponseBody};

use crate::files::{ARTIFACT, FILES, HTML, PAGE};
use crate::options::PanelOptions;

/// Mark of a page that asks for the admin token.
const SIGN_IN: &str = "data-sign-in=\"token\"";
/// Mark of a page whose host has checked access already.
const NO_SIGN_IN: &str = "data-sign-in=\"none\"";

/// Policy of the page: scripts, styles and requests of its own server, and nothing else from anywhere. No text may become
/// markup or script.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; \
     trusted-types 'none'";

/// Policy of the frame that shows one artifact. It has an origin of its own and reaches only its own files.
///
/// Its script puts the artifact into a further frame, without scripts. That frame inherits this policy and adds one that
/// forbids those files, so only styles and images within the artifact are left.
const ARTIFACT_POLICY: &str = "sandbox allow-scripts; default-src 'none'; script-src 'self'; \
     style-src 'self' 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// Clients that may load an answer into a page (Fetch standard, section 3.7).
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// Pages that share a browsing context group with a page (HTML standard, section 7.1.3).
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// The panel, ready to be served. It holds no secret and needs none.
#[derive(Debug, Clone)]
pub struct Panel {
    page: Asset,
    moved: Asset,
    files: Vec<(&'static str, Asset)>,
}

impl Panel {
    /// Creates the panel with these options.
    #[must_use]
    pub fn new(options: &PanelOptions) -> Self {
        let page = if options.without_sign_in { PAGE.replace(SIGN_IN, NO_SIGN_IN) } else { PAGE.to_owned() };
        let policy = format!("{PAGE_POLICY}; frame-ancestors {}", options.ancestors(None));
        // The panel itself shows the artifact's frame, and every page above is an ancestor of it too.
        let artifact = format!("{ARTIFACT_POLICY}; frame-ancestors {}", options.ancestors(Some("'self'")));
        let alone = |asset: Asset| asset.with_header(OPENER_POLICY, HeaderValue::from_static("same-origin"));
        let file = |(name, content_type, content): (&'static str, _, &'static str)| {
            let policy = if name == ARTIFACT { &artifact } else { "default-src 'none'" };
            let asset = with_policy(Asset::new(content, content_type), policy);
            // The artifact's frame has an origin of its own, and these files hold no secret.
            let for_all = HeaderValue::from_static("cross-origin");
            (name, asset.with_header(RESOURCE_POLICY, for_all))
        };
        Self {
            page: alone(with_policy(Asset::new(page, HTML), &policy)),
            moved: alone(Asset::moved_to("../panel")),
            files: FILES.into_iter().map(file).collect(),
        }
    }

    /// Returns the response to a request, or `None` if `path` is neither `/panel` nor a file below `/panel/`.
    ///
    /// `path` is relative to where the host mounted the contract, and the management paths must be mounted at the
    /// same place.
    #[must_use]
    pub fn handle(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<http::Response<ResponseBody>> {
        let below = path.strip_prefix("/panel")?;
        let asset = match below.strip_prefix('/') {
            None if below.is_empty() => &self.page,
            None => return None,
            // The page's own addresses would be wrong below it.
            Some("") => &self.moved,
            Some(name) => &self.files.iter().find(|(known, _)| *known == name)?.1,
        };
        Some(asset.answer(method, headers))
    }
}

/// Adds a policy, which holds no characters that a header cannot have: origins are checked.
fn with_policy(asset: Asset, policy: &str) -> Asset {
    match HeaderValue::from_str(policy) {
        Ok(policy) => asset.with_header(header::CONTENT_SECURITY_POLICY, policy),
        Err(_) => {
            asset.with_header(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"))
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use webhook_http::ResponseBody;

    use super::*;

    type Answer = http::Response<ResponseBody>;

    fn get(panel: &Panel, path: &str) -> Option<Answer> {
        panel.handle(&Method::GET, path, &HeaderMap::new())
    }

    fn policy(answer: &Answer) -> &str {
        answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap()
    }

    #[test]
    fn every_file_in_the_folder_is_served_and_no_other_path_is() {
        let panel = Panel::new(&PanelOptions::default());
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/web");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let path = if name == "index.html" { "/panel".to_owned() } else { format!("/panel/{name}") };
            let answer = get(&panel, &path).unwrap_or_else(|| panic!("{name} is not served"));
            assert_eq!(answer.status(), StatusCode::OK, "{name}");
            assert_eq!(answer.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(answer.headers()[header::REFERRER_POLICY], "no-referrer");
            assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-cache");
            assert!(policy(&answer).contains("default-src 'none'"), "{name}");
        }
        for foreign in [
            "/",
            "/panels",
            "/panel/index.html",
            "/panel/../Cargo.toml",
            "/panel//main.js",
            "/panel/main.js/",
        ] {
            assert!(get(&panel, foreign).is_none(), "{foreign}");
        }
    }

    #[test]
    fn nobody_may_frame_the_panel_unless_the_host_says_so() {
        let closed = get(&Panel::new(&PanelOptions::default()), "/panel").unwrap();
        assert!(policy(&closed).ends_with("frame-ancestors 'none'"), "{}", policy(&closed));
        let options = PanelOptions::default().allow_framing_by("https://editor.example.com:8443").unwrap();
        let open = Panel::new(&options.allow_framing_by("'self'").unwrap());
        let page = get(&open, "/panel").unwrap();
        assert!(policy(&page).ends_with("frame-ancestors https://editor.example.com:8443 'self'"));
        let artifact = get(&open, "/panel/artifact.html").unwrap();
        assert!(policy(&artifact).starts_with("sandbox allow-scripts; default-src 'none'"));
        assert!(policy(&artifact).contains("frame-ancestors 'self' https://editor"));
        assert!(PanelOptions::default().allow_framing_by("https://*.example.com").is_ok());
        for wrong in [
            "editor.example.com",
            "*",
            "https://",
            "https://*",
            "https://*.",
            "https://a.*",
            "https://a b",
            "https://a;b",
            "https://a,b",
            "https://a/b",
            "",
        ] {
            assert!(PanelOptions::default().allow_framing_by(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_browser_holds_is_not_sent_again() {
        let panel = Panel::new(&PanelOptions::default());
        let tag = get(&panel, "/panel/main.js").unwrap().headers()[header::ETAG].clone();
        let mut asked = HeaderMap::new();
        asked.insert(header::IF_NONE_MATCH, tag);
        let unchanged = panel.handle(&Method::GET, "/panel/main.js", &asked).unwrap();
        assert_eq!(unchanged.status(), StatusCode::NOT_MODIFIED);
        let other = panel.handle(&Method::GET, "/panel/dom.js", &asked).unwrap();
        assert_eq!(other.status(), StatusCode::OK);
    }

    #[test]
    fn other_methods_and_a_trailing_slash_are_told_the_right_way() {
        let panel = Panel::new(&PanelOptions::default());
        let posted = panel.handle(&Method::POST, "/panel", &HeaderMap::new()).unwrap();
        assert_eq!(
            (posted.status().as_u16(), posted.headers()["allow"].to_str().unwrap()),
            (405, "GET, HEAD")
        );
        let head = panel.handle(&Method::HEAD, "/panel", &HeaderMap::new()).unwrap();
        assert!(head.headers()[header::CONTENT_LENGTH] != "0");
        assert!(head.into_body().into_bytes().unwrap().is_empty());
        let moved = get(&panel, "/panel/").unwrap();
        assert_eq!(
            (moved.status().as_u16(), moved.headers()["location"].to_str().unwrap()),
            (308, "../panel")
        );
    }

    #[test]
    fn a_host_that_checks_by_itself_gets_a_page_without_sign_in() {
        let text = |options: &PanelOptions| {
            let body = get(&Panel::new(options), "/panel").unwrap().into_body().into_bytes().unwrap();
            String::from_utf8(body.to_vec()).unwrap()
        };
        assert!(text(&PanelOptions::default()).contains(SIGN_IN));
        assert!(text(&PanelOptions::default().without_sign_in()).contains(NO_SIGN_IN));
    }
}
