//! What the kernel knows and caches: nodes, handles, and the messages that change its caches.

pub(super) mod directory_ids;
pub(super) mod handles;
pub(super) mod inotify;
pub(super) mod invalidator;
pub(super) mod nodes;
pub(super) mod prefill;
pub(super) mod retries;
