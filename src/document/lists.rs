//! Sidecars: the six lists of a secret as a text of their own.

use super::reader::{Halt, Lines, Reader, is_nothing};
use super::yaml::Content;
use super::{DocumentErrors, Field, Problem};
use crate::model::{Acl, AclPatch};

/// The largest sidecar that is read, in bytes: 1 MiB.
pub const MAX_LISTS_BYTES: usize = 1 << 20;

/// Reads a sidecar: one mapping of list names to lists.
///
/// # Errors
/// Everything that is wrong. A sidecar that names no list is wrong.
pub fn parse_lists(bytes: &[u8]) -> Result<AclPatch, DocumentErrors> {
    if bytes.len() > MAX_LISTS_BYTES {
        return Err(DocumentErrors::whole_text(Problem::ListsTooLarge));
    }
    let mut reader = Reader::new(bytes)?;
    let mut lists = AclPatch::default();
    // A halt is among the errors.
    let _ = read(&mut reader, &mut lists);
    reader.finish().map(|()| lists)
}

/// Writes a sidecar: all six lists in the order of the contract. The same lists give the same text.
pub fn emit_lists(lists: &Acl) -> String {
    let mut text = String::new();
    for (name, list) in lists.iter() {
        text.push_str(name.as_str());
        if list.is_empty() {
            text.push_str(": []\n");
            continue;
        }
        text.push_str(":\n");
        for slug in list {
            let quote = if is_unambiguous(slug.as_str()) { "" } else { "\"" };
            for part in ["- ", quote, slug.as_str(), quote, "\n"] {
                text.push_str(part);
            }
        }
    }
    text
}

fn read(reader: &mut Reader<'_>, lists: &mut AclPatch) -> Result<(), Halt> {
    let Some(root) = reader.next_document()? else { return reader.report(1, Problem::NoList) };
    let line = root.line;
    match root.content {
        Content::Mapping(mut mapping) if root.tag.is_none() => {
            let mut lines = Lines::default();
            let mut fields = 0;
            while let Some((field, node)) =
                reader.next_field(&mut mapping, Field::lists, &mut lines)?
            {
                fields += 1;
                if let Field::List(name) = field
                    && let Some(list) = reader.list(name, node)?
                {
                    lists.set(name, list);
                }
            }
            if fields == 0 && reader.error_count() == 0 {
                reader.report(line, Problem::NoList)?;
            }
        }
        Content::Scalar(scalar) if is_nothing(&scalar, root.tag) => {
            reader.report(line, Problem::NoList)?;
        }
        _ => {
            reader.pass_over(root)?;
            reader.report(line, Problem::NotLists)?;
        }
    }
    match reader.next_document()? {
        Some(second) => reader.report(second.line, Problem::SecondDocument),
        None => Ok(()),
    }
}

/// Whether every YAML reader takes the slug for a text when it has no quotes.
fn is_unambiguous(slug: &str) -> bool {
    const TAKEN: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    slug.starts_with(|first: char| first.is_ascii_alphabetic())
        && !TAKEN.iter().any(|word| slug.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ListName, Slug, SlugList};

    #[test]
    fn writes_all_six_in_order() {
        let mut acl = Acl::default();
        let readers = ["alice", "uid:1000", "1000", "No", "n", "null", "0x1f"];
        acl.set(ListName::Readers, readers.iter().map(|name| Slug::parse(name).unwrap()).collect());
        assert_eq!(
            emit_lists(&acl),
            "readers:\n- alice\n- uid:1000\n- \"1000\"\n- \"No\"\n- \"n\"\n- \"null\"\n- \"0x1f\"\nwriters: []\ndeleters: []\ncanChangeReaders: []\ncanChangeWriters: []\ncanChangeDeleters: []\n"
        );
    }

    #[test]
    fn reads_what_is_named() {
        for text in ["readers: [alice]\nwriters: []", "{writers: [], readers: [\"alice\"]}\n"] {
            let patch = parse_lists(text.as_bytes()).unwrap();
            assert_eq!(patch.list(ListName::Writers), Some(&SlugList::default()));
            assert_eq!(patch.list(ListName::Readers).map(SlugList::len), Some(1));
            assert_eq!(patch.iter().count(), 2);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, expected) in [
            (
                "",
                "line 1: no list is named; name at least one of the six, `readers: []` for an empty one",
            ),
            (
                "---\n",
                "line 1: no list is named; name at least one of the six, `readers: []` for an empty one",
            ),
            (
                "{}",
                "line 1: no list is named; name at least one of the six, `readers: []` for an empty one",
            ),
            (
                "- readers: []",
                "line 1: these are not lists; write a mapping of list names (`readers: […]`)",
            ),
            (
                "alice",
                "line 1: these are not lists; write a mapping of list names (`readers: […]`)",
            ),
            (
                "readers: []\n---\nwriters: []",
                "line 3: lists are one document; remove this second one",
            ),
            (
                "readers: []\nvalue: x",
                "line 2: unknown field `value`; remove it, or check the indentation of a value above",
            ),
            ("writer: []", "line 1: unknown field `writer`; did you mean `writers`?"),
            (
                "readers: []\nreaders: []",
                "line 2: `readers` stands already in line 1; keep one of them",
            ),
            (
                "readers: alice",
                "line 1: `readers` must be a list; write `[name, name]`, or `- name` line by line",
            ),
            (
                "readers: [a b]",
                "line 1: an entry of `readers` is not a slug; use 1 to 64 of a-z A-Z 0-9 . _ - starting with a letter or digit, or uid:N, or gid:N",
            ),
            ("readers: [", "line 1: the bracket that opens here is not closed; close it"),
        ] {
            assert_eq!(parse_lists(text.as_bytes()).unwrap_err().to_string(), expected, "{text:?}");
        }
        let large = vec![b'#'; MAX_LISTS_BYTES + 1];
        assert_eq!(parse_lists(&large).unwrap_err().kind(), super::super::ErrorKind::TooLarge);
    }
}
