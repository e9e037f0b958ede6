//! What is wrong with a template beyond its spelling, each with its place and what to write instead.
//!
//! Without a world only the template itself is checked: its inputs, their bindings, the order of its steps. With
//! the registered agents and tools it is also checked that there is somebody to take each step and something to
//! call, that the arguments are the tool's, and that the types of inputs fit what the arguments are for.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_core::agent::Agent;
use bailiwick_core::chain::{Deviation, Reads, STEPS_MAX};
use bailiwick_core::input::{BadInput, INPUTS_MAX, InputKind, InputType};
use bailiwick_core::tool::{Arg, Effect, Manifest, Role, ToolPattern};
use bailiwick_engine::ASKS_MAX;
use serde_saphyr::{Location, Spanned};

use super::{ActWord, Bound, ChainForm, File, Finding, Grade, StepForm};
use crate::config::yaml::closest;
use crate::out::plain;

/// Who is registered and what is classified.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    /// The agents.
    pub(crate) agents: Vec<Agent>,
    /// The tools.
    pub(crate) tools: Vec<Manifest>,
}

/// Everything that is wrong, in the order of the file.
pub(crate) fn findings(name: &str, file: &File, world: Option<&World>) -> Vec<Finding> {
    let mut look = Look { name, file, world, found: Vec::new() };
    look.inputs();
    look.limits();
    match &file.chain {
        None => look.add(
            Grade::Look,
            "template.no_chain",
            file.template.as_ref().map_or(Location::UNKNOWN, |t| t.referenced),
            "the template declares no chain".to_owned(),
            "Weaker guarantees: order, counts and arguments of its tasks are not held. Add `chain`.",
        ),
        Some(chain) => look.chain(&chain.value),
    }
    look.found.sort_by_key(|f| (f.line, f.column));
    look.found
}

struct Look<'a> {
    name: &'a str,
    file: &'a File,
    world: Option<&'a World>,
    found: Vec<Finding>,
}

impl<'a> Look<'a> {
    fn add(&mut self, grade: Grade, code: &'static str, at: Location, what: String, next: impl Into<String>) {
        self.found.push(Finding {
            grade,
            code,
            file: self.name.to_owned(),
            line: at.line().max(1),
            column: at.column().max(1),
            what,
            next: next.into(),
        });
    }

    fn error(&mut self, code: &'static str, at: Location, what: String, next: impl Into<String>) {
        self.add(Grade::Error, code, at, what, next);
    }

