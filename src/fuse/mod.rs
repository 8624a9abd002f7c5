//! The only room that knows `fuser`: requests in, answers out, nothing decided.

mod convert;
mod errno;
mod handler;
mod session;
mod touch;

pub use errno::{code, vault_code};
pub use session::{Mounted, mount};
pub use touch::touch_if_asked;
