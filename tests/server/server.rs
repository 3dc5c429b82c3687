//! The example server with its bundled workflows, and calls to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::process::Process;

/// A running server. It is killed on drop, and stopped cleanly by [`Server::stop`].
pub(crate) struct Server {
    process: Process,
    data: PathBuf,
    /// URL of the demo webhook, if the server printed one.
    demo: Option<String>,
    /// Base URL of the management API.
    api: String,
    panel: String,
    greeting: String,
    pub(crate) client: reqwest::Client,
}

impl Server {
    /// Starts a server on a free port and waits until it has printed its address.
    pub(crate) fn start(data: &Path, arguments: &[&str]) -> Self {
        let mut all = vec!["--data", data.to_str().unwrap()];
        if !arguments.contains(&"--listen") {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        all.extend(arguments);
        let mut process = Process::spawn(&all);
        let greeting = process.greeting();
        let demo =
            greeting.contains("curl").then(|| greeting.split('\'').nth(1).expect("a quoted URL").to_owned());
        let below =
            |title: &str| greeting.lines().skip_while(|line| !line.starts_with(title)).nth(1).unwrap().trim();
        let api = below("Management API").strip_suffix("/webhooks").unwrap().to_owned();
        let panel = below("Panel").to_owned();
        Self { process, data: data.to_owned(), demo, api, panel, greeting, client: reqwest::Client::new() }
    }

    /// Returns whether the server printed the URL of a demo webhook.
    pub(crate) fn has_demo(&self) -> bool {
        self.demo.is_some()
    }

    /// Returns the URL of the demo webhook.
    pub(crate) fn url(&self) -> &str {
        self.demo.as_deref().expect("the server names the URL of the demo webhook")
    }

    /// Returns the server's standard output up to the end of its start.
    pub(crate) fn greeting(&self) -> &str {
        &self.greeting
    }

    /// Returns the address of the panel.
    pub(crate) fn panel(&self) -> &str {
        &self.panel
    }

    pub(crate) fn token(&self) -> &str {
        self.url().split_once("token=").unwrap().1
    }

    pub(crate) fn port(&self) -> u16 {
        let address = self.api.split('/').nth(2).unwrap();
        address.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Returns the base URL of the management API.
    pub(crate) fn api(&self) -> &str {
        &self.api
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn admin_token(&self) -> String {
        std::fs::read_to_string(self.data.join("admin.token")).unwrap().trim().to_owned()
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Response {
        request.send().await.unwrap()
    }

    /// Calls the management API.
    pub(crate) async fn admin(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> (reqwest::StatusCode, Value) {
        let url = format!("{}{path}", self.api);
        let method = method.parse().unwrap();
        let request = self.client.request(method, url).bearer_auth(token);
        let request = if let Some(body) = body { request.json(&body) } else { request };
        let answer = self.send(request).await;
        (answer.status(), answer.json().await.unwrap_or(Value::Null))
    }

    /// Returns the value of the metric whose line has this start, if there is one.
    pub(crate) async fn metric(&self, start: &str) -> Option<f64> {
        let url = format!("http://127.0.0.1:{}/metrics", self.port());
        let text = self.send(self.client.get(url)).await.text().await.unwrap();
        text.lines().find_map(|line| line.strip_prefix(start)?.trim().parse().ok())
    }

    /// Creates a webhook for a workflow and returns its URL.
    pub(crate) async fn webhook_of(&self, kind: &str, id: &str) -> String {
        let body = serde_json::json!({"workflow": {"kind": kind, "id": id}});
        let (status, created) = self.admin("POST", "/webhooks", &self.admin_token(), Some(body)).await;
        assert_eq!(status, reqwest::StatusCode::CREATED, "{created}");
        created["url"].as_str().unwrap().to_owned()
    }

    /// Kills the server with SIGKILL and returns its log.
    pub(crate) fn kill(self) -> String {
        self.process.kill()
    }

    /// Asks the server to stop, checks that it stops cleanly, and returns its log.
    pub(crate) fn stop(self) -> String {
        self.process.stop(Duration::from_secs(40))
    }
}

/// Reads every file below a folder.
pub(crate) fn each_file(folder: &Path, act: &mut impl FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_file(&path, act);
        } else {
            act(&path, &std::fs::read(&path).unwrap());
        }
    }
}
