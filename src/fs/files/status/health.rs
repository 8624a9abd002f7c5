//! `.status/health`, `.status/metrics` and `.status/is-secure`: how the daemon is doing.

use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use crate::model::{Caller, printable};
use crate::store::Space;
use crate::telemetry::{LOG_DROPPED, Part, write_metric};
use crate::vault::SharingStatus;

use crate::fs::Fs;

/// The disk is reported as nearly full when less than this is free, in bytes ...
const LITTLE_SPACE: u64 = 64 << 20;
/// ... or, on a small file system, less than this part of it.
const LITTLE_PART: u64 = 20;

/// Of callers in a PID namespace that the daemon does not see.
const UNKNOWN: &str = "the kernel tells no PID of some callers, since the daemon is in another PID namespace; \
the audit log does not name their programs. Start the daemon in the PID namespace of the host \
(Kubernetes: hostPID: true)";

impl Fs {
    /// How a part of the daemon is now, for health.
    pub fn report_health(&self, part: Part, outcome: Result<(), String>) {
        self.vault.telemetry().health.report(part, outcome);
    }

    /// `ok`, or `degraded` and a line for each part that is unwell. Then what is worth knowing and is no fault.
    pub(in crate::fs) fn health_text(&self) -> String {
        let problems = self.problems();
        let state = if problems.is_empty() { "ok\n" } else { "degraded\n" };
        let lines = problems.into_iter().map(|(part, why)| {
            let one_line = printable(&why.replace(['\n', '\r'], "; "));
            format!("{}: {one_line}\n", part.as_str())
        });
        let mut notes = self.vault.telemetry().health.notes();
        notes.extend(self.has_unknown_callers.load(Ordering::Relaxed).then(|| UNKNOWN.to_owned()));
        let notes = notes.into_iter().map(|note| format!("note: {note}\n"));
        std::iter::once(state.to_owned()).chain(lines).chain(notes).collect()
    }

    fn problems(&self) -> Vec<(Part, String)> {
        let mut problems = self.vault.telemetry().health.problems();
        match self.vault.space() {
            Ok(space) if is_nearly_full(space) => problems.push((
                Part::Disk,
                format!(
                    "the file system of the state directory has only {} MiB left; free some space there",
                    space.free >> 20
                ),
            )),
            Ok(_) => {}
            Err(error) => problems.push((Part::Disk, error.to_string())),
        }
        problems.extend(self.vault.store_problem().map(|why| (Part::Store, why.to_owned())));
        let audit = self.vault.audit_status().problems;
        problems.extend(audit.into_iter().map(|why| (Part::Audit, why)));
        problems
    }

    /// The first line is the contract's.
    pub(in crate::fs) fn is_secure_text(&self) -> String {
        let reasons = self.vault.telemetry().security.reasons();
        if reasons.is_empty() {
            return "Service is secure.\n".to_owned();
        }
        let line = |reason| format!("Error: secret svc is not secure: {reason}\n");
        reasons.into_iter().map(line).collect()
    }

    /// In the Prometheus text format (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
    /// No label names a secret or a caller. What is summed up over all secrets and callers tells what
    /// others have and do, so it is for admins.
    pub(in crate::fs) fn metrics_text(&self, caller: &Caller) -> String {
        let mut text = String::new();
        self.requests.write_to(&mut text);
        self.write_public(&mut text);
        if caller.is_admin() {
            self.write_sums(&mut text);
        }
        text
    }

    /// What is not secret: that the daemon runs, since when, and which version.
    fn write_public(&self, text: &mut String) {
        let healthy = f64::from(u8::from(self.problems().is_empty()));
        let help = "1 if .status/health says ok, 0 if not.";
        write_metric(text, "secretfs_healthy", "gauge", help, healthy);
        let since = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let help = "When the daemon started, in seconds since 1970.";
        write_metric(text, "secretfs_start_time_seconds", "gauge", help, since);
        let up = self.started.elapsed().unwrap_or_default().as_secs_f64();
        let help = "Seconds since the daemon started.";
        write_metric(text, "secretfs_uptime_seconds", "gauge", help, up);
        text.push_str(concat!(
            "# HELP secretfs_build_info The version that runs.\n",
            "# TYPE secretfs_build_info gauge\n",
            "secretfs_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1\n",
        ));
    }

