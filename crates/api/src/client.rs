//! The client of a person: one method for each thing a person may ask over HTTP.
//!
//! Every failure says which of three it is: the server was not reached ([`ClientError::Unreachable`]), it
//! refused and said why ([`ClientError::Refused`]), or it answered something that is not this API
//! ([`ClientError::Foreign`]).

use std::time::Duration;

use bailiwick_core::{AgentId, ApprovalId, DecisionId, Digest, LeaseId, TaskId, ToolId};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::*;

/// Why a call did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server was not reached, or the connection broke: whether it did anything is not known.
    #[error("{base} cannot be reached: {why}. Start it with `bailiwick up`, or name another with --server")]
    Unreachable {
        /// The server.
        base: String,
        /// Why.
        why: String,
    },
    /// The server refused.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The answer is not one of this API.
    #[error("{base} answered {status}, but not as bailiwick does: {why}")]
    Foreign {
        /// The server.
        base: String,
        /// The HTTP status.
        status: u16,
        /// What is odd.
        why: String,
    },
    /// The address or the key cannot be used.
    #[error("{0}")]
    Unusable(String),
}

impl ClientError {
    /// Stable code.
    pub fn code(&self) -> &str {
        match self {
            ClientError::Unreachable { .. } => "server.unreachable",
            ClientError::Refused(problem) => &problem.code,
            ClientError::Foreign { .. } => "server.foreign",
            ClientError::Unusable(_) => "client.unusable",
        }
    }
    /// Whether the server was not reached.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, ClientError::Unreachable { .. })
    }
    /// The problem, if the server said one.
    pub fn problem(&self) -> Option<&Problem> {
        if let ClientError::Refused(problem) = self { Some(problem) } else { None }
    }
}

/// What a call gives.
pub type Answered<T> = Result<T, ClientError>;

/// A signed-in person. Cheap to clone.
#[derive(Clone)]
pub struct People {
    http: reqwest::Client,
    base: Url,
    key: String,
    once: Option<String>,
}

impl std::fmt::Debug for People {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("People").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// How long an answer may take. Event streams have no limit.
const ANSWER: Duration = Duration::from_secs(30);

impl People {
    /// A person at the server `base` (`http://127.0.0.1:7117`), who signs in with `key` (`bwk_…`).
    ///
    /// # Errors
    /// [`ClientError::Unusable`] if either cannot be one.
    pub fn new(base: &str, key: impl Into<String>) -> Answered<People> {
        let unusable = |why: String| ClientError::Unusable(why);
        let base =
            Url::parse(base).map_err(|e| unusable(format!("`{base}` is not a server's address: {e}")))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(unusable(format!("`{base}` is not an http or https address")));
        }
        let key = key.into();
        if key_digest(&key).is_none() {
            return Err(unusable("a key is `bwk_` and 43 letters, digits, `-` or `_`".to_owned()));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| unusable(format!("no HTTP client can be made: {e}")))?;
        Ok(People { http, base, key, once: None })
    }

    /// The same person, whose POSTs carry this `Idempotency-Key`: sent again, they are answered and not done
    /// again. One key for one act.
    #[must_use]
    pub fn once(&self, key: impl Into<String>) -> People {
        People { once: Some(key.into()), ..self.clone() }
    }

    /// The server's address.
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The control plane at a glance.
    pub async fn status(&self) -> Answered<Status> {
        self.get(&["v1", "status"], &[]).await
    }
    /// What stands anywhere.
    pub async fn standing(&self) -> Answered<StandingView> {
        self.get(&["v1", "standing"], &[]).await
    }
    /// What is alive.
    pub async fn inventory(&self) -> Answered<InventoryView> {
        self.get(&["v1", "inventory"], &[]).await
    }

    /// What became of a task's credentials.
    pub async fn receipt(&self, id: &TaskId) -> Answered<ReceiptView> {
        self.get(&["v1", "tasks", id.as_str(), "receipt"], &[]).await
    }
    /// Notes that a person knows of a standing debt.
    pub async fn acknowledge(&self, id: &LeaseId, reason: &Reason) -> Answered<LeaseView> {
        self.post(&["v1", "leases", id.as_str(), "acknowledge"], reason).await
    }

