//! JSON as it is appended to a line: a log line is written by the hundred thousand a second.

use std::io::Write;

/// Appends `,"name":` (the comma unless it is the first field).
fn name(out: &mut Vec<u8>, name: &str) {
    if !matches!(out.last(), None | Some(b'{')) {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// A field that is a string.
pub(super) fn text(out: &mut Vec<u8>, field: &str, value: &str) {
    name(out, field);
    out.push(b'"');
    let mut rest = value.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\')
    {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            control @ ..0x20 => write!(out, "\\u{control:04x}").expect("a vector takes all"),
            quoted => out.extend_from_slice(&[b'\\', quoted]),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// A field that is a number.
pub(super) fn number(out: &mut Vec<u8>, field: &str, value: impl Into<u64>) {
    name(out, field);
    digits(out, value.into());
}

/// A field that is an object; `fill` appends its fields.
pub(super) fn object(out: &mut Vec<u8>, field: &str, fill: impl FnOnce(&mut Vec<u8>)) {
    name(out, field);
    out.push(b'{');
    fill(out);
    out.push(b'}');
}

/// A field that is a list of words that need no escaping.
pub(super) fn words<'a>(out: &mut Vec<u8>, field: &str, values: impl IntoIterator<Item = &'a str>) {
    name(out, field);
    out.push(b'[');
    for (position, word) in values.into_iter().enumerate() {
        out.extend_from_slice(if position == 0 { b"\"" } else { b",\"" });
        out.extend_from_slice(word.as_bytes());
        out.push(b'"');
    }
    out.push(b']');
}

/// The decimal digits of a number.
pub(super) fn digits(out: &mut Vec<u8>, mut value: u64) {
    let mut text = [0; 20];
    let mut start = text.len();
    loop {
        start -= 1;
        text[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return out.extend_from_slice(&text[start..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_json_whatever_the_text(value in ".{0,60}", control in any::<[u8; 3]>(), n in any::<u64>()) {
            let value = format!("{value}{}\"\\", String::from_utf8_lossy(&control));
            let mut out = b"{".to_vec();
            text(&mut out, "a", &value);
            number(&mut out, "n", n);
            object(&mut out, "o", |out| words(out, "w", ["x", "y"]));
            out.push(b'}');
            let parsed: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(parsed, serde_json::json!({"a": value, "n": n, "o": {"w": ["x", "y"]}}));
        }
    }
}
