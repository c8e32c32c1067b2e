//! `/v1/config` and `/v1/plan`: the configuration that runs and where it came from, and what another one would change.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde::Serialize;

use super::answer::{self, Answer};
use super::views::{DiagnosticView, FindingView};
use crate::config;
use crate::config::lints::findings;
use crate::control::event_json::time;
use crate::control::lints::machine;
use crate::control::overrides::Overrides;
use crate::control::running::{Plan, Running};
use crate::runtime::diff::Item;

/// `GET /v1/config`.
#[derive(Debug, Serialize)]
struct ConfigView {
    provenance: &'static str,
    /// The files that it was read from, the main one first.
    files: Vec<String>,
    config_hash: String,
    generation: u64,
    loaded: String,
    /// The process goes back to what ran before unless `POST /v1/reload/confirm` comes by then.
    confirm_until: Option<String>,
    fallback: Option<FallbackView>,
    overrides: OverridesView,
    /// What the lints find in it.
    findings: Vec<FindingView>,
    /// The whole configuration with every default, as `plimsoll check --show` prints it.
    effective: String,
}

/// Why the last good configuration serves.
#[derive(Debug, Serialize)]
struct FallbackView {
    why: String,
    /// When it was kept.
    kept: String,
    /// Each error of the file.
    diagnostics: Vec<DiagnosticView>,
}

#[derive(Debug, Serialize)]
struct OverridesView {
    endpoints: Vec<EndpointOverrideView>,
    failovers: BTreeMap<String, String>,
    added: Vec<AddedView>,
    removed: Vec<RemovedView>,
}

/// An endpoint that was added at run time.
#[derive(Debug, Serialize)]
struct AddedView {
    pool: String,
    endpoint: String,
    address: String,
    weight: u16,
    tier: u8,
    zone: String,
}

/// An endpoint that was removed at run time, whatever says that it is there.
#[derive(Debug, Serialize)]
struct RemovedView {
    pool: String,
    endpoint: String,
}

#[derive(Debug, Serialize)]
struct EndpointOverrideView {
    pool: String,
    endpoint: String,
    admin_state: Option<&'static str>,
    weight: Option<u16>,
}

/// `POST /v1/plan`.
#[derive(Debug, Serialize)]
struct PlanView {
    config_hash: String,
    summary: String,
    /// Why a reload would be refused.
    refused: Vec<String>,
    /// Names that only a reload asks for.
    unasked: Vec<String>,
    changes: Vec<ChangeView>,
}

#[derive(Debug, Serialize)]
struct ChangeView {
    what: &'static str,
    name: String,
    change: &'static str,
    in_flight: u64,
    details: Vec<String>,
}

/// `POST /v1/reload/confirm`.
#[derive(Debug, Serialize)]
struct ConfirmedView {
    generation: u64,
}

impl From<Overrides> for OverridesView {
    fn from(overrides: Overrides) -> Self {
        let Overrides { endpoints, failovers, roster } = overrides;
        let endpoints = endpoints.into_iter().map(|((pool, endpoint), set)| EndpointOverrideView {
            pool: pool.to_string(),
            endpoint: endpoint.to_string(),
            admin_state: set.state.map(|state| state.word()),
            weight: set.weight,
        });
        let added = roster.added.into_iter().map(|((pool, endpoint), set)| AddedView {
            pool: pool.to_string(),
            endpoint: endpoint.to_string(),
            address: set.address.to_string(),
            weight: set.weight.get(),
            tier: set.tier,
            zone: set.zone,
        });
        let removed = roster.removed.into_iter();
        Self {
            endpoints: endpoints.collect(),
            failovers: failovers.into_iter().map(|(pool, to)| (pool.to_string(), to.to_string())).collect(),
            added: added.collect(),
            removed: removed
                .map(|(pool, endpoint)| RemovedView {
                    pool: pool.to_string(),
                    endpoint: endpoint.to_string(),
                })
                .collect(),
        }
    }
}

/// What runs.
pub(super) fn running(running: Running) -> Answer {
    let Running { config, provenance, loaded, generation, fallback, confirm_until, overrides } = running;
    let view = ConfigView {
        provenance: provenance.word(),
        files: config.origin.texts.iter().map(|(path, _)| path.display().to_string()).collect(),
        config_hash: format!("{:016x}", config.hash),
        generation,
        loaded: time(loaded),
        confirm_until: confirm_until.map(time),
        fallback: fallback.map(|fallback| FallbackView {
            kept: time(fallback.kept),
            diagnostics: fallback
                .diagnostics
                .iter()
                .flat_map(|all| all.list())
                .map(DiagnosticView::from)
                .collect(),
            why: fallback.why,
        }),
        overrides: overrides.into(),
        findings: findings(&config, &machine()).iter().map(FindingView::from).collect(),
        effective: config::show(&config),
    };
    answer::json(StatusCode::OK, &view)
}

/// What another configuration would change.
pub(super) fn plan(plan: Plan) -> Answer {
    let Plan { diff, refused, unasked, hash } = plan;
    let summary = diff.summary();
    let change = |item: Item| ChangeView {
        what: item.what.word(),
        name: item.name,
        change: item.fate.word(),
        in_flight: item.in_flight,
        details: item.details,
    };
    let changes = diff.items.into_iter().map(change).collect();
    answer::json(
        StatusCode::OK,
        &PlanView { config_hash: format!("{hash:016x}"), summary, refused, unasked, changes },
    )
}

/// What was on trial stays.
pub(super) fn confirmed(generation: u64) -> Answer {
    answer::json(StatusCode::OK, &ConfirmedView { generation })
}
