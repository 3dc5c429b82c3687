//! Tests of the outbox: which recipients delay others, when deliveries are tried again, and how many there
//! may be.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use webhook_core::Webhooks;
use webhook_core::manage::ManagementError;
use webhook_core::notifier::{DeliverError, DeliveryState, Notification, Notifier};
use webhook_core::retry::RetryPolicy;
use webhook_core::run::RunState;
use webhook_core::webhook::{Channel, SettingCode, WebhookSettings};
use webhook_core::work::WorkerOptions;
use webhook_testing::{Fixture, RecordingNotifier, TestClock};

use super::panics::Untellable;

/// Notifier for mail that fails as the start of a recipient's address says.
///
/// `dead` never returns, `slow` takes three seconds, `minute` nearly a minute. `panics` panics, and
/// `untellable` returns an error whose `Display` panics.
#[derive(Clone)]
pub(super) struct Mail {
    failures: Arc<Mutex<VecDeque<DeliverError>>>,
    pub(super) is_down: Arc<AtomicBool>,
    tried: watch::Sender<Vec<(String, Instant)>>,
}

impl Mail {
    pub(super) fn new(failures: impl IntoIterator<Item = DeliverError>) -> Self {
        let failures = Arc::new(Mutex::new(failures.into_iter().collect()));
        Self { failures, is_down: Arc::default(), tried: watch::Sender::new(Vec::new()) }
    }

    /// Waits for the first `count` tries to reach addresses with this start, and returns their times.
    pub(super) async fn tried(&self, start: &str, count: usize) -> Vec<Instant> {
        let of = |tries: &Vec<(String, Instant)>| -> Vec<Instant> {
            tries.iter().filter(|(to, _)| to.starts_with(start)).map(|(_, at)| *at).collect()
        };
        let mut tried = self.tried.subscribe();
        let tried = tried.wait_for(|tries| of(tries).len() >= count);
        of(&tried.await.unwrap())
    }
}

#[async_trait::async_trait]
impl Notifier for Mail {
    fn channels(&self) -> &[Channel] {
        &[Channel::EMAIL]
    }

    fn check(&self, _channel: Channel, recipient: &str) -> Result<(), String> {
        if recipient.ends_with("@example.com") { Ok(()) } else { Err("not of this fixture".to_owned()) }
    }

    async fn deliver(&self, notification: &Notification) -> Result<(), DeliverError> {
        let to = notification.recipient.clone();
        self.tried.send_modify(|tried| tried.push((to, Instant::now())));
        let recipient = notification.recipient.split('@').next().unwrap_or_default();
        match recipient {
            "slow" => tokio::time::sleep(Duration::from_secs(3)).await,
            "minute" => tokio::time::sleep(Duration::from_secs(59)).await,
            "panics" => panic!("as the test says"),
            "untellable" => return Err(DeliverError::retryable(Untellable)),
            _ if recipient.starts_with("dead") => std::future::pending().await,
            _ => {}
        }
        if self.is_down.load(Ordering::SeqCst) {
            return Err(DeliverError::unreachable("connection refused"));
        }
        let failure = self.failures.lock().pop_front();
        failure.map_or(Ok(()), Err)
    }
}

fn options() -> WorkerOptions {
    WorkerOptions::default().with_threads(false)
}

fn mail_to(recipients: &[&str]) -> serde_json::Value {
    json!({"notifications": {
        "email": {"recipients": recipients, "on": ["success"]}, "slack": {"channel": "#ops", "on": ["success"]},
    }})
}

async fn fixture_with(mail: &Mail, recipients: &[&str]) -> Fixture {
    Fixture::with_builder(Webhooks::builder().notifier(mail.clone()), mail_to(recipients)).await
}

