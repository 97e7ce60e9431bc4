//! A wire that tells the connections of a node apart: that of its writer, which follows the log, and that over which it
//! holds its lease. Each is frozen by itself; the answer of the statement that puts a node on the list can be lost; and a node can
//! be kept from hearing what is notified.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// What each says first of all, to be heard by its node; nothing else of a node's says it, as long as nobody waits there.
const OF_THE_WRITER: &[u8] = b"listen portcullis_log";
const OF_THE_LEASE: &[u8] = b"listen portcullis_wait";
/// Of the same length, and nobody notifies there.
const OF_NOBODY: &[u8] = b"listen portcullis_nil";
const ENLIST: &[u8] = b"insert into log.node";

const CHUNK_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Link {
    Writer,
    Lease,
}

pub(crate) struct Links {
    pub(crate) port: u16,
    writer: watch::Sender<bool>,
    lease: watch::Sender<bool>,
    /// Whether the next answer to [`ENLIST`] gets lost with its connection.
    armed: Arc<AtomicBool>,
    /// Whether writers are to listen where nobody speaks, and how many do.
    deafens: Arc<AtomicBool>,
    deaf: Arc<AtomicUsize>,
}

/// What one connection goes by.
#[derive(Clone)]
struct Rules {
    writer: watch::Receiver<bool>,
    lease: watch::Receiver<bool>,
    armed: Arc<AtomicBool>,
    deafens: Arc<AtomicBool>,
    deaf: Arc<AtomicUsize>,
}

impl Links {
    /// Listens on a port of 127.0.0.1 for what is meant for the server with this socket.
    pub(crate) async fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (writer, lease, armed) = (watch::Sender::new(false), watch::Sender::new(false), Arc::default());
        let (deafens, deaf) = (Arc::default(), Arc::default());
        let rules = Rules {
            writer: writer.subscribe(),
            lease: lease.subscribe(),
            armed: Arc::clone(&armed),
            deafens: Arc::clone(&deafens),
            deaf: Arc::clone(&deaf),
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (socket, rules) = (socket.clone(), rules.clone());
                // That a connection ends early is what this is for; whoever used it notices.
                tokio::spawn(async move { drop(relay(client, socket, rules).await) });
            }
        });
        Self { port, writer, lease, armed, deafens, deaf }
    }

    /// While it is frozen nothing that the node says there arrives.
    pub(crate) fn freeze(&self, link: Link, is_frozen: bool) {
        match link {
            Link::Writer => self.writer.send_replace(is_frozen),
            Link::Lease => self.lease.send_replace(is_frozen),
        };
    }

    /// From now on no writer that connects hears of any append.
    pub(crate) fn deafen(&self) {
        self.deafens.store(true, Ordering::Release);
    }

    /// How many writers have connected since, and listen to nobody.
    pub(crate) fn deaf(&self) -> usize {
        self.deaf.load(Ordering::Acquire)
    }

    /// Lets the node be put on the list, and loses the answer.
    pub(crate) fn lose_enlisted(&self) {
        self.armed.store(true, Ordering::Release);
    }

    /// Whether that has happened.
    pub(crate) fn has_lost(&self) -> bool {
        !self.armed.load(Ordering::Acquire)
    }
}

async fn relay(mut client: TcpStream, socket: PathBuf, rules: Rules) -> io::Result<()> {
    let mut server = UnixStream::connect(socket).await?;
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    let loses = AtomicBool::new(false);
    tokio::select! {
        asked = questions(from_client, to_server, &loses, rules) => asked,
        answered = answers(from_server, to_client, &loses) => answered,
    }
}

async fn questions(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    loses: &AtomicBool,
    mut rules: Rules,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut link, mut is_prepared) = (None, false);
    loop {
        let length = from.read(&mut chunk).await?;
        if length == 0 {
            return Ok(());
        }
        let said = &mut chunk[..length];
        if let Some(at) = place(said, OF_THE_WRITER) {
            link = Some(Link::Writer);
            if rules.deafens.load(Ordering::Acquire) {
                said[at..at + OF_NOBODY.len()].copy_from_slice(OF_NOBODY);
                rules.deaf.fetch_add(1, Ordering::AcqRel);
            }
        } else if holds(said, OF_THE_LEASE) {
            link = Some(Link::Lease);
        }
        let thawed = match link {
            Some(Link::Writer) => rules.writer.wait_for(|is_frozen| !is_frozen).await.is_ok(),
            Some(Link::Lease) => rules.lease.wait_for(|is_frozen| !is_frozen).await.is_ok(),
            None => true,
        };
        if !thawed {
            // The test is over.
            return Ok(());
        }
        // First the statement is prepared; what is said next carries it out.
        if is_prepared && rules.armed.swap(false, Ordering::AcqRel) {
            loses.store(true, Ordering::Release);
        }
        is_prepared = holds(said, ENLIST);
        to.write_all(said).await?;
    }
}

async fn answers(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    loses: &AtomicBool,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = from.read(&mut chunk).await?;
        if length == 0 || loses.load(Ordering::Acquire) {
            return Ok(());
        }
        to.write_all(&chunk[..length]).await?;
    }
}

fn holds(said: &[u8], words: &[u8]) -> bool {
    place(said, words).is_some()
}

fn place(said: &[u8], words: &[u8]) -> Option<usize> {
    said.windows(words.len()).position(|some| some == words)
}
