//! The guard: one process that kills the processes of all runs when this process dies.
//!
//! Each run has a process group, which the guard knows before the run's first process joins it. So SIGKILL to
//! this process never leaves a process behind, whenever it comes.
//!
//! The number of such a group has to be known beforehand. So its leader is a process that ended at once and
//! is not waited for. While it is not waited for, no other group gets its number, and SIGKILL to the group
//! does not remove it.
//! One run after another uses the group, so a run starts only one process, its own.
//!
//! The guard waits for the end of a pipe whose other end this process holds. A child holds a copy of that end
//! until its exec, by which time it has joined its group. So when the pipe ends, every process to kill is in
//! a registered group.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Script of the guard: when its standard input ends, it kills the groups of its arguments and of the lines
/// it read.
///
/// It ignores signals, since those to the whole session must not end it.
const GUARD: &str = "\
trap '' HUP INT QUIT PIPE ALRM TERM USR1 USR2 TSTP TTIN TTOU
groups=\" $* \"
while read -r change group; do
  case $change in
  +) groups=\"$groups$group \" ;;
  -) groups=\"${groups%% $group *} ${groups#* $group }\" ;;
  esac
done
for group in $groups; do kill -s KILL -- \"-$group\"; done";

/// Time for which unused groups are kept, and the guard without groups.
const KEEP: Duration = Duration::from_secs(10);

/// Pause between two attempts to replace a guard that died.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Process groups of this process.
pub(crate) static GROUPS: Groups = Groups::new(KEEP);

/// Process groups that one guard knows. One run after another uses them.
#[derive(Debug)]
pub(crate) struct Groups {
    keep: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The guard, or `None` if it could not be started.
    guard: Option<Guard>,
    /// True if a thread waits for the end of the guard. Invariant: true while `registered` is not empty.
    is_watched: bool,
    /// Numbers of the groups that the guard knows, in use or not.
    registered: BTreeSet<i32>,
    /// Groups that no run uses, each with the time of its last use, in ascending order of time.
    unused: Vec<(Leader, Instant)>,
}

impl Groups {
    pub(crate) const fn new(keep: Duration) -> Self {
        let state = State { guard: None, is_watched: false, registered: BTreeSet::new(), unused: Vec::new() };
        Self { keep, state: Mutex::new(state) }
    }

    /// Takes a group without living members, which a living guard knows.
    pub(crate) fn take(&'static self) -> io::Result<Leader> {
        let unused = self.state.lock().take_unused();
        let leader = unused.map_or_else(Leader::start, Ok)?;
        let mut state = self.state.lock();
        match self.register(&mut state, leader.number()) {
            Ok(()) => Ok(leader),
            Err(error) => {
                state.unregister(leader.number());
                Err(error)
            }
        }
    }

    /// Takes a group back after all its members were killed.
    pub(crate) fn give_back(&self, leader: Leader) {
        self.state.lock().unused.push((leader, Instant::now()));
    }

    /// Makes sure that a living guard knows this group and all others.
    fn register(&'static self, state: &mut State, group: i32) -> io::Result<()> {
        let is_new = state.registered.insert(group);
        let is_known = state
            .guard
            .as_mut()
            .is_some_and(|guard| guard.is_alive() && (!is_new || guard.tell('+', group).is_ok()));
        if !is_known {
            state.start_guard()?;
        }
        if !state.is_watched {
            std::thread::Builder::new().name("webhook-guard".to_owned()).spawn(move || self.watch())?;
            state.is_watched = true;
        }
        Ok(())
    }

    /// Replaces a guard that dies, and releases groups that have long been unused. Ends when no group is
    /// left.
    fn watch(&self) {
        loop {
            let end = self.state.lock().guard.as_ref().map(|guard| guard.output.clone());
            match end {
                Some(end) => wait_for_end(&end, self.keep),
                None => std::thread::sleep(RESTART_PAUSE),
            }
            let mut state = self.state.lock();
            let expired = state.expire(self.keep);
            if state.registered.is_empty() {
                state.guard = None;
                state.is_watched = false;
                return;
            }
            if !state.guard.as_mut().is_some_and(Guard::is_alive) {
                match state.start_guard() {
                    Ok(()) => tracing::warn!("the guard of the running commands ended; another was started"),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(
                            error,
                            "the guard of the running commands ended and cannot be started"
                        );
                    }
                }
            }
            drop(state);
            drop(expired);
        }
    }
}

impl State {
    /// Starts a guard that knows all groups, in place of the current one.
    fn start_guard(&mut self) -> io::Result<()> {
        self.guard = None;
        self.guard = Some(Guard::start(&self.registered)?);
        Ok(())
    }

    /// Takes the group that was used last, so surplus groups stay unused and expire.
    fn take_unused(&mut self) -> Option<Leader> {
        while let Some((leader, _)) = self.unused.pop() {
            if leader.is_held() {
                return Some(leader);
            }
            self.unregister(leader.number());
        }
        None
    }

    /// Removes the groups that have been unused for `keep`.
    fn expire(&mut self, keep: Duration) -> Vec<Leader> {
        let fresh = self.unused.partition_point(|(_, since)| since.elapsed() >= keep);
        let expired: Vec<_> = self.unused.drain(..fresh).map(|(leader, _)| leader).collect();
        for leader in &expired {
            self.unregister(leader.number());
        }
        expired
    }

