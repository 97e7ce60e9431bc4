//! Every instrument of the service, by name: what `/metrics` shows and what the collector gets.
//!
//! | name | what |
//! |---|---|
//! | `portcullis_http_requests_total{route,status}` | answers |
//! | `portcullis_http_request_seconds{route}` | how long they took (on `/metrics` only; the collector has the spans) |
//! | `portcullis_validations_total{outcome}` | verdicts on credentials, over HTTP and within |
//! | `portcullis_commands_total{command,outcome}` | commands decided |
//! | `portcullis_append_seconds` | one append: a batch of commands made durable |
//! | `portcullis_append_batch_events` | how many events one append carried |
//! | `portcullis_queue_depth` | commands that wait for the writer |
//! | `portcullis_log_position` | events that this node has applied |
//! | `portcullis_auth_failures_total{reason}` | refused credentials; a guesser shows here |
//! | `portcullis_connections_refused_total` | connections closed because too many were open |
//! | `portcullis_projection_lag{projection}` | events that this node has applied and that projection does not hold yet |
//! | `portcullis_mirror_lag` | events that this node has applied and that its mirror of the log does not hold yet |
//! | `portcullis_keys`, `portcullis_workers` | what the Roll holds |

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};
use prometheus::Registry;

use super::tables::{CounterGrid, CounterTable, Latencies};

/// The labels that may occur. They are declared, and not made from requests: a label that a caller could choose would
/// let it fill the memory of everyone who collects them.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary<'a> {
    /// Route templates, such as `/v1/workers/{id}`; requests that no route matches are counted under an own name.
    pub routes: &'a [&'static str],
    pub validation_outcomes: &'a [&'static str],
    pub commands: &'a [&'static str],
    pub command_outcomes: &'a [&'static str],
    pub auth_failure_reasons: &'a [&'static str],
}

/// The instruments. Everything that is counted by index is counted by the index into the [`Vocabulary`].
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Arc<CounterGrid>,
    request_seconds: Arc<Latencies>,
    routes: usize,
    validations: Arc<CounterTable>,
    commands: Arc<CounterGrid>,
    auth_failures: Arc<CounterTable>,
    append_seconds: Histogram<f64>,
    append_batch_events: Histogram<u64>,
    connections_refused: Arc<AtomicU64>,
    queue_depth: Arc<AtomicU64>,
    log_position: Arc<AtomicU64>,
    meter: Meter,
}

/// How much the Roll holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollSize {
    pub keys: u64,
    pub workers: u64,
}

/// The name of requests that no route matches. A scanner asks for a thousand paths; they are one series.
const UNMATCHED: &str = "unmatched";

/// Every status that we answer with has its own count; the others are counted by their class.
const STATUSES: [&str; 27] = [
    "200", "201", "202", "204", "304", "400", "401", "403", "404", "405", "406", "408", "409", "410", "412", "413",
    "414", "415", "422", "429", "431", "500", "503", "504", "2xx", "4xx", "other",
];

/// One append is a flush of the disk, so the bounds follow what flushes take: a tenth of a millisecond to seconds.
const APPEND_BOUNDS: [f64; 12] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];
const BATCH_BOUNDS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

impl Metrics {
    pub(super) fn new(
        meter: &Meter,
        registry: &Registry,
        vocabulary: &Vocabulary<'_>,
    ) -> Result<Self, prometheus::Error> {
        let routes: Vec<_> = vocabulary.routes.iter().copied().chain([UNMATCHED]).collect();
        let request_seconds = Arc::new(Latencies::new(
            "portcullis_http_request_seconds",
            "How long requests took, from their headers to their answer.",
            "route",
            &routes,
        )?);
        registry.register(Box::new(SharedLatencies(Arc::clone(&request_seconds))))?;
        let metrics = Self {
            requests: Arc::new(CounterGrid::new(("route", &routes), ("status", &STATUSES))),
            request_seconds,
            routes: vocabulary.routes.len(),
            validations: Arc::new(CounterTable::new("outcome", vocabulary.validation_outcomes)),
            commands: Arc::new(CounterGrid::new(
                ("command", vocabulary.commands),
                ("outcome", vocabulary.command_outcomes),
            )),
            auth_failures: Arc::new(CounterTable::new("reason", vocabulary.auth_failure_reasons)),
            append_seconds: meter
                .f64_histogram("portcullis_append_seconds")
                .with_description("How long one append to the log took.")
                .with_unit("s")
                .with_boundaries(APPEND_BOUNDS.to_vec())
                .build(),
            append_batch_events: meter
                .u64_histogram("portcullis_append_batch_events")
                .with_description("How many events one append carried.")
                .with_boundaries(BATCH_BOUNDS.to_vec())
                .build(),
            connections_refused: Arc::default(),
            queue_depth: Arc::default(),
            log_position: Arc::default(),
            meter: meter.clone(),
        };
        metrics.export();
        Ok(metrics)
    }

