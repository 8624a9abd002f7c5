//! Acting as another user: the test binary runs itself, becomes that user for good and performs one
//! operation after the other. A process of its own because a UID belongs to a process, because it
//! can be killed in the middle of a write, and because one that hangs can be told from one that works.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, open, renameat2};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, utimensat};
use nix::unistd::{AccessFlags, Gid, Uid};
use serde::Serialize;

use crate::protocol::{Operation, Shell, Stat, receive, send};
use crate::stress;

/// In the environment of a process that is an agent.
pub(crate) const MARK: &str = "SECRETFS_TEST_AGENT";
/// The test that an agent runs: [`tests::an_agent_is_the_user`].
pub(crate) const ENTRY: &str = "agent::tests::an_agent_is_the_user";

/// Where scripts find programs: what every user can reach.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Serves the socket that is standard input until the test closes it.
fn serve() -> io::Result<()> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut files = Files::default();
    loop {
        let (operation, data) = match receive(&mut socket) {
            Ok(request) => request,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let (errno, answer) = match perform(&mut files, operation, &data) {
            Ok(answer) => (0, answer),
            Err(errno) => (errno as i32, Vec::new()),
        };
        send(&mut socket, &errno, &answer)?;
    }
}

/// The open files, by number.
#[derive(Default)]
struct Files {
    open: HashMap<u32, File>,
    next: u32,
}

impl Files {
    fn file(&self, number: u32) -> &File {
        &self.open[&number]
    }
}

type Answer = Result<Vec<u8>, Errno>;

/// Lists a directory into a page that is mapped from a file, so that the kernel reads that page meanwhile.
fn list_into(path: &Path, file: &Path) -> Answer {
    const PAGE: usize = 4096;
    let (directory, file) = (File::open(path).map_err(errno)?, File::open(file).map_err(errno)?);
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let (directory, file) = (directory.as_raw_fd(), file.as_raw_fd());
    // SAFETY: a new mapping is in nobody's way, and the kernel writes to nothing but that.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), PAGE, access, libc::MAP_PRIVATE, file, 0);
        if page == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let listed = libc::syscall(libc::SYS_getdents64, directory, page, PAGE);
        libc::munmap(page, PAGE);
        Errno::result(listed).map(|_| Vec::new())
    }
}

fn perform(files: &mut Files, operation: Operation, data: &[u8]) -> Answer {
    use Operation as Op;
    match operation {
        Op::Become { uid, gid, groups } => become_user(uid, gid, &groups),
        Op::Open { path, flags } => {
            let flags = OFlag::from_bits_retain(flags) | OFlag::O_CLOEXEC;
            let file = open(&path, flags, Mode::from_bits_retain(0o600))?;
            files.next += 1;
            files.open.insert(files.next, file.into());
            json(&files.next)
        }
        Op::ReadToEnd { file } => {
            let mut bytes = Vec::new();
            files.file(file).read_to_end(&mut bytes).map_err(errno)?;
            Ok(bytes)
        }
        Op::ReadAt { file, offset, length } => {
            let mut bytes = vec![0; length];
            let count = files.file(file).read_at(&mut bytes, offset).map_err(errno)?;
            bytes.truncate(count);
            Ok(bytes)
        }
        Op::Write { file } => done(files.file(file).write_all(data)),
        Op::WriteAt { file, offset } => done(files.file(file).write_all_at(data, offset)),
        Op::SetLength { file, length } => done(files.file(file).set_len(length)),
        Op::Sync { file } => done(files.file(file).sync_all()),
        Op::StatFile { file } => json(&stat(&files.file(file).metadata().map_err(errno)?)),
        Op::Lock { file, operation } => {
            // SAFETY: flock takes a descriptor, which `files` keeps open, and no memory.
            check(unsafe { libc::flock(files.file(file).as_raw_fd(), operation) }.into())
        }
        Op::MapPrivate { file, length } => stress::map_private(files.file(file), length),
        Op::Close { file } => {
            let file = files.open.remove(&file).expect("a number that Open answered");
            nix::unistd::close(file).map(|()| Vec::new())
        }
        Op::Stat { path } => json(&stat(&fs::symlink_metadata(path).map_err(errno)?)),
        Op::Access { path, mode } => {
            nix::unistd::access(&path, AccessFlags::from_bits_retain(mode)).map(|()| Vec::new())
        }
        Op::List { path } => {
            let entries: io::Result<Vec<_>> = fs::read_dir(path)
                .map_err(errno)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect();
            json(&entries.map_err(errno)?)
        }
        Op::ListInto { path, file } => list_into(&path, &file),
        Op::Truncate { path, length } => nix::unistd::truncate(&path, length).map(|()| Vec::new()),
        Op::Unlink { path } => done(fs::remove_file(path)),
        Op::Rename { from, to, flags } => {
            let flags = RenameFlags::from_bits_retain(flags);
            renameat2(AT_FDCWD, &from, AT_FDCWD, &to, flags).map(|()| Vec::new())
        }
        Op::Mkdir { path } => done(fs::create_dir(path)),
        Op::Rmdir { path } => done(fs::remove_dir(path)),
        Op::Chmod { path, mode } => {
            done(fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        }
        Op::Chown { path, uid, gid } => done(std::os::unix::fs::chown(path, uid, gid)),
        Op::Symlink { path } => done(std::os::unix::fs::symlink("/etc/hostname", path)),
        Op::Link { from, to } => done(fs::hard_link(from, to)),
        Op::Mkfifo { path } => {
            nix::unistd::mkfifo(&path, Mode::from_bits_retain(0o400)).map(|()| Vec::new())
        }
        Op::MknodDevice { path } => {
            let null = nix::sys::stat::makedev(1, 3);
            nix::sys::stat::mknod(&path, SFlag::S_IFCHR, Mode::from_bits_retain(0o400), null)
                .map(|()| Vec::new())
        }
        Op::SetTimes { path } => {
            let time = nix::sys::time::TimeSpec::new(1_000_000_000, 0);
            utimensat(AT_FDCWD, &path, &time, &time, UtimensatFlags::NoFollowSymlink)
                .map(|()| Vec::new())
        }
        Op::StatFs { path } => nix::sys::statvfs::statvfs(&path).map(|_| Vec::new()),
        Op::XattrNames { path } => xattr_names(&path),
        Op::Xattr { path, name } => xattr(&path, &name),
        Op::SetXattr { path, name } => {
            let (path, name) = (c_string(path), c_string(name));
            // SAFETY: both names end in NUL, the value has the length that is given.
            let result = unsafe {
                libc::setxattr(path.as_ptr(), name.as_ptr(), data.as_ptr().cast(), data.len(), 0)
            };
            check(result.into())
        }
        Op::RemoveXattr { path, name } => {
            let (path, name) = (c_string(path), c_string(name));
            // SAFETY: both names end in NUL.
            check(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) }.into())
        }
        Op::Shell { directory, script, variables } => {
            let output = Command::new("bash")
                .args(["-c", &script])
                .current_dir(directory)
                .env_remove(MARK)
                .envs([("HOME", "/nonexistent"), ("LC_ALL", "C.UTF-8"), ("PATH", PATH)])
                .envs(variables)
                .stdin(Stdio::null())
                .output()
                .map_err(errno)?;
            json(&Shell {
                code: output.status.code(),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            })
        }
        Op::Stress(job) => Ok(stress::run(&job).into_bytes()),
    }
}

fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Answer {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    nix::unistd::setgroups(&groups)?;
    nix::unistd::setgid(Gid::from_raw(gid))?;
    nix::unistd::setuid(Uid::from_raw(uid))?;
    json(&nix::unistd::getuid().as_raw())
}

fn stat(metadata: &fs::Metadata) -> Stat {
    Stat {
        inode: metadata.ino(),
        mode: metadata.mode(),
        links: metadata.nlink(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        size: metadata.size(),
        mtime: metadata.mtime(),
    }
}

fn xattr_names(path: &Path) -> Answer {
    let path = c_string(path);
    let mut names = vec![0; 4096];
    // SAFETY: the path ends in NUL, the buffer has the length that is given.
    let length =
        check_length(unsafe { libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), 4096) })?;
    names.truncate(length);
    Ok(names)
}

fn xattr(path: &Path, name: &str) -> Answer {
    let (path, name) = (c_string(path), c_string(name));
    let mut value = vec![0; 4096];
    // SAFETY: both names end in NUL, the buffer has the length that is given.
    let length = check_length(unsafe {
        libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), 4096)
    })?;
    value.truncate(length);
    Ok(value)
}

fn c_string(text: impl Into<std::ffi::OsString>) -> CString {
    use std::os::unix::ffi::OsStringExt;
    CString::new(text.into().into_vec()).expect("the tests write no NUL into names")
}

fn check(result: i64) -> Answer {
    if result == 0 { Ok(Vec::new()) } else { Err(Errno::last()) }
}

fn check_length(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::last())
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

fn done(result: io::Result<()>) -> Answer {
    result.map(|()| Vec::new()).map_err(errno)
}

fn json(value: &impl Serialize) -> Answer {
    Ok(serde_json::to_vec(value).expect("plain data"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::User;

    /// Also where every agent starts.
    #[test]
    fn an_agent_is_the_user() {
        if std::env::var_os(MARK).is_some() {
            let ended = serve();
            std::process::exit(i32::from(ended.is_err()));
        }
        if !crate::harness::can_mount() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let nobody = User::new("nobody", 65534, &[4], directory.path(), directory.path());
        let shell = nobody.sh("id -u; id -G");
        assert_eq!(shell.stdout, "65534\n65534 4\n");
        assert_eq!(nobody.write("K", "v"), Err(Errno::EACCES), "the directory is root's");
    }
}
