//! Section 2: a slow, hanging, failing or crashing name service is felt only by callers whose UID is being
//! looked up. With a name service of our own, in a mount namespace of our own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno::{EACCES, EIO};

use crate::harness::{
    ALICE, BOB, DAVE, Mount, Person, ROOT, can_mount, eventually, set_mode, skip,
};
use crate::user::User;

/// Set in the process that runs in the namespace: the test, and where the service is.
const TRIAL: &str = "SECRETFS_TEST_NAME_SERVICE";
const DIRECTORY: &str = "SECRETFS_TEST_NAME_SERVICE_AT";
/// A service of glibc that no test needs. Ours takes its place.
const SERVICE: &str = "libnss_hesiod.so.2";
/// How long the slow service takes.
const LATENCY: Duration = Duration::from_secs(3);
/// Less than the service takes. Nobody else may wait longer.
const PROMPT: Duration = Duration::from_millis(2500);

/// Knows no user. What it does before it says so stands in a file: a line for a range of UIDs.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <nss.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum nss_status _nss_hesiod_getpwuid_r(uid_t uid, struct passwd *user, char *buffer, size_t size, int *error)
{
    unsigned first, last, time, found = 0;
    char what[8];
    FILE *file = fopen(CONTROL, "re");
    while (file && !found && fscanf(file, "%u %u %7s %u", &first, &last, what, &time) == 4)
        found = first <= uid && uid <= last;
    if (file)
        fclose(file);
    if (found && !strcmp(what, "wait"))
        usleep(time * 1000);
    if (found && !strcmp(what, "hang"))
        for (;;) pause();
    if (found && !strcmp(what, "crash"))
        abort();
    if (found && !strcmp(what, "fail")) {
        *error = EAGAIN;
        return NSS_STATUS_TRYAGAIN;
    }
    *error = ENOENT;
    return NSS_STATUS_NOTFOUND;
}

enum nss_status _nss_hesiod_getpwnam_r(const char *name, struct passwd *user, char *buffer, size_t size, int *error)
{
    *error = ENOENT;
    return NSS_STATUS_NOTFOUND;
}
"#;

struct NameService(PathBuf);

impl NameService {
    /// Runs the test again where our service is one of the system's. In that process, gives the service;
    /// in the test itself, nothing.
    #[track_caller]
    fn enter(test: &str) -> Option<Self> {
        if std::env::var(TRIAL).is_ok_and(|trial| trial == test) {
            return Some(Self(std::env::var_os(DIRECTORY).expect("it is set as well").into()));
        }
        if !can_mount() {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        set_mode(directory.path(), 0o755);
        let Some(place) = Self::build(directory.path()) else {
            skip("needs a C compiler, and glibc with its service `hesiod`");
            return None;
        };
        let configuration = "passwd: files hesiod\ngroup: files\nshadow: files\nhosts: files\n";
        fs::write(directory.path().join("nsswitch.conf"), configuration).unwrap();
        let script = "mount --bind \"$0/nsswitch.conf\" /etc/nsswitch.conf \
                      && mount --bind \"$0/service.so\" \"$1\" && shift && exec \"$@\"";
        let name = format!("names::{test}");
        let output = Command::new("unshare")
            .args(["--mount", "--propagation=private", "sh", "-c", script])
            .arg(directory.path())
            .arg(place)
            .arg(std::env::current_exe().unwrap())
            .args([name.as_str(), "--exact", "--nocapture", "--test-threads=1"])
            .env(TRIAL, test)
            .env(DIRECTORY, directory.path())
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{}:\n{said}", output.status);
        None
    }

    /// Builds the service. Gives the path of the one whose place it takes.
    fn build(directory: &Path) -> Option<PathBuf> {
        fs::write(directory.join("service.c"), SOURCE).unwrap();
        Self(directory.to_owned()).does("");
        let control = format!("-DCONTROL=\"{}\"", directory.join("control").display());
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", &control, "-o"])
            .args([directory.join("service.so"), directory.join("service.c")])
            .output();
        let found = Command::new("cc").arg(format!("-print-file-name={SERVICE}")).output().ok()?;
        let place = PathBuf::from(String::from_utf8(found.stdout).ok()?.trim());
        (built.is_ok_and(|built| built.status.success()) && place.is_absolute()).then_some(place)
    }

    /// What it does from now on: `FIRST-UID LAST-UID wait|hang|fail|crash MILLISECONDS`.
    fn does(&self, what: &str) {
        fs::write(self.0.join("new"), what).unwrap();
        set_mode(&self.0.join("new"), 0o644);
        fs::rename(self.0.join("new"), self.0.join("control")).unwrap();
    }
}

/// How long that took.
fn timed<T>(what: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let outcome = what();
    (start.elapsed(), outcome)
}

/// Reads again and again until `done`. The longest that it took.
#[track_caller]
fn reads_until(done: impl Fn() -> bool, user: &User, key: &str, value: &str) -> Duration {
    let mut longest = Duration::ZERO;
    while !done() {
        let (time, read) = timed(|| user.read(key));
        assert_eq!(read.as_deref(), Ok(value));
        longest = longest.max(time);
        std::thread::sleep(Duration::from_millis(10));
    }
    longest
}

#[test]
fn a_slow_service_delays_only_whom_it_is_asked_about() {
    let Some(service) = NameService::enter("a_slow_service_delays_only_whom_it_is_asked_about")
    else {
        return;
    };
    let Some(mount) = Mount::start() else { return };
    let (root, bob) = (mount.user(ROOT), mount.user(BOB));
    root.put("K", "value", "readers: [bob, alice]\n");
    // One UID with 8 processes, 40 UIDs, and one more.
    let alices: Vec<_> = (0..8).map(|_| mount.user(ALICE)).collect();
    let strangers: Vec<_> = (0..40)
        .map(|number| mount.user(Person { name: "stranger", uid: 60_000 + number }))
        .collect();
    let dave = mount.user(DAVE);
    assert_eq!(bob.read("K").as_deref(), Ok("value"));
    service.does("1000 99999 wait 3000");
    let server = mount.server();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader =
            scope.spawn(|| reads_until(|| done.load(Ordering::Relaxed), &bob, "K", "value"));
        let waiting: Vec<_> = alices
            .iter()
            .map(|alice| (alice, Ok("value".to_owned())))
            .chain(strangers.iter().map(|stranger| (stranger, Err(EACCES))))
            .map(|(user, expected)| {
                scope.spawn(move || {
                    let (time, read) = timed(|| user.read("K"));
                    assert_eq!(read, expected);
                    time
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(500));
        let (time, read) = timed(|| dave.read("K"));
        assert_eq!(read, Err(EACCES));
        assert!(time < 3 * LATENCY, "an unknown user waited {time:?} behind other unknown users");
        for thread in waiting {
            let time = thread.join().unwrap();
            assert!(time < 4 * LATENCY, "a caller waited {time:?}");
        }
        // Also when what is known of them would be too old.
        std::thread::sleep(Duration::from_secs(12));
        done.store(true, Ordering::Relaxed);
        let longest = reader.join().unwrap();
        assert!(longest < PROMPT, "a user who is active waited {longest:?}");
    });
    assert_eq!(mount.server(), server, "{}", mount.said());
    // A server that takes over is sent what waits for a name, and looks it up.
    let stranger = mount.user(Person { name: "stranger", uid: 61_000 });
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| stranger.read("K"));
        std::thread::sleep(Duration::from_millis(500));
        assert!(mount.kill_server());
        assert_eq!(waiting.join().unwrap(), Err(EACCES));
    });
}

