//! Whether the kernel takes one server after the other for want of memory. Each inherits what writers
//! have not closed yet, and so wants as much memory as the one before it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::Signal;

/// So many in a row were enough.
const ENOUGH: u32 = 2;

pub(in crate::daemon) struct Shortage {
    /// How many processes the kernel had taken when the last server ended.
    taken: u64,
    in_a_row: u32,
}

impl Shortage {
    pub(in crate::daemon) fn new() -> Self {
        Self { taken: taken(), in_a_row: 0 }
    }

    /// A server ended. Whether the next one must do with less memory.
    pub(in crate::daemon) fn was_the_end(&mut self, how: &ExitStatus) -> bool {
        self.note(how.signal() == Some(Signal::SIGKILL as i32), taken())
    }

    fn note(&mut self, was_killed: bool, taken: u64) -> bool {
        let for_memory = was_killed && taken > self.taken;
        self.taken = taken;
        self.in_a_row = if for_memory { self.in_a_row + 1 } else { 0 };
        self.in_a_row >= ENOUGH
    }
}

/// How many processes the kernel has taken so far, in all control groups together; 0 if the kernel does not show it.
fn taken() -> u64 {
    let counts = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let taken = counts.lines().find_map(|line| line.strip_prefix("oom_kill "));
    taken.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_in_a_row_that_were_taken_for_memory_are_enough() {
        let mut shortage = Shortage { taken: 7, in_a_row: 0 };
        assert!(!shortage.note(true, 7), "somebody killed it");
        assert!(!shortage.note(true, 8));
        assert!(!shortage.note(false, 9), "another process was taken");
        assert!(!shortage.note(true, 10));
        assert!(shortage.note(true, 12));
        assert!(shortage.note(true, 13));
        assert!(!shortage.note(true, 13));
    }
}
