//! What the daemon says about itself and the caller.

use std::fs;
use std::io::{self, ErrorKind};

use serde::Deserialize;

use crate::model::{Caller, Slug, printable};

use super::{Client, ClientError};

impl Client {
    /// A file of `.status`.
    ///
    /// # Errors
    /// The mount failed.
    pub(in super::super) fn status(&self, file: &'static str) -> Result<String, ClientError> {
        fs::read_to_string(self.mount.join(".status").join(file))
            .map_err(self.refused("read", file))
    }

    /// Writes a command to a control file of `.status`.
    ///
    /// # Errors
    /// The mount failed, or the caller may not.
    pub(in super::super) fn command(
        &self,
        file: &'static str,
        command: &str,
    ) -> Result<(), ClientError> {
        fs::write(self.mount.join(".status").join(file), command)
            .map_err(self.refused("write to", file))
    }

    /// Who the caller is to the daemon.
    ///
    /// # Errors
    /// The mount failed or does not say it in a form that is known.
    pub(in super::super) fn caller(&self) -> Result<Caller, ClientError> {
        parse_caller(&self.status("whoami")?)
            .ok_or_else(|| ClientError::not_understood(".status/whoami"))
    }

    /// The daemon's own sentence about the caller's newest failure, if that failure was about
    /// `name` or a directory above it.
    pub(super) fn last_error(&self, error: &io::Error, name: &str) -> Option<String> {
        reason(&self.failures(error)?, name)
    }

    /// The daemon's own sentence about the caller's newest failure, whatever it was about.
    pub(super) fn newest_error(&self, error: &io::Error) -> Option<String> {
        let failures = self.failures(error)?;
        let (_time, newest) = failures.lines().next_back()?.split_once(' ')?;
        let (_operation, newest) = newest.split_once(' ')?;
        Some(newest.to_owned())
    }

    fn failures(&self, error: &io::Error) -> Option<String> {
        // Looking for what is not there is no failure to the daemon: an older one would be told.
        let unknown_to_daemon =
            [ErrorKind::NotFound, ErrorKind::NotConnected, ErrorKind::ConnectionAborted];
        if unknown_to_daemon.contains(&error.kind()) {
            return None;
        }
        fs::read_to_string(self.mount.join(".status/last-error")).ok()
    }
}

fn parse_caller(text: &str) -> Option<Caller> {
    #[derive(Deserialize)]
    struct Whoami {
        slug: Option<String>,
        slugs: Vec<String>,
        admin: bool,
    }
    let whoami: Whoami = serde_yaml::from_str(text).ok()?;
    let parse = |slug: &String| Slug::parse(slug).ok();
    let own = whoami.slug.as_ref().map(|slug| parse(slug).ok_or(())).transpose().ok()?;
    let slugs = whoami.slugs.iter().map(parse).collect::<Option<Vec<_>>>()?;
    Some(Caller::new(nix::unistd::getuid().as_raw(), own, slugs, whoami.admin))
}

/// The reason in the newest line, the last one: `TIME OPERATION PATH: REASON`.
fn reason(failures: &str, name: &str) -> Option<String> {
    let newest = failures.lines().next_back()?;
    let (_time, newest) = newest.split_once(' ')?;
    let (_operation, newest) = newest.split_once(' ')?;
    let name = printable(name);
    let paths = std::iter::successors(Some(&*name), |path| Some(path.rsplit_once('/')?.0));
    let reasons = paths.filter_map(|path| {
        let rest = newest.strip_prefix(path)?;
        rest.strip_prefix(".acl").unwrap_or(rest).strip_prefix(": ")
    });
    reasons.map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_whoami() {
        let own = |slug: &str, rest: &str| {
            let caller = parse_caller(&format!("slug: {slug}{rest}")).unwrap();
            caller.own_slug().map(ToString::to_string)
        };
        let rest = "\nslugs:\n- 007\n- uid:7\n- null\nadmin: false\n";
        assert_eq!(own("alice", rest).as_deref(), Some("alice"));
        assert_eq!(own("\"alice\"", rest).as_deref(), Some("alice"));
        assert_eq!(own("007", rest).as_deref(), Some("007"), "not the number 7");
        assert_eq!(own("null", rest), None);
        let caller = parse_caller("slug: root\nslugs: [root, \"uid:0\"]\nadmin: true\n").unwrap();
        assert!(caller.is_admin());
        for bad in ["", "slug: a b\nslugs: []\nadmin: false\n", "slug: a\nslugs: []\n"] {
            assert!(parse_caller(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn takes_the_newest_line_if_it_is_about_this() {
        let failures = "2026-11-24T03:52:00Z open alice/K: old\n\
                        2026-11-24T03:53:00Z unlink alice/K: you may not delete it; ask\n";
        for (name, told) in [
            ("alice/K", Some("you may not delete it; ask")),
            ("alice/K/below", Some("you may not delete it; ask")),
            ("alice", None),
            ("alice/KK", None),
            ("bob/K", None),
        ] {
            assert_eq!(reason(failures, name).as_deref(), told, "{name}");
        }
        assert_eq!(reason("t commit K.acl: no slug\n", "K").as_deref(), Some("no slug"));
        assert_eq!(reason("", "K"), None);
    }
}
