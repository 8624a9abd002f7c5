//! Section 8: the audit log belongs to its store, which knows how far it goes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::audit::{lines, verify};
use crate::harness::{Mount, ROOT, eventually};

/// Takes a copy of a log and its head, or puts it back.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to.join("audit"));
    fs::create_dir_all(to.join("audit")).unwrap();
    for file in fs::read_dir(from.join("audit")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join("audit").join(file.file_name())).unwrap();
    }
    fs::copy(from.join("audit.head"), to.join("audit.head")).unwrap();
}

/// Whether `health` and `is-secure` tell of the log.
fn is_told(mount: &Mount) -> (bool, bool) {
    let health = mount.user(ROOT).read(".status/health").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_secretfs"))
        .args(["is-secure", "--mount"])
        .arg(mount.point())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (health.contains("audit"), said.contains("audit log are missing or changed"))
}

#[test]
fn the_log_of_another_store_with_the_same_key_is_refused() {
    let (Some(mut ours), Some(mut theirs)) = (Mount::start(), Mount::start()) else { return };
    ours.user(ROOT).write("K", "value").unwrap();
    for _ in 0..20 {
        theirs.user(ROOT).write("L", "value").unwrap();
    }
    ours.stop();
    theirs.stop();
    copy(&theirs.state(), &ours.state());
    let said = verify(&ours.state(), 1);
    assert!(said.contains("belongs to the log of another store"), "{said}");
    ours.go();
    eventually("it is told", || ours.said().contains("is not that of this store"));
    assert_eq!(is_told(&ours), (true, true));
    assert!(ours.state().join("audit.of-another-store-1").is_dir(), "it is kept");
    assert!(lines(&ours.state()).iter().all(|line| line["key"] != "L"));
    ours.stop();
    let said = verify(&ours.state(), 1);
    assert!(said.contains("lines 1 to"), "{said}");
    verify(&theirs.state(), 0);
}

#[test]
fn an_old_log_with_its_old_head_is_found_at_the_start_and_by_verify() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).write("K", "value").unwrap();
    mount.stop();
    let old: PathBuf = mount.outside().join("old");
    copy(&mount.state(), &old);
    mount.go();
    // No change, of which the store would know anyway.
    mount.user(ROOT).read("K").unwrap();
    mount.stop();
    let said = verify(&mount.state(), 0);
    assert!(!said.contains("was not compared"), "{said}");
    let last = lines(&mount.state()).last().unwrap()["seq"].as_u64().unwrap();
    copy(&old, &mount.state());
    let said = verify(&mount.state(), 1);
    assert!(said.contains("the store knows of them"), "{said}");
    mount.go();
    assert!(mount.said().contains("the audit log is not as it was left"), "{}", mount.said());
    assert_eq!(is_told(&mount), (true, true));
    let said = verify(&mount.state(), 1);
    assert!(said.contains("the store is in use"), "{said}");
    assert!(lines(&mount.state()).last().unwrap()["seq"].as_u64() > Some(last));
}

#[test]
fn the_store_learns_of_opens_while_it_serves() {
    let Some(mut mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    // After the first commit the store is written to once more: before the second one.
    root.write("L", "value").unwrap();
    let old: PathBuf = mount.outside().join("old");
    copy(&mount.state(), &old);
    root.read("K").unwrap();
    let last = lines(&mount.state()).last().unwrap()["seq"].as_u64().unwrap();
    let store = mount.state().join("store");
    let changed = || {
        let files = fs::read_dir(&store).unwrap().map(|file| file.unwrap().metadata().unwrap());
        files.filter(|file| file.is_file()).map(|file| file.modified().unwrap()).max()
    };
    let before = changed();
    eventually("the store is written to", || changed() != before);
    // All of it dies, as in a power failure.
    mount.kill9();
    copy(&old, &mount.state());
    let said = verify(&mount.state(), 1);
    assert!(
        said.contains("the store knows of them") && said.contains(&format!("{last}")),
        "{said}"
    );
}

#[test]
fn a_log_that_is_cut_off_or_replaced_while_it_is_written_makes_health_degraded() {
    for what in ["copytruncate", "regrown", "replaced", "removed", "moved"] {
        let Some(mount) = Mount::start() else { return };
        let root = mount.user(ROOT);
        root.write("K", "value").unwrap();
        assert_eq!(is_told(&mount), (false, false), "{what}");
        let file = mount.state().join("audit/audit-00000001.jsonl");
        let copied = file.with_extension("copy");
        fs::copy(&file, &copied).unwrap();
        match what {
            "copytruncate" => {
                fs::File::options().write(true).open(&file).unwrap().set_len(0).unwrap()
            }
            // Cut off, and as long as it was before anybody looked.
            "regrown" => fs::write(&file, vec![b'x'; 1 << 20]).unwrap(),
            "replaced" => fs::rename(&copied, &file).unwrap(),
            "removed" => fs::remove_file(&file).unwrap(),
            _ => fs::rename(&file, file.with_extension("1")).unwrap(),
        }
        root.read("K").unwrap();
        eventually("it is told", || is_told(&mount) == (true, true));
        assert!(mount.said().contains("logrotate must not touch it"), "{}", mount.said());
    }
}

#[test]
fn verify_tells_what_rotation_removed() {
    let Some(mut mount) = Mount::prepare() else { return };
    mount = mount.with_args(&["--audit-keep", "2"]).started();
    let root = mount.user(ROOT);
    let newest = |mount: &Mount| {
        let files = fs::read_dir(mount.state().join("audit")).unwrap();
        files.map(|file| file.unwrap().file_name()).max().unwrap()
    };
    for _ in 0..4 {
        root.write("K", "value").unwrap();
        let before = newest(&mount);
        mount.signal(nix::sys::signal::Signal::SIGUSR1);
        eventually("a new file", || newest(&mount) != before);
    }
    mount.stop();
    let said = verify(&mount.state(), 0);
    assert!(said.contains("log rotation has removed lines 1 to"), "{said}");
    let kept = fs::read_dir(mount.state().join("audit")).unwrap();
    let oldest = kept.map(|file| file.unwrap().path()).min().unwrap();
    fs::remove_file(oldest).unwrap();
    let said = verify(&mount.state(), 1);
    assert!(said.contains("missing"), "{said}");
}
