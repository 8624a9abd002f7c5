//! From a UID to its caller, with a cache.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use parking_lot::RwLock;

use super::{Directory, FileFault, Identities, MAX_IDENTITIES_BYTES, Nss, NssError, rules};
use crate::model::{Caller, Slug};

/// How long an answer is given again without a new look-up.
pub const MAX_AGE: Duration = Duration::from_secs(10);

/// How many callers are remembered: 65,536. All are forgotten when one more comes.
const MAX_CACHED: usize = 65_536;

/// Answers who a UID is. Cheap to ask again: within [`MAX_AGE`] an answer is one short read lock.
/// No lock is held while the name services are asked, so a slow one delays only whoever needs it.
pub struct Resolver {
    file: Option<PathBuf>,
    directory: Box<dyn Directory>,
    keeper: Box<dyn Keeper>,
    mounting_user: Option<u32>,
    state: RwLock<State>,
}

/// Keeps the text of the last file that was good for the process after this one.
pub trait Keeper: Send + Sync {
    /// Keeps it, in the place of the one before.
    ///
    /// # Errors
    /// There is no memory: the one before stays.
    fn keep(&self, text: &[u8]) -> io::Result<()>;

    /// The last one that was kept.
    fn kept(&self) -> Option<Vec<u8>>;
}

/// Keeps nothing.
struct Forgetful;

impl Keeper for Forgetful {
    fn keep(&self, _text: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn kept(&self) -> Option<Vec<u8>> {
        None
    }
}

struct State {
    identities: Arc<Identities>,
    callers: HashMap<u32, Cached>,
    /// Counts reloads: an answer whose look-up began before one is not kept after it.
    generation: u64,
}

struct Cached {
    caller: Arc<Caller>,
    /// When its look-up began.
    since: Instant,
}

/// A UID could not be resolved: an error for the request, never a default.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("who uid {uid} is cannot be told: {source}")]
pub struct ResolveError {
    /// The UID that was asked for.
    pub uid: u32,
    /// The look-up that failed.
    pub source: NssError,
}

/// The identities file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentitiesError {
    /// It cannot be read.
    #[error("identities file {path:?} cannot be read ({source}); check its path and mode")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Everyone may write to it, and so make himself anybody.
    #[error("identities file {0:?} may be written by everyone; take that right away (chmod o-w)")]
    WritableByAll(PathBuf),
    /// Its content is wrong.
    #[error("identities file {path:?} is not valid: {source}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: FileFault,
    },
}

impl Resolver {
    /// A resolver over the system's name services and an identities file, if there is one.
    ///
    /// # Errors
    /// The file cannot be read or is wrong: do not start.
    pub fn new(file: Option<PathBuf>) -> Result<Self, IdentitiesError> {
        Self::with_directory(file, Box::new(Nss))
    }

    /// A resolver over another directory.
    ///
    /// # Errors
    /// As [`Resolver::new`].
    pub fn with_directory(
        file: Option<PathBuf>,
        directory: Box<dyn Directory>,
    ) -> Result<Self, IdentitiesError> {
        let (resolver, fault) = Self::with_keeper(file, directory, Box::new(Forgetful))?;
        fault.map_or(Ok(resolver), Err)
    }

    /// As [`Resolver::with_directory`]. If the file is wrong, what `keeper` has of the process before
    /// holds, and what is wrong is given as well.
    ///
    /// # Errors
    /// The file cannot be read or is wrong, and nothing is kept: do not start.
    pub fn with_keeper(
        file: Option<PathBuf>,
        directory: Box<dyn Directory>,
        keeper: Box<dyn Keeper>,
    ) -> Result<(Self, Option<IdentitiesError>), IdentitiesError> {
        let read = read(file.as_deref(), directory.as_ref(), keeper.as_ref());
        let (identities, fault) = match read {
            Ok(identities) => (identities, None),
            Err(fault) => match keeper.kept().and_then(|text| Identities::parse(&text).ok()) {
                Some(identities) => (identities, Some(fault)),
                None => return Err(fault),
            },
        };
        let identities = Arc::new(identities);
        let state = RwLock::new(State { identities, callers: HashMap::default(), generation: 0 });
        Ok((Self { file, directory, keeper, mounting_user: None, state }, fault))
    }

    /// Makes the ordinary user who mounts an admin, whatever the identities file says.
    pub fn mounted_by(self, uid: u32) -> Self {
        Self { mounting_user: Some(uid), ..self }
    }

