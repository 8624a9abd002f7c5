//! What one user can make the server keep in memory: each way to do so ends with EDQUOT, or takes
//! little, and another user goes on meanwhile.

use nix::errno::Errno::{EDQUOT, ENOENT};

use crate::harness::{ALICE, BOB, CAROL, DAVE, Mount, ROOT, UNKNOWN, eventually};
use crate::user::{Handle, User};

const MEBIBYTE: usize = 1 << 20;
const CREATE: i32 = libc::O_WRONLY | libc::O_CREAT;

/// How many bytes of memory the server takes.
fn resident(mount: &Mount) -> usize {
    let server = mount.server().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{server}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn assert_grew_less(mount: &Mount, before: usize, most: usize) {
    let more = resident(mount).saturating_sub(before);
    assert!(more < most, "{} MiB more", more / MEBIBYTE);
}

/// Whoever does nothing wrong reads, writes and imports.
fn works(user: &User, round: &str) {
    let name = user.name();
    user.write(&format!("{name}/K"), round).unwrap();
    assert_eq!(user.read(&format!("{name}/K")).unwrap(), round);
    let text = format!("key: {name}/I\nvalue: {round}\n");
    user.write(".import/small.yaml", text).unwrap();
    assert_eq!(user.read(&format!("{name}/I")).unwrap(), round);
    assert!(user.read(".status/whoami").unwrap().contains(name));
}

/// How many bytes are charged to all users.
fn charged(root: &User) -> usize {
    let text = root.read(".status/metrics").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("secretfs_memory_charged_bytes "));
    line.expect("an admin sees it").parse::<f64>().unwrap() as usize
}

/// Opens until the memory is used up.
fn open_all<'a>(most: usize, open: impl FnMut(usize) -> Option<Handle<'a>>) -> Vec<Handle<'a>> {
    (0..most).map_while(open).collect()
}

#[test]
fn descriptors_of_one_report_share_its_text() {
    let Some(mount) = Mount::start() else { return };
    let (alice, bob) = (mount.user(ALICE), mount.user(BOB));
    let text: String =
        (0..500).map(|number| format!("---\nkey: alice/{number}\nvalue: v\n")).collect();
    alice.write(".import/a.yaml", text).unwrap();
    let size = alice.read(".import/a.yaml.report").unwrap().len();
    assert!(size > 10_000, "the report has {size} bytes");
    let before = resident(&mount);
    let open = alice.open(".import/a.yaml.report", libc::O_RDONLY).unwrap();
    let more = open_all(8000, |_| alice.open(".import/a.yaml.report", libc::O_RDONLY).ok());
    assert_eq!(more.len(), 8000);
    assert_grew_less(&mount, before, 24 * MEBIBYTE);
    assert_eq!(open.read_to_end().unwrap().len(), size);
    works(&bob, "meanwhile");
}

#[test]
fn descriptors_of_status_files_end_with_the_quota() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--memory-per-user", "16M"]).started();
    let (alice, bob) = (mount.user(ALICE), mount.user(BOB));
    let before = resident(&mount);
    // Its text is another one each time.
    let open = open_all(8000, |_| alice.open(".status/metrics", libc::O_RDONLY).ok());
    assert!((100..8000).contains(&open.len()), "{} are open", open.len());
    assert_eq!(alice.open(".status/metrics", libc::O_RDONLY).err(), Some(EDQUOT));
    assert_grew_less(&mount, before, 32 * MEBIBYTE);
    works(&bob, "meanwhile");
    open.into_iter().for_each(|file| file.close().unwrap());
    // An open that is refused would be the last error of alice, so the metric is waited for.
    let root = mount.user(ROOT);
    eventually("the memory is given back", || charged(&root) < MEBIBYTE);
    let said = alice.read(".status/last-error").unwrap();
    assert!(said.contains(".status/metrics: one user may hold 16 MiB"), "{said}");
    works(&alice, "again");
}

#[test]
fn names_below_encrypt_take_no_memory() {
    let Some(mount) = Mount::start() else { return };
    let (alice, bob) = (mount.user(ALICE), mount.user(BOB));
    let before = resident(&mount);
    for number in 0..30_000 {
        alice.stat(&format!(".encrypt/.in:a/{number}-{}", "x".repeat(200))).unwrap();
    }
    assert_grew_less(&mount, before, 8 * MEBIBYTE);
    // A node that was given up is looked up again.
    let file = alice.open(".encrypt/.in:a/K", libc::O_RDWR).unwrap();
    file.write("value").unwrap();
    for number in 0..3000 {
        alice.stat(&format!(".encrypt/.in:a/{number}")).unwrap();
    }
    assert_eq!(file.stat().unwrap().size, 5, "an open file stays what it is");
    let document = String::from_utf8(file.read_to_end().unwrap()).unwrap();
    assert!(document.contains("key: \"a/K\"\n"), "{document}");
    works(&bob, "meanwhile");
}

