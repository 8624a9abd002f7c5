//! The rules that make a caller of a UID, the identities file and the directory.

use super::{Directory, Identities, NssError, User};
use crate::model::{Caller, Slug};

/// Makes the caller that `uid` stands for. An ordinary user who mounts is an admin of that mount.
///
/// - The own slug is the file's, else the user's name; none if that name is no slug or stands for another identity
///   (see [`is_taken`]).
/// - A team is the administrator's word and is taken as it stands.
/// - A group gives `gid:N` always, and its name unless that is no slug or a user's: one of the file,
///   or the name of a user to whom the file gives no other slug. A user alice in her group alice
///   is `alice` by her own name.
///
/// # Errors
/// A lookup that failed: never fewer slugs instead.
pub(super) fn caller(
    uid: u32,
    mounts: bool,
    identities: &Identities,
    directory: &dyn Directory,
) -> Result<Caller, NssError> {
    let user = directory.user_by_uid(uid)?;
    let own = match (identities.slug_of(uid), &user) {
        (Some(slug), _) => Some(slug.clone()),
        (None, Some(user)) => match name(&user.name) {
            Some(slug) if !is_taken(&slug, user, identities, directory)? => Some(slug),
            _ => None,
        },
        (None, None) => None,
    };
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

/// A name of the directory as a slug. `uid:7` is a slug, but a user or group of that name would be taken for another
/// one.
fn name(text: &str) -> Option<Slug> {
    Slug::parse(text).ok().filter(|_| !text.contains(':'))
}

/// Whether a login name stands for another identity, so that its user must not get it as a slug:
///
/// - the file gives it to another UID as a slug, or to any UID as a team;
/// - or it is in `admins`, and there is a Unix group of this name that is not the user's primary one:
///   the entry means that group. (`root` is in the group `root`, and `bob` in the group `bob`.)
fn is_taken(
    slug: &Slug,
    user: &User,
    identities: &Identities,
    directory: &dyn Directory,
) -> Result<bool, NssError> {
    if identities.uid_of(slug).is_some() || identities.is_team(slug) {
        return Ok(true);
    }
    if !identities.is_admin(slug) {
        return Ok(false);
    }
    let group = directory.gid_by_name(slug.as_str())?;
    Ok(group.is_some_and(|gid| gid != user.gid))
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
admins: [root, secret-admins, uid:77, wheel, dba, ops-team, dan]
identities:
- {slug: payment-svc, uid: 2001}
- {slug: alice, uid: 2100, teams: [devops-team, bob, ops-team]}
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
            .user(3003, "devops-team", &[(66, Some("devops-team"))])
            .user(3004, "ops-team", &[(67, Some("ops-team"))])
            .user(3005, "wheel", &[(100, Some("users"))])
            .user(3006, "member", &[(100, Some("users")), (10, Some("wheel"))])
            .user(3007, "dba", &[(68, Some("dba"))])
            .user(3008, "dan", &[(100, Some("users"))])
    }

    #[test]
    fn each_rule() {
        let identities = Identities::parse(FILE.as_bytes()).unwrap();
        for (uid, own, slugs, admin) in [
            (0, Some("root"), "root uid:0 gid:0", true),
            // The file has a team of this name.
            (1000, None, "uid:1000 gid:1000 gid:50 staff", false),
            (3003, None, "uid:3003 gid:66", false),
            (3004, None, "uid:3004 gid:67", false),
            // The entry in `admins` means the group, which the user is not in; nor is it anybody's
            // slug as long as a user has its name.
            (3005, None, "uid:3005 gid:100 users", false),
            (3006, Some("member"), "member uid:3006 gid:100 users gid:10", false),
            // It means the user, with or without a group of the same name.
            (3007, Some("dba"), "dba uid:3007 gid:68", true),
            (3008, Some("dan"), "dan uid:3008 gid:100 users", true),
            // Groups that are called as a user is, by the system or by the file.
            (1001, Some("eve"), "eve uid:1001 gid:1001 gid:1000 gid:2100", false),
            // The file's slug hides the login name, so the group of that name is a group again.
            (
                2100,
                Some("alice"),
                "alice uid:2100 devops-team bob ops-team gid:60 alice-login gid:50 staff",
                true,
            ),
            // A login name that the file gives to another UID.
            (3000, None, "uid:3000 gid:61", false),
            // Names that look like a UID or GID, or are no slugs.
            (3001, None, "uid:3001 gid:62 gid:63 gid:64", false),
            (3002, Some("ops"), "ops uid:3002 gid:65 secret-admins gid:0", true),
            (77, Some("seven"), "seven uid:77", true),
            // A UID that only the file knows, and one that is unknown.
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
