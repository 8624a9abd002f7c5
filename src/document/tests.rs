//! Documents from text and back.

use super::*;
use crate::model::{Acl, Key, ListName, MAX_VALUE_BYTES, Plaintext, SecretId, Slug, SlugList};
use proptest::prelude::*;

fn errors(text: &str) -> Vec<String> {
    let errors = parse(text.as_bytes()).err().unwrap_or_else(|| panic!("accepted: {text:?}"));
    errors.iter().map(ToString::to_string).collect()
}

fn one(text: &str) -> Document {
    let mut documents =
        parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{text:?}: {errors}"));
    assert_eq!(documents.len(), 1, "{text:?}");
    documents.remove(0)
}

fn plain(document: &Document) -> &[u8] {
    match document.value() {
        Some(DocumentValue::Plain(value)) => value.expose(),
        _ => panic!("no plain value"),
    }
}

fn slugs(names: &[&str]) -> SlugList {
    names.iter().map(|name| Slug::parse(name).unwrap()).collect()
}

#[test]
fn reads_a_whole_document() {
    let text = r#"# production-api-key.yaml
id: "secr_prod_api_001"
key: "PRODUCTION_API_KEY"
value: "a37/KUAr4SOYi6Xw9i9T8qo3QCk8WvnzONo47jHAkwk="
encrypted: true
checksum: "45a3b25f"
checksumAlgorithm: "CRC32"
# Access control
readers:
- "payment-svc"
- "order-svc"
- "admin-team"
writers:
- "admin-team"
- "devops-team"
deleters:
- "admin-team"
# Permission management
canChangeReaders:
- "admin-team"
canChangeWriters:
- "admin-team"
canChangeDeleters:
- "admin-team"
"#;
    let mut document = one(text);
    assert_eq!(document.id().map(SecretId::as_str), Some("secr_prod_api_001"));
    assert_eq!(document.key().as_str(), "PRODUCTION_API_KEY");
    assert_eq!(document.checksum().map(Checksum::as_str), Some("45a3b25f"));
    assert_eq!(
        document.lists().list(ListName::Readers),
        Some(&slugs(&["payment-svc", "order-svc", "admin-team"]))
    );
    assert_eq!(document.lists().iter().count(), 6);
    assert_eq!((document.line(), document.line_of(Field::Id)), (2, Some(2)));
    assert_eq!(document.line_of(Field::List(ListName::Writers)), Some(13));
    let Some(DocumentValue::Sealed(sealed)) = document.take_value() else { panic!("not sealed") };
    assert_eq!(sealed, "a37/KUAr4SOYi6Xw9i9T8qo3QCk8WvnzONo47jHAkwk=");
}

