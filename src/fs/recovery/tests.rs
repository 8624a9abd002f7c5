//! Requests across the death of a server, with a kernel that does what the test says.

use std::ffi::OsStr;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use parking_lot::Mutex;

use crate::audit::ErrorCode;
use crate::crypto::{Keyring, MasterKey};
use crate::fs::kernel::nodes::ROOT;
use crate::fs::{
    Changes, Creation, Fs, FsError, KernelCache, Opcode, Opened, Options, RenameMode, Request,
    RestoredState, SavedState,
};
use crate::identity::{Directory, Group, NssError, Resolver, User};
use crate::model::Caller;
use crate::store::MemoryStore;
use crate::vault::Opening;

/// What outlives a server.
struct Mount {
    store: Arc<MemoryStore>,
    saved_state: File,
    names: Names,
    kernel: Arc<Kernel>,
}

/// A server of the mount.
#[derive(Clone)]
struct Server(Arc<Fs>);

/// A name service that answers while the lock is free.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<()>>);

impl Directory for Names {
    fn user_by_uid(&self, _uid: u32) -> Result<Option<User>, NssError> {
        drop(self.0.lock());
        Ok(Some(User { name: "root".to_owned(), gid: 0 }))
    }

    fn uid_by_name(&self, _name: &str) -> Result<Option<u32>, NssError> {
        Ok(Some(0))
    }

    fn gid_by_name(&self, _name: &str) -> Result<Option<u32>, NssError> {
        Ok(None)
    }

    fn groups_of(&self, _user: &User) -> Result<Vec<Group>, NssError> {
        Ok(Vec::new())
    }
}

/// Knows every node, and forgets what it is told to.
#[derive(Default)]
struct Kernel {
    /// Whether there are requests to read.
    has_unread: AtomicBool,
    /// Whether the server has asked for that.
    was_asked: AtomicBool,
}

impl KernelCache for Arc<Kernel> {
    fn forget_name(&self, _parent: u64, _name: &str) {}
    fn expire_name(&self, _parent: u64, _name: &str) {}
    fn keep_bytes(&self, _node: u64, _bytes: &[u8]) {}
    fn forget_attributes(&self, _node: u64) {}
    fn forget_bytes(&self, _node: u64) {}
    fn wake(&self, _waiter: u64) {}
    fn knows(&self, _node: u64) -> bool {
        true
    }

    fn has_unread(&self) -> bool {
        self.was_asked.store(true, Ordering::SeqCst);
        self.has_unread.load(Ordering::SeqCst)
    }
}

impl Mount {
    fn new() -> Self {
        let (names, kernel) = Default::default();
        let saved_state = tempfile::tempfile().unwrap();
        Self { store: Arc::new(MemoryStore::new()), saved_state, names, kernel }
    }

    /// The next server. The one before it must have been killed.
    fn serve(&self) -> Server {
        let keyring = Keyring::new(MasterKey::parse(&"07".repeat(32)).unwrap(), Vec::new());
        let opening = Opening::new(Arc::clone(&self.store) as Arc<_>, keyring);
        let (vault, inheritance) = opening.take_over().unwrap();
        let names = Box::new(self.names.clone());
        let identities = Arc::new(Resolver::with_directory(None, names).unwrap());
        let saved_state = SavedState::new(self.saved_state.try_clone().unwrap()).unwrap();
        let inheritance = Some(inheritance);
        let restored = RestoredState { mount: 1, saved_state, inheritance, ..Default::default() };
        let name_error = |_: &FsError| ErrorCode { number: 0, name: String::new(), denied: false };
        let fs = Fs::new(Arc::new(vault), identities, Options::default(), name_error, restored);
        fs.serve_caches(Arc::clone(&self.kernel)).unwrap();
        Server(fs)
    }
}

/// The request of that number, of this thread.
fn request(unique: u64) -> Request {
    let task = nix::unistd::gettid().as_raw().cast_unsigned();
    Request { task, unique, ..Request::default() }
}

/// The same, sent again.
fn again(unique: u64) -> Request {
    Request { is_resent: true, ..request(unique) }
}

impl Server {
    /// Leaves everything as it is.
    fn kill(self) {
        std::mem::forget(self);
    }

