//! Arbitrary events of plans and readmissions, and what plans select.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::{address, count, digest, key, operator, pool, secret, text, time, worker};
use crate::domain::event::{Event, PlanMade};
use crate::domain::ids::{KeyId, PlanId};
use crate::domain::plan::{ApprovalPolicy, Counts, Criterion, Delivery, PLAN_KINDS, PlanKind, Selector};
use crate::domain::readmission::{ReadmissionChange, Terms};
use crate::domain::time::{Seconds, Timestamp};

pub(super) fn criteria() -> BoxedStrategy<Vec<Criterion>> {
    let criterion = prop_oneof![
        pool().prop_map(Criterion::Pool),
        secret().prop_map(Criterion::Lineage),
        worker().prop_map(Criterion::Worker),
        any::<u128>().prop_map(|id| Criterion::Key(KeyId(id))),
        operator().prop_map(Criterion::Operator),
        (address(), 0..=32_u8)
            .prop_map(|(address, bits)| Criterion::Source(ipnet::IpNet::new(address, bits).unwrap().trunc())),
        ("[^=]{1,8}", text()).prop_map(|(name, value)| Criterion::Label { name: name.into(), value }),
    ];
    prop_oneof![Just(vec![Criterion::Everything]), vec(criterion, 1..4)].boxed()
}

fn terms() -> BoxedStrategy<Terms> {
    let bounds = (any::<u32>(), any::<u32>(), count(), count());
    (of(pool()), count(), bounds, select(Delivery::ALL.to_vec()), any::<u32>())
        .prop_map(|(canary, canaries, (wave_size, every, refusals_max, trips_max), delivery, overlap)| Terms {
            as_of: Timestamp(1_795_000_000_000_000),
            canary,
            canaries,
            wave_size,
            wave_every: Seconds(every),
            refusals_max,
            trips_max,
            delivery,
            overlap: Seconds(if delivery == Delivery::Fetch { overlap } else { 0 }),
        })
        .boxed()
}

pub(super) fn readmission_event() -> BoxedStrategy<Event> {
    let change = prop_oneof![
        (count(), count()).prop_map(|(wave, workers)| ReadmissionChange::WaveReleased { wave, workers }),
        count().prop_map(|done| ReadmissionChange::KeysMade { done }),
        Just(ReadmissionChange::Paused),
        Just(ReadmissionChange::Resumed),
        (count(), count()).prop_map(|(refusals, trips)| ReadmissionChange::Stopped { refusals, trips }),
        Just(ReadmissionChange::Completed),
        count().prop_map(|workers| ReadmissionChange::RolledBack { workers }),
    ];
    (any::<u128>(), change).prop_map(|(plan, change)| Event::Readmission { plan: PlanId(plan), change }).boxed()
}

pub(super) fn plan_event() -> impl Strategy<Value = Event> {
    let plan = || any::<u128>().prop_map(PlanId);
    let kind = prop_oneof![
        of(time()).prop_map(|until| PlanKind::Isolate { until }),
        Just(PlanKind::Release),
        Just(PlanKind::RevokeAll),
        Just(PlanKind::DisableEnrollment),
        (any::<u32>().prop_map(Seconds), select(Delivery::ALL.to_vec()))
            .prop_map(|(overlap, delivery)| PlanKind::RotateAll { overlap, delivery }),
        any::<u32>().prop_map(|overlap| PlanKind::RotateEnrollment { overlap: Seconds(overlap) }),
        any::<u32>().prop_map(|overlap| PlanKind::RotateSigningKeys { overlap: Seconds(overlap) }),
        Just(PlanKind::RotateTlsCertificates),
        Just(PlanKind::Fence),
        terms().prop_map(|terms| PlanKind::Readmit(terms.into())),
    ];
    let selector = (criteria(), of(time()), of(time()))
        .prop_map(|(criteria, since, before)| Selector::new(criteria, since, before).unwrap());
    let rare = || prop_oneof![Just(0), count()];
    let counts = (count(), count(), count(), rare(), rare()).prop_map(
        |(workers, keys, enrollment_secrets, signing_keys, tls_certificates)| Counts {
            workers,
            keys,
            enrollment_secrets,
            signing_keys,
            tls_certificates,
        },
    );
    let second = (of(plan()), any::<bool>());
    let made = (plan(), kind, selector, digest(), counts, count(), second, time()).prop_map(
        |(plan, kind, selector, digest, counts, left_without_key, (replaces, approval), expires_at)| {
            Event::PlanMade(PlanMade {
                plan,
                kind,
                selector,
                digest,
                counts,
                left_without_key,
                replaces,
                approval,
                expires_at,
            })
        },
    );
    let kinds = proptest::sample::subsequence(PLAN_KINDS.to_vec(), 0..=PLAN_KINDS.len());
    let policy = (kinds, proptest::collection::btree_set(pool(), 0..3)).prop_map(|(mut kinds, pools)| {
        kinds.sort_unstable();
        let kinds = kinds.into_iter().map(Arc::from).collect();
        Event::PlanPolicySet(ApprovalPolicy { kinds, pools: pools.into_iter().collect() })
    });
    prop_oneof![
        made,
        policy,
        plan().prop_map(|plan| Event::PlanApproved { plan }),
        (key(), time()).prop_map(|(key, until)| Event::KeyRotationDue { key, until }),
        (plan(), count()).prop_map(|(plan, items)| Event::PlanApplied { plan, items }),
        (plan(), count(), count()).prop_map(|(plan, done, changed)| Event::PlanProgressed { plan, done, changed }),
    ]
}
