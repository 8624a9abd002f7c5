//! Counters and histograms that cost a few nanoseconds, in the Prometheus text format.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Only goes up.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// One more.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets, in microseconds, and as Prometheus writes them, in seconds.
const BUCKETS: [(u64, &str); 13] = [
    (5, "0.000005"),
    (10, "0.00001"),
    (25, "0.000025"),
    (50, "0.00005"),
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (5_000, "0.005"),
    (25_000, "0.025"),
    (100_000, "0.1"),
    (1_000_000, "1"),
    (10_000_000, "10"),
];

/// How long something took, in fixed buckets.
#[derive(Default)]
pub struct Histogram {
    /// One for each bound, and one for what took longer.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// Counts something that took so long.
    pub fn record(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|(bound, _)| nanoseconds <= bound * 1000);
        self.buckets[bucket.unwrap_or(BUCKETS.len())].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// The histogram in the Prometheus text format.
    pub fn write_to(&self, text: &mut String, name: &str, help: &str) {
        // The total is made from the buckets, so that they agree whatever is recorded meanwhile.
        let mut count = 0;
        let mut lines = String::new();
        let bounds = BUCKETS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
        for (bucket, bound) in self.buckets.iter().zip(bounds) {
            count += bucket.load(Ordering::Relaxed);
            put(&mut lines, format_args!("{name}_bucket{{le=\"{bound}\"}} {count}\n"));
        }
        let seconds = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        head(text, name, "histogram", help);
        text.push_str(&lines);
        put(text, format_args!("{name}_sum {seconds}\n{name}_count {count}\n"));
    }
}

/// What became of an imported document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportResult {
    /// A new secret.
    Created,
    /// Another value or other lists.
    Updated,
    /// It stood as the document says.
    Unchanged,
    /// The file was refused; its documents count as one.
    Refused,
}

impl ImportResult {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Created, "created"),
        (Self::Updated, "updated"),
        (Self::Unchanged, "unchanged"),
        (Self::Refused, "refused"),
    ];
}

/// All that is counted outside the file system's own requests.
#[derive(Default)]
pub struct Metrics {
    /// How long opens took, from the request to the answer.
    pub open: Histogram,
    /// How long it took until a group of changes was on the disk.
    pub store_commit: Histogram,
    /// Groups of changes that the store did not take.
    pub store_failures: Counter,
    /// Versions of values that were written.
    pub versions: Counter,
    imports: [Counter; ImportResult::ALL.len()],
}

impl Metrics {
    /// Counts documents of an import.
    pub fn imported(&self, result: ImportResult, documents: u64) {
        self.imports[result as usize].0.fetch_add(documents, Ordering::Relaxed);
    }

    /// All of them in the Prometheus text format.
    pub fn write_to(&self, text: &mut String) {
        self.open.write_to(text, "secretfs_open_seconds", "Time from an open to its answer.");
        let help = "Time until a group of changes was on the disk.";
        self.store_commit.write_to(text, "secretfs_store_commit_seconds", help);
        let help = "Groups of changes that the store did not take.";
        let count = self.store_failures.get();
        write_metric(text, "secretfs_store_failures_total", "counter", help, count);
        let help = "Versions of values that were written.";
        write_metric(text, "secretfs_versions_total", "counter", help, self.versions.get());
        let (name, help) = ("secretfs_imports_total", "Documents that were imported, by result.");
        head(text, name, "counter", help);
        for ((_, result), count) in ImportResult::ALL.iter().zip(&self.imports) {
            put(text, format_args!("{name}{{result=\"{result}\"}} {}\n", count.get()));
        }
    }
}

/// One metric without labels in the Prometheus text format.
pub fn write_metric(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    value: impl std::fmt::Display,
) {
    head(text, name, kind, help);
    put(text, format_args!("{name} {value}\n"));
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    put(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_adds_up() {
        let histogram = Histogram::default();
        for microseconds in [1, 5, 6, 700, 20_000_000] {
            histogram.record(Duration::from_micros(microseconds));
        }
        let mut text = String::new();
        histogram.write_to(&mut text, "x_seconds", "X.");
        for line in [
            "# TYPE x_seconds histogram",
            "x_seconds_bucket{le=\"0.000005\"} 2",
            "x_seconds_bucket{le=\"0.00001\"} 3",
            "x_seconds_bucket{le=\"0.001\"} 4",
            "x_seconds_bucket{le=\"10\"} 4",
            "x_seconds_bucket{le=\"+Inf\"} 5",
            "x_seconds_count 5",
            "x_seconds_sum 20.000712",
        ] {
            assert!(text.lines().any(|have| have == line), "no `{line}` in\n{text}");
        }
        for (bound, shown) in BUCKETS {
            assert_eq!(shown.parse::<f64>().unwrap(), bound as f64 / 1e6, "{shown}");
        }
    }

    #[test]
    fn imports_are_counted_by_result() {
        let metrics = Metrics::default();
        metrics.imported(ImportResult::Updated, 3);
        metrics.imported(ImportResult::Refused, 1);
        let mut text = String::new();
        metrics.write_to(&mut text);
        assert!(text.contains("secretfs_imports_total{result=\"updated\"} 3\n"), "{text}");
        assert!(text.contains("secretfs_imports_total{result=\"created\"} 0\n"), "{text}");
        assert!(text.contains("secretfs_imports_total{result=\"refused\"} 1\n"), "{text}");
    }
}
