//! The private cluster of the embedded default: a Postgres of our own under the data folder, so that one command is a
//! running service.
//!
//! It is reached by a Unix socket alone, in a folder with mode 0700. Authentication is `trust`: whoever can enter that
//! folder is root or the account that Postgres runs under, and either could read and rewrite the data files anyway, so a
//! password beside them would guard nothing. The service still logs in as a role that can only add to the log.

mod account;
mod binaries;
mod folder;
mod server;

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio_postgres::{Client, NoTls};

pub use self::account::Account;
pub use self::binaries::Binaries;
pub use self::folder::Lock;
use self::folder::{Folder, PORT};
use self::server::{Launch, Server};
use super::{Options, SERVICE_ROLE, chain};

/// The bootstrap superuser. Migrations run as it, and nothing else.
pub const OWNER: &str = "portcullis_owner";
/// What the service logs in as: a member of its role, with no rights but those.
pub const LOGIN: &str = "portcullis_login";
/// The database of the service.
pub const DATABASE: &str = "portcullis";

/// A crash may leave much to replay; past this something is wrong with the machine.
const READY_TIMEOUT: Duration = Duration::from_mins(5);

/// Postgres that ends this often before it was ready once will not become so by trying again. With the pauses between
/// them that is 13 s: enough for the processes of a killed one to notice, which keep a new one from starting.
const START_ATTEMPTS_MAX: u32 = 8;

/// Short against the 70 ms that a start takes.
const READY_POLL: Duration = Duration::from_millis(20);

/// Why there is no private cluster.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error(
        "no Postgres found in PATH or /usr/lib/postgresql/*/bin: install it with `apt-get install postgresql`, name its \
         folder in PORTCULLIS_PG_BIN, or use a database of your own with --database-url"
    )]
    NoBinaries,
    #[error("no usable Postgres (`postgres` and `initdb`) in {}", .0.display())]
    NoBinariesIn(PathBuf),
    #[error("Postgres {major} in {} is too old: at least 15 is needed (`apt-get install postgresql`)", .folder.display())]
    TooOld { major: u32, folder: PathBuf },
    #[error(
        "the cluster was made by Postgres {cluster}, and Postgres {binaries} is what is found here: install Postgres \
         {cluster} beside it, or move the data with pg_upgrade"
    )]
    OtherVersion { cluster: u32, binaries: u32 },
    #[error("{} is not a Postgres cluster, and nothing is written into it", .0.display())]
    NotACluster(PathBuf),
    #[error("another portcullis{} is running on {}", .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), .data_dir.display())]
    InUse { data_dir: PathBuf, pid: Option<u32> },
    #[error("{} belongs to user {uid}: start portcullis as that user", .folder.display())]
    Foreign { folder: PathBuf, uid: u32 },
    #[error("Postgres refuses to run as root, and neither `postgres` nor `nobody` is a user here")]
    NoAccount,
    #[error(
        "{} cannot be reached by user {uid}, under whom Postgres runs as it refuses root: {} is closed to it. Choose \
         another --data-dir, such as /var/lib/portcullis",
        .folder.display(), .closed.display()
    )]
    Unreachable { folder: PathBuf, closed: PathBuf, uid: u32 },
    #[error("cannot prepare {}: {source}", .folder.display())]
    Folder { folder: PathBuf, source: std::io::Error },
    #[error("cannot run {}: {source}", .program.display())]
    Program { program: PathBuf, source: std::io::Error },
    #[error("initdb failed:\n{output}")]
    Initdb { output: String },
    #[error("a Postgres that an earlier service left behind (process {pid}) does not stop")]
    Leftover { pid: i32 },
    #[error("Postgres does not start; {} ends with:\n{tail}", .log.display())]
    Start { log: PathBuf, tail: String },
    #[error("the new cluster cannot be prepared: {}", chain(.0))]
    Prepare(#[source] tokio_postgres::Error),
    #[error("Postgres does not stop (process {pid})")]
    Stop { pid: i32 },
}

/// What may be said about the cluster. The rest is settled.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The folder of Postgres' programs (`PORTCULLIS_PG_BIN`), instead of the newest that is found.
    pub binaries: Option<PathBuf>,
}

