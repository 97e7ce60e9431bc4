//! Keys and static secrets: created, shared, rotated, revoked.

use serde_json::{Value, json};

use super::{once, text, wrong_field};
use crate::support::cluster::Scratch;
use crate::support::service::Service;

const SECRET: &str = "Wb3nT8yQkz0-fJ5rVhLx2mPcEa7_uGdSi9oRtYw4KvBq";
const OTHER_SECRET: &str = "q7ZkD1xR-9vJmT4sLhYc_2pWnE6uGbA8oFiC5tXrK3dQ";

#[tokio::test]
async fn a_key_is_shown_once_rotated_and_revoked_with_what_it_made() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    service.post("/v1/workers", json!({ "id": "w" })).await.expect(201);

    let first = once(&service, "/v1/workers/w/keys", "k", &json!({})).await.expect(201);
    assert_eq!(
        once(&service, "/v1/workers/w/keys", "k", &json!({})).await.expect(201),
        first,
        "shown again to a repeat"
    );
    let (id, key) = (text(&first, "id"), text(&first, "key"));
    let read = service.get(&format!("/v1/keys/{id}")).await;
    assert_eq!(text(&read.expect(200), "state"), "live");
    assert!(!read.text.contains(key), "and never otherwise");
    assert_eq!(service.get_as(key, "/v1/whoami").await.expect(200)["worker"]["id"], "w");

    let rotated = service.post(&format!("/v1/keys/{id}/rotate"), json!({ "overlap": "1h" })).await.expect(201);
    assert_eq!((text(&rotated, "parent"), &rotated["derived"]), (id, &json!(false)));
    assert!(rotated["overlap_until"].is_string());
    assert_eq!(text(&service.get(&format!("/v1/keys/{id}")).await.expect(200), "state"), "overlapping");
    assert_eq!(service.get_as(key, "/v1/whoami").await.status, 200, "the old one works for the overlap");
    let rotate = format!("/v1/keys/{}/rotate", text(&rotated, "id"));
    let now = service.post(&rotate, json!({ "overlap": "0s" })).await.expect(201);
    assert_eq!(service.get_as(text(&rotated, "key"), "/v1/whoami").await.status, 401, "an overlap of zero is now");

    // What the holder made with the key itself goes with it.
    let by_worker = service.post_as(text(&now, "key"), "/v1/worker/key/rotate", json!({})).await.expect(201);
    let path = format!("/v1/keys/{}/revoke", text(&now, "id"));
    let revoked = service.post(&path, json!({ "reason": "leaked" })).await.expect(200);
    let mut ids: Vec<&str> = revoked["revoked"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    ids.sort_unstable();
    assert_eq!(ids, [text(&now, "id"), text(&by_worker, "id")]);
    assert_eq!(text(&revoked, "state"), "revoked");
    let again = service.post(&path, json!({})).await.expect(200);
    assert_eq!((&again["changed"], &again["revoked"]), (&json!(false), &json!([])));
    assert_eq!(service.post(&path.replace("revoke", "rotate"), json!({})).await.problem(409), "key_revoked");

    let listed = service.get("/v1/workers/w/keys").await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 4, "whatever their state");
    assert_eq!(service.get("/v1/keys?worker=w").await.expect(200), listed);
}

#[tokio::test]
async fn a_static_secret_is_kept_and_never_shown() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    service.post("/v1/workers", json!({ "id": "w" })).await.expect(201);
    let made = service.post("/v1/workers/w/keys", json!({ "static_secret": SECRET })).await;
    assert!(!made.text.contains(SECRET));
    let made = made.expect(201);
    assert_eq!((text(&made, "kind"), made.get("key")), ("static_secret", None));
    let again = service.post("/v1/workers/w/keys", json!({ "static_secret": SECRET })).await.expect(200);
    assert_eq!(again["id"], made["id"], "the same value for the same worker is there already");
    service.post("/v1/workers", json!({ "id": "other" })).await.expect(201);
    let taken = service.post("/v1/workers/other/keys", json!({ "static_secret": SECRET })).await;
    assert_eq!(taken.problem(409), "static_secret_in_use");

    let rotate = format!("/v1/keys/{}/rotate", text(&made, "id"));
    assert_eq!(service.post(&rotate, json!({})).await.problem(400), "key_kind");
    let rotated = service.post(&rotate, json!({ "static_secret": OTHER_SECRET })).await.expect(201);
    assert_eq!(rotated.get("key"), None);
}

