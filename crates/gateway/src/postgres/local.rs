//! The agent's side: a listener on its own machine, for one run, that any PostgreSQL client can use unchanged.
//!
//! A plain client cannot prove possession of a key. This takes its connections, wants the secret of the run as the
//! password, and carries each to the gateway with the agent's token and a proof made by a [`Prover`]. From then on it
//! passes bytes on in both directions and keeps the session's token fresh. It decides nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bailiwick_core::Value;
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::session::fatal;
use super::startup::SESSION;
use super::wire::{BadWire, Fields, Frame, Out, SERVER_MAX, UNPROVEN_MAX, read_body, read_frame};
use super::{door_path, last_word};
use crate::accept::accept;
use crate::connect::Prover;
use crate::egress::proxy::ProxyError;
use crate::secret::Secret;

/// Connections at once; further ones wait.
const CONNECTIONS_MAX: usize = 64;
/// How long the greeting may take, the gateway's part included: it may have to make a login.
const GREETING_WITHIN: Duration = Duration::from_secs(60);
/// How often a session's token is looked at; shorter than the time before its end at which a holder gets a new one.
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// How long the gateway may take to answer a request beside a session.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Longest answer of the gateway that is read, in bytes.
const ANSWER_MAX: usize = 1 << 20;

/// A running listener. Dropping it ends it with all connections.
pub struct Local<P> {
    shared: Arc<Shared<P>>,
    at: SocketAddr,
    databases: Vec<Database>,
    accepting: AbortHandle,
}

/// A database that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its name: that of the target.
    pub name: String,
    /// Its scopes; one is written as the user.
    pub scopes: Vec<String>,
}

struct Shared<P> {
    secret: Secret,
    server: String,
    gateway: (String, u16),
    prover: P,
    client: reqwest::Client,
}

