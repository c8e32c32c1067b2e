//! Fields of requests and answers: `proxy_set_header`, `add_header`, `expires` and their like.

use std::collections::HashSet;

use super::draft::{Draft, Fields};
use super::location::Locations;
use super::scope::Scope;
use super::tree::Directive;
use super::units::time;
use super::variable::{Where, put_in, render};
use super::walk::{Walker, Way};
use crate::model::field::{FieldName, is_framing};
use crate::model::host::split_authority;

/// Fields that every endpoint is told, and what nginx's users write for them.
const TOLD: [(&str, &[&str]); 5] = [
    ("x-forwarded-for", &["{header:x-forwarded-for}, {client}"]),
    ("x-forwarded-proto", &["{scheme}"]),
    ("x-forwarded-host", &["{host}", "{hostname}"]),
    ("x-real-ip", &["{client}"]),
    ("x-request-id", &["{request_id}"]),
];
/// What nginx knows of a client's certificate, and which field says it here.
const CERTIFICATE: [(&str, &str); 6] = [
    ("ssl_client_s_dn", "X-Client-Cert-Subject (as in RFC 4514)"),
    ("ssl_client_s_dn_legacy", "X-Client-Cert-Subject (as in RFC 4514)"),
    ("ssl_client_fingerprint", "X-Client-Cert-SHA256 (nginx's is of SHA-1)"),
    ("ssl_client_verify", "X-Client-Cert-Subject: it is there where the certificate was verified"),
    ("ssl_client_i_dn", "X-Client-Cert-Subject; the issuer is not told"),
    ("ssl_client_serial", "X-Client-Cert-SHA256; the serial number is not told"),
];

/// Whether a line is about a field that is the proxy's own, whatever it says.
pub(super) fn is_own(of: &Directive) -> bool {
    let field = of.word(0).to_ascii_lowercase();
    of.name.ends_with("_set_header") && (is_framing(&field) || TOLD.iter().any(|(name, _)| *name == field))
}

impl<'t> Walker<'_, 't, '_> {
    /// Fields of the request on its way to the endpoint.
    pub(super) fn request_fields(
        &mut self,
        of: &'t Directive,
        way: &Way<'t>,
        host: &str,
        grpc: bool,
        draft: &mut Draft,
    ) {
        let name = if grpc { "grpc_set_header" } else { "proxy_set_header" };
        let mut fields = Fields::default();
        let mut hosted = false;
        for of in way.scope.all(name) {
            let field = of.word(0).to_ascii_lowercase();
            if of.words.len() != 2 || FieldName::new(&field).is_err() {
                self.notes.wrong(of, "it names a field and its value: nginx rejects it");
                continue;
            }
            let value = put_in(of.word(1), &way.bound);
            if field == "host" {
                hosted = true;
                self.host(of, &value, host, way, &mut fields);
            } else {
                self.request_field(of, &field, &value, host, way, &mut fields);
            }
        }
        if !hosted {
            self.own_host(host, &mut fields);
            self.lost_host(of, way, name, host);
        }
        draft.request = fields;
    }

    /// A Host that is said elsewhere and does not hold here: of fields a level has its own alone.
    fn lost_host(&mut self, of: &'t Directive, way: &Way<'t>, name: &'static str, host: &str) {
        let own = way.scope.all(name);
        let outer = way.scope.inner().any(|level| level.all(name).iter().any(says_host));
        if let (Some(first), true) = (own.first(), outer) {
            return self.notes.wrong(first, format!("lines of {name} further out do not hold beside one here: Host is {host}, and their other fields are gone too"));
        }
        let beside = self.hosted.contains(&(name, destination(of.word(0))));
        if own.is_empty() && beside {
            let said = ["connect", "read", "send"].iter().any(|which| {
                let start = if name == "grpc_set_header" { "grpc" } else { "proxy" };
                way.scope.find(&format!("{start}_{which}_timeout")).is_some()
            });
            let times =
                if said { "" } else { "; no times are said for them here either, so that they are a minute" };
            self.notes.wrong(of, format!("no line of {name} holds here, as it does in other locations of this server: endpoints are asked with Host: {host}, and without the fields that others get{times}"));
        }
    }

    /// Without a Host nginx says its own name for the endpoint.
    fn own_host(&self, host: &str, fields: &mut Fields) {
        if split_authority(host.as_bytes()).is_some_and(|(host, _)| !host.is_empty()) {
            fields.set.push(("host".to_owned(), host.to_owned()));
        }
    }

