//! The projections of a running service: jobs, what is asked of them on another node, and when keys were last used.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::cluster::Scratch;
use crate::support::service::{Launch, Service};

/// A key of a new worker: its id, and the key.
async fn key(service: &Service) -> (String, String) {
    let worker = service.post("/v1/workers", json!({})).await.expect(201);
    let path = format!("/v1/workers/{}/keys", worker["id"].as_str().unwrap());
    let made = service.post(&path, json!({})).await.expect(201);
    (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
}

/// What a job has come to.
async fn finished(service: &Service, projection: &str, field: &str) -> Value {
    let path = format!("/v1/projections/{projection}");
    let ended = || async {
        let state = service.get(&path).await.expect(200)[field]["state"].clone();
        state != "waiting" && state != "running"
    };
    service.until("the job ends", ended).await;
    service.get(&path).await.expect(200)[field].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_just_made_is_in_the_next_list() {
    let scratch = Scratch::new().await;
    let one = Service::start(&scratch).await;
    for number in 0..20 {
        let id = format!("w-{number}");
        let made = one.post("/v1/workers", json!({ "id": id })).await;
        made.expect(201);
        let listed = one.get(&format!("/v1/workers?limit=1&cursor=w-{}", number.max(1) - 1)).await;
        assert!(listed.position() >= made.position(), "{listed:?}");
        let all = one.get("/v1/workers").await.expect(200);
        let ids: Vec<&str> = all["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
        assert!(ids.contains(&id.as_str()), "{ids:?}");
    }
}

/// The node that keeps the projections stands still, with its session and all: another goes on, and a list on that one
/// waits for it no longer than lists wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stands_still_does_not_keep_the_lists_of_others() {
    let scratch = Scratch::new().await;
    let keeper = Service::start(&scratch).await;
    key(&keeper).await;
    keeper.get("/v1/keys").await.expect(200);
    let root_key = keeper.file("root.key");
    let other = Launch::on(&scratch).variable("PORTCULLIS_ROOT_KEY_FILE", root_key.to_str().unwrap()).start().await;
    let pid = Pid::from_raw(i32::try_from(keeper.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let made = other.post_as(&keeper.token, "/v1/workers", json!({ "id": "w-1" })).await;
    made.expect(201);
    let listed = other.get_as(&keeper.token, "/v1/workers").await;
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(listed.expect(200)["items"].as_array().unwrap().len(), 2);
    // Awake again, it reads what the other keeps.
    let made = other.post_as(&keeper.token, "/v1/workers", json!({ "id": "w-2" })).await;
    made.expect(201);
    let sees = || async {
        let listed = keeper.get("/v1/workers").await;
        listed.status.is_success() && listed.position() >= made.position()
    };
    keeper.until("the one that stood still sees the new worker", sees).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projection_is_verified_and_rebuilt_while_it_is_read() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    for _ in 0..5 {
        key(&service).await;
    }
    let listed = service.get("/v1/workers").await.expect(200);
    let projections = service.get("/v1/projections").await.expect(200);
    let names: Vec<&str> =
        projections["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pools", "workers", "keys", "enrollment_secrets", "operators", "fences"]);

    service.post("/v1/projections/workers/verify", json!({})).await.expect(202);
    let verified = finished(&service, "workers", "verification").await;
    assert_eq!((&verified["state"], &verified["rows_done"]), (&json!("done"), &json!(5)), "{verified}");

    let superuser = scratch.superuser().await;
    superuser.batch_execute("update workers_1.worker set pool = 'stolen'").await.unwrap();
    service.post("/v1/projections/workers/verify", json!({})).await.expect(202);
    let verified = finished(&service, "workers", "verification").await;
    assert_eq!(verified["state"], "differs", "{verified}");
    assert!(verified["finding"].as_str().unwrap().contains("`pool` is \"stolen\""), "{verified}");

    let asked = service.post("/v1/projections/workers/rebuild", json!({})).await.expect(202);
    let rebuilt = loop {
        // Whatever stage it is at, the list is there.
        assert_eq!(service.get("/v1/workers").await.expect(200)["items"].as_array().unwrap().len(), 5);
        let rebuild = service.get("/v1/projections/workers").await.expect(200)["rebuild"].clone();
        if rebuild["state"] == "done" {
            break rebuild;
        }
    };
    assert_eq!((&rebuilt["id"], &rebuilt["rows_done"]), (&asked["id"], &json!(5)), "{rebuilt}");
    assert_eq!(service.get("/v1/workers").await.expect(200), listed);
    assert_eq!(service.get("/v1/projections/none").await.problem(404), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_of_a_key_is_shown_and_survives_the_service() {
    let scratch = Scratch::new().await;
    let mut service = Service::start(&scratch).await;
    let (used, secret) = key(&service).await;
    let (unused, _) = key(&service).await;
    let before = chrono::Utc::now();
    service.post("/v1/validate", json!({ "credential": secret })).await.expect(200);
    // Told to stop, it writes down what it has noted.
    assert!(service.stop(), "{}", service.log());
    let service = Launch::on(&scratch).data_dir_of(&service).start().await;
    let shown = service.get(&format!("/v1/keys/{used}")).await.expect(200);
    let at: chrono::DateTime<chrono::Utc> = shown["last_used_at"].as_str().unwrap().parse().unwrap();
    assert!((before - Duration::from_secs(1)..before + Duration::from_secs(60)).contains(&at), "{shown}");
    assert!(service.get(&format!("/v1/keys/{unused}")).await.expect(200).get("last_used_at").is_none());
    let listed = service.get("/v1/keys").await.expect(200);
    let listed: Vec<_> = listed["items"].as_array().unwrap().iter().filter(|item| item["id"] == used).collect();
    assert_eq!(listed[0]["last_used_at"], shown["last_used_at"]);
}

/// A gateway says from where a credential came; a worker that calls by itself is seen. Refused or not: it is where it is.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_key_is_shown_from_is_remembered_and_survives_the_service() {
    let scratch = Scratch::new().await;
    let mut service = Service::start(&scratch).await;
    let worker = service.post("/v1/workers", json!({})).await.expect(201)["id"].as_str().unwrap().to_owned();
    let made = service.post(&format!("/v1/workers/{worker}/keys"), json!({})).await.expect(201);
    let (id, secret) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    for source in ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7"] {
        service.post("/v1/validate", json!({ "credential": secret, "source": source })).await.expect(200);
    }
    service.send(service.request(reqwest::Method::GET, "/v1/worker").bearer_auth(secret)).await.expect(200);
    // From nowhere: a proxy that nobody trusts asks for somebody else.
    let check = service.send(service.request(reqwest::Method::GET, "/v1/check").bearer_auth(secret)).await;
    assert_eq!(check.status.as_u16(), 204);
    service.post(&format!("/v1/workers/{worker}/isolate"), json!({})).await.expect(200);
    let refused = json!({ "credential": secret, "source": "192.0.2.9" });
    assert_eq!(service.post("/v1/validate", refused).await.expect(200)["reason"], "worker_isolated");
    let wrong = format!("{}{}", &secret[..secret.len() - 10], "0000000000");
    service.post("/v1/validate", json!({ "credential": wrong, "source": "192.0.2.66" })).await.expect(200);
    assert!(service.stop(), "{}", service.log());

    let service = Launch::on(&scratch).data_dir_of(&service).start().await;
    let shown = service.get(&format!("/v1/keys/{id}")).await.expect(200);
    assert!(shown["first_used_at"].as_str() <= shown["last_used_at"].as_str(), "{shown}");
    let addresses = |shown: &serde_json::Value| {
        let sources = shown["sources"].as_array().unwrap().iter();
        sources.map(|source| source["address"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // The newest first.
    assert_eq!(addresses(&shown), ["192.0.2.9", "127.0.0.1", "192.0.2.7", "2001:db8::7"], "{shown}");
    assert!(
        shown["last_used_at"].as_str() < shown["sources"][0]["first_seen_at"].as_str(),
        "refused is not used: {shown}"
    );
    assert_eq!(shown["sources_forgotten"], 0);
    let of_worker = service.get(&format!("/v1/workers/{worker}/sources")).await.expect(200);
    assert_eq!((addresses(&of_worker), &of_worker["more"]), (addresses(&shown), &json!(false)));
    assert_eq!(of_worker["sources"][0]["key"], id);

    for last in 0..40 {
        let source = format!("198.51.100.{last}");
        service.post("/v1/validate", json!({ "credential": secret, "source": source })).await.expect(200);
    }
    let mut service = service;
    assert!(service.stop(), "{}", service.log());
    let service = Launch::on(&scratch).data_dir_of(&service).start().await;
    let shown = service.get(&format!("/v1/keys/{id}")).await.expect(200);
    assert_eq!((addresses(&shown).len(), addresses(&shown)[0].as_str()), (16, "198.51.100.39"));
    assert_eq!(shown["sources_forgotten"], 28, "all that came are counted");
}

/// What a list shows, but for when a key was used last: that is written down now and then, also between two questions.
async fn items_of(service: &Service, path: &str) -> Vec<Value> {
    let mut listed = service.get(path).await.expect(200);
    let items = listed["items"].as_array_mut().unwrap();
    for item in items.iter_mut() {
        item.as_object_mut().unwrap().remove("last_used_at");
    }
    std::mem::take(items)
}

/// Whatever was fenced, a list says of each thing what a look at that thing alone says, and a filter by a state finds those
/// that are in it.
#[tokio::test(flavor = "multi_thread")]
async fn lists_and_single_things_agree_about_fences() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let position = fenced_fleet(&service).await;

    for (path, filters) in [
        ("/v1/keys", ["live", "overlapping", "expired", "revoked", "fenced"].as_slice()),
        ("/v1/workers", &["pending", "active", "isolated"]),
        ("/v1/enrollment-secrets", &[]),
        ("/v1/pools", &[]),
        ("/v1/operators", &[]),
    ] {
        let items = items_of(&service, &format!("{path}?at_least={position}")).await;
        for item in items.iter().filter(|_| path != "/v1/operators") {
            let mut alone = service.get(&format!("{path}/{}", item["id"].as_str().unwrap())).await.expect(200);
            // What a list does not ask for, since it is no part of what it lists.
            for field in ["first_used_at", "last_used_at", "sources", "sources_forgotten"] {
                alone.as_object_mut().unwrap().remove(field);
            }
            assert_eq!(&alone, item, "{path}");
        }
        for state in filters {
            let found = items_of(&service, &format!("{path}?state={state}")).await;
            let expected: Vec<&Value> = items.iter().filter(|item| item["state"] == **state).collect();
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{path}: {state}");
        }
    }
    let keys = service.get("/v1/keys").await.expect(200);
    let of = |state: &str| keys["items"].as_array().unwrap().iter().filter(|key| key["state"] == state).count();
    assert_eq!((of("fenced"), of("overlapping"), of("revoked")), (5, 1, 1), "{keys}");
    let fences = service.get("/v1/fences").await.expect(200);
    let scopes: Vec<&str> =
        fences["items"].as_array().unwrap().iter().map(|item| item["scope"].as_str().unwrap()).collect();
    assert!(scopes.is_sorted() && scopes.len() == 3, "{scopes:?}");
    for projection in ["workers", "keys", "enrollment_secrets", "fences"] {
        service.post(&format!("/v1/projections/{projection}/verify"), json!({})).await.expect(202);
        let verified = finished(&service, projection, "verification").await;
        assert_eq!(verified["state"], "done", "{verified}");
    }
}

/// Fences over a worker, a pool, and at an earlier position over what an enrollment secret let in. Answers the newest position.
async fn fenced_fleet(service: &Service) -> u64 {
    let raise = async |body: Value| service.post("/v1/fences", body).await.expect(200);
    service.post("/v1/pools", json!({ "name": "blue" })).await.expect(201);
    let made = service.post("/v1/enrollment-secrets", json!({ "pool": "default" })).await.expect(201);
    let before = service.get("/v1/whoami").await.position();
    for _ in 0..2 {
        // What came of the secret after the fence's position falls with it.
        service.post_as(made["secret"].as_str().unwrap(), "/v1/enroll", json!({})).await.expect(201);
    }
    for (id, pool) in [("a", "default"), ("b", "blue"), ("c", "blue"), ("d", "default"), ("e", "default")] {
        service.post("/v1/workers", json!({ "id": id, "pool": pool })).await.expect(201);
        service.post(&format!("/v1/workers/{id}/keys"), json!({})).await.expect(201);
    }
    raise(json!({ "scope": "worker:a" })).await;
    raise(json!({ "scope": "pool:blue" })).await;
    let lineage = format!("enrollment_secret:{}", made["id"].as_str().unwrap());
    raise(json!({ "scope": lineage, "up_to": before })).await;
    service.post("/v1/workers/b/keys", json!({})).await.expect(201);
    let keys_of = async |worker: &str| {
        let keys = service.get(&format!("/v1/workers/{worker}/keys")).await.expect(200);
        keys["items"][0]["id"].as_str().unwrap().to_owned()
    };
    service.post(&format!("/v1/keys/{}/revoke", keys_of("d").await), json!({})).await.expect(200);
    service.post(&format!("/v1/keys/{}/rotate", keys_of("e").await), json!({})).await.expect(201);
    service.post("/v1/workers/c/isolate", json!({})).await.position()
}

/// What was written on one node is in a list of the other that asks for its position, fences and all.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_another_node_waits_for_the_position_that_it_is_asked_for() {
    let scratch = Scratch::new().await;
    let one = Service::start(&scratch).await;
    let root_key = one.file("root.key");
    let other = Launch::on(&scratch).variable("PORTCULLIS_ROOT_KEY_FILE", root_key.to_str().unwrap()).start().await;
    for number in 0..10 {
        let (key, _) = key(&one).await;
        let fence = one.post("/v1/fences", json!({ "scope": "everything" })).await;
        let path = format!("/v1/keys?state=fenced&limit=1000&at_least={}", fence.position());
        let listed = other.get_as(&one.token, &path).await;
        assert!(listed.position() >= fence.position(), "{listed:?}");
        let items = listed.expect(200)["items"].as_array().unwrap().clone();
        assert_eq!((items.len(), &items[number]["id"]), (number + 1, &json!(key)));
    }
    let far = other.get_as(&one.token, "/v1/keys?at_least=900000000").await;
    assert_eq!(far.problem(504), "position_not_reached");
}
