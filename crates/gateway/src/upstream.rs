//! The tool servers behind the gateway: started, watched, asked and distrusted.
//!
//! Each system has one [`UpstreamSpec`]. A supervisor opens it, finds out which generation of MCP it
//! speaks, lists its tools, tells the observer what it offers, and starts over (with growing pauses) when
//! it dies. Calls carry ids of our own (threat A37), a deadline and a cap on the answer (A42); a call whose
//! future is dropped is cancelled at the server. Nothing of the agent's request but the decided arguments
//! ever gets here: no token, no header, no `_meta` (A12).

mod catalogue;
mod http;
mod link;
mod sse;
mod stdio;

pub use catalogue::{Catalogue, Live};
pub(crate) use stdio::{Line, next_line};

use crate::envelope::Body;
use crate::names::BUILT_IN;
use crate::secret::Secret;
use bailiwick_core::{Digest, SystemId, ToolId, Value};
use link::{Link, Session};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// Largest answer of a tool server, in bytes.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Pause before the first restart; doubles with each failure up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A server that stayed up this long starts with a short pause again.
const STABLE: Duration = Duration::from_secs(60);
/// How long a call waits for a server that is starting or restarting.
const READY_WAIT: Duration = Duration::from_secs(5);
/// How long ending waits for the children.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// One system and how to reach it.
#[derive(Debug, Clone)]
pub struct UpstreamSpec {
    /// Its name; tools appear as `system.action`.
    pub system: SystemId,
    /// How to reach it.
    pub transport: Transport,
    /// Deadline of one tool call, in milliseconds.
    pub call_timeout_ms: u64,
    /// Deadline for opening (start, handshake, first list), in milliseconds.
    pub start_timeout_ms: u64,
    /// How often the tools are listed again without being told that they changed, in milliseconds.
    pub relist_ms: u64,
    /// What [`UpstreamSpec::launch_digest`] must be, as a human approved it. `None`: not pinned.
    pub pinned: Option<Digest>,
}

/// How a tool server is reached.
#[derive(Debug, Clone)]
pub enum Transport {
    /// A child process that speaks on its standard streams. Never through a shell.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Environment besides the few harmless variables that are always passed.
        env: Vec<(String, Secret)>,
        /// Working directory.
        cwd: Option<PathBuf>,
    },
    /// Streamable HTTP.
    Http {
        /// The endpoint. Plain `http` with headers only to a loopback address.
        url: String,
        /// Headers that carry the target's credential; sent to this host only.
        headers: Vec<(String, Secret)>,
    },
}

impl UpstreamSpec {
    /// A spec with the usual deadlines: 60 s per call, 30 s to start, listed again every 30 s.
    pub fn new(system: SystemId, transport: Transport) -> Self {
        UpstreamSpec {
            system,
            transport,
            call_timeout_ms: 60_000,
            start_timeout_ms: 30_000,
            relist_ms: 30_000,
            pinned: None,
        }
    }

    /// Digest over what is started or called: transport, program, arguments, folder, and the names (not the
    /// values) of variables and headers. A changed byte changes it (threat A46).
    pub fn launch_digest(&self) -> Digest {
        let mut parts: Vec<&[u8]> = vec![self.system.as_str().as_bytes()];
        let folder;
        match &self.transport {
            Transport::Stdio { command, args, env, cwd } => {
                folder = cwd.as_ref().map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
                parts.extend([b"stdio".as_slice(), command.as_bytes(), folder.as_bytes()]);
                parts.extend(args.iter().map(String::as_bytes));
                parts.push(b"env");
                parts.extend(env.iter().map(|(name, _)| name.as_bytes()));
            }
            Transport::Http { url, headers } => {
                parts.extend([b"http".as_slice(), url.as_bytes()]);
                parts.extend(headers.iter().map(|(name, _)| name.as_bytes()));
            }
        }
        Digest::of_parts(&parts)
    }
}

