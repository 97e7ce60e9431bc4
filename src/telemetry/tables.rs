//! Counters for the hot path: fixed tables of atomics, found by index.
//!
//! An OpenTelemetry counter looks its attributes up in a map for every count, which costs more than validating a
//! credential does. A table is laid out when the service starts; to count is one relaxed addition.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// A count for every pair of a row and a column, such as route and status.
#[derive(Debug)]
pub struct CounterGrid {
    columns: usize,
    cells: Vec<AtomicU64>,
    attributes: Vec<Vec<KeyValue>>,
}

/// A count for every label, such as the outcome of a validation.
#[derive(Debug)]
pub struct CounterTable(CounterGrid);

/// The upper bounds of the buckets of [`Latencies`]. A validation takes microseconds and a durable command
/// milliseconds, so the bounds are close together there, and end where the request timeout does.
const LATENCY_BOUNDS: [Duration; 14] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];

/// How long things took, by row: a histogram of atomics.
#[derive(Debug)]
pub struct Latencies {
    desc: Desc,
    rows: Vec<LatencyRow>,
}

#[derive(Debug)]
struct LatencyRow {
    label: &'static str,
    /// One a bound, and the last for what took longer; not cumulative, so that recording touches one of them.
    buckets: [AtomicU64; LATENCY_BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl CounterGrid {
    pub fn new(row: (&'static str, &[&'static str]), column: (&'static str, &[&'static str])) -> Self {
        let pairs = row.1.iter().flat_map(|of_row| column.1.iter().map(move |of_column| (*of_row, *of_column)));
        let attributes: Vec<_> = pairs
            .map(|(of_row, of_column)| vec![KeyValue::new(row.0, of_row), KeyValue::new(column.0, of_column)])
            .collect();
        Self { columns: column.1.len(), cells: attributes.iter().map(|_| AtomicU64::new(0)).collect(), attributes }
    }

    /// Counts one. An index past the table is a label that was not declared: it is not counted, as a count under a
    /// wrong name would mislead.
    pub fn increment(&self, row: usize, column: usize) {
        debug_assert!(column < self.columns, "column {column} of {}", self.columns);
        if let Some(cell) = self.cells.get(row * self.columns + column) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every pair that has been counted at least once: most pairs of a route and a status never happen, and a
    /// thousand zeros would be scraped, sent and stored for nothing.
    pub(super) fn counted(&self) -> impl Iterator<Item = (u64, &[KeyValue])> {
        self.all().filter(|(count, _)| *count > 0)
    }

    fn all(&self) -> impl Iterator<Item = (u64, &[KeyValue])> {
        let counts = self.cells.iter().map(|cell| cell.load(Ordering::Relaxed));
        counts.zip(self.attributes.iter().map(Vec::as_slice))
    }
}

impl CounterTable {
    pub fn new(name: &'static str, labels: &[&'static str]) -> Self {
        let attributes: Vec<_> = labels.iter().map(|label| vec![KeyValue::new(name, *label)]).collect();
        let cells = labels.iter().map(|_| AtomicU64::new(0)).collect();
        Self(CounterGrid { columns: labels.len(), cells, attributes })
    }

    /// Counts one, as [`CounterGrid::increment`] does.
    pub fn increment(&self, label: usize) {
        self.0.increment(0, label);
    }

    /// Every label, zeros too: an alarm on a rate needs to see the series before the first bad day.
    pub(super) fn counted(&self) -> impl Iterator<Item = (u64, &[KeyValue])> {
        self.0.all()
    }
}

impl Latencies {
    pub fn new(name: &str, help: &str, label: &'static str, rows: &[&'static str]) -> Result<Self, prometheus::Error> {
        let desc = Desc::new(name.to_owned(), help.to_owned(), vec![label.to_owned()], std::iter::empty().collect())?;
        let row = |label: &&'static str| LatencyRow {
            label,
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            nanoseconds: AtomicU64::new(0),
        };
        Ok(Self { desc, rows: rows.iter().map(row).collect() })
    }

    pub fn record(&self, row: usize, elapsed: Duration) {
        let Some(row) = self.rows.get(row) else { return };
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound < elapsed);
        row.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        // 2^64 nanoseconds are 584 years.
        row.nanoseconds.fetch_add(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl LatencyRow {
    fn metric(&self, label_name: &str) -> Metric {
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(LATENCY_BOUNDS.len());
        for (bound, count) in LATENCY_BOUNDS.iter().zip(&self.buckets) {
            cumulative += count.load(Ordering::Relaxed);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound.as_secs_f64());
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        let longer = self.buckets[LATENCY_BOUNDS.len()].load(Ordering::Relaxed);
        let mut histogram = Histogram::default();
        histogram.set_sample_count(cumulative + longer);
        histogram.set_sample_sum(Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64());
        histogram.set_bucket(buckets);
        let mut label = LabelPair::default();
        label.set_name(label_name.to_owned());
        label.set_value(self.label.to_owned());
        let mut metric = Metric::default();
        metric.set_label(vec![label]);
        metric.set_histogram(histogram);
        metric
    }
}

impl Collector for Latencies {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let label_name = self.desc.variable_labels.first().map_or("", String::as_str);
        let metrics: Vec<_> = self.rows.iter().map(|row| row.metric(label_name)).collect();
        let called = |metric: &Metric| metric.get_histogram().get_sample_count() > 0;
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(metrics.into_iter().filter(called).collect());
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_shows_only_what_was_counted_and_a_table_shows_all() {
        let grid = CounterGrid::new(("route", &["/a", "/b"]), ("status", &["200", "401", "500"]));
        grid.increment(1, 1);
        grid.increment(1, 1);
        grid.increment(7, 0);
        let counted: Vec<_> = grid.counted().map(|(count, labels)| (count, labels.to_vec())).collect();
        assert_eq!(counted, [(2, vec![KeyValue::new("route", "/b"), KeyValue::new("status", "401")])]);

        let table = CounterTable::new("outcome", &["active", "revoked"]);
        table.increment(1);
        let counts: Vec<_> = table.counted().map(|(count, _)| count).collect();
        assert_eq!(counts, [0, 1]);
    }

    #[test]
    fn latencies_are_cumulative_and_the_bound_belongs_to_its_bucket() {
        let latencies = Latencies::new("t_seconds", "Time.", "route", &["/a", "/b"]).expect("a name");
        latencies.record(0, Duration::from_micros(50));
        latencies.record(0, Duration::from_micros(51));
        latencies.record(0, Duration::from_mins(1));
        let family = latencies.collect().remove(0);
        assert_eq!(family.get_metric().len(), 1, "a route that nobody called is not shown");
        let histogram = family.get_metric()[0].get_histogram();
        let counts: Vec<_> = histogram.get_bucket().iter().map(Bucket::cumulative_count).collect();
        assert_eq!(counts[..3], [1, 2, 2]);
        assert_eq!(counts.last(), Some(&2));
        assert_eq!(histogram.get_sample_count(), 3);
        assert!((histogram.get_sample_sum() - 60.000_101).abs() < 1e-9);
    }
}
