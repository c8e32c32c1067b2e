//! A server that plays the same script on every connection and says what it heard.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Connections whose record is kept until it is asked for.
const HEARD_MAX: usize = 64;

/// One step of a script.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Read until these bytes have come.
    Until(&'static [u8]),
    /// Read so many bytes more.
    Read(usize),
    /// Write these.
    Write(Vec<u8>),
    /// Say nothing more, but keep the connection until the peer ends it.
    Hold,
    /// End the connection with a reset.
    Reset,
}

/// What was heard on one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) bytes: Vec<u8>,
    /// The peer ended it with a reset.
    pub(crate) reset: bool,
}

pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    heard: mpsc::Receiver<Heard>,
    task: JoinHandle<()>,
}

impl Origin {
    pub(crate) async fn play(script: impl Into<Vec<Step>>) -> Self {
        let script = script.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sender, heard) = mpsc::channel(HEARD_MAX);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(sender.send(connection(stream, &script).await).await);
            }
        });
        Self { address, heard, task }
    }

    /// Waits for `request`, then answers.
    pub(crate) async fn answer(request: &'static [u8], answer: &[u8]) -> Self {
        Self::play([Step::Until(request), Step::Write(answer.to_vec())]).await
    }

    /// What was heard on the next connection that has ended.
    pub(crate) async fn heard(&mut self) -> Heard {
        self.heard.recv().await.expect("a connection")
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(mut stream: TcpStream, script: &[Step]) -> Heard {
    let mut bytes = Vec::new();
    let played = play(&mut stream, script, &mut bytes).await;
    let reset = matches!(played, Err(error) if error.kind() == io::ErrorKind::ConnectionReset);
    Heard { bytes, reset }
}

async fn play(stream: &mut TcpStream, script: &[Step], bytes: &mut Vec<u8>) -> io::Result<()> {
    for step in script {
        match step {
            Step::Until(wanted) => {
                while !bytes.windows(wanted.len()).any(|part| part == *wanted) {
                    read(stream, bytes).await?;
                }
            }
            Step::Read(count) => {
                let target = bytes.len() + count;
                while bytes.len() < target {
                    read(stream, bytes).await?;
                }
            }
            Step::Write(answer) => stream.write_all(answer).await?,
            Step::Hold => {
                stream.read_to_end(bytes).await?;
            }
            Step::Reset => {
                stream.set_zero_linger()?;
                return Ok(());
            }
        }
    }
    stream.shutdown().await?;
    stream.read_to_end(bytes).await?;
    Ok(())
}

async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    if stream.read_buf(bytes).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address")
}
