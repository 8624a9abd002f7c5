//! Notifies the kernel of what its caches must forget.
//!
//! A notification can wait for a kernel lock. If a request thread sent it, the holder of that lock could be
//! waiting for the same thread: a deadlock. So separate threads send notifications. They hold no lock while
//! they do.
//!
//! A caller can keep the kernel's lock on a directory that it lists for as long as it likes. So directories
//! do not wait for each other, and the directories below one name in the root (those of one slug) have a few
//! threads at most. What concerns one directory keeps its order.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::nodes::ROOT;
use crate::fs::executor::{Executor, Limits};
use crate::fs::ops::poll::Pollers;

/// How many names can be forgotten at a time. As many notifications can be under way.
pub const INVALIDATIONS: usize = 32;
/// How many of them are in directories below the same name in the root.
const PER_TOP: usize = 4;

/// The kernel's caches.
pub trait KernelCache: Send + Sync + 'static {
    /// Makes the kernel forget what `name` in the directory `parent` means. Fails quietly where the
    /// kernel does not know it. Up to [`INVALIDATIONS`] threads do that at a time.
    fn forget_name(&self, parent: u64, name: &str);

    /// Makes the kernel look up what `name` in the directory `parent` means before it uses it again. If it
    /// means the same node then, mounts on it and working directories there stay. As
    /// [`KernelCache::forget_name`] otherwise.
    fn expire_name(&self, parent: u64, name: &str);

    /// Gives the kernel all bytes of a file. Fails quietly where the kernel does not know the node.
    /// One thread does that.
    fn keep_bytes(&self, node: u64, bytes: &[u8]);

    /// Makes the kernel forget the attributes of a node, and no byte of it. Fails quietly where it does not
    /// know it. Never waits for a caller.
    fn forget_attributes(&self, node: u64);

    /// Makes the kernel forget the attributes and all bytes of a node. Fails quietly where it does not know it.
    /// The thread that gives bytes does that.
    fn forget_bytes(&self, node: u64);

    /// Wakes the polls of an open file, by the kernel's number for it. Never waits.
    fn wake(&self, waiter: u64);

    /// Whether the kernel knows that node. Never waits.
    fn knows(&self, node: u64) -> bool;

    /// Whether the kernel has requests that no thread has read yet.
    fn has_unread(&self) -> bool {
        false
    }
}

/// A name that means something else now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::fs) struct StaleName {
    pub(in crate::fs) parent: u64,
    pub(in crate::fs) name: String,
    /// Stands for the name in the root below which this is.
    pub(in crate::fs) top: u64,
    /// The version that it meant, if that has been superseded.
    pub(in crate::fs) version: Option<u64>,
    /// It was a directory that may mean the same again.
    pub(in crate::fs) expires: bool,
}

impl StaleName {
    /// What stands for the name in the root below which a path is; the root itself, for a name in it.
    pub(in crate::fs) fn top_of(path: &str) -> u64 {
        let Some((top, _)) = path.split_once('/') else { return ROOT };
        let mut hasher = DefaultHasher::new();
        top.hash(&mut hasher);
        hasher.finish()
    }
}

/// Names to forget, and the answer that waits for that.
///
/// An answer to a caller that holds the kernel's lock on a directory (unlink, rename, mknod) must not be
/// among these: an invalidator may be waiting for that very lock.
struct Invalidation {
    stale: Vec<StaleName>,
    /// Given afterwards: a request that follows it must not get the old meaning.
    answer: Option<Box<dyn FnOnce() + Send>>,
}

/// The handle on the threads.
pub(in crate::fs) struct Invalidator(Arc<Shared>);

struct Shared {
    pollers: Arc<Pollers>,
    executor: Executor,
    /// There once names can be forgotten.
    kernel: OnceLock<Arc<dyn KernelCache>>,
    /// What is to be done in each directory. One with an entry has a thread, or will.
    directories: Mutex<HashMap<u64, Directory>>,
}

