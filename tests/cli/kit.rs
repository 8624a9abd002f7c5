//! A mount and people in front of it: `cli.run(ALICE, "secretfs save K v").is(0, "", "Saved …")`.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{Mount, Person, set_mode};

/// Longer than any command of a mount that works, in seconds.
const PATIENCE: &str = "60";

/// A running mount, the two programs where every user finds them, and a directory for each person.
pub(crate) struct Cli {
    pub(crate) mount: Mount,
}

/// What a command wrote and how it ended. The paths of the test's own directories, ids and times are
/// replaced by what is the same every time: `/secrets`, `/home`, `secr_…` and `TIME`.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    command: String,
}

impl Cli {
    /// A running mount; `None` where mounting is impossible.
    pub(crate) fn start() -> Option<Self> {
        Self::prepare().map(|mut cli| {
            cli.mount.go();
            cli
        })
    }

    /// As [`Cli::start`], without a daemon.
    pub(crate) fn prepare() -> Option<Self> {
        let cli = Self { mount: Mount::prepare()? };
        fs::create_dir(cli.programs()).expect("the directory is ours");
        set_mode(&cli.programs(), 0o755);
        for program in [env!("CARGO_BIN_EXE_secretfs"), env!("CARGO_BIN_EXE_oo")] {
            // The build directory may be closed to others. By another process, because a descriptor
            // that is open for writing here could be inherited, and then the copy cannot be run.
            let copy = |option: &str| {
                Command::new("cp").args([option, program]).arg(cli.programs()).output()
            };
            let linked = copy("-l").is_ok_and(|output| output.status.success());
            assert!(linked || copy("-f").is_ok_and(|output| output.status.success()), "{program}");
        }
        Some(cli)
    }

    /// Runs a line of bash as this person, in the person's own directory.
    pub(crate) fn run(&self, person: Person, line: &str) -> Outcome {
        self.run_with(person, line, b"")
    }

    /// As [`Cli::run`], with something on standard input.
    pub(crate) fn run_with(&self, person: Person, line: &str, input: &[u8]) -> Outcome {
        let mut command = self.command(person, "timeout");
        command.args(["--kill-after=1", PATIENCE, "bash", "-c", line]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("bash is there");
        // Whoever does not read it does not need it.
        _ = process.stdin.take().expect("it is a pipe").write_all(input);
        let output = process.wait_with_output().expect("it is our child");
        Outcome {
            code: output.status.code(),
            stdout: self.same_every_time(&output.stdout),
            stderr: self.same_every_time(&output.stderr),
            command: format!("{}: {line}", person.name),
        }
    }

    /// A program as this person, in the person's own directory and a plain environment.
    pub(crate) fn command(&self, person: Person, program: &str) -> Command {
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.programs().display());
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs([("PATH", path.as_str()), ("LC_ALL", "C.UTF-8")])
            .env("SECRETFS_MOUNT", self.mount.point())
            .env("HOME", self.home(person))
            .current_dir(self.home(person))
            .uid(person.uid)
            .gid(person.uid);
        command
    }

    /// The person's own directory.
    pub(crate) fn home(&self, person: Person) -> PathBuf {
        // As homes are: what lies there is not for others to replace.
        let home = self.mount.roots().join(person.name);
        if !home.is_dir() {
            fs::create_dir(&home).expect("the directory is ours");
            std::os::unix::fs::chown(&home, Some(person.uid), Some(person.uid)).expect("as root");
        }
        home
    }

    /// Puts a file into the person's directory.
    pub(crate) fn file(&self, person: Person, name: &str, content: impl AsRef<[u8]>) {
        let path = self.home(person).join(name);
        fs::create_dir_all(path.parent().expect("it has a directory"))
            .expect("the directory is ours");
        fs::write(&path, content).expect("the directory is ours");
    }

    /// Text without what differs from run to run.
    pub(crate) fn same_every_time(&self, output: &[u8]) -> String {
        let replace = |text: String, path: &Path, by: &str| {
            text.replace(path.to_str().expect("the tests' paths are UTF-8"), by)
        };
        let text = String::from_utf8_lossy(output).into_owned();
        let text = replace(text, &self.mount.point(), "/secrets");
        let text = replace(text, &self.mount.roots(), "/home");
        let text = replace(text, &self.mount.state(), "/state");
        replace_words(&text)
    }

    fn programs(&self) -> PathBuf {
        self.mount.state().with_file_name("bin")
    }
}

impl Outcome {
    /// Asserts all three at once.
    #[track_caller]
    pub(crate) fn is(&self, code: i32, stdout: &str, stderr: &str) {
        let expected = (Some(code), stdout, stderr);
        let found = (self.code, self.stdout.as_str(), self.stderr.as_str());
        assert_eq!(found, expected, "`{}`", self.command);
    }

    /// Asserts that it did what was asked for, in silence or not.
    #[track_caller]
    pub(crate) fn done(&self) -> &str {
        assert_eq!(self.code, Some(0), "`{}` said: {}", self.command, self.stderr);
        &self.stdout
    }
}

/// Ids that the store gives and times.
fn replace_words(text: &str) -> String {
    let mut rest = text;
    let mut replaced = String::with_capacity(text.len());
    while let Some(character) = rest.chars().next() {
        let (length, by) = match rest.as_bytes() {
            [b's', b'e', b'c', b'r', b'_', id @ ..] if is_id(id) => (15, "secr_…"),
            bytes if is_time(bytes) => (20, "TIME"),
            _ => (character.len_utf8(), &rest[..character.len_utf8()]),
        };
        replaced.push_str(by);
        rest = &rest[length..];
    }
    replaced
}

/// 10 letters and digits, and then something else.
fn is_id(text: &[u8]) -> bool {
    text.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count() == 10
}

/// `2026-11-24T03:52:00Z`
fn is_time(text: &[u8]) -> bool {
    const FORM: &[u8] = b"0000-00-00T00:00:00Z";
    text.len() >= FORM.len()
        && text.iter().zip(FORM).all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            _ => byte == form,
        })
}

#[test]
fn what_differs_is_replaced() {
    let text = "a secr_eG8IvKwB0A 2026-11-24T03:52:00Z, secr_prod_api_001 é";
    assert_eq!(replace_words(text), "a secr_… TIME, secr_prod_api_001 é");
}
