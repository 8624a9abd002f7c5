//! As much of a kernel as a file system notices: it walks through paths, caches names and bytes that
//! may be cached, looks up again what is stale, and holds a directory while a name in it changes.

mod names;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use secretfs::fs::{
    Caching, Changes, Creation, FileKind, Fs, FsError, KernelCache, NEVER, ROOT, Requester,
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
    pub(crate) fn thread(&mut self, uid: u32) -> Requester {
        self.next_task += 1;
        let unique = u64::from(self.next_task) * 2;
        Requester { uid, gid: uid, task: self.next_task, unique, is_resent: false, files: 0 }
    }

    fn component(
        &mut self,
        who: &Requester,
        parent: u64,
        name: &str,
        again: bool,
    ) -> Result<Found, i32> {
        let place = (parent, name.to_owned());
        let known = self.cache.0.names.lock().expect("nobody panics").get(&place).copied();
        if let Some(found) = known.filter(|_| !again) {
            return Ok(found);
        }
        let look_up = || self.fs.look_up(who, parent, OsStr::new(name)).map_err(number);
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

    fn walk(&mut self, who: &Requester, path: &str, again: bool) -> Result<Found, i32> {
        let mut at = (ROOT, FileKind::Directory);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if at.1 != FileKind::Directory {
                return Err(ENOTDIR);
            }
            at = self.component(who, at.0, name, again)?;
        }
        Ok(at)
    }

    fn parent<'a>(
        &mut self,
        who: &Requester,
        path: &'a str,
        again: bool,
    ) -> Result<(u64, &'a str), i32> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        match self.walk(who, directory, again)? {
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
        let who = self.thread(uid);
        let opened = self.retrying(|kernel, again| kernel.try_open(&who, path, flags, again))?;
        if flags.truncate {
            let size = Changes { size: Some(0), ..Changes::default() };
            if let Err(error) = self.set_attributes(&who, opened.node, None, size) {
                self.release(uid, opened);
                return Err(error);
            }
        }
        Ok(opened)
    }

    fn try_open(
        &mut self,
        who: &Requester,
        path: &str,
        flags: Flags,
        again: bool,
    ) -> Result<Descriptor, i32> {
        let (parent, name) = self.parent(who, path, again)?;
        match self.component(who, parent, name, again || flags.exclusive) {
            Ok(_) if flags.create && flags.exclusive => Err(EEXIST),
            Ok((_, FileKind::Directory)) => Err(EISDIR),
            Ok((node, FileKind::File)) => {
                let fs = Arc::clone(&self.fs);
                let opened = wait(|done| {
                    fs.open(who, node, flags.read, flags.write, move |outcome| {
                        send(&done, outcome)
                    });
                });
                opened.map(|opened| Descriptor {
                    node,
                    handle: opened.handle,
                    caching: opened.caching,
                })
            }
            Err(ENOENT) if flags.create => {
                let (fs, inner) = (Arc::clone(&self.fs), Arc::clone(&self.cache.0));
                let _held = inner.directory.lock().expect("nobody panics");
                let (name, exclusive) = (OsStr::new(name), flags.exclusive);
                let (entry, opened) = wait(|done| {
                    let answer = move |outcome| send(&done, outcome);
                    let how = Creation { mode: 0o600, exclusive, reads: false };
                    fs.create(who, parent, name, how, answer);
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
        let who = self.thread(uid);
        let read = self.fs.read(&who, file.node, file.handle, 0, 2 << 20, false).map_err(number)?;
        Ok(read.expose().to_vec())
    }

    pub(crate) fn write(
        &mut self,
        uid: u32,
        file: Descriptor,
        at: u64,
        bytes: &[u8],
    ) -> Result<(), i32> {
        let who = self.thread(uid);
        self.fs.write(&who, file.handle, at, 0, bytes).map_err(number)
    }

    pub(crate) fn set_length(&mut self, uid: u32, file: Descriptor, size: u64) -> Result<(), i32> {
        let who = self.thread(uid);
        let size = Changes { size: Some(size), ..Changes::default() };
        self.set_attributes(&who, file.node, Some(file.handle), size)
    }

    fn set_attributes(
        &mut self,
        who: &Requester,
        node: u64,
        handle: Option<u64>,
        changes: Changes,
    ) -> Result<(), i32> {
        let fs = Arc::clone(&self.fs);
        let set = wait(|done| {
            let answer = Box::new(move |outcome| send(&done, outcome));
            fs.set_attributes(who, node, handle, changes, answer);
        });
        set.map(drop)
    }

    pub(crate) fn sync(&mut self, uid: u32, file: Descriptor) -> Result<(), i32> {
        let (fs, who) = (Arc::clone(&self.fs), self.thread(uid));
        wait(|done| fs.sync(&who, file.handle, Box::new(move |outcome| send(&done, outcome))))
    }

    /// What a close of one of several descriptors does.
    pub(crate) fn flush(&mut self, uid: u32, file: Descriptor) -> Result<(), i32> {
        if file.caching == Caching::Immutable {
            return Ok(());
        }
        let (fs, who) = (Arc::clone(&self.fs), self.thread(uid));
        wait(|done| {
            fs.flush(&who, file.node, file.handle, Box::new(move |outcome| send(&done, outcome)))
        })
    }

    /// The last descriptor is gone. Nobody waits for that.
    pub(crate) fn release(&mut self, uid: u32, file: Descriptor) {
        if file.handle != 0 {
            let who = self.thread(uid);
            // What is only published now is known to everyone before the next operation.
            let (told, answered) = std::sync::mpsc::channel();
            self.fs
                .release(&who, file.node, file.handle, move || told.send(()).unwrap_or_default());
            answered.recv().expect("a release is answered");
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
        let who = self.thread(uid);
        self.retrying(|kernel, again| match kernel.walk(&who, path, again)? {
            (_, FileKind::Directory) => Err(EISDIR),
            (node, FileKind::File) => {
                let size = Changes { size: Some(size), ..Changes::default() };
                kernel.set_attributes(&who, node, None, size)
            }
        })
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

fn number(error: FsError) -> i32 {
    code(&error).number
}

fn send<T>(done: &Sender<Result<T, FsError>>, outcome: Result<T, FsError>) {
    // Nobody listens any more if the check has failed.
    let _ = done.send(outcome);
}

/// The answer to a request.
fn wait<T>(ask: impl FnOnce(Sender<Result<T, FsError>>)) -> Result<T, i32> {
    let (done, when_done) = channel();
    ask(done);
    when_done.recv_timeout(PATIENCE).expect("every request is answered").map_err(number)
}
