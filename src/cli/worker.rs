//! `portcullis worker`: the members of the fleet, and what a worker does for itself.

mod import;
pub(crate) mod own;

use serde_json::{Map, Value, json};

use super::caution::{Caution, Part, Touched};
use super::client::{Call, given};
use super::dry_run::DryRun;
use super::failure::Failure;
use super::key::{LIST_COLUMNS as KEY_COLUMNS, StaticSecret};
use super::output::Column;
use super::session::{Paging, Session, whole};
use super::time::{moment, span};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List workers, by pool, state, label or name.
    #[command(after_help = "Examples:\n  portcullis worker list --pool builders --state pending\n  \
                            portcullis worker list --label zone=a --all --output json | jq -r '.items[].id'")]
    List {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one worker, its keys, and from where they came.
    #[command(after_help = "Example:\n  portcullis worker show builder-7")]
    Show {
        /// The worker's id.
        worker: String,
    },
    /// Create a worker. A key for it is a second step: `portcullis key create`.
    #[command(after_help = "Examples:\n  portcullis worker create --id builder-7 --pool builders --label zone=a\n  \
                            portcullis worker create --name probe --static-secret-file secret.txt")]
    Create(Create),
    /// Change a worker's name, labels or expiry; what is not named stays.
    #[command(after_help = "Examples:\n  portcullis worker update builder-7 --label zone=b --label rack=12\n  \
                            portcullis worker update builder-7 --expires-at 30d")]
    Update(Update),
    /// Remove a worker and revoke its keys, for ever.
    #[command(after_help = "Examples:\n  portcullis worker remove builder-7 --dry-run\n  \
                            portcullis worker remove builder-7 --yes --reason decommissioned")]
    Remove {
        /// The worker's id.
        worker: String,
        #[command(flatten)]
        caution: Caution,
    },
    /// Refuse a worker everything, until released or until a time.
    #[command(after_help = "Examples:\n  portcullis worker isolate builder-7 --for 2h --reason 'odd traffic'\n  \
                            portcullis worker isolate builder-7 --dry-run")]
    Isolate {
        /// The worker's id.
        worker: String,
        /// Release it by itself at this time.
        #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "duration")]
        until: Option<String>,
        /// Release it by itself after this long.
        #[arg(long = "for", id = "duration", value_name = "DURATION", value_parser = span)]
        duration: Option<String>,
        #[command(flatten)]
        caution: Caution,
    },
    /// End a worker's isolation.
    #[command(after_help = "Example:\n  portcullis worker release builder-7 --reason 'false alarm'")]
    Release {
        /// The worker's id.
        worker: String,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Let a pending worker in.
    #[command(after_help = "Example:\n  portcullis worker approve 2fTzGkcV0JPYqkHfYgkWcz")]
    Approve {
        /// The worker's id.
        worker: String,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Turn a pending worker away, for ever.
    #[command(after_help = "Example:\n  portcullis worker reject 2fTzGkcV0JPYqkHfYgkWcz --reason 'not ours'")]
    Reject {
        /// The worker's id.
        worker: String,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Take a fleet from a file: show the plan, then apply exactly that, with a key for each worker.
    Import(import::Args),
    /// As a worker: get in with an enrollment secret, and get a key.
    Enroll(own::Enroll),
    /// As a worker: say how the service sees this worker.
    Whoami(own::Whoami),
    /// As a worker: replace the own key.
    RotateKey(own::RotateKey),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Filter {
    /// Of this pool.
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// In this state.
    #[arg(long, value_name = "STATE",
          value_parser = ["pending", "active", "isolated", "rejected", "removed", "expired"])]
    state: Option<String>,
    /// With this label; may be repeated, then with all of them.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Of this name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Its pool.
    #[arg(long, value_name = "POOL", default_value = "default")]
    pool: String,
    /// Its id for ever: letters, digits, `.`, `-`, `_`. Default: one is made.
    #[arg(long)]
    id: Option<String>,
    /// A name for people.
    #[arg(long)]
    name: Option<String>,
    /// A label; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// When it ends by itself: a time, or a duration from now.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    expires_at: Option<String>,
    /// Let it wait for approval.
    #[arg(long)]
    pending: bool,
    #[command(flatten)]
    chosen: StaticSecret,
    #[command(flatten)]
    dry: DryRun,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Update {
    /// The worker's id.
    worker: String,
    /// Its new name.
    #[arg(long)]
    name: Option<String>,
    /// Take its name away.
    #[arg(long, conflicts_with = "name")]
    no_name: bool,
    /// A label; all labels are replaced by those given.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Take all labels away.
    #[arg(long, conflicts_with = "label")]
    no_labels: bool,
    /// When it ends by itself: a time, or a duration from now.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    expires_at: Option<String>,
    /// Let it live until removed.
    #[arg(long, conflicts_with = "expires_at")]
    no_expiry: bool,
    #[command(flatten)]
    dry: DryRun,
}

const COLUMNS: &[Column] = &[
    ("worker", "id"),
    ("name", "name"),
    ("workers of that name", "name_shared_by"),
    ("pool", "pool"),
    ("state", "state"),
    ("isolated until", "isolated_until"),
    ("labels", "labels"),
    ("expires", "expires_at"),
    ("enrolled by", "enrolled_by"),
    ("keys", "keys"),
    ("shares a key", "shared_keys"),
    ("created", "created_at"),
];

const LIST_COLUMNS: &[Column] = &[
    ("worker", "id"),
    ("name", "name"),
    ("pool", "pool"),
    ("state", "state"),
    ("keys", "keys"),
    ("labels", "labels"),
    ("expires", "expires_at"),
    ("created", "created_at"),
];

const SOURCE_COLUMNS: &[Column] =
    &[("came from", "address"), ("first seen", "first_seen_at"), ("last seen", "last_seen_at"), ("with key", "key")];

pub(crate) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::List { filter, paging } => session.list(filter.call(), &paging, LIST_COLUMNS).await,
        Verb::Show { worker } => show(&worker, session).await,
        Verb::Create(create) => create.run(session).await,
        Verb::Update(update) => update.run(session).await,
        Verb::Remove { worker, caution } => {
            let touched = caution.look(touched(session, &worker, "remove, with its keys and for ever,")).await?;
            let call = Call::delete(&["v1", "workers", &worker]);
            let Some(answer) = session.change_shown(call, caution, touched).await? else { return Ok(()) };
            session.done(&format!("Removed worker {worker}; all its credentials are refused"), &answer);
            session.screen.object(COLUMNS, &answer.body)
        }
        Verb::Isolate { worker, until, duration, caution } => {
            let touched = caution.look(touched(session, &worker, "refuse everything to")).await?;
            let body = given([("until", json!(until)), ("for", json!(duration))]);
            let Some(answer) = session
                .change_shown(Call::post(&["v1", "workers", &worker, "isolate"]).json(body), caution, touched)
                .await?
            else {
                return Ok(());
            };
            session.done(&format!("Isolated worker {worker}; all its credentials are refused"), &answer);
            session.screen.note(format_args!("Next, when it is safe: `portcullis worker release {worker}`."));
            session.screen.object(COLUMNS, &answer.body)
        }
        Verb::Release { worker, dry } => turn(session, &worker, "release", "Released worker", dry).await,
        Verb::Approve { worker, dry } => turn(session, &worker, "approve", "Approved worker", dry).await,
        Verb::Reject { worker, dry } => turn(session, &worker, "reject", "Rejected worker", dry).await,
        Verb::Import(args) => import::run(args, session).await,
        Verb::Enroll(enroll) => enroll.run(session).await,
        Verb::Whoami(whoami) => whoami.run(session).await,
        Verb::RotateKey(rotate) => rotate.run(session).await,
    }
}

impl Filter {
    fn call(&self) -> Call {
        let call = Call::get(&["v1", "workers"])
            .query("pool", self.pool.clone())
            .query("state", self.state.clone())
            .query("name", self.name.clone());
        self.label.iter().fold(call, |call, (key, value)| call.query("label", format!("{key}={value}")))
    }
}

async fn show(worker: &str, session: &Session) -> Result<(), Failure> {
    let client = session.operator()?;
    let found = client.send(&Call::get(&["v1", "workers", worker])).await?.body;
    session.screen.object(COLUMNS, &found)?;
    let keys = whole(&client, Call::get(&["v1", "workers", worker, "keys"])).await?;
    // Standard output has one object in either form; the keys of a worker are a list of their own.
    session.screen.rows_aside(KEY_COLUMNS, &keys);
    let sources = client.send(&Call::get(&["v1", "workers", worker, "sources"])).await?.body;
    if let Some(sources) = sources["sources"].as_array().filter(|sources| !sources.is_empty()) {
        session.screen.rows_aside(SOURCE_COLUMNS, sources);
    }
    if let Some(count) = found["name_shared_by"].as_u64() {
        session.screen.warn(format_args!("{count} workers of the pool have this name; tell them apart by id"));
    }
    Ok(())
}

async fn turn(session: &Session, worker: &str, verb: &'static str, done: &str, dry: DryRun) -> Result<(), Failure> {
    let Some(answer) = session.change(Call::post(&["v1", "workers", worker, verb]), dry).await? else { return Ok(()) };
    session.done(&format!("{done} {worker}"), &answer);
    session.screen.object(COLUMNS, &answer.body)
}

async fn touched(session: &Session, worker: &str, deed: &str) -> Result<Touched, Failure> {
    let client = session.operator()?;
    let found = client.send(&Call::get(&["v1", "workers", worker])).await?.body;
    let keys = whole(&client, Call::get(&["v1", "workers", worker, "keys"])).await?;
    let keys = keys.into_iter().filter(|key| matches!(key["state"].as_str(), Some("live" | "overlapping"))).collect();
    let parts = vec![
        Part { what: "workers", columns: LIST_COLUMNS, items: vec![found] },
        Part { what: "keys", columns: KEY_COLUMNS, items: keys },
    ];
    Ok(Touched { deed: format!("{deed} worker {worker}"), parts })
}

impl Create {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let chosen = self.chosen.value(session)?;
        let needs_key = chosen.is_null();
        let body = given([
            ("pool", json!(self.pool)),
            ("id", json!(self.id)),
            ("name", json!(self.name)),
            ("labels", labels(self.label)?),
            ("expires_at", json!(self.expires_at)),
            ("pending", if self.pending { json!(true) } else { Value::Null }),
            ("static_secret", chosen),
        ]);
        let call = Call::post(&["v1", "workers"]).json(body);
        let Some(answer) = session.change(call, self.dry).await? else { return Ok(()) };
        let id = answer.body["id"].as_str().unwrap_or_default();
        session.done(&format!("Worker {id} exists"), &answer);
        if needs_key {
            session.screen.note(format_args!("Next: `portcullis key create {id} --key-file {id}.key`."));
        }
        session.screen.object(COLUMNS, &answer.body)
    }
}

