//! What operators do over HTTP: for each resource that it works, who may not, what is refused and how, and what a repeat
//! answers.

mod access;
mod enrollment_secrets;
mod events;
mod keys;
mod signing_keys;
mod workers;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{Answer, Service};

/// The API key of a fresh operator of this role.
async fn operator(service: &Service, role: &str) -> String {
    let answer = service.post("/v1/operators", json!({ "name": format!("an {role}"), "role": role })).await;
    answer.expect(201)["key"].as_str().unwrap().to_owned()
}

/// A command of the admin's with an `Idempotency-Key`.
async fn once(service: &Service, path: &str, key: &str, body: &Value) -> Answer {
    let request = service.request(Method::POST, path).bearer_auth(&service.token);
    service.send(request.header("Idempotency-Key", key).json(body)).await
}

async fn send(service: &Service, method: Method, path: &str, body: &Value) -> Answer {
    service.send(service.request(method, path).bearer_auth(&service.token).json(body)).await
}

#[track_caller]
fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {value}"))
}

/// The field that a refused input is about.
#[track_caller]
fn wrong_field(answer: &Answer) -> String {
    assert_eq!(answer.problem(400), "invalid");
    text(&answer.json(), "field").to_owned()
}

/// All items of a list, page by page.
async fn all(service: &Service, path: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = service.get(&format!("{path}{cursor}")).await.expect(200);
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}
