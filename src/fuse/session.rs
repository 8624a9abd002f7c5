//! Attaching to the kernel.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use fuser::{
    Config, INodeNo, MountOption, Notifier, PollHandle, Session, SessionACL, SessionUnmounter,
};

use crate::fs::{Fs, KernelCache};

use super::handler::Handler;
use super::touch::Toucher;

/// A file system that is mounted and being served.
pub struct Mounted {
    threads: JoinHandle<io::Result<()>>,
    unmounter: SessionUnmounter,
}

/// Mounts `fs` and serves it on `threads` threads. For all users if this process is root, for its own
/// user otherwise (through `fusermount3`). `when_over` is called when serving has ended, whoever
/// ended it.
///
/// # Errors
/// The kernel or `fusermount3` refuses, or a thread cannot be started.
pub fn mount(
    fs: Arc<Fs>,
    mountpoint: &Path,
    threads: usize,
    when_over: impl FnOnce() + Send + 'static,
) -> io::Result<Mounted> {
    let root = nix::unistd::geteuid().is_root();
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("secretfs".to_owned()),
        // As an option of the kernel's own: the library's `Subtype` does not reach mount(2).
        MountOption::CUSTOM("subtype=secretfs".to_owned()),
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoExec,
        MountOption::NoAtime,
    ];
    config.acl = if root { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(threads);
    let mut session = Session::new(Handler::new(Arc::clone(&fs)), mountpoint, &config)?;
    fs.serve_caches(Cache(session.notifier()))?;
    fs.serve_watchers(Toucher::new(mountpoint))?;
    let unmounter = session.unmount_callable();
    let threads = std::thread::Builder::new().name("session".to_owned()).spawn(move || {
        let outcome = session.run();
        when_over();
        outcome
    })?;
    Ok(Mounted { threads, unmounter })
}

impl Mounted {
    /// Unmounts. New openings fail from now on; files that are open go on until they are closed.
    ///
    /// # Errors
    /// The kernel or `fusermount3` refuses.
    pub fn unmount(&mut self) -> io::Result<()> {
        self.unmounter.unmount()
    }

    /// Whether serving has ended: nobody has a file open any more.
    pub fn is_over(&self) -> bool {
        self.threads.is_finished()
    }

    /// How serving ended. Waits for it.
    ///
    /// # Errors
    /// The device failed.
    pub fn join(self) -> io::Result<()> {
        self.threads.join().map_err(|_| io::Error::other("a request thread panicked"))?
    }
}

#[derive(Clone)]
struct Cache(Notifier);

impl KernelCache for Cache {
    fn forget_name(&self, parent: u64, name: &str) {
        if let Err(error) = self.0.inval_entry(INodeNo(parent), OsStr::new(name)) {
            // The kernel does not know the name, or the mount is gone: nothing is cached then.
            tracing::debug!(%error, "the kernel did not forget a name");
        }
    }

    fn keep_bytes(&self, node: u64, bytes: &[u8]) {
        if let Err(error) = self.0.store(INodeNo(node), 0, bytes) {
            tracing::debug!(%error, "the kernel did not take a file's bytes; it reads them");
        }
    }

    fn wake(&self, waiter: u64) {
        if let Err(error) = self.0.poll(PollHandle(waiter)) {
            tracing::debug!(%error, "the kernel did not wake who polls a file");
        }
    }
}
