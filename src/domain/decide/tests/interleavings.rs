//! Any interleaving of commands by anybody, with a clock that only moves forward as the shell promises: the rules hold
//! after each step, wishes can be repeated, and the state is a function of the log.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use self::plans::AskOfPlans;
use super::access::{can_reduce, is_cut_off};
use super::invariants::{Witness, accepted, has_working_admin};
use super::wish::{
    approve, bootstrap, create_key, create_operator, create_operator_key, create_pool, create_secret_in, create_static,
    create_worker, digest, disable_secret, enroll_named, ensure_secret, expire, fence, honey, isolate, issue, label,
    lineage, plain_key, plain_worker, pool_id, reject, release, remove_honey, remove_operator, remove_pool,
    remove_worker, rename, renew, revoke, revoke_alone, revoke_token, rotate, rotate_secret, rotate_signing_keys,
    rotate_static, rotate_until, serve_certificate, share, text, trip, tripwire_rule, update_operator, update_pool,
    worker_token,
};
use super::{World, admin, by_key, by_token, enrollee, from, operator_by, system};
use crate::domain::actor::{Author, CredentialUsed};
use crate::domain::command::{Command, CreateKey, CreateWorker};
use crate::domain::enrollment::{Limits, NamePattern};
use crate::domain::event::{Event, Recorded};
use crate::domain::ids::KeyId;
use crate::domain::key::Holder;
use crate::domain::operator::Role;
use crate::domain::pool::PoolSettings;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::tripwire::{Actions, Rule, Why};
use crate::domain::webhook::WebhookCommand;
use crate::domain::worker::Labels;

mod plans;

/// Few of each, so that wishes meet: ids collide, keys are shared, values come again.
const POOLS: [&str; 3] = ["default", "blue", "green"];
const WORKERS: [&str; 5] = ["a", "b", "c", "d", "e"];
const NAMES: [&str; 2] = ["web", "db"];
const LAST_SECOND: i64 = 300;

/// The states that a run goes through are few and large; what is not found in so many runs is found by the next run.
const RUNS: u32 = 64;
const STEPS: usize = 60;

#[derive(Clone, Debug)]
enum Ask {
    By(Who, Box<Command>),
    /// A token for whoever the key is made for.
    Issue(u128),
    /// Of the tokens so far, the n-th, counted around.
    Renew(usize),
    RevokeToken(Who, usize),
    OfPlans(AskOfPlans),
}

#[derive(Clone, Debug)]
enum Who {
    Admin,
    Service,
    /// Whoever the key is made for, with this key.
    Holder(u128),
    /// A worker with a key that may be anybody's.
    Worker(&'static str, u128),
    Enrollee(u128),
}

fn configuration() -> ProptestConfig {
    // A failure prints its shrunken input. A file of seeds would be one more thing at the top of the tree.
    ProptestConfig { cases: RUNS, failure_persistence: None, ..ProptestConfig::default() }
}

fn pool() -> impl Strategy<Value = &'static str> {
    select(&POOLS[..])
}

fn worker() -> impl Strategy<Value = &'static str> {
    select(&WORKERS[..])
}

fn key() -> impl Strategy<Value = u128> {
    20_u128..36
}

fn operator_number() -> impl Strategy<Value = u128> {
    prop_oneof![1_u128..5, 10_u128..13]
}

fn any_key() -> impl Strategy<Value = u128> {
    prop_oneof![4 => key(), 1 => operator_number()]
}

fn value() -> impl Strategy<Value = u128> {
    100_u128..104
}

fn secret() -> impl Strategy<Value = u128> {
    1_u128..5
}

fn name() -> impl Strategy<Value = Option<&'static str>> {
    option::of(select(&NAMES[..]))
}

fn role() -> impl Strategy<Value = Role> {
    select(&Role::ALL[..])
}

fn overlap() -> impl Strategy<Value = u32> {
    select(&[0, 20, 1_000][..])
}

fn moment() -> impl Strategy<Value = Option<Timestamp>> {
    option::weighted(0.3, (0..LAST_SECOND).prop_map(super::seconds))
}

fn settings() -> impl Strategy<Value = PoolSettings> {
    any::<bool>().prop_map(|sharing| PoolSettings { sharing, ..PoolSettings::default() })
}

