//! From a UID to its caller, with a cache. Answers are looked up by threads of their own ([`Lookups`]) and refreshed
//! before they are too old, so that a slow name service delays only the first requests of a UID.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use parking_lot::RwLock;

use super::lookups::{Lookups, Then};
use super::{
    Changes, Directory, FileFault, Identities, MAX_IDENTITIES_BYTES, Nss, NssError, rules,
};
use crate::model::{Caller, Slug};

/// How long an answer is given again without a new lookup.
pub const MAX_AGE: Duration = Duration::from_secs(10);
/// When an answer that is still used is looked up again, while the old one is given.
const REFRESH_AGE: Duration = Duration::from_secs(5);
/// How long a failed lookup is not tried again.
const FAILURE_AGE: Duration = Duration::from_secs(1);

/// How many callers are remembered: 65,536.
const MAX_CACHED: usize = 65_536;

/// Who a UID is.
pub type Answer = Result<Arc<Caller>, ResolveError>;

/// Answers who a UID is. Cheap to ask again: within [`MAX_AGE`] an answer is one short read lock. No lock is held
/// while the name services are asked, so a slow one delays only the requests that need it.
pub struct Resolver(Arc<Shared>);

struct Shared {
    file: Option<PathBuf>,
    directory: Box<dyn Directory>,
    keeper: Box<dyn Keeper>,
    mounting_user: Option<u32>,
    changes_at_start: Option<Changes>,
    state: RwLock<State>,
    lookups: Lookups,
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
    /// Counts reloads: an answer whose lookup began before one is not given after it.
    generation: u64,
}

struct Cached {
    answer: Answer,
    /// When it came.
    since: Instant,
    /// When it is to be looked up again if it is used.
    refresh: Instant,
    is_being_refreshed: AtomicBool,
}

/// What is known of a UID at a moment.
enum Known {
    /// This, and it need not be looked up yet.
    Fresh(Answer),
    /// This answer, but it should be looked up again.
    Aging(Answer),
    /// No answer that is still valid; whether the UID had a name before.
    Nothing { is_named: bool },
}

/// A UID could not be resolved: an error for the request, never a default.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("who uid {uid} is cannot be told: {source}")]
pub struct ResolveError {
    /// The UID that was asked for.
    pub uid: u32,
    /// The lookup that failed.
    pub source: NssError,
}

