//! Incidents as tables: what fills a checklist, what keeps one from being closed, and where a drill ends.

use super::wish::{
    apply_plan, approve, close, create_key, create_operator, create_pending_worker, create_pool, create_secret,
    create_worker, create_worker_in, disable_secret, fence, incident_id, isolate, label, lineage, make_plan, note,
    open_drill, open_incident, plain_incident, release, remove_pool, remove_worker, rename, retitle, review, revoke,
    revoke_token, rotate, rotate_secret, rotate_signing_keys, settle, share, sharing, step,
};
use super::{World, admin, by_key, enrollee, operator, outcome, seconds, system};
use crate::domain::command::{Command, DescriptionChange, OpenIncident, Settling};
use crate::domain::enrollment::Limits;
use crate::domain::event::{Event, FailureCount, Recorded};
use crate::domain::ids::{KeyId, PlanId};
use crate::domain::incident::{Description, PEOPLE_MAX, STEPS_MAX, TITLE_CHARS_MAX};
use crate::domain::operator::Role;
use crate::domain::plan::PlanKind;
use crate::domain::refusal::Refusal;

/// Incidents `open` and `closed`, and three workers of whom `c` has a label.
fn fleet() -> World {
    let bare = |id| Command::OpenIncident(OpenIncident { checklist: vec![], ..plain_incident(Some(id), &[]) });
    World::new().given([
        create_worker("a"),
        create_worker("b"),
        create_worker("c"),
        label("c", &[("os", "linux")]),
        create_key("a", 20),
        create_key("b", 21),
        create_secret(1, Limits::default()),
        open_incident(Some("open")),
        bare("closed"),
        close("closed"),
    ])
}

/// What is wished for from now on is for this incident.
fn during(mut world: World, incident: &str) -> World {
    world.incident = Some(incident_id(incident));
    world
}

fn because(mut world: World, reason: &str) -> World {
    world.reason = Some(reason.into());
    world
}

fn states(world: &World, incident: &str) -> Vec<(String, &'static str)> {
    let found = world.roll.incident(incident).unwrap();
    found.checklist.iter().map(|step| (step.template.id.to_string(), step.state.name())).collect()
}

/// The kinds of the events that carry the incident.
fn carried(world: &World, incident: &str) -> Vec<&'static str> {
    let of_it = |recorded: &&Recorded| recorded.incident.as_ref().is_some_and(|id| id.as_str() == incident);
    world.log.iter().filter(of_it).map(|recorded| recorded.event.kind()).collect()
}

/// A log with incidents in every state.
pub(crate) fn history() -> Vec<Recorded> {
    let mut world = because(during(fleet(), "open"), "as agreed").given([
        isolate("a", None),
        make_plan(1, PlanKind::RevokeAll, &["worker:a", "worker:b"]),
        settle("open", "restore", Settling::Waived),
        settle("open", "restore", Settling::Reopened),
        note("open", "called the owner"),
        retitle("open", "two keys leaked"),
    ]);
    world.must(&admin(), &apply_plan(&world.clone(), 1));
    world.incident = None;
    world.must(&system(), &Command::ContinuePlan { plan: PlanId(1), done: 0 });
    world.must(&system(), &barrier(&world));
    world.given([open_drill("friday", &["everything"])]).log
}

fn barrier(world: &World) -> Command {
    Command::RecordBarrier { through: world.roll.next_position() - 1, confirmed: vec![], waited_out: vec![] }
}

#[test]
fn what_is_commanded_for_an_incident_fills_its_checklist() {
    let world = during(fleet(), "open");
    assert_eq!(states(&world, "open"), [("isolate".into(), "open"), ("restore".into(), "open")]);
    let after = world.given([release("a"), isolate("a", None)]);
    assert_eq!(states(&after, "open")[0].1, "filled");
    let mark = after.roll.incident("open").unwrap().checklist[0].state.mark().unwrap().clone();
    assert_eq!(Some(mark.position), after.log.iter().map(|recorded| recorded.position).next_back());
    // The same, but for nothing.
    let mut elsewhere = fleet();
    elsewhere.must(&admin(), &isolate("a", None));
    assert_eq!(states(&elsewhere, "open")[0].1, "open");
}

