//! What each command is called, in metrics and traces; and which of them take their time.

use super::{Command, OpenIncident};
use crate::domain::netguard::NetguardCommand;
use crate::domain::readmission::Steering;
use crate::domain::webhook::WebhookCommand;

impl Command {
    /// Every name that [`Command::name`] gives.
    pub const NAMES: [&'static str; 54] = [
        "bootstrap",
        "create_pool",
        "update_pool",
        "remove_pool",
        "create_worker",
        "update_worker",
        "approve_worker",
        "reject_worker",
        "isolate_worker",
        "release_worker",
        "remove_worker",
        "create_key",
        "share_key",
        "rotate_key",
        "revoke_key",
        "create_enrollment_secret",
        "rotate_enrollment_secret",
        "disable_enrollment_secret",
        "ensure_enrollment_secret",
        "enroll",
        "issue_token",
        "revoke_token",
        "record_tokens_issued",
        "rotate_signing_keys",
        "create_operator",
        "update_operator",
        "remove_operator",
        "raise_fence",
        "make_plan",
        "apply_plan",
        "approve_plan",
        "collect_plan",
        "set_plan_policy",
        "continue_plan",
        "steer_readmission",
        "add_netguard_address",
        "remove_netguard_address",
        "open_incident",
        "update_incident",
        "note_incident",
        "review_incident",
        "settle_step",
        "close_incident",
        "create_honey_key",
        "remove_honey_key",
        "set_tripwire_rule",
        "record_trip",
        "create_webhook",
        "update_webhook",
        "remove_webhook",
        "settle_webhook",
        "serve_certificate",
        "record_barrier",
        "record_auth_failures",
    ];

    /// Whether deciding it looks at the whole fleet: nothing is decided after it in the same batch.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        matches!(
            self,
            Command::MakePlan(_)
                | Command::ApplyPlan { .. }
                | Command::OpenIncident(OpenIncident { drill: Some(_), .. })
                | Command::CloseIncident { .. }
                | Command::SteerReadmission { steering: Steering::RollBack, .. }
        )
    }

    /// A stable name, for metrics and traces.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Command::Bootstrap(_) => "bootstrap",
            Command::CreatePool { .. } => "create_pool",
            Command::UpdatePool { .. } => "update_pool",
            Command::RemovePool { .. } => "remove_pool",
            Command::CreateWorker(_) => "create_worker",
            Command::UpdateWorker { .. } => "update_worker",
            Command::ApproveWorker { .. } => "approve_worker",
            Command::RejectWorker { .. } => "reject_worker",
            Command::IsolateWorker { .. } => "isolate_worker",
            Command::ReleaseWorker { .. } => "release_worker",
            Command::RemoveWorker { .. } => "remove_worker",
            Command::CreateKey(_) => "create_key",
            Command::ShareKey { .. } => "share_key",
            Command::RotateKey { .. } => "rotate_key",
            Command::RevokeKey { .. } => "revoke_key",
            Command::CreateEnrollmentSecret { .. } => "create_enrollment_secret",
            Command::RotateEnrollmentSecret { .. } => "rotate_enrollment_secret",
            Command::DisableEnrollmentSecret { .. } => "disable_enrollment_secret",
            Command::EnsureEnrollmentSecret { .. } => "ensure_enrollment_secret",
            Command::Enroll(_) => "enroll",
            Command::IssueToken(_) => "issue_token",
            Command::RevokeToken(_) => "revoke_token",
            Command::RecordTokensIssued { .. } => "record_tokens_issued",
            Command::RotateSigningKeys { .. } => "rotate_signing_keys",
            Command::CreateOperator { .. } => "create_operator",
            Command::UpdateOperator { .. } => "update_operator",
            Command::RemoveOperator { .. } => "remove_operator",
            Command::RaiseFence { .. } => "raise_fence",
            Command::MakePlan(_) => "make_plan",
            Command::ApplyPlan { .. } => "apply_plan",
            Command::ApprovePlan { .. } => "approve_plan",
            Command::CollectPlan { .. } => "collect_plan",
            Command::SetPlanPolicy(_) => "set_plan_policy",
            Command::ContinuePlan { .. } => "continue_plan",
            Command::SteerReadmission { .. } => "steer_readmission",
            Command::Netguard(NetguardCommand::Add { .. }) => "add_netguard_address",
            Command::Netguard(NetguardCommand::Remove { .. }) => "remove_netguard_address",
            Command::OpenIncident(_) => "open_incident",
            Command::UpdateIncident { .. } => "update_incident",
            Command::NoteIncident { .. } => "note_incident",
            Command::ReviewIncident { .. } => "review_incident",
            Command::SettleStep { .. } => "settle_step",
            Command::CloseIncident { .. } => "close_incident",
            Command::CreateHoneyKey(_) => "create_honey_key",
            Command::RemoveHoneyKey { .. } => "remove_honey_key",
            Command::SetTripwireRule { .. } => "set_tripwire_rule",
            Command::RecordTrip(_) => "record_trip",
            Command::Webhook(WebhookCommand::Create { .. }) => "create_webhook",
            Command::Webhook(WebhookCommand::Update { .. }) => "update_webhook",
            Command::Webhook(WebhookCommand::Remove { .. }) => "remove_webhook",
            Command::Webhook(WebhookCommand::Settle { .. }) => "settle_webhook",
            Command::ServeCertificate(_) => "serve_certificate",
            Command::RecordBarrier { .. } => "record_barrier",
            Command::RecordAuthFailures { .. } => "record_auth_failures",
        }
    }
}
