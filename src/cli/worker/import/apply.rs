//! Applying the plan: some lines at once, each as one or two commands, each on disk before it counts.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt as _;
use futures_util::stream;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinError;

use super::plan::Plan;
use super::records::{ImportId, Record, Records};
use super::rows::{Row, RowError};
use crate::cli::client::{Answer, Call, Client, exposed, given};
use crate::cli::failure::{Failure, Problem};
use crate::cli::session::Session;

/// How many lines at most share one flush of the keys file.
const RECORDS_BATCH_MAX: usize = 256;
/// How often a key whose answer is gone for good is made anew.
const KEYS_LOST_MAX: u32 = 3;

pub(super) struct Work<'a> {
    pub(super) client: Client,
    pub(super) reason: Option<&'a str>,
    pub(super) concurrency: usize,
    pub(super) plan: &'a Plan,
}

#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) applied: u64,
    pub(super) refused: u64,
}

/// What became of one line.
enum Applied {
    Done { record: Record, keys_lost: u32 },
    Refused { row: Row, problem: Box<Problem> },
}

/// What became of one line, or of the task that did it.
type Settled = Result<Result<Applied, Failure>, JoinError>;

/// What every line is applied with.
struct Tools {
    client: Client,
    id: ImportId,
    reason: Option<String>,
}

pub(super) async fn run(
    work: Work<'_>,
    rows: impl Iterator<Item = Result<Row, RowError>>,
    records: Records,
    refused_path: &Path,
    session: &Session,
) -> Result<Outcome, Failure> {
    let tools = Tools { client: work.client, id: records.id().clone(), reason: work.reason.map(str::to_owned) };
    let tools = Arc::new(tools);
    let bar = progress(work.plan.to_apply());
    let stop = AtomicBool::new(false);
    let rows = as_planned(rows, work.plan).take_while(|_| !stop.load(Ordering::Relaxed));
    let mut applied = stream::iter(rows)
        .map(|row| {
            let tools = Arc::clone(&tools);
            tokio::spawn(async move { tools.apply(row?).await })
        })
        .buffer_unordered(work.concurrency);
    let refusals = Refusals::at(refused_path)?;
    let mut recorder =
        Recorder { records, refusals, session, bar: &bar, outcome: Outcome::default(), failure: None, stop: &stop };
    let (settle, settled) = mpsc::channel(RECORDS_BATCH_MAX);
    let applying = async move {
        while let Some(result) = applied.next().await {
            // Nobody records any more: what is under way is asked for again by the next run.
            if settle.send(result).await.is_err() {
                return;
            }
        }
    };
    // Beside each other: lines go on while those before them are being flushed.
    let ((), recorded) = tokio::join!(applying, recorder.record(settled));
    bar.finish_and_clear();
    recorded?;
    let Recorder { outcome, failure, .. } = recorder;
    let settled = outcome.applied + outcome.refused;
    match failure {
        None if settled == work.plan.to_apply() as u64 => Ok(outcome),
        None => {
            Err(Failure::Usage("the file has become shorter since the plan was shown; run the import again".into()))
        }
        Some(failure) => {
            session.screen.warn(format_args!(
                "stopped after {} lines; run the same import again, and it goes on from there",
                outcome.applied
            ));
            Err(failure)
        }
    }
}

/// Puts on disk what became of the lines, and counts it then.
struct Recorder<'a> {
    records: Records,
    refusals: Refusals<'a>,
    session: &'a Session,
    bar: &'a ProgressBar,
    outcome: Outcome,
    /// The first, where no further line would fare better.
    failure: Option<Failure>,
    stop: &'a AtomicBool,
}

