//! What reading, writing and listing secrets costs, compared with others in the same run:
//! `cargo bench --bench compare`, as root with /dev/fuse.
//!
//! - `--rounds N`: how often everything is measured; medians are shown.
//! - `--page FILE`: writes the page of results, and the plot beside it.
//! - `--plot FILE`: writes the plot alone.
//! - `--only TEXT`: measures the rows alone whose title has that in it, and counts no requests.
//! - `--against PROGRAM`: another build of `secretfs` takes part, as `other`.

mod bare;
mod client;
mod job;
mod machine;
mod page;
mod plot;
mod report;
mod requests;
mod rounds;
mod subjects;
mod work;

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use client::Clients;
use report::Report;
use subjects::floor;
use work::{MOST_CLIENTS, WORKS};

const ROUNDS: usize = 9;

/// What the command line asks for.
#[derive(Default)]
struct Wishes {
    rounds: Option<usize>,
    page: Option<PathBuf>,
    plot: Option<PathBuf>,
    only: Option<String>,
    against: Option<PathBuf>,
}

impl Wishes {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut wishes = Self::default();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--rounds" => wishes.rounds = Some(value()?.parse()?),
                "--page" => wishes.page = Some(value()?.into()),
                "--plot" => wishes.plot = Some(value()?.into()),
                "--only" => wishes.only = Some(value()?),
                "--against" => wishes.against = Some(value()?.into()),
                // Cargo says that.
                "--bench" => {}
                _ => return Err(format!("no such argument: {argument}").into()),
            }
        }
        if wishes.only.is_some() && (wishes.page.is_some() || wishes.plot.is_some()) {
            return Err("--only makes no page and no plot: they have every row".into());
        }
        if let Some(only) = &wishes.only
            && !WORKS.iter().any(|work| work.title().contains(only))
        {
            return Err(format!("no row has {only:?} in its title").into());
        }
        Ok(wishes)
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let outcome = match (arguments.next(), arguments.next()) {
        (Some(role), None) if role == client::ARGUMENT => client::serve().map_err(Into::into),
        (Some(role), Some(point)) if role == floor::ARGUMENT => {
            floor::serve(&point, None).map_err(Into::into)
        }
        (Some(role), Some(point)) if role == floor::APPENDING => {
            floor::serve(&point, Some(&floor::log_of(&point))).map_err(Into::into)
        }
        _ => Wishes::parse(std::env::args().skip(1)).and_then(|wishes| compare(&wishes)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(wishes: &Wishes) -> Result<(), Box<dyn Error>> {
    if !nix::unistd::geteuid().is_root() {
        return Err("this needs root: it mounts for another user".into());
    }
    let rounds = wishes.rounds.unwrap_or(ROUNDS).max(1);
    rounds::end_in_order()?;
    let directory = tempfile::Builder::new().prefix("secretfs-bench-").tempdir()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let machine = machine::describe(directory.path())?;
    let mut subjects = subjects::start(directory.path(), wishes.against.as_deref())?;
    let mut clients = Clients::start(MOST_CLIENTS)?;
    rounds::fill(&subjects, &mut clients)?;
    let only = wishes.only.as_deref().unwrap_or_default();
    let rates = rounds::run(&mut subjects, &mut clients, rounds, only)?;
    if wishes.only.is_some() {
        let report = Report { subjects: &subjects, rates: &rates, requests: &[] };
        println!("{}\n{}", report.ratios(), report.times());
        return Ok(());
    }
    let requests = requests::count(&mut subjects, &mut clients)?;
    let report = Report { subjects: &subjects, rates: &rates, requests: &requests };
    println!("{}\n{}\n{}", report.ratios(), report.opcodes(), report.times());
    println!("{}", report.verdicts());
    let unit = report.place("floor").unwrap_or_default();
    let plot = plot::draw(&subjects, unit, &rates)?;
    if let Some(path) = &wishes.plot {
        fs::write(path, &plot)?;
    }
    if let Some(path) = &wishes.page {
        let picture = path.with_extension("svg");
        fs::write(&picture, &plot)?;
        fs::write(path, page::write(&report, &machine, rounds, &picture))?;
    }
    Ok(())
}
