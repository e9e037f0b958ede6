//! The one way to an API: with a witness in hand, and the key put in last.
//!
//! [`forward`] takes [`Allowed`] by value. What it sends is written from the witness's arguments and read again
//! (INV9); the key joins it on the way out and nowhere else. Nothing that comes back leaves before the key has
//! been looked for in it: headers that are not on a list stay here, redirects are shown and not followed, an
//! answer that is too large, too slow, encoded or unreadable is withheld.

use super::address::{Guard, NotPublic};
use super::request::{Plan, Unfit};
use super::spec::{Action, AnswerSpec, Api, ApiSpec, Key};
use bailiwick_api::{Allowed, OutcomeStatus};
use bailiwick_core::Value;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE,
    DATE, ETAG, EXPIRES, LAST_MODIFIED, LINK, LOCATION, RETRY_AFTER, USER_AGENT, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reqwest::{Client, Response, Url};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

/// Time to connect, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest silence in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(30);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// Headers of an answer that reach the agent; rate limits besides, by their beginning. No cookie and no challenge
/// is among them: both are credentials of a kind.
const SHOWN: [HeaderName; 12] = [
    ACCEPT_RANGES,
    CACHE_CONTROL,
    CONTENT_LANGUAGE,
    CONTENT_TYPE,
    DATE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    LINK,
    LOCATION,
    RETRY_AFTER,
    VARY,
];
const SHOWN_BEGINNINGS: [&str; 3] = ["x-ratelimit-", "ratelimit", "x-request-id"];

/// An answer as the agent may read it.
#[derive(Debug)]
pub(crate) struct Clean {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// The body as a value, if it was JSON.
    pub(crate) result: Option<Value>,
    /// Bytes as received.
    pub(crate) bytes: u64,
}

impl Clean {
    /// The body as text, if it was not JSON.
    pub(crate) fn words(&self) -> Vec<String> {
        match (&self.result, self.body.is_empty()) {
            (None, false) => vec![String::from_utf8_lossy(&self.body).into_owned()],
            _ => Vec::new(),
        }
    }
    /// What this answer says of the call.
    pub(crate) fn outcome(&self, method: &Method) -> OutcomeStatus {
        let looked = matches!(*method, Method::GET | Method::HEAD);
        match self.status.as_u16() {
            200..400 => OutcomeStatus::Done,
            500.. if !looked => OutcomeStatus::Unknown,
            _ => OutcomeStatus::Failed,
        }
    }
}

/// Why an allowed request brought no answer. The words hold neither URL nor header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the decision was too old to act on; ask again")]
    Stale,
    #[error("{}", .0.why)]
    Unfit(Unfit),
    #[error("the API cannot be reached")]
    Unreachable,
    #[error("the API's name leads to an address that is not public and that no operator named")]
    Address,
    #[error("the API's certificate does not verify")]
    Certificate,
    #[error("the API did not answer in time")]
    Timeout,
    #[error("the API went away before its answer was complete")]
    Gone,
    #[error("the API's answer is larger than its rule admits")]
    TooLarge,
    #[error("the API's answer is encoded in a way that cannot be looked into")]
    Encoded,
    #[error("the API's answer is no JSON that its fields could be picked from")]
    Unfilterable,
    #[error("the API's answer held its own key in disguise")]
    KeyEchoed,
}

impl SendError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            SendError::Stale => "egress.stale",
            SendError::Unfit(unfit) => unfit.code,
            SendError::Unreachable => "upstream.unreachable",
            SendError::Address => "upstream.address",
            SendError::Certificate => "upstream.certificate",
            SendError::Timeout => "upstream.timeout",
            SendError::Gone => "upstream.gone",
            SendError::TooLarge => "upstream.too_large",
            SendError::Encoded => "upstream.encoded",
            SendError::Unfilterable => "upstream.unfilterable",
            SendError::KeyEchoed => "upstream.key_echoed",
        }
    }

    /// True if the request may have had an effect all the same.
    pub(crate) fn may_have_happened(&self) -> bool {
        use SendError::{Encoded, Gone, KeyEchoed, Timeout, TooLarge, Unfilterable};
        matches!(self, Timeout | Gone | TooLarge | Encoded | Unfilterable | KeyEchoed)
    }
}

