//! The management page as a router.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::any;
use webhook_http::Api;
use webhook_panel::{Panel, PanelOptions};

/// Paths of the panel: its page, the redirect to it, and its files.
const PATHS: [&str; 3] = ["/panel", "/panel/", "/panel/{file}"];

/// Returns the router of the panel: a page at `/panel` for people who manage webhooks and follow runs.
///
/// It uses the [management paths](crate::management_routes), which must be mounted at the same place.
///
/// ```
/// # fn example<S: Clone + Send + Sync + 'static>(
/// #     webhooks: &webhook_core::Webhooks, token: &str,
/// # ) -> Result<axum::Router<S>, Box<dyn std::error::Error>> {
/// use webhook_axum::{AdminAccess, PanelOptions};
///
/// let options = PanelOptions::default().allow_framing_by("https://editor.example.com")?;
/// let routes = webhook_axum::all_routes(webhooks, AdminAccess::token(token)?)
///     .merge(webhook_axum::panel_routes(&options));
/// # Ok(routes)
/// # }
/// ```
pub fn panel_routes<S: Clone + Send + Sync + 'static>(options: &PanelOptions) -> Router<S> {
    let panel = Arc::new(Panel::new(options));
    let mut router = Router::new();
    for path in PATHS {
        let panel = panel.clone();
        let answer = move |request: Request| {
            let answer = panel.handle(request.method(), request.uri().path(), request.headers());
            let answer = answer.unwrap_or_else(|| Api::not_found(request.headers())).map(Body::new);
            async move { answer }
        };
        router = router.route(path, any(answer));
    }
    router
}
