//! What one identities file says that another one does not.

use crate::model::Slug;

use super::Identities;

/// The differences between two identities files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Slugs that make their bearers admins now.
    pub admins_added: Vec<Slug>,
    /// Slugs that do not any more.
    pub admins_removed: Vec<Slug>,
    /// The entries that differ, by their UIDs.
    pub identities: Vec<IdentityChange>,
}

/// The entry of one UID, before and now.
#[derive(Debug, PartialEq, Eq)]
pub struct IdentityChange {
    /// The UID.
    pub uid: u32,
    /// Its slug and teams before, if it had an entry.
    pub before: Option<(Slug, Vec<Slug>)>,
    /// Its slug and teams now, if it has one.
    pub now: Option<(Slug, Vec<Slug>)>,
}

impl Identities {
    /// What differs from these in `next`.
    pub fn changes_to(&self, next: &Self) -> Changes {
        let lacks = |all: &[Slug], other: &[Slug]| -> Vec<Slug> {
            all.iter().filter(|slug| !other.contains(slug)).cloned().collect()
        };
        let entry = |of: &Self, uid: u32| {
            of.slug_of(uid).map(|slug| (slug.clone(), of.teams_of(uid).to_vec()))
        };
        let mut uids: Vec<_> = self.uids().chain(next.uids()).collect();
        uids.sort_unstable();
        uids.dedup();
        let differs = |change: &IdentityChange| change.before != change.now;
        let change = |uid| IdentityChange { uid, before: entry(self, uid), now: entry(next, uid) };
        Changes {
            admins_added: lacks(next.admins(), self.admins()),
            admins_removed: lacks(self.admins(), next.admins()),
            identities: uids.into_iter().map(change).filter(differs).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_is_told_once() {
        let of = |text: &str| Identities::parse(text.as_bytes()).unwrap();
        let slug = |text| Slug::parse(text).unwrap();
        let before = of(
            "admins: [root, a]\nidentities: [{slug: x, uid: 1, teams: [t]}, {slug: y, uid: 2}, {slug: z, uid: 3}]",
        );
        let now = of(
            "admins: [root, b]\nidentities: [{slug: x, uid: 1}, {slug: z, uid: 3}, {slug: w, uid: 4}]",
        );
        assert_eq!(before.changes_to(&before), Changes::default());
        let changes = before.changes_to(&now);
        assert_eq!(changes.admins_added, [slug("b")]);
        assert_eq!(changes.admins_removed, [slug("a")]);
        let uids: Vec<_> = changes.identities.iter().map(|change| change.uid).collect();
        assert_eq!(uids, [1, 2, 4]);
        assert_eq!(changes.identities[0].before, Some((slug("x"), vec![slug("t")])));
        assert_eq!(changes.identities[1].now, None);
    }
}
