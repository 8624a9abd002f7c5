//! Sequences of file operations by several users, against the `fs` layer as the kernel uses it, and
//! against a simple model: both must say the same, whatever is done.

mod choices;
mod errno;
mod kernel;
mod model;
mod people;

use std::collections::BTreeSet;
use std::sync::Arc;

use secretfs::crypto::{Keyring, MasterKey};
use secretfs::fs::{FileKind, Fs, Options, RenameMode, RestoredState};
use secretfs::fuse::code;
use secretfs::identity::Resolver;
use secretfs::store::{MemoryStore, Store};
use secretfs::vault::Vault;

use super::input::Input;
use choices::{LISTS, PATHS, size};
use errno::EACCES;
use kernel::{Descriptor, Flags, Kernel};
use model::{Model, Open};
use people::{Names, PEOPLE};

const KEY: &str = "8f1d3c5b7a99e0f2143658daecb1073f5e6a7b8c9d0e1f2031425364758697a8";
const STEPS: usize = 48;
const FILES: usize = 6;

pub(crate) fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = World::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.finish();
}

struct World {
    store: Arc<MemoryStore>,
    kernel: Kernel,
    model: Model,
    files: Vec<File>,
    trace: Trace,
    /// A file whose writes go through all threads: what was asked for before is done then.
    barrier: Descriptor,
}

/// What was done, for whoever has to find out why it went wrong.
#[derive(Default)]
struct Trace(Vec<String>);

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what was done:\n{}", self.0.join("\n"));
        }
    }
}

struct File {
    uid: u32,
    descriptor: Descriptor,
    open: Open,
}

fn vault(store: &Arc<MemoryStore>) -> Arc<Vault> {
    let keyring = Keyring::new(MasterKey::parse(KEY).expect("it is a key"), Vec::new());
    let store: Arc<dyn Store> = Arc::clone(store) as Arc<dyn Store>;
    Arc::new(Vault::open(store, keyring).expect("the store opens"))
}

const BARRIER: &str = "barrier/K";

