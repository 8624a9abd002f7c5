//! Events of inotify for what the kernel cannot see.
//!
//! The kernel raises an event when a file is changed through it. It does not see what an import changes, nor
//! that a watched file, a version, does not have its name any more. So what changed is touched through the
//! mount ([`Touch`]): that changes nothing, but the kernel raises IN_MODIFY.
//!
//! No request waits for that. Changes are noted. A moment later, those that the kernel still knows are
//! touched. If too much comes at once, the rest is dropped and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::telemetry::Counter;
use crate::vault::{Change, RecordId};

use crate::fs::Fs;

/// Changes of the same thing within this time are one event. In this time the kernel forgets what is not
/// watched, so that it is not touched in vain.
const PAUSE: Duration = Duration::from_millis(20);
/// Secrets that changed within one pause.
const MOST_AT_ONCE: usize = 4096;
/// Superseded versions that the kernel still knows.
const MOST_OUTDATED: usize = 4096;

/// What is to be touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// By its path from the root of the mount: raises an event for watchers of the directory.
    Path(String),
    /// By its number: raises an event for watchers of a superseded version.
    Node(u64),
}

/// Sets the time of a file of the mount, through the kernel. That comes back as a request, so a thread that
/// another one waits for must not do it.
pub trait Touch: Send + 'static {
    /// Touches all of them; what is not there any more is passed over.
    ///
    /// # Errors
    /// They cannot be touched now.
    fn touch(&mut self, touched: &[Touched]) -> io::Result<()>;
}

/// Changes of what may be watched.
#[derive(Default)]
pub(in crate::fs) struct Watchers {
    pending: Arc<(Mutex<Pending>, Condvar)>,
    is_served: AtomicBool,
    dropped: Arc<Counter>,
}

/// What has changed since the last time.
#[derive(Default)]
struct Pending {
    /// Versions that were superseded, by the secret.
    versions: BTreeMap<RecordId, BTreeSet<u64>>,
    /// Keys that an import changed, and whether they are new.
    imported: BTreeMap<String, bool>,
    is_over: bool,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.imported.is_empty()
    }
}

impl Watchers {
    /// Notes which versions are superseded.
    pub(in crate::fs) fn changed(&self, changes: &[Change]) {
        let superseded = changes.iter().filter_map(|change| {
            let (before, after) = (change.before.as_ref()?, change.after.as_ref());
            let node = before.value().node();
            let is_same = after.is_some_and(|after| after.value().node() == node);
            (!is_same).then(|| (before.record(), node))
        });
        self.note(superseded, |pending, (record, node)| {
            pending.versions.entry(record).or_default().insert(node);
        });
    }

    /// Notes what was changed behind the kernel's back.
    pub(in crate::fs) fn imported(&self, changes: &[Change]) {
        let keys = changes.iter().filter_map(|change| {
            let after = change.after.as_ref()?;
            Some((after.key().to_string(), change.before.is_none()))
        });
        self.note(keys, |pending, (key, is_new)| {
            *pending.imported.entry(key).or_default() |= is_new;
        });
    }

    fn note<T>(&self, items: impl Iterator<Item = T>, add: impl Fn(&mut Pending, T)) {
        if !self.is_served.load(Ordering::Relaxed) {
            return;
        }
        let (lock, news) = &*self.pending;
        let mut pending = lock.lock();
        let was_empty = pending.is_empty();
        for item in items {
            if pending.versions.len() + pending.imported.len() < MOST_AT_ONCE {
                add(&mut pending, item);
            } else {
                self.dropped.increment();
            }
        }
        if was_empty && !pending.is_empty() {
            news.notify_one();
        }
    }

    /// How many changes were dropped and raised no event.
    pub(in crate::fs) fn dropped(&self) -> u64 {
        self.dropped.get()
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.pending.0.lock().is_over = true;
        self.pending.1.notify_one();
    }
}

impl Fs {
    /// Starts the thread that raises events for watchers. Until then changes raise none.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn serve_watchers(self: &Arc<Self>, mut touch: impl Touch) -> io::Result<()> {
        let fs = Arc::downgrade(self);
        let (pending, dropped) =
            (Arc::clone(&self.watchers.pending), Arc::clone(&self.watchers.dropped));
        let mut outdated = Outdated::default();
        std::thread::Builder::new().name("watchers".to_owned()).spawn(move || {
            let (lock, news) = &*pending;
            loop {
                let mut noted = lock.lock();
                while noted.is_empty() && !noted.is_over {
                    news.wait(&mut noted);
                }
                drop(noted);
                std::thread::sleep(PAUSE);
                let noted = std::mem::take(&mut *lock.lock());
                let Some(fs) = fs.upgrade() else { return };
                let touched = fs.to_touch(noted, &mut outdated);
                // This thread must not keep the `Fs` alive while it waits for the mount.
                drop(fs);
                if !touched.is_empty()
                    && let Err(error) = touch.touch(&touched)
                {
                    touched.iter().for_each(|_| dropped.increment());
                    tracing::debug!(%error, "inotify: nothing was touched");
                }
            }
        })?;
        self.watchers.is_served.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// What is to be touched: only what the kernel knows can be watched.
    fn to_touch(&self, noted: Pending, outdated: &mut Outdated) -> Vec<Touched> {
        let knows = |node| self.nodes.knows(node);
        let versions =
            noted.versions.into_iter().flat_map(|(of, nodes)| outdated.add(of, nodes, knows));
        let mut touched: Vec<_> = versions.map(Touched::Node).collect();
        let paths = noted.imported.iter().filter_map(|(key, is_new)| {
            shown(key, *is_new, |directory| knows(Self::directory_node(directory)))
                .map(str::to_owned)
        });
        let paths: BTreeSet<_> = paths.collect();
        touched.extend(paths.into_iter().map(Touched::Path));
        touched
    }
}

