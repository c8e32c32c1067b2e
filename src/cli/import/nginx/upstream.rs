//! `upstream` blocks and their servers.

use std::collections::HashMap;

use super::super::document::Value;
use super::catalogue::UPSTREAM;
use super::notes::Notes;
use super::scope::Level;
use super::tree::Directive;
use super::units::{bytes, duration, size, time};
use super::variable::alone;
use crate::model::address::EndpointAddress;

/// A server of an upstream.
#[derive(Debug, Clone)]
pub(super) struct Peer<'t> {
    pub(super) of: &'t Directive,
    pub(super) address: String,
    pub(super) weight: i64,
    pub(super) backup: bool,
    /// It gets nothing: `down` or `drain`.
    pub(super) off: bool,
    pub(super) max_conns: Option<i64>,
    pub(super) max_fails: i64,
    pub(super) fail_timeout: String,
    pub(super) slow_start: Option<Value>,
}

/// An upstream.
#[derive(Debug)]
pub(super) struct Upstream<'t> {
    pub(super) of: &'t Directive,
    pub(super) level: Level<'t>,
    pub(super) name: String,
    pub(super) peers: Vec<Peer<'t>>,
    /// How its endpoints are chosen: keys of the pool.
    pub(super) keys: Vec<(&'static str, Value, &'t Directive)>,
}

/// Reads the upstreams of a block.
pub(super) fn read<'t>(
    level: &Level<'t>,
    http: bool,
    notes: &mut Notes<'_>,
) -> HashMap<String, Upstream<'t>> {
    let mut out: HashMap<String, Upstream<'t>> = HashMap::new();
    for of in level.all("upstream") {
        let name = of.word(0).to_owned();
        if name.is_empty() || of.words.len() != 1 {
            notes.wrong(of, "an upstream has a name: nginx rejects it");
            continue;
        }
        if out.contains_key(&name) {
            notes.wrong(of, "there is another upstream of that name: nginx rejects the file");
            for inner in of.inside() {
                notes.all(inner, super::super::report::Verdict::Ignored, "its upstream is there twice");
            }
            continue;
        }
        out.insert(name, one(of, http, notes));
    }
    out
}

fn one<'t>(of: &'t Directive, http: bool, notes: &mut Notes<'_>) -> Upstream<'t> {
    let level = Level::new(UPSTREAM, of.inside());
    let mut peers: Vec<Peer<'t>> =
        level.all("server").iter().filter_map(|server| peer(server, http, notes)).collect();
    once(&mut peers, notes);
    let methods: Vec<&'t Directive> =
        level.list.iter().filter(|one| METHODS.contains(&one.name.as_str())).collect();
    if let [_, second, ..] = methods.as_slice() {
        notes.wrong(second, "there is a method already, and nginx warns that this one takes its place");
    }
    let by_hash = methods.iter().any(|one| ["hash", "ip_hash", "random"].contains(&one.name.as_str()));
    for peer in peers.iter_mut().filter(|peer| peer.backup && by_hash) {
        notes.wrong(peer.of, "hash, ip_hash and random take no backup: nginx rejects the file");
    }
    let all_off = !peers.is_empty() && peers.iter().all(|peer| peer.off || peer.weight == 0);
    for peer in peers.iter_mut().filter(|_| all_off) {
        notes.cannot(peer.of, "every server is down: a pool needs one that is not, so all are in use");
        peer.off = false;
    }
    let mut upstream = Upstream { of, level, name: of.word(0).to_owned(), peers, keys: Vec::new() };
    if upstream.peers.is_empty() {
        notes.wrong(of, "there are no servers inside: nginx rejects the file");
    }
    if let Some(method) = methods.last() {
        upstream.method(method, notes);
    }
    upstream.sticky(notes);
    upstream.rest(http, notes);
    upstream
}

/// A server that is there twice has the weight of both.
fn once(peers: &mut Vec<Peer<'_>>, notes: &mut Notes<'_>) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<Peer<'_>> = Vec::new();
    for peer in peers.drain(..) {
        match seen.get(&peer.address).and_then(|at| kept.get_mut(*at)) {
            Some(first) => {
                notes.near(peer.of, "the server is there already: one endpoint has the weights of both");
                first.backup &= peer.backup;
                first.off &= peer.off;
                first.weight = (first.weight + peer.weight).min(1000);
            }
            None => {
                seen.insert(peer.address.clone(), kept.len());
                kept.push(peer);
            }
        }
    }
    *peers = kept;
}

