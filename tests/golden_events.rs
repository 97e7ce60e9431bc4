//! The entries of every kind of event in every schema, as they were first written: these files never change.
//!
//! Logs hold such bytes for as long as they are kept, so a release that reads one of these files otherwise, or not at
//! all, would do so to somebody's history. `UPDATE_GOLDEN=1` writes the files of new kinds; it never touches an old one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use portcullis::domain::actor::{Actor, Author, CredentialUsed};
use portcullis::domain::certificate::{CertificateOrigin, CertificateServed};
use portcullis::domain::enrollment::{Limits, NamePattern};
use portcullis::domain::event::{
    Event, FailureCount, GivenUp, IncidentOpened, KeyCreated, KeyHolder, LogRestored, PlanMade, Recorded, WorkerCreated,
};
use portcullis::domain::fence::FenceScope;
use portcullis::domain::ids::{
    CommandId, EnrollmentSecretId, IncidentId, KeyId, OperatorId, PlanId, PoolId, SigningKeyId, TokenId, WebhookId,
    WorkerId,
};
use portcullis::domain::incident::{Description, Severity, StepTemplate};
use portcullis::domain::key::{Digest, KeyKind};
use portcullis::domain::netguard::{Listing, NetguardEvent};
use portcullis::domain::operator::Role;
use portcullis::domain::plan::{ApprovalPolicy, Counts, Criterion, Delivery, PlanKind, Selector};
use portcullis::domain::pool::{PoolSettings, TokenRecord};
use portcullis::domain::readmission::{ReadmissionChange, Terms};
use portcullis::domain::signing_key::{NewSigningKey, SigningAlgorithm};
use portcullis::domain::time::{Seconds, Timestamp};
use portcullis::domain::token::NewToken;
use portcullis::domain::tripwire::{Actions, Answer, Hindrance, Rule, Tripped, TripwireEvent, Why};
use portcullis::domain::webhook::{self, Outcome, WebhookEvent};
use portcullis::domain::worker::Labels;
use portcullis::log::entry::{decode, encode};
use portcullis::log::schema::{self, KINDS};

/// 2026-11-22T03:10:41.123456Z
const NOW: Timestamp = Timestamp(1_795_317_041_123_456);

const ID: u128 = 0x0192_f0c1_d2e3_7000_8000_0000_0000_0000;

fn worker() -> WorkerId {
    "runner-17".parse().unwrap()
}

fn pool() -> PoolId {
    "default".parse().unwrap()
}

fn key() -> KeyId {
    KeyId(ID + 1)
}

fn secret() -> EnrollmentSecretId {
    EnrollmentSecretId(ID + 2)
}

fn operator() -> OperatorId {
    OperatorId(ID + 3)
}

fn token() -> TokenId {
    TokenId(ID + 4)
}

fn verifier() -> Digest {
    Digest(std::array::from_fn(|at| u8::try_from(at).unwrap()))
}

fn later(seconds: u32) -> Timestamp {
    NOW.after(Seconds(seconds))
}

fn labels() -> Labels {
    [("zone", "eu-west"), ("owner", "J\u{f6}rg \"J\"")].map(|(name, value)| (name.into(), value.into())).into()
}

fn scopes() -> Arc<[Arc<str>]> {
    Arc::new(["jobs:read".into(), "jobs:write".into()])
}

fn signing_key(id: u128) -> NewSigningKey {
    NewSigningKey {
        id: SigningKeyId(ID + id),
        algorithm: SigningAlgorithm::EdDsa,
        public_jwk: r#"{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#.into(),
        sealed: Arc::from([0xfb, 0xff, 0x00, 0x10].as_slice()),
    }
}

fn pool_events() -> Vec<Event> {
    let settings = PoolSettings {
        description: "Build runners".into(),
        token_ttl: Seconds(900),
        token_record: TokenRecord::Each,
        audience: "portcullis".into(),
        scopes: scopes(),
        sharing: false,
    };
    let counted = PoolSettings { token_record: TokenRecord::Counted, sharing: true, ..settings.clone() };
    vec![
        Event::PoolCreated { pool: pool(), settings },
        Event::PoolUpdated { pool: pool(), settings: counted },
        Event::PoolRemoved { pool: pool() },
    ]
}

