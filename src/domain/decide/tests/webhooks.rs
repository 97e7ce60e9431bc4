//! Webhooks: what they can be told, and since when.

use super::wish::{create_webhook, settle_webhook, text};
use super::{World, admin, system};
use crate::domain::command::Command;
use crate::domain::ids::WebhookId;
use crate::domain::webhook::{KINDS, KINDS_DEFAULT, WebhookCommand};

fn update(kinds: &[&str], enabled: bool) -> Command {
    let kinds = Some(kinds.iter().map(|kind| text(kind)).collect());
    Command::Webhook(WebhookCommand::Update { webhook: WebhookId(1), url: None, kinds, enabled: Some(enabled) })
}

fn since(world: &World) -> Vec<(&str, u64)> {
    let webhook = world.roll.webhook(WebhookId(1)).unwrap();
    webhook.kinds.iter().map(|kind| &**kind).zip(webhook.since.iter().copied()).collect()
}

/// What was there before somebody wanted to know of it is not told, whoever goes on with the telling.
#[test]
fn each_kind_is_told_from_when_it_was_asked_for() {
    let mut world = World::new().given([create_webhook(1, "https://hooks.example.org/")]);
    let created = world.roll.next_position() - 1;
    assert_eq!(since(&world), [("worker.isolated", created)]);
    let add = |world: &mut World, kinds: &[&str], enabled| {
        world.must(&admin(), &update(kinds, enabled));
        world.roll.next_position() - 1
    };
    let added = add(&mut world, &["key.revoked", "worker.isolated"], true);
    assert_eq!(since(&world), [("key.revoked", added), ("worker.isolated", created)]);
    add(&mut world, &["worker.isolated"], true);
    let again = add(&mut world, &["key.revoked", "worker.isolated"], true);
    assert_eq!(since(&world), [("key.revoked", again), ("worker.isolated", created)]);
    // One that was off is told of nothing from then.
    add(&mut world, &["key.revoked", "worker.isolated"], false);
    assert!(world.roll.webhook(WebhookId(1)).unwrap().settled < again);
    let on = add(&mut world, &["key.revoked", "worker.isolated"], true);
    assert_eq!(world.roll.webhook(WebhookId(1)).unwrap().settled, on);
}

#[test]
fn what_is_done_with_is_so_once() {
    let world = World::new().given([create_webhook(1, "https://hooks.example.org/")]);
    let next = world.roll.next_position();
    let mut world = world;
    world.must(&system(), &settle_webhook(1, next + 2));
    world.table(
        &system(),
        &[
            (settle_webhook(1, next + 2), "nothing"),
            (settle_webhook(1, next), "nothing"),
            (settle_webhook(1, next + 3), "webhook.delivered"),
            (settle_webhook(2, next + 3), "nothing"),
        ],
    );
}

#[test]
fn only_what_holds_no_secret_can_be_told() {
    World::new().given([create_webhook(1, "https://hooks.example.org/")]).table(
        &admin(),
        &[
            (update(&["worker.isolated", "worker.released"], true), "webhook.updated"),
            (update(&["worker.isolated"], true), "nothing"),
            (update(&["key.created"], true), "no: invalid"),
            (update(&["webhook.delivered"], true), "no: invalid"),
            (update(&["worker.isolated", "worker.isolated"], true), "no: invalid"),
            (update(&[], true), "no: invalid"),
        ],
    );
    assert!(KINDS_DEFAULT.iter().all(|kind| KINDS.contains(kind)));
}
