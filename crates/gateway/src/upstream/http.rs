//! A tool server over streamable HTTP, both generations.
//!
//! The target's credential is held here and sent to the configured endpoint only: redirects are refused,
//! proxies of the environment are not used, plain HTTP carries no credential off this machine. An answer is
//! one JSON object or a stream of events; either way it is capped and its id must be ours.

use super::ANSWER_BYTES_MAX;
use super::CallError;
use super::link::Extra;
use super::sse::Events;
use crate::envelope::{self, Body, Reply};
use crate::headers;
use crate::secret::Secret;
use crate::version::MODERN;
use bailiwick_core::Value;
use reqwest::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Most events of one answer that are not the answer.
const EVENTS_MAX: usize = 10_000;
/// Most bytes of one stream of events.
const STREAM_BYTES_MAX: usize = 64 << 20;
/// Time to connect.
const CONNECT: Duration = Duration::from_secs(10);

/// A remote tool server.
pub(crate) struct Remote {
    client: Client,
    url: Url,
    credential: HeaderMap,
    state: Mutex<State>,
    ids: AtomicI64,
    changed: Notify,
    lost: Notify,
}

/// What the generation with sessions makes us remember.
#[derive(Clone, Default)]
struct State {
    version: Option<&'static str>,
    session: Option<HeaderValue>,
}

impl Remote {
    /// Checks the address and the headers; says in words what is wrong with them.
    pub(crate) fn new(url: &str, headers: &[(String, Secret)]) -> Result<Remote, String> {
        let url = Url::parse(url).map_err(|e| format!("its URL cannot be read: {e}"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some()
        {
            return Err("its URL must be http or https, without user and password: use a header".to_owned());
        }
        if url.scheme() == "http" && !headers.is_empty() && !is_loopback(&url) {
            return Err("a credential would travel in clear text: use https".to_owned());
        }
        let credential = headers.iter().map(read_header).collect::<Result<HeaderMap, String>>()?;
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .build()
            .map_err(|_| "no TLS client could be made".to_owned())?;
        Ok(Remote {
            client,
            url,
            credential,
            state: Mutex::default(),
            ids: AtomicI64::new(1),
            changed: Notify::new(),
            lost: Notify::new(),
        })
    }

    /// Sets the revision to speak from now on; `None` begins anew, without a session.
    pub(crate) fn speak(&self, version: Option<&'static str>) {
        let mut state = self.state();
        state.version = version;
        if version.is_none() {
            state.session = None;
        }
    }

    /// Asks and waits. Dropping the future closes the request, which cancels it.
    pub(crate) async fn ask(&self, method: &str, params: &Value, extra: &Extra) -> Result<Body, CallError> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let mut request = self.post(method, params).body(envelope::request(id, method, params));
        for (name, value) in &extra.headers {
            request = request.header(name, value);
        }
        let mut cancel = Cancel { remote: self, id, armed: method == "tools/call" };
        let response = request.send().await.map_err(failed)?;
        let answer = self.answer(id, method, response, extra.endless).await;
        cancel.armed = false;
        answer
    }

    /// Sends a notification.
    pub(crate) async fn tell(&self, method: &str, params: &Value) -> Result<(), CallError> {
        let request = self.post(method, params).body(envelope::notification(method, params));
        let status = request.send().await.map_err(failed)?.status();
        if status.is_success() { Ok(()) } else { Err(refused(status)) }
    }

    /// Resolves when the session was lost.
    pub(crate) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Resolves when the server says that its tools changed.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, method: &str, params: &Value) -> RequestBuilder {
        let State { version, session } = self.state().clone();
        let mut request = self
            .client
            .post(self.url.clone())
            .headers(self.credential.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream");
        if let Some(version) = version {
            request = request.header(headers::PROTOCOL_VERSION, version);
        }
        if version == Some(MODERN) {
            request = request.header(headers::METHOD, method);
            if let Some(name) = headers::name_of(method, params) {
                request = request.header(headers::NAME, headers::encode(name));
            }
        }
        match session {
            Some(session) => request.header(headers::SESSION, session),
            None => request,
        }
    }

    async fn answer(
        &self,
        id: i64,
        method: &str,
        response: Response,
        endless: bool,
    ) -> Result<Body, CallError> {
        let status = response.status();
        if response.headers().contains_key(CONTENT_ENCODING) {
            return Err(CallError::Garbled);
        }
        if method == "initialize" {
            self.state().session = response.headers().get(headers::SESSION).cloned();
        }
        if status == StatusCode::NOT_FOUND && self.state().session.take().is_some() {
            self.lost.notify_one();
            return Err(CallError::Unavailable("its session has ended; try again".to_owned()));
        }
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
        if status.is_success() && kind.starts_with("text/event-stream") {
            return self.read_events(id, response, endless).await;
        }
        if !kind.starts_with("application/json") {
            return Err(if status.is_success() { CallError::Garbled } else { refused(status) });
        }
        let bytes = read_all(response).await?;
        match self.sort(id, &bytes) {
            Some(answer) => answer,
            None if status.is_success() => Err(CallError::Garbled),
            None => Err(refused(status)),
        }
    }

    async fn read_events(&self, id: i64, mut response: Response, endless: bool) -> Result<Body, CallError> {
        let mut events = Events::new(ANSWER_BYTES_MAX);
        let (mut bytes, mut count) = (0usize, 0usize);
        while let Some(chunk) = response.chunk().await.map_err(|_| CallError::Gone)? {
            bytes = if endless { chunk.len() } else { bytes.saturating_add(chunk.len()) };
            for event in events.take(&chunk).map_err(|_| CallError::TooLarge)? {
                if let Some(answer) = self.sort(id, &event) {
                    return answer;
                }
                count += 1;
            }
            if bytes > STREAM_BYTES_MAX || count > EVENTS_MAX {
                return Err(CallError::TooLarge);
            }
        }
        if endless { Err(CallError::Timeout) } else { Err(CallError::Gone) }
    }

    /// The answer to our question, if this message is it.
    fn sort(&self, ours: i64, message: &[u8]) -> Option<Result<Body, CallError>> {
        match Reply::parse(message)? {
            Reply::Result { id, body } if id == ours => Some(Ok(body)),
            Reply::Error { id, code, message, data } if id == ours => {
                Some(Err(CallError::Refused { rpc: code, message, data }))
            }
            Reply::Notification { method } if method == "notifications/tools/list_changed" => {
                self.changed.notify_one();
                None
            }
            _ => None,
        }
    }
}

/// Tells a server of the older generation that nobody waits any more; for the newer one the closed
/// connection says it.
struct Cancel<'a> {
    remote: &'a Remote,
    id: i64,
    armed: bool,
}

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        if !self.armed || self.remote.state().version == Some(MODERN) {
            return;
        }
        let params = Value::from([("requestId", Value::Int(self.id)), ("reason", Value::from("cancelled"))]);
        let method = "notifications/cancelled";
        let request = self.remote.post(method, &params).body(envelope::notification(method, &params));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { _ = request.timeout(CONNECT).send().await });
        }
    }
}

