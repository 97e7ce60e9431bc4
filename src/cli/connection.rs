//! Which service, how to be sure that it is the one, and who asks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, Url};
use secrecy::SecretString;

use super::failure::Failure;
use super::output::{Format, Screen};
use crate::config::duration;
use crate::config::settings::platform_data_dir;
use crate::secret::{SecretFileError, read_secret_file};

/// Holds the operator's token where no file is wanted. Not an option: arguments are seen by every user.
const TOKEN_VARIABLE: &str = "PORTCULLIS_TOKEN";
pub(crate) const INCIDENT_VARIABLE: &str = "PORTCULLIS_INCIDENT";
const TOKEN_FILE_VARIABLE: &str = "PORTCULLIS_TOKEN_FILE";

/// Options of everything that asks a service.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Client options")]
pub(crate) struct ClientArgs {
    /// The service.
    #[arg(long, global = true, env = "PORTCULLIS_URL", value_name = "URL", default_value = "https://127.0.0.1:3000",
          value_parser = url)]
    url: Url,

    /// The file with the operator's API key. PORTCULLIS_TOKEN may hold the key itself instead; this option goes before it,
    /// and of the two variables only one may be set.
    ///
    /// Default: `admin.token` in the data directory of a service on this machine.
    #[arg(long, global = true, env = TOKEN_FILE_VARIABLE, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// The certificate authorities that may vouch for the service, as PEM.
    ///
    /// Default: `tls/ca.pem` in the data directory of a service on this machine; else those of the platform.
    #[arg(long, global = true, env = "PORTCULLIS_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Allow a plain http:// URL of another machine, where something else encrypts the way there.
    #[arg(long, global = true, env = "PORTCULLIS_ALLOW_HTTP", value_parser = clap::builder::BoolishValueParser::new())]
    allow_http: bool,

    /// How long one request may take.
    #[arg(long, global = true, env = "PORTCULLIS_TIMEOUT", value_name = "DURATION", default_value = "30s",
          value_parser = duration)]
    timeout: Duration,

    /// How long connecting may take.
    #[arg(long, global = true, env = "PORTCULLIS_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "5s",
          value_parser = duration)]
    connect_timeout: Duration,

    /// How often a request is repeated when there is no answer, or the answer is "not now". Nothing is done twice.
    #[arg(long, global = true, env = "PORTCULLIS_RETRIES", value_name = "TIMES", default_value = "4",
          value_parser = clap::value_parser!(u32).range(0..=20))]
    retries: u32,

    /// Name this command, so that it can be repeated later without being done twice. Default: a new name each time.
    #[arg(long, global = true, value_name = "KEY")]
    idempotency_key: Option<String>,

    /// Why you do it; it is written into the event.
    #[arg(long, global = true, value_name = "TEXT")]
    reason: Option<String>,

    /// The incident that you do it for: what comes of it carries that, and fills its checklist.
    ///
    /// Default: the one of `portcullis incident shell`, or none.
    #[arg(long, global = true, env = INCIDENT_VARIABLE, value_name = "INCIDENT")]
    incident: Option<String>,

    /// After a change, wait until it is in force on every node, and show the nodes as they confirm.
    #[arg(long, global = true)]
    wait: bool,

    /// How long `--wait` waits. The change stands, however it ends.
    #[arg(long, global = true, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    wait_timeout: Duration,

    /// How data is written to standard output.
    #[arg(long, short, global = true, env = "PORTCULLIS_OUTPUT", value_name = "FORMAT", default_value = "table")]
    output: Format,

    /// Say nothing on standard error but errors.
    #[arg(long, short, global = true)]
    quiet: bool,
}

/// What a client is made of, checked.
pub(crate) struct Connection {
    pub(crate) http: reqwest::Client,
    pub(crate) url: Url,
    pub(crate) retries: u32,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) incident: Option<String>,
    /// Where it is told how far something is that takes long.
    pub(crate) screen: Screen,
}

impl ClientArgs {
    /// Why, in the words of whoever does it.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The incident that it is done for.
    pub(crate) fn incident(&self) -> Option<&str> {
        self.incident.as_deref().filter(|incident| !incident.is_empty())
    }

