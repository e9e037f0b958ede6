//! HTTP APIs behind the gateway: each request is decided like a tool call, and the API's key joins it on the way out.
//!
//! Many systems know one broad key and nothing else. Here the key stays with the gateway; an agent sends the plain
//! request, without one. It is read once into typed arguments by the rules that an operator stated ([`spec`]),
//! decided, recorded, written anew, and sent to that API alone:
//!
//! `read` → `DecisionPoint::decide` → `send::forward` → `DecisionPoint::report` → the agent.
//!
//! What fits no rule is refused by the same decision point, as the action `SYSTEM.unlisted`, so that it is recorded
//! and counts. An agent that can prove possession of a key sends requests to `/egress/SYSTEM/…`; anything else talks
//! to the [`proxy`] on its own machine, which does it for them.

pub mod address;
mod echo;
pub mod proxy;
mod reply;
mod request;
mod send;
pub mod spec;

use crate::door::{Door, Knock};
use crate::envelope::cut;
use crate::gateway::GatewayConfig;
use crate::headers;
use crate::http::{challenge, known_host, read_body};
use crate::in_flight::{Stopped, TakeBack, report, stopped};
use crate::pending::PendingActs;
use address::Guard;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{any, get};
use bailiwick_api::{
    Answer as Decided, ApprovalState, Call, Caller, DecisionPoint, Outcome, OutcomeStatus, PointError,
};
use bailiwick_core::{ApprovalId, DecisionId, SystemId, ToolId, Value};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use reply::Reply;
use request::{Inbound, Unfit};
use send::{Clean, SendError, forward};
use spec::{Api, ApiSpec, BadApi, UNLISTED};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::timeout;

/// Header of a request that carries the head of another one: method, address and headers, as JSON in Base64.
pub(crate) const INNER: &str = "bailiwick-request";
/// Header with an approval's handle, in requests that come back with it and in answers that name one.
pub(crate) const APPROVAL: &str = "bailiwick-approval";
/// Header with the agent's own words, in requests. Untrusted.
pub(crate) const SAYS: &str = "bailiwick-says";
/// Header of every answer that a decision stands behind.
pub(crate) const DECISION: &str = "bailiwick-decision";
/// Longest note of the agent that is recorded, in bytes.
const SAYS_MAX: usize = 2048;

/// The system under which requests to hosts that no operator named are refused.
const NOWHERE: &str = "http";

/// An enforcement point for HTTP APIs.
pub struct Egress<P, D> {
    point: Arc<P>,
    door: D,
    apis: BTreeMap<SystemId, Api>,
    pending: PendingActs,
    config: GatewayConfig,
}

impl<P: DecisionPoint, D: Door> Egress<P, D> {
    /// Puts an enforcement point in front of these APIs.
    ///
    /// # Errors
    /// [`BadApi`] for the first spec that cannot be served.
    pub fn new(
        point: Arc<P>,
        door: D,
        apis: Vec<ApiSpec>,
        config: GatewayConfig,
    ) -> Result<Arc<Self>, BadApi> {
        Self::guarded(point, door, apis, config, Guard::system())
    }

    /// As [`Egress::new`], with the resolver given.
    ///
    /// # Errors
    /// [`BadApi`] for the first spec that cannot be served.
    pub fn guarded(
        point: Arc<P>,
        door: D,
        apis: Vec<ApiSpec>,
        config: GatewayConfig,
        guard: Guard,
    ) -> Result<Arc<Self>, BadApi> {
        let mut all = BTreeMap::new();
        for spec in apis {
            let api = Api::compile(spec, guard.clone())?;
            all.insert(api.system.clone(), api);
        }
        Ok(Arc::new(Egress { point, door, apis: all, pending: PendingActs::default(), config }))
    }

    /// Tells the control plane what the rules are now.
    ///
    /// # Errors
    /// What the control plane could not take.
    pub async fn observe(&self) -> Result<(), PointError> {
        for (system, api) in &self.apis {
            self.point.observe(system.as_str(), api.definitions()).await?;
        }
        Ok(())
    }
}

