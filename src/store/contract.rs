//! What every backend keeps.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Batch, MAX_RECORD_BYTES, Store, StoreError};

/// Runs the whole suite; `open` gives an empty store each time.
pub(super) fn run<S: Store>(open: impl Fn() -> S) {
    reads_what_was_written(&open());
    scans_by_prefix_in_order(&open());
    a_scan_stops_when_told_and_may_read(&open());
    a_scan_may_commit(&open());
    a_scan_may_begin_anywhere(&open());
    the_last_change_of_an_address_counts(&open());
    a_refused_batch_changes_nothing(&open());
    sizes_from_nothing_to_the_limit(&open());
    growing_and_shrinking_leaves_nothing_behind(&open());
    readers_see_whole_batches_of_one_record(&open());
}

/// A batch of puts.
pub(super) fn puts(records: &[(&[u8], &[u8])]) -> Batch {
    let mut batch = Batch::new();
    records.iter().for_each(|(address, sealed)| batch.put(address, sealed.to_vec()));
    batch
}

/// Everything under `prefix`, in the order of the scan.
pub(super) fn scan(store: &impl Store, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let mut visit = |address: &[u8], sealed: &[u8]| {
        found.push((address.to_vec(), sealed.to_vec()));
        ControlFlow::Continue(())
    };
    store.scan(prefix, &mut visit).unwrap();
    found
}

fn addresses(store: &impl Store, prefix: &[u8]) -> Vec<Vec<u8>> {
    scan(store, prefix).into_iter().map(|(address, _)| address).collect()
}

