//! How much the secrets of one namespace may take in the store.
//!
//! A secret counts against the first component of its key, whoever wrote it: only that slug and admins
//! can create it. Keys without a `/` count against no namespace, because only admins create them. The
//! index keeps the sum of each namespace. The writer thread compares it with the limits after a request is
//! planned and before anything of it is stored, together with what the rest of its group adds. So two
//! writers cannot both take the last place, and no operation can forget the check.

use std::borrow::Borrow;

use foldhash::{HashMap, HashMapExt};

use crate::model::{Acl, Caller, Key, ListName};

use super::Shared;
use super::error::VaultError;
use super::records::chunk_count;
use super::records::secret::{Secret, Value};
use super::writer::transaction::Change;

/// What a record of a value takes beside its bytes: address, seal, and what the store adds.
const CHUNK_OVERHEAD: i64 = 64;
/// The same for the record of a secret, with the numbers and times in it, its cached reply and its mark.
const SECRET_OVERHEAD: i64 = 256;
/// What an entry of a list takes beside its text: it is kept in memory as well.
const LIST_ENTRY_OVERHEAD: i64 = 64;

/// What the secrets below one first component may take together. Admins may go beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Their number.
    pub secrets: u64,
    /// Their bytes in the store: values, names, lists, and what storing them adds.
    pub bytes: u64,
}

impl Limits {
    /// No limits.
    pub const NONE: Self = Self { secrets: u64::MAX, bytes: u64::MAX };
}

impl Default for Limits {
    fn default() -> Self {
        Self { secrets: 10_000, bytes: 64 << 20 }
    }
}

/// What secrets take, or by how much that changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    secrets: i64,
    bytes: i64,
    /// Bytes of values that are superseded by this and may still be open.
    superseded: i64,
}

/// Usages by namespace; a namespace without any is not in it.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Usages(HashMap<Box<str>, Usage>);

impl Usages {
    pub(super) fn add(&mut self, secret: &Secret) {
        self.change(secret.key(), Usage { secrets: 1, bytes: bytes_of(secret), superseded: 0 });
    }

    pub(super) fn remove(&mut self, secret: &Secret) {
        self.change(secret.key(), Usage { secrets: -1, bytes: -bytes_of(secret), superseded: 0 });
    }

    /// By how much these changes change the usages.
    pub(super) fn of_changes(changes: impl Iterator<Item = impl Borrow<Change>>) -> Self {
        let mut usages = Self(HashMap::new());
        for change in changes {
            let change = change.borrow();
            if let Some(after) = &change.after {
                usages.add(after);
            }
            if let Some(before) = &change.before {
                usages.remove(before);
                if change.supersedes() {
                    let superseded = stored_bytes(before.value());
                    usages.change(before.key(), Usage { superseded, ..Usage::default() });
                }
            }
        }
        usages
    }

    /// Adds those of another request.
    pub(super) fn extend(&mut self, others: Self) {
        for (namespace, by) in others.0 {
            self.change_in(&namespace, by);
        }
    }

    fn of(&self, namespace: &str) -> Usage {
        self.0.get(namespace).copied().unwrap_or_default()
    }

    fn change(&mut self, key: &Key, by: Usage) {
        if let Some(namespace) = namespace_of(key) {
            self.change_in(namespace, by);
        }
    }

    fn change_in(&mut self, namespace: &str, by: Usage) {
        let Some(usage) = self.0.get_mut(namespace) else {
            self.0.insert(namespace.into(), by);
            return;
        };
        usage.secrets += by.secrets;
        usage.bytes += by.bytes;
        usage.superseded += by.superseded;
        if *usage == Usage::default() {
            self.0.remove(namespace);
        }
    }
}