#[tokio::test]
async fn sharing_is_listed_as_a_risk() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    service.post("/v1/pools", json!({ "name": "loose", "sharing": true })).await.expect(201);
    for id in ["a", "b", "c"] {
        service.post("/v1/workers", json!({ "id": id, "pool": "loose" })).await.expect(201);
    }
    let key = service.post("/v1/workers/a/keys", json!({})).await.expect(201);
    assert_eq!(service.get("/v1/keys?shared=true").await.expect(200)["items"], json!([]));
    let share = json!({ "share": key["id"] });
    let shared = service.post("/v1/workers/b/keys", share.clone()).await.expect(201);
    assert_eq!((&shared["id"], &shared["workers"], shared.get("key")), (&key["id"], &json!(["a", "b"]), None));
    service.post("/v1/workers/b/keys", share).await.expect(200);
    for id in ["b", "c"] {
        service.post(&format!("/v1/workers/{id}/keys"), json!({ "static_secret": SECRET })).await.expect(201);
    }
    let risks = service.get("/v1/keys?shared=true").await.expect(200);
    assert_eq!(risks["items"].as_array().unwrap().len(), 3);
    let page = service.get("/v1/keys?shared=true&limit=2").await.expect(200);
    let rest = format!("/v1/keys?shared=true&cursor={}", text(&page, "next_cursor"));
    assert_eq!(service.get(&rest).await.expect(200)["items"], json!([risks["items"][2]]));
    let of_c = service.get("/v1/keys?shared=true&worker=c").await.expect(200);
    assert_eq!(of_c["items"].as_array().unwrap().len(), 1);
    assert_eq!(service.get("/v1/workers/a").await.expect(200)["shared_keys"], true);
    service.post("/v1/workers", json!({ "id": "strict" })).await.expect(201);
    let own = service.post("/v1/workers/strict/keys", json!({})).await.expect(201);
    let across = service.post("/v1/workers/a/keys", json!({ "share": own["id"] })).await;
    assert_eq!(across.problem(409), "shared_across_pools");
}

/// H24: a credential that no list shows cannot be revoked.
#[tokio::test]
async fn every_key_is_in_the_list_of_all_once() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    service.post("/v1/pools", json!({ "name": "loose", "sharing": true })).await.expect(201);
    let mut made: Vec<String> = Vec::new();
    for (id, pool) in [("b", "loose"), ("a", "loose"), ("c", "default"), ("without-keys", "default")] {
        service.post("/v1/workers", json!({ "id": id, "pool": pool })).await.expect(201);
    }
    for body in [json!({}), json!({}), json!({ "static_secret": SECRET })] {
        made.push(text(&service.post("/v1/workers/b/keys", body).await.expect(201), "id").to_owned());
    }
    service.post("/v1/workers/a/keys", json!({ "share": made[0] })).await.expect(201);
    let of_c = service.post("/v1/workers/c/keys", json!({})).await.expect(201);
    let rotated = service.post(&format!("/v1/keys/{}/rotate", text(&of_c, "id")), json!({})).await.expect(201);
    service.post(&format!("/v1/keys/{}/revoke", made[1]), json!({})).await.expect(200);
    let operator = service.post("/v1/operators", json!({ "name": "eve", "role": "auditor" })).await.expect(201);
    let bootstrap = service.token.split('_').nth(2).unwrap();
    made.extend([text(&of_c, "id"), text(&rotated, "id"), text(&operator, "key_id"), bootstrap].map(str::to_owned));
    made.sort_unstable();

    let ids = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|key| text(key, "id").to_owned()).collect()
    };
    let whole = service.get("/v1/keys").await.expect(200);
    let in_order = ids(&whole);
    let mut sorted = in_order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, made);
    let (mut paged, mut next) = (Vec::new(), "/v1/keys?limit=1".to_owned());
    loop {
        let page = service.get(&next).await.expect(200);
        paged.extend(ids(&page));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        next = format!("/v1/keys?limit=1&cursor={cursor}");
    }
    assert_eq!(paged, in_order, "a page at a time they are the same");

    let table = [
        ("pool=loose", 3),
        ("pool=default", 2),
        ("state=revoked", 1),
        ("state=overlapping", 1),
        ("state=live", 5),
        ("state=live&pool=default", 1),
        ("kind=static_secret", 1),
        ("worker=b&kind=api_key&state=live", 1),
        ("shared=true&pool=default", 0),
        ("pool=nowhere", 0),
    ];
    for (query, count) in table {
        let found = ids(&service.get(&format!("/v1/keys?{query}")).await.expect(200));
        assert_eq!(found.len(), count, "{query}: {found:?}");
    }
}