/// Checks that an API could be served as stated, without serving it.
///
/// # Errors
/// [`BadApi`] with what is wrong.
pub fn check(spec: &ApiSpec) -> Result<(), BadApi> {
    Api::compile(spec.clone(), Guard::system()).map(drop)
}

/// The routes of the enforcement point, to be mounted beside others.
pub fn router<P: DecisionPoint, D: Door>(egress: Arc<Egress<P, D>>) -> Router {
    Router::new()
        .route("/egress", get(list::<P, D>).post(wrapped::<P, D>))
        .route("/egress/{system}", any(direct::<P, D>))
        .route("/egress/{system}/", any(direct::<P, D>))
        .route("/egress/{system}/{*rest}", any(direct::<P, D>))
        .with_state(egress)
}

type Shared<P, D> = State<Arc<Egress<P, D>>>;

/// The APIs that this caller could be allowed something of: names and addresses.
async fn list<P: DecisionPoint, D: Door>(
    State(egress): Shared<P, D>,
    request: axum::extract::Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let caller = match egress.admit(&parts).await {
        Ok(caller) => caller,
        Err(refused) => return *refused,
    };
    let views = match egress.point.list(&caller).await {
        Ok(views) => views,
        Err(error) => return Reply::undecided(&error).into_response(),
    };
    let theirs =
        egress.apis.values().filter(|api| views.iter().any(|v| v.tool.system() == api.system.as_str()));
    let systems = theirs.map(|api| {
        let url = api.url.as_str().trim_end_matches('/');
        Value::from([("system", Value::from(api.system.as_str())), ("url", Value::from(url))])
    });
    reply::json(&Value::from([("systems", Value::List(systems.collect()))]))
}

/// A request to `/egress/SYSTEM/…`: what follows is the path below the API's URL.
async fn direct<P: DecisionPoint, D: Door>(
    State(egress): Shared<P, D>,
    Path(captured): Path<BTreeMap<String, String>>,
    request: axum::extract::Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let name = captured.get("system").map(String::as_str).unwrap_or_default();
    let target = parts.uri.path_and_query().map_or("", |t| t.as_str());
    let below = target.strip_prefix("/egress/").and_then(|rest| rest.strip_prefix(name)).map(str::to_owned);
    let system = name.to_owned();
    egress
        .answer(parts, body, move |parts| {
            let odd = || Unfit { code: "egress.path", why: "write the API's name plainly".to_owned() };
            let address = Address::System { system, below: below.ok_or_else(odd)? };
            Ok((address, parts.method.clone(), inner_headers(&parts.headers)))
        })
        .await
}

/// A request of another one's: the head in a header, the body as it is.
async fn wrapped<P: DecisionPoint, D: Door>(
    State(egress): Shared<P, D>,
    request: axum::extract::Request,
) -> Response {
    let (parts, body) = request.into_parts();
    egress.answer(parts, body, |parts| unwrap(&parts.headers)).await
}

/// Where a request is meant to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// Below an API's URL, by the API's name.
    System { system: String, below: String },
    /// By scheme, host and port, with the whole path.
    Origin { origin: String, target: String },
}

/// Method, address and headers of a request, as they travel in [`INNER`].
pub(crate) fn wrap(address: &Address, method: &Method, headers: &HeaderMap) -> Option<String> {
    let (at, to, target) = match address {
        Address::System { system, below } => ("system", system, below),
        Address::Origin { origin, target } => ("origin", origin, target),
    };
    let mut lines = Vec::new();
    for (name, value) in headers {
        let pair = vec![Value::from(name.as_str()), Value::from(value.to_str().ok()?)];
        lines.push(Value::List(pair));
    }
    let head = Value::from([
        ("method", Value::from(method.as_str())),
        (at, Value::from(to.as_str())),
        ("target", Value::from(target.as_str())),
        ("headers", Value::List(lines)),
    ]);
    Some(URL_SAFE_NO_PAD.encode(head.canonical()))
}

type Head = (Address, Method, HeaderMap);

