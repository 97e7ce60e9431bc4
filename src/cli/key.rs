//! `portcullis key`: API keys and static secrets, the long-lived credentials.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::caution::{Caution, Part, Touched};
use super::client::{Call, Client, exposed, given};
use super::dry_run::DryRun;
use super::failure::Failure;
use super::handover::KeyFile;
use super::output::Column;
use super::secret_source::SecretSource;
use super::session::{Paging, Session, whole};
use super::time::{moment, span};
use super::tripwire;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List keys: all, a worker's, or those that are shared: a risk.
    #[command(after_help = "Examples:\n  portcullis key list --worker builder-7\n  portcullis key list --shared\n  \
                            portcullis key list --state live --all --output json | jq -r '.items[].id'")]
    List {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one key.
    #[command(after_help = "Example:\n  portcullis key show 2fTzGkcV0JPYqkHfYgkWcz")]
    Show {
        /// The key's id.
        key: String,
    },
    /// Give a worker one more key.
    #[command(after_help = "Examples:\n  portcullis key create builder-7 --key-file builder-7.key\n  \
                            portcullis key create builder-7 --expires-at 90d --output json | jq -r .key\n  \
                            portcullis key create builder-8 --share 2fTzGkcV0JPYqkHfYgkWcz")]
    Create {
        /// The worker's id.
        worker: String,
        /// When it ends by itself: a time, or a duration from now.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        expires_at: Option<String>,
        /// Give it this key, which another worker of the pool has. Its pool must allow sharing.
        #[arg(long, value_name = "KEY ID", conflicts_with = "static_secret_file")]
        share: Option<String>,
        #[command(flatten)]
        chosen: StaticSecret,
        #[command(flatten)]
        key_file: KeyFile,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Replace a key by a new one; the old one stays good for the overlap.
    #[command(after_help = "Examples:\n  portcullis key rotate 2fTzGkcV0JPYqkHfYgkWcz --key-file new.key\n  \
                            portcullis key rotate 2fTzGkcV0JPYqkHfYgkWcz --overlap 0s --reason 'it was in a log'")]
    Rotate {
        /// The key's id.
        key: String,
        /// How long the old key stays good. 0s is now.
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = span)]
        overlap: String,
        /// When the new key ends by itself: a time, or a duration from now.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        expires_at: Option<String>,
        #[command(flatten)]
        chosen: StaticSecret,
        #[command(flatten)]
        key_file: KeyFile,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Revoke a key, for ever, and those that its holder rotated it into.
    #[command(after_help = "Examples:\n  portcullis key revoke 2fTzGkcV0JPYqkHfYgkWcz --dry-run\n  \
                            portcullis key revoke 2fTzGkcV0JPYqkHfYgkWcz --yes --reason 'laptop stolen'")]
    Revoke {
        /// The key's id.
        key: String,
        /// Leave the keys alone that its holder rotated it into.
        #[arg(long)]
        keep_descendants: bool,
        #[command(flatten)]
        caution: Caution,
    },
    /// Honey keys: nobody is given one, so whoever shows one has been where it was planted.
    #[command(subcommand, after_help = "Example:\n  portcullis key honey create --pool builders --key-file honey.key")]
    Honey(tripwire::Honey),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// The keys of this worker.
    #[arg(long, value_name = "ID")]
    worker: Option<String>,
    /// Keys that several workers have, and static secrets of one value.
    #[arg(long)]
    shared: bool,
    /// Of workers of this pool.
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// In this state.
    #[arg(long, value_name = "STATE", value_parser = ["live", "overlapping", "expired", "revoked", "fenced"])]
    state: Option<String>,
    /// Of this kind.
    #[arg(long, value_name = "KIND", value_parser = ["api_key", "static_secret"])]
    kind: Option<String>,
}

/// A secret that the caller chose; for systems that cannot take one of ours.
#[derive(Debug, clap::Args)]
pub(crate) struct StaticSecret {
    /// The file with a static secret: 44 characters or more, not guessable. `-` is standard input.
    #[arg(long, value_name = "FILE")]
    static_secret_file: Option<PathBuf>,
}

pub(crate) const COLUMNS: &[Column] = &[
    ("key", "id"),
    ("kind", "kind"),
    ("state", "state"),
    ("worker", "worker"),
    ("workers", "workers"),
    ("operator", "operator"),
    ("expires", "expires_at"),
    ("ends", "ends_at"),
    ("old key good until", "overlap_until"),
    ("shared", "shared"),
    ("parent", "parent"),
    ("created", "created_at"),
    ("first used", "first_used_at"),
    ("last used", "last_used_at"),
    ("from", "sources"),
    ("forgotten addresses", "sources_forgotten"),
];

pub(crate) const LIST_COLUMNS: &[Column] = &[
    ("key", "id"),
    ("kind", "kind"),
    ("state", "state"),
    ("holder", "worker"),
    ("ends", "ends_at"),
    ("shared", "shared"),
    ("parent", "parent"),
    ("created", "created_at"),
    ("last used", "last_used_at"),
];

