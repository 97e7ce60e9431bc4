//! `portcullis enrollment`: the secrets by which workers that nobody announced get in.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::caution::{Caution, Part, Touched};
use super::client::{Call, exposed, given};
use super::dry_run::DryRun;
use super::failure::Failure;
use super::handover::KeyFile;
use super::output::Column;
use super::secret_source::SecretSource;
use super::session::{Paging, Session};
use super::time::{moment, span};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List the enrollment secrets.
    #[command(after_help = "Example:\n  portcullis enrollment list")]
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one enrollment secret, but never its value.
    #[command(after_help = "Example:\n  portcullis enrollment show 2fTzGkcV0JPYqkHfYgkWcz")]
    Show {
        /// The enrollment secret's id.
        id: String,
    },
    /// Open a pool for auto-enrollment.
    #[command(
        after_help = "Examples:\n  portcullis enrollment create builders --cidr 10.0.0.0/8 --key-file en.key\n  \
                            portcullis enrollment create probes --uses-max 500 --expires-at 7d --approval"
    )]
    Create {
        /// The pool that workers get into.
        #[arg(default_value = "default")]
        pool: String,
        /// Only from this network; may be repeated.
        #[arg(long, value_name = "CIDR")]
        cidr: Vec<String>,
        /// Only names that this regular expression matches whole.
        #[arg(long, value_name = "REGEX")]
        name_pattern: Option<String>,
        /// After so many workers, each further one waits for approval.
        #[arg(long, value_name = "COUNT")]
        uses_max: Option<u64>,
        /// When it ends by itself: a time, or a duration from now.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        expires_at: Option<String>,
        /// Every worker waits for approval.
        #[arg(long)]
        approval: bool,
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        key_file: KeyFile,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Replace an enrollment secret by a new one; the old one stays good for the overlap.
    #[command(after_help = "Example:\n  portcullis enrollment rotate 2fTzGkcV0JPYqkHfYgkWcz --key-file en-2.key")]
    Rotate {
        /// The enrollment secret's id.
        id: String,
        /// How long the old secret stays good. 0s is now.
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = span)]
        overlap: String,
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        key_file: KeyFile,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Let nobody in by this secret any more. The workers that it let in stay.
    #[command(after_help = "Examples:\n  portcullis enrollment disable 2fTzGkcV0JPYqkHfYgkWcz --dry-run\n  \
                            portcullis enrollment disable 2fTzGkcV0JPYqkHfYgkWcz --yes --reason leaked")]
    Disable {
        /// The enrollment secret's id.
        id: String,
        #[command(flatten)]
        caution: Caution,
    },
}

/// A value that the caller chose.
#[derive(Debug, clap::Args)]
pub(crate) struct Chosen {
    /// The file with a value that you chose: 32 characters or more. `-` is standard input. Default: one is made.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

const COLUMNS: &[Column] = &[
    ("enrollment secret", "id"),
    ("pool", "pool"),
    ("state", "state"),
    ("uses", "uses"),
    ("uses max", "uses_max"),
    ("pending", "pending"),
    ("cidrs", "cidrs"),
    ("name pattern", "name_pattern"),
    ("approval", "approval"),
    ("expires", "expires_at"),
    ("old secret good until", "overlap_until"),
    ("parent", "parent"),
    ("created", "created_at"),
];

const LIST_COLUMNS: &[Column] = &[
    ("enrollment secret", "id"),
    ("pool", "pool"),
    ("state", "state"),
    ("uses", "uses"),
    ("uses max", "uses_max"),
    ("pending", "pending"),
    ("approval", "approval"),
    ("expires", "expires_at"),
    ("created", "created_at"),
];

pub(crate) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::List { paging } => session.list(Call::get(&["v1", "enrollment-secrets"]), &paging, LIST_COLUMNS).await,
        Verb::Show { id } => {
            let found = session.read(Call::get(&["v1", "enrollment-secrets", &id])).await?;
            session.screen.object(COLUMNS, &found)
        }
        Verb::Create { pool, cidr, name_pattern, uses_max, expires_at, approval, chosen, key_file, dry } => {
            let body = given([
                ("pool", json!(pool)),
                ("secret", chosen.value(session)?),
                ("cidrs", if cidr.is_empty() { Value::Null } else { json!(cidr) }),
                ("name_pattern", json!(name_pattern)),
                ("uses_max", json!(uses_max)),
                ("expires_at", json!(expires_at)),
                ("approval", if approval { json!(true) } else { Value::Null }),
            ]);
            let destination = key_file.reserve(dry)?;
            let Some(answer) = session.change(Call::post(&["v1", "enrollment-secrets"]).json(body), dry).await? else {
                return Ok(());
            };
            session.done(&format!("Pool {pool} takes workers that come with this secret"), &answer);
            session
                .screen
                .note("Next, on a worker: `portcullis worker enroll`, with it in PORTCULLIS_AUTO_ENROLLMENT_KEY.");
            destination.deliver(session.screen, COLUMNS, answer, "secret")
        }
        Verb::Rotate { id, overlap, chosen, key_file, dry } => {
            let body = given([("overlap", json!(overlap)), ("secret", chosen.value(session)?)]);
            let destination = key_file.reserve(dry)?;
            let Some(answer) =
                session.change(Call::post(&["v1", "enrollment-secrets", &id, "rotate"]).json(body), dry).await?
            else {
                return Ok(());
            };
            session.done(&format!("Rotated enrollment secret {id}"), &answer);
            destination.deliver(session.screen, COLUMNS, answer, "secret")
        }
        Verb::Disable { id, caution } => {
            let look = async {
                let found = session.read(Call::get(&["v1", "enrollment-secrets", &id])).await?;
                let stay = found["uses"].as_u64().unwrap_or_default();
                let deed = format!("disable enrollment secret {id}; the {stay} workers that it let in stay");
                let parts = vec![Part { what: "enrollment_secrets", columns: LIST_COLUMNS, items: vec![found] }];
                Ok(Touched { deed, parts })
            };
            let touched = caution.look(look).await?;
            let Some(answer) = session
                .change_shown(Call::post(&["v1", "enrollment-secrets", &id, "disable"]), caution, touched)
                .await?
            else {
                return Ok(());
            };
            session.done(&format!("Disabled enrollment secret {id}"), &answer);
            session.screen.note("The workers that it let in stay: `portcullis worker list` has their `enrolled_by`.");
            session.screen.object(COLUMNS, &answer.body)
        }
    }
}

impl Chosen {
    fn value(&self, session: &Session) -> Result<Value, Failure> {
        let source = SecretSource {
            what: "the chosen enrollment secret",
            option: "--secret-file",
            file: self.secret_file.as_deref(),
            variable: "PORTCULLIS_ENROLLMENT_SECRET",
        };
        Ok(exposed(source.find(session.screen)?.as_ref()))
    }
}