fn unwrap(outer: &HeaderMap) -> Result<Head, Unfit> {
    let odd =
        || Unfit { code: "egress.head", why: format!("header `{INNER}` does not hold a request's head") };
    let coded = headers::single(outer, INNER).ok().flatten().ok_or_else(odd)?;
    let bytes = URL_SAFE_NO_PAD.decode(coded).map_err(|_| odd())?;
    let head = Value::parse(&bytes).map_err(|_| odd())?;
    let text = |name: &str| head.get(name).and_then(Value::as_text).map(str::to_owned);
    let method = text("method").and_then(|m| Method::from_bytes(m.as_bytes()).ok()).ok_or_else(odd)?;
    let target = text("target").ok_or_else(odd)?;
    let address = match (text("system"), text("origin")) {
        (Some(system), None) => Address::System { system, below: target },
        (None, Some(origin)) => Address::Origin { origin, target },
        _ => return Err(odd()),
    };
    let mut inner = HeaderMap::new();
    for line in head.get("headers").and_then(Value::as_list).ok_or_else(odd)? {
        let [Value::Text(name), Value::Text(value)] = line.as_list().unwrap_or_default() else {
            return Err(odd());
        };
        let (name, value) = (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value));
        inner.append(name.map_err(|_| odd())?, value.map_err(|_| odd())?);
    }
    Ok((address, method, inner))
}

/// A request's headers without those of the connection and of the way to us.
pub(crate) fn inner_headers(outer: &HeaderMap) -> HeaderMap {
    const OURS: [&str; 12] = [
        "authorization",
        "dpop",
        "host",
        "connection",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "content-length",
        "expect",
    ];
    let mut inner = outer.clone();
    for name in OURS {
        inner.remove(name);
    }
    inner
}

impl<P: DecisionPoint, D: Door> Egress<P, D> {
    async fn admit(&self, parts: &Parts) -> Result<Caller, Box<Response>> {
        known_host(&self.config, parts).map_err(Box::new)?;
        let knock = Knock { method: &parts.method, path: parts.uri.path(), headers: &parts.headers };
        self.door.admit(knock).await.map_err(|refused| Box::new(challenge(&self.config, parts, &refused)))
    }

    async fn answer(
        self: Arc<Self>,
        parts: Parts,
        body: axum::body::Body,
        head: impl FnOnce(&Parts) -> Result<Head, Unfit>,
    ) -> Response {
        let deadline = self.config.request_timeout;
        let whole = async {
            let caller = self.admit(&parts).await?;
            let body = read_body(&self.config, body).await.map_err(Box::new)?;
            let reply = match head(&parts) {
                Ok(head) => self.clone().serve(caller, head, body.to_vec()).await,
                Err(unfit) => Reply::unread(&unfit),
            };
            Ok::<_, Box<Response>>(reply.into_response())
        };
        match timeout(deadline, whole).await {
            Ok(Ok(response)) => response,
            Ok(Err(refused)) => *refused,
            Err(_) => Reply::too_long().into_response(),
        }
    }

    /// Serves one request of a proven caller. If the client goes away, the call is taken back.
    async fn serve(
        self: Arc<Self>,
        caller: Caller,
        (address, method, headers): Head,
        body: Vec<u8>,
    ) -> Reply {
        let (withdraw, withdrawn) = watch::channel(false);
        let _gone = TakeBack(withdraw);
        let asked = Asked { caller, address, method, headers, body };
        let running = tokio::spawn(async move { self.decide_and_run(asked, withdrawn).await });
        running.await.unwrap_or_else(|_| Reply::broken())
    }

