//! The only module that uses `fuser`: it converts requests and answers, and decides nothing.

mod convert;
mod device;
mod errno;
mod execute;
mod handler;
mod locks;
mod notifier;
mod reply;
mod session;
mod touch;

pub use device::Device;
pub use errno::{code, vault_code};
pub use notifier::{LINES, lines, pass_on};
pub use session::{REQUEST_BUFFER_BYTES, REQUEST_BYTES, Served, Service, resend, serve};
pub use touch::{InotifyHelper, touch_if_asked};
