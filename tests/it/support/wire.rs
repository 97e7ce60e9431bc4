//! A wire between a node and its Postgres that can be frozen, slowed and cut: what networks do, told when.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// What is read at once.
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    Open,
    /// Nothing passes, and nobody is told: what a pulled cable or a dropping firewall looks like.
    Frozen,
    /// Everything is so much later, either way.
    Slow(Duration),
    /// Connections end, and new ones do too.
    Cut,
}

pub(crate) struct Wire {
    pub(crate) port: u16,
    mode: watch::Sender<Mode>,
}

impl Wire {
    /// Listens on a port of 127.0.0.1 for what is meant for the server with this socket.
    pub(crate) async fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, modes) = watch::channel(Mode::Open);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (socket, modes) = (socket.clone(), modes.clone());
                // That a connection ends early is what this is for; whoever used it notices.
                tokio::spawn(async move { drop(relay(client, socket, modes).await) });
            }
        });
        Self { port, mode }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn relay(mut client: TcpStream, socket: PathBuf, mut modes: watch::Receiver<Mode>) -> io::Result<()> {
    let mut server = UnixStream::connect(socket).await?;
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    tokio::select! {
        sent = pass(from_client, to_server, modes.clone()) => sent,
        answered = pass(from_server, to_client, modes.clone()) => answered,
        _ = modes.wait_for(|mode| *mode == Mode::Cut) => Ok(()),
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut modes: watch::Receiver<Mode>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = from.read(&mut chunk).await?;
        if length == 0 {
            return Ok(());
        }
        let mode = modes.wait_for(|mode| *mode != Mode::Frozen).await.map(|mode| *mode);
        match mode {
            Ok(Mode::Slow(by)) => tokio::time::sleep(by).await,
            Ok(_) => {}
            // The test is over.
            Err(_) => return Ok(()),
        }
        to.write_all(&chunk[..length]).await?;
    }
}
