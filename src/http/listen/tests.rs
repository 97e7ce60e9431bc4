//! Real clients against a real listener, on a port of loopback that is free.

use axum::extract::ConnectInfo;
use axum::routing::get;
use chrono::Utc;
use reqwest::{Certificate, StatusCode, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::Vocabulary;

/// What `/much` answers: more than the sockets of both sides hold.
const MUCH_BYTES: usize = 32 << 20;

struct Running {
    address: SocketAddr,
    tls: Option<Tls>,
    idle_timeout: Duration,
    telemetry: Telemetry,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
    /// Told when a request has reached `/slow`, which answers when told to.
    slow_reached: Arc<Notify>,
    slow_answers: Arc<Notify>,
    _folder: tempfile::TempDir,
}

fn options() -> ListenOptions {
    let mut options = ListenOptions::new(100, Duration::from_secs(10));
    options.handshake_timeout = Duration::from_millis(300);
    options.header_timeout = Duration::from_millis(300);
    options.idle_timeout = Duration::from_millis(800);
    options
}

async fn start(options: ListenOptions, with_tls: bool) -> Running {
    let idle_timeout = options.idle_timeout;
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().expect("a folder");
    let tls = with_tls.then(|| {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        Tls::own_authority(folder.path().join("tls"), names, Utc::now()).expect("an authority")
    });
    let vocabulary = Vocabulary {
        routes: &[],
        validation_outcomes: &[],
        commands: &[],
        command_outcomes: &[],
        auth_failure_reasons: &[],
    };
    let telemetry = Telemetry::new(None).expect("exporters");
    let metrics = telemetry.metrics(&vocabulary).expect("instruments");
    let (slow_reached, slow_answers) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (reached, answers) = (Arc::clone(&slow_reached), Arc::clone(&slow_answers));
    let slow = move || async move {
        reached.notify_one();
        answers.notified().await;
        "done"
    };
    let who = |ConnectInfo(address): ConnectInfo<SocketAddr>| async move { address.ip().to_string() };
    let much = || async { vec![b'x'; MUCH_BYTES] };
    let router = Router::new().route("/", get(who)).route("/slow", get(slow)).route("/much", get(much));
    let listener = Listener::bind("127.0.0.1:0".parse().expect("an address"), options).await.expect("a port");
    let address = listener.address().expect("an address");
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn({
        let tls = tls.clone();
        async move {
            let shutdown = async { drop(stopped.await) };
            listener.serve(router, tls.as_ref(), &metrics, shutdown).await;
        }
    });
    let stop = Some(stop);
    Running { address, tls, idle_timeout, telemetry, stop, served, slow_reached, slow_answers, _folder: folder }
}

impl Running {
    fn url(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }

    fn client(&self) -> reqwest::ClientBuilder {
        let builder = reqwest::Client::builder().timeout(Duration::from_secs(10));
        match &self.tls {
            Some(tls) => {
                let pem = std::fs::read(tls.ca_file().expect("an own authority")).expect("a file");
                builder.tls_certs_only([Certificate::from_pem(&pem).expect("a certificate")])
            }
            None => builder,
        }
    }
}

#[tokio::test]
async fn both_versions_are_spoken_and_the_client_is_known() {
    let running = start(options(), true).await;
    let old = running.client().http1_only().build().expect("a client");
    let new = running.client().build().expect("a client");
    for (client, version) in [(old, Version::HTTP_11), (new, Version::HTTP_2)] {
        let response = client.get(running.url("/")).send().await.expect("an answer");
        assert_eq!(response.version(), version);
        assert_eq!(response.text().await.expect("a body"), "127.0.0.1");
    }
}

#[tokio::test]
async fn curl_verifies_us_by_the_ca_file_and_not_without() {
    let running = start(options(), true).await;
    let ca = running.tls.as_ref().and_then(Tls::ca_file).expect("an own authority");
    let curl = async |more: &[&std::ffi::OsStr]| {
        let mut command = tokio::process::Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "10"]).args(more).arg(running.url("/"));
        command.output().await.expect("curl, which `ops/test` installs")
    };
    let trusted = curl(&["--cacert".as_ref(), ca.as_os_str()]).await;
    assert_eq!(trusted.stdout, b"127.0.0.1", "{}", String::from_utf8_lossy(&trusted.stderr));
    assert!(!curl(&[]).await.status.success(), "an unknown authority must not be trusted");
}

#[tokio::test]
async fn a_reload_shows_to_the_next_connection() {
    let running = start(options(), true).await;
    let tls = running.tls.clone().expect("TLS");
    let ca_file = tls.ca_file().expect("an own authority");
    let first = tls.fingerprint();
    let before = running.client().build().expect("a client");
    before.get(running.url("/")).send().await.expect("an answer");

    // The whole authority is lost, so that a client of the new file can only mean the new certificate.
    std::fs::remove_file(ca_file.with_file_name("authority.pem")).expect("a file to remove");
    assert!(tls.reload(Utc::now()).expect("a new authority"));
    assert_ne!(tls.fingerprint(), first);
    let after = running.client().build().expect("a client");
    after.get(running.url("/")).send().await.expect("an answer under the new certificate");
    before.get(running.url("/")).send().await.expect("an open connection goes on");
}

#[tokio::test]
async fn headers_have_a_limit_in_both_versions() {
    let running = start(options(), true).await;
    let old = running.client().http1_only().build().expect("a client");
    let new = running.client().build().expect("a client");
    for client in [old, new] {
        let response = client.get(running.url("/")).header("x-large", "x".repeat(60_000)).send().await;
        let response = response.expect("an answer");
        assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "{:?}", response.version());
    }
}

