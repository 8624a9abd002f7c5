//! Writers never disturb readers: readers in eight processes against five kinds of writers. Values
//! carry their sequence number, length and a filling of their own, and a ledger in shared memory says
//! what was begun and what has been acknowledged, so that empty, torn, stale and missing values show.
//!
//! `SECRETFS_STRESS_SECONDS` sets the length; 4 s otherwise.

mod exact;
mod ledger;
mod reader;
mod value;
mod writer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::audit::verify;
use crate::bind::Bind;
use crate::harness::{ALICE, BOB, Mount, Person, ROOT};
use exact::Exact;
use ledger::Ledger;
use reader::Style;
pub(crate) use reader::map_private;
use writer::Writer;

/// What one process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    role: Role,
    /// The directory of the keys.
    directory: PathBuf,
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
    /// As `Read` and `Write`, through bind mounts of the files.
    ReadBound(Style),
    WriteBound(Writer),
    Exact(Exact),
}

impl Role {
    fn is_bound(self) -> bool {
        matches!(self, Self::ReadBound(_) | Self::WriteBound(_))
    }
}

/// What a process did and what it saw that nobody may see.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Report {
    operations: u64,
    /// How often a writer was told that its buffer was lost.
    lost: u64,
    /// How long an operation took at most, in milliseconds.
    longest: u64,
    /// How often, by kind.
    anomalies: BTreeMap<String, u64>,
    /// The first few, in words.
    examples: Vec<String>,
}

impl Report {
    fn anomaly(&mut self, kind: &str, what: String) {
        *self.anomalies.entry(kind.to_owned()).or_default() += 1;
        if self.anomalies[kind] <= 3 {
            self.examples.push(format!("{kind}: {what}"));
        }
    }
}

/// Until when a part runs, and how long its operations take.
struct Watch {
    end: Instant,
    longest: Duration,
}

impl Watch {
    fn new(job: &Job) -> Self {
        Self { end: Instant::now() + Duration::from_secs(job.seconds), longest: Duration::ZERO }
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.end
    }

    fn time<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let outcome = operation();
        self.longest = self.longest.max(start.elapsed());
        outcome
    }

    fn longest(&self) -> u64 {
        u64::try_from(self.longest.as_millis()).expect("it is not that long")
    }
}

/// Runs in the agent; the answer is for [`crate::user::User::stress`].
pub(crate) fn run(job: &Job) -> String {
    let ledger = Ledger::open(&job.ledger);
    let report = match job.role {
        Role::Read(style, churn_too) => reader::run(style, churn_too, job, &ledger),
        Role::ReadBound(style) => reader::run(style, false, job, &ledger),
        Role::Write(writer) | Role::WriteBound(writer) => writer::run(writer, job, &ledger),
        Role::Exact(exact) => exact::run(exact, job),
    };
    serde_json::to_string(&report).expect("plain data")
}

#[test]
fn writers_never_disturb_readers() {
    let Some(mount) = Mount::start() else { return };
    let parts = parts();
    assert_eq!(play(&mount, &parts, seconds(4), || {}), 0, "nothing takes a buffer away");
}

/// Readers and writers of the same secrets by path and through bind mounts of their files.
#[test]
fn bind_mounts_disturb_nobody() {
    let Some(mount) = Mount::start() else { return };
    assert_eq!(play(&mount, &bound_parts(), seconds(4), || {}), 0, "nothing takes a buffer away");
}

#[test]
fn a_killed_server_disturbs_no_bind_mount() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--crash-limit", "10000"]).started();
    let seconds = seconds(6);
    let mut killed = 0;
    let lost = play(&mount, &bound_parts(), seconds, || killed = kill_servers(&mount, seconds));
    assert!(lost <= 1 + killed as u64 / 20, "{lost} writers lost their buffers");
}

/// The daemon sees no PID of its callers.
#[test]
fn callers_without_pid_disturb_nobody() {
    // Nothing tells which of several writers of one UID is killed.
    without_pid(parts(), |role| matches!(role, Role::Write(Writer::Killed)));
}

