//! Why a daemon does not start, or ends badly.

use std::io;
use std::path::PathBuf;

use crate::audit::NotRecorded;
use crate::cluster::ClusterError;
use crate::crypto::KeyTextError;
use crate::identity::IdentitiesError;
use crate::store::StoreError;
use crate::vault::{MigrateError, OpenVaultError, VaultError};

/// Why a daemon does not start, or ends badly.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration file is not one.
    #[error("{path}: {what}; correct the file")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        what: String,
    },
    /// A file that was named cannot be read.
    #[error("{path} cannot be used: {source}; name another file or change its owner or mode")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No place for the state.
    #[error("there is no home for the state directory; name one with --state-dir")]
    NoStateDir,
    /// The encryption key is not one.
    #[error("{from}: {source}")]
    Key {
        /// Where it came from.
        from: String,
        /// What is wrong with it.
        source: KeyTextError,
    },
    /// There is no store.
    #[error("there is no store in {0}; name the state directory of a service with --state-dir")]
    NoStore(PathBuf),
    /// Nothing says which key to seal with.
    #[error(
        "no encryption key is given to seal with; make one with `secretfs keygen`, and give it with --encryption-key-file or OB_ENCRYPTION_KEY"
    )]
    NoKey,
    /// Nothing says which key to use, and the store was made with one.
    #[error(
        "the store in {state_dir} needs the encryption key with the id {needed}; no key is configured, and {place}: put the key there, or give it with --encryption-key-file or OB_ENCRYPTION_KEY{hint}"
    )]
    NoKeyGiven {
        /// The state directory.
        state_dir: PathBuf,
        /// The ids of its keys.
        needed: String,
        /// Where the key would be if none is configured, and why it is not.
        place: String,
        /// Where the key may be.
        hint: String,
    },
    /// Nothing says which key to use, and there is no store that needs one.
    #[error(
        "no encryption key is configured, and {0} is not there; the first `secretfs mount` makes it, or give a key with --encryption-key-file or OB_ENCRYPTION_KEY"
    )]
    MissingKey(PathBuf),
    /// Nothing says which key to use, and there is no place for a new one.
    #[error(
        "no encryption key is configured, and there is no home directory for one; name a file with --encryption-key-file"
    )]
    NoKeyPlace,
    /// A new key would not be that of the other hosts.
    #[error(
        "no encryption key is configured, and all hosts of a shared store need the same one; put it into {0}, or name it with --encryption-key-file"
    )]
    NoSharedKey(PathBuf),
    /// The first mount cannot make a key.
    #[error(
        "no encryption key is configured, and {path} cannot be made: {source}; make a key elsewhere with `secretfs keygen`, and name it with --encryption-key-file"
    )]
    NewKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `/dev/fuse` cannot be opened.
    #[error("/dev/fuse cannot be used: {source}; {advice}")]
    NoDevice {
        /// Why.
        source: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// Rekeying did not start.
    #[error("{0}")]
    Rekey(Box<VaultError>),
    /// Secrets were not moved.
    #[error("{0}")]
    Migrate(Box<MigrateError>),
    /// Nothing says where to move secrets.
    #[error("no shared store is named; name one with --to or --from")]
    NoSharedStore,
    /// `--mlock-all` was asked for.
    #[error(
        "the memory cannot be kept out of swap: {0}; start it as root, raise its limit (LimitMEMLOCK=infinity), or leave --mlock-all out"
    )]
    MemoryLock(#[source] io::Error),
    /// The identities file is not one.
    #[error("{0}")]
    Identities(#[from] IdentitiesError),
    /// The store cannot be opened.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The store opens, but not with this key.
    #[error("{0}")]
    Vault(#[from] OpenVaultError),
    /// The start is not on the audit log, and must be.
    #[error("{0}")]
    Audit(#[from] NotRecorded),
    /// The store that many hosts share cannot be used.
    #[error("{0}")]
    Cluster(#[from] ClusterError),
    /// A new replica did not get everything.
    #[error(
        "not everything came from etcd in time; the log tells what is wrong with the connection"
    )]
    NotCurrent,
    /// Something is mounted there.
    #[error(
        "{0} is in use: secretfs is mounted there already; unmount it first with `secretfs unmount`, or choose another mountpoint"
    )]
    InUse(PathBuf),
    /// The mountpoint is no directory.
    #[error("{0} is not a directory; choose another mountpoint")]
    NotDirectory(PathBuf),
    /// The mountpoint cannot be used.
    #[error("{path} cannot be used as mountpoint: {source}; choose another or change its mode")]
    Mountpoint {
        /// The mountpoint.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory to import from cannot be used.
    #[error(
        "--import-dir {path}: {source}; name a directory that can be read and that only root and the user who mounts may change, or leave the option out"
    )]
    ImportDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refuses the mount.
    #[error(
        "mounting on {path} failed: {source}; a user other than root needs fusermount3 (install the package fuse3), and a container needs `--cap-add SYS_ADMIN`"
    )]
    Mount {
        /// The mountpoint.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refuses a mount with SELinux labels.
    #[error(
        "mounting on {path} failed: {source}; context=, fscontext=, defcontext= and rootcontext= need root and a kernel with SELinux whose policy has the label: correct them or leave them out"
    )]
    Labels {
        /// The mountpoint.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Unmounting failed.
    #[error("{path} was not unmounted: {source}")]
    Unmount {
        /// The mountpoint.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing is mounted there.
    #[error("{0} is not a mount of secretfs; name its mountpoint with --mount")]
    NotMounted(PathBuf),
    /// No supervisor listens that could upgrade or reload.
    #[error(
        "the supervisor of {path} cannot be asked ({source}); only root and the user who mounted it may ask, in the same mount namespace; SIGHUP to it reloads and upgrades as well"
    )]
    Unreachable {
        /// The mountpoint.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The new program does not serve.
    #[error("it was not upgraded, and the old program goes on serving: {why}")]
    Upgrade {
        /// What happened.
        why: String,
    },
    /// Files are not valid.
    #[error("what was refused stays as it was before: {}", .why.join("; "))]
    ReloadRefused {
        /// Which, and what is wrong with each.
        why: Vec<String>,
    },
    /// Files were not read, or not by the program that should have.
    #[error("not reloaded as it should be: {why}")]
    ReloadFailed {
        /// What happened.
        why: String,
    },
    /// The settings are refused, and those of before cannot be read.
    #[error("{given}; the settings of before cannot take their place: {before}")]
    NothingBefore {
        /// Why they are refused.
        given: Box<DaemonError>,
        /// Why those of before cannot be read.
        before: String,
    },
    /// The system refuses something that should always work.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The server does not start, and has said why.
    #[error("the server did not start; its own message stands above")]
    Refused {
        /// Its exit code.
        code: Option<u8>,
    },
    /// The server cannot become that user.
    #[error("the server cannot run as {name}: {why}; name another user with --user")]
    User {
        /// The user.
        name: String,
        /// Why not.
        why: String,
    },
    /// `--require-sandbox` was asked for.
    #[error("the server cannot be confined: {missing}; or leave --require-sandbox out")]
    Sandbox {
        /// What is missing.
        missing: String,
    },
    /// A server was started by something else than the supervisor of a mount.
    #[error("this is started by `secretfs mount` alone; run that instead")]
    NoHolder,
    /// Servers die as soon as they are started.
    #[error(
        "the server died {times} times within a minute; the mount was taken down so that nobody waits for it: look into the log for the reason, then mount again"
    )]
    GaveUp {
        /// How often.
        times: usize,
    },
    /// The daemon that was started in the background ended before it served.
    #[error("the daemon did not start; its own message stands above")]
    BackgroundFailed,
}

impl DaemonError {
    /// Whether the input is at fault, not the system.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Migrate(error) => error.is_bad_input(),
            Self::NothingBefore { given, .. } => given.is_bad_input(),
            Self::Config { .. }
            | Self::Key { .. }
            | Self::NoKey
            | Self::MissingKey(_)
            | Self::NoKeyPlace
            | Self::NoSharedKey(_)
            | Self::ReloadRefused { .. }
            | Self::Identities(_)
            | Self::Cluster(ClusterError::Address { .. }) => true,
            _ => false,
        }
    }
}
