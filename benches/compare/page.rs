//! The page of results.

use std::path::Path;

use super::report::Report;

/// The page around the numbers.
const TEMPLATE: &str = include_str!("page.md");

/// The page's text. `picture` is the plot, beside the page.
pub(crate) fn write(
    report: &Report<'_>,
    machine: &[String],
    rounds: usize,
    picture: &Path,
) -> String {
    let picture = picture.file_name().unwrap_or_default().to_string_lossy();
    let machine: String = machine.iter().map(|line| format!("- {line}\n")).collect();
    let values = [
        ("verdicts", report.verdicts()),
        ("slower", report.slower()),
        ("ratios", report.ratios()),
        ("opcodes", report.opcodes()),
        ("times", report.times()),
        ("machine", machine),
        ("rounds", rounds.to_string()),
        ("picture", picture.into_owned()),
    ];
    values.iter().fold(TEMPLATE.to_owned(), |page, (name, value)| {
        page.replace(&format!("{{{{{name}}}}}"), value.trim_end())
    })
}