#[test]
fn a_killed_writer_without_pid_disturbs_nobody() {
    without_pid(parts(), |role| matches!(role, Role::Write(writer) if writer != Writer::Killed));
}

#[test]
fn bind_mounts_without_pid_disturb_nobody() {
    // Nor of which open version fstat(2) wants the size.
    without_pid(bound_parts(), |role| {
        matches!(role, Role::ReadBound(Style::Whole) | Role::WriteBound(Writer::Killed))
    });
}

/// Nobody maps a file: who comes by the path while others of his UID do may be taken for one with a bind mount.
fn without_pid(parts: Vec<(Person, Role)>, is_left_out: impl Fn(Role) -> bool) {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.in_own_pid_namespace().started();
    let maps = |role| matches!(role, Role::Read(Style::Map, _));
    let parts: Vec<_> =
        parts.into_iter().filter(|&(_, role)| !is_left_out(role) && !maps(role)).collect();
    assert_eq!(play(&mount, &parts, seconds(4), || {}), 0, "nothing takes a buffer away");
}

/// Those that read or write through bind mounts, and others beside them.
fn bound_parts() -> Vec<(Person, Role)> {
    let mut parts: Vec<(Person, Role)> = vec![
        (ALICE, Role::WriteBound(Writer::InPlace)),
        (ALICE, Role::WriteBound(Writer::Bash)),
        (ALICE, Role::WriteBound(Writer::Killed)),
        (ALICE, Role::Write(Writer::Rename)),
    ];
    let bound = [Style::Whole, Style::Chunks, Style::Held, Style::Cat];
    parts.extend(bound.map(|style| (BOB, Role::ReadBound(style))));
    parts.extend([Style::Whole, Style::Map].map(|style| (ROOT, Role::Read(style, false))));
    parts
}

/// The server is killed at random moments. `SECRETFS_KILLS` says how often at least.
#[test]
fn a_killed_server_disturbs_nobody() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--crash-limit", "10000"]).started();
    let alice = mount.user(ALICE);
    for key in ["append", "lists", "empty", "hold"] {
        assert_eq!(alice.write(&format!("alice/{key}"), ""), Ok(()));
    }
    let mut parts = parts();
    parts.extend(Exact::ALL.into_iter().map(|exact| (ALICE, Role::Exact(exact))));
    let seconds = seconds(6);
    let kills = std::env::var("SECRETFS_KILLS")
        .map_or(3, |text| text.parse().expect("SECRETFS_KILLS is a number"));
    let mut killed = 0;
    let lost = play(&mount, &parts, seconds, || killed = kill_servers(&mount, seconds));
    let record = verify(&mount.state(), 0);
    eprintln!("killed {killed} times; {}", record.trim_end());
    assert!(lost <= 1 + killed as u64 / 20, "{lost} writers lost their buffers");
    assert!(killed >= kills, "killed {killed} times only");
}

/// Kills the server at random moments, until half a second before the end. How often.
fn kill_servers(mount: &Mount, seconds: u64) -> usize {
    let end = Instant::now() + Duration::from_secs(seconds) - Duration::from_millis(500);
    let (mut random, mut killed) = (u64::from(std::process::id()), 0);
    let witness = mount.user(ROOT);
    while Instant::now() < end {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Mostly a server that serves; sometimes one that is about to.
        if random >> 62 != 0 {
            witness.stat(".status").unwrap();
        }
        std::thread::sleep(Duration::from_micros((random >> 33) % 400_000));
        killed += usize::from(mount.kill_server());
    }
    killed
}

