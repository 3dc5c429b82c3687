//! Slack notifications, through its Web API (`chat.postMessage`) or an incoming webhook.

mod answer;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use url::{Host, Url};
use webhook_core::error::chain;
use webhook_core::masking::Masker;
use webhook_core::notifier::{DeliverError, Notification, Notifier};
use webhook_core::webhook::Channel;

use crate::message::{Messages, Template, TemplateError, escaped_for_slack, plain_for_slack};

/// Base URL of Slack's Web API.
const API: &str = "https://slack.com/api/";
/// Upper bound on the time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Upper bound on the time of a request, connecting included.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Upper bound on the part of an answer that is read, in bytes.
const ANSWER_BYTES: usize = 64 * 1024;
/// Upper bound on the text of a section block, in characters, from Slack's documentation.
const SECTION_CHARACTERS: usize = 3_000;
/// Upper bound on the name of a channel, in characters.
const CHANNEL_CHARACTERS: usize = 80;

/// Posts messages to Slack channels.
///
/// It talks to one host only: it follows no redirect and uses no proxy. The `Retry-After` of a 429 is passed
/// on to the outbox.
/// Errors that another try cannot correct, such as `channel_not_found`, are permanent. Refused credentials,
/// such as `invalid_auth`, affect every message, so deliveries wait until the token is accepted.
#[derive(Clone)]
pub struct SlackNotifier {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    target: Target,
    messages: Messages,
    masker: Masker,
}

#[derive(Clone)]
enum Target {
    Api {
        endpoint: Uri,
        authorization: HeaderValue,
    },
    /// The URL is the secret. It belongs to one channel, whatever channel a message names.
    IncomingWebhook {
        url: Uri,
    },
}

