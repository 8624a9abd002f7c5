//! The process that speaks to etcd for the server: it has sockets and no key, and receives from the server and etcd
//! only. All data that it forwards is sealed.

mod channel;

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::cluster::{
    Cluster, ClusterAddress, ClusterError, Credentials, EtcdCluster, News, Outcome, Page,
    Transaction,
};

use super::error::DaemonError;
use super::ipc::Control;
use super::sandbox;
use super::sandbox::hardening;
use super::sandbox::{Account, Calls, Files, Needs};
use channel::Line;

/// What the name of its subcommand is.
const COMMAND: &str = "carry";
/// One for transactions, one for reads, one for the watch: none waits for another.
const LINES: usize = 3;
/// What it may read once it is confined: where hosts' names are looked up.
const NAME_SERVICES: [&str; 14] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ld.so.cache",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/run/systemd/resolve",
    "/proc",
    "/sys/fs/cgroup",
];

/// Said to the etcd proxy first. Brings the lines. It answers whether it can use the files.
#[derive(Serialize, Deserialize)]
struct Begin {
    account: Option<Account>,
    address: String,
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    user: Option<String>,
    password: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
enum Question {
    Commit(Transaction),
    Read {
        from: Vec<u8>,
        until: Vec<u8>,
        at: Option<u64>,
    },
    List {
        from: Vec<u8>,
        until: Vec<u8>,
    },
    Watch {
        from: Vec<u8>,
        until: Vec<u8>,
        since: u64,
    },
    /// After news: whether to go on.
    GoOn(bool),
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Committed(Result<Outcome, ClusterError>),
    Read(Result<Page, ClusterError>),
    News(News),
    WatchEnded(Result<(), ClusterError>),
}

/// The server's end of it.
#[derive(Clone)]
pub(super) struct EtcdProxy(Arc<[Mutex<Line>; LINES]>);

impl EtcdProxy {
    /// Starts the process. It ends with this one.
    ///
    /// # Errors
    /// It cannot be started, or cannot use its files.
    pub(super) fn start(
        account: Option<&Account>,
        address: &ClusterAddress,
        credentials: &Credentials,
    ) -> Result<Self, DaemonError> {
        let failed = || system("the process that speaks to etcd could not be started");
        let control = Control::with_new_process(COMMAND).map_err(failed())?;
        let pairs: Vec<_> =
            (0..LINES).map(|_| Line::pair()).collect::<io::Result<_>>().map_err(failed())?;
        let (lines, ends): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let ends: Vec<_> = ends.iter().map(AsFd::as_fd).collect();
        let begin = Begin {
            account: account.cloned(),
            address: address.to_string(),
            authority: credentials.authority.clone(),
            certificate: credentials.certificate.clone(),
            key: credentials.key.clone(),
            user: credentials.user.clone(),
            password: credentials.password.clone(),
        };
        control.send(&begin, &ends).map_err(failed())?;
        let began: Option<(Result<(), ClusterError>, _)> = control.receive().map_err(failed())?;
        let (began, _) = began.ok_or(io::ErrorKind::BrokenPipe.into()).map_err(failed())?;
        began?;
        let lines: Vec<_> = lines.into_iter().map(Mutex::new).collect();
        let lines = lines.try_into().map_err(|_| io::ErrorKind::Other.into()).map_err(failed())?;
        Ok(Self(Arc::new(lines)))
    }

    fn ask(&self, line: usize, question: &Question) -> Answer {
        let line = self.0[line].lock();
        match line.send(question).and_then(|()| line.receive()) {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => gone(),
        }
    }
}

/// This process may not start another one: it ends, and the next server has a new one.
fn gone() -> ! {
    tracing::error!("the process that speaks to etcd is gone; this server ends");
    std::process::abort();
}

impl Cluster for EtcdProxy {
    fn commit(&self, transaction: &Transaction) -> Result<Outcome, ClusterError> {
        match self.ask(0, &Question::Commit(transaction.clone())) {
            Answer::Committed(outcome) => outcome,
            _ => gone(),
        }
    }

    fn read(&self, from: &[u8], until: &[u8], at: Option<u64>) -> Result<Page, ClusterError> {
        match self.ask(1, &Question::Read { from: from.to_vec(), until: until.to_vec(), at }) {
            Answer::Read(page) => page,
            _ => gone(),
        }
    }

    fn list(&self, from: &[u8], until: &[u8]) -> Result<Page, ClusterError> {
        match self.ask(1, &Question::List { from: from.to_vec(), until: until.to_vec() }) {
            Answer::Read(page) => page,
            _ => gone(),
        }
    }

