//! How much memory of the server each caller may hold, and all callers together.
//!
//! Whatever a caller can make the server keep has a [`Charge`], which is made before the memory is
//! allocated and given back when it is dropped with what it stands for.
//!
//! The total is shared so that a few callers that take all they can get leave something to all others: an
//! account that holds much is refused earlier than one that holds little ([`TIERS`]).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::Caller;

use super::error::FsError;

/// The limits of memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// For one user; users without a name share one such limit.
    pub per_user: usize,
    /// For all users together.
    pub total: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self { per_user: 128 << 20, total: 384 << 20 }
    }
}

/// How much of the total may be in use (in eighths) after a charge to an account that holds more than
/// so many bytes afterwards. An account within the last of these sizes may use the whole total.
const TIERS: [(usize, usize); 2] = [(6, 4 << 20), (7, 256 << 10)];

/// What the parts of an object take that have no buffer of their own: itself, its entries in tables,
/// the administration of its allocations.
pub(super) const OBJECT_BYTES: usize = 1024;
/// The same of an open file, whatever it is open on.
pub(super) const HANDLE_BYTES: usize = 256;

/// The account to which memory is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Account {
    /// A user with a name.
    User(u32),
    /// All UIDs that have no slug but `uid:N`. They share one account, since a user with subordinate UIDs has
    /// thousands of them.
    Nameless,
}

impl Account {
    pub(super) fn of(caller: &Caller) -> Self {
        if caller.is_named() { Self::User(caller.uid()) } else { Self::Nameless }
    }
}

/// The memory that all accounts hold. Its lock is a leaf.
#[derive(Clone)]
pub(super) struct Budget(Arc<Shared>);

struct Shared {
    limits: MemoryLimits,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    all: usize,
    by_account: HashMap<Account, usize>,
}

/// Why more was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shortage {
    OfUser,
    OfAll,
}

/// Memory that is held on behalf of an account; given back when this is dropped.
#[must_use]
pub(super) struct Charge {
    budget: Budget,
    account: Account,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(limits: MemoryLimits) -> Self {
        Self(Arc::new(Shared { limits, used: Mutex::default() }))
    }

    /// Charges an account with so many bytes; `path` is what they are for.
    ///
    /// # Errors
    /// [`FsError::OutOfMemory`].
    pub(super) fn charge(
        &self,
        account: Account,
        bytes: usize,
        path: &str,
    ) -> Result<Charge, FsError> {
        let mut charge = self.nothing(account);
        charge.resize(bytes, path)?;
        Ok(charge)
    }

    /// A charge of nothing, to be resized.
    pub(super) fn nothing(&self, account: Account) -> Charge {
        Charge { budget: self.clone(), account, bytes: 0 }
    }

    /// Charges what was held already when another process served the mount. It is never refused: a restart
    /// must not lose data of any caller.
    pub(super) fn restore(&self, account: Account, bytes: usize) -> Charge {
        self.0.used.lock().add(account, bytes);
        Charge { budget: self.clone(), account, bytes }
    }

    /// How many bytes all accounts hold.
    pub(super) fn used(&self) -> usize {
        self.0.used.lock().all
    }
}

impl Shared {
    fn check(&self, used: &Used, account: Account, more: usize) -> Result<(), Shortage> {
        let own = used.of(account).saturating_add(more);
        let all = used.all.saturating_add(more);
        if own > self.limits.per_user {
            return Err(Shortage::OfUser);
        }
        let most = TIERS
            .iter()
            .find(|(_, size)| own > *size)
            .map_or(self.limits.total, |(eighths, _)| self.limits.total / 8 * eighths);
        if all > most { Err(Shortage::OfAll) } else { Ok(()) }
    }
}

impl Used {
    fn of(&self, account: Account) -> usize {
        self.by_account.get(&account).copied().unwrap_or(0)
    }

    fn add(&mut self, account: Account, bytes: usize) {
        if bytes > 0 {
            self.all += bytes;
            *self.by_account.entry(account).or_default() += bytes;
        }
    }

    fn subtract(&mut self, account: Account, bytes: usize) {
        self.all -= bytes;
        if let Some(own) = self.by_account.get_mut(&account) {
            *own -= bytes;
            if *own == 0 {
                self.by_account.remove(&account);
            }
        }
    }
}

