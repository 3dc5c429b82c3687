//! A PostgreSQL server of a test's own: from the packages of Debian, in a private folder, on a free port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Environment variable that makes a missing PostgreSQL an error, as in continuous integration.
const REQUIRED: &str = "WEBHOOK_REQUIRE_POSTGRES";
/// Environment variable that shows the server's log.
const SHOWN: &str = "WEBHOOK_POSTGRES_LOG";
/// Where Debian's packages keep the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Upper bound on the time until a server starts, or logs a line.
const PATIENCE: Duration = Duration::from_secs(60);

/// A PostgreSQL server that ends with its owner.
///
/// It also ends when the process of its owner is killed, since the shell around it waits for the end of a pipe.
#[derive(Debug)]
pub struct PrivatePostgres {
    shell: Child,
    /// Takes signals for the server. Its end ends the server.
    signals: Option<ChildStdin>,
    port: u16,
    programs: PathBuf,
    /// Lines that the server has logged.
    log: Arc<Mutex<Vec<String>>>,
}

/// Returns the folder with the programs of the newest version.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir(VERSIONS).ok()?;
    let newest = versions.filter_map(|entry| {
        let path = entry.ok()?.path();
        let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
        path.join("bin/initdb").exists().then(|| (version, path.join("bin")))
    });
    newest.max().map(|(_, programs)| programs)
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0)
}

/// Returns a command of the user `postgres`, where this process is root: PostgreSQL refuses to run as root.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

fn give_away(path: &Path) {
    if is_root() {
        let given = Command::new("chown").arg("postgres:postgres").arg(path).status();
        assert!(given.is_ok_and(|status| status.success()), "{} has no new owner", path.display());
    }
}

impl PrivatePostgres {
    /// Starts a server with these settings, such as `fsync=off`. Returns `None` where PostgreSQL is not installed, and says
    /// so loudly.
    #[must_use]
    pub fn start(settings: &[&str]) -> Option<Self> {
        Self::start_with_files(settings, &[])
    }

    /// Starts a server as [`start`](Self::start) does, with files of these names and contents. `{folder}` in a setting
    /// stands for their folder.
    #[must_use]
    pub fn start_with_files(settings: &[&str], files: &[(&str, &str)]) -> Option<Self> {
        let Some(programs) = programs() else {
            let message = format!("NOT TESTED: there is no PostgreSQL in {VERSIONS} (Debian: postgresql)");
            assert!(std::env::var_os(REQUIRED).is_none(), "{message}");
            let _ = writeln!(std::io::stderr(), "{message}");
            return None;
        };
        // Another process may take the free port before the server does.
        let started = (0..5).find_map(|_| Self::try_start(&programs, settings, files));
        Some(started.expect("PostgreSQL starts"))
    }

    fn try_start(programs: &Path, settings: &[&str], files: &[(&str, &str)]) -> Option<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let name = format!("webhook-postgres-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).expect("a folder for PostgreSQL can be made");
        give_away(&folder);
        for (name, content) in files {
            let path = folder.join(name);
            std::fs::write(&path, content).expect("a file for PostgreSQL can be written");
            let private = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, private).expect("a file can be made private");
            give_away(&path);
        }
        let data = folder.join("data");
        let made = unprivileged(&programs.join("initdb"))
            .args(["--username=app", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
            .arg("--pgdata")
            .arg(&data)
            .current_dir(&folder)
            .output()
            .expect("initdb can be started");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a port is free").port();
        let place = folder.display().to_string();
        let mut server = format!(
            "'{}/postgres' -D '{place}/data' -p {port} -k '{place}' -c listen_addresses=127.0.0.1",
            programs.display()
        );
        for setting in settings {
            server.push_str(&format!(" -c '{}'", setting.replace("{folder}", &place)));
        }
        // Each line names a signal, after which the server starts again.
        let script = format!(
            "begin() {{ {server} </dev/null & pid=$!; echo $pid; }}; begin; \
             while read signal; do kill -$signal $pid; wait $pid; begin; done; \
             kill -INT $pid; wait $pid; rm -rf '{place}'"
        );
        let mut shell = unprivileged(Path::new("/bin/sh"))
            .args(["-c", &script])
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell can be started");
        let signals = shell.stdin.take();
        let mut pids = shell.stdout.take().expect("the shell has an output");
        std::thread::spawn(move || pids.read_to_end(&mut Vec::new()));
        let errors = BufReader::new(shell.stderr.take().expect("the shell has an error output"));
        let log = Arc::<Mutex<Vec<String>>>::default();
        let reading = std::thread::spawn({
            let log = log.clone();
            move || read_log(errors, &log)
        });
        let server = Self { shell, signals, port, programs: programs.to_owned(), log };
        let start = Instant::now();
        while start.elapsed() < PATIENCE && !reading.is_finished() {
            let is_ready = |line: &String| line.contains("ready to accept connections");
            if server.log.lock().iter().any(is_ready) {
                return Some(server);
            }
            if server.log.lock().iter().any(|line| line.contains("FATAL")) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Returns the port that it listens on, at 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the folder of its programs, such as `pgbench`.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Returns the URL of its database for the superuser.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://app@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends the server by a signal, and starts it again: `INT` for a fast shutdown, `QUIT` for an immediate one.
    pub fn restart(&mut self, signal: &str) {
        let signals = self.signals.as_mut().expect("the server runs");
        writeln!(signals, "{signal}").expect("the shell reads signals");
    }

    /// Returns the lines that it has logged.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    /// Returns the lines that it has logged for all statements that were answered. It must log every plan, by
    /// `auto_explain`.
    #[must_use]
    pub fn whole_log(&self) -> Vec<String> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let mark = format!("mark {}", NUMBER.fetch_add(1, Ordering::SeqCst));
        // The log is one pipe: what was logged before the mark has been read once the mark has.
        self.psql(&format!("SELECT '{mark}'"));
        let start = Instant::now();
        loop {
            let log = self.log();
            if log.iter().any(|line| line.contains(&mark)) {
                return log;
            }
            assert!(start.elapsed() < PATIENCE, "the server does not log its plans");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Executes a statement as the superuser, and returns what psql prints, without its last line end.
    pub fn psql(&self, sql: &str) -> String {
        let output = Command::new(self.programs.join("psql"))
            .args(["-h", "127.0.0.1", "-U", "app", "-d", "postgres", "-At", "-p", &self.port.to_string()])
            .args(["-c", sql])
            .output()
            .expect("psql can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

/// Keeps the lines of the log until its end, so that the server never waits for their reader.
fn read_log(mut errors: impl BufRead, log: &Mutex<Vec<String>>) {
    let shows = std::env::var_os(SHOWN).is_some();
    let mut line = String::new();
    while errors.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        if shows {
            let _ = write!(std::io::stderr(), "{line}");
        }
        log.lock().push(std::mem::take(&mut line));
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        // The end of its input tells the shell to end the server and to remove its folder.
        self.signals = None;
        let _ = self.shell.wait();
    }
}
