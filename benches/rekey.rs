//! How long a rekey takes, and what it does to those who open secrets meanwhile:
//! `cargo bench --bench rekey -- 1000000`, as root with /dev/fuse.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use secretfs::audit::{Actor, Process};
use secretfs::crypto::{Keyring, MasterKey};
use secretfs::model::{Caller, Key, Plaintext};
use secretfs::store::SledStore;
use secretfs::vault::{Vault, WriteTarget};

const OLD: &str = "8f1d3c5b7a99e0f2143658daecb1073f5e6a7b8c9d0e1f2031425364758697a8";
const NEW: &str = "19c4e7a03b5d8f62718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8";
const VALUE: &[u8] = b"postgresql://user:pass@db.internal:5432/app1";
/// How many writes are under way at once while the store is filled.
const WINDOW: usize = 4096;

fn main() {
    let secrets = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let secrets: usize = secrets.unwrap_or(100_000);
    let directory = tempfile::tempdir().expect("a directory");
    let (state, point) = (directory.path().join("state"), directory.path().join("secrets"));
    let started = Instant::now();
    fill(&state, secrets);
    println!("{secrets} secrets stored in {:.1?}, {} MB", started.elapsed(), megabytes(&state));

    let (current, previous) = (directory.path().join("current"), directory.path().join("previous"));
    fs::write(&current, NEW).expect("a file");
    fs::write(&previous, OLD).expect("a file");
    let started = Instant::now();
    let mut daemon = start(&state, &point, &current, &previous);
    println!("mounted after {:.1?}", started.elapsed());

    let quiet = open_for(&point, secrets, Duration::from_secs(3), &AtomicBool::new(false));
    report("opens before", quiet);
    let over = Arc::new(AtomicBool::new(false));
    let opener = {
        let (point, over) = (point.clone(), Arc::clone(&over));
        std::thread::spawn(move || open_for(&point, secrets, Duration::from_secs(3600), &over))
    };
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_secretfs"))
        .args(["rekey", "--output", "json", "--mount"])
        .arg(&point)
        .output()
        .expect("the program was built");
    let took = started.elapsed();
    over.store(true, Ordering::Relaxed);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    print!("rekeyed in {took:.1?}: {}", String::from_utf8_lossy(&output.stdout));
    report("opens meanwhile", opener.join().expect("it opens"));
    println!("the state directory has {} MB", megabytes(&state));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(daemon.id().try_into().expect("an id")),
        nix::sys::signal::Signal::SIGTERM,
    )
    .expect("it runs");
    daemon.wait().expect("it ends");
}

fn fill(state: &Path, secrets: usize) {
    let store = Arc::new(SledStore::open(state).expect("a new store"));
    let keyring = Keyring::new(MasterKey::parse(OLD).expect("a key"), Vec::new());
    let vault = Vault::open(store, keyring).expect("a new store");
    let caller = Arc::new(Caller::new(0, None, [], true));
    let root = Actor { caller, process: Process::default() };
    let (answer, answers) = channel();
    for number in 0..secrets {
        if number >= WINDOW {
            answers.recv().expect("an answer");
        }
        let key = Key::parse(&name(number)).expect("a key");
        let target = WriteTarget::New { key, exclusive: true, inherited_lists: None };
        let answer = answer.clone();
        let done = Box::new(move |outcome: Result<_, _>| {
            outcome.map(drop).expect("there is room");
            answer.send(()).expect("somebody counts");
        });
        vault.write(root.clone(), target, Plaintext::copy_of(VALUE), None, done);
    }
    answers.iter().take(secrets.min(WINDOW)).for_each(drop);
}

fn name(number: usize) -> String {
    format!("service-{}/SECRET_{number}", number % 1000)
}

fn start(state: &Path, point: &Path, current: &Path, previous: &Path) -> Child {
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_secretfs"))
        .arg("mount")
        .arg(point)
        .arg("--state-dir")
        .arg(state)
        .arg("--encryption-key-file")
        .arg(current)
        .arg("--previous-encryption-key-file")
        .arg(previous)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built");
    let mut lines = BufReader::new(daemon.stderr.take().expect("a pipe")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("mounted at"))));
    std::thread::spawn(move || lines.for_each(drop));
    daemon
}

/// Opens and reads one secret after the other, half of them again and again, and gives how long
/// each took, in microseconds, sorted.
fn open_for(point: &Path, secrets: usize, time: Duration, over: &AtomicBool) -> Vec<u128> {
    let (started, mut took, mut number) = (Instant::now(), Vec::new(), 0);
    while started.elapsed() < time && !over.load(Ordering::Relaxed) {
        number += 1;
        let which = if number % 2 == 0 { number * 7919 % secrets } else { number % 100 };
        let path = point.join(name(which));
        let start = Instant::now();
        assert_eq!(fs::read(path).expect("it is served"), VALUE);
        took.push(start.elapsed().as_micros());
        std::thread::sleep(Duration::from_micros(500));
    }
    took.sort_unstable();
    took
}

fn report(what: &str, took: Vec<u128>) {
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    println!(
        "{what}: {} opens, µs: median {}, 99 % {}, 99.9 % {}, longest {}",
        took.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

fn megabytes(directory: &Path) -> u64 {
    let output = Command::new("du").arg("-sm").arg(directory).output().expect("du runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}
