//! etcd, through its v3 protocol. The only importer of `etcd_client`.
//!
//! Whoever calls waits; inside, a runtime of its own does. It is made by the first call: what reads
//! files and what has threads are two things, so that a process can confine itself in between.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, EventType, GetOptions,
    Identity, KeyValue, TlsOptions, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchResponse,
};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use super::{
    Change, Cluster, ClusterAddress, ClusterError, Credentials, News, Outcome, PATIENCE, Page,
    Record, Transaction,
};

/// A page begins with so few records, since each may be large, and is doubled while they are small.
const FIRST_LIMIT: i64 = 16;
const LARGEST_LIMIT: i64 = 1024;
/// A name is small.
const LIST_LIMIT: i64 = 10_000;
/// A page of more bytes is large.
const LARGE_PAGE: usize = 1 << 20;
/// The largest message that is taken from etcd.
const LARGEST_MESSAGE: usize = 48 << 20;
/// Who is silent for that long is asked whether he is there: etcd hangs up on who asks more often than
/// each 5 s, or where nothing is going on ...
const KEEP_ALIVE: Duration = Duration::from_secs(6);
/// ... and is given up if he does not answer for that long.
const SILENCE: Duration = Duration::from_secs(3);
/// How often a watch tells that the connection stands although nothing happens.
const LOOK: Duration = Duration::from_millis(500);
/// A watch begins at once, or is lost.
const WATCH_PATIENCE: Duration = Duration::from_secs(5);

/// etcd, below one prefix.
pub struct EtcdCluster {
    hosts: Vec<String>,
    prefix: Vec<u8>,
    options: ConnectOptions,
    connection: Mutex<Connection>,
    limit: AtomicI64,
    /// How long a request may take.
    patience: Duration,
}

#[derive(Default)]
struct Connection {
    // First, so that it goes before what it runs on.
    client: Option<Client>,
    runtime: Option<std::sync::Arc<Runtime>>,
}

impl EtcdCluster {
    /// Reads the files of the credentials. Nothing is connected yet, and no thread started.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn prepare(
        address: &ClusterAddress,
        credentials: &Credentials,
    ) -> Result<Self, ClusterError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(PATIENCE)
            .with_keep_alive(KEEP_ALIVE, SILENCE)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some(tls) = tls(credentials)? {
            options = options.with_tls(tls);
        }
        if let Some(user) = &credentials.user {
            let Some(path) = &credentials.password else {
                return Err(file(Path::new("--etcd-password-file"), "a user has a password"));
            };
            let text = String::from_utf8(read(path)?).map_err(|_| file(path, "it is not text"))?;
            options = options.with_user(user, text.lines().next().unwrap_or_default());
        }
        Ok(Self {
            hosts: address.hosts().to_vec(),
            prefix: address.prefix().as_bytes().to_vec(),
            options,
            connection: Mutex::default(),
            limit: AtomicI64::new(FIRST_LIMIT),
            patience: PATIENCE,
        })
    }

    /// The client, connected as far as that is known, and what it runs on.
    fn client(&self) -> Result<(Client, std::sync::Arc<Runtime>), ClusterError> {
        let mut connection = self.connection.lock();
        let runtime = match &connection.runtime {
            Some(runtime) => std::sync::Arc::clone(runtime),
            None => {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()
                    .map_err(|error| ClusterError::Other { why: error.to_string() })?;
                std::sync::Arc::clone(connection.runtime.insert(runtime.into()))
            }
        };
        let client = match &connection.client {
            Some(client) => client.clone(),
            None => {
                let connect = Client::connect(&self.hosts, Some(self.options.clone()));
                let client = runtime.block_on(in_time(self.patience, connect)).map_err(not_sent)?;
                connection.client.insert(client).clone()
            }
        };
        Ok((client, runtime))
    }

    fn full(&self, name: &[u8]) -> Vec<u8> {
        [&self.prefix, name].concat()
    }

    fn short(&self, name: &[u8]) -> Option<Vec<u8>> {
        name.strip_prefix(self.prefix.as_slice()).map(<[u8]>::to_vec)
    }

    fn record(&self, kv: &KeyValue) -> Option<Record> {
        let name = self.short(kv.key())?;
        Some(Record { name, sealed: kv.value().to_vec(), revision: number(kv.mod_revision()) })
    }

    fn changes(&self, response: &WatchResponse) -> Vec<(u64, Change)> {
        let changes = response.events().iter().filter_map(|event| {
            let kv = event.kv()?;
            let sealed = (event.event_type() == EventType::Put).then(|| kv.value().to_vec());
            let name = self.short(kv.key())?;
            Some((number(kv.mod_revision()), Change { name, sealed }))
        });
        changes.collect()
    }
}

