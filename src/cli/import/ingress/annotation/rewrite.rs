//! Annotations that change the path or lead elsewhere: `rewrite-target`, `use-regex`, `app-root` and the redirects.

use super::super::super::report::{Place, Report};
use super::super::variable::template;
use super::{Read, Set, Word, as_list, as_number, as_truth};

/// What they say.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Rewrite {
    /// `rewrite-target`, with the variables of nginx.
    pub(in super::super) target: Set<String>,
    pub(in super::super) regex: bool,
    pub(in super::super) app_root: Set<String>,
    pub(in super::super) ssl_redirect: Set<bool>,
    pub(in super::super) force_ssl: Set<bool>,
    keep_slash: Set<bool>,
    permanent: Set<String>,
    permanent_code: Set<u32>,
    temporal: Set<String>,
    temporal_code: Set<u32>,
    /// `from-to-www-redirect`.
    pub(in super::super) www: Option<Place>,
    pub(in super::super) aliases: Set<Vec<String>>,
    /// `upstream-vhost`: the Host that endpoints get.
    pub(in super::super) host: Set<String>,
    /// `x-forwarded-prefix`, which endpoints are told beside a new path.
    pub(in super::super) prefix: Set<String>,
    relative: Option<Place>,
}

/// Where requests are sent on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Redirect {
    pub(in super::super) to: String,
    pub(in super::super) status: u32,
    pub(in super::super) at: Place,
}

pub(super) const TABLE: &[(&str, Read)] = &[
    ("rewrite-target", |s, w, r| s.rewrite.target(w, r)),
    ("use-regex", |s, w, r| s.rewrite.regex = as_truth(w, r) == Some(true)),
    ("app-root", |s, w, r| s.rewrite.app_root(w, r)),
    ("ssl-redirect", |s, w, r| s.rewrite.ssl_redirect = as_truth(w, r).map(|yes| (yes, w.at))),
    ("force-ssl-redirect", |s, w, r| s.rewrite.force_ssl = as_truth(w, r).map(|yes| (yes, w.at))),
    ("preserve-trailing-slash", |s, w, r| s.rewrite.keep_slash = as_truth(w, r).map(|yes| (yes, w.at))),
    ("permanent-redirect", |s, w, _| s.rewrite.permanent = Some((w.value.to_owned(), w.at))),
    ("permanent-redirect-code", |s, w, r| s.rewrite.permanent_code = as_number(w, r)),
    ("temporal-redirect", |s, w, _| s.rewrite.temporal = Some((w.value.to_owned(), w.at))),
    ("temporal-redirect-code", |s, w, r| s.rewrite.temporal_code = as_number(w, r)),
    ("from-to-www-redirect", |s, w, r| s.rewrite.www = as_truth(w, r).filter(|yes| *yes).map(|_| w.at)),
    ("relative-redirects", |s, w, r| s.rewrite.relative = as_truth(w, r).filter(|yes| *yes).map(|_| w.at)),
    ("use-port-in-redirects", |_, w, r| {
        if as_truth(w, r) == Some(true) {
            r.approximated(
                w.at,
                "redirects name the host alone: write the port into their `to` where it is not 443",
            );
        }
    }),
    ("server-alias", |s, w, r| s.rewrite.aliases(w, r)),
    ("upstream-vhost", |s, w, r| s.rewrite.host(w, r)),
    ("x-forwarded-prefix", |s, w, _| s.rewrite.prefix = Some((w.value.to_owned(), w.at))),
];

impl Rewrite {
    fn target(&mut self, word: Word<'_>, report: &mut Report) {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._~/:$".contains(c);
        if word.value.is_empty() || !word.value.chars().all(fits) {
            return report.wrong(word.at, "it is no path: the controller leaves it out");
        }
        self.target = Some((word.value.to_owned(), word.at));
    }

    fn app_root(&mut self, word: Word<'_>, report: &mut Report) {
        if !word.value.starts_with('/')
            || word.value.chars().any(|c| !c.is_ascii_graphic() || "{}$".contains(c))
        {
            return report
                .wrong(word.at, "it is a path and begins with a slash: the controller leaves it out");
        }
        self.app_root = Some((word.value.to_owned(), word.at));
    }

    fn aliases(&mut self, word: Word<'_>, report: &mut Report) {
        let (good, bad): (Vec<String>, Vec<String>) = as_list(word)
            .map(|(names, _)| names)
            .unwrap_or_default()
            .into_iter()
            .map(|name| name.to_ascii_lowercase())
            .partition(|name| crate::model::host::HostPattern::parse(name).is_ok());
        if let Some(name) = bad.first() {
            report.not_possible(
                word.at,
                format!("{name} is no name: regular expressions of hosts have no counterpart. List the names in `host` of the routes"),
            );
        }
        self.aliases = Some((good, word.at)).filter(|(names, _)| !names.is_empty());
    }

