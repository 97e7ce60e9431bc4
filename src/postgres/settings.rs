//! Reads a database URL and decides what every connection is made with: TLS or not, timeouts, role.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;
use zeroize::Zeroizing;

use super::dial::NewestEra;
use super::tls::{self, TlsError};
use super::{Options, SERVICE_ROLE};

/// A connection that says nothing for this long is asked whether it is alive, so that a firewall that forgot it, or a
/// primary that vanished, is noticed in seconds and not in the two hours of the kernel's default.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// The same for a connection with a statement under way, to which keepalives do not apply.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// A transaction that its client has forgotten holds locks and keeps old rows alive: Postgres ends it.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(30);

/// Why a database URL cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    // Without the parser's own text: it may quote the URL, and that holds a password.
    #[error("the database URL cannot be read: postgres://user:password@host:port/name?sslmode=require is the form")]
    Url,
    #[error("the database URL names no host")]
    NoHost,
    #[error(
        "sslmode=disable is refused for a host that is not this machine: the password would cross the network in clear"
    )]
    Plaintext,
    #[error(
        "target_session_attrs in the database URL asks for a server that cannot be written to; such a one lags, and what was \
         revoked would be good there: leave it out, or say read-write"
    )]
    Standby,
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// How to reach a database with one login.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
    pub(super) newest: NewestEra,
    /// Which of the hosts the last connection was made to.
    pub(super) last_good: Arc<AtomicUsize>,
}

impl Target {
    pub(super) fn parse(url: &SecretString, options: &Options) -> Result<Self, SettingsError> {
        let mut config = parse(url)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(SettingsError::NoHost);
        }
        let mode = ssl_mode(&config, options.ca_file.is_some())?;
        config.ssl_mode(mode);
        let tls = match mode {
            SslMode::Disable => tls::no_connector()?,
            _ => tls::connector(options.ca_file.as_deref())?,
        };
        if config.get_application_name().is_none() {
            config.application_name("portcullis");
        }
        // A standby answers every question, and lags: what was revoked on the primary would be good there. So the one that
        // can be written to is looked for among the hosts.
        match config.get_target_session_attrs() {
            TargetSessionAttrs::Any | TargetSessionAttrs::ReadWrite => {
                config.target_session_attrs(TargetSessionAttrs::ReadWrite);
            }
            _ => return Err(SettingsError::Standby),
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(options.connect_timeout);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(UNACKNOWLEDGED);
        }
        config
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES);
        Ok(Self { config, tls, newest: NewestEra::default(), last_good: Arc::default() })
    }

    /// The same login, in the role and with the limits of the service. They travel in the start-up packet: there is no
    /// moment in which a connection is open and has more rights, and `reset all` comes back to them.
    pub(super) fn as_service(&self, statement_timeout: Duration, raise_durability: bool) -> Self {
        let mut target = self.clone();
        let mut settings = format!(
            "-c role={SERVICE_ROLE} -c statement_timeout={} -c idle_in_transaction_session_timeout={}",
            statement_timeout.as_millis(),
            IDLE_IN_TRANSACTION.as_millis(),
        );
        if raise_durability {
            settings.push_str(" -c synchronous_commit=on");
        }
        target.add_settings(&settings);
        target
    }

    /// The same login for migrations: what they create lies in `public` or says where it lies, whatever the role's own
    /// search path is.
    pub(super) fn as_owner(&self) -> Self {
        let mut target = self.clone();
        target.add_settings("-c search_path=public -c statement_timeout=0");
        target
    }

    /// After those of the URL, so that ours win.
    fn add_settings(&mut self, settings: &str) {
        let mut all = self.config.get_options().unwrap_or_default().to_owned();
        write!(all, " {settings}").expect("a string takes any text");
        self.config.options(all.trim_start());
    }
}

fn parse(url: &SecretString) -> Result<Config, SettingsError> {
    let mut text = Zeroizing::new(url.expose_secret().to_owned());
    // What libpq calls verify-full is what `require` means here; the driver does not know the word. (`verify-ca` asks for
    // less; it gets more.)
    for word in ["sslmode=verify-full", "sslmode=verify-ca"] {
        if text.contains(word) {
            text = Zeroizing::new(text.replace(word, "sslmode=require"));
        }
    }
    text.parse().map_err(|_| SettingsError::Url)
}

/// `prefer`, the driver's default, would fall back to clear text when someone in the middle says that there is no TLS.
/// So it means `require` for another machine, and no TLS for this one, whose traffic nobody can read without being root.
fn ssl_mode(config: &Config, has_ca: bool) -> Result<SslMode, SettingsError> {
    let local = is_local(config);
    match config.get_ssl_mode() {
        SslMode::Disable if !local => Err(SettingsError::Plaintext),
        SslMode::Disable => Ok(SslMode::Disable),
        SslMode::Require => Ok(SslMode::Require),
        _ if local && !has_ca => Ok(SslMode::Disable),
        // A Unix socket carries no TLS.
        _ if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) => Ok(SslMode::Disable),
        _ => Ok(SslMode::Require),
    }
}

fn is_local(config: &Config) -> bool {
    config.get_hostaddrs().iter().all(IpAddr::is_loopback)
        && config.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str, has_ca: bool) -> Result<SslMode, SettingsError> {
        ssl_mode(&parse(&SecretString::from(url))?, has_ca)
    }

    #[test]
    fn tls_is_required_for_another_machine() {
        for (url, has_ca, expected) in [
            ("postgres://u@db.example/p", false, SslMode::Require),
            ("postgres://u@db.example/p?sslmode=prefer", false, SslMode::Require),
            ("postgres://u@db.example/p?sslmode=verify-full", false, SslMode::Require),
            ("postgres://u@10.0.0.1/p", false, SslMode::Require),
            ("postgres://u@localhost,db.example/p", false, SslMode::Require),
            ("postgres://u@localhost/p?hostaddr=10.0.0.1", false, SslMode::Require),
            ("postgres://u@localhost/p", false, SslMode::Disable),
            ("postgres://u@127.0.0.1/p", false, SslMode::Disable),
            ("postgres://u@127.0.0.1/p", true, SslMode::Require),
            ("postgres://u@127.0.0.1/p?sslmode=require", false, SslMode::Require),
            ("postgres://u@/p?host=/run/postgresql", true, SslMode::Disable),
        ] {
            assert_eq!(mode(url, has_ca).unwrap(), expected, "{url}");
        }
        assert!(matches!(mode("postgres://u@db.example/p?sslmode=disable", false), Err(SettingsError::Plaintext)));
    }

    #[test]
    fn a_url_that_cannot_be_read_is_not_repeated() {
        let error = parse(&SecretString::from("postgres://u:hunter2@h:port/p")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn the_settings_of_the_url_stay_and_ours_come_last() {
        let options = Options { ca_file: None, ..Options::new(SecretString::from("unused")) };
        let url = SecretString::from("postgres://u@localhost/p?options=-c%20work_mem%3D8MB");
        let target = Target::parse(&url, &options).unwrap().as_service(Duration::from_secs(2), true);
        let settings = target.config.get_options().unwrap();
        assert!(settings.starts_with("-c work_mem=8MB -c role=portcullis_service -c statement_timeout=2000 "));
        assert!(settings.ends_with("synchronous_commit=on"));
    }
}
