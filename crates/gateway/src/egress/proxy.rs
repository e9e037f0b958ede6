//! The agent's side: a proxy on its own machine, for one run, that any HTTP client can use unchanged.
//!
//! A plain client cannot prove possession of a key. This takes its requests, as a forward proxy (with `CONNECT`, and
//! TLS that ends here under the certificate authority of this run) or under a base URL, and carries each to the
//! gateway with a proof made by a [`Prover`]. It decides nothing, knows no key of any API, and passes on nothing
//! but what the gateway answers. Only who knows the secret of the run may use it.
//!
//! One request is taken per connection: what follows it is never read.

mod authority;
mod head;

use super::{Address, INNER, inner_headers, wrap};
use crate::accept::accept;
use crate::connect::Prover;
use crate::secret::Secret;
use authority::Authority;
use axum::body::Bytes;
use bailiwick_api::wire::{PROBLEM_JSON, Problem};
use bailiwick_core::Value;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use reqwest::Url;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Largest body of a request, in bytes; what the gateway takes.
const BODY_MAX: usize = 1 << 20;
/// Largest answer that is passed on, in bytes; a little above what the gateway sends.
const ANSWER_MAX: usize = 10 << 20;
/// How long a handshake, and how long a body may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// How long the gateway may take; a little longer than it gives itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(310);
/// Connections at once; further ones wait.
const CONNECTIONS_MAX: usize = 256;
/// The user name in the proxy's URL; the password is the secret.
const USER: &str = "run";

/// The proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// No port on this machine could be listened on.
    #[error("no local port could be listened on: {0}")]
    Listen(std::io::Error),
    /// Keys or random numbers could not be made.
    #[error("no certificate authority could be made for this run")]
    Authority,
    /// No TLS client could be made.
    #[error("no HTTP client could be made; check the system's certificates")]
    Client,
    /// The gateway did not say which APIs there are.
    #[error("the gateway did not say which APIs there are: {0}")]
    List(String),
}

impl ProxyError {
    /// Stable code for logs.
    pub fn code(&self) -> &'static str {
        match self {
            ProxyError::Listen(_) => "proxy.listen",
            ProxyError::Authority => "proxy.authority",
            ProxyError::Client => "proxy.client",
            ProxyError::List(_) => "proxy.list",
        }
    }
}

/// A running proxy. Dropping it ends it with all that is under way.
pub struct Proxy<P> {
    shared: Arc<Shared<P>>,
    accepting: AbortHandle,
}

struct Shared<P> {
    at: SocketAddr,
    secret: Secret,
    /// The gateway's endpoint: `…/egress`.
    gateway: String,
    prover: P,
    client: reqwest::Client,
    authority: Authority,
}

/// An API that the agent could be allowed something of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Its name.
    pub system: String,
    /// Its URL.
    pub url: String,
}

impl<P: Prover> Proxy<P> {
    /// Starts a proxy on this machine in front of the gateway at `server`. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ProxyError`] if it cannot listen or has no certificates.
    pub async fn start(server: &str, prover: P) -> Result<Self, ProxyError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(ProxyError::Listen)?;
        let at = listener.local_addr().map_err(ProxyError::Listen)?;
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .timeout(ANSWER_WITHIN)
            .build()
            .map_err(|_| ProxyError::Client)?;
        let shared = Arc::new(Shared {
            at,
            secret: Secret::new(bailiwick_token::random_id().map_err(|_| ProxyError::Authority)?),
            gateway: format!("{}/egress", server.trim_end_matches('/')),
            prover,
            client,
            authority: Authority::new().map_err(|_| ProxyError::Authority)?,
        });
        let accepting = tokio::spawn(accepting(listener, shared.clone())).abort_handle();
        Ok(Proxy { shared, accepting })
    }

    /// The proxy's URL with its secret, for `HTTPS_PROXY`.
    pub fn url(&self) -> String {
        format!("http://{USER}:{}@{}", self.shared.secret.expose(), self.shared.at)
    }

    /// A base URL that stands for an API's own, for clients that take one.
    pub fn base_url(&self, system: &str) -> String {
        format!("http://{}/{}/{system}", self.shared.at, self.shared.secret.expose())
    }

    /// The certificate of this run's authority, as PEM.
    pub fn authority_pem(&self) -> String {
        self.shared.authority.pem()
    }

    /// The APIs that the agent could be allowed something of.
    ///
    /// # Errors
    /// [`ProxyError::List`] if the gateway does not say.
    pub async fn offered(&self) -> Result<Vec<Offered>, ProxyError> {
        let answer = self.shared.ask(Method::GET, HeaderMap::new(), Bytes::new()).await;
        let answer = answer.map_err(|problem| ProxyError::List(problem.detail))?;
        let listed = Value::parse(&answer.body).ok();
        let systems = listed.as_ref().and_then(|l| l.get("systems")).and_then(Value::as_list);
        let systems =
            systems.ok_or_else(|| ProxyError::List(format!("HTTP status {}", answer.status.as_u16())))?;
        let text = |of: &Value, name: &str| of.get(name).and_then(Value::as_text).map(str::to_owned);
        Ok(systems
            .iter()
            .filter_map(|s| Some(Offered { system: text(s, "system")?, url: text(s, "url")? }))
            .collect())
    }
}