    /// All agents.
    pub async fn agents(&self) -> Answered<Vec<AgentView>> {
        self.get(&["v1", "agents"], &[]).await
    }
    /// One agent.
    pub async fn agent(&self, id: &AgentId) -> Answered<AgentView> {
        self.get(&["v1", "agents", id.as_str()], &[]).await
    }
    /// Registers an agent or changes it.
    pub async fn set_agent(&self, agent: &AgentSet) -> Answered<AgentView> {
        self.post(&["v1", "agents"], agent).await
    }
    /// Retires an agent for good.
    pub async fn retire_agent(&self, id: &AgentId) -> Answered<HaltedView> {
        self.send(Method::DELETE, &["v1", "agents", id.as_str()], &[], None::<&()>).await
    }

    /// All tools.
    pub async fn tools(&self) -> Answered<Vec<ToolDetail>> {
        self.get(&["v1", "tools"], &[]).await
    }
    /// One tool.
    pub async fn tool(&self, id: &ToolId) -> Answered<ToolDetail> {
        self.get(&["v1", "tools", id.as_str()], &[]).await
    }
    /// Classifies a tool.
    pub async fn classify(&self, tool: &ToolSet) -> Answered<ToolDetail> {
        self.put(&["v1", "tools", tool.manifest.tool.as_str()], tool).await
    }

    /// All people and workflows.
    pub async fn people(&self) -> Answered<Vec<PersonView>> {
        self.get(&["v1", "people"], &[]).await
    }
    /// Registers a person or workflow, or changes them.
    pub async fn set_person(&self, person: &PersonSet) -> Answered<PersonView> {
        self.post(&["v1", "people"], person).await
    }
    /// The directory.
    pub async fn directory(&self) -> Answered<DirectoryBody> {
        self.get(&["v1", "directory"], &[]).await
    }
    /// Replaces the directory.
    pub async fn set_directory(&self, directory: &DirectoryBody) -> Answered<DirectoryBody> {
        self.put(&["v1", "directory"], directory).await
    }

    /// The active policies.
    pub async fn policies(&self) -> Answered<PolicySetView> {
        self.get(&["v1", "policies"], &[]).await
    }
    /// Makes these policies the active ones.
    pub async fn set_policies(&self, policies: &[PolicySource]) -> Answered<PolicyActive> {
        self.put(&["v1", "policies"], policies).await
    }
    /// Whether these policies could be made active.
    pub async fn check_policies(&self, policies: &[PolicySource]) -> Answered<PolicyCheck> {
        self.post(&["v1", "policies", "check"], policies).await
    }

    /// Every set of policies that was ever active.
    pub async fn policy_versions(&self) -> Answered<Vec<PolicyVersionView>> {
        self.get(&["v1", "policies", "versions"], &[]).await
    }
    /// The text of one of them, by its hash or the beginning of it.
    pub async fn policy_version(&self, version: &str) -> Answered<PolicySetView> {
        self.get(&["v1", "policies", "versions", version], &[]).await
    }
    /// Makes a set active again.
    pub async fn use_policies(&self, version: Digest) -> Answered<PolicyActive> {
        self.post(&["v1", "policies", "use"], &PolicyUse { version }).await
    }
    /// What recorded decisions would have been.
    pub async fn replay(&self, ask: &ReplayAsk) -> Answered<ReplayView> {
        self.post(&["v1", "policies", "replay"], ask).await
    }

    /// All versions of all registered task templates.
    pub async fn templates(&self) -> Answered<Vec<TemplateView>> {
        self.get(&["v1", "templates"], &[]).await
    }
    /// One version, as `NAME@VERSION`, or the newest of a name.
    pub async fn template(&self, id: &str) -> Answered<TemplateView> {
        self.get(&["v1", "templates", id], &[]).await
    }
    /// Registers a version.
    pub async fn add_template(&self, template: &TemplateAdd) -> Answered<TemplateView> {
        self.post(&["v1", "templates"], template).await
    }
    /// No further task can be opened from this version.
    pub async fn remove_template(&self, id: &str) -> Answered<TemplateView> {
        self.send(Method::DELETE, &["v1", "templates", id], &[], None::<&()>).await
    }
    /// Opens a task from one.
    pub async fn open_from(&self, id: &str, task: &TemplateOpen) -> Answered<TaskOpened> {
        self.post(&["v1", "templates", id, "tasks"], task).await
    }

