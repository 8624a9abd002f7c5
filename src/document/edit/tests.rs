use proptest::prelude::*;

use super::*;
use crate::document::ChecksumAlgorithm;
use crate::model::Plaintext;

const OLD: &str =
    "c2ZzAQABAgMEBQYHAAECAwQFBgcICQoLDA0ODwABAgMEBQYHCAkKC0FBQUFBQUFBQUFBQUFBQUFBQUE=";
const NEW: &str =
    "c2ZzAQcGBQQDAgEAv7/9/v7+AAABAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn open(text: &str) -> EditedFile {
    EditedFile::parse(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}

fn text(bytes: Zeroizing<Vec<u8>>) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The text after each document got a new value: as by `encrypt --in`.
fn set_all(old: &str) -> String {
    let mut file = open(old);
    for number in 0..file.documents().len() {
        let algorithm = file.documents()[number].checksum().map(Checksum::algorithm);
        let checksum = algorithm.map(|algorithm| Checksum::of(algorithm, &Plaintext::default()));
        file.set_value(number, NEW, checksum.as_ref());
    }
    text(file.finish().unwrap_or_else(|error| panic!("{error}\n{old}")))
}

fn append(old: &str) -> String {
    let added = open(old).finish_with(&[new("new/K")]);
    text(added.unwrap_or_else(|error| panic!("{error}\n{old}")))
}

fn new(key: &str) -> NewDocument {
    let (id, key) = (SecretId::parse("secr_0123456789").ok(), Key::parse(key).unwrap());
    NewDocument { id, key, sealed: NEW.to_owned(), checksum: None }
}

#[test]
fn a_value_is_replaced_in_its_style() {
    for (old, new) in [
        ("key: K\nvalue: v # c\n", "key: K\nencrypted: true\nvalue: NEW # c\n"),
        ("value: 'v'\nkey: K\n", "encrypted: true\nvalue: 'NEW'\nkey: K\n"),
        ("- value: \"v\"  # c\n  key: K\n", "- encrypted: true\n  value: \"NEW\"  # c\n  key: K\n"),
        (
            "encrypted: false # c\r\nvalue: a\r\n  b\r\nkey: K",
            "encrypted: true # c\r\nvalue: NEW\r\nkey: K",
        ),
        ("key: K\r\nvalue: v", "key: K\r\nencrypted: true\r\nvalue: NEW"),
        ("{key: K, value: v}", "{key: K, encrypted: true, value: NEW}"),
        (
            "{\"key\":\"K\",\"value\":\"v\"}",
            "{\"key\":\"K\",\"encrypted\": true, \"value\":\"NEW\"}",
        ),
        (
            "key: K\nvalue: !!binary # c\n  AAAA\n",
            "key: K\nencrypted: true\nvalue: !!str # c\n  NEW\n",
        ),
        ("key: K\nvalue: !!str # c\n", "key: K\nencrypted: true\nvalue: !!str \"NEW\" # c\n"),
        (
            "key: K\nvalue: |+ # c\n\n   a\n\n   b\n\n",
            "key: K\nencrypted: true\nvalue: |+ # c\n\n   NEW\n\n",
        ),
        ("key: K\nvalue: |\n", "key: K\nencrypted: true\nvalue: |\n  NEW\n"),
        ("- key: K\n  value: >4\n\n", "- key: K\n  encrypted: true\n  value: >4\n      NEW\n\n"),
        (
            "key: K # c\n# d\nreaders: [a] # e\n",
            "key: K # c\n# d\nvalue: \"NEW\"\nencrypted: true\nreaders: [a] # e\n",
        ),
        (
            "readers:\n- a\nkey: K # c\n",
            "readers:\n- a\nvalue: \"NEW\"\nencrypted: true\nkey: K # c\n",
        ),
        ("\u{feff}id: secr_K\n", "\u{feff}value: \"NEW\"\nencrypted: true\nid: secr_K\n"),
    ] {
        // Short here, but what is tested are the bytes around.
        let expected = new.replace("NEW", NEW);
        let found = set_all(old);
        let lines = |text: &str| text.replace(&format!("{}\n   {}", &NEW[..64], &NEW[64..]), NEW);
        assert_eq!(lines(&found), expected, "{old:?}");
        let resealed = open(&found);
        assert!(matches!(resealed.documents()[0].value(), Some(DocumentValue::Sealed(_))));
    }
}

