//! An axum application with state, pages and a sign-in of its own, to which webhooks were added.
//!
//! The webhooks added `Sales`, `webhooks`, the field `App::webhooks` and the second half of `routes`.

#![allow(clippy::print_stdout, reason = "it prints the URL to call")]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Form, FromRef, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use parking_lot::Mutex;
use webhook_trigger::executor::{ArtifactContent, ExecutorError, WorkflowPage};
use webhook_trigger::id::{RunId, WorkflowKey};
use webhook_trigger::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let webhooks = webhooks(SledStore::open("data/axum_host")?, "http://127.0.0.1:8080").await?;
    let workers = webhooks.start_workers(WorkerOptions::default());
    let app = App::new("open sesame", webhooks.clone());
    let server = Server::bind(([127, 0, 0, 1], 8080).into()).await?;
    println!("sign in at http://127.0.0.1:8080/sign-in with the password \"open sesame\"");
    let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    server.serve(routes(app), webhooks.shutdown_on(interrupted)).await;
    workers.shutdown(Duration::from_secs(30)).await;
    webhooks.close().await;
    Ok(())
}

/// State of the application.
#[derive(Clone)]
pub(crate) struct App {
    password: &'static str,
    sessions: Arc<Mutex<HashSet<String>>>,
    webhooks: Webhooks,
}

impl App {
    /// Creates the state of an application without sessions.
    pub(crate) fn new(password: &'static str, webhooks: Webhooks) -> Self {
        Self { password, sessions: Arc::default(), webhooks }
    }
}

/// Lets handlers extract `State<Webhooks>`.
impl FromRef<App> for Webhooks {
    fn from_ref(app: &App) -> Self {
        app.webhooks.clone()
    }
}

/// Returns all routes: those of the application, and those of the webhooks below `/hooks`.
pub(crate) fn routes(app: App) -> Router {
    let own = Router::new()
        .route("/", get(async || Html("<a href=\"/reports\">Reports</a>")))
        .route("/sign-in", get(sign_in_page).post(sign_in));
    let own_guarded = Router::new()
        .route("/reports", get(reports))
        .route_layer(from_fn_with_state(app.clone(), only_signed_in));

    // Callers bring the token of a webhook. People are signed in already, so the panel asks for no token.
    let callers = webhook_trigger::axum::routes(&app.webhooks);
    let people = webhook_trigger::axum::management_routes(&app.webhooks, AdminAccess::Open)
        .merge(webhook_trigger::axum::panel_routes(&PanelOptions::default().without_sign_in()))
        .route_layer(from_fn_with_state(app.clone(), only_signed_in));

    own.merge(own_guarded).nest("/hooks", callers.merge(people)).with_state(app)
}

/// Builds the webhooks of the application, which is reached at `origin`.
pub(crate) async fn webhooks(
    store: impl Store,
    origin: &str,
) -> Result<Webhooks, Box<dyn std::error::Error>> {
    let blocks = ParameterBlocks::new(vec![
        ParameterBlock::new("region", ParameterType::Choice)
            .with_choices(["APAC", "EMEA"])
            .with_default("EMEA"),
    ])?;
    let sales = Arc::new(Workflow::new("report/sales".parse()?, "Sales", blocks));
    // The prefix below which `routes` nests them.
    let base_url: url::Url = format!("{origin}/hooks").parse()?;
    let panel = base_url.clone();
    let builder = Webhooks::builder()
        .store(store)
        .executor(Sales { workflow: sales })
        .run_url(move |run| Some(webhook_trigger::panel::panel_run_url(&panel, run)))
        .base_url(base_url);
    Ok(builder.build().await?)
}

/// Executor of the one report of the application.
struct Sales {
    workflow: Arc<Workflow>,
}

#[async_trait::async_trait]
impl Executor for Sales {
    async fn list(&self, _cursor: Option<String>) -> Result<WorkflowPage, ExecutorError> {
        Ok(WorkflowPage::last(vec![self.workflow.clone()]))
    }

    async fn describe(&self, key: &WorkflowKey) -> Result<Option<Arc<Workflow>>, ExecutorError> {
        Ok((*key == self.workflow.key).then(|| self.workflow.clone()))
    }

    async fn execute(&self, context: RunContext) -> Result<RunOutput, ExecuteError> {
        let region =
            context.parameters.get("region").and_then(|region| region.value.as_str()).unwrap_or_default();
        for quarter in 1..=4 {
            // A cancelled run ends between two steps.
            if context.cancellation.is_cancelled() {
                return Err(ExecuteError::fatal("stopped before all quarters were read"));
            }
            context.progress(f64::from(quarter) / 4.0, format!("quarter {quarter} of {region}"));
            tokio::task::yield_now().await;
        }
        Ok(RunOutput::new().with_summary(format!("Sales of {region}")))
    }

    async fn artifact(&self, _run: RunId, _name: &str) -> Result<Option<ArtifactContent>, ExecutorError> {
        Ok(None)
    }

    async fn discard(&self, _runs: &[RunId]) -> Result<(), ExecutorError> {
        Ok(())
    }
}

/// Shows the latest runs, as a page of the application's own.
async fn reports(State(webhooks): State<Webhooks>) -> Result<Html<String>, StatusCode> {
    let runs = webhooks.manage().list_runs(Default::default()).await;
    let runs = runs.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?.items;
    let rows: String =
        runs.iter().map(|run| format!("<li>{} {}</li>", run.workflow(), run.state().as_str())).collect();
    Ok(Html(format!("<ul>{rows}</ul><a href=\"/hooks/panel\">Manage webhooks</a>")))
}

async fn sign_in_page() -> Html<&'static str> {
    Html("<form method=post><input name=password type=password autofocus><button>Sign in</button></form>")
}

/// Begins a session. Other sites cannot send its cookie (`SameSite`), and no script can read it (`HttpOnly`).
async fn sign_in(State(app): State<App>, Form(fields): Form<HashMap<String, String>>) -> Response {
    if fields.get("password").is_none_or(|password| password != app.password) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let session = format!("{:032x}", rand::random::<u128>());
    app.sessions.lock().insert(session.clone());
    let cookie = format!("session={session}; Path=/; HttpOnly; SameSite=Lax");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/hooks/panel")).into_response()
}

/// Lets requests of signed-in people pass.
async fn only_signed_in(
    State(app): State<App>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    let cookies = headers.get(header::COOKIE).and_then(|cookies| cookies.to_str().ok()).unwrap_or_default();
    let session = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("session="));
    if session.is_some_and(|session| app.sessions.lock().contains(session)) {
        next.run(request).await
    } else {
        Redirect::to("/sign-in").into_response()
    }
}
