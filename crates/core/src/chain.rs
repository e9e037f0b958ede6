//! The permitted action chain: steps, their partial order, counts, and what a deviation means.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::constraint::Constraint;
use crate::ids::{AgentId, StepId, SystemId, ToolId};
use crate::payload::Pass;
use crate::tool::{Effect, ToolPattern};
use crate::value::Value;

/// What a task may do, declared before it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// The steps.
    pub steps: Vec<Step>,
    /// Whether reads need a step.
    #[serde(default)]
    pub reads: Reads,
    /// What a deviation means for effects that can be undone.
    #[serde(default)]
    pub on_deviation: Deviation,
    /// What it means for deletion, administration, and everything that cannot be undone.
    #[serde(default)]
    pub on_dangerous_deviation: Deviation,
    /// What it means for single classes of risk. Of all that applies to a deviation the strictest holds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deviations: BTreeMap<Risk, Deviation>,
    /// Once each of these steps went well as often as it must and no call is in flight, the task has reached its
    /// end and is over. Empty: it ends otherwise.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ends_with: BTreeSet<StepId>,
}

/// Whether reads need a step of their own: everywhere the same, or told system by system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ReadsForm", into = "ReadsForm")]
pub enum Reads {
    /// Reads that the grant covers are open at any time.
    #[default]
    Open,
    /// Reads need a step like everything else.
    Declared,
    /// Open in these systems, declared in all others.
    OpenIn(BTreeSet<SystemId>),
    /// Declared in these systems, open in all others.
    DeclaredIn(BTreeSet<SystemId>),
}

impl Reads {
    /// Whether a read in this system needs no step.
    pub fn open_in(&self, system: &str) -> bool {
        let named = |systems: &BTreeSet<SystemId>| systems.iter().any(|s| s.as_str() == system);
        match self {
            Reads::Open => true,
            Reads::Declared => false,
            Reads::OpenIn(systems) => named(systems),
            Reads::DeclaredIn(systems) => !named(systems),
        }
    }
}

/// As it is written: a word, or the systems for which one of the words holds.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ReadsForm {
    Everywhere(ReadsWord),
    Open(OpenIn),
    Declared(DeclaredIn),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReadsWord {
    Open,
    Declared,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenIn {
    open: BTreeSet<SystemId>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeclaredIn {
    declared: BTreeSet<SystemId>,
}

impl From<ReadsForm> for Reads {
    fn from(form: ReadsForm) -> Self {
        match form {
            ReadsForm::Everywhere(ReadsWord::Open) => Reads::Open,
            ReadsForm::Everywhere(ReadsWord::Declared) => Reads::Declared,
            ReadsForm::Open(OpenIn { open }) => Reads::OpenIn(open),
            ReadsForm::Declared(DeclaredIn { declared }) => Reads::DeclaredIn(declared),
        }
    }
}

impl From<Reads> for ReadsForm {
    fn from(reads: Reads) -> Self {
        match reads {
            Reads::Open => ReadsForm::Everywhere(ReadsWord::Open),
            Reads::Declared => ReadsForm::Everywhere(ReadsWord::Declared),
            Reads::OpenIn(open) => ReadsForm::Open(OpenIn { open }),
            Reads::DeclaredIn(declared) => ReadsForm::Declared(DeclaredIn { declared }),
        }
    }
}

/// A class of risk by which a deviation can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Looking.
    Read,
    /// Making something new.
    Create,
    /// Changing something.
    Update,
    /// Destroying something.
    Delete,
    /// Sending something out.
    Egress,
    /// Changing who may do what.
    Admin,
    /// Any effect that cannot be undone.
    Irreversible,
    /// Handing on.
    HandOff,
}

impl From<Effect> for Risk {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Read => Risk::Read,
            Effect::Create => Risk::Create,
            Effect::Update => Risk::Update,
            Effect::Delete => Risk::Delete,
            Effect::Egress => Risk::Egress,
            Effect::Admin => Risk::Admin,
        }
    }
}

