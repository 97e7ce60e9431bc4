//! Wishes in short: commands with everything that a table does not speak of at its plainest.

use std::sync::Arc;

use crate::domain::certificate::{CertificateOrigin, CertificateServed};
use crate::domain::command::{
    Bootstrap, Command, CreateKey, CreateWorker, DescriptionChange, DrillCredentials, Enroll, IssueToken, NewHoneyKey,
    OpenIncident, RecordTrip, Settling,
};
use crate::domain::enrollment::Limits;
use crate::domain::event::KeyHolder;
use crate::domain::fence::FenceScope;
use crate::domain::ids::{
    EnrollmentSecretId, IncidentId, KeyId, OperatorId, PoolId, SigningKeyId, TokenId, WebhookId, WorkerId,
};
use crate::domain::incident::{Description, Severity, StepTemplate};
use crate::domain::key::{Digest, KeyKind};
use crate::domain::netguard::{Listing, NetguardCommand};
use crate::domain::operator::Role;
use crate::domain::pool::{PoolSettings, SettingsChange};
use crate::domain::signing_key::{NewSigningKey, SigningAlgorithm};
use crate::domain::time::{Seconds, Timestamp};
use crate::domain::token::{NewToken, TokenFacts};
use crate::domain::tripwire::{Rule, Why};
use crate::domain::webhook::{self, Outcome, WebhookCommand};
use crate::domain::worker::Labels;

mod plans;

pub(super) use plans::{apply_plan, approve_plan, collect_plan, make_plan, plan_policy, readmit, steer};

pub(super) fn pool_id(id: &str) -> PoolId {
    id.parse().unwrap()
}

pub(super) fn worker_id(id: &str) -> WorkerId {
    id.parse().unwrap()
}

/// A verifier that differs for every number: a key's, unless said otherwise, is that of its id.
pub(super) fn digest(of: u128) -> Digest {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&of.to_le_bytes());
    Digest(bytes)
}

pub(super) fn text(text: &str) -> Arc<str> {
    text.into()
}

pub(super) fn texts(all: &[&str]) -> Arc<[Arc<str>]> {
    all.iter().copied().map(text).collect()
}

pub(super) fn worker_token(new: &NewToken, issued: u64) -> TokenFacts {
    TokenFacts {
        token: new.token,
        session: new.session,
        worker: new.worker.clone(),
        key: new.key,
        issued,
        expires_at: new.expires_at,
    }
}

pub(super) fn signing_key(id: u128) -> NewSigningKey {
    NewSigningKey {
        id: SigningKeyId(id),
        algorithm: SigningAlgorithm::EdDsa,
        public_jwk: "{}".into(),
        sealed: Arc::new([0]),
    }
}

/// Signing keys 1 and 2, the pool `default`, and an admin.
pub(super) fn bootstrap(operator: u128, key: u128) -> Command {
    Command::Bootstrap(Bootstrap {
        pool: pool_id("default"),
        active: signing_key(1),
        next: signing_key(2),
        operator: OperatorId(operator),
        name: "bootstrap".into(),
        key: KeyId(key),
        verifier: digest(key),
    })
}

/// With a key that has the operator's number.
pub(super) fn create_operator(id: u128, role: Role) -> Command {
    Command::CreateOperator {
        operator: OperatorId(id),
        name: role.as_str().into(),
        role,
        key: KeyId(id),
        verifier: digest(id),
        expires_at: None,
    }
}

pub(super) fn update_operator(id: u128, name: Option<&str>, role: Option<Role>) -> Command {
    Command::UpdateOperator { operator: OperatorId(id), name: name.map(text), role }
}

pub(super) fn remove_operator(id: u128) -> Command {
    Command::RemoveOperator { operator: OperatorId(id) }
}

pub(super) fn sharing() -> PoolSettings {
    PoolSettings { sharing: true, ..PoolSettings::default() }
}

pub(super) fn create_pool(id: &str, settings: PoolSettings) -> Command {
    Command::CreatePool { pool: pool_id(id), settings }
}

/// Sets everything anew.
pub(super) fn update_pool(id: &str, settings: PoolSettings) -> Command {
    let change = SettingsChange {
        description: Some(settings.description),
        token_ttl: Some(settings.token_ttl),
        token_record: Some(settings.token_record),
        audience: Some(settings.audience),
        scopes: Some(settings.scopes),
        sharing: Some(settings.sharing),
    };
    change_pool(id, change)
}