/// The identities file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentitiesError {
    /// It cannot be read.
    #[error("identities file {path:?} cannot be used ({source}); check its path, owner and mode")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A change must be written to the audit log, and that failed.
    #[error("the identities are not changed, since that cannot be recorded: {0}")]
    NotRecorded(String),
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
        let before = keeper.kept().and_then(|text| Identities::parse(&text).ok());
        let (identities, fault, changes_at_start) =
            match (read(file.as_deref(), directory.as_ref()), before) {
                (Ok((identities, text)), before) => {
                    keep(keeper.as_ref(), &text);
                    let changes = before.map(|before| before.changes_to(&identities));
                    (identities, None, changes)
                }
                (Err(fault), Some(before)) => (before, Some(fault), None),
                (Err(fault), None) => return Err(fault),
            };
        let identities = Arc::new(identities);
        let state = RwLock::new(State { identities, callers: HashMap::default(), generation: 0 });
        let lookups = Lookups::default();
        let mounting_user = None;
        let shared =
            Shared { file, directory, keeper, mounting_user, changes_at_start, state, lookups };
        Ok((Self(Arc::new(shared)), fault))
    }

    /// Makes the ordinary user who mounts an admin, whatever the identities file says. To be called before the first
    /// question.
    pub fn mounted_by(mut self, uid: u32) -> Self {
        let shared = Arc::get_mut(&mut self.0).expect("nobody has asked it anything yet");
        shared.mounting_user = Some(uid);
        self
    }

    /// The caller that a UID stands for, at most [`MAX_AGE`] old, if that is known; or why it is not, for a
    /// second after a lookup failed. Never waits.
    pub fn known(&self, uid: u32) -> Option<Answer> {
        match self.0.known_at(uid, Instant::now()) {
            Known::Fresh(answer) => Some(answer),
            Known::Aging(answer) => {
                // No request waits for this lookup.
                self.0.ask(uid, true, None);
                Some(answer)
            }
            Known::Nothing { .. } => None,
        }
    }

    /// Has `then` called with the answer: at once if it is known, or else by the thread that looked it
    /// up, which others need. At most a few thousand wait: `then` gets an error if there are more.
    pub fn ask(&self, uid: u32, then: Then) {
        match self.0.known_at(uid, Instant::now()) {
            Known::Fresh(answer) | Known::Aging(answer) => then(answer),
            Known::Nothing { is_named } => self.0.ask(uid, is_named, Some(then)),
        }
    }

    /// As [`Resolver::known`], but waits for the answer: not for a thread that serves requests.
    ///
    /// # Errors
    /// A lookup failed; an older answer is not given instead.
    pub fn resolve(&self, uid: u32) -> Answer {
        if let Some(answer) = self.known(uid) {
            return answer;
        }
        let (answer, answered) = channel();
        // The receiver waits below.
        self.ask(uid, Box::new(move |found| answer.send(found).unwrap_or_default()));
        answered.recv().expect("every question is answered")
    }

    /// Whether the identities file gives this name to any UID as its own slug.
    pub fn is_own_slug(&self, name: &str) -> bool {
        let Ok(slug) = Slug::parse(name) else { return false };
        self.0.state.read().identities.uid_of(&slug).is_some()
    }

    /// The identities file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// What the file says.
    pub fn identities(&self) -> Arc<Identities> {
        Arc::clone(&self.0.state.read().identities)
    }

    /// How what the file says differs from what the process before had last read; none if there was none,
    /// or that still holds.
    pub fn changes_at_start(&self) -> Option<&Changes> {
        self.0.changes_at_start.as_ref()
    }

    /// Reads the identities file again and forgets every answer. `record` gets the changes before they apply.
    ///
    /// # Errors
    /// The file cannot be read or is wrong, or the change is not recorded: what it said before still
    /// holds. The answers are forgotten all the same.
    pub fn reload(
        &self,
        record: impl FnOnce(&Changes) -> Result<(), String>,
    ) -> Result<(), IdentitiesError> {
        let Shared { file, directory, keeper, state, .. } = &*self.0;
        let read = read(file.as_deref(), directory.as_ref());
        let recorded = read.and_then(|(identities, text)| {
            let changes = self.identities().changes_to(&identities);
            record(&changes).map_err(IdentitiesError::NotRecorded)?;
            keep(keeper.as_ref(), &text);
            Ok(identities)
        });
        let mut state = state.write();
        state.callers.clear();
        state.generation += 1;
        state.identities = Arc::new(recorded?);
        Ok(())
    }
}

impl Shared {
    fn known_at(&self, uid: u32, now: Instant) -> Known {
        let state = self.state.read();
        let Some(cached) = state.callers.get(&uid) else {
            return Known::Nothing { is_named: state.identities.slug_of(uid).is_some() };
        };
        let age = now.saturating_duration_since(cached.since);
        match &cached.answer {
            Ok(caller) if age >= MAX_AGE => {
                Known::Nothing { is_named: caller.own_slug().is_some() }
            }
            Err(_) if age >= FAILURE_AGE => {
                Known::Nothing { is_named: state.identities.slug_of(uid).is_some() }
            }
            Ok(caller) if now >= cached.refresh => {
                let answer = Ok(Arc::clone(caller));
                match cached.is_being_refreshed.swap(true, Ordering::Relaxed) {
                    true => Known::Fresh(answer),
                    false => Known::Aging(answer),
                }
            }
            answer => Known::Fresh(answer.clone()),
        }
    }

    fn ask(self: &Arc<Self>, uid: u32, is_named: bool, then: Option<Then>) {
        self.lookups.ask(uid, is_named, then, || {
            let shared = Arc::clone(self);
            let thread = std::thread::Builder::new().name("names".to_owned());
            thread.spawn(move || shared.answer_questions()).map(drop)
        });
    }

    fn answer_questions(&self) {
        while let Some(question) = self.lookups.take() {
            let answer = self.look_up(question.uid, Instant::now);
            self.lookups.answered(&question, &answer);
        }
    }

