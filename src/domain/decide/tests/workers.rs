//! Workers: created → (pending) → active → isolated ⇄ active → removed.

use super::wish::{
    approve, create_key, create_named_worker, create_pending_worker, create_pool, create_worker, create_worker_with,
    digest, expire, isolate, label, plain_worker, pool_id, reject, release, remove_worker, rename, sharing, text,
    worker_id,
};
use super::{World, admin, outcome, seconds};
use crate::domain::command::{Command, CreateWorker};
use crate::domain::event::{Event, WorkerCreated};
use crate::domain::ids::KeyId;
use crate::domain::worker::{LABELS_MAX, Labels, Standing};

/// Workers in each state at second 10: those that wait, with and without an end that has come; those that are active;
/// isolated for ever, for a while, and no longer; expired; rejected; removed.
pub(super) fn one_in_each_state() -> World {
    let pending_until_9 =
        CreateWorker { pending: true, expires_at: Some(seconds(9)), ..plain_worker("pending-expired") };
    World::new()
        .given([
            create_pending_worker("pending"),
            Command::CreateWorker(pending_until_9),
            create_worker("active"),
            create_worker("isolated"),
            isolate("isolated", None),
            create_worker("isolated-till-20"),
            isolate("isolated-till-20", Some(seconds(20))),
            create_worker("isolated-till-10"),
            isolate("isolated-till-10", Some(seconds(10))),
            Command::CreateWorker(CreateWorker { expires_at: Some(seconds(10)), ..plain_worker("expired") }),
            create_pending_worker("rejected"),
            reject("rejected"),
            create_worker("removed"),
            remove_worker("removed"),
        ])
        .at(10)
}

#[test]
fn the_standing_is_the_state_at_a_moment() {
    let world = one_in_each_state();
    for (worker, expected) in [
        ("pending", Standing::Pending),
        ("pending-expired", Standing::Expired),
        ("active", Standing::Active),
        ("isolated", Standing::Isolated),
        ("isolated-till-20", Standing::Isolated),
        ("isolated-till-10", Standing::Active),
        ("expired", Standing::Expired),
        ("rejected", Standing::Rejected),
        ("removed", Standing::Removed),
    ] {
        assert_eq!(world.roll.worker(worker).unwrap().standing(world.now), expected, "{worker}");
    }
}

#[test]
fn approving() {
    one_in_each_state().table(
        &admin(),
        &[
            (approve("pending"), "worker.approved"),
            (approve("pending-expired"), "no: worker_expired"),
            (approve("active"), "nothing"),
            (approve("isolated"), "nothing"),
            (approve("isolated-till-20"), "nothing"),
            (approve("isolated-till-10"), "nothing"),
            (approve("expired"), "nothing"),
            (approve("rejected"), "no: worker_rejected"),
            (approve("removed"), "no: worker_removed"),
            (approve("unknown"), "no: worker_unknown"),
        ],
    );
}

#[test]
fn rejecting() {
    one_in_each_state().table(
        &admin(),
        &[
            (reject("pending"), "worker.rejected"),
            (reject("pending-expired"), "worker.rejected"),
            (reject("active"), "no: worker_active"),
            (reject("isolated"), "no: worker_isolated"),
            (reject("isolated-till-20"), "no: worker_isolated"),
            (reject("expired"), "no: worker_active"),
            (reject("rejected"), "nothing"),
            (reject("removed"), "no: worker_removed"),
            (reject("unknown"), "no: worker_unknown"),
        ],
    );
}

#[test]
fn isolating() {
    one_in_each_state().table(
        &admin(),
        &[
            (isolate("pending", None), "no: worker_pending"),
            (isolate("pending-expired", None), "no: worker_pending"),
            (isolate("active", None), "worker.isolated"),
            (isolate("active", Some(seconds(11))), "worker.isolated"),
            (isolate("active", Some(seconds(10))), "no: invalid"),
            (isolate("expired", None), "worker.isolated"),
            (isolate("rejected", None), "no: worker_rejected"),
            (isolate("removed", None), "no: worker_removed"),
            (isolate("unknown", None), "no: worker_unknown"),
        ],
    );
}

/// Of two responders, the one who wished the worker away for longer has it: the other's isolation must not let it out.
#[test]
fn isolating_again_never_ends_an_isolation_earlier() {
    one_in_each_state().table(
        &admin(),
        &[
            (isolate("isolated", None), "nothing"),
            (isolate("isolated", Some(seconds(99))), "nothing"),
            (isolate("isolated-till-20", Some(seconds(19))), "nothing"),
            (isolate("isolated-till-20", Some(seconds(20))), "nothing"),
            (isolate("isolated-till-20", Some(seconds(21))), "worker.isolated"),
            (isolate("isolated-till-20", None), "worker.isolated"),
            (isolate("isolated-till-10", Some(seconds(11))), "worker.isolated"),
            (isolate("isolated-till-10", None), "worker.isolated"),
        ],
    );
}

#[test]
fn releasing() {
    one_in_each_state().table(
        &admin(),
        &[
            (release("pending"), "no: worker_pending"),
            (release("active"), "nothing"),
            (release("isolated"), "worker.released"),
            (release("isolated-till-20"), "worker.released"),
            (release("isolated-till-10"), "nothing"),
            (release("expired"), "nothing"),
            (release("rejected"), "no: worker_rejected"),
            (release("removed"), "no: worker_removed"),
            (release("unknown"), "no: worker_unknown"),
        ],
    );
}

