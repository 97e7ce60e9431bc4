//! `portcullis events`: what happened, event by event, in the one order.

use std::time::Duration;

use serde_json::Value;

use super::client::{Call, Client};
use super::failure::Failure;
use super::output::{self, Column, Format, Pieces};
use super::session::{PAGE_MAX, Paging, Session, pages};
use crate::config::duration;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List events, oldest first; as JSON, one a line.
    #[command(after_help = "Examples:\n  portcullis events list --subject worker:builder-7\n  \
                            portcullis events list --newest --limit 20\n  \
                            portcullis events list --follow --output json | jq -c '[.position, .kind]'")]
    List(Args),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// From this position on.
    #[arg(long, value_name = "POSITION")]
    from: Option<u64>,
    /// Only of this kind, such as `key.revoked`.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only about this subject, such as `worker:builder-7`.
    #[arg(long, value_name = "KIND:ID")]
    subject: Option<String>,
    /// Only what was done for this incident, or follows from that.
    #[arg(long, value_name = "INCIDENT")]
    of_incident: Option<String>,
    /// Newest first.
    #[arg(long, conflicts_with = "follow")]
    newest: bool,
    /// Go on with what happens from now on, or from `--from`, until interrupted.
    #[arg(long, conflicts_with_all = ["limit", "all", "cursor"])]
    follow: bool,
    /// With `--follow`: how often to look.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    every: Duration,
    #[command(flatten)]
    paging: Paging,
}

const COLUMNS: &[Column] = &[
    ("position", "position"),
    ("recorded", "recorded_at"),
    ("kind", "kind"),
    ("subject", "subject.id"),
    ("actor", "actor.kind"),
    ("actor id", "actor.id"),
    ("source", "source"),
    ("reason", "reason"),
];

pub(crate) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let Verb::List(args) = verb;
    if args.follow {
        return follow(&args, session).await;
    }
    let client = session.operator()?;
    let mut count = 0_u64;
    let mut list = Pieces::new(COLUMNS);
    let call = args.call(args.from).query("order", args.newest.then(|| "desc".to_owned()));
    let more = pages(&client, call, &args.paging, |items| {
        count += items.len() as u64;
        show(session, &mut list, &items)
    })
    .await?;
    match more {
        Some(cursor) => session
            .screen
            .warn(format_args!("these are {count}, and there are more: `--all`, or go on with `--cursor {cursor}`")),
        None => session.screen.note(format_args!("{count} in all.")),
    }
    Ok(())
}

impl Args {
    fn call(&self, from: Option<u64>) -> Call {
        Call::get(&["v1", "events"])
            .query("from", from.map(|position| position.to_string()))
            .query("kind", self.kind.clone())
            .query("subject", self.subject.clone())
            .query("incident", self.of_incident.clone())
    }
}

/// Positions become visible in order, so that asking from the last one seen misses nothing.
async fn follow(args: &Args, session: &Session) -> Result<(), Failure> {
    let client = session.operator()?;
    let mut from = match args.from {
        Some(position) => position,
        None => newest(&client).await?.map_or(0, |position| position + 1),
    };
    session.screen.note(format_args!("From position {from} on; interrupt to stop."));
    let mut list = Pieces::new(COLUMNS);
    loop {
        let answer = client.send(&args.call(Some(from)).query("limit", PAGE_MAX.to_string())).await?;
        let items = answer.body.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        show(session, &mut list, &items)?;
        if let Some(last) = items.last().and_then(|item| item["position"].as_u64()) {
            from = last + 1;
        }
        if answer.body.get("next_cursor").is_none() {
            tokio::time::sleep(args.every).await;
        }
    }
}

async fn newest(client: &Client) -> Result<Option<u64>, Failure> {
    let call = Call::get(&["v1", "events"]).query("order", "desc".to_owned()).query("limit", "1".to_owned());
    Ok(client.send(&call).await?.body["items"][0]["position"].as_u64())
}

fn show(session: &Session, list: &mut Pieces, items: &[Value]) -> Result<(), Failure> {
    match session.screen.format {
        Format::Json => items.iter().try_for_each(output::line),
        Format::Table => list.write(items),
    }
}
