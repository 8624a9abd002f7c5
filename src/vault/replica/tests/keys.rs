//! Keys that are changed while hosts go on.

use super::*;

#[test]
fn keys_are_changed_while_hosts_go_on() {
    let cluster = Arc::new(MemoryCluster::new());
    let [a, b] = [Host::new(&cluster), Host::new(&cluster)];
    a.put("x/K", b"1").unwrap();
    b.wait_for("x/K", Some(b"1"));
    a.vault.replace_keyring(keyring(8, &[7])).unwrap();
    // A host without the new key reports that, and continues where it was once it has the key.
    a.put("x/K", b"2").unwrap();
    b.wait(|host| !host.problems().is_empty());
    assert_eq!(b.value("x/K").unwrap(), b"1");
    b.vault.replace_keyring(keyring(7, &[8])).unwrap();
    b.wait_for("x/K", Some(b"2"));
    b.wait(|host| host.problems().is_empty());
    b.put("x/K", b"3").unwrap();
    a.wait_for("x/K", Some(b"3"));
    let refused = Host::open(&cluster, Arc::default(), keyring(8, &[])).err().unwrap();
    assert!(refused.to_string().contains("--previous-encryption-key-file"), "{refused}");
}

#[test]
fn everything_is_sealed_anew_while_hosts_go_on() {
    use crate::vault::{RekeyState, RekeyTask};
    let cluster = Arc::new(MemoryCluster::new());
    let [a, b] = [Host::new(&cluster), Host::new(&cluster)];
    (0..250).for_each(|number| a.put(&format!("x/{number}"), b"v").unwrap());
    for host in [&a, &b] {
        host.vault.replace_keyring(keyring(8, &[7])).unwrap();
        host.vault.start_rekey(&root(), RekeyTask::Reseal).unwrap();
    }
    (0..50).for_each(|number| b.put(&format!("x/{number}"), b"w").unwrap_or(()));
    for host in [&a, &b] {
        host.wait(|host| host.vault.rekey_status().state == RekeyState::Done(RekeyTask::Reseal));
        assert_eq!(host.vault.key_ids().1.len(), 1);
    }
    // No host needs the old key any more.
    let fresh = Host::open(&cluster, Arc::default(), keyring(8, &[])).unwrap();
    assert!(fresh.vault.wait_until_current(SOON));
    fresh.wait(|host| host.vault.len() == 250);
    same_on(&[&a, &b, &fresh], "x/7");
    fresh.put("x/7", b"z").unwrap();
    a.wait_for("x/7", Some(b"z"));
    a.wait(|host| host.problems().is_empty());
}
