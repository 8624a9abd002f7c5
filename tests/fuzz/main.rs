//! The checks of the fuzz targets (`fuzz/`), without a fuzzer: all seeds as they are, and random
//! changes of them, the same ones each time. `SECRETFS_FUZZ_INPUTS` says how many of those.

#[path = "../../fuzz/checks/mod.rs"]
mod checks;
mod mutations;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use mutations::Mutations;

fn run(target: &str, usual: usize, check: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = fs::read_dir(&directory)
        .expect("the seeds are there")
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let seeds: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(!seeds.is_empty(), "{target} has no seeds");
    for (file, seed) in files.iter().zip(&seeds) {
        attempt(check, seed, &file.display().to_string());
    }
    let inputs = std::env::var("SECRETFS_FUZZ_INPUTS")
        .map_or(usual, |text| text.parse().expect("SECRETFS_FUZZ_INPUTS is a number"));
    let mut mutations = Mutations::new(&seeds);
    for number in 0..inputs {
        attempt(check, &mutations.next(), &format!("input {number}"));
    }
}

/// Shows the input if it fails.
fn attempt(check: fn(&[u8]), input: &[u8], which: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(input))) {
        eprintln!("{which}: \"{}\"", input.escape_ascii());
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn documents() {
    run("documents", 20_000, checks::documents::check);
}

#[test]
fn sidecar() {
    run("sidecar", 20_000, checks::sidecar::check);
}

#[test]
fn envelope() {
    run("envelope", 500, checks::envelope::check);
}

#[test]
fn paths() {
    run("paths", 50_000, checks::paths::check);
}

#[test]
fn tree() {
    run("tree", 500, checks::tree::check);
}