    async fn decide_and_run(&self, asked: Asked, withdrawn: watch::Receiver<bool>) -> Reply {
        let api = match self.api(&asked.address) {
            Some(api) => api,
            None => return self.refuse(&asked, NOWHERE, &nowhere(&asked.address)).await,
        };
        let (Asked { caller, .. }, extras) = (&asked, Extras::of(&asked.headers));
        let inbound = asked.inbound(api);
        let read = extras.and_then(|extras| api.read(&inbound).map(|(action, args)| (extras, action, args)));
        let (extras, action, args) = match read {
            Ok(read) => read,
            Err(unfit) => return self.refuse(&asked, api.system.as_str(), &unfit).await,
        };
        let approval = match extras.approval {
            Some(approval) => Some(approval),
            None => match self.recall(caller, &action.tool, &args).await {
                Ok(approval) => approval,
                Err(waiting) => return waiting,
            },
        };
        let call = Call {
            tool: action.tool.clone(),
            args: args.clone(),
            definition: Some(action.pin),
            approval,
            says: extras.says,
        };
        let decided = match self.point.decide(caller, call).await {
            Ok(decided) => decided,
            Err(error) => return Reply::undecided(&error),
        };
        match decided.allowed() {
            Ok(allowed) => {
                self.pending.forget(caller, &action.tool, &args);
                let decision = allowed.decision().clone();
                let sending = forward(allowed, api);
                self.run_to_report(caller, withdrawn, &action.tool, &action.method, &decision, sending).await
            }
            Err(other) => self.not_now(caller, &action.tool, &args, *other),
        }
    }

    fn api(&self, address: &Address) -> Option<&Api> {
        match address {
            Address::System { system, .. } => self.apis.get(&SystemId::parse(system).ok()?),
            // Several APIs may share a host; the longest path that the request begins with decides.
            Address::Origin { origin, target } => {
                let below = |api: &&Api| {
                    let path = api.url.path().trim_end_matches('/');
                    target
                        .strip_prefix(path)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
                };
                let theirs = self.apis.values().filter(|api| api.origin() == *origin);
                let fits = theirs.clone().filter(below).max_by_key(|api| api.base.len());
                fits.or_else(|| theirs.clone().next())
            }
        }
    }

    /// Refuses what no rule takes, by the same decision point: it is recorded and counts. An answer that allows
    /// changes nothing, because there is no rule to send it by.
    async fn refuse(&self, asked: &Asked, system: &str, unfit: &Unfit) -> Reply {
        let tool = SystemId::parse(system).and_then(|system| ToolId::of(&system, UNLISTED));
        let Ok(tool) = tool else { return Reply::unread(unfit) };
        let (to, target) = match &asked.address {
            Address::System { system, below } => (system, below),
            Address::Origin { origin, target } => (origin, target),
        };
        let args = Value::from([
            ("method", Value::from(asked.method.as_str())),
            ("to", Value::from(cut(to, 256))),
            ("path", Value::from(cut(target, 1024))),
            ("why", Value::from(unfit.code)),
        ]);
        let call = Call { tool, args, definition: None, approval: None, says: None };
        match self.point.decide(&asked.caller, call).await {
            Ok(Decided::Deny(denial)) if denial.step < 4 => Reply::denied(&denial),
            Ok(Decided::Deny(denial)) => Reply::unfit(unfit, &asked.method, target, Some(&denial.decision)),
            Ok(Decided::Ask(pending)) => Reply::unfit(unfit, &asked.method, target, Some(&pending.decision)),
            Ok(Decided::Allow(allow)) => {
                let note = Some(unfit.code.to_owned());
                let outcome =
                    Outcome { status: OutcomeStatus::Failed, result: None, words: vec![], bytes: 0, note };
                if let Err(error) = report(&*self.point, &asked.caller, &allow.decision, outcome).await {
                    tracing::error!(decision = %allow.decision, %error, "an outcome could not be recorded");
                }
                Reply::unfit(unfit, &asked.method, target, Some(&allow.decision))
            }
            Err(error) => Reply::undecided(&error),
        }
    }

    fn not_now(&self, caller: &Caller, tool: &ToolId, args: &Value, decided: Decided) -> Reply {
        match decided {
            Decided::Deny(denial) => {
                self.pending.forget(caller, tool, args);
                Reply::denied(&denial)
            }
            Decided::Ask(pending) => {
                self.pending.remember(caller, tool, args, &pending.approval);
                Reply::asked(&pending)
            }
            // `allowed` gives back only what does not allow; if that ever changes, this stays a refusal.
            Decided::Allow(_) => Reply::broken(),
        }
    }

