//! How many instructions the hot paths take, without a kernel:
//! `cargo run --release --example instructions`.
//!
//! Times are noise on a shared machine, instruction counts are not. valgrind counts those of this
//! program doing something so often and twice as often; the difference is what it costs. More than
//! the bound is a failure, much less is told, so that the bound follows. Skipped with a word where
//! valgrind is not installed; under `CI` that is a failure.

use std::ffi::OsStr;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use secretfs::audit::{self, Actor, Process};
use secretfs::crypto::{Keyring, MasterKey};
use secretfs::fs::{Caching, Fs, KernelCache, Opcode, Options, ROOT, Request, RestoredState};
use secretfs::fuse;
use secretfs::identity::{Directory, Group, NssError, Resolver, User};
use secretfs::model::{Caller, Key, Plaintext, Slug};
use secretfs::store::MemoryStore;
use secretfs::vault::{Opening, WriteTarget};

/// The argument with which this program does something under valgrind: what, and how often.
const ARGUMENT: &str = "--do";
/// So often that what other threads do at the start counts for nothing.
const TIMES: u64 = 20_000;
/// A bound is too high if less than this part of it was counted.
const FAR_BELOW: f64 = 0.8;

/// What is counted, and how many instructions it may take: what it took when that was written, and a
/// tenth more for another compiler. Most of an open is the line of the audit log: half of it all are
/// the keyed hashes of the line and of the head.
const BOUNDS: [(&str, u64); 3] = [("open", 2_500), ("getattr", 275), ("lookup", 1_970)];

