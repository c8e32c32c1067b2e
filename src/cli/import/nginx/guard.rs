//! Who may come in: `allow` and `deny`, `satisfy`, `auth_basic` and `auth_request`.

use ipnet::IpNet;

use super::super::document::Value;
use super::draft::{Action, Draft};
use super::scope::Scope;
use super::switch::parse_network;
use super::tree::Directive;
use super::variable::{alone, is_plain, put_in};
use super::walk::{Walker, Way};

/// `allow` and `deny` as sets of which the order does not matter.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rules {
    /// Who may not, whatever else is said.
    pub(super) deny: Vec<IpNet>,
    /// Who alone may, where `closed`.
    pub(super) open: Vec<IpNet>,
    /// All others may not.
    pub(super) closed: bool,
    /// Clients of unix sockets may.
    unix: bool,
}

/// Whether a directive asks who comes in a way that nothing here knows: of NGINX Plus, of other modules, or by code.
pub(super) fn is_strange(name: &str) -> bool {
    const KNOWN: [&str; 6] =
        ["auth_basic", "auth_basic_user_file", "auth_request", "auth_request_set", "auth_delay", "auth_http"];
    let module = name.strip_prefix("auth_").is_some_and(|rest| {
        let main = !rest.contains('_') || rest.ends_with("_enabled") || rest == "jwt_require";
        main && !KNOWN.contains(&name)
    });
    module || name == "js_access" || name.starts_with("access_by_lua")
}

/// More networks than these are not taken apart.
const NETWORKS_MAX: usize = 4_000;

impl Rules {
    /// Takes in a line, of which earlier ones go first.
    fn add(&mut self, allow: bool, of: Option<IpNet>) {
        if self.closed {
            return;
        }
        match (allow, of) {
            (true, None) => self.closed = self.open.is_empty() && self.closed,
            (false, None) => self.closed = true,
            (true, Some(network)) => self.open.push(network),
            (false, Some(network)) => {
                // Those that an earlier line lets in stay in.
                let mut left = vec![network];
                for open in &self.open {
                    left = left.into_iter().flat_map(|network| without(network, *open)).collect();
                    if left.len() > NETWORKS_MAX {
                        break;
                    }
                }
                self.deny.extend(left);
            }
        }
    }
}

/// A network without another one.
fn without(network: IpNet, other: IpNet) -> Vec<IpNet> {
    if other.contains(&network) {
        return Vec::new();
    }
    if !network.contains(&other) {
        return vec![network];
    }
    let mut out = Vec::new();
    let mut rest = network;
    while rest.prefix_len() < other.prefix_len() {
        let Ok(halves) = rest.subnets(rest.prefix_len() + 1) else { break };
        let mut next = None;
        for half in halves {
            if half.contains(&other) {
                next = Some(half);
            } else {
                out.push(half);
            }
        }
        match next {
            Some(half) => rest = half,
            None => break,
        }
    }
    out
}

/// Reads the lines of one level.
pub(super) fn rules(lines: &[&Directive], mut wrong: impl FnMut(&Directive)) -> Rules {
    let mut rules = Rules::default();
    let mut ended = false;
    for of in lines {
        let (allow, word) = (of.name == "allow", of.word(0));
        if ended {
            continue;
        }
        match word {
            "all" => {
                rules.add(allow, None);
                ended = true;
            }
            "unix:" => rules.unix |= allow,
            _ => match parse_network(word) {
                Some(network) => rules.add(allow, Some(network)),
                None => {
                    wrong(of);
                    // Nobody is let in for a line that cannot be read, and who was to be kept out is not known.
                    rules.closed |= !allow;
                    ended |= !allow;
                }
            },
        }
    }
    rules
}

impl Rules {
    /// Nobody is let in.
    fn nobody(&self) -> bool {
        self.closed && self.open.is_empty() && !self.unix
    }

    /// The keys `allow` and `deny`.
    pub(super) fn keys(&self) -> Vec<(&'static str, Value)> {
        let list = |networks: &[IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut out = Vec::new();
        if self.closed {
            let mut open = list(&self.open);
            if self.unix {
                open.push("unix:".to_owned());
            }
            out.push(("allow", Value::texts(open)));
        }
        if !self.deny.is_empty() {
            out.push(("deny", Value::texts(list(&self.deny))));
        }
        out
    }
}

impl<'t> Walker<'_, 't, '_> {
    /// `allow` and `deny` of a scope.
    pub(super) fn access(&mut self, scope: &Scope<'t>) -> Rules {
        let lines = scope.all_of(&["allow", "deny"]);
        let mut faults = Vec::new();
        let rules = rules(&lines, |of| faults.push(of.id));
        let mut ended = false;
        for of in &lines {
            if faults.contains(&of.id) {
                self.notes.wrong(of, "it is an address, a network, unix: or all: nginx rejects it");
            } else if ended {
                self.notes.wrong(of, "it stands behind `all` and is never asked");
            } else {
                self.notes.ok(of);
            }
            ended |= of.word(0) == "all";
        }
        self.lost_rules(scope, &lines, &rules);
        rules
    }

