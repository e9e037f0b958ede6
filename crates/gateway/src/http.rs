//! MCP over streamable HTTP, both generations, at `/mcp` (all systems) and `/mcp/{system}` (one).
//!
//! In this order, each refusal before the next cost: host and origin, form of the request, the caller's
//! proof, the body (at most 1 MiB, in time), the message, the generation it speaks and the headers that
//! must agree with it. Answers are single JSON objects; only the news that a list changed is streamed, and no
//! stream can be resumed, by anybody.
#![expect(clippy::result_large_err, reason = "a refusal is the response itself, made at most once a request")]

use crate::answer::Answer;
use crate::door::{Door, Knock, Refused};
use crate::envelope::{self, BadMessage, Message, Request, RpcId, codes};
use crate::gateway::{Gateway, GatewayConfig};
use crate::headers::{self, PROTOCOL_VERSION, SESSION};
use crate::in_flight::TakeBack;
use crate::listen::listen;
use crate::mcp::{self, Context};
use crate::session::Session;
use crate::version::{self, MODERN};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use bailiwick_api::{Caller, DecisionPoint};
use bailiwick_core::value::BYTES_MAX;
use bailiwick_core::{SystemId, Value};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::timeout;

/// The routes of a gateway, to be mounted or served as they are.
pub fn router<P: DecisionPoint, D: Door>(gateway: Arc<Gateway<P, D>>) -> Router {
    let metadata = "/.well-known/oauth-protected-resource";
    Router::new()
        .route("/mcp", axum::routing::any(all_systems::<P, D>))
        .route("/mcp/{system}", axum::routing::any(one_system::<P, D>))
        .route(metadata, get(resource::<P, D>))
        .route(&format!("{metadata}/mcp"), get(resource::<P, D>))
        .route(&format!("{metadata}/mcp/{{system}}"), get(resource::<P, D>))
        .with_state(gateway)
}

type Shared<P, D> = State<Arc<Gateway<P, D>>>;

async fn all_systems<P: DecisionPoint, D: Door>(
    State(gateway): Shared<P, D>,
    request: axum::extract::Request,
) -> Response {
    gateway.answer(None, request).await
}

async fn one_system<P: DecisionPoint, D: Door>(
    State(gateway): Shared<P, D>,
    Path(system): Path<String>,
    request: axum::extract::Request,
) -> Response {
    match SystemId::parse(&system) {
        Ok(system) if gateway.upstreams.serves(system.as_str()) => {
            gateway.answer(Some(system), request).await
        }
        _ => plain(StatusCode::NOT_FOUND, "no such endpoint"),
    }
}

/// Metadata of the protected resource (RFC 9728 section 2).
async fn resource<P: DecisionPoint, D: Door>(
    State(gateway): Shared<P, D>,
    request: axum::extract::Request,
) -> Response {
    let (parts, _) = request.into_parts();
    if let Err(refused) = known_host(&gateway.config, &parts) {
        return refused;
    }
    let text = |items: &[&str]| Value::List(items.iter().map(|item| Value::from(*item)).collect());
    let servers = gateway.config.authorization_servers.iter().map(|s| Value::from(s.as_str())).collect();
    let metadata = Value::from([
        ("resource", Value::from(gateway.config.resource())),
        ("resource_name", Value::from("bailiwick")),
        ("authorization_servers", Value::List(servers)),
        ("bearer_methods_supported", text(&["header"])),
        ("dpop_bound_access_tokens_required", Value::from(true)),
        ("dpop_signing_alg_values_supported", text(&["EdDSA", "ES256"])),
        ("authorization_details_types_supported", text(&["bailiwick_task"])),
    ]);
    json(StatusCode::OK, metadata.canonical())
}

impl<P: DecisionPoint, D: Door> Gateway<P, D> {
    async fn answer(self: Arc<Self>, only: Option<SystemId>, request: axum::extract::Request) -> Response {
        let deadline = self.config.request_timeout;
        match timeout(deadline, self.try_answer(only, request)).await {
            Ok(Ok(response) | Err(response)) => response,
            Err(_) => plain(StatusCode::GATEWAY_TIMEOUT, "the request took too long and was given up"),
        }
    }

