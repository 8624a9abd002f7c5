//! What an attacker can still do in a compromised process: tried in a child, which gives up its privileges as a
//! server does, and then does what an attacker would.

use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;

use super::*;

const TRIAL: &str = "SECRETFS_TEST_TRIAL";
const DIRECTORY: &str = "SECRETFS_TEST_DIRECTORY";
/// No user has this UID.
const UID: u32 = 61_234;

/// Runs the test of this name again, in a process of its own.
#[track_caller]
fn in_a_child(test: &str, directory: &Path) {
    let name = format!("daemon::sandbox::tests::{test}");
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name.as_str(), "--exact", "--nocapture", "--test-threads=1"])
        .env(TRIAL, test)
        .env(DIRECTORY, directory)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{}:\n{said}", output.status);
}

/// The directory of the trial, in the child; none in the test itself.
fn trial(test: &str) -> Option<PathBuf> {
    let is_it = std::env::var(TRIAL).is_ok_and(|name| name == test);
    is_it.then(|| std::env::var_os(DIRECTORY).expect("it is set as well").into())
}

fn account() -> Option<Account> {
    let arguments = [UID.to_string().into(), UID.to_string().into()];
    nix::unistd::geteuid().is_root().then(|| Account::from_arguments(&arguments)).flatten()
}

/// `state` is the server's, `import` is to be read, `outside` is for everybody, `link` leads there.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let open = |path: &Path| fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
    open(path);
    for name in ["state", "import", "outside"] {
        fs::create_dir(path.join(name)).unwrap();
        open(&path.join(name));
        fs::write(path.join(name).join("file"), "content").unwrap();
        open(&path.join(name).join("file"));
    }
    symlink("../outside/file", path.join("state/link")).unwrap();
    fs::write(path.join("import/private"), "content").unwrap();
    fs::set_permissions(path.join("import/private"), PermissionsExt::from_mode(0o600)).unwrap();
    if nix::unistd::geteuid().is_root() {
        chown(path.join("import/private"), Some(4242), Some(4242)).unwrap();
        chown(path.join("state"), Some(UID), Some(UID)).unwrap();
    }
    directory
}

fn enter_as_a_server(directory: &Path, account: Option<&Account>) {
    let mut readable = system_files();
    readable.push(directory.join("import"));
    let files = Files { readable, writable: vec![directory.join("state")], network: false };
    let calls = Calls::Serving { connects: false };
    let needs = Needs { account, reads_all: true, files, calls, ..Needs::default() };
    let sandbox = enter(&needs).unwrap();
    assert!(sandbox.missing.is_empty(), "not in force: {:?}", sandbox.missing);
}

#[track_caller]
fn denied<T>(what: &str, outcome: io::Result<T>) {
    let errno = outcome.err().map(|error| error.raw_os_error().map(Errno::from_raw));
    // The third is Landlock's for a move to where nothing may be made, the last that of a kernel which
    // seems not to have the call.
    let denied = [Errno::EACCES, Errno::EPERM, Errno::EXDEV, Errno::ENOSYS];
    let denied = denied.map(|errno| Some(Some(errno)));
    assert!(denied.contains(&errno), "{what}: {errno:?}");
}

fn call(number: libc::c_long, arguments: [usize; 5]) -> io::Result<libc::c_long> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: the calls that are tried are forbidden; those that were let through would find no
    // valid address among these arguments.
    Ok(Errno::result(unsafe { libc::syscall(number, a, b, c, d, e) })?)
}