fn limits() -> impl Strategy<Value = Limits> {
    (option::of(1_u64..3), moment(), any::<bool>(), any::<bool>()).prop_map(
        |(uses_max, expires_at, approval, narrow)| {
            let cidrs = narrow.then(|| "10.0.0.0/8".parse().unwrap()).into_iter().collect();
            let name_pattern = narrow.then(|| NamePattern::new("[a-z]*").unwrap());
            Limits { cidrs, name_pattern, uses_max, expires_at, approval }
        },
    )
}

fn of_pools() -> BoxedStrategy<Command> {
    prop_oneof![
        (pool(), settings()).prop_map(|(pool, settings)| create_pool(pool, settings)),
        (pool(), settings()).prop_map(|(pool, settings)| update_pool(pool, settings)),
        pool().prop_map(remove_pool),
    ]
    .boxed()
}

fn of_workers() -> BoxedStrategy<Command> {
    let created = (worker(), pool(), name(), moment(), any::<bool>(), option::weighted(0.3, (key(), value())));
    let created = created.prop_map(|(worker, pool, name, expires_at, pending, secret)| {
        Command::CreateWorker(CreateWorker {
            pool: pool_id(pool),
            name: name.map(text),
            labels: Labels::new(),
            expires_at,
            pending,
            static_secret: secret.map(|(key, value)| (KeyId(key), digest(value))),
            ..plain_worker(worker)
        })
    });
    prop_oneof![
        4 => created,
        1 => (worker(), name()).prop_map(|(worker, name)| rename(worker, name)),
        1 => worker().prop_map(|worker| label(worker, &[("zone", "eu")])),
        1 => (worker(), moment()).prop_map(|(worker, at)| expire(worker, at)),
        2 => worker().prop_map(approve),
        1 => worker().prop_map(reject),
        2 => (worker(), moment()).prop_map(|(worker, until)| isolate(worker, until)),
        2 => worker().prop_map(release),
        1 => worker().prop_map(remove_worker),
    ]
    .boxed()
}

fn of_keys() -> BoxedStrategy<Command> {
    let created = (worker(), key(), moment())
        .prop_map(|(worker, key, expires_at)| Command::CreateKey(CreateKey { expires_at, ..plain_key(worker, key) }));
    let rotated = (any_key(), key(), overlap(), moment());
    prop_oneof![
        4 => created,
        2 => (worker(), key(), value()).prop_map(|(worker, key, value)| create_static(worker, key, value)),
        1 => (operator_number(), key()).prop_map(|(operator, key)| create_operator_key(operator, key)),
        2 => (key(), worker()).prop_map(|(key, worker)| share(key, worker)),
        4 => rotated.prop_map(|(key, successor, overlap, at)| rotate_until(key, successor, overlap, at)),
        1 => (key(), key(), value(), overlap()).prop_map(|(key, next, value, overlap)| rotate_static(key, next, value, overlap)),
        1 => any_key().prop_map(revoke),
        1 => any_key().prop_map(revoke_alone),
    ]
    .boxed()
}

fn of_the_rest() -> BoxedStrategy<Command> {
    prop_oneof![
        2 => (pool(), secret(), secret(), limits())
            .prop_map(|(pool, secret, value, limits)| create_secret_in(pool, secret, value, limits)),
        1 => (secret(), secret(), secret(), overlap())
            .prop_map(|(secret, next, value, overlap)| rotate_secret(secret, next, value, overlap)),
        1 => secret().prop_map(disable_secret),
        1 => (operator_number(), role()).prop_map(|(operator, role)| create_operator(operator, role)),
        1 => (operator_number(), name(), option::of(role()))
            .prop_map(|(operator, name, role)| update_operator(operator, name, role)),
        1 => operator_number().prop_map(remove_operator),
        1 => (3_u128..9, overlap()).prop_map(|(next, overlap)| rotate_signing_keys(next, overlap)),
        1 => (80_u128..83, pool()).prop_map(|(key, pool)| honey(key, pool)),
        1 => (80_u128..83).prop_map(remove_honey),
        1 => (option::of(pool()), rule()).prop_map(|(pool, rule)| tripwire_rule(pool, rule)),
    ]
    .boxed()
}

