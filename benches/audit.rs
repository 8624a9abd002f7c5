//! What the audit log costs: `cargo bench --bench audit [-- LINES]`. Prints the time that one event
//! adds to an open, lines a second from four threads, and the time and memory that a verification of
//! LINES lines takes (1 million unless said otherwise). `TMPDIR` says on which disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use secretfs::audit::{
    Access, Action, Actor, Audit, ChainKey, DEFAULT_FILE_BYTES, Event, Known, Mode, Options,
    Process, Subject, directory_in, verify,
};
use secretfs::model::{Caller, Grant, ListName, Slug};

const WARM: usize = 100_000;
const THREADS: usize = 4;
const LOAD: Duration = Duration::from_secs(5);

fn event(actor: &Actor) -> Event {
    let slug = Slug::parse("payment-svc").expect("a slug");
    let subject = Subject {
        version: Some(3),
        access: Some(Access::Read),
        grant: Some(Grant::Listed { slug, list: ListName::Readers }),
        ..Subject::of("payment-svc/production/DATABASE_URL")
    };
    Event::new(actor, Action::Open, &subject, Ok(()))
}

fn main() {
    let lines = std::env::args().filter_map(|text| text.parse().ok()).next().unwrap_or(1_000_000);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = Options {
        mode: Mode::Required,
        directory: directory_in(directory.path()),
        file_bytes: DEFAULT_FILE_BYTES,
        keep_files: 0,
        copy: None,
        copy_socket: None,
        repeats: secretfs::audit::Repeats::default(),
        counts: None,
        revision: secretfs::audit::Revision::default(),
    };
    let keys = [ChainKey::new("00000000000000aa", &[7; 32], &[1; 16])];
    let audit = Audit::open(&options, &keys, Known::New).expect("the log opens");
    let caller = Caller::new(2001, Slug::parse("payment-svc").ok(), [], false);
    let process = Process { gid: 2001, pid: 4711, program: Some("payment-svc".into()), request: 7 };
    let actor = Actor { caller: Arc::new(caller), process };

    let mut times: Vec<Duration> = (0..WARM)
        .map(|_| {
            let start = Instant::now();
            audit.record(event(&actor), |outcome| outcome.expect("it is written"));
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!(
        "one event: median {:?}, 99 % {:?}, 99.9 % {:?}",
        times[WARM / 2],
        times[WARM * 99 / 100],
        times[WARM * 999 / 1000]
    );

    let written = AtomicU64::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while start.elapsed() < LOAD {
                    audit.record_now(vec![event(&actor)]).expect("it is written");
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let rate = written.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    println!("{THREADS} threads that wait for each line: {rate:.0} lines a second");

    let mut total = audit.status().lines;
    let (start, before) = (Instant::now(), total);
    while total < lines {
        let group: Vec<_> = (0..500.min(lines - total)).map(|_| event(&actor)).collect();
        total += group.len() as u64;
        audit.record_now(group).expect("they are written");
    }
    let rate = (total - before) as f64 / start.elapsed().as_secs_f64();
    println!("one thread in groups of 500: {rate:.0} lines a second");
    drop(audit);

    let memory = resident();
    let start = Instant::now();
    let report =
        verify(&options.directory, None, &|_| keys.to_vec(), &mut |_| {}).expect("it can be read");
    assert!(report.problems.is_empty(), "{report:?}");
    println!(
        "verified {} lines in {:?}; resident memory {} KiB before and {} KiB at most",
        report.lines,
        start.elapsed(),
        memory,
        peak()
    );
}

fn resident() -> u64 {
    status("VmRSS:")
}

fn peak() -> u64 {
    status("VmHWM:")
}

fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
