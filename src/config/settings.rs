//! What the options amount to together: checked once, here, so that nothing later has to ask whether they agree.
//! Every refusal names the option and the remedy, and none repeats a secret.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::BaseStrategy as _;
use ipnet::IpNet;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use super::{DatabaseArgs, ServeArgs, TlsArgs};
use crate::telemetry::TelemetryOptions;

/// No URL and no enrollment secret comes near this; a larger file is some other file.
const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// What the service runs with.
#[derive(Debug)]
pub struct Settings {
    pub data_dir: PathBuf,
    pub bind: SocketAddr,
    /// Without a slash at its end: it is compared as text, by every verifier of tokens.
    pub public_url: String,
    pub root_key_file: PathBuf,
    /// Where the mirror of the log is, if one is kept.
    pub mirror: Option<PathBuf>,
    pub auto_enrollment_key: Option<SecretString>,
    /// Whether this start makes a further admin.
    pub new_admin: bool,
    pub queue_length: usize,
    pub incident_templates: Option<PathBuf>,
    /// Of this node, for people.
    pub node_name: String,
    pub max_stale: Duration,
    /// Who else may vouch for the receivers of webhooks.
    pub webhook_ca: Option<PathBuf>,
    /// How often they are asked before they are given up.
    pub webhook_attempts: u64,
    pub database: DatabaseSource,
    pub tls: TlsSource,
    pub limits: Limits,
    pub telemetry: TelemetryOptions,
    /// The name of this machine, when it has one that a certificate may carry.
    pub host_name: Option<String>,
}

/// Where the log lives.
#[derive(Debug)]
pub enum DatabaseSource {
    /// A private cluster under the data directory.
    Embedded { pool_size: usize, connect_timeout: Duration, statement_timeout: Duration },
    Own {
        url: SecretString,
        owner_url: Option<SecretString>,
        ca_file: Option<PathBuf>,
        pool_size: usize,
        connect_timeout: Duration,
        statement_timeout: Duration,
        allow_unsafe_durability: bool,
    },
}

/// What the listener proves itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSource {
    /// A certificate from our own authority, kept under the data directory.
    OwnAuthority,
    Files {
        cert: PathBuf,
        key: PathBuf,
    },
    Plaintext,
}

/// What one client, or all of them, may take.
#[derive(Clone, Debug)]
pub struct Limits {
    pub trusted_proxies: Vec<IpNet>,
    pub request_timeout: Duration,
    pub body_bytes_max: usize,
    pub connections_max: usize,
    pub shutdown_grace: Duration,
}

/// What the settings take from around the process, as values, so that a test can say them.
pub struct Surroundings<'a> {
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    pub host_name: Option<String>,
    pub data_dir: Option<PathBuf>,
}

impl Surroundings<'static> {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self {
            variable: &|name| std::env::var(name).ok().filter(|value| !value.is_empty()),
            host_name: rustix::system::uname().nodename().to_str().ok().map(str::to_owned),
            data_dir: platform_data_dir(),
        }
    }
}

/// Where the platform keeps a program's data: for root, as for any service, below `/var/lib` (FHS 3.0, section 5.8). Root's
/// home is closed to the user under whom Postgres has to run.
pub fn platform_data_dir() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/portcullis"));
    }
    etcetera::choose_base_strategy().ok().map(|base| base.data_dir().join("portcullis"))
}

/// Why the options do not make settings. The text is for whoever typed them.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("there is no home directory to put the data into; give `--data-dir` (PORTCULLIS_DATA_DIR)")]
    NoDataDir,
    #[error("`--public-url` {0}; give the URL that clients use, such as `https://portcullis.example.org`")]
    PublicUrl(&'static str),
    #[error(
        "`{option}` holds a password, and every user of this machine can read the command line; \
         use {variable} or `{option}-file`"
    )]
    PasswordOnCommandLine { option: &'static str, variable: &'static str },
    #[error(
        "`{option}` ({variable}) is no database URL; write it as `postgres://user@host/database`, \
         with special characters of the password percent-encoded"
    )]
    DatabaseUrl { option: &'static str, variable: &'static str },
    #[error("`{given}` is of no use without `--database-url` (PORTCULLIS_DATABASE_URL): name the database too")]
    NeedsDatabaseUrl { given: &'static str },
    #[error("{first} and {second} are both given; keep one")]
    GivenTwice { first: &'static str, second: &'static str },
    #[error("`{option}`: cannot read {}: {source}", path.display())]
    SecretFile { option: &'static str, path: PathBuf, source: io::Error },
    #[error("`{option}`: {} {what}; write the secret into it as its only line", path.display())]
    SecretFileContent { option: &'static str, path: PathBuf, what: &'static str },
    #[error("`{given}` is given without `{missing}`; a certificate and its key go together")]
    HalfCertificate { given: &'static str, missing: &'static str },
    #[error("`--disable-tls` and `--tls-cert` are both given; keep one")]
    TlsBothWays,
    #[error(
        "`--disable-tls` on {0} would send credentials in clear to other machines; bind to 127.0.0.1, \
         or drop `--disable-tls`, or accept it with `--allow-plaintext`"
    )]
    PlaintextBeyondLoopback(SocketAddr),
    #[error("`--otlp-endpoint` (OTEL_EXPORTER_OTLP_ENDPOINT) {0}; write it as `http://collector:4317`")]
    OtlpEndpoint(&'static str),
}

