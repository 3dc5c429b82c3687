//! A whole service over a real socket: in-memory store, scripted executor, recording notifier, real HTTP client.

#![allow(dead_code, reason = "each file of tests is a crate that uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

pub(crate) mod description;

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use webhook_core::Webhooks;
use webhook_core::executor::Workflow;
use webhook_core::id::{RunId, WebhookId};
use webhook_core::memory::MemoryStore;
use webhook_core::parameters::{ParameterBlock, ParameterBlocks, ParameterType};
use webhook_core::run::Run;
use webhook_core::token::TokenKey;
use webhook_core::webhook::WebhookSettings;
use webhook_core::work::{WorkerOptions, Workers};
use webhook_core::{ServiceOptions, WebhooksBuilder};
use webhook_testing::{RecordingNotifier, ScriptedExecutor};

use crate::front::server::{Served, Server, ServerOptions};
use crate::front::{self, AdminAccess};
use crate::support::description::Description;

pub(crate) const ADMIN: &str = "the-admin-token-of-32-characters";
/// An id that belongs to nothing.
pub(crate) const NOBODY: &str = "0198c5a0-7e6b-7aaa-8bbb-0123456789ab";

pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) base: String,
    pub(crate) client: Client,
    pub(crate) webhooks: Webhooks,
    pub(crate) store: MemoryStore,
    pub(crate) executor: ScriptedExecutor,
    pub(crate) notifier: RecordingNotifier,
    workers: Option<Workers>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<Served>>,
}

/// A webhook with its URL.
pub(crate) struct Hook {
    pub(crate) id: WebhookId,
    pub(crate) url: String,
}

impl Hook {
    pub(crate) fn token(&self) -> &str {
        self.url.split_once("token=").unwrap().1
    }

    pub(crate) fn bare(&self) -> &str {
        self.url.split_once('?').unwrap().0
    }

    pub(crate) fn with(&self, query: &str) -> String {
        format!("{}&{query}", self.url)
    }
}