/// What leaving the chain means, beyond the refusal and the record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deviation {
    /// Nothing more.
    #[default]
    Refuse,
    /// The task freezes until a person resumes or kills it.
    #[serde(alias = "refuse and freeze")]
    Freeze,
    /// The task ends and everything is revoked.
    #[serde(alias = "end and revoke")]
    End,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StepForm")]
pub struct Step {
    /// Its name in the chain.
    pub id: StepId,
    /// The agent that takes it.
    pub agent: AgentId,
    /// What it is.
    #[serde(flatten)]
    pub act: Act,
    /// Steps that must have reached their least count before.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub after: BTreeSet<StepId>,
    /// Least count for those that come after; 0 makes the step optional.
    #[serde(default = "one")]
    pub min: u32,
    /// Greatest count.
    #[serde(default = "one")]
    pub max: u32,
}

fn one() -> u32 {
    1
}

/// A step as it is written. A key that nobody knows is an error: an `after` that is misspelt would be an order
/// that nobody keeps.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepForm {
    id: StepId,
    agent: AgentId,
    act: ActWord,
    tool: Option<ToolPattern>,
    args: Option<BTreeMap<String, Constraint>>,
    to: Option<AgentId>,
    pass: Option<Pass>,
    drop: Option<BTreeSet<String>>,
    #[serde(default)]
    after: BTreeSet<StepId>,
    #[serde(default = "one")]
    min: u32,
    #[serde(default = "one")]
    max: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ActWord {
    Call,
    HandOff,
}

impl TryFrom<StepForm> for Step {
    type Error = String;
    fn try_from(form: StepForm) -> Result<Self, String> {
        let StepForm { id, agent, act, tool, args, to, pass, drop, after, min, max } = form;
        let act = match (act, tool, to) {
            (ActWord::Call, Some(tool), None) if pass.is_none() && drop.is_none() => {
                Act::Call { tool, args: args.unwrap_or_default() }
            }
            (ActWord::HandOff, None, Some(to)) if args.is_none() => {
                Act::HandOff { to, pass: pass.unwrap_or_default(), drop: drop.unwrap_or_default() }
            }
            (ActWord::Call, None, _) => return Err(format!("step `{id}` calls, but names no `tool`")),
            (ActWord::HandOff, _, None) => {
                return Err(format!("step `{id}` hands off, but does not say `to` whom"));
            }
            (ActWord::Call, ..) => {
                return Err(format!("step `{id}` calls; `to`, `pass` and `drop` are for handoffs"));
            }
            (ActWord::HandOff, ..) => {
                return Err(format!("step `{id}` hands off; `tool` and `args` are for calls"));
            }
        };
        Ok(Step { id, agent, act, after, min, max })
    }
}

/// What a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "act")]
pub enum Act {
    /// A tool call.
    Call {
        /// Which tools.
        tool: ToolPattern,
        /// What the arguments may be. An effect's argument that is not named here is refused.
        args: BTreeMap<String, Constraint>,
    },
    /// A handoff.
    HandOff {
        /// To whom.
        to: AgentId,
        /// The payload fields that are delivered, each with its type where one is declared; all others are stripped.
        pass: Pass,
        /// Fields that are expected and meant to be stripped. A field that stands in neither list is stripped too.
        #[serde(skip_serializing_if = "BTreeSet::is_empty")]
        drop: BTreeSet<String>,
    },
}

fn passes(step: &StepId, pass: &Pass, drop: &BTreeSet<String>) -> Result<(), BadChain> {
    if let Some(field) = drop.iter().find(|field| pass.delivers(field)) {
        return Err(BadChain(format!("step `{step}` both passes and drops `{field}`")));
    }
    pass.validate().map_err(|bad| BadChain(format!("step `{step}`: field `{}` {}", bad.input, bad.what)))
}

/// How often each step has been taken.
pub type Progress = BTreeMap<StepId, u32>;

/// Why a chain is refused when a task is opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the chain cannot be used: {0}")]
pub struct BadChain(pub String);

/// Why no step takes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotEnabled {
    /// Stable code.
    pub code: &'static str,
    /// Why, for people.
    pub reason: String,
    /// What could be done instead.
    pub remedy: String,
}

/// The most steps a chain may have.
pub const STEPS_MAX: usize = 256;

