//! The tree that callers see: nodes, handles, drafts, directories. Knows no `fuser`.
//!
//! The way of a read: `look_up` gives the kernel a version node that never changes, so that it may
//! keep everything; `open` is where the caller is checked, each time. The way of a write: opening a
//! version node for writing answers [`FsError::Stale`], the kernel looks the path up again, and that
//! one lookup gives the thread a draft, a node of its own; closing commits it as a new version.
//!
//! Lock order: every lock in this layer is a leaf, but for the drafts' registry, which may be held
//! while one draft is locked, and the table of nodes, within which the pollers are. None is held
//! across a call into the vault that waits, or while an operation goes on (`request`).

mod attr;
mod audit;
mod budget;
mod caller;
mod error;
mod executor;
mod files;
mod kernel;
mod locks;
mod ops;
mod recovery;
mod request;
mod saved;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io as std_io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use crate::audit::ErrorCode;
use crate::identity::Resolver;
use crate::model::{Key, MAX_COMPONENT_BYTES, Timestamp};
use crate::vault::Vault;

pub use attr::{Attr, Caching, Entry, FOREVER, FileKind, NEVER, Opened};
pub use budget::MemoryLimits;
pub use error::FsError;
pub(crate) use executor::{Executor, Limits};
pub use files::import::NotApplied;
pub use files::status::requests::{Opcode, Requests};
pub use kernel::inotify::{Touch, Touched};
pub use kernel::invalidator::{INVALIDATIONS, KernelCache};
pub use kernel::nodes::ROOT;
pub use locks::{Lock, LockMode};
pub use ops::access::Wanted;
pub use ops::create::Creation;
pub use ops::poll::Readiness;
pub use ops::read_write::FileBytes;
pub use ops::readdir::Listed;
pub use ops::rename::RenameMode;
pub use ops::setattr::Changes;
pub use recovery::restore::{Outage, RestoredState};
pub use request::{Request, Started};
pub use saved::SavedState;

use budget::Budget;
use caller::closing::UnknownClosers;
use caller::program::Programs;
use files::directories::MadeDirectories;
use files::draft::publishing::PendingPublications;
use files::draft::registry::Drafts;
use files::export::ExportSizes;
use files::import::{DropDirectory, Import};
use files::scratch::ScratchFiles;
use files::status::last_error::Failures;
use files::status::operations::Operations;
use files::texts::Texts;
use kernel::handles::Handles;
use kernel::inotify::Watchers;
use kernel::invalidator::Invalidator;
use kernel::nodes::{Node, Nodes};
use kernel::prefill::Prefiller;
use kernel::retries::{PER_PROCESS, PER_TASK, Retries};
use locks::{LockingReaders, Locks};
use ops::bound::Bound;
use ops::poll::Pollers;
use recovery::quarantine::Quarantine;

/// Gives an error the number that the caller sees.
pub type NameError = fn(&FsError) -> ErrorCode;

/// What is set once, at mount.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether listings show sidecars too.
    pub list_sidecars: bool,
    /// How much memory callers may hold.
    pub memory: MemoryLimits,
}

/// The file system.
pub struct Fs {
    vault: Arc<Vault>,
    identities: Arc<Resolver>,
    executor: Executor,
    unknown_closers: UnknownClosers,
    /// Whether a file was opened by a thread that is not known.
    has_unknown_callers: AtomicBool,
    options: Options,
    started: SystemTime,
    name_error: NameError,
    programs: Programs,
    /// Counts the kernel's requests.
    pub requests: Requests,
    operations: Operations,
    nodes: Nodes,
    bound: Bound,
    handles: Handles,
    locks: Locks,
    locking_readers: LockingReaders,
    drafts: Drafts,
    tasks: Retries,
    processes: Retries,
    texts: Texts,
    scratch: ScratchFiles,
    directories: MadeDirectories,
    settling: PendingPublications,
    failures: Failures,
    budget: Budget,
    export_sizes: ExportSizes,
    import: DropDirectory,
    pollers: Arc<Pollers>,
    invalidator: Invalidator,
    prefiller: Prefiller,
    saved_state: SavedState,
    mount: u64,
    outage: Outage,
    quarantine: Arc<Quarantine>,
    /// The requests that the process before this one carried out, perhaps without answering, and the keys
    /// that they changed.
    done: HashMap<u64, Vec<String>>,
    watchers: Watchers,
}

