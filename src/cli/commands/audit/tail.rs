//! `audit tail`.

use std::io::Write;
use std::time::Duration;

use crate::audit::{Record, RecordedGrant, Tail};
use crate::cli::args::{Format, Output};
use crate::cli::error::{CliError, Result};
use crate::cli::offline::SelectedMount;
use crate::cli::style::printable;
use crate::daemon;

use super::filter::{self, Filter};

/// How often new lines are looked for.
const LOOK: Duration = Duration::from_millis(200);
/// After so many lines in a row from before `--since`, those before them are taken to be from before it too. A
/// few are not enough: the clock may have been wrong for a while, as at the start of a machine.
const MAX_OLDER: usize = 100_000;

const EXAMPLES: &str = "\
Examples:
  secretfs audit tail -f
  secretfs audit tail -n 100 --outcome denied --since 2h
  secretfs audit tail --key 'payment-svc/*' --output json | jq .program";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Go on with the lines that follow, until it is interrupted.
    #[arg(long, short)]
    follow: bool,
    /// How many of the last lines to print.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    lines: usize,
    #[command(flatten)]
    filter: filter::Conditions,
    #[command(flatten)]
    place: super::Place,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(mount: &SelectedMount, args: Args) -> Result {
    let place = mount.settings(args.place.state_dir, args.place.config)?;
    let directory = daemon::audit_directory(place)?;
    let (filter, format) = (Filter::from(args.filter), args.output.format);
    let unreadable = |source| CliError::file("read", directory.as_path())(source);
    // Without it the directory would look like an empty log.
    std::fs::metadata(&directory).map_err(unreadable)?;
    let mut tail = Tail::at_end(&directory).map_err(unreadable)?;
    let mut last = last_lines(&tail, &filter, args.lines).map_err(unreadable)?;
    while let Some(line) = last.pop() {
        show(&line, format)?;
    }
    if !args.follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(LOOK);
        let mut new = Vec::new();
        tail.follow(&mut |line| new.push(line.to_vec())).map_err(unreadable)?;
        for line in new {
            if Record::parse(&line).is_none_or(|record| filter.wants(&record)) {
                show(&line, format)?;
            }
        }
    }
}

/// The last lines that are wanted, the newest first.
fn last_lines(tail: &Tail, filter: &Filter, count: usize) -> std::io::Result<Vec<Vec<u8>>> {
    let (mut last, mut older) = (Vec::new(), 0);
    if count == 0 {
        return Ok(last);
    }
    tail.backwards(&mut |line| {
        // What is not a line of the log is shown, whatever is asked for: somebody put it there.
        let record = Record::parse(line);
        if record.as_ref().is_some_and(|record| filter.is_before(record)) {
            older += 1;
            return older < MAX_OLDER;
        }
        older = 0;
        if record.is_none_or(|record| filter.wants(&record)) {
            last.push(line.to_vec());
        }
        last.len() < count
    })?;
    Ok(last)
}

fn show(line: &[u8], format: Format) -> Result {
    let raw = String::from_utf8_lossy(line);
    let text = match (format, Record::parse(line)) {
        (Format::Json, _) => raw.into_owned(),
        (_, None) => format!("not a line of the log: {}", printable(&raw)),
        (Format::Yaml, Some(_)) => yaml(line),
        (Format::Table, Some(record)) => sentence(&record),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|source| CliError::Stream { action: "write to standard output", source })
}

/// One entry of a list.
fn yaml(line: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(line).expect("it was parsed before");
    let text = serde_yaml::to_string(&[value]).expect("what was JSON can be YAML");
    text.trim_end().to_owned()
}

/// A line for people: when, how it ended, what, to which secret, by whom, why.
fn sentence(record: &Record) -> String {
    let time = record.time.replacen('T', " ", 1);
    let time = time.get(..23).unwrap_or(&time);
    let outcome = if record.outcome.is_empty() { "-" } else { &record.outcome };
    let mut parts = vec![format!("{time}  {outcome:<7}  {:<12}", record.op)];
    parts.extend(record.key.as_deref().map(|key| {
        let to = record.to.as_deref().map_or_else(String::new, |to| format!(" -> {to}"));
        let version = record.version.map_or_else(String::new, |version| format!(" v{version}"));
        format!("{key}{to}{version}")
    }));
    if !record.lists.is_empty() {
        parts.push(record.lists.join(","));
    }
    parts.extend(record.unchanged.then(|| "unchanged".to_owned()));
    parts.extend(record.uid.map(|uid| who(record, uid)));
    parts.extend(record.error.clone());
    parts.extend(record.grant.as_ref().map(why));
    parts.extend(record.repeats.map(|count| format!("{count} times")));
    parts.extend(record.of.map(|seq| format!("corrects number {seq}")));
    printable(parts.join("  ").trim_end())
}

fn who(record: &Record, uid: u32) -> String {
    let name = record.slug.as_deref().unwrap_or("-");
    let program = record.program.as_deref().unwrap_or("?");
    let pid = record.pid.unwrap_or(0);
    format!("{name} (uid {uid}, {program}[{pid}])")
}

fn why(grant: &RecordedGrant) -> String {
    match (&grant.slug, &grant.list, &grant.rule) {
        (Some(slug), Some(list), _) => format!("{slug} in {list}"),
        (_, _, Some(rule)) => rule.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_like_a_sentence() {
        let line = br#"{"seq":7,"time":"2026-11-24T14:02:11.402117Z","op":"open","outcome":"denied","errno":13,"error":"EACCES","uid":34,"gid":34,"pid":812,"program":"c\u001bt","slug":"backup","key":"a/K","version":3,"access":"read","hash":"x"}"#;
        assert_eq!(
            sentence(&Record::parse(line).unwrap()),
            "2026-11-24 14:02:11.402  denied   open          a/K v3  backup (uid 34, c\\u{1b}t[812])  EACCES"
        );
        let line = br#"{"seq":8,"time":"2026-11-24T14:02:11.402117Z","op":"change-lists","outcome":"allowed","uid":0,"key":"K","lists":["readers","writers"],"grant":{"slug":"ops","list":"canChangeReaders"}}"#;
        assert_eq!(
            sentence(&Record::parse(line).unwrap()),
            "2026-11-24 14:02:11.402  allowed  change-lists  K  readers,writers  - (uid 0, ?[0])  ops in canChangeReaders"
        );
        let line = br#"{"seq":9,"time":"2026-11-24T14:02:11.402117Z","op":"commit","outcome":"allowed","uid":0,"key":"K","version":4,"unchanged":true,"grant":{"rule":"admin"}}"#;
        assert_eq!(
            sentence(&Record::parse(line).unwrap()),
            "2026-11-24 14:02:11.402  allowed  commit        K v4  unchanged  - (uid 0, ?[0])  admin"
        );
        let line = br#"{"seq":9,"time":"2026-11-24T14:02:11.402117Z","op":"open","outcome":"denied","errno":13,"error":"EACCES","uid":34,"slug":"backup","repeats":2500}"#;
        assert_eq!(
            sentence(&Record::parse(line).unwrap()),
            "2026-11-24 14:02:11.402  denied   open          backup (uid 34, ?[0])  EACCES  2500 times"
        );
        let line = br#"{"seq":1,"time":"2026-11-24T14:02:11.402117Z","op":"start"}"#;
        assert_eq!(
            sentence(&Record::parse(line).unwrap()),
            "2026-11-24 14:02:11.402  -        start"
        );
    }
}
