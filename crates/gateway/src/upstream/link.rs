//! One open connection to a tool server, whichever transport and generation of MCP it speaks.
//!
//! The generation is found out once, when the session opens: first the 2026-07-28 greeting, then, unless
//! the server recognised that, the handshake of 2025-11-25 (MCP 2026-07-28, "Backward Compatibility").

use super::catalogue::{Catalogue, Live, TOOLS_MAX};
use super::{CallError, http, stdio};
use crate::envelope::{Body, codes};
use crate::version::{self, LEGACY, MODERN};
use bailiwick_core::{SystemId, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long a server may think about the newer greeting before it gets the older one.
const PROBE: Duration = Duration::from_secs(3);
/// Most pages of one tool list.
const PAGES_MAX: usize = 100;

/// A transport.
pub(crate) enum Link {
    Stdio(Arc<stdio::Pipe>),
    Http(Arc<http::Remote>),
}

/// What a message needs besides its body: only HTTP makes use of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extra {
    pub(crate) headers: Vec<(String, String)>,
    /// The answer is a stream without an end, to be read for its notifications.
    pub(crate) endless: bool,
}

impl Link {
    async fn ask(&self, method: &str, params: &Value, extra: &Extra) -> Result<Body, CallError> {
        match self {
            Link::Stdio(pipe) => pipe.ask(method, params).await,
            Link::Http(remote) => remote.ask(method, params, extra).await,
        }
    }

    async fn tell(&self, method: &str, params: &Value) -> Result<(), CallError> {
        match self {
            Link::Stdio(pipe) => pipe.tell(method, params).await,
            Link::Http(remote) => remote.tell(method, params).await,
        }
    }

    async fn lost(&self) {
        match self {
            Link::Stdio(pipe) => pipe.lost().await,
            Link::Http(remote) => remote.lost().await,
        }
    }

    async fn changed(&self) {
        match self {
            Link::Stdio(pipe) => pipe.changed().await,
            Link::Http(remote) => remote.changed().await,
        }
    }

    fn speak(&self, version: Option<&'static str>) {
        if let Link::Http(remote) = self {
            remote.speak(version);
        }
    }
}

/// Which generation a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Era {
    Modern { listens: bool },
    Legacy,
}

/// An open session with its current tools.
pub(crate) struct Session {
    link: Arc<Link>,
    era: Era,
    system: SystemId,
    catalogue: Mutex<Arc<Catalogue>>,
    listener: Option<JoinHandle<()>>,
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

impl Session {
    /// Greets the server and lists its tools.
    pub(crate) async fn open(link: Link, system: &SystemId, probe: bool) -> Result<Session, CallError> {
        let era = greet(&link, probe).await?;
        let catalogue = Mutex::new(Arc::new(Catalogue::default()));
        let mut session =
            Session { link: Arc::new(link), era, system: system.clone(), catalogue, listener: None };
        if era == (Era::Modern { listens: true }) {
            session.listener = Some(tokio::spawn(listen(session.link.clone())));
        }
        session.relist().await?;
        Ok(session)
    }

    pub(crate) fn era(&self) -> &'static str {
        if self.era == Era::Legacy { LEGACY } else { MODERN }
    }

    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Resolves when the connection is dead.
    pub(crate) async fn lost(&self) {
        self.link.lost().await;
    }

    /// Resolves when the server says its tools changed.
    pub(crate) async fn changed(&self) {
        self.link.changed().await;
    }

    /// Lists the tools anew; true if anything differs.
    pub(crate) async fn relist(&self) -> Result<bool, CallError> {
        let fresh = Arc::new(Catalogue::read(&self.system, self.list().await?));
        let mut held = self.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = **held != *fresh;
        *held = fresh;
        Ok(differs)
    }

    /// Calls a tool; the arguments are printed from the value.
    pub(crate) async fn call_tool(&self, live: &Live, args: &Value) -> Result<Body, CallError> {
        let params = Value::from([("name", Value::from(live.action.as_str())), ("arguments", args.clone())]);
        let headers = match self.era {
            Era::Legacy => Vec::new(),
            Era::Modern { .. } => {
                live.params.iter().filter_map(|p| Some((p.header.clone(), p.value(args)?))).collect()
            }
        };
        self.ask("tools/call", params, &Extra { headers, endless: false }).await
    }

