//! What `-o` takes.
//!
//! - **Settings**: every flag of `secretfs mount`, with `_` or `-` between its words; the last one
//!   wins. The mountpoint, `background`, which a helper always does, and `check`, which mounts nothing, are not settings here.
//! - **`ro`, `rw`**: whether anything can be changed through this mount.
//! - **`remount`**: changes `ro` or `rw` of a mount that is there, and nothing else.
//! - **Ignored**: what is meant for the kernel, mount(8) or systemd, and is so or so for every mount
//!   of secretfs: it is always `nosuid,nodev,noexec,noatime`, and for all users if root mounts.
//! - Anything else is unknown, and named.
//!
//! A value that holds a comma is written in double quotes, as everywhere in mount(8).

use std::any::TypeId;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::ArgAction;
use clap::{Arg, Args};
use secretfs::daemon::MountSettings;

use crate::error::HelperError;

/// For mount(8), systemd or the kernel alone.
const IGNORED: [&str; 36] = [
    "defaults",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "comment",
    "silent",
    "loud",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "sync",
    "async",
    "dirsync",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
];

/// The same with a prefix.
const IGNORED_PREFIXES: [&str; 2] = ["x-", "X-"];

/// Flags of the program that are no options of a mount.
const NO_OPTIONS: [&str; 3] = ["background", "check", "help"];

/// The options of a mount, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Flags of `secretfs mount`, each in one argument.
    pub(crate) flags: Vec<OsString>,
    pub(crate) read_only: bool,
    pub(crate) remount: bool,
}

impl Options {
    /// Sorts the values of all `-o`; unknown options are left out if `sloppy`.
    ///
    /// # Errors
    /// Unknown options, all of them named; or one that lacks a value, or has one too many.
    pub(crate) fn sort(values: &[OsString], sloppy: bool) -> Result<Self, HelperError> {
        let known = settings();
        let mut options = Self::default();
        let mut flags = BTreeMap::new();
        let mut unknown = Vec::new();
        for value in values {
            let value = value.to_str().ok_or(HelperError::NotText)?;
            for (name, value) in split(value) {
                match name.as_str() {
                    "ro" => options.read_only = true,
                    "rw" => options.read_only = false,
                    "remount" => options.remount = true,
                    // Root's mounts are for all users anyway.
                    "allow_other" if nix::unistd::geteuid().is_root() => {}
                    name if is_ignored(name) => {}
                    name => match known.get(&name.replace('_', "-")) {
                        Some(setting) => {
                            let flag = setting.flag(name, value)?;
                            flags.insert(name.replace('_', "-"), flag);
                        }
                        None => unknown.push(name.to_owned()),
                    },
                }
            }
        }
        if !unknown.is_empty() && !sloppy {
            return Err(HelperError::Unknown(unknown));
        }
        options.flags = flags.into_values().collect();
        Ok(options)
    }
}

/// What a flag of `secretfs mount` takes.
#[derive(Clone, Copy)]
enum Setting {
    Nothing,
    Path,
    Text,
}

impl Setting {
    fn of(argument: &Arg) -> Self {
        if !matches!(argument.get_action(), ArgAction::Set | ArgAction::Append) {
            Self::Nothing
        } else if argument.get_value_parser().type_id() == TypeId::of::<PathBuf>() {
            Self::Path
        } else {
            Self::Text
        }
    }

    fn flag(self, name: &str, value: Option<String>) -> Result<OsString, HelperError> {
        let long = name.replace('_', "-");
        let value = match (self, value) {
            (Self::Nothing, None) => return Ok(format!("--{long}").into()),
            (Self::Nothing, Some(_)) => return Err(HelperError::NoValue(name.to_owned())),
            (_, None) => return Err(HelperError::NeedsValue(name.to_owned())),
            (_, Some(value)) if value.is_empty() => {
                return Err(HelperError::NeedsValue(name.to_owned()));
            }
            (Self::Text, Some(value)) => value.into(),
            // The daemon does not stay in the directory where mount(8) was called.
            (Self::Path, Some(value)) => std::path::absolute(value)
                .map_err(|_| HelperError::NeedsValue(name.to_owned()))?
                .into_os_string(),
        };
        let mut flag = OsString::from(format!("--{long}="));
        flag.push(value);
        Ok(flag)
    }
}

