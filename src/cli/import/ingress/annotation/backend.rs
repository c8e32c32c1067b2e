//! Annotations about TLS, on either side, and what is spoken with endpoints.

use super::super::super::document::{Table, Value};
use super::super::super::report::{Place, Report};
use super::super::object::{Cluster, split_name};
use super::super::secret;
use super::{Closed, Guards, Read, Set, Word, as_truth};

/// What they say.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Backend {
    protocol: Set<Protocol>,
    verify: Set<bool>,
    name: Set<String>,
    own_secret: Set<String>,
    min_version: Option<Place>,
    /// What only matters beside `proxy-ssl-secret`.
    about_secret: Vec<Place>,
    authority: Set<String>,
    certificate: Set<String>,
    pub(in super::super) passthrough: Option<Place>,
    pub(in super::super) as_one: Option<bool>,
    clients: Set<String>,
    verify_client: Set<String>,
    about_clients: Vec<Place>,
    name_of_clients: Option<Place>,
    pub(in super::super) client_tls: Option<ClientTls>,
}

/// What is spoken with endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(in super::super) enum Protocol {
    #[default]
    Http,
    Https,
    Grpc,
    Grpcs,
    /// It cannot be spoken.
    Other,
}

/// What clients of a host must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct ClientTls {
    /// The file of the authority.
    pub(in super::super) authority: String,
    pub(in super::super) optional: bool,
    /// More is asked of certificates than can be said: nobody is let in.
    pub(in super::super) closed: Option<Place>,
    pub(in super::super) at: Place,
}

pub(super) const TABLE: &[(&str, Read)] = &[
    ("backend-protocol", |s, w, r| s.backend.protocol(w, r)),
    ("service-upstream", |s, w, r| s.backend.as_one = as_truth(w, r)),
    ("ssl-passthrough", |s, w, r| {
        s.backend.passthrough = as_truth(w, r).filter(|yes| *yes).map(|_| w.at);
    }),
    ("proxy-ssl-secret", |s, w, _| s.backend.own_secret = Some((w.value.to_owned(), w.at))),
    ("proxy-ssl-verify", |s, w, r| {
        s.backend.about_secret.push(w.at);
        match w.value {
            "on" | "off" => s.backend.verify = Some((w.value == "on", w.at)),
            _ => r.wrong(w.at, "it is on or off: the controller takes off"),
        }
    }),
    ("proxy-ssl-verify-depth", |s, w, r| {
        s.backend.about_secret.push(w.at);
        r.ignored(w.at, "chains of certificates are verified however long they are");
    }),
    ("proxy-ssl-name", |s, w, _| {
        s.backend.about_secret.push(w.at);
        s.backend.name = Some((w.value.to_owned(), w.at)).filter(|(name, _)| !name.is_empty());
    }),
    ("proxy-ssl-server-name", |s, w, r| {
        s.backend.about_secret.push(w.at);
        match w.value {
            "on" => {}
            "off" => r.approximated(w.at, "endpoints are always told the name that is asked for (SNI)"),
            _ => r.wrong(w.at, "it is on or off: the controller takes off"),
        }
    }),
    ("proxy-ssl-protocols", |s, w, r| {
        s.backend.about_secret.push(w.at);
        match w.value.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["TLSv1.3"] => s.backend.min_version = Some(w.at),
            ["TLSv1.2"] => r.approximated(w.at, "TLS 1.3 is spoken too"),
            ["TLSv1.2", "TLSv1.3"] | ["TLSv1.3", "TLSv1.2"] => {}
            _ => r.approximated(w.at, "TLS 1.2 and 1.3 are what is spoken"),
        }
    }),
    ("proxy-ssl-ciphers", |s, w, r| {
        s.backend.about_secret.push(w.at);
        r.approximated(w.at, CIPHERS);
    }),
    ("ssl-ciphers", |_, w, r| r.approximated(w.at, CIPHERS)),
    ("ssl-prefer-server-ciphers", |_, w, r| {
        let _yes = as_truth(w, r);
        r.ignored(w.at, "the server's order has the word, and there is none that is weak");
    }),
    ("auth-tls-secret", |s, w, _| s.backend.clients = Some((w.value.to_owned(), w.at))),
    ("auth-tls-verify-client", |s, w, r| {
        s.backend.about_clients.push(w.at);
        if ["on", "off", "optional", "optional_no_ca"].contains(&w.value) {
            s.backend.verify_client = Some((w.value.to_owned(), w.at));
        } else {
            r.wrong(w.at, "it is on, off, optional or optional_no_ca: the controller takes on");
        }
    }),
    ("auth-tls-verify-depth", |s, w, r| {
        s.backend.about_clients.push(w.at);
        r.approximated(w.at, "chains of certificates are verified however long they are");
    }),
    ("auth-tls-error-page", |s, w, r| {
        s.backend.about_clients.push(w.at);
        r.not_possible(w.at, "who has no certificate is refused in the handshake, before there is an answer: client_auth = \"request\" in tls of the listener lets them through to the application");
    }),
    ("auth-tls-pass-certificate-to-upstream", |s, w, r| {
        s.backend.about_clients.push(w.at);
        if as_truth(w, r) == Some(true) {
            r.approximated(w.at, "endpoints are told the SHA-256 of the certificate (X-Client-Cert-SHA256), and not the certificate (ssl-client-cert)");
        }
    }),
    ("auth-tls-match-cn", |s, w, r| {
        s.backend.about_clients.push(w.at);
        s.backend.name_of_clients = Some(w.at);
        r.not_possible(w.at, "the subject of a certificate is no condition, so nobody is let in: let an authority sign these clients alone, or the application look at X-Client-Cert-Subject");
    }),
];

