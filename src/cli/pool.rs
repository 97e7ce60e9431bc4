//! `portcullis pool`: workers under one configuration.

use serde_json::{Value, json};

use super::caution::{Caution, Part, Touched};
use super::client::{Call, given};
use super::dry_run::DryRun;
use super::failure::Failure;
use super::output::Column;
use super::session::{Paging, Session};
use super::time::span;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List the pools.
    #[command(after_help = "Example:\n  portcullis pool list")]
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one pool.
    #[command(after_help = "Example:\n  portcullis pool show builders")]
    Show {
        /// The pool's name.
        pool: String,
    },
    /// Create a pool.
    #[command(after_help = "Examples:\n  portcullis pool create builders --token-ttl 30m\n  \
                            portcullis pool create probes --scope metrics:write --token-record counted")]
    Create {
        /// Its name, and its id for ever: letters, digits, `.`, `-`, `_`.
        pool: String,
        #[command(flatten)]
        settings: Settings,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Change a pool's settings; what is not named stays.
    #[command(after_help = "Example:\n  portcullis pool update builders --token-ttl 10m --reason 'shorter by policy'")]
    Update {
        /// The pool's name.
        pool: String,
        #[command(flatten)]
        settings: Settings,
        /// Take all scopes away.
        #[arg(long, conflicts_with = "scope")]
        no_scopes: bool,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Remove an empty pool. Its name is not used again.
    #[command(after_help = "Examples:\n  portcullis pool remove builders --dry-run\n  \
                            portcullis pool remove builders --yes")]
    Remove {
        /// The pool's name.
        pool: String,
        #[command(flatten)]
        caution: Caution,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// How long its access tokens live, at most 30 days. At first: 15m.
    #[arg(long, value_name = "DURATION", value_parser = span)]
    token_ttl: Option<String>,
    /// How the issue of tokens is written down: an event for each, or a count a worker and window. At first: each.
    #[arg(long, value_name = "HOW")]
    token_record: Option<TokenRecord>,
    /// The `aud` of its tokens. At first: portcullis.
    #[arg(long, value_name = "TEXT")]
    audience: Option<String>,
    /// A scope that its tokens carry; may be repeated.
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// Whether several workers may have one key or static secret. It is a risk, and listed as one. At first: false.
    #[arg(long, value_name = "BOOL", value_parser = clap::builder::BoolishValueParser::new())]
    sharing: Option<bool>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum TokenRecord {
    Each,
    Counted,
}

pub(crate) const COLUMNS: &[Column] = &[
    ("pool", "id"),
    ("workers", "workers"),
    ("token ttl", "token_ttl"),
    ("tokens recorded", "token_record"),
    ("audience", "audience"),
    ("scopes", "scopes"),
    ("sharing", "sharing"),
    ("description", "description"),
    ("created", "created_at"),
];

pub(crate) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::List { paging } => session.list(Call::get(&["v1", "pools"]), &paging, COLUMNS).await,
        Verb::Show { pool } => {
            let found = session.read(Call::get(&["v1", "pools", &pool])).await?;
            session.screen.object(COLUMNS, &found)
        }
        Verb::Create { pool, settings, dry } => {
            let mut body = settings.body();
            body["name"] = Value::from(pool.as_str());
            let Some(answer) = session.change(Call::post(&["v1", "pools"]).json(body), dry).await? else {
                return Ok(());
            };
            session.done(&format!("Pool {pool} exists"), &answer);
            session.screen.note(format_args!("Next: `portcullis worker create --pool {pool}`, or `worker import`."));
            session.screen.object(COLUMNS, &answer.body)
        }
        Verb::Update { pool, settings, no_scopes, dry } => {
            let mut body = settings.body();
            if no_scopes {
                body["scopes"] = json!([]);
            }
            if body == json!({}) {
                return Err(Failure::Usage("nothing to change was named; see `portcullis pool update --help`".into()));
            }
            let Some(answer) = session.change(Call::patch(&["v1", "pools", &pool]).json(body), dry).await? else {
                return Ok(());
            };
            session.done(&format!("Updated pool {pool}"), &answer);
            session.screen.object(COLUMNS, &answer.body)
        }
        Verb::Remove { pool, caution } => {
            let look = async {
                let found = session.read(Call::get(&["v1", "pools", &pool])).await?;
                let parts = vec![Part { what: "pools", columns: COLUMNS, items: vec![found] }];
                Ok(Touched { deed: format!("remove pool {pool}"), parts })
            };
            let touched = caution.look(look).await?;
            let Some(answer) = session.change_shown(Call::delete(&["v1", "pools", &pool]), caution, touched).await?
            else {
                return Ok(());
            };
            session.done(&format!("Removed pool {pool}"), &answer);
            session.screen.object(COLUMNS, &answer.body)
        }
    }
}

impl Settings {
    fn body(&self) -> Value {
        let token_record = self.token_record.map(|how| match how {
            TokenRecord::Each => "each",
            TokenRecord::Counted => "counted",
        });
        given([
            ("description", json!(self.description)),
            ("token_ttl", json!(self.token_ttl)),
            ("token_record", json!(token_record)),
            ("audience", json!(self.audience)),
            ("scopes", if self.scope.is_empty() { Value::Null } else { json!(self.scope) }),
            ("sharing", json!(self.sharing)),
        ])
    }
}
