//! A server that aborts, is refused memory, or hangs while it starts: callers wait a moment, and
//! notice nothing else.

use std::fs;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{ALICE, BOB, Mount, ROOT, eventually};

/// A thread of a process, by the beginning of its name.
fn thread(process: Pid, name: &str) -> Option<Pid> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    threads.filter_map(Result::ok).find_map(|thread| {
        let own = fs::read_to_string(thread.path().join("comm")).ok()?;
        let number = thread.file_name().to_str()?.parse().ok()?;
        own.starts_with(name).then(|| Pid::from_raw(number))
    })
}

fn send_to_thread(process: Pid, thread: Pid, signal: Signal) {
    // SAFETY: this call takes three numbers and touches no memory.
    let sent = unsafe {
        libc::syscall(libc::SYS_tgkill, process.as_raw(), thread.as_raw(), signal as libc::c_int)
    };
    assert!(sent == 0 || Errno::last() == Errno::ESRCH, "{signal} to a thread of the server");
}

/// A panic is an abort of the thread that panics: the signal that this raises is sent here. A bug that
/// is worse, and a disk that loses a page, raise others.
#[test]
fn a_panic_of_any_thread_is_a_short_wait() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--crash-limit", "100"]).started();
    let (root, alice, bob) = (mount.user(ROOT), mount.user(ALICE), mount.user(BOB));
    root.put("K", "value", "readers: [alice]\n");
    let held = alice.open("K", libc::O_RDONLY).unwrap();
    let mut written = 0;
    for name in ["fuser-", "writer", "invalidator", "prefiller", "supervisor", "watchers"] {
        for signal in [Signal::SIGABRT, Signal::SIGBUS, Signal::SIGILL] {
            let writer = root.open("L", libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC).unwrap();
            writer.write(written.to_string()).unwrap();
            let server = mount.server().expect("it serves");
            let victim = thread(server, name).unwrap_or_else(|| panic!("no thread `{name}`"));
            let start = Instant::now();
            // The first SIGBUS only takes away the handler that looks for a stack that overflowed.
            eventually("it is dead", || {
                send_to_thread(server, victim, signal);
                mount.server() != Some(server)
            });
            assert_eq!(alice.read("K").as_deref(), Ok("value"), "{signal} to {name}");
            assert_eq!(bob.read("K"), Err(Errno::EACCES));
            assert_eq!(writer.close(), Ok(()), "{signal} to {name}");
            assert!(start.elapsed() < Duration::from_secs(20), "callers waited too long");
            assert_eq!(root.read("L"), Ok(written.to_string()));
            eventually("another one serves", || mount.server().is_some_and(|it| it != server));
            written += 1;
        }
    }
    assert_eq!(held.read_to_end().as_deref(), Ok(&b"value"[..]));
    let said = mount.said();
    for signal in ["SIGABRT", "SIGBUS", "SIGILL"] {
        assert!(said.contains(signal), "it should say of what the server died:\n{said}");
    }
}

/// Lets a process have no more memory than it has.
fn allow_no_more_memory(process: Pid) {
    let statm = fs::read_to_string(format!("/proc/{process}/statm")).unwrap();
    let pages: u64 = statm.split_whitespace().next().unwrap().parse().unwrap();
    let limit = libc::rlimit { rlim_cur: pages * 4096, rlim_max: pages * 4096 };
    // SAFETY: the new limit lives as long as the call, and no old one is asked for.
    let set =
        unsafe { libc::prlimit(process.as_raw(), libc::RLIMIT_AS, &limit, std::ptr::null_mut()) };
    assert_eq!(set, 0, "the limit of the server's memory");
}

