//! Whether requests get their answers: a thread that works on one request for long, and waits for
//! nothing that may take long, hangs. And whether a request that was read before another one has been
//! begun on before it: several threads read them, and go on as the scheduler likes.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::clock;

/// More threads than serve requests. One for the process, as its requests are.
const THREADS: usize = 128;
/// Since when each thread works on a request, in milliseconds since boot; 0 if it does not.
static SINCE: [AtomicU64; THREADS] = [const { AtomicU64::new(0) }; THREADS];
/// What each thread does with its requests: their number so far, and [`IDLE`] or one of its kind.
static TURN: [AtomicU64; THREADS] = [const { AtomicU64::new(0) }; THREADS];
/// Which thread it is.
static THREAD: [AtomicI32; THREADS] = [const { AtomicI32::new(0) }; THREADS];
/// It waits for a request, or has just read one.
const IDLE: u64 = 0;
/// It has begun on one that others need not wait for, or need not wait for any more.
const BEGUN: u64 = 1;
/// It has read one that others wait for.
const READ: u64 = 2;
const KINDS: u64 = 4;
/// How the names of the threads begin that read requests.
static READERS: OnceLock<&str> = OnceLock::new();
static KNOWN: AtomicUsize = AtomicUsize::new(0);
/// How many threads wait for a disk or a name service.
static WAITING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// A thread works on a request, until this is dropped.
#[must_use]
#[derive(Debug)]
pub struct InFlight(usize);

/// A thread waits for what may take its time, until this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Blocked(usize);

/// This thread works on a request.
pub fn working() -> InFlight {
    begin(BEGUN)
}

/// The same, for a request that others wait for until it [has begun](has_begun).
pub fn working_on_what_others_wait_for() -> InFlight {
    begin(READ)
}

fn begin(kind: u64) -> InFlight {
    let place = PLACE.with(|place| match place.get() {
        Some(known) => known,
        None => {
            let new = KNOWN.fetch_add(1, Ordering::Relaxed) % THREADS;
            place.set(Some(new));
            THREAD[new].store(own_number(), Ordering::Relaxed);
            new
        }
    });
    SINCE[place].store(now(), Ordering::Relaxed);
    let turn = TURN[place].load(Ordering::Relaxed);
    TURN[place].store((turn / KINDS + 1) * KINDS + kind, Ordering::Release);
    InFlight(place)
}

/// Who waits for the request that this thread works on need not do so any more.
pub fn has_begun() {
    if let Some(place) = PLACE.get() {
        let turn = TURN[place].load(Ordering::Relaxed);
        TURN[place].store(turn / KINDS * KINDS + BEGUN, Ordering::Release);
    }
}

/// How the names of the threads begin that read requests. To be said once.
pub fn requests_are_read_by(threads: &'static str) {
    // It is the same for every mount of a process.
    let _ = READERS.set(threads);
}

