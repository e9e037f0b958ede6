//! A small world to tell stories in: a registry, one task, a stub policy, and a log that is only appended to.
//!
//! Everything here goes through the public face of the crate. Stories that forge go past it and say so.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bailiwick_core::agent::{Agent, Person};
use bailiwick_core::approval::{AskTerms, Vote};
use bailiwick_core::capability::{Capability, Delegate, Limits, Spent};
use bailiwick_core::chain::{Act, Chain, Step};
use bailiwick_core::constraint::Constraint;
use bailiwick_core::decision::{Outcome, Request, Ruling, Scene, decide, pin_of};
use bailiwick_core::event::{Decided, HandedOff, Opening, Reported, Ruled, TaskEvent, TaskLimits, Went};
use bailiwick_core::handoff::{HandoffRequest, hand_off};
use bailiwick_core::label::Label;
use bailiwick_core::payload::Pass;
use bailiwick_core::registry::{Halt, Registry, RegistryEvent, Scope, Suspension};
use bailiwick_core::task::Task;
use bailiwick_core::tool::{Arg, Effect, Manifest, Role, ToolPattern};
use bailiwick_core::verdict::{Deed, Facts, Policy, Verdict};
use bailiwick_core::{
    AgentClass, AgentId, ApprovalId, DecisionId, Digest, GrantId, GroupId, PrincipalId, StepId, TaskId, Time,
    ToolId, Value,
};

pub(crate) fn agent(name: &str) -> AgentId {
    AgentId::parse(name).unwrap()
}
pub(crate) fn tool(name: &str) -> ToolId {
    ToolId::parse(name).unwrap()
}
pub(crate) fn person(name: &str) -> PrincipalId {
    PrincipalId::parse(&format!("{name}@example.org")).unwrap()
}
pub(crate) fn grant(name: &str) -> GrantId {
    GrantId::parse(name).unwrap()
}
pub(crate) fn pattern(text: &str) -> ToolPattern {
    ToolPattern::parse(text).unwrap()
}
pub(crate) fn json(text: &str) -> Value {
    Value::parse(text.as_bytes()).unwrap()
}
pub(crate) fn key(agent: &str) -> String {
    format!("key-of-{agent}")
}

/// A right to use.
pub(crate) fn to_use(tools: &str) -> Capability {
    Capability::to_use(pattern(tools))
}
/// A right to hand on, and nothing else.
pub(crate) fn to_pass(tools: &str, to: &[&str], depth: u8) -> Capability {
    Capability::to_delegate(pattern(tools), to.iter().map(|a| agent(a)), depth)
}

/// Says more about a capability.
pub(crate) trait More: Sized {
    fn arg(self, name: &str, constraint: Constraint) -> Self;
    fn limits(self, limits: Limits) -> Self;
    fn uses(self, uses: u64) -> Self;
    fn and_pass(self, to: &[&str], depth: u8) -> Self;
}
impl More for Capability {
    fn arg(mut self, name: &str, constraint: Constraint) -> Self {
        self.args.insert(name.to_owned(), constraint);
        self
    }
    fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
    fn uses(mut self, uses: u64) -> Self {
        self.limits.uses = Some(uses);
        self
    }
    fn and_pass(mut self, to: &[&str], depth: u8) -> Self {
        self.delegate = Some(Delegate { to: to.iter().map(|a| agent(a)).collect(), depth });
        self
    }
}

/// A chain step that calls.
pub(crate) fn step(id: &str, who: &str, tools: &str, args: &[(&str, Constraint)]) -> Step {
    let args = args.iter().map(|(n, c)| ((*n).to_owned(), c.clone())).collect();
    Step {
        id: StepId::parse(id).unwrap(),
        agent: agent(who),
        act: Act::Call { tool: pattern(tools), args },
        after: BTreeSet::new(),
        min: 1,
        max: 1,
    }
}
/// A chain step that hands on.
pub(crate) fn hand_step(id: &str, who: &str, to: &str, pass: &[&str]) -> Step {
    let pass = Pass::names(pass.iter().copied());
    Step { act: Act::HandOff { to: agent(to), pass, drop: BTreeSet::new() }, ..step(id, who, "x.y", &[]) }
}
/// The same step after others.
pub(crate) fn after(mut step: Step, before: &[&str]) -> Step {
    step.after = before.iter().map(|s| StepId::parse(s).unwrap()).collect();
    step
}
/// The same step, this often.
pub(crate) fn times(mut step: Step, min: u32, max: u32) -> Step {
    (step.min, step.max) = (min, max);
    step
}

