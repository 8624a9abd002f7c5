//! The kinds of file that are not stored secrets, and what writers write until it is stored.

pub(super) mod directories;
pub(super) mod draft;
pub(super) mod encrypt;
pub(super) mod export;
pub(super) mod import;
pub(super) mod scratch;
pub(super) mod status;
pub(super) mod texts;