    /// The caller that a UID stands for, at most [`MAX_AGE`] old.
    ///
    /// # Errors
    /// A look-up failed; an older answer is not given instead.
    pub fn resolve(&self, uid: u32) -> Result<Arc<Caller>, ResolveError> {
        self.resolve_at(uid, Instant::now())
    }

    /// Whether the identities file gives this name to somebody as its own slug.
    pub fn is_own_slug(&self, name: &str) -> bool {
        let Ok(slug) = Slug::parse(name) else { return false };
        self.state.read().identities.uid_of(&slug).is_some()
    }

    /// Reads the identities file again and forgets every answer.
    ///
    /// # Errors
    /// The file cannot be read or is wrong: what it said before still holds. The answers are
    /// forgotten all the same.
    pub fn reload(&self) -> Result<(), IdentitiesError> {
        let (directory, keeper) = (self.directory.as_ref(), self.keeper.as_ref());
        let identities = read(self.file.as_deref(), directory, keeper);
        let mut state = self.state.write();
        state.callers.clear();
        state.generation += 1;
        state.identities = Arc::new(identities?);
        Ok(())
    }

    fn resolve_at(&self, uid: u32, now: Instant) -> Result<Arc<Caller>, ResolveError> {
        let (identities, generation) = {
            let state = self.state.read();
            match state.callers.get(&uid) {
                Some(cached) if now.saturating_duration_since(cached.since) < MAX_AGE => {
                    return Ok(Arc::clone(&cached.caller));
                }
                _ => (Arc::clone(&state.identities), state.generation),
            }
        };
        let mounts = self.mounting_user == Some(uid);
        let caller = rules::caller(uid, mounts, &identities, self.directory.as_ref())
            .map(Arc::new)
            .map_err(|source| ResolveError { uid, source })?;
        self.state.write().keep(
            uid,
            Cached { caller: Arc::clone(&caller), since: now },
            generation,
        );
        Ok(caller)
    }
}

impl State {
    fn keep(&mut self, uid: u32, cached: Cached, generation: u64) {
        if generation != self.generation {
            return;
        }
        if self.callers.len() >= MAX_CACHED && !self.callers.contains_key(&uid) {
            self.callers.clear();
        }
        self.callers.insert(uid, cached);
    }
}

