//! Our own daemon: the release binary, as a user starts it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::mounted::{Mounted, Output, make_point};
use super::{Counts, DIRECTORY, Subject};
use crate::client::USER;

const PROGRAM: &str = env!("CARGO_BIN_EXE_secretfs");
const KEY: &str = "8f1d3c5b7a99e0f2143658daecb1073f5e6a7b8c9d0e1f2031425364758697a8";
const COUNTER: &str = "secretfs_fuse_requests_total{opcode=\"";

/// The daemon and its state.
pub(crate) struct Secretfs {
    name: &'static str,
    program: PathBuf,
    arguments: &'static [&'static str],
    directory: PathBuf,
    point: PathBuf,
    mounted: Option<Mounted>,
}

impl Secretfs {
    /// As users have it.
    pub(super) fn start(directory: &Path) -> io::Result<Self> {
        Self::start_with(directory, "secretfs", PROGRAM.as_ref(), &[])
    }

    /// Another build.
    pub(super) fn start_other(directory: &Path, program: &Path) -> io::Result<Self> {
        Self::start_with(directory, "other", program, &[])
    }

    /// Without the audit log, which tells what that costs.
    pub(super) fn start_unaudited(directory: &Path) -> io::Result<Self> {
        Self::start_with(directory, "unaudited", PROGRAM.as_ref(), &["--audit=off"])
    }

    fn start_with(
        directory: &Path,
        name: &'static str,
        program: &Path,
        arguments: &'static [&'static str],
    ) -> io::Result<Self> {
        let point = make_point(directory, name)?;
        let identities = format!("identities: [{{slug: {DIRECTORY}, uid: {USER}}}]\n");
        fs::write(directory.join("identities.yaml"), identities)?;
        fs::DirBuilder::new().mode(0o700).create(point.with_extension("state"))?;
        let (program, directory) = (program.to_owned(), directory.to_owned());
        let mut subject = Self { name, program, arguments, directory, point, mounted: None };
        subject.mount()?;
        Ok(subject)
    }

    fn mount(&mut self) -> io::Result<()> {
        let mut command = Command::new(&self.program);
        command.arg("mount").arg(&self.point);
        command.arg("--state-dir").arg(self.point.with_extension("state"));
        command.args(self.arguments);
        command.arg("--identities").arg(self.directory.join("identities.yaml"));
        command.env("OB_ENCRYPTION_KEY", KEY);
        self.mounted = Some(Mounted::start(command, &self.point, Output::Logged, "mounted at")?);
        Ok(())
    }
}

/// With one read: how many a reader needs depends on how many digits the numbers have.
fn counts(point: &Path) -> io::Result<Counts> {
    let mut metrics = vec![0; 1 << 20];
    let length = fs::File::open(point.join(".status/metrics"))?.read_at(&mut metrics, 0)?;
    let metrics = String::from_utf8_lossy(&metrics[..length]);
    let count = |line: &str| {
        let (opcode, count) = line.strip_prefix(COUNTER)?.split_once("\"}")?;
        Some((opcode.to_owned(), count.trim().parse().ok()?))
    };
    Ok(metrics.lines().filter_map(count).collect())
}

impl Subject for Secretfs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn point(&self) -> &Path {
        &self.point
    }

    fn remount(&mut self) -> io::Result<()> {
        // The state can be used by one at a time.
        self.mounted = None;
        self.mount()
    }

    fn requests(&mut self) -> io::Result<Option<Counts>> {
        counts(&self.point).map(Some)
    }

    fn drop_box(&self) -> Option<PathBuf> {
        Some(self.point.join(".import"))
    }
}
