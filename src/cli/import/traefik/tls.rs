//! Certificates and options of TLS, as tables of listeners.

use std::collections::HashMap;

use super::super::document::{Table, Value};
use super::super::report::{Place, Report, Verdict};
use super::entry::RouterTls;
use super::fields::Fields;
use super::said::plain_name;
use super::source::{Parts, own_name};

/// What is said of ciphers and curves.
pub(super) const CIPHERS: &str =
    "the suites are the proxy's own, all with forward secrecy and authenticated encryption";

/// Everything under `tls`.
#[derive(Debug, Default)]
pub(super) struct Tls {
    options: HashMap<String, Options>,
    /// Certificates and keys, the default one first.
    certificates: Vec<(String, String, Place)>,
    default: bool,
}

/// Options by name.
#[derive(Debug, Clone, Default)]
struct Options {
    /// `tls.min_version` and the like.
    table: Table,
    /// How clients are asked for certificates.
    client: Client,
    refused: bool,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Client {
    #[default]
    No,
    /// They must, or may, have one of an authority.
    Asked,
    /// It is asked for in a way that cannot be said.
    Unsaid,
}

/// Whether a version of TLS is known; writes it.
pub(super) fn version(word: &str, at: Place, key: &str, table: &mut Table, report: &mut Report) -> bool {
    match word {
        "VersionTLS12" => table.set(key, Value::text("1.2"), Some(at)),
        "VersionTLS13" => table.set(key, Value::text("1.3"), Some(at)),
        "VersionTLS10" | "VersionTLS11" => {
            return {
                report.approximated(at, "TLS 1.2 is the oldest that is spoken");
                true
            };
        }
        "" => {}
        _ => {
            report.wrong(at, "there is no such version of TLS");
            return false;
        }
    }
    report.translated(at);
    true
}

/// Reads it.
pub(super) fn read(parts: &Parts<'_>, report: &mut Report) -> Tls {
    let mut tls = Tls::default();
    for element in &parts.of("tls", "stores").all {
        let mut fields = Fields::of(element.at, element.node, report);
        report.translated(element.at);
        if element.name != "default" {
            report.wrong(element.at, "Traefik uses the store called default only");
        }
        if let Some(below) = fields.table("defaultCertificate", report) {
            report.translated(below.at);
            if let Some(pair) = pair(below, report) {
                tls.certificates.insert(0, pair);
                tls.default = true;
            }
        }
        let remedy = "certificates are not asked for here: have an ACME client keep the files of the listener's tls.certificates";
        fields.each(Verdict::NotPossible, &["defaultGeneratedCert"], remedy, report);
        fields.finish(report);
    }
    for node in &parts.certificates {
        let fields = Fields::of(node.at, node, report);
        report.translated(node.at);
        tls.certificates.extend(pair(fields, report));
    }
    for element in &parts.of("tls", "options").all {
        let options = options(Fields::of(element.at, element.node, report), report);
        tls.options.insert(element.name.to_owned(), options);
    }
    tls
}

fn pair(mut fields: Fields<'_>, report: &mut Report) -> Option<(String, String, Place)> {
    let at = fields.at;
    let (cert, key) = (fields.text("certFile", report), fields.text("keyFile", report));
    if let Some((list, at)) = fields.texts("stores", report) {
        report.translated(at);
        for (store, at) in list {
            if store == "default" {
                report.translated(at);
            } else {
                report.wrong(at, "Traefik uses the store called default only");
            }
        }
    }
    fields.finish(report);
    let (Some((cert, of_cert)), Some((key, of_key))) = (cert.clone(), key.clone()) else {
        report.wrong(at, "a certificate has a certFile and a keyFile: Traefik leaves it out");
        for (_, at) in [cert, key].into_iter().flatten() {
            report.ignored(at, "the other file of the two is missing");
        }
        return None;
    };
    for (text, at) in [(&cert, of_cert), (&key, of_key)] {
        if text.contains("-----BEGIN") {
            report.not_possible(
                at,
                "certificates and keys stand in files: write this into one and name it here",
            );
            return None;
        }
        report.translated(at);
    }
    Some((cert, key, of_cert))
}

fn options(mut fields: Fields<'_>, report: &mut Report) -> Options {
    let mut out = Options::default();
    report.translated(fields.at);
    if let Some((word, at)) = fields.text("minVersion", report) {
        out.refused |= !version(&word, at, "tls.min_version", &mut out.table, report);
    }
    if let Some((_, at)) = fields.text("maxVersion", report) {
        report.not_possible(at, "the newest version that both sides know is spoken");
    }
    if let Some((list, at)) = fields.texts("cipherSuites", report) {
        report.approximated(at, CIPHERS);
        super::said::items(at, &list, report);
    }
    if let Some((list, at)) = fields.texts("curvePreferences", report) {
        let text = "the groups are the proxy's own";
        report.approximated(at, text);
        super::said::items(at, &list, report);
    }
    if let Some((strict, at)) = fields.flag("sniStrict", report) {
        if strict {
            report.not_possible(
                at,
                "who asks for a name that no certificate has gets the first one, and then 404",
            );
        } else {
            report.translated(at);
        }
    }
    fields.each(Verdict::Ignored, &["preferServerCipherSuites"], "Go goes by its own order", report);
    let text = "sessions can be resumed; tickets have keys that change every 6 hours";
    fields.each(Verdict::NotPossible, &["disableSessionTickets"], text, report);
    if let Some((list, at)) = fields.texts("alpnProtocols", report) {
        report.translated(at);
        let mut known = Vec::new();
        for (name, at) in list {
            if ["h2", "http/1.1"].contains(&name.as_str()) {
                known.push(name);
                report.translated(at);
            } else {
                report.not_possible(at, "an http listener speaks h2 and http/1.1");
            }
        }
        if !known.is_empty() {
            out.table.set("tls.alpn", Value::texts(known), Some(at));
        }
    }
    if let Some(below) = fields.table("clientAuth", report) {
        client(below, &mut out, report);
    }
    out.refused |= !fields.finish(report);
    out
}

fn client(mut fields: Fields<'_>, out: &mut Options, report: &mut Report) {
    let at = fields.at;
    report.translated(at);
    let kind = fields.text("clientAuthType", report);
    let files = fields.texts("caFiles", report);
    let mut authority = None;
    if let Some((list, at)) = files {
        report.translated(at);
        for (number, (file, at)) in list.into_iter().enumerate() {
            if file.contains("-----BEGIN") {
                report.not_possible(
                    at,
                    "write this into /etc/plimsoll/tls/clients-ca.pem: certificates stand in files",
                );
                authority = Some(("/etc/plimsoll/tls/clients-ca.pem".to_owned(), at));
            } else if number == 0 {
                report.translated(at);
                authority = Some((file, at));
            } else {
                report.not_possible(
                    at,
                    "authorities are in one file: add this one to tls.client_ca of the listener",
                );
            }
        }
    }
    fields.finish(report);
    let word = kind.as_ref().map_or("", |(word, _)| word.as_str());
    let place = kind.as_ref().map_or(at, |(_, at)| *at);
    match (word, authority) {
        ("" | "NoClientCert", _) => report.translated(place),
        ("RequestClientCert", _) => {
            report.not_possible(
                place,
                "certificates are asked for to be verified: endpoints do not see others",
            );
        }
        ("RequireAndVerifyClientCert" | "VerifyClientCertIfGiven", Some((file, at))) => {
            out.client = Client::Asked;
            out.table.set("tls.client_ca", Value::text(file), Some(at));
            if word == "VerifyClientCertIfGiven" {
                out.table.set("tls.client_auth", Value::text("request"), Some(place));
            }
            report.translated(place);
        }
        ("RequireAnyClientCert" | "RequireAndVerifyClientCert" | "VerifyClientCertIfGiven", _) => {
            out.client = Client::Unsaid;
            report.not_possible(place, "certificates are verified by an authority (tls.client_ca), which is not named here: routers with these options let nobody in");
        }
        _ => {
            out.refused = true;
            report.wrong(place, "there is no such way to ask for certificates");
        }
    }
}

impl Tls {
    /// Whether Traefik knows the options that a router names.
    ///
    /// # Errors
    /// Why it has none.
    pub(super) fn known(&self, tls: &RouterTls) -> Result<(), String> {
        let Some((name, _)) = &tls.options else { return Ok(()) };
        let own = own_name(name).unwrap_or(name);
        match self.options.get(own) {
            Some(options) if options.refused => Err(format!("the TLS options {name} are wrong")),
            None if own != "default" => Err(format!("there are no TLS options {name}")),
            _ => Ok(()),
        }
    }

