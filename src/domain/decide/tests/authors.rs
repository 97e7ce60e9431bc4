//! Who may wish what: every command for every kind of author. A command that is added does not compile here until
//! somebody has said who may wish it.

use std::collections::BTreeSet;

use super::wish::{
    apply_plan, approve, approve_plan, bootstrap, close, collect_plan, create_key, create_operator,
    create_operator_key, create_pending_worker, create_pool, create_secret, create_webhook, create_worker,
    create_worker_in, disable_secret, enroll, ensure_secret, expire, fence, honey, isolate, issue, list_network,
    make_plan, note, open_incident, plain_incident, plan_policy, readmit, reject, release, remove_honey,
    remove_operator, remove_pool, remove_worker, rename, renew, retitle, review, revoke, revoke_token, rotate,
    rotate_secret, rotate_signing_keys, serve_certificate, settle, settle_webhook, share, sharing, steer, trip,
    tripwire_rule, unlist_network, update_operator, update_pool, worker_id,
};
use super::{World, by_key, by_token, enrollee, id_of, operator, operator_by, outcome, seconds, system, unknown_token};
use crate::domain::actor::{Author, CredentialUsed};
use crate::domain::command::{Command, OpenIncident, Settling};
use crate::domain::enrollment::Limits;
use crate::domain::ids::{KeyId, PlanId, WebhookId};
use crate::domain::netguard::Listing;
use crate::domain::operator::{Permission, Role};
use crate::domain::plan::{Delivery, PlanKind};
use crate::domain::pool::PoolSettings;
use crate::domain::readmission::Steering;
use crate::domain::refusal::Refusal;
use crate::domain::time::Seconds;
use crate::domain::token::TokenFacts;
use crate::domain::tripwire::{Actions, Rule, Why};
use crate::domain::webhook::WebhookCommand;

/// How many commands there are. Raise it with the `match` of `permission`, and add an example of the new one.
const COMMANDS: usize = 54;

/// Keys from 20 on are workers', and key 9 an operator's.
fn permission(wish: &Command) -> Option<Permission> {
    let of_key = |key: &KeyId| if key.0 < 20 { Permission::ManageOperators } else { Permission::ManageFleet };
    match wish {
        Command::CreatePool { .. } | Command::UpdatePool { .. } | Command::RemovePool { .. } => {
            Some(Permission::ManageFleet)
        }
        Command::CreateWorker(_)
        | Command::UpdateWorker { .. }
        | Command::ApproveWorker { .. }
        | Command::RejectWorker { .. }
        | Command::IsolateWorker { .. }
        | Command::ReleaseWorker { .. }
        | Command::RemoveWorker { .. } => Some(Permission::ManageFleet),
        Command::ShareKey { .. } => Some(Permission::ManageFleet),
        Command::CreateKey(create) => Some(of_key(&create.key)),
        Command::RotateKey { key, .. } | Command::RevokeKey { key, .. } => Some(of_key(key)),
        Command::CreateEnrollmentSecret { .. }
        | Command::RotateEnrollmentSecret { .. }
        | Command::DisableEnrollmentSecret { .. } => Some(Permission::ManageFleet),
        Command::Netguard(_)
        | Command::Webhook(
            WebhookCommand::Create { .. } | WebhookCommand::Update { .. } | WebhookCommand::Remove { .. },
        ) => Some(Permission::ManageFleet),
        Command::Webhook(WebhookCommand::Settle { .. }) => None,
        Command::RevokeToken(_)
        | Command::RaiseFence { .. }
        | Command::ApprovePlan { .. }
        | Command::SteerReadmission { .. }
        | Command::CollectPlan { .. } => Some(Permission::ManageFleet),
        Command::MakePlan(make) if make.kind.name() == "rotate_signing_keys" => Some(Permission::ManageSigningKeys),
        Command::ApplyPlan { plan: PlanId(6), .. } => Some(Permission::ManageSigningKeys),
        Command::MakePlan(_) | Command::ApplyPlan { .. } => Some(Permission::ManageFleet),
        Command::CreateHoneyKey(_) | Command::RemoveHoneyKey { .. } => Some(Permission::ManageFleet),
        Command::SetPlanPolicy(_) | Command::SetTripwireRule { .. } => Some(Permission::ManageOperators),
        Command::OpenIncident(_)
        | Command::UpdateIncident { .. }
        | Command::NoteIncident { .. }
        | Command::ReviewIncident { .. }
        | Command::SettleStep { .. }
        | Command::CloseIncident { .. } => Some(Permission::ManageFleet),
        Command::RotateSigningKeys { .. } => Some(Permission::ManageSigningKeys),
        Command::CreateOperator { .. } | Command::UpdateOperator { .. } | Command::RemoveOperator { .. } => {
            Some(Permission::ManageOperators)
        }
        // The service's own, and what takes a worker's or an enrollee's credential.
        Command::Bootstrap(_)
        | Command::EnsureEnrollmentSecret { .. }
        | Command::RecordTrip(_)
        | Command::Enroll(_)
        | Command::IssueToken(_)
        | Command::RecordTokensIssued { .. }
        | Command::ContinuePlan { .. }
        | Command::ServeCertificate(_)
        | Command::RecordBarrier { .. }
        | Command::RecordAuthFailures { .. } => None,
    }
}

