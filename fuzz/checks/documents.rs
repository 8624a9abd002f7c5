//! What callers drop into the mount: no bytes may stop the parser, and what it accepts must survive
//! being written and read again.

use secretfs::document::{
    Checksum, Document, DocumentErrors, DocumentValue, EditedFile, Emission, Layout, MAX_ERRORS,
    NewDocument, emit, parse,
};
use secretfs::model::{Acl, Key, Plaintext, SecretId};

pub(crate) fn check(bytes: &[u8]) {
    match parse(bytes) {
        Ok(documents) => {
            assert!(!documents.is_empty());
            again(&documents);
            edited(bytes, &documents);
        }
        Err(errors) => check_errors(bytes, &errors),
    }
}

/// Every error names a line that there is.
pub(crate) fn check_errors(bytes: &[u8], errors: &DocumentErrors) {
    let count = errors.iter().count();
    assert!((1..=MAX_ERRORS + 1).contains(&count));
    let lines = 1 + bytes.iter().filter(|&&byte| byte == b'\n').count();
    assert!(errors.iter().all(|error| (1..=lines).contains(&error.line())));
}

/// Every value can be replaced, and a document added, without a change of any other document: the editor checks
/// that itself.
fn edited(bytes: &[u8], documents: &[Document]) {
    const SEALED: &str = "c2ZzAQcGBQQDAgEAv7/9";
    let open = || EditedFile::parse(bytes.to_vec().into()).expect("it can be parsed");
    for (number, document) in documents.iter().enumerate().take(3) {
        let mut file = open();
        let algorithm = document.checksum().map(Checksum::algorithm);
        let checksum = algorithm.map(|algorithm| Checksum::of(algorithm, &Plaintext::default()));
        file.set_value(number, SEALED, checksum.as_ref());
        file.finish().expect("a value can be replaced");
        if matches!(document.value(), Some(DocumentValue::Sealed(_))) {
            let mut file = open();
            file.reseal(number, SEALED);
            file.finish().expect("a sealed value can be replaced");
        }
    }
    let key = Key::parse("\u{10ffff}/nobody/has/this").expect("it is a key");
    let id = Some(SecretId::from_random([7; 10]));
    let new = NewDocument { id, key, sealed: SEALED.to_owned(), checksum: None };
    open().finish_with(&[new]).expect("a document can be added");
}

/// Writes the documents as one list and reads them back.
fn again(documents: &[Document]) {
    let mut text = String::new();
    let mut written = Vec::new();
    for document in documents {
        let acl = Acl::default().patched(document.lists());
        let Some(value) = document.value() else { continue };
        let emission = Emission {
            id: document.id(),
            key: document.key(),
            value,
            checksum: document.checksum(),
            lists: Some(&acl),
        };
        emit(&emission, Layout::Item, &mut text).expect("a string takes all");
        written.push((document, acl));
    }
    if written.is_empty() {
        return;
    }
    let read = parse(text.as_bytes()).expect("what is written can be read");
    assert_eq!(read.len(), written.len());
    for (new, (old, acl)) in read.iter().zip(written) {
        assert!(new.key() == old.key() && new.id() == old.id());
        assert!(new.checksum() == old.checksum());
        assert!(Acl::default().patched(new.lists()) == acl);
        assert!(match (new.value(), old.value()) {
            (Some(DocumentValue::Plain(new)), Some(DocumentValue::Plain(old))) => new == old,
            (Some(DocumentValue::Sealed(new)), Some(DocumentValue::Sealed(old))) => new == old,
            _ => false,
        });
    }
}
