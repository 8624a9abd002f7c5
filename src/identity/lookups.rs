//! Questions to the name services, asked by threads of their own.
//!
//! A name service may take seconds, or never answer. So a request never waits for one on the thread that
//! serves it: it leaves what is to be done with the answer ([`Then`]). There is at most one question about
//! a UID at a time, and every request of the UID waits for that one. Questions are answered by up to
//! [`MAX_THREADS`] threads, started as they are needed. A UID that has a name goes first, and some of the
//! threads are left to those: a user with thousands of subordinate UIDs, which have none, cannot keep
//! named users waiting.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use nix::errno::Errno;
use parking_lot::{Condvar, Mutex};

use super::resolver::Answer;
use super::{Lookup, NssError, ResolveError};

/// What is done with an answer, by a thread that must be given back soon.
pub type Then = Box<dyn FnOnce(Answer) + Send>;

/// How many questions are asked at a time.
const MAX_THREADS: usize = 64;
/// How many of them may be about UIDs that have no name as far as is known.
const MAX_UNNAMED: usize = 48;
/// How many requests wait for the answer about one UID.
const MAX_WAITING_PER_UID: usize = 4096;
/// How many requests wait in all; and before those of UIDs without a name are refused.
const MAX_WAITING: usize = 16_384;
const MAX_WAITING_UNNAMED: usize = 12_288;
/// After this time a thread ends that has nothing to do.
const IDLE: Duration = Duration::from_secs(10);

/// The questions that are asked, or are to be.
#[derive(Default)]
pub(super) struct Lookups {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    /// The callbacks that wait for the answer about each UID, also while a thread asks for it.
    asked: HashMap<u32, Vec<Then>>,
    named: VecDeque<u32>,
    unnamed: VecDeque<u32>,
    waiting: usize,
    threads: usize,
    idle: usize,
    /// How many threads ask about UIDs without a name.
    unnamed_under_way: usize,
}

/// A question that a thread is to ask.
pub(super) struct Question {
    pub(super) uid: u32,
    is_named: bool,
}

/// What is to be done about a new question.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// A thread asks, or will.
    Yes,
    /// One more thread is needed.
    NeedsThread,
}

impl Lookups {
    /// Asks about a UID, unless that is being done. `start` starts a thread that [takes](Self::take) questions. If
    /// there is no thread to ask, or too many callbacks wait, `then` gets an error at once.
    pub(super) fn ask(
        &self,
        uid: u32,
        is_named: bool,
        then: Option<Then>,
        start: impl FnOnce() -> std::io::Result<()>,
    ) {
        let mut state = self.state.lock();
        let asked = match state.add(uid, is_named, then) {
            Ok(asked) => asked,
            Err(then) => {
                drop(state);
                return then(Err(cannot_ask(uid)));
            }
        };
        self.news.notify_one();
        if asked == Asked::Yes {
            return;
        }
        // With the lock: the thread that ends last must see whether another one has begun.
        if start().is_ok() {
            state.threads += 1;
        } else if state.threads == 0 {
            if is_named { &mut state.named } else { &mut state.unnamed }.pop_back();
            let waiting = state.forget(uid);
            drop(state);
            waiting.into_iter().for_each(|then| then(Err(cannot_ask(uid))));
        }
    }

    /// The next question for this thread; none if it is to end.
    pub(super) fn take(&self) -> Option<Question> {
        let mut state = self.state.lock();
        loop {
            if let Some(question) = state.take() {
                return Some(question);
            }
            state.idle += 1;
            let wait = self.news.wait_for(&mut state, IDLE);
            state.idle -= 1;
            if wait.timed_out() {
                let last = state.take();
                state.threads -= usize::from(last.is_none());
                return last;
            }
        }
    }

    /// Gives an answer to all callbacks that wait for it.
    pub(super) fn answered(&self, question: &Question, answer: &Answer) {
        let mut state = self.state.lock();
        state.unnamed_under_way -= usize::from(!question.is_named);
        let waiting = state.forget(question.uid);
        drop(state);
        waiting.into_iter().for_each(|then| then(answer.clone()));
    }
}