/// What is to be touched for a key, if the kernel knows the directory of that: the key, or the first
/// directory on the way to a new key that the kernel does not know yet.
fn shown(key: &str, is_new: bool, knows: impl Fn(&str) -> bool) -> Option<&str> {
    let mut path = key;
    loop {
        let (directory, _) = path.rsplit_once('/').unwrap_or(("", path));
        if knows(directory) {
            return Some(path);
        }
        if !is_new || directory.is_empty() {
            return None;
        }
        path = directory;
    }
}

/// Superseded versions of each secret that the kernel still knew at the last change. A watcher of one sees
/// every further change of the secret, however old the version.
#[derive(Default)]
struct Outdated {
    by_secret: BTreeMap<RecordId, BTreeSet<u64>>,
    count: usize,
}

impl Outdated {
    /// Adds versions of a secret; gives all of it that the kernel knows.
    fn add(
        &mut self,
        record: RecordId,
        nodes: BTreeSet<u64>,
        knows: impl Fn(u64) -> bool,
    ) -> BTreeSet<u64> {
        let mut all = self.by_secret.remove(&record).unwrap_or_default();
        self.count -= all.len();
        all.extend(nodes);
        all.retain(|node| knows(*node));
        if self.count + all.len() > MOST_OUTDATED {
            self.by_secret.retain(|_, nodes| {
                nodes.retain(|node| knows(*node));
                !nodes.is_empty()
            });
            self.count = self.by_secret.values().map(BTreeSet::len).sum();
        }
        // Beyond the limit, watchers of these versions get an event for this change and for none after it.
        if !all.is_empty() && self.count + all.len() <= MOST_OUTDATED {
            self.count += all.len();
            self.by_secret.insert(record, all.clone());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_directory_that_is_known_shows_what_is_new_in_it() {
        let known =
            |directories: &'static [&str]| move |directory: &str| directories.contains(&directory);
        assert_eq!(shown("a/b/K", false, known(&["", "a", "a/b"])), Some("a/b/K"));
        assert_eq!(shown("a/b/K", false, known(&["", "a"])), None, "nobody can be watching it");
        assert_eq!(shown("a/b/K", true, known(&["", "a"])), Some("a/b"));
        assert_eq!(shown("a/b/K", true, known(&[""])), Some("a"));
        assert_eq!(shown("K", false, known(&[""])), Some("K"));
    }

    fn record(number: u64) -> RecordId {
        RecordId::from_u64(number)
    }

    #[test]
    fn old_versions_are_told_as_long_as_they_are_known() {
        let mut outdated = Outdated::default();
        let all = |_| true;
        assert_eq!(outdated.add(record(1), [1].into(), all), [1].into());
        assert_eq!(outdated.add(record(1), [2].into(), all), [1, 2].into());
        assert_eq!(outdated.add(record(2), [9].into(), all), [9].into());
        assert_eq!(outdated.add(record(1), [3].into(), |node| node != 1), [2, 3].into());
        assert_eq!(outdated.add(record(1), [4].into(), |_| false), [].into());
        assert_eq!((outdated.by_secret.len(), outdated.count), (1, 1));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut outdated = Outdated::default();
        let most = MOST_OUTDATED as u64;
        for number in 0..2 * most {
            assert_eq!(outdated.add(record(number), [number].into(), |_| true), [number].into());
        }
        assert_eq!(outdated.count, MOST_OUTDATED);
        // Room is made of what the kernel has forgotten.
        outdated.add(record(2 * most), [2 * most].into(), |node| node >= most - 1);
        assert_eq!(outdated.count, 2);
    }

    #[test]
    fn what_comes_too_fast_is_counted() {
        let watchers = Watchers::default();
        watchers.is_served.store(true, Ordering::Relaxed);
        let add = |pending: &mut Pending, number: usize| {
            pending.imported.insert(number.to_string(), false);
        };
        watchers.note(0..MOST_AT_ONCE + 3, add);
        assert_eq!(watchers.dropped(), 3);
    }
}
