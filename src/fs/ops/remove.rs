//! Removing files and directories.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use crate::vault::{Change, InheritedLists, VaultError};

use super::close::{stale_name, stored};
use super::lookup::{is_reserved, sidecar_key};
use crate::fs::{Fs, FsError, Request, checked_name, join, nothing_is_made_in};

impl Fs {
    /// Removes a file, durably.
    ///
    /// # Errors
    /// It is not there, or the caller may not.
    pub async fn unlink(
        self: Arc<Self>,
        request: Request,
        parent: u64,
        name: OsString,
    ) -> Result<(), FsError> {
        if self.was_done(&request)? {
            return Ok(());
        }
        if let Some(directory) = self.drop_directory(parent) {
            return self.remove_dropped(&request, &directory, &name);
        }
        let (caller, directory, name) = self.place(&request, parent, &name)?;
        let path = join(&directory, name);
        if is_reserved(&path) {
            return Err(nothing_is_made_in(&path));
        }
        if self.scratch.is_name(request.uid, &directory, name) {
            return match self.scratch.remove(request.uid, &directory, name) {
                None if !request.is_resent => Err(FsError::NotFound(path)),
                _ => Ok(()),
            };
        }
        // A file that was only created may be on its way into the store: it must not come back.
        self.settling.wait_for(&path);
        if self.vault.secret(&path).is_none() {
            if let Some(draft) = self.drafts.creating(&path, &request)
                && self.drafts.end_one(&draft)
            {
                return Ok(());
            }
            if sidecar_key(&path).is_some_and(|key| self.vault.secret(key.as_str()).is_some()) {
                let what = "a sidecar lives as long as its secret; remove the secret instead";
                return Err(FsError::Forbidden { path, what });
            }
        }
        let (actor, origin) = (self.actor(&request, caller), self.origin_with_process(&request));
        let (fs, is_resent) = (Arc::clone(&self), request.is_resent);
        let publish = move |changes: &[Change]| fs.removed(&request, changes, false);
        match stored(|done| self.vault.remove(actor, path, origin, done), publish).await {
            // It was there when the kernel asked first: a file that was being created.
            Err(VaultError::NotFound { .. }) if is_resent => Ok(()),
            removed => Ok(removed?),
        }
    }

    /// What follows a removal, or a renaming (`moved`): the drafts of the secret end, and the process may put
    /// another in its place or remove the directory that it emptied.
    pub(in crate::fs) fn removed(&self, request: &Request, changes: &[Change], moved: bool) {
        for change in changes {
            if let (Some(before), None) = (&change.before, &change.after) {
                self.drafts.end(before.record(), before.key().as_str());
            }
            if let Some((key, inherited_lists)) = InheritedLists::of(change) {
                self.remember_replaced(request, key.as_str(), inherited_lists, moved);
            }
        }
        // The caller holds the kernel's lock on the directory until it is answered, and the invalidator may
        // be waiting for that lock: so the answer must not wait for the invalidator.
        self.invalidator.forget(self.stale_after(changes));
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// It is not there, not empty, or exists whatever a caller does.
    pub fn remove_directory(
        &self,
        request: &Request,
        parent: u64,
        name: &OsStr,
    ) -> Result<(), FsError> {
        if let Some(directory) = self.drop_directory(parent) {
            return self.remove_drop_directory(request, &directory, name);
        }
        let (caller, directory, name) = self.place(request, parent, name)?;
        let path = join(&directory, name);
        if is_reserved(&path) {
            return Err(nothing_is_made_in(&path));
        }
        // A file that was only created may be on its way into the store.
        self.settling.wait_for_around(&path);
        if self.vault.is_directory(&path)
            || self.directories.holds_below(&path)
            || !self.scratch.names(request.uid, &path).is_empty()
        {
            return Err(FsError::NotEmpty(path));
        }
        if self.directories.holds(&path) {
            self.may_make(&caller, &directory, name)?;
            self.directories.remove(&path);
            self.forget_directories_above(&path);
            return Ok(());
        }
        if self.was_emptied_by(request, &path) {
            return Ok(());
        }
        if caller.own_slug().is_some_and(|own| own.as_str() == path) {
            let what = "your own directory always exists; leave it";
            return Err(FsError::Forbidden { path, what });
        }
        // The kernel knew of the directory: it was removed when this was asked for the first time.
        if request.is_resent {
            return Ok(());
        }
        Err(FsError::NotFound(path))
    }

    /// Directories that existed only because of a directory in them are gone too. The caller holds the
    /// kernel's lock on one of them, so the answer does not wait for this.
    fn forget_directories_above(&self, path: &str) {
        let mut stale = Vec::new();
        let mut directory = path;
        while let Some((above, _)) = directory.rsplit_once('/')
            && !self.vault.is_directory(above)
            && !self.directories.holds(above)
        {
            stale.push(stale_name(above));
            directory = above;
        }
        self.invalidator.forget(stale);
    }

    fn place<'a>(
        &self,
        request: &Request,
        parent: u64,
        name: &'a OsStr,
    ) -> Result<(Arc<crate::model::Caller>, Arc<str>, &'a str), FsError> {
        let directory = self.directory(request, parent)?;
        Ok((self.caller(request)?, Arc::clone(&directory), checked_name(&directory, name)?))
    }
}
