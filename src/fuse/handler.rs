//! Each request becomes one call of the file system and one answer.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, PollEvents, PollFlags,
    PollNotifier, RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen,
    ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::fs::{
    Changes, Creation, FileKind, Fs, FsError, Lock, NEVER, Opcode, RenameMode, Requester, Trial,
};
use crate::model::{MAX_COMPONENT_BYTES, MAX_VALUE_BYTES};
use crate::telemetry::request_watchdog;
use crate::telemetry::request_watchdog::InFlight;

use super::convert::{GENERATION, file_attr, file_type, poll_events, requester, time, wanted};
use super::errno::{INVALID, LEFT_TO_THE_KERNEL, NO_SUCH_CONTROL, NOBODY_MAY, UNSUPPORTED, errno};
use super::locks::{UNLOCKED, lock, lock_type};
use super::reply::{
    DirEntry, Refuse, entries, later, reply_attr, reply_created, reply_empty, reply_entry,
    reply_opened, reply_xattr,
};

const STATFS_BLOCK_BYTES: u32 = 4096;
/// Longer than any command for a control file.
const LONGEST_COMMAND: usize = 64;
/// How many requests that no process waits for the kernel may have open. Releases of files that were only
/// created are such requests, and wait for the disk; those that the kernel keeps back count as open files.
const RELEASES: u16 = 16_384;

/// Serves requests on several threads. Answers that need the disk come from the invalidator's thread, and
/// requests of callers that must be looked up go on elsewhere: a request thread waits for no other one,
/// except for its turn in quarantine.
pub(super) struct Handler {
    fs: Arc<Fs>,
}

impl Handler {
    pub(super) fn new(fs: Arc<Fs>) -> Self {
        Self { fs }
    }

    /// A request has come that asks for no caller. [`InFlight`] lasts as long as this thread works on it.
    fn begin(&self, request: &Request, opcode: Opcode) -> Result<(InFlight, Trial), FsError> {
        self.fs.requests.count(opcode);
        let working = match opcode {
            Opcode::Release => request_watchdog::working_on_what_others_wait_for(),
            _ => request_watchdog::working(),
        };
        Ok((working, self.fs.begin_trial(&requester(request))?))
    }

    /// A request has come that needs to know its caller. `operation` runs here if it is known, without
    /// an allocation; otherwise on another thread once it is, with a copy of `input`. An operation that
    /// answers at once drops the trial when it returns.
    fn for_caller<R, I>(
        &self,
        request: &Request,
        opcode: Opcode,
        reply: R,
        input: &I,
        operation: impl FnOnce(&Arc<Fs>, &Requester, Trial, R, &I) + Send + 'static,
    ) where
        R: Refuse + Send + 'static,
        I: ToOwned + ?Sized,
        I::Owned: Send + 'static,
    {
        self.fs.requests.count(opcode);
        let who = requester(request);
        match self.fs.known_caller(who.uid) {
            Some(_known) => run(&self.fs, &who, reply, input, operation),
            None => {
                let (fs, input) = (Arc::clone(&self.fs), input.to_owned());
                self.fs.once_known(who.uid, move || {
                    run(&fs, &who, reply, input.borrow(), operation);
                });
            }
        }
    }
}

/// Runs an operation, or answers that it is not tried any more.
fn run<R: Refuse, I: ?Sized>(
    fs: &Arc<Fs>,
    who: &Requester,
    reply: R,
    input: &I,
    operation: impl FnOnce(&Arc<Fs>, &Requester, Trial, R, &I),
) {
    let _working = request_watchdog::working();
    match fs.begin_trial(who) {
        Ok(trial) => operation(fs, who, trial, reply, input),
        Err(error) => reply.refuse(errno(&error)),
    }
}

/// Begins on a request, or answers that it is not tried any more.
macro_rules! begin {
    ($handler:expr, $request:expr, $opcode:ident, $reply:expr) => {
        match $handler.begin($request, Opcode::$opcode) {
            Ok(begun) => begun,
            Err(error) => return $reply.error(errno(&error)),
        }
    };
}

