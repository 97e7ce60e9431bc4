//! Arbitrary events: every kind, with every optional part there and not there.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use crate::domain::actor::{Actor, Author, CredentialUsed};
use crate::domain::certificate::{CertificateOrigin, CertificateServed};
use crate::domain::enrollment::{Limits, NamePattern};
use crate::domain::event::{
    Event, FailureCount, GivenUp, IncidentOpened, KeyCreated, KeyHolder, LogRestored, Recorded, WorkerCreated,
};
use crate::domain::fence::FenceScope;
use crate::domain::ids::{
    CommandId, EnrollmentSecretId, IncidentId, KeyId, OperatorId, PlanId, PoolId, SigningKeyId, TokenId, WebhookId,
    WorkerId,
};
use crate::domain::incident::{Description, Severity, StepTemplate};
use crate::domain::key::{Digest, KeyKind};
use crate::domain::netguard::{Listing, NetguardEvent};
use crate::domain::operator::Role;
use crate::domain::plan::Selector;
use crate::domain::pool::{PoolSettings, TokenRecord};
use crate::domain::signing_key::{NewSigningKey, SigningAlgorithm};
use crate::domain::time::{Seconds, Timestamp};
use crate::domain::token::NewToken;
use crate::domain::tripwire::{Actions, Answer, Hindrance, Rule, Tripped, TripwireEvent, Why};
use crate::domain::webhook::{self, Outcome, WebhookEvent};
use crate::domain::worker::Labels;
use crate::log::entry::NUMBER_MAX;

mod plans;

use plans::{criteria, plan_event, readmission_event};

pub(super) fn recorded() -> impl Strategy<Value = Recorded> {
    let about = (of(count()), of(incident()), of(text()));
    (count(), time(), time(), author(), any::<u128>(), about, event()).prop_map(
        |(position, recorded_at, occurred_at, author, command, (cause, incident, reason), event)| Recorded {
            position,
            recorded_at,
            occurred_at,
            author,
            command: CommandId(command),
            cause,
            incident,
            reason,
            event,
        },
    )
}

fn author() -> impl Strategy<Value = Author> {
    let actor = prop_oneof![
        operator().prop_map(Actor::Operator),
        worker().prop_map(Actor::Worker),
        secret().prop_map(Actor::Enrollee),
        Just(Actor::System),
    ];
    let by_token = (token(), token(), key(), count());
    let credential = prop_oneof![
        key().prop_map(CredentialUsed::Key),
        secret().prop_map(CredentialUsed::EnrollmentSecret),
        by_token.prop_map(|(token, session, key, issued)| CredentialUsed::Token { token, session, key, issued }),
    ];
    let parts = (actor, of(credential), of(address()), of(text()));
    parts.prop_map(|(actor, credential, source, request_id)| Author { actor, credential, source, request_id })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => pool_event(),
        7 => worker_event(),
        4 => key_event(),
        3 => enrollment_event(),
        3 => token_event(),
        9 => service_event(),
    ]
}

fn pool_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (pool(), settings()).prop_map(|(pool, settings)| Event::PoolCreated { pool, settings }),
        (pool(), settings()).prop_map(|(pool, settings)| Event::PoolUpdated { pool, settings }),
        pool().prop_map(|pool| Event::PoolRemoved { pool }),
    ]
}

fn worker_event() -> impl Strategy<Value = Event> {
    let created = (worker(), pool(), of(text()), labels(), of(time()), any::<bool>(), of(secret())).prop_map(
        |(worker, pool, name, labels, expires_at, pending, enrolled_by)| {
            Event::WorkerCreated(WorkerCreated { worker, pool, name, labels, expires_at, pending, enrolled_by })
        },
    );
    let updated = (worker(), of(text()), labels(), of(time()))
        .prop_map(|(worker, name, labels, expires_at)| Event::WorkerUpdated { worker, name, labels, expires_at });
    prop_oneof![
        created,
        updated,
        worker().prop_map(|worker| Event::WorkerApproved { worker }),
        worker().prop_map(|worker| Event::WorkerRejected { worker }),
        (worker(), of(time())).prop_map(|(worker, until)| Event::WorkerIsolated { worker, until }),
        worker().prop_map(|worker| Event::WorkerReleased { worker }),
        worker().prop_map(|worker| Event::WorkerRemoved { worker }),
    ]
}