impl Settings {
    pub fn new(args: ServeArgs, around: &Surroundings<'_>) -> Result<Self, SettingsError> {
        let tls = tls_source(&args.tls, args.bind)?;
        let host_name = around.host_name.clone().filter(|name| is_dns_name(name));
        let public_url = match &args.public_url {
            Some(text) => public_url(text)?,
            None => default_public_url(args.bind, &tls, host_name.as_deref()),
        };
        let data_dir = args.data_dir.or_else(|| around.data_dir.clone()).ok_or(SettingsError::NoDataDir)?;
        let otlp_endpoint = args.telemetry.otlp_endpoint.filter(|text| !text.is_empty());
        if let Some(text) = &otlp_endpoint {
            check_otlp_endpoint(text)?;
        }
        Ok(Self {
            root_key_file: args.root_key_file.unwrap_or_else(|| data_dir.join("root.key")),
            mirror: (!args.no_mirror).then(|| args.mirror.unwrap_or_else(|| data_dir.join("mirror"))),
            data_dir,
            bind: args.bind,
            public_url,
            auto_enrollment_key: auto_enrollment_key(args.auto_enrollment_key_file.as_deref(), around)?,
            new_admin: args.new_admin,
            queue_length: args.queue_length as usize,
            incident_templates: args.incident_templates,
            node_name: args.node.node_name.or_else(|| around.host_name.clone()).unwrap_or_else(|| "node".to_owned()),
            max_stale: args.node.max_stale,
            webhook_ca: args.webhook_ca,
            webhook_attempts: args.webhook_attempts,
            database: database_source(&args.database, around)?,
            tls,
            limits: Limits {
                trusted_proxies: args.limits.trusted_proxy,
                request_timeout: args.limits.request_timeout,
                body_bytes_max: args.limits.body_limit,
                connections_max: args.limits.max_connections as usize,
                shutdown_grace: args.limits.shutdown_grace,
            },
            telemetry: TelemetryOptions {
                log_format: args.telemetry.log_format,
                log_filter: args.telemetry.log,
                otlp_endpoint,
            },
            host_name,
        })
    }