    /// The handle to present for an act that waited: programs repeat a request, they seldom add a header. While
    /// a person has not decided, the answer is ready without asking again.
    async fn recall(
        &self,
        caller: &Caller,
        tool: &ToolId,
        args: &Value,
    ) -> Result<Option<ApprovalId>, Reply> {
        let Some(approval) = self.pending.find(caller, tool, args) else { return Ok(None) };
        match self.point.approval(caller, &approval).await {
            Ok(ApprovalState::Waiting { .. }) => Err(Reply::still_waiting(&approval)),
            Ok(ApprovalState::Approved { .. } | ApprovalState::Denied { .. }) => Ok(Some(approval)),
            Ok(ApprovalState::Closed { .. }) => {
                self.pending.forget(caller, tool, args);
                Ok(None)
            }
            Err(error) => Err(Reply::undecided(&error)),
        }
    }

    /// Runs an allowed request to its report; only then does the agent see what came of it.
    async fn run_to_report(
        &self,
        caller: &Caller,
        withdrawn: watch::Receiver<bool>,
        tool: &ToolId,
        method: &Method,
        decision: &DecisionId,
        sending: impl Future<Output = Result<Clean, SendError>>,
    ) -> Reply {
        let done = tokio::select! {
            biased;
            done = sending => Ok(done),
            why = stopped(&*self.point, caller, self.config.live_poll, withdrawn) => Err(why),
        };
        if let Err(error) = report(&*self.point, caller, decision, outcome(method, &done)).await {
            tracing::error!(%tool, %decision, %error, "an outcome could not be recorded");
            return Reply::unrecorded(tool, decision);
        }
        match done {
            Ok(Ok(clean)) => Reply::passed_on(decision, clean),
            Ok(Err(error)) => Reply::failed(tool, decision, &error),
            Err(why) => Reply::stopped(tool, decision, why),
        }
    }
}

/// One request of a proven caller.
struct Asked {
    caller: Caller,
    address: Address,
    method: Method,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Asked {
    /// The same request with the API's whole path.
    fn inbound(&self, api: &Api) -> Inbound {
        let target = match &self.address {
            Address::System { below, .. } => {
                let base = api.url.path().trim_end_matches('/');
                let whole = format!("{base}{below}");
                if whole.starts_with('/') { whole } else { format!("/{whole}") }
            }
            Address::Origin { target, .. } => target.clone(),
        };
        Inbound {
            method: self.method.clone(),
            target,
            headers: self.headers.clone(),
            body: self.body.clone(),
        }
    }
}

/// What a request carries for us beside what it carries for the API.
struct Extras {
    approval: Option<ApprovalId>,
    says: Option<String>,
}

impl Extras {
    fn of(all: &HeaderMap) -> Result<Extras, Unfit> {
        let one = |name| headers::single(all, name).map_err(|why| Unfit { code: "egress.header", why });
        let approval = one(APPROVAL)?.map(ApprovalId::parse).transpose();
        let approval = approval.map_err(|_| Unfit {
            code: "egress.header",
            why: format!("header `{APPROVAL}` is no approval's handle"),
        })?;
        Ok(Extras { approval, says: one(SAYS)?.map(|text| cut(text, SAYS_MAX).to_owned()) })
    }
}

fn nowhere(address: &Address) -> Unfit {
    let why = match address {
        Address::System { .. } => "no API of this name is configured here".to_owned(),
        Address::Origin { origin, .. } => {
            format!("no operator named `{}` as an API that may be reached", cut(origin, 256))
        }
    };
    Unfit { code: "egress.no_api", why }
}

fn outcome(method: &Method, done: &Result<Result<Clean, SendError>, Stopped>) -> Outcome {
    let nothing = |status, note: &str| Outcome {
        status,
        result: None,
        words: vec![],
        bytes: 0,
        note: Some(note.to_owned()),
    };
    match done {
        Ok(Ok(clean)) => Outcome {
            status: clean.outcome(method),
            result: clean.result.clone(),
            words: clean.words(),
            bytes: clean.bytes,
            note: (!clean.status.is_success()).then(|| format!("HTTP status {}", clean.status.as_u16())),
        },
        Ok(Err(error)) if error.may_have_happened() => nothing(OutcomeStatus::Unknown, error.code()),
        Ok(Err(error)) => nothing(OutcomeStatus::Failed, error.code()),
        Err(why) => nothing(OutcomeStatus::Unknown, why.code()),
    }
}
