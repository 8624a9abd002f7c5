//! The thread that tells the kernel what its caches must forget.
//!
//! A notification sent from a thread that serves requests can wait for a lock that is held by a
//! caller who waits for that thread: everything hangs. So one thread does nothing else. No lock is
//! held while it notifies.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::Mutex;

use super::poll::Pollers;

/// The kernel's caches.
pub trait KernelCache: Clone + Send + 'static {
    /// Makes the kernel forget what `name` in the folder `parent` means. Fails quietly where the
    /// kernel does not know it.
    fn forget_name(&self, parent: u64, name: &str);

    /// Gives the kernel all bytes of a file. Fails quietly where the kernel does not know the node.
    fn keep_bytes(&self, node: u64, bytes: &[u8]);

    /// Makes the kernel forget the attributes of a node, and no byte of it. Fails quietly where it does not
    /// know it. Never waits for a caller.
    fn forget_attributes(&self, node: u64);

    /// As [`KernelCache::forget_attributes`], for the thread that makes it forget names.
    fn outdate(&self, node: u64);

    /// Wakes who polls an open file, by the kernel's number for it. Never waits.
    fn wake(&self, waiter: u64);
    /// Whether the kernel knows that node.
    fn knows(&self, node: u64) -> bool;
}

/// A name that means something else now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StaleName {
    pub(super) parent: u64,
    pub(super) name: String,
    /// The version that it meant, if that has been superseded.
    pub(super) version: Option<u64>,
}

/// Names to forget, and who waits for that.
///
/// An answer to a caller that holds the kernel's lock on a folder (unlink, rename, mknod) must not be
/// among these: the courier may be waiting for that very lock.
pub(super) struct Errand {
    pub(super) stale: Vec<StaleName>,
    /// Given afterwards: who asks then must not get the old meaning.
    pub(super) answer: Option<Box<dyn FnOnce() + Send>>,
}

/// The handle on the thread.
pub(super) struct Courier {
    pollers: Arc<Pollers>,
    errands: Sender<Errand>,
    waiting: Mutex<Option<Receiver<Errand>>>,
}

impl Courier {
    pub(super) fn new(pollers: Arc<Pollers>) -> Self {
        let (errands, waiting) = channel();
        Self { pollers, errands, waiting: Mutex::new(Some(waiting)) }
    }

    /// Starts the thread. It ends when the handle is dropped.
    pub(super) fn start(&self, cache: impl KernelCache) -> io::Result<()> {
        let Some(errands) = self.waiting.lock().take() else { return Ok(()) };
        let pollers = Arc::clone(&self.pollers);
        std::thread::Builder::new().name("courier".to_owned()).spawn(move || {
            pollers.take_inherited().into_iter().for_each(|(waiter, _slot)| cache.wake(waiter));
            for errand in errands {
                for stale in &errand.stale {
                    cache.forget_name(stale.parent, &stale.name);
                    // Who knows the node by a bind mount of the file asks for the attributes anew.
                    stale.version.into_iter().for_each(|node| cache.outdate(node));
                }
                errand.answer.into_iter().for_each(|answer| answer());
                // Whoever wakes up and looks finds the new version under the name.
                let superseded = errand.stale.iter().filter_map(|stale| stale.version);
                let waiters = superseded.flat_map(|node| pollers.take(node));
                waiters.for_each(|(waiter, _slot)| cache.wake(waiter));
            }
        })?;
        Ok(())
    }

    pub(super) fn send(&self, errand: Errand) {
        // The receiver lives as long as the thread, and that as long as this handle.
        if let Err(refused) = self.errands.send(errand) {
            refused.0.answer.into_iter().for_each(|answer| answer());
        }
    }
}