    /// Networks that are denied further out and not here: of these lines a level has its own alone.
    fn lost_rules(&mut self, scope: &Scope<'t>, lines: &[&'t Directive], rules: &Rules) {
        let Some(first) = lines.first().filter(|_| !rules.closed) else { return };
        let own = |of: &&Directive| lines.iter().any(|own| own.name == of.name && own.words == of.words);
        let further =
            scope.inner().filter(|level| level.first("allow").is_some() || level.first("deny").is_some());
        let lost =
            further.skip(1).flat_map(|level| level.all("deny")).any(|of| of.word(0) != "all" && !own(of));
        if lost {
            self.notes.wrong(first, "lines of allow and deny further out do not hold beside one here: who is denied there is not denied here");
        }
    }

    /// Whether nobody may come in.
    pub(super) fn refuses_all(&mut self, way: &Way<'t>) -> bool {
        let any = way.scope.find("satisfy").is_some_and(|of| of.word(0) == "any");
        !any && self.access(&way.scope).nobody()
    }

    /// Whether an address or a password is enough.
    pub(super) fn either(&mut self, way: &Way<'t>) -> bool {
        let any = way.scope.find("satisfy").is_some_and(|of| of.word(0) == "any");
        let known = way.bound.contains_key("\u{0}satisfied");
        let asks = self.password(&way.scope).is_some() || Self::service(&way.scope).is_some();
        any && !known && asks && !way.scope.all_of(&["allow", "deny"]).is_empty()
    }

