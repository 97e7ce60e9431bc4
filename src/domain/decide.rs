//! The rules: what a command may make happen, given the whole state.
//!
//! Pure and total. No events means that the wish already holds: a success that appends nothing, so that retries are free.
//! Commands are decided in one order over the whole Roll, so a rule that spans pools, workers and keys is an `if` here.

use super::command::{Command, Context};
use super::event::Event;
use super::refusal::Refusal;
use super::roll::Roll;

mod author;
mod drills;
mod enrollment;
mod fences;
mod incidents;
mod keys;
mod limits;
mod netguard;
mod operators;
mod plans;
mod pools;
mod readmissions;
mod tokens;
mod tripwires;
mod webhooks;
mod workers;

#[cfg(test)]
pub(crate) mod tests;

pub use incidents::carried;
pub use plans::is_known;
pub use tokens::{counts_tokens, token};

pub type Decision = Result<Vec<Event>, Refusal>;

/// The events that fulfil the command, or the refusal. Whether the author may wish it at all is decided first, then whether
/// it may be wished for the incident that it names.
pub fn decide(roll: &Roll, command: &Command, context: &Context) -> Decision {
    author::authorize(roll, command, context)?;
    let incident = incidents::named(roll, context)?;
    let events = decide_alone(roll, command, context)?;
    match incident {
        Some(incident) if incident.drill => drills::within(roll, incident, events),
        Some(_) | None => Ok(events),
    }
}

fn decide_alone(roll: &Roll, command: &Command, context: &Context) -> Decision {
    match command {
        Command::Bootstrap(bootstrap) => Ok(operators::bootstrap(roll, bootstrap, context.now)),

        Command::CreatePool { pool, settings } => pools::create(roll, pool, settings),
        Command::UpdatePool { pool, change } => pools::update(roll, pool, change),
        Command::RemovePool { pool } => pools::remove(roll, pool, context.now),

        Command::CreateWorker(create) => workers::create(roll, create, context.now),
        Command::UpdateWorker { worker, name, labels, expires_at } => {
            workers::update(roll, worker, name.as_ref(), labels.as_ref(), *expires_at)
        }
        Command::ApproveWorker { worker } => workers::approve(roll, worker, context.now),
        Command::RejectWorker { worker } => workers::reject(roll, worker),
        Command::IsolateWorker { worker, until } => workers::isolate(roll, worker, *until, context.now),
        Command::ReleaseWorker { worker } => workers::release(roll, worker, context.now),
        Command::RemoveWorker { worker } => workers::remove(roll, worker),

        Command::CreateKey(create) => keys::create(roll, create, context.now),
        Command::ShareKey { key, worker } => keys::share(roll, *key, worker, context.now),
        Command::RotateKey { key, successor, verifier, kind, expires_at, overlap } => {
            let successor =
                keys::Successor { id: *successor, verifier: *verifier, kind: *kind, expires_at: *expires_at };
            keys::rotate(roll, *key, &successor, *overlap, context)
        }
        Command::RevokeKey { key, descendants } => keys::revoke(roll, *key, *descendants, context),

        Command::CreateEnrollmentSecret { secret, pool, verifier, limits } => {
            enrollment::create(roll, *secret, pool, *verifier, limits, context.now)
        }
        Command::RotateEnrollmentSecret { secret, successor, verifier, overlap } => {
            enrollment::rotate(roll, *secret, *successor, *verifier, *overlap, context.now)
        }
        Command::DisableEnrollmentSecret { secret } => enrollment::disable(roll, *secret),
        Command::EnsureEnrollmentSecret { secret, pool, verifier } => {
            enrollment::ensure(roll, *secret, pool, *verifier, context.now)
        }
        Command::Enroll(enroll) => enrollment::enroll(roll, enroll, context),

        Command::IssueToken(issue) => tokens::issue(roll, issue, context.now),
        Command::RevokeToken(facts) => Ok(tokens::revoke(roll, facts)),
        Command::RotateSigningKeys { next, overlap } => tokens::rotate_signing_keys(roll, next, *overlap, context.now),

        Command::CreateOperator { operator, name, role, key, verifier, expires_at } => {
            let key = operators::FirstKey { id: *key, verifier: *verifier, expires_at: *expires_at };
            operators::create(roll, *operator, name, *role, &key, context.now)
        }
        Command::UpdateOperator { operator, name, role } => {
            operators::update(roll, *operator, name.as_ref(), *role, context.now)
        }
        Command::RemoveOperator { operator } => operators::remove(roll, *operator, context.now),

        Command::RaiseFence { scope, up_to } => fences::raise(roll, scope, *up_to),

        Command::MakePlan(_)
        | Command::ApplyPlan { .. }
        | Command::ApprovePlan { .. }
        | Command::CollectPlan { .. }
        | Command::SetPlanPolicy(_)
        | Command::ContinuePlan { .. }
        | Command::SteerReadmission { .. } => plans::decide(roll, command, context),
        Command::OpenIncident(_)
        | Command::UpdateIncident { .. }
        | Command::NoteIncident { .. }
        | Command::ReviewIncident { .. }
        | Command::SettleStep { .. }
        | Command::CloseIncident { .. } => incidents::decide(roll, command, context),
        Command::Netguard(command) => netguard::change(roll, command),
        Command::Webhook(command) => webhooks::change(roll, command),

        Command::CreateHoneyKey(_)
        | Command::RemoveHoneyKey { .. }
        | Command::SetTripwireRule { .. }
        | Command::RecordTrip(_) => tripwires::decide(roll, command, context.now),

        Command::RecordTokensIssued { .. }
        | Command::ServeCertificate(_)
        | Command::RecordBarrier { .. }
        | Command::RecordAuthFailures { .. } => Ok(recorded(roll, command)),
    }
}

/// What the service has seen itself: there is nobody to be refused.
fn recorded(roll: &Roll, command: &Command) -> Vec<Event> {
    match command {
        Command::RecordTokensIssued { worker, count, from, to } => {
            vec![Event::TokensIssued { worker: worker.clone(), count: *count, from: *from, to: *to }]
        }
        Command::ServeCertificate(served)
            if roll.certificate(&served.node).is_none_or(|known| known.served != *served) =>
        {
            vec![Event::TlsCertificateServed(served.clone())]
        }
        Command::RecordBarrier { through, confirmed, waited_out } if *through > roll.in_force() => {
            vec![Event::BarrierPassed {
                through: *through,
                confirmed: confirmed.clone(),
                waited_out: waited_out.clone(),
            }]
        }
        Command::RecordAuthFailures { from, to, failures } => {
            vec![Event::AuthFailuresObserved { from: *from, to: *to, failures: failures.clone() }]
        }
        _ => vec![],
    }
}
