//! The contract, held against a real mount by processes of several users: black-box, one file per
//! operation. Without root and `/dev/fuse` these tests say that they are skipped; under `CI` they fail.

#[path = "../programs/mod.rs"]
mod software;

mod acl;
mod agent;
mod daemon;
mod harness;
mod protocol;
mod requests;
mod user;

mod at_rest;
mod attributes;
mod create;
mod encrypt;
mod export;
mod folders;
mod helper;
mod identities;
mod import;
mod import_dir;
mod keys;
mod lifecycle;
mod programs;
mod promises;
mod reference;
mod rekey;
mod rename;
mod restart;
mod rights;
mod roundtrips;
mod scratch;
mod sidecar;
mod status;
mod stress;
mod units;
mod write;
