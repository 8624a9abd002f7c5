//! What does not start, and says why in a sentence.

use std::path::Path;
use std::process::Command;

use crate::harness::{KEY, eventually};

use super::node::Etcd;
use super::{Host, create, fleet, rotates};

const OTHER_KEY: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

#[track_caller]
fn refused(etcd: &mut Etcd, arguments: &[&str], key: &str) -> String {
    let mut host = Host::prepare(etcd, arguments);
    host.mount = host.mount.with_env("OB_ENCRYPTION_KEY", Some(key));
    host.mount.refused()
}

#[test]
fn the_wrong_prefix_key_or_directory_is_refused() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let mut hosts = fleet(&mut etcd, 1);
    create(&hosts, &["K"]);
    let (right, wrong) = (etcd.store("/fleet"), etcd.store("/flet"));
    let said = refused(&mut etcd, &["--store", &wrong], KEY);
    assert!(said.contains("there is no store at the prefix of --store"), "{said}");
    let said = refused(&mut etcd, &["--store", &right], OTHER_KEY);
    assert!(said.contains("another encryption key"), "{said}");
    let said = refused(&mut etcd, &["--store", "etcd://10.213.0.200/fleet"], KEY);
    assert!(said.contains("etcd cannot be reached"), "{said}");
    let said = refused(&mut etcd, &["--store", "nothing"], KEY);
    assert!(said.contains("is not the address of a store"), "{said}");
    // The replica is not taken for a store of its own, nor for another's.
    hosts[0].mount.stop();
    let mut alone = Host::prepare(&mut etcd, &[]);
    alone.mount = alone.mount.on_state_of(&hosts[0].mount);
    let said = alone.mount.refused();
    assert!(said.contains("name it with --store"), "{said}");
    hosts[0].mount.go();
    assert_eq!(hosts[0].value("K").as_deref(), Some("first"));
}

/// Certificates of one authority: for etcd, for a host, and of another authority.
fn certificates(directory: &Path, address: &str) {
    let script = format!(
        "set -e; cd {}
        authority() {{ openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
            -subj /CN=$1 -keyout $1.key -out $1.pem; }}
        sign() {{ openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$2 \
            -keyout $2.key -out $2.csr; printf '%s\\n' \"$3\" > $2.ext
            openssl x509 -req -in $2.csr -CA $1.pem -CAkey $1.key -CAcreateserial -days 2 \
                -extfile $2.ext -out $2.pem; }}
        authority ca; authority stranger
        sign ca node 'subjectAltName=IP:{address}'
        sign ca host 'extendedKeyUsage=clientAuth'
        sign stranger thief 'extendedKeyUsage=clientAuth'",
        directory.display()
    );
    let output = Command::new("bash").arg("-c").arg(script).output().expect("bash is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn certificates_and_passwords_are_checked_on_both_sides() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    // The first machine of a network has this address.
    certificates(directory.path(), "10.213.0.1");
    let (ca, pem, key) = (path("ca.pem"), path("node.pem"), path("node.key"));
    let (host_pem, host_key) = (path("host.pem"), path("host.key"));
    let arguments =
        ["--client-cert-auth", "--trusted-ca-file", &ca, "--cert-file", &pem, "--key-file", &key];
    let control = ["--cacert", &ca, "--cert", &host_pem, "--key", &host_key];
    let Some(mut etcd) = Etcd::with(1, "https", &arguments, &control) else { return };
    let store = etcd.store("/fleet");
    let right = ["--store", &store, "--create-store", "--etcd-ca", &ca];
    let (stranger, thief_pem, thief_key) =
        (path("stranger.pem"), path("thief.pem"), path("thief.key"));
    let own = ["--etcd-cert", &host_pem, "--etcd-key", &host_key];
    for wrong in [
        right.to_vec(),
        [&right[..], &["--etcd-cert", &thief_pem, "--etcd-key", &thief_key]].concat(),
        [&["--store", &store, "--create-store", "--etcd-ca", &stranger], &own[..]].concat(),
        ["--store", &store, "--create-store"].to_vec(),
        [&right[..], &["--etcd-cert", &host_pem]].concat(),
        [&right[..], &["--etcd-cert", "/nowhere", "--etcd-key", &host_key]].concat(),
    ] {
        let said = refused(&mut etcd, &wrong, KEY);
        eprintln!("{said}");
        assert!(
            ["etcd refuses", "etcd cannot be reached", "cannot be used"]
                .iter()
                .any(|text| said.contains(text)),
            "{wrong:?}: {said}"
        );
    }
    let right = [&right[..], &own].concat();
    let mut host = Host::prepare(&mut etcd, &right);
    host.mount.go();
    rotates(&host, "K", "v");
    host.is_well();
    for arguments in [
        &["user", "add", "root:r"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "fleet"],
        &["role", "grant-permission", "fleet", "readwrite", "--prefix=true", "/fleet/"],
        &["user", "add", "agent:p"],
        &["user", "grant-role", "agent", "fleet"],
        &["auth", "enable"],
    ] {
        etcd.control(arguments);
    }
    let password = path("password");
    std::fs::write(&password, "p\n").unwrap();
    let user = ["--etcd-user", "agent", "--etcd-password-file", &password];
    let mut known = Host::prepare(&mut etcd, &[&right[..], &user].concat());
    known.mount.go();
    eventually("it has all", || known.value("K").as_deref() == Some("v"));
    rotates(&known, "K", "w");
    std::fs::write(&password, "wrong\n").unwrap();
    let said = refused(&mut etcd, &[&right[..], &user].concat(), KEY);
    assert!(said.contains("etcd refuses this host"), "{said}");
}
