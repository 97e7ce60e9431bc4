//! The client programs of Postgres, such as `pg_dump`: how they reach a database that we reach.
//!
//! Everything goes through the environment, which only the same user can look at: arguments are seen by every user of the
//! machine, and a URL holds a password.

use std::path::Path;
use std::process::{Command, Stdio};

use secrecy::SecretString;
use tokio_postgres::config::{Host, SslMode};

use super::settings::Target;
use super::{Options, SettingsError};

const CONNECT_TIMEOUT_SECONDS: &str = "30";

/// Where the usual systems keep the certificates of the authorities that they trust. libpq has no default of its own.
const TRUSTED: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The program, set up for the database as its owner. Nothing is on its standard input.
pub fn client_program(program: &Path, options: &Options) -> Result<Command, SettingsError> {
    let url: &SecretString = options.owner_url.as_ref().unwrap_or(&options.url);
    let target = Target::parse(url, options)?;
    let config = &target.config;
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").env("PGAPPNAME", "portcullis");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    let hosts: Vec<String> = config.get_hosts().iter().map(host).collect();
    let addresses: Vec<String> = config.get_hostaddrs().iter().map(ToString::to_string).collect();
    let ports: Vec<String> = config.get_ports().iter().map(ToString::to_string).collect();
    for (name, values) in [("PGHOST", hosts), ("PGHOSTADDR", addresses), ("PGPORT", ports)] {
        if !values.is_empty() {
            command.env(name, values.join(","));
        }
    }
    for (name, value) in [("PGUSER", config.get_user()), ("PGDATABASE", config.get_dbname().or(config.get_user()))] {
        command.envs(value.map(|value| (name, value)));
    }
    if let Some(password) = config.get_password() {
        command.env("PGPASSWORD", String::from_utf8_lossy(password).as_ref());
    }
    match config.get_ssl_mode() {
        SslMode::Disable => command.env("PGSSLMODE", "disable"),
        _ => {
            let trusted = TRUSTED.iter().map(Path::new).find(|path| path.exists());
            command.env("PGSSLMODE", "verify-full");
            command.envs(options.ca_file.as_deref().or(trusted).map(|file| ("PGSSLROOTCERT", file)))
        }
    };
    command.env("PGTARGETSESSIONATTRS", "read-write").env("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT_SECONDS);
    command.current_dir("/").stdin(Stdio::null());
    Ok(command)
}

fn host(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(folder) => folder.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_in_no_argument() {
        let url = SecretString::from("postgres://ana:hunter2@db.example:6000/gate?sslmode=require");
        let command = client_program(Path::new("pg_dump"), &Options::new(url)).unwrap();
        assert_eq!(command.get_args().count(), 0);
        let value = |name: &str| {
            let found = command.get_envs().find(|(known, _)| *known == name).and_then(|(_, value)| value);
            found.map(|value| value.to_string_lossy().into_owned())
        };
        for (name, expected) in [
            ("PGHOST", "db.example"),
            ("PGPORT", "6000"),
            ("PGUSER", "ana"),
            ("PGDATABASE", "gate"),
            ("PGPASSWORD", "hunter2"),
            ("PGSSLMODE", "verify-full"),
        ] {
            assert_eq!(value(name).as_deref(), Some(expected), "{name}");
        }
    }
}
