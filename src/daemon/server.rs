//! The process that serves a mount which the supervisor holds. It can be killed at any moment: the next
//! one goes on where it was.

pub(super) mod administration;
pub(super) mod allocator;
pub(super) mod disk;
pub(super) mod import_dir;
pub(super) mod reload;
pub(super) mod security;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, SigSet, Signal as UnixSignal, signal as handle};
use parking_lot::Mutex;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::audit;
use crate::crypto::keys_are_locked;
use crate::fs::{Fs, Options, RestoredState, SavedState};
use crate::fuse::{self, Device, InotifyHelper, Service};
use crate::identity::{IdentitiesError, Resolver, Trust};
use crate::store::SledStore;
use crate::telemetry::{Part, request_watchdog};
use crate::vault::{Change, Opening, SharedStore, Sharing, Vault};

use super::error::DaemonError;
use super::etcd_proxy::EtcdProxy;
use super::host::connection::NO_RESEND;
use super::host::{locate, start_notice};
use super::ipc::{Control, KeyTexts, Order, Report};
use super::key::{KeyFiles, Keys};
use super::logging::{Log, Sockets};
use super::lookup_helper::{LookupHelper, Readable};
use super::sandbox::hardening;
use super::sandbox::{self, Account, Because, Calls, Files, Needs, Sandbox};
use super::settings::Resolved;
use disk::OnDisk;
use reload::Reload;
use security::SetUp;

/// How long the kernel notifier may take to end once the supervisor is gone, in milliseconds.
const NOTIFIER_PATIENCE: u16 = 2000;
/// A request that takes so long hangs, if no thread waits for a disk or a name service.
const STUCK: Duration = Duration::from_secs(5);

/// Says why the settings of the supervisor are not those that it was given. A variable, because a server of an older
/// version passes it over.
pub(super) const SETTINGS_FAULT: &str = "SECRETFS_SETTINGS_FAULT";

