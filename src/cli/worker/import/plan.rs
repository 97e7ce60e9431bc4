//! What an import would do, counted before anything is done, in memory of a few bytes a line.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZero;
use std::path::Path;

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::rows::{Row, RowError};
use crate::cli::caution::{Part, Touched};
use crate::cli::client::{Call, Client};
use crate::cli::failure::Failure;
use crate::cli::output::Column;
use crate::cli::session::{Paging, pages};
use crate::credential::strength::{Weakness, check_static_secret};

/// How many wrong lines are listed. Who has more than these has one mistake in all of them.
const ERRORS_LISTED_MAX: usize = 20;
/// How many lines are held at a time: enough for every core to have secrets to judge.
const LINES_AT_ONCE: usize = 4096;

#[derive(Default)]
pub(super) struct Plan {
    /// What each line was when it was checked, in their order.
    pub(super) fingerprints: Vec<u64>,
    /// Lines whose worker exists, in ascending order; they are left alone.
    pub(super) known: Vec<u64>,
    /// Lines that an earlier run has done, in ascending order.
    pub(super) done: Vec<u64>,
    pools: BTreeMap<String, OfPool>,
    /// By the digest of its id, the line that has it.
    ids: HashMap<u64, u64>,
    /// By the digest of pool and name, how many lines without an id have it.
    names: HashMap<u64, u64>,
    /// Lines without an id whose name some worker of the pool has already.
    names_in_use: u64,
    hash: RandomState,
}

#[derive(Default)]
struct OfPool {
    workers: u64,
    static_secrets: u64,
    nameless: u64,
    /// Lines whose name another line of the pool has too.
    namesakes: u64,
    /// Lines with a static secret that an earlier line has too.
    repeated_secrets: u64,
}

/// What the service says of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PoolSeen {
    Missing,
    Removed,
    Open { sharing: bool },
}

/// What is known of the file so far, and needed only while it is read.
#[derive(Default)]
struct Reading {
    pools: HashMap<String, PoolSeen>,
    /// By the digest of pool and name.
    names: HashSet<u64>,
    /// By the digest of a static secret, the first line that has it.
    secrets: HashMap<u64, u64>,
    errors: Errors,
}

const COLUMNS: &[Column] = &[
    ("pool", "pool"),
    ("workers", "workers"),
    ("api keys", "api_keys"),
    ("static secrets", "static_secrets"),
    ("without a name", "nameless"),
    ("of one name", "namesakes"),
];
const TOTAL_COLUMNS: &[Column] = &[
    ("lines", "lines"),
    ("to apply", "to_apply"),
    ("applied before", "applied_before"),
    ("known, left alone", "known"),
];

/// Reads the whole file, and either counts it or says all that is wrong with it. `pool` asks the service for a pool, and is
/// called once for each.
pub(super) async fn read(
    rows: impl Iterator<Item = Result<Row, RowError>>,
    mut pool: impl AsyncFnMut(&str) -> Result<PoolSeen, Failure>,
) -> Result<Plan, Failure> {
    let (mut plan, mut reading) = (Plan::default(), Reading::default());
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        let some: Vec<_> = rows.by_ref().take(LINES_AT_ONCE).collect();
        let judged = judged(&some);
        for (row, weakness) in some.into_iter().zip(judged) {
            reading.errors.lines += 1;
            let named = row.as_ref().map_or_else(|error| error.pool.as_ref(), |row| Some(&row.pool));
            let seen = match named {
                Some(name) => Some(reading.pool(name, &mut pool).await?),
                None => None,
            };
            let not_open = named.zip(seen).and_then(|(name, seen)| seen.problem(name));
            let (line, mut wrong) = match row {
                Ok(row) => (row.line, plan.count(&row, &mut reading, seen == Some(PoolSeen::Open { sharing: true }))),
                Err(error) => (error.line, error.what),
            };
            wrong.extend(not_open);
            wrong.extend(weakness.map(|weakness| format!("static_secret: {weakness}")));
            reading.errors.add(line, &wrong);
        }
    }
    reading.errors.result()?;
    if plan.fingerprints.is_empty() {
        return Err(Failure::Usage("the file has no workers in it".to_owned()));
    }
    Ok(plan)
}

/// What the service says of this pool.
pub(super) async fn look_up(client: &Client, pool: &str) -> Result<PoolSeen, Failure> {
    match client.send(&Call::get(&["v1", "pools", pool])).await {
        Ok(answer) if answer.body["removed"] == true => Ok(PoolSeen::Removed),
        Ok(answer) => Ok(PoolSeen::Open { sharing: answer.body["sharing"] == true }),
        Err(Failure::Problem(problem)) if problem.status == 404 => Ok(PoolSeen::Missing),
        Err(failure) => Err(failure),
    }
}