    fn types(&self) -> Option<&'a BTreeMap<String, Spanned<InputType>>> {
        self.file.inputs.as_ref().map(|all| &all.value)
    }

    // ---- inputs and limits

    fn inputs(&mut self) {
        let Some(types) = self.types() else { return };
        if types.len() > INPUTS_MAX {
            let at = types.values().next().map_or(Location::UNKNOWN, |t| t.referenced);
            self.error(
                "template.inputs",
                at,
                format!("there are more than {INPUTS_MAX} inputs"),
                "Declare fewer.",
            );
        }
        for (name, declared) in types {
            if let Err(BadInput { code, what, next, .. }) = declared.value.validate(name) {
                self.error(code, declared.referenced, format!("input `{}` {what}", plain(name, 64)), next);
            }
        }
        let bound: BTreeSet<&String> = bindings(self.file).flat_map(|(_, _, b)| &b.value.inputs).collect();
        for (name, declared) in types.iter().filter(|(name, _)| !bound.contains(name)) {
            let what = format!("input `{}` is bound nowhere in the chain", plain(name, 64));
            let next = "It still explains its value. Bind it where it belongs, or remove it.";
            self.add(Grade::Look, "template.unused_input", declared.referenced, what, next);
        }
    }

    fn limits(&mut self) {
        if let Some(ttl) = &self.file.ttl
            && let Err(bad) = crate::cmd::task::duration_secs(&ttl.value)
        {
            self.error("template.ttl", ttl.referenced, bad.what, bad.next);
        }
        if let Some(asks) = self.file.asks.as_ref().filter(|asks| asks.value > ASKS_MAX) {
            let what =
                format!("a task asks people at most {ASKS_MAX} questions, and this says {}", asks.value);
            self.error("task.asks", asks.referenced, what, format!("Write a number up to {ASKS_MAX}."));
        }
    }

    // ---- the chain by itself

    fn chain(&mut self, chain: &'a ChainForm) {
        if chain.steps.len() > STEPS_MAX {
            let at = self.file.chain.as_ref().map_or(Location::UNKNOWN, |c| c.referenced);
            self.error(
                "template.steps",
                at,
                format!("there are more than {STEPS_MAX} steps"),
                "Split the task.",
            );
            return;
        }
        let mut seen = BTreeSet::new();
        for step in &chain.steps {
            let step = &step.value;
            if !seen.insert(&step.id.value) {
                let what = format!("two steps are called `{}`", step.id.value);
                self.error("template.duplicate_step", step.id.referenced, what, "Rename one of them.");
            }
        }
        let names: Vec<&str> = seen.iter().map(|id| id.as_str()).collect();
        for step in &chain.steps {
            self.step(&step.value, &names);
        }
        for end in chain.ends_with.iter().filter(|end| !seen.contains(&end.value)) {
            let what = format!("the task ends with step `{}`, which does not exist", end.value);
            self.error("template.unknown_step", end.referenced, what, meant(end.value.as_str(), &names));
        }
        self.reached(chain);
        self.deviations(chain);
        if let (Some(reads), Some(world)) = (&chain.reads, self.world)
            && let Reads::OpenIn(systems) | Reads::DeclaredIn(systems) = &reads.value
        {
            let known: Vec<&str> = world.tools.iter().map(|m| m.tool.system()).collect();
            for system in systems.iter().filter(|s| !known.contains(&s.as_str())) {
                let what = format!("no tool of a system `{system}` is classified");
                self.error("template.unknown_system", reads.referenced, what, meant(system.as_str(), &known));
            }
        }
    }

    /// A rule that is laxer than the general one says nothing: the strictest holds.
    fn deviations(&mut self, chain: &'a ChainForm) {
        let general = chain.on_deviation;
        let classes = chain.deviations.iter().filter(|(_, rule)| **rule < general);
        let mut idle: Vec<String> =
            classes.map(|(risk, _)| format!("{risk:?}").to_ascii_lowercase()).collect();
        let dangerous = chain.on_dangerous_deviation;
        idle.extend((dangerous != Deviation::Refuse && dangerous < general).then(|| "dangerous".to_owned()));
        if !idle.is_empty() {
            let at = self.file.chain.as_ref().map_or(Location::UNKNOWN, |c| c.referenced);
            let what = format!("the rule for {} deviations is laxer than `on_deviation`", idle.join(", "));
            self.add(
                Grade::Look,
                "template.idle_rule",
                at,
                what,
                "The strictest that applies holds. Remove it, or relax `on_deviation`.",
            );
        }
    }

    fn step(&mut self, step: &'a StepForm, names: &[&str]) {
        let id = &step.id.value;
        for before in step.after.iter().filter(|b| !names.contains(&b.value.as_str())) {
            let what = format!("step `{id}` comes after `{}`, which does not exist", before.value);
            self.error("template.unknown_step", before.referenced, what, meant(before.value.as_str(), names));
        }
        if step.max.value == 0 || step.min.value > step.max.value {
            let at = if step.max.referenced == Location::UNKNOWN {
                step.min.referenced
            } else {
                step.max.referenced
            };
            let what = format!("step `{id}` has counts {} to {}", step.min.value, step.max.value);
            self.error("template.counts", at, what, "`max` is at least 1 and at least `min`.");
        }
        match step.act.value {
            ActWord::Call => self.call(step),
            ActWord::HandOff => self.handing(step),
        }
        self.agent(&step.agent, "takes this step");
    }

    fn call(&mut self, step: &'a StepForm) {
        let id = &step.id.value;
        if step.to.is_some() || step.pass.is_some() || step.drop.is_some() {
            let what = format!("step `{id}` calls; `to`, `pass` and `drop` are for handoffs");
            self.error("template.act", step.act.referenced, what, "Remove them, or write `act: hand_off`.");
        }
        let Some(tool) = &step.tool else {
            let what = format!("step `{id}` calls, but names no tool");
            return self.error("template.act", step.act.referenced, what, "Add `tool: system.action`.");
        };
        for (name, bound) in step.args.iter().flatten() {
            self.bound(name, bound);
        }
        if let Some(world) = self.world {
            self.called(step, tool, world);
        }
    }

    fn handing(&mut self, step: &'a StepForm) {
        let id = &step.id.value;
        if step.tool.is_some() || step.args.is_some() {
            let what = format!("step `{id}` hands off; `tool` and `args` are for calls");
            self.error("template.act", step.act.referenced, what, "Remove them, or write `act: call`.");
        }
        let Some(to) = &step.to else {
            let what = format!("step `{id}` hands off, but does not say to whom");
            return self.error("template.act", step.act.referenced, what, "Add `to: AGENT`.");
        };
        if let Some(pass) = &step.pass
            && let Err(BadInput { code, input, what, next }) = pass.value.validate()
        {
            let what = format!("step `{id}`: field `{}` {what}", plain(&input, 64));
            self.error(code, pass.referenced, what, next);
        }
        let passed = |name: &str| step.pass.as_ref().is_some_and(|p| p.value.delivers(name));
        for field in step.drop.iter().flatten().filter(|d| passed(&d.value)) {
            let what = format!("step `{id}` both passes and drops `{}`", plain(&field.value, 64));
            self.error("template.drop", field.referenced, what, "Keep it in one of the two lists.");
        }
        if to.value == step.agent.value {
            let what = format!("step `{id}` hands from {} to itself", to.value);
            self.error("template.act", to.referenced, what, "Name another agent.");
        }
        self.agent(to, "receives");
    }

    fn bound(&mut self, arg: &str, bound: &Spanned<Bound>) {
        for input in &bound.value.inputs {
            let (name, arg) = (plain(input, 64), plain(arg, 64));
            match self.types() {
                Some(types) if types.contains_key(input) => {}
                Some(types) => {
                    let known: Vec<&str> = types.keys().map(String::as_str).collect();
                    let what = format!("argument `{arg}` binds input `{name}`, which is not declared");
                    self.error("template.undeclared_input", bound.referenced, what, meant(input, &known));
                }
                None => {
                    let what = format!("argument `{arg}` binds input `{name}`, but no inputs are declared");
                    let next = format!("Add its type: inputs: {{ {name}: {{ type: mail }} }}, for example.");
                    self.error("template.undeclared_input", bound.referenced, what, next);
                }
            }
        }
    }

    /// Every step must be taken by an agent that work reaches, after steps that can be taken.
    fn reached(&mut self, chain: &'a ChainForm) {
        let first = self.file.agent.as_ref().map(|a| &a.value);
        let Some(first) = first.or(chain.steps.first().map(|s| &s.value.agent.value)) else { return };
        let mut reached = BTreeSet::from([first]);
        let mut taken = BTreeSet::new();
        loop {
            let next: Vec<&StepForm> = chain
                .steps
                .iter()
                .map(|s| &s.value)
                .filter(|s| !taken.contains(&s.id.value) && reached.contains(&s.agent.value))
                .filter(|s| s.after.iter().all(|before| taken.contains(&before.value)))
                .collect();
            if next.is_empty() {
                break;
            }
            for step in next {
                taken.insert(&step.id.value);
                reached.extend(step.to.iter().map(|to| &to.value));
            }
        }
        let exists = |id| chain.steps.iter().any(|s| s.value.id.value == id);
        for step in chain.steps.iter().map(|s| &s.value).filter(|s| !taken.contains(&s.id.value)) {
            let (id, agent) = (&step.id.value, &step.agent.value);
            let (what, next) = if !reached.contains(agent) {
                let next =
                    format!("Add a handoff step to {agent} before it, or give it to an agent that has work.");
                (format!("step `{id}` can never be taken: no handoff reaches {agent}"), next)
            } else if let Some(before) =
                step.after.iter().find(|b| exists(b.value.clone()) && !taken.contains(&b.value))
            {
                let next = "Look for a circle in `after`, or for an agent that nothing reaches.".to_owned();
                (
                    format!(
                        "step `{id}` can never be taken: it waits for `{}`, which never comes",
                        before.value
                    ),
                    next,
                )
            } else {
                continue;
            };
            self.error("template.unreachable", step.id.referenced, what, next);
        }
    }

    // ---- the chain in its world

    fn agent(&mut self, agent: &Spanned<bailiwick_core::AgentId>, does: &str) {
        let Some(world) = self.world else { return };
        if world.agents.iter().any(|a| a.id == agent.value) {
            return;
        }
        let known: Vec<&str> = world.agents.iter().map(|a| a.id.as_str()).collect();
        let what = format!("agent {} {does}, but is not registered", agent.value);
        self.error("template.unknown_agent", agent.referenced, what, meant(agent.value.as_str(), &known));
    }

    fn called(&mut self, step: &'a StepForm, tool: &Spanned<ToolPattern>, world: &'a World) {
        let id = &step.id.value;
        let fitting: Vec<&Manifest> = world.tools.iter().filter(|m| tool.value.admits(&m.tool)).collect();
        if fitting.is_empty() {
            let known: Vec<&str> = world.tools.iter().map(|m| m.tool.as_str()).collect();
            let what = format!("step `{id}` calls {}, which no classified tool is", tool.value);
            return self.error(
                "template.unknown_tool",
                tool.referenced,
                what,
                meant(&tool.value.to_string(), &known),
            );
        }
        let agent = world.agents.iter().find(|a| a.id == step.agent.value);
        let may = |agent: &Agent| {
            agent.ceiling.iter().any(|c| c.may_use && fitting.iter().any(|m| c.tool.admits(&m.tool)))
        };
        if let Some(agent) = agent.filter(|agent| !may(agent)) {
            let what =
                format!("step `{id}`: {} may never use {}, it is above its ceiling", agent.id, tool.value);
            self.error(
                "template.ceiling",
                tool.referenced,
                what,
                "Give the step to another agent, or have its owner raise the ceiling.",
            );
        }
        for (name, bound) in step.args.iter().flatten() {
            self.argument(name, bound, &fitting);
        }
        for manifest in fitting.iter().filter(|m| m.effect != Effect::Read) {
            let named = |name: &String| step.args.as_ref().is_some_and(|args| args.contains_key(name));
            for (name, _) in manifest.args.iter().filter(|(name, arg)| arg.required && !named(name)) {
                let what =
                    format!("step `{id}` does not name argument `{name}`, which {} needs", manifest.tool);
                let next = format!(
                    "Every such call would be refused. Add `{name}`: {{ input: NAME }}, a constraint, or any."
                );
                self.error("template.missing_argument", tool.referenced, what, next);
            }
        }
    }

    fn argument(&mut self, name: &str, bound: &Spanned<Bound>, tools: &[&Manifest]) {
        let taken: Vec<&&Manifest> = tools.iter().filter(|m| m.takes(name)).collect();
        let Some(manifest) = taken.first() else {
            let known: Vec<&str> = tools.iter().flat_map(|m| m.args.keys()).map(String::as_str).collect();
            let what = format!("argument `{}` is none of this tool's", plain(name, 64));
            return self.error("template.unknown_argument", bound.referenced, what, meant(name, &known));
        };
        let (Some(arg), true) = (manifest.args.get(name), bound.value.alone) else { return };
        let input = bound.value.inputs.first();
        let Some((input, declared)) = input.and_then(|i| Some((i, self.types()?.get(i)?))) else { return };
        if let Some((what, next)) = misfit(name, arg, input, &declared.value) {
            self.error("template.type", bound.referenced, what, next);
        }
    }
}