/// Wipes the bytes of a write in the buffer of this thread: the next request may be shorter, and would
/// leave the rest of them there.
///
/// The library lends the bytes for reading only, so they are written to through the buffer's own memory,
/// which the allocator of the program has exposed.
fn wipe_request(data: &[u8]) {
    let start = std::ptr::with_exposed_provenance_mut(data.as_ptr().addr());
    // SAFETY: the bytes lie in the buffer of this thread, which no other thread uses. The library reads none
    // of this request once its handler has returned, and the handler reads none after this.
    unsafe { libc::explicit_bzero(start, data.len()) };
}

impl Filesystem for Handler {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Several lookups in one directory at a time, and listings that save the lookups after them.
        // ATOMIC_O_TRUNC and WRITEBACK_CACHE stay off: see ARCHITECTURE.md. Where a kernel lacks one
        // of these, things are slower and nothing else.
        for wish in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_POSIX_LOCKS,
            InitFlags::FUSE_FLOCK_LOCKS,
        ] {
            if let Err(missing) = config.add_capabilities(wish) {
                tracing::debug!(?missing, "the kernel lacks a FUSE capability");
            }
        }
        let max_write = u32::try_from(MAX_VALUE_BYTES).expect("1 MiB fits");
        config.set_max_write(max_write).map_err(|nearest| {
            io::Error::other(format!("the kernel takes writes of {nearest} bytes at most"))
        })?;
        config.set_max_background(RELEASES).map_err(|nearest| {
            io::Error::other(format!("the kernel has {nearest} requests without a caller at most"))
        })?;
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.for_caller(
            request,
            Opcode::Lookup,
            reply,
            name,
            move |fs, who, _trial, reply, name| {
                reply_entry(reply, fs.look_up(who, parent.0, name));
            },
        );
    }

    fn forget(&self, _request: &Request, node: INodeNo, lookups: u64) {
        // Never sent again: it has no answer.
        self.fs.requests.count(Opcode::Forget);
        let _working = request_watchdog::working();
        self.fs.forget(node.0, lookups);
    }

    fn getattr(
        &self,
        request: &Request,
        node: INodeNo,
        handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let handle = handle.map(|handle| handle.0);
        self.for_caller(request, Opcode::Getattr, reply, &(), move |fs, who, trial, reply, _| {
            fs.get_attributes(who, node.0, handle, later(trial, reply, reply_attr));
        });
    }

    fn setattr(
        &self,
        request: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changes = Changes { mode, uid, gid, size, modified: mtime.map(time) };
        let handle = handle.map(|handle| handle.0);
        self.for_caller(request, Opcode::Setattr, reply, &(), move |fs, who, trial, reply, _| {
            let answer = Box::new(later(trial, reply, reply_attr));
            fs.set_attributes(who, node.0, handle, changes, answer);
        });
    }

    fn readlink(&self, request: &Request, _node: INodeNo, reply: ReplyData) {
        let _begun = begin!(self, request, Readlink, reply);
        reply.error(INVALID);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _device: u32,
        reply: ReplyEntry,
    ) {
        self.for_caller(request, Opcode::Mknod, reply, name, move |fs, who, trial, reply, name| {
            if mode & libc::S_IFMT != libc::S_IFREG {
                return reply.error(NOBODY_MAY);
            }
            let answer = Box::new(later(trial, reply, reply_entry));
            fs.create_closed(who, parent.0, name, mode, answer);
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        self.for_caller(
            request,
            Opcode::Mkdir,
            reply,
            name,
            move |fs, who, _trial, reply, name| {
                reply_entry(reply, fs.make_directory(who, parent.0, name));
            },
        );
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.for_caller(
            request,
            Opcode::Unlink,
            reply,
            name,
            move |fs, who, trial, reply, name| {
                fs.unlink(who, parent.0, name, Box::new(later(trial, reply, reply_empty)));
            },
        );
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.for_caller(
            request,
            Opcode::Rmdir,
            reply,
            name,
            move |fs, who, _trial, reply, name| {
                reply_empty(reply, fs.remove_directory(who, parent.0, name));
            },
        );
    }

    fn symlink(
        &self,
        request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _target: &Path,
        reply: ReplyEntry,
    ) {
        let _begun = begin!(self, request, Symlink, reply);
        reply.error(NOBODY_MAY);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = if flags.is_empty() {
            Some(RenameMode::Replace)
        } else if flags == RenameFlags::RENAME_NOREPLACE {
            Some(RenameMode::NoReplace)
        } else {
            None
        };
        let new_name = new_name.to_owned();
        self.for_caller(
            request,
            Opcode::Rename,
            reply,
            name,
            move |fs, who, trial, reply, name| {
                let Some(mode) = mode else { return reply.error(INVALID) };
                let answer = Box::new(later(trial, reply, reply_empty));
                fs.rename(who, parent.0, name, new_parent.0, &new_name, mode, answer);
            },
        );
    }

    fn link(
        &self,
        request: &Request,
        _node: INodeNo,
        _new_parent: INodeNo,
        _new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let _begun = begin!(self, request, Link, reply);
        reply.error(NOBODY_MAY);
    }

    fn open(&self, request: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let mode = flags.acc_mode();
        let (read, write) = (mode != OpenAccMode::O_WRONLY, mode != OpenAccMode::O_RDONLY);
        self.for_caller(request, Opcode::Open, reply, &(), move |fs, who, trial, reply, _| {
            fs.open(who, node.0, read, write, later(trial, reply, reply_opened));
        });
    }

    fn read(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _begun = begin!(self, request, Read, reply);
        // A read that fills the page cache has no lock owner.
        let for_pages = owner.is_none();
        let who = requester(request);
        match self.fs.read(&who, node.0, handle.0, offset, size as usize, for_pages) {
            Ok(bytes) => reply.data(bytes.expose()),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn write(
        &self,
        request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = u32::try_from(data.len()).expect("a request is under 4 GiB");
        // A write into a secret was checked when the secret was opened; a command is executed for its caller.
        if self.fs.is_control(handle.0) {
            let command = &data[..data.len().min(LONGEST_COMMAND)];
            return self.for_caller(
                request,
                Opcode::Write,
                reply,
                command,
                move |fs, who, _trial, reply, command| match fs
                    .write(who, handle.0, offset, flags.0, command)
                {
                    Ok(()) => reply.written(written),
                    Err(error) => reply.error(errno(&error)),
                },
            );
        }
        let _begun = begin!(self, request, Write, reply);
        let files = owner.map_or(0, |owner| owner.0);
        let who = Requester { files, ..requester(request) };
        let outcome = self.fs.write(&who, handle.0, offset, flags.0, data);
        wipe_request(data);
        match outcome {
            Ok(()) => reply.written(written),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn flush(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // What this closes is stored for the caller that opened it, and other requests wait for that. So the
        // caller is looked up first.
        self.for_caller(request, Opcode::Flush, reply, &(), move |fs, who, trial, reply, _| {
            let who = &Requester { files: owner.0, ..*who };
            fs.flush(who, node.0, handle.0, Box::new(later(trial, reply, reply_empty)));
        });
    }

    fn release(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let (_working, trial) = begin!(self, request, Release, reply);
        self.fs.release(&requester(request), node.0, handle.0, move || {
            drop(trial);
            reply.ok();
        });
    }

    fn fsync(
        &self,
        request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let (_working, trial) = begin!(self, request, Fsync, reply);
        self.fs.sync(&requester(request), handle.0, Box::new(later(trial, reply, reply_empty)));
    }

    fn opendir(&self, request: &Request, node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.for_caller(request, Opcode::Opendir, reply, &(), move |fs, who, _trial, reply, _| {
            match fs.open_directory(who, node.0) {
                Ok(opened) => reply.opened(FileHandle(opened.handle), FopenFlags::empty()),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn readdir(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.for_caller(
            request,
            Opcode::Readdir,
            reply,
            &(),
            move |fs, who, _trial, mut reply, _| {
                let listed = match fs.list(who, node.0, handle.0, offset == 0) {
                    Ok(listed) => listed,
                    Err(error) => return reply.error(errno(&error)),
                };
                for (position, entry) in entries(&listed, offset) {
                    let full = match entry {
                        DirEntry::Dot(name) => {
                            reply.add(node, position, fuser::FileType::Directory, name)
                        }
                        DirEntry::Listed(one) => {
                            reply.add(INodeNo(one.node), position, file_type(one.kind), &*one.name)
                        }
                    };
                    if full {
                        break;
                    }
                }
                reply.ok();
            },
        );
    }

    fn readdirplus(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.for_caller(
            request,
            Opcode::Readdirplus,
            reply,
            &(),
            move |fs, who, _trial, mut reply, _| {
                let listed = match fs.list(who, node.0, handle.0, offset == 0) {
                    Ok(listed) => listed,
                    Err(error) => return reply.error(errno(&error)),
                };
                for (position, entry) in entries(&listed, offset) {
                    let full = match entry {
                        DirEntry::Dot(name) => match fs.attributes(who, node.0) {
                            Ok(attr) => reply.add(
                                node,
                                position,
                                name,
                                &NEVER,
                                &file_attr(&attr),
                                GENERATION,
                            ),
                            Err(error) => return reply.error(errno(&error)),
                        },
                        DirEntry::Listed(one) => {
                            // What went since the listing was made is left out.
                            let Ok(found) = fs.look_up(who, node.0, OsStr::new(&*one.name)) else {
                                continue;
                            };
                            let lifetime = match found.attr.kind {
                                FileKind::File => found.attr.lifetime,
                                FileKind::Directory => NEVER,
                            };
                            let (child, attr) = (INodeNo(found.attr.node), file_attr(&found.attr));
                            let full = reply
                                .add(child, position, &*one.name, &lifetime, &attr, GENERATION);
                            if full {
                                fs.forget(child.0, 1);
                            }
                            full
                        }
                    };
                    if full {
                        break;
                    }
                }
                reply.ok();
            },
        );
    }

    fn releasedir(
        &self,
        request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let _begun = begin!(self, request, Releasedir, reply);
        self.fs.close_directory(handle.0);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let _begun = begin!(self, request, Fsyncdir, reply);
        // Every change was durable before it was answered.
        reply.ok();
    }

    fn statfs(&self, request: &Request, _node: INodeNo, reply: ReplyStatfs) {
        let _begun = begin!(self, request, Statfs, reply);
        match self.fs.space() {
            Ok(space) => {
                let blocks = |bytes: u64| bytes / u64::from(STATFS_BLOCK_BYTES);
                let (total, free) = (blocks(space.total), blocks(space.free));
                let longest = u32::try_from(MAX_COMPONENT_BYTES).expect("255 fits");
                let size = STATFS_BLOCK_BYTES;
                reply.statfs(total, free, free, free, free, size, longest, size);
            }
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn setxattr(
        &self,
        request: &Request,
        node: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let _begun = begin!(self, request, Setxattr, reply);
        reply.error(errno(&self.fs.refuse_attribute(&requester(request), node.0)));
    }

    fn getxattr(
        &self,
        request: &Request,
        node: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        self.for_caller(
            request,
            Opcode::Getxattr,
            reply,
            name,
            move |fs, who, _trial, reply, name| {
                reply_xattr(reply, size, fs.attribute(who, node.0, name));
            },
        );
    }

    fn listxattr(&self, request: &Request, _node: INodeNo, size: u32, reply: ReplyXattr) {
        let _begun = begin!(self, request, Listxattr, reply);
        reply_xattr(reply, size, Ok(Vec::new()));
    }

    fn removexattr(&self, request: &Request, node: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        let _begun = begin!(self, request, Removexattr, reply);
        reply.error(errno(&self.fs.refuse_attribute(&requester(request), node.0)));
    }

    fn access(&self, request: &Request, node: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let wanted = wanted(mask);
        self.for_caller(request, Opcode::Access, reply, &(), move |fs, who, _trial, reply, _| {
            reply_empty(reply, fs.access(who, node.0, wanted));
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let exclusive = flags & libc::O_EXCL != 0;
        let how = Creation { mode, exclusive, reads: flags & libc::O_ACCMODE == libc::O_RDWR };
        self.for_caller(
            request,
            Opcode::Create,
            reply,
            name,
            move |fs, who, trial, reply, name| {
                let answer = later(trial, reply, reply_created);
                fs.create(who, parent.0, name, how, answer);
            },
        );
    }

    fn getlk(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        process: u32,
        reply: ReplyLock,
    ) {
        let lock = lock(request, owner, (start, end), kind, process);
        self.for_caller(request, Opcode::Getlk, reply, &(), move |fs, who, _trial, reply, _| {
            let Some(lock) = lock else { return reply.error(INVALID) };
            match fs.find_lock(who, node.0, handle.0, lock) {
                Ok(found) => {
                    let Lock { start, end, process, mode, .. } = found.unwrap_or(UNLOCKED);
                    reply.locked(start, end, lock_type(mode), process);
                }
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn setlk(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        process: u32,
        waits: bool,
        reply: ReplyEmpty,
    ) {
        let lock = lock(request, owner, (start, end), kind, process);
        self.for_caller(request, Opcode::Setlk, reply, &(), move |fs, who, trial, reply, _| {
            let Some(lock) = lock else { return reply.error(INVALID) };
            let answer = later(trial, reply, reply_empty);
            fs.set_lock(who, node.0, handle.0, lock, waits, answer);
        });
    }

    fn bmap(&self, request: &Request, _node: INodeNo, _size: u32, _index: u64, reply: ReplyBmap) {
        let _begun = begin!(self, request, Bmap, reply);
        reply.error(INVALID);
    }

    fn ioctl(
        &self,
        request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_size: u32,
        reply: ReplyIoctl,
    ) {
        let _begun = begin!(self, request, Ioctl, reply);
        reply.error(NO_SUCH_CONTROL);
    }

    fn poll(
        &self,
        request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        notifier: PollNotifier,
        _events: PollEvents,
        flags: PollFlags,
        reply: ReplyPoll,
    ) {
        let _begun = begin!(self, request, Poll, reply);
        let waits = flags.contains(PollFlags::FUSE_POLL_SCHEDULE_NOTIFY);
        reply.poll(poll_events(self.fs.poll(
            &requester(request),
            node.0,
            waits.then(|| notifier.handle().0),
        )));
    }

    fn fallocate(
        &self,
        request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        let _begun = begin!(self, request, Fallocate, reply);
        reply.error(UNSUPPORTED);
    }

    /// ENOSYS: the kernel then seeks on its own.
    fn lseek(
        &self,
        request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        let _begun = begin!(self, request, Lseek, reply);
        reply.error(LEFT_TO_THE_KERNEL);
    }

    /// ENOSYS: the kernel then copies with reads and writes.
    fn copy_file_range(
        &self,
        request: &Request,
        _node_in: INodeNo,
        _handle_in: FileHandle,
        _offset_in: u64,
        _node_out: INodeNo,
        _handle_out: FileHandle,
        _offset_out: u64,
        _length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let _begun = begin!(self, request, CopyFileRange, reply);
        reply.error(LEFT_TO_THE_KERNEL);
    }
}