fn worker_events() -> Vec<Event> {
    let created = WorkerCreated {
        worker: worker(),
        pool: pool(),
        name: Some("runner 17".into()),
        labels: labels(),
        expires_at: Some(later(86_400)),
        pending: true,
        enrolled_by: Some(secret()),
    };
    vec![
        Event::WorkerCreated(created),
        Event::WorkerUpdated { worker: worker(), name: None, labels: Labels::new(), expires_at: None },
        Event::WorkerApproved { worker: worker() },
        Event::WorkerRejected { worker: worker() },
        Event::WorkerIsolated { worker: worker(), until: Some(later(3_600)) },
        Event::WorkerReleased { worker: worker() },
        Event::WorkerRemoved { worker: worker() },
    ]
}

fn key_events() -> Vec<Event> {
    let created = KeyCreated {
        key: key(),
        holder: KeyHolder::Worker(worker()),
        kind: KeyKind::Api,
        verifier: verifier(),
        expires_at: None,
    };
    let rotated = Event::KeyRotated {
        key: key(),
        successor: KeyId(ID + 11),
        verifier: verifier(),
        expires_at: Some(later(86_400)),
        overlap_until: later(3_600),
        derived: true,
    };
    vec![
        Event::KeyCreated(created),
        Event::KeyShared { key: key(), worker: "runner-18".parse().unwrap() },
        rotated,
        Event::KeyRevoked { key: key() },
    ]
}

fn enrollment_events() -> Vec<Event> {
    let limits = Limits {
        cidrs: ["10.0.0.0/8", "2001:db8::/32"].map(|cidr| cidr.parse().unwrap()).into(),
        name_pattern: Some(NamePattern::new("runner-[0-9]+").unwrap()),
        uses_max: Some(500),
        expires_at: Some(later(86_400)),
        approval: true,
    };
    vec![
        Event::EnrollmentSecretCreated { secret: secret(), pool: pool(), verifier: verifier(), limits },
        Event::EnrollmentSecretRotated {
            secret: secret(),
            successor: EnrollmentSecretId(ID + 12),
            verifier: verifier(),
            overlap_until: NOW,
        },
        Event::EnrollmentSecretDisabled { secret: secret() },
    ]
}

fn token_events() -> Vec<Event> {
    let issued = NewToken {
        token: token(),
        session: TokenId(ID + 14),
        worker: worker(),
        key: key(),
        expires_at: later(900),
        scopes: scopes(),
    };
    vec![
        Event::TokenIssued(issued),
        Event::TokensIssued { worker: worker(), count: 42, from: NOW, to: later(60) },
        Event::TokenRevoked { token: token(), session: TokenId(ID + 14), worker: worker(), issued: 1_000_003 },
    ]
}

fn service_events() -> Vec<Event> {
    let failure = |source: Option<&str>, credential: Option<&str>| FailureCount {
        reason: "unknown_key".into(),
        source: source.map(|source| source.parse().unwrap()),
        credential: credential.map(Into::into),
        count: 3,
    };
    let failures = vec![failure(Some("192.0.2.7"), Some("2tHcT4yRrZJxXh8mQK5pVb")), failure(None, None)];
    vec![
        Event::SigningKeysInstalled { active: signing_key(5), next: signing_key(6) },
        Event::SigningKeysRotated { next: signing_key(7), retired_verifies_until: later(2_592_000) },
        Event::OperatorCreated { operator: operator(), name: "bootstrap".into(), role: Role::Admin },
        Event::OperatorUpdated { operator: operator(), name: "Ana".into(), role: Role::Auditor },
        Event::OperatorRemoved { operator: operator() },
        Event::AuthFailuresObserved { from: NOW, to: later(60), failures },
        Event::FenceRaised { scope: FenceScope::Pool(pool()), up_to: 1_000_003 },
        Event::BarrierPassed { through: 7, confirmed: vec!["gate-1".into()], waited_out: vec!["gate-2".into()] },
        Event::PlanMade(PlanMade {
            plan: PlanId(ID + 20),
            kind: PlanKind::Isolate { until: Some(later(7_200)) },
            selector: Selector::new(
                vec!["pool:blue".parse().unwrap(), "label:os=linux".parse().unwrap()],
                Some(NOW),
                None,
            )
            .unwrap(),
            digest: Digest([7; 32]),
            counts: Counts { workers: 3, ..Counts::default() },
            left_without_key: 0,
            replaces: None,
            approval: false,
            expires_at: later(3_600),
        }),
        Event::PlanApplied { plan: PlanId(ID + 20), items: 3 },
        Event::PlanProgressed { plan: PlanId(ID + 20), done: 3, changed: 2 },
        Event::LogRestored(LogRestored {
            backup: 120,
            dump: Digest([9; 32]),
            brought_back: 31,
            reductions: 4,
            given_up: Some(GivenUp { known_to: Some(160) }),
        }),
    ]
}

