//! Which program a request comes from, for the audit log: asked at every open, so it must be cheap.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use parking_lot::Mutex;

use crate::audit::Process;
use crate::telemetry::clock;

use super::proc::{FRESH, process_of};
use crate::fs::Request;

/// Of how many threads something is kept. Each takes one or two descriptors.
const THREADS: usize = 128;
/// A name in `/proc/<pid>/comm` has at most 15 bytes and a line feed.
const NAME: usize = 64;

/// What is known of threads. The lock is held for a lookup.
///
/// A thread is known by an open `/proc/<tid>/comm`: reading it is one system call, gives the name as it
/// is (a program may have been started by exec since), and fails when the thread is gone, so that
/// another one of the same number is never taken for it.
#[derive(Default)]
pub(in crate::fs) struct Programs(Mutex<HashMap<u32, Arc<Thread>>>);

struct Thread {
    process: u32,
    /// The thread's own name.
    own: File,
    /// The name of its process; none if it is the process's first thread.
    leader: Option<File>,
    last: Mutex<(Duration, Option<Arc<str>>)>,
}

impl Programs {
    /// The process that sent a request. What `/proc` does not tell is left out.
    pub(in crate::fs) fn process(&self, request: &Request) -> Process {
        let unknown =
            Process { gid: request.gid, pid: request.task, program: None, request: request.unique };
        if request.task == 0 {
            return unknown;
        }
        let known = self.0.lock().get(&request.task).cloned();
        if let Some(thread) = known
            && let Some(program) = thread.program()
        {
            return Process { pid: thread.process, program: Some(program), ..unknown };
        }
        let Some(thread) = Thread::find(request.task) else { return unknown };
        let (pid, program) = (thread.process, thread.program());
        let mut threads = self.0.lock();
        if threads.len() >= THREADS {
            threads.clear();
        }
        threads.insert(request.task, Arc::new(thread));
        Process { pid, program, ..unknown }
    }
}

impl Thread {
    fn find(number: u32) -> Option<Self> {
        let name_of = |number| File::open(format!("/proc/{number}/comm")).ok();
        let own = name_of(number)?;
        let process = process_of(number)?;
        let leader = if process == number { None } else { Some(name_of(process)?) };
        Some(Self { process, own, leader, last: Mutex::new((Duration::ZERO, None)) })
    }

    /// The name of the program, as it is or was a moment ago: it is not read for each of thousands of opens.
    /// Nothing if the thread is gone.
    fn program(&self) -> Option<Arc<str>> {
        let mut last = self.last.lock();
        let now = clock::tick();
        if now - last.0 < FRESH && last.1.is_some() {
            return last.1.clone();
        }
        let mut bytes = [0; NAME];
        let mut length = self.own.read_at(&mut bytes, 0).ok().filter(|&length| length > 0)?;
        if let Some(leader) = &self.leader {
            length = leader.read_at(&mut bytes, 0).ok()?;
        }
        let name = bytes[..length].strip_suffix(b"\n").unwrap_or(&bytes[..length]);
        if last.1.as_deref().map(str::as_bytes) != Some(name) {
            last.1 = Some(String::from_utf8_lossy(name).into());
        }
        last.0 = now;
        last.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Instant;

    fn requester(task: u32) -> Request {
        Request { uid: 7, gid: 8, task, ..Request::default() }
    }

    #[test]
    fn a_thread_has_the_name_of_its_process() {
        let programs = Programs::default();
        let tid = || nix::unistd::gettid().as_raw().cast_unsigned();
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", std::process::id())).unwrap();
        let known = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    [programs.process(&requester(tid())), programs.process(&requester(tid()))]
                })
                .join()
        });
        for process in known.unwrap() {
            assert_eq!((process.gid, process.pid), (8, std::process::id()));
            assert_eq!(process.program.as_deref(), Some(comm.trim_end()));
        }
        assert_eq!(programs.process(&requester(0)), Process { gid: 8, ..Process::default() });
    }

    #[test]
    fn exec_changes_the_name_and_the_end_of_a_process_forgets_it() {
        let programs = Programs::default();
        let mut child = Command::new("sh")
            .args(["-c", "read x; exec sleep 100"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let id = child.id();
        let wait = |wanted: Option<&str>| {
            let deadline = Instant::now() + Duration::from_secs(20);
            while programs.process(&requester(id)).program.as_deref() != wanted {
                assert!(Instant::now() < deadline, "it is not {wanted:?}");
            }
        };
        wait(Some("sh"));
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
        wait(Some("sleep"));
        child.kill().unwrap();
        child.wait().unwrap();
        wait(None);
    }

    #[test]
    fn stays_bounded() {
        let programs = Programs::default();
        let own = programs.process(&requester(std::process::id()));
        let thread = Arc::clone(&programs.0.lock()[&std::process::id()]);
        programs
            .0
            .lock()
            .extend((1 << 23..(1 << 23) + 1000).map(|task| (task, Arc::clone(&thread))));
        programs.0.lock().remove(&std::process::id());
        assert_eq!(programs.process(&requester(std::process::id())), own);
        assert_eq!(programs.0.lock().len(), 1);
    }
}