    fn watch(
        &self,
        from: &[u8],
        until: &[u8],
        since: u64,
        hear: &mut dyn FnMut(News) -> ControlFlow<()>,
    ) -> Result<(), ClusterError> {
        let line = self.0[2].lock();
        let (from, until) = (from.to_vec(), until.to_vec());
        let mut sent = line.send(&Question::Watch { from, until, since });
        loop {
            match sent.and_then(|()| line.receive()) {
                Ok(Some(Answer::News(news))) => {
                    sent = line.send(&Question::GoOn(hear(news).is_continue()));
                }
                Ok(Some(Answer::WatchEnded(outcome))) => return outcome,
                Ok(_) | Err(_) => gone(),
            }
        }
    }
}

/// Carries until the server is gone.
pub(super) fn run() -> Result<(), DaemonError> {
    hardening::name_process(c"secretfs-etcd");
    hardening::die_before_the_supervisor();
    hardening::protect_memory()?;
    let failed = || system("the server cannot be understood");
    let control = super::server::take_control()?;
    // The server is gone already.
    let Some((begin, lines)) = control.receive::<Begin>().map_err(failed())? else { return Ok(()) };
    let account = begin.account.clone();
    // Files of root's are read now. The server says what is wrong with them.
    let prepared = begin.prepare();
    control.send(&prepared.as_ref().map(drop).map_err(Clone::clone), &[]).map_err(failed())?;
    let Ok(cluster) = prepared else { return Ok(()) };
    let readable = NAME_SERVICES.map(PathBuf::from).into();
    sandbox::enter(&Needs {
        account: account.as_ref(),
        files: Files { readable, network: true, ..Files::default() },
        calls: Calls::Others,
        ..Needs::default()
    })?;
    // A transaction may last longer than the server does.
    set_pdeathsig(Signal::SIGKILL).map_err(|error| failed()(error.into()))?;
    carry(Arc::new(cluster), lines).map_err(failed())
}

impl Begin {
    fn prepare(self) -> Result<EtcdCluster, ClusterError> {
        let Self { address, authority, certificate, key, user, password, .. } = self;
        let credentials = Credentials { authority, certificate, key, user, password };
        EtcdCluster::prepare(&ClusterAddress::parse(&address)?, &credentials)
    }
}

/// Answers on all lines until their other ends are gone.
fn carry(cluster: Arc<impl Cluster + 'static>, lines: Vec<OwnedFd>) -> io::Result<()> {
    let threads = lines.into_iter().map(|line| {
        let (line, cluster) = (Line::from_fd(line), Arc::clone(&cluster));
        let answer = move || answer_all(&line, &*cluster);
        std::thread::Builder::new().name("line".to_owned()).spawn(answer)
    });
    let threads: Vec<_> = threads.collect::<io::Result<_>>()?;
    threads.into_iter().map(JoinHandle::join).for_each(drop);
    Ok(())
}

fn answer_all(line: &Line, cluster: &impl Cluster) {
    while let Ok(Some(question)) = line.receive() {
        let answer = match question {
            Question::Commit(transaction) => Answer::Committed(cluster.commit(&transaction)),
            Question::Read { from, until, at } => Answer::Read(cluster.read(&from, &until, at)),
            Question::List { from, until } => Answer::Read(cluster.list(&from, &until)),
            Question::Watch { from, until, since } => {
                let mut tell = |news| {
                    let told = line.send(&Answer::News(news)).and_then(|()| line.receive());
                    match told {
                        Ok(Some(Question::GoOn(true))) => ControlFlow::Continue(()),
                        _ => ControlFlow::Break(()),
                    }
                };
                Answer::WatchEnded(cluster.watch(&from, &until, since, &mut tell))
            }
            Question::GoOn(_) => return,
        };
        // The server is gone, or about to be: so is this one's purpose.
        if line.send(&answer).is_err() {
            return;
        }
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |source| DaemonError::System { what, source }
}

#[cfg(test)]
mod tests {
    use crate::cluster::{MemoryCluster, Outcome};

    use super::*;

    #[test]
    fn what_is_asked_over_lines_is_answered() {
        let cluster = Arc::new(MemoryCluster::new());
        let pairs: Vec<_> = (0..LINES).map(|_| Line::pair().unwrap()).collect();
        let (lines, ends): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let other = Arc::clone(&cluster);
        let thread = std::thread::spawn(move || carry(other, ends).unwrap());
        let lines: Vec<_> = lines.into_iter().map(Mutex::new).collect();
        let etcd_proxy = EtcdProxy(Arc::new(lines.try_into().ok().unwrap()));
        let mut transaction = Transaction::default();
        transaction.put(b"a", vec![1; 1 << 20]);
        assert_eq!(etcd_proxy.commit(&transaction), Ok(Outcome::Committed(1)));
        assert_eq!(etcd_proxy.read(b"a", b"b", None).unwrap().records[0].sealed.len(), 1 << 20);
        for _ in 0..2 {
            let mut heard = 0;
            let mut hear = |news| match news {
                News::Changes { changes, .. } => {
                    heard += changes.len();
                    ControlFlow::Break(())
                }
                News::Nothing { .. } => ControlFlow::Continue(()),
            };
            etcd_proxy.watch(b"a", b"b", 1, &mut hear).unwrap();
            assert_eq!(heard, 1);
        }
        cluster.set_away(true);
        let unreachable = etcd_proxy.read(b"a", b"b", None);
        assert!(matches!(unreachable, Err(ClusterError::Unreachable { .. })));
        drop(etcd_proxy);
        thread.join().unwrap();
    }
}
