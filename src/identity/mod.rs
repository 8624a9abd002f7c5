//! Who is calling: from a UID to the slugs it stands for (contract, section 2).
//!
//! [`Identities`] is what the administrator's file says, [`Directory`] is what the system says, and
//! [`Resolver`] puts the two together and remembers the answer for a while.

mod changes;
mod file;
mod lookups;
mod nss;
mod resolver;
mod rules;
mod trust;

#[cfg(test)]
mod fake;

pub use changes::{Changes, IdentityChange};
pub use file::{FileFault, Identities, MAX_IDENTITIES_BYTES};
pub use lookups::Then;
pub use nss::{Directory, Group, Lookup, Nss, NssError, User};
pub use resolver::{Answer, IdentitiesError, Keeper, MAX_AGE, ResolveError, Resolver};
pub use trust::{Trust, is_on_read_only_mount};
