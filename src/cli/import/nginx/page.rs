//! `error_page` and `proxy_intercept_errors`.

use super::super::document::Value;
use super::draft::Draft;
use super::tree::Directive;
use super::variable::is_plain;
use super::walk::{Walker, Way};

/// What an `error_page` leads to.
enum Page {
    /// A file.
    File(String),
    /// Nothing that can be said: why.
    None(String),
}

impl<'t> Walker<'_, 't, '_> {
    /// Writes the pages of a route.
    pub(super) fn pages(&mut self, way: &Way<'t>, draft: &mut Draft, forwards: bool) {
        let mut pairs: Vec<(String, Value)> = Vec::new();
        let lines = way.scope.all("error_page");
        let at = lines.first().map(|of| of.at);
        self.lost_pages(way, &lines);
        for of in &lines {
            let Some((target, statuses)) = of.words.split_last() else { continue };
            let other = statuses.iter().find(|word| word.starts_with('='));
            let statuses: Vec<&String> = statuses.iter().filter(|word| !word.starts_with('=')).collect();
            if statuses.is_empty()
                || !statuses
                    .iter()
                    .all(|word| word.parse::<u16>().is_ok_and(|code| (300..=599).contains(&code)))
            {
                self.notes.wrong(of, "it names statuses from 300 to 599 and a page: nginx rejects it");
                continue;
            }
            let page = match other {
                Some(status) => {
                    let status = status.trim_start_matches('=');
                    let what = if status.is_empty() {
                        "the status of what answers in its place".to_owned()
                    } else {
                        format!("the status {status}")
                    };
                    Page::None(format!("a page has the status of the error, and not {what}"))
                }
                None => self.page(target),
            };
            match page {
                Page::File(file) => {
                    for status in statuses.iter().filter(|status| status.starts_with(['4', '5'])) {
                        if !pairs.iter().any(|(own, _)| own == *status) {
                            pairs.push((
                                (*status).clone(),
                                Value::inline([("file", Value::text(file.clone()))]),
                            ));
                        }
                    }
                    self.notes.ok(of);
                }
                Page::None(why) => {
                    let failover = target.starts_with('@')
                        && statuses.iter().any(|status| ["502", "503", "504"].contains(&status.as_str()));
                    let more = if failover {
                        "; where nothing of a pool can be used, its `failover` names another pool"
                    } else {
                        ""
                    };
                    self.notes.cannot(
                        of,
                        format!("{why}: write the page into a file, and name it in error_pages{more}"),
                    );
                }
            }
        }
        let intercept = way.scope.find("proxy_intercept_errors");
        if let Some(of) = intercept {
            self.notes.ok(of);
        }
        if pairs.is_empty() {
            return;
        }
        draft.keys.push(("error_pages".to_owned(), Value::Inline(pairs), at));
        if let Some(of) = intercept.filter(|of| forwards && of.word(0) == "on") {
            draft.keys.push(("intercept_errors".to_owned(), Value::Bool(true), Some(of.at)));
        }
    }

    /// An error of the proxy's own whose page another location returns: that answers in its place.
    pub(super) fn paged(&mut self, of: &'t Directive, code: u16, way: &Way<'t>) -> bool {
        let lines = way.scope.all("error_page");
        let name = code.to_string();
        let Some(line) = lines.into_iter().find(|line| line.words.contains(&name)) else { return false };
        let target = line.words.last().map_or("", String::as_str);
        let path = target.split('?').next().unwrap_or(target);
        let found = match target.get(..1) {
            Some("@") => self.site.locations.named(target),
            Some("/") if is_plain(target) => self.site.locations.find(path),
            _ => None,
        };
        let location = found.and_then(|at| self.site.locations.all.get(at)).filter(|location| !location.shut);
        let Some(returned) = location.and_then(|location| location.level.first("return")) else {
            return false;
        };
        let other = line.words.iter().find_map(|word| word.strip_prefix('='));
        let status = match other {
            None => Some(code),
            Some("") => returned.word(0).parse().ok(),
            Some(other) => other.parse().ok(),
        };
        let (Some(at), Some(status), true, None) = (found, status, returned.words.len() == 2, way.status)
        else {
            return false;
        };
        self.notes.ok(of);
        self.notes.ok(line);
        self.enter(at, Way { hops: way.hops + 1, status: Some(status), ..way.clone() });
        true
    }

    /// Pages that are said further out and do not hold: of them a level has its own alone.
    fn lost_pages(&mut self, way: &Way<'t>, lines: &[&'t Directive]) {
        let Some(first) = lines.first() else { return };
        let further = way.scope.inner().filter(|level| !level.all("error_page").is_empty()).skip(1);
        let lost = further.flat_map(|level| level.all("error_page")).any(|outer| {
            let own = |status: &String| lines.iter().any(|of| of.words.contains(status));
            outer.words.iter().any(|word| word.parse::<u16>().is_ok() && !own(word))
        });
        if lost {
            self.notes.wrong(
                first,
                "lines of error_page further out do not hold beside one here: their pages are not shown",
            );
        }
    }

    /// The file that a page is.
    fn page(&mut self, target: &str) -> Page {
        if !target.starts_with('/') || !is_plain(target) {
            let what = if target.starts_with('@') {
                "another location does not answer in the place of an error"
            } else {
                "a page in the place of an error is a file"
            };
            return Page::None(what.to_owned());
        }
        let path = target.split('?').next().unwrap_or(target);
        let found = self.site.locations.find(path).and_then(|at| self.site.locations.all.get(at));
        let scope = found.map_or_else(|| self.site.scope.clone(), |location| location.scope.clone());
        let handler = found.and_then(|location| {
            ["return", "proxy_pass", "try_files", "fastcgi_pass", "rewrite"]
                .iter()
                .find_map(|name| location.level.first(name))
        });
        if let Some(handler) = handler {
            return Page::None(format!(
                "a page in the place of an error is a file, and {path} is answered by {}",
                handler.name
            ));
        }
        let own = |of: &'t Directive| is_plain(of.word(0)) && !of.word(0).is_empty();
        let alias = found.and_then(|location| {
            Some((location.level.first("alias").filter(|of| own(of))?, location.path.clone()))
        });
        if let Some((alias, prefix)) = alias {
            self.notes.ok(alias);
            let rest = path.strip_prefix(prefix.as_str()).unwrap_or("");
            return Page::File(format!("{}{rest}", alias.word(0)));
        }
        match scope.find("root").filter(|of| own(of)) {
            Some(root) => {
                self.notes.ok(root);
                if let Some(location) =
                    found.filter(|location| location.level.first("root").is_some_and(|own| own.id == root.id))
                {
                    self.notes.ok(location.of);
                }
                Page::File(format!("{}{path}", root.word(0).trim_end_matches('/')))
            }
            None => Page::File(format!("html{path}")),
        }
    }
}