    /// Looks a UID up and keeps the answer, by the identities file that holds when the answer comes.
    fn look_up(&self, uid: u32, now: impl Fn() -> Instant) -> Answer {
        loop {
            let (identities, generation) = {
                let state = self.state.read();
                (Arc::clone(&state.identities), state.generation)
            };
            let mounts = self.mounting_user == Some(uid);
            let answer = rules::caller(uid, mounts, &identities, self.directory.as_ref())
                .map(Arc::new)
                .map_err(|source| ResolveError { uid, source });
            let mut state = self.state.write();
            if generation == state.generation {
                state.keep(uid, answer.clone(), now());
                return answer;
            }
        }
    }
}

impl State {
    fn keep(&mut self, uid: u32, answer: Answer, now: Instant) {
        if answer.is_err()
            && let Some(old) = self.callers.get_mut(&uid)
            && old.answer.is_ok()
            && now.saturating_duration_since(old.since) < MAX_AGE
        {
            // It was only to be refreshed. What is known holds until it is too old.
            old.refresh = now + FAILURE_AGE;
            old.is_being_refreshed = AtomicBool::new(false);
            return;
        }
        if self.callers.len() >= MAX_CACHED && !self.callers.contains_key(&uid) {
            // Those without a name go first: there may be very many of them.
            let is_named =
                |answer: &Answer| answer.as_ref().is_ok_and(|caller| caller.own_slug().is_some());
            self.callers.retain(|_, cached| is_named(&cached.answer));
            if self.callers.len() >= MAX_CACHED {
                self.callers.clear();
            }
        }
        let (refresh, is_being_refreshed) = (now + REFRESH_AGE, AtomicBool::new(false));
        self.callers.insert(uid, Cached { answer, since: now, refresh, is_being_refreshed });
    }
}

fn read(
    path: Option<&Path>,
    directory: &dyn Directory,
) -> Result<(Identities, Vec<u8>), IdentitiesError> {
    let Some(path) = path else { return Ok((Identities::default(), Vec::new())) };
    let unreadable = |source| IdentitiesError::Unreadable { path: path.to_owned(), source };
    let file = directory.open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let limit = MAX_IDENTITIES_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    let identities = Identities::parse(&bytes)
        .map_err(|source| IdentitiesError::Invalid { path: path.to_owned(), source })?;
    Ok((identities, bytes))
}