/// Later than the others, and so at their end.
fn later_plan_events() -> Vec<Event> {
    vec![
        Event::PlanMade(PlanMade {
            plan: PlanId(ID + 21),
            kind: PlanKind::RotateAll { overlap: Seconds(86_400), delivery: Delivery::File },
            selector: Selector::new(
                vec![Criterion::Operator(operator()), "source:2001:db8::/32".parse().unwrap()],
                None,
                None,
            )
            .unwrap(),
            digest: Digest([8; 32]),
            counts: Counts { keys: 4, ..Counts::default() },
            left_without_key: 0,
            replaces: Some(PlanId(ID + 20)),
            approval: true,
            expires_at: later(3_600),
        }),
        Event::PlanApproved { plan: PlanId(ID + 21) },
        Event::PlanPolicySet(ApprovalPolicy {
            kinds: Arc::new(["revoke_all".into(), "rotate_all".into()]),
            pools: Arc::new([pool()]),
        }),
        Event::KeyRotationDue { key: key(), until: later(86_400) },
    ]
}

/// Later still.
fn readmission_events() -> Vec<Event> {
    let plan = PlanId(ID + 22);
    let terms = |delivery, overlap| {
        let canary = Some(pool());
        let (wave_size, wave_every, refusals_max, trips_max) = (500, Seconds(300), 20, 0);
        Arc::new(Terms {
            as_of: later(60),
            canary,
            canaries: 3,
            wave_size,
            wave_every,
            refusals_max,
            trips_max,
            delivery,
            overlap,
        })
    };
    let changed = |change| Event::Readmission { plan, change };
    vec![
        Event::PlanMade(PlanMade {
            plan,
            kind: PlanKind::Readmit(terms(Delivery::Fetch, Seconds(7_200))),
            selector: Selector::new(vec!["pool:blue".parse().unwrap()], None, None).unwrap(),
            digest: Digest([9; 32]),
            counts: Counts { workers: 1_200, ..Counts::default() },
            left_without_key: 0,
            replaces: None,
            approval: true,
            expires_at: later(3_600),
        }),
        changed(ReadmissionChange::WaveReleased { wave: 1, workers: 3 }),
        changed(ReadmissionChange::KeysMade { done: 3 }),
        changed(ReadmissionChange::Paused),
        changed(ReadmissionChange::Resumed),
        changed(ReadmissionChange::Stopped { refusals: 21, trips: 0 }),
        changed(ReadmissionChange::Completed),
        changed(ReadmissionChange::RolledBack { workers: 3 }),
    ]
}

