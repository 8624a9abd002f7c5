//! Settings: flags, then the configuration file, then defaults; resolved once.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::audit;
use crate::cluster::{ClusterAddress, Credentials};
use crate::fs::MemoryLimits;
use crate::identity::Trust;
use crate::vault::Limits;

use super::error::DaemonError;
use super::existing;
use super::host::selinux::{Label, Labels};
use super::size::Size;

const DEFAULT_MOUNTPOINT: &str = "/secrets";
const DEFAULT_CONFIG: &str = "/etc/secretfs/config.yaml";
const DEFAULT_IDENTITIES: &str = "/etc/secretfs/identities.yaml";
const ROOT_STATE_DIR: &str = "/var/lib/secretfs";
/// Requests are short, so a few threads serve many callers; more than two, because a look-up in a
/// slow name service holds one up.
const DEFAULT_THREADS: usize = 4;
const MAX_THREADS: usize = 64;

const DEFAULT_CRASH_LIMIT: usize = 10;

/// What `secretfs mount` takes. Every setting can also stand in the configuration file, under the
/// name of its flag.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct MountSettings {
    /// Where to mount [default: /secrets]
    pub mountpoint: Option<PathBuf>,

    /// Directory of the store, mode 0700 [default: /var/lib/secretfs as root, $XDG_STATE_HOME/secretfs otherwise]
    #[arg(long, value_name = "DIR", env = "SECRETFS_STATE_DIR", hide_env_values = true)]
    pub state_dir: Option<PathBuf>,

    /// Configuration file [default: /etc/secretfs/config.yaml if it exists]
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Who a UID is [default: /etc/secretfs/identities.yaml if it exists]
    #[arg(long, value_name = "FILE")]
    pub identities: Option<PathBuf>,

    /// File with the encryption key; it goes before OB_ENCRYPTION_KEY [default: /etc/secretfs/encryption-key as root,
    /// $XDG_CONFIG_HOME/secretfs/encryption-key otherwise; the first mount makes it]
    #[arg(long, value_name = "FILE")]
    pub encryption_key_file: Option<PathBuf>,

    /// File with older encryption keys, one on each line; they open what they sealed
    #[arg(long, value_name = "FILE")]
    pub previous_encryption_key_file: Option<PathBuf>,

    /// Directory whose YAML files are applied at the start and whenever they change, with the rights of
    /// the UID that owns each
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub import_dir: Option<PathBuf>,

    /// Store that many hosts share; the state directory holds this host's replica of it
    #[arg(long, value_name = "etcd://HOST[:PORT][,HOST...]/PREFIX")]
    pub store: Option<String>,

    /// Make the store that --store names if there is none at its prefix
    #[arg(long)]
    pub create_store: bool,

    /// Certificates of those that sign etcd's, PEM; the connection is TLS then
    #[arg(long, value_name = "FILE")]
    pub etcd_ca: Option<PathBuf>,

    /// This host's certificate for etcd, PEM
    #[arg(long, value_name = "FILE")]
    pub etcd_cert: Option<PathBuf>,

    /// The key of --etcd-cert, PEM
    #[arg(long, value_name = "FILE")]
    pub etcd_key: Option<PathBuf>,

    /// User to etcd
    #[arg(long, value_name = "NAME")]
    pub etcd_user: Option<String>,

    /// File with the password of --etcd-user
    #[arg(long, value_name = "FILE")]
    pub etcd_password_file: Option<PathBuf>,

    /// User as whom the server runs [default: secretfs if there is one and root mounts, else whoever mounts]
    #[arg(long, value_name = "USER", value_hint = clap::ValueHint::Username)]
    pub user: Option<String>,

    /// Refuse to start if the kernel cannot confine the server (Landlock, seccomp). Without this the
    /// log and `.status/health` tell what is missing
    #[arg(long)]
    pub require_sandbox: bool,

    /// Keep all memory of the daemon out of swap, or refuse to start. Without this it is tried where
    /// there is swap space that is not encrypted
    #[arg(long)]
    pub mlock_all: bool,

    /// Show the sidecars (KEY.acl) in listings
    #[arg(long)]
    pub list_acl: bool,

    /// SELinux label of all files (mount(8), context=)
    #[arg(long, value_name = "LABEL")]
    pub context: Option<Label>,

    /// SELinux label of the filesystem
    #[arg(long, value_name = "LABEL")]
    pub fscontext: Option<Label>,

    /// SELinux label of files that have none
    #[arg(long, value_name = "LABEL")]
    pub defcontext: Option<Label>,

    /// SELinux label of the root directory
    #[arg(long, value_name = "LABEL")]
    pub rootcontext: Option<Label>,

    /// Return once it is mounted, and serve in the background
    #[arg(long)]
    #[serde(skip)]
    pub background: bool,

    /// Say whether the configuration, the identities and the keys are valid, and exit. Nothing is mounted or
    /// changed, and a service that runs does not notice
    #[arg(long, conflicts_with = "background")]
    #[serde(skip)]
    pub check: bool,

    /// Threads that serve requests [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_THREADS as i64))]
    pub threads: Option<u16>,

    /// What happens to an operation that cannot be put on the audit log: `required` fails it, `best-effort` counts it, `off` keeps no log [default: required]
    #[arg(long, value_name = "MODE")]
    pub audit: Option<AuditMode>,

    /// Copy each line of the audit log there; what it does not take in time is dropped and counted
    #[arg(long, value_name = "WHERE")]
    pub audit_copy: Option<AuditCopy>,

    /// Decisions that equal one of the last second: `counted` in one line, or `each` in a line of its own [default: counted]
    #[arg(long, value_name = "HOW")]
    pub audit_repeats: Option<AuditRepeats>,

    /// Size of a file of the audit log, in MiB, after which the next one begins [default: 256]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    pub audit_file_size: Option<u32>,

    /// How many files of the audit log are kept; 0 keeps all [default: 40]
    #[arg(long, value_name = "N")]
    pub audit_keep: Option<u32>,

    /// How many secrets there may be below one first component of a key; more are EDQUOT, except for
    /// admins [default: 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub secrets_per_slug: Option<u64>,

    /// How many bytes they may take together, with their lists (such as 64M); more are EDQUOT, except for
    /// admins [default: 64M]
    #[arg(long, value_name = "SIZE")]
    pub bytes_per_slug: Option<Size>,

    /// How much memory of the server one user may hold (such as 128M): open files, files being written,
    /// reports. Users without a name share one such limit [default: 128M]
    #[arg(long, value_name = "SIZE")]
    pub memory_per_user: Option<Size>,

    /// How much memory of the server all users together may hold; the limit of the process must be higher
    /// [default: 384M]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,

    /// Give up after the server died more often than this within a minute [default: 10]
    #[arg(long, value_name = "N")]
    pub crash_limit: Option<u16>,

    /// How much to log [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
}

