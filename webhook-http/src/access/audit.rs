//! A log line for each change made through the management paths, under the target `webhook::audit`.

use http::{Method, header};

use crate::contract::route::{Route, WebhookPart};
use crate::request::head::Head;
use crate::response::answer::Answer;

/// Logs a management request that was carried out, with what it was done to and where it came from.
pub(crate) fn note(route: &Route, head: &Head, answer: &Answer) {
    if !answer.status().is_success() {
        return;
    }
    let Some((action, target)) = action(route, &head.method) else { return };
    // A new thing is named by where it is.
    let made = answer.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    let made = made.and_then(|location| location.rsplit('/').next());
    let address = head.peer.map(tracing::field::display);
    let request_id = &*head.id;
    tracing::info!(target: "webhook::audit", action, target, made, address, request_id, "managed");
}

/// What a request does, and to what; `None` where nothing is changed or revealed.
fn action(route: &Route, method: &Method) -> Option<(&'static str, Option<String>)> {
    let id = |id: &Option<_>| id.as_ref().map(ToString::to_string);
    Some(match route {
        Route::Webhooks if *method == Method::POST => ("create-webhook", None),
        Route::Webhook { id: webhook, part } => {
            let action = match part {
                WebhookPart::Record if *method == Method::PATCH => "change-webhook",
                WebhookPart::Record if *method == Method::DELETE => "delete-webhook",
                WebhookPart::Record => return None,
                WebhookPart::Url if *method == Method::HEAD => return None,
                WebhookPart::Url => "read-url",
                WebhookPart::RefreshToken => "refresh-token",
                WebhookPart::Run => "run-now",
                WebhookPart::TestNotification => "test-notification",
            };
            (action, id(webhook))
        }
        Route::CancelRun(run) => ("cancel-run", run.as_ref().map(ToString::to_string)),
        Route::RetryRun(run) => ("retry-run", run.as_ref().map(ToString::to_string)),
        Route::ResendDelivery(delivery) => ("resend-delivery", delivery.as_ref().map(ToString::to_string)),
        Route::ResendDeliveries => ("resend-deliveries", None),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::route::route;

    #[test]
    fn every_request_that_changes_something_has_a_name_and_a_target() {
        let id = "0198c5a0-7e6b-7aaa-8bbb-0123456789ab";
        let named = |method, path: &str| action(&route(path).unwrap(), &method);
        assert_eq!(named(Method::POST, "/admin/api/v1/webhooks"), Some(("create-webhook", None)));
        let resend = named(Method::POST, "/admin/api/v1/deliveries/resend");
        assert_eq!(resend, Some(("resend-deliveries", None)));
        for (method, path, name) in [
            (Method::PATCH, "webhooks/{}", "change-webhook"),
            (Method::DELETE, "webhooks/{}", "delete-webhook"),
            (Method::GET, "webhooks/{}/url", "read-url"),
            (Method::POST, "webhooks/{}/refresh-token", "refresh-token"),
            (Method::POST, "webhooks/{}/run", "run-now"),
            (Method::POST, "webhooks/{}/test-notification", "test-notification"),
            (Method::POST, "runs/{}/cancel", "cancel-run"),
            (Method::POST, "runs/{}/retry", "retry-run"),
            (Method::POST, "deliveries/{}/resend", "resend-delivery"),
        ] {
            let path = format!("/admin/api/v1/{}", path.replace("{}", id));
            assert_eq!(named(method, &path), Some((name, Some(id.to_owned()))), "{path}");
        }
        for path in ["webhooks", "webhooks/x", "runs", "runs/x", "runs/x/log", "workflows", "events"] {
            assert_eq!(named(Method::GET, &format!("/admin/api/v1/{path}")), None, "{path}");
        }
    }
}
