//! What a store of many secrets costs: `cargo bench --bench scale -- 1000000`, as root with
//! /dev/fuse. `--state DIR` keeps the filled state folder there, and takes it as it is if it exists.
//!
//! Values have 32 to 4,096 bytes. 400 teams own the secrets, each its own; the team `big` has a
//! tenth of them, in one folder. All is compared with a mount of ten secrets in the same run.

#[path = "scale/daemon.rs"]
mod daemon;
#[path = "scale/fill.rs"]
mod fill;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use secretfs::store::{SledStore, Store};

use daemon::{Daemon, kilobytes};
use fill::{fill, name};

/// How often the opens of both mounts are measured in turn.
const ROUNDS: usize = 40;
/// How many opens a round has.
const OPENS: usize = 1000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let secrets = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(100_000);
    let kept = arguments.iter().position(|argument| argument == "--state");
    let kept = kept.map(|at| PathBuf::from(&arguments[at + 1]));
    let folder = tempfile::tempdir().expect("a folder");
    let state = kept.unwrap_or_else(|| folder.path().join("many"));
    if !state.exists() {
        let started = Instant::now();
        fill(&state, secrets);
        println!("{secrets} secrets stored in {:.1?}", started.elapsed());
    }
    floor(&state);

    let few = folder.path().join("few");
    fill(&few, 10);
    let few = Daemon::start(&few, &folder.path().join("mount-few"));
    let started = Instant::now();
    let many = Daemon::start(&state, &folder.path().join("mount-many"));
    let (wall, cpu) = (started.elapsed(), many.cpu());
    println!("ready after {wall:.2?}, {cpu:.2?} of CPU");
    let memory = |of: &Daemon| (kilobytes(of, "VmRSS"), kilobytes(of, "VmHWM"));
    let ((resident, peak), (base, _)) = (memory(&many), memory(&few));
    println!(
        "resident {resident} kB (peak {peak} kB), with ten secrets {base} kB: {} bytes a secret",
        resident.saturating_sub(base) * 1024 / secrets as u64
    );
    let few_files: Vec<_> = (0..10).map(|number| few.point().join(name(number, 10))).collect();
    let path = |number| many.point().join(name(number, secrets));
    let ten: Vec<_> = (0..10).map(|number| path(number * secrets / 10)).collect();
    let thousand: Vec<_> = (0..OPENS).map(|number| path(number * (secrets / OPENS))).collect();
    let opens = opens([&few_files, &ten, &thousand]);
    println!(
        "open, read, close, median: ten of ten {:.1?}, ten of {secrets} {:.1?} ({:.2}), {OPENS} of them {:.1?} ({:.2})",
        opens[0],
        opens[1],
        opens[1].as_secs_f64() / opens[0].as_secs_f64(),
        opens[2],
        opens[2].as_secs_f64() / opens[0].as_secs_f64()
    );
    let started = Instant::now();
    let entries = fs::read_dir(many.point().join("big")).expect("a folder").count();
    println!("a folder of {entries} entries listed in {:.2?}", started.elapsed());
    println!("resident {} kB after all that", kilobytes(&many, "VmRSS"));
}

/// What the store alone takes: the time to open it, and to read every head without unsealing it.
fn floor(state: &Path) {
    let started = Instant::now();
    let store = SledStore::open(state).expect("a store");
    println!("the store alone opens in {:.2?}", started.elapsed());
    let (started, mut heads, mut bytes) = (Instant::now(), 0, 0);
    let mut visit = |_: &[u8], sealed: &[u8]| {
        heads += 1;
        bytes += sealed.len();
        ControlFlow::Continue(())
    };
    store.scan(b"h", &mut visit).expect("it reads");
    println!("its {heads} heads of {bytes} bytes are read in {:.2?}", started.elapsed());
}

/// The median time of an open for each of these sets of files, measured in turn so that whatever
/// else the machine does meets all alike. What is opened has been read before.
fn opens<const SETS: usize>(sets: [&[PathBuf]; SETS]) -> [Duration; SETS] {
    let read = |path: &PathBuf| drop(fs::read(path).expect("it is served"));
    sets.iter().for_each(|files| files.iter().for_each(read));
    let mut took: [Vec<Duration>; SETS] = std::array::from_fn(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (files, took) in sets.iter().zip(&mut took) {
            for file in files.iter().cycle().take(OPENS) {
                let started = Instant::now();
                read(file);
                took.push(started.elapsed());
            }
        }
    }
    took.map(|mut took| {
        took.sort_unstable();
        took[took.len() / 2]
    })
}