    async fn ask(&self, method: &str, params: Value, extra: &Extra) -> Result<Body, CallError> {
        let params = if self.era == Era::Legacy { params } else { with_meta(params) };
        self.link.ask(method, &params, extra).await
    }

    async fn list(&self) -> Result<Vec<Value>, CallError> {
        let mut tools = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let params =
                cursor.take().map_or_else(Value::empty, |c| Value::from([("cursor", Value::from(c))]));
            let page = self.ask("tools/list", params, &Extra::default()).await?;
            if !page.strict {
                tracing::warn!(system = %self.system, "the tool list is not clean JSON; no tool of it can be called");
                return Ok(Vec::new());
            }
            tools
                .extend(page.value.get("tools").and_then(Value::as_list).unwrap_or_default().iter().cloned());
            match page.value.get("nextCursor").and_then(Value::as_text) {
                Some(next) if tools.len() <= TOOLS_MAX => cursor = Some(next.to_owned()),
                _ => break,
            }
        }
        Ok(tools)
    }
}

/// Adds the request metadata of 2026-07-28. No capability of the client is claimed: nothing the server
/// could ask for is passed on.
fn with_meta(params: Value) -> Value {
    let Value::Map(mut members) = params else { return params };
    let meta = Value::from([
        (version::META_VERSION, Value::from(MODERN)),
        (version::META_CLIENT, version::implementation()),
        (version::META_CAPABILITIES, Value::empty()),
    ]);
    members.insert("_meta".to_owned(), meta);
    Value::Map(members)
}

async fn greet(link: &Link, probe: bool) -> Result<Era, CallError> {
    if probe {
        link.speak(Some(MODERN));
        let greeting = with_meta(Value::empty());
        match timeout(PROBE, link.ask("server/discover", &greeting, &Extra::default())).await {
            Ok(Ok(body)) if speaks_modern(&body.value) => {
                let tools = body.value.get("capabilities").and_then(|c| c.get("tools"));
                let listens = tools.and_then(|t| t.get("listChanged")) == Some(&Value::Bool(true));
                return Ok(Era::Modern { listens });
            }
            Ok(Err(CallError::Refused { rpc: codes::UNSUPPORTED_VERSION, data, .. }))
                if !offers_legacy(&data) =>
            {
                return Err(CallError::Unavailable("it speaks no revision of MCP that we speak".to_owned()));
            }
            Ok(Err(gone @ (CallError::Gone | CallError::Unavailable(_)))) => return Err(gone),
            _ => {}
        }
    }
    link.speak(None);
    initialize(link).await
}

fn speaks_modern(discovered: &Value) -> bool {
    let versions = discovered.get("supportedVersions").and_then(Value::as_list).unwrap_or_default();
    versions.iter().any(|v| v.as_text() == Some(MODERN))
}

fn offers_legacy(data: &Option<Value>) -> bool {
    let supported = data.as_ref().and_then(|d| d.get("supported")).and_then(Value::as_list);
    supported.unwrap_or_default().iter().any(|v| v.as_text().is_some_and(|v| version::legacy(v).is_some()))
}

async fn initialize(link: &Link) -> Result<Era, CallError> {
    let params = Value::Map(BTreeMap::from([
        ("protocolVersion".to_owned(), Value::from(LEGACY)),
        ("capabilities".to_owned(), Value::empty()),
        ("clientInfo".to_owned(), version::implementation()),
    ]));
    let body = link.ask("initialize", &params, &Extra::default()).await?;
    let agreed =
        body.value.get("protocolVersion").and_then(Value::as_text).and_then(version::legacy_upstream);
    let Some(agreed) = agreed else {
        return Err(CallError::Unavailable("it speaks no revision of MCP that we speak".to_owned()));
    };
    link.speak(Some(agreed));
    link.tell("notifications/initialized", &Value::empty()).await?;
    Ok(Era::Legacy)
}

/// Keeps a `subscriptions/listen` open, so that changes are heard of at once.
async fn listen(link: Arc<Link>) {
    let wanted = Value::from([("notifications", Value::from([("toolsListChanged", Value::Bool(true))]))]);
    let params = with_meta(wanted);
    let extra = Extra { headers: Vec::new(), endless: true };
    let mut pause = Duration::from_secs(1);
    loop {
        let ended = link.ask("subscriptions/listen", &params, &extra).await;
        if matches!(ended, Err(CallError::Refused { .. } | CallError::Gone)) {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(60));
    }
}
