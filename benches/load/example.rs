//! The example server as a process.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::workflow::{address_and_path, command_file, noop_file};

/// The upper bound on queued runs of the whole server by default. A webhook gets half of it unless it asks for more.
pub(crate) const QUEUE_LIMIT: u64 = 100_000;
/// Pause between looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Builds the example server for release, unless it is, and returns where it is.
pub(crate) fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Cargo tells a bench of its package. Build scripts that look at the same variables would run again.
    remove_variables(&mut command, &["CARGO_PKG_", "CARGO_MANIFEST_"]);
    let output = command
        .args(["build", "--release", "--package", env!("CARGO_PKG_NAME"), "--example", "server"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "the example server does not build");
    let messages = String::from_utf8(output.stdout).expect("messages of cargo");
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_example = messages.filter(|message| message["target"]["name"] == "server");
    of_example
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .expect("cargo names the program")
}

/// Keeps variables whose names begin so from a command.
fn remove_variables(command: &mut Command, prefixes: &[&str]) {
    for (name, _) in std::env::vars_os() {
        if prefixes.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}

/// The example server at work. It is killed when this is dropped.
pub(crate) struct ExampleServer {
    pub(crate) process: Child,
    /// The folder of its store.
    pub(crate) store: PathBuf,
    /// Its address as `http://host:port`.
    origin: String,
    admin_token: String,
    client: reqwest::Client,
}

impl ExampleServer {
    /// Starts the server in a folder, with these flags besides those for its address, data and workflows.
    pub(crate) fn start(program: &Path, folder: &Path, flags: &[&str]) -> Self {
        let (data, workflows) = (folder.join("data"), folder.join("workflows"));
        std::fs::create_dir_all(&workflows).expect("a folder");
        std::fs::write(workflows.join("nothing.toml"), noop_file()).expect("a workflow file");
        std::fs::write(workflows.join("true.toml"), command_file()).expect("a workflow file");
        let mut command = Command::new(program);
        remove_variables(&mut command, &["WEBHOOK_"]);
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(&data).arg("--workflows").arg(&workflows);
        let log = File::create(folder.join("log")).expect("a log file");
        let mut process = command
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the example server starts");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        let mut lines = output.lines().map(|line| line.expect("a line"));
        let api = lines.by_ref().skip_while(|line| !line.starts_with("Management API")).nth(1);
        let Some(api) = api else {
            panic!("{}", std::fs::read_to_string(folder.join("log")).expect("a log"));
        };
        // The last line comes when its port is bound and its store open.
        lines
            .by_ref()
            .skip_while(|line| !line.starts_with("Admin token"))
            .nth(1)
            .expect("the whole greeting");
        let (address, _) = address_and_path(api.trim());
        let admin_token = std::fs::read_to_string(data.join("admin.token")).expect("an admin token");
        Self {
            process,
            store: data.join("store"),
            origin: format!("http://{address}"),
            admin_token: admin_token.trim().to_owned(),
            client: reqwest::Client::new(),
        }
    }

    /// Creates a webhook and returns its URL.
    pub(crate) async fn webhook(&self, workflow: &str) -> String {
        let (kind, id) = workflow.split_once('/').expect("a kind and an id");
        let settings = json!({ "workflow": { "kind": kind, "id": id }, "queue_limit": QUEUE_LIMIT });
        let request = self.client.post(format!("{}/admin/api/v1/webhooks", self.origin));
        let answer = request.bearer_auth(&self.admin_token).json(&settings).send().await.expect("an answer");
        let created: Value = answer.json().await.expect("JSON");
        created["url"].as_str().unwrap_or_else(|| panic!("{created}")).to_owned()
    }

    /// The number of runs that have not ended.
    pub(crate) async fn left(&self) -> u64 {
        let request = self.client.get(format!("{}/metrics", self.origin));
        let text = request.send().await.expect("an answer").text().await.expect("text");
        let gauge = |name: &str| -> u64 {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.expect("the metric is there").parse().expect("a number")
        };
        gauge("webhook_runs_queued") + gauge("webhook_runs_executing")
    }

    /// Waits until all runs have ended.
    pub(crate) async fn all_ended(&self) {
        while self.left().await > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Stops the server cleanly.
    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).expect("it is asked to stop");
        let status = self.process.wait().expect("it ends");
        assert!(status.success(), "the example server ended with {status}");
    }
}

impl Drop for ExampleServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