const INVENTORY_COLUMNS: &[Column] = &[
    ("key", "id"),
    ("kind", "kind"),
    ("state", "state"),
    ("worker", "worker"),
    ("operator", "operator"),
    ("ends", "ends_at"),
    ("shared", "shared"),
    ("parent", "parent"),
    ("created", "created_at"),
];

impl Which {
    fn call(self) -> Call {
        Call::get(&["v1", "keys"])
            .query("worker", self.worker)
            .query("shared", self.shared.then(|| "true".to_owned()))
            .query("pool", self.pool)
            .query("state", self.state)
            .query("kind", self.kind)
    }
}

pub(crate) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::List { which, paging } => {
            // Only a list that names neither has operators' keys in it.
            let columns = if which.worker.is_none() && !which.shared { INVENTORY_COLUMNS } else { LIST_COLUMNS };
            session.list(which.call(), &paging, columns).await
        }
        Verb::Show { key } => {
            let found = session.read(Call::get(&["v1", "keys", &key])).await?;
            session.screen.object(COLUMNS, &found)
        }
        Verb::Create { worker, expires_at, share, chosen, key_file, dry } => {
            let body = given([
                ("expires_at", json!(expires_at)),
                ("share", json!(share)),
                ("static_secret", chosen.value(session)?),
            ]);
            let destination = key_file.reserve(dry)?;
            let Some(answer) = session.change(Call::post(&["v1", "workers", &worker, "keys"]).json(body), dry).await?
            else {
                return Ok(());
            };
            session.done(&format!("Worker {worker} has one more key"), &answer);
            destination.deliver(session.screen, COLUMNS, answer, "key")
        }
        Verb::Rotate { key, overlap, expires_at, chosen, key_file, dry } => {
            let body = given([
                ("overlap", json!(overlap)),
                ("expires_at", json!(expires_at)),
                ("static_secret", chosen.value(session)?),
            ]);
            let destination = key_file.reserve(dry)?;
            let Some(answer) = session.change(Call::post(&["v1", "keys", &key, "rotate"]).json(body), dry).await?
            else {
                return Ok(());
            };
            session.done(&format!("Rotated key {key}"), &answer);
            session.screen.note("Next: deploy the new key before the overlap of the old one ends.");
            destination.deliver(session.screen, COLUMNS, answer, "key")
        }
        Verb::Revoke { key, keep_descendants, caution } => {
            let touched = caution.look(revoked_with(session, &key, !keep_descendants)).await?;
            let call = Call::post(&["v1", "keys", &key, "revoke"]).json(json!({ "descendants": !keep_descendants }));
            let Some(answer) = session.change_shown(call, caution, touched).await? else { return Ok(()) };
            let count = answer.body.get("revoked").and_then(Value::as_array).map_or(0, Vec::len);
            session.done(&format!("Revoked key {key}, {count} in all"), &answer);
            session.screen.object(COLUMNS, &answer.body)
        }
        Verb::Honey(verb) => tripwire::honey(verb, session).await,
    }
}

impl StaticSecret {
    pub(crate) fn value(&self, session: &Session) -> Result<Value, Failure> {
        let source = SecretSource {
            what: "the static secret",
            option: "--static-secret-file",
            file: self.static_secret_file.as_deref(),
            variable: "PORTCULLIS_STATIC_SECRET",
        };
        Ok(exposed(source.find(session.screen)?.as_ref()))
    }
}

/// The key and, if asked, what was derived from it: what it was itself rotated into by whoever held it, and so on. A
/// successor that an operator made is nobody's loot.
async fn revoked_with(session: &Session, id: &str, descendants: bool) -> Result<Touched, Failure> {
    let client = session.operator()?;
    let key = client.send(&Call::get(&["v1", "keys", id])).await?.body;
    let mut items = vec![key.clone()];
    if descendants {
        let all = keys_of_holder(&client, &key).await?;
        let mut next = 0;
        while let Some(parent) = items.get(next).map(|item| item["id"].clone()) {
            items.extend(all.iter().filter(|key| key["derived"] == true && key["parent"] == parent).cloned());
            next += 1;
        }
        items.retain(|key| key["id"] == id || key["state"] != "revoked");
    }
    let deed = format!("revoke key {id}, {} in all, for ever", items.len());
    Ok(Touched { deed, parts: vec![Part { what: "keys", columns: LIST_COLUMNS, items }] })
}

async fn keys_of_holder(client: &Client, key: &Value) -> Result<Vec<Value>, Failure> {
    let holders = match (key["worker"].as_str(), key["operator"].as_str(), key["workers"].as_array()) {
        (Some(worker), _, _) => vec![("workers", worker)],
        (None, Some(operator), _) => vec![("operators", operator)],
        (None, None, Some(workers)) => workers.iter().filter_map(Value::as_str).map(|id| ("workers", id)).collect(),
        (None, None, None) => Vec::new(),
    };
    let mut all: Vec<Value> = Vec::new();
    for (kind, id) in holders {
        for found in whole(client, Call::get(&["v1", kind, id, "keys"])).await? {
            // A shared key is in the list of each that has it.
            if !all.iter().any(|known| known["id"] == found["id"]) {
                all.push(found);
            }
        }
    }
    Ok(all)
}