fn key_event() -> impl Strategy<Value = Event> {
    let holder = prop_oneof![worker().prop_map(KeyHolder::Worker), operator().prop_map(KeyHolder::Operator)];
    let kind = select(vec![KeyKind::Api, KeyKind::Static]);
    let created = (key(), holder, kind, digest(), of(time())).prop_map(|(key, holder, kind, verifier, expires_at)| {
        Event::KeyCreated(KeyCreated { key, holder, kind, verifier, expires_at })
    });
    let rotated = (key(), key(), digest(), of(time()), time(), any::<bool>()).prop_map(
        |(key, successor, verifier, expires_at, overlap_until, derived)| Event::KeyRotated {
            key,
            successor,
            verifier,
            expires_at,
            overlap_until,
            derived,
        },
    );
    prop_oneof![
        created,
        rotated,
        (key(), worker()).prop_map(|(key, worker)| Event::KeyShared { key, worker }),
        key().prop_map(|key| Event::KeyRevoked { key }),
        (any::<u128>(), vec(key(), 1..=3))
            .prop_map(|(plan, keys)| Event::KeysRevoked { plan: PlanId(plan), keys: keys.into() }),
    ]
}

fn enrollment_event() -> impl Strategy<Value = Event> {
    let created = (secret(), pool(), digest(), limits())
        .prop_map(|(secret, pool, verifier, limits)| Event::EnrollmentSecretCreated { secret, pool, verifier, limits });
    let rotated = (secret(), secret(), digest(), time()).prop_map(|(secret, successor, verifier, overlap_until)| {
        Event::EnrollmentSecretRotated { secret, successor, verifier, overlap_until }
    });
    prop_oneof![created, rotated, secret().prop_map(|secret| Event::EnrollmentSecretDisabled { secret })]
}

fn token_event() -> impl Strategy<Value = Event> {
    let issued = (token(), token(), worker(), key(), time(), scopes()).prop_map(
        |(token, session, worker, key, expires_at, scopes)| {
            Event::TokenIssued(NewToken { token, session, worker, key, expires_at, scopes })
        },
    );
    let counted = (worker(), count(), time(), time()).prop_map(|(worker, count, from, to)| Event::TokensIssued {
        worker,
        count,
        from,
        to,
    });
    let revoked = (token(), token(), worker(), count())
        .prop_map(|(token, session, worker, issued)| Event::TokenRevoked { token, session, worker, issued });
    prop_oneof![issued, counted, revoked]
}

fn service_event() -> impl Strategy<Value = Event> {
    let role = || select(Role::ALL.to_vec());
    let failure = (text(), of(address()), of(text()), count())
        .prop_map(|(reason, source, credential, count)| FailureCount { reason, source, credential, count });
    let rotated = (signing_key(), time())
        .prop_map(|(next, retired_verifies_until)| Event::SigningKeysRotated { next, retired_verifies_until });
    let observed = (time(), time(), vec(failure, 0..4)).prop_map(|(from, to, failures)| Event::AuthFailuresObserved {
        from,
        to,
        failures,
    });
    let scope = prop_oneof![
        Just(FenceScope::Everything),
        pool().prop_map(FenceScope::Pool),
        secret().prop_map(FenceScope::Lineage),
        worker().prop_map(FenceScope::Worker),
    ];
    let passed = (count(), vec(text(), 0..4), vec(text(), 0..4))
        .prop_map(|(through, confirmed, waited_out)| Event::BarrierPassed { through, confirmed, waited_out });
    let served = (text(), digest(), time(), select(CertificateOrigin::ALL.to_vec())).prop_map(
        |(node, fingerprint, not_after, origin)| {
            Event::TlsCertificateServed(CertificateServed { node, fingerprint, not_after, origin })
        },
    );
    let restored = (count(), digest(), count(), count(), of(of(count()))).prop_map(
        |(backup, dump, brought_back, reductions, given_up)| {
            let given_up = given_up.map(|known_to| GivenUp { known_to });
            Event::LogRestored(LogRestored { backup, dump, brought_back, reductions, given_up })
        },
    );
    prop_oneof![
        restored.boxed(),
        (signing_key(), signing_key()).prop_map(|(active, next)| Event::SigningKeysInstalled { active, next }),
        rotated,
        (operator(), text(), role()).prop_map(|(operator, name, role)| Event::OperatorCreated { operator, name, role }),
        (operator(), text(), role()).prop_map(|(operator, name, role)| Event::OperatorUpdated { operator, name, role }),
        operator().prop_map(|operator| Event::OperatorRemoved { operator }),
        (scope, count()).prop_map(|(scope, up_to)| Event::FenceRaised { scope, up_to }),
        passed,
        served,
        plan_event().boxed(),
        readmission_event(),
        netguard_event().boxed(),
        incident_event().boxed(),
        tripwire_event().boxed(),
        webhook_event().boxed(),
        observed,
    ]
}

