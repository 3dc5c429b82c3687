//! A server with the test's own notebooks, and its webhooks.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{Server, each_file};
use webhook_testing::python;

/// Python modules that a notebook needs to run.
pub(crate) const MODULES: &[&str] = &["papermill", "ipykernel", "nbconvert", "matplotlib"];

/// Upper bound on the time of one step on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Builds a notebook whose first cell declares the parameters.
pub(crate) fn notebook(cells: &[&str]) -> String {
    let cells = cells.iter().enumerate().map(|(place, source)| {
        let tags = if place == 0 { json!(["parameters"]) } else { json!([]) };
        json!({"cell_type": "code", "id": format!("cell-{place}"), "metadata": {"tags": tags},
            "source": source, "outputs": [], "execution_count": null})
    });
    let kernel = json!({"name": "python3", "language": "python", "display_name": "Python"});
    let cells: Vec<_> = cells.collect();
    json!({"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": cells})
        .to_string()
}

/// Writes a notebook and its workflow file.
fn write(folder: &Path, id: &str, notebook: &str, more: &str) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(format!("{id}.ipynb")), notebook).unwrap();
    let head = format!("kind = 'notebook'\nid = '{id}'\ntitle = 'A notebook'\n");
    let text = format!("{head}{more}\n[notebook]\npath = '{id}.ipynb'\n");
    std::fs::write(folder.join(format!("{id}.toml")), text).unwrap();
}

/// A running server.
pub(crate) struct Scene {
    folder: TempDir,
    server: Server,
    arguments: Vec<String>,
}

/// A webhook of a scene.
pub(crate) struct Webhook {
    url: String,
    api: String,
    admin: String,
    client: reqwest::Client,
}

/// A started run.
pub(crate) struct Started {
    pub(crate) id: String,
}

impl Scene {
    /// Starts a server with one notebook; `None` if there is no Python for it.
    pub(crate) fn with(id: &str, cells: &[&str], more: &str) -> Option<Self> {
        let python = python(id, MODULES)?;
        let folder = tempfile::tempdir().unwrap();
        let workflows = folder.path().join("workflows");
        write(&workflows, id, &notebook(cells), more);
        let arguments = ["--python", python.to_str().unwrap(), "--workflows", workflows.to_str().unwrap()];
        let arguments = arguments.map(str::to_owned).to_vec();
        Some(Self::start(folder, arguments))
    }

    /// Starts a server with these notebooks, run by `python`, which may not exist.
    pub(crate) fn of(notebooks: &[(&str, String)], python: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let workflows = folder.path().join("workflows");
        for (id, notebook) in notebooks {
            write(&workflows, id, notebook, "");
        }
        let arguments = ["--python", python, "--workflows", workflows.to_str().unwrap()];
        let arguments = arguments.map(str::to_owned).to_vec();
        Self::start(folder, arguments)
    }

    /// Starts a server with the bundled workflows.
    pub(crate) fn bundled(test: &str) -> Option<Self> {
        let python = python(test, MODULES)?;
        let arguments = vec!["--python".to_owned(), python.to_str().unwrap().to_owned()];
        Some(Self::start(tempfile::tempdir().unwrap(), arguments))
    }

    fn start(folder: TempDir, arguments: Vec<String>) -> Self {
        let data = folder.path().join("data");
        let server = Server::start(&data, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        Self { folder, server, arguments }
    }

    /// Kills the server with SIGKILL and starts it again, on another port.
    pub(crate) fn killed_and_restarted(self) -> Self {
        self.server.kill();
        Self::start(self.folder, self.arguments)
    }

    pub(crate) fn stop(self) {
        self.server.stop();
    }

    pub(crate) async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.server.admin(method, path, &self.server.admin_token(), body).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer
    }

    /// Creates a webhook for a notebook.
    pub(crate) async fn webhook(&self, id: &str, settings: Value) -> Webhook {
        let mut body = settings;
        body["workflow"] = json!({"kind": "notebook", "id": id});
        let created = self.admin("POST", "/webhooks", Some(body)).await;
        self.webhook_at(created["url"].as_str().unwrap().to_owned())
    }

