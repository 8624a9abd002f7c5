//! `audit verify`.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use crate::audit::{Report, VerifyError, log_bytes};
use crate::cli::args::{Format, Output};
use crate::cli::error::{CliError, Result};
use crate::cli::offline::SelectedMount;
use crate::cli::output::print;
use crate::cli::style;
use crate::daemon::{self, AuditLog, MountSettings};
use crate::vault::verify_audit;

const EXAMPLES: &str = "\
Examples:
  secretfs audit verify
  secretfs audit verify --encryption-key-file /etc/secretfs/encryption-key --output json";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    place: super::Place,
    /// File with the encryption key; it goes before OB_ENCRYPTION_KEY.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    encryption_key_file: Option<PathBuf>,
    /// File with older keys, one on each line: each part of the log needs the key of its time.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    previous_encryption_key_file: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(mount: &SelectedMount, args: Args) -> Result {
    let settings = MountSettings {
        encryption_key_file: args.encryption_key_file,
        previous_encryption_key_file: args.previous_encryption_key_file,
        ..mount.settings(args.place.state_dir, args.place.config)?
    };
    let AuditLog { directory, keyring, known, unknown } = daemon::audit_log(settings)?;
    let style = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {eta} left")
        .expect("the template is valid");
    let bar = ProgressBar::new(log_bytes(&directory)).with_style(style);
    let report = verify_audit(&directory, &keyring, known, &mut |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let mut report =
        report.map_err(|VerifyError { path, source }| CliError::file("read", path)(source))?;
    if let Some(why) = unknown {
        report.notes.push(format!("the log was not compared with its store: {why}"));
    }
    show(&report, args.output.format)?;
    if report.problems.is_empty() { Ok(()) } else { Err(CliError::No(report.problems)) }
}

fn show(report: &Report, format: Format) -> Result {
    report.notes.iter().for_each(|note| style::warn(note));
    let document = serde_json::json!({
        "valid": report.problems.is_empty(),
        "lines": report.lines,
        "repeats": report.repeats,
        "files": report.files,
        "first": report.first,
        "last": report.last,
        "problems": report.problems,
        "notes": report.notes,
    });
    match format {
        Format::Json => print(&format!("{document}\n")),
        Format::Yaml => {
            print(&serde_yaml::to_string(&document).expect("strings and numbers always encode"))
        }
        Format::Table if report.problems.is_empty() => print(&format!(
            "The audit log is as it was written: {} lines in {} files, numbers {} to {}; {} decisions are counted in lines of others.\n",
            report.lines, report.files, report.first, report.last, report.repeats
        )),
        Format::Table => Ok(()),
    }
}
