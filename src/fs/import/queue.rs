//! Threads that apply files: never those that serve requests, since it takes the disk and, for a
//! large file, seconds.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

/// How many files are applied at once, each of another UID.
const THREADS: usize = 4;

type Work = Box<dyn FnOnce() + Send>;

/// Files that wait, in the order in which they were closed. One UID's are applied one after the
/// other, so nobody can keep all threads busy. A thread ends when there is nothing left for it.
#[derive(Default)]
pub(super) struct Queue(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: VecDeque<(u32, Work)>,
    busy: HashSet<u32>,
    threads: usize,
}

impl Queue {
    /// Has `work` done for this UID.
    ///
    /// # Errors
    /// There is no thread, and none can be started; `work` is not done.
    pub(super) fn submit(self: &Arc<Self>, uid: u32, work: Work) -> io::Result<()> {
        let mut state = self.0.lock();
        state.waiting.push_back((uid, work));
        if state.threads < THREADS {
            let queue = Arc::clone(self);
            let started =
                std::thread::Builder::new().name("importer".to_owned()).spawn(move || queue.run());
            match started {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    state.waiting.pop_back();
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn run(&self) {
        while let Some((uid, work)) = self.take() {
            work();
            self.0.lock().busy.remove(&uid);
        }
    }

    fn take(&self) -> Option<(u32, Work)> {
        let mut state = self.0.lock();
        let State { waiting, busy, .. } = &mut *state;
        let next = waiting.iter().position(|(uid, _)| !busy.contains(uid));
        let taken = next.and_then(|at| waiting.remove(at));
        match &taken {
            Some((uid, _)) => {
                state.busy.insert(*uid);
            }
            // Whoever is busy comes here again for what waits for him.
            None => state.threads -= 1,
        }
        taken
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
        queue.submit(7, Box::new(move || gate.recv().unwrap())).unwrap();
        for number in 0..20 {
            let done = done.clone();
            queue.submit(7, Box::new(move || done.send(number).unwrap())).unwrap();
        }
        // Another one is not kept waiting.
        let (other, told) = channel();
        queue.submit(8, Box::new(move || other.send(()).unwrap())).unwrap();
        told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(order.try_recv().is_err());
        go.send(()).unwrap();
        for number in 0..20 {
            assert_eq!(order.recv_timeout(Duration::from_secs(20)), Ok(number));
        }
    }
}