const METHODS: [&str; 5] = ["least_conn", "ip_hash", "hash", "least_time", "random"];

/// What the options of a server say beside the server itself.
#[derive(Default)]
struct Named<'t> {
    /// It is looked up while nginx runs.
    resolve: bool,
    service: Option<&'t str>,
    /// Failures are never counted together.
    never: bool,
}

fn peer<'t>(of: &'t Directive, http: bool, notes: &mut Notes<'_>) -> Option<Peer<'t>> {
    let mut named = Named::default();
    let mut peer = Peer {
        of,
        address: String::new(),
        weight: 1,
        backup: false,
        off: false,
        max_conns: None,
        max_fails: 1,
        fail_timeout: "10s".to_owned(),
        slow_start: None,
    };
    for option in of.from(1) {
        if !read_option(option, &mut peer, &mut named, notes) {
            notes.wrong(of, format!("{option}: nginx rejects it"));
        }
    }
    if named.never {
        peer.max_fails = 0;
    }
    let found = match named.service {
        Some(service) => service_address(service, of.word(0)),
        None => address(of.word(0), http.then_some(80)),
    };
    match found {
        Ok(address) => peer.address = address,
        Err(why) => {
            notes.wrong(of, why);
            return None;
        }
    }
    if peer.weight > 1000 {
        notes
            .near(of, "a weight is at most 1000 here: give all servers smaller ones in the same proportions");
        peer.weight = 1000;
    }
    let is_name = !named.resolve
        && named.service.is_none()
        && !of.word(0).starts_with("unix:")
        && host_of(&peer.address).parse::<std::net::IpAddr>().is_err();
    if is_name {
        notes.near(of, "nginx looks the name up once, when it starts; here it is looked up for as long as its answers say");
    } else {
        notes.ok(of);
    }
    Some(peer)
}

/// Reads an option of a server; false where nginx would not.
fn read_option<'t>(
    option: &'t str,
    peer: &mut Peer<'t>,
    named: &mut Named<'t>,
    notes: &mut Notes<'_>,
) -> bool {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let number = || value.parse::<i64>().ok().filter(|number| (0..=1_000_000).contains(number));
    match name {
        "weight" => {
            return number().filter(|weight| *weight > 0).map(|weight| peer.weight = weight).is_some();
        }
        "max_conns" => {
            return number().map(|most| peer.max_conns = Some(most).filter(|most| *most > 0)).is_some();
        }
        "max_fails" => return number().map(|most| peer.max_fails = most).is_some(),
        "fail_timeout" => {
            let Some(time) = time(value) else { return false };
            named.never |= time.is_zero();
            peer.fail_timeout = text_of(&duration(time));
        }
        "slow_start" => return time(value).map(|time| peer.slow_start = Some(duration(time))).is_some(),
        "backup" => peer.backup = true,
        "down" | "drain" => peer.off = true,
        "resolve" => named.resolve = true,
        "service" => {
            named.service = Some(value).filter(|service| !service.is_empty());
            return named.service.is_some();
        }
        "route" => {
            let remedy = "route: endpoints have no routes; a sticky cookie of ours keeps clients at theirs";
            notes.cannot(peer.of, remedy);
        }
        _ => return false,
    }
    true
}

/// Endpoints that a service leads to.
fn service_address(service: &str, host: &str) -> Result<String, String> {
    let service = if service.starts_with('_') { service.to_owned() } else { format!("_{service}._tcp") };
    let address = format!("srv:{service}.{host}");
    match EndpointAddress::parse(&address) {
        Ok(_) => Ok(address),
        Err(_) => Err("it is no name that services can be looked up for: nginx rejects it".to_owned()),
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        _ => String::new(),
    }
}

fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host.trim_start_matches('[').trim_end_matches(']'))
}