/// A spec that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("system `{system}`: {reason}")]
pub struct BadUpstream {
    /// The system.
    pub system: String,
    /// Stable code.
    pub code: &'static str,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

impl BadUpstream {
    /// Stable code for API and audit.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

/// Why a call gave no result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallError {
    /// No such system is configured.
    #[error("no such system")]
    NoSystem,
    /// The server is not up.
    #[error("the tool server is not available: {0}")]
    Unavailable(String),
    /// The server does not offer this tool now.
    #[error("the tool server does not offer this tool")]
    NotOffered,
    /// The tool's definition is not the one that was decided on.
    #[error("the tool's definition changed since the decision")]
    Changed,
    /// No answer in time.
    #[error("the tool server did not answer in time")]
    Timeout,
    /// The connection ended before the answer.
    #[error("the tool server went away before it answered")]
    Gone,
    /// The answer broke a cap.
    #[error("the tool server's answer was too large")]
    TooLarge,
    /// What came back is no answer.
    #[error("the tool server's answer could not be understood")]
    Garbled,
    /// The server wanted something of the client that is not passed on.
    #[error("the tool server asked for further input, which is not passed on")]
    WantsInput,
    /// The server answered with an error.
    #[error("the tool server refused: {message}")]
    Refused {
        /// JSON-RPC code.
        rpc: i64,
        /// The server's words, capped; untrusted.
        message: String,
        /// The error's data, if clean.
        data: Option<Value>,
    },
}

impl CallError {
    /// Stable code for API and audit.
    pub fn code(&self) -> &'static str {
        match self {
            CallError::NoSystem => "upstream.no_system",
            CallError::Unavailable(_) => "upstream.unavailable",
            CallError::NotOffered => "upstream.not_offered",
            CallError::Changed => "upstream.definition_changed",
            CallError::Timeout => "upstream.timeout",
            CallError::Gone => "upstream.gone",
            CallError::TooLarge => "upstream.too_large",
            CallError::Garbled => "upstream.garbled",
            CallError::WantsInput => "upstream.wants_input",
            CallError::Refused { .. } => "upstream.refused",
        }
    }

    /// True if the call may have had an effect all the same.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, CallError::Timeout | CallError::Gone | CallError::TooLarge | CallError::Garbled)
    }
}

/// What a system offers now, told whenever that changed. An error means: tell me again.
pub type Observer = Arc<
    dyn Fn(SystemId, Vec<Value>) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync,
>;

/// All tool servers of one gateway. Dropping it ends them.
pub struct Upstreams {
    systems: BTreeMap<SystemId, Upstream>,
    changes: watch::Sender<u64>,
    /// True once everything is to end. Supervisors and children hold receivers for as long as they live.
    stop: watch::Sender<bool>,
}

struct Upstream {
    ready: watch::Receiver<Option<Arc<Session>>>,
    call_timeout: Duration,
}

impl Upstreams {
    /// Checks the specs and starts a supervisor for each. Needs a tokio runtime. Returns before the servers
    /// are up; calls wait for them briefly.
    pub fn start(specs: Vec<UpstreamSpec>, observer: Observer) -> Result<Self, BadUpstream> {
        let (stop, stopped) = watch::channel(false);
        let changes = watch::channel(0).0;
        let mut openers = Vec::new();
        for spec in specs {
            let opener = check(&spec)?;
            if openers.iter().any(|(other, _): &(UpstreamSpec, _)| other.system == spec.system) {
                return Err(bad(
                    &spec,
                    "upstream.twice",
                    "is configured twice: give each system its own name",
                ));
            }
            openers.push((spec, opener));
        }
        let mut systems = BTreeMap::new();
        for (spec, opener) in openers {
            let (publish, ready) = watch::channel(None);
            let call_timeout = Duration::from_millis(spec.call_timeout_ms);
            systems.insert(spec.system.clone(), Upstream { ready, call_timeout });
            let supervisor = Supervisor {
                spec,
                opener,
                publish,
                observer: observer.clone(),
                changes: changes.clone(),
                stopped: stopped.clone(),
                untold: None,
            };
            tokio::spawn(supervisor.run());
        }
        Ok(Upstreams { systems, changes, stop })
    }

    /// No tool servers at all.
    pub fn none() -> Self {
        Upstreams { systems: BTreeMap::new(), changes: watch::channel(0).0, stop: watch::channel(false).0 }
    }

