//! What callers on several machines did and saw, and whether that can have been one tree.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;

use crate::harness::eventually;

/// How long callers rest between two rounds.
const PACE: Duration = Duration::from_millis(5);

/// Everything that happened.
#[derive(Default)]
pub(super) struct History {
    writes: Mutex<Vec<Written>>,
    reads: Mutex<Vec<Vec<Seen>>>,
    next: AtomicU64,
    is_over: AtomicBool,
}

struct Written {
    key: String,
    value: String,
    outcome: Result<(), Errno>,
}

/// What one reader saw, in its order.
struct Seen {
    key: String,
    version: u64,
    value: String,
}

impl History {
    /// Callers on each mount, one that writes and one that reads, until `meanwhile` is over.
    pub(super) fn record(&self, points: &[PathBuf], keys: &[&str], meanwhile: impl FnOnce()) {
        std::thread::scope(|scope| {
            for point in points {
                scope.spawn(|| self.write_until_over(point, keys));
                scope.spawn(|| self.read_until_over(point, keys));
            }
            let _end = End(&self.is_over);
            meanwhile();
        });
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    fn write_until_over(&self, point: &Path, keys: &[&str]) {
        while self.goes_on() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let key = keys[usize::try_from(number).expect("they are few") % keys.len()];
            let value = format!("value {number}");
            let outcome = rotate(&point.join(key), value.as_bytes());
            if let Err(errno) = outcome
                && errno != Errno::ESTALE
            {
                let why = std::fs::read_to_string(point.join(".status/last-error"));
                eprintln!(
                    "{errno}: {}",
                    why.unwrap_or_default().lines().last().unwrap_or_default()
                );
            }
            let written = Written { key: key.to_owned(), value, outcome };
            self.writes.lock().unwrap().push(written);
            std::thread::sleep(PACE);
        }
    }

    fn read_until_over(&self, point: &Path, keys: &[&str]) {
        let mut seen = Vec::new();
        while self.goes_on() {
            for key in keys {
                let (version, value) = look(&point.join(key));
                seen.push(Seen { key: (*key).to_owned(), version, value });
            }
            // What is looked at is not to be starved by who looks.
            std::thread::sleep(PACE);
        }
        self.reads.lock().unwrap().push(seen);
    }

    /// How many writes came to that.
    pub(super) fn count(&self, what: &str) -> usize {
        self.counts().get(what).copied().unwrap_or_default()
    }

    /// How many writes came to what.
    pub(super) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for one in self.writes.lock().unwrap().iter() {
            let name = one.outcome.map_or_else(|errno| format!("{errno:?}"), |()| "ok".to_owned());
            *counts.entry(name).or_default() += 1;
        }
        counts
    }

    /// Every value that was read was written, and not by somebody who was told that he lost; a
    /// version is one value everywhere, and never goes back on a machine; what was acknowledged has
    /// a version, and nothing else has but what may have been stored. The keys had version 1 before.
    pub(super) fn check(&self, points: &[PathBuf], keys: &[&str]) {
        let writes = self.writes.lock().unwrap();
        let mut values: HashMap<(&str, u64), &str> = HashMap::new();
        let reads = self.reads.lock().unwrap();
        for seen in reads.iter() {
            let mut last: HashMap<&str, u64> = HashMap::new();
            for Seen { key, version, value } in seen {
                let last = last.entry(key).or_default();
                assert!(version >= last, "{key}: version {version} after {last}");
                *last = *version;
                let known = values.entry((key, *version)).or_insert(value);
                assert_eq!(known, value, "{key}: version {version} is two values");
            }
        }
        let certain = |errno: &Errno| [Errno::ESTALE, Errno::ENETUNREACH].contains(errno);
        let refused: HashSet<&str> = writes
            .iter()
            .filter(|one| one.outcome.is_err_and(|errno| certain(&errno)))
            .map(|one| one.value.as_str())
            .collect();
        let written: HashSet<&str> = writes.iter().map(|one| one.value.as_str()).collect();
        for ((key, version), value) in &values {
            assert!(*version == 1 || written.contains(value), "{key}: {value} was never written");
            assert!(!refused.contains(value), "{key}: {value} was refused, and is there");
        }
        for key in keys {
            let of_key = || writes.iter().filter(|one| one.key == *key);
            let acknowledged = of_key().filter(|one| one.outcome.is_ok()).count() as u64;
            let open = of_key().filter(|one| one.outcome.is_err_and(|it| !certain(&it))).count();
            let mut end = (0, String::new());
            eventually("all have the same version", || {
                let all: Vec<_> = points.iter().map(|point| look(&point.join(key))).collect();
                end = all[0].clone();
                all.iter().all(|one| *one == end)
            });
            let stored = end.0 - 1;
            let possible = acknowledged..=acknowledged + open as u64;
            assert!(possible.contains(&stored), "{key}: {stored} versions of {possible:?}");
        }
    }
}

/// Ends what the callers do, also where the test fails: they are waited for.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writes a value as `echo VALUE > KEY` does, and closes.
pub(super) fn rotate(path: &Path, value: &[u8]) -> Result<(), Errno> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).open(path).map_err(errno)?;
    file.write_all(value).map_err(errno)?;
    nix::unistd::close(file.into_raw_fd())
}

/// A version and its value. An attribute is always that of the current version: what was read between
/// two looks at it that are the same is that version's.
pub(super) fn look(path: &Path) -> (u64, String) {
    loop {
        let before = version(path);
        let value = std::fs::read_to_string(path).expect("readers are never refused");
        if version(path) == before {
            return (before, value);
        }
    }
}

fn version(path: &Path) -> u64 {
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path has no zero");
    let mut text = [0_u8; 32];
    let name = c"user.secretfs.version".as_ptr();
    // SAFETY: both texts end, and the kernel writes at most as many bytes as it is told there are.
    let length =
        unsafe { libc::getxattr(path.as_ptr(), name, text.as_mut_ptr().cast(), text.len()) };
    let length = usize::try_from(length).expect("a secret has a version");
    let version = std::str::from_utf8(&text[..length]).expect("it is a number");
    version.parse().expect("it is a number")
}
