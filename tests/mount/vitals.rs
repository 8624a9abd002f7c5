//! `.status/health`, `.status/metrics` and `.status/is-secure`: how the daemon is doing.

use std::collections::{BTreeMap, HashSet};
use std::fs;

use nix::errno::Errno::{EACCES, ENOENT};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use crate::harness::{ALICE, IDENTITIES, Mount, ROOT, UNKNOWN, eventually, set_mode};
use crate::user::User;

/// One sample: its name with labels, and its value.
pub(crate) type Samples = BTreeMap<String, f64>;

/// Reads the Prometheus text format (version 0.0.4) strictly, with what `promtool check metrics`
/// also complains about.
#[track_caller]
pub(crate) fn parse(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut samples = Samples::new();
    let mut families: HashSet<&str> = HashSet::new();
    let (mut family, mut kind, mut helped) = ("", "", "");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("HELP has a text");
            assert!(families.insert(name), "{name} stands twice");
            assert!(!help.is_empty() && !help.contains('\\'), "{line}");
            helped = name;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            (family, kind) = rest.split_once(' ').expect("TYPE has a kind");
            assert_eq!(family, helped, "TYPE follows HELP");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(family.ends_with("_total"), kind == "counter", "{line}");
            assert!(family.starts_with("secretfs_"), "{line}");
            let letters = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(family.chars().all(letters), "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a sample has a value");
            let value: f64 = value.parse().expect("a value is a number");
            assert!(value >= 0.0, "{line}");
            let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
            let of_family = match name.strip_prefix(family).expect("samples stand with their TYPE")
            {
                "" => kind != "histogram",
                "_bucket" | "_sum" | "_count" => kind == "histogram",
                _ => false,
            };
            assert!(of_family, "{line}: not a sample of {family}");
            let labels = labels.strip_suffix('}').expect("labels end with a brace");
            for label in labels.split_terminator(',') {
                let (label, value) = label.split_once("=\"").expect("a label has a value");
                assert!(label.chars().all(|c| c.is_ascii_lowercase()), "{line}");
                let value = value.strip_suffix('"').expect("a label's value is quoted");
                assert!(!value.contains(['"', '\\', '/']), "{line}");
            }
            assert!(samples.insert(sample.to_owned(), value).is_none(), "{sample} stands twice");
        }
    }
    for name in families {
        let Some(count) = samples.get(&format!("{name}_count")) else { continue };
        let buckets: Vec<f64> = text
            .lines()
            .filter(|line| line.starts_with(&format!("{name}_bucket")))
            .map(last)
            .collect();
        assert!(buckets.is_sorted() && buckets.last() == Some(count), "{name}: {buckets:?}");
        assert!(samples.contains_key(&format!("{name}_bucket{{le=\"+Inf\"}}")), "{name}");
    }
    samples
}

fn last(line: &str) -> f64 {
    line.rsplit(' ').next().expect("a line").parse().expect("a number")
}

#[track_caller]
pub(crate) fn metrics(user: &User) -> Samples {
    parse(&user.read(".status/metrics").expect("everyone may read the metrics"))
}

