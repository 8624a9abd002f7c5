//! The thread that hands a version's bytes to the kernel before its first open is answered.
//!
//! It saves the reader the READ, and the GETATTR that the kernel sends after every READ (which makes it doubt
//! the access time): reading again is one request from the second time on. A request thread must not do this,
//! as it must not do the invalidator's work: the page can be locked by a reader that waits for a request
//! thread. An invalidator thread must not do it either, since it may be waiting for a directory.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::model::Plaintext;

use super::invalidator::KernelCache;

/// Larger values are read when they are wanted.
pub(in crate::fs) const LARGEST: u32 = 128 * 1024;

/// What the kernel is to know of a node, and the answer that waits for that.
pub(in crate::fs) struct Prefill {
    pub(in crate::fs) node: u64,
    pub(in crate::fs) filling: Filling,
    pub(in crate::fs) answer: Box<dyn FnOnce() + Send>,
}

pub(in crate::fs) enum Filling {
    Bytes(Plaintext),
    /// It asks for the attributes again.
    NoAttributes,
    /// It asks for the attributes and the bytes again.
    Nothing,
}

/// The handle on the thread, which ends when this is dropped.
pub(in crate::fs) struct Prefiller {
    fills: Sender<Prefill>,
    waiting: Mutex<Option<Receiver<Prefill>>>,
}

impl Prefiller {
    pub(in crate::fs) fn new() -> Self {
        let (fills, waiting) = channel();
        Self { fills, waiting: Mutex::new(Some(waiting)) }
    }

    pub(in crate::fs) fn start(&self, cache: Arc<dyn KernelCache>) -> io::Result<()> {
        let Some(fills) = self.waiting.lock().take() else { return Ok(()) };
        std::thread::Builder::new().name("prefiller".to_owned()).spawn(move || {
            for fill in fills {
                match &fill.filling {
                    Filling::Bytes(bytes) => cache.keep_bytes(fill.node, bytes.expose()),
                    Filling::NoAttributes => cache.forget_attributes(fill.node),
                    Filling::Nothing => cache.forget_bytes(fill.node),
                }
                (fill.answer)();
            }
        })?;
        Ok(())
    }

    /// Waits until the kernel knows it.
    pub(in crate::fs) async fn fill(&self, node: u64, filling: Filling) {
        let (tell, told) = oneshot::channel();
        let answer = Box::new(move || {
            // The receiver waits below.
            let _ = tell.send(());
        });
        self.send(Prefill { node, filling, answer });
        // The thread ends with the mount.
        let _ = told.await;
    }

    pub(in crate::fs) fn send(&self, fill: Prefill) {
        if let Err(refused) = self.fills.send(fill) {
            (refused.0.answer)();
        }
    }
}
