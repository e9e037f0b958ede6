//! Bodies: read once, strictly, in bounds and in time; written in one way.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bailiwick_core::Value;
use bailiwick_core::value::BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::refusal::Refusal;

/// How long a body may take to arrive.
const ARRIVE: Duration = Duration::from_secs(10);

/// Reads a body of at most 1 MiB.
pub(crate) async fn read(body: Body) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(ARRIVE, axum::body::to_bytes(body, BYTES_MAX)).await {
        Err(_) => Err(Refusal::new(408, "body.slow", "the body did not arrive in time", "send it again")),
        Ok(Err(error)) if is_too_large(&error) => Err(Refusal::new(
            413,
            "body.too_large",
            format!("the body is larger than {BYTES_MAX} bytes"),
            "send less",
        )),
        Ok(Err(_)) => Err(Refusal::new(400, "body.broken", "the body broke off", "send it again")),
        Ok(Ok(bytes)) => Ok(bytes),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|e| e.is::<http_body_util::LengthLimitError>())
}

/// Refuses a body of another media type, or a compressed one, before it is read. A page of another origin can
/// post a form without asking; it cannot post JSON (threat A48).
pub(crate) fn check_media(headers: &HeaderMap, wanted: &str) -> Result<(), Refusal> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim();
    if !essence.eq_ignore_ascii_case(wanted) || headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Refusal::new(
            415,
            "body.media",
            format!("the body must be plain {wanted}"),
            "set Content-Type",
        ));
    }
    Ok(())
}

/// Reads strict JSON: valid UTF-8, no duplicate keys anywhere, no lossy number, bounded depth, no unknown member.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    Value::parse(bytes).map_err(|e| Refusal::new(400, e.code(), e.to_string(), "send valid JSON"))?;
    serde_json::from_slice(bytes).map_err(|e| {
        Refusal::new(400, "body.malformed", e.to_string(), "see /openapi.json for what this takes")
    })
}

/// Reads a form. A name that comes twice is refused (RFC 6749 section 3.2).
pub(crate) fn form(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut all = BTreeMap::new();
    for pair in text.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if all.insert(decoded(name)?, decoded(value)?).is_some() {
            return None;
        }
    }
    Some(all)
}

/// `+` and percent escapes undone; `None` for a broken escape or what is not UTF-8.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |b: u8| char::from(b).to_digit(16);
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

/// What a handler gives.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A body, kept for replay where the request carries an `Idempotency-Key`.
    Body { status: StatusCode, media: &'static str, bytes: Vec<u8> },
    /// Something that is no plain body, such as a stream.
    Other(Response),
}

impl Reply {
    /// Nothing to say.
    pub(crate) fn done() -> Result<Reply, Refusal> {
        Ok(Reply::Body { status: StatusCode::OK, media: "application/json", bytes: b"null".to_vec() })
    }

    pub(crate) fn json<T: Serialize>(thing: &T) -> Result<Reply, Refusal> {
        Reply::json_with(StatusCode::OK, thing)
    }

    pub(crate) fn json_with<T: Serialize>(status: StatusCode, thing: &T) -> Result<Reply, Refusal> {
        let bytes = serde_json::to_vec(thing)
            .map_err(|e| Refusal::new(500, "answer.unwritable", e.to_string(), "report this as a bug"))?;
        Ok(Reply::Body { status, media: "application/json", bytes })
    }

    pub(crate) fn into_response(self) -> Response {
        match self {
            Reply::Body { status, media, bytes } => bytes_response(status, media, bytes),
            Reply::Other(response) => response,
        }
    }
}

/// A response that no cache keeps and no browser guesses about.
pub(crate) fn bytes_response(status: StatusCode, media: &'static str, bytes: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_once_or_not_at_all() {
        let read = form(b"grant_type=a%3Ab&task=t-1+x").unwrap();
        assert_eq!((read["grant_type"].as_str(), read["task"].as_str()), ("a:b", "t-1 x"));
        for bad in [&b"a=1&a=2"[..], b"a=%4", b"a=%zz", b"a=%ff", b"a=\xff", b"a=%+1"] {
            assert!(form(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn strict_json_takes_one_reading_only() {
        type Map = BTreeMap<String, u32>;
        assert!(json::<Map>(br#"{"a":1}"#).is_ok());
        let deep = format!("{}{}", "[".repeat(80), "]".repeat(80));
        for bad in [&br#"{"a":1,"a":2}"#[..], b"{\"\xff\":1}", b"{} {}", b"", deep.as_bytes()] {
            assert_eq!(json::<Map>(bad).unwrap_err().problem.status, 400, "{bad:?}");
        }
    }
}
