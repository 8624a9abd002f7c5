//! The database of locate(1): `updatedb` reads directories as root and keeps the names of keys in a file that
//! other users may search (updatedb.conf(5)).

use std::io::{self, Read};
use std::path::Path;

use crate::daemon::lookup_helper::LookupHelper;

/// What says which directories it passes over.
pub(in crate::daemon) const CONFIGURATION: &str = "/etc/updatedb.conf";
/// The type of the file system, as it stands there.
const TYPE: &str = "fuse.secretfs";
/// More than such a file has.
const MAX_BYTES: u64 = 1 << 20;

/// Why it may hold the names of the keys that are mounted there; nothing if it does not, or is not installed.
pub(in crate::daemon) fn fault(lookup_helper: &LookupHelper, mountpoint: &Path) -> Option<String> {
    let mut text = String::new();
    let read = lookup_helper
        .open(CONFIGURATION.as_ref())
        .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
    match read {
        Ok(_) if passes_over(&text, mountpoint) => None,
        Ok(_) => Some(format!(
            "locate's database holds the names of its keys: add {TYPE} to PRUNEFS in {CONFIGURATION}, then run updatedb"
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!(
            "whether locate's database holds the names of its keys is not known: {CONFIGURATION}: {error}"
        )),
    }
}

fn passes_over(configuration: &str, mountpoint: &Path) -> bool {
    let has = |name, is_it: &dyn Fn(&str) -> bool| {
        let lines = configuration.lines().filter_map(assignment);
        lines
            .filter(|(given, _)| *given == name)
            .any(|(_, value)| value.split_whitespace().any(is_it))
    };
    has("PRUNEFS", &|kind| kind.eq_ignore_ascii_case(TYPE))
        || has("PRUNEPATHS", &|path| !path.ends_with('/') && mountpoint.starts_with(path))
        || has("PRUNENAMES", &|name| mountpoint.iter().any(|part| part == name))
}

/// `NAME="words"`, perhaps with a comment behind it.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    Some((name.trim(), value.trim_start().strip_prefix('"')?.split('"').next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_over() {
        let debian = "PRUNE_BIND_MOUNTS=\"yes\"\n# PRUNENAMES=\"secrets\"\n\
                      PRUNEPATHS=\"/tmp /var/spool\"\nPRUNEFS=\"NFS fuse.sshfs tmpfs\"\n";
        let passes = |text: &str, point: &str| passes_over(text, point.as_ref());
        assert!(!passes(debian, "/secrets") && !passes("", "/secrets"));
        assert!(passes(debian, "/tmp/secrets") && !passes(debian, "/tmpfs/secrets"));
        for line in [
            "PRUNEFS = \"tmpfs fuse.secretfs\"",
            "PRUNEFS=\"FUSE.SECRETFS\" # ours",
            "PRUNEPATHS=\"/a#b /secrets\"",
            "PRUNENAMES=\".git secrets\"",
        ] {
            assert!(passes(line, "/secrets"), "{line}");
        }
        for line in [
            "#PRUNEFS=\"fuse.secretfs\"",
            "PRUNEFS=\"fuse.secretfs2\"",
            "PRUNEPATHS=\"/secrets/a /secrets/\"",
        ] {
            assert!(!passes(line, "/secrets"), "{line}");
        }
    }
}
