//! Tests of a host: its service is built in tests as in production, with a store in memory and a clock that tests set.
//!
//! `cargo test --example test_your_host` runs them.

use std::io::Write;
use std::time::Duration;

use webhook_trigger::clock::{Clock, SystemClock};
use webhook_trigger::prelude::*;

/// The application under test: it prints reports, and tells people by mail.
async fn application(
    store: impl Store,
    mail: impl Notifier,
    clock: impl Clock,
    printer: impl Fn(&str) -> Result<(), std::io::Error> + Send + Sync + Clone + 'static,
) -> Result<Webhooks, Box<dyn std::error::Error>> {
    let region = ParameterBlock::new("region", ParameterType::Text).with_default("EMEA");
    let sales = Workflow::new("report/sales".parse()?, "Sales", ParameterBlocks::new(vec![region])?);
    let executor = FnExecutor::new([sales], move |context| {
        let printer = printer.clone();
        async move { print(&context, printer).await }
    });
    let builder = Webhooks::builder().store(store).executor(executor).notifier(mail).clock(clock);
    Ok(builder.token_key(TokenKey::generate()).build().await?)
}

#[derive(serde::Deserialize)]
struct Sales {
    region: String,
}

async fn print(
    context: &RunContext,
    printer: impl Fn(&str) -> Result<(), std::io::Error>,
) -> Result<RunOutput, ExecuteError> {
    let Sales { region } = context.parameters.parse()?;
    context.log(format!("printing {region}"));
    printer(&region).map_err(ExecuteError::retryable)?;
    tokio::select! {
        reason = context.cancellation.cancelled() => Err(ExecuteError::retryable(format!("{reason:?}"))),
        () = tokio::time::sleep(Duration::from_secs(60)) => Ok(RunOutput::new().with_summary(region)),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let server = Server::bind(address.parse()?).await?;
    let mail = SmtpNotifier::new(SmtpOptions::from_url("smtp://127.0.0.1:1025")?)?;
    let printer = |region: &str| writeln!(std::io::stdout(), "sold in {region}");
    let webhooks = application(SledStore::open("data/host")?, mail, SystemClock, printer).await?;
    let workers = webhooks.start_workers(WorkerOptions::default());
    let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    let routes = webhook_trigger::warp::service(webhook_trigger::warp::routes(&webhooks));
    server.serve(routes, webhooks.shutdown_on(interrupted)).await;
    workers.shutdown(Duration::from_secs(30)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;
    use webhook_testing::{RecordingNotifier, TestClock};
    use webhook_trigger::manage::ManagementError;
    use webhook_trigger::parameters::{EffectiveParameter, EffectiveParameters, Source};
    use webhook_trigger::run::Caller;
    use webhook_trigger::{RunId, RunState, Webhook};

    use super::*;

    /// The application with one webhook, and the parts that tests look at.
    struct Host {
        webhooks: Webhooks,
        webhook: Arc<Webhook>,
        mail: RecordingNotifier,
        clock: TestClock,
    }

    impl Host {
        /// Starts the application with a printer that fails this many times.
        async fn new(failures: usize, settings: serde_json::Value) -> Self {
            let (mail, clock, tries) =
                (RecordingNotifier::new(), TestClock::default(), Arc::new(AtomicUsize::new(0)));
            let printer = move |_: &str| match tries.fetch_add(1, Ordering::SeqCst) < failures {
                true => Err(io::Error::other("no paper")),
                false => Ok(()),
            };
            let webhooks =
                application(MemoryStore::new(), mail.clone(), clock.clone(), printer).await.unwrap();
            let settings = WebhookSettings::default().patched(&settings).unwrap();
            let created =
                webhooks.manage().create_webhook("report/sales".parse().unwrap(), settings).await.unwrap();
            Self { webhooks, webhook: created.webhook, mail, clock }
        }

        async fn start(&self) -> RunId {
            let started =
                self.webhooks.manage().start_run(self.webhook.id, json_map(), Caller::default()).await;
            started.unwrap().run.id()
        }

        async fn run(&self, id: RunId) -> Arc<Run> {
            self.webhooks.manage().get_run(id).await.unwrap()
        }
    }

    fn json_map() -> serde_json::Map<String, serde_json::Value> {
        serde_json::Map::from_iter([("region".to_owned(), json!("APAC"))])
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_is_printed_at_the_third_attempt_and_people_hear_of_it() {
        let settings = json!({
            "retries": {"max_attempts": 3},
            "notifications": {"email": {"recipients": ["ada@example.com"], "on": ["success", "failure"]}},
        });
        let host = Host::new(2, settings).await;
        let run = host.start().await;
        host.webhooks.run_until_idle().await.unwrap();
        let run = host.run(run).await;
        assert_eq!((run.state(), run.attempt(), run.summary()), (RunState::Succeeded, 3, Some("APAC")));
        assert_eq!(host.mail.delivered(1).await[0].recipient, "ada@example.com");
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_that_takes_too_long_times_out() {
        let host = Host::new(0, json!({"timeout_s": 30})).await;
        let run = host.start().await;
        host.webhooks.run_until_idle().await.unwrap();
        assert_eq!(host.run(run).await.state(), RunState::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_can_be_cancelled_while_it_is_printed() {
        let host = Host::new(0, json!({})).await;
        let run = host.start().await;
        // Workers as tasks, since a thread would not see the paused time.
        let workers = host.webhooks.start_workers(WorkerOptions::default().with_threads(false));
        while host.run(run).await.state() != RunState::Running {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        host.webhooks.manage().cancel_run(run).await.unwrap();
        let ended = host.webhooks.wait_for_end(run, Duration::from_secs(30)).await.unwrap().unwrap();
        assert_eq!(ended.state(), RunState::Cancelled);
        workers.shutdown(Duration::from_secs(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_is_forgotten_after_its_retention() {
        let host = Host::new(0, json!({"retention_days": 7})).await;
        let run = host.start().await;
        host.webhooks.run_until_idle().await.unwrap();
        host.clock.set(host.clock.now() + Duration::from_secs(8 * 86_400));
        host.webhooks.run_until_idle().await.unwrap();
        let gone = host.webhooks.manage().get_run(run).await;
        assert!(matches!(gone, Err(ManagementError::NotFound(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn the_executor_logs_what_it_prints() {
        let mut parameters = EffectiveParameters::new();
        parameters.insert("region", EffectiveParameter::new("EMEA", Source::Query));
        let run = RunId::generate(TestClock::default().now());
        let (context, reports) =
            RunContext::new(run, "report/sales".parse().unwrap(), 1, parameters).recorded();
        let output = print(&context, |_| Ok(())).await.unwrap();
        assert_eq!((output.summary.as_deref(), reports.log().as_str()), (Some("EMEA"), "printing EMEA\n"));
    }

    #[tokio::test]
    async fn a_call_over_http_is_answered_with_its_run() {
        let host = Host::new(0, json!({})).await;
        let url = host.webhooks.manage().get_url(host.webhook.id).await.unwrap();
        let path = url.expose().strip_prefix("http://localhost:8080").unwrap();
        let routes = webhook_trigger::warp::routes(&host.webhooks);
        let answer =
            warp::test::request().method("POST").path(&format!("{path}&region=APAC")).reply(&routes).await;
        assert_eq!(answer.status(), 202);
        let answer: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(
            host.run(answer["run_id"].as_str().unwrap().parse().unwrap()).await.state(),
            RunState::Queued
        );
    }
}
