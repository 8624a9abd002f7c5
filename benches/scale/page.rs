//! The page of results.

use super::measure::{Numbers, Rotations};

/// What it says of these numbers.
pub(crate) fn write(all: &[Numbers], rotations: &Rotations, machine: &[String]) -> String {
    let mut page = "\
# What many secrets cost

This page was written, as root, by

```sh
cargo bench --bench scale -- --page docs/scale.md
```

Values have 32 to 4,096 bytes. 400 teams own the secrets, each its own, in directories of 20 services; a tenth
of them lies in one directory. Ratios compare with a mount of ten secrets in the same run, in turn; times say
as much about the machine.

| secrets |"
        .to_owned();
    let row = |page: &mut String, what: &str, number: &dyn Fn(&Numbers) -> String| {
        page.push_str(&format!("| {what} |"));
        all.iter().for_each(|numbers| page.push_str(&format!(" {} |", number(numbers))));
        page.push('\n');
    };
    all.iter().for_each(|numbers| page.push_str(&format!(" {} |", grouped(numbers.secrets))));
    page.push_str("\n| --- |");
    all.iter().for_each(|_| page.push_str(" --- |"));
    page.push('\n');
    row(&mut page, "ready after", &|n| format!("{:.2} s", n.ready.as_secs_f64()));
    row(&mut page, "the first time, all of it new", &|n| {
        format!("{:.2} s", n.first_ready.as_secs_f64())
    });
    row(&mut page, "processor time until then", &|n| format!("{:.2} s", n.cpu.as_secs_f64()));
    row(&mut page, "memory for each secret", &|n| format!("{} bytes", n.bytes_each));
    row(&mut page, "open, read, close ten of them: times as long", &|n| format!("{:.2}", n.open));
    row(&mut page, "500 different ones: times as long", &|n| format!("{:.2}", n.open_many));
    row(&mut page, "create and remove: times as long", &|n| format!("{:.2}", n.create));
    row(&mut page, "rename there and back: times as long", &|n| format!("{:.2}", n.rename));
    let listing =
        |n: &Numbers| format!("{:.3} s for {}", n.listing.as_secs_f64(), grouped(n.entries));
    row(&mut page, "the large directory listed", &listing);
    let export = |n: &Numbers| {
        format!("{:.2} s for {} MB", n.export.as_secs_f64(), n.export_bytes / 1_000_000)
    };
    row(&mut page, "`.export.yaml` read", &export);
    row(&mut page, "`secretfs list`", &|n| format!("{:.2} s", n.list.as_secs_f64()));
    page.push_str("\nWanted with a million:\n\n");
    let verdict = |is_met: bool| if is_met { "met" } else { "**missed**" };
    if let Some(most) = all.iter().max_by_key(|numbers| numbers.secrets) {
        let ready = most.ready.as_secs_f64();
        let wanted = [
            (ready < 3.0, format!("ready after {ready:.2} s; wanted: under 3 s")),
            (
                most.bytes_each < 400,
                format!("{} bytes of memory a secret; wanted: under 400", most.bytes_each),
            ),
            (most.open <= 1.1, format!("opens take {:.2} times as long; wanted: 1.1", most.open)),
            (
                most.listing.as_secs_f64() < 1.0,
                format!(
                    "a directory of {} listed in {:.2} s; wanted: under 1 s",
                    grouped(most.entries),
                    most.listing.as_secs_f64()
                ),
            ),
        ];
        for (is_met, what) in wanted {
            page.push_str(&format!("- {}: {what}.\n", verdict(is_met)));
        }
    }
    let Rotations { apart, together, syncs } = rotations;
    page.push_str(&format!(
        "- {}: 64 writers make {apart:.0} rotations a second, each durable before its `close` returns, and \
         {together:.0} in one directory; the disk alone makes {syncs:.0} appends a second durable, one after \
         the other: {:.2} and {:.2} rotations for each. Wanted: 5,000 where the disk allows it.\n\n\
         ## The machine\n\n",
        verdict(*apart >= 5000.0),
        apart / syncs,
        together / syncs
    ));
    machine.iter().for_each(|line| page.push_str(&format!("- {line}\n")));
    page
}

/// With commas.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
