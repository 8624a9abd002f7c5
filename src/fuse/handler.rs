//! Each request becomes one call of the file system and one answer.

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
    ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request as Sent, TimeOrNow, WriteFlags,
};

use crate::fs::{
    Changes, Creation, Entry, FileKind, Fs, Listed, Lock, NEVER, Opcode, Opened, RenameMode,
    Request,
};
use crate::model::{MAX_COMPONENT_BYTES, MAX_VALUE_BYTES};
use crate::telemetry::request_watchdog;

use super::convert::{GENERATION, file_attr, file_type, poll_events, request, time, wanted};
use super::errno::{INVALID, LEFT_TO_THE_KERNEL, NO_SUCH_CONTROL, NOBODY_MAY, UNSUPPORTED, errno};
use super::execute::Handler;
use super::locks::{UNLOCKED, lock, lock_type};
use super::reply::{
    DirEntry, entries, reply_attr, reply_created, reply_empty, reply_entry, reply_opened,
    reply_xattr,
};

const STATFS_BLOCK_BYTES: u32 = 4096;
/// Longer than any command for a control file.
const LONGEST_COMMAND: usize = 64;
/// How many requests that no process waits for the kernel may have open. Releases of files that were only
/// created are such requests, and wait for the disk; those that the kernel keeps back count as open files.
const RELEASES: u16 = 16_384;

