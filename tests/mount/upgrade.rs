//! `secretfs upgrade`: another program serves the same mount, or the old one goes on.

use std::fs;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::harness::{ALICE, KEY, Mount, ROOT, UNKNOWN, can_mount, eventually, set_mode};

/// Device and inode of the program that serves.
fn serving(mount: &Mount) -> (u64, u64) {
    let server = mount.server().expect("it serves");
    let program = fs::metadata(format!("/proc/{server}/exe")).unwrap();
    (program.dev(), program.ino())
}

#[test]
fn the_new_program_serves_and_what_is_open_stays() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_copied_program().started();
    let root = mount.user(ROOT);
    root.put("K", "value", "");
    let held = root.open("K", libc::O_RDONLY).unwrap();
    let writer = root.open("L", libc::O_WRONLY | libc::O_CREAT).unwrap();
    writer.write("half").unwrap();
    let before = serving(&mount);
    mount.install(env!("CARGO_BIN_EXE_secretfs").as_ref(), "second");
    assert_eq!(serving(&mount), before, "nothing happens by itself");
    assert_eq!(mount.upgrade(), Ok(()));
    let after = serving(&mount);
    assert_ne!(after, before);
    assert_eq!(held.read_to_end().as_deref(), Ok(&b"value"[..]));
    writer.write(" and half").unwrap();
    writer.close().unwrap();
    assert_eq!(root.read("L").as_deref(), Ok("half and half"));
    // A crash later goes on with the new one.
    assert!(mount.kill_server());
    root.write("K", "another").unwrap();
    assert_eq!(serving(&mount), after);
}

#[test]
fn a_program_that_does_not_serve_leaves_the_old_one() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_copied_program().started();
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    let (before, server) = (serving(&mount), mount.server());
    // It does not even tell its version: nothing is tried.
    mount.install(Path::new("/bin/false"), "");
    let said = mount.upgrade().unwrap_err();
    assert!(said.contains("does not run") && said.contains("the old program goes on"), "{said}");
    assert_eq!(mount.server(), server);
    // It does, and ends when it is to serve.
    mount.install(Path::new("/bin/true"), "");
    for _ in 0..15 {
        let said = mount.upgrade().unwrap_err();
        assert!(said.contains("did not serve"), "{said}");
        assert_eq!(root.read("K").as_deref(), Ok("value"));
        assert_eq!(serving(&mount), before);
    }
    root.write("K", "another").unwrap();
}

#[test]
fn sighup_upgrades_if_the_program_was_replaced() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_copied_program().started();
    let root = mount.user(ROOT);
    let writer = root.open("K", libc::O_WRONLY | libc::O_CREAT).unwrap();
    writer.write("half").unwrap();
    let (before, server) = (serving(&mount), mount.server());
    let read_again = "the identities were read again";
    mount.signal(Signal::SIGHUP);
    eventually("it reads the identities", || mount.said().contains(read_again));
    assert_eq!(mount.server(), server, "the program is the same: it reads again, and no more");
    mount.install(env!("CARGO_BIN_EXE_secretfs").as_ref(), "second");
    mount.signal(Signal::SIGHUP);
    eventually("it is upgraded", || mount.said().contains("upgraded"));
    assert_ne!(serving(&mount), before);
    writer.write(" and half").unwrap();
    writer.close().unwrap();
    assert_eq!(root.read("K").as_deref(), Ok("half and half"));
    // One that does not run is told of, and what was asked for is done.
    let server = mount.server();
    mount.install(Path::new("/bin/false"), "");
    mount.signal(Signal::SIGHUP);
    eventually("it reads the identities", || mount.said().matches(read_again).count() == 2);
    assert!(mount.said().contains("not upgraded: "), "{}", mount.said());
    assert_eq!(mount.server(), server);
}

#[test]
fn only_root_and_its_owner_upgrade() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_copied_program().started();
    let server = mount.server();
    let program = env!("CARGO_BIN_EXE_secretfs");
    let point = mount.point();
    let said = mount.user(ALICE).sh(&format!("{program} upgrade {}", point.display()));
    assert_ne!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(mount.server(), server);
    let missing = std::process::Command::new(program).args(["upgrade", "/proc"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(6));
}

