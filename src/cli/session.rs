//! What every verb starts from: a client, a screen, and the options that go with each command.

use std::io::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use secrecy::SecretString;
use serde_json::Value;

use super::caution::{Caution, Touched};
use super::client::{Answer, Call, Client};
use super::connection::{ClientArgs, Connection};
use super::dry_run::{self, DryRun};
use super::failure::Failure;
use super::output::{Column, Format, Pieces, Screen, closed};
use super::waiting;

/// The largest page that the service gives.
pub(crate) const PAGE_MAX: u64 = 1000;

pub(crate) struct Session {
    pub(crate) screen: Screen,
    args: ClientArgs,
    connection: Connection,
    /// The newest position at which something was changed; 0 where nothing was.
    changed_at: AtomicU64,
}

/// How much of a list.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Paging {
    /// How many at most. When there are more, it is said.
    #[arg(long, value_name = "COUNT", default_value = "100", value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// All of them, however many.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Go on where an earlier list stopped.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// How many are asked for at a time.
    #[arg(skip = PAGE_MAX)]
    page_max: u64,
}

impl Session {
    pub(crate) fn open(args: &ClientArgs) -> Result<Self, Failure> {
        Ok(Self {
            screen: args.screen(),
            connection: args.connection()?,
            args: args.clone(),
            changed_at: AtomicU64::default(),
        })
    }

    /// A client for whoever holds a credential of their own; no operator is needed.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.connection)
    }

    pub(crate) fn operator_token(&self) -> Result<SecretString, Failure> {
        self.args.operator_token()
    }

    pub(crate) fn operator(&self) -> Result<Client, Failure> {
        Ok(self.client().for_operator(self.operator_token()?))
    }

    /// What `--incident` names, or the shell of an incident.
    pub(crate) fn incident(&self) -> Option<&str> {
        self.connection.incident.as_deref()
    }

    /// The variables by which a program that is started from here speaks to the same service.
    pub(crate) fn variables(&self) -> Vec<(&'static str, std::ffi::OsString)> {
        self.args.variables()
    }

    /// Where the service is, as far as names say it.
    pub(crate) async fn service_addresses(&self) -> Vec<IpAddr> {
        let url = &self.connection.url;
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return Vec::new() };
        // An IPv6 address stands in brackets there.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match tokio::net::lookup_host((host, port)).await {
            Ok(found) => found.map(|address| address.ip().to_canonical()).collect(),
            // Whoever is asked next cannot be reached either, and that is told.
            Err(_) => Vec::new(),
        }
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.connection.reason.as_deref()
    }

    /// Reads, as the operator.
    pub(crate) async fn read(&self, call: Call) -> Result<Value, Failure> {
        Ok(self.operator()?.send(&call).await?.body)
    }

    /// Changes something, as the operator. `None`: it was a dry run, and what would be recorded is shown.
    pub(crate) async fn change(&self, call: Call, dry: DryRun) -> Result<Option<Answer>, Failure> {
        if dry.is_asked() {
            dry_run::show(self.screen, self.foresee(call).await?, None)?;
            return Ok(None);
        }
        self.carry_out(call).await.map(Some)
    }

    /// Changes what `touched` shows, where somebody has to see it first. `None`: it was a dry run, or is not wished for.
    pub(crate) async fn change_shown(
        &self,
        call: Call,
        caution: Caution,
        touched: Option<Touched>,
    ) -> Result<Option<Answer>, Failure> {
        match touched {
            Some(touched) if caution.dry.is_asked() => {
                dry_run::show(self.screen, self.foresee(call).await?, Some(&touched))?;
                Ok(None)
            }
            Some(touched) if !caution.approve(self.screen, &touched)? => Ok(None),
            Some(_) | None => self.carry_out(call).await.map(Some),
        }
    }

    /// What the service says would be recorded.
    pub(crate) async fn foresee(&self, call: Call) -> Result<Value, Failure> {
        let call = self.command(call).query("dry_run", "true".to_owned());
        Ok(self.operator()?.send(&call).await?.body)
    }

    /// Changes something, as the operator, dry run or not: for verbs that have looked at that themselves.
    pub(crate) async fn carry_out(&self, call: Call) -> Result<Answer, Failure> {
        let answer = self.operator()?.send(&self.command(call)).await?;
        self.note_position(&answer);
        Ok(answer)
    }

    /// The second change of one command line: under a key of its own, that comes of the one that was given.
    pub(crate) async fn change_next(&self, call: Call, step: &str) -> Result<Answer, Failure> {
        let key = self.connection.idempotency_key.as_ref().map(|key| format!("{key}/{step}"));
        let answer = self.operator()?.send(&call.once(key.as_deref()).reason(self.reason())).await?;
        self.note_position(&answer);
        Ok(answer)
    }

    fn note_position(&self, answer: &Answer) {
        self.changed_at.fetch_max(answer.position.unwrap_or_default(), Ordering::Relaxed);
    }

    /// With `--wait`: until what was changed is in force on every node. After the answer was shown, which may hold a secret
    /// that nobody can ask for again.
    pub(crate) async fn wait_for_changes(&self) -> Result<(), Failure> {
        // Once: what was waited for is in force.
        match self.changed_at.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            position => self.wait_for(position).await,
        }
    }

    /// With `--wait`: until all up to the position is in force on every node.
    pub(crate) async fn wait_for(&self, position: u64) -> Result<(), Failure> {
        match self.args.wait() {
            Some(patience) => waiting::everywhere(self.screen, &self.operator()?, position, patience).await,
            None => Ok(()),
        }
    }

    /// Changes something, as whoever the call says.
    pub(crate) async fn change_as(&self, call: Call) -> Result<Answer, Failure> {
        let answer = self.client().send(&call.once(self.connection.idempotency_key.as_deref())).await?;
        self.note_position(&answer);
        Ok(answer)
    }

    /// Shows what would be recorded of that.
    pub(crate) async fn foresee_as(&self, call: Call) -> Result<(), Failure> {
        let call = call.once(self.connection.idempotency_key.as_deref()).query("dry_run", "true".to_owned());
        dry_run::show(self.screen, self.client().send(&call).await?.body, None)
    }

    fn command(&self, call: Call) -> Call {
        call.once(self.connection.idempotency_key.as_deref()).reason(self.reason())
    }

    /// Says what was done, where in the log, and whether it was so before.
    pub(crate) fn done(&self, what: &str, answer: &Answer) {
        let position = answer.position.map(|position| format!(" (position {position})")).unwrap_or_default();
        match answer.body.get("changed").and_then(Value::as_bool) {
            Some(false) => self.screen.note(format_args!("{what}: it was so already{position}.")),
            _ => self.screen.note(format_args!("{what}{position}.")),
        }
    }

    /// A list, page by page; what was left out is said.
    pub(crate) async fn list(&self, call: Call, paging: &Paging, columns: &'static [Column]) -> Result<(), Failure> {
        let client = self.operator()?;
        let screen = self.screen;
        let mut list = Pieces::new(columns);
        let mut count = 0_u64;
        // So many were written before this page; none is: the list has not begun.
        let mut written = None;
        let more = pages(&client, call, paging, |items| {
            count += items.len() as u64;
            match screen.format {
                Format::Json => write_items(&items, written.replace(count)),
                Format::Table => list.write(&items),
            }
        })
        .await?;
        if screen.format == Format::Json {
            end_items(more.as_deref())?;
        }
        match more {
            Some(cursor) => screen.warn(format_args!(
                "these are the first {count}, and there are more: `--all`, or go on with `--cursor {cursor}`"
            )),
            None => screen.note(format_args!("{count} in all.")),
        }
        Ok(())
    }
}

