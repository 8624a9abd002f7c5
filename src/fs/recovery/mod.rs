//! Taking over from a server that was killed.

pub(super) mod quarantine;
pub(super) mod restore;
#[cfg(test)]
mod tests;
