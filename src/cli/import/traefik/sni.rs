//! Rules of routers of TCP, as far as a listener asks: the name that a TLS client asks for, and where it comes from.

use ipnet::IpNet;

use super::gorilla;
use super::matcher::network;
use super::regexp::{self, Fault};
use super::rule::Rule;

/// One alternative of a rule.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Asked {
    /// Names that TLS clients ask for; without them all.
    pub(super) names: Option<Vec<String>>,
    pub(super) source: Option<Vec<IpNet>>,
    /// What a listener does not ask.
    pub(super) unsaid: Option<String>,
}

/// A rule's alternatives. What no listener can ask is kept as a reason.
pub(super) fn alternatives(rule: &Rule, old: bool, remarks: &mut Vec<String>) -> Result<Vec<Asked>, String> {
    Ok(match rule {
        Rule::Any(rules) => {
            let mut out: Vec<Asked> = Vec::new();
            for rule in rules {
                for asked in alternatives(rule, old, remarks)? {
                    // Names of one route are a list.
                    match out.iter_mut().find(|other| {
                        other.source == asked.source && other.unsaid.is_none() && asked.unsaid.is_none()
                    }) {
                        Some(other) => match (&mut other.names, asked.names) {
                            (Some(own), Some(more)) => own.extend(more),
                            (own, _) => *own = None,
                        },
                        None => out.push(asked),
                    }
                }
            }
            out
        }
        Rule::All(rules) => {
            let mut out = Asked::default();
            for rule in rules {
                let mut of = alternatives(rule, old, remarks)?;
                if of.len() != 1 {
                    out.unsaid = Some("alternatives inside of a conjunction are not asked here".to_owned());
                    continue;
                }
                let asked = of.swap_remove(0);
                out = Asked {
                    names: match (out.names, asked.names) {
                        (Some(a), Some(b)) => Some(a.into_iter().filter(|name| b.contains(name)).collect()),
                        (a, b) => a.or(b),
                    },
                    source: out.source.or(asked.source),
                    unsaid: out.unsaid.or(asked.unsaid),
                };
            }
            vec![out]
        }
        Rule::Not(rule) => {
            alternatives(rule, old, remarks)?;
            vec![Asked {
                unsaid: Some("a listener does not ask what a connection is not".to_owned()),
                ..Asked::default()
            }]
        }
        Rule::Call(name, values) => vec![call(name, values, old, remarks)?],
    })
}

fn call(name: &str, values: &[String], old: bool, remarks: &mut Vec<String>) -> Result<Asked, String> {
    if values.is_empty() || values.iter().any(String::is_empty) || !old && values.len() != 1 {
        return Err(format!("`{name}` takes one value"));
    }
    match name.to_ascii_lowercase().as_str() {
        "hostsni" => {
            if values.iter().any(|value| value == "*") {
                return Ok(Asked::default());
            }
            let names: Vec<String> =
                values.iter().map(|name| name.trim_end_matches('.').to_lowercase()).collect();
            let is_name =
                |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._*:".contains(&b));
            if let Some(name) = names.iter().find(|name| !is_name(name)) {
                return Err(format!("`{name}` is no name of a host"));
            }
            if names.iter().any(|name| name.starts_with("*.")) {
                remarks.push("a star takes names of several labels in its place as well".to_owned());
            }
            Ok(Asked { names: Some(names), ..Asked::default() })
        }
        "hostsniregexp" => {
            let mut names = Vec::new();
            for value in values {
                let regex = if old { gorilla::regex(value, gorilla::Kind::Host)? } else { value.clone() };
                let regex = match regexp::read(&regex) {
                    Ok(regex) => regex,
                    Err(Fault::Wrong(why)) => return Err(why),
                    Err(Fault::Unsaid(why)) => {
                        return Ok(Asked { unsaid: Some(why), names: Some(Vec::new()), ..Asked::default() });
                    }
                };
                let Some(suffix) = super::matcher::suffix(&regex) else {
                    let unsaid =
                        Some("names are written out, or end like one with a star in front".to_owned());
                    return Ok(Asked { unsaid, names: Some(Vec::new()), ..Asked::default() });
                };
                remarks.push(format!("every name that ends like {suffix} is taken"));
                names.push(suffix);
            }
            Ok(Asked { names: Some(names), ..Asked::default() })
        }
        "clientip" => {
            let networks =
                values.iter().map(|text| network(text).ok_or_else(|| format!("`{text}` is no network")));
            Ok(Asked { source: Some(networks.collect::<Result<_, _>>()?), ..Asked::default() })
        }
        "alpn" => {
            let unsaid = Some("which protocols a client offers is not asked".to_owned());
            Ok(Asked { unsaid, ..Asked::default() })
        }
        _ => Err(format!("there is no matcher `{name}` of TCP")),
    }
}