/// Some are past the newest position, and refused; some of scopes that are not there.
fn fences() -> BoxedStrategy<Command> {
    let up_to = || option::weighted(0.7, 0_u64..80);
    prop_oneof![
        up_to().prop_map(|up_to| fence("everything", up_to)),
        (pool(), up_to()).prop_map(|(pool, up_to)| fence(&format!("pool:{pool}"), up_to)),
        (secret(), up_to()).prop_map(|(secret, up_to)| lineage(secret, up_to)),
        (worker(), up_to()).prop_map(|(worker, up_to)| fence(&format!("worker:{worker}"), up_to)),
    ]
    .boxed()
}

fn of_the_service() -> BoxedStrategy<Command> {
    prop_oneof![
        (10_u128..13).prop_map(|number| bootstrap(number, number)),
        (pool(), secret(), secret()).prop_map(|(pool, secret, value)| ensure_secret(pool, secret, value)),
        (key(), worker(), select(&[Why::Revoked, Why::Rotated][..])).prop_map(|(key, worker, why)| trip(
            key,
            why,
            Some(worker)
        )),
        (80_u128..83).prop_map(|key| trip(key, Why::Honey, None)),
    ]
    .boxed()
}

fn rule() -> impl Strategy<Value = Rule> {
    let actions = || {
        option::of(
            (any::<bool>(), any::<bool>()).prop_map(|(isolate, open_incident)| Actions { isolate, open_incident }),
        )
    };
    (actions(), actions(), actions()).prop_map(|(honey, revoked, rotated)| Rule { honey, revoked, rotated })
}

fn ask() -> impl Strategy<Value = Ask> {
    let anything = || prop_oneof![3 => of_workers(), 3 => of_keys(), 1 => of_pools(), 1 => of_the_rest()];
    let enrolling = (secret(), worker(), name(), key());
    let anybody = prop_oneof![
        Just(Who::Admin),
        key().prop_map(Who::Holder),
        (worker(), key()).prop_map(|(worker, key)| Who::Worker(worker, key)),
        secret().prop_map(Who::Enrollee),
    ];
    prop_oneof![
        12 => anything().prop_map(|wish| Ask::By(Who::Admin, Box::new(wish))),
        1 => prop_oneof![anything(), of_the_service()].prop_map(|wish| Ask::By(Who::Service, Box::new(wish))),
        2 => fences().prop_map(|wish| Ask::By(Who::Admin, Box::new(wish))),
        1 => (anybody, anything()).prop_map(|(who, wish)| Ask::By(who, Box::new(wish))),
        2 => enrolling.prop_map(|(secret, worker, name, key)| {
            Ask::By(Who::Enrollee(secret), Box::new(enroll_named(secret, worker, name, key)))
        }),
        2 => (any_key(), key(), overlap()).prop_map(|(key, successor, overlap)| {
            Ask::By(Who::Holder(key), Box::new(rotate(key, successor, overlap)))
        }),
        1 => any_key().prop_map(|key| Ask::By(Who::Holder(key), Box::new(revoke(key)))),
        2 => plans::ask().prop_map(Ask::OfPlans),
        3 => key().prop_map(Ask::Issue),
        3 => any::<usize>().prop_map(Ask::Renew),
        1 => any::<usize>().prop_map(|nth| Ask::RevokeToken(Who::Admin, nth)),
    ]
}

/// Where a run starts: late enough that sharing, approval and rotation are a step away, not ten.
fn settled() -> World {
    let approval = Limits { approval: true, ..Limits::default() };
    World::new().given([
        update_pool("default", PoolSettings { sharing: true, ..PoolSettings::default() }),
        create_pool("blue", PoolSettings::default()),
        create_worker("a"),
        create_worker("b"),
        create_key("a", 20),
        create_key("b", 21),
        create_static("a", 22, 100),
        create_secret_in("default", 1, 1, approval),
        create_secret_in("blue", 2, 2, Limits::default()),
    ])
}

/// What is asked, and how many seconds later than what was asked before.
fn asks() -> impl Strategy<Value = Vec<(Ask, i64)>> {
    vec((ask(), prop_oneof![3 => Just(0_i64), 1 => 1_i64..20]), 0..STEPS)
}

fn author(world: &World, who: &Who) -> Author {
    match who {
        Who::Admin => admin(),
        Who::Service => system(),
        Who::Worker(worker, key) => by_key(worker, *key),
        Who::Enrollee(secret) => from("10.0.0.1", enrollee(*secret)),
        Who::Holder(key) => match world.roll.key(KeyId(*key)).map(|key| (&key.holder, key.workers())) {
            Some((Holder::Operator(operator), _)) => operator_by(operator.0, *key),
            Some((_, [first, ..])) => by_key(world.roll.worker_at(*first).unwrap().id.as_str(), *key),
            Some((_, [])) | None => by_key("a", *key),
        },
    }
}

