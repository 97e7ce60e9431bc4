//! What `portcullis serve` can be told: every option with its variable, default and an example, in one place, so that
//! `--help`, the man page and the service cannot disagree. What they amount to together is decided in [`settings`].

pub mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use self::settings::{DatabaseSource, Limits, Settings, SettingsError, Surroundings, TlsSource};
use crate::telemetry::LogFormat;

/// With the waits between them most of an hour: a receiver that is away for longer has lost more than a message.
pub const WEBHOOK_ATTEMPTS_MAX: u64 = 8;

/// As every host name is (RFC 1035).
const NODE_NAME_CHARS_MAX: usize = 253;
const MAX_STALE_MIN: Duration = Duration::from_secs(1);
const MAX_STALE_MAX: Duration = Duration::from_mins(5);

/// The options of `portcullis serve`, as typed.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// Where the service keeps its files: the root key, certificates, and the private Postgres cluster.
    ///
    /// Default: the data directory of the platform: `~/.local/share/portcullis`, for root `/var/lib/portcullis`.
    /// Example: `--data-dir /var/lib/portcullis`
    #[arg(long, env = "PORTCULLIS_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// The address and port to listen on.
    ///
    /// Example: `--bind 0.0.0.0:443`
    #[arg(long, env = "PORTCULLIS_BIND", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3000",
          value_parser = address)]
    pub bind: SocketAddr,

    /// The URL that clients reach the service by; it is the issuer of access tokens.
    ///
    /// Default: `https://` and the bind address.
    /// Example: `--public-url https://portcullis.example.org`
    #[arg(long, env = "PORTCULLIS_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,

    /// The file that holds the root key: 32 random bytes, made at the first start.
    ///
    /// Default: `root.key` in the data directory.
    /// Example: `--root-key-file /run/secrets/portcullis-root-key`
    #[arg(long, env = "PORTCULLIS_ROOT_KEY_FILE", value_name = "FILE")]
    pub root_key_file: Option<PathBuf>,

    /// A file that holds the enrollment secret of the pool `default`. Without one, auto-enrollment stays off.
    ///
    /// The secret itself is taken from `PORTCULLIS_AUTO_ENROLLMENT_KEY` too, but never from the command line, which
    /// every user of the machine can read.
    /// Example: `--auto-enrollment-key-file /run/secrets/enrollment`
    #[arg(long, env = "PORTCULLIS_AUTO_ENROLLMENT_KEY_FILE", value_name = "FILE")]
    pub auto_enrollment_key_file: Option<PathBuf>,

    /// Certificate authorities that may vouch for the receivers of webhooks, as PEM, beside those of the platform.
    ///
    /// Example: `--webhook-ca /etc/portcullis/webhook-ca.pem`
    #[arg(long, env = "PORTCULLIS_WEBHOOK_CA", value_name = "FILE")]
    pub webhook_ca: Option<PathBuf>,

    /// How often a webhook's message is sent before it is given up. Eight attempts take most of an hour.
    ///
    /// Example: `--webhook-attempts 5`
    #[arg(long, env = "PORTCULLIS_WEBHOOK_ATTEMPTS", value_name = "COUNT", default_value_t = WEBHOOK_ATTEMPTS_MAX,
          value_parser = clap::value_parser!(u64).range(1..=WEBHOOK_ATTEMPTS_MAX))]
    pub webhook_attempts: u64,

    /// Where the mirror lies: a copy of the log outside of the database, from which a restore takes what is newer than its
    /// backup. A disk of its own is the better place. It grows as the log does.
    ///
    /// Default: `mirror` in the data directory.
    /// Example: `--mirror /srv/portcullis-mirror`
    #[arg(long, env = "PORTCULLIS_MIRROR", value_name = "DIR", conflicts_with = "no_mirror")]
    pub mirror: Option<PathBuf>,

    /// Keep no mirror. Then a restore has nothing but its backup: what was revoked since is lost, and so is all else.
    ///
    /// Example: `--no-mirror`
    #[arg(long, env = "PORTCULLIS_NO_MIRROR", value_parser = clap::builder::BoolishValueParser::new())]
    pub no_mirror: bool,

    /// Makes a further admin, and writes its token to `admin.token` in the data directory: for when every admin's token is
    /// lost. Once: leave it out of the next start.
    ///
    /// Example: `--new-admin`
    #[arg(long)]
    pub new_admin: bool,

    /// How many commands may wait for the writer before further ones are answered 503.
    ///
    /// Example: `--queue-length 65536`
    #[arg(long, env = "PORTCULLIS_QUEUE_LENGTH", value_name = "COMMANDS", default_value = "16384",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub queue_length: u32,

    /// A JSON file with templates of checklists, beside the one for incidents that name none. One that is called `default`
    /// takes its place.
    ///
    /// It holds `{"templates": {"leak": [{"id": "call", "title": "Call the owner", "filled_by": [["worker.isolated"]]}]}}`;
    /// a step is done when there is an event of each group of `filled_by`, or by hand.
    /// Example: `--incident-templates /etc/portcullis/incidents.json`
    #[arg(long, env = "PORTCULLIS_INCIDENT_TEMPLATES", value_name = "FILE")]
    pub incident_templates: Option<PathBuf>,

    #[command(flatten)]
    pub node: NodeArgs,
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    pub tls: TlsArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// Which Postgres. With none named, the service runs a private cluster of its own in the data directory.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// Your own Postgres, 15 or newer. Without it, a private cluster runs in the data directory.
    ///
    /// A URL with a password is taken from `PORTCULLIS_DATABASE_URL` or `--database-url-file` only: the command line
    /// shows it to every user of the machine.
    /// Example: `--database-url postgres://portcullis@db.example.org/portcullis`
    #[arg(long, value_name = "URL", conflicts_with = "database_url_file")]
    pub database_url: Option<String>,

    /// A file that holds the URL of the database.
    ///
    /// Example: `--database-url-file /run/secrets/database-url`
    #[arg(long, env = "PORTCULLIS_DATABASE_URL_FILE", value_name = "FILE")]
    pub database_url_file: Option<PathBuf>,

    /// The same database as the role that owns its tables, for migrations. Default: the role of `--database-url`.
    ///
    /// With a password, from `PORTCULLIS_OWNER_DATABASE_URL` or `--owner-database-url-file` only.
    /// Example: `--owner-database-url postgres://portcullis_owner@db.example.org/portcullis`
    #[arg(long, value_name = "URL", conflicts_with = "owner_database_url_file")]
    pub owner_database_url: Option<String>,

    /// A file that holds the URL of the database for its owner.
    ///
    /// Example: `--owner-database-url-file /run/secrets/owner-database-url`
    #[arg(long, env = "PORTCULLIS_OWNER_DATABASE_URL_FILE", value_name = "FILE")]
    pub owner_database_url_file: Option<PathBuf>,

    /// The certificate authorities that may vouch for the database, as PEM. Default: those of the platform.
    ///
    /// Example: `--database-ca /etc/portcullis/database-ca.pem`
    #[arg(long, env = "PORTCULLIS_DATABASE_CA", value_name = "FILE")]
    pub database_ca: Option<PathBuf>,

    /// How many connections to the database are kept for reading.
    ///
    /// Example: `--database-pool-size 16`
    #[arg(long, env = "PORTCULLIS_DATABASE_POOL_SIZE", value_name = "CONNECTIONS", default_value = "8",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub database_pool_size: u16,

    /// How long connecting to the database may take.
    ///
    /// Example: `--database-connect-timeout 5s`
    #[arg(long, env = "PORTCULLIS_DATABASE_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "10s",
          value_parser = duration)]
    pub database_connect_timeout: Duration,

    /// How long one statement may take before Postgres ends it.
    ///
    /// Example: `--database-statement-timeout 1m`
    #[arg(long, env = "PORTCULLIS_DATABASE_STATEMENT_TIMEOUT", value_name = "DURATION", default_value = "30s",
          value_parser = duration)]
    pub database_statement_timeout: Duration,

    /// Accept a database that may lose what it has acknowledged. For throwaway clusters of tests; nowhere else.
    ///
    /// Example: `--allow-unsafe-durability`
    #[arg(long, env = "PORTCULLIS_ALLOW_UNSAFE_DURABILITY", hide = true)]
    pub allow_unsafe_durability: bool,
}

