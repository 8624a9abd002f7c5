//! Making files and directories.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::audit::{Action, Subject};
use crate::model::{
    Caller, KeyError, Operation, SIDECAR_SUFFIX, may_be_temporary_name, may_create,
};
use crate::vault::{Change, WriteTarget};

use super::close::stale_name;
use super::lookup::is_reserved;
use crate::fs::audit::Decision;
use crate::fs::budget::{Account, OBJECT_BYTES};
use crate::fs::caller::known::KnownCaller;
use crate::fs::caller::proc::process_of;
use crate::fs::files::draft::{Draft, Occasion};
use crate::fs::files::scratch::Scratch;
use crate::fs::kernel::invalidator::StaleName;
use crate::fs::kernel::nodes::Node;
use crate::fs::kernel::retries::Note;
use crate::fs::saved::SLOT_BYTES;
use crate::fs::{
    Answer, Entry, Fs, FsError, NEVER, Opened, Requester, checked_key, checked_name, join,
};

/// How open(2) creates a file.
#[derive(Clone, Copy, Debug)]
pub struct Creation {
    /// The mode.
    pub mode: u32,
    /// Whether a file that exists is an error (`O_EXCL`).
    pub exclusive: bool,
    /// Whether the descriptor also reads (`O_RDWR`).
    pub reads: bool,
}

impl Creation {
    /// Whether mkstemp(3), and rsync's own one, create files so.
    fn is_mkstemp(self) -> bool {
        self.exclusive && self.reads && self.mode & 0o077 == 0
    }
}

impl Fs {
    /// Creates a file and opens it: a secret that appears when it is committed, or a scratch file
    /// if it has the name of one.
    ///
    /// # Errors
    /// The caller may not create there, or the name cannot be a key's.
    pub fn create(
        self: &Arc<Self>,
        who: &Requester,
        parent: u64,
        name: &OsStr,
        how: Creation,
        answer: impl FnOnce(Result<(Entry, Opened), FsError>) + Send + 'static,
    ) {
        let caller = match self.caller(who) {
            Ok(caller) => caller,
            Err(error) => return answer(self.note(who, "create", Err(error))),
        };
        let mut decision = None;
        let created = self.create_quietly(who, &caller, parent, name, how, &mut decision);
        let (fs, request) = (Arc::clone(self), *who);
        self.record(who, caller, decision, created, move |created, recorded| {
            // Without a record nothing is created.
            if let (Ok((entry, opened)), Err(_)) = (&created, &recorded) {
                fs.undo_open(opened);
                fs.forget(entry.attr.node, 1);
            }
            answer(fs.note(&request, "create", recorded.and(created)));
        });
    }

    /// Creates an empty secret and stores it before the answer (`mknod` of a regular file).
    pub fn create_closed(
        self: &Arc<Self>,
        who: &Requester,
        parent: u64,
        name: &OsStr,
        mode: u32,
        answer: Answer<Entry>,
    ) {
        let answer = self.noting(who, "create", answer);
        let caller = match self.caller(who) {
            Ok(caller) => caller,
            Err(error) => return answer(Err(error)),
        };
        match self.was_done(who) {
            Ok(true) => return answer(self.look_up(who, parent, name)),
            Ok(false) => {}
            Err(error) => return answer(Err(error)),
        }
        let mut decision = None;
        let draft = self.draft_new(who, &caller, parent, name, mode, true, &mut decision);
        let origin = self.origin(who);
        let (fs, for_look_up, name) = (Arc::clone(self), *who, name.to_owned());
        let known = Ok(Arc::clone(&caller));
        self.record(who, caller, decision, draft, move |draft, recorded| {
            let draft = match recorded.and(draft) {
                Ok(draft) => draft,
                Err(error) => return answer(Err(error)),
            };
            let stored = {
                let fs = Arc::clone(&fs);
                Box::new(move |outcome: Result<(), FsError>| {
                    // The thread that stores waits for no name service.
                    let _known = KnownCaller::new(for_look_up.uid, known);
                    answer(outcome.and_then(|()| fs.look_up(&for_look_up, parent, &name)));
                })
            };
            fs.commit(draft, Occasion::Create, origin, stored);
        });
    }

