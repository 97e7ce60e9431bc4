//! Webhooks: a receiver that others could have written is told of events, in order, whatever breaks in between.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::cluster::Scratch;
use crate::support::program::python_client;
use crate::support::service::{Launch, Service};

const PATIENCE: Duration = Duration::from_secs(60);

/// A service of somebody else's, over HTTPS.
struct Receiver {
    url: String,
    folder: TempDir,
    told: Arc<Told>,
    serving: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Told {
    messages: Mutex<Vec<Value>>,
    /// What it answers before it answers 204.
    answers: Mutex<VecDeque<u16>>,
}

async fn take(State(told): State<Arc<Told>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    told.messages.lock().unwrap().push(json!({
        "id": header("webhook-id"),
        "timestamp": header("webhook-timestamp"),
        "signature": header("webhook-signature"),
        "body": String::from_utf8(body.to_vec()).unwrap(),
    }));
    let answer = told.answers.lock().unwrap().pop_front().unwrap_or(204);
    StatusCode::from_u16(answer).unwrap()
}

impl Receiver {
    async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), made.cert.pem()).unwrap();
        let (cert, key) = (made.cert.pem().into_bytes(), made.signing_key.serialize_pem().into_bytes());
        let tls = axum_server::tls_rustls::RustlsConfig::from_pem(cert, key).await.unwrap();
        let told = Arc::new(Told::default());
        let router = Router::new().route("/in", post(take)).with_state(told.clone());
        let handle = axum_server::Handle::<SocketAddr>::new();
        let server = axum_server::bind_rustls(([127, 0, 0, 1], 0).into(), tls).handle(handle.clone());
        let serving = tokio::spawn(async move { server.serve(router.into_make_service()).await.unwrap() });
        let address = handle.listening().await.unwrap();
        Self { url: format!("https://{address}/in"), folder, told, serving }
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn launch(&self, scratch: &Scratch) -> Launch {
        Launch::on(scratch).argument("--webhook-ca", self.ca_file().to_str().unwrap())
    }

    fn answers(&self, answers: &[u16]) {
        self.told.answers.lock().unwrap().extend(answers);
    }

    /// Waits until it was told so often.
    async fn messages(&self, count: usize) -> Vec<Value> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let messages = self.told.messages.lock().unwrap().clone();
            if messages.len() >= count {
                return messages;
            }
            assert!(Instant::now() < give_up, "told {messages:?}, and not {count} times");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn isolate(service: &Service, id: &str) -> u64 {
    service.post("/v1/workers", json!({ "id": id })).await.expect(201);
    let answer = service.post(&format!("/v1/workers/{id}/isolate"), json!({ "reason": "odd traffic" })).await;
    answer.expect(200);
    answer.position()
}

fn body(message: &Value) -> Value {
    serde_json::from_str(message["body"].as_str().unwrap()).unwrap()
}

fn ids(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["id"].as_str().unwrap()).collect()
}

