//! Tests beside policies: a small world, acts in it, and what is expected of them.
//!
//! ```yaml
//! world:
//!   agents: { remediator: { class: ops, owner: dana@example.org } }
//!   tools:
//!     cloud.vm.restart:
//!       effect: update
//!       reversible: true
//!       args: { name: { role: target } }
//!       resource: { type: Vm, from: name, known: { db-1: { env: prod } } }
//! cases:
//!   - name: a production restart asks
//!     as: remediator
//!     do: cloud.vm.restart
//!     with: { name: db-1 }
//!     expect: { ask: sre-oncall }
//! must_deny:
//!   - { name: nobody deletes after reading tickets, as: remediator, do: cloud.vm.delete, untrusted: [tickets.get] }
//! ```
//!
//! A case in `must_allow` expects *allow*, one in `must_deny` any denial, unless it says more. Unknown keys are
//! errors, so a misspelt condition cannot make a test pass.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bailiwick_core::agent::{APPROVERS, Agent};
use bailiwick_core::decision::is_inside;
use bailiwick_core::ids::{AgentClass, AgentId, DataClass, GroupId, PrincipalId, StepId, TaskId, ToolId};
use bailiwick_core::label::{Label, Level};
use bailiwick_core::registry::{Directory, Registry, RegistryEvent};
use bailiwick_core::time::Time;
use bailiwick_core::tool::{Arg, Effect, Manifest, ResourceSpec};
use bailiwick_core::value::Value;
use bailiwick_core::verdict::{Approved, Deed, Facts, Flow, Policy as _, Resource, Verdict};
use serde::Deserialize;

use crate::errors::{PolicyError, PolicyErrors, did_you_mean};
use crate::explain::in_words;
use crate::rule::RuleEffect;
use crate::schema::SchemaInputs;
use crate::set::{CompiledSet, compile};
use crate::source::Source;

/// A test file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestFile {
    /// What it is about.
    #[serde(default)]
    pub about: String,
    /// The sources it runs against, by name or folder; all of them if it names none.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Agents and tools.
    pub world: World,
    /// Cases that say what they expect.
    #[serde(default)]
    pub cases: Vec<Case>,
    /// Cases that must be allowed without asking.
    #[serde(default)]
    pub must_allow: Vec<Case>,
    /// Cases that must be denied.
    #[serde(default)]
    pub must_deny: Vec<Case>,
}

/// Agents and tools of a test.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// Agents by name.
    pub agents: BTreeMap<AgentId, AgentEntry>,
    /// Tools by name, as manifests state them.
    pub tools: BTreeMap<ToolId, ToolEntry>,
    /// Who opens tasks, unless a case says otherwise.
    #[serde(default = "somebody")]
    pub initiator: PrincipalId,
    /// What the organisation calls its own.
    #[serde(default)]
    pub directory: Directory,
}

/// An agent of a test.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentEntry {
    /// Its class.
    pub class: AgentClass,
    /// Who answers for it.
    #[serde(default = "somebody")]
    pub owner: PrincipalId,
}

/// A tool of a test: the part of a manifest that policies see.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolEntry {
    /// What it does.
    pub effect: Effect,
    /// Whether it can be undone; reads can.
    #[serde(default)]
    pub reversible: bool,
    /// Its arguments.
    #[serde(default)]
    pub args: BTreeMap<String, Arg>,
    /// What it touches.
    #[serde(default)]
    pub resource: Option<ResourceSpec>,
}

/// One act and what is expected of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The agent that acts.
    #[serde(rename = "as")]
    pub agent: AgentId,
    /// The tool it calls.
    #[serde(default, rename = "do")]
    pub tool: Option<ToolId>,
    /// The agent it hands to instead.
    #[serde(default)]
    pub hand_to: Option<AgentId>,
    /// The arguments, or the fields that are handed on.
    #[serde(default)]
    pub with: Option<Value>,
    /// Who opened the task.
    #[serde(default)]
    pub initiator: Option<PrincipalId>,
    /// Whether the task declared a chain; a step implies it.
    #[serde(default)]
    pub chain: bool,
    /// The chain step this is.
    #[serde(default)]
    pub step: Option<StepId>,
    /// Handoffs before this agent.
    #[serde(default)]
    pub depth: u8,
    /// Confidentiality of what was seen.
    #[serde(default)]
    pub level: Level,
    /// Data classes of what was seen.
    #[serde(default)]
    pub classes: BTreeSet<DataClass>,
    /// Where untrusted data came from.
    #[serde(default)]
    pub untrusted: BTreeSet<String>,
    /// Arguments nobody vouches for.
    #[serde(default)]
    pub unexplained: BTreeSet<String>,
    /// Arguments that the declared step fixed beforehand.
    #[serde(default)]
    pub pinned: BTreeSet<String>,
    /// Who said yes.
    #[serde(default)]
    pub approval: Option<By>,
    /// Now, in milliseconds since 1970-01-01 UTC.
    #[serde(default)]
    pub now: u64,
    /// What must come out.
    #[serde(default)]
    pub expect: Option<Expect>,
}