fn incident_events() -> Vec<Event> {
    let incident = || -> IncidentId { "INC-7".parse().unwrap() };
    let description = Description {
        title: "Key of runner 17 on a forum".into(),
        severity: Severity::Critical,
        scope: vec!["pool:blue".parse().unwrap(), "worker:runner-17".parse().unwrap()],
        people: vec!["alice".into(), "J\u{f6}rg \"J\"".into()],
        first_sign: Some(NOW),
    };
    let step = |id: &str, needs: Vec<Vec<Arc<str>>>| StepTemplate { id: id.into(), title: "Do it".into(), needs };
    let checklist = vec![
        step("isolate", vec![vec!["worker.isolated".into()], vec!["key.revoked".into(), "fence.raised".into()]]),
        step("restore", vec![]),
    ];
    let updated = Description { scope: vec![], people: vec![], first_sign: None, ..description.clone() };
    vec![
        Event::IncidentOpened(IncidentOpened { incident: incident(), description, drill: true, checklist }),
        Event::IncidentUpdated { incident: incident(), description: updated },
        Event::IncidentNoted { incident: incident(), note: "called the owner".into() },
        Event::IncidentReviewed { incident: incident(), finding: "nothing since Monday".into() },
        Event::IncidentStepDone { incident: incident(), step: "restore".into() },
        Event::IncidentStepWaived { incident: incident(), step: "restore".into() },
        Event::IncidentStepReopened { incident: incident(), step: "restore".into() },
        Event::IncidentClosed { incident: incident(), summary: "one key, rotated".into() },
    ]
}

fn guard_events() -> Vec<Event> {
    let network = "192.0.2.0/24".parse().unwrap();
    vec![
        Event::Netguard(NetguardEvent::AddressAdded { network, listing: Listing::Excepted }),
        Event::Netguard(NetguardEvent::AddressRemoved { network }),
        Event::TlsCertificateServed(CertificateServed {
            node: "gate-1".into(),
            fingerprint: Digest([5; 32]),
            not_after: later(7_776_000),
            origin: CertificateOrigin::OwnAuthority,
        }),
    ]
}

fn tripwire_events() -> Vec<Event> {
    let key = || KeyId(ID + 22);
    let answers = vec![
        Answer::IncidentOpened("INC-7".parse().unwrap()),
        Answer::IncidentJoined("INC-6".parse().unwrap()),
        Answer::Isolated(worker()),
        Answer::NotIsolated(Hindrance::Limit),
    ];
    let rule = Rule {
        honey: Some(Actions { isolate: true, open_incident: true }),
        revoked: Some(Actions::RECORD),
        rotated: None,
    };
    vec![
        Event::Tripwire(TripwireEvent::HoneyKeyCreated {
            key: key(),
            pool: pool(),
            verifier: verifier(),
            note: Some("backup of \"host 7\"".into()),
        }),
        Event::Tripwire(TripwireEvent::HoneyKeyRemoved { key: key() }),
        Event::Tripwire(TripwireEvent::Tripped(Tripped {
            key: key(),
            why: Why::Honey,
            worker: Some(worker()),
            pool: Some(pool()),
            source: Some("2001:db8::7".parse().unwrap()),
            count: 17,
            from: NOW,
            to: later(59),
            answers,
        })),
        Event::Tripwire(TripwireEvent::RuleSet { pool: Some(pool()), rule }),
    ]
}

fn webhook_events() -> Vec<Event> {
    let webhook = WebhookId(ID + 21);
    let (url, kinds): (Arc<str>, Arc<[Arc<str>]>) =
        ("https://hooks.example.org/in".into(), ["worker.isolated".into()].into());
    let settled = |position, outcome| {
        Event::Webhook(WebhookEvent::Settled {
            webhook,
            delivery: webhook::Delivery { position, attempts: 3, outcome },
        })
    };
    vec![
        Event::Webhook(WebhookEvent::Created {
            webhook,
            url: url.clone(),
            kinds: kinds.clone(),
            sealed: [1_u8, 2, 3].into(),
        }),
        Event::Webhook(WebhookEvent::Updated { webhook, url, kinds, enabled: false }),
        Event::Webhook(WebhookEvent::Removed { webhook }),
        settled(7, Outcome::Delivered { status: 204 }),
        settled(8, Outcome::Failed { why: "status 503".into() }),
    ]
}

