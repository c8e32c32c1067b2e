//! The origin of datagrams: one socket that sends each back to where it came from.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

/// Starts the origin in a thread that lives as long as the process, and says where it listens.
pub(super) fn start() -> std::io::Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    std::thread::Builder::new().name("origin-udp".to_owned()).spawn(move || serve(&socket))?;
    Ok(address)
}

fn serve(socket: &UdpSocket) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        // An error is about one datagram: that a proxy of an earlier line has gone, for one.
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            drop(socket.send_to(&buffer[..length], from));
        }
    }
}