fn workflows() -> Vec<Workflow> {
    let blocks = ParameterBlocks::new(vec![
        ParameterBlock::new("region", ParameterType::Choice)
            .with_choices(["EMEA", "APAC"])
            .with_default("EMEA")
            .with_description("Which part of the world"),
        ParameterBlock::new("count", ParameterType::Integer),
        ParameterBlock::new("password", ParameterType::Text).secret(),
    ]);
    let sales = Workflow::new("report/sales".parse().unwrap(), "Sales", blocks.unwrap());
    let train = Workflow::new("notebook/train".parse().unwrap(), "Training", ParameterBlocks::default());
    vec![sales, train]
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|builder| builder, ServerOptions::default(), true).await
    }

    /// Starts a world without workers: runs stay queued.
    pub(crate) async fn start_idle() -> Self {
        Self::start_with(|builder| builder, ServerOptions::default(), false).await
    }

    /// Starts a world without workers, with room for a queue of 1 GiB.
    pub(crate) async fn start_idle_with_room() -> Self {
        let room = ServiceOptions::default().with_queue_bytes(1 << 30, 1 << 30);
        Self::start_with(|builder| builder.options(room), ServerOptions::default(), false).await
    }

    pub(crate) async fn start_with(
        change: impl FnOnce(WebhooksBuilder) -> WebhooksBuilder,
        options: ServerOptions,
        work: bool,
    ) -> Self {
        let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap().with_options(options);
        let address = server.local_address().unwrap();
        let base = format!("http://{address}");
        let (store, notifier) = (MemoryStore::new(), RecordingNotifier::new());
        let executor = ScriptedExecutor::new(workflows());
        let builder = Webhooks::builder()
            .store(store.clone())
            .executor(executor.clone())
            .notifier(notifier.clone())
            .token_key(TokenKey::generate())
            .base_url(base.parse().unwrap());
        let webhooks = change(builder).build().await.unwrap();
        let workers = work.then(|| webhooks.start_workers(WorkerOptions::default()));
        let (stop, stopped) = oneshot::channel();
        let routes = front::all_routes(&webhooks, AdminAccess::token(ADMIN).unwrap());
        let metrics = front::metrics_route(&webhooks, String::new);
        let routes = front::with_not_found(front::joined(routes, metrics));
        let server = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            front::serve(server, routes, stopped).await
        });
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        let (stop, server) = (Some(stop), Some(server));
        Self { address, base, client, webhooks, store, executor, notifier, workers, stop, server }
    }

    /// Tells the server to shut down, without waiting for it.
    pub(crate) fn tell_to_stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// Waits until the server has shut down.
    pub(crate) async fn served(&mut self) -> Served {
        self.server.take().unwrap().await.unwrap()
    }

    pub(crate) async fn hook(&self, settings: Value) -> Hook {
        self.hook_of("report/sales", settings).await
    }

    pub(crate) async fn hook_of(&self, workflow: &str, settings: Value) -> Hook {
        let settings = WebhookSettings::default().patched(&settings).unwrap();
        let created =
            self.webhooks.manage().create_webhook(workflow.parse().unwrap(), settings).await.unwrap();
        Hook { id: created.webhook.id, url: created.url.expose().to_owned() }
    }

    pub(crate) fn get(&self, url: &str) -> RequestBuilder {
        self.client.get(url)
    }

    pub(crate) fn post(&self, url: &str) -> RequestBuilder {
        self.client.post(url)
    }

    /// Builds a request to a management path, with the admin token.
    pub(crate) fn admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}/admin/api/v1{path}", self.base)).bearer_auth(ADMIN)
    }

    pub(crate) async fn run(&self, accepted: &Value) -> std::sync::Arc<Run> {
        let id: RunId = accepted["run_id"].as_str().unwrap().parse().unwrap();
        self.webhooks.manage().get_run(id).await.unwrap()
    }

    /// Returns the run of an accepted call as its managers see it.
    pub(crate) async fn managed_run(&self, accepted: &Value) -> Value {
        let run = accepted["run_id"].as_str().unwrap();
        content(self.admin(Method::GET, &format!("/runs/{run}")).send().await.unwrap(), 200).await
    }

    /// Returns the number of all runs.
    pub(crate) async fn runs(&self) -> usize {
        self.webhooks.manage().list_runs(Default::default()).await.unwrap().items.len()
    }

    /// Waits for a run's end.
    pub(crate) async fn ended(&self, accepted: &Value) -> std::sync::Arc<Run> {
        let id: RunId = accepted["run_id"].as_str().unwrap().parse().unwrap();
        self.webhooks.wait_for_end(id, Duration::from_secs(20)).await.unwrap().unwrap()
    }

    /// Replaces each value that differs from run to run by its kind.
    pub(crate) fn settled(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.settled_text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.settled(item)).collect(),
            Value::Object(members) => members
                .into_iter()
                .map(|(name, value)| {
                    let hidden = name == "token_hint" && value.is_string();
                    let value = if hidden { json!("HINT") } else { self.settled(value) };
                    (name, value)
                })
                .collect(),
            other => other,
        }
    }

    fn settled_text(&self, text: &str) -> String {
        let mut text = text.replace(&self.base, "BASE");
        while let Some(start) = text.find("whk_") {
            text.replace_range(start..start + 53, "TOKEN");
        }
        let id = |start: usize, text: &str| {
            text.get(start..start + 36).is_some_and(|part| part.parse::<RunId>().is_ok())
        };
        while let Some(start) = (0..text.len()).find(|start| id(*start, &text)) {
            text.replace_range(start..start + 36, "ID");
        }
        let form = "dddd-dd-ddTdd:dd:dd.dddZ";
        let is_time = text.len() == form.len()
            && text.bytes().zip(form.bytes()).all(|(byte, form)| match form {
                b'd' => byte.is_ascii_digit(),
                other => byte == other,
            });
        if is_time { "TIME".to_owned() } else { text }
    }
}

/// Returns the body of an answer that must have this status.
pub(crate) async fn content(response: Response, status: u16) -> Value {
    let present = response.status().as_u16();
    let (path, headers) = (response.url().path().to_owned(), response.headers().clone());
    let text = response.text().await.unwrap();
    Description::shared().check_any(&path, present, &headers, &text);
    assert_eq!(present, status, "{text}");
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
}

/// Checks that an answer is this problem in every respect, and returns its body.
pub(crate) async fn problem(response: Response, status: u16, slug: &str) -> Value {
    for (name, value) in [
        ("content-type", "application/problem+json"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(response.headers()[name], value, "{name}");
    }
    assert!(response.headers().contains_key("x-request-id"));
    let content = content(response, status).await;
    assert_eq!(content["type"], format!("urn:webhook:problem:{slug}"));
    assert_eq!(content["status"], status);
    assert!(content["title"].is_string() && content["detail"].is_string());
    assert!(!content.to_string().contains("whk_"));
    content
}

/// Sends bytes as they are, and reads until the other side closes.
pub(crate) async fn raw(address: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    for piece in pieces {
        stream.write_all(piece).await.unwrap();
    }
    read_all(&mut stream).await
}

pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is no loss.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Returns the fields that a problem names, with their codes.
pub(crate) fn named(problem: &Value) -> Vec<(&str, &str)> {
    let errors = problem["errors"].as_array().unwrap();
    errors.iter().map(|error| (error["field"].as_str().unwrap(), error["code"].as_str().unwrap())).collect()
}
