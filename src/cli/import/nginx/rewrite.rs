//! `return` and `rewrite`: answers without an endpoint, and other targets.

use super::super::pattern::{fault, matches};
use super::super::region::PathTest;
use super::ask::{Ask, Narrowed, narrow, start_of};
use super::draft::{Action, Draft, Rewrite};
use super::location::{Kind, Location};
use super::switch::names_of;
use super::tree::Directive;
use super::variable::{Facts, Where, put_in, render};
use super::walk::{Walker, Way};

/// A text where the query is put in as one of our variables does.
pub(super) fn tidy(text: &str) -> String {
    let mut text = text.to_owned();
    for args in ["${args}", "${query_string}"] {
        for path in ["${uri}", "${document_uri}"] {
            for between in ["${is_args}", "?"] {
                text = text.replace(&format!("{path}{between}{args}"), "${request_uri}");
            }
        }
        text = text.replace(&format!("${{is_args}}{args}"), &format!("?{args}"));
    }
    text
}

impl<'t> Walker<'_, 't, '_> {
    /// `return`.
    pub(super) fn returned(&mut self, of: &'t Directive, way: &Way<'t>) {
        let (first, second) = (of.word(0), of.words.get(1).map(|text| put_in(text, &way.bound)));
        let code: Option<u16> = first.parse().ok().filter(|code| *code <= 999);
        if of.words.is_empty() || of.words.len() > 2 || (code.is_none() && second.is_some()) {
            self.notes.wrong(of, "it has a status, a text or a URL: nginx rejects it");
            return self.close(of.at, way, "nginx rejects this line");
        }
        let action = match (code, second) {
            (None, _) => self.redirect(of, 302, &put_in(first, &way.bound), way),
            (Some(code @ (301 | 302 | 303 | 307 | 308)), Some(url)) => self.redirect(of, code, &url, way),
            (Some(code), None) if self.paged(of, code, way) => return,
            (Some(code), text) => Some(self.answer(of, code, text.as_deref(), way)),
        };
        match action {
            Some(action) => self.answered(of, action, way),
            None => self.close(of.at, way, "what is answered here cannot be said: see the report"),
        }
    }

    /// Puts an answer without an endpoint among the routes.
    pub(super) fn answered(&mut self, of: &'t Directive, action: Action, way: &Way<'t>) {
        let is_error = matches!(&action, Action::Respond { status, .. } if *status >= 400);
        let own = |location: &&Location<'_>| location.level.list.iter().any(|one| one.id == of.id);
        let lets_in = of.name == "return" && !is_error;
        if let Some(location) = self.location(way).filter(own).filter(|_| lets_in) {
            for name in ["deny", "allow", "auth_basic", "auth_request"] {
                for guard in location.level.all(name).iter().filter(|guard| guard.word(0) != "off") {
                    self.notes.wrong(
                        guard,
                        "a return or redirect is done before it is asked who comes: it keeps nobody out",
                    );
                }
            }
        }
        let mut draft = Draft::new(of.at, way.region.clone(), action);
        self.answer_fields(way, &mut draft, is_error);
        let type_at = draft.answer.add.iter().position(|(name, _)| name == "content-type");
        if let (Some(at), Action::Respond { kind, .. }) = (type_at, &mut draft.action) {
            *kind = Some(draft.answer.add.remove(at).1);
        }
        // What `return` says goes before a page.
        if is_error && matches!(&draft.action, Action::Respond { body, .. } if body.is_empty()) {
            self.pages(way, &mut draft, false);
        }
        self.out.push(draft);
    }

    fn redirect(&mut self, of: &'t Directive, status: u16, url: &str, way: &Way<'t>) -> Option<Action> {
        let url = tidy(url);
        let local = url.starts_with('/') || url.starts_with("${request_uri}") || url.starts_with("${uri}");
        let full = if local { format!("${{scheme}}://${{http_host}}{url}") } else { url };
        match render(&full, Where::Url, &self.facts(way)) {
            Ok(to) if to.is_empty() => {
                self.notes.wrong(of, "it leads nowhere");
                None
            }
            Ok(to) => {
                self.notes.ok(of);
                // What is written with a question mark of its own has it also without a query, as in nginx.
                let own = |word: &String| {
                    ["?$args", "?${args}", "?$query_string"].iter().any(|own| word.contains(own))
                };
                let to = if of.words.iter().any(own) { to } else { to.replace("?{query}", "{?query}") };
                Some(Action::Redirect { to, status })
            }
            Err(why) => {
                self.notes.cannot(of, format!("{why}: write `redirect` of the route"));
                None
            }
        }
    }

