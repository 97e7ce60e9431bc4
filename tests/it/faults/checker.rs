//! Compares what the clients were told with the log. Pure: a history and the facts in, every broken promise out.
//!
//! Three questions. Is what was acknowledged in the log, once, and nothing else? Is every verdict the one that the log gives
//! at the position that the verdict names? And the one that matters: does any verdict come from before something that had
//! been acknowledged when it was asked for?
//!
//! A verdict that was on its way when an acknowledgement came may go either way; so only those are held against a node that
//! were *invoked* after it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use portcullis::domain::ids::{CommandId, KeyId};

use super::history::{Fact, History, Moment, Operation, Outcome, Scope, Validation, What, Wish};

#[cfg(test)]
mod tests;

/// A broken promise.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// The log has another event at this place than the next one.
    NotDense { position: u64 },
    /// It was acknowledged, and is not in the log as it was.
    Lost { operation: String },
    /// It is in the log in pieces, more than once, or as something else.
    Garbled { operation: String },
    /// It is in the log, and its caller was told that it changed nothing.
    DoneAllTheSame { operation: String },
    /// Nobody sent this.
    Unasked { position: u64 },
    /// The node said what is not so at the position that it named.
    Untrue { node: usize, key: KeyId, position: u64, accepted: bool },
    /// The credential was accepted by a validation that was asked for after its end had been acknowledged.
    Accepted { node: usize, key: KeyId, operation: String, late: Moment },
    /// The node answered from a state that lacks what had been acknowledged for it.
    Behind { node: usize, position: u64, acknowledged: u64 },
}

impl Violation {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::NotDense { .. } => "not dense",
            Self::Lost { .. } => "lost",
            Self::Garbled { .. } => "garbled",
            Self::DoneAllTheSame { .. } => "done all the same",
            Self::Unasked { .. } => "unasked",
            Self::Untrue { .. } => "untrue",
            Self::Accepted { .. } => "accepted after its end was acknowledged",
            Self::Behind { .. } => "behind what was acknowledged",
        }
    }
}

pub(super) fn check(history: &History, facts: &[Fact]) -> Vec<Violation> {
    let expected = (0..).zip(facts);
    let gap = expected.filter(|(expected, fact)| fact.position != *expected).map(|(position, _)| position).next();
    let mut violations: Vec<Violation> = gap.map(|position| Violation::NotDense { position }).into_iter().collect();
    check_operations(history, facts, &mut violations);
    let fleet = Fleet::of(facts);
    let acknowledged = Acknowledged::of(history);
    let ends = Ends::of(history, facts);
    for validation in &history.validations {
        violations.extend(fleet.contradicts(validation));
        violations.extend(acknowledged.contradicts(validation));
        if validation.accepted {
            violations.extend(ends.contradict(validation, &fleet));
        }
    }
    violations
}

/// What was sent and what is there, each once.
fn check_operations(history: &History, facts: &[Fact], violations: &mut Vec<Violation>) {
    let mut found: BTreeMap<CommandId, Vec<&Fact>> = BTreeMap::new();
    for fact in facts.iter().filter(|fact| !matches!(fact.what, What::Other(_))) {
        found.entry(fact.command).or_default().push(fact);
    }
    for sent in &history.operations {
        let there = found.remove(&sent.command).unwrap_or_default();
        let operation = sent.name.clone();
        let last = there.last().map(|fact| fact.position);
        violations.extend(match sent.outcome {
            _ if !there.is_empty() && !sent.is_done_by(&there) => Some(Violation::Garbled { operation }),
            Outcome::Done { position, changed: true } if last != Some(position) => Some(Violation::Lost { operation }),
            Outcome::Done { changed: false, .. } | Outcome::Refused if last.is_some() => {
                Some(Violation::DoneAllTheSame { operation })
            }
            Outcome::Done { .. } | Outcome::Refused | Outcome::Unknown => None,
        });
    }
    let unasked = found.into_values().filter_map(|facts| facts.first().map(|fact| fact.position));
    violations.extend(unasked.map(|position| Violation::Unasked { position }));
}

// === the fold ===

/// From which position on, and before which one.
type Span = (u64, Option<u64>);

/// When each key worked, by the log alone: a second, smaller telling of the rules that the service goes by.
pub(super) struct Fleet {
    keys: HashMap<KeyId, (Arc<str>, Span)>,
    isolations: HashMap<Arc<str>, Vec<Span>>,
    /// Over each worker and over everything: where it was raised, and up to where it refuses.
    fences: HashMap<Option<Arc<str>>, Vec<(u64, u64)>>,
    end: u64,
}

