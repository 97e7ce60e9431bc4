//! Making a connection: every address of the URL gets its own time, and an old primary is not taken for the new one.
//!
//! The driver limits how long it takes to open a socket, and not what follows. A primary that hangs accepts the socket all
//! the same, its kernel does, and is then waited for without an end, while the standby that has taken its place is never
//! asked. So each address is asked by itself, here, and given up after `connect_timeout`.

use std::fmt;
use std::future::pending;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::Connect;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, Notification};

use super::settings::Target;
use super::{chain, drive};

const PORT_DEFAULT: u16 = 5432;

/// Why no connection was made: of several addresses, what the last one had to say, unless an old primary was among them.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{}", chain(.0))]
    Driver(#[source] tokio_postgres::Error),
    #[error(
        "database does not allow writes: it is a standby, or was set read-only. A standby lags, and what was revoked would be \
         good there; name the primary in the database URL, or all hosts, of which the primary is found"
    )]
    ReadOnly,
    #[error("the name of the host cannot be looked up")]
    Name(#[source] std::io::Error),
    #[error("the server did not answer within {0:?}")]
    Silent(Duration),
    #[error(
        "the server is an old primary: it is on timeline {found} of its history, and this node has seen timeline {known}; \
         stop it for good"
    )]
    OldPrimary { found: u32, known: u32 },
}

impl ConnectError {
    /// What an operator has to know is not lost behind a host that is merely down.
    fn or_worse(self, next: Self) -> Self {
        if matches!(self, Self::OldPrimary { .. }) { self } else { next }
    }
}

impl From<tokio_postgres::Error> for ConnectError {
    /// The driver has no kind for a server that cannot be written to, only a text.
    fn from(error: tokio_postgres::Error) -> Self {
        let said = std::error::Error::source(&error).map(ToString::to_string);
        if said.as_deref() == Some("database does not allow writes") { Self::ReadOnly } else { Self::Driver(error) }
    }
}

/// How far along its own history a server is. Each promotion of a standby begins a new timeline, with a greater number;
/// what is written on the one before, from then on, is written beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Era {
    /// Of the cluster and of all its copies.
    system: i64,
    timeline: u32,
}

/// The newest era that any connection of this process has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct NewestEra(Arc<Mutex<Option<Era>>>);

// === impl NewestEra ===

impl NewestEra {
    fn known(&self) -> MutexGuard<'_, Option<Era>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of it; an old one is an error. Of another cluster nothing can be said by its number: what lies in it is
    /// for the seals of the log to judge.
    fn advance(&self, found: Era) -> Result<(), ConnectError> {
        let mut known = self.known();
        match *known {
            Some(known) if found.is_before(known) => {
                Err(ConnectError::OldPrimary { found: found.timeline, known: known.timeline })
            }
            _ => {
                *known = Some(found);
                Ok(())
            }
        }
    }

    /// The number of the newest; 0 where none is known.
    pub(super) fn timeline(&self) -> u32 {
        self.known().map_or(0, |era| era.timeline)
    }

    /// Whether another connection has seen a later one.
    pub(super) fn is_past(&self, era: Option<Era>) -> bool {
        era.is_some_and(|era| self.known().is_some_and(|known| era.is_before(known)))
    }
}

impl Era {
    fn is_before(self, other: Self) -> bool {
        self.system == other.system && self.timeline < other.timeline
    }

    /// `None` where the server does not tell, as some that are run for others do not.
    async fn of(client: &Client) -> Option<Self> {
        let row = client.query_one(include_str!("era.sql"), &[]).await;
        let row =
            row.inspect_err(|error| tracing::debug!(error = chain(error), "the server does not tell its timeline"));
        let row = row.ok()?;
        let timeline: Option<i32> = row.try_get("timeline").ok()?;
        Some(Self { system: row.try_get("system").ok()?, timeline: timeline?.cast_unsigned() })
    }
}

// === impl Target ===

