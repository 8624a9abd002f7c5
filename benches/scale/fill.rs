//! A store with many secrets.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use secretfs::audit::{Actor, Process};
use secretfs::crypto::{Keyring, MasterKey};
use secretfs::model::{Caller, Key, Plaintext, Slug};
use secretfs::store::SledStore;
use secretfs::vault::{Vault, WriteTarget};

/// The encryption key of the store.
pub(crate) const ENCRYPTION_KEY: &str =
    "8f1d3c5b7a99e0f2143658daecb1073f5e6a7b8c9d0e1f2031425364758697a8";

/// How many writes are under way at once.
const WINDOW: usize = 4096;
const TEAMS: usize = 400;

/// Fills a new state directory.
pub(crate) fn fill(state: &Path, secrets: usize) {
    let store = Arc::new(SledStore::open(state).expect("a new store"));
    let keyring = Keyring::new(MasterKey::parse(ENCRYPTION_KEY).expect("a key"), Vec::new());
    let vault = Vault::open(store, keyring).expect("a new store");
    let team = |name: String| {
        Arc::new(Caller::new(1000, Some(Slug::parse(&name).expect("a slug")), [], false))
    };
    let teams: Vec<_> = (0..TEAMS).map(|number| team(format!("team-{number}"))).collect();
    let big = team("big".to_owned());
    let bytes: Vec<u8> = (0u8..=255).cycle().take(8192).collect();
    let (answer, answers) = channel();
    for number in 0..secrets {
        if number >= WINDOW {
            answers.recv().expect("an answer");
        }
        let key = Key::parse(&name(number, secrets)).expect("a key");
        let caller = if is_big(number) { &big } else { &teams[number % TEAMS] };
        let target = WriteTarget::New { key, exclusive: true, inherited_lists: None };
        let answer = answer.clone();
        let done = Box::new(move |outcome: Result<_, _>| {
            outcome.map(drop).expect("there is room");
            answer.send(()).expect("somebody counts");
        });
        let value = Plaintext::copy_of(&bytes[number % 4096..][..size(number)]);
        let actor = Actor { caller: Arc::clone(caller), process: Process::default() };
        vault.write(actor, target, value, None, done);
    }
    answers.iter().take(secrets.min(WINDOW)).for_each(drop);
}

/// The key of a secret.
pub(crate) fn name(number: usize, secrets: usize) -> String {
    if is_big(number) {
        return format!("big/SECRET_{number}");
    }
    let team = number % TEAMS;
    format!("team-{team}/service-{}/SECRET_{number}", number / TEAMS * 20 / secrets.max(1))
}

fn is_big(number: usize) -> bool {
    number % 10 == 5
}

/// 32 to 4,096 bytes, spread evenly.
fn size(number: usize) -> usize {
    32 + number.wrapping_mul(2_654_435_761) % 4065
}
