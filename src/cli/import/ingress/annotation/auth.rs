//! Annotations that say who gets through: passwords, a service that is asked, networks.

use ipnet::IpNet;

use super::super::super::document::{Table, Value};
use super::super::super::report::{Place, Report};
use super::super::object::{Cluster, split_name};
use super::super::secret;
use super::{Closed, Guards, Read, Set, Word, as_list, as_networks, as_truth};

/// What they say.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Auth {
    kind: Set<String>,
    secret: Set<String>,
    secret_type: Set<String>,
    realm: Set<String>,
    /// The file that names and passwords are in.
    users: Set<String>,
    url: Set<String>,
    asked: Option<Asked>,
    response_fields: Set<Vec<String>>,
    signin: Option<Place>,
    /// `enable-global-auth: false`.
    not_global: bool,
    /// What only matters where a service is asked.
    about_url: Vec<Place>,
    pub(in super::super) allow: Set<Vec<IpNet>>,
    pub(in super::super) deny: Set<Vec<IpNet>>,
    satisfy: Set<bool>,
    /// `block-cidrs` of the ConfigMap.
    pub(in super::super) blocked: Set<Vec<IpNet>>,
}

/// The service that is asked about requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Asked {
    pub(in super::super) tls: bool,
    pub(in super::super) host: String,
    pub(in super::super) port: u16,
    pub(in super::super) path: String,
    pub(in super::super) at: Place,
}

pub(super) const TABLE: &[(&str, Read)] = &[
    ("auth-type", |s, w, _| s.auth.kind = text(w)),
    ("auth-secret", |s, w, _| s.auth.secret = text(w)),
    ("auth-secret-type", |s, w, _| s.auth.secret_type = text(w)),
    ("auth-realm", |s, w, _| s.auth.realm = text(w)),
    ("auth-url", |s, w, _| s.auth.url = text(w)),
    ("auth-signin", |s, w, r| {
        s.auth.signin = Some(w.at);
        s.auth.about(w, r, NOT_SIGNIN, true);
    }),
    ("auth-signin-redirect-param", |s, w, r| s.auth.about(w, r, NOT_SIGNIN, true)),
    ("auth-method", |s, w, r| {
        let get = w.value == "GET";
        let remedy = "the service is asked by GET: let it answer that, or nobody gets in";
        s.auth.about(w, r, if get { "" } else { remedy }, !get);
    }),
    ("auth-response-headers", |s, w, r| s.auth.response_fields(w, r)),
    ("auth-cache-key", |s, w, r| s.auth.about(w, r, CACHE, false)),
    ("auth-cache-duration", |s, w, r| s.auth.about(w, r, CACHE, false)),
    ("auth-keepalive", |s, w, r| s.auth.about(w, r, KEEPALIVE, false)),
    ("auth-keepalive-share-vars", |s, w, r| s.auth.about(w, r, KEEPALIVE, false)),
    ("auth-keepalive-requests", |s, w, r| s.auth.about(w, r, KEEPALIVE, false)),
    ("auth-keepalive-timeout", |s, w, r| s.auth.about(w, r, KEEPALIVE, false)),
    ("auth-request-redirect", |s, w, r| s.auth.about(w, r, REDIRECT, true)),
    ("auth-proxy-set-headers", |s, w, r| {
        s.auth.about(
            w,
            r,
            "the service gets the fields of the request and X-Forwarded-*: it is told no others",
            true,
        )
    }),
    ("auth-always-set-cookie", |s, w, r| s.auth.about(w, r, COOKIE, true)),
    ("auth-snippet", |s, w, r| {
        s.auth.about(
            w,
            r,
            "it is nginx's own language: what it does to the question has no counterpart",
            true,
        )
    }),
    ("enable-global-auth", |s, w, r| s.auth.not_global = as_truth(w, r) == Some(false)),
    ("whitelist-source-range", |s, w, r| networks(s, w, r, true)),
    ("allowlist-source-range", |s, w, r| networks(s, w, r, true)),
    ("denylist-source-range", |s, w, r| networks(s, w, r, false)),
    ("satisfy", |s, w, r| match w.value {
        "any" => s.auth.satisfy = Some((true, w.at)),
        "all" => {}
        _ => r.wrong(w.at, "it is any or all: the controller leaves it out"),
    }),
];

