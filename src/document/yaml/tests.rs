//! The reading of YAML, alone and against two libraries.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use saphyr_parser::Event;

/// What a text holds, flattened: `---`, `[`, `]`, `{`, `}` and `=` with the text of a scalar.
fn read(text: &str) -> Result<Vec<String>, Fault> {
    let mut parser = Parser::new(text.as_bytes())?;
    let mut found = Vec::new();
    while let Some(root) = parser.next_document()? {
        found.push("---".to_owned());
        read_node(&mut parser, root, &mut found)?;
    }
    Ok(found)
}

fn read_node<'a>(
    parser: &mut Parser<'a>,
    node: Node<'a>,
    found: &mut Vec<String>,
) -> Result<(), Fault> {
    match node.content {
        Content::Scalar(scalar) => {
            found.push(format!("={}", scalar.text.as_str()));
        }
        Content::Sequence(mut sequence) => {
            found.push("[".to_owned());
            while let Some(item) = parser.next_item(&mut sequence)? {
                read_node(parser, item, found)?;
            }
            found.push("]".to_owned());
        }
        Content::Mapping(mut mapping) => {
            found.push("{".to_owned());
            while let Some(key) = parser.next_field(&mut mapping)? {
                found.push(format!("={}", key.text.as_str()));
                let value = parser.field_value(&mapping)?;
                read_node(parser, value, found)?;
            }
            found.push("}".to_owned());
        }
    }
    Ok(())
}

/// The same by saphyr-parser.
fn saphyr(text: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for event in saphyr_parser::Parser::new_from_str(text) {
        match event.ok()?.0 {
            Event::DocumentStart(_) => found.push("---".to_owned()),
            Event::Scalar(text, ..) => found.push(format!("={text}")),
            Event::SequenceStart(..) => found.push("[".to_owned()),
            Event::SequenceEnd => found.push("]".to_owned()),
            Event::MappingStart(..) => found.push("{".to_owned()),
            Event::MappingEnd => found.push("}".to_owned()),
            Event::Alias(_) => return None,
            _ => {}
        }
    }
    Some(found)
}

/// The same by serde_yaml, which is libyaml. It drops what plain scalars look like, and refuses a
/// document's end (`...`) where no document was: that is left out.
fn libyaml(text: &str) -> Option<Vec<String>> {
    use serde::Deserialize;
    let mut text = text;
    while let Some(rest) = text.strip_prefix("...\n") {
        text = rest;
    }
    let mut found = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        found.push("---".to_owned());
        found.extend(Flat::deserialize(document).ok()?.0);
    }
    Some(found)
}

/// A node, flattened. Not a `serde_yaml::Value`: that refuses a key that stands twice.
struct Flat(Vec<String>);

impl<'de> serde::Deserialize<'de> for Flat {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FlatVisitor)
    }
}

struct FlatVisitor;

impl<'de> serde::de::Visitor<'de> for FlatVisitor {
    type Value = Flat;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text, nothing, or a collection of these")
    }

    fn visit_unit<E>(self) -> Result<Flat, E> {
        Ok(Flat(vec!["=".to_owned()]))
    }

    fn visit_str<E>(self, text: &str) -> Result<Flat, E> {
        Ok(Flat(vec![format!("={text}")]))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Flat, A::Error> {
        let mut found = vec!["[".to_owned()];
        while let Some(Flat(item)) = items.next_element()? {
            found.extend(item);
        }
        found.push("]".to_owned());
        Ok(Flat(found))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut fields: A) -> Result<Flat, A::Error> {
        let mut found = vec!["{".to_owned()];
        while let Some((Flat(key), Flat(value))) = fields.next_entry()? {
            found.extend(key);
            found.extend(value);
        }
        found.push("}".to_owned());
        Ok(Flat(found))
    }
}

