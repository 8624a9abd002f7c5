//! A long list of documents, cut into parts that can each be applied whole.

use std::io::{self, BufRead, Read};

use zeroize::Zeroizing;

use crate::document::{MAX_DOCUMENTS, MAX_FILE_BYTES};

/// Reads a file part by part, with one part in memory. A list is cut between its items, as `backup`
/// writes them: a line at the margin that begins with `-`. What is no such list is one part.
pub(super) struct Parts<R> {
    source: R,
    limits: Limits,
    /// The beginning of an item that did not fit the part before.
    carried: Zeroizing<Vec<u8>>,
    /// Lines that were read.
    lines: usize,
}

/// How much a part may hold.
#[derive(Clone, Copy)]
struct Limits {
    bytes: usize,
    items: usize,
}

/// Some documents of a file.
pub(super) struct Part {
    /// How many lines stand before it.
    pub(super) lines_before: usize,
    /// Its text.
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

impl<R: BufRead> Parts<R> {
    pub(super) fn of(source: R) -> Self {
        Self::within(source, Limits { bytes: MAX_FILE_BYTES, items: MAX_DOCUMENTS })
    }

    fn within(source: R, limits: Limits) -> Self {
        Self { source, limits, carried: Zeroizing::default(), lines: 0 }
    }

    /// The next part; none at the end. One that cannot be cut is longer than allowed by a byte, which
    /// the parser says then.
    ///
    /// # Errors
    /// Those of the source.
    pub(super) fn next(&mut self) -> io::Result<Option<Part>> {
        let mut part = Part {
            lines_before: self.lines - self.carried.iter().filter(|&&byte| byte == b'\n').count(),
            bytes: std::mem::take(&mut self.carried),
        };
        let mut items = usize::from(is_item(&part.bytes));
        // Where the last item begins, if something stands before it.
        let mut item = 0;
        loop {
            let start = part.bytes.len();
            if start > self.limits.bytes {
                let rest =
                    part.bytes.split_off(if item > 0 { item } else { self.limits.bytes + 1 });
                // What cannot be cut is refused: nobody asks for its rest.
                self.carried = Zeroizing::new(if item > 0 { rest } else { Vec::new() });
                return Ok(Some(part));
            }
            // Whole lines, but for one that is longer than all that is allowed.
            let longest = self.limits.bytes as u64 + 1;
            let length = (&mut self.source).take(longest).read_until(b'\n', &mut part.bytes)?;
            if length == 0 {
                return Ok((!part.bytes.is_empty()).then_some(part));
            }
            self.lines += usize::from(part.bytes.ends_with(b"\n"));
            if is_item(&part.bytes[start..]) {
                items += 1;
                item = start;
                if items > self.limits.items {
                    self.carried = Zeroizing::new(part.bytes.split_off(item));
                    return Ok(Some(part));
                }
            }
        }
    }
}

fn is_item(line: &[u8]) -> bool {
    line.starts_with(b"- ") || line == b"-\n" || line == b"-\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str, bytes: usize, items: usize) -> Vec<(usize, String)> {
        let mut parts = Parts::within(text.as_bytes(), Limits { bytes, items });
        let mut all = Vec::new();
        while let Some(part) = parts.next().unwrap() {
            all.push((part.lines_before, String::from_utf8(part.bytes.to_vec()).unwrap()));
            assert!(all.len() < 100, "it does not end");
        }
        all
    }

    fn owned(parts: &[(usize, &str)]) -> Vec<(usize, String)> {
        parts.iter().map(|&(line, text)| (line, text.to_owned())).collect()
    }

    #[test]
    fn a_short_file_is_one_part_whatever_it_is() {
        for text in ["key: a\nvalue: |\n  - b\n", "# c\n- key: a\n- key: b", "[]\n", "\u{feff}"] {
            assert_eq!(parts(text, 100, 10), owned(&[(0, text)]));
        }
        assert_eq!(parts("", 100, 10), []);
    }

    #[test]
    fn cut_between_items_by_number_and_by_length() {
        let text = "# all\n- key: a\n  x: 1\n- key: b\n-\n  key: c\n- key: d\n";
        assert_eq!(
            parts(text, 100, 2),
            owned(&[(0, "# all\n- key: a\n  x: 1\n- key: b\n"), (4, "-\n  key: c\n- key: d\n")])
        );
        for bytes in 22..60 {
            let cut = parts(text, bytes, 10);
            let joined: String = cut.iter().map(|(_, text)| text.as_str()).collect();
            assert_eq!(joined, text, "{bytes}");
            let mut lines = 0;
            for (before, part) in cut {
                assert!(part.len() <= bytes && before == lines, "{bytes}: {part:?}");
                lines += part.lines().count();
            }
        }
    }

    #[test]
    fn what_cannot_be_cut_is_too_long_by_a_byte() {
        for text in
            ["key: aaaaaaaaaaaaaaaaaaaa\n", "- aaaaaaaaaaaaaaaaaaaaaaaaa\n", "a\nb\nc\nd\ne\nf\n"]
        {
            let first = &parts(text, 10, 10)[0].1;
            assert_eq!(first.len(), 11);
        }
    }
}
