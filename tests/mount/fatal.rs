//! A request that ends every server that works on it is answered with an error, and only it is.
//!
//! A filter for system calls ends the server when it writes so many bytes as only that request makes it
//! write: what a bug would be, without a bug.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use crate::harness::{ALICE, Mount, ROOT};

/// What a server says that ended like this.
const ENDED: &str = "another one takes over";

/// Whether all who read and write meanwhile notice nothing, as long as `request` takes.
fn nobody_else_notices(mount: &Mount, request: impl FnOnce()) {
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(alice.read("K").as_deref(), Ok("value"));
            }
        });
        let writer = scope.spawn(|| {
            for number in 0.. {
                let text = format!("{number}");
                assert_eq!(root.write("L", &text), Ok(()), "the {number}th time");
                assert_eq!(root.read("L"), Ok(text));
                if over.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        request();
        over.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        writer.join().unwrap();
    });
}

#[test]
fn a_write_that_ends_each_server_is_an_error() {
    let Some(mount) = Mount::prepare() else { return };
    // What is put aside of a buffer is sealed, and so a little longer.
    let mount = mount.deadly(libc::SYS_pwrite64, 3300..=3400).started();
    let root = mount.user(ROOT);
    root.put("K", "value", "readers: [alice]\n");
    nobody_else_notices(&mount, || {
        let file = root.open("F", libc::O_WRONLY | libc::O_CREAT).unwrap();
        assert_eq!(file.write("short"), Ok(()));
        assert_eq!(file.write([b'x'; 3300]), Err(Errno::EIO));
        let why = root.read(".status/last-error").unwrap();
        assert!(why.contains("crashed 3 times on this request"), "{why}");
    });
    let said = mount.said();
    assert_eq!(said.matches(ENDED).count(), 3, "{said}");
    assert!(said.contains("does not try it again"), "{said}");
    // Another one is tried.
    assert_eq!(root.write("G", "x".repeat(1000)), Ok(()));
}

#[test]
fn a_removal_that_ends_each_server_is_an_error() {
    let Some(mut mount) = Mount::prepare() else { return };
    let key = ["k"; 4].map(|part| part.repeat(220)).join("/");
    mount.go();
    let root = mount.user(ROOT);
    root.put("K", "value", "readers: [alice]\n");
    fs::create_dir_all(mount.point().join(&key).parent().unwrap()).unwrap();
    root.write(&key, "value").unwrap();
    mount.stop();
    // It is put on record with the key, which makes a long line.
    let mut mount = mount.deadly(libc::SYS_write, 1000..=4000);
    mount.go();
    let root = mount.user(ROOT);
    nobody_else_notices(&mount, || {
        assert_eq!(root.unlink(&key), Err(Errno::EIO));
    });
    assert!(root.stat(&key).is_ok(), "it is still there");
    assert_eq!(mount.said().matches(ENDED).count(), 3, "{}", mount.said());
}
