//! A small organisation behind a listener: root operates, dana opens tasks, omar approves, ci is a workflow;
//! support reads tickets and hands work to remediator, which restarts machines.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bailiwick_api::client::People;
use bailiwick_api::wire::{CallAnswer, TaskOpen, TaskOpened, TokenAnswer, key_digest};
use bailiwick_audit::NoteSigner;
use bailiwick_core::agent::{Agent, Person};
use bailiwick_core::capability::{Capability, Delegate};
use bailiwick_core::tool::{Effect, Manifest, ResourceSpec, Role, ToolPattern};
use bailiwick_core::{AgentId, PrincipalId, TenantId, Time, ToolId, Value};
use bailiwick_engine::{Config, Engine, Ledger, SystemClock};
use bailiwick_gateway::{Door, TokenDoor};
use bailiwick_server::{AgentDoor, Knock, ServerState, Shut};
use bailiwick_store::{Location, Store};
use bailiwick_token::{Jwks, KeyAlgorithm, Mint, SigningKey, SpiffeId, Verifier, dpop, random_id, subject};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The gateway's door, opened for the control plane too: one verification, one memory of proofs.
pub(crate) struct OneDoor(pub(crate) Arc<TokenDoor>);

impl AgentDoor for OneDoor {
    fn admit<'a>(
        &'a self,
        knock: Knock<'a>,
    ) -> futures_util::future::BoxFuture<'a, Result<bailiwick_api::Caller, Shut>> {
        Box::pin(async move {
            let knock =
                bailiwick_gateway::Knock { method: knock.method, path: knock.path, headers: knock.headers };
            self.0.admit(knock).await.map_err(|refused| Shut {
                code: refused.code,
                error: refused.challenge.error(),
                reason: refused.reason,
                nonce: refused.nonce,
            })
        })
    }
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) state: ServerState,
    pub(crate) base: String,
    pub(crate) http: reqwest::Client,
    pub(crate) folder: Arc<tempfile::TempDir>,
    address: SocketAddr,
    tenant: String,
    signer: Vec<u8>,
    agents: BTreeMap<String, Arc<SigningKey>>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

pub(crate) fn person(name: &str) -> PrincipalId {
    PrincipalId::parse(&format!("{name}@example.org")).unwrap()
}
pub(crate) fn agent(name: &str) -> AgentId {
    AgentId::parse(name).unwrap()
}
pub(crate) fn tool(name: &str) -> ToolId {
    ToolId::parse(name).unwrap()
}
pub(crate) fn json(text: &str) -> Value {
    Value::parse(text.as_bytes()).unwrap()
}

pub(crate) const CHAIN: &str = r#"{"steps":[
  {"id":"read","agent":"support","act":"call","tool":"tickets.get","args":{"id":{"input":"ticket"}},"min":0,"max":9},
  {"id":"hand","agent":"support","act":"hand_off","to":"remediator","pass":{"summary":{"type":"text","max":40}}},
  {"id":"restart","agent":"remediator","act":"call","tool":"cloud.restart","args":{"name":{"one_of":["web-3","db-1"]}},"after":["hand"],"max":2}
]}"#;

const PROD_ASKS: &str = r#"
@id("inside-the-task") permit (principal, action, resource);
@id("prod-asks") @ask("approvers") @reason("Changing production needs a person.")
forbid (principal, action == Action::"cloud.restart", resource is Vm) when { resource has env && resource.env == "prod" };
"#;

impl World {
    pub(crate) async fn new() -> World {
        World::of("acme").await
    }

    pub(crate) async fn of(tenant: &str) -> World {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let signer = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap().to_pkcs8().to_vec();
        let agents = ["support", "remediator"]
            .map(|name| (name.to_owned(), Arc::new(SigningKey::generate(KeyAlgorithm::Ed25519).unwrap())));
        let world = World::start(tenant, folder, signer, agents.into(), None, wall).await;
        furnish(&world).await;
        world
    }

    /// The same folder, keys and address, served again as after a crash or a restart.
    pub(crate) async fn restarted(self) -> World {
        self.restarted_with(wall).await
    }

    /// The same with another clock at the agents' door.
    pub(crate) async fn restarted_with(self, clock: fn() -> Time) -> World {
        let World { engine, state, folder, address, tenant, signer, agents, stop, served, .. } = self;
        stop.send(()).unwrap();
        served.await.unwrap().unwrap();
        engine.store().close().await;
        drop((engine, state));
        World::start(&tenant, folder, signer, agents, Some(address), clock).await
    }