/// How clients are sure whom they speak to. With nothing said: HTTPS with a certificate authority of our own.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "HTTPS")]
pub struct TlsArgs {
    /// The certificate chain, as PEM, leaf first; read again whenever it changes. Goes with `--tls-key`.
    ///
    /// Default: a certificate from an authority of our own, whose file `tls/ca.pem` clients are given.
    /// Example: `--tls-cert /etc/letsencrypt/live/portcullis.example.org/fullchain.pem`
    #[arg(long, env = "PORTCULLIS_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of `--tls-cert`, as PEM.
    ///
    /// Example: `--tls-key /etc/letsencrypt/live/portcullis.example.org/privkey.pem`
    #[arg(long, env = "PORTCULLIS_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Speak plain HTTP, for a proxy in front that speaks HTTPS.
    ///
    /// Refused on an address that other machines reach, unless `--allow-plaintext` is given too.
    /// Example: `--disable-tls --bind 127.0.0.1:3000`
    #[arg(long, env = "PORTCULLIS_DISABLE_TLS", value_parser = clap::builder::BoolishValueParser::new())]
    pub disable_tls: bool,

    /// With `--disable-tls`: credentials may cross the network in clear. Only where something else encrypts it.
    ///
    /// Example: `--disable-tls --allow-plaintext --bind 10.0.0.5:3000`
    #[arg(long, env = "PORTCULLIS_ALLOW_PLAINTEXT", value_parser = clap::builder::BoolishValueParser::new())]
    pub allow_plaintext: bool,
}