struct Examples {
    world: World,
    /// Worker `a`'s, made with its key 20.
    token: TokenFacts,
    wishes: Vec<Command>,
}

/// What the examples are about.
fn known() -> World {
    let mut world = World::new().given([
        create_operator(9, Role::Gateway),
        create_pool("blue", sharing()),
        create_pool("empty", sharing()),
        create_worker_in("blue", "a"),
        create_worker_in("blue", "b"),
        create_worker_in("blue", "isolated"),
        isolate("isolated", None),
        create_pending_worker("pending"),
        create_key("a", 20),
        create_key("b", 21),
        create_secret(1, Limits::default()),
        create_secret(2, Limits::default()),
        honey(81, "blue"),
        make_plan(1, PlanKind::Isolate { until: None }, &["pool:blue"]),
        create_operator(13, Role::Operator),
        make_plan(5, PlanKind::RotateAll { overlap: Seconds(600), delivery: Delivery::File }, &["worker:isolated"]),
        make_plan(8, readmit(1, Delivery::File), &["worker:isolated"]),
        make_plan(6, PlanKind::RotateSigningKeys { overlap: Seconds(600) }, &["everything"]),
        open_incident(Some("case")),
        Command::OpenIncident(OpenIncident { checklist: vec![], ..plain_incident(Some("closed"), &[]) }),
        create_webhook(1, "https://hooks.example.org/"),
    ]);
    // Of an empty list all is collected.
    world.must(&operator(Role::Admin), &apply_plan(&world.clone(), 5));
    world.must(&operator(Role::Admin), &apply_plan(&world.clone(), 8));
    world.must(&operator_by(13, 13), &make_plan(4, PlanKind::Release, &["pool:blue"]));
    world.reason = Some("as agreed".into());
    world
}

/// A world, and each command at least once so that nothing but its author could refuse it.
fn examples() -> Examples {
    let mut world = known();
    let token = world.token("a", 20, 50);
    let wishes = vec![
        bootstrap(99, 99),
        create_pool("green", sharing()),
        update_pool("blue", PoolSettings::default()),
        remove_pool("empty"),
        create_worker("c"),
        rename("a", Some("web")),
        approve("pending"),
        reject("pending"),
        isolate("a", None),
        release("isolated"),
        remove_worker("a"),
        create_key("a", 30),
        create_operator_key(9, 10),
        share(20, "b"),
        rotate(20, 31, 0),
        rotate(9, 11, 0),
        revoke(20),
        revoke(9),
        create_secret(3, Limits::default()),
        rotate_secret(1, 4, 4, 0),
        disable_secret(1),
        ensure_secret("default", 5, 5),
        enroll(1, "d", 32),
        issue(51, "a", 20),
        renew(52, &token),
        revoke_token(&token),
        Command::RecordTokensIssued { worker: worker_id("a"), count: 3, from: seconds(0), to: seconds(60) },
        rotate_signing_keys(3, 0),
        create_operator(12, Role::Gateway),
        update_operator(9, Some("gate"), None),
        remove_operator(9),
        fence("pool:blue", None),
        make_plan(2, PlanKind::Release, &["pool:blue"]),
        apply_plan(&world, 1),
        make_plan(7, PlanKind::RotateSigningKeys { overlap: Seconds(600) }, &["everything"]),
        apply_plan(&world, 6),
        approve_plan(&world, 4),
        collect_plan(5, 0, [90]),
        steer(8, Steering::Pause),
        plan_policy(&["revoke_all"], &["blue"]),
        open_incident(None),
        retitle("case", "worse"),
        note("case", "called the owner"),
        review("case", "nothing in the logs"),
        settle("case", "restore", Settling::Waived),
        close("closed"),
        honey(80, "blue"),
        remove_honey(81),
        tripwire_rule(Some("blue"), Rule { honey: Some(Actions::RECORD), ..Rule::default() }),
        trip(20, Why::Revoked, Some("a")),
        Command::ContinuePlan { plan: PlanId(1), done: 0 },
        serve_certificate("n-1", 1),
        list_network("192.0.2.0/24", Listing::Blocked),
        unlist_network("192.0.2.0/24"),
        create_webhook(2, "https://hooks.example.org/"),
        Command::Webhook(WebhookCommand::Update {
            webhook: WebhookId(1),
            url: None,
            kinds: None,
            enabled: Some(false),
        }),
        Command::Webhook(WebhookCommand::Remove { webhook: WebhookId(1) }),
        settle_webhook(1, 99),
        Command::RecordBarrier { through: 9, confirmed: vec!["n".into()], waited_out: vec![] },
        Command::RecordAuthFailures { from: seconds(0), to: seconds(60), failures: vec![] },
    ];
    Examples { world, token, wishes }
}