/// An address with a port, as endpoints have it.
pub(super) fn address(text: &str, port: Option<u16>) -> Result<String, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        let fine = path.starts_with('/') && EndpointAddress::parse(text).is_ok();
        return if fine { Ok(text.to_owned()) } else { Err("a unix socket has an absolute path".to_owned()) };
    }
    if text.is_empty() || text.contains('/') || text.contains(char::is_whitespace) {
        return Err("it is no address: nginx rejects it".to_owned());
    }
    let (host, own) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => {
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("it is no address: nginx rejects it".to_owned());
            }
            (format!("[{host}]"), rest.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (text.to_owned(), None),
        },
    };
    let port = match own {
        None => port.ok_or_else(|| "a port is missing: nginx rejects it".to_owned())?,
        Some(own) => own
            .parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| "it has no valid port: nginx rejects it".to_owned())?,
    };
    let address = format!("{host}:{port}");
    match EndpointAddress::parse(&address) {
        Ok(_) => Ok(address),
        Err(_) => Err("it is no address, and no name that can be looked up: nginx rejects it".to_owned()),
    }
}

impl<'t> Upstream<'t> {
    fn method(&mut self, of: &'t Directive, notes: &mut Notes<'_>) {
        match of.name.as_str() {
            "least_conn" => {
                self.keys.push(("balance", Value::text("least_requests"), of));
                notes.ok(of);
            }
            "ip_hash" => {
                self.keys.push(("balance", Value::text("maglev"), of));
                notes.near(of, "the hash is another one, of the whole address where nginx takes the first three bytes of IPv4: clients come to other endpoints than now, and stay there");
            }
            "least_time" => {
                self.keys.push(("balance", Value::text("peak_ewma"), of));
                notes.near(of, "the soonest answer, by times to the head that fall slowly and rise at once");
            }
            "random" => {
                self.keys.push(("balance", Value::text("random"), of));
                match of.words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                    ["two"] | ["two", "least_conn"] => notes.ok(of),
                    [] => notes.near(of, "of two that are drawn the one with less to do gets the request"),
                    ["two", _] => notes.near(of, "of two that are drawn the one with fewer requests gets it"),
                    _ => notes.wrong(of, "it is random, or random two with a method: nginx rejects it"),
                }
            }
            _ => self.hash(of, notes),
        }
    }

    fn hash(&mut self, of: &'t Directive, notes: &mut Notes<'_>) {
        let consistent = of.word(1) == "consistent";
        if of.words.is_empty() || of.words.len() > 2 || (of.words.len() == 2 && !consistent) {
            return notes.wrong(of, "it has a key, and `consistent` or nothing behind it: nginx rejects it");
        }
        let word = if consistent { "ring_hash" } else { "maglev" };
        self.keys.push(("balance", Value::text(word), of));
        let others = "the hash is another one: keys come to other endpoints than now, and stay there";
        let (key, said) = match hash_key(of.word(0)) {
            Some((key, None)) => (key, (!consistent).then(|| others.to_owned())),
            Some((key, Some(how))) => (key, Some(how.to_owned())),
            None => {
                notes.cannot(of, "hash_key is source, header:NAME, cookie:NAME, query:NAME, path or sni: the source is taken");
                ("source".to_owned(), None)
            }
        };
        if key != "source" {
            self.keys.push(("hash_key", Value::text(key), of));
        }
        match said {
            Some(said) => notes.near(of, said),
            None => notes.ok(of),
        }
    }

    fn sticky(&mut self, notes: &mut Notes<'_>) {
        let Some(of) = self.level.first("sticky") else { return };
        let option = |name: &str| {
            of.words.iter().find_map(|word| {
                word.strip_prefix(name)?
                    .strip_prefix('=')
                    .or_else(|| word.strip_prefix(name).filter(|rest| rest.is_empty()))
            })
        };
        match of.word(0) {
            "cookie" if of.words.len() > 1 => {
                self.keys.push(("sticky.cookie", Value::text(of.word(1)), of));
                if let Some(text) = option("expires").filter(|text| *text != "max") {
                    match time(text) {
                        Some(time) => self.keys.push((
                            "sticky.max_age",
                            duration(time.max(std::time::Duration::from_secs(1))),
                            of,
                        )),
                        None => notes.wrong(of, "expires has a time: nginx rejects it"),
                    }
                } else if option("expires").is_some() {
                    self.keys.push(("sticky.max_age", Value::text("30d"), of));
                }
                for (name, key) in [("domain", "sticky.domain"), ("path", "sticky.path")] {
                    if let Some(text) =
                        option(name).filter(|text| !(text.is_empty() || name == "path" && *text == "/"))
                    {
                        self.keys.push((key, Value::text(text.trim_start_matches('.')), of));
                    }
                }
                if let Some(text) = option("samesite").filter(|text| ["strict", "lax", "none"].contains(text))
                {
                    self.keys.push(("sticky.same_site", Value::text(text), of));
                }
                if option("secure").is_some() {
                    self.keys.push(("sticky.secure", Value::text("always"), of));
                }
                notes.near(of, "the cookie is signed with a key of its own, says no address, and is always HttpOnly: key_file in sticky shares it between nodes, and clients get a new one once");
            }
            "learn" => self.learn(of, &option, notes),
            "route" => notes
                .cannot(of, "endpoints have no routes: use a cookie (sticky) or hash_key = \"cookie:NAME\""),
            _ => notes.wrong(of, "it is sticky cookie, route or learn: NGINX rejects it"),
        }
    }

    /// The table that learns a cookie of the endpoints' own.
    fn learn(&mut self, of: &'t Directive, option: &dyn Fn(&str) -> Option<&'t str>, notes: &mut Notes<'_>) {
        let cookie = |name: &str, start: &str| {
            option(name).and_then(alone).and_then(|name| Some(name.strip_prefix(start)?.to_owned()))
        };
        let (create, lookup) = (cookie("create", "upstream_cookie_"), cookie("lookup", "cookie_"));
        let Some(name) = lookup.filter(|lookup| create.as_ref() == Some(lookup)) else {
            return notes.cannot(of, "a table learns one cookie, which endpoints set and clients send: table = \"cookie:NAME\", learn = true");
        };
        self.keys.push(("sticky.table", Value::text(format!("cookie:{name}")), of));
        self.keys.push(("sticky.learn", Value::Bool(true), of));
        let room = option("zone").and_then(|zone| size(zone.split_once(':')?.1));
        if let Some(room) = room {
            // One megabyte has room for about 4000 sessions (module documentation).
            let count = i64::try_from((room / 262).clamp(1, 10_000_000)).unwrap_or(10_000_000);
            self.keys.push(("sticky.size", Value::Integer(count), of));
        }
        let expire = option("timeout").and_then(time).unwrap_or(std::time::Duration::from_secs(600));
        self.keys.push(("sticky.expire", duration(expire), of));
        notes.ok(of);
    }

    /// What is left: idle connections, the queue, and what has no counterpart.
    fn rest(&mut self, http: bool, notes: &mut Notes<'_>) {
        if let Some(of) = self.level.first("zone") {
            notes.skip(of, "all workers share what is known of endpoints anyway");
        }
        if let Some(of) = self.level.first("keepalive") {
            match of.word(0).parse::<i64>().ok().filter(|count| (1..=1_000_000).contains(count)) {
                Some(count) => {
                    self.keys.push(("limits.idle_connections", Value::Integer(count), of));
                    let few = i64::try_from(self.peers.len()).unwrap_or(i64::MAX) > count;
                    let trap = if few {
                        "; it is no ceiling of connections, and less than one for each server here"
                    } else {
                        ""
                    };
                    notes.near(of, format!("so many idle connections are kept for each endpoint; nginx keeps them for all servers together{trap}"));
                }
                None if of.word(0) == "0" => {
                    self.keys.push(("limits.idle_connections", Value::Integer(0), of));
                    notes.ok(of);
                }
                None => notes.wrong(of, "it has a number: nginx rejects it"),
            }
        }
        if let Some(of) = self.level.first("keepalive_timeout") {
            match time(of.word(0)) {
                Some(time) => {
                    self.keys.push(("timeouts.keep_alive", duration(time), of));
                    notes.ok(of);
                }
                None => notes.wrong(of, "it has a time: nginx rejects it"),
            }
        }
        for name in ["keepalive_requests", "keepalive_time"] {
            if let Some(of) = self.level.first(name) {
                notes.skip(of, "a connection is used until it is idle for timeouts.keep_alive, or the endpoint closes it");
            }
        }
        let bounded = self.peers.iter().any(|peer| peer.max_conns.is_some());
        match self.level.first("queue") {
            Some(of) => {
                let count = of.word(0).parse::<i64>().ok().filter(|count| (0..=1_000_000).contains(count));
                let Some(count) = count else { return notes.wrong(of, "it has a number: nginx rejects it") };
                let wait = of.words.iter().find_map(|word| time(word.strip_prefix("timeout=")?));
                self.keys.push(("limits.queue", Value::Integer(count), of));
                self.keys.push((
                    "limits.queue_timeout",
                    duration(wait.unwrap_or(std::time::Duration::from_secs(60))),
                    of,
                ));
                notes.ok(of);
            }
            None if bounded && http => {
                if let Some(peer) = self.peers.iter().find(|peer| peer.max_conns.is_some()) {
                    // Without a queue nginx turns away at once.
                    self.keys.push(("limits.queue", Value::Integer(0), peer.of));
                }
            }
            None => {}
        }
    }
}

