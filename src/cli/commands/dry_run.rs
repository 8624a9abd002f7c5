//! What `save` would change, from what the caller can see. Never a value.

use std::fmt;

use crate::cli::client::Client;
use crate::cli::error::{CliError, Result};
use crate::cli::output::print;
use crate::document::{Checksum, Document, DocumentValue};
use crate::model::{
    Acl, AclPatch, Caller, Denial, Key, ListName, Operation, Plaintext, decide, may_create,
    printable,
};

/// What is to be saved under a key.
pub(super) struct Proposal<'a> {
    key: &'a Key,
    value: Value<'a>,
    lists: AclPatch,
}

enum Value<'a> {
    /// It stays as it is.
    Kept,
    Plain(&'a Plaintext),
    /// Only the daemon can look inside; a checksum tells whether it is the same.
    Sealed(Option<&'a Checksum>),
}

/// How a value compares with the one that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Same,
    Different,
    /// The caller may not read it, or it is sealed without a checksum.
    Unknown,
}

/// What saving would do.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Created,
    Updated { value: Comparison, lists: Vec<ListName> },
    Unchanged,
    Denied(Denial),
}

/// Prints a line for each proposal.
///
/// # Errors
/// Some would be denied, or the mount failed.
pub(super) fn report(client: &Client, caller: &Caller, proposals: &[Proposal<'_>]) -> Result {
    let outcomes = client.each(proposals, |proposal| {
        let key = proposal.key;
        Ok(Some(if client.exists(key)? {
            let lists = client.lists(key)?;
            judge(caller, &lists, &proposal.lists, proposal.compare(client))
        } else {
            match may_create(caller, key.as_str()) {
                Ok(_) => Outcome::Created,
                Err(denial) => Outcome::Denied(denial),
            }
        }))
    })?;
    let lines = proposals.iter().zip(&outcomes);
    print(&lines.map(|(proposal, outcome)| line(proposal.key, outcome)).collect::<String>())?;
    match outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Denied(_))).count() {
        0 => Ok(()),
        denied => Err(CliError::WouldBeDenied(denied)),
    }
}

impl<'a> Proposal<'a> {
    /// A value alone.
    pub(super) fn value(key: &'a Key, value: &'a Plaintext) -> Self {
        Self { key, value: Value::Plain(value), lists: AclPatch::default() }
    }

    /// A document.
    pub(super) fn document(document: &'a Document) -> Self {
        let value = match document.value() {
            None => Value::Kept,
            Some(DocumentValue::Plain(value)) => Value::Plain(value),
            Some(DocumentValue::Sealed(_)) => Value::Sealed(document.checksum()),
        };
        Self { key: document.key(), value, lists: document.lists().clone() }
    }

    fn compare(&self, client: &Client) -> Comparison {
        let matches = |current: &Plaintext| match self.value {
            Value::Kept => Some(true),
            Value::Plain(value) => Some(value == current),
            Value::Sealed(checksum) => checksum.map(|checksum| checksum.matches(current)),
        };
        match (&self.value, client.read(self.key).ok().as_ref().and_then(matches)) {
            (Value::Kept, _) | (_, Some(true)) => Comparison::Same,
            (_, Some(false)) => Comparison::Different,
            (_, None) => Comparison::Unknown,
        }
    }
}

/// What would become of an existing secret: only what really changes needs a right.
fn judge(caller: &Caller, current: &Acl, named: &AclPatch, value: Comparison) -> Outcome {
    let lists: Vec<_> = current.differing(&current.patched(named)).collect();
    if value == Comparison::Same && lists.is_empty() {
        return Outcome::Unchanged;
    }
    let write = (value != Comparison::Same).then_some(Operation::Write);
    let mut needed = write.into_iter().chain(lists.iter().copied().map(Operation::ChangeList));
    match needed.find_map(|operation| decide(caller, operation, current).err()) {
        Some(denial) => Outcome::Denied(denial),
        None => Outcome::Updated { value, lists },
    }
}

fn line(key: &Key, outcome: &Outcome) -> String {
    format!("{:<9}  {}\n", outcome.word(), printable(&format!("{key}{outcome}")))
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated { .. } => "updated",
            Self::Unchanged => "unchanged",
            Self::Denied(_) => "denied",
        }
    }
}

/// What comes after the key.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created | Self::Unchanged => Ok(()),
            Self::Denied(denial) => write!(f, ": {denial}"),
            Self::Updated { value, lists } => {
                let value = match value {
                    Comparison::Same => None,
                    Comparison::Different => Some("value"),
                    Comparison::Unknown => Some("value, if it differs: it cannot be compared"),
                };
                let names = lists.iter().map(|list| list.as_str());
                let parts: Vec<_> = names.chain(value).collect();
                write!(f, ": {}", parts.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Slug, SlugList};

    fn slugs(names: &[&str]) -> SlugList {
        names.iter().map(|name| Slug::parse(name).unwrap()).collect()
    }

    fn alice() -> Caller {
        Caller::new(2100, slugs(&["alice"]).iter().next().cloned(), [], false)
    }

    fn lists(list: ListName, names: &[&str]) -> AclPatch {
        let mut lists = AclPatch::default();
        lists.set(list, slugs(names));
        lists
    }

    #[test]
    fn only_what_changes_needs_a_right() {
        let reader = Acl::default().patched(&lists(ListName::Readers, &["alice"]));
        let writer = Acl::default().patched(&lists(ListName::Writers, &["alice"]));
        let same_lists = lists(ListName::Readers, &["alice"]);
        let more = lists(ListName::Writers, &["alice", "bob"]);
        let not_listed = |operation, list| Outcome::Denied(Denial::NotListed { operation, list });
        for (current, named, value, outcome) in [
            (&reader, &same_lists, Comparison::Same, Outcome::Unchanged),
            (
                &reader,
                &same_lists,
                Comparison::Different,
                not_listed(Operation::Write, ListName::Writers),
            ),
            (
                &writer,
                &AclPatch::default(),
                Comparison::Unknown,
                Outcome::Updated { value: Comparison::Unknown, lists: vec![] },
            ),
            (
                &writer,
                &more,
                Comparison::Same,
                not_listed(Operation::ChangeList(ListName::Writers), ListName::CanChangeWriters),
            ),
        ] {
            assert_eq!(judge(&alice(), current, named, value), outcome);
        }
    }

    #[test]
    fn a_line_says_what_would_change() {
        let key = Key::parse("alice/K").unwrap();
        let updated = |value, lists| line(&key, &Outcome::Updated { value, lists });
        assert_eq!(line(&key, &Outcome::Created), "created    alice/K\n");
        assert_eq!(line(&key, &Outcome::Unchanged), "unchanged  alice/K\n");
        assert_eq!(
            updated(Comparison::Different, vec![ListName::Readers]),
            "updated    alice/K: readers, value\n"
        );
        assert_eq!(
            updated(Comparison::Same, vec![ListName::Writers]),
            "updated    alice/K: writers\n"
        );
        assert!(
            line(&key, &Outcome::Denied(Denial::NoOwnSlug)).starts_with("denied     alice/K: ")
        );
    }
}