#[test]
fn every_command_has_an_example() {
    let names: BTreeSet<&str> = examples().wishes.iter().map(Command::name).collect();
    assert_eq!(names.len(), COMMANDS, "{names:?}");
}

#[test]
fn the_service_itself_may_wish_everything() {
    let Examples { world, wishes, .. } = examples();
    for wish in wishes {
        let found = world.decide(&system(), &wish);
        assert!(found.is_ok(), "{wish:?}: {found:?}");
    }
}

#[test]
fn an_operator_may_wish_what_its_role_permits() {
    let Examples { world, wishes, .. } = examples();
    for role in Role::ALL {
        for wish in &wishes {
            let found = world.decide(&operator(role), wish);
            match permission(wish) {
                Some(permission) if role.permits(permission) => assert!(found.is_ok(), "{role} {wish:?}: {found:?}"),
                Some(permission) => assert_eq!(found, Err(Refusal::NotPermitted(permission)), "{role} {wish:?}"),
                None => assert_eq!(outcome(&found), "no: wrong_kind", "{role} {wish:?}"),
            }
        }
    }
}

/// The table of roles itself: what is permitted is written here a second time, so that no slip in it goes unseen.
#[test]
fn roles_permit_this_and_nothing_else() {
    use Permission::{ManageFleet, ManageOperators, ManageSigningKeys, ReadEvents, ReadFleet, ReadNetguard, Validate};
    let all = [ReadFleet, ReadEvents, ManageFleet, ManageSigningKeys, ManageOperators, Validate, ReadNetguard];
    for (role, permitted) in [
        (Role::Admin, &all[..]),
        (Role::Operator, &[ReadFleet, ReadEvents, ManageFleet, Validate, ReadNetguard]),
        (Role::Auditor, &[ReadFleet, ReadEvents, ReadNetguard]),
        (Role::Gateway, &[Validate, ReadNetguard]),
    ] {
        for permission in all {
            assert_eq!(role.permits(permission), permitted.contains(&permission), "{role} {permission:?}");
        }
    }
}

/// The wishes that are granted to `who`, by name; of all others, the refusals.
fn granted(who: &Author) -> (Vec<&'static str>, BTreeSet<String>) {
    let Examples { world, wishes, .. } = examples();
    let (mut granted, mut refused) = (Vec::new(), BTreeSet::new());
    for wish in &wishes {
        match world.decide(who, wish) {
            Ok(_) => granted.push(wish.name()),
            refusal @ Err(_) => _ = refused.insert(outcome(&refusal)),
        }
    }
    (granted, refused)
}

fn refusals<const N: usize>(codes: [&str; N]) -> BTreeSet<String> {
    codes.map(|code| format!("no: {code}")).into()
}

#[test]
fn a_worker_gets_tokens_rotates_the_key_it_presents_and_ends_what_it_holds() {
    let own = vec!["rotate_key", "revoke_key", "issue_token", "issue_token", "revoke_token"];
    assert_eq!(granted(&by_key("a", 20)), (own, refusals(["wrong_kind"])));
    let token = examples().token;
    assert_eq!(granted(&by_token(&token)), (vec!["issue_token", "revoke_token"], refusals(["wrong_kind"])));
    // Another worker may do none of it with what is not its own.
    assert_eq!(granted(&by_key("b", 21)), (vec![], refusals(["wrong_kind"])));
    // A key that is not this worker's gets it nothing; but whoever holds a key may end it.
    let (wishes, refused) = granted(&by_key("b", 20));
    assert_eq!(wishes, ["revoke_key"]);
    assert_eq!(refused, refusals(["wrong_kind", "worker_mismatch"]));
    let nothing = Author { credential: None, ..by_key("a", 20) };
    assert_eq!(granted(&nothing), (vec![], refusals(["wrong_kind"])));
}