/// How long a new replica may take until everything is there.
const FIRST_PATIENCE: Duration = Duration::from_secs(900);
/// How long one that has something may take before it serves that.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// Serves until the mount or the supervisor is gone.
pub(super) fn run(settings: &Resolved) -> Result<(), DaemonError> {
    hardening::name_process(c"secretfs-server");
    allocator::set_up(&settings.state_dir);
    hardening::wipe_environment();
    hardening::die_before_the_supervisor();
    hardening::protect_memory()?;
    // Before anything has a thread: that is not to take signals either.
    let control = Arc::new(take_control()?);
    // The process that closes the connection logs the reason.
    let Some((mut order, mut saved_state)) = next_order(&control)? else { return Ok(()) };
    let Order::Prepare { key, kept, mount, outage, account } = &mut order else {
        return Err(DaemonError::NoHolder);
    };
    let (mount, outage, takes_over) = (*mount, *outage, outage.is_some());
    let saved_state = saved_state.pop().ok_or(DaemonError::NoHolder)?;
    let saved_state = SavedState::new(saved_state.into())
        .map_err(system("the saved state of the mount cannot be used"))?;
    hardening::inherit_encryption_key(key.take().as_deref().map(text_of));
    let memory_is_locked = hardening::lock_memory(settings.mlock_all)?;
    let mounting_user = nix::unistd::geteuid().as_raw();
    let for_all = mounting_user == 0;
    // Whatever user the server becomes.
    let trust = Trust::in_this_user();
    let confined = confine(
        settings,
        kept.take(),
        account.as_ref(),
        memory_is_locked,
        &saved_state,
        takes_over,
    )?;
    if !keys_are_locked() {
        tracing::warn!("the encryption key may be swapped out; raise RLIMIT_MEMLOCK (ulimit -l)");
    }
    let store = Arc::new(OnDisk(SledStore::open(&settings.state_dir)?));
    let sharing = match (confined.etcd_proxy, &settings.store) {
        (Some(etcd_proxy), Some(shared)) => Sharing::With(SharedStore {
            cluster: Arc::new(etcd_proxy),
            create: shared.create,
            at_once: takes_over,
        }),
        _ => Sharing::Alone,
    };
    let (keyring, audit) = (confined.keys.keyring, confined.audit);
    let (limits, name_error) = (settings.limits, fuse::vault_code);
    let opening = Opening { store, keyring, sharing, audit, limits, name_error };
    let (vault, inheritance) = if takes_over {
        let (vault, inheritance) = opening.take_over()?;
        (vault, Some(inheritance))
    } else {
        (opening.open()?, None)
    };
    let vault = Arc::new(vault);
    let telemetry = Arc::clone(vault.telemetry());
    let options = Options { list_sidecars: settings.list_acl, memory: settings.memory };
    let life =
        RestoredState { mount, saved_state, inheritance, outage: outage.unwrap_or_default() };
    let fs =
        Fs::new(Arc::clone(&vault), Arc::clone(&confined.identities), options, fuse::code, life);
    // Leaked on purpose: dropping the Fs would erase the state that the next process restores.
    std::mem::forget(Arc::clone(&fs));
    follow(&vault, &fs, takes_over)?;
    let weaknesses = Mutex::new(confined.keys.weaknesses);
    let (identities, key_files) = (confined.identities, confined.key_files);
    let (supervisor, busy) = (Arc::clone(&control), Mutex::default());
    let reload = Arc::new(Reload { identities, vault, key_files, supervisor, weaknesses, busy });
    match administration::record_start(&reload.vault, &reload.identities, mounting_user) {
        // Callers are waiting. What they do is recorded or fails.
        Err(error) if takes_over => tracing::error!(%error, "the start is not on the audit log"),
        outcome => outcome?,
    }
    let set_up = SetUp {
        reload: Arc::clone(&reload),
        import_dir: settings.import_dir.clone(),
        updatedb: for_all.then(|| confined.lookup_helper.clone()),
        credentials: settings.credential_files().map(Path::to_owned).collect(),
        trust,
        state_dir: settings.state_dir.clone(),
        mountpoint: settings.mountpoint.clone(),
        memory_is_locked,
        not_confined: confined.sandbox.missing_because(Because::SetUp).map(str::to_owned).collect(),
    };
    telemetry.security.set(move || set_up.reasons());
    telemetry.health.report(Part::Sandbox, confined.sandbox.health());
    for limit in confined.sandbox.missing_because(Because::Kernel) {
        telemetry.health.note(format!("the server is as confined as this kernel allows: {limit}"));
    }
    if let Ok(fault) = std::env::var(SETTINGS_FAULT) {
        let fault =
            format!("they were refused at the last restart, and those of before hold: {fault}");
        telemetry.health.report(Part::Settings, Err::<(), _>(fault));
    }
    for fault in &confined.credential_faults {
        tracing::error!(%fault, "the connection to etcd goes on; the next start will be refused");
        telemetry.health.report(Part::Keys, Err::<(), _>(fault));
    }
    if let Some(fault) = confined.identities_fault {
        tracing::error!(error = %fault, "the identities stay as they were");
        telemetry.health.report(Part::Identities, Err::<(), _>(fault));
    }

    reload::keep(&control, confined.keys.texts);
    control.tell(&Report::Ready, &[]).map_err(conversation)?;
    // It has ended the conversation if it could not mount, and says why.
    let Some((order, descriptors)) = next_order(&control)? else { return Ok(()) };
    let Order::Serve { ref first_request } = order else { return Err(DaemonError::NoHolder) };
    let (device, lines) = device_and_lines(descriptors)?;
    let notifier = lines.first().ok_or(DaemonError::NoHolder)?;
    let notifier = notifier.try_clone().map_err(conversation)?;
    let threads = settings.threads + fs.threads_for_suspects();
    let service = Service { for_all, threads };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("the event loop could not be started"))?;
    runtime.block_on(async {
        let signals = Signals::new().map_err(system("signals could not be caught"))?;
        let (over, when_over) = oneshot::channel();
        let served = fuse::serve(
            Arc::clone(&fs),
            &device,
            lines,
            first_request,
            confined.inotify_helper,
            service,
            move || {
                // The receiver no longer exists when the supervisor is gone.
                let _ = over.send(());
            },
        )
        .map_err(system("the mount cannot be served"))?;
        if !served.resends {
            telemetry.health.note(NO_RESEND);
        }
        // The files that are there are applied before the server reports that it is ready.
        if let Some(directory) = &settings.import_dir
            && let Err(source) =
                import_dir::start(&fs, directory, trust, confined.lookup_helper, takes_over)
        {
            let error = DaemonError::ImportDir { path: directory.clone(), source };
            if !takes_over {
                return Err(error);
            }
            tracing::error!(%error, "the directory is not watched any more");
        }
        drop(fs);
        for reason in telemetry.security.reasons() {
            tracing::warn!("the service is not secure: {reason}");
        }
        confined.log.flush();
        start_notice::let_go_of_stderr().map_err(system("standard error could not be closed"))?;
        control.tell(&Report::Serving, &[]).map_err(conversation)?;
        let (gone, when_gone) = oneshot::channel();
        follow_supervisor(control, notifier, gone, Arc::clone(&reload))
            .map_err(system("the supervisor could not be followed"))?;
        if signals.wait_for_end(when_over, when_gone, &reload).await {
            served.join().map_err(system("serving requests ended with an error"))?;
        }
        reload.vault.finish_audit();
        Ok(())
    })
}

