//! `portcullis incident`: a case with a checklist that fills itself from what is done for it.

mod readmit;
mod replay;
mod report;
mod scope;
mod shell;

use std::ffi::OsString;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::client::{Answer, Call, given};
use super::dry_run::DryRun;
use super::failure::Failure;
use super::output::{Column, Format};
use super::session::{Paging, Session};
use super::time::{from_now, past};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Show what is reached from what is known to have leaked: workers, keys, enrollment secrets, and who used them.
    #[command(after_help = scope::AFTER_HELP)]
    Scope(scope::Args),
    /// Open an incident, or a drill.
    #[command(
        after_help = "Examples:\n  portcullis incident open 'Key of builder-7 leaked' --severity high --scope worker:builder-7\n  \
                            portcullis incident open 'Enrollment secret on a forum' --severity critical --first-sign 40m \\\n    \
                            --scope enrollment_secret:2fTzGkcV0JPYqkHfYgkWcz --person alice --person bob\n  \
                            portcullis incident open 'Friday drill' --severity low --scope pool:builders --drill"
    )]
    Open {
        /// What it is, in one line.
        title: String,
        #[command(flatten)]
        known: Known,
        /// How bad it is.
        #[arg(long, value_name = "critical|high|medium|low")]
        severity: String,
        /// Its id, such as the number of a ticket. Default: `INC-` and a count.
        #[arg(long)]
        id: Option<String>,
        /// The template of its checklist.
        #[arg(long, value_name = "NAME")]
        template: Option<String>,
        /// An exercise, on copies of the workers in the scope. Nothing that is done for it can touch anything else.
        #[arg(long)]
        drill: bool,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Say otherwise what an incident is, how bad, and who works on it. What is given takes the place of what was said.
    #[command(after_help = "Example:\n  portcullis incident update INC-7 --severity critical --scope pool:builders")]
    Update {
        #[command(flatten)]
        incident: Which,
        #[arg(long)]
        title: Option<String>,
        /// How bad it is.
        #[arg(long, value_name = "critical|high|medium|low")]
        severity: Option<String>,
        #[command(flatten)]
        known: Known,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Write something down, for whoever reads the incident later.
    #[command(
        after_help = "Examples:\n  portcullis incident note 'The owner of builder-7 was called' --incident INC-7\n  \
                            portcullis incident note --review 'Nothing but the leak in the logs since Monday'"
    )]
    Note {
        text: String,
        /// It says what you found in logs or changes: that fills a step which waits for a review.
        #[arg(long)]
        review: bool,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Settle a step of the checklist by hand. Steps whose events are there are filled by themselves.
    #[command(
        after_help = "Examples:\n  portcullis incident step restore waived --reason 'no data was touched' --incident INC-7\n  \
                            portcullis incident step review done --reason 'by the auditors, report 12'"
    )]
    Step {
        /// The step's id, as `incident show` lists it.
        step: String,
        /// `open`: it is to be done again.
        #[arg(value_name = "done|waived|open")]
        state: String,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Close an incident, for good. Refused while a step is open; a drill's copies go with it.
    #[command(after_help = "Example:\n  portcullis incident close INC-7 --summary 'One key leaked by a log; rotated.'")]
    Close {
        #[command(flatten)]
        incident: Which,
        /// What it was, in the end.
        #[arg(long)]
        summary: String,
        #[command(flatten)]
        dry: DryRun,
    },
    /// Show an incident and its checklist.
    #[command(after_help = "Example:\n  portcullis incident show INC-7")]
    Show {
        #[command(flatten)]
        incident: Which,
    },
    /// List incidents.
    #[command(after_help = "Example:\n  portcullis incident list --state open")]
    List {
        /// Only such ones.
        #[arg(long, value_name = "open|closed")]
        state: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Let isolated workers back in wave by wave, with new keys.
    #[command(after_help = readmit::AFTER_HELP)]
    Readmit {
        #[command(subcommand)]
        verb: readmit::Verb,
    },
    /// Walk through an incident event by event: what was done, by whom, what it changed, and when that was in force
    /// everywhere.
    #[command(after_help = "Examples:\n  portcullis incident replay INC-7\n  \
                            portcullis incident replay INC-7 --output json | jq '.items[] | [.kind, .workers]'\n\n\
                            On a terminal: the arrows, or j and k, go forward and back; q ends it.")]
    Replay {
        #[command(flatten)]
        incident: Which,
    },
    /// Write the report of an incident: one file, from the log alone, the same each time.
    #[command(after_help = "Example:\n  portcullis incident report INC-7 --format html --out INC-7.html")]
    Report {
        #[command(flatten)]
        incident: Which,
        #[arg(long, value_enum, default_value = "md")]
        format: report::FileFormat,
        /// The file to write. Default: standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// The last position of the log that is reported on. Default: the closing, or the newest of an open incident.
        #[arg(long, value_name = "POSITION")]
        through: Option<u64>,
    },
    /// Start a shell in which every command is for the incident.
    #[command(after_help = "Examples:\n  portcullis incident shell INC-7\n  \
                            portcullis incident shell INC-7 -- -c 'portcullis plan isolate pool:builders --yes'\n\n\
                            The shell is that of SHELL. It has PORTCULLIS_INCIDENT, and the service that this was asked of.")]
    Shell {
        #[command(flatten)]
        incident: Which,
        /// What the shell is given.
        #[arg(last = true, value_name = "ARGUMENT")]
        arguments: Vec<OsString>,
    },
}

/// Which incident.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Which {
    /// The incident's id. Default: what `--incident` names, or the shell of an incident.
    #[arg(value_name = "INCIDENT", id = "which")]
    id: Option<String>,
}

