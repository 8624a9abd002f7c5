//! The whole log on a real disk: written, tampered with, recovered.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::*;
use crate::model::{Caller, Slug};

struct Bench {
    _directory: tempfile::TempDir,
    options: Options,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            mode: Mode::Required,
            directory: directory_in(directory.path()),
            file_bytes: DEFAULT_FILE_BYTES,
            keep_files: 0,
            copy: None,
            copy_socket: None,
            repeats: Repeats::Each,
            counts: None,
            revision: Revision::default(),
        };
        Self { _directory: directory, options }
    }

    fn open(&self) -> Audit {
        Audit::open(&self.options, &keys(), known(0)).unwrap()
    }

    /// Writes `count` lines and closes the log.
    fn write(&self, count: usize) {
        let audit = self.open();
        for number in 0..count {
            audit.record_now(vec![event(&format!("K{number}"))]).unwrap();
        }
    }

    fn verify(&self) -> Report {
        verify(&self.options.directory, Some((STORE, Anchor::default())), &|_| keys(), &mut |_| {})
            .unwrap()
    }

    #[track_caller]
    fn assert_whole(&self) -> Report {
        let report = self.verify();
        assert_eq!(report.problems, [""; 0], "{report:?}");
        report
    }

    #[track_caller]
    fn assert_broken(&self, what: &str) {
        let report = self.verify();
        assert!(
            report.problems.iter().any(|problem| problem.contains(what)),
            "`{what}` was expected in {report:?}"
        );
    }

    fn path(&self, number: u64) -> PathBuf {
        files::path_of(&self.options.directory, number)
    }

    fn lines(&self, number: u64) -> Vec<String> {
        fs::read_to_string(self.path(number)).unwrap().lines().map(str::to_owned).collect()
    }

    fn set_lines(&self, number: u64, lines: &[String]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.path(number), text).unwrap();
    }

    /// Lines of all files.
    fn all(&self) -> Vec<String> {
        let numbers = files::list(&self.options.directory).unwrap();
        numbers.into_iter().flat_map(|number| self.lines(number)).collect()
    }
}

fn keys() -> Vec<ChainKey> {
    vec![ChainKey::new("00000000000000aa", &[1; 32], &STORE)]
}

/// The store that the log belongs to.
const STORE: StoreTag = [7; 16];

/// What that knows.
fn known(seq: u64) -> Known {
    Known::Line(Anchor { seq, hash: None })
}

fn actor() -> Actor {
    let caller = Caller::new(2100, Some(Slug::parse("alice").unwrap()), [], false);
    let process = Process { gid: 2100, pid: 7, program: Some("cat \"x\"".into()), request: 0 };
    Actor { caller: Arc::new(caller), process }
}

fn event(key: &str) -> Event {
    Event::new(&actor(), Action::Open, &Subject::of(key), Ok(()))
}

#[test]
fn what_is_written_verifies() {
    let bench = Bench::new();
    bench.write(10);
    bench.write(10);
    let report = bench.assert_whole();
    // begin, then per run: start, ten lines, stop.
    assert_eq!((report.lines, report.files, report.first, report.last), (25, 1, 1, 25));
    let records: Vec<_> =
        bench.all().iter().map(|line| Record::parse(line.as_bytes()).unwrap()).collect();
    assert_eq!(records[2].key.as_deref(), Some("K0"));
    assert_eq!(records[2].program.as_deref(), Some("cat \"x\""));
    assert!(records.iter().map(|record| record.seq).eq(1..=25));
}

