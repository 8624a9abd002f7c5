//! A directory for tests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;

use super::{Directory, Group, Lookup, NssError, User};

/// Users with their groups, lookups that can be made to fail, and a count of the callers looked up.
#[derive(Debug, Default)]
pub(super) struct Fake {
    users: BTreeMap<u32, (User, Vec<Group>)>,
    fails: [bool; 3],
    asked: AtomicUsize,
}

impl Fake {
    pub(super) fn user(mut self, uid: u32, name: &str, groups: &[(u32, Option<&str>)]) -> Self {
        let groups: Vec<_> = groups
            .iter()
            .map(|&(gid, name)| Group { gid, name: name.map(str::to_owned) })
            .collect();
        let gid = groups.first().map_or(uid, |group| group.gid);
        self.users.insert(uid, (User { name: name.to_owned(), gid }, groups));
        self
    }

    pub(super) fn failing(mut self) -> Self {
        self.fails[0] = true;
        self
    }

    pub(super) fn failing_groups(mut self) -> Self {
        self.fails[1] = true;
        self
    }

    pub(super) fn failing_names(mut self) -> Self {
        self.fails[2] = true;
        self
    }

    /// How many UIDs have been looked up.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn check(&self, which: usize, lookup: Lookup) -> Result<(), NssError> {
        if self.fails[which] { Err(NssError { lookup, errno: Errno::EIO }) } else { Ok(()) }
    }
}

impl Directory for Fake {
    fn user_by_uid(&self, uid: u32) -> Result<Option<User>, NssError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.check(0, Lookup::User(uid))?;
        Ok(self.users.get(&uid).map(|(user, _)| user.clone()))
    }

    fn uid_by_name(&self, name: &str) -> Result<Option<u32>, NssError> {
        self.check(2, Lookup::UserName(name.to_owned()))?;
        Ok(self.users.iter().find(|(_, (user, _))| user.name == name).map(|(&uid, _)| uid))
    }

    fn gid_by_name(&self, name: &str) -> Result<Option<u32>, NssError> {
        self.check(2, Lookup::GroupName(name.to_owned()))?;
        let mut groups = self.users.values().flat_map(|(_, groups)| groups);
        Ok(groups.find(|group| group.name.as_deref() == Some(name)).map(|group| group.gid))
    }

    fn groups_of(&self, user: &User) -> Result<Vec<Group>, NssError> {
        self.check(1, Lookup::GroupsOf(user.name.clone()))?;
        let found = self.users.values().find(|(known, _)| known == user);
        Ok(found.map(|(_, groups)| groups.clone()).unwrap_or_default())
    }
}
