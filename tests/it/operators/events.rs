//! Events: found by position, kind and subject, and believed only where their seals and columns are right.

use serde_json::{Value, json};

use super::{all, text, wrong_field};
use crate::support::cluster::Scratch;
use crate::support::service::Service;

fn positions(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["position"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn events_are_found_by_position_kind_and_subject() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    for id in ["a", "b"] {
        service.post("/v1/workers", json!({ "id": id, "reason": "for the test" })).await.expect(201);
        service.post(&format!("/v1/workers/{id}/isolate"), json!({})).await.expect(200);
        service.post(&format!("/v1/workers/{id}/release"), json!({})).await.expect(200);
    }
    // The last that took access away is recorded to be in force everywhere: then nothing more is written.
    let isolated = service.get("/v1/events?kind=worker.isolated&order=desc&limit=1").await.expect(200);
    let in_force = format!("/v1/in-force/{}", isolated["items"][0]["position"]);
    service.until("it is recorded", async || !service.get(&in_force).await.json()["at"].is_null()).await;
    let newest = service.get("/v1/pools").await.position();
    let every: Vec<u64> = (0..=newest).collect();
    for limit in [1, 2, 1000] {
        let mut found = positions(&all(&service, &format!("/v1/events?limit={limit}")).await);
        assert_eq!(found, every, "dense, {limit} a page");
        let newest_first = positions(&all(&service, &format!("/v1/events?limit={limit}&order=desc")).await);
        found.reverse();
        assert_eq!(newest_first, found);
    }
    let isolated = all(&service, "/v1/events?limit=1&kind=worker.isolated").await;
    assert_eq!(isolated.iter().map(|event| text(&event["subject"], "id")).collect::<Vec<_>>(), ["a", "b"]);
    let of_a = all(&service, "/v1/events?limit=1&subject=worker:a").await;
    let kinds: Vec<&str> = of_a.iter().map(|event| text(event, "kind")).collect();
    assert_eq!(kinds, ["worker.created", "worker.isolated", "worker.released"]);
    assert_eq!(text(&of_a[0], "reason"), "for the test");
    let both = all(&service, "/v1/events?limit=1&subject=worker:a&kind=worker.released&order=desc").await;
    assert_eq!(positions(&both), [of_a[2]["position"].as_u64().unwrap()]);
    let from = of_a[1]["position"].as_u64().unwrap();
    let since = all(&service, &format!("/v1/events?limit=2&subject=worker:a&from={from}")).await;
    assert_eq!(since.len(), 2);
    let until = all(&service, &format!("/v1/events?limit=2&subject=worker:a&from={from}&order=desc")).await;
    assert_eq!(until.len(), 2);
    assert_eq!(all(&service, "/v1/events?limit=1&from=9007199254740991").await, Vec::<Value>::new());

    for (query, field) in [
        ("kind=worker.dreamt", "kind"),
        ("subject=a", "subject"),
        ("order=random", "order"),
        ("from=-1", "from"),
        ("cursor=x", "cursor"),
    ] {
        assert_eq!(wrong_field(&service.get(&format!("/v1/events?{query}")).await), field, "{query}");
    }
}

/// Whoever can write to the database can make a search find what it should not, and is found out.
#[tokio::test]
async fn an_event_whose_column_or_entry_was_changed_is_not_given_out() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    for id in ["a", "b"] {
        service.post("/v1/workers", json!({ "id": id })).await.expect(201);
    }
    let position = service.get("/v1/events?subject=worker:a").await.expect(200)["items"][0]["position"].clone();
    let superuser = scratch.superuser().await;
    let forge = |change: &'static str| {
        let statement = format!("update log.event set {change} where position = {position}");
        let superuser = &superuser;
        async move {
            superuser.batch_execute("alter table log.event disable trigger event_append_only").await.unwrap();
            superuser.batch_execute(&statement).await.unwrap();
        }
    };

    forge("subject_id = 'b'").await;
    let answer = service.get("/v1/events?subject=worker:b").await;
    assert_eq!(answer.problem(500), "log_tampered");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("subject_id") && detail.contains(&position.to_string()), "{detail}");

    forge("subject_id = 'a'").await;
    service.get("/v1/events?subject=worker:a").await.expect(200);
    forge("entry = convert_to(replace(convert_from(entry, 'UTF8'), '\"a\"', '\"z\"'), 'UTF8')").await;
    let answer = service.get("/v1/events?subject=worker:a").await;
    assert_eq!(answer.problem(500), "log_tampered");
    let named = format!("position {position}");
    assert!(answer.text.contains(&named), "{}", answer.text);
    let logged = service.log().lines().any(|line| line.contains("ERROR") && line.contains(&named));
    assert!(logged, "{}", service.log());
}

/// Whoever can change a table can change its columns too: what cannot be read is named.
#[tokio::test]
async fn an_event_in_a_column_of_another_type_is_not_given_out() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let retype = "alter table log.event drop constraint event_mac_length;
                  alter table log.event alter column mac type text using encode(mac, 'hex')";
    scratch.superuser().await.batch_execute(retype).await.unwrap();
    let answer = service.get("/v1/events?from=1").await;
    assert_eq!(answer.problem(500), "log_tampered");
    assert!(answer.text.contains("`mac`") && answer.text.contains("position 1"), "{}", answer.text);
}