#[test]
fn what_follows_from_a_command_carries_its_incident() {
    let mut world = during(fleet(), "open").given([make_plan(1, PlanKind::Isolate { until: None }, &["everything"])]);
    world.must(&admin(), &apply_plan(&world.clone(), 1));
    assert_eq!(states(&world, "open")[0].1, "open", "the plan is no isolation yet; its records are");
    world.incident = None;
    world.must(&admin(), &isolate("a", None));
    world.must(&system(), &Command::ContinuePlan { plan: PlanId(1), done: 0 });
    world.must(&system(), &barrier(&world));
    let kinds =
        ["incident.opened", "plan.made", "plan.applied", "worker.isolated", "worker.isolated", "worker.isolated"];
    assert_eq!(carried(&world, "open"), [&kinds[..], &["plan.progressed", "barrier.passed"]].concat());
    assert_eq!(states(&world, "open")[0].1, "filled");
    assert_eq!(world.roll.incident("open").unwrap().events, 8);
    // What it waited for has come: the next barrier is not its own.
    world.must(&admin(), &isolate("b", None));
    world.must(&system(), &barrier(&world));
    assert_eq!(carried(&world, "open").len(), 8);
}

#[test]
fn of_several_incidents_the_one_that_waits_longest_has_the_barrier() {
    let mut world = fleet().given([open_incident(Some("other"))]);
    world.incident = Some(incident_id("other"));
    world.must(&admin(), &isolate("a", None));
    let first = barrier(&world);
    world.incident = Some(incident_id("open"));
    world.must(&admin(), &isolate("b", None));
    world.incident = None;
    world.must(&system(), &first);
    assert_eq!(carried(&world, "other").last(), Some(&"barrier.passed"));
    assert_eq!(carried(&world, "open").last(), Some(&"worker.isolated"));
    world.must(&system(), &barrier(&world));
    assert_eq!(carried(&world, "open").last(), Some(&"barrier.passed"));
}

#[test]
fn a_command_names_an_open_incident_and_is_an_operators() {
    for (incident, expected) in
        [("open", "worker.isolated"), ("closed", "no: incident_closed"), ("never", "no: incident_unknown")]
    {
        during(fleet(), incident).table(&admin(), &[(isolate("a", None), expected)]);
    }
    let world = during(fleet(), "open");
    world.table(&by_key("a", 20), &[(revoke(20), "no: invalid")]);
    world.table(&enrollee(1), &[(super::wish::enroll(1, "d", 30), "no: invalid")]);
}

#[test]
fn ids_are_counted_or_chosen_and_never_come_twice() {
    let opened = |world: &World, wish: &Command| match world.decide(&admin(), wish) {
        Ok(events) => match events.first() {
            Some(Event::IncidentOpened(opened)) => opened.incident.to_string(),
            other => panic!("{other:?}"),
        },
        Err(refusal) => refusal.code().to_owned(),
    };
    let world = fleet();
    assert_eq!(opened(&world, &open_incident(None)), "INC-3");
    assert_eq!(opened(&world, &open_incident(Some("INC-3"))), "INC-3");
    assert_eq!(opened(&world, &open_incident(Some("closed"))), "incident_exists");
    let world = world.given([open_incident(Some("INC-4"))]);
    assert_eq!(opened(&world, &open_incident(None)), "INC-5", "the fourth is taken");
}

