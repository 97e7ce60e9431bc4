//! The report of an incident, from the log alone: the same log up to the same position gives the same bytes.
//!
//! One pass over the log, from its beginning, counts the uses of every credential, so that those of the credentials that the incident ended can be
//! told apart by when that was. Nothing here asks for the time of now.

mod render;
mod risks;
mod uses;

use std::collections::{BTreeMap, VecDeque};

use super::effect::{self, Effect};
use super::replay::Moment;
use crate::domain::event::{Event, Recorded};
use crate::domain::ids::{CommandId, IncidentId};
use crate::domain::incident::Incident;
use crate::domain::plan::PlanKind;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use uses::Uses;

pub use render::{Format, RenderError, render};

/// How many lines a timeline has at the most: what is longer nobody reads, and the log is there.
const LINES_MAX: usize = 2_000;
/// How many changes of configuration are listed one by one.
const CHANGES_MAX: usize = 500;

/// A pass through the log, for the report of one incident.
pub struct Report {
    roll: Roll,
    id: IncidentId,
    lines: Vec<Line>,
    lines_left_out: u64,
    kinds: BTreeMap<&'static str, u64>,
    /// The last changes of configuration of the log so far: only at the end is it known from when on they matter.
    changes: VecDeque<Moment>,
    /// When each of them was, in order.
    change_times: Vec<Timestamp>,
    uses: Uses,
    firsts: Firsts,
}

/// A line of the timeline: one event, or many that came of one event or one command.
#[derive(Clone, Debug)]
struct Line {
    moment: Moment,
    of: Source,
    /// How many events it stands for.
    count: u64,
    /// The position of the last of them.
    last: u64,
}

/// What an event came of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Event(u64),
    Command(CommandId),
}

/// When something was first so, and since when everywhere.
#[derive(Clone, Copy, Debug, Default)]
struct Firsts {
    isolated: Option<At>,
    revoked: Option<At>,
    isolated_everywhere: Option<At>,
    revoked_everywhere: Option<At>,
    everywhere: Option<At>,
    /// The position of the last event that took access away.
    reduced: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    position: u64,
    at: Timestamp,
}

impl Report {
    #[must_use]
    pub fn new(id: IncidentId) -> Self {
        Self {
            roll: Roll::default(),
            id,
            lines: vec![],
            lines_left_out: 0,
            kinds: BTreeMap::new(),
            changes: VecDeque::new(),
            change_times: vec![],
            uses: Uses::default(),
            firsts: Firsts::default(),
        }
    }

    /// The next event of the log.
    pub fn see(&mut self, recorded: &Recorded) {
        self.uses.see(recorded);
        if recorded.incident.as_ref() == Some(&self.id) {
            self.take(recorded);
        } else {
            self.roll.apply(recorded);
        }
        if recorded.event.is_configuration() {
            if self.changes.len() == CHANGES_MAX {
                self.changes.pop_front();
            }
            self.changes.push_back(Moment::of(&self.roll, recorded, None));
            self.change_times.push(recorded.recorded_at);
        }
        if let Event::BarrierPassed { through, .. } = recorded.event {
            self.firsts.pass(through, At { position: recorded.position, at: recorded.recorded_at });
        }
    }

    fn take(&mut self, recorded: &Recorded) {
        let (workers, ended) = effect::apply(&mut self.roll, recorded);
        self.uses.end(&self.roll, &ended, recorded);
        self.firsts.see(&self.roll, recorded);
        *self.kinds.entry(recorded.event.kind()).or_default() += 1;
        self.line(recorded, workers);
    }

    /// Of what came of one event, or one command, and follows upon each other, there is one line for each kind.
    fn line(&mut self, recorded: &Recorded, workers: Option<Effect>) {
        let moment = Moment::of(&self.roll, recorded, workers);
        let of = recorded.cause.map_or(Source::Command(recorded.command), Source::Event);
        let mut burst = self.lines.iter_mut().rev().take_while(|line| line.of == of);
        if let Some(line) = burst.find(|line| line.moment.kind == moment.kind) {
            line.count += recorded.event.facts();
            line.last = moment.position;
        } else if self.lines.len() == LINES_MAX {
            self.lines_left_out += 1;
        } else {
            self.lines.push(Line { last: moment.position, moment, of, count: recorded.event.facts() });
        }
    }

    fn incident(&self) -> Option<&Incident> {
        self.roll.incident(self.id.as_str()).map(AsRef::as_ref)
    }
}

impl Firsts {
    fn see(&mut self, roll: &Roll, recorded: &Recorded) {
        let here = At { position: recorded.position, at: recorded.recorded_at };
        if recorded.event.reduces_access() {
            self.reduced = recorded.position;
        }
        let plan = match &recorded.event {
            Event::PlanApplied { plan, .. } => roll.plan(*plan).map(|plan| plan.kind.clone()),
            _ => None,
        };
        match (&recorded.event, plan) {
            (Event::WorkerIsolated { .. }, _) | (_, Some(PlanKind::Isolate { .. })) => {
                _ = self.isolated.get_or_insert(here);
            }
            (Event::KeyRevoked { .. } | Event::KeysRevoked { .. } | Event::FenceRaised { .. }, _)
            | (_, Some(PlanKind::RevokeAll)) => {
                _ = self.revoked.get_or_insert(here);
            }
            _ => {}
        }
    }

    fn pass(&mut self, through: u64, barrier: At) {
        let covers = |first: Option<At>| first.is_some_and(|first| first.position <= through);
        if covers(self.isolated) {
            self.isolated_everywhere.get_or_insert(barrier);
        }
        if covers(self.revoked) {
            self.revoked_everywhere.get_or_insert(barrier);
        }
        if self.reduced > 0 && self.reduced <= through && self.everywhere.is_none_or(|at| at.position < self.reduced) {
            self.everywhere = Some(barrier);
        }
    }

    /// Since when all that was taken away is gone on every node, if it is.
    fn all_everywhere(&self) -> Option<At> {
        self.everywhere.filter(|at| at.position > self.reduced)
    }
}

#[cfg(test)]
mod tests;
