//! The audit log under load: as many lines as the clients count operations, of each kind, whatever
//! happens meanwhile.
//!
//! `SECRETFS_LOAD_SECONDS` sets the length (3 s otherwise), `SECRETFS_LOAD_PAUSE` a pause of each
//! client after each operation, in microseconds (none otherwise).

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::audit::verify;
use crate::harness::{ALICE, BOB, DAVE, Mount, Person, ROOT, UNKNOWN};

/// Denials of one UID that have a line of their own in each second; further ones are counted.
const DENIALS_IN_A_SECOND: u64 = 100;

/// How many operations there were, by UID, what was done, and its outcome.
type Counts = BTreeMap<(u64, String, String), u64>;

/// One client: a thread that takes on a user's UID.
struct Client<'a> {
    person: Person,
    point: &'a Path,
    counts: Counts,
}

impl Client<'_> {
    /// Works until `over`, or until the mount is gone.
    fn work(mut self, pause: Duration, over: &AtomicBool) -> Counts {
        become_user(self.person.uid);
        let mut round = 0_u64;
        while !over.load(Ordering::Relaxed) {
            round += 1;
            let outcome = match round % 20 {
                0 => self.replace(round),
                1 => self.count("open", read(&self.point.join("root-only"))),
                2 => self.count("delete", fs::remove_file(self.point.join("root-only-too"))),
                _ => self.count("open", read(&self.point.join("shared"))),
            };
            if outcome.is_err() {
                break;
            }
            std::thread::sleep(pause);
        }
        self.counts
    }

    /// Puts a secret of one's own in the place of another, and removes it now and then.
    fn replace(&mut self, round: u64) -> io::Result<()> {
        let path = self.point.join(self.person.name).join("K");
        let exists = path.try_exists()?;
        let opened = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
        let op = if exists { "open" } else { "create" };
        let mut file = match opened {
            Ok(file) => file,
            Err(error) => return self.count(op, Err(error)),
        };
        self.count(op, Ok(()))?;
        file.write_all(b"value")?;
        nix::unistd::close(file)?;
        self.count("commit", Ok(()))?;
        match round.is_multiple_of(100) {
            true => self.count("delete", fs::remove_file(&path)),
            false => Ok(()),
        }
    }

    /// Counts an operation that was answered; gives what is neither done nor denied.
    fn count(&mut self, op: &str, outcome: io::Result<()>) -> io::Result<()> {
        let told = match &outcome {
            Ok(()) => "allowed",
            Err(error) if error.kind() == ErrorKind::PermissionDenied => "denied",
            Err(_) => return outcome,
        };
        let key = (self.person.uid.into(), op.to_owned(), told.to_owned());
        *self.counts.entry(key).or_default() += 1;
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<()> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    assert_eq!(bytes, b"value");
    Ok(())
}

/// For this thread alone: the C library would change all of them.
fn become_user(uid: u32) {
    // SAFETY: it changes the thread's credentials and touches no memory.
    let outcome = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    assert_eq!(outcome, 0, "the test runs as root");
}

