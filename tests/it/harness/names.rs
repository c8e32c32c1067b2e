//! A DNS server of a test's own, over UDP: it answers what it is told to, and can fail in every way that a server does.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::own_ip;

/// Types of records (RFC 1035 section 3.2.2, RFC 2782).
const A: u16 = 1;
const SRV: u16 = 33;

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// These addresses.
    Addresses(Vec<Ipv4Addr>),
    /// These targets of a service: priority, weight, port, name.
    Targets(Vec<(u16, u16, u16, String)>),
    /// An error.
    Code(u8),
    /// Nothing at all.
    Silence,
}

/// SERVFAIL.
pub(crate) const SERVFAIL: Answer = Answer::Code(2);
/// NXDOMAIN.
pub(crate) const NXDOMAIN: Answer = Answer::Code(3);

#[derive(Debug, Default)]
struct Zone {
    answers: HashMap<String, Answer>,
    asked: HashMap<String, usize>,
}

/// The server. What it has no answer for does not exist; every record is good for a second.
#[derive(Debug)]
pub(crate) struct NameServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl NameServer {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind((own_ip(), 0)).expect("a loopback port");
        let address = socket.local_addr().expect("its address");
        let zone = Arc::<Mutex<Zone>>::default();
        let answering = Arc::clone(&zone);
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                if let Some(answer) = reply(&buffer[..length], &answering) {
                    socket.send_to(&answer, peer).expect("loopback takes an answer");
                }
            }
        });
        Self { address, zone }
    }

    /// Says so from now on.
    pub(crate) fn says(&self, name: &str, answer: Answer) {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner).answers.insert(name.to_owned(), answer);
    }

    /// The same for addresses.
    pub(crate) fn leads(&self, name: &str, to: &[Ipv4Addr]) {
        self.says(name, Answer::Addresses(to.to_vec()));
    }

    /// How often a name was asked for, by any type.
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner).asked.get(name).copied().unwrap_or(0)
    }

    /// The line of `[process]` that has it asked.
    pub(crate) fn line(&self) -> String {
        format!("resolvers = [\"{}\"]", self.address)
    }
}

fn encode(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("a label"));
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}

/// The answer to a message with one question (RFC 1035 section 4.1).
fn reply(query: &[u8], zone: &Mutex<Zone>) -> Option<Vec<u8>> {
    let mut labels: Vec<String> = Vec::new();
    let mut at = 12;
    while let Some(&length) = query.get(at).filter(|length| **length > 0) {
        let end = at + 1 + usize::from(length);
        labels.push(String::from_utf8_lossy(query.get(at + 1..end)?).to_lowercase());
        at = end;
    }
    let name = labels.join(".");
    let question = query.get(12..at + 5)?;
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    let mut zone = zone.lock().unwrap_or_else(PoisonError::into_inner);
    *zone.asked.entry(name.clone()).or_default() += 1;
    let (code, records): (u8, Vec<Vec<u8>>) = match zone.answers.get(&name).unwrap_or(&NXDOMAIN) {
        Answer::Silence => return None,
        Answer::Code(code) => (*code, Vec::new()),
        Answer::Addresses(all) if kind == A => (0, all.iter().map(|ip| ip.octets().to_vec()).collect()),
        Answer::Targets(all) if kind == SRV => {
            let record = |(priority, weight, port, target): &(u16, u16, u16, String)| {
                let numbers = [*priority, *weight, *port].map(u16::to_be_bytes).concat();
                [numbers, encode(target)].concat()
            };
            (0, all.iter().map(record).collect())
        }
        Answer::Addresses(_) | Answer::Targets(_) => (0, Vec::new()),
    };
    let count = u16::try_from(records.len()).expect("few records").to_be_bytes();
    let mut message = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, count[0], count[1], 0, 0, 0, 0];
    message.extend_from_slice(question);
    for record in records {
        message.extend_from_slice(&[0xc0, 12]);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0, 1, 0, 0, 0, 1]);
        message.extend_from_slice(&u16::try_from(record.len()).expect("a short record").to_be_bytes());
        message.extend_from_slice(&record);
    }
    Some(message)
}