impl Filesystem for Handler {
    fn init(&mut self, _sent: &Sent, config: &mut KernelConfig) -> io::Result<()> {
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

    fn lookup(&self, sent: &Sent, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let look_up =
            move |fs: &Arc<Fs>, request: &mut _, name: &OsStr| fs.look_up(request, parent.0, name);
        self.answer_caller(sent, Opcode::Lookup, reply, name, look_up, reply_entry);
    }

    fn forget(&self, _sent: &Sent, node: INodeNo, lookups: u64) {
        // Never sent again: it has no answer.
        self.fs.requests.count(Opcode::Forget);
        let _working = request_watchdog::working();
        self.fs.forget(node.0, lookups);
    }

    fn getattr(&self, sent: &Sent, node: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        let handle = handle.map(|handle| handle.0);
        self.with_caller(sent, Opcode::Getattr, &(), move |fs, mut request, ()| {
            if fs.has_lasting_attributes(node.0) {
                let attributes = |fs: &Arc<Fs>, request: &mut _| fs.attributes(request, node.0);
                return reply_attr(reply, fs.run_now(&mut request, Opcode::Getattr, attributes));
            }
            let attributes =
                move |fs: Arc<Fs>, request| fs.passing_attributes(request, node.0, handle);
            fs.run(request, Opcode::Getattr, attributes, |outcome| reply_attr(reply, outcome));
        });
    }

    fn setattr(
        &self,
        sent: &Sent,
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
        self.start(sent, Opcode::Setattr, reply, reply_attr, move |fs, request| {
            fs.set_attributes(request, node.0, handle, changes)
        });
    }

    fn readlink(&self, _sent: &Sent, _node: INodeNo, reply: ReplyData) {
        reply.error(self.refuse(Opcode::Readlink, INVALID));
    }

    fn mknod(
        &self,
        sent: &Sent,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _device: u32,
        reply: ReplyEntry,
    ) {
        if mode & libc::S_IFMT != libc::S_IFREG {
            return reply.error(self.refuse(Opcode::Mknod, NOBODY_MAY));
        }
        let name = name.to_owned();
        self.start(sent, Opcode::Mknod, reply, reply_entry, move |fs, request| {
            fs.create_closed(request, parent.0, name, mode)
        });
    }

    fn mkdir(
        &self,
        sent: &Sent,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let make = move |fs: &Arc<Fs>, request: &mut _, name: &OsStr| {
            fs.make_directory(request, parent.0, name)
        };
        self.answer_caller(sent, Opcode::Mkdir, reply, name, make, reply_entry);
    }

    fn unlink(&self, sent: &Sent, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        self.start(sent, Opcode::Unlink, reply, reply_empty, move |fs, request| {
            fs.unlink(request, parent.0, name)
        });
    }

    fn rmdir(&self, sent: &Sent, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let remove = move |fs: &Arc<Fs>, request: &mut _, name: &OsStr| {
            fs.remove_directory(request, parent.0, name)
        };
        self.answer_caller(sent, Opcode::Rmdir, reply, name, remove, reply_empty);
    }

    fn symlink(
        &self,
        _sent: &Sent,
        _parent: INodeNo,
        _name: &OsStr,
        _target: &Path,
        reply: ReplyEntry,
    ) {
        reply.error(self.refuse(Opcode::Symlink, NOBODY_MAY));
    }

    fn rename(
        &self,
        sent: &Sent,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = if flags.is_empty() {
            RenameMode::Replace
        } else if flags == RenameFlags::RENAME_NOREPLACE {
            RenameMode::NoReplace
        } else {
            return reply.error(self.refuse(Opcode::Rename, INVALID));
        };
        let (from, to) = ((parent.0, name.to_owned()), (new_parent.0, new_name.to_owned()));
        self.start(sent, Opcode::Rename, reply, reply_empty, move |fs, request| {
            fs.rename(request, from, to, mode)
        });
    }

    fn link(
        &self,
        _sent: &Sent,
        _node: INodeNo,
        _new_parent: INodeNo,
        _new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        reply.error(self.refuse(Opcode::Link, NOBODY_MAY));
    }

    fn open(&self, sent: &Sent, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let mode = flags.acc_mode();
        let (read, write) = (mode != OpenAccMode::O_WRONLY, mode != OpenAccMode::O_RDONLY);
        self.with_caller(sent, Opcode::Open, &(), move |fs, request, ()| {
            let open = |fs: &_, request| Fs::open(fs, request, node.0, read, write);
            fs.run_started(request, Opcode::Open, open, |outcome| reply_opened(reply, outcome));
        });
    }

    fn read(
        &self,
        sent: &Sent,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        // A read that fills the page cache has no lock owner.
        let for_pages = owner.is_none();
        let bytes = self.answer(sent, Opcode::Read, |fs, request| {
            fs.read(request, node.0, handle.0, offset, size as usize, for_pages)
        });
        match bytes {
            Ok(bytes) => reply.data(bytes.expose()),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn write(
        &self,
        sent: &Sent,
        _node: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let length = u32::try_from(data.len()).expect("a request is under 4 GiB");
        let written = move |reply: ReplyWrite, outcome| match outcome {
            Ok(()) => reply.written(length),
            Err(error) => reply.error(errno(&error)),
        };
        // A write into a secret was checked when the secret was opened; a command is executed for its caller.
        if self.fs.is_control(handle.0) {
            let command = &data[..data.len().min(LONGEST_COMMAND)];
            let write = move |fs: &Arc<Fs>, request: &mut _, command: &[u8]| {
                fs.write(request, handle.0, offset, flags.0, command)
            };
            return self.answer_caller(sent, Opcode::Write, reply, command, write, written);
        }
        let outcome = self.answer(sent, Opcode::Write, |fs, request| {
            request.files = owner.map_or(0, |owner| owner.0);
            fs.write(request, handle.0, offset, flags.0, data)
        });
        wipe_request(data);
        written(reply, outcome);
    }

    fn flush(
        &self,
        sent: &Sent,
        node: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // What this closes is stored for the caller that opened it, and other requests wait for that. So the
        // caller is looked up first.
        self.start(sent, Opcode::Flush, reply, reply_empty, move |fs, mut request| {
            request.files = owner.0;
            fs.flush(request, node.0, handle.0)
        });
    }

    fn release(
        &self,
        sent: &Sent,
        node: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.fs.requests.count(Opcode::Release);
        let _working = request_watchdog::working_on_what_others_wait_for();
        let release = |fs: Arc<Fs>, request| fs.release(request, node.0, handle.0);
        let answer = |outcome| reply_empty(reply, outcome);
        self.fs.run(request(sent), Opcode::Release, release, answer);
    }

    fn fsync(
        &self,
        sent: &Sent,
        _node: INodeNo,
        handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        self.fs.requests.count(Opcode::Fsync);
        let _working = request_watchdog::working();
        let sync = |fs: Arc<Fs>, request| fs.sync(request, handle.0);
        let answer = |outcome| reply_empty(reply, outcome);
        self.fs.run(request(sent), Opcode::Fsync, sync, answer);
    }

    fn opendir(&self, sent: &Sent, node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let open =
            move |fs: &Arc<Fs>, request: &mut Request, (): &()| fs.open_directory(request, node.0);
        let answer = |reply: ReplyOpen, outcome: Result<Opened, _>| match outcome {
            Ok(opened) => reply.opened(FileHandle(opened.handle), FopenFlags::empty()),
            Err(error) => reply.error(errno(&error)),
        };
        self.answer_caller(sent, Opcode::Opendir, reply, &(), open, answer);
    }

    fn readdir(
        &self,
        sent: &Sent,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.with_caller(sent, Opcode::Readdir, &(), move |fs, mut request, ()| {
            let filled = fs.run_now(&mut request, Opcode::Readdir, |fs, request| {
                let listed = fs.list(request, node.0, handle.0, offset == 0)?;
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
                Ok(())
            });
            match filled {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn readdirplus(
        &self,
        sent: &Sent,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.with_caller(sent, Opcode::Readdirplus, &(), move |fs, mut request, ()| {
            let filled = fs.run_now(&mut request, Opcode::Readdirplus, |fs, request| {
                let listed = fs.list(request, node.0, handle.0, offset == 0)?;
                for (position, entry) in entries(&listed, offset) {
                    let full = match entry {
                        DirEntry::Dot(name) => {
                            let attr = file_attr(&fs.attributes(request, node.0)?);
                            reply.add(node, position, name, &NEVER, &attr, GENERATION)
                        }
                        DirEntry::Listed(one) => {
                            // What went since the listing was made is left out.
                            let Ok(found) = fs.look_up(request, node.0, OsStr::new(&*one.name))
                            else {
                                continue;
                            };
                            add_listed(fs, &mut reply, position, one, &found)
                        }
                    };
                    if full {
                        break;
                    }
                }
                Ok(())
            });
            match filled {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(&error)),
            }
        });
    }

    fn releasedir(
        &self,
        sent: &Sent,
        _node: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let closed = self.answer(sent, Opcode::Releasedir, |fs, _| {
            fs.close_directory(handle.0);
            Ok(())
        });
        reply_empty(reply, closed);
    }

    fn fsyncdir(
        &self,
        _sent: &Sent,
        _node: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        self.fs.requests.count(Opcode::Fsyncdir);
        // Every change was durable before it was answered.
        reply.ok();
    }

    fn statfs(&self, sent: &Sent, _node: INodeNo, reply: ReplyStatfs) {
        match self.answer(sent, Opcode::Statfs, |fs, _| fs.space()) {
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
        sent: &Sent,
        node: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.refuse_attribute(sent, Opcode::Setxattr, node, reply);
    }

    fn getxattr(&self, sent: &Sent, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let get =
            move |fs: &Arc<Fs>, request: &mut _, name: &OsStr| fs.attribute(request, node.0, name);
        let answer = move |reply, outcome| reply_xattr(reply, size, outcome);
        self.answer_caller(sent, Opcode::Getxattr, reply, name, get, answer);
    }

    fn listxattr(&self, _sent: &Sent, _node: INodeNo, size: u32, reply: ReplyXattr) {
        self.fs.requests.count(Opcode::Listxattr);
        reply_xattr(reply, size, Ok(Vec::new()));
    }

    fn removexattr(&self, sent: &Sent, node: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        self.refuse_attribute(sent, Opcode::Removexattr, node, reply);
    }

    fn access(&self, sent: &Sent, node: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let wanted = wanted(mask);
        let access =
            move |fs: &Arc<Fs>, request: &mut Request, (): &()| fs.access(request, node.0, wanted);
        self.answer_caller(sent, Opcode::Access, reply, &(), access, reply_empty);
    }

    fn create(
        &self,
        sent: &Sent,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let exclusive = flags & libc::O_EXCL != 0;
        let how = Creation { mode, exclusive, reads: flags & libc::O_ACCMODE == libc::O_RDWR };
        let name = name.to_owned();
        self.start(sent, Opcode::Create, reply, reply_created, move |fs, request| {
            fs.create(request, parent.0, name, how)
        });
    }

    fn getlk(
        &self,
        sent: &Sent,
        node: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        process: u32,
        reply: ReplyLock,
    ) {
        let Some(lock) = lock(sent, owner, (start, end), kind, process) else {
            return reply.error(self.refuse(Opcode::Getlk, INVALID));
        };
        let find = move |fs: &Arc<Fs>, request: &mut Request, (): &()| {
            fs.find_lock(request, node.0, handle.0, lock)
        };
        let answer = |reply: ReplyLock, found: Result<Option<Lock>, _>| match found {
            Ok(found) => {
                let Lock { start, end, process, mode, .. } = found.unwrap_or(UNLOCKED);
                reply.locked(start, end, lock_type(mode), process);
            }
            Err(error) => reply.error(errno(&error)),
        };
        self.answer_caller(sent, Opcode::Getlk, reply, &(), find, answer);
    }

    fn setlk(
        &self,
        sent: &Sent,
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
        let Some(lock) = lock(sent, owner, (start, end), kind, process) else {
            return reply.error(self.refuse(Opcode::Setlk, INVALID));
        };
        self.start(sent, Opcode::Setlk, reply, reply_empty, move |fs, request| {
            fs.set_lock(request, node.0, handle.0, lock, waits)
        });
    }

    fn bmap(&self, _sent: &Sent, _node: INodeNo, _size: u32, _index: u64, reply: ReplyBmap) {
        reply.error(self.refuse(Opcode::Bmap, INVALID));
    }

    fn ioctl(
        &self,
        _sent: &Sent,
        _node: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(self.refuse(Opcode::Ioctl, NO_SUCH_CONTROL));
    }

    fn poll(
        &self,
        sent: &Sent,
        node: INodeNo,
        _handle: FileHandle,
        notifier: PollNotifier,
        _events: PollEvents,
        flags: PollFlags,
        reply: ReplyPoll,
    ) {
        let waits = flags.contains(PollFlags::FUSE_POLL_SCHEDULE_NOTIFY);
        let waiter = waits.then(|| notifier.handle().0);
        match self.answer(sent, Opcode::Poll, |fs, request| Ok(fs.poll(request, node.0, waiter))) {
            Ok(readiness) => reply.poll(poll_events(readiness)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn fallocate(
        &self,
        _sent: &Sent,
        _node: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(self.refuse(Opcode::Fallocate, UNSUPPORTED));
    }

    /// ENOSYS: the kernel then seeks on its own.
    fn lseek(
        &self,
        _sent: &Sent,
        _node: INodeNo,
        _handle: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        reply.error(self.refuse(Opcode::Lseek, LEFT_TO_THE_KERNEL));
    }

    /// ENOSYS: the kernel then copies with reads and writes.
    fn copy_file_range(
        &self,
        _sent: &Sent,
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
        reply.error(self.refuse(Opcode::CopyFileRange, LEFT_TO_THE_KERNEL));
    }
}

/// Adds an entry with its attributes to a listing. False if there is no room.
fn add_listed(
    fs: &Fs,
    reply: &mut ReplyDirectoryPlus,
    position: u64,
    one: &Listed,
    found: &Entry,
) -> bool {
    let lifetime = match found.attr.kind {
        FileKind::File => found.attr.lifetime,
        FileKind::Directory => NEVER,
    };
    let (child, attr) = (INodeNo(found.attr.node), file_attr(&found.attr));
    let full = reply.add(child, position, &*one.name, &lifetime, &attr, GENERATION);
    if full {
        fs.forget(child.0, 1);
    }
    full
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
