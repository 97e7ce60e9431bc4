//! The facts of a report as Markdown, and that as one HTML page that needs nothing beside itself.
//!
//! The page is made from the Markdown, so that both say the same. Whatever people have written is escaped where the template
//! takes it in: in Markdown so that it stays the text of a cell, and that is never HTML.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use minijinja::{AutoEscape, Environment, Error, Output, State, Value, context};
use pulldown_cmark::{Event as Piece, Options, Parser, html};
use serde::Serialize;

use super::{At, Report, risks};
use crate::domain::incident::{Incident, Step, StepState};
use crate::domain::time::Timestamp;
use crate::incident::effect::Effect;
use crate::incident::replay::Moment;

const MARKDOWN: &str = include_str!("report.md.jinja");
const PAGE: &str = include_str!("page.html.jinja");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Markdown,
    Html,
}

#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error("there is no such incident up to the position asked for")]
    NoIncident,
    #[error("the report cannot be written: {0}")]
    Template(#[from] Error),
}

/// What the template shows: texts, as they are to be read.
#[derive(Serialize)]
struct Facts {
    id: String,
    drill: bool,
    title: String,
    severity: &'static str,
    people: Vec<String>,
    scope: Vec<String>,
    first_sign: Option<String>,
    opened_at: String,
    opened: u64,
    closed_at: Option<String>,
    summary: Option<String>,
    through: u64,
    through_at: String,
    milestones: Vec<Milestone>,
    checklist: Vec<StepFacts>,
    kinds: Vec<(&'static str, u64)>,
    events: u64,
    notes: u64,
    ended: Ended,
    timeline: Vec<LineFacts>,
    lines_left_out: u64,
    changes: Vec<ChangeFacts>,
    changes_in_all: u64,
    risks: Vec<RiskFacts>,
}

#[derive(Serialize)]
struct Milestone {
    what: &'static str,
    at: Option<String>,
    after_opening: Option<String>,
    after_first_sign: Option<String>,
    position: Option<u64>,
}

#[derive(Serialize)]
struct StepFacts {
    id: String,
    title: String,
    state: &'static str,
    at: Option<String>,
    after_opening: Option<String>,
    how: String,
}

#[derive(Serialize)]
struct Ended {
    keys: u64,
    secrets: u64,
    workers: u64,
    commands_before: u64,
    commands_after: u64,
    tokens_before: u64,
    tokens_after: u64,
    failed_before: u64,
    failed_around: u64,
    failed_after: u64,
    reasons_after: Vec<(String, u64)>,
}

#[derive(Serialize)]
struct LineFacts {
    at: String,
    after: String,
    position: u64,
    last: Option<u64>,
    count: u64,
    kind: &'static str,
    subject: String,
    by: String,
    text: String,
    workers: Option<String>,
}

#[derive(Serialize)]
struct ChangeFacts {
    at: String,
    position: u64,
    kind: &'static str,
    subject: String,
    by: String,
    for_incident: bool,
}

#[derive(Serialize)]
struct RiskFacts {
    what: String,
    names: String,
}

/// The report, up to the last event that was seen.
pub fn render(report: &Report, format: Format) -> Result<String, RenderError> {
    let facts = Facts::of(report).ok_or(RenderError::NoIncident)?;
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|name| match name {
        "report.md" => AutoEscape::Custom("markdown"),
        _ => AutoEscape::Html,
    });
    environment.set_formatter(escape);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_template("report.md", MARKDOWN)?;
    environment.add_template("page.html", PAGE)?;
    let markdown = environment.get_template("report.md")?.render(&facts)?;
    match format {
        Format::Markdown => Ok(markdown),
        Format::Html => {
            let title = format!("{} {}", facts.id, facts.title);
            Ok(environment.get_template("page.html")?.render(context! { title, body => body(&markdown) })?)
        }
    }
}

/// What stands in the log as text stays text: there is no HTML in it, and if there were, it would be shown and not taken.
fn body(markdown: &str) -> String {
    let pieces = Parser::new_ext(markdown, Options::ENABLE_TABLES).map(|piece| match piece {
        Piece::Html(text) | Piece::InlineHtml(text) => Piece::Text(text),
        other => other,
    });
    let mut page = String::with_capacity(2 * markdown.len());
    html::push_html(&mut page, pieces);
    page
}

fn escape(out: &mut Output<'_>, state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    if state.auto_escape() != AutoEscape::Custom("markdown") || value.is_safe() {
        return minijinja::escape_formatter(out, state, value);
    }
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for char in text.chars() {
        if matches!(char, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '&' | '~' | '#' | '$') {
            out.write_char('\\').map_err(Error::from)?;
        }
        out.write_char(char).map_err(Error::from)?;
    }
    Ok(())
}

