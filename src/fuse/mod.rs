//! The only room that knows `fuser`: requests in, answers out, nothing decided.

mod convert;
mod errno;
mod handler;
mod session;

pub use errno::{code, vault_code};
pub use session::{Mounted, mount};
