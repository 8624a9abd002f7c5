//! dotenv files: `NAME=value`, `export NAME="value"`, comments. Nothing is expanded: `$X` is two characters.

use crate::model::Plaintext;

use super::{Entry, EntryError, EntryProblem, distinct};

/// Reads a dotenv file. A value in single quotes is taken as it stands, one in double quotes with the escapes `\n`,
/// `\r`, `\t`, `\"`, `\\` and `\$`; both may have several lines. One without quotes ends before ` #` and the blanks at
/// the end of its line.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn parse_dotenv(bytes: &[u8]) -> Result<Vec<Entry>, EntryError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut cursor = Cursor { bytes, at: 0, line: 1 };
    let mut entries = Vec::new();
    loop {
        cursor.skip_blanks();
        match cursor.peek() {
            None => return distinct(entries),
            Some(b'\n' | b'\r') => cursor.skip_line(),
            Some(b'#') => cursor.skip_line(),
            Some(_) => entries.push(cursor.entry()?),
        }
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        self.line += usize::from(byte == b'\n');
        Some(byte)
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn skip_line(&mut self) {
        while self.next().is_some_and(|byte| byte != b'\n') {}
    }

    fn entry(&mut self) -> Result<Entry, EntryError> {
        let line = self.line;
        let wrong = |problem| EntryError { line, problem };
        let mut name = self.name();
        if name == "export" && matches!(self.peek(), Some(b' ' | b'\t')) {
            self.skip_blanks();
            name = self.name();
        }
        self.skip_blanks();
        let begins = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        if !begins || self.next() != Some(b'=') {
            return Err(wrong(EntryProblem::NotAnEntry));
        }
        self.skip_blanks();
        let value = match self.peek() {
            Some(quote @ (b'"' | b'\'')) => {
                let value = self.quoted(quote).ok_or(wrong(EntryProblem::OpenQuote))?;
                self.skip_blanks();
                if !matches!(self.peek(), None | Some(b'\n' | b'\r' | b'#')) {
                    return Err(wrong(EntryProblem::AfterQuote));
                }
                value
            }
            _ => self.bare(),
        };
        self.skip_line();
        Ok(Entry { line, name, value })
    }

    fn name(&mut self) -> String {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let rest = &self.bytes[self.at..];
        let length = rest.iter().take_while(|&&byte| is_part(byte)).count();
        self.at += length;
        String::from_utf8_lossy(&rest[..length]).into_owned()
    }

    fn quoted(&mut self, quote: u8) -> Option<Plaintext> {
        let mut value = Plaintext::default();
        self.at += 1;
        loop {
            let byte = self.next()?;
            let escaped = (quote == b'"' && byte == b'\\').then(|| self.peek()).flatten();
            let plain = match (byte, escaped) {
                (b'\\', Some(b'n')) => b'\n',
                (b'\\', Some(b'r')) => b'\r',
                (b'\\', Some(b't')) => b'\t',
                (b'\\', Some(other @ (b'"' | b'\\' | b'$'))) => other,
                _ if byte == quote => return Some(value),
                _ => {
                    value.push(&[byte]);
                    continue;
                }
            };
            self.at += 1;
            value.push(&[plain]);
        }
    }

    /// The rest of the line without its comment. The line break is left.
    fn bare(&mut self) -> Plaintext {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        let line = &rest[..end];
        let is_comment =
            |at: &usize| line[*at] == b'#' && (*at == 0 || matches!(line[at - 1], b' ' | b'\t'));
        let comment = (0..line.len()).find(is_comment).unwrap_or(line.len());
        self.at += end;
        Plaintext::copy_of(line[..comment].trim_ascii_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<(usize, String, String)> {
        let entries = parse_dotenv(text.as_bytes()).unwrap();
        let text = |value: &Plaintext| String::from_utf8(value.expose().to_vec()).unwrap();
        entries.into_iter().map(|one| (one.line, one.name, text(&one.value))).collect()
    }

    #[test]
    fn every_form_of_a_value() {
        let text = "\u{feff}# comment\n\nA=1\nexport B = two words # c\r\nC='a#b\\n $X'\nD=\"a\\n\\\"b\\\" \\$X \\q\" # c\n\
                    E=\"-----BEGIN\nline\n-----END\"\nF=\nG=a#b\n  export_x=$Y=z==\nH.i-j=\"\"";
        let expected = [
            (3, "A", "1"),
            (4, "B", "two words"),
            (5, "C", "a#b\\n $X"),
            (6, "D", "a\n\"b\" $X \\q"),
            (7, "E", "-----BEGIN\nline\n-----END"),
            (10, "F", ""),
            (11, "G", "a#b"),
            (12, "export_x", "$Y=z=="),
            (13, "H.i-j", ""),
        ];
        let found = parse(text);
        let found: Vec<_> = found.iter().map(|(l, n, v)| (*l, n.as_str(), v.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_wrong_has_its_line_and_shows_no_value() {
        for (text, line, problem) in [
            ("A=1\nhunter2", 2, EntryProblem::NotAnEntry),
            ("A=1\n1A=hunter2", 2, EntryProblem::NotAnEntry),
            ("=hunter2", 1, EntryProblem::NotAnEntry),
            ("export hunter2", 1, EntryProblem::NotAnEntry),
            ("A=\"hunter2\n\n", 1, EntryProblem::OpenQuote),
            ("A='hunter2' x", 1, EntryProblem::AfterQuote),
            ("A=1\nA=2", 2, EntryProblem::Duplicate { name: "A".into(), first: 1 }),
            ("# nothing\n", 1, EntryProblem::Nothing),
        ] {
            let error = parse_dotenv(text.as_bytes()).err().unwrap();
            assert_eq!((error.line, &error.problem), (line, &problem), "{text:?}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