    fn answer(&mut self, of: &'t Directive, code: u16, text: Option<&str>, way: &Way<'t>) -> Action {
        let kind = self.content_type(way);
        let body = match text.map(|text| render(&tidy(text), Where::Body, &self.facts(way))) {
            None => String::new(),
            Some(Ok(body)) => body,
            Some(Err(why)) => {
                self.notes.cannot(of, format!("the body is left out: {why}"));
                String::new()
            }
        };
        if !body.is_empty() && !matches!(way.region.path, Some(PathTest::Exact(_))) {
            self.notes.report.general("what a `return` says has the type of default_type; nginx goes by the end of the path before (types).");
        }
        let status = match way.status.unwrap_or(code) {
            444 => {
                self.notes.near(of, "nginx closes the connection without an answer; here it is 403");
                403
            }
            0..=199 | 600.. => {
                self.notes.near(of, "a status is 200 to 599 here: it is 404");
                404
            }
            code => code,
        };
        self.notes.ok(of);
        let body = if matches!(status, 204 | 205 | 304) { String::new() } else { body };
        Action::Respond { status, body, kind: Some(kind) }
    }

    /// What the body of an answer is, by the end of the path or `default_type`.
    fn content_type(&mut self, way: &Way<'t>) -> String {
        const ENDS: [(&str, &str); 7] = [
            (".html", "text/html"),
            (".txt", "text/plain"),
            (".json", "application/json"),
            (".xml", "text/xml"),
            (".css", "text/css"),
            (".js", "application/javascript"),
            (".svg", "image/svg+xml"),
        ];
        let default = way.scope.find("default_type");
        if let Some(default) = default {
            self.notes.ok(default);
        }
        let known = way.scope.find("types").is_none_or(|types| !types.inside().is_empty());
        if let (Some(PathTest::Exact(path)), true) = (&way.region.path, known)
            && let Some((_, kind)) = ENDS.iter().find(|(end, _)| path.ends_with(end))
        {
            return (*kind).to_owned();
        }
        default.map_or("text/plain", |default| default.word(0)).to_owned()
    }

