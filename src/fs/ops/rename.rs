//! Renaming.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::audit::{Action, Subject};
use crate::model::{Caller, KeyError, Operation};
use crate::vault::{Change, RenameSource, RenameTarget, WriteTarget};

use super::close::stale_name;
use super::lookup::{is_reserved, sidecar_key};
use crate::fs::audit::Decision;
use crate::fs::files::draft::Draft;
use crate::fs::files::scratch::Scratch;
use crate::fs::kernel::invalidator::Invalidation;
use crate::fs::{
    Answer, Fs, FsError, Requester, checked_key, checked_name, join, nothing_is_made_in,
};

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
    /// It was renamed when this was asked for the first time.
    Gone,
}

impl Fs {
    /// Renames a file. The answer comes when that is durable.
    #[allow(clippy::too_many_arguments)]
    pub fn rename(
        self: &Arc<Self>,
        who: &Requester,
        parent: u64,
        name: &OsStr,
        new_parent: u64,
        new_name: &OsStr,
        mode: RenameMode,
        answer: Answer<()>,
    ) {
        let answer = self.noting(who, "rename", answer);
        match (self.drop_directory(parent), self.drop_directory(new_parent)) {
            (Some(from), Some(to)) => {
                return self.rename_dropped(who, (&from, name), (&to, new_name), mode, answer);
            }
            // Into the drop directory, or out of it, is copying.
            (Some(_), None) | (None, Some(_)) => {
                return answer(Err(FsError::CrossDevice(name.to_string_lossy().into_owned())));
            }
            (None, None) => {}
        }
        let places = self
            .rename_place(who, parent, name)
            .and_then(|from| Ok((from, self.rename_place(who, new_parent, new_name)?)));
        let source = places.and_then(|(from, to)| {
            // A file that was only created or truncated may be on its way into the store.
            for place in [&from, &to] {
                self.settling.wait_for(&place.path);
            }
            if self.was_renamed(who, &from, &to)? {
                return Ok((from, to, Source::Gone));
            }
            let source = self.rename_source(who, &from)?;
            Ok((from, to, source))
        });
        match source {
            Err(error) => answer(Err(error)),
            Ok((from, to, Source::Gone)) => {
                if self.vault.is_directory(&to.path) || self.directories.holds(&from.path) {
                    // The process that did it may have died before this.
                    self.move_memory(&from.path, &to.path);
                }
                answer(Ok(()));
            }
            Ok((from, to, Source::Scratch(scratch))) if to.is_scratch => {
                answer(self.rename_scratch(who, &from, &to, scratch, mode));
            }
            // Moving a secret into memory, or a file that is still written, is copying.
            Ok((_, to, _)) if to.is_scratch => answer(Err(FsError::CrossDevice(to.path))),
            Ok((from, to, Source::Draft(draft))) => {
                self.rename_draft(who, &from, &to, &draft, mode, answer);
            }
            Ok((from, to, Source::Directory)) => {
                self.rename_directory(who, from, to, mode, answer);
            }
            Ok((from, to, source)) => self.rename_stored(who, from, to, source, mode, answer),
        }
    }

    fn rename_place(&self, who: &Requester, parent: u64, name: &OsStr) -> Result<Place, FsError> {
        let directory = self.directory(who, parent)?;
        let name = checked_name(&directory, name)?.to_owned();
        let path = join(&directory, &name);
        if is_reserved(&path) {
            return Err(nothing_is_made_in(&path));
        }
        let is_scratch = self.scratch.is_name(who.uid, &directory, &name);
        Ok(Place { path, directory, name, is_scratch })
    }

    /// Whether a process that died before it answered did it.
    fn was_renamed(&self, who: &Requester, from: &Place, to: &Place) -> Result<bool, FsError> {
        if !self.was_done(who)? {
            // What was in memory alone, or was renamed onto a secret of the same value, has no cached reply.
            let is_there = |place: &Place| {
                self.scratch.find(who.uid, &place.directory, &place.name).is_some()
                    || self.vault.secret(&place.path).is_some()
                    || self.drafts.creating(&place.path, who).is_some()
                    || self.directories.holds(&place.path)
            };
            return Ok(who.is_resent && !is_there(from) && is_there(to));
        }
        if from.is_scratch {
            self.scratch.remove(who.uid, &from.directory, &from.name);
        }
        Ok(true)
    }