    /// For how long to wait for all nodes after a change; `None` where nobody asked.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.wait.then_some(self.wait_timeout)
    }

    pub(crate) fn screen(&self) -> Screen {
        Screen::new(self.output, self.quiet)
    }

    pub(crate) fn connection(&self) -> Result<Connection, Failure> {
        let local = is_loopback(&self.url);
        match self.url.scheme() {
            "https" => {}
            "http" if local || self.allow_http => {}
            "http" => {
                return Err(Failure::Usage(format!(
                    "{} would carry credentials in clear to another machine; use https://, or accept it with \
                     `--allow-http`",
                    self.url
                )));
            }
            _ => return Err(Failure::Usage(format!("`--url` {} is neither https:// nor http://", self.url))),
        }
        if !self.url.username().is_empty() || self.url.password().is_some() {
            return Err(Failure::Usage(
                "`--url` holds a credential; use `--token-file` or PORTCULLIS_TOKEN".to_owned(),
            ));
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
            .timeout(self.timeout)
            .connect_timeout(self.connect_timeout)
            // A redirect could take the credential to another host.
            .redirect(reqwest::redirect::Policy::none());
        if local {
            // A proxy for the outside world has no way to this machine's own loopback.
            builder = builder.no_proxy();
        }
        if self.url.scheme() == "https" {
            builder = self.trust(builder, local)?;
        }
        let http = builder.build().map_err(|error| Failure::fault("cannot make an HTTPS client", error))?;
        Ok(Connection {
            http,
            url: self.url.clone(),
            retries: self.retries,
            idempotency_key: self.idempotency_key.clone(),
            reason: self.reason.clone(),
            incident: self.incident().map(str::to_owned),
            screen: self.screen(),
        })
    }

    fn trust(&self, builder: reqwest::ClientBuilder, local: bool) -> Result<reqwest::ClientBuilder, Failure> {
        if let Some(path) = &self.ca_file {
            return Ok(builder.tls_certs_only(authorities(path)?));
        }
        let Some(path) = data_dir().map(|folder| folder.join("tls/ca.pem")).filter(|path| path.is_file()) else {
            return Ok(builder);
        };
        let ours = authorities(&path)?;
        // On this machine only our own authority can be meant; it works where the platform has none at all. A service
        // elsewhere may have a certificate from either.
        Ok(if local { builder.tls_certs_only(ours) } else { builder.tls_certs_merge(ours) })
    }

    /// The variables by which a program that is started from here speaks to the same service.
    pub(crate) fn variables(&self) -> Vec<(&'static str, std::ffi::OsString)> {
        let mut variables = vec![("PORTCULLIS_URL", self.url.as_str().into())];
        variables.extend(self.token_file.as_ref().map(|path| (TOKEN_FILE_VARIABLE, path.into())));
        variables.extend(self.ca_file.as_ref().map(|path| ("PORTCULLIS_CA_FILE", path.into())));
        variables
    }

    /// The operator's API key.
    pub(crate) fn operator_token(&self) -> Result<SecretString, Failure> {
        let token = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty());
        match (&self.token_file, token) {
            // An option that was typed is meant; of two variables, either may be left over from something else.
            (Some(path), Some(_)) if std::env::var_os(TOKEN_FILE_VARIABLE).is_some_and(|named| named == *path) => {
                return Err(Failure::Usage(format!(
                    "{TOKEN_VARIABLE} and {TOKEN_FILE_VARIABLE} are both set, and may be two operators; unset one, or \
                     choose with `--token-file`"
                )));
            }
            (Some(path), _) => return token_in(path),
            (None, Some(token)) => return Ok(SecretString::from(token)),
            (None, None) => {}
        }
        let none = || {
            Failure::Usage(format!(
                "who asks? Name the file with your API key with `--token-file` (PORTCULLIS_TOKEN_FILE), or put the key \
                 into {TOKEN_VARIABLE}. The first one is `admin.token` in the data directory of the service"
            ))
        };
        let path = data_dir().ok_or_else(none)?.join("admin.token");
        if path.exists() { token_in(&path) } else { Err(none()) }
    }
}

fn url(text: &str) -> Result<Url, String> {
    text.parse().map_err(|_| "write it whole, such as `https://portcullis.example.org:3000`".to_owned())
}

fn token_in(path: &Path) -> Result<SecretString, Failure> {
    read_secret_file(path).map_err(|error| match error {
        SecretFileError::Io { .. } => Failure::fault("the operator's API key (`--token-file`)", error),
        error => Failure::Usage(error.to_string()),
    })
}

/// Where a service on this machine keeps its files, by the same rule as its own.
fn data_dir() -> Option<PathBuf> {
    let told = std::env::var_os("PORTCULLIS_DATA_DIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    told.or_else(platform_data_dir)
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, Failure> {
    let pem = std::fs::read(path)
        .map_err(|error| Failure::fault(format_args!("cannot read the CA file {}", path.display()), error))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(Failure::Usage(format!("the CA file {} holds no certificate in PEM", path.display()))),
    }
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    address.map_or_else(|_| host == "localhost", |address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_other_machines() {
        for (url, local) in [
            ("https://127.0.0.1:3000", true),
            ("https://[::1]:3000", true),
            ("http://localhost", true),
            ("https://localhost.example.org", false),
            ("https://10.0.0.1", false),
            ("https://[::2]", false),
        ] {
            assert_eq!(is_loopback(&url.parse().expect("a URL")), local, "{url}");
        }
    }

    #[test]
    fn credentials_never_travel_in_clear_unasked() {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            client: ClientArgs,
        }
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        for (arguments, accepted) in [
            (&["--url", "http://10.0.0.1"][..], false),
            (&["--url", "http://10.0.0.1", "--allow-http"], true),
            (&["--url", "http://127.0.0.1:3000"], true),
            (&["--url", "https://user:word@127.0.0.1"], false),
            (&["--url", "ftp://127.0.0.1"], false),
        ] {
            let only = Only::parse_from(["portcullis"].iter().chain(arguments));
            assert_eq!(only.client.connection().is_ok(), accepted, "{arguments:?}");
        }
    }
}