const CIPHERS: &str = "cipher suites are those of TLS 1.2 and 1.3 with forward secrecy and authenticated encryption, all of them";

impl Backend {
    fn protocol(&mut self, word: Word<'_>, report: &mut Report) {
        let protocol = match word.value.to_ascii_uppercase().as_str() {
            "HTTP" => Protocol::Http,
            "HTTPS" => Protocol::Https,
            "GRPC" => Protocol::Grpc,
            "GRPCS" => Protocol::Grpcs,
            "AUTO_HTTP" => {
                report.not_possible(word.at, "a pool has TLS or has none: endpoints are spoken to without it. Make a pool with tls for the https listener");
                Protocol::Http
            }
            "FCGI" => {
                report.not_possible(word.at, "FastCGI is not spoken: put nginx, or a server that speaks HTTP, before the application. Until then the answer is 503");
                Protocol::Other
            }
            _ => {
                report.wrong(
                    word.at,
                    "it is HTTP, HTTPS, AUTO_HTTP, GRPC, GRPCS or FCGI: the controller takes HTTP",
                );
                Protocol::Http
            }
        };
        self.protocol = Some((protocol, word.at));
    }

    /// Looks up what others are named for.
    pub(super) fn settle(
        &mut self,
        namespace: &str,
        cluster: &Cluster<'_>,
        guards: &mut Guards,
        report: &mut Report,
    ) {
        match self.own_secret.clone() {
            Some((secret, at)) => match full(&secret, namespace) {
                Ok(full) => self.settle_secret(full, at, cluster, report),
                Err(why) => {
                    guards.denied.push(at);
                    report.wrong(at, format!("{why}: the controller answers 503 to all"));
                }
            },
            None => {
                let why = "the controller reads it beside proxy-ssl-secret only";
                super::alone(&self.about_secret, why, report);
            }
        }
        if let Some(at) = self.settle_clients(namespace, cluster, report) {
            guards.denied_host = guards.denied_host.or(Some(at));
        }
        // Nobody has a name whom nobody asks for one.
        if let (Some(at), Some(_), None) = (self.name_of_clients, &self.clients, &self.client_tls) {
            let closed = Some(Closed { at, redirects: true });
            guards.closed_host = Closed::or(guards.closed_host, closed);
        }
    }

