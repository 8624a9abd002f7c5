//! The command that is meant by the name that it has elsewhere.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What people type, and the command that does it.
const MEANT: &[(&[&str], &str)] = &[
    (&["ls", "dir", "keys", "find", "search"], "list"),
    (&["cat", "show", "print", "view", "value"], "get"),
    (&["set", "put", "add", "create", "new", "write", "insert", "import", "apply"], "save"),
    (&["rm", "delete", "del", "destroy", "unset"], "remove"),
    (&["vi", "vim", "nano", "change", "update"], "edit"),
    (&["seal", "crypt"], "encrypt"),
    (&["export", "dump"], "backup"),
    (&["grant", "allow", "share", "chmod", "setfacl"], "acl grant"),
    (&["deny", "unshare"], "acl revoke"),
    (&["getfacl", "permissions"], "acl show"),
    (&["log", "logs", "tail", "history"], "audit tail"),
    (&["umount", "stop", "down"], "unmount"),
    (&["start", "serve", "run", "up", "init", "daemon"], "mount"),
    (&["env"], "exec"),
    (&["id", "who", "login"], "whoami"),
    (&["status", "health", "secure"], "is-secure"),
    (&["rotate"], "rekey"),
    (&["lint", "validate"], "verify"),
    (&["check", "test"], "mount --check"),
    (&["completion"], "completions"),
];

/// Adds to the error of an unknown command the one that is meant.
pub(super) fn command(mut error: clap::Error) -> clap::Error {
    let named = match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(named))) => named.to_lowercase(),
        _ => return error,
    };
    if let Some((_, meant)) = MEANT.iter().find(|(names, _)| names.contains(&named.as_str())) {
        let meant = ContextValue::Strings(vec![(*meant).to_owned()]);
        error.insert(ContextKind::SuggestedSubcommand, meant);
    }
    error
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::args::Secretfs;

    #[test]
    fn the_command_that_is_meant_is_suggested() {
        let said = |line: &[&str]| {
            let words = [&["secretfs"], line].concat();
            command(Secretfs::try_parse_from(words).err().expect("it is wrong")).to_string()
        };
        for (line, tip) in [
            (&["rm", "K"][..], "'remove'"),
            (&["LS"], "'list'"),
            (&["lst"], "'list'"),
            (&["logs"], "'audit tail'"),
        ] {
            assert!(
                said(line).contains(&format!("a similar subcommand exists: {tip}")),
                "{line:?}"
            );
        }
        assert!(!said(&["zzzzzz"]).contains("tip"));
        assert!(!said(&["get"]).contains("tip"), "it is not about the command");
    }

    #[test]
    fn what_is_suggested_is_there_and_what_is_there_is_not_replaced() {
        let program = Secretfs::command();
        for (names, meant) in MEANT {
            let is_command =
                |name: &&str| program.find_subcommand(name).is_some_and(|it| !it.is_hide_set());
            assert!(meant.split(' ').take(1).all(|name| is_command(&name)), "{meant}");
            assert!(!names.iter().any(is_command), "{names:?}");
        }
    }
}
