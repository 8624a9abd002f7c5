//! The machine: mountpoints, mount options, and the notice that a start is complete.

pub(super) mod connection;
pub(super) mod durable;
pub(super) mod locate;
pub(super) mod mountpoint;
pub(super) mod selinux;
pub(super) mod start_notice;
