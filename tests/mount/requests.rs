//! How many requests the kernel sends for something: what `.status/metrics` counts.

use std::collections::BTreeMap;

use crate::user::User;

/// Requests by opcode.
pub(crate) type Counts = BTreeMap<String, i64>;

/// The requests that the kernel sends without anybody waiting for the answer: they come late and
/// cost the caller nothing.
const NOT_WAITED_FOR: [&str; 4] = ["release", "releasedir", "forget", "batch_forget"];

/// The requests that `action` waits for, without those that reading the counters takes. Nobody else
/// may use the mount meanwhile.
pub(crate) fn requests_of(root: &User, action: impl FnOnce()) -> Counts {
    // Twice, so that what is cached after a first look is cached.
    counts(root);
    counts(root);
    let start = counts(root);
    let idle = counts(root);
    action();
    let end = counts(root);
    let count = |counts: &Counts, opcode: &str| counts.get(opcode).copied().unwrap_or(0);
    end.keys()
        .map(|opcode| {
            let reading = count(&idle, opcode) - count(&start, opcode);
            (opcode.clone(), count(&end, opcode) - count(&idle, opcode) - reading)
        })
        .filter(|(_, count)| *count != 0)
        .collect()
}

fn counts(root: &User) -> Counts {
    // With one read: how many a reader needs depends on how many digits the numbers have.
    let file = root.open(".status/metrics", libc::O_RDONLY).expect("root may read the metrics");
    let metrics = file.read_at(0, 1 << 20).expect("root may read the metrics");
    file.close().expect("it was read");
    let metrics = String::from_utf8(metrics).expect("metrics are text");
    let counts: Counts = metrics
        .lines()
        .filter_map(|line| {
            let rest = line.strip_prefix("secretfs_fuse_requests_total{opcode=\"")?;
            let (opcode, count) = rest.split_once("\"}")?;
            Some((opcode.to_owned(), count.trim().parse::<f64>().ok()?))
        })
        .filter(|(opcode, _)| !NOT_WAITED_FOR.contains(&opcode.as_str()))
        .map(|(opcode, count)| (opcode, count as i64))
        .collect();
    assert!(
        !counts.is_empty(),
        "`.status/metrics` has no secretfs_fuse_requests_total:\n{metrics}"
    );
    counts
}