/// A running private cluster. Postgres that ends by itself is started again; it stops with [`Cluster::stop`], when this
/// is dropped, or when the process ends in whatever way.
pub struct Cluster {
    server: Server,
    socket_folder: PathBuf,
}

/// Starts the cluster under `data_dir`, making it first if it is not there. None of that may happen beside another service
/// on the same folder: hence the [`lock`].
pub async fn start(data_dir: &Path, settings: &Settings, lock: Lock) -> Result<Cluster, EmbeddedError> {
    let folder = Folder::open(data_dir)?;
    let account = Account::choose(&folder.cluster)?;
    account.let_through(&folder.root)?;
    let existing = folder.cluster_major()?;
    let binaries = Binaries::find(settings.binaries.as_deref(), existing)?;
    let (launch, folder) = tokio::task::spawn_blocking(move || prepare(folder, account, &binaries, existing, lock))
        .await
        .expect("preparing the cluster does not panic")?;
    let socket_folder = launch.socket_folder.clone();
    let server = Server::start(launch);
    let client = ready(&server, &socket_folder, &folder).await?;
    create_roles_and_database(&client).await.map_err(EmbeddedError::Prepare)?;
    Ok(Cluster { server, socket_folder })
}

/// How to reach the cluster that a service runs on this folder.
pub fn running(data_dir: &Path) -> Result<Options, EmbeddedError> {
    let folder = Folder::open(data_dir)?;
    let account = Account::choose(&folder.cluster)?;
    Ok(options(&folder.socket_folder(&account)?))
}

/// The programs of the Postgres that the cluster in this folder was made by; of the newest, where there is none.
pub fn programs(data_dir: &Path, settings: &Settings) -> Result<Binaries, EmbeddedError> {
    Binaries::find(settings.binaries.as_deref(), Folder::open(data_dir)?.cluster_major()?)
}

/// The newest programs of Postgres that are found, for a database of one's own.
pub fn newest_programs(settings: &Settings) -> Result<Binaries, EmbeddedError> {
    Binaries::find(settings.binaries.as_deref(), None)
}

/// Moves the cluster out of its place, and answers where it is now; `None` where there is none. It is not removed: whoever
/// puts another in its place may want it back. The one who holds the lock says that nobody runs on it.
pub fn set_aside(data_dir: &Path, name: &str, _lock: &Lock) -> Result<Option<PathBuf>, EmbeddedError> {
    let folder = Folder::open(data_dir)?;
    if folder.cluster_major()?.is_none() {
        return Ok(None);
    }
    server::stop_leftover(&folder.cluster)?;
    let io = |source| EmbeddedError::Folder { folder: folder.root.clone(), source };
    let aside = folder.root.join(name);
    if aside.exists() {
        return Err(io(std::io::Error::from(std::io::ErrorKind::AlreadyExists)));
    }
    std::fs::rename(&folder.cluster, &aside).map_err(io)?;
    File::open(&folder.root).and_then(|root| root.sync_all()).map_err(io)?;
    Ok(Some(aside))
}

/// Keeps every other service out of the folder, which is made if it is missing.
pub fn lock(data_dir: &Path) -> Result<Lock, EmbeddedError> {
    Folder::open(data_dir)?.lock()
}

impl Cluster {
    /// How the service reaches this cluster.
    #[must_use]
    pub fn options(&self) -> Options {
        options(&self.socket_folder)
    }

    /// Stops Postgres, after what it is committing. Connections that are still open are closed.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        self.server.stop().await?;
        // A folder outside of the data folder would stay behind for ever. Elsewhere it is made anew, so failing is no loss.
        std::fs::remove_dir(&self.socket_folder).ok();
        Ok(())
    }
}

fn options(socket_folder: &Path) -> Options {
    let url = |role| SecretString::from(socket_url(socket_folder, PORT, role, DATABASE));
    Options { owner_url: Some(url(OWNER)), ..Options::new(url(LOGIN)) }
}

/// The URL of a database behind the socket in `folder`. Postgres names the socket for its port, opened or not.
#[must_use]
pub fn socket_url(folder: &Path, port: u16, role: &str, database: &str) -> String {
    let mut url = format!("postgres://{role}@/{database}?port={port}&host=");
    for byte in folder.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => url.push(char::from(*byte)),
            _ => write!(url, "%{byte:02X}").expect("a string takes any text"),
        }
    }
    url
}

