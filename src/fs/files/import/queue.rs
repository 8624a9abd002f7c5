//! Threads that apply files: never those that serve requests, since it takes the disk and, for a
//! large file, seconds.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// How many files are applied at once, each of another UID.
const THREADS: usize = 4;
/// Applying a file takes a multiple of its size. Of larger files than this, one is applied at a time.
const LARGE: usize = 4 << 20;

type Work = Box<dyn FnOnce() + Send>;

/// Files that wait, by UID. The UIDs take turns, and one UID's files are applied one after the other in the
/// order in which they were closed, so no UID can keep all threads busy. A thread ends when there is nothing
/// left for it.
#[derive(Default)]
pub(super) struct Queue(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: VecDeque<(u32, VecDeque<Blocked>)>,
    busy: HashSet<u32>,
    large_is_busy: bool,
    threads: usize,
}

struct Blocked {
    is_large: bool,
    work: Work,
}

impl Queue {
    /// Has `work` on a file of that size done for this UID, and waits for it.
    ///
    /// # Errors
    /// There is no thread, and none can be started; `work` is not done.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        uid: u32,
        size: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (tell, told) = oneshot::channel();
        // The receiver waits below.
        self.submit(uid, size, Box::new(move || drop(tell.send(work()))))?;
        told.await.map_err(io::Error::other)
    }

    fn submit(self: &Arc<Self>, uid: u32, size: usize, work: Work) -> io::Result<()> {
        let mut state = self.0.lock();
        state.add(uid, Blocked { is_large: size > LARGE, work });
        if state.threads < THREADS {
            let queue = Arc::clone(self);
            let started = std::thread::Builder::new()
                .name("importer".to_owned())
                .spawn(move || queue.work_off());
            match started {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    let refused = std::mem::take(&mut state.waiting);
                    drop(state);
                    // Dropped without the lock: the operations that wait for them go on here.
                    drop(refused);
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn work_off(&self) {
        while let Some((uid, Blocked { is_large, work })) = self.take() {
            work();
            let mut state = self.0.lock();
            state.busy.remove(&uid);
            state.large_is_busy &= !is_large;
        }
    }

    fn take(&self) -> Option<(u32, Blocked)> {
        let mut state = self.0.lock();
        let taken = state.next();
        match &taken {
            Some((uid, next)) => {
                state.busy.insert(*uid);
                state.large_is_busy |= next.is_large;
            }
            // The threads that are busy come here again for what waits for them.
            None => state.threads -= 1,
        }
        taken
    }
}

impl State {
    fn add(&mut self, uid: u32, waiting: Blocked) {
        match self.waiting.iter_mut().find(|(other, _)| *other == uid) {
            Some((_, of_uid)) => of_uid.push_back(waiting),
            None => self.waiting.push_back((uid, VecDeque::from([waiting]))),
        }
    }

    /// The next file whose turn it is.
    fn next(&mut self) -> Option<(u32, Blocked)> {
        let may = |(uid, of_uid): &(u32, VecDeque<Blocked>)| {
            let is_large = of_uid.front().is_some_and(|first| first.is_large);
            !(self.busy.contains(uid) || is_large && self.large_is_busy)
        };
        let at = self.waiting.iter().position(may)?;
        let (uid, mut of_uid) = self.waiting.remove(at)?;
        let first = of_uid.pop_front()?;
        if !of_uid.is_empty() {
            self.waiting.push_back((uid, of_uid));
        }
        Some((uid, first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn one_uid_at_a_time_and_in_order() {
        let queue = Arc::new(Queue::default());
        let (done, order) = channel();
        let (go, gate) = channel::<()>();
        queue.submit(7, 1, Box::new(move || gate.recv().unwrap())).unwrap();
        for number in 0..20 {
            let done = done.clone();
            queue.submit(7, 1, Box::new(move || done.send(number).unwrap())).unwrap();
        }
        // Another one is not kept waiting.
        let (other, told) = channel();
        queue.submit(8, 1, Box::new(move || other.send(()).unwrap())).unwrap();
        told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(order.try_recv().is_err());
        go.send(()).unwrap();
        for number in 0..20 {
            assert_eq!(order.recv_timeout(Duration::from_secs(20)), Ok(number));
        }
    }

    #[test]
    fn large_files_one_at_a_time_and_users_in_turn() {
        let mut state = State::default();
        let waiting = |is_large| Blocked { is_large, work: Box::new(|| {}) };
        for (uid, is_large) in [(7, true), (7, true), (7, true), (8, true), (9, false)] {
            state.add(uid, waiting(is_large));
        }
        let taken = |state: &mut State| state.next().map(|(uid, _)| uid);
        assert_eq!(taken(&mut state), Some(7));
        state.large_is_busy = true;
        assert_eq!(taken(&mut state), Some(9), "a small file does not wait for a large one");
        assert_eq!(taken(&mut state), None);
        state.large_is_busy = false;
        let rest: Vec<_> = std::iter::from_fn(|| taken(&mut state)).collect();
        assert_eq!(rest, [8, 7, 7], "who has many files does not come first");
    }
}
