//! H4: whatever can reduce access is seen by the validator in the very next answer. Every command is on one side of the
//! line: it can reduce access, or it cannot.

use super::invariants::{Accepted, accepted};
use super::wish::{
    create_key, create_worker, expire, fence, isolate, remove_operator, remove_worker, revoke, revoke_alone,
    revoke_token, rotate, update_operator,
};
use super::{World, by_key, operator, seconds};
use crate::domain::admit::{Denial, admit_operator_key, admit_token, admit_worker_key};
use crate::domain::command::Command;
use crate::domain::event::Event;
use crate::domain::ids::KeyId;
use crate::domain::operator::Role;
use crate::domain::time::Timestamp;

/// Whether a granted wish may leave somebody with less than before. A new command has to take a side here.
pub(super) fn can_reduce(wish: &Command) -> bool {
    match wish {
        Command::UpdateWorker { .. }
        | Command::RejectWorker { .. }
        | Command::IsolateWorker { .. }
        | Command::RemoveWorker { .. }
        | Command::RotateKey { .. }
        | Command::RevokeKey { .. }
        | Command::RevokeToken(_)
        | Command::RaiseFence { .. }
        | Command::ApplyPlan { .. }
        // A rollback; and what a worker held ends as it comes back, also where its isolation had ended by itself.
        | Command::SteerReadmission { .. }
        | Command::ContinuePlan { .. }
        | Command::RemoveOperator { .. }
        // A drill's copies go with it.
        | Command::CloseIncident { .. }
        // Where a rule isolates the presenter.
        | Command::RecordTrip(_) => true,
        // These end what lets others in, or what an operator may do; whoever holds a key keeps it.
        Command::DisableEnrollmentSecret { .. }
        | Command::RotateEnrollmentSecret { .. }
        | Command::RotateSigningKeys { .. }
        | Command::UpdateOperator { .. }
        | Command::UpdatePool { .. }
        | Command::RemovePool { .. } => false,
        Command::Bootstrap(_)
        | Command::CreatePool { .. }
        | Command::CreateWorker(_)
        | Command::ApproveWorker { .. }
        | Command::ReleaseWorker { .. }
        | Command::CreateKey(_)
        | Command::ShareKey { .. }
        | Command::CreateEnrollmentSecret { .. }
        | Command::EnsureEnrollmentSecret { .. }
        | Command::Enroll(_)
        | Command::IssueToken(_)
        | Command::RecordTokensIssued { .. }
        | Command::CreateOperator { .. }
        | Command::MakePlan(_)
        | Command::ApprovePlan { .. }
        | Command::CollectPlan { .. }
        | Command::SetPlanPolicy(_)
        | Command::CreateHoneyKey(_)
        | Command::RemoveHoneyKey { .. }
        | Command::SetTripwireRule { .. }
        | Command::OpenIncident(_)
        | Command::UpdateIncident { .. }
        | Command::NoteIncident { .. }
        | Command::ReviewIncident { .. }
        | Command::SettleStep { .. }
        | Command::ServeCertificate(_)
        // Netguard drops packets, and no credential.
        | Command::Netguard(_)
        | Command::Webhook(_)
        | Command::RecordBarrier { .. }
        | Command::RecordAuthFailures { .. } => false,
    }
}

/// Whether this credential must be refused from this event on, at the moment of the event.
pub(super) fn is_cut_off(event: &Event, credential: &Accepted, now: Timestamp) -> bool {
    let of_worker = |id| matches!(credential, Accepted::Key(_, worker) if worker == id);
    let of_key = |id| matches!(credential, Accepted::Key(key, _) | Accepted::Operator(key, _) if key == id);
    match event {
        Event::WorkerRejected { worker } | Event::WorkerRemoved { worker } => of_worker(worker),
        Event::WorkerIsolated { worker, until } => of_worker(worker) && until.is_none_or(|until| now < until),
        Event::WorkerUpdated { worker, expires_at, .. } => of_worker(worker) && expires_at.is_some_and(|at| at <= now),
        Event::KeyRevoked { key } => of_key(key),
        Event::KeysRevoked { keys, .. } => keys.iter().any(of_key),
        Event::KeyRotated { key, overlap_until, .. } => of_key(key) && *overlap_until <= now,
        Event::TokenRevoked { token, .. } => matches!(credential, Accepted::Token(cut) if cut == token),
        Event::OperatorRemoved { operator } => matches!(credential, Accepted::Operator(_, it) if it == operator),
        // How far a fence reaches is the whole log's matter; see `invariants`. So it is with a plan; see `plans`.
        Event::FenceRaised { .. } | Event::PlanApplied { .. } => false,
        Event::PoolCreated { .. }
        | Event::PoolUpdated { .. }
        | Event::PoolRemoved { .. }
        | Event::WorkerCreated(_)
        | Event::WorkerApproved { .. }
        | Event::WorkerReleased { .. }
        | Event::KeyCreated(_)
        | Event::KeyShared { .. }
        | Event::EnrollmentSecretCreated { .. }
        | Event::EnrollmentSecretRotated { .. }
        | Event::EnrollmentSecretDisabled { .. }
        | Event::TokenIssued(_)
        | Event::TokensIssued { .. }
        | Event::SigningKeysInstalled { .. }
        | Event::SigningKeysRotated { .. }
        | Event::OperatorCreated { .. }
        | Event::OperatorUpdated { .. }
        | Event::TlsCertificateServed(_)
        | Event::BarrierPassed { .. }
        | Event::LogRestored(_)
        | Event::PlanMade(_)
        | Event::PlanProgressed { .. }
        | Event::Netguard(_)
        | Event::PlanApproved { .. }
        | Event::PlanPolicySet(_)
        // That one is rolled back is the matter of its plan too.
        | Event::Readmission { .. }
        // An overlap ends by itself.
        | Event::KeyRotationDue { .. }
        | Event::IncidentOpened(_)
        | Event::IncidentUpdated { .. }
        | Event::IncidentNoted { .. }
        | Event::IncidentReviewed { .. }
        | Event::IncidentStepDone { .. }
        | Event::IncidentStepWaived { .. }
        | Event::IncidentStepReopened { .. }
        | Event::IncidentClosed { .. }
        | Event::Tripwire(_)
        | Event::Webhook(_)
        | Event::AuthFailuresObserved { .. } => false,
    }
}

