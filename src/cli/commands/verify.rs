//! `verify`: documents without any key or mount.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::cli::documents;
use crate::cli::error::{CliError, Result};
use crate::cli::findings::{self, Finding, FindingsFormat};
use crate::cli::recipients;
use crate::cli::style;
use crate::crypto::{KeyId, Recipient, SealedValue};
use crate::document::{self, Document, DocumentValue, Field};
use crate::identity::Identities;
use crate::model::Key;

/// Check documents without a key and without a mount, for hooks and pipelines.
///
/// Checks the YAML, the fields, keys, ids, lists and checksums, that encrypted values have the form of a sealed
/// value of a known version, and that no two files of a directory give a value to the same key for the same
/// environment. --to also rejects values that are sealed for other recipients, --identities slugs that the identities file
/// does not know. Whether a value decrypts, only the daemon can tell. Exits 1 if something is wrong, with a line for each finding.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs verify secrets/
  secretfs verify --to production.recipient --identities identities.yaml secrets/production
  secretfs verify --output github secrets/
  secretfs verify --require-encrypted $(git diff --cached --name-only -- secrets/)")]
pub(in super::super) struct Args {
    /// YAML files, and directories of them.
    #[arg(required = true, value_name = "FILE", value_hint = clap::ValueHint::AnyPath)]
    files: Vec<PathBuf>,
    /// Values in the clear are findings too.
    #[arg(long)]
    require_encrypted: bool,
    /// Values that this recipient, or those in this file, cannot open are findings; may be repeated
    #[arg(long, value_name = "RECIPIENT|FILE", value_hint = clap::ValueHint::FilePath)]
    to: Vec<String>,
    /// Slugs in lists that this identities file does not know are findings
    ///
    /// Known are its slugs, teams and admins, and numbers (`uid:7`). Users and groups of the system are not.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    identities: Option<PathBuf>,
    /// The form of what is found.
    #[arg(long = "output", short = 'o', value_enum, default_value_t, value_name = "FORM")]
    format: FindingsFormat,
}

pub(in super::super) fn run(args: Args) -> Result {
    let checks = Checks::new(&args)?;
    let (mut found, mut files, mut count) = (Vec::new(), 0, 0);
    for argument in &args.files {
        let mut seen = Seen::default();
        let paths = match Path::is_dir(argument) {
            true => documents::find(argument)?,
            false => vec![argument.clone()],
        };
        for path in paths {
            files += 1;
            let name = path.display().to_string();
            match document::parse(&documents::load(&path)?) {
                Ok(documents) => {
                    count += documents.len();
                    for document in &documents {
                        checks.check(&name, document, &mut found);
                        seen.check(&name, document, &mut found);
                    }
                }
                Err(errors) => found.extend(errors.iter().map(|error| Finding {
                    file: name.clone(),
                    line: error.line(),
                    key: None,
                    message: error.problem().to_string(),
                })),
            }
        }
    }
    findings::report(&found, args.format)?;
    if args.format == FindingsFormat::Text {
        style::note(&format!("Nothing is wrong with {count} documents in {files} files."));
    }
    Ok(())
}

/// What is checked of each document by itself.
struct Checks {
    require_encrypted: bool,
    /// The keys that may open values; any, if none.
    keys: Vec<KeyId>,
    identities: Option<Identities>,
}

impl Checks {
    fn new(args: &Args) -> Result<Self> {
        let recipients = args.to.iter().map(|one| recipients::all(one));
        let recipients = recipients.collect::<Result<Vec<_>>>()?.concat();
        let identities = args.identities.as_deref().map(read_identities).transpose()?;
        if let (Some(first), true) = (args.to.first(), recipients.is_empty()) {
            return Err(CliError::NotOneRecipient(first.clone()));
        }
        let keys = recipients.iter().map(Recipient::key_id).collect();
        Ok(Self { require_encrypted: args.require_encrypted, keys, identities })
    }

