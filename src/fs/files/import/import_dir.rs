//! What became of the files of the directory that is imported (`--import-dir`).

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::audit::Process;
use crate::fs::Fs;
use crate::model::{Caller, Timestamp, printable};
use crate::vault::{Applied, Change};

use super::NotApplied;

/// How many files are kept. Of the owner with the most, the one that was looked at longest ago goes first.
const FILES: usize = 4096;
/// How many lines are kept of each.
const LINES: usize = 20;
/// How many bytes are kept of each.
const BYTES: usize = 8192;

/// How often a file is applied that other hosts may be applying, too.
const TRIES: u32 = 10;

/// Files by path. The lock is a leaf.
#[derive(Default)]
pub(super) struct DirectoryStatus(Mutex<BTreeMap<String, FileStatus>>);

struct FileStatus {
    uid: u32,
    at: Timestamp,
    failed: bool,
    said: String,
}

impl DirectoryStatus {
    fn note(&self, path: &str, status: FileStatus) {
        let mut files = self.0.lock();
        if files.len() >= FILES && !files.contains_key(path) {
            let mut counts: HashMap<u32, usize> = HashMap::new();
            files.values().for_each(|one| *counts.entry(one.uid).or_default() += 1);
            let most = counts.into_iter().max_by_key(|&(_, count)| count).map(|(uid, _)| uid);
            let of_owner = files.iter().filter(|(_, status)| Some(status.uid) == most);
            let oldest = of_owner.min_by_key(|(_, status)| status.at);
            if let Some(oldest) = oldest.map(|(path, _)| path.clone()) {
                files.remove(&oldest);
            }
        }
        files.insert(path.to_owned(), status);
    }

    /// A line for each file that the caller owns, an admin's for all: when, how, which, and what.
    fn text(&self, caller: &Caller) -> String {
        let files = self.0.lock();
        let seen = files.iter().filter(|(_, one)| caller.is_admin() || one.uid == caller.uid());
        let mut text = String::new();
        for (path, FileStatus { uid, at, failed, said }) in seen {
            let (at, how) = (at.to_rfc3339(), if *failed { "failed" } else { "ok" });
            let mut lines = said.lines();
            let first = lines.next().unwrap_or_default();
            // A file's name cannot begin a line.
            let (path, first) = (printable(path), printable(first));
            writeln!(text, "{at} {how} {path} (UID {uid}): {first}").expect("a string takes all");
            for line in lines.by_ref().take(LINES) {
                writeln!(text, "    {}", printable(line)).expect("a string takes all");
            }
            if lines.next().is_some() {
                text.push_str("    and more: see the log\n");
            }
        }
        text
    }
}

impl Fs {
    /// Applies the text of a file with the rights of a UID; waits until that is durable.
    ///
    /// # Errors
    /// Nothing was applied, and why.
    pub fn import(&self, uid: u32, text: &[u8]) -> Result<Applied, NotApplied> {
        // There is no request: the record names this process, which read the file.
        let pid = std::process::id();
        let process = Process { pid, program: Some("import-dir".into()), ..Process::default() };
        // Hosts that share a store may have the same file: after a conflict, the next try finds it applied.
        let mut tries = TRIES;
        let applied = loop {
            match self.apply(self.identities.resolve(uid), process.clone(), text) {
                Err(NotApplied::Vault(error)) if tries > 1 && error.is_overtaken() => tries -= 1,
                outcome => break outcome?,
            }
        };
        let stale = self.stale_after(&applied.changes);
        self.watchers.imported(&applied.changes);
        self.invalidator.forget(stale);
        Ok(applied)
    }

    /// Other hosts changed this, and it is visible: notifies the kernel and the watchers.
    pub fn changed_elsewhere(&self, changes: &[Change]) {
        let stale = self.stale_after(changes);
        self.watchers.imported(changes);
        self.invalidator.forget(stale);
    }

    /// Remembers what became of a file of the imported directory, for `.status/import-dir`.
    pub fn note_imported(&self, path: &str, uid: u32, said: String, failed: bool) {
        let at = SystemTime::now().into();
        let said = first_lines(&said);
        self.import.directory.note(path, FileStatus { uid, at, failed, said });
    }

    pub(in crate::fs) fn import_dir_text(&self, caller: &Caller) -> String {
        self.import.directory.text(caller)
    }
}

/// What is kept of a text: the lines that are shown, and one that shows that there are more.
fn first_lines(text: &str) -> String {
    let mut kept = String::new();
    for line in text.lines().take(LINES + 2) {
        if kept.len() + line.len() >= BYTES {
            break;
        }
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Slug;

    #[test]
    fn admins_see_all_others_their_own() {
        let directory = DirectoryStatus::default();
        let note = |path: &str, uid, said: &str, failed| {
            let at = Timestamp::from_nanos(0);
            directory.note(path, FileStatus { uid, at, failed, said: said.to_owned() });
        };
        note("a.yaml", 7, "1 created", false);
        note("b\nc.yaml", 8, "nothing was applied:\nline 1: no\nline 2: no", true);
        let of = |uid, admin| directory.text(&Caller::new(uid, Slug::parse("x").ok(), [], admin));
        assert_eq!(of(7, false), "1970-01-01T00:00:00Z ok a.yaml (UID 7): 1 created\n");
        let failed = "1970-01-01T00:00:00Z failed b\\nc.yaml (UID 8): nothing was applied:\n    line 1: no\n    line 2: no\n";
        assert_eq!(of(8, false), failed);
        assert_eq!(of(9, false), "");
        assert_eq!(of(9, true), of(7, false) + failed);
        note("a.yaml", 7, &"x\n".repeat(50), true);
        assert_eq!(of(7, false).lines().count(), 22);
        (0..5000).for_each(|number| note(&format!("f{number}"), 9, "x", false));
        // The files of the others stay.
        assert_eq!(of(9, true).lines().filter(|line| line.contains(" ok f")).count(), FILES - 2);
        assert!(of(9, true).contains(" a.yaml (UID 7)"));
    }
}
