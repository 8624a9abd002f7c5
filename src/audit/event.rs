//! What is put on record.

use std::sync::Arc;

use crate::model::{Caller, Grant, ListName};

use super::json;
use super::repeats::Counted;

/// What somebody did, or tried to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Opened a secret.
    Open,
    /// Opened a sidecar.
    OpenLists,
    /// Created a file that is to become a secret.
    Create,
    /// Stored a value: a new secret (version 1) or a new version.
    Commit,
    /// Removed a secret.
    Delete,
    /// Moved a secret.
    Rename,
    /// Changed lists.
    ChangeLists,
    /// Applied a document.
    Import,
    /// Exported a secret, sealed.
    Export,
    /// Had a value sealed.
    Encrypt,
    /// Sealed everything anew under the current key.
    Rekey,
}

impl Action {
    /// As it is written in a line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::OpenLists => "open-lists",
            Self::Create => "create",
            Self::Commit => "commit",
            Self::Delete => "delete",
            Self::Rename => "rename",
            Self::ChangeLists => "change-lists",
            Self::Import => "import",
            Self::Export => "export",
            Self::Encrypt => "encrypt",
            Self::Rekey => "rekey",
        }
    }
}

/// What a secret was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Both.
    ReadWrite,
}

impl Access {
    fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::ReadWrite => "read-write",
        }
    }
}

/// The process that asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its group.
    pub gid: u32,
    /// Its id; 0 if it lives in a PID namespace that the daemon does not see.
    pub pid: u32,
    /// The name of its program (`/proc/<pid>/comm`, which a process may choose), if it is known.
    pub program: Option<Arc<str>>,
    /// The number of its request to the mount, which the log of the daemon shows too; 0 if it made
    /// none. What is written goes by the request that opened it.
    pub request: u64,
}

/// Who did something: the caller that decides, and the process for the record.
#[derive(Clone)]
pub struct Actor {
    /// Whose rights decide.
    pub caller: Arc<Caller>,
    /// The process.
    pub process: Process,
}

/// What it was done to, and what allowed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The key of the secret; none where there is no single one.
    pub key: Option<String>,
    /// The version that was opened, or came of it.
    pub version: Option<u64>,
    /// The new name, of what was moved.
    pub to: Option<String>,
    /// What a secret was opened for.
    pub access: Option<Access>,
    /// The lists that changed.
    pub lists: Vec<ListName>,
    /// Whether the value that was written is the one that was there.
    pub unchanged: bool,
    /// What allowed it.
    pub grant: Option<Grant>,
}

impl Subject {
    /// Something that happened to the secret `key`.
    pub fn of(key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..Self::default() }
    }
}

/// The error number that the caller gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// The number (errno(3)).
    pub number: i32,
    /// Its name: `EACCES`.
    pub name: String,
    /// Whether it means that the caller may not, and not that something went wrong.
    pub denied: bool,
}

/// One event, on its way to becoming a line.
pub struct Event {
    body: Vec<u8>,
    /// What was counted, where it tells of that.
    counted: Option<Counted>,
    standing: Standing,
}

/// Whether a line may be written where only the reserve is left of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It may: the daemon's own lines, removals, and what admins do.
    Reserved,
    /// It may, within the share of that UID: what it was allowed to read.
    ReservedFor(u32),
    /// It may not: it is about to fill the disk.
    Changes,
    /// It may not, and nothing is lost but the line: the caller gets nothing.
    Refused,
}

impl Standing {
    fn of(actor: &Actor, action: Action, subject: &Subject, is_allowed: bool) -> Self {
        let reads = matches!(subject.access, None | Some(Access::Read));
        match action {
            _ if actor.caller.is_admin() => Self::Reserved,
            _ if !is_allowed => Self::Refused,
            Action::Delete => Self::Reserved,
            Action::Open | Action::OpenLists if reads => Self::ReservedFor(actor.caller.uid()),
            _ => Self::Changes,
        }
    }
}

/// A line has about 300 bytes.
const USUAL_BYTES: usize = 384;