    fn check(&self, file: &str, document: &Document, found: &mut Vec<Finding>) {
        let finding = |field, message| of(file, document, field, message);
        found.extend(self.check_value(document).map(|message| finding(Field::Value, message)));
        let Some(identities) = &self.identities else { return };
        for (list, slugs) in document.lists().iter() {
            let unknown = slugs.iter().filter(|slug| !identities.names(slug));
            found.extend(unknown.map(|slug| {
                let message = format!(
                    "`{slug}` in `{list}` is in no entry of the identities file; correct it, or add it there"
                );
                finding(Field::List(list), message)
            }));
        }
    }

    fn check_value(&self, document: &Document) -> Option<String> {
        let text = match document.value()? {
            DocumentValue::Plain(_) => {
                let in_the_clear = "the value is in the clear; encrypt it with `secretfs encrypt`";
                return self.require_encrypted.then(|| in_the_clear.to_owned());
            }
            DocumentValue::Sealed(text) => text,
        };
        match SealedValue::parse(text) {
            Err(error) => Some(error.to_string()),
            Ok(sealed) if self.keys.is_empty() || self.keys.contains(&sealed.key_id()) => None,
            Ok(sealed) => Some(format!(
                "the value is sealed for another recipient, that of the key {}; seal it with `secretfs encrypt --to`",
                sealed.key_id()
            )),
        }
    }
}

/// Where each value of a directory stands. Two environments may have the same key: values that different
/// encryption keys open are not for the same mount.
#[derive(Default)]
struct Seen(HashMap<(Key, Option<KeyId>), (String, usize)>);

impl Seen {
    fn check(&mut self, file: &str, document: &Document, found: &mut Vec<Finding>) {
        let environment = match document.value() {
            None => return,
            Some(DocumentValue::Plain(_)) => None,
            Some(DocumentValue::Sealed(text)) => {
                SealedValue::parse(text).ok().map(|sealed| sealed.key_id())
            }
        };
        let place = (file.to_owned(), document.line());
        if let Some((other, line)) = self.0.insert((document.key().clone(), environment), place) {
            let message = format!("it stands in {other}, line {line}, too; keep one of them");
            found.push(of(file, document, Field::Key, message));
        }
    }
}

fn of(file: &str, document: &Document, field: Field, message: String) -> Finding {
    let line = document.line_of(field).unwrap_or(document.line());
    Finding { file: file.to_owned(), line, key: Some(document.key().to_string()), message }
}