    /// Counts an answer. `route` is the index into [`Vocabulary::routes`], `None` where none matched.
    pub fn answered(&self, route: Option<usize>, status: u16, elapsed: Duration) {
        let row = route.filter(|row| *row < self.routes).unwrap_or(self.routes);
        self.requests.increment(row, status_column(status));
        self.request_seconds.record(row, elapsed);
    }

    /// Counts a verdict, by the index into [`Vocabulary::validation_outcomes`].
    pub fn validated(&self, outcome: usize) {
        self.validations.increment(outcome);
    }

    /// Counts a command, by the indexes into [`Vocabulary::commands`] and [`Vocabulary::command_outcomes`].
    pub fn commanded(&self, command: usize, outcome: usize) {
        self.commands.increment(command, outcome);
    }

    /// Counts a refused credential, by the index into [`Vocabulary::auth_failure_reasons`].
    pub fn auth_failed(&self, reason: usize) {
        self.auth_failures.increment(reason);
    }

    /// Records one append, and where the log stands after it.
    pub fn appended(&self, elapsed: Duration, events: u64) {
        self.append_seconds.record(elapsed.as_secs_f64(), &[]);
        self.append_batch_events.record(events, &[]);
    }

    pub fn connection_refused(&self) {
        self.connections_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub fn set_queue_depth(&self, commands: u64) {
        self.queue_depth.store(commands, Ordering::Relaxed);
    }

    pub fn set_log_position(&self, position: u64) {
        self.log_position.store(position, Ordering::Relaxed);
    }

    /// Exports the size of the Roll, asked for whenever the metrics are collected. Call it once.
    pub fn watch_roll(&self, size: impl Fn() -> RollSize + Send + Sync + 'static) {
        let size = Arc::new(size);
        let workers = Arc::clone(&size);
        self.meter
            .u64_observable_gauge("portcullis_keys")
            .with_description("How many keys the Roll holds.")
            .with_callback(move |observer| observer.observe(size().keys, &[]))
            .build();
        self.meter
            .u64_observable_gauge("portcullis_workers")
            .with_description("How many workers the Roll holds.")
            .with_callback(move |observer| observer.observe(workers().workers, &[]))
            .build();
    }

    /// Exports how far each projection is behind, asked for whenever the metrics are collected. Call it once.
    pub fn watch_lags(&self, lags: impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static) {
        self.meter
            .u64_observable_gauge("portcullis_projection_lag")
            .with_description("How many events that this node has applied a projection does not hold yet.")
            .with_callback(move |observer| {
                let observe = |(name, lag)| observer.observe(lag, &[KeyValue::new("projection", name)]);
                lags().into_iter().for_each(observe);
            })
            .build();
    }

    /// Exports how far the mirror is behind, asked for whenever the metrics are collected. Call it once.
    pub fn watch_mirror(&self, lag: impl Fn() -> u64 + Send + Sync + 'static) {
        self.meter
            .u64_observable_gauge("portcullis_mirror_lag")
            .with_description("How many events that this node has applied its mirror of the log does not hold yet.")
            .with_callback(move |observer| observer.observe(lag(), &[]))
            .build();
    }

    /// Hangs the tables of atomics onto observable instruments, which read them when they are collected.
    fn export(&self) {
        self.export_grid("portcullis_http_requests_total", "Answers to requests.", &self.requests);
        self.export_grid("portcullis_commands_total", "Commands decided.", &self.commands);
        self.export_table("portcullis_validations_total", "Verdicts on credentials.", &self.validations);
        self.export_table("portcullis_auth_failures_total", "Credentials refused.", &self.auth_failures);
        let refused = Arc::clone(&self.connections_refused);
        self.meter
            .u64_observable_counter("portcullis_connections_refused_total")
            .with_description("Connections closed because too many were open.")
            .with_callback(move |observer| observer.observe(refused.load(Ordering::Relaxed), &[]))
            .build();
        self.export_gauge("portcullis_queue_depth", "Commands that wait for the writer.", &self.queue_depth);
        self.export_gauge("portcullis_log_position", "Events that this node has applied.", &self.log_position);
    }

    fn export_grid(&self, name: &'static str, help: &'static str, grid: &Arc<CounterGrid>) {
        let grid = Arc::clone(grid);
        self.meter
            .u64_observable_counter(name)
            .with_description(help)
            .with_callback(move |observer| grid.counted().for_each(|(count, labels)| observer.observe(count, labels)))
            .build();
    }

    fn export_table(&self, name: &'static str, help: &'static str, table: &Arc<CounterTable>) {
        let table = Arc::clone(table);
        self.meter
            .u64_observable_counter(name)
            .with_description(help)
            .with_callback(move |observer| table.counted().for_each(|(count, labels)| observer.observe(count, labels)))
            .build();
    }

    fn export_gauge(&self, name: &'static str, help: &'static str, value: &Arc<AtomicU64>) {
        let value = Arc::clone(value);
        self.meter
            .u64_observable_gauge(name)
            .with_description(help)
            .with_callback(move |observer| observer.observe(value.load(Ordering::Relaxed), &[]))
            .build();
    }
}

/// The registry wants to own its collectors, and requests want to record into this one.
struct SharedLatencies(Arc<Latencies>);

impl prometheus::core::Collector for SharedLatencies {
    fn desc(&self) -> Vec<&prometheus::core::Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.0.collect()
    }
}

