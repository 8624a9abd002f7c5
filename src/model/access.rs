//! The decision: may this caller do that? Pure, and the only place that decides (contract,
//! section 3).

use std::fmt;

use super::{Acl, Caller, ListName, Slug};

/// What a caller wants of a secret that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read the value.
    Read,
    /// Write, append to or truncate the value.
    Write,
    /// Remove the secret.
    Delete,
    /// Read the sidecar, or see the name in a listing.
    ReadLists,
    /// Change one of the six lists.
    ChangeList(ListName),
}

impl Operation {
    /// The lists of which one must hold the caller; none where only an admin may.
    fn lists(self) -> &'static [ListName] {
        match self {
            Self::Read => &[ListName::Readers],
            Self::Write => &[ListName::Writers],
            Self::Delete => &[ListName::Deleters],
            Self::ReadLists => &ListName::ALL,
            Self::ChangeList(ListName::Readers) => &[ListName::CanChangeReaders],
            Self::ChangeList(ListName::Writers) => &[ListName::CanChangeWriters],
            Self::ChangeList(ListName::Deleters) => &[ListName::CanChangeDeleters],
            Self::ChangeList(
                ListName::CanChangeReaders
                | ListName::CanChangeWriters
                | ListName::CanChangeDeleters,
            ) => &[],
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read => f.write_str("read"),
            Self::Write => f.write_str("write"),
            Self::Delete => f.write_str("delete"),
            Self::ReadLists => f.write_str("read the lists of"),
            Self::ChangeList(list) => write!(f, "change the `{list}` list of"),
        }
    }
}

/// What allowed an operation, for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// One of the caller's slugs is in this list.
    Listed {
        /// The slug that is listed.
        slug: Slug,
        /// The list that holds it.
        list: ListName,
    },
    /// The caller creates below its own slug.
    OwnDirectory,
    /// The caller is an admin.
    Admin,
}

/// What was missing. Its text tells the caller what to ask for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// None of the caller's slugs is in the list that allows it.
    #[error(
        "you may not {operation} it: none of your slugs is in its `{list}` list; ask for one of them to be added"
    )]
    NotListed {
        /// What was wanted.
        operation: Operation,
        /// The list that would allow it.
        list: ListName,
    },
    /// None of the caller's slugs is in any of the six lists.
    #[error(
        "you may not {0} it: none of your slugs is in any of its lists; ask for one of them to be added"
    )]
    NotInAnyList(Operation),
    /// Only an admin may.
    #[error("you may not {0} it: only an admin may; ask one")]
    AdminOnly(Operation),
    /// Creating outside the directory of one's own slug.
    #[error("you may create secrets only below `{0}/`; choose such a key or ask an admin")]
    NotOwnDirectory(Slug),
    /// Creating without a slug of one's own.
    #[error(
        "you may not create secrets: your user has no name that could be a slug; ask an admin for an entry in the identities file"
    )]
    NoOwnSlug,
}

/// Whether `caller` may do `operation` to a secret with these lists.
///
/// # Errors
/// The denial, which says what was missing.
pub fn decide(caller: &Caller, operation: Operation, acl: &Acl) -> Result<Grant, Denial> {
    let lists = operation.lists();
    let listed = lists.iter().find_map(|&list| {
        let slug = caller.slugs().iter().find(|slug| acl.list(list).contains(slug))?;
        Some(Grant::Listed { slug: slug.clone(), list })
    });
    match listed {
        Some(grant) => Ok(grant),
        None if caller.is_admin() => Ok(Grant::Admin),
        None => Err(match lists {
            [] => Denial::AdminOnly(operation),
            [list] => Denial::NotListed { operation, list: *list },
            _ => Denial::NotInAnyList(operation),
        }),
    }
}

/// Whether `caller` may create a secret, a directory or a scratch file at `path`.
///
/// # Errors
/// The denial, which says where the caller may create.
pub fn may_create(caller: &Caller, path: &str) -> Result<Grant, Denial> {
    let own = caller.own_slug();
    let in_own_directory = own.is_some_and(|slug| {
        path.strip_prefix(slug.as_str()).is_some_and(|rest| rest.starts_with('/'))
    });
    match own {
        _ if in_own_directory => Ok(Grant::OwnDirectory),
        _ if caller.is_admin() => Ok(Grant::Admin),
        Some(slug) => Err(Denial::NotOwnDirectory(slug.clone())),
        None => Err(Denial::NoOwnSlug),
    }
}

