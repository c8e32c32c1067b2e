//! What every behaviour test stands on: the real binary, scripted origins, a raw client, and waiting with a deadline.

pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod datagrams;
pub(crate) mod embedded;
pub(crate) mod frames;
pub(crate) mod http2;
pub(crate) mod member;
pub(crate) mod moody;
pub(crate) mod names;
pub(crate) mod origin;
pub(crate) mod presented;
pub(crate) mod proxy;
pub(crate) mod sealed;
pub(crate) mod secure;
pub(crate) mod tls;
pub(crate) mod wire;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clock::{Moment, pause};

/// Nothing that a test waits for may take longer; generous, for a machine that does other work beside.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A loopback address that no other test of this run uses, so that ports cannot clash.
pub(crate) fn own_ip() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = number.to_be_bytes();
    let run = u8::try_from(std::process::id() % 200).expect("below 200");
    Ipv4Addr::new(127, 20 + run, high, low.wrapping_add(1).max(1))
}

/// A port of `ip` that is free now; nobody else uses that address, so it stays free.
pub(crate) fn free_port(ip: Ipv4Addr) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).expect("a loopback port");
    listener.local_addr().expect("its address")
}

/// Two ports on which nothing listens just now, never the same one.
pub(crate) fn free_ports(ip: Ipv4Addr) -> (SocketAddr, SocketAddr) {
    let both = [(); 2].map(|()| TcpListener::bind((ip, 0)).expect("a loopback port"));
    let [first, second] = both.map(|listener| listener.local_addr().expect("its address"));
    (first, second)
}

/// Asks again and again until the answer is there; panics after [`DEADLINE`].
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Moment::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain for {what}");
        pause(Duration::from_millis(5));
    }
}
