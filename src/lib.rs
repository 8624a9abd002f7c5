//! secretfs: a filesystem of secrets.
//!
//! The layers, lowest first; imports only look down (`tests/layers.rs` holds the code to it).
//!
//! - [`model`], [`document`]: pure types and decisions, no I/O.
//! - [`crypto`], [`store`], [`cluster`], [`identity`], [`audit`], [`telemetry`]: one outside thing each.
//! - [`vault`]: the only place where lists, crypto, store and audit meet.
//! - [`fs`]: tree, nodes, handles; knows no `fuser`.
//! - [`fuse`]: the only importer of `fuser`.
//! - [`daemon`], [`cli`]: start, configuration, commands.

pub mod audit;
pub mod cli;
pub mod cluster;
pub mod crypto;
pub mod daemon;
pub mod document;
pub mod fs;
pub mod fuse;
pub mod identity;
pub mod model;
pub mod store;
pub mod telemetry;
pub mod vault;
