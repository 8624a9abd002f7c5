//! `save`: a value, a file of documents, or a directory of them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{dry_run, import};
use crate::cli::client::Client;
use crate::cli::completion;
use crate::cli::documents::{self, DocumentFile};
use crate::cli::error::Result;
use crate::cli::style;
use crate::cli::value::ValueArgs;
use crate::model::{Caller, Key, KeyError, may_create};

/// Save a value under a key, or the documents of a YAML file or directory.
///
/// With a single argument: a file or directory of that name is applied; a name that ends in .yaml,
/// .yml or `/` must be one; `-` takes documents from standard input; anything else is a key, and
/// you are asked for its value.
///
/// Who is not an admin creates secrets below the own slug: `save K v` by alice saves `alice/K`,
/// unless there is a `K` that she may write. Where there is one that she may only see, she is warned.
///
/// A file is applied whole or not at all. Every file of a directory is checked before the first is
/// applied, and then each is applied by itself.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs save DATABASE_URL postgresql://user:pass@host/db
  secretfs save API_KEY                         # asks, without echo
  openssl rand -base64 32 | secretfs save JWT_SECRET - --trim
  secretfs save TLS_KEY --from-file server.key
  secretfs save secrets/production/ --dry-run   # what would change, never a value
  secretfs save secrets/production/")]
pub(in super::super) struct Args {
    /// The key of the value, or a YAML file or a directory of them.
    #[arg(value_name = "KEY|FILE|DIR", add = completion::keys_and_files())]
    source: OsString,
    #[command(flatten)]
    value: ValueArgs,
    /// Change nothing; tell what would be created, updated, left as it is, or denied.
    #[arg(long)]
    dry_run: bool,
}

enum Source {
    /// Under a key that may lack the caller's own slug.
    Value(String),
    Stdin,
    File(PathBuf),
    Directory(PathBuf),
}

pub(in super::super) fn run(client: &Client, args: Args) -> Result {
    match source(args.source, args.value.is_given())? {
        Source::Value(key) => save_value(client, &key, args.value, args.dry_run),
        Source::Stdin => save_files(client, vec![DocumentFile::stdin()?], args.dry_run),
        Source::File(path) => save_files(client, vec![DocumentFile::open(&path)?], args.dry_run),
        Source::Directory(path) => {
            let files = documents::open_all(&documents::find(&path)?)?;
            documents::check_distinct(&files)?;
            save_files(client, files, args.dry_run)
        }
    }
}

fn source(argument: OsString, has_value: bool) -> Result<Source> {
    let path = Path::new(&argument);
    let must_be_path = documents::is_yaml(path) || argument.as_encoded_bytes().ends_with(b"/");
    Ok(if has_value {
        Source::Value(checked(&argument.to_string_lossy())?)
    } else if argument == "-" {
        Source::Stdin
    } else if path.is_dir() {
        Source::Directory(path.to_owned())
    } else if path.exists() || must_be_path {
        Source::File(path.to_owned())
    } else {
        Source::Value(checked(&argument.to_string_lossy())?)
    })
}

/// A key, or a name that is one with a slug before it.
fn checked(text: &str) -> Result<String> {
    match Key::parse(text) {
        Err(KeyError::LeadingDot) => {}
        _ => drop(super::parse_key(text)?),
    }
    Ok(text.to_owned())
}

fn save_value(client: &Client, named: &str, value: ValueArgs, dry_run: bool) -> Result {
    let key = key_to_save(client, named)?;
    let value = value.take()?;
    if dry_run {
        let proposal = dry_run::Proposal::value(&key, &value);
        return dry_run::report(client, &client.caller()?, &[proposal]);
    }
    client.write(&key, &value)?;
    style::note(&format!("Saved `{key}`."));
    Ok(())
}

/// The key under which the caller saves what is named so.
pub(super) fn key_to_save(client: &Client, named: &str) -> Result<Key> {
    let named = &checked(named)?;
    let key = with_own_slug(&client.caller()?, named, |key| client.may_write(key))?;
    if key.as_str() != named && Key::parse(named).is_ok_and(|named| client.may_see(&named)) {
        style::warn(&format!("you may not write `{named}`; `{key}` is another secret, your own"));
    }
    Ok(key)
}

fn save_files(client: &Client, files: Vec<DocumentFile>, dry_run: bool) -> Result {
    if dry_run {
        let documents = files.iter().flat_map(|file| &file.documents);
        let proposals: Vec<_> = documents.map(dry_run::Proposal::document).collect();
        return dry_run::report(client, &client.caller()?, &proposals);
    }
    import::apply(client, &files)
}

/// The key under which the caller saves: with the own slug in front where it is missing. A secret
/// of exactly this name that the caller may write is meant itself.
fn with_own_slug(
    caller: &Caller,
    named: &str,
    may_write: impl FnOnce(&Key) -> bool,
) -> Result<Key> {
    match caller.own_slug() {
        Some(own)
            if !caller.is_admin()
                && may_create(caller, named).is_err()
                && !Key::parse(named).is_ok_and(|key| may_write(&key)) =>
        {
            super::parse_key(&format!("{own}/{named}"))
        }
        _ => super::parse_key(named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;
    use crate::model::Slug;

    #[test]
    fn puts_the_own_slug_in_front_where_it_is_missing() {
        let caller = |own: Option<&str>, admin| {
            Caller::new(2100, own.map(|own| Slug::parse(own).unwrap()), [], admin)
        };
        let alice = caller(Some("alice"), false);
        for (caller, given, writable, saved) in [
            (&alice, "K", false, "alice/K"),
            (&alice, "alice/K", false, "alice/K"),
            (&alice, "alice/sub/K", false, "alice/sub/K"),
            (&alice, ".env", false, "alice/.env"),
            (&alice, "alice", false, "alice/alice"),
            (&alice, "alicea/K", false, "alice/alicea/K"),
            (&alice, "bob/alice/K", false, "alice/bob/alice/K"),
            (&alice, "shared/K", true, "shared/K"),
            (&caller(Some("root"), true), "K", false, "K"),
            (&caller(None, false), "K", false, "K"),
        ] {
            let key = with_own_slug(caller, given, |_| writable).unwrap();
            assert_eq!(key.as_str(), saved);
        }
        let root = caller(Some("root"), true);
        assert_eq!(with_own_slug(&root, ".env", |_| false).unwrap_err().exit(), Exit::BadInput);
        let long = ["x".repeat(250).as_str(); 4].join("/") + "/" + &"y".repeat(18);
        assert_eq!(with_own_slug(&alice, &long, |_| false).unwrap_err().exit(), Exit::BadInput);
    }

    #[test]
    fn tells_keys_from_files() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("K");
        std::fs::write(&file, "").unwrap();
        let is = |argument: &Path, has_value| source(argument.into(), has_value).unwrap();
        assert!(matches!(is(directory.path(), false), Source::Directory(_)));
        assert!(matches!(is(&file, false), Source::File(_)));
        assert!(matches!(is(Path::new("missing.yaml"), false), Source::File(_)));
        assert!(matches!(is(Path::new("missing/"), false), Source::File(_)));
        assert!(matches!(is(Path::new("-"), false), Source::Stdin));
        assert!(matches!(is(Path::new("API_KEY"), false), Source::Value(_)));
        assert!(matches!(is(Path::new("missing.yaml"), true), Source::Value(_)));
        assert!(matches!(is(Path::new(".env"), true), Source::Value(_)));
        assert!(source(file.into(), true).is_err(), "a path is not a key");
        assert!(source(".K.swp".into(), true).is_err(), "a temporary file is no secret");
    }
}