impl Fleet {
    pub(super) fn of(facts: &[Fact]) -> Self {
        let end = facts.last().map_or(0, |fact| fact.position + 1);
        let mut fleet = Self { keys: HashMap::new(), isolations: HashMap::new(), fences: HashMap::new(), end };
        for fact in facts {
            fleet.apply(fact.position, &fact.what);
        }
        fleet
    }

    fn apply(&mut self, position: u64, what: &What) {
        match what {
            What::WorkerCreated(_) | What::Other(_) => {}
            What::KeyCreated { key, worker } => {
                self.keys.insert(*key, (worker.clone(), (position, None)));
            }
            What::KeyRotated { key, successor, ends_now } => {
                if let Some(worker) = self.worker_of(*key).cloned() {
                    self.keys.insert(*successor, (worker, (position, None)));
                }
                if *ends_now {
                    self.end_key(*key, position);
                }
            }
            What::KeyRevoked(key) => self.end_key(*key, position),
            What::Fenced { worker, up_to } => {
                self.fences.entry(worker.clone()).or_default().push((position, *up_to));
            }
            What::Isolated(worker) => {
                self.isolations.entry(worker.clone()).or_default().push((position, None));
            }
            What::Released(worker) => {
                if let Some((_, until)) = self.isolations.get_mut(worker).and_then(|spans| spans.last_mut()) {
                    *until = Some(position);
                }
            }
        }
    }

    fn end_key(&mut self, key: KeyId, position: u64) {
        if let Some((_, (_, until @ None))) = self.keys.get_mut(&key) {
            *until = Some(position);
        }
    }

    pub(super) fn worker_of(&self, key: KeyId) -> Option<&Arc<str>> {
        self.keys.get(&key).map(|(worker, _)| worker)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = KeyId> {
        self.keys.keys().copied()
    }

    /// Where the key was issued.
    fn issued(&self, key: KeyId) -> Option<u64> {
        self.keys.get(&key).map(|(_, (issued, _))| *issued)
    }

    /// Whether the key works in the state that ends with this position.
    pub(super) fn works(&self, key: KeyId, position: u64) -> bool {
        let Some((worker, life)) = self.keys.get(&key) else { return false };
        let is_isolated = |span: &Span| covers(*span, position);
        let is_fenced = |scope| {
            let fences = self.fences.get(&scope).into_iter().flatten();
            fences.into_iter().any(|(raised, up_to)| *raised <= position && life.0 <= *up_to)
        };
        if is_fenced(None) || is_fenced(Some(worker.clone())) {
            return false;
        }
        covers(*life, position) && !self.isolations.get(worker).is_some_and(|spans| spans.iter().any(is_isolated))
    }

    fn contradicts(&self, validation: &Validation) -> Option<Violation> {
        let Validation { node, key, position, accepted, .. } = *validation;
        let is_true = position < self.end && self.works(key, position) == accepted;
        (!is_true).then_some(Violation::Untrue { node, key, position, accepted })
    }
}

fn covers((from, until): Span, position: u64) -> bool {
    from <= position && until.is_none_or(|until| position < until)
}

// === what was acknowledged ===

/// The highest position that had been acknowledged by a moment: for all nodes, and for each.
struct Acknowledged {
    everywhere: Vec<(Moment, u64)>,
    at: HashMap<usize, Vec<(Moment, u64)>>,
}

impl Acknowledged {
    fn of(history: &History) -> Self {
        let mut done: Vec<(&Operation, u64)> =
            history.operations.iter().filter_map(|sent| sent.position().map(|position| (sent, position))).collect();
        done.sort_by_key(|(operation, _)| operation.completed);
        let mut acknowledged = Self { everywhere: Vec::new(), at: HashMap::new() };
        for (operation, position) in done {
            rise(acknowledged.at.entry(operation.node).or_default(), operation.completed, position);
            if operation.scope == Scope::Everywhere {
                rise(&mut acknowledged.everywhere, operation.completed, position);
            }
        }
        acknowledged
    }

