//! The recipients that `--to` names: as text, or in a file.

use std::fs::File;
use std::io::Read;

use crate::crypto::Recipient;

use super::error::{CliError, Result};

/// The most bytes that a file of recipients may have.
const MAX_BYTES: u64 = 1 << 20;

/// The one recipient that an argument names.
///
/// # Errors
/// The file cannot be read, or something in it is no recipient, or there is not exactly one.
pub(super) fn one(argument: &str) -> Result<Recipient> {
    let mut all = all(argument)?;
    match (all.pop(), all.is_empty()) {
        (Some(recipient), true) => Ok(recipient),
        (_, _) => Err(CliError::NotOneRecipient(argument.to_owned())),
    }
}

/// The recipients that an argument names: itself, or the lines of a file that are not empty and do not begin with
/// `#`.
///
/// # Errors
/// The file cannot be read, or something in it is no recipient.
pub(super) fn all(argument: &str) -> Result<Vec<Recipient>> {
    if Recipient::is_meant(argument) {
        let parsed = Recipient::parse(argument);
        return Ok(vec![parsed.map_err(|source| CliError::Recipient { at: None, source })?]);
    }
    let mut text = String::new();
    File::open(argument)
        .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
        .map_err(CliError::file("read the recipient", argument))?;
    let lines = (1..).zip(text.lines());
    let meant = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let recipients = meant.map(|(number, line)| {
        let at = Some(format!("{argument}: line {number}"));
        Recipient::parse(line).map_err(|source| CliError::Recipient { at, source })
    });
    recipients.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;
    use crate::crypto::{Keyring, MasterKey};

    fn recipient(byte: u8) -> Recipient {
        let master = MasterKey::parse(&format!("{byte:02x}").repeat(32)).unwrap();
        Keyring::new(master, Vec::new()).recipient()
    }

    #[test]
    fn an_argument_is_a_recipient_or_a_file_of_them() {
        let (one_, other) = (recipient(1), recipient(2));
        assert_eq!(one(&one_.to_string()).unwrap(), one_);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("recipients");
        let path = path.to_str().unwrap();
        std::fs::write(path, format!("# ours\n{one_}\r\n\n")).unwrap();
        assert_eq!(one(path).unwrap(), one_);
        std::fs::write(path, format!("{one_}\n{other}")).unwrap();
        assert_eq!(all(path).unwrap(), [one_.clone(), other]);
        assert_eq!(one(path).unwrap_err().exit(), Exit::BadInput);
        std::fs::write(path, format!("\n{}\n", &one_.to_string()[..99])).unwrap();
        let error = all(path).unwrap_err();
        assert!(error.to_string().contains("recipients: line 2: "), "{error}");
        assert_eq!(error.exit(), Exit::BadInput);
        std::fs::write(path, "").unwrap();
        assert_eq!(one(path).unwrap_err().exit(), Exit::BadInput);
        assert_eq!(one("missing").unwrap_err().exit(), Exit::NotFound);
    }
}