#[test]
fn unlinked_scratch_files_count_as_long_as_they_are_open() {
    let Some(mount) = Mount::start() else { return };
    let (alice, bob) = (mount.user(ALICE), mount.user(BOB));
    let (before, bytes) = (resident(&mount), vec![b'x'; MEBIBYTE]);
    let open = open_all(400, |_| {
        let file = alice.open("alice/.s.swp", CREATE).ok()?;
        alice.unlink("alice/.s.swp").unwrap();
        file.write(&bytes).ok().map(|()| file)
    });
    assert!((20..=128).contains(&open.len()), "{} are open", open.len());
    assert_grew_less(&mount, before, 160 * MEBIBYTE);
    works(&bob, "meanwhile");
    open.into_iter().for_each(|file| file.close().unwrap());
    eventually("the memory is given back", || alice.write("alice/.s.swp", &bytes).is_ok());
    works(&alice, "again");
}

#[test]
fn a_file_that_is_written_and_read_often_is_one_buffer() {
    let Some(mount) = Mount::start() else { return };
    let (alice, bob) = (mount.user(ALICE), mount.user(BOB));
    let bytes = vec![b'x'; MEBIBYTE];
    let file = alice.open("alice/K", CREATE).unwrap();
    file.write(&bytes).unwrap();
    let before = resident(&mount);
    let link = (3..100)
        .map(|number| format!("/proc/self/fd/{number}"))
        .find(|link| {
            let file = alice.open(link, libc::O_RDONLY | libc::O_NONBLOCK);
            file.is_ok_and(|file| file.stat().is_ok_and(|stat| stat.size == MEBIBYTE as u64))
        })
        .expect("it is open");
    let open = open_all(800, |_| alice.open(&link, libc::O_RDONLY).ok());
    assert_eq!(open.len(), 800);
    assert_eq!(open[700].read_to_end().unwrap(), bytes);
    assert_grew_less(&mount, before, 24 * MEBIBYTE);
    works(&bob, "meanwhile");
    drop(open);
    file.close().unwrap();
    assert_eq!(alice.read_bytes("alice/K").unwrap(), bytes);
}

#[test]
fn unfinished_files_end_with_the_quota() {
    let Some(mount) = Mount::start() else { return };
    let (alice, bob) = (mount.user(ALICE), mount.user(BOB));
    let (before, bytes) = (resident(&mount), vec![b'x'; MEBIBYTE]);
    let mut refused = None;
    let mut open = open_all(512, |number| {
        let file = alice.open(&format!("alice/{number}"), CREATE).ok()?;
        match file.write(&bytes) {
            Ok(()) => Some(file),
            Err(errno) => {
                assert_eq!(errno, EDQUOT);
                refused = Some(file);
                None
            }
        }
    });
    assert!((20..=128).contains(&open.len()), "{} are open", open.len());
    assert_grew_less(&mount, before, 160 * MEBIBYTE);
    works(&bob, "meanwhile");
    assert_eq!(refused.unwrap().close(), Err(EDQUOT), "what did fit is not all");
    let count = open.len();
    assert_eq!(alice.read(&format!("alice/{count}")).err(), Some(ENOENT));
    // What was written before is neither lost nor refused.
    open.pop().unwrap().close().unwrap();
    assert_eq!(alice.read_bytes(&format!("alice/{}", count - 1)).unwrap().len(), MEBIBYTE);
    works(&alice, "again");
}

#[test]
fn what_a_server_takes_over_counts_and_is_not_refused() {
    let Some(mount) = Mount::start() else { return };
    let (alice, bob) = (mount.user(ALICE), mount.user(BOB));
    let bytes = vec![b'x'; MEBIBYTE];
    let open = |name: String| {
        let file = alice.open(&name, CREATE).ok()?;
        file.write(&bytes).ok().map(|()| file)
    };
    let files = open_all(512, |number| open(format!("alice/{number}")));
    if !mount.kill_server() {
        return;
    }
    assert!(open("alice/more".to_owned()).is_none(), "the memory is still in use");
    works(&bob, "meanwhile");
    for (number, file) in files.into_iter().enumerate() {
        file.close().unwrap();
        assert_eq!(alice.read_bytes(&format!("alice/{number}")).unwrap(), bytes);
    }
    eventually("the memory is given back", || open("alice/more".to_owned()).is_some());
}