impl Chain {
    /// Checks that names are unique, references resolve, the order has no cycle, and counts make sense.
    pub fn validate(&self) -> Result<(), BadChain> {
        if self.steps.len() > STEPS_MAX {
            return Err(BadChain(format!(
                "it has {} steps, at most {STEPS_MAX} are allowed",
                self.steps.len()
            )));
        }
        let mut seen = BTreeSet::new();
        for step in &self.steps {
            if !seen.insert(&step.id) {
                return Err(BadChain(format!("two steps are called `{}`", step.id)));
            }
            if step.max == 0 || step.min > step.max {
                return Err(BadChain(format!("step `{}` has counts {} to {}", step.id, step.min, step.max)));
            }
            if let Act::HandOff { pass, drop, .. } = &step.act {
                passes(&step.id, pass, drop)?;
            }
        }
        if let Some(end) = self.ends_with.iter().find(|end| !seen.contains(end)) {
            return Err(BadChain(format!("the task ends with step `{end}`, which does not exist")));
        }
        if let Some((step, after)) = self
            .steps
            .iter()
            .flat_map(|s| s.after.iter().map(move |a| (s, a)))
            .find(|(_, a)| !seen.contains(a))
        {
            return Err(BadChain(format!("step `{}` comes after `{after}`, which does not exist", step.id)));
        }
        self.reject_cycles()
    }

    fn reject_cycles(&self) -> Result<(), BadChain> {
        let mut placed: BTreeSet<&StepId> = BTreeSet::new();
        loop {
            let ready: Vec<&StepId> = self
                .steps
                .iter()
                .filter(|s| !placed.contains(&s.id) && s.after.iter().all(|a| placed.contains(a)))
                .map(|s| &s.id)
                .collect();
            if ready.is_empty() {
                break;
            }
            placed.extend(ready);
        }
        match self.steps.iter().find(|s| !placed.contains(&s.id)) {
            Some(step) => Err(BadChain(format!("step `{}` waits for itself", step.id))),
            None => Ok(()),
        }
    }

    /// The step that takes this call now. Reads that are open return `Ok(None)` when no step takes them.
    pub fn step_for_call(
        &self,
        progress: &Progress,
        agent: &AgentId,
        tool: &ToolId,
        effect: Effect,
        args: &BTreeMap<String, Value>,
    ) -> Result<Option<&Step>, NotEnabled> {
        let open_read = effect == Effect::Read && self.reads.open_in(tool.system());
        let mut nearest: Option<NotEnabled> = None;
        for step in self.steps.iter().filter(|s| &s.agent == agent) {
            let Act::Call { tool: pattern, args: wanted } = &step.act else { continue };
            if !pattern.admits(tool) {
                continue;
            }
            match self.blocked(step, progress, effect).or_else(|| mismatch(step, wanted, args, effect)) {
                None => return Ok(Some(step)),
                Some(why) => nearest = Some(nearest.unwrap_or(why)),
            }
        }
        match nearest {
            _ if open_read => Ok(None),
            Some(why) => Err(why),
            None => Err(NotEnabled {
                code: "chain.not_declared",
                reason: format!("the task's chain has no step in which {agent} calls {tool}"),
                remedy: self.what_next(progress, agent),
            }),
        }
    }

    /// The step that takes a handoff now.
    pub fn step_for_handoff(
        &self,
        progress: &Progress,
        from: &AgentId,
        to: &AgentId,
    ) -> Result<&Step, NotEnabled> {
        let mut nearest = None;
        for step in self.steps.iter().filter(|s| &s.agent == from) {
            let Act::HandOff { to: wanted, .. } = &step.act else { continue };
            if wanted != to {
                continue;
            }
            match self.blocked(step, progress, Effect::Read) {
                None => return Ok(step),
                Some(why) => nearest = Some(why),
            }
        }
        Err(nearest.unwrap_or_else(|| NotEnabled {
            code: "chain.not_declared",
            reason: format!("the task's chain has no step in which {from} hands work to {to}"),
            remedy: self.what_next(progress, from),
        }))
    }

