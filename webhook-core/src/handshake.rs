//! Handshakes: calls by which a sender checks that a URL is its user's. They start no run.
//!
//! A handshake that its sender signs is answered only once its signature was checked. An earlier answer would let others
//! confirm subscriptions in the owner's name. A handshake that is not signed is answered before the body is read, for the
//! webhook's token alone.

use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use crate::mapping::CallContent;
use crate::parameters::{Pointer, QueryParameters};
use crate::raw_call::RawCall;
use crate::secret::Secret;
use crate::verification::{Handshake, Preset, Refusal};

/// Most bytes of an origin that is sent back.
const ORIGIN_BYTES: usize = 255;

/// The answer to a handshake. Its status is 200.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeAnswer {
    /// Headers beside those that every answer has.
    pub headers: Vec<(&'static str, String)>,
    /// The body, of the media type in the headers.
    pub body: String,
}

impl HandshakeAnswer {
    fn empty() -> Self {
        Self { headers: Vec::new(), body: String::new() }
    }

    /// Repeats a text of the sender, which no browser may take for a page.
    fn text(body: &str) -> Self {
        let headers = vec![
            ("Content-Type", "text/plain; charset=utf-8".to_owned()),
            ("X-Content-Type-Options", "nosniff".to_owned()),
        ];
        Self { headers, body: body.to_owned() }
    }

    fn json(body: &Value) -> Self {
        Self { headers: vec![("Content-Type", "application/json".to_owned())], body: body.to_string() }
    }
}

/// Returns the answer to a handshake that its sender does not sign, or `None` when the call is no handshake.
///
/// It needs no body.
///
/// `verify_token` is the preset's setting of that name, and `per_minute` the webhook's rate limit.
///
/// # Errors
/// [`Refusal`] when the call is a handshake and its verify token is another one, or none is set.
pub fn unsigned_handshake(
    preset: Preset,
    call: &RawCall<'_>,
    query: &QueryParameters,
    verify_token: Option<&Secret>,
    per_minute: Option<u32>,
) -> Result<Option<HandshakeAnswer>, Refusal> {
    match (preset.handshake(), call.method) {
        (Handshake::Head, "HEAD") => Ok(Some(HandshakeAnswer::empty())),
        (Handshake::GraphToken, "POST") => {
            let token = single(query, "validationToken").filter(|token| !token.is_empty());
            Ok(token.map(HandshakeAnswer::text))
        }
        (Handshake::MetaChallenge, "GET") if single(query, "hub.mode") == Some("subscribe") => {
            let expected = verify_token.ok_or(Refusal::NoVerifyToken)?;
            let given = single(query, "hub.verify_token").unwrap_or_default();
            let fits = expected.expose().as_bytes().ct_eq(given.as_bytes());
            if !bool::from(fits) || expected.expose().is_empty() {
                return Err(Refusal::VerifyTokenMismatch);
            }
            Ok(Some(HandshakeAnswer::text(single(query, "hub.challenge").unwrap_or_default())))
        }
        (Handshake::CloudEvents, "OPTIONS") => Ok(allowed_origin(call, per_minute)),
        _ => Ok(None),
    }
}

/// Returns the answer to a handshake whose signature was checked, or `None` when the call is no handshake.
#[must_use]
pub fn signed_handshake(preset: Preset, content: &CallContent<'_>) -> Option<HandshakeAnswer> {
    match preset.handshake() {
        Handshake::GitHubPing => {
            let is_ping = content.raw.headers("X-GitHub-Event").eq([b"ping"]);
            is_ping.then(|| HandshakeAnswer::json(&json!({"status": "handshake"})))
        }
        Handshake::SlackChallenge if text(content, "/type")? == "url_verification" => {
            let challenge = text(content, "/challenge")?;
            Some(HandshakeAnswer::json(&json!({"challenge": challenge})))
        }
        Handshake::CloudEvents if content.raw.headers("aeg-event-type").eq([b"SubscriptionValidation"]) => {
            let code = text(content, "/0/data/validationCode")?;
            Some(HandshakeAnswer::json(&json!({"validationResponse": code})))
        }
        _ => None,
    }
}

