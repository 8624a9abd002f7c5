//! Putting on the audit log what the administrator changed.

use crate::audit::{Configuration, Entry, Event, NotRecorded};
use crate::crypto::Keyring;
use crate::identity::{Changes, Resolver};
use crate::model::Slug;
use crate::vault::Vault;

/// A line for each change of the identities file.
pub(in crate::daemon) fn events_of(changes: &Changes) -> Vec<Event> {
    let added = changes.admins_added.iter().map(|slug| Event::admin_changed(slug, true));
    let removed = changes.admins_removed.iter().map(|slug| Event::admin_changed(slug, false));
    let identities = changes.identities.iter().map(|change| {
        Event::identity_changed(change.uid, entry(&change.before), entry(&change.now))
    });
    added.chain(removed).chain(identities).collect()
}

fn entry(of: &Option<(Slug, Vec<Slug>)>) -> Option<Entry<'_>> {
    of.as_ref().map(|(slug, teams)| (slug, &teams[..]))
}

/// The ids of all keys, the current one first.
pub(in crate::daemon) fn key_ids(keyring: &Keyring) -> Vec<String> {
    keyring.ids().map(|id| id.to_string()).collect()
}

/// Records what holds at the start of a server, and what it takes to be changed since the server before.
///
/// # Errors
/// It is not on record and must be.
pub(in crate::daemon) fn record_start(
    vault: &Vault,
    identities: &Resolver,
    uid: u32,
) -> Result<(), NotRecorded> {
    let keys = key_ids(&vault.keyring());
    let now = identities.identities();
    let (admins, count) = (now.admins(), now.uids().count());
    let configuration = Configuration { uid, admins, identities: count, keys: &keys };
    let mode = vault.audit_status().mode;
    let mut events = vec![Event::configuration(&configuration, mode)];
    events.extend(identities.changes_at_start().into_iter().flat_map(events_of));
    vault.record_administration(events)
}
