//! The mount outlives its supervisor too, where a service manager keeps what the next one needs
//! (sd_notify(3), sd_listen_fds(3)): these tests are that manager.

use std::collections::HashMap;
use std::fs;
use std::io::{IoSliceMut, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno::ENOTCONN;
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};

use crate::harness::{ALICE, Mount, ROOT, eventually, set_mode};
use crate::preload::{NO_RESEND, build_library};

/// Keeps what it is given, as systemd does.
pub(crate) struct Manager {
    socket: UnixDatagram,
    kept: HashMap<String, OwnedFd>,
}

impl Manager {
    /// A mount that is not started yet, and its manager.
    pub(crate) fn prepare() -> Option<(Self, Mount)> {
        let mount = Mount::prepare()?;
        let path = mount.outside().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mount = mount.with_env("NOTIFY_SOCKET", path.to_str());
        Some((Self { socket, kept: HashMap::new() }, mount))
    }

    pub(crate) fn copies(&self) -> Vec<(String, OwnedFd)> {
        let copy = |(name, fd): (&String, &OwnedFd)| (name.clone(), fd.try_clone().unwrap());
        self.kept.iter().map(copy).collect()
    }

    /// Does what it was told meanwhile.
    pub(crate) fn listen(&mut self) {
        let (mut bytes, mut space) = ([0; 1000], nix::cmsg_space!(i32));
        loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let socket = self.socket.as_raw_fd();
            let Ok(message) = recvmsg::<UnixAddr>(socket, &mut parts, Some(&mut space), flags)
            else {
                return;
            };
            let descriptors = message.cmsgs().unwrap().find_map(|control| match control {
                ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
                _ => None,
            });
            // SAFETY: the kernel has just made it for us alone.
            let descriptor = descriptors.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
            let length = message.bytes;
            let text = std::str::from_utf8(&bytes[..length]).unwrap();
            let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
            match (text.lines().next().unwrap(), name, descriptor) {
                ("FDSTORE=1", Some(name), Some(descriptor)) => {
                    assert!(self.kept.insert(name.to_owned(), descriptor).is_none());
                }
                ("FDSTOREREMOVE=1", Some(name), None) => drop(self.kept.remove(name)),
                ("READY=1", None, None) => {}
                other => panic!("no manager understands {other:?}"),
            }
        }
    }
}

/// Dropped, it says that it is over, also to who waits while this thread panics.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_mount_outlives_its_supervisor() {
    let Some((mut manager, mut mount)) = Manager::prepare() else { return };
    mount.go();
    manager.listen();
    assert_eq!(manager.kept.len(), 4);
    let [root, alice, reader, rotator] = [ROOT, ALICE, ROOT, ROOT].map(|who| mount.user(who));
    root.put("db/K", "value", "readers: [alice]\n");
    root.write("large", vec![b'a'; 500_000]).unwrap();
    root.write("counter", "0").unwrap();
    let held = root.open("large", libc::O_RDONLY).unwrap();
    root.write("large", "next").unwrap();
    let stat = alice.stat("db/K").unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let end = End(&over);
        let reads = scope.spawn(|| {
            let mut reads = 0u32;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(reader.read("db/K").as_deref(), Ok("value"), "after {reads}");
                reads += 1;
            }
        });
        let writes = scope.spawn(|| {
            let mut count = 0u32;
            while !over.load(Ordering::Relaxed) {
                count += 1;
                rotator.write("counter", count.to_string()).unwrap();
                assert_eq!(rotator.read("counter"), Ok(count.to_string()));
            }
        });
        for round in 0..6u64 {
            let unfinished = root.open("new", libc::O_WRONLY | libc::O_CREAT).unwrap();
            unfinished.set_length(0).unwrap();
            unfinished.write(round.to_string()).unwrap();
            if round % 2 == 0 {
                mount.kill9();
            } else {
                // What `systemctl restart` does.
                mount.signal(Signal::SIGUSR2);
                let (status, said) = mount.ended();
                assert!(status.success(), "{status}:\n{said}");
            }
            assert!(mount.mounted().is_some());
            mount.go_with(manager.copies());
            manager.listen();
            assert_eq!(manager.kept.len(), 4, "nothing new is kept");
            assert_eq!(alice.read("db/K").as_deref(), Ok("value"));
            assert_eq!(alice.stat("db/K").unwrap(), stat);
            let offset = 70_000 * (round + 1);
            assert_eq!(held.read_at(offset, 3).as_deref(), Ok(&b"aaa"[..]));
            assert_eq!(unfinished.close(), Ok(()));
            assert_eq!(root.read("new"), Ok(round.to_string()));
            // The heir has a heart of its own: its server may die, and be upgraded.
            assert!(mount.kill_server());
            assert_eq!(alice.read("db/K").as_deref(), Ok("value"));
        }
        drop(end);
        reads.join().unwrap();
        writes.join().unwrap();
    });
    held.close().unwrap();
    // An end is still an end.
    mount.stop();
    manager.listen();
    assert!(manager.kept.is_empty(), "it keeps {:?}", manager.kept.keys());
    mount.go();
    assert_eq!(mount.user(ALICE).read("db/K").as_deref(), Ok("value"));
}

