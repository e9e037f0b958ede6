//! What the tests share: a scripted decision point, a door that believes a header, a client.

use bailiwick_api::{
    Allow, Answer, ApprovalState, Call, Caller, DecisionPoint, Denial, HandoffAsk, HandoffMade, Outcome,
    Pending, PointError, ToolView,
};
use bailiwick_core::{
    AgentId, ApprovalId, DecisionId, Digest, GrantId, PrincipalId, SystemId, TaskId, TenantId, Time, ToolId,
    Value,
};
use bailiwick_gateway::{
    Challenge, Door, Gateway, GatewayConfig, Knock, Refused, Transport, UpstreamSpec, router,
};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

/// Nothing in these tests may take longer.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) fn value(json: &Json) -> Value {
    Value::parse(json.to_string().as_bytes()).unwrap()
}

pub(crate) fn tool(text: &str) -> ToolId {
    ToolId::parse(text).unwrap()
}

/// A decision point that does as it is told. Not the product's: it holds no policy.
#[derive(Default)]
pub(crate) struct Scripted {
    pub(crate) deny: Mutex<Vec<ToolId>>,
    pub(crate) ask: Mutex<Vec<ToolId>>,
    pub(crate) approved: AtomicBool,
    pub(crate) down: AtomicBool,
    pub(crate) report_down: AtomicBool,
    pub(crate) dead: AtomicBool,
    pub(crate) decided: Mutex<Vec<(String, Call)>>,
    pub(crate) outcomes: Mutex<Vec<(DecisionId, Outcome)>>,
    pub(crate) reports: watch::Sender<usize>,
    pub(crate) seen: watch::Sender<BTreeMap<String, Vec<Value>>>,
    pub(crate) pins: Mutex<BTreeMap<ToolId, Digest>>,
    pub(crate) handoffs: Mutex<Vec<HandoffAsk>>,
    count: AtomicU64,
}

fn down() -> PointError {
    PointError { code: "store.unavailable".into(), reason: "the store is away".into(), retry: true }
}

impl Scripted {
    fn next(&self) -> DecisionId {
        DecisionId::parse(&format!("dec-{}", self.count.fetch_add(1, Ordering::SeqCst))).unwrap()
    }

    fn denial(&self, code: &str) -> Denial {
        Denial {
            decision: self.next(),
            step: 6,
            code: code.into(),
            rule: "chain".into(),
            reason: "the task does not foresee it".into(),
            remedy: "ask for another task".into(),
            text: "Refused: the task does not foresee it.".into(),
            retry: false,
        }
    }

    /// Waits until so many outcomes were reported.
    pub(crate) async fn reported(&self, count: usize) -> Vec<(DecisionId, Outcome)> {
        let mut reports = self.reports.subscribe();
        timeout(LONG, reports.wait_for(|n| *n >= count)).await.expect("no report").unwrap();
        self.outcomes.lock().unwrap().clone()
    }

    /// Waits until a system has offered something that satisfies the condition.
    pub(crate) async fn observed(&self, system: &str, what: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut seen = self.seen.subscribe();
        let got = seen.wait_for(|all| all.get(system).is_some_and(|tools| what(tools)));
        timeout(LONG, got).await.expect("not observed").unwrap()[system].clone()
    }

    pub(crate) fn last_call(&self) -> Call {
        self.decided.lock().unwrap().last().unwrap().1.clone()
    }
}