impl Event {
    /// What `actor` did to `subject`, and how it went.
    pub fn new(
        actor: &Actor,
        action: Action,
        subject: &Subject,
        outcome: Result<(), &ErrorCode>,
    ) -> Self {
        let mut event = Self::outcome(action, outcome.err());
        write_actor(&mut event.body, actor);
        write_subject(&mut event.body, subject);
        event.standing = Standing::of(actor, action, subject, outcome.is_ok());
        event
    }

    /// The beginning: what was done and how it went.
    pub(super) fn outcome(action: Action, error: Option<&ErrorCode>) -> Self {
        let mut body = Vec::with_capacity(USUAL_BYTES);
        let out = &mut body;
        json::word!(out, "op", action.as_str());
        match error {
            None => out.extend_from_slice(b",\"outcome\":\"allowed\",\"errno\":0"),
            Some(code) => {
                json::word!(out, "outcome", if code.denied { "denied" } else { "failed" });
                json::number!(out, "errno", code.number.unsigned_abs());
                json::text!(out, "error", &code.name);
            }
        }
        Self { body, counted: None, standing: Standing::Reserved }
    }

    /// The line of `count` decisions that `body` tells of.
    pub(super) fn counted(mut body: Vec<u8>, count: u64, counted: Counted) -> Self {
        json::number!(&mut body, "repeats", count);
        Self { body, counted: Some(counted), standing: Standing::Reserved }
    }

    /// Something that the daemon itself has to say.
    pub(super) fn own(op: &'static str, fill: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut body = Vec::with_capacity(USUAL_BYTES);
        json::word!(&mut body, "op", op);
        fill(&mut body);
        Self { body, counted: None, standing: Standing::Reserved }
    }

    /// Says that this corrects the line `seq`: what was allowed there did not happen.
    #[must_use]
    pub fn correcting(mut self, seq: u64) -> Self {
        json::number!(&mut self.body, "of", seq);
        // The line that it corrects is there, and must not stay as it is.
        self.standing = Standing::Reserved;
        self
    }

    /// Whether it may be written into the reserve.
    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    /// Fields, each with a comma before it.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(super) fn body_mut(&mut self) -> &mut Vec<u8> {
        &mut self.body
    }

    /// What was counted, where it tells of that.
    pub(super) fn count(&self) -> Option<&Counted> {
        self.counted.as_ref()
    }
}

fn write_actor(out: &mut Vec<u8>, actor: &Actor) {
    json::number!(out, "uid", actor.caller.uid());
    json::number!(out, "gid", actor.process.gid);
    json::number!(out, "pid", actor.process.pid);
    if let Some(program) = &actor.process.program {
        json::text!(out, "program", program);
    }
    if actor.process.request != 0 {
        json::number!(out, "request", actor.process.request);
    }
    if let Some(slug) = actor.caller.own_slug() {
        json::word!(out, "slug", slug.as_str());
    }
}

fn write_subject(out: &mut Vec<u8>, subject: &Subject) {
    if let Some(key) = &subject.key {
        json::text!(out, "key", key);
    }
    if let Some(to) = &subject.to {
        json::text!(out, "to", to);
    }
    if let Some(version) = subject.version {
        json::number!(out, "version", version);
    }
    if let Some(access) = subject.access {
        json::word!(out, "access", access.as_str());
    }
    if !subject.lists.is_empty() {
        json::words(out, ",\"lists\":", subject.lists.iter().map(|list| list.as_str()));
    }
    if subject.unchanged {
        out.extend_from_slice(b",\"unchanged\":true");
    }
    match &subject.grant {
        Some(Grant::Listed { slug, list }) => {
            json::unquoted(out, ",\"grant\":{\"slug\":\"", slug.as_str());
            json::word!(out, "list", list.as_str());
            out.push(b'}');
        }
        Some(Grant::OwnDirectory) => out.extend_from_slice(b",\"grant\":{\"rule\":\"own-folder\"}"),
        Some(Grant::Admin) => out.extend_from_slice(b",\"grant\":{\"rule\":\"admin\"}"),
        None => {}
    }
}
