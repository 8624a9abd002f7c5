//! What waits for the log, and what those who wait are told.

use super::chain::ChainKey;
use super::event::Event;

/// Why an event is not on record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    /// It cannot be written.
    #[error(
        "the audit log cannot be written, and without a record nothing is done: {0}; make room there, or start with --audit=best-effort"
    )]
    Failed(String),
    /// What is left of the disk is kept for those who read or remove secrets.
    #[error(
        "the file system of the state directory is full, and the rest of it is kept for the records of those who read or remove secrets: remove secrets, or have an admin free some space there"
    )]
    Full,
}

/// Called with the number of the line, once it is written; or with why it is not and must be.
pub(super) type Then = Box<dyn FnOnce(Result<u64, NotRecorded>) + Send>;

/// What waits for the end of the log.
pub(super) enum Item {
    Lines(Events, Then),
    /// Goes on in a new file.
    Rotate,
    /// Goes on in a new file, under another key.
    Key(ChainKey),
    /// Looks whether the disk has room again.
    Room,
    /// Brings the head up to date and to the disk.
    Settle,
}

/// Nearly always one: it has no room of its own in the heap.
pub(super) enum Events {
    One(Event),
    Many(Vec<Event>),
}

impl Item {
    pub(super) fn events(&self) -> &[Event] {
        match self {
            Self::Lines(Events::One(event), _) => std::slice::from_ref(event),
            Self::Lines(Events::Many(events), _) => events,
            Self::Rotate | Self::Key(_) | Self::Room | Self::Settle => &[],
        }
    }
}

/// What came of a group, for everybody in it.
#[derive(Default)]
pub(super) struct Answers {
    /// Nearly always the only one: it has no room of its own in the heap.
    first: Option<Answer>,
    others: Vec<Answer>,
}

struct Answer(Result<u64, NotRecorded>, Then);

impl Answers {
    pub(super) fn add(&mut self, item: Item, outcome: Result<u64, NotRecorded>) {
        let Item::Lines(_, then) = item else { return };
        let answer = Answer(outcome, then);
        match &mut self.first {
            None => self.first = Some(answer),
            Some(_) => self.others.push(answer),
        }
    }

    pub(super) fn tell(self) {
        self.first.into_iter().chain(self.others).for_each(|Answer(outcome, then)| then(outcome));
    }
}
