//! Private nodes of one UID that a descriptor leads another UID to: everything is checked as if the node
//! was reached by path.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno::{self, EACCES, ENOENT, ESTALE};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};

use crate::harness::{ALICE, BOB, CAROL, Mount, Person, ROOT};

/// Runs `act` with a person's UID for file systems: FUSE requests of this thread carry it.
fn acting_as<T>(person: Person, act: impl FnOnce() -> T) -> T {
    // SAFETY: these change nothing but a number of the calling thread.
    unsafe { libc::setfsuid(person.uid) };
    let done = act();
    // SAFETY: as above.
    unsafe { libc::setfsuid(0) };
    done
}

fn open(path: impl AsRef<Path>, flags: i32) -> Result<File, Errno> {
    let mut options = OpenOptions::new();
    let mode = flags & libc::O_ACCMODE;
    options.read(mode != libc::O_WRONLY).write(mode != libc::O_RDONLY).mode(0o600);
    let opened = options.custom_flags(flags & !libc::O_ACCMODE).open(path);
    opened.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

fn outcome(result: i32) -> Result<(), Errno> {
    if result == 0 { Ok(()) } else { Err(Errno::last()) }
}

/// One operation on the node behind a descriptor, by the path of that.
type Deed = fn(&CString) -> Result<(), Errno>;

fn open_behind(path: &CString, flags: i32) -> Result<(), Errno> {
    open(path.to_str().unwrap(), flags).map(drop)
}

fn accessible(path: &CString, mode: i32) -> Result<(), Errno> {
    // SAFETY: the path ends in NUL.
    outcome(unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS) })
}

fn truncate(path: &CString) -> Result<(), Errno> {
    // SAFETY: the path ends in NUL.
    outcome(unsafe { libc::truncate(path.as_ptr(), 0) })
}

fn chmod(path: &CString) -> Result<(), Errno> {
    // SAFETY: the path ends in NUL.
    outcome(unsafe { libc::chmod(path.as_ptr(), 0o400) })
}

fn set_times(path: &CString) -> Result<(), Errno> {
    // SAFETY: the path ends in NUL, and no times mean the current one.
    outcome(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), std::ptr::null(), 0) })
}

const DEEDS: [(&str, Deed); 10] = [
    ("open to read", |path| open_behind(path, libc::O_RDONLY)),
    ("open to write", |path| open_behind(path, libc::O_WRONLY)),
    ("open for both", |path| open_behind(path, libc::O_RDWR)),
    ("open and truncate", |path| open_behind(path, libc::O_WRONLY | libc::O_TRUNC)),
    ("truncate", truncate),
    ("chmod", chmod),
    ("set times", set_times),
    ("access R_OK", |path| accessible(path, libc::R_OK)),
    ("access W_OK", |path| accessible(path, libc::W_OK)),
    ("access R_OK and W_OK", |path| accessible(path, libc::R_OK | libc::W_OK)),
];

fn behind(file: &File) -> CString {
    CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
}