/// The other YAML blocks of the reference.
#[test]
fn reads_the_blocks_of_the_reference() {
    for (text, keys) in [
        (
            "id: \"secr_eG8IvKwB0A\"\nkey: \"MY_API_KEY\"\nvalue: \"nNl4X9+@95Z\"\n# Slugs of services and users who can read the secret\nreaders:\n- \"alice\"\n- \"bob\"\n# Slugs of services and users who can modify the secret\nwriters:\n- \"alice\"\n- \"bob\"\ndeleters:\n- \"service-admin\"\ncanChangeReaders:\n- \"alice\"\n",
            &["MY_API_KEY"][..],
        ),
        (
            "id: \"secr_eR6LbYOBK2\"\nkey: \"example-key\"\nvalue: \"62bQMQf5wPMrAsJ7+bcZpKBMtA7Ap7DF6xZaioq9jU0=\"\nencrypted: true\nchecksum: \"45a3b25f\"\nchecksumAlgorithm: \"CRC32\"\n",
            &["example-key"],
        ),
        (
            "# application-secrets.yaml\n- id: \"secr_db_primary\"\n  key: \"DATABASE_URL\"\n  value: \"encrypted-connection-string\"\n  encrypted: true\n  readers: [\"api-svc\", \"worker-svc\"]\n  writers: [\"admin-team\"]\n- id: \"secr_redis_cache\"\n  key: \"REDIS_URL\"\n  value: \"redis://localhost:6379\"\n  encrypted: false\n  readers: [\"api-svc\", \"cache-svc\"]\n  writers: [\"devops-team\"]\n- id: \"secr_jwt_signing\"\n  key: \"JWT_SECRET\"\n  value: \"encrypted-jwt-key\"\n  encrypted: true\n  readers: [\"auth-svc\"]\n  writers: [\"security-team\"]\n",
            &["DATABASE_URL", "REDIS_URL", "JWT_SECRET"],
        ),
        (
            "# auth-service-secrets.yaml\n- key: \"auth-svc/DATABASE_URL\"\n  value: \"encrypted-db-connection\"\n  encrypted: true\n  readers: [\"auth-svc\"] # Only auth service can read\n  writers: [\"devops-team\"] # Only devops can update\n  deleters: [\"admin-team\"] # Only admins can delete\n- key: \"auth-svc/JWT_SECRET\"\n  value: \"encrypted-jwt-key\"\n  encrypted: true\n  readers: [\"auth-svc\", \"api-gateway\"] # Both services need access\n",
            &["auth-svc/DATABASE_URL", "auth-svc/JWT_SECRET"],
        ),
        (
            "- key: \"payment-svc/STRIPE_KEY\"\n  readers: [\"payment-svc\"] # Only payment service\n  writers: [\"payment-admin\"] # Only payment administrators\n  deleters: [\"security-team\"] # Only security team can delete",
            &["payment-svc/STRIPE_KEY"],
        ),
    ] {
        let documents = parse(text.as_bytes()).unwrap();
        let found: Vec<_> = documents.iter().map(|document| document.key().as_str()).collect();
        assert_eq!(found, keys);
    }
}

#[test]
fn reads_any_mix_of_documents_and_lists() {
    let text = "key: a\n---\n- key: b\n- {key: c}\n---\n---\n{id: d}\n...\n[{key: e}]\n---\n";
    let documents = parse(text.as_bytes()).unwrap();
    let found: Vec<_> =
        documents.iter().map(|document| (document.key().as_str(), document.line())).collect();
    assert_eq!(found, [("a", 1), ("b", 3), ("c", 4), ("d", 7), ("e", 9)]);
    assert!(documents[3].id().is_some(), "the id is the key and stays the id");
}

#[test]
fn a_value_is_its_exact_text() {
    for (written, value) in [
        ("12345", &b"12345"[..]),
        ("0123", b"0123"),
        ("1.10", b"1.10"),
        ("true", b"true"),
        ("2024-01-01", b"2024-01-01"),
        ("\"\"", b""),
        ("!!str", b""),
        ("!!str ~", b"~"),
        ("\"null\"", b"null"),
        ("|\n  two\n  lines", b"two\nlines\n"),
        ("\"a\\nb\\0\"", b"a\nb\0"),
        ("!!binary /wA=", b"\xff\0"),
        ("!!binary |\n  /w\n  A", b"\xff\0"),
        ("!!binary \"\"", b""),
    ] {
        for encrypted in ["", "\nencrypted: false"] {
            let document = one(&format!("key: k\nvalue: {written}{encrypted}\n"));
            assert_eq!(plain(&document), value, "{written:?}");
        }
    }
    let sealed = one("key: k\nencrypted: true\nvalue: |\n  AAAA\n  BBBB\n");
    assert!(matches!(sealed.value(), Some(DocumentValue::Sealed(text)) if text == "AAAABBBB"));
}

#[test]
fn checksums_and_absent_fields() {
    let crc = one("key: k\nvalue: example-value\nchecksum: 45A3B25F\n");
    let checksum = crc.checksum().unwrap();
    assert_eq!(checksum.algorithm(), ChecksumAlgorithm::Crc32);
    assert!(checksum.matches(&Plaintext::copy_of(plain(&crc))));
    let digits = "0".repeat(128);
    let text = format!("key: k\nvalue: v\nchecksumAlgorithm: SHA-512\nchecksum: '{digits}'\n");
    assert_eq!(one(&text).checksum().unwrap().as_str(), digits);
    let lists_only = one("key: k\nreaders: []\n");
    assert!(lists_only.value().is_none() && lists_only.checksum().is_none());
    assert_eq!(lists_only.lists().list(ListName::Readers), Some(&SlugList::default()));
    assert_eq!(lists_only.lists().list(ListName::Writers), None);
    assert_eq!(lists_only.line_of(Field::Value), None);
}

