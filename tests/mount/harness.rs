//! A mount of one's own: starts the daemon, waits until it serves, ends it and cleans up.

use std::fs;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::filter::Filter;
pub(crate) use crate::skip::skip;

/// A user of the tests; none of them exists on the system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Person {
    pub(crate) name: &'static str,
    pub(crate) uid: u32,
}

/// Admin by default.
pub(crate) const ROOT: Person = Person { name: "root", uid: 0 };
/// In the team `devops-team`.
pub(crate) const ALICE: Person = Person { name: "alice", uid: 2100 };
/// In no team.
pub(crate) const BOB: Person = Person { name: "bob", uid: 2200 };
/// Also in the team `devops-team`.
pub(crate) const DAVE: Person = Person { name: "dave", uid: 2101 };
/// Admin by the team `secret-admins`.
pub(crate) const CAROL: Person = Person { name: "carol", uid: 2500 };
/// A UID that nothing gives a name.
pub(crate) const UNKNOWN: Person = Person { name: "4242", uid: 4242 };

/// Who is who, unless a test says otherwise.
pub(crate) const IDENTITIES: &str = "\
admins: [root, secret-admins]
identities:
  - slug: payment-svc
    uid: 2001
  - slug: alice
    uid: 2100
    teams: [devops-team]
  - slug: dave
    uid: 2101
    teams: [devops-team]
  - slug: bob
    uid: 2200
  - slug: carol
    uid: 2500
    teams: [secret-admins]
";

/// 32 bytes in hex, so that no start has to wait for a password hash.
pub(crate) const KEY: &str = "8f1d3c5b7a99e0f2143658daecb1073f5e6a7b8c9d0e1f2031425364758697a8";

/// The key of stores that were made when no key was configured.
pub(crate) const BUILT_IN_KEY: &str = "changeMeToSomethingSecureForReal";

/// How long the daemon may take to start or to end, and a condition to become true: long, for a machine
/// that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether mounts can be tested here; says so if not. Under `CI` they must be.
pub(crate) fn can_mount() -> bool {
    if nix::unistd::geteuid().is_root() && Path::new("/dev/fuse").exists() {
        return true;
    }
    skip("needs root and /dev/fuse");
    false
}

/// Waits until `condition` holds, or fails saying what did not come true.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "after {PATIENCE:?}, still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A mountpoint, a state directory, an identities file, and the daemon while it runs.
pub(crate) struct Mount {
    directory: TempDir,
    point: PathBuf,
    state: PathBuf,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, Option<String>)>,
    filter: Filter,
    has_own_pids: bool,
    umask: Option<Mode>,
    #[cfg(feature = "etcd")]
    network: Option<String>,
    daemon: Option<Daemon>,
}

/// A daemon that did not start.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

impl Mount {
    /// A running mount; `None` where mounting is impossible.
    pub(crate) fn start() -> Option<Self> {
        Self::prepare().map(Self::started)
    }

