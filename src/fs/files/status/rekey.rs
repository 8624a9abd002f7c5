//! `.status/rekey`: reading tells how far it is, writing `start` or `count` starts it. For admins.

use std::fmt::Write;

use crate::model::{Caller, Plaintext};
use crate::vault::{RekeyState, RekeyStatus, RekeyTask};

use super::StatusFile;
use crate::fs::budget::{Account, HANDLE_BYTES, buffer_bytes};
use crate::fs::kernel::handles::Handle;
use crate::fs::{Caching, Fs, FsError, Opened, Request};

/// What can be written.
const COMMANDS: &str = "write `start` to re-seal, or `count` to count the records of each key";

impl Fs {
    /// Opens the control file; what is read is the text of this moment.
    pub(in crate::fs) fn open_control(&self, caller: &Caller) -> Result<Opened, FsError> {
        self.vault.check_rekey(caller)?;
        let text = self.status_text(StatusFile::Rekey, caller);
        let bytes = HANDLE_BYTES + buffer_bytes(text.len());
        let charge = self.budget.charge(Account::of(caller), bytes, ".status/rekey")?;
        let handle = Handle::Control(Plaintext::from(text.into_bytes()).into());
        Ok(Opened { handle: self.handles.add(handle, charge), caching: Caching::Private })
    }

    /// Whether what is written to this handle is a command, which needs to know its caller.
    pub fn is_control(&self, handle: u64) -> bool {
        matches!(self.handles.find(handle), Ok(Handle::Control(_)))
    }

    /// A command; each write is one.
    pub(in crate::fs) fn control(&self, request: &Request, bytes: &[u8]) -> Result<(), FsError> {
        let task = match bytes.trim_ascii() {
            b"start" => RekeyTask::Reseal,
            b"count" => RekeyTask::Count,
            _ => return Err(FsError::BadCommand { path: ".status/rekey", what: COMMANDS }),
        };
        let actor = self.actor(request, self.caller(request)?);
        Ok(self.vault.start_rekey(&actor, task)?)
    }

    /// YAML. Ids stand in quotes: some look like numbers.
    pub(in crate::fs) fn rekey_text(&self) -> String {
        let (current, in_use) = self.vault.key_ids();
        let status = self.vault.rekey_status();
        let mut text = String::new();
        write_status(&mut text, &status).expect("a string takes all");
        writeln!(text, "current: \"{current}\"").expect("a string takes all");
        text.push_str("needed:\n");
        in_use.iter().for_each(|id| text.push_str(&format!("- \"{id}\"\n")));
        text
    }
}

fn write_status(text: &mut String, status: &RekeyStatus) -> std::fmt::Result {
    let state = match &status.state {
        RekeyState::Idle => "idle",
        RekeyState::Running(RekeyTask::Reseal) => "running",
        RekeyState::Running(RekeyTask::Count) => "counting",
        RekeyState::Done(RekeyTask::Reseal) => "done",
        RekeyState::Done(RekeyTask::Count) => "counted",
        RekeyState::Failed(_) => "failed",
    };
    writeln!(text, "state: {state}")?;
    if let RekeyState::Failed(why) = &status.state {
        writeln!(text, "error: {}", quoted(why))?;
    }
    if let Some(ended) = status.ended {
        writeln!(text, "ended: \"{}\"", ended.to_rfc3339())?;
    }
    let RekeyStatus { seen, expected, resealed, unreadable, .. } = status;
    writeln!(text, "seen: {seen}\nexpected: {expected}\nresealed: {resealed}")?;
    text.push_str(if status.counts.is_empty() { "records: {}\n" } else { "records:\n" });
    for (id, count) in &status.counts {
        writeln!(text, "  \"{id}\": {count}")?;
    }
    writeln!(text, "unreadable: {unreadable}")?;
    if !status.unreadable_named.is_empty() {
        text.push_str("unreadable-named:\n");
    }
    status.unreadable_named.iter().try_for_each(|one| writeln!(text, "- {}", quoted(one)))
}

/// A JSON string is a YAML one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
