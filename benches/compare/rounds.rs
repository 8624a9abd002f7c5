//! Interleaved rounds: within a round each piece of work is done on all subjects, one right after the
//! other and each time beginning with another, so that what else the machine does hits all alike.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::client::Clients;
use super::subjects::Subject;
use super::work::{WORKS, filling};

/// Operations a second, of each subject, for each piece of work, in each round.
pub(crate) struct Rates(Vec<Vec<Vec<f64>>>);

impl Rates {
    /// Whether that piece of work was done.
    pub(crate) fn has(&self, work: usize) -> bool {
        self.0[work].iter().all(|rates| !rates.is_empty())
    }

    /// The median rate of a subject.
    pub(crate) fn median(&self, work: usize, subject: usize) -> f64 {
        median(self.0[work][subject].clone())
    }

    /// The median of the rounds' ratios between two subjects.
    pub(crate) fn ratio(&self, work: usize, of: usize, to: usize) -> f64 {
        median(self.ratios(work, of, to))
    }

    /// The quarters of the rounds' ratios: a quarter of the rounds was below the first, a quarter
    /// above the second.
    pub(crate) fn spread(&self, work: usize, of: usize, to: usize) -> (f64, f64) {
        let mut ratios = self.ratios(work, of, to);
        ratios.sort_by(f64::total_cmp);
        let last = ratios.len() - 1;
        (ratios[last / 4], ratios[last - last / 4])
    }

    fn ratios(&self, work: usize, of: usize, to: usize) -> Vec<f64> {
        let (of, to) = (&self.0[work][of], &self.0[work][to]);
        of.iter().zip(to).map(|(of, to)| of / to).collect()
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 {
        numbers[middle]
    } else {
        f64::midpoint(numbers[middle - 1], numbers[middle])
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupt(_signal: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on SIGINT and SIGTERM end the comparison as an error does: everything is unmounted.
pub(crate) fn end_in_order() -> io::Result<()> {
    let action =
        SigAction::new(SigHandler::Handler(interrupt), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler does nothing but store into an atomic.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

fn go_on() -> io::Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        return Err(io::Error::other("interrupted"));
    }
    Ok(())
}

/// Gives every subject its files.
pub(crate) fn fill(subjects: &[Box<dyn Subject>], clients: &mut Clients) -> io::Result<()> {
    for subject in subjects {
        for jobs in filling(subject.as_ref()) {
            go_on()?;
            clients.run(&jobs)?;
        }
    }
    Ok(())
}

/// Does everything that often whose title has `only` in it.
pub(crate) fn run(
    subjects: &mut [Box<dyn Subject>],
    clients: &mut Clients,
    rounds: usize,
    only: &str,
) -> io::Result<Rates> {
    let mut rates = vec![vec![Vec::new(); subjects.len()]; WORKS.len()];
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for subject in subjects.iter_mut() {
            go_on()?;
            subject.remount()?;
        }
        let wanted = WORKS.iter().enumerate().filter(|(_, work)| work.title().contains(only));
        for (number, work) in wanted {
            for turn in 0..subjects.len() {
                go_on()?;
                let which = (round + number + turn) % subjects.len();
                let (subject, tag) = (subjects[which].as_ref(), round.to_string());
                for job in work.preparation(subject, &tag) {
                    clients.run(&[job])?;
                }
                let rate = clients.run(&work.jobs(subject, &tag, false)).map_err(|error| {
                    io::Error::other(format!("{}: {}: {error}", subject.name(), work.what))
                })?;
                rates[number][which].push(rate);
            }
        }
    }
    Ok(Rates(rates))
}
