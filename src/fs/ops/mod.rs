//! What callers do: one file per kind of request.

pub(super) mod access;
pub(super) mod bound;
pub(super) mod close;
pub(super) mod create;
pub(super) mod lookup;
pub(super) mod open;
pub(super) mod poll;
pub(super) mod read_write;
pub(super) mod readdir;
pub(super) mod remove;
pub(super) mod rename;
pub(super) mod rename_directory;
pub(super) mod setattr;
pub(super) mod xattr;
