//! Who is who: an admin, two users, and one without a name.

use secretfs::identity::{Directory, Group, NssError, User};
use secretfs::model::{Caller, Slug};

pub(crate) const PEOPLE: [u32; 4] = [0, 2100, 2200, 4242];

const TEAM: &str = "devops-team";
const TEAM_GID: u32 = 3000;

fn name(uid: u32) -> Option<&'static str> {
    match uid {
        0 => Some("root"),
        2100 => Some("alice"),
        2200 => Some("bob"),
        _ => None,
    }
}

/// As the resolver should see them.
pub(crate) fn caller(uid: u32) -> Caller {
    let slug = |text: &str| Slug::parse(text).expect("it is a slug");
    let team = (uid == 2100).then(|| [slug(TEAM), Slug::of_gid(TEAM_GID)]);
    Caller::new(uid, name(uid).map(slug), team.into_iter().flatten(), uid == 0)
}

/// What the system says.
pub(crate) struct Names;

impl Directory for Names {
    fn user_by_uid(&self, uid: u32) -> Result<Option<User>, NssError> {
        Ok(name(uid).map(|name| User { name: name.to_owned(), gid: uid }))
    }

    fn uid_by_name(&self, wanted: &str) -> Result<Option<u32>, NssError> {
        Ok(PEOPLE.into_iter().find(|&uid| name(uid) == Some(wanted)))
    }

    fn gid_by_name(&self, _name: &str) -> Result<Option<u32>, NssError> {
        Ok(None)
    }

    fn groups_of(&self, user: &User) -> Result<Vec<Group>, NssError> {
        let team = Group { gid: TEAM_GID, name: Some(TEAM.to_owned()) };
        Ok(if user.name == "alice" { vec![team] } else { Vec::new() })
    }
}
