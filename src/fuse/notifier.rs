//! Sends notifications to the kernel from a process that does nothing else.
//!
//! The kernel may let a notification wait for a lock whose holder waits for an answer. A thread that waits
//! there cannot be killed. If it were a thread of the server, a killed server would keep its store locked
//! until that holder is answered. Only the next server can answer it, and that waits for the store: a
//! deadlock. The kernel notifier holds nothing that another process waits for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use parking_lot::{Condvar, Mutex};
use zeroize::{Zeroize, Zeroizing};

use crate::fs::INVALIDATIONS;

use super::device::Device;
use super::errno::FAILED;

/// How many messages can be under way at a time, each on a line of its own: names to forget, bytes to keep,
/// and one that never waits for a caller.
pub const LINES: usize = INVALIDATIONS + 2;
/// Longer than any message: 128 KiB of a file and what stands before them.
const LONGEST: usize = 160 * 1024;
/// What `fuse_out_header` takes.
const HEADER: usize = 16;

/// The server's ends and the kernel notifier's ends of the lines between them.
///
/// # Errors
/// There are too many open files.
pub fn lines() -> io::Result<Vec<(OwnedFd, OwnedFd)>> {
    let line =
        || socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
    Ok((0..LINES).map(|_| line()).collect::<nix::Result<_>>()?)
}

/// Passes on messages until the server is gone.
///
/// # Errors
/// A thread cannot be started, or the device cannot be shared.
pub fn pass_on(device: &Device, lines: Vec<OwnedFd>) -> io::Result<()> {
    let threads = lines.into_iter().map(|line| {
        let device = device.file().try_clone()?;
        std::thread::Builder::new().name("line".to_owned()).spawn(move || {
            // The server's end is gone, or about to be: so is this one's purpose.
            let _ = pass_on_line(&device, line.into());
        })
    });
    let threads: Vec<_> = threads.collect::<io::Result<_>>()?;
    threads.into_iter().map(JoinHandle::join).for_each(drop);
    Ok(())
}

fn pass_on_line(mut device: &File, mut line: File) -> io::Result<()> {
    let mut message = Zeroizing::new(vec![0; LONGEST]);
    loop {
        let length = line.read(&mut message)?;
        if length == 0 {
            return Ok(());
        }
        let outcome = device.write_all(&message[..length]);
        message[..length].zeroize();
        let errno = outcome.err().map_or(0, |error| error.raw_os_error().unwrap_or(FAILED));
        line.write_all(&errno.to_ne_bytes())?;
    }
}

/// The server's ends of the lines.
pub(super) struct Lines {
    free: Mutex<Vec<File>>,
    news: Condvar,
}

impl Lines {
    pub(super) fn new(ends: Vec<OwnedFd>) -> Self {
        let free = Mutex::new(ends.into_iter().map(File::from).collect());
        Self { free, news: Condvar::new() }
    }

    /// Lets the kernel know, on a line that is free, and gives the number of the error that it answered,
    /// or 0.
    ///
    /// Without its kernel notifier this process cannot keep the kernel's caches right: it ends, and another
    /// one takes over.
    pub(super) fn say(&self, message: &[u8]) -> i32 {
        let mut free = self.free.lock();
        let mut line = loop {
            match free.pop() {
                Some(line) => break line,
                None => self.news.wait(&mut free),
            }
        };
        drop(free);
        let mut answer = [0; 4];
        let answered = line.write_all(message).and_then(|()| line.read_exact(&mut answer));
        if let Err(error) = answered {
            tracing::error!(%error, "the kernel notifier is gone; this server ends");
            std::process::abort();
        }
        self.free.lock().push(line);
        self.news.notify_one();
        i32::from_ne_bytes(answer)
    }
}

/// A message to the kernel that is no answer (`fuse_out_header`), from its parts.
pub(super) fn notice(code: i32, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length = HEADER + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut message = Zeroizing::new(Vec::with_capacity(length));
    let length = u32::try_from(length).expect("messages are short");
    message.extend(length.to_ne_bytes());
    message.extend(code.to_ne_bytes());
    message.extend(0_u64.to_ne_bytes());
    parts.iter().for_each(|part| message.extend(*part));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_on_what_it_is_told_and_the_answer() {
        let (ours, theirs) = lines().unwrap().remove(0);
        let mut taken = tempfile::tempfile().unwrap();
        let device = taken.try_clone().unwrap();
        let passing = std::thread::spawn(move || pass_on_line(&device, theirs.into()));
        let lines_of_server = Lines::new(vec![ours]);
        assert_eq!(lines_of_server.say(&notice(3, &[b"some", b"thing"])), 0);
        drop(lines_of_server);
        passing.join().unwrap().unwrap();
        let mut message = Vec::new();
        io::Seek::rewind(&mut taken).unwrap();
        taken.read_to_end(&mut message).unwrap();
        let header = [25_u32.to_ne_bytes(), 3_u32.to_ne_bytes(), [0; 4], [0; 4]].concat();
        assert_eq!(message, [&header, &b"something"[..]].concat());

        let (ours, theirs) = lines().unwrap().remove(0);
        let full = File::options().write(true).open("/dev/full").unwrap();
        std::thread::spawn(move || pass_on_line(&full, theirs.into()));
        assert_eq!(Lines::new(vec![ours]).say(b"anything"), libc::ENOSPC);
    }
}