    fn run<T: Send + 'static, F>(
        &self,
        request: Request,
        opcode: Opcode,
        operation: impl FnOnce(Arc<Fs>, Request) -> F,
    ) -> Result<T, FsError>
    where
        F: Future<Output = Result<T, FsError>> + Send + 'static,
    {
        let (answer, answered) = channel();
        self.0.run(request, opcode, operation, move |outcome| answer.send(outcome).unwrap());
        answered.recv().expect("each request is answered")
    }

    fn look_up(&self, request: &Request, name: &str) -> Result<u64, FsError> {
        self.0.look_up(request, ROOT, OsStr::new(name)).map(|entry| entry.attr.node)
    }

    fn open(&self, request: Request, node: u64, write: bool) -> Result<Opened, FsError> {
        let (answer, answered) = channel();
        let open = |fs: &_, request| Fs::open(fs, request, node, !write, write);
        let answer = move |outcome| answer.send(outcome).unwrap();
        self.0.run_started(request, Opcode::Open, open, answer);
        answered.recv().expect("each request is answered")
    }

    /// As an open(2) with O_CREAT, a write(2) and a close(2).
    fn create(&self, unique: u64, name: &str, value: &[u8]) {
        let how = Creation { mode: 0o600, exclusive: true, reads: false };
        let (node, handle) = self.open_new(unique, name, how);
        self.0.write(&request(unique), handle, 0, 0, value).unwrap();
        self.flush(unique, (node, handle));
        self.release(request(unique), (node, handle)).recv().unwrap();
    }

    /// As an open(2) with O_TRUNC and a close(2), from request 100 on. The node and handle that the kernel is yet
    /// to release.
    fn truncate(&self, name: &str) -> (u64, u64) {
        let node = self.look_up(&request(100), name).unwrap();
        assert!(matches!(self.open(request(102), node, true), Err(FsError::Stale)));
        let node = self.look_up(&request(104), name).unwrap();
        let handle = self.open(request(106), node, true).unwrap().handle;
        let changes = Changes { size: Some(0), ..Changes::default() };
        let set = |fs: Arc<Fs>, request| fs.set_attributes(request, node, None, changes);
        self.run(request(108), Opcode::Setattr, set).unwrap();
        self.flush(110, (node, handle));
        (node, handle)
    }

    /// A secret `K`, which is then truncated: what [`Server::truncate`] gives, and the node of the version before.
    fn truncated(&self) -> ((u64, u64), u64) {
        self.create(2, "K", b"old");
        let opened = self.truncate("K");
        let old = self.look_up(&request(112), "K").unwrap();
        (opened, old)
    }

    /// As touch(1) of a new file. The node and handle that the kernel is yet to release.
    fn touch(&self, unique: u64, name: &str) -> (u64, u64) {
        let opened =
            self.open_new(unique, name, Creation { mode: 0o600, exclusive: false, reads: false });
        self.flush(unique, opened);
        opened
    }

    fn open_new(&self, unique: u64, name: &str, how: Creation) -> (u64, u64) {
        let create = |fs: Arc<Fs>, request| fs.create(request, ROOT, name.into(), how);
        let (entry, opened) = self.run(request(unique), Opcode::Create, create).unwrap();
        (entry.attr.node, opened.handle)
    }

    fn flush(&self, unique: u64, (node, handle): (u64, u64)) {
        let flush = |fs: Arc<Fs>, request| fs.flush(request, node, handle);
        self.run(request(unique), Opcode::Flush, flush).unwrap();
    }

    fn release(&self, request: Request, (node, handle): (u64, u64)) -> Receiver<bool> {
        let (answer, answered) = channel();
        let release = |fs: Arc<Fs>, request| fs.release(request, node, handle);
        let answer = move |outcome: Result<(), _>| answer.send(outcome.is_ok()).unwrap();
        self.0.run(request, Opcode::Release, release, answer);
        answered
    }

    fn rename(&self, request: Request, name: &str, new_name: &str) {
        let (from, to) = ((ROOT, name.into()), (ROOT, new_name.into()));
        let rename = |fs: Arc<Fs>, request| fs.rename(request, from, to, RenameMode::Replace);
        self.run(request, Opcode::Rename, rename).unwrap();
    }
}

/// A thread opens a version after ESTALE, and opens it again after it was renamed onto another secret. The
/// request for the latter is sent again: it must not be taken for the former.
#[test]
fn a_resent_open_is_not_taken_for_an_earlier_one() {
    let mount = Mount::new();
    let first = mount.serve();
    first.create(2, "b", b"old");
    let old = first.look_up(&request(4), "b").unwrap();
    first.create(6, "a", b"value");
    first.create(8, "c", b"value");
    first.rename(request(10), "a", "b");
    assert!(matches!(first.open(request(12), old, false), Err(FsError::Stale)));
    let moved = first.look_up(&request(14), "b").unwrap();
    first.open(request(16), moved, false).unwrap();
    first.rename(request(18), "b", "c");
    first.kill();
    let second = mount.serve();
    assert!(matches!(second.open(again(20), moved, false), Err(FsError::Stale)));
    let node = second.look_up(&request(22), "c").unwrap();
    second.open(request(24), node, false).unwrap();
}

#[test]
fn what_is_sent_again_is_no_second_attempt() {
    for write in [false, true] {
        let server = Mount::new().serve();
        server.create(2, "K", b"old");
        let old = server.look_up(&request(4), "K").unwrap();
        let opened = server.truncate("K");
        server.release(request(112), opened).recv().unwrap();
        let open = |request| server.open(request, old, write).map(|opened| opened.handle);
        assert!(matches!(open(request(114)), Err(FsError::Stale)));
        // The process died before it said so.
        assert!(matches!(open(again(114)), Err(FsError::Stale)));
        // It said so, and there was no path to look up.
        let second = Request { is_resent: write, ..request(116) };
        assert!(open(second).is_ok_and(|handle| handle != 0));
        // From then on the node follows the current value at once.
        assert!(open(request(118)).is_ok_and(|handle| handle != 0));
    }
}