#[test]
fn a_checksum_follows_the_value() {
    let old = "key: K\nvalue: v\nchecksum: '4a5b6c7d' # c\nreaders: []\n";
    let value = Plaintext::copy_of(b"example-value");
    for (algorithm, expected) in [
        (ChecksumAlgorithm::Crc32, "checksum: '45a3b25f' # c\n".to_owned()),
        (ChecksumAlgorithm::Sha256, {
            let sum = Checksum::of(ChecksumAlgorithm::Sha256, &value);
            format!("checksum: '{}' # c\n", sum.as_str())
        }),
    ] {
        let mut file = open(old);
        file.set_value(0, NEW, Some(&Checksum::of(algorithm, &value)));
        let new = text(file.finish().unwrap());
        assert!(new.contains(&expected), "{new}");
        assert_eq!(
            new.contains("checksumAlgorithm: \"SHA-256\"\nvalue: "),
            algorithm != ChecksumAlgorithm::Crc32
        );
    }
}

#[test]
fn a_new_document_goes_to_the_end() {
    let single =
        format!("id: \"secr_0123456789\"\nkey: \"new/K\"\nvalue: \"{NEW}\"\nencrypted: true\n");
    let item = format!("- {}", single.trim_end().replace('\n', "\n  ")) + "\n";
    for (old, new) in [
        ("", single.clone()),
        ("# c", format!("# c\n{single}")),
        ("---\n", format!("---\n{single}")),
        ("key: K\n", format!("key: K\n---\n{single}")),
        ("key: K", format!("key: K\n---\n{single}")),
        ("- key: K\n# c\n", format!("- key: K\n# c\n{item}")),
        (
            "key: K\n---\n  - key: L\n",
            format!("key: K\n---\n  - key: L\n  {}\n", item.trim_end().replace('\n', "\n  ")),
        ),
        ("[{key: K}]\n", format!("[{{key: K}}]\n---\n{single}")),
        ("- key: K\n...\n", format!("- key: K\n...\n{item}")),
        (
            "key: K\r\n",
            format!("key: K\r\n---\n{single}").replace("\r\n", "\n").replace('\n', "\r\n"),
        ),
        // A line break would be the value's.
        ("key: K\nvalue: |\n  v", format!("{single}---\nkey: K\nvalue: |\n  v")),
        (
            "\u{feff}---\nkey: K\nvalue: |\n  v",
            format!("\u{feff}{single}---\nkey: K\nvalue: |\n  v"),
        ),
    ] {
        assert_eq!(append(old), new, "{old:?}");
    }
    let file = open("- key: new\n- key: other\n");
    let refused = file.finish_with(&[new("new/K")]);
    assert!(matches!(refused, Err(EditError::Invalid(_))));
    let mut two = [new("a"), new("b")];
    two[0].id = SecretId::parse("secr_a").ok();
    let both = |old: &str| text(open(old).finish_with(&two).unwrap());
    for old in ["- key: K\n", "key: K\n", ""] {
        let found = both(old);
        assert!(
            found.starts_with(old) && found.contains("\n- id: \"secr_0123456789\"\n  key: \"b\"\n"),
            "{found}"
        );
        assert_eq!(found.contains("---"), old.starts_with('k'));
    }
}

/// Writes a text and what it is to be with other sealed values, as a generator's choices say.
struct Writer<'a> {
    choices: std::slice::Iter<'a, u8>,
    old: String,
    new: String,
    comments: usize,
    end: &'static str,
}