#[test]
fn every_way_to_tamper_with_lines_is_found() {
    let bench = Bench::new();
    bench.write(3);
    let good = bench.lines(1);
    let last = good.len() - 1;
    for at in 0..good.len() {
        let mut lines = good.clone();
        lines[at] = lines[at].replacen("\"op\":\"", "\"op\":\"x", 1);
        bench.set_lines(1, &lines);
        assert!(!bench.verify().problems.is_empty(), "line {at} was changed");

        let mut lines = good.clone();
        lines.remove(at);
        bench.set_lines(1, &lines);
        assert!(!bench.verify().problems.is_empty(), "line {at} was removed");

        let mut lines = good.clone();
        lines.insert(at, good[at].clone());
        bench.set_lines(1, &lines);
        assert!(!bench.verify().problems.is_empty(), "line {at} was repeated");

        if at < last {
            let mut lines = good.clone();
            lines.swap(at, at + 1);
            bench.set_lines(1, &lines);
            assert!(!bench.verify().problems.is_empty(), "line {at} was moved");
            bench.set_lines(1, &good[..=at]);
            bench.assert_broken("cut off");
        }
    }
    bench.set_lines(1, &good);
    bench.assert_whole();
    let text = fs::read(bench.path(1)).unwrap();
    for position in 0..text.len() {
        let mut bad = text.clone();
        bad[position] ^= 1 << (position % 8);
        fs::write(bench.path(1), &bad).unwrap();
        assert!(!bench.verify().problems.is_empty(), "a bit of byte {position}");
    }
    for length in (0..text.len()).step_by(5) {
        fs::write(bench.path(1), &text[..length]).unwrap();
        assert!(!bench.verify().problems.is_empty(), "cut to {length} bytes");
    }
}

#[test]
fn another_key_makes_no_line() {
    let bench = Bench::new();
    bench.write(3);
    let of = |id: &str, key: &[u8; 32]| {
        let keys = vec![ChainKey::new(id, key, &STORE)];
        verify(&bench.options.directory, None, &|_| keys.clone(), &mut |_| {}).unwrap()
    };
    let report = of("00000000000000aa", &[2; 32]);
    assert!(!report.problems.is_empty());
    let report = of("00000000000000bb", &[1; 32]);
    assert!(report.problems.iter().all(|one| one.contains("previous-encryption-key-file")));
}

#[test]
fn files_tie_into_each_other_and_none_can_be_missing() {
    let mut bench = Bench::new();
    bench.options.file_bytes = 2_000;
    bench.write(40);
    let numbers = files::list(&bench.options.directory).unwrap();
    assert!(numbers.len() > 4, "{numbers:?}");
    let report = bench.assert_whole();
    assert_eq!(report.files, numbers.len() as u64);
    for &number in &numbers {
        let away = bench.path(number).with_extension("away");
        fs::rename(bench.path(number), &away).unwrap();
        let report = bench.verify();
        assert!(!report.problems.is_empty(), "file {number} of {numbers:?} was away");
        fs::rename(&away, bench.path(number)).unwrap();
    }
    let (a, b) = (bench.lines(2), bench.lines(3));
    bench.set_lines(2, &b);
    bench.set_lines(3, &a);
    assert!(!bench.verify().problems.is_empty(), "two files changed places");
    bench.set_lines(2, &a[..a.len() - 1]);
    bench.set_lines(3, &b);
    bench.assert_broken("missing at the end of audit-00000002.jsonl");
}

#[test]
fn old_files_go_and_the_rest_verifies() {
    let mut bench = Bench::new();
    bench.options.file_bytes = 2_000;
    bench.options.keep_files = 3;
    bench.write(60);
    let numbers = files::list(&bench.options.directory).unwrap();
    assert_eq!(numbers.len(), 3);
    assert!(numbers[0] > 3);
    let report = bench.assert_whole();
    assert!(report.first > 1 && report.last > 60);
    let (first, files) = (report.first - 1, numbers[0] - 1);
    let removed =
        format!("log rotation has removed lines 1 to {first}, which were in {files} files");
    assert!(report.notes[0].starts_with(&removed), "{report:?}");
    // A gap that rotation did not make is still one.
    let lines = bench.lines(numbers[1]);
    bench.set_lines(numbers[1], &[&lines[..1], &lines[2..]].concat());
    bench.assert_broken("missing before line 2");
    bench.set_lines(numbers[1], &lines);
    // The oldest one that is kept must be there all the same.
    fs::remove_file(bench.path(numbers[0])).unwrap();
    bench.assert_broken("missing");
}

