//! Names that a rule puts together for each request, by a map or of a sample: a rule for each name that can come out.

use std::path::Path;

use super::super::surroundings::Surroundings;
use super::acl::{self, top_level};
use super::clause::Term;
use super::said::{Said, approximated, not_possible, translated, wrong};
use super::template::sample_of;

/// Maps with more entries are for an endpoint to look into.
const ENTRIES_MAX: usize = 5_000;

/// Rules without anything put in, each with the condition under which it is that one, and what is to be said of all. A
/// backend that is named may not be there.
pub(super) type Expanded = (Vec<(Vec<String>, Term)>, Said);

/// What a rule comes to whose words have something put in by a map, or that chooses a backend by a sample; nothing
/// where it is neither.
pub(super) fn expand(
    words: &[String],
    backends: &[&str],
    around: Surroundings<'_>,
) -> Option<Result<Expanded, Said>> {
    let switch = words.first().is_some_and(|word| word == "use_backend");
    let (at, word) = words.iter().enumerate().find(|(_, word)| {
        word.contains("%[") && (switch || word.contains(",map(") || word.contains(",map_"))
    })?;
    let (before, behind) = word.split_once('%')?;
    let (sample, after) = match sample_of(behind) {
        Ok(found) => found,
        Err(why) => return Some(Err(not_possible(why))),
    };
    if after.contains('%') {
        return Some(Err(not_possible(
            "one sample is put into a name: write a line for each that can come out",
        )));
    }
    let parts = top_level(&sample);
    let made = match parts.iter().position(|part| part.trim().starts_with("map")) {
        Some(map) => by_map(&parts, map, around),
        None => by_name(&sample, backends, before, after),
    };
    let of_value = |(value, term): (String, Term)| {
        let mut words = words.to_vec();
        if let Some(word) = words.get_mut(at) {
            *word = format!("{before}{value}{after}");
        }
        (words, term)
    };
    Some(made.map(|(values, said)| {
        let rules: Vec<(Vec<String>, Term)> = values.into_iter().map(of_value).collect();
        let named = |words: &[String]| words.get(1).cloned().unwrap_or_default();
        let lost =
            rules.iter().map(|(words, _)| named(words)).find(|name| !backends.contains(&name.as_str()));
        let said = match lost {
            Some(name) if switch => wrong(format!(
                "there is no backend {name}: HAProxy sends these requests where it sends the rest"
            )),
            _ => said,
        };
        (rules, said)
    }))
}

/// Every name that is one of a backend.
fn by_name(
    sample: &str,
    backends: &[&str],
    before: &str,
    after: &str,
) -> Result<(Vec<(String, Term)>, Said), Said> {
    if let Some(text) = constant(sample) {
        return Ok((vec![(text.to_owned(), Term::default())], translated()));
    }
    let mut out = Vec::new();
    let names = backends.iter().filter_map(|name| name.strip_prefix(before)?.strip_suffix(after));
    for name in names.filter(|name| !name.is_empty()) {
        for term in terms(sample, "str", name)? {
            out.push((name.to_owned(), term));
        }
    }
    if out.is_empty() {
        return Ok((
            out,
            wrong("no backend has such a name: HAProxy sends these requests where it sends the rest"),
        ));
    }
    Ok((out, approximated("there is a route for each backend that it can name: a new one needs a route")))
}

fn constant(sample: &str) -> Option<&str> {
    let inside = sample.strip_prefix("str(")?.strip_suffix(')')?;
    (!inside.contains(['(', ')', ','])).then_some(inside)
}

fn terms(sample: &str, method: &str, key: &str) -> Result<Vec<Term>, Said> {
    let nothing = Surroundings { environment: &|_| None, read: &|_| None, list: &|_| None };
    let read = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        acl::read(&words, nothing).map(|acl| acl.any)
    };
    if let Some(converters) =
        sample.strip_prefix("base").filter(|rest| rest.is_empty() || rest.starts_with(','))
    {
        let (host, path) = key.find('/').map_or((key, "/"), |at| key.split_at(at));
        let flag = if converters.is_empty() { "-m" } else { "-i" };
        let hosts = read(&["hdr(host)", "-i", "--", host])?;
        let paths = match flag {
            "-m" => read(&["path", "-m", method, "--", path])?,
            _ => read(&["path", "-i", "-m", method, "--", path])?,
        };
        let both = |host: &super::test::Test| {
            let host = host.clone();
            paths.iter().map(move |path| Term { all: vec![host.clone(), path.clone()], none: Vec::new() })
        };
        return Ok(hosts.iter().flat_map(both).collect());
    }
    let tests = match method {
        "ip" => read(&[sample, "--", key])?,
        _ => read(&[sample, "-m", method, "--", key])?,
    };
    Ok(tests.into_iter().map(|test| Term { all: vec![test], none: Vec::new() }).collect())
}

/// A map as a converter names it: how keys are compared, its file, and what comes out of no key.
#[derive(Debug)]
pub(super) struct Map<'a> {
    /// The match method.
    pub(super) method: &'static str,
    file: &'a str,
    default: Option<&'a str>,
}