impl Writer<'_> {
    fn below(&mut self, count: u8) -> u8 {
        self.choices.next().map_or(0, |choice| choice % count)
    }

    fn put(&mut self, text: &str) {
        self.old.push_str(text);
        self.new.push_str(text);
    }

    fn comment(&mut self) -> String {
        self.comments += 1;
        format!("# c{} value: \"'", self.comments)
    }

    /// The rest of a line, perhaps with a comment, and perhaps lines of nothing that counts.
    fn end_line(&mut self) {
        let kind = self.below(6);
        let end = self.end;
        let text = match kind {
            0 => format!("  {}{end}", self.comment()),
            1 => format!("{end}{end}"),
            2 => format!("{end}{}{end}", self.comment()),
            3 => format!("   {end}"),
            _ => end.to_owned(),
        };
        self.put(&text);
    }

    fn document(&mut self, number: usize, indentation: &str) {
        if self.below(4) == 0 {
            return self.flow(number);
        }
        let mut fields = vec![0, 1, 2, 3];
        fields.rotate_left(usize::from(self.below(4)));
        if self.below(2) == 0 {
            fields.swap(1, 2);
        }
        for (at, field) in fields.into_iter().enumerate() {
            if at > 0 {
                self.put(indentation);
            }
            match field {
                0 => {
                    self.put(&format!("key: k/{number}"));
                    self.end_line();
                }
                1 => {
                    self.put("encrypted:   true");
                    self.end_line();
                }
                2 => self.value(indentation),
                _ => match self.below(3) {
                    0 => {
                        let comment = self.comment();
                        let end = self.end;
                        self.put(&format!("readers: {comment}{end}{indentation}- 'a'{end}"));
                    }
                    1 => {
                        let end = self.end;
                        self.put(&format!("\"readers\": [ a,{end}{indentation}  b ]"));
                        self.end_line();
                    }
                    _ => {
                        self.put("readers: [a]");
                        self.end_line();
                    }
                },
            }
        }
    }

    fn flow(&mut self, number: usize) {
        let (open, between) = match self.below(3) {
            0 => ("{ ", " , "),
            1 => ("{", ","),
            _ => ("{ # value\n    ", ",\n    "),
        };
        let quote = ["\"", "'"][usize::from(self.below(2))];
        let colon = if between == "," { ":" } else { ": " };
        self.put(&format!("{open}{quote}key{quote}{colon}{quote}k/{number}{quote}{between}"));
        self.put(&format!("{quote}value{quote}{colon}{quote}"));
        self.old.push_str(OLD);
        self.new.push_str(NEW);
        self.put(&format!("{quote}{between}{quote}encrypted{quote}{colon}true }}"));
        self.end_line();
    }

    fn value(&mut self, indentation: &str) {
        let end = self.end;
        let style = self.below(7);
        let quote = match style {
            0 => "",
            1 => "\"",
            2 => "'",
            _ => return self.block(indentation, style),
        };
        let before = match self.below(3) {
            0 => format!("value: {}{end}{indentation}   {quote}", self.comment()),
            1 => format!("value: !!str {quote}"),
            _ => format!("value:  {quote}"),
        };
        self.put(&before);
        self.old.push_str(OLD);
        self.new.push_str(NEW);
        self.put(quote);
        self.end_line();
    }

    fn block(&mut self, indentation: &str, style: u8) {
        let end = self.end;
        let header = ["|", ">", "|+", ">-"][usize::from(style - 3)];
        let comment = self.comment();
        let empty = if self.below(2) == 0 { end } else { "" };
        self.put(&format!("value: {header} {comment}{end}{empty}"));
        let width = [20, 70, OLD.len()][usize::from(self.below(3))];
        let lines = |text: &str, width: usize| {
            let lines = text.as_bytes().chunks(width).map(String::from_utf8_lossy);
            let lines = lines.map(|line| format!("{indentation}   {line}"));
            lines.collect::<Vec<_>>().join(end)
        };
        let one = width >= OLD.len();
        self.old += &lines(OLD, width);
        self.new += &lines(NEW, if one { NEW.len() } else { width.max(64) });
        self.put(end);
        self.put(empty);
    }
}

/// The text, and the same with other sealed values.
fn written(choices: &[u8]) -> (String, String) {
    let mut choices = choices.iter();
    let end = if choices.next().is_some_and(|choice| choice % 3 == 0) { "\r\n" } else { "\n" };
    let mut writer = Writer { choices, old: String::new(), new: String::new(), comments: 0, end };
    if writer.below(4) == 0 {
        writer.put("\u{feff}");
    }
    let roots = 1 + writer.below(3);
    let mut number = 0;
    for root in 0..roots {
        if root > 0 || writer.below(2) == 0 {
            writer.put("---");
            writer.end_line();
        }
        if writer.below(2) == 0 {
            number += 1;
            writer.document(number, "");
            continue;
        }
        let margin = ["", "  "][usize::from(writer.below(2))];
        for _ in 0..=writer.below(3) {
            number += 1;
            writer.put(&format!("{margin}- "));
            writer.document(number, &format!("{margin}  "));
        }
    }
    if writer.below(4) == 0 && writer.old.trim_end().len() > writer.old.rfind('#').unwrap_or(0) {
        writer.old.truncate(writer.old.trim_end().len());
        writer.new.truncate(writer.new.trim_end().len());
    }
    // A flow mapping in several lines has plain line feeds.
    if end == "\r\n" {
        writer.old = writer.old.replace("\r\n", "\n").replace('\n', end);
        writer.new = writer.new.replace("\r\n", "\n").replace('\n', end);
    }
    (writer.old, writer.new)
}

fn comments(text: &str) -> Vec<&str> {
    text.match_indices("# c")
        .map(|(at, _)| text[at..].split([' ', '\r', '\n']).nth(1).unwrap())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn only_values_change(choices in prop::collection::vec(any::<u8>(), 8..80)) {
        let (old, expected) = written(&choices);
        let mut file = open(&old);
        for number in 0..file.documents().len() {
            file.reseal(number, NEW);
        }
        prop_assert_eq!(text(file.finish().expect(&old)), expected);
        // Nothing else is lost where fields are added.
        let clear = old.replace(OLD, "\u{e9} value").replace("true", "false");
        if parse(clear.as_bytes()).is_ok() {
            let set = set_all(&clear);
            prop_assert_eq!(comments(&set), comments(&old));
        }
        let appended = append(&old);
        prop_assert!(appended.contains(old.trim_start_matches('\u{feff}')), "{}", appended);
    }
}
