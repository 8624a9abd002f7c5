//! What became of the files that were dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::fs::budget::{Account, Budget};
use crate::fs::files::texts::Text;

use super::{child_of, full_path, is_below};

/// How many reports of one UID are kept.
const PER_UID: usize = 256;
/// How many bytes they may have together; the newest is kept whatever its size.
const BYTES_PER_UID: usize = 16 << 20;
/// How many bytes all reports may have together.
const BYTES: usize = 64 << 20;

/// What became of a file. For its importer and admins.
pub(in crate::fs) struct Report {
    pub(in crate::fs) node: u64,
    pub(in crate::fs) uid: u32,
    /// Of the file, inside the drop directory.
    pub(super) path: String,
    /// A line for each document, or for each thing that is wrong.
    pub(in crate::fs) text: Arc<Text>,
    pub(in crate::fs) at: SystemTime,
}

/// What is kept of a report for which its importer has no memory left.
const NOT_KEPT: &str = "there was no memory left for this report; close files that you have open, \
                        and drop the file again to see what is wrong with it\n";

/// Reports, oldest first. The lock is a leaf.
#[derive(Default)]
pub(super) struct Reports(Mutex<Vec<Arc<Report>>>);

impl Reports {
    /// The text of a report on the file at `path`. Older reports of its importer make way for it.
    pub(super) fn text(
        &self,
        budget: &Budget,
        (uid, account): (u32, Account),
        path: &str,
        text: String,
    ) -> Arc<Text> {
        let path = full_path(path);
        loop {
            match Text::new(budget, account, &path, text.clone()) {
                Ok(text) => return Arc::new(text),
                Err(_) if self.remove_oldest(uid) => {}
                Err(_) => {
                    return Arc::new(Text::restored(budget, account, NOT_KEPT.as_bytes().to_vec()));
                }
            }
        }
    }

    fn remove_oldest(&self, uid: u32) -> bool {
        let mut reports = self.0.lock();
        let oldest = reports.iter().position(|report| report.uid == uid);
        let removed = oldest.map(|oldest| reports.remove(oldest));
        drop(reports);
        removed.is_some()
    }

    /// Adds a report, in the place of the one that this UID has of that path.
    pub(super) fn add(&self, report: Report) {
        let mut reports = self.0.lock();
        reports.retain(|old| old.uid != report.uid || old.path != report.path);
        reports.push(Arc::new(report));
        prune(&mut reports);
    }

    /// The report of that path that the UID sees: its own, an admin's also the newest of others.
    pub(super) fn find(&self, uid: u32, admin: bool, path: &str) -> Option<Arc<Report>> {
        let reports = self.0.lock();
        let own = reports.iter().find(|report| report.path == path && report.uid == uid);
        let others = || reports.iter().rev().find(|report| admin && report.path == path);
        own.or_else(others).cloned()
    }

    pub(super) fn remove(&self, report: &Arc<Report>) {
        self.0.lock().retain(|other| !Arc::ptr_eq(other, report));
    }

    /// The names that lead from a directory to reports, and whether each is of a file in it.
    pub(super) fn names(&self, uid: u32, admin: bool, directory: &str) -> Vec<(String, bool)> {
        let reports = self.0.lock();
        let seen = reports.iter().filter(|report| admin || report.uid == uid);
        seen.filter_map(|report| child_of(&report.path, directory))
            .map(|(name, is_it)| (name.to_owned(), is_it))
            .collect()
    }

    /// Whether the UID sees a report below a directory.
    pub(super) fn has_below(&self, uid: u32, admin: bool, directory: &str) -> bool {
        let reports = self.0.lock();
        let mut seen = reports.iter().filter(|report| admin || report.uid == uid);
        seen.any(|report| is_below(&report.path, directory))
    }
}

/// Removes the oldest until what is left is within the limits.
fn prune(reports: &mut Vec<Arc<Report>>) {
    let mut by_uid: HashMap<u32, (usize, usize)> = HashMap::new();
    let mut all = 0;
    let mut kept: Vec<_> = std::mem::take(reports)
        .into_iter()
        .rev()
        .filter(|report| {
            let (count, bytes) = by_uid.entry(report.uid).or_default();
            let size = report.text.bytes.len();
            let fits = *count < PER_UID
                && (*count == 0 || *bytes + size <= BYTES_PER_UID)
                && (all == 0 || all + size <= BYTES);
            if fits {
                (*count, *bytes, all) = (*count + 1, *bytes + size, all + size);
            }
            fits
        })
        .collect();
    kept.reverse();
    *reports = kept;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::budget::MemoryLimits;

    fn report(uid: u32, path: &str, size: usize) -> Report {
        let limits = MemoryLimits { per_user: 64 << 20, total: 128 << 20 };
        let (budget, text) = (Budget::new(limits), "x".repeat(size));
        let text = Arc::new(Text::new(&budget, Account::User(uid), path, text).unwrap());
        Report { node: 1, uid, path: path.to_owned(), text, at: SystemTime::now() }
    }

    #[test]
    fn keeps_the_last_of_each() {
        let reports = Reports::default();
        reports.add(report(8, "other", 1));
        (0..300).for_each(|number| reports.add(report(7, &format!("f{number}"), 1)));
        assert!(reports.find(7, false, "f43").is_none());
        assert!(reports.find(7, false, "f44").is_some());
        assert!(reports.find(8, false, "other").is_some());
        assert_eq!(reports.0.lock().len(), 257);
    }

    #[test]
    fn stays_within_its_bytes_but_keeps_the_newest() {
        let reports = Reports::default();
        reports.add(report(7, "a", 9 << 20));
        reports.add(report(7, "b", 9 << 20));
        assert!(reports.find(7, false, "a").is_none() && reports.find(7, false, "b").is_some());
        reports.add(report(7, "c", 17 << 20));
        assert!(reports.find(7, false, "b").is_none() && reports.find(7, false, "c").is_some());
        (0..20).for_each(|uid| reports.add(report(100 + uid, "x", 16 << 20)));
        let left: usize = reports.0.lock().iter().map(|report| report.text.bytes.len()).sum();
        assert!(left <= BYTES && reports.find(119, false, "x").is_some());
    }

    #[test]
    fn only_importer_and_admins_see_it() {
        let reports = Reports::default();
        reports.add(report(7, "d/a.yaml", 1));
        reports.add(report(8, "d/a.yaml", 2));
        assert_eq!(reports.find(7, false, "d/a.yaml").unwrap().uid, 7);
        assert!(reports.find(9, false, "d/a.yaml").is_none());
        assert_eq!(reports.find(0, true, "d/a.yaml").unwrap().uid, 8);
        assert_eq!(reports.names(7, false, ""), [("d".to_owned(), false)]);
        assert!(reports.names(9, false, "d").is_empty() && !reports.has_below(9, false, "d"));
        reports.add(report(7, "d/a.yaml", 3));
        assert_eq!(reports.find(7, false, "d/a.yaml").unwrap().text.bytes.len(), 3);
    }
}
