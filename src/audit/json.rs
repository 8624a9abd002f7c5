//! JSON as it is appended to a line: a log line is written by the hundred thousand a second.
//!
//! Every field begins with a comma, since something stands before each in a line; so a name and its
//! punctuation are one constant.

use std::io::Write;

/// Appends a field that is a text.
macro_rules! text {
    ($out:expr, $name:literal, $value:expr) => {
        $crate::audit::json::quoted($out, concat!(",\"", $name, "\":\""), $value)
    };
}

/// Appends a field that is a word: a text without anything that would have to be escaped.
macro_rules! word {
    ($out:expr, $name:literal, $value:expr) => {
        $crate::audit::json::unquoted($out, concat!(",\"", $name, "\":\""), $value)
    };
}

/// Appends a field that is a number.
macro_rules! number {
    ($out:expr, $name:literal, $value:expr) => {
        $crate::audit::json::digits($out, concat!(",\"", $name, "\":"), u64::from($value))
    };
}

pub(super) use {number, text, word};

/// A text, escaped, after its field's name and the quote.
pub(super) fn quoted(out: &mut Vec<u8>, before: &str, value: &str) {
    out.extend_from_slice(before.as_bytes());
    let mut rest = value.as_bytes();
    if has_special(rest) {
        while let Some(at) = rest.iter().position(|&byte| is_special(byte)) {
            out.extend_from_slice(&rest[..at]);
            match rest[at] {
                control @ ..0x20 => write!(out, "\\u{control:04x}").expect("a vector takes all"),
                quoted => out.extend_from_slice(&[b'\\', quoted]),
            }
            rest = &rest[at + 1..];
        }
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// A word, after its field's name and the quote.
pub(super) fn unquoted(out: &mut Vec<u8>, before: &str, word: &str) {
    debug_assert!(!has_special(word.as_bytes()), "{word:?} is no word");
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

/// The decimal digits of a number, after what stands before them.
pub(super) fn digits(out: &mut Vec<u8>, before: &str, value: u64) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// A field that is a list of words.
pub(super) fn words<'a>(out: &mut Vec<u8>, before: &str, mut words: impl Iterator<Item = &'a str>) {
    out.extend_from_slice(before.as_bytes());
    out.push(b'[');
    if let Some(first) = words.next() {
        unquoted(out, "\"", first);
        words.for_each(|word| unquoted(out, ",\"", word));
    }
    out.push(b']');
}

fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// Looks at every byte, which is quicker than to stop early: nearly no text has one.
fn has_special(text: &[u8]) -> bool {
    let (eights, rest) = text.as_chunks::<8>();
    let any = |bytes: &[u8]| bytes.iter().fold(false, |any, &byte| any | is_special(byte));
    eights.iter().fold(any(rest), |found, eight| found | any(eight))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_json_whatever_the_text(value in ".{0,60}", control in any::<[u8; 3]>(), n in any::<u64>()) {
            let value = format!("{value}{}\"\\", String::from_utf8_lossy(&control));
            let mut out = b"{\"first\":1".to_vec();
            text!(&mut out, "a", &value);
            number!(&mut out, "n", n);
            words(&mut out, ",\"w\":", ["x", "y"].into_iter());
            word!(&mut out, "b", "z");
            out.push(b'}');
            let parsed: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let expected = serde_json::json!({"first": 1, "a": value, "n": n, "w": ["x", "y"], "b": "z"});
            prop_assert_eq!(parsed, expected);
        }
    }
}
