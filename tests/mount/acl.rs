//! The six lists, as a sidecar shows them.

use std::collections::BTreeMap;

use crate::user::User;

/// The names of the lists, in the order of the contract.
pub(crate) const LISTS: [&str; 6] =
    ["readers", "writers", "deleters", "canChangeReaders", "canChangeWriters", "canChangeDeleters"];

/// The lists of a secret by name.
pub(crate) type Lists = BTreeMap<String, Vec<String>>;

/// Parses what a sidecar gave; all six must be there, in their order.
pub(crate) fn parse_lists(text: &str) -> Lists {
    let lists: serde_yaml::Mapping = serde_yaml::from_str(text)
        .unwrap_or_else(|error| panic!("a sidecar is a YAML mapping ({error}):\n{text}"));
    let names: Vec<_> = lists.keys().filter_map(|name| name.as_str()).collect();
    assert_eq!(names, LISTS, "a sidecar has the six lists in their order");
    serde_yaml::from_value(serde_yaml::Value::Mapping(lists)).expect("lists of slugs")
}

/// What all six lists are if they hold just these slugs.
pub(crate) fn all_six(slugs: &[&str]) -> Lists {
    let slugs: Vec<String> = slugs.iter().map(|&slug| slug.to_owned()).collect();
    LISTS.iter().map(|&list| (list.to_owned(), slugs.clone())).collect()
}

impl User {
    /// The lists of a secret, which this user must be allowed to see.
    #[track_caller]
    pub(crate) fn lists(&self, key: &str) -> Lists {
        let sidecar = format!("{key}.acl");
        let text = self.read(&sidecar);
        parse_lists(&text.unwrap_or_else(|errno| panic!("{sidecar} could not be read: {errno}")))
    }

    /// Makes a secret with these lists, given as a YAML document; directories as needed. For admins.
    #[track_caller]
    pub(crate) fn put(&self, key: &str, value: impl AsRef<[u8]>, lists: &str) {
        for (slash, _) in key.match_indices('/') {
            // It may be there already.
            let _ = self.mkdir(&key[..slash]);
        }
        assert_eq!(self.write(key, value), Ok(()), "creating {key}");
        if !lists.is_empty() {
            assert_eq!(self.write(&format!("{key}.acl"), lists), Ok(()), "the lists of {key}");
        }
    }

    /// Puts `slugs` into one list and empties the others. For admins.
    #[track_caller]
    pub(crate) fn only_list(&self, key: &str, list: &str, slugs: &str) {
        let document: String = LISTS
            .iter()
            .map(|&name| format!("{name}: [{}]\n", if name == list { slugs } else { "" }))
            .collect();
        assert_eq!(self.write(&format!("{key}.acl"), document), Ok(()), "the lists of {key}");
    }
}
