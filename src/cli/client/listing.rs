//! What is there: keys by walking the directories, and what `list` shows of each.

use std::ffi::CString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;

use crate::model::{Key, SIDECAR_SUFFIX, Timestamp};

use super::{Client, ClientError};

/// How many requests are under way at once: one waits mostly for the daemon to be woken up.
const AT_ONCE: usize = 4;
/// The longest id that the contract allows, in bytes.
const MAX_ID_BYTES: usize = 64;

/// A secret as its attributes show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Entry {
    /// Its key.
    pub(in super::super) key: Key,
    /// Its id.
    pub(in super::super) id: String,
    /// The value's length in bytes.
    pub(in super::super) length: u64,
    /// When the value last changed.
    pub(in super::super) updated: Timestamp,
}

impl Client {
    /// The keys that the caller may see, below a directory or everywhere, in order.
    ///
    /// # Errors
    /// The mount failed.
    pub(in super::super) fn keys(&self, namespace: Option<&str>) -> Result<Vec<Key>, ClientError> {
        let mut keys = Vec::new();
        let start = namespace.unwrap_or("");
        match walk(&self.mount, start, &mut keys) {
            // A namespace that is empty for the caller, or a secret's own name.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(self.refused("list", start)(error)),
            Ok(()) => {}
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// The attributes of secrets, in their order; those that are removed meanwhile are left out.
    ///
    /// # Errors
    /// The mount failed.
    pub(in super::super) fn entries(&self, keys: &[Key]) -> Result<Vec<Entry>, ClientError> {
        self.each(keys, |key| match self.entry(key) {
            Ok(entry) => Ok(Some(entry)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        })
    }

    /// The attributes of one secret.
    ///
    /// # Errors
    /// It is not there, the caller may not see it, or the mount failed.
    pub(in super::super) fn entry(&self, key: &Key) -> Result<Entry, ClientError> {
        let path = self.path(key);
        let entry = fs::symlink_metadata(&path).and_then(|metadata| {
            Ok(Entry {
                key: key.clone(),
                id: read_id(&path)?,
                length: metadata.len(),
                updated: metadata.modified()?.into(),
            })
        });
        entry.map_err(self.refused("look at", key.as_str()))
    }

    /// What `ask` gives for each item, in their order, asked from several threads.
    ///
    /// # Errors
    /// The first error that `ask` gives.
    pub(in super::super) fn each<I: Sync, T: Send>(
        &self,
        items: &[I],
        ask: impl Fn(&I) -> Result<Option<T>, ClientError> + Sync,
    ) -> Result<Vec<T>, ClientError> {
        thread::scope(|scope| {
            let workers: Vec<_> = items
                .chunks(items.len().div_ceil(AT_ONCE).max(1))
                .map(|chunk| {
                    let ask = &ask;
                    scope.spawn(move || {
                        chunk
                            .iter()
                            .filter_map(|item| ask(item).transpose())
                            .collect::<Result<Vec<_>, _>>()
                    })
                })
                .collect();
            let mut all = Vec::with_capacity(items.len());
            for worker in workers {
                all.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(all)
        })
    }
}

/// Adds the keys below `directory`. What cannot be a key (sidecars of `--list-acl`, scratch files) is
/// left out, and so is what is removed while we look.
fn walk(mount: &Path, directory: &str, keys: &mut Vec<Key>) -> io::Result<()> {
    for entry in fs::read_dir(mount.join(directory))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let path =
            if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
        if directory.is_empty() && name.starts_with('.') {
            continue;
        } else if entry.file_type()?.is_dir() {
            match walk(mount, &path, keys) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                walked => walked?,
            }
        } else if !name.ends_with(SIDECAR_SUFFIX) {
            keys.extend(Key::parse(&path));
        }
    }
    Ok(())
}

fn read_id(path: &Path) -> io::Result<String> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut id = [0_u8; MAX_ID_BYTES];
    // SAFETY: both strings end in NUL and live through the call; the kernel writes at most
    // `id.len()` bytes into `id`.
    let length = unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            c"user.secretfs.id".as_ptr(),
            id.as_mut_ptr().cast(),
            id.len(),
        )
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    String::from_utf8(id[..length].to_vec()).map_err(|_| ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_over_what_is_no_secret() {
        let mount = tempfile::tempdir().unwrap();
        for path in [
            "b",
            "a/c",
            "a/d/e",
            "b.acl",
            ".status/whoami",
            "a/.swp",
            "a/.env",
            "a/.f/g",
            "x.acl/y",
        ] {
            let path = mount.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let mut keys = Vec::new();
        walk(mount.path(), "", &mut keys).unwrap();
        keys.sort_unstable();
        assert_eq!(
            keys.iter().map(Key::as_str).collect::<Vec<_>>(),
            ["a/.env", "a/.f/g", "a/c", "a/d/e", "b", "x.acl/y"]
        );
        keys.clear();
        walk(mount.path(), "a", &mut keys).unwrap();
        assert_eq!(keys.len(), 4);
    }

    #[test]
    fn asks_for_each_in_order() {
        let client = Client { mount: "/".into() };
        for count in [0, 1, 3, 4, 5, 100] {
            let keys: Vec<_> =
                (0..count).map(|n| Key::parse(&format!("K{n:03}")).unwrap()).collect();
            let asked = client.each(&keys, |key| Ok(Some(key.clone()))).unwrap();
            assert_eq!(asked, keys);
        }
    }
}