pub(super) fn change_pool(id: &str, change: SettingsChange) -> Command {
    Command::UpdatePool { pool: pool_id(id), change }
}

pub(super) fn remove_pool(id: &str) -> Command {
    Command::RemovePool { pool: pool_id(id) }
}

/// A nameless worker of the pool `default`, without limits and labels.
pub(super) fn plain_worker(id: &str) -> CreateWorker {
    CreateWorker {
        worker: worker_id(id),
        pool: pool_id("default"),
        name: None,
        labels: Labels::new(),
        expires_at: None,
        pending: false,
        static_secret: None,
    }
}

pub(super) fn create_worker(id: &str) -> Command {
    Command::CreateWorker(plain_worker(id))
}

pub(super) fn create_worker_in(pool: &str, id: &str) -> Command {
    Command::CreateWorker(CreateWorker { pool: pool_id(pool), ..plain_worker(id) })
}

pub(super) fn create_pending_worker(id: &str) -> Command {
    Command::CreateWorker(CreateWorker { pending: true, ..plain_worker(id) })
}

pub(super) fn create_named_worker(id: &str, name: &str) -> Command {
    Command::CreateWorker(CreateWorker { name: Some(text(name)), ..plain_worker(id) })
}

/// A worker with a static secret, whose verifier is that of `value`.
pub(super) fn create_worker_with(id: &str, key: u128, value: u128) -> Command {
    Command::CreateWorker(CreateWorker { static_secret: Some((KeyId(key), digest(value))), ..plain_worker(id) })
}

pub(super) fn rename(id: &str, name: Option<&str>) -> Command {
    Command::UpdateWorker { worker: worker_id(id), name: Some(name.map(text)), labels: None, expires_at: None }
}

pub(super) fn label(id: &str, labels: &[(&str, &str)]) -> Command {
    let labels = labels.iter().map(|(key, value)| (text(key), text(value))).collect();
    Command::UpdateWorker { worker: worker_id(id), name: None, labels: Some(labels), expires_at: None }
}

pub(super) fn expire(id: &str, at: Option<Timestamp>) -> Command {
    Command::UpdateWorker { worker: worker_id(id), name: None, labels: None, expires_at: Some(at) }
}

pub(super) fn approve(id: &str) -> Command {
    Command::ApproveWorker { worker: worker_id(id) }
}

pub(super) fn reject(id: &str) -> Command {
    Command::RejectWorker { worker: worker_id(id) }
}

pub(super) fn isolate(id: &str, until: Option<Timestamp>) -> Command {
    Command::IsolateWorker { worker: worker_id(id), until }
}

pub(super) fn release(id: &str) -> Command {
    Command::ReleaseWorker { worker: worker_id(id) }
}

pub(super) fn remove_worker(id: &str) -> Command {
    Command::RemoveWorker { worker: worker_id(id) }
}

pub(super) fn plain_key(worker: &str, key: u128) -> CreateKey {
    CreateKey {
        key: KeyId(key),
        holder: KeyHolder::Worker(worker_id(worker)),
        kind: KeyKind::Api,
        verifier: digest(key),
        expires_at: None,
    }
}

pub(super) fn create_key(worker: &str, key: u128) -> Command {
    Command::CreateKey(plain_key(worker, key))
}

pub(super) fn create_key_until(worker: &str, key: u128, until: Timestamp) -> Command {
    Command::CreateKey(CreateKey { expires_at: Some(until), ..plain_key(worker, key) })
}

pub(super) fn create_static(worker: &str, key: u128, value: u128) -> Command {
    Command::CreateKey(CreateKey { kind: KeyKind::Static, verifier: digest(value), ..plain_key(worker, key) })
}

pub(super) fn create_operator_key(operator: u128, key: u128) -> Command {
    let holder = KeyHolder::Operator(OperatorId(operator));
    Command::CreateKey(CreateKey { holder, ..plain_key("nobody", key) })
}

pub(super) fn share(key: u128, worker: &str) -> Command {
    Command::ShareKey { key: KeyId(key), worker: worker_id(worker) }
}

pub(super) fn rotate(key: u128, successor: u128, overlap: u32) -> Command {
    rotate_until(key, successor, overlap, None)
}