struct Directory {
    top: u64,
    /// In this order.
    steps: VecDeque<Step>,
}

/// A part of an invalidation, about one directory.
struct Step {
    /// None if the invalidation only waits for what is before it.
    stale: Option<StaleName>,
    invalidation: Arc<Remaining>,
}

/// What is to be done after all parts of an invalidation.
struct Remaining {
    parts: AtomicUsize,
    end: Mutex<Option<End>>,
}

struct End {
    answer: Option<Box<dyn FnOnce() + Send>>,
    /// The versions that were superseded.
    versions: Vec<u64>,
}

impl Remaining {
    /// One part is that of this function's caller, which ends it once the others are under way.
    fn new(
        others: usize,
        answer: Option<Box<dyn FnOnce() + Send>>,
        versions: Vec<u64>,
    ) -> Arc<Self> {
        let end = Mutex::new(Some(End { answer, versions }));
        Arc::new(Self { parts: AtomicUsize::new(others + 1), end })
    }
}

impl Invalidator {
    pub(in crate::fs) fn new(pollers: Arc<Pollers>) -> Self {
        let limits = Limits { threads: INVALIDATIONS, per_key: PER_TOP, kept: 1 };
        let executor = Executor::new("invalidator", limits);
        let (kernel, directories) = Default::default();
        Self(Arc::new(Shared { pollers, executor, kernel, directories }))
    }

    /// Whether the kernel has been notified of every name that has come so far.
    pub(in crate::fs) fn is_idle(&self) -> bool {
        self.0.directories.lock().is_empty()
    }

    /// Starts the first thread, and does what has come so far.
    pub(in crate::fs) fn start(&self, cache: Arc<dyn KernelCache>) -> io::Result<()> {
        self.0.executor.start()?;
        self.0.pollers.take_inherited().into_iter().for_each(|(waiter, _slot)| cache.wake(waiter));
        let directories = self.0.directories.lock();
        // It is started once.
        let _ = self.0.kernel.set(cache);
        let due: Vec<_> =
            directories.iter().map(|(&node, directory)| (node, directory.top)).collect();
        drop(directories);
        due.into_iter().for_each(|(node, top)| self.work_in(node, top));
        Ok(())
    }

    /// Has names forgotten.
    pub(in crate::fs) fn forget(&self, stale: Vec<StaleName>) {
        self.send(Invalidation { stale, answer: None });
    }

    /// Has names forgotten at once. Gives what ends then.
    pub(in crate::fs) fn forgotten(
        &self,
        stale: Vec<StaleName>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (tell, told) = oneshot::channel();
        self.send(Invalidation { stale, answer: Some(Box::new(move || tell_waiter(tell))) });
        // The threads end with the mount.
        async { told.await.unwrap_or_default() }
    }

    /// Gives what ends when everything that was sent so far is done.
    pub(in crate::fs) fn all_forgotten(&self) -> impl Future<Output = ()> + Send + use<> {
        let (tell, told) = oneshot::channel();
        self.answer_last(Box::new(move || tell_waiter(tell)));
        async { told.await.unwrap_or_default() }
    }

    /// Has names forgotten, and then gives the answer. Names that are stale because of earlier changes in
    /// the same directories are forgotten before.
    fn send(&self, invalidation: Invalidation) {
        let Invalidation { stale, answer } = invalidation;
        let versions = stale.iter().filter_map(|stale| stale.version).collect();
        let remaining = Remaining::new(stale.len(), answer, versions);
        let mut idle = Vec::new();
        let mut directories = self.0.directories.lock();
        for stale in stale {
            let (node, top) = (stale.parent, stale.top);
            let directory = directories.entry(node).or_insert_with(|| {
                idle.push((node, top));
                Directory { top, steps: VecDeque::new() }
            });
            directory
                .steps
                .push_back(Step { stale: Some(stale), invalidation: Arc::clone(&remaining) });
        }
        let is_started = self.0.kernel.get().is_some();
        drop(directories);
        if is_started {
            idle.into_iter().for_each(|(node, top)| self.work_in(node, top));
        }
        self.0.end_part(&remaining);
    }

