//! `portcullis worker import`: a fleet from a file, as a plan that is shown and then applied, line by line.
//!
//! The file is read twice and never held: once to check every line and to count, once to apply. Every command carries
//! an idempotency key made from the file's content and the line, and every new key is on disk before its line counts
//! as done; so the same import can be run again after any interruption, and goes on where it was.

mod apply;
mod plan;
mod records;
mod rows;

use std::fs::File;
use std::io::{BufReader, Seek as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use self::plan::Plan;
use self::records::Records;
use self::rows::{Form, Rows};
use crate::cli::caution::Caution;
use crate::cli::client::Call;
use crate::cli::failure::Failure;
use crate::cli::output::Column;
use crate::cli::session::Session;

/// The service commits as one batch whatever waits while it commits the batch before: the more lines wait, the fewer flushes
/// a line costs. A quarter of what one HTTP/2 connection carries leaves room for others.
const LINES_IN_FLIGHT: u16 = 64;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portcullis worker import fleet.csv --dry-run
  portcullis worker import fleet.jsonl --yes --keys-out fleet.keys.jsonl

The file, as CSV with a heading, or as JSON lines with the same fields:
  pool,id,name,labels,label.rack,static_secret,expires_at
  builders,builder-7,,zone=a;os=linux,12,,2030-01-31T00:00:00Z

Only `pool` is needed. A line without a static secret gets an API key, written to the keys file as a JSON line. Run it
again, with the same file and the same keys file, after an interruption: nothing is made twice. Workers whose id exists
already are left alone.")]
pub(crate) struct Args {
    /// The fleet: `.csv` or `.jsonl`.
    file: PathBuf,
    /// How the file is written. Default: by its ending.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Form>,
    /// Where the new keys go, for your eyes alone. Default: the file's name and `.keys.jsonl`.
    #[arg(long, value_name = "FILE")]
    keys_out: Option<PathBuf>,
    /// How many lines are applied at once.
    #[arg(long, value_name = "LINES", default_value_t = LINES_IN_FLIGHT, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    #[command(flatten)]
    caution: Caution,
}

const RESULT_COLUMNS: &[Column] = &[
    ("lines", "lines"),
    ("applied now", "applied"),
    ("applied before", "applied_before"),
    ("known, left alone", "known"),
    ("refused", "refused"),
    ("keys", "keys_file"),
    ("refused lines", "refused_file"),
];

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let mut source = Source::open(&args.file, args.format)?;
    let digest = source.digest()?;
    let client = session.operator()?;
    let mut plan = plan::read(source.rows()?, async |pool: &str| plan::look_up(&client, pool).await).await?;
    let keys_path = args.keys_out.clone().unwrap_or_else(|| beside(&args.file, "keys.jsonl"));
    let token = session.operator_token()?;
    let id = records::ImportId::new(&digest, &token);
    let resumed = Records::resume(&keys_path, id.clone())?;

    match &resumed {
        Some(records) => plan.mark_done(records.done())?,
        None => plan.look_for_known(&client).await?,
    }
    if args.caution.dry.is_asked() {
        // What a single line is refused for shows when it is applied; whether any worker may be made in these pools, now.
        for pool in plan.pools() {
            session.foresee(Call::post(&["v1", "workers"]).json(json!({ "pool": pool }))).await?;
        }
    }
    if !approved(&args, session, &plan, &keys_path)? {
        return Ok(());
    }

    let records = match resumed {
        Some(records) => records.go_on().await?,
        None => Records::start(&keys_path, id, &plan.known)?,
    };
    let refused_path = beside(&args.file, "failed.jsonl");
    let work = apply::Work { client, reason: session.reason(), concurrency: args.concurrency.into(), plan: &plan };
    let outcome = apply::run(work, source.rows()?, records, &refused_path, session).await?;
    report(session, &plan, &outcome, &keys_path, &refused_path)
}

fn approved(args: &Args, session: &Session, plan: &Plan, keys_path: &Path) -> Result<bool, Failure> {
    let screen = session.screen;
    let touched = plan.touched(&args.file, keys_path);
    for warning in plan.warnings() {
        screen.warn(warning);
    }
    if args.caution.looks_first() {
        return args.caution.approve(screen, &touched);
    }
    touched.show_aside(screen);
    Ok(true)
}

fn report(
    session: &Session,
    plan: &Plan,
    outcome: &apply::Outcome,
    keys_path: &Path,
    refused_path: &Path,
) -> Result<(), Failure> {
    let refused_file = (outcome.refused > 0).then(|| refused_path.display().to_string());
    session.screen.object(
        RESULT_COLUMNS,
        &json!({
            "lines": plan.lines(),
            "applied": outcome.applied,
            "applied_before": plan.done.len(),
            "known": plan.known.len(),
            "refused": outcome.refused,
            "keys_file": keys_path.display().to_string(),
            "refused_file": refused_file,
        }),
    )?;
    session.screen.note(format_args!("The keys are in {}: hand them out, then remove it.", keys_path.display()));
    match outcome.refused {
        0 => Ok(()),
        refused => Err(Failure::Partly(format!(
            "{refused} of {} lines were refused; each is in {} with its reason. Mend what it names and run the import \
             again",
            plan.lines(),
            refused_path.display()
        ))),
    }
}

/// The file, opened once: what is applied is what was checked, even if another file takes its name in between.
struct Source {
    path: PathBuf,
    file: File,
    form: Form,
}

impl Source {
    fn open(path: &Path, form: Option<Form>) -> Result<Self, Failure> {
        let form = form.or_else(|| Form::by_ending(path)).ok_or_else(|| {
            Failure::Usage(format!("`{}` ends in neither .csv nor .jsonl; say which with `--format`", path.display()))
        })?;
        let file = File::open(path).map_err(|error| Self::fault(path, error))?;
        Ok(Self { path: path.to_owned(), file, form })
    }

    fn digest(&mut self) -> Result<[u8; 32], Failure> {
        self.rewind()?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&self.file).map_err(|error| Self::fault(&self.path, error))?;
        Ok(*hasher.finalize().as_bytes())
    }

    fn rows(&mut self) -> Result<Rows<BufReader<File>>, Failure> {
        self.rewind()?;
        let file = self.file.try_clone().map_err(|error| Self::fault(&self.path, error))?;
        Rows::new(BufReader::new(file), self.form, chrono::Utc::now())
            .map_err(|error| Failure::Usage(error.to_string()))
    }

    fn rewind(&mut self) -> Result<(), Failure> {
        let rewound = self.file.rewind();
        rewound.map_err(|error| Failure::fault(format_args!("`{}` has to be a plain file", self.path.display()), error))
    }

    fn fault(path: &Path, error: std::io::Error) -> Failure {
        Failure::fault(format_args!("cannot read {}", path.display()), error)
    }
}

/// A file beside this one, of its name and one more ending.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}
