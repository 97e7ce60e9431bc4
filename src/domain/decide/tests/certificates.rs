//! The certificates of nodes: what is said of them once, and which of them a plan wants replaced.

use super::wish::{apply_plan, make_plan, serve_certificate};
use super::{World, admin, operator, outcome, system};
use crate::domain::ids::PlanId;
use crate::domain::operator::Role;
use crate::domain::plan::PlanKind;

const ROTATE: PlanKind = PlanKind::RotateTlsCertificates;

/// Whose certificate is still the one from before the newest plan.
fn due(world: &World) -> String {
    let due = world.roll.certificates().filter(|known| known.position < world.roll.certificates_due());
    due.map(|known| known.served.node.to_string()).collect::<Vec<_>>().join(" ")
}

fn served() -> World {
    let mut world = World::new();
    world.must(&system(), &serve_certificate("n-1", 1));
    world.must(&system(), &serve_certificate("n-2", 2));
    world
}

#[test]
fn a_certificate_is_recorded_when_it_is_another() {
    served().table(
        &system(),
        &[
            (serve_certificate("n-1", 1), "nothing"),
            (serve_certificate("n-1", 3), "tls_certificate.served"),
            (serve_certificate("n-3", 1), "tls_certificate.served"),
        ],
    );
}

#[test]
fn a_plan_lists_what_is_served_and_each_node_is_due_until_it_serves_another() {
    let mut world = served().given([make_plan(1, ROTATE, &["everything"])]);
    let plan = world.roll.plan(PlanId(1)).unwrap().clone();
    assert_eq!((plan.counts.tls_certificates, plan.counts.total()), (2, 2));
    assert_eq!(due(&world), "");
    let again = world.clone().given([make_plan(2, ROTATE, &["everything"])]);
    world.must(&admin(), &apply_plan(&world.clone(), 1));
    assert_eq!(due(&world), "n-1 n-2");
    assert!(world.roll.plan(PlanId(1)).unwrap().progress.as_ref().unwrap().is_complete(), "there is nothing to record");
    world.must(&system(), &serve_certificate("n-2", 4));
    assert_eq!(due(&world), "n-1");
    // Since another was shown, what is served has changed.
    let mut stale = again;
    stale.must(&system(), &serve_certificate("n-1", 9));
    assert_eq!(outcome(&stale.decide(&admin(), &apply_plan(&stale, 2))), "no: plan_changed");
}

#[test]
fn it_is_for_all_nodes_and_for_those_who_manage_signing_keys() {
    served().table(
        &admin(),
        &[
            (make_plan(1, ROTATE, &["pool:default"]), "no: invalid"),
            (make_plan(1, ROTATE, &["everything"]), "plan.made"),
        ],
    );
    let denied = served().decide(&operator(Role::Operator), &make_plan(1, ROTATE, &["everything"]));
    assert_eq!(outcome(&denied), "no: not_permitted");
}

/// A node that is gone is named until its certificate ends, by the time of the records.
#[test]
fn a_certificate_that_has_ended_is_forgotten_with_the_next_record() {
    let mut world = served();
    world.now = super::seconds(7_776_000);
    world.must(&system(), &serve_certificate("n-4", 4));
    assert_eq!(world.roll.certificates().map(|known| &*known.served.node).collect::<Vec<_>>(), ["n-4"]);
}