#[tokio::test]
async fn bad_input_names_the_field() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    service.post("/v1/workers", json!({ "id": "w" })).await.expect(201);
    let key = service.post("/v1/workers/w/keys", json!({})).await.expect(201);
    let rotate = format!("/v1/keys/{}/rotate", text(&key, "id"));
    let table = [
        ("/v1/workers/w/keys", json!({ "expires_at": "2020-01-01T00:00:00Z" }), "expires_at"),
        ("/v1/workers/w/keys", json!({ "share": "x" }), "share"),
        ("/v1/workers/w/keys", json!({ "share": key["id"], "static_secret": SECRET }), "share"),
        (rotate.as_str(), json!({ "overlap": "1 eon" }), "overlap"),
        (rotate.as_str(), json!({ "overlap": "91d" }), "overlap"),
    ];
    for (path, body, field) in table {
        assert_eq!(wrong_field(&service.post(path, body.clone()).await), field, "{body}");
    }
    for query in ["state=dead", "kind=ssh", "pool=%20", "cursor=x", "limit=0"] {
        let field = query.split('=').next().unwrap();
        assert_eq!(wrong_field(&service.get(&format!("/v1/keys?{query}")).await), field);
    }
    assert_eq!(service.get("/v1/keys?cursor=0000000000000000000001").await.problem(404), "not_found");
    assert_eq!(wrong_field(&service.get("/v1/keys?shared=perhaps").await), "shared");
    assert_eq!(service.get("/v1/keys?worker=nobody").await.problem(404), "not_found");
}

#[tokio::test]
async fn a_worker_is_told_the_end_of_the_overlap_that_holds() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    service.post("/v1/workers", json!({ "id": "w" })).await.expect(201);
    let made = service.post("/v1/workers/w/keys", json!({})).await.expect(201);
    let rotate = async |overlap: &str| {
        service.post_as(text(&made, "key"), "/v1/worker/key/rotate", json!({ "overlap": overlap })).await
    };
    let first = rotate("1h").await.expect(201);
    let twice = rotate("48h").await;
    assert_eq!(twice.problem(409), "key_already_rotated");
    assert!(twice.json()["detail"].as_str().unwrap().contains(text(&first, "id")), "{}", twice.text);
    // Where the answer was lost for good, an operator ends what nobody has.
    service.post(&format!("/v1/keys/{}/revoke", text(&first, "id")), json!({})).await.expect(200);
    let second = rotate("48h").await.expect(201);
    assert_ne!(second["id"], first["id"]);
    let old = service.get(&format!("/v1/keys/{}", text(&made, "id"))).await.expect(200);
    assert_eq!(old["ends_at"], first["overlap_until"], "another rotation makes it live no longer");
    assert_eq!(second["overlap_until"], first["overlap_until"]);
}

#[tokio::test]
async fn of_rotations_at_once_one_makes_a_successor() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    service.post("/v1/workers", json!({ "id": "w" })).await.expect(201);
    let made = service.post("/v1/workers/w/keys", json!({})).await.expect(201);
    let rotate = format!("/v1/keys/{}/rotate", text(&made, "id"));
    let all = futures_util::future::join_all((0..6).map(|_| service.post(&rotate, json!({})))).await;
    let mut statuses: Vec<u16> = all.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409]);
}
