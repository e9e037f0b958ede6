//! A small organisation to tell stories about: dana opens tasks, omar approves, support reads tickets and
//! hands work to remediator, which restarts machines.

use std::collections::BTreeMap;
use std::sync::Arc;

use bailiwick_api::{Answer, Call, Caller, Denial, HandoffAsk, Pending, ProofSeen};
use bailiwick_audit::NoteSigner;
use bailiwick_core::agent::{Agent, Person};
use bailiwick_core::capability::{Capability, Delegate};
use bailiwick_core::tool::{Effect, Manifest, ResourceSpec, Role, ToolPattern};
use bailiwick_core::{AgentId, Digest, GrantId, PrincipalId, TaskId, TenantId, Time, ToolId, Value};
use bailiwick_engine::{Config, Engine, Ledger, NewTask, OpenedTask, TestClock};
use bailiwick_store::{Location, Store};
use bailiwick_token::{KeyAlgorithm, Mint, SigningKey};

pub struct World {
    pub engine: Engine,
    pub clock: Arc<TestClock>,
    pub folder: tempfile::TempDir,
}

pub fn person(name: &str) -> PrincipalId {
    PrincipalId::parse(&format!("{name}@example.org")).unwrap()
}
pub fn agent(name: &str) -> AgentId {
    AgentId::parse(name).unwrap()
}
pub fn tool(name: &str) -> ToolId {
    ToolId::parse(name).unwrap()
}
pub fn json(text: &str) -> Value {
    Value::parse(text.as_bytes()).unwrap()
}
pub fn instance(agent: &str) -> String {
    bailiwick_token::Digest::of(agent.as_bytes()).to_string()
}

pub async fn store_in(folder: &std::path::Path) -> Store {
    Store::open(Location::Sqlite(folder.join("ledger.db"))).await.unwrap()
}

pub fn config(tenant: &str, clock: Arc<TestClock>) -> Config {
    config_with(tenant, clock)
}

pub fn config_with(tenant: &str, clock: Arc<dyn bailiwick_engine::Clock>) -> Config {
    let key = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap();
    Config {
        tenant: TenantId::parse(tenant).unwrap(),
        trust_domain: "example.org".to_owned(),
        audience: "http://127.0.0.1:7777".to_owned(),
        token_ttl_secs: 300,
        clock,
        mint: Mint::new("http://127.0.0.1:7777", key),
        ledger: Ledger::new(NoteSigner::from_seed("example.org/ledger", &[7; 32]).unwrap()),
    }
}

impl World {
    pub async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock::at(Time(1_800_000_000_000)));
        let engine =
            Engine::open(store_in(folder.path()).await, config("acme", clock.clone())).await.unwrap();
        furnish(&engine).await;
        World { engine, clock, folder }
    }

    /// The same folder opened again, as after a crash or a restart.
    pub async fn reopened(self) -> World {
        let World { engine, clock, folder } = self;
        engine.store().close().await;
        drop(engine);
        let engine =
            Engine::open(store_in(folder.path()).await, config("acme", clock.clone())).await.unwrap();
        World { engine, clock, folder }
    }

    pub async fn open(&self) -> OpenedTask {
        self.open_with(Some(CHAIN)).await
    }

    pub async fn open_with(&self, chain: Option<&str>) -> OpenedTask {
        self.engine.open_task(self.new_task(chain)).await.unwrap()
    }

    pub fn new_task(&self, chain: Option<&str>) -> NewTask {
        NewTask { chain: chain.map(json), ..a_task() }
    }

    pub fn caller(&self, task: &TaskId, grant: &GrantId, name: &str) -> Caller {
        Caller {
            tenant: TenantId::parse("acme").unwrap(),
            task: task.clone(),
            grant: grant.clone(),
            agent: agent(name),
            initiator: person("dana"),
            instance: instance(name),
            until: self.engine.now().plus_ms(300_000),
            proof: None,
        }
    }

    pub async fn call(&self, caller: &Caller, name: &str, args: &str) -> Answer {
        let call = Call { tool: tool(name), args: json(args), definition: None, approval: None, says: None };
        self.engine.decide(caller, call).await.unwrap()
    }

    pub async fn hand_to_remediator(&self, task: &OpenedTask) -> Caller {
        let ask = HandoffAsk {
            to: agent("remediator"),
            capabilities: vec![],
            ttl_ms: None,
            depth: 0,
            payload: json(r#"{"summary":"web-3 is slow","customer_email":"eve@evil.com"}"#),
        };
        let made = self
            .engine
            .hand_off(&self.caller(&task.task, &task.grant, "support"), ask)
            .await
            .unwrap()
            .unwrap();
        self.caller(&task.task, &made.grant, "remediator")
    }
}