const NOT_SIGNIN: &str = "whoever is not let in gets the answer of the service as it is: ask it for a path that redirects to its page by itself (of oauth2-proxy `/` with --upstream=static://202 and --reverse-proxy)";
const TOLD: &str = "the service is told X-Forwarded-Method, -Uri, -Host, -Proto and -For in the place of X-Original-URL and -Method; what it refuses with goes to clients as it is, also where nginx makes 500 of it";
const CACHE: &str = "the service is asked about every request";
const KEEPALIVE: &str = "connections to the service are kept as [pool.NAME.limits] says";
const REDIRECT: &str =
    "the service is told what was asked for in X-Forwarded-Uri, and no other place to go back to";
const COOKIE: &str = "cookies of the service go to clients with its refusals alone";

#[expect(clippy::unnecessary_wraps, reason = "what it fills is optional")]
fn text(word: Word<'_>) -> Set<String> {
    Some((word.value.to_owned(), word.at))
}

fn networks(settings: &mut super::Settings, word: Word<'_>, report: &mut Report, allow: bool) {
    match as_networks(word, report) {
        Some(list) if allow => settings.auth.allow = Some((list, word.at)),
        Some(list) => settings.auth.deny = Some((list, word.at)),
        None => {
            report.wrong(word.at, "the controller answers 503 to all");
            settings.guards.denied.push(word.at);
        }
    }
}

/// Lets nobody in: the controller does not either, or a guard cannot be said.
fn refuse(at: Place, wrong: bool, text: String, guards: &mut Guards, report: &mut Report) {
    if wrong {
        guards.denied.push(at);
        report.wrong(at, text);
    } else {
        guards.closed = Closed::or(guards.closed, Some(Closed { at, redirects: false }));
        report.not_possible(at, text);
    }
}

/// Hashes that are read here, by how they begin.
const READ: [&str; 4] = ["$2", "$5$", "$6$", "$apr1$"];

impl Auth {
    fn about(&mut self, word: Word<'_>, report: &mut Report, text: &str, lost: bool) {
        self.about_url.push(word.at);
        match (text.is_empty(), lost) {
            (true, _) => {}
            (false, true) => report.not_possible(word.at, text),
            (false, false) => report.approximated(word.at, text),
        }
    }

    fn response_fields(&mut self, word: Word<'_>, report: &mut Report) {
        self.about_url.push(word.at);
        let names = as_list(word).map(|(names, _)| names).unwrap_or_default();
        let valid = |name: &String| crate::model::field::FieldName::new(&name.to_ascii_lowercase()).is_ok();
        if names.iter().all(valid) {
            self.response_fields =
                Some((names.iter().map(|name| name.to_ascii_lowercase()).collect(), word.at));
        } else {
            report.wrong(word.at, "these are no names of fields: the controller answers 503 to all");
        }
    }

    /// Looks up what others are named for.
    pub(super) fn settle(
        &mut self,
        namespace: &str,
        cluster: &Cluster<'_>,
        guards: &mut Guards,
        report: &mut Report,
    ) {
        self.passwords(namespace, cluster, guards, report);
        if let Some((url, at)) = &self.url {
            match parse(url, *at) {
                Ok(asked) => {
                    tell_asked(&asked, report);
                    self.asked = Some(asked);
                }
                Err((wrong, why)) => {
                    refuse(*at, wrong, why, guards, report);
                }
            }
        } else {
            super::alone(&self.about_url, "there is no auth-url: nobody is asked", report);
        }
        if let Some((_, at)) = self.satisfy
            && (self.allow.is_none() || self.users.is_none() && self.asked.is_none())
        {
            report.approximated(at, "of its own annotations there are no two guards of which one could be enough; what the ConfigMap asks is asked beside them");
            self.satisfy = None;
        }
        if let (Some(_), Some((_, at))) = (self.satisfy, &self.deny) {
            report.approximated(
                *at,
                "with satisfy: any a password is enough there for these too; here they are refused",
            );
        }
    }

