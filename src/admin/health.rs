//! `/health` and `/health/pools/NAME`: the pools as one who sends traffic here wants to know them, looked up at most
//! twice a second however often they are asked.
//!
//! A pool is judged by its own endpoints: one that lives from its failover pool, or fails open, tells a balancer above to
//! prefer another node.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::time::Instant;

use super::routes::Control;
use crate::control::event_json::milliseconds;
use crate::control::status::{EndpointStatus, OverloadStatus, PoolStatus, Status};

/// The oldest answer that is given again; the contract allows 1 s.
const KEEP: Duration = Duration::from_millis(500);

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// All of it may be used.
    Healthy,
    /// Some of it may not.
    Degraded,
    /// Nothing of it may.
    Unhealthy,
}

/// `GET /health`. The status comes first: Route 53 searches the first 5,120 bytes.
#[derive(Debug, Serialize)]
pub(super) struct HealthView {
    pub(super) status: State,
    #[serde(serialize_with = "as_map")]
    components: Vec<(String, ComponentView)>,
}

/// One pool. `GET /health/pools/NAME`.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct ComponentView {
    pub(super) status: State,
    /// The longest of the last probes of its endpoints; null where none has come back.
    latency_ms: Option<f64>,
    message: String,
}

impl HealthView {
    /// The worst of its pools; a process without pools is healthy.
    fn of(status: &Status) -> Self {
        let mut components: Vec<_> =
            status.pools.iter().map(|pool| (pool.name.to_string(), ComponentView::of(pool))).collect();
        components.extend(overload(&status.overload).map(|component| (OVERLOAD.to_owned(), component)));
        let worst = components.iter().map(|(_, component)| component.status).max();
        Self { status: worst.unwrap_or(State::Healthy), components }
    }

    /// The component of this name.
    pub(super) fn component(&self, name: &str) -> Option<&ComponentView> {
        self.components.iter().find(|(other, _)| other == name).map(|(_, component)| component)
    }
}

/// The component that is there while the process itself is overloaded; no pool can be called so.
const OVERLOAD: &str = "process/overload";

/// What runs short. It never makes the process unhealthy: what it takes away from others would come back to them from here.
fn overload(status: &OverloadStatus) -> Option<ComponentView> {
    let because = status.state.because?;
    let message = format!("{}: {} runs short", status.state.stage.word(), because.word());
    Some(ComponentView { status: State::Degraded, latency_ms: None, message })
}

impl ComponentView {
    fn of(pool: &PoolStatus) -> Self {
        // Who stands by in an exclusive pool is not meant to be usable.
        let counts = |endpoint: &&EndpointStatus| !pool.exclusive || endpoint.leader;
        let unusable = pool.endpoints.iter().filter(counts).find(|endpoint| !endpoint.usable);
        let status = match unusable {
            _ if !pool.is_usable => State::Unhealthy,
            Some(_) => State::Degraded,
            None => State::Healthy,
        };
        let probes = pool.endpoints.iter().filter_map(|endpoint| endpoint.probe.last.as_ref());
        Self {
            status,
            latency_ms: probes.map(|probe| milliseconds(probe.took)).max_by(f64::total_cmp),
            message: message(pool, unusable),
        }
    }
}

fn message(pool: &PoolStatus, unusable: Option<&EndpointStatus>) -> String {
    let mut text = if pool.exclusive {
        let leader = pool.endpoints.iter().find(|endpoint| endpoint.leader && endpoint.usable);
        leader.map_or_else(|| "no leader".to_owned(), |leader| format!("{} leads", leader.name))
    } else {
        format!("{} of {} endpoints usable", pool.usable(), pool.endpoints.len())
    };
    if let Some(endpoint) = unusable {
        let reason = endpoint.reason.as_deref().unwrap_or("not usable");
        text.push_str(&format!("; {}: {reason}", endpoint.name));
    }
    if let Some(other) = &pool.failover {
        text.push_str(&format!("; pool {other} serves"));
    }
    if pool.fails_open {
        text.push_str("; it fails open");
    }
    text
}