/// How much to log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what is about to.
    Warn,
    /// And what happens.
    #[default]
    Info,
    /// And how.
    Debug,
}

/// What happens to an operation that cannot be put on the audit log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditMode {
    /// It fails.
    #[default]
    Required,
    /// It goes on; the missing line is counted.
    BestEffort,
    /// There is no log.
    Off,
}

/// What becomes of decisions that equal one of the last second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditRepeats {
    /// They are counted, and one line tells how many.
    #[default]
    Counted,
    /// Each has a line of its own.
    Each,
}

/// Where each line of the audit log also goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditCopy {
    /// The systemd journal.
    Journald,
    /// `/dev/log`.
    Syslog,
}

/// The settings that hold.
pub(super) struct Resolved {
    pub(super) mountpoint: PathBuf,
    pub(super) state_dir: PathBuf,
    pub(super) identities: Option<PathBuf>,
    pub(super) encryption_key_file: Option<PathBuf>,
    pub(super) previous_encryption_key_file: Option<PathBuf>,
    pub(super) import_dir: Option<PathBuf>,
    pub(super) store: Option<Shared>,
    pub(super) user: Option<String>,
    pub(super) require_sandbox: bool,
    pub(super) mlock_all: bool,
    pub(super) list_acl: bool,
    pub(super) labels: Labels,
    pub(super) audit: audit::Options,
    pub(super) limits: Limits,
    pub(super) memory: MemoryLimits,
    pub(super) threads: usize,
    pub(super) crash_limit: usize,
    pub(super) log_level: LogLevel,
}

/// The store that many hosts share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) address: ClusterAddress,
    pub(super) credentials: Credentials,
    pub(super) create: bool,
}