/// For each line, what is wrong with its static secret. An estimate takes a millisecond, so all cores take part.
fn judged(rows: &[Result<Row, RowError>]) -> Vec<Option<Weakness>> {
    let weakness = |row: &Result<Row, RowError>| {
        let secret = row.as_ref().ok()?.static_secret.as_ref()?;
        check_static_secret(secret.expose_secret()).err()
    };
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let share = rows.len().div_ceil(cores).max(1);
    std::thread::scope(|scope| {
        let judge = |rows: &[Result<Row, RowError>]| rows.iter().map(weakness).collect::<Vec<_>>();
        let threads: Vec<_> = rows.chunks(share).map(|rows| scope.spawn(move || judge(rows))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("an estimate does not panic")).collect()
    })
}

impl PoolSeen {
    fn problem(self, name: &str) -> Option<String> {
        match self {
            PoolSeen::Open { .. } => None,
            PoolSeen::Removed => Some(format!("pool: `{name}` was removed, for good; choose another")),
            PoolSeen::Missing => {
                Some(format!("pool: there is no pool `{name}`; create it with `portcullis pool create {name}`"))
            }
        }
    }
}

impl Reading {
    async fn pool(
        &mut self,
        name: &str,
        ask: &mut impl AsyncFnMut(&str) -> Result<PoolSeen, Failure>,
    ) -> Result<PoolSeen, Failure> {
        if let Some(seen) = self.pools.get(name) {
            return Ok(*seen);
        }
        let seen = ask(name).await?;
        self.pools.insert(name.to_owned(), seen);
        Ok(seen)
    }
}

#[derive(Default)]
struct Errors {
    listed: Vec<String>,
    /// How many lines are wrong, of how many.
    wrong: usize,
    lines: usize,
}

impl Errors {
    fn add(&mut self, line: u64, what: &[String]) {
        if what.is_empty() {
            return;
        }
        self.wrong += 1;
        if self.wrong <= ERRORS_LISTED_MAX {
            self.listed.extend(what.iter().map(|what| format!("line {line}: {what}")));
        }
    }

    fn result(&self) -> Result<(), Failure> {
        if self.wrong == 0 {
            return Ok(());
        }
        let more = match self.wrong.saturating_sub(ERRORS_LISTED_MAX) {
            0 => String::new(),
            more => format!("\n  and {more} more"),
        };
        let (wrong, lines, listed) = (self.wrong, self.lines, self.listed.join("\n  "));
        Err(Failure::Usage(format!("{wrong} of {lines} lines are wrong, and nothing was changed:\n  {listed}{more}")))
    }
}

impl Plan {
    pub(super) fn pools(&self) -> impl Iterator<Item = &str> {
        self.pools.keys().map(String::as_str)
    }

    /// Counts a line, and says what is wrong with it beside others.
    fn count(&mut self, row: &Row, reading: &mut Reading, sharing: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        self.fingerprints.push(row.fingerprint());
        let name = row.name.as_ref().map(|name| self.hash.hash_one((&row.pool, name)));
        if let Some(id) = &row.id
            && let Some(first) = self.ids.insert(self.hash.hash_one(id), row.line)
        {
            wrong.push(format!("id: `{id}` stands on line {first} too; ids are unique"));
        }
        if let (Some(name), None) = (name, &row.id) {
            *self.names.entry(name).or_default() += 1;
        }
        let pool = self.pools.entry(row.pool.clone()).or_default();
        pool.workers += 1;
        match name {
            None => pool.nameless += 1,
            Some(name) if !reading.names.insert(name) => pool.namesakes += 1,
            Some(_) => {}
        }
        if let Some(secret) = &row.static_secret {
            pool.static_secrets += 1;
            let first = *reading.secrets.entry(self.hash.hash_one(secret.expose_secret())).or_insert(row.line);
            if first != row.line {
                pool.repeated_secrets += 1;
                if !sharing {
                    wrong.push(format!(
                        "static_secret: line {first} has the same, and pool `{}` does not allow sharing; choose another",
                        row.pool
                    ));
                }
            }
        }
        wrong
    }

    pub(super) fn lines(&self) -> usize {
        self.fingerprints.len()
    }

    pub(super) fn to_apply(&self) -> usize {
        self.lines() - self.known.len() - self.done.len()
    }

    pub(super) fn is_settled(&self, line: u64) -> bool {
        self.known.binary_search(&line).is_ok() || self.done.binary_search(&line).is_ok()
    }

