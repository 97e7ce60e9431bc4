//! `portcullis webhook`: services of others that are told of events.

use serde_json::{Value, json};

use super::caution::{Caution, Part, Touched};
use super::client::{Call, given};
use super::dry_run::{self, DryRun};
use super::failure::Failure;
use super::handover::KeyFile;
use super::output::Column;
use super::session::Session;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List the webhooks, with how the last delivery of each ended.
    #[command(after_help = "Example:\n  portcullis webhook list")]
    List,
    /// Make a webhook. Its secret is shown once; messages are signed with it as Standard Webhooks has it.
    #[command(
        after_help = "Examples:\n  portcullis webhook create https://hooks.example.org/in --key-file hook.secret\n  \
                            portcullis webhook create https://hooks.example.org/in --kind worker.isolated --kind fence.raised"
    )]
    Create {
        /// Where messages are sent: https://, or http:// to the loopback.
        #[arg(value_name = "URL")]
        receiver: String,
        /// A kind of event that it is told of; may be repeated. Default: worker.isolated and plan.applied.
        #[arg(long, value_name = "KIND")]
        kind: Vec<String>,
        #[command(flatten)]
        key_file: KeyFile,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Change a webhook; what is not named stays.
    #[command(after_help = "Examples:\n  portcullis webhook update 2fTzGkcV0JPYqkHfYgkWcz --disable\n  \
                            portcullis webhook update 2fTzGkcV0JPYqkHfYgkWcz --kind worker.isolated")]
    Update {
        /// The webhook's id.
        id: String,
        /// Where messages are sent.
        #[arg(long, value_name = "URL")]
        receiver: Option<String>,
        /// A kind of event; may be repeated: all kinds are replaced by those given.
        #[arg(long, value_name = "KIND")]
        kind: Vec<String>,
        /// Tell it again.
        #[arg(long)]
        enable: bool,
        /// Tell it nothing, until it is enabled again. What happens meanwhile is not told afterwards.
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Remove a webhook, for ever.
    #[command(after_help = "Examples:\n  portcullis webhook remove 2fTzGkcV0JPYqkHfYgkWcz --dry-run\n  \
                            portcullis webhook remove 2fTzGkcV0JPYqkHfYgkWcz --yes")]
    Remove {
        /// The webhook's id.
        id: String,
        #[command(flatten)]
        caution: Caution,
    },
    /// Send it a message of the type `test`, and say what became of it.
    #[command(after_help = "Example:\n  portcullis webhook test 2fTzGkcV0JPYqkHfYgkWcz")]
    Test {
        /// The webhook's id.
        id: String,
        #[command(flatten)]
        dry: DryRun,
    },
}

const COLUMNS: &[Column] = &[
    ("webhook", "id"),
    ("url", "url"),
    ("kinds", "kinds"),
    ("enabled", "enabled"),
    ("last told of", "last.position"),
    ("attempts", "last.attempts"),
    ("outcome", "last.outcome"),
    ("why", "last.why"),
    ("created", "created_at"),
];
const TEST_COLUMNS: &[Column] = &[("delivered", "delivered"), ("status", "status"), ("why", "why")];

pub(crate) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let screen = session.screen;
    match verb {
        Verb::List => {
            let found = session.read(Call::get(&["v1", "webhooks"])).await?;
            screen.rows(COLUMNS, found["items"].as_array().map_or(&[], Vec::as_slice))
        }
        Verb::Create { receiver, kind, key_file, dry } => {
            let destination = key_file.reserve(dry)?;
            let body = given([("url", json!(receiver)), ("kinds", kinds(&kind))]);
            let Some(answer) = session.change(Call::post(&["v1", "webhooks"]).json(body), dry).await? else {
                return Ok(());
            };
            let id = answer.body["id"].as_str().unwrap_or_default().to_owned();
            session.done(&format!("Webhook {id} is told of what happens from now on"), &answer);
            screen.note(format_args!("Next: `portcullis webhook test {id}`."));
            destination.deliver(screen, COLUMNS, answer, "secret")
        }
        Verb::Update { id, receiver, kind, enable, disable, dry } => {
            let enabled = (enable || disable).then_some(enable);
            let body = given([("url", json!(receiver)), ("kinds", kinds(&kind)), ("enabled", json!(enabled))]);
            if body == json!({}) {
                let help = "nothing to change was named; see `portcullis webhook update --help`";
                return Err(Failure::Usage(help.to_owned()));
            }
            let Some(answer) = session.change(Call::patch(&["v1", "webhooks", &id]).json(body), dry).await? else {
                return Ok(());
            };
            session.done(&format!("Updated webhook {id}"), &answer);
            screen.object(COLUMNS, &answer.body)
        }
        Verb::Remove { id, caution } => {
            let look = async {
                let found = session.read(Call::get(&["v1", "webhooks", &id])).await?;
                let parts = vec![Part { what: "webhooks", columns: COLUMNS, items: vec![found] }];
                Ok(Touched { deed: format!("remove webhook {id}"), parts })
            };
            let touched = caution.look(look).await?;
            let Some(answer) = session.change_shown(Call::delete(&["v1", "webhooks", &id]), caution, touched).await?
            else {
                return Ok(());
            };
            session.done(&format!("Removed webhook {id}; it is told nothing any more"), &answer);
            screen.object(COLUMNS, &answer.body)
        }
        Verb::Test { id, dry } => {
            let call = Call::post(&["v1", "webhooks", &id, "test"]);
            if dry.is_asked() {
                return dry_run::show(screen, session.foresee(call).await?, None);
            }
            screen.object(TEST_COLUMNS, &session.read(call).await?)
        }
    }
}

fn kinds(kinds: &[String]) -> Value {
    if kinds.is_empty() { Value::Null } else { json!(kinds) }
}