impl Resolved {
    pub(super) fn from(flags: MountSettings) -> Result<Self, DaemonError> {
        let file = match (&flags.config, existing(DEFAULT_CONFIG)) {
            (Some(named), _) => read_config(named)?,
            (None, Some(usual)) if nix::unistd::geteuid().is_root() => read_config(&usual)?,
            (None, Some(usual)) => without_places(read_config(&usual)?),
            (None, None) => MountSettings::default(),
        };
        let state_dir = match flags.state_dir.clone().or(file.state_dir.clone()) {
            Some(directory) => directory,
            None => default_state_dir()?,
        };
        Ok(Self {
            audit: audit_options(&flags, &file, &state_dir),
            labels: Labels::of(&flags, &file),
            memory: memory_limits(&flags, &file),
            store: Shared::from(&flags, &file)?,
            limits: limits(&flags, &file),
            mountpoint: flags
                .mountpoint
                .or(file.mountpoint)
                .unwrap_or_else(|| DEFAULT_MOUNTPOINT.into()),
            state_dir,
            identities: flags
                .identities
                .or(file.identities)
                .or_else(|| existing(DEFAULT_IDENTITIES)),
            encryption_key_file: flags.encryption_key_file.or(file.encryption_key_file),
            previous_encryption_key_file: flags
                .previous_encryption_key_file
                .or(file.previous_encryption_key_file),
            import_dir: flags.import_dir.or(file.import_dir),
            user: flags.user.or(file.user),
            require_sandbox: flags.require_sandbox || file.require_sandbox,
            mlock_all: flags.mlock_all || file.mlock_all,
            list_acl: flags.list_acl || file.list_acl,
            threads: flags
                .threads
                .or(file.threads)
                .map_or(DEFAULT_THREADS, |threads| usize::from(threads).clamp(1, MAX_THREADS)),
            crash_limit: flags
                .crash_limit
                .or(file.crash_limit)
                .map_or(DEFAULT_CRASH_LIMIT, usize::from),
            log_level: flags.log_level.or(file.log_level).unwrap_or_default(),
        })
    }

    /// The files with which this host authenticates to etcd, and verifies etcd.
    pub(super) fn credential_files(&self) -> impl Iterator<Item = &Path> {
        self.store.iter().flat_map(|shared| shared.credentials.files())
    }

    /// As [`Resolved::to_flags_for`], in whatever directory they are used.
    pub(super) fn into_absolute_flags(mut self) -> io::Result<Vec<OsString>> {
        let credentials = self.store.as_mut().map(|shared| &mut shared.credentials);
        let credentials = credentials
            .into_iter()
            .flat_map(|it| [&mut it.authority, &mut it.certificate, &mut it.key, &mut it.password]);
        let files = [
            &mut self.identities,
            &mut self.encryption_key_file,
            &mut self.previous_encryption_key_file,
            &mut self.import_dir,
        ];
        let files = files.into_iter().chain(credentials).flatten();
        for path in [&mut self.mountpoint, &mut self.state_dir].into_iter().chain(files) {
            *path = std::path::absolute(&*path)?;
        }
        Ok(self.to_flags_for(&self.mountpoint))
    }

    /// The command line that comes to the same settings, whatever the configuration file says, for a
    /// mountpoint of this name.
    pub(super) fn to_flags_for(&self, mountpoint: &Path) -> Vec<OsString> {
        // A file with a mistake in it must not keep a server from taking over.
        let no_file = ["--config".into(), "/dev/null".into()];
        let mut flags: Vec<OsString> = vec![mountpoint.into()];
        flags.extend(no_file);
        let files = [
            ("--state-dir", Some(&self.state_dir)),
            ("--identities", self.identities.as_ref()),
            ("--import-dir", self.import_dir.as_ref()),
            ("--encryption-key-file", self.encryption_key_file.as_ref()),
            ("--previous-encryption-key-file", self.previous_encryption_key_file.as_ref()),
        ];
        for (flag, path) in files {
            flags.extend(path.into_iter().flat_map(|path| [flag.into(), path.clone().into()]));
        }
        flags.extend(self.store.iter().flat_map(Shared::to_flags));
        flags.extend(self.user.iter().flat_map(|user| ["--user".into(), user.into()]));
        flags.extend(self.require_sandbox.then(|| "--require-sandbox".into()));
        flags.extend(self.mlock_all.then(|| "--mlock-all".into()));
        flags.extend(self.list_acl.then(|| "--list-acl".into()));
        flags.extend(self.labels.to_flags());
        flags.extend(audit_flags(&self.audit));
        flags.extend(["--secrets-per-slug".into(), self.limits.secrets.to_string().into()]);
        flags.extend(["--bytes-per-slug".into(), self.limits.bytes.to_string().into()]);
        flags.extend(["--memory-per-user".into(), self.memory.per_user.to_string().into()]);
        flags.extend(["--memory".into(), self.memory.total.to_string().into()]);
        flags.extend(["--threads".into(), self.threads.to_string().into()]);
        flags.extend(["--crash-limit".into(), self.crash_limit.to_string().into()]);
        let level = self.log_level.to_possible_value().expect("no level is hidden");
        flags.extend(["--log-level".into(), level.get_name().into()]);
        flags
    }
}

