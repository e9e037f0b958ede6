//! PostgreSQL: agents' sessions with databases, each statement decided before it runs.
//!
//! A client connects with its task token and a proof of possession in the place of a password; the database is the
//! target's name, the user a scope of it. The session gets a login of its own, made for it by a [`Lender`] and ended
//! with it; the agent never sees it. From then on, for each statement:
//!
//! `statement::read` → `DecisionPoint::decide` → the server → `DecisionPoint::report` → the agent.
//!
//! A session whose task or grant ends is cut, whatever it is doing: watched here, and ended in the database by whoever
//! made the login. Plain programs reach this through [`local`], on their own machine.

#[cfg_attr(
    not(any(feature = "postgres-gateway", test)),
    expect(dead_code, reason = "the grammar asks what is known, and so do tests")
)]
mod known;
pub mod local;
mod rows;
mod server;
mod session;
pub mod spec;
mod startup;
#[cfg_attr(not(feature = "postgres-gateway"), expect(dead_code, reason = "the grammar makes statements"))]
mod statement;
mod wire;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use bailiwick_api::{
    ApprovalState, Call, Caller, DecisionPoint, Denial, Outcome, OutcomeStatus, Pending, PointError,
};
use bailiwick_core::{LeaseId, SystemId, ToolId, Value};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub use server::Login;
pub use spec::{Columns, PostgresSpec, Scope, ServerTls, Verbs};

use crate::accept::accept;
use crate::door::{Door, Knock};
use crate::gateway::GatewayConfig;
use crate::http::{challenge, json, known_host};
use crate::in_flight::report;
use crate::pending::PendingActs;
use server::{Cancel, Server};
use session::{Account, End, Ground, Session, asked, denied, fatal, undecided};
use startup::{Asked, Hello};
use wire::{BadWire, Out, Trouble};

/// Whether this program was built to understand statements; without that, every one is refused.
pub const UNDERSTANDS: bool = cfg!(feature = "postgres-gateway");
/// Sessions at once; further ones wait.
const SESSIONS_MAX: usize = 256;
/// How long a client may take to say who it is.
const GREETING_WITHIN: Duration = Duration::from_secs(10);
/// How long sessions may take to end when the gateway stops.
const CLOSING_WITHIN: Duration = Duration::from_secs(5);
/// How long a client may take to read the last word.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(2);

/// Makes and ends the logins that sessions run under.
pub trait Lender: Send + Sync + 'static {
    /// A login for the scope that the call names, decided like any call.
    fn lend(&self, caller: &Caller, call: Call) -> impl Future<Output = Result<Login, NotLent>> + Send;

    /// The session is over: its login goes.
    fn give_back(&self, caller: &Caller, lease: &LeaseId) -> impl Future<Output = ()> + Send;
}

/// Why there is no login.
#[derive(Debug)]
pub enum NotLent {
    /// A person must say yes first.
    Ask(Pending),
    /// No.
    Deny(Denial),
    /// It could not be decided or made.
    Failed(PointError),
}

/// An enforcement point for PostgreSQL.
pub struct Postgres<P, D, L> {
    point: Arc<P>,
    door: D,
    lender: L,
    targets: BTreeMap<SystemId, PostgresSpec>,
    tls: Option<Arc<rustls::ServerConfig>>,
    pending: PendingActs,
    config: GatewayConfig,
    sessions: Sessions,
    closing: watch::Sender<bool>,
}

/// The sessions that run: how to cancel what they do, and who they are.
#[derive(Default)]
struct Sessions(Mutex<HashMap<Key, Running>>);

/// What a client shows to have a statement cancelled: a number and a secret.
type Key = (i32, i32);

#[derive(Clone)]
struct Running {
    name: String,
    caller: Arc<Mutex<Caller>>,
    cancel: Option<Cancel>,
}

impl<P: DecisionPoint, D: Door, L: Lender> Postgres<P, D, L> {
    /// Puts an enforcement point in front of these targets. With a certificate, it speaks TLS to those who ask.
    pub fn new(
        point: Arc<P>,
        door: D,
        lender: L,
        targets: Vec<PostgresSpec>,
        tls: Option<Arc<rustls::ServerConfig>>,
        config: GatewayConfig,
    ) -> Arc<Self> {
        let targets = targets.into_iter().map(|target| (target.system.clone(), target)).collect();
        let (pending, sessions) = (PendingActs::default(), Sessions::default());
        let closing = watch::Sender::new(false);
        Arc::new(Postgres { point, door, lender, targets, tls, pending, config, sessions, closing })
    }

