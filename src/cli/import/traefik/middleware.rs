//! Middlewares: each by its kind, in the order in which a router names them.

use std::path::Path;

use ipnet::IpNet;

use super::super::document::Block;
use super::super::report::{Place, Report, Verdict};
use super::auth;
use super::fields::Fields;
use super::headers;
use super::limit;
use super::path;
use super::redirect;
use super::regexp::{self, Fault};
use super::said::refused;
use super::service::Lost;
use super::source::{Element, Parts, own_name};
use super::treatment::Treatment;

/// What a file that is named says.
pub(super) type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// Where middlewares are applied.
pub(super) struct Around<'a, 's> {
    pub(super) parts: &'a Parts<'s>,
    /// What a file that is named says.
    pub(super) file: Read<'a>,
    pub(super) report: &'a mut Report,
    /// Pools of services that are asked about requests.
    pub(super) pools: &'a mut Vec<Block>,
    /// What the router is called.
    pub(super) router: &'a str,
    /// What the middleware is called.
    pub(super) middleware: &'s str,
    /// The line of its kind.
    pub(super) at: Place,
    /// Hosts that all requests have one of, where it is known.
    pub(super) hosts: Option<Vec<String>>,
    /// What all paths begin with.
    pub(super) start: String,
    /// Where they come in.
    pub(super) door: &'a Inlet,
}

/// What middlewares ask of a listener.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Inlet {
    /// Clients come by TLS.
    pub(super) tls: bool,
    /// Networks whose word is taken for whom the client is.
    pub(super) trusts: Vec<IpNet>,
    /// Some of them are believed in X-Forwarded fields by Traefik, not only in PROXY headers.
    pub(super) believes: bool,
    /// So many proxies stand before the listener.
    pub(super) hops: Option<i64>,
}

impl Inlet {
    /// Whether anybody can pass for any address.
    pub(super) fn trusts_all(&self) -> bool {
        self.trusts.iter().any(|network| network.prefix_len() < 2)
    }
}

/// What a kind of middleware does.
type Kind = fn(Fields<'_>, &mut Around<'_, '_>, &mut Treatment) -> Result<(), Lost>;

const KINDS: [(&str, Kind); 25] = [
    ("addPrefix", path::add),
    ("stripPrefix", path::strip),
    ("stripPrefixRegex", path::strip_regex),
    ("replacePath", path::replace),
    ("replacePathRegex", path::replace_regex),
    ("redirectScheme", redirect::scheme),
    ("redirectRegex", redirect::regex),
    ("headers", headers::read),
    ("basicAuth", auth::basic),
    ("digestAuth", auth::digest),
    ("forwardAuth", auth::forward),
    ("ipAllowList", auth::allow),
    ("ipWhiteList", auth::allow),
    ("rateLimit", limit::rate),
    ("inFlightReq", limit::in_flight),
    ("retry", limit::retry),
    ("circuitBreaker", limit::breaker),
    ("compress", limit::compress),
    ("buffering", limit::buffering),
    ("errors", errors),
    ("contentType", content_type),
    ("passTLSClientCert", auth::certificate),
    ("grpcWeb", grpc_web),
    ("plugin", plugin),
    ("encodedCharacters", encoded),
];

/// Middlewares of a chain are followed so deeply.
const DEPTH_MAX: usize = 16;
/// A router has no more of them.
const COUNT_MAX: usize = 256;

/// Applies the middlewares of a list, one after the other.
pub(super) fn apply(
    list: &[(String, Place)],
    around: &mut Around<'_, '_>,
    treatment: &mut Treatment,
) -> Result<(), Lost> {
    let mut count = 0;
    chain(list, &mut Vec::new(), &mut count, around, treatment)?;
    treatment.check().map_err(Lost::Unsaid)
}

/// What is to be said of a middleware that no router has.
pub(super) fn inspect<'s>(parts: &Parts<'s>, element: &Element<'s>) -> Report {
    let mut report = Report::default();
    let mut around = Around {
        parts,
        file: &|_| None,
        report: &mut report,
        pools: &mut Vec::new(),
        router: "",
        middleware: element.name,
        at: element.at,
        hosts: None,
        start: String::new(),
        door: &Inlet::default(),
    };
    let list = [(element.name.to_owned(), element.at)];
    // Only what is said on the way matters.
    let _lost = apply(&list, &mut around, &mut Treatment::default());
    report
}

