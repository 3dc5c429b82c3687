//! Tests of messages in Slack, and of Slack's refusals.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection};
use serde_json::{Value, json};
use tracing_subscriber::filter::LevelFilter;
use webhook_core::Webhooks;
use webhook_core::notifier::DeliveryState;
use webhook_notify::slack::SlackNotifier;
use webhook_testing::Step;

use super::fixture::{CANARY, NotifyingFixture};
use super::outage::free_port;
use super::slack_server::{Answer, SlackServer};

const TOKEN: &str = "xoxb-canary-88";

async fn fixture_with(server: &SlackServer, on: &[&str]) -> NotifyingFixture {
    let notifier = SlackNotifier::with_token(TOKEN).unwrap().with_api(&server.api()).unwrap();
    let settings = json!({"notifications": {"slack": {"channel": "#ops", "on": on}}});
    NotifyingFixture::new(Webhooks::builder().notifier(notifier), settings).await
}

#[tokio::test]
async fn a_message_says_how_the_run_ended_and_mentions_nobody() {
    let server = SlackServer::start([]).await;
    let fixture = fixture_with(&server, &["failure"]).await;
    let quiet = fixture.start(json!({})).await;
    fixture.ended(quiet).await;
    fixture.executor.script_next([Step::FailFatal("<!channel> & more".to_owned())]);
    let run = fixture.start(json!({"note": "<https://evil.example|x>", "password": CANARY})).await;
    assert_eq!(fixture.settled(run).await[0].state, DeliveryState::Delivered);
    let calls = server.calls(1).await;
    assert_eq!(calls.len(), 1, "the success was not asked for");
    let call = &calls[0];
    assert_eq!(call.path, "/api/chat.postMessage");
    assert_eq!(call.authorization.as_deref(), Some("Bearer xoxb-canary-88"));
    assert_eq!((&call.message["channel"], &call.message["text"]), (&json!("#ops"), &json!("Sales failed")));
    let text = call.message["blocks"][0]["text"]["text"].as_str().unwrap();
    assert!(text.contains("&lt;!channel&gt; &amp; more") && !text.contains('<'), "{text}");
    assert!(text.contains("password = ***"), "{text}");
    let link = call.message["blocks"][1]["text"]["text"].as_str().unwrap();
    assert_eq!(link, format!("<https://app.example.com/hooks/panel#/report/sales/runs/{run}|Open the run>"));
    let said = call.message.to_string();
    for secret in [CANARY, TOKEN, &fixture.token, "token="] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test]
async fn a_rate_limit_is_obeyed_and_a_passing_error_is_tried_again() {
    let answers = [Answer::RateLimited(2), Answer::Broken, Answer::Error("internal_error")];
    let server = SlackServer::start(answers).await;
    let fixture = fixture_with(&server, &["success"]).await;
    let run = fixture.start(json!({})).await;
    let delivery = fixture.settled(run).await.remove(0);
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Delivered, 4));
    let calls = server.calls(4).await;
    assert!(calls[1].at - calls[0].at >= Duration::from_secs(2), "{:?}", calls[1].at - calls[0].at);
    assert!(calls[3].at - calls[1].at < Duration::from_secs(2));
}

#[tokio::test]
async fn what_slack_refuses_for_good_is_given_up_at_once_and_can_be_sent_again() {
    for answer in [Answer::Error("channel_not_found"), Answer::Error("msg_too_long")] {
        let server = SlackServer::start([answer.clone()]).await;
        let fixture = fixture_with(&server, &["success"]).await;
        let run = fixture.start(json!({})).await;
        let delivery = fixture.settled(run).await.remove(0);
        assert_eq!((delivery.state, delivery.attempts), (DeliveryState::GivenUp, 1), "{answer:?}");
        let error = delivery.last_error.unwrap();
        assert!(matches!(answer, Answer::Error(name) if error.contains(name)), "{error}");
        fixture.webhooks.manage().resend_delivery(delivery.id).await.unwrap();
        server.calls(2).await;
        assert_eq!(fixture.settled(run).await[0].state, DeliveryState::Delivered);
    }
}

#[tokio::test]
async fn messages_wait_while_the_token_or_the_address_is_refused_and_go_out_once_it_is_accepted() {
    let other = SlackServer::start([]).await;
    let redirect = Answer::Redirect(format!("{}/chat.postMessage", other.api()));
    for answer in [Answer::Error("invalid_auth"), Answer::Error("token_revoked"), redirect] {
        let server = SlackServer::start([answer.clone(), answer.clone()]).await;
        let fixture = fixture_with(&server, &["success"]).await;
        let (first, second) = (fixture.start(json!({})).await, fixture.start(json!({})).await);
        let delivered = fixture.settled(first).await.remove(0);
        assert_eq!(delivered.state, DeliveryState::Delivered, "{answer:?}");
        assert_eq!(fixture.settled(second).await[0].state, DeliveryState::Delivered, "{answer:?}");
    }
    assert!(other.calls(0).await.is_empty(), "the token went to another host");
}

