//! A real directory whose files of documents are applied: a git checkout, what a configuration manager
//! fills, a mounted ConfigMap.
//!
//! One thread looks through the directory at the start, when inotify reports something and it has been quiet for a
//! moment since, and now and then in any case: some file systems report nothing, and a directory can be put in the
//! place of the watched one. A file that is not what it was is applied with the rights of the UID that owns it.
//! Nothing is written into the directory.

mod files;
mod watch;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::BuildHasher;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::fs::{Fs, NotApplied};
use crate::identity::Trust;
use crate::model::{Key, printable};
use crate::telemetry::Part;

use crate::daemon::lookup_helper::LookupHelper;
use files::{Fault, Found, Print, Root};
pub(in crate::daemon) use files::{Kind, open_in};
use watch::Watch;

/// How long the directory must be quiet before it is looked through.
const SETTLED: Duration = Duration::from_millis(300);
/// But it is looked through after this time, however busy it is.
const LONGEST: Duration = Duration::from_secs(10);
/// When it is looked through although nothing was reported.
const POLL: Duration = Duration::from_secs(10);
/// When a file is applied again that failed for a reason that may have passed.
const RETRY: Duration = Duration::from_secs(60);
/// How long a name service may hold up files of others than the owner it is asked about.
const NAMES: Duration = Duration::from_millis(300);
/// When it is looked again whether the owners of the files that were left out are known, or whether there is a
/// directory again.
const SOON: Duration = Duration::from_millis(500);
/// How long there may be no directory before that is reported: another one may be about to be put in its place.
const REPLACED: Duration = Duration::from_secs(30);
/// How many files of one owner are applied before the directory is looked through again: what other users put there
/// does not wait for all of them.
const PIECE: usize = 512;
/// How long the start waits for the first files.
const START: Duration = Duration::from_secs(10);

/// Starts the thread and waits, for a moment, until the files that are there are applied. The thread
/// ends with the file system.
///
/// # Errors
/// The directory is not one or others could change it, unless the server `takes_over`: another one may be about to
/// be put in its place. Or no thread can be started.
pub(in crate::daemon) fn start(
    fs: &Arc<Fs>,
    directory: &Path,
    trust: Trust,
    lookup_helper: LookupHelper,
    takes_over: bool,
) -> io::Result<()> {
    let directory = std::path::absolute(directory)?;
    if !takes_over {
        Root::open(&trust.check_directory(&directory)?, None)?;
    }
    let watch = Watch::new(&directory)?;
    let (first, done) = channel();
    let importer = Importer {
        fs: Arc::downgrade(fs),
        directory,
        trust,
        lookup_helper,
        identity: None,
        missing: None,
        known: BTreeMap::new(),
        files: HashMap::new(),
        readable: true,
        first: Some(first),
    };
    std::thread::Builder::new().name("import-dir".to_owned()).spawn(move || importer.run(watch))?;
    // It takes longer, or the thread has ended: either way the mount is ready for what is there.
    let _ = done.recv_timeout(START);
    Ok(())
}

struct Importer {
    fs: Weak<Fs>,
    directory: PathBuf,
    /// Whose the directory and those above it must be.
    trust: Trust,
    lookup_helper: LookupHelper,
    /// Device and inode of the directory that is watched.
    identity: Option<(u64, u64)>,
    /// Since when there is no directory.
    missing: Option<Instant>,
    /// What was done about each file, by its path in the directory.
    known: BTreeMap<PathBuf, Known>,
    /// The file in which each secret was seen last.
    files: HashMap<Key, PathBuf>,
    /// Whether the directory could be read the last time.
    readable: bool,
    first: Option<Sender<()>>,
}

/// What a look through the directory left to do.
enum Rest {
    Nothing,
    /// The names of owners are still being looked up, or another directory is being put in the place of the one
    /// before.
    Soon,
    /// More files than are applied at once.
    Files,
}