    /// Ends all tool servers, with what they started, and waits for it; at most five seconds.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let _ = timeout(STOP_WAIT, self.stop.closed()).await;
    }

    /// Whether a system of this name is configured.
    pub fn serves(&self, system: &str) -> bool {
        SystemId::parse(system).is_ok_and(|system| self.systems.contains_key(&system))
    }

    /// Rises whenever the control plane has taken a changed list of some system.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The names of the systems.
    pub fn systems(&self) -> impl Iterator<Item = &SystemId> {
        self.systems.keys()
    }

    /// The tool as its server defines it now. Waits briefly for a server that is starting. `None` if there
    /// is no such system, it is down, or it offers no such tool.
    pub async fn live(&self, tool: &ToolId) -> Option<Live> {
        let session = self.session(tool.system()).await.ok()?;
        session.catalogue().get(tool.action()).cloned()
    }

    /// What a system offers now, if it is up. Does not wait.
    pub fn catalogue(&self, system: &str) -> Option<Arc<Catalogue>> {
        let upstream = self.systems.get(&SystemId::parse(system).ok()?)?;
        upstream.ready.borrow().as_ref().map(|session| session.catalogue())
    }

    /// Why a tool has no definition now.
    pub(crate) fn unseen(&self, tool: &ToolId) -> CallError {
        match self.find(tool.system()) {
            Err(error) => error,
            Ok(upstream) if upstream.ready.borrow().is_none() => down(),
            Ok(_) => CallError::NotOffered,
        }
    }

    /// Calls a tool with arguments that were decided, if its definition is still the one that was `seen` at
    /// the decision. Only [`crate::forward`] comes here, with a witness in hand. Dropping the future
    /// cancels the call at the server.
    pub(crate) async fn call(&self, tool: &ToolId, args: &Value, seen: Digest) -> Result<Body, CallError> {
        let upstream = self.find(tool.system())?;
        let session = self.session(tool.system()).await?;
        let live = session.catalogue().get(tool.action()).cloned().ok_or(CallError::NotOffered)?;
        if live.digest != seen {
            return Err(CallError::Changed);
        }
        let body = timeout(upstream.call_timeout, session.call_tool(&live, args))
            .await
            .unwrap_or(Err(CallError::Timeout))?;
        match body.value.get("resultType").and_then(Value::as_text) {
            None | Some("complete") => Ok(body),
            Some(_) => Err(CallError::WantsInput),
        }
    }

    fn find(&self, system: &str) -> Result<&Upstream, CallError> {
        let system = SystemId::parse(system).map_err(|_| CallError::NoSystem)?;
        self.systems.get(&system).ok_or(CallError::NoSystem)
    }

    async fn session(&self, system: &str) -> Result<Arc<Session>, CallError> {
        let mut ready = self.find(system)?.ready.clone();
        if let Some(session) = ready.borrow().as_ref() {
            return Ok(session.clone());
        }
        let up = timeout(READY_WAIT, ready.wait_for(Option::is_some)).await.map_err(|_| down())?;
        up.map_err(|_| down())?.clone().ok_or_else(down)
    }
}

fn down() -> CallError {
    CallError::Unavailable("it is starting or has died; try again shortly".to_owned())
}

enum Opener {
    Stdio,
    Http(Arc<http::Remote>),
}

fn bad(spec: &UpstreamSpec, code: &'static str, reason: impl Into<String>) -> BadUpstream {
    BadUpstream { system: spec.system.to_string(), code, reason: reason.into() }
}

fn check(spec: &UpstreamSpec) -> Result<Opener, BadUpstream> {
    if spec.system.as_str() == BUILT_IN || spec.system.as_str().ends_with('_') {
        return Err(bad(spec, "upstream.name", "the name is reserved, or ends in `_`: choose another"));
    }
    if spec.pinned.is_some_and(|pinned| pinned != spec.launch_digest()) {
        let why = "what would be started is not what was approved: review the change and approve it anew";
        return Err(bad(spec, "upstream.launch_not_approved", why));
    }
    match &spec.transport {
        Transport::Stdio { command, .. } if command.is_empty() => {
            Err(bad(spec, "upstream.command", "no command is given"))
        }
        Transport::Stdio { .. } => Ok(Opener::Stdio),
        Transport::Http { url, headers } => http::Remote::new(url, headers)
            .map(|remote| Opener::Http(Arc::new(remote)))
            .map_err(|why| bad(spec, "upstream.url", why)),
    }
}

