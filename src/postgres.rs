//! The way to Postgres: pooled connections, dedicated ones, TLS, migrations, and the private cluster of the default.
//!
//! Every connection of the service is in the role `portcullis_service` from its first moment: it can add to the log and
//! read it. Only [`Database::migrate`] connects as the owner, and only for as long as that takes.

mod dial;
pub mod embedded;
mod migrations;
mod program;
mod settings;
mod tls;

use std::error::Error;
use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, Connection, Notification, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use self::dial::ConnectError;
use self::dial::{Dialed, Dialer, Era, NewestEra};
pub use self::migrations::{MigrationError, Report};
pub use self::program::client_program;
pub use self::settings::SettingsError;
use self::settings::Target;
pub use self::tls::TlsError;

/// The role that the service runs as, whatever it logs in as. `V1__log.sql` says what it may do.
pub const SERVICE_ROLE: &str = "portcullis_service";

/// The oldest Postgres that is tested: as `server_version_num` writes it.
const SERVER_VERSION_MIN: i32 = 150_000;

/// How long one address may take to answer, unless configured.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How many notifications wait for a session that is busy. More would say nothing new: each means "look again".
const NOTIFICATIONS_MAX: usize = 16;

/// How to reach the database, and how patiently.
#[derive(Clone, Debug)]
pub struct Options {
    /// The login of the service: a member of [`SERVICE_ROLE`].
    pub url: SecretString,
    /// The login that owns the schema and migrates it; without one, `url` does that too.
    pub owner_url: Option<SecretString>,
    /// The CA that signed the server's certificate, instead of the platform's roots.
    pub ca_file: Option<PathBuf>,
    pub pool_size: usize,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
    /// How long [`Database::client`] waits for a connection to come free.
    pub acquire_timeout: Duration,
    /// Accept a server that may lose what it has acknowledged. For throwaway clusters of tests; nowhere else.
    pub allow_unsafe_durability: bool,
}

impl Options {
    /// The defaults, for the database at `url`.
    #[must_use]
    pub fn new(url: SecretString) -> Self {
        Self {
            url,
            owner_url: None,
            ca_file: None,
            pool_size: 8,
            connect_timeout: CONNECT_TIMEOUT,
            statement_timeout: Duration::from_secs(30),
            acquire_timeout: Duration::from_secs(5),
            allow_unsafe_durability: false,
        }
    }
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("cannot connect to the database: {0}")]
    Connect(#[from] ConnectError),
    #[error("the database does not answer: {}", chain(.0))]
    Query(#[source] tokio_postgres::Error),
    #[error("the server is Postgres {found}, and at least version 15 is needed")]
    ServerTooOld { found: String },
    #[error("the server runs with fsync=off, and may lose what it has acknowledged: set it to on")]
    NotDurable,
    #[error(
        "a backup is being put in place in this database, or was and did not come to its end: run `portcullis restore` again. \
         Nothing is served from it before that"
    )]
    HalfRestored,
    #[error("the pool of connections cannot be made")]
    Pool(#[source] deadpool_postgres::BuildError),
}

/// Why no pooled connection was to be had.
#[derive(Debug, thiserror::Error)]
#[error("no connection to the database: {}", chain(.source))]
pub struct PoolError {
    #[source]
    source: deadpool_postgres::PoolError,
    reachable: bool,
}

impl PoolError {
    /// Whether all connections were in use for the whole of `acquire_timeout`: too much at once, and not a database
    /// that is down. Of one that is down, all places are taken by those who try to connect.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        let waited = matches!(self.source, deadpool_postgres::PoolError::Timeout(deadpool_postgres::TimeoutType::Wait));
        self.reachable && waited
    }
}

/// A database of Portcullis. Cheap to clone; all clones share one pool.
#[derive(Clone)]
pub struct Database {
    pool: Pool,
    service: Target,
    owner: Target,
    /// The newest timeline when a pooled connection was last asked for.
    pooled: Arc<AtomicU32>,
    /// Whether the pool's last attempt to connect was a success.
    reachable: Arc<AtomicBool>,
}

/// A connection of one's own: the writer's, or one that listens. It ends when `client` is dropped.
pub struct Session {
    pub client: Client,
    /// Says "look again" for every channel that was listened to. Those that find it full are dropped: whoever has not
    /// yet read the earlier ones will look after them, and sees everything then. Ends when the connection does.
    pub notifications: mpsc::Receiver<Notification>,
    era: Option<Era>,
    newest: NewestEra,
}

// === impl Database ===