impl Recorder<'_> {
    /// By value, so that whoever settles lines notices when nobody takes them any more.
    async fn record(&mut self, mut settled: mpsc::Receiver<Settled>) -> Result<(), Failure> {
        let mut batch = Vec::with_capacity(RECORDS_BATCH_MAX);
        while settled.recv_many(&mut batch, RECORDS_BATCH_MAX).await > 0 {
            let mut done = Vec::with_capacity(batch.len());
            let count = batch.len() as u64;
            for result in batch.drain(..) {
                match result.unwrap_or_else(|error| Err(Failure::fault("a line was not applied", error))) {
                    Ok(Applied::Done { record, keys_lost }) => {
                        warn_of_lost(self.session, self.bar, &record.worker, keys_lost);
                        done.push(record);
                    }
                    Ok(Applied::Refused { row, problem }) => {
                        self.outcome.refused += 1;
                        self.refusals.add(&row, &problem)?;
                    }
                    Err(error) => {
                        // The lines that are under way are still recorded; no further ones are begun.
                        self.stop.store(true, Ordering::Relaxed);
                        self.failure.get_or_insert(error);
                    }
                }
            }
            self.records.write(&mut done).await?;
            self.outcome.applied += done.len() as u64;
            self.bar.inc(count);
        }
        Ok(())
    }
}

/// The rows that are left to do, as long as they are those that were planned.
fn as_planned(
    rows: impl Iterator<Item = Result<Row, RowError>>,
    plan: &Plan,
) -> impl Iterator<Item = Result<Row, Failure>> {
    let planned = plan.fingerprints.iter().map(Some).chain(std::iter::repeat(None));
    let compared = rows.zip(planned).map(|(row, planned)| match row {
        Ok(row) if planned == Some(&row.fingerprint()) => Ok(row),
        Ok(Row { line, .. }) | Err(RowError { line, .. }) => {
            let changed = format!("line {line} is not what it was when the plan was shown; run the import again");
            Err(Failure::Usage(changed))
        }
    });
    compared.filter(|row| row.as_ref().map_or(true, |row| !plan.is_settled(row.line)))
}

impl Tools {
    async fn apply(&self, row: Row) -> Result<Applied, Failure> {
        match self.make(&row).await {
            Ok((record, keys_lost)) => Ok(Applied::Done { record, keys_lost }),
            Err(Failure::Problem(problem)) if is_about_the_line(&problem) => Ok(Applied::Refused { row, problem }),
            Err(failure) => Err(failure),
        }
    }

    /// The worker, then its key; a static secret comes with the worker.
    async fn make(&self, row: &Row) -> Result<(Record, u32), Failure> {
        let body = given([
            ("pool", json!(row.pool)),
            ("id", json!(row.id)),
            ("name", json!(row.name)),
            ("labels", if row.labels.is_empty() { Value::Null } else { json!(row.labels) }),
            ("expires_at", json!(row.expires_at)),
            ("static_secret", exposed(row.static_secret.as_ref())),
        ]);
        let answer = self.send(Call::post(&["v1", "workers"]).json(body), row.line, "worker").await?;
        let worker = text(&answer, "id")?;
        let mut record = Record {
            pool: row.pool.clone(),
            name: row.name.clone(),
            key_id: None,
            key: None,
            line: row.line,
            import: String::new(),
            worker,
        };
        if row.static_secret.is_some() {
            return Ok((record, 0));
        }
        let mut keys_lost = 0;
        let answer = loop {
            let call = Call::post(&["v1", "workers", &record.worker, "keys"]).json(json!({}));
            match self.send(call, row.line, &format!("key {keys_lost}")).await {
                // It was made more than a day ago, by a run that never got to write it down.
                Err(Failure::Problem(problem)) if problem.code == "secret_gone" && keys_lost < KEYS_LOST_MAX => {
                    keys_lost += 1;
                }
                answer => break answer?,
            }
        };
        record.key_id = Some(text(&answer, "id")?);
        record.key = Some(text(&answer, "key")?);
        Ok((record, keys_lost))
    }

