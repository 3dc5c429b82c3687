//! Calls that hold the secret itself.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use super::header::required_header;
use super::outcome::Refusal;
use crate::raw_call::RawCall;
use crate::secret::Secret;

/// Compares a header with every secret.
pub(super) fn check_header(call: &RawCall<'_>, name: &str, secrets: &[Secret]) -> Result<(), Refusal> {
    check(required_header(call, name)?, secrets)
}

/// Compares user name and password of the `Authorization` header (RFC 7617) with every secret.
pub(super) fn check_basic(call: &RawCall<'_>, secrets: &[Secret]) -> Result<(), Refusal> {
    let name = "Authorization";
    let encoded = required_header(call, name)?
        .split_first_chunk::<6>()
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Basic "))
        .and_then(|(_, encoded)| STANDARD.decode(encoded.trim_ascii()).ok());
    let credentials =
        encoded.map(Zeroizing::new).ok_or_else(|| Refusal::malformed(name, "Basic and base64"))?;
    check(&credentials, secrets)
}

/// Compares the `clientState` of every notification with every secret: the notifications of one call may belong to
/// several subscriptions.
pub(super) fn check_client_state(call: &RawCall<'_>, secrets: &[Secret]) -> Result<(), Refusal> {
    let read: Option<GraphNotifications<'_>> = serde_json::from_slice(call.body).ok();
    let notifications = read.map(|read| read.value).filter(|value| !value.is_empty());
    let notifications =
        notifications.ok_or_else(|| Refusal::malformed("/value in the body", "a list of notifications"))?;
    for notification in notifications {
        check(notification.client_state.as_deref().unwrap_or_default().as_bytes(), secrets)?;
    }
    Ok(())
}

/// Takes the `clientState` out of every notification. It is the sender's secret, and must not become part of a run.
pub(crate) fn withhold_client_state(body: &mut Value) {
    let notifications = body.get_mut("value").and_then(Value::as_array_mut);
    for notification in notifications.into_iter().flatten().filter_map(Value::as_object_mut) {
        notification.remove("clientState");
    }
}

#[derive(Deserialize)]
struct GraphNotifications<'a> {
    #[serde(borrow)]
    value: Vec<GraphNotification<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GraphNotification<'a> {
    #[serde(borrow)]
    client_state: Option<Cow<'a, str>>,
}

/// Compares with every secret in constant time. An empty secret fits nothing.
fn check(given: &[u8], secrets: &[Secret]) -> Result<(), Refusal> {
    let one = |fits: Choice, secret: &Secret| {
        let secret = secret.expose().as_bytes();
        fits | (secret.ct_eq(given) & Choice::from(u8::from(!secret.is_empty())))
    };
    match bool::from(secrets.iter().fold(Choice::from(0), one)) {
        true => Ok(()),
        false => Err(Refusal::SecretMismatch),
    }
}