/// Calls `page` with each page of a list, and returns the cursor of what was left out.
pub(crate) async fn pages(
    client: &Client,
    call: Call,
    paging: &Paging,
    mut page: impl FnMut(Vec<Value>) -> Result<(), Failure>,
) -> Result<Option<String>, Failure> {
    let mut left = if paging.all { u64::MAX } else { paging.limit };
    let mut cursor = paging.cursor.clone();
    loop {
        let limit = left.min(paging.page_max).to_string();
        let mut answer = client.send(&call.clone().query("limit", limit).query("cursor", cursor.clone())).await?.body;
        let Some(Value::Array(items)) = answer.get_mut("items").map(Value::take) else {
            return Err(Failure::Fault(anyhow::anyhow!("the service answered a list without `items`")));
        };
        left = left.saturating_sub(items.len() as u64);
        page(items)?;
        let next = answer.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
        if next.is_some() && next == cursor {
            return Err(Failure::Fault(anyhow::anyhow!("the service answered the same cursor again")));
        }
        cursor = next;
        if cursor.is_none() || left == 0 {
            return Ok(cursor);
        }
    }
}

/// The whole of a list, for whoever needs it at once: a worker's keys, a fleet's pools.
pub(crate) async fn whole(client: &Client, call: Call) -> Result<Vec<Value>, Failure> {
    whole_by(client, call, PAGE_MAX).await
}

/// The same, so many at a time.
pub(crate) async fn whole_by(client: &Client, call: Call, page_max: u64) -> Result<Vec<Value>, Failure> {
    let mut all = Vec::new();
    pages(client, call, &Paging::all_by(page_max), |items| {
        all.extend(items);
        Ok(())
    })
    .await?;
    Ok(all)
}

impl Paging {
    pub(crate) fn all() -> Self {
        Self::all_by(PAGE_MAX)
    }

    /// For lists of which each page is dear, and may be longer.
    pub(crate) fn all_by(page_max: u64) -> Self {
        Self { limit: page_max, all: true, cursor: None, page_max }
    }
}

// A list of a million is written as it comes, and is one JSON document all the same.

fn write_items(items: &[Value], before: Option<u64>) -> Result<(), Failure> {
    let mut out = std::io::BufWriter::new(anstream::stdout().lock());
    if before.is_none() {
        write!(out, "{{\"items\":[").map_err(closed)?;
    }
    let mut separator = if before.unwrap_or_default() == 0 { "\n" } else { ",\n" };
    for item in items {
        write!(out, "{separator}{item}").map_err(closed)?;
        separator = ",\n";
    }
    out.flush().map_err(closed)
}

fn end_items(cursor: Option<&str>) -> Result<(), Failure> {
    let cursor = cursor.map(|cursor| format!(",\"next_cursor\":{}", Value::from(cursor))).unwrap_or_default();
    writeln!(anstream::stdout(), "\n]{cursor}}}").map_err(closed)
}