const KEY: &str = "8f1d3c5b7a99e0f2143658daecb1073f5e6a7b8c9d0e1f2031425364758697a8";
const VALUE: &[u8] = b"postgresql://user:pass@db.internal:5432/app1";
/// How many secrets there are beside the one that is opened.
const OTHERS: usize = 100;
const UID: u32 = 4000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [argument, what, times] = &arguments[..]
        && argument == ARGUMENT
    {
        perform(what, times.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("skipped: valgrind is not installed");
        return if std::env::var_os("CI").is_some() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    let mut outcome = ExitCode::SUCCESS;
    for (what, bound) in BOUNDS {
        let each = (count(what, 2 * TIMES) - count(what, TIMES)) / TIMES;
        println!("{what}: {each} instructions, at most {bound}");
        if each > bound {
            eprintln!("{what} takes more instructions than it may");
            outcome = ExitCode::FAILURE;
        } else if (each as f64) < bound as f64 * FAR_BELOW {
            println!("{what}: lower the bound");
        }
    }
    outcome
}

/// Instructions of this program when it does that so often.
fn count(what: &str, times: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().expect("this program"))
        .args([ARGUMENT, what, &times.to_string()])
        .output()
        .expect("valgrind runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // `==123== Collected : 4567`
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    collected.and_then(|(_, count)| count.trim().parse().ok()).expect("valgrind tells a number")
}

fn perform(what: &str, times: u64) {
    let state = tempfile::tempdir().expect("a directory");
    let fs = file_system(state.path());
    fs.serve_caches(NoCache).expect("threads");
    let directory = fs.look_up(&reader(), ROOT, OsStr::new("svc")).expect("a directory").attr.node;
    let name = OsStr::new("K");
    let node = fs.look_up(&reader(), directory, name).expect("a secret").attr.node;
    // The first open hands the bytes to the kernel.
    open(&fs, node);
    while ANSWERS.load(Ordering::Acquire) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let request = reader();
    for _ in 0..times {
        match what {
            "open" => open(&fs, node),
            "getattr" => drop(black_box(fs.attributes(&request, node).expect("attributes"))),
            "lookup" => {
                let found = black_box(fs.look_up(&request, directory, name).expect("a secret"));
                fs.forget(found.attr.node, 1);
            }
            _ => panic!("no such thing: {what}"),
        }
    }
    let expected = 1 + if what == "open" { times } else { 0 };
    assert_eq!(ANSWERS.load(Ordering::Acquire), expected, "a warm open is answered at once");
}

fn reader() -> Request {
    let mut request = Request::default();
    (request.uid, request.gid, request.task) = (UID, UID, 1);
    request
}

/// The answers that came. An atomic: a channel would cost more than what is counted.
static ANSWERS: AtomicU64 = AtomicU64::new(0);

fn open(fs: &Arc<Fs>, node: u64) {
    let open = |fs: &_, request| Fs::open(fs, request, node, true, false);
    // As the handler does.
    let mut request = reader();
    request.caller = fs.known(UID);
    fs.run_started(request, Opcode::Open, open, |outcome| {
        let opened = outcome.expect("a reader may open");
        assert_eq!(opened.caching, Caching::Immutable, "the kernel keeps a version");
        ANSWERS.fetch_add(1, Ordering::Release);
    });
}

/// A file system, with an audit log in the directory, and with a secret that the reader may read by a team's name, among others.
fn file_system(state: &Path) -> Arc<Fs> {
    let keyring = Keyring::new(MasterKey::parse(KEY).expect("a key"), Vec::new());
    let audit = audit::Options {
        mode: audit::Mode::Required,
        directory: audit::directory_in(state),
        ..audit::Options::off()
    };
    let store = Arc::new(MemoryStore::new());
    let opening = Opening { audit, ..Opening::new(store, keyring) };
    let vault = opening.open().expect("a new store");
    let owner = Slug::parse("svc").expect("a slug");
    let caller = Arc::new(Caller::new(UID, Some(owner), [], false));
    let owner = Actor { caller, process: Process::default() };
    let names =
        std::iter::once("K".to_owned()).chain((0..OTHERS).map(|number| format!("K{number}")));
    for name in names {
        let key = Key::parse(&format!("svc/{name}")).expect("a key");
        let target = WriteTarget::New { key, exclusive: true, inherited_lists: None };
        let (answer, answered) = channel();
        let done = Box::new(move |outcome: Result<_, _>| {
            answer.send(outcome.map(drop).is_ok()).expect("somebody waits");
        });
        vault.write(owner.clone(), target, Plaintext::copy_of(VALUE), None, done);
        assert!(answered.recv().expect("an answer"), "it is written");
    }
    let identities = Resolver::with_directory(None, Box::new(OneUser)).expect("no file");
    let (vault, identities) = (Arc::new(vault), Arc::new(identities));
    Fs::new(vault, identities, Options::default(), fuse::code, RestoredState::default())
}

/// The reader, in as many groups as people are.
struct OneUser;

impl Directory for OneUser {
    fn user_by_uid(&self, _uid: u32) -> Result<Option<User>, NssError> {
        Ok(Some(User { name: "svc".to_owned(), gid: UID }))
    }

    fn uid_by_name(&self, name: &str) -> Result<Option<u32>, NssError> {
        Ok((name == "svc").then_some(UID))
    }

    fn gid_by_name(&self, _name: &str) -> Result<Option<u32>, NssError> {
        Ok(None)
    }

    fn groups_of(&self, _user: &User) -> Result<Vec<Group>, NssError> {
        let group =
            |number: u32| Group { gid: 5000 + number, name: Some(format!("group-{number}")) };
        Ok((0..5).map(group).collect())
    }
}

struct NoCache;

impl KernelCache for NoCache {
    fn forget_name(&self, _parent: u64, _name: &str) {}

    fn expire_name(&self, _parent: u64, _name: &str) {}

    fn keep_bytes(&self, _node: u64, _bytes: &[u8]) {}

    fn forget_attributes(&self, _node: u64) {}

    fn forget_bytes(&self, _node: u64) {}

    fn wake(&self, _waiter: u64) {}

    fn knows(&self, _node: u64) -> bool {
        true
    }
}