impl<P: Prover> Local<P> {
    /// Starts a listener on this machine in front of the gateway at `server`; `None` if that has no databases.
    ///
    /// # Errors
    /// [`ProxyError`] if it cannot listen, or the gateway does not say what there is.
    pub async fn start(server: &str, prover: P) -> Result<Option<Self>, ProxyError> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(ANSWER_WITHIN)
            .build()
            .map_err(|_| ProxyError::Client)?;
        let server = server.trim_end_matches('/').to_owned();
        let secret = Secret::new(bailiwick_token::random_id().map_err(|_| ProxyError::Authority)?);
        let mut shared = Shared { secret, server, gateway: (String::new(), 0), prover, client };
        let Some(databases) = shared.look().await? else { return Ok(None) };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(ProxyError::Listen)?;
        let at = listener.local_addr().map_err(ProxyError::Listen)?;
        let shared = Arc::new(shared);
        let accepting = tokio::spawn(serve(listener, shared.clone())).abort_handle();
        Ok(Some(Local { shared, at, databases, accepting }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.at
    }

    /// The password of the run.
    pub fn password(&self) -> &str {
        self.shared.secret.expose()
    }

    /// What can be asked for.
    pub fn databases(&self) -> &[Database] {
        &self.databases
    }

    /// A connection string for a scope.
    pub fn url(&self, database: &str, scope: &str) -> String {
        format!("postgresql://{scope}:{}@{}/{database}?sslmode=disable", self.password(), self.at)
    }
}

impl<P> Drop for Local<P> {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve<P: Prover>(listener: TcpListener, shared: Arc<Shared<P>>) {
    let mut running = JoinSet::new();
    let client = |stream, _| {
        let shared = shared.clone();
        async move { shared.carry(stream).await }
    };
    accept(listener, CONNECTIONS_MAX, &mut running, client).await;
}

/// A client's greeting, as bytes, with what must be known of it.
struct Greeting {
    body: Vec<u8>,
    database: String,
    user: String,
}

impl<P: Prover> Shared<P> {
    /// What the gateway has; `None` for nothing.
    async fn look(&mut self) -> Result<Option<Vec<Database>>, ProxyError> {
        let url = format!("{}/postgres", self.server);
        let away = || ProxyError::List("it cannot be reached".to_owned());
        let mut answer = self.ask(reqwest::Method::GET, &url).await.ok_or_else(away)?;
        if answer.status() == reqwest::StatusCode::UNAUTHORIZED && self.prover.renew().await {
            answer = self.ask(reqwest::Method::GET, &url).await.ok_or_else(away)?;
        }
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|_| away())? {
            if body.len() + chunk.len() > ANSWER_MAX {
                return Err(ProxyError::List("its answer is too large".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        let odd = || ProxyError::List(format!("HTTP status {status}"));
        let told = Value::parse(&body).map_err(|_| odd())?;
        let text = |of: &Value, name: &str| of.get(name).and_then(Value::as_text).map(str::to_owned);
        let port = match told.get("port") {
            Some(Value::Int(port)) => u16::try_from(*port).map_err(|_| odd())?,
            _ => return Err(odd()),
        };
        self.gateway = (text(&told, "host").ok_or_else(odd)?, port);
        let listed = told.get("databases").and_then(Value::as_list).ok_or_else(odd)?;
        let database = |entry: &Value| {
            let scopes = entry.get("scopes").and_then(Value::as_list).unwrap_or_default();
            let scopes = scopes.iter().filter_map(|s| s.as_text().map(str::to_owned)).collect();
            Some(Database { name: text(entry, "database")?, scopes })
        };
        Ok(Some(listed.iter().filter_map(database).collect()))
    }

    async fn ask(&self, method: reqwest::Method, url: &str) -> Option<reqwest::Response> {
        let proof = self.prover.prove(method.as_str(), url, None).await.ok()?;
        let asked = self
            .client
            .request(method, url)
            .header("authorization", proof.authorization.expose())
            .header("dpop", proof.dpop.expose());
        asked.send().await.ok()
    }

    async fn carry(&self, mut client: TcpStream) {
        let opened = timeout(GREETING_WITHIN, self.open(&mut client)).await;
        match opened {
            Ok(Ok(Some((mut gateway, session)))) => {
                let copied = copy_bidirectional(&mut client, &mut gateway);
                tokio::select! {
                    _ = copied => {}
                    () = self.keep_fresh(&session) => {}
                }
            }
            Ok(Ok(None)) => {}
            Ok(Err(bad)) => tracing::debug!(%bad, "a connection did not come about"),
            Err(_) => tracing::debug!("a connection took too long to come about"),
        }
    }

    /// Greets the client and the gateway. `None` if all has been said already.
    async fn open(&self, client: &mut TcpStream) -> Result<Option<(TcpStream, String)>, BadWire> {
        let Some(greeting) = self.greeting(client).await? else { return Ok(None) };
        let mut out = Out::default();
        out.message(b'R', |body| body.extend_from_slice(&3_i32.to_be_bytes()));
        client.write_all(&out.take()).await?;
        let shown = read_frame(client, UNPROVEN_MAX).await?;
        let mut fields = Fields::of(&shown.body);
        let known = shown.tag == b'p' && self.knows(fields.text()?);
        if !known {
            last_word(
                client,
                &fatal("28P01", "this connection belongs to another run: its password is PGPASSWORD"),
            )
            .await;
            return Ok(None);
        }
        let url = format!("{}{}", self.server, door_path(&greeting.database, &greeting.user));
        // What was held could have run out, or have been taken back: a session begins with a proof of today.
        let proof = match self.prover.prove("CONNECT", &url, None).await {
            Ok(proof) => proof,
            Err(why) => {
                last_word(client, &fatal("28000", &format!("the agent has no token: {why}"))).await;
                return Ok(None);
            }
        };
        let Ok(mut gateway) = TcpStream::connect((self.gateway.0.as_str(), self.gateway.1)).await else {
            last_word(client, &fatal("08001", "the gateway cannot be reached")).await;
            return Ok(None);
        };
        let _ = gateway.set_nodelay(true);
        out.message(0, |body| body.extend_from_slice(&greeting.body));
        gateway.write_all(&out.take()).await?;
        let token = proof.authorization.expose().trim_start_matches("DPoP ").to_owned();
        let password = Secret::new(format!("{token} {}", proof.dpop.expose()));
        let session = welcomed(client, &mut gateway, &password).await?;
        Ok(session.map(|session| (gateway, session)))
    }

    /// The client's greeting; encryption is declined, because nothing leaves this machine unencrypted by it.
    async fn greeting(&self, client: &mut TcpStream) -> Result<Option<Greeting>, BadWire> {
        for _ in 0..3 {
            let body = read_body(client, UNPROVEN_MAX).await?;
            let mut fields = Fields::of(&body);
            match fields.long()? {
                80_877_103 | 80_877_104 => client.write_all(b"N").await?,
                80_877_102 => {
                    self.pass_on(&body).await;
                    return Ok(None);
                }
                _ => {
                    let (mut user, mut database) = (String::new(), String::new());
                    loop {
                        match fields.text()? {
                            "" => break,
                            "user" => fields.text()?.clone_into(&mut user),
                            "database" => fields.text()?.clone_into(&mut database),
                            _ => _ = fields.text()?,
                        }
                    }
                    if database.is_empty() {
                        user.clone_into(&mut database);
                    }
                    return Ok(Some(Greeting { body, database, user }));
                }
            }
        }
        Err(BadWire::Malformed("no greeting"))
    }

    fn knows(&self, shown: &str) -> bool {
        bool::from(shown.as_bytes().ct_eq(self.secret.expose().as_bytes()))
    }

    /// Passes a request to cancel on.
    async fn pass_on(&self, body: &[u8]) {
        let Ok(mut gateway) = TcpStream::connect((self.gateway.0.as_str(), self.gateway.1)).await else {
            return;
        };
        let mut out = Out::default();
        out.message(0, |to| to.extend_from_slice(body));
        if gateway.write_all(&out.take()).await.is_ok() {
            let _ = timeout(ANSWER_WITHIN, gateway.read_u8()).await;
        }
    }

    /// Keeps a session's token fresh; resolves when there is no other to be had.
    async fn keep_fresh(&self, session: &str) {
        let url = format!("{}/postgres/sessions/{session}", self.server);
        loop {
            sleep(RENEW_EVERY).await;
            let answer = self.ask(reqwest::Method::POST, &url).await;
            let unauthorized =
                answer.is_some_and(|answer| answer.status() == reqwest::StatusCode::UNAUTHORIZED);
            // A task that is over ends the session at the gateway, which says so itself.
            if unauthorized && !self.prover.renew().await {
                sleep(ANSWER_WITHIN).await;
                return;
            }
        }
    }
}

/// Logs in at the gateway and passes its welcome on. Gives the session's name, or nothing if there is none.
async fn welcomed(
    client: &mut TcpStream,
    gateway: &mut TcpStream,
    password: &Secret,
) -> Result<Option<String>, BadWire> {
    let mut out = Out::default();
    let mut session = String::new();
    loop {
        let frame = read_frame(gateway, SERVER_MAX).await?;
        let wants_password = frame.tag == b'R' && frame.body == 3_i32.to_be_bytes();
        if wants_password {
            out.message(b'p', |body| {
                body.extend_from_slice(password.expose().as_bytes());
                body.push(0);
            });
            gateway.write_all(&out.take()).await?;
            continue;
        }
        match name_of(&frame) {
            Some(name) => session = name,
            None => out.frame(&frame),
        }
        client.write_all(&out.take()).await?;
        match frame.tag {
            b'Z' => return Ok(Some(session)),
            b'E' => return Ok(None),
            _ => {}
        }
    }
}

/// The session's name, if this message tells it.
fn name_of(frame: &Frame) -> Option<String> {
    let mut fields = Fields::of(&frame.body);
    let told = frame.tag == b'S' && fields.text().is_ok_and(|name| name == SESSION);
    if told { fields.text().ok().map(str::to_owned) } else { None }
}
