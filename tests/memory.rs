//! What the index of a million secrets would take, by counting what is asked of the allocator: a
//! number that is the same on every machine. A process of its own, for others' allocations count too.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use secretfs::audit::{Actor, Process};
use secretfs::crypto::{Keyring, MasterKey};
use secretfs::model::{Caller, Key, Plaintext, Slug};
use secretfs::store::MemoryStore;
use secretfs::vault::{Vault, WriteTarget};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What hash tables of two to the power of 15 places hold at most: the tables of a million secrets
/// are about as full.
const SECRETS: usize = 28_000;

fn open(store: &Arc<MemoryStore>) -> Vault {
    let master = MasterKey::parse(&"07".repeat(32)).unwrap();
    Vault::open(Arc::<MemoryStore>::clone(store), Keyring::new(master, vec![])).unwrap()
}

#[test]
fn a_secret_takes_few_bytes_of_the_index() {
    let store = Arc::new(MemoryStore::new());
    let vault = open(&store);
    let teams: Vec<_> = (0..40)
        .map(|number| {
            let slug = Slug::parse(&format!("team-{number}")).unwrap();
            Arc::new(Caller::new(1000 + number, Some(slug), [], false))
        })
        .collect();
    let (answer, answers) = channel();
    let mut key_bytes = 0;
    for number in 0..SECRETS {
        let team = number % teams.len();
        let key = Key::parse(&format!("team-{team}/service/SECRET_{number}")).unwrap();
        key_bytes += key.as_str().len();
        let target = WriteTarget::New { key, exclusive: true, inherited_lists: None };
        let answer = answer.clone();
        let done = Box::new(move |outcome: Result<_, _>| {
            answer.send(outcome.map(drop)).unwrap();
        });
        let actor = Actor { caller: Arc::clone(&teams[team]), process: Process::default() };
        vault.write(actor, target, Plaintext::copy_of(b"value"), None, done);
    }
    answers.iter().take(SECRETS).for_each(|outcome| outcome.unwrap());
    drop(vault);

    let before = HELD.load(Ordering::Relaxed);
    let vault = open(&store);
    let each = (HELD.load(Ordering::Relaxed) - before) / SECRETS;
    assert_eq!(vault.len(), SECRETS);
    println!("{each} bytes a secret, {} of them its key", key_bytes / SECRETS);
    // Secret and value 144, the key's counts 16, the map by key 27, two tables by record and id 21.
    assert!(each - key_bytes / SECRETS <= 225, "{each} bytes a secret");
}
