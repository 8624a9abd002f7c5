//! YAML documents: what operators keep in git, drop into the mount and get out of it (contract,
//! sections 4 and 5). Pure: bytes in, documents or all the errors with their lines out, and back.

mod checksum;
mod conflicts;
mod edit;
mod emit;
mod entries;
mod error;
mod field;
mod lists;
mod parse;
mod reader;
mod yaml;

pub use checksum::{Checksum, ChecksumAlgorithm};
pub use edit::{EditError, EditedFile, NewDocument};
pub use emit::{Emission, Layout, emit};
pub use entries::{Entry, EntryError, EntryProblem, parse_dotenv, parse_kubernetes};
pub use error::{DocumentError, DocumentErrors, ErrorKind, Problem};
pub use field::Field;
pub use lists::{MAX_LISTS_BYTES, emit_lists, parse_lists};
pub use parse::{Document, DocumentValue, parse};
pub use yaml::SyntaxError;

/// The largest file of documents, in bytes: 64 MiB.
pub const MAX_FILE_BYTES: usize = 64 << 20;
/// The most secrets in a file.
pub const MAX_DOCUMENTS: usize = 100_000;
/// The most slugs that one list of a document may have.
pub const MAX_LIST_SLUGS: usize = 4_096;
/// After how many errors the reading of a file stops.
pub const MAX_ERRORS: usize = 100;

#[cfg(test)]
mod tests;
