//! As much of a kernel as a file system notices: it walks through paths, caches names and bytes that
//! may be cached, looks up again what is stale, and holds a directory while a name in it changes.

mod names;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use secretfs::fs::{
    Caching, Changes, Creation, FileKind, Fs, FsError, KernelCache, NEVER, Opcode, ROOT, Request,
};
use secretfs::fuse::code;

use super::errno::*;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Default)]
struct Cache(Arc<Inner>);

#[derive(Default)]
struct Inner {
    names: Mutex<HashMap<(u64, String), (u64, FileKind)>>,
    /// Who changes a name in a directory has this, and whoever is to forget one waits for it.
    directory: Mutex<()>,
}

impl Cache {
    fn forget(&self, parent: u64, name: &str) {
        let mut names = self.0.names.lock().expect("nobody panics");
        let gone = names.remove(&(parent, name.to_owned()));
        // With a directory goes all that is known in it.
        let mut directories: Vec<u64> = gone.into_iter().map(|(node, _)| node).collect();
        while let Some(directory) = directories.pop() {
            let within = names.extract_if(|(parent, _), _| *parent == directory);
            directories.extend(within.map(|(_, (node, _))| node));
        }
    }
}

impl KernelCache for Cache {
    fn forget_name(&self, parent: u64, name: &str) {
        let _held = self.0.directory.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget(parent, name);
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

pub(crate) struct Kernel {
    fs: Arc<Fs>,
    cache: Cache,
    /// The bytes of versions, which never change.
    pages: HashMap<u64, Vec<u8>>,
    lookups: HashMap<u64, u64>,
    next_task: u32,
}

/// An open file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptor {
    pub(crate) node: u64,
    handle: u64,
    caching: Caching,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) create: bool,
    pub(crate) exclusive: bool,
    pub(crate) truncate: bool,
}

type Found = (u64, FileKind);

impl Kernel {
    pub(crate) fn new(fs: Arc<Fs>) -> Self {
        let cache = Cache::default();
        fs.serve_caches(cache.clone()).expect("threads can be started");
        let (pages, lookups) = (HashMap::new(), HashMap::new());
        // Threads that the machine does not have: nothing of this process is mixed up with them.
        Self { fs, cache, pages, lookups, next_task: 1 << 30 }
    }

    /// Nobody may work on anything any more when the file system goes: its threads end with it.
    pub(crate) fn end(self) {
        let deadline = Instant::now() + PATIENCE;
        while Arc::strong_count(&self.fs) > 1 {
            assert!(Instant::now() < deadline, "somebody still works on a request");
            std::thread::yield_now();
        }
    }

    /// A thread of its own for each system call: what is remembered of one is of no use to another.
    pub(crate) fn thread(&mut self, uid: u32) -> Request {
        self.next_task += 1;
        let unique = u64::from(self.next_task) * 2;
        let mut request = Request::default();
        (request.uid, request.gid, request.task, request.unique) =
            (uid, uid, self.next_task, unique);
        request
    }

    fn component(
        &mut self,
        request: &Request,
        parent: u64,
        name: &str,
        again: bool,
    ) -> Result<Found, i32> {
        let place = (parent, name.to_owned());
        let known = self.cache.0.names.lock().expect("nobody panics").get(&place).copied();
        if let Some(found) = known.filter(|_| !again) {
            return Ok(found);
        }
        let look_up = || self.fs.look_up(request, parent, OsStr::new(name)).map_err(number);
        let mut entry = look_up()?;
        *self.lookups.entry(entry.attr.node).or_default() += 1;
        if again && known.is_none_or(|(node, _)| node != entry.attr.node) {
            let second = look_up()?;
            assert_eq!(second.attr.node, entry.attr.node, "both lookups give the same");
            entry = second;
            *self.lookups.entry(entry.attr.node).or_default() += 1;
        }
        let found = (entry.attr.node, entry.attr.kind);
        let mut names = self.cache.0.names.lock().expect("nobody panics");
        match entry.lifetime {
            NEVER => drop(names.remove(&place)),
            _ => drop(names.insert(place, found)),
        }
        Ok(found)
    }