impl State {
    fn add(&mut self, uid: u32, is_named: bool, then: Option<Then>) -> Result<Asked, Then> {
        let most = if is_named { MAX_WAITING } else { MAX_WAITING_UNNAMED };
        let here = self.asked.get(&uid).map_or(0, Vec::len);
        if let Some(then) = then {
            if here >= MAX_WAITING_PER_UID || self.waiting >= most {
                return Err(then);
            }
            self.waiting += 1;
            if let Some(waiting) = self.asked.get_mut(&uid) {
                waiting.push(then);
                return Ok(Asked::Yes);
            }
            self.asked.insert(uid, vec![then]);
        } else if self.asked.contains_key(&uid) || self.waiting >= most {
            return Ok(Asked::Yes);
        } else {
            self.asked.insert(uid, Vec::new());
        }
        if is_named { &mut self.named } else { &mut self.unnamed }.push_back(uid);
        let due = self.named.len() + self.unnamed.len();
        let needs_thread = due > self.idle && self.threads < MAX_THREADS;
        Ok(if needs_thread { Asked::NeedsThread } else { Asked::Yes })
    }

    fn take(&mut self) -> Option<Question> {
        if let Some(uid) = self.named.pop_front() {
            return Some(Question { uid, is_named: true });
        }
        if self.unnamed_under_way >= MAX_UNNAMED {
            return None;
        }
        let uid = self.unnamed.pop_front()?;
        self.unnamed_under_way += 1;
        Some(Question { uid, is_named: false })
    }

    fn forget(&mut self, uid: u32) -> Vec<Then> {
        let waiting = self.asked.remove(&uid).unwrap_or_default();
        self.waiting -= waiting.len();
        waiting
    }
}

fn cannot_ask(uid: u32) -> ResolveError {
    let source = NssError { lookup: Lookup::User(uid), errno: Errno::EAGAIN };
    ResolveError { uid, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(lookups: &Lookups, uid: u32, is_named: bool) -> bool {
        let mut needs_thread = false;
        let then: Then = Box::new(|_| ());
        lookups.ask(uid, is_named, Some(then), || {
            needs_thread = true;
            Ok(())
        });
        needs_thread
    }

    fn answer(uid: u32) -> Answer {
        Err(cannot_ask(uid))
    }

    #[test]
    fn one_question_about_a_uid_at_a_time() {
        let lookups = Lookups::default();
        assert!(ask(&lookups, 7, false), "the first one needs a thread");
        assert!(!ask(&lookups, 7, false));
        let question = lookups.take().unwrap();
        assert!(!ask(&lookups, 7, false), "it is being asked");
        assert_eq!(lookups.state.lock().waiting, 3);
        lookups.answered(&question, &answer(7));
        let state = lookups.state.lock();
        assert_eq!((state.waiting, state.asked.len(), state.unnamed_under_way), (0, 0, 0));
    }

    #[test]
    fn named_users_go_first_and_have_threads_left() {
        let lookups = Lookups::default();
        let started = (0..1000).filter(|&uid| ask(&lookups, uid, false)).count();
        assert_eq!(started, MAX_THREADS);
        let taken: Vec<_> = (0..MAX_UNNAMED).map(|_| lookups.take().unwrap().uid).collect();
        assert_eq!(taken, (0..48).collect::<Vec<_>>());
        assert!(lookups.state.lock().take().is_none(), "the other threads are left to named users");
        ask(&lookups, 5000, true);
        assert_eq!(lookups.take().unwrap().uid, 5000);
        lookups.answered(&Question { uid: 0, is_named: false }, &answer(0));
        assert_eq!(lookups.take().unwrap().uid, 48);
    }

    #[test]
    fn what_waits_is_bounded() {
        let lookups = Lookups::default();
        for _ in 0..MAX_WAITING_PER_UID + 9 {
            ask(&lookups, 7, false);
        }
        assert_eq!(lookups.state.lock().waiting, MAX_WAITING_PER_UID);
        for uid in 0..65_536 {
            ask(&lookups, 100_000 + uid, false);
        }
        assert_eq!(lookups.state.lock().waiting, MAX_WAITING_UNNAMED);
        let (told, refused) = std::sync::mpsc::channel();
        let then: Then = Box::new(move |answer| told.send(answer.is_err()).unwrap());
        lookups.ask(8, false, Some(then), || Ok(()));
        assert_eq!(refused.try_recv(), Ok(true), "an error, and at once");
        ask(&lookups, 9, true);
        assert_eq!(lookups.state.lock().waiting, MAX_WAITING_UNNAMED + 1);
    }

    #[test]
    fn without_a_thread_there_is_an_error() {
        let lookups = Lookups::default();
        let (told, refused) = std::sync::mpsc::channel();
        let then: Then = Box::new(move |answer| told.send(answer.is_err()).unwrap());
        lookups.ask(8, false, Some(then), || Err(std::io::ErrorKind::WouldBlock.into()));
        assert_eq!(refused.try_recv(), Ok(true));
        assert!(lookups.state.lock().unnamed.is_empty());
    }
}
