//! What servers of this and other versions left.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use super::identities::COUNTS_END;
use super::{Record, SLOT_BYTES, SLOTS, SavedState};
use crate::fs::budget::Account;
use crate::model::{decode, encode};

/// The content of slots of format 1: bytes, and what they mean. A kind is never encoded differently; what is to be
/// encoded differently is a new kind.
const FORMAT_1: &str = include_str!("../../../tests/formats/saved_state_1.txt");

fn format_1() -> Vec<(Vec<u8>, &'static str)> {
    let parse = |line: &'static str| {
        let (hex, meaning) = line.split_once(' ').unwrap();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        ((0..hex.len()).step_by(2).map(byte).collect(), meaning)
    };
    FORMAT_1.lines().map(parse).collect()
}

fn file_with(slots: &[Vec<u8>]) -> File {
    let file = tempfile::tempfile().unwrap();
    for (number, content) in slots.iter().enumerate() {
        let length = u16::try_from(content.len()).unwrap().to_le_bytes();
        let slot = [&length[..], content].concat();
        file.write_all_at(&slot, (number * SLOT_BYTES) as u64).unwrap();
    }
    file
}

fn restored(file: &File) -> Vec<Record> {
    let saved_state = SavedState::new(file.try_clone().unwrap()).unwrap();
    let (slots, restored): (Vec<_>, Vec<_>) = saved_state.inherit().unwrap().into_iter().unzip();
    // Dropping them would clear the slots.
    std::mem::forget(slots);
    restored
}

#[test]
fn format_1_is_restored() {
    let (slots, meanings): (Vec<_>, Vec<_>) = format_1().into_iter().unzip();
    let file = file_with(&slots);
    let restored: Vec<_> = restored(&file).iter().map(|one| format!("{one:?}")).collect();
    assert_eq!(restored, meanings);
}

#[test]
fn the_encoding_of_kinds_does_not_change() {
    for (bytes, meaning) in format_1() {
        let mut room = [0; SLOT_BYTES];
        let again = encode(&decode::<Record>(&mut bytes.clone()).unwrap(), &mut room);
        assert_eq!(again.as_deref(), Some(&bytes[..]), "{meaning}");
    }
}

/// A later version has a kind between others and one with another content.
#[test]
fn what_a_later_version_left_is_read_or_dropped() {
    crate::model::numbered! {
        enum Later {
            3 => { Directory { path: String, uid: u32 } }
            77 => { Between { path: String, uid: u32 } }
            78 => { DirectoryOfGroup { path: String, uid: u32, gid: u32 } }
        }
    }
    let path = || "alice/made".to_owned();
    let left = [
        Later::Between { path: path(), uid: 7 },
        Later::Directory { path: path(), uid: 8 },
        Later::DirectoryOfGroup { path: path(), uid: 9, gid: 9 },
    ];
    let mut slots = left.map(|one| encode(&one, &mut [0; 64]).unwrap().to_vec());
    // Its writer forgot to give it another number.
    let longer = [&slots[1][..], &[1]].concat();
    slots[2][0] = 77;
    let file = file_with(&[&slots[..], &[longer, vec![3]]].concat());
    let known = [Record::Directory { path: path(), uid: 8 }];
    assert_eq!(restored(&file), known);
    // It is not there any more for a version that would know it.
    let mut length = [1; 2];
    file.read_exact_at(&mut length, 0).unwrap();
    assert_eq!(length, [0; 2]);
    assert_eq!(restored(&file), known);
}

#[test]
fn a_later_format_is_refused() {
    let file = file_with(&[vec![3, 1, b'a', 7]]);
    let open = || SavedState::new(file.try_clone().unwrap()).map(drop);
    for format in [0, 1, 2] {
        file.write_all_at(&u32::to_le_bytes(format), COUNTS_END).unwrap();
        open().unwrap();
    }
    file.write_all_at(&3_u32.to_le_bytes(), COUNTS_END).unwrap();
    let error = open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("format 3"), "{error}");
}

const ALICE: Account = Account::User(7);

#[test]
fn nobody_takes_all_slots() {
    let file = tempfile::tempfile().unwrap();
    let saved_state = SavedState::new(file).unwrap();
    let all: Vec<_> = std::iter::from_fn(|| saved_state.put(ALICE, &directory("a"))).collect();
    assert_eq!(all.len() as u64, SLOTS / 4);
    assert!(saved_state.put(Account::User(8), &directory("b")).is_some());
    drop(all);
    assert!(saved_state.put(ALICE, &directory("a")).is_some());
}

fn directory(path: &str) -> Record {
    Record::Directory { path: path.to_owned(), uid: 7 }
}

#[test]
fn the_next_process_finds_what_was_not_taken_down() {
    let file = tempfile::tempfile().unwrap();
    let saved_state = SavedState::new(file.try_clone().unwrap()).unwrap();
    assert!(saved_state.inherit().unwrap().is_empty());
    let a = saved_state.put(ALICE, &directory("a")).unwrap();
    let b = saved_state.put(ALICE, &directory("b")).unwrap();
    let c = saved_state.put(ALICE, &directory("c")).unwrap();
    drop(b);
    assert_eq!(restored(&file), [directory("a"), directory("c")]);
    let d = saved_state.put(ALICE, &directory("d")).unwrap();
    let a = a.replace(&directory("aa")).unwrap();
    assert_eq!(restored(&file), [directory("aa"), directory("d"), directory("c")]);
    drop((a, c, d));
    assert!(restored(&file).is_empty());
}

#[test]
fn its_successor_goes_on_with_the_same_slots() {
    let file = tempfile::tempfile().unwrap();
    let first = SavedState::new(file.try_clone().unwrap()).unwrap();
    std::mem::forget(first.put(ALICE, &directory("a")));
    std::mem::forget(first.put(ALICE, &directory("b")));
    let second = SavedState::new(file.try_clone().unwrap()).unwrap();
    let mut inherited = second.inherit().unwrap();
    inherited.remove(0);
    let c = second.put(ALICE, &directory("c")).unwrap();
    assert_eq!(restored(&file), [directory("c"), directory("b")]);
    drop((c, inherited));
}

#[test]
fn what_does_not_fit_is_not_kept() {
    let file = tempfile::tempfile().unwrap();
    let saved_state = SavedState::new(file.try_clone().unwrap()).unwrap();
    assert!(saved_state.put(ALICE, &directory(&"x".repeat(SLOT_BYTES))).is_none());
    let slot = saved_state.put(ALICE, &directory("a")).unwrap();
    assert!(slot.replace(&directory(&"x".repeat(SLOT_BYTES))).is_none());
    assert!(restored(&file).is_empty());
    assert!(SavedState::default().put(ALICE, &directory("a")).is_none());
}
