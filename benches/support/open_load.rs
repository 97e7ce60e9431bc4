//! Requests at their times, whatever became of those before: how long they take counts from when they were meant to be sent.
//!
//! A client that waits for an answer before it asks again asks least when the service is slowest, and so measures what nobody
//! feels (coordinated omission). Here a connection that is late sends at once, and the time it was late counts. In a process
//! of its own, with a thread for each connection: timers of a runtime are as coarse as what is measured.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use portcullis::credential::key::KEY_CHARS;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use super::latency::percentile;
use super::report::to_float;

/// What the process that asks is told, in its one argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OpenLoad {
    pub(crate) address: String,
    /// A file of keys, one after the other.
    pub(crate) credentials: PathBuf,
    /// Of the operator who asks.
    pub(crate) token: String,
    pub(crate) connections: u32,
    /// Requests a second, over all connections.
    pub(crate) rate: u32,
    pub(crate) seconds: f64,
    /// What the verdict on each of the credentials has to be.
    pub(crate) accepted: bool,
}

/// Milliseconds from the intended moment to the whole answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Waited {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// Nanoseconds of those that were meant to be sent in each second: what stood in the way passes, or does not.
    pub(crate) by_second: Vec<Vec<u64>>,
    /// How many were answered in a second, from the first intended moment to the last answer.
    pub(crate) rate: f64,
}

const FLAG: &str = "--open-load";
const OPENING: &str = r#"{"credential":""#;

impl OpenLoad {
    /// Set where this process is the one that asks.
    pub(crate) fn from_arguments() -> anyhow::Result<Option<Self>> {
        let mut arguments = std::env::args().skip_while(|argument| argument != FLAG).skip(1);
        Ok(arguments.next().map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// Asks from another process, which this command starts with this program, and waits for what it found.
    pub(crate) async fn run_apart(&self, command: Command) -> anyhow::Result<Waited> {
        let mut command = tokio::process::Command::from(command);
        command.arg(FLAG).arg(serde_json::to_string(self)?).stdout(std::process::Stdio::piped());
        // What it complains of is for whoever runs the benchmark: `output` would keep that to itself.
        let output = command.spawn()?.wait_with_output().await?;
        ensure!(output.status.success(), "the process that asks has failed");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The process that asks.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let credentials = std::fs::read(&self.credentials)?;
        let open = |_| Connection::open(self);
        let connections = (0..self.connections).map(open).collect::<anyhow::Result<Vec<_>>>()?;
        // A moment for all threads to be there.
        let began = Instant::now() + Duration::from_millis(20);
        let samples = std::thread::scope(|scope| {
            let asking = (0..).zip(connections).map(|(number, connection)| {
                let credentials = &credentials;
                scope.spawn(move || self.ask(number, connection, began, credentials))
            });
            let asking = asking.collect::<Vec<_>>().into_iter();
            let samples = asking.map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread broke off"))?);
            samples.collect::<anyhow::Result<Vec<_>>>()
        })?;
        let by_second = self.by_second(&samples);
        let mut samples = samples.concat();
        let rate = to_float(samples.len() as u64) / began.elapsed().as_secs_f64();
        let mut milliseconds = |part| percentile(&mut samples, part) / 1_000_000.0;
        let (p50, p99, p999) = (milliseconds(0.5), milliseconds(0.99), milliseconds(0.999));
        anstream::println!("{}", serde_json::to_string(&Waited { p50, p99, p999, by_second, rate })?);
        Ok(())
    }

    /// What each connection has measured, by the second in which it was meant to be sent.
    fn by_second(&self, samples: &[Vec<u64>]) -> Vec<Vec<u64>> {
        let mut seconds = Vec::new();
        for (number, samples) in samples.iter().enumerate() {
            for (nth, sample) in samples.iter().enumerate() {
                let second = (number + nth * self.connections as usize) / self.rate as usize;
                if seconds.len() <= second {
                    seconds.resize(second + 1, Vec::new());
                }
                seconds[second].push(*sample);
            }
        }
        seconds
    }

    /// Every so-manieth request, beginning with this one.
    fn ask(
        &self,
        number: u32,
        mut connection: Connection,
        began: Instant,
        credentials: &[u8],
    ) -> anyhow::Result<Vec<u64>> {
        let mut samples = Vec::new();
        for nth in (u64::from(number)..).step_by(self.connections as usize) {
            let after = Duration::from_secs_f64(to_float(nth) / f64::from(self.rate));
            if after.as_secs_f64() >= self.seconds {
                return Ok(samples);
            }
            let intended = began + after;
            std::thread::sleep(intended.saturating_duration_since(Instant::now()));
            connection.ask(credentials, self.accepted)?;
            samples.push(u64::try_from(intended.elapsed().as_nanos())?);
        }
        Ok(samples)
    }
}

struct Connection {
    stream: TcpStream,
    /// The request; the credential in it is written over each time.
    request: Vec<u8>,
    credential_at: usize,
    received: Vec<u8>,
}

impl Connection {
    fn open(load: &OpenLoad) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(&load.address)?;
        stream.set_nodelay(true)?;
        let length = OPENING.len() + KEY_CHARS + 2;
        let head = format!(
            "POST /v1/validate HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{OPENING}",
            load.address, load.token
        );
        let credential_at = head.len();
        let request = [head.as_bytes(), &[b'?'; KEY_CHARS], br#""}"#].concat();
        Ok(Self { stream, request, credential_at, received: Vec::with_capacity(4_096) })
    }

    /// Asks for a random credential, and waits for the whole answer.
    fn ask(&mut self, credentials: &[u8], accepted: bool) -> anyhow::Result<()> {
        let at = rand::rng().random_range(0..credentials.len() / KEY_CHARS) * KEY_CHARS;
        let place = self.credential_at..self.credential_at + KEY_CHARS;
        self.request[place].copy_from_slice(&credentials[at..at + KEY_CHARS]);
        self.stream.write_all(&self.request)?;
        self.received.clear();
        let mut some = [0; 4_096];
        while !self.is_complete(accepted)? {
            let count = self.stream.read(&mut some)?;
            ensure!(count > 0, "the connection was closed");
            self.received.extend_from_slice(&some[..count]);
        }
        Ok(())
    }

    fn is_complete(&self, accepted: bool) -> anyhow::Result<bool> {
        let Some(end) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(false) };
        let head = std::str::from_utf8(&self.received[..end])?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&self.received));
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
        let body = &self.received[end + 4..];
        if body.len() < length.parse::<usize>()? {
            return Ok(false);
        }
        let expected = format!(r#"{{"active":{accepted}"#);
        ensure!(body.starts_with(expected.as_bytes()), "another verdict: {}", String::from_utf8_lossy(body));
        Ok(true)
    }
}
