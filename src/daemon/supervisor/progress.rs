//! Whether a process gets on with what it does, as the kernel sees it: a server that starts cannot be
//! asked, and may have a million secrets to read.

use std::fs;
use std::process::Child;

/// One process under observation.
pub(in crate::daemon) struct Progress {
    process: u32,
    /// The processor time that it had used at the last look, in ticks.
    used: u64,
    /// How often in a row it had done nothing since the look before.
    idle: u32,
}

impl Progress {
    pub(in crate::daemon) fn of(process: &Child) -> Self {
        Self { process: process.id(), used: 0, idle: 0 }
    }

    /// Looks once more. For how many looks in a row it has used no processor, wanted none, and waited
    /// for no disk. No clock: a machine that was suspended is not a process that hangs.
    pub(in crate::daemon) fn look(&mut self) -> u32 {
        let idle = match Look::at(self.process) {
            Some(look) => {
                let before = std::mem::replace(&mut self.used, look.used);
                look.used == before && !look.is_busy
            }
            // It is gone, or cannot be looked at: no reason to think that it hangs.
            None => false,
        };
        self.idle = if idle { self.idle + 1 } else { 0 };
        self.idle
    }
}

struct Look {
    used: u64,
    /// A thread runs, or cannot be interrupted: it waits for a disk.
    is_busy: bool,
}

impl Look {
    fn at(process: u32) -> Option<Self> {
        let directory = format!("/proc/{process}");
        let (_, used) = parse(&fs::read_to_string(format!("{directory}/stat")).ok()?)?;
        let mut is_busy = false;
        for thread in fs::read_dir(format!("{directory}/task")).ok()? {
            // A thread that has ended since it was listed was busy.
            let stat = fs::read_to_string(thread.ok()?.path().join("stat")).unwrap_or_default();
            is_busy |= parse(&stat).is_none_or(|(state, _)| matches!(state, 'R' | 'D'));
        }
        Some(Self { used, is_busy })
    }
}

/// State and processor time of proc_pid_stat(5). The name stands in brackets and may hold brackets
/// itself; the numbers follow the last one.
fn parse(stat: &str) -> Option<(char, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let user: u64 = fields.nth(10)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((state, user + system))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn reads_the_fields_behind_any_name() {
        let stat = "7 (a) D (b) S 1 7 7 0 -1 4195328 1 0 0 0 31 11 0 0 20 0 1 0 123456 0 0";
        assert_eq!(parse(stat), Some(('S', 42)));
        assert_eq!(parse("7 (x) S 1"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn who_waits_is_idle_and_who_works_is_not() {
        // It waits for its input.
        let mut waiting = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let mut progress = Progress::of(&waiting);
        while progress.look() < 3 {
            std::thread::yield_now();
        }
        let mut working = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let mut progress = Progress::of(&working);
        assert!((0..100).all(|_| progress.look() == 0));
        waiting.kill().unwrap();
        working.kill().unwrap();
        waiting.wait().unwrap();
        working.wait().unwrap();
        assert_eq!(progress.look(), 0, "it is gone");
    }
}