fn events<'a>(listed: &'a Value, kind: &str) -> Vec<&'a Value> {
    listed["items"].as_array().unwrap().iter().filter(|event| event["kind"] == kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_told_in_order_and_again_until_it_takes_it_and_can_verify_who_speaks() {
    let (scratch, receiver) = (Scratch::new().await, Receiver::start().await);
    let service = receiver.launch(&scratch).start().await;
    let before = isolate(&service, "before").await;
    let made = service.post("/v1/webhooks", json!({ "url": receiver.url })).await.expect(201);
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    assert_eq!(made["kinds"], json!(["plan.applied", "worker.isolated"]));
    let tested = service.post(&format!("/v1/webhooks/{id}/test"), json!({})).await.expect(200);
    assert_eq!(tested, json!({ "delivered": true, "status": 204 }));

    receiver.answers(&[500, 503]);
    let first = isolate(&service, "w-1").await;
    let second = isolate(&service, "w-2").await;
    let messages = receiver.messages(5).await;
    let (of_first, of_second) = (format!("msg_{id}_{first}"), format!("msg_{id}_{second}"));
    let one = of_first.as_str();
    assert_eq!(ids(&messages)[1..], [one, one, one, &of_second], "from before it ({before}) it is told nothing");
    assert_eq!(body(&messages[0])["type"], "test");
    let told = body(&messages[1]);
    assert_eq!((&told["type"], &told["data"]["position"]), (&json!("worker.isolated"), &json!(first)));
    assert_eq!((&told["data"]["subject"]["id"], &told["data"]["reason"]), (&json!("w-1"), &json!("odd traffic")));
    let verified =
        python_client(include_str!("clients/webhook_verify.py"), &json!({ "secret": secret, "messages": messages }));
    assert_eq!(verified, json!([true, true, true, true, true]));
    let wrong =
        json!({ "secret": secret, "messages": [{ "id": "x", "timestamp": "1", "body": "", "signature": "v1,x" }] });
    assert_eq!(python_client(include_str!("clients/webhook_verify.py"), &wrong), json!([false]));

    let settled = || async {
        let shown = service.get(&format!("/v1/webhooks/{id}")).await.expect(200);
        shown["settled"] == second
    };
    service.until("both deliveries are recorded", settled).await;
    let listed = service.get(&format!("/v1/events?subject=webhook:{id}")).await.expect(200);
    let delivered = events(&listed, "webhook.delivered");
    let data = |event: &Value| (event["data"]["position"].clone(), event["data"]["attempts"].clone());
    assert_eq!(
        delivered.iter().map(|event| data(event)).collect::<Vec<_>>(),
        [(json!(first), json!(3)), (json!(second), json!(1)),]
    );
    assert!(!listed.to_string().contains(secret) && !listed.to_string().contains(&secret[6..]));

    let disabled = service.request(reqwest::Method::PATCH, &format!("/v1/webhooks/{id}"));
    service.send(disabled.bearer_auth(&service.token).json(&json!({ "enabled": false }))).await.expect(200);
    isolate(&service, "w-3").await;
    let removed = service.request(reqwest::Method::DELETE, &format!("/v1/webhooks/{id}"));
    service.send(removed.bearer_auth(&service.token)).await.expect(200);
    assert_eq!(service.get(&format!("/v1/webhooks/{id}")).await.problem(404), "not_found");
    assert_eq!(receiver.messages(5).await.len(), 5, "told what happened while it was to be told nothing");
}

/// A message that is never taken is recorded as that, and does not hold up the next: as often as was asked for, or less often
/// where the receiver says that it is the message.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_never_taken_is_given_up_and_the_next_is_told() {
    for (most, answers, why) in [("2", [500, 503].as_slice(), "status 503"), ("8", &[422, 500, 422], "status 422")] {
        let (scratch, receiver) = (Scratch::new().await, Receiver::start().await);
        let service = receiver.launch(&scratch).argument("--webhook-attempts", most).start().await;
        let made = service.post("/v1/webhooks", json!({ "url": receiver.url })).await.expect(201);
        let id = made["id"].as_str().unwrap();
        receiver.answers(answers);
        let first = isolate(&service, "w-1").await;
        let second = isolate(&service, "w-2").await;
        let settled = || async { service.get(&format!("/v1/webhooks/{id}")).await.expect(200)["settled"] == second };
        service.until("both are recorded", settled).await;
        let (of_first, of_second) = (format!("msg_{id}_{first}"), format!("msg_{id}_{second}"));
        let mut expected = vec![of_first; answers.len()];
        expected.push(of_second);
        assert_eq!(ids(&receiver.messages(expected.len()).await), expected);
        let listed = service.get(&format!("/v1/events?subject=webhook:{id}")).await.expect(200);
        let failed = events(&listed, "webhook.failed");
        assert_eq!(failed.len(), 1);
        let data = &failed[0]["data"];
        assert_eq!(
            (&data["position"], &data["attempts"], &data["why"]),
            (&json!(first), &json!(answers.len()), &json!(why))
        );
        assert_eq!(events(&listed, "webhook.delivered").len(), 1);
    }
}

