//! `portcullis tripwire` and `portcullis key honey`: keys that nobody has any business to show, and what is done about it.

use serde_json::{Value, json};

use super::caution::{Caution, Part, Touched};
use super::client::{Call, given};
use super::dry_run::DryRun;
use super::failure::Failure;
use super::handover::KeyFile;
use super::output::{self, Column, Format};
use super::session::{Paging, Session, whole};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Show what is done when somebody shows a key that was revoked or rotated away, or a honey key.
    #[command(after_help = "Example:\n  portcullis tripwire list")]
    List,
    /// Set that: the whole rule of a pool, or of all that have none. What is not named is as it is without a rule.
    #[command(after_help = "Examples:\n  portcullis tripwire set --honey isolate,open_incident\n  \
                            portcullis tripwire set --pool builders --honey open_incident --revoked isolate\n  \
                            portcullis tripwire set --pool builders --reason 'back to the rule of all'\n\n\
                            Uses are recorded, whatever the rule, by key, address and minute: `portcullis events list --kind tripwire.tripped`.")]
    Set {
        /// The pool. Default: all that have no rule of their own.
        #[arg(long, value_name = "POOL")]
        pool: Option<String>,
        /// When a honey key is shown.
        #[arg(long, value_name = "ACTIONS", value_delimiter = ',', value_parser = ACTIONS)]
        honey: Option<Vec<String>>,
        /// When a key is shown that was revoked, or that a fence refuses.
        #[arg(long, value_name = "ACTIONS", value_delimiter = ',', value_parser = ACTIONS)]
        revoked: Option<Vec<String>>,
        /// When a key is shown that was rotated away, after its overlap.
        #[arg(long, value_name = "ACTIONS", value_delimiter = ',', value_parser = ACTIONS)]
        rotated: Option<Vec<String>>,
        #[command(flatten)]
        dry: DryRun,
    },
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Honey {
    /// List honey keys, and how often each was shown.
    #[command(after_help = "Example:\n  portcullis key honey list")]
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Make a key that looks like any worker's, to be planted where nobody should look.
    #[command(after_help = "Example:\n  portcullis key honey create --pool builders --note 'backup of host 7' \
                            --key-file honey.key\n\n\
                            It is refused like a key that does not exist. The log tells who has shown it.")]
    Create {
        /// The pool whose rule holds for it.
        #[arg(long, value_name = "POOL")]
        pool: String,
        /// Where it will be planted.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        #[command(flatten)]
        key_file: KeyFile,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Remove a honey key: from then on showing it is noise.
    #[command(after_help = "Examples:\n  portcullis key honey remove 2fTzGkcV0JPYqkHfYgkWcz --dry-run\n  \
                            portcullis key honey remove 2fTzGkcV0JPYqkHfYgkWcz --yes --reason 'host 7 is gone'")]
    Remove {
        /// The honey key's id.
        key: String,
        #[command(flatten)]
        caution: Caution,
    },
}

const ACTIONS: [&str; 3] = ["record", "isolate", "open_incident"];

const RULE_COLUMNS: &[Column] = &[("pool", "pool"), ("honey", "honey"), ("revoked", "revoked"), ("rotated", "rotated")];

const HONEY_COLUMNS: &[Column] = &[
    ("key", "id"),
    ("pool", "pool"),
    ("planted", "note"),
    ("created", "created_at"),
    ("shown", "uses"),
    ("last trip at position", "last_trip"),
];

pub(crate) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::List => {
            // They are few, and come all at once.
            let found = session.read(Call::get(&["v1", "tripwires"])).await?;
            match session.screen.format {
                Format::Json => output::json(&found),
                Format::Table => {
                    session.screen.rows(RULE_COLUMNS, found["items"].as_array().map_or(&[], Vec::as_slice))
                }
            }
        }
        Verb::Set { pool, honey, revoked, rotated, dry } => {
            let body = given([
                ("pool", json!(pool)),
                ("honey", json!(honey)),
                ("revoked", json!(revoked)),
                ("rotated", json!(rotated)),
            ]);
            let Some(answer) = session.change(Call::put(&["v1", "tripwires"]).json(body), dry).await? else {
                return Ok(());
            };
            let of =
                pool.map_or_else(|| "all pools without a rule of their own".to_owned(), |pool| format!("pool {pool}"));
            session.done(&format!("Set the rule of {of}"), &answer);
            session.screen.object(RULE_COLUMNS, &answer.body)
        }
    }
}

pub(super) async fn honey(verb: Honey, session: &Session) -> Result<(), Failure> {
    match verb {
        Honey::List { paging } => session.list(Call::get(&["v1", "honey-keys"]), &paging, HONEY_COLUMNS).await,
        Honey::Create { pool, note, key_file, dry } => {
            let body = given([("pool", json!(pool)), ("note", json!(note))]);
            let destination = key_file.reserve(dry)?;
            let Some(answer) = session.change(Call::post(&["v1", "honey-keys"]).json(body), dry).await? else {
                return Ok(());
            };
            session.done("Made a honey key", &answer);
            session.screen.note("Next: plant it, and say what is to happen: `portcullis tripwire set --honey …`.");
            destination.deliver(session.screen, HONEY_COLUMNS, answer, "key")
        }
        Honey::Remove { key, caution } => {
            let touched = caution.look(removed(session, &key)).await?;
            let Some(answer) =
                session.change_shown(Call::delete(&["v1", "honey-keys", &key]), caution, touched).await?
            else {
                return Ok(());
            };
            session.done(&format!("Removed honey key {key}"), &answer);
            session.screen.object(HONEY_COLUMNS, &answer.body)
        }
    }
}

async fn removed(session: &Session, id: &str) -> Result<Touched, Failure> {
    let all = whole(&session.operator()?, Call::get(&["v1", "honey-keys"])).await?;
    let items: Vec<Value> = all.into_iter().filter(|key| key["id"] == id).collect();
    let deed = format!("remove honey key {id}: showing it will be noise");
    Ok(Touched { deed, parts: vec![Part { what: "honey_keys", columns: HONEY_COLUMNS, items }] })
}