/// A client for one API: its own roots if it has any, judged addresses, no redirects, no proxy, no cookies.
pub(crate) fn client(spec: &ApiSpec, url: &Url, guard: Guard) -> Result<Client, String> {
    let mut builder = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .http1_only()
        .https_only(url.scheme() == "https")
        .dns_resolver(guard.allowing(spec.networks.clone()))
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .pool_idle_timeout(IDLE)
        .tcp_nodelay(true);
    if let Some(pem) = &spec.roots {
        let roots = reqwest::Certificate::from_pem_bundle(pem)
            .map_err(|_| "its certificates cannot be read: PEM is needed".to_owned())?;
        builder = builder.tls_certs_only(roots);
    }
    builder.build().map_err(|_| "no TLS client could be made".to_owned())
}

/// Sends an allowed request. Dropping the future cancels it.
///
/// # Errors
/// [`SendError`]; [`SendError::may_have_happened`] tells whether it can have had an effect.
pub(crate) async fn forward(allowed: Allowed, api: &Api) -> Result<Clean, SendError> {
    if crate::forward::now() > allowed.until() {
        return Err(SendError::Stale);
    }
    let Some(action) = api.action(allowed.tool()) else {
        return Err(SendError::Unfit(Unfit {
            code: "egress.no_rule",
            why: "no rule takes this request".to_owned(),
        }));
    };
    let plan = api.plan(action, allowed.args()).map_err(SendError::Unfit)?;
    let deadline = Duration::from_millis(api.call_timeout_ms);
    match timeout(deadline, exchange(api, action, plan)).await {
        Ok(done) => done,
        Err(_) => Err(SendError::Timeout),
    }
}

async fn exchange(api: &Api, action: &Action, plan: Plan) -> Result<Clean, SendError> {
    let response = api.client.execute(outgoing(api, plan)?).await.map_err(|e| failed(&e))?;
    let (status, headers) = (response.status(), response.headers().clone());
    if headers.contains_key(CONTENT_ENCODING) || status.is_informational() {
        return Err(SendError::Encoded);
    }
    let body = read(response, action.answer.bytes_max).await?;
    clean(api, action, status, &headers, body)
}