const FRAGMENTS: [&str; 56] = [
    "a", "b", "a: ", "b: ", "c:", "k: v\n", ": ", ":", "- ", "-", "- a\n", "\n", "\n", "\n", "\n ",
    "\n  ", "\n  ", "\n    ", " ", "  ", "#", " # c", "\"", "'", "\"x\"", "'y'", "''", "\\n", "\\",
    "\\\n", "[", "]", "{", "}", ", ", ",", "|\n", ">\n", "|-\n", ">+\n  ", "|2\n", "---\n", "--- ",
    "...\n", "?", "!!str ", "!", "\t", "~", "é", "\r\n", ".", "\"\\\n", "'\n", "\\x41", "\\u00e9",
];

fn any_text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&FRAGMENTS[..]), 0..16)
        .prop_map(|fragments| fragments.concat() + "\n")
}

/// What libyaml says of what we read: it takes `~` and nothing for the same.
fn without_nulls(found: &[String]) -> Vec<String> {
    found.iter().map(|entry| if entry == "=~" { "=".to_owned() } else { entry.clone() }).collect()
}

/// Each library refuses tabs in some places where YAML allows them, and what else the text holds can
/// be what the other one refuses. With spaces instead, one of them must read the same.
fn is_read_with_spaces(text: &str, found: &[String]) -> bool {
    let spaced = text.replace('\t', " ");
    let found: Vec<_> = found.iter().map(|entry| entry.replace('\t', " ")).collect();
    saphyr(&spaced).is_some_and(|saphyr| saphyr == found)
        || libyaml(&spaced).is_some_and(|libyaml| without_nulls(&libyaml) == without_nulls(&found))
}

proptest! {
    // The same texts each time: of a hundred thousand there is one that each library refuses for a
    // reason of its own (an escaped line break, `?` before a quote, `{}` as a key).
    #![proptest_config(ProptestConfig {
        cases: 20_000,
        rng_seed: RngSeed::Fixed(2026),
        ..ProptestConfig::default()
    })]

    #[test]
    fn reads_what_the_libraries_read(text in any_text()) {
        let (saphyr, libyaml) = (saphyr(&text), libyaml(&text));
        match read(&text) {
            Ok(found) => {
                // Documents that are one scalar do not matter, and the libraries are not of one
                // mind about them.
                let collections = found.windows(2).all(|pair| pair[0] != "---" || !pair[1].starts_with('='));
                match (saphyr, libyaml) {
                    (Some(saphyr), _) => prop_assert_eq!(found, saphyr),
                    (None, Some(libyaml)) => {
                        prop_assert_eq!(without_nulls(&found), without_nulls(&libyaml));
                    }
                    (None, None) if !collections => {}
                    (None, None) => prop_assert!(
                        is_read_with_spaces(&text, &found), "only we read {found:?}"
                    ),
                }
            }
            Err(Fault { error, .. }) => {
                let by_design = matches!(
                    error,
                    SyntaxError::ComplexKey
                        | SyntaxError::UnknownTag
                        | SyntaxError::Tab
                        // One of a mapping and one of its first key.
                        | SyntaxError::TwoTags
                        // `!!str key: value`, `[a: b]`, `{a: b}: c`.
                        | SyntaxError::UnexpectedColon
                        | SyntaxError::MissingComma
                        | SyntaxError::UnexpectedText
                );
                prop_assert!(by_design || saphyr.is_none() || libyaml.is_none(), "refused: {error}");
            }
        }
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(text) = std::str::from_utf8(&bytes) {
            let _ = read(text);
        }
        let _ = Parser::new(&bytes).is_ok();
    }
}

fn check(text: &str, expected: &str) {
    assert_eq!(read(text).map(|found| found.join(" ")).as_deref(), Ok(expected), "{text:?}");
}

/// Found by the comparison: both libraries refuse this, each because of another tab.
#[test]
fn reads_tabs_that_the_libraries_refuse() {
    let text = "\"x\":\ta|\n\t\n";
    check(text, "--- { =x =a| }");
    assert!(saphyr(text).is_none() && libyaml(text).is_none());
    assert!(is_read_with_spaces(text, &read(text).unwrap()));
}