    /// Whether some step could ever take a call of this tool by this agent.
    pub fn foresees(&self, agent: &AgentId, tool: &ToolId) -> bool {
        self.steps
            .iter()
            .filter(|s| &s.agent == agent)
            .any(|s| matches!(&s.act, Act::Call { tool: p, .. } if p.admits(tool)))
    }

    /// What leaving the chain by such an act means: the strictest of all that applies. `dangerous` is what
    /// destroys, administers, or cannot be undone.
    pub fn deviation(&self, risks: &[Risk], dangerous: bool) -> Deviation {
        let by_danger = if dangerous { self.on_dangerous_deviation } else { Deviation::Refuse };
        let by_class = risks.iter().filter_map(|risk| self.deviations.get(risk)).copied().max();
        self.on_deviation.max(by_danger).max(by_class.unwrap_or_default())
    }

    /// Whether the task has reached the end that the chain declares, if it declares one, when this is how often
    /// each step went well.
    pub fn has_reached_its_end(&self, done: &Progress) -> bool {
        let least = |id: &StepId| self.steps.iter().find(|s| &s.id == id).map_or(u32::MAX, |s| s.min.max(1));
        !self.ends_with.is_empty() && self.ends_with.iter().all(|id| count(done, id) >= least(id))
    }

    /// Whether every step that must be taken has been taken.
    pub fn is_complete(&self, progress: &Progress) -> bool {
        self.steps.iter().all(|s| count(progress, &s.id) >= s.min)
    }

    fn blocked(&self, step: &Step, progress: &Progress, effect: Effect) -> Option<NotEnabled> {
        let (code, reason) = self.obstacle(step, progress, effect)?;
        Some(NotEnabled { code, reason, remedy: self.what_next(progress, &step.agent) })
    }

    /// What keeps a step from being taken now: its count, a step it waits for, or one that has overtaken it.
    fn obstacle(&self, step: &Step, progress: &Progress, effect: Effect) -> Option<(&'static str, String)> {
        let refuse = |code, reason| Some((code, reason));
        if count(progress, &step.id) >= step.max {
            return refuse(
                "chain.count",
                format!("step `{}` has been taken {} of {} times", step.id, step.max, step.max),
            );
        }
        let waits = step.after.iter().find(|before| {
            let min = self.steps.iter().find(|s| &s.id == *before).map_or(u32::MAX, |s| s.min);
            count(progress, before) < min
        });
        if let Some(before) = waits {
            return refuse("chain.order", format!("step `{}` must wait for step `{before}`", step.id));
        }
        let overtaken =
            self.steps.iter().find(|later| later.after.contains(&step.id) && count(progress, &later.id) > 0);
        match overtaken {
            Some(later) if effect != Effect::Read => {
                refuse("chain.order", format!("step `{}` is over: step `{}` has begun", step.id, later.id))
            }
            _ => None,
        }
    }

    /// What the agent may do now, in words.
    fn what_next(&self, progress: &Progress, agent: &AgentId) -> String {
        let next: Vec<String> = self
            .steps
            .iter()
            .filter(|s| &s.agent == agent && self.obstacle(s, progress, Effect::Create).is_none())
            .map(|s| match &s.act {
                Act::Call { tool, .. } => format!("{tool}"),
                Act::HandOff { to, .. } => format!("a handoff to {to}"),
            })
            .take(8)
            .collect();
        if next.is_empty() {
            "No step of the chain is open to this agent now.".to_string()
        } else {
            format!("Open to this agent now: {}.", next.join(", "))
        }
    }
}

fn count(progress: &Progress, step: &StepId) -> u32 {
    progress.get(step).copied().unwrap_or(0)
}

