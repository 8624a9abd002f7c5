//! Section 6: which encryption key is used, and that it does not leak.

use std::fs;
use std::os::unix::fs::FileExt;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::harness::{BUILT_IN_KEY, KEY, Mount, ROOT, eventually, set_mode};

const ANOTHER: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

#[test]
fn with_the_built_in_key_it_warns_at_every_start() {
    let Some(mount) = Mount::prepare() else { return };
    let mut mount = mount.with_env("OB_ENCRYPTION_KEY", Some(BUILT_IN_KEY));
    for start in 1..=2 {
        mount.go();
        assert!(mount.said().contains("default encryption key"), "{start}: {}", mount.said());
        mount.stop();
    }
}

#[test]
fn with_a_key_it_does_not_warn() {
    let Some(mut mount) = Mount::start() else { return };
    assert!(!mount.stop().contains("default encryption key"));
}

#[test]
fn any_string_is_a_key() {
    let Some(mount) = Mount::prepare() else { return };
    let mut mount = mount.with_env("OB_ENCRYPTION_KEY", Some("correct horse, battery; staple"));
    mount.go();
    mount.user(ROOT).write("K", "value").unwrap();
    mount.restart();
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
}

#[test]
fn hex_and_base64_of_the_same_bytes_are_the_same_key() {
    let Some(mount) = Mount::prepare() else { return };
    let mut mount = mount.with_env("OB_ENCRYPTION_KEY", Some(&"00".repeat(32)));
    mount.go();
    mount.user(ROOT).write("K", "value").unwrap();
    mount.stop();
    let base64 = "A".repeat(43) + "=";
    let mut mount = mount.with_env("OB_ENCRYPTION_KEY", Some(&base64));
    mount.go();
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
}

#[test]
fn a_store_of_another_key_refuses_to_open() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).write("K", "value").unwrap();
    mount.stop();
    for key in [Some(ANOTHER), None] {
        mount = mount.with_env("OB_ENCRYPTION_KEY", key);
        let said = mount.refused();
        assert!(said.contains("key"), "it should say that another key made the store:\n{said}");
        assert!(!said.contains(ANOTHER) && !said.contains(KEY), "a key was printed");
        assert!(mount.mounted().is_none(), "a refusal left a mount");
    }
    let mut mount = mount.with_env("OB_ENCRYPTION_KEY", Some(KEY));
    mount.go();
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"), "the refusals harmed nothing");
}

#[test]
fn the_key_can_come_from_a_file() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).write("K", "value").unwrap();
    mount.stop();
    let file = mount.state().with_file_name("key");
    fs::write(&file, format!("{KEY}\n")).unwrap();
    set_mode(&file, 0o600);
    let file = file.to_str().unwrap().to_owned();
    let mut mount =
        mount.with_env("OB_ENCRYPTION_KEY", None).with_args(&["--encryption-key-file", &file]);
    mount.go();
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
}

#[test]
fn the_key_can_be_a_systemd_credential() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).write("K", "value").unwrap();
    mount.stop();
    let directory = mount.state().with_file_name("credentials");
    fs::create_dir(&directory).unwrap();
    set_mode(&directory, 0o700);
    fs::write(directory.join("encryption-key"), KEY).unwrap();
    set_mode(&directory.join("encryption-key"), 0o400);
    let mut mount = mount
        .with_env("OB_ENCRYPTION_KEY", None)
        .with_env("CREDENTIALS_DIRECTORY", directory.to_str());
    mount.go();
    assert_eq!(mount.user(ROOT).read("K").as_deref(), Ok("value"));
}

#[test]
fn a_key_file_that_is_missing_refuses_the_start() {
    let Some(mount) = Mount::prepare() else { return };
    let mut mount = mount.with_args(&["--encryption-key-file", "/nonexistent/key"]);
    let said = mount.refused();
    assert!(said.contains("/nonexistent/key"), "it should name the file:\n{said}");
}

#[test]
fn a_key_file_that_is_gone_or_another_one_keeps_no_server_from_taking_over() {
    let Some(mount) = Mount::prepare() else { return };
    let files = ["key", "previous"].map(|name| mount.state().with_file_name(name));
    let write = |[current, previous]: [&str; 2]| {
        fs::write(&files[0], current).unwrap();
        fs::write(&files[1], previous).unwrap();
        files.iter().for_each(|file| set_mode(file, 0o600));
    };
    write([KEY, ""]);
    let [current, previous] = files.each_ref().map(|file| file.to_str().unwrap());
    let mount = mount.with_env("OB_ENCRYPTION_KEY", None).with_args(&[
        "--encryption-key-file",
        current,
        "--previous-encryption-key-file",
        previous,
    ]);
    let mount = mount.started();
    let root = mount.user(ROOT);
    root.write("K", "value").unwrap();
    let goes_on = |value: &str| {
        assert!(mount.kill_server());
        assert_eq!(root.read("K").as_deref(), Ok(value), "{}", mount.said());
        assert_eq!(root.write("L", value), Ok(()));
    };
    files.iter().for_each(|file| fs::remove_file(file).unwrap());
    goes_on("value");
    write([ANOTHER, "no key\u{0}"]);
    goes_on("value");
    // Who asks is told.
    let told = |what: &str, number: usize| {
        mount.signal(Signal::SIGHUP);
        eventually(what, || mount.said().matches(what).count() == number);
    };
    told("the encryption keys stay as they were", 1);
    goes_on("value");
    // Those that were read last are those that count.
    write([ANOTHER, KEY]);
    told("the encryption keys were read again", 1);
    files.iter().for_each(|file| fs::remove_file(file).unwrap());
    goes_on("value");
    assert_eq!(root.read("L").as_deref(), Ok("value"));
    told("the encryption keys stay as they were", 2);
}

#[test]
fn the_key_is_wiped_from_the_process() {
    let Some(mut mount) = Mount::start() else { return };
    mount.user(ROOT).write("K", "value").unwrap();
    for file in ["environ", "cmdline"] {
        let bytes = fs::read(format!("/proc/{}/{file}", mount.pid())).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(KEY), "the key is in /proc/PID/{file}");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", mount.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "it could leave a core dump: {core}");
    assert!(!mount.stop().contains(KEY), "the key was printed");
}

/// The byte of a value that is looked for in the memory of a server.
const MARK: u8 = 0xA7;

/// Whether a part of a value that consists of this byte lies in the memory of a process.
fn is_in_memory(pid: Pid) -> bool {
    /// More than the 128 bytes that the cipher works on at a time, which stay on the stack of a thread.
    const RUN: usize = 256;
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut block = vec![0; 1 << 20];
    maps.lines().any(|line| {
        let (range, _) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|digits| u64::from_str_radix(digits, 16).unwrap());
        (start..end).step_by(block.len()).any(|at| {
            let length = block.len().min(usize::try_from(end - at).unwrap());
            // What the process may not read itself is not readable here.
            let read = memory.read_at(&mut block[..length], at).unwrap_or(0);
            block[..read].chunks_exact(RUN).any(|run| run.iter().all(|&byte| byte == MARK))
        })
    })
}

#[test]
fn a_written_value_does_not_stay_in_the_memory_of_the_server() {
    let Some(mount) = Mount::start() else { return };
    let root = mount.user(ROOT);
    let server = mount.server().unwrap();
    let writer = root.open("K", libc::O_WRONLY | libc::O_CREAT).unwrap();
    writer.write([MARK; 160_000]).unwrap();
    assert!(is_in_memory(server), "until it is stored it is there");
    writer.close().unwrap();
    root.unlink("K").unwrap();
    eventually("it is wiped", || !is_in_memory(server));
}