#[test]
fn reads_collections() {
    for text in [
        "a: b\nc:\n- d\n- e\n",
        "a: b\nc:\n  - d\n  - e\n",
        "a: b\r\nc:\r\n  - d\r\n  - e\r\n",
        "\u{feff}---\na: b\nc: [d, e]\n...\n",
        "{a: b, c: [d, e,],}",
        "{\"a\":\"b\",\n\t\"c\":[\"d\",\"e\"]}",
        "a: b # one\n# two\nc: [\n  d, # three\n  e\n]\n",
        "'a': \"b\"\n\"c\" :\n  [d,\n  e]",
        "a:\n  b\nc:\n  -\n    d\n  - !!str e",
    ] {
        check(text, "--- { =a =b =c [ =d =e ] }");
    }
    check(
        "- a: b\n  c: d\n-\n  e: f\n- - g\n  - h\n",
        "--- [ { =a =b =c =d } { =e =f } [ =g =h ] ]",
    );
    check("a:\nb: ~\n--- c\n...\n{d, e: }", "--- { =a = =b =~ } --- =c --- { =d = =e = }");
    check("", "");
    check("# nothing\n\n", "");
    check("---\n---\n", "--- = --- =");
}

#[test]
fn reads_scalars() {
    for (text, expected) in [
        ("a b:c #d", "a b:c"),
        ("a b#c", "a b#c"),
        ("a\n   b\n\n  c\n", "a b\nc"),
        ("-a", "-a"),
        ("?a", "?a"),
        ("http://a/b?c=d&e", "http://a/b?c=d&e"),
        ("'it''s'", "it's"),
        ("'a  \n  b\n\n\n  c'", "a b\n\nc"),
        ("\"a\\tb\\x41\\u00e9\\U0001f600\\\"\\\\\\/\"", "a\tbAé😀\"\\/"),
        ("\"a\\ud83d\\ude00b\"", "a😀b"),
        ("|\n  \ta\n  b\n", "\ta\nb\n"),
        (">-\n\n  \ta\n  \tb\n", "\n\ta\n\tb"),
        ("\"a  \\\n   b \\  \n  c\"", "a  b   c"),
        (
            "\"\\0\\a\\b\\e\\f\\v\\r\\n\\_\\N\\L\\P\\ \"",
            "\0\x07\x08\x1b\x0c\x0b\r\n\u{a0}\u{85}\u{2028}\u{2029} ",
        ),
        ("|\n  a\n   b\n\n  c\n\n", "a\n b\n\nc\n"),
        ("|-\n  a\n\n", "a"),
        ("|+\n  a\n\n", "a\n\n"),
        ("|1\n   a\n", "  a\n"),
        ("|-1 # note\n  a\n", " a"),
        ("|\n  a", "a"),
        ("|\n  # a\n", "# a\n"),
        (">\n  a\n  b\n\n  c\n   d\n  e\n", "a b\nc\n d\ne\n"),
        ("|\n", ""),
        ("|+\n\n\n", "\n\n"),
        ("\"\"", ""),
        ("\"a\nb\"", "a b"),
    ] {
        let found = read(&format!("k: {text}"));
        assert_eq!(
            found,
            Ok(["---", "{", "=k", &format!("={expected}"), "}"].map(str::to_owned).to_vec()),
            "{text:?}"
        );
    }
}

