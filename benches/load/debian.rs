//! Debian's `webhook`, a server that executes commands and has no store.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::workflow::PROGRAM;

/// Upper bound on the time of its start.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns whether the program can be found.
pub(crate) fn is_installed() -> bool {
    let version =
        Command::new("webhook").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Debian's `webhook` at work. It is killed when this is dropped.
pub(crate) struct DebianServer {
    pub(crate) process: Child,
    /// The URL of its hook.
    pub(crate) url: String,
}

impl DebianServer {
    /// Starts it with a hook that is answered when its command has ended.
    pub(crate) fn start(folder: &Path) -> Self {
        let hooks = json!([{
            "id": "true",
            "execute-command": PROGRAM,
            "include-command-output-in-response": true,
        }]);
        let file = folder.join("hooks.json");
        std::fs::write(&file, hooks.to_string()).expect("a file of hooks");
        // It takes no port 0, so it gets one that was free a moment ago.
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let process = Command::new("webhook")
            .args(["-ip", "127.0.0.1", "-port", &port.to_string(), "-hooks"])
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's webhook starts");
        let server = Self { process, url: format!("http://127.0.0.1:{port}/hooks/true") };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "Debian's webhook does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }
}

impl Drop for DebianServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
