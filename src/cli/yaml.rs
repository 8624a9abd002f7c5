//! YAML and JSON in the style of the reference: every string in double quotes, fields in the order
//! of the contract.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::model::{Plaintext, SlugList, Timestamp, is_unprintable};

/// A scalar.
pub(super) enum Scalar<'a> {
    /// Nothing.
    Null,
    /// Text.
    Text(&'a str),
    /// A number.
    Number(u64),
    /// True or false.
    Flag(bool),
    /// A point in time.
    Time(Timestamp),
    /// Slugs.
    Slugs(&'a SlugList),
    /// A value in the clear; what is not UTF-8 becomes base64.
    Value(&'a Plaintext),
}

/// Fields with their values, in order.
pub(super) type Fields<'a> = Vec<(&'static str, Scalar<'a>)>;

/// How bytes that are no text are written.
#[derive(Clone, Copy)]
enum Bytes {
    /// `!!binary "…"`
    YamlTag,
    /// `{"base64": "…"}`, because JSON has no type for them: the form says what it is.
    JsonObject,
}

/// One YAML mapping. The text may hold values and is wiped.
pub(super) fn mapping(fields: &Fields<'_>) -> Zeroizing<String> {
    write(fields, "", "", "\n", Bytes::YamlTag)
}

/// The mapping as an item of a YAML list.
pub(super) fn item(fields: &Fields<'_>) -> Zeroizing<String> {
    write(fields, "- ", "  ", "\n", Bytes::YamlTag)
}

/// The fields as one JSON object on a line.
pub(super) fn json(fields: &Fields<'_>) -> Zeroizing<String> {
    let mut text = write(fields, "{", ", ", "", Bytes::JsonObject);
    text.push('}');
    text
}

fn write(
    fields: &Fields<'_>,
    first: &str,
    further: &str,
    end: &str,
    bytes: Bytes,
) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(room_for(fields)));
    for (number, (name, scalar)) in fields.iter().enumerate() {
        text.push_str(if number == 0 { first } else { further });
        match bytes {
            Bytes::YamlTag => text.push_str(name),
            Bytes::JsonObject => push_quoted(&mut text, name, bytes),
        }
        text.push_str(": ");
        push_scalar(&mut text, scalar, bytes);
        text.push_str(end);
    }
    text
}

fn push_scalar(text: &mut String, scalar: &Scalar<'_>, bytes: Bytes) {
    match scalar {
        Scalar::Null => text.push_str("null"),
        Scalar::Text(string) => push_quoted(text, string, bytes),
        Scalar::Time(time) => push_quoted(text, &time.to_rfc3339(), bytes),
        Scalar::Number(number) => text.push_str(&number.to_string()),
        Scalar::Flag(flag) => text.push_str(&flag.to_string()),
        Scalar::Slugs(slugs) => {
            text.push('[');
            for (number, slug) in slugs.iter().enumerate() {
                text.push_str(if number == 0 { "" } else { ", " });
                push_quoted(text, slug.as_str(), bytes);
            }
            text.push(']');
        }
        Scalar::Value(value) => match std::str::from_utf8(value.expose()) {
            Ok(string) => push_quoted(text, string, bytes),
            Err(_) => {
                let (before, after) = match bytes {
                    Bytes::YamlTag => ("!!binary ", ""),
                    Bytes::JsonObject => ("{\"base64\": ", "}"),
                };
                text.push_str(before);
                push_quoted(text, &Zeroizing::new(STANDARD.encode(value.expose())), bytes);
                text.push_str(after);
            }
        },
    }
}

/// A string in double quotes, with the escapes that JSON and YAML share. Characters that YAML does
/// not allow to stand as they are (C1 controls, line separators, a BOM, non-characters) are escaped, and
/// so is what a terminal does not show as it is.
fn push_quoted(text: &mut String, string: &str, form: Bytes) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{fffe}' | '\u{ffff}' => push_escape(text, character, form),
            _ if is_unprintable(character) => push_escape(text, character, form),
            _ => text.push(character),
        }
    }
    text.push('"');
}