/// Does something as another user, on a thread that has its UID alone.
fn as_uid<T: Send>(uid: u32, what: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let become_and_do = move || {
            // SAFETY: the system call itself changes this thread alone, unlike the function of the C library.
            let changed = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
            assert_eq!(changed, 0);
            what()
        };
        scope.spawn(become_and_do).join().unwrap()
    })
}

/// Connects for three seconds to the socket of a mount, and to all others of this program that are named
/// after it. How often it was let in.
fn flood(mount: &str, socket: &str) -> u32 {
    let deadline = Instant::now() + Duration::from_secs(3);
    let mut connected = 0;
    while Instant::now() < deadline {
        let table = fs::read_to_string("/proc/net/unix").unwrap();
        let names = table.lines().filter_map(|line| line.split_whitespace().nth(7));
        let is_of_mount = |name: &&str| {
            let before = name.strip_suffix(mount);
            before.is_some_and(|before| before.contains("secretfs") && before.ends_with(['-', '/']))
        };
        for name in names.filter(is_of_mount).chain([socket]) {
            for _ in 0..100 {
                let stream = match name.strip_prefix('@') {
                    Some(name) => SocketAddr::from_abstract_name(name)
                        .and_then(|address| UnixStream::connect_addr(&address)),
                    None => UnixStream::connect(name),
                };
                connected += u32::from(stream.is_ok());
            }
        }
    }
    connected
}

/// The kernel's number of a mount.
fn number(mount: &Mount) -> String {
    mount.mounted().unwrap().split(' ').nth(2).unwrap().to_owned()
}

/// Where the supervisor of a mount listens.
fn socket(mount: &Mount) -> PathBuf {
    Path::new("/run/secretfs-upgrade").join(number(mount))
}

/// Ends the threads of a test when it is dropped, also where the test fails: it would wait for them.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn strangers_cannot_wake_the_supervisor() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "readers: [alice]\n");
    let (server, number, path) = (mount.server(), number(&mount), socket(&mount));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = End(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(alice.read("K").as_deref(), Ok("value"));
            }
        });
        assert_eq!(as_uid(UNKNOWN.uid, || flood(&number, path.to_str().unwrap())), 0);
    });
    assert_eq!(mount.server(), server);
    let refused = as_uid(UNKNOWN.uid, || UnixStream::connect(socket(&mount)).unwrap_err());
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
}

#[test]
fn a_flood_of_requests_holds_up_nothing() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "readers: [alice]\n");
    let (server, path) = (mount.server().unwrap(), socket(&mount));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let end = End(&over);
        scope.spawn(|| {
            // They do not wait for an answer, so that nothing is done for them.
            while !over.load(Ordering::Relaxed) {
                drop(UnixStream::connect(&path));
            }
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(7) {
            assert_eq!(alice.read("K").as_deref(), Ok("value"));
        }
        let is_served_by_another = mount.server() != Some(server);
        // A server that hangs is noticed all the same, and not before its time.
        let start = Instant::now();
        let hangs = mount.server().unwrap();
        kill(hangs, Signal::SIGSTOP).unwrap();
        let mut reads = Vec::new();
        while mount.server() == Some(hangs) && start.elapsed() < Duration::from_secs(60) {
            reads.push(alice.read("K"));
        }
        let waited = start.elapsed();
        drop(end);
        assert!(reads.iter().all(|read| read.as_deref() == Ok("value")));
        assert!(!is_served_by_another, "{}", mount.said());
        assert!(waited > Duration::from_secs(3), "it was killed after {waited:?} already");
        assert_ne!(mount.server(), Some(hangs));
    });
}

#[test]
fn the_socket_is_made_again() {
    let Some(mut mount) = Mount::prepare() else { return };
    mount = mount.with_copied_program().started();
    // Those of a user are removed when he logs out.
    fs::remove_file(socket(&mount)).unwrap();
    eventually("the socket is made again", || socket(&mount).exists());
    assert_eq!(mount.upgrade(), Ok(()));
    // A dead supervisor leaves its own.
    let stale = socket(&mount);
    mount.kill9();
    assert!(stale.exists());
    eventually("its server ends", || {
        let output = std::process::Command::new("umount").arg("-l").arg(mount.point()).output();
        output.unwrap();
        mount.mounted().is_none()
    });
    mount.go();
    assert_eq!(mount.upgrade(), Ok(()));
    let own = socket(&mount);
    mount.stop();
    assert!(!own.exists());
    let _ = fs::remove_file(stale);
}

