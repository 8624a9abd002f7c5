//! What is wrong at present.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// What can be unwell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The file system of the state directory.
    Disk,
    /// The store.
    Store,
    /// The store that many hosts share.
    Etcd,
    /// The audit log.
    Audit,
    /// The import directory.
    ImportDir,
    /// The identities file.
    Identities,
    /// The encryption keys.
    Keys,
    /// What confines the server.
    Sandbox,
    /// The settings: flags and the configuration file.
    Settings,
}

impl Part {
    /// Its name, as health shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Store => "store",
            Self::Etcd => "etcd",
            Self::Audit => "audit",
            Self::ImportDir => "import-dir",
            Self::Identities => "identities",
            Self::Keys => "keys",
            Self::Sandbox => "sandbox",
            Self::Settings => "settings",
        }
    }
}

/// A sentence for each part that is unwell, and what is worth knowing and is no fault.
#[derive(Default)]
pub struct Health {
    unwell: Mutex<BTreeMap<Part, String>>,
    notes: Mutex<Vec<String>>,
}

impl Health {
    /// How a part is now: well, or what is wrong with it in a sentence without a value in it. The
    /// last report of a part holds.
    pub fn report<E: ToString>(&self, part: Part, outcome: Result<(), E>) {
        let mut unwell = self.unwell.lock();
        match outcome {
            Ok(()) => unwell.remove(&part),
            Err(why) => unwell.insert(part, why.to_string()),
        };
    }

    /// All that is wrong, each part once.
    pub fn problems(&self) -> Vec<(Part, String)> {
        self.unwell.lock().iter().map(|(part, why)| (*part, why.clone())).collect()
    }

    /// Adds a sentence that is shown as long as this process runs, and is no fault.
    pub fn note(&self, what: impl Into<String>) {
        self.notes.lock().push(what.into());
    }

    /// What was added by [`Health::note`].
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_report_of_a_part_holds() {
        let health = Health::default();
        health.report(Part::Store, Err("no space"));
        health.report(Part::Audit, Err("no directory"));
        health.report(Part::Store, Err("no disk"));
        let problems = [(Part::Store, "no disk".into()), (Part::Audit, "no directory".into())];
        assert_eq!(health.problems(), problems);
        health.report(Part::Store, Ok::<(), &str>(()));
        health.report(Part::Disk, Ok::<(), &str>(()));
        assert_eq!(health.problems(), problems[1..]);
        health.note("an old kernel");
        assert_eq!(
            (health.problems().len(), health.notes()),
            (1, vec!["an old kernel".to_owned()])
        );
    }
}