    /// `rewrite`: the way behind it, where there is one.
    pub(super) fn rewrite(
        &mut self,
        of: &'t Directive,
        todo: &mut Vec<&'t [Directive]>,
        way: Way<'t>,
    ) -> Option<Way<'t>> {
        let (regex, flag) = (of.word(0), of.word(2));
        if !(2..=3).contains(&of.words.len())
            || !["", "last", "break", "redirect", "permanent"].contains(&flag)
        {
            self.notes.wrong(of, "it has a regular expression, a replacement, and last, break, redirect or permanent: nginx rejects it");
            return Some(way);
        }
        if let Some(why) = fault(regex) {
            self.notes.cannot(of, format!("the regular expression cannot be read here: {why}"));
            return Some(way);
        }
        let replacement = put_in(of.word(1), &way.bound);
        let away = ["http://", "https://", "${scheme}"].iter().any(|start| replacement.starts_with(start));
        let status = match flag {
            "permanent" => Some(301),
            "redirect" => Some(302),
            _ => away.then_some(302),
        };
        if let Some(target) = &way.target {
            return self.again(of, &target.clone(), regex, todo, way);
        }
        match status {
            Some(status) => self.rewritten_away(of, status, &replacement, way),
            None => self.rewritten(of, &replacement, todo, way),
        }
    }

    /// A redirect of those whose path matches.
    fn rewritten_away(
        &mut self,
        of: &'t Directive,
        status: u16,
        replacement: &str,
        way: Way<'t>,
    ) -> Option<Way<'t>> {
        let regex = of.word(0);
        let all = implied(way.region.path.as_ref(), regex);
        let uses_groups = has_groups(replacement, regex);
        let mut inner = way.to(way.region.clone());
        if !all || uses_groups {
            match narrow(&way.region, &Ask::Path(PathTest::Regex(regex.to_owned())), &self.ground.doors) {
                Narrowed::To(region) => inner.region = region,
                Narrowed::Empty => return Some(way),
                Narrowed::Impossible(why) if !all => {
                    self.notes.cannot(of, why);
                    return Some(way);
                }
                Narrowed::Impossible(_) => {}
            }
        }
        inner.groups = match &inner.region.path {
            Some(PathTest::Regex(_)) => Some(names_of(regex)),
            _ => None,
        };
        let mut url = replacement.to_owned();
        for (whole, end) in [
            ("^/(.*)$", "/${1}"),
            ("^/(.*)", "/${1}"),
            ("^(.*)$", "${1}"),
            ("(.*)", "${1}"),
            ("^/(.*)$", "${1}"),
        ] {
            // All of the path is put in again, and nginx puts the query behind it.
            if regex == whole
                && url.ends_with(end)
                && !url.contains('?')
                && (end != "${1}" || whole != "^/(.*)$")
            {
                url.truncate(url.len() - end.len());
                url.push_str("${request_uri}");
                inner.region.path.clone_from(&way.region.path);
            }
        }
        let url = match url.strip_suffix('?') {
            Some(without) => without.to_owned(),
            None if url.contains("${request_uri}") || url.contains("${args}") => url,
            None if url.contains('?') => format!("{url}&${{args}}"),
            None => format!("{url}?${{args}}"),
        };
        match self.redirect(of, status, &url, &inner) {
            Some(action) => self.answered(of, action, &inner),
            None => self.close(of.at, &inner, "where it leads cannot be said: see the report"),
        }
        (!all && inner.region != way.region).then_some(way)
    }

    /// Another target for those whose path matches.
    fn rewritten(
        &mut self,
        of: &'t Directive,
        replacement: &str,
        todo: &mut Vec<&'t [Directive]>,
        way: Way<'t>,
    ) -> Option<Way<'t>> {
        let (regex, flag) = (of.word(0), of.word(2));
        let facts = Facts { groups: Some(names_of(regex)), ..self.facts(&way) };
        let made = match target(replacement, regex, &facts) {
            Ok(made) => Rewrite { at: Some(of.at), ..made },
            Err(why) => {
                self.notes.cannot(of, why);
                return Some(way);
            }
        };
        let note = made.query.as_ref().filter(|query| query.ends_with("&{query}"));
        let said = note.map(|_| "where a request has no query, an & stays at the end of the new one");
        let samples = samples(replacement, regex);
        let on = |mut way: Way<'t>, made: Rewrite| {
            way.target = Some(made);
            way.samples.clone_from(&samples);
            way.moved = flag != "break";
            way.stopped = flag == "break";
            way
        };
        let all = implied(way.region.path.as_ref(), regex);
        let narrowed = narrow(&way.region, &Ask::Path(PathTest::Regex(regex.to_owned())), &self.ground.doors);
        let everybody = all || matches!(&narrowed, Narrowed::To(region) if *region == way.region);
        match said {
            Some(said) => self.notes.near(of, said),
            None => self.notes.ok(of),
        }
        if everybody {
            if !flag.is_empty() {
                todo.clear();
            }
            return Some(on(way, made));
        }
        match narrowed {
            Narrowed::Empty => Some(way),
            Narrowed::To(region) => {
                let inner = on(way.to(region), made);
                self.run(if flag.is_empty() { todo.clone() } else { Vec::new() }, inner);
                Some(way)
            }
            Narrowed::Impossible(_) if flag == "break" && last_of(todo) => {
                // Where it does not match, the path goes on as it is.
                self.notes
                    .near(of, "a Host that is set for the endpoint is set only where the path is rewritten");
                let made = Rewrite { regex: Some(regex.to_owned()), ..made };
                let way = on(way, made);
                Some(way)
            }
            Narrowed::Impossible(why) => {
                self.notes.cannot(of, why);
                Some(way)
            }
        }
    }

    /// A rewrite of what another one has made.
    fn again(
        &mut self,
        of: &'t Directive,
        before: &Rewrite,
        regex: &str,
        todo: &mut Vec<&'t [Directive]>,
        way: Way<'t>,
    ) -> Option<Way<'t>> {
        let fits: Vec<bool> = way.samples.iter().map(|sample| matches(regex, sample)).collect();
        if fits.iter().all(|fits| !fits) && !fits.is_empty() {
            self.notes.ok(of);
            return Some(way);
        }
        let fixed = before.path.as_ref().filter(|path| !path.contains('{') && before.regex.is_none());
        let replacement = put_in(of.word(1), &way.bound);
        if fixed.is_none() || has_groups(&replacement, regex) {
            self.notes.cannot(
                of,
                "a route rewrites its path once: make one regular expression of this one and the one before",
            );
            return Some(way);
        }
        let mut way = way;
        way.target = None;
        let flag = of.word(2);
        if matches!(flag, "redirect" | "permanent") {
            let status = if flag == "permanent" { 301 } else { 302 };
            let url = replacement.trim_end_matches('?').to_owned();
            match self.redirect(of, status, &url, &way) {
                Some(action) => self.answered(of, action, &way),
                None => self.close(of.at, &way, "where it leads cannot be said: see the report"),
            }
            return None;
        }
        let anything = way.to(way.region.clone());
        let kept = way.region.path.take();
        let mut way =
            self.rewritten(of, &replacement, todo, Way { region: way.region.clone(), ..anything })?;
        way.region.path = kept;
        Some(way)
    }
}

