//! The example server as a process: starts, stops and kills it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Returns the path of the example server that was built together with this test.
pub(crate) fn server_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    profile.join("examples").join(format!("server{}", std::env::consts::EXE_SUFFIX))
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(server_program());
    command.current_dir(folder).args(arguments);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WEBHOOK_")) {
        command.env_remove(name);
    }
    command
}

/// Runs the server with arguments with which it ends by itself.
pub(crate) fn run_to_end(arguments: &[&str]) -> Output {
    command(Path::new(env!("CARGO_MANIFEST_DIR")), arguments).output().unwrap()
}

/// Runs the server with arguments that it refuses, and returns its exit code and output.
pub(crate) fn fails_to_start(arguments: &[&str]) -> (Option<i32>, String) {
    fails_to_start_in(Path::new(env!("CARGO_MANIFEST_DIR")), arguments)
}

/// Like [`fails_to_start`], in another working folder than the workspace's.
pub(crate) fn fails_to_start_in(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut process = Process::spawn_in(folder, arguments);
    let output = process.output.take().expect("the output is piped");
    let (status, log) = process.ended_within(Duration::from_secs(30));
    let said = std::io::read_to_string(output).unwrap();
    assert!(said.is_empty(), "{said}");
    (status.code(), log)
}

/// A started server. It is killed on drop.
pub(crate) struct Process {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
    log: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts a server without waiting for it.
    pub(crate) fn spawn(arguments: &[&str]) -> Self {
        Self::spawn_in(Path::new(env!("CARGO_MANIFEST_DIR")), arguments)
    }

    fn spawn_in(folder: &Path, arguments: &[&str]) -> Self {
        Self::spawn_command(command(folder, arguments))
    }

    /// Starts a server with a changed command.
    pub(crate) fn spawn_with(arguments: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let mut command = command(Path::new(env!("CARGO_MANIFEST_DIR")), arguments);
        change(&mut command);
        Self::spawn_command(command)
    }

    fn spawn_command(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}; `cargo build --example server` makes it", server_program().display())
            });
        let mut errors = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut text = Vec::new();
            errors.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        let output = child.stdout.take().map(BufReader::new);
        Self { child, output, log: Some(log) }
    }

    /// Waits until the server has printed how to continue, and returns that output. Then its store is open
    /// and its port bound.
    pub(crate) fn greeting(&mut self) -> String {
        let mut said = String::new();
        let mut output = self.output.take().expect("a server greets once");
        loop {
            let from = said.len();
            if output.read_line(&mut said).unwrap() == 0 {
                let status = self.child.wait().unwrap();
                panic!("the server did not start ({status}): {}", self.taken_log());
            }
            // The last line names the path of the admin token.
            if said[..from].ends_with("Admin token:\n") {
                return said;
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the server with SIGKILL and returns its log. A server that has already ended is a failure.
    pub(crate) fn kill(mut self) -> String {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the server ended by itself ({status}): {}", self.taken_log());
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.taken_log()
    }

    /// Waits until the server has ended, and returns its exit status and its log.
    pub(crate) fn ended_within(mut self, patience: Duration) -> (ExitStatus, String) {
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the server has not ended within {patience:?}");
            std::thread::sleep(Duration::from_millis(5));
        };
        (status, self.taken_log())
    }

    /// Asks the server to stop, checks that it stops cleanly, and returns its log.
    pub(crate) fn stop(self, patience: Duration) -> String {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let (status, log) = self.ended_within(patience);
        assert_eq!(status.code(), Some(0), "{log}");
        log
    }

    fn taken_log(&mut self) -> String {
        self.log.take().map(|log| log.join().unwrap()).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