#[tokio::test]
async fn a_shutdown_lets_a_running_request_finish() {
    let mut running = start(options(), true).await;
    let client = running.client().build().expect("a client");
    let request = tokio::spawn(client.get(running.url("/slow")).send());
    running.slow_reached.notified().await;
    running.stop.take().expect("runs").send(()).expect("still serves");
    // Until the listener is closed, new connections might still be let in.
    let refused = async {
        while tokio::net::TcpStream::connect(running.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    assert!(!running.served.is_finished(), "it waits for the request");
    running.slow_answers.notify_one();
    let response = request.await.expect("no panic").expect("an answer");
    assert_eq!(response.text().await.expect("a body"), "done");
    running.served.await.expect("no panic");
    tokio::time::timeout(Duration::from_secs(5), refused).await.expect("nobody listens any more");
}

#[tokio::test]
async fn a_shutdown_does_not_wait_longer_than_the_grace() {
    let mut options = options();
    options.shutdown_grace = Duration::from_millis(100);
    let mut running = start(options, false).await;
    let client = running.client().build().expect("a client");
    let request = tokio::spawn(client.get(running.url("/slow")).send());
    running.slow_reached.notified().await;
    running.stop.take().expect("runs").send(()).expect("still serves");
    running.served.await.expect("no panic");
    assert!(request.await.expect("no panic").is_err(), "the request was cut off");
}

/// Connects, sends `bytes`, and returns what comes back until the connection is closed.
async fn answer_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    // A reset is a close too.
    drop(closed.expect("the connection was left open"));
    answer
}

#[tokio::test]
async fn a_client_that_stalls_loses_its_place() {
    let plain = start(options(), false).await;
    let encrypted = start(options(), true).await;
    for bytes in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let answer = answer_to(plain.address, bytes).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    answer_to(encrypted.address, b"").await;
    answer_to(encrypted.address, b"\x16\x03\x01\x02").await;
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_loses_its_place() {
    let mut options = options();
    options.connections_max = 1;
    let running = start(options, false).await;
    let mut silent = TcpStream::connect(running.address).await.expect("a connection");
    silent.write_all(b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    let began = Instant::now();
    let client = running.client().build().expect("a client");
    while client.get(running.url("/")).send().await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "it holds its place for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() >= running.idle_timeout, "it was given its time");
    let mut taken = Vec::new();
    drop(silent.read_to_end(&mut taken).await);
    assert!(taken.len() < MUCH_BYTES, "the rest is gone with the connection");
}

#[tokio::test]
async fn connections_past_the_limit_are_closed_and_counted() {
    let mut options = options();
    options.connections_max = 1;
    let running = start(options, false).await;
    let client = running.client().pool_max_idle_per_host(1).build().expect("a client");
    let request = tokio::spawn(client.get(running.url("/slow")).send());
    running.slow_reached.notified().await;
    assert_eq!(answer_to(running.address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await, b"");
    let text = running.telemetry.render().expect("metrics");
    assert!(text.contains("portcullis_connections_refused_total 1"), "{text}");
    running.slow_answers.notify_one();
    assert_eq!(request.await.expect("no panic").expect("an answer").status(), StatusCode::OK);
}

#[tokio::test]
async fn a_header_has_less_time_than_a_pause_between_two_requests() {
    let running = start(options(), false).await;
    let mut stream = TcpStream::connect(running.address).await.expect("a connection");
    let mut answer = [0; 1024];
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        let read = stream.read(&mut answer).await.expect("still open after the pause");
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..read]));
        tokio::time::sleep(Duration::from_millis(450)).await;
    }
    let began = Instant::now();
    // Often enough that a limit between any two bytes would never be reached.
    let dripping = async {
        while stream.write_all(b"X").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), dripping).await.expect("the header dripped for as long as it liked");
    assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
}

#[test]
fn nobody_drips_a_header_for_longer_than_15_seconds() {
    let options = ListenOptions::new(1, Duration::ZERO);
    assert!(options.header_timeout <= Duration::from_secs(15));
    assert!(options.idle_timeout > Duration::from_secs(60), "nginx keeps its connections for as long");
}

/// Says what an HTTP/2 client says first, answers every ping, and returns the kinds of frames that came until the end.
async fn frames_for_a_silent_client(address: SocketAddr) -> Vec<u8> {
    const PING: u8 = 6;
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("sent");
    let mut kinds = Vec::new();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let [_, high, low, kind, flags, ..] = head;
        let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        stream.read_exact(&mut payload).await.expect("a whole frame");
        if kind == PING && flags == 0 {
            stream.write_all(&[&[0, 0, 8, PING, 1, 0, 0, 0, 0][..], &payload].concat()).await.expect("sent");
        }
        kinds.push(kind);
    }
    kinds
}

#[tokio::test]
async fn an_idle_http2_connection_is_told_to_go() {
    const GOAWAY: u8 = 7;
    let running = start(options(), false).await;
    let frames = tokio::time::timeout(Duration::from_secs(4), frames_for_a_silent_client(running.address)).await;
    let frames = frames.expect("it holds its place for as long as it answers pings");
    assert!(frames.contains(&GOAWAY), "{frames:?}");
}

#[tokio::test]
async fn a_connection_with_an_open_request_is_not_idle() {
    let running = start(options(), true).await;
    let client = running.client().build().expect("a client");
    let request = tokio::spawn(client.get(running.url("/slow")).send());
    running.slow_reached.notified().await;
    tokio::time::sleep(running.idle_timeout).await;
    running.slow_answers.notify_one();
    assert_eq!(request.await.expect("no panic").expect("an answer").status(), StatusCode::OK);
}