    async fn start(
        tenant: &str,
        folder: Arc<tempfile::TempDir>,
        signer: Vec<u8>,
        agents: BTreeMap<String, Arc<SigningKey>>,
        address: Option<SocketAddr>,
        clock: fn() -> Time,
    ) -> World {
        let listener = TcpListener::bind(address.unwrap_or(([127, 0, 0, 1], 0).into())).await.unwrap();
        let address = listener.local_addr().unwrap();
        let base = format!("http://{address}");
        let store = Store::open(Location::Sqlite(folder.path().join("ledger.db"))).await.unwrap();
        let config = Config {
            tenant: TenantId::parse(tenant).unwrap(),
            trust_domain: "example.org".to_owned(),
            audience: base.clone(),
            token_ttl_secs: 300,
            clock: Arc::new(SystemClock::default()),
            mint: Mint::new(&base, SigningKey::from_pkcs8(&signer).unwrap()),
            ledger: Ledger::new(NoteSigner::from_seed("example.org/ledger", &[7; 32]).unwrap()),
        };
        let engine = Engine::open(store, config).await.unwrap();
        let verifier =
            Verifier::new(&base, &base, &Jwks::new([engine.token_key().clone()])).for_tenant(tenant);
        let door = Arc::new(TokenDoor::with_clock(&base, verifier, clock));
        let state = ServerState::new(engine.clone(), &base, Arc::new(OneDoor(door)));
        let (stop, stopped) = oneshot::channel();
        let router = bailiwick_server::router(state.clone());
        let served = tokio::spawn(bailiwick_server::serve(listener, router, async {
            let _ = stopped.await;
        }));
        let http = reqwest::Client::new();
        let tenant = tenant.to_owned();
        World { engine, state, base, http, folder, address, tenant, signer, agents, stop, served }
    }

