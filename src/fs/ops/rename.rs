//! Renaming.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use crate::audit::{Action, Subject};
use crate::model::{Caller, KeyError, Operation};
use crate::vault::{Change, RenameSource, RenameTarget, WriteTarget};

use super::close::{stale_name, stored};
use super::lookup::{is_reserved, sidecar_key};
use crate::fs::audit::Decision;
use crate::fs::files::draft::Draft;
use crate::fs::files::scratch::Scratch;
use crate::fs::{Fs, FsError, Request, checked_key, checked_name, join, nothing_is_made_in};

/// What renameat2(2) is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace what has the new name.
    Replace,
    /// Fail if something has the new name.
    NoReplace,
}

/// A name in a directory.
pub(in crate::fs) struct Place {
    pub(in crate::fs) directory: Arc<str>,
    pub(in crate::fs) name: String,
    pub(in crate::fs) path: String,
    /// Whether it is the name of a scratch file.
    is_scratch: bool,
}

/// What is renamed.
enum Source {
    Secret,
    Draft(Arc<Draft>),
    Scratch(Arc<Scratch>),
    Directory,
}

impl Fs {
    /// Renames a file or a directory, durably.
    ///
    /// # Errors
    /// It is not there, the new name cannot be taken, or the caller may not.
    pub async fn rename(
        self: Arc<Self>,
        mut request: Request,
        (parent, name): (u64, OsString),
        (new_parent, new_name): (u64, OsString),
        mode: RenameMode,
    ) -> Result<(), FsError> {
        match (self.drop_directory(parent), self.drop_directory(new_parent)) {
            (Some(from), Some(to)) => {
                return self.rename_dropped(&request, (&from, &name), (&to, &new_name), mode).await;
            }
            // Into the drop directory, or out of it, is copying.
            (Some(_), None) | (None, Some(_)) => {
                return Err(FsError::CrossDevice(name.to_string_lossy().into_owned()));
            }
            (None, None) => {}
        }
        let from = self.rename_place(&request, parent, &name)?;
        let to = self.rename_place(&request, new_parent, &new_name)?;
        // A file that was only created or truncated may be on its way into the store.
        for place in [&from, &to] {
            self.settling.wait_for(&place.path);
        }
        if self.was_renamed(&request, &from, &to)? {
            if self.vault.is_directory(&to.path) || self.directories.holds(&from.path) {
                // The process that did it may have died before this.
                self.move_memory(&from.path, &to.path);
            }
            return Ok(());
        }
        match self.rename_source(&request, &from)? {
            Source::Scratch(scratch) if to.is_scratch => {
                self.rename_scratch(&request, &from, &to, scratch, mode)
            }
            // Moving a secret into memory, or a file that is still written, is copying.
            _ if to.is_scratch => Err(FsError::CrossDevice(to.path)),
            Source::Draft(draft) => self.rename_draft(&mut request, &from, &to, &draft, mode).await,
            Source::Directory => self.rename_directory(&request, from, to, mode).await,
            Source::Scratch(scratch) => {
                let bytes = RenameSource::Bytes(scratch.read(0, usize::MAX)?);
                self.rename_stored(&request, bytes, &to, mode).await?;
                self.scratch.remove(request.uid, &from.directory, &from.name);
                Ok(())
            }
            Source::Secret => {
                let key = RenameSource::Secret(checked_key(&from.path)?);
                self.rename_stored(&request, key, &to, mode).await
            }
        }
    }

    fn rename_place(&self, request: &Request, parent: u64, name: &OsStr) -> Result<Place, FsError> {
        let directory = self.directory(request, parent)?;
        let name = checked_name(&directory, name)?.to_owned();
        let path = join(&directory, &name);
        if is_reserved(&path) {
            return Err(nothing_is_made_in(&path));
        }
        let is_scratch = self.scratch.is_name(request.uid, &directory, &name);
        Ok(Place { path, directory, name, is_scratch })
    }

    /// Whether a process that died before it answered did it.
    fn was_renamed(&self, request: &Request, from: &Place, to: &Place) -> Result<bool, FsError> {
        if !self.was_done(request)? {
            // What was in memory alone, or was renamed onto a secret of the same value, has no cached reply.
            let is_there = |place: &Place| {
                self.scratch.find(request.uid, &place.directory, &place.name).is_some()
                    || self.vault.secret(&place.path).is_some()
                    || self.drafts.creating(&place.path, request).is_some()
                    || self.directories.holds(&place.path)
            };
            return Ok(request.is_resent && !is_there(from) && is_there(to));
        }
        if from.is_scratch {
            self.scratch.remove(request.uid, &from.directory, &from.name);
        }
        Ok(true)
    }