    /// Serves clients until it is told to stop; then every session is ended, and its login given back.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: impl Future<Output = ()>) {
        let mut running = JoinSet::new();
        let client = |stream, from| {
            let gateway = self.clone();
            async move { gateway.client(stream, from).await }
        };
        tokio::select! {
            () = accept(listener, SESSIONS_MAX, &mut running, client) => {}
            () = stop => {}
        }
        self.closing.send_replace(true);
        let ended = async { while running.join_next().await.is_some() {} };
        if timeout(CLOSING_WITHIN, ended).await.is_err() {
            tracing::warn!("sessions with databases did not end in time; their logins end with their tasks");
        }
    }

    async fn client(&self, stream: tokio::net::TcpStream, from: SocketAddr) {
        let here = from.ip().is_loopback();
        let greeted = tokio::select! {
            greeted = timeout(GREETING_WITHIN, startup::greet(stream, self.tls.clone(), here)) => greeted,
            () = self.stopping() => return,
        };
        match greeted {
            Ok(Ok(Asked::Session(hello))) => self.session(hello).await,
            Ok(Ok(Asked::Cancel(key))) => self.cancel(key).await,
            Ok(Err(bad)) => tracing::debug!(%bad, "a client did not say who it is"),
            Err(_) => tracing::debug!("a client took too long to say who it is"),
        }
    }

    async fn cancel(&self, key: Key) {
        let cancel = self.sessions.find(key).and_then(|running| running.cancel);
        if let Some(cancel) = cancel
            && let Err(error) = cancel.send().await
        {
            tracing::debug!(%error, "a statement could not be cancelled");
        }
    }

    /// One session from its first word to its last.
    async fn session(&self, mut hello: Hello) {
        let opened = match self.open(&hello).await {
            Ok(opened) => opened,
            Err(refused) => return last_word(&mut hello.stream, &refused).await,
        };
        let Opened { caller, login, spec, scope, server } = opened;
        let (shared, account) = (Arc::new(Mutex::new(caller)), Arc::new(Account::default()));
        let entry = self.sessions.enter(shared.clone(), server.cancel.clone());
        if let Some(entry) = &entry {
            self.carry(&mut hello, entry, &shared, &account, spec, &scope, server).await;
        }
        let caller = current(&shared);
        for decision in account.take() {
            let note = Some("task.ended".to_owned());
            let outcome =
                Outcome { status: OutcomeStatus::Unknown, result: None, bytes: 0, words: Vec::new(), note };
            if let Err(error) = report(&*self.point, &caller, &decision, outcome).await {
                tracing::warn!(%decision, %error, "an outcome could not be recorded");
            }
        }
        self.lender.give_back(&caller, &login.lease).await;
    }

    #[expect(clippy::too_many_arguments, reason = "what a session stands on, taken apart once")]
    async fn carry(
        &self,
        hello: &mut Hello,
        entry: &Entry<'_>,
        shared: &Arc<Mutex<Caller>>,
        account: &Arc<Account>,
        spec: &PostgresSpec,
        scope: &str,
        server: Server,
    ) {
        let Some(rules) = spec.scopes.get(scope) else { return };
        let welcome = startup::welcome(&server.says, entry.key, &entry.name);
        let ground = Ground {
            point: &*self.point,
            pending: &self.pending,
            system: &spec.system,
            scope_name: scope,
            scope: rules,
            statement_within: self.config.request_timeout,
        };
        let mut session = Session::new(ground, shared.clone(), account.clone(), server);
        let (mut from, mut to) = tokio::io::split(&mut hello.stream);
        if to.write_all(&welcome).await.is_err() || to.flush().await.is_err() {
            return;
        }
        let ended = tokio::select! {
            biased;
            why = self.over(shared) => End::Over(why),
            ended = session.run(&mut from, &mut to) => ended,
        };
        let whole = !session.writing;
        drop((from, to));
        // With this its connection to the database goes, and whatever runs there is cancelled first.
        drop(session);
        if let Some(cancel) = self.sessions.find(entry.key).and_then(|running| running.cancel) {
            let _ = cancel.send().await;
        }
        let word = match ended {
            End::Left => None,
            End::Client(BadWire::Gone) => None,
            End::Client(bad) => Some(fatal("08P01", &bad.to_string())),
            End::Server => Some(fatal("57P01", "the database ended the session")),
            End::Over(trouble) => Some(trouble),
        };
        if let Some(word) = word.filter(|_| whole) {
            last_word(&mut hello.stream, &word).await;
        }
    }

    /// Resolves when a session must end: its task or grant has, or its token has not been renewed.
    async fn over(&self, shared: &Arc<Mutex<Caller>>) -> Trouble {
        loop {
            tokio::select! {
                () = sleep(self.config.live_poll) => {}
                () = self.stopping() => return fatal("57P01", "the gateway is stopping"),
            }
            let caller = current(shared);
            if crate::forward::now() > caller.until {
                return fatal("57P01", "the session's token has expired");
            }
            if !self.point.live(&caller).await {
                return fatal("57P01", "the task or grant of this session has ended");
            }
        }
    }

    /// Resolves once the gateway stops.
    async fn stopping(&self) {
        // It cannot fail while `self` holds the sender.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    // ---- opening ------------------------------------------------------------------------------------------------

    /// Proves the caller, gets a login, and logs in.
    async fn open(&self, hello: &Hello) -> Result<Opened<'_>, Trouble> {
        let caller = self.admit(hello).await?;
        let unknown =
            || fatal("3D000", "no such database and scope: name the target as database, its scope as user");
        let spec = SystemId::parse(&hello.database).ok().and_then(|system| self.targets.get(&system));
        let spec = spec.ok_or_else(unknown)?;
        let scope = spec.scopes.get(&hello.user).ok_or_else(unknown)?;
        let login = self.login(&caller, spec, &hello.user, scope, hello).await?;
        match Server::connect(&login, spec.tls.as_ref(), &hello.settings).await {
            Ok(server) => Ok(Opened { caller, login, spec, scope: hello.user.clone(), server }),
            Err(error) => {
                self.lender.give_back(&Caller { proof: None, ..caller }, &login.lease).await;
                Err(fatal("08001", &error.to_string()))
            }
        }
    }

    /// The password is the token and a proof, as the two headers of an HTTP request carry them.
    async fn admit(&self, hello: &Hello) -> Result<Caller, Trouble> {
        let closed = || {
            fatal(
                "28P01",
                "the password must be a task token and a proof of possession, with a blank between",
            )
        };
        let (token, proof) = hello.password.expose().trim().split_once(' ').ok_or_else(closed)?;
        let mut headers = HeaderMap::new();
        let value = |text: String| HeaderValue::from_str(&text).map_err(|_| closed());
        headers.insert(http::header::AUTHORIZATION, value(format!("DPoP {token}"))?);
        headers.insert("dpop", value(proof.trim().to_owned())?);
        let path = door_path(&hello.database, &hello.user);
        let knock = Knock { method: &Method::CONNECT, path: &path, headers: &headers };
        self.door.admit(knock).await.map_err(|refused| {
            tracing::info!(code = refused.code(), "a client was not admitted");
            let mut closed = fatal("28P01", &refused.reason);
            refused.code().clone_into(&mut closed.detail);
            closed
        })
    }

    async fn login(
        &self,
        caller: &Caller,
        spec: &PostgresSpec,
        name: &str,
        scope: &Scope,
        hello: &Hello,
    ) -> Result<Login, Trouble> {
        if let Some(odd) = hello.args.keys().find(|arg| !scope.rows.contains(*arg)) {
            return Err(fatal("22023", &format!("the scope takes no argument `{odd}`")));
        }
        let mut args = hello.args.clone();
        args.insert("ttl_s".to_owned(), Value::Int(i64::try_from(scope.ttl_s.max(1)).unwrap_or(i64::MAX)));
        let args = Value::Map(args);
        let tool = ToolId::of(&spec.system, name).map_err(|e| fatal("3D000", &e.to_string()))?;
        let approval = match self.pending.find(caller, &tool, &args) {
            None => None,
            Some(approval) => match self.point.approval(caller, &approval).await {
                Ok(ApprovalState::Waiting { .. }) => {
                    let waits = asked(&approval, "Nobody has decided yet whether this session may begin.");
                    return Err(Trouble { fatal: true, ..waits });
                }
                Ok(ApprovalState::Closed { .. }) => None,
                Ok(_) => Some(approval),
                Err(error) => return Err(Trouble { fatal: true, ..undecided(&error) }),
            },
        };
        self.pending.forget(caller, &tool, &args);
        let call = Call { tool: tool.clone(), args: args.clone(), definition: None, approval, says: None };
        self.lender.lend(caller, call).await.map_err(|not| {
            let refused = match not {
                NotLent::Deny(denial) => denied(&denial),
                NotLent::Failed(error) => undecided(&error),
                NotLent::Ask(pending) => {
                    self.pending.remember(caller, &tool, &args, &pending.approval);
                    asked(&pending.approval, &pending.text)
                }
            };
            Trouble { fatal: true, ..refused }
        })
    }
}

