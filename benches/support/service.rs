//! The real binary, on a log that was made for it, without TLS.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use portcullis::postgres::embedded::{LOGIN, OWNER};
use tempfile::TempDir;

use super::cluster::Cluster;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_portcullis");

pub(crate) struct Service {
    pub(crate) child: Child,
    pub(crate) address: String,
    _folder: Arc<TempDir>,
}

impl Service {
    /// By a command that starts the program, with `folder` as its data directory; it reaches the database as `name`.
    pub(crate) fn start(
        mut command: Command,
        name: &str,
        cluster: &Cluster,
        folder: Arc<TempDir>,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let database_url = format!("{}&application_name={name}", cluster.url(LOGIN));
        let mut child = command
            .args(["serve", "--disable-tls", "--bind", "127.0.0.1:0", "--data-dir"])
            .arg(folder.path())
            .args(["--database-url", &database_url, "--owner-database-url", &cluster.url(OWNER)])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(said())
            .spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("its output is piped")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let (_, url) = line.trim().split_once(" listens on ").context("the service did not start")?;
        let address = url.trim_start_matches("http://").to_owned();
        // Whatever follows is read to the end: a service whose output nobody takes would stop at a full pipe.
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        Ok(Self { child, address, _folder: folder })
    }

    /// The state that it folded is moved once more by its own first events.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    pub(crate) fn resident_mebibytes(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1_024.0)
    }
}

/// What services say is shown where somebody asks for it.
fn said() -> Stdio {
    if std::env::var_os("PORTCULLIS_BENCH_LOG").is_some() { Stdio::inherit() } else { Stdio::null() }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Whatever fails here, the machine is left as it is.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
