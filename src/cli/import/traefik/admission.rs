//! Who may connect to a listener for bytes: middlewares of TCP, and conditions on where clients come from.

use ipnet::IpNet;

use super::super::document::{Table, Value};
use super::super::report::{Place, Report};
use super::bytes::Router;
use super::fields::Fields;
use super::matcher::network;
use super::said::refused;
use super::service::Lost;
use super::source::{Parts, own_name};

/// Guards of a router, as a listener has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Guards {
    pub(super) allow: Option<(Vec<IpNet>, Place)>,
    pub(super) most: Option<(i64, Place)>,
}

/// Takes in what a middleware says.
pub(super) fn middleware(
    name: &str,
    parts: &Parts<'_>,
    guards: &mut Guards,
    report: &mut Report,
) -> Result<(), Lost> {
    let own = own_name(name)
        .map_err(|provider| Lost::Unsaid(format!("{name} is what {provider} says, which is in no file")))?;
    let Some(element) = parts.of("tcp", "middlewares").get(own) else {
        return Err(Lost::Refused(format!("there is no middleware {name}")));
    };
    if element.unknown {
        return Err(Lost::Unsaid(format!("a template makes some of the middleware {name}")));
    }
    let mut fields = Fields::of(element.at, element.node, report);
    let lists = ["ipAllowList", "ipWhiteList"].map(|kind| fields.table(kind, report));
    let most = fields.table("inFlightConn", report);
    let known = fields.finish(report);
    let mut found = known;
    for mut list in lists.into_iter().flatten() {
        let range = list.texts("sourceRange", report);
        report.translated(list.at);
        found &= list.finish(report);
        let Some((range, at)) = range.filter(|(range, _)| !range.is_empty()) else {
            found = false;
            continue;
        };
        report.translated(at);
        let mut networks = Vec::new();
        for (text, at) in range {
            match network(&text) {
                Some(network) => {
                    report.translated(at);
                    networks.push(network);
                }
                None => found = false,
            }
        }
        let own = guards.allow.as_ref().map(|(own, _)| own.as_slice());
        match super::super::region::meet_networks(own, &networks) {
            Some(both) => guards.allow = Some((both, at)),
            None => return Err(Lost::Unsaid("no client is in all of its lists".to_owned())),
        }
    }
    if let Some(mut most) = most {
        report.translated(most.at);
        let amount = most.number("amount", report);
        found &= most.finish(report);
        match amount {
            Some((amount, at)) if amount > 0 => {
                report.translated(at);
                guards.most = Some((amount, at));
            }
            _ => return Err(Lost::Unsaid("no connection at all is let in".to_owned())),
        }
    }
    if found {
        report.translated(element.at);
        Ok(())
    } else {
        refused(element.at, element.node, "Traefik does not make it, nor routers that name it", report);
        Err(Lost::Refused(format!("the middleware {name} is wrong")))
    }
}

/// Who may connect is the listener's: routers that say something else are left out.
pub(super) fn guard(ready: &mut Vec<(&Router, String, Guards)>, listener: &mut Table, report: &mut Report) {
    let of = |router: &Router, guards: &Guards| {
        let asked: Vec<&Vec<IpNet>> = router.asked.iter().filter_map(|asked| asked.source.as_ref()).collect();
        match (asked.as_slice(), &guards.allow) {
            ([], allow) => Ok(allow.clone()),
            ([one], None) if router.asked.len() == 1 => Ok(Some(((*one).clone(), router.rule_at))),
            _ => Err("who may connect is one list of the listener, and no part of a rule"),
        }
    };
    let mut lists: Vec<Option<Vec<IpNet>>> = Vec::new();
    ready.retain(|(router, _, guards)| match of(router, guards) {
        Ok(list) => {
            lists.push(list.map(|(list, _)| list));
            true
        }
        Err(why) => {
            report.not_possible(router.at, format!("{why}: nobody is let in by it"));
            false
        }
    });
    // Only who may come to all of them is let in.
    let mut all: Option<Vec<IpNet>> = None;
    let mut open = true;
    for list in lists.iter().flatten() {
        match super::super::region::meet_networks(all.as_deref(), list) {
            Some(both) => all = Some(both),
            None => open = false,
        }
    }
    if !open {
        let mut lists = lists.iter();
        ready.retain(|(router, ..)| {
            let stays = matches!(lists.next(), Some(None));
            if !stays {
                report.not_possible(router.at, "who may connect is one list of the listener, and nobody is in all of them: give this router an entry point of its own");
            }
            stays
        });
    } else if let Some(all) = all {
        let from =
            ready.iter().find_map(|(router, _, guards)| of(router, guards).ok().flatten().map(|(_, at)| at));
        listener.set("allow", Value::texts(all.iter().map(ToString::to_string)), from);
        for ((router, ..), list) in ready.iter().zip(&lists) {
            if list.as_ref() != Some(&all) {
                report.not_possible(router.at, "who may connect is one list of the listener, which holds for this router too: give it an entry point of its own where others are to come as well");
            }
        }
    }
    let most: Vec<Option<(i64, Place)>> = ready.iter().map(|(_, _, guards)| guards.most).collect();
    if let Some(Some((amount, at))) =
        most.iter().min_by_key(|most| most.map_or(i64::MAX, |(amount, _)| amount))
    {
        listener.set("max_connections_per_source", Value::Integer((*amount).clamp(1, 1_000_000)), Some(*at));
        if most.iter().any(|other| other.map(|(amount, _)| amount) != Some(*amount)) {
            report.approximated(
                *at,
                "connections of one client are counted by the listener, for all that comes to it",
            );
        }
    }
}
