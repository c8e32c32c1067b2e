//! What would become of a request, as text for a person.

use std::fmt::{Display, Formatter, Result};

use super::{EndpointSeen, Explanation, PoolSeen, Routes};
use crate::control::event_json::time;
use crate::control::status::{BreakerState, EndpointStatus, ProbeState};

impl Display for Explanation {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        writeln!(out, "request: {}\nlistener: {}", self.request, self.listener)?;
        if let Some(generation) = self.generation {
            writeln!(out, "state: as it stands now, generation {generation}")?;
        }
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        if let Some(client) = &self.client {
            writeln!(out, "client: {client}")?;
        }
        self.routes.fmt(out)?;
        if !self.limits.is_empty() {
            writeln!(out, "\nlimits, all of which must let it pass:")?;
        }
        for limit in &self.limits {
            writeln!(out, "  {}: {}", limit.name, limit.text)?;
            if let Some(now) = &limit.now {
                writeln!(out, "    now: {now}")?;
            }
        }
        section(out, "what it makes of the request", &self.effects)?;
        if let Some(action) = &self.action {
            writeln!(out, "\naction: {action}")?;
        }
        lines(out, &self.split)?;
        for pool in &self.pools {
            pool.fmt(out)?;
        }
        section(out, "beside that", &self.beside)?;
        match &self.outcome {
            Some(outcome) => writeln!(out, "\nnow: {outcome}"),
            None => Ok(()),
        }
    }
}

impl Display for Routes {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        if !self.heading.is_empty() {
            writeln!(out, "\n{}: {}", self.heading, self.all.len())?;
        }
        for (place, route) in self.all.iter().enumerate() {
            let number = if self.ordered { format!("{}. ", place + 1) } else { String::new() };
            let why = route.why.as_ref().map(|why| format!(", {why}")).unwrap_or_default();
            writeln!(out, "  {number}{}: {}{why}", route.name, route.verdict)?;
        }
        match &self.otherwise {
            Some(otherwise) => writeln!(out, "\n{otherwise}"),
            None => Ok(()),
        }
    }
}

impl Display for PoolSeen {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        writeln!(out, "\npool {}: {}", self.name, self.heading)?;
        lines(out, &self.said)?;
        writeln!(out, "  {}", self.hint)?;
        for (place, endpoint) in self.order.iter().enumerate() {
            writeln!(out, "  {}. {endpoint}", place + 1)?;
        }
        for endpoint in &self.out {
            let never = if endpoint.now.is_some() { "not now" } else { "never" };
            writeln!(out, "  {never}: {endpoint}")?;
        }
        lines(out, &self.after)
    }
}

impl Display for EndpointSeen {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        let Self { pool, name, address, tier, weight, now } = self;
        if let Some(pool) = pool {
            write!(out, "{pool}/")?;
        }
        let place = if name == address { address.clone() } else { format!("{name} at {address}") };
        write!(out, "{place}, tier {tier}, weight {weight}")?;
        match now {
            Some(now) => write!(out, "; {}", standing(now)),
            None => Ok(()),
        }
    }
}

/// How an endpoint stands.
fn standing(now: &EndpointStatus) -> String {
    let mut said = match &now.reason {
        Some(reason) => reason.to_string(),
        None if now.usable => "usable".to_owned(),
        None => "not usable".to_owned(),
    };
    if now.effective_weight != now.weight {
        said.push_str(&format!(", weight in force {}", now.effective_weight));
    }
    match now.ceiling.requests {
        Some(most) => said.push_str(&format!(", {} of {most} in flight", now.in_flight)),
        None => said.push_str(&format!(", {} in flight", now.in_flight)),
    }
    if now.probe.state != ProbeState::Off {
        said.push_str(&format!(", probe {}", now.probe.state.word()));
    }
    if let Some(until) = now.ejection.until {
        said.push_str(&format!(", ejected until {}", time(until)));
    }
    if let Some(breaker) = now.breaker.filter(|breaker| breaker.state != BreakerState::Closed) {
        said.push_str(&format!(", breaker {}", breaker.state.word()));
    }
    said
}

fn section(out: &mut Formatter<'_>, heading: &str, said: &[String]) -> Result {
    if !said.is_empty() {
        writeln!(out, "\n{heading}:")?;
    }
    lines(out, said)
}

fn lines(out: &mut Formatter<'_>, said: &[String]) -> Result {
    said.iter().try_for_each(|line| writeln!(out, "  {line}"))
}
