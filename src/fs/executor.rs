//! Threads for work that may take long, shared fairly: each key (a UID, a part of the tree) has a bounded
//! number of them at a time, and keys take turns.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// After this time a thread ends that has nothing to do.
const IDLE: Duration = Duration::from_secs(10);

type Work = Box<dyn FnOnce() + Send>;

/// Threads that are started as they are needed, up to a limit.
#[derive(Clone)]
pub(crate) struct Executor(Arc<Shared>);

struct Shared {
    name: &'static str,
    limits: Limits,
    state: Mutex<State>,
    news: Condvar,
}

/// How many threads there are.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) threads: usize,
    /// How many of them work for one key at a time.
    pub(crate) per_key: usize,
    /// How many are kept that have nothing to do.
    pub(crate) kept: usize,
}

#[derive(Default)]
struct State {
    due: HashMap<u64, Due>,
    /// The keys that have something to do and may have one more thread, in turn.
    turns: VecDeque<u64>,
    threads: usize,
    idle: usize,
    /// Threads that have not looked for work yet.
    starting: usize,
    is_over: bool,
}

#[derive(Default)]
struct Due {
    work: VecDeque<Work>,
    under_way: usize,
    has_turn: bool,
}

impl Executor {
    pub(crate) fn new(name: &'static str, limits: Limits) -> Self {
        let (state, news) = Default::default();
        Self(Arc::new(Shared { name, limits, state, news }))
    }

    /// Starts one of the threads already.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(&self) -> io::Result<()> {
        self.0.state.lock().add_thread();
        self.spawn()
    }

    /// Has this done. If there is no thread, and none can be started, it is done here.
    pub(crate) fn submit(&self, key: u64, work: Work) {
        let mut state = self.0.state.lock();
        state.due.entry(key).or_default().work.push_back(work);
        state.take_turn(key, self.0.limits.per_key);
        if state.turns.len() <= state.idle + state.starting {
            self.0.news.notify_one();
            return;
        }
        if state.threads >= self.0.limits.threads {
            return;
        }
        state.add_thread();
        drop(state);
        if self.spawn().is_ok() {
            return;
        }
        let mut state = self.0.state.lock();
        if state.threads > 1 {
            // Another one does it.
            state.threads -= 1;
            state.starting -= 1;
            return;
        }
        drop(state);
        // Does what is due, and ends as a thread would.
        self.run(Duration::ZERO);
    }

    /// Has this done, and waits for it.
    ///
    /// # Errors
    /// The threads have been stopped.
    pub(super) async fn done<T: Send + 'static>(
        &self,
        key: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, oneshot::error::RecvError> {
        let (tell, told) = oneshot::channel();
        // The receiver waits below.
        self.submit(key, Box::new(move || drop(tell.send(work()))));
        told.await
    }

    /// How much of this key has not begun.
    pub(crate) fn waiting(&self, key: u64) -> usize {
        self.0.state.lock().due.get(&key).map_or(0, |due| due.work.len())
    }

    /// Lets the threads end when nothing is left to do.
    pub(super) fn stop(&self) {
        self.0.state.lock().is_over = true;
        self.0.news.notify_all();
    }

    fn spawn(&self) -> io::Result<()> {
        let executor = self.clone();
        let thread = std::thread::Builder::new().name(self.0.name.to_owned());
        thread.spawn(move || executor.run(IDLE)).map(drop)
    }

    fn run(&self, patience: Duration) {
        let Shared { limits, state, news, .. } = &*self.0;
        let mut state = state.lock();
        state.starting -= 1;
        loop {
            if let Some((key, work)) = state.next(limits.per_key) {
                // This work may last. What is due beside it needs another thread.
                let needs_thread = state.turns.len() > state.idle + state.starting
                    && state.threads < limits.threads
                    && !patience.is_zero();
                if !state.turns.is_empty() {
                    news.notify_one();
                }
                if needs_thread {
                    state.add_thread();
                }
                drop(state);
                if needs_thread && self.spawn().is_err() {
                    let mut state = self.0.state.lock();
                    state.threads -= 1;
                    state.starting -= 1;
                }
                work();
                state = self.0.state.lock();
                state.ended(key, limits.per_key);
                continue;
            }
            let is_over = state.is_over || {
                state.idle += 1;
                let wait = news.wait_for(&mut state, patience);
                state.idle -= 1;
                let is_kept = state.threads <= limits.kept && !patience.is_zero();
                state.is_over || (wait.timed_out() && !is_kept)
            };
            if is_over && state.turns.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

impl State {
    fn add_thread(&mut self) {
        self.threads += 1;
        self.starting += 1;
    }

    fn take_turn(&mut self, key: u64, per_key: usize) {
        let Some(due) = self.due.get_mut(&key) else { return };
        if !due.has_turn && !due.work.is_empty() && due.under_way < per_key {
            due.has_turn = true;
            self.turns.push_back(key);
        }
    }

    fn next(&mut self, per_key: usize) -> Option<(u64, Work)> {
        let key = self.turns.pop_front()?;
        let due = self.due.get_mut(&key)?;
        due.has_turn = false;
        let work = due.work.pop_front()?;
        due.under_way += 1;
        self.take_turn(key, per_key);
        Some((key, work))
    }

    fn ended(&mut self, key: u64, per_key: usize) {
        let Some(due) = self.due.get_mut(&key) else { return };
        due.under_way -= 1;
        if due.under_way == 0 && due.work.is_empty() {
            self.due.remove(&key);
        } else {
            self.take_turn(key, per_key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn one_key_does_not_take_all_threads() {
        let executor = Executor::new("test", Limits { threads: 8, per_key: 2, kept: 0 });
        let (go, gate) = channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let (done, finished) = channel();
        for _ in 0..100 {
            let (gate, done) = (Arc::clone(&gate), done.clone());
            let wait = move || {
                gate.lock().recv().unwrap();
                done.send(7).unwrap();
            };
            executor.submit(7, Box::new(wait));
        }
        executor.submit(8, Box::new(move || done.send(8).unwrap()));
        assert_eq!(finished.recv_timeout(PATIENCE), Ok(8));
        (0..100).for_each(|_| go.send(()).unwrap());
        (0..100).for_each(|_| assert_eq!(finished.recv_timeout(PATIENCE), Ok(7)));
        let end = std::time::Instant::now() + PATIENCE;
        while !executor.0.state.lock().due.is_empty() {
            assert!(std::time::Instant::now() < end, "something is left");
            std::thread::yield_now();
        }
        assert!(executor.0.state.lock().threads <= 8);
    }

    #[test]
    fn a_key_with_one_thread_keeps_its_order() {
        let executor = Executor::new("test", Limits { threads: 8, per_key: 1, kept: 1 });
        executor.start().unwrap();
        let (done, finished) = channel();
        for number in 0..1000 {
            let done = done.clone();
            executor.submit(number % 2, Box::new(move || done.send(number).unwrap()));
        }
        let all: Vec<_> = (0..1000).map(|_| finished.recv_timeout(PATIENCE).unwrap()).collect();
        for odd in 0..2 {
            let ones: Vec<_> = all.iter().filter(|number| **number % 2 == odd).collect();
            assert!(ones.is_sorted(), "{ones:?}");
        }
    }
}