#[test]
fn says_each_thing_that_is_wrong() {
    for (text, expected) in [
        ("", "line 1: the file holds no document; write at least one secret with a `key`"),
        (
            "# nothing\n---\n",
            "line 1: the file holds no document; write at least one secret with a `key`",
        ),
        ("[]", "line 1: the file holds no document; write at least one secret with a `key`"),
        (
            "secret",
            "line 1: this is not a secret; write a mapping of fields (`key: …`), or a list of them",
        ),
        (
            "key: a\n---\nsecret",
            "line 3: this is not a secret; write a mapping of fields (`key: …`), or a list of them",
        ),
        (
            "- key: a\n- [b]",
            "line 2: this is not a secret; write a mapping of fields (`key: …`), or a list of them",
        ),
        (
            "-\n",
            "line 1: this is not a secret; write a mapping of fields (`key: …`), or a list of them",
        ),
        ("{}", "line 1: the secret has neither `key` nor `id`; add its key"),
        ("value: a", "line 1: the secret has neither `key` nor `id`; add its key"),
        ("key: a\nreadrs: [b]", "line 2: unknown field `readrs`; did you mean `readers`?"),
        (
            "key: a\ncan_change_readers: [b]",
            "line 2: unknown field `can_change_readers`; did you mean `canChangeReaders`?",
        ),
        (
            "key: a\ndescription: {b: [c]}",
            "line 2: unknown field `description`; remove it, or check the indentation of a value above",
        ),
        (
            "key: a\nhunter2xyz9: b",
            "line 2: unknown field; remove it, or check the indentation of a value above",
        ),
        (
            "key: a\nvalue: b\nvalue: c",
            "line 3: `value` stands already in line 2; keep one of them",
        ),
        (
            "key: a\nvalue:",
            "line 2: `value` is empty; write \"\" for a value without bytes, or remove the field",
        ),
        (
            "key: a\nvalue: ~",
            "line 2: `value` is empty; write \"\" for a value without bytes, or remove the field",
        ),
        (
            "key: a\nvalue:\n  null",
            "line 3: `value` is empty; write \"\" for a value without bytes, or remove the field",
        ),
        (
            "key:\nvalue: a",
            "line 1: `key` is empty; fill it in, in quotes if it means a text like null, or remove the field",
        ),
        ("key: a\nvalue: [b]", "line 2: `value` must be a text; write it as one"),
        ("key: a\nvalue: {b: c}", "line 2: `value` must be a text; write it as one"),
        ("key: a\nchecksum: [b]\nvalue: c", "line 2: `checksum` must be a text; write it as one"),
        ("key: !!binary YQ==", "line 1: only a plain `value` can be !!binary; write `key` as text"),
        ("key: a\nvalue: !!binary a", "line 2: the !!binary value is not base64; correct it"),
        (
            "key: a\nvalue: !!binary YQ==\nencrypted: true",
            "line 2: only a plain `value` can be !!binary; write `value` as text",
        ),
        (
            "key: a/.b.swp",
            "line 1: a component of the key has the form of a temporary file, which is not stored; choose another name",
        ),
        (
            "key: .b",
            "line 1: the key starts with `.`, which is reserved for the filesystem; choose another name, or put a directory before it",
        ),
        ("key: \"a\\0b\"", "line 1: the key contains a control character; remove it"),
        (
            "key: a\nid: b c",
            "line 2: an id is 1 to 64 of A-Z a-z 0-9 _ -; correct it or leave it out",
        ),
        (
            "key: a\nvalue: b\nencrypted: yes",
            "line 3: `encrypted` must be true or false, without quotes; correct it",
        ),
        (
            "key: a\nvalue: b\nencrypted: \"true\"",
            "line 3: `encrypted` must be true or false, without quotes; correct it",
        ),
        ("key: a\nencrypted: true", "line 2: `encrypted` is true and there is no `value`; add it"),
        (
            "key: a\nchecksum: 45a3b25f",
            "line 2: there is a `checksum` and no `value`; add the value or remove the checksum",
        ),
        (
            "key: a\nvalue: b\nchecksumAlgorithm: CRC32",
            "line 3: there is a `checksumAlgorithm` and no `checksum`; add the checksum or remove this",
        ),
        (
            "key: a\nvalue: b\nchecksum: 45a3b25f\nchecksumAlgorithm: MD5",
            "line 4: `checksumAlgorithm` must be one of CRC32, SHA-256, SHA-512 and BLAKE2s; correct it",
        ),
        (
            "key: a\nvalue: b\nchecksum: 45a3b25\n",
            "line 3: a CRC32 checksum is 8 hexadecimal digits; correct it",
        ),
        (
            "key: a\nvalue: b\nchecksum: 45a3b25f\nchecksumAlgorithm: SHA-256",
            "line 3: a SHA-256 checksum is 64 hexadecimal digits; correct it",
        ),
        (
            "key: a\nreaders: bob",
            "line 2: `readers` must be a list; write `[name, name]`, or `- name` line by line",
        ),
        (
            "key: a\nreaders: {bob: x}",
            "line 2: `readers` must be a list; write `[name, name]`, or `- name` line by line",
        ),
        (
            "key: a\nreaders:\nvalue: b",
            "line 2: `readers` is empty; write [] for an empty list, or remove the field",
        ),
        (
            "key: a\nreaders:\n- bob\n- [eve]",
            "line 4: an entry of `readers` is not a name; write one slug an entry",
        ),
        (
            "key: a\nreaders:\n- bob\n-\n- eve",
            "line 4: an entry of `readers` is not a name; write one slug an entry",
        ),
        (
            "key: a\nreaders: [bob,\n 1000]",
            "line 3: an entry of `readers` is a number or a truth value; put quotes around a name, write uid:N or gid:N for a number",
        ),
        (
            "key: a\nreaders: [true]",
            "line 2: an entry of `readers` is a number or a truth value; put quotes around a name, write uid:N or gid:N for a number",
        ),
        (
            "key: a\nreaders:\n- b b",
            "line 3: an entry of `readers` is not a slug; use 1 to 64 of a-z A-Z 0-9 . _ - starting with a letter or digit, or uid:N, or gid:N",
        ),
        (
            "key: a\nreaders: [!!binary YQ==]",
            "line 2: only a plain `value` can be !!binary; write `readers` as text",
        ),
        (
            "- key: a\n- key: b\n- key: a",
            "line 3: key `a` stands already in line 1; keep one of them",
        ),
        (
            "- {key: a, id: i}\n- {key: b, id: i}",
            "line 2: id `i` stands already in line 1; give each secret an id of its own",
        ),
        ("- id: a\n- key: a", "line 2: key `a` stands already in line 1; keep one of them"),
        (
            "- key: a/b/c\n- key: x\n- key: a/b",
            "line 3: a key cannot be a secret and a directory: `a/b` (line 3) and `a/b/c` (line 1); rename one of them",
        ),
        (
            "key: a\nvalue: &x b",
            "line 2: anchors (`&`) and aliases (`*`) are not read; write the text out, or put quotes around it if it just starts so",
        ),
        (
            "key: a\n  value: b",
            "line 2: `: ` cannot stand here; put the value in quotes, or check the indentation",
        ),
        ("key: a\n\tvalue: b", "line 2: a tab cannot indent; use spaces"),
        (
            "!!str {key: a}",
            "line 1: this tag is not read; put quotes around a text that starts with `!`, or use !!str or !!binary",
        ),
    ] {
        assert_eq!(errors(text), [expected], "{text:?}");
    }
    let not_utf8 = parse(b"key: a\nvalue: \xff\n").err().unwrap().to_string();
    assert_eq!(
        not_utf8,
        "line 2: this is not UTF-8; save the file as UTF-8, and write other bytes as !!binary"
    );
}