/// The wish behind the ask, in this world; `None` where it speaks of a token and there is none.
fn meant(world: &World, witness: &Witness, ask: &Ask, minted: u128) -> Option<(Author, Command)> {
    let nth = |nth: usize| (!witness.tokens.is_empty()).then(|| &witness.tokens[nth % witness.tokens.len()]);
    match ask {
        Ask::By(who, wish) => Some((author(world, who), wish.as_ref().clone())),
        Ask::Issue(key) => {
            let key_of = world.roll.key(KeyId(*key))?;
            let worker = &world.roll.worker_at(*key_of.workers().first()?)?.id;
            Some((by_key(worker.as_str(), *key), issue(minted, worker.as_str(), *key)))
        }
        Ask::Renew(number) => nth(*number).map(|facts| (by_token(facts), renew(minted, facts))),
        Ask::OfPlans(ask) => plans::meant(world, ask, minted),
        Ask::RevokeToken(who, number) => nth(*number).map(|facts| (author(world, who), revoke_token(facts))),
    }
}

/// A wish that something be so, as opposed to one that something new be made.
fn is_for_a_state(wish: &Command) -> bool {
    match wish {
        Command::Bootstrap(_)
        | Command::CreatePool { .. }
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
        | Command::RevokeKey { .. }
        | Command::DisableEnrollmentSecret { .. }
        | Command::EnsureEnrollmentSecret { .. }
        | Command::RevokeToken(_)
        | Command::UpdateOperator { .. }
        | Command::RemoveOperator { .. }
        | Command::ApplyPlan { .. }
        | Command::SteerReadmission { .. }
        | Command::Netguard(_)
        | Command::SetPlanPolicy(_)
        | Command::RemoveHoneyKey { .. }
        | Command::SetTripwireRule { .. }
        | Command::UpdateIncident { .. }
        | Command::SettleStep { .. }
        | Command::CloseIncident { .. }
        | Command::Webhook(WebhookCommand::Update { .. } | WebhookCommand::Settle { .. })
        | Command::RaiseFence { up_to: Some(_), .. } => true,
        Command::CreateKey(_)
        | Command::RotateKey { .. }
        | Command::CreateEnrollmentSecret { .. }
        | Command::RotateEnrollmentSecret { .. }
        | Command::Enroll(_)
        | Command::IssueToken(_)
        | Command::RecordTokensIssued { .. }
        | Command::RotateSigningKeys { .. }
        | Command::CreateOperator { .. }
        // Up to the newest position, which another moment is not.
        | Command::RaiseFence { up_to: None, .. }
        | Command::MakePlan(_)
        // Anybody's, and the service's own would be another's.
        | Command::ApprovePlan { .. }
        | Command::CollectPlan { .. }
        | Command::OpenIncident(_)
        | Command::NoteIncident { .. }
        | Command::ReviewIncident { .. }
        | Command::CreateHoneyKey(_)
        | Command::RecordTrip(_)
        | Command::ContinuePlan { .. }
        | Command::ServeCertificate(_)
        | Command::Webhook(WebhookCommand::Create { .. } | WebhookCommand::Remove { .. })
        | Command::RecordBarrier { .. }
        | Command::RecordAuthFailures { .. } => false,
    }
}

fn ends_the_key_it_comes_with(who: &Author, wish: &Command) -> bool {
    matches!(wish, Command::RevokeKey { key, .. } if who.credential == Some(CredentialUsed::Key(*key)))
}

