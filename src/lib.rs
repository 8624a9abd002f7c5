//! secretfs mounts a filesystem of secrets. Programs read a secret with `open` and `read`; the daemon checks each
//! caller against the lists of the secret and writes the decision to an audit log.
//!
//! This library holds the code of the three programs `secretfs`, `oo` and `mount-secretfs`. Its interface is for
//! them and for the tests, and changes without notice. `README.md` describes the programs, and `ARCHITECTURE.md` the
//! processes, the paths of requests, and where to change what.
//!
//! # Layers
//!
//! Lowest first. Imports point to lower layers only; `tests/layers.rs` checks it.
//!
//! | module | content |
//! | --- | --- |
//! | [`model`], [`document`] | keys, slugs, lists, the access decision, YAML documents; no I/O |
//! | [`crypto`], [`store`], [`cluster`], [`identity`], [`audit`], [`telemetry`] | one external thing each |
//! | [`vault`] | the only place where lists, crypto, store and audit meet |
//! | [`fs`] | the tree that callers see: nodes, handles, operations; does not know `fuser` |
//! | [`fuse`] | the only importer of `fuser`, and the only map to errno |
//! | [`daemon`], [`cli`] | processes, settings, commands |
//!
//! # Where to begin
//!
//! - The access decision: [`model::decide`].
//! - The programs: [`cli::main`].

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
