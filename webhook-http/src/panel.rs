//! The management page: plain HTML, CSS and JavaScript within the crate, under a policy that allows nothing else.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::contract::problem::Problem;
use crate::request::headers;
use crate::response::answer::{Answer, ResponseBody, not_modified, set, with_body, without_body};

/// The methods the panel answers.
const READ: &[Method] = &[Method::GET, Method::HEAD];

/// What the page says of signing in, and what it says instead when the host has done that already.
const SIGN_IN: &str = "data-sign-in=\"token\"";
const NO_SIGN_IN: &str = "data-sign-in=\"none\"";

/// The page: scripts, styles and requests of its own server, and nothing else from anywhere. No text may become
/// markup or script.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; \
     trusted-types 'none'";

/// The frame that shows one artifact. It has an origin of its own, reaches nothing but its own files, and its script
/// does no more than put the artifact into a further frame, without scripts, where this policy is inherited and one
/// is added that takes those files away: styles and images within the artifact are all that is left to it.
const ARTIFACT_POLICY: &str = "sandbox allow-scripts; default-src 'none'; script-src 'self'; \
     style-src 'self' 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of the panel by its name, from `webhook-http/panel`.
macro_rules! files {
    ($($name:literal: $content_type:ident),* $(,)?) => {
        [$(($name, $content_type, include_str!(concat!("../panel/", $name)))),*]
    };
}

const PAGE: &str = include_str!("../panel/index.html");
const ARTIFACT: &str = "artifact.html";
const SVG: &str = "image/svg+xml";

const FILES: [(&str, &str, &str); 30] = files![
    "api.js": SCRIPT, "artifact-frame.js": SCRIPT, "artifact.css": CSS, "artifact.html": HTML, "artifact.js": SCRIPT,
    "clipboard.js": SCRIPT, "deliveries.js": SCRIPT, "dom.js": SCRIPT, "events.js": SCRIPT, "fields.js": SCRIPT, "format.js": SCRIPT,
    "history.js": SCRIPT, "icon.svg": SVG, "log.js": SCRIPT, "main.js": SCRIPT, "messages.js": SCRIPT, "outbox.js": SCRIPT,
    "panel.css": CSS, "parts.css": CSS, "router.js": SCRIPT, "run-form.js": SCRIPT, "run.js": SCRIPT,
    "settings.js": SCRIPT, "sidebar.js": SCRIPT, "snippet-view.js": SCRIPT, "snippets.js": SCRIPT, "unsaved.js": SCRIPT,
    "url.js": SCRIPT, "webhook.js": SCRIPT, "workflow.js": SCRIPT,
];

/// How the panel is served.
///
/// ```
/// use webhook_http::PanelOptions;
/// let options = PanelOptions::default().allow_framing_by("https://editor.example.com")?;
/// assert!(PanelOptions::default().allow_framing_by("https://a.example; script-src *").is_err());
/// # let _ = options;
/// # Ok::<(), webhook_http::InvalidFrameAncestor>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PanelOptions {
    frame_ancestors: Vec<String>,
    without_sign_in: bool,
}

impl PanelOptions {
    /// Lets pages of `origin` show the panel in a frame (`frame-ancestors`, CSP Level 3 section 6.4.2); without
    /// any, no page may. Called again, it allows one more.
    ///
    /// # Errors
    /// [`InvalidFrameAncestor`] for anything but a scheme and host with or without a port, such as
    /// `https://editor.example.com` or `https://*.example.com`, or `'self'`.
    pub fn allow_framing_by(mut self, origin: impl Into<String>) -> Result<Self, InvalidFrameAncestor> {
        let origin = origin.into();
        if !is_origin(&origin) {
            return Err(InvalidFrameAncestor { given: origin });
        }
        self.frame_ancestors.push(origin);
        Ok(self)
    }

    /// Leaves out the page that asks for the admin token: the host's own filter lets in who may use the management
    /// paths, by a cookie for example, and they are served with [`AdminAccess::Open`](crate::AdminAccess::Open).
    ///
    /// A browser sends a cookie with whatever any page asks for, so the management paths refuse requests that pages of
    /// other origins make. People must open the panel at the base URL, or at an origin that the host
    /// [allows](webhook_core::WebhooksBuilder::allow_origin).
    #[must_use]
    pub fn without_sign_in(mut self) -> Self {
        self.without_sign_in = true;
        self
    }

    /// `frame-ancestors` for a page whose nearest ancestor may be `nearest` as well.
    fn ancestors(&self, nearest: Option<&'static str>) -> String {
        let own = self.frame_ancestors.iter().map(String::as_str);
        let all: Vec<&str> = nearest.into_iter().chain(own).collect();
        if all.is_empty() { "'none'".to_owned() } else { all.join(" ") }
    }
}

/// Returns where the panel shows a run, if it is mounted below `base_url`.
///
/// ```
/// # fn example(base_url: url::Url) {
/// let builder = webhook_core::Webhooks::builder()
///     .base_url(base_url.clone())
///     .run_url(move |run| Some(webhook_http::panel_run_url(&base_url, run)));
/// # let _ = builder;
/// # }
/// ```
#[must_use]
pub fn panel_run_url(base_url: &url::Url, run: &webhook_core::run::Run) -> String {
    format!("{}/panel#/{}/runs/{}", base_url.as_str().trim_end_matches('/'), run.workflow, run.id)
}

/// A text that names no origin which may show the panel in a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not an origin such as https://editor.example.com")]
#[non_exhaustive]
pub struct InvalidFrameAncestor {
    /// The text.
    pub given: String,
}

