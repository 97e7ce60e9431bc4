//! A proxy between a service and its Postgres that knows where an append begins and where its answer ends. Told to, it
//! cuts the connection right there, so that the writer cannot know what became of the append: a `kill -9` hits that
//! moment once in a while, this hits it every time.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::oneshot;

/// The statement whose fate the faults are about, as the service prepares it.
const APPEND: &str = include_str!("../../../src/log/append.sql");

/// Far above what the service sends or is sent.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

const PATIENCE: Duration = Duration::from_secs(30);

/// The message that ends what a client says in one go, and the type of the one that ends the answer.
const SYNC: &[u8] = b"S\0\0\0\x04";
const READY: u8 = b'Z';

/// What happens to the next append.
#[derive(Debug)]
pub(crate) enum Cut {
    /// Before it has reached Postgres: it never happens.
    Request,
    /// After Postgres has carried it out, before anything of the answer is passed on.
    Answer,
    /// Before it has reached Postgres, where it arrives all the same, so much later.
    Late(Duration),
    /// The same, at a word; whoever gives it is told when Postgres has answered.
    Held(oneshot::Receiver<oneshot::Sender<()>>),
}

/// An append that waits for the word to be delivered.
pub(crate) struct Held(oneshot::Sender<oneshot::Sender<()>>);

pub(crate) struct Proxy {
    pub(crate) port: u16,
    armed: Armed,
}

/// The fault that waits for an append, and who is told when it has happened.
type Armed = Arc<Mutex<Option<(Cut, oneshot::Sender<()>)>>>;

/// Who is told, while an answer is on its way that nobody shall get.
type Swallow = Mutex<Option<oneshot::Sender<()>>>;

/// What Postgres gets though its sender is gone.
struct Late {
    messages: Vec<u8>,
    when: When,
}

enum When {
    After(Duration),
    Told(oneshot::Receiver<oneshot::Sender<()>>),
}

/// A message of the protocol, with its type and its length in front.
struct Message(Vec<u8>);

// === impl Proxy ===

impl Proxy {
    /// Listens on a port of 127.0.0.1 for what is meant for the server with this socket.
    pub(crate) async fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let armed = Armed::default();
        let of_connections = armed.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (socket, armed) = (socket.clone(), of_connections.clone());
                // That a connection ends early is what this is for; whoever used it notices.
                tokio::spawn(async move { drop(relay(client, socket, armed).await) });
            }
        });
        Self { port, armed }
    }

    /// Lets the fault happen to the next append, and returns once it has.
    pub(crate) async fn cut(&self, cut: Cut) {
        let (happened, happens) = oneshot::channel();
        *self.armed.lock().unwrap() = Some((cut, happened));
        tokio::time::timeout(PATIENCE, happens).await.expect("nothing is appended").unwrap();
    }

    /// Holds the next append back, and cuts its sender off; returns once that has happened.
    pub(crate) async fn hold(&self) -> Held {
        let (tell, told) = oneshot::channel();
        self.cut(Cut::Held(told)).await;
        Held(tell)
    }
}

impl Held {
    /// Lets Postgres have it, and returns once that has answered.
    pub(crate) async fn deliver(self) {
        let (answered, answer) = oneshot::channel();
        self.0.send(answered).unwrap();
        tokio::time::timeout(PATIENCE, answer).await.expect("Postgres does not answer").unwrap();
    }
}

/// Passes on what either side says, until one of them has ended, or a fault has happened.
async fn relay(mut client: TcpStream, socket: PathBuf, armed: Armed) -> io::Result<()> {
    let mut server = UnixStream::connect(socket).await?;
    let (mut from_server, mut to_server) = server.split();
    let late = {
        let (from_client, to_client) = client.split();
        let swallow = Swallow::default();
        tokio::select! {
            late = requests(from_client, &mut to_server, &swallow, &armed) => late?,
            answered = answers(&mut from_server, to_client, &swallow) => return answered,
        }
    };
    drop(client);
    match late {
        None => {}
        Some(Late { messages, when: When::After(while_on_its_way) }) => {
            tokio::time::sleep(while_on_its_way).await;
            to_server.write_all(&messages).await?;
        }
        Some(Late { messages, when: When::Told(told) }) => {
            // Whoever could give the word may be gone.
            let Ok(answered) = told.await else { return Ok(()) };
            to_server.write_all(&messages).await?;
            while Message::read(&mut from_server).await?.kind() != READY {}
            let _ = answered.send(());
        }
    }
    Ok(())
}