/// A key of a hash, and how it differs where it does.
pub(super) fn hash_key(text: &str) -> Option<(String, Option<&'static str>)> {
    let path = "the path alone is hashed: what differs by host, scheme or query comes to the same endpoint";
    if let Some(name) = alone(text) {
        for (start, kind) in [("http_", "header"), ("cookie_", "cookie"), ("arg_", "query")] {
            if let Some(which) =
                name.strip_prefix(start).filter(|which| !which.is_empty() && *which != "host")
            {
                let which = if kind == "header" { which.replace('_', "-") } else { which.to_owned() };
                let how = "a request that does not have it goes by its source; nginx sends all of those to one endpoint";
                return Some((format!("{kind}:{which}"), Some(how)));
            }
        }
        return match name.as_str() {
            "remote_addr" | "binary_remote_addr" | "proxy_protocol_addr" | "realip_remote_addr" => {
                Some(("source".to_owned(), None))
            }
            "request_uri" | "uri" | "document_uri" => Some(("path".to_owned(), Some(path))),
            "host" | "http_host" | "ssl_preread_server_name" | "ssl_server_name" => {
                Some(("sni".to_owned(), None))
            }
            _ => None,
        };
    }
    let inner = super::variable::pieces(text);
    let names: Vec<&str> = inner
        .iter()
        .filter_map(|piece| match piece {
            super::variable::Piece::Variable(name) => Some(name.as_str()),
            super::variable::Piece::Text(_) => None,
        })
        .collect();
    let of = |allowed: &[&str]| names.iter().all(|name| allowed.contains(name));
    if names.iter().any(|name| ["uri", "request_uri", "document_uri"].contains(name))
        && of(&[
            "scheme",
            "host",
            "http_host",
            "proxy_host",
            "uri",
            "request_uri",
            "document_uri",
            "is_args",
            "args",
            "request_method",
        ])
    {
        return Some(("path".to_owned(), Some(path)));
    }
    (names.iter().any(|name| name.ends_with("remote_addr"))
        && of(&["remote_addr", "binary_remote_addr", "remote_port"]))
    .then(|| ("source".to_owned(), None))
}

