//! Tests of what other processes of the server's user can see of it.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use rustix::process::geteuid;

use crate::process::{Process, server_program};

const CANARY: &str = "canary-5f1c2a-canary-5f1c2a-canary-5f1c2a";

/// Id of an unprivileged user. Root may see everything; tests that run as root start the server and the others
/// as this user.
const NOBODY: u32 = 65_534;

fn as_user(command: &mut Command) -> &mut Command {
    if geteuid().is_root() { command.uid(NOBODY).gid(NOBODY) } else { command }
}

fn read(file: &str) -> Output {
    as_user(Command::new("cat").arg(file)).output().unwrap()
}

#[test]
fn other_processes_of_its_user_see_neither_its_environment_nor_its_memory() {
    let mut other =
        as_user(Command::new("sleep").arg("600").env("WEBHOOK_ADMIN_TOKEN", CANARY)).spawn().unwrap();
    let seen = read(&format!("/proc/{}/environ", other.id()));
    other.kill().unwrap();
    other.wait().unwrap();
    let can_run = as_user(Command::new(server_program()).arg("--help").stdout(Stdio::null())).status();
    if !String::from_utf8_lossy(&seen.stdout).contains(CANARY)
        || !can_run.is_ok_and(|status| status.success())
    {
        eprintln!(
            "SKIPPED what others see of the server: here no process sees another, or none runs as nobody"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    if geteuid().is_root() {
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let data = folder.path().join("data");
    let arguments = ["--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0", "--store", "memory"];
    let mut server = Process::spawn_with(&arguments, |command| {
        as_user(command.env("WEBHOOK_ADMIN_TOKEN", CANARY));
    });
    server.greeting();
    for file in ["environ", "mem", "maps"] {
        let seen = read(&format!("/proc/{}/{file}", server.id()));
        assert!(!seen.status.success() && seen.stdout.is_empty(), "{file}: {seen:?}");
    }
    server.kill();
}
