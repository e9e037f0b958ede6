//! The line in front of a writer: bounded, answered one by one, the same for both backends.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{AppendError, Fault, StoreError};
use crate::record::{Append, Appended, Health, HealthState, Remembered, StoredCheckpoint};

/// Requests that may wait for the writer; more are told to come back.
const WAITING_MAX: usize = 4096;
/// How long a caller stands in a full line before it hears `store.busy`.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bounds of one commit, so that no batch outgrows memory or a statement timeout.
const BATCH_REQUESTS_MAX: usize = 1024;
const BATCH_BYTES_MAX: usize = 8 << 20;

/// What a writer can be asked for.
#[derive(Debug)]
pub(crate) enum Job {
    Append(Append),
    /// An append that takes authority away: it may use the space kept back for it.
    Ending(Append),
    Remember(Once),
    Checkpoint(StoredCheckpoint),
}

/// A key to be seen once.
#[derive(Debug)]
pub(crate) struct Once {
    pub(crate) scope: String,
    pub(crate) key: [u8; 32],
    pub(crate) value: Vec<u8>,
    pub(crate) expires_ms: u64,
    pub(crate) now_ms: u64,
}

/// What a writer has done, durably.
#[derive(Debug, Clone)]
pub(crate) enum Done {
    Appended(Appended),
    Remembered(Remembered),
    Kept,
}

pub(crate) type Outcome = Result<Done, AppendError>;

/// One job and where its outcome goes.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) job: Job,
    answer: oneshot::Sender<Outcome>,
}

impl Request {
    /// Tells the caller; one who has left is not waited for.
    pub(crate) fn answer(self, outcome: Outcome) {
        let _left = self.answer.send(outcome);
    }

    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.job, Job::Ending(_))
    }

    fn bytes(&self) -> usize {
        match &self.job {
            Job::Append(append) | Job::Ending(append) => {
                let values = append.views.iter().filter_map(|put| put.value.as_ref()).map(Vec::len);
                append.events.iter().map(|event| event.bytes.len()).chain(values).sum()
            }
            Job::Remember(once) => once.value.len(),
            Job::Checkpoint(checkpoint) => checkpoint.note.len(),
        }
    }
}

#[derive(Debug)]
enum Message {
    Work(Request),
    Close(oneshot::Sender<()>),
}

/// The callers' end of the line.
#[derive(Clone, Debug)]
pub(crate) struct Queue(mpsc::Sender<Message>);

/// The writer's end of the line.
#[derive(Debug)]
pub(crate) struct Waiting {
    messages: mpsc::Receiver<Message>,
    closing: Option<oneshot::Sender<()>>,
}

pub(crate) fn line() -> (Queue, Waiting) {
    let (sender, messages) = mpsc::channel(WAITING_MAX);
    (Queue(sender), Waiting { messages, closing: None })
}

impl Queue {
    /// Waits for the writer's answer. When the caller gives up waiting, the job may still be done.
    pub(crate) async fn ask(&self, job: Job) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        let request = Message::Work(Request { job, answer });
        self.0.send_timeout(request, PATIENCE).await.map_err(|refused| match refused {
            SendTimeoutError::Timeout(_) => {
                StoreError::new(Fault::Busy, format!("{WAITING_MAX} requests are waiting for the writer"))
            }
            SendTimeoutError::Closed(_) => closed(),
        })?;
        outcome.await.unwrap_or_else(|_| Err(closed().into()))
    }

    /// Lets the writer finish what is waiting, and returns when it has let go of the store.
    pub(crate) async fn close(&self) {
        let (closing, gone) = oneshot::channel();
        if self.0.send(Message::Close(closing)).await.is_ok() {
            let _writer_left = gone.await;
        }
        self.0.closed().await;
    }
}

fn closed() -> StoreError {
    StoreError::new(Fault::Closed, "its writer has stopped")
}

impl Waiting {
    /// Everything waiting, at least one request, at most a batch; `None` when the store is to be let go.
    /// For a writer on its own thread.
    pub(crate) fn batch_blocking(&mut self) -> Option<Vec<Request>> {
        let first = self.messages.blocking_recv();
        self.gather(first)
    }

    /// The same for a writer that is a task.
    pub(crate) async fn batch(&mut self) -> Option<Vec<Request>> {
        let first = self.messages.recv().await;
        self.gather(first)
    }

    fn gather(&mut self, first: Option<Message>) -> Option<Vec<Request>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut next = first;
        while let Some(message) = next {
            match message {
                Message::Work(request) => {
                    bytes += request.bytes();
                    batch.push(request);
                }
                Message::Close(told) => {
                    self.closing = Some(told);
                    self.messages.close(); // what is in the line is still served, nothing new comes in
                }
            }
            if batch.len() >= BATCH_REQUESTS_MAX || bytes >= BATCH_BYTES_MAX {
                break;
            }
            next = self.messages.try_recv().ok();
        }
        if batch.is_empty() { None } else { Some(batch) }
    }

    /// To be called last, after every file and lock has been let go.
    pub(crate) fn left(self) {
        if let Some(told) = self.closing {
            let _owner_left = told.send(());
        }
    }
}

/// What everyone may know about a store: how far it is and how it fares.
#[derive(Debug)]
pub(crate) struct Status {
    backend: &'static str,
    size: watch::Sender<u64>,
    health: Mutex<(HealthState, Option<StoreError>)>,
}

impl Status {
    pub(crate) fn new(backend: &'static str, size: u64) -> Self {
        Status { backend, size: watch::Sender::new(size), health: Mutex::new((HealthState::Up, None)) }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.size.subscribe()
    }

    /// Committed leaves; the number only rises, whoever reports it.
    pub(crate) fn committed(&self, size: u64) {
        self.size.send_if_modified(|known| {
            let newer = size > *known;
            *known = size.max(*known);
            newer
        });
    }

    pub(crate) fn up(&self) {
        self.lock().0 = HealthState::Up;
    }

    pub(crate) fn failed(&self, state: HealthState, error: &StoreError) {
        tracing::error!(code = error.code(), %error, backend = self.backend, "the store failed");
        *self.lock() = (state, Some(error.clone()));
    }

    pub(crate) fn health(&self) -> Health {
        let (state, last_error) = self.lock().clone();
        Health { backend: self.backend, state, last_error }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (HealthState, Option<StoreError>)> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