impl Cluster for EtcdCluster {
    fn commit(&self, transaction: &Transaction) -> Result<Outcome, ClusterError> {
        transaction.check()?;
        let (mut client, runtime) = self.client()?;
        let expected = transaction.expected.iter().map(|(name, revision)| {
            Compare::mod_revision(self.full(name), CompareOp::Equal, signed(*revision))
        });
        let changes = transaction.changes.iter().map(|change| match &change.sealed {
            Some(sealed) => TxnOp::put(self.full(&change.name), sealed.clone(), None),
            None => TxnOp::delete(self.full(&change.name), None),
        });
        let found = transaction
            .expected
            .iter()
            .map(|(name, _)| TxnOp::get(self.full(name), Some(GetOptions::new().with_keys_only())));
        let txn = Txn::new()
            .when(expected.collect::<Vec<_>>())
            .and_then(changes.collect::<Vec<_>>())
            .or_else(found.collect::<Vec<_>>());
        let response =
            runtime.block_on(in_time(self.patience, client.txn(txn))).map_err(perhaps_sent)?;
        if response.succeeded() {
            let header = response.header();
            return Ok(Outcome::Committed(number(header.map_or(0, |header| header.revision()))));
        }
        let found = response.op_responses().into_iter().map(|found| match found {
            TxnOpResponse::Get(found) => {
                found.kvs().first().map_or(0, |record| number(record.mod_revision()))
            }
            _ => 0,
        });
        Ok(Outcome::Conflict(found.collect()))
    }

    fn read(&self, from: &[u8], until: &[u8], at: Option<u64>) -> Result<Page, ClusterError> {
        let (client, runtime) = self.client()?;
        let mut client = client.kv_client().max_decoding_message_size(LARGEST_MESSAGE);
        let mut limit = self.limit.load(Ordering::Relaxed);
        loop {
            let options = GetOptions::new()
                .with_range(self.full(until))
                .with_limit(limit)
                .with_revision(at.map_or(0, signed));
            let read = client.get(self.full(from), Some(options));
            let response = match runtime.block_on(in_time(self.patience, read)).map_err(not_sent) {
                // What is compacted, and what is too large to be taken, have one number.
                Err(ClusterError::Compacted { .. }) if limit > 1 => {
                    limit = (limit / 4).max(1);
                    continue;
                }
                other => other?,
            };
            let records: Vec<_> = response.kvs().iter().filter_map(|kv| self.record(kv)).collect();
            let bytes: usize = records.iter().map(|record| record.sealed.len()).sum();
            let next = if bytes > LARGE_PAGE { FIRST_LIMIT } else { limit * 2 };
            self.limit.store(next.min(LARGEST_LIMIT), Ordering::Relaxed);
            let revision = number(response.header().map_or(0, |header| header.revision()));
            return Ok(Page { records, more: response.more(), revision });
        }
    }

    fn list(&self, from: &[u8], until: &[u8]) -> Result<Page, ClusterError> {
        let (client, runtime) = self.client()?;
        let mut client = client.kv_client().max_decoding_message_size(LARGEST_MESSAGE);
        let options =
            GetOptions::new().with_range(self.full(until)).with_limit(LIST_LIMIT).with_keys_only();
        let list = client.get(self.full(from), Some(options));
        let response = runtime.block_on(in_time(self.patience, list)).map_err(not_sent)?;
        let records = response.kvs().iter().filter_map(|kv| self.record(kv)).collect();
        let revision = number(response.header().map_or(0, |header| header.revision()));
        Ok(Page { records, more: response.more(), revision })
    }

    fn watch(
        &self,
        from: &[u8],
        until: &[u8],
        since: u64,
        hear: &mut dyn FnMut(News) -> ControlFlow<()>,
    ) -> Result<(), ClusterError> {
        let (client, runtime) = self.client()?;
        let mut client = client.watch_client().max_decoding_message_size(LARGEST_MESSAGE);
        let options = WatchOptions::new()
            .with_range(self.full(until))
            .with_start_revision(signed(since))
            .with_progress_notify();
        let begin = client.watch(self.full(from), Some(options));
        let mut stream = runtime
            .block_on(in_time(WATCH_PATIENCE.max(self.patience), begin))
            .map_err(not_sent)?;
        let mut last = since.saturating_sub(1);
        loop {
            let message = async { tokio::time::timeout(LOOK, stream.message()).await };
            let news = match runtime.block_on(message) {
                // A connection that is gone ends the stream.
                Err(_) => News::Nothing { revision: last },
                Ok(Err(error)) => return Err(not_sent(error)),
                Ok(Ok(None)) => {
                    return Err(ClusterError::Unreachable { why: "the watch ended".to_owned() });
                }
                Ok(Ok(Some(response))) => {
                    if response.compact_revision() > 0 {
                        let revision = number(response.compact_revision());
                        return Err(ClusterError::Compacted { revision });
                    }
                    if response.canceled() {
                        return Err(cancelled(response.cancel_reason()));
                    }
                    let changes = self.changes(&response);
                    match changes.last() {
                        // The answer to the beginning tells of a revision that was not waited for.
                        None if response.created() => continue,
                        None => last = number(response.header().map_or(0, |it| it.revision())),
                        Some((revision, _)) => last = *revision,
                    }
                    match changes.is_empty() {
                        true => News::Nothing { revision: last },
                        false => News::Changes { revision: last, changes },
                    }
                }
            };
            if hear(news).is_break() {
                return Ok(());
            }
        }
    }
}