impl Facts {
    fn of(report: &Report) -> Option<Self> {
        let incident = report.incident()?;
        let (description, closed) = (&incident.description, incident.closed.as_ref());
        let roll = &report.roll;
        let since = description.first_sign.unwrap_or(incident.opened_at).min(incident.opened_at);
        let (changes, changes_in_all) = changes(report, incident, since);
        Some(Self {
            id: incident.id.to_string(),
            drill: incident.drill,
            title: description.title.to_string(),
            severity: description.severity.as_str(),
            people: description.people.iter().map(ToString::to_string).collect(),
            scope: description.scope.iter().map(ToString::to_string).collect(),
            first_sign: description.first_sign.map(time),
            opened_at: time(incident.opened_at),
            opened: incident.opened,
            closed_at: closed.map(|closing| time(closing.at)),
            summary: closed.map(|closing| closing.summary.to_string()),
            through: roll.next_position().saturating_sub(1),
            through_at: time(roll.recorded_at()),
            milestones: milestones(report, incident),
            checklist: incident.checklist.iter().map(|step| StepFacts::of(step, incident)).collect(),
            kinds: report.kinds.iter().map(|(kind, count)| (*kind, *count)).collect(),
            events: report.kinds.values().sum(),
            notes: incident.notes,
            ended: Ended::of(report),
            timeline: report.lines.iter().map(|line| LineFacts::of(line, since)).collect(),
            lines_left_out: report.lines_left_out,
            changes,
            changes_in_all,
            risks: risks::open(roll, incident).into_iter().map(RiskFacts::of).collect(),
        })
    }
}

fn milestones(report: &Report, incident: &Incident) -> Vec<Milestone> {
    let firsts = &report.firsts;
    let milestone = |what, at: Option<At>| Milestone {
        what,
        at: at.map(|at| time(at.at)),
        after_opening: at.map(|at| between(incident.opened_at, at.at)),
        after_first_sign: at.zip(incident.description.first_sign).map(|(at, sign)| between(sign, at.at)),
        position: at.map(|at| at.position),
    };
    vec![
        milestone("First isolation", firsts.isolated),
        milestone("First isolation in force everywhere", firsts.isolated_everywhere),
        milestone("First revocation", firsts.revoked),
        milestone("First revocation in force everywhere", firsts.revoked_everywhere),
        milestone("All that was taken away in force everywhere", firsts.all_everywhere()),
    ]
}

/// Those in the window, the last so many of them, and how many there were.
fn changes(report: &Report, incident: &Incident, since: Timestamp) -> (Vec<ChangeFacts>, u64) {
    let before = report.change_times.partition_point(|at| *at < since);
    let listed = report.changes.iter().filter(|moment| moment.recorded_at >= since);
    let facts = listed.map(|moment| ChangeFacts {
        at: time(moment.recorded_at),
        position: moment.position,
        kind: moment.kind,
        subject: moment.subject.clone(),
        by: moment.by().to_owned(),
        for_incident: moment.incident.as_ref() == Some(&incident.id),
    });
    (facts.collect(), (report.change_times.len() - before) as u64)
}

impl StepFacts {
    fn of(step: &Step, incident: &Incident) -> Self {
        let mark = step.state.mark();
        let reason = || mark.and_then(|mark| mark.reason.as_deref()).unwrap_or_default().to_owned();
        let seen: Vec<String> = step.seen.iter().flatten().map(ToString::to_string).collect();
        Self {
            id: step.template.id.to_string(),
            title: step.template.title.to_string(),
            state: step.state.name(),
            at: mark.map(|mark| time(mark.at)),
            after_opening: mark.map(|mark| between(incident.opened_at, mark.at)),
            how: match &step.state {
                StepState::Open => String::new(),
                StepState::Filled(_) => format!("by the events at {}", seen.join(", ")),
                StepState::Done(_) | StepState::Waived(_) => reason(),
            },
        }
    }
}

impl Ended {
    fn of(report: &Report) -> Self {
        let (uses, successes) = (&report.uses, report.uses.successes());
        Self {
            keys: uses.keys,
            secrets: uses.secrets,
            workers: uses.workers(),
            commands_before: successes.before,
            commands_after: successes.after,
            tokens_before: successes.tokens_before,
            tokens_after: successes.tokens_after,
            failed_before: uses.failed_before,
            failed_around: uses.failed_around,
            failed_after: uses.failed_after,
            reasons_after: uses.reasons_after.iter().map(|(reason, count)| (reason.to_string(), *count)).collect(),
        }
    }
}

impl LineFacts {
    fn of(line: &super::Line, since: Timestamp) -> Self {
        let Moment { position, kind, subject, reason, text, recorded_at, workers, .. } = &line.moment;
        let several = line.last != *position;
        let mut words: Vec<&str> = text.as_deref().into_iter().collect();
        // A step's reason says more than its name, and both are wanted.
        words.extend(reason.as_deref().filter(|reason| text.as_deref() != Some(*reason)));
        Self {
            at: time(*recorded_at),
            after: between(since, *recorded_at),
            position: *position,
            last: several.then_some(line.last),
            count: line.count,
            kind: *kind,
            subject: if line.count > 1 { format!("{} of them", line.count) } else { subject.clone() },
            by: line.moment.by().to_owned(),
            text: words.join(": "),
            workers: workers.filter(|_| !several).filter(|it| it.before != it.after).map(effect),
        }
    }
}

fn effect(effect: Effect) -> String {
    let Effect { looked_at, fleet, before, after } = effect;
    if fleet {
        format!("{before} → {after} of a fleet of {looked_at}")
    } else {
        format!("{before} → {after} of {looked_at}")
    }
}

impl RiskFacts {
    fn of(risk: risks::Risk) -> Self {
        Self { what: risk.what, names: risk.names.join(", ") }
    }
}

fn time(at: Timestamp) -> String {
    let at = DateTime::from_timestamp_micros(at.0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// How long from one to the other, to the millisecond.
fn between(from: Timestamp, to: Timestamp) -> String {
    let millis = (to.0 - from.0) / 1_000;
    let text = humantime::format_duration(Duration::from_millis(millis.unsigned_abs())).to_string();
    if millis < 0 { format!("{text} before") } else { text }
}