/// The request with the key in it.
fn outgoing(api: &Api, plan: Plan) -> Result<reqwest::Request, SendError> {
    let mut target = plan.target;
    for key in &api.keys {
        if let Key::Query(name, secret) = key {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(&super::request::pair(name, secret.expose()));
        }
    }
    let text = format!("{}{target}", api.origin());
    let url = Url::parse(&text).map_err(|_| unclear())?;
    // The URL's own parser repairs what it finds odd; nothing here may need repair.
    if url.as_str() != text {
        return Err(unclear());
    }
    let mut request = reqwest::Request::new(plan.method, url);
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("bailiwick/", env!("CARGO_PKG_VERSION"))));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.extend(plan.headers);
    headers.extend(api.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    for key in &api.keys {
        if let Key::Header(name, secret) = key {
            let name = HeaderName::try_from(name.as_str()).map_err(|_| unclear())?;
            let mut value = HeaderValue::from_str(secret.expose()).map_err(|_| unclear())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    *request.body_mut() = plan.body.map(Into::into);
    Ok(request)
}

fn unclear() -> SendError {
    SendError::Unfit(Unfit {
        code: "egress.unclear",
        why: "the request cannot be written in one way".to_owned(),
    })
}

async fn read(mut response: Response, most: usize) -> Result<Vec<u8>, SendError> {
    if response.content_length().is_some_and(|length| length > most as u64) {
        return Err(SendError::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| failed(&e))? {
        if body.len() + chunk.len() > most {
            return Err(SendError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Takes out of an answer what the agent must not read.
fn clean(
    api: &Api,
    action: &Action,
    status: StatusCode,
    headers: &HeaderMap,
    body: Vec<u8>,
) -> Result<Clean, SendError> {
    let bytes = body.len() as u64;
    let media = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("").to_ascii_lowercase();
    let essence = media.split(';').next().unwrap_or("").trim();
    let is_json = essence == "application/json" || essence.ends_with("+json");
    let value = if is_json { Value::parse(&body).ok() } else { None };
    let (body, result) = match value {
        Some(value) => {
            let picked = pick(value, &action.answer);
            let cut = api.echo.cut_value(picked).ok_or(SendError::KeyEchoed)?;
            (cut.canonical().into_bytes(), Some(cut))
        }
        // Errors come in any form; of a good answer, only what can be picked apart is picked from.
        None if action.answer.filters() && status.is_success() && !body.is_empty() => {
            return Err(SendError::Unfilterable);
        }
        None if action.answer.filters() => (Vec::new(), None),
        None => (api.echo.cut(&body).ok_or(SendError::KeyEchoed)?, None),
    };
    Ok(Clean { status, headers: shown(api, headers), body, result, bytes })
}

fn shown(api: &Api, headers: &HeaderMap) -> HeaderMap {
    let named = |name: &HeaderName| {
        SHOWN.contains(name) || SHOWN_BEGINNINGS.iter().any(|start| name.as_str().starts_with(start))
    };
    let mut out = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| named(name)) {
        let cut = api.echo.cut(value.as_bytes()).and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
        if let Some(value) = cut {
            out.append(name.clone(), value);
        }
    }
    out
}

impl AnswerSpec {
    fn filters(&self) -> bool {
        !self.keep.is_empty() || !self.drop.is_empty()
    }
}

/// Keeps what is to be kept, then drops what is to be dropped.
fn pick(value: Value, answer: &AnswerSpec) -> Value {
    let kept = match answer.keep.is_empty() {
        true => value,
        false => keep(value, &split(&answer.keep)),
    };
    split(&answer.drop).iter().fold(kept, |value, path| remove(value, path))
}

fn split(paths: &[String]) -> Vec<Vec<&str>> {
    paths.iter().map(|path| path.split('.').collect()).collect()
}

/// The members that lie on one of the paths; lists are looked through. What is no object below a path that goes
/// on is dropped.
fn keep(value: Value, paths: &[Vec<&str>]) -> Value {
    match value {
        Value::List(items) => Value::List(items.into_iter().map(|item| keep(item, paths)).collect()),
        Value::Map(members) => {
            let mut out = BTreeMap::new();
            for (name, value) in members {
                let rests: Vec<Vec<&str>> = paths
                    .iter()
                    .filter_map(|path| path.split_first().filter(|(first, _)| **first == name))
                    .map(|(_, rest)| rest.to_vec())
                    .collect();
                if rests.iter().any(Vec::is_empty) {
                    out.insert(name, value);
                } else if !rests.is_empty() {
                    out.insert(name, keep(value, &rests));
                }
            }
            Value::Map(out)
        }
        _ => Value::Null,
    }
}

fn remove(value: Value, path: &[&str]) -> Value {
    let Some((first, rest)) = path.split_first() else { return value };
    match value {
        Value::List(items) => Value::List(items.into_iter().map(|item| remove(item, path)).collect()),
        Value::Map(mut members) => {
            if rest.is_empty() {
                members.remove(*first);
            } else if let Some(inner) = members.remove(*first) {
                members.insert((*first).to_owned(), remove(inner, rest));
            }
            Value::Map(members)
        }
        other => other,
    }
}

/// A failed exchange, by its causes and never by its text: that may hold the URL.
fn failed(error: &reqwest::Error) -> SendError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(this) = cause {
        if this.is::<NotPublic>() {
            return SendError::Address;
        }
        if this.is::<rustls::Error>() && error.is_connect() {
            return SendError::Certificate;
        }
        let inner = this.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner),
            None => this.source(),
        };
    }
    if error.is_timeout() && !error.is_connect() {
        SendError::Timeout
    } else if error.is_connect() || error.is_builder() {
        SendError::Unreachable
    } else {
        SendError::Gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(json: &str, keep: &[&str], drop: &[&str]) -> String {
        let owned = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect();
        let answer = AnswerSpec { keep: owned(keep), drop: owned(drop), ..AnswerSpec::default() };
        pick(Value::parse(json.as_bytes()).unwrap(), &answer).canonical()
    }

    #[test]
    fn an_answer_is_picked_from_by_paths_through_lists() {
        let json = r#"[{"id":1,"mail":"a@b","card":{"no":"4","exp":"1"}},{"id":2,"card":"x"}]"#;
        assert_eq!(picked(json, &["id"], &[]), r#"[{"id":1},{"id":2}]"#);
        assert_eq!(
            picked(json, &["id", "card.exp"], &[]),
            r#"[{"card":{"exp":"1"},"id":1},{"card":null,"id":2}]"#
        );
        assert_eq!(
            picked(json, &[], &["card.no", "mail"]),
            r#"[{"card":{"exp":"1"},"id":1},{"card":"x","id":2}]"#
        );
        assert_eq!(picked(json, &["card"], &["card.no"]), r#"[{"card":{"exp":"1"}},{"card":"x"}]"#);
        assert_eq!(picked("\"a secret\"", &["id"], &[]), "null");
        assert_eq!(picked(json, &[], &[]), Value::parse(json.as_bytes()).unwrap().canonical());
    }
}
