//! Conflicts between the documents of one file.

use super::Problem;
use super::reader::{Halt, Reader};
use crate::model::{Key, SecretId};

/// Where a key or an id stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) document: usize,
}

/// Reports keys and ids that stand twice, and secrets that are directories of others.
pub(super) fn report(
    reader: &mut Reader<'_>,
    mut keys: Vec<(Key, Place)>,
    mut ids: Vec<(SecretId, Place)>,
) -> Result<(), Halt> {
    ids.sort_by(|(a, at), (b, bt)| a.cmp(b).then(at.line.cmp(&bt.line)));
    for pair in ids.windows(2) {
        let [(id, first), (other, second)] = pair else { continue };
        if id == other {
            let problem = Problem::DuplicateId { id: id.clone(), first: first.line };
            reader.report_of(second.document, second.line, problem)?;
        }
    }
    // With `/` before every other character, what is below a key follows it at once.
    keys.sort_by(|(a, at), (b, bt)| path(a).cmp(path(b)).then(at.line.cmp(&bt.line)));
    let mut above: Vec<&(Key, Place)> = Vec::new();
    for entry in &keys {
        let (key, place) = entry;
        while above
            .last()
            .is_some_and(|(directory, _)| directory != key && !is_below(key, directory))
        {
            above.pop();
        }
        if let Some((secret, first)) = above.last() {
            let later = if first.line > place.line { first } else { place };
            let problem = if secret == key {
                Problem::DuplicateKey { key: key.clone(), first: first.line }
            } else {
                Problem::SecretIsDirectory {
                    secret: secret.clone(),
                    secret_line: first.line,
                    below: key.clone(),
                    below_line: place.line,
                }
            };
            reader.report_of(later.document, later.line, problem)?;
        }
        if above.last().is_none_or(|(directory, _)| directory != key) {
            above.push(entry);
        }
    }
    Ok(())
}

/// The bytes of a key with 0, which no key holds, in the place of `/`.
fn path(key: &Key) -> impl Iterator<Item = u8> {
    key.as_str().bytes().map(|byte| if byte == b'/' { 0 } else { byte })
}

fn is_below(key: &Key, directory: &Key) -> bool {
    key.as_str().strip_prefix(directory.as_str()).is_some_and(|rest| rest.starts_with('/'))
}
