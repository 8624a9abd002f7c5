//! How many requests of each kind the kernel sent.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! opcodes {
    ($($opcode:ident $name:literal),* $(,)?) => {
        /// A kind of request, named as in `linux/fuse.h`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Opcode { $($opcode),* }

        const NAMES: &[&str] = &[$($name),*];
    };
}

opcodes! {
    Lookup "lookup", Forget "forget", BatchForget "batch_forget", Getattr "getattr",
    Setattr "setattr", Readlink "readlink", Mknod "mknod", Mkdir "mkdir", Unlink "unlink",
    Rmdir "rmdir", Symlink "symlink", Rename "rename", Link "link", Open "open", Read "read",
    Write "write", Flush "flush", Release "release", Fsync "fsync", Opendir "opendir",
    Readdir "readdir", Readdirplus "readdirplus", Releasedir "releasedir", Fsyncdir "fsyncdir",
    Statfs "statfs", Setxattr "setxattr", Getxattr "getxattr", Listxattr "listxattr",
    Removexattr "removexattr", Access "access", Create "create", Ioctl "ioctl",
    Fallocate "fallocate", Lseek "lseek", CopyFileRange "copy_file_range", Poll "poll",
    Bmap "bmap", Getlk "getlk", Setlk "setlk",
}

impl Opcode {
    /// The operation as which a request is counted and reported to its caller, if it is.
    pub(in crate::fs) fn operation(self) -> Option<&'static str> {
        Some(match self {
            Self::Open | Self::Opendir => "open",
            Self::Create | Self::Mknod => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "close",
            Self::Fsync => "fsync",
            Self::Setattr => "setattr",
            Self::Unlink => "unlink",
            Self::Rename => "rename",
            Self::Mkdir => "mkdir",
            Self::Rmdir => "rmdir",
            Self::Setlk => "lock",
            Self::Setxattr | Self::Removexattr => "setxattr",
            _ => return None,
        })
    }
}

/// A counter for each kind of request.
pub struct Requests([AtomicU64; NAMES.len()]);

impl Default for Requests {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Requests {
    /// Counts one request.
    pub fn count(&self, opcode: Opcode) {
        self.0[opcode as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counters in the Prometheus text format.
    pub(in crate::fs) fn write_to(&self, text: &mut String) {
        text.push_str(
            "# HELP secretfs_fuse_requests_total Requests that the kernel sent.\n\
             # TYPE secretfs_fuse_requests_total counter\n",
        );
        for (name, count) in NAMES.iter().zip(&self.0) {
            let count = count.load(Ordering::Relaxed);
            writeln!(text, "secretfs_fuse_requests_total{{opcode=\"{name}\"}} {count}")
                .expect("a string takes all");
        }
    }
}
