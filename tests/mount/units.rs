//! What is shipped for systemd is what systemd accepts.

use std::fs;
use std::process::Command;

use crate::harness::skip;

/// A file of this tree.
fn shipped(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn systemd_accepts_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return skip("needs systemd-analyze");
    }
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("secretfs.service");
    let installed = "/usr/bin/secretfs";
    let text = shipped("mount/secretfs.service");
    assert!(text.contains(installed));
    fs::write(&unit, text.replace(installed, env!("CARGO_BIN_EXE_secretfs"))).unwrap();
    let removal = shipped("mount/secretfs-unmount.service");
    let mut units = vec![unit];
    let mut add = |name: &str, text: String| {
        units.push(directory.path().join(name));
        fs::write(directory.path().join(name), text).unwrap();
    };
    add("secretfs-unmount.service", removal.replace(installed, env!("CARGO_BIN_EXE_secretfs")));
    let service = "[Service]\nExecStart=/bin/cat /secrets/reader/KEY\n";
    add("reader.service", shipped("mount/examples/requires-secrets.conf") + service);
    for name in [
        "billing.service",
        "billing-credential.service",
        "nginx-reload.service",
        "nginx-reload.path",
        "nginx-reload-once.service",
        "secretfs-of-a-user.service",
    ] {
        // Programs that are there, for those that are not here.
        let text = shipped(&format!("examples/systemd/{name}"))
            .replace(installed, env!("CARGO_BIN_EXE_secretfs"))
            .replace("/usr/local/bin/billing", "/bin/true");
        add(name, text);
    }
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<_> = said
        .lines()
        .filter(|line| {
            let names = units.iter().filter_map(|unit| unit.file_name()?.to_str());
            names.into_iter().any(|name| line.contains(name))
        })
        .collect();
    assert!(output.status.success() && ours.is_empty(), "{}:\n{said}", output.status);
}

#[test]
fn nothing_hides_the_mount_from_the_machine() {
    // systemd.exec(5): each of these gives the service a mount namespace of its own.
    let hiding = [
        "Protect",
        "Private",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "InaccessiblePaths",
        "BindPaths",
        "BindReadOnlyPaths",
        "TemporaryFileSystem",
        "RootDirectory",
        "RootImage",
        "MountFlags",
        "DynamicUser",
        "MountAPIVFS",
    ];
    let harmless = ["ProtectHostname", "ProtectClock"];
    for line in shipped("mount/secretfs.service").lines().filter(|line| !line.starts_with('#')) {
        let name = line.split('=').next().unwrap();
        let hides = hiding.iter().any(|hiding| name.starts_with(hiding));
        assert!(!hides || harmless.contains(&name), "{line} would hide the mount");
    }
}

#[test]
fn the_lines_for_fstab_have_the_form_of_fstab() {
    let text = shipped("mount/examples/fstab");
    let lines: Vec<_> = text
        .lines()
        .map(|line| line.trim_start_matches('#'))
        .filter(|l| l.contains("secretfs  /"))
        .collect();
    assert_eq!(lines.len(), 2);
    for line in lines {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [source, point, kind, _options, "0", "0"] = fields[..] else {
            panic!("six fields: {line}")
        };
        assert_eq!((source, kind), ("secretfs", "secretfs"));
        assert!(point.starts_with('/'));
    }
}

#[test]
fn the_service_is_always_started_again_and_reports_a_reload() {
    let unit = shipped("mount/secretfs.service");
    let has = |line: &str| unit.lines().any(|there| there == line);
    assert!(has("StartLimitIntervalSec=0") && has("Restart=on-failure"));
    assert!(has("ExecReload=/usr/bin/secretfs reload /secrets"));
    assert!(has("LimitMEMLOCK=infinity") && has("OOMPolicy=continue"));
    // These would wait for a mount that nobody serves.
    for program in ["findmnt", "mountpoint", "stat ", "umount "] {
        let uses = |line: &str| !line.starts_with('#') && line.contains(program);
        assert!(!unit.lines().any(uses), "{program}");
    }
}
