//! Tables for people.

use tabled::builder::Builder;
use tabled::grid::util::string::{get_char_width, get_line_width};
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Padding, Style};

/// The narrowest that the first column is cut to.
const MIN_FIRST_COLUMN: usize = 12;
/// Blank columns between two columns.
const GAP: usize = 2;

/// A table below a line of headings. Given the terminal's `width`, the first column is cut with `…`
/// so that a row fits into a line. The column `right` is set to the right.
pub(super) fn render<const N: usize>(
    headings: [&str; N],
    mut rows: Vec<[String; N]>,
    right: usize,
    width: Option<usize>,
) -> String {
    rows.insert(0, headings.map(str::to_owned));
    if let Some(width) = width {
        let widest = |column: usize| {
            rows.iter().map(|row| get_line_width(&row[column])).max().unwrap_or_default()
        };
        let others: usize = (1..N).map(|column| GAP + widest(column)).sum();
        let first = width.saturating_sub(others).max(MIN_FIRST_COLUMN);
        rows.iter_mut().for_each(|row| cut(&mut row[0], first));
    }
    let mut table = Builder::from_iter(rows).build();
    table.with(Style::empty()).with(Padding::new(0, GAP, 0, 0));
    table.modify(Columns::one(right), Alignment::right());
    table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Cuts a text to `width` columns, the last of which says that there was more.
fn cut(text: &mut String, width: usize) {
    if get_line_width(text) <= width {
        return;
    }
    let mut taken = 0;
    let end = text.char_indices().find_map(|(at, character)| {
        taken += get_char_width(character);
        (taken >= width).then_some(at)
    });
    text.truncate(end.unwrap_or(text.len()));
    text.push('…');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(width: Option<usize>) -> String {
        let row = |key: &str, length: &str| [key.to_owned(), length.to_owned(), "x".to_owned()];
        let rows = vec![row("alice/A-LONG-DATABASE-PASSWORD", "7"), row("值/K", "123456")];
        render(["KEY", "LENGTH", "ID"], rows, 1, width)
    }

    #[test]
    fn is_as_wide_as_its_content() {
        assert_eq!(
            table(None),
            "KEY                             LENGTH  ID\n\
             alice/A-LONG-DATABASE-PASSWORD       7  x\n\
             值/K                            123456  x\n"
        );
    }

    #[test]
    fn a_narrow_terminal_cuts_the_first_column() {
        assert_eq!(
            table(Some(30)),
            "KEY                 LENGTH  ID\n\
             alice/A-LONG-DATA…       7  x\n\
             值/K                123456  x\n"
        );
        assert!(table(Some(1)).lines().nth(1).unwrap().starts_with("alice/A-LON…  "));
    }

    #[test]
    fn cutting_keeps_whole_characters() {
        for (text, width, expected) in
            [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("值值值", 5, "值值…"), ("值值值", 4, "值…")]
        {
            let mut text = text.to_owned();
            cut(&mut text, width);
            assert_eq!(text, expected);
        }
    }
}
