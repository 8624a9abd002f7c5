//! gocryptfs and encfs, with their own default settings but for a cheaper password hash, which is
//! computed at the mount alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Subject;
use super::mounted::{Mounted, Output, is_installed, make_directory, make_point};

const PASSWORD: &str = "a password that guards nothing\n";

/// What the two have in common: ciphertext in a directory, and a program that shows it in the clear.
struct Encrypted {
    program: &'static str,
    directory: PathBuf,
    point: PathBuf,
    mounted: Option<Mounted>,
}

impl Encrypted {
    fn prepare(program: &'static str, directory: &Path) -> io::Result<Self> {
        let point = make_point(directory, program)?;
        fs::write(directory.join("password"), PASSWORD)?;
        let encrypted = Self { program, directory: directory.to_owned(), point, mounted: None };
        fs::create_dir(encrypted.cipher())?;
        Ok(encrypted)
    }

    fn cipher(&self) -> PathBuf {
        self.directory.join(format!("{}.cipher", self.program))
    }

    fn password(&self) -> PathBuf {
        self.directory.join("password")
    }

    fn mount(&mut self, arguments: &[&str], ready: &str) -> io::Result<()> {
        self.mounted = None;
        let mut command = Command::new(self.program);
        command.args(arguments).arg(self.cipher()).arg(&self.point);
        command.stdin(fs::File::open(self.password())?);
        self.mounted = Some(Mounted::start(command, &self.point, Output::Logged, ready)?);
        Ok(())
    }
}

/// gocryptfs.
pub(crate) struct Gocryptfs(Encrypted);

impl Gocryptfs {
    pub(super) fn start(directory: &Path) -> io::Result<Option<Self>> {
        if !is_installed("gocryptfs") {
            return Ok(None);
        }
        let encrypted = Encrypted::prepare("gocryptfs", directory)?;
        let made = Command::new("gocryptfs")
            .args(["-init", "-q", "-scryptn", "10", "-passfile"])
            .arg(encrypted.password())
            .arg(encrypted.cipher())
            .stdout(Stdio::null())
            .status()?;
        if !made.success() {
            return Err(io::Error::other(format!("gocryptfs -init: {made}")));
        }
        let mut subject = Self(encrypted);
        subject.remount()?;
        make_directory(&subject.0.point)?;
        Ok(Some(subject))
    }
}

impl Subject for Gocryptfs {
    fn name(&self) -> &'static str {
        "gocryptfs"
    }

    fn point(&self) -> &Path {
        &self.0.point
    }

    fn remount(&mut self) -> io::Result<()> {
        let password = self.0.password();
        let password = password.to_str().ok_or_else(|| io::Error::other("a directory's name"))?;
        let arguments = ["-fg", "-nosyslog", "-allow_other", "-passfile", password];
        self.0.mount(&arguments, "Filesystem mounted and ready")
    }
}

/// encfs.
pub(crate) struct EncFs(Encrypted);

impl EncFs {
    pub(super) fn start(directory: &Path) -> io::Result<Option<Self>> {
        if !is_installed("encfs") {
            return Ok(None);
        }
        let mut subject = Self(Encrypted::prepare("encfs", directory)?);
        subject.remount()?;
        make_directory(&subject.0.point)?;
        Ok(Some(subject))
    }
}

impl Subject for EncFs {
    fn name(&self) -> &'static str {
        "encfs"
    }

    fn point(&self) -> &Path {
        &self.0.point
    }

    fn remount(&mut self) -> io::Result<()> {
        self.0.mount(&["-f", "--public", "--standard", "--stdinpass"], "")
    }
}
