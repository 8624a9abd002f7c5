//! Whether requests get their answers: a thread that works on one request for long, and waits for
//! nothing that may take long, hangs.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// More threads than serve requests. One for the process, as its requests are.
const THREADS: usize = 128;
/// Since when each thread works on a request, in milliseconds since boot; 0 if it does not.
static SINCE: [AtomicU64; THREADS] = [const { AtomicU64::new(0) }; THREADS];
static KNOWN: AtomicUsize = AtomicUsize::new(0);
/// How many threads wait for a disk or a name service.
static WAITING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// A thread works on a request, until this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Working(usize);

/// A thread waits for what may take its time, until this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Waiting(usize);

/// This thread works on a request.
pub fn working() -> Working {
    let place = PLACE.with(|place| match place.get() {
        Some(known) => known,
        None => {
            let new = KNOWN.fetch_add(1, Ordering::Relaxed) % THREADS;
            place.set(Some(new));
            new
        }
    });
    SINCE[place].store(now(), Ordering::Relaxed);
    Working(place)
}

/// This thread, whatever it works on, waits for a disk or a name service. Others may wait for it.
pub fn waiting() -> Waiting {
    WAITING.fetch_add(1, Ordering::Relaxed);
    Waiting(PLACE.get().unwrap_or(usize::MAX))
}

/// For how long a thread has been working on a request, without a reason that would be known: 0 as
/// long as anybody waits for a disk or a name service.
pub fn stuck_for() -> Duration {
    if WAITING.load(Ordering::Relaxed) > 0 {
        return Duration::ZERO;
    }
    let now = now();
    let since = SINCE.iter().map(|since| since.load(Ordering::Relaxed)).filter(|&since| since > 0);
    Duration::from_millis(since.map(|since| now.saturating_sub(since)).max().unwrap_or(0))
}

impl Drop for Working {
    fn drop(&mut self) {
        SINCE[self.0].store(0, Ordering::Relaxed);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // What it does from now on is counted anew.
        if let Some(since) = SINCE.get(self.0)
            && since.load(Ordering::Relaxed) > 0
        {
            since.store(now(), Ordering::Relaxed);
        }
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

fn now() -> u64 {
    let now: Duration =
        clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has this clock").into();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_disk_does_not_hang() {
        let pause = || std::thread::sleep(Duration::from_millis(30));
        let request = working();
        pause();
        assert!(stuck_for() >= Duration::from_millis(20));
        let disk = waiting();
        pause();
        assert_eq!(stuck_for(), Duration::ZERO);
        drop(disk);
        assert!(stuck_for() < Duration::from_millis(20), "the time at the disk does not count");
        // Another thread waits, perhaps with a lock that this one wants.
        std::thread::scope(|scope| {
            let other = scope.spawn(|| drop((waiting(), pause())));
            while !other.is_finished() && WAITING.load(Ordering::Relaxed) == 0 {}
            assert!(other.is_finished() || stuck_for() == Duration::ZERO);
        });
        drop(request);
        assert_eq!(stuck_for(), Duration::ZERO);
    }
}