/// Each way to end a worker's access, and what its key and its token are then told.
#[test]
fn what_ends_a_workers_access_is_in_the_next_answer() {
    let mut world =
        World::new().at(10).given([create_worker("a"), create_key("a", 20), create_worker("b"), create_key("b", 21)]);
    let token = world.token("a", 20, 50);
    let other = world.token("b", 21, 51);
    let verdicts = |world: &World| {
        let key = world.roll.key(KeyId(20)).unwrap();
        (admit_worker_key(&world.roll, key, None, world.now).err(), admit_token(&world.roll, &token, world.now).err())
    };
    assert_eq!(verdicts(&world), (None, None));
    for (wish, expected) in [
        (isolate("a", None), (Some(Denial::WorkerIsolated), Some(Denial::WorkerIsolated))),
        (isolate("a", Some(seconds(11))), (Some(Denial::WorkerIsolated), Some(Denial::WorkerIsolated))),
        (remove_worker("a"), (Some(Denial::WorkerRemoved), Some(Denial::WorkerRemoved))),
        (expire("a", Some(seconds(10))), (Some(Denial::WorkerExpired), Some(Denial::WorkerExpired))),
        (revoke(20), (Some(Denial::KeyRevoked), Some(Denial::KeyRevoked))),
        (revoke_alone(20), (Some(Denial::KeyRevoked), Some(Denial::KeyRevoked))),
        (rotate(20, 30, 0), (Some(Denial::KeyExpired), Some(Denial::KeyExpired))),
        (revoke_token(&token), (None, Some(Denial::TokenRevoked))),
        (fence("worker:a", None), (Some(Denial::Fenced), Some(Denial::Fenced))),
    ] {
        assert!(can_reduce(&wish));
        let after = world.clone().given([wish.clone()]);
        assert_eq!(verdicts(&after), expected, "{wish:?}");
        let spared = admit_token(&after.roll, &other, after.now).is_ok();
        assert!(spared, "{wish:?} is no concern of another worker");
    }
    // The same by the worker itself, with the very key.
    let mut compromised = world.clone();
    compromised.must(&by_key("a", 20), &revoke(20));
    assert_eq!(verdicts(&compromised), (Some(Denial::KeyRevoked), Some(Denial::KeyRevoked)));
}

#[test]
fn what_ends_an_operators_access_is_in_the_next_answer() {
    let world = World::new().at(10);
    for (wish, expected) in [
        (remove_operator(2), Denial::OperatorRemoved),
        (revoke(2), Denial::KeyRevoked),
        (rotate(2, 30, 0), Denial::KeyExpired),
    ] {
        assert!(can_reduce(&wish));
        let after = world.clone().given([wish.clone()]);
        let key = after.roll.key(KeyId(2)).unwrap();
        assert_eq!(admit_operator_key(&after.roll, key, after.now).err(), Some(expected), "{wish:?}");
        assert_eq!(accepted(&world, &[]).len(), 4);
        let spared = accepted(&after, &[]).contains(&Accepted::Operator(KeyId(3), crate::domain::ids::OperatorId(3)));
        assert!(spared, "{wish:?} is no concern of another operator");
    }
    let demoted = world.given([update_operator(2, None, Some(Role::Gateway))]);
    assert!(demoted.decide(&operator(Role::Operator), &create_worker("a")).is_err(), "a role is asked for each time");
}
