//! A service with example workflows, served with its panel.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use warp::http::{StatusCode, Uri};
use warp::path::FullPath;
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};
use webhook_core::Webhooks;
use webhook_core::executor::{
    ArtifactContent, ExecuteError, Executor, ExecutorError, RunContext, RunOutput, Workflow, WorkflowPage,
};
use webhook_core::id::{RunId, WebhookId, WorkflowKey};
use webhook_core::memory::MemoryStore;
use webhook_core::network::Networks;
use webhook_core::notifier::{DeliverError, Notification, Notifier};
use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType};
use webhook_core::run::Artifact;
use webhook_core::token::TokenKey;
use webhook_core::webhook::{Channel, WebhookSettings};
use webhook_core::work::{WorkerOptions, Workers};
use webhook_testing::RecordingNotifier;
use webhook_warp::server::{Served, Server};
use webhook_warp::{AdminAccess, PanelOptions};

pub(crate) const ADMIN: &str = "the-admin-token-of-32-characters";
/// Text that sets a flag on the page if it is ever interpreted as markup.
pub(crate) const HOSTILE: &str =
    "<img src=x onerror=\"top.pwned=1\"><script>top.pwned=1</script>'\"{{7*7}}${{x}}javascript:top.pwned=1";

/// The host's own form.
const FORM: &str = "<!doctype html><title>Host</title><h1>The sign-in form of the host</h1>";

/// How a host with a sign-in of its own answers requests to the API without a session.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    Redirect,
    EmptyUnauthorized,
    Form,
}

/// True while the host's session is alive.
type Session = Arc<Mutex<bool>>;

/// Ways in which a page can reach other servers or leave.
const WAYS_OUT: &str = "<link rel=stylesheet href=/way-out/style><iframe src=/way-out/frame></iframe>\
     <img src=/way-out/image><meta http-equiv=refresh content='0;url=/way-out/refresh'>\
     <object data=/way-out/object></object><script src=/way-out/script></script>\
     <input autofocus onfocus='top.pwned=1'>";

pub(crate) struct World {
    pub(crate) base: String,
    pub(crate) webhooks: Webhooks,
    pub(crate) notifier: RecordingNotifier,
    /// Every requested path.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    pub(crate) session: Session,
    _workers: Option<Workers>,
    server: JoinHandle<Served>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(Offices { hostile: false }, None, Networks::default(), None).await
    }

    /// Serves with another base URL than the address at which the panel is opened, as behind a proxy.
    pub(crate) async fn behind(base_url: &str) -> Self {
        Self::with(Offices { hostile: false }, Some(base_url), Networks::default(), None).await
    }

    /// Serves behind a proxy on the same machine, which is trusted.
    pub(crate) async fn behind_trusted_proxy() -> Self {
        let trusted = Networks::new(vec!["127.0.0.0/8".parse().unwrap()]);
        Self::with(Offices { hostile: false }, None, trusted, None).await
    }

    /// Serves with a hostile workflow.
    pub(crate) async fn hostile() -> Self {
        Self::with(Offices { hostile: true }, None, Networks::default(), None).await
    }

    /// Serves behind the host's own sign-in.
    pub(crate) async fn behind_own_sign_in(refusal: Refusal) -> Self {
        Self::with(Offices { hostile: false }, None, Networks::default(), Some(refusal)).await
    }

    async fn with(
        offices: Offices,
        base_url: Option<&str>,
        trusted: Networks,
        refusal: Option<Refusal>,
    ) -> Self {
        let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let base = format!("http://{}", server.local_address().unwrap());
        let notifier = RecordingNotifier::new();
        let webhooks = Webhooks::builder()
            .store(MemoryStore::new())
            .executor(offices)
            .notifier(MailOnly(notifier.clone()))
            .token_key(TokenKey::generate())
            .base_url(base_url.unwrap_or(&base).parse().unwrap())
            .trusted_proxies(trusted)
            .build()
            .await
            .unwrap();
        let workers = Some(webhooks.start_workers(WorkerOptions::default()));
        let (access, options) = match refusal {
            Some(_) => (AdminAccess::Open, PanelOptions::default().without_sign_in()),
            None => (AdminAccess::token(ADMIN).unwrap(), PanelOptions::default()),
        };
        let session = Session::new(Mutex::new(true));
        let routes =
            webhook_warp::all_routes(&webhooks, access).or(webhook_warp::panel_routes(&options)).unify();
        let routes = own_sign_in(session.clone(), refusal).or(routes).unify();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let note = asked.clone();
        let noted = warp::log::custom(move |info| note.lock().push(info.path().to_owned()));
        let routes = routes.or(webhook_warp::not_found()).unify().with(noted);
        let server = tokio::spawn(server.serve(webhook_warp::service(routes), std::future::pending()));
        Self { base, webhooks, notifier, asked, session, _workers: workers, server }
    }

    pub(crate) async fn hook(&self, workflow: &str, settings: Value) -> WebhookId {
        let settings = WebhookSettings::default().patched(&settings).unwrap();
        let created =
            self.webhooks.manage().create_webhook(workflow.parse().unwrap(), settings).await.unwrap();
        created.webhook.id
    }

    pub(crate) async fn start_run(&self, webhook: WebhookId, parameters: Value) -> RunId {
        let Value::Object(parameters) = parameters else { panic!("an object") };
        self.webhooks.manage().start_run(webhook, parameters, Default::default()).await.unwrap().run.id()
    }

    pub(crate) async fn ended(&self, run: RunId) {
        self.webhooks.wait_for_end(run, Duration::from_secs(30)).await.unwrap();
    }
}