    async fn try_answer(
        self: Arc<Self>,
        only: Option<SystemId>,
        request: axum::extract::Request,
    ) -> Result<Response, Response> {
        let (parts, body) = request.into_parts();
        known_host(&self.config, &parts)?;
        check_form(&parts)?;
        let knock = Knock { method: &parts.method, path: parts.uri.path(), headers: &parts.headers };
        let caller =
            self.door.admit(knock).await.map_err(|refused| challenge(&self.config, &parts, &refused))?;
        if parts.method == http::Method::DELETE {
            return self.end_session(&parts, &caller);
        }
        let bytes = read_body(&self.config, body).await?;
        match Message::parse(&bytes).map_err(|bad| unreadable(&bad))? {
            Message::Request(request) => self.request(only, parts, caller, request).await,
            Message::Notification { method, params } => self.notification(&parts, &caller, &method, &params),
            Message::Response if is_modern(&parts) => Err(rpc_error(
                StatusCode::BAD_REQUEST,
                None,
                codes::INVALID_REQUEST,
                "answers are not taken here",
            )),
            Message::Response => Ok(empty(StatusCode::ACCEPTED)),
        }
    }

    async fn request(
        self: Arc<Self>,
        only: Option<SystemId>,
        parts: Parts,
        caller: Caller,
        request: Request,
    ) -> Result<Response, Response> {
        if is_modern(&parts) || request.meta(version::META_VERSION).is_some() {
            check_modern(&parts, &request)?;
            if request.method == "subscriptions/listen" {
                return Ok(listen(self, caller, &request));
            }
            return Ok(self.run_request(only, parts, caller, request, None).await);
        }
        check_legacy(&parts, &request)?;
        if request.method == "initialize" {
            return self.initialize(&caller, &request);
        }
        let session = self.session(&parts, &caller, Some(&request.id))?;
        Ok(self.run_request(only, parts, caller, request, Some(session)).await)
    }

    /// Serves a request whose form is in order. If the client goes away, the call is taken back.
    async fn run_request(
        self: Arc<Self>,
        only: Option<SystemId>,
        parts: Parts,
        caller: Caller,
        request: Request,
        session: Option<Arc<Session>>,
    ) -> Response {
        let (withdraw, withdrawn) = watch::channel(false);
        let _gone = TakeBack(withdraw.clone());
        let _noted = session.as_ref().map(|session| Noted::new(session.clone(), &request.id, withdraw));
        let modern = session.is_none();
        let context = Context { caller, only, modern, headers: parts.headers, withdrawn };
        let id = request.id.clone();
        let answer = self.serve(context, request).await;
        respond(&id, answer, modern)
    }

    fn initialize(&self, caller: &Caller, request: &Request) -> Result<Response, Response> {
        let asked = request.params.get("protocolVersion").and_then(Value::as_text).unwrap_or("");
        let agreed = version::legacy(asked).unwrap_or(version::LEGACY);
        let session = bailiwick_token::random_id().map_err(|_| {
            rpc_error(
                StatusCode::INTERNAL_SERVER_ERROR,
                Some(&request.id),
                codes::INTERNAL,
                "no session could be made",
            )
        })?;
        let result = Value::from([
            ("protocolVersion", Value::from(agreed)),
            ("capabilities", mcp::capabilities(false)),
            ("serverInfo", version::implementation()),
            ("instructions", Value::from(mcp::INSTRUCTIONS)),
        ]);
        let header = HeaderValue::from_str(&session).map_err(|_| empty(StatusCode::INTERNAL_SERVER_ERROR))?;
        self.sessions.open(session, caller, agreed);
        let mut response = json(StatusCode::OK, envelope::result(&request.id, &result));
        response.headers_mut().insert(SESSION, header);
        Ok(response)
    }

    fn notification(
        &self,
        parts: &Parts,
        caller: &Caller,
        method: &str,
        params: &Value,
    ) -> Result<Response, Response> {
        if is_modern(parts) {
            return Ok(empty(StatusCode::ACCEPTED));
        }
        let session = self.session(parts, caller, None)?;
        if method == "notifications/cancelled" {
            match params.get("requestId") {
                Some(Value::Int(n)) => session.withdraw(&RpcId::Number(*n)),
                Some(Value::Text(text)) => session.withdraw(&RpcId::Text(text.clone())),
                _ => {}
            }
        }
        Ok(empty(StatusCode::ACCEPTED))
    }

    fn end_session(&self, parts: &Parts, caller: &Caller) -> Result<Response, Response> {
        let id = session_id(parts)?;
        let ended = self.sessions.close(id, caller);
        Ok(empty(if ended { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }))
    }

    fn session(&self, parts: &Parts, caller: &Caller, id: Option<&RpcId>) -> Result<Arc<Session>, Response> {
        let no_session = "this session is not open for this caller: initialize again";
        let session = self
            .sessions
            .find(session_id(parts)?, caller)
            .ok_or_else(|| rpc_error(StatusCode::NOT_FOUND, id, codes::INVALID_REQUEST, no_session))?;
        let spoken = headers::single(&parts.headers, PROTOCOL_VERSION).ok().flatten();
        if spoken.is_some_and(|spoken| spoken != session.version) {
            let why = "the session was opened with another protocol revision";
            return Err(rpc_error(StatusCode::BAD_REQUEST, id, codes::INVALID_REQUEST, why));
        }
        Ok(session)
    }
}

