//! Not a test: the last test program of `cargo test`, by its name. Lists which tests did nothing on this machine, and
//! leaves the list as `skipped-tests` in `CARGO_TARGET_TMPDIR`, a line each: program, test, reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::process::parent_id;
use std::path::Path;

/// Of so many tests with the same reason the names are shown.
const SHOWN: usize = 10;

fn main() -> io::Result<()> {
    // Tools ask test programs for their tests.
    if std::env::args().any(|argument| argument == "--list") {
        return Ok(());
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let noted = directory.join("skipped").join(parent_id().to_string());
    let text = match fs::read_to_string(&noted) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let lines: BTreeSet<_> = text.lines().map(|line| format!("{line}\n")).collect();
    let all = directory.join("skipped-tests");
    fs::write(&all, lines.iter().map(String::as_str).collect::<String>())?;
    if lines.is_empty() {
        return Ok(());
    }
    fs::remove_file(noted)?;
    let mut reasons: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in &lines {
        let (test, why) = line.trim_end().rsplit_once('\t').expect("a line has three parts");
        reasons.entry(why).or_default().push(test.replace('\t', " "));
    }
    let tests: BTreeSet<_> = reasons.values().flatten().collect();
    println!("\n{} tests were skipped ({}):", tests.len(), all.display());
    for (why, tests) in &reasons {
        println!("  {why}");
        tests.iter().take(SHOWN).for_each(|test| println!("      {test}"));
        if tests.len() > SHOWN {
            println!("      and {} more", tests.len() - SHOWN);
        }
    }
    println!();
    Ok(())
}
