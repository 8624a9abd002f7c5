//! A file system in memory that writes down, in order, all that is done to it: what a disk gets to
//! see, and when somebody waited for it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, Session, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;

use crate::crash::Event;

const FOREVER: Duration = Duration::from_secs(3600);
const GENERATION: Generation = Generation(0);
const BLOCK: u64 = 4096;
/// A small one, on which the store works in small steps.
const DISK_BYTES: u64 = 128 << 20;

/// What the disk holds, and how that came about.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    nodes: HashMap<u64, Node>,
    last: u64,
    events: Vec<Event>,
}

enum Node {
    File { bytes: Vec<u8>, reserved: u64 },
    Directory(BTreeMap<String, u64>),
}

impl Disk {
    /// An empty disk, mounted at `point` until what is given is dropped.
    pub(crate) fn mount(point: &Path) -> io::Result<(Self, BackgroundSession)> {
        let disk = Self::default();
        {
            let mut state = disk.0.lock();
            state.nodes.insert(INodeNo::ROOT.0, Node::Directory(BTreeMap::new()));
            state.last = INodeNo::ROOT.0;
        }
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("recording-disk".to_owned())];
        let session = Session::new(disk.clone(), point, &config)?.spawn()?;
        Ok((disk, session))
    }

    /// Puts among the events that the caller was told of this many changes.
    pub(crate) fn acknowledge(&self, changes: usize) {
        self.0.lock().events.push(Event::Acknowledged(changes));
    }

    /// All that has happened.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().events.clone()
    }
}