    fn passwords(
        &mut self,
        namespace: &str,
        cluster: &Cluster<'_>,
        guards: &mut Guards,
        report: &mut Report,
    ) {
        let Some((kind, at)) = self.kind.clone() else {
            let rest = [&self.secret, &self.secret_type, &self.realm].into_iter().flatten();
            let places: Vec<Place> = rest.map(|(_, at)| *at).collect();
            return super::alone(&places, "there is no auth-type: nobody is asked for a password", report);
        };
        if kind != "basic" {
            let digest = kind == "digest";
            let text = if digest {
                "digest authentication is not there: let users have passwords for basic_auth. Until then nobody gets in"
            } else {
                "it is basic or digest: the controller answers 503 to all"
            };
            return refuse(at, !digest, text.to_owned(), guards, report);
        }
        let Some((secret, at)) = self.secret.clone() else {
            return refuse(
                at,
                true,
                "there is no auth-secret: the controller answers 503 to all".to_owned(),
                guards,
                report,
            );
        };
        let (space, name) = split_name(&secret, namespace);
        if space != namespace {
            let text = "a Secret of another namespace is not read: the controller answers 503 to all";
            return refuse(at, true, text.to_owned(), guards, report);
        }
        let map = self.secret_type.as_ref().is_some_and(|(kind, _)| kind == "auth-map");
        let Some(users) = secret::users(cluster, space, name, map) else {
            let file = secret::file(space, name, "htpasswd");
            let text = format!(
                "the Secret {space}/{name} with its names and passwords is not in the files, so nobody gets in: write {file}, and basic_auth with it in the place of `maintenance`"
            );
            return refuse(at, false, text, guards, report);
        };
        let file = secret::tell_users(&users, space, name, map, &READ, report);
        self.users = Some((file, at));
    }

    /// Whether one guard of two is enough: networks need no password.
    pub(in super::super) fn any(&self) -> Option<(&[IpNet], Place)> {
        let (_, at) = self.satisfy?;
        self.allow.as_ref().map(|(list, _)| (list.as_slice(), at))
    }

    /// The service that is asked.
    pub(in super::super) const fn asked(&self) -> Option<&Asked> {
        self.asked.as_ref()
    }

    /// The service of the whole controller, as its ConfigMap names it. Returns whether it can be asked.
    pub(in super::super) fn ask_for_all(&mut self, word: Word<'_>, report: &mut Report) -> bool {
        match parse(word.value, word.at) {
            Ok(asked) => {
                tell_asked(&asked, report);
                self.asked = Some(asked);
                true
            }
            Err((_, why)) => {
                report.not_possible(word.at, why);
                false
            }
        }
    }

    /// The fields of its answer that endpoints get.
    pub(in super::super) fn take_over(&mut self, word: Word<'_>, report: &mut Report) {
        self.response_fields(word, report);
    }

    /// With the service of the whole controller where there is no other, and it is wanted.
    pub(in super::super) fn or_asking(&self, all: &Self) -> Self {
        if self.asked.is_some() || self.not_global || all.asked.is_none() {
            return self.clone();
        }
        Self { asked: all.asked.clone(), response_fields: all.response_fields.clone(), ..self.clone() }
    }

