//! One node: store, engine, HTTP API and gateway on one listener, as `up` and the demo run it.
//!
//! What the configuration states becomes events, each by the first operator. A manifest is recorded at once, so
//! that policies can name its tool, and is pinned to the first definition that the tool server offers; until then
//! every call through the gateway is refused. A definition that changes after that is left to a human.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bailiwick_audit::NoteSigner;
use bailiwick_broker::mark::Maker;
use bailiwick_broker::ssh::relay::{InForce, Relay};
use bailiwick_broker::{Broker, BrokerError, Doing};
use bailiwick_core::agent::{OPERATORS, Person};
use bailiwick_core::ids::{GroupId, PrincipalId};
use bailiwick_core::lease::{Lease, LeaseState};
use bailiwick_core::tool::{Manifest, Standing};
use bailiwick_core::{LeaseId, TenantId, ToolId};
use bailiwick_engine::{Clock, Engine, Halted, Ledger, ShiftedClock, SystemClock};
use bailiwick_gateway::{Egress, Gateway, GatewayConfig, TokenDoor};
use bailiwick_server::ServerState;
use bailiwick_store::{Location, Store};
use bailiwick_token::{Jwks, Mint, Verifier};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::config::{self, Config};
use crate::door::SharedDoor;
use crate::fail::{Exit, Failure};
use crate::keys::{Keys, private_folder};

/// The one tenant of a node that runs alone.
const TENANT: &str = "main";
/// Space kept back on the disk, so that endings can be recorded when it is full.
const RESERVE_BYTES: u64 = 16 << 20;
/// How long a stop waits for credentials that are being revoked to be seen gone, and how often it looks.
const GONE_WITHIN: Duration = Duration::from_secs(10);
const GONE_YET: Duration = Duration::from_millis(50);
/// How often is looked for tools that appeared.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A node that runs.
pub(crate) struct Node {
    /// How clients reach it.
    pub(crate) url: String,
    /// The first operator, and whether their key is new.
    pub(crate) operator: Operator,
    /// The engine, for what a person beside the node may see.
    pub(crate) engine: Engine,
    manifests: Vec<Manifest>,
    systems: BTreeSet<String>,
    stop: watch::Sender<bool>,
    server: JoinHandle<std::io::Result<()>>,
    worker: JoinHandle<()>,
    relaying: JoinSet<()>,
    classifier: JoinHandle<()>,
    sessions: Option<JoinHandle<()>>,
}

/// The first operator.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    /// Who.
    pub(crate) id: PrincipalId,
    /// Whether the key was made just now.
    pub(crate) is_new: bool,
}