#[test]
fn what_is_closed_is_given_back() {
    const TIMES: usize = 200;
    let Some(mount) = Mount::start() else { return };
    let (alice, bob, root) = (mount.user(ALICE), mount.user(BOB), mount.user(ROOT));
    bob.write("bob/K", "private").unwrap();
    alice.write("alice/K", "value").unwrap();
    let document = "key: alice/I\nvalue: v\n";
    alice.write(".import/a.yaml", document).unwrap();
    let lists = alice.read("alice/K.acl").unwrap();
    let read = |name: &str| drop(alice.read(name).unwrap());
    // A thread that writes may have 16 notes for a while, with what they refer to.
    let notes = 16 * (12 << 10);
    let kinds: [(&str, usize, &dyn Fn()); 17] = [
        ("secrets", 0, &|| read("alice/K")),
        ("status files", 0, &|| {
            for name in ["whoami", "health", "metrics", "last-error"] {
                read(&format!(".status/{name}"));
            }
        }),
        ("control files", 0, &|| drop(root.read(".status/rekey").unwrap())),
        ("reports", 0, &|| read(".import/a.yaml.report")),
        ("exports", 0, &|| read(".export.yaml")),
        ("sidecars", 0, &|| read("alice/K.acl")),
        ("listings", 0, &|| drop((alice.list("alice").unwrap(), alice.list(".status").unwrap()))),
        ("denied opens", 0, &|| assert!(alice.read("bob/K").is_err())),
        ("denied commands", 0, &|| assert!(alice.write(".status/rekey", "now").is_err())),
        ("failed creates", 0, &|| {
            for name in ["bob/N", ".status/N", ".export/N"] {
                assert!(alice.create_new(name, "v").is_err(), "{name}");
            }
        }),
        ("directories", 0, &|| {
            alice.mkdir("alice/d").unwrap();
            alice.rmdir("alice/d").unwrap();
        }),
        ("scratch files", 0, &|| {
            alice.write("alice/.s.swp", "scratch").unwrap();
            alice.unlink("alice/.s.swp").unwrap();
        }),
        ("files of .encrypt", 0, &|| {
            let file = alice.open(".encrypt/.in:alice/E", libc::O_RDWR).unwrap();
            file.write("value").unwrap();
            file.read_to_end().unwrap();
            file.close().unwrap();
        }),
        ("writes", notes, &|| {
            alice.write("alice/K", "value").unwrap();
            alice.append("alice/K", "more").unwrap();
        }),
        ("refused writes", notes, &|| {
            let file = alice.open("alice/K", libc::O_WRONLY).unwrap();
            assert!(file.write_at(MEBIBYTE as u64, "beyond the limit").is_err());
            // What was refused may be told once more.
            let _ = file.close();
        }),
        ("imports", notes, &|| alice.write(".import/a.yaml", document).unwrap()),
        ("written sidecars", notes, &|| alice.write("alice/K.acl", &lists).unwrap()),
    ];
    for (kind, more, act) in kinds {
        act();
        // What was closed last may not be released yet.
        let before = (0..10).map(|_| charged(&root)).min().unwrap();
        (0..TIMES).for_each(|_| act());
        let what = format!("the memory of {kind} is given back, {before} bytes were charged");
        eventually(&what, || charged(&root) <= before + more);
    }
}

#[test]
fn users_without_a_name_share_one_account() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--memory-per-user", "4M"]).started();
    let nameless: Vec<User> = (0..4)
        .map(|more| mount.user(crate::harness::Person { uid: UNKNOWN.uid + more, ..UNKNOWN }))
        .collect();
    let value = vec![b'x'; MEBIBYTE];
    let sealed = |user: &User| {
        let file = user.open(".encrypt/K", libc::O_RDWR).unwrap();
        file.write(&value).map(|()| file.close())
    };
    let hold = nameless.iter().map(|user| {
        let file = user.open(".encrypt/K", libc::O_RDWR).unwrap();
        file.write(&value).ok().map(|()| file)
    });
    let held: Vec<_> = hold.collect();
    assert_eq!(held.iter().flatten().count(), 3, "the fourth is refused");
    assert!(sealed(&mount.user(BOB)).is_ok());
}

#[test]
fn a_small_file_is_accepted_however_much_others_drop() {
    let Some(mount) = Mount::start() else { return };
    let (before, piece) = (resident(&mount), vec![b'#'; MEBIBYTE]);
    let greedy: Vec<User> = [ALICE, BOB, CAROL, UNKNOWN].map(|person| mount.user(person)).into();
    let held: Vec<_> = greedy
        .iter()
        .flat_map(|user| {
            (0..2).map(move |number| user.open(&format!(".import/{number}.yaml"), CREATE).unwrap())
        })
        .collect();
    for file in &held {
        for number in 0..64 {
            if let Err(errno) = file.write_at(number << 20, &piece) {
                assert_eq!(errno, EDQUOT);
                break;
            }
        }
    }
    assert_grew_less(&mount, before, 500 * MEBIBYTE);
    works(&mount.user(DAVE), "meanwhile");
    works(&mount.user(ROOT), "meanwhile");
}