/// What is known of an incident.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Known {
    /// What is affected: a criterion, as plans have them, such as pool:ID, worker:ID or label:NAME=VALUE. May be repeated.
    #[arg(long, value_name = "CRITERION")]
    scope: Vec<String>,
    /// Somebody who works on it. May be repeated.
    #[arg(long, value_name = "NAME")]
    person: Vec<String>,
    /// When it began: a time, or how long ago, such as `40m`.
    #[arg(long, value_name = "TIME", value_parser = past)]
    first_sign: Option<String>,
}

const COLUMNS: &[Column] = &[
    ("id", "id"),
    ("title", "title"),
    ("severity", "severity"),
    ("state", "state"),
    ("drill in the pool", "pool"),
    ("scope", "scope"),
    ("people", "people"),
    ("first sign", "first_sign"),
    ("opened at position", "opened"),
    ("opened", "opened_at"),
    ("closed", "closed_at"),
    ("summary", "summary"),
    ("events", "events"),
    ("notes", "notes"),
    ("in force everywhere", "in_force"),
];

const LIST_COLUMNS: &[Column] = &[
    ("id", "id"),
    ("severity", "severity"),
    ("state", "state"),
    ("drill", "drill"),
    ("opened", "opened_at"),
    ("events", "events"),
    ("title", "title"),
];

const STEP_COLUMNS: &[Column] = &[
    ("step", "id"),
    ("state", "state"),
    ("title", "title"),
    ("position", "position"),
    ("when", "at"),
    ("reason", "reason"),
];

