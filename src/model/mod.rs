//! The words of the contract as types. Everything here is pure: no I/O, no clock, no locks.
//!
//! Types parse at the edge and cannot be wrong inside: a [`Key`] in hand is a valid key.

mod access;
mod acl;
mod caller;
mod key;
mod numbered;
mod plaintext;
mod printable;
mod secret;
mod slug;
mod temporary;
mod time;

pub use access::{Denial, Grant, Operation, decide, may_create, may_see};
pub use acl::{Acl, AclPatch, ListName, SlugList};
pub use caller::Caller;
pub use key::{Key, KeyError, MAX_COMPONENT_BYTES, MAX_KEY_BYTES, SIDECAR_SUFFIX};
pub(crate) use numbered::numbered;
pub use numbered::{DecodeError, Numbered, decode, encode};
pub use plaintext::Plaintext;
pub use printable::{is_unprintable, printable};
pub use secret::{IdError, MAX_VALUE_BYTES, SecretId};
pub use slug::{SLUG_RULE, Slug, SlugError};
pub use temporary::{is_temporary_name, may_be_temporary_name};
pub use time::Timestamp;