/// People who said yes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct By {
    /// Who.
    pub by: BTreeSet<PrincipalId>,
    /// The group that was asked; absent: the one that the policies ask for this act.
    #[serde(default)]
    pub group: Option<GroupId>,
}

impl By {
    /// The group this approval is of: the one that was named, or the one that is asked when nobody has said yes.
    fn group_for(&self, set: &CompiledSet, unapproved: &Facts<'_>) -> Option<GroupId> {
        let asked = || match set.evaluate(unapproved) {
            Verdict::Ask { terms, .. } => Some(terms.group),
            _ => GroupId::parse(APPROVERS).ok(),
        };
        self.group.clone().or_else(asked)
    }
}

/// What must come out: `allow`, `deny`, `error`, `{ ask: GROUP }` or `{ deny: RULE }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Expect {
    /// One word.
    Plain(Word),
    /// A question to this group, of this rule if one is named.
    Ask {
        /// The group.
        ask: String,
        /// The rule.
        #[serde(default)]
        rule: Option<String>,
    },
    /// A denial by this rule.
    Deny {
        /// The rule.
        deny: String,
    },
}

/// An expectation without details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Permitted.
    Allow,
    /// Refused, by whatever rule; an error is one.
    Deny,
    /// Could not be evaluated.
    Error,
}

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestResult {
    /// The file.
    pub file: String,
    /// The case.
    pub name: String,
    /// What was wrong, if anything.
    pub failure: Option<String>,
    /// How long the judgement took.
    pub took: Duration,
}

/// What came of all files.
#[derive(Debug, Clone, Default)]
pub struct TestReport {
    /// Every case in order.
    pub results: Vec<TestResult>,
    /// Rules that no case shows at work: a permit that never allows, a forbid that never denies or asks.
    pub unproven: Vec<String>,
}

impl TestReport {
    /// Whether every case came out as expected.
    pub fn passed(&self) -> bool {
        self.results.iter().all(|r| r.failure.is_none())
    }
}

fn somebody() -> PrincipalId {
    PrincipalId::parse("dana@example.org").unwrap_or_else(|_| somebody())
}

impl TestFile {
    /// Reads a test file. The error names the line where the reader knows it.
    pub fn parse(name: &str, yaml: &str) -> Result<TestFile, PolicyError> {
        serde_saphyr::from_str(yaml).map_err(|e| {
            let what: String = e.to_string().lines().next().unwrap_or_default().chars().take(300).collect();
            PolicyError::new("policy.test_malformed", name, what, "See policies/defaults for examples")
        })
    }