#[test]
fn what_is_said_of_an_incident_has_limits() {
    let says = |change: &dyn Fn(&mut OpenIncident)| {
        let mut open = plain_incident(None, &[]);
        change(&mut open);
        Command::OpenIncident(open)
    };
    let described = |change: fn(&mut Description)| says(&|open| change(&mut open.description));
    fleet().at(100).table(
        &operator(Role::Operator),
        &[
            (described(|it| it.title = "".into()), "no: invalid"),
            (described(|it| it.title = "x".repeat(TITLE_CHARS_MAX + 1).into()), "no: invalid"),
            (described(|it| it.title = "a\u{1b}[2J".into()), "no: invalid"),
            (described(|it| it.people = vec!["x".into(); PEOPLE_MAX + 1]), "no: invalid"),
            (described(|it| it.first_sign = Some(seconds(101))), "no: invalid"),
            (described(|it| it.first_sign = Some(seconds(100))), "incident.opened"),
            (described(|it| it.scope = vec!["pool:green".parse().unwrap()]), "no: pool_unknown"),
            (described(|it| it.scope = vec!["worker:a".parse().unwrap()]), "incident.opened"),
            (says(&|open| open.checklist = vec![step("A", &[])]), "no: invalid"),
            (says(&|open| open.checklist = vec![step("a", &[]), step("a", &[])]), "no: invalid"),
            (says(&|open| open.checklist = vec![step("a", &[&[]])]), "no: invalid"),
            (
                says(&|open| open.checklist = (0..=STEPS_MAX).map(|n| step(&format!("s{n}"), &[])).collect()),
                "no: invalid",
            ),
            (note("open", " "), "no: invalid"),
            (note("open", "two\nlines"), "no: invalid"),
            (note("open", "called"), "incident.noted"),
            (note("closed", "late"), "no: incident_closed"),
            (review("never", "x"), "no: incident_unknown"),
            (retitle("open", "A key leaked"), "nothing"),
            (retitle("open", "Two keys leaked"), "incident.updated"),
            (retitle("closed", "Two keys leaked"), "no: incident_closed"),
        ],
    );
    let change = DescriptionChange { scope: Some(vec!["worker:b".parse().unwrap()]), ..DescriptionChange::default() };
    let mut world = fleet();
    world.must(&admin(), &Command::UpdateIncident { incident: incident_id("open"), change });
    assert_eq!(world.roll.incident("open").unwrap().description.scope.len(), 1);
}

#[test]
fn a_step_is_settled_by_hand_only_with_a_reason() {
    use Settling::{Done, Reopened, Waived};
    let lines = |expected: [&'static str; 3]| {
        [Done, Waived, Reopened].map(|it| settle("open", "restore", it)).into_iter().zip(expected)
    };
    let refused: Vec<_> = lines(["no: invalid"; 3]).collect();
    fleet().table(&admin(), &refused);
    because(fleet(), "  ").table(&admin(), &refused);
    let world = because(fleet(), "by phone");
    world.table(
        &admin(),
        &[
            (settle("open", "rest", Done), "no: step_unknown"),
            (settle("closed", "restore", Done), "no: incident_closed"),
        ],
    );
    for (before, expected) in [
        (None, ["incident.step_done", "incident.step_waived", "nothing"]),
        (Some(Done), ["nothing", "no: step_done", "incident.step_reopened"]),
        (Some(Waived), ["incident.step_done", "nothing", "incident.step_reopened"]),
        (Some(Reopened), ["incident.step_done", "incident.step_waived", "nothing"]),
    ] {
        let world = world.clone().given(before.map(|settling| settle("open", "restore", settling)));
        world.table(&admin(), &lines(expected).collect::<Vec<_>>());
    }
}

#[test]
fn an_incident_is_closed_when_no_step_is_open() {
    let mut world = because(fleet(), "no data was touched");
    let refused = world.decide(&admin(), &close("open")).unwrap_err();
    assert!(matches!(&refused, Refusal::StepsOpen { steps, .. } if steps.len() == 2));
    assert!(refused.to_string().contains("isolate, restore"), "{refused}");
    world.must(&admin(), &settle("open", "restore", Settling::Waived));
    world.table(&admin(), &[(close("open"), "no: steps_open")]);
    world = during(world, "open").given([isolate("a", None)]);
    world.incident = None;
    world.table(
        &admin(),
        &[(close("open"), "incident.closed"), (close("closed"), "nothing"), (close("x"), "no: incident_unknown")],
    );
    // What comes of it afterwards still carries it, and fills nothing any more.
    let world = world.given([close("open")]);
    let mut late = world.clone();
    late.must(&system(), &barrier(&world));
    assert_eq!(carried(&late, "open").last(), Some(&"barrier.passed"));
}