impl Shared {
    fn from(flags: &MountSettings, file: &MountSettings) -> Result<Option<Self>, DaemonError> {
        let path =
            |of: fn(&MountSettings) -> &Option<PathBuf>| of(flags).clone().or(of(file).clone());
        let Some(address) = flags.store.as_ref().or(file.store.as_ref()) else { return Ok(None) };
        let credentials = Credentials {
            authority: path(|it| &it.etcd_ca),
            certificate: path(|it| &it.etcd_cert),
            key: path(|it| &it.etcd_key),
            user: flags.etcd_user.clone().or(file.etcd_user.clone()),
            password: path(|it| &it.etcd_password_file),
        };
        let address = ClusterAddress::parse(address)?;
        Ok(Some(Self { address, credentials, create: flags.create_store || file.create_store }))
    }

    fn to_flags(&self) -> Vec<OsString> {
        let Credentials { authority, certificate, key, user, password } = &self.credentials;
        let mut flags: Vec<OsString> = vec!["--store".into(), self.address.to_string().into()];
        flags.extend(self.create.then(|| "--create-store".into()));
        flags.extend(user.iter().flat_map(|user| ["--etcd-user".into(), user.into()]));
        for (flag, path) in [
            ("--etcd-ca", authority),
            ("--etcd-cert", certificate),
            ("--etcd-key", key),
            ("--etcd-password-file", password),
        ] {
            flags.extend(path.iter().flat_map(|path| [flag.into(), path.into()]));
        }
        flags
    }
}

fn limits(flags: &MountSettings, file: &MountSettings) -> Limits {
    let usual = Limits::default();
    let bytes = flags.bytes_per_slug.or(file.bytes_per_slug);
    Limits {
        secrets: flags.secrets_per_slug.or(file.secrets_per_slug).unwrap_or(usual.secrets),
        bytes: bytes.map_or(usual.bytes, Size::bytes),
    }
}

fn memory_limits(flags: &MountSettings, file: &MountSettings) -> MemoryLimits {
    let usual = MemoryLimits::default();
    let bytes = |size: Option<Size>, usual| {
        size.map_or(usual, |size| usize::try_from(size.bytes()).unwrap_or(usize::MAX))
    };
    MemoryLimits {
        per_user: bytes(flags.memory_per_user.or(file.memory_per_user), usual.per_user),
        total: bytes(flags.memory.or(file.memory), usual.total),
    }
}

fn audit_options(flags: &MountSettings, file: &MountSettings, state_dir: &Path) -> audit::Options {
    let size =
        flags.audit_file_size.or(file.audit_file_size).map(|mib| u64::from(mib.max(1)) << 20);
    let copy = flags.audit_copy.or(file.audit_copy).map(|copy| match copy {
        AuditCopy::Journald => audit::CopyTarget::Journald,
        AuditCopy::Syslog => audit::CopyTarget::Syslog,
    });
    audit::Options {
        mode: match flags.audit.or(file.audit).unwrap_or_default() {
            AuditMode::Required => audit::Mode::Required,
            AuditMode::BestEffort => audit::Mode::BestEffort,
            AuditMode::Off => audit::Mode::Off,
        },
        directory: audit::directory_in(state_dir),
        file_bytes: size.unwrap_or(audit::DEFAULT_FILE_BYTES),
        keep_files: flags
            .audit_keep
            .or(file.audit_keep)
            .map_or(audit::DEFAULT_KEEP_FILES, u64::from),
        copy,
        copy_socket: None,
        repeats: match flags.audit_repeats.or(file.audit_repeats).unwrap_or_default() {
            AuditRepeats::Counted => audit::Repeats::Counted,
            AuditRepeats::Each => audit::Repeats::Each,
        },
        counts: None,
        revision: audit::Revision::default(),
    }
}