/// The flags of `secretfs mount`, from their definition, so that none is forgotten here.
fn settings() -> BTreeMap<String, Setting> {
    MountSettings::augment_args(clap::Command::new("mount"))
        .get_arguments()
        .filter_map(|argument| Some((argument.get_long()?.to_owned(), Setting::of(argument))))
        .filter(|(name, _)| !NO_OPTIONS.contains(&name.as_str()))
        .collect()
}

fn is_ignored(name: &str) -> bool {
    IGNORED.contains(&name) || IGNORED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Cuts at commas outside double quotes into names and values.
fn split(options: &str) -> Vec<(String, Option<String>)> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for character in options.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => parts.push(String::new()),
            _ => parts.last_mut().expect("there is one from the start").push(character),
        }
    }
    let pair = |part: String| match part.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (part, None),
    };
    parts.into_iter().filter(|part| !part.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sort(text: &str) -> Result<Options, HelperError> {
        Options::sort(&[text.into()], false)
    }

    #[test]
    fn settings_are_flags_with_either_dash() {
        for (text, flag) in [
            ("state_dir=/a", "--state-dir=/a"),
            ("state-dir=/a", "--state-dir=/a"),
            ("config=/c", "--config=/c"),
            ("identities=/i", "--identities=/i"),
            ("encryption_key_file=/k", "--encryption-key-file=/k"),
            ("previous_encryption_key_file=/k", "--previous-encryption-key-file=/k"),
            ("list_acl", "--list-acl"),
            ("fscontext=a:b:c", "--fscontext=a:b:c"),
            ("context=\"a:b:c:s0:c1,c2\"", "--context=a:b:c:s0:c1,c2"),
            ("defcontext=a:b:c", "--defcontext=a:b:c"),
            ("rootcontext=a:b:c", "--rootcontext=a:b:c"),
            ("threads=2", "--threads=2"),
            ("rw,state_dir=\"/a,b\",nofail", "--state-dir=/a,b"),
            ("state_dir=/a,state-dir=/b", "--state-dir=/b"),
            ("state_dir=/a=b", "--state-dir=/a=b"),
        ] {
            let sorted = sort(text).unwrap();
            assert_eq!(sorted.flags, [flag], "{text}");
        }
        let relative = sort("state_dir=a").unwrap();
        assert!(relative.flags[0].to_str().unwrap().starts_with("--state-dir=/"));
    }

    #[test]
    fn what_is_for_others_is_ignored() {
        let text = "rw,defaults,noauto,user,nofail,_netdev,noatime,nosuid,nodev,noexec,relatime,\
                    x-systemd.automount,x-systemd.idle-timeout=60,X-mount.mkdir,comment=mine,,";
        assert_eq!(sort(text).unwrap(), Options::default());
    }

    #[test]
    fn the_last_of_ro_and_rw_counts() {
        assert!(sort("ro").unwrap().read_only);
        assert!(!sort("ro,rw").unwrap().read_only);
        let values = ["rw".into(), "remount,ro".into()];
        let sorted = Options::sort(&values, false).unwrap();
        assert!(sorted.read_only && sorted.remount);
    }

    #[test]
    fn unknown_options_are_all_named_unless_sloppy() {
        for text in ["colour=red,list_acl,uid=5", "nofail,colour=red,uid=5"] {
            let error = sort(text).unwrap_err();
            let said = error.to_string();
            assert!(said.contains("`colour`") && said.contains("`uid`"), "{said}");
            assert_eq!(error.exit(), 1);
        }
        let sloppy = Options::sort(&["colour=red,list_acl".into()], true).unwrap();
        assert_eq!(sloppy.flags, ["--list-acl"]);
        for text in ["background", "check", "mountpoint=/a", "help", "default_permissions"] {
            assert!(matches!(sort(text), Err(HelperError::Unknown(_))), "{text}");
        }
    }

    #[test]
    fn a_value_that_is_missing_or_too_much_is_named() {
        assert!(matches!(sort("list_acl=yes"), Err(HelperError::NoValue(_))));
        assert!(matches!(sort("state_dir"), Err(HelperError::NeedsValue(_))));
        assert!(matches!(sort("state_dir="), Err(HelperError::NeedsValue(_))));
    }
}
