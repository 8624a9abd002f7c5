//! `is-secure`: whether the set-up is sound.

use crate::cli::args::{Format, Output};
use crate::cli::client::{Client, ClientError};
use crate::cli::error::{CliError, Result};
use crate::cli::output::print;

/// What the daemon says when nothing is wrong.
const SECURE: &str = "Service is secure.";
/// What comes before each reason.
const INSECURE: &str = "secret svc is not secure: ";

/// Tell whether the service is set up securely; exits 1 if not, with the reasons.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  secretfs is-secure
  secretfs is-secure && secretfs save secrets/production/")]
pub(in super::super) struct Args {
    #[command(flatten)]
    output: Output,
}

pub(in super::super) fn run(client: &Client, args: Args) -> Result {
    let reasons = parse(&client.status("is-secure")?)
        .ok_or_else(|| ClientError::not_understood(".status/is-secure"))?;
    match args.output.format {
        Format::Table if reasons.is_empty() => print(&format!("{SECURE}\n"))?,
        Format::Table => {}
        Format::Json => print(&format!("{}\n", document(&reasons)))?,
        Format::Yaml => print(
            &serde_yaml::to_string(&document(&reasons))
                .map_err(|_| ClientError::not_understood(".status/is-secure"))?,
        )?,
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(CliError::No(reasons.iter().map(|reason| format!("{INSECURE}{reason}")).collect()))
}

fn document(reasons: &[String]) -> serde_json::Value {
    serde_json::json!({ "secure": reasons.is_empty(), "reasons": reasons })
}

/// The reasons, one a line. Only the exact sentence means that there are none: whatever else is
/// there, or nothing at all, is not a yes.
fn parse(text: &str) -> Option<Vec<String>> {
    if text.trim_end() == SECURE {
        return Some(Vec::new());
    }
    let reason = |line: &str| {
        let line = line.strip_prefix("Error: ").unwrap_or(line);
        line.strip_prefix(INSECURE).unwrap_or(line).to_owned()
    };
    let reasons: Vec<_> = text.lines().filter(|line| !line.is_empty()).map(reason).collect();
    (!reasons.is_empty()).then_some(reasons)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_sentence_is_a_yes() {
        assert_eq!(parse("Service is secure.\n"), Some(vec![]));
        assert_eq!(parse(""), None);
        assert_eq!(
            parse(
                "Error: secret svc is not secure: it is using the default encryption key\nswap\n"
            ),
            Some(vec!["it is using the default encryption key".into(), "swap".into()])
        );
        assert_eq!(parse("Service is secure.\nno\n").map(|reasons| reasons.len()), Some(2));
    }
}
