//! The local connector: MCP on standard streams for a client, HTTP with proof of possession to the gateway.
//!
//! Stock clients cannot prove that they hold a key, so they start this as their "tool server". It reads one
//! JSON-RPC message per line, posts each with a fresh proof made by a [`Prover`], and writes each answer as
//! one line; nothing else ever goes to its output. Both generations of MCP pass through: for the stateless
//! one it adds the headers that mirror the body, for the older one it keeps the session and opens it again
//! when the gateway has forgotten it. A bad line is answered with an error and never ends the connector.

use crate::answer;
use crate::envelope::{self, Message, Request, RpcId, codes};
use crate::headers::{self, ParamHeader};
use crate::secret::Secret;
use crate::upstream::{Line, next_line};
use crate::version;
use bailiwick_core::Value;
use bailiwick_core::value::BYTES_MAX;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Largest answer that is passed on, in bytes; a little above what a gateway sends.
const ANSWER_BYTES_MAX: usize = 10 << 20;
/// Requests under way at once.
const AT_ONCE: usize = 64;
/// How long answers under way may take after the client has closed its side.
const GRACE: Duration = Duration::from_secs(5);

/// What goes with one request to prove who sends it.
#[derive(Debug, Clone)]
pub struct Proof {
    /// Value of `Authorization`: `DPoP` and the token.
    pub authorization: Secret,
    /// Value of `DPoP`: a proof for exactly this method and URL.
    pub dpop: Secret,
}

/// Holds the agent's key; gets and renews its token.
pub trait Prover: Send + Sync + 'static {
    /// A proof for one request. An error is told to the client in its words.
    fn prove(
        &self,
        method: &str,
        url: &str,
        nonce: Option<&str>,
    ) -> impl Future<Output = Result<Proof, String>> + Send;

    /// The gateway does not take the token: the next proof must carry another. False if there is none to be
    /// had, for instance because the task is over.
    fn renew(&self) -> impl Future<Output = bool> + Send;
}

/// Where the gateway is.
#[derive(Debug, Clone)]
pub struct ConnectConfig {
    /// The endpoint: `…/mcp` or `…/mcp/{system}`.
    pub url: String,
    /// Deadline of one request.
    pub request_timeout: Duration,
}

/// The connector could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No TLS client could be made.
    #[error("no HTTP client could be made; check the system's certificates")]
    Client,
    /// The client's stream broke.
    #[error("the client's stream broke: {0}")]
    Stream(#[from] std::io::Error),
}

impl ConnectError {
    /// Stable code for logs.
    pub fn code(&self) -> &'static str {
        match self {
            ConnectError::Client => "connect.client",
            ConnectError::Stream(_) => "connect.stream",
        }
    }
}

/// Runs until `input` ends. Answers go to `output`, one per line.
///
/// # Errors
/// [`ConnectError`] if the streams break or no client can be made; never because of what a line holds.
pub async fn connect<P, R, W>(
    config: ConnectConfig,
    prover: P,
    mut input: R,
    output: W,
) -> Result<(), ConnectError>
where
    P: Prover,
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (lines, outbox) = mpsc::channel(AT_ONCE);
    let writer = tokio::spawn(write_lines(outbox, output));
    let connector = Arc::new(Connector::new(config, prover, lines)?);
    let mut line = Vec::new();
    loop {
        match next_line(&mut input, &mut line, BYTES_MAX).await? {
            Line::Whole if line.trim_ascii().is_empty() => {}
            Line::Whole => connector.take(line.trim_ascii()).await,
            Line::Skipped(_) => {
                connector
                    .say(envelope::error(None, codes::INVALID_REQUEST, "a message is at most 1 MiB", None))
                    .await;
            }
            Line::End => break,
        }
    }
    let _ = timeout(GRACE, connector.idle()).await;
    connector.leave().await;
    drop(connector);
    let _ = timeout(GRACE, writer).await;
    Ok(())
}

async fn write_lines<W: AsyncWrite + Unpin>(mut outbox: mpsc::Receiver<String>, mut output: W) {
    while let Some(mut line) = outbox.recv().await {
        line.push('\n');
        if output.write_all(line.as_bytes()).await.is_err() || output.flush().await.is_err() {
            return;
        }
    }
}