/// Lets what other hosts do happen here. Returns once all that they did is here, or, where something
/// is here that can be served without it, a moment later.
fn follow(vault: &Arc<Vault>, fs: &Arc<Fs>, takes_over: bool) -> Result<(), DaemonError> {
    let is_new = !vault.has_content();
    let weak = Arc::downgrade(fs);
    let observer = move |changes: &[Change]| {
        if let Some(fs) = weak.upgrade() {
            fs.changed_elsewhere(changes);
        }
    };
    vault
        .follow(Box::new(observer))
        .map_err(system("the thread that follows etcd could not be started"))?;
    match (is_new, takes_over) {
        (true, _) if !vault.wait_until_current(FIRST_PATIENCE) => Err(DaemonError::NotCurrent),
        (false, false) => {
            vault.wait_until_current(START_PATIENCE);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Passes the server's notifications on to the kernel, until the server or the supervisor is gone.
pub(super) fn run_notifier() -> Result<(), DaemonError> {
    hardening::name_process(c"secretfs-notify");
    hardening::die_before_the_supervisor();
    hardening::protect_memory()?;
    let control = take_control()?;
    die_with_the_supervisor()?;
    // The server or the supervisor is gone already.
    let Some((order, descriptors)) = next_order(&control)? else { return Ok(()) };
    let Order::PassOn { account } = &order else { return Err(DaemonError::NoHolder) };
    let (device, lines) = device_and_lines(descriptors)?;
    // The sandbox lets it open nothing. Faults of the sandbox are already reported by the server, which has entered
    // its own.
    start_notice::let_go_of_stderr().map_err(system("standard error could not be closed"))?;
    sandbox::enter(&sandbox::of_notifier(account.as_ref()))?;
    // Becoming another user ended it.
    die_with_the_supervisor()?;
    fuse::pass_on(&device, lines).map_err(system("the kernel could not be told anything"))
}

fn die_with_the_supervisor() -> Result<(), DaemonError> {
    set_pdeathsig(UnixSignal::SIGKILL)
        .map_err(|error| system("the supervisor could not be followed")(error.into()))
}

/// What a confined server has: it can only serve, and helpers do the rest for it.
struct Confined {
    identities: Arc<Resolver>,
    /// Why those of the process before hold.
    identities_fault: Option<IdentitiesError>,
    key_files: KeyFiles,
    keys: Keys,
    lookup_helper: LookupHelper,
    etcd_proxy: Option<EtcdProxy>,
    /// Why a start would be refused. A service that runs is not given up for that.
    credential_faults: Vec<DaemonError>,
    inotify_helper: InotifyHelper,
    audit: audit::Options,
    sandbox: Sandbox,
    log: Log,
}

/// Takes from this process what it does not need. What it needs from outside is opened before, or
/// handed to it by processes that are started before.
fn confine(
    settings: &Resolved,
    kept: Option<KeyTexts>,
    account: Option<&Account>,
    memory_is_locked: bool,
    saved_state: &SavedState,
    takes_over: bool,
) -> Result<Confined, DaemonError> {
    let failed = system("the helpers of the server could not be started");
    let key_files = KeyFiles::find(settings);
    if !takes_over {
        // Before the helper that opens it: it confines itself to files that are there.
        key_files.make_missing(settings)?;
    }
    let paths = key_files.paths().chain(settings.identities.as_deref());
    let paths = paths.chain([Path::new(locate::CONFIGURATION)]).map(Path::to_owned);
    let readable = Readable { files: paths.collect(), directory: settings.import_dir.clone() };
    let lookup_helper = LookupHelper::start(account, readable).map_err(failed)?;
    let mut key_files = key_files.opened_by(lookup_helper.clone());
    // Errors in these are reported before a state directory is made.
    let keys = key_files.load(kept)?;
    let (identities, identities_fault) = Resolver::with_keeper(
        settings.identities.clone(),
        Box::new(lookup_helper.clone()),
        Box::new(saved_state.clone()),
    )?;
    let user = nix::unistd::geteuid();
    let identities = if user.is_root() { identities } else { identities.mounted_by(user.as_raw()) };
    // Refused before there is a mount that callers wait for.
    if let Some(path) = settings.import_dir.as_deref().filter(|_| !takes_over)
        && let Err(source) = Trust::in_this_user().check_directory(path)
    {
        return Err(DaemonError::ImportDir { path: path.to_owned(), source });
    }
    let unusable = |path: &Path, source| DaemonError::Unreadable { path: path.to_owned(), source };
    let open = |path| Trust::in_this_user().open(path).err().map(|error| unusable(path, error));
    let mut credential_faults: Vec<_> = settings.credential_files().filter_map(open).collect();
    if !takes_over && !credential_faults.is_empty() {
        return Err(credential_faults.swap_remove(0));
    }
    let etcd_proxy = settings
        .store
        .as_ref()
        .map(|shared| EtcdProxy::start(account, &shared.address, &shared.credentials));
    let etcd_proxy = etcd_proxy.transpose()?;
    let failed = system("the helpers of the server could not be started");
    let arguments = account.map(Account::to_arguments).unwrap_or_default();
    let inotify_helper = InotifyHelper::start(&settings.mountpoint, arguments).map_err(failed)?;
    let mut audit = settings.audit.clone();
    if audit.copy.is_some() {
        let failed = system("a socket could not be opened");
        audit.copy_socket = Some(Arc::new(UnixDatagram::unbound().map_err(failed)?));
    }
    let failed = system("the counts of the audit log could not be shared");
    audit.counts = saved_state.audit_counts().map_err(failed)?.map(Arc::new);
    let failed = system("the log could not be opened");
    let sockets = Sockets::open().map_err(failed)?;
    SledStore::prepare(&settings.state_dir, account.map(|account| (account.uid, account.gid)))?;
    let mut readable = sandbox::system_files();
    readable.extend(settings.import_dir.clone());
    let sandbox = sandbox::enter(&Needs {
        account,
        // Files to import may be their owners' alone.
        reads_all: settings.import_dir.is_some(),
        locks_memory: memory_is_locked && hardening::locked_memory_is_limited(),
        files: Files {
            readable,
            writable: vec![settings.state_dir.clone(), "/dev/null".into()],
            network: false,
        },
        calls: Calls::Serving { connects: audit.copy.is_some() },
    })?;
    let log = Log::start_in(sockets, settings.log_level)
        .map_err(system("the log could not be started"))?;
    for missing in &sandbox.missing {
        tracing::warn!("the server is not confined as it could be: {}", missing.what);
    }
    if settings.require_sandbox && !sandbox.missing.is_empty() {
        let missing: Vec<_> = sandbox.missing.iter().map(|missing| &*missing.what).collect();
        return Err(DaemonError::Sandbox { missing: missing.join("; ") });
    }
    let identities = Arc::new(identities);
    Ok(Confined {
        identities,
        identities_fault,
        key_files,
        keys,
        lookup_helper,
        etcd_proxy,
        credential_faults,
        inotify_helper,
        audit,
        sandbox,
        log,
    })
}

fn device_and_lines(descriptors: Vec<OwnedFd>) -> Result<(Device, Vec<OwnedFd>), DaemonError> {
    let mut descriptors = descriptors.into_iter();
    let device = descriptors.next().ok_or(DaemonError::NoHolder)?;
    Ok((Device::from_fd(device), descriptors.collect()))
}

/// Takes the socket to the supervisor from standard input. Signals are left to the supervisor, which sends orders
/// instead.
pub(super) fn take_control() -> Result<Control, DaemonError> {
    let failed = |error: nix::Error| system("the supervisor could not be followed")(error.into());
    // Signals to all processes of the service (`systemctl kill -s HUP`) are meant for the supervisor. This process
    // ignores them, and so do programs that it starts.
    let for_the_supervisor = [
        UnixSignal::SIGTERM,
        UnixSignal::SIGINT,
        UnixSignal::SIGHUP,
        UnixSignal::SIGUSR1,
        UnixSignal::SIGUSR2,
    ];
    for ignored in for_the_supervisor {
        // SAFETY: ignoring runs no code of ours.
        unsafe { handle(ignored, SigHandler::SigIgn) }.map_err(failed)?;
    }
    // Nor is the terminal of the supervisor its business. No process that comes here looks at the mountpoint.
    start_notice::leave_session().map_err(system("the session of the caller could not be left"))?;
    // The supervisor reads its signals, and its children inherit that it blocks them.
    SigSet::all().thread_unblock().map_err(failed)?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned();
    let null = std::fs::File::open("/dev/null");
    null.and_then(|null| Ok(nix::unistd::dup2_stdin(null)?))
        .map_err(system("standard input could not be closed"))?;
    socket.map(Control::from_fd).map_err(conversation)
}

/// Answers the supervisor's questions, and reports when the supervisor and the kernel notifier are gone. As long as
/// the kernel notifier waits for a caller, that caller must be answered: nothing else would end the wait.
fn follow_supervisor(
    control: Arc<Control>,
    notifier: OwnedFd,
    gone: oneshot::Sender<()>,
    reload: Arc<Reload>,
) -> std::io::Result<()> {
    std::thread::Builder::new().name("supervisor".to_owned()).spawn(move || {
        while let Ok(Some((order, _))) = control.hear::<Order>() {
            let answered = match order {
                Ok(Order::Ask) => control.tell(&how_it_is(), &[]),
                Ok(Order::Reload) => reload_and_tell(&reload, &control),
                Ok(_) => Ok(()),
                Err(error) => {
                    tracing::warn!("the supervisor sent a message of {error}: it is dropped");
                    Ok(())
                }
            };
            if answered.is_err() {
                break;
            }
        }
        let mut line = [PollFd::new(notifier.as_fd(), PollFlags::empty())];
        // Told or not: without a supervisor this process is of no use much longer.
        let _ = poll(&mut line, NOTIFIER_PATIENCE);
        // The receiver no longer exists when the mount is gone.
        let _ = gone.send(());
    })?;
    Ok(())
}

/// Reads files again on a thread of its own, because the supervisor's questions must be answered during that time.
fn reload_and_tell(reload: &Arc<Reload>, supervisor: &Arc<Control>) -> std::io::Result<()> {
    let (reload, supervisor) = (Arc::clone(reload), Arc::clone(supervisor));
    let read = move || {
        if let Err(error) = supervisor.tell(&Report::Reloaded(reload.run()), &[]) {
            tracing::debug!(%error, "the supervisor ended");
        }
    };
    std::thread::Builder::new().name("reload".to_owned()).spawn(read).map(drop)
}

fn how_it_is() -> Report {
    if request_watchdog::stuck_for() < STUCK { Report::Alive } else { Report::Stuck }
}

/// What the supervisor passes on.
struct Signals {
    hangup: Signal,
    user1: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let (hangup, user1) = (SignalKind::hangup(), SignalKind::user_defined1());
        Ok(Self { hangup: signal(hangup)?, user1: signal(user1)? })
    }

    /// Whether the end came because the mount is gone.
    async fn wait_for_end(
        mut self,
        mut when_over: oneshot::Receiver<()>,
        mut when_gone: oneshot::Receiver<()>,
        reload: &Arc<Reload>,
    ) -> bool {
        loop {
            tokio::select! {
                _ = &mut when_over => return true,
                _ = &mut when_gone => return false,
                _ = self.user1.recv() => reload.vault.rotate_audit(),
                // It waits for the disk: on a thread of its own, so that an end is not held up.
                _ = self.hangup.recv() => {
                    let reload = Arc::clone(reload);
                    // What is wrong is in the log.
                    tokio::task::spawn_blocking(move || drop(reload.run()));
                }
            }
        }
    }
}

fn text_of(key: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(String::from_utf8_lossy(key).into_owned())
}

fn conversation(source: std::io::Error) -> DaemonError {
    DaemonError::System { what: "the supervisor of the mount cannot be understood", source }
}

/// Waits for an order; none if the supervisor is gone.
fn next_order(control: &Control) -> Result<Option<(Order, Vec<OwnedFd>)>, DaemonError> {
    let Some((order, brought)) = control.hear().map_err(conversation)? else { return Ok(None) };
    let unknown = |error| std::io::Error::other(format!("it sent a message of {error}"));
    Ok(Some((order.map_err(unknown).map_err(conversation)?, brought)))
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> DaemonError {
    move |source| DaemonError::System { what, source }
}
