//! The floor's file system. What differs from ours in what the kernel sees: a file that is written
//! stays the node that it was, since nothing here has to be right for several callers at a time.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use parking_lot::RwLock;

use crate::subjects::Counts;

/// As long as our versions' names and attributes live.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
const GENERATION: Generation = Generation(0);
/// What ours asks for.
const MAX_WRITE: u32 = 1 << 20;
/// The flags of an open of one of our versions.
const FLAGS: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE.union(FopenFlags::FOPEN_NOFLUSH);

/// As long as a line of our audit log about an open.
const LINE: [u8; 350] = [b'x'; 350];

macro_rules! counted {
    ($($name:ident),*) => {
        /// How many requests of each kind came.
        #[derive(Default)]
        struct Counted { $($name: AtomicU64),* }

        impl Counted {
            fn all(&self) -> Counts {
                [$((stringify!($name), &self.$name)),*]
                    .map(|(name, count)| (name.to_owned(), count.load(Ordering::Relaxed)))
                    .into()
            }
        }
    };
}

counted!(
    lookup,
    getattr,
    setattr,
    mkdir,
    open,
    create,
    read,
    write,
    release,
    fsync,
    opendir,
    readdir,
    readdirplus,
    releasedir
);

fn one_more(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A file's bytes, or a directory's names.
enum Body {
    File(Vec<u8>),
    Directory(BTreeMap<OsString, u64>),
}

struct Node {
    body: Body,
    owner: (u32, u32),
    modified: SystemTime,
}

/// What outlives a mount.
pub(crate) struct Contents {
    nodes: RwLock<HashMap<u64, Node>>,
    counted: Counted,
    log: Option<File>,
}

impl Contents {
    /// An empty directory. Each open appends to `log`, if there is one.
    pub(crate) fn new(log: Option<File>) -> Self {
        let modified = SystemTime::now();
        let root = Node { body: Body::Directory(BTreeMap::new()), owner: (0, 0), modified };
        let nodes = RwLock::new([(INodeNo::ROOT.0, root)].into());
        Self { nodes, counted: Counted::default(), log }
    }

    /// How many requests of each kind came since the start.
    pub(crate) fn counts(&self) -> Counts {
        self.counted.all()
    }

    fn attr(&self, number: u64) -> Option<FileAttr> {
        Some(attr(number, self.nodes.read().get(&number)?))
    }

    fn find(&self, parent: u64, name: &OsStr) -> Option<FileAttr> {
        let nodes = self.nodes.read();
        let Body::Directory(names) = &nodes.get(&parent)?.body else { return None };
        let number = *names.get(name)?;
        Some(attr(number, nodes.get(&number)?))
    }

    fn make(&self, parent: u64, name: &OsStr, body: Body, owner: (u32, u32)) -> Option<FileAttr> {
        let mut nodes = self.nodes.write();
        let number = nodes.len() as u64 + INodeNo::ROOT.0;
        let Body::Directory(names) = &mut nodes.get_mut(&parent)?.body else { return None };
        names.insert(name.to_owned(), number);
        let node = Node { body, owner, modified: SystemTime::now() };
        let attr = attr(number, &node);
        nodes.insert(number, node);
        Some(attr)
    }

    /// The names of a directory from the one with this number on, with `.` and `..`.
    fn names(&self, directory: u64, from: u64) -> Vec<(OsString, FileAttr)> {
        let nodes = self.nodes.read();
        let Some(Node { body: Body::Directory(names), .. }) = nodes.get(&directory) else {
            return Vec::new();
        };
        let dots = [(".".into(), directory), ("..".into(), directory)];
        let all = dots.into_iter().chain(names.iter().map(|(name, node)| (name.clone(), *node)));
        all.skip(from as usize)
            .map(|(name, number)| (name, attr(number, &nodes[&number])))
            .collect()
    }
}

fn attr(number: u64, node: &Node) -> FileAttr {
    let (kind, perm, nlink, size) = match &node.body {
        Body::File(bytes) => (FileType::RegularFile, 0o600, 1, bytes.len() as u64),
        Body::Directory(_) => (FileType::Directory, 0o755, 2, 0),
    };
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: node.modified,
        mtime: node.modified,
        ctime: node.modified,
        crtime: node.modified,
        kind,
        perm,
        nlink,
        uid: node.owner.0,
        gid: node.owner.1,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// The file system over the contents.
pub(crate) struct Bare(pub(crate) Arc<Contents>);

impl Bare {
    fn count(&self) -> &Counted {
        &self.0.counted
    }
}

impl Filesystem for Bare {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for wish in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        ] {
            if config.add_capabilities(wish).is_err() {
                eprintln!("the kernel lacks {wish:?}");
            }
        }
        let refused = |nearest| io::Error::other(format!("writes of {nearest} bytes at most"));
        config.set_max_write(MAX_WRITE).map_err(refused)?;
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        one_more(&self.count().lookup);
        match self.0.find(parent.0, name) {
            Some(attr) => reply.entry(&FOREVER, &attr, GENERATION),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        one_more(&self.count().getattr);
        match self.0.attr(node.0) {
            Some(attr) => reply.attr(&FOREVER, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        node: INodeNo,
        _mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
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
        one_more(&self.count().setattr);
        if let Some(found) = self.0.nodes.write().get_mut(&node.0) {
            found.owner = (uid.unwrap_or(found.owner.0), gid.unwrap_or(found.owner.1));
            if let (Body::File(bytes), Some(size)) = (&mut found.body, size) {
                bytes.resize(size as usize, 0);
            }
        }
        match self.0.attr(node.0) {
            Some(attr) => reply.attr(&FOREVER, &attr),
            None => reply.error(Errno::ENOENT),
        }
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
        one_more(&self.count().mkdir);
        let owner = (request.uid(), request.gid());
        match self.0.make(parent.0, name, Body::Directory(BTreeMap::new()), owner) {
            Some(attr) => reply.entry(&FOREVER, &attr, GENERATION),
            None => reply.error(Errno::ENOTDIR),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        one_more(&self.count().create);
        let owner = (request.uid(), request.gid());
        match self.0.make(parent.0, name, Body::File(Vec::new()), owner) {
            Some(attr) => reply.created(&FOREVER, &attr, GENERATION, FileHandle(0), FLAGS),
            None => reply.error(Errno::ENOTDIR),
        }
    }

    fn open(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        one_more(&self.count().open);
        if let Some(mut log) = self.0.log.as_ref()
            && let Err(error) = log.write_all(&LINE)
        {
            return reply.error(error.into());
        }
        reply.opened(FileHandle(0), FLAGS);
    }

    fn read(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        one_more(&self.count().read);
        match self.0.nodes.read().get(&node.0).map(|node| &node.body) {
            Some(Body::File(bytes)) => {
                let start = bytes.len().min(offset as usize);
                let end = bytes.len().min(start + size as usize);
                reply.data(&bytes[start..end]);
            }
            _ => reply.error(Errno::EISDIR),
        }
    }

    fn write(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        one_more(&self.count().write);
        let mut nodes = self.0.nodes.write();
        let Some(Node { body: Body::File(bytes), modified, .. }) = nodes.get_mut(&node.0) else {
            return reply.error(Errno::EISDIR);
        };
        let end = offset as usize + data.len();
        bytes.resize(bytes.len().max(end), 0);
        bytes[offset as usize..end].copy_from_slice(data);
        *modified = SystemTime::now();
        reply.written(data.len() as u32);
    }

    fn release(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        one_more(&self.count().release);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        one_more(&self.count().fsync);
        reply.ok();
    }

    fn opendir(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        one_more(&self.count().opendir);
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn readdir(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        one_more(&self.count().readdir);
        for (position, (name, attr)) in (offset + 1..).zip(self.0.names(node.0, offset)) {
            if reply.add(attr.ino, position, attr.kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        one_more(&self.count().readdirplus);
        for (position, (name, attr)) in (offset + 1..).zip(self.0.names(node.0, offset)) {
            if reply.add(attr.ino, position, name, &FOREVER, &attr, GENERATION) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        one_more(&self.count().releasedir);
        reply.ok();
    }
}
