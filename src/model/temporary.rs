//! Names of temporary files. Such a file is kept in memory and never stored.

/// Forms that begin so.
const BEGINNINGS: [&str; 5] = [".#", ".tmp", ".goutputstream-", ".ansible_tmp", ".fuse_hidden"];
/// Forms that end so, with a name between the dot and the end.
const ENDINGS: [&str; 4] = ["~", ".tmp", ".lock", ".kate-swp"];
/// How many random characters mkstemp(3) puts at the end of a name.
const RANDOM_LENGTH: usize = 6;

/// Whether a component of a path, which can be a secret's, has a form that mkstemp(3) gives: `.K.abcdef`. A file that is
/// also created in the way of mkstemp(3) is a temporary one.
pub fn may_be_temporary_name(name: &str) -> bool {
    name.starts_with('.')
        && name.rsplit_once('.').is_some_and(|(before, end)| before.len() > 1 && is_mkstemp(end))
}

/// Whether a component of a path has the form of a temporary file of a common program (contract, section 4; the
/// guide lists the forms). Where a form could be the name of a secret as well, it is one: a secret that is taken
/// for a temporary file is lost, a temporary file that is taken for a secret is renamed like one.
///
/// A form can be removed from the list. It cannot be added: a stored secret may have such a name.
pub fn is_temporary_name(name: &str) -> bool {
    name.starts_with('.')
        && (BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
            || ENDINGS.iter().any(|end| name[1..].strip_suffix(end).is_some_and(|k| !k.is_empty()))
            || (name.starts_with(".~lock.") && name.ends_with('#'))
            || name.strip_prefix(".nfs").is_some_and(is_nfs_number)
            || name.rsplit_once('.').is_some_and(|(before, end)| {
                is_vim_swap(end) || (before.len() > 1 && is_random(end))
            }))
}

/// The kernel writes 24 digits.
fn is_nfs_number(text: &str) -> bool {
    text.len() >= 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `.swp`, and for further ones of the same file `.swo` down to `.swa`; `.swx` and `.swpx` are made for a moment.
fn is_vim_swap(end: &str) -> bool {
    matches!(end.as_bytes(), [b's', b'w', b'a'..=b'p' | b'x'] | b"swpx")
}

fn is_mkstemp(end: &str) -> bool {
    end.len() == RANDOM_LENGTH && end.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Six letters and digits with both cases among the letters, which are not one or two words with a number: so
/// `Xy1z2Q`, but not `docker`, `prod01`, `Prod01` or `MyProd`.
fn is_random(end: &str) -> bool {
    is_mkstemp(end)
        && end.bytes().any(|byte| byte.is_ascii_uppercase())
        && end.bytes().any(|byte| byte.is_ascii_lowercase())
        && !is_words(end.trim_end_matches(|digit: char| digit.is_ascii_digit()).as_bytes())
}

/// Whether these are one or two words, each of which may begin with a capital.
fn is_words(letters: &[u8]) -> bool {
    letters.iter().all(u8::is_ascii_alphabetic)
        && letters.last().is_some_and(u8::is_ascii_lowercase)
        && letters.windows(2).all(|pair| !pair.iter().all(u8::is_ascii_uppercase))
        && letters.iter().skip(1).filter(|letter| letter.is_ascii_uppercase()).count() <= 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Key, KeyError};

    #[test]
    fn tells_temporary_files_from_secrets() {
        for name in [
            ".K.swp",
            ".K.swo",
            ".K.swa",
            ".K.swx",
            ".K.swpx",
            ".swp",
            ".env.swp", // vim
            ".#K",
            ".#.env", // Emacs
            ".K.Xy1z2Q",
            ".env.Xy1z2Q",
            ".env.local.a1B2c3",
            ".K.AbCdEf",
            ".K.1aBcde",
            ".K.xYZabc", // rsync
            ".~lock.K#",
            ".~lock..env#", // LibreOffice
            ".goutputstream-Z1XY2W",
            ".ansible_tmpq1w2e3K",
            ".tmp",
            ".tmpAbC123",
            ".tmp-K", // by their beginning
            ".K.tmp",
            ".K.lock",
            ".K~",
            ".K.un~",
            ".K.kate-swp",
            ".fuse_hidden0000000100000001",
            ".nfs000000000005f1a200000001",
        ] {
            assert!(is_temporary_name(name), "{name}");
        }
        for name in [
            ".env",
            ".pgpass",
            ".htpasswd",
            ".dockerconfigjson",
            ".netrc",
            ".bashrc",
            ".ssh",
            ".my.cnf",
            ".env.local",
            ".env.staging",
            ".env.docker",
            ".env.DOCKER",
            ".env.Docker",
            ".env.prod01",
            ".env.PROD01",
            ".env.Prod01",
            ".env.MyProd",
            ".env.devEnv",
            ".env.202611",
            ".config.secret",
            ".env.k8sdev",
            ".env.2ndone",
            ".env.Xy1z2",
            ".env.Xy1z2Q3",
            ".env.Xy1z2_",
            ".env.Xÿz2Q",
            "..Xy1z2Q",
            ".Xy1z2Q",
            ".lock",
            "..lock",
            ".~",
            ".K.swq",
            ".K.svg",
            ".K.sql",
            ".K.bak",
            ".K.orig",
            ".nfsaccess",
            ".nfs",
            ".nfsdb",
            ".~lock.K",
            ".temp",
            ".é",
            "..",
            // Without a dot at its beginning every name is a secret's.
            "K",
            "K~",
            "#K#",
            "K.swp",
            "K.tmp",
            "sedXy1z2Q",
            "tmpXy1z2Q",
            "4913",
            "",
            "~",
        ] {
            assert!(!is_temporary_name(name), "{name}");
        }
    }

    #[test]
    fn knows_what_mkstemp_may_make() {
        for name in [".K.abcdef", ".env.prod01", ".K.Xy1z2Q", ".a.b.123456", "..x.abcdef"] {
            assert!(may_be_temporary_name(name), "{name}");
        }
        for name in
            [".abcdef", "..abcdef", "K.abcdef", ".K.abcde", ".K.abcdefg", ".K.abcde_", ".env"]
        {
            assert!(!may_be_temporary_name(name), "{name}");
        }
    }

    /// What a name needs to be one of mkstemp(3) is what most of its names have.
    #[test]
    fn recognises_most_random_names() {
        let letters: Vec<u8> = (b'0'..=b'z').filter(u8::is_ascii_alphanumeric).collect();
        let mut state = 1_u64;
        let mut name = || {
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                letters[(state >> 33) as usize % letters.len()] as char
            };
            format!(".K.{}", (0..6).map(|_| random()).collect::<String>())
        };
        let found = (0..10_000).filter(|_| is_temporary_name(&name())).count();
        assert!((8_000..9_500).contains(&found), "{found} of 10,000");
    }

    proptest! {
        /// A name is either a secret's or a temporary file's.
        #[test]
        fn no_temporary_name_is_in_a_key(name in r"\.?[.~#]?[a-zA-Z0-9_]{0,6}[.~#-]?[a-zA-Z0-9]{0,7}[~#]?", below in any::<bool>()) {
            prop_assume!(!name.is_empty() && !matches!(&*name, "." | ".."));
            let path = format!("a/{name}{}", if below { "/K" } else { "" });
            let expected = match is_temporary_name(&name) {
                true => Err(KeyError::TemporaryName),
                false => Ok(path.clone()),
            };
            prop_assert_eq!(Key::parse(&path).map(|key| key.to_string()), expected);
        }
    }
}