/// The node that was telling is killed in the middle: another goes on, with the same `webhook-id`.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_its_way_is_told_by_the_next_node() {
    let (scratch, receiver) = (Scratch::new().await, Receiver::start().await);
    let mut first = receiver.launch(&scratch).start().await;
    let made =
        first.post("/v1/webhooks", json!({ "url": receiver.url, "kinds": ["worker.isolated"] })).await.expect(201);
    let id = made["id"].as_str().unwrap().to_owned();
    receiver.answers(&[500]);
    let position = isolate(&first, "w-1").await;
    receiver.messages(1).await;
    first.kill();
    let second = receiver.launch(&scratch).data_dir_of(&first).start().await;
    let messages = receiver.messages(2).await;
    let same = format!("msg_{id}_{position}");
    assert!(ids(&messages).iter().all(|told| *told == same), "{messages:?}");
    let settled = || async { second.get(&format!("/v1/webhooks/{id}")).await.expect(200)["settled"] == position };
    second.until("the delivery is recorded", settled).await;
    let listed = second.get(&format!("/v1/events?subject=webhook:{id}")).await.expect(200);
    assert_eq!(events(&listed, "webhook.delivered").len(), 1);
}

/// What was recorded before somebody wanted to know of it is not told, and least of all by whoever comes after.
#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_is_added_is_told_from_then_on() {
    let (scratch, receiver) = (Scratch::new().await, Receiver::start().await);
    let mut service = receiver.launch(&scratch).start().await;
    let wish = json!({ "url": receiver.url, "kinds": ["worker.isolated"] });
    let made = service.post("/v1/webhooks", wish).await.expect(201);
    let isolated = isolate(&service, "w-1").await;
    service.post("/v1/workers/w-1/release", json!({})).await.expect(200);
    let path = format!("/v1/webhooks/{}", made["id"].as_str().unwrap());
    service.until("it is told", async || service.get(&path).await.expect(200)["settled"] == isolated).await;
    let request = service.request(reqwest::Method::PATCH, &path).bearer_auth(&service.token);
    let kinds = json!({ "kinds": ["worker.isolated", "worker.released"] });
    service.send(request.json(&kinds)).await.expect(200);
    service.kill();
    let service = receiver.launch(&scratch).data_dir_of(&service).start().await;
    isolate(&service, "w-2").await;
    service.post("/v1/workers/w-2/release", json!({})).await.expect(200);
    let messages = receiver.messages(3).await;
    let told = messages.iter().map(|message| {
        let body = body(message);
        format!("{} {}", body["type"].as_str().unwrap(), body["data"]["subject"]["id"].as_str().unwrap())
    });
    let told: Vec<String> = told.collect();
    assert_eq!(told, ["worker.isolated w-1", "worker.isolated w-2", "worker.released w-2"]);
}

/// Of two nodes, one tells.
#[tokio::test(flavor = "multi_thread")]
async fn of_several_nodes_one_tells() {
    let (scratch, receiver) = (Scratch::new().await, Receiver::start().await);
    let one = receiver.launch(&scratch).start().await;
    let key = std::fs::read(one.file("root.key")).unwrap();
    let other = receiver.launch(&scratch);
    std::fs::write(other.data_dir().join("root.key"), key).unwrap();
    std::fs::set_permissions(other.data_dir().join("root.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let other = other.start().await;
    let made = one.post("/v1/webhooks", json!({ "url": receiver.url, "kinds": ["worker.isolated"] })).await.expect(201);
    let id = made["id"].as_str().unwrap();
    let mut newest = 0;
    for number in 0..5 {
        newest = isolate(&one, &format!("w-{number}")).await;
    }
    let settled =
        || async { other.get_as(&one.token, &format!("/v1/webhooks/{id}")).await.expect(200)["settled"] == newest };
    one.until("all is told", settled).await;
    assert_eq!(receiver.messages(5).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_called_is_refused() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    for body in [
        json!({ "url": "http://hooks.example.org/" }),
        json!({ "url": "https://169.254.169.254/latest/meta-data" }),
        json!({ "url": "https://ana:secret@hooks.example.org/" }),
        json!({ "url": "https://hooks.example.org/", "kinds": ["webhook.delivered"] }),
        json!({ "url": "https://hooks.example.org/", "kinds": ["key.created"] }),
        json!({ "url": "https://hooks.example.org/", "kinds": [] }),
    ] {
        assert_eq!(service.post("/v1/webhooks", body.clone()).await.problem(400), "invalid", "{body}");
    }
}
