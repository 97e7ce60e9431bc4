//! A running `portcullis serve`: the real binary, on a database of the test's own, over HTTPS.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

use super::cluster::Scratch;

/// Long enough for a debug build on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Service {
    pub(crate) url: String,
    /// The admin's token; read from the file again on every start.
    pub(crate) token: String,
    pub(crate) client: reqwest::Client,
    child: Child,
    data_dir: Arc<TempDir>,
    log: Arc<Mutex<String>>,
}

/// How to start one.
pub(crate) struct Launch {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    bind: String,
    data_dir: Arc<TempDir>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

// === impl Launch ===

impl Launch {
    /// On a scratch database.
    pub(crate) fn on(scratch: &Scratch) -> Self {
        Self::on_urls(&scratch.url(), &scratch.owner_url())
    }

    pub(crate) fn on_urls(url: &str, owner_url: &str) -> Self {
        Self::embedded()
            .argument("--database-url", url)
            .argument("--owner-database-url", owner_url)
            .flag("--allow-unsafe-durability")
    }

    /// With a private cluster.
    pub(crate) fn embedded() -> Self {
        let bind = "127.0.0.1:0".to_owned();
        Self { arguments: Vec::new(), environment: Vec::new(), bind, data_dir: Arc::new(data_dir()) }
    }

    pub(crate) fn argument(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([name.to_owned(), value.to_owned()]);
        self
    }

    pub(crate) fn flag(mut self, name: &str) -> Self {
        self.arguments.push(name.to_owned());
        self
    }

    /// On this port, for clients that outlive the service; otherwise on any that is free.
    pub(crate) fn port(self, port: u16) -> Self {
        self.bind(&format!("127.0.0.1:{port}"))
    }

    pub(crate) fn bind(mut self, address: &str) -> Self {
        address.clone_into(&mut self.bind);
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With the files of another service: its root key above all.
    pub(crate) fn data_dir_of(mut self, other: &Service) -> Self {
        self.data_dir = other.data_dir.clone();
        self
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// The same, there for as long as this is held: that of a start that fails is gone otherwise.
    pub(crate) fn hold_data_dir(&self) -> Arc<TempDir> {
        self.data_dir.clone()
    }

    /// The command that [`Launch::start`] runs.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(program());
        command.arg("serve").arg("--data-dir").arg(self.data_dir.path()).args(["--bind", &self.bind]);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) async fn start(self) -> Service {
        self.try_start().await.unwrap_or_else(|log| panic!("the service did not start:\n{log}"))
    }

    /// Starts it and waits until it is ready; or says what it said before it ended.
    pub(crate) async fn try_start(self) -> Result<Service, String> {
        let mut child = self.command().spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().unwrap();
        let kept = log.clone();
        let reading = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let kept = log.clone();
        let announced = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            // Whatever follows is read to the end: a service whose output nobody takes would stop at a full pipe.
            std::thread::spawn(move || {
                for line in stdout.lines().map_while(Result::ok) {
                    kept.lock().unwrap().push_str(&format!("{line}\n"));
                }
            });
            line
        });
        let line = tokio::time::timeout(START_PATIENCE, announced).await.unwrap().unwrap();
        let Some((_, url)) = line.trim().split_once(" listens on ") else {
            child.wait().unwrap();
            reading.join().unwrap();
            return Err(log.lock().unwrap().clone());
        };
        let token = std::fs::read_to_string(self.data_dir.path().join("admin.token")).unwrap_or_default();
        let client = client(&self.data_dir.path().join("tls/ca.pem"));
        let token = token.trim().to_owned();
        Ok(Service { url: url.to_owned(), token, client, child, data_dir: self.data_dir, log })
    }
}

/// The binary that was built with these tests. nextest names it when it runs, wherever it was moved to since.
pub(crate) fn program() -> PathBuf {
    let named = std::env::var_os("NEXTEST_BIN_EXE_portcullis");
    named.map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_portcullis")), PathBuf::from)
}

/// Private, and open to the user under whom Postgres runs when the tests run as root.
fn data_dir() -> TempDir {
    tempfile::Builder::new().prefix("portcullis-test-").tempdir_in(std::env::temp_dir()).unwrap()
}

fn client(ca_file: &Path) -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let builder = reqwest::Client::builder().timeout(Duration::from_secs(60));
    match std::fs::read(ca_file) {
        Ok(pem) => builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).unwrap()),
        Err(_) => builder,
    }
    .build()
    .unwrap()
}

// === impl Service ===

impl Service {
    pub(crate) async fn start(scratch: &Scratch) -> Self {
        Launch::on(scratch).start().await
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.data_dir.path().join(name)
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// What it has logged so far, and what it said on its standard output after its first line.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to stop and waits for its end; true if it ended well.
    pub(crate) fn stop(&mut self) -> bool {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().success()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        answer(request).await.unwrap()
    }

    /// As the admin.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path).bearer_auth(&self.token)).await
    }

    /// As the admin.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.post_as(&self.token, path, body).await
    }

    pub(crate) async fn post_as(&self, credential: &str, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).bearer_auth(credential).json(&body)).await
    }

    pub(crate) async fn get_as(&self, credential: &str, path: &str) -> Answer {
        self.send(self.request(Method::GET, path).bearer_auth(credential)).await
    }

    /// That the rows of every projection are what the log says, as `portcullis projection verify` asks.
    pub(crate) async fn verify_projections(&self) {
        let names = self.get("/v1/projections").await.expect(200);
        for name in names["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()) {
            let path = format!("/v1/projections/{name}");
            let asked = self.post(&format!("{path}/verify"), Value::Null).await.expect(202)["id"].clone();
            let verification = async || self.get(&path).await.expect(200)["verification"].clone();
            let is_over = async || {
                let job = verification().await;
                job["id"] == asked && !["waiting", "running"].contains(&job["state"].as_str().unwrap())
            };
            self.until("the projection is verified", is_over).await;
            assert_eq!(verification().await["state"], "done", "{name}: {}", verification().await);
        }
    }

    /// Waits until `condition` holds, and fails with `what` if it never does.
    pub(crate) async fn until<F: Future<Output = bool>>(&self, what: &str, condition: impl Fn() -> F) {
        let give_up = Instant::now() + START_PATIENCE;
        while !condition().await {
            assert!(Instant::now() < give_up, "never: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Sends a request and reads its answer whole.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    Ok(Answer { status, headers, text: response.text().await? })
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- the service's log ---\n{}", self.log());
        }
    }
}

// === impl Answer ===

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body, if the status is the one expected.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// The problem's code, if the status is the one expected.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        let body = self.expect(status);
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
        body["code"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn position(&self) -> u64 {
        self.headers["portcullis-position"].to_str().unwrap().parse().unwrap()
    }
}
