//! How many requests the kernel sends for each piece of work, counted by those who answer them. Unlike
//! times these numbers are exact.

use std::io;

use super::client::Clients;
use super::subjects::{Counts, Subject};
use super::work::{WORKS, Work};

/// The kernel does not wait for the answers of these: they come late and cost the caller nothing.
const NOT_WAITED_FOR: [&str; 4] = ["release", "releasedir", "forget", "batch_forget"];

/// Requests that one operation waits for, by opcode, and how many operations were counted.
pub(crate) struct Requests {
    counts: Counts,
    operations: usize,
}

impl Requests {
    /// For one operation.
    pub(crate) fn each(&self) -> f64 {
        self.counts.values().sum::<u64>() as f64 / self.operations as f64
    }

    /// Whether each operation is one request, and which.
    pub(crate) fn is_just(&self, opcode: &str) -> bool {
        self.counts.len() == 1 && self.counts.get(opcode) == Some(&(self.operations as u64))
    }

    /// For one operation, by opcode.
    pub(crate) fn in_words(&self) -> String {
        let words = self.counts.iter().map(|(opcode, count)| {
            let each = *count as f64 / self.operations as f64;
            format!("{} {opcode}", short(each))
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

/// A number with as many digits as tell something.
pub(crate) fn short(number: f64) -> String {
    if (number - number.round()).abs() < 0.005 {
        format!("{number:.0}")
    } else if number < 0.1 {
        format!("{number:.3}")
    } else {
        format!("{number:.2}")
    }
}

/// Counts for each piece of work, done once by each client, and each subject that can tell.
pub(crate) fn count(
    subjects: &mut [Box<dyn Subject>],
    clients: &mut Clients,
) -> io::Result<Vec<Vec<Option<Requests>>>> {
    let mut all = Vec::new();
    for subject in subjects.iter_mut() {
        subject.remount()?;
    }
    for (number, work) in WORKS.iter().enumerate() {
        let tag = format!("count-{number}");
        let counted = subjects.iter_mut().map(|subject| of(subject.as_mut(), clients, work, &tag));
        all.push(counted.collect::<io::Result<Vec<_>>>()?);
    }
    Ok(all)
}

fn of(
    subject: &mut dyn Subject,
    clients: &mut Clients,
    work: &Work,
    tag: &str,
) -> io::Result<Option<Requests>> {
    if subject.requests()?.is_none() {
        return Ok(None);
    }
    let (preparation, jobs) = work.counted(subject, tag);
    for job in preparation {
        clients.run(&[job])?;
    }
    // What reading the counters costs is the same each time from the second on.
    let mut next = || subject.requests().map(Option::unwrap_or_default);
    next()?;
    let (start, idle) = (next()?, next()?);
    clients.run(&jobs)?;
    let end = next()?;
    let count = |counts: &Counts, opcode: &str| counts.get(opcode).copied().unwrap_or(0);
    let waited_for = end.keys().filter(|opcode| !NOT_WAITED_FOR.contains(&opcode.as_str()));
    let counts = waited_for
        .map(|opcode| {
            let reading = count(&idle, opcode) - count(&start, opcode);
            (opcode.clone(), count(&end, opcode) - count(&idle, opcode) - reading)
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    Ok(Some(Requests { counts, operations: work.operations_once() * work.clients }))
}