impl State {
    fn attr(&self, number: u64) -> Result<FileAttr, Errno> {
        let now = SystemTime::UNIX_EPOCH;
        let (kind, perm, size, blocks) = match self.nodes.get(&number).ok_or(Errno::ENOENT)? {
            Node::File { bytes, reserved } => {
                let size = bytes.len() as u64;
                (FileType::RegularFile, 0o600, size, size.max(*reserved).div_ceil(512))
            }
            Node::Directory(_) => (FileType::Directory, 0o700, 0, 0),
        };
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks,
            atime: now,
            mtime: now,
            ctime: now,
            crtime: now,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn directory(&mut self, number: u64) -> Result<&mut BTreeMap<String, u64>, Errno> {
        match self.nodes.get_mut(&number) {
            Some(Node::Directory(names)) => Ok(names),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn file(&mut self, number: u64) -> Result<(&mut Vec<u8>, &mut u64), Errno> {
        match self.nodes.get_mut(&number) {
            Some(Node::File { bytes, reserved }) => Ok((bytes, reserved)),
            _ => Err(Errno::EISDIR),
        }
    }

    fn find(&mut self, directory: u64, name: &OsStr) -> Result<u64, Errno> {
        self.directory(directory)?.get(text(name)).copied().ok_or(Errno::ENOENT)
    }

    fn make(&mut self, directory: u64, name: &OsStr, node: Node) -> Result<FileAttr, Errno> {
        let (number, name) = (self.last + 1, text(name).to_owned());
        self.directory(directory)?.insert(name.clone(), number);
        self.last = number;
        let is_directory = matches!(node, Node::Directory(_));
        self.nodes.insert(number, node);
        self.events.push(Event::Make { directory, name, node: number, is_directory });
        self.attr(number)
    }

    fn set_size(&mut self, number: u64, size: u64) -> Result<(), Errno> {
        let (bytes, reserved) = self.file(number)?;
        bytes.resize(size as usize, 0);
        *reserved = 0;
        self.events.push(Event::Resize { node: number, size });
        Ok(())
    }

    /// Blocks that are used, or reserved.
    fn used(&self) -> u64 {
        let bytes = |node: &Node| match node {
            Node::File { bytes, reserved } => (bytes.len() as u64).max(*reserved),
            Node::Directory(_) => BLOCK,
        };
        self.nodes.values().map(|node| bytes(node).div_ceil(BLOCK)).sum()
    }
}

fn text(name: &OsStr) -> &str {
    name.to_str().expect("the store's names are text")
}

fn answer(reply: ReplyEmpty, outcome: Result<(), Errno>) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Disk {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.0.lock();
        match state.find(parent.0, name).and_then(|number| state.attr(number)) {
            Ok(attr) => reply.entry(&FOREVER, &attr, GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.lock().attr(node.0) {
            // Blocks are reserved without the kernel's taking note of it.
            Ok(attr) => reply.attr(&Duration::ZERO, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        node: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.0.lock();
        let set = size.map_or(Ok(()), |size| state.set_size(node.0, size));
        match set.and_then(|()| state.attr(node.0)) {
            Ok(attr) => reply.attr(&Duration::ZERO, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        match self.0.lock().make(parent.0, name, Node::Directory(BTreeMap::new())) {
            Ok(attr) => reply.entry(&FOREVER, &attr, GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let empty = Node::File { bytes: Vec::new(), reserved: 0 };
        match self.0.lock().make(parent.0, name, empty) {
            Ok(attr) => {
                reply.created(&FOREVER, &attr, GENERATION, FileHandle(0), FopenFlags::empty())
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.0.lock().file(node.0) {
            Ok((bytes, _)) => {
                let start = bytes.len().min(offset as usize);
                let end = bytes.len().min(start + size as usize);
                reply.data(&bytes[start..end]);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.0.lock();
        match state.file(node.0) {
            Ok((bytes, _)) => {
                let (at, end) = (offset as usize, offset as usize + data.len());
                bytes.resize(bytes.len().max(end), 0);
                bytes[at..end].copy_from_slice(data);
                let event = Event::Write { node: node.0, at: offset, bytes: data.to_vec() };
                state.events.push(event);
                reply.written(data.len() as u32);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, node: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.0.lock().events.push(Event::Sync(node.0));
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, node: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.0.lock().events.push(Event::Sync(node.0));
        reply.ok();
    }

    fn opendir(&self, _: &Request, _: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn readdir(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut state = self.0.lock();
        let names = match state.directory(node.0) {
            Ok(names) => names.clone(),
            Err(errno) => return reply.error(errno),
        };
        for (position, (name, number)) in (1..).zip(names).skip(offset as usize) {
            let kind = state.attr(number).map_or(FileType::RegularFile, |attr| attr.kind);
            if reply.add(INodeNo(number), position, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut state = self.0.lock();
        // Nobody opens what is removed here again: its bytes go with its last name.
        let removed = state.find(parent.0, name).map(|number| {
            state.directory(parent.0).expect("it was found there").remove(text(name));
            state.nodes.remove(&number);
            let name = text(name).to_owned();
            state.events.push(Event::Remove { directory: parent.0, name });
        });
        answer(reply, removed);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = self.0.lock();
        let renamed = state.find(parent.0, name).and_then(|number| {
            state.directory(parent.0)?.remove(text(name));
            state.directory(new_parent.0)?.insert(text(new_name).to_owned(), number);
            let from = (parent.0, text(name).to_owned());
            let to = (new_parent.0, text(new_name).to_owned());
            state.events.push(Event::Rename { from, to });
            Ok(())
        });
        answer(reply, renamed);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let total = DISK_BYTES / BLOCK;
        let free = total.saturating_sub(self.0.lock().used());
        reply.statfs(total, free, free, 1 << 20, 1 << 20, BLOCK as u32, 255, BLOCK as u32);
    }

    fn fallocate(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mut state = self.0.lock();
        let end = offset + length;
        let allocated = match (mode, state.file(node.0)) {
            (libc::FALLOC_FL_KEEP_SIZE, Ok((_, reserved))) => {
                *reserved = end.max(*reserved);
                Ok(())
            }
            (0, Ok((bytes, _))) if (bytes.len() as u64) < end => state.set_size(node.0, end),
            (0, Ok(_)) => Ok(()),
            (_, Ok(_)) => Err(Errno::EOPNOTSUPP),
            (_, Err(errno)) => Err(errno),
        };
        answer(reply, allocated);
    }
}
