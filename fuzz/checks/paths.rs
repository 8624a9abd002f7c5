//! Names: what is accepted is exactly what the contract accepts, and comes back as it was.

use secretfs::model::{Key, SecretId, Slug, is_temporary_name};

pub(crate) fn check(bytes: &[u8]) {
    let parsed = Key::parse_bytes(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        assert!(parsed.is_err(), "a key is UTF-8");
        return;
    };
    assert_eq!(parsed.is_ok(), is_key(text), "{text:?}");
    assert_eq!(Key::parse(text), parsed);
    assert_eq!(Key::check_directory(text).is_ok(), is_directory(text), "{text:?}");
    assert_eq!(Slug::parse(text).is_ok(), is_slug(text), "{text:?}");
    if let Ok(slug) = Slug::parse(text) {
        assert_eq!(slug.as_str(), text);
    }
    let is_id = (1..=64).contains(&text.len())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter));
    assert_eq!(SecretId::parse(text).is_ok(), is_id, "{text:?}");
    if let Ok(id) = SecretId::parse(text) {
        assert_eq!(id.as_str(), text);
    }
    if let Ok(key) = parsed {
        take_apart(&key, text);
    }
}

/// A key is what its parts make.
fn take_apart(key: &Key, text: &str) {
    assert_eq!(key.as_str(), text);
    let (directory, name) = (key.directory(), key.name());
    assert!(!name.is_empty() && !name.contains('/'));
    let joined = if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
    assert_eq!(joined, text);
    assert_eq!(Key::parse(&joined).as_ref(), Ok(key));
    let above: Vec<_> = key.ancestors().collect();
    assert_eq!(above.len(), text.matches('/').count());
    for (depth, directory) in above.iter().rev().enumerate() {
        assert!(text.starts_with(&format!("{directory}/")));
        assert_eq!(directory.matches('/').count(), depth);
        assert!(Key::check_directory(directory).is_ok(), "what holds a key can be a directory");
    }
    // Never out of the mount, and never a sidecar or a name with a meaning of its own.
    let path = std::path::Path::new("/mount").join(text);
    assert!(path.starts_with("/mount"));
    let parts = path.components().skip(2).map(|part| part.as_os_str().to_str().expect("UTF-8"));
    assert!(parts.eq(text.split('/')), "{text:?} is another path to the kernel");
    assert!(!text.ends_with(".acl") && !text.starts_with('.'));
}

/// Section 1 of the contract, once more.
fn is_directory(text: &str) -> bool {
    let is_component = |part: &str| {
        (1..=255).contains(&part.len())
            && !matches!(part, "." | "..")
            && !is_temporary_name(part)
            && part.chars().all(|letter| !letter.is_control())
    };
    text.len() <= 1024 && !text.starts_with('.') && text.split('/').all(is_component)
}

fn is_key(text: &str) -> bool {
    is_directory(text) && !text.ends_with(".acl")
}

fn is_slug(text: &str) -> bool {
    let is_name = (1..=64).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter));
    let number = ["uid:", "gid:"].iter().find_map(|kind| text.strip_prefix(kind));
    // A number has one spelling.
    let is_number = |digits: &str| digits.parse().is_ok_and(|n: u32| n.to_string() == digits);
    is_name || number.is_some_and(is_number)
}
