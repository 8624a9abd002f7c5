//! A decision on its way to the log: what is compared with others, and what a line tells.

use std::hash::{Hash, Hasher};

use super::super::event::{Action, Actor, ErrorCode, Event, Subject};

/// What somebody did, or tried to do, and how it went.
#[derive(Clone)]
pub struct Attempt {
    /// Who.
    pub actor: Actor,
    /// What.
    pub action: Action,
    /// To what.
    pub subject: Subject,
    /// The error that the caller gets, if it failed.
    pub error: Option<ErrorCode>,
}

impl Attempt {
    /// Its line.
    pub fn event(&self) -> Event {
        let outcome = self.error.as_ref().map_or(Ok(()), Err);
        Event::new(&self.actor, self.action, &self.subject, outcome)
    }

    /// Its line without the number of one request: it tells of several.
    pub(super) fn event_of_many(&self) -> Event {
        let mut many = self.clone();
        many.actor.process.request = 0;
        many.event()
    }

    /// Whether it needs no right, so that anybody can make as many as the machine bears.
    pub(super) fn is_free(&self) -> bool {
        self.error.is_some() || self.action == Action::Encrypt
    }

    /// Whether the lines of both would tell the same but for time and request.
    pub(super) fn equals(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.actor, &other.actor);
        ours.process.pid == theirs.process.pid
            && ours.caller.uid() == theirs.caller.uid()
            && self.action == other.action
            && self.subject == other.subject
            && self.error == other.error
            && ours.process.gid == theirs.process.gid
            && ours.process.program == theirs.process.program
            && ours.caller.own_slug() == theirs.caller.own_slug()
    }
}

/// What tells attempts apart quickly; [`Attempt::equals`] decides.
impl Hash for Attempt {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (uid, pid) = (self.actor.caller.uid(), self.actor.process.pid);
        state.write_u64(u64::from(uid) << 32 | u64::from(pid));
        let error = self.error.as_ref().map_or(0, |error| error.number.cast_unsigned());
        state.write_u64(u64::from(error) << 32 | self.action as u64);
        state.write_u64(self.subject.version.unwrap_or(0));
        if let Some(key) = &self.subject.key {
            state.write(key.as_bytes());
        }
    }
}

/// A sum of attempts that need no right, beyond those that are written one by one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Sum {
    /// None for all callers without a slug.
    pub(super) uid: Option<u32>,
    pub(super) slug: Option<String>,
    pub(super) action: u8,
    pub(super) error: i32,
}

impl Sum {
    /// The one that an attempt belongs to.
    pub(super) fn of(attempt: &Attempt, uid: Option<u32>) -> Self {
        let slug = attempt.actor.caller.own_slug().map(ToString::to_string);
        let error = attempt.error.as_ref().map_or(0, |error| error.number);
        Self { uid, slug, action: attempt.action as u8, error }
    }
}
