//! How a value is put in the place of another one, and where a new document is put.

use std::ops::Range;

use zeroize::Zeroizing;

use super::super::yaml::Tag;
use super::places::{FieldPlace, Place, Places};
use super::{DocumentValue, NewDocument, quoted};
use crate::document::{Emission, Layout, emit};

/// Lines that a sealed value is cut into where several lines stood before are at least as long.
const SHORTEST_LINE: usize = 64;

const MARK: &[u8] = b"\xef\xbb\xbf";

/// What puts a text that needs no escapes in the place of the text of a field, in its style.
pub(super) fn replace_text(
    bytes: &[u8],
    place: &Place,
    field: &FieldPlace,
    text: &str,
) -> Vec<(Range<usize>, String)> {
    let mut edits = Vec::new();
    if let Some((Tag::Binary, tag)) = &field.tag {
        edits.push((tag.clone(), "!!str".to_owned()));
    }
    let span = field.scalar.clone();
    edits.push(match bytes[span.clone()].first() {
        // A tag alone.
        None => (span, format!(" {}", quoted(text))),
        Some(b'"') => (span, quoted(text)),
        Some(b'\'') => (span, format!("'{text}'")),
        Some(b'|' | b'>') => replace_block(bytes, place, span, text),
        Some(_) => (span, text.to_owned()),
    });
    edits
}

/// Lines in the place of those of a block. Its header stays, and the empty lines around.
fn replace_block(
    bytes: &[u8],
    place: &Place,
    span: Range<usize>,
    text: &str,
) -> (Range<usize>, String) {
    let header_end = end_of_line(bytes, span.start);
    let mut lines = Vec::new();
    let mut start = after_break(bytes, header_end);
    while start < span.end {
        let end = end_of_line(bytes, start);
        if bytes[start..end].iter().any(|byte| !matches!(byte, b' ' | b'\t')) {
            lines.push(start..end);
        }
        start = after_break(bytes, end);
    }
    let end_of_lines = line_end(bytes);
    let (Some(first), Some(last)) = (lines.first(), lines.last()) else {
        let column = place.column.expect("a block stands in lines");
        let indentation = " ".repeat(column + indentation_of(&bytes[span.start..header_end]));
        return (header_end..header_end, format!("{end_of_lines}{indentation}{text}"));
    };
    let indentation = bytes[first.clone()].iter().take_while(|&&byte| byte == b' ').count();
    let content = first.start + indentation..last.end;
    if lines.len() == 1 {
        return (content, text.to_owned());
    }
    let longest = lines.iter().map(|line| line.len() - indentation.min(line.len())).max();
    let width = longest.unwrap_or(0).max(SHORTEST_LINE);
    let between = format!("{end_of_lines}{}", " ".repeat(indentation));
    let pieces = text.as_bytes().chunks(width).map(String::from_utf8_lossy);
    (content, pieces.collect::<Vec<_>>().join(&between))
}

/// How much deeper than its field a block without lines gets its first one.
fn indentation_of(header: &[u8]) -> usize {
    const USUAL: usize = 2;
    let before_comment = header.iter().take_while(|&&byte| !matches!(byte, b' ' | b'\t'));
    let digit = before_comment.filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0').next();
    digit.map_or(USUAL, |digit| usize::from(digit).max(USUAL))
}

/// A text with a new document.
pub(super) struct Candidate {
    pub(super) text: Zeroizing<Vec<u8>>,
    /// It is the first one of the text, and not the last.
    pub(super) is_first: bool,
}

/// Texts with new documents, the best first. Which of them say the same of the other documents is for the
/// caller to find out: a line break at the end may belong to a value, say.
pub(super) fn with_new(
    bytes: &[u8],
    places: &Places,
    new: &[NewDocument],
) -> impl Iterator<Item = Candidate> {
    let end = line_end(bytes);
    let items = |column: usize| {
        let indentation = " ".repeat(column);
        let lines = |text: &str| {
            text.lines().map(|line| format!("{indentation}{line}{end}")).collect::<String>()
        };
        new.iter().map(|new| lines(&written(new, Layout::Item))).collect::<String>()
    };
    // Several are a list.
    let alone = match new {
        [one] => written(one, Layout::Single).replace('\n', end),
        _ => items(0),
    };
    let rest = bytes.strip_prefix(MARK).unwrap_or(bytes);
    let apart = format!("---{end}{alone}");
    let first = match places.list_at_end {
        Some(column) => items(column),
        None if places.documents.is_empty() => alone.clone(),
        None => apart.clone(),
    };
    let gap = if rest.is_empty() || rest.ends_with(b"\n") { "" } else { end };
    let separator = if rest.starts_with(b"---") { String::new() } else { format!("---{end}") };
    let mark = &bytes[..bytes.len() - rest.len()];
    let at_end = [first, apart].map(|new| Candidate {
        text: Zeroizing::new([bytes, gap.as_bytes(), new.as_bytes()].concat()),
        is_first: false,
    });
    let text = [mark, alone.as_bytes(), separator.as_bytes(), rest].concat();
    at_end.into_iter().chain([Candidate { text: Zeroizing::new(text), is_first: true }])
}

fn written(new: &NewDocument, layout: Layout) -> String {
    let NewDocument { id, key, sealed, checksum } = new;
    let value = &DocumentValue::Sealed(sealed.clone());
    let emission =
        Emission { id: id.as_ref(), key, value, checksum: checksum.as_ref(), lists: None };
    let mut text = String::new();
    emit(&emission, layout, &mut text).expect("a string takes all");
    text
}

/// What stands between two fields of a document.
pub(super) fn separator(bytes: &[u8], place: &Place) -> String {
    match place.column {
        None => ", ".to_owned(),
        Some(column) => format!("{}{}", line_end(bytes), " ".repeat(column)),
    }
}

/// How lines end in a text: as the first one does.
fn line_end(bytes: &[u8]) -> &'static str {
    match bytes.iter().position(|&byte| byte == b'\n') {
        Some(at) if at > 0 && bytes[at - 1] == b'\r' => "\r\n",
        _ => "\n",
    }
}

/// Where the content of the line ends in which `from` is.
fn end_of_line(bytes: &[u8], from: usize) -> usize {
    let length = bytes[from..].iter().position(|&byte| byte == b'\n');
    let end = length.map_or(bytes.len(), |length| from + length);
    if end > from && bytes[..end].ends_with(b"\r") { end - 1 } else { end }
}

/// Where the next line begins.
fn after_break(bytes: &[u8], end: usize) -> usize {
    match bytes[end..] {
        [b'\n', ..] => end + 1,
        [b'\r', b'\n', ..] => end + 2,
        _ => bytes.len(),
    }
}
