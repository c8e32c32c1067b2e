//! What the lints are told of the machine, and which of their findings a start or a reload tells: those that what ran before
//! did not have, so that nobody reads the same ones at every reload.

use std::collections::HashSet;
use std::sync::Arc;

use crate::config::Config;
use crate::config::lints::{Finding, Machine, findings};
use crate::telemetry::usage::Usage;

/// Findings that are told in full; of more than that their number is.
const TOLD_MAX: usize = 20;

/// What is known of this machine.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes of memory fit, and are not negative"
)]
pub fn machine() -> Machine {
    let memory = Usage::limits().memory.map(|bytes| bytes as u64);
    Machine { descriptors: Some(super::descriptors::most()), memory, ..Machine::default() }
}

/// Logs what is found in `next` and was not in `former`, beside whatever else goes on: nobody waits for it.
pub(super) fn tell(former: Option<Arc<Config>>, next: Arc<Config>) {
    drop(tokio::task::spawn_blocking(move || {
        for line in news(former.as_deref(), &next, &machine()) {
            tracing::warn!("{line}");
        }
    }));
}

/// What is found in `next` and was not in `former`, a line each.
fn news(former: Option<&Config>, next: &Config, machine: &Machine) -> Vec<String> {
    let known: HashSet<(&str, String)> = former
        .map(|former| findings(former, machine))
        .unwrap_or_default()
        .into_iter()
        .map(|finding| (finding.lint.code, finding.what))
        .collect();
    let mut new = findings(next, machine);
    new.retain(|finding| !known.contains(&(finding.lint.code, finding.what.clone())));
    let left_out = new.len().saturating_sub(TOLD_MAX);
    let told = new.iter().take(TOLD_MAX).map(line);
    let rest = (left_out > 0).then(|| format!("{left_out} more findings: see plimsoll check"));
    told.chain(rest).collect()
}

fn line(finding: &Finding) -> String {
    let Finding { lint, what, place, .. } = finding;
    let place = place.as_ref();
    let place = place.map_or_else(String::new, |p| format!(" ({}:{})", p.file.display(), p.line));
    format!("{} {}: {what}{place}", lint.code, lint.name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn told_of(former: Option<&Config>, next: &Config) -> Vec<String> {
        news(former, next, &Machine::default())
    }

    fn config(more: &str) -> Config {
        let text = format!(
            "[listener.l]\nbind = [\"127.0.0.1:1\"]\n[[route]]\npool = \"p\"\n[pool.p]\nendpoints = [\"10.0.0.1:80\"]\n\
             [pool.unused]\nendpoints = [\"10.0.0.1:80\"]\n{more}"
        );
        crate::config::load_text(&text, Path::new("a.toml"), &|_| None)
            .unwrap_or_else(|errors| panic!("{errors}"))
    }

    #[test]
    fn a_reload_tells_what_the_last_one_did_not() {
        let first = config("");
        let told = told_of(None, &first);
        assert_eq!(
            told,
            [
                "L023 pool-unused: pool unused gets no traffic: no route, listener or failover that is used names it (a.toml:7)"
            ]
        );
        // The same again says nothing, wherever it stands by now.
        assert_eq!(told_of(Some(&first), &config("# a comment\n")), Vec::<String>::new());
        let next = config("[pool.other]\nendpoints = [\"10.0.0.1:80\"]\n");
        let told = told_of(Some(&first), &next);
        assert!(told.len() == 1 && told[0].contains("pool other"), "{told:?}");
        assert_eq!(told_of(Some(&next), &first), Vec::<String>::new());
    }

    #[test]
    fn a_flood_of_findings_is_counted() {
        let many: String =
            (0..50).map(|i| format!("[pool.more-{i}]\nendpoints = [\"10.0.0.1:80\"]\n")).collect();
        let told = told_of(None, &config(&many));
        assert_eq!(
            (told.len(), told.last().map(String::as_str)),
            (21, Some("31 more findings: see plimsoll check"))
        );
    }
}
