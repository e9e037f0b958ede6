//! `subscriptions/listen`: telling a stateless client that its tools changed (MCP 2026-07-28, subscriptions).
//!
//! The stream carries the news that a list changed and never what is in it. It ends with the caller's token
//! or task, whichever comes first, and with a proper result, so that the client knows it was no accident.

use crate::door::Door;
use crate::envelope::{self, Request, RpcId};
use crate::gateway::Gateway;
use axum::body::{Body, Bytes};
use axum::response::Response;
use bailiwick_api::{Caller, DecisionPoint};
use bailiwick_core::Value;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::sleep;

/// Most streams at once in one gateway.
pub(crate) const STREAMS_MAX: usize = 1024;
/// `_meta` key that names the subscription.
const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

struct Listener<P, D> {
    gateway: Arc<Gateway<P, D>>,
    caller: Caller,
    id: RpcId,
    wanted: bool,
    changed: watch::Receiver<u64>,
    state: State,
    _room: Option<OwnedSemaphorePermit>,
}

#[derive(PartialEq)]
enum State {
    Begun,
    Open,
    Ended,
}

/// Answers with a stream. Without room for one more, it is acknowledged and ended at once.
pub(crate) fn listen<P: DecisionPoint, D: Door>(
    gateway: Arc<Gateway<P, D>>,
    caller: Caller,
    request: &Request,
) -> Response {
    let filter = request.params.get("notifications");
    let wanted = filter.and_then(|f| f.get("toolsListChanged")) == Some(&Value::Bool(true));
    let room = gateway.streams.clone().try_acquire_owned().ok();
    let changed = gateway.upstreams.changes();
    let listener = Listener {
        wanted: wanted && room.is_some(),
        gateway,
        caller,
        id: request.id.clone(),
        changed,
        state: State::Begun,
        _room: room,
    };
    let events = futures_util::stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(event)), listener))
    });
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl<P: DecisionPoint, D: Door> Listener<P, D> {
    /// The next event; `None` after the last.
    async fn next(&mut self) -> Option<String> {
        match self.state {
            State::Begun => {
                self.state = State::Open;
                Some(self.acknowledged())
            }
            State::Open if self.wanted && self.may_listen().await => Some(self.wait().await),
            State::Open => {
                self.state = State::Ended;
                let result = Value::from([("resultType", Value::from("complete")), ("_meta", self.meta())]);
                Some(event(&envelope::result(&self.id, &result)))
            }
            State::Ended => None,
        }
    }

    /// The next change, or a sign of life; between two of them the caller is checked.
    async fn wait(&mut self) -> String {
        tokio::select! {
            changed = self.changed.changed() => match changed {
                Ok(()) => event(&envelope::notification("notifications/tools/list_changed", &Value::from([("_meta", self.meta())]))),
                Err(_) => {
                    self.wanted = false;
                    ":\n\n".to_owned()
                }
            },
            () = sleep(self.gateway.config.live_poll * 10) => ":\n\n".to_owned(),
        }
    }

    async fn may_listen(&self) -> bool {
        crate::forward::now() < self.caller.until && self.gateway.point.live(&self.caller).await
    }

    fn acknowledged(&self) -> String {
        let agreed = match self.wanted {
            true => Value::from([("toolsListChanged", Value::from(true))]),
            false => Value::empty(),
        };
        let params = Value::from([("_meta", self.meta()), ("notifications", agreed)]);
        event(&envelope::notification("notifications/subscriptions/acknowledged", &params))
    }

    fn meta(&self) -> Value {
        Value::from([(META_SUBSCRIPTION, Value::from(self.id.clone()))])
    }
}

fn event(message: &str) -> String {
    format!("event: message\ndata: {message}\n\n")
}