    /// The key a person signs in with.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("bwk_{}", bailiwick_token::Digest::of(format!("{} {name}", self.tenant).as_bytes()))
    }

    pub(crate) fn sign_in(&self, name: &str) -> People {
        People::new(&self.base, self.key(name)).unwrap()
    }

    pub(crate) async fn open(&self) -> TaskOpened {
        let task = TaskOpen {
            inputs: [("ticket".to_owned(), Value::Int(4711)), ("vm".to_owned(), Value::from("web-3"))].into(),
            chain: Some(json(CHAIN)),
            ..TaskOpen::new("Fix ticket 4711: web-3 and db-1 are slow", agent("support"))
        };
        self.sign_in("dana").open_task(&task).await.unwrap()
    }

    pub(crate) fn agent_key(&self, name: &str) -> &SigningKey {
        &self.agents[name]
    }

    pub(crate) fn assertion(&self, name: &str) -> String {
        self.assertion_by(name, self.agent_key(name))
    }

    pub(crate) fn assertion_by(&self, name: &str, key: &SigningKey) -> String {
        let spiffe = SpiffeId::parse(&format!("spiffe://example.org/agent/{name}")).unwrap();
        let endpoint = format!("{}/oauth/token", self.base);
        subject::assert_agent(key, &spiffe, &endpoint, now_secs(), &random_id().unwrap()).unwrap()
    }

    /// A proof of possession for one request.
    pub(crate) fn prove(&self, name: &str, method: &str, path: &str, token: Option<&str>) -> String {
        let url = format!("{}{path}", self.base);
        dpop::prove(self.agent_key(name), method, &url, token, None, now_secs(), &random_id().unwrap())
            .unwrap()
    }

    /// Asks for a token; gives status and body.
    pub(crate) async fn ask_token(
        &self,
        form: &[(&str, &str)],
        proof: Option<&str>,
    ) -> (u16, serde_json::Value) {
        let mut request = self
            .http
            .post(format!("{}/oauth/token", self.base))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(encoded(form));
        if let Some(proof) = proof {
            request = request.header("DPoP", proof);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }

    /// The form an agent sends for a grant.
    pub(crate) fn form(&self, name: &str, grant: &str) -> Vec<(&'static str, String)> {
        vec![
            ("grant_type", "client_credentials".to_owned()),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned()),
            ("client_assertion", self.assertion(name)),
            ("grant", grant.to_owned()),
        ]
    }

    pub(crate) async fn token(&self, name: &str, grant: &str) -> String {
        let form = self.form(name, grant);
        let form: Vec<(&str, &str)> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let proof = self.prove(name, "POST", "/oauth/token", None);
        let (status, body) = self.ask_token(&form, Some(&proof)).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_value::<TokenAnswer>(body).unwrap().access_token
    }

    /// What an agent asks, with a fresh proof.
    pub(crate) async fn ask(
        &self,
        (name, token): (&str, &str),
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> (u16, serde_json::Value) {
        let proof = self.prove(name, method, path, Some(token));
        self.ask_with((token, Some(&proof)), method, path, body).await
    }

    pub(crate) async fn ask_with(
        &self,
        (token, proof): (&str, Option<&str>),
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> (u16, serde_json::Value) {
        let mut request = self
            .http
            .request(method.parse().unwrap(), format!("{}{path}", self.base))
            .header("authorization", format!("DPoP {token}"));
        if let Some(proof) = proof {
            request = request.header("dpop", proof);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }

    /// One decision.
    pub(crate) async fn decide(&self, who: (&str, &str), body: &str) -> CallAnswer {
        let (status, answer) = self.ask(who, "POST", "/v1/decisions", Some(body)).await;
        assert!(matches!(status, 200 | 403), "{status} {answer}");
        serde_json::from_value(answer).unwrap()
    }

    /// A second node behind the same URL, with a memory of its own; gives its address. It runs as long as the test.
    pub(crate) async fn second_node(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let keys = Jwks::new([self.engine.token_key().clone()]);
        let door =
            TokenDoor::new(&self.base, Verifier::new(&self.base, &self.base, &keys).for_tenant(&self.tenant));
        let state = ServerState::new(self.engine.clone(), &self.base, Arc::new(OneDoor(Arc::new(door))));
        let router = bailiwick_server::router(state.allow_host(&address));
        tokio::spawn(bailiwick_server::serve(listener, router, std::future::pending()));
        format!("http://{address}")
    }

    /// Events in the ledger.
    pub(crate) async fn size(&self) -> u64 {
        self.engine.store().head().await.unwrap().size
    }
}

pub(crate) fn now_secs() -> u64 {
    wall().secs()
}

fn wall() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Time(since.as_millis() as u64)
}

pub(crate) fn encoded(form: &[(&str, &str)]) -> String {
    let escape = |text: &str| -> String {
        text.bytes()
            .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
            .collect()
    };
    form.iter().map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect::<Vec<_>>().join("&")
}

/// People, agents, tools, one policy; and nobody holds anything.
async fn furnish(world: &World) {
    let engine = &world.engine;
    let root = person("root");
    for (name, group, workload) in [
        ("root", Some("operators"), false),
        ("dana", None, false),
        ("omar", Some("approvers"), false),
        ("mallory", None, false),
        ("ci", None, true),
    ] {
        let person = Person {
            id: person(name),
            groups: group.into_iter().map(|g| g.parse().unwrap()).collect(),
            workload,
            keys: [key_digest(&world.key(name)).unwrap()].into(),
        };
        engine.set_person(&root, person).await.unwrap();
    }
    for manifest in manifests() {
        engine.classify(&root, manifest, None).await.unwrap();
    }
    let delegate = Some(Delegate { to: [agent("remediator")].into(), depth: 1 });
    let support = vec![
        Capability { delegate: delegate.clone(), ..can("tickets.*") },
        Capability { may_use: false, delegate, ..can("cloud.*") },
    ];
    for (name, ceiling) in [("support", support), ("remediator", vec![can("cloud.*")])] {
        let record = Agent {
            id: agent(name),
            owner: root.clone(),
            class: "worker".parse().unwrap(),
            ceiling,
            keys: [world.agent_key(name).public().jkt().to_string()].into(),
        };
        engine.set_agent(&root, record).await.unwrap();
    }
    engine.set_policy(&root, &[("prod.cedar".to_owned(), PROD_ASKS.to_owned())]).await.unwrap();
}

fn can(pattern: &str) -> Capability {
    Capability::to_use(ToolPattern::parse(pattern).unwrap())
}

fn manifests() -> Vec<Manifest> {
    let mut restart = Manifest::new(tool("cloud.restart"), Effect::Update).arg("name", Role::Selector);
    restart.reversible = true;
    restart.resource = Some(ResourceSpec {
        kind: "Vm".to_owned(),
        from: Some("name".to_owned()),
        known: [("db-1".to_owned(), [("env".to_owned(), "prod".to_owned())].into())].into(),
    });
    let delete = Manifest::new(tool("cloud.delete"), Effect::Delete).arg("name", Role::Selector);
    let get = Manifest::new(tool("tickets.get"), Effect::Read).arg("id", Role::Selector);
    vec![restart, delete, get]
}
