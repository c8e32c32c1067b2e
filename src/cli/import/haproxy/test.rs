//! One question about a request, and the part of all requests to which several questions have been answered yes: what
//! the conditions of one route can say.

use std::collections::HashSet;
use std::hash::Hash;

use ipnet::IpNet;

use super::super::pattern::escape;
use super::super::region::{
    Door, Part, PathTest, Region, ValueTest, is_start, meet, meet_hosts, meet_networks, narrow_path,
};

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    Always,
    Never,
    /// The host is one of these, or below one that starts with `*.`.
    Hosts(Vec<String>),
    Path(PathTest),
    Methods(Vec<String>),
    Value(Part, String, ValueTest),
    Source(Vec<IpNet>),
    /// The connection has TLS here, or has not.
    Tls(bool),
    /// It came to one of these ports.
    Ports(Vec<u16>),
    /// The name that a TLS client asks for, where bytes are relayed.
    Sni(Vec<String>),
    /// That name where requests are read: TLS ends here, and the host is one of these.
    TlsHosts(Vec<String>),
    /// Fewer servers of this backend than so many are up.
    Short(String, i64),
    /// The client has said who it is: a user of this list, of this group.
    Auth(String, Option<String>),
    /// Requests of one key come faster than so many in a window, or are more than so many.
    Faster(super::limit::Asked),
}

/// What a region comes to with one more question.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Narrowed {
    To(Region),
    /// No request is left.
    Empty,
    /// The conditions of one route cannot say it.
    Impossible(&'static str),
}

use Narrowed::{Empty, Impossible, To};

impl Region {
    /// The requests of this region to which the answer is yes.
    #[must_use]
    pub(super) fn and(&self, test: &Test, doors: &[Door]) -> Narrowed {
        let mut out = self.clone();
        match test {
            Test::Always => {}
            Test::Never => return Empty,
            Test::Hosts(hosts) => match meet_hosts(self.hosts.as_deref(), hosts) {
                Some(hosts) => out.hosts = Some(hosts),
                None => return Empty,
            },
            Test::Methods(methods) => {
                match meet(self.methods.as_deref(), methods, |a, b| (a == b).then(|| a.clone())) {
                    Some(methods) => out.methods = Some(methods),
                    None => return Empty,
                }
            }
            Test::Source(networks) => match meet_networks(self.source.as_deref(), networks) {
                Some(networks) => out.source = Some(networks),
                None => return Empty,
            },
            Test::Path(path) => match narrow_path(self.path.as_ref(), path) {
                Ok(Some(path)) => out.path = Some(path),
                Ok(None) => return Empty,
                Err(why) => return Impossible(why),
            },
            Test::Value(part, name, value) => {
                return match out.narrow_value(*part, name, value) {
                    Ok(Some(out)) => To(out),
                    Ok(None) => Empty,
                    Err(why) => Impossible(why),
                };
            }
            Test::Tls(tls) => return out.through(|door| door.tls == *tls, doors),
            Test::Ports(ports) => {
                return out.through(|door| door.ports.iter().any(|port| ports.contains(port)), doors);
            }
            Test::TlsHosts(hosts) => match meet_hosts(self.hosts.as_deref(), hosts) {
                Some(hosts) => {
                    out.hosts = Some(hosts);
                    return out.through(|door| door.tls, doors);
                }
                None => return Empty,
            },
            Test::Sni(_) => {
                return Impossible(
                    "the name in a ClientHello is looked at where bytes are relayed (mode tcp)",
                );
            }
            Test::Faster(_) => {
                return Impossible(
                    "how fast requests come is asked by rules that refuse them (deny, tarpit, silent-drop)",
                );
            }
            Test::Auth(..) => {
                return Impossible(
                    "users are asked for by `http-request auth unless { http_auth(LIST) }`, as basic_auth of a route",
                );
            }
            Test::Short(..) => {
                return Impossible(
                    "a route does not count servers that are up: write `failover` in the pool",
                );
            }
        }
        To(out)
    }

    fn through(mut self, fits: impl Fn(&Door) -> bool, doors: &[Door]) -> Narrowed {
        let before: Vec<usize> = self.doors.unwrap_or_else(|| (0..doors.len()).collect());
        let after: Vec<usize> = before.into_iter().filter(|at| doors.get(*at).is_some_and(&fits)).collect();
        if after.is_empty() {
            return Empty;
        }
        self.doors = Some(after).filter(|after| after.len() < doors.len());
        To(self)
    }
}

