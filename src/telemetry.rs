//! What the service tells about itself: log lines on standard error, Prometheus metrics, and, where a collector is
//! named, OpenTelemetry traces and metrics over OTLP.
//!
//! One meter provider feeds both `/metrics` and the collector, so the two cannot disagree.

pub mod metrics;
pub mod tables;

use std::io;

use axum::http::HeaderMap;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use prometheus::{Registry, TextEncoder};
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

pub use self::metrics::Metrics;
use self::metrics::Vocabulary;

const SERVICE: &str = "portcullis";

/// What of it all is wanted.
#[derive(Clone, Debug)]
pub struct TelemetryOptions {
    pub log_format: LogFormat,
    /// Levels by module, as `tracing_subscriber::EnvFilter` reads them.
    pub log_filter: String,
    pub otlp_endpoint: Option<String>,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// Keeps the exporters alive, and flushes them at the end.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    meters: SdkMeterProvider,
    traces: Option<SdkTracerProvider>,
}

/// Joins the traces of callers, when traces are collected at all.
#[derive(Clone, Copy, Debug)]
pub struct TraceJoin {
    enabled: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("`--log` (PORTCULLIS_LOG) is no filter: {0}; write `info`, or `info,portcullis::http=debug`")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("cannot set up the OTLP exporter: {0}; check `--otlp-endpoint` (OTEL_EXPORTER_OTLP_ENDPOINT)")]
    Otlp(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("cannot set up the Prometheus exporter: {0}")]
    Prometheus(#[from] opentelemetry_sdk::error::OTelSdkError),
    #[error("cannot register the metrics: {0}")]
    Registry(#[from] prometheus::Error),
    #[error("logging was set up twice in one process: {0}")]
    AlreadySet(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// Starts logging for the whole process, and the exporters.
///
/// Call it once, inside the async runtime: the gRPC exporter is bound to the runtime that it is built in.
pub fn init(options: &TelemetryOptions) -> Result<Telemetry, TelemetryError> {
    let telemetry = Telemetry::new(options.otlp_endpoint.as_deref())?;
    let tracer = telemetry.traces.as_ref().map(|traces| traces.tracer(SERVICE));
    tracing::subscriber::set_global_default(subscriber(options, tracer, io::stderr)?)?;
    Ok(telemetry)
}

impl Telemetry {
    /// Metrics that are counted and go nowhere by themselves: for a node inside of another program.
    pub fn without_exporters() -> Result<Self, TelemetryError> {
        Self::new(None)
    }

    pub(crate) fn new(otlp_endpoint: Option<&str>) -> Result<Self, TelemetryError> {
        let resource = Resource::builder()
            .with_service_name(SERVICE)
            .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let registry = Registry::new();
        // Our instruments carry their full Prometheus names; suffixes added by the exporter would double them.
        let prometheus = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_units()
            .without_counter_suffixes()
            .build()?;
        let mut meters = SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(prometheus);
        let mut traces = None;
        if let Some(endpoint) = otlp_endpoint {
            let metrics = opentelemetry_otlp::MetricExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
            meters = meters.with_periodic_exporter(metrics);
            let spans = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
            traces = Some(
                SdkTracerProvider::builder()
                    .with_resource(resource)
                    // A caller that samples has its wish; a caller that says nothing is traced.
                    .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
                    .with_batch_exporter(spans)
                    .build(),
            );
        }
        Ok(Self { registry, meters: meters.build(), traces })
    }

    /// Makes the instruments. Once: a second set would be a second time series of the same name.
    pub fn metrics(&self, vocabulary: &Vocabulary) -> Result<Metrics, TelemetryError> {
        Ok(Metrics::new(&self.meters.meter(SERVICE), &self.registry, vocabulary)?)
    }

    /// What `/metrics` answers, in the Prometheus text format 0.0.4.
    pub fn render(&self) -> Result<String, TelemetryError> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }

    /// How requests join the traces of their callers.
    pub fn trace_join(&self) -> TraceJoin {
        TraceJoin { enabled: self.traces.is_some() }
    }

    /// Sends what is still held back. On a thread of its own: the exporters block while they flush, and the runtime
    /// that they would block is the one that carries their requests.
    pub async fn shutdown(self) {
        let flush = tokio::task::spawn_blocking(move || {
            let traces = self.traces.map_or(Ok(()), |traces| traces.shutdown());
            traces.and(self.meters.shutdown())
        });
        match flush.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "The last traces or metrics could not be sent"),
            Err(error) => tracing::warn!(%error, "The flush of traces and metrics broke off"),
        }
    }
}

impl TraceJoin {
    pub fn enabled(self) -> bool {
        self.enabled
    }

    /// Makes `span` a part of the trace that the caller named in `traceparent`, if it named one.
    pub fn join(self, span: &Span, headers: &HeaderMap) {
        if !self.enabled || !headers.contains_key("traceparent") {
            return;
        }
        let parent = TraceContextPropagator::new().extract(&Headers(headers));
        // It fails for a span that the filter turned off, which then needs no parent.
        let _ = span.set_parent(parent);
    }
}

