//! What Slack's answers mean: delivered, try again, or never.

use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Response, StatusCode};
use serde::Deserialize;
use webhook_core::notifier::DeliverError;

use crate::secrets::Secrets;

/// Errors of the Web API that pass by themselves. All others are about the token, the channel or the message.
const PASSING: [&str; 7] = [
    "fatal_error",
    "internal_error",
    "rate_limited",
    "ratelimited",
    "request_timeout",
    "service_unavailable",
    "team_added_to_org",
];
/// How much of an answer is repeated in an error, in characters.
const SAID: usize = 200;

/// The part of an answer that says how it went.
#[derive(Deserialize)]
struct Outcome {
    ok: bool,
    error: Option<String>,
}

/// An answer of the Web API: its status is nearly always 200, and its body says how it went.
pub(super) fn of_api(answer: &Response<Bytes>, secrets: &Secrets) -> Result<(), DeliverError> {
    if let Some(failed) = failed_by_status(answer, secrets) {
        return Err(failed);
    }
    match serde_json::from_slice::<Outcome>(answer.body()) {
        Ok(Outcome { ok: true, .. }) => Ok(()),
        Ok(Outcome { error, .. }) => {
            let error = error.unwrap_or_else(|| "no reason".to_owned());
            let said = format!("Slack answered {}", shown(&error, secrets));
            Err(match PASSING.contains(&error.as_str()) {
                true => DeliverError::Retryable { source: said.into(), after: pause(answer) },
                false => DeliverError::permanent(said),
            })
        }
        Err(_) => Err(DeliverError::retryable("what answered is not Slack's API: its answer is no JSON")),
    }
}

/// An answer of an incoming webhook: its status says how it went.
pub(super) fn of_incoming_webhook(answer: &Response<Bytes>, secrets: &Secrets) -> Result<(), DeliverError> {
    failed_by_status(answer, secrets).map_or(Ok(()), Err)
}

fn failed_by_status(answer: &Response<Bytes>, secrets: &Secrets) -> Option<DeliverError> {
    let status = answer.status();
    if status.is_success() {
        return None;
    }
    if status.is_redirection() {
        return Some(DeliverError::permanent(format!("Slack answered {status}; redirects are not followed")));
    }
    let body = shown(&String::from_utf8_lossy(answer.body()), secrets);
    let said = format!("Slack answered {status}: {body}");
    let passes = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    Some(if passes {
        DeliverError::Retryable { source: said.into(), after: pause(answer) }
    } else {
        DeliverError::permanent(said)
    })
}

/// How long Slack asks to wait, in seconds.
fn pause(answer: &Response<Bytes>) -> Option<Duration> {
    let asked = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    asked.parse().ok().map(Duration::from_secs)
}

/// The beginning of what was said, in one line and without secrets.
fn shown(text: &str, secrets: &Secrets) -> String {
    let line = secrets.mask(text.replace(char::is_control, " "));
    crate::message::shortened(line.trim(), SAID)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str, retry_after: Option<&str>) -> Response<Bytes> {
        let builder = Response::builder().status(status);
        let builder = retry_after.into_iter().fold(builder, |it, after| it.header(RETRY_AFTER, after));
        builder.body(Bytes::from_static(body.as_bytes())).unwrap()
    }

    /// `None` when it was delivered, else whether another try may help, and after which pause.
    fn api(status: u16, body: &'static str, retry_after: Option<&str>) -> Option<(bool, Option<u64>)> {
        match of_api(&answer(status, body, retry_after), &Secrets::default()) {
            Ok(()) => None,
            Err(DeliverError::Retryable { after, .. }) => Some((true, after.map(|after| after.as_secs()))),
            Err(_) => Some((false, None)),
        }
    }

    #[test]
    fn answers_say_whether_another_try_may_help() {
        assert_eq!(api(200, r#"{"ok":true,"ts":"1.2"}"#, None), None);
        for permanent in
            ["channel_not_found", "invalid_auth", "not_in_channel", "is_archived", "token_revoked"]
        {
            let body = format!(r#"{{"ok":false,"error":"{permanent}"}}"#).leak();
            assert_eq!(api(200, body, None), Some((false, None)), "{permanent}");
        }
        assert_eq!(api(200, r#"{"ok":false,"error":"ratelimited"}"#, Some("7")), Some((true, Some(7))));
        assert_eq!(api(200, r#"{"ok":false,"error":"internal_error"}"#, None), Some((true, None)));
        assert_eq!(api(200, "<html>", None), Some((true, None)));
        assert_eq!(api(429, "", Some("30")), Some((true, Some(30))));
        assert_eq!(api(429, "", Some("soon")), Some((true, None)));
        assert_eq!(api(503, "", None), Some((true, None)));
        assert_eq!(api(302, "", None), Some((false, None)));
        assert_eq!(api(404, "", None), Some((false, None)));
    }

    #[test]
    fn what_slack_says_is_shown_without_secrets() {
        let secrets = Secrets::new(["xoxb-canary".to_owned()]);
        let answer = answer(400, "bad\r\ntoken xoxb-canary", None);
        let error = of_incoming_webhook(&answer, &secrets).unwrap_err().to_string();
        assert_eq!(error, "Slack answered 400 Bad Request: bad  token ***");
    }
}
