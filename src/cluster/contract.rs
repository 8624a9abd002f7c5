//! What every shared store keeps.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    Cluster, ClusterError, MAX_OPERATIONS, MAX_TRANSACTION_BYTES, News, Outcome, Record,
    Transaction,
};

/// Runs the whole suite; `open` gives an empty one each time.
pub(super) fn run<C: Cluster>(open: impl Fn() -> C) {
    reads_what_was_committed(&open());
    pages_are_of_one_revision(&open());
    a_transaction_that_expects_wrong_changes_nothing(&open());
    what_is_over_the_limits_is_refused(&open());
    a_watch_tells_whole_transactions_in_order(&open());
    a_watch_goes_on_where_it_was(&open());
    of_rivals_one_wins(&open());
}

fn puts(records: &[(&[u8], &[u8])]) -> Transaction {
    let mut transaction = Transaction::default();
    records.iter().for_each(|(name, sealed)| transaction.put(name, sealed.to_vec()));
    transaction
}

fn committed(cluster: &impl Cluster, transaction: &Transaction) -> u64 {
    match cluster.commit(transaction).unwrap() {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict(at) => panic!("a conflict: {at:?}"),
    }
}

fn all(cluster: &impl Cluster, at: Option<u64>) -> Vec<Record> {
    let (mut found, mut from) = (Vec::new(), Vec::new());
    loop {
        let page = cluster.read(&from, b"\xff", at).unwrap();
        found.extend(page.records);
        if !page.more {
            return found;
        }
        from = [&found.last().unwrap().name[..], b"\0"].concat();
    }
}

fn reads_what_was_committed(cluster: &impl Cluster) {
    assert!(all(cluster, None).is_empty());
    let first = committed(cluster, &puts(&[(b"a", b"1"), (b"b/\x00\xfe", b"")]));
    let second = committed(cluster, &puts(&[(b"a", b"2")]));
    assert!(second > first);
    let record = |name: &[u8], sealed: &[u8], revision| Record {
        name: name.to_vec(),
        sealed: sealed.to_vec(),
        revision,
    };
    let [a, b] = [record(b"a", b"2", second), record(b"b/\x00\xfe", b"", first)];
    assert_eq!(all(cluster, None), [a, b.clone()]);
    assert_eq!(all(cluster, Some(first)), [record(b"a", b"1", first), b.clone()]);
    assert_eq!(cluster.read(b"b", b"c", None).unwrap().records, [b]);
    let listed = cluster.list(b"a", b"b").unwrap();
    assert_eq!(listed.records, [record(b"a", b"", second)]);
    let mut removal = Transaction::default();
    removal.remove(b"a");
    removal.remove(b"never there");
    committed(cluster, &removal);
    assert_eq!(all(cluster, None).len(), 1);
}

fn pages_are_of_one_revision(cluster: &impl Cluster) {
    for some in (0..1000u16).collect::<Vec<_>>().chunks(100) {
        let mut transaction = Transaction::default();
        some.iter().for_each(|number| transaction.put(&number.to_be_bytes(), vec![7; 500]));
        committed(cluster, &transaction);
    }
    let page = cluster.read(b"", b"\xff", None).unwrap();
    assert!(page.more && !page.records.is_empty());
    let mut late = Transaction::default();
    late.remove(&999u16.to_be_bytes());
    late.put(&998u16.to_be_bytes(), vec![8]);
    committed(cluster, &late);
    let then = all(cluster, Some(page.revision));
    assert_eq!(then.len(), 1000);
    assert!(then.iter().all(|record| record.sealed == [7; 500]));
    assert_eq!(all(cluster, None).len(), 999);
}

fn a_transaction_that_expects_wrong_changes_nothing(cluster: &impl Cluster) {
    let first = committed(cluster, &puts(&[(b"a", b"1")]));
    for (name, revision) in [(&b"a"[..], 0), (b"a", first + 1), (b"b", first)] {
        let mut transaction = puts(&[(b"a", b"2"), (b"c", b"2")]);
        transaction.expect(name, revision);
        let outcome = cluster.commit(&transaction).unwrap();
        let there = if name == b"a" { first } else { 0 };
        assert_eq!(outcome, Outcome::Conflict(vec![there]), "{name:?} {revision}");
    }
    assert_eq!(all(cluster, None).len(), 1);
    let mut transaction = puts(&[(b"a", b"2")]);
    transaction.expect(b"a", first);
    transaction.expect(b"b", 0);
    let second = committed(cluster, &transaction);
    assert_eq!(all(cluster, None)[0].revision, second);
}

