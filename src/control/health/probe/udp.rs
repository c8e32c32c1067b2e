//! A datagram to the endpoint, and what comes back: an answer, a refusal, or nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

use super::expect::Expect;
use super::outcome::Reading;
use super::wire::Notes;
use super::{Asked, timeout};

/// Bytes of an answer: no datagram is longer.
const ANSWER_MAX: usize = 65_535;

/// How much of the probe's time silence may last until it is a yes: less than all of it, which would be no answer.
const PATIENCE: f64 = 0.8;

pub(super) async fn ask(
    send: &[u8],
    expect: Option<&Expect>,
    address: SocketAddr,
    limit: Duration,
    notes: &Notes,
) -> Asked<Reading> {
    let fault = |doing: &'static str| move |error: io::Error| Reading::fault(doing, &error);
    let socket = connect(address, notes.source).await.map_err(fault("while connecting"))?;
    socket.send(send).await.map_err(fault("while sending"))?;
    let mut answer = vec![0; ANSWER_MAX];
    let Some(expect) = expect else {
        return match timeout(limit.mul_f64(PATIENCE), socket.recv(&mut answer)).await {
            Ok(Ok(length)) => {
                notes.arrived(answer.get(..length).unwrap_or_default());
                Ok(Reading::good("it answers"))
            }
            Ok(Err(error)) => Err(Reading::fault("while waiting for an answer", &error)),
            Err(_) => Ok(Reading::good("no answer, and no refusal")),
        };
    };
    // The whole of the probe's time.
    let length = socket.recv(&mut answer).await.map_err(fault("while waiting for an answer"))?;
    let bytes = answer.get(..length).unwrap_or_default();
    notes.arrived(bytes);
    let found = expect.is_in(bytes);
    Ok(if found {
        Reading::good("the answer is as expected")
    } else {
        Reading::no("the answer has not what is expected")
    })
}

async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<UdpSocket> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((source.unwrap_or(any), 0)).await?;
    socket.connect(address).await?;
    Ok(socket)
}