    fn password(&self, scope: &Scope<'t>) -> Option<&'t Directive> {
        scope.find("auth_basic").filter(|of| of.word(0) != "off")
    }

    fn service(scope: &Scope<'t>) -> Option<&'t Directive> {
        scope.find("auth_request").filter(|of| of.word(0) != "off")
    }

    /// Writes who may come in.
    pub(super) fn guards(&mut self, way: &Way<'t>, draft: &mut Draft) {
        let satisfied = way.bound.get("\u{0}satisfied").map(String::as_str);
        if let Some(of) = way.scope.find("satisfy") {
            self.notes.ok(of);
        }
        if satisfied != Some("auth") {
            let lines = way.scope.all_of(&["allow", "deny"]);
            let rules = self.access(&way.scope);
            if rules.nobody() {
                draft.action = Action::Respond { status: 403, body: String::new(), kind: None };
                return;
            }
            let at = lines.first().map(|of| of.at);
            if satisfied.is_none() {
                draft.keys.extend(rules.keys().into_iter().map(|(name, value)| (name.to_owned(), value, at)));
            }
        }
        if let Some(of) = way.scope.strange() {
            self.notes.cannot(of, "who comes in is not asked by it here: nobody is let in until basic_auth, forward_auth, client_ca or an endpoint asks");
            draft.action = Action::Respond { status: 503, body: String::new(), kind: None };
            draft.why = Some("who is let in cannot be said: see the report".to_owned());
            return;
        }
        if satisfied == Some("address") {
            return;
        }
        self.basic(way, draft);
        self.forward(way, draft);
    }

    fn basic(&mut self, way: &Way<'t>, draft: &mut Draft) {
        if let Some(off) = way.scope.find("auth_basic").filter(|of| of.word(0) == "off") {
            self.notes.ok(off);
        }
        let Some(of) = self.password(&way.scope) else { return };
        let file = way
            .scope
            .find("auth_basic_user_file")
            .filter(|file| is_plain(file.word(0)) && !file.word(0).is_empty());
        let realm = put_in(of.word(0), &way.bound);
        let doubt = super::walk::doubt(of.word(0), way);
        if let Some(why) = &doubt {
            self.notes.cannot(of, format!("for whom it is off cannot be said ({why}): all need a password"));
        }
        if realm == "off" && doubt.is_none() {
            return;
        }
        let Some(file) = file else {
            self.notes.cannot(of, "basic_auth needs users_file, a file whose name is known: nobody is let in until you write it");
            draft.action = Action::Respond { status: 503, body: String::new(), kind: None };
            return;
        };
        let realm = if is_plain(&realm) { realm } else { "restricted".to_owned() };
        let mut pairs = vec![("realm", Value::text(realm)), ("users_file", Value::text(file.word(0)))];
        if !draft.pools().is_empty() {
            if let Some(field) = draft.request.user.take() {
                pairs.push(("user_header", Value::text(field)));
            }
            pairs.push(("keep_authorization", Value::Bool(true)));
        }
        draft.keys.push(("basic_auth".to_owned(), Value::inline(pairs), Some(of.at)));
        self.notes.ok(of);
        self.notes.near(file, "hashes are bcrypt, SHA-crypt or $apr1$: make others, such as {SHA} and those of crypt(3), anew with htpasswd -B. The challenge says charset=\"UTF-8\" too");
    }

    /// `auth_request`: another service is asked.
    fn forward(&mut self, way: &Way<'t>, draft: &mut Draft) {
        if let Some(off) = way.scope.find("auth_request").filter(|of| of.word(0) == "off") {
            self.notes.ok(off);
        }
        let Some(of) = Self::service(&way.scope) else { return };
        let asked = if is_plain(of.word(0)) {
            self.asked(of.word(0))
        } else {
            Err("which location is asked depends on the request".to_owned())
        };
        let (pool, path) = match asked {
            Ok(asked) => asked,
            Err(why) => {
                self.notes.cannot(of, format!("{why}: nobody is let in until you write forward_auth"));
                draft.action = Action::Respond { status: 503, body: String::new(), kind: None };
                draft.why = Some("who is let in cannot be said: see the report".to_owned());
                return;
            }
        };
        let path = path.filter(|path| is_plain(path)).unwrap_or_else(|| of.word(0).to_owned());
        let mut pairs = vec![("pool", Value::text(self.pools.name(pool))), ("path", Value::text(path))];
        let fields = self.answered_fields(way, draft);
        if !fields.is_empty() {
            pairs.push(("response_headers", Value::texts(fields)));
        }
        draft.keys.push(("forward_auth".to_owned(), Value::inline(pairs), Some(of.at)));
        self.notes.near(of, "what the service answers with 401, 403 and every other 3xx and 4xx goes to the client as it is; nginx makes 500 of all but 401 and 403");
    }

    /// `auth_request_set` with the field that it goes on in.
    fn answered_fields(&mut self, way: &Way<'t>, draft: &mut Draft) -> Vec<String> {
        let mut out = Vec::new();
        for of in way.scope.all("auth_request_set") {
            let variable = of.word(0).trim_start_matches('$');
            let source = alone(of.word(1))
                .and_then(|name| Some(name.strip_prefix("upstream_http_")?.replace('_', "-")));
            let mut used = false;
            for set in way.scope.all("proxy_set_header") {
                if alone(set.word(1)).as_deref() != Some(variable) {
                    continue;
                }
                used = true;
                let field = set.word(0).to_ascii_lowercase();
                if source.as_ref() == Some(&field) {
                    draft.request.remove.retain(|other| *other != field);
                    self.notes.ok(set);
                    out.push(field);
                } else {
                    let source = source.clone().unwrap_or_else(|| "what it is of".to_owned());
                    self.notes.cannot(
                        set,
                        format!("a field of the service's answer goes on under its own name: {source}. Let the endpoint read that; what clients send as {field} is taken away"),
                    );
                }
            }
            match (source, used) {
                (Some(_), true) => self.notes.ok(of),
                (Some(_), false) => self.notes.skip(of, "nothing that is carried over makes use of it"),
                (None, _) => self.notes.cannot(of, "fields of the service's answer go on (forward_auth.response_headers), nothing else of it"),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::report::Place;
    use super::*;

    fn of(lines: &[&str]) -> Rules {
        let make = |line: &&str| {
            let (name, word) = line.split_once(' ').expect("two words");
            let at = Place { file: 0, line: 1 };
            Directive { id: 0, name: name.to_owned(), words: vec![word.to_owned()], at, block: None }
        };
        let lines: Vec<Directive> = lines.iter().map(make).collect();
        rules(&lines.iter().collect::<Vec<_>>(), |_| {})
    }

    fn shown(rules: &Rules) -> (String, String, bool) {
        let show = |list: &[IpNet]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        (show(&rules.open), show(&rules.deny), rules.closed)
    }

    #[test]
    fn the_first_line_that_takes_a_client_decides() {
        let check = |lines: &[&str], open: &str, deny: &str, closed: bool| {
            assert_eq!(shown(&of(lines)), (open.to_owned(), deny.to_owned(), closed), "{lines:?}");
        };
        check(&["allow 10.0.0.0/8", "deny all"], "10.0.0.0/8", "", true);
        check(&["deny 10.1.0.0/16", "allow 10.0.0.0/8", "deny all"], "10.0.0.0/8", "10.1.0.0/16", true);
        check(&["deny 192.0.2.9", "allow all"], "", "192.0.2.9/32", false);
        check(&["allow 10.0.0.0/9", "deny 10.0.0.0/8", "allow all"], "10.0.0.0/9", "10.128.0.0/9", false);
        check(&["allow 10.0.0.0/8", "deny 10.1.0.0/16", "deny all"], "10.0.0.0/8", "", true);
        check(&["allow all", "deny 10.0.0.0/8"], "", "", false);
        check(&["deny nothing", "allow all"], "", "", true);
        assert!(of(&["deny all"]).nobody());
    }
}
