//! The organisation that is measured: a planner hands work to workers, who restart machines in a cloud.
//!
//! Ten policies look at every restart; any number of others speak about somebody or something else. Tasks are
//! folded from the events a real task would have.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_core::agent::{Agent, Person};
use bailiwick_core::capability::{Capability, Delegate, Limits};
use bailiwick_core::chain::Chain;
use bailiwick_core::decision::Request;
use bailiwick_core::event::{
    Decided, HandedOff, NewGrant, Opening, Reported, Ruled, TaskEvent, TaskLimits, Went, Why,
};
use bailiwick_core::ids::DataClass;
use bailiwick_core::label::{Label, Level};
use bailiwick_core::origin::{Identifier, KNOWN_MAX, identify};
use bailiwick_core::registry::{Registry, RegistryEvent};
use bailiwick_core::task::Task;
use bailiwick_core::tool::{Effect, Manifest, ResourceSpec, Role, ToolPattern};
use bailiwick_core::{
    AgentId, ApprovalId, DecisionId, Digest, GrantId, PrincipalId, TaskId, Time, ToolId, Value,
};
use bailiwick_policy::{CompiledSet, SchemaInputs, Source};

/// When everything happens.
pub(crate) const NOW: Time = Time(1_800_000_000_000);
/// Grants in each task of a population: one planner and nine workers.
pub(crate) const GRANTS_PER_TASK: usize = 10;
/// Agents of the organisation: enough for the deepest chain.
const AGENTS: usize = 17;

/// Names here are written in this file, so they follow their grammar.
macro_rules! name {
    ($kind:ty, $($text:tt)+) => {
        <$kind>::parse(&format!($($text)+)).map_err(|e| anyhow::anyhow!("{e}"))
    };
}

/// The n-th agent; the first one plans.
pub(crate) fn agent(n: usize) -> anyhow::Result<AgentId> {
    name!(AgentId, "worker-{n}")
}

/// The tool that is called.
pub(crate) fn restart() -> anyhow::Result<ToolId> {
    name!(ToolId, "cloud.restart")
}

/// The tool that only looks.
pub(crate) fn look() -> anyhow::Result<ToolId> {
    name!(ToolId, "cloud.look")
}

/// Whoever opens the tasks.
pub(crate) fn dana() -> anyhow::Result<PrincipalId> {
    name!(PrincipalId, "dana@example.org")
}

/// The thumbprint an agent proves its key with.
pub(crate) fn instance(agent: &AgentId) -> String {
    bailiwick_token::Digest::of(agent.as_str().as_bytes()).to_string()
}

/// The arguments of every call.
pub(crate) fn args() -> Value {
    Value::from([("name", Value::from("web-3")), ("reason", Value::from("slow since the last release"))])
}

/// The data classes of a label that is not empty.
fn measured_classes() -> anyhow::Result<BTreeSet<DataClass>> {
    (0..8).map(|n| name!(DataClass, "class-{n}")).collect()
}

/// The same with a value in the words that has to be explained.
pub(crate) fn args_with_a_host() -> Value {
    let reason = "slow since the last release of host-7.example.org";
    Value::from([("name", Value::from("web-3")), ("reason", Value::from(reason))])
}

/// What restarts a machine, what deletes one, and what looks at one.
pub(crate) fn manifests() -> anyhow::Result<Vec<Manifest>> {
    let prod = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
    let vm = ResourceSpec {
        kind: "Vm".to_owned(),
        from: Some("name".to_owned()),
        known: BTreeMap::from([("db-1".to_owned(), prod)]),
    };
    let mut restart =
        Manifest::new(restart()?, Effect::Update).arg("name", Role::Selector).arg("reason", Role::Content);
    restart.reversible = true;
    restart.trusted_result = true;
    restart.resource = Some(vm.clone());
    restart.sink = Some(Label {
        level: Level::Confidential,
        classes: measured_classes()?,
        untrusted: Default::default(),
    });
    let mut delete =
        Manifest::new(name!(ToolId, "cloud.delete")?, Effect::Delete).arg("name", Role::Selector);
    delete.resource = Some(vm);
    let mut look =
        Manifest::new(look()?, Effect::Read).arg("name", Role::Selector).arg("reason", Role::Content);
    look.trusted_result = true;
    Ok(vec![restart, delete, look])
}

/// The right to restart, so many times that no measure uses it up.
fn capability() -> anyhow::Result<Capability> {
    let limits = Limits { uses: Some(1 << 40), ..Limits::default() };
    Ok(Capability { limits, ..Capability::to_use(ToolPattern::exact(&restart()?)) })
}

