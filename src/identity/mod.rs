//! Who is calling: from a UID to the slugs it stands for (contract, section 2).
//!
//! [`Identities`] is what the administrator's file says, [`Directory`] is what the system says, and
//! [`Resolver`] puts the two together and remembers the answer for a while.

mod file;
mod lookups;
mod nss;
mod resolver;
mod rules;

#[cfg(test)]
mod fake;

pub use file::{FileFault, Identities, MAX_IDENTITIES_BYTES};
pub use lookups::Then;
pub use nss::{Directory, Group, Lookup, Nss, NssError, User};
pub use resolver::{Answer, IdentitiesError, Keeper, MAX_AGE, ResolveError, Resolver};