struct Connector<P> {
    config: ConnectConfig,
    client: Client,
    prover: P,
    lines: mpsc::Sender<String>,
    room: Arc<Semaphore>,
    state: Mutex<Known>,
}

/// What must be remembered between messages.
#[derive(Default)]
struct Known {
    nonce: Option<String>,
    session: Option<LegacySession>,
    /// The client's own greeting, to open the session again.
    greeting: Option<String>,
    /// Arguments mirrored into headers, by tool name.
    params: HashMap<String, Vec<ParamHeader>>,
    running: HashMap<RpcId, AbortHandle>,
}

#[derive(Clone, PartialEq)]
struct LegacySession {
    id: String,
    version: Option<String>,
}

/// Why there is no answer to pass on, in words for the client.
enum Miss {
    /// The agent cannot prove itself, mostly because its task is over.
    Unproven(String),
    /// The gateway gave no answer that can be used.
    Unanswered(String),
}

impl Miss {
    fn words(&self) -> &str {
        match self {
            Miss::Unproven(words) | Miss::Unanswered(words) => words,
        }
    }
}

/// What came back for one post.
struct Reply {
    status: StatusCode,
    session: Option<String>,
    body: String,
}

impl<P: Prover> Connector<P> {
    fn new(config: ConnectConfig, prover: P, lines: mpsc::Sender<String>) -> Result<Self, ConnectError> {
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .timeout(config.request_timeout)
            .build()
            .map_err(|_| ConnectError::Client)?;
        let room = Arc::new(Semaphore::new(AT_ONCE));
        Ok(Connector { config, client, prover, lines, room, state: Mutex::default() })
    }