fn tripwire_event() -> impl Strategy<Value = Event> {
    let answer = prop_oneof![
        worker().prop_map(Answer::Isolated),
        select(Hindrance::ALL.to_vec()).prop_map(Answer::NotIsolated),
        incident().prop_map(Answer::IncidentOpened),
        incident().prop_map(Answer::IncidentJoined),
    ];
    let who = (key(), select(Why::ALL.to_vec()), of(worker()), of(pool()), of(address()));
    let tripped = (who, count(), time(), time(), vec(answer, 0..3)).prop_map(
        |((key, why, worker, pool, source), count, from, to, answers)| {
            Event::Tripwire(TripwireEvent::Tripped(Tripped {
                key,
                why,
                worker,
                pool,
                source,
                count,
                from,
                to,
                answers,
            }))
        },
    );
    let actions = || {
        let actions = (any::<bool>(), any::<bool>());
        of(actions.prop_map(|(isolate, open_incident)| Actions { isolate, open_incident }))
    };
    let rule = (actions(), actions(), actions()).prop_map(|(honey, revoked, rotated)| Rule { honey, revoked, rotated });
    prop_oneof![
        tripped,
        (key(), pool(), digest(), of(text())).prop_map(|(key, pool, verifier, note)| Event::Tripwire(
            TripwireEvent::HoneyKeyCreated { key, pool, verifier, note }
        )),
        key().prop_map(|key| Event::Tripwire(TripwireEvent::HoneyKeyRemoved { key })),
        (of(pool()), rule).prop_map(|(pool, rule)| Event::Tripwire(TripwireEvent::RuleSet { pool, rule })),
    ]
}

fn incident_event() -> impl Strategy<Value = Event> {
    let scope = prop_oneof![Just(vec![]), criteria()].prop_map(|criteria| {
        Selector::new(criteria, None, None).map(|selector| selector.criteria().to_vec()).unwrap_or_default()
    });
    let description = move || {
        (text(), select(Severity::ALL.to_vec()), scope.clone(), vec(text(), 0..3), of(time())).prop_map(
            |(title, severity, scope, people, first_sign)| Description { title, severity, scope, people, first_sign },
        )
    };
    let step =
        (text(), text(), vec(vec(text(), 0..3), 0..3)).prop_map(|(id, title, needs)| StepTemplate { id, title, needs });
    let opened = (incident(), description(), any::<bool>(), vec(step, 0..3)).prop_map(
        |(incident, description, drill, checklist)| {
            Event::IncidentOpened(IncidentOpened { incident, description, drill, checklist })
        },
    );
    let about = || (incident(), text());
    prop_oneof![
        opened,
        (incident(), description())
            .prop_map(|(incident, description)| Event::IncidentUpdated { incident, description }),
        about().prop_map(|(incident, note)| Event::IncidentNoted { incident, note }),
        about().prop_map(|(incident, finding)| Event::IncidentReviewed { incident, finding }),
        about().prop_map(|(incident, step)| Event::IncidentStepDone { incident, step }),
        about().prop_map(|(incident, step)| Event::IncidentStepWaived { incident, step }),
        about().prop_map(|(incident, step)| Event::IncidentStepReopened { incident, step }),
        about().prop_map(|(incident, summary)| Event::IncidentClosed { incident, summary }),
    ]
}

fn netguard_event() -> impl Strategy<Value = Event> {
    let network = || (address(), 0..=32_u8).prop_map(|(address, bits)| ipnet::IpNet::new(address, bits).unwrap());
    let listing = select(Listing::ALL.to_vec());
    prop_oneof![
        (network(), listing).prop_map(|(network, listing)| NetguardEvent::AddressAdded { network, listing }),
        network().prop_map(|network| NetguardEvent::AddressRemoved { network }),
    ]
    .prop_map(Event::Netguard)
}

