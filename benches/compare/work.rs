//! What is compared, and which files it is done with.

use super::job::{Action, Job};
use super::subjects::{DIRECTORY, Subject};

/// How many clients there are at most.
pub(crate) const MOST_CLIENTS: usize = 16;
/// How long a client goes on with what can be repeated.
const SLICE: u64 = 250;
/// Files that are read again and again, and files that are rotated.
const AGAIN: usize = 64;
/// Files that each number of clients reads for the first time after a mount.
const COLD: usize = 512;
/// Files in the directory that is listed.
pub(crate) const LISTED: usize = 1000;
/// Files that one piece of work creates, and secrets that it imports.
const CREATED: usize = 96;
const IMPORTED: usize = 200;

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reading files that the kernel knows nothing of: the first time after a mount. The number says
    /// which part of the files.
    Cold(usize),
    /// Reading files that were read before.
    Warm,
    /// The first read of each after a rotation.
    AfterRotation,
    /// New files.
    Create { synced: bool },
    /// New values.
    Rotate { synced: bool },
    /// A directory's names, or names and attributes.
    List { stat: bool },
    /// Many secrets in one document; one file each where there is no drop directory.
    Import,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) what: &'static str,
    pub(crate) kind: Kind,
    pub(crate) clients: usize,
}

const fn work(what: &'static str, kind: Kind, clients: usize) -> Work {
    Work { what, kind, clients }
}

/// In the order in which a round does them: what needs cold caches comes first.
pub(crate) const WORKS: [Work; 19] = [
    work("read, cold", Kind::Cold(0), 1),
    work("read, cold", Kind::Cold(1), 2),
    work("read, cold", Kind::Cold(2), 4),
    work("read, cold", Kind::Cold(3), 16),
    work("read, warm", Kind::Warm, 1),
    work("read, warm", Kind::Warm, 2),
    HEADLINE,
    work("read, warm", Kind::Warm, 16),
    work("first read after a rotation", Kind::AfterRotation, 1),
    work("create", Kind::Create { synced: false }, 1),
    work("create + fsync", Kind::Create { synced: true }, 1),
    work("create + fsync", Kind::Create { synced: true }, 16),
    work("rotate", Kind::Rotate { synced: false }, 1),
    work("rotate + fsync", Kind::Rotate { synced: true }, 1),
    work("rotate + fsync", Kind::Rotate { synced: true }, 16),
    work("list 1,000 names", Kind::List { stat: false }, 1),
    work("list 1,000 names, stat each", Kind::List { stat: true }, 1),
    work("list 1,000 names, stat each", Kind::List { stat: true }, 4),
    work("import 200 secrets", Kind::Import, 1),
];

/// What the wanted numbers are about.
pub(crate) const HEADLINE: Work = work("read, warm", Kind::Warm, 4);

impl Work {
    /// What the table calls it.
    pub(crate) fn title(&self) -> String {
        match self.clients {
            1 => format!("{}, 1 client", self.what),
            clients => format!("{}, {clients} clients", self.what),
        }
    }

    /// Whether it is the one that the wanted numbers are about.
    pub(crate) fn is_headline(&self) -> bool {
        self.kind == HEADLINE.kind && self.clients == HEADLINE.clients
    }