    fn contradicts(&self, validation: &Validation) -> Option<Violation> {
        let here = self.at.get(&validation.node).map_or(0, |steps| reached(steps, validation.invoked));
        let acknowledged = here.max(reached(&self.everywhere, validation.invoked));
        let Validation { node, position, .. } = *validation;
        (position < acknowledged).then_some(Violation::Behind { node, position, acknowledged })
    }
}

fn rise(steps: &mut Vec<(Moment, u64)>, at: Moment, position: u64) {
    let highest = steps.last().map_or(0, |(_, highest)| *highest);
    steps.push((at, position.max(highest)));
}

/// What had been reached by then.
fn reached(steps: &[(Moment, u64)], by: Moment) -> u64 {
    let count = steps.partition_point(|(at, _)| *at <= by);
    count.checked_sub(1).map_or(0, |last| steps[last].1)
}

// === what was ended ===

/// What its clients were told is refused from then on.
#[derive(Default)]
struct Ends<'a> {
    keys: HashMap<KeyId, Vec<&'a Operation>>,
    workers: HashMap<&'a Arc<str>, Vec<&'a Operation>>,
    /// Over each worker and over everything.
    fences: HashMap<Option<&'a Arc<str>>, Vec<&'a Operation>>,
    /// Of each worker: where it was released, and when somebody first asked for that.
    releases: HashMap<&'a Arc<str>, Vec<(u64, Moment)>>,
}

impl<'a> Ends<'a> {
    fn of(history: &'a History, facts: &'a [Fact]) -> Self {
        let mut ends = Self::default();
        for operation in history.operations.iter().filter(|operation| operation.position().is_some()) {
            match &operation.wish {
                Wish::RevokeKey(key) | Wish::RotateKey { key, ends_now: true } => {
                    ends.keys.entry(*key).or_default().push(operation);
                }
                Wish::Isolate(worker) => ends.workers.entry(worker).or_default().push(operation),
                Wish::Fence(scope) => ends.fences.entry(scope.as_ref()).or_default().push(operation),
                Wish::CreateWorker(_) | Wish::CreateKey(_) | Wish::RotateKey { .. } | Wish::Release(_) => {}
            }
        }
        let asked: HashMap<CommandId, Moment> =
            history.operations.iter().map(|operation| (operation.command, operation.invoked)).collect();
        for fact in facts {
            if let What::Released(worker) = &fact.what {
                // One that nobody asked for is told of elsewhere, and excuses nothing.
                let invoked = asked.get(&fact.command).copied().unwrap_or(Moment::MAX);
                ends.releases.entry(worker).or_default().push((fact.position, invoked));
            }
        }
        ends
    }

    /// The validation accepted the key.
    fn contradict(&self, validation: &Validation, fleet: &Fleet) -> Option<Violation> {
        let worker = fleet.worker_of(validation.key);
        let concerns = |operation: &&&Operation| {
            let is_told = operation.scope == Scope::Everywhere || operation.node == validation.node;
            is_told && operation.completed <= validation.invoked
        };
        let of_key = self.keys.get(&validation.key).into_iter().flatten().find(concerns);
        let of_worker = || {
            let isolations = self.workers.get(worker?).into_iter().flatten().filter(concerns);
            isolations.into_iter().find(|isolation| !self.is_released(isolation, validation, worker))
        };
        // All that had been issued when it was raised: it was not said up to where.
        let of_fence = || {
            let fences = [None, worker].into_iter().filter_map(|scope| self.fences.get(&scope)).flatten();
            let mut fences = fences.filter(|fence| fleet.issued(validation.key) < fence.position());
            fences.find(concerns)
        };
        let operation = of_key.or_else(of_worker).or_else(of_fence)?;
        Some(Violation::Accepted {
            node: validation.node,
            key: validation.key,
            operation: operation.name.clone(),
            late: validation.invoked.saturating_sub(operation.completed),
        })
    }

    /// Whether a release that was asked for before the validation ended comes after the isolation.
    fn is_released(&self, isolation: &Operation, validation: &Validation, worker: Option<&Arc<str>>) -> bool {
        let releases = worker.and_then(|worker| self.releases.get(worker)).into_iter().flatten();
        let mut later = releases.filter(|(position, _)| Some(*position) > isolation.position());
        later.any(|(_, invoked)| *invoked <= validation.completed)
    }
}

impl Operation {
    /// Where it was acknowledged.
    pub(super) fn position(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Done { position, .. } => Some(position),
            Outcome::Refused | Outcome::Unknown => None,
        }
    }
}
