//! Power loss: the vault works on a disk that writes down what it is told, and then opens what such a
//! disk may hold after its power was cut, at every point and in several ways. Everything that a caller
//! was told is stored is there and whole; of what was under way, all or nothing.
//!
//! `SECRETFS_POWER_CHANGES` sets how many changes are made, and `SECRETFS_POWER_WAYS` in how many
//! random ways each point loses something.

mod crash;
mod disk;
mod random;
#[allow(dead_code, reason = "the mount's own tests need more of it")]
#[path = "../mount/skip.rs"]
mod skip;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use secretfs::audit::{self, Actor, Process};
use secretfs::crypto::{Keyring, MasterKey};
use secretfs::model::{Acl, Caller, Key, Plaintext, Slug};
use secretfs::store::{SledStore, Store};
use secretfs::vault::{
    Change, Fsck, Opening, RenameSource, RenameTarget, Vault, VaultError, WriteTarget,
};

use crash::{Event, Image, Loss, Recording};
use disk::Disk;
use random::Random;

const KEY: &str = "8f1d3c5b7a99e0f2143658daecb1073f5e6a7b8c9d0e1f2031425364758697a8";

/// How many disks are looked at at the same time.
const JUDGES: usize = 6;

/// What is stored, by key.
type Contents = BTreeMap<String, (Vec<u8>, Acl)>;

fn keyring() -> Keyring {
    Keyring::new(MasterKey::parse(KEY).expect("it is a key"), Vec::new())
}

fn admin() -> Actor {
    let caller = Arc::new(Caller::new(0, Slug::parse("root").ok(), [], true));
    Actor { caller, process: Process::default() }
}

fn open(state: &Path) -> Result<Vault, String> {
    let store = SledStore::open(state).map_err(|error| format!("the store: {error}"))?;
    let audit = audit::Options {
        mode: audit::Mode::Required,
        directory: audit::directory_in(state),
        ..audit::Options::off()
    };
    let opening = Opening { audit, ..Opening::new(Arc::new(store), keyring()) };
    opening.open().map_err(|error| format!("the vault: {error}"))
}

/// The changes, and what is stored after each number of them.
struct Work {
    random: Random,
    stages: Vec<Contents>,
}

impl Work {
    fn new() -> Self {
        Self { random: Random::new(7), stages: vec![Contents::new()] }
    }

    /// Makes one more change, and waits until it is stored.
    fn change(&mut self, vault: &Vault) {
        let mut contents = self.stages.last().expect("there is a first one").clone();
        let key = format!("svc/K{}", self.random.below(12));
        let parsed = Key::parse(&key).expect("it is a key");
        let (answer, answered) = channel();
        let done = Box::new(move |outcome: Result<Vec<Change>, VaultError>| {
            answer.send(outcome.map(drop)).expect("it is waited for");
        });
        match (self.random.below(10), contents.contains_key(&key)) {
            (0, true) => {
                contents.remove(&key);
                vault.remove(admin(), key, None, done);
            }
            (1, true) => {
                let to = format!("other/K{}", self.random.below(6));
                let moved = contents.remove(&key).expect("it is there");
                // The value moves; lists stay where they are.
                let lists = contents.get(&to).map_or(moved.1, |(_, acl)| acl.clone());
                contents.insert(to.clone(), (moved.0, lists));
                let key = Key::parse(&to).expect("it is a key");
                let target = RenameTarget::Key { key, exclusive: false, inherited_lists: None };
                vault.rename(admin(), RenameSource::Secret(parsed), target, None, done);
            }
            (2, true) => {
                let record = vault.secret(&key).expect("it is there").record();
                let reader = format!("reader{}", self.random.below(1000));
                let document = Plaintext::copy_of(format!("readers: [{reader}]\n").as_bytes());
                let patch =
                    secretfs::document::parse_lists(document.expose()).expect("it is a list");
                let acl = &mut contents.get_mut(&key).expect("it is there").1;
                *acl = acl.patched(&patch);
                vault.change_lists(admin(), record, &document, None, done);
            }
            _ => {
                let current = contents.get(&key).map(|(value, _)| value.as_slice());
                let mut value = self.value();
                if current == Some(value.as_slice()) {
                    // The same value again is no change.
                    value.push(1);
                }
                let target =
                    WriteTarget::New { key: parsed, exclusive: false, inherited_lists: None };
                let plaintext = Plaintext::copy_of(&value);
                contents.entry(key).or_default().0 = value;
                vault.write(admin(), target, plaintext, None, done);
            }
        }
        answered.recv().expect("the writer lives").expect("it is stored");
        self.stages.push(contents);
    }

    /// Mostly small; some take several records.
    fn value(&mut self) -> Vec<u8> {
        let length = match self.random.below(8) {
            0 => 100_000,
            1 => 40_000,
            2 => 0,
            _ => 300,
        };
        let filling = self.random.next().to_le_bytes();
        (0..length).map(|at| filling[at % 8] ^ (at / 8) as u8).collect()
    }
}