    fn host(&mut self, of: &'t Directive, value: &str, own: &str, way: &Way<'t>, fields: &mut Fields) {
        fields.at = fields.at.or(Some(of.at));
        if fields.set.iter().any(|(name, _)| name == "host") {
            self.notes
                .wrong(of, "there is another Host already: nginx sends both, which no server has to take");
            fields.set.retain(|(name, _)| name != "host");
        }
        match value {
            "${http_host}" => self.notes.ok(of),
            "${host}" => {
                let served =
                    way.region.doors.clone().unwrap_or_else(|| (0..self.ground.doors.len()).collect());
                let usual = |at: &usize| {
                    self.ground
                        .doors
                        .get(*at)
                        .is_some_and(|door| door.ports.iter().all(|port| [80, 443].contains(port)))
                };
                if !served.iter().all(usual) {
                    fields.set.push(("host".to_owned(), "{hostname}".to_owned()));
                }
                self.notes.ok(of);
            }
            "${proxy_host}" => {
                self.own_host(own, fields);
                self.notes.ok(of);
            }
            "" => self.notes.cannot(of, "a request has a Host: HTTP/1.1 asks for it"),
            _ => match render(
                value,
                Where::Path,
                &super::variable::Facts { proxy_host: Some(own.to_owned()), ..self.facts(way) },
            ) {
                Ok(text) => {
                    fields.set.push(("host".to_owned(), text));
                    self.notes.ok(of);
                }
                Err(why) => self.notes.cannot(of, why),
            },
        }
    }

    fn request_field(
        &mut self,
        of: &'t Directive,
        field: &str,
        value: &str,
        own: &str,
        way: &Way<'t>,
        fields: &mut Fields,
    ) {
        if self.looked_up(of, field, value) {
            return;
        }
        if is_framing(field) {
            return self.notes.how(of, "it belongs to one connection, and is the proxy's: upgrades go through, and connections are kept");
        }
        if self.certificate(of, field, value, way, fields) || self.user(of, field, value, way, fields) {
            return;
        }
        let asked = |of: &&Directive| {
            of.word(0).strip_prefix('$').is_some_and(|name| *value == format!("${{{name}}}"))
        };
        if way.scope.all("auth_request_set").iter().any(asked) && way.scope.find("auth_request").is_some() {
            // What the service answers is `guard`'s; what clients send under this name does not go on.
            return fields.take_away(field);
        }
        let facts = super::variable::Facts { proxy_host: Some(own.to_owned()), ..self.facts(way) };
        let text = match render(value, Where::Request, &facts) {
            Ok(text) => text,
            Err(why) => {
                let why = super::variable::alone(value)
                    .and_then(|name| way.unknown.get(&name).cloned())
                    .unwrap_or(why);
                self.notes.cannot(of, format!("{why}; what clients send under this name is taken away"));
                if !TOLD.iter().any(|(name, _)| *name == field) {
                    fields.take_away(field);
                }
                return;
            }
        };
        if let Some((_, usual)) = TOLD.iter().find(|(name, _)| *name == field) {
            let same = field == "x-forwarded-proto"
                && (text == "https" && self.all_tls(way, true) || text == "http" && self.all_tls(way, false));
            let text = if same { "{scheme}".to_owned() } else { text };
            return self.told(of, field, usual, &text);
        }
        if let Some(why) = super::walk::doubt(of.word(1), way) {
            self.notes.near(of, format!("it does not always have this value: {why}"));
        }
        fields.at = fields.at.or(Some(of.at));
        fields.remove.retain(|other| other != field);
        if text.is_empty() {
            fields.remove.push(field.to_owned());
        } else if let Some((_, own)) = fields.set.iter_mut().find(|(other, _)| other == field) {
            *own = text;
            return self
                .notes
                .near(of, "there is another line for this field: nginx sends both, here the last one holds");
        } else {
            fields.set.push((field.to_owned(), text));
        }
        self.notes.ok(of);
    }

    /// What is known of a client's certificate has fields of its own. What clients send under another name does not go on.
    fn certificate(
        &mut self,
        of: &'t Directive,
        field: &str,
        value: &str,
        way: &Way<'t>,
        fields: &mut Fields,
    ) -> bool {
        let Some((name, said)) = CERTIFICATE.iter().find(|(name, _)| *value == format!("${{{name}}}")) else {
            return false;
        };
        let verified = super::condition::verified(&way.scope).filter(|_| self.all_tls(way, true));
        if let (&"ssl_client_verify", Some(text)) = (name, verified) {
            fields.at = fields.at.or(Some(of.at));
            fields.remove.retain(|other| other != field);
            fields.set.push((field.to_owned(), text.to_owned()));
            self.notes.ok(of);
            return true;
        }
        self.certificates = true;
        if !field.starts_with("x-client-cert-") {
            fields.at = fields.at.or(Some(of.at));
            fields.take_away(field);
        }
        self.notes.near(of, format!("endpoints are told of it in {said}, and nothing under the name {field}; with client_headers they get both X-Client-Cert-Subject and X-Client-Cert-SHA256"));
        true
    }

