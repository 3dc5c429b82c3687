//! Tests of the routers in hosts with routes, state and layers of their own.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, FromRef, MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_service::Service;
use webhook_axum::{AdminAccess, PanelOptions};
use webhook_core::Webhooks;
use webhook_core::executor::Workflow;
use webhook_core::memory::MemoryStore;
use webhook_core::run::RunState;
use webhook_core::store::RunQuery;
use webhook_core::work::WorkerOptions;
use webhook_testing::ScriptedExecutor;

#[derive(Clone)]
struct App {
    webhooks: Webhooks,
    password: &'static str,
}

impl FromRef<App> for Webhooks {
    fn from_ref(app: &App) -> Self {
        app.webhooks.clone()
    }
}

async fn webhooks(base: &str) -> Webhooks {
    let sales = Workflow::new("report/sales".parse().unwrap(), "Sales", Default::default());
    let builder = Webhooks::builder().store(MemoryStore::new()).executor(ScriptedExecutor::new(vec![sales]));
    builder.base_url(base.parse().unwrap()).build().await.unwrap()
}

/// Creates a webhook, and returns the path and query of its URL.
async fn hook(webhooks: &Webhooks) -> String {
    let created =
        webhooks.manage().create_webhook("report/sales".parse().unwrap(), Default::default()).await.unwrap();
    created.url.expose().strip_prefix("http://trigger.example").unwrap().to_owned()
}

async fn send(app: &mut Router, request: Request) -> (StatusCode, String) {
    let response: Response = app.call(request).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap())
}

fn get_request(path: &str) -> Request {
    Request::get(path).header("host", "trigger.example").body(Body::empty()).unwrap()
}

fn post(path: &str) -> Request {
    Request::post(path).body(Body::empty()).unwrap()
}

async fn signed_in(State(app): State<App>, request: Request, next: Next) -> Response {
    let is_signed_in = request.headers().get("x-password").is_some_and(|given| given == app.password);
    if is_signed_in { next.run(request).await } else { (StatusCode::FORBIDDEN, "sign in").into_response() }
}

#[tokio::test]
async fn a_host_keeps_its_state_its_fallback_and_its_sign_in_before_panel_and_management() {
    let webhooks = webhooks("http://trigger.example").await;
    let path = hook(&webhooks).await;
    let app = App { webhooks: webhooks.clone(), password: "sesame" };
    let guarded = webhook_axum::management_routes(&webhooks, AdminAccess::Open)
        .merge(webhook_axum::panel_routes(&PanelOptions::default().without_sign_in()))
        .route_layer(from_fn_with_state(app.clone(), signed_in));
    let own = async |State(webhooks): State<Webhooks>| {
        webhooks.manage().list_runs(RunQuery::default()).await.unwrap().items.len().to_string()
    };
    let mut host = Router::new()
        .route("/api/v1/{team}/members", get(async || "members"))
        .route("/runs", get(own))
        .merge(webhook_axum::routes(&webhooks))
        .merge(guarded)
        .fallback(async || (StatusCode::NOT_FOUND, "the host's own answer"))
        .with_state(app);
    assert_eq!(send(&mut host, post(&path)).await.0, StatusCode::ACCEPTED);
    assert_eq!(send(&mut host, get_request("/runs")).await.1, "1");
    assert_eq!(send(&mut host, get_request("/api/v1/report/members")).await.1, "members");
    assert_eq!(send(&mut host, get_request("/api/v1/table/sales/webhook")).await.1, "the host's own answer");
    for path in ["/panel", "/panel/", "/panel/main.js", "/admin/api/v1/webhooks"] {
        assert_eq!(send(&mut host, get_request(path)).await.1, "sign in", "{path}");
        let mut request = get_request(path);
        request.headers_mut().insert("x-password", "sesame".parse().unwrap());
        let status = send(&mut host, request).await.0;
        let expected = if path == "/panel/" { StatusCode::PERMANENT_REDIRECT } else { StatusCode::OK };
        assert_eq!(status, expected, "{path}");
    }
    // A route layer leaves unknown paths to the host.
    assert_eq!(send(&mut host, get_request("/admin/api/v1/nothing")).await.1, "the host's own answer");
}

#[tokio::test]
async fn layers_see_the_template_of_a_path_and_runs_the_address_of_the_connection() {
    let webhooks = webhooks("http://trigger.example").await;
    let path = hook(&webhooks).await;
    let note = async |path: MatchedPath, request: Request, next: Next| {
        let mut response = next.run(request).await;
        response.headers_mut().insert("x-path", path.as_str().parse().unwrap());
        response
    };
    let routes = webhook_axum::routes(&webhooks).route_layer(from_fn(note));
    let mut host: Router = Router::new().nest("/hooks", routes);
    let mut call = post(&format!("/hooks{path}"));
    let address: SocketAddr = ([192, 0, 2, 7], 1_234).into();
    call.extensions_mut().insert(ConnectInfo(address));
    let response: Response = host.call(call).await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    assert_eq!(response.headers()["x-path"], "/hooks/api/v1/report/{workflow_id}/webhook");
    let runs = webhooks.manage().list_runs(RunQuery::default()).await.unwrap().items;
    assert_eq!(runs[0].caller().address, Some(address.ip()));
}

#[tokio::test]
async fn two_services_in_one_process_share_nothing() {
    let (first, second) =
        (webhooks("http://trigger.example/a").await, webhooks("http://trigger.example/b").await);
    let (own, other) = (hook(&first).await, hook(&second).await);
    assert!(own.starts_with("/a/api/") && other.starts_with("/b/api/"));
    let mut host: Router = Router::new()
        .nest("/a", webhook_axum::all_routes(&first, AdminAccess::Open))
        .nest("/b", webhook_axum::all_routes(&second, AdminAccess::Open));
    assert_eq!(send(&mut host, post(&own)).await.0, StatusCode::ACCEPTED);
    assert_eq!(send(&mut host, post(&own.replacen("/a/", "/b/", 1))).await.0, StatusCode::UNAUTHORIZED);
    let runs = async |webhooks: &Webhooks| {
        let runs = webhooks.manage().list_runs(RunQuery::default()).await.unwrap().items;
        runs.iter().map(|run| run.state()).collect::<Vec<_>>()
    };
    // Workers of the one execute no run of the other.
    second.run_until_idle().await.unwrap();
    assert_eq!((runs(&first).await, runs(&second).await), (vec![RunState::Queued], vec![]));
    first.run_until_idle().await.unwrap();
    assert_eq!(runs(&first).await, [RunState::Succeeded]);
    // One that stops leaves the other alone.
    first.stop_accepting();
    assert_eq!(send(&mut host, post(&own)).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(send(&mut host, post(&other)).await.0, StatusCode::ACCEPTED);
    let workers = second.start_workers(WorkerOptions::default());
    let run = second.manage().list_runs(RunQuery::default()).await.unwrap().items[0].id();
    let ended = second.wait_for_end(run, std::time::Duration::from_secs(20)).await.unwrap().unwrap();
    assert_eq!(ended.state(), RunState::Succeeded);
    workers.shutdown(std::time::Duration::from_secs(20)).await;
}