fn read(
    path: Option<&Path>,
    directory: &dyn Directory,
    keeper: &dyn Keeper,
) -> Result<Identities, IdentitiesError> {
    let Some(path) = path else { return Ok(Identities::default()) };
    let unreadable = |source| IdentitiesError::Unreadable { path: path.to_owned(), source };
    let file = directory.open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if mode & 0o002 != 0 {
        return Err(IdentitiesError::WritableByAll(path.to_owned()));
    }
    let mut bytes = Vec::new();
    let limit = MAX_IDENTITIES_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    let identities = Identities::parse(&bytes)
        .map_err(|source| IdentitiesError::Invalid { path: path.to_owned(), source })?;
    if let Err(error) = keeper.keep(&bytes) {
        tracing::warn!(%error, "the identities are not kept for the case of a crash");
    }
    Ok(identities)
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::super::{Group, User};
    use super::*;
    use crate::model::Slug;
    use std::sync::mpsc;

    /// The same fake, seen by the test as well.
    impl Directory for Arc<Fake> {
        fn user_by_uid(&self, uid: u32) -> Result<Option<User>, NssError> {
            self.as_ref().user_by_uid(uid)
        }
        fn uid_by_name(&self, name: &str) -> Result<Option<u32>, NssError> {
            self.as_ref().uid_by_name(name)
        }
        fn groups_of(&self, user: &User) -> Result<Vec<Group>, NssError> {
            self.as_ref().groups_of(user)
        }
    }

    fn resolver(file: Option<PathBuf>) -> (Arc<Fake>, Resolver) {
        let fake = Arc::new(Fake::default().user(1000, "bob", &[]));
        let resolver = Resolver::with_directory(file, Box::new(Arc::clone(&fake))).unwrap();
        (fake, resolver)
    }

    fn own(caller: &Caller) -> Option<&str> {
        caller.own_slug().map(Slug::as_str)
    }

    #[test]
    fn asks_again_only_after_ten_seconds() {
        let (fake, resolver) = resolver(None);
        let start = Instant::now();
        for (after, asked) in [(0, 1), (9_999, 1), (10_000, 2), (19_999, 2), (20_000, 3)] {
            let caller = resolver.resolve_at(1000, start + Duration::from_millis(after)).unwrap();
            assert_eq!((own(&caller), fake.asked()), (Some("bob"), asked), "after {after} ms");
        }
    }

    #[test]
    fn a_failure_is_not_covered_by_an_older_answer() {
        let failing = Fake::default().failing();
        let resolver = Resolver::with_directory(None, Box::new(failing)).unwrap();
        let start = Instant::now();
        let old = Cached { caller: Arc::new(Caller::new(7, None, [], false)), since: start };
        resolver.state.write().keep(7, old, 0);
        assert!(resolver.resolve_at(7, start + MAX_AGE).is_err());
        let text = resolver.resolve(8).unwrap_err().to_string();
        assert!(text.contains("uid 8") && text.contains("try again"), "{text}");
    }

    #[test]
    fn remembers_a_bounded_number() {
        let (_, resolver) = resolver(None);
        let now = Instant::now();
        for uid in 0..=u32::try_from(MAX_CACHED).unwrap() {
            resolver.resolve_at(uid, now).unwrap();
        }
        assert_eq!(resolver.state.read().callers.len(), 1);
    }

    #[test]
    fn a_reload_takes_what_is_good_and_keeps_what_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identities.yaml");
        std::fs::write(&path, "identities: [{slug: robert, uid: 1000}]").unwrap();
        let (fake, resolver) = resolver(Some(path.clone()));
        assert_eq!(own(&resolver.resolve(1000).unwrap()), Some("robert"));

        std::fs::write(&path, "identities: [{slug: rob, uid: 1000}]").unwrap();
        resolver.reload().unwrap();
        assert_eq!(own(&resolver.resolve(1000).unwrap()), Some("rob"));

        std::fs::write(&path, "identities: [{slug: rob}]").unwrap();
        let asked = fake.asked();
        let error = resolver.reload().unwrap_err().to_string();
        assert!(error.contains("identities.yaml") && error.contains("uid"), "{error}");
        assert_eq!(own(&resolver.resolve(1000).unwrap()), Some("rob"));
        assert_eq!(fake.asked(), asked + 1, "the answers are forgotten all the same");

        std::fs::remove_file(&path).unwrap();
        assert!(matches!(resolver.reload(), Err(IdentitiesError::Unreadable { .. })));
    }

    #[test]
    fn an_answer_from_before_a_reload_is_not_kept() {
        /// Reports that it was asked and answers when it is told to.
        struct Slow(parking_lot::Mutex<(mpsc::Sender<()>, mpsc::Receiver<()>)>);
        impl Directory for Slow {
            fn user_by_uid(&self, _: u32) -> Result<Option<User>, NssError> {
                let channels = self.0.lock();
                channels.0.send(()).unwrap();
                channels.1.recv().unwrap();
                Ok(None)
            }
            fn uid_by_name(&self, _: &str) -> Result<Option<u32>, NssError> {
                Ok(None)
            }
            fn groups_of(&self, _: &User) -> Result<Vec<Group>, NssError> {
                Ok(Vec::new())
            }
        }
        let ((asked, was_asked), (answer, may_answer)) = (mpsc::channel(), mpsc::channel());
        let slow = Slow(parking_lot::Mutex::new((asked, may_answer)));
        let resolver = Resolver::with_directory(None, Box::new(slow)).unwrap();
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| resolver.resolve(5).unwrap());
            was_asked.recv().unwrap();
            resolver.reload().unwrap();
            answer.send(()).unwrap();
            asking.join().unwrap();
        });
        assert!(resolver.state.read().callers.is_empty());
    }

    #[test]
    fn a_bad_file_refuses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identities.yaml");
        let refused = || Resolver::new(Some(path.clone())).err();
        assert!(matches!(refused(), Some(IdentitiesError::Unreadable { .. })));
        std::fs::write(&path, "admins: [").unwrap();
        assert!(matches!(refused(), Some(IdentitiesError::Invalid { .. })));
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(refused(), Some(IdentitiesError::WritableByAll(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(refused().is_none());
    }

    #[test]
    fn root_is_root_and_an_admin() {
        let root = Resolver::new(None).unwrap().resolve(0).unwrap();
        assert_eq!((own(&root), root.is_admin()), (Some("root"), true));
    }
}
