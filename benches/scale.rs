//! What a store of many secrets costs: `cargo bench --bench scale`, as root with /dev/fuse. Takes the
//! numbers of secrets as arguments; `--page FILE` writes the page, `--only-fill DIR` makes a state directory of
//! the first size and leaves it there, for a profiler.

#[path = "scale/daemon.rs"]
mod daemon;
#[path = "scale/fill.rs"]
mod fill;
#[path = "compare/machine.rs"]
mod machine;
#[path = "scale/measure.rs"]
mod measure;
#[path = "scale/page.rs"]
mod page;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut sizes: Vec<usize> = arguments.iter().filter_map(|text| text.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![10, 1_000, 100_000, 1_000_000];
    }
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        Some(PathBuf::from(&arguments[at + 1]))
    };
    if let Some(state) = after("--only-fill") {
        return fill::fill(&state, sizes[0]);
    }
    let page = after("--page");
    let directory = tempfile::tempdir().expect("a directory");
    let machine = machine::describe(directory.path()).expect("Linux tells it");
    let few = directory.path().join("few");
    fill::fill(&few, 10);
    let mut all = Vec::new();
    for size in sizes {
        let state = directory.path().join("many");
        let started = Instant::now();
        fill::fill(&state, size);
        println!("{size} secrets stored in {:.1?}", started.elapsed());
        all.push(measure::measure(size, &state, &few, directory.path()));
        fs::remove_dir_all(state).expect("it is ours");
    }
    let rotations = measure::rotations(&few, directory.path());
    let text = page::write(&all, &rotations, &machine);
    match page {
        Some(path) => fs::write(path, text).expect("the page can be written"),
        None => println!("{text}"),
    }
}
