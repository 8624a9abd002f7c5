//! Texts that are open: status files, reports, sidecars. Equal ones of one file are held once, however many
//! descriptors show them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::model::{Caller, Plaintext};

use crate::fs::budget::{Account, Budget, Charge, HANDLE_BYTES, OBJECT_BYTES, buffer_bytes};
use crate::fs::error::FsError;
use crate::fs::kernel::handles::Handle;
use crate::fs::saved::SLOT_BYTES;
use crate::fs::{Caching, Fs, Opened};

/// A text as it was at some moment. It is no secret.
pub(in crate::fs) struct Text {
    pub(in crate::fs) bytes: Arc<Plaintext>,
    _charge: Charge,
}

/// Whose texts, and of which node.
type Place = (u32, u64);

/// The texts that were opened last, as long as they are open. The lock is a leaf.
#[derive(Default)]
pub(in crate::fs) struct Texts(Mutex<HashMap<Place, Weak<Text>>>);

/// Texts that are not open any more are looked for when there are more than this, and then at every
/// doubling.
const SWEEP: usize = 256;

impl Text {
    /// # Errors
    /// [`FsError::OutOfMemory`].
    pub(in crate::fs) fn new(
        budget: &Budget,
        account: Account,
        path: &str,
        text: String,
    ) -> Result<Self, FsError> {
        let charge = budget.charge(account, Self::bytes_of(&text), path)?;
        Ok(Self::with(charge, text))
    }

    /// A text that was open when another process served the mount.
    pub(in crate::fs) fn restored(budget: &Budget, account: Account, bytes: Vec<u8>) -> Self {
        let charge = budget.restore(account, OBJECT_BYTES + bytes.len());
        Self { bytes: Arc::new(Plaintext::from(bytes)), _charge: charge }
    }

    fn with(charge: Charge, text: String) -> Self {
        Self { bytes: Arc::new(Plaintext::from(text.into_bytes())), _charge: charge }
    }

    fn bytes_of(text: &str) -> usize {
        OBJECT_BYTES + buffer_bytes(text.len())
    }
}

impl Texts {
    /// The one copy of this text, which a node shows to a user.
    fn share(
        &self,
        budget: &Budget,
        caller: &Caller,
        node: u64,
        path: &str,
        text: String,
    ) -> Result<Arc<Text>, FsError> {
        let mut texts = self.0.lock();
        if texts.len() >= SWEEP && texts.len().is_power_of_two() {
            texts.retain(|_, text| text.strong_count() > 0);
        }
        let place = texts.entry((caller.uid(), node)).or_default();
        if let Some(shared) = place.upgrade().filter(|one| one.bytes.expose() == text.as_bytes()) {
            return Ok(shared);
        }
        let shared = Arc::new(Text::new(budget, Account::of(caller), path, text)?);
        *place = Arc::downgrade(&shared);
        Ok(shared)
    }
}

impl Fs {
    /// Opens the text that a node shows to the caller now.
    pub(in crate::fs) fn text(
        &self,
        caller: &Caller,
        node: u64,
        path: &str,
        text: String,
    ) -> Result<Opened, FsError> {
        let text = self.texts.share(&self.budget, caller, node, path, text)?;
        self.open_text(caller, path, text)
    }

    /// Opens a text.
    pub(in crate::fs) fn open_text(
        &self,
        caller: &Caller,
        path: &str,
        text: Arc<Text>,
    ) -> Result<Opened, FsError> {
        let slot = if text.bytes.len() < SLOT_BYTES { SLOT_BYTES } else { 0 };
        let charge = self.budget.charge(Account::of(caller), HANDLE_BYTES + slot, path)?;
        let handle = self.handles.add(Handle::Text(text), charge);
        Ok(Opened { handle, caching: Caching::Private })
    }
}
