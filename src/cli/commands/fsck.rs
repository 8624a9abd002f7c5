//! `fsck`: looks at every record of a state directory, and mends what can be mended.

use crate::cli::args::{Format, Output};
use crate::cli::error::{CliError, Result};
use crate::cli::offline::{SelectedMount, StateArgs};
use crate::cli::output::print_one;
use crate::cli::yaml::Scalar;
use crate::cli::{progress, style};
use crate::daemon::open_for_fsck;
use crate::vault::{Findings, Fsck, Repaired};

/// Check a state directory that no daemon uses: whether every record unseals and every value is whole.
///
/// Changes nothing, unless --repair is given. Exits with 0 if everything is well, with 1 if something
/// is wrong; a line on standard error says what, and what to do.
#[derive(clap::Args)]
#[command(after_help = "\
What a crash or a replaced value leaves behind is counted and is no damage: the next
start of the daemon removes it, and so does --repair. A damaged value comes back with
`secretfs restore`.

Examples:
  secretfs fsck
  secretfs fsck --state-dir /srv/secrets --repair")]
pub(in super::super) struct Args {
    /// Remove what no secret can reach any more, and take wrong marks off; nothing else.
    #[arg(long)]
    repair: bool,
    /// Take the secrets as they are for those that were stored last. Compare them with a backup before.
    #[arg(long)]
    accept: bool,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    output: Output,
}

pub(in super::super) fn run(mount: &SelectedMount, args: Args) -> Result {
    let fsck = open_for_fsck(args.state.settings(mount)?)?;
    let mut findings = check(&fsck)?;
    if args.repair {
        let repaired = fsck.repair(&findings)?;
        style::note(&summary(repaired));
        findings = check(&fsck)?;
    }
    if args.accept && fsck.accept(&findings)? {
        style::note("The secrets as they are now count as those that were stored last.");
        findings = check(&fsck)?;
    }
    show(&findings, args.output.format)?;
    match findings.problems.as_slice() {
        [] => Ok(()),
        problems => Err(CliError::No(problems.iter().map(ToString::to_string).collect())),
    }
}

fn check(fsck: &Fsck) -> Result<Findings> {
    let bar = progress::of_unknown("records");
    let findings = fsck.check(|seen| bar.set_position(seen));
    bar.finish_and_clear();
    Ok(findings?)
}

fn show(findings: &Findings, format: Format) -> Result {
    let rows = [
        ("records", findings.records),
        ("secrets", findings.secrets),
        ("valueBytes", findings.value_bytes),
        ("superseded", findings.superseded),
        ("unfinished", findings.unfinished),
        ("unreachable", findings.unreachable),
        ("problems", findings.problems.len() as u64),
    ];
    print_one(
        format,
        &table(findings),
        &rows.map(|(name, count)| (name, Scalar::Number(count))).into(),
    )
}

fn table(findings: &Findings) -> String {
    let mut lines = vec![format!(
        "{} records, {} secrets, {} bytes of values",
        findings.records, findings.secrets, findings.value_bytes
    )];
    for (count, what) in [
        (findings.superseded, "replaced values are still stored; the next start removes them"),
        (findings.unfinished, "parts of an interrupted import; the next start deals with them"),
        (findings.unreachable, "pieces of values that no secret names; --repair removes them"),
    ] {
        if count > 0 {
            lines.push(format!("{count} {what}"));
        }
    }
    match findings.problems.len() {
        0 => lines.push("Everything is well.".to_owned()),
        1 => lines.push("1 problem".to_owned()),
        count => lines.push(format!("{count} problems")),
    }
    lines.join("\n") + "\n"
}

fn summary(repaired: Repaired) -> String {
    format!(
        "Removed {} replaced values and {} unreachable pieces; took {} wrong marks off.",
        repaired.superseded, repaired.unreachable, repaired.marks
    )
}