/// Whether nothing that rewrites stands behind it.
fn last_of(todo: &[&[Directive]]) -> bool {
    let rewrites = |one: &Directive| ["rewrite", "return", "if", "set", "break"].contains(&one.name.as_str());
    !todo.iter().any(|list| list.iter().any(rewrites))
}

fn has_groups(replacement: &str, regex: &str) -> bool {
    let names = names_of(regex);
    super::variable::pieces(replacement).iter().any(|piece| match piece {
        super::variable::Piece::Variable(name) => name.parse::<u8>().is_ok() || names.contains(name),
        super::variable::Piece::Text(_) => false,
    })
}

/// Whether every path of a region matches.
pub(super) fn implied(path: Option<&PathTest>, regex: &str) -> bool {
    let below = match path {
        None => "/".to_owned(),
        Some(PathTest::Exact(path)) => return matches(regex, path),
        Some(PathTest::Prefix(prefix)) => format!("{}/", prefix.trim_end_matches('/')),
        Some(PathTest::Start(text)) => text.clone(),
        Some(PathTest::Regex(own)) => match start_of(own) {
            _ if own == regex || own.strip_suffix('$') == Some(regex) => return true,
            Some((text, "")) => text,
            _ => {
                return ["^", ".*", "^.*", "^.*$", "(.*)", "^(.*)", "^(.*)$", "^/", "^/(.*)$", "^/(.*)"]
                    .contains(&regex);
            }
        },
    };
    if ["", "^", ".*", "(.*)"].contains(&regex) {
        return true;
    }
    let Some((start, rest)) = start_of(regex) else { return false };
    below.starts_with(&start) && ["", ".*", ".*$", "(.*)", "(.*)$"].contains(&rest)
}

/// The target that a replacement makes.
fn target(replacement: &str, regex: &str, facts: &Facts) -> Result<Rewrite, String> {
    let replacement = tidy(replacement);
    let (path, args) =
        replacement.split_once('?').map_or((replacement.as_str(), None), |(path, args)| (path, Some(args)));
    let own = path == "${uri}" || path == "${request_uri}";
    let query = match args {
        None => None,
        Some("${args}" | "${query_string}") => None,
        Some(args) => {
            let (args, append) = args.strip_suffix('?').map_or((args, true), |args| (args, false));
            let mut query = render(args, Where::Query, facts)?;
            if append && !query.is_empty() && !query.contains("{query}") {
                query.push_str("&{query}");
            }
            Some(query)
        }
    };
    let path = if own { None } else { Some(render(path, Where::Path, facts)?) };
    let path = path.map(|path| if path.starts_with(['/', '{']) { path } else { format!("/{path}") });
    let grouped = has_groups(&replacement, regex);
    if path.is_none() && query.is_none() {
        return Ok(Rewrite::default());
    }
    Ok(Rewrite { regex: grouped.then(|| regex.to_owned()), prefix: None, path, query, at: None })
}