/// A task of dana's, without a chain.
pub fn a_task() -> NewTask {
    NewTask {
        initiator: person("dana"),
        intent: "Fix ticket 4711: web-3 is slow".to_owned(),
        inputs: BTreeMap::from([
            ("ticket".to_owned(), Value::Int(4711)),
            ("vm".to_owned(), Value::from("web-3")),
        ]),
        types: BTreeMap::new(),
        agent: agent("support"),
        chain: None,
        capabilities: None,
        ttl_ms: 3_600_000,
        asks: 3,
        handoffs: 4,
        depth: 2,
        refusals: None,
        seeking: None,
        template: None,
    }
}

pub const CHAIN: &str = r#"{"steps":[
  {"id":"read","agent":"support","act":"call","tool":"tickets.get","args":{"id":{"input":"ticket"}},"min":0,"max":9},
  {"id":"hand","agent":"support","act":"hand_off","to":"remediator","pass":["summary"]},
  {"id":"restart","agent":"remediator","act":"call","tool":"cloud.restart","args":{"name":{"one_of":["web-3","db-1"]}},"after":["hand"],"max":2},
  {"id":"comment","agent":"remediator","act":"call","tool":"tickets.comment","args":{"id":{"input":"ticket"},"text":{"length":500}},"after":["restart"]}
]}"#;

/// People, agents, tools; and nobody holds anything.
pub async fn furnish(engine: &Engine) {
    let root = person("root");
    for (name, groups) in [
        ("root", vec!["operators"]),
        ("dana", vec![]),
        ("omar", vec!["approvers"]),
        ("olga", vec!["approvers"]),
    ] {
        let groups = groups.into_iter().map(|g| g.parse().unwrap()).collect();
        let person = Person { id: person(name), groups, workload: false, keys: Default::default() };
        engine.set_person(&root, person).await.unwrap();
    }
    let bot = Person {
        id: person("bot"),
        groups: ["approvers".parse().unwrap()].into(),
        workload: true,
        keys: Default::default(),
    };
    engine.set_person(&root, bot).await.unwrap();
    for manifest in manifests() {
        engine.classify(&root, manifest, None).await.unwrap();
    }
    let delegate = Some(Delegate { to: [agent("remediator")].into(), depth: 1 });
    let support = vec![
        Capability { delegate: delegate.clone(), ..can("tickets.*") },
        Capability { may_use: false, delegate, ..can("cloud.*") },
    ];
    for (name, ceiling) in
        [("support", support), ("remediator", vec![can("cloud.*"), can("tickets.comment")])]
    {
        let record = Agent {
            id: agent(name),
            owner: root.clone(),
            class: "worker".parse().unwrap(),
            ceiling,
            keys: [instance(name)].into(),
        };
        engine.set_agent(&root, record).await.unwrap();
    }
}

fn can(pattern: &str) -> Capability {
    Capability::to_use(ToolPattern::parse(pattern).unwrap())
}

fn manifests() -> Vec<Manifest> {
    let vm = |prod: &str| ResourceSpec {
        kind: "Vm".to_owned(),
        from: Some("name".to_owned()),
        known: BTreeMap::from([(prod.to_owned(), BTreeMap::from([("env".to_owned(), "prod".to_owned())]))]),
    };
    let mut restart = Manifest::new(tool("cloud.restart"), Effect::Update).arg("name", Role::Selector);
    restart.reversible = true;
    restart.resource = Some(vm("db-1"));
    let mut delete = Manifest::new(tool("cloud.delete"), Effect::Delete).arg("name", Role::Selector);
    delete.resource = Some(vm("db-1"));
    let mut comment = Manifest::new(tool("tickets.comment"), Effect::Create)
        .arg("id", Role::Selector)
        .arg("text", Role::Content);
    comment.reversible = true;
    let get = Manifest::new(tool("tickets.get"), Effect::Read).arg("id", Role::Selector);
    vec![restart, delete, comment, get]
}

pub fn denied(answer: Answer) -> Denial {
    match answer {
        Answer::Deny(denial) => denial,
        other => panic!("expected a refusal, got {other:?}"),
    }
}
pub fn asked(answer: Answer) -> Pending {
    match answer {
        Answer::Ask(pending) => pending,
        other => panic!("expected a question, got {other:?}"),
    }
}
pub fn allowed(answer: Answer) -> bailiwick_core::DecisionId {
    answer.allowed().unwrap_or_else(|other| panic!("expected a yes, got {other:?}")).decision().clone()
}
pub fn proof(n: u8, until: Time) -> Option<ProofSeen> {
    Some(ProofSeen { id: Digest::of(&[n]), until })
}