impl Shared {
    /// Refuses changes of a caller who is not an admin if they let a namespace grow beyond a limit, or if superseded
    /// values that are still open would exceed its limit of bytes. `group` is what is about to be stored together
    /// with them.
    ///
    /// # Errors
    /// [`VaultError::TooManySecrets`] or [`VaultError::TooManyBytes`].
    pub(super) fn check_limits(
        &self,
        caller: &Caller,
        changes: &Usages,
        group: &Usages,
    ) -> Result<(), VaultError> {
        if caller.is_admin() {
            return Ok(());
        }
        for (namespace, by) in &changes.0 {
            let is = self.index.read().usages().of(namespace);
            let beside = group.of(namespace);
            let limits = self.limits;
            let beyond = |sum: i64, limit: u64| u64::try_from(sum).is_ok_and(|sum| sum > limit);
            if by.secrets > 0 && beyond(is.secrets + beside.secrets + by.secrets, limits.secrets) {
                let namespace = namespace.to_string();
                return Err(VaultError::TooManySecrets { namespace, limit: limits.secrets });
            }
            let grows = by.bytes > 0;
            let too_large = grows && beyond(is.bytes + beside.bytes + by.bytes, limits.bytes);
            // Removing always works: what it leaves open is bounded by what was there.
            let replaces = by.superseded > 0 && by.secrets >= 0;
            let too_much_open = (grows || replaces) && {
                let open = self.garbage.held_bytes(namespace);
                beyond(open + beside.superseded + by.superseded, limits.bytes)
            };
            if too_large || too_much_open {
                let namespace = namespace.to_string();
                return Err(VaultError::TooManyBytes {
                    namespace,
                    limit: limits.bytes,
                    is_open: !too_large,
                });
            }
        }
        Ok(())
    }
}

/// The first component of a key that has others.
pub(super) fn namespace_of(key: &Key) -> Option<&str> {
    key.as_str().split_once('/').map(|(first, _)| first)
}

/// What a value takes in the store.
pub(super) fn stored_bytes(value: &Value) -> i64 {
    i64::from(value.size()) + CHUNK_OVERHEAD * i64::from(chunk_count(value.size() as usize))
}

fn bytes_of(secret: &Secret) -> i64 {
    let names = secret.key().as_str().len() + secret.id().as_str().len();
    stored_bytes(secret.value()) + SECRET_OVERHEAD + names as i64 + list_bytes(secret.acl())
}