    async fn say(&self, line: String) {
        let _ = self.lines.send(line).await;
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when nothing is under way.
    async fn idle(&self) {
        let _ = self.room.acquire_many(AT_ONCE as u32).await;
    }

    /// Takes one line from the client; answers come later, in any order.
    async fn take(self: &Arc<Self>, line: &[u8]) {
        match Message::parse(line) {
            Err(bad) => self.say(envelope::error(bad.id.as_ref(), bad.rpc, &bad.message, None)).await,
            Ok(Message::Response) => {}
            Ok(Message::Notification { method, params }) if method == "notifications/cancelled" => {
                self.cancel(&params)
            }
            Ok(Message::Notification { method, params }) => self.notify(&method, &params).await,
            Ok(Message::Request(request)) => self.start(request).await,
        }
    }

    /// Closing the request is what cancels it at the gateway, in both generations.
    fn cancel(&self, params: &Value) {
        let id = match params.get("requestId") {
            Some(Value::Int(n)) => RpcId::Number(*n),
            Some(Value::Text(text)) => RpcId::Text(text.clone()),
            _ => return,
        };
        if let Some(running) = self.known().running.remove(&id) {
            running.abort();
        }
    }

    async fn notify(self: &Arc<Self>, method: &str, params: &Value) {
        let body = envelope::notification(method, params);
        let session = self.known().session.clone();
        if let Err(why) = self.post(&body, &[], session.as_ref()).await {
            tracing::warn!(method, why = why.words(), "a notification was not delivered");
        }
    }

    /// Begins one request. A greeting is answered before the next line is read: what a hasty client sends
    /// behind it belongs to the session that it opens.
    async fn start(self: &Arc<Self>, request: Request) {
        if request.method == "initialize" {
            let answer = self.ask(request).await;
            return self.say(answer).await;
        }
        let Ok(permit) = self.room.clone().acquire_owned().await else { return };
        let connector = self.clone();
        let id = request.id.clone();
        let key = id.clone();
        let mut known = self.known();
        let running = tokio::spawn(async move {
            let _permit = permit;
            let answer = connector.ask(request).await;
            connector.known().running.remove(&key);
            connector.say(answer).await;
        });
        known.running.insert(id, running.abort_handle());
    }

    /// Asks the gateway and gives the line for the client.
    async fn ask(&self, request: Request) -> String {
        let answered = if request.meta(version::META_VERSION).is_some() {
            self.ask_modern(&request).await
        } else {
            self.ask_legacy(&request).await
        };
        match answered {
            Ok(reply) => self.line(&request, reply),
            Err(Miss::Unproven(why)) => unproven(&request, &why),
            Err(Miss::Unanswered(why)) => envelope::error(Some(&request.id), codes::INTERNAL, &why, None),
        }
    }

    async fn ask_modern(&self, request: &Request) -> Result<Reply, Miss> {
        let version = request.meta(version::META_VERSION).and_then(Value::as_text).unwrap_or("");
        let mut mirror = vec![
            (headers::PROTOCOL_VERSION.to_owned(), headers::encode(version)),
            (headers::METHOD.to_owned(), headers::encode(&request.method)),
        ];
        if let Some(name) = headers::name_of(&request.method, &request.params) {
            mirror.push((headers::NAME.to_owned(), headers::encode(name)));
            let args = request.params.get("arguments").cloned().unwrap_or_else(Value::empty);
            let known = self.known();
            let params = known.params.get(name).into_iter().flatten();
            mirror.extend(params.filter_map(|p| Some((p.header.clone(), p.value(&args)?))));
        }
        self.post(&print(request), &mirror, None).await
    }

    async fn ask_legacy(&self, request: &Request) -> Result<Reply, Miss> {
        let body = print(request);
        if request.method == "initialize" {
            self.known().greeting = Some(body.clone());
            return self.greet(&body).await;
        }
        let session = self.known().session.clone();
        let reply = self.post(&body, &[], session.as_ref()).await?;
        if reply.status != StatusCode::NOT_FOUND || session.is_none() {
            return Ok(reply);
        }
        let fresh = self.greet_again(session).await?;
        self.post(&body, &[], Some(&fresh)).await
    }

    /// Opens a session and remembers it.
    async fn greet(&self, greeting: &str) -> Result<Reply, Miss> {
        let reply = self.post(greeting, &[], None).await?;
        if let Some(id) = reply.session.clone().filter(|_| reply.status.is_success()) {
            let result = Value::parse(reply.body.as_bytes()).ok();
            let agreed = result.as_ref().and_then(|v| v.get("result")?.get("protocolVersion")?.as_text());
            self.known().session = Some(LegacySession { id, version: agreed.map(str::to_owned) });
        }
        Ok(reply)
    }

    /// The gateway has forgotten the session (a restart, a new grant): greet it as the client did.
    async fn greet_again(&self, lost: Option<LegacySession>) -> Result<LegacySession, Miss> {
        let (current, greeting) = {
            let known = self.known();
            (known.session.clone(), known.greeting.clone())
        };
        if let Some(current) = current.filter(|current| Some(current) != lost.as_ref()) {
            return Ok(current);
        }
        let greeting =
            greeting.ok_or_else(|| unanswered("the session has ended, and the client never opened one"))?;
        tracing::info!("the gateway has forgotten the session; it is opened again");
        self.greet(&greeting).await?;
        let fresh = self.known().session.clone().filter(|fresh| Some(fresh) != lost.as_ref());
        let fresh = fresh.ok_or_else(|| unanswered("the session has ended and could not be opened again"))?;
        let ready = envelope::notification("notifications/initialized", &Value::empty());
        self.post(&ready, &[], Some(&fresh)).await?;
        Ok(fresh)
    }

    /// Posts one message with a proof. A nonce asked for, or a token refused, is met once each.
    async fn post(
        &self,
        body: &str,
        extra: &[(String, String)],
        session: Option<&LegacySession>,
    ) -> Result<Reply, Miss> {
        let mut renewed = false;
        let mut nonce_met = false;
        loop {
            let mut request = self.proven(Method::POST).await?.header(CONTENT_TYPE, "application/json");
            request = with_session(request.header(ACCEPT, "application/json, text/event-stream"), session);
            for (name, value) in extra {
                request = request.header(name, value);
            }
            let response = request.body(body.to_owned()).send().await.map_err(|e| self.unreachable(&e))?;
            let asked_nonce = self.learn_nonce(&response);
            if response.status() == StatusCode::UNAUTHORIZED && asked_nonce && !nonce_met {
                nonce_met = true;
                continue;
            }
            if response.status() == StatusCode::UNAUTHORIZED && !renewed && self.prover.renew().await {
                renewed = true;
                continue;
            }
            return read(response).await;
        }
    }

    async fn proven(&self, method: Method) -> Result<RequestBuilder, Miss> {
        let nonce = self.known().nonce.clone();
        let proof = self.prover.prove(method.as_str(), &self.config.url, nonce.as_deref()).await;
        let proof = proof.map_err(Miss::Unproven)?;
        let request = self.client.request(method, &self.config.url);
        Ok(request.header(AUTHORIZATION, proof.authorization.expose()).header("DPoP", proof.dpop.expose()))
    }

    /// Remembers a nonce for the next proof; true if one was sent.
    fn learn_nonce(&self, response: &Response) -> bool {
        let nonce = response.headers().get("dpop-nonce").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let sent = nonce.is_some();
        if sent {
            self.known().nonce = nonce;
        }
        sent
    }

    fn unreachable(&self, error: &reqwest::Error) -> Miss {
        if error.is_timeout() {
            return Miss::Unanswered("bailiwick did not answer in time".to_owned());
        }
        let url = &self.config.url;
        Miss::Unanswered(format!(
            "bailiwick cannot be reached at {url}: is it running? Start it with `bailiwick up`"
        ))
    }

    /// The line for the client: the gateway's answer if it is one to this request, else an error in its words.
    fn line(&self, request: &Request, reply: Reply) -> String {
        let parsed = serde_json::from_str::<Value>(&reply.body).ok();
        let own = Value::from(request.id.clone());
        if let Some(answer) =
            parsed.as_ref().filter(|a| a.get("jsonrpc").is_some() && a.get("id") == Some(&own))
        {
            if request.method == "tools/list" {
                self.learn_params(answer);
            }
            return answer.canonical();
        }
        let words = parsed.as_ref().and_then(explanation);
        let words =
            words.unwrap_or_else(|| format!("bailiwick answered with HTTP status {}", reply.status.as_u16()));
        match reply.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => unproven(request, &words),
            _ => envelope::error(Some(&request.id), codes::INTERNAL, &words, None),
        }
    }