impl DecisionPoint for Scripted {
    async fn decide(&self, caller: &Caller, call: Call) -> Result<Answer, PointError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(down());
        }
        self.decided.lock().unwrap().push((caller.agent.to_string(), call.clone()));
        if self.deny.lock().unwrap().contains(&call.tool) {
            return Ok(Answer::Deny(self.denial("chain.not_enabled")));
        }
        if let Some(pin) = self.pins.lock().unwrap().get(&call.tool)
            && call.definition != Some(*pin)
        {
            return Ok(Answer::Deny(self.denial("tool.changed")));
        }
        let approved = call.approval.is_some() && self.approved.load(Ordering::SeqCst);
        if self.ask.lock().unwrap().contains(&call.tool) && !approved {
            let approval = ApprovalId::parse("apr-1").unwrap();
            let text = "This needs a person's yes.".into();
            return Ok(Answer::Ask(Pending { decision: self.next(), approval, until: Time(u64::MAX), text }));
        }
        let until = Time(u64::MAX);
        Ok(Answer::Allow(Allow { decision: self.next(), tool: call.tool, args: call.args, until }))
    }

    async fn list(&self, _: &Caller) -> Result<Vec<ToolView>, PointError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(down());
        }
        let view = |system: &str, definition: &Value| {
            let system = SystemId::parse(system).ok()?;
            let tool = ToolId::of(&system, definition.get("name")?.as_text()?).ok()?;
            Some(ToolView { tool, pin: definition.digest(), definition: definition.clone() })
        };
        let seen = self.seen.borrow();
        let all = seen.iter().flat_map(|(system, tools)| tools.iter().filter_map(move |t| view(system, t)));
        let denied = self.deny.lock().unwrap().clone();
        Ok(all.filter(|view| !denied.contains(&view.tool)).collect())
    }

    async fn report(&self, _: &Caller, decision: &DecisionId, outcome: Outcome) -> Result<(), PointError> {
        if self.report_down.load(Ordering::SeqCst) {
            return Err(down());
        }
        self.outcomes.lock().unwrap().push((decision.clone(), outcome));
        self.reports.send_modify(|n| *n += 1);
        Ok(())
    }

    async fn hand_off(&self, _: &Caller, ask: HandoffAsk) -> Result<Result<HandoffMade, Denial>, PointError> {
        self.handoffs.lock().unwrap().push(ask.clone());
        if ask.to.as_str() == "stranger" {
            return Ok(Err(self.denial("handoff.not_granted")));
        }
        Ok(Ok(HandoffMade {
            decision: self.next(),
            grant: GrantId::parse("grant-child").unwrap(),
            to: ask.to,
            capabilities: ask.capabilities,
            until: Time(5),
            delivered: Value::empty(),
            stripped: vec!["notes".into()],
            sources: Vec::new(),
        }))
    }

    async fn approval(&self, _: &Caller, _: &ApprovalId) -> Result<ApprovalState, PointError> {
        let until = Time(9);
        Ok(match self.approved.load(Ordering::SeqCst) {
            true => ApprovalState::Approved { until, narrowed: None },
            false => ApprovalState::Waiting { until },
        })
    }

    async fn observe(&self, system: &str, definitions: Vec<Value>) -> Result<(), PointError> {
        self.seen.send_modify(|all| _ = all.insert(system.to_owned(), definitions));
        Ok(())
    }

    async fn live(&self, _: &Caller) -> bool {
        !self.dead.load(Ordering::SeqCst)
    }
}

/// A door that believes the header `Authorization: Test AGENT`. Not the product's.
pub(crate) struct NameDoor;

impl Door for NameDoor {
    async fn admit(&self, knock: Knock<'_>) -> Result<Caller, Refused> {
        let header = knock.headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or("");
        let Some(agent) = header.strip_prefix("Test ").and_then(|name| AgentId::parse(name).ok()) else {
            let challenge = Challenge::Missing;
            return Err(Refused {
                code: "token.missing",
                challenge,
                reason: "no \"token\"\r\n".into(),
                nonce: None,
            });
        };
        Ok(Caller {
            tenant: TenantId::parse("main").unwrap(),
            task: TaskId::parse("task-1").unwrap(),
            grant: GrantId::parse("grant-1").unwrap(),
            instance: format!("key-of-{agent}"),
            agent,
            initiator: PrincipalId::parse("dana@example.com").unwrap(),
            until: Time(u64::MAX),
            proof: None,
        })
    }
}