fn read_identities(path: &Path) -> Result<Identities> {
    let bytes = std::fs::read(path).map_err(CliError::file("read", path))?;
    Identities::parse(&bytes)
        .map_err(|source| CliError::Identities { path: path.to_owned(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;
    use crate::crypto::{Keyring, MasterKey};
    use crate::model::Plaintext;

    fn args(directory: &Path) -> Args {
        let (identities, format) = (None, FindingsFormat::Text);
        let files = vec![directory.to_owned()];
        Args { files, require_encrypted: false, to: Vec::new(), identities, format }
    }

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        directory
    }

    fn recipient(byte: u8) -> Recipient {
        let master = MasterKey::parse(&format!("{byte:02x}").repeat(32)).unwrap();
        Keyring::new(master, Vec::new()).recipient()
    }

    fn sealed(byte: u8, key: &str) -> String {
        let key = Key::parse(key).unwrap();
        let value = recipient(byte).seal(&key, &Plaintext::copy_of(b"hunter2"));
        format!("key: {key}\nencrypted: true\nvalue: {value}\n")
    }

    #[test]
    fn finds_what_cannot_be_sealed_values() {
        let upstream = "a37/KUAr4SOYi6Xw9i9T8qo3QCk8WvnzONo47jHAkwk=";
        for (value, finding) in [
            (upstream, "secretfs convert"),
            ("AAAA", "secretfs encrypt"),
            ("placeholder-value", "not base64"),
            ("c2ZzCQAA", "version 9"),
        ] {
            let text = format!("key: K\nencrypted: true\nvalue: {value}\n");
            let error = run(args(directory(&[("a.yaml", &text)]).path())).unwrap_err();
            assert_eq!(error.exit(), Exit::No);
            assert!(error.to_string().contains("a.yaml: line 3: `K`: "), "{error}");
            assert!(error.to_string().contains(finding), "{error}");
            assert!(!error.to_string().contains(value), "{error}");
        }
    }

    #[test]
    fn values_in_the_clear_are_found_on_request() {
        let text = "- key: K\n  value: hunter2\n- key: L\n  readers: [alice]\n";
        let directory = directory(&[("a.yaml", text)]);
        assert!(run(args(directory.path())).is_ok());
        let found = run(Args { require_encrypted: true, ..args(directory.path()) });
        let findings = found.unwrap_err().to_string();
        assert_eq!(findings.lines().count(), 1);
        assert!(
            findings.contains("`K`: the value is in the clear") && !findings.contains("hunter2")
        );
    }

    #[test]
    fn values_for_others_are_found_on_request() {
        let directory = directory(&[("a.yaml", &sealed(1, "A")), ("b.yaml", &sealed(2, "B"))]);
        assert!(run(args(directory.path())).is_ok());
        let to = |bytes: &[u8]| bytes.iter().map(|&byte| recipient(byte).to_string()).collect();
        assert!(run(Args { to: to(&[1, 2]), ..args(directory.path()) }).is_ok());
        let findings = run(Args { to: to(&[1]), ..args(directory.path()) }).unwrap_err();
        let (findings, exit) = (findings.to_string(), findings.exit());
        assert_eq!((findings.lines().count(), exit), (1, Exit::No), "{findings}");
        assert!(
            findings.contains("b.yaml: line 3: `B`: the value is sealed for another recipient")
        );
    }

    #[test]
    fn unknown_slugs_are_found_on_request() {
        let identities = directory(&[(
            "identities.yaml",
            "admins: [ops]\nidentities:\n- {slug: alice, uid: 2100, teams: [devops]}\n",
        )]);
        let text = "key: K\nreaders: [alice, devops, ops, uid:7]\n# more\nwriters:\n- alcie\n";
        let directory = directory(&[("a.yaml", text)]);
        let identities = identities.path().join("identities.yaml");
        let with = |path: PathBuf| run(Args { identities: Some(path), ..args(directory.path()) });
        let findings = with(identities.clone()).unwrap_err().to_string();
        assert_eq!(findings.lines().count(), 1, "{findings}");
        assert!(findings.contains("a.yaml: line 4: `K`: `alcie` in `writers` is in no entry"));
        std::fs::write(&identities, "admin: [ops]\n").unwrap();
        let error = with(identities).unwrap_err();
        assert_eq!(error.exit(), Exit::BadInput, "{error}");
        assert!(error.to_string().contains("identities.yaml"), "{error}");
    }

    #[test]
    fn one_key_for_one_environment_in_two_files_is_found() {
        let (ours, theirs) = (sealed(1, "K"), sealed(2, "K"));
        let with = |a: &str, b: &str| run(args(directory(&[("a/k.yaml", &ours), (a, b)]).path()));
        assert!(with("b/k.yaml", &theirs).is_ok());
        assert!(with("b/k.yaml", "key: K\nreaders: [a]\n").is_ok());
        let found = with("b/k.yaml", &format!("# same\n{ours}"));
        let findings = found.unwrap_err().to_string();
        assert!(findings.contains("b/k.yaml: line 2: `K`: it stands in "), "{findings}");
        assert!(findings.contains("a/k.yaml, line 1, too"), "{findings}");
        let directory = directory(&[("a.yaml", &ours)]);
        let twice = vec![directory.path().join("a.yaml"); 2];
        assert!(run(Args { files: twice, ..args(directory.path()) }).is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_no_finding() {
        let error = run(args(Path::new("missing.yaml"))).unwrap_err();
        assert_eq!(error.exit(), Exit::NotFound);
    }
}
