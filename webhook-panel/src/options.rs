//! Options of the panel.

/// Options of the panel.
///
/// ```
/// use webhook_panel::PanelOptions;
/// let options = PanelOptions::default().allow_framing_by("https://editor.example.com")?;
/// assert!(PanelOptions::default().allow_framing_by("https://a.example; script-src *").is_err());
/// # let _ = options;
/// # Ok::<(), webhook_panel::InvalidFrameAncestor>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PanelOptions {
    frame_ancestors: Vec<String>,
    pub(crate) without_sign_in: bool,
}

impl PanelOptions {
    /// Lets pages of `origin` show the panel in a frame (`frame-ancestors`, CSP Level 3 section 6.4.2).
    ///
    /// By default, no page may. Each further call allows one more origin.
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

    /// Leaves out the question for the admin token.
    ///
    /// The host's own filter then checks access to the management paths, by a cookie for example. They are served with [`AdminAccess::Open`](webhook_http::AdminAccess::Open).
    ///
    /// A browser sends a cookie with whatever any page asks for, so the management paths refuse requests that pages of
    /// other origins make. People must open the panel at the base URL, or at an origin that the host
    /// [allows](webhook_core::WebhooksBuilder::allow_origin).
    #[must_use]
    pub fn without_sign_in(mut self) -> Self {
        self.without_sign_in = true;
        self
    }

    /// Returns `frame-ancestors` for a page whose nearest ancestor may be `nearest` as well.
    pub(crate) fn ancestors(&self, nearest: Option<&'static str>) -> String {
        let own = self.frame_ancestors.iter().map(String::as_str);
        let all: Vec<&str> = nearest.into_iter().chain(own).collect();
        if all.is_empty() { "'none'".to_owned() } else { all.join(" ") }
    }
}

/// Returns the address of a run in the panel, if the panel is mounted below `base_url`.
///
/// ```
/// # fn example(base_url: url::Url) {
/// let builder = webhook_core::Webhooks::builder()
///     .base_url(base_url.clone())
///     .run_url(move |run| Some(webhook_panel::panel_run_url(&base_url, run)));
/// # let _ = builder;
/// # }
/// ```
#[must_use]
pub fn panel_run_url(base_url: &url::Url, run: &webhook_core::run::Run) -> String {
    format!("{}/panel#/{}/runs/{}", base_url.as_str().trim_end_matches('/'), run.workflow(), run.id())
}

/// Error: the text names no origin that can be allowed to show the panel in a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not an origin such as https://editor.example.com")]
#[non_exhaustive]
pub struct InvalidFrameAncestor {
    /// Text as it was given.
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