    /// Notes which arguments of which tool are mirrored into headers.
    fn learn_params(&self, answer: &Value) {
        let tools =
            answer.get("result").and_then(|r| r.get("tools")).and_then(Value::as_list).unwrap_or_default();
        let params = tools.iter().filter_map(|tool| {
            let params = ParamHeader::of_definition(tool).ok().filter(|params| !params.is_empty())?;
            Some((tool.get("name")?.as_text()?.to_owned(), params))
        });
        self.known().params = params.collect();
    }

    /// Ends the session, as a courtesy.
    async fn leave(&self) {
        let session = self.known().session.take();
        let Some(session) = session else { return };
        if let Ok(request) = self.proven(Method::DELETE).await {
            let _ = with_session(request, Some(&session)).timeout(GRACE).send().await;
        }
    }
}

fn with_session(request: RequestBuilder, session: Option<&LegacySession>) -> RequestBuilder {
    let Some(session) = session else { return request };
    let request = request.header(headers::SESSION, &session.id);
    match &session.version {
        Some(version) => request.header(headers::PROTOCOL_VERSION, version),
        None => request,
    }
}

/// The refusal of a caller without proof: a result that a model reads for a call, else an error.
fn unproven(request: &Request, why: &str) -> String {
    if request.method != "tools/call" {
        return envelope::error(Some(&request.id), codes::DENIED, why, None);
    }
    let result = answer::unproven(why);
    let modern = request.meta(version::META_VERSION).is_some();
    envelope::result(&request.id, &if modern { answer::modern(result) } else { result })
}

fn unanswered(why: &str) -> Miss {
    Miss::Unanswered(why.to_owned())
}

fn print(request: &Request) -> String {
    let method = Value::from(request.method.as_str()).canonical();
    format!(
        "{{\"id\":{},\"jsonrpc\":\"2.0\",\"method\":{method},\"params\":{}}}",
        request.id,
        request.params.canonical()
    )
}

/// The words of a refusal without a request id: of OAuth, or of a JSON-RPC error.
fn explanation(body: &Value) -> Option<String> {
    let error = body.get("error")?;
    let words = body.get("error_description").or_else(|| error.get("message")).unwrap_or(error);
    words.as_text().map(str::to_owned)
}

async fn read(mut response: Response) -> Result<Reply, Miss> {
    let status = response.status();
    let session = response.headers().get(headers::SESSION).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| unanswered("bailiwick's answer broke off"))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(unanswered("bailiwick's answer is too large"));
        }
    }
    let body = String::from_utf8(bytes).map_err(|_| unanswered("bailiwick's answer is not text"))?;
    Ok(Reply { status, session, body })
}
