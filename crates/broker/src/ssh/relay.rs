//! The relay: the only address that a certificate is good from, and what ends live sessions.
//!
//! An agent's `ssh` is carried through it byte by byte; it speaks no SSH and sees nothing of what is inside. It asks,
//! before a session and twice a second during it, whether the lease is in force, and cuts when the answer is no, or
//! does not come. What it remembers is only what is open, so a node that dies has cut everything.
//!
//! The way in is one line, `bailiwick-relay 1 NAME PASS`, and then the bytes of SSH. The pass derives from the name
//! under a key that only this installation has. A refusal is a line too, which RFC 4253 section 4.2 allows before the
//! version string.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bailiwick_core::LeaseId;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::Doing;
use crate::error::BrokerError;
use crate::mark::Maker;
use crate::secret::Secret;

/// How the first line begins.
pub const HELLO: &str = "bailiwick-relay 1 ";
/// How a refusal begins.
pub const REFUSAL: &str = "bailiwick: ";
/// Longest first line, in bytes.
const HELLO_MAX: usize = 160;
/// How long the first line may take to arrive.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Between two questions whether a lease is in force.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long the answer may take; after that it is a no.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long the host may take to accept a connection.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Connections at once, of all leases.
const CONNECTIONS_MAX: usize = 1024;
/// Connections at once of one lease.
const PER_LEASE_MAX: usize = 16;

/// Whoever knows whether a lease is in force at this moment.
pub trait InForce: Send + Sync + 'static {
    /// Whether it is. Every doubt is a no.
    fn is_in_force<'a>(&'a self, lease: &'a LeaseId) -> Doing<'a, bool>;
}

/// The relay of one host.
pub struct Relay {
    maker: Maker,
    host: String,
    port: u16,
    from: IpAddr,
    open: Mutex<Open>,
}

/// What is open now, by the number of the connection; and how many there ever were of each lease that still may have one.
#[derive(Default)]
struct Open {
    next: u64,
    sessions: BTreeMap<u64, (String, JoinHandle<()>)>,
}

impl Relay {
    pub(super) fn new(maker: Maker, host: String, port: u16, from: IpAddr) -> Relay {
        Relay { maker, host, port, from, open: Mutex::default() }
    }

