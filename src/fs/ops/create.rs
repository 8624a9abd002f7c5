//! Making files and directories.

use std::ffi::{OsStr, OsString};
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
use crate::fs::caller::proc::process_of;
use crate::fs::files::draft::{Draft, Occasion};
use crate::fs::files::scratch::Scratch;
use crate::fs::kernel::invalidator::StaleName;
use crate::fs::kernel::nodes::Node;
use crate::fs::kernel::retries::Note;
use crate::fs::saved::SLOT_BYTES;
use crate::fs::{Entry, Fs, FsError, NEVER, Opened, Request, checked_key, checked_name, join};

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
    pub async fn create(
        self: Arc<Self>,
        mut request: Request,
        parent: u64,
        name: OsString,
        how: Creation,
    ) -> Result<(Entry, Opened), FsError> {
        let created = self.create_open(&mut request, parent, &name, how);
        // Without a record nothing is created.
        if let Err(unrecorded) = self.record(&mut request, created.as_ref().err()).await {
            if let Ok((entry, opened)) = &created {
                self.undo_open(opened);
                self.forget(entry.attr.node, 1);
            }
            return Err(unrecorded);
        }
        created
    }

    /// Creates an empty secret and stores it before the answer (`mknod` of a regular file).
    ///
    /// # Errors
    /// As [`Fs::create`], or it cannot be stored.
    pub async fn create_closed(
        self: Arc<Self>,
        mut request: Request,
        parent: u64,
        name: OsString,
        mode: u32,
    ) -> Result<Entry, FsError> {
        if !self.was_done(&request)? {
            let caller = self.caller(&request)?;
            let draft = self.draft_new(&mut request, &caller, parent, &name, mode, true);
            self.record(&mut request, draft.as_ref().err()).await?;
            self.commit(&request, &draft?, Occasion::Create).await?;
        }
        // This goes on on the writer's thread, and a lookup may wait for another commit.
        let (fs, uid) = (Arc::clone(&self), request.uid);
        self.executor.done(uid.into(), move || fs.look_up(&request, parent, &name)).await?
    }

    fn create_open(
        &self,
        request: &mut Request,
        parent: u64,
        name: &OsStr,
        how: Creation,
    ) -> Result<(Entry, Opened), FsError> {
        let caller = &*self.caller(request)?;
        if let Some(directory) = self.drop_directory(parent) {
            return self.create_dropped(request, &directory, name, how.mode);
        }
        let Creation { mode, exclusive, .. } = how;
        let directory = self.directory(request, parent)?;
        let text = checked_name(&directory, name)?;
        if self.scratch.is_name(request.uid, &directory, text)
            || (how.is_mkstemp() && may_be_temporary_name(text))
        {
            return self.create_scratch(request, caller, parent, name, mode);
        }
        let draft = match self.created_before(request, parent, name)? {
            Some(draft) => {
                // The process before this one may have died before it put that on record.
                request.decision = Some(Decision::new(Action::Create, Subject::of(draft.path())));
                draft
            }
            None => self.draft_new(request, caller, parent, name, mode, exclusive)?,
        };
        let opened = self.start_once(request, caller, Arc::clone(&draft))?;
        Ok((self.private_entry(Node::Draft(draft), caller)?, opened))
    }

    /// What the process before this one made for the same request, and did not say so.
    fn created_before(
        &self,
        request: &Request,
        parent: u64,
        name: &OsStr,
    ) -> Result<Option<Arc<Draft>>, FsError> {
        if !request.is_resent {
            return Ok(None);
        }
        let directory = self.directory(request, parent)?;
        Ok(self.drafts.creating(&join(&directory, checked_name(&directory, name)?), request))
    }

    fn draft_new(
        &self,
        request: &mut Request,
        caller: &Caller,
        parent: u64,
        name: &OsStr,
        mode: u32,
        exclusive: bool,
    ) -> Result<Arc<Draft>, FsError> {
        let directory = self.directory(request, parent)?;
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
            self.decide(request, Action::Create, caller, Operation::Write, &secret)?;
        }
        let inherited_lists = self.inherited_lists(request, &path);
        let decision = &mut request.decision;
        decision
            .get_or_insert_with(|| Decision::new(Action::Create, Subject::of(path.as_str())))
            .granted(self.vault.check_create(caller, &key, inherited_lists.as_ref())?);
        // While it is being written a file shows itself as writable: programs that compare modes
        // (vim) then write in place instead of replacing the file.
        let mode = (mode & 0o777) as u16 | 0o200;
        let target = WriteTarget::New { key, exclusive, inherited_lists };
        // A thread that was to write a secret which has been removed since creates it instead.
        self.tasks.take(request, None, |note| match note {
            Note::Rewrite { path: None, only: None, .. } => Some(()),
            _ => None,
        });
        let node = self.nodes.next_private();
        let creator = process_of(request.task);
        let opener = self.opener(request, caller, &path)?;
        Ok(Arc::new(Draft::of_new(node, opener, creator, &path, target, mode)))
    }

    fn create_scratch(
        &self,
        request: &Request,
        caller: &Caller,
        parent: u64,
        name: &OsStr,
        mode: u32,
    ) -> Result<(Entry, Opened), FsError> {
        let directory = self.directory(request, parent)?;
        let name = checked_name(&directory, name)?;
        self.may_make(caller, &directory, name)?;
        if name.chars().any(char::is_control) {
            let error = KeyError::ControlCharacter;
            return Err(FsError::BadName { path: join(&directory, name), error });
        }
        let path = join(&directory, name);
        let charge = self.budget.charge(Account::of(caller), Scratch::BYTES, &path)?;
        let (node, owner) = (self.nodes.next_private(), (request.uid, request.gid));
        let scratch = Arc::new(Scratch::new(node, owner, mode as u16, charge));
        let opened = self.start_scratch(request, caller, Arc::clone(&scratch))?;
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
        request: &Request,
        parent: u64,
        name: &OsStr,
    ) -> Result<Entry, FsError> {
        if let Some(directory) = self.drop_directory(parent) {
            self.make_drop_directory(request, &directory, name)?;
            return self.look_up(request, parent, name);
        }
        let caller = self.caller(request)?;
        let directory = self.directory(request, parent)?;
        let name_text = checked_name(&directory, name)?;
        let path = join(&directory, name_text);
        crate::model::Key::check_directory(&path)
            .map_err(|error| FsError::BadName { path: path.clone(), error })?;
        self.may_make(&caller, &directory, name_text)?;
        // It was made when this was asked for the first time.
        if request.is_resent && self.directories.is_by(&path, request.uid) {
            return self.look_up(request, parent, name);
        }
        if self.vault.is_directory(&path) || self.vault.secret(&path).is_some() {
            return Err(FsError::Exists(path));
        }
        let bytes = OBJECT_BYTES + SLOT_BYTES;
        let charge = self.budget.charge(Account::of(&caller), bytes, &path)?;
        self.directories.make(&path, request.uid, charge)?;
        self.look_up(request, parent, name)
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