/// JSON has an escape for each half of a surrogate pair, YAML one for the whole character.
fn push_escape(text: &mut String, character: char, form: Bytes) {
    match (form, character) {
        (Bytes::YamlTag, '\u{10000}'..) => {
            text.push_str(&format!("\\U{:08x}", u32::from(character)));
        }
        _ => {
            for unit in character.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
}

/// Enough for most, so that a value is not left behind in a buffer that became too small.
fn room_for(fields: &Fields<'_>) -> usize {
    let values = fields.iter().map(|(name, scalar)| {
        name.len()
            + match scalar {
                // Six for one is the longest escape.
                Scalar::Value(value) => 6 * value.len() + 32,
                Scalar::Text(string) => 6 * string.len() + 8,
                Scalar::Null | Scalar::Number(_) | Scalar::Flag(_) | Scalar::Time(_) => 32,
                Scalar::Slugs(slugs) => 80 * slugs.len() + 8,
            }
    });
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Slug;
    use proptest::prelude::*;

    fn slugs(names: &[&str]) -> SlugList {
        names.iter().map(|name| Slug::parse(name).unwrap()).collect()
    }

    #[test]
    fn writes_the_references_style() {
        let (none, two) = (slugs(&[]), slugs(&["alice", "uid:7"]));
        let value = Plaintext::copy_of(b"a\"\n");
        let fields = vec![
            ("id", Scalar::Text("secr_eR6LbYOBK2")),
            ("value", Scalar::Value(&value)),
            ("encrypted", Scalar::Flag(true)),
            ("length", Scalar::Number(3)),
            ("readers", Scalar::Slugs(&two)),
            ("writers", Scalar::Slugs(&none)),
        ];
        assert_eq!(
            *mapping(&fields),
            "id: \"secr_eR6LbYOBK2\"\nvalue: \"a\\\"\\n\"\nencrypted: true\nlength: 3\n\
             readers: [\"alice\", \"uid:7\"]\nwriters: []\n"
        );
        assert!(item(&fields).starts_with("- id: \"secr_eR6LbYOBK2\"\n  value: "));
        assert_eq!(
            *json(&fields),
            "{\"id\": \"secr_eR6LbYOBK2\", \"value\": \"a\\\"\\n\", \"encrypted\": true, \
             \"length\": 3, \"readers\": [\"alice\", \"uid:7\"], \"writers\": []}"
        );
    }

    #[test]
    fn bytes_become_base64() {
        let value = Plaintext::copy_of(b"\xff\x00");
        let fields = vec![("value", Scalar::Value(&value))];
        assert_eq!(*mapping(&fields), "value: !!binary \"/wA=\"\n");
        assert_eq!(*json(&fields), "{\"value\": {\"base64\": \"/wA=\"}}");
    }

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        let value = Plaintext::copy_of("a\u{202e}b\u{9b}c\u{e0041}é".as_bytes());
        let fields = vec![("value", Scalar::Value(&value))];
        assert_eq!(*mapping(&fields), "value: \"a\\u202eb\\u009bc\\U000e0041é\"\n");
        assert_eq!(*json(&fields), "{\"value\": \"a\\u202eb\\u009bc\\udb40\\udc41é\"}");
    }

    proptest! {
        #[test]
        fn other_parsers_read_the_same(text in "\\PC*|\\p{Cf}*|[\\x00-\\x9f\u{2028}\u{feff}\u{ffff}]*|.*") {
            let fields = vec![("value", Scalar::Text(&text))];
            let yaml: serde_json::Value = serde_yaml::from_str(&mapping(&fields)).unwrap();
            prop_assert_eq!(yaml["value"].as_str(), Some(text.as_str()));
            let list: serde_json::Value = serde_yaml::from_str(&item(&fields)).unwrap();
            prop_assert_eq!(list[0]["value"].as_str(), Some(text.as_str()));
            let json: serde_json::Value = serde_json::from_str(&json(&fields)).unwrap();
            prop_assert_eq!(json["value"].as_str(), Some(text.as_str()));
        }
    }
}