    fn rename_source(&self, who: &Requester, from: &Place) -> Result<Source, FsError> {
        if from.is_scratch {
            let scratch = self.scratch.find(who.uid, &from.directory, &from.name);
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
        match self.drafts.creating(&from.path, who) {
            Some(draft) => Ok(Source::Draft(draft)),
            None => Err(FsError::NotFound(from.path.clone())),
        }
    }

    fn rename_scratch(
        &self,
        who: &Requester,
        from: &Place,
        to: &Place,
        scratch: Arc<Scratch>,
        mode: RenameMode,
    ) -> Result<(), FsError> {
        self.may_make(&*self.caller(who)?, &to.directory, &to.name)?;
        let taken = self.scratch.find(who.uid, &to.directory, &to.name).is_some();
        if taken && mode == RenameMode::NoReplace {
            return Err(FsError::Exists(to.path.clone()));
        }
        self.scratch.rename((&from.directory, &from.name), (&to.directory, &to.name), scratch);
        Ok(())
    }

    /// A file that is still being created gets its new name when it is committed.
    fn rename_draft(
        self: &Arc<Self>,
        who: &Requester,
        from: &Place,
        to: &Place,
        draft: &Arc<Draft>,
        mode: RenameMode,
        answer: Answer<()>,
    ) {
        let caller = match self.caller(who) {
            Ok(caller) => caller,
            Err(error) => return answer(Err(error)),
        };
        let to_path = Some(to.path.clone());
        let subject = Subject { to: to_path, ..Subject::of(from.path.as_str()) };
        let mut decision = Decision::new(Action::Rename, subject);
        let target = self.draft_target(who, &caller, to, mode, &mut decision);
        let (fs, draft, path) = (Arc::clone(self), Arc::clone(draft), to.path.clone());
        self.record(who, caller, Some(decision), target, move |target, recorded| {
            answer(recorded.and(target).map(|target| {
                fs.drafts.refile(&draft, || draft.retarget(&path, target));
            }));
        });
    }

    /// Where a file that is still being created may go.
    fn draft_target(
        &self,
        who: &Requester,
        caller: &Caller,
        to: &Place,
        mode: RenameMode,
        decision: &mut Decision,
    ) -> Result<WriteTarget, FsError> {
        let key = checked_key(&to.path)?;
        let exclusive = mode == RenameMode::NoReplace;
        let inherited_lists = self.inherited_lists(who, &to.path);
        decision.granted(match self.vault.secret(&to.path) {
            Some(_) if exclusive => return Err(FsError::Exists(to.path.clone())),
            Some(secret) => self.vault.check(caller, Operation::Write, &secret)?,
            None => self.vault.check_create(caller, &key, inherited_lists.as_ref())?,
        });
        Ok(WriteTarget::New { key, exclusive, inherited_lists })
    }

    fn rename_stored(
        self: &Arc<Self>,
        who: &Requester,
        from: Place,
        to: Place,
        source: Source,
        mode: RenameMode,
        answer: Answer<()>,
    ) {
        let prepared = self.caller(who).and_then(|caller| {
            let target = self.rename_target(who, &to, mode)?;
            let source = match &source {
                Source::Scratch(scratch) => RenameSource::Bytes(scratch.read(0, usize::MAX)?),
                Source::Secret | Source::Draft(_) | Source::Directory | Source::Gone => {
                    RenameSource::Secret(checked_key(&from.path)?)
                }
            };
            Ok((caller, source, target))
        });
        let (caller, vault_source, target) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return answer(Err(error)),
        };
        let actor = self.actor(who, caller);
        let origin = self.origin_with_process(who);
        let (fs, who) = (Arc::clone(self), *who);
        let done = move |outcome: Result<Vec<Change>, _>| match outcome {
            Err(error) => answer(Err(FsError::from(error))),
            Ok(changes) => {
                if let Source::Scratch(_) = source {
                    fs.scratch.remove(who.uid, &from.directory, &from.name);
                }
                fs.renamed(&who, &to, &changes, answer);
            }
        };
        self.vault.rename(actor, vault_source, target, origin, Box::new(done));
    }

    fn rename_target(
        &self,
        who: &Requester,
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
            inherited_lists: self.inherited_lists(who, &to.path),
        })
    }

    /// Ends the drafts of what was replaced. The kernel now maps the new name to the old node: it must forget
    /// that, after its answer.
    fn renamed(&self, who: &Requester, to: &Place, changes: &[Change], answer: Answer<()>) {
        for change in changes {
            if let (Some(before), Some(after)) = (&change.before, &change.after)
                && before.key() == after.key()
                && after.key().as_str() == to.path
            {
                self.drafts.end(after.record(), &to.path);
            }
        }
        self.removed(who, changes, true, answer);
        self.invalidator.send(Invalidation { stale: vec![stale_name(&to.path)], answer: None });
    }
}
