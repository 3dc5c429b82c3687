//! A mail server that is down while a thousand runs end.
//!
//! The slowdown of the runs, as a ratio:
//!
//! ```sh
//! cargo test --release --test server -- --ignored --nocapture runs_are_no_slower
//! ```

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use webhook_core::Webhooks;
use webhook_core::WebhooksBuilder;
use webhook_core::run::RunState;
use webhook_core::work::WorkerOptions;
use webhook_notify::smtp::{SmtpNotifier, SmtpOptions};

use super::fixture::NotifyingFixture;
use super::mail_server::MailServer;
use webhook_testing::python;

const RUNS: usize = 1_000;

/// Returns a port without a listener.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn builder(port: u16) -> WebhooksBuilder {
    let options = SmtpOptions::from_url(&format!("smtp://127.0.0.1:{port}")).unwrap();
    Webhooks::builder().notifier(SmtpNotifier::new(options).unwrap())
}

fn settings() -> serde_json::Value {
    json!({"notifications": {"email": {"recipients": ["a@example.com"], "on": ["success"]}}})
}

/// Measures a thousand runs under the default options of a host.
async fn measured(port: u16) -> Duration {
    let fixture = NotifyingFixture::with_options(builder(port), settings(), WorkerOptions::default()).await;
    let (_, took) = thousand(&fixture).await;
    fixture.workers.shutdown(Duration::from_secs(1)).await;
    took
}

/// Starts a thousand runs and waits for their ends. Returns their deliveries' message ids, and the duration.
async fn thousand(fixture: &NotifyingFixture) -> (BTreeSet<String>, Duration) {
    let start = Instant::now();
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(fixture.start(json!({})).await);
    }
    for run in &runs {
        assert_eq!(fixture.ended(*run).await.state(), RunState::Succeeded);
    }
    let took = start.elapsed();
    let mut ids = BTreeSet::new();
    for run in runs {
        let deliveries = fixture.webhooks.manage().list_deliveries(run).await.unwrap();
        ids.extend(deliveries.iter().map(|delivery| format!("{}@localhost", delivery.id)));
    }
    (ids, took)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_runs_end_while_the_mail_server_is_down_and_every_mail_arrives_later() {
    let Some(python) = python("notifications", &["aiosmtpd"]) else { return };
    let port = free_port();
    let fixture = NotifyingFixture::new(builder(port), settings()).await;
    let (expected, took) = thousand(&fixture).await;
    assert_eq!(expected.len(), RUNS);
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(fixture.webhooks.health().await.unwrap().pending_deliveries, RUNS as u64);
    let server = MailServer::start(&python, port, &[]);
    let arrived: BTreeSet<String> =
        server.mails(RUNS).await.into_iter().map(|mail| mail.message_id).collect();
    assert_eq!(arrived, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures; see the head of this file"]
async fn runs_are_no_slower() {
    let Some(python) = python("notifications", &["aiosmtpd"]) else { return };
    let mut ratios = Vec::new();
    for _ in 0..5 {
        let server = MailServer::start(&python, 0, &[]);
        let up = measured(server.port).await;
        drop(server);
        let down = measured(free_port()).await;
        ratios.push(down.as_secs_f64() / up.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    eprintln!("{RUNS} runs with the mail server down take {:.2} times as long as with it up", ratios[2]);
}