fn is_origin(text: &str) -> bool {
    let authority = text.strip_prefix("https://").or(text.strip_prefix("http://"));
    let is_plain = |text: &str| {
        let character = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte);
        // An asterisk may stand for the subdomains of one domain, and not for everybody.
        let text = text.strip_prefix("*.").unwrap_or(text);
        !text.is_empty() && text.bytes().all(character)
    };
    text == "'self'" || authority.is_some_and(is_plain)
}

/// The panel, ready to be served: which paths it has, and what they answer. It holds no secret, and needs none.
#[derive(Debug, Clone)]
pub struct Panel {
    page: File,
    files: Vec<(&'static str, File)>,
}

#[derive(Debug, Clone)]
struct File {
    content: Bytes,
    content_type: &'static str,
    tag: String,
    policy: String,
}

impl File {
    fn new(content: impl Into<Bytes>, content_type: &'static str, policy: String) -> Self {
        let content = content.into();
        let tag = headers::content_tag(&content);
        Self { content, content_type, tag, policy }
    }
}

impl Panel {
    /// The panel with these options.
    #[must_use]
    pub fn new(options: &PanelOptions) -> Self {
        let page = if options.without_sign_in { PAGE.replace(SIGN_IN, NO_SIGN_IN) } else { PAGE.to_owned() };
        let policy = format!("{PAGE_POLICY}; frame-ancestors {}", options.ancestors(None));
        // The panel itself shows the artifact's frame, and every page above is an ancestor of it too.
        let artifact = format!("{ARTIFACT_POLICY}; frame-ancestors {}", options.ancestors(Some("'self'")));
        let file = |(name, content_type, content): (&'static str, _, &'static str)| {
            let policy = if name == ARTIFACT { &artifact } else { "default-src 'none'" };
            (name, File::new(content, content_type, policy.to_owned()))
        };
        Self { page: File::new(page, HTML, policy), files: FILES.into_iter().map(file).collect() }
    }

    /// Answers a request, or `None` when `path` is not one of the panel: `/panel`, and its files below `/panel/`.
    /// `path` is relative to where the host mounted the contract, and the management paths must be mounted at the
    /// same place.
    #[must_use]
    pub fn handle(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<http::Response<ResponseBody>> {
        let name = path.strip_prefix("/panel")?;
        let found = match name.strip_prefix('/') {
            None if name.is_empty() => Found::File(&self.page),
            Some("") => Found::Moved,
            Some(name) => Found::File(&self.files.iter().find(|(known, _)| *known == name)?.1),
            None => return None,
        };
        let mut answer = match found {
            _ if !READ.contains(method) => Problem::method_not_allowed("GET, HEAD").into_response(),
            Found::File(file) => file.answer(headers),
            Found::Moved => moved(),
        };
        let content_policy = answer.headers_mut().remove(header::CONTENT_SECURITY_POLICY);
        headers::add_common(answer.headers_mut(), &headers::request_id(headers));
        if answer.status().is_success() || answer.status() == StatusCode::NOT_MODIFIED {
            // Kept, but asked for again each time: a new version of the crate is seen at once.
            answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        match found {
            Found::File(file) if !std::ptr::eq(file, &self.page) => {
                // The artifact's frame has an origin of its own, and these files hold no secret.
                answer
                    .headers_mut()
                    .insert(headers::RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
            }
            _ => {
                answer.headers_mut().insert(headers::OPENER_POLICY, HeaderValue::from_static("same-origin"));
            }
        }
        if let Some(policy) = content_policy {
            answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        Some(if *method == Method::HEAD { without_body(answer) } else { answer })
    }
}

#[derive(Clone, Copy)]
enum Found<'a> {
    File(&'a File),
    /// `/panel/`, below which the page's own addresses would be wrong.
    Moved,
}

impl File {
    fn answer(&self, asked: &HeaderMap) -> Answer {
        let mut answer = if headers::holds(asked, &self.tag) {
            not_modified()
        } else {
            with_body(StatusCode::OK, self.content_type, self.content.clone())
        };
        set(&mut answer, header::ETAG, &self.tag);
        set(&mut answer, header::CONTENT_SECURITY_POLICY, &self.policy);
        answer
    }
}

fn moved() -> Answer {
    let mut answer = with_body(StatusCode::PERMANENT_REDIRECT, "text/plain; charset=utf-8", "");
    set(&mut answer, header::LOCATION, "../panel");
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(panel: &Panel, path: &str) -> Option<Answer> {
        panel.handle(&Method::GET, path, &HeaderMap::new())
    }

    fn policy(answer: &Answer) -> &str {
        answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap()
    }

    #[test]
    fn every_file_in_the_folder_is_served_and_no_other_path_is() {
        let panel = Panel::new(&PanelOptions::default());
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/panel");
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
    fn no_file_names_an_outside_address_or_makes_markup_from_text() {
        for (name, _, content) in FILES.into_iter().chain([("index.html", HTML, PAGE)]) {
            let plain = content.replace("http://www.w3.org/2000/svg", "");
            for outside in ["http://", "https://", "//cdn", "@import", " url("] {
                assert!(!plain.contains(outside), "{name} has {outside}");
            }
            for markup in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
            {
                assert!(!content.contains(markup), "{name} uses {markup}");
            }
            let inline =
                content.contains("<style") || content.contains(" style=") || content.contains(" onclick=");
            assert!(!inline && !content.contains("<script>"), "{name} has inline script or style");
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
