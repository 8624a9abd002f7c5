//! The files in `.status`.

pub(in crate::fs) mod health;
pub(in crate::fs) mod last_error;
pub(in crate::fs) mod operations;
pub(in crate::fs) mod rekey;
pub(in crate::fs) mod requests;

use std::fmt::Write;

use crate::model::Caller;

use crate::fs::Fs;

/// One file in `.status`. The numbers are in node ids, which the kernel keeps when another version serves the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fs) enum StatusFile {
    Whoami = 0,
    Health = 1,
    IsSecure = 2,
    LastError = 3,
    Version = 4,
    Metrics = 5,
    Rekey = 6,
    ImportDir = 7,
    Recipient = 8,
}

impl StatusFile {
    pub(in crate::fs) const ALL: [Self; 9] = [
        Self::Health,
        Self::ImportDir,
        Self::IsSecure,
        Self::LastError,
        Self::Metrics,
        Self::Recipient,
        Self::Rekey,
        Self::Version,
        Self::Whoami,
    ];

    pub(in crate::fs) fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Whoami => "whoami",
            Self::IsSecure => "is-secure",
            Self::LastError => "last-error",
            Self::Version => "version",
            Self::Metrics => "metrics",
            Self::Rekey => "rekey",
            Self::ImportDir => "import-dir",
            Self::Recipient => "recipient",
        }
    }

    pub(in crate::fs) fn mode(self) -> u16 {
        match self {
            Self::Rekey => 0o600,
            _ => 0o444,
        }
    }

    pub(in crate::fs) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.name() == name)
    }
}

impl Fs {
    /// What a status file says to this caller at this moment.
    pub(in crate::fs) fn status_text(&self, file: StatusFile, caller: &Caller) -> String {
        match file {
            StatusFile::Whoami => whoami(caller),
            StatusFile::LastError => self.failures.of(caller.uid()),
            StatusFile::Version => concat!(env!("CARGO_PKG_VERSION"), "\n").to_owned(),
            StatusFile::IsSecure => self.is_secure_text(),
            StatusFile::Health => self.health_text(),
            StatusFile::Metrics => self.metrics_text(caller),
            StatusFile::Rekey if caller.is_admin() => self.rekey_text(),
            StatusFile::Rekey => String::new(),
            StatusFile::ImportDir => self.import_dir_text(caller),
            StatusFile::Recipient => format!("{}\n", self.vault.keyring().recipient()),
        }
    }
}

/// YAML with exactly three fields.
fn whoami(caller: &Caller) -> String {
    let mut text = match caller.own_slug() {
        Some(slug) => format!("slug: {slug}\n"),
        None => "slug: null\n".to_owned(),
    };
    text.push_str("slugs:\n");
    for slug in caller.slugs() {
        // `uid:7` needs no quotes in YAML: the colon is not followed by a space.
        writeln!(text, "- {slug}").expect("a string takes all");
    }
    writeln!(text, "admin: {}", caller.is_admin()).expect("a string takes all");
    text
}