pub(super) fn rotate_until(key: u128, successor: u128, overlap: u32, expires_at: Option<Timestamp>) -> Command {
    Command::RotateKey {
        key: KeyId(key),
        successor: KeyId(successor),
        verifier: digest(successor),
        kind: KeyKind::Api,
        expires_at,
        overlap: Seconds(overlap),
    }
}

pub(super) fn rotate_static(key: u128, successor: u128, value: u128, overlap: u32) -> Command {
    Command::RotateKey {
        key: KeyId(key),
        successor: KeyId(successor),
        verifier: digest(value),
        kind: KeyKind::Static,
        expires_at: None,
        overlap: Seconds(overlap),
    }
}

/// With what was derived from it.
pub(super) fn revoke(key: u128) -> Command {
    Command::RevokeKey { key: KeyId(key), descendants: true }
}

pub(super) fn revoke_alone(key: u128) -> Command {
    Command::RevokeKey { key: KeyId(key), descendants: false }
}

/// An enrollment secret of the pool `default`, with the verifier of its number.
pub(super) fn create_secret(id: u128, limits: Limits) -> Command {
    create_secret_in("default", id, id, limits)
}

pub(super) fn create_secret_in(pool: &str, id: u128, value: u128, limits: Limits) -> Command {
    let (secret, verifier) = (EnrollmentSecretId(id), digest(value));
    Command::CreateEnrollmentSecret { secret, pool: pool_id(pool), verifier, limits }
}

pub(super) fn rotate_secret(id: u128, successor: u128, value: u128, overlap: u32) -> Command {
    Command::RotateEnrollmentSecret {
        secret: EnrollmentSecretId(id),
        successor: EnrollmentSecretId(successor),
        verifier: digest(value),
        overlap: Seconds(overlap),
    }
}

pub(super) fn disable_secret(id: u128) -> Command {
    Command::DisableEnrollmentSecret { secret: EnrollmentSecretId(id) }
}

pub(super) fn ensure_secret(pool: &str, id: u128, value: u128) -> Command {
    Command::EnsureEnrollmentSecret { secret: EnrollmentSecretId(id), pool: pool_id(pool), verifier: digest(value) }
}

pub(super) fn enroll(secret: u128, worker: &str, key: u128) -> Command {
    enroll_named(secret, worker, None, key)
}

pub(super) fn enroll_named(secret: u128, worker: &str, name: Option<&str>, key: u128) -> Command {
    Command::Enroll(Enroll {
        secret: EnrollmentSecretId(secret),
        worker: worker_id(worker),
        name: name.map(text),
        labels: Labels::new(),
        key: KeyId(key),
        verifier: digest(key),
    })
}

pub(super) fn plain_token(token: u128, worker: &str, key: u128) -> IssueToken {
    IssueToken {
        token: TokenId(token),
        worker: worker_id(worker),
        key: KeyId(key),
        renews: None,
        ttl: None,
        scopes: None,
    }
}

pub(super) fn issue(token: u128, worker: &str, key: u128) -> Command {
    Command::IssueToken(plain_token(token, worker, key))
}

pub(super) fn renew(token: u128, facts: &TokenFacts) -> Command {
    let renews = Some(facts.clone());
    Command::IssueToken(IssueToken { renews, ..plain_token(token, facts.worker.as_str(), facts.key.0) })
}

pub(super) fn revoke_token(facts: &TokenFacts) -> Command {
    Command::RevokeToken(facts.clone())
}

pub(super) fn serve_certificate(node: &str, fingerprint: u8) -> Command {
    Command::ServeCertificate(CertificateServed {
        node: node.into(),
        fingerprint: Digest([fingerprint; 32]),
        not_after: super::seconds(7_776_000),
        origin: CertificateOrigin::OwnAuthority,
    })
}

pub(super) fn rotate_signing_keys(next: u128, overlap: u32) -> Command {
    Command::RotateSigningKeys { next: signing_key(next), overlap: Seconds(overlap) }
}

/// Over the scope of this name; `None`: up to the newest position.
pub(super) fn fence(scope: &str, up_to: Option<u64>) -> Command {
    Command::RaiseFence { scope: scope.parse().unwrap(), up_to }
}

/// Over the lineage of this enrollment secret.
pub(super) fn lineage(secret: u128, up_to: Option<u64>) -> Command {
    Command::RaiseFence { scope: FenceScope::Lineage(EnrollmentSecretId(secret)), up_to }
}