#[test]
fn a_service_that_hangs_ends_nothing() {
    let Some(service) = NameService::enter("a_service_that_hangs_ends_nothing") else { return };
    let Some(mount) = Mount::prepare() else { return };
    let directory = mount.roots().join("import");
    fs::create_dir(&directory).unwrap();
    let put = |name: &str, person: Person, value: &str| {
        let path = directory.join(format!(".{name}"));
        fs::write(&path, format!("key: {}/{name}\nvalue: {value}\n", person.name)).unwrap();
        std::os::unix::fs::chown(&path, Some(person.uid), Some(person.uid)).unwrap();
        fs::rename(&path, directory.join(format!("{name}.yaml"))).unwrap();
    };
    let mount = mount.with_args(&["--import-dir", directory.to_str().unwrap()]).started();
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("K", "value", "readers: [bob, alice]\n");
    assert_eq!(bob.read("K").as_deref(), Ok("value"));
    let server = mount.server();
    service.does("2100 2100 hang 0");
    put("A", ALICE, "a");
    put("B", BOB, "b");
    std::thread::scope(|scope| {
        let alices: Vec<_> = (0..8).map(|_| mount.user(ALICE)).collect();
        let waiting: Vec<_> = alices
            .into_iter()
            .map(|alice| scope.spawn(move || timed(|| alice.read("K"))))
            .collect();
        let done = || waiting.iter().all(|thread| thread.is_finished());
        let longest = reads_until(done, &bob, "K", "value");
        assert!(longest < PROMPT, "somebody else waited {longest:?}");
        let (time, written) = timed(|| bob.write(".import/f.yaml", "key: bob/C\nvalue: c\n"));
        assert_eq!(written, Ok(()));
        assert!(time < PROMPT, "somebody else's import took {time:?}");
        assert_eq!(bob.read("bob/C").as_deref(), Ok("c"));
        assert_eq!(bob.read("bob/B").as_deref(), Ok("b"), "from the import directory");
        for thread in waiting {
            let (time, read) = thread.join().unwrap();
            assert_eq!(read, Err(EIO), "after {time:?}");
        }
    });
    assert_eq!(mount.server(), server, "{}", mount.said());
    service.does("");
    eventually("the name service works again", || alice.read("K").as_deref() == Ok("value"));
    eventually("the file is applied", || alice.read("alice/A").as_deref() == Ok("a"));
}

#[test]
fn a_failure_is_an_error_of_that_request() {
    let Some(service) = NameService::enter("a_failure_is_an_error_of_that_request") else { return };
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("K", "value", "readers: [bob, alice]\n");
    let server = mount.server();
    for what in ["fail", "crash"] {
        service.does(&format!("2100 2100 {what} 0"));
        eventually("what was known is too old", || alice.read("K") == Err(EIO));
        assert_eq!(alice.stat(".status/whoami").err(), Some(EIO));
        assert_eq!(alice.write("alice/K", "value"), Err(EIO), "never a default");
        assert_eq!(bob.read("K").as_deref(), Ok("value"));
        service.does("");
        let (time, ()) = timed(|| {
            eventually("it is asked again", || alice.read("K").as_deref() == Ok("value"));
        });
        assert!(time < Duration::from_secs(5), "a failure was remembered for {time:?}");
        assert_eq!(mount.server(), server, "{}", mount.said());
    }
}
