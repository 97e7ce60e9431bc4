//! `portcullis projection`: the tables that lists are read from. Where they are, made anew, compared with the log.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::client::{Call, Client};
use super::dry_run::{self, DryRun};
use super::failure::Failure;
use super::output::Column;
use super::session::Session;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List the projections, how far they are, and what was last asked of them.
    #[command(after_help = "Example:\n  portcullis projection list")]
    List,
    /// Make projections anew, beside the rows that are read meanwhile.
    #[command(after_help = "Examples:\n  portcullis projection rebuild workers\n  portcullis projection rebuild")]
    Rebuild {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Compare every row with the log, which is folded anew for it. Exit code 7 where one differs.
    #[command(after_help = "Examples:\n  portcullis projection verify workers keys\n  \
                            portcullis projection verify --output json | jq '.items[].verification'")]
    Verify(Which),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Their names. Default: all of them.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// How often is asked how far it is.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

const COLUMNS: &[Column] = &[
    ("projection", "name"),
    ("version", "version"),
    ("position", "position"),
    ("behind", "behind"),
    ("built", "built_at"),
    ("rebuild", "rebuild.state"),
    ("verification", "verification.state"),
    ("verified", "verification.finished_at"),
    ("finding", "verification.finding"),
];

/// What can be asked of a projection.
struct Wish {
    verb: &'static str,
    /// Where a projection shows what has become of it.
    field: &'static str,
}

pub(crate) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let client = session.operator()?;
    let (wish, which, dry) = match verb {
        Verb::List => return session.screen.rows(COLUMNS, &all(&client).await?),
        Verb::Rebuild { which, dry } => (Wish { verb: "rebuild", field: "rebuild" }, which, dry),
        Verb::Verify(which) => (Wish { verb: "verify", field: "verification" }, which, DryRun::default()),
    };
    let names = match which.names {
        names if names.is_empty() => {
            all(&client).await?.iter().filter_map(|item| item["name"].as_str().map(str::to_owned)).collect()
        }
        names => names,
    };
    if dry.is_asked() {
        let mut foreseen = Vec::with_capacity(names.len());
        for name in &names {
            foreseen.push(session.foresee(Call::post(&["v1", "projections", name, wish.verb])).await?);
        }
        return dry_run::show(session.screen, dry_run::together(&foreseen), None);
    }
    let mut ended = Vec::with_capacity(names.len());
    for name in &names {
        ended.push(wish.carry_out(&client, name).await?);
    }
    session.screen.rows(COLUMNS, &ended)?;
    ended.iter().try_for_each(|projection| wish.judge(projection))
}

async fn all(client: &Client) -> Result<Vec<Value>, Failure> {
    let mut answer = client.send(&Call::get(&["v1", "projections"])).await?.body;
    Ok(match answer.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    })
}

impl Wish {
    /// Asks for it and waits for its end. The projection, as it is then.
    async fn carry_out(&self, client: &Client, name: &str) -> Result<Value, Failure> {
        let asked = client.send(&Call::post(&["v1", "projections", name, self.verb])).await?.body;
        let bar = progress(self.verb, name);
        loop {
            let projection = client.send(&Call::get(&["v1", "projections", name])).await?.body;
            let job = &projection[self.field];
            bar.set_length(job["rows_total"].as_u64().unwrap_or_default());
            bar.set_position(job["rows_done"].as_u64().unwrap_or_default());
            // Another than the one that was asked for is a later one: ours has ended.
            if job["id"] != asked["id"] || !matches!(job["state"].as_str(), Some("waiting" | "running")) {
                bar.finish_and_clear();
                return Ok(projection);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Whether it went well.
    fn judge(&self, projection: &Value) -> Result<(), Failure> {
        let job = &projection[self.field];
        let name = projection["name"].as_str().unwrap_or_default();
        let finding = job["finding"].as_str().unwrap_or_default();
        match job["state"].as_str() {
            Some("differs") => Err(Failure::Differs(format!(
                "the projection {name} is not what the log says: {finding}; find out who has edited it, then make it anew \
                 with `portcullis projection rebuild {name}`"
            ))),
            Some("failed") => Err(Failure::Fault(anyhow::anyhow!("the {} of {name} failed: {finding}", self.verb))),
            _ => Ok(()),
        }
    }
}

fn progress(verb: &str, name: &str) -> ProgressBar {
    // Drawn on a terminal only; in a pipe it is silent.
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    bar.set_message(format!("{verb} {name}"));
    match ProgressStyle::with_template("{msg} {bar:40} {human_pos}/{human_len} rows, {per_sec}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
