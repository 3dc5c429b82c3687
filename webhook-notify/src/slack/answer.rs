//! Interprets Slack's answers: delivered, try again, or permanent.

use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Response, StatusCode};
use serde::Deserialize;
use webhook_core::masking::Masker;
use webhook_core::notifier::DeliverError;

/// Temporary errors of the Web API. All others concern the token, the channel or the message.
const PASSING: [&str; 7] = [
    "fatal_error",
    "internal_error",
    "rate_limited",
    "ratelimited",
    "request_timeout",
    "service_unavailable",
    "team_added_to_org",
];
/// Errors of the Web API that concern the token, and so every message. The operator has to provide another
/// token.
const REFUSED_CREDENTIALS: [&str; 9] = [
    "access_denied",
    "account_inactive",
    "invalid_auth",
    "missing_scope",
    "not_allowed_token_type",
    "not_authed",
    "org_login_required",
    "token_expired",
    "token_revoked",
];
/// Upper bound on the part of an answer that an error repeats, in characters.
const SAID: usize = 200;

/// Result in the body of an answer.
#[derive(Deserialize)]
struct Outcome {
    ok: bool,
    error: Option<String>,
}

/// Interprets an answer of the Web API. Its status is nearly always 200; the body has the result.
pub(super) fn of_api(answer: &Response<Bytes>, masker: &Masker) -> Result<(), DeliverError> {
    if let Some(failed) = failed_by_status(answer, masker) {
        return Err(failed);
    }
    match serde_json::from_slice::<Outcome>(answer.body()) {
        Ok(Outcome { ok: true, .. }) => Ok(()),
        Ok(Outcome { error, .. }) => {
            let error = error.unwrap_or_else(|| "no reason".to_owned());
            let said = format!("Slack answered {}", shown(&error, masker));
            Err(match error.as_str() {
                error if PASSING.contains(&error) => {
                    DeliverError::Retryable { source: said.into(), after: pause(answer) }
                }
                error if REFUSED_CREDENTIALS.contains(&error) => DeliverError::unreachable(said),
                _ => DeliverError::permanent(said),
            })
        }
        Err(_) => Err(DeliverError::retryable("what answered is not Slack's API: its answer is no JSON")),
    }
}

/// Interprets an answer of an incoming webhook, by its status.
pub(super) fn of_incoming_webhook(answer: &Response<Bytes>, masker: &Masker) -> Result<(), DeliverError> {
    failed_by_status(answer, masker).map_or(Ok(()), Err)
}

fn failed_by_status(answer: &Response<Bytes>, masker: &Masker) -> Option<DeliverError> {
    let status = answer.status();
    if status.is_success() {
        return None;
    }
    if status.is_redirection() {
        return Some(DeliverError::unreachable(format!(
            "Slack answered {status}; redirects are not followed"
        )));
    }
    let body = shown(&String::from_utf8_lossy(answer.body()), masker);
    let said = format!("Slack answered {status}: {body}");
    let passes = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    // All messages have the same URL, so if the URL is wrong or refused, every message fails.
    let refuses_all = matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE
    );
    Some(if passes {
        DeliverError::Retryable { source: said.into(), after: pause(answer) }
    } else if refuses_all {
        DeliverError::unreachable(said)
    } else {
        DeliverError::permanent(said)
    })
}

/// Returns the pause that Slack asks for in `Retry-After`.
fn pause(answer: &Response<Bytes>) -> Option<Duration> {
    let asked = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    asked.parse().ok().map(Duration::from_secs)
}

/// Returns the beginning of an answer, in one line and without secrets.
fn shown(text: &str, masker: &Masker) -> String {
    let line = masker.mask(text).replace(char::is_control, " ");
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

    /// Effect of an answer on a delivery.
    #[derive(Debug, PartialEq)]
    enum Means {
        Delivered,
        TryAgain(Option<u64>),
        NobodyIsReached,
        Never,
    }

    fn meaning(outcome: Result<(), DeliverError>) -> Means {
        match outcome {
            Ok(()) => Means::Delivered,
            Err(DeliverError::Retryable { after, .. }) => Means::TryAgain(after.map(|after| after.as_secs())),
            Err(DeliverError::Unreachable(_)) => Means::NobodyIsReached,
            Err(_) => Means::Never,
        }
    }

    fn api(status: u16, body: &'static str, retry_after: Option<&str>) -> Means {
        meaning(of_api(&answer(status, body, retry_after), &Masker::default()))
    }

    #[test]
    fn refused_credentials_and_a_wrong_address_concern_every_message() {
        for error in REFUSED_CREDENTIALS {
            let body = format!(r#"{{"ok":false,"error":"{error}"}}"#).leak();
            assert_eq!(api(200, body, None), Means::NobodyIsReached, "{error}");
        }
        let incoming =
            |status, body| meaning(of_incoming_webhook(&answer(status, body, None), &Masker::default()));
        for (status, body) in
            [(403, "invalid_token"), (404, "no_service"), (410, "channel_is_archived"), (302, "")]
        {
            assert_eq!(api(status, body, None), Means::NobodyIsReached, "{status}");
            assert_eq!(incoming(status, body), Means::NobodyIsReached, "{status}");
        }
        assert_eq!(incoming(400, "invalid_payload"), Means::Never);
    }

    #[test]
    fn answers_say_whether_another_try_may_help() {
        assert_eq!(api(200, r#"{"ok":true,"ts":"1.2"}"#, None), Means::Delivered);
        for permanent in ["channel_not_found", "not_in_channel", "is_archived", "msg_too_long"] {
            let body = format!(r#"{{"ok":false,"error":"{permanent}"}}"#).leak();
            assert_eq!(api(200, body, None), Means::Never, "{permanent}");
        }
        assert_eq!(api(200, r#"{"ok":false,"error":"ratelimited"}"#, Some("7")), Means::TryAgain(Some(7)));
        assert_eq!(api(200, r#"{"ok":false,"error":"internal_error"}"#, None), Means::TryAgain(None));
        assert_eq!(api(200, "<html>", None), Means::TryAgain(None));
        assert_eq!(api(429, "", Some("30")), Means::TryAgain(Some(30)));
        assert_eq!(api(429, "", Some("soon")), Means::TryAgain(None));
        assert_eq!(api(503, "", None), Means::TryAgain(None));
        assert_eq!(api(400, "", None), Means::Never);
    }

    #[test]
    fn what_slack_says_is_shown_without_secrets() {
        let masker = Masker::new(["xoxb-canary".to_owned()]);
        let answer = answer(400, "bad\r\ntoken xoxb-canary", None);
        let error = of_incoming_webhook(&answer, &masker).unwrap_err().to_string();
        assert_eq!(error, "Slack answered 400 Bad Request: bad  token ***");
    }
}