impl<P> Drop for Proxy<P> {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accepting<P: Prover>(listener: TcpListener, shared: Arc<Shared<P>>) {
    let mut running = JoinSet::new();
    let client = |stream, _| serve(shared.clone(), Way::Open, stream);
    accept(listener, CONNECTIONS_MAX, &mut running, client).await;
}

/// Where a request came in.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// On the listener itself.
    Open,
    /// Inside a tunnel to this host and port, which the run's secret opened.
    Tunnel { host: String, port: u16 },
}

/// Takes one request from a stream. Boxed, because a tunnel holds another stream.
fn serve<P: Prover, S>(
    shared: Arc<Shared<P>>,
    way: Way,
    mut stream: S,
) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    Box::pin(async move {
        let first = match head::read(&mut stream).await {
            Ok(first) => first,
            Err(None) => return,
            Err(Some(why)) => return refuse_raw(&mut stream, why).await,
        };
        let (rest, write) = tokio::io::split(stream);
        let io = TokioIo::new(tokio::io::join(std::io::Cursor::new(first).chain(rest), write));
        let service = service_fn(move |request| {
            let (shared, way) = (shared.clone(), way.clone());
            async move { Ok::<_, Infallible>(shared.take(way, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .keep_alive(false)
            .max_buf_size(head::HEAD_MAX * 2)
            .serve_connection(io, service)
            .with_upgrades();
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended early");
        }
    })
}

/// Answers what cannot be parsed.
async fn refuse_raw<S: AsyncWrite + Unpin>(stream: &mut S, why: &str) {
    let body = Problem::new(400, "proxy.request", format!("{why}. Nothing was sent"))
        .next("Use a plain HTTP/1.1 client.");
    let body = serde_json::to_string(&body).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: {PROBLEM_JSON}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    let _ = stream.shutdown().await;
}

type Asked = http::Request<Incoming>;
type Answered = http::Response<Full<Bytes>>;

impl<P: Prover> Shared<P> {
    async fn take(self: Arc<Self>, way: Way, request: Asked) -> Answered {
        if request.method() == Method::CONNECT {
            return self.tunnel(&way, request);
        }
        let address = match self.address(&way, &request) {
            Ok(address) => address,
            Err(problem) => return problem.answer(),
        };
        match self.relay(&address, request).await {
            Ok(answer) => answer.answer(),
            Err(problem) => answer(&problem),
        }
    }

    /// Opens a tunnel: TLS ends here.
    fn tunnel(self: Arc<Self>, way: &Way, request: Asked) -> Answered {
        if *way != Way::Open {
            return No::new(400, "proxy.request", "a tunnel inside a tunnel is refused").answer();
        }
        if let Err(no) = self.knows_secret(request.headers()) {
            return no.answer();
        }
        let target = request.uri().authority().and_then(|a| Some((a.host().to_owned(), a.port_u16()?)));
        let Some((host, port)) = target.filter(|_| request.uri().path_and_query().is_none()) else {
            return No::new(400, "proxy.request", "CONNECT needs HOST:PORT").answer();
        };
        let authority = format!("{host}:{port}");
        let named = header(request.headers(), HOST.as_str());
        if named.is_some_and(|named| !named.eq_ignore_ascii_case(&authority)) {
            return No::new(400, "proxy.host", "the Host header names another host than the tunnel").answer();
        }
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        let Some(config) = self.authority.serve_as(&host) else {
            return No::new(400, "proxy.host", "no certificate can be made for this host name").answer();
        };
        tokio::spawn(async move {
            let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
            let handshake = TlsAcceptor::from(config).accept(TokioIo::new(upgraded));
            match timeout(HANDSHAKE_WITHIN, handshake).await {
                Ok(Ok(stream)) => serve(self, Way::Tunnel { host, port }, stream).await,
                Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
                Err(_) => tracing::debug!("a handshake took too long"),
            }
        });
        http::Response::new(Full::default())
    }

    /// Where a request is meant to go, if all that it says of that agrees.
    fn address(&self, way: &Way, request: &Asked) -> Result<Address, No> {
        let (uri, host) = (request.uri(), header(request.headers(), HOST.as_str()).unwrap_or(""));
        let target = uri.path_and_query().map_or("/", |t| t.as_str()).to_owned();
        let mismatch = || No::new(400, "proxy.host", "the request names two different hosts");
        match (way, uri.authority()) {
            (Way::Tunnel { host: name, port }, absolute) => {
                let origin = origin("https", &bracketed(name, *port)).ok_or_else(mismatch)?;
                let same = |text: &str| self::origin("https", text).as_deref() == Some(&origin);
                let absolute_fits = absolute
                    .is_none_or(|authority| uri.scheme_str() == Some("https") && same(authority.as_str()));
                if !same(host) || !absolute_fits {
                    return Err(mismatch());
                }
                Ok(Address::Origin { origin, target })
            }
            (Way::Open, Some(authority)) => {
                self.knows_secret(request.headers())?;
                let named = origin("http", authority.as_str()).filter(|_| uri.scheme_str() == Some("http"));
                let origin =
                    named.ok_or_else(|| No::new(400, "proxy.request", "only http comes without a tunnel"))?;
                if self::origin("http", host).as_deref() != Some(&origin) {
                    return Err(mismatch());
                }
                // A client that sends everything through its proxy does so with our base URLs too.
                if origin == format!("http://{}", self.at) {
                    return self.based(host, &target);
                }
                Ok(Address::Origin { origin, target })
            }
            (Way::Open, None) => self.based(host, &target),
        }
    }

    /// A request under a base URL: `/SECRET/SYSTEM/…`.
    fn based(&self, host: &str, target: &str) -> Result<Address, No> {
        let port = self.at.port();
        if ![format!("127.0.0.1:{port}"), format!("localhost:{port}")].iter().any(|own| own == host) {
            return Err(No::new(421, "proxy.host", "this is not a name of this proxy"));
        }
        let path = target.strip_prefix('/').unwrap_or_default();
        let (secret, rest) = path.split_once('/').unwrap_or((path, ""));
        if !same(secret, self.secret.expose()) {
            return Err(No::new(403, "proxy.secret", "this base URL belongs to another run"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (system, below) = rest.split_at(end);
        Ok(Address::System { system: system.to_owned(), below: below.to_owned() })
    }

    /// Basic authentication of proxies (RFC 7617, RFC 9110 section 11.7.1).
    fn knows_secret(&self, headers: &HeaderMap) -> Result<(), No> {
        let wanted = STANDARD.encode(format!("{USER}:{}", self.secret.expose()));
        let shown = header(headers, PROXY_AUTHORIZATION.as_str()).and_then(|v| v.split_once(' '));
        match shown {
            Some((scheme, shown)) if scheme.eq_ignore_ascii_case("basic") && same(shown.trim(), &wanted) => {
                Ok(())
            }
            _ => Err(No::new(407, "proxy.secret", "this proxy serves one run and wants its secret")),
        }
    }

    /// Carries a request to the gateway.
    async fn relay(&self, address: &Address, request: Asked) -> Result<Relayed, Problem> {
        let (parts, body) = request.into_parts();
        let body = match timeout(BODY_WITHIN, Limited::new(body, BODY_MAX).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => {
                return Err(Problem::new(413, "proxy.body", "the body broke off or is larger than 1 MiB"));
            }
            Err(_) => return Err(Problem::new(408, "proxy.body", "the body did not arrive in time")),
        };
        let mut inner = inner_headers(&parts.headers);
        for name in ["cookie", "accept-encoding"] {
            inner.remove(name);
        }
        let head = wrap(address, &parts.method, &inner).and_then(|text| HeaderValue::try_from(text).ok());
        let head = head.ok_or_else(|| Problem::new(400, "proxy.request", "a header is no plain text"))?;
        let mut headers = HeaderMap::new();
        headers.insert(INNER, head);
        self.ask(Method::POST, headers, body).await
    }

    /// Asks the gateway; once more with a new token if it does not take the first.
    async fn ask(&self, method: Method, headers: HeaderMap, body: Bytes) -> Result<Relayed, Problem> {
        let first = self.send(&method, &headers, body.clone(), None).await?;
        if first.status != StatusCode::UNAUTHORIZED || !first.headers.contains_key(WWW_AUTHENTICATE) {
            return Ok(first);
        }
        let nonce = header(&first.headers, "dpop-nonce").map(str::to_owned);
        if nonce.is_none() && !self.prover.renew().await {
            return Err(over("the gateway does not take this agent's token, and there is no other"));
        }
        let second = self.send(&method, &headers, body, nonce.as_deref()).await?;
        match second.status {
            StatusCode::UNAUTHORIZED => Err(over("the gateway does not take this agent's token")),
            _ => Ok(second),
        }
    }

    async fn send(
        &self,
        method: &Method,
        headers: &HeaderMap,
        body: Bytes,
        nonce: Option<&str>,
    ) -> Result<Relayed, Problem> {
        let proof =
            self.prover.prove(method.as_str(), &self.gateway, nonce).await.map_err(|why| over(&why))?;
        let asked = self
            .client
            .request(method.clone(), &self.gateway)
            .headers(headers.clone())
            .header("authorization", proof.authorization.expose())
            .header("dpop", proof.dpop.expose())
            .body(body);
        let away = || {
            Problem::new(
                503,
                "server.unreachable",
                "the gateway cannot be reached; it is not known whether it acted",
            )
            .next("Is it running?")
        };
        let mut answer = asked.send().await.map_err(|_| away())?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|_| away())? {
            if body.len() + chunk.len() > ANSWER_MAX {
                return Err(Problem::new(502, "proxy.answer", "the gateway's answer is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Relayed { status, headers, body })
    }
}

/// No token: the task is over, or the agent is not what it was.
fn over(why: &str) -> Problem {
    Problem::new(403, "agent.no_token", format!("nothing was done: {why}"))
        .next("Is the task still open, and the agent registered?")
}

/// The gateway's answer.
struct Relayed {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Relayed {
    fn answer(mut self) -> Answered {
        for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            self.headers.remove(name);
        }
        let mut response = http::Response::new(Full::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// A refusal of the proxy's own.
#[derive(Debug)]
struct No {
    status: u16,
    code: &'static str,
    why: &'static str,
}

impl No {
    fn new(status: u16, code: &'static str, why: &'static str) -> Self {
        No { status, code, why }
    }

    fn answer(&self) -> Answered {
        answer(&Problem::new(self.status, self.code, format!("{}. Nothing was sent", self.why)))
    }
}

fn answer(problem: &Problem) -> Answered {
    let mut response = http::Response::new(Full::from(serde_json::to_vec(problem).unwrap_or_default()));
    *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::FORBIDDEN);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if problem.status == 407 {
        let challenge = HeaderValue::from_static("Basic realm=\"bailiwick run\"");
        response.headers_mut().insert(PROXY_AUTHENTICATE, challenge);
    }
    response
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn same(shown: &str, wanted: &str) -> bool {
    bool::from(shown.as_bytes().ct_eq(wanted.as_bytes()))
}

fn bracketed(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The canonical form of scheme, host and port (RFC 6454 section 6.2); `None` if this is not just a host and port.
fn origin(scheme: &str, authority: &str) -> Option<String> {
    if authority.is_empty() || authority.contains(['@', '/', '?', '#', '\\', '%']) {
        return None;
    }
    Some(Url::parse(&format!("{scheme}://{authority}")).ok()?.origin().ascii_serialization())
}