/// A drill over `a` and `b` of `default`, and a real pool beside it.
fn drill() -> World {
    let mut world = fleet().given([
        create_pool("blue", sharing()),
        create_worker_in("blue", "d"),
        create_pending_worker("pending"),
        create_operator(9, Role::Gateway),
        rename("b", Some("web")),
        open_drill("friday", &["worker:a", "worker:b"]),
    ]);
    world.reason = Some("drill".into());
    during(world, "friday")
}

const POOL: &str = "drill-friday";

#[test]
fn a_drill_has_copies_and_keys_that_nobody_has() {
    let world = drill();
    let copies: Vec<_> = world.roll.workers_after(None).filter(|worker| worker.pool.as_str() == POOL).collect();
    let told: Vec<_> = copies.iter().map(|it| (it.id.as_str(), it.display_name(), it.keys.len())).collect();
    assert_eq!(told, [("drill-friday-1", "a", 1), ("drill-friday-2", "web", 1)]);
    assert_eq!(world.roll.incident("friday").unwrap().drill_pool().unwrap().as_str(), POOL);
    let wish = |id: &str, scope: &[&str]| outcome(&fleet().decide(&admin(), &open_drill(id, scope)));
    assert_eq!(wish("x", &[]), "no: invalid", "of nothing there is no copy");
    assert_eq!(wish("x", &["label:os=mac"]), "no: invalid");
    assert_eq!(wish(&"x".repeat(60), &["everything"]), "no: invalid", "its pool could have no name");
    let taken = fleet().given([create_pool("drill-x", sharing())]);
    assert_eq!(outcome(&taken.decide(&admin(), &open_drill("x", &["everything"]))), "no: pool_exists");
}

/// What a drill may do, and everything that it may not.
#[test]
fn nothing_done_for_a_drill_touches_what_is_not_its_own() {
    const OUT: &str = "no: outside_drill";
    let mut world = drill();
    let token = world.clone();
    let token = {
        let mut real = token;
        real.incident = None;
        real.token("a", 20, 50)
    };
    world = world.given([make_plan(1, PlanKind::Isolate { until: None }, &["pool:drill-friday"])]);
    let fence_over = |scope: &str| fence(scope, None);
    world.table(
        &admin(),
        &[
            (isolate("drill-friday-1", None), "worker.isolated"),
            (isolate("a", None), OUT),
            (remove_worker("drill-friday-1"), "worker.removed"),
            (remove_worker("d"), OUT),
            (approve("pending"), OUT),
            (rename("a", Some("x")), OUT),
            (create_worker_in(POOL, "drill-more"), "worker.created"),
            (create_worker("more"), OUT),
            (create_key("drill-friday-1", 40), "key.created"),
            (create_key("a", 40), OUT),
            (rotate(1_000, 40, 0), "key.rotated"),
            (rotate(20, 40, 0), OUT),
            (revoke(1_001), "key.revoked"),
            (revoke(21), OUT),
            (share(20, "b"), "no: sharing_off"),
            (create_pool("green", sharing()), OUT),
            (super::wish::update_pool("blue", crate::domain::pool::PoolSettings::default()), OUT),
            (super::wish::update_pool(POOL, sharing()), "pool.updated"),
            (remove_pool("blue"), "no: pool_not_empty"),
            (create_secret(5, Limits::default()), OUT),
            (rotate_secret(1_000, 6, 6, 0), "enrollment_secret.rotated"),
            (rotate_secret(1, 6, 6, 0), OUT),
            (disable_secret(1), OUT),
            (disable_secret(1_000), "enrollment_secret.disabled"),
            (fence_over("pool:drill-friday"), "fence.raised"),
            (fence_over("pool:blue"), OUT),
            (fence_over("everything"), OUT),
            (fence_over("worker:a"), OUT),
            (fence_over("worker:drill-friday-2"), "fence.raised"),
            (lineage(1, None), OUT),
            (lineage(1_000, None), "fence.raised"),
            (make_plan(2, PlanKind::Isolate { until: None }, &["worker:a"]), OUT),
            (make_plan(2, PlanKind::RevokeAll, &["everything"]), OUT),
            (make_plan(2, PlanKind::RevokeAll, &["pool:drill-friday"]), "plan.made"),
            (make_plan(2, PlanKind::DisableEnrollment, &["pool:default"]), OUT),
            (apply_plan(&world, 1), "plan.applied"),
            (revoke_token(&token), OUT),
            (rotate_signing_keys(3, 0), OUT),
            (create_operator(12, Role::Gateway), OUT),
            (super::wish::remove_operator(9), OUT),
            (note("friday", "the pager works"), "incident.noted"),
            (note("open", "the pager works"), OUT),
            (open_incident(None), OUT),
        ],
    );
}

