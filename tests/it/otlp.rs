//! What a collector gets over OTLP: a real gRPC receiver takes the spans and the metrics of a running service, and the
//! test looks at what arrived.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, async_trait};

use crate::support::cluster::{Scratch, free_port};
use crate::support::service::{Launch, Service};

/// The trace that the test's own request belongs to, as its caller says.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER_SPAN: &str = "00f067aa0ba902b7";

/// A collector that keeps everything.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    metrics: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
}

#[async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.spans.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

// === impl Collector ===

impl Collector {
    /// Listens, and says where.
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let package = "/opentelemetry.proto.collector";
        let router = axum::Router::new()
            .route_service(&format!("{package}.trace.v1.TraceService/Export"), TraceServiceServer::new(self.clone()))
            .route_service(
                &format!("{package}.metrics.v1.MetricsService/Export"),
                MetricsServiceServer::new(self.clone()),
            );
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    fn spans(&self) -> Vec<Span> {
        let received = self.spans.lock().unwrap();
        let resources = received.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }

    fn span(&self, is: impl Fn(&Span) -> bool) -> Option<Span> {
        self.spans().into_iter().find(is)
    }

    fn metric_names(&self) -> Vec<String> {
        let received = self.metrics.lock().unwrap();
        let resources = received.iter().flat_map(|request| &request.resource_metrics);
        let metrics = resources.flat_map(|resource| &resource.scope_metrics).flat_map(|scope| &scope.metrics);
        metrics.map(|metric| metric.name.clone()).collect()
    }

    /// All of it as text.
    fn everything(&self) -> String {
        format!("{:?}{:?}", self.spans.lock().unwrap(), self.metrics.lock().unwrap())
    }
}

/// A service that sends what it has to `collector`, more often than it would by itself.
async fn observed(scratch: &Scratch, collector: &str) -> Service {
    Launch::on(scratch)
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
        .variable("OTEL_BSP_SCHEDULE_DELAY", "100")
        .variable("OTEL_METRIC_EXPORT_INTERVAL", "200")
        .start()
        .await
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Attribute::StringValue(text) => Some(text.clone()),
        Attribute::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_trace_through_to_the_append() {
    let scratch = Scratch::new().await;
    let collector = Collector::default();
    let service = observed(&scratch, &collector.start().await).await;
    let caller = format!("00-{TRACE}-{CALLER_SPAN}-01");
    let request = service.request(Method::POST, "/v1/workers").bearer_auth(&service.token);
    let created = service.send(request.header("traceparent", caller).json(&json!({ "id": "observed" }))).await;
    created.expect(201);
    let key = service.post("/v1/workers/observed/keys", json!({})).await.expect(201);
    let key = key["key"].as_str().unwrap();
    let token = service.post_as(key, "/v1/register", json!({})).await.expect(200);
    let token = token["token"].as_str().unwrap();
    let verdict = service.post("/v1/validate", json!({ "credential": token })).await.expect(200);
    assert_eq!(verdict["active"], true);

    let is_validation = |span: &Span| attribute(span, "route").as_deref() == Some("/v1/validate");
    service.until("the last span arrives", async || collector.span(is_validation).is_some()).await;
    let of_trace = |name: &str| collector.span(|span| span.name == name && hex(&span.trace_id) == TRACE).unwrap();
    let (request, append) = (of_trace("request"), of_trace("append"));
    assert_eq!(hex(&request.parent_span_id), CALLER_SPAN, "the request is a part of its caller's trace");
    assert_eq!(append.parent_span_id, request.span_id, "the append is a part of the request");
    assert!(request.start_time_unix_nano <= append.start_time_unix_nano);
    assert!(append.end_time_unix_nano <= request.end_time_unix_nano, "it is over before the answer");
    assert_eq!(attribute(&request, "route").as_deref(), Some("/v1/workers"));
    assert_eq!(attribute(&request, "method").as_deref(), Some("POST"));
    let request_id = created.headers["x-request-id"].to_str().unwrap();
    assert_eq!(attribute(&request, "request_id").as_deref(), Some(request_id), "so that the log and the trace meet");
    assert_eq!(attribute(&append, "commands").as_deref(), Some("1"));

    for metric in ["portcullis_http_requests_total", "portcullis_commands_total", "portcullis_append_seconds"] {
        let arrived = async || collector.metric_names().iter().any(|name| name == metric);
        service.until(&format!("{metric} arrives"), arrived).await;
    }
    let everything = collector.everything();
    for secret in [&service.token, key, token] {
        // What stands between the underscores is the secret itself; of a token the last part is its signature.
        let part = secret.split(['_', '.']).max_by_key(|part| part.len()).unwrap();
        assert!(!everything.contains(secret) && !everything.contains(part), "a secret went to the collector");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_back_is_sent_at_the_end() {
    let scratch = Scratch::new().await;
    let collector = Collector::default();
    let endpoint = collector.start().await;
    // So rarely that only the end of the service can have sent it.
    let mut service = Launch::on(&scratch)
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
        .variable("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        .variable("OTEL_METRIC_EXPORT_INTERVAL", "3600000")
        .start()
        .await;
    service.post("/v1/workers", json!({ "id": "last" })).await.expect(201);
    assert!(service.stop());
    let is_last = |span: &Span| attribute(span, "route").as_deref() == Some("/v1/workers");
    assert!(collector.span(is_last).is_some(), "{:?}", collector.spans());
    assert!(collector.span(|span| span.name == "append").is_some(), "{:?}", collector.spans());
    assert!(collector.metric_names().iter().any(|name| name == "portcullis_commands_total"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_says_only_why() {
    // Nobody listens there; and there are no programs of Postgres there.
    let url = format!("postgres://portcullis@127.0.0.1:{}/portcullis", free_port());
    let nowhere = Launch::embedded();
    let empty = nowhere.data_dir().display().to_string();
    for (launch, why) in [
        (Launch::on_urls(&url, &url), "cannot connect to the database"),
        (nowhere.variable("PORTCULLIS_PG_BIN", &empty), "no usable Postgres"),
    ] {
        let Err(log) = launch.try_start().await else { panic!("it started without a database") };
        assert!(log.contains(why), "{log}");
        assert!(!log.contains("MeterProvider"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_log_takes_no_trace_away() {
    let scratch = Scratch::new().await;
    let collector = Collector::default();
    let endpoint = collector.start().await;
    let launch = Launch::on(&scratch).argument("--log", "error").variable("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    let mut service = launch.start().await;
    service.post("/v1/workers", json!({ "id": "quiet" })).await.expect(201);
    assert!(service.stop());
    assert!(!service.log().contains("INFO"), "{}", service.log());
    for name in ["request", "append"] {
        assert!(collector.span(|span| span.name == name).is_some(), "no span {name}: {:?}", collector.spans());
    }
}