    /// As [`Mount::start`], without starting the daemon yet.
    pub(crate) fn prepare() -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let directory =
            tempfile::Builder::new().prefix("secretfs-test-").tempdir().expect("a directory");
        let mount = Self {
            point: directory.path().join("secrets"),
            state: directory.path().join("state"),
            directory,
            program: env!("CARGO_BIN_EXE_secretfs").into(),
            arguments: Vec::new(),
            environment: vec![("OB_ENCRYPTION_KEY", Some(KEY.to_owned()))],
            filter: Filter::default(),
            has_own_pids: false,
            umask: None,
            #[cfg(feature = "etcd")]
            network: None,
            daemon: None,
        };
        set_mode(mount.directory.path(), 0o755);
        for (path, mode) in
            [(mount.point(), 0o755), (mount.state(), 0o700), (mount.outside(), 0o777)]
        {
            fs::create_dir(&path).expect("the directory is empty");
            set_mode(&path, mode);
        }
        Some(mount.with_identities(IDENTITIES))
    }

    /// Adds arguments of `secretfs mount`.
    pub(crate) fn with_args(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Runs the daemon in that network namespace.
    #[cfg(feature = "etcd")]
    pub(crate) fn in_network(mut self, namespace: String) -> Self {
        self.network = Some(namespace);
        self
    }

    /// Runs the daemon in a PID namespace of its own: it sees no PID of its callers.
    pub(crate) fn in_own_pid_namespace(mut self) -> Self {
        self.has_own_pids = true;
        self
    }

    /// Runs a copy of the program, which can be replaced.
    pub(crate) fn with_copied_program(mut self) -> Self {
        self.program = self.directory.path().join("program");
        self.install(env!("CARGO_BIN_EXE_secretfs").as_ref(), "first");
        self
    }

    /// Puts a build in the place of the copied program, which differs from others by `mark`.
    pub(crate) fn install(&self, build: &Path, mark: &str) {
        let next = self.program.with_extension("next");
        let bytes = [fs::read(build).expect("it was built"), mark.into()].concat();
        fs::write(&next, bytes).expect("the test's directory takes files");
        set_mode(&next, 0o755);
        fs::rename(next, &self.program).expect("the test's directory takes files");
    }

    /// `secretfs upgrade`. What it said, if it failed.
    pub(crate) fn upgrade(&self) -> Result<(), String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_secretfs"));
        let output = command.arg("upgrade").arg(self.point()).output().expect("it was built");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }

    /// `secretfs reload`.
    pub(crate) fn reload(&self) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_secretfs"));
        command.arg("reload").arg(self.point()).output().expect("it was built")
    }

    /// `secretfs mount --check` with the daemon's own arguments, and with these.
    pub(crate) fn check(&self, arguments: &[&str]) -> Output {
        let mut command = self.command();
        command.arg("--check").args(arguments).output().expect("it was built")
    }

    /// Uses the mountpoint of another one.
    pub(crate) fn at_point_of(mut self, other: &Self) -> Self {
        self.point = other.point();
        self
    }

    /// Is to be mounted somewhere else the next time.
    pub(crate) fn at(mut self, point: &Path) -> Self {
        point.clone_into(&mut self.point);
        self
    }

    /// Uses the state directory of another one.
    pub(crate) fn on_state_of(mut self, other: &Self) -> Self {
        self.state = other.state();
        self
    }

    /// Sets or removes a variable of the daemon's environment.
    pub(crate) fn with_env(mut self, name: &'static str, value: Option<&str>) -> Self {
        self.environment.push((name, value.map(str::to_owned)));
        self
    }

    /// Starts the daemon with that umask.
    pub(crate) fn with_umask(mut self, umask: u32) -> Self {
        self.umask = Some(Mode::from_bits_truncate(umask));
        self
    }

    /// Lets the kernel seem not to have these system calls.
    pub(crate) fn without_calls(mut self, missing: &[libc::c_long]) -> Self {
        self.filter.missing.extend(missing);
        self
    }

    /// Refuses these system calls, as the filter of a container does.
    pub(crate) fn refusing_calls(mut self, refused: &[libc::c_long]) -> Self {
        self.filter.refused.extend(refused);
        self
    }

    /// Lets a process end, as by a crash, when it writes (by this system call) so many bytes.
    pub(crate) fn deadly(mut self, write: libc::c_long, lengths: RangeInclusive<u32>) -> Self {
        self.filter.deadly = Some((write, lengths));
        self
    }

    /// Writes the identities file.
    #[track_caller]
    pub(crate) fn with_identities(self, text: &str) -> Self {
        fs::write(self.identities(), text).expect("the test's directory takes files");
        self
    }

    /// Starts the daemon, which must succeed.
    pub(crate) fn started(mut self) -> Self {
        self.go();
        self
    }

    /// Starts the daemon again, or for the first time.
    #[track_caller]
    pub(crate) fn go(&mut self) {
        if let Err(refusal) = self.try_start() {
            panic!("the daemon did not start ({}):\n{}", refusal.status, refusal.stderr);
        }
    }

    /// Starts a daemon that must refuse with an exit code of its own choice and a message.
    #[track_caller]
    pub(crate) fn refused(&mut self) -> String {
        let Err(refusal) = self.try_start() else {
            panic!("the daemon started, against the rules")
        };
        let code = refusal.status.code();
        assert!(
            code.is_some_and(|code| (1..100).contains(&code)) && !refusal.stderr.contains("panick"),
            "an exit code of the contract was expected, it was {}:\n{}",
            refusal.status,
            refusal.stderr
        );
        assert!(!refusal.stderr.trim().is_empty(), "it refused without a word");
        refusal.stderr
    }

    /// Starts the daemon with descriptors that a service manager kept for it, which must succeed.
    #[track_caller]
    pub(crate) fn go_with(&mut self, kept: impl IntoIterator<Item = (String, OwnedFd)>) {
        self.launch_with(kept);
        let daemon = self.daemon.take().expect("it was just started");
        if let Err(refusal) = self.wait_for(daemon) {
            panic!("the daemon did not start ({}):\n{}", refusal.status, refusal.stderr);
        }
    }

    /// As [`Mount::go_with`], without waiting until it serves.
    pub(crate) fn launch_with(&mut self, kept: impl IntoIterator<Item = (String, OwnedFd)>) {
        let (names, kept): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
        // The shell puts them where they belong, and has the process id that the daemon will have.
        let mut script = String::from("export LISTEN_PID=$$; exec \"$0\" \"$@\"");
        let mut passed = Vec::new();
        for (place, descriptor) in kept.iter().enumerate() {
            let high = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(100)).expect("there is room");
            script.push_str(&format!(" {}<&{high} {high}<&-", place + 3));
            // SAFETY: it was made for us just now.
            passed.push(unsafe { OwnedFd::from_raw_fd(high) });
        }
        let daemon = self.command();
        let mut command = Command::new("bash");
        command.args(["-c", &script]).arg(daemon.get_program()).args(daemon.get_args());
        command.env("LISTEN_FDS", kept.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        for (name, value) in daemon.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let numbers: Vec<_> = passed.iter().map(AsRawFd::as_raw_fd).collect();
        let inherit = move || {
            for &number in &numbers {
                // SAFETY: the child has all that this process has open.
                let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
                fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
            }
            Ok(())
        };
        // SAFETY: fcntl is async-signal-safe, and nothing is allocated.
        unsafe { command.pre_exec(inherit) };
        self.daemon = Some(Daemon::spawn(command));
        drop((kept, passed));
    }

    /// Starts the daemon and waits until it serves or ends.
    pub(crate) fn try_start(&mut self) -> Result<(), Refusal> {
        self.wait_for(Daemon::spawn(self.command()))
    }

    fn wait_for(&mut self, mut daemon: Daemon) -> Result<(), Refusal> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if daemon.said().lines().any(|line| line.contains("mounted at")) {
                self.daemon = Some(daemon);
                return Ok(());
            }
            if let Some(status) = daemon.ended() {
                daemon.join_reader();
                return Err(Refusal { status, stderr: daemon.said() });
            }
            if Instant::now() > deadline {
                let said = daemon.said();
                self.daemon = Some(daemon);
                panic!("no `mounted at` within {PATIENCE:?}; the daemon said:\n{said}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The command that starts the daemon.
    pub(crate) fn command(&self) -> Command {
        let mut command = self.program();
        command.arg("mount").arg(self.point());
        command.arg("--state-dir").arg(self.state());
        command.arg("--identities").arg(self.identities());
        command.args(&self.arguments);
        for name in ["SECRETFS_MOUNT", "SECRETFS_STATE_DIR", "CREDENTIALS_DIRECTORY"] {
            command.env_remove(name);
        }
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(wanted) = self.umask {
            let set = move || {
                umask(wanted);
                Ok(())
            };
            // SAFETY: umask(2) is async-signal-safe.
            unsafe { command.pre_exec(set) };
        }
        self.filter.apply(&mut command);
        command
    }

    #[cfg(feature = "etcd")]
    fn program(&self) -> Command {
        let Some(network) = &self.network else { return self.program_with_pids() };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={network}")).arg(&self.program);
        command
    }

    #[cfg(not(feature = "etcd"))]
    fn program(&self) -> Command {
        self.program_with_pids()
    }

    fn program_with_pids(&self) -> Command {
        if !self.has_own_pids {
            return Command::new(&self.program);
        }
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]).arg(&self.program);
        command
    }

    /// Ends the daemon with SIGTERM; it must exit with 0 and leave no mount. Gives what it said.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> String {
        self.stop_with(Signal::SIGTERM)
    }

    /// As [`Mount::stop`], with another signal.
    #[track_caller]
    pub(crate) fn stop_with(&mut self, signal: Signal) -> String {
        let pid = self.pid();
        let mut daemon = self.daemon.take().expect("the daemon runs");
        kill(pid, signal).expect("it has not ended");
        let status = daemon.wait(PATIENCE);
        if status.is_none() {
            daemon.kill();
            self.unmount_by_force();
        }
        daemon.join_reader();
        let said = daemon.said();
        let code = status.map(|status| status.code());
        assert_eq!(
            code,
            Some(Some(0)),
            "the exit code after {signal} (None: none at all):\n{said}"
        );
        assert!(self.mounted().is_none(), "the daemon ended and left its mount:\n{said}");
        said
    }

    /// Stops the daemon and starts it again on the same state.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.go();
    }

    /// Waits until the daemon has ended by itself. How, and what it said.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> (ExitStatus, String) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        let status = daemon.wait(PATIENCE);
        if status.is_none() {
            daemon.kill();
            self.unmount_by_force();
        }
        daemon.join_reader();
        (status.expect("the daemon did not end"), daemon.said())
    }

    /// Whether the daemon has not ended by itself.
    pub(crate) fn is_running(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(|daemon| daemon.ended().is_none())
    }

    /// Kills the daemon with SIGKILL and leaves what it left.
    pub(crate) fn kill9(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        daemon.kill();
        daemon.join_reader();
    }

    /// Kills the daemon and all processes below it with SIGKILL, and leaves what they left.
    pub(crate) fn kill_all(&mut self) {
        self.kill_some(&family(self.pid()));
    }

    /// Kills some of its processes with SIGKILL, in this order. Whether the supervisor was among them. One of them may
    /// wait in the kernel for the next server, so that only its end is waited for.
    pub(crate) fn kill_some(&mut self, processes: &[Pid]) -> bool {
        for process in processes {
            // A child may have ended with its parent.
            let _ = kill(*process, Signal::SIGKILL);
        }
        let is_supervisor_killed = processes.contains(&self.pid());
        if is_supervisor_killed {
            self.daemon.take().expect("the daemon runs").kill();
        }
        is_supervisor_killed
    }

    /// The process that serves the mount, if there is one at this moment.
    pub(crate) fn server(&self) -> Option<Pid> {
        child(self.pid(), |arguments| arguments.nth(1) == Some("serve"))
    }

    /// The process that tells the kernel what its caches must forget.
    pub(crate) fn notifier(&self) -> Option<Pid> {
        child(self.pid(), |arguments| arguments.nth(1) == Some("notify"))
    }

    /// The process that looks up users and files for the server.
    pub(crate) fn lookup_helper(&self) -> Option<Pid> {
        child(self.server()?, |arguments| arguments.nth(1) == Some("look-up"))
    }

    /// The process that speaks to etcd for the server.
    #[cfg(feature = "etcd")]
    pub(crate) fn etcd_proxy(&self) -> Option<Pid> {
        child(self.server()?, |arguments| arguments.nth(1) == Some("carry"))
    }

    /// The process that touches files, so that inotify tells of them.
    pub(crate) fn inotify_helper(&self) -> Option<Pid> {
        child(self.server()?, |arguments| arguments.next() == Some("secretfs-touch"))
    }

    /// Kills the server with SIGKILL, and not the supervisor of the mount. Whether there was one.
    pub(crate) fn kill_server(&self) -> bool {
        self.server().is_some_and(|server| kill(server, Signal::SIGKILL).is_ok())
    }

    /// Sends a signal that does not end the daemon.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it is our child");
    }

    /// The daemon's process id.
    pub(crate) fn pid(&self) -> Pid {
        let pid = self.daemon.as_ref().expect("the daemon runs").pid();
        match self.has_own_pids {
            true => child(pid, |_| true).expect("unshare waits for it"),
            false => pid,
        }
    }

    /// What the daemon wrote to standard error since it was started.
    pub(crate) fn said(&self) -> String {
        self.daemon.as_ref().map_or_else(String::new, Daemon::said)
    }

    /// Where the filesystem is mounted.
    pub(crate) fn point(&self) -> PathBuf {
        self.point.clone()
    }

    /// The state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.state.clone()
    }

    /// The identities file.
    pub(crate) fn identities(&self) -> PathBuf {
        self.directory.path().join("identities.yaml")
    }

    /// A directory outside the mount that everyone may write to.
    pub(crate) fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    /// A directory outside the mount that is root's alone.
    pub(crate) fn roots(&self) -> PathBuf {
        let path = self.directory.path().join("roots");
        fs::create_dir_all(&path).expect("the test's directory takes files");
        set_mode(&path, 0o755);
        path
    }

    /// The line of `/proc/self/mountinfo` for the mountpoint.
    pub(crate) fn mounted(&self) -> Option<String> {
        let table = fs::read_to_string("/proc/self/mountinfo").expect("Linux has it");
        let point = format!(" {} ", self.point().display());
        table.lines().rfind(|line| line.contains(&point)).map(str::to_owned)
    }

    /// Not what another one has mounted.
    fn unmount_by_force(&self) {
        let own = self.point.starts_with(self.directory.path());
        while own
            && self.mounted().is_some()
            && umount2(&self.point(), MntFlags::MNT_DETACH).is_ok()
        {}
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said();
            eprintln!("the daemon said:\n{said}");
            if let Some(mut daemon) = self.daemon.take() {
                daemon.kill();
            }
        } else if self.daemon.is_some() {
            self.stop();
        }
        self.unmount_by_force();
    }
}

/// A process and all below it.
fn family(pid: Pid) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children = lists.flat_map(|list| {
        let numbers = list.split_whitespace().map(|child| child.parse().expect("it is a number"));
        numbers.map(Pid::from_raw).collect::<Vec<_>>()
    });
    [pid].into_iter().chain(children.flat_map(family)).collect()
}

/// The process whose arguments are those, of those that the first thread of another one has started.
fn child(of: Pid, is_it: impl Fn(&mut dyn Iterator<Item = &str>) -> bool) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children"));
    children.ok()?.split_whitespace().find_map(|child| {
        let arguments = fs::read_to_string(format!("/proc/{child}/cmdline")).ok()?;
        is_it(&mut arguments.split('\0'))
            .then(|| Pid::from_raw(child.parse().expect("it is a number")))
    })
}

/// Sets the permissions of a path outside the mount.
pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the path is ours");
}
