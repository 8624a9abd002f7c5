//! Libraries that let the kernel seem older than it is, for `LD_PRELOAD` of the daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::skip;

/// Lets the kernel seem not to know `FUSE_NOTIFY_RESEND` (`struct fuse_out_header`: length, code, 0).
pub(crate) const NO_RESEND: &str = r"
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_resend(const void *data, size_t size)
{
    struct { uint32_t length; int32_t code; uint64_t unique; } header;
    if (size != sizeof header)
        return 0;
    memcpy(&header, data, size);
    return header.length == size && header.code == 7 && header.unique == 0;
}

ssize_t write(int file, const void *data, size_t size)
{
    if (is_resend(data, size)) {
        errno = EINVAL;
        return -1;
    }
    return syscall(SYS_write, file, data, size);
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    if (count == 1 && is_resend(parts->iov_base, parts->iov_len)) {
        errno = EINVAL;
        return -1;
    }
    return syscall(SYS_writev, file, parts, count);
}
";

/// Builds a library; none without a C compiler.
pub(crate) fn build_library(directory: &Path, text: &str) -> Option<PathBuf> {
    let (source, library) = (directory.join("preload.c"), directory.join("preload.so"));
    fs::write(&source, text).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]);
    if !compiler.output().is_ok_and(|built| built.status.success()) {
        skip("needs a C compiler");
        return None;
    }
    Some(library)
}