/// Headers as the propagator reads them.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

fn subscriber<W>(
    options: &TelemetryOptions,
    tracer: Option<SdkTracer>,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + use<W>, TelemetryError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match options.log_format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    // Our own spans only: with `--log debug` the exporter's HTTP client makes some too, and to export those would make
    // more of them, for ever.
    // And whatever is written as lines: who wants to read less has not said that nothing shall be traced.
    let ours = filter_fn(|metadata| metadata.target().starts_with(SERVICE) && *metadata.level() <= Level::INFO);
    let spans = tracer.map(|tracer| tracing_opentelemetry::layer().with_tracer(tracer).with_filter(ours));
    Ok(tracing_subscriber::registry().with(lines.with_filter(filter(&options.log_filter)?)).with(spans))
}

/// OpenTelemetry tells at `info` how it starts and ends, in words that only its authors know. Whoever wants them says
/// `opentelemetry=info`.
fn filter(wanted: &str) -> Result<EnvFilter, TelemetryError> {
    let filter = EnvFilter::try_new(wanted)?;
    if wanted.contains("opentelemetry") {
        return Ok(filter);
    }
    Ok(filter.add_directive("opentelemetry=warn".parse()?))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use opentelemetry::trace::TraceContextExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged while `work` runs.
    fn logged_by(log_format: LogFormat, log_filter: &str, work: impl FnOnce()) -> String {
        let written = Written::default();
        let make = {
            let written = written.clone();
            move || written.clone()
        };
        let options = TelemetryOptions { log_format, log_filter: log_filter.to_owned(), otlp_endpoint: None };
        tracing::subscriber::with_default(subscriber(&options, None, make).expect("a filter"), work);
        let bytes = written.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("text")
    }

    fn logged(log_format: LogFormat, log_filter: &str) -> String {
        logged_by(log_format, log_filter, || {
            let _in_request = tracing::info_span!("request", request_id = "r-1").entered();
            tracing::info!(worker = "w-1", "Enrolled");
            tracing::debug!("Detail");
        })
    }

    #[test]
    fn json_lines_carry_fields_and_their_request() {
        let text = logged(LogFormat::Json, "info");
        let line: serde_json::Value = serde_json::from_str(text.trim()).expect("one JSON object");
        assert_eq!(line["message"], "Enrolled");
        assert_eq!(line["worker"], "w-1");
        assert_eq!(line["span"]["request_id"], "r-1");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn the_filter_decides_and_a_bad_one_is_refused() {
        assert!(logged(LogFormat::Text, "debug").contains("Detail"));
        assert!(!logged(LogFormat::Text, "info").contains("Detail"));
        let options =
            TelemetryOptions { log_format: LogFormat::Text, log_filter: "a=b=c".to_owned(), otlp_endpoint: None };
        assert!(matches!(subscriber(&options, None, io::sink), Err(TelemetryError::Filter(_))));
    }

    #[test]
    fn opentelemetry_speaks_of_itself_only_when_asked() {
        let said = |log_filter| {
            let text = logged_by(LogFormat::Text, log_filter, || {
                drop(Telemetry::without_exporters().expect("no exporters"));
            });
            text.contains("MeterProvider.Drop")
        };
        assert_eq!([said("info"), said("debug"), said("info,opentelemetry=info")], [false, false, true]);
    }

    #[test]
    fn a_request_joins_the_trace_of_its_caller() {
        let provider = SdkTracerProvider::builder().build();
        let options =
            TelemetryOptions { log_format: LogFormat::Text, log_filter: "info".to_owned(), otlp_endpoint: None };
        let subscriber = subscriber(&options, Some(provider.tracer(SERVICE)), io::sink).expect("a filter");
        let mut headers = HeaderMap::new();
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert("traceparent", parent.parse().expect("a header"));
        tracing::subscriber::with_default(subscriber, || {
            let joined = tracing::info_span!("request");
            TraceJoin { enabled: true }.join(&joined, &headers);
            let trace = joined.context().span().span_context().trace_id().to_string();
            assert_eq!(trace, "4bf92f3577b34da6a3ce929d0e0e4736");

            let apart = tracing::info_span!("request");
            TraceJoin { enabled: false }.join(&apart, &headers);
            let trace = apart.context().span().span_context().trace_id().to_string();
            assert_ne!(trace, "4bf92f3577b34da6a3ce929d0e0e4736");
        });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_collector_that_is_not_there_delays_nothing_for_long() {
        // Port 1 of loopback: nothing listens there, so that the last flush fails at once.
        let telemetry = Telemetry::new(Some("http://127.0.0.1:1")).expect("exporters");
        assert!(telemetry.trace_join().enabled);
        tokio::time::timeout(std::time::Duration::from_secs(15), telemetry.shutdown()).await.expect("in time");
    }
}
