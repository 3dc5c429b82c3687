//! A folder with workflows and a database, and the servers that run on it in turn.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Process;

/// Ports below those that systems give to outgoing connections.
///
/// While the port is free between two servers, a caller that tries to reach it must not be given it.
const PORTS: std::ops::Range<u16> = 18_000..32_000;

/// Arguments of the servers, and the data that outlives them.
pub(crate) struct Scene {
    folder: TempDir,
    port: u16,
    arguments: Vec<String>,
    client: Client,
}

/// A run as the management API returns it.
#[derive(Debug, Clone)]
pub(crate) struct RunRecord {
    pub(crate) id: String,
    /// Idempotency key, which the callers send as a parameter too.
    pub(crate) key: Option<String>,
    pub(crate) workflow: String,
    pub(crate) state: String,
    pub(crate) attempt: u64,
    pub(crate) interruptions: u64,
    pub(crate) error_kind: Option<String>,
}

impl Scene {
    /// Creates a folder with workflows, each by its id and the TOML of its execution.
    ///
    /// `FOLDER` in the TOML stands for the folder of [`file`](Self::file).
    pub(crate) fn new(workflows: &[(&str, &str)], arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let declared = folder.path().join("workflows");
        std::fs::create_dir(&declared).unwrap();
        for (id, action) in workflows {
            let action = action.replace("FOLDER", folder.path().to_str().unwrap());
            let text = format!("kind = \"report\"\nid = \"{id}\"\ntitle = \"{id}\"\n\n{action}\n");
            std::fs::write(declared.join(format!("{id}.toml")), text).unwrap();
        }
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { folder, port: free_port(), arguments, client: client() }
    }

    /// Returns the path of a file that workflows and the test share.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a server without waiting for it.
    pub(crate) fn spawn(&self) -> Process {
        let (data, workflows) = (self.file("data"), self.file("workflows"));
        let listen = format!("127.0.0.1:{}", self.port);
        let text = |path: &'_ Path| path.to_str().unwrap().to_owned();
        let mut arguments =
            vec!["--data".to_owned(), text(&data), "--workflows".to_owned(), text(&workflows)];
        arguments.extend(["--listen".to_owned(), listen, "--log".to_owned(), "warn".to_owned()]);
        arguments.extend(self.arguments.iter().cloned());
        Process::spawn(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts a server and waits until it has announced itself.
    pub(crate) fn start(&self) -> Process {
        let mut process = self.spawn();
        process.greeting();
        process
    }

    /// Creates a webhook and returns its URL, which stays valid for every later server.
    pub(crate) async fn webhook(&self, workflow: &str) -> String {
        let body = json!({"workflow": {"kind": "report", "id": workflow}});
        let (status, created) = self.admin(Method::POST, "/webhooks", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{created}");
        created["url"].as_str().unwrap().to_owned()
    }

    /// Calls the management API.
    async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let token = std::fs::read_to_string(self.file("data/admin.token")).unwrap();
        let url = format!("http://127.0.0.1:{}/admin/api/v1{path}", self.port);
        let request = self.client.request(method, url).bearer_auth(token.trim());
        let request = if let Some(body) = body { request.json(&body) } else { request };
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// Returns one page of the list of runs.
    async fn page(&self, query: &str) -> Value {
        let (status, page) = self.admin(Method::GET, &format!("/runs?limit=200{query}"), None).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        page
    }

    /// Returns every recorded run.
    pub(crate) async fn runs(&self) -> Vec<RunRecord> {
        let mut runs = Vec::new();
        let mut page = self.page("").await;
        loop {
            runs.extend(page["items"].as_array().unwrap().iter().map(RunRecord::read));
            let Some(cursor) = page["next_cursor"].as_str() else { return runs };
            page = self.page(&format!("&cursor={cursor}")).await;
        }
    }

    /// Waits until no run is queued or running, as long as any of them progresses within `patience`.
    ///
    /// Returns whether all have ended.
    pub(crate) async fn all_end(&self, patience: Duration) -> bool {
        let mut seen = (Value::Null, Value::Null);
        let mut moved = Instant::now();
        loop {
            let present = (self.page("&state=queued").await, self.page("&state=running").await);
            let count = |page: &Value| page["items"].as_array().unwrap().len();
            if count(&present.0) + count(&present.1) == 0 {
                return true;
            }
            if present != seen {
                seen = present;
                moved = Instant::now();
            } else if moved.elapsed() > patience {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl RunRecord {
    fn read(run: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            id: text(&run["id"]).unwrap(),
            key: text(&run["parameters"]["key"]["value"]),
            workflow: text(&run["workflow"]["id"]).unwrap(),
            state: text(&run["state"]).unwrap(),
            attempt: run["attempt"].as_u64().unwrap(),
            interruptions: run["interruptions"].as_u64().unwrap(),
            error_kind: text(&run["error"]["kind"]),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        !matches!(self.state.as_str(), "queued" | "running")
    }
}

/// Returns a client with one persistent connection.
pub(crate) fn client() -> Client {
    let patience = Duration::from_secs(20);
    Client::builder().no_proxy().pool_max_idle_per_host(1).timeout(patience).build().unwrap()
}

fn free_port() -> u16 {
    let first = rand::random_range(PORTS);
    let mut ports = (first..PORTS.end).chain(PORTS.start..first);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}
