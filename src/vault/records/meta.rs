//! What a store says of itself: its format, and the id that its records are sealed to.

use crate::vault::error::OpenVaultError;

const FORMAT: u8 = 1;
/// The same, of a store whose secrets have a sum: a version that does not know of it must not change them.
const BOUND_FORMAT: u8 = 2;
/// In the place of the format: see [`Meta::Unfinished`].
const UNFINISHED: u8 = 0x80;

/// Tells stores apart, so that a record cannot be carried from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vault) struct StoreId([u8; 16]);

impl StoreId {
    pub(in crate::vault) fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the kernel's random source answers once it is seeded");
        Self(bytes)
    }

    pub(in crate::vault) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(in crate::vault) fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// What a record of that name is sealed to in a shared store.
    pub(in crate::vault) fn place(self, name: &[u8]) -> Vec<u8> {
        [&self.0, name].concat()
    }

    pub(in crate::vault) fn to_meta(self) -> Vec<u8> {
        [&[FORMAT][..], &self.0].concat()
    }

    /// That of a store whose secrets have a sum.
    pub(in crate::vault) fn to_bound_meta(self) -> Vec<u8> {
        [&[BOUND_FORMAT][..], &self.0].concat()
    }

    /// The id of a store that is whole.
    ///
    /// # Errors
    /// It is not, or it is another version's.
    pub(in crate::vault) fn of_whole(meta: &[u8]) -> Result<Self, OpenVaultError> {
        match Meta::parse(meta) {
            Some(Meta::Whole(id)) => Ok(id),
            Some(Meta::Unfinished { .. }) => Err(OpenVaultError::Unfinished),
            None => Err(OpenVaultError::UnknownFormat),
        }
    }
}

/// What the record `m` says, here and in a shared store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vault) enum Meta {
    /// Its records are all there.
    Whole(StoreId),
    /// Secrets are being moved into it from another store. Only the migration may open it.
    Unfinished { id: StoreId, source: StoreId },
}

impl Meta {
    pub(in crate::vault) fn parse(meta: &[u8]) -> Option<Self> {
        let (&format, ids) = meta.split_first()?;
        let id = |bytes: &[u8]| Some(StoreId(bytes.try_into().ok()?));
        match format {
            FORMAT | BOUND_FORMAT => Some(Self::Whole(id(ids)?)),
            UNFINISHED => {
                let (own, source) = ids.split_at_checked(16)?;
                Some(Self::Unfinished { id: id(own)?, source: id(source)? })
            }
            _ => None,
        }
    }

    pub(in crate::vault) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Whole(id) => id.to_meta(),
            Self::Unfinished { id, source } => [&[UNFINISHED][..], &id.0, &source.0].concat(),
        }
    }
}