/// One event of each kind, each with another author, so that the envelope is covered too.
fn samples() -> Vec<Recorded> {
    let authors = [
        Author::system(),
        Author {
            actor: Actor::Operator(operator()),
            credential: Some(CredentialUsed::Key(key())),
            source: Some("192.0.2.1".parse().unwrap()),
            request_id: Some("0192f0c1-d2e3-7000".into()),
        },
        Author {
            actor: Actor::Worker(worker()),
            credential: Some(CredentialUsed::Token {
                token: token(),
                session: TokenId(ID + 14),
                key: key(),
                issued: 1_000_003,
            }),
            source: Some("2001:db8::1".parse().unwrap()),
            request_id: None,
        },
        Author {
            actor: Actor::Enrollee(secret()),
            credential: Some(CredentialUsed::EnrollmentSecret(secret())),
            source: None,
            request_id: None,
        },
    ];
    let events = [
        pool_events(),
        worker_events(),
        key_events(),
        enrollment_events(),
        token_events(),
        service_events(),
        incident_events(),
        later_plan_events(),
        guard_events(),
        tripwire_events(),
        webhook_events(),
        readmission_events(),
        vec![Event::KeysRevoked { plan: PlanId(ID + 20), keys: [key(), KeyId(ID + 21)].into() }],
    ];
    let sample = |((position, event), author): ((u64, Event), &Author)| Recorded {
        position,
        recorded_at: Timestamp(NOW.0 + 250),
        occurred_at: NOW,
        author: author.clone(),
        command: CommandId(ID + 100 + u128::from(position)),
        cause: position.is_multiple_of(3).then_some(position / 3),
        incident: position.is_multiple_of(5).then(|| "INC-7".parse().unwrap()),
        reason: position.is_multiple_of(2).then(|| "as \"agreed\"\nyesterday".into()),
        event,
    };
    (0..).zip(events.concat()).zip(authors.iter().cycle()).map(sample).collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/events")
}

fn file((kind, schema): (&str, u32)) -> PathBuf {
    folder().join(format!("{kind}@{schema}.json"))
}

/// A missing file is written when asked for, and only then.
fn write_missing() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        for sample in samples() {
            let path = file(schema::kind(&sample.event));
            if !path.exists() {
                fs::write(path, encode(&sample).unwrap()).unwrap();
            }
        }
    }
}

#[test]
fn every_schema_ever_written_is_read_as_it_was_meant() {
    write_missing();
    for sample in samples() {
        let path = file(schema::kind(&sample.event));
        let entry = fs::read(&path).expect("a golden file; UPDATE_GOLDEN=1 writes that of a new kind");
        assert_eq!(decode(&entry).as_ref(), Ok(&sample), "{}", path.display());
        assert_eq!(encode(&sample), Ok(entry), "{}", path.display());
    }
}

#[test]
fn every_schema_has_a_file_and_a_sample_and_every_file_a_schema() {
    write_missing();
    let name = |(kind, schema): (&str, u32)| format!("{kind}@{schema}.json");
    let known: BTreeSet<String> = KINDS.iter().map(|pair| name(*pair)).collect();
    let files: BTreeSet<String> =
        fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let sampled: BTreeSet<String> = samples().iter().map(|sample| name(schema::kind(&sample.event))).collect();
    assert_eq!(files, known);
    // A kind that has left its first schema behind keeps the file, and is sampled in its newest only.
    assert!(sampled.is_subset(&known), "{sampled:?}");
    let kinds = |names: &BTreeSet<String>| -> BTreeSet<String> {
        names.iter().filter_map(|name| name.split('@').next().map(str::to_owned)).collect()
    };
    assert_eq!(kinds(&sampled), kinds(&known));
}

/// A file without a sample holds an old schema: it is still read, as today's event.
#[test]
fn every_file_is_read() {
    write_missing();
    for pair in KINDS {
        let entry = fs::read(file(*pair)).unwrap();
        let recorded = decode(&entry).unwrap_or_else(|error| panic!("{pair:?}: {error}"));
        assert_eq!(schema::kind(&recorded.event).0, pair.0);
    }
}