/// Another build serves, again and again. `SECRETFS_UPGRADES` says how often at least, and
/// `SECRETFS_OTHER_BUILD` names a build of another kind that takes turns with this one.
#[test]
fn an_upgrade_disturbs_nobody() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_copied_program().started();
    let alice = mount.user(ALICE);
    for key in ["append", "lists", "empty", "hold"] {
        assert_eq!(alice.write(&format!("alice/{key}"), ""), Ok(()));
    }
    let mut parts = parts();
    parts.extend(Exact::ALL.into_iter().map(|exact| (ALICE, Role::Exact(exact))));
    let seconds = seconds(8);
    let wanted = std::env::var("SECRETFS_UPGRADES")
        .map_or(2, |text| text.parse().expect("SECRETFS_UPGRADES is a number"));
    let own = PathBuf::from(env!("CARGO_BIN_EXE_secretfs"));
    let other = std::env::var_os("SECRETFS_OTHER_BUILD").map_or_else(|| own.clone(), PathBuf::from);
    let mut upgraded = 0;
    play(&mount, &parts, seconds, || {
        let end = Instant::now() + Duration::from_secs(seconds) - Duration::from_millis(500);
        while Instant::now() < end {
            let mark = format!("build {upgraded}");
            mount.install(if upgraded % 2 == 0 { &other } else { &own }, &mark);
            assert_eq!(mount.upgrade(), Ok(()));
            upgraded += 1;
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    eprintln!("upgraded {upgraded} times");
    assert!(upgraded >= wanted, "upgraded {upgraded} times only");
}

fn seconds(usual: u64) -> u64 {
    std::env::var("SECRETFS_STRESS_SECONDS")
        .map_or(usual, |text| text.parse().expect("SECRETFS_STRESS_SECONDS is a number"))
}

/// Writers and readers.
fn parts() -> Vec<(Person, Role)> {
    // What alice is creating is hers to see: the churn is for other users' eyes.
    let mut parts: Vec<(Person, Role)> =
        Writer::ALL.into_iter().map(|writer| (ALICE, Role::Write(writer))).collect();
    parts.extend(Style::ALL.into_iter().map(|style| (ROOT, Role::Read(style, true))));
    parts.extend([Style::Whole, Style::Map].map(|style| (BOB, Role::Read(style, false))));
    parts
}

/// Plays all parts at the same time, and `meanwhile` something else.
/// Gives how often a writer was told that its buffer was lost.
fn play(mount: &Mount, parts: &[(Person, Role)], seconds: u64, meanwhile: impl FnOnce()) -> u64 {
    let ledger = mount.outside().join("ledger");
    Ledger::create(&ledger);
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    for writer in Writer::ALL.into_iter().filter(|&writer| writer != Writer::Churn) {
        let key = format!("alice/{}", writer.key());
        assert_eq!(alice.write(&key, value::of(0)), Ok(()));
        assert_eq!(root.write(&format!("{key}.acl"), "readers: [alice, bob]\n"), Ok(()));
    }
    let directory = mount.point().join("alice");
    let bound_directory = mount.outside().join("bound");
    std::fs::create_dir(&bound_directory).unwrap();
    let mut binds = Vec::new();
    if parts.iter().any(|(_, role)| role.is_bound()) {
        for writer in Writer::ALL.into_iter().filter(|&writer| writer != Writer::Churn) {
            let bind = Bind::new(&directory.join(writer.key()), bound_directory.join(writer.key()));
            // Who reads a version keeps others from writing through its node: from now on nobody does.
            assert_eq!(alice.write_with(bind.path(), libc::O_TRUNC, value::of(0)), Ok(()));
            binds.push(bind);
        }
    }
    let reports: Vec<(String, Result<Report, String>)> = std::thread::scope(|scope| {
        let running: Vec<_> = parts
            .iter()
            .map(|&(person, role)| {
                let directory = if role.is_bound() { &bound_directory } else { &directory };
                let (directory, ledger) = (directory.clone(), ledger.clone());
                let job = Job { role, directory, ledger, seconds };
                let user = mount.user(person);
                (format!("{} {role:?}", person.name), scope.spawn(move || user.stress(&job)))
            })
            .collect();
        meanwhile();
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

    let (mut wrong, mut lost) = (Vec::new(), 0);
    for (name, report) in &reports {
        match report {
            Ok(report) => {
                eprintln!(
                    "{name}: {} operations, {} ms at most, {} buffers lost, {:?}",
                    report.operations, report.longest, report.lost, report.anomalies
                );
                lost += report.lost;
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
    lost
}