    fn rename_source(&self, request: &Request, from: &Place) -> Result<Source, FsError> {
        if from.is_scratch {
            let scratch = self.scratch.find(request.uid, &from.directory, &from.name);
            return scratch
                .map(Source::Scratch)
                .ok_or_else(|| FsError::NotFound(from.path.clone()));
        }
        if self.vault.secret(&from.path).is_some() {
            return Ok(Source::Secret);
        }
        // As in a lookup, a directory comes first: it may have been made where a process is creating a file.
        if self.vault.is_directory(&from.path) || self.directories.holds(&from.path) {
            return Ok(Source::Directory);
        }
        if sidecar_key(&from.path).is_some_and(|key| self.vault.secret(key.as_str()).is_some()) {
            let what = "a sidecar goes where its secret goes; rename the secret instead";
            return Err(FsError::Forbidden { path: from.path.clone(), what });
        }
        match self.drafts.creating(&from.path, request) {
            Some(draft) => Ok(Source::Draft(draft)),
            None => Err(FsError::NotFound(from.path.clone())),
        }
    }

    fn rename_scratch(
        &self,
        request: &Request,
        from: &Place,
        to: &Place,
        scratch: Arc<Scratch>,
        mode: RenameMode,
    ) -> Result<(), FsError> {
        self.may_make(&*self.caller(request)?, &to.directory, &to.name)?;
        let taken = self.scratch.find(request.uid, &to.directory, &to.name).is_some();
        if taken && mode == RenameMode::NoReplace {
            return Err(FsError::Exists(to.path.clone()));
        }
        self.scratch.rename((&from.directory, &from.name), (&to.directory, &to.name), scratch);
        Ok(())
    }

    /// A file that is still being created gets its new name when it is committed.
    async fn rename_draft(
        &self,
        request: &mut Request,
        from: &Place,
        to: &Place,
        draft: &Arc<Draft>,
        mode: RenameMode,
    ) -> Result<(), FsError> {
        let caller = self.caller(request)?;
        let to_path = Some(to.path.clone());
        let subject = Subject { to: to_path, ..Subject::of(from.path.as_str()) };
        let mut decision = Decision::new(Action::Rename, subject);
        let target = self.draft_target(request, &caller, to, mode, &mut decision);
        request.decision = Some(decision);
        self.record(request, target.as_ref().err()).await?;
        let target = target?;
        self.drafts.refile(draft, || draft.retarget(&to.path, target));
        Ok(())
    }

    /// Where a file that is still being created may go.
    fn draft_target(
        &self,
        request: &Request,
        caller: &Caller,
        to: &Place,
        mode: RenameMode,
        decision: &mut Decision,
    ) -> Result<WriteTarget, FsError> {
        let key = checked_key(&to.path)?;
        let exclusive = mode == RenameMode::NoReplace;
        let inherited_lists = self.inherited_lists(request, &to.path);
        decision.granted(match self.vault.secret(&to.path) {
            Some(_) if exclusive => return Err(FsError::Exists(to.path.clone())),
            Some(secret) => self.vault.check(caller, Operation::Write, &secret)?,
            None => self.vault.check_create(caller, &key, inherited_lists.as_ref())?,
        });
        Ok(WriteTarget::New { key, exclusive, inherited_lists })
    }

    async fn rename_stored(
        self: &Arc<Self>,
        request: &Request,
        source: RenameSource,
        to: &Place,
        mode: RenameMode,
    ) -> Result<(), FsError> {
        let target = self.rename_target(request, to, mode)?;
        let actor = self.actor(request, self.caller(request)?);
        let origin = self.origin_with_process(request);
        let (fs, request, to) = (Arc::clone(self), request.sender(), to.path.clone());
        let publish = move |changes: &[Change]| fs.renamed(&request, &to, changes);
        Ok(stored(|done| self.vault.rename(actor, source, target, origin, done), publish).await?)
    }

    fn rename_target(
        &self,
        request: &Request,
        to: &Place,
        mode: RenameMode,
    ) -> Result<RenameTarget, FsError> {
        if let Some(key) = sidecar_key(&to.path)
            && self.vault.secret(key.as_str()).is_some()
        {
            return Ok(RenameTarget::Sidecar(key));
        }
        let key = match checked_key(&to.path) {
            Err(FsError::BadName { error: KeyError::SidecarName, .. }) => {
                return Err(FsError::NotFound(to.path.clone()));
            }
            key => key?,
        };
        Ok(RenameTarget::Key {
            key,
            exclusive: mode == RenameMode::NoReplace,
            inherited_lists: self.inherited_lists(request, &to.path),
        })
    }

    /// Ends the drafts of what was replaced. The kernel now maps the new name to the old node: it must forget
    /// that, after its answer.
    fn renamed(&self, request: &Request, to: &str, changes: &[Change]) {
        for change in changes {
            if let (Some(before), Some(after)) = (&change.before, &change.after)
                && before.key() == after.key()
                && after.key().as_str() == to
            {
                self.drafts.end(after.record(), to);
            }
        }
        self.removed(request, changes, true);
        self.invalidator.forget(vec![stale_name(to)]);
    }
}