    /// The sources this file is about. Fails when it names one that is not there.
    pub fn choose(&self, file: &str, sources: &[Source]) -> Result<Vec<Source>, PolicyError> {
        let is_in = |source: &Source, name: &str| {
            source.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(missing) = self.policies.iter().find(|name| !sources.iter().any(|s| is_in(s, name))) {
            let help = did_you_mean(missing, sources.iter().map(|s| s.name.as_str()));
            return Err(PolicyError::new(
                "policy.test_source",
                file,
                format!("no policies called `{missing}`"),
                help,
            ));
        }
        let wanted =
            |s: &&Source| self.policies.is_empty() || self.policies.iter().any(|name| is_in(s, name));
        Ok(sources.iter().filter(wanted).cloned().collect())
    }

    /// The schema inputs of the world.
    pub fn inputs(&self) -> Result<SchemaInputs, PolicyError> {
        let agents: Vec<Agent> = self.world.agents.iter().map(|(id, entry)| entry.agent(id)).collect();
        let tools: Vec<Manifest> = self.world.tools.iter().map(|(id, entry)| entry.manifest(id)).collect();
        SchemaInputs::new(&tools, &agents)
    }

    /// Runs every case against a set that was compiled for this world ([`TestFile::inputs`]).
    pub fn run(&self, name: &str, set: &CompiledSet) -> TestReport {
        let mut seen = BTreeSet::new();
        let all = (self.cases.iter().map(|c| (c, None)))
            .chain(self.must_allow.iter().map(|c| (c, Some(Word::Allow))))
            .chain(self.must_deny.iter().map(|c| (c, Some(Word::Deny))));
        let results = all.map(|(case, implied)| {
            let (failure, took) = self.world.run(case, implied, set, &mut seen);
            TestResult { file: name.to_owned(), name: case.name.clone(), failure, took }
        });
        let results = results.collect();
        // What is only observed never decides, so no case can show it at work.
        let enforced = set.rules().iter().filter(|r| !r.observe).map(|r| r.id.clone());
        let unproven = enforced.filter(|id| !seen.contains(id)).collect();
        TestReport { results, unproven }
    }
}

impl AgentEntry {
    fn agent(&self, id: &AgentId) -> Agent {
        Agent {
            id: id.clone(),
            owner: self.owner.clone(),
            class: self.class.clone(),
            ceiling: Vec::new(),
            keys: BTreeSet::new(),
        }
    }
}

impl ToolEntry {
    fn manifest(&self, id: &ToolId) -> Manifest {
        let mut manifest = Manifest::new(id.clone(), self.effect);
        manifest.reversible = self.reversible || self.effect == Effect::Read;
        manifest.args = self.args.clone();
        manifest.resource = self.resource.clone();
        manifest
    }
}

impl World {
    /// What went wrong with one case, and how long judging took. Notes the rules that were seen at work.
    fn run(
        &self,
        case: &Case,
        implied: Option<Word>,
        set: &CompiledSet,
        seen: &mut BTreeSet<String>,
    ) -> (Option<String>, Duration) {
        let expected = case.expect.clone().or(implied.map(Expect::Plain));
        let Some(expected) = expected else {
            return (Some("the case expects nothing".to_owned()), Duration::ZERO);
        };
        let scene = match Scene::new(self, case) {
            Ok(scene) => scene,
            Err(error) => return (Some(error), Duration::ZERO),
        };
        let mut facts = scene.facts(case);
        facts.approval = case
            .approval
            .as_ref()
            .and_then(|a| Some(Approved { by: a.by.clone(), group: a.group_for(set, &facts)? }));
        let began = Instant::now();
        let verdict = set.evaluate(&facts);
        let took = began.elapsed();
        note(&verdict, set, seen);
        let failure = (!expected.is_met(&verdict)).then(|| {
            format!("expected {}, got: {}\n{}", expected.in_words(), in_words(&verdict), set.explain(&facts))
        });
        (failure, took)
    }

    fn agent(&self, id: &AgentId) -> Result<Agent, String> {
        let known = || self.agents.keys().map(AgentId::as_str);
        let entry = self.agents.get(id);
        entry
            .map(|e| e.agent(id))
            .ok_or_else(|| format!("no agent `{id}`. {}", did_you_mean(id.as_str(), known())))
    }
}

/// A rule is proven by a case in which it decides.
fn note(verdict: &Verdict, set: &CompiledSet, seen: &mut BTreeSet<String>) {
    match verdict {
        Verdict::Permit { rules } => {
            let permits = |id: &&String| set.rule(id).is_some_and(|r| r.effect == RuleEffect::Permit);
            seen.extend(rules.iter().filter(permits).cloned());
        }
        Verdict::Ask { rule, .. } | Verdict::Forbid { rule, .. } => drop(seen.insert(rule.clone())),
        Verdict::Error { .. } => {}
    }
}

/// What a case's facts point into.
struct Scene {
    manifest: Option<Manifest>,
    child: Option<Agent>,
    agent: Agent,
    initiator: PrincipalId,
    task: TaskId,
    resource: Option<Resource>,
    args: Value,
    label: Label,
    flow: Flow,
}

impl Scene {
    fn new(world: &World, case: &Case) -> Result<Self, String> {
        let child = case.hand_to.as_ref().map(|id| world.agent(id)).transpose()?;
        let manifest = match &case.tool {
            None => None,
            Some(id) => {
                let known = || world.tools.keys().map(ToolId::as_str);
                let entry = world.tools.get(id);
                let entry =
                    entry.ok_or_else(|| format!("no tool `{id}`. {}", did_you_mean(id.as_str(), known())))?;
                Some(entry.manifest(id))
            }
        };
        if manifest.is_some() == child.is_some() {
            return Err("a case says either `do` or `hand_to`".to_owned());
        }
        let args = case.with.clone().unwrap_or_else(Value::empty);
        let resource =
            manifest.as_ref().zip(args.as_map()).map(|(m, args)| bailiwick_core::decision::resource(m, args));
        let label =
            Label { level: case.level, classes: case.classes.clone(), untrusted: case.untrusted.clone() };
        let flow = manifest.as_ref().zip(args.as_map()).map(|(manifest, args)| {
            let mut registry = Registry::default();
            let directory = world.directory.clone();
            registry.apply(&RegistryEvent::DirectorySet { directory, by: world.initiator.clone() });
            Flow::of(manifest, args, |name| case.pinned.contains(name), |wanted| is_inside(&registry, wanted))
        });
        let flow = flow.unwrap_or_default();
        Ok(Scene {
            manifest,
            child,
            agent: world.agent(&case.agent)?,
            initiator: case.initiator.clone().unwrap_or_else(|| world.initiator.clone()),
            task: TaskId::parse("test-task").map_err(|e| e.to_string())?,
            flow,
            resource,
            args,
            label,
        })
    }