impl<'a> Map<'a> {
    /// Reads `map_beg(FILE,DEFAULT)`.
    ///
    /// # Errors
    /// What is to be said of one that is not known.
    pub(super) fn read(converter: &'a str) -> Result<Self, Said> {
        let (name, inside) = converter.split_once('(').ok_or_else(|| wrong("the map has no file"))?;
        let inside = inside.strip_suffix(')').unwrap_or(inside);
        let (file, default) = match inside.split_once(',') {
            Some((file, default)) => (file.trim(), Some(default.trim())),
            None => (inside.trim(), None),
        };
        let method = match name.trim_start_matches("map").trim_start_matches('_').split('_').next() {
            Some("" | "str" | "int") => "str",
            Some("beg") => "beg",
            Some("end") => "end",
            Some("sub") => "sub",
            Some("dir") => "dir",
            Some("dom") => "dom",
            Some("reg") => "reg",
            Some("ip") => "ip",
            _ => return Err(not_possible("such a map is not read: write a line for each of its keys")),
        };
        Ok(Self { method, file, default })
    }

    /// Its keys and values, those first that HAProxy takes first.
    ///
    /// # Errors
    /// What is to be said where the file is not at hand.
    pub(super) fn entries(&self, around: Surroundings<'_>) -> Result<Vec<(String, String)>, Said> {
        let Some(text) = (around.read)(Path::new(self.file)) else {
            return Err(not_possible(format!(
                "the map {} is not here: import where it is, or write a line for each of its keys",
                self.file
            )));
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut entries: Vec<(String, String)> = lines
            .filter_map(|line| {
                let (key, value) = line.split_once(char::is_whitespace)?;
                Some((key.to_owned(), value.trim().to_owned()))
            })
            .collect();
        if entries.len() > ENTRIES_MAX {
            return Err(not_possible(format!(
                "a map of more than {ENTRIES_MAX} entries is for an endpoint to look into"
            )));
        }
        // The longest key is taken, whatever the order of lines.
        let length = |key: &str| match self.method {
            "beg" => key.len(),
            "ip" => key.split_once('/').and_then(|(_, bits)| bits.parse().ok()).unwrap_or(usize::MAX),
            _ => 0,
        };
        entries.sort_by_key(|(key, _)| std::cmp::Reverse(length(key)));
        Ok(entries)
    }
}

fn by_map(parts: &[&str], at: usize, around: Surroundings<'_>) -> Result<(Vec<(String, Term)>, Said), Said> {
    let (Some(converter), Some(sample)) = (parts.get(at), parts.get(..at)) else {
        return Err(wrong("the map has no key"));
    };
    if parts.len() > at + 1 {
        return Err(not_possible(
            "what comes out of a map is taken as it is: write the converted names into it",
        ));
    }
    let sample: Vec<&str> = sample.iter().map(|part| part.trim()).collect();
    let sample = sample.join(",");
    let map = Map::read(converter.trim())?;
    let entries = map.entries(around)?;
    let now = approximated(
        "the routes are those of the map as it is now: a change of it is a change of the configuration",
    );
    if let Some(key) = constant(&sample) {
        let value =
            entries.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str()).or(map.default);
        return Ok((value.map(|value| (value.to_owned(), Term::default())).into_iter().collect(), now));
    }
    let mut out = Vec::new();
    for (key, value) in entries {
        out.extend(terms(&sample, map.method, &key)?.into_iter().map(|term| (value.clone(), term)));
    }
    out.extend(map.default.map(|default| (default.to_owned(), Term::default())));
    Ok((out, now))
}

#[cfg(test)]
mod tests {
    use super::super::test::Test;
    use super::*;

    fn of(text: &str, backends: &[&str]) -> Option<Result<Expanded, Said>> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let read = |path: &Path| {
            (path == Path::new("hosts.map")).then(|| "a.test one\n# no\nb.test two\n".to_owned())
        };
        expand(&words, backends, Surroundings { environment: &|_| None, read: &read, list: &|_| None })
    }

    #[test]
    fn a_map_is_a_rule_for_each_of_its_keys() {
        let (rules, _) =
            of("use_backend %[req.hdr(host),lower,map(hosts.map,rest)]", &["one", "two", "rest"])
                .expect("a map")
                .expect("it can be read");
        let names: Vec<&str> = rules.iter().map(|(words, _)| words[1].as_str()).collect();
        assert_eq!(names, ["one", "two", "rest"]);
        assert_eq!(rules[0].1.all, [Test::Hosts(vec!["a.test".to_owned()])]);
        assert_eq!(rules[2].1, Term::default());
    }

    #[test]
    fn a_sample_names_the_backends_that_are_there() {
        let (rules, _) = of("use_backend app_%[req.hdr(x-colour)]", &["app_blue", "other"])
            .expect("a sample")
            .expect("it can be read");
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0].0[1], "app_blue");
        assert!(of("use_backend one", &["one"]).is_none());
        assert!(matches!(of("use_backend %[path,map(none.map)]", &["one"]), Some(Err(_))));
    }
}