/// How a stub answers.
#[derive(Clone)]
pub(crate) enum Answer {
    Permit,
    Forbid,
    /// Lifted once as many people as the terms want have said yes.
    Ask(AskTerms),
    /// Asks, and still forbids after the yes.
    AskInVain(AskTerms),
    Error,
}

/// A stub: not the policy of the product. It answers by tool name, `handoff` for handoffs.
#[derive(Clone)]
pub(crate) struct Stub {
    pub(crate) by_default: Answer,
    pub(crate) on: BTreeMap<String, Answer>,
    pub(crate) version: Digest,
}

impl Policy for Stub {
    fn evaluate(&self, facts: &Facts<'_>) -> Verdict {
        let name = match facts.deed {
            Deed::Call(manifest) => manifest.tool.to_string(),
            Deed::HandOff(_) => "handoff".to_owned(),
        };
        let yes = facts.approval.as_ref().map_or(0, |a| a.by.len());
        let asked_of = |terms: &AskTerms| facts.approval.as_ref().is_some_and(|a| a.group == terms.group);
        let ask = |terms: &AskTerms| Verdict::Ask {
            rule: format!("ask-{name}"),
            reason: "people look at this".to_owned(),
            terms: terms.clone(),
        };
        match self.on.get(&name).unwrap_or(&self.by_default) {
            Answer::Permit => Verdict::Permit { rules: vec!["permit".to_owned()] },
            Answer::Forbid => {
                Verdict::Forbid { rule: format!("forbid-{name}"), reason: "never here".to_owned() }
            }
            Answer::Ask(terms) if yes >= usize::from(terms.quorum) && asked_of(terms) => {
                Verdict::Permit { rules: vec![format!("lifted-{name}")] }
            }
            Answer::AskInVain(_) if yes > 0 => {
                Verdict::Forbid { rule: "hard".to_owned(), reason: "no yes helps".to_owned() }
            }
            Answer::Ask(terms) | Answer::AskInVain(terms) => ask(terms),
            Answer::Error => Verdict::Error { reason: "an attribute is missing".to_owned() },
        }
    }
    fn version(&self) -> Digest {
        self.version
    }
}

/// How people are asked in these stories.
pub(crate) fn terms() -> AskTerms {
    AskTerms { group: GroupId::parse("approvers").unwrap(), quorum: 1, initiator_may: false, ttl_ms: 60_000 }
}

/// The task opens now.
pub(crate) const NOON: Time = Time(1_000_000);
/// Its window closes then.
pub(crate) const EVENING: Time = Time(5_000_000);

/// The world of a story.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) policy: Stub,
    pub(crate) task: Task,
    pub(crate) log: Vec<(TaskEvent, Time)>,
    pub(crate) now: Time,
    pub(crate) fresh: bool,
    pub(crate) serial: u32,
    pub(crate) holders: BTreeMap<String, GrantId>,
}

fn required(mut manifest: Manifest, name: &str) -> Manifest {
    if let Some(arg) = manifest.args.get_mut(name) {
        arg.required = true;
    }
    manifest
}

