//! What an import would do, counted before anything is done, in memory of a few bytes a line.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::rows::{Row, RowError};
use crate::cli::caution::{Part, Touched};
use crate::cli::client::{Call, Client};
use crate::cli::failure::Failure;
use crate::cli::output::Column;
use crate::cli::session::{Paging, pages};

/// How many wrong lines are listed. Who has more than these has one mistake in all of them.
const ERRORS_LISTED_MAX: usize = 20;

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
    /// Lines with a static secret that another line has too, and the first of them.
    repeated_secrets: u64,
    first_repeated: u64,
    first_line: u64,
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

/// Reads the whole file, and either counts it or says what is wrong with it.
pub(super) fn read(rows: &mut impl Iterator<Item = Result<Row, RowError>>) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let mut errors = Errors::default();
    let (mut names, mut secrets) = (HashSet::new(), HashSet::new());
    for row in rows {
        match row {
            Ok(row) => plan.count(&row, &mut names, &mut secrets, &mut errors),
            Err(error) => errors.add(error.to_string()),
        }
    }
    errors.result()?;
    if plan.fingerprints.is_empty() {
        return Err(Failure::Usage("the file has no workers in it".to_owned()));
    }
    Ok(plan)
}

#[derive(Default)]
struct Errors {
    listed: Vec<String>,
    count: usize,
}

impl Errors {
    fn add(&mut self, error: String) {
        self.count += 1;
        if self.listed.len() < ERRORS_LISTED_MAX {
            self.listed.push(error);
        }
    }

    fn result(self) -> Result<(), Failure> {
        if self.count == 0 {
            return Ok(());
        }
        let more = match self.count - self.listed.len() {
            0 => String::new(),
            more => format!("\n  and {more} more"),
        };
        let listed = self.listed.join("\n  ");
        Err(Failure::Usage(format!("the file is not imported, nothing was changed:\n  {listed}{more}")))
    }
}

impl Plan {
    fn count(&mut self, row: &Row, names: &mut HashSet<u64>, secrets: &mut HashSet<u64>, errors: &mut Errors) {
        self.fingerprints.push(row.fingerprint());
        let name = row.name.as_ref().map(|name| self.hash.hash_one((&row.pool, name)));
        if let Some(id) = &row.id
            && let Some(first) = self.ids.insert(self.hash.hash_one(id), row.line)
        {
            errors.add(format!("line {}: id: `{id}` stands on line {first} too", row.line));
        }
        if let (Some(name), None) = (name, &row.id) {
            *self.names.entry(name).or_default() += 1;
        }
        let secret = row.static_secret.as_ref().map(|secret| self.hash.hash_one(secret.expose_secret()));

        let pool = self.pools.entry(row.pool.clone()).or_default();
        if pool.workers == 0 {
            pool.first_line = row.line;
        }
        pool.workers += 1;
        match name {
            None => pool.nameless += 1,
            Some(name) if !names.insert(name) => pool.namesakes += 1,
            Some(_) => {}
        }
        if let Some(secret) = secret {
            pool.static_secrets += 1;
            if !secrets.insert(secret) {
                pool.repeated_secrets += 1;
                if pool.repeated_secrets == 1 {
                    pool.first_repeated = row.line;
                }
            }
        }
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

    /// Whether every pool exists, and allows what the lines ask of it.
    pub(super) async fn check_pools(&self, client: &Client) -> Result<(), Failure> {
        let mut errors = Errors::default();
        for (name, pool) in &self.pools {
            match client.send(&Call::get(&["v1", "pools", name])).await {
                Ok(answer) if answer.body["removed"] == true => {
                    errors.add(format!("line {}: pool `{name}` was removed", pool.first_line));
                }
                Ok(answer) if pool.repeated_secrets > 0 && answer.body["sharing"] != true => errors.add(format!(
                    "line {}: static_secret: another line has the same, and pool `{name}` does not allow sharing",
                    pool.first_repeated
                )),
                Ok(_) => {}
                Err(Failure::Problem(problem)) if problem.status == 404 => errors.add(format!(
                    "line {}: there is no pool `{name}`; create it with `portcullis pool create {name}`",
                    pool.first_line
                )),
                Err(failure) => return Err(failure),
            }
        }
        errors.result()
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

    #[test]
    fn a_file_is_counted() {
        let rows = [row(2, Some("w1"), Some("one")), row(3, None, Some("one")), row(4, None, None)];
        let plan = read(&mut rows.into_iter().map(Ok)).expect("a plan");
        let pool = &plan.pools["b"];
        assert_eq!((pool.workers, pool.nameless, pool.namesakes, pool.first_line), (3, 1, 1, 2));
        assert_eq!((plan.lines(), plan.to_apply()), (3, 3));
    }

    #[test]
    fn an_id_stands_once() {
        let failure = read(&mut [row(2, Some("w"), None), row(3, Some("w"), None)].into_iter().map(Ok)).err();
        assert!(failure.expect("a failure").to_string().contains("line 3: id: `w` stands on line 2 too"));
    }

    #[test]
    fn errors_are_listed_up_to_a_number_and_counted_beyond() {
        let wrong = (1..=50).map(|line| Err(RowError { line, what: "is wrong".to_owned() }));
        let text = read(&mut wrong.into_iter()).err().expect("a failure").to_string();
        assert_eq!(text.matches("is wrong").count(), ERRORS_LISTED_MAX);
        assert!(text.contains("and 30 more"), "{text}");
    }

    #[test]
    fn an_empty_file_is_no_fleet() {
        assert!(read(&mut std::iter::empty()).is_err());
    }
}