/// The same, with the right to hand it on to any agent.
fn handing_on() -> anyhow::Result<Capability> {
    let to = (0..AGENTS).map(agent).collect::<anyhow::Result<_>>()?;
    Ok(Capability { delegate: Some(Delegate { to, depth: 8 }), ..capability()? })
}

/// The agents with their ceilings.
pub(crate) fn agents() -> anyhow::Result<Vec<Agent>> {
    let record = |n| {
        let id = agent(n)?;
        Ok(Agent {
            keys: [instance(&id)].into(),
            owner: dana()?,
            class: "worker".parse().map_err(|e| anyhow::anyhow!("{e}"))?,
            ceiling: vec![
                Capability { limits: Limits::default(), ..handing_on()? },
                Capability::to_use(ToolPattern::exact(&look()?)),
            ],
            id,
        })
    };
    (0..AGENTS).map(record).collect()
}

/// The person who opens tasks.
pub(crate) fn person() -> anyhow::Result<Person> {
    let groups = ["operators".parse().map_err(|e| anyhow::anyhow!("{e}"))?].into();
    Ok(Person { id: dana()?, groups, workload: false, keys: Default::default() })
}

/// Ten policies that look at every restart, and others about somebody or something else, `n` in all.
pub(crate) fn policies(n: usize) -> Vec<Source> {
    let mut text = GUARDS.to_owned();
    for i in 10..n {
        text.push_str(&match i % 4 {
            0 => format!(
                "@id(\"agent-{i}\") permit (principal == Agent::\"other-{i}\", action in Action::\"write\", resource) when {{ context.depth < 4 && !context.untrusted }};\n"
            ),
            1 => format!(
                "@id(\"class-{i}\") forbid (principal in Class::\"class-{i}\", action, resource) when {{ context.confidential }};\n"
            ),
            2 => format!(
                "@id(\"vm-{i}\") forbid (principal, action in Action::\"write\", resource == Vm::\"vm-{i}\") unless {{ context.has_chain }};\n"
            ),
            _ => format!(
                "@id(\"act-{i}\") @ask forbid (principal == Agent::\"other-{i}\", action == Action::\"cloud.delete\", resource);\n"
            ),
        });
    }
    vec![Source::new("measured.cedar", text)]
}

const GUARDS: &str = r#"
@id("inside-the-task") permit (principal, action, resource);
@id("no-secrets-out") forbid (principal, action in Action::"write", resource) when { context.confidential };
@id("too-deep") forbid (principal, action in Action::"write", resource) when { context.depth > 16 };
@id("prod-asks") @ask forbid (principal, action in Action::"write", resource is Vm)
  when { resource has env && resource.env == "prod" };
@id("tainted") @ask forbid (principal, action in Action::"write", resource) when { context.untrusted };
@id("unvouched") @ask forbid (principal, action in Action::"write", resource)
  unless { context.unexplained.isEmpty() };
@id("too-late") forbid (principal, action in Action::"write", resource) when { context.remaining_ms < 1000 };
@id("declared") @ask forbid (principal, action in Action::"write", resource) unless { context.has_chain };
@id("for-good") @ask forbid (principal, action in Action::"write", resource)
  when { !context.reversible && context.level != "public" };
@id("whole-fleet") forbid (principal, action == Action::"cloud.restart", resource)
  when { context.args.name.contains("*") };
"#;

/// The policies, compiled against the organisation.
pub(crate) fn compiled(policies: &[Source]) -> anyhow::Result<CompiledSet> {
    let inputs = SchemaInputs::new(&manifests()?, &agents()?).map_err(|e| anyhow::anyhow!("{e}"))?;
    bailiwick_policy::compile(policies, &inputs).map_err(|e| anyhow::anyhow!("{e}"))
}

/// The registry in memory.
pub(crate) fn registry() -> anyhow::Result<Registry> {
    let (by, mut registry) = (dana()?, Registry::default());
    registry.apply(&RegistryEvent::Founded);
    registry.apply(&RegistryEvent::PersonSet { person: person()?, by: by.clone() });
    for manifest in manifests()? {
        registry.apply(&RegistryEvent::ToolClassified { manifest, pin: None, by: by.clone() });
    }
    for agent in agents()? {
        registry.apply(&RegistryEvent::AgentSet { agent, by: by.clone() });
    }
    Ok(registry)
}