impl Fs {
    /// A file system over a vault, for a mount that another process may have served before.
    /// `name_error` tells what number an error has in the audit log.
    pub fn new(
        vault: Arc<Vault>,
        identities: Arc<Resolver>,
        options: Options,
        name_error: NameError,
        life: RestoredState,
    ) -> Arc<Self> {
        let started = SystemTime::now();
        let start = Timestamp::from(started).as_nanos() / 1000;
        let RestoredState { mount, saved_state, inheritance, outage } = life;
        let pollers = Arc::new(Pollers::new(saved_state.clone()));
        let fs = Arc::new(Self {
            vault,
            identities,
            budget: Budget::new(options.memory),
            executor: caller::known::executor(),
            unknown_closers: UnknownClosers::default(),
            has_unknown_callers: AtomicBool::new(false),
            options,
            started,
            name_error,
            programs: Programs::default(),
            requests: Requests::default(),
            operations: Operations::default(),
            nodes: Nodes::new(start),
            bound: Bound::default(),
            handles: Handles::new(saved_state.clone()),
            locks: Locks::default(),
            locking_readers: LockingReaders::default(),
            drafts: Drafts::default(),
            tasks: Retries::new(saved_state.clone(), PER_TASK),
            processes: Retries::new(saved_state.clone(), PER_PROCESS),
            texts: Texts::default(),
            scratch: ScratchFiles::new(saved_state.clone()),
            directories: MadeDirectories::new(saved_state.clone()),
            settling: PendingPublications::default(),
            failures: Failures::default(),
            export_sizes: ExportSizes::default(),
            import: DropDirectory::default(),
            invalidator: Invalidator::new(Arc::clone(&pollers)),
            pollers,
            prefiller: Prefiller::new(),
            done: inheritance
                .as_ref()
                .map(|inheritance| inheritance.done_for(mount))
                .unwrap_or_default(),
            quarantine: Quarantine::new(saved_state.clone()),
            saved_state,
            mount,
            outage,
            watchers: Watchers::default(),
        });
        if let Some(inheritance) = inheritance {
            fs.inherit(inheritance);
        }
        fs
    }

    /// Starts the threads that keep the kernel's caches right. Until then answers to writers wait.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn serve_caches(self: &Arc<Self>, cache: impl KernelCache) -> std_io::Result<()> {
        self.tasks.begin();
        self.processes.begin();
        let cache: Arc<dyn KernelCache> = Arc::new(cache);
        self.settling.serve(Arc::clone(&cache));
        self.prefiller.start(Arc::clone(&cache))?;
        self.review_inheritance(Arc::clone(&cache))?;
        self.invalidator.start(cache)
    }

    /// Whether the kernel has been notified of every name whose meaning changed by what was answered.
    pub fn caches_are_current(&self) -> bool {
        self.invalidator.is_idle()
    }

    /// The kernel has forgotten that many lookups of a node.
    pub fn forget(&self, node: u64, lookups: u64) {
        self.nodes.forget(node, lookups, || {
            drop(self.pollers.take(node));
            self.bound.forget(node);
            self.locking_readers.forget(node);
        });
    }

    /// What the kernel means by a number, for a caller that a path can lead there.
    fn node(&self, request: &Request, number: u64) -> Result<Node, FsError> {
        let node = self.any_node(request, number)?;
        self.check_reachable(request, &node)?;
        Ok(node)
    }

    /// The node of a number, for any caller. A descriptor that was opened with O_PATH and passed on leads any
    /// caller to any node.
    fn any_node(&self, request: &Request, number: u64) -> Result<Node, FsError> {
        match self.nodes.find(number) {
            Some(node) => Ok(node),
            None => self.recall(request, number),
        }
    }

    /// Whether a path leads this caller to the node: private ones are there for their UID alone, but
    /// reports for admins, too.
    fn check_reachable(&self, request: &Request, node: &Node) -> Result<(), FsError> {
        match node.owner() {
            Some(owner) if owner != request.uid => match node {
                Node::Import(Import::Report(_))
                    if self.caller_if_known(request).is_some_and(|caller| caller.is_admin()) =>
                {
                    Ok(())
                }
                _ => Err(FsError::NotFound("the file".to_owned())),
            },
            _ => Ok(()),
        }
    }

    /// The path of a directory's node.
    fn directory(&self, request: &Request, number: u64) -> Result<Arc<str>, FsError> {
        match self.node(request, number)? {
            Node::Directory(path) => Ok(path),
            node if node.is_directory() => Err(nothing_is_made_in(&self.path_of(&node))),
            _ => Err(FsError::NotDirectory("the parent".to_owned())),
        }
    }
}

fn nothing_is_made_in(path: &str) -> FsError {
    FsError::Forbidden {
        path: path.to_owned(),
        what: "nothing can be made, changed or removed here; write elsewhere",
    }
}

/// A directory's path and a name in it.
fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { [directory, "/", name].concat() }
}

/// A name that may stand in a path, for operations that make something.
fn checked_name<'a>(directory: &str, name: &'a OsStr) -> Result<&'a str, FsError> {
    let bad = |error| FsError::BadName { path: join(directory, &name.to_string_lossy()), error };
    if name.len() > MAX_COMPONENT_BYTES {
        return Err(bad(crate::model::KeyError::ComponentTooLong));
    }
    name.to_str().ok_or_else(|| bad(crate::model::KeyError::NotUtf8))
}

fn checked_key(path: &str) -> Result<Key, FsError> {
    Key::parse(path).map_err(|error| FsError::BadName { path: path.to_owned(), error })
}
