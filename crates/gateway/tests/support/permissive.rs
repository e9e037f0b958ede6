//! A test fixture: the gateway in front of real tool servers, with a decision point that allows everything.
//!
//! It exists so that foreign clients and servers can be driven against the protocol code before and beside
//! the product, whose decisions are another matter. It takes no token but a fixed word, and with `open` none.
//!
//! `permissive-gateway serve|open PORT SPEC.json` listens on loopback; the file holds a list of
//! `{"system": …, "command": …, "args": […]}` or `{"system": …, "url": …}`.
//! `permissive-gateway connect URL` is the local connector of a client.

use bailiwick_api::{
    Allow, Answer, ApprovalState, Call, Caller, DecisionPoint, Denial, HandoffAsk, HandoffMade, Outcome,
    PointError, ToolView,
};
use bailiwick_core::{
    AgentId, ApprovalId, DecisionId, GrantId, PrincipalId, SystemId, TaskId, TenantId, Time, ToolId, Value,
};
use bailiwick_gateway::{
    Challenge, ConnectConfig, Door, Gateway, GatewayConfig, Knock, Proof, Prover, Refused, Secret, Transport,
    UpstreamSpec, connect, router,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::BufReader;

const WORD: &str = "Test fixture";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [how @ ("serve" | "open"), port, specs] => {
            serve(port.parse()?, &std::fs::read_to_string(specs)?, WordDoor { open: how == "open" }).await
        }
        ["connect", url] => {
            let config = ConnectConfig { url: url.to_owned(), request_timeout: Duration::from_secs(60) };
            Ok(connect(config, Word, BufReader::new(tokio::io::stdin()), tokio::io::stdout()).await?)
        }
        _ => Err("usage: permissive-gateway serve|open PORT SPEC.json | connect URL".into()),
    }
}

async fn serve(port: u16, specs: &str, door: WordDoor) -> Result<(), Box<dyn std::error::Error>> {
    eprintln!("permissive-gateway is a test fixture: it allows everything");
    let specs: Vec<serde_json::Value> = serde_json::from_str(specs)?;
    let specs =
        specs.iter().map(spec).collect::<Option<Vec<_>>>().ok_or("the file of specs cannot be read")?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let config = GatewayConfig::at(&format!("http://127.0.0.1:{port}"));
    let gateway = Gateway::start(Arc::new(Permissive::default()), door, specs, config)?;
    axum::serve(listener, router(gateway)).await?;
    Ok(())
}

fn spec(json: &serde_json::Value) -> Option<UpstreamSpec> {
    let transport = match json.get("url") {
        Some(url) => Transport::Http { url: url.as_str()?.to_owned(), headers: vec![] },
        None => Transport::Stdio {
            command: json["command"].as_str()?.to_owned(),
            args: json["args"].as_array()?.iter().filter_map(|a| Some(a.as_str()?.to_owned())).collect(),
            env: vec![],
            cwd: None,
        },
    };
    Some(UpstreamSpec::new(SystemId::parse(json["system"].as_str()?).ok()?, transport))
}

struct Word;

impl Prover for Word {
    async fn prove(&self, _: &str, _: &str, _: Option<&str>) -> Result<Proof, String> {
        Ok(Proof { authorization: Secret::new(WORD), dpop: Secret::new("none") })
    }
    async fn renew(&self) -> bool {
        false
    }
}

struct WordDoor {
    open: bool,
}

impl Door for WordDoor {
    async fn admit(&self, knock: Knock<'_>) -> Result<Caller, Refused> {
        let refused = || Refused {
            code: "token.missing",
            challenge: Challenge::Missing,
            reason: "the fixture's word is needed".into(),
            nonce: None,
        };
        if !self.open && knock.headers.get("authorization").is_none_or(|v| v.as_bytes() != WORD.as_bytes()) {
            return Err(refused());
        }
        caller().ok_or_else(refused)
    }
}

fn caller() -> Option<Caller> {
    Some(Caller {
        tenant: TenantId::parse("main").ok()?,
        task: TaskId::parse("task-1").ok()?,
        grant: GrantId::parse("grant-1").ok()?,
        agent: AgentId::parse("fixture").ok()?,
        initiator: PrincipalId::parse("dana@example.com").ok()?,
        instance: "fixture".into(),
        until: Time(u64::MAX),
        proof: None,
    })
}

/// Allows everything; knows what was offered.
#[derive(Default)]
struct Permissive {
    offered: Mutex<BTreeMap<String, Vec<Value>>>,
    count: AtomicU64,
}

fn cannot<T>() -> Result<T, PointError> {
    Err(PointError { code: "fixture".into(), reason: "the fixture cannot do this".into(), retry: false })
}

impl DecisionPoint for Permissive {
    async fn decide(&self, _: &Caller, call: Call) -> Result<Answer, PointError> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let Ok(decision) = DecisionId::parse(&format!("dec-{count}")) else { return cannot() };
        Ok(Answer::Allow(Allow { decision, tool: call.tool, args: call.args, until: Time(u64::MAX) }))
    }
    async fn list(&self, _: &Caller) -> Result<Vec<ToolView>, PointError> {
        let Ok(offered) = self.offered.lock() else { return cannot() };
        let views = offered.iter().flat_map(|(system, tools)| {
            tools.iter().filter_map(|definition| {
                let tool =
                    ToolId::of(&SystemId::parse(system).ok()?, definition.get("name")?.as_text()?).ok()?;
                Some(ToolView { tool, pin: definition.digest(), definition: definition.clone() })
            })
        });
        Ok(views.collect())
    }
    async fn report(&self, _: &Caller, _: &DecisionId, _: Outcome) -> Result<(), PointError> {
        Ok(())
    }
    async fn hand_off(&self, _: &Caller, _: HandoffAsk) -> Result<Result<HandoffMade, Denial>, PointError> {
        cannot()
    }
    async fn approval(&self, _: &Caller, _: &ApprovalId) -> Result<ApprovalState, PointError> {
        cannot()
    }
    async fn observe(&self, system: &str, definitions: Vec<Value>) -> Result<(), PointError> {
        let Ok(mut offered) = self.offered.lock() else { return cannot() };
        offered.insert(system.to_owned(), definitions);
        Ok(())
    }
    async fn live(&self, _: &Caller) -> bool {
        true
    }
}
