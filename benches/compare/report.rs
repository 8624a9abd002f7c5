//! The tables and the verdicts, as Markdown.

use super::requests::{Requests, short};
use super::rounds::Rates;
use super::subjects::Subject;
use super::work::{WORKS, Work};

/// All that was found out.
pub(crate) struct Report<'a> {
    pub(crate) subjects: &'a [Box<dyn Subject>],
    pub(crate) rates: &'a Rates,
    pub(crate) requests: &'a [Vec<Option<Requests>>],
}

/// What is wanted of open, fstat, read and close with 4 clients and warm caches: against whom, and how
/// many times their speed.
const WANTED: [(&str, f64); 3] = [("floor", 0.95), ("gocryptfs", 4.0), ("encfs", 3.0)];
/// Those that keep what they store sealed, as we do: against them more is to be said than numbers.
const SEALED: [&str; 2] = ["gocryptfs", "encfs"];
/// We are the first.
const OURS: usize = 0;

impl Report<'_> {
    /// The place of a subject, if it takes part.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.subjects.iter().position(|subject| subject.name() == name)
    }

    /// The pieces of work that were done.
    fn works(&self) -> impl Iterator<Item = (usize, &'static Work)> {
        WORKS.iter().enumerate().filter(|(number, _)| self.rates.has(*number))
    }

    fn counted(&self, work: usize, name: &str) -> Option<&Requests> {
        self.requests.get(work)?[self.place(name)?].as_ref()
    }

    /// A row for each piece of work: our speed as a multiple of the others', and the requests.
    pub(crate) fn ratios(&self) -> String {
        let names: Vec<_> = self.subjects[1..].iter().map(|subject| subject.name()).collect();
        let heads = names.iter().map(|name| format!("secretfs / {name}"));
        let mut text = header(heads.chain(["requests", "requests, floor"].map(str::to_owned)));
        for (number, work) in self.works() {
            let mut cells = vec![work.title()];
            for other in 1..self.subjects.len() {
                cells.push(short_ratio(self.rates.ratio(number, OURS, other)));
            }
            for name in ["secretfs", "floor"] {
                let counted = self.counted(number, name);
                cells.push(counted.map_or_else(String::new, |counted| short(counted.each())));
            }
            text.push_str(&row(&cells));
        }
        text
    }

    /// Microseconds that one client takes for one operation.
    pub(crate) fn times(&self) -> String {
        let names = self.subjects.iter().map(|subject| subject.name().to_owned());
        let mut text = header(names);
        for (number, work) in self.works() {
            let each = (0..self.subjects.len()).map(|subject| {
                let rate = self.rates.median(number, subject);
                let microseconds = work.clients as f64 * 1e6 / rate;
                let digits = usize::from(microseconds < 100.0);
                format!("{microseconds:.digits$}")
            });
            text.push_str(&row(&std::iter::once(work.title()).chain(each).collect::<Vec<_>>()));
        }
        text
    }

    /// Which requests our operations wait for.
    pub(crate) fn opcodes(&self) -> String {
        let mut text = header(["secretfs", "floor"].map(str::to_owned).into_iter());
        for (number, work) in self.works() {
            let cells = ["secretfs", "floor"]
                .map(|name| self.counted(number, name).map(Requests::in_words).unwrap_or_default());
            text.push_str(&row(&[work.title(), cells[0].clone(), cells[1].clone()]));
        }
        text
    }

    /// A row for each number that is wanted, and lines for the rest.
    pub(crate) fn verdicts(&self) -> String {
        let work = WORKS.iter().position(Work::is_headline).expect("it is one of them");
        let heads = [
            "times the opens a second of",
            "wanted",
            "with `--audit=off`",
            "as users have it, each open on record before its answer",
        ];
        let mut text = row(&heads.map(str::to_owned)) + &row(&heads.map(|_| "---".to_owned()));
        for (name, wanted) in WANTED {
            let verdict = |ours: Option<usize>| match ours.zip(self.place(name)) {
                Some((ours, other)) => {
                    let ratio = self.rates.ratio(work, ours, other);
                    let verdict = if ratio >= wanted { "met" } else { "**missed**" };
                    format!("{verdict}: {}", self.with_spread(work, ours, other))
                }
                None => "not measured, it is not installed".to_owned(),
            };
            let same_work = verdict(self.place("unaudited"));
            text.push_str(&row(&[
                name.to_owned(),
                wanted.to_string(),
                same_work,
                verdict(Some(OURS)),
            ]));
        }
        text.push('\n');
        if let Some((floor, appending)) = self.place("floor").zip(self.place("appending")) {
            text.push_str(&format!(
                "- For comparison, a floor that appends as many bytes to a file for each open, and no more: {} \
                 times the opens a second of floor.\n",
                self.with_spread(work, appending, floor)
            ));
        }
        let one = WORKS
            .iter()
            .zip(self.requests)
            .filter(|(work, _)| work.kind == super::work::Kind::Warm);
        let one =
            one.flat_map(|(_, requests)| &requests[OURS]).all(|counted| counted.is_just("open"));
        let verdict = if one { "met" } else { "**missed**" };
        text.push_str(&format!(
            "- {verdict}: exactly one request, the open, for each warm read.\n"
        ));
        text
    }

    /// A median, and between what half of the rounds are.
    fn with_spread(&self, work: usize, one: usize, other: usize) -> String {
        let ratio = self.rates.ratio(work, one, other);
        let (low, high) = self.rates.spread(work, one, other);
        format!("{ratio:.2} ({low:.2} to {high:.2})")
    }

    /// A line for each piece of work at which another one that seals is quicker.
    pub(crate) fn slower(&self) -> String {
        let mut text = String::new();
        for (number, work) in WORKS.iter().enumerate() {
            for name in SEALED {
                let Some(other) = self.place(name) else { continue };
                let ratio = self.rates.ratio(number, OURS, other);
                if ratio < 1.0 {
                    let title = work.title();
                    text.push_str(&format!("- {title}: {ratio:.2} times the speed of {name}.\n"));
                }
            }
        }
        if text.is_empty() { "- Nothing in this run.\n".to_owned() } else { text }
    }
}

fn short_ratio(ratio: f64) -> String {
    if ratio >= 10.0 { format!("{ratio:.0}") } else { format!("{ratio:.2}") }
}

fn header(heads: impl Iterator<Item = String>) -> String {
    let heads: Vec<_> = std::iter::once("work".to_owned()).chain(heads).collect();
    let line = vec!["---".to_owned(); heads.len()];
    row(&heads) + &row(&line)
}

fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}