/// Answers for the routes while there is no session: the page leads to the form.
fn own_sign_in(
    session: Session,
    refusal: Option<Refusal>,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    warp::path::full().and_then(move |path: FullPath| {
        let form = || warp::reply::html(FORM).into_response();
        let to_form = || warp::redirect::see_other(Uri::from_static("/sign-in")).into_response();
        let is_page = path.as_str() == "/panel";
        let is_api = path.as_str().starts_with("/admin/");
        let answer = match (refusal, *session.lock()) {
            (Some(_), _) if path.as_str() == "/sign-in" => Some(form()),
            (Some(_), false) if is_page => Some(to_form()),
            (Some(Refusal::Redirect), false) if is_api => Some(to_form()),
            (Some(Refusal::EmptyUnauthorized), false) if is_api => {
                Some(StatusCode::UNAUTHORIZED.into_response())
            }
            (Some(Refusal::Form), false) if is_api => Some(form()),
            _ => None,
        };
        std::future::ready(answer.ok_or_else(warp::reject::not_found))
    })
}

/// A host with a mail server and without Slack.
struct MailOnly(RecordingNotifier);

#[async_trait::async_trait]
impl Notifier for MailOnly {
    fn channels(&self) -> &[Channel] {
        &[Channel::EMAIL]
    }

    fn check(&self, channel: Channel, recipient: &str) -> Result<(), String> {
        self.0.check(channel, recipient)
    }

    async fn deliver(&self, notification: &Notification) -> Result<(), DeliverError> {
        self.0.deliver(notification).await
    }
}

/// Workflows of an office, and a hostile one.
struct Offices {
    hostile: bool,
}

impl Offices {
    fn workflows(&self) -> impl Iterator<Item = Arc<Workflow>> {
        let wanted = |workflow: &Workflow| self.hostile || workflow.title != HOSTILE;
        workflows().into_iter().filter(wanted).map(Arc::new)
    }
}

fn workflows() -> Vec<Workflow> {
    let daily = ParameterBlocks::new(vec![
        ParameterBlock::new("date", ParameterType::Date)
            .with_default("2026-01-14")
            .with_description("The day to report on"),
        ParameterBlock::new("region", ParameterType::Choice)
            .with_choices(["EMEA", "APAC", "AMER"])
            .with_default("EMEA"),
        ParameterBlock::new("rows", ParameterType::Integer).with_default(20),
        ParameterBlock::new("password", ParameterType::Text).secret(),
    ]);
    let training = ParameterBlocks::new(vec![
        ParameterBlock::new("epochs", ParameterType::Integer).required(),
        ParameterBlock::new("rate", ParameterType::Number).with_default(0.01),
        ParameterBlock::new("shuffle", ParameterType::Boolean),
        ParameterBlock::new("until", ParameterType::Datetime),
        ParameterBlock::new("layers", ParameterType::List),
        ParameterBlock::new("options", ParameterType::Json),
        ParameterBlock::new("note", ParameterType::Text),
        ParameterBlock::new("day", ParameterType::Date),
    ]);
    let hostile = ParameterBlocks::new(vec![
        ParameterBlock::new("note", ParameterType::Text).with_default(HOSTILE).with_description(HOSTILE),
        ParameterBlock::new(HOSTILE, ParameterType::Choice).with_choices([HOSTILE]).with_default(HOSTILE),
    ]);
    let workflow = |key: &str, title: &str, blocks| Workflow::new(key.parse().unwrap(), title, blocks);
    vec![
        workflow("report/daily-sales", "Daily sales", daily.unwrap()),
        workflow("report/hostile", HOSTILE, hostile.unwrap()),
        workflow("report/stock", "Stock levels", ParameterBlocks::default()),
        workflow("notebook/training", "Train the forecast", training.unwrap()),
    ]
}

