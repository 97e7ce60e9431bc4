//! What is known of what is to be reached, as people type it. A credential is named by its public part alone: what else of
//! it was given is dropped here, and goes nowhere.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::failure::Failure;
use super::output::Screen;
use super::secret_source::SecretSource;
use super::time::moment;
use crate::credential::key;

const CREDENTIAL: &str = "credential:";
/// Holds a credential that was found, where it is not in a file.
const CREDENTIAL_VARIABLE: &str = "PORTCULLIS_FOUND_CREDENTIAL";

/// What is known of what is to be reached.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Selection {
    /// everything, pool:ID, enrollment_secret:ID (all that it let in), worker:ID, key:ID (with what it was rotated into),
    /// operator:ID (all that it made), label:NAME=VALUE, source:CIDR (where workers called from last) or credential:DIGITS (how
    /// a public id begins). Of one kind any is enough; of different kinds all are needed.
    #[arg(required_unless_present = "credential_file", value_name = "CRITERION")]
    select: Vec<String>,
    /// A file with a credential that was found (`-` reads standard input). Its secret part is not sent anywhere.
    #[arg(long, value_name = "FILE")]
    credential_file: Option<PathBuf>,
    /// Only workers that came at this time or later.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<String>,
    /// Only workers that came before this time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    before: Option<String>,
}

impl Selection {
    /// What these criteria name.
    pub(crate) fn of(select: Vec<String>) -> Self {
        Self { select, credential_file: None, since: None, before: None }
    }

    /// The fields of a request.
    pub(crate) fn fields(&self, screen: Screen) -> Result<[(&'static str, Value); 3], Failure> {
        let mut select: Vec<String> = self.select.iter().map(|text| criterion(text, screen)).collect();
        if let Some(file) = &self.credential_file {
            let source = SecretSource {
                what: "the credential that was found",
                option: "--credential-file",
                file: Some(file),
                variable: CREDENTIAL_VARIABLE,
            };
            select.push(found(source.need(screen)?.expose_secret())?);
        }
        Ok([("select", json!(select)), ("since", json!(self.since)), ("before", json!(self.before))])
    }
}

/// The criterion of a whole credential.
fn found(text: &str) -> Result<String, Failure> {
    match key::parse(text.trim()) {
        Ok(parsed) => Ok(format!("{CREDENTIAL}{}", parsed.id)),
        Err(error) => Err(Failure::Usage(format!("the credential that was found: {error}"))),
    }
}

/// As the service reads it.
fn criterion(text: &str, screen: Screen) -> String {
    if let Some(net) = text.strip_prefix("source:").and_then(net) {
        return format!("source:{net}");
    }
    let Some(fragment) = text.strip_prefix(CREDENTIAL) else { return text.to_owned() };
    match fragment.split('_').nth(2).filter(|_| key::looks_like_key(fragment)) {
        Some(id) => {
            if fragment.split('_').nth(3).is_some_and(|secret| !secret.is_empty()) {
                screen.warn(
                    "every user of this machine can read arguments, and this one held a secret: name a file instead",
                );
            }
            format!("{CREDENTIAL}{id}")
        }
        None => text.to_owned(),
    }
}

/// A CIDR as it is written down: an address alone is one of itself, and digits past the prefix say nothing.
fn net(text: &str) -> Option<IpNet> {
    let net = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    net.map(|net: IpNet| net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Format;
    use crate::credential::key::{KeyKind, mint};
    use crate::domain::ids::KeyId;

    #[test]
    fn what_is_sent_of_a_credential_is_its_public_id() {
        let secret = mint(KeyKind::Worker, KeyId(7), &[9; 32]);
        let screen = Screen::new(Format::Json, true);
        let id = KeyId(7).to_string();
        for typed in [format!("credential:{}", secret.expose_secret()), format!("credential:ptc_wk_{id}")] {
            assert_eq!(criterion(&typed, screen), format!("credential:{id}"));
        }
        assert_eq!(criterion("credential:0000abc", screen), "credential:0000abc");
        assert_eq!(found(&format!("{}\n", secret.expose_secret())).ok(), Some(format!("credential:{id}")));
        let Err(Failure::Usage(told)) = found("hunter2-hunter2") else { panic!("it is no credential") };
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn an_address_is_a_network_of_itself() {
        let screen = Screen::new(Format::Json, true);
        for (typed, sent) in [
            ("source:10.1.2.3", "source:10.1.2.3/32"),
            ("source:10.1.2.3/16", "source:10.1.0.0/16"),
            ("source:2001:DB8::1", "source:2001:db8::1/128"),
            ("source:nowhere", "source:nowhere"),
            ("pool:blue", "pool:blue"),
        ] {
            assert_eq!(criterion(typed, screen), sent);
        }
    }
}