    /// Gives an answer when everything that was sent so far is done.
    fn answer_last(&self, answer: Box<dyn FnOnce() + Send>) {
        let mut directories = self.0.directories.lock();
        let remaining = Remaining::new(directories.len(), Some(answer), Vec::new());
        for directory in directories.values_mut() {
            directory.steps.push_back(Step { stale: None, invalidation: Arc::clone(&remaining) });
        }
        drop(directories);
        self.0.end_part(&remaining);
    }

    fn work_in(&self, directory: u64, top: u64) {
        let shared = Arc::clone(&self.0);
        self.0.executor.submit(top, Box::new(move || shared.work_in(directory)));
    }

    /// Whether names in this directory are still to be forgotten.
    pub(in crate::fs) fn is_busy_in(&self, directory: u64) -> bool {
        self.0.directories.lock().contains_key(&directory)
    }
}

fn tell_waiter(waiter: oneshot::Sender<()>) {
    // The operation may have ended.
    let _ = waiter.send(());
}

impl Drop for Invalidator {
    fn drop(&mut self) {
        self.0.executor.stop();
    }
}

impl Shared {
    /// Does what is to be done in a directory until nothing is left.
    fn work_in(&self, node: u64) {
        let Some(kernel) = self.kernel.get() else { return };
        loop {
            let mut directories = self.directories.lock();
            let next = directories.get_mut(&node).and_then(|directory| directory.steps.pop_front());
            let Some(Step { stale, invalidation }) = next else {
                directories.remove(&node);
                return;
            };
            drop(directories);
            if let Some(stale) = stale {
                match stale.expires {
                    true => kernel.expire_name(stale.parent, &stale.name),
                    false => kernel.forget_name(stale.parent, &stale.name),
                }
                // A process that uses the node through a bind mount of the file asks for the attributes again.
                stale.version.into_iter().for_each(|node| kernel.forget_attributes(node));
            }
            self.end_part(&invalidation);
        }
    }