impl Update {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let mut body = given([
            ("name", json!(self.name)),
            ("labels", labels(self.label)?),
            ("expires_at", json!(self.expires_at)),
        ]);
        // What is taken away is said as an explicit null, or as nothing left.
        if self.no_name {
            body["name"] = Value::Null;
        }
        if self.no_labels {
            body["labels"] = json!({});
        }
        if self.no_expiry {
            body["expires_at"] = Value::Null;
        }
        if body == json!({}) {
            return Err(Failure::Usage(
                "nothing to change was named; see `portcullis worker update --help`".to_owned(),
            ));
        }
        let call = Call::patch(&["v1", "workers", &self.worker]).json(body);
        let Some(answer) = session.change(call, self.dry).await? else { return Ok(()) };
        session.done(&format!("Updated worker {}", self.worker), &answer);
        session.screen.object(COLUMNS, &answer.body)
    }
}

/// Reads `key=value`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write a label as `key=value`".to_owned()),
    }
}

pub(crate) fn labels(pairs: Vec<(String, String)>) -> Result<Value, Failure> {
    let mut labels = Map::new();
    for (key, value) in pairs {
        // Which of two was meant would be a guess.
        if labels.contains_key(&key) {
            return Err(Failure::Usage(format!("`--label {key}=…` is given twice; a label has one value")));
        }
        labels.insert(key, Value::from(value));
    }
    Ok(if labels.is_empty() { Value::Null } else { Value::Object(labels) })
}
