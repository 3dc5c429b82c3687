//! Messages in Slack, and what becomes of them when Slack does not take them.

use std::time::Duration;

use serde_json::{Value, json};
use webhook_core::Webhooks;
use webhook_core::memory::Step;
use webhook_core::notifier::DeliveryState;
use webhook_notify::slack::SlackNotifier;

use crate::house::{CANARY, House};
use crate::slack_server::{Answer, SlackServer};

const TOKEN: &str = "xoxb-canary-88";

async fn house_with(server: &SlackServer, on: &[&str]) -> House {
    let notifier = SlackNotifier::with_token(TOKEN).unwrap().with_api(&server.api()).unwrap();
    let settings = json!({"notifications": {"slack": {"channel": "#ops", "on": on}}});
    House::new(Webhooks::builder().notifier(notifier), settings).await
}

#[tokio::test]
async fn a_message_says_how_the_run_ended_and_mentions_nobody() {
    let server = SlackServer::start([]).await;
    let house = house_with(&server, &["failure"]).await;
    let quiet = house.start(json!({})).await;
    house.ended(quiet).await;
    house.executor.script_next([Step::FailFatal("<!channel> & more".to_owned())]);
    let run = house.start(json!({"region": "<https://evil.example|x>", "password": CANARY})).await;
    assert_eq!(house.settled(run).await[0].state, DeliveryState::Delivered);
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
    for secret in [CANARY, TOKEN, &house.token, "token="] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test]
async fn a_rate_limit_is_obeyed_and_a_passing_error_is_tried_again() {
    let answers = [Answer::RateLimited(2), Answer::Broken, Answer::Error("internal_error")];
    let server = SlackServer::start(answers).await;
    let house = house_with(&server, &["success"]).await;
    let run = house.start(json!({})).await;
    let delivery = house.settled(run).await.remove(0);
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Delivered, 4));
    let calls = server.calls(4).await;
    assert!(calls[1].at - calls[0].at >= Duration::from_secs(2), "{:?}", calls[1].at - calls[0].at);
    assert!(calls[3].at - calls[1].at < Duration::from_secs(2));
}

#[tokio::test]
async fn what_slack_refuses_for_good_is_given_up_at_once_and_can_be_sent_again() {
    let other = SlackServer::start([]).await;
    let redirect = Answer::Redirect(format!("{}/chat.postMessage", other.api()));
    for answer in [Answer::Error("channel_not_found"), Answer::Error("invalid_auth"), redirect] {
        let server = SlackServer::start([answer.clone()]).await;
        let house = house_with(&server, &["success"]).await;
        let run = house.start(json!({})).await;
        let delivery = house.settled(run).await.remove(0);
        assert_eq!((delivery.state, delivery.attempts), (DeliveryState::GivenUp, 1), "{answer:?}");
        let error = delivery.last_error.unwrap();
        match answer {
            Answer::Error(name) => assert!(error.contains(name), "{error}"),
            _ => assert!(error.contains("redirects are not followed"), "{error}"),
        }
        house.webhooks.manage().resend(delivery.id).await.unwrap();
        server.calls(2).await;
        assert_eq!(house.settled(run).await[0].state, DeliveryState::Delivered);
    }
    assert!(other.calls(0).await.is_empty(), "the token went to another host");
}

#[tokio::test]
async fn a_slow_answer_holds_up_no_run() {
    let server = SlackServer::start([Answer::Slow(Duration::from_secs(600))]).await;
    let house = house_with(&server, &["success"]).await;
    let start = std::time::Instant::now();
    let first = house.start(json!({})).await;
    server.calls(1).await;
    for _ in 0..20 {
        let run = house.start(json!({})).await;
        assert_eq!(house.settled(run).await[0].state, DeliveryState::Delivered);
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(house.webhooks.manage().deliveries(first).await.unwrap()[0].state, DeliveryState::Pending);
}

#[tokio::test]
async fn a_test_message_reaches_the_channel() {
    let server = SlackServer::start([]).await;
    let house = house_with(&server, &["success"]).await;
    let tested = house.webhooks.manage().test_notifications(house.webhook.id).await.unwrap();
    assert!(tested.iter().all(|tested| tested.outcome.is_ok()), "{tested:?}");
    server.answer_next(Answer::Error("not_in_channel"));
    let tested = house.webhooks.manage().test_notifications(house.webhook.id).await.unwrap();
    assert!(tested[0].to_string().contains("not_in_channel"), "{}", tested[0]);
    let message: Value = server.calls(1).await[0].message.clone();
    assert!(message["text"].as_str().unwrap().starts_with("Test: Sales"), "{message}");
}

#[tokio::test]
async fn an_incoming_webhook_takes_messages_too_and_its_url_is_said_nowhere() {
    let server = SlackServer::start([Answer::Broken]).await;
    let url = format!("http://{}/services/canary-url", server.address);
    let notifier = SlackNotifier::with_incoming_webhook(&url).unwrap();
    assert!(!format!("{notifier:?}").contains("canary-url"));
    let settings = json!({"notifications": {"slack": {"channel": "#ops", "on": ["success"]}}});
    let house = House::new(Webhooks::builder().notifier(notifier), settings).await;
    let run = house.start(json!({})).await;
    let delivery = house.settled(run).await.remove(0);
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Delivered, 2));
    let call = server.calls(2).await.remove(1);
    assert_eq!((call.path.as_str(), call.authorization), ("/services/canary-url", None));
    assert_eq!(call.message["channel"], Value::Null);
}
