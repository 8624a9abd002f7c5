//! The command line, as mount(8) writes it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::error::HelperError;

/// What the helper was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Help,
    Version,
    Mount(Mount),
}

/// A mount that was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) point: PathBuf,
    /// The values of all `-o`, in order.
    pub(crate) options: Vec<OsString>,
    /// `-s`: ignore unknown options.
    pub(crate) sloppy: bool,
    /// `-f`: check and do nothing.
    pub(crate) fake: bool,
    /// `-v`: show what is done.
    pub(crate) verbose: bool,
}

/// The source, as the kernel shows it in the table of mounts.
const SOURCE: &str = "secretfs";

impl Request {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// They have none of the forms that [`crate`] lists.
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, HelperError> {
        let mut mount = Mount::default();
        let mut positional = Vec::new();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_bytes() {
                b"--help" | b"-h" => return Ok(Self::Help),
                b"--version" | b"-V" => return Ok(Self::Version),
                [b'-', letters @ ..] if !letters.is_empty() => {
                    read_letters(letters, &argument, &mut arguments, &mut mount)?;
                }
                _ => positional.push(argument),
            }
        }
        let mut positional = positional.into_iter();
        let source = positional.next().ok_or(HelperError::Missing)?;
        mount.point = positional.next().ok_or(HelperError::Missing)?.into();
        if let Some(extra) = positional.next() {
            return Err(HelperError::Extra(extra.to_string_lossy().into_owned()));
        }
        if source != SOURCE {
            return Err(HelperError::Source(source.to_string_lossy().into_owned()));
        }
        Ok(Self::Mount(mount))
    }
}

/// Letters that may stand together; the value of one that has a value is the rest or what follows.
fn read_letters(
    letters: &[u8],
    argument: &OsStr,
    following: &mut impl Iterator<Item = OsString>,
    mount: &mut Mount,
) -> Result<(), HelperError> {
    for (position, &letter) in letters.iter().enumerate() {
        match letter {
            b's' => mount.sloppy = true,
            b'f' => mount.fake = true,
            b'v' => mount.verbose = true,
            b'n' => {}
            b'N' => return Err(HelperError::Namespace),
            b'o' | b't' => {
                let rest = &letters[position + 1..];
                let value = if rest.is_empty() {
                    following.next().ok_or(HelperError::Value(char::from(letter)))?
                } else {
                    OsString::from_vec(rest.to_vec())
                };
                if letter == b'o' {
                    mount.options.push(value);
                }
                return Ok(());
            }
            _ => return Err(HelperError::Flag(argument.to_string_lossy().into_owned())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, HelperError> {
        Request::parse(line.split_whitespace().map(OsString::from))
    }

    fn mount(line: &str) -> Mount {
        match parse(line) {
            Ok(Request::Mount(mount)) => mount,
            other => panic!("`{line}` gave {other:?}"),
        }
    }

    #[test]
    fn the_forms_that_mount_writes() {
        let plain = Mount { point: "/secrets".into(), ..Mount::default() };
        assert_eq!(mount("secretfs /secrets"), plain);
        for line in [
            "secretfs /secrets -o rw,a=b",
            "-o rw,a=b secretfs /secrets",
            "secretfs -orw,a=b /secrets",
        ] {
            assert_eq!(mount(line).options, ["rw,a=b"], "{line}");
        }
        let all = mount("secretfs /secrets -sfnv -o rw -o ro -t fuse.secretfs");
        assert_eq!(all.options, ["rw", "ro"]);
        assert!(all.sloppy && all.fake && all.verbose);
        assert_eq!(mount("secretfs /secrets -vo rw").options, ["rw"]);
        assert_eq!(parse("--help").unwrap(), Request::Help);
        assert_eq!(parse("secretfs -V").unwrap(), Request::Version);
    }

    #[test]
    fn what_is_none_of_them_is_refused_with_1() {
        for line in [
            "",
            "secretfs",
            "secretfs /a /b",
            "secretfs /a -x",
            "secretfs /a --sloppy",
            "secretfs /a -o",
            "secretfs /a -t",
            "secretfs /a -N 1",
            "none /a",
        ] {
            assert_eq!(parse(line).unwrap_err().exit(), 1, "`{line}`");
        }
    }
}