/// Why an input of this type does not fit what an argument is for, if it does not.
fn misfit(name: &str, arg: &Arg, input: &str, declared: &InputType) -> Option<(String, String)> {
    let kind = declared.in_words();
    if arg.role == Role::Secret {
        let what = format!("argument `{name}` is a secret, and inputs are recorded");
        return Some((what, "Never bind a secret to an input; let the tool server hold it.".to_owned()));
    }
    if arg.amount && !matches!(declared.kind, InputKind::Amount | InputKind::Number) {
        let what = format!("argument `{name}` is counted as an amount, but input `{input}` is a {kind}");
        return Some((what, "Declare the input as `type: amount`.".to_owned()));
    }
    if arg.role.steers() && !declared.kind.names_something() {
        let does = if arg.role == Role::Target { "where the effect lands" } else { "which object is meant" };
        let what =
            format!("argument `{name}` says {does}, but input `{input}` is a {kind}, which names nothing");
        let next = "Declare it as what it is: mail, url, host, path, account, phone, or record with `of`.";
        return Some((what, next.to_owned()));
    }
    None
}

/// Every argument with what binds it.
fn bindings(file: &File) -> impl Iterator<Item = (&StepForm, &String, &Spanned<Bound>)> {
    let steps = file.chain.iter().flat_map(|c| &c.value.steps).map(|s| &s.value);
    steps.flat_map(|s| s.args.iter().flatten().map(move |(name, bound)| (s, name, bound)))
}