/// The tools of the house.
pub(crate) fn manifests() -> Vec<Manifest> {
    let new = |name: &str, effect| Manifest::new(tool(name), effect);
    let undoable = |m: Manifest| Manifest { reversible: true, ..m };
    let mut pay = new("bank.pay", Effect::Egress).arg("to", Role::Target).arg("key", Role::Secret);
    pay.args.insert("amount".to_owned(), Arg { required: true, amount: true, ..Arg::of_role(Role::Free) });
    vec![
        new("mail.search", Effect::Read).arg("query", Role::Free),
        required(
            new("mail.send", Effect::Egress)
                .arg("to", Role::Target)
                .arg("cc", Role::Target)
                .arg("subject", Role::Free)
                .arg("body", Role::Content),
            "to",
        ),
        new("files.read", Effect::Read).arg("path", Role::Selector),
        required(new("files.delete", Effect::Delete).arg("path", Role::Selector), "path"),
        pay,
        undoable(new("cloud.restart", Effect::Update).arg("vm", Role::Selector).arg("force", Role::Free)),
        undoable(new("cloud.note", Effect::Create).arg("text", Role::Content)),
        new("iam.grant", Effect::Admin).arg("who", Role::Target),
    ]
}

pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    let by = person("root");
    for name in ["planner", "executor", "reader", "stranger"] {
        let ceiling = vec![
            to_use("mail.*").and_pass(&["planner", "executor", "reader"], u8::MAX),
            to_use("files.*").and_pass(&["planner", "executor", "reader"], u8::MAX),
            to_use("cloud.*").and_pass(&["planner", "executor", "reader"], u8::MAX),
            to_use("bank.*").and_pass(&["planner", "executor", "reader"], u8::MAX),
            to_use("iam.*"),
        ];
        let agent = Agent {
            id: agent(name),
            owner: by.clone(),
            class: AgentClass::parse(if name == "reader" { "readers" } else { "workers" }).unwrap(),
            ceiling,
            keys: [key(name)].into(),
        };
        registry.apply(&RegistryEvent::AgentSet { agent, by: by.clone() });
    }
    for (name, groups, workload) in [
        ("dana", vec!["approvers"], false),
        ("erin", vec!["approvers"], false),
        ("frank", vec!["approvers"], false),
        ("gina", vec![], false),
        ("robot", vec!["approvers"], true),
    ] {
        let groups = groups.into_iter().map(|g| GroupId::parse(g).unwrap()).collect();
        let person = Person { id: person(name), groups, workload, keys: BTreeSet::new() };
        registry.apply(&RegistryEvent::PersonSet { person, by: by.clone() });
    }
    for manifest in manifests() {
        registry.apply(&RegistryEvent::ToolClassified { manifest, pin: None, by: by.clone() });
    }
    registry
}

pub(crate) fn opening() -> Opening {
    Opening {
        task: TaskId::parse("t-1").unwrap(),
        initiator: person("dana"),
        intent: "Restart db-1 and tell ann@example.org".to_owned(),
        inputs: BTreeMap::from([
            ("vm".to_owned(), Value::from("db-1")),
            ("payee".to_owned(), Value::from("DE89370400440532013000")),
            ("file".to_owned(), Value::from("/srv/report.txt")),
        ]),
        types: BTreeMap::new(),
        chain: None,
        limits: TaskLimits {
            until: EVENING,
            asks: 10,
            handoffs: 20,
            depth: 8,
            refusals: None,
            seeking: None,
        },
        grant: grant("g-root"),
        agent: agent("planner"),
        capabilities: ["mail.*", "files.*", "cloud.*", "bank.*"].map(to_use).to_vec(),
        template: None,
    }
}

pub(crate) fn chain(steps: Vec<Step>) -> Chain {
    Chain { steps, ..Chain::default() }
}

/// Runs a future that never waits.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the story waited for something"),
    }
}

impl World {
    /// The usual task, with changes.
    pub(crate) fn opened(change: impl FnOnce(&mut Opening)) -> World {
        let mut opening = opening();
        change(&mut opening);
        let first = (TaskEvent::Opened(opening.clone()), NOON);
        World {
            registry: registry(),
            policy: Stub {
                by_default: Answer::Permit,
                on: BTreeMap::new(),
                version: Digest::of(b"policy one"),
            },
            task: Task::begin(&first.0, NOON).unwrap(),
            log: vec![first],
            now: NOON,
            fresh: true,
            serial: 0,
            holders: BTreeMap::from([(opening.agent.to_string(), opening.grant)]),
        }
    }

