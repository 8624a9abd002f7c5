//! The only room that knows `fuser`: requests in, answers out, nothing decided.

mod convert;
mod device;
mod errno;
mod handler;
mod messenger;
mod session;
mod touch;

pub use device::Device;
pub use errno::{code, vault_code};
pub use messenger::{LINES, lines, pass_on};
pub use session::{Served, Service, serve};
pub use touch::{Toucher, touch_if_asked};
