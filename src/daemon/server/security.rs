//! Whether the set-up is sound: what `is-secure` shows.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};

use crate::audit::Mode;
use crate::identity::Trust;

use super::reload::Reload;
use crate::daemon::host::locate;
use crate::daemon::host::mountpoint::mount_options;
use crate::daemon::lookup_helper::LookupHelper;

/// What can make the set-up unsafe, now or later.
pub(in crate::daemon) struct SetUp {
    pub(in crate::daemon) reload: Arc<Reload>,
    pub(in crate::daemon) state_dir: PathBuf,
    pub(in crate::daemon) mountpoint: PathBuf,
    pub(in crate::daemon) import_dir: Option<PathBuf>,
    /// Of the connection to etcd.
    pub(in crate::daemon) credentials: Vec<PathBuf>,
    pub(in crate::daemon) trust: Trust,
    /// Reads updatedb's configuration, if root sees what is mounted.
    pub(in crate::daemon) updatedb: Option<LookupHelper>,
    /// Whether no page of this process can be swapped out.
    pub(in crate::daemon) memory_is_locked: bool,
    /// What this set-up does not take from it, though the kernel could, a phrase each.
    pub(in crate::daemon) not_confined: Vec<String>,
}

impl SetUp {
    /// What makes it unsafe at this moment, a phrase each. What is worst comes first.
    pub(in crate::daemon) fn reasons(&self) -> Vec<String> {
        let mut reasons = self.reload.key_weaknesses();
        reasons.extend(self.reload.key_files.readable_by_others().map(|path| {
            format!("its key file {} can be read by others; give it mode 0600", path.display())
        }));
        reasons.extend(self.reload.files().filter_map(|path| {
            let fault = self.trust.fault_of_file(path)?;
            Some(format!("{} is not read again: {fault}", path.display()))
        }));
        reasons.extend(self.credentials.iter().filter_map(|path| {
            let fault = self.trust.fault_of_file(path)?;
            Some(format!("the next start will not use {}: {fault}", path.display()))
        }));
        reasons.extend(self.import_dir.iter().filter_map(|path| {
            let error = self.trust.check_directory(path).err()?;
            Some(format!("nothing more is imported from {}: {error}", path.display()))
        }));
        reasons.extend(unsafe_directory(&self.state_dir));
        let problem = self.reload.vault.store_problem();
        reasons.extend(problem.map(|why| format!("its store is not as it was left: {why}")));
        let audit = self.reload.vault.audit_status();
        reasons.extend(weak_audit(audit.mode));
        if audit.is_tampered_with {
            reasons.push(
                "lines of its audit log are missing or changed; see `secretfs audit verify`"
                    .to_owned(),
            );
        }
        reasons.extend(self.not_confined.iter().cloned());
        if dumps_are_possible() {
            reasons.push(
                "a core dump of it could hold values; start it so that it can forbid them"
                    .to_owned(),
            );
        }
        if !self.memory_is_locked {
            reasons.extend(plain_swap().map(|device| {
                format!(
                    "values could be written to the swap space {device}; mount with --mlock-all, turn it off (swapoff), or encrypt it"
                )
            }));
        }
        let lookup_helper = self.updatedb.as_ref();
        reasons.extend(
            lookup_helper.and_then(|lookup_helper| locate::fault(lookup_helper, &self.mountpoint)),
        );
        reasons.extend(missing_options(&self.mountpoint));
        reasons
    }
}

fn unsafe_directory(path: &Path) -> Option<String> {
    let shown = path.display();
    match std::fs::metadata(path) {
        Ok(directory) if directory.mode() & 0o077 != 0 => Some(format!(
            "its state directory {shown} can be entered by others (mode {:04o}); give it mode 0700",
            directory.mode() & 0o7777
        )),
        Ok(_) => None,
        Err(error) => Some(format!("its state directory {shown} cannot be looked at: {error}")),
    }
}

fn weak_audit(mode: Mode) -> Option<String> {
    let what = match mode {
        Mode::Required => return None,
        Mode::BestEffort => "goes on when an access cannot be put on record",
        Mode::Off => "keeps no audit log",
    };
    Some(format!("it {what}; mount with --audit=required"))
}

fn dumps_are_possible() -> bool {
    // SAFETY: this operation takes and changes nothing.
    let dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
    dumpable != 0 && !matches!(getrlimit(Resource::RLIMIT_CORE), Ok((0, 0)))
}

/// A swap space whose content outlives the machine's power (proc_swaps(5)).
pub(in crate::daemon) fn plain_swap() -> Option<String> {
    let table = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    swap_devices(&table).find(|device| !is_volatile_or_encrypted(device)).map(str::to_owned)
}

fn swap_devices(table: &str) -> impl Iterator<Item = &str> {
    table.lines().skip(1).filter_map(|line| line.split_whitespace().next())
}

/// zram is memory; the mapper tells what it encrypts.
fn is_volatile_or_encrypted(device: &str) -> bool {
    let Some(name) = device.strip_prefix("/dev/") else { return false };
    let mapping = std::fs::read_to_string(format!("/sys/block/{name}/dm/uuid"));
    name.starts_with("zram") || mapping.is_ok_and(|uuid| uuid.starts_with("CRYPT-"))
}

fn missing_options(mountpoint: &Path) -> Option<String> {
    let options = mount_options(mountpoint).ok()??;
    let has = |wanted| options.split(',').any(|option| option == wanted);
    let missing: Vec<_> = ["nosuid", "nodev"].into_iter().filter(|option| !has(*option)).collect();
    (!missing.is_empty()).then(|| {
        let missing = missing.join(" and ");
        format!("its mount lacks {missing}; unmount it and mount it with `secretfs mount`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn reads_the_table_of_swap_spaces() {
        let head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert_eq!(swap_devices(head).count(), 0);
        let table =
            format!("{head}/dev/zram0 partition\t8\t0\t100\n/swap\\040file file\t8\t0\t-2\n");
        assert_eq!(swap_devices(&table).collect::<Vec<_>>(), ["/dev/zram0", "/swap\\040file"]);
        assert!(is_volatile_or_encrypted("/dev/zram0"));
        assert!(
            !is_volatile_or_encrypted("/dev/nonexistent1") && !is_volatile_or_encrypted("/swap")
        );
    }

    #[test]
    fn a_directory_for_all_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let with_mode = |mode| {
            std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(mode)).unwrap();
            unsafe_directory(directory.path())
        };
        assert_eq!(with_mode(0o700), None);
        assert!(with_mode(0o750).unwrap().contains("mode 0750"));
        assert!(unsafe_directory(Path::new("/nonexistent")).is_some());
    }
}