impl Node {
    /// Starts a node. When this returns, it answers. With a clock that can be moved it is a node for tests.
    ///
    /// # Errors
    /// A [`Failure`] that says which part could not start.
    pub(crate) async fn start(
        config: Config,
        test_clock: Option<Arc<ShiftedClock>>,
    ) -> Result<Node, Failure> {
        if config.external_url.is_none() && !config.listen.ip().is_loopback() {
            let next = "Set `external_url` to the address that clients use, https in front of a proxy that ends TLS.";
            return Err(Failure::usage(
                "listening beyond this machine needs a name that tokens are made for",
                next,
            ));
        }
        let listener = listen(config.listen).await?;
        let address = listener.local_addr().map_err(|e| cannot_listen(config.listen, &e))?;
        let url = config.external_url.clone().unwrap_or_else(|| format!("http://{address}"));
        private_folder(&config.data)?;
        let keys = Keys::of(&config.data);
        let clock: Arc<dyn Clock> = match &test_clock {
            Some(clock) => clock.clone(),
            None => Arc::new(SystemClock::default()),
        };
        let engine = engine(&config, &keys, &url, clock).await?;
        let operator = found_operator(&config, &keys, &engine).await?;
        apply(&config, &engine, &operator.id).await?;
        let relays = connect_targets(&config, &keys, &engine).await?;
        let (issuer, audience) = engine.token_names();
        let verifier =
            Verifier::new(issuer, audience, &Jwks::new([engine.token_key().clone()])).for_tenant(TENANT);
        let time = engine.clone();
        let door = SharedDoor::new(TokenDoor::with_clock(&url, verifier, move || time.now()));
        let gateway = Gateway::start(
            Arc::new(engine.clone()),
            door.clone(),
            config.systems.clone(),
            GatewayConfig::at(&url),
        )
        .map_err(|e| Failure::usage(e.to_string(), "Correct `systems` in the configuration."))?;
        let egress =
            Egress::new(Arc::new(engine.clone()), door.clone(), config.apis.clone(), GatewayConfig::at(&url))
                .map_err(|e| Failure::usage(e.to_string(), "Correct `systems` in the configuration."))?;
        egress.observe().await.map_err(|e| Failure::failed(&e.code, e.reason.clone(), ""))?;
        let (stop, mut stopped) = watch::channel(false);
        let databases = databases(&config, &engine, &url, door.clone(), stop.subscribe()).await?;
        let mut api = server_state(&config, &engine, &url, door);
        if let Some(clock) = test_clock {
            api = api.with_test_clock(Arc::new(move |ms| clock.advance_ms(ms)));
        }
        let mut router = bailiwick_server::router(api)
            .merge(bailiwick_gateway::router(gateway))
            .merge(bailiwick_gateway::egress::router(egress));
        let mut sessions = None;
        if let Some((routes, serving)) = databases {
            router = router.merge(routes);
            sessions = Some(serving);
        }
        let server = tokio::spawn(bailiwick_server::serve(listener, router, async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
        let worker = tokio::spawn({
            let engine = engine.clone();
            async move { engine.work().await }
        });
        let leases: Arc<dyn InForce> = Arc::new(InForceHere(engine.clone()));
        let mut relaying = JoinSet::new();
        for (relay, listener) in relays {
            relaying.spawn(relay.serve(listener, leases.clone()));
        }
        let apis: BTreeSet<String> = config.apis.iter().map(|a| a.system.to_string()).collect();
        let systems =
            config.systems.iter().map(|s| s.system.to_string()).chain(apis.iter().cloned()).collect();
        // Scopes of targets have no definition that could be pinned.
        let offered = |m: &&Manifest| config.targets.iter().all(|t| t.system().as_str() != m.tool.system());
        let offered: Vec<Manifest> = config.tools.iter().filter(offered).cloned().collect();
        let classifier = tokio::spawn(classify(engine.clone(), operator.id.clone(), offered, apis));
        let manifests = config.tools;
        Ok(Node {
            url,
            operator,
            engine,
            manifests,
            systems,
            stop,
            server,
            worker,
            relaying,
            classifier,
            sessions,
        })
    }

    /// Waits until every tool that the configuration describes has been offered and classified, or the time is up.
    /// Gives the tools that are still missing.
    pub(crate) async fn ready(&self, within: Duration) -> Vec<ToolId> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let missing = self.missing();
            if missing.is_empty() || tokio::time::Instant::now() >= deadline {
                return missing;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn missing(&self) -> Vec<ToolId> {
        let registry = self.engine.registry();
        let classified = |tool: &ToolId| {
            registry.tool(tool).is_some_and(|t| matches!(t.standing, Standing::Classified { pin: Some(_) }))
        };
        let ours = self.manifests.iter().filter(|m| self.systems.contains(m.tool.system()));
        ours.map(|m| m.tool.clone()).filter(|tool| !classified(tool)).collect()
    }

    /// Stops: sessions through relays and with databases are cut, no new requests, those under way may finish, what
    /// they gave back goes from its target, the log is closed.
    pub(crate) async fn stop(mut self) {
        self.classifier.abort();
        self.relaying.shutdown().await;
        self.stop.send_replace(true);
        if let Some(sessions) = self.sessions {
            let _ = sessions.await;
        }
        if let Ok(Err(error)) = self.server.await {
            tracing::warn!(%error, "the listener failed");
        }
        see_gone(&self.engine).await;
        self.worker.abort();
        self.engine.store().close().await;
    }
}

/// Waits until what is being revoked is gone. What its target holds up is left to the next start, which finds it in the
/// log.
async fn see_gone(engine: &Engine) {
    let going = |lease: &Lease| matches!(lease.state, LeaseState::Revoking { .. }) && lease.trouble.is_none();
    let all_gone = async {
        while let Ok(all) = engine.credentials().await {
            if !all.iter().any(|(_, lease)| going(lease)) {
                return;
            }
            tokio::time::sleep(GONE_YET).await;
        }
    };
    if tokio::time::timeout(GONE_WITHIN, all_gone).await.is_err() {
        tracing::warn!("credentials are still being revoked; the next start goes on with them");
    }
}

async fn listen(at: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(at).await.map_err(|e| cannot_listen(at, &e))
}

fn cannot_listen(at: SocketAddr, error: &std::io::Error) -> Failure {
    let what = format!("cannot listen on {at}: {error}");
    let next = "Is another bailiwick running? Choose another port with --listen or BAILIWICK_LISTEN.";
    Failure::failed("listen.failed", what, next)
}

fn without_grammar() -> Failure {
    let what = "a PostgreSQL target says `through: gateway`, and this program was built without PostgreSQL's grammar";
    let next = "Build it with `--features postgres-gateway` (needs libclang), or leave `through` out.";
    Failure::failed("postgres.no_grammar", what.to_owned(), next)
}

async fn engine(config: &Config, keys: &Keys, url: &str, clock: Arc<dyn Clock>) -> Result<Engine, Failure> {
    let store = open_store(config).await?;
    // A disk that is full already is no reason not to start: what must end can still be ended.
    if let Err(error) = store.keep_reserve(RESERVE_BYTES).await {
        tracing::error!(code = error.code(), %error, "no space is kept back for endings; nothing is granted until it is");
    }
    Ok(Engine::open(store, settings(config, keys, url, clock)?).await?)
}

async fn open_store(config: &Config) -> Result<Store, Failure> {
    let location = match &config.store {
        config::Store::Embedded => Location::Sqlite(config.data.join("ledger.db")),
        config::Store::Postgres(url) => Location::Postgres(url.expose().to_owned()),
    };
    let trouble = |what: String, code: &str| Failure::new(Exit::Unreachable, code, what, "");
    Store::open(location).await.map_err(|e| trouble(e.to_string(), e.code()))
}

fn settings(
    config: &Config,
    keys: &Keys,
    url: &str,
    clock: Arc<dyn Clock>,
) -> Result<bailiwick_engine::Config, Failure> {
    Ok(bailiwick_engine::Config {
        tenant: TenantId::parse(TENANT)?,
        trust_domain: config.trust_domain.clone(),
        audience: GatewayConfig::at(url).resource(),
        token_ttl_secs: config.token_ttl_secs,
        clock,
        mint: Mint::new(url, keys.token()?),
        ledger: ledger(config, keys)?,
    })
}

fn ledger(config: &Config, keys: &Keys) -> Result<Ledger, Failure> {
    let signer = NoteSigner::from_seed(&format!("{}/ledger", config.trust_domain), &keys.ledger_seed()?)?;
    let ledger = Ledger::new(signer);
    let Some(head) = &config.head else { return Ok(ledger) };
    if is_inside(head, &config.data) {
        let what = "`ledger.head` is inside the data folder, and would go back with every copy of it";
        let next = "Name a file in another place, best on another disk.";
        return Err(Failure::new(Exit::Usage, "ledger.head_inside", what, next));
    }
    Ok(ledger.kept_at(head.clone()))
}

/// Whether a file, which may not exist yet, is in a folder or below it.
fn is_inside(file: &Path, folder: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    let parent = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (real(parent), real(folder)) {
        (Ok(parent), Ok(folder)) => parent.starts_with(folder),
        _ => true,
    }
}

/// Keeps a first head of a ledger that is in use already. The node must be stopped.
///
/// # Errors
/// As [`bailiwick_engine::keep_first_head`].
pub(crate) async fn keep_first_head(config: &Config) -> Result<u64, Failure> {
    let ledger = ledger(config, &Keys::of(&config.data))?;
    let store = open_store(config).await?;
    let kept = bailiwick_engine::keep_first_head(&store, &ledger).await;
    store.close().await;
    Ok(kept?)
}

/// Accepts that the ledger is an older copy, in the name of the first operator. The node must be stopped.
///
/// # Errors
/// As [`bailiwick_engine::accept_loss`].
pub(crate) async fn accept_loss(config: &Config, reason: &str) -> Result<Halted, Failure> {
    let keys = Keys::of(&config.data);
    let Some(operator) = keys.operator()? else {
        return Err(Failure::usage(
            "this data folder has no operator",
            "Is it the right one? Look at `data`.",
        ));
    };
    let url = config.external_url.clone().unwrap_or_else(|| format!("http://{}", config.listen));
    let settings = settings(config, &keys, &url, Arc::new(SystemClock::default()))?;
    let store = open_store(config).await?;
    Ok(bailiwick_engine::accept_loss(store, settings, &operator, reason).await?)
}

/// The API answers to the names the gateway answers to: loopback has three.
fn server_state(config: &Config, engine: &Engine, url: &str, door: SharedDoor) -> ServerState {
    let state = ServerState::new(engine.clone(), url, Arc::new(door));
    let state = GatewayConfig::at(url).hosts.iter().fold(state, |state, host| state.allow_host(host));
    config.targets.iter().fold(state, |state, target| match target.host_token() {
        Some(token) => state.allow_target_host(target.system().clone(), token.expose()),
        None => state,
    })
}

/// What the relays ask: this node's own log.
struct InForceHere(Engine);

impl InForce for InForceHere {
    fn is_in_force<'a>(&'a self, lease: &'a LeaseId) -> Doing<'a, bool> {
        Box::pin(async move {
            let found = self.0.in_force(lease).await;
            found.map(|l| l.is_some()).map_err(|e| BrokerError::new("connector.log", e.to_string()))
        })
    }
}

/// The first operator: of the configuration, else of the registry, else a new one. Their key is made beside the
/// log, and only its hash goes in.
async fn found_operator(config: &Config, keys: &Keys, engine: &Engine) -> Result<Operator, Failure> {
    let id = match config.people.iter().find(|p| p.is_in(OPERATORS) && !p.workload) {
        Some(person) => person.id.clone(),
        None if config.people.is_empty() => match keys.operator()? {
            Some(id) => id,
            None => PrincipalId::parse(&format!("operator@{}", config.trust_domain))?,
        },
        None => {
            let next = format!("Add `{OPERATORS}` to the groups of whoever runs this.");
            return Err(Failure::usage("nobody in `people` is an operator", next));
        }
    };
    let is_new = keys.person(&id)?.is_none();
    let key = keys.found_person(&id)?;
    keys.set_operator(&id)?;
    let registry = engine.registry();
    let mut person = registry.person(&id).cloned().unwrap_or_else(|| Person {
        id: id.clone(),
        groups: [OPERATORS, bailiwick_core::agent::APPROVERS]
            .iter()
            .filter_map(|g| GroupId::parse(g).ok())
            .collect(),
        workload: false,
        keys: BTreeSet::new(),
    });
    person.keys.extend(bailiwick_api::wire::key_digest(&key));
    engine.set_person(&id, person).await?;
    Ok(Operator { id, is_new })
}

/// Connects the targets, and gives the relays that are to be served. A target that does not answer hinders nobody from
/// starting; a relay that cannot listen does.
async fn connect_targets(
    config: &Config,
    keys: &Keys,
    engine: &Engine,
) -> Result<Vec<(Arc<Relay>, TcpListener)>, Failure> {
    let maker = Maker::new(&keys.maker_seed()?);
    let (mut brokers, mut relays) = (Vec::<Arc<dyn Broker>>::new(), Vec::new());
    for target in &config.targets {
        let connector = target.connector(maker.clone()).map_err(|e| {
            Failure::new(Exit::Usage, e.code(), e.to_string(), "Correct `targets` in the configuration.")
        })?;
        brokers.push(connector.broker);
        if let Some((relay, at)) = connector.relay {
            relays.push((relay, listen(at).await?));
        }
    }
    let patience = bailiwick_engine::Patience::default();
    engine.connect(bailiwick_engine::Connectors { brokers, quota: config.leases, patience }).await?;
    Ok(relays)
}

/// The gateway for databases, if a target is reached through it: its routes, and what serves its sessions.
async fn databases(
    config: &Config,
    engine: &Engine,
    url: &str,
    door: SharedDoor,
    mut stopped: watch::Receiver<bool>,
) -> Result<Option<(axum::Router, JoinHandle<()>)>, Failure> {
    let carried = config::carried(&config.targets).map_err(|e| {
        Failure::new(Exit::Usage, e.code(), e.to_string(), "Correct `targets` in the configuration.")
    })?;
    if carried.is_empty() {
        return Ok(None);
    }
    if !bailiwick_gateway::postgres::UNDERSTANDS {
        return Err(without_grammar());
    }
    let stated = &config.postgres;
    let listener = listen(stated.listen).await?;
    let address = listener.local_addr().map_err(|e| cannot_listen(stated.listen, &e))?;
    let tls =
        stated.tls.as_ref().map(|(certificate, key)| crate::lender::tls(certificate, key)).transpose()?;
    let host = stated.host.clone().unwrap_or_else(|| address.ip().to_string());
    let gateway = bailiwick_gateway::Postgres::new(
        Arc::new(engine.clone()),
        door,
        crate::lender::EngineLender(engine.clone()),
        carried,
        tls,
        GatewayConfig::at(url),
    );
    let whereabouts = bailiwick_gateway::postgres::Whereabouts { host, port: address.port() };
    let routes = bailiwick_gateway::postgres::router(gateway.clone(), whereabouts);
    let stop = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    Ok(Some((routes, tokio::spawn(gateway.serve(listener, stop)))))
}

/// Makes events of what the configuration states and the registry does not know yet.
async fn apply(config: &Config, engine: &Engine, by: &PrincipalId) -> Result<(), Failure> {
    for stated in &config.people {
        let mut person = stated.clone();
        person.keys = engine.registry().person(&person.id).map(|p| p.keys.clone()).unwrap_or_default();
        engine.set_person(by, person).await?;
    }
    if let Some(directory) = &config.directory {
        engine.set_directory(by, directory.clone()).await?;
    }
    for stated in &config.agents {
        apply_agent(engine, by, stated.clone()).await?;
    }
    for manifest in &config.tools {
        let known = engine.registry().tool(&manifest.tool).cloned();
        let is_scope = config.targets.iter().any(|t| t.system().as_str() == manifest.tool.system());
        let changed = known.as_ref().is_some_and(|t| t.manifest.as_ref() != Some(manifest));
        if known.is_none() || (is_scope && changed) {
            engine.classify(by, manifest.clone(), None).await?;
        }
    }
    // Last: policies may name every agent and tool above.
    if let Some(policies) = &config.policies {
        engine.set_policy(by, policies).await?;
    }
    Ok(())
}

async fn apply_agent(
    engine: &Engine,
    by: &PrincipalId,
    mut agent: bailiwick_core::agent::Agent,
) -> Result<(), Failure> {
    let held = engine.registry().agent(&agent.id).cloned();
    if let Some(held) = &held {
        agent.keys.extend(held.keys.iter().cloned());
    }
    if held.as_ref() == Some(&agent) {
        return Ok(());
    }
    let id = agent.id.clone();
    engine.set_agent(by, agent).await?;
    if held.is_some() {
        engine.end_tasks_of(by, &id, "the agent was changed in the configuration").await?;
    }
    Ok(())
}

/// Pins tools to the definitions they are first offered with, and states again what has been stated anew. What an
/// API takes is the operator's own statement, so a change of it is classified with the rest.
async fn classify(engine: Engine, by: PrincipalId, manifests: Vec<Manifest>, apis: BTreeSet<String>) {
    let mut rest = manifests;
    while !rest.is_empty() {
        let mut later = Vec::new();
        for manifest in rest {
            if !settled(&engine, &by, &manifest, apis.contains(manifest.tool.system())).await {
                later.push(manifest);
            }
        }
        rest = later;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Whether there is nothing more to do for this tool.
async fn settled(engine: &Engine, by: &PrincipalId, manifest: &Manifest, ours: bool) -> bool {
    let registry = engine.registry();
    let Some(tool) = registry.tool(&manifest.tool) else { return false };
    let stated = tool.manifest.as_ref() == Some(manifest);
    let again = match (&tool.standing, tool.seen) {
        (Standing::Quarantined { .. }, Some(_)) if ours => true,
        (Standing::Quarantined { was: Some(_) }, _) => {
            let next = format!("look at it with `bailiwick tool show {}`", manifest.tool);
            tracing::warn!(tool = %manifest.tool, next, "its definition has changed; it stays shut until somebody classifies it");
            return true;
        }
        (Standing::Quarantined { was: None } | Standing::Proposed, Some(_)) => true,
        _ => !stated,
    };
    if again {
        match engine.classify(by, manifest.clone(), tool.seen).await {
            Ok(()) => tracing::info!(tool = %manifest.tool, "classified as the configuration states"),
            Err(error) => {
                tracing::error!(tool = %manifest.tool, code = %error.code, %error, "not classified; trying again");
                return false;
            }
        }
    }
    tool.seen.is_some()
}
