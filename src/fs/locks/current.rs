//! What a descriptor shows once it has a lock: the current value, if it has not written yet.

use std::sync::Arc;

use crate::document::emit_lists;
use crate::fs::files::draft::{Draft, Target};
use crate::fs::files::texts::Text;
use crate::fs::kernel::handles::Handle;
use crate::fs::{Fs, FsError, Request};
use crate::model::Operation;
use crate::vault::{RecordId, WriteTarget};

use super::saved::LockedFile;
use super::table::LockRequest;

impl Fs {
    /// A lock was granted: waits until its descriptor shows the current value.
    pub(super) async fn show_current(
        self: &Arc<Self>,
        request: &Request,
        granted: &LockRequest,
    ) -> Result<(), FsError> {
        match self.handles.find(granted.owner.handle) {
            Ok(Handle::Draft(draft)) => self.show_current_to_writer(request, &draft).await,
            Ok(Handle::Text(_)) => self.show_current_lists(granted),
            Ok(Handle::Version { .. }) | Err(_) => self.show_current_to_reader(granted).await,
            _ => Ok(()),
        }
    }

    async fn show_current_to_writer(
        self: &Arc<Self>,
        request: &Request,
        draft: &Arc<Draft>,
    ) -> Result<(), FsError> {
        match draft.target() {
            Target::Value(WriteTarget::Existing(record)) => {
                if let Some(secret) = self.vault.secret_of(record) {
                    draft.show_current(secret.value());
                }
            }
            Target::Value(WriteTarget::New { .. }) => self.open_created(request, draft).await,
            Target::Lists(record) => {
                if let Some(secret) = self.vault.secret_of(record) {
                    draft.show_lists(&emit_lists(secret.acl()))?;
                }
            }
        }
        Ok(())
    }

    fn show_current_lists(&self, granted: &LockRequest) -> Result<(), FsError> {
        let LockedFile::Sidecar(record) = granted.file else { return Ok(()) };
        let Some(secret) = self.vault.secret_of(RecordId::from_u64(record)) else { return Ok(()) };
        let LockRequest { account, owner, .. } = *granted;
        let text = Text::new(&self.budget, account, "a lock", emit_lists(secret.acl()))?;
        self.handles.replace(owner.handle, Handle::Text(Arc::new(text)));
        Ok(())
    }

    /// Another process may have created the same file before it had the lock.
    pub(in crate::fs) async fn open_created(
        self: &Arc<Self>,
        request: &Request,
        draft: &Arc<Draft>,
    ) {
        if self.vault.secret(&draft.path()).is_none() {
            return;
        }
        let caller = self.caller_of(request, draft.uid()).await;
        if let (Ok(caller), Some(secret)) = (caller, self.vault.secret(&draft.path())) {
            let may = |operation| self.vault.check(&caller, operation, &secret).is_ok();
            // Or else the commit decides.
            if may(Operation::Write) && may(Operation::Read) {
                self.drafts.refile(draft, || draft.open_created(secret.value()));
            }
        }
    }
}