    /// `allow` and `deny` of a route.
    pub(in super::super) fn write_networks(&self, all: &Self, allow: bool, table: &mut Table) {
        let networks = |list: &[IpNet]| Value::texts(list.iter().map(ToString::to_string));
        if let Some((list, at)) = self.allow.as_ref().or(all.allow.as_ref()).filter(|_| allow) {
            table.set("allow", networks(list), Some(*at));
        }
        let own = self.deny.as_ref().or(all.deny.as_ref());
        // What is blocked for all is so everywhere.
        let mut list: Vec<IpNet> = own.map(|(list, _)| list.clone()).unwrap_or_default();
        list.extend(
            all.blocked
                .iter()
                .flat_map(|(list, _)| list)
                .filter(|network| own.is_none_or(|(own, _)| !own.contains(network))),
        );
        if let Some(at) = own.or(all.blocked.as_ref()).map(|(_, at)| *at) {
            table.set("deny", networks(&list), Some(at));
        }
    }

    /// `basic_auth` and `forward_auth` of a route; `pool` is that of the service that is asked.
    pub(in super::super) fn write_logins(&self, pool: Option<&str>, table: &mut Table) {
        if let Some((file, at)) = &self.users {
            let mut pairs = Vec::new();
            if let Some((realm, _)) = &self.realm {
                pairs.push(("realm", Value::text(realm)));
            }
            pairs.push(("users_file", Value::text(file)));
            table.set("basic_auth", Value::inline(pairs), Some(*at));
        }
        if let (Some(asked), Some(pool)) = (&self.asked, pool) {
            let mut pairs = vec![("pool", Value::text(pool)), ("path", Value::text(&asked.path))];
            if let Some((fields, _)) = &self.response_fields {
                pairs.push(("response_headers", Value::texts(fields.clone())));
            }
            table.set("forward_auth", Value::inline(pairs), Some(asked.at));
        }
    }
}

fn tell_asked(asked: &Asked, report: &mut Report) {
    report.approximated(asked.at, TOLD);
    if asked.tls {
        report.approximated(asked.at, "the certificate of the service is verified, which the controller does not do: ca in tls of its pool is an authority of your own");
    }
}

/// The parts of `auth-url`; else whether the controller would not take it either, and why.
fn parse(url: &str, at: Place) -> Result<Asked, (bool, String)> {
    let wrong = |why: &str| Err((true, format!("{why}: the controller answers 503 to all")));
    let Some((scheme, rest)) = url.split_once("://") else { return wrong("it is no URL") };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return wrong("only http and https can be asked"),
    };
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    if authority.contains('$') || path.contains('$') {
        let text = "the service is always asked for the same: a URL with variables has no counterpart, and until there is one without nobody gets in";
        return Err((false, text.to_owned()));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            let Some(port) = port.parse().ok().filter(|port| *port > 0) else {
                return wrong("its port is none");
            };
            (host, port)
        }
        _ => (authority, if tls { 443 } else { 80 }),
    };
    if host.is_empty()
        || host.contains("..")
        || !host.chars().all(|c| c.is_ascii_alphanumeric() || "-._[]:".contains(c))
    {
        return wrong("its host is none");
    }
    if !path.chars().all(|c| c.is_ascii_graphic() && c != '#') {
        return wrong("a URL has no spaces and nothing beyond ASCII");
    }
    Ok(Asked { tls, host: host.to_owned(), port, path: path.to_owned(), at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_by_its_url() {
        let at = Place { file: 0, line: 1 };
        let asked = |tls, host: &str, port, path: &str| {
            Ok(Asked { tls, host: host.to_owned(), port, path: path.to_owned(), at })
        };
        assert_eq!(parse("http://a.b.svc:4180/x?y=1", at), asked(false, "a.b.svc", 4180, "/x?y=1"));
        assert_eq!(parse("https://a", at), asked(true, "a", 443, "/"));
        assert_eq!(parse("http://[::1]:80/", at), asked(false, "[::1]", 80, "/"));
        for (url, wrong) in [
            ("ftp://a", true),
            ("a", true),
            ("http://", true),
            ("http://a:0", true),
            ("http://$host/", false),
        ] {
            assert_eq!(parse(url, at).map_err(|(wrong, _)| wrong), Err(wrong), "{url}");
        }
    }
}
