//! Why something sealed does not open.

use super::KeyId;

/// Why something sealed does not open. Never says what was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A key sealed it that is not at hand.
    #[error(
        "it was sealed with the key {0}, which is not here; put that key into --previous-encryption-key-file"
    )]
    UnknownKey(KeyId),
    /// It was sealed for the recipient of a key that is not at hand.
    #[error(
        "it was sealed for the recipient of another key, {0}; seal it for the one that `secretfs recipient` prints here, or put that key into --previous-encryption-key-file"
    )]
    OtherRecipient(KeyId),
    /// It was changed, or moved from another place.
    #[error("it was changed, or sealed for another key name; seal it again for this one")]
    NotAuthentic,
    /// It is not something that was sealed here.
    #[error("it does not have the form of something sealed; seal it with `secretfs encrypt`")]
    Malformed,
}