/// The path that a session's proof of possession is made for.
pub(crate) fn door_path(database: &str, scope: &str) -> String {
    format!("/postgres/{database}/{scope}")
}

struct Opened<'g> {
    caller: Caller,
    login: Login,
    spec: &'g PostgresSpec,
    scope: String,
    server: Server,
}

fn current(shared: &Arc<Mutex<Caller>>) -> Caller {
    let caller = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Caller { proof: None, ..caller }
}

async fn last_word<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, word: &Trouble) {
    let mut out = Out::default();
    out.error(word);
    let said = async {
        let _ = stream.write_all(&out.take()).await;
        let _ = stream.shutdown().await;
    };
    let _ = timeout(LAST_WORD_WITHIN, said).await;
}

/// A session in the list of those that run; it is taken off when it is dropped.
struct Entry<'g> {
    sessions: &'g Sessions,
    key: Key,
    name: String,
}

impl Sessions {
    fn enter(&self, caller: Arc<Mutex<Caller>>, cancel: Cancel) -> Option<Entry<'_>> {
        let name = bailiwick_token::random_id().ok()?;
        let secret = bailiwick_token::random_id().ok()?;
        let digest = bailiwick_core::Digest::of(secret.as_bytes());
        let number = |from: usize| {
            let bytes = digest.as_bytes().get(from..from + 4)?.try_into().ok()?;
            Some(i32::from_be_bytes(bytes))
        };
        let key = (number(0)?, number(4)?);
        let running = Running { name: name.clone(), caller, cancel: Some(cancel) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, running);
        Some(Entry { sessions: self, key, name })
    }

    fn find(&self, key: Key) -> Option<Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    fn named(&self, name: &str) -> Option<Running> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().find(|running| running.name == name).cloned()
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.sessions.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