impl Target {
    /// A connection to the first address that is one to write to, beginning with the host that was so the last time: one
    /// that hangs would cost every new connection its time. What is notified there goes to `heard`.
    pub(super) async fn connect(&self, heard: &mpsc::Sender<Notification>) -> Result<Dialed, ConnectError> {
        let patience = self.patience();
        let mut last = ConnectError::Silent(patience);
        let count = self.host_count();
        let first = self.last_good.load(Ordering::Relaxed);
        for number in (0..count).map(|nth| (first + nth) % count) {
            let addresses = match within(patience, addresses(&self.config, number)).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    last = last.or_worse(error);
                    continue;
                }
            };
            for address in addresses {
                match within(patience, self.connect_to(&address, heard.clone())).await {
                    Ok(dialed) => {
                        self.last_good.store(number, Ordering::Relaxed);
                        return Ok(dialed);
                    }
                    Err(error) => last = last.or_worse(error),
                }
            }
        }
        Err(last)
    }

    /// Looks at all hosts, where there are several, so that the newest era is known before the first of them is chosen: an
    /// old primary that was not stopped may stand before the new one. Whoever does not answer is left out.
    pub(super) async fn look_round(&self) {
        if self.host_count() < 2 {
            return;
        }
        let patience = self.patience();
        let look = async |number| {
            let (unheard, _) = mpsc::channel(1);
            let mut last = Ok(());
            for address in within(patience, addresses(&self.config, number)).await? {
                last = within(patience, self.connect_to(&address, unheard.clone())).await.map(|_| ());
            }
            last
        };
        let looks = (0..self.host_count()).map(look);
        for (number, looked) in futures_util::future::join_all(looks).await.into_iter().enumerate() {
            if let Err(error) = looked {
                tracing::debug!(%error, number, "a host of the database URL is not one to write to");
            }
        }
    }

    async fn connect_to(&self, address: &Config, heard: mpsc::Sender<Notification>) -> Result<Dialed, ConnectError> {
        let (client, connection) = address.connect(self.tls.clone()).await?;
        let driven = tokio::spawn(drive(connection, heard));
        let era = Era::of(&client).await;
        era.map_or(Ok(()), |era| self.newest.advance(era))?;
        Ok(Dialed { client, driven, era })
    }

    /// For each address.
    fn patience(&self) -> Duration {
        self.config.get_connect_timeout().copied().unwrap_or(super::CONNECT_TIMEOUT)
    }

    /// How long it may take until the last of them has had its time, if each name has one address.
    pub(super) fn patience_of_all(&self) -> Duration {
        self.patience() * u32::try_from(self.host_count()).unwrap_or(u32::MAX)
    }

    fn host_count(&self) -> usize {
        self.config.get_hosts().len().max(self.config.get_hostaddrs().len())
    }
}

/// A connection that was made, and the task that moves its bytes.
pub(super) struct Dialed {
    pub(super) client: Client,
    pub(super) driven: JoinHandle<()>,
    pub(super) era: Option<Era>,
}

async fn within<T>(
    patience: Duration,
    answer: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    tokio::time::timeout(patience, answer).await.unwrap_or(Err(ConnectError::Silent(patience)))
}

/// The same settings, for each address of one host of them.
async fn addresses(config: &Config, number: usize) -> Result<Vec<Config>, ConnectError> {
    let host = config.get_hosts().get(number);
    let port = config.get_ports().get(number).or(config.get_ports().first()).copied().unwrap_or(PORT_DEFAULT);
    let one = || {
        let mut one = without_hosts(config);
        one.port(port);
        one
    };
    let (name, found) = match (host, config.get_hostaddrs().get(number)) {
        (Some(Host::Unix(folder)), None) => {
            let mut one = one();
            one.host_path(folder);
            return Ok(vec![one]);
        }
        (Some(Host::Tcp(name)), None) => {
            let found = tokio::net::lookup_host((&**name, port)).await.map_err(ConnectError::Name)?;
            (Some(name), found.map(|found| found.ip()).collect())
        }
        (Some(Host::Tcp(name)), Some(address)) => (Some(name), vec![*address]),
        (Some(Host::Unix(_)) | None, address) => (None, address.copied().into_iter().collect()),
    };
    let addressed = found.into_iter().map(|address| {
        let mut one = one();
        // The certificate is that of the name.
        if let Some(name) = name {
            one.host(name);
        }
        one.hostaddr(address);
        one
    });
    Ok(addressed.collect())
}

/// All but where the server is. `load_balance_hosts` goes too: there is one to write to, and no load to balance.
fn without_hosts(config: &Config) -> Config {
    let mut bare = Config::new();
    if let Some(user) = config.get_user() {
        bare.user(user);
    }
    if let Some(password) = config.get_password() {
        bare.password(password);
    }
    if let Some(name) = config.get_dbname() {
        bare.dbname(name);
    }
    if let Some(options) = config.get_options() {
        bare.options(options);
    }
    if let Some(name) = config.get_application_name() {
        bare.application_name(name);
    }
    if let Some(timeout) = config.get_connect_timeout() {
        bare.connect_timeout(*timeout);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        bare.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        bare.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        bare.keepalives_retries(retries);
    }
    bare.keepalives(config.get_keepalives()).keepalives_idle(config.get_keepalives_idle());
    bare.ssl_mode(config.get_ssl_mode()).ssl_negotiation(config.get_ssl_negotiation());
    bare.channel_binding(config.get_channel_binding()).target_session_attrs(config.get_target_session_attrs());
    bare
}

