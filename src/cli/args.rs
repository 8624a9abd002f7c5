//! The command line as it is written. Each command turns its part into typed values at once.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::commands::{
    acl, audit, backup, completions, convert, edit, encrypt, exec, fsck, get, is_secure, keygen,
    list, man, migrate, read, recipient, rekey, reload, remove, reseal, restore, save, textconv,
    unmount, upgrade, verify, watch, whoami,
};
use super::exit::EXIT_CODES;
use crate::daemon::MountSettings;

/// Names the mount where `--mount` does not.
pub(super) const MOUNT_VARIABLE: &str = "SECRETFS_MOUNT";

const EXAMPLES: &str = "\
Examples:
  secretfs mount /secrets                      # as root: serve everyone
  secretfs save DATABASE_URL postgresql://…    # or `-` for standard input, or nothing to be asked
  secretfs list
  cat /secrets/DATABASE_URL                    # any program reads a secret as a file
  secretfs acl grant DATABASE_URL readers payment-svc
  secretfs encrypt API_KEY > api-key.yaml      # sealed: safe in git
  secretfs save api-key.yaml";

const MOUNT_EXAMPLES: &str = "\
The encryption key comes from --encryption-key-file, OB_ENCRYPTION_KEY, or the systemd credential
`encryption-key`. If none of them is given, it is in /etc/secretfs/encryption-key (for a user other than root
$XDG_CONFIG_HOME/secretfs/encryption-key), which the first mount makes. Keep a copy of it.

Examples:
  secretfs mount                             # as root, on /secrets
  secretfs mount --check                     # is what a restart would read valid?
  secretfs mount ~/secrets --background      # an ordinary user, for oneself";

/// A filesystem of secrets: read them as files, deploy them as encrypted YAML.
///
/// The commands are clients of the mount and have no rights of their own: what you may do depends
/// on your user and on the six lists of each secret. When something is refused, `cat
/// /secrets/.status/last-error` tells why.
#[derive(Parser)]
#[command(name = "secretfs", version, after_help = EXAMPLES, after_long_help = long_help())]
pub(super) struct Secretfs {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// A filesystem of secrets, under its second name.
///
/// `oo secret <command>` is `secretfs <command>`.
#[derive(Parser)]
#[command(name = "oo", version, after_long_help = EXIT_CODES)]
pub(super) struct Oo {
    #[command(subcommand)]
    pub(super) group: OoGroup,
}

#[derive(Subcommand)]
pub(super) enum OoGroup {
    /// Save, list, read and remove secrets.
    Secret(Secret),
}

#[derive(Args)]
pub(super) struct Secret {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Args)]
pub(super) struct Global {
    /// Where secretfs is mounted [default: $SECRETFS_MOUNT, else /secrets]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        display_order = 900,
        value_hint = clap::ValueHint::DirPath
    )]
    mount: Option<PathBuf>,
}

impl Global {
    /// The mount that is named, if one is. Not by clap: to it a variable that is set is an argument
    /// that was given, and stands in every usage line.
    pub(super) fn mount(self) -> Option<PathBuf> {
        let variable = || std::env::var_os(MOUNT_VARIABLE).filter(|value| !value.is_empty());
        self.mount.or_else(|| variable().map(PathBuf::from))
    }
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Mount secretfs and serve it until a signal or an unmount ends it.
    #[command(after_help = MOUNT_EXAMPLES)]
    Mount(MountSettings),
    /// Serve a mount that `mount` holds; it starts this itself.
    #[command(hide = true)]
    Serve(MountSettings),
    /// Tell the kernel what a server says; `mount` starts this itself.
    #[command(hide = true)]
    Notify,
    /// Look up users and files for a server, which starts this itself.
    #[command(hide = true)]
    LookUp,
    /// Speak to etcd for a server, which starts this itself.
    #[command(hide = true)]
    Carry,
    Save(save::Args),
    Get(get::Args),
    Edit(edit::Args),
    List(list::Args),
    Read(read::Args),
    Remove(remove::Args),
    Encrypt(encrypt::Args),
    Recipient(recipient::Args),
    Reseal(reseal::Args),
    IsSecure(is_secure::Args),
    Acl(acl::Args),
    Audit(audit::Args),
    Verify(verify::Args),
    Textconv(textconv::Args),
    Convert(convert::Args),
    Exec(exec::Args),
    Watch(watch::Args),
    Whoami(whoami::Args),
    Keygen(keygen::Args),
    Rekey(rekey::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Fsck(fsck::Args),
    Migrate(migrate::Args),
    Unmount(unmount::Args),
    Upgrade(upgrade::Args),
    Reload(reload::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// How data is written to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

#[derive(Args)]
pub(super) struct Output {
    /// The form of what is written to standard output.
    #[arg(long = "output", short = 'o', value_enum, default_value_t, value_name = "FORM")]
    pub(super) format: Format,
}

fn long_help() -> String {
    format!("{EXAMPLES}\n\n{EXIT_CODES}")
}
