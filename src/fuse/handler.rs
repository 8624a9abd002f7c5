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
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::fs::{Changes, FileKind, Fs, FsError, NEVER, Opcode, RenameMode, Trial};
use crate::model::{MAX_COMPONENT_BYTES, MAX_VALUE_BYTES};
use crate::telemetry::pulse::{self, Working};

use super::convert::{GENERATION, file_attr, file_type, poll_events, requester, time, wanted};
use super::errno::{INVALID, LEFT_TO_THE_KERNEL, NO_SUCH_CONTROL, NOBODY_MAY, UNSUPPORTED, errno};
use super::reply::{
    DirEntry, entries, later, reply_attr, reply_created, reply_empty, reply_entry, reply_opened,
    reply_xattr,
};

const STATFS_BLOCK_BYTES: u32 = 4096;
/// How many requests that nobody waits for the kernel may have open. Releases of files that were only
/// created are such, and wait for the disk; those that it keeps back count as open files.
const RELEASES: u16 = 16_384;

/// Serves requests on several threads. Answers that need the disk come from the courier's thread:
/// a request thread waits for no other one, but for the turn of a suspect.
pub(super) struct Handler {
    fs: Arc<Fs>,
}

impl Handler {
    pub(super) fn new(fs: Arc<Fs>) -> Self {
        Self { fs }
    }