async fn requests(
    mut client: impl AsyncRead + Unpin,
    mut server: impl AsyncWrite + Unpin,
    swallow: &Swallow,
    armed: &Armed,
) -> io::Result<Option<Late>> {
    // The first message has no type.
    server.write_all(&read_sized(&mut client, Vec::new()).await?).await?;
    let mut append = None;
    loop {
        let message = Message::read(&mut client).await?;
        append = message.prepares(APPEND).or(append);
        let is_append = append.is_some() && message.binds() == append;
        let fault = if is_append { armed.lock().unwrap().take() } else { None };
        match fault {
            None => {}
            Some((Cut::Request, happened)) => {
                let _ = happened.send(());
                return Ok(None);
            }
            Some((Cut::Answer, happened)) => *swallow.lock().unwrap() = Some(happened),
            Some((Cut::Late(after), happened)) => {
                return hold_back(message, &mut client, When::After(after), happened).await.map(Some);
            }
            Some((Cut::Held(told), happened)) => {
                return hold_back(message, &mut client, When::Told(told), happened).await.map(Some);
            }
        }
        server.write_all(&message.0).await?;
    }
}

/// Takes all that the client says in one go.
async fn hold_back(
    first: Message,
    client: &mut (impl AsyncRead + Unpin),
    when: When,
    happened: oneshot::Sender<()>,
) -> io::Result<Late> {
    let mut messages = first.0;
    while !messages.ends_with(SYNC) {
        messages.extend(Message::read(client).await?.0);
    }
    let _ = happened.send(());
    Ok(Late { messages, when })
}

async fn answers(
    mut server: impl AsyncRead + Unpin,
    mut client: impl AsyncWrite + Unpin,
    swallow: &Swallow,
) -> io::Result<()> {
    loop {
        let message = Message::read(&mut server).await?;
        let swallowed = swallow.lock().unwrap().is_some();
        if !swallowed {
            client.write_all(&message.0).await?;
        } else if message.kind() == READY
            && let Some(happened) = swallow.lock().unwrap().take()
        {
            let _ = happened.send(());
            return Ok(());
        }
    }
}

// === impl Message ===

impl Message {
    async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let kind = from.read_u8().await?;
        Ok(Self(read_sized(from, vec![kind]).await?))
    }

    fn kind(&self) -> u8 {
        self.0[0]
    }

    /// The texts that it begins with.
    fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.0[5..].split(|byte| *byte == 0)
    }

    /// The name under which it prepares this statement.
    fn prepares(&self, statement: &str) -> Option<Vec<u8>> {
        let mut texts = self.texts();
        let name = texts.next().filter(|_| self.kind() == b'P')?;
        texts.next().filter(|text| *text == statement.as_bytes()).map(|_| name.to_owned())
    }

    /// The prepared statement that it gives parameters to: its second text, after the portal's name.
    fn binds(&self) -> Option<Vec<u8>> {
        self.texts().nth(1).filter(|_| self.kind() == b'B').map(<[u8]>::to_owned)
    }
}

/// Reads what its own length is in front of, and appends it to `message`.
async fn read_sized(from: &mut (impl AsyncRead + Unpin), mut message: Vec<u8>) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    message.extend(length.to_be_bytes());
    let start = message.len();
    let body = usize::try_from(length).unwrap() - size_of::<u32>();
    assert!(body <= MESSAGE_BYTES_MAX, "{length} bytes are no message of this protocol");
    message.resize(start + body, 0);
    from.read_exact(&mut message[start..]).await?;
    Ok(message)
}
