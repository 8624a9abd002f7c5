//! The one map from errors to errno. Exhaustive on purpose: a new error must be given its number
//! here.

use fuser::Errno;

use crate::audit::{ErrorCode, NotRecorded};
use crate::cluster::ClusterError;
use crate::document::{DocumentErrors, ErrorKind};
use crate::fs::{FsError, NotApplied};
use crate::model::KeyError;
use crate::store::StoreError;
use crate::vault::{ReplicaError, VaultError};

/// Links, devices, FIFOs.
pub(super) const NOBODY_MAY: Errno = Errno::EPERM;
/// What makes no sense here: reading a link, exchanging two files.
pub(super) const INVALID: Errno = Errno::EINVAL;
/// The caller's buffer does not hold the attribute.
pub(super) const BUFFER_TOO_SMALL: Errno = Errno::ERANGE;
/// No ioctl is known.
pub(super) const NO_SUCH_CONTROL: Errno = Errno::ENOTTY;
/// Programs do without.
pub(super) const UNSUPPORTED: Errno = Errno::EOPNOTSUPP;
/// The kernel then does it by itself, and asks no more.
pub(super) const LEFT_TO_THE_KERNEL: Errno = Errno::ENOSYS;

/// The number that the caller sees, for the audit log.
pub fn code(error: &FsError) -> ErrorCode {
    code_of(errno(error))
}

/// As [`code`], where the vault itself writes the line.
pub fn vault_code(error: &VaultError) -> ErrorCode {
    code_of(of_vault(error))
}

fn code_of(errno: Errno) -> ErrorCode {
    let number = errno.code();
    let name = format!("{:?}", nix::errno::Errno::from_raw(number));
    let denied = [Errno::EACCES, Errno::EPERM].map(Errno::code).contains(&number);
    ErrorCode { number, name, denied }
}
/// This process may not mount.
pub(super) const MAY_NOT_MOUNT: i32 = libc::EPERM;
/// A failure that has no number.
pub(super) const FAILED: i32 = libc::EIO;
/// The kernel does not know what a message to it is about: a request it has an answer to, a node.
pub(super) const IS_UNKNOWN: i32 = libc::ENOENT;
/// The kernel does not know that kind of message.
pub(super) const NOT_SUPPORTED_BY_KERNEL: i32 = libc::EINVAL;

/// The number that the caller sees.
pub(super) fn errno(error: &FsError) -> Errno {
    match error {
        FsError::Vault(error) => of_vault(error),
        FsError::Denied { .. } | FsError::NoAccess { .. } => Errno::EACCES,
        FsError::NotFound(_) => Errno::ENOENT,
        FsError::Forbidden { .. } => Errno::EPERM,
        FsError::BadCommand { .. } => Errno::EINVAL,
        FsError::Exists(_) => Errno::EEXIST,
        FsError::NotDirectory(_) => Errno::ENOTDIR,
        FsError::IsDirectory(_) => Errno::EISDIR,
        FsError::NotEmpty(_) => Errno::ENOTEMPTY,
        FsError::BadName { error, .. } => of_name(*error),
        FsError::TooLarge(_) | FsError::DropTooLarge(_) => Errno::EFBIG,
        FsError::NotApplied { why, .. } => of_import(why),
        FsError::TooMany { .. } | FsError::OutOfMemory { .. } => Errno::EDQUOT,
        FsError::CrossDevice(_) => Errno::EXDEV,
        FsError::Busy(_) => Errno::EBUSY,
        FsError::NoAttribute => Errno::ENODATA,
        FsError::Unsupported(_) => Errno::EOPNOTSUPP,
        FsError::Stale => Errno::ESTALE,
        FsError::Locked => Errno::EAGAIN,
        FsError::Deadlock => Errno::EDEADLK,
        FsError::Interrupted => Errno::EINTR,
        // After a restart: the writer must learn that its buffer is lost.
        FsError::Lost | FsError::BadHandle | FsError::Fatal { .. } | FsError::Identity(_) => {
            Errno::EIO
        }
    }
}

fn of_import(why: &NotApplied) -> Errno {
    match why {
        NotApplied::Documents(errors) => of_documents(errors),
        NotApplied::Vault(error) => of_vault(error),
        NotApplied::Identity(_) => Errno::EIO,
    }
}

