//! Process group of one attempt.

use std::io;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::guard::{GROUPS, Leader};

/// Process group whose members are killed when this is dropped, or when this process dies.
#[derive(Debug)]
pub(crate) struct ProcessGroup {
    id: Pid,
    /// Leader of the group; `None` once this is dropped.
    leader: Option<Leader>,
}

impl ProcessGroup {
    /// Takes a group without living members, which the guard knows.
    pub(crate) fn take() -> io::Result<Self> {
        let leader = GROUPS.take()?;
        Ok(Self { id: leader.id(), leader: Some(leader) })
    }

    /// Returns the number of the group.
    pub(crate) fn id(&self) -> i32 {
        self.id.as_raw_nonzero().get()
    }

    /// Sends SIGTERM to every member.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGKILL to every member. A member that is about to fork dies before its child begins.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        // The only possible error is that no member may be signalled.
        let _ = kill_process_group(self.id, signal);
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
        if let Some(leader) = self.leader.take() {
            GROUPS.give_back(leader);
        }
    }
}
