//! What is open when the report ends: what somebody has to decide about, or to come back to.

use crate::domain::admit::admit_worker_key;
use crate::domain::enrollment::EnrollmentStanding;
use crate::domain::incident::{Incident, StepState};
use crate::domain::plan::{Item, PlanKind, Selector};
use crate::domain::readmission::Stage;
use crate::domain::roll::Roll;
use crate::domain::worker::{Worker, WorkerState};

/// How many ids one line names.
const NAMED_MAX: usize = 20;

/// One sentence each; what it names beside its own words is kept apart.
pub(super) struct Risk {
    pub(super) what: String,
    pub(super) names: Vec<String>,
}

impl Risk {
    fn new(what: String, names: impl IntoIterator<Item = String>) -> Self {
        Self { what, names: names.into_iter().take(NAMED_MAX).collect() }
    }
}

pub(super) fn open(roll: &Roll, incident: &Incident) -> Vec<Risk> {
    let mut risks: Vec<Risk> = steps(incident).collect();
    if incident.reduced > roll.in_force() {
        risks.push(Risk::new("what was taken away last is not known to be in force on every node".to_owned(), []));
    }
    let running = roll.running_plans().filter(|(plan, _)| roll.incident_of_plan(plan.id) == Some(&incident.id));
    risks.extend(running.map(|(plan, progress)| {
        let (done, total) = (progress.done, progress.total);
        if let Some(readmission) = progress.readmission.as_ref().filter(|it| it.stage != Stage::RolledBack) {
            let stage = readmission.stage.as_str();
            return Risk::new(
                format!("a readmission is not over, but {stage}: {done} of {total} are back"),
                [plan.id.to_string()],
            );
        }
        Risk::new(format!("the records of a plan have not all been written: {done} of {total}"), [plan.id.to_string()])
    }));
    risks.extend(of_scope(roll, incident));
    risks
}

fn steps(incident: &Incident) -> impl Iterator<Item = Risk> {
    incident.checklist.iter().filter_map(|step| {
        let name = [step.template.id.to_string()];
        match &step.state {
            StepState::Open => Some(Risk::new("a step is open".to_owned(), name)),
            StepState::Waived(_) => Some(Risk::new("a step was waived".to_owned(), name)),
            StepState::Filled(_) | StepState::Done(_) => None,
        }
    })
}

/// Who is in the scope and gets in all the same. A drill's scope is what it was copied from, and so no risk of its own.
fn of_scope(roll: &Roll, incident: &Incident) -> Vec<Risk> {
    let selector = Selector::new(incident.description.scope.clone(), None, None);
    let Some(selector) = selector.ok().filter(|_| !incident.drill) else { return vec![] };
    let now = roll.recorded_at();
    let items = |kind: PlanKind| roll.select(&kind, &selector);
    let workers = |kind| items(kind).into_iter().filter_map(|item| worker_of(roll, item)).collect::<Vec<_>>();
    let counted = |what: &str, names: Vec<String>| {
        let count = names.len();
        (count > 0).then(|| Risk::new(format!("{count} {what}"), names))
    };
    let with_old_key = |worker: &&Worker| {
        let mut keys = worker.keys.iter().filter_map(|id| roll.key(*id)).filter(|key| key.issued < incident.opened);
        keys.any(|key| admit_worker_key(roll, key, Some(worker.id.as_str()), now).is_ok())
    };
    let names = |workers: Vec<&Worker>| workers.into_iter().map(|worker| worker.id.to_string()).collect::<Vec<_>>();
    let accepted: Vec<&Worker> =
        workers(PlanKind::Isolate { until: None }).into_iter().filter(|worker| with_old_key(worker)).collect();
    let returning = workers(PlanKind::Release).into_iter();
    let returning = returning.filter(|worker| matches!(worker.state, WorkerState::Isolated { until: Some(_) }));
    let live = items(PlanKind::DisableEnrollment).into_iter().filter_map(|item| match item {
        Item::EnrollmentSecret(id) => roll.enrollment_secret(id),
        Item::Worker(_) | Item::Key(_) | Item::SigningKey(_) | Item::TlsCertificate(_) => None,
    });
    let live = live
        .filter(|secret| matches!(secret.standing(now), EnrollmentStanding::Live | EnrollmentStanding::Overlapping));
    let live = live.filter(|secret| secret.issued < incident.opened).map(|secret| secret.id.to_string()).collect();
    [
        counted("workers of the scope are accepted with a key from before the opening", names(accepted)),
        counted("isolated workers of the scope come back by themselves", names(returning.collect())),
        counted("enrollment secrets of the scope from before the opening are live", live),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn worker_of(roll: &Roll, item: Item) -> Option<&Worker> {
    match item {
        Item::Worker(index) => roll.worker_at(index),
        Item::Key(_) | Item::EnrollmentSecret(_) | Item::SigningKey(_) | Item::TlsCertificate(_) => None,
    }
}