    fn webhook_at(&self, url: String) -> Webhook {
        Webhook {
            url,
            api: self.server.api().to_owned(),
            admin: self.server.admin_token(),
            client: self.server.client.clone(),
        }
    }

    /// Changes a notebook without the server's knowledge.
    pub(crate) fn change(&self, id: &str, notebook: &str) {
        std::fs::write(self.folder.path().join(format!("workflows/{id}.ipynb")), notebook).unwrap();
    }

    /// Returns every file below a folder of the data.
    pub(crate) fn files(&self, folder: &str) -> Vec<String> {
        let mut files = Vec::new();
        let folder = self.folder.path().join("data").join(folder);
        each_file(&folder, &mut |path, _| files.push(path.display().to_string()));
        files
    }

    /// Returns whether a folder exists in the data folder.
    pub(crate) fn has_folder(&self, folder: &str) -> bool {
        self.folder.path().join("data").join(folder).exists()
    }

    /// Returns the largest memory that the server has used so far, in kB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Webhook {
    /// Returns the same webhook on a restarted server.
    pub(crate) fn at(&self, scene: &Scene) -> Self {
        let path = self.url.splitn(4, '/').nth(3).unwrap();
        let base = scene.server.api().splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        scene.webhook_at(format!("{base}/{path}"))
    }

    pub(crate) async fn call(&self, parameters: Value) -> (u16, Value) {
        let answer = self.client.post(&self.url).json(&parameters).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub(crate) async fn start(&self, parameters: Value) -> Started {
        let (status, answer) = self.call(parameters).await;
        assert_eq!(status, 202, "{answer}");
        Started { id: answer["run_id"].as_str().unwrap().to_owned() }
    }

    /// Starts a run and waits for its end.
    pub(crate) async fn run(&self, parameters: Value) -> Value {
        let run = self.start(parameters).await;
        self.ended(&run).await
    }

    pub(crate) async fn ended(&self, run: &Started) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let run: Value = self.get(&format!("/runs/{}", run.id)).await.json().await.unwrap();
            if !matches!(run["state"].as_str(), Some("queued" | "running")) {
                return run;
            }
            assert!(Instant::now() < deadline, "the run has not ended: {run}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn log(&self, run: &Value) -> String {
        self.get(&format!("/runs/{}/log", run["id"].as_str().unwrap())).await.text().await.unwrap()
    }

    /// Returns the first `lines` lines of a run's log, once they exist.
    pub(crate) async fn logged(&self, run: &Started, lines: usize) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.get(&format!("/runs/{}/log", run.id)).await.text().await.unwrap();
            if log.lines().count() >= lines {
                return log.lines().take(lines).collect::<Vec<_>>().join(" ");
            }
            let run: Value = self.get(&format!("/runs/{}", run.id)).await.json().await.unwrap();
            assert!(Instant::now() < deadline, "the log has not come: {log} {run}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn artifact(&self, run: &Value, name: &str) -> (HeaderMap, String) {
        let artifacts = run["artifacts"].as_array().unwrap_or_else(|| panic!("{run}"));
        let own = artifacts.iter().find(|own| own["name"] == name).unwrap_or_else(|| panic!("{run}"));
        let url = own["url"].as_str().unwrap();
        let answer = self.client.get(url).bearer_auth(&self.admin).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{url}");
        (answer.headers().clone(), answer.text().await.unwrap())
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(format!("{}{path}", self.api)).bearer_auth(&self.admin).send().await.unwrap()
    }
}

pub(crate) fn process_ids(line: &str) -> Vec<Pid> {
    line.split_whitespace().map(|id| Pid::from_raw(id.parse().unwrap()).unwrap()).collect()
}

/// Returns whether a process is dead. A dead process that its new parent has not waited for counts too.
fn is_gone(process: Pid) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{process}/stat"));
    let is_dead = state.is_ok_and(|state| state.rsplit(')').next().unwrap().trim().starts_with('Z'));
    is_dead || test_kill_process(process).is_err()
}

/// Polls, since no other process is told of the death.
pub(crate) async fn assert_gone(processes: &[Pid]) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !processes.iter().all(|process| is_gone(*process)) {
        assert!(Instant::now() < deadline, "still there: {processes:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