/// Whether `caller` sees a secret with these lists in a listing.
pub fn may_see(caller: &Caller, acl: &Acl) -> bool {
    caller.is_admin()
        || acl.iter().any(|(_, list)| caller.slugs().iter().any(|slug| list.contains(slug)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SlugList;
    use proptest::prelude::*;

    fn slug(name: &str) -> Slug {
        Slug::parse(name).unwrap()
    }

    fn caller(own: &str, admin: bool) -> Caller {
        Caller::new(2000, Some(slug(own)), [slug("team")], admin)
    }

    /// Lists that hold `member` in `list` alone.
    fn only(list: ListName, member: &str) -> Acl {
        let mut acl = Acl::default();
        acl.set(list, SlugList::from_iter([slug(member)]));
        acl
    }

    /// Section 3, row by row: the operation and the one list that allows it.
    const TABLE: [(Operation, Option<ListName>); 9] = [
        (Operation::Read, Some(ListName::Readers)),
        (Operation::Write, Some(ListName::Writers)),
        (Operation::Delete, Some(ListName::Deleters)),
        (Operation::ChangeList(ListName::Readers), Some(ListName::CanChangeReaders)),
        (Operation::ChangeList(ListName::Writers), Some(ListName::CanChangeWriters)),
        (Operation::ChangeList(ListName::Deleters), Some(ListName::CanChangeDeleters)),
        (Operation::ChangeList(ListName::CanChangeReaders), None),
        (Operation::ChangeList(ListName::CanChangeWriters), None),
        (Operation::ChangeList(ListName::CanChangeDeleters), None),
    ];

    #[test]
    fn each_row_of_the_table() {
        for (operation, needed) in TABLE {
            for list in ListName::ALL {
                for member in ["alice", "team", "uid:2000", "bob"] {
                    let acl = only(list, member);
                    let allowed = Some(list) == needed && member != "bob";
                    let decision = decide(&caller("alice", false), operation, &acl);
                    assert_eq!(decision.is_ok(), allowed, "{operation:?} with {member} in {list}");
                    assert!(
                        decide(&caller("alice", true), operation, &acl).is_ok(),
                        "an admin may"
                    );
                }
            }
        }
    }

    #[test]
    fn any_of_the_six_lists_shows_the_lists() {
        for list in ListName::ALL {
            assert!(
                decide(&caller("alice", false), Operation::ReadLists, &only(list, "team")).is_ok()
            );
            assert!(may_see(&caller("alice", false), &only(list, "team")));
            assert!(
                decide(&caller("alice", false), Operation::ReadLists, &only(list, "bob")).is_err()
            );
            assert!(!may_see(&caller("alice", false), &only(list, "bob")));
        }
    }

    #[test]
    fn creating_needs_the_own_slug_as_first_component() {
        let alice = caller("alice", false);
        for (key, allowed) in [
            ("alice/K", true),
            ("alice/sub/K", true),
            ("alice", false),
            ("alicea/K", false),
            ("alice2/K", false),
            ("team/K", false),
            ("bob/alice/K", false),
            ("K", false),
        ] {
            assert_eq!(may_create(&alice, key).is_ok(), allowed, "{key}");
            assert!(may_create(&caller("root", true), key).is_ok());
        }
        let nameless = Caller::new(4242, None, [], false);
        assert_eq!(may_create(&nameless, "uid-4242/K"), Err(Denial::NoOwnSlug));
    }

    #[test]
    fn the_grant_names_slug_and_list() {
        let acl = only(ListName::Readers, "team");
        let grant = decide(&caller("alice", true), Operation::Read, &acl);
        assert_eq!(grant, Ok(Grant::Listed { slug: slug("team"), list: ListName::Readers }));
        assert_eq!(decide(&caller("alice", true), Operation::Write, &acl), Ok(Grant::Admin));
    }

    /// A second, naive model of the same table: everything spelled out.
    fn naive(caller: &Caller, operation: Operation, acl: &Acl) -> bool {
        let inside =
            |list: ListName| acl.list(list).iter().any(|member| caller.slugs().contains(member));
        caller.is_admin()
            || match operation {
                Operation::Read => inside(ListName::Readers),
                Operation::Write => inside(ListName::Writers),
                Operation::Delete => inside(ListName::Deleters),
                Operation::ReadLists => ListName::ALL.into_iter().any(inside),
                Operation::ChangeList(list) => list.guarded_by().is_some_and(inside),
            }
    }

    fn any_slugs() -> impl Strategy<Value = Vec<Slug>> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "d", "uid:7"]), 0..4)
            .prop_map(|names| names.into_iter().map(slug).collect())
    }

    fn any_operation() -> impl Strategy<Value = Operation> {
        let list = prop::sample::select(ListName::ALL.to_vec());
        prop_oneof![
            Just(Operation::Read),
            Just(Operation::Write),
            Just(Operation::Delete),
            Just(Operation::ReadLists),
            list.prop_map(Operation::ChangeList),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_model(
            lists in prop::array::uniform6(any_slugs()),
            slugs in any_slugs(),
            operation in any_operation(),
            admin in any::<bool>(),
        ) {
            let mut acl = Acl::default();
            for (name, list) in ListName::ALL.into_iter().zip(lists) {
                acl.set(name, list.into_iter().collect());
            }
            let caller = Caller::new(7, None, slugs, admin);
            prop_assert_eq!(decide(&caller, operation, &acl).is_ok(), naive(&caller, operation, &acl));
            prop_assert_eq!(may_see(&caller, &acl), naive(&caller, Operation::ReadLists, &acl));
        }
    }
}
