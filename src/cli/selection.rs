//! What is known of what is to be reached, as people type it. A key is named by its public part alone: what else of it was
//! given is dropped here, and goes nowhere. What has no public part, a token or a chosen secret, the service looks up.

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
    /// operator:ID (all that it made), label:NAME=VALUE, source:CIDR (where workers called from last; a scope knows all that was
    /// noted) or credential:DIGITS (how a public id begins). Of one kind any is enough; of different kinds all are needed.
    #[arg(required_unless_present = "credential_file", value_name = "CRITERION")]
    select: Vec<String>,
    /// A file with a credential that was found (`-` reads standard input). Of a key only the public id is sent; an access token
    /// and a secret that somebody chose are sent to the service, which looks up whose they are.
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
    pub(crate) fn fields(&self, screen: Screen) -> Result<[(&'static str, Value); 4], Failure> {
        let mut credential = Value::Null;
        let mut select: Vec<String> = self.select.iter().map(|text| criterion(text, screen)).collect();
        if let Some(file) = &self.credential_file {
            let source = SecretSource {
                what: "the credential that was found",
                option: "--credential-file",
                file: Some(file),
                variable: CREDENTIAL_VARIABLE,
            };
            let text = source.need(screen)?;
            match found(text.expose_secret())? {
                Some(criterion) => select.push(criterion),
                None => credential = json!(text.expose_secret().trim()),
            }
        }
        let (since, before) = (json!(self.since), json!(self.before));
        let select = if select.is_empty() { Value::Null } else { json!(select) };
        Ok([("select", select), ("credential", credential), ("since", since), ("before", before)])
    }
}

/// The criterion of a key; nothing for what only the service can look up.
fn found(text: &str) -> Result<Option<String>, Failure> {
    if !key::looks_like_key(text.trim()) {
        return Ok(None);
    }
    match key::parse(text.trim()) {
        Ok(parsed) => Ok(Some(format!("{CREDENTIAL}{}", parsed.id))),
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
        assert_eq!(found(&format!("{}\n", secret.expose_secret())).ok(), Some(Some(format!("credential:{id}"))));
        let damaged = format!("{}x", secret.expose_secret());
        let Err(Failure::Usage(told)) = found(&damaged) else { panic!("it is damaged") };
        assert!(!told.contains(secret.expose_secret().rsplit('_').nth(1).unwrap_or("_")), "{told}");
        assert!(matches!(found("hunter2-hunter2"), Ok(None)), "the service may know it");
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
