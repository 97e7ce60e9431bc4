//! Who may wish what. Asked again for every command in its turn: a key that was revoked while its command waited in the
//! queue decides nothing any more.

use crate::domain::actor::{Actor, CredentialUsed};
use crate::domain::admit::{Denial, admit_operator_key, admit_worker_key, known_key};
use crate::domain::command::{Command, Context, IssueToken};
use crate::domain::event::KeyHolder;
use crate::domain::ids::{KeyId, OperatorId, TokenId, WorkerId};
use crate::domain::key::Holder;
use crate::domain::operator::Permission;
use crate::domain::plan::PlanKind;
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::token::TokenFacts;
use crate::domain::webhook::WebhookCommand;

pub(super) fn authorize(roll: &Roll, command: &Command, context: &Context) -> Result<(), Refusal> {
    match &context.author.actor {
        Actor::System => Ok(()),
        Actor::Operator(operator) => authorize_operator(roll, *operator, command, context),
        Actor::Worker(worker) => authorize_worker(roll, worker, command, context),
        Actor::Enrollee(secret) => match command {
            Command::Enroll(enroll) if enroll.secret == *secret => Ok(()),
            _ => Err(Denial::EnrollmentSecret.into()),
        },
    }
}

fn authorize_operator(roll: &Roll, operator: OperatorId, command: &Command, context: &Context) -> Result<(), Refusal> {
    let Some(CredentialUsed::Key(key)) = context.author.credential else {
        return Err(Denial::WrongKind.into());
    };
    let key = known_key(roll, key)?;
    // The rights are the key's holder's: an operator who comes with another's key gets neither's.
    if key.holder != Holder::Operator(operator) {
        return Err(Denial::WrongKind.into());
    }
    if is_own_end(command, key.id) {
        return Ok(());
    }
    let operator = admit_operator_key(roll, key, context.now)?;
    let permission = match command {
        // Rotating the key that one presents is hygiene, and needs nobody's leave. Another key of the same operator is
        // no such thing: its successor would survive the revocation of the stolen key that it was made with (H7).
        Command::RotateKey { key: rotated, .. } if *rotated == key.id => return Ok(()),
        _ => needed(roll, command).ok_or(Refusal::Denied(Denial::WrongKind))?,
    };
    if operator.role.permits(permission) { Ok(()) } else { Err(Refusal::NotPermitted(permission)) }
}

/// A worker may get tokens for itself, rotate the key that it presents, and end what it holds.
fn authorize_worker(roll: &Roll, worker: &WorkerId, command: &Command, context: &Context) -> Result<(), Refusal> {
    let (key, presented) = match context.author.credential {
        Some(CredentialUsed::Key(key)) => (known_key(roll, key)?, None),
        Some(CredentialUsed::Token { token, session, key, issued }) => {
            (known_key(roll, key)?, Some(PresentedToken { token, session, issued }))
        }
        Some(CredentialUsed::EnrollmentSecret(_)) | None => return Err(Denial::WrongKind.into()),
    };
    match (command, &presented) {
        // Ending a credential asks for nothing but the credential: it must work for a worker that is isolated, and for
        // whoever found the key in a public place.
        (Command::RevokeKey { .. }, None) if is_own_end(command, key.id) => return Ok(()),
        (Command::RevokeToken(facts), Some(token)) if token.may_end(facts) => return Ok(()),
        (Command::RevokeToken(facts), None) if facts.key == key.id => {}
        (Command::IssueToken(issue), presented)
            if issue.worker == *worker
                && issue.key == key.id
                && presented.as_ref().is_none_or(|token| token.is_renewed_by(issue)) => {}
        // A token is short-lived so that a stolen one is soon worth nothing. It must not be exchanged for a key.
        (Command::RotateKey { key: rotated, .. }, None) if *rotated == key.id => {}
        _ => return Err(Denial::WrongKind.into()),
    }
    admit_worker_key(roll, key, Some(worker.as_str()), context.now)?;
    match presented {
        Some(token) if roll.is_token_revoked(token.session, token.issued) => Err(Denial::TokenRevoked.into()),
        Some(_) | None => Ok(()),
    }
}

/// The token that a worker comes with.
struct PresentedToken {
    token: TokenId,
    session: TokenId,
    issued: u64,
}

impl PresentedToken {
    /// Itself, and what was renewed from it. What came before it in the session is not its to end: a stolen renewal must
    /// not take the token along that it was stolen beside.
    fn may_end(&self, facts: &TokenFacts) -> bool {
        facts.session == self.session && facts.issued >= self.issued
    }

