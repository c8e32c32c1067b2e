//! The PROXY header at the front of a connection, as an endpoint reads it.

use std::io;

use plimsoll::proxy::proxy_protocol::read::{Progress, read};
use plimsoll::proxy::proxy_protocol::{Header, Transport};

use super::origin::Session;

/// Takes the header off.
pub(crate) fn header(session: &mut Session) -> io::Result<Header> {
    loop {
        match read(&session.wire.received, 4096, Transport::Stream).map_err(io::Error::other)? {
            Progress::Whole { header, bytes } => {
                session.wire.take(bytes)?;
                return Ok(header);
            }
            Progress::Partial if session.wire.fill()? == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Progress::Partial => {}
        }
    }
}
