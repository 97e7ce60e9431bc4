//! `portcullis signing-key`: the keys that sign access tokens.

use serde_json::{Value, json};

use super::client::{Call, given};
use super::dry_run::DryRun;
use super::failure::Failure;
use super::output::{self, Column, Format};
use super::session::Session;
use super::time::span;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List the signing keys: next, active, and retired.
    #[command(after_help = "Example:\n  portcullis signing-key list")]
    List,
    /// Sign with the next key from now on, and make a new next one.
    #[command(after_help = "Examples:\n  portcullis signing-key rotate\n  \
                            portcullis signing-key rotate --overlap 0s --reason 'the old key leaked'")]
    Rotate {
        /// The algorithm of the new next key.
        #[arg(long, value_name = "NAME", value_parser = ["EdDSA", "RS256", "ES256"])]
        algorithm: Option<String>,
        /// How long tokens of the old key are accepted. Default: as long as they live. 0s refuses them at once.
        #[arg(long, value_name = "DURATION", value_parser = span)]
        overlap: Option<String>,
        #[command(flatten)]
        dry: DryRun,
    },
}

const COLUMNS: &[Column] = &[
    ("signing key", "id"),
    ("algorithm", "algorithm"),
    ("state", "state"),
    ("verifies until", "verifies_until"),
    ("created", "created_at"),
];

pub(crate) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        // They are few, and come all at once.
        Verb::List => show(session, &session.read(Call::get(&["v1", "signing-keys"])).await?),
        Verb::Rotate { algorithm, overlap, dry } => {
            let body = given([("algorithm", json!(algorithm)), ("overlap", json!(overlap))]);
            let Some(answer) = session.change(Call::post(&["v1", "signing-keys", "rotate"]).json(body), dry).await?
            else {
                return Ok(());
            };
            let active = answer.body["active"].as_str().unwrap_or_default();
            session.done(&format!("Tokens are signed with {active} from now on"), &answer);
            session.screen.note("Verifiers that keep the JWKS know it already: it was published as the next key.");
            show(session, &answer.body)
        }
    }
}

fn show(session: &Session, found: &Value) -> Result<(), Failure> {
    match session.screen.format {
        Format::Json => output::json(found),
        Format::Table => session.screen.rows(COLUMNS, found["items"].as_array().map_or(&[], Vec::as_slice)),
    }
}
