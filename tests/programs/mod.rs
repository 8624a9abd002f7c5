//! Other people's software on a real mount: each program as the UID that it would have, with its own
//! checks of owners and modes. A program that is not there is skipped with a word.

mod background;
mod bind;
mod children;
mod databases;
mod dot_names;
mod editors;
mod environment;
mod examples;
mod git;
mod gpg;
mod locate;
mod locks;
mod modes;
mod namespaces;
mod replace;
mod ssh;
mod systemd;
mod transfer;
mod unchanged;
mod web;
mod xattr;

use crate::harness::{Mount, ROOT};
use crate::skip::has;
use crate::user::User;

/// Everything that a script starts ends with it, has a network of its own, and sees the mount at
/// `$S`, where no parent directory is writable for all. `as UID command…` runs a command as a user,
/// `eventually command…` until it succeeds.
const PRELUDE: &str = r#"
set -euo pipefail
export S=/mnt
mount --bind "$POINT" $S
# Tests with a server name `ip` among their programs.
! command -v ip > /dev/null || ip link set lo up
as() { local uid=$1; shift; setpriv --reuid $uid --regid $uid --clear-groups "$@"; }
eventually() { for _ in $(seq 400); do "$@" && return; sleep 0.05; done; echo "never: $*" >&2; return 1; }
version() { getfattr --absolute-names -n user.secretfs.version --only-values "$1"; }
tells() { [[ $1 == *"$2"* ]] || { echo "expected '$2' in: $1" >&2; return 1; }; }
"#;

/// A mount with programs on it.
pub(crate) struct Stage {
    mount: Mount,
    root: User,
}

impl Stage {
    /// A running mount, if all of these programs are there.
    pub(crate) fn with(programs: &[&str]) -> Option<Self> {
        if !has(programs) {
            return None;
        }
        let mount = Mount::start()?;
        let root = mount.user(ROOT);
        Some(Self { mount, root })
    }

    /// A secret of root's that `reader` may read.
    #[track_caller]
    pub(crate) fn put(&self, key: &str, value: &str, reader: &str) {
        self.root.put(key, value, &format!("readers: [{reader}]\n"));
    }

    /// Runs a script as root on the machine itself; it must succeed. Gives its standard output.
    #[track_caller]
    pub(crate) fn run_on_machine(&self, script: &str) -> String {
        self.root.sh_ok(script)
    }

    /// Runs a script as root; it must succeed. Gives its standard output.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> String {
        let file = self.mount.outside().join("script");
        std::fs::write(&file, format!("{PRELUDE}{script}")).unwrap();
        self.root.sh_ok(
            "POINT=$PWD exec unshare --mount --propagation private --net --pid --fork \
             --kill-child --mount-proc bash $T/script",
        )
    }
}
