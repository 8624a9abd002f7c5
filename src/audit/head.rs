//! The head: how far the log goes, sealed with the chain's key, in a file beside the directory.
//!
//! It is written after every group of lines, in place. It lies within one sector and one page, so
//! neither a kill nor a power loss tears it; and where it tells of lines that a power loss took
//! ([`Head::synced`], [`Head::boot`]), the daemon can tell that from a log that was cut off.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::chain::{ChainKey, Format, Hash, KeyName};
use super::files;

const BODY: usize = 8 + 16 + 4 * 8 + 32 + 16;
const BYTES: usize = BODY + 32;

/// How far the log goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// The oldest file that is kept.
    pub(super) first: u64,
    /// The newest file.
    pub(super) file: u64,
    /// The newest line.
    pub(super) seq: u64,
    /// Its hash.
    pub(super) hash: Hash,
    /// The newest line that is known to be on the disk.
    pub(super) synced: u64,
    /// The boot of the machine in which this was written: what was not yet on the disk may be gone
    /// in the next one.
    pub(super) boot: Boot,
    /// Whether it is bound to a store.
    pub(super) format: Format,
}

/// Why there is no head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    Missing,
    Damaged,
    /// It was sealed under the key of this id.
    UnknownKey(String),
}

/// One boot of the machine: `/proc/sys/kernel/random/boot_id` (random(4)).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Boot([u8; 16]);

impl Boot {
    /// This one. Where the kernel does not tell, one that equals no other: then a loss may always
    /// be that of a power failure.
    pub(super) fn current() -> Self {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(32).collect();
        match u128::from_str_radix(&digits, 16) {
            Ok(number) => Self(number.to_be_bytes()),
            Err(_) => {
                let mut random = [0; 16];
                getrandom::fill(&mut random)
                    .expect("the kernel's random source answers once it is seeded");
                Self(random)
            }
        }
    }
}

impl Head {
    fn body(&self, key: &KeyName) -> [u8; BODY] {
        let mut body = [0; BODY];
        let numbers = [self.first, self.file, self.seq, self.synced].map(u64::to_be_bytes);
        let parts = [
            &self.format.head_start()[..],
            key,
            numbers.as_flattened(),
            self.hash.as_bytes(),
            &self.boot.0,
        ];
        let mut rest = &mut body[..];
        for part in parts {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        }
        body
    }

    fn parse(bytes: &[u8; BYTES], keys: &[ChainKey]) -> Result<Self, NoHead> {
        let (body, seal) = bytes.split_at(BODY);
        let (format, hashed) = [Format::Unbound, Format::Bound]
            .into_iter()
            .find_map(|format| Some((format, body.strip_prefix(format.head_start())?)))
            .ok_or(NoHead::Damaged)?;
        let (name, rest) = hashed.split_first_chunk::<16>().ok_or(NoHead::Damaged)?;
        let key = keys
            .iter()
            .find(|key| key.name() == name)
            .ok_or_else(|| NoHead::UnknownKey(String::from_utf8_lossy(name).into_owned()))?;
        if key.of_head(format, hashed).as_bytes() != seal {
            return Err(NoHead::Damaged);
        }
        let (numbers, rest) = rest.split_first_chunk::<32>().ok_or(NoHead::Damaged)?;
        let number = |index: usize| {
            u64::from_be_bytes(numbers.as_chunks().0.get(index).copied().unwrap_or_default())
        };
        let (hash, rest) = rest.split_first_chunk::<32>().ok_or(NoHead::Damaged)?;
        Ok(Self {
            first: number(0),
            file: number(1),
            seq: number(2),
            synced: number(3),
            hash: Hash::from_bytes(*hash),
            boot: Boot(rest.try_into().map_err(|_| NoHead::Damaged)?),
            format,
        })
    }
}

/// The file of the head, open for writing.
pub(super) struct HeadFile(File);

impl HeadFile {
    /// Opens or makes it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        // Its name must not be lost in a power failure: without a head the log's end is in doubt.
        if file.metadata()?.len() == 0 {
            path.parent().map_or(Ok(()), files::sync_directory)?;
        }
        Ok(Self(file))
    }

    pub(super) fn write(&self, key: &ChainKey, head: &Head) -> io::Result<()> {
        let mut bytes = [0; BYTES];
        let body = head.body(key.name());
        bytes[..BODY].copy_from_slice(&body);
        bytes[BODY..].copy_from_slice(key.of_head(head.format, &body[8..]).as_bytes());
        self.0.write_all_at(&bytes, 0)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// How often a head that does not unseal is read again: it may be just being written.
const ATTEMPTS: usize = 20;

/// Gives one byte more than a head has, if there are more.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    files::open_beside(path)?.take(BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the head.
///
/// # Errors
/// The file cannot be read, for another reason than that it is not there.
pub(super) fn read(path: &Path, keys: &[ChainKey]) -> io::Result<Result<Head, NoHead>> {
    let mut outcome = Err(NoHead::Damaged);
    for _ in 0..ATTEMPTS {
        outcome = match read_bytes(path) {
            Ok(bytes) => match <&[u8; BYTES]>::try_from(&bytes[..]) {
                Ok(bytes) => Head::parse(bytes, keys),
                Err(_) => Err(NoHead::Damaged),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Err(NoHead::Missing));
            }
            Err(error) => return Err(error),
        };
        if outcome != Err(NoHead::Damaged) {
            break;
        }
    }
    Ok(outcome)
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "file {} line {}", self.file, self.seq)
    }
}

#[cfg(test)]
impl Boot {
    /// Not this one.
    pub(super) fn other() -> Self {
        Self([0; 16])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_can_make_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.head");
        let store = [5; 16];
        let keys = [ChainKey::new("aa", &[1; 32], &store), ChainKey::new("bb", &[2; 32], &store)];
        assert_eq!(read(&path, &keys).unwrap(), Err(NoHead::Missing));
        let hash = Hash::from_bytes([9; 32]);
        let (boot, format) = (Boot::current(), Format::Bound);
        let head = Head { first: 1, file: 3, seq: 77, hash, synced: 70, boot, format };
        HeadFile::open(&path).unwrap().write(&keys[1], &head).unwrap();
        assert_eq!(read(&path, &keys).unwrap(), Ok(head));
        let other = [ChainKey::new("bb", &[2; 32], &[6; 16])];
        assert_eq!(read(&path, &other).unwrap(), Err(NoHead::Damaged), "another store's");
        let unknown = read(&path, &keys[..1]).unwrap();
        assert_eq!(unknown, Err(NoHead::UnknownKey("bb00000000000000".to_owned())));
        let good = std::fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bad).unwrap();
            assert!(read(&path, &keys).unwrap().is_err(), "bit {bit}");
        }
        std::fs::write(&path, &good[1..]).unwrap();
        assert_eq!(read(&path, &keys).unwrap(), Err(NoHead::Damaged));
    }
}