fn keep(keeper: &dyn Keeper, text: &[u8]) {
    if let Err(error) = keeper.keep(text) {
        tracing::warn!(%error, "the identities are not kept for the case of a crash");
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::super::{Group, User};
    use super::*;
    use crate::model::Slug;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc;

    /// The same fake, seen by the test as well.
    impl Directory for Arc<Fake> {
        fn user_by_uid(&self, uid: u32) -> Result<Option<User>, NssError> {
            self.as_ref().user_by_uid(uid)
        }
        fn uid_by_name(&self, name: &str) -> Result<Option<u32>, NssError> {
            self.as_ref().uid_by_name(name)
        }
        fn gid_by_name(&self, name: &str) -> Result<Option<u32>, NssError> {
            self.as_ref().gid_by_name(name)
        }
        fn groups_of(&self, user: &User) -> Result<Vec<Group>, NssError> {
            self.as_ref().groups_of(user)
        }
    }

    impl Resolver {
        /// As [`Resolver::resolve`], on this thread and at that time.
        fn resolve_at(&self, uid: u32, now: Instant) -> Answer {
            match self.0.known_at(uid, now) {
                Known::Fresh(answer) | Known::Aging(answer) => answer,
                Known::Nothing { .. } => self.0.look_up(uid, || now),
            }
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
        let old = Arc::new(Caller::new(7, None, [], false));
        resolver.0.state.write().keep(7, Ok(old), start);
        assert!(resolver.0.look_up(7, || start + Duration::from_secs(9)).is_err());
        assert!(resolver.resolve_at(7, start + Duration::from_millis(9999)).is_ok(), "it holds");
        assert!(resolver.resolve_at(7, start + MAX_AGE).is_err());
        let text = resolver.resolve(8).unwrap_err().to_string();
        assert!(text.contains("uid 8") && text.contains("try again"), "{text}");
    }

    #[test]
    fn remembers_a_bounded_number() {
        let (fake, resolver) = resolver(None);
        let now = Instant::now();
        for uid in 0..=u32::try_from(MAX_CACHED).unwrap() {
            resolver.resolve_at(uid, now).unwrap();
        }
        // The user with a name, and the last one.
        resolver.resolve_at(1000, now).unwrap();
        assert!(resolver.0.state.read().callers.len() <= 2);
        for uid in 0..=u32::try_from(MAX_CACHED).unwrap() {
            resolver.resolve_at(100_000 + uid, now).unwrap();
        }
        let asked = fake.asked();
        resolver.resolve_at(1000, now).unwrap();
        assert_eq!(fake.asked(), asked, "a user with a name is remembered longer");
    }

    #[test]
    fn a_failure_is_remembered_for_a_second() {
        let fake = Arc::new(Fake::default().failing());
        let resolver = Resolver::with_directory(None, Box::new(Arc::clone(&fake))).unwrap();
        let start = Instant::now();
        for (after, asked) in [(0, 1), (999, 1), (1000, 2), (1999, 2), (2000, 3)] {
            assert!(resolver.resolve_at(7, start + Duration::from_millis(after)).is_err());
            assert_eq!(fake.asked(), asked, "after {after} ms");
        }
    }

    #[test]
    fn what_is_used_is_looked_up_before_it_is_too_old() {
        let (fake, resolver) = resolver(None);
        let long_ago = Instant::now() - REFRESH_AGE;
        resolver.resolve_at(1000, long_ago).unwrap();
        assert_eq!(fake.asked(), 1);
        for _ in 0..100 {
            assert!(resolver.known(1000).is_some_and(|answer| answer.is_ok()));
        }
        let end = Instant::now() + Duration::from_secs(20);
        let age = || resolver.0.state.read().callers[&1000].since.elapsed();
        while age() >= REFRESH_AGE {
            assert!(Instant::now() < end, "nobody looked it up");
            std::thread::yield_now();
        }
        assert_eq!(fake.asked(), 2, "once");
    }

    #[test]
    fn a_reload_takes_what_is_good_and_keeps_what_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identities.yaml");
        std::fs::write(&path, "identities: [{slug: robert, uid: 1000}]").unwrap();
        let (fake, resolver) = resolver(Some(path.clone()));
        assert_eq!(own(&resolver.resolve(1000).unwrap()), Some("robert"));

        std::fs::write(&path, "identities: [{slug: rob, uid: 1000}]").unwrap();
        resolver.reload(|_| Ok(())).unwrap();
        assert_eq!(own(&resolver.resolve(1000).unwrap()), Some("rob"));

        std::fs::write(&path, "identities: [{slug: rob}]").unwrap();
        let asked = fake.asked();
        let error = resolver.reload(|_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("identities.yaml") && error.contains("uid"), "{error}");
        assert_eq!(own(&resolver.resolve(1000).unwrap()), Some("rob"));
        assert_eq!(fake.asked(), asked + 1, "the answers are forgotten all the same");

        std::fs::remove_file(&path).unwrap();
        assert!(matches!(resolver.reload(|_| Ok(())), Err(IdentitiesError::Unreadable { .. })));
    }

    #[test]
    fn an_answer_from_before_a_reload_is_not_given() {
        /// Reports each question, and answers when the test asks it to.
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
            fn gid_by_name(&self, _: &str) -> Result<Option<u32>, NssError> {
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
            resolver.reload(|_| Ok(())).unwrap();
            answer.send(()).unwrap();
            // It is asked again, by what holds now.
            was_asked.recv().unwrap();
            answer.send(()).unwrap();
            asking.join().unwrap();
        });
        assert_eq!(resolver.0.state.read().callers.len(), 1);
    }

    #[test]
    fn a_bad_file_refuses() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identities.yaml");
        let refused = || Resolver::new(Some(path.clone())).err();
        assert!(matches!(refused(), Some(IdentitiesError::Unreadable { .. })));
        std::fs::write(&path, "admins: [").unwrap();
        assert!(matches!(refused(), Some(IdentitiesError::Invalid { .. })));
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(refused(), Some(IdentitiesError::Unreadable { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(refused().is_none());
    }

    #[test]
    fn root_is_root_and_an_admin() {
        let root = Resolver::new(None).unwrap().resolve(0).unwrap();
        assert_eq!((own(&root), root.is_admin()), (Some("root"), true));
    }
}