impl Charge {
    /// Makes it a charge of so many bytes. Less is never refused.
    ///
    /// # Errors
    /// [`FsError::OutOfMemory`]; the charge is what it was.
    pub(super) fn resize(&mut self, bytes: usize, path: &str) -> Result<(), FsError> {
        let Shared { limits, used } = &*self.budget.0;
        let mut used = used.lock();
        match bytes.checked_sub(self.bytes) {
            Some(more) => {
                self.budget.0.check(&used, self.account, more).map_err(|shortage| {
                    let path = path.to_owned();
                    match shortage {
                        Shortage::OfUser => {
                            FsError::OutOfMemory { path, limit: limits.per_user >> 20, own: true }
                        }
                        Shortage::OfAll => {
                            FsError::OutOfMemory { path, limit: limits.total >> 20, own: false }
                        }
                    }
                })?;
                used.add(self.account, more);
            }
            None => used.subtract(self.account, self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Makes it a charge of at most so many bytes.
    pub(super) fn shrink(&mut self, bytes: usize) {
        if let Some(less) = self.bytes.checked_sub(bytes) {
            self.budget.0.used.lock().subtract(self.account, less);
            self.bytes = bytes;
        }
    }

    /// How many bytes are charged.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn account(&self) -> Account {
        self.account
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

/// The memory that a buffer of that length takes: [`crate::model::Plaintext`] doubles.
pub(super) fn buffer_bytes(length: usize) -> usize {
    if length == 0 { 0 } else { length.next_power_of_two() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Slug;

    const LIMITS: MemoryLimits = MemoryLimits { per_user: 128 << 20, total: 384 << 20 };

    #[test]
    fn a_user_has_a_limit_and_gets_back_what_is_dropped() {
        let budget = Budget::new(LIMITS);
        let (alice, bob) = (Account::User(7), Account::User(8));
        let mut first = budget.charge(alice, 100 << 20, "f").unwrap();
        let refused = budget.charge(alice, 29 << 20, "f").err().unwrap();
        assert!(matches!(refused, FsError::OutOfMemory { own: true, limit: 128, .. }));
        let _second = budget.charge(alice, 28 << 20, "f").unwrap();
        let _other = budget.charge(bob, 128 << 20, "f").unwrap();
        assert!(first.resize(101 << 20, "f").is_err());
        assert_eq!(first.bytes(), 100 << 20, "what was refused changed nothing");
        first.resize(1, "f").unwrap();
        first.resize(100 << 20, "f").unwrap();
        drop(first);
        assert_eq!(budget.used(), (128 + 28) << 20);
    }

    #[test]
    fn uids_without_a_name_share_one_account() {
        let caller = |uid, own: Option<&str>, more: &[&str]| {
            let slug = |text: &str| Slug::parse(text).unwrap();
            Account::of(&Caller::new(uid, own.map(slug), more.iter().copied().map(slug), false))
        };
        assert_eq!(caller(7, Some("alice"), &[]), Account::User(7));
        assert_eq!(caller(8, None, &["team"]), Account::User(8));
        assert_eq!(caller(100_000, None, &[]), Account::Nameless);
        assert_eq!(caller(100_001, None, &[]), Account::Nameless);
    }

    #[test]
    fn what_is_restored_is_charged_and_never_refused() {
        let budget = Budget::new(LIMITS);
        let restored: Vec<_> =
            (0..4).map(|uid| budget.restore(Account::User(uid), 128 << 20)).collect();
        assert_eq!(budget.used(), 512 << 20);
        assert!(budget.charge(Account::User(9), 1, "f").is_err());
        drop(restored);
        assert!(budget.charge(Account::User(9), 1, "f").is_ok());
    }

    #[test]
    fn greedy_users_leave_a_small_file_to_everybody_else() {
        for greedy in 1..=12 {
            let budget = Budget::new(LIMITS);
            let mut held = Vec::new();
            for user in 0..greedy {
                for step in [64 << 20, 1 << 20, 64 << 10, 1 << 10] {
                    while let Ok(charge) = budget.charge(Account::User(user), step, "f") {
                        held.push(charge);
                    }
                }
            }
            let small = budget.charge(Account::User(1000), 4 << 20, "f");
            assert!(small.is_ok(), "{greedy} users left no room for 4 MiB");
        }
    }

    #[test]
    fn even_a_hundred_greedy_users_leave_room_to_open_files() {
        let budget = Budget::new(LIMITS);
        let mut held = Vec::new();
        for user in 0..100 {
            for step in [64 << 20, 1 << 20, 64 << 10, 1 << 10] {
                while let Ok(charge) = budget.charge(Account::User(user), step, "f") {
                    held.push(charge);
                }
            }
        }
        assert!(budget.charge(Account::User(1000), 256 << 10, "f").is_ok());
    }

    proptest! {
        /// Whatever is charged, resized and dropped in whatever order: no limit is exceeded, the sums
        /// are right, and a user who holds nothing gets a small file as long as few hold much.
        #[test]
        fn no_order_of_charges_exceeds_a_limit(
            steps in prop::collection::vec((0u32..12, 0usize..(40 << 20), any::<u8>()), 1..200),
        ) {
            let budget = Budget::new(LIMITS);
            let mut held: Vec<Charge> = Vec::new();
            for (user, bytes, what) in steps {
                let at = usize::from(what) % held.len().max(1);
                match what % 5 {
                    0 if !held.is_empty() => drop(held.swap_remove(at)),
                    1 if !held.is_empty() => {
                        let before = held[at].bytes();
                        let outcome = held[at].resize(bytes, "f");
                        prop_assert_eq!(held[at].bytes(), outcome.map_or(before, |()| bytes));
                    }
                    _ => held.extend(budget.charge(Account::User(user), bytes, "f")),
                }
                let all: usize = held.iter().map(Charge::bytes).sum();
                prop_assert_eq!(budget.used(), all);
                prop_assert!(all <= LIMITS.total);
                for user in 0..12 {
                    let own = held.iter().filter(|one| one.account() == Account::User(user));
                    prop_assert!(own.map(Charge::bytes).sum::<usize>() <= LIMITS.per_user);
                }
                prop_assert!(budget.charge(Account::User(1000), 4 << 20, "f").is_ok());
            }
            drop(held);
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