    fn walk(&mut self, request: &Request, path: &str, again: bool) -> Result<Found, i32> {
        let mut at = (ROOT, FileKind::Directory);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if at.1 != FileKind::Directory {
                return Err(ENOTDIR);
            }
            at = self.component(request, at.0, name, again)?;
        }
        Ok(at)
    }

    fn parent<'a>(
        &mut self,
        request: &Request,
        path: &'a str,
        again: bool,
    ) -> Result<(u64, &'a str), i32> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        match self.walk(request, directory, again)? {
            (node, FileKind::Directory) => Ok((node, name)),
            _ => Err(ENOTDIR),
        }
    }

    /// Does it once more if it was stale, as the kernel does, and never twice.
    fn retrying<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self, bool) -> Result<T, i32>,
    ) -> Result<T, i32> {
        match attempt(self, false) {
            Err(ESTALE) => {
                let second = attempt(self, true);
                assert!(!matches!(second, Err(ESTALE)), "a caller would be told ESTALE");
                second
            }
            outcome => outcome,
        }
    }

    pub(crate) fn open(&mut self, uid: u32, path: &str, flags: Flags) -> Result<Descriptor, i32> {
        let request = self.thread(uid);
        let opened =
            self.retrying(|kernel, again| kernel.try_open(&request, path, flags, again))?;
        if flags.truncate {
            let size = Changes { size: Some(0), ..Changes::default() };
            if let Err(error) = self.set_attributes(&request, opened.node, None, size) {
                self.release(uid, opened);
                return Err(error);
            }
        }
        Ok(opened)
    }

    fn try_open(
        &mut self,
        request: &Request,
        path: &str,
        flags: Flags,
        again: bool,
    ) -> Result<Descriptor, i32> {
        let (parent, name) = self.parent(request, path, again)?;
        match self.component(request, parent, name, again || flags.exclusive) {
            Ok(_) if flags.create && flags.exclusive => Err(EEXIST),
            Ok((_, FileKind::Directory)) => Err(EISDIR),
            Ok((node, FileKind::File)) => {
                let (done, when_done) = channel();
                let open = |fs: &_, request| Fs::open(fs, request, node, flags.read, flags.write);
                let answer = move |outcome| drop(done.send(outcome));
                self.fs.run_started(request.clone(), Opcode::Open, open, answer);
                let opened = answered(&when_done);
                opened.map(|opened| Descriptor {
                    node,
                    handle: opened.handle,
                    caching: opened.caching,
                })
            }
            Err(ENOENT) if flags.create => {
                let inner = Arc::clone(&self.cache.0);
                let _held = inner.directory.lock().expect("nobody panics");
                let how = Creation { mode: 0o600, exclusive: flags.exclusive, reads: false };
                let (entry, opened) = self.run(request, Opcode::Create, |fs, request| {
                    fs.create(request, parent, name.into(), how)
                })?;
                *self.lookups.entry(entry.attr.node).or_default() += 1;
                let (handle, caching) = (opened.handle, opened.caching);
                Ok(Descriptor { node: entry.attr.node, handle, caching })
            }
            Err(error) => Err(error),
        }
    }

    /// All bytes; those of a version from the cache, if they are there.
    pub(crate) fn read(&mut self, uid: u32, file: Descriptor) -> Result<Vec<u8>, i32> {
        if file.caching == Caching::Immutable
            && let Some(page) = self.pages.get(&file.node)
        {
            return Ok(page.clone());
        }
        let bytes = self.read_past_the_cache(uid, file)?;
        if file.caching == Caching::Immutable {
            self.pages.insert(file.node, bytes.clone());
        }
        Ok(bytes)
    }

    /// As the kernel does after it has dropped pages.
    pub(crate) fn read_past_the_cache(
        &mut self,
        uid: u32,
        file: Descriptor,
    ) -> Result<Vec<u8>, i32> {
        let request = self.thread(uid);
        let read =
            self.fs.read(&request, file.node, file.handle, 0, 2 << 20, false).map_err(number)?;
        Ok(read.expose().to_vec())
    }

    pub(crate) fn write(
        &mut self,
        uid: u32,
        file: Descriptor,
        at: u64,
        bytes: &[u8],
    ) -> Result<(), i32> {
        let request = self.thread(uid);
        self.fs.write(&request, file.handle, at, 0, bytes).map_err(number)
    }

    pub(crate) fn set_length(&mut self, uid: u32, file: Descriptor, size: u64) -> Result<(), i32> {
        let request = self.thread(uid);
        let size = Changes { size: Some(size), ..Changes::default() };
        self.set_attributes(&request, file.node, Some(file.handle), size)
    }

    fn set_attributes(
        &mut self,
        request: &Request,
        node: u64,
        handle: Option<u64>,
        changes: Changes,
    ) -> Result<(), i32> {
        let set = |fs: Arc<Fs>, request| fs.set_attributes(request, node, handle, changes);
        self.run(request, Opcode::Setattr, set).map(drop)
    }

    pub(crate) fn sync(&mut self, uid: u32, file: Descriptor) -> Result<(), i32> {
        let request = self.thread(uid);
        self.run(&request, Opcode::Fsync, |fs, request| fs.sync(request, file.handle))
    }

    /// What a close of one of several descriptors does.
    pub(crate) fn flush(&mut self, uid: u32, file: Descriptor) -> Result<(), i32> {
        if file.caching == Caching::Immutable {
            return Ok(());
        }
        let request = self.thread(uid);
        self.run(&request, Opcode::Flush, |fs, request| fs.flush(request, file.node, file.handle))
    }

    /// The last descriptor is gone. Nobody waits for that.
    pub(crate) fn release(&mut self, uid: u32, file: Descriptor) {
        if file.handle != 0 {
            let request = self.thread(uid);
            // What is only published now is known to everyone before the next operation.
            let release = |fs: Arc<Fs>, request| fs.release(request, file.node, file.handle);
            self.run(&request, Opcode::Release, release).expect("a release has no error");
        }
    }

    /// Names are forgotten for each directory on its own, after the answer to a release.
    pub(crate) fn wait_for_caches(&self) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !self.fs.caches_are_current() {
            assert!(std::time::Instant::now() < end, "names are not forgotten");
            std::thread::yield_now();
        }
    }

    pub(crate) fn truncate(&mut self, uid: u32, path: &str, size: u64) -> Result<(), i32> {
        let request = self.thread(uid);
        self.retrying(|kernel, again| match kernel.walk(&request, path, again)? {
            (_, FileKind::Directory) => Err(EISDIR),
            (node, FileKind::File) => {
                let size = Changes { size: Some(size), ..Changes::default() };
                kernel.set_attributes(&request, node, None, size)
            }
        })
    }

    /// Runs an operation, and waits for its outcome.
    fn run<T: Send + 'static, F>(
        &self,
        request: &Request,
        opcode: Opcode,
        operation: impl FnOnce(Arc<Fs>, Request) -> F,
    ) -> Result<T, i32>
    where
        F: Future<Output = Result<T, FsError>> + Send + 'static,
    {
        let (done, when_done) = channel();
        // Nobody listens any more if the check has failed.
        let answer = move |outcome| drop(done.send(outcome));
        self.fs.run(request.clone(), opcode, operation, answer);
        answered(&when_done)
    }

    /// Forgets all names, and all nodes but those that are open.
    pub(crate) fn drop_caches(&mut self, open: &[Descriptor]) {
        self.cache.0.names.lock().expect("nobody panics").clear();
        let is_open = |node: u64| open.iter().any(|file| file.node == node);
        let gone: Vec<_> = self.lookups.extract_if(|&node, _| !is_open(node)).collect();
        for (node, lookups) in gone {
            self.pages.remove(&node);
            self.fs.forget(node, lookups);
        }
    }
}

fn answered<T>(when_done: &Receiver<Result<T, FsError>>) -> Result<T, i32> {
    when_done.recv_timeout(PATIENCE).expect("every request is answered").map_err(number)
}

fn number(error: FsError) -> i32 {
    code(&error).number
}