#[test]
fn without_its_head_the_end_is_in_doubt() {
    let bench = Bench::new();
    bench.write(3);
    fs::remove_file(head_of(&bench.options.directory)).unwrap();
    bench.assert_broken("head");
    bench.write(3);
    bench.assert_broken("head of the log was gone");
    fs::remove_dir_all(&bench.options.directory).unwrap();
    bench.assert_broken("missing");
    fs::remove_file(head_of(&bench.options.directory)).unwrap();
    bench.assert_broken("no audit log");
}

#[test]
fn what_is_missing_at_a_start_stays_on_record() {
    let bench = Bench::new();
    bench.write(10);
    let good = bench.lines(1);
    bench.set_lines(1, &good[..good.len() - 4]);
    let audit = bench.open();
    assert!(!audit.status().problems.is_empty(), "nobody noticed");
    audit.record_now(vec![event("after")]).unwrap();
    drop(audit);
    bench.assert_broken("lines 10 to 13 were missing or changed when the daemon started");
    assert_eq!(bench.verify().problems.len(), 1, "the rest is as it was written");
}

#[test]
fn the_store_remembers_a_log_that_is_gone() {
    let bench = Bench::new();
    bench.write(3);
    fs::remove_dir_all(&bench.options.directory).unwrap();
    fs::remove_file(head_of(&bench.options.directory)).unwrap();
    let audit = Audit::open(&bench.options, &keys(), known(5)).unwrap();
    assert!(!audit.status().problems.is_empty(), "nobody noticed");
    assert!(audit.record_now(vec![event("after")]).unwrap() > 5);
    drop(audit);
    bench.assert_broken("lines 1 to 5");
}

#[test]
fn a_power_loss_is_told_from_a_cut() {
    let bench = Bench::new();
    bench.write(10);
    let good = bench.lines(1);
    // As if the last three lines had not been on the disk when the machine went down.
    let path = head_of(&bench.options.directory);
    let before = head::read(&path, &keys()).unwrap().unwrap();
    let boot = head::Boot::other();
    let lost = head::Head { synced: before.seq - 3, boot, ..before };
    head::HeadFile::open(&path).unwrap().write(&keys()[0], &lost).unwrap();
    bench.set_lines(1, &good[..good.len() - 3]);
    assert_eq!(bench.verify().problems, [""; 0]);
    assert_eq!(bench.verify().notes.len(), 1);
    let audit = bench.open();
    assert_eq!(audit.status().problems, [""; 0]);
    drop(audit);
    let report = bench.assert_whole();
    assert!(report.notes[0].contains("power failure"), "{report:?}");
    // One line more is no longer explained.
    bench.set_lines(1, &good[..good.len() - 4]);
    assert!(!bench.verify().problems.is_empty());
}

#[test]
fn half_a_line_at_the_end_is_nobodys() {
    let bench = Bench::new();
    bench.write(3);
    let mut text = fs::read(bench.path(1)).unwrap();
    text.extend_from_slice(b"{\"seq\":8,\"time\":\"2026");
    fs::write(bench.path(1), &text).unwrap();
    bench.assert_whole();
    bench.write(3);
    bench.assert_whole();
    // The file was being begun.
    fs::write(bench.path(2), "{\"seq\":9").unwrap();
    bench.assert_whole();
    bench.write(3);
    bench.assert_whole();
}

#[test]
fn a_new_key_begins_a_new_file() {
    let bench = Bench::new();
    bench.write(3);
    let both = [ChainKey::new("00000000000000bb", &[2; 32], &STORE), keys().remove(0)];
    let audit = Audit::open(&bench.options, &both, known(0)).unwrap();
    audit.record_now(vec![event("after")]).unwrap();
    drop(audit);
    let of = |keys: &[ChainKey]| {
        verify(&bench.options.directory, None, &|_| keys.to_vec(), &mut |_| {}).unwrap()
    };
    let report = of(&both);
    assert_eq!((report.problems.len(), report.files), (0, 2), "{report:?}");
    let report = of(&both[..1]);
    assert!(report.problems[0].contains("00000000000000aa"), "{report:?}");
}

