//! `source_address`: what traffic and probes come from.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::harness::own_ip;
use crate::harness::proxy::Setup;
use crate::harness::until;

/// A server that answers every connection once, and notes who it was by what was asked.
struct Witness {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<(String, IpAddr)>>>,
}

impl Witness {
    fn start() -> Self {
        let listener = TcpListener::bind((own_ip(), 0)).expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let seen = Arc::<Mutex<Vec<(String, IpAddr)>>>::default();
        let notes = Arc::clone(&seen);
        // Ends with the process: it waits for connections until then.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever breaks off is of no interest.
                witness(stream, &notes).ok();
            }
        });
        Self { address, seen }
    }

    /// Where those came from that asked for `what`.
    fn sources(&self, what: &str) -> Vec<IpAddr> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|(asked, _)| asked == what).map(|(_, from)| *from).collect()
    }
}

fn witness(mut stream: TcpStream, notes: &Mutex<Vec<(String, IpAddr)>>) -> io::Result<()> {
    let from = stream.peer_addr()?.ip();
    let mut head = [0; 1024];
    let length = stream.read(&mut head)?;
    let head = String::from_utf8_lossy(head.get(..length).unwrap_or_default()).into_owned();
    let asked = head.split(' ').nth(1).unwrap_or_default().to_owned();
    notes.lock().unwrap_or_else(PoisonError::into_inner).push((asked, from));
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
}

#[test]
fn traffic_and_probes_come_from_the_address_that_is_written() {
    let (witness, source) = (Witness::start(), own_ip());
    let proxy = Setup::http(&[witness.address])
        .pool(&format!("source_address = \"{source}\""))
        .text("[pool.main.health]\npath = \"/health\"\ninterval = \"50ms\"")
        .start();
    for _ in 0..3 {
        assert_eq!(proxy.get("/traffic").text(), "ok");
    }
    until("probes", || (witness.sources("/health").len() > 2).then_some(()));
    assert_eq!(witness.sources("/traffic"), [IpAddr::V4(source); 3]);
    assert!(witness.sources("/health").iter().all(|from| *from == IpAddr::V4(source)));
}

#[test]
fn an_address_that_is_none_of_ours_is_no_fault_of_the_endpoint() {
    let witness = Witness::start();
    // TEST-NET-1 (RFC 5737) is nobody's.
    let nobodys = Ipv4Addr::new(192, 0, 2, 1);
    let proxy = Setup::http(&[witness.address]).pool(&format!("source_address = \"{nobodys}\"")).start();
    for _ in 0..10 {
        assert_eq!(proxy.get("/").status(), 503);
    }
    assert_eq!(proxy.endpoint("main", &witness.address.to_string())["ejection"]["count"], 0);
}
