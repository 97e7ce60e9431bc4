//! Golden files for every problem: a client that reads codes, and a person who reads details, find them as they were.
//! `UPDATE_EXPECT=1` writes them; what changes there is an API that changes.

use std::collections::BTreeSet;

use expect_test::expect_file;
use serde_json::{Value, json};

use super::*;
use crate::domain::ids::{EnrollmentSecretId, KeyId, OperatorId, PlanId, PoolId, WebhookId, WorkerId};
use crate::domain::operator::Permission;
use crate::domain::worker::Standing;
use crate::log::Tampered;
use crate::projection::read::ReadError;

/// One of each kind of refusal.
fn refusals() -> Vec<Refusal> {
    let pool = || "blue".parse::<PoolId>().unwrap();
    let worker = || "w-1".parse::<WorkerId>().unwrap();
    let uuid = uuid::Uuid::from_u128(7);
    let (key, secret) = (KeyId::from_uuid(uuid), EnrollmentSecretId::from_uuid(uuid));
    let operator = OperatorId::from_uuid(uuid);
    let mut all = vec![
        Refusal::NotPermitted(Permission::ManageFleet),
        Refusal::PoolUnknown(pool()),
        Refusal::PoolExists(pool()),
        Refusal::PoolRemoved(pool()),
        Refusal::PoolNotEmpty { pool: pool(), workers: 3 },
        Refusal::WorkerUnknown(worker()),
        Refusal::WorkerExists(worker()),
        Refusal::KeyUnknown(key),
        Refusal::KeyRevoked(key),
        Refusal::KeyExpired(key),
        Refusal::KeyFenced(key),
        Refusal::KeyAlreadyRotated { key, successor: KeyId::from_uuid(uuid::Uuid::from_u128(8)) },
        Refusal::KeyExists(key),
        Refusal::KeyKind(key),
        Refusal::KeyOfOperator(key),
        Refusal::TooManyKeys,
        Refusal::HoneyKeyUnknown(key),
        Refusal::TooManyHoneyKeys,
        Refusal::TooManySharers,
        Refusal::SharingOff(pool()),
        Refusal::SharedAcrossPools(pool()),
        Refusal::StaticSecretInUse,
        Refusal::StaticSecretRevoked,
        Refusal::EnrollmentUnknown(secret),
        Refusal::EnrollmentSecretInUse,
        Refusal::EnrollmentEnded(secret),
        Refusal::EnrollmentFenced(secret),
        Refusal::EnrollmentSource(secret),
        Refusal::EnrollmentName(secret),
        Refusal::EnrollmentCrowded(secret),
        Refusal::ScopeNotAllowed,
        Refusal::NoSigningKey,
        Refusal::OperatorUnknown(operator),
        Refusal::OperatorRemoved(operator),
        Refusal::LastAdmin,
        Refusal::PlanUnknown(PlanId::from_uuid(uuid)),
        Refusal::PlanDigest(PlanId::from_uuid(uuid)),
        Refusal::PlanExpired(PlanId::from_uuid(uuid)),
        Refusal::PlanChanged(PlanId::from_uuid(uuid)),
        Refusal::ApprovalRequired(PlanId::from_uuid(uuid)),
        Refusal::ApprovalOwn(PlanId::from_uuid(uuid)),
        Refusal::PlanNotApplied(PlanId::from_uuid(uuid)),
        Refusal::PlanNotCollected(PlanId::from_uuid(uuid)),
        Refusal::PlanOfAnother(PlanId::from_uuid(uuid)),
        Refusal::PlanProgressed { plan: PlanId::from_uuid(uuid), done: 100 },
        Refusal::ReadmissionNone(PlanId::from_uuid(uuid)),
        Refusal::ReadmissionOver(PlanId::from_uuid(uuid)),
        Refusal::ReadmissionStands(PlanId::from_uuid(uuid)),
        Refusal::ReadmissionWave { plan: PlanId::from_uuid(uuid), next: 2 },
        Refusal::ReadmissionKeysWait(PlanId::from_uuid(uuid)),
        Refusal::WebhookUnknown(WebhookId::from_uuid(uuid)),
        Refusal::IncidentUnknown("INC-7".parse().unwrap()),
        Refusal::IncidentClosed("INC-7".parse().unwrap()),
        Refusal::IncidentExists("INC-7".parse().unwrap()),
        Refusal::StepUnknown { incident: "INC-7".parse().unwrap(), step: "rotate".into() },
        Refusal::StepDone("rotate".into()),
        Refusal::StepsOpen { incident: "INC-7".parse().unwrap(), steps: vec!["rotate".into(), "review".into()] },
        Refusal::OutsideDrill("INC-7".parse().unwrap()),
        Refusal::Invalid { field: "token_ttl", message: "from 5s to 30d".to_owned() },
    ];
    all.extend(Standing::ALL.map(|standing| Refusal::WorkerState { worker: worker(), standing }));
    all
}

