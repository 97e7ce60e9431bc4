//! What replays and reports are made of: a pass through the log, beside the requests that ask for it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;

use crate::domain::event::Recorded;
use crate::domain::ids::{IncidentId, LogId};
use crate::domain::incident::Incident;
use crate::domain::roll::Roll;
use crate::http::App;
use crate::http::path::no_such;
use crate::http::problem::Problem;
use crate::http::waiting::at_least;
use crate::incident::passes::{Asked, Passes, Progress};
use crate::incident::replay::{EVENTS_MAX, Moment, Page, Replay, Waypoint};
use crate::incident::report::{Format, RenderError, Report, render};
use crate::log::head::Head;
use crate::node::Node;
use crate::node::replay::look_through;
use crate::node::snapshot::Snapshots;
use crate::postgres::Database;

/// A request waits for so long at the most, whatever its own limit is: who waits in front of it wants to know how far it is.
const PATIENCE_MAX: Duration = Duration::from_secs(15);

/// The passes of a node: one at a time, since each keeps a connection and three threads.
pub(in crate::http) type IncidentPasses = Passes<Question, Result<Answer, Problem>, Kept>;

/// What a pass is for.
#[derive(Clone, Debug)]
pub(in crate::http) struct Question {
    incident: IncidentId,
    of: Wanted,
    /// All before this position is looked at.
    end: u64,
    /// Whether it was asked for up to there, and not as of now.
    exactly: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Page(Page),
    Report(Format),
}

/// What came of it, for all who wait for it, and the position before which all was looked at.
#[derive(Clone)]
pub(in crate::http) struct Answer {
    pub(super) made: Made,
    pub(super) end: u64,
}

#[derive(Clone)]
pub(super) enum Made {
    Page(Vec<Moment>, bool),
    Report(String),
}

/// The end of a page, from which the next one goes on.
pub(in crate::http) struct Kept {
    incident: IncidentId,
    after: u64,
    at: Waypoint,
}

/// What a pass works with: no [`App`], which a service that stops waits for.
#[derive(Clone)]
struct Reading {
    node: Arc<Node>,
    database: Database,
    snapshots: Snapshots,
    log: LogId,
}

/// What is asked of the incident as this node knows it.
pub(super) fn known<T>(app: &App, id: &IncidentId, ask: impl Fn(&Roll, &Incident) -> T) -> Result<T, Problem> {
    of_incident(app.node(), id, ask)
}

fn of_incident<T>(node: &Node, id: &IncidentId, ask: impl Fn(&Roll, &Incident) -> T) -> Result<T, Problem> {
    let snapshot = node.snapshot();
    let found = snapshot.roll.incident(id.as_str()).ok_or_else(no_such::<IncidentId>)?;
    Ok(ask(&snapshot.roll, found))
}

/// The answer, if it is there within a request's time; a problem that says how far it is otherwise.
///
/// Where `exactly` is not asked for, a pass that somebody has begun before does as well: who is told to come back comes back
/// later. `uri` may say how old an answer may be.
pub(super) async fn made(
    app: &App,
    uri: &Uri,
    incident: IncidentId,
    of: Wanted,
    end: u64,
    exactly: bool,
) -> Result<Answer, Problem> {
    if end > EVENTS_MAX {
        return Err(Problem::replay_too_long(end, EVENTS_MAX));
    }
    let since = at_least(uri)?.map_or(0, |position| position.saturating_add(1));
    let patience = PATIENCE_MAX.min(app.settings().request_timeout / 2);
    let question = Question { incident, of, end, exactly };
    let fits = |known: &Question| {
        let is_new_enough = if exactly { known.end == end } else { known.end >= since };
        let is_alike = known.incident == question.incident && known.of == question.of && known.exactly == exactly;
        is_alike && is_new_enough
    };
    let (node, database) = (app.node().clone(), app.database().clone());
    let reading = Reading { node, database, snapshots: app.snapshots().clone(), log: app.log() };
    let begin = |kept, progress| reading.clone().pass(question.clone(), kept, progress);
    match app.passes().ask(&question, end, fits, patience, begin).await {
        Asked::Answered(answer) => answer,
        Asked::Underway { at, end } => Err(Problem::replay_underway(at, end)),
        Asked::Busy => Err(Problem::replay_busy()),
        Asked::BrokeOff => Err(Problem::internal("the pass through the log broke off")),
    }
}

