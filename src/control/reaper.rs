//! The duty of process 1 in a container: orphans come to it when their parents die, and stay as zombies until it waits
//! for them. What we started ourselves is waited for where it was started, and left alone here.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, getpgid, getpid, getsid, waitid, waitpid};
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
    for child in children().into_iter().filter(|&child| is_zombie(child)) {
        let looks = seen.get(&child).map_or(1, |looks| looks + 1);
        if is_orphan(child) || looks > OUR_OWN_LOOKS {
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

fn is_zombie(child: Pid) -> bool {
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::Pid(child), peek), Ok(Some(_)))
}

/// Programs of probes and of `[[notify]]` lead a process group of their own in our session; what else is here came by
/// the death of its parent. A new process of ours shares our group: it is not taken for an orphan either.
fn is_orphan(child: Pid) -> bool {
    let ours = |group: Pid| group == child || getpgid(None).is_ok_and(|own| own == group);
    let foreign_group = getpgid(Some(child)).is_ok_and(|group| !ours(group));
    let session = |of: Option<Pid>| getsid(of).ok();
    foreign_group || session(Some(child)) != session(None)
}