    /// Opens a task.
    pub async fn open_task(&self, task: &TaskOpen) -> Answered<TaskOpened> {
        self.post(&["v1", "tasks"], task).await
    }
    /// Tasks, newest first.
    pub async fn tasks(&self, limit: usize) -> Answered<Vec<TaskSummary>> {
        self.get(&["v1", "tasks"], &[("limit", limit.to_string())]).await
    }
    /// One task.
    pub async fn task(&self, id: &TaskId) -> Answered<TaskDetail> {
        self.get(&["v1", "tasks", id.as_str()], &[]).await
    }
    /// The events of a task, from a place in its stream on.
    pub async fn task_events(&self, id: &TaskId, from: u64) -> Answered<Vec<EventView>> {
        self.get(&["v1", "tasks", id.as_str(), "events"], &[("from", from.to_string())]).await
    }
    /// Ends a task.
    pub async fn end_task(&self, id: &TaskId, end: &TaskEnd) -> Answered<HaltedView> {
        self.post(&["v1", "tasks", id.as_str(), "end"], end).await
    }
    /// Freezes a task.
    pub async fn freeze_task(&self, id: &TaskId, reason: &str) -> Answered<TaskSummary> {
        self.post(&["v1", "tasks", id.as_str(), "freeze"], &Reason { reason: reason.to_owned() }).await
    }
    /// Lets a frozen task go on.
    pub async fn resume_task(&self, id: &TaskId, reason: &str) -> Answered<TaskSummary> {
        self.post(&["v1", "tasks", id.as_str(), "resume"], &Reason { reason: reason.to_owned() }).await
    }

    /// Freezes or kills.
    pub async fn halt(&self, ask: &HaltAsk) -> Answered<HaltedView> {
        self.post(&["v1", "halts"], ask).await
    }
    /// Lifts a freeze or a kill.
    pub async fn lift(&self, ask: &LiftAsk) -> Answered<()> {
        self.post(&["v1", "halts", "lift"], ask).await
    }

    /// Questions that wait for people, oldest first.
    pub async fn approvals(&self) -> Answered<Vec<ApprovalSummary>> {
        self.get(&["v1", "approvals"], &[]).await
    }
    /// One question.
    pub async fn approval(&self, id: &ApprovalId) -> Answered<ApprovalCard> {
        self.get(&["v1", "approvals", id.as_str()], &[]).await
    }
    /// Answers a question.
    pub async fn vote(&self, id: &ApprovalId, vote: &VoteBody) -> Answered<ApprovalSummary> {
        self.post(&["v1", "approvals", id.as_str(), "votes"], vote).await
    }

    /// A decision explained.
    pub async fn why(&self, id: &DecisionId) -> Answered<DecisionView> {
        self.get(&["v1", "decisions", id.as_str()], &[]).await
    }
    /// From a decision back to the human intent.
    pub async fn trace(&self, id: &DecisionId) -> Answered<TraceView> {
        self.get(&["v1", "decisions", id.as_str(), "trace"], &[]).await
    }

    /// The newest signed head of the ledger.
    pub async fn checkpoint(&self) -> Answered<CheckpointView> {
        self.get(&["v1", "audit", "checkpoint"], &[]).await
    }
    /// The key that verifies it.
    pub async fn audit_key(&self) -> Answered<AuditKeyView> {
        self.get(&["v1", "audit", "key"], &[]).await
    }
    /// A page of the ledger.
    pub async fn ledger(&self, from: u64, limit: usize) -> Answered<LedgerPage> {
        let query = [("from", from.to_string()), ("limit", limit.to_string())];
        self.get(&["v1", "audit", "events"], &query).await
    }
    /// The receipt of one event.
    pub async fn proof(&self, index: u64) -> Answered<ProofView> {
        self.get(&["v1", "audit", "proofs", &index.to_string()], &[]).await
    }

