//! `portcullis node`: the services that share one log.

use super::client::Call;
use super::failure::Failure;
use super::output::{self, Column, Format};
use super::session::Session;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List the nodes: how far each has followed the log, and until when it may answer.
    #[command(after_help = "Examples:\n  portcullis node list\n  \
                            portcullis node list --output json | jq '.items[] | select(.lag > 1000)'")]
    List,
    /// List the TLS certificates that the nodes serve with, and which of them a plan wants replaced.
    #[command(after_help = "Examples:\n  portcullis node certificates\n  \
                            portcullis node certificates --output json | jq '.items[] | select(.due)'")]
    Certificates,
    /// Tell since when the change at a position of the log is in force on every node, or wait until it is.
    #[command(after_help = "Examples:\n  portcullis node in-force 4711\n  portcullis node in-force 4711 --wait")]
    InForce {
        /// The position: every command says its own.
        position: u64,
    },
}

const COLUMNS: &[Column] = &[
    ("node", "name"),
    ("state", "state"),
    ("position", "position"),
    ("lag", "lag"),
    ("lease until", "lease_until"),
    ("version", "version"),
    ("address", "address"),
    ("id", "id"),
];

const CERTIFICATE_COLUMNS: &[Column] = &[
    ("node", "node"),
    ("fingerprint, SHA-256", "fingerprint"),
    ("ends", "not_after"),
    ("from", "origin"),
    ("since", "since"),
    ("recorded at position", "recorded"),
    ("to be replaced", "due"),
];

const IN_FORCE_COLUMNS: &[Column] = &[
    ("position", "position"),
    ("in force", "in_force"),
    ("at", "at"),
    ("recorded at position", "recorded"),
    ("confirmed by", "confirmed"),
    ("waited out", "waited_out"),
    ("missing", "missing"),
];

pub(crate) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::List => show(session, &["v1", "nodes"], COLUMNS).await,
        Verb::Certificates => show(session, &["v1", "nodes", "certificates"], CERTIFICATE_COLUMNS).await,
        Verb::InForce { position } => {
            session.wait_for(position).await?;
            let found = session.read(Call::get(&["v1", "in-force", &position.to_string()])).await?;
            session.screen.object(IN_FORCE_COLUMNS, &found)
        }
    }
}

/// They are few, and come all at once.
async fn show(session: &Session, path: &[&str], columns: &[Column]) -> Result<(), Failure> {
    let found = session.read(Call::get(path)).await?;
    match session.screen.format {
        Format::Json => output::json(&found),
        Format::Table => session.screen.rows(columns, found["items"].as_array().map_or(&[], Vec::as_slice)),
    }
}