impl World {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let resolver = Resolver::with_directory(None, Box::new(Names)).expect("there is no file");
        let (options, life) = (Options::default(), RestoredState::default());
        let fs = Fs::new(vault(&store), Arc::new(resolver), options, code, life);
        let (mut kernel, mut model) = (Kernel::new(fs), Model::default());
        let flags = Flags { write: true, ..Flags::default() };
        assert_eq!(kernel.make_directory(0, "barrier"), model.make_directory(0, "barrier"));
        assert_eq!(kernel.make_closed(0, BARRIER), model.make_closed(0, BARRIER));
        let barrier = kernel.open(0, BARRIER, flags).expect("it was made");
        let mut world =
            Self { store, kernel, model, files: Vec::new(), trace: Trace::default(), barrier };
        world.settle();
        world
    }

    /// Waits until the kernel has been told everything.
    fn settle(&mut self) {
        let secret = self.model.secrets.get_mut(BARRIER).expect("nobody removes it");
        secret.value = b"settled".to_vec();
        self.kernel.write(0, self.barrier, 0, b"settled").expect("it is open");
        self.kernel.sync(0, self.barrier).expect("it is stored");
        self.kernel.wait_for_caches();
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let (what, uid) = (input.below(22), input.pick(&PEOPLE));
        match what {
            0..=2 => self.open(input, uid),
            3 | 4 => self.write(input),
            5 => self.close(input),
            6 => self.with_file("sync", input, |kernel, model, file, _| {
                assert_eq!(kernel.sync(file.uid, file.descriptor), model.store(&file.open, false));
            }),
            7 => self.with_file("flush", input, |kernel, model, file, _| {
                let outcome = kernel.flush(file.uid, file.descriptor);
                assert_eq!(outcome, model.store(&file.open, true));
            }),
            8 => self.with_file("set the length of", input, |kernel, model, file, input| {
                if !matches!(file.open, Open::Reader(_)) {
                    let size = size(input);
                    let outcome = kernel.set_length(file.uid, file.descriptor, size);
                    assert_eq!(outcome, model.set_length(&file.open, size));
                }
            }),
            9 => self.with_file("read", input, |kernel, _, file, _| check_bytes(kernel, file)),
            10 => {
                let path = input.pick(&PATHS);
                self.both(
                    &format!("{uid}: unlink {path}"),
                    |kernel| kernel.unlink(uid, path),
                    |model| model.unlink(uid, path),
                );
            }
            11 | 12 => self.rename(input, uid),
            13 => {
                let path = input.pick(&PATHS);
                let model = |model: &mut Model| model.make_directory(uid, path);
                self.both(
                    &format!("{uid}: mkdir {path}"),
                    |kernel| kernel.make_directory(uid, path),
                    model,
                );
            }
            14 => {
                let path = input.pick(&PATHS);
                let model = |model: &mut Model| model.remove_directory(uid, path);
                self.both(
                    &format!("{uid}: rmdir {path}"),
                    |kernel| kernel.remove_directory(uid, path),
                    model,
                );
            }
            15 => {
                let (path, size) = (input.pick(&PATHS), size(input));
                let model = |model: &mut Model| model.truncate(uid, path, size);
                self.both(
                    &format!("{uid}: truncate {path}"),
                    |kernel| kernel.truncate(uid, path, size),
                    model,
                );
            }
            16 => {
                let path = input.pick(&PATHS);
                let model = |model: &mut Model| model.make_closed(uid, path);
                self.both(
                    &format!("{uid}: mknod {path}"),
                    |kernel| kernel.make_closed(uid, path),
                    model,
                );
            }
            17 => {
                let (path, text) = (input.pick(&PATHS), input.pick(&LISTS));
                self.put(uid, &format!("{path}.acl"), text.as_bytes());
            }
            18 => {
                let (path, value) = (input.pick(&PATHS), [input.byte()]);
                self.put(uid, path, &value);
            }
            19 => {
                // What was only emptied is published after its last close has returned.
                self.settle();
                self.look(uid, input.pick(&PATHS));
            }
            20 => {
                self.settle();
                self.list(uid, input.pick(&["", "alice", "alice/d", "bob", "d", "a", "alice/a"]));
            }
            _ => {
                self.trace.0.push("drop caches".to_owned());
                let mut open: Vec<_> = self.files.iter().map(|file| file.descriptor).collect();
                open.push(self.barrier);
                self.kernel.drop_caches(&open);
            }
        }
    }

    /// The same on both sides, which must have the same outcome.
    fn both(
        &mut self,
        what: &str,
        kernel: impl FnOnce(&mut Kernel) -> Result<(), i32>,
        model: impl FnOnce(&mut Model) -> Result<(), i32>,
    ) {
        self.trace.0.push(what.to_owned());
        assert_eq!(kernel(&mut self.kernel), model(&mut self.model), "{what}");
        self.settle();
    }

    fn open(&mut self, input: &mut Input<'_>, uid: u32) {
        let (path, bits) = (input.pick(&PATHS), input.byte());
        let write = bits & 1 != 0;
        let flags = Flags {
            read: !write || bits & 2 != 0,
            write,
            create: write && bits & 4 != 0,
            exclusive: bits & 4 != 0 && bits & 24 == 24,
            truncate: write && bits & 32 != 0,
        };
        if self.files.len() < FILES {
            self.open_with(uid, path, flags);
        }
    }

    /// Whether it was opened.
    fn open_with(&mut self, uid: u32, path: &str, flags: Flags) -> bool {
        self.trace.0.push(format!("{uid}: open {path} with {flags:?} as the last file"));
        let opened = self.kernel.open(uid, path, flags);
        let expected = self.model.open(uid, path, flags);
        match (opened, expected) {
            (Ok(descriptor), Ok(open)) => {
                let file = File { uid, descriptor, open };
                check_bytes(&mut self.kernel, &file);
                self.files.push(file);
                true
            }
            (opened, expected) => {
                let (opened, expected) = (opened.map(drop), expected.map(drop));
                assert_eq!(opened, expected, "{path} by {uid} with {flags:?}");
                false
            }
        }
    }

    fn with_file(
        &mut self,
        what: &str,
        input: &mut Input<'_>,
        act: impl FnOnce(&mut Kernel, &mut Model, &File, &mut Input<'_>),
    ) {
        if !self.files.is_empty() {
            let which = input.below(self.files.len() as u64) as usize;
            self.trace.0.push(format!("{what} file {which}"));
            act(&mut self.kernel, &mut self.model, &self.files[which], input);
        }
    }

    fn write(&mut self, input: &mut Input<'_>) {
        self.with_file("write", input, |kernel, model, file, input| {
            let (at, bytes) = (size(input), input.some(12));
            if !matches!(file.open, Open::Reader(_)) && !bytes.is_empty() {
                let outcome = kernel.write(file.uid, file.descriptor, at, bytes);
                assert_eq!(outcome, model.write(&file.open, at, bytes), "at {at}");
            }
        });
    }

    fn close(&mut self, input: &mut Input<'_>) {
        if !self.files.is_empty() {
            let which = input.below(self.files.len() as u64) as usize;
            self.close_file(which);
        }
    }

    fn close_file(&mut self, which: usize) {
        self.trace.0.push(format!("close file {which}"));
        let File { uid, descriptor, open } = self.files.remove(which);
        let closed = self.kernel.flush(uid, descriptor);
        assert_eq!(closed, self.model.store(&open, true));
        self.kernel.release(uid, descriptor);
        let directories = self.model.made_directories();
        self.model.release(&open);
        // The kernel, which knew a directory there, is told a moment later that it has given way.
        if self.model.made_directories() < directories {
            self.settle();
        }
    }

    /// As a shell's `printf value > path`.
    fn put(&mut self, uid: u32, path: &str, value: &[u8]) {
        let flags = Flags { write: true, create: true, truncate: true, ..Flags::default() };
        if self.open_with(uid, path, flags) {
            let file = self.files.last().expect("it was opened");
            let written = self.kernel.write(uid, file.descriptor, 0, value);
            assert_eq!(written, self.model.write(&file.open, 0, value));
            self.close_file(self.files.len() - 1);
        }
    }

    fn rename(&mut self, input: &mut Input<'_>, uid: u32) {
        let (from, to, replace) = (input.pick(&PATHS), input.pick(&PATHS), input.below(4) > 0);
        let mode = if replace { RenameMode::Replace } else { RenameMode::NoReplace };
        let kernel = |kernel: &mut Kernel| kernel.rename(uid, (from, to), mode);
        let model = |model: &mut Model| model.rename(uid, from, to, replace);
        self.both(&format!("{uid}: rename {from} to {to}"), kernel, model);
    }

    /// What is there, and what is in it.
    fn look(&mut self, uid: u32, path: &str) {
        let expected = self.model.stat(uid, path);
        assert_eq!(self.kernel.stat(uid, path), expected, "{path} by {uid}");
        if let Ok((FileKind::File, _)) = expected {
            let flags = Flags { read: true, ..Flags::default() };
            if self.open_with(uid, path, flags) {
                self.close_file(self.files.len() - 1);
            }
        }
    }

    fn list(&mut self, uid: u32, directory: &str) {
        let listed = self.kernel.list(uid, directory);
        let expected = self.model.list(uid, directory);
        let listed = listed.map(|entries| {
            let set: BTreeSet<_> = entries
                .iter()
                .map(|(name, kind)| (name.clone(), *kind == FileKind::Directory))
                .collect();
            let names: BTreeSet<_> = entries.iter().map(|(name, _)| name).collect();
            assert_eq!(names.len(), entries.len(), "a name is listed twice in {directory}");
            set
        });
        // A directory in which the caller sees nothing is not opened, unless it is its own, or its process has
        // just emptied it, which the model does not follow.
        let nothing = Ok(BTreeSet::new());
        if listed == Err(EACCES) && uid != PEOPLE[0] && expected == nothing {
            let own = people::caller(uid).own_slug().is_some_and(|own| own.as_str() == directory);
            assert!(!own, "the own directory of {uid} is refused");
            return;
        }
        assert_eq!(listed, expected, "{directory} by {uid}");
    }

    /// Everything is as it should be, to everybody, and so it is after a restart.
    fn finish(mut self) {
        while !self.files.is_empty() {
            self.close_file(0);
        }
        self.settle();
        for uid in PEOPLE {
            PATHS.iter().for_each(|path| self.look(uid, path));
            ["", "alice", "alice/d", "bob", "d"]
                .iter()
                .for_each(|directory| self.list(uid, directory));
        }
        let Self { store, kernel, model, .. } = self;
        kernel.end();
        let vault = vault(&store);
        assert_eq!(vault.len(), model.secrets.len());
        for (key, expected) in &model.secrets {
            let secret = vault.secret(key).expect("it was stored");
            let value = vault.read_all(secret.value()).expect("it is whole");
            assert!(value.expose() == expected.value && **secret.acl() == expected.acl, "{key}");
        }
    }
}

/// What a descriptor shows.
fn check_bytes(kernel: &mut Kernel, file: &File) {
    let expected = match &file.open {
        Open::Reader(bytes) => bytes.clone(),
        Open::Writer(draft) => draft.borrow().bytes.clone(),
        Open::Scratch(bytes) => bytes.borrow().clone(),
    };
    assert!(
        kernel.read(file.uid, file.descriptor) == Ok(expected.clone()),
        "{:?}",
        file.descriptor
    );
    let again = kernel.read_past_the_cache(file.uid, file.descriptor);
    assert!(again == Ok(expected), "{:?}", file.descriptor);
}
