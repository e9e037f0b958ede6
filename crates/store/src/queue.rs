//! The line in front of a writer: bounded, answered one by one, the same for both backends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
/// How long what is in no hurry waits for something that is, to share its flush.
const LINGER: Duration = Duration::from_millis(2);
/// When so much lingers, what comes next waits until it is done.
const LINGERING_MAX: usize = 256;

/// What a writer can be asked for.
#[derive(Debug)]
pub(crate) enum Job {
    Append(Append),
    /// An append that takes authority away: it may use the space kept back for it.
    Ending(Append),
    Remember(Once),
    Checkpoint(StoredCheckpoint),
    /// Nothing, answered when all that was asked for before has been committed.
    Settle,
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
    /// Counted as long as it is unanswered, if it was in no hurry.
    _counted: Option<Counted>,
}

impl Request {
    /// A request that is in a hurry, and where its outcome is to be heard.
    pub(crate) fn new(job: Job) -> (Self, oneshot::Receiver<Outcome>) {
        let (answer, outcome) = oneshot::channel();
        (Request { job, answer, _counted: None }, outcome)
    }

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
            Job::Settle => 0,
        }
    }
}

/// One of those that are in no hurry and not answered yet.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn one(of: &Arc<AtomicUsize>) -> Self {
        of.fetch_add(1, Ordering::AcqRel);
        Counted(Arc::clone(of))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Beside the line: requests that wait for the next one in it, or for [`LINGER`]. Absent once the writer has left.
#[derive(Clone, Debug, Default)]
struct Lingering {
    requests: Arc<Mutex<Option<Vec<Request>>>>,
    unanswered: Arc<AtomicUsize>,
}

impl Lingering {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Request>>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self) -> bool {
        self.lock().as_ref().is_some_and(|requests| requests.len() >= LINGERING_MAX)
    }

    fn take(&self) -> Vec<Request> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }
}

#[derive(Debug)]
enum Message {
    Work(Request),
    Close(oneshot::Sender<()>),
}

/// The callers' end of the line.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    line: mpsc::Sender<Message>,
    lingering: Lingering,
}

/// The writer's end of the line.
#[derive(Debug)]
pub(crate) struct Waiting {
    messages: mpsc::Receiver<Message>,
    lingering: Lingering,
    closing: Option<oneshot::Sender<()>>,
}

pub(crate) fn line() -> (Queue, Waiting) {
    let (line, messages) = mpsc::channel(WAITING_MAX);
    let lingering = Lingering { requests: Arc::new(Mutex::new(Some(Vec::new()))), ..Lingering::default() };
    (Queue { line, lingering: lingering.clone() }, Waiting { messages, lingering, closing: None })
}

impl Queue {
    /// Waits for the writer's answer. When the caller gives up waiting, the job may still be done.
    pub(crate) async fn ask(&self, job: Job) -> Outcome {
        let (request, outcome) = Request::new(job);
        self.enter(request).await?;
        outcome.await.unwrap_or_else(|_| Err(closed().into()))
    }

    /// Whether nobody stands in the line.
    pub(crate) fn is_empty(&self) -> bool {
        self.line.capacity() == self.line.max_capacity()
    }

    /// What lingers, and after it this request: for whoever writes without standing in the line.
    pub(crate) fn with_lingering(&self, request: Request) -> Vec<Request> {
        let mut batch = self.lingering.take();
        batch.push(request);
        batch
    }

    async fn enter(&self, request: Request) -> Result<(), StoreError> {
        let entered = self.line.send_timeout(Message::Work(request), PATIENCE).await;
        entered.map_err(|refused| match refused {
            SendTimeoutError::Timeout(_) => {
                StoreError::new(Fault::Busy, format!("{WAITING_MAX} requests are waiting for the writer"))
            }
            SendTimeoutError::Closed(_) => closed(),
        })
    }

    /// Does not wait: what is asked for is done in order with everything else, but not on its own before
    /// [`LINGER`] is over. Every read of the store sees it.
    pub(crate) async fn ask_soon(&self, job: Job) -> oneshot::Receiver<Outcome> {
        let (answer, outcome) = oneshot::channel();
        let counted = Some(Counted::one(&self.lingering.unanswered));
        let request = Request { job, answer, _counted: counted };
        if self.lingering.is_full() {
            let _either_way = self.settle().await;
        }
        // Once the writer has left, the request is dropped, which whoever asked hears.
        let first = self.lingering.lock().as_mut().is_some_and(|requests| {
            requests.push(request);
            requests.len() == 1
        });
        if first {
            let later = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(LINGER).await;
                let _either_way = later.settle().await;
            });
        }
        outcome
    }

    /// Waits until nothing is left of what was in no hurry.
    pub(crate) async fn settle(&self) -> Result<(), AppendError> {
        if self.lingering.unanswered.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        self.ask(Job::Settle).await.map(|_| ())
    }

    /// Lets the writer finish what is waiting, and returns when it has let go of the store.
    pub(crate) async fn close(&self) {
        let (closing, gone) = oneshot::channel();
        if self.line.send(Message::Close(closing)).await.is_ok() {
            let _writer_left = gone.await;
        }
        self.line.closed().await;
    }
}

pub(crate) fn closed() -> StoreError {
    StoreError::new(Fault::Closed, "its writer has stopped")
}

impl Waiting {
    /// Everything waiting, at least one request, at most a batch; `None` when the store is to be let go.
    /// For a writer on its own thread, which takes hold of what it writes with once something has come, and before
    /// anything is taken from what waits.
    pub(crate) fn batch_blocking<H>(&mut self, hold: impl Fn() -> H) -> Option<(H, Vec<Request>)> {
        loop {
            let first = self.messages.blocking_recv();
            let (over, held) = (first.is_none(), hold());
            let batch = self.gather(first);
            if over || !batch.is_empty() {
                return (!batch.is_empty()).then_some((held, batch));
            }
        }
    }

    /// The same for a writer that is a task.
    pub(crate) async fn batch(&mut self) -> Option<Vec<Request>> {
        loop {
            let first = self.messages.recv().await;
            let over = first.is_none();
            let batch = self.gather(first);
            if over || !batch.is_empty() {
                return (!batch.is_empty()).then_some(batch);
            }
        }
    }

    /// What lingers comes first: whoever asked for it did so before asking for what follows.
    fn gather(&mut self, first: Option<Message>) -> Vec<Request> {
        let mut batch = self.lingering.take();
        let mut bytes: usize = batch.iter().map(Request::bytes).sum();
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
        batch
    }

    /// To be called last, after every file and lock has been let go.
    pub(crate) fn left(self) {
        *self.lingering.lock() = None;
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