#[test]
fn metrics_are_in_the_format_of_prometheus_and_count() {
    let Some(mount) = Mount::start() else { return };
    let (root, alice) = (mount.user(ROOT), mount.user(ALICE));
    root.put("db/needle-of-a-key", "value", "");
    root.write("db/needle-of-a-key", "another value").unwrap();
    let before = metrics(&root);
    assert_eq!(alice.read("db/needle-of-a-key"), Err(EACCES));
    assert_eq!(alice.read("db/nothing"), Err(ENOENT));
    for _ in 0..10 {
        root.read("db/needle-of-a-key").unwrap();
    }
    root.write("db/needle-of-a-key", "a third value").unwrap();
    root.unlink("db/needle-of-a-key").unwrap();
    root.write("K", "12345").unwrap();
    let text = root.read(".status/metrics").unwrap();
    assert!(!text.contains("needle"), "a label names a key");
    let after = parse(&text);
    let more = |name: &str| after[name] - before[name];
    let operation = |operation: &str, outcome: &str| {
        more(&format!(
            "secretfs_operations_total{{operation=\"{operation}\",outcome=\"{outcome}\"}}"
        ))
    };
    assert_eq!(operation("open", "denied"), 1.0);
    assert!(operation("open", "ok") >= 11.0);
    assert_eq!(operation("unlink", "ok"), 1.0);
    assert!(more("secretfs_open_seconds_count") >= 12.0);
    assert!(more("secretfs_open_seconds_sum") > 0.0);
    assert!(more("secretfs_store_commit_seconds_count") >= 3.0);
    assert_eq!(more("secretfs_versions_total"), 2.0);
    assert_eq!(more("secretfs_secrets"), 0.0);
    assert_eq!((after["secretfs_value_bytes"], after["secretfs_secrets"]), (5.0, 1.0));
    assert_eq!(more("secretfs_store_failures_total"), 0.0);
    assert!(more("secretfs_uptime_seconds") > 0.0);
    assert_eq!(more("secretfs_start_time_seconds"), 0.0);
    assert_eq!(after["secretfs_healthy"], 1.0);
    assert_eq!(after["secretfs_encryption_keys_needed"], 1.0);
    let build = format!("secretfs_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(after[&build], 1.0);
    // What tells of others is for admins.
    let public = metrics(&mount.user(UNKNOWN));
    let own =
        ["secretfs_healthy", "secretfs_uptime_seconds", "secretfs_start_time_seconds", &build];
    for name in public.keys() {
        let is_public = name.starts_with("secretfs_fuse_requests_total{") || own.contains(&&**name);
        assert!(is_public, "{name} is shown to everyone");
    }
    assert!(
        public["secretfs_fuse_requests_total{opcode=\"open\"}"] > 0.0
            && own.iter().all(|name| public.contains_key(*name))
    );
}

#[test]
fn health_tells_what_is_wrong_and_that_it_is_over() {
    let Some(mount) = Mount::start() else { return };
    let alice = mount.user(ALICE);
    let health = || alice.read(".status/health").unwrap();
    assert_eq!(health(), "ok\n");
    fs::write(mount.identities(), "identities: [{slug: '../x'}]\n").unwrap();
    mount.signal(Signal::SIGHUP);
    eventually("degraded", || health().starts_with("degraded\nidentities: "));
    assert!(health().contains(mount.identities().to_str().unwrap()), "{}", health());
    assert_eq!(metrics(&alice)["secretfs_healthy"], 0.0);
    fs::write(mount.identities(), IDENTITIES).unwrap();
    mount.signal(Signal::SIGHUP);
    eventually("ok", || health() == "ok\n");
}

#[test]
fn health_tells_of_a_full_disk() {
    let Some(mut small) = Mount::prepare() else { return };
    mount(
        Some("tmpfs"),
        &small.state(),
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=24m,mode=700"),
    )
    .unwrap();
    small.go();
    let root = small.user(ROOT);
    assert_eq!(root.read(".status/health").as_deref(), Ok("ok\n"));
    fs::write(small.state().join("filler"), vec![0; 30 << 20]).unwrap_err();
    eventually("degraded", || {
        let _ = root.write("K", vec![7; 1 << 20]);
        let health = root.read(".status/health").unwrap();
        health.starts_with("degraded\n") && health.contains("\ndisk: ")
    });
    let mut number = 0;
    eventually("a write fails", || {
        number += 1;
        root.write(&format!("K{number}"), vec![7; 1 << 20]).is_err()
    });
    assert!(root.read(".status/health").unwrap().contains("\nstore: "));
    assert!(metrics(&root)["secretfs_store_failures_total"] >= 1.0);
    fs::remove_file(small.state().join("filler")).unwrap();
    root.write("L", "value").unwrap();
    assert_eq!(root.read(".status/health").as_deref(), Ok("ok\n"));
    small.stop();
    nix::mount::umount2(&small.state(), nix::mount::MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn is_secure_tells_each_thing_that_is_not() {
    let Some(started) = Mount::prepare() else { return };
    let key = started.state().with_file_name("key");
    fs::write(&key, "aaaabbbb\n").unwrap();
    set_mode(&key, 0o644);
    let mut started = started.with_env("OB_ENCRYPTION_KEY", None).with_args(&[
        "--mlock-all",
        "--encryption-key-file",
        key.to_str().unwrap(),
    ]);
    started.go();
    let alice = started.user(ALICE);
    let told = || alice.read(".status/is-secure").unwrap();
    for reason in ["less than 12 characters", "repeats a few characters", "can be read by others"] {
        let line = told().lines().any(|line| {
            line.starts_with("Error: secret svc is not secure: ") && line.contains(reason)
        });
        assert!(line, "no `{reason}` in\n{}", told());
        assert!(started.said().contains(reason), "the log does not warn: {reason}");
    }
    assert_eq!(told().lines().count(), 3, "{}", told());

    // What changes while it runs is told too.
    set_mode(&key, 0o600);
    assert!(!told().contains("can be read by others"), "{}", told());
    set_mode(&started.state(), 0o750);
    assert!(told().contains("can be entered by others (mode 0750)"), "{}", told());
    set_mode(&started.state(), 0o700);
    let previous_key = "8f1d3c5b7a99e0f2143658daecb1073f5e6a7b8c9d0e1f2031425364758697a8";
    fs::write(&key, previous_key).unwrap();
    started.signal(Signal::SIGHUP);
    let stay = "the encryption keys stay as they were";
    eventually("the other key is refused", || started.said().contains(stay));
    assert!(told().contains("less than 12 characters"), "the key is still the weak one");
    let health = alice.read(".status/health").unwrap();
    assert!(health.starts_with("degraded\nkeys: "), "{health}");

    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NODEV;
    mount(None::<&str>, &started.point(), None::<&str>, flags, None::<&str>).unwrap();
    assert!(told().contains("its mount lacks nosuid"), "{}", told());
}

#[test]
fn a_sound_set_up_is_secure() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.with_args(&["--mlock-all"]).started();
    let told = mount.user(ALICE).read(".status/is-secure").unwrap();
    assert_eq!(told, "Service is secure.\n");
    let status = fs::read_to_string(format!("/proc/{}/status", mount.pid())).unwrap();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("Linux has it");
    let kilobytes: u64 = locked.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes > 1000, "only {kilobytes} kB are locked");
}

#[test]
fn callers_without_pid_are_a_note() {
    let Some(mount) = Mount::prepare() else { return };
    let mount = mount.in_own_pid_namespace().started();
    let alice = mount.user(ALICE);
    assert_eq!(alice.write("alice/K", "value"), Ok(()));
    let health = alice.read(".status/health").unwrap();
    assert!(health.starts_with("ok\nnote: ") && health.contains("hostPID"), "{health}");
    let lines = crate::audit::lines(&mount.state());
    let of_key = lines.iter().filter(|line| line["key"] == "alice/K");
    assert!(of_key.clone().count() >= 2, "{lines:?}");
    assert!(of_key.clone().all(|line| line["pid"] == 0 && line["program"].is_null()), "{lines:?}");
}