/// Error of the Slack configuration. No message repeats a token or a URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlackOptionsError {
    /// The token has an invalid form.
    #[error("a Slack token is one or more visible ASCII characters without spaces, such as xoxb-…")]
    Token,
    /// The URL cannot be used.
    #[error("it must be an https URL without user, query and fragment (http to this machine only)")]
    Url,
    /// The certificates that the machine trusts cannot be read.
    #[error("the trusted certificates of this machine cannot be read")]
    Certificates(#[source] std::io::Error),
    /// A template is invalid.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

impl SlackNotifier {
    /// Posts with a bot token. The token needs the scope `chat:write`, and the bot must be in the channel.
    ///
    /// Fails with [`SlackOptionsError::Token`] or [`SlackOptionsError::Certificates`].
    pub fn with_token(token: &str) -> Result<Self, SlackOptionsError> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SlackOptionsError::Token);
        }
        let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut authorization = bearer.map_err(|_| SlackOptionsError::Token)?;
        authorization.set_sensitive(true);
        let endpoint = endpoint_of(API)?;
        Self::new(Target::Api { endpoint, authorization }, Masker::new([token.to_owned()]))
    }

    /// Posts to an incoming webhook, which belongs to one channel. The channels that settings name are then
    /// labels only.
    ///
    /// Fails with [`SlackOptionsError::Url`] or [`SlackOptionsError::Certificates`].
    pub fn with_incoming_webhook(url: &str) -> Result<Self, SlackOptionsError> {
        let checked = checked_url(url)?;
        // The last part of the path is the secret, and may occur alone in an answer.
        let last = checked.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
        let masker = Masker::new([last.to_owned(), checked.path().to_owned(), checked.to_string()]);
        Self::new(Target::IncomingWebhook { url: uri(&checked)? }, masker)
    }

    fn new(target: Target, masker: Masker) -> Result<Self, SlackOptionsError> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.enforce_http(false);
        // The provider is named here: a host that links a second provider leaves rustls without a default.
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(SlackOptionsError::Certificates)?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new()).build(https);
        Ok(Self { client, target, messages: Messages::new()?, masker })
    }

    /// Replaces the base URL of the Web API, for example by a gateway's. No effect on an incoming webhook.
    ///
    /// Fails with [`SlackOptionsError::Url`].
    pub fn with_api(mut self, api: &str) -> Result<Self, SlackOptionsError> {
        if let Target::Api { endpoint, .. } = &mut self.target {
            *endpoint = endpoint_of(api)?;
        }
        Ok(self)
    }

    /// Replaces the templates.
    #[must_use]
    pub fn with_messages(mut self, messages: Messages) -> Self {
        self.messages = messages;
        self
    }

    fn request(&self, news: &Notification) -> Result<Request<Full<Bytes>>, SendError> {
        let message = self.message(news)?;
        let builder = match &self.target {
            Target::Api { endpoint, authorization } => {
                Request::post(endpoint.clone()).header(AUTHORIZATION, authorization.clone())
            }
            Target::IncomingWebhook { url } => Request::post(url.clone()),
        };
        let builder = builder.header(CONTENT_TYPE, "application/json; charset=utf-8");
        Ok(builder.body(Full::from(message.to_string()))?)
    }

    /// Builds the blocks of a message, and a text for clients that cannot show blocks.
    ///
    /// Slack's automatic links for names and URLs are switched off.
    fn message(&self, news: &Notification) -> Result<Value, TemplateError> {
        let body = self.messages.render(Template::Slack, news)?;
        let section = |text: String| json!({"type": "section", "text": {"type": "mrkdwn", "verbatim": true, "text": text}});
        let mut blocks = vec![section(cut(body.trim()))];
        if let Some(url) = &news.run_url {
            // A bar or a blank would end the address.
            let url = escaped_for_slack(url).replace('|', "%7C").replace(' ', "%20");
            blocks.push(section(format!("<{url}|Open the run>")));
        }
        let mut message = json!({
            "text": plain_for_slack(&self.messages.render(Template::Subject, news)?),
            "blocks": blocks,
            "unfurl_links": false,
            "unfurl_media": false,
        });
        if let (Target::Api { .. }, Value::Object(fields)) = (&self.target, &mut message) {
            fields.insert("channel".to_owned(), news.recipient.clone().into());
            fields.insert("link_names".to_owned(), false.into());
        }
        Ok(message)
    }

    async fn post(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, DeliverError> {
        let asking = async {
            let failed = |error: hyper_util::client::legacy::Error| {
                let said = self.masker.mask(chain(&error));
                if error.is_connect() {
                    DeliverError::unreachable(said)
                } else {
                    DeliverError::retryable(said)
                }
            };
            let answer = self.client.request(request).await.map_err(failed)?;
            let (head, body) = answer.into_parts();
            let read = Limited::new(body, ANSWER_BYTES).collect().await;
            let unread = |said| DeliverError::retryable(format!("the answer cannot be read: {said}"));
            let body = read.map_err(|error| unread(chain(&*error)))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let late = |_| DeliverError::retryable(format!("Slack took longer than {} s", TIMEOUT.as_secs()));
        tokio::time::timeout(TIMEOUT, asking).await.map_err(late)?
    }
}

impl fmt::Debug for SlackNotifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = match &self.target {
            Target::Api { endpoint, .. } => endpoint.host().unwrap_or_default(),
            Target::IncomingWebhook { .. } => "an incoming webhook",
        };
        formatter.debug_struct("SlackNotifier").field("target", &target).finish_non_exhaustive()
    }
}

/// Error of building a message.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("the request cannot be put together")]
    Request(#[from] http::Error),
}

#[async_trait::async_trait]
impl Notifier for SlackNotifier {
    fn channels(&self) -> &[Channel] {
        &[Channel::SLACK]
    }

    fn check(&self, _channel: Channel, recipient: &str) -> Result<(), String> {
        let name = recipient.strip_prefix('#').unwrap_or(recipient);
        let may_stand = |it: char| !it.is_whitespace() && !it.is_control() && !"#@<>&|,:;\"'`*".contains(it);
        if !name.is_empty() && name.chars().count() <= CHANNEL_CHARACTERS && name.chars().all(may_stand) {
            return Ok(());
        }
        Err("a channel such as #reports, or a channel's id, is expected".to_owned())
    }

    async fn deliver(&self, notification: &Notification) -> Result<(), DeliverError> {
        let request = self.request(notification).map_err(DeliverError::permanent)?;
        let answer = self.post(request).await?;
        match &self.target {
            Target::Api { .. } => answer::of_api(&answer, &self.masker),
            Target::IncomingWebhook { .. } => answer::of_incoming_webhook(&answer, &self.masker),
        }
    }
}

/// Parses a URL to which secrets may be sent: https, or http on this machine.
fn checked_url(text: &str) -> Result<Url, SlackOptionsError> {
    let url = Url::parse(text).map_err(|_| SlackOptionsError::Url)?;
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let is_safe = url.scheme() == "https" || url.scheme() == "http" && is_local;
    let is_bare = url.username().is_empty() && url.password().is_none();
    if is_safe && is_bare && url.query().is_none() && url.fragment().is_none() {
        return Ok(url);
    }
    Err(SlackOptionsError::Url)
}

