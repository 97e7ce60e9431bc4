//! The one who asks: so many connections, each of which waits for its answer and asks again, in a process of its own.
//!
//! Written on the socket, since on a machine of two cores a client that does more than it must would be what is measured.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use portcullis::credential::key::KEY_CHARS;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::latency::percentile;
use super::report::to_float;

/// What the process that asks is told, in its one argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) address: String,
    /// A file of keys, one after the other.
    pub(crate) credentials: PathBuf,
    /// Of the operator who asks.
    pub(crate) token: String,
    pub(crate) connections: usize,
    pub(crate) seconds: f64,
}

/// How it went: requests a second, and milliseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Loaded {
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// One answer, read whole.
pub(crate) struct Answer {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

const FLAG: &str = "--load";

impl Load {
    /// Set where this process is the one that asks.
    pub(crate) fn from_arguments() -> anyhow::Result<Option<Self>> {
        let mut arguments = std::env::args().skip_while(|argument| argument != FLAG).skip(1);
        Ok(arguments.next().map(|text| serde_json::from_str(&text)).transpose()?)
    }
}

/// Asks from another process, and waits for what it found.
pub(crate) async fn run_apart(load: &Load) -> anyhow::Result<Loaded> {
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    let output = command.arg(FLAG).arg(serde_json::to_string(load)?).stderr(std::process::Stdio::inherit()).output();
    let output = output.await?;
    ensure!(output.status.success(), "the process that asks has failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The process that asks.
pub(crate) fn run(load: &Load) -> anyhow::Result<()> {
    let loaded = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(ask(load))?;
    anstream::println!("{}", serde_json::to_string(&loaded)?);
    Ok(())
}

async fn ask(load: &Load) -> anyhow::Result<Loaded> {
    let credentials: &'static [u8] = std::fs::read(&load.credentials)?.leak();
    let mut connections = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        connections.push(Connection::open(load, credentials).await?);
    }
    let (began, span) = (Instant::now(), Duration::from_secs_f64(load.seconds));
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            tokio::spawn(async move {
                let mut samples = Vec::new();
                while began.elapsed() < span {
                    let asked = Instant::now();
                    connection.ask().await?;
                    samples.push(u64::try_from(asked.elapsed().as_nanos())?);
                }
                anyhow::Ok(samples)
            })
        })
        .collect();
    let mut samples = Vec::new();
    for task in tasks {
        samples.extend(task.await??);
    }
    let rate = to_float(samples.len() as u64) / began.elapsed().as_secs_f64();
    let mut milliseconds = |part| percentile(&mut samples, part) / 1_000_000.0;
    Ok(Loaded { rate, p50: milliseconds(0.5), p99: milliseconds(0.99) })
}

/// Asks once, to see the answer.
pub(crate) async fn ask_once(load: &Load) -> anyhow::Result<Answer> {
    let credentials: &'static [u8] = std::fs::read(&load.credentials)?.leak();
    let mut connection = Connection::open(load, credentials).await?;
    let head = connection.ask().await?;
    let text = std::str::from_utf8(&connection.received)?;
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    let headers = text[..head].lines().skip(1).filter_map(header).collect();
    Ok(Answer { headers, body: connection.received[head..].to_vec() })
}

struct Connection {
    stream: TcpStream,
    credentials: &'static [u8],
    /// The request; the credential in it is written over each time.
    request: Vec<u8>,
    credential_at: usize,
    received: Vec<u8>,
}

impl Connection {
    async fn open(load: &Load, credentials: &'static [u8]) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(&load.address).await?;
        stream.set_nodelay(true)?;
        let opening = r#"{"credential":""#;
        let length = opening.len() + KEY_CHARS + 2;
        let head = format!(
            "POST /v1/validate HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{opening}",
            load.address, load.token
        );
        let credential_at = head.len();
        let mut request = head.into_bytes();
        request.extend([b'?'; KEY_CHARS]);
        request.extend(br#""}"#);
        Ok(Self { stream, credentials, request, credential_at, received: Vec::with_capacity(4_096) })
    }

    /// Asks for a random credential and waits for the whole answer; where its body begins.
    async fn ask(&mut self) -> anyhow::Result<usize> {
        let at = rand::rng().random_range(0..self.credentials.len() / KEY_CHARS) * KEY_CHARS;
        let place = self.credential_at..self.credential_at + KEY_CHARS;
        self.request[place].copy_from_slice(&self.credentials[at..at + KEY_CHARS]);
        self.stream.write_all(&self.request).await?;
        self.received.clear();
        loop {
            ensure!(self.stream.read_buf(&mut self.received).await? > 0, "the connection was closed");
            if let Some(body) = self.complete()? {
                return Ok(body);
            }
        }
    }

    /// Where the body begins, once all of it is there.
    fn complete(&self) -> anyhow::Result<Option<usize>> {
        let Some(end) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
        let head = std::str::from_utf8(&self.received[..end])?;
        if !head.starts_with("HTTP/1.1 200 ") {
            bail!("{}", String::from_utf8_lossy(&self.received));
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
        let (body, length) = (end + 4, length.parse::<usize>()?);
        if self.received.len() < body + length {
            return Ok(None);
        }
        ensure!(self.received[body..].starts_with(br#"{"active":true"#), "a good credential was refused");
        Ok(Some(body))
    }
}