    fn write_sums(&self, text: &mut String) {
        self.operations.write_to(text);
        self.vault.telemetry().metrics.write_to(text);
        let help = "Lines of the log that were dropped because nobody took them in time.";
        let dropped = LOG_DROPPED.get();
        write_metric(text, "secretfs_log_dropped_total", "counter", help, dropped);
        let audit = self.vault.audit_status();
        for (name, help, value) in [
            ("secretfs_audit_lines_total", "Lines of the audit log.", audit.lines),
            (
                "secretfs_audit_repeats_total",
                "Decisions that were counted in a line of the audit log instead of having their own.",
                audit.repeats,
            ),
            (
                "secretfs_audit_failures_total",
                "Lines that could not be written to the audit log.",
                audit.failures,
            ),
            (
                "secretfs_audit_copies_dropped_total",
                "Copies of audit lines that were dropped because nobody took them in time.",
                audit.copies_dropped,
            ),
        ] {
            write_metric(text, name, "counter", help, value);
        }
        let help = "Changes that inotify did not tell of because too many came at once.";
        let untold = self.watchers.dropped();
        write_metric(text, "secretfs_inotify_dropped_total", "counter", help, untold);
        if let Some(status) = self.vault.sharing_status() {
            write_sharing(text, &status);
        }
        let mut gauge = |name, help, value: f64| {
            write_metric(text, name, "gauge", help, value);
        };
        gauge("secretfs_secrets", "Secrets in the store.", self.vault.len() as f64);
        let bytes = self.vault.totals().bytes as f64;
        gauge("secretfs_value_bytes", "Bytes of all current values.", bytes);
        let help = "Bytes of memory that are charged to callers, at most --memory.";
        gauge("secretfs_memory_charged_bytes", help, self.budget.used() as f64);
        if let Ok(space) = self.vault.space() {
            let help = "Bytes that are free on the file system of the state directory.";
            gauge("secretfs_state_free_bytes", help, space.free as f64);
        }
        let help = "Changes of secrets that were ever stored; fewer than before in an old copy of the store.";
        gauge("secretfs_store_changes", help, self.vault.stored_changes() as f64);
        let help = "Encryption keys that the store needs; 1 once a rekey is done.";
        gauge("secretfs_encryption_keys_needed", help, self.vault.key_ids().1.len() as f64);
    }
}

/// Of a store that many hosts share, and there alone.
fn write_sharing(text: &mut String, status: &SharingStatus) {
    for (name, help, value) in [
        (
            "secretfs_etcd_connected",
            "1 if etcd tells what happens there, 0 if not.",
            f64::from(u8::from(status.is_connected)),
        ),
        (
            "secretfs_etcd_revision",
            "The revision of etcd up to which all is here.",
            status.revision as f64,
        ),
        (
            "secretfs_etcd_age_seconds",
            "Seconds for which it has not been known whether that is all; 0 while connected.",
            status.age.as_secs_f64(),
        ),
    ] {
        write_metric(text, name, "gauge", help, value);
    }
    for (name, help, value) in [
        (
            "secretfs_etcd_conflicts_total",
            "Changes that were refused because another host was quicker.",
            status.conflicts,
        ),
        (
            "secretfs_etcd_resyncs_total",
            "Times that everything was read from etcd.",
            status.resyncs,
        ),
        (
            "secretfs_etcd_disconnects_total",
            "Times that the connection to etcd was lost.",
            status.disconnects,
        ),
    ] {
        write_metric(text, name, "counter", help, value);
    }
}

fn is_nearly_full(space: Space) -> bool {
    space.free < LITTLE_SPACE.min(space.total / LITTLE_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_space_is_told() {
        let full =
            |total: u64, free: u64| is_nearly_full(Space { total: total << 20, free: free << 20 });
        assert!(full(1 << 20, 63) && !full(1 << 20, 65));
        assert!(full(100, 4) && !full(100, 6), "a small file system");
    }
}