fn as_map<S: Serializer>(components: &[(String, ComponentView)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(components.iter().map(|(name, component)| (name, component)))
}

/// The last look at the pools.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Option<(Instant, Arc<HealthView>)>>);

impl Cache {
    /// What they looked like, at most [`KEEP`] ago.
    pub(super) fn look(&self, control: &dyn Control) -> Arc<HealthView> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((at, view)) = &*kept
            && now.saturating_duration_since(*at) < KEEP
        {
            return Arc::clone(view);
        }
        let view = Arc::new(HealthView::of(&control.status()));
        *kept = Some((now, Arc::clone(&view)));
        view
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::admin::sample::{self, Node};
    use crate::control::status::{LastProbe, ProbeState, ProbeStatus};
    use crate::model::name::{NameError, PoolName};

    fn judge(change: impl FnOnce(&mut PoolStatus)) -> Result<(State, String), NameError> {
        let mut pool = sample::pool("api", &["a:1", "b:1", "c:1"])?;
        change(&mut pool);
        let ComponentView { status, message, .. } = ComponentView::of(&pool);
        Ok((status, message))
    }

    fn down(endpoint: &mut EndpointStatus) {
        endpoint.usable = false;
        endpoint.reason = Some("down".into());
    }

    #[test]
    fn a_pool_is_as_well_as_its_own_endpoints() -> Result<(), NameError> {
        let said = |state, message: &str| Ok((state, message.to_owned()));
        assert_eq!(judge(|_| {}), said(State::Healthy, "3 of 3 endpoints usable"));
        assert_eq!(
            judge(|p| down(&mut p.endpoints[1])),
            said(State::Degraded, "2 of 3 endpoints usable; b:1: down")
        );
        let none = |p: &mut PoolStatus| {
            p.endpoints.iter_mut().for_each(down);
            p.is_usable = false;
        };
        assert_eq!(judge(none), said(State::Unhealthy, "0 of 3 endpoints usable; a:1: down"));
        let dr = PoolName::new("dr")?;
        let elsewhere = judge(|p| {
            none(p);
            p.failover = Some(dr);
        });
        assert_eq!(elsewhere, said(State::Unhealthy, "0 of 3 endpoints usable; a:1: down; pool dr serves"));
        let open = judge(|p| {
            none(p);
            p.fails_open = true;
        });
        assert_eq!(open, said(State::Unhealthy, "0 of 3 endpoints usable; a:1: down; it fails open"));
        Ok(())
    }

    #[test]
    fn standbys_of_an_exclusive_pool_do_not_count() -> Result<(), NameError> {
        let exclusive = |leader: Option<usize>| {
            judge(|pool| {
                pool.exclusive = true;
                for (index, endpoint) in pool.endpoints.iter_mut().enumerate() {
                    endpoint.leader = Some(index) == leader;
                    endpoint.usable = endpoint.leader;
                }
                pool.is_usable = leader.is_some();
            })
        };
        assert_eq!(exclusive(Some(1))?, (State::Healthy, "b:1 leads".to_owned()));
        assert_eq!(exclusive(None)?, (State::Unhealthy, "no leader".to_owned()));
        Ok(())
    }

    #[test]
    fn the_whole_is_as_bad_as_its_worst_pool_and_names_latency() -> Result<(), NameError> {
        let mut worse = sample::pool("b", &["a:1", "b:1"])?;
        down(&mut worse.endpoints[0]);
        for (endpoint, took) in worse.endpoints.iter_mut().zip([3, 20]) {
            let last = LastProbe {
                at: SystemTime::UNIX_EPOCH,
                took: Duration::from_millis(took),
                text: "200".to_owned(),
            };
            endpoint.probe = ProbeStatus { state: ProbeState::Up, since: None, last: Some(last) };
        }
        let view = HealthView::of(&sample::status(vec![sample::pool("a", &["a:1"])?, worse]));
        assert_eq!(view.status, State::Degraded);
        assert_eq!(view.component("b").and_then(|component| component.latency_ms), Some(20.0));
        assert_eq!(HealthView::of(&sample::status(Vec::new())).status, State::Healthy);
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_for_a_moment_only() -> Result<(), NameError> {
        let (node, cache) = (Node::new()?, Cache::default());
        assert_eq!(cache.look(&node).status, State::Healthy);
        node.set_usable(false);
        assert_eq!(cache.look(&node).status, State::Healthy);
        tokio::time::advance(KEEP).await;
        assert_eq!(cache.look(&node).status, State::Unhealthy);
        Ok(())
    }
}
