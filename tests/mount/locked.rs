//! A caller that keeps a directory locked: it lists it into memory that belongs to a file of a mount of its
//! own, whose read never ends. The kernel holds the lock on the directory meanwhile.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    BackgroundSession, Config, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, Request, SessionACL,
};

use crate::harness::{ALICE, BOB, Mount, ROOT, eventually};
use crate::protocol::Operation;

const FIRST_FILE: u64 = 2;
const LIFETIME: Duration = Duration::from_secs(3600);
const SIZE: u64 = 4096;

/// Files with numbers as names, whose reads wait until that is ended.
struct Trap {
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    /// How many reads wait, and whether they may go on.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    fn waiting(&self) -> usize {
        self.state.lock().unwrap().0
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

fn attributes(node: INodeNo) -> FileAttr {
    let is_file = node.0 >= FIRST_FILE;
    let now = SystemTime::now();
    FileAttr {
        ino: node,
        size: if is_file { SIZE } else { 0 },
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
        crtime: now,
        kind: if is_file { FileType::RegularFile } else { FileType::Directory },
        perm: if is_file { 0o666 } else { 0o755 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Trap {
    fn lookup(&self, _: &Request, _: INodeNo, name: &std::ffi::OsStr, reply: ReplyEntry) {
        match name.to_str().and_then(|name| name.parse::<u64>().ok()) {
            Some(number) => {
                reply.entry(&LIFETIME, &attributes(INodeNo(number + FIRST_FILE)), Generation(0));
            }
            None => reply.error(fuser::Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&LIFETIME, &attributes(node));
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let gate = Arc::clone(&self.gate);
        std::thread::spawn(move || {
            let mut state = gate.state.lock().unwrap();
            state.0 += 1;
            while !state.1 {
                state = gate.changed.wait(state).unwrap();
            }
            state.0 -= 1;
            reply.error(fuser::Errno::EIO);
        });
    }
}

/// The attacker's own mount.
struct TrapMount {
    gate: Arc<Gate>,
    point: PathBuf,
    session: Option<BackgroundSession>,
}

impl TrapMount {
    fn new(point: &Path) -> Self {
        std::fs::create_dir(point).unwrap();
        let gate = Arc::new(Gate::default());
        let mut config = Config::default();
        config.acl = SessionACL::All;
        config.mount_options = vec![MountOption::FSName("trap".to_owned())];
        let trap = Trap { gate: Arc::clone(&gate) };
        let session = fuser::spawn_mount(trap, point, &config).expect("root may mount");
        Self { gate, point: point.to_owned(), session: Some(session) }
    }
}

impl Drop for TrapMount {
    fn drop(&mut self) {
        self.gate.open();
        let _ = nix::mount::umount2(&self.point, nix::mount::MntFlags::MNT_DETACH);
        drop(self.session.take());
    }
}

#[test]
fn a_locked_directory_delays_nothing_in_other_directories() {
    const TRAPS: usize = 12;
    let Some(mount) = Mount::start() else { return };
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("team/K", "value", "readers: [alice]\n");
    root.put("other/K", "value", "readers: [alice, bob]\n");
    bob.write("bob/K", "value").unwrap();
    for number in 0..TRAPS {
        alice.mkdir(&format!("alice/{number}")).unwrap();
        alice.write(&format!("alice/{number}/K"), "value").unwrap();
        // The kernel knows it, so that it must forget it; and so below.
        assert_eq!(alice.read(&format!("alice/{number}/K")).as_deref(), Ok("value"));
    }
    assert_eq!(bob.read("other/K").as_deref(), Ok("value"));
    assert_eq!(alice.read("team/K").as_deref(), Ok("value"));

    let trap = TrapMount::new(&mount.outside().join("trap"));
    let directories: Vec<_> = std::iter::once("team".to_owned())
        .chain((0..TRAPS).map(|number| format!("alice/{number}")))
        .collect();
    let attackers: Vec<_> = directories.iter().map(|_| mount.user(ALICE)).collect();
    let importers: Vec<_> = directories.iter().map(|_| mount.user(ROOT)).collect();
    std::thread::scope(|scope| {
        for (at, (attacker, directory)) in attackers.iter().zip(&directories).enumerate() {
            let operation = Operation::ListInto {
                path: attacker.path(directory),
                file: trap.point.join(at.to_string()),
            };
            scope.spawn(move || attacker.call(&operation, &[]));
        }
        eventually("all directories are locked", || trap.gate.waiting() >= directories.len());
        // What changes there is stored, and the kernel cannot forget the names.
        let stuck: Vec<_> = importers
            .iter()
            .zip(&directories)
            .map(|(importer, directory)| {
                let text = format!("key: {directory}/K\nvalue: changed\n");
                let name = format!(".import/{}.yaml", directory.replace('/', "-"));
                scope.spawn(move || importer.write(&name, text))
            })
            .collect();
        eventually("an importer waits", || {
            root.read(".import/team.yaml.report").is_ok_and(|report| report.contains("updated"))
        });
        for round in 0..20 {
            let start = Instant::now();
            let value = round.to_string();
            assert_eq!(bob.write("bob/K", &value), Ok(()));
            assert_eq!(bob.read("bob/K"), Ok(value.clone()));
            assert_eq!(root.write("other/K", &value), Ok(()));
            assert_eq!(bob.read("other/K"), Ok(value));
            assert_eq!(bob.write(&format!("bob/new-{round}"), "value"), Ok(()));
            let time = start.elapsed();
            assert!(time < Duration::from_secs(3), "others waited {time:?}");
        }
        assert!(
            stuck.iter().all(|thread| !thread.is_finished()),
            "a directory is not locked: this test shows nothing"
        );
        trap.gate.open();
        for thread in stuck {
            assert_eq!(thread.join().unwrap(), Ok(()));
        }
    });
    assert_eq!(alice.read("team/K").as_deref(), Ok("changed"));
}
