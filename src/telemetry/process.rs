//! What Linux says of this process, as the `process_*` metrics that Prometheus clients have in common.
//! Reads `/proc`, so it may block: for the admin thread, never for a worker.

use std::fs;

use super::logging;
use super::metrics::{
    BUILD_INFO, LIMIT_HITS, LOG_DROPPED, PROCESS_CPU, PROCESS_MAX_FDS, PROCESS_OPEN_FDS, PROCESS_RESIDENT,
    PROCESS_START, Sink,
};

/// Ticks a second in `/proc`'s times: `USER_HZ`, which Linux keeps at 100 for x86-64 and arm64 whatever its timer (time(7)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Feeds the metrics of the process itself; what cannot be read is left out.
pub fn collect(sink: &mut dyn Sink) {
    sink.gauge(&BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    sink.counter(&LOG_DROPPED, &[], logging::dropped());
    if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident_bytes) {
        sink.gauge(&PROCESS_RESIDENT, &[], bytes);
    }
    if let Some(open) = open_descriptors() {
        sink.gauge(&PROCESS_OPEN_FDS, &[], open);
    }
    if let Some(most) = fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(descriptor_limit) {
        sink.gauge(&PROCESS_MAX_FDS, &[], most);
    }
    if let Some(hits) = fs::read_to_string("/proc/self/net/netstat").ok().as_deref().and_then(overflows) {
        sink.counter(&LIMIT_HITS, &[("limit", "backlog")], hits);
    }
    let Some(times) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Times::parse) else {
        return;
    };
    sink.gauge(&PROCESS_CPU, &[], times.cpu_ticks / TICKS_PER_SECOND);
    if let Some(boot) = fs::read_to_string("/proc/stat").ok().as_deref().and_then(boot_time) {
        sink.gauge(&PROCESS_START, &[], boot + times.start_ticks / TICKS_PER_SECOND);
    }
}

/// `VmRSS:      1234 kB` of `/proc/PID/status`.
pub(super) fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0)
}

/// `ListenOverflows` of `/proc/PID/net/netstat`: connections that found a backlog full. The kernel counts them for all
/// sockets of the network namespace together (SNMP counters in its networking documentation).
fn overflows(netstat: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|name| name == "ListenOverflows")?;
    values.split_whitespace().nth(place)?.parse().ok()
}

/// The soft limit in `Max open files    20000    20000    files` of `/proc/PID/limits`.
pub(super) fn descriptor_limit(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(f64::INFINITY),
        number => number.parse().ok(),
    }
}

/// Linux 6.2 and later tell the number as the size of `/proc/self/fd`; before that it is 0 and the entries are counted.
pub(super) fn open_descriptors() -> Option<f64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size as f64);
    }
    // One of the entries is the descriptor that lists them.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

/// `btime` of `/proc/stat`: when the machine was started, in seconds since 1970.
fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq)]
struct Times {
    /// Fields 14 and 15: user and system time.
    cpu_ticks: f64,
    /// Field 22: since the machine was started.
    start_ticks: f64,
}

impl Times {
    fn parse(stat: &str) -> Option<Self> {
        // Field 2 is the name in parentheses and may itself hold spaces and parentheses; field 3 follows the last one.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self { cpu_ticks: ticks(14)? + ticks(15)?, start_ticks: ticks(22)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::prometheus::Page;

    #[test]
    fn full_backlogs_are_read_by_name() {
        let text =
            "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 23 24\nIpExt: A\nIpExt: 9\n";
        assert_eq!(overflows(text), Some(23));
        assert_eq!(overflows("TcpExt: SyncookiesSent\nTcpExt: 1\n"), None);
        assert_eq!(overflows(""), None);
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3 0 777 1 2";
        assert_eq!(Times::parse(stat), Some(Times { cpu_ticks: 300.0, start_ticks: 777.0 }));
        assert_eq!(Times::parse("42 (a) S 1"), None);
    }

    #[test]
    fn limits_and_sizes_are_read() {
        assert_eq!(
            descriptor_limit("Max open files            1024                 4096   files\n"),
            Some(1024.0)
        );
        assert_eq!(
            descriptor_limit("Max open files            unlimited  unlimited   files\n"),
            Some(f64::INFINITY)
        );
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    1234 kB\n"), Some(1_263_616.0));
        assert_eq!(boot_time("cpu 1\nbtime 1795233487\n"), Some(1_795_233_487.0));
    }

    #[test]
    fn a_running_process_tells_all_of_them() {
        let mut page = Page::default();
        collect(&mut page);
        let text = page.finish();
        for metric in [
            &BUILD_INFO,
            &LOG_DROPPED,
            &PROCESS_CPU,
            &PROCESS_RESIDENT,
            &PROCESS_OPEN_FDS,
            &PROCESS_MAX_FDS,
            &PROCESS_START,
        ] {
            assert!(text.contains(&format!("\n{}", metric.name)), "{}: {text}", metric.name);
        }
    }
}
