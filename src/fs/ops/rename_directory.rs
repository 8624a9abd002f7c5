//! Renaming a directory: all keys below it, and what is only in memory there.

use std::sync::Arc;

use crate::model::{Caller, Key};
use crate::vault::Change;

use super::close::{stale_name, stored};
use super::lookup::is_below;
use super::rename::{Place, RenameMode};
use crate::fs::kernel::directory_ids;
use crate::fs::{Fs, FsError, Request};

impl Fs {
    /// Renames a directory, durably.
    pub(in crate::fs) async fn rename_directory(
        self: &Arc<Self>,
        request: &Request,
        from: Place,
        to: Place,
        mode: RenameMode,
    ) -> Result<(), FsError> {
        let holds_keys = self.vault.is_directory(&from.path);
        let caller = self.may_rename_directory(request, &from, &to, mode, holds_keys)?;
        if !holds_keys {
            self.directory_renamed(&from.path, &to.path, &[]);
            return Ok(());
        }
        let (actor, origin) = (self.actor(request, caller), self.origin_with_process(request));
        let (fs, old, new) = (Arc::clone(self), from.path.clone(), to.path.clone());
        let publish = move |changes: &[Change]| fs.directory_renamed(&old, &new, changes);
        let rename = |done| self.vault.rename_directory(actor, from.path, to.path, origin, done);
        Ok(stored(rename, publish).await?)
    }

    /// Checks what does not depend on the keys. The rights come first: a caller without them learns nothing
    /// of what is there.
    fn may_rename_directory(
        &self,
        request: &Request,
        from: &Place,
        to: &Place,
        mode: RenameMode,
        holds_keys: bool,
    ) -> Result<Arc<Caller>, FsError> {
        let caller = self.caller(request)?;
        Key::check_directory(&to.path)
            .map_err(|error| FsError::BadName { path: to.path.clone(), error })?;
        self.may_make(&caller, &to.directory, &to.name)?;
        if !holds_keys {
            self.may_make(&caller, &from.directory, &from.name)?;
        }
        if !directory_ids::has_room() {
            return Err(FsError::CrossDevice(from.path.clone()));
        }
        self.settling.wait_for_around(&from.path);
        self.settling.wait_for_around(&to.path);
        // It would appear again below the old name.
        if self.drafts.is_creating_below(&from.path) {
            return Err(FsError::Busy(from.path.clone()));
        }
        let holds_keys = self.vault.is_directory(&to.path);
        if mode == RenameMode::NoReplace && (holds_keys || self.directories.holds(&to.path)) {
            return Err(FsError::Exists(to.path.clone()));
        }
        if holds_keys
            || self.directories.holds_below(&to.path)
            || self.drafts.is_creating_below(&to.path)
            || !self.scratch.names(request.uid, &to.path).is_empty()
        {
            return Err(FsError::NotEmpty(to.path.clone()));
        }
        Ok(caller)
    }

    /// Moves made directories and scratch files, and lets nodes that the kernel knows follow: it has moved them.
    pub(in crate::fs) fn move_memory(&self, from: &str, to: &str) {
        directory_ids::leave(from, &self.saved_state);
        self.directories.rename(from, to);
        self.scratch.rename_below(from, to);
        self.nodes.rename_below(from, to);
    }

    /// The kernel now maps the new name to the node of the old one. Below it, names mean the same versions as
    /// before.
    fn directory_renamed(&self, from: &str, to: &str, changes: &[Change]) {
        self.move_memory(from, to);
        self.watchers.changed(changes);
        let mut stale = vec![stale_name(from), stale_name(to)];
        if let Some(before) = changes.first().and_then(|change| change.before.as_ref()) {
            self.vanished(before, &mut stale);
        }
        // The caller holds the kernel's locks on the directories above until it is answered.
        self.invalidator.forget(stale);
    }
}

/// What becomes of a path when a directory is renamed, if it is that directory or lies below it.
pub(in crate::fs) fn renamed(path: &str, from: &str, to: &str) -> Option<String> {
    (path == from || is_below(path, from)).then(|| format!("{to}{}", &path[from.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_moves_along() {
        assert_eq!(renamed("a/b", "a/b", "c").as_deref(), Some("c"));
        assert_eq!(renamed("a/b/c/d", "a/b", "x/y").as_deref(), Some("x/y/c/d"));
        assert_eq!(renamed("a/bc", "a/b", "x"), None);
        assert_eq!(renamed("a", "a/b", "x"), None);
    }
}
