//! inotify on the mount: which events come for which way in which a secret changes. What the daemon
//! changes by itself is told as IN_MODIFY, of the name in its directory and of the versions that are watched.

use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::AsFd;

use crate::harness::{ALICE, BOB, Mount, ROOT, eventually, set_mode};
use crate::user::User;

const PATIENCE: Duration = Duration::from_secs(20);

/// Events of one watch.
struct Watch {
    inotify: Inotify,
    seen: Vec<(AddWatchFlags, Option<OsString>)>,
}

impl Watch {
    /// Watches a path of the mount for all that changes.
    fn on(mount: &Mount, path: &str) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        let all = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVED_TO;
        inotify.add_watch(&mount.point().join(path), all).unwrap();
        Self { inotify, seen: Vec::new() }
    }

    /// Reads what has come, waiting for at most so long.
    fn read(&mut self, wait: Duration) {
        let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::try_from(wait).unwrap()).unwrap();
        match self.inotify.read_events() {
            Ok(events) => {
                self.seen.extend(events.into_iter().map(|event| (event.mask, event.name)));
            }
            Err(Errno::EAGAIN) => {}
            Err(error) => panic!("inotify: {error}"),
        }
    }

    /// Waits for an event of this kind, about this name in a directory; forgets all before it.
    #[track_caller]
    fn expect(&mut self, kind: AddWatchFlags, name: Option<&str>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let name = name.map(OsString::from);
            let at = self.seen.iter().position(|(mask, of)| mask.contains(kind) && *of == name);
            if let Some(at) = at {
                self.seen.drain(..=at);
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {kind:?} of {name:?} in {:?}", self.seen);
            self.read(left);
        }
    }

    /// What has come up to this moment is of no interest.
    fn forget(&mut self) {
        self.read(Duration::ZERO);
        self.seen.clear();
    }

    /// Nothing came that has not been expected, up to this moment.
    #[track_caller]
    fn expect_no_more(&mut self) {
        self.read(Duration::ZERO);
        assert!(self.seen.is_empty(), "{:?}", self.seen);
    }
}

/// Changes `svc/K` of the import directory.
fn through_the_import_directory(mount: &Mount, number: usize) {
    let file = mount.roots().join("import/k.yaml");
    let new = file.with_extension("new");
    fs::write(&new, format!("key: svc/K\nvalue: folder-{number}\n")).unwrap();
    set_mode(&new, 0o644);
    fs::rename(new, file).unwrap();
}

fn start() -> Option<(Mount, User)> {
    let mount = Mount::prepare()?;
    let directory = mount.roots().join("import");
    fs::create_dir(&directory).unwrap();
    set_mode(&directory, 0o755);
    let mount = mount.with_args(&["--import-dir", directory.to_str().unwrap()]).started();
    let root = mount.user(ROOT);
    root.put("svc/K", "first", "readers: [alice]\n");
    root.put("svc/other", "another", "");
    Some((mount, root))
}

#[test]
fn every_way_of_a_change_is_seen_in_the_directory_and_on_the_file() {
    let Some((mount, root)) = start() else { return };
    let (mut directory, mut file) = (Watch::on(&mount, "svc"), Watch::on(&mount, "svc/K"));
    type Way<'a> = (&'a str, Box<dyn Fn(usize) + 'a>, AddWatchFlags);
    // What the kernel sees by itself is more than IN_MODIFY.
    let ways: [Way<'_>; 5] = [
        (
            "a write by path",
            Box::new(|n| root.write("svc/K", format!("write-{n}")).unwrap()),
            AddWatchFlags::IN_CLOSE_WRITE,
        ),
        (
            "an import",
            Box::new(|n| {
                root.import("k.yaml", format!("key: svc/K\nvalue: import-{n}\n")).unwrap()
            }),
            AddWatchFlags::IN_MODIFY,
        ),
        (
            "the import directory",
            Box::new(|n| through_the_import_directory(&mount, n)),
            AddWatchFlags::IN_MODIFY,
        ),
        (
            "renaming a scratch file over it",
            Box::new(|n| {
                root.write("svc/.new.tmp", format!("rename-{n}")).unwrap();
                root.rename("svc/.new.tmp", "svc/K").unwrap();
            }),
            AddWatchFlags::IN_MOVED_TO,
        ),
        (
            "truncating it by path",
            Box::new(|n| root.truncate("svc/K", 100 + n as i64).unwrap()),
            AddWatchFlags::IN_MODIFY,
        ),
    ];
    // Twice: the watch on the file stays with the version that it found, and still sees all.
    for round in 0..2 {
        for (what, change, in_directory) in &ways {
            change(round);
            println!("{what}, round {round}");
            directory.expect(*in_directory, Some("K"));
            file.expect(AddWatchFlags::IN_ATTRIB, None);
            file.expect(AddWatchFlags::IN_MODIFY, None);
        }
    }
    root.unlink("svc/K").unwrap();
    directory.expect(AddWatchFlags::IN_DELETE, Some("K"));
    file.expect(AddWatchFlags::IN_MODIFY, None);
}

