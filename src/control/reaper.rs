//! The duty of process 1 in a container: orphans come to it when their parents die, and stay as zombies until it waits
//! for them. What we started ourselves is waited for where it was started, and left alone here.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use tokio::time::{MissedTickBehavior, interval};

/// How often zombies are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// A zombie that may be a child of ours is its starter's for so many looks; its starter waits for it at once.
const OUR_OWN_LOOKS: u32 = 10;

/// Waits for orphans for as long as it is polled; at once over where the process is not the one that inherits them.
pub async fn reap_orphans() {
    if !getpid().is_init() {
        return;
    }
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = HashMap::new();
    loop {
        look.tick().await;
        seen = reap(&seen);
    }
}

/// Waits for every zombie that is surely none of ours, and for those that nobody has waited for since long. What is left
/// is counted by the looks that have seen it.
fn reap(seen: &HashMap<Pid, u32>) -> HashMap<Pid, u32> {
    let mut left = HashMap::new();
    let Some(own) = Stat::of("self") else { return left };
    for child in children() {
        let stat = Stat::of(&child.as_raw_pid().to_string());
        let Some(stat) = stat.filter(|stat| stat.is_zombie) else { continue };
        let looks = seen.get(&child).map_or(1, |looks| looks + 1);
        if stat.is_orphan(child, &own) || looks > OUR_OWN_LOOKS {
            if let Err(error) = waitpid(Some(child), WaitOptions::NOHANG) {
                // Whoever was quicker has done what was to be done.
                tracing::debug!(%error, child = child.as_raw_pid(), "an orphan cannot be waited for");
            }
        } else {
            left.insert(child, looks);
        }
    }
    left
}

/// Every child of every thread, orphans that have come to us included.
fn children() -> Vec<Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            let words = list.split_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?));
            words.collect::<Vec<_>>()
        })
        .collect()
}

/// What `/proc/PID/stat` says of a process (proc(5)). Groups and sessions are read here and not asked of the kernel by
/// their calls: those of process 1 lie outside of its namespace and have no number there.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    is_zombie: bool,
    group: i32,
    session: i32,
}

impl Stat {
    fn of(process: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name may hold anything, parentheses too; what follows its last one does not.
        let (_, rest) = text.rsplit_once(')')?;
        let mut words = rest.split_whitespace();
        let is_zombie = words.next()? == "Z";
        let _parent = words.next()?;
        Some(Self { is_zombie, group: words.next()?.parse().ok()?, session: words.next()?.parse().ok()? })
    }

    /// Programs of probes and of `[[notify]]` lead a process group of their own in our session; what else is here came
    /// by the death of its parent. A new process of ours shares our group: it is not taken for an orphan either.
    fn is_orphan(&self, child: Pid, own: &Self) -> bool {
        self.session != own.session || (self.group != child.as_raw_pid() && self.group != own.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_is_read_whatever_the_name_holds() {
        let stat = Stat::parse("17 (a) Z 1 (b) Z 1 12 9 0 -1 4194560 0");
        assert_eq!(stat, Some(Stat { is_zombie: true, group: 12, session: 9 }));
        assert_eq!(Stat::parse("17 (sh) S 1 17 0 0"), Some(Stat { is_zombie: false, group: 17, session: 0 }));
        assert_eq!(Stat::parse("17 (sh"), None);
    }

    #[test]
    fn what_we_started_is_told_from_orphans() {
        let own = Stat { is_zombie: false, group: 0, session: 0 };
        let child = Pid::from_raw(20).expect("a number");
        let is_orphan = |group, session| Stat { is_zombie: true, group, session }.is_orphan(child, &own);
        assert!(!is_orphan(20, 0), "a program leads a group of its own");
        assert!(!is_orphan(0, 0), "a new process of ours shares our group");
        assert!(is_orphan(19, 0), "a child of a program");
        assert!(is_orphan(20, 20), "a child that has left for a session of its own");
    }
}