#[test]
fn a_mount_that_is_to_be_elsewhere_moves() {
    let Some((mut manager, mut mount)) = Manager::prepare() else { return };
    mount.go();
    manager.listen();
    mount.user(ROOT).write("K", "value").unwrap();
    mount.kill9();
    let point = mount.outside().join("elsewhere");
    fs::create_dir(&point).unwrap();
    let old = mount.point();
    let mut mount = mount.at(&point);
    mount.go_with(manager.copies());
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(&format!(" {} ", old.display())), "the old one is still there");
    manager.listen();
    assert_eq!(manager.kept.len(), 4, "those of the new one");
}

#[test]
fn what_cannot_be_taken_over_gives_way_to_a_new_mount() {
    let Some((mut manager, mut mount)) = Manager::prepare() else { return };
    mount.go();
    manager.listen();
    mount.user(ROOT).write("K", "value").unwrap();
    mount.kill9();
    let mut note = tempfile::tempfile().unwrap();
    note.write_all(b"what another version of the program may write").unwrap();
    manager.kept.insert("secretfs-note".to_owned(), note.into());
    // As soon as it is told to forget them; until then, whoever asks the mount waits.
    mount.go_with(std::mem::take(&mut manager.kept));
    assert!(mount.said().contains("cannot be taken over"), "{}", mount.said());
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
    manager.listen();
}

#[test]
fn without_a_manager_the_mount_is_not_left_alone() {
    let Some(mount) = Mount::start() else { return };
    mount.signal(Signal::SIGUSR2);
    eventually("it says so", || mount.said().contains("no service manager keeps the mount"));
    mount.user(ROOT).write("K", "value").unwrap();
    let mut mount = mount;
    mount.kill9();
    assert_eq!(fs::metadata(mount.point()).unwrap_err().raw_os_error(), Some(ENOTCONN as i32));
    mount.go();
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
}