fn tls(credentials: &Credentials) -> Result<Option<TlsOptions>, ClusterError> {
    let Some(authority) = &credentials.authority else {
        let own = credentials.certificate.as_ref().or(credentials.key.as_ref());
        let lonely = |path| file(path, "it is of use with --etcd-ca alone");
        return own.map_or(Ok(None), |path| Err(lonely(path)));
    };
    let tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(authority)?));
    match (&credentials.certificate, &credentials.key) {
        (None, None) => Ok(Some(tls)),
        (Some(certificate), Some(key)) => {
            Ok(Some(tls.identity(Identity::from_pem(read(certificate)?, read(key)?))))
        }
        (Some(lonely), None) | (None, Some(lonely)) => {
            Err(file(lonely, "--etcd-cert and --etcd-key go together"))
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ClusterError> {
    std::fs::read(path).map_err(|error| file(path, &error.to_string()))
}

fn file(path: &Path, why: &str) -> ClusterError {
    ClusterError::File { path: path.display().to_string(), why: why.to_owned() }
}

async fn in_time<T>(
    time: Duration,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(time, answer).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::IoError(io::ErrorKind::TimedOut.into())),
    }
}

/// An error of what changes nothing.
fn not_sent(error: Error) -> ClusterError {
    match classify(&error) {
        Class::Lost => ClusterError::Unreachable { why: text(&error) },
        Class::Clear(error) => error,
    }
}

/// An error of what may have been carried out all the same.
fn perhaps_sent(error: Error) -> ClusterError {
    match classify(&error) {
        Class::Lost => ClusterError::Unknown { why: text(&error) },
        Class::Clear(error) => error,
    }
}

/// What an error says of a request.
enum Class {
    /// Nothing.
    Lost,
    /// It was not carried out.
    Clear(ClusterError),
}

fn classify(error: &Error) -> Class {
    // The numbers of gRPC's statuses.
    const INVALID_ARGUMENT: i32 = 3;
    const PERMISSION_DENIED: i32 = 7;
    const RESOURCE_EXHAUSTED: i32 = 8;
    const OUT_OF_RANGE: i32 = 11;
    const UNAUTHENTICATED: i32 = 16;
    let why = text(error);
    if is_of_tls(error) {
        return Class::Clear(ClusterError::Denied { why });
    }
    let status = match error {
        Error::GRpcStatus(status) => i32::from(status.code()),
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::EndpointError(_) => {
            return Class::Clear(ClusterError::Other { why });
        }
        _ => return Class::Lost,
    };
    Class::Clear(match status {
        // What is wrong with a user and a password is an invalid argument, too.
        INVALID_ARGUMENT | PERMISSION_DENIED | UNAUTHENTICATED => ClusterError::Denied { why },
        RESOURCE_EXHAUSTED => ClusterError::Full { why },
        OUT_OF_RANGE => ClusterError::Compacted { revision: 0 },
        _ => return Class::Lost,
    })
}

/// Whether the two do not trust each other.
fn is_of_tls(error: &Error) -> bool {
    let mut source = match error {
        Error::GRpcStatus(status) => status.source(),
        Error::TransportError(error) => Some(error as &dyn std::error::Error),
        _ => None,
    };
    while let Some(error) = source {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if kind == Some(io::ErrorKind::InvalidData) {
            return true;
        }
        source = error.source();
    }
    false
}

/// All that an error says, with what it came from, in a line.
fn text(error: &Error) -> String {
    let mut text = match error {
        Error::GRpcStatus(status) => status.message().to_owned(),
        Error::IoError(error) => error.kind().to_string(),
        other => other.to_string(),
    };
    let mut source = match error {
        Error::GRpcStatus(status) => status.source(),
        Error::TransportError(error) => error.source(),
        _ => None,
    };
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text.replace(['\n', '\r'], " ")
}

fn cancelled(why: &str) -> ClusterError {
    // It gives no number. Rights that were taken away are asked for anew by the next read.
    ClusterError::Unreachable { why: format!("the watch was ended: {why}") }
}

fn number(signed: i64) -> u64 {
    u64::try_from(signed).unwrap_or(0)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
