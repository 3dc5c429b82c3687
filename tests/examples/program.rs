//! An example as a process.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A started example, at a free port. It is killed on drop.
pub(crate) struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Program {
    /// Starts an example, with `folder` as its working folder.
    pub(crate) fn start(name: &str, folder: &Path, variables: &[(&str, &str)]) -> Self {
        let test = std::env::current_exe().unwrap();
        let examples = test.ancestors().nth(2).unwrap().join("examples");
        let program = examples.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        let mut child = Command::new(&program)
            .arg("127.0.0.1:0")
            .current_dir(folder)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}; `cargo build --examples` makes it", program.display())
            });
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// Returns the next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the example ended: {:?}", self.child.wait());
        line
    }

    /// Returns the URL of the next line, which is a call of curl.
    pub(crate) fn curl_url(&mut self) -> String {
        let line = self.line();
        line.split('\'').nth(1).unwrap_or_else(|| panic!("no URL in {line}")).to_owned()
    }

    /// Stops it as Ctrl-C does, and checks that it ends cleanly. Returns the rest of its output.
    pub(crate) fn stop(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it has not ended within 30 s");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "{status}");
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        rest
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