    /// What each client does. `tag` makes names that were never used before; `once` does everything
    /// once, whatever the time.
    pub(crate) fn jobs(&self, subject: &dyn Subject, tag: &str, once: bool) -> Vec<Job> {
        let shared = |action, directory: &str, prefix: &str, files, timed: bool| Job {
            action,
            directory: subject.directory().join(directory),
            prefix: prefix.to_owned(),
            files,
            begin: 0,
            milliseconds: (timed && !once).then_some(SLICE),
        };
        let share = |all: usize, client: usize| {
            let each = all / self.clients;
            (client * each, each)
        };
        let job = |client: usize| match self.kind {
            Kind::Cold(part) => {
                let (first, count) = share(COLD, client);
                shared(Action::Read, "cold", "C", (part * COLD + first, count), false)
            }
            Kind::Warm => {
                let (begin, _) = share(AGAIN, client);
                Job { begin, ..shared(Action::Read, "warm", "W", (0, AGAIN), true) }
            }
            Kind::AfterRotation => {
                shared(Action::ReadAfterRotation, "rotate", "R", (0, AGAIN), true)
            }
            Kind::Create { synced } => {
                let (prefix, files) = (format!("N{tag}-{synced}-"), share(CREATED, client));
                let prefix = format!("{prefix}{}-", self.clients);
                shared(Action::Create { synced }, "new", &prefix, files, false)
            }
            Kind::Rotate { synced } => {
                let files = share(AGAIN, client);
                shared(Action::Rotate { synced }, "rotate", "R", files, true)
            }
            Kind::List { stat } => shared(Action::List { stat }, "list", "L", (0, LISTED), true),
            Kind::Import => {
                let (directory, files) = (format!("import-{tag}"), (0, IMPORTED));
                match subject.drop_box() {
                    Some(directory_to_drop) => {
                        let job = shared(Action::Import, "", &directory, files, false);
                        Job { directory: directory_to_drop, ..job }
                    }
                    None => shared(Action::Create { synced: false }, &directory, "", files, false),
                }
            }
        };
        (0..self.clients).map(job).collect()
    }

    /// What has to be done before, without being measured.
    pub(crate) fn preparation(&self, subject: &dyn Subject, tag: &str) -> Vec<Job> {
        match self.kind {
            // Twice: after a READ the kernel asks for the attributes once more.
            Kind::Warm => {
                let once = Self { clients: 1, ..*self }.jobs(subject, tag, true);
                [once.clone(), once].concat()
            }
            Kind::Import if subject.drop_box().is_none() => {
                vec![make_directory(subject, &format!("import-{tag}"))]
            }
            _ => Vec::new(),
        }
    }

    /// The same for the counting of requests: what to do before, and what to count.
    pub(crate) fn counted(&self, subject: &dyn Subject, tag: &str) -> (Vec<Job>, Vec<Job>) {
        let mut preparation = self.preparation(subject, tag);
        let mut jobs = self.jobs(subject, tag, true);
        // The rotations are not asked about.
        if self.kind == Kind::AfterRotation {
            let rotate = Self { kind: Kind::Rotate { synced: false }, ..*self };
            preparation = rotate.jobs(subject, tag, true);
            jobs.iter_mut().for_each(|job| job.action = Action::Read);
        }
        (preparation, jobs)
    }

    /// How many operations each client does if it does everything once.
    pub(crate) fn operations_once(&self) -> usize {
        match self.kind {
            Kind::Cold(_) => COLD / self.clients,
            Kind::Warm | Kind::AfterRotation => AGAIN,
            Kind::Create { .. } => CREATED / self.clients,
            Kind::Rotate { .. } => AGAIN / self.clients,
            Kind::List { .. } => 1,
            Kind::Import => IMPORTED,
        }
    }
}

/// Lets a subject have what the work needs: the files, by all clients.
pub(crate) fn filling(subject: &dyn Subject) -> Vec<Vec<Job>> {
    let files = [
        ("warm", "W", AGAIN),
        ("cold", "C", 4 * COLD),
        ("list", "L", LISTED),
        ("rotate", "R", AGAIN),
        // So that the directory is there.
        ("new", "first", MOST_CLIENTS),
    ];
    let steps = files.into_iter().map(|(directory, prefix, all)| {
        let job = |client: usize| {
            // What does not divide is the last one's.
            let each = all / MOST_CLIENTS;
            let last = client + 1 == MOST_CLIENTS;
            let count = if last { all - client * each } else { each };
            Job {
                action: Action::Create { synced: false },
                directory: subject.directory().join(directory),
                prefix: prefix.to_owned(),
                files: (client * each, count),
                begin: 0,
                milliseconds: None,
            }
        };
        [vec![make_directory(subject, directory)], (0..MOST_CLIENTS).map(job).collect()]
    });
    steps.flatten().collect()
}

fn make_directory(subject: &dyn Subject, directory: &str) -> Job {
    Job {
        action: Action::MakeDirectory,
        directory: subject.point().join(DIRECTORY).join(directory),
        prefix: String::new(),
        files: (0, 0),
        begin: 0,
        milliseconds: None,
    }
}