// ---- beside the sessions, over HTTP ---------------------------------------------------------------------------------

/// Where this can be found: address of the listener, for clients.
#[derive(Debug, Clone)]
pub struct Whereabouts {
    /// The host that clients connect to.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The routes beside the listener: what there is, and how a session stays open beyond its first token.
pub fn router<P: DecisionPoint, D: Door, L: Lender>(
    gateway: Arc<Postgres<P, D, L>>,
    whereabouts: Whereabouts,
) -> Router {
    Router::new()
        .route("/postgres", get(list::<P, D, L>))
        .route("/postgres/sessions/{name}", post(renew::<P, D, L>))
        .with_state((gateway, whereabouts))
}

type Shared<P, D, L> = State<(Arc<Postgres<P, D, L>>, Whereabouts)>;

/// The databases and scopes there are. That one is named says nothing about whether it is allowed.
async fn list<P: DecisionPoint, D: Door, L: Lender>(
    State((gateway, at)): Shared<P, D, L>,
    request: axum::extract::Request,
) -> Response {
    let (parts, _) = request.into_parts();
    if let Err(refused) = gateway.proven(&parts).await {
        return *refused;
    }
    let databases = gateway.targets.iter().map(|(system, spec)| {
        let scopes = spec.scopes.keys().map(|name| Value::from(name.as_str())).collect();
        Value::from([("database", Value::from(system.as_str())), ("scopes", Value::List(scopes))])
    });
    let port = Value::Int(i64::from(at.port));
    let all = [
        ("host", Value::from(at.host.as_str())),
        ("port", port),
        ("tls", Value::Bool(gateway.tls.is_some())),
        ("databases", Value::List(databases.collect())),
    ];
    json(StatusCode::OK, Value::from(all).canonical())
}

/// A new token for a running session, by the same holder.
async fn renew<P: DecisionPoint, D: Door, L: Lender>(
    State((gateway, _)): Shared<P, D, L>,
    Path(name): Path<String>,
    request: axum::extract::Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let caller = match gateway.proven(&parts).await {
        Ok(caller) => caller,
        Err(refused) => return *refused,
    };
    let mut answer = json(StatusCode::OK, Value::empty().canonical());
    let renewed = gateway.sessions.named(&name).is_some_and(|running| {
        let mut known = running.caller.lock().unwrap_or_else(PoisonError::into_inner);
        let same = known.tenant == caller.tenant
            && known.task == caller.task
            && known.grant == caller.grant
            && known.agent == caller.agent
            && known.instance == caller.instance;
        if same {
            known.until = known.until.max(caller.until);
        }
        same
    });
    if !renewed {
        *answer.status_mut() = StatusCode::NOT_FOUND;
    }
    answer
}

impl<P: DecisionPoint, D: Door, L: Lender> Postgres<P, D, L> {
    async fn proven(&self, parts: &Parts) -> Result<Caller, Box<Response>> {
        known_host(&self.config, parts).map_err(Box::new)?;
        let knock = Knock { method: &parts.method, path: parts.uri.path(), headers: &parts.headers };
        self.door.admit(knock).await.map_err(|refused| Box::new(challenge(&self.config, parts, &refused)))
    }
}
