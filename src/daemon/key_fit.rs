//! Whether keys are those that a store needs, for commands that must not open it, and where the right key may be.

use std::path::Path;

use crate::crypto::{KeyId, Keyring};
use crate::store::SledStore;
use crate::vault::OpenVaultError;

use super::error::DaemonError;
use super::key::Keys;

/// The key of the service that the packages install, while it runs. For root.
const OF_THE_SERVICE: &str = "/run/credentials/secretfs.service/encryption-key";
/// Where the unit takes it from.
const SEALED_CREDENTIAL: &str = "/etc/credstore.encrypted/secretfs.encryption-key";

/// The ids that are noted beside the store in `state_dir`, and those of them that the keyring lacks.
struct Noted {
    ids: Vec<KeyId>,
    missing: Vec<KeyId>,
}

impl Noted {
    /// None if nothing is noted.
    fn find(state_dir: &Path, keyring: &Keyring) -> Option<Self> {
        let ids = SledStore::noted_keys(state_dir)?;
        let ids: Vec<_> = ids.iter().map(|id| KeyId::parse(id)).collect::<Option<_>>()?;
        let missing = ids.iter().copied().filter(|&id| !keyring.holds(id)).collect();
        Some(Self { ids, missing })
    }
}

impl Keys {
    /// Refuses keys none of which the store needs.
    ///
    /// # Errors
    /// The store needs others, and which.
    pub(super) fn check_for(&self, state_dir: &Path) -> Result<(), DaemonError> {
        let noted = Noted::find(state_dir, &self.keyring);
        noted.map_or(Ok(()), |noted| self.check_some(&noted))
    }

    /// Refuses keys that lack one that the store needs, as a start would.
    ///
    /// # Errors
    /// The store needs others, and which.
    pub(super) fn check_all_for(&self, state_dir: &Path) -> Result<(), DaemonError> {
        let Some(noted) = Noted::find(state_dir, &self.keyring) else { return Ok(()) };
        self.check_some(&noted)?;
        match noted.missing {
            missing if missing.is_empty() => Ok(()),
            missing => Err(OpenVaultError::MissingKeys { missing }.into()),
        }
    }

    fn check_some(&self, noted: &Noted) -> Result<(), DaemonError> {
        match noted.ids.len() == noted.missing.len() {
            true => {
                let (store, given) = (noted.ids.last().copied(), self.keyring.current_id());
                Err(OpenVaultError::OtherKey { store, given }.into())
            }
            false => Ok(()),
        }
    }
}

/// No key is configured, there is none in the usual place, and the store in `state_dir` needs the one with one of these
/// ids.
pub(super) fn not_given(state_dir: &Path, needed: &[String], place: Option<&Path>) -> DaemonError {
    let place = place.map_or_else(
        || "there is no home directory for one".to_owned(),
        |place| format!("{} is not there", place.display()),
    );
    DaemonError::NoKeyGiven {
        state_dir: state_dir.to_owned(),
        needed: needed.join(" or "),
        place,
        hint: hint(OF_THE_SERVICE, SEALED_CREDENTIAL),
    }
}

/// Where the key of the installed service is, as the end of a sentence; empty where it has no credential.
fn hint(of_the_service: &str, sealed: &str) -> String {
    if Path::new(of_the_service).exists() {
        return format!("; the running service has it in --encryption-key-file {of_the_service}");
    }
    if Path::new(sealed).exists() {
        return format!(
            "; the service has it as a systemd credential: `systemd-creds decrypt --name=encryption-key {sealed} - | secretfs … --encryption-key-file /dev/stdin`"
        );
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_service_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let told = || hint(&at("running"), &at("sealed"));
        assert_eq!(told(), "");
        std::fs::write(at("sealed"), "").unwrap();
        assert!(told().contains("systemd-creds decrypt") && told().contains(&at("sealed")));
        std::fs::write(at("running"), "").unwrap();
        assert!(told().contains(&format!("--encryption-key-file {}", at("running"))));
    }
}