#[test]
fn names_and_numbers_that_are_slugs() {
    let text = "key: a\nreaders: ['1000', \"true\", !!str 7, 0day, 1.2.3, uid:5, gid:6, 1-2]";
    let document = one(text);
    let expected = slugs(&["1000", "true", "7", "0day", "1.2.3", "uid:5", "gid:6", "1-2"]);
    assert_eq!(document.lists().list(ListName::Readers), Some(&expected));
}

#[test]
fn tells_all_errors_in_the_order_of_lines() {
    let text = "- key: a\n  readrs: [b]\n  value: [c]\n- value: d\n- key: a\n  readers: x\n- key: @\n- key: e";
    let errors = parse(text.as_bytes()).err().unwrap();
    let found: Vec<_> = errors.iter().map(|error| (error.line(), error.document())).collect();
    assert_eq!(found, [(2, 1), (3, 1), (4, 2), (5, 3), (6, 3), (7, 4)]);
    assert_eq!(errors.kind(), ErrorKind::Invalid);
    assert_eq!(errors.to_string().lines().count(), 6);
}

#[test]
fn every_secret_below_another_is_told() {
    let found = errors("- key: a\n- key: a/x\n- key: a-b\n- key: a/y/z\n- key: a/y\n");
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn errors_hold_no_value() {
    const SECRET: &str = "hunter2";
    for text in [
        "key: a\nvalue: !hunter2",
        "key: a\nvalue: *hunter2",
        "key: a\nvalue: &hunter2",
        "key: a\nvalue: @hunter2",
        "key: a\nvalue: \"hunter2",
        "key: a\nvalue: x: hunter2",
        "key: a\nvalue: |hunter2",
        "key: a\nvalue: {hunter2: x}",
        "key: a\nvalue: [hunter2]",
        "key: a\nvalue: \"\\qhunter2\"",
        "key: a\nvalue: !!binary hunter2_",
        "key: a\nvalue:\nhunter2: x",
        "key: a\nhunter2",
        "key: a\nvalue: x\nchecksum: hunter2",
        "key: a\nencrypted: hunter2",
        "hunter2",
    ] {
        for error in errors(text) {
            assert!(!error.contains(SECRET), "{text:?}: {error}");
        }
    }
}

#[test]
fn sizes_are_bounded() {
    let kind = |text: &str| parse(text.as_bytes()).err().map(|errors| errors.kind());
    let largest = "x".repeat(MAX_VALUE_BYTES);
    assert_eq!(plain(&one(&format!("key: a\nvalue: {largest}"))).len(), MAX_VALUE_BYTES);
    for encrypted in ["", "\nencrypted: true"] {
        let text = format!("key: a\nvalue: {largest}{largest}{encrypted}");
        assert_eq!(kind(&text), Some(ErrorKind::TooLarge));
    }
    let names: Vec<_> = (0..=MAX_LIST_SLUGS).map(|n| format!("s{n}")).collect();
    assert_eq!(kind(&format!("key: a\nreaders: [{}]", names.join(","))), Some(ErrorKind::TooLarge));
    assert_eq!(kind(&format!("key: a\nreaders: [{}]", names[1..].join(","))), None);
    let many: String = (0..=MAX_DOCUMENTS).map(|n| format!("- key: k{n}\n")).collect();
    assert_eq!(kind(&many), Some(ErrorKind::TooLarge));
    let file = vec![b'#'; MAX_FILE_BYTES + 1];
    assert_eq!(parse(&file).err().unwrap().kind(), ErrorKind::TooLarge);
    let wrong = "- x\n".repeat(1000);
    assert_eq!(errors(&wrong).len(), MAX_ERRORS + 1);
}

/// Each takes milliseconds, and minutes if anything in the reading is quadratic.
#[test]
fn crafted_texts_take_linear_time() {
    const SIZE: usize = 1 << 20;
    for text in [
        "[".repeat(SIZE),
        "a: ".repeat(SIZE / 3),
        format!("key: a\nreaders: [{}]", "a,".repeat(SIZE / 2)),
        format!("key: a\nvalue: |\n{}{}", "\n".repeat(SIZE / 2), "  a\n".repeat(SIZE / 8)),
        format!("key: a\nvalue: \"{}{}\"", " ".repeat(SIZE / 2), "a ".repeat(SIZE / 4)),
        format!("key: a\nvalue: b\n{}", "\n  b".repeat(SIZE / 4)),
        format!("key: a\nvalue: b{}", " \n".repeat(SIZE / 2)),
        format!("key: a\nvalue: \"{}\"", "\\x41".repeat(SIZE / 4)),
        "%TAG !a! b\n".repeat(SIZE / 11),
        "---\n".repeat(SIZE / 4),
        "- \n".repeat(SIZE / 3),
        "# a\n".repeat(SIZE / 4),
        " ".repeat(SIZE),
        format!("- key: {}\n", "a/".repeat(500) + "b").repeat(SIZE / 1000),
    ] {
        let start = std::time::Instant::now();
        let _ = parse(text.as_bytes());
        let took = start.elapsed();
        assert!(took.as_secs() < 10, "{took:?} for {:?}…", &text[..20]);
    }
}

fn any_key() -> impl Strategy<Value = Key> {
    let component = prop_oneof![
        "[a-zA-Z0-9_-]{1,8}",
        "[^\\p{Cc}/.][^\\p{Cc}/.]{0,6}",
        prop::sample::select(vec![
            "null", "~", "- a", "a: b", "\"", "'x", "# c", "true", "\u{2028}", "😀"
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(component, 1..3)
        .prop_filter_map("not a key", |components| Key::parse(&components.join("/")).ok())
}

fn any_acl() -> impl Strategy<Value = Acl> {
    let slug = prop_oneof![
        "[a-zA-Z0-9][a-zA-Z0-9._-]{0,5}",
        "uid:[1-9][0-9]{0,3}",
        Just("null".to_owned())
    ]
    .prop_map(|text| Slug::parse(&text).unwrap());
    prop::array::uniform6(prop::collection::vec(slug, 0..4)).prop_map(|lists| {
        let mut acl = Acl::default();
        for (name, list) in ListName::ALL.into_iter().zip(lists) {
            acl.set(name, list.into_iter().collect());
        }
        acl
    })
}

fn any_value() -> impl Strategy<Value = (bool, Vec<u8>)> {
    prop_oneof![
        "\\PC{0,20}".prop_map(|text| (false, text.into_bytes())),
        prop::collection::vec(any::<char>(), 0..12)
            .prop_map(|text| (false, text.into_iter().collect::<String>().into_bytes())),
        prop::collection::vec(any::<u8>(), 0..30).prop_map(|bytes| (false, bytes)),
        "[A-Za-z0-9+/]{0,40}={0,2}".prop_map(|text| (true, text.into_bytes())),
    ]
}

type AnySecret = (Key, (bool, Vec<u8>), Option<Acl>, Option<ChecksumAlgorithm>, bool);

fn any_secret() -> impl Strategy<Value = AnySecret> {
    let algorithm = prop::option::of(prop::sample::select(&ChecksumAlgorithm::ALL[..]));
    (any_key(), any_value(), prop::option::of(any_acl()), algorithm, any::<bool>())
}

proptest! {
    #[test]
    fn what_is_emitted_is_what_is_read(
        secrets in prop::collection::vec(any_secret(), 1..6),
        single in any::<bool>(),
    ) {
        let mut text = String::new();
        let mut expected = Vec::new();
        for (at, (key, (sealed, bytes), acl, algorithm, with_id)) in secrets.into_iter().enumerate() {
            // Keys that differ and are no directories of one another.
            let key = Key::parse(&format!("{at}/{key}")).unwrap();
            let id = with_id.then(|| SecretId::parse(&format!("id-{at}")).unwrap());
            let plaintext = Plaintext::copy_of(&bytes);
            let checksum = algorithm.map(|algorithm| Checksum::of(algorithm, &plaintext));
            let value = if sealed {
                DocumentValue::Sealed(String::from_utf8(bytes).unwrap())
            } else {
                DocumentValue::Plain(plaintext)
            };
            let secret = Emission { id: id.as_ref(), key: &key, value: &value, checksum: checksum.as_ref(), lists: acl.as_ref() };
            if single {
                text.push_str("---\n");
            }
            emit(&secret, if single { Layout::Single } else { Layout::Item }, &mut text).unwrap();
            expected.push((id, key, value, checksum, acl));
        }
        let documents = parse(text.as_bytes()).map_err(|errors| TestCaseError::fail(format!("{errors}\n{text}")))?;
        prop_assert_eq!(documents.len(), expected.len());
        for (document, (id, key, value, checksum, acl)) in documents.iter().zip(&expected) {
            prop_assert_eq!(document.id(), id.as_ref());
            prop_assert_eq!(document.key(), key);
            prop_assert_eq!(document.checksum(), checksum.as_ref());
            prop_assert_eq!(document.lists(), &acl.as_ref().map(Into::into).unwrap_or_default());
            match (document.value(), value) {
                (Some(DocumentValue::Plain(read)), DocumentValue::Plain(value)) => prop_assert!(read == value),
                (Some(DocumentValue::Sealed(read)), DocumentValue::Sealed(value)) => prop_assert_eq!(read, value),
                _ => prop_assert!(false, "another kind of value"),
            }
        }
    }

    #[test]
    fn lists_come_back(acl in any_acl()) {
        let text = emit_lists(&acl);
        prop_assert_eq!(parse_lists(text.as_bytes()).unwrap(), (&acl).into());
        // Others read the same in it.
        let by_library: std::collections::HashMap<String, Vec<String>> = serde_yaml::from_str(&text).unwrap();
        for (name, list) in acl.iter() {
            let slugs: Vec<_> = list.iter().map(Slug::as_str).collect();
            prop_assert_eq!(&by_library[name.as_str()], &slugs);
        }
    }

    #[test]
    fn nothing_stops_the_reading(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Err(errors) = parse(&bytes) {
            prop_assert!(errors.iter().next().is_some());
        }
        if let Err(errors) = parse_lists(&bytes) {
            prop_assert!(errors.iter().next().is_some());
        }
    }
}

#[test]
fn writes_in_the_style_of_the_reference() {
    let key = Key::parse("example-key").unwrap();
    let id = SecretId::parse("secr_eR6LbYOBK2").unwrap();
    let value = DocumentValue::Sealed("62bQ".to_owned());
    let checksum = Checksum::parse(ChecksumAlgorithm::Crc32, "45a3b25f").unwrap();
    let mut lists = Acl::default();
    lists.set(ListName::Readers, slugs(&["alice", "bob"]));
    let secret = Emission {
        id: Some(&id),
        key: &key,
        value: &value,
        checksum: Some(&checksum),
        lists: None,
    };
    let mut single = String::new();
    emit(&secret, Layout::Single, &mut single).unwrap();
    assert_eq!(
        single,
        "id: \"secr_eR6LbYOBK2\"\nkey: \"example-key\"\nvalue: \"62bQ\"\nencrypted: true\nchecksum: \"45a3b25f\"\nchecksumAlgorithm: \"CRC32\"\n"
    );
    let secret = Emission { id: None, checksum: None, lists: Some(&lists), ..secret };
    let mut item = String::new();
    emit(&secret, Layout::Item, &mut item).unwrap();
    assert_eq!(
        item,
        "- key: \"example-key\"\n  value: \"62bQ\"\n  encrypted: true\n  readers:\n  - \"alice\"\n  - \"bob\"\n  writers: []\n  deleters: []\n  canChangeReaders: []\n  canChangeWriters: []\n  canChangeDeleters: []\n"
    );
}