impl Database {
    /// Connects once, to see that the server is one to trust with the log. Migrates nothing: see [`Database::migrate`].
    pub async fn open(options: Options) -> Result<Self, DatabaseError> {
        let login = Target::parse(&options.url, &options)?;
        login.look_round().await;
        let mut owner = match &options.owner_url {
            Some(url) => Target::parse(url, &options)?,
            None => login.clone(),
        };
        // What one of them knows of a standby that took over, the other knows: a migration on an old primary is lost.
        owner.newest = login.newest.clone();
        let raise_durability = inspect(&login, options.allow_unsafe_durability).await?;
        let service = login.as_service(options.statement_timeout, raise_durability);
        let reachable = Arc::new(AtomicBool::new(true));
        // Verified: a connection is tried before it is handed out, and replaced when it has died in the pool.
        let manager = Manager::from_connect(
            service.config.clone(),
            Dialer::new(service.clone(), reachable.clone()),
            ManagerConfig { recycling_method: RecyclingMethod::Verified },
        );
        let pool = Pool::builder(manager)
            .max_size(options.pool_size)
            .wait_timeout(Some(options.acquire_timeout))
            .create_timeout(Some(service.patience_of_all()))
            .recycle_timeout(Some(options.connect_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(DatabaseError::Pool)?;
        let pooled = Arc::new(AtomicU32::new(service.newest.timeline()));
        Ok(Self { pool, service, owner: owner.as_owner(), pooled, reachable })
    }

    /// Brings the schema up to date and lets the service's login serve, as the owner. Several may try at once: one does it, the others wait and find it done.
    pub async fn migrate(&self) -> Result<Report, MigrationError> {
        let Dialed { client, .. } = self.owner.connect(&unheard()).await?;
        let (login, owner) = (self.service.config.get_user(), self.owner.config.get_user());
        migrations::run(client, login.filter(|_| login != owner)).await
    }

    /// A connection as the owner: for what a backup reads, and a restore writes.
    pub async fn owner(&self) -> Result<Client, DatabaseError> {
        let Dialed { client, .. } = self.owner.connect(&unheard()).await?;
        Ok(client)
    }

    /// Which root key the log that lies here was begun with, as its public check value; `None` where there is no log yet.
    ///
    /// Asked before anything is migrated or written, and so as the owner: the service's role may not be there yet.
    pub async fn root_key_check(&self) -> Result<Option<Vec<u8>>, DatabaseError> {
        let Dialed { client, .. } = self.owner.connect(&unheard()).await?;
        let there =
            client.query_one(include_str!("postgres/has_genesis.sql"), &[]).await.map_err(DatabaseError::Query)?;
        if there.get::<_, bool>("is_half_restored") {
            return Err(DatabaseError::HalfRestored);
        }
        if !there.get::<_, bool>("has_log") {
            return Ok(None);
        }
        let row = client.query_opt(include_str!("postgres/root_key_check.sql"), &[]).await;
        Ok(row.map_err(DatabaseError::Query)?.map(|row| row.get(0)))
    }

    /// A pooled connection in the service's role. The schema must be there: before [`Database::migrate`] this fails.
    pub async fn client(&self) -> Result<deadpool_postgres::Object, PoolError> {
        let newest = self.service.newest.timeline();
        if self.pooled.swap(newest, Ordering::Relaxed) != newest {
            // A standby took over: what is connected to the server before it would read what was true there.
            self.pool.retain(|_, _| false);
        }
        let reachable = || self.reachable.load(Ordering::Relaxed);
        self.pool.get().await.map_err(|source| PoolError { source, reachable: reachable() })
    }

    /// A connection outside the pool, in the service's role.
    pub async fn session(&self) -> Result<Session, DatabaseError> {
        let (sender, notifications) = mpsc::channel(NOTIFICATIONS_MAX);
        // Whoever connects anew may have lost a server that others can still reach, or that still answers and has been
        // superseded: what the other hosts say is known a moment later, and `is_superseded` tells.
        tokio::spawn({
            let service = self.service.clone();
            async move { service.look_round().await }
        });
        // On the heap: to connect takes much more state than those who wait for it.
        let Dialed { client, era, .. } = Box::pin(self.service.connect(&sender)).await?;
        Ok(Session { client, notifications, era, newest: self.service.newest.clone() })
    }

    /// How many connections the pool has, and how many of them are free.
    #[must_use]
    pub fn pool_status(&self) -> deadpool_postgres::Status {
        self.pool.status()
    }
}

impl Session {
    /// Whether this process has seen, over another connection, that a standby has taken this server's place.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        self.newest.is_past(self.era)
    }
}

/// Where notifications go that nobody listens to.
fn unheard() -> mpsc::Sender<Notification> {
    mpsc::channel(1).0
}

/// Whether the server has refused what it would refuse again, such as what the role has no right to or what the schema lacks.
/// By the class of the error: what has to do with connections, locks, races, space or a server that is going down passes.
#[must_use]
pub fn is_refused_for_good(error: &tokio_postgres::Error) -> bool {
    const CLASSES: [&str; 9] = ["0A", "22", "23", "2F", "3D", "3F", "42", "44", "P0"];
    error.code().is_some_and(|code| CLASSES.iter().any(|class| code.code().starts_with(class)))
}

/// Looks at the server, and answers whether the service has to ask for durable commits itself.
async fn inspect(login: &Target, allow_unsafe_durability: bool) -> Result<bool, DatabaseError> {
    let Dialed { client, .. } = login.connect(&unheard()).await?;
    let row = client.query_one(include_str!("postgres/inspect.sql"), &[]).await.map_err(DatabaseError::Query)?;
    if row.get::<_, i32>("version_number") < SERVER_VERSION_MIN {
        return Err(DatabaseError::ServerTooOld { found: row.get("version") });
    }
    if allow_unsafe_durability {
        return Ok(false);
    }
    if row.get::<_, &str>("fsync") == "off" {
        return Err(DatabaseError::NotDurable);
    }
    // Only raised, never set outright: `remote_apply` promises more than `on`, and a DBA who chose it means it.
    Ok(matches!(row.get("synchronous_commit"), "off" | "local"))
}

/// Moves a connection's bytes until either side ends it.
async fn drive(
    mut connection: Connection<Socket, <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream>,
    notifications: mpsc::Sender<Notification>,
) {
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            // Full, or nobody there who listens: see `Session::notifications`.
            Some(Ok(AsyncMessage::Notification(notification))) => drop(notifications.try_send(notification)),
            Some(Ok(AsyncMessage::Notice(notice))) => tracing::debug!(%notice, "the database says"),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::warn!(error = chain(&error), "a connection to the database ended");
                return;
            }
            None => return,
        }
    }
}

/// An error with all its causes in one line: the driver's own text stops at "db error".
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