    fn create_quietly(
        &self,
        who: &Requester,
        caller: &Caller,
        parent: u64,
        name: &OsStr,
        how: Creation,
        decision: &mut Option<Decision>,
    ) -> Result<(Entry, Opened), FsError> {
        if let Some(directory) = self.drop_directory(parent) {
            return self.create_dropped(who, &directory, name, how.mode);
        }
        let Creation { mode, exclusive, .. } = how;
        let directory = self.directory(who, parent)?;
        let text = checked_name(&directory, name)?;
        if self.scratch.is_name(who.uid, &directory, text)
            || (how.is_mkstemp() && may_be_temporary_name(text))
        {
            return self.create_scratch(who, caller, parent, name, mode);
        }
        let draft = match self.created_before(who, parent, name)? {
            Some(draft) => {
                // The process before this one may have died before it put that on record.
                *decision = Some(Decision::new(Action::Create, Subject::of(draft.path())));
                draft
            }
            None => self.draft_new(who, caller, parent, name, mode, exclusive, decision)?,
        };
        let opened = self.start_once(who, caller, Arc::clone(&draft))?;
        Ok((self.private_entry(Node::Draft(draft), caller)?, opened))
    }

    /// What the process before this one made for the same request, and did not say so.
    fn created_before(
        &self,
        who: &Requester,
        parent: u64,
        name: &OsStr,
    ) -> Result<Option<Arc<Draft>>, FsError> {
        if !who.is_resent {
            return Ok(None);
        }
        let directory = self.directory(who, parent)?;
        Ok(self.drafts.creating(&join(&directory, checked_name(&directory, name)?), who))
    }

    #[allow(clippy::too_many_arguments)]
    fn draft_new(
        &self,
        who: &Requester,
        caller: &Caller,
        parent: u64,
        name: &OsStr,
        mode: u32,
        exclusive: bool,
        decision: &mut Option<Decision>,
    ) -> Result<Arc<Draft>, FsError> {
        let directory = self.directory(who, parent)?;
        let path = join(&directory, checked_name(&directory, name)?);
        let key = match checked_key(&path) {
            // The caller wants to write the lists of a secret that does not exist.
            Err(FsError::BadName { error: KeyError::SidecarName, .. }) => {
                return Err(FsError::NotFound(path));
            }
            key => key?,
        };
        // The kernel asked a moment ago and was answered that nothing is there. That may have changed since.
        if let Some(secret) = self.vault.secret(&path) {
            if exclusive {
                return Err(FsError::Exists(path));
            }
            self.decide(decision, Action::Create, caller, Operation::Write, &secret)?;
        }
        let inherited_lists = self.inherited_lists(who, &path);
        decision
            .get_or_insert_with(|| Decision::new(Action::Create, Subject::of(path.as_str())))
            .granted(self.vault.check_create(caller, &key, inherited_lists.as_ref())?);
        // While it is being written a file shows itself as writable: programs that compare modes
        // (vim) then write in place instead of replacing the file.
        let mode = (mode & 0o777) as u16 | 0o200;
        let target = WriteTarget::New { key, exclusive, inherited_lists };
        // A thread that was to write a secret which has been removed since creates it instead.
        self.tasks.take(who, None, |note| match note {
            Note::Rewrite { path: None, only: None, .. } => Some(()),
            _ => None,
        });
        let node = self.nodes.next_private();
        let creator = process_of(who.task);
        let opener = self.opener(who, caller, &path)?;
        Ok(Arc::new(Draft::of_new(node, opener, creator, &path, target, mode)))
    }

