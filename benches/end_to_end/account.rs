//! What a proxy under test has cost, from the kernel's account of its processes in `/proc`: CPU time and memory,
//! workers and other children included.

use std::time::Duration;

/// Length of the tick that `/proc/PID/stat` counts in (`USER_HZ`, 100 on every Linux).
const TICK: Duration = Duration::from_millis(10);

/// A process and all its children.
pub(crate) struct Account {
    processes: Vec<u32>,
}

impl Account {
    /// The processes below `root`, as they are now.
    pub(crate) fn of(root: u32) -> Self {
        let mut processes = vec![root];
        let mut next = 0;
        while let Some(&parent) = processes.get(next) {
            let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
            let children = children.unwrap_or_default();
            processes.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            next += 1;
        }
        Self { processes }
    }

    /// User and system time so far. `schedstat` counts nanoseconds; where the kernel has none, `stat` has ticks.
    pub(crate) fn cpu(&self) -> Duration {
        self.processes.iter().map(|&pid| from_schedstat(pid).unwrap_or_else(|| from_stat(pid))).sum()
    }

    /// The most memory that was ever resident, in bytes (`VmHWM`).
    pub(crate) fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// User-space memory that no file backs, resident now, in bytes (`RssAnon`).
    pub(crate) fn anonymous_memory(&self) -> u64 {
        self.status("RssAnon:")
    }

    fn status(&self, key: &str) -> u64 {
        let of_one = |pid: &u32| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        self.processes.iter().filter_map(of_one).sum::<u64>() * 1024
    }
}

/// Time on a CPU of all threads that live; `None` where the kernel does not count it.
fn from_schedstat(pid: u32) -> Option<Duration> {
    let mut total = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        total += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    (total > 0).then(|| Duration::from_nanos(total))
}

fn from_stat(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in brackets may hold anything; fields are counted from behind it: utime is the 12th, stime the 13th.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u32 = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    TICK * ticks
}
