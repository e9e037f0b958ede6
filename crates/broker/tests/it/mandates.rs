//! Mandates for tests, made the only way there is: a decision and an intent, both committed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bailiwick_broker::{Broker, BrokerError, Created, Handle, OnBehalf, Plan, Spec};
use bailiwick_core::agent::Agent;
use bailiwick_core::capability::Capability;
use bailiwick_core::decision::{Outcome, Permit, Request, Scene, decide};
use bailiwick_core::event::{Opening, TaskEvent, TaskLimits};
use bailiwick_core::label::Label;
use bailiwick_core::lease::{Mandate, Quota, Terms, Wanted};
use bailiwick_core::registry::{Registry, RegistryEvent};
use bailiwick_core::task::Task;
use bailiwick_core::tool::ToolPattern;
use bailiwick_core::value::{Digest, Value};
use bailiwick_core::verdict::{Facts, Policy, Verdict};
use bailiwick_core::{LeaseId, Time, ToolId};

struct Permissive;

impl Policy for Permissive {
    fn evaluate(&self, _: &Facts<'_>) -> Verdict {
        Verdict::Permit { rules: vec!["everything".to_owned()] }
    }
    fn version(&self) -> Digest {
        Digest::of(b"permissive")
    }
}

/// A lease that is about to be: its mandate and its plan.
pub(crate) struct Ready {
    pub(crate) mandate: Mandate,
    pub(crate) plan: Plan,
}

impl Ready {
    pub(crate) fn handle(&self, external: Option<String>) -> Handle {
        let intent = self.mandate.intent();
        Handle {
            lease: intent.lease.clone(),
            name: intent.name.clone(),
            external,
            tool: intent.tool.clone(),
            until: intent.until,
        }
    }

    pub(crate) async fn create(&self, broker: &dyn Broker) -> Result<(Created, Handle), BrokerError> {
        let created = broker.create(&self.mandate, &self.plan).await?;
        let handle = self.handle(Some(created.external.clone()));
        Ok((created, handle))
    }
}

pub(crate) fn now() -> Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Time(now.as_millis() as u64)
}

/// A lease id that no other test has.
pub(crate) fn fresh() -> LeaseId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    LeaseId::parse(&format!("l-{:x}-{n}", now().0 & 0xffff_ffff)).unwrap()
}

/// Decides, plans and records, as the engine would.
pub(crate) async fn ready(
    broker: &dyn Broker,
    tool: &ToolId,
    args: &BTreeMap<String, Value>,
    ttl_ms: u64,
) -> Result<Ready, BrokerError> {
    let lease = fresh();
    let (registry, task) = world(broker, args);
    let now = now();
    let scene = Scene { registry: &registry, task: &task, policy: &Permissive, now, fresh: true };
    let permit = permit(scene, tool, args).await;
    let on_behalf = OnBehalf {
        task: task.opening().task.clone(),
        grant: permit.grant().clone(),
        agent: task.opening().agent.clone(),
        initiator: task.opening().initiator.clone(),
    };
    let until = now.plus_ms(ttl_ms);
    let spec = Spec { lease: lease.clone(), tool: tool.clone(), args: args.clone(), until, on_behalf };
    let plan = broker.prepare(spec).await?;
    let terms = Terms {
        lease,
        name: plan.name.clone(),
        args: args.clone(),
        until,
        class: broker.capabilities().class,
        plan: plan.digest,
    };
    let wanted = Wanted::judge(scene, &permit, terms, Quota::default()).unwrap();
    let mandate = wanted.commit(async |_, _| Ok::<(), ()>(())).await.unwrap();
    Ok(Ready { mandate, plan })
}

async fn permit(scene: Scene<'_>, tool: &ToolId, args: &BTreeMap<String, Value>) -> Permit {
    let request = Request {
        decision: "d-1".parse().unwrap(),
        fresh_approval: "apr-1".parse().unwrap(),
        grant: "g-1".parse().unwrap(),
        agent: "reporter".parse().unwrap(),
        instance: "key".to_owned(),
        token_until: Time(u64::MAX),
        proof: None,
        tool: tool.clone(),
        args: Value::Map(args.clone()),
        definition: None,
        approval: None,
        claims: Label::bottom(),
        says: None,
    };
    match decide(scene, &request).commit(async |_, _| Ok::<(), ()>(())).await.unwrap() {
        Outcome::Allow(permit) => permit,
        other => panic!("{other:?}"),
    }
}

fn world(broker: &dyn Broker, args: &BTreeMap<String, Value>) -> (Registry, Task) {
    let mut registry = Registry::default();
    let root = || "root@example.org".parse().unwrap();
    let all = || vec![Capability::to_use(ToolPattern::parse(&format!("{}.*", broker.system())).unwrap())];
    let agent = Agent {
        id: "reporter".parse().unwrap(),
        owner: root(),
        class: "worker".parse().unwrap(),
        ceiling: all(),
        keys: ["key".to_owned()].into(),
    };
    registry.apply(&RegistryEvent::AgentSet { agent, by: root() });
    for manifest in broker.scopes() {
        registry.apply(&RegistryEvent::ToolClassified { manifest, pin: None, by: root() });
    }
    let opening = Opening {
        task: "t-1".parse().unwrap(),
        initiator: "dana@example.org".parse().unwrap(),
        intent: "report on orders".to_owned(),
        inputs: args.clone(),
        types: Default::default(),
        chain: None,
        limits: TaskLimits {
            until: Time(u64::MAX),
            asks: 1,
            handoffs: 0,
            depth: 0,
            refusals: None,
            seeking: None,
        },
        grant: "g-1".parse().unwrap(),
        agent: "reporter".parse().unwrap(),
        capabilities: all(),
        template: None,
    };
    let task = Task::begin(&TaskEvent::Opened(opening), now()).unwrap();
    (registry, task)
}