    /// Makes the guard forget a group, before its number can belong to another.
    fn unregister(&mut self, group: i32) {
        self.registered.remove(&group);
        if self.guard.as_mut().is_some_and(|guard| guard.tell('-', group).is_err()) {
            // A guard that does not listen could kill a foreign group. The thread starts another guard.
            self.guard = None;
        }
    }
}

/// Process of the guard. On drop it is killed before its pipe ends.
#[derive(Debug)]
struct Guard {
    process: Child,
    input: ChildStdin,
    /// Standard output of the guard, which ends when the guard does.
    output: Arc<ChildStdout>,
}

impl Guard {
    fn start(groups: &BTreeSet<i32>) -> io::Result<Self> {
        let mut command = shell(GUARD);
        command.arg("webhook-guard").args(groups.iter().map(i32::to_string));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let guard = Self { process, input, output: Arc::new(output) };
        // A stopped guard does not read. Non-blocking writes let another take its place, instead of stopping
        // this process too.
        ioctl_fionbio(&guard.input, true)?;
        Ok(guard)
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Tells the guard of a change, which it reads before the end of the pipe. A line is written whole or not
    /// at all.
    fn tell(&mut self, change: char, group: i32) -> io::Result<()> {
        self.input.write_all(format!("{change} {group}\n").as_bytes())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Leader of a process group. The group exists until its leader is waited for.
#[derive(Debug)]
pub(crate) struct Leader {
    process: Child,
    id: Pid,
}

impl Leader {
    fn start() -> io::Result<Self> {
        let process = shell(":").stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let id = Pid::from_child(&process);
        Ok(Self { process, id })
    }

    /// Returns the group as the process id of its leader.
    pub(crate) fn id(&self) -> Pid {
        self.id
    }

    /// Returns the number of the group.
    fn number(&self) -> i32 {
        self.id.as_raw_nonzero().get()
    }

    /// Returns whether the leader still holds its number. It does not if the host waits for children that it
    /// did not start.
    fn is_held(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.id), options).is_ok()
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        // It ended long ago, unless it was only just started.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns a shell that leads its own process group, and gets no variable of this process's environment.
fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).process_group(0).current_dir("/").stderr(Stdio::null()).env_clear();
    command
}

/// Waits until the stream ends, for at most `patience`. Nothing is ever written to it.
fn wait_for_end(stream: &ChildStdout, patience: Duration) {
    let patience = Timespec::try_from(patience).ok();
    // A signal that interrupts the wait makes the caller check earlier.
    let _ = poll(&mut [PollFd::new(stream, PollFlags::IN)], patience.as_ref());
}

#[cfg(test)]
mod tests {
    use rustix::process::{WaitOptions, test_kill_process, waitpid};

    use super::*;

    /// Polls a condition, since no event announces it.
    fn wait_until(is_so: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_group_is_used_again_and_goes_with_its_guard_when_it_is_unused_for_long() {
        static GROUPS: Groups = Groups::new(Duration::from_millis(100));
        for _ in 0..2 {
            let first = GROUPS.take().unwrap();
            let [first, second] = [first, GROUPS.take().unwrap()].map(|leader| {
                let id = leader.id();
                GROUPS.give_back(leader);
                id
            });
            let again = GROUPS.take().unwrap();
            assert_eq!(again.id(), second, "the one used last comes first");
            let guard = Pid::from_child(&GROUPS.state.lock().guard.as_ref().unwrap().process);
            wait_until(|| test_kill_process(first).is_err());
            assert!(test_kill_process(second).is_ok() && test_kill_process(guard).is_ok(), "they are in use");
            GROUPS.give_back(again);
            wait_until(|| !GROUPS.state.lock().is_watched);
            assert!([first, second, guard].into_iter().all(|process| test_kill_process(process).is_err()));
        }
    }

    #[test]
    fn a_group_whose_leader_a_host_waited_for_is_not_used_again() {
        static GROUPS: Groups = Groups::new(KEEP);
        let leader = GROUPS.take().unwrap();
        let id = leader.id();
        GROUPS.give_back(leader);
        waitpid(Some(id), WaitOptions::empty()).unwrap();
        let other = GROUPS.take().unwrap();
        assert_ne!(other.id(), id);
        let registered = GROUPS.state.lock().registered.clone();
        assert_eq!(registered.into_iter().collect::<Vec<_>>(), [other.number()]);
    }

    #[test]
    fn a_guard_that_does_not_read_is_replaced_and_the_next_one_knows_all_groups() {
        static GROUPS: Groups = Groups::new(KEEP);
        let kept = GROUPS.take().unwrap();
        let guard = || Pid::from_child(&GROUPS.state.lock().guard.as_ref().unwrap().process);
        let first = guard();
        rustix::process::kill_process(first, rustix::process::Signal::STOP).unwrap();
        // Its pipe fills up after some writes.
        while GROUPS.state.lock().guard.as_mut().unwrap().tell('-', 0).is_ok() {}
        let next = GROUPS.take().unwrap();
        assert!(guard() != first && test_kill_process(first).is_err());
        let arguments = std::fs::read_to_string(format!("/proc/{}/cmdline", guard())).unwrap_or_default();
        let known: Vec<_> = arguments.split('\0').collect();
        for group in [kept.number(), next.number()] {
            assert!(arguments.is_empty() || known.contains(&group.to_string().as_str()), "{arguments:?}");
        }
    }
}