    /// Every name by which a client may call this service, for the certificate that we make.
    pub fn certificate_names(&self) -> Vec<String> {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        if !self.bind.ip().is_unspecified() {
            names.push(self.bind.ip().to_string());
        }
        let public_host = Url::parse(&self.public_url).ok().and_then(|url| url.host_str().map(str::to_owned));
        // A URL writes an IPv6 address in brackets, a certificate without.
        names.extend(public_host.map(|host| host.trim_matches(['[', ']']).to_owned()));
        names.extend(self.host_name.clone());
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn tls_source(args: &TlsArgs, bind: SocketAddr) -> Result<TlsSource, SettingsError> {
    match (&args.tls_cert, &args.tls_key, args.disable_tls) {
        (Some(_), _, true) | (_, Some(_), true) => Err(SettingsError::TlsBothWays),
        (None, None, true) if bind.ip().is_loopback() || args.allow_plaintext => Ok(TlsSource::Plaintext),
        (None, None, true) => Err(SettingsError::PlaintextBeyondLoopback(bind)),
        (Some(_), None, false) => Err(SettingsError::HalfCertificate { given: "--tls-cert", missing: "--tls-key" }),
        (None, Some(_), false) => Err(SettingsError::HalfCertificate { given: "--tls-key", missing: "--tls-cert" }),
        (Some(cert), Some(key), false) => Ok(TlsSource::Files { cert: cert.clone(), key: key.clone() }),
        (None, None, false) => Ok(TlsSource::OwnAuthority),
    }
}

fn public_url(text: &str) -> Result<String, SettingsError> {
    let url = Url::parse(text).map_err(|_| SettingsError::PublicUrl("is no URL"))?;
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() {
        return Err(SettingsError::PublicUrl("is no https URL with a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SettingsError::PublicUrl("must hold no user and no password: everyone sees it"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(SettingsError::PublicUrl("must have no query and no fragment"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// A listener on all addresses is called by none of them: the machine's name stands in, else `localhost`.
fn default_public_url(bind: SocketAddr, tls: &TlsSource, host_name: Option<&str>) -> String {
    let scheme = if *tls == TlsSource::Plaintext { "http" } else { "https" };
    if bind.ip().is_unspecified() {
        format!("{scheme}://{}:{}", host_name.unwrap_or("localhost"), bind.port())
    } else {
        format!("{scheme}://{bind}")
    }
}

/// Where the log lies, of what was typed and set.
pub fn database_source(args: &DatabaseArgs, around: &Surroundings<'_>) -> Result<DatabaseSource, SettingsError> {
    let url = UrlOption {
        option: "--database-url",
        variable: "PORTCULLIS_DATABASE_URL",
        file_option: "--database-url-file",
        typed: args.database_url.as_deref(),
        file: args.database_url_file.as_deref(),
    };
    let owner_url = UrlOption {
        option: "--owner-database-url",
        variable: "PORTCULLIS_OWNER_DATABASE_URL",
        file_option: "--owner-database-url-file",
        typed: args.owner_database_url.as_deref(),
        file: args.owner_database_url_file.as_deref(),
    };
    let (url, owner_url) = (url.read(around)?, owner_url.read(around)?);
    let pool_size = usize::from(args.database_pool_size);
    let connect_timeout = args.database_connect_timeout;
    let statement_timeout = args.database_statement_timeout;
    let ca_file = args.database_ca.clone();
    match url {
        Some(url) => Ok(DatabaseSource::Own {
            url,
            owner_url,
            ca_file,
            pool_size,
            connect_timeout,
            statement_timeout,
            allow_unsafe_durability: args.allow_unsafe_durability,
        }),
        None if owner_url.is_some() => Err(SettingsError::NeedsDatabaseUrl { given: "--owner-database-url" }),
        None if ca_file.is_some() => Err(SettingsError::NeedsDatabaseUrl { given: "--database-ca" }),
        None => Ok(DatabaseSource::Embedded { pool_size, connect_timeout, statement_timeout }),
    }
}

/// The three ways to name a database; what is typed wins over the file, the file over the variable.
struct UrlOption<'a> {
    option: &'static str,
    variable: &'static str,
    file_option: &'static str,
    typed: Option<&'a str>,
    file: Option<&'a Path>,
}

impl UrlOption<'_> {
    fn read(&self, around: &Surroundings<'_>) -> Result<Option<SecretString>, SettingsError> {
        let Self { option, variable, .. } = *self;
        let url = if let Some(text) = self.typed {
            SecretString::from(text)
        } else if let Some(path) = self.file {
            secret_file(self.file_option, path)?
        } else if let Some(text) = (around.variable)(variable) {
            SecretString::from(text)
        } else {
            return Ok(None);
        };
        // The parser's own error is dropped: it may quote the text, and the text holds the password.
        let parsed: tokio_postgres::Config =
            url.expose_secret().parse().map_err(|_| SettingsError::DatabaseUrl { option, variable })?;
        if self.typed.is_some() && parsed.get_password().is_some() {
            return Err(SettingsError::PasswordOnCommandLine { option, variable });
        }
        Ok(Some(url))
    }
}

fn auto_enrollment_key(file: Option<&Path>, around: &Surroundings<'_>) -> Result<Option<SecretString>, SettingsError> {
    const OPTION: &str = "--auto-enrollment-key-file";
    const VARIABLE: &str = "PORTCULLIS_AUTO_ENROLLMENT_KEY";
    match (file, (around.variable)(VARIABLE)) {
        (Some(_), Some(_)) => Err(SettingsError::GivenTwice { first: OPTION, second: VARIABLE }),
        (Some(path), None) => secret_file(OPTION, path).map(Some),
        (None, key) => Ok(key.map(SecretString::from)),
    }
}

/// Reads a file whose only line is a secret; editors and `echo` end it with a newline that is no part of it.
fn secret_file(option: &'static str, path: &Path) -> Result<SecretString, SettingsError> {
    let unreadable = |source| SettingsError::SecretFile { option, path: path.to_owned(), source };
    let content = |what| SettingsError::SecretFileContent { option, path: path.to_owned(), what };
    if fs::metadata(path).map_err(unreadable)?.len() > SECRET_FILE_BYTES_MAX {
        return Err(content("is too large for a secret"));
    }
    let text = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(unreadable)?);
    let line = text.trim_end_matches(['\r', '\n']);
    match line {
        "" => Err(content("is empty")),
        line if line.contains('\n') => Err(content("has more than one line")),
        line => Ok(SecretString::from(line)),
    }
}

fn check_otlp_endpoint(text: &str) -> Result<(), SettingsError> {
    let url = Url::parse(text).map_err(|_| SettingsError::OtlpEndpoint("is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(SettingsError::OtlpEndpoint("is neither http nor https"));
    }
    if url.password().is_some() {
        return Err(SettingsError::OtlpEndpoint("must hold no password: use OTEL_EXPORTER_OTLP_HEADERS"));
    }
    Ok(())
}

/// Strict verifiers refuse a whole certificate for one odd name in it, so an odd host name stays out.
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.parse::<IpAddr>().is_err() && name.split('.').all(label)
}

#[cfg(test)]
mod tests;
