//! What the controller's ConfigMap comes to: keys of listeners, routes and pools, and of the process.

use super::super::document::{Table, Value};
use super::super::report::{Place, Report};
use super::annotation::Set;
use super::controller::Controller;
use super::value::{bytes, duration};

impl Controller {
    /// The status of redirects to HTTPS.
    pub(super) fn redirect_status(&self) -> i64 {
        let code = self.redirect_code.map_or(308, |(code, _)| code);
        if [301, 302, 307, 308].contains(&code) { i64::from(code) } else { 308 }
    }

    /// The statuses of requests that come too fast, and of too many at once.
    pub(super) fn limit_statuses(&self) -> (u16, u16) {
        let of = |set: Set<u32>| {
            let code =
                set.and_then(|(code, _)| u16::try_from(code).ok()).filter(|code| (400..600).contains(code));
            code.unwrap_or(503)
        };
        (of(self.limit_status), of(self.connections_status))
    }

    /// `Strict-Transport-Security` of answers over TLS.
    fn hsts(&self) -> Option<(String, Option<Place>)> {
        if matches!(self.hsts, Some((false, _))) {
            return None;
        }
        let age = self.hsts_age.as_ref().map_or("31536000", |(age, _)| age);
        let all = self.hsts_all.is_none_or(|(yes, _)| yes);
        let preload = self.hsts_preload.is_some_and(|(yes, _)| yes);
        let all = if all { "; includeSubDomains" } else { "" };
        let preload = if preload { "; preload" } else { "" };
        let at = self.hsts_age.as_ref().map(|(_, at)| *at).or_else(|| self.hsts_all.map(|(_, at)| at));
        Some((format!("max-age={age}{all}{preload}"), at))
    }

    /// `request_headers` and `response_headers` of a route, with what is its own.
    pub(super) fn write_fields(
        &self,
        tls: bool,
        removed: &[&str],
        own_request: Vec<(String, Value)>,
        own_answer: Vec<(String, Value)>,
        from: Option<Place>,
        table: &mut Table,
    ) {
        let of = |list: &[(String, String, Place)], own: &[(String, Value)]| {
            let new = |name: &String| !own.iter().any(|(known, _)| known == name);
            let list = list.iter().filter(|(name, ..)| new(name));
            list.map(|(name, value, _)| (name.clone(), Value::text(value))).collect::<Vec<_>>()
        };
        let mut set = of(&self.requests, &own_request);
        let at = self.requests.first().map(|(.., at)| *at);
        set.extend(own_request);
        let mut pairs = Vec::new();
        if !removed.is_empty() {
            pairs.push(("remove", Value::texts(removed.iter().copied())));
        }
        if !set.is_empty() {
            pairs.push(("set", Value::Inline(set)));
        }
        if !pairs.is_empty() {
            table.set("request_headers", Value::inline(pairs), from.or(at));
        }
        let mut set = of(&self.answers, &own_answer);
        set.extend(own_answer);
        let mut at = from.or_else(|| self.answers.first().map(|(.., at)| *at));
        if let Some((hsts, from)) = self.hsts().filter(|_| tls) {
            set.push(("strict-transport-security".to_owned(), Value::text(hsts)));
            at = at.or(from);
        }
        let mut pairs = Vec::new();
        if let Some((names, from)) = &self.hidden {
            let names = names.iter().map(|name| name.to_ascii_lowercase());
            pairs.push(("remove", Value::texts(names)));
            at = at.or(Some(*from));
        }
        if !set.is_empty() {
            pairs.push(("set", Value::Inline(set)));
        }
        if !pairs.is_empty() {
            table.set("response_headers", Value::inline(pairs), at);
        }
    }

    /// `compress` of a route.
    pub(super) fn write_compress(&self, table: &mut Table) {
        let Some(at) = self.gzip.or(self.brotli) else { return };
        let mut codings = Vec::new();
        if self.brotli.is_some() {
            codings.push("br");
        }
        if self.gzip.is_some() {
            codings.push("gzip");
        }
        table.set("compress.codings", Value::texts(codings), Some(at));
        if let Some((types, from)) = &self.types {
            table.set("compress.types", Value::texts(types.clone()), Some(*from));
        }
        let (least, from) = self.min_size.map_or((256, None), |(size, at)| (size, Some(at)));
        table.set("compress.min_size", bytes(least), from);
    }

