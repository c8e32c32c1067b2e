//! Certificates that expire soon: an alarm at every load of a configuration, and once a day while nothing is done.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::journal::{Change, Kind};
use crate::config::tls::certificate::SOON;
use crate::model::name::ListenerName;
use crate::runtime::snapshot::Snapshot;

/// How often the same one is.
const AGAIN: Duration = Duration::from_secs(24 * 3600);

/// What has been told.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    told: HashMap<(ListenerName, PathBuf), SystemTime>,
}

impl Expiry {
    /// Forgets what was told: a configuration has been loaded, and whoever did that is looking.
    pub(super) fn loaded(&mut self) {
        self.told.clear();
    }

    /// What is to be told at `now`.
    pub(super) fn look(&mut self, snapshot: &Snapshot, now: SystemTime) -> Vec<Change> {
        let mut changes = Vec::new();
        for listener in &snapshot.listeners {
            for certificate in listener.tls.iter().flat_map(|tls| &tls.certificates) {
                let expires = certificate.facts.expires;
                let left = expires.duration_since(now);
                if left.as_ref().is_ok_and(|left| *left > SOON) {
                    continue;
                }
                let told = self.told.entry((listener.name.clone(), certificate.path.clone()));
                let is_due = |told: SystemTime| now.duration_since(told).is_ok_and(|since| since >= AGAIN);
                let mut is_new = false;
                let told = told.or_insert_with(|| {
                    is_new = true;
                    now
                });
                if !is_new && !is_due(*told) {
                    continue;
                }
                *told = now;
                let path = certificate.path.display();
                let name = &listener.name;
                let (to, when) = match left {
                    Ok(left) => ("a certificate expires soon", format!("expires in {}", days(left))),
                    Err(ago) => {
                        ("a certificate has expired", format!("expired {} ago", days(ago.duration())))
                    }
                };
                changes.push(Change::new(Kind::Alarm, to, format!("{path} of listener {name} {when}")));
            }
        }
        changes
    }
}

fn days(time: Duration) -> String {
    match time.as_secs() / (24 * 3600) {
        0 => "less than a day".to_owned(),
        1 => "a day".to_owned(),
        days => format!("{days} days"),
    }
}