/// Runs `initdb` for a new cluster in `target`, which must not exist. `sync` makes it survive a power cut.
pub fn initialise(binaries: &Binaries, account: &Account, target: &Path, sync: bool) -> Result<(), EmbeddedError> {
    let program = binaries.program("initdb");
    let mut command = account.command(&program);
    command
        .arg("--pgdata")
        .arg(target)
        .args(["--username", OWNER, "--auth=trust", "--encoding=UTF8", "--locale=C"])
        .args(["--data-checksums", "--no-instructions"])
        .args((!sync).then_some("--no-sync"))
        .stdout(Stdio::null());
    let output = command.output().map_err(|source| EmbeddedError::Program { program, source })?;
    if output.status.success() {
        return Ok(());
    }
    Err(EmbeddedError::Initdb { output: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

/// Everything before Postgres runs.
fn prepare(
    folder: Folder,
    account: Account,
    binaries: &Binaries,
    existing: Option<u32>,
    lock: Lock,
) -> Result<(Launch, Arc<Folder>), EmbeddedError> {
    let io = |source| EmbeddedError::Folder { folder: folder.root.clone(), source };
    if existing.is_none() {
        create(&folder, &account, binaries)?;
    } else {
        server::stop_leftover(&folder.cluster)?;
    }
    let socket_folder = folder.socket_folder(&account)?;
    folder.open_log().map_err(io)?;
    let folder = Arc::new(folder);
    let program = binaries.program("postgres");
    Ok((Launch { account, program, folder: Arc::clone(&folder), socket_folder, lock }, folder))
}

/// Makes the cluster beside its place and renames it: one that was interrupted is not mistaken for a whole one.
fn create(folder: &Folder, account: &Account, binaries: &Binaries) -> Result<(), EmbeddedError> {
    let io = |source| EmbeddedError::Folder { folder: folder.root.clone(), source };
    let part = folder.root.join("postgres.part");
    if part.exists() {
        std::fs::remove_dir_all(&part).map_err(io)?;
    }
    folder::private_folder(&part, account).map_err(io)?;
    tracing::info!(major = binaries.major(), folder = %folder.cluster.display(), "making a Postgres cluster");
    initialise(binaries, account, &part, true)?;
    std::fs::rename(&part, &folder.cluster).map_err(io)?;
    File::open(&folder.root).and_then(|root| root.sync_all()).map_err(io)
}

/// Waits until Postgres takes connections.
async fn ready(server: &Server, socket_folder: &Path, folder: &Folder) -> Result<Client, EmbeddedError> {
    let config: tokio_postgres::Config =
        socket_url(socket_folder, PORT, OWNER, "postgres").parse().expect("the URL is of our making");
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        if let Ok((client, connection)) = config.connect(NoTls).await {
            tokio::spawn(async move {
                // Its end is seen by the statement that it cuts off.
                drop(connection.await);
            });
            return Ok(client);
        }
        if server.exits() >= START_ATTEMPTS_MAX || Instant::now() > deadline {
            return Err(EmbeddedError::Start { log: folder.log.clone(), tail: folder.log_tail() });
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

/// What is there already stays: a start that was interrupted here is completed by the next.
async fn create_roles_and_database(client: &Client) -> Result<(), tokio_postgres::Error> {
    let role = "select exists (select from pg_roles where rolname = $1)";
    let database = "select exists (select from pg_database where datname = $1)";
    for (check, name, create) in [
        (role, SERVICE_ROLE, format!("create role {SERVICE_ROLE} nologin")),
        (role, LOGIN, format!("create role {LOGIN} login in role {SERVICE_ROLE}")),
        (database, DATABASE, format!("create database {DATABASE}")),
    ] {
        if !client.query_one(check, &[&name]).await?.get::<_, bool>(0) {
            client.batch_execute(&create).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_folder_can_be_in_a_url() {
        let folder = Path::new("/tmp/a folder/with%odd?names&é");
        let config: tokio_postgres::Config = socket_url(folder, 5433, "someone", "there").parse().unwrap();
        assert_eq!(config.get_hosts(), [tokio_postgres::config::Host::Unix(folder.into())]);
        assert_eq!((config.get_user(), config.get_dbname()), (Some("someone"), Some("there")));
    }
}