    fn of(&self, tls: &RouterTls) -> (String, Options) {
        let name = tls.options.as_ref().map_or("default", |(name, _)| own_name(name).unwrap_or(name));
        (name.to_owned(), self.options.get(name).cloned().unwrap_or_default())
    }

    /// What clients of a router have to show.
    pub(super) fn client(&self, tls: &RouterTls) -> Client {
        self.of(tls).1.client
    }

    /// Writes `tls` of a listener for the routers that are served there. Returns the options that hold there, by name.
    pub(super) fn write(
        &self,
        name: &str,
        routers: &[&RouterTls],
        common: Option<&RouterTls>,
        table: &mut Table,
        report: &mut Report,
    ) -> String {
        self.certificates(name, routers, table, report);
        // Those of most routers, for all of them.
        let mut counts: Vec<(String, usize)> = Vec::new();
        for tls in routers {
            let (name, _) = self.of(tls);
            match counts.iter_mut().find(|(other, _)| *other == name) {
                Some((_, count)) => *count += 1,
                None => counts.push((name, 1)),
            }
        }
        let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
        let own = common.map(|tls| self.of(tls).0);
        let fits = |name: &str| counts.iter().any(|(other, count)| other == name && *count == most);
        let own = own.as_deref().filter(|own| fits(own));
        let first = counts.iter().find(|(_, count)| *count == most).map(|(name, _)| name.as_str());
        let chosen = own.or(first).unwrap_or("default");
        let options = self.options.get(chosen).cloned().unwrap_or_default();
        table.entries.extend(options.table.entries);
        for tls in routers {
            let (other, of) = self.of(tls);
            if other == chosen {
                if let Some((_, at)) = &tls.options {
                    report.translated(*at);
                }
                continue;
            }
            let place = tls.options.as_ref().map(|(_, at)| *at).or(tls.at);
            let strictest = of.table.get("tls.min_version") == Some(&Value::text("1.3"));
            if strictest {
                table.set("tls.min_version", Value::text("1.3"), place);
            }
            if let Some(at) = place {
                let how = format!(
                    "TLS is the listener's: {chosen} holds for all of it, with the highest least version of all. Give this router an entry point of its own"
                );
                report.not_possible(at, how);
            }
        }
        chosen.to_owned()
    }

