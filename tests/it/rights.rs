//! What the service may do in its database: where it may less than it needs, it says so at once.

use std::time::{Duration, Instant};

use portcullis::command::{CommandError, mint};
use portcullis::domain::ids::CommandId;

use crate::support::cluster::Scratch;
use crate::support::node::{TestNode, create_worker, wish};

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
