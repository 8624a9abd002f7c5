//! The contract, held against a real mount by processes of several users: black-box, one file per
//! operation. Without root and `/dev/fuse` these tests say that they are skipped; under `CI` they fail.

#[path = "../programs/mod.rs"]
mod software;

mod acl;
mod agent;
mod audit;
mod audit_binding;
mod audit_load;
mod audit_repeats;
mod audit_start;
mod daemon;
mod damage;
mod filter;
mod harness;
mod protocol;
mod requests;
mod tmpfs;
mod user;

mod append;
mod at_rest;
mod attributes;
mod backup;
mod bind;
mod create;
mod disclosure;
mod dot_names;
mod encrypt;
#[cfg(feature = "etcd")]
mod etcd;
mod export;
mod failures;
mod fanotify;
mod fatal;
mod fdstore;
mod folders;
mod foreign_nodes;
mod fsck;
mod giving_up;
mod guide;
mod helper;
mod hostile;
mod identities;
mod import;
mod import_dir;
mod import_replaced;
mod inotify;
mod keys;
mod leaks;
mod lifecycle;
mod locked;
mod locks;
mod locks_of_readers;
mod logging;
mod memory;
mod memory_quota;
mod names;
mod ordinary_user;
mod programs;
mod promises;
mod quota;
mod reference;
mod rekey;
mod rename;
mod rename_directory;
mod restart;
mod restore;
mod rights;
mod roundtrips;
mod sandbox;
mod scratch;
mod shortage;
mod sidecar;
mod space;
mod status;
mod stress;
mod unchanged;
mod units;
mod upgrade;
mod vitals;
mod watch;
mod watchdog;
#[cfg(not(feature = "etcd"))]
mod without_etcd;
mod write;
