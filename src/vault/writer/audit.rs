//! The writer's part in the audit log: a line for each change before it is stored, and another one if it
//! could not be.

use std::borrow::Cow;

use crate::audit::{Event, NotRecorded, Subject};
use crate::vault::audit::imported;
use crate::vault::error::VaultError;

use super::Request;
use super::thread::{Planned, Writer};

/// So many lines are recorded at once: another thread that waits for the log waits for no more than these.
const LINES_AT_ONCE: usize = 256;
impl Planned {
    /// What goes on record: a line each, without the first `passed`.
    fn lines(&self, passed: usize) -> impl Iterator<Item = Cow<'_, Subject>> {
        let changes = self.changes.iter().zip(&self.grants);
        let changes = changes.skip(passed.saturating_sub(self.subjects.len()));
        let made = changes.map(|(change, grant)| Cow::Owned(imported(change, grant.as_ref())));
        self.subjects.iter().skip(passed).map(Cow::Borrowed).chain(made)
    }
}

impl Writer {
    /// Puts on record what a group is about to do. If it fails, some lines may be there.
    pub(super) fn record(&self, group: &mut [Planned]) -> Result<(), NotRecorded> {
        if !self.shared.audit.is_on() {
            return Ok(());
        }
        let (mut events, mut whose) = (Vec::new(), Vec::new());
        for at in 0..group.len() {
            if group[at].recorded.is_some() {
                continue;
            }
            group[at].recorded = Some(Vec::new());
            let mut next = 0;
            loop {
                let one = &group[at];
                let room = LINES_AT_ONCE - events.len();
                let lines = one.request.context.iter().flat_map(|context| {
                    one.lines(next).take(room).map(|subject| context.allowed(&subject))
                });
                let before = events.len();
                events.extend(lines);
                next += events.len() - before;
                whose.resize(events.len(), at);
                if events.len() < LINES_AT_ONCE {
                    break;
                }
                self.record_some(group, &mut events, &mut whose)?;
            }
        }
        self.record_some(group, &mut events, &mut whose)
    }

    /// Puts events on record, each of the request of that number in the group.
    fn record_some(
        &self,
        group: &mut [Planned],
        events: &mut Vec<Event>,
        whose: &mut Vec<usize>,
    ) -> Result<(), NotRecorded> {
        let first = self.shared.audit.record_now(std::mem::take(events))?;
        for (number, at) in (first..).zip(whose.drain(..)) {
            // In `best-effort` there may be no lines.
            if first > 0 {
                group[at].recorded.get_or_insert_default().push(number);
            }
        }
        Ok(())
    }

    /// Puts on record that what is on record did not happen.
    pub(super) fn correct(&self, group: &[Planned], error: &VaultError) {
        let code = (self.shared.name_error)(error);
        let lines = group.iter().flat_map(|one| {
            let numbers = one.recorded.iter().flatten();
            one.request.context.iter().flat_map(move |context| {
                numbers
                    .clone()
                    .zip(one.lines(0))
                    .map(move |(&number, subject)| (context, number, subject))
            })
        });
        let mut events = lines.map(|(context, number, subject)| {
            Event::new(&context.actor, context.action, &subject, Err(&code)).correcting(number)
        });
        loop {
            let some: Vec<_> = events.by_ref().take(LINES_AT_ONCE).collect();
            // The request fails in any case; a log that cannot be written is reported by its own status.
            if some.is_empty() || self.shared.audit.record_now(some).is_err() {
                return;
            }
        }
    }

    /// Answers a request that cannot be planned.
    pub(super) fn refuse(&self, request: Request, error: VaultError) {
        let code = (self.shared.name_error)(&error);
        let attempt = request.context.as_ref().and_then(|context| context.failed(&error, code));
        let recorded = self.shared.audit.decide_now(attempt.into_iter().collect());
        (request.done)(Err(recorded.map_or_else(VaultError::from, |()| error)));
    }
}
