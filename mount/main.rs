//! mount(8)'s helper, installed as `/sbin/mount.secretfs` (and `/sbin/mount.fuse.secretfs`): it makes
//! `mount -t secretfs`, lines of fstab(5) and mount units of systemd work.
//!
//! The forms that it accepts (mount(8), "EXTERNAL HELPERS"); options may stand anywhere:
//!
//! ```text
//! mount.secretfs secretfs DIR [-sfnv] [-o OPTION[,OPTION…]]… [-t TYPE]
//! mount.secretfs --help | --version
//! ```
//!
//! `DIR` is where to mount. The source must be written as `secretfs`, because that is what the kernel
//! shows, and `mount -a` compares the two to see what is mounted already. [`options`] says what `-o`
//! takes. `-s` ignores unknown options, `-f` checks everything and mounts nothing, `-v` shows the
//! command that mounts; `-n` and `-t` change nothing; `-N` is refused.
//!
//! It returns once requests are served. Exit codes, as mount(8) has them:
//!
//! - 0: mounted
//! - 1: the command line is wrong, or the caller may not mount
//! - 2: the program `secretfs` is not there or cannot be started
//! - 32: the mount failed; the daemon's own message says why

mod arguments;
mod error;
mod options;
mod start;

use std::process::ExitCode;

use arguments::Request;
use error::HelperError;
use options::Options;

const HELP: &str = "\
The helper of mount(8) for secretfs. Use it through mount(8) or /etc/fstab:

  mount -t secretfs secretfs /secrets -o encryption_key_file=/etc/secretfs/encryption-key
  secretfs  /secrets  secretfs  noauto,x-systemd.automount,nofail,_netdev  0  0

Every flag of `secretfs mount` is an option, written with `_` or `-`: state_dir=DIR, config=FILE,
identities=FILE, encryption_key_file=FILE, … `ro` makes the mount read-only. What is for the kernel,
mount(8) or systemd alone (defaults, noauto, nofail, _netdev, user, x-*, …) is ignored.

Exit codes: 0 mounted; 1 wrong command line or not allowed; 2 the program secretfs is not there;
32 the mount failed";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mount.secretfs: {error}");
            ExitCode::from(error.exit())
        }
    }
}

fn run() -> Result<(), HelperError> {
    match Request::parse(std::env::args_os().skip(1))? {
        Request::Help => println!("{HELP}"),
        Request::Version => println!("mount.secretfs {}", env!("CARGO_PKG_VERSION")),
        Request::Mount(mount) => {
            let options = Options::sort(&mount.options, mount.sloppy)?;
            if options.remount {
                start::remount(&mount, &options)?;
            } else {
                start::mount(&mount, &options)?;
            }
        }
    }
    Ok(())
}
