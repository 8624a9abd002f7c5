//! What a descriptor shows once it has a lock: the current value, if it has not written yet.

use std::sync::Arc;

use crate::document::emit_lists;
use crate::fs::files::draft::{Draft, Target};
use crate::fs::files::texts::Text;
use crate::fs::kernel::handles::Handle;
use crate::fs::{Fs, FsError};
use crate::model::Operation;
use crate::vault::{RecordId, WriteTarget};

use super::saved::LockedFile;
use super::table::{Answer, Request};

impl Fs {
    /// Answers a request whose lock was granted, once its descriptor shows the current value.
    pub(super) fn show_current(self: &Arc<Self>, granted: &Request, answer: Answer) {
        match self.handles.find(granted.owner.handle) {
            Ok(Handle::Draft(draft)) => self.show_current_to_writer(&draft, answer),
            Ok(Handle::Text { .. }) => answer(self.show_current_lists(granted)),
            Ok(Handle::Version { .. }) | Err(_) => self.show_current_to_reader(granted, answer),
            _ => answer(Ok(())),
        }
    }

    fn show_current_to_writer(self: &Arc<Self>, draft: &Arc<Draft>, answer: Answer) {
        match draft.target() {
            Target::Value(WriteTarget::Existing(record)) => {
                if let Some(secret) = self.vault.secret_of(record) {
                    draft.show_current(secret.value());
                }
                answer(Ok(()));
            }
            Target::Value(WriteTarget::New { .. }) => self.open_created(Arc::clone(draft), answer),
            Target::Lists(record) => answer(match self.vault.secret_of(record) {
                Some(secret) => draft.show_lists(&emit_lists(secret.acl())),
                None => Ok(()),
            }),
        }
    }

    fn show_current_lists(&self, granted: &Request) -> Result<(), FsError> {
        let LockedFile::Sidecar(record) = granted.file else { return Ok(()) };
        let Some(secret) = self.vault.secret_of(RecordId::from_u64(record)) else { return Ok(()) };
        let Request { account, owner, .. } = *granted;
        let text = Text::new(&self.budget, account, "a lock", emit_lists(secret.acl()))?;
        self.handles.replace(owner.handle, self.on_text(account, owner.handle, Arc::new(text)));
        Ok(())
    }

    /// Another process may have created the same file before it had the lock.
    pub(in crate::fs) fn open_created(self: &Arc<Self>, draft: Arc<Draft>, answer: Answer) {
        if self.vault.secret(&draft.path()).is_none() {
            return answer(Ok(()));
        }
        let fs = Arc::clone(self);
        self.with_caller(draft.uid(), move |caller| {
            if let (Ok(caller), Some(secret)) = (caller, fs.vault.secret(&draft.path())) {
                let may = |operation| fs.vault.check(&caller, operation, &secret).is_ok();
                // Or else the commit decides.
                if may(Operation::Write) && may(Operation::Read) {
                    fs.drafts.refile(&draft, || draft.open_created(secret.value()));
                }
            }
            answer(Ok(()));
        });
    }
}