#[test]
fn many_threads_lose_nothing_and_keep_the_order() {
    const THREADS: usize = 8;
    const EACH: usize = 2_000;
    let mut bench = Bench::new();
    bench.options.file_bytes = 500_000;
    let audit = Arc::new(bench.open());
    let answered = Arc::new(Mutex::new(HashSet::new()));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (audit, answered) = (Arc::clone(&audit), Arc::clone(&answered));
            scope.spawn(move || {
                for number in 0..EACH {
                    let key = format!("t{thread}/{number}");
                    let (answered, told) = (Arc::clone(&answered), key.clone());
                    audit.record(event(&key), move |outcome| {
                        assert_eq!(outcome, Ok(()));
                        assert!(answered.lock().unwrap().insert(told), "answered twice");
                    });
                    if number % 500 == 0 {
                        audit.rotate();
                    }
                }
            });
        }
    });
    assert_eq!(audit.record_now(vec![event("x"), event("y")]).map(|seq| seq > 16_000), Ok(true));
    assert_eq!(answered.lock().unwrap().len(), THREADS * EACH);
    assert_eq!(audit.status().failures, 0);
    drop(audit);
    bench.assert_whole();
    let records: Vec<_> =
        bench.all().iter().map(|line| Record::parse(line.as_bytes()).unwrap()).collect();
    let keys: HashSet<_> = records.iter().filter_map(|record| record.key.clone()).collect();
    assert_eq!(keys.len(), THREADS * EACH + 2);
    for thread in 0..THREADS {
        let prefix = format!("t{thread}/");
        let own = records.iter().filter_map(|record| record.key.as_ref()?.strip_prefix(&prefix));
        assert!(own.eq((0..EACH).map(|number| number.to_string()).collect::<Vec<_>>()));
    }
}

#[test]
fn the_end_is_read_backwards_and_followed() {
    let mut bench = Bench::new();
    bench.options.file_bytes = 5_000;
    bench.write(100);
    let all = bench.all();
    let mut tail = Tail::at_end(&bench.options.directory).unwrap();
    let mut seen = Vec::new();
    tail.backwards(&mut |line| {
        seen.push(String::from_utf8(line.to_vec()).unwrap());
        true
    })
    .unwrap();
    seen.reverse();
    assert_eq!(seen, all);
    let mut count = 0;
    tail.backwards(&mut |_| {
        count += 1;
        count < 7
    })
    .unwrap();
    assert_eq!(count, 7);
    bench.write(100);
    let mut more = all.clone();
    tail.follow(&mut |line| more.push(String::from_utf8(line.to_vec()).unwrap())).unwrap();
    assert_eq!(more, bench.all());
    tail.follow(&mut |_| panic!("nothing is new")).unwrap();
}

#[test]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    bench.write(1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&bench.options.directory), 0o700);
    assert_eq!(mode(&bench.path(1)), 0o600);
    assert_eq!(mode(&head_of(&bench.options.directory)), 0o600);
}

/// A decision of alice's, or of a caller without a slug.
fn attempt(uid: u32, pid: u32, key: &str, errno: i32) -> Attempt {
    let slug = (uid == 2100).then(|| Slug::parse("alice").unwrap());
    let caller = Arc::new(Caller::new(uid, slug, [], false));
    let process = Process { gid: uid, pid, program: Some("cat".into()), request: 77 };
    let error =
        (errno != 0).then(|| ErrorCode { number: errno, name: "EACCES".to_owned(), denied: true });
    let subject = Subject::of(key);
    Attempt { actor: Actor { caller, process }, action: Action::Open, subject, error }
}

