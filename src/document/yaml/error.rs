//! What can be wrong with the form of a text. Nothing here quotes the text.

/// What is wrong, and in which line (the first is 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::document) struct Fault {
    /// The line.
    pub(in crate::document) line: usize,
    /// What is wrong there.
    pub(in crate::document) error: SyntaxError,
}

/// Why a text is not YAML, or not the part of it that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyntaxError {
    /// Not UTF-8.
    #[error("this is not UTF-8; save the file as UTF-8, and write other bytes as !!binary")]
    NotUtf8,
    /// A character that YAML does not allow as it stands.
    #[error(
        "there is a control character, or a line break that YAML readers do not agree on; write it as an escape in double quotes"
    )]
    Unprintable,
    /// A tab where spaces are needed.
    #[error("a tab cannot indent; use spaces")]
    Tab,
    /// `%YAML` and the like.
    #[error("directives (`%`) are not read; remove the line")]
    Directive,
    /// `&name` or `*name`.
    #[error(
        "anchors (`&`) and aliases (`*`) are not read; write the text out, or put quotes around it if it just starts so"
    )]
    Anchor,
    /// A tag other than those that are read.
    #[error(
        "this tag is not read; put quotes around a text that starts with `!`, or use !!str or !!binary"
    )]
    UnknownTag,
    /// Two tags for one value.
    #[error("there are two tags; keep one")]
    TwoTags,
    /// `? ` before a key.
    #[error("keys that start with `? ` are not read; write `name: value`")]
    ComplexKey,
    /// Something that is not `name: value`.
    #[error("this is not a field; write `name: value`")]
    NotAField,
    /// `: ` where it cannot stand.
    #[error("`: ` cannot stand here; put the value in quotes, or check the indentation")]
    UnexpectedColon,
    /// `- ` where it cannot stand.
    #[error("`- ` cannot stand here; begin the list on the next line")]
    UnexpectedDash,
    /// Text that belongs to nothing.
    #[error(
        "this text belongs to nothing; put the value above in quotes, or check the indentation"
    )]
    UnexpectedText,
    /// A line that is indented unlike its neighbours.
    #[error("the indentation fits nothing above; align the line with its neighbours")]
    Indentation,
    /// A plain text that starts with a character that has a meaning of its own.
    #[error("a text cannot start with this character; put it in quotes")]
    Reserved,
    /// A quote that is not closed.
    #[error("the quote that opens here is not closed; close it")]
    OpenQuote,
    /// A line inside quotes that is not indented.
    #[error(
        "the lines of a quoted text must be indented like its field at least; indent this line"
    )]
    QuoteIndentation,
    /// An escape that does not exist.
    #[error("this escape in double quotes does not exist; write `\\\\` for a backslash")]
    BadEscape,
    /// A header of `|` or `>` that is wrong.
    #[error("after `|` or `>` only a digit, `+` or `-` and a comment may follow; correct it")]
    BlockHeader,
    /// A bracket that is not closed.
    #[error("the bracket that opens here is not closed; close it")]
    OpenBracket,
    /// Something other than a comma between two entries.
    #[error("a comma or the closing bracket is missing here; add it, or put the text in quotes")]
    MissingComma,
    /// Nothing between two commas.
    #[error("there is nothing between two commas; remove one")]
    EmptyEntry,
    /// Too many collections in one another.
    #[error("this is nested too deep; a document is a mapping of fields, or a list of them")]
    TooDeep,
}