/// What to do about a missing or bad token (RFC 9728 section 5.1, RFC 9449 section 7.1).
pub(crate) fn challenge(config: &GatewayConfig, parts: &Parts, refused: &Refused) -> Response {
    tracing::info!(code = refused.code(), path = parts.uri.path(), "a caller was not admitted");
    let mut challenge = format!(
        "DPoP algs=\"EdDSA ES256\", resource_metadata=\"{}/.well-known/oauth-protected-resource{}\"",
        config.public_url,
        parts.uri.path().escape_default()
    );
    if let Some(error) = refused.challenge.error() {
        challenge
            .push_str(&format!(", error=\"{error}\", error_description=\"{}\"", quotable(&refused.reason)));
    }
    let status = StatusCode::from_u16(refused.challenge.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let body = Value::from([
        ("error", Value::from(refused.challenge.error().unwrap_or("unauthorized"))),
        ("error_description", Value::from(refused.reason.as_str())),
        ("code", Value::from(refused.code())),
    ]);
    let mut response = json(status, body.canonical());
    if let Ok(value) = HeaderValue::from_str(&challenge) {
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    if let Some(nonce) = refused.nonce.as_deref().and_then(|nonce| HeaderValue::from_str(nonce).ok()) {
        response.headers_mut().insert("dpop-nonce", nonce);
    }
    response
}

/// A call noted in its session for as long as it runs.
struct Noted {
    session: Arc<Session>,
    id: RpcId,
}

impl Noted {
    fn new(session: Arc<Session>, id: &RpcId, withdraw: watch::Sender<bool>) -> Self {
        session.begin(id, withdraw);
        Noted { session, id: id.clone() }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.session.end(&self.id);
    }
}

/// Host and origin must be ours, on loopback as anywhere (threat A48).
pub(crate) fn known_host(config: &GatewayConfig, parts: &Parts) -> Result<(), Response> {
    let forbidden = |why| plain(StatusCode::FORBIDDEN, why);
    let host = headers::single(&parts.headers, HOST.as_str())
        .map_err(|_| forbidden("the Host header is unclear"))?;
    let absolute = parts.uri.authority().map(http::uri::Authority::as_str);
    let named: Vec<&str> = host.into_iter().chain(absolute).collect();
    if named.is_empty() || !named.iter().all(|name| allows_host(&config.hosts, name)) {
        return Err(forbidden("this host name is not served here: add it to the accepted hosts"));
    }
    match headers::single(&parts.headers, ORIGIN.as_str()) {
        Ok(None) => Ok(()),
        Ok(Some(origin)) if config.origins.iter().any(|known| known == origin) => Ok(()),
        _ => Err(forbidden("this origin is not served here: add it to the accepted origins")),
    }
}

fn allows_host(hosts: &[String], name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    hosts.iter().any(|host| match name.strip_prefix(host.as_str()) {
        Some("") => true,
        // An accepted host without a port is accepted on every port.
        Some(rest) if !has_port(host) => rest
            .strip_prefix(':')
            .is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())),
        _ => false,
    })
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty())
}

/// Method, content type and encoding. A page in a browser cannot send `application/json` unasked.
fn check_form(parts: &Parts) -> Result<(), Response> {
    match parts.method.as_str() {
        "DELETE" => return Ok(()),
        "POST" => {}
        _ => {
            let mut response =
                plain(StatusCode::METHOD_NOT_ALLOWED, "POST a message here; there is no stream to GET");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST, DELETE"));
            return Err(response);
        }
    }
    let kind = headers::single(&parts.headers, CONTENT_TYPE.as_str()).ok().flatten().unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(plain(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send one JSON-RPC message as application/json",
        ));
    }
    if parts.headers.contains_key(CONTENT_ENCODING) {
        return Err(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the body uncompressed"));
    }
    Ok(())
}