#[tokio::test]
async fn a_slow_answer_holds_up_no_run() {
    let server = SlackServer::start([Answer::Slow(Duration::from_secs(600))]).await;
    let fixture = fixture_with(&server, &["success"]).await;
    let start = std::time::Instant::now();
    let first = fixture.start(json!({})).await;
    server.calls(1).await;
    for _ in 0..20 {
        let run = fixture.start(json!({})).await;
        assert_eq!(fixture.settled(run).await[0].state, DeliveryState::Delivered);
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(
        fixture.webhooks.manage().list_deliveries(first).await.unwrap()[0].state,
        DeliveryState::Pending
    );
}

#[tokio::test]
async fn a_test_message_reaches_the_channel() {
    let server = SlackServer::start([]).await;
    let fixture = fixture_with(&server, &["success"]).await;
    let tested = fixture.webhooks.manage().test_notifications(fixture.webhook.id).await.unwrap();
    assert!(tested.iter().all(|tested| tested.outcome.is_ok()), "{tested:?}");
    server.answer_next(Answer::Error("not_in_channel"));
    let tested = fixture.webhooks.manage().test_notifications(fixture.webhook.id).await.unwrap();
    assert!(tested[0].to_string().contains("not_in_channel"), "{}", tested[0]);
    let message: Value = server.calls(1).await[0].message.clone();
    assert!(message["text"].as_str().unwrap().starts_with("Test: Sales"), "{message}");
}

async fn fixture_behind(url: &str) -> NotifyingFixture {
    let notifier = SlackNotifier::with_incoming_webhook(url).unwrap();
    assert!(!format!("{notifier:?}").contains("canary-url"));
    let settings = json!({"notifications": {"slack": {"channel": "#ops", "on": ["success"]}}});
    NotifyingFixture::new(Webhooks::builder().notifier(notifier), settings).await
}

#[tokio::test]
async fn an_incoming_webhook_takes_messages_too() {
    let server = SlackServer::start([Answer::Broken]).await;
    let fixture = fixture_behind(&format!("http://{}/services/canary-url", server.address)).await;
    let run = fixture.start(json!({})).await;
    let delivery = fixture.settled(run).await.remove(0);
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Delivered, 2));
    let call = server.calls(2).await.remove(1);
    assert_eq!((call.path.as_str(), call.authorization), ("/services/canary-url", None));
    assert_eq!(call.message["channel"], Value::Null);
}

#[tokio::test]
async fn the_url_of_an_incoming_webhook_is_in_no_log_and_no_error() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let writer = Arc::new(log.reopen().unwrap());
    let subscriber =
        tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(writer).finish();
    // The subscriber of this thread, on which this whole test runs.
    let logging = tracing::subscriber::set_default(subscriber);
    let redirect = Answer::Redirect("https://elsewhere.example/services/canary-url".to_owned());
    let answers = [
        Answer::Said(404, "no_service: canary-url"),
        Answer::Said(400, "POST /services/canary-url failed"),
        redirect,
    ];
    let mut errors = Vec::new();
    let mut tell = async |address: String| {
        let fixture = fixture_behind(&format!("http://{address}/services/canary-url")).await;
        let run = fixture.start(json!({})).await;
        let tried = fixture.deliveries_when(run, |delivery| delivery.last_error.is_some()).await;
        errors.extend(tried.into_iter().filter_map(|delivery| delivery.last_error));
        fixture.workers.shutdown(Duration::from_secs(1)).await;
    };
    // Each answer comes from its own server, since the first may delay a second message.
    for answer in answers {
        let server = SlackServer::start([answer]).await;
        tell(server.address.to_string()).await;
    }
    tell(format!("127.0.0.1:{}", free_port())).await;
    drop(logging);
    let log = std::fs::read_to_string(log.path()).unwrap();
    assert!(errors[2].contains("redirects are not followed"), "{errors:?}");
    assert!(log.contains("TRACE") && log.contains("hyper"), "the client's own log is there");
    assert!(errors[0].contains("404") && errors[0].contains("no_service: ***"), "{errors:?}");
    assert!(!log.contains("canary-url"), "{:?}", log.lines().find(|line| line.contains("canary-url")));
    assert!(!errors.concat().contains("canary-url"), "{errors:?}");
}

/// Starts a TLS server with a self-signed certificate, which records the data that it receives once the
/// connection is secure.
fn untrusted_server() -> (u16, Arc<Mutex<Vec<u8>>>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config =
        Arc::new(config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, told) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let noted = told.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::Stream::new(&mut connection, &mut stream);
            let mut said = [0; 4_096];
            if let Ok(length) = std::io::Read::read(&mut stream, &mut said) {
                noted.lock().extend_from_slice(&said[..length]);
            }
        }
    });
    (port, told)
}

#[tokio::test]
async fn a_server_that_cannot_prove_to_be_slack_is_told_nothing() {
    let (port, told) = untrusted_server();
    let notifier = SlackNotifier::with_token(TOKEN).unwrap();
    let notifier = notifier.with_api(&format!("https://localhost:{port}/api")).unwrap();
    let settings = json!({"notifications": {"slack": {"channel": "#ops", "on": ["success"]}}});
    let fixture = NotifyingFixture::new(Webhooks::builder().notifier(notifier), settings).await;
    let run = fixture.start(json!({})).await;
    let delivery = fixture.deliveries_when(run, |delivery| delivery.attempts > 1).await.remove(0);
    assert_eq!(delivery.state, DeliveryState::Pending);
    let error = delivery.last_error.unwrap();
    assert!(error.contains("certificate") && !error.contains(TOKEN), "{error}");
    assert!(told.lock().is_empty(), "{:?}", String::from_utf8_lossy(&told.lock()));
}