#[test]
fn what_is_new_by_an_import_is_seen_in_the_nearest_directory() {
    let Some((mount, root)) = start() else { return };
    let (mut directory, mut top) = (Watch::on(&mount, "svc"), Watch::on(&mount, ""));
    root.import("k.yaml", "- key: svc/new\n  value: x\n- key: deep/er/K\n  value: y\n").unwrap();
    directory.expect(AddWatchFlags::IN_ATTRIB, Some("new"));
    directory.expect(AddWatchFlags::IN_MODIFY, Some("new"));
    top.expect(AddWatchFlags::IN_MODIFY, Some("deep"));
}

#[test]
fn what_changes_nothing_is_no_event() {
    let Some((mount, root)) = start() else { return };
    let document = "key: svc/K\nvalue: import\n";
    let (mut directory, mut file) = (Watch::on(&mount, "svc"), Watch::on(&mount, "svc/K"));
    root.import("k.yaml", document).unwrap();
    directory.expect(AddWatchFlags::IN_MODIFY, Some("K"));
    file.expect(AddWatchFlags::IN_MODIFY, None);
    // While the kernel still has the name of the old version, that is touched by its name as well.
    root.import("k.yaml", "key: svc/first\nvalue: new\n").unwrap();
    directory.expect(AddWatchFlags::IN_MODIFY, Some("first"));
    file.forget();
    root.import("k.yaml", document).unwrap();
    assert_eq!(mount.user(ALICE).read("svc/K").as_deref(), Ok("import"));
    assert_eq!(mount.user(BOB).read("svc/K"), Err(Errno::EACCES));
    root.write("svc/K.acl", "readers: [alice, bob]\n").unwrap();
    // Events come in the order of what they tell: this one is the last.
    root.import("k.yaml", "key: svc/other\nvalue: changed\n").unwrap();
    directory.expect(AddWatchFlags::IN_MODIFY, Some("other"));
    file.expect_no_more();
}

#[test]
fn a_thousand_rotations_end_with_an_event_after_the_last() {
    let Some((mount, root)) = start() else { return };
    let mut file = Watch::on(&mount, "svc/K");
    for number in 0..1000 {
        root.write("svc/K", number.to_string()).unwrap();
    }
    root.write("svc/K", "final").unwrap();
    // As a program does that looks at the secret at each event.
    let mut seen = String::new();
    while seen != "final" {
        file.expect(AddWatchFlags::IN_MODIFY, None);
        seen = root.read("svc/K").unwrap();
    }
    let dropped = root.sh_ok("grep '^secretfs_inotify_dropped_total' .status/metrics");
    assert_eq!(dropped, "secretfs_inotify_dropped_total 0\n");
}

#[test]
fn the_touching_process_is_not_in_the_way_of_an_end() {
    let Some((mut mount, root)) = start() else { return };
    let _watch = Watch::on(&mount, "svc");
    let id = mount.inotify_helper().expect("there is one from the start");
    root.import("k.yaml", "key: svc/K\nvalue: import\n").unwrap();
    assert_eq!(fs::read(format!("/proc/{id}/environ")).unwrap(), b"");
    // Whoever unmounts by hand does not find the mount in use.
    eventually("it holds nothing of the mount", || {
        fs::read_link(format!("/proc/{id}/cwd")).unwrap() == std::path::Path::new("/")
    });
    let gone = || !std::path::Path::new(&format!("/proc/{id}/cmdline")).exists();
    mount.kill9();
    eventually("it ends with a daemon that is killed", gone);
    // Killed while something is touched, the daemon ends all the same, and the next one mounts.
    for number in 0..10 {
        mount.go();
        let root = mount.user(ROOT);
        let _watches = [Watch::on(&mount, "svc"), Watch::on(&mount, "svc/K")];
        root.import("k.yaml", format!("key: svc/K\nvalue: again-{number}\n")).unwrap();
        root.write("svc/K", number.to_string()).unwrap();
        mount.kill9();
    }
    mount.go();
    mount.user(ROOT).import("k.yaml", "key: svc/K\nvalue: the last\n").unwrap();
    mount.stop();
}