    /// A request has come. [`Working`] lasts as long as this thread works on it.
    fn begin(&self, request: &Request, opcode: Opcode) -> Result<(Working, Trial), FsError> {
        self.fs.requests.count(opcode);
        let working = match opcode {
            Opcode::Release => pulse::working_on_what_others_wait_for(),
            _ => pulse::working(),
        };
        Ok((working, self.fs.begin_trial(&requester(request))?))
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

impl Filesystem for Handler {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Several look-ups in one folder at a time, and listings that save the look-ups after them.
        // ATOMIC_O_TRUNC and WRITEBACK_CACHE stay off: see ARCHITECTURE.md. Where a kernel lacks one
        // of these, things are slower and nothing else.
        for wish in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
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
        let _begun = begin!(self, request, Lookup, reply);
        reply_entry(reply, self.fs.look_up(&requester(request), parent.0, name));
    }

    fn forget(&self, _request: &Request, node: INodeNo, lookups: u64) {
        // Never sent again: it has no answer.
        self.fs.requests.count(Opcode::Forget);
        let _working = pulse::working();
        self.fs.forget(node.0, lookups);
    }

    fn getattr(
        &self,
        request: &Request,
        node: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let _begun = begin!(self, request, Getattr, reply);
        reply_attr(reply, self.fs.attributes(&requester(request), node.0));
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
        let (_working, trial) = begin!(self, request, Setattr, reply);
        let changes = Changes { mode, uid, gid, size, modified: mtime.map(time) };
        let handle = handle.map(|handle| handle.0);
        let answer = Box::new(later(trial, reply, reply_attr));
        self.fs.set_attributes(&requester(request), node.0, handle, changes, answer);
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
        let (_working, trial) = begin!(self, request, Mknod, reply);
        if mode & libc::S_IFMT != libc::S_IFREG {
            return reply.error(NOBODY_MAY);
        }
        let answer = Box::new(later(trial, reply, reply_entry));
        self.fs.create_closed(&requester(request), parent.0, name, mode, answer);
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
        let _begun = begin!(self, request, Mkdir, reply);
        reply_entry(reply, self.fs.make_folder(&requester(request), parent.0, name));
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (_working, trial) = begin!(self, request, Unlink, reply);
        self.fs.unlink(
            &requester(request),
            parent.0,
            name,
            Box::new(later(trial, reply, reply_empty)),
        );
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _begun = begin!(self, request, Rmdir, reply);
        reply_empty(reply, self.fs.remove_folder(&requester(request), parent.0, name));
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
        let (_working, trial) = begin!(self, request, Rename, reply);
        let mode = if flags.is_empty() {
            RenameMode::Replace
        } else if flags == RenameFlags::RENAME_NOREPLACE {
            RenameMode::NoReplace
        } else {
            return reply.error(INVALID);
        };
        let (who, answer) = (requester(request), Box::new(later(trial, reply, reply_empty)));
        self.fs.rename(&who, parent.0, name, new_parent.0, new_name, mode, answer);
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
        let (_working, trial) = begin!(self, request, Open, reply);
        let mode = flags.acc_mode();
        let (read, write) = (mode != OpenAccMode::O_WRONLY, mode != OpenAccMode::O_RDONLY);
        let answer = later(trial, reply, reply_opened);
        self.fs.open(&requester(request), node.0, read, write, answer);
    }

    fn read(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _begun = begin!(self, request, Read, reply);
        match self.fs.read(&requester(request), node.0, handle.0, offset, size as usize) {
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
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let _begun = begin!(self, request, Write, reply);
        match self.fs.write(&requester(request), handle.0, offset, flags.0, data) {
            Ok(()) => reply.written(u32::try_from(data.len()).expect("a request is under 4 GiB")),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn flush(
        &self,
        request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let (_working, trial) = begin!(self, request, Flush, reply);
        self.fs.flush(&requester(request), handle.0, Box::new(later(trial, reply, reply_empty)));
    }

    fn release(
        &self,
        request: &Request,
        _node: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let (_working, trial) = begin!(self, request, Release, reply);
        if handle.0 == 0 {
            return reply.ok();
        }
        self.fs.release(&requester(request), handle.0, move || {
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
        let _begun = begin!(self, request, Opendir, reply);
        match self.fs.open_folder(&requester(request), node.0) {
            Ok(opened) => reply.opened(FileHandle(opened.handle), FopenFlags::empty()),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn readdir(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let _begun = begin!(self, request, Readdir, reply);
        let listed = match self.fs.list(&requester(request), node.0, handle.0, offset == 0) {
            Ok(listed) => listed,
            Err(error) => return reply.error(errno(&error)),
        };
        for (position, entry) in entries(&listed, offset) {
            let full = match entry {
                DirEntry::Dot(name) => reply.add(node, position, fuser::FileType::Directory, name),
                DirEntry::Listed(one) => {
                    reply.add(INodeNo(one.node), position, file_type(one.kind), &*one.name)
                }
            };
            if full {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        request: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let _begun = begin!(self, request, Readdirplus, reply);
        let who = requester(request);
        let listed = match self.fs.list(&who, node.0, handle.0, offset == 0) {
            Ok(listed) => listed,
            Err(error) => return reply.error(errno(&error)),
        };
        for (position, entry) in entries(&listed, offset) {
            let full = match entry {
                DirEntry::Dot(name) => match self.fs.attributes(&who, node.0) {
                    Ok(attr) => {
                        reply.add(node, position, name, &NEVER, &file_attr(&attr), GENERATION)
                    }
                    Err(error) => return reply.error(errno(&error)),
                },
                DirEntry::Listed(one) => {
                    // What went since the listing was made is left out.
                    let Ok(found) = self.fs.look_up(&who, node.0, OsStr::new(&*one.name)) else {
                        continue;
                    };
                    let lifetime = match found.attr.kind {
                        FileKind::File => found.attr.lifetime,
                        FileKind::Folder => NEVER,
                    };
                    let (child, attr) = (INodeNo(found.attr.node), file_attr(&found.attr));
                    let full = reply.add(child, position, &*one.name, &lifetime, &attr, GENERATION);
                    if full {
                        self.fs.forget(child.0, 1);
                    }
                    full
                }
            };
            if full {
                break;
            }
        }
        reply.ok();
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
        self.fs.close_folder(handle.0);
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
        name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let _begun = begin!(self, request, Setxattr, reply);
        reply.error(errno(&self.fs.refuse_attribute(&requester(request), node.0, name)));
    }

    fn getxattr(
        &self,
        request: &Request,
        node: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let _begun = begin!(self, request, Getxattr, reply);
        reply_xattr(reply, size, self.fs.attribute(&requester(request), node.0, name));
    }

    fn listxattr(&self, request: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        let _begun = begin!(self, request, Listxattr, reply);
        reply_xattr(reply, size, self.fs.attribute_names(&requester(request), node.0));
    }

    fn removexattr(&self, request: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _begun = begin!(self, request, Removexattr, reply);
        reply.error(errno(&self.fs.refuse_attribute(&requester(request), node.0, name)));
    }

    fn access(&self, request: &Request, node: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let _begun = begin!(self, request, Access, reply);
        reply_empty(reply, self.fs.access(&requester(request), node.0, wanted(mask)));
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
        let (_working, trial) = begin!(self, request, Create, reply);
        let exclusive = flags & libc::O_EXCL != 0;
        let answer = later(trial, reply, reply_created);
        self.fs.create(&requester(request), parent.0, name, mode, exclusive, answer);
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
