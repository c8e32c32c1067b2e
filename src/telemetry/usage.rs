//! What this process uses of what it may have, memory and descriptors, as Linux says. Reads `/proc` and `/sys`, so it may
//! block: for control's thread, never for a worker.

use std::fs;
use std::path::Path;

use super::process::{descriptor_limit, open_descriptors, resident_bytes};

/// What is used, and of how much; what cannot be read is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Resident memory, in bytes.
    pub memory: Option<f64>,
    /// Open descriptors.
    pub descriptors: Option<f64>,
}

impl Usage {
    /// What is used now.
    #[must_use]
    pub fn read() -> Self {
        Self {
            memory: fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident_bytes),
            descriptors: open_descriptors(),
        }
    }

    /// What there may be at most: the least of the control groups' limits (cgroups(7), both versions) and the machine's
    /// memory, and the soft limit on descriptors.
    #[must_use]
    pub fn limits() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let machine = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total_bytes);
        let written = files(&groups).into_iter().filter_map(|file| fs::read_to_string(Path::new(&file)).ok());
        // A group without a limit says "max", or of version 1 more than any machine has.
        let memory = written.filter_map(|limit| limit.trim().parse::<f64>().ok()).chain(machine);
        Self {
            memory: memory.min_by(f64::total_cmp).filter(|limit| *limit > 0.0),
            descriptors: fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(descriptor_limit),
        }
    }
}

/// The files with the memory limits of these groups and of those that they are in.
fn files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            some if some.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for group in Path::new(group).ancestors() {
            let group = group.to_string_lossy();
            files.push(format!("{root}{}/{file}", group.trim_end_matches('/')));
        }
    }
    files
}

/// `MemTotal:       16384 kB` of `/proc/meminfo`.
fn total_bytes(memory: &str) -> Option<f64> {
    let line = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_bounded_by_those_that_it_is_in() {
        assert_eq!(
            files("0::/system.slice/plimsoll.service\n"),
            [
                "/sys/fs/cgroup/system.slice/plimsoll.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            files("5:cpu,cpuacct:/a\n4:memory:/a\n"),
            ["/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
        assert!(files("nonsense\n").is_empty());
    }

    #[test]
    fn a_running_process_uses_less_than_it_may_have() {
        let (used, limits) = (Usage::read(), Usage::limits());
        assert!(used.memory > Some(0.0) && used.memory < limits.memory, "{used:?} of {limits:?}");
        assert!(used.descriptors > Some(0.0) && used.descriptors < limits.descriptors);
        assert_eq!(total_bytes("MemTotal:  2 kB\n"), Some(2048.0));
    }
}