impl Reading {
    async fn pass(
        self,
        question: Question,
        kept: Option<Kept>,
        progress: Arc<Progress>,
    ) -> (Result<Answer, Problem>, Option<Kept>) {
        let Question { incident, of, end, .. } = question;
        let made = match of {
            Wanted::Page(page) => self.replay(incident, page, end, kept, progress).await,
            Wanted::Report(format) => {
                drop(kept);
                self.report(incident, format, end, progress).await.map(|text| (Made::Report(text), None))
            }
        };
        match made {
            Ok((made, kept)) => (Ok(Answer { made, end }), kept),
            Err(problem) => (Err(problem), None),
        }
    }

    async fn replay(
        &self,
        incident: IncidentId,
        page: Page,
        end: u64,
        kept: Option<Kept>,
        progress: Arc<Progress>,
    ) -> Result<(Made, Option<Kept>), Problem> {
        let (opened, in_force) = of_incident(&self.node, &incident, |roll, found| (found.opened, roll.in_force()))?;
        let from = self.start(&incident, page.after, opened, kept).await?;
        let (head, state) = (from.head.clone(), Replay::new(incident.clone(), page, from, in_force));
        let see = move |replay: &mut Replay, begins: &Head, events: &[Recorded]| {
            progress.reached(begins.next_position);
            replay.see_all(begins, events)
        };
        let client = self.database.client().await?;
        let replayed = look_through(&client, self.node.keys(), head, end, state, see).await?.end();
        let last = replayed.moments.last().filter(|_| replayed.more).map(|moment| moment.position);
        let kept = last.map(|after| Kept { incident, after, at: replayed.end });
        Ok((Made::Page(replayed.moments, replayed.more), kept))
    }

    /// The newest state that is at hand and holds nothing of the page: at the end of the page before; in a snapshot from
    /// before the incident; or none, before all events.
    async fn start(
        &self,
        incident: &IncidentId,
        after: Option<u64>,
        opened: u64,
        kept: Option<Kept>,
    ) -> Result<Waypoint, Problem> {
        let is_before = |kept: &Kept| kept.incident == *incident && after.is_some_and(|after| kept.after <= after);
        if let Some(kept) = kept.filter(is_before) {
            return Ok(kept.at);
        }
        let (snapshots, log) = (self.snapshots.clone(), self.log);
        let before = after.map_or(opened, |after| opened.max(after.saturating_add(1)));
        let found = tokio::task::spawn_blocking(move || snapshots.newest_before(log, before)).await;
        Ok(match found.map_err(Problem::internal)? {
            Some(folded) => Waypoint { roll: folded.roll, head: folded.head },
            None => Waypoint { roll: Roll::default(), head: Head::genesis(self.node.keys(), log) },
        })
    }

    /// From the beginning: a snapshot does not know who has used what before it.
    async fn report(
        &self,
        incident: IncidentId,
        format: Format,
        end: u64,
        progress: Arc<Progress>,
    ) -> Result<String, Problem> {
        let see = move |report: &mut Report, begins: &Head, events: &[Recorded]| {
            progress.reached(begins.next_position);
            for recorded in events {
                report.see(recorded);
            }
            ControlFlow::Continue(())
        };
        let client = self.database.client().await?;
        let genesis = Head::genesis(self.node.keys(), self.log);
        let report = look_through(&client, self.node.keys(), genesis, end, Report::new(incident), see).await?;
        drop(client);
        let made = tokio::task::spawn_blocking(move || render(&report, format)).await.map_err(Problem::internal)?;
        made.map_err(|error| match error {
            RenderError::NoIncident => no_such::<IncidentId>(),
            RenderError::Template(error) => Problem::internal(error),
        })
    }
}
