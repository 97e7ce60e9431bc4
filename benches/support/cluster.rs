//! A throwaway Postgres that is durable: its numbers are those of a service that keeps its promises.
//!
//! The settings are those of the private cluster that the service makes for itself, but for the number of connections:
//! what it is compared with needs one for each client.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use portcullis::postgres::embedded::{Account, Binaries, LOGIN, OWNER, initialise, socket_url};
use portcullis::postgres::{Database, Options, SERVICE_ROLE};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::SecretString;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

const PORT: u16 = 5432;
const NAME: &str = "portcullis";
const READY_TIMEOUT: Duration = Duration::from_mins(1);
const SETTINGS: [&str; 8] = [
    "listen_addresses=",
    "fsync=on",
    "full_page_writes=on",
    "synchronous_commit=on",
    "max_connections=300",
    "shared_buffers=128MB",
    "max_wal_size=1GB",
    "autovacuum=on",
];

pub(crate) struct Cluster {
    folder: TempDir,
    server: Child,
    pub(crate) database: Database,
}

impl Cluster {
    /// Starts one with a migrated and empty database.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("portcullis-bench-").tempdir()?;
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
        let named = std::env::var_os("PORTCULLIS_PG_BIN").map(PathBuf::from);
        let binaries = Binaries::find(named.as_deref(), None)?;
        let account = Account::choose(&folder.path().join("data"))?;
        for name in ["data", "run"] {
            DirBuilder::new().mode(0o700).create(folder.path().join(name))?;
            account.own(&folder.path().join(name))?;
        }
        initialise(&binaries, &account, &folder.path().join("data"), true)?;
        let mut command = account.command(binaries.program("postgres"));
        command.arg("-D").arg(folder.path().join("data")).arg("-k").arg(folder.path().join("run"));
        command.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        wait_and_prepare(folder.path()).await?;
        let url = |role| SecretString::from(url(folder.path(), role, NAME));
        let options = Options { owner_url: Some(url(OWNER)), ..Options::new(url(LOGIN)) };
        let database = Database::open(options).await?;
        database.migrate().await?;
        Ok(Self { folder, server, database })
    }

    /// How this role reaches the database.
    pub(crate) fn url(&self, role: &str) -> String {
        url(self.folder.path(), role, NAME)
    }

    /// A connection that may do anything, for what the service itself may not.
    pub(crate) async fn owner(&self) -> anyhow::Result<Client> {
        Ok(connect(&self.url(OWNER)).await?)
    }

    /// Leaves the database as autovacuum would in time, so that it does not start in the middle of a round.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        let owner = self.owner().await?;
        for statement in ["vacuum analyze log.event", "checkpoint"] {
            owner.batch_execute(statement).await?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw) {
            // Whatever fails here, the folder goes.
            kill_process(pid, Signal::QUIT).ok();
        }
        self.server.wait().ok();
    }
}

async fn wait_and_prepare(folder: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    let client = loop {
        match connect(&url(folder, OWNER, "postgres")).await {
            Ok(client) => break client,
            Err(error) if Instant::now() > deadline => return Err(error).context("Postgres does not start"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let roles = format!("create role {SERVICE_ROLE} nologin; create role {LOGIN} login in role {SERVICE_ROLE}");
    client.batch_execute(&roles).await?;
    client.batch_execute(&format!("create database {NAME}")).await?;
    Ok(())
}

fn url(folder: &Path, role: &str, database: &str) -> String {
    socket_url(&folder.join("run"), PORT, role, database)
}

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move {
        // Its end is seen by whoever uses the client.
        drop(connection.await);
    });
    Ok(client)
}