#[tokio::test(start_paused = true)]
async fn one_dead_recipient_holds_up_no_other() {
    let mail = Mail::new([]);
    let fixture = fixture_with(&mail, &["dead@example.com", "alive@example.com"]).await;
    let start = Instant::now();
    let workers = fixture.webhooks.start_workers(options());
    for _ in 0..200 {
        fixture.trigger("").await;
    }
    let alive = mail.tried("alive", 200).await;
    // A delivery of the kind of a slow recipient may wait for one lease. Without the limit, this takes 12
    // minutes.
    assert!(alive[199] - start < Duration::from_secs(60), "{:?}", alive[199] - start);
    fixture.notifier.delivered(200).await;
    assert!(start.elapsed() < Duration::from_secs(60));
    workers.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_mail_server_that_never_answers_does_not_hold_up_slack() {
    let mail = Mail::new([]);
    let recipients: Vec<String> = (0..50).map(|number| format!("dead{number}@example.com")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let fixture = fixture_with(&mail, &recipients).await;
    let start = Instant::now();
    let workers = fixture.webhooks.start_workers(options());
    for _ in 0..100 {
        fixture.trigger("").await;
    }
    fixture.notifier.delivered(100).await;
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    workers.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn the_pause_that_the_other_side_asks_for_is_kept_within_a_day() {
    let ask = |seconds| DeliverError::Retryable {
        source: "come again later".into(),
        after: Some(Duration::from_secs(seconds)),
    };
    let mail = Mail::new([ask(500), ask(u64::MAX), DeliverError::retryable("busy")]);
    let fixture = fixture_with(&mail, &["a@example.com"]).await;
    let workers = fixture.webhooks.start_workers(options());
    fixture.trigger("").await;
    let tried = mail.tried("a", 4).await;
    let pauses: Vec<u64> = tried.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert!((500..510).contains(&pauses[0]), "{pauses:?}");
    assert!((86_400..86_410).contains(&pauses[1]), "{pauses:?}");
    assert!((32..=41).contains(&pauses[2]), "the third pause has grown from 10 s, less jitter: {pauses:?}");
    workers.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_is_tried_for_about_two_days_and_then_given_up() {
    let mail = Mail::new((0..1_000).map(|_| DeliverError::retryable("connection refused")));
    let fixture = fixture_with(&mail, &["a@example.com"]).await;
    let start = Instant::now();
    let run = fixture.trigger("").await;
    fixture.webhooks.run_until_idle().await.unwrap();
    let days = start.elapsed().as_secs_f64() / 86_400.0;
    assert!((1.5..2.5).contains(&days), "{days} days");
    let deliveries = fixture.webhooks.manage().list_deliveries(run.id()).await.unwrap();
    let mail = deliveries.iter().find(|delivery| delivery.channel == Channel::EMAIL).unwrap();
    assert_eq!((mail.state, mail.attempts), (DeliveryState::GivenUp, 55));
    assert_eq!(mail.last_error.as_deref(), Some("connection refused"));
    assert_eq!(fixture.run(run.id()).await.state(), RunState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_takes_no_more_and_what_it_refused_can_be_sent_again() {
    let mail = Mail::new((0..1_000).map(|_| DeliverError::retryable("connection refused")));
    let settings = json!({"notifications": {"email": {
        "recipients": ["a@example.com", "b@example.com", "c@example.com"], "on": ["success"],
    }}});
    let fixture = Fixture::with_builder(Webhooks::builder().notifier(mail.clone()), settings).await;
    let forever = RetryPolicy::new(u32::MAX).with_base(Duration::from_secs(3_600));
    let options = options().with_outbox_limit(10).with_delivery_retries(forever);
    let workers = fixture.webhooks.start_workers(options);
    let mut runs = Vec::new();
    for _ in 0..20 {
        let run = fixture.trigger("").await;
        assert_eq!(fixture.ended(run.id()).await.state(), RunState::Succeeded);
        runs.push(run.id());
    }
    assert_eq!(fixture.webhooks.health().await.unwrap().pending_deliveries, 10);
    let refused = fixture.webhooks.manage().list_deliveries(runs[19]).await.unwrap();
    assert_eq!(refused.len(), 3, "what was not sent is shown");
    for delivery in &refused {
        assert_eq!((delivery.state, delivery.attempts), (DeliveryState::GivenUp, 0));
        assert!(delivery.last_error.as_ref().unwrap().contains("outbox was full"));
    }
    mail.failures.lock().clear();
    let before = mail.tried("", 10).await.len();
    fixture.webhooks.manage().resend_delivery(refused[0].id).await.unwrap();
    mail.tried("", before + 1).await;
    workers.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn an_hour_without_the_mail_server_costs_few_tries_and_its_end_is_noticed_soon() {
    const RUNS: usize = 1_500;
    let mail = Mail::new([]);
    let fixture = fixture_with(&mail, &["a@example.com"]).await;
    mail.is_down.store(true, Ordering::SeqCst);
    let workers = fixture.webhooks.start_workers(options());
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(fixture.trigger("").await.id());
    }
    fixture.notifier.delivered(RUNS).await;
    let first_minute = {
        tokio::time::sleep(Duration::from_secs(60)).await;
        mail.tried("a", 1).await.len()
    };
    assert!((3..40).contains(&first_minute), "{first_minute} tries in the first minute");
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let tries = mail.tried("a", 1).await.len();
    assert!((200..320).contains(&tries), "{tries} tries in an hour, one about every 15 s");
    mail.is_down.store(false, Ordering::SeqCst);
    let back = Instant::now();
    let mut late = 0;
    tokio::time::sleep(Duration::from_secs(150)).await;
    for run in runs {
        for delivery in fixture.webhooks.manage().list_deliveries(run).await.unwrap() {
            assert!(delivery.attempts < 20 && delivery.state != DeliveryState::GivenUp, "{delivery:?}");
            late += usize::from(delivery.state == DeliveryState::Pending && delivery.attempts == 0);
        }
    }
    assert_eq!(late, 0, "all that was never tried has gone out {:?} after the end", back.elapsed());
    workers.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_deliveries_wait_empties_the_outbox_and_what_was_dropped_can_be_sent_again() {
    const RUNS: usize = 300;
    let mail = Mail::new([]);
    mail.is_down.store(true, Ordering::SeqCst);
    let settings = json!({"notifications": {"email": {"recipients": ["a@example.com"], "on": ["success"]}}});
    let builder = Webhooks::builder().notifier(mail.clone()).clock(TestClock::default());
    let fixture = Fixture::with_builder(builder, settings).await;
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let workers = fixture.webhooks.start_workers(options().with_delivery_expiry(minutes(30)));
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let run = fixture.trigger("").await;
        fixture.ended(run.id()).await;
        runs.push(run.id());
    }
    tokio::time::sleep(minutes(28)).await;
    assert_eq!(fixture.webhooks.health().await.unwrap().pending_deliveries, RUNS as u64);
    // Deliveries that were tried wait for their own pause.
    tokio::time::sleep(minutes(2 + 60 + 3)).await;
    assert_eq!(fixture.webhooks.health().await.unwrap().pending_deliveries, 0);
    let mut untried = Vec::new();
    for run in runs {
        let delivery = fixture.webhooks.manage().list_deliveries(run).await.unwrap().remove(0);
        assert_eq!(delivery.state, DeliveryState::GivenUp);
        assert!(
            delivery.last_error.as_ref().unwrap().contains("connection refused") || delivery.attempts == 0
        );
        if delivery.last_error.as_ref().unwrap().contains("waited too long") {
            untried.push(delivery);
        }
    }
    let again = untried.iter().find(|delivery| delivery.attempts == 0).expect("some were never tried");
    mail.is_down.store(false, Ordering::SeqCst);
    fixture.webhooks.manage().resend_delivery(again.id).await.unwrap();
    tokio::time::sleep(minutes(1)).await;
    let sent = fixture.webhooks.manage().list_deliveries(again.run).await.unwrap().remove(0);
    assert_eq!((sent.state, sent.attempts), (DeliveryState::Delivered, 1));
    workers.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_to_a_slow_recipient_is_not_dropped_however_old_it_is() {
    let mail = Mail::new([]);
    let builder = Webhooks::builder().notifier(mail.clone()).clock(TestClock::default());
    let fixture = Fixture::with_builder(builder, mail_to(&["dead@example.com"])).await;
    let workers = fixture.webhooks.start_workers(options().with_delivery_expiry(Duration::ZERO));
    let mut runs = Vec::new();
    for _ in 0..40 {
        runs.push(fixture.trigger("").await.id());
    }
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    for run in runs {
        let deliveries = fixture.webhooks.manage().list_deliveries(run).await.unwrap();
        assert!(deliveries.iter().all(|delivery| delivery.state != DeliveryState::GivenUp), "{deliveries:?}");
    }
    workers.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_test_message_to_a_dead_address_keeps_the_others_waiting_for_one_time_out_only() {
    let mail = Mail::new([]);
    let fixture = fixture_with(&mail, &["dead1@example.com", "dead2@example.com", "a@example.com"]).await;
    let start = Instant::now();
    let tested = fixture.webhooks.manage().test_notifications(fixture.webhook.id).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(61), "{:?}", start.elapsed());
    let reached: Vec<_> = tested.iter().map(|tested| tested.outcome.is_ok()).collect();
    assert_eq!(reached, [false, false, true, true]);
    assert_eq!(tested[2].notification.run_url, None, "there is no run to look at");
}

#[tokio::test(start_paused = true)]
async fn a_test_message_opens_few_connections_at_once_and_leaves_nobody_out() {
    let recipients: Vec<String> = (0..50).map(|number| format!("dead{number}@example.com")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let fixture = fixture_with(&Mail::new([]), &recipients).await;
    let start = Instant::now();
    let tested = fixture.webhooks.manage().test_notifications(fixture.webhook.id).await.unwrap();
    assert!(start.elapsed() <= Duration::from_secs(121), "{:?}", start.elapsed());
    assert_eq!(tested.len(), 51);
    let not_tried = |tested: &&webhook_core::manage::TestedNotification| {
        tested.outcome.as_ref().is_err_and(|error| error.to_string().contains("not tried"))
    };
    assert!(tested.iter().filter(not_tried).count() >= 50 - 16, "those whose turn did not come say so");
}

#[tokio::test(start_paused = true)]
async fn a_message_links_to_a_run_only_where_the_host_says_so() {
    for (run_url, expected) in [(false, None), (true, Some("https://intranet.example/runs/report/sales"))] {
        let builder = Webhooks::builder().notifier(Mail::new([]));
        let page =
            |run: &webhook_core::run::Run| Some(format!("https://intranet.example/runs/{}", run.workflow()));
        let builder = if run_url { builder.run_url(page) } else { builder };
        let settings = json!({"notifications": {"slack": {"channel": "#ops", "on": ["success"]}}});
        let fixture = Fixture::with_builder(builder, settings).await;
        fixture.trigger("").await;
        fixture.webhooks.run_until_idle().await.unwrap();
        let told = fixture.notifier.delivered(1).await;
        assert_eq!(told[0].run_url.as_deref(), expected);
    }
}

#[tokio::test]
async fn a_recipient_that_the_notifier_refuses_is_a_problem_by_name() {
    let fixture = fixture_with(&Mail::new([]), &["a@example.com"]).await;
    let settings = WebhookSettings::default()
        .patched(&mail_to(&["a@example.com", "b@example.org", "c@example.com"]))
        .unwrap();
    let created = fixture.webhooks.manage().create_webhook("report/sales".parse().unwrap(), settings).await;
    let Err(webhook_core::manage::ManagementError::Settings(problems)) = created else {
        panic!("not refused: {created:?}")
    };
    let named: Vec<_> = problems.iter().map(|problem| (problem.field.as_str(), problem.code)).collect();
    assert_eq!(named, [("notifications.email.recipients[1]", SettingCode::Invalid)]);
}

/// Notifier of a channel that only this host has.
struct Teams(RecordingNotifier);

const TEAMS: Channel = Channel::new("teams");

#[async_trait::async_trait]
impl Notifier for Teams {
    fn channels(&self) -> &[Channel] {
        &[TEAMS]
    }

    fn check(&self, _channel: Channel, recipient: &str) -> Result<(), String> {
        if recipient == "ops" { Ok(()) } else { Err("no such team".to_owned()) }
    }

    async fn deliver(&self, notification: &Notification) -> Result<(), DeliverError> {
        self.0.deliver(notification).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_of_the_hosts_own_has_settings_deliveries_and_problems_of_its_name() {
    let teams = RecordingNotifier::new();
    let builder = Webhooks::builder().notifier(Teams(teams.clone()));
    let to = |recipients: &[&str]| json!({"notifications": {"teams": {"recipients": recipients, "on": ["success"]}}});
    let fixture = Fixture::with_own_notifiers(builder, to(&["ops"])).await;
    let wire = serde_json::to_value(&fixture.webhook.settings).unwrap();
    assert_eq!(wire["notifications"]["teams"], to(&["ops"])["notifications"]["teams"]);
    let run = fixture.trigger("").await.id();
    fixture.webhooks.run_until_idle().await.unwrap();
    let told = teams.delivered(1).await;
    assert_eq!((told[0].channel, told[0].recipient.as_str(), told[0].run.id()), (TEAMS, "ops", run));
    let delivery = &fixture.webhooks.manage().list_deliveries(run).await.unwrap()[0];
    assert_eq!((delivery.channel, delivery.state), (TEAMS, DeliveryState::Delivered));

    let (manage, id) = (fixture.webhooks.manage(), fixture.webhook.id);
    for (patch, code, field) in [
        (to(&["ops", "nobody"]), SettingCode::Invalid, "notifications.teams.recipients[1]"),
        (to(&[]), SettingCode::OutOfRange, "notifications.teams.recipients"),
        (to(&["ops", "ops"]), SettingCode::Invalid, "notifications.teams.recipients"),
        (
            json!({"notifications": {"pager": {"recipients": ["a"], "on": ["failure"]}}}),
            SettingCode::IntegrationMissing,
            "notifications.pager",
        ),
        (json!({"notifications": {"No name": {}}}), SettingCode::Unknown, "notifications.No name"),
    ] {
        let Err(ManagementError::Settings(problems)) = manage.update_webhook(id, &patch, None).await else {
            panic!("{patch} is accepted")
        };
        let found: Vec<_> = problems.iter().map(|problem| (problem.code, problem.field.as_str())).collect();
        assert_eq!(found, [(code, field)], "{patch}");
    }
    let webhook = manage.update_webhook(id, &json!({"notifications": {"teams": null}}), None).await.unwrap();
    assert!(webhook.settings.notifications.others.is_empty());
}