#[async_trait::async_trait]
impl Executor for Offices {
    async fn list(&self, _cursor: Option<String>) -> Result<WorkflowPage, ExecutorError> {
        Ok(WorkflowPage::last(self.workflows().collect()))
    }

    async fn describe(&self, key: &WorkflowKey) -> Result<Option<Arc<Workflow>>, ExecutorError> {
        Ok(self.workflows().find(|workflow| workflow.key == *key))
    }

    async fn execute(&self, context: RunContext) -> Result<RunOutput, ExecuteError> {
        match context.workflow.id.as_str() {
            "daily-sales" => daily_sales(context).await,
            "training" => training(context).await,
            "hostile" => Ok(hostile(&context)),
            _ => Err(ExecuteError::fatal("the warehouse database refused the connection")),
        }
    }

    async fn artifact(&self, _run: RunId, name: &str) -> Result<Option<ArtifactContent>, ExecutorError> {
        let (content_type, text) = match name {
            "sales.csv" => ("text/csv", "product,units\nLamp,12\n".to_owned()),
            "sales.html" => ("text/html; charset=utf-8", PAGE.to_owned()),
            _ => ("text/html; charset=utf-8", format!("{HOSTILE}{WAYS_OUT}<p id=reached>It was shown</p>")),
        };
        Ok(Some(ArtifactContent::Bytes { content_type: content_type.to_owned(), bytes: text.into_bytes() }))
    }

    async fn discard(&self, _runs: &[RunId]) -> Result<(), ExecutorError> {
        Ok(())
    }
}

const PAGE: &str = "<!doctype html><title>Sales</title><style>h1 { color: rgb(1, 2, 3) }</style>\
     <h1 style='letter-spacing: 3px'>Sales in EMEA</h1>";

async fn daily_sales(context: RunContext) -> Result<RunOutput, ExecuteError> {
    for step in 1..=4 {
        context.progress(f64::from(step) / 4.0, format!("step {step} of 4"));
        context.log(format!("step {step}: read {} rows", step * 5));
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let artifacts = [("sales.html", "text/html; charset=utf-8", PAGE.len()), ("sales.csv", "text/csv", 23)];
    let output = RunOutput::new().with_summary("20 rows for EMEA on 2026-01-14");
    let add =
        |output: RunOutput, (name, kind, size)| output.with_artifact(Artifact::new(name, kind, size as u64));
    Ok(artifacts.into_iter().fold(output, add))
}

/// Runs until it is cancelled.
async fn training(context: RunContext) -> Result<RunOutput, ExecuteError> {
    for epoch in 1..=6 {
        context.log(format!("epoch {epoch}: loss {:.4}", 2.0 / f64::from(epoch)));
    }
    context.progress(0.62, "epoch 7 of 10");
    context.cancellation.cancelled().await;
    Err(ExecuteError::fatal("stopped"))
}

fn hostile(context: &RunContext) -> RunOutput {
    context.log(HOSTILE);
    context.log("x".repeat(1_000_000));
    RunOutput::new().with_summary(HOSTILE).with_artifact(Artifact::new(
        "evil.html",
        "text/html; charset=utf-8",
        300,
    ))
}

/// Returns the address of a run's page.
pub(crate) fn run_hash(workflow: &str, run: RunId) -> String {
    format!("#/{workflow}/runs/{run}")
}

/// Returns the parameters of a call, one of them secret.
pub(crate) fn parameters() -> Value {
    json!({"region": "APAC", "password": "hunter2-canary"})
}
