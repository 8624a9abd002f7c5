//! The caller of a request: its UID and slugs, its process and its program.

pub(super) mod closing;
pub(super) mod known;
pub(super) mod proc;
pub(super) mod program;
pub(super) mod replaced;