async fn read_all(mut response: Response) -> Result<Vec<u8>, CallError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| CallError::Gone)? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(CallError::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn read_header((name, value): &(String, Secret)) -> Result<(HeaderName, HeaderValue), String> {
    let name = HeaderName::try_from(name.as_str()).map_err(|_| "a header's name is not a name".to_owned())?;
    let mut value = HeaderValue::from_str(value.expose())
        .map_err(|_| format!("the value of header `{name}` cannot be sent"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        None => false,
    }
}

/// A failed exchange, in words that hold neither URL nor header.
fn failed(error: reqwest::Error) -> CallError {
    if error.is_connect() || error.is_builder() {
        CallError::Unavailable("it cannot be reached".to_owned())
    } else if error.is_timeout() {
        CallError::Timeout
    } else {
        CallError::Gone
    }
}

fn refused(status: StatusCode) -> CallError {
    let message = match status.as_u16() {
        300..=399 => "it redirects, which is not followed".to_owned(),
        401 | 403 => "it does not accept our credential".to_owned(),
        other => format!("it answered with HTTP status {other}"),
    };
    CallError::Refused { rpc: crate::envelope::codes::INTERNAL, message, data: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: INV14
    #[test]
    fn a_credential_leaves_this_machine_only_encrypted() {
        let secret = vec![("authorization".to_owned(), Secret::new("Bearer s3cret"))];
        assert!(Remote::new("https://api.example.com/mcp", &secret).is_ok());
        assert!(Remote::new("http://127.0.0.1:3000/mcp", &secret).is_ok());
        assert!(Remote::new("http://[::1]:3000/mcp", &secret).is_ok());
        for url in [
            "http://api.example.com/mcp",
            "http://127.0.0.1.example.com/",
            "ftp://x/",
            "https://u:p@x.example/",
        ] {
            assert!(Remote::new(url, &secret).is_err(), "{url}");
        }
        assert!(Remote::new("http://api.example.com/mcp", &[]).is_ok());
        let broken = vec![("authorization".to_owned(), Secret::new("s3cret\n"))];
        let why = Remote::new("https://api.example.com/mcp", &broken).err().unwrap_or_default();
        assert!(why.contains("authorization") && !why.contains("s3cret"), "{why}");
    }
}
