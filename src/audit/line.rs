//! The form of a line: `{"seq":7,"time":"…",` event `,"hash":"…"}`, where many hosts share the store
//! with `,"revision":9` before the hash. Number first and hash last, so
//! that the chain can be checked without reading what is between.

use std::cell::Cell;
use std::time::SystemTime;

use crate::model::Timestamp;

use super::chain::{ChainKey, Hash, LINE_START};
use super::json;

const HASH: &[u8] = b",\"hash\":\"";
const END: &[u8] = b"\"}";
/// What follows the part that is hashed, without the end of the line.
const SUFFIX: usize = HASH.len() + 64 + END.len();

/// Appends a line and gives its hash.
pub(super) fn write(
    out: &mut Vec<u8>,
    key: &ChainKey,
    before: &Hash,
    seq: u64,
    time: &TimeText,
    revision: Option<u64>,
    body: &[u8],
) -> Hash {
    let start = out.len();
    json::digits(out, LINE_START, seq);
    out.extend_from_slice(b",\"time\":\"");
    out.extend_from_slice(time);
    out.push(b'"');
    out.extend_from_slice(body);
    if let Some(revision) = revision {
        json::number!(out, "revision", revision);
    }
    let hash = key.of_line(before, &out[start + LINE_START.len()..]);
    out.extend_from_slice(HASH);
    out.extend_from_slice(&hash.to_hex());
    out.extend_from_slice(END);
    out.push(b'\n');
    hash
}

/// A line taken apart, as far as the chain needs it.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) seq: u64,
    pub(super) hash: Hash,
    /// What the hash is over, after [`LINE_START`].
    pub(super) hashed: &'a [u8],
}

impl<'a> Line<'a> {
    /// Takes a line apart, without its end of line. Nothing if it has not the form of one.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let (text, suffix) = line.split_at_checked(line.len().checked_sub(SUFFIX)?)?;
        let hash = Hash::parse(suffix.strip_prefix(HASH)?.strip_suffix(END)?)?;
        let hashed = text.strip_prefix(LINE_START.as_bytes())?;
        let digits = hashed.iter().position(|&byte| byte == b',')?;
        let digits = &hashed[..digits];
        let plain = digits.first().is_some_and(|&first| first != b'0' || digits.len() == 1);
        if !plain || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let seq = str::from_utf8(digits).ok()?.parse().ok()?;
        Some(Self { seq, hash, hashed })
    }

    /// How many decisions it says that were counted; 0 if it tells of one. No text in a line can look like
    /// that: its quotes are escaped.
    pub(super) fn repeats(&self) -> u64 {
        const FIELD: &[u8] = b",\"repeats\":";
        let starts = self.hashed.windows(FIELD.len()).rposition(|window| window == FIELD);
        let digits = starts.map_or(&[][..], |at| &self.hashed[at + FIELD.len()..]);
        let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
        str::from_utf8(&digits[..end]).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }
}

/// `1970-01-01T00:00:00.000000Z`
pub(super) type TimeText = [u8; 27];

/// Where its fraction begins.
const FRACTION: usize = 19;

thread_local! {
    /// A second and its text: a thread writes thousands of lines in one.
    static SECOND: Cell<(u64, TimeText)> = const { Cell::new((u64::MAX, [0; 27])) };
}

/// RFC 3339 in UTC with microseconds.
pub(super) fn time_text(now: SystemTime) -> TimeText {
    let now = Timestamp::from(now);
    let (second, mut micros) = (now.as_nanos() / 1_000_000_000, now.as_nanos() / 1000 % 1_000_000);
    let (last, mut text) = SECOND.get();
    if last != second {
        text[..FRACTION].copy_from_slice(&now.to_rfc3339().as_bytes()[..FRACTION]);
        (text[FRACTION], text[26]) = (b'.', b'Z');
        SECOND.set((second, text));
    }
    for digit in text[FRACTION + 1..26].iter_mut().rev() {
        *digit = b'0' + (micros % 10) as u8;
        micros /= 10;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_taken_apart() {
        let key = ChainKey::new("00", &[7; 32], &[0; 16]);
        let mut out = Vec::new();
        let hash =
            write(&mut out, &key, &Hash::NONE, 42, &[b'T'; 27], Some(7), b",\"op\":\"open\"");
        let text = out.strip_suffix(b"\n").unwrap();
        let line = Line::parse(text).unwrap();
        assert!(line.seq == 42 && line.hash == hash);
        assert!(key.of_line(&Hash::NONE, line.hashed) == hash);
        let json: serde_json::Value = serde_json::from_slice(text).unwrap();
        assert_eq!(json["hash"], hash.to_string());
        assert_eq!(json["time"], "T".repeat(27));
        assert_eq!((&json["revision"], line.repeats()), (&7.into(), 0));
        let hashed = br#"7,"op":"open","repeats":25,"revision":9"#;
        assert_eq!(Line { hashed, ..line }.repeats(), 25);
        let hashed = br#"7,"op":"open","key":"a\",\"repeats\":25"#;
        assert_eq!(Line { hashed, ..line }.repeats(), 0);
        for length in 0..text.len() {
            assert!(Line::parse(&text[..length]).is_none());
        }
        let padded = [&b"{\"seq\":0"[..], &text[7..]].concat();
        assert!(Line::parse(&padded).is_none(), "a number has one spelling");
    }

    #[test]
    fn the_time_has_microseconds() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1_000_007_999);
        assert_eq!(&time_text(time), b"1970-01-01T00:00:01.000007Z");
        let later = time + std::time::Duration::from_nanos(86_400_123_456_000);
        assert_eq!(&time_text(later), b"1970-01-02T00:00:01.123463Z");
        assert_eq!(&time_text(time), b"1970-01-01T00:00:01.000007Z");
    }
}