    fn host(&mut self, word: Word<'_>, report: &mut Report) {
        match template(word.value) {
            Ok(text) if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()) => {
                self.host = Some((text, word.at));
            }
            Ok(_) => report.wrong(word.at, "it is no host"),
            Err(name) => report.not_possible(
                word.at,
                format!("${name} has no counterpart: write rewrite.host or request_headers in the routes"),
            ),
        }
    }

    pub(super) fn settle(&self, report: &mut Report) {
        if let Some((_, at)) = &self.prefix
            && self.target.is_none()
        {
            report.ignored(*at, "the controller sets it beside rewrite-target only");
        }
        if let (Some((true, at)), Some((false, _))) = (self.keep_slash, self.ssl_redirect)
            && !matches!(self.force_ssl, Some((true, _)))
        {
            report.ignored(at, "there is no redirect to keep it in");
        }
        if let Some(at) = self.relative {
            report.approximated(at, "the redirects that endpoints send go to clients as they are");
        }
        for (code, of) in [(&self.permanent_code, &self.permanent), (&self.temporal_code, &self.temporal)] {
            if let (Some((_, at)), None) = (code, of) {
                report.ignored(*at, "there is no redirect that it is the status of");
            }
        }
    }

    /// Says of an Ingress without rules what is not looked at there.
    pub(in super::super) fn tell_catch_all(&self, report: &mut Report) {
        let texts = [&self.target, &self.app_root, &self.permanent, &self.temporal, &self.prefix];
        let places = texts.into_iter().flatten().map(|(_, at)| *at);
        let switches = [self.force_ssl, self.ssl_redirect].into_iter().flatten().map(|(_, at)| at);
        for at in places.chain(switches).chain(self.www) {
            report.ignored(
                at,
                "of an Ingress without rules the controller reads neither redirects nor a new path",
            );
        }
    }

    /// Whether a redirect takes the place of the service.
    pub(in super::super) fn leads_away(&self) -> bool {
        match &self.temporal {
            Some((to, _)) => to.starts_with("http"),
            None => self.permanent.is_some(),
        }
    }

    /// The redirect that takes the place of the service.
    pub(in super::super) fn redirect(&self, report: &mut Report) -> Option<Result<Redirect, Place>> {
        if let (Some(_), Some((_, at))) = (&self.temporal, &self.permanent) {
            report.wrong(*at, "temporal-redirect is there too, and has the word");
            if let Some((_, at)) = self.permanent_code {
                report.ignored(at, "the redirect that it is the status of is not made");
            }
        }
        let (of, code, default, most) = match &self.temporal {
            Some(of) => (of, self.temporal_code, 302, 307),
            None => (self.permanent.as_ref()?, self.permanent_code, 301, 308),
        };
        let status = match code {
            Some((code, _)) if (300..=most).contains(&code) && redirects(code) => code,
            Some((_, at)) => {
                report.wrong(at, format!("it is no status of a redirect: it is {default}"));
                default
            }
            None => default,
        };
        let (text, at) = of;
        let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
        // Only this one is looked at there.
        if self.temporal.is_some() && !text.starts_with("http") {
            report.wrong(*at, "it is no URL of http or https: the controller leaves it out");
            return None;
        }
        if text.contains('$') {
            report.wrong(*at, "since 1.12 the controller takes no variables here, and drops the whole Ingress; before, and here, they are put in");
        }
        match template(text) {
            Ok(to) if plain(&to) && text.starts_with("http") => Some(Ok(Redirect { to, status, at: *at })),
            // nginx makes a whole URL of a path.
            Ok(to) if plain(&to) && text.starts_with('/') => {
                Some(Ok(Redirect { to: format!("{{scheme}}://{{host}}{to}"), status, at: *at }))
            }
            Ok(to) if plain(&to) => {
                report.not_possible(*at, "it is no URL and no path: nginx sends it as it is, and browsers go by where they are. Write `redirect` of the route");
                Some(Err(*at))
            }
            Ok(_) => {
                report.wrong(*at, "a URL has no spaces and nothing beyond ASCII");
                Some(Err(*at))
            }
            Err(name) => {
                report
                    .not_possible(*at, format!("${name} has no counterpart: write `redirect` of the route"));
                Some(Err(*at))
            }
        }
    }
}

/// Statuses that Plimsoll redirects with.
const fn redirects(code: u32) -> bool {
    matches!(code, 301 | 302 | 303 | 307 | 308)
}