    fn settle_secret(
        &mut self,
        (space, name): (&str, &str),
        at: Place,
        cluster: &Cluster<'_>,
        report: &mut Report,
    ) {
        let keys = secret::keys(cluster, space, name);
        if keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key == "ca.crt")) {
            let file = secret::file(space, name, "ca.crt");
            secret::tell_file(cluster, space, name, "ca.crt", &file, at, report);
            self.authority = Some((file, at));
        }
        if keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key == "tls.crt")) {
            self.certificate = Some((secret::file(space, name, "crt"), at));
            secret::tell_certificate(cluster, space, name, at, report);
        }
        self.check_names(report);
    }

    fn check_names(&self, report: &mut Report) {
        if let (Some((true, at)), None) = (self.verify, &self.name) {
            report.wrong(at, "without proxy-ssl-name the controller verifies the name of its upstream, which no certificate has; here it is the endpoint's");
        }
    }

    /// Returns why nobody is let in.
    fn settle_clients(
        &mut self,
        namespace: &str,
        cluster: &Cluster<'_>,
        report: &mut Report,
    ) -> Option<Place> {
        let Some((secret, at)) = self.clients.clone() else {
            let why = "there is no auth-tls-secret: clients need no certificate";
            super::alone(&self.about_clients, why, report);
            return None;
        };
        let (space, name) = match full(&secret, namespace) {
            Ok(full) => full,
            Err(why) => {
                report.wrong(at, format!("{why}: the controller answers 403 to all who ask for the host, also where other Ingresses serve it"));
                return Some(at);
            }
        };
        let (how, how_at) = self.verify_client.clone().unwrap_or_else(|| ("on".to_owned(), at));
        let file = secret::file(space, name, "ca.crt");
        match how.as_str() {
            "off" => {
                report.ignored(at, "auth-tls-verify-client is off");
                return None;
            }
            "optional_no_ca" => {
                report.not_possible(
                    how_at,
                    "certificates that no authority has signed are not asked for: endpoints are told of none",
                );
                return None;
            }
            _ => {}
        }
        if secret::keys(cluster, space, name).is_some_and(|keys| !keys.iter().any(|key| key == "ca.crt")) {
            report.wrong(at, format!("the Secret {space}/{name} has no ca.crt: the controller cannot ask for certificates, and answers 403 to all who ask for the host"));
            return Some(at);
        }
        secret::tell_file(cluster, space, name, "ca.crt", &file, at, report);
        report.approximated(at, "endpoints are told X-Client-Cert-Subject and X-Client-Cert-SHA256 in the place of ssl-client-subject-dn, ssl-client-issuer-dn and ssl-client-verify");
        self.client_tls = Some(ClientTls {
            authority: file,
            optional: how == "optional",
            closed: self.name_of_clients,
            at,
        });
        None
    }

    /// TLS to endpoints is that of the host where an Ingress says nothing of its own.
    pub(in super::super) fn inherit(&self, host: &Self) -> Self {
        if self.own_secret.is_some() || host.own_secret.is_none() {
            return self.clone();
        }
        let of = host.clone();
        Self {
            verify: of.verify,
            name: of.name,
            own_secret: of.own_secret,
            min_version: of.min_version,
            authority: of.authority,
            certificate: of.certificate,
            ..self.clone()
        }
    }

    /// Whether endpoints are told of the certificates of clients, in fields that no client may send.
    pub(in super::super) const fn tells_of_clients(&self) -> bool {
        self.clients.is_some()
    }

    /// Whether it says something of TLS to endpoints.
    pub(in super::super) const fn has_own_tls(&self) -> bool {
        self.own_secret.is_some()
    }

    /// What is spoken with endpoints.
    pub(in super::super) fn speaks(&self) -> Protocol {
        self.protocol.map_or(Protocol::Http, |(protocol, _)| protocol)
    }

    /// What tells pools of one Service apart.
    pub(in super::super) fn key(&self) -> String {
        let verified = matches!(self.verify, Some((true, _)));
        let text = |set: &Set<String>| set.as_ref().map_or("", |(text, _)| text.as_str()).to_owned();
        let (authority, certificate, name) =
            (text(&self.authority), text(&self.certificate), text(&self.name));
        format!("{:?} {verified} {authority} {certificate} {name}", self.speaks())
    }

    /// `protocol` and `tls` of a pool.
    pub(in super::super) fn write(&self, table: &mut Table) {
        let at = self.protocol.map(|(_, at)| at);
        let protocol = self.speaks();
        if matches!(protocol, Protocol::Grpc | Protocol::Grpcs) {
            table.set("protocol", Value::text("http2"), at);
        }
        if !matches!(protocol, Protocol::Https | Protocol::Grpcs) {
            return;
        }
        if let Some((name, from)) = &self.name {
            table.set("tls.server_name", Value::text(name), Some(*from));
        }
        if let Some((certificate, from)) = &self.certificate {
            table.set("tls.cert", Value::text(certificate), Some(*from));
            let key = certificate.strip_suffix(".crt").unwrap_or(certificate);
            table.set("tls.key", Value::text(format!("{key}.key")), Some(*from));
        }
        match (&self.authority, self.verify) {
            (Some((authority, _)), Some((true, from))) => {
                table.set("tls.ca", Value::text(authority), Some(from));
            }
            (_, verify) => {
                let off =
                    Value::inline([("off", Value::text("the controller does not verify its endpoints"))]);
                table.set("tls.verify", off, verify.map(|(_, at)| at).or(at));
            }
        }
        if let Some(from) = self.min_version {
            table.set("tls.min_version", Value::text("1.3"), Some(from));
        }
    }
}

/// `NAMESPACE/NAME` of a Secret, both of which have to be there; else what is wrong.
fn full<'s>(secret: &'s str, namespace: &str) -> Result<(&'s str, &'s str), &'static str> {
    match split_name(secret, "") {
        ("", _) => Err("it is NAMESPACE/NAME"),
        (space, _) if space != namespace => Err("a Secret of another namespace is not read"),
        found => Ok(found),
    }
}