/// Paths that a replacement may make.
fn samples(replacement: &str, regex: &str) -> Vec<String> {
    let path = replacement.split('?').next().unwrap_or(replacement);
    let grouped = has_groups(path, regex);
    let groups = groups_of(regex);
    let names = names_of(regex);
    let make = |fill: &str| {
        let mut out = String::new();
        for piece in super::variable::pieces(path) {
            match piece {
                super::variable::Piece::Text(text) => out.push_str(&text),
                super::variable::Piece::Variable(name) => {
                    let at = name.parse::<usize>().ok().and_then(|at| at.checked_sub(1));
                    let at = at.or_else(|| names.iter().position(|own| *own == name));
                    let group = at.and_then(|at| groups.get(at)).map_or("", String::as_str);
                    let start = start_of(&format!("^{group}")).map_or_else(String::new, |(start, _)| start);
                    out.push_str(&start);
                    let digits = group.contains("\\d") || (group.contains("0-9") && !group.contains("a-z"));
                    out.push_str(if digits { "1" } else { fill });
                }
            }
        }
        out
    };
    if grouped || !super::variable::is_plain(path) {
        vec![make("a"), make("a/b"), make("1.x")]
    } else {
        vec![make("")]
    }
}

/// What stands in the groups of an expression.
fn groups_of(regex: &str) -> Vec<String> {
    let mut out: Vec<(usize, String)> = Vec::new();
    let mut open: Vec<Option<usize>> = Vec::new();
    let mut skip = false;
    let chars: Vec<(usize, char)> = regex.char_indices().collect();
    for (at, c) in &chars {
        match c {
            _ if skip => skip = false,
            '\\' => skip = true,
            '(' => {
                let rest = regex.get(at + 1..).unwrap_or("");
                let named = ["?<", "?P<"]
                    .iter()
                    .find_map(|start| rest.strip_prefix(start))
                    .filter(|rest| !rest.starts_with(['=', '!']));
                let begin = match named {
                    Some(rest) => rest.find('>').map(|end| regex.len() - rest.len() + end + 1),
                    None => (!rest.starts_with('?')).then_some(at + 1),
                };
                open.push(begin.map(|begin| {
                    out.push((begin, String::new()));
                    out.len() - 1
                }));
            }
            ')' => {
                if let Some(Some(index)) = open.pop()
                    && let Some((begin, text)) = out.get_mut(index)
                {
                    *text = regex.get(*begin..*at).unwrap_or("").to_owned();
                }
            }
            _ => {}
        }
    }
    out.into_iter().map(|(_, text)| text).collect()
}

impl Kind {
    /// Whether `proxy_pass` can put something in the place of what the location is about.
    pub(super) const fn has_prefix(self) -> bool {
        matches!(self, Self::Exact | Self::Prefix | Self::Strong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements_are_targets() {
        let make = |replacement: &str, regex: &str| {
            let facts = Facts { groups: Some(names_of(regex)), ..Facts::default() };
            target(&put_in(replacement, &super::super::variable::Bound::new()), regex, &facts)
        };
        let made = make("/profile?id=$1", "^/users/(\\d+)$").expect("a target");
        assert_eq!((made.path.as_deref(), made.query.as_deref()), (Some("/profile"), Some("id={1}&{query}")));
        let made = make("/find?", "^").expect("a target");
        assert_eq!(
            (made.path.as_deref(), made.query.as_deref(), made.regex),
            (Some("/find"), Some(""), None)
        );
        assert_eq!(groups_of(r"^(/a/.*)/(?:b)(?<n>\d+(x))$"), ["/a/.*", r"\d+(x)", "x"]);
        assert_eq!(
            samples("${1}/mp3/${2}.ra", r"^(/download/.*)/media/(.*)\..*$").first().map(String::as_str),
            Some("/download/a/mp3/a.ra")
        );
    }

    #[test]
    fn what_every_path_matches_is_known() {
        let prefix = PathTest::Prefix("/api".to_owned());
        assert!(implied(Some(&prefix), "^/api/(.*)$") && implied(None, "^/(.*)$"));
        assert!(!implied(Some(&prefix), "^/api/v1/(.*)$") && !implied(None, "^/a"));
    }
}