fn chain(
    list: &[(String, Place)],
    above: &mut Vec<String>,
    count: &mut usize,
    around: &mut Around<'_, '_>,
    treatment: &mut Treatment,
) -> Result<(), Lost> {
    // All of them are looked at, also behind one that is wrong.
    let mut worst: Option<Lost> = None;
    for (name, at) in list {
        if treatment.end.is_some() {
            around.report.ignored(*at, "what is before it answers all requests");
            continue;
        }
        *count += 1;
        if *count > COUNT_MAX {
            return Err(Lost::Unsaid(format!("more than {COUNT_MAX} middlewares are not followed")));
        }
        match one(name, above, count, around, treatment) {
            Ok(()) => around.report.translated(*at),
            Err(Lost::Refused(why)) => {
                around.report.wrong(*at, why.clone());
                worst = Some(Lost::Refused(why));
            }
            Err(Lost::Unsaid(why)) => {
                around.report.not_possible(*at, why.clone());
                worst.get_or_insert(Lost::Unsaid(why));
            }
        }
    }
    worst.map_or(Ok(()), Err)
}

fn one(
    name: &str,
    above: &mut Vec<String>,
    count: &mut usize,
    around: &mut Around<'_, '_>,
    treatment: &mut Treatment,
) -> Result<(), Lost> {
    let own = own_name(name)
        .map_err(|provider| Lost::Unsaid(format!("{name} is what {provider} says, which is in no file")))?;
    let Some(element) = around.parts.of("http", "middlewares").get(own) else {
        return Err(Lost::Refused(format!("there is no middleware {name}")));
    };
    if above.iter().any(|other| other == own) {
        refused(element.at, element.node, "it leads to itself: Traefik does not make it", around.report);
        return Err(Lost::Refused(format!("the middleware {name} leads to itself")));
    }
    if element.unknown {
        return Err(Lost::Unsaid(format!("a template makes some of the middleware {name}")));
    }
    if above.len() >= DEPTH_MAX {
        return Err(Lost::Unsaid(format!("chains of more than {DEPTH_MAX} middlewares are not followed")));
    }
    let mut fields = Fields::of(element.at, element.node, around.report);
    let below_chain = fields.table("chain", around.report);
    let mut kinds: Vec<(&str, Kind, Fields<'_>)> = Vec::new();
    for (kind, read) in KINDS {
        if let Some(below) = fields.table(kind, around.report) {
            kinds.push((kind, read, below));
        }
    }
    let known = fields.finish(around.report);
    let mut kinds = kinds.into_iter();
    let found = match (kinds.next(), kinds.next(), below_chain) {
        _ if !known => Err(Lost::Refused("it has a kind that Traefik does not know".to_owned())),
        (None, None, Some(mut below)) => {
            around.report.translated(below.at);
            let list = below.texts("middlewares", around.report);
            let known = below.finish(around.report);
            match list.filter(|_| known) {
                Some((list, at)) => {
                    around.report.translated(at);
                    above.push(own.to_owned());
                    let found = chain(&list, above, count, around, treatment);
                    above.pop();
                    found
                }
                None => Err(Lost::Refused("its chain is empty".to_owned())),
            }
        }
        (Some((kind, read, below)), None, None) => {
            let (at, again) = (below.at, treatment.has(kind));
            around.report.translated(at);
            (around.middleware, around.at) = (element.name, at);
            let found = read(below, around, treatment);
            if again && found.is_ok() {
                let but = if kind == "buffering" { ", and of two largest bodies the smaller" } else { "" };
                let what =
                    format!("a router has another {kind} before it: of the two this one counts here{but}");
                around.report.approximated(at, what);
            }
            found
        }
        _ => Err(Lost::Refused("it is of no kind, or of several".to_owned())),
    };
    told(&found, &element, around.report);
    found
}

/// Says what became of a middleware.
fn told(found: &Result<(), Lost>, element: &Element<'_>, report: &mut Report) {
    match found {
        Ok(()) => report.translated(element.at),
        Err(Lost::Refused(why)) => {
            let what = format!("Traefik does not make it, nor routers that name it: {why}");
            refused(element.at, element.node, &what, report);
        }
        Err(Lost::Unsaid(why)) => {
            report.not_possible(element.at, format!("{why}; routers that name it let nobody in (503)"));
            super::said::each_silent(element.node, Verdict::NotPossible, "as its name", report);
        }
    }
}

/// Finishes a kind's options: one that is unknown makes Traefik refuse it.
pub(super) fn known(fields: Fields<'_>, report: &mut Report) -> Result<(), Lost> {
    if fields.finish(report) {
        Ok(())
    } else {
        Err(Lost::Refused(
            "it has options that Traefik does not know, or values that it cannot read".to_owned(),
        ))
    }
}

/// The expression for Plimsoll.
pub(super) fn expression(text: &str) -> Result<String, Lost> {
    regexp::read(text).map_err(|fault| match fault {
        Fault::Wrong(why) => Lost::Refused(why),
        Fault::Unsaid(why) => Lost::Unsaid(why),
    })
}

fn errors(mut fields: Fields<'_>, around: &mut Around<'_, '_>, _: &mut Treatment) -> Result<(), Lost> {
    let at = fields.at;
    let report = &mut *around.report;
    let remedy = "pages of errors are files: fetch them from that service, and name them in error_pages of the route, with intercept_errors = true where they also take the place of what endpoints answer";
    report.not_possible(at, remedy);
    let names = ["status", "service", "query", "statusRewrites", "errorRequestHeaders"];
    fields.each(Verdict::NotPossible, &names, &format!("as line {}", at.line), report);
    known(fields, report)
}

fn content_type(mut fields: Fields<'_>, around: &mut Around<'_, '_>, _: &mut Treatment) -> Result<(), Lost> {
    let report = &mut *around.report;
    if let Some((detect, at)) = fields.flag("autoDetect", report) {
        if detect {
            report.not_possible(at, "answers without a Content-Type go on without one");
        } else {
            report.translated(at);
        }
    }
    known(fields, report)
}

fn grpc_web(mut fields: Fields<'_>, around: &mut Around<'_, '_>, _: &mut Treatment) -> Result<(), Lost> {
    let at = fields.at;
    let report = &mut *around.report;
    let remedy =
        "gRPC-Web is not turned into gRPC: have the server speak it, or put a proxy before it that does";
    report.not_possible(at, remedy);
    fields.each(Verdict::NotPossible, &["allowOrigins"], &format!("as line {}", at.line), report);
    known(fields, report)
}

fn encoded(mut fields: Fields<'_>, around: &mut Around<'_, '_>, _: &mut Treatment) -> Result<(), Lost> {
    let names = [
        "allowEncodedSlash",
        "allowEncodedBackSlash",
        "allowEncodedNullCharacter",
        "allowEncodedSemicolon",
        "allowEncodedPercent",
        "allowEncodedQuestionMark",
        "allowEncodedHash",
    ];
    let report = &mut *around.report;
    fields.each(Verdict::NotPossible, &names, "paths with such characters are not refused here", report);
    known(fields, report)?;
    Err(Lost::Unsaid("which encoded characters a path may have is not asked here".to_owned()))
}

/// What it does is known to itself alone: it may well be what keeps people out.
fn plugin(mut fields: Fields<'_>, around: &mut Around<'_, '_>, _: &mut Treatment) -> Result<(), Lost> {
    let why = "nothing of others runs inside the proxy: ask a service by forward_auth, or leave it out";
    let as_above = format!("as line {}", fields.at.line);
    around.report.not_possible(fields.at, why);
    fields.each_rest(Verdict::NotPossible, &as_above, around.report);
    Err(Lost::Unsaid(why.to_owned()))
}