    /// Who has given a password.
    fn user(
        &mut self,
        of: &'t Directive,
        field: &str,
        value: &str,
        way: &Way<'t>,
        fields: &mut Fields,
    ) -> bool {
        let asks = way.scope.find("auth_basic").is_some_and(|of| of.word(0) != "off");
        let open = way.bound.get("\u{0}satisfied").is_some_and(|by| by == "address");
        if value != "${remote_user}" || !asks || open || fields.user.is_some() || is_framing(field) {
            return false;
        }
        fields.user = Some(field.to_owned());
        self.notes.ok(of);
        true
    }

    /// A field of the proxy's own whose value is looked up in a table.
    fn looked_up(&mut self, of: &'t Directive, field: &str, value: &str) -> bool {
        let table = super::variable::alone(value).and_then(|name| self.ground.switches.get(&name));
        let Some(switch) = table.filter(|_| is_own(of)) else { return false };
        for one in std::iter::once(switch.of).chain(switch.of.inside()) {
            self.notes.how(one, "what it is for is the proxy's own here: upgrades go through, and endpoints are told of the client");
        }
        if !is_framing(field) {
            let always =
                format!("{field} is always sent, as the connection has it, or as a trusted proxy said");
            self.notes.near(of, always);
        }
        !is_framing(field)
    }

    /// Whether all that comes on a way comes by TLS, or none of it.
    fn all_tls(&self, way: &Way<'t>, tls: bool) -> bool {
        let served = way.region.doors.clone().unwrap_or_else(|| (0..self.ground.doors.len()).collect());
        served.iter().all(|at| self.ground.doors.get(*at).is_some_and(|door| door.tls == tls))
    }

    /// Fields that are always sent.
    fn told(&mut self, of: &'t Directive, field: &str, usual: &[&str], text: &str) {
        let always = format!("{field} is always sent, as the connection has it, or as a trusted proxy said");
        if field == "x-forwarded-for" && usual.contains(&text) {
            self.notes.near(of, "X-Forwarded-For is always sent; nginx keeps what the client said beside it, here it is left out unless the client is in trusted_proxies");
        } else if usual.contains(&text) {
            self.notes.how(of, always);
        } else if field == "x-forwarded-for" && text == "{client}" {
            self.notes.near(of, "the client's address; behind proxies in trusted_proxies the list that they send goes on before it");
        } else if text.is_empty() {
            self.notes.near(
                of,
                format!("{always}; forwarded = \"off\" of the listener leaves all of these fields out"),
            );
        } else if let Some(header) = text.strip_prefix("{header:") {
            self.notes.near(of, format!("{always}: name these proxies in trusted_proxies of the listener, that what they say in {} is believed", header.trim_end_matches('}')));
        } else {
            self.notes.cannot(of, format!("{always}: it has no other value; give yours another name"));
        }
    }

    /// Fields that are added to answers.
    pub(super) fn answer_fields(&mut self, way: &Way<'t>, draft: &mut Draft, is_error: bool) {
        let mut fields = Fields::default();
        let lines = way.scope.all("add_header");
        let levels = way.scope.inner().filter(|level| !level.all("add_header").is_empty()).count();
        if let (Some(first), 2..) = (lines.first(), levels) {
            self.notes.wrong(
                first,
                "lines of add_header further out do not hold beside one here: their fields are gone",
            );
        }
        for of in lines {
            let always = of.word(2) == "always";
            let field = of.word(0).to_ascii_lowercase();
            if !(2..=3).contains(&of.words.len()) || FieldName::new(&field).is_err() {
                self.notes.wrong(of, "it names a field and its value: nginx rejects it");
                continue;
            }
            if is_error && !always {
                self.notes.how(of, "not with errors that are answered here, as it does not say `always`");
                continue;
            }
            let value = put_in(of.word(1), &way.bound);
            let text = match render(&value, Where::Response, &self.facts(way)) {
                Ok(text) => text,
                Err(why) => {
                    let why = super::variable::alone(&value)
                        .and_then(|name| way.unknown.get(&name).cloned())
                        .unwrap_or(why);
                    self.notes.cannot(of, why);
                    continue;
                }
            };
            if is_framing(&field) {
                self.notes.skip(of, "it belongs to one connection, and is the proxy's");
                continue;
            }
            fields.at = fields.at.or(Some(of.at));
            self.add(of, field, text, &mut fields);
            let forwards = !draft.pools().is_empty();
            if ["${upstream_status}", "${upstream_addr}"].iter().any(|list| value.contains(list)) && forwards
            {
                self.notes.near(of, "it says the last try alone: nginx lists all of them (502, 200)");
            }
            if always || is_error || !forwards {
                self.notes.ok(of);
            } else {
                self.notes.near(of, "errors have it too: nginx leaves it out of answers of other statuses than 200, 201, 204, 206, 301 to 304, 307 and 308 where it does not say `always`");
            }
        }
        let forwards = !draft.pools().is_empty();
        self.expires(way, &mut fields, is_error, forwards);
        draft.answer = fields;
    }