#[test]
fn each_break_of_the_syntax_has_its_line() {
    use SyntaxError::*;
    let deep = "[".repeat(MAX_DEPTH + 1);
    for (text, line, error) in [
        ("a: b\n\tc: d\n", 2, Tab),
        ("a:\n\t- b\n", 2, Tab),
        ("-\ta: b\n", 1, Tab),
        ("a: |\n\tb\n", 2, Tab),
        ("a: |2\n\t\n", 2, Tab),
        ("a: |\n  b\n\t\n", 3, Tab),
        ("%YAML 1.2\n---\na: b\n", 1, Directive),
        ("a: &b c\n", 1, Anchor),
        ("a: b\nc: *d\n", 2, Anchor),
        ("<<: *d\n", 1, Anchor),
        ("a: !b c\n", 1, UnknownTag),
        ("a: !!int 1\n", 1, UnknownTag),
        ("a: !!str !!str b\n", 1, TwoTags),
        ("? a\n: b\n", 1, ComplexKey),
        ("{[a]: b}", 1, ComplexKey),
        ("a: b\nc\n", 2, NotAField),
        ("a: b\nc d\ne: f\n", 2, NotAField),
        ("a: b: c\n", 1, UnexpectedColon),
        ("a: b\n  c: d\n", 2, UnexpectedColon),
        ("a: - b\n", 1, UnexpectedDash),
        ("a: \"b\" c\n", 1, UnexpectedText),
        ("a: [b] c\n", 1, UnexpectedText),
        ("a:\n  - b\n - c\n", 3, Indentation),
        ("  a: b\n c: d\n", 2, Indentation),
        ("a: |\n  b\n c: d\n", 3, Indentation),
        ("a: |\n    \n  b\n", 3, Indentation),
        ("a: \"b\"\n  c: d\n", 2, Indentation),
        ("a: @b\n", 1, Reserved),
        ("a: `b\n", 1, Reserved),
        ("a: ]\n", 1, Reserved),
        ("a: b\nc: \"d\ne: f\n", 2, OpenQuote),
        ("a:\n  b: 'c\n d'\n", 3, QuoteIndentation),
        ("a: \"\n---\n\"\n", 1, OpenQuote),
        ("a: \"b\\qc\"\n", 1, BadEscape),
        ("a: \"\\ud800\"\n", 1, BadEscape),
        ("a: \"\\udc00\\ud800\"\n", 1, BadEscape),
        ("a: \"\\ud83d\\u0041\"\n", 1, BadEscape),
        ("a: \"\\ud83d\\n\"\n", 1, BadEscape),
        ("a: |\n\tb\n", 2, Tab),
        ("a: \"\\x4\"\n", 1, BadEscape),
        ("a: |b\n", 1, BlockHeader),
        ("a: |12\n", 1, BlockHeader),
        ("a: [b,\nc: d\n", 2, MissingComma),
        ("a: [b\n", 1, OpenBracket),
        ("a: {b: c\n---\n", 1, OpenBracket),
        ("a: [b c: d]\n", 1, MissingComma),
        ("a: [b,,c]\n", 1, EmptyEntry),
        ("a: {,}\n", 1, EmptyEntry),
        (&deep, 1, TooDeep),
        ("a: b\nc: \u{7}\n", 2, Unprintable),
        ("a: b\n# \u{2028}\n", 2, Unprintable),
        ("a: b\rc: d\n", 1, Unprintable),
        ("a: b\n\u{feff}c: d\n", 2, Unprintable),
    ] {
        assert_eq!(read(text), Err(Fault { line, error }), "{text:?}");
    }
    let not_utf8 = Parser::new(b"a: b\nc: \xff\n").err();
    assert_eq!(not_utf8, Some(Fault { line: 2, error: NotUtf8 }));
}

#[test]
fn a_break_after_good_entries_comes_after_them() {
    let mut parser = Parser::new(b"a: b\nc: @\n").unwrap();
    let root = parser.next_document().unwrap().unwrap();
    let Content::Mapping(mut mapping) = root.content else { panic!("not a mapping") };
    assert_eq!(parser.next_field(&mut mapping).unwrap().unwrap().text.as_str(), "a");
    assert!(parser.field_value(&mapping).is_ok());
    assert_eq!(parser.next_field(&mut mapping).unwrap().unwrap().text.as_str(), "c");
    assert!(parser.field_value(&mapping).is_err());
}