#[test]
fn removing_is_final() {
    let world = one_in_each_state();
    world.table(
        &admin(),
        &[
            (remove_worker("pending"), "worker.removed"),
            (remove_worker("pending-expired"), "worker.removed"),
            (remove_worker("active"), "worker.removed"),
            (remove_worker("isolated"), "worker.removed"),
            (remove_worker("expired"), "worker.removed"),
            (remove_worker("rejected"), "worker.removed"),
            (remove_worker("removed"), "nothing"),
            (remove_worker("unknown"), "no: worker_unknown"),
            // Nothing brings it back, not even its own description.
            (create_worker("removed"), "no: worker_exists"),
            (create_key("removed", 10), "no: worker_removed"),
            (rename("removed", Some("again")), "no: worker_removed"),
        ],
    );
}

#[test]
fn updating_writes_the_whole_of_what_changed_and_nothing_twice() {
    let world = one_in_each_state().given([rename("active", Some("a")), label("active", &[("zone", "eu")])]);
    world.table(
        &admin(),
        &[
            (rename("active", Some("a")), "nothing"),
            (rename("active", Some("b")), "worker.updated"),
            (rename("active", None), "worker.updated"),
            (label("active", &[("zone", "eu")]), "nothing"),
            (label("active", &[("zone", "us")]), "worker.updated"),
            (label("active", &[]), "worker.updated"),
            (expire("active", None), "nothing"),
            (expire("active", Some(seconds(99))), "worker.updated"),
            (expire("expired", None), "worker.updated"),
            (rename("pending", Some("p")), "worker.updated"),
            (rename("isolated", Some("i")), "worker.updated"),
            (rename("rejected", Some("r")), "no: worker_rejected"),
            (rename("unknown", Some("u")), "no: worker_unknown"),
        ],
    );
    let updated = world.decide(&admin(), &expire("active", Some(seconds(99))));
    let expected = Event::WorkerUpdated {
        worker: worker_id("active"),
        name: Some(text("a")),
        labels: Labels::from([(text("zone"), text("eu"))]),
        expires_at: Some(seconds(99)),
    };
    assert_eq!(updated, Ok(vec![expected]));
}

#[test]
fn names_and_labels_have_limits() {
    let world = World::new().given([create_worker("a")]);
    let (longest, too_long) = ("ä".repeat(253), "ä".repeat(254));
    let (long_value, too_long_value) = ("ä".repeat(128), "ä".repeat(129));
    let numbers: Vec<String> = (0..=LABELS_MAX).map(|number| number.to_string()).collect();
    let many: Vec<(&str, &str)> = numbers.iter().map(|number| (number.as_str(), "")).collect();
    world.table(
        &admin(),
        &[
            (rename("a", Some(&longest)), "worker.updated"),
            (rename("a", Some(&too_long)), "no: invalid"),
            (rename("a", Some("")), "no: invalid"),
            (rename("a", Some("\u{1b}[2J")), "no: invalid"),
            (create_named_worker("b", ""), "no: invalid"),
            (label("a", &many[..LABELS_MAX]), "worker.updated"),
            (label("a", &many), "no: invalid"),
            (label("a", &[("k", &long_value)]), "worker.updated"),
            (label("a", &[("k", &too_long_value)]), "no: invalid"),
            (label("a", &[(&long_value, "v")]), "worker.updated"),
            (label("a", &[(&too_long_value, "v")]), "no: invalid"),
            (label("a", &[("", "v")]), "no: invalid"),
            (label("a", &[("k", "\n")]), "no: invalid"),
        ],
    );
}

#[test]
fn a_worker_begins_as_described() {
    let mut world = World::new().at(5);
    let described = CreateWorker {
        name: Some(text("web")),
        labels: Labels::from([(text("zone"), text("eu"))]),
        expires_at: Some(seconds(6)),
        pending: true,
        ..plain_worker("a")
    };
    let events = world.must(&admin(), &Command::CreateWorker(described.clone()));
    let expected = WorkerCreated {
        worker: worker_id("a"),
        pool: pool_id("default"),
        name: described.name.clone(),
        labels: described.labels.clone(),
        expires_at: described.expires_at,
        pending: true,
        enrolled_by: None,
    };
    assert_eq!(events, [Event::WorkerCreated(expected)]);
    let late = CreateWorker { expires_at: Some(seconds(5)), ..plain_worker("b") };
    assert_eq!(outcome(&world.decide(&admin(), &Command::CreateWorker(late))), "no: invalid");
}

/// The same id with other content is a conflict, with the same content it holds already (H27).
#[test]
fn creating_what_exists_is_a_retry_or_a_conflict() {
    let world = World::new().given([
        create_pool("blue", sharing()),
        create_named_worker("a", "web"),
        create_worker_with("s", 10, 100),
        create_worker("k"),
        create_key("k", 11),
    ]);
    let named = |change: &dyn Fn(&mut CreateWorker)| {
        let mut create = CreateWorker { name: Some(text("web")), ..plain_worker("a") };
        change(&mut create);
        Command::CreateWorker(create)
    };
    world.table(
        &admin(),
        &[
            (named(&|_| ()), "nothing"),
            (named(&|it| it.name = None), "no: worker_exists"),
            (named(&|it| it.name = Some(text("db"))), "no: worker_exists"),
            (named(&|it| it.pool = pool_id("blue")), "no: worker_exists"),
            (named(&|it| it.expires_at = Some(seconds(9))), "no: worker_exists"),
            (named(&|it| it.labels = Labels::from([(text("k"), text("v"))])), "no: worker_exists"),
            (named(&|it| it.static_secret = Some((KeyId(12), digest(101)))), "no: worker_exists"),
            // A retry mints another key id; what counts is the value.
            (create_worker_with("s", 13, 100), "nothing"),
            (create_worker_with("s", 13, 101), "no: worker_exists"),
            (create_worker("s"), "no: worker_exists"),
            // An API key was given to it later, and is no part of its description.
            (create_worker("k"), "nothing"),
        ],
    );
}
