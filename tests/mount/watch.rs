//! Being told that a secret changed: poll(2), and `secretfs watch`.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{ALICE, BOB, Mount, Person, ROOT, eventually};
use crate::skip::has;

const SECRETFS: &str = env!("CARGO_BIN_EXE_secretfs");

/// Reads `$1` again whenever poll says so, until it is `final`; a minute without is a failure.
const FOLLOW: &str = r#"
import os, select, sys
seen = 0
while True:
    file = os.open(sys.argv[1], os.O_RDONLY)
    if os.read(file, 100) == b"final":
        break
    open(sys.argv[2], "w").close()
    if sys.argv[3] == "poll":
        poll = select.poll()
        poll.register(file, select.POLLPRI)
        events = poll.poll(60000)
    else:
        poll = select.epoll()
        poll.register(file, select.EPOLLPRI)
        events = poll.poll(60)
        poll.close()
    if not events or not events[0][1] & select.POLLPRI:
        sys.exit(f"after {seen} changes: {events}")
    os.close(file)
    seen += 1
print("final")
"#;

#[test]
fn poll_and_epoll_wake_when_there_is_a_newer_version() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    if !has(&["python3"]) {
        return;
    }
    fs::write(mount.outside().join("follow.py"), FOLLOW).unwrap();
    for way in ["poll", "epoll"] {
        let key = format!("svc/{way}");
        root.put(&key, "0", "readers: [alice]\n");
        let (follower, started) = (mount.user(ALICE), mount.outside().join(way));
        std::thread::scope(|scope| {
            let script = format!("python3 $T/follow.py {key} {} {way}", started.display());
            let following = scope.spawn(move || follower.sh_ok(&script));
            eventually("the follower has read it once", || started.exists());
            for number in 1..1000 {
                // Every way in which a secret changes.
                match number % 3 {
                    0 => root.write(&key, number.to_string()).unwrap(),
                    1 => {
                        root.write("svc/.new.tmp", number.to_string()).unwrap();
                        root.rename("svc/.new.tmp", &key).unwrap();
                    }
                    _ => {
                        root.write("svc/other", number.to_string()).unwrap();
                        root.rename("svc/other", &key).unwrap();
                    }
                }
            }
            root.write(&key, "final").unwrap();
            assert_eq!(following.join().unwrap(), "final\n");
        });
    }
}

#[test]
fn who_polls_is_woken_by_the_next_server_too() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--crash-limit", "1000"]).started();
    let root = mount.user(ROOT);
    if !has(&["python3"]) {
        return;
    }
    fs::write(mount.outside().join("follow.py"), FOLLOW).unwrap();
    root.put("svc/K", "0", "readers: [alice]\n");
    let (follower, started) = (mount.user(ALICE), mount.outside().join("started"));
    std::thread::scope(|scope| {
        let script = format!("python3 $T/follow.py svc/K {} poll", started.display());
        let following = scope.spawn(move || follower.sh_ok(&script));
        for number in 1..20 {
            eventually("the follower has read it", || started.exists());
            fs::remove_file(&started).unwrap();
            // Before and after the change.
            while !mount.kill_server() {}
            root.write("svc/K", number.to_string()).unwrap();
            while !mount.kill_server() {}
        }
        root.write("svc/K", "final").unwrap();
        assert_eq!(following.join().unwrap(), "final\n");
    });
}

#[test]
fn poll_says_what_is_open_is_gone_and_nothing_before() {
    if !has(&["python3"]) {
        return;
    }
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    let said = root.sh_ok(
        r#"python3 -c '
import os, select
file = os.open("K", os.O_RDONLY)
poll = select.poll()
poll.register(file, select.POLLIN | select.POLLPRI)
names = lambda: [event & (select.POLLIN | select.POLLPRI) for _, event in poll.poll(0)]
print(names() == [select.POLLIN])
open("K.acl", "w").write("readers: [bob]\n")
print(names() == [select.POLLIN])
os.unlink("K")
print(names() == [select.POLLIN | select.POLLPRI])
print(os.read(file, 100))
'"#,
    );
    assert_eq!(said, "True\nTrue\nTrue\nb'value'\n");
}

/// `secretfs watch`, ended when this is dropped.
pub(crate) struct Watch(Child);

impl Watch {
    pub(crate) fn start(mount: &Mount, arguments: &[&str]) -> Self {
        Self(Self::command(SECRETFS.as_ref(), mount, arguments).spawn().unwrap())
    }

    /// As another user; what it says goes to the file `said`.
    fn start_as(mount: &Mount, person: Person, arguments: &[&str]) -> Self {
        let said = fs::File::create(mount.outside().join("said")).unwrap();
        // The build directory may be closed to others. By another process, because a descriptor that is
        // open for writing here could be inherited, and then the copy cannot be run.
        let program = mount.outside().join("secretfs");
        let copy = Command::new("cp").arg("-f").args([SECRETFS.as_ref(), &*program]).status();
        assert!(copy.unwrap().success());
        let mut command = Self::command(&program, mount, arguments);
        command.uid(person.uid).gid(person.uid).stderr(said);
        Self(command.spawn().unwrap())
    }

