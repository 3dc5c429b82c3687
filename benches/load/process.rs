//! Processor time and memory of a process, as the system counts them.

use std::process::Child;
use std::time::Duration;

/// Processor time, in user and system mode together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuTime {
    /// That of the process alone.
    pub(crate) own: Duration,
    /// That of its children that have ended.
    pub(crate) children: Duration,
}

impl CpuTime {
    /// The processor time of a process so far.
    pub(crate) fn of(process: &Child) -> Self {
        let text = read(process, "stat");
        // The name may have spaces in it, and ends with the last bracket.
        let (_, fields) = text.rsplit_once(')').expect("the name of the process");
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |field: usize| fields[field].parse::<u64>().expect("a number");
        let time = |ticks: u64| {
            Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
        };
        Self { own: time(ticks(11) + ticks(12)), children: time(ticks(13) + ticks(14)) }
    }

    /// The processor time since an earlier moment.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { own: self.own - earlier.own, children: self.children - earlier.children }
    }
}

/// The highest resident memory of a process so far, in KiB.
pub(crate) fn peak_kib(process: &Child) -> u64 {
    status(process, "VmHWM:")
}

/// The resident memory of a process, in KiB.
pub(crate) fn resident_kib(process: &Child) -> u64 {
    status(process, "VmRSS:")
}

fn status(process: &Child, name: &str) -> u64 {
    let text = read(process, "status");
    let value = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line of the status");
    value.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

fn read(process: &Child, name: &str) -> String {
    std::fs::read_to_string(format!("/proc/{}/{name}", process.id()))
        .expect("Linux tells of processes in /proc")
}