    fn create_scratch(
        &self,
        who: &Requester,
        caller: &Caller,
        parent: u64,
        name: &OsStr,
        mode: u32,
    ) -> Result<(Entry, Opened), FsError> {
        let directory = self.directory(who, parent)?;
        let name = checked_name(&directory, name)?;
        self.may_make(caller, &directory, name)?;
        if name.chars().any(char::is_control) {
            let error = KeyError::ControlCharacter;
            return Err(FsError::BadName { path: join(&directory, name), error });
        }
        let path = join(&directory, name);
        let charge = self.budget.charge(Account::of(caller), Scratch::BYTES, &path)?;
        let (node, owner) = (self.nodes.next_private(), (who.uid, who.gid));
        let scratch = Arc::new(Scratch::new(node, owner, mode as u16, charge));
        let opened = self.start_scratch(who, caller, Arc::clone(&scratch))?;
        if let Err(error) = self.scratch.put(&directory, name, Arc::clone(&scratch)) {
            self.handles.remove(opened.handle);
            return Err(error);
        }
        Ok((self.private_entry(Node::Scratch(scratch), caller)?, opened))
    }

    fn private_entry(&self, node: Node, caller: &Caller) -> Result<Entry, FsError> {
        let attr = self.attr_of(&node, caller)?;
        self.nodes.look_up(&node);
        Ok(Entry { attr, lifetime: NEVER })
    }

    /// Makes a directory, which lasts until it is emptied or removed.
    ///
    /// # Errors
    /// The caller may not make it, or it is there already.
    pub fn make_directory(
        &self,
        who: &Requester,
        parent: u64,
        name: &OsStr,
    ) -> Result<Entry, FsError> {
        let made = self.make_directory_quietly(who, parent, name);
        self.note(who, "mkdir", made)
    }

    fn make_directory_quietly(
        &self,
        who: &Requester,
        parent: u64,
        name: &OsStr,
    ) -> Result<Entry, FsError> {
        if let Some(directory) = self.drop_directory(parent) {
            self.make_drop_directory(who, &directory, name)?;
            return self.look_up(who, parent, name);
        }
        let caller = self.caller(who)?;
        let directory = self.directory(who, parent)?;
        let name_text = checked_name(&directory, name)?;
        let path = join(&directory, name_text);
        crate::model::Key::check_directory(&path)
            .map_err(|error| FsError::BadName { path: path.clone(), error })?;
        self.may_make(&caller, &directory, name_text)?;
        // It was made when this was asked for the first time.
        if who.is_resent && self.directories.is_by(&path, who.uid) {
            return self.look_up(who, parent, name);
        }
        if self.vault.is_directory(&path) || self.vault.secret(&path).is_some() {
            return Err(FsError::Exists(path));
        }
        let bytes = OBJECT_BYTES + SLOT_BYTES;
        let charge = self.budget.charge(Account::of(&caller), bytes, &path)?;
        self.directories.make(&path, who.uid, charge)?;
        self.look_up(who, parent, name)
    }

    /// Removes made directories that have the name of a new secret or of its sidecar. They were made while
    /// the secret was about to be created.
    pub(in crate::fs) fn directories_give_way(
        &self,
        changes: &[Change],
        stale: &mut Vec<StaleName>,
    ) {
        for change in changes {
            let Some(after) = &change.after else { continue };
            if change.before.as_ref().is_some_and(|before| before.key() == after.key()) {
                continue;
            }
            for path in [after.key().to_string(), format!("{}{SIDECAR_SUFFIX}", after.key())] {
                if self.directories.give_way(&path) {
                    stale.push(stale_name(&path));
                }
            }
        }
    }

    /// Whether the caller may make something of that name in a directory.
    pub(in crate::fs) fn may_make(
        &self,
        caller: &Caller,
        directory: &str,
        name: &str,
    ) -> Result<(), FsError> {
        let path = join(directory, name);
        match may_create(caller, &path) {
            _ if is_reserved(&path) => Err(crate::fs::nothing_is_made_in(&path)),
            Ok(_grant) => Ok(()),
            Err(denial) => Err(FsError::Denied { path, denial }),
        }
    }
}