/// A size as `client_max_body_size` has it.
pub(super) fn body_size(text: &str) -> Option<Option<Value>> {
    let size = size(text)?;
    Some((size > 0).then(|| Value::text(bytes(size, 1, 1 << 50))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_ports() {
        assert_eq!(address("10.0.0.1", Some(80)).as_deref(), Ok("10.0.0.1:80"));
        assert_eq!(address("[::1]:81", Some(80)).as_deref(), Ok("[::1]:81"));
        assert_eq!(address("unix:/run/a", None).as_deref(), Ok("unix:/run/a"));
        for wrong in ["10.0.0.1:99999", "", "a b", "[x]:1", "unix:a"] {
            assert!(address(wrong, Some(80)).is_err(), "{wrong}");
        }
        assert!(address("10.0.0.1", None).is_err());
    }

    #[test]
    fn keys_of_hashes_are_known() {
        assert_eq!(hash_key("$remote_addr").map(|(key, _)| key).as_deref(), Some("source"));
        assert_eq!(hash_key("$http_x_user_id").map(|(key, _)| key).as_deref(), Some("header:x-user-id"));
        assert_eq!(hash_key("$scheme$host$uri").map(|(key, _)| key).as_deref(), Some("path"));
        assert_eq!(hash_key("$pid"), None);
    }
}