/// The flags that come to these options.
fn audit_flags(options: &audit::Options) -> Vec<OsString> {
    let mode = match options.mode {
        audit::Mode::Required => "required",
        audit::Mode::BestEffort => "best-effort",
        audit::Mode::Off => "off",
    };
    let mut flags: Vec<OsString> = vec!["--audit".into(), mode.into()];
    if let Some(copy) = options.copy {
        let copy = match copy {
            audit::CopyTarget::Journald => "journald",
            audit::CopyTarget::Syslog => "syslog",
        };
        flags.extend(["--audit-copy".into(), copy.into()]);
    }
    if options.repeats == audit::Repeats::Each {
        flags.extend(["--audit-repeats".into(), "each".into()]);
    }
    let numbers =
        [("--audit-file-size", options.file_bytes >> 20), ("--audit-keep", options.keep_files)];
    for (flag, number) in numbers {
        flags.extend([flag.into(), number.to_string().into()]);
    }
    flags
}

fn read_config(path: &Path) -> Result<MountSettings, DaemonError> {
    let read = Trust::in_this_user().open(path).and_then(std::io::read_to_string);
    let text = read.map_err(|source| DaemonError::Unreadable { path: path.to_owned(), source })?;
    if text.trim().is_empty() {
        return Ok(MountSettings::default());
    }
    serde_yaml::from_str(&text)
        .map_err(|error| DaemonError::Config { path: path.to_owned(), what: error.to_string() })
}

fn default_state_dir() -> Result<PathBuf, DaemonError> {
    if nix::unistd::geteuid().is_root() {
        return Ok(ROOT_STATE_DIR.into());
    }
    home_directory("XDG_STATE_HOME", ".local/state")
        .map(|state| state.join("secretfs"))
        .ok_or(DaemonError::NoStateDir)
}

/// The directory that the variable names, else this one in the home directory. A relative path in a variable is
/// ignored, as the XDG specification requires.
pub(super) fn home_directory(variable: &str, otherwise: &str) -> Option<PathBuf> {
    let named = |name| {
        std::env::var_os(name).map(PathBuf::from).filter(|directory| directory.is_absolute())
    };
    named(variable).or_else(|| named("HOME").map(|home| home.join(otherwise)))
}

/// The usual configuration file is that of the system. To the mount of another user than root it says nothing about
/// places, keys, accounts and SELinux: those are root's.
fn without_places(file: MountSettings) -> MountSettings {
    MountSettings {
        mountpoint: None,
        state_dir: None,
        encryption_key_file: None,
        previous_encryption_key_file: None,
        import_dir: None,
        store: None,
        user: None,
        context: None,
        fscontext: None,
        defcontext: None,
        rootcontext: None,
        ..file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_before_the_file_and_the_file_before_defaults() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.yaml");
        std::fs::write(
            &config,
            "mountpoint: /a\nstate-dir: /b\nlist-acl: true\nlog-level: warn\n\
             memory: 50M\nmemory-per-user: 7M\n",
        )
        .unwrap();
        let flags = MountSettings {
            config: Some(config),
            state_dir: Some("/c".into()),
            memory: Some("99M".parse().unwrap()),
            ..MountSettings::default()
        };
        let resolved = Resolved::from(flags).unwrap();
        assert_eq!(resolved.mountpoint, Path::new("/a"));
        assert_eq!(resolved.state_dir, Path::new("/c"));
        assert!(resolved.list_acl);
        assert_eq!(resolved.log_level, LogLevel::Warn);
        assert_eq!(resolved.threads, DEFAULT_THREADS);
        assert_eq!(resolved.memory, MemoryLimits { per_user: 7 << 20, total: 99 << 20 });
        let flags = resolved.to_flags_for(&resolved.mountpoint);
        let total = flags.iter().position(|flag| flag == "--memory").unwrap();
        assert_eq!(flags[total + 1], (99 << 20).to_string().as_str());
    }

    #[test]
    fn a_bad_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.yaml");
        std::fs::write(&config, "mountpoint: /a\nmuontpoint: /b\n").unwrap();
        let flags = MountSettings { config: Some(config), ..MountSettings::default() };
        let error = Resolved::from(flags).err().unwrap();
        assert!(error.is_bad_input() && error.to_string().contains("muontpoint"), "{error}");
    }
}
