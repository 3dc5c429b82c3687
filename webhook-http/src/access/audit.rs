//! Audit log: one line for each change made through the management paths, under the target `webhook::audit`.

use http::{Method, header};

use crate::request::head::Head;
use crate::response::answer::Answer;

/// Logs a management request that was carried out, with its target and its origin. An operation without an `action`
/// changes and reveals nothing.
pub(crate) fn note(action: Option<&'static str>, head: &Head, answer: &Answer) {
    let Some(action) = action else { return };
    if !answer.status().is_success() || head.method == Method::HEAD {
        return;
    }
    // A created record is named by its address.
    let made = answer.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    let made = made.and_then(|location| location.rsplit('/').next());
    let target = head.route.target().as_ref().map(ToString::to_string);
    let address = head.peer.map(tracing::field::display);
    let request_id = &*head.id;
    tracing::info!(target: "webhook::audit", action, target, made, address, request_id, "managed");
}
