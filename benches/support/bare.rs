//! The ceiling of an HTTP service: a handler that reads the body, does nothing with it, and answers the same bytes.

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use portcullis::http::listen::{ListenOptions, Listener};
use portcullis::telemetry::Telemetry;
use portcullis::telemetry::metrics::Vocabulary;

use super::load::Answer;

/// Serves for as long as this process lives, and tells where.
pub(crate) async fn start(answer: &Answer) -> anyhow::Result<String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &answer.headers {
        // These two the server writes itself.
        if !["date", "content-length"].contains(&name.as_str()) {
            headers.insert(name.parse::<axum::http::HeaderName>()?, value.parse()?);
        }
    }
    let body = Bytes::from(answer.body.clone());
    let router = Router::new().route("/v1/validate", post(async move |_: Bytes| (headers.clone(), body.clone())));
    let telemetry = Telemetry::without_exporters()?;
    let nothing = Vocabulary {
        routes: &[],
        validation_outcomes: &[],
        commands: &[],
        command_outcomes: &[],
        auth_failure_reasons: &[],
    };
    let metrics = telemetry.metrics(&nothing)?;
    let options = ListenOptions::new(1_024, std::time::Duration::from_secs(1));
    let listener = Listener::bind(([127, 0, 0, 1], 0).into(), options).await?;
    let address = listener.address()?.to_string();
    tokio::spawn(async move { listener.serve(router, None, &metrics, std::future::pending()).await });
    Ok(address)
}