    async fn send(&self, call: Call, line: u64, command: &str) -> Result<Answer, Failure> {
        let key = self.id.idempotency_key(line, command);
        self.client.send(&call.once(Some(&key)).reason(self.reason.as_deref())).await
    }
}

/// Whether another line may well succeed: what is wrong with the operator or the service is wrong for all of them.
fn is_about_the_line(problem: &Problem) -> bool {
    (400..500).contains(&problem.status) && !matches!(problem.status, 401 | 403 | 408 | 429)
}

fn text(answer: &Answer, field: &str) -> Result<String, Failure> {
    let text = answer.body.get(field).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| Failure::Fault(anyhow::anyhow!("the service answered without `{field}`")))
}

fn warn_of_lost(session: &Session, bar: &ProgressBar, worker: &str, keys_lost: u32) {
    if keys_lost > 0 {
        bar.suspend(|| {
            session.screen.warn(format_args!(
                "worker {worker} has {keys_lost} more keys that nobody received; see `portcullis key list --worker \
                 {worker}` and revoke them"
            ));
        });
    }
}

fn progress(lines: usize) -> ProgressBar {
    // Drawn on a terminal only; in a pipe it is silent.
    let bar = ProgressBar::with_draw_target(Some(lines as u64), ProgressDrawTarget::stderr());
    let template = "{bar:40} {human_pos}/{human_len} workers, {per_sec}, {eta} left";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The lines that were refused, with the reason and without secrets, in a file that is made when there is one.
struct Refusals<'a> {
    path: &'a Path,
    file: Option<File>,
}

impl<'a> Refusals<'a> {
    fn at(path: &'a Path) -> Result<Self, Failure> {
        // Those of an earlier run are tried again now, and would be told as if they were still refused.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::fault(format_args!("cannot remove the old {}", path.display()), error))
            }
            Ok(()) | Err(_) => Ok(Self { path, file: None }),
        }
    }

    fn add(&mut self, row: &Row, problem: &Problem) -> Result<(), Failure> {
        let fault = |error| Failure::fault(format_args!("cannot write {}", self.path.display()), error);
        if self.file.is_none() {
            self.file = Some(File::create(self.path).map_err(fault)?);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let refused = json!({
            "line": row.line,
            "pool": row.pool,
            "id": row.id,
            "name": row.name,
            "code": problem.code,
            "title": problem.title,
            "detail": problem.detail,
            "request_id": problem.request_id,
        });
        writeln!(file, "{refused}").map_err(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan;
    use super::*;

    fn rows(names: &[&str]) -> Vec<Result<Row, RowError>> {
        let row = |(index, name): (usize, &&str)| {
            Ok(Row { line: index as u64 + 2, pool: "b".to_owned(), name: Some((*name).to_owned()), ..Row::default() })
        };
        names.iter().enumerate().map(row).collect()
    }

    #[tokio::test]
    async fn what_is_applied_is_what_was_planned() {
        let open = async |_: &str| Ok(plan::PoolSeen::Open { sharing: false });
        let mut plan = plan::read(rows(&["a", "b", "c"]).into_iter(), open).await.expect("a plan");
        plan.done = vec![3];
        let lines = |names: &[&str]| -> Vec<Option<u64>> {
            as_planned(rows(names).into_iter(), &plan).map(|row| row.ok().map(|row| row.line)).collect()
        };
        assert_eq!(lines(&["a", "b", "c"]), [Some(2), Some(4)]);
        assert_eq!(lines(&["a", "x", "c"]), [Some(2), None, Some(4)], "a changed line stops the import");
        assert_eq!(lines(&["a", "b", "c", "d"]), [Some(2), Some(4), None], "so does a further one");
    }

    #[test]
    fn only_what_is_wrong_with_a_line_is_put_aside() {
        for (status, aside) in [(400, true), (409, true), (422, true), (401, false), (403, false), (429, false)] {
            assert_eq!(is_about_the_line(&Problem::read(status, None, b"")), aside, "{status}");
        }
    }
}
