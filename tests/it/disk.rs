//! A disk that is full: what cannot be written is refused and changes nothing, what needs no writing goes on, and once there
//! is room everything goes on.

use serde_json::json;
use tokio_postgres::error::SqlState;

use crate::support::cluster::{PrivateCluster, connect};
use crate::support::service::Launch;

/// Events that fit into what is left of the last page, and some.
const EVENTS_MAX: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_commands_and_stops_no_validation() {
    let cluster = PrivateCluster::start_with_small_disk().await;
    let service = Launch::on_urls(&cluster.url(), &cluster.owner_url()).start().await;
    service.post("/v1/workers", json!({ "id": "before" })).await.expect(201);
    let key = service.post("/v1/workers/before/keys", json!({})).await.expect(201);
    let credential = json!({ "credential": key["key"] });

    let owner = connect(&cluster.owner_url()).await.unwrap();
    let place = cluster.small_disk().display().to_string();
    owner.batch_execute(&format!("create tablespace small location '{place}'")).await.unwrap();
    let onto_it =
        "alter table log.event_p0 set tablespace small; create table public.filler (line text) tablespace small";
    owner.batch_execute(onto_it).await.unwrap();
    let fill = "insert into public.filler select repeat('x', 2000) from generate_series(1, 10000)";
    assert_eq!(owner.batch_execute(fill).await.unwrap_err().code(), Some(&SqlState::DISK_FULL));

    let mut refused = None;
    for number in 0..EVENTS_MAX {
        let worker = format!("w-{number}");
        let answer = service.post("/v1/workers", json!({ "id": worker })).await;
        if answer.status != 201 {
            refused = Some((worker, answer));
            break;
        }
    }
    let (worker, answer) = refused.expect("the disk is full");
    assert_eq!(answer.problem(503), "log_unavailable");
    assert_eq!(service.get(&format!("/v1/workers/{worker}")).await.status, 404, "nothing was changed");
    assert_eq!(service.post("/v1/validate", credential.clone()).await.expect(200)["active"], true);

    // Truncated, it would want new files first, and there is no room for any.
    owner.batch_execute("drop table public.filler").await.unwrap();
    service.post("/v1/workers", json!({ "id": worker })).await.expect(201);
    assert_eq!(service.post("/v1/validate", credential).await.expect(200)["active"], true);
}