/// Steps of a chain: each of these agents may restart the machine the task is about, as often as it takes.
pub(crate) fn steps(workers: std::ops::Range<usize>) -> String {
    let steps: Vec<String> = workers
        .map(|n| {
            format!(
                r#"{{"id":"restart-{n}","agent":"worker-{n}","act":"call","tool":"cloud.restart","args":{{"name":{{"exact":"web-3"}},"reason":{{"length":500}}}},"min":0,"max":4000000000}}"#
            )
        })
        .collect();
    steps.join(",")
}

/// A worker whose restarts are written down word by word: nothing has to be explained, and nothing is labelled.
pub(crate) fn spelled_out() -> anyhow::Result<(Task, GrantId)> {
    let args = r#"{"name":{"exact":"web-3"},"reason":{"exact":"slow since the last release of host-7.example.org"}}"#;
    one_worker(1, args, vec![], Label::bottom())
}

/// A worker of a task that knows so many values, who has to explain where each of them came from, under a label.
pub(crate) fn explaining(known: usize) -> anyhow::Result<(Task, GrantId)> {
    let label = Label { level: Level::Internal, classes: measured_classes()?, untrusted: Default::default() };
    let values = (1..known).map(|n| Value::from(format!("host-{n}.example.org"))).collect();
    one_worker(known, r#"{"name":"any","reason":{"length":500}}"#, values, label)
}

fn one_worker(serial: usize, args: &str, known: Vec<Value>, label: Label) -> anyhow::Result<(Task, GrantId)> {
    let step = format!(
        r#"{{"id":"restart","agent":"worker-1","act":"call","tool":"cloud.restart","args":{args},"min":0,"max":4000000000}}"#
    );
    let mut task = begun(serial, &step, known)?;
    let grant = name!(GrantId, "g-{serial}-1")?;
    let mut handed = handed_off(&name!(GrantId, "g-{serial}-0")?, 0, &grant, 1, capability()?)?;
    if let TaskEvent::HandedOff(HandedOff { grant: Some(made), .. }) = &mut handed {
        made.label = label;
    }
    task.apply(&handed, NOW);
    Ok((task, grant))
}

/// A task at all its caps: as many values explained, written and seen as one keeps, each as long as it may be.
pub(crate) fn full(serial: usize) -> anyhow::Result<Task> {
    let long = |what: &str, n: usize, most: usize| format!("{what}-{serial}-{n}-{}", "x".repeat(most));
    let known = (0..KNOWN_MAX).map(|n| Value::from(long("known", n, 480))).collect();
    let mut task = begun(serial, &steps(1..2), known)?;
    let grant = name!(GrantId, "g-{serial}-1")?;
    task.apply(&handed_off(&name!(GrantId, "g-{serial}-0")?, 0, &grant, 1, capability()?)?, NOW);
    for part in 0..KNOWN_MAX / WRITTEN_AT_ONCE {
        let words =
            (0..WRITTEN_AT_ONCE).map(|n| Value::from(long("written", part * WRITTEN_AT_ONCE + n, 480)));
        let decided = allowed(&task, &grant, part, Value::from([("reason", Value::List(words.collect()))]))?;
        let decision = decided.decision.clone();
        task.apply(&TaskEvent::Decided(decided), NOW);
        let shown = (0..200).map(|n| {
            (identify(&format!("{}@x.example", long("s", part * 200 + n, 40))), long("field", n, 40))
        });
        task.apply(&TaskEvent::Reported(reported(decision, shown.collect())), NOW);
    }
    Ok(task)
}

/// How many words one effect of a full task writes.
const WRITTEN_AT_ONCE: usize = 500;

fn allowed(task: &Task, grant: &GrantId, n: usize, args: Value) -> anyhow::Result<Decided> {
    let request = request(task, grant)?;
    Ok(Decided {
        decision: name!(DecisionId, "d-full-{n}")?,
        grant: grant.clone(),
        agent: request.agent,
        instance: request.instance,
        tool: request.tool,
        args,
        effect: Some(Effect::Update),
        outcome: Ruled::Allow,
        why: Why {
            step: 10,
            code: "allowed".into(),
            rule: "x".into(),
            reason: String::new(),
            remedy: String::new(),
        },
        chain_step: None,
        label: Label::bottom(),
        declassified: vec![],
        origins: BTreeMap::new(),
        unexplained: Default::default(),
        observed: None,
        sources: vec![],
        policy: Digest::of(b"policy"),
        epoch: 0,
        asked: None,
        approval: None,
        charge: None,
        proof: None,
        says: None,
    })
}

fn reported(decision: DecisionId, shows: Vec<(Identifier, String)>) -> Reported {
    Reported {
        decision,
        went: Went::Done,
        label: Label::bottom(),
        declassified: vec![],
        claimed: false,
        undone: false,
        result: None,
        spent: Default::default(),
        explains: vec![],
        shows,
        note: None,
    }
}

/// A task with a planner and some workers directly below it; the grants of the workers.
pub(crate) fn wide(serial: usize, workers: usize) -> anyhow::Result<(Task, Vec<GrantId>)> {
    let mut task = opened(serial, 1..AGENTS.min(workers + 1))?;
    let root = name!(GrantId, "g-{serial}-0")?;
    let mut grants = Vec::new();
    for n in 1..=workers {
        let grant = name!(GrantId, "g-{serial}-{n}")?;
        let worker = 1 + (n - 1) % (AGENTS - 1);
        task.apply(&handed_off(&root, 0, &grant, worker, capability()?)?, NOW);
        grants.push(grant);
    }
    Ok((task, grants))
}

/// A task handed on so many times in a row, and the last grant.
pub(crate) fn deep(depth: usize) -> anyhow::Result<(Task, GrantId)> {
    let mut task = opened(depth, depth..depth + 1)?;
    let mut last = name!(GrantId, "g-{depth}-0")?;
    for n in 1..=depth {
        let grant = name!(GrantId, "g-{depth}-{n}")?;
        task.apply(&handed_off(&last, n - 1, &grant, n, handing_on()?)?, NOW);
        last = grant;
    }
    Ok((task, last))
}

fn opened(serial: usize, workers: std::ops::Range<usize>) -> anyhow::Result<Task> {
    begun(serial, &steps(workers), vec![])
}

/// A task with these steps whose opener vouches for these values besides.
fn begun(serial: usize, steps: &str, known: Vec<Value>) -> anyhow::Result<Task> {
    let chain: Chain = serde_json::from_str(&format!(r#"{{"steps":[{steps}]}}"#))?;
    let mut inputs = BTreeMap::from([("vm".to_owned(), Value::from("web-3"))]);
    if !known.is_empty() {
        inputs.insert("known".to_owned(), Value::List(known));
    }
    let opening = Opening {
        task: name!(TaskId, "t-{serial}")?,
        initiator: dana()?,
        intent: "Fix ticket 4711: web-3 is slow".to_owned(),
        inputs,
        types: BTreeMap::new(),
        chain: Some(chain),
        limits: TaskLimits {
            until: NOW.plus_ms(3_600_000),
            asks: 3,
            handoffs: 1 << 20,
            depth: 8,
            refusals: None,
            seeking: None,
        },
        grant: name!(GrantId, "g-{serial}-0")?,
        agent: agent(0)?,
        capabilities: vec![handing_on()?],
        template: None,
    };
    Task::begin(&TaskEvent::Opened(opening), NOW).ok_or_else(|| anyhow::anyhow!("no task"))
}

fn handed_off(
    parent: &GrantId,
    from: usize,
    grant: &GrantId,
    to: usize,
    capability: Capability,
) -> anyhow::Result<TaskEvent> {
    Ok(TaskEvent::HandedOff(HandedOff {
        decision: name!(DecisionId, "d-{}", grant.as_str())?,
        parent: parent.clone(),
        from: agent(from)?,
        to: agent(to)?,
        outcome: Ruled::Allow,
        why: Why {
            step: 10,
            code: "allowed".into(),
            rule: "x".into(),
            reason: String::new(),
            remedy: String::new(),
        },
        grant: Some(NewGrant {
            grant: grant.clone(),
            capabilities: vec![(capability, 0)],
            until: NOW.plus_ms(3_600_000),
            label: Label::bottom(),
        }),
        asked: vec![],
        chain_step: None,
        delivered: Value::empty(),
        stripped: Default::default(),
        observed: None,
        sources: Vec::new(),
        policy: Digest::of(b"policy"),
        epoch: 0,
        proof: None,
    }))
}

/// A restart asked for with this grant.
pub(crate) fn request(task: &Task, grant: &GrantId) -> anyhow::Result<Request> {
    let holder = task.grant(grant).ok_or_else(|| anyhow::anyhow!("no grant {grant}"))?.agent.clone();
    Ok(Request {
        decision: name!(DecisionId, "d-1-1")?,
        fresh_approval: name!(ApprovalId, "apr-1-1")?,
        grant: grant.clone(),
        instance: instance(&holder),
        agent: holder,
        token_until: NOW.plus_ms(300_000),
        proof: Some((Digest::of(b"proof"), NOW.plus_ms(60_000))),
        tool: restart()?,
        args: args(),
        definition: None,
        approval: None,
        claims: Label::bottom(),
        says: None,
    })
}