fn endpoint_of(api: &str) -> Result<Uri, SlackOptionsError> {
    let api = checked_url(&format!("{}/", api.trim_end_matches('/')))?;
    uri(&api.join("chat.postMessage").map_err(|_| SlackOptionsError::Url)?)
}

fn uri(url: &Url) -> Result<Uri, SlackOptionsError> {
    url.as_str().parse().map_err(|_| SlackOptionsError::Url)
}

/// Cuts a text to the length of a section, between characters and never inside an escape sequence.
fn cut(text: &str) -> String {
    let Some((end, _)) = text.char_indices().nth(SECTION_CHARACTERS) else { return text.to_owned() };
    // An escape sequence has at most five characters, and the mark takes one.
    let kept = &text[..text.floor_char_boundary(end - 1)];
    let whole = match kept.rfind('&') {
        Some(start) if !kept[start..].contains(';') => &kept[..start],
        _ => kept,
    };
    let fitting: String = whole.chars().take(SECTION_CHARACTERS - 1).collect();
    format!("{fitting}…")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tests::{CANARY, hostile};

    #[test]
    fn a_message_has_a_section_a_link_and_a_text_without_control_characters() {
        let notifier = SlackNotifier::with_token("xoxb-canary").unwrap();
        let news = hostile(Channel::SLACK, "#ops");
        let message = notifier.message(&news).unwrap();
        assert_eq!(message["channel"], "#ops");
        assert!(!message["text"].as_str().unwrap().contains(['<', '>']), "{message}");
        let section = message["blocks"][0]["text"]["text"].as_str().unwrap();
        assert!(section.contains("&lt;!channel&gt;") && !section.contains('<'), "{section}");
        let link = message["blocks"][1]["text"]["text"].as_str().unwrap();
        let expected =
            format!("<https://app.example.com/panel#/report/sales/runs/{}|Open the run>", news.run.id());
        assert_eq!(link, expected);
        assert!(!message.to_string().contains(CANARY) && !message.to_string().contains("xoxb"));
        assert!(!format!("{notifier:?}").contains("xoxb"));
    }

    #[test]
    fn a_long_text_is_cut_where_nothing_is_torn() {
        for start in 0..6 {
            let text = format!("{}{}", "x".repeat(start), "&amp;é".repeat(2_000));
            let cut = cut(&text);
            assert!(cut.chars().count() <= SECTION_CHARACTERS && cut.ends_with('…'));
            let without = cut.replace("&amp;", "");
            assert!(!without.contains('&'), "{}", &cut[cut.len() - 20..]);
        }
        assert_eq!(cut("short"), "short");
    }

    #[test]
    fn secrets_go_over_https_or_to_this_machine() {
        let notifier = SlackNotifier::with_token("xoxb-1").unwrap();
        for good in ["https://slack.example.com/api", "http://127.0.0.1:9/api/", "http://localhost:9"] {
            assert!(notifier.clone().with_api(good).is_ok(), "{good}");
        }
        for bad in [
            "http://slack.example.com/api",
            "ftp://localhost",
            "https://u:p@example.com",
            "x",
            "https://a.b/?c",
        ] {
            assert!(notifier.clone().with_api(bad).is_err(), "{bad}");
        }
        for bad in ["", "xoxb 1", "xoxb\r\nX: y", "xoxé"] {
            assert!(SlackNotifier::with_token(bad).is_err(), "{bad:?}");
        }
        let error = SlackNotifier::with_incoming_webhook("http://hooks.example.com/canary").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
    }

    #[test]
    fn a_channel_is_a_name_or_an_id() {
        let notifier = SlackNotifier::with_token("xoxb-1").unwrap();
        for good in ["#reports", "reports-2", "C024BE91L", "#größe"] {
            assert!(notifier.check(Channel::SLACK, good).is_ok(), "{good}");
        }
        let long = "x".repeat(81);
        for bad in ["", "#", "@here", "#a b", "<!channel>", "#a,#b", "##a", "a\nb", long.as_str()] {
            assert!(notifier.check(Channel::SLACK, bad).is_err(), "{bad:?}");
        }
    }
}
