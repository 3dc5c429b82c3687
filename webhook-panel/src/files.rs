//! Files of the panel.

pub(crate) const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Includes files of the folder `web` by their names.
macro_rules! files {
    ($($name:literal: $content_type:ident),* $(,)?) => {
        [$(($name, $content_type, include_str!(concat!("../web/", $name)))),*]
    };
}

/// The page itself.
pub(crate) const PAGE: &str = include_str!("../web/index.html");
/// Name of the file that shows artifacts.
pub(crate) const ARTIFACT: &str = "artifact.html";
const SVG: &str = "image/svg+xml";

/// Name, media type and content of each file but the page.
pub(crate) const FILES: [(&str, &str, &str); 46] = files![
    "api.js": SCRIPT, "artifact-frame.js": SCRIPT, "artifact.css": CSS, "artifact.html": HTML, "artifact.js": SCRIPT,
    "call-watch.js": SCRIPT, "calls.js": SCRIPT, "client.js": SCRIPT, "clipboard.js": SCRIPT, "deliveries.js": SCRIPT,
    "dom.js": SCRIPT, "editor.js": SCRIPT, "events.js": SCRIPT, "fields.js": SCRIPT, "first-call.js": SCRIPT, "format.js": SCRIPT,
    "history.js": SCRIPT, "icon.svg": SVG, "log.js": SCRIPT, "main.js": SCRIPT, "messages.js": SCRIPT, "outbox.js": SCRIPT,
    "panel.css": CSS, "parts.css": CSS, "place.js": SCRIPT, "pointers.js": SCRIPT, "preview.js": SCRIPT, "recipe-view.js": SCRIPT,
    "router.js": SCRIPT, "rows.js": SCRIPT, "run-form.js": SCRIPT, "run.js": SCRIPT, "secrets.js": SCRIPT,
    "sender-form.js": SCRIPT, "sender.js": SCRIPT, "settings.js": SCRIPT, "sidebar.js": SCRIPT, "snippet-view.js": SCRIPT,
    "snippets.js": SCRIPT, "test-call.js": SCRIPT, "unsaved.js": SCRIPT, "url.js": SCRIPT, "values.js": SCRIPT,
    "verification.js": SCRIPT, "webhook.js": SCRIPT, "workflow.js": SCRIPT,
];

#[cfg(test)]
mod tests {
    use super::*;

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
}
