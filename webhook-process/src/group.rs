//! The process group of one attempt, and the watchdog that leads it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

/// Waits until its standard input ends, which is when the process that started it dies, and then kills its whole
/// group. SIGTERM to the group must not end it.
const WATCHDOG: &str =
    "trap '' HUP INT QUIT PIPE ALRM TERM USR1 USR2 TSTP TTIN TTOU; read -r line; kill -KILL 0";

/// A process group whose members are killed when this is dropped or this process dies.
///
/// The watchdog leads the group and is only waited for at the very end, so the number of the group cannot come to
/// mean another group while this exists.
#[derive(Debug)]
pub(crate) struct ProcessGroup {
    watchdog: Child,
    id: Pid,
    killed: bool,
}

impl ProcessGroup {
    /// Starts a group that holds nothing but its watchdog.
    pub(crate) fn start() -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", WATCHDOG, "webhook-watchdog"]).process_group(0).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // An environment that keeps its `PATH` lets the standard library start a process without copying this one.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name != "PATH") {
            command.env_remove(name);
        }
        let watchdog = command.spawn()?;
        let id = Pid::from_child(&watchdog);
        Ok(Self { watchdog, id, killed: false })
    }

    /// The number of the group.
    pub(crate) fn id(&self) -> i32 {
        self.id.as_raw_nonzero().get()
    }

    /// Asks every member to end.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Kills every member and waits for the watchdog, which is a matter of microseconds.
    pub(crate) fn kill(&mut self) {
        if !self.killed {
            self.killed = true;
            self.signal(Signal::KILL);
            // There is nothing to do about a watchdog that somebody else has waited for.
            let _ = self.watchdog.wait();
        }
    }

    fn signal(&self, signal: Signal) {
        // The only errors are that nobody is left in the group, or nobody who may be signalled.
        let _ = kill_process_group(self.id, signal);
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}
