//! What would become of a request, as JSON for a program.

use serde_json::{Value, json};

use super::{EndpointSeen, Explanation, LimitSeen, PoolSeen};
use crate::control::event_json::time;

impl Explanation {
    /// The same as its text, by name. What is not known, as how endpoints stand where only a configuration was looked at,
    /// is null.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let routes = self
            .routes
            .all
            .iter()
            .map(|route| json!({ "name": route.name, "verdict": route.verdict, "why": route.why }));
        json!({
            "request": self.request,
            "listener": self.listener,
            "generation": self.generation,
            "client": self.client,
            "notes": self.notes,
            "routes": routes.collect::<Vec<_>>(),
            "otherwise": self.routes.otherwise,
            "route": self.route,
            "limits": self.limits.iter().map(limit).collect::<Vec<_>>(),
            "effects": self.effects,
            "action": self.action,
            "split": self.split,
            "pools": self.pools.iter().map(pool).collect::<Vec<_>>(),
            "beside": self.beside,
            "outcome": self.outcome,
        })
    }
}

fn limit(limit: &LimitSeen) -> Value {
    json!({ "name": limit.name, "text": limit.text, "now": limit.now, "stops": limit.stops })
}

fn pool(pool: &PoolSeen) -> Value {
    json!({
        "name": pool.name,
        "heading": pool.heading,
        "said": pool.said,
        "hint": pool.hint,
        "order": pool.order.iter().map(endpoint).collect::<Vec<_>>(),
        "out": pool.out.iter().map(endpoint).collect::<Vec<_>>(),
        "after": pool.after,
    })
}

fn endpoint(endpoint: &EndpointSeen) -> Value {
    let now = endpoint.now.as_ref().map(|now| {
        json!({
            "usable": now.usable,
            "reason": now.reason,
            "admin_state": now.admin_state.word(),
            "probe": now.probe.state.word(),
            "ejected_until": now.ejection.until.map(time),
            "breaker": now.breaker.map(|breaker| breaker.state.word()),
            "effective_weight": now.effective_weight,
            "in_flight": now.in_flight,
            "max_requests": now.ceiling.requests,
        })
    });
    json!({
        "pool": endpoint.pool,
        "name": endpoint.name,
        "address": endpoint.address,
        "tier": endpoint.tier,
        "weight": endpoint.weight,
        "now": now,
    })
}