/// Keeps one system up, for as long as the gateway lives.
struct Supervisor {
    spec: UpstreamSpec,
    opener: Opener,
    publish: watch::Sender<Option<Arc<Session>>>,
    observer: Observer,
    changes: watch::Sender<u64>,
    stopped: watch::Receiver<bool>,
    /// Definitions the observer has not taken yet.
    untold: Option<Vec<Value>>,
}

impl Supervisor {
    async fn run(mut self) {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            () = self.keep_up() => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }

    async fn keep_up(&mut self) {
        let mut pause = BACKOFF_MIN;
        let mut probe = true;
        loop {
            let started = Instant::now();
            match self.open(&mut probe).await {
                Ok(session) => self.serve(Arc::new(session)).await,
                Err(why) => {
                    tracing::warn!(system = %self.spec.system, code = why.code(), error = %why, "tool server did not start");
                }
            }
            self.publish.send_replace(None);
            pause = if started.elapsed() > STABLE { BACKOFF_MIN } else { pause };
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    /// Opens the link and lists the tools. A server that dies at the newer greeting gets the older one the
    /// next time.
    async fn open(&mut self, probe: &mut bool) -> Result<Session, CallError> {
        let link = match &self.opener {
            Opener::Stdio => Link::Stdio(stdio::Pipe::spawn(&self.spec, self.stopped.clone())?),
            Opener::Http(remote) => Link::Http(remote.clone()),
        };
        let limit = Duration::from_millis(self.spec.start_timeout_ms);
        let opened = timeout(limit, Session::open(link, &self.spec.system, *probe)).await;
        let session = opened.unwrap_or(Err(CallError::Timeout));
        *probe = !(*probe && session.as_ref().is_err_and(|e| *e == CallError::Gone));
        session
    }

    /// Publishes the session and looks after it until it is lost.
    async fn serve(&mut self, session: Arc<Session>) {
        tracing::info!(system = %self.spec.system, era = %session.era(), tools = session.catalogue().len(), "tool server is up");
        self.untold = Some(session.catalogue().definitions());
        self.publish.send_replace(Some(session.clone()));
        let relist = Duration::from_millis(self.spec.relist_ms.max(100));
        loop {
            self.tell().await;
            let wait = if self.untold.is_some() { Duration::from_secs(1) } else { relist };
            tokio::select! {
                () = session.lost() => return,
                () = session.changed() => {}
                () = sleep(wait) => {}
            }
            match timeout(Duration::from_millis(self.spec.start_timeout_ms), session.relist()).await {
                Ok(Ok(true)) => self.untold = Some(session.catalogue().definitions()),
                Ok(Ok(false)) => {}
                Ok(Err(why)) => {
                    tracing::warn!(system = %self.spec.system, error = %why, "tools could not be listed again");
                    return;
                }
                Err(_) => return,
            }
        }
    }

    async fn tell(&mut self) {
        let Some(definitions) = self.untold.take() else { return };
        match (self.observer)(self.spec.system.clone(), definitions.clone()).await {
            Ok(()) => self.changes.send_modify(|n| *n = n.wrapping_add(1)),
            Err(why) => {
                tracing::warn!(system = %self.spec.system, error = %why, "the control plane did not take the tool list; it is sent again");
                self.untold = Some(definitions);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(system: &str, args: &[&str]) -> UpstreamSpec {
        let args = args.iter().map(|a| (*a).to_owned()).collect();
        let transport = Transport::Stdio { command: "server".into(), args, env: vec![], cwd: None };
        UpstreamSpec::new(SystemId::parse(system).unwrap(), transport)
    }

    // proves: A46
    #[test]
    fn a_changed_argument_is_not_started() {
        let approved = spec("files", &["--root", "data"]).launch_digest();
        let mut same = spec("files", &["--root", "data"]);
        same.pinned = Some(approved);
        assert!(check(&same).is_ok());
        for args in [&["--root", "data2"][..], &["--rootdata"], &["--root", "data", ""]] {
            let mut changed = spec("files", args);
            changed.pinned = Some(approved);
            assert_eq!(
                check(&changed).err().map(|e| e.code),
                Some("upstream.launch_not_approved"),
                "{args:?}"
            );
        }
    }

    #[test]
    fn a_name_that_could_pass_for_another_is_refused() {
        assert!(check(&spec("files", &[])).is_ok());
        assert!(check(&spec("bailiwick", &[])).is_err());
        assert!(check(&spec("files_", &[])).is_err());
    }
}