#[test]
fn are_checked_as_if_reached_by_path() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    alice.write("alice/K", "value").unwrap();
    root.put("alice/mine", "value", "writers: [alice]\nreaders: []\n");
    let at = |name: &str| mount.point().join(name);
    let create = libc::O_CREAT | libc::O_RDWR;
    let held: Vec<(&str, File, Errno)> = acting_as(ALICE, || {
        let with = |name: &str, flags, bytes: &str| {
            let mut file = open(at(name), flags).unwrap_or_else(|e| panic!("{name}: {e}"));
            file.write_all(bytes.as_bytes()).unwrap();
            file
        };
        drop(with(".import/waits.tmp", create, "key: alice/L\nvalue: private\n"));
        drop(with(".import/done.yaml", create, "key: alice/M\nvalue: private\n"));
        drop(with("alice/.closed.swp", create, "private"));
        let path_only = |name: &str| open(at(name), libc::O_PATH).unwrap();
        vec![
            ("a new file", with("alice/new", create, "private"), ENOENT),
            ("a draft", with("alice/K", libc::O_RDWR, "private"), EACCES),
            ("a draft of a writer", with("alice/mine", libc::O_WRONLY, "private"), EACCES),
            ("a sidecar's draft", open(at("alice/K.acl"), libc::O_RDWR).unwrap(), EACCES),
            ("a scratch file", with("alice/.K.swp", create, "private"), ENOENT),
            ("a closed scratch file", path_only("alice/.closed.swp"), ENOENT),
            ("a file that waits", path_only(".import/waits.tmp"), ENOENT),
            ("a file in the drop directory", with(".import/x.yaml", create, "private"), ENOENT),
            ("a report", path_only(".import/done.yaml.report"), ENOENT),
            ("an encrypt session", with(".encrypt/K", libc::O_RDWR, "private"), ESTALE),
            ("an export", open(at(".export.yaml"), libc::O_RDONLY).unwrap(), ESTALE),
        ]
    });
    for (kind, file, errno) in &held {
        for (deed, perform) in DEEDS {
            let done = acting_as(BOB, || perform(&behind(file)));
            let by_open = deed.starts_with("open");
            // What every caller's path gives anew cannot be given through this node.
            let expected = if *errno == ESTALE && !by_open { ENOENT } else { *errno };
            let same_kind = done == Err(expected)
                // Changing the attributes of what exists by the node of another one.
                || done == Err(ENOENT) && matches!(deed, "truncate" | "chmod" | "set times");
            assert!(same_kind, "{deed} {kind}: {done:?}");
        }
    }
    let size = |person, name: &str| {
        let (_, file, _) = held.iter().find(|(kind, ..)| *kind == name).unwrap();
        acting_as(person, || std::fs::metadata(behind(file).to_str().unwrap()).map(|it| it.len()))
    };
    for closed in ["a closed scratch file", "a file that waits", "a report"] {
        let seen = size(BOB, closed).map_err(|error| error.raw_os_error());
        assert_eq!(seen, Err(Some(libc::ENOENT)), "stat of {closed}");
    }
    assert!(size(CAROL, "a report").is_ok(), "an admin sees it by path");
    // Where a shell has opened the file for a program of another user, its size is true.
    assert_eq!(size(BOB, "a draft").unwrap(), 7);
    // Nothing was changed.
    for (kind, mut file, errno) in held {
        let mut text = String::new();
        if errno == ENOENT
            && !matches!(kind, "a closed scratch file" | "a file that waits" | "a report")
        {
            use std::io::Seek;
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "private", "{kind}");
        }
        acting_as(ALICE, || drop(file));
    }
    assert_eq!(alice.read("alice/.closed.swp").as_deref(), Ok("private"));
    assert_eq!(alice.read("alice/new").as_deref(), Ok("private"));
}

#[test]
fn show_a_reader_what_is_stored() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    alice.write("alice/K", "value").unwrap();
    alice.write("alice/K.acl", "readers: [alice, bob]\n").unwrap();
    let point = mount.point();
    let mut file = acting_as(ALICE, || open(point.join("alice/K"), libc::O_RDWR).unwrap());
    file.write_all(b"private").unwrap();
    let mut seen =
        acting_as(BOB, || open(behind(&file).to_str().unwrap(), libc::O_RDONLY).unwrap());
    let mut text = String::new();
    seen.read_to_string(&mut text).unwrap();
    assert_eq!(text, "value");
    drop(seen);
    acting_as(ALICE, || drop(file));
    assert_eq!(alice.read("alice/K").as_deref(), Ok("private"));
}

#[test]
fn status_files_share_no_page_of_the_kernel_s_cache() {
    let Some(mount) = Mount::start() else { return };
    let path = mount.point().join(".status/whoami");
    let map = |file: &File| {
        let length = std::num::NonZeroUsize::new(4096).unwrap();
        let (protection, flags) = (ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE);
        // SAFETY: the kernel chooses the place, and nothing else of this process is there.
        unsafe { mmap(None, length, protection, flags, file, 0) }.unwrap().cast::<u8>()
    };
    let shown = |place: std::ptr::NonNull<u8>| {
        // SAFETY: the page is mapped and longer than the text that is looked at.
        let bytes = unsafe { std::slice::from_raw_parts(place.as_ptr(), 12) };
        String::from_utf8_lossy(bytes).into_owned()
    };
    let opened = |person| acting_as(person, || open(&path, libc::O_RDONLY).unwrap());
    let (alice, bob) = (opened(ALICE), opened(BOB));
    // Both are mapped before either is looked at: the second look finds what the first one left.
    let (of_alice, of_bob) = (map(&alice), map(&bob));
    assert!(shown(of_alice).starts_with("slug: alice"), "{}", shown(of_alice));
    assert!(shown(of_bob).starts_with("slug: bob"), "{}", shown(of_bob));
}
