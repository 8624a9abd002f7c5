//! Removing files and directories.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::vault::{Change, InheritedLists, VaultError};

use super::close::stale_name;
use super::lookup::{is_reserved, sidecar_key};
use crate::fs::kernel::invalidator::Invalidation;
use crate::fs::{Answer, Fs, FsError, Requester, checked_name, join, nothing_is_made_in};

impl Fs {
    /// Removes a file. The answer comes when that is durable.
    pub fn unlink(
        self: &Arc<Self>,
        who: &Requester,
        parent: u64,
        name: &OsStr,
        answer: Answer<()>,
    ) {
        let answer = self.noting(who, "unlink", answer);
        match self.was_done(who) {
            Ok(true) => return answer(Ok(())),
            Ok(false) => {}
            Err(error) => return answer(Err(error)),
        }
        if let Some(directory) = self.drop_directory(parent) {
            return answer(self.remove_dropped(who, &directory, name));
        }
        if let Err((answer, error)) = self.try_unlink(who, parent, name, answer) {
            answer(Err(error));
        }
    }

    fn try_unlink(
        self: &Arc<Self>,
        who: &Requester,
        parent: u64,
        name: &OsStr,
        answer: Answer<()>,
    ) -> Result<(), (Answer<()>, FsError)> {
        let (caller, directory, name) = match self.place(who, parent, name) {
            Ok(place) => place,
            Err(error) => return Err((answer, error)),
        };
        let path = join(&directory, name);
        if is_reserved(&path) {
            return Err((answer, nothing_is_made_in(&path)));
        }
        if self.scratch.is_name(who.uid, &directory, name) {
            let removed = self.scratch.remove(who.uid, &directory, name);
            answer(match removed {
                None if !who.is_resent => Err(FsError::NotFound(path)),
                _ => Ok(()),
            });
            return Ok(());
        }
        // A file that was only created may be on its way into the store: it must not come back.
        self.settling.wait_for(&path);
        if self.vault.secret(&path).is_none() {
            if let Some(draft) = self.drafts.creating(&path, who)
                && self.drafts.end_one(&draft)
            {
                answer(Ok(()));
                return Ok(());
            }
            if sidecar_key(&path).is_some_and(|key| self.vault.secret(key.as_str()).is_some()) {
                let what = "a sidecar lives as long as its secret; remove the secret instead";
                return Err((answer, FsError::Forbidden { path, what }));
            }
        }
        let origin = self.origin_with_process(who);
        let (fs, for_note) = (Arc::clone(self), *who);
        self.vault.remove(
            self.actor(who, caller),
            path,
            origin,
            Box::new(move |outcome| match outcome {
                Ok(changes) => fs.removed(&for_note, &changes, false, answer),
                // It was there when the kernel asked first: a file that was being created.
                Err(VaultError::NotFound { .. }) if for_note.is_resent => answer(Ok(())),
                Err(error) => answer(Err(error.into())),
            }),
        );
        Ok(())
    }

    /// What follows a removal, or a renaming (`moved`): the drafts of the secret end, and the process may put
    /// another in its place or remove the directory that it emptied.
    pub(in crate::fs) fn removed(
        &self,
        who: &Requester,
        changes: &[Change],
        moved: bool,
        answer: Answer<()>,
    ) {
        for change in changes {
            if let (Some(before), None) = (&change.before, &change.after) {
                self.drafts.end(before.record(), before.key().as_str());
            }
            if let Some((key, inherited_lists)) = InheritedLists::of(change) {
                self.remember_replaced(who, key.as_str(), inherited_lists, moved);
            }
        }
        // The caller holds the kernel's lock on the directory until it is answered, and the invalidator may
        // be waiting for that lock: so this answer must not wait for the invalidator.
        let stale = self.stale_after(changes);
        answer(Ok(()));
        self.invalidator.send(Invalidation { stale, answer: None });
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// It is not there, not empty, or exists whatever a caller does.
    pub fn remove_directory(
        &self,
        who: &Requester,
        parent: u64,
        name: &OsStr,
    ) -> Result<(), FsError> {
        let removed = self.remove_directory_quietly(who, parent, name);
        self.note(who, "rmdir", removed)
    }

    fn remove_directory_quietly(
        &self,
        who: &Requester,
        parent: u64,
        name: &OsStr,
    ) -> Result<(), FsError> {
        if let Some(directory) = self.drop_directory(parent) {
            return self.remove_drop_directory(who, &directory, name);
        }
        let (caller, directory, name) = self.place(who, parent, name)?;
        let path = join(&directory, name);
        if is_reserved(&path) {
            return Err(nothing_is_made_in(&path));
        }
        // A file that was only created may be on its way into the store.
        self.settling.wait_for_around(&path);
        if self.vault.is_directory(&path)
            || self.directories.holds_below(&path)
            || !self.scratch.names(who.uid, &path).is_empty()
        {
            return Err(FsError::NotEmpty(path));
        }
        if self.directories.holds(&path) {
            self.may_make(&caller, &directory, name)?;
            self.directories.remove(&path);
            self.forget_directories_above(&path);
            return Ok(());
        }
        if self.was_emptied_by(who, &path) {
            return Ok(());
        }
        if caller.own_slug().is_some_and(|own| own.as_str() == path) {
            let what = "your own directory always exists; leave it";
            return Err(FsError::Forbidden { path, what });
        }
        // The kernel knew of the directory: it was removed when this was asked for the first time.
        if who.is_resent {
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
        self.invalidator.send(Invalidation { stale, answer: None });
    }

    fn place<'a>(
        &self,
        who: &Requester,
        parent: u64,
        name: &'a OsStr,
    ) -> Result<(Arc<crate::model::Caller>, Arc<str>, &'a str), FsError> {
        let directory = self.directory(who, parent)?;
        Ok((self.caller(who)?, Arc::clone(&directory), checked_name(&directory, name)?))
    }
}