fn list_bytes(acl: &Acl) -> i64 {
    let slugs = ListName::ALL.into_iter().flat_map(|name| acl.list(name).iter());
    slugs.map(|slug| slug.as_str().len() as i64 + LIST_ENTRY_OVERHEAD).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};

    use crate::audit::{Actor, Process};
    use crate::crypto::{Keyring, MasterKey};
    use crate::document::parse;
    use crate::model::{Plaintext, Slug};
    use crate::store::MemoryStore;
    use crate::vault::{Opening, RenameSource, RenameTarget, Vault, WriteTarget};

    use super::*;

    fn open(store: &Arc<MemoryStore>, secrets: u64, bytes: u64) -> Vault {
        let master = MasterKey::parse(&"07".repeat(32)).unwrap();
        let opening = Opening::new(Arc::<MemoryStore>::clone(store), Keyring::new(master, vec![]));
        Opening { limits: Limits { secrets, bytes }, ..opening }.open().unwrap()
    }

    fn actor(slug: Option<&str>) -> Actor {
        let own = slug.map(|slug| Slug::parse(slug).unwrap());
        let caller = Caller::new(7, own.clone(), own, slug.is_none());
        Actor { caller: Arc::new(caller), process: Process::default() }
    }

    type Answer = Receiver<Result<(), VaultError>>;

    fn begin(vault: &Vault, who: &Actor, key: &str, size: usize) -> Answer {
        let (answer, answered) = channel();
        let key = Key::parse(key).unwrap();
        let target = WriteTarget::New { key, exclusive: false, inherited_lists: None };
        let done = Box::new(move |outcome: Result<_, _>| answer.send(outcome.map(drop)).unwrap());
        vault.write(who.clone(), target, Plaintext::copy_of(&vec![b'x'; size]), None, done);
        answered
    }

    fn write(vault: &Vault, who: &Actor, key: &str, size: usize) -> Result<(), VaultError> {
        begin(vault, who, key, size).recv().unwrap()
    }

    fn remove(vault: &Vault, who: &Actor, key: &str) -> Result<(), VaultError> {
        let (answer, answered) = channel();
        let done = Box::new(move |outcome: Result<_, _>| answer.send(outcome.map(drop)).unwrap());
        vault.remove(who.clone(), key.to_owned(), None, done);
        answered.recv().unwrap()
    }

    fn rename(vault: &Vault, who: &Actor, from: &str, to: &str) -> Result<(), VaultError> {
        let (answer, answered) = channel();
        let done = Box::new(move |outcome: Result<_, _>| answer.send(outcome.map(drop)).unwrap());
        let source = RenameSource::Secret(Key::parse(from).unwrap());
        let key = Key::parse(to).unwrap();
        let target = RenameTarget::Key { key, exclusive: false, inherited_lists: None };
        vault.rename(who.clone(), source, target, None, done);
        answered.recv().unwrap()
    }

    fn is_full(outcome: &Result<(), VaultError>) -> bool {
        matches!(outcome, Err(VaultError::TooManySecrets { .. } | VaultError::TooManyBytes { .. }))
    }

    #[test]
    fn many_writers_at_once_do_not_get_past_the_limit() {
        let store = Arc::new(MemoryStore::new());
        let vault = open(&store, 5, u64::MAX);
        let alice = actor(Some("alice"));
        let answers: Vec<_> =
            (0..50).map(|n| begin(&vault, &alice, &format!("alice/{n}"), 1)).collect();
        let outcomes: Vec<_> = answers.iter().map(|one| one.recv().unwrap()).collect();
        assert_eq!(outcomes.iter().filter(|one| one.is_ok()).count(), 5);
        assert!(outcomes.iter().filter(|one| one.is_err()).all(is_full));
        assert_eq!(vault.len(), 5);
        drop(vault);
        // The sums are the same after a start.
        let vault = open(&store, 5, u64::MAX);
        assert!(is_full(&write(&vault, &alice, "alice/more", 1)));
        assert!(write(&vault, &actor(None), "alice/of-an-admin", 1).is_ok());
        let bob = actor(Some("bob"));
        assert!(write(&vault, &bob, "bob/K", 1).is_ok(), "nobody else is affected");
    }

    #[test]
    fn what_does_not_grow_is_allowed_and_removing_makes_room() {
        let store = Arc::new(MemoryStore::new());
        let alice = actor(Some("alice"));
        let vault = open(&store, 100, 20_000);
        write(&vault, &alice, "alice/A", 9000).unwrap();
        write(&vault, &alice, "alice/B", 9000).unwrap();
        assert!(is_full(&write(&vault, &alice, "alice/C", 2000)));
        assert!(is_full(&write(&vault, &alice, "alice/A", 11_000)));
        drop(vault);
        // A limit that was lowered takes nothing away.
        let vault = open(&store, 1, 10_000);
        write(&vault, &alice, "alice/A", 9000).unwrap();
        write(&vault, &alice, "alice/A", 8999).unwrap();
        assert!(is_full(&write(&vault, &alice, "alice/A", 9000)));
        rename(&vault, &alice, "alice/A", "alice/D").unwrap();
        remove(&vault, &alice, "alice/D").unwrap();
        remove(&vault, &alice, "alice/B").unwrap();
        write(&vault, &alice, "alice/E", 9000).unwrap();
    }

    #[test]
    fn a_file_is_counted_as_a_whole_and_lists_count() {
        let store = Arc::new(MemoryStore::new());
        let vault = open(&store, 200, 400_000);
        let alice = actor(Some("alice"));
        let file = |from: usize, to: usize, more: &str| {
            let one = |n| format!("- key: alice/{n}\n  value: v\n{more}");
            let text: String = (from..to).map(one).collect();
            parse(text.as_bytes()).unwrap()
        };
        // More than fit one batch, and fewer.
        for count in [201, 100] {
            if count == 100 {
                vault.apply(&alice, file(0, 101, "")).map_err(drop).unwrap();
            }
            let outcome = vault.apply(&alice, file(500, 500 + count, "")).map(drop);
            assert!(is_full(&outcome), "{count}");
            assert_eq!(vault.len(), if count == 100 { 101 } else { 0 });
        }
        let readers: Vec<_> = (0..100).map(|n| format!("reader-{n}")).collect();
        let lists = format!("  readers: [{}]\n", readers.join(", "));
        assert!(is_full(&vault.apply(&alice, file(0, 100, &lists)).map(drop)));
        assert!(vault.apply(&actor(None), file(0, 100, &lists)).is_ok());
    }

    #[test]
    fn replaced_values_that_stay_open_count_too() {
        let store = Arc::new(MemoryStore::new());
        let vault = open(&store, 10, 10_000);
        let alice = actor(Some("alice"));
        let mut open = Vec::new();
        let full = (0..100).find(|n| match write(&vault, &alice, "alice/K", 1000 - n % 2) {
            Ok(()) => {
                open.push(Arc::clone(vault.secret("alice/K").unwrap().value()));
                false
            }
            Err(error) => {
                assert!(error.to_string().contains("end the processes"), "{error}");
                true
            }
        });
        assert_eq!(full, Some(10));
        assert!(is_full(&write(&vault, &alice, "alice/K", 1)), "not even a shorter one");
        open.clear();
        write(&vault, &alice, "alice/K", 1000).unwrap();
        let kept = Arc::clone(vault.secret("alice/K").unwrap().value());
        remove(&vault, &alice, "alice/K").unwrap();
        drop(kept);
    }
}