fn of_documents(errors: &DocumentErrors) -> Errno {
    match errors.kind() {
        ErrorKind::Invalid => Errno::EINVAL,
        ErrorKind::TooLarge => Errno::EFBIG,
    }
}

fn of_replica(error: &ReplicaError) -> Errno {
    match error {
        ReplicaError::Cluster(ClusterError::Unreachable { .. }) => Errno::ENETUNREACH,
        ReplicaError::Cluster(ClusterError::Full { .. })
        | ReplicaError::Store(StoreError::Full) => Errno::ENOSPC,
        ReplicaError::Cluster(ClusterError::TooLarge { .. }) => Errno::EFBIG,
        ReplicaError::Busy => Errno::EAGAIN,
        ReplicaError::Cluster(_)
        | ReplicaError::Store(_)
        | ReplicaError::NoStore
        | ReplicaError::Unfinished
        | ReplicaError::OtherStore
        | ReplicaError::HasItsOwn
        | ReplicaError::IsReplica
        | ReplicaError::OtherKey { .. }
        | ReplicaError::MissingKeys { .. }
        | ReplicaError::UnknownFormat
        | ReplicaError::Unseal(_)
        | ReplicaError::RolledBack { .. }
        | ReplicaError::Clash { .. }
        | ReplicaError::Stopping => Errno::EIO,
    }
}

fn of_name(error: KeyError) -> Errno {
    match error {
        KeyError::ComponentTooLong | KeyError::TooLong => Errno::ENAMETOOLONG,
        KeyError::EmptyComponent
        | KeyError::LeadingDot
        | KeyError::DotComponent
        | KeyError::TemporaryName
        | KeyError::SidecarName
        | KeyError::ControlCharacter
        | KeyError::NotUtf8 => Errno::EINVAL,
    }
}

fn of_vault(error: &VaultError) -> Errno {
    match error {
        VaultError::Denied { .. }
        | VaultError::AdminOnly { .. }
        | VaultError::IdOfAdmins { .. } => Errno::EACCES,
        VaultError::NotFound { .. } => Errno::ENOENT,
        VaultError::Exists { .. } | VaultError::IdTaken { .. } => Errno::EEXIST,
        VaultError::IsDirectory { .. } => Errno::EISDIR,
        VaultError::NotDirectory { .. } => Errno::ENOTDIR,
        VaultError::NotEmpty { .. } => Errno::ENOTEMPTY,
        // Upon which mv(1) copies.
        VaultError::TooManyToMove { .. } => Errno::EXDEV,
        VaultError::BadKey { error, .. } => of_name(*error),
        VaultError::Lists { errors, .. } => of_documents(errors),
        VaultError::ListsTooLong { .. } | VaultError::TooLarge { .. } => Errno::EFBIG,
        VaultError::NotSealed { .. }
        | VaultError::NotOpened { .. }
        | VaultError::Checksum { .. } => Errno::EBADMSG,
        VaultError::Refused(refusals) => match refusals.first().map(|first| &first.error) {
            // A secret and a directory of one name: what the file brings is there as something else.
            Some(VaultError::IsDirectory { .. } | VaultError::NotDirectory { .. }) => Errno::EEXIST,
            Some(error) => of_vault(error),
            None => Errno::EIO,
        },
        VaultError::Store(StoreError::Full) | VaultError::NotRecorded(NotRecorded::Full) => {
            Errno::ENOSPC
        }
        VaultError::TooManySecrets { .. } | VaultError::TooManyBytes { .. } => Errno::EDQUOT,
        // The kernel does not hand it on for a removal or a renaming: it tries once more.
        VaultError::Conflict { .. } => Errno::ESTALE,
        VaultError::Replica(error) => of_replica(error),
        VaultError::Store(_)
        | VaultError::NotRecorded(NotRecorded::Failed(_))
        | VaultError::Unseal { .. }
        | VaultError::Incomplete { .. }
        | VaultError::MissingKeys { .. }
        | VaultError::NoThread(_)
        | VaultError::KeyReplaced
        | VaultError::Stopping => Errno::EIO,
    }
}