struct Known {
    print: Print,
    uid: u32,
    /// When it failed for a reason that is not in the file.
    failed: Option<Instant>,
    good: bool,
    /// A hash of what was said about it.
    said: u64,
    /// A hash of why it was not even read: that may lie in the directories above it.
    refusal: Option<u64>,
    /// What stands in it, if it was applied.
    keys: Vec<Key>,
}

impl Importer {
    fn run(mut self, mut watch: Watch) {
        loop {
            let Some(fs) = self.fs.upgrade() else { return };
            let rest = self.look_through(&fs, &mut watch);
            drop(fs);
            match rest {
                Rest::Files => {}
                Rest::Soon => watch.wait(SOON, SETTLED, LONGEST),
                Rest::Nothing => {
                    // The start waits no longer.
                    drop(self.first.take());
                    watch.wait(POLL, SETTLED, LONGEST);
                }
            }
        }
    }

    /// Applies what is due. A file whose owner has not been looked up yet is left out.
    fn look_through(&mut self, fs: &Fs, watch: &mut Watch) -> Rest {
        let found = self.find(watch);
        let (root, found) = match found {
            Ok((root, _)) if !root.is_at(&self.directory) => return Rest::Soon,
            Ok(found) => found,
            Err(error) if files::has_gone(&error) && self.is_about_to_return() => {
                return Rest::Soon;
            }
            Err(error) => {
                let directory = self.directory.display();
                if std::mem::take(&mut self.readable) {
                    tracing::error!(%directory, %error, "import-dir: the directory cannot be used; its secrets stay as they are");
                }
                let why =
                    format!("{directory} cannot be used: {error}; its secrets stay as they are");
                fs.report_health(Part::ImportDir, Err(why));
                return Rest::Nothing;
            }
        };
        (self.readable, self.missing) = (true, None);
        let gone: Vec<_> =
            self.known.keys().filter(|path| !found.contains_key(*path)).cloned().collect();
        for path in &gone {
            self.forget(fs, path);
        }
        let due: Vec<_> =
            found.into_iter().filter(|(path, found)| self.is_due(path, found)).collect();
        let unknown = fs.still_unknown(due.iter().map(|(_, found)| found.uid).collect(), NAMES);
        let mut by_owner: BTreeMap<u32, VecDeque<_>> = BTreeMap::new();
        for (path, found) in due {
            if !unknown.contains(&found.uid) {
                by_owner.entry(found.uid).or_default().push_back((path, found));
            }
        }
        // Owners take turns.
        for _ in 0..PIECE {
            for of_owner in by_owner.values_mut() {
                if let Some((path, found)) = of_owner.pop_front() {
                    self.apply(fs, &root, path, found);
                }
            }
            by_owner.retain(|_, of_owner| !of_owner.is_empty());
        }
        if !root.is_at(&self.directory) {
            return Rest::Soon;
        }
        fs.report_health(Part::ImportDir, self.health());
        match (by_owner.is_empty(), unknown.is_empty()) {
            (false, _) => Rest::Files,
            (true, false) => Rest::Soon,
            (true, true) => Rest::Nothing,
        }
    }

    /// The directory, if it is safe, and the files in it.
    fn find(&mut self, watch: &mut Watch) -> io::Result<(Root, BTreeMap<PathBuf, Found>)> {
        let path = self.trust.check_directory(&self.directory)?;
        let root = Root::open(&path, Some(self.lookup_helper.clone()))?;
        let identity = root.identity()?;
        if self.identity.replace(identity).is_some_and(|before| before != identity) {
            tracing::info!(directory = %self.directory.display(), "import-dir: the directory is another one now");
            // Events of the previous directory are no longer needed.
            *watch = Watch::new(&self.directory)?;
        }
        let found = files::find(&root, |inside| watch.add(&self.directory.join(inside)))?;
        Ok((root, found))
    }

    /// Whether a directory that is gone has not been gone for long.
    fn is_about_to_return(&mut self) -> bool {
        self.missing.get_or_insert_with(Instant::now).elapsed() < REPLACED
    }

