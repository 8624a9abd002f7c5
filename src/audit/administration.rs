//! What the administrator changes: who may do what, with which keys, under which settings.

use crate::model::Slug;

use super::event::Event;
use super::{Mode, json};

/// Longer lists are cut off in a line, which then says how long they are.
const MAX_LISTED: usize = 200;

/// An entry of the identities file, of one UID.
pub type Entry<'a> = (&'a Slug, &'a [Slug]);

/// What holds when a server starts.
pub struct Configuration<'a> {
    /// The user who mounts.
    pub uid: u32,
    /// The admins.
    pub admins: &'a [Slug],
    /// How many entries the identities file has.
    pub identities: usize,
    /// The ids of the encryption keys, the current one first.
    pub keys: &'a [String],
}

impl Event {
    /// What holds when a server starts.
    pub fn configuration(configuration: &Configuration<'_>, mode: Mode) -> Self {
        let Configuration { uid, admins, identities, keys } = configuration;
        Self::own("configuration", |out| {
            json::number!(out, "mountedBy", *uid);
            slugs(out, ",\"admins\":", ",\"adminCount\":", admins);
            json::digits(out, ",\"identities\":", *identities as u64);
            json::words(out, ",\"keys\":", keys.iter().map(String::as_str));
            json::word!(out, "audit", mode.as_str());
        })
    }

    /// A slug makes its bearers admins from now on, or does not any more.
    pub fn admin_changed(slug: &Slug, is_admin: bool) -> Self {
        Self::own("change-admins", |out| {
            json::word!(out, "change", if is_admin { "added" } else { "removed" });
            json::word!(out, "slug", slug.as_str());
        })
    }

    /// The entry of a UID in the identities file was added, removed or changed.
    pub fn identity_changed(uid: u32, before: Option<Entry<'_>>, now: Option<Entry<'_>>) -> Self {
        let change = match (before, now) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        };
        Self::own("change-identity", |out| {
            json::word!(out, "change", change);
            json::number!(out, "ofUid", uid);
            if let Some((slug, teams)) = now {
                json::word!(out, "slug", slug.as_str());
                slugs(out, ",\"teams\":", ",\"teamCount\":", teams);
            }
            if let Some((slug, teams)) = before {
                json::word!(out, "oldSlug", slug.as_str());
                slugs(out, ",\"oldTeams\":", ",\"oldTeamCount\":", teams);
            }
        })
    }

    /// The encryption keys were replaced: their ids, the current ones first.
    pub fn keys_changed(before: &[String], now: &[String]) -> Self {
        Self::own("change-keys", |out| {
            json::words(out, ",\"keys\":", now.iter().map(String::as_str));
            json::words(out, ",\"oldKeys\":", before.iter().map(String::as_str));
        })
    }

    /// A reload that was refused; what was to be replaced stays in force.
    pub fn reload_refused(what: &'static str) -> Self {
        Self::own("reload", |out| {
            json::word!(out, "outcome", "failed");
            json::word!(out, "what", what);
        })
    }

    /// The last line of a log that ends because it was turned off.
    pub(super) fn turned_off() -> Self {
        Self::own("change-audit", |out| json::word!(out, "audit", Mode::Off.as_str()))
    }
}

fn slugs(out: &mut Vec<u8>, before: &str, before_count: &str, slugs: &[Slug]) {
    json::words(out, before, slugs.iter().take(MAX_LISTED).map(Slug::as_str));
    if slugs.len() > MAX_LISTED {
        json::digits(out, before_count, slugs.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slug(text: &str) -> Slug {
        Slug::parse(text).unwrap()
    }

    #[test]
    fn lines_are_json_and_short() {
        let many: Vec<_> = (0..10_000).map(|number| slug(&format!("team-{number}"))).collect();
        let alice = slug("alice");
        let event = Event::identity_changed(7, Some((&alice, &many)), Some((&alice, &[])));
        let line = format!("{{\"seq\":1{}}}", String::from_utf8(event.body().to_vec()).unwrap());
        assert!(line.len() < 8000, "{}", line.len());
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["change"], &line["oldTeamCount"]), (&"changed".into(), &10_000.into()));
        let event = Event::identity_changed(7, None, Some((&alice, &[slug("t")])));
        assert!(event.body().ends_with(br#","ofUid":7,"slug":"alice","teams":["t"]"#));
    }
}