pub(crate) async fn read_body(config: &GatewayConfig, body: Body) -> Result<axum::body::Bytes, Response> {
    match timeout(config.body_timeout, to_bytes(body, BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(plain(StatusCode::PAYLOAD_TOO_LARGE, "the body broke off or is larger than 1 MiB")),
        Err(_) => Err(plain(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
    }
}

fn is_modern(parts: &Parts) -> bool {
    parts.headers.get_all(PROTOCOL_VERSION).iter().any(|v| v.as_bytes() == MODERN.as_bytes())
}

/// The rules of the stateless generation: revision known, metadata complete, headers equal to the body.
fn check_modern(parts: &Parts, request: &Request) -> Result<(), Response> {
    let bad = |code, why: &str| rpc_error(StatusCode::BAD_REQUEST, Some(&request.id), code, why);
    let version = request.meta(version::META_VERSION).and_then(Value::as_text);
    let version = version.ok_or_else(|| bad(codes::INVALID_PARAMS, "`_meta` lacks the protocol version"))?;
    mcp::check_headers(&parts.headers, request, version).map_err(|why| bad(codes::HEADER_MISMATCH, &why))?;
    if version != MODERN {
        return Err(unsupported(&request.id, version));
    }
    match request.meta(version::META_CAPABILITIES) {
        Some(Value::Map(_)) => Ok(()),
        _ => Err(bad(codes::INVALID_PARAMS, "`_meta` lacks the client's capabilities")),
    }
}

/// The rules of the generation with sessions, as far as they need no session.
fn check_legacy(parts: &Parts, request: &Request) -> Result<(), Response> {
    match headers::single(&parts.headers, PROTOCOL_VERSION) {
        Ok(None) => Ok(()),
        Ok(Some(spoken)) if version::legacy(spoken).is_some() => Ok(()),
        Ok(Some(spoken)) => Err(unsupported(&request.id, spoken)),
        Err(why) => Err(rpc_error(StatusCode::BAD_REQUEST, Some(&request.id), codes::HEADER_MISMATCH, &why)),
    }
}

fn session_id(parts: &Parts) -> Result<&str, Response> {
    let id = headers::single(&parts.headers, SESSION).ok().flatten();
    id.ok_or_else(|| {
        let why = "no session is named: initialize first, or speak 2026-07-28, which needs none";
        rpc_error(StatusCode::BAD_REQUEST, None, codes::INVALID_REQUEST, why)
    })
}

fn unsupported(id: &RpcId, requested: &str) -> Response {
    let requested = envelope::cut(requested, 64);
    let data = Value::from([("supported", version::served()), ("requested", Value::from(requested))]);
    let error =
        envelope::error(Some(id), codes::UNSUPPORTED_VERSION, "Unsupported protocol version", Some(&data));
    json(StatusCode::BAD_REQUEST, error)
}

fn unreadable(bad: &BadMessage) -> Response {
    let data = Value::from([("reason_code", Value::from(bad.code()))]);
    json(StatusCode::BAD_REQUEST, envelope::error(bad.id.as_ref(), bad.rpc, &bad.message, Some(&data)))
}

fn respond(id: &RpcId, answer: Answer, modern: bool) -> Response {
    match answer {
        Answer::Result(result) => json(StatusCode::OK, envelope::result(id, &result)),
        Answer::Error { code, message, data } => {
            let status = match code {
                codes::METHOD_NOT_FOUND if modern => StatusCode::NOT_FOUND,
                codes::HEADER_MISMATCH => StatusCode::BAD_REQUEST,
                _ => StatusCode::OK,
            };
            json(status, envelope::error(Some(id), code, &message, data.as_ref()))
        }
    }
}

fn rpc_error(status: StatusCode, id: Option<&RpcId>, code: i64, message: &str) -> Response {
    json(status, envelope::error(id, code, message, None))
}

/// Text fit for a quoted string of a challenge (RFC 6750 section 3).
fn quotable(text: &str) -> String {
    text.chars()
        .map(|c| if c == ' ' || (c.is_ascii_graphic() && c != '"' && c != '\\') { c } else { '\'' })
        .collect()
}

pub(crate) fn json(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn plain(status: StatusCode, why: &str) -> Response {
    json(status, envelope::error(None, codes::INVALID_REQUEST, why, None))
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::Challenge;

    // proves: A48
    #[test]
    fn a_host_is_accepted_whole_or_not_at_all() {
        let hosts = ["127.0.0.1:7171", "gate.example.com", "[::1]"].map(String::from);
        for good in ["127.0.0.1:7171", "gate.example.com", "GATE.example.com:443", "[::1]:80", "[::1]"] {
            assert!(allows_host(&hosts, good), "{good}");
        }
        for bad in [
            "127.0.0.1:7172",
            "127.0.0.1",
            "127.0.0.1:71711",
            "gate.example.com.evil.example",
            "gate.example.com:x",
            "gate.example.com:",
            "evil.example",
            "",
            "gate.example.com@evil",
        ] {
            assert!(!allows_host(&hosts, bad), "{bad}");
        }
    }

    #[test]
    fn a_challenge_cannot_be_broken_out_of() {
        assert_eq!(quotable("a\"b\\c\r\nd"), "a'b'c''d");
        assert_eq!(Challenge::UseNonce.error(), Some("use_dpop_nonce"));
    }
}
