//! What is valid and may all the same not be what was meant. Lints look at a whole [`Config`] and say nothing of what is
//! wrong, which was refused before; nothing is asked of the network.
//!
//! The map: `catalogue` (every lint as data), `scene` (who reaches which pool), `places` (where a finding stands), and a file for
//! each concern: `probes`, `times`, `retries`, `trust`, `tls`, `routes`, `redirects`, `pools`, `room`.

mod catalogue;
mod places;
mod pools;
mod probes;
mod redirects;
mod retries;
mod room;
mod routes;
mod scene;
mod times;
mod tls;
mod trust;

use std::time::{Duration, SystemTime};

pub use catalogue::{LINTS, Lint, lint_of, page};
pub use places::Place;
use places::{Owner, Places};
pub use probes::{ANSWER, too_late};
use scene::Scene;

use super::Config;

/// What is known of the machine; what is not known is not looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// The time.
    pub now: SystemTime,
    /// Descriptors that the process may have at most.
    pub descriptors: Option<u64>,
    /// Bytes of memory that it may have at most.
    pub memory: Option<u64>,
}

impl Default for Machine {
    fn default() -> Self {
        Self { now: SystemTime::now(), descriptors: None, memory: None }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The lint.
    pub lint: &'static Lint,
    /// What it is, for a person.
    pub what: String,
    /// The key that it is about, from the root.
    pub key: String,
    /// Where that stands, or what is nearest to it.
    pub place: Option<Place>,
}

/// What the lints find, before it is known where it stands.
#[derive(Debug, Default)]
struct Found(Vec<Raw>);

#[derive(Debug)]
struct Raw {
    code: &'static str,
    owner: Owner,
    keys: &'static [&'static str],
    what: String,
}

impl Found {
    fn pool(
        &mut self,
        code: &'static str,
        name: &impl ToString,
        keys: &'static [&'static str],
        what: String,
    ) {
        self.0.push(Raw { code, owner: Owner::Pool(name.to_string()), keys, what });
    }

    fn listener(
        &mut self,
        code: &'static str,
        name: &impl ToString,
        keys: &'static [&'static str],
        what: String,
    ) {
        self.0.push(Raw { code, owner: Owner::Listener(name.to_string()), keys, what });
    }

    fn route(
        &mut self,
        code: &'static str,
        name: &impl ToString,
        keys: &'static [&'static str],
        what: String,
    ) {
        self.0.push(Raw { code, owner: Owner::Route(name.to_string()), keys, what });
    }

    fn section(
        &mut self,
        code: &'static str,
        name: &'static str,
        keys: &'static [&'static str],
        what: String,
    ) {
        self.0.push(Raw { code, owner: Owner::Section(name), keys, what });
    }
}

/// All that is found and not allowed, in the order of the codes and then of the configuration.
#[must_use]
pub fn findings(config: &Config, machine: &Machine) -> Vec<Finding> {
    let scene = Scene::of(config, machine);
    let mut found = Found::default();
    for look in [
        probes::look,
        times::look,
        retries::look,
        trust::look,
        tls::look,
        routes::look,
        redirects::look,
        pools::look,
        room::look,
    ] {
        look(&scene, &mut found);
    }
    found.0.retain(|raw| config.check.allow_codes.iter().all(|code| code != raw.code));
    if found.0.is_empty() {
        return Vec::new();
    }
    // What was found first stays first of its code.
    found.0.sort_by_key(|raw| raw.code);
    let places = Places::of(&config.origin);
    let one = |Raw { code, owner, keys, what }: Raw| {
        let (key, place) = (owner.key(keys), places.find(&owner, keys));
        Some(Finding { lint: lint_of(code)?, what, key, place })
    };
    found.0.into_iter().filter_map(one).collect()
}

/// Seconds with one digit behind the point, rounded up.
#[must_use]
pub fn seconds(time: Duration) -> String {
    let tenths = time.as_millis().div_ceil(100);
    format!("{}.{} s", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests;