    fn facts<'a>(&'a self, case: &'a Case) -> Facts<'a> {
        let deed = match (&self.manifest, &self.child) {
            (Some(manifest), _) => Deed::Call(manifest),
            (None, child) => Deed::HandOff(child.as_ref().unwrap_or(&self.agent)),
        };
        Facts {
            deed,
            agent: &self.agent,
            initiator: &self.initiator,
            task: &self.task,
            has_chain: case.chain || case.step.is_some(),
            step: case.step.as_ref(),
            depth: case.depth,
            resource: self.resource.clone(),
            args: &self.args,
            label: &self.label,
            unexplained: &case.unexplained,
            flow: &self.flow,
            approval: None,
            now: Time(case.now),
            remaining_ms: 600_000,
        }
    }
}

impl Expect {
    fn is_met(&self, verdict: &Verdict) -> bool {
        match (self, verdict) {
            (Expect::Plain(Word::Allow), Verdict::Permit { .. })
            | (Expect::Plain(Word::Deny), Verdict::Forbid { .. } | Verdict::Error { .. })
            | (Expect::Plain(Word::Error), Verdict::Error { .. }) => true,
            (Expect::Ask { ask, rule }, Verdict::Ask { rule: asking, terms, .. }) => {
                terms.group.as_str() == ask && rule.as_ref().is_none_or(|r| r == asking)
            }
            (Expect::Deny { deny }, Verdict::Forbid { rule, .. }) => rule == deny,
            _ => false,
        }
    }
    fn in_words(&self) -> String {
        match self {
            Expect::Plain(Word::Allow) => "allow".to_owned(),
            Expect::Plain(Word::Deny) => "deny".to_owned(),
            Expect::Plain(Word::Error) => "error".to_owned(),
            Expect::Ask { ask, rule: None } => format!("a question to {ask}"),
            Expect::Ask { ask, rule: Some(rule) } => format!("a question to {ask} by {rule}"),
            Expect::Deny { deny } => format!("a denial by {deny}"),
        }
    }
}

/// Runs test files against policy texts, compiling them once per world. Rules count as proven if any file does.
pub fn run_tests(sources: &[Source], files: &[(String, TestFile)]) -> Result<TestReport, PolicyErrors> {
    let mut report = TestReport::default();
    let (mut rules, mut proven) = (BTreeSet::new(), BTreeSet::new());
    for (name, file) in files {
        let chosen = file.choose(name, sources)?;
        let set = compile(&chosen, &file.inputs()?)?;
        let one = file.run(name, &set);
        report.results.extend(one.results);
        let left: BTreeSet<String> = one.unproven.into_iter().collect();
        rules.extend(set.rules().iter().filter(|r| !r.observe).map(|r| r.id.clone()));
        proven.extend(set.rules().iter().map(|r| r.id.clone()).filter(|id| !left.contains(id)));
    }
    report.unproven = rules.difference(&proven).cloned().collect();
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies")
    }

    fn files(kind: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for sub in ["defaults", "examples", "scenarios"] {
            for entry in std::fs::read_dir(folder().join(sub)).unwrap() {
                let path = entry.unwrap().path();
                let name = format!("{sub}/{}", path.file_name().unwrap().to_str().unwrap());
                if name.ends_with(kind) {
                    found.push((name, std::fs::read_to_string(&path).unwrap()));
                }
            }
        }
        found.sort();
        found
    }

