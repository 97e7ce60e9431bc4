//! `portcullis validate`: whether a credential is good, and why not.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::client::{Call, exposed, given};
use super::failure::Failure;
use super::output::Column;
use super::secret_source::SecretSource;
use super::session::Session;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  portcullis validate --credential-file builder-7.key\n  \
                        echo \"$TOKEN\" | portcullis validate --pool builders --output json\n  \
                        portcullis validate -f secret.txt --worker sensor-3   # a static secret\n\n\
                        The exit code is 6 when the credential is not accepted.")]
pub(crate) struct Args {
    /// The file with the API key, token or static secret; `-` is standard input, PORTCULLIS_CREDENTIAL may hold it.
    #[arg(long, short = 'f', value_name = "FILE")]
    credential_file: Option<PathBuf>,
    /// Whose it is said to be: needed for a static secret, and for a key that several workers share.
    #[arg(long, value_name = "ID")]
    worker: Option<String>,
    /// Accept only workers of this pool.
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
}

const COLUMNS: &[Column] = &[
    ("active", "active"),
    ("reason", "reason"),
    ("kind", "kind"),
    ("worker", "worker"),
    ("name", "name"),
    ("pool", "pool"),
    ("key", "key"),
    ("scope", "scope"),
    ("expires", "expires_at"),
    ("position", "position"),
];

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let source = SecretSource {
        what: "the credential",
        option: "--credential-file",
        file: args.credential_file.as_deref(),
        variable: "PORTCULLIS_CREDENTIAL",
    };
    let credential = source.need_or_stdin(session.screen)?;
    let body =
        given([("credential", exposed(Some(&credential))), ("worker", json!(args.worker)), ("pool", json!(args.pool))]);
    let verdict = session.read(Call::post(&["v1", "validate"]).json(body)).await?;
    session.screen.object(COLUMNS, &verdict)?;
    if verdict["active"] == true {
        return Ok(());
    }
    Err(Failure::NotAccepted(verdict.get("reason").and_then(Value::as_str).unwrap_or("no reason given").to_owned()))
}