/// What the log counts.
fn logged(state: &Path) -> Counts {
    let mut counts = Counts::new();
    let mut files: Vec<PathBuf> =
        fs::read_dir(state.join("audit")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files {
        for line in BufReader::new(File::open(path).unwrap()).lines() {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let Some(uid) = line["uid"].as_u64() else { continue };
            let text = |field: &str| line[field].as_str().unwrap().to_owned();
            let decisions = line["repeats"].as_u64().unwrap_or(1);
            *counts.entry((uid, text("op"), text("outcome"))).or_default() += decisions;
        }
    }
    counts
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Lets all clients work while `meanwhile` runs, and adds up what they count.
fn clients(mount: &Mount, meanwhile: impl FnOnce(&Mount)) -> Counts {
    let pause = Duration::from_micros(number("SECRETFS_LOAD_PAUSE", 0));
    let over = AtomicBool::new(false);
    let point = mount.point();
    let people = [ALICE, BOB, DAVE, UNKNOWN, ALICE, BOB];
    let mut total = Counts::new();
    std::thread::scope(|scope| {
        let running: Vec<_> = people
            .iter()
            .enumerate()
            .map(|(number, &person)| {
                // Two threads of one user must not replace each other's secret: the second has a
                // directory where it may not create.
                let name = if number < 3 { person.name } else { "nobody" };
                let person = Person { name, ..person };
                let client = Client { person, point: &point, counts: Counts::new() };
                let over = &over;
                scope.spawn(move || client.work(pause, over))
            })
            .collect();
        meanwhile(mount);
        over.store(true, Ordering::Relaxed);
        for thread in running {
            for (kind, count) in thread.join().expect("a client") {
                *total.entry(kind).or_default() += count;
            }
        }
    });
    total
}

fn prepared(repeats: &str) -> Option<Mount> {
    let arguments = ["--audit-keep", "0", "--audit-repeats", repeats];
    let mount = Mount::prepare()?.with_args(&arguments).started();
    let root = mount.user(ROOT);
    root.put("shared", "value", "readers: [alice, bob, dave, 'uid:4242']\n");
    root.put("root-only", "value", "");
    root.put("root-only-too", "value", "");
    Some(mount)
}

#[test]
fn as_many_lines_as_operations() {
    as_many_as_operations("each");
}

#[test]
fn as_many_decisions_as_operations() {
    as_many_as_operations("counted");
}

fn as_many_as_operations(repeats: &str) {
    let Some(mut mount) = prepared(repeats) else { return };
    let seconds = number("SECRETFS_LOAD_SECONDS", 3);
    let before = logged(&mount.state());
    let start = Instant::now();
    let mut counted = clients(&mount, |mount| {
        let mut next = Duration::ZERO;
        while start.elapsed() < Duration::from_secs(seconds) {
            std::thread::sleep(Duration::from_millis(50));
            if start.elapsed() > next {
                mount.signal(Signal::SIGUSR1);
                next += Duration::from_secs(1 + seconds / 10);
            }
        }
    });
    let operations: u64 = counted.values().sum();
    eprintln!("{operations} operations in {:?}: {counted:#?}", start.elapsed());
    assert!(operations > 100 * seconds.min(10), "the clients did little");
    for (kind, count) in before {
        *counted.entry(kind).or_default() += count;
    }
    verify(&mount.state(), 0);
    // Counts that are not written yet are written at the end.
    mount.stop();
    assert_eq!(logged(&mount.state()), counted);
    verify(&mount.state(), 0);
}

#[test]
fn killed_at_any_moment_it_has_a_line_for_every_answer() {
    // The supervisor is killed too, so counts of the last second are lost.
    let Some(mut mount) = prepared("each") else { return };
    for round in 0..5 {
        let before = logged(&mount.state());
        let pid = mount.pid();
        let counted = clients(&mount, |_| {
            std::thread::sleep(Duration::from_millis(200 + 70 * round));
            nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
        });
        mount.kill9();
        verify(&mount.state(), 0);
        mount.go();
        verify(&mount.state(), 0);
        let after = logged(&mount.state());
        let lines = |kind| after.get(kind).unwrap_or(&0) - before.get(kind).unwrap_or(&0);
        for (kind, count) in counted.iter().filter(|(kind, _)| kind.2 == "allowed") {
            let new = lines(kind);
            // What was not answered may be there too: one of each thread.
            assert!((*count..=count + 2).contains(&new), "{kind:?}: {new} lines, {count} answers");
        }
        for (uid, count) in denials(&counted) {
            let kinds = after.keys().filter(|kind| kind.0 == uid && kind.2 == "denied");
            let new: u64 = kinds.map(lines).sum();
            let written = count.min(DENIALS_IN_A_SECOND)..=count + 2;
            assert!(written.contains(&new), "UID {uid}: {new} denials on record, {count} answers");
        }
    }
}

/// The number of denials of each UID.
fn denials(counts: &Counts) -> BTreeMap<u64, u64> {
    let mut total = BTreeMap::new();
    for ((uid, _, outcome), count) in counts {
        if outcome == "denied" {
            *total.entry(*uid).or_default() += count;
        }
    }
    total
}
