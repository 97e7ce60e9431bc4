//! `portcullis fence`: refuses at once all that was issued to a scope so far.

use serde_json::{Value, json};

use super::caution::{Caution, Part, Touched};
use super::client::{Call, given};
use super::failure::Failure;
use super::output::Column;
use super::session::{Paging, Session};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List the fences that stand.
    #[command(after_help = "Example:\n  portcullis fence list")]
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Refuse all that was issued to a scope so far, for ever. What is issued afterwards is good.
    #[command(after_help = "Examples:\n  portcullis fence raise pool:builders --dry-run\n  \
                            portcullis fence raise enrollment_secret:2fTzGkcV0JPYqkHfYgkWcz --yes --reason leaked\n  \
                            portcullis fence raise everything --up-to 48211 --reason 'backup of 12 March was stolen'\n\n\
                            Tokens go with the keys that they were made from. Operators' keys stay good.")]
    Raise {
        /// What was issued to whom: everything, or pool:ID, enrollment_secret:ID or worker:ID. An enrollment secret stands
        /// for itself, what it was rotated into, and every worker that these let in.
        scope: String,
        /// The newest position of the log that is refused. Default: the newest of all.
        #[arg(long, value_name = "POSITION")]
        up_to: Option<u64>,
        #[command(flatten)]
        caution: Caution,
    },
}

const COLUMNS: &[Column] =
    &[("scope", "scope"), ("refuses up to", "up_to"), ("raised at position", "raised"), ("raised", "raised_at")];

const REACH_COLUMNS: &[Column] =
    &[("keys", "keys"), ("workers", "workers"), ("enrollment secrets", "enrollment_secrets")];

pub(crate) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::List { paging } => session.list(Call::get(&["v1", "fences"]), &paging, COLUMNS).await,
        Verb::Raise { scope, up_to, caution } => {
            let mut body = given([("scope", json!(scope)), ("up_to", json!(up_to))]);
            let touched = caution.look(plan(session, &body)).await?.map(|(touched, up_to)| {
                // What was counted, and not what was issued while somebody read the count.
                body["up_to"] = up_to;
                touched
            });
            let Some(answer) = session.change_shown(Call::post(&["v1", "fences"]).json(body), caution, touched).await?
            else {
                return Ok(());
            };
            let position = &answer.body["up_to"];
            session.done(&format!("What was issued to {scope} up to position {position} is refused"), &answer);
            session.screen.note("Next: give new keys to who is to stay: `portcullis key create`.");
            session.screen.object(COLUMNS, &answer.body)
        }
    }
}

/// Counted by the service: a fleet can have more keys than anyone would list.
async fn plan(session: &Session, body: &Value) -> Result<(Touched, Value), Failure> {
    let mut body = body.clone();
    body["dry_run"] = json!(true);
    let found = session.read(Call::post(&["v1", "fences"]).json(body)).await?;
    let reach = &found["would_refuse"];
    let scope = found["scope"].as_str().unwrap_or_default();
    let deed = format!(
        "refuse for ever what was issued to {scope} up to position {}: {} keys of {} workers, with their tokens, and {} \
         enrollment secrets",
        found["up_to"], reach["keys"], reach["workers"], reach["enrollment_secrets"]
    );
    let parts = vec![Part { what: "would_refuse", columns: REACH_COLUMNS, items: vec![reach.clone()] }];
    Ok((Touched { deed, parts }, found["up_to"].clone()))
}