fn what_is_over_the_limits_is_refused(cluster: &impl Cluster) {
    let mut many = Transaction::default();
    (0..MAX_OPERATIONS as u8).for_each(|number| many.put(&[number], vec![1]));
    committed(cluster, &many);
    many.put(b"one more", vec![1]);
    assert!(matches!(cluster.commit(&many), Err(ClusterError::TooLarge { .. })));
    let large = vec![1; MAX_TRANSACTION_BYTES - 1];
    committed(cluster, &puts(&[(b"l", &large)]));
    let error = cluster.commit(&puts(&[(b"l", &large), (b"m", b"")]));
    assert!(matches!(error, Err(ClusterError::TooLarge { .. })));
    assert_eq!(cluster.read(b"l", b"l\0", None).unwrap().records[0].sealed, large);
}

fn a_watch_tells_whole_transactions_in_order(cluster: &impl Cluster) {
    let first = committed(cluster, &puts(&[(b"a", b"1"), (b"w", b"1")]));
    let mut heard = Vec::new();
    let mut last = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..20u8 {
                let mut transaction = puts(&[(b"a", &[round]), (b"b", &[round]), (b"w", &[round])]);
                transaction.remove(b"c");
                committed(cluster, &transaction);
                committed(cluster, &puts(&[(b"w", &[round])]));
            }
            committed(cluster, &puts(&[(b"end", b"")]));
        });
        let mut hear = |news| {
            let News::Changes { revision, changes } = news else {
                return ControlFlow::Continue(());
            };
            assert!(
                revision >= last && changes.iter().all(|(at, _)| (last..=revision).contains(at))
            );
            last = revision;
            heard.extend(changes);
            match heard.last() {
                Some((_, change)) if change.name == b"end" => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        };
        cluster.watch(b"a", b"w", first + 1, &mut hear).unwrap();
    });
    let values = |name: &[u8]| -> Vec<_> {
        let of = heard.iter().filter(|(_, change)| change.name == name);
        of.map(|(at, change)| (*at, change.sealed.clone().unwrap())).collect()
    };
    assert_eq!(values(b"a").len(), 20);
    assert_eq!(values(b"a"), values(b"b"), "each pair at one revision");
    assert!(values(b"a").is_sorted() && heard.iter().all(|(_, change)| change.name != b"w"));
}

fn a_watch_goes_on_where_it_was(cluster: &impl Cluster) {
    let revisions: Vec<_> =
        (0..5u8).map(|number| committed(cluster, &puts(&[(b"a", &[number])]))).collect();
    for (at, &since) in revisions.iter().enumerate() {
        let mut heard = Vec::new();
        let mut hear = |news| {
            if let News::Changes { changes, .. } = news {
                heard.extend(changes.into_iter().map(|(revision, _)| revision));
            }
            match heard.len() == revisions.len() - at {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        cluster.watch(b"a", b"b", since, &mut hear).unwrap();
        assert_eq!(heard, revisions[at..]);
    }
}

fn of_rivals_one_wins(cluster: &impl Cluster) {
    const ROUNDS: u64 = 25;
    let wins = AtomicU64::new(0);
    let add = || {
        for _ in 0..ROUNDS {
            let now = cluster.read(b"n", b"n\0", None).unwrap().records.pop();
            let (count, revision) = now.map_or((0, 0), |record| {
                (u64::from_be_bytes(record.sealed.try_into().unwrap()), record.revision)
            });
            let mut transaction = puts(&[(b"n", &(count + 1).to_be_bytes())]);
            transaction.expect(b"n", revision);
            if let Outcome::Committed(_) = cluster.commit(&transaction).unwrap() {
                wins.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(add))));
    let count = cluster.read(b"n", b"n\0", None).unwrap().records.remove(0).sealed;
    assert_eq!(u64::from_be_bytes(count.try_into().unwrap()), wins.into_inner());
}
