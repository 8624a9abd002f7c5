//! What callers do to secrets: one file per operation.

pub(super) mod apply;
pub(super) mod change_lists;
pub(super) mod export;
pub(super) mod read;
pub(super) mod remove;
pub(super) mod rename;
pub(super) mod rename_directory;
pub(super) mod seal;
pub(super) mod write;
