//! Bodies that are too large, too slow, or of the wrong kind: each is told what it is, at once, and holds nothing up.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::cluster::Scratch;
use crate::support::service::{Launch, Service};

/// Over HTTP/1.1 in clear, so that a body can stop wherever the test wants it to.
async fn service(scratch: &Scratch) -> Service {
    Launch::on(scratch).flag("--disable-tls").argument("--request-timeout", "2s").start().await
}

/// Sends the head of a request of the admin and this much of its body; and returns the answer's status and body.
async fn answer_to(service: &Service, content_type: &str, length: usize, body: &str) -> (u16, Value) {
    let address = service.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let token = &service.token;
    let request = format!(
        "POST /v1/pools HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: {content_type}\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_not_waited_for() {
    let scratch = Scratch::new().await;
    let service = service(&scratch).await;
    let began = Instant::now();
    let (status, problem) = answer_to(&service, "application/json", 2 << 20, "{").await;
    assert_eq!((status, &problem["code"]), (413, &"payload_too_large".into()), "{problem}");
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_body_that_does_not_come_is_its_senders_fault() {
    let scratch = Scratch::new().await;
    let service = service(&scratch).await;
    let (status, problem) = answer_to(&service, "application/json", 20, "{").await;
    assert_eq!((status, &problem["code"]), (408, &"body_timeout".into()), "{problem}");
}

#[tokio::test]
async fn a_form_is_told_what_is_wanted_instead() {
    let scratch = Scratch::new().await;
    let service = service(&scratch).await;
    let (status, problem) = answer_to(&service, "multipart/form-data; boundary=x", 2, "{}").await;
    assert_eq!((status, &problem["code"]), (415, &"unsupported_media_type".into()), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("a form cannot be read here"), "{problem}");
    let (status, problem) = answer_to(&service, "application/x-www-form-urlencoded", 6, "name=a").await;
    assert_eq!((status, &problem["code"]), (400, &"malformed".into()), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("a form cannot be read here"), "{problem}");
}
