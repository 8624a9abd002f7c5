//! The machine: mountpoints, mount options, and who waits for a start.

pub(super) mod connection;
pub(super) mod locate;
pub(super) mod mountpoint;
pub(super) mod selinux;
pub(super) mod start_notice;
