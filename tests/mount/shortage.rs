//! A machine with too little memory for what callers write: the kernel takes the server, and the next
//! one, until it does without.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno::EIO;
use nix::unistd::Pid;

use crate::harness::{Mount, ROOT, skip};

/// A control group with little memory, of either version.
struct Group(PathBuf);

impl Group {
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("secretfs-test-{}", std::process::id());
        let versions =
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        versions.into_iter().find_map(|(root, limit)| {
            let group = Self(Path::new(root).join(&name));
            fs::create_dir(&group.0).ok()?;
            // Without a limit it is dropped, and thereby removed.
            fs::metadata(group.0.join(limit)).ok()?;
            fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            Some(group)
        })
    }

    fn take_in(&self, process: Pid) {
        fs::write(self.0.join("cgroup.procs"), process.to_string()).expect("it takes processes");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The processes in it may have ended just now.
        for _ in 0..200 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn writers_are_told_that_memory_is_short_and_everybody_else_is_served() {
    const FILES: usize = 48;
    let Some(group) = Group::new(48 << 20) else {
        return skip("needs a control group for memory");
    };
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("K", "value", "");
    group.take_in(mount.pid());
    // The next server and all that it starts are in there from the beginning.
    assert!(mount.kill_server());
    assert_eq!(root.read("K").as_deref(), Ok("value"));
    let supervisor = mount.pid();
    let value = vec![b'x'; 1 << 20];
    let files: Vec<_> = (0..FILES)
        .map(|number| {
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
            let file = root.open(&format!("L{number}"), flags).unwrap();
            let written = file.write(&value);
            assert!(matches!(written, Ok(()) | Err(EIO)), "L{number}: {written:?}");
            (number, file, written)
        })
        .collect();
    let mut lost = 0;
    for (number, file, written) in files {
        let closed = file.close();
        let stored = root.read_bytes(&format!("L{number}"));
        match closed {
            Ok(()) => {
                assert_eq!(
                    written,
                    Ok(()),
                    "L{number}: whoever lost something is told at the close"
                );
                assert!(stored.as_ref() == Ok(&value), "L{number} is not what was stored");
            }
            Err(error) => {
                assert_eq!(error, EIO, "L{number}");
                assert!(stored.is_err(), "L{number}: half of it is there");
                lost += 1;
            }
        }
    }
    assert!(lost > 0, "there was enough memory");
    assert_eq!(mount.pid(), supervisor);
    assert_eq!(root.read("K").as_deref(), Ok("value"));
    assert_eq!(root.write("K", "another"), Ok(()));
    let said = mount.said();
    assert!(said.contains("memory is short: what was written and not closed is lost"), "{said}");
    drop(mount);
}
