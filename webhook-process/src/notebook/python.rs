//! Python interpreter for notebooks.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use super::error::InvalidNotebook;
use crate::command::Command;
use crate::environment;

/// Python code that reads a script from standard input, whose length in bytes is on the first line, and
/// leaves the rest of the input to it.
///
/// So neither the script nor a parameter shows in a process list, and no file is needed. The notebook's
/// folder is removed from the import path, so that a `json.py` beside the notebook is not imported.
const BOOTSTRAP: &str = "import sys; sys.path = [place for place in sys.path if place]; given = sys.stdin.buffer; \
    exec(compile(given.read(int(given.readline())), 'webhook-notebook', 'exec'))";

/// Upper bound on the time in which Python describes a notebook.
const PATIENCE: Duration = Duration::from_secs(60);

/// Python interpreter, preferably that of a virtual environment with papermill, ipykernel and nbconvert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python {
    program: OsString,
    /// True if the host named it, so the advice in an error must not be to create the default one.
    pub(super) is_named: bool,
}

impl Python {
    /// Names an interpreter by its path, by the folder of its virtual environment, or by a name in `PATH`.
    #[must_use]
    pub fn new(program: impl AsRef<Path>) -> Self {
        let given = program.as_ref();
        let program = if given.is_dir() { given.join("bin/python") } else { given.to_owned() };
        let is_name = program.components().count() == 1;
        // The notebook's folder is the working folder of its runs, so a relative path would mean another file
        // there.
        let absolute = if is_name { None } else { std::path::absolute(&program).ok() };
        Self { program: absolute.unwrap_or(program).into_os_string(), is_named: true }
    }

    /// Finds the first of: the virtual environment `.venv` in the working folder, the active virtual
    /// environment, and `python3`.
    #[must_use]
    pub fn find() -> Self {
        let active = std::env::var_os("VIRTUAL_ENV").map(Into::into);
        let environments = [Some(".venv".into()), active].into_iter().flatten();
        let mut interpreters = environments.map(|folder: std::path::PathBuf| folder.join("bin/python"));
        let found = interpreters.find(|program| program.exists());
        Self { is_named: false, ..found.map_or_else(|| Self::new("python3"), Self::new) }
    }

    /// Returns the advice for a Python that cannot be run.
    pub(super) fn replaced_by(&self) -> String {
        let program = Path::new(&self.program);
        if !self.is_named {
            environment_with_packages("python3", ".venv")
        } else if program.exists() || program.components().count() == 1 {
            "name another Python, or the folder of a virtual environment".to_owned()
        } else {
            let folder = program.ancestors().nth(2).filter(|_| program.ends_with("bin/python"));
            environment_with_packages("python3", &folder.unwrap_or(program).to_string_lossy())
        }
    }

    /// Returns the advice for a Python outside of virtual environments that lacks packages.
    pub(super) fn completed_by(&self) -> String {
        if self.is_named {
            let python = self.shown();
            format!("{}, and name .venv instead of {python}", environment_with_packages(&python, ".venv"))
        } else {
            environment_with_packages("python3", ".venv")
        }
    }

    /// Returns its path or name, for people.
    pub(super) fn shown(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }

    pub(super) fn command(&self) -> Command {
        Command::new(&self.program).with_arguments(["-c", BOOTSTRAP])
    }

    /// Runs a script to its end and returns its standard output.
    pub(super) fn answer(&self, input: &[u8]) -> Result<Vec<u8>, InvalidNotebook> {
        let mut process = std::process::Command::new(&self.program);
        process.args(["-c", BOOTSTRAP]);
        for (name, _) in std::env::vars_os().filter(|(name, _)| environment::is_withheld(name)) {
            process.env_remove(name);
        }
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let unusable =
            |source| InvalidNotebook::Python { python: self.shown(), mended_by: self.replaced_by(), source };
        let mut child = process.spawn().map_err(unusable)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A Python that ends before it has read all input reports that by its output.
            let _ = stdin.write_all(input);
        }
        let (sender, receiver) = mpsc::channel();
        if let Some(mut stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut answer = Vec::new();
                let read = stdout.read_to_end(&mut answer).map(|_| answer);
                let _ = sender.send(read);
            });
        }
        let answer = receiver.recv_timeout(PATIENCE);
        // It has closed its output or exceeded its time, so nothing more is expected of it.
        let _ = child.kill();
        let _ = child.wait();
        match answer {
            Ok(answer) => answer.map_err(unusable),
            Err(_) => Err(unusable(std::io::ErrorKind::TimedOut.into())),
        }
    }
}

/// Returns the commands that create a virtual environment for notebooks.
fn environment_with_packages(python: &str, folder: &str) -> String {
    format!(
        "fix it with: {python} -m venv {folder} && {folder}/bin/pip install papermill ipykernel nbconvert"
    )
}

/// Returns the input of [`BOOTSTRAP`]: a script and its request.
pub(super) fn input(script: &str, request: &Value) -> Vec<u8> {
    format!("{}\n{script}{request}\n", script.len()).into_bytes()
}