/// A child process of the fixture, in the given generation.
pub(crate) fn child(system: &str, era: &str) -> UpstreamSpec {
    let transport = Transport::Stdio {
        command: env!("CARGO_BIN_EXE_scripted-tool-server").into(),
        args: vec![era.into()],
        env: vec![("FIXTURE_SECRET".into(), bailiwick_gateway::Secret::new("s3cret"))],
        cwd: None,
    };
    UpstreamSpec { call_timeout_ms: 30_000, ..UpstreamSpec::new(SystemId::parse(system).unwrap(), transport) }
}

/// A listener below the range that outgoing connections use.
pub(crate) async fn listen() -> (TcpListener, u16) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + u16::try_from(std::process::id() % 97).unwrap() * 100;
    for _ in 0..2_000 {
        let port = base + NEXT.fetch_add(1, Ordering::SeqCst) % 2_000;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await {
            return (listener, port);
        }
    }
    panic!("no free port");
}

/// A running gateway and a client of it.
pub(crate) struct World {
    pub(crate) point: Arc<Scripted>,
    pub(crate) url: String,
    pub(crate) client: reqwest::Client,
}

impl World {
    /// A gateway in front of one child of the given generation, up and listed.
    pub(crate) async fn with(era: &str) -> World {
        let world = World::of(vec![child("fix", era)]).await;
        world.point.observed("fix", |tools| !tools.is_empty()).await;
        world
    }

    pub(crate) async fn of(specs: Vec<UpstreamSpec>) -> World {
        let point = Arc::new(Scripted::default());
        let url = serve(point.clone(), NameDoor, specs).await;
        World { point, url, client: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    /// A stateless request as it should be.
    pub(crate) fn modern(
        &self,
        agent: &str,
        id: i64,
        method: &str,
        mut params: Json,
    ) -> reqwest::RequestBuilder {
        let name = params.get("name").and_then(Json::as_str).map(str::to_owned);
        let meta = params.as_object_mut().unwrap().entry("_meta").or_insert_with(|| json!({}));
        meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let request =
            self.post(agent, &body).header("mcp-protocol-version", "2026-07-28").header("mcp-method", method);
        match name {
            Some(name) => request.header("mcp-name", name),
            None => request,
        }
    }

    pub(crate) fn post(&self, agent: &str, body: &Json) -> reqwest::RequestBuilder {
        self.client
            .post(format!("{}/mcp", self.url))
            .header("authorization", format!("Test {agent}"))
            .header("content-type", "application/json")
            .body(body.to_string())
    }

    /// Calls a tool in the stateless generation; gives the result.
    pub(crate) async fn call(&self, name: &str, args: Json) -> Json {
        self.call_with(name, args, json!({})).await
    }

    pub(crate) async fn call_with(&self, name: &str, args: Json, meta: Json) -> Json {
        let params = json!({"name": name, "arguments": args, "_meta": meta});
        let answer = send(self.modern("planner", 1, "tools/call", params)).await.1;
        assert!(answer.get("result").is_some(), "{answer}");
        answer["result"].clone()
    }
}

pub(crate) async fn serve<D: Door>(point: Arc<Scripted>, door: D, specs: Vec<UpstreamSpec>) -> String {
    let (listener, port) = listen().await;
    serve_at(listener, &format!("http://127.0.0.1:{port}"), point, door, specs).await
}

pub(crate) async fn serve_at<D: Door>(
    listener: TcpListener,
    url: &str,
    point: Arc<Scripted>,
    door: D,
    specs: Vec<UpstreamSpec>,
) -> String {
    let mut config = GatewayConfig::at(url);
    config.live_poll = Duration::from_millis(20);
    let gateway = Gateway::start(point, door, specs, config).unwrap();
    tokio::spawn(async move { axum::serve(listener, router(gateway)).await });
    url.to_owned()
}

pub(crate) async fn send(request: reqwest::RequestBuilder) -> (u16, Json) {
    let response = timeout(LONG, request.send()).await.expect("no answer in time").unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Json::Null))
}

/// The text of a tool result.
pub(crate) fn text(result: &Json) -> &str {
    result["content"][0]["text"].as_str().unwrap_or("")
}