/// The first argument that keeps a call from being this step.
fn mismatch(
    step: &Step,
    wanted: &BTreeMap<String, Constraint>,
    args: &BTreeMap<String, Value>,
    effect: Effect,
) -> Option<NotEnabled> {
    let refuse = |code, reason| {
        Some(NotEnabled { code, reason, remedy: format!("Call it as step `{}` declares it.", step.id) })
    };
    for (name, constraint) in wanted {
        if !constraint.admits(args.get(name).unwrap_or(&Value::Null)) {
            return refuse(
                "chain.argument",
                format!("argument `{name}` is not what step `{}` declares", step.id),
            );
        }
    }
    let extra = args.iter().find(|(name, value)| !wanted.contains_key(*name) && !value.is_blank());
    match extra {
        Some((name, _)) if effect != Effect::Read => refuse(
            "chain.undeclared_argument",
            format!("argument `{name}` is not declared in step `{}`", step.id),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn step(id: &str, tool: &str, after: &[&str], min: u32, max: u32) -> Step {
        Step {
            id: StepId::parse(id).unwrap(),
            agent: AgentId::parse("worker").unwrap(),
            act: Act::Call { tool: ToolPattern::parse(tool).unwrap(), args: BTreeMap::new() },
            after: after.iter().map(|a| StepId::parse(a).unwrap()).collect(),
            min,
            max,
        }
    }

    fn taken(steps: &[(&str, u32)]) -> Progress {
        steps.iter().map(|(id, n)| (StepId::parse(id).unwrap(), *n)).collect()
    }

    fn check(chain: &Chain, progress: &Progress, tool: &str) -> Result<Option<String>, &'static str> {
        let agent = AgentId::parse("worker").unwrap();
        let tool = ToolId::parse(tool).unwrap();
        chain
            .step_for_call(progress, &agent, &tool, Effect::Update, &BTreeMap::new())
            .map(|s| s.map(|s| s.id.to_string()))
            .map_err(|e| e.code)
    }

    // proves: T2, T4, A20
    #[test]
    fn order_counts_and_optional_steps() {
        let chain = Chain {
            steps: vec![
                step("a", "x.a", &[], 1, 2),
                step("b", "x.b", &["a"], 0, 1),
                step("c", "x.c", &["a", "b"], 1, 1),
            ],
            ..Chain::default()
        };
        chain.validate().unwrap();
        assert_eq!(check(&chain, &taken(&[]), "x.a"), Ok(Some("a".to_string())));
        assert_eq!(check(&chain, &taken(&[]), "x.c"), Err("chain.order"));
        assert_eq!(check(&chain, &taken(&[("a", 1)]), "x.c"), Ok(Some("c".to_string())), "b is optional");
        assert_eq!(check(&chain, &taken(&[("a", 2)]), "x.a"), Err("chain.count"));
        assert_eq!(check(&chain, &taken(&[("a", 1), ("c", 1)]), "x.b"), Err("chain.order"), "no going back");
        assert_eq!(check(&chain, &taken(&[("a", 1)]), "x.d"), Err("chain.not_declared"));
        assert!(chain.is_complete(&taken(&[("a", 1), ("c", 1)])) && !chain.is_complete(&taken(&[("a", 1)])));
    }

    #[test]
    fn chains_that_make_no_sense_are_refused() {
        let bad = |steps| Chain { steps, ..Chain::default() }.validate().is_err();
        assert!(bad(vec![step("a", "x.a", &["b"], 1, 1), step("b", "x.b", &["a"], 1, 1)]));
        assert!(bad(vec![step("a", "x.a", &["z"], 1, 1)]));
        assert!(bad(vec![step("a", "x.a", &[], 1, 1), step("a", "x.b", &[], 1, 1)]));
        assert!(bad(vec![step("a", "x.a", &[], 2, 1)]));
        assert!(bad(vec![step("a", "x.a", &[], 0, 0)]));
    }

    fn read(json: &str) -> Result<Chain, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn a_step_is_read_strictly() {
        let with = |step: &str| read(&format!(r#"{{"steps":[{step}]}}"#));
        let good =
            with(r#"{"id":"a","agent":"w","act":"hand_off","to":"v","pass":["x"],"drop":["y"]}"#).unwrap();
        assert_eq!(
            read(&serde_json::to_string(&good).unwrap()).unwrap(),
            good,
            "what is written is read back"
        );
        let typed = with(
            r#"{"id":"a","agent":"w","act":"hand_off","to":"v","pass":{"x":{"type":"text","max":9},"y":"any"}}"#,
        )
        .unwrap();
        assert_eq!(read(&serde_json::to_string(&typed).unwrap()).unwrap(), typed);
        typed.validate().unwrap();
        let call =
            with(r#"{"id":"a","agent":"w","act":"call","tool":"x.y","args":{"to":{"exact":1}}}"#).unwrap();
        assert_eq!(read(&serde_json::to_string(&call).unwrap()).unwrap(), call);
        for (bad, why) in [
            (r#"{"id":"a","agent":"w","act":"call","tool":"x.y","afer":["b"]}"#, "unknown field `afer`"),
            (r#"{"id":"a","agent":"w","act":"call"}"#, "names no `tool`"),
            (r#"{"id":"a","agent":"w","act":"hand_off","tool":"x.y"}"#, "does not say `to` whom"),
            (r#"{"id":"a","agent":"w","act":"call","tool":"x.y","pass":["z"]}"#, "are for handoffs"),
            (r#"{"id":"a","agent":"w","act":"hand_off","to":"v","args":{}}"#, "are for calls"),
        ] {
            let refused = with(bad).unwrap_err();
            assert!(refused.contains(why), "{bad}: {refused}");
        }
        let both =
            with(r#"{"id":"a","agent":"w","act":"hand_off","to":"v","pass":["x"],"drop":["x"]}"#).unwrap();
        assert!(both.validate().unwrap_err().0.contains("both passes and drops `x`"));
        let odd = r#"{"id":"a","agent":"w","act":"hand_off","to":"v","pass":{"x":{"type":"record"}}}"#;
        assert!(with(odd).unwrap().validate().unwrap_err().0.contains("step `a`: field `x`"));
    }

    #[test]
    fn reads_are_open_or_declared_system_by_system() {
        let reads = |json: &str| read(&format!(r#"{{"steps":[],"reads":{json}}}"#)).map(|c| c.reads);
        for (json, crm, wiki) in [
            (r#""open""#, true, true),
            (r#""declared""#, false, false),
            (r#"{"open":["wiki"]}"#, false, true),
            (r#"{"declared":["crm"]}"#, false, true),
        ] {
            let read = reads(json).unwrap();
            assert_eq!((read.open_in("crm"), read.open_in("wiki")), (crm, wiki), "{json}");
            let again = serde_json::to_string(&read).unwrap();
            assert_eq!(reads(&again).unwrap(), read, "{again}");
        }
        assert!(reads(r#""shut""#).is_err() && reads(r#"{"open":["a"],"declared":["b"]}"#).is_err());
    }

    // proves: T4
    #[test]
    fn the_strictest_rule_that_applies_answers_a_deviation() {
        let chain = read(
            r#"{"steps":[],"on_deviation":"refuse","on_dangerous_deviation":"refuse and freeze",
                "deviations":{"admin":"end and revoke","read":"refuse","irreversible":"freeze"}}"#,
        )
        .unwrap();
        assert_eq!(chain.deviation(&[Risk::Read], false), Deviation::Refuse);
        assert_eq!(chain.deviation(&[Risk::Update], false), Deviation::Refuse);
        assert_eq!(chain.deviation(&[Risk::Delete], true), Deviation::Freeze);
        assert_eq!(chain.deviation(&[Risk::Admin], true), Deviation::End, "no class makes it laxer");
        assert_eq!(chain.deviation(&[Risk::Egress, Risk::Irreversible], true), Deviation::Freeze);
    }

    // proves: T4
    #[test]
    fn a_chain_can_say_with_which_steps_its_task_ends() {
        let mut chain = Chain {
            steps: vec![step("a", "x.a", &[], 1, 1), step("b", "x.b", &["a"], 0, 3)],
            ..Chain::default()
        };
        assert!(!chain.has_reached_its_end(&taken(&[("a", 1), ("b", 1)])), "nothing is said");
        chain.ends_with = [StepId::parse("b").unwrap()].into();
        chain.validate().unwrap();
        assert!(!chain.has_reached_its_end(&taken(&[("a", 1)])), "an optional end must be taken too");
        assert!(chain.has_reached_its_end(&taken(&[("a", 1), ("b", 1)])));
        chain.ends_with = [StepId::parse("z").unwrap()].into();
        assert!(chain.validate().is_err());
    }
}
