//! The management page as a filter.

use std::sync::Arc;

use http::{HeaderMap, Method};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::path::Tail;
use warp::reply::Response as WarpResponse;
use webhook_panel::{Panel, PanelOptions};

use crate::routes::{reply, rest_of_path};

/// Returns the filter of the panel: a page at `/panel` for people who manage webhooks and follow runs.
///
/// It uses the [management paths](crate::management_routes), which must be mounted at the same place.
///
/// ```
/// # fn example(webhooks: &webhook_core::Webhooks, token: &str) -> Result<(), Box<dyn std::error::Error>> {
/// use warp::Filter;
/// use webhook_warp::{AdminAccess, PanelOptions};
///
/// let options = PanelOptions::default().allow_framing_by("https://editor.example.com")?;
/// let routes = webhook_warp::all_routes(webhooks, AdminAccess::token(token)?)
///     .or(webhook_warp::panel_routes(&options));
/// # let _ = routes;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn panel_routes(options: &PanelOptions) -> BoxedFilter<(WarpResponse,)> {
    let panel = Arc::new(Panel::new(options));
    rest_of_path()
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and_then(move |rest: Tail, method: Method, headers: HeaderMap| {
            let answer = panel.handle(&method, &format!("/{}", rest.as_str()), &headers);
            async move { answer.map(reply).ok_or_else(warp::reject::not_found) }
        })
        .boxed()
}
