//! What a sequence is made of.

use super::super::input::Input;

/// Names that get into each other's way.
pub(super) const PATHS: [&str; 28] = [
    "alice/a",
    "alice/b",
    "alice/d/a",
    "alice/d/e/a",
    "alice/d",
    "alice/d/e",
    "alice/a.acl",
    "alice/b.acl",
    "alice/d.acl",
    "alice/d/a.acl",
    "alice/.t~",
    "alice/.env",
    "alice/d/.t~",
    "bob/a",
    "bob/.t~",
    "bob/a.acl",
    "bob",
    "alice",
    "a",
    "a.acl",
    "a/b",
    "d",
    "d/a",
    "alice/a/x",
    "alice/a.acl/x",
    "alice/bad\u{1}",
    ".t~",
    "alice/a.acl.acl",
];

pub(super) const LISTS: [&str; 10] = [
    "readers: [alice]\n",
    "readers: [bob, devops-team]\nwriters: [bob]\n",
    "writers: [alice, bob]\n",
    "deleters: [bob]\nreaders: []\n",
    "canChangeReaders: [bob]\n",
    "readers: [\"uid:4242\"]\nwriters: [\"uid:4242\"]\n",
    "readers: []\nwriters: []\ndeleters: []\n",
    "readers: alice\n",
    "nonsense",
    "readers: [alice]\nunknown: []\n",
];

/// Mostly small, sometimes around the limit, sometimes absurd.
pub(super) fn size(input: &mut Input<'_>) -> u64 {
    const LIMIT: u64 = 1 << 20;
    match input.byte() {
        small @ 0..=229 => u64::from(small) % 20,
        page @ 230..=239 => u64::from(page - 230) * 4000,
        near @ 240..=251 => LIMIT + u64::from(near) - 246,
        252 => u64::MAX,
        253 => u64::MAX / 2,
        _ => 40_000,
    }
}