/// What HTTP itself refuses, or fails at.
fn own() -> Vec<Problem> {
    vec![
        Problem::malformed("the body is not as expected"),
        Problem::worker_id_not_allowed("worker"),
        Problem::unauthorized(),
        Problem::not_found("there is nothing at this path; see /docs"),
        Problem::method_not_allowed(),
        Problem::payload_too_large(1 << 20),
        Problem::body_timeout(Duration::from_secs(15)),
        Problem::unsupported_media_type("send `Content-Type: application/json`, and JSON"),
        Problem::too_many_attempts(7),
        Problem::stale(),
        Problem::stopped(),
        Problem::timeout(),
        ReadError::Behind { projection: "workers", wanted: 8, reached: Some(7) }.into(),
        Problem::secret_gone(),
        Problem::replay_too_long(7, 6),
        Problem::replay_underway(6, 7),
        Problem::replay_busy(),
        Problem::scope_busy(),
        Problem::scope_underway(6, 7),
        Problem::internal("what only the log says"),
        Problem::log_unavailable("what only the log says"),
        CommandError::OtherContent.into(),
        CommandError::QueueFull.into(),
        CommandError::OutcomeLost { position: 7 }.into(),
        LogFault::from(Tampered::Mac { position: 7 }).into(),
        CommandError::Unknown("what only the log says".into()).into(),
    ]
}

async fn rendered(problem: Problem) -> (Value, String) {
    let response = problem.into_response();
    let headers = ["content-type", "www-authenticate", "retry-after"].map(|name| {
        let value = response.headers().get(name).map(|value| value.to_str().unwrap());
        (name.to_owned(), json!(value))
    });
    let headers = json!(headers.into_iter().filter(|(_, value)| !value.is_null()).collect::<serde_json::Map<_, _>>());
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["status"], status);
    let text = serde_json::to_string_pretty(&json!({ "headers": headers, "body": body })).unwrap();
    (body, format!("{text}\n"))
}

/// Every code that stands in the match of [`Refusal::code`], but those of denials: they all look alike from outside.
fn codes_of_refusals() -> BTreeSet<String> {
    let source = include_str!("../../domain/refusal.rs");
    let (_, function) = source.split_once("pub fn code(&self)").unwrap();
    let lines = function.lines().filter(|line| line.contains("=> \""));
    lines.map(|line| line.split('"').nth(1).unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_problem_is_as_its_golden_file_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/problems");
    let mut codes = BTreeSet::new();
    for problem in refusals().into_iter().map(Problem::from).chain(own()) {
        let (body, text) = rendered(problem).await;
        let code = body["code"].as_str().unwrap().to_owned();
        assert_eq!(body["type"], format!("urn:portcullis:problem:{code}"));
        assert!(!text.contains("what only the log says"), "{text}");
        expect_file![format!("{folder}/{code}.json")].assert_eq(&text);
        codes.insert(code);
    }
    let missing: Vec<_> = codes_of_refusals().difference(&codes).cloned().collect();
    assert!(missing.is_empty(), "refusals without a golden file: {missing:?}");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let files: BTreeSet<_> = files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(files, codes, "a golden file without its problem: a code that clients know is gone");
}

/// Whatever is wrong with a credential, whoever presents it reads the same.
#[tokio::test]
async fn every_denial_looks_the_same() {
    let expected = rendered(Problem::unauthorized()).await;
    for denial in Denial::ALL.into_iter().filter(|denial| *denial != Denial::Stale) {
        assert_eq!(rendered(Refusal::Denied(denial).into()).await, expected, "{denial:?}");
    }
}

/// A refusal that was kept gets the status and the words that it had the first time.
#[tokio::test]
async fn a_refusal_that_is_repeated_looks_as_it_did() {
    for refusal in refusals().into_iter().filter(|refusal| !matches!(refusal, Refusal::Invalid { .. })) {
        let code = refusal.code().to_owned();
        let kept = CommandError::RefusedBefore { code, detail: refusal.to_string() };
        assert_eq!(rendered(kept.into()).await, rendered(refusal.into()).await);
    }
}