fn decide(audit: &Audit, attempt: Attempt) {
    let Some(new) = audit.admit(attempt) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(audit.record_new(new)), Ok(()));
}

/// The lines that tell of decisions, and how many each tells of.
fn told(bench: &Bench) -> Vec<(Record, u64)> {
    let records = bench.all().into_iter().map(|line| Record::parse(line.as_bytes()).unwrap());
    let told = records.filter(|record| !record.outcome.is_empty());
    told.map(|record| (record.clone(), record.repeats.unwrap_or(1))).collect()
}

#[test]
fn equal_decisions_of_a_second_are_counted() {
    let mut bench = Bench::new();
    bench.options.repeats = Repeats::Counted;
    let audit = bench.open();
    let long = "k/".repeat(400) + "K";
    for key in ["K", &long] {
        for _ in 0..500 {
            decide(&audit, attempt(2100, 7, key, 0));
        }
        decide(&audit, attempt(2100, 8, key, 0));
        decide(&audit, attempt(2101, 7, key, 0));
        decide(&audit, attempt(2100, 7, key, 13));
    }
    assert!(audit.status().repeats >= 900, "{:?}", audit.status());
    drop(audit);
    let told = told(&bench);
    for key in ["K", &long] {
        let of = |uid, pid, outcome: &str| -> (usize, u64) {
            let fits = |record: &Record| {
                (record.key.as_deref(), record.uid, record.pid) == (Some(key), Some(uid), Some(pid))
                    && record.outcome == outcome
            };
            let found: Vec<_> = told.iter().filter(|(record, _)| fits(record)).collect();
            (found.len(), found.iter().map(|(_, count)| count).sum())
        };
        let (lines, count) = of(2100, 7, "allowed");
        assert!(count == 500 && lines < 100, "{count} decisions in {lines} lines");
        for (uid, pid, outcome) in [(2100, 8, "allowed"), (2101, 7, "allowed"), (2100, 7, "denied")]
        {
            assert_eq!(of(uid, pid, outcome), (1, 1), "{uid} {pid} {outcome}");
        }
    }
    let report = bench.assert_whole();
    assert_eq!(report.repeats, told.iter().filter_map(|(one, _)| one.repeats).sum::<u64>());
    assert!(told.iter().all(|(record, _)| record.repeats.is_none() || record.request.is_none()));
}

#[test]
fn denials_of_one_uid_beyond_its_share_are_counted_together() {
    const MANY: u32 = 3000;
    for repeats in [Repeats::Counted, Repeats::Each] {
        let mut bench = Bench::new();
        bench.options.repeats = repeats;
        let audit = bench.open();
        let start = std::time::Instant::now();
        for number in 0..MANY {
            decide(&audit, attempt(2100, number, &format!("K{number}"), 13));
            // UIDs without a slug have one share, however many there are.
            decide(&audit, attempt(100_000 + number, 7, "K", 13));
            // What is allowed is no flood.
            decide(&audit, attempt(2100, 7, &format!("L{number}"), 0));
        }
        let seconds = 1 + start.elapsed().as_secs();
        drop(audit);
        let told = told(&bench);
        let (mut lines, mut count) = ([0; 3], [0; 3]);
        for (record, repeats) in &told {
            let kind = match (record.outcome.as_str(), record.uid) {
                ("allowed", _) => 0,
                (_, Some(2100)) => 1,
                _ => 2,
            };
            count[kind] += repeats;
            lines[kind] += u64::from(record.repeats.is_none());
        }
        assert_eq!(count, [u64::from(MANY); 3], "every decision is told of");
        assert_eq!(lines[0], u64::from(MANY));
        assert!(lines[1..].iter().all(|&lines| lines <= 100 * (seconds + 1)), "{lines:?}");
        let nameless = told.iter().filter(|(record, _)| record.uid.is_none()).count();
        assert!(nameless > 0 && nameless < 100, "a sum of those for whom there is no room");
        bench.assert_whole();
    }
}