pub(crate) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::Scope(args) => scope::run(args, session).await,
        Verb::Open { title, known, severity, id, template, drill, dry } => {
            let mut body = known.body();
            let more = [
                ("title", json!(title)),
                ("severity", json!(severity)),
                ("id", json!(id)),
                ("template", json!(template)),
            ];
            merge(&mut body, given(more));
            if drill {
                body["drill"] = json!(true);
            }
            open(session, body, dry).await
        }
        Verb::Update { incident, title, severity, known, dry } => {
            let mut body = known.body();
            merge(&mut body, given([("title", json!(title)), ("severity", json!(severity))]));
            let id = incident.id(session)?;
            let Some(answer) = session.change(Call::patch(&["v1", "incidents", &id]).json(body), dry).await? else {
                return Ok(());
            };
            changed(session, &format!("Updated incident {id}"), &answer)
        }
        Verb::Note { text, review, dry } => {
            let body = json!({ "note": text, "review": review });
            let id = named(session)?;
            let Some(answer) = post(session, &id, "notes", body, dry).await? else { return Ok(()) };
            session.done(&format!("Noted for incident {id}"), &answer);
            if session.screen.format == Format::Json { session.screen.object(COLUMNS, &answer.body) } else { Ok(()) }
        }
        Verb::Step { step, state, dry } => {
            let body = json!({ "step": step, "state": state });
            let id = named(session)?;
            let Some(answer) = post(session, &id, "steps", body, dry).await? else { return Ok(()) };
            changed(session, &format!("Step {step} of incident {id} is {state}"), &answer)
        }
        Verb::Close { incident, summary, dry } => {
            let (id, body) = (incident.id(session)?, json!({ "summary": summary }));
            let Some(answer) = post(session, &id, "close", body, dry).await? else { return Ok(()) };
            changed(session, &format!("Closed incident {id}"), &answer)
        }
        Verb::Show { incident } => {
            show(session, &session.read(Call::get(&["v1", "incidents", &incident.id(session)?])).await?)
        }
        Verb::List { state, paging } => {
            session.list(Call::get(&["v1", "incidents"]).query("state", state), &paging, LIST_COLUMNS).await
        }
        Verb::Readmit { verb } => readmit::run(verb, session).await,
        Verb::Replay { incident } => replay::run(session, &incident.id(session)?).await,
        Verb::Report { incident, format, out, through } => {
            report::run(session, &incident.id(session)?, format, out.as_deref(), through).await
        }
        Verb::Shell { incident, arguments } => shell::run(session, &incident.id(session)?, &arguments).await,
    }
}

impl Which {
    fn id(&self, session: &Session) -> Result<String, Failure> {
        self.id.clone().map_or_else(|| named(session), Ok)
    }
}

fn named(session: &Session) -> Result<String, Failure> {
    let none = || Failure::Usage("which incident? Name it with `--incident` (PORTCULLIS_INCIDENT)".to_owned());
    session.incident().map(str::to_owned).ok_or_else(none)
}

impl Known {
    fn body(self) -> Value {
        let list = |list: Vec<String>| if list.is_empty() { Value::Null } else { json!(list) };
        given([("scope", list(self.scope)), ("people", list(self.person)), ("first_sign", json!(self.first_sign))])
    }
}

fn merge(body: &mut Value, more: Value) {
    if let (Value::Object(body), Value::Object(more)) = (body, more) {
        body.extend(more);
    }
}

async fn open(session: &Session, body: Value, dry: DryRun) -> Result<(), Failure> {
    let Some(answer) = session.change(Call::post(&["v1", "incidents"]).json(body), dry).await? else { return Ok(()) };
    let id = answer.body["id"].as_str().unwrap_or_default();
    changed(session, &format!("Opened incident {id}"), &answer)?;
    session.screen.note(format_args!(
        "Next: `portcullis incident shell {id}`, in which every command is for it; or give `--incident {id}` with each."
    ));
    Ok(())
}

async fn post(session: &Session, id: &str, verb: &str, body: Value, dry: DryRun) -> Result<Option<Answer>, Failure> {
    session.change(Call::post(&["v1", "incidents", id, verb]).json(body), dry).await
}

fn changed(session: &Session, what: &str, answer: &Answer) -> Result<(), Failure> {
    session.done(what, answer);
    show(session, &answer.body)
}

/// The incident, and below it the steps.
fn show(session: &Session, incident: &Value) -> Result<(), Failure> {
    session.screen.object(COLUMNS, incident)?;
    match incident["checklist"].as_array() {
        Some(steps) if session.screen.format == Format::Table => {
            let steps: Vec<Value> = steps.iter().map(settled_ago).collect();
            session.screen.rows(STEP_COLUMNS, &steps)
        }
        Some(_) | None => Ok(()),
    }
}

/// With how long ago it was settled in place of the time: with that, a checklist and its reasons do not fit on a screen.
fn settled_ago(step: &Value) -> Value {
    let mut step = step.clone();
    let at = step["at"].as_str().and_then(|at| DateTime::parse_from_rfc3339(at).ok());
    if let Some(at) = at {
        step["at"] = json!(from_now(at.to_utc(), Utc::now()));
    }
    step
}
