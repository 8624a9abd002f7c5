//! The life of a daemon.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::crypto::keys_are_locked;
use crate::fs::{Fs, Options};
use crate::fuse::{self, Mounted};
use crate::identity::Resolver;
use crate::store::SledStore;
use crate::vault::Vault;

use super::error::DaemonError;
use super::key::KeyFiles;
use super::logging::Log;
use super::reload::Reload;
use super::security::SetUp;
use super::settings::Resolved;
use super::{hardening, import_dir, mountpoint, notify};

/// How long callers that have files open may take to close them after an unmount.
const GRACE: Duration = Duration::from_secs(1);

/// Mounts and serves until a signal or an unmount.
pub(super) fn serve(settings: &Resolved) -> Result<(), DaemonError> {
    hardening::wipe_environment();
    hardening::protect_memory()?;
    let log = Log::start(settings.log_level)
        .map_err(|source| DaemonError::System { what: "the log could not be started", source })?;
    let memory_is_locked = hardening::lock_memory(settings.mlock_all)?;
    let (key_files, keys) = KeyFiles::load(settings)?;
    if !keys_are_locked() {
        tracing::warn!("the encryption key may be swapped out; raise RLIMIT_MEMLOCK (ulimit -l)");
    }
    let identities = Arc::new(Resolver::new(settings.identities.clone())?);
    // First the mountpoint: the lock of the store of a daemon that died may take a moment to go.
    let path = mountpoint::prepare(&settings.mountpoint)?;
    let store = Arc::new(SledStore::open(&settings.state_dir)?);
    let vault = Vault::open_audited(store, keys.keyring, &settings.audit, fuse::vault_code)?;
    let vault = Arc::new(vault);
    let options = Options { list_sidecars: settings.list_acl };
    let fs = Arc::new(Fs::new(Arc::clone(&vault), Arc::clone(&identities), options, fuse::code));
    let weaknesses = Mutex::new(keys.weaknesses);
    let telemetry = Arc::clone(vault.telemetry());
    let reload = Reload { identities, vault, key_files, weaknesses, busy: Mutex::default() };
    let reload = Arc::new(reload);
    let set_up = SetUp {
        reload: Arc::clone(&reload),
        state_dir: settings.state_dir.clone(),
        mountpoint: path.clone(),
        memory_is_locked,
    };
    telemetry.security.set(move || set_up.reasons());

    let system = |what| move |source| DaemonError::System { what, source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("the event loop could not be started"))?;
    runtime.block_on(async {
        let mut signals = Signals::new().map_err(system("signals could not be caught"))?;
        let (over, when_over) = oneshot::channel();
        let mut mounted = fuse::mount(Arc::clone(&fs), &path, settings.threads, move || {
            // Nobody listens any more when the end came by a signal.
            let _ = over.send(());
        })
        .map_err(|source| DaemonError::Mount { path: path.clone(), source })?;
        for reason in telemetry.security.reasons() {
            tracing::warn!("the service is not secure: {reason}");
        }
        tracing::info!(mountpoint = %path.display(), "serving");
        if let Some(folder) = &settings.import_dir {
            // What is there is applied before anybody is told that secrets can be read.
            if let Err(source) = import_dir::start(&fs, folder) {
                unmount(&mut mounted, &path)?;
                return Err(DaemonError::ImportDir { path: folder.clone(), source });
            }
        }
        drop(fs);
        log.flush();
        announce(&format!("mounted at {}", path.display()));
        notify::ready().map_err(system("readiness could not be announced"))?;
        if signals.wait_for_end(when_over, &reload).await {
            unmount(&mut mounted, &path)?;
        }
        finish(mounted)
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
        })
    }

    /// Whether the end came by a signal, so that the mount is still there.
    async fn wait_for_end(
        &mut self,
        mut when_over: oneshot::Receiver<()>,
        reload: &Arc<Reload>,
    ) -> bool {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return true,
                _ = self.interrupt.recv() => return true,
                _ = &mut when_over => return false,
                _ = self.user1.recv() => reload.vault.rotate_audit(),
                // It waits for the disk: on a thread of its own, so that an end is not held up.
                _ = self.hangup.recv() => {
                    let reload = Arc::clone(reload);
                    tokio::task::spawn_blocking(move || reload.run());
                }
            }
        }
    }
}

/// Unmounts even if the mount is in use: a daemon that was told to stop stops.
fn unmount(mounted: &mut Mounted, path: &std::path::Path) -> Result<(), DaemonError> {
    match mounted.unmount() {
        Ok(()) => Ok(()),
        Err(error) => {
            tracing::info!(%error, "the mount is in use; it is detached");
            mountpoint::detach(path)
        }
    }
}

/// Waits a moment for those who have files open. What they closed is stored; what they did not close
/// was never promised.
fn finish(mounted: Mounted) -> Result<(), DaemonError> {
    let deadline = Instant::now() + GRACE;
    while !mounted.is_over() {
        if Instant::now() >= deadline {
            tracing::info!("some files are still open; they end with the daemon");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let what = "serving requests ended with an error";
    mounted.join().map_err(|source| DaemonError::System { what, source })
}

/// For scripts and people, whatever the form of the log.
fn announce(line: &str) {
    // Whoever closed standard error does not want to know.
    let _ = writeln!(std::io::stderr(), "{line}");
}