    fn run(sources: &[Source], yaml: &str) -> Result<TestReport, PolicyErrors> {
        let file = TestFile::parse("x.test.yaml", yaml)?;
        run_tests(sources, &[("x.test.yaml".to_owned(), file)])
    }

    const WORLD: &str = "world: { agents: { a: { class: c } }, tools: { x.get: { effect: read }, x.put: { effect: update } } }\n";

    // proves: D2, A1
    #[test]
    fn what_is_shipped_passes_its_own_tests_and_every_rule_is_shown_at_work() {
        let sources: Vec<Source> =
            files(".cedar").into_iter().map(|(name, text)| Source::new(name, text)).collect();
        let tests: Vec<(String, TestFile)> = files(".yaml")
            .into_iter()
            .map(|(name, text)| (name.clone(), TestFile::parse(&name, &text).unwrap()))
            .collect();
        let report = run_tests(&sources, &tests).unwrap_or_else(|e| panic!("{e}"));
        let failed: Vec<String> = (report.results.iter())
            .filter_map(|r| r.failure.as_ref().map(|f| format!("{}: {}: {f}", r.file, r.name)))
            .collect();
        assert!(report.passed(), "{}", failed.join("\n"));
        assert!(report.results.len() > 50, "{}", report.results.len());
        assert_eq!(report.unproven, Vec::<String>::new());
    }

    #[test]
    fn the_defaults_in_the_binary_are_the_ones_in_the_folder() {
        let folder: Vec<Source> = (files(".cedar").into_iter())
            .filter(|(name, _)| name.starts_with("defaults/"))
            .map(|(name, text)| Source::new(name, text))
            .collect();
        assert_eq!(crate::defaults(), folder);
    }

    // proves: D2
    #[test]
    fn a_case_fails_for_what_it_says_and_tells_which_rules_spoke() {
        let sources = [Source::new(
            "p.cedar",
            "@id(\"r\") permit (principal, action in Action::\"read\", resource);
            @id(\"w\") @ask(\"sre\") forbid (principal, action in Action::\"write\", resource);",
        )];
        let yaml = format!(
            "{WORLD}cases:
  - {{ name: one, as: a, do: x.get, expect: allow }}
  - {{ name: two, as: a, do: x.get, expect: {{ deny: w }} }}
  - {{ name: three, as: a, do: x.put, expect: {{ ask: sre }} }}
  - {{ name: four, as: a, do: x.got, expect: allow }}
  - {{ name: five, as: a, do: x.get }}
must_deny:
  - {{ name: six, as: a, do: x.get }}
  - {{ name: seven, as: a, do: x.put }}
"
        );
        let report = run(&sources, &yaml).unwrap();
        let failed: Vec<&str> =
            report.results.iter().filter(|r| r.failure.is_some()).map(|r| r.name.as_str()).collect();
        assert_eq!(failed, ["two", "three", "four", "five", "six"]);
        let told = |n: usize| report.results[n].failure.clone().unwrap();
        assert!(told(1).contains("expected a denial by w, got: permitted by r"), "{}", told(1));
        assert!(told(1).contains("permit r (p.cedar:1): decides"), "{}", told(1));
        assert!(
            told(2).contains("no rule permits this"),
            "a question without a permit is a denial: {}",
            told(2)
        );
        assert!(told(3).contains("Did you mean `x.get`?"), "{}", told(3));
        assert_eq!(report.unproven, ["w"]);
        assert!(!report.passed());
    }

    #[test]
    fn a_misspelt_condition_is_an_error_and_not_a_pass() {
        for bad in [
            "cases: [ { name: n, as: a, do: x.get, expect: allow, untrustd: [y] } ]",
            "cases: [ { name: n, as: a, do: x.get, expect: alow } ]",
            "cases: [ { name: n, as: A, do: x.get, expect: allow } ]",
            "caes: []",
        ] {
            let error = TestFile::parse("x.test.yaml", &format!("{WORLD}{bad}\n")).unwrap_err();
            assert_eq!(error.code(), "policy.test_malformed", "{bad}");
        }
        let yaml = format!("{WORLD}policies: [nowhere]\n");
        assert_eq!(run(&crate::defaults(), &yaml).unwrap_err().code(), "policy.test_source");
    }
}
