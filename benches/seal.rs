//! What sealing for a recipient costs, to the one who seals and to the mount that imports:
//! `cargo bench --bench seal`, as root with /dev/fuse.

use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use secretfs::crypto::{Keyring, MasterKey, SealedValue};
use secretfs::model::{Key, Plaintext};

const KEY: &str = "8f1d3c5b7a99e0f2143658daecb1073f5e6a7b8c9d0e1f2031425364758697a8";
const VALUE: &[u8] = b"postgresql://user:pass@db.internal:5432/app1";
const VALUES: usize = 10_000;
const ROUNDS: usize = 3;

fn main() {
    let keyring = Keyring::new(MasterKey::parse(KEY).expect("a key"), Vec::new());
    let (recipient, value) = (keyring.recipient(), Plaintext::copy_of(VALUE));
    let name = |number: usize| Key::parse(&format!("web/K{number}")).expect("a key");
    let symmetric = timed("sealed by the daemon's key", || {
        (0..VALUES).map(|number| keyring.seal_value(&name(number), &value)).collect::<Vec<_>>()
    });
    let sealed = timed("sealed for a recipient", || {
        (0..VALUES).map(|number| recipient.seal(&name(number), &value)).collect::<Vec<_>>()
    });
    let open = |values: &[SealedValue]| {
        for (number, sealed) in values.iter().enumerate() {
            keyring.open_value(&name(number), sealed).expect("it opens");
        }
    };
    timed("opened, sealed by the daemon's key", || open(&symmetric));
    timed("opened, sealed for its recipient", || open(&sealed));

    let directory = tempfile::tempdir().expect("a directory");
    let point = directory.path().join("secrets");
    let mut daemon = start(directory.path(), &point);
    fs::write(point.join("other"), VALUE).expect("it is served");
    report("opens before", open_for(&point, &AtomicBool::new(false), Duration::from_secs(2)));
    for round in 0..ROUNDS {
        for kind in ["symmetric", "recipient"] {
            let text = documents(&keyring, &format!("{kind}-{round}"), kind == "recipient");
            let over = AtomicBool::new(false);
            let took = thread::scope(|scope| {
                let opens = scope.spawn(|| open_for(&point, &over, Duration::MAX));
                let file = point.join(format!(".import/{kind}-{round}.yaml"));
                let started = Instant::now();
                fs::write(&file, &text).expect("it is imported");
                println!("{kind}: imported {VALUES} values in {:.2?}", started.elapsed());
                over.store(true, Ordering::Relaxed);
                opens.join().expect("it opens")
            });
            report(&format!("{kind}: opens meanwhile"), took);
        }
    }
    let id = nix::unistd::Pid::from_raw(daemon.id().try_into().expect("an id"));
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).expect("it runs");
    daemon.wait().expect("it ends");
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = run();
    println!("{VALUES} values {what}: {:.2?}", started.elapsed());
    result
}

fn documents(keyring: &Keyring, directory: &str, for_recipient: bool) -> String {
    let (recipient, value) = (keyring.recipient(), Plaintext::copy_of(VALUE));
    let mut text = String::new();
    for number in 0..VALUES {
        let key = Key::parse(&format!("{directory}/K{number}")).expect("a key");
        let sealed = match for_recipient {
            true => recipient.seal(&key, &value),
            false => keyring.seal_value(&key, &value),
        };
        writeln!(text, "- key: {key}\n  value: \"{sealed}\"\n  encrypted: true").expect("a string");
    }
    text
}

fn start(directory: &Path, point: &Path) -> Child {
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_secretfs"))
        .arg("mount")
        .arg(point)
        .arg("--state-dir")
        .arg(directory.join("state"))
        .env("OB_ENCRYPTION_KEY", KEY)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built");
    let mut lines = BufReader::new(daemon.stderr.take().expect("a pipe")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("mounted at"))));
    thread::spawn(move || lines.for_each(drop));
    daemon
}

/// How long opens took, in microseconds, sorted.
fn open_for(point: &Path, over: &AtomicBool, time: Duration) -> Vec<u128> {
    let (started, mut took) = (Instant::now(), Vec::new());
    while started.elapsed() < time && !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        assert_eq!(fs::read(point.join("other")).expect("it is served"), VALUE);
        took.push(start.elapsed().as_micros());
        thread::sleep(Duration::from_micros(500));
    }
    took.sort_unstable();
    took
}

fn report(what: &str, took: Vec<u128>) {
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    let (median, high, longest) = (at(0.5), at(0.999), at(1.0));
    println!("{what}: {} opens, µs: median {median}, 99.9 % {high}, longest {longest}", took.len());
}