/// What was probably meant, or what there is.
fn meant(given: &str, known: &[&str]) -> String {
    let names: BTreeSet<&str> = known.iter().copied().collect();
    if let Some(likely) = closest(given, known) {
        return format!("Did you mean `{likely}`?");
    }
    if names.is_empty() {
        return "None is known.".to_owned();
    }
    let shown: Vec<String> = names.iter().take(12).map(|n| format!("`{n}`")).collect();
    let more = if names.len() > 12 { ", …" } else { "" };
    format!("Known are: {}{more}.", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bailiwick_core::capability::Capability;
    use bailiwick_core::ids::{AgentClass, AgentId, PrincipalId, ToolId};
    use std::path::Path;

    const GOOD: &str = r#"template: ticket-fix
agent: support
ttl: 20m
seeking: 5
inputs:
  ticket: { type: record, of: ticket }
  vm: { type: host }
  sum: { type: amount, max: 100 }
  note: { type: text, optional: true }
chain:
  reads: { open: [tickets] }
  on_deviation: refuse
  deviations: { admin: end and revoke }
  ends_with: [pay]
  steps:
    - { id: read, agent: support, act: call, tool: tickets.get, args: { id: { input: ticket } } }
    - { id: hand, agent: support, act: hand_off, to: remediator, pass: { summary: { type: text, max: 500 }, history: any }, drop: [customer], after: [read] }
    - { id: fix, agent: remediator, act: call, tool: cloud.restart, args: { name: { input: vm } }, after: [hand] }
    - { id: pay, agent: remediator, act: call, tool: bank.pay, args: { to: { exact: DE89370400440532013000 }, sum: { input: sum }, note: { input: note } }, after: [fix] }
"#;

    fn world() -> World {
        let agent = |name: &str| Agent {
            id: AgentId::parse(name).unwrap(),
            owner: PrincipalId::parse("dana").unwrap(),
            class: AgentClass::parse("ops").unwrap(),
            ceiling: ["tickets.*", "cloud.*", "bank.*"]
                .map(|p| Capability::to_use(ToolPattern::parse(p).unwrap()))
                .to_vec(),
            keys: BTreeSet::new(),
        };
        let tool = |name: &str, effect| Manifest::new(ToolId::parse(name).unwrap(), effect);
        let mut pay = tool("bank.pay", Effect::Egress)
            .arg("to", Role::Target)
            .arg("sum", Role::Free)
            .arg("note", Role::Content)
            .arg("pin", Role::Secret);
        pay.args.get_mut("sum").unwrap().amount = true;
        pay.args.get_mut("to").unwrap().required = true;
        let tools = vec![
            tool("tickets.get", Effect::Read).arg("id", Role::Selector),
            tool("cloud.restart", Effect::Update).arg("name", Role::Selector),
            pay,
        ];
        let mut agents = vec![agent("support"), agent("remediator"), agent("poor")];
        agents[2].ceiling.clear();
        World { agents, tools }
    }

    fn look(text: &str) -> Vec<Finding> {
        match super::super::read(Path::new("t.yaml"), text) {
            Ok((file, _)) => findings("t.yaml", &file, Some(&world())),
            Err(e) => vec![Finding {
                grade: Grade::Error,
                code: e.code(),
                file: "t.yaml".to_owned(),
                line: e.line.unwrap_or(0),
                column: e.column.unwrap_or(0),
                what: e.to_string(),
                next: String::new(),
            }],
        }
    }

    #[test]
    fn a_good_template_has_nothing_to_find() {
        assert_eq!(look(GOOD), []);
        let (_, template) = super::super::read(Path::new("t.yaml"), GOOD).unwrap();
        assert_eq!(
            (template.inputs.len(), template.ttl.as_deref(), template.seeking),
            (4, Some("20m"), Some(5))
        );
    }

    // proves: T2
    #[test]
    fn every_mistake_names_its_place_and_what_to_write() {
        for (from, to, code, says) in [
            ("after: [read]", "afer: [read]", "config.unknown_key", "Did you mean `after`?"),
            ("type: host", "type: hots", "config.malformed", "Did you mean `host`?"),
            ("after: [read]", "after: [raed]", "template.unknown_step", "Did you mean `read`?"),
            ("{ input: ticket }", "{ input: tikcet }", "template.undeclared_input", "Did you mean `ticket`?"),
            (
                "{ input: vm }",
                "{ exact: { input: vm } }",
                "config.malformed",
                "in place of the whole constraint",
            ),
            ("{ input: vm }", "{ exactly: web-3 }", "config.malformed", "not a constraint"),
            ("id: hand", "id: read", "template.duplicate_step", "Rename one"),
            (
                "to: remediator, pass",
                "to: remidiator, pass",
                "template.unknown_agent",
                "Did you mean `remediator`?",
            ),
            ("to: remediator, pass", "to: support, pass", "template.act", "Name another agent."),
            (
                "act: hand_off, to: remediator, pass: { summary: { type: text, max: 500 }, history: any }, drop: [customer]",
                "act: call, tool: tickets.get",
                "template.unreachable",
                "Add a handoff step to remediator",
            ),
            ("drop: [customer]", "drop: [summary]", "template.drop", "one of the two lists"),
            ("max: 500", "max: lots", "input.declaration", "Write a length."),
            ("max: 500", "maxx: 500", "config.unknown_key", "Did you mean `max`?"),
            ("history: any", "history: all", "config.malformed", "the word `any`, or a type"),
            ("history: any", "history: { type: record }", "input.declaration", "of: ticket"),
            (
                "tool: cloud.restart",
                "tool: cloud.restrat",
                "template.unknown_tool",
                "Did you mean `cloud.restart`?",
            ),
            ("args: { name: {", "args: { nam: {", "template.unknown_argument", "Did you mean `name`?"),
            (
                "agent: remediator, act: call, tool: cloud",
                "agent: poor, act: call, tool: cloud",
                "template.ceiling",
                "raise the ceiling",
            ),
            (
                "to: { exact: DE89370400440532013000 }, ",
                "",
                "template.missing_argument",
                "Every such call would be refused",
            ),
            (
                "to: { exact: DE89370400440532013000 }",
                "to: { input: note }",
                "template.type",
                "mail, url, host",
            ),
            ("sum: { input: sum }", "sum: { input: ticket }", "template.type", "type: amount"),
            ("note: { input: note }", "pin: { input: note }", "template.type", "let the tool server hold it"),
            ("max: 100", "max: ten", "input.declaration", "Write a number."),
            ("type: record, of: ticket", "type: record", "input.declaration", "of: ticket"),
            ("ttl: 20m", "ttl: soon", "template.ttl", "Write 90s, 20m, 2h or 1d."),
            ("ttl: 20m", "asks: 201", "task.asks", "up to 200"),
            ("open: [tickets]", "open: [tickts]", "template.unknown_system", "Did you mean `tickets`?"),
            ("ends_with: [pay]", "ends_with: [paid]", "template.unknown_step", "Did you mean `pay`?"),
            ("after: [fix]", "after: [fix], max: 0", "template.counts", "at least 1"),
            ("after: [read]", "after: [read, fix]", "template.unreachable", "Look for a circle"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let found = look(&text);
            let hit = found.iter().find(|f| f.code == code && format!("{f}").contains(says));
            let hit = hit.unwrap_or_else(|| panic!("{to}: {found:#?}"));
            let word = to.split(|c: char| !c.is_alphanumeric()).find(|w| !w.is_empty());
            let line = text.lines().nth(hit.line as usize - 1).unwrap_or_default();
            assert!(hit.grade == Grade::Error && hit.column > 0, "{hit}");
            let near = word.is_none_or(|w| line.contains(w))
                || code == "template.unreachable"
                || code == "template.missing_argument";
            assert!(near, "{to}: line {} is `{line}`", hit.line);
        }
    }

    #[test]
    fn what_can_be_used_but_says_little_is_pointed_out() {
        let grades = |text: &str| look(text).iter().map(|f| (f.grade, f.code)).collect::<Vec<_>>();
        assert_eq!(grades("template: x\nagent: support\n"), [(Grade::Look, "template.no_chain")]);
        let idle = GOOD
            .replace("on_deviation: refuse", "on_deviation: end")
            .replace("{ admin: end and revoke }", "{ admin: freeze }");
        assert_eq!(grades(&idle), [(Grade::Look, "template.idle_rule")]);
        let unused = GOOD.replace("note: { input: note } }", "note: any }");
        assert_eq!(grades(&unused), [(Grade::Look, "template.unused_input")]);
        let untyped = "chain: { steps: [ { id: a, agent: support, act: call, tool: tickets.get, args: { id: { input: t } } } ] }\n";
        assert_eq!(grades(untyped), [(Grade::Error, "template.undeclared_input")]);
    }

    #[test]
    fn without_a_world_only_the_template_itself_is_checked() {
        let text = GOOD.replace("cloud.restart", "moon.restart");
        let (file, _) = super::super::read(Path::new("t.yaml"), &text).unwrap();
        assert_eq!(findings("t.yaml", &file, None), []);
        assert!(!findings("t.yaml", &file, Some(&world())).is_empty());
    }
}