    /// Carries sessions until it is dropped. When this future is dropped, all of them are cut.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, leases: Arc<dyn InForce>) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let _all = CutAll(&self);
        let mut arriving = tokio::task::JoinSet::new();
        loop {
            while arriving.try_join_next().is_some() {}
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((agent, _)) => {
                    let (relay, leases) = (Arc::clone(&self), Arc::clone(&leases));
                    arriving.spawn(async move { relay.admit(agent, leases, slot).await });
                }
                // Out of file handles, or a peer that left at once.
                Err(error) => {
                    tracing::warn!(%error, "a connection to the relay could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// The pass for a name.
    pub(super) fn pass(&self, name: &str) -> Secret {
        self.maker.pass(name)
    }

    /// Live sessions of a name.
    pub(super) fn count(&self, name: &str) -> u64 {
        self.open().sessions.values().filter(|(n, _)| n == name).count() as u64
    }

    /// The names that have live sessions.
    pub(super) fn names(&self) -> std::collections::BTreeSet<String> {
        self.open().sessions.values().map(|(name, _)| name.clone()).collect()
    }

    /// Cuts every session of a name. When this is done, their sockets are closed.
    pub(super) async fn cut(&self, name: &str) -> u64 {
        let theirs: Vec<u64> =
            self.open().sessions.iter().filter(|(_, (n, _))| n == name).map(|(id, _)| *id).collect();
        let mut cut = 0;
        for id in theirs {
            // It stays on the list until it has really ended: a look in between must see it.
            let Some(task) = self.taken(id) else { continue };
            task.abort();
            let _ended = task.await;
            self.open().sessions.remove(&id);
            cut += 1;
        }
        cut
    }

    fn taken(&self, id: u64) -> Option<JoinHandle<()>> {
        let mut open = self.open();
        let (_, task) = open.sessions.get_mut(&id)?;
        Some(std::mem::replace(task, tokio::spawn(async {})))
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn admit(
        self: Arc<Self>,
        mut agent: TcpStream,
        leases: Arc<dyn InForce>,
        slot: tokio::sync::OwnedSemaphorePermit,
    ) {
        let hello = tokio::time::timeout(HELLO_WITHIN, first_line(&mut agent)).await;
        let named = hello.ok().flatten().and_then(|line| self.proven(&line));
        let Some((name, lease)) = named else {
            refuse(&mut agent, "this is no pass for this relay").await;
            return;
        };
        let (start, started) = oneshot::channel::<u64>();
        let relay = Arc::clone(&self);
        let session = {
            let name = name.clone();
            tokio::spawn(async move {
                let _slot = slot;
                let Ok(id) = started.await else { return };
                relay.carry(agent, &name, &lease, &*leases).await;
                relay.open().sessions.remove(&id);
            })
        };
        // On the list before anything is asked: a cut that comes between the answer and the session finds it.
        let id = {
            let mut open = self.open();
            if open.sessions.values().filter(|(n, _)| *n == name).count() >= PER_LEASE_MAX {
                session.abort();
                tracing::warn!(name, "too many sessions of one lease");
                return;
            }
            let id = open.next;
            open.next += 1;
            open.sessions.insert(id, (name, session));
            id
        };
        let _begun = start.send(id);
    }

    /// The name and lease of a first line, if its pass is the right one.
    fn proven(&self, line: &str) -> Option<(String, LeaseId)> {
        let (name, pass) = line.strip_prefix(HELLO)?.split_once(' ')?;
        let fits = self.pass(name) == Secret::new(pass.to_owned());
        let lease = self.maker.lease(name)?;
        fits.then(|| (name.to_owned(), lease))
    }

    async fn carry(&self, mut agent: TcpStream, name: &str, lease: &LeaseId, leases: &dyn InForce) {
        if !asked(leases, lease).await {
            tracing::info!(name, "refused: the lease is not in force");
            return refuse(&mut agent, "the lease is not in force").await;
        }
        let mut host = match self.connect().await {
            Ok(host) => host,
            Err(error) => {
                tracing::warn!(name, %error, "the host cannot be reached");
                return refuse(&mut agent, "the host cannot be reached").await;
            }
        };
        tracing::info!(name, host = self.host, "a session begins");
        tokio::select! {
            _ = copy_bidirectional(&mut agent, &mut host) => tracing::info!(name, "a session ended"),
            () = until_over(leases, lease) => tracing::info!(name, "cut: the lease is not in force any more"),
        }
    }

    /// A connection to the host, from the one address that certificates are good from.
    pub(super) async fn connect(&self) -> Result<TcpStream, BrokerError> {
        connect(&self.host, self.port, Some(self.from)).await
    }
}

/// Cuts everything when the relay is not served any more.
struct CutAll<'a>(&'a Relay);

impl Drop for CutAll<'_> {
    fn drop(&mut self) {
        std::mem::take(&mut self.0.open().sessions).into_values().for_each(|(_, task)| task.abort());
    }
}

/// A connection to a host, from this address if one is given.
pub(super) async fn connect(host: &str, port: u16, from: Option<IpAddr>) -> Result<TcpStream, BrokerError> {
    let unreachable =
        |why: &str| BrokerError::new("target.unreachable", format!("{host}:{port} cannot be reached: {why}"));
    let connecting = async {
        let mut last = unreachable("it has no address");
        for to in tokio::net::lookup_host((host, port)).await.map_err(|e| unreachable(&e.to_string()))? {
            match connected(to, from).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = unreachable(&error.to_string()),
            }
        }
        Err(last)
    };
    tokio::time::timeout(CONNECT_WITHIN, connecting)
        .await
        .unwrap_or_else(|_| Err(unreachable("it does not answer")))
}

async fn connected(to: SocketAddr, from: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let stream = socket.connect(to).await?;
    // A cut is a reset: what was sent and has not arrived does not arrive any more.
    stream.set_zero_linger()?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Comes back when a lease is not in force any more, or nobody can say so.
async fn until_over(leases: &dyn InForce, lease: &LeaseId) {
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        if !asked(leases, lease).await {
            return;
        }
    }
}

async fn asked(leases: &dyn InForce, lease: &LeaseId) -> bool {
    matches!(tokio::time::timeout(ANSWER_WITHIN, leases.is_in_force(lease)).await, Ok(Ok(true)))
}

/// The first line, without its end; byte by byte, because what follows is not ours.
async fn first_line(agent: &mut TcpStream) -> Option<String> {
    let mut line = Vec::new();
    loop {
        match agent.read_u8().await.ok()? {
            b'\n' => return String::from_utf8(line).ok(),
            byte if line.len() < HELLO_MAX => line.push(byte),
            _ => return None,
        }
    }
}

async fn refuse(agent: &mut TcpStream, why: &str) {
    let line = format!("{REFUSAL}{why}\r\n");
    let _told = agent.write_all(line.as_bytes()).await;
    let _closed = agent.shutdown().await;
}