// === the pool's connections ===

/// How the pool makes its connections.
pub(super) struct Dialer {
    target: Target,
    reachable: Arc<AtomicBool>,
}

impl Dialer {
    /// `reachable` says from now on whether the last connection that was asked for was made, or is still waited for.
    pub(super) fn new(target: Target, reachable: Arc<AtomicBool>) -> Self {
        Self { target, reachable }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Dialer")
    }
}

type Connecting<'a> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + 'a>>;

impl Connect for Dialer {
    fn connect(&self, _: &Config) -> Connecting<'_> {
        Box::pin(async {
            let (unheard, _) = mpsc::channel(1);
            let connected = self.target.connect(&unheard).await;
            self.reachable.store(connected.is_ok(), Ordering::Relaxed);
            match connected {
                Ok(Dialed { client, driven, .. }) => Ok((client, driven)),
                Err(ConnectError::Driver(error)) => Err(error),
                // The pool knows no errors but the driver's, and has a limit of its own, which is about to end.
                Err(error) => {
                    tracing::warn!(%error, "cannot connect to the database");
                    pending().await
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(url: &str) -> Vec<String> {
        let config: Config = url.parse().expect("a URL");
        let mut told = Vec::new();
        for number in 0..config.get_hosts().len().max(config.get_hostaddrs().len()) {
            for one in addresses(&config, number).await.expect("addresses") {
                told.push(format!("{:?} {:?} {:?}", one.get_hosts(), one.get_hostaddrs(), one.get_ports()));
            }
        }
        told
    }

    #[tokio::test]
    async fn every_host_is_asked_by_itself_at_its_own_port() {
        assert_eq!(
            told("postgres://u@127.0.0.1:1,127.0.0.2:2/p").await,
            [r#"[Tcp("127.0.0.1")] [127.0.0.1] [1]"#, r#"[Tcp("127.0.0.2")] [127.0.0.2] [2]"#]
        );
        assert_eq!(
            told("postgres://u@%2Frun%2Fa:7,%2Frun%2Fb:7/p").await,
            [r#"[Unix("/run/a")] [] [7]"#, r#"[Unix("/run/b")] [] [7]"#]
        );
        assert_eq!(
            told("postgres://u@db.example/p?hostaddr=10.0.0.1").await,
            [r#"[Tcp("db.example")] [10.0.0.1] [5432]"#],
            "the certificate is that of the name"
        );
        assert_eq!(told("postgres://u@/p?hostaddr=10.0.0.1").await, ["[] [10.0.0.1] [5432]"]);
    }

    #[tokio::test]
    async fn all_else_is_as_the_url_says() {
        let url = "postgres://u:secret@127.0.0.1/p?options=-c%20a%3Db&application_name=it&connect_timeout=3&keepalives=1\
                   &tcp_user_timeout=4&keepalives_idle=5&keepalives_interval=6&keepalives_retries=7&sslmode=require\
                   &sslnegotiation=direct&channel_binding=require&target_session_attrs=read-write";
        let config: Config = url.parse().expect("a URL");
        let mut again = addresses(&config, 0).await.expect("an address").remove(0);
        let mut expected = config.clone();
        // Where it was looked up is all that is added.
        again.load_balance_hosts(config.get_load_balance_hosts());
        expected.hostaddr("127.0.0.1".parse().expect("an address"));
        assert_eq!(again, expected);
    }

    #[test]
    fn an_old_primary_is_known_by_its_timeline() {
        let newest = NewestEra::default();
        let era = |system, timeline| Era { system, timeline };
        newest.advance(era(7, 1)).expect("the first");
        newest.advance(era(7, 2)).expect("a promotion");
        assert!(matches!(newest.advance(era(7, 1)), Err(ConnectError::OldPrimary { found: 1, known: 2 })));
        assert!(newest.is_past(Some(era(7, 1))) && !newest.is_past(Some(era(7, 2))) && !newest.is_past(None));
        newest.advance(era(8, 1)).expect("another cluster, of which the log says what to think");
    }
}