/// Waits until all requests that were read before the present one and that others wait for have begun;
/// at most that long.
pub fn wait_for_earlier_requests(patience: Duration) {
    let Some(readers) = READERS.get() else { return };
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return };
    let (own, end) = (own_number(), Instant::now() + patience);
    let numbers = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok());
    for task in numbers.filter(|&task: &i32| task != own) {
        let turn = || {
            let place = THREAD.iter().position(|thread| thread.load(Ordering::Relaxed) == task);
            place.map_or(IDLE, |place| TURN[place].load(Ordering::Acquire))
        };
        let first = turn();
        let awaited = match first % KINDS {
            BEGUN => continue,
            // What it may have read, and has not marked yet.
            IDLE => first / KINDS + 1,
            _ => first / KINDS,
        };
        let has_begun = || {
            let now = turn();
            match now / KINDS < awaited {
                // One that waits for a request sleeps; one that has just read one runs, or is about to.
                true => !runs(task, readers) && turn() == now,
                false => now != awaited * KINDS + READ,
            }
        };
        while !has_begun() {
            if Instant::now() > end {
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// The number of this thread in `/proc`, which may be that of another PID namespace than this process is in.
fn own_number() -> i32 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    stat.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Whether it is one of these threads and does not sleep (proc_pid_stat(5)).
fn runs(task: i32, readers: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{task}/stat")).unwrap_or_default();
    let Some((name, rest)) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") "))
    else {
        return false;
    };
    name.starts_with(readers) && !rest.starts_with('S')
}

/// This thread, whatever it works on, waits for a disk or a name service. Others may wait for it.
pub fn waiting() -> Blocked {
    WAITING.fetch_add(1, Ordering::Relaxed);
    Blocked(PLACE.get().unwrap_or(usize::MAX))
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

impl Drop for InFlight {
    fn drop(&mut self) {
        let turn = TURN[self.0].load(Ordering::Relaxed);
        TURN[self.0].store(turn / KINDS * KINDS + IDLE, Ordering::Release);
        SINCE[self.0].store(0, Ordering::Relaxed);
    }
}

impl Drop for Blocked {
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
    u64::try_from(clock::tick().as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What they look at is the process's: one at a time.
    static TURNS: std::sync::Mutex<()> = std::sync::Mutex::new(());

    #[test]
    fn who_waits_for_a_disk_does_not_hang() {
        let _turn = TURNS.lock().unwrap();
        const LONG: Duration = Duration::from_millis(300);
        let pause = || std::thread::sleep(LONG);
        let request = working();
        pause();
        // Other tests may wait for a disk for a moment.
        let end = Instant::now() + Duration::from_secs(10);
        while stuck_for() < LONG {
            assert!(Instant::now() < end, "nobody noticed");
        }
        let disk = waiting();
        pause();
        assert_eq!(stuck_for(), Duration::ZERO);
        drop(disk);
        assert!(stuck_for() < LONG, "the time at the disk does not count");
        // Another thread waits, perhaps with a lock that this one wants.
        std::thread::scope(|scope| {
            let other = scope.spawn(|| drop((waiting(), pause())));
            while !other.is_finished() && WAITING.load(Ordering::Relaxed) == 0 {}
            assert!(other.is_finished() || stuck_for() == Duration::ZERO);
        });
        drop(request);
        assert_eq!(stuck_for(), Duration::ZERO);
    }

    #[test]
    fn who_was_read_earlier_has_begun() {
        let _turn = TURNS.lock().unwrap();
        requests_are_read_by("reads-");
        for is_first_request in [true, false] {
            wait_for_one_that_was_read(is_first_request);
        }
    }

    fn wait_for_one_that_was_read(is_first_request: bool) {
        use std::sync::atomic::AtomicBool;
        use std::sync::mpsc::channel;
        use std::thread::Builder;

        const LONG: Duration = Duration::from_secs(60);
        let (may_begin, has_it_begun) = (AtomicBool::new(false), AtomicBool::new(false));
        let (is_there, comes) = channel();
        let (end, ends) = channel::<()>();
        std::thread::scope(|scope| {
            let has_read_one = || {
                if !is_first_request {
                    drop(working());
                }
                is_there.send(()).unwrap();
                while !may_begin.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                let request = working_on_what_others_wait_for();
                (0..1000).for_each(|_| std::thread::yield_now());
                has_it_begun.store(true, Ordering::Relaxed);
                has_begun();
                drop(request);
            };
            Builder::new().name("reads-1".to_owned()).spawn_scoped(scope, has_read_one).unwrap();
            let waits_for_one = move || assert!(ends.recv().is_err());
            Builder::new().name("reads-2".to_owned()).spawn_scoped(scope, waits_for_one).unwrap();
            comes.recv().unwrap();
            scope.spawn(|| {
                (0..1000).for_each(|_| std::thread::yield_now());
                may_begin.store(true, Ordering::Relaxed);
            });
            wait_for_earlier_requests(LONG);
            assert!(has_it_begun.load(Ordering::Relaxed), "first request: {is_first_request}");
            // Nobody waits for those who wait.
            wait_for_earlier_requests(LONG);
            drop(end);
        });
    }
}