    /// Finds the lines whose worker exists, and the names that are in use.
    pub(super) async fn look_for_known(&mut self, client: &Client) -> Result<(), Failure> {
        if self.ids.is_empty() && self.names.is_empty() {
            return Ok(());
        }
        for pool in self.pools.keys() {
            let call = Call::get(&["v1", "workers"]).query("pool", pool.clone());
            pages(client, call, &Paging::all(), |workers| {
                for worker in &workers {
                    let known = worker["id"].as_str().and_then(|id| self.ids.remove(&self.hash.hash_one(id)));
                    self.known.extend(known);
                    let name = worker["name"].as_str().map(|name| self.hash.hash_one((pool, name)));
                    self.names_in_use += name.and_then(|name| self.names.remove(&name)).unwrap_or_default();
                }
                Ok(())
            })
            .await?;
        }
        self.known.sort_unstable();
        Ok(())
    }

    pub(super) fn mark_done(&mut self, records: &super::records::Done) -> Result<(), Failure> {
        self.done.clone_from(&records.lines);
        self.known.clone_from(&records.known);
        if self.done.len() + self.known.len() > self.lines() {
            return Err(Failure::Usage("the keys file has more lines of this import than the file".to_owned()));
        }
        Ok(())
    }

    pub(super) fn touched(&self, file: &Path, keys: &Path) -> Touched {
        let pools = self.pools.iter().map(|(name, pool)| {
            json!({
                "pool": name,
                "workers": pool.workers,
                "api_keys": pool.workers - pool.static_secrets,
                "static_secrets": pool.static_secrets,
                "nameless": pool.nameless,
                "namesakes": pool.namesakes,
            })
        });
        let total = json!({
            "lines": self.lines(),
            "to_apply": self.to_apply(),
            "applied_before": self.done.len(),
            "known": self.known.len(),
        });
        let pools: Vec<Value> = pools.collect();
        Touched {
            deed: format!("import {} workers from {}, keys to {}", self.to_apply(), file.display(), keys.display()),
            parts: vec![
                Part { what: "pools", columns: COLUMNS, items: pools },
                Part { what: "total", columns: TOTAL_COLUMNS, items: vec![total] },
            ],
        }
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let namesakes: u64 = self.pools.values().map(|pool| pool.namesakes).sum();
        let repeated: u64 = self.pools.values().map(|pool| pool.repeated_secrets).sum();
        let mut warnings = Vec::new();
        if namesakes > 0 {
            warnings.push(format!(
                "{namesakes} lines have a name that an earlier line of their pool has: they are other workers"
            ));
        }
        if self.names_in_use > 0 {
            warnings.push(format!(
                "{} lines without an id have a name that a worker of their pool has already: they become further workers \
                 of that name. Were they imported before, from another file? An id would tell",
                self.names_in_use
            ));
        }
        if repeated > 0 {
            warnings.push(format!("{repeated} static secrets stand on an earlier line too: a shared secret is a risk"));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(line: u64, id: Option<&str>, name: Option<&str>) -> Row {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Row { line, pool: "b".to_owned(), id: text(id), name: text(name), ..Row::default() }
    }

    async fn planned(rows: impl IntoIterator<Item = Result<Row, RowError>>) -> Result<Plan, Failure> {
        read(rows.into_iter(), async |_: &str| Ok(PoolSeen::Open { sharing: false })).await
    }

    #[tokio::test]
    async fn a_file_is_counted() {
        let rows = [row(2, Some("w1"), Some("one")), row(3, None, Some("one")), row(4, None, None)];
        let plan = planned(rows.map(Ok)).await.expect("a plan");
        let pool = &plan.pools["b"];
        assert_eq!((pool.workers, pool.nameless, pool.namesakes), (3, 1, 1));
        assert_eq!((plan.lines(), plan.to_apply()), (3, 3));
    }

    #[tokio::test]
    async fn an_id_stands_once() {
        let failure = planned([row(2, Some("w"), None), row(3, Some("w"), None)].map(Ok)).await.err();
        assert!(failure.expect("a failure").to_string().contains("line 3: id: `w` stands on line 2 too"));
    }

    #[tokio::test]
    async fn a_pool_is_asked_for_once_and_missed_on_every_line() {
        let mut asked = 0;
        let rows = (2..5).map(|line| Ok(row(line, None, None)));
        let missing = async |_: &str| {
            asked += 1;
            Ok(PoolSeen::Missing)
        };
        let text = read(rows, missing).await.err().expect("a failure").to_string();
        assert_eq!((text.matches("there is no pool `b`").count(), asked), (3, 1), "{text}");
    }

    #[tokio::test]
    async fn errors_are_listed_up_to_a_number_and_counted_beyond() {
        let wrong = |line| Err(RowError { line, what: vec!["is wrong".to_owned(), "twice".to_owned()], pool: None });
        let text = planned((1..=50).map(wrong)).await.err().expect("a failure").to_string();
        assert_eq!((text.matches("is wrong").count(), text.matches("twice").count()), (20, 20), "{text}");
        assert!(text.contains("50 of 50 lines") && text.contains("and 30 more"), "{text}");
    }

    #[tokio::test]
    async fn an_empty_file_is_no_fleet() {
        assert!(planned([]).await.is_err());
    }
}
