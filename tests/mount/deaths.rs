//! Any of the daemon's processes die, in any order, under the load of six writers in one directory: no caller waits for
//! long, and one start brings the service back.
//!
//! `SECRETFS_DEATHS=300 cargo test --test mount deaths::` does it 300 times, on a machine that does nothing else with
//! the limits that are promised there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::harness::{Mount, ROOT};

/// How long an operation may take, and how long a start.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_START: Duration = Duration::from_secs(5);
/// Other tests run beside this one.
const SLACK_AMONG_OTHERS: u32 = 5;
const WRITERS: usize = 6;

#[test]
fn whatever_dies_nobody_hangs_and_one_start_brings_it_back() {
    let Some(mount) = Mount::prepare() else { return };
    let mut mount = mount.with_args(&["--crash-limit", "10000"]).started();
    let asked = std::env::var("SECRETFS_DEATHS").ok().map(|deaths| deaths.parse().unwrap());
    let slack = asked.map_or(SLACK_AMONG_OTHERS, |_| 1);
    let root = mount.user(ROOT);
    root.put("d/first", "value", "");
    let writers: Vec<_> = (0..WRITERS).map(|_| mount.user(ROOT)).collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writing: Vec<_> = writers
            .iter()
            .enumerate()
            .map(|(number, user)| {
                let (key, over) = (format!("d/{}", number % 3), &over);
                scope.spawn(move || {
                    let (mut longest, mut succeeded) = (Duration::ZERO, 0);
                    while !over.load(Ordering::SeqCst) {
                        for operation in 0..3 {
                            let start = Instant::now();
                            // Errors are what a caller without a server is to get.
                            let outcome = match operation {
                                0 => user.write(&key, "x"),
                                1 => user.read(&key).map(drop),
                                _ => user.unlink(&key),
                            };
                            longest = longest.max(start.elapsed());
                            succeeded += usize::from(outcome.is_ok());
                        }
                    }
                    (longest, succeeded)
                })
            })
            .collect();
        let ends = EndOf(&over);
        let mut longest_start = Duration::ZERO;
        for death in 0..asked.unwrap_or(20) {
            let start = kill_a_subset(&mut mount, death);
            while root.read("d/first").as_deref() != Ok("value") {
                assert!(start.elapsed() < LONGEST_START * slack, "it does not serve again");
                thread::sleep(Duration::from_millis(5));
            }
            longest_start = longest_start.max(start.elapsed());
            thread::sleep(Duration::from_millis(20));
        }
        drop(ends);
        for writer in writing {
            let (longest, succeeded) = writer.join().unwrap();
            println!("the longest operation took {longest:?}, {succeeded} succeeded");
            assert!(longest < LONGEST_WAIT * slack && succeeded > 0, "{longest:?}, {succeeded}");
        }
        println!("the longest start took {longest_start:?}");
    });
}

/// Ends the writers, also if the test fails.
struct EndOf<'a>(&'a AtomicBool);

impl Drop for EndOf<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Kills some of the processes, and starts the daemon again if its supervisor was among them. Since when nobody may
/// have served.
fn kill_a_subset(mount: &mut Mount, death: usize) -> Instant {
    let all = [
        Some(mount.pid()),
        mount.server(),
        mount.notifier(),
        mount.lookup_helper(),
        mount.inotify_helper(),
    ];
    // Every subset but the empty one, each time in another order.
    let chosen = 1 + death * 11 % 31;
    let is_chosen = |&(bit, _): &(usize, Option<Pid>)| chosen >> bit & 1 == 1;
    let mut some: Vec<_> =
        all.into_iter().enumerate().filter(is_chosen).filter_map(|(_, process)| process).collect();
    let count = some.len().max(1);
    some.rotate_left(death % count);
    if death % 2 == 1 {
        some.reverse();
    }
    let start = Instant::now();
    if mount.kill_some(&some) {
        mount.go();
    }
    start
}
