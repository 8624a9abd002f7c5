//! Text that a terminal or a reader shows as it is.

/// Whether a character steers a terminal, is invisible, or changes the order in which its neighbours are
/// shown: control characters, line and paragraph separators, and the format characters of Unicode (its
/// categories Cc, Zl, Zp and Cf).
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{6dd}'
                | '\u{70f}'
                | '\u{890}'..='\u{891}'
                | '\u{8e2}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{110bd}'
                | '\u{110cd}'
                | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// A text in one line, with escapes for what is unprintable. What is escaped already stays as it is.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unprintable(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\n\t\u{202e}é/值"), "a\\u{1b}[2Jb\\r\\n\\t\\u{202e}é/值");
        for mark in
            ['\u{61c}', '\u{200e}', '\u{200f}', '\u{2066}', '\u{9b}', '\u{200b}', '\u{e0041}']
        {
            assert_eq!(printable(&format!("a{mark}b")), format!("a\\u{{{:x}}}b", u32::from(mark)));
        }
        let safe = printable("\u{202e}");
        assert_eq!(printable(&safe), safe);
    }
}
