//! How far long work is, where standard error is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over so many bytes.
pub(super) fn of_bytes(length: u64) -> ProgressBar {
    bar(length, "{wide_bar} {bytes}/{total_bytes}, {eta} left")
}

/// A count of what is seen, where nobody knows how much there is.
pub(super) fn of_unknown(things: &str) -> ProgressBar {
    let template = format!("{{spinner}} {{pos}} {things}");
    ProgressBar::new_spinner()
        .with_style(ProgressStyle::with_template(&template).expect("the template is valid"))
}

fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    ProgressBar::new(length).with_style(style)
}
