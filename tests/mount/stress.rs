//! Writers never disturb readers: readers in eight processes against five kinds of writers. Values
//! carry their sequence number, length and a filling of their own, and a ledger in shared memory says
//! what was begun and what has been acknowledged, so that empty, torn, stale and missing values show.
//!
//! `SECRETFS_STRESS_SECONDS` sets the length; 4 s otherwise.

mod ledger;
mod reader;
mod value;
mod writer;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::harness::{ALICE, BOB, Mount, Person, ROOT};
use ledger::Ledger;
use reader::Style;
pub(crate) use reader::map_private;
use writer::Writer;

/// What one process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    role: Role,
    /// The folder of the keys.
    folder: PathBuf,
    /// The file of the ledger.
    ledger: PathBuf,
    /// How long, in seconds.
    pub(crate) seconds: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Role {
    /// Reads what these writers write.
    Read(Style, bool),
    Write(Writer),
}

/// What a process did and what it saw that nobody may see.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Report {
    operations: u64,
    /// How often, by kind.
    anomalies: BTreeMap<String, u64>,
    /// The first few, in words.
    examples: Vec<String>,
}

impl Report {
    fn anomaly(&mut self, kind: &str, what: String) {
        *self.anomalies.entry(kind.to_owned()).or_default() += 1;
        if self.examples.len() < 5 {
            self.examples.push(format!("{kind}: {what}"));
        }
    }
}

/// Runs in the agent; the answer is for [`crate::user::User::stress`].
pub(crate) fn run(job: &Job) -> String {
    let ledger = Ledger::open(&job.ledger);
    let report = match job.role {
        Role::Read(style, churn_too) => reader::run(style, churn_too, job, &ledger),
        Role::Write(writer) => writer::run(writer, job, &ledger),
    };
    serde_json::to_string(&report).expect("plain data")
}

#[test]
fn writers_never_disturb_readers() {
    let Some(mount) = Mount::start() else { return };
    let seconds = std::env::var("SECRETFS_STRESS_SECONDS")
        .map_or(4, |text| text.parse().expect("SECRETFS_STRESS_SECONDS is a number"));
    let ledger = mount.outside().join("ledger");
    Ledger::create(&ledger);
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    for writer in Writer::ALL.into_iter().filter(|&writer| writer != Writer::Churn) {
        let key = format!("alice/{}", writer.key());
        assert_eq!(alice.write(&key, value::of(0)), Ok(()));
        assert_eq!(root.write(&format!("{key}.acl"), "readers: [alice, bob]\n"), Ok(()));
    }

    // What alice is creating is hers to see: the churn is for other users' eyes.
    let mut parts: Vec<(Person, Role)> =
        Writer::ALL.into_iter().map(|writer| (ALICE, Role::Write(writer))).collect();
    parts.extend(Style::ALL.into_iter().map(|style| (ROOT, Role::Read(style, true))));
    parts.extend([Style::Whole, Style::Map].map(|style| (BOB, Role::Read(style, false))));

    let folder = mount.point().join("alice");
    let reports: Vec<(String, Result<Report, String>)> = std::thread::scope(|scope| {
        let running: Vec<_> = parts
            .iter()
            .map(|&(person, role)| {
                let job = Job { role, folder: folder.clone(), ledger: ledger.clone(), seconds };
                let user = mount.user(person);
                (format!("{} {role:?}", person.name), scope.spawn(move || user.stress(&job)))
            })
            .collect();
        running
            .into_iter()
            .map(|(name, thread)| {
                let report = thread.join().map_err(|panic| {
                    let text = panic.downcast_ref::<String>().cloned();
                    format!("its process did not survive: {}", text.unwrap_or_default())
                });
                (name, report.map(|json| serde_json::from_str(&json).expect("a report")))
            })
            .collect()
    });

    let mut wrong = Vec::new();
    for (name, report) in &reports {
        match report {
            Ok(report) => {
                eprintln!("{name}: {} operations, {:?}", report.operations, report.anomalies);
                assert!(report.operations > 0, "{name} did nothing");
                wrong.extend(report.examples.iter().map(|example| format!("{name}: {example}")));
            }
            Err(death) => wrong.push(format!("{name}: {death}")),
        }
    }
    assert!(wrong.is_empty(), "anomalies:\n{}", wrong.join("\n"));

    let ledger = Ledger::open(&ledger);
    for writer in Writer::ALL.into_iter().filter(|&writer| writer != Writer::Churn) {
        let bytes = root.read_bytes(&format!("alice/{}", writer.key())).unwrap();
        let sequence = value::check(&bytes).unwrap();
        assert!(sequence >= ledger.acknowledged(writer), "{writer:?} lost its last value");
    }
}