    /// Committed events as they happen, after an index, or from now on.
    pub async fn events(&self, after: Option<u64>) -> Answered<EventStream> {
        let mut request = self.http.get(self.url(&["v1", "events"])).bearer_auth(&self.key);
        if let Some(after) = after {
            request = request.header("Last-Event-ID", after.to_string());
        }
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        match response.status() {
            StatusCode::OK => {
                Ok(EventStream { base: self.base().to_owned(), response, held: Vec::new(), last: after })
            }
            _ => Err(self.refusal(response).await),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Answered<T> {
        self.send(Method::GET, path, query, None::<&()>).await
    }
    async fn put<B: Serialize + ?Sized, T: DeserializeOwned>(&self, path: &[&str], body: &B) -> Answered<T> {
        self.send(Method::PUT, path, &[], Some(body)).await
    }
    async fn post<B: Serialize + ?Sized, T: DeserializeOwned>(&self, path: &[&str], body: &B) -> Answered<T> {
        self.send(Method::POST, path, &[], Some(body)).await
    }

    async fn send<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&B>,
    ) -> Answered<T> {
        let mut url = self.url(path);
        for (name, value) in query {
            url.query_pairs_mut().append_pair(name, value);
        }
        let posts = method == Method::POST;
        let mut request = self.http.request(method, url).bearer_auth(&self.key).timeout(ANSWER);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let (true, Some(once)) = (posts, &self.once) {
            request = request.header("Idempotency-Key", once);
        }
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let status = response.status();
        let bytes = response.bytes().await.map_err(|e| self.unreachable(&e))?;
        let bytes = if bytes.is_empty() { b"null".as_slice() } else { &bytes };
        serde_json::from_slice(bytes).map_err(|e| self.foreign(status, &e.to_string()))
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    async fn refusal(&self, response: Response) -> ClientError {
        let status = response.status();
        match response.bytes().await {
            Err(error) => self.unreachable(&error),
            Ok(bytes) => match serde_json::from_slice::<Problem>(&bytes) {
                Ok(problem) => ClientError::Refused(Box::new(problem)),
                Err(_) => self.foreign(status, "the refusal is not a problem of this API"),
            },
        }
    }

    fn foreign(&self, status: StatusCode, why: &str) -> ClientError {
        ClientError::Foreign { base: self.base().to_owned(), status: status.as_u16(), why: why.to_owned() }
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        unreachable(self.base(), error)
    }
}

/// The innermost cause says the most to a person ("Connection refused").
fn unreachable(base: &str, error: &reqwest::Error) -> ClientError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    ClientError::Unreachable { base: base.to_owned(), why: cause.to_string() }
}

/// Committed events as they come.
pub struct EventStream {
    base: String,
    response: Response,
    held: Vec<u8>,
    last: Option<u64>,
}

/// The longest line of an event stream that is waited for.
const LINE_MAX: usize = 1 << 20;

impl EventStream {
    /// The next event; `None` when the server ended the stream. Resume with [`EventStream::last`].
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if the connection breaks, [`ClientError::Foreign`] for what is no event.
    pub async fn next(&mut self) -> Answered<Option<EventNotice>> {
        loop {
            while let Some(end) = self.held.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                if let Some(data) = line.strip_prefix(b"data:") {
                    let notice: EventNotice =
                        serde_json::from_slice(data).map_err(|e| self.foreign(&e.to_string()))?;
                    self.last = Some(notice.index);
                    return Ok(Some(notice));
                }
            }
            if self.held.len() > LINE_MAX {
                return Err(self.foreign("a line without end"));
            }
            match self.response.chunk().await.map_err(|e| unreachable(&self.base, &e))? {
                Some(chunk) => self.held.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }

    /// The index of the last event seen, to resume after.
    pub fn last(&self) -> Option<u64> {
        self.last
    }

    fn foreign(&self, why: &str) -> ClientError {
        ClientError::Foreign { base: self.base.clone(), status: 200, why: why.to_owned() }
    }
}