/// A user's own mount, in a mount namespace where users may open `/dev/fuse`.
const AS_USER: &str = r#"
set -eu
mount --make-rprivate /
mknod -m 666 $T/fuse c 10 229
mount --bind $T/fuse /dev/fuse
# Earlier mounts of this user have left their directory in the one of the system.
mount -t tmpfs -o mode=1777 shm /dev/shm
mkdir -m 700 $SQUATTED
chown 4242 $SQUATTED
setpriv --reuid $USER_ID --regid $USER_ID --clear-groups \
    $PROGRAM mount $T/secrets --state-dir $T/state 2>$T/log &
daemon=$!
trap 'kill $daemon; wait $daemon' EXIT
await() {
    for i in $(seq 600); do
        ! eval "$1" || return 0
        kill -0 $daemon
        sleep 0.1
    done
    cat $T/log
    exit 1
}
await 'grep -q "mounted at" $T/log'
await 'grep -q "belongs to UID 4242" $T/log'
! $PROGRAM upgrade $T/secrets 2>$T/said
grep "belongs to UID 4242" $T/said
# It is used as soon as it can be, and by root as well.
rmdir $SQUATTED
await 'test -d $SQUATTED'
await '$PROGRAM upgrade $T/secrets'
"#;

#[test]
fn a_directory_of_somebody_elses_is_told_of() {
    /// Has no other mounts and no `/run/user`.
    const NOBODY: u32 = 65_534;
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    set_mode(directory.path(), 0o755);
    for name in ["state", "secrets"] {
        let path = directory.path().join(name);
        fs::create_dir(&path).unwrap();
        set_mode(&path, 0o700);
        chown(&path, Some(NOBODY), None).unwrap();
    }
    let output = std::process::Command::new("unshare")
        .args(["-m", "bash", "-c", AS_USER])
        .env("T", directory.path())
        .env("PROGRAM", env!("CARGO_BIN_EXE_secretfs"))
        .env("USER_ID", NOBODY.to_string())
        .env("SQUATTED", format!("/dev/shm/secretfs-upgrade-{NOBODY}"))
        .env("OB_ENCRYPTION_KEY", KEY)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The saved state of a mount, which its supervisor keeps.
fn saved_state(mount: &Mount) -> fs::File {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", mount.pid())).unwrap().flatten();
    let is_it = |path: &PathBuf| {
        fs::read_link(path)
            .is_ok_and(|target| target.starts_with("/memfd:secretfs-shelf (deleted)"))
    };
    let path = descriptors.map(|entry| entry.path()).find(is_it).expect("the supervisor has it");
    fs::File::options().read(true).write(true).open(path).unwrap()
}

#[test]
fn what_a_later_version_left_is_dropped_or_refused_with_an_explanation() {
    /// In a slot that is free: one record of a kind that does not exist.
    const UNKNOWN: (&[u8], u64) = (&[2, 0, 200, 1], 20_000 * 2048);
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--crash-limit", "1000"]).started();
    let root = mount.user(ROOT);
    let writer = root.open("K", libc::O_WRONLY | libc::O_CREAT).unwrap();
    writer.write("half").unwrap();
    let file = saved_state(&mount);
    file.write_all_at(UNKNOWN.0, UNKNOWN.1).unwrap();
    assert!(mount.kill_server());
    writer.write(" and half").unwrap();
    assert!(
        mount.said().contains("kind 200, which this version does not know"),
        "{}",
        mount.said()
    );
    // The number of the format is the end of the file.
    let place = file.metadata().unwrap().len() - 4;
    let mut format = [0; 4];
    file.read_exact_at(&mut format, place).unwrap();
    file.write_all_at(&99_u32.to_le_bytes(), place).unwrap();
    assert!(mount.kill_server());
    eventually("it is refused", || mount.said().contains("it has format 99, and this version"));
    // As the version serves that knows it.
    file.write_all_at(&format, place).unwrap();
    writer.close().unwrap();
    assert_eq!(root.read("K").as_deref(), Ok("half and half"));
}