/// Permits a sender of CloudEvents to call ("HTTP 1.1 Web Hooks for Event Delivery" 1.0.2, section 4).
fn allowed_origin(call: &RawCall<'_>, per_minute: Option<u32>) -> Option<HandshakeAnswer> {
    let origin = call.single_header("WebHook-Request-Origin").ok()??;
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b".:-".contains(byte);
    let origin = match std::str::from_utf8(origin) {
        Ok(name) if name.len() <= ORIGIN_BYTES && name.as_bytes().iter().all(is_name) => name,
        _ => "*",
    };
    let mut headers = vec![("Allow", "POST".to_owned()), ("WebHook-Allowed-Origin", origin.to_owned())];
    if call.headers("WebHook-Request-Rate").next().is_some() {
        let rate = per_minute.map_or_else(|| "*".to_owned(), |rate| rate.to_string());
        headers.push(("WebHook-Allowed-Rate", rate));
    }
    Some(HandshakeAnswer { headers, body: String::new() })
}

/// Returns the value of a query parameter that is given once.
fn single<'a>(query: &'a QueryParameters, name: &str) -> Option<&'a str> {
    let mut values = query.iter().filter(|(given, _)| *given == name).map(|(_, value)| value);
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

fn text(content: &CallContent<'_>, pointer: &str) -> Option<String> {
    let found = content.payload.find(&pointer.parse::<Pointer>().ok()?)?;
    found.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::{ParameterLimits, parse_payload, parse_query};

    fn unsigned(
        preset: Preset,
        method: &str,
        query: &str,
        headers: &[(&str, &str)],
    ) -> Result<Option<HandshakeAnswer>, Refusal> {
        unsigned_with(preset, method, query, headers, Some("my-verify-token"))
    }

    fn unsigned_with(
        preset: Preset,
        method: &str,
        query: &str,
        headers: &[(&str, &str)],
        verify_token: Option<&str>,
    ) -> Result<Option<HandshakeAnswer>, Refusal> {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let call = RawCall::new(method, "https://a.example/w", &headers, b"");
        let query = parse_query(query).unwrap().parameters;
        let verify_token = verify_token.map(Secret::unchecked);
        unsigned_handshake(preset, &call, &query, verify_token.as_ref(), Some(60))
    }

    fn signed(preset: Preset, headers: &[(&str, &str)], body: &str) -> Option<String> {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let raw = RawCall::new("POST", "https://a.example/w", &headers, body.as_bytes());
        let payload = parse_payload(None, raw.body, &ParameterLimits::default(), Default::default()).unwrap();
        let query = QueryParameters::default();
        signed_handshake(preset, &CallContent::new(&raw, &query, &payload)).map(|answer| answer.body)
    }

    #[test]
    fn microsoft_graph_gets_its_token_back_decoded_and_as_plain_text() {
        let query = "validationToken=Validation%3A+Testing+%3Cscript%3E";
        let answer = unsigned(Preset::MicrosoftGraph, "POST", query, &[]).unwrap().unwrap();
        assert_eq!(answer.body, "Validation: Testing <script>");
        assert!(answer.headers.contains(&("Content-Type", "text/plain; charset=utf-8".to_owned())));
        assert!(answer.headers.contains(&("X-Content-Type-Options", "nosniff".to_owned())));
        for (method, query) in [("POST", ""), ("GET", query), ("POST", "validationToken=")] {
            assert_eq!(unsigned(Preset::MicrosoftGraph, method, query, &[]), Ok(None), "{method} {query}");
        }
    }

    #[test]
    fn meta_gets_its_challenge_back_for_the_right_verify_token_only() {
        let query =
            |token: &str| format!("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={token}");
        let answer = unsigned(Preset::Meta, "GET", &query("my-verify-token"), &[]).unwrap().unwrap();
        assert_eq!(answer.body, "1158201444");
        for token in ["other", "", "my-verify-token&hub.verify_token=my-verify-token"] {
            assert_eq!(
                unsigned(Preset::Meta, "GET", &query(token), &[]),
                Err(Refusal::VerifyTokenMismatch),
                "{token}"
            );
        }
        let without = |token| unsigned_with(Preset::Meta, "GET", &query(""), &[], token);
        assert_eq!(without(None), Err(Refusal::NoVerifyToken));
        assert_eq!(without(Some("")), Err(Refusal::VerifyTokenMismatch), "an empty verify token is none");
        assert_eq!(unsigned(Preset::Meta, "GET", "hub.mode=other", &[]), Ok(None));
        assert_eq!(unsigned(Preset::Meta, "POST", &query("my-verify-token"), &[]), Ok(None));
    }

    #[test]
    fn trello_asks_by_head_and_cloud_events_by_options() {
        assert_eq!(unsigned(Preset::Trello, "HEAD", "", &[]), Ok(Some(HandshakeAnswer::empty())));
        assert_eq!(unsigned(Preset::Trello, "POST", "", &[]), Ok(None));
        assert_eq!(unsigned(Preset::GitHub, "HEAD", "", &[]), Ok(None));
        let origin = ("webhook-request-origin", "eventgrid.azure.net");
        let answer = unsigned(Preset::CloudEvents, "OPTIONS", "", &[origin]).unwrap().unwrap();
        let expected = [("Allow", "POST"), ("WebHook-Allowed-Origin", "eventgrid.azure.net")];
        assert_eq!(answer.headers, expected.map(|(name, value)| (name, value.to_owned())));
        let answer = unsigned(Preset::CloudEvents, "OPTIONS", "", &[origin, ("WebHook-Request-Rate", "120")]);
        assert_eq!(answer.unwrap().unwrap().headers[2], ("WebHook-Allowed-Rate", "60".to_owned()));
        let odd = unsigned(Preset::CloudEvents, "OPTIONS", "", &[("WebHook-Request-Origin", "a, b\u{e9}")]);
        assert_eq!(odd.unwrap().unwrap().headers[1].1, "*");
        assert_eq!(unsigned(Preset::CloudEvents, "OPTIONS", "", &[]), Ok(None));
        assert_eq!(unsigned(Preset::CloudEvents, "POST", "", &[origin]), Ok(None));
    }

    #[test]
    fn challenges_of_signed_calls_are_sent_back_and_other_calls_are_none() {
        let challenge = r#"{"token":"x","challenge":"3eZbrw1aBm2rZ","type":"url_verification"}"#;
        assert_eq!(signed(Preset::Slack, &[], challenge).unwrap(), r#"{"challenge":"3eZbrw1aBm2rZ"}"#);
        assert_eq!(signed(Preset::Slack, &[], r#"{"type":"event_callback","challenge":"x"}"#), None);
        assert_eq!(signed(Preset::GitHub, &[], challenge), None);
        assert!(signed(Preset::GitHub, &[("x-github-event", "ping")], "{}").is_some());
        assert_eq!(signed(Preset::GitHub, &[("x-github-event", "push")], "{}"), None);
        assert_eq!(signed(Preset::GitLab, &[("x-github-event", "ping")], "{}"), None);
        let validation = r#"[{"eventType":"x","data":{"validationCode":"512d38b6"}}]"#;
        let header = [("aeg-event-type", "SubscriptionValidation")];
        assert_eq!(
            signed(Preset::CloudEvents, &header, validation).unwrap(),
            r#"{"validationResponse":"512d38b6"}"#
        );
        assert_eq!(signed(Preset::CloudEvents, &[], validation), None);
        assert_eq!(signed(Preset::CloudEvents, &header, "{}"), None);
    }

    #[test]
    fn no_unsigned_handshake_answers_for_a_sender_that_signs_its_own() {
        for preset in [Preset::Slack, Preset::GitHub, Preset::Stripe, Preset::StandardWebhooks] {
            for method in ["GET", "POST", "HEAD", "OPTIONS"] {
                let query = "validationToken=x&hub.mode=subscribe&hub.challenge=1&challenge=x";
                let headers = [("WebHook-Request-Origin", "a"), ("X-GitHub-Event", "ping")];
                assert_eq!(unsigned(preset, method, query, &headers), Ok(None), "{preset:?} {method}");
            }
        }
    }
}
