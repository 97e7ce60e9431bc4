//! What the service may do in its database: where it may less than it needs it says so at once, and where it may more, or
//! the triggers that keep the log append-only are gone, it does not start.

use std::time::{Duration, Instant};

use portcullis::command::{CommandError, mint};
use portcullis::domain::ids::CommandId;

use crate::support::cluster::Scratch;
use crate::support::node::{TestNode, create_worker, keys, wish};

/// What trying again does not mend is not tried again, and what was mended works at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_refuses_for_good_is_a_clear_no_at_once() {
    let table = [
        (
            "no right to append",
            "revoke insert on log.event from portcullis_service",
            "grant insert on log.event to portcullis_service",
        ),
        (
            "no right to look for outcomes",
            "revoke select on log.command from portcullis_service",
            "grant select on log.command to portcullis_service",
        ),
        (
            "no right to the head",
            "revoke select on log.head from portcullis_service",
            "grant select on log.head to portcullis_service",
        ),
        (
            "a column that is missing",
            "alter table log.event rename column pool to gone",
            "alter table log.event rename column gone to pool",
        ),
        (
            "a rule that nothing fulfils",
            "alter table log.command add constraint nothing check (false) not valid",
            "alter table log.command drop constraint nothing",
        ),
        (
            "a table that is missing",
            "alter table log.sealed_outcome rename to gone",
            "alter table log.gone rename to sealed_outcome",
        ),
    ];
    let scratch = Scratch::new().await;
    let node = TestNode::start(scratch.database().await).await;
    node.bootstrap().await;
    let superuser = scratch.superuser().await;
    for (number, (what, harm, mend)) in table.into_iter().enumerate() {
        let worker = format!("w-{number}").parse().unwrap();
        let create = || wish(CommandId::from_uuid(mint::id()), Some([1; 32]), create_worker(&worker));
        superuser.batch_execute(harm).await.unwrap();
        let began = Instant::now();
        let refused = node.running.queue.submit(create()).await;
        let told =
            matches!(&refused, Err(CommandError::Fault(why)) if why.contains("the rights of portcullis_service"));
        assert!(told, "{what}: {refused:?}");
        assert!(began.elapsed() < Duration::from_secs(3), "{what}: after {:?}", began.elapsed());
        superuser.batch_execute(mend).await.unwrap();
        let made = node.running.queue.submit(create()).await;
        assert!(made.is_ok(), "{what}, mended: {made:?}");
    }
}

/// Each harm is told with the statement that undoes it, and that statement does.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_not_guarded_is_refused_at_start_with_the_remedy() {
    let table = [
        ("alter table log.event disable trigger event_append_only", "`event_append_only` on log.event "),
        ("alter table log.event enable trigger event_append_only", "`event_append_only` on log.event "),
        ("alter table log.event enable replica trigger event_no_truncate", "`event_no_truncate` on log.event "),
        ("drop trigger event_append_only on log.event", "`event_append_only` on log.event "),
        ("alter table log.event_p1 disable trigger event_append_only", "`event_append_only` on log.event_p1 "),
        ("drop trigger event_no_truncate on log.event_p0", "`event_no_truncate` on log.event_p0 "),
        ("alter table log.command disable trigger all", "`command_append_only` on log.command "),
        ("drop trigger command_no_truncate on log.command", "`command_no_truncate` on log.command "),
        ("drop trigger genesis_append_only on log.genesis", "`genesis_append_only` on log.genesis "),
        ("drop trigger head_forward on log.head", "`head_forward` on log.head "),
        ("drop trigger head_no_delete on log.head", "`head_no_delete` on log.head "),
        ("grant delete on log.event to portcullis_service", "log.event "),
        ("grant update (kind) on log.event_p0 to portcullis_service", "log.event_p0 "),
        ("grant truncate on log.command to public", "log.command "),
    ];
    let scratch = Scratch::new().await;
    TestNode::start(scratch.database().await).await.stop().await;
    let superuser = scratch.superuser().await;
    for (harm, named) in table {
        superuser.batch_execute(harm).await.unwrap();
        let refused = TestNode::try_start(scratch.database().await, keys()).await;
        let text = refused.err().unwrap_or_else(|| panic!("it starts after: {harm}")).to_string();
        assert!(text.contains(named), "{harm}: {text}");
        let remedy = text.rsplit('`').nth(1).unwrap();
        superuser.batch_execute(remedy).await.unwrap_or_else(|error| panic!("{remedy}: {error:?}"));
        let started = TestNode::try_start(scratch.database().await, keys()).await;
        started.unwrap_or_else(|error| panic!("{harm}: after {remedy}: {error}")).stop().await;
    }
}
