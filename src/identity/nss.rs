//! Users and groups as the system knows them.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{self, Gid, Uid};
use serde::{Deserialize, Serialize};

use super::Trust;

/// Where users and groups are looked up: [`Nss`], or something else in tests.
pub trait Directory: Send + Sync {
    /// The user with this UID; none if the directory knows none.
    ///
    /// # Errors
    /// The directory could not be asked.
    fn user_by_uid(&self, uid: u32) -> Result<Option<User>, NssError>;

    /// The UID of the user with this name; none only if there certainly is none.
    ///
    /// # Errors
    /// The directory could not be asked.
    fn uid_by_name(&self, name: &str) -> Result<Option<u32>, NssError>;

    /// The GID of the group with this name; none only if there certainly is none.
    ///
    /// # Errors
    /// The directory could not be asked.
    fn gid_by_name(&self, name: &str) -> Result<Option<u32>, NssError>;

    /// The groups of a user, its primary one among them.
    ///
    /// # Errors
    /// The directory could not be asked.
    fn groups_of(&self, user: &User) -> Result<Vec<Group>, NssError>;

    /// Opens the identities file, for processes that may not open it themselves.
    ///
    /// # Errors
    /// It cannot be opened, or others than root and the mounting user could change it.
    fn open(&self, path: &Path) -> io::Result<File> {
        Trust::in_this_user().open(path)
    }
}

/// A user of the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The login name, which need not be a valid slug.
    pub name: String,
    /// The primary group.
    pub gid: u32,
}

/// A group of the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The GID.
    pub gid: u32,
    /// The name, which need not be a valid slug; none for a GID without an entry.
    pub name: Option<String>,
}

/// What was looked up when a lookup failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lookup {
    /// The user with this UID.
    User(u32),
    /// The user with this name.
    UserName(String),
    /// The groups of the user with this name.
    GroupsOf(String),
    /// The group with this GID.
    Group(u32),
    /// The group with this name.
    GroupName(String),
}

impl std::fmt::Display for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(uid) => write!(f, "uid {uid}"),
            Self::UserName(name) => write!(f, "user {name:?}"),
            Self::GroupsOf(name) => write!(f, "the groups of user {name:?}"),
            Self::Group(gid) => write!(f, "gid {gid}"),
            Self::GroupName(name) => write!(f, "group {name:?}"),
        }
    }
}

/// The system's user database could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "looking up {lookup} failed ({errno}); check the name services of this machine and try again"
)]
pub struct NssError {
    /// What was looked up.
    pub lookup: Lookup,
    /// Why it failed.
    pub errno: Errno,
}

/// The name services that `/etc/nsswitch.conf` configures.
///
/// glibc answers "no such entry" without an error code. Where a service is missing altogether
/// (`/etc/passwd` in a bare container) it gives ENOENT or ESRCH (getpwnam_r(3)): for a UID or GID
/// that counts as unknown, which only takes slugs away; for a user's name, whose absence gives
/// a group's members a slug, it is a failure like any other. An entry over 1 MiB (a group with tens of
/// thousands of members) is ERANGE. `getgrouplist(3)` does not report services that fail, it
/// leaves their groups out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nss;

impl Directory for Nss {
    fn user_by_uid(&self, uid: u32) -> Result<Option<User>, NssError> {
        let user = unknown_if_absent(unistd::User::from_uid(Uid::from_raw(uid)))
            .map_err(|errno| NssError { lookup: Lookup::User(uid), errno })?;
        Ok(user.map(|user| User { name: user.name, gid: user.gid.as_raw() }))
    }

    fn uid_by_name(&self, name: &str) -> Result<Option<u32>, NssError> {
        let user = unistd::User::from_name(name)
            .map_err(|errno| NssError { lookup: Lookup::UserName(name.to_owned()), errno })?;
        Ok(user.map(|user| user.uid.as_raw()))
    }

    fn gid_by_name(&self, name: &str) -> Result<Option<u32>, NssError> {
        let group = unistd::Group::from_name(name)
            .map_err(|errno| NssError { lookup: Lookup::GroupName(name.to_owned()), errno })?;
        Ok(group.map(|group| group.gid.as_raw()))
    }

    fn groups_of(&self, user: &User) -> Result<Vec<Group>, NssError> {
        self.gids_of(user)?.into_iter().map(|gid| self.group(gid)).collect()
    }
}

impl Nss {
    /// The GIDs of a user's groups, the primary one among them.
    ///
    /// # Errors
    /// The name services could not be asked.
    pub fn gids_of(&self, user: &User) -> Result<Vec<u32>, NssError> {
        let failed = |errno| NssError { lookup: Lookup::GroupsOf(user.name.clone()), errno };
        let name = CString::new(user.name.as_str()).map_err(|_| failed(Errno::EINVAL))?;
        let gids = unistd::getgrouplist(&name, Gid::from_raw(user.gid)).map_err(failed)?;
        Ok(gids.into_iter().map(Gid::as_raw).collect())
    }

    /// The group with this GID.
    ///
    /// # Errors
    /// The name services could not be asked.
    pub fn group(&self, gid: u32) -> Result<Group, NssError> {
        let group = unknown_if_absent(unistd::Group::from_gid(Gid::from_raw(gid)))
            .map_err(|errno| NssError { lookup: Lookup::Group(gid), errno })?;
        Ok(Group { gid, name: group.map(|group| group.name) })
    }
}

fn unknown_if_absent<T>(entry: nix::Result<Option<T>>) -> nix::Result<Option<T>> {
    match entry {
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_root() {
        let root = Nss.user_by_uid(0).unwrap().unwrap();
        assert_eq!(root, User { name: "root".to_owned(), gid: 0 });
        assert_eq!(Nss.uid_by_name("root"), Ok(Some(0)));
        assert_eq!(Nss.gid_by_name("root"), Ok(Some(0)));
        let groups = Nss.groups_of(&root).unwrap();
        assert!(groups.contains(&Group { gid: 0, name: Some("root".to_owned()) }), "{groups:?}");
    }

    #[test]
    fn who_is_not_there_is_no_error() {
        assert_eq!(Nss.user_by_uid(4_242_424_242), Ok(None));
        assert_eq!(Nss.uid_by_name("no-such-user-here"), Ok(None));
        assert_eq!(Nss.gid_by_name("no-such-group-here"), Ok(None));
        assert_eq!(Nss.group(4_242_424_242).unwrap().name, None);
    }

    #[test]
    fn only_missing_entries_count_as_unknown() {
        for errno in [Errno::ENOENT, Errno::ESRCH] {
            assert_eq!(unknown_if_absent::<()>(Err(errno)), Ok(None));
        }
        for errno in
            [Errno::EIO, Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ERANGE, Errno::EACCES]
        {
            assert_eq!(unknown_if_absent::<()>(Err(errno)), Err(errno));
        }
    }
}
