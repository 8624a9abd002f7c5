//! Who is calling.

use super::Slug;

/// A caller as the contract sees it (section 2): the UID of the request and the slugs it stands for.
/// Immutable; made by `identity`, shared by reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    uid: u32,
    own: Option<Slug>,
    slugs: Box<[Slug]>,
    admin: bool,
}

impl Caller {
    /// A caller with its own slug, all its slugs (the own one and `uid:N` among them, without
    /// repetition) and whether one of them is an admin's.
    pub fn new(
        uid: u32,
        own: Option<Slug>,
        slugs: impl IntoIterator<Item = Slug>,
        admin: bool,
    ) -> Self {
        let mut all: Vec<Slug> = Vec::new();
        for slug in own.iter().cloned().chain([Slug::of_uid(uid)]).chain(slugs) {
            if !all.contains(&slug) {
                all.push(slug);
            }
        }
        Self { uid, own, slugs: all.into(), admin }
    }

    /// The UID that the kernel reported.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The slug under which the caller may create secrets; none for a UID without a name.
    pub fn own_slug(&self) -> Option<&Slug> {
        self.own.as_ref()
    }

    /// Whether the caller has another slug than `uid:N`.
    pub fn is_named(&self) -> bool {
        self.slugs.len() > 1
    }

    /// Every slug that the caller stands for, its own one first.
    pub fn slugs(&self) -> &[Slug] {
        &self.slugs
    }

    /// Whether the caller may do everything.
    pub fn is_admin(&self) -> bool {
        self.admin
    }
}
