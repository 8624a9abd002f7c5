//! What callers write into `<key>.acl`: no bytes may stop the parser, and what it accepts is what
//! stands there afterwards.

use secretfs::document::{emit_lists, parse_lists};
use secretfs::model::{Acl, ListName, Slug};

use super::documents::check_errors;

pub(crate) fn check(bytes: &[u8]) {
    let patch = match parse_lists(bytes) {
        Ok(patch) => patch,
        Err(errors) => return check_errors(bytes, &errors),
    };
    assert!(!patch.is_empty(), "a document that names no list is refused");
    let before = Acl::all_of(&Slug::parse("stays").expect("it is a slug"));
    let after = before.patched(&patch);
    for list in ListName::ALL {
        let expected = patch.list(list).unwrap_or(before.list(list));
        assert!(after.list(list) == expected, "{list}: what is not named stays");
    }
    let text = emit_lists(&after);
    for slug in after.iter().flat_map(|(_, list)| list) {
        assert_eq!(Slug::parse(slug.as_str()).as_ref(), Ok(slug));
    }
    let again = parse_lists(text.as_bytes()).expect("what is shown can be written back");
    assert!(ListName::ALL.into_iter().all(|list| again.list(list).is_some()), "all six are shown");
    assert_eq!(after.differing(&before.patched(&again)).count(), 0);
    // The order is the writer's.
    assert_eq!(emit_lists(&Acl::default().patched(&again)), text);
}
