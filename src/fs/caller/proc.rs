//! What `/proc` says of the thread that sent a request.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The kernel sets this flag in a task that a signal is killing (`PF_SIGNALED`, `linux/sched.h`).
const SIGNALED: u64 = 0x400;

/// More than 52 numbers and a name can take.
const LONGEST: usize = 2048;
/// Within this time no number of a thread comes round again.
pub(in crate::fs) const FRESH: Duration = Duration::from_millis(5);
/// How often and how far apart it is looked whether a thread that is being killed is still there.
const LOOKS: usize = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// One reading of `/proc/<tid>/stat` (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Task {
    /// A letter: `Z` if it has ended already.
    state: char,
    flags: u64,
    /// When the thread started, in clock ticks since boot: tells it from a later one of its number.
    started: u64,
}

impl Task {
    /// The thread of that number in `/proc`; nothing if it is gone.
    fn read(number: u32) -> Option<Self> {
        Self::parse(&read_at_once(number, "stat").ok()?)
    }

    /// The program's name stands in brackets and may itself hold brackets and spaces; the numbers
    /// follow the last one, starting with field 3.
    fn parse(stat: &str) -> Option<Self> {
        let (_, numbers) = stat.rsplit_once(')')?;
        let state = numbers.trim_start().chars().next()?;
        let field = |number: usize| numbers.split_ascii_whitespace().nth(number - 3)?.parse().ok();
        Some(Self { state, flags: field(9)?, started: field(22)? })
    }
}

/// When a thread started; nothing if it is gone, or lives in a PID namespace that this process does not see
/// (its number is 0 then).
pub(in crate::fs) fn start_of(thread: u32) -> Option<u64> {
    Task::read(known(thread)?).map(|task| task.started)
}

/// Whether a signal is killing a thread that waits for an answer: what it wrote is not finished.
pub(in crate::fs) fn is_being_killed(thread: u32) -> bool {
    known(thread).is_some_and(is_dying)
}

/// Only `stat` shows that, and a kernel may block its readers while the process executes another program
/// (`exec_update_lock`, `fs/exec.c`). That closes files, so the thread may be waiting for this very close. A
/// process that executes a program has memory; one that is dying has none at this point (`do_exit`,
/// `kernel/exit.c`). So the memory is checked first.
fn is_dying(thread: u32) -> bool {
    has_no_memory(thread).unwrap_or(false)
        && Task::read(thread).is_some_and(|task| task.state != 'Z' && task.flags & SIGNALED != 0)
}

/// Whether `/proc` shows a thread of this UID that a signal is killing and that waits for something: it is
/// still there after a while, and `is_alone` holds all the time. The daemon may be in a PID namespace of its
/// own and see the `/proc` of its parent; where it sees only its own there is no way to tell.
pub(in crate::fs) fn may_be_being_killed(uid: u32, is_alone: impl Fn() -> bool) -> bool {
    let mut dying: Vec<u32> = Vec::new();
    for attempt in 0..LOOKS {
        if attempt > 0 {
            std::thread::sleep(BETWEEN_LOOKS);
        }
        match attempt {
            0 => dying = threads_of(uid).filter(|&thread| is_dying(thread)).collect(),
            _ => dying.retain(|&thread| is_dying(thread)),
        }
        if dying.is_empty() || !is_alone() {
            return false;
        }
    }
    true
}

/// All threads of a UID's processes.
fn threads_of(uid: u32) -> impl Iterator<Item = u32> {
    let numbers = |directory: &str| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect::<Vec<u32>>()
    };
    let is_of_user = move |process: &u32| {
        fs::metadata(format!("/proc/{process}")).is_ok_and(|process| process.uid() == uid)
    };
    let processes = numbers("/proc").into_iter().filter(is_of_user);
    processes.flat_map(move |process| numbers(&format!("/proc/{process}/task")))
}

/// A thread of which `/proc` tells something.
fn known(thread: u32) -> Option<u32> {
    (thread != 0 && has_own_numbers()).then_some(thread)
}

/// Whether the numbers in `/proc` are those of this PID namespace. If not, nothing is known of any caller.
fn has_own_numbers() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let stat = fs::read_to_string("/proc/self/stat");
        stat.is_ok_and(|stat| stat.starts_with(&format!("{} ", std::process::id())))
    })
}

/// By proc_pid_statm(5): it has 0 pages then.
fn has_no_memory(thread: u32) -> io::Result<bool> {
    Ok(read_at_once(thread, "statm")?.starts_with("0 "))
}

/// A file of a thread, with one system call: the kernel gives all of it to a buffer that is large enough,
/// and every rotation reads some.
fn read_at_once(thread: u32, file: &str) -> io::Result<String> {
    let mut text = [0; LONGEST];
    let length = File::open(format!("/proc/{thread}/{file}"))?.read(&mut text)?;
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}

/// The clock that all processes share, and that is never set.
pub(in crate::fs) fn now_since_boot() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has this clock");
    now.into()
}

/// The process that a thread belongs to; nothing as for [`start_of`].
pub(in crate::fs) fn process_of(thread: u32) -> Option<u32> {
    number_in_status(thread, "Tgid:")
}

/// The process that started a process; nothing as for [`start_of`], or if it is gone: its children are
/// those of the first process then, as many others.
pub(in crate::fs) fn parent_of(process: u32) -> Option<u32> {
    number_in_status(process, "PPid:").filter(|&parent| parent > 1)
}

/// Signals that a thread does not block and has not taken yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fs) enum Pending {
    Nothing,
    /// This thread must take it.
    ForThread,
    /// A thread of its process must.
    ForProcess {
        process: u32,
    },
}

/// The signals for a thread; nothing as for [`Task::read`].
pub(in crate::fs) fn pending_signals(thread: u32) -> Option<Pending> {
    if thread == 0 {
        return None;
    }
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let field = |name: &str| Some(status.lines().find_map(|line| line.strip_prefix(name))?.trim());
    let signals = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
    let (process, threads) = (field("Tgid:")?.parse().ok()?, field("Threads:")?);
    let taken = !signals("SigBlk:")?;
    if signals("SigPnd:")? & taken != 0 {
        return Some(Pending::ForThread);
    }
    Some(match signals("ShdPnd:")? & taken {
        0 => Pending::Nothing,
        _ if threads == "1" => Pending::ForThread,
        _ => Pending::ForProcess { process },
    })
}

fn number_in_status(thread: u32, name: &str) -> Option<u32> {
    let thread = known(thread)?;
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fields_behind_any_name() {
        let stat = "7 (a) R (b) S 1 7 7 0 -1 4195328 1 0 0 0 0 0 0 0 20 0 1 0 123456 0 0";
        let task = Task::parse(stat).unwrap();
        assert_eq!(task, Task { state: 'S', flags: 4_195_328, started: 123_456 });
        assert!(task.flags & SIGNALED != 0, "4195328 is 0x400400");
        assert_eq!(Task::parse("7 (x"), None);
        assert_eq!(Task::parse("7 (x) S 1"), None);
    }

    #[test]
    fn reads_this_thread() {
        let task = Task::read(nix::unistd::gettid().as_raw().cast_unsigned()).unwrap();
        assert!(task.started > 0);
        assert_eq!(start_of(0), None);
        let thread = nix::unistd::gettid().as_raw().cast_unsigned();
        assert!(!is_dying(thread) && !has_no_memory(thread).unwrap());
        assert!(has_own_numbers());
        let own_uid = nix::unistd::getuid().as_raw();
        assert!(threads_of(own_uid).any(|other| other == thread));
        assert_eq!(process_of(thread), Some(std::process::id()));
    }
}
