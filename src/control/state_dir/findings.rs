//! What names have led to and what files of endpoints have listed, as one value: it is kept in a state directory and handed
//! to a process that takes over, so that a resolver that is silent or a file that is gone does not empty a pool at a start.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::control::names::{ADDRESSES_MAX, Found, Query, Source};
use crate::model::address::DnsName;

/// The version of the text; a reader of another one leaves it alone.
const VERSION: u32 = 1;

/// What was found out about who is in the pools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The last good answer of every name, and when it was given.
    pub names: BTreeMap<Query, (Answered, SystemTime)>,
    /// What every file of endpoints listed, as a JSON list that it could hold itself, and when it was read.
    pub files: BTreeMap<PathBuf, (Value, SystemTime)>,
}

/// The addresses of an answer, with what each came from.
pub type Answered = Arc<[(Found, Source)]>;

#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    names: Vec<OneName>,
    files: Vec<OneFile>,
}

#[derive(Serialize, Deserialize)]
struct OneName {
    /// As it is written in a configuration: `srv:` stands before a service.
    name: String,
    /// Milliseconds since 1970.
    answered: u64,
    addresses: Vec<OneAddress>,
}

#[derive(Serialize, Deserialize)]
struct OneAddress {
    ip: IpAddr,
    /// The host whose record it is.
    host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default)]
    priority: u16,
    #[serde(default)]
    weight: u16,
}

#[derive(Serialize, Deserialize)]
struct OneFile {
    path: PathBuf,
    /// Milliseconds since 1970.
    read: u64,
    endpoints: Value,
}

impl Findings {
    /// As versioned JSON.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let address = |(found, source): &(Found, Source)| OneAddress {
            ip: found.ip,
            host: source.host.to_string(),
            port: found.port,
            priority: found.priority,
            weight: found.weight,
        };
        let names = self.names.iter().map(|(query, (found, answered))| OneName {
            name: query.to_string(),
            answered: millis(*answered),
            addresses: found.iter().map(address).collect(),
        });
        let files = self.files.iter().map(|(path, (endpoints, read))| OneFile {
            path: path.clone(),
            read: millis(*read),
            endpoints: endpoints.clone(),
        });
        let text = Text { version: VERSION, names: names.collect(), files: files.collect() };
        // Lists, text and numbers: nothing of these cannot be written.
        serde_json::to_vec_pretty(&text).unwrap_or_default()
    }

    /// From that text.
    ///
    /// # Errors
    /// What cannot be understood of it, in words.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let Text { version, names, files } =
            serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if version != VERSION {
            return Err(format!("its version is {version}, and this program reads {VERSION}"));
        }
        let mut findings = Self::default();
        for one in names {
            let query = query(&one.name).ok_or_else(|| format!("{:?} is no name", one.name))?;
            let known = one.addresses.iter().take(ADDRESSES_MAX).map(OneAddress::found);
            findings.names.insert(query, (known.collect(), time(one.answered)));
        }
        findings.files = files.into_iter().map(|one| (one.path, (one.endpoints, time(one.read)))).collect();
        Ok(findings)
    }
}

impl OneAddress {
    fn found(&self) -> (Found, Source) {
        let &Self { ip, ref host, port, priority, weight } = self;
        (Found { priority, ip, port, weight }, Source { host: host.as_str().into(), v6: ip.is_ipv6() })
    }
}

fn query(written: &str) -> Option<Query> {
    match written.strip_prefix("srv:") {
        Some(service) => DnsName::new(service).map(Query::Service),
        None => DnsName::new(written).map(Query::Host),
    }
}

fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_out_is_read_as_it_was_written() -> Result<(), String> {
        let name = |text: &str| DnsName::new(text).ok_or_else(|| text.to_owned());
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_234_567);
        let source = |v6| Source { host: "a.internal".into(), v6 };
        let plain = Found { priority: 0, ip: IpAddr::from([10, 0, 0, 1]), port: None, weight: 0 };
        let record = Found { priority: 10, ip: IpAddr::from([0; 16]), port: Some(80), weight: 7 };
        let mut findings = Findings::default();
        findings.names.insert(Query::Host(name("a.internal")?), ([(plain, source(false))].into(), at));
        findings
            .names
            .insert(Query::Service(name("_http._tcp.a.internal")?), ([(record, source(true))].into(), at));
        findings.files.insert("api.endpoints".into(), (serde_json::json!(["10.0.0.1:80"]), at));
        assert_eq!(Findings::read(&findings.text())?, findings);
        for damaged in ["", "{}", "{\"version\":2,\"names\":[],\"files\":[]}", "[1"] {
            assert!(Findings::read(damaged.as_bytes()).is_err(), "{damaged}");
        }
        Ok(())
    }
}