#[test]
fn an_enrollment_secret_is_good_for_enrolling_and_nothing_else() {
    assert_eq!(granted(&enrollee(1)), (vec!["enroll"], refusals(["enrollment_secret"])));
    assert_eq!(granted(&enrollee(2)), (vec![], refusals(["enrollment_secret"])));
    let worker = Author { credential: enrollee(1).credential, ..by_key("a", 20) };
    assert_eq!(granted(&worker), (vec![], refusals(["wrong_kind"])));
    let admin = Author { credential: enrollee(1).credential, ..operator(Role::Admin) };
    assert_eq!(granted(&admin), (vec![], refusals(["wrong_kind"])));
}

/// An admin's rights come from the admin's key, which no other credential stands for.
#[test]
fn an_operator_comes_with_a_key_of_its_own() {
    let token = examples().token;
    let nothing = Author { credential: None, ..operator(Role::Admin) };
    assert_eq!(granted(&nothing), (vec![], refusals(["wrong_kind"])));
    let by_token = Author { credential: by_token(&token).credential, ..operator(Role::Admin) };
    assert_eq!(granted(&by_token), (vec![], refusals(["wrong_kind"])));
    assert_eq!(granted(&operator_by(1, 20)), (vec![], refusals(["wrong_kind"])), "a worker's key");
    assert_eq!(granted(&operator_by(1, 99)), (vec![], refusals(["key_unknown"])));
    assert_eq!(granted(&operator_by(id_of(Role::Gateway), 1)), (vec![], refusals(["wrong_kind"])), "another's key");
}

/// Asked again for every command in its turn: what a credential was worth when its request came does not count.
#[test]
fn an_author_whose_credential_ended_wishes_nothing_any_more() {
    let Examples { world, token, .. } = examples();
    let wish = isolate("b", None);
    let admin = World::new().given([create_operator(10, Role::Admin), create_worker("b")]);
    for (ending, expected) in [
        (revoke(10), "no: key_revoked"),
        (rotate(10, 40, 0), "no: key_expired"),
        (remove_operator(10), "no: operator_removed"),
        (update_operator(10, None, Some(Role::Gateway)), "no: not_permitted"),
    ] {
        let world = admin.clone().given([ending]);
        assert_eq!(outcome(&world.decide(&operator_by(10, 10), &wish)), expected);
    }
    for (ending, by_its_key, by_its_token) in [
        (revoke(20), "no: key_revoked", "no: key_revoked"),
        (rotate(20, 40, 0), "no: key_expired", "no: key_expired"),
        (isolate("a", None), "no: worker_isolated", "no: worker_isolated"),
        (remove_worker("a"), "no: worker_removed", "no: worker_removed"),
        (revoke_token(&token), "token.issued", "no: token_revoked"),
        (fence("pool:blue", None), "no: fenced", "no: fenced"),
    ] {
        let world = world.clone().given([ending]);
        assert_eq!(outcome(&world.decide(&by_key("a", 20), &issue(60, "a", 20))), by_its_key);
        assert_eq!(outcome(&world.decide(&by_token(&token), &renew(60, &token))), by_its_token);
    }
}

/// Whoever found a key in a public place can kill it, and only it; whatever else is true of its holder.
#[test]
fn a_credential_can_always_end_itself() {
    let Examples { world, token, .. } = examples();
    for ending in [isolate("a", None), remove_worker("a"), rotate(20, 40, 0), expire("a", Some(seconds(0)))] {
        let world = world.clone().given([ending]);
        assert_eq!(outcome(&world.decide(&by_key("a", 20), &revoke(20))), "key.revoked");
        assert_eq!(outcome(&world.decide(&by_token(&token), &revoke_token(&token))), "token.revoked");
        assert_eq!(outcome(&world.decide(&by_key("a", 20), &revoke(21))), "no: wrong_kind");
    }
    let world = world.given([remove_operator(9)]);
    assert_eq!(outcome(&world.decide(&operator_by(9, 9), &revoke(9))), "key.revoked");
    assert_eq!(outcome(&world.decide(&operator_by(9, 9), &revoke(1))), "no: operator_removed");
    // The same key again is a success that appends nothing.
    let world = world.given([revoke(9)]);
    assert_eq!(outcome(&world.decide(&operator_by(9, 9), &revoke(9))), "nothing");
    let strange = unknown_token("a", 20, 77);
    assert_eq!(outcome(&world.decide(&by_token(&token), &revoke_token(&strange))), "no: wrong_kind");
    let unknown = Author { credential: Some(CredentialUsed::Key(KeyId(98))), ..by_key("a", 20) };
    assert_eq!(outcome(&world.decide(&unknown, &revoke(98))), "no: key_unknown");
}