#[test]
fn a_server_that_was_taken_over_can_do_nothing_outside() {
    const NAME: &str = "a_server_that_was_taken_over_can_do_nothing_outside";
    let Some(directory) = trial(NAME) else {
        let directory = directory();
        return in_a_child(NAME, directory.path());
    };
    let account = account();
    enter_as_a_server(&directory, account.as_ref());

    // What it needs.
    let state = directory.join("state");
    fs::write(state.join("new"), "value").unwrap();
    fs::rename(state.join("new"), state.join("renamed")).unwrap();
    assert_eq!(fs::read(state.join("renamed")).unwrap(), b"value");
    fs::create_dir(state.join("directory")).unwrap();
    fs::rename(state.join("renamed"), state.join("directory/renamed")).unwrap();
    fs::remove_file(state.join("directory/renamed")).unwrap();
    fs::remove_dir(state.join("directory")).unwrap();
    assert_eq!(fs::read(directory.join("import/file")).unwrap(), b"content");
    if account.is_some() {
        assert_eq!(fs::read(directory.join("import/private")).unwrap(), b"content");
    }
    fs::read("/proc/1/stat").unwrap();
    std::thread::spawn(|| {}).join().unwrap();
    UnixStream::pair().unwrap();

    // No file outside is read ...
    for path in ["/etc/shadow", "/etc/passwd", "/etc", "/", "/root", "/bin/sh", "/tmp"] {
        denied(path, File::open(path));
    }
    denied("outside", File::open(directory.join("outside/file")));
    denied("through a link", File::open(state.join("link")));
    denied("the directory", fs::read_dir(directory.join("outside")));
    for path in ["/proc/1/environ", "/proc/1/mem", "/proc/1/root/etc/passwd"] {
        denied(path, File::open(path));
    }
    // ... or changed.
    denied("write", fs::write(directory.join("outside/file"), "changed"));
    denied("write what it may read", fs::write(directory.join("import/file"), "changed"));
    denied("create", File::create(directory.join("outside/new")));
    denied("remove", fs::remove_file(directory.join("outside/file")));
    denied("rename", fs::rename(state.join("file"), directory.join("outside/stolen")));
    denied("truncate", call_path(libc::SYS_truncate, &directory.join("outside/file")));
    denied(
        "chmod",
        fs::set_permissions(directory.join("outside/file"), PermissionsExt::from_mode(0o000)),
    );
    denied("chown", chown(directory.join("outside/file"), Some(UID), None));
    denied("link", symlink("/etc/shadow", state.join("planted")));
    denied("socket file", call(libc::SYS_mknodat, [0; 5]));

    // No process starts, and none is touched.
    denied("a program", Command::new("/bin/true").status());
    // SAFETY: the child, if there were one, ends at once.
    let forked = unsafe { nix::unistd::fork() };
    if let Ok(nix::unistd::ForkResult::Child) = forked {
        std::process::exit(0);
    }
    denied("a process", forked.map_err(io::Error::from));
    denied("unshare", call(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0, 0, 0]));
    denied("a signal", call(libc::SYS_kill, [1, 0, 0, 0, 0]));
    for (what, number) in [
        ("ptrace", libc::SYS_ptrace),
        ("process_vm_readv", libc::SYS_process_vm_readv),
        ("mount", libc::SYS_mount),
        ("setns", libc::SYS_setns),
        ("bpf", libc::SYS_bpf),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("keyctl", libc::SYS_keyctl),
        ("kexec_load", libc::SYS_kexec_load),
        ("init_module", libc::SYS_init_module),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("execveat", libc::SYS_execveat),
    ] {
        denied(what, call(number, [0; 5]));
    }

    // Nor a call that it was never seen to make, whether a list names it or not.
    unknown(&[libc::SYS_splice, libc::SYS_memfd_create, libc::SYS_timer_create, 9999]);

    // No socket is opened, by no thread.
    let sockets = || {
        denied("TCP", TcpListener::bind("127.0.0.1:0"));
        denied("UDP", UdpSocket::bind("127.0.0.1:0"));
        denied("a local one", UnixDatagram::unbound());
        denied("netlink", call(libc::SYS_socket, [libc::AF_NETLINK as usize, 3, 0, 0, 0]));
    };
    sockets();
    std::thread::spawn(sockets).join().unwrap();

    // It has no privileges, and cannot regain any.
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("NoNewPrivs:").ends_with('1') && line("Seccomp:").ends_with('2'), "{status}");
    for set in ["CapInh:", "CapAmb:"] {
        assert!(line(set).ends_with("0000000000000000"), "{status}");
    }
    if account.is_some() {
        assert!(line("Uid:").ends_with(&format!("{UID}\t{UID}\t{UID}\t{UID}")), "{status}");
        assert!(line("CapBnd:").ends_with("0000000000000000"), "{status}");
        assert!(
            line("CapPrm:").ends_with("0000000000000004"),
            "only to read what is to be imported"
        );
        denied("back to root", call(libc::SYS_setuid, [0; 5]));
    }
}