/// Several questions, one of which must be answered yes, as few as say the same.
#[must_use]
pub(super) fn merge(tests: Vec<Test>) -> Vec<Test> {
    if tests.contains(&Test::Always) {
        return vec![Test::Always];
    }
    let mut out: Vec<Test> = Vec::new();
    let mut paths: Vec<PathTest> = Vec::new();
    for test in tests {
        match test {
            Test::Never => {}
            Test::Path(path) => paths.push(path),
            other => join(&mut out, other),
        }
    }
    out.iter_mut().for_each(each_once);
    if let Some(path) = merge_paths(&paths) {
        out.push(Test::Path(path));
    }
    if out.is_empty() { vec![Test::Never] } else { out }
}

fn each_once(test: &mut Test) {
    match test {
        Test::Hosts(list) | Test::Methods(list) | Test::Sni(list) | Test::TlsHosts(list) => once(list),
        Test::Source(list) => once(list),
        Test::Ports(list) => once(list),
        _ => {}
    }
}

/// Keeps the first of those that are alike.
fn once<T: Clone + Eq + Hash>(list: &mut Vec<T>) {
    let mut seen = HashSet::new();
    list.retain(|one| seen.insert(one.clone()));
}

/// Puts a question to those of its kind.
fn join(out: &mut Vec<Test>, mut test: Test) {
    for own in out.iter_mut() {
        match (own, &mut test) {
            (Test::Hosts(own), Test::Hosts(more))
            | (Test::Methods(own), Test::Methods(more))
            | (Test::Sni(own), Test::Sni(more))
            | (Test::TlsHosts(own), Test::TlsHosts(more)) => return own.append(more),
            (Test::Source(own), Test::Source(more)) => return own.append(more),
            (Test::Ports(own), Test::Ports(more)) => return own.append(more),
            _ => {}
        }
    }
    if !out.contains(&test) {
        out.push(test);
    }
}

/// One condition for several paths.
fn merge_paths(paths: &[PathTest]) -> Option<PathTest> {
    let exact: HashSet<&str> = paths
        .iter()
        .filter_map(|path| match path {
            PathTest::Exact(path) => Some(path.as_str()),
            _ => None,
        })
        .collect();
    let start = |path: &PathTest| match path {
        PathTest::Regex(regex) => start_with_slash(regex).filter(|start| exact.contains(start.as_str())),
        _ => None,
    };
    // `/a` and what is below `/a/` are one prefix.
    let both: HashSet<String> = paths.iter().filter_map(start).collect();
    let mut seen = HashSet::new();
    let as_prefix = |path: &PathTest| match path {
        PathTest::Exact(path) if both.contains(path) => PathTest::Prefix(path.clone()),
        other => start(other).map_or_else(|| other.clone(), PathTest::Prefix),
    };
    let paths: Vec<PathTest> = paths.iter().map(as_prefix).filter(|path| seen.insert(path.clone())).collect();
    match paths.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => {
            let all: Vec<String> = many.iter().map(PathTest::regex).collect();
            Some(PathTest::Regex(all.join("|")))
        }
    }
}

/// The text of `^/text/`, without its slash.
fn start_with_slash(regex: &str) -> Option<String> {
    let text = regex.strip_prefix('^')?.strip_suffix('/')?;
    let plain: String = text.replace('\\', "");
    (is_start(regex) && !text.contains("\\\\") && escape(&plain) == text).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> Test {
        Test::Hosts(names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn a_region_narrows_to_what_both_take() {
        let region = Region::default();
        let To(region) = region.and(&hosts(&["a.test", "*.b.test"]), &[]) else { panic!("it narrows") };
        let To(narrow) = region.and(&hosts(&["x.b.test", "c.test"]), &[]) else { panic!("it narrows") };
        assert_eq!(narrow.hosts, Some(vec!["x.b.test".to_owned()]));
        assert_eq!(region.and(&hosts(&["b.test"]), &[]), Empty);
    }

    #[test]
    fn a_path_and_what_is_below_it_are_one_prefix() {
        let tests = vec![
            Test::Path(PathTest::Exact("/api".to_owned())),
            Test::Path(PathTest::Regex("^/api/".to_owned())),
            hosts(&["a.test"]),
            hosts(&["b.test", "a.test"]),
        ];
        let want = vec![hosts(&["a.test", "b.test"]), Test::Path(PathTest::Prefix("/api".to_owned()))];
        assert_eq!(merge(tests), want);
        assert_eq!(merge(vec![Test::Never]), [Test::Never]);
    }
}