    fn certificates(&self, name: &str, routers: &[&RouterTls], table: &mut Table, report: &mut Report) {
        let row = |cert: String, key: String| {
            Value::inline([("cert", Value::text(cert)), ("key", Value::text(key))])
        };
        let mut rows: Vec<(Value, Option<Place>)> = self
            .certificates
            .iter()
            .map(|(cert, key, at)| (row(cert.clone(), key.clone()), Some(*at)))
            .collect();
        // Certificates that Traefik would ask for.
        let mut seen: Vec<String> = Vec::new();
        for tls in routers.iter().filter(|tls| tls.resolver.is_some()) {
            let name = tls.domains.first().cloned().unwrap_or_else(|| name.to_owned());
            // One certificate for a domain and what is below it.
            let covered = |known: &String| {
                name == *known || name.strip_suffix(known).is_some_and(|rest| rest.ends_with('.'))
            };
            let file = plain_name(name.trim_start_matches("*."));
            if !seen.iter().any(covered) {
                let path = |end: &str| format!("/etc/plimsoll/tls/{file}.{end}");
                rows.push((row(path("crt"), path("key")), tls.resolver.as_ref().map(|(_, at)| *at)));
                seen.push(file);
            }
        }
        if rows.is_empty() {
            let file = plain_name(name);
            rows.push((
                row(format!("/etc/plimsoll/tls/{file}.crt"), format!("/etc/plimsoll/tls/{file}.key")),
                None,
            ));
            if let Some(at) = routers.iter().find_map(|tls| tls.at) {
                report.not_possible(at, format!("Traefik makes a certificate up where it has none: put one at /etc/plimsoll/tls/{file}.crt, and its key beside it"));
            }
        } else if !self.default
            && let Some((_, Some(at))) = rows.first()
        {
            report.note(
                *at,
                Verdict::Approximated,
                "who asks for a name that no certificate has gets the first one; Traefik makes one up",
            );
        }
        table.set("tls.certificates", Value::Lines(rows), None);
    }

    /// The name of the options that a router has.
    pub(super) fn name_of(&self, tls: &RouterTls) -> String {
        self.of(tls).0
    }
}