    /// Whether everything in the directory is applied. The fault of a file is reported to its owner alone, because
    /// every caller may read health.
    fn health(&self) -> Result<(), String> {
        let bad = self.known.values().filter(|known| !known.good).count();
        let what = match bad {
            0 => return Ok(()),
            1 => "1 file is not applied".to_owned(),
            bad => format!("{bad} files are not applied"),
        };
        Err(format!("{what}; .status/import-dir tells their owners why"))
    }

    fn is_due(&self, path: &Path, found: &Found) -> bool {
        self.known.get(path).is_none_or(|known| {
            known.print != found.print
                || known.refusal != refusal_of(found)
                || known.failed.is_some_and(|at| at.elapsed() > RETRY)
        })
    }

    /// Removing a file removes nothing, and that is said.
    fn forget(&mut self, fs: &Fs, path: &Path) {
        self.forget_keys(path);
        if let Some(known) = self.known.remove(path) {
            let path = path.display().to_string();
            tracing::info!(%path, "import-dir: the file is gone; its secrets stay until they are removed");
            let said = "removed; its secrets stay until they are removed".to_owned();
            fs.note_imported(&path, known.uid, said, false);
        }
    }

    /// Warns of a secret that stands in another file as well: which of them holds is chance.
    fn also_in(&mut self, path: &Path, keys: &[Key]) -> String {
        self.forget_keys(path);
        let mut said = String::new();
        for key in keys {
            let other = self.files.insert(key.clone(), path.to_owned());
            if let Some(other) = other.filter(|other| other != path)
                && said.is_empty()
            {
                let other = other.display();
                said = format!(
                    "; `{key}` stands in {other} too: keep one of them, or whichever is applied last holds"
                );
            }
        }
        said
    }

    fn forget_keys(&mut self, path: &Path) {
        for key in self.known.get(path).into_iter().flat_map(|known| &known.keys) {
            if self.files.get(key).is_some_and(|file| file == path) {
                self.files.remove(key);
            }
        }
    }

    fn apply(&mut self, fs: &Fs, root: &Root, path: PathBuf, found: Found) {
        let (print, uid, refusal) = (found.print, found.uid, refusal_of(&found));
        let (mut keys, mut for_log) = (Vec::new(), None);
        let (said, good, failed) = match found.read(root, &path) {
            // It is not what was found: the next look finds out what is there.
            Err(Fault::Unreadable(error)) if files::has_gone(&error) => return,
            Err(Fault::Changing) if !root.is_at(&self.directory) => return,
            Err(fault) => {
                let failed = matches!(fault, Fault::Unreadable(_) | Fault::Changing);
                (fault.to_string(), false, failed.then(Instant::now))
            }
            Ok(text) => match fs.import(uid, text.expose()) {
                Ok(applied) => {
                    keys = applied.documents.iter().map(|one| one.key.clone()).collect();
                    (applied.summary() + &self.also_in(&path, &keys), true, None)
                }
                Err(error) => {
                    let lasting = matches!(error, NotApplied::Documents(_));
                    let failed = (!lasting).then(Instant::now);
                    let told =
                        |lines: &[String]| format!("nothing was applied:\n{}", lines.join("\n"));
                    for_log = Some(told(&error.lines_for_log()));
                    (told(&error.lines()), false, failed)
                }
            },
        };
        let name = path.display().to_string();
        let hash = hash(&said);
        if self.known.get(&path).is_none_or(|known| known.said != hash || known.print != print) {
            let for_log = for_log.as_ref().unwrap_or(&said);
            let lines: Vec<_> = for_log.lines().map(printable).collect();
            let (path, lines) = (printable(&name), lines.join("\n"));
            if good {
                tracing::info!(%path, uid, "import-dir: {lines}");
            } else {
                tracing::warn!(%path, uid, "import-dir: {lines}");
            }
            fs.note_imported(&name, uid, said, !good);
        }
        self.known.insert(path, Known { print, uid, failed, good, said: hash, refusal, keys });
    }
}

/// A hash of why a file must not be read.
fn refusal_of(found: &Found) -> Option<u64> {
    found.refusal().map(|refusal| hash(&refusal))
}

fn hash(text: &str) -> u64 {
    foldhash::fast::FixedState::default().hash_one(text)
}