    fn command(program: &Path, mount: &Mount, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .arg("--mount")
            .arg(mount.point())
            .arg("watch")
            .args(arguments)
            .env("T", mount.outside())
            .current_dir(mount.outside())
            .stdin(Stdio::null());
        command
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }

    /// Ends it once its command has ended: with the code of that it would end otherwise.
    fn end(&mut self) -> Option<i32> {
        let children = format!("/proc/{0}/task/{0}/children", self.0.id());
        eventually("the command has ended", || fs::read_to_string(&children).unwrap().is_empty());
        self.signal(Signal::SIGTERM);
        self.code()
    }

    fn code(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("watch has ended", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file outside that a command appends lines to.
fn lines(path: &PathBuf) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn watch_runs_a_command_after_the_last_of_a_thousand_changes() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.put("svc/K", "0\n", "");
    let out = mount.outside().join("out");
    let command = ["sh", "-c", "cat $0/$SECRETFS_KEY >> out", mount.point().to_str().unwrap()]
        .map(str::to_owned);
    let mut arguments = vec!["--initial", "--debounce", "5", "svc/K", "--"];
    arguments.extend(command.iter().map(String::as_str));
    let mut watch = Watch::start(&mount, &arguments);
    eventually("it ran at the start", || lines(&out) == ["0"]);
    for number in 1..=1000 {
        root.write("svc/K", format!("{number}\n")).unwrap();
    }
    eventually("it ran after the last", || lines(&out).last().is_some_and(|last| last == "1000"));
    let seen = lines(&out);
    let numbers: Vec<u32> = seen.iter().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.is_sorted() && numbers.len() < 1000, "{numbers:?}");
    root.unlink("svc/K").unwrap();
    root.write("svc/K", "again\n").unwrap();
    eventually("a new one is a change", || lines(&out).last().is_some_and(|last| last == "again"));
    assert_eq!(watch.end(), Some(0));
}

#[test]
fn watch_ends_as_its_command_and_hands_it_signals() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "1").unwrap();
    let mut watch = Watch::start(&mount, &["--once", "--initial", "K", "--", "sh", "-c", "exit 7"]);
    assert_eq!(watch.code(), Some(7));
    let mut watch =
        Watch::start(&mount, &["--once", "--initial", "K", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(watch.code(), Some(137));
    let script =
        "trap 'echo told >> told; exit 3' TERM; echo up > up; while :; do sleep 0.01; done";
    let mut watch = Watch::start(&mount, &["--initial", "K", "--", "sh", "-c", script]);
    let up = mount.outside().join("up");
    eventually("the command runs", || up.exists());
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.code(), Some(3));
    assert_eq!(lines(&mount.outside().join("told")), ["told"]);
    let mut watch = Watch::start(&mount, &["--initial", "K", "--", "/no/such/program"]);
    assert_eq!(watch.code(), Some(4));
}

/// Watches `key` as `person`, who is told `note`; then `change` is made, and the command has to run.
#[track_caller]
fn watch_in_spite(mount: &Mount, person: Person, key: &str, note: &str, change: impl FnOnce()) {
    let (out, said) = (mount.outside().join("out"), mount.outside().join("said"));
    let _ = fs::remove_file(&out);
    let script = "echo \"$SECRETFS_KEY\" >> out";
    let arguments = ["--debounce", "5", key, "--", "sh", "-c", script];
    let mut watch = Watch::start_as(mount, person, &arguments);
    eventually("it says what hinders it", || lines(&said) == [note]);
    change();
    eventually("the command ran", || lines(&out) == [key]);
    assert_eq!(watch.end(), Some(0));
    assert_eq!(lines(&said), [note], "it said no more");
}

#[test]
fn watch_waits_for_a_secret_that_is_not_there() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.mkdir("svc").unwrap();
    let note = "`svc/LATER` is not there yet; it is watched for.";
    watch_in_spite(&mount, ROOT, "svc/LATER", note, || root.write("svc/LATER", "1").unwrap());
    // Whether it may be read makes no difference: its existence is no secret from who knows the name.
    let note = "`svc/NEXT` is not there yet; it is watched for.";
    watch_in_spite(&mount, BOB, "svc/NEXT", note, || root.write("svc/NEXT", "1").unwrap());
}

#[test]
fn watch_notices_changes_of_a_secret_that_may_not_be_read() {
    let Some(mount) = Mount::start() else { return };
    let (root, bob) = (mount.user(ROOT), mount.user(BOB));
    root.put("svc/K", "1", "readers: [alice]\n");
    let note = "You may not read `svc/K`; that it changes is noticed up to a second later.";
    watch_in_spite(&mount, BOB, "svc/K", note, || root.write("svc/K", "2").unwrap());
    watch_in_spite(&mount, BOB, "svc/K", note, || root.unlink("svc/K").unwrap());
    let denied = bob.read(".status/last-error").unwrap();
    // Once for each version, and not once for each look.
    assert_eq!(denied.lines().count(), 3, "{denied}");
}