    fn add(&mut self, of: &'t Directive, field: String, text: String, fields: &mut Fields) {
        if text.is_empty() {
            return;
        }
        match fields.add.iter_mut().find(|(other, _)| *other == field) {
            Some(_) if field == "set-cookie" => self
                .notes
                .cannot(of, "a route adds one field of a name: let the application set the second cookie"),
            Some((_, own)) => {
                own.push_str(", ");
                own.push_str(&text);
            }
            None => fields.add.push((field, text)),
        }
    }

    /// `expires`.
    fn expires(&mut self, way: &Way<'t>, fields: &mut Fields, is_error: bool, forwards: bool) {
        let Some(of) = way.scope.find("expires") else { return };
        let value = put_in(of.words.last().map_or("", String::as_str), &way.bound);
        if value == "off" || is_error {
            return self.notes.ok(of);
        }
        let control = match value.as_str() {
            "epoch" => Some("no-cache".to_owned()),
            "max" => Some("max-age=315360000".to_owned()),
            text if text.starts_with('-') && time(text.trim_start_matches('-')).is_some() => {
                Some("no-cache".to_owned())
            }
            text => time(text)
                .filter(|_| !text.starts_with('@'))
                .map(|time| format!("max-age={}", time.as_secs())),
        };
        let Some(control) = control.filter(|_| of.words.len() == 1) else {
            return self.notes.cannot(of, "a time of day, a time since the file was changed, or a variable is not counted here: write Cache-Control");
        };
        fields.at = fields.at.or(Some(of.at));
        // It takes the place of what an endpoint says, and add_header stands beside it.
        let beside = fields.add.iter().position(|(name, _)| name == "cache-control");
        let control = match beside.map(|at| fields.add.remove(at).1) {
            Some(own) => format!("{control}, {own}"),
            None => control,
        };
        let keeps = control.contains("max-age");
        fields.set.push(("cache-control".to_owned(), control));
        self.notes.near(of, "Cache-Control says it; there is no Expires beside it");
        if keeps && forwards {
            self.notes.near(of, "errors of endpoints have it too, so that caches may keep a 404 or a 500 for as long; nginx says it with 200, 201, 204, 206, 301 to 304, 307 and 308 alone. Where that matters let the application say Cache-Control");
        }
    }

    /// `proxy_hide_header`.
    pub(super) fn hidden_fields(&mut self, scope: &Scope<'t>, grpc: bool, draft: &mut Draft) {
        let name = if grpc { "grpc_hide_header" } else { "proxy_hide_header" };
        for of in scope.all(name) {
            let field = of.word(0).to_ascii_lowercase();
            if FieldName::new(&field).is_err() || is_framing(&field) {
                self.notes.skip(of, "it is no field of an answer that goes on");
                continue;
            }
            draft.answer.at = draft.answer.at.or(Some(of.at));
            // What is taken away and added is set.
            if let Some(at) = draft.answer.add.iter().position(|(other, _)| *other == field) {
                let pair = draft.answer.add.remove(at);
                draft.answer.set.push(pair);
            } else if !draft.answer.remove.contains(&field)
                && !draft.answer.set.iter().any(|(other, _)| *other == field)
            {
                draft.answer.remove.push(field);
            }
            self.notes.ok(of);
        }
    }
}

fn says_host(of: &&Directive) -> bool {
    of.word(0).eq_ignore_ascii_case("host")
}

/// Where locations lead that set the Host, by the directives that say so.
pub(super) fn hosted<'t>(locations: &Locations<'t>) -> HashSet<(&'static str, &'t str)> {
    let mut out = HashSet::new();
    for location in &locations.all {
        for (pass, name) in [("proxy_pass", "proxy_set_header"), ("grpc_pass", "grpc_set_header")] {
            if let Some(of) =
                location.level.first(pass).filter(|_| location.level.all(name).iter().any(says_host))
            {
                out.insert((name, destination(of.word(0))));
            }
        }
    }
    out
}

/// The address of a `proxy_pass`.
fn destination(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}
