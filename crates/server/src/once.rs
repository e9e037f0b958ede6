//! `Idempotency-Key`: a POST that is sent again is answered as before and not done again.
//!
//! The key is claimed, durably, before anything is done, and the answer is kept afterwards. If the process ends
//! in between, the claim stays without an answer, and who comes again hears exactly that: look before you repeat.

use axum::http::{HeaderMap, StatusCode};
use bailiwick_core::agent::Person;
use bailiwick_core::{Digest, Time};
use bailiwick_engine::Engine;
use bailiwick_store::Remembered;
use serde::{Deserialize, Serialize};

use crate::body::Reply;
use crate::refusal::Refusal;

/// How long a key is remembered: a day.
const KEPT_MS: u64 = 24 * 3_600_000;
/// Longest key.
const KEY_MAX: usize = 200;

/// One act of one person under one key.
pub(crate) struct Once {
    id: [u8; 32],
    body: Digest,
}

/// What is known of a key.
pub(crate) enum Known {
    /// Nothing: do it, then keep the answer.
    Fresh(Once),
    /// It was done: this is the answer.
    Done(Reply),
}

/// An answer as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    status: u16,
    problem: bool,
    body: String,
}

impl Once {
    /// Claims the request's key, if it has one.
    pub(crate) async fn claim(
        engine: &Engine,
        person: &Person,
        route: &str,
        path: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Option<Known>, Refusal> {
        let Some(key) = key_of(headers)? else { return Ok(None) };
        let parts = [person.id.as_str(), route, path, key].map(str::as_bytes);
        let once = Once { id: *Digest::of_parts(&parts).as_bytes(), body: Digest::of(body) };
        let now = engine.now();
        let claim = once.body.as_bytes().to_vec();
        let seen = remember(engine, "claim", &once.id, claim.clone(), now.plus_ms(KEPT_MS)).await?;
        match seen {
            Remembered::New => Ok(Some(Known::Fresh(once))),
            Remembered::Seen(body) if body == claim => {
                once.answer(engine).await.map(|a| Some(Known::Done(a)))
            }
            Remembered::Seen(_) => Err(Refusal::new(
                422,
                "idempotency.reused",
                "this Idempotency-Key was used for another request",
                "use a new key for a new act",
            )),
        }
    }

    /// Keeps the answer, as [`written`] gives it.
    pub(crate) async fn keep(&self, engine: &Engine, bytes: Vec<u8>) -> Result<(), Refusal> {
        // Somebody who looked for the answer a moment ago left a mark that is about to expire.
        for _ in 0..50 {
            let until = engine.now().plus_ms(KEPT_MS);
            match remember(engine, "answer", &self.id, bytes.clone(), until).await? {
                Remembered::Seen(mark) if mark.is_empty() => {
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    async fn answer(&self, engine: &Engine) -> Result<Reply, Refusal> {
        let moment = engine.now().plus_ms(1);
        match remember(engine, "answer", &self.id, Vec::new(), moment).await? {
            Remembered::Seen(bytes) if !bytes.is_empty() => replay(&bytes).ok_or_else(unknown),
            _ => Err(unknown()),
        }
    }
}

/// An answer as it is kept; nothing for one that is no plain body.
pub(crate) fn written(answer: &Result<Reply, Refusal>) -> Option<Vec<u8>> {
    let kept = match answer {
        Ok(Reply::Body { status, bytes, .. }) => {
            Kept { status: status.as_u16(), problem: false, body: String::from_utf8(bytes.clone()).ok()? }
        }
        Ok(Reply::Other(_)) => return None,
        Err(refusal) => Kept {
            status: refusal.problem.status,
            problem: true,
            body: serde_json::to_string(&refusal.problem).ok()?,
        },
    };
    serde_json::to_vec(&kept).ok()
}

fn unknown() -> Refusal {
    Refusal::new(
        409,
        "idempotency.unknown",
        "a request with this Idempotency-Key was taken, and its answer is not known here: it is still running, or the \
         server ended in between",
        "look whether it was done; if not, send it with a new key",
    )
}

fn replay(bytes: &[u8]) -> Option<Reply> {
    let kept: Kept = serde_json::from_slice(bytes).ok()?;
    let media = if kept.problem { bailiwick_api::wire::PROBLEM_JSON } else { "application/json" };
    Some(Reply::Body {
        status: StatusCode::from_u16(kept.status).ok()?,
        media,
        bytes: kept.body.into_bytes(),
    })
}

async fn remember(
    engine: &Engine,
    what: &str,
    id: &[u8; 32],
    value: Vec<u8>,
    until: Time,
) -> Result<Remembered, Refusal> {
    let scope = format!("{}/idempotency/{what}", engine.tenant());
    let asked = engine.store().remember_once(&scope, id, value, until.0, engine.now().0).await;
    asked.map_err(|e| bailiwick_engine::EngineError::from(e).into())
}

fn key_of(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut all = headers.get_all("idempotency-key").iter();
    let Some(key) = all.next() else { return Ok(None) };
    let text = key.to_str().ok().filter(|t| (1..=KEY_MAX).contains(&t.len()));
    match (text, all.next()) {
        (Some(text), None) => Ok(Some(text)),
        _ => Err(Refusal::new(
            400,
            "idempotency.malformed",
            format!("an Idempotency-Key is one text of 1 to {KEY_MAX} visible characters"),
            "send one, or none",
        )),
    }
}