#[test]
fn a_server_that_is_refused_memory_is_replaced() {
    const FILES: usize = 20;
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    let value = vec![b'x'; 1 << 20];
    let files: Vec<_> = (0..FILES)
        .map(|number| {
            root.open(&format!("K{number}"), libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC)
                .unwrap()
        })
        .collect();
    let server = mount.server().unwrap();
    allow_no_more_memory(server);
    for file in &files {
        assert_eq!(file.write(&value), Ok(()), "whoever writes waits, and no more");
    }
    assert_ne!(mount.server(), Some(server), "it did not need any memory");
    for file in files {
        assert_eq!(file.close(), Ok(()));
    }
    for number in 0..FILES {
        assert!(root.read_bytes(&format!("K{number}")).as_ref() == Ok(&value), "K{number}");
    }
}

/// The kernel takes the process with the highest score.
#[test]
fn the_kernel_takes_the_server_before_the_supervisor() {
    let Some(mount) = Mount::start() else { return };
    mount.user(ROOT).write("K", "value").unwrap();
    let read = |process: Pid, file: &str| -> i32 {
        let text = fs::read_to_string(format!("/proc/{process}/{file}")).unwrap();
        text.trim().parse().unwrap()
    };
    let supervisor = mount.pid();
    // A container may lack the capability to lower it.
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = fs::read_to_string(format!("/proc/{supervisor}/status")).unwrap();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let capabilities = u64::from_str_radix(capabilities.trim(), 16).unwrap();
    let may_lower = capabilities & 1 << CAP_SYS_RESOURCE != 0;
    assert_eq!(read(supervisor, "oom_score_adj") <= -900, may_lower);
    for _ in 0..2 {
        let others =
            [mount.server(), mount.notifier(), mount.lookup_helper(), mount.inotify_helper()];
        for process in others.map(|process| process.expect("it runs")) {
            assert_eq!(read(process, "oom_score_adj"), read(supervisor, "oom_score_adj") + 100);
            assert!(read(process, "oom_score") > read(supervisor, "oom_score"));
        }
        assert!(mount.kill_server());
        assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
    }
}

#[test]
fn a_server_that_hangs_before_it_serves_is_replaced() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("K", "value", "readers: [alice]\n");
    // Whoever opens this waits for somebody to write into it.
    let (identities, kept) = (mount.identities(), mount.identities().with_extension("kept"));
    fs::rename(&identities, &kept).unwrap();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&identities, mode).unwrap();
    assert!(mount.kill_server());
    let hangs = "the server that is to take over hangs; it is killed";
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| alice.read("K"));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !mount.said().contains(hangs) {
            assert!(Instant::now() < deadline, "nobody noticed:\n{}", mount.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!reader.is_finished(), "it waits for a server");
        fs::rename(&kept, &identities).unwrap();
        assert_eq!(reader.join().unwrap().as_deref(), Ok("value"));
    });
    assert_eq!(mount.said().matches(hangs).count(), 1, "{}", mount.said());
}

#[test]
fn a_server_that_is_stopped_before_it_serves_is_replaced() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--crash-limit", "100"]).started();
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    let serves = |server: Pid| {
        let files = fs::read_dir(format!("/proc/{server}/fd")).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        targets.any(|target| target.as_os_str() == "/dev/fuse")
    };
    let stopped = (0..50).find_map(|_| {
        let former = mount.server().expect("it serves");
        kill(former, Signal::SIGKILL).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let next = loop {
            assert!(Instant::now() < deadline, "no other one was started");
            match mount.server() {
                Some(next) if next != former => break next,
                _ => std::hint::spin_loop(),
            }
        };
        kill(next, Signal::SIGSTOP).unwrap();
        if !serves(next) {
            return Some(next);
        }
        // It was quicker.
        kill(next, Signal::SIGCONT).unwrap();
        assert_eq!(root.read("K").as_deref(), Ok("value"));
        None
    });
    let stopped = stopped.expect("a start takes longer than a look");
    let start = Instant::now();
    assert_eq!(root.read("K").as_deref(), Ok("value"));
    let waited = start.elapsed();
    assert!(waited < Duration::from_secs(25), "readers waited {waited:?}");
    assert_ne!(mount.server(), Some(stopped));
    let said = mount.said();
    assert!(said.contains("the server that is to take over hangs"), "{said}");
}