    /// Keys of an http listener.
    pub(super) fn write_listener(&self, table: &mut Table) {
        if let Some((most, at)) = self.ceiling.filter(|(most, _)| *most > 0) {
            table.set("max_connections", Value::Integer(i64::from(most.min(10_000_000))), Some(at));
        }
        if let Some(at) = self.forwarded.or(self.real_ip).or(self.proxy_protocol) {
            let (networks, from) = match self.networks.as_ref().filter(|_| !self.unbelieved) {
                Some((list, from)) => (list.iter().map(ToString::to_string).collect(), *from),
                None if self.unbelieved => (Vec::new(), at),
                None => (vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()], at),
            };
            table.set("trusted_proxies", Value::texts(networks), Some(from));
        }
        let field = self.field.as_ref().filter(|_| self.forwarded.is_some() || self.real_ip.is_some());
        if let Some((field, at)) = field
            .filter(|(field, _)| ["x-real-ip", "cf-connecting-ip", "forwarded"].contains(&field.as_str()))
        {
            table.set("client_address", Value::text(field), Some(*at));
        }
        if let Some(at) = self.proxy_protocol {
            table.set("accept_proxy_protocol", Value::Bool(true), Some(at));
            if self.forwarded.is_none() && self.real_ip.is_none() {
                table.set("client_address", Value::text("proxy-protocol"), Some(at));
            }
        }
        let times = [
            ("timeouts.request_header", self.head_time, 60),
            ("timeouts.keep_alive", self.keep_alive, 75),
            ("timeouts.client_idle", self.body_time, 60),
        ];
        for (key, set, default) in times {
            let default = std::time::Duration::from_secs(default);
            let (time, at) = set.map_or((default, None), |(time, at)| (time, Some(at)));
            table.set(key, duration(time), at);
        }
        if let Some(((line, all), at)) = self.heads {
            let (line, all) = (line.min(1 << 20), all.min(1 << 20));
            if all > 64 << 10 {
                table.set("limits.head", bytes(all), Some(at));
            }
            if line > 8 << 10 {
                table.set("limits.target", bytes(line.min(all.max(64 << 10))), Some(at));
            }
        }
        if let Some((streams, at)) = self.streams.filter(|(streams, _)| *streams > 0) {
            table.set("limits.http2.streams", Value::Integer(i64::from(streams.min(10_000))), Some(at));
        }
    }

    /// Keys of `tls` of an http listener.
    pub(super) fn write_tls(&self, table: &mut Table) {
        if let Some(at) = self.tls13 {
            table.set("tls.min_version", Value::text("1.3"), Some(at));
        }
        if let Some(at) = self.no_http2 {
            table.set("tls.alpn", Value::texts(["http/1.1"]), Some(at));
        }
    }

    /// Keys of every pool.
    pub(super) fn write_pool(&self, table: &mut Table) {
        if let Some((kept, at)) = self.kept {
            table.set("limits.idle_connections", Value::Integer(i64::from(kept.min(100_000))), Some(at));
        }
        let default = std::time::Duration::from_secs(60);
        let (time, at) = self.kept_time.map_or((default, None), |(time, at)| (time, Some(at)));
        table.set("timeouts.keep_alive", duration(time), at);
    }

    /// Keys of `[process]`.
    pub(super) fn process(&self) -> Vec<(&'static str, Value, Place)> {
        let mut out = Vec::new();
        if let Some((workers, at)) = self.workers.filter(|(workers, _)| *workers > 0) {
            out.push(("workers", Value::Integer(i64::from(workers.min(1024))), at));
        }
        if let Some((time, at)) = &self.drain
            && let Some(time) = super::value::gateway_duration(time).filter(|time| !time.is_zero())
        {
            out.push(("drain_timeout", duration(time), *at));
        }
        out
    }

    /// Says of keys that only matter together what they come to.
    pub(super) fn settle(&self, report: &mut Report) {
        let trusts = self.forwarded.or(self.real_ip).or(self.proxy_protocol);
        match (trusts, &self.networks) {
            (Some(at), None) => report.wrong(at, "without proxy-real-ip-cidr everybody is believed who says whom they are: name the networks of the proxies in front"),
            (None, Some((_, at))) => report.ignored(*at, "nobody is believed: use-forwarded-headers, enable-real-ip and use-proxy-protocol are not true"),
            _ => {}
        }
        if let (None, Some((_, at))) = (trusts, &self.field) {
            report.ignored(*at, "nobody is believed: use-forwarded-headers and enable-real-ip are not true");
        }
        for at in
            [self.types.as_ref().map(|(_, at)| *at), self.min_size.map(|(_, at)| at)].into_iter().flatten()
        {
            if self.gzip.is_none() && self.brotli.is_none() {
                report.ignored(at, "use-gzip and enable-brotli are not true");
            }
        }
        for (set, name) in [
            (self.limit_status, "limit-req-status-code"),
            (self.connections_status, "limit-conn-status-code"),
        ] {
            if let Some((code, at)) = set.filter(|(code, _)| !(400..600).contains(code)) {
                report.wrong(at, format!("{name} is a status of an error, and {code} is none: it is 503"));
            }
        }
    }
}
