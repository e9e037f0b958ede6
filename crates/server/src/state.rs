//! What all requests share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::http::Uri;
use bailiwick_core::{Digest, SystemId};
use bailiwick_engine::Engine;
use tokio::sync::{Semaphore, watch};

use crate::door::AgentDoor;

/// Event streams open at once.
const STREAMS_MAX: usize = 256;

/// What a server is made of. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct ServerState {
    pub(crate) engine: Engine,
    pub(crate) door: Arc<dyn AgentDoor>,
    pub(crate) base: Arc<str>,
    pub(crate) hosts: Arc<BTreeSet<String>>,
    pub(crate) origins: Arc<BTreeSet<String>>,
    /// Hashes of the tokens by which the hosts of targets ask.
    pub(crate) host_tokens: Arc<BTreeMap<SystemId, Digest>>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) closing: Arc<watch::Sender<bool>>,
    pub(crate) test_clock: Option<TestClock>,
}

/// Moves the clock of a server for tests, by milliseconds.
pub type TestClock = Arc<dyn Fn(u64) + Send + Sync>;

impl ServerState {
    /// A server for `engine`, reached at `base` (scheme, host and port as clients write them). Requests to any
    /// other host, and from any other origin, are refused, on loopback too (threat A48).
    pub fn new(engine: Engine, base: &str, door: Arc<dyn AgentDoor>) -> Self {
        let base = base.trim_end_matches('/').to_ascii_lowercase();
        let host = host_of(&base);
        ServerState {
            engine,
            door,
            hosts: Arc::new(host.into_iter().collect()),
            origins: Arc::new([base.clone()].into()),
            base: base.into(),
            host_tokens: Arc::default(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            closing: Arc::new(watch::channel(false).0),
            test_clock: None,
        }
    }

    /// One more name under which this server may be addressed, as it stands in a `Host` header.
    #[must_use]
    pub fn allow_host(mut self, host: &str) -> Self {
        Arc::make_mut(&mut self.hosts).insert(host.to_ascii_lowercase());
        self
    }

    /// The token by which hosts of a target ask whom they may let in. Only its hash is kept.
    #[must_use]
    pub fn allow_target_host(mut self, system: SystemId, token: &str) -> Self {
        Arc::make_mut(&mut self.host_tokens).insert(system, Digest::of(token.as_bytes()));
        self
    }

    /// One more origin whose pages may ask, such as a console under development.
    #[must_use]
    pub fn allow_origin(mut self, origin: &str) -> Self {
        Arc::make_mut(&mut self.origins).insert(origin.trim_end_matches('/').to_ascii_lowercase());
        self
    }

    /// Adds the route by which an operator moves the clock, and has the status say so. For tests only: whoever may
    /// move the clock ends every window.
    #[must_use]
    pub fn with_test_clock(mut self, advance: TestClock) -> Self {
        self.test_clock = Some(advance);
        self
    }

    /// Ends all event streams, so that a stop has nothing to wait for. Those who watched come back to whoever
    /// serves next.
    pub fn end_streams(&self) {
        self.closing.send_replace(true);
    }

    /// The URL of a path of this server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

impl std::fmt::Debug for ServerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerState").field("base", &self.base).finish_non_exhaustive()
    }
}

fn host_of(base: &str) -> Option<String> {
    Some(base.parse::<Uri>().ok()?.authority()?.as_str().to_owned())
}