/// The column of a status: a match, which compiles to a jump, rather than a search through texts.
const fn status_column(status: u16) -> usize {
    match status {
        200 => 0,
        201 => 1,
        202 => 2,
        204 => 3,
        304 => 4,
        400 => 5,
        401 => 6,
        403 => 7,
        404 => 8,
        405 => 9,
        406 => 10,
        408 => 11,
        409 => 12,
        410 => 13,
        412 => 14,
        413 => 15,
        414 => 16,
        415 => 17,
        422 => 18,
        429 => 19,
        431 => 20,
        500 => 21,
        503 => 22,
        504 => 23,
        _ => match status / 100 {
            2 => 24,
            4 => 25,
            _ => 26,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::Telemetry;
    use super::*;

    const VOCABULARY: Vocabulary<'static> = Vocabulary {
        routes: &["/healthz", "/v1/validate"],
        validation_outcomes: &["active", "revoked"],
        commands: &["enroll"],
        command_outcomes: &["accepted", "refused"],
        auth_failure_reasons: &["unknown_key"],
    };

    #[test]
    fn every_instrument_shows_under_its_documented_name() {
        let telemetry = Telemetry::new(None).expect("exporters");
        let metrics = telemetry.metrics(&VOCABULARY).expect("instruments");
        metrics.watch_roll(|| RollSize { keys: 7, workers: 5 });
        metrics.watch_lags(|| vec![("keys", 3)]);
        metrics.watch_mirror(|| 11);
        metrics.answered(Some(1), 200, Duration::from_micros(80));
        metrics.answered(None, 404, Duration::from_micros(80));
        metrics.answered(Some(99), 418, Duration::from_micros(80));
        metrics.validated(1);
        metrics.commanded(0, 1);
        metrics.auth_failed(0);
        metrics.appended(Duration::from_millis(1), 64);
        metrics.set_queue_depth(3);
        metrics.set_log_position(42);
        metrics.connection_refused();
        let text = telemetry.render().expect("text");
        for line in [
            r#"portcullis_http_requests_total{route="/v1/validate",status="200"} 1"#,
            r#"portcullis_projection_lag{projection="keys"} 3"#,
            r#"portcullis_http_requests_total{route="unmatched",status="404"} 1"#,
            r#"portcullis_http_requests_total{route="unmatched",status="4xx"} 1"#,
            r#"portcullis_http_request_seconds_bucket{route="/v1/validate",le="0.0001"} 1"#,
            r#"portcullis_http_request_seconds_count{route="unmatched"} 2"#,
            r#"portcullis_validations_total{outcome="active"} 0"#,
            r#"portcullis_validations_total{outcome="revoked"} 1"#,
            r#"portcullis_commands_total{command="enroll",outcome="refused"} 1"#,
            r#"portcullis_auth_failures_total{reason="unknown_key"} 1"#,
            r#"portcullis_append_seconds_bucket{le="0.001"} 1"#,
            "portcullis_append_batch_events_sum 64",
            "portcullis_queue_depth 3",
            "portcullis_log_position 42",
            "portcullis_connections_refused_total 1",
            "portcullis_mirror_lag 11",
            "portcullis_keys 7",
            "portcullis_workers 5",
        ] {
            assert!(text.lines().any(|shown| shown == line), "`{line}` is not in:\n{text}");
        }
    }

    #[test]
    fn statuses_and_their_columns_agree() {
        for (column, status) in STATUSES.iter().enumerate() {
            if let Ok(number) = status.parse() {
                assert_eq!(status_column(number), column, "{status}");
            }
        }
        assert_eq!(
            [226, 418, 101, 599, 302].map(status_column).map(|column| STATUSES[column]),
            ["2xx", "4xx", "other", "other", "other"]
        );
    }

    /// The bound is a hundred times what it takes on an idle machine, optimised: it catches a lock or an allocation
    /// that creeps in, not a slow day.
    #[test]
    fn counting_a_validation_costs_next_to_nothing() {
        const COUNTS: u32 = 100_000;
        let telemetry = Telemetry::new(None).expect("exporters");
        let metrics = telemetry.metrics(&VOCABULARY).expect("instruments");
        let start = Instant::now();
        for _ in 0..COUNTS {
            metrics.validated(std::hint::black_box(0));
        }
        let each = start.elapsed() / COUNTS;
        assert!(each < Duration::from_micros(1), "{each:?} a count");
    }
}