/// Requests wait for the lookup of their caller, and a release is behind them that publishes the file.
#[test]
fn a_release_is_not_overtaken_after_a_takeover() {
    let mount = Mount::new();
    let first = mount.serve();
    let (opened, old) = first.truncated();
    first.kill();
    let no_answer = mount.names.0.lock();
    let second = mount.serve();
    let (found, all_found) = channel();
    for unique in [114, 116, 118] {
        let (server, who, found) = (second.clone(), again(unique), found.clone());
        let uid = who.uid;
        let look_up = move |caller| {
            let request = Request { caller: Some(caller), ..who };
            found.send(server.look_up(&request, "K")).unwrap();
        };
        second.0.once_known(uid, look_up);
    }
    let released = second.release(again(120), opened);
    drop((no_answer, found));
    released.recv().unwrap();
    all_found.iter().for_each(|node| assert_ne!(node.unwrap(), old));
}

/// Has the next server do `late`, a request that the kernel sends again before the release that came before it.
fn before_the_release<T: Send + 'static>(
    mount: &Mount,
    opened: (u64, u64),
    late: impl FnOnce(&Server) -> T + Send + 'static,
) -> T {
    let kernel = Arc::clone(&mount.kernel);
    kernel.has_unread.store(true, Ordering::SeqCst);
    let server = mount.serve();
    let for_late = server.clone();
    let late = thread::spawn(move || late(&for_late));
    while !kernel.was_asked.load(Ordering::SeqCst) && !late.is_finished() {
        thread::yield_now();
    }
    let released = server.release(again(900), opened);
    kernel.has_unread.store(false, Ordering::SeqCst);
    released.recv().unwrap();
    let outcome = late.join().unwrap();
    server.kill();
    outcome
}

/// The same request, of another process.
fn of_another_process(who: Request) -> Request {
    Request { task: nix::unistd::getppid().as_raw().cast_unsigned(), ..who }
}

#[test]
fn a_resent_lookup_waits_for_the_release_before_it() {
    let mount = Mount::new();
    let first = mount.serve();
    let (opened, old) = first.truncated();
    first.kill();
    let who = again(902);
    let found = before_the_release(&mount, opened, move |server| server.look_up(&who, "K"));
    assert_ne!(found.unwrap(), old);
}

#[test]
fn a_resent_unlink_waits_for_the_release_before_it() {
    let mount = Mount::new();
    let first = mount.serve();
    let opened = first.touch(2, "K");
    first.kill();
    let who = of_another_process(again(902));
    before_the_release(&mount, opened, move |server| {
        let unlink = |fs: Arc<Fs>, request| fs.unlink(request, ROOT, "K".into());
        server.run(who, Opcode::Unlink, unlink).unwrap();
    });
    let last = mount.serve();
    assert!(matches!(last.look_up(&request(904), "K"), Err(FsError::NotFound(_))));
}

#[test]
fn a_resent_rename_waits_for_the_release_before_it() {
    let mount = Mount::new();
    let first = mount.serve();
    first.create(2, "c", b"old");
    let old = first.look_up(&request(4), "c").unwrap();
    let opened = first.touch(6, "b");
    first.kill();
    let who = of_another_process(again(902));
    before_the_release(&mount, opened, move |server| server.rename(who, "b", "c"));
    let last = mount.serve();
    assert!(matches!(last.look_up(&request(904), "b"), Err(FsError::NotFound(_))));
    assert_ne!(last.look_up(&request(906), "c").unwrap(), old);
}

/// A file is created by path while an older one of the name is on its way into the store. The writer must not wait for
/// that: it is the one that stores it.
#[test]
fn the_writer_waits_for_no_pending_publication() {
    let mount = Mount::new();
    let first = mount.serve();
    let opened = first.touch(2, "K");
    first.kill();
    let no_answer = mount.names.0.lock();
    let second = mount.serve();
    // It waits for the lookup of its writer.
    let released = second.release(again(120), opened);
    let (made, answered) = channel();
    let make = |unique: u64, name: &'static str| {
        let caller = Some(Ok(Arc::new(Caller::new(0, None, [], true))));
        let request = Request { caller, ..request(unique) };
        let made = made.clone();
        let create = |fs: Arc<Fs>, request| fs.create_closed(request, ROOT, name.into(), 0o600);
        let answer = move |outcome: Result<_, FsError>| made.send((name, outcome.is_ok())).unwrap();
        second.0.run(request, Opcode::Mknod, create, answer);
    };
    make(200, "K");
    while second.0.vault.secret("K").is_none() {
        thread::yield_now();
    }
    make(202, "L");
    assert_eq!(answered.recv().unwrap(), ("L", true));
    drop(no_answer);
    assert_eq!(answered.recv().unwrap(), ("K", true));
    released.recv().unwrap();
}
