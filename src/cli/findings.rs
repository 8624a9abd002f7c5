//! What is wrong with documents, where, and in the form that was asked for.

use clap::ValueEnum;

use crate::model::printable;

use super::error::{CliError, Result};
use super::output::{print, print_list};
use super::yaml::Scalar;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The file, as it was named.
    pub(super) file: String,
    /// The line, the first being 1.
    pub(super) line: usize,
    /// The key of the document, where it is known.
    pub(super) key: Option<String>,
    /// What is wrong. Never a value.
    pub(super) message: String,
}

/// How findings are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum FindingsFormat {
    /// A line for each on standard error, for people.
    #[default]
    #[value(alias = "table")]
    Text,
    /// One JSON list on standard output.
    Json,
    /// One YAML list on standard output.
    Yaml,
    /// Annotations of GitHub Actions on standard output.
    Github,
}

/// Writes the findings.
///
/// # Errors
/// There are some: the answer is no.
pub(super) fn report(findings: &[Finding], format: FindingsFormat) -> Result {
    match format {
        FindingsFormat::Text => {}
        FindingsFormat::Json => print_list(true, findings.iter().map(Finding::fields))?,
        FindingsFormat::Yaml => print_list(false, findings.iter().map(Finding::fields))?,
        FindingsFormat::Github => {
            print(&findings.iter().map(Finding::annotation).collect::<String>())?;
        }
    }
    if findings.is_empty() {
        return Ok(());
    }
    Err(CliError::No(match format {
        FindingsFormat::Text => findings.iter().map(Finding::text).collect(),
        _ => Vec::new(),
    }))
}

impl Finding {
    fn text(&self) -> String {
        format!("{}: line {}: {}", self.file, self.line, self.sentence())
    }

    /// The message with the key before it.
    fn sentence(&self) -> String {
        match &self.key {
            Some(key) => format!("`{key}`: {}", self.message),
            None => self.message.clone(),
        }
    }

    fn fields(&self) -> super::yaml::Fields<'_> {
        let key = self.key.as_deref();
        vec![
            ("file", Scalar::Text(&self.file)),
            ("line", Scalar::Number(self.line as u64)),
            ("key", key.map_or(Scalar::Null, Scalar::Text)),
            ("message", Scalar::Text(&self.message)),
        ]
    }

    /// A workflow command of GitHub Actions.
    fn annotation(&self) -> String {
        let data = |text: &str| printable(text).replace('%', "%25");
        let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
        let (file, line) = (property(&self.file), self.line);
        format!("::error file={file},line={line}::{}\n", data(&self.sentence()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_cannot_be_left_by_what_is_in_it() {
        let finding = Finding {
            file: "a,b:100%.yaml".to_owned(),
            line: 3,
            key: Some("K\n::error::x".to_owned()),
            message: "50% wrong".to_owned(),
        };
        assert_eq!(
            finding.annotation(),
            "::error file=a%2Cb%3A100%25.yaml,line=3::`K\\n::error::x`: 50%25 wrong\n"
        );
    }
}