fn call_path(number: libc::c_long, path: &Path) -> io::Result<libc::c_long> {
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    call(number, [path.as_ptr() as usize, 0, 0, 0, 0])
}

#[test]
fn one_that_passes_on_messages_opens_nothing() {
    const NAME: &str = "one_that_passes_on_messages_opens_nothing";
    let Some(directory) = trial(NAME) else {
        let directory = directory();
        return in_a_child(NAME, directory.path());
    };
    let mut held = File::create(directory.join("outside/held")).unwrap();
    let account = account();
    enter(&of_notifier(account.as_ref())).unwrap();
    io::Write::write_all(&mut held, b"passed on").unwrap();
    for path in ["/proc/self/status", "/etc/passwd", "/dev/null"] {
        denied(path, File::open(path));
    }
    denied("outside", File::open(directory.join("outside/file")));
    denied("a local socket", UnixDatagram::unbound());
    unknown(&[libc::SYS_openat, libc::SYS_getdents64, libc::SYS_ftruncate, libc::SYS_dup3, 9999]);
    std::thread::spawn(|| ()).join().unwrap();
}

/// The kernel seems not to have them.
#[track_caller]
fn unknown(numbers: &[libc::c_long]) {
    for &number in numbers {
        let refused = call(number, [usize::MAX, 0, 0, 0, 0]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::ENOSYS as i32), "call {number}");
    }
}

#[test]
fn one_that_touches_opens_nothing_but_handles() {
    const NAME: &str = "one_that_touches_opens_nothing_but_handles";
    let Some(directory) = trial(NAME) else {
        let directory = directory();
        return in_a_child(NAME, directory.path());
    };
    let arguments = account().map(|account| account.to_arguments()).unwrap_or_default();
    enter_to_touch(&arguments).unwrap();
    // The arguments are no handle and no descriptor: it is not the filter that says so.
    let wrong = call(libc::SYS_open_by_handle_at, [usize::MAX, 0, 0, 0, 0]).unwrap_err();
    assert!(
        [Errno::EBADF, Errno::EFAULT]
            .map(|errno| errno as i32)
            .contains(&wrong.raw_os_error().unwrap())
    );
    for path in ["/etc/passwd", "/dev/null", "/proc/1/environ"] {
        denied(path, File::open(path));
    }
    denied("outside", File::open(directory.join("outside/file")));
    denied("create", File::create(directory.join("outside/new")));
    denied("a local socket", UnixDatagram::unbound());
    denied("a program", Command::new("/bin/true").status());
    unknown(&[libc::SYS_getdents64, libc::SYS_ftruncate, libc::SYS_unlinkat, libc::SYS_splice]);
}

#[test]
fn the_lookup_helper_reads_and_writes_nothing() {
    const NAME: &str = "the_lookup_helper_reads_and_writes_nothing";
    let Some(directory) = trial(NAME) else {
        let directory = directory();
        return in_a_child(NAME, directory.path());
    };
    let files = Files { readable: vec!["/".into()], network: true, ..Files::default() };
    let calls = Calls::LookingUp;
    let account = account();
    let account = account.as_ref();
    enter(&Needs { account, reads_all: true, files, calls, ..Needs::default() }).unwrap();
    assert_eq!(fs::read(directory.join("outside/file")).unwrap(), b"content");
    UnixDatagram::unbound().unwrap();
    denied("write", fs::write(directory.join("outside/file"), "changed"));
    denied("create", File::create(directory.join("outside/new")));
    denied("a program", Command::new("/bin/true").status());
}