    /// A task whose root agent holds these.
    pub(crate) fn holding(capabilities: Vec<Capability>) -> World {
        World::opened(|o| o.capabilities = capabilities)
    }

    /// A task with a chain.
    pub(crate) fn with_chain(chain: Chain) -> World {
        chain.validate().unwrap();
        World::opened(|o| o.chain = Some(chain))
    }

    pub(crate) fn scene(&self) -> Scene<'_> {
        Scene {
            registry: &self.registry,
            task: &self.task,
            policy: &self.policy,
            now: self.now,
            fresh: self.fresh,
        }
    }

    pub(crate) fn answer(&mut self, name: &str, answer: Answer) -> &mut Self {
        self.policy.on.insert(name.to_owned(), answer);
        self
    }

    pub(crate) fn wait_ms(&mut self, ms: u64) -> &mut Self {
        self.now = self.now.plus_ms(ms);
        self
    }

    pub(crate) fn serial(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    pub(crate) fn grant_of(&self, agent: &str) -> GrantId {
        self.holders.get(agent).cloned().unwrap_or_else(|| grant("g-none"))
    }

    /// A request as the engine would build it for a proven caller.
    pub(crate) fn request(&mut self, who: &str, name: &str, args: &str) -> Request {
        let serial = self.serial();
        Request {
            decision: DecisionId::parse(&format!("d-{serial}")).unwrap(),
            fresh_approval: ApprovalId::parse(&format!("ap-{serial}")).unwrap(),
            grant: self.grant_of(who),
            agent: agent(who),
            instance: key(who),
            token_until: Time(u64::MAX),
            proof: None,
            tool: tool(name),
            args: json(args),
            definition: None,
            approval: None,
            claims: Label::bottom(),
            says: None,
        }
    }

    /// Appends events as the store would, and folds them.
    pub(crate) fn append(&mut self, events: Vec<TaskEvent>) {
        for event in events {
            self.task.apply(&event, self.now);
            self.log.push((event, self.now));
        }
    }

    /// Decides and makes it so.
    pub(crate) fn decide(&mut self, request: &Request) -> Decided {
        let ruling = decide(self.scene(), request);
        self.commit(ruling).0
    }

    /// Appends a ruling where it was judged, and hands out what it has become.
    pub(crate) fn commit(&mut self, ruling: Ruling) -> (Decided, Outcome) {
        let decided = ruling.decided().clone();
        let mut written = Vec::new();
        let here = self.scene().judged_at();
        let outcome = at_once(ruling.commit(async |at, events| {
            assert_eq!(at, here, "judged on another log than the one it is appended to");
            written = events;
            Ok::<(), ()>(())
        }));
        self.append(written);
        (decided, outcome.unwrap())
    }

    /// One call.
    pub(crate) fn call(&mut self, who: &str, name: &str, args: &str) -> Decided {
        let request = self.request(who, name, args);
        self.decide(&request)
    }

    /// One call with an approval.
    pub(crate) fn call_with(&mut self, who: &str, name: &str, args: &str, approval: &ApprovalId) -> Decided {
        let mut request = self.request(who, name, args);
        request.approval = Some(approval.clone());
        self.decide(&request)
    }

    /// A call that must go through.
    pub(crate) fn must(&mut self, who: &str, name: &str, args: &str) -> Decided {
        let decided = self.call(who, name, args);
        assert_eq!(decided.outcome, Ruled::Allow, "{who} {name} {args}: {:?}", decided.why);
        decided
    }

    /// A call that must be refused at this step with this code.
    pub(crate) fn refused(&mut self, who: &str, name: &str, args: &str, step: u8, code: &str) -> Decided {
        let decided = self.call(who, name, args);
        check(&decided, Ruled::Deny, step, code);
        decided
    }

    /// A call that must open a question, whose handle comes back.
    pub(crate) fn asks(&mut self, who: &str, name: &str, args: &str) -> ApprovalId {
        let decided = self.call(who, name, args);
        check(&decided, Ruled::Ask, 9, "approval.needed");
        decided.asked.unwrap().approval
    }

    pub(crate) fn vote(&mut self, by: &str, approval: &ApprovalId, vote: Vote) {
        self.append(vec![TaskEvent::Voted { approval: approval.clone(), by: person(by), vote }]);
    }

    /// Reports an outcome.
    pub(crate) fn report(&mut self, decision: &DecisionId, label: Label, spent: Spent) {
        self.append(vec![TaskEvent::Reported(Reported {
            decision: decision.clone(),
            went: Went::Done,
            label,
            declassified: Vec::new(),
            claimed: false,
            undone: false,
            result: None,
            spent,
            explains: Vec::new(),
            shows: Vec::new(),
            note: None,
        })]);
    }

    pub(crate) fn handoff(&mut self, from: &str, to: &str, capabilities: Vec<Capability>) -> HandoffRequest {
        let serial = self.serial();
        HandoffRequest {
            decision: DecisionId::parse(&format!("h-{serial}")).unwrap(),
            fresh_grant: grant(&format!("g-{serial}")),
            grant: self.grant_of(from),
            agent: agent(from),
            instance: key(from),
            token_until: Time(u64::MAX),
            proof: None,
            to: agent(to),
            capabilities,
            ttl_ms: None,
            payload: Value::empty(),
        }
    }

    pub(crate) fn hand(&mut self, request: &HandoffRequest) -> HandedOff {
        let handed = hand_off(self.scene(), request);
        if let Some(new) = &handed.grant {
            self.holders.insert(handed.to.to_string(), new.grant.clone());
        }
        self.append(vec![TaskEvent::HandedOff(handed.clone())]);
        handed
    }

    /// A handoff that must be made.
    pub(crate) fn gives(&mut self, from: &str, to: &str, capabilities: Vec<Capability>) -> HandedOff {
        let request = self.handoff(from, to, capabilities);
        let handed = self.hand(&request);
        assert_eq!(handed.outcome, Ruled::Allow, "{from} → {to}: {:?}", handed.why);
        handed
    }

    /// A handoff that must be refused, by this code, and name this.
    pub(crate) fn keeps(
        &mut self,
        from: &str,
        to: &str,
        capabilities: Vec<Capability>,
        code: &str,
        names: &str,
    ) {
        let request = self.handoff(from, to, capabilities);
        self.keeps_request(&request, code, names);
    }

    pub(crate) fn keeps_request(&mut self, request: &HandoffRequest, code: &str, names: &str) {
        let before = self.task.grants().count();
        let handed = self.hand(request);
        assert_eq!((handed.outcome, handed.why.code.as_str()), (Ruled::Deny, code), "{:?}", handed.why);
        assert!(handed.why.reason.contains(names), "`{names}` is not named: {}", handed.why.reason);
        assert_eq!(self.task.grants().count(), before, "a refused handoff made a grant");
    }

    pub(crate) fn revoke(&mut self, name: &str) {
        let grant = self.grant_of(name);
        let by = "erin@example.org".to_owned();
        self.append(vec![TaskEvent::GrantRevoked { grant, by, reason: "enough".to_owned() }]);
    }

    pub(crate) fn suspend(&mut self, target: Scope) {
        let suspension = Suspension {
            halt: Halt::Frozen,
            by: person("erin"),
            reason: "looks odd".to_owned(),
            at: self.now,
        };
        self.registry.apply(&RegistryEvent::Suspended { target, suspension });
    }

    pub(crate) fn lift(&mut self, target: Scope) {
        let (by, reason) = (person("erin"), "looked at it".to_owned());
        self.registry.apply(&RegistryEvent::Lifted { target, by, reason });
    }

    pub(crate) fn pin(&self, name: &str) -> Option<Digest> {
        pin_of(self.scene(), &tool(name))
    }
}

/// What a decision must be.
#[track_caller]
pub(crate) fn check(decided: &Decided, outcome: Ruled, step: u8, code: &str) {
    let why = &decided.why;
    assert_eq!((decided.outcome, why.step, why.code.as_str()), (outcome, step, code), "{why:?}");
}