fn webhook_event() -> impl Strategy<Value = Event> {
    let webhook = || any::<u128>().prop_map(WebhookId);
    let kinds = || vec(text(), 0..3).prop_map(Arc::<[Arc<str>]>::from);
    let outcome = prop_oneof![
        count().prop_map(|status| Outcome::Delivered { status }),
        text().prop_map(|why| Outcome::Failed { why }),
    ];
    let delivery = (count(), count(), outcome).prop_map(|(position, attempts, outcome)| webhook::Delivery {
        position,
        attempts,
        outcome,
    });
    prop_oneof![
        (webhook(), text(), kinds(), vec(any::<u8>(), 0..9)).prop_map(|(webhook, url, kinds, sealed)| {
            WebhookEvent::Created { webhook, url, kinds, sealed: sealed.into() }
        }),
        (webhook(), text(), kinds(), any::<bool>()).prop_map(|(webhook, url, kinds, enabled)| WebhookEvent::Updated {
            webhook,
            url,
            kinds,
            enabled
        }),
        webhook().prop_map(|webhook| WebhookEvent::Removed { webhook }),
        (webhook(), delivery).prop_map(|(webhook, delivery)| WebhookEvent::Settled { webhook, delivery }),
    ]
    .prop_map(Event::Webhook)
}

fn settings() -> impl Strategy<Value = PoolSettings> {
    let record = select(vec![TokenRecord::Each, TokenRecord::Counted]);
    (text(), any::<u32>(), record, text(), scopes(), any::<bool>()).prop_map(
        |(description, ttl, token_record, audience, scopes, sharing)| PoolSettings {
            description,
            token_ttl: Seconds(ttl),
            token_record,
            audience,
            scopes,
            sharing,
        },
    )
}

fn limits() -> impl Strategy<Value = Limits> {
    let cidr = (address(), 0..=32_u8).prop_map(|(address, bits)| ipnet::IpNet::new(address, bits).unwrap());
    let pattern = of(select(vec!["web-[0-9]+", "a|\"b\"", ""]));
    (vec(cidr, 0..3), pattern, of(count()), of(time()), any::<bool>()).prop_map(
        |(cidrs, pattern, uses_max, expires_at, approval)| Limits {
            cidrs: cidrs.into(),
            name_pattern: pattern.map(|pattern| NamePattern::new(pattern).unwrap()),
            uses_max,
            expires_at,
            approval,
        },
    )
}

fn signing_key() -> impl Strategy<Value = NewSigningKey> {
    let algorithm = select(SigningAlgorithm::ALL.to_vec());
    (any::<u128>(), algorithm, text(), vec(any::<u8>(), 0..9)).prop_map(|(id, algorithm, public_jwk, sealed)| {
        NewSigningKey { id: SigningKeyId(id), algorithm, public_jwk, sealed: sealed.into() }
    })
}

fn text() -> impl Strategy<Value = Arc<str>> {
    // Escapes, and characters on both sides of where UTF-8 and UTF-16 sort differently.
    "[a-z\"\\\\/\\x00-\\x1f\\x7f\u{e9}\u{2028}\u{ffff}\u{1f600}]{0,12}".prop_map(Arc::from)
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0_i64..253_402_300_800_000_000).prop_map(Timestamp)
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![0..=NUMBER_MAX, Just(NUMBER_MAX)]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
        Just("::ffff:192.0.2.1".parse().unwrap()),
    ]
}

fn worker() -> impl Strategy<Value = WorkerId> {
    "[A-Za-z0-9_-]{1,64}".prop_map(|id| id.parse().unwrap())
}

fn incident() -> impl Strategy<Value = IncidentId> {
    "[A-Za-z0-9_-]{1,64}".prop_map(|id| id.parse().unwrap())
}

fn pool() -> impl Strategy<Value = PoolId> {
    "[A-Za-z0-9_-]{1,64}".prop_map(|id| id.parse().unwrap())
}

fn key() -> impl Strategy<Value = KeyId> {
    any::<u128>().prop_map(KeyId)
}

fn token() -> impl Strategy<Value = TokenId> {
    any::<u128>().prop_map(TokenId)
}

fn secret() -> impl Strategy<Value = EnrollmentSecretId> {
    any::<u128>().prop_map(EnrollmentSecretId)
}

fn operator() -> impl Strategy<Value = OperatorId> {
    any::<u128>().prop_map(OperatorId)
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(text(), text(), 0..4)
}

fn scopes() -> impl Strategy<Value = Arc<[Arc<str>]>> {
    vec(text(), 0..3).prop_map(Arc::from)
}
