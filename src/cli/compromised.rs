//! `portcullis compromised`: whoever holds a credential can kill exactly that one. No operator is needed.

use std::path::PathBuf;

use serde_json::json;

use super::caution::{Caution, Touched};
use super::client::{Auth, Call, exposed, given};
use super::failure::Failure;
use super::output::Column;
use super::secret_source::SecretSource;
use super::session::Session;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  portcullis compromised --credential-file found-in-a-log.txt\n  \
                        git grep -ho 'ptc_wk_[0-9A-Za-z_]*' | head -1 | portcullis compromised --yes")]
pub(crate) struct Args {
    /// The file with the key, token or secret; `-` is standard input, PORTCULLIS_CREDENTIAL may hold it.
    #[arg(long, short = 'f', value_name = "FILE")]
    credential_file: Option<PathBuf>,
    /// Whose it is, where you know: narrows a static secret that several workers have.
    #[arg(long, value_name = "ID")]
    worker: Option<String>,
    #[command(flatten)]
    caution: Caution,
}

const COLUMNS: &[Column] = &[("accepted", "accepted")];

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let source = SecretSource {
        what: "the credential",
        option: "--credential-file",
        file: args.credential_file.as_deref(),
        variable: "PORTCULLIS_CREDENTIAL",
    };
    let credential = source.need_or_stdin(session.screen)?;
    if args.caution.looks_first() {
        let deed = "revoke this credential and what was derived from it, for ever".to_owned();
        if !args.caution.approve(session.screen, &Touched { deed, parts: Vec::new() })? {
            return Ok(());
        }
    }
    let body = given([("credential", exposed(Some(&credential))), ("worker", json!(args.worker))]);
    let call = Call::post(&["v1", "compromised"]).json(body).auth(Auth::Nobody);
    let answer = session.change_as(call).await?;
    session.screen.note("Taken. If it was a credential of this service, it is refused from now on.");
    session
        .screen
        .note("The answer is the same for any text: what it was, an operator sees in `portcullis events list`.");
    session.screen.object(COLUMNS, &answer.body)
}