pub(super) fn list_network(network: &str, listing: Listing) -> Command {
    Command::Netguard(NetguardCommand::Add { network: network.parse().unwrap(), listing })
}

pub(super) fn unlist_network(network: &str) -> Command {
    Command::Netguard(NetguardCommand::Remove { network: network.parse().unwrap() })
}

pub(super) fn incident_id(id: &str) -> IncidentId {
    id.parse().unwrap()
}

pub(super) fn step(id: &str, needs: &[&[&str]]) -> StepTemplate {
    let group = |group: &&[&str]| group.iter().map(|kind| Arc::from(*kind)).collect();
    StepTemplate { id: id.into(), title: id.into(), needs: needs.iter().map(group).collect() }
}

/// With a step that isolations fill, and one that is done by hand.
pub(super) fn plain_incident(id: Option<&str>, scope: &[&str]) -> OpenIncident {
    OpenIncident {
        incident: id.map(incident_id),
        description: Description {
            title: "A key leaked".into(),
            severity: Severity::High,
            scope: scope.iter().map(|text| text.parse().unwrap()).collect(),
            people: vec!["alice".into()],
            first_sign: None,
        },
        checklist: vec![step("isolate", &[&["worker.isolated"]]), step("restore", &[])],
        drill: None,
    }
}

pub(super) fn open_incident(id: Option<&str>) -> Command {
    Command::OpenIncident(plain_incident(id, &[]))
}

/// Its copies get the keys from `1000` on.
pub(super) fn open_drill(id: &str, scope: &[&str]) -> Command {
    let keys = (1_000..1_010).map(|key| (KeyId(key), digest(key))).collect();
    let drill = DrillCredentials { keys, enrollment: (EnrollmentSecretId(1_000), digest(1_000)) };
    Command::OpenIncident(OpenIncident { drill: Some(drill), ..plain_incident(Some(id), scope) })
}

pub(super) fn retitle(id: &str, title: &str) -> Command {
    let change = DescriptionChange { title: Some(title.into()), ..DescriptionChange::default() };
    Command::UpdateIncident { incident: incident_id(id), change }
}

pub(super) fn note(id: &str, note: &str) -> Command {
    Command::NoteIncident { incident: incident_id(id), note: note.into() }
}

pub(super) fn review(id: &str, finding: &str) -> Command {
    Command::ReviewIncident { incident: incident_id(id), finding: finding.into() }
}

pub(super) fn settle(id: &str, step: &str, settling: Settling) -> Command {
    Command::SettleStep { incident: incident_id(id), step: step.into(), settling }
}

pub(super) fn close(id: &str) -> Command {
    Command::CloseIncident { incident: incident_id(id), summary: "over".into() }
}

pub(super) fn honey(key: u128, pool: &str) -> Command {
    Command::CreateHoneyKey(NewHoneyKey { key: KeyId(key), pool: pool_id(pool), verifier: digest(key), note: None })
}

pub(super) fn remove_honey(key: u128) -> Command {
    Command::RemoveHoneyKey { key: KeyId(key) }
}

pub(super) fn tripwire_rule(pool: Option<&str>, rule: Rule) -> Command {
    Command::SetTripwireRule { pool: pool.map(pool_id), rule }
}

/// One use of the key, from an address of which nothing is known.
pub(super) fn trip(key: u128, why: Why, worker: Option<&str>) -> Command {
    Command::RecordTrip(Box::new(RecordTrip {
        key: KeyId(key),
        why,
        worker: worker.map(worker_id),
        source: Some([192, 0, 2, 1].into()),
        count: 1,
        from: Timestamp(0),
        to: Timestamp(0),
        presenters: Vec::new(),
        checklist: vec![StepTemplate { id: text("isolate"), title: text("Isolate"), needs: vec![] }],
    }))
}

pub(super) fn create_webhook(webhook: u128, url: &str) -> Command {
    let kinds = [text("worker.isolated")].into();
    let webhook = WebhookId(webhook);
    Command::Webhook(WebhookCommand::Create { webhook, url: text(url), kinds, sealed: [1_u8].into() })
}

/// Told at once, of the event at this position.
pub(super) fn settle_webhook(webhook: u128, position: u64) -> Command {
    let delivery = webhook::Delivery { position, attempts: 1, outcome: Outcome::Delivered { status: 204 } };
    Command::Webhook(WebhookCommand::Settle { webhook: WebhookId(webhook), delivery })
}