/// This node among those that share one database.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Node")]
pub struct NodeArgs {
    /// The name of this node, for people. Default: the name of the machine.
    ///
    /// Example: `--node-name gate-1`
    #[arg(long, env = "PORTCULLIS_NODE_NAME", value_name = "NAME", value_parser = node_name)]
    pub node_name: Option<String>,

    /// For how long this node answers without having heard of the log; then it refuses everything until it has. A change
    /// waits as long for a node that is gone.
    ///
    /// Example: `--max-stale 3s`
    #[arg(long, env = "PORTCULLIS_MAX_STALE", value_name = "DURATION", default_value = "5s", value_parser = max_stale)]
    pub max_stale: Duration,
}

/// What one client, or all of them, may take.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// A network of proxies whose `Forwarded` and `X-Forwarded-For` headers are believed; may be repeated.
    ///
    /// Default: none, the address of the connection is the client's.
    /// Example: `--trusted-proxy 10.0.0.0/8 --trusted-proxy fd00::/8`
    #[arg(long, env = "PORTCULLIS_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',', value_parser = network)]
    pub trusted_proxy: Vec<IpNet>,

    /// How long one request may take, from its headers to the end of its answer. Half of it is for its body to arrive.
    ///
    /// Example: `--request-timeout 10s`
    #[arg(long, env = "PORTCULLIS_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "30s",
          value_parser = duration)]
    pub request_timeout: Duration,

    /// How large the body of a request may be.
    ///
    /// Example: `--body-limit 4MiB`
    #[arg(long, env = "PORTCULLIS_BODY_LIMIT", value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    pub body_limit: usize,

    /// How many connections may be open at once; further ones are closed at once.
    ///
    /// Example: `--max-connections 50000`
    #[arg(long, env = "PORTCULLIS_MAX_CONNECTIONS", value_name = "CONNECTIONS", default_value = "10000",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,

    /// How long running requests may go on once the service was told to stop.
    ///
    /// Example: `--shutdown-grace 1m`
    #[arg(long, env = "PORTCULLIS_SHUTDOWN_GRACE", value_name = "DURATION", default_value = "20s",
          value_parser = duration)]
    pub shutdown_grace: Duration,
}

/// What the service tells about itself.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Telemetry")]
pub struct TelemetryArgs {
    /// The OpenTelemetry collector (OTLP over gRPC) for traces and metrics. Without it, none are sent.
    ///
    /// Headers for it, such as a token, are read from `OTEL_EXPORTER_OTLP_HEADERS`.
    /// Example: `--otlp-endpoint http://collector:4317`
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,

    /// How log lines look, on standard error.
    ///
    /// Example: `--log-format json`
    #[arg(long, env = "PORTCULLIS_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// Which log lines are written: a level, or levels by module.
    ///
    /// Example: `--log info,portcullis::http=debug`
    #[arg(long, env = "PORTCULLIS_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// Nothing that would be an attack in a terminal.
fn node_name(text: &str) -> Result<String, String> {
    if (1..=NODE_NAME_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(format!("a name has 1 to {NODE_NAME_CHARS_MAX} characters, none of them control characters"))
}

/// Three renewals have to fit, over a connection that may have to be made; and nobody waits an hour for a node that is gone.
fn max_stale(text: &str) -> Result<Duration, String> {
    let span = duration(text)?;
    if (MAX_STALE_MIN..=MAX_STALE_MAX).contains(&span) {
        return Ok(span);
    }
    Err(format!("between {} s and {} s", MAX_STALE_MIN.as_secs(), MAX_STALE_MAX.as_secs()))
}

/// Reads `15m` or `1h 30s`. Zero is refused: as a limit it would refuse everything, and "no limit" is not on offer.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("a duration of zero would leave no time at all; give one such as `15s`".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write a duration such as `15s`, `5m` or `1h 30m`")),
    }
}

/// Reads a number of bytes: `65536`, `64KiB`, `1MiB`.
fn size(text: &str) -> Result<usize, String> {
    let wrong = || format!("`{text}` is no size; write one such as `65536`, `64KiB` or `1MiB`");
    let (digits, unit) = text.split_at(text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        _ => return Err(wrong()),
    };
    let bytes = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)?;
    if bytes == 0 { Err(wrong()) } else { Ok(bytes) }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an address and a port, such as `127.0.0.1:3000` or `[::]:443`".to_owned())
}

/// Reads a network, or one address as the network that holds only it.
fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| format!("`{text}` is no network; write one such as `10.0.0.0/8`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("1", Some(1)), ("64KiB", Some(65_536)), ("1 MiB", Some(1_048_576))] {
            assert_eq!(size(text).ok(), bytes, "{text}");
        }
        for text in ["", "0", "MiB", "1MB", "-1", "1.5MiB", "99999999999999999999"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_and_zero_is_refused() {
        assert_eq!(duration("15m"), Ok(Duration::from_mins(15)));
        for text in ["0s", "", "15", "a while"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_address_is_a_network_too() {
        assert_eq!(network("10.1.2.3"), Ok("10.1.2.3/32".parse().expect("a network")));
        assert!(network("10.0.0.0/33").is_err());
    }
}
