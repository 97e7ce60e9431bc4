//! `portcullis operator`: people and services that administer, and their API keys.

use serde_json::json;

use super::caution::{Caution, Part, Touched};
use super::client::{Call, given};
use super::dry_run::DryRun;
use super::failure::Failure;
use super::handover::KeyFile;
use super::key::LIST_COLUMNS as KEY_COLUMNS;
use super::output::Column;
use super::session::{Paging, Session, whole};
use super::time::moment;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List the operators.
    #[command(after_help = "Example:\n  portcullis operator list")]
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one operator.
    #[command(after_help = "Example:\n  portcullis operator show 2fTzGkcV0JPYqkHfYgkWcz")]
    Show {
        /// The operator's id.
        id: String,
    },
    /// Say who asks.
    #[command(after_help = "Example:\n  portcullis operator whoami")]
    Whoami,
    /// Create an operator, with its first API key.
    #[command(after_help = "Examples:\n  portcullis operator create alice --role admin --key-file alice.token\n  \
                            portcullis operator create edge-gateway --role gateway --expires-at 365d")]
    Create {
        /// A name for people.
        name: String,
        #[arg(long)]
        role: Role,
        /// When the key ends by itself: a time, or a duration from now.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        expires_at: Option<String>,
        #[command(flatten)]
        key_file: KeyFile,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Change an operator's name or role.
    #[command(after_help = "Example:\n  portcullis operator update 2fTzGkcV0JPYqkHfYgkWcz --role auditor")]
    Update {
        /// The operator's id.
        id: String,
        #[arg(long)]
        name: Option<String>,
        #[arg(long)]
        role: Option<Role>,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Remove an operator, with all keys, for ever.
    #[command(after_help = "Examples:\n  portcullis operator remove 2fTzGkcV0JPYqkHfYgkWcz --dry-run\n  \
                            portcullis operator remove 2fTzGkcV0JPYqkHfYgkWcz --yes --reason 'left the team'")]
    Remove {
        /// The operator's id.
        id: String,
        #[command(flatten)]
        caution: Caution,
    },
    /// List an operator's keys. They are rotated and revoked by `portcullis key`.
    #[command(after_help = "Example:\n  portcullis operator keys 2fTzGkcV0JPYqkHfYgkWcz")]
    Keys {
        /// The operator's id.
        id: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// Give an operator one more API key.
    #[command(after_help = "Example:\n  portcullis operator create-key 2fTzGkcV0JPYqkHfYgkWcz --key-file ci.token")]
    CreateKey {
        /// The operator's id.
        id: String,
        /// When the key ends by itself: a time, or a duration from now.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        expires_at: Option<String>,
        #[command(flatten)]
        key_file: KeyFile,
        #[command(flatten)]
        dry: DryRun,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Role {
    /// Everything.
    Admin,
    /// The fleet: pools, workers, keys, enrollment secrets.
    Operator,
    /// Sees everything, changes nothing.
    Auditor,
    /// Asks whether a credential is good, and why not.
    Gateway,
}

const COLUMNS: &[Column] = &[
    ("operator", "id"),
    ("name", "name"),
    ("role", "role"),
    ("removed", "removed"),
    ("keys", "keys"),
    ("key", "key_id"),
    ("created", "created_at"),
];

const LIST_COLUMNS: &[Column] =
    &[("operator", "id"), ("name", "name"), ("role", "role"), ("removed", "removed"), ("created", "created_at")];

const WHO_COLUMNS: &[Column] = &[
    ("operator", "operator.id"),
    ("name", "operator.name"),
    ("role", "operator.role"),
    ("worker", "worker.id"),
    ("pool", "worker.pool"),
];

pub(crate) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::List { paging } => session.list(Call::get(&["v1", "operators"]), &paging, LIST_COLUMNS).await,
        Verb::Show { id } => {
            let found = session.read(Call::get(&["v1", "operators", &id])).await?;
            session.screen.object(COLUMNS, &found)
        }
        Verb::Whoami => {
            let who = session.read(Call::get(&["v1", "whoami"])).await?;
            session.screen.object(WHO_COLUMNS, &who)
        }
        Verb::Create { name, role, expires_at, key_file, dry } => {
            let body =
                given([("name", json!(name)), ("role", json!(role.as_str())), ("expires_at", json!(expires_at))]);
            let destination = key_file.reserve(dry)?;
            let Some(answer) = session.change(Call::post(&["v1", "operators"]).json(body), dry).await? else {
                return Ok(());
            };
            session.done(&format!("Created operator {name}, {}", role.as_str()), &answer);
            session.screen.note("Next: give the key to them alone, as the file of PORTCULLIS_TOKEN_FILE.");
            destination.deliver(session.screen, COLUMNS, answer, "key")
        }
        Verb::Update { id, name, role, dry } => {
            if name.is_none() && role.is_none() {
                return Err(Failure::Usage("nothing to change was named; give `--name` or `--role`".to_owned()));
            }
            let body = given([("name", json!(name)), ("role", json!(role.map(Role::as_str)))]);
            let Some(answer) = session.change(Call::patch(&["v1", "operators", &id]).json(body), dry).await? else {
                return Ok(());
            };
            session.done(&format!("Updated operator {id}"), &answer);
            session.screen.object(COLUMNS, &answer.body)
        }
        Verb::Remove { id, caution } => remove(&id, caution, session).await,
        Verb::Keys { id, paging } => {
            session.list(Call::get(&["v1", "operators", &id, "keys"]), &paging, KEY_COLUMNS).await
        }
        Verb::CreateKey { id, expires_at, key_file, dry } => {
            let body = given([("expires_at", json!(expires_at))]);
            let destination = key_file.reserve(dry)?;
            let Some(answer) = session.change(Call::post(&["v1", "operators", &id, "keys"]).json(body), dry).await?
            else {
                return Ok(());
            };
            session.done(&format!("Operator {id} has one more key"), &answer);
            destination.deliver(session.screen, KEY_COLUMNS, answer, "key")
        }
    }
}

async fn remove(id: &str, caution: Caution, session: &Session) -> Result<(), Failure> {
    let look = async {
        let client = session.operator()?;
        let found = client.send(&Call::get(&["v1", "operators", id])).await?.body;
        let keys = whole(&client, Call::get(&["v1", "operators", id, "keys"])).await?;
        let keys = keys.into_iter().filter(|key| key["state"] != "revoked").collect();
        let deed = format!("remove operator {} ({id}) for ever", found["name"].as_str().unwrap_or_default());
        let parts = vec![
            Part { what: "operators", columns: LIST_COLUMNS, items: vec![found] },
            Part { what: "keys", columns: KEY_COLUMNS, items: keys },
        ];
        Ok(Touched { deed, parts })
    };
    let touched = caution.look(look).await?;
    let Some(answer) = session.change_shown(Call::delete(&["v1", "operators", id]), caution, touched).await? else {
        return Ok(());
    };
    session.done(&format!("Removed operator {id}"), &answer);
    session.screen.object(COLUMNS, &answer.body)
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Operator => "operator",
            Role::Auditor => "auditor",
            Role::Gateway => "gateway",
        }
    }
}