    fn end_part(&self, invalidation: &Remaining) {
        if invalidation.parts.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let Some(End { answer, versions }) = invalidation.end.lock().take() else { return };
        answer.into_iter().for_each(|answer| answer());
        // Nothing was superseded before there is a kernel to tell.
        let Some(kernel) = self.kernel.get() else { return };
        // A process that is woken finds the new version under the name.
        let waiters = versions.into_iter().flat_map(|node| self.pollers.take(node));
        waiters.for_each(|(waiter, _slot)| kernel.wake(waiter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(20);
    const NOTHING: Duration = Duration::from_millis(50);

    /// The locks of directories.
    type Gates = Mutex<HashMap<u64, Arc<Mutex<()>>>>;

    /// Reports what it is to forget, and waits for the locks of directories.
    #[derive(Clone)]
    struct Cache(Arc<(Gates, Sender<(u64, String)>)>);

    impl Cache {
        fn new() -> (Self, Receiver<(u64, String)>) {
            let (told, forgotten) = channel();
            (Self(Arc::new((Mutex::default(), told))), forgotten)
        }

        fn lock_of(&self, directory: u64) -> Arc<Mutex<()>> {
            Arc::clone(self.0.0.lock().entry(directory).or_default())
        }
    }

    impl KernelCache for Cache {
        fn forget_name(&self, parent: u64, name: &str) {
            let lock = self.lock_of(parent);
            let _held = lock.lock();
            self.0.1.send((parent, name.to_owned())).unwrap();
        }
        fn expire_name(&self, parent: u64, name: &str) {
            self.forget_name(parent, name);
        }
        fn keep_bytes(&self, _node: u64, _bytes: &[u8]) {}
        fn forget_attributes(&self, _node: u64) {}
        fn forget_bytes(&self, _node: u64) {}
        fn wake(&self, _waiter: u64) {}
        fn knows(&self, _node: u64) -> bool {
            true
        }
    }

    fn stale(parent: u64, top: u64, name: &str) -> StaleName {
        StaleName { parent, name: name.to_owned(), top, version: None, expires: false }
    }

    fn invalidator() -> (Invalidator, Cache, Receiver<(u64, String)>) {
        let invalidator = Invalidator::new(Arc::default());
        let (cache, forgotten) = Cache::new();
        invalidator.start(Arc::new(cache.clone())).unwrap();
        (invalidator, cache, forgotten)
    }

    fn send(invalidator: &Invalidator, stale: Vec<StaleName>) -> Receiver<()> {
        let (answer, answered) = channel();
        let answer: Box<dyn FnOnce() + Send> = Box::new(move || answer.send(()).unwrap());
        invalidator.send(Invalidation { stale, answer: Some(answer) });
        answered
    }

    #[test]
    fn a_locked_directory_delays_no_other_one() {
        let (invalidator, cache, forgotten) = invalidator();
        // One user keeps very many directories locked.
        let locks: Vec<_> = (0..100).map(|directory| cache.lock_of(directory)).collect();
        let held: Vec<_> = locks.iter().map(|lock| lock.lock()).collect();
        let stuck: Vec<_> =
            (0..100).map(|directory| send(&invalidator, vec![stale(directory, 7, "K")])).collect();
        send(&invalidator, vec![stale(1000, 8, "K")]).recv_timeout(PATIENCE).unwrap();
        send(&invalidator, Vec::new()).recv_timeout(PATIENCE).unwrap();
        assert_eq!(forgotten.recv_timeout(PATIENCE), Ok((1000, "K".to_owned())));
        // An answer waits for all its names.
        let both = send(&invalidator, vec![stale(5, 7, "L"), stale(1000, 8, "L")]);
        assert_eq!(forgotten.recv_timeout(PATIENCE), Ok((1000, "L".to_owned())));
        assert!(both.recv_timeout(NOTHING).is_err());
        assert!(invalidator.is_busy_in(5) && !invalidator.is_busy_in(1001));
        let (answer, last) = channel();
        invalidator.answer_last(Box::new(move || answer.send(()).unwrap()));
        assert!(last.recv_timeout(NOTHING).is_err());
        drop(held);
        stuck.iter().for_each(|answered| answered.recv_timeout(PATIENCE).unwrap());
        both.recv_timeout(PATIENCE).unwrap();
        last.recv_timeout(PATIENCE).unwrap();
    }

    #[test]
    fn names_of_a_directory_are_forgotten_in_order() {
        let (invalidator, _cache, forgotten) = invalidator();
        for number in 0..1000_u64 {
            invalidator.send(Invalidation {
                stale: vec![stale(number % 3, 7, &number.to_string())],
                answer: None,
            });
        }
        let all: Vec<_> = (0..1000).map(|_| forgotten.recv_timeout(PATIENCE).unwrap()).collect();
        for directory in 0..3 {
            let of_it = all.iter().filter(|(parent, _)| *parent == directory);
            assert!(of_it.is_sorted_by_key(|(_, name)| name.parse::<u64>().unwrap()));
        }
    }

    #[test]
    fn what_comes_before_the_start_is_done_first() {
        let invalidator = Invalidator::new(Arc::default());
        invalidator.send(Invalidation { stale: vec![stale(1, 7, "K")], answer: None });
        let answered = send(&invalidator, vec![stale(1, 7, "K")]);
        assert!(answered.recv_timeout(NOTHING).is_err());
        let (cache, forgotten) = Cache::new();
        invalidator.start(Arc::new(cache)).unwrap();
        answered.recv_timeout(PATIENCE).unwrap();
        assert_eq!(forgotten.try_iter().count(), 2);
    }
}
