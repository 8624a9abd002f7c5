//! The rules that make a caller of a UID, the identities file and the directory.

use super::{Directory, Identities, NssError};
use crate::model::{Caller, Slug};

/// Makes the caller that `uid` stands for. An ordinary user who mounts is an admin of that mount.
///
/// - The own slug is the file's, else the user's name; none if that name is no slug or is the slug
///   that the file gives to another UID.
/// - A team is the administrator's word and is taken as it stands.
/// - A group gives `gid:N` always, and its name unless that is no slug or a user's: one of the file,
///   or the name of a user to whom the file gives no other slug. A user alice in her group alice
///   is `alice` by her own name.
///
/// # Errors
/// A look-up that failed: never fewer slugs instead.
pub(super) fn caller(
    uid: u32,
    mounts: bool,
    identities: &Identities,
    directory: &dyn Directory,
) -> Result<Caller, NssError> {
    let user = directory.user_by_uid(uid)?;
    let own = identities
        .slug_of(uid)
        .cloned()
        .or_else(|| name(&user.as_ref()?.name).filter(|slug| identities.uid_of(slug).is_none()));
    let mut slugs = identities.teams_of(uid).to_vec();
    for group in user.map_or(Ok(Vec::new()), |user| directory.groups_of(&user))? {
        slugs.push(Slug::of_gid(group.gid));
        if let Some(slug) = group.name.as_deref().and_then(name)
            && !is_users(&slug, identities, directory)?
        {
            slugs.push(slug);
        }
    }
    let number = Slug::of_uid(uid);
    let admin = own.iter().chain(&slugs).chain([&number]).any(|slug| identities.is_admin(slug));
    Ok(Caller::new(uid, own, slugs, admin || mounts))
}

/// A name of the directory as a slug. `uid:7` is a slug, but as a name it would make its bearer
/// somebody else.
fn name(text: &str) -> Option<Slug> {
    Slug::parse(text).ok().filter(|_| !text.contains(':'))
}

fn is_users(
    slug: &Slug,
    identities: &Identities,
    directory: &dyn Directory,
) -> Result<bool, NssError> {
    if identities.uid_of(slug).is_some() {
        return Ok(true);
    }
    let uid = directory.uid_by_name(slug.as_str())?;
    Ok(uid.is_some_and(|uid| identities.slug_of(uid).is_none()))
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "
admins: [root, secret-admins, uid:77]
identities:
- {slug: payment-svc, uid: 2001}
- {slug: alice, uid: 2100, teams: [devops-team, bob]}
";

    fn system() -> Fake {
        Fake::default()
            .user(0, "root", &[(0, Some("root"))])
            .user(1000, "bob", &[(1000, Some("bob")), (50, Some("staff"))])
            .user(1001, "eve", &[(1001, Some("eve")), (1000, Some("bob")), (2100, Some("alice"))])
            .user(2100, "alice-login", &[(60, Some("alice-login")), (50, Some("staff"))])
            .user(3000, "payment-svc", &[(61, Some("payment-svc"))])
            .user(3001, "uid:0", &[(62, Some("gid:0")), (63, Some("a b")), (64, None)])
            .user(3002, "ops", &[(65, Some("secret-admins")), (0, Some("root"))])
            .user(77, "seven", &[])
    }

    #[test]
    fn each_rule() {
        let identities = Identities::parse(FILE.as_bytes()).unwrap();
        for (uid, own, slugs, admin) in [
            (0, Some("root"), "root uid:0 gid:0", true),
            (1000, Some("bob"), "bob uid:1000 gid:1000 gid:50 staff", false),
            // Groups that are called as a user is, by the system or by the file.
            (1001, Some("eve"), "eve uid:1001 gid:1001 gid:1000 gid:2100", false),
            // The file's slug hides the login name, so the group of that name is a group again.
            (
                2100,
                Some("alice"),
                "alice uid:2100 devops-team bob gid:60 alice-login gid:50 staff",
                false,
            ),
            // A login name that the file gives to somebody else.
            (3000, None, "uid:3000 gid:61", false),
            // Names that look like somebody's number, or are no slugs.
            (3001, None, "uid:3001 gid:62 gid:63 gid:64", false),
            (3002, Some("ops"), "ops uid:3002 gid:65 secret-admins gid:0", true),
            (77, Some("seven"), "seven uid:77", true),
            // Known to the file alone, and to nobody.
            (2001, Some("payment-svc"), "payment-svc uid:2001", false),
            (4242, None, "uid:4242", false),
        ] {
            let caller = caller(uid, false, &identities, &system()).unwrap();
            let found: Vec<_> = caller.slugs().iter().map(Slug::as_str).collect();
            assert_eq!(found.join(" "), slugs, "uid {uid}");
            assert_eq!(caller.own_slug().map(Slug::as_str), own, "uid {uid}");
            assert_eq!((caller.uid(), caller.is_admin()), (uid, admin), "uid {uid}");
        }
    }

    #[test]
    fn a_failed_lookup_is_an_error() {
        let identities = Identities::default();
        assert!(caller(0, false, &identities, &system().failing()).is_err());
        let groups_fail = system().failing_groups();
        assert!(caller(0, false, &identities, &groups_fail).is_err());
        assert!(caller(4242, true, &identities, &system()).unwrap().is_admin());
        assert!(
            caller(4242, false, &identities, &groups_fail).is_ok(),
            "it has no groups to look up"
        );
        assert!(caller(1000, false, &identities, &system().failing_names()).is_err());
    }

    const NAMES: [&str; 4] = ["a", "b", "c", "d"];

    prop_compose! {
        /// Users 0 to 3 with unlike names, in groups that are called the same as they are.
        fn any_system()(
            names in Just(NAMES).prop_shuffle(),
            groups in prop::collection::vec(prop::collection::vec(0..4usize, 0..4), 4),
        ) -> Fake {
            (0..4u32).zip(names).zip(groups).fold(Fake::default(), |fake, ((uid, name), groups)| {
                let groups: Vec<_> =
                    groups.iter().map(|&at| (10 + at as u32, Some(NAMES[at]))).collect();
                fake.user(uid, name, &groups)
            })
        }
    }

    proptest! {
        #[test]
        fn an_own_slug_is_nobody_elses(
            system in any_system(),
            given in prop::collection::btree_map(0..6u32, prop::sample::select(&NAMES[..]), 0..3),
        ) {
            let entries: Vec<_> =
                given.iter().map(|(uid, slug)| format!("{{slug: {slug}, uid: {uid}}}")).collect();
            let text = format!("identities: [{}]", entries.join(", "));
            // Two UIDs with one slug: the file is refused, there is nothing to check.
            let Ok(identities) = Identities::parse(text.as_bytes()) else { return Ok(()) };
            let callers: Vec<_> =
                (0..6).map(|uid| caller(uid, false, &identities, &system).unwrap()).collect();
            for one in &callers {
                for other in callers.iter().filter(|other| other.uid() != one.uid()) {
                    if let Some(own) = one.own_slug() {
                        prop_assert!(!other.slugs().contains(own), "{other:?} is {own}");
                    }
                }
            }
        }
    }
}