    /// A token is good for its own renewal. A session of its own, which takes the key, would outlive its revocation.
    fn is_renewed_by(&self, issue: &IssueToken) -> bool {
        issue.renews.as_ref().is_some_and(|facts| facts.token == self.token && facts.session == self.session)
    }
}

/// Whether the command ends the very key that it comes with.
fn is_own_end(command: &Command, presented: KeyId) -> bool {
    matches!(command, Command::RevokeKey { key, .. } if *key == presented)
}

/// As for the same done one by one.
pub(super) fn of_plan(kind: &PlanKind) -> Permission {
    match kind {
        PlanKind::RotateSigningKeys { .. } | PlanKind::RotateTlsCertificates => Permission::ManageSigningKeys,
        PlanKind::Isolate { .. }
        | PlanKind::Release
        | PlanKind::RevokeAll
        | PlanKind::DisableEnrollment
        | PlanKind::RotateAll { .. }
        | PlanKind::RotateEnrollment { .. }
        | PlanKind::Fence
        | PlanKind::Readmit(_) => Permission::ManageFleet,
    }
}

/// What an operator needs for it; `None`: no operator's business.
fn needed(roll: &Roll, command: &Command) -> Option<Permission> {
    let of_key = |key: KeyId| match roll.key(key).map(|key| &key.holder) {
        Some(Holder::Operator(_)) => Permission::ManageOperators,
        Some(Holder::Worker(_) | Holder::Workers(_)) | None => Permission::ManageFleet,
    };
    match command {
        Command::CreatePool { .. }
        | Command::UpdatePool { .. }
        | Command::RemovePool { .. }
        | Command::CreateWorker(_)
        | Command::UpdateWorker { .. }
        | Command::ApproveWorker { .. }
        | Command::RejectWorker { .. }
        | Command::IsolateWorker { .. }
        | Command::ReleaseWorker { .. }
        | Command::RemoveWorker { .. }
        | Command::ShareKey { .. }
        | Command::CreateEnrollmentSecret { .. }
        | Command::RotateEnrollmentSecret { .. }
        | Command::DisableEnrollmentSecret { .. }
        | Command::RevokeToken(_)
        | Command::RaiseFence { .. }
        | Command::Netguard(_)
        | Command::Webhook(
            WebhookCommand::Create { .. } | WebhookCommand::Update { .. } | WebhookCommand::Remove { .. },
        )
        | Command::OpenIncident(_)
        | Command::UpdateIncident { .. }
        | Command::NoteIncident { .. }
        | Command::ReviewIncident { .. }
        | Command::SettleStep { .. }
        | Command::CloseIncident { .. }
        | Command::CreateHoneyKey(_)
        | Command::RemoveHoneyKey { .. }
        | Command::CollectPlan { .. }
        | Command::SteerReadmission { .. } => Some(Permission::ManageFleet),
        Command::MakePlan(make) => Some(of_plan(&make.kind)),
        // Of a plan that is not known it is said that it is not known.
        Command::ApplyPlan { plan, .. } | Command::ApprovePlan { plan, .. } => {
            Some(roll.plan(*plan).map_or(Permission::ManageFleet, |plan| of_plan(&plan.kind)))
        }
        // Who may lift the need for a second operator could do without one; and a rule acts on the whole fleet, by itself.
        Command::SetPlanPolicy(_) | Command::SetTripwireRule { .. } => Some(Permission::ManageOperators),
        Command::CreateKey(create) => Some(match create.holder {
            KeyHolder::Worker(_) => Permission::ManageFleet,
            KeyHolder::Operator(_) => Permission::ManageOperators,
        }),
        Command::RotateKey { key, .. } | Command::RevokeKey { key, .. } => Some(of_key(*key)),
        Command::RotateSigningKeys { .. } => Some(Permission::ManageSigningKeys),
        Command::CreateOperator { .. } | Command::UpdateOperator { .. } | Command::RemoveOperator { .. } => {
            Some(Permission::ManageOperators)
        }
        Command::Bootstrap(_)
        | Command::EnsureEnrollmentSecret { .. }
        | Command::Enroll(_)
        | Command::IssueToken(_)
        | Command::RecordTokensIssued { .. }
        | Command::ContinuePlan { .. }
        | Command::ServeCertificate(_)
        | Command::Webhook(WebhookCommand::Settle { .. })
        | Command::RecordBarrier { .. }
        | Command::RecordTrip(_)
        | Command::RecordAuthFailures { .. } => None,
    }
}
