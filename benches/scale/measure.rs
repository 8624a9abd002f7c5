//! What is measured of a mount with many secrets, beside one with ten.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::daemon::Daemon;
use super::fill::name;
use super::machine;

/// How often each is measured in turn.
const ROUNDS: usize = 120;
/// How many opens a round has.
const OPENS: usize = 500;
/// How many writers rotate at once, and for how long.
const WRITERS: usize = 64;
const ROTATING: Duration = Duration::from_secs(2);
/// How often, in turn with the disk alone.
const TURNS: usize = 7;
/// How often the disk is asked to make something durable.
const SYNCS: u32 = 1000;

/// The numbers of one size.
pub(crate) struct Numbers {
    pub(crate) secrets: usize,
    /// The first time, when all was written since the store was opened last.
    pub(crate) first_ready: Duration,
    pub(crate) ready: Duration,
    pub(crate) cpu: Duration,
    /// More than with ten secrets.
    pub(crate) bytes_each: u64,
    /// Times as long as with ten secrets: ten of them opened, read and closed; as many as there are in a
    /// round; one created; one renamed.
    pub(crate) open: f64,
    pub(crate) open_many: f64,
    pub(crate) create: f64,
    pub(crate) rename: f64,
    pub(crate) entries: usize,
    pub(crate) listing: Duration,
    pub(crate) export: Duration,
    pub(crate) export_bytes: u64,
    pub(crate) list: Duration,
}

/// Measures the state directory with that many secrets against the one with ten.
pub(crate) fn measure(secrets: usize, state: &Path, few: &Path, directory: &Path) -> Numbers {
    let few = Daemon::start(few, &directory.join("few-mount"));
    let start = || {
        let started = Instant::now();
        let many = Daemon::start(state, &directory.join("many-mount"));
        (many, started.elapsed())
    };
    let (_, first_ready) = start();
    let (many, ready) = start();
    let cpu = many.cpu();
    let more = many.resident().saturating_sub(few.resident());
    let path = |number| many.point().join(name(number, secrets));
    let spread = |count: usize| -> Vec<_> {
        (0..count).map(|number| path(number * (secrets / count))).collect()
    };
    let (ten, files) = (spread(10), spread(secrets.min(OPENS)));
    let few_files: Vec<_> = (0..10).map(|number| few.point().join(name(number, 10))).collect();
    let read = |path: &PathBuf| drop(fs::read(path).expect("it is served"));
    files.iter().chain(&few_files).for_each(read);
    let opens = |files: &[PathBuf]| files.iter().cycle().take(OPENS).for_each(read);
    let open = ratio(|| opens(&ten), || opens(&few_files));
    let open_many = ratio(|| opens(&files), || opens(&few_files));
    let new = |mount: &Daemon| mount.point().join("root/new");
    let create = |mount: &Daemon| {
        let made = fs::write(new(mount), "value");
        made.and_then(|()| fs::remove_file(new(mount))).expect("there is room");
    };
    let create = ratio(|| create(&many), || create(&few));
    let rename = |mount: &Daemon| {
        let (old, new) = (mount.point().join("root/a"), mount.point().join("root/b"));
        fs::rename(&old, &new).and_then(|()| fs::rename(&new, &old)).expect("it is there");
    };
    for mount in [&many, &few] {
        fs::write(mount.point().join("root/a"), "value").expect("there is room");
    }
    let rename = ratio(|| rename(&many), || rename(&few));
    let started = Instant::now();
    let directory = many.point().join("big");
    let entries = fs::read_dir(directory).map_or(0, Iterator::count);
    let listing = started.elapsed();
    let started = Instant::now();
    let mut export = File::open(many.point().join(".export.yaml")).expect("it is there");
    let export_bytes = io::copy(&mut export, &mut io::sink()).expect("it is served");
    let export = started.elapsed();
    let started = Instant::now();
    let mut list = Command::new(env!("CARGO_BIN_EXE_secretfs"));
    list.arg("list").arg("--mount").arg(many.point()).stdout(Stdio::null());
    assert!(list.status().expect("it was built").success());
    Numbers {
        secrets,
        first_ready,
        ready,
        cpu,
        bytes_each: more / secrets as u64,
        open,
        open_many,
        create,
        rename,
        entries,
        listing,
        export,
        export_bytes,
        list: started.elapsed(),
    }
}

/// What many writers get done a second, and what the disk alone could.
pub(crate) struct Rotations {
    /// Durable rotations, where each writer's secret lies in a directory of its own.
    pub(crate) apart: f64,
    /// The same in one directory: the kernel lets one of them at a time look a name up to write it.
    pub(crate) together: f64,
    /// Appends that the disk alone makes durable, one after the other.
    pub(crate) syncs: f64,
}

/// How many durable rotations a second many writers have; medians, measured in turn with the disk alone.
pub(crate) fn rotations(few: &Path, directory: &Path) -> Rotations {
    let mount = Daemon::start(few, &directory.join("few-mount"));
    let point = mount.point().join("root");
    let [mut apart, mut together, mut syncs] = [const { Vec::new() }; 3];
    for _ in 0..TURNS {
        let synced_append = machine::synced_append(directory, SYNCS).expect("the disk works");
        syncs.push(synced_append.as_secs_f64().recip());
        apart.push(rotate(|writer| point.join(format!("rotated-{writer}/value"))));
        together.push(rotate(|writer| point.join(format!("rotated/value-{writer}"))));
    }
    let [apart, together, syncs] = [apart, together, syncs].map(median);
    Rotations { apart, together, syncs }
}

/// How many rotations a second there are where each writer writes the file of that path.
fn rotate(path_of: impl Fn(usize) -> PathBuf) -> f64 {
    let paths: Vec<_> = (0..WRITERS).map(path_of).collect();
    for path in &paths {
        fs::create_dir_all(path.parent().expect("it lies in a directory")).expect("root may");
        fs::write(path, "value").expect("there is room");
    }
    let (count, is_over) = (&AtomicU64::new(0), &AtomicBool::new(false));
    std::thread::scope(|scope| {
        for path in &paths {
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    fs::write(path, "value").expect("there is room");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(ROTATING);
        is_over.store(true, Ordering::Relaxed);
    });
    count.load(Ordering::Relaxed) as f64 / ROTATING.as_secs_f64()
}

/// How many times as long the first takes as the second: medians, measured in turn so that whatever else
/// the machine does meets both alike.
fn ratio(mut first: impl FnMut(), mut second: impl FnMut()) -> f64 {
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let started = Instant::now();
        first();
        let between = Instant::now();
        second();
        took[0].push((between - started).as_secs_f64());
        took[1].push(between.elapsed().as_secs_f64());
    }
    let [first, second] = took.map(median);
    first / second
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