/// Whether what is there is what `stages` say for so many acknowledged changes.
fn judge(state: &Path, stages: &[Contents], acknowledged: usize) -> Result<(), String> {
    let found = {
        let vault = open(state)?;
        let mut found = Contents::new();
        for directory in ["svc", "other"] {
            for child in vault.children(&admin().caller, directory) {
                let key = format!("{directory}/{}", child.name);
                let secret = vault.secret(&key).ok_or("it is listed and not there")?;
                let value = vault.read_all(secret.value()).map_err(|error| error.to_string())?;
                found.insert(key, (value.expose().to_vec(), Acl::clone(secret.acl())));
            }
        }
        found
    };
    let under_way = &stages[acknowledged..stages.len().min(acknowledged + 2)];
    if !under_way.contains(&found) {
        return Err(format!("after {acknowledged} changes something else is there"));
    }
    let store: Arc<dyn Store> =
        Arc::new(SledStore::open(state).map_err(|error| format!("the second open: {error}"))?);
    let fsck = Fsck::open(store, keyring()).map_err(|error| format!("fsck: {error}"))?;
    let findings = fsck.check(|_| {}).map_err(|error| format!("fsck: {error}"))?;
    if let Some(problem) = findings.problems.first() {
        return Err(format!("fsck: {problem}"));
    }
    // What others than changes wrote in the last second may be gone, torn or full of holes; the daemon
    // goes on all the same.
    match changes_on_record(&audit::directory_in(state)) {
        fewer if fewer < acknowledged => Err(format!("{fewer} of {acknowledged} are on record")),
        _ => Ok(()),
    }
}

/// How many changes the audit log tells of.
fn changes_on_record(directory: &Path) -> usize {
    let files =
        std::fs::read_dir(directory).expect("the log is there").map(|file| file.unwrap().path());
    let text: String = files
        .map(|file| String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned())
        .collect();
    let is_change = |line: &&str| {
        ["commit", "delete", "rename", "change-lists"]
            .iter()
            .any(|op| line.contains(&format!("\"op\":\"{op}\"")))
    };
    text.lines().filter(|line| line.ends_with('}')).filter(is_change).count()
}

fn setting(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().expect("it is a number"))
}

/// Whether it can be tested here.
fn can_mount() -> bool {
    let can = nix::unistd::geteuid().is_root() && Path::new("/dev/fuse").exists();
    if !can {
        skip::skip("needs root and /dev/fuse");
    }
    can
}

#[test]
fn what_was_acknowledged_survives_a_power_loss_at_any_point() {
    if !can_mount() {
        return;
    }
    let mut work = Work::new();
    let events = {
        let directory = tempfile::tempdir().expect("a directory");
        let (disk, session) = Disk::mount(directory.path()).expect("it mounts");
        let state = directory.path().join("state");
        std::fs::create_dir(&state).expect("the disk takes directories");
        // As the package does, before the daemon starts.
        std::fs::File::open(directory.path())
            .and_then(|root| root.sync_all())
            .expect("it is synced");
        let changes = setting("SECRETFS_POWER_CHANGES", 24);
        for part in 0..2 {
            let vault = open(&state).expect("it opens");
            for _ in 0..changes / 2 {
                work.change(&vault);
                disk.acknowledge(work.stages.len() - 1);
            }
            drop(vault);
            eprintln!("{part}: {} events", disk.events().len());
        }
        let events = disk.events();
        session.umount_and_join().expect("nobody uses it");
        events
    };
    let recording = Recording::new(events);
    let cuts = cuts(&recording.events, setting("SECRETFS_POWER_WAYS", 1) as u64);
    let next = AtomicUsize::new(0);
    let wrong = std::thread::scope(|scope| {
        let (cuts, recording, stages, next) = (&cuts, &recording, &work.stages, &next);
        // The disks wait for each other's locks and threads more than for a processor.
        let judges: Vec<_> = (0..JUDGES)
            .map(|_| {
                scope.spawn(move || {
                    let mine =
                        std::iter::from_fn(|| cuts.get(next.fetch_add(1, Ordering::Relaxed)));
                    mine.filter_map(|cut| cut.try_out(recording, stages).err()).collect::<Vec<_>>()
                })
            })
            .collect();
        judges.into_iter().flat_map(|judge| judge.join().expect("it judges")).collect::<Vec<_>>()
    });
    let (changes, events, tried) = (work.stages.len() - 1, recording.events.len(), cuts.len());
    eprintln!("{changes} changes, {events} events, {tried} disks");
    let shown = wrong[..wrong.len().min(40)].join("\n");
    assert!(wrong.is_empty(), "{} of {tried}:\n{shown}", wrong.len());
}

/// The power is cut after so many events, and so much of what nobody waited for is lost.
struct Cut {
    end: usize,
    loss: Loss,
    /// How many changes had been acknowledged.
    acknowledged: usize,
}

/// Every point, and each in several ways.
fn cuts(events: &[Event], random_ways: u64) -> Vec<Cut> {
    let (mut cuts, mut acknowledged) = (Vec::new(), 0);
    for (end, last) in (1..).zip(events) {
        let mut losses = vec![Loss::Nothing, Loss::Everything];
        match last {
            Event::Acknowledged(changes) => acknowledged = *changes,
            Event::Write { bytes, .. } if bytes.len() > 512 => {
                losses.extend([Loss::Torn, Loss::TornFirst]);
            }
            _ => {}
        }
        losses.extend((0..random_ways).map(|way| Loss::Some(end as u64 * 1000 + way)));
        cuts.extend(losses.into_iter().map(|loss| Cut { end, loss, acknowledged }));
    }
    cuts
}

impl Cut {
    fn try_out(&self, recording: &Recording, stages: &[Contents]) -> Result<(), String> {
        let directory = tempfile::Builder::new().tempdir_in(memory()).expect("a directory");
        Image::after(recording, self.end, self.loss).lay_out(directory.path());
        let judged = judge(&directory.path().join("state"), stages, self.acknowledged);
        judged.map_err(|why| {
            format!("{} of {}, {:?}: {why}", self.end, recording.events.len(), self.loss)
        })
    }
}

/// A directory that is quick, if there is one.
fn memory() -> &'static Path {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared } else { Path::new("/tmp") }
}