#[test]
fn a_killed_process_leaves_its_counts_to_the_next() {
    // What the process leaves is copied before its thread has written any count: the next round if the
    // machine was too slow for that.
    let (bench, left) = std::iter::repeat_with(|| {
        let mut bench = Bench::new();
        bench.options.repeats = Repeats::Counted;
        let start = std::time::Instant::now();
        let (memory, left) = (tempfile::tempfile().unwrap(), Bench::new());
        bench.options.counts = Some(Arc::new(CountMemory::shared(&memory, 0).unwrap()));
        let killed = bench.open();
        for number in 0..400 {
            decide(&killed, attempt(2100, 7, "K", 0));
            decide(&killed, attempt(2100, number, &format!("K{number}"), 13));
        }
        fs::create_dir(&left.options.directory).unwrap();
        fs::copy(bench.path(1), left.path(1)).unwrap();
        fs::copy(head_of(&bench.options.directory), head_of(&left.options.directory)).unwrap();
        let mut copy = tempfile::tempfile().unwrap();
        std::io::copy(&mut &memory, &mut copy).unwrap();
        (start.elapsed() < std::time::Duration::from_millis(800)).then_some((left, copy))
    })
    .find_map(|round| round)
    .unwrap();
    let counted = |bench: &Bench| {
        let count = |outcome: &str| -> u64 {
            let told = told(bench);
            told.iter().filter(|(one, _)| one.outcome == outcome).map(|(_, count)| count).sum()
        };
        (count("allowed"), count("denied"))
    };
    let (mut bench, memory) = (bench, left);
    assert_ne!(counted(&bench), (400, 400), "nothing was counted");
    bench.options.counts = Some(Arc::new(CountMemory::shared(&memory, 0).unwrap()));
    // Twice: nothing is told of twice.
    (0..2).for_each(|_| bench.write(1));
    assert_eq!(counted(&bench), (402, 400));
    bench.assert_whole();
}

#[test]
fn the_log_of_another_store_is_none_of_this_one() {
    let theirs: StoreTag = [8; 16];
    let their_keys = || vec![ChainKey::new("00000000000000aa", &[1; 32], &theirs)];
    let bench = Bench::new();
    let anchor = Anchor { seq: 3, hash: Some([9; 32]) };
    for known in [Known::New, Known::Line(anchor)] {
        let other = Bench::new();
        drop(Audit::open(&other.options, &their_keys(), Known::New).unwrap());
        let (ours, directory) = (&bench.options.directory, &other.options.directory);
        if ours.exists() {
            fs::remove_dir_all(ours).unwrap();
        }
        fs::rename(directory, ours).unwrap();
        fs::rename(head_of(directory), head_of(ours)).unwrap();
        let lines = bench.lines(1);
        bench.assert_broken("belongs to the log of another store");
        let audit = Audit::open(&bench.options, &keys(), known).unwrap();
        assert_eq!(audit.status().is_tampered_with, known != Known::New);
        let seq = audit.record_now(vec![event("ours")]).unwrap();
        assert!(seq > known.seq());
        drop(audit);
        let kept = (1..).map(|number| ours.with_extension(format!("of-another-store-{number}")));
        let kept = kept.take_while(|path| path.exists()).last().unwrap();
        let text = fs::read_to_string(files::path_of(&kept, 1)).unwrap();
        assert!(text.lines().eq(&lines), "what was there is kept");
        assert!(kept.with_added_extension("head").exists());
        match known {
            Known::New => drop(bench.assert_whole()),
            Known::Line(_) => bench.assert_broken("lines 1 to 3"),
        }
    }
}