/// Before Linux 6.9 the next supervisor could not serve it.
#[test]
fn a_mount_is_not_left_where_requests_are_not_sent_again() {
    let Some((mut manager, mount)) = Manager::prepare() else { return };
    let Some(library) = build_library(&mount.roots(), NO_RESEND) else { return };
    let mut mount = mount.with_env("LD_PRELOAD", library.to_str()).started();
    manager.listen();
    assert!(manager.kept.is_empty(), "it keeps {:?}", manager.kept.keys());
    mount.user(ROOT).write("K", "value").unwrap();
    // What `systemctl restart` does.
    mount.signal(Signal::SIGUSR2);
    eventually("it says so", || mount.said().contains("it is not left alone"));
    let start = Instant::now();
    mount.restart();
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn what_an_older_version_left_is_mounted_anew_on_an_old_kernel() {
    let Some((mut manager, mut mount)) = Manager::prepare() else { return };
    let Some(library) = build_library(&mount.roots(), NO_RESEND) else { return };
    // That version leaves it on every kernel.
    mount.go();
    manager.listen();
    assert_eq!(manager.kept.len(), 4);
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    let unfinished = root.open("L", libc::O_WRONLY | libc::O_CREAT).unwrap();
    unfinished.write("half").unwrap();
    mount.kill9();
    let mut mount = mount.with_env("LD_PRELOAD", library.to_str());
    mount.go_with(manager.copies());
    manager.listen();
    assert!(manager.kept.is_empty(), "it keeps {:?}", manager.kept.keys());
    assert_eq!(root.read("K").as_deref(), Ok("value"));
    assert!(unfinished.close().is_err() && root.read("L").is_err());
    assert!(mount.kill_server());
    eventually("it is mounted again", || root.read("K").as_deref() == Ok("value"));
    mount.stop();
}

#[test]
fn a_restart_with_bad_settings_goes_on_with_those_of_before() {
    let Some((mut manager, mount)) = Manager::prepare() else { return };
    let config = mount.roots().join("config.yaml");
    let other_key = mount.roots().join("key");
    fs::write(&config, "audit-keep: 7\n").unwrap();
    fs::write(&other_key, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff")
        .unwrap();
    set_mode(&other_key, 0o600);
    let mut mount = mount.with_args(&["--config", config.to_str().unwrap()]).started();
    manager.listen();
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    let held = root.open("K", libc::O_RDONLY).unwrap();
    let restart = |mount: &mut Mount, manager: &mut Manager| {
        mount.signal(Signal::SIGUSR2);
        let (status, said) = mount.ended();
        assert!(status.success(), "{status}:\n{said}");
        mount.go_with(manager.copies());
        manager.listen();
        assert_eq!(manager.kept.len(), 4);
        mount.user(ROOT).read(".status/health").unwrap()
    };
    let wrong_key = format!("encryption-key-file: {}\n", other_key.display());
    for (text, why) in [
        ("audit-keep: many\n", "audit-keep"),
        (wrong_key.as_str(), "another encryption key"),
        ("user: no-such-user\n", "there is no such user"),
    ] {
        fs::write(&config, text).unwrap();
        let health = restart(&mut mount, &mut manager);
        assert!(health.contains("settings") && health.contains(why), "{health}");
        assert!(mount.said().contains("those of before hold"), "{}", mount.said());
        assert_eq!(root.read("K").as_deref(), Ok("value"));
        // A server that takes over has the same settings, and says the same.
        assert!(mount.kill_server());
        assert!(root.read(".status/health").unwrap().contains(why));
    }
    assert_eq!(held.read_to_end().as_deref(), Ok(&b"value"[..]));
    fs::write(&config, "audit-keep: 8\n").unwrap();
    assert_eq!(restart(&mut mount, &mut manager).trim_end(), "ok");
    let arguments = fs::read_to_string(format!("/proc/{}/cmdline", mount.server().unwrap()));
    assert!(arguments.unwrap().contains("--audit-keep\08\0"), "the new settings hold");
    // Without a mount that somebody uses, a start is refused.
    fs::write(&config, "audit-keep: many\n").unwrap();
    mount.stop();
    manager.listen();
    assert!(manager.kept.is_empty(), "it keeps {:?}", manager.kept.keys());
    assert!(mount.refused().contains("audit-keep"));
}

#[test]
fn settings_of_a_form_that_is_unknown_are_ignored() {
    let Some((mut manager, mount)) = Manager::prepare() else { return };
    let config = mount.roots().join("config.yaml");
    fs::write(&config, "audit-keep: 7\n").unwrap();
    let mut mount = mount.with_args(&["--config", config.to_str().unwrap()]).started();
    manager.listen();
    mount.user(ROOT).write("K", "value").unwrap();
    for (record, why) in [
        (&b"2\0--audit-keep\x007"[..], "they have the form `2`, which this version does not know"),
        // Without a form, and without anything.
        (b"--audit-keep\x007", "they have the form `--audit-keep`"),
        (b"", "they have the form ``"),
    ] {
        let mut other = tempfile::tempfile().unwrap();
        other.write_all(record).unwrap();
        manager.kept.insert("secretfs-settings".to_owned(), other.into());
        mount.kill9();
        mount.go_with(manager.copies());
        manager.listen();
        let said = mount.said();
        assert!(
            said.contains("the settings of before are ignored") && said.contains(why),
            "{said}"
        );
        assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
    }
    // There are no others: a start with bad settings is refused, and says what became of those.
    let mut other = tempfile::tempfile().unwrap();
    other.write_all(b"2\0").unwrap();
    manager.kept.insert("secretfs-settings".to_owned(), other.into());
    fs::write(&config, "audit-keep: many\n").unwrap();
    mount.kill9();
    mount.launch_with(manager.copies());
    let (status, said) = mount.ended();
    assert!(!status.success(), "{status}: {said}");
    assert!(said.contains("audit-keep") && said.contains("the form `2`"), "{said}");
}