#[test]
fn a_drill_that_is_closed_leaves_nothing_behind() {
    let world = drill().given([isolate("drill-friday-1", None), settle("friday", "restore", Settling::Waived)]);
    let mut world = world;
    world.incident = None;
    let events = world.must(&admin(), &close("friday"));
    let kinds: Vec<&str> = events.iter().map(Event::kind).collect();
    assert_eq!(
        kinds,
        ["incident.closed", "worker.removed", "worker.removed", "enrollment_secret.disabled", "pool.removed"]
    );
    assert!(world.roll.pool(POOL).unwrap().removed);
    assert_eq!(states(&world, "friday"), [("isolate".into(), "filled"), ("restore".into(), "waived")]);
    // What was real is as it was.
    assert!(
        world.roll.worker("a").unwrap().is_member() && world.roll.pool("default").is_some_and(|pool| !pool.removed)
    );
}

/// A key that leaked, from its first use to the closing: what a report and a replay are made of.
pub(crate) fn leak() -> Vec<Recorded> {
    let failures = |from: i64, reason: &str, count: u64| Command::RecordAuthFailures {
        from: seconds(from),
        to: seconds(from + 60),
        failures: vec![FailureCount {
            reason: reason.into(),
            source: Some("192.0.2.7".parse().unwrap()),
            credential: Some(format!("key:{}", KeyId(20)).into()),
            count,
        }],
    };
    let mut world = fleet().at(10);
    let token = world.token("a", 20, 50);
    world = world.at(20);
    world.renewed(&token, 51);
    world.must(&system(), &failures(0, "secret_wrong", 4));
    let description = Description { first_sign: Some(seconds(50)), ..plain_incident(None, &["worker:a"]).description };
    let opened = OpenIncident { description, ..plain_incident(Some("INC-7"), &[]) };
    world = during(world.at(100).given([Command::OpenIncident(opened)]), "INC-7");
    world = world.at(160).given([isolate("a", Some(seconds(4_000))), note("INC-7", "<b>called</b> | the *owner*")]);
    world = world.at(200).given([make_plan(1, PlanKind::RevokeAll, &["worker:a"])]);
    world.must(&admin(), &apply_plan(&world.clone(), 1));
    world = world.at(201).given([rotate_secret(1, 2, 2, 0), rename("b", Some("web"))]);
    world.incident = None;
    world.must(&system(), &Command::ContinuePlan { plan: PlanId(1), done: 0 });
    world = world.at(203);
    world.must(&system(), &barrier(&world));
    world = world.at(300);
    world.must(&system(), &failures(180, "key_revoked", 2));
    world.must(&system(), &failures(240, "key_revoked", 9));
    world = because(world.at(400), "no data was touched").given([settle("INC-7", "restore", Settling::Waived)]);
    world.given([close("INC-7")]).log
}
