//! Commands, and the options for running them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};

/// External program with its arguments. `Debug` shows neither arguments nor the values of variables.
#[derive(Clone)]
#[non_exhaustive]
pub struct Command {
    /// Program: a path, or a name that is looked up in `PATH`.
    pub program: OsString,
    /// Arguments, passed as they are. Process lists show them, so they must not hold secrets.
    pub arguments: Vec<OsString>,
    /// Working folder. Default: that of this process.
    pub folder: Option<PathBuf>,
    /// Variables that are added to its environment.
    pub environment: BTreeMap<String, String>,
}

impl Command {
    /// Creates a command without arguments.
    #[must_use]
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), arguments: Vec::new(), folder: None, environment: BTreeMap::new() }
    }

    /// Adds arguments after the present ones.
    #[must_use]
    pub fn with_arguments<I>(mut self, arguments: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets the working folder.
    #[must_use]
    pub fn with_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Returns the name of the program without its folder.
    pub(crate) fn name(&self) -> String {
        let program = Path::new(&self.program);
        program.file_name().unwrap_or(&self.program).to_string_lossy().into_owned()
    }

    /// Returns the program, looked up here if the command has its own `PATH`.
    ///
    /// Otherwise the standard library would fork with a copy of this process's page tables, to let the child
    /// look it up.
    pub(crate) fn found_program(&self) -> Cow<'_, OsStr> {
        let given = Cow::Borrowed(self.program.as_os_str());
        let Some(path) = self.environment.get("PATH") else { return given };
        if self.program.as_bytes().contains(&b'/') {
            return given;
        }
        let place = self.folder.as_deref().unwrap_or(Path::new(""));
        let is_program = |candidate: &PathBuf| {
            let candidate = place.join(candidate);
            candidate.is_file() && access(&candidate, Access::EXEC_OK).is_ok()
        };
        // An empty entry is the working folder.
        let folders = std::env::split_paths(path).map(|folder| Path::new(".").join(folder));
        let found = folders.map(|folder| folder.join(&self.program)).find(is_program);
        found.map_or(given, |program| Cow::Owned(program.into()))
    }

    /// Adds a variable to its environment.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.environment.keys().collect();
        formatter
            .debug_struct("Command")
            .field("program", &self.program)
            .field("arguments", &self.arguments.len())
            .field("folder", &self.folder)
            .field("environment", &names)
            .finish()
    }
}

/// Options for running commands.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CommandOptions {
    /// Time between SIGTERM and SIGKILL. Default: 5 s.
    ///
    /// It should be shorter than the grace period of the workers. At the end of that the future is dropped,
    /// which kills the command in any case.
    pub termination_grace: Duration,
}

impl Default for CommandOptions {
    fn default() -> Self {
        Self { termination_grace: Duration::from_secs(5) }
    }
}

impl CommandOptions {
    /// Sets the time between SIGTERM and SIGKILL.
    #[must_use]
    pub fn with_termination_grace(mut self, grace: Duration) -> Self {
        self.termination_grace = grace;
        self
    }
}