fn reads_what_was_written(store: &impl Store) {
    store.commit(&Batch::new()).unwrap();
    assert!(scan(store, b"").is_empty());

    store.commit(&puts(&[(b"a", b"1"), (b"b", b"2")])).unwrap();
    assert_eq!(store.read(b"a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(store.read(b"c").unwrap(), None);

    store.commit(&puts(&[(b"a", b"3")])).unwrap();
    assert_eq!(store.read(b"a").unwrap().as_deref(), Some(&b"3"[..]));

    let mut batch = Batch::new();
    batch.remove(b"a");
    batch.remove(b"never there");
    store.commit(&batch).unwrap();
    assert_eq!(store.read(b"a").unwrap(), None);
    assert_eq!(addresses(store, b""), [b"b"]);
}

fn scans_by_prefix_in_order(store: &impl Store) {
    let records: [&[u8]; 7] = [b"b/2", b"a", b"b/", b"b", b"\xff\xff", b"b/1", b"\0"];
    store.commit(&puts(&records.map(|address| (address, address)))).unwrap();
    let order: [&[u8]; 7] = [b"\0", b"a", b"b", b"b/", b"b/1", b"b/2", b"\xff\xff"];
    assert_eq!(scan(store, b""), order.map(|address| (address.to_vec(), address.to_vec())));
    assert_eq!(addresses(store, b"b/"), [&b"b/"[..], b"b/1", b"b/2"]);
    assert_eq!(addresses(store, b"\xff"), [b"\xff\xff"]);
    assert!(addresses(store, b"c").is_empty());

    let many: Vec<[u8; 3]> = (0..2000u16).map(|n| [b'm', (n >> 8) as u8, n as u8]).collect();
    let mut batch = Batch::new();
    many.iter().rev().for_each(|address| batch.put(address, vec![0]));
    store.commit(&batch).unwrap();
    assert_eq!(addresses(store, b"m"), many);
}

fn a_scan_stops_when_told_and_may_read(store: &impl Store) {
    store.commit(&puts(&[(b"a", b"1"), (b"b", b"2"), (b"c", b"3")])).unwrap();
    let mut seen = Vec::new();
    let mut visit = |address: &[u8], sealed: &[u8]| {
        assert_eq!(store.read(address).unwrap().as_deref(), Some(sealed));
        seen.push(address.to_vec());
        if address == b"b" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.scan(b"", &mut visit).unwrap();
    assert_eq!(seen, [b"a", b"b"]);
}

fn a_scan_may_commit(store: &impl Store) {
    let records: Vec<[u8; 2]> = (0..1000u16).map(u16::to_be_bytes).collect();
    let mut batch = Batch::new();
    records.iter().for_each(|address| batch.put(address, vec![0]));
    store.commit(&batch).unwrap();
    let mut seen = 0;
    let mut visit = |address: &[u8], _: &[u8]| {
        seen += 1;
        store.commit(&puts(&[(address, b"rewritten")])).unwrap();
        ControlFlow::Continue(())
    };
    store.scan(b"", &mut visit).unwrap();
    assert_eq!(seen, 1000);
    assert!(scan(store, b"").iter().all(|(_, sealed)| sealed == b"rewritten"));
}

fn a_scan_may_begin_anywhere(store: &impl Store) {
    let mut batch = puts(&[(b"a", b""), (b"m", b""), (b"n", b"")]);
    (0..1000u16).for_each(|number| batch.put(&[&b"m"[..], &number.to_be_bytes()].concat(), vec![]));
    store.commit(&batch).unwrap();
    let from = |start: &[u8]| {
        let mut seen = Vec::new();
        let mut visit = |address: &[u8], _: &[u8]| {
            seen.push(address.to_vec());
            ControlFlow::Continue(())
        };
        store.scan_from(b"m", start, &mut visit).unwrap();
        seen
    };
    for (start, first, count) in [
        (&b""[..], &b"m"[..], 1001),
        (b"m", b"m", 1001),
        (b"m\0", b"m\0\0", 1000),
        (b"m\x01\x00", b"m\x01\x00", 1000 - 256),
        (b"m\x01\x00\x00", b"m\x01\x01", 1000 - 257),
    ] {
        let seen = from(start);
        assert_eq!((seen.first().unwrap().as_slice(), seen.len()), (first, count), "{start:?}");
    }
    assert!(from(b"m\xff").is_empty());
    assert!(from(b"n").is_empty());
}

fn the_last_change_of_an_address_counts(store: &impl Store) {
    let mut batch = puts(&[(b"a", b"1"), (b"a", b"2"), (b"b", b"1"), (b"c", b"1")]);
    batch.remove(b"b");
    batch.remove(b"c");
    batch.put(b"c", b"2".to_vec());
    store.commit(&batch).unwrap();
    let left = [(b"a".to_vec(), b"2".to_vec()), (b"c".to_vec(), b"2".to_vec())];
    assert_eq!(scan(store, b""), left);
}

fn a_refused_batch_changes_nothing(store: &impl Store) {
    store.commit(&puts(&[(b"a", b"1")])).unwrap();
    let mut batch = puts(&[(b"a", b"2"), (b"b", &vec![0; MAX_RECORD_BYTES + 1])]);
    batch.remove(b"a");
    assert!(matches!(store.commit(&batch), Err(StoreError::TooLarge { .. })));
    assert_eq!(scan(store, b""), [(b"a".to_vec(), b"1".to_vec())]);
    store.commit(&puts(&[(b"b", b"2")])).unwrap();
}

fn sizes_from_nothing_to_the_limit(store: &impl Store) {
    for size in [0, 1, 1023, 1024, 1025, 4095, 4096, 4097, 8192, MAX_RECORD_BYTES] {
        let sealed = pattern(size, 7);
        store.commit(&puts(&[(b"a", &sealed)])).unwrap();
        assert_eq!(store.read(b"a").unwrap(), Some(sealed.clone()), "{size} bytes");
        assert_eq!(scan(store, b""), [(b"a".to_vec(), sealed)], "{size} bytes");
    }
}

fn growing_and_shrinking_leaves_nothing_behind(store: &impl Store) {
    // Neighbours whose addresses continue each other must not touch each other's pieces.
    let sizes = [MAX_RECORD_BYTES, 0, 9000, 20, MAX_RECORD_BYTES, 5000];
    let names: [&[u8]; 4] = [b"a", b"a\0", b"a\0\0", b"a\x01"];
    for (round, size) in sizes.into_iter().enumerate() {
        for (at, name) in names.into_iter().enumerate() {
            let sealed = pattern(size.saturating_sub(at), round as u8);
            store.commit(&puts(&[(name, &sealed)])).unwrap();
        }
        let expected: Vec<_> = (0..names.len())
            .map(|at| (names[at].to_vec(), pattern(size.saturating_sub(at), round as u8)))
            .collect();
        assert_eq!(scan(store, b"a"), expected);
    }
    let mut batch = Batch::new();
    names.iter().for_each(|name| batch.remove(name));
    store.commit(&batch).unwrap();
    assert!(scan(store, b"").is_empty());
}

fn readers_see_whole_batches_of_one_record(store: &impl Store) {
    const ROUNDS: u8 = 40;
    let version = |round: u8| vec![round; 1000 + usize::from(round) * 700];
    store.commit(&puts(&[(b"a", &version(0)), (b"b", &version(0))])).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = || {
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let sealed = store.read(b"a").unwrap().unwrap();
                let round = sealed[0];
                assert_eq!(sealed, version(round), "a mixed record");
                assert!(round >= last, "an older record after a newer one");
                last = round;
                assert_eq!(scan(store, b"").len(), 2);
            }
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        for round in 1..=ROUNDS {
            store.commit(&puts(&[(b"a", &version(round)), (b"b", &version(round))])).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert_eq!(store.read(b"b").unwrap(), Some(version(ROUNDS)));
}

/// Bytes that differ from position to position and from seed to seed.
pub(super) fn pattern(size: usize, seed: u8) -> Vec<u8> {
    (0..size).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed).collect()
}