/// One wish, and everything that must hold once it was granted.
fn step(world: &mut World, witness: &mut Witness, who: &Author, wish: &Command) {
    let (before, administered) = (accepted(world, &witness.tokens), has_working_admin(world));
    let Ok(events) = world.obey(who, wish) else { return };
    if let [Event::TokenIssued(new)] = events.as_slice() {
        witness.tokens.push(worker_token(new, world.roll.next_position() - 1));
    }
    witness.check(world);

    let after = accepted(world, &witness.tokens);
    for event in &events {
        let missed = after.iter().find(|credential| is_cut_off(event, credential, world.now));
        assert_eq!(missed, None, "still accepted after {event:?}");
    }
    if !can_reduce(wish) {
        assert!(before.is_subset(&after), "{wish:?} took {:?}", before.difference(&after).collect::<Vec<_>>());
    }
    if administered && !ends_the_key_it_comes_with(who, wish) {
        assert!(has_working_admin(world), "{wish:?} locked everybody out");
    }
    if is_for_a_state(wish) {
        // Asked by the service: the author may have ended its own rights by the wish.
        assert_eq!(world.decide(&system(), wish), Ok(vec![]), "{wish:?} wished again");
    }
}

/// The same, where everything that a Roll can hold is there once.
fn furnished() -> World {
    let mut world = settled().given([
        share(20, "b"),
        create_static("b", 23, 100),
        label("a", &[("zone", "eu")]),
        rename("b", Some("web")),
        rotate(21, 24, 1_000),
        rotate_secret(2, 3, 3, 1_000),
        rotate_signing_keys(3, 1_000),
        fence("everything", Some(0)),
        fence("pool:default", Some(1)),
        lineage(1, Some(2)),
        fence("worker:a", Some(3)),
        honey(80, "blue"),
        honey(81, "default"),
        remove_honey(81),
        tripwire_rule(
            Some("default"),
            Rule { revoked: Some(Actions { isolate: true, open_incident: true }), ..Rule::default() },
        ),
    ]);
    world.must(&system(), &trip(21, Why::Revoked, Some("b")));
    let token = world.token("a", 20, 900);
    world.must(&admin(), &revoke_token(&token));
    world.must(&system(), &serve_certificate("n-1", 1));
    world.must(&system(), &Command::RecordBarrier { through: 5, confirmed: vec![text("n-1")], waited_out: vec![] });
    world
}

/// Logs of such runs, for those who fold them.
pub(crate) fn histories() -> impl Strategy<Value = Vec<Recorded>> {
    asks().prop_map(|asks| {
        let (mut world, mut witness) = (furnished(), Witness::default());
        for ((ask, wait), minted) in asks.into_iter().zip(1_000..) {
            world.now = world.now.after(crate::domain::time::Seconds(wait.try_into().unwrap()));
            let Some((who, wish)) = meant(&world, &witness, &ask, minted) else { continue };
            if let Ok(events) = world.obey(&who, &wish)
                && let [Event::TokenIssued(new)] = events.as_slice()
            {
                witness.tokens.push(worker_token(new, world.roll.next_position() - 1));
            }
        }
        world.log
    })
}

proptest! {
    #![proptest_config(configuration())]

    #[test]
    fn any_interleaving_keeps_the_rules(asks in asks()) {
        let (mut world, mut witness) = (settled(), Witness::default());
        witness.check(&world);
        for ((ask, wait), minted) in asks.into_iter().zip(1_000..) {
            world.now = world.now.after(crate::domain::time::Seconds(wait.try_into().unwrap()));
            if let Some((who, wish)) = meant(&world, &witness, &ask, minted) {
                step(&mut world, &mut witness, &who, &wish);
            }
        }
    }

    /// Folded in place or beside snapshots that somebody holds, the Roll is the same; and what was held never moved.
    #[test]
    fn the_roll_is_a_function_of_the_log(asks in asks()) {
        let (mut world, witness) = (settled(), Witness::default());
        let mut held = vec![Roll::default(), world.roll.clone()];
        for ((ask, wait), minted) in asks.into_iter().zip(1_000..) {
            world.now = world.now.after(crate::domain::time::Seconds(wait.try_into().unwrap()));
            let Some((who, wish)) = meant(&world, &witness, &ask, minted) else { continue };
            // A draft whose commit failed is dropped, and leaves no trace.
            drop(world.clone().obey(&who, &wish));
            if world.obey(&who, &wish).is_ok() {
                held.push(world.roll.clone());
            }
        }
        let mut folded = Roll::default();
        let mut held = held.into_iter().peekable();
        for recorded in &world.log {
            while let Some(snapshot) = held.next_if(|snapshot| snapshot.next_position() == recorded.position) {
                prop_assert!(snapshot == folded, "at {}", recorded.position);
            }
            folded.apply(recorded);
        }
        prop_assert!(held.all(|snapshot| snapshot == folded));
        prop_assert!(world.roll == folded);
    }
}
