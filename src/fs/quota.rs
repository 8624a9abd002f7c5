//! How much of something each UID may have open at once.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::error::FsError;

/// A limit for each UID.
pub(super) struct Quota {
    limit: usize,
    /// The limit and what to do, for whoever reaches it.
    what: &'static str,
    taken: Arc<Mutex<HashMap<u32, usize>>>,
}

/// A place within a quota; free again when this is dropped.
pub(super) struct Place {
    uid: u32,
    taken: Arc<Mutex<HashMap<u32, usize>>>,
}

impl Quota {
    pub(super) fn new(limit: usize, what: &'static str) -> Self {
        Self { limit, what, taken: Arc::default() }
    }

    /// A place for one more.
    ///
    /// # Errors
    /// The UID has them all.
    pub(super) fn take(&self, uid: u32, path: &str) -> Result<Place, FsError> {
        let mut taken = self.taken.lock();
        let count = taken.entry(uid).or_default();
        if *count >= self.limit {
            return Err(FsError::TooMany { path: path.to_owned(), what: self.what });
        }
        *count += 1;
        Ok(Place { uid, taken: Arc::clone(&self.taken) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        if let Some(count) = taken.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_uid_has_its_own_places() {
        let quota = Quota::new(2, "close some");
        let first = quota.take(7, "f").unwrap();
        let _second = quota.take(7, "f").unwrap();
        assert!(matches!(quota.take(7, "f"), Err(FsError::TooMany { .. })));
        let other = quota.take(8, "f").unwrap();
        drop(first);
        let _third = quota.take(7, "f").unwrap();
        drop(other);
        assert_eq!(quota.taken.lock().len(), 1);
    }
}