#[test]
fn the_store_knows_the_end_even_with_an_old_head() {
    let bench = Bench::new();
    bench.write(3);
    let (old, head) = (bench.lines(1), fs::read(head_of(&bench.options.directory)).unwrap());
    let audit = bench.open();
    audit.record_now(vec![event("after")]).unwrap();
    let anchor = audit.sync().unwrap().unwrap();
    drop(audit);
    let check = |anchor| {
        let known = Some((STORE, anchor));
        verify(&bench.options.directory, known, &|_| keys(), &mut |_| {}).unwrap().problems
    };
    assert_eq!(check(anchor), [""; 0]);
    let other = Anchor { hash: Some([0; 32]), ..anchor };
    assert!(check(other)[0].contains("is not the one that the store knows"));
    bench.set_lines(1, &old);
    fs::write(head_of(&bench.options.directory), head).unwrap();
    bench.assert_whole();
    assert!(check(anchor)[0].contains("missing at the end: the store knows of them"));
    let audit = Audit::open(&bench.options, &keys(), Known::Line(anchor)).unwrap();
    assert!(audit.status().is_tampered_with);
    assert!(audit.record_now(vec![event("after")]).unwrap() > anchor.seq);
    drop(audit);
    bench.assert_broken("were missing or changed when the daemon started");
}

/// A log as the version before wrote it, under the same key.
fn unbound_log(bench: &Bench) {
    let mut text = Vec::new();
    let key = &keys()[0];
    let mut hash = chain::Hash::NONE;
    let prev = hash.to_string();
    let begin = format!(
        ",\"op\":\"begin\",\"file\":1,\"first\":1,\"kid\":\"{}\",\"prev\":\"{prev}\"",
        key.id()
    );
    for (seq, body) in [(1, begin.as_str()), (2, ",\"op\":\"start\""), (3, ",\"op\":\"stop\"")] {
        let hashed = format!("{seq},\"time\":\"2026-11-24T03:52:00.000000Z\"{body}");
        hash = key.of_line_in(chain::Format::Unbound, &hash, hashed.as_bytes());
        text.extend_from_slice(format!("{{\"seq\":{hashed},\"hash\":\"{hash}\"}}\n").as_bytes());
    }
    fs::create_dir(&bench.options.directory).unwrap();
    fs::write(bench.path(1), text).unwrap();
    let (boot, format) = (head::Boot::current(), chain::Format::Unbound);
    let head = head::Head { first: 1, file: 1, seq: 3, hash, synced: 3, boot, format };
    head::HeadFile::open(&head_of(&bench.options.directory)).unwrap().write(key, &head).unwrap();
}

#[test]
fn a_log_that_is_not_bound_yet_goes_on_in_a_file_that_is() {
    let bench = Bench::new();
    unbound_log(&bench);
    assert!(bench.assert_whole().notes[0].contains("not bound to its store"));
    bench.write(2);
    assert!(bench.lines(2)[0].contains("\"format\":2,\"store\":\"0707"), "{}", bench.lines(2)[0]);
    let report = bench.assert_whole();
    assert_eq!((report.files, report.first, report.notes.len()), (2, 1, 0), "{report:?}");
    // A line of the old file is as safe as before.
    let good = bench.lines(1);
    bench.set_lines(1, &[&good[..1], &good[2..]].concat());
    assert!(!bench.verify().problems.is_empty());
    bench.set_lines(1, &good);
    // Once the store knows of a bound log, one that is not bound is not taken for its own.
    let bench = Bench::new();
    unbound_log(&bench);
    let anchor = Anchor { seq: 3, hash: Some([0; 32]) };
    let known = Some((STORE, anchor));
    let report = verify(&bench.options.directory, known, &|_| keys(), &mut |_| {}).unwrap();
    assert!(report.problems.iter().any(|one| one.contains("not bound")), "{report:?}");
    let audit = Audit::open(&bench.options, &keys(), Known::Line(anchor)).unwrap();
    assert!(audit.status().is_tampered_with);
}

#[test]
fn a_later_version_is_told_apart() {
    let bench = Bench::new();
    bench.write(1);
    let lines: Vec<_> =
        bench.lines(1).iter().map(|line| line.replace("\"format\":2", "\"format\":3")).collect();
    bench.set_lines(1, &lines);
    bench.assert_broken("written by a later version");
}
