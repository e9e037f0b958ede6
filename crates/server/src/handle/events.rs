//! The event stream (text/event-stream): what was committed, as far as the person may see it.
//!
//! Each notice carries its index in the ledger as its id; who comes back with `Last-Event-ID` misses nothing. A
//! stream ends within a second when the person behind it is changed.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use bailiwick_api::wire::EventNotice;
use bailiwick_core::agent::{OPERATORS, Person};
use bailiwick_core::{TaskId, Time};
use bailiwick_engine::{Engine, EngineError};
use bailiwick_store::Recorded;
use futures_util::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::body::Reply;
use crate::guard::Ask;
use crate::handle::audit::is_own;
use crate::handle::tasks::may_see;
use crate::refusal::Refusal;
use crate::state::ServerState;

/// Events read at once.
const BATCH: usize = 256;
/// How long a quiet stream may go on after a change of the person behind it: a commit is announced before the
/// registry has folded it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(crate) async fn stream(state: ServerState, person: Person, ask: Ask) -> Result<Reply, Refusal> {
    let permit = std::sync::Arc::clone(&state.streams).try_acquire_owned().map_err(|_| {
        Refusal::new(
            503,
            "events.full",
            "too many event streams are open",
            "close one, or try again in a moment",
        )
    })?;
    let committed = state.engine.store().subscribe();
    let next = match ask.headers.get("last-event-id") {
        Some(id) => {
            id.to_str().ok().and_then(|t| t.parse::<u64>().ok()).map(|n| n.saturating_add(1)).ok_or_else(
                || {
                    Refusal::new(
                        400,
                        "events.last_id",
                        "Last-Event-ID is an index of the ledger",
                        "send one, or none",
                    )
                },
            )?
        }
        None => state.engine.store().head().await.map_err(EngineError::from)?.size,
    };
    let watched = Watched {
        engine: state.engine,
        person,
        committed,
        closing: state.closing.subscribe(),
        next,
        ready: VecDeque::new(),
        shown: BTreeSet::new(),
        _permit: permit,
    };
    let sse = Sse::new(notices(watched)).keep_alive(KeepAlive::default());
    Ok(Reply::Other(sse.into_response()))
}

/// One stream of one person.
struct Watched {
    engine: Engine,
    person: Person,
    committed: watch::Receiver<u64>,
    closing: watch::Receiver<bool>,
    next: u64,
    ready: VecDeque<EventNotice>,
    shown: BTreeSet<TaskId>,
    _permit: OwnedSemaphorePermit,
}

fn notices(watched: Watched) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(watched, |mut watched| async move {
        let notice = watched.notice().await?;
        let event = Event::default().id(notice.index.to_string()).event(&notice.kind);
        let event = event.json_data(&notice).ok()?;
        Some((Ok(event), watched))
    })
}

impl Watched {
    /// The next notice; `None` ends the stream.
    async fn notice(&mut self) -> Option<EventNotice> {
        loop {
            let same = self.engine.look(|r| r.person(&self.person.id) == Some(&self.person));
            if !same {
                return None;
            }
            if let Some(notice) = self.ready.pop_front() {
                return Some(notice);
            }
            self.committed.borrow_and_update();
            let read = match self.engine.store().scan(self.next, BATCH).await {
                Ok(read) => read,
                Err(error) => {
                    tracing::warn!(code = error.code(), "an event stream ends: the ledger cannot be read");
                    return None;
                }
            };
            if read.is_empty() {
                tokio::select! {
                    more = self.committed.changed() => more.ok()?,
                    _ = self.closing.wait_for(|closing| *closing) => return None,
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                }
            }
            for recorded in read {
                self.next = recorded.index.saturating_add(1);
                if self.may_see(&recorded).await {
                    self.ready.push_back(notice(&recorded));
                }
            }
        }
    }

    async fn may_see(&mut self, recorded: &Recorded) -> bool {
        if !is_own(&self.engine, recorded) {
            return false;
        }
        if self.person.is_in(OPERATORS) {
            return true;
        }
        let Some(task) = task_of(&recorded.stream) else { return false };
        if self.shown.contains(&task) {
            return true;
        }
        let seen = self.engine.task(&task).await.is_ok_and(|t| may_see(&self.person, &t));
        if seen {
            self.shown.insert(task);
        }
        seen
    }
}

/// The task a stream belongs to: `tenant/task/ID`.
fn task_of(stream: &str) -> Option<TaskId> {
    let (_, rest) = stream.split_once('/')?;
    TaskId::parse(rest.strip_prefix("task/")?).ok()
}

fn notice(recorded: &Recorded) -> EventNotice {
    EventNotice {
        index: recorded.index,
        stream: recorded.stream.clone(),
        kind: recorded.kind.clone(),
        time: Time(recorded.time_ms),
        task: task_of(&recorded.stream).map(|t| t.to_string()),
    }
}
