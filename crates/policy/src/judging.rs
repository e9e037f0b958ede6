//! How a compiled set judges: scenarios, and what an author or an attacker could get wrong.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_core::agent::Agent;
use bailiwick_core::approval::AskTerms;
use bailiwick_core::ids::{AgentClass, AgentId, GroupId, PrincipalId, StepId, TaskId, ToolId};
use bailiwick_core::label::{Label, Level};
use bailiwick_core::time::Time;
use bailiwick_core::tool::{Effect, Manifest, ResourceSpec, Role};
use bailiwick_core::value::Value;
use bailiwick_core::verdict::{Approved, Deed, Facts, Flow, Policy as _, Resource, Verdict};
use proptest::prelude::*;

use crate::{CompiledSet, PolicyErrors, SchemaInputs, Source, Unusable, compile};

/// Owned facts; every test changes the one thing it is about.
#[derive(Debug, Clone)]
struct Act {
    manifest: Manifest,
    hand_to: Option<Agent>,
    agent: Agent,
    initiator: PrincipalId,
    task: TaskId,
    step: Option<StepId>,
    resource: Resource,
    args: Value,
    label: Label,
    unexplained: BTreeSet<String>,
    flow: Flow,
    by: Option<BTreeSet<PrincipalId>>,
    now: Time,
}

impl Act {
    fn facts(&self) -> Facts<'_> {
        let deed = self.hand_to.as_ref().map_or(Deed::Call(&self.manifest), Deed::HandOff);
        Facts {
            deed,
            agent: &self.agent,
            initiator: &self.initiator,
            task: &self.task,
            has_chain: self.step.is_some(),
            step: self.step.as_ref(),
            depth: 1,
            resource: self.hand_to.is_none().then(|| self.resource.clone()),
            args: &self.args,
            label: &self.label,
            unexplained: &self.unexplained,
            flow: &self.flow,
            approval: self.by.clone().map(|by| Approved { by, group: GroupId::parse("sre-oncall").unwrap() }),
            now: self.now,
            remaining_ms: 60_000,
        }
    }
    fn by(mut self, who: &[&str]) -> Self {
        self.by = Some(who.iter().map(|w| person(w)).collect());
        self
    }
    fn with(mut self, args: &str) -> Self {
        self.args = Value::parse(args.as_bytes()).unwrap();
        self
    }
}

fn person(name: &str) -> PrincipalId {
    PrincipalId::parse(name).unwrap()
}

fn agent(name: &str, class: &str) -> Agent {
    Agent {
        id: AgentId::parse(name).unwrap(),
        owner: person("dana"),
        class: AgentClass::parse(class).unwrap(),
        ceiling: Vec::new(),
        keys: BTreeSet::new(),
    }
}

fn manifest(tool: &str, effect: Effect) -> Manifest {
    let mut manifest = Manifest::new(ToolId::parse(tool).unwrap(), effect)
        .arg("name", Role::Target)
        .arg("amount", Role::Free)
        .arg("note", Role::Content);
    manifest.args.get_mut("amount").unwrap().amount = true;
    let env = |value: &str| BTreeMap::from([("env".to_owned(), value.to_owned())]);
    manifest.resource = Some(ResourceSpec {
        kind: "Vm".to_owned(),
        from: Some("name".to_owned()),
        known: BTreeMap::from([("db-1".to_owned(), env("prod")), ("web-3".to_owned(), env("staging"))]),
    });
    manifest
}

fn manifests() -> Vec<Manifest> {
    let mut all: Vec<Manifest> = [
        ("cloud.vm.show", Effect::Read),
        ("cloud.vm.create", Effect::Create),
        ("cloud.vm.restart", Effect::Update),
        ("cloud.vm.delete", Effect::Delete),
        ("cloud.vm.export", Effect::Egress),
        ("cloud.iam.grant", Effect::Admin),
    ]
    .iter()
    .map(|(tool, effect)| manifest(tool, *effect))
    .collect();
    all.push(Manifest::new(ToolId::parse("tickets.get").unwrap(), Effect::Read));
    all
}

fn inputs() -> SchemaInputs {
    let agents = [agent("remediator", "ops"), agent("support", "desk")];
    SchemaInputs::new(&manifests(), &agents).unwrap()
}

fn set(text: &str) -> CompiledSet {
    compile(&[Source::new("test.cedar", text)], &inputs()).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(text: &str) -> PolicyErrors {
    compile(&[Source::new("test.cedar", text)], &inputs()).expect_err("must not compile")
}

/// The remediator calls a tool on `db-1`, in a task of dana.
fn call(tool: &str, vm: &str) -> Act {
    let manifest = manifests().into_iter().find(|m| m.tool.as_str() == tool).unwrap();
    let known = manifest.resource.as_ref().and_then(|r| r.known.get(vm)).cloned().unwrap_or_default();
    let kind = manifest.resource.as_ref().map_or("System", |r| &r.kind).to_owned();
    Act {
        manifest,
        hand_to: None,
        agent: agent("remediator", "ops"),
        initiator: person("dana"),
        task: TaskId::parse("t-1").unwrap(),
        step: None,
        resource: Resource { kind, name: vm.to_owned(), attrs: known },
        args: Value::empty(),
        label: Label::bottom(),
        unexplained: BTreeSet::new(),
        flow: Flow::default(),
        by: None,
        now: Time(0),
    }
}

/// `permit a b`, `ask GROUP RULE`, `deny RULE` or `error`.
fn verdict(set: &CompiledSet, act: &Act) -> String {
    match set.evaluate(&act.facts()) {
        Verdict::Permit { rules } => format!("permit {}", rules.join(" ")),
        Verdict::Ask { rule, terms, .. } => format!("ask {} {rule}", terms.group),
        Verdict::Forbid { rule, .. } => format!("deny {rule}"),
        Verdict::Error { .. } => "error".to_owned(),
    }
}

const TICKET: &str = r#"
@id("read")
permit (principal is Agent, action in Action::"read", resource);

@id("remediator-acts")
permit (principal == Agent::"remediator", action in Action::"write", resource is Vm);

@id("prod-asks") @ask("sre-oncall") @ask_ttl("10m")
@reason("Changing production needs a person on call.")
forbid (principal, action in Action::"write", resource is Vm)
when { resource has env && resource.env == "prod" };

@id("untrusted-never-destroys")
@reason("The call was derived from data a stranger wrote.")
forbid (principal, action in Action::"destructive", resource)
when { context.untrusted };
"#;

// proves: D2, D4, A1, A4
#[test]
fn a_ticket_that_carries_an_attack_gets_a_restart_but_never_a_deletion() {
    let set = set(TICKET);
    let tainted = |mut act: Act| {
        act.label = Label::untrusted("tickets.get");
        act
    };
    let support = |mut act: Act| {
        act.agent = agent("support", "desk");
        act
    };
    let restart = || call("cloud.vm.restart", "db-1");
    for (act, expected) in [
        (call("cloud.vm.show", "db-1"), "permit read"),
        (tainted(call("cloud.vm.restart", "web-3")), "permit remediator-acts"),
        (restart(), "ask sre-oncall prod-asks"),
        (restart().by(&["omar"]), "permit remediator-acts"),
        (restart().by(&["dana"]), "ask sre-oncall prod-asks"),
        (restart().by(&[]), "ask sre-oncall prod-asks"),
        (tainted(call("cloud.vm.delete", "db-1")), "deny untrusted-never-destroys"),
        (tainted(call("cloud.vm.delete", "db-1")).by(&["omar"]), "deny untrusted-never-destroys"),
        (support(call("cloud.vm.restart", "web-3")), "deny no-permit"),
        (support(restart()).by(&["omar"]), "deny no-permit"),
    ] {
        assert_eq!(verdict(&set, &act), expected, "{} {:?}", act.manifest.tool, act.by);
    }
    let Verdict::Ask { reason, terms, .. } = set.evaluate(&restart().facts()) else { panic!() };
    assert_eq!(reason, "Changing production needs a person on call.");
    let group = GroupId::parse("sre-oncall").unwrap();
    assert_eq!(terms, AskTerms { group, quorum: 1, initiator_may: false, ttl_ms: 600_000 });
}

// proves: INV6, D6, A75
#[test]
fn a_forbid_that_fails_forbids() {
    let permit = "@id(\"all\") permit (principal, action, resource);\n";
    let overflow = "@id(\"guard\") forbid (principal, action in Action::\"write\", resource is Vm)
        when { context has amount && context.amount + 9223372036854775807 < 0 };";
    let set = set(&format!("{permit}{overflow}"));
    assert_eq!(verdict(&set, &call("cloud.vm.restart", "web-3").with(r#"{"amount":0}"#)), "permit all");
    assert_eq!(verdict(&set, &call("cloud.vm.restart", "web-3").with(r#"{"amount":1}"#)), "error");
    let Verdict::Error { reason } =
        set.evaluate(&call("cloud.vm.restart", "web-3").with(r#"{"amount":1}"#).facts())
    else {
        panic!()
    };
    assert!(reason.contains("guard"), "{reason}");
}

// proves: INV6, D6, A75
#[test]
fn a_permit_that_fails_denies_even_beside_another_that_holds() {
    let text = "@id(\"all\") permit (principal, action, resource);
        @id(\"odd\") permit (principal, action in Action::\"write\", resource is Vm)
        when { context has amount && context.amount * 2 > 0 };";
    let set = set(text);
    let huge = call("cloud.vm.restart", "web-3").with(r#"{"amount":9223372036854775807}"#);
    assert_eq!(verdict(&set, &huge), "error");
    assert_eq!(
        verdict(&set, &call("cloud.vm.show", "web-3")),
        "permit all",
        "the failing rule is not about reads"
    );
}

// proves: INV6, D6, A75
#[test]
fn an_empty_set_and_a_set_without_a_fitting_permit_deny() {
    let empty = compile(&[], &inputs()).unwrap();
    assert_eq!(verdict(&empty, &call("cloud.vm.show", "db-1")), "deny no-permit");
    assert_eq!(verdict(&set(""), &call("cloud.vm.show", "db-1").by(&["omar"])), "deny no-permit");
    let ask_alone = set("@id(\"a\") @ask forbid (principal, action, resource);");
    assert_eq!(
        verdict(&ask_alone, &call("cloud.vm.show", "db-1")),
        "deny no-permit",
        "asking could not help"
    );
}

// proves: INV6, D6, D3
#[test]
fn what_the_set_was_not_compiled_for_is_an_error() {
    let set = set("@id(\"all\") permit (principal, action, resource);");
    let act = call("cloud.vm.restart", "db-1");
    assert_eq!(verdict(&set, &act), "permit all");

    let mut unknown = act.clone();
    unknown.manifest = manifest("cloud.vm.melt", Effect::Update);
    assert_eq!(verdict(&set, &unknown), "error", "a tool nobody compiled for");

    let mut other = act.clone();
    other.manifest.effect = Effect::Read;
    assert_eq!(verdict(&set, &other), "error", "the effect changed");

    let mut other = act.clone();
    other.manifest = other.manifest.arg("force", Role::Free);
    assert_eq!(verdict(&set, &other), "error", "an argument was added");

    let mut other = act.clone();
    other.resource.kind = "Agent".to_owned();
    assert_eq!(verdict(&set, &other), "error", "the resource is of another type");

    let mut other = act.clone();
    other.resource.attrs.insert("tier".to_owned(), "gold".to_owned());
    assert_eq!(verdict(&set, &other), "error", "an attribute no rule could know");

    assert_eq!(verdict(&set, &act.with(r#"{"amount":"lots"}"#)), "error", "an amount that is no number");
}

// proves: INV5
#[test]
fn what_one_act_was_made_of_says_nothing_of_the_next() {
    let set = set("@id(\"all\") permit (principal, action, resource);
        @id(\"prod\") forbid (principal, action, resource is Vm) when { resource has env && resource.env == \"prod\" };
        @id(\"desk\") forbid (principal in Class::\"desk\", action, resource);
        @id(\"omar\") forbid (principal, action, resource) when { principal.owner == Person::\"omar\" };");
    let act = |env: &str, class: &str, owner: &str| {
        let mut act = call("cloud.vm.restart", "db-1");
        act.resource.attrs = BTreeMap::from([("env".to_owned(), env.to_owned())]);
        act.agent = Agent { owner: person(owner), ..agent("remediator", class) };
        act
    };
    for _ in 0..2 {
        assert_eq!(verdict(&set, &act("dev", "ops", "dana")), "permit all");
        assert_eq!(
            verdict(&set, &act("prod", "ops", "dana")),
            "deny prod",
            "the same machine, known otherwise"
        );
        assert_eq!(
            verdict(&set, &act("dev", "desk", "dana")),
            "deny desk",
            "the same agent in another class"
        );
        assert_eq!(verdict(&set, &act("dev", "ops", "omar")), "deny omar", "the same agent of another owner");
    }
    for n in 0..3_000 {
        let mut other = act("dev", "ops", "dana");
        other.resource.name = format!("vm-{n}");
        assert_eq!(verdict(&set, &other), "permit all");
    }
    assert_eq!(verdict(&set, &act("prod", "ops", "dana")), "deny prod");
}

// proves: A75, INV6
#[test]
fn a_set_that_no_longer_compiles_denies_everything_and_keeps_its_version() {
    let sources =
        [Source::new("a.cedar", "@id(\"a\") permit (principal, action == Action::\"gone.tool\", resource);")];
    let errors = compile(&sources, &inputs()).expect_err("the tool does not exist");
    let unusable = Unusable::new(&sources, &errors);
    assert_eq!(unusable.version(), crate::version(&sources));
    let Verdict::Error { reason } = unusable.evaluate(&call("cloud.vm.show", "db-1").facts()) else {
        panic!()
    };
    assert!(reason.contains("a.cedar:1"), "{reason}");
}

#[test]
fn a_list_where_a_word_was_expected_slips_past_nothing() {
    let set = set("@id(\"all\") permit (principal, action, resource);
        @id(\"not-db\") forbid (principal, action in Action::\"write\", resource is Vm)
        when { context.args.name.contains(\"db-1\") };");
    for hit in [r#"{"name":"db-1"}"#, r#"{"name":["web-3","db-1"]}"#, r#"{"name":{"x":[{"y":"db-1"}]}}"#] {
        assert_eq!(verdict(&set, &call("cloud.vm.restart", "web-3").with(hit)), "deny not-db", "{hit}");
    }
    for miss in ["{}", r#"{"name":null}"#, r#"{"name":"web-3"}"#] {
        assert_eq!(verdict(&set, &call("cloud.vm.restart", "web-3").with(miss)), "permit all", "{miss}");
    }
}

// proves: D4
#[test]
fn amount_time_label_and_step_are_live_conditions() {
    let set = set("@id(\"all\") permit (principal, action, resource);
        @id(\"big\") forbid (principal, action in Action::\"egress\", resource is Vm) when { context has amount && context.amount > 1000 };
        @id(\"weekend\") forbid (principal, action in Action::\"update\", resource) when { context.weekday_utc >= 6 || context.hour_utc < 6 };
        @id(\"secret\") forbid (principal, action in Action::\"create\", resource) when { context.confidential && context.classes.contains(\"pii\") };
        @id(\"step\") forbid (principal, action in Action::\"delete\", resource) unless { context has step && context.step == \"clean-up\" };");
    let export = |args: &str| verdict(&set, &call("cloud.vm.export", "web-3").with(args));
    assert_eq!(export(r#"{"amount":1000}"#), "permit all");
    assert_eq!(export(r#"{"amount":1000.5}"#), "deny big", "a fraction over the bound is over the bound");

    let at = |ms: u64| {
        let mut act = call("cloud.vm.restart", "web-3");
        act.now = Time(ms);
        verdict(&set, &act)
    };
    let hour = 3_600_000;
    assert_eq!(at(6 * hour), "permit all", "1970-01-01 was a Thursday");
    assert_eq!(at(5 * hour), "deny weekend");
    assert_eq!(at((24 + 23) * hour), "permit all", "Friday");
    assert_eq!(at((48 + 12) * hour), "deny weekend", "Saturday");
    assert_eq!(at((96 + 12) * hour), "permit all", "Monday");

    let labelled = |level| {
        let mut act = call("cloud.vm.create", "web-3");
        act.label = Label { level, classes: ["pii".parse().unwrap()].into(), ..Label::bottom() };
        verdict(&set, &act)
    };
    assert_eq!(labelled(Level::Internal), "permit all");
    assert_eq!(labelled(Level::Secret), "deny secret");

    let mut delete = call("cloud.vm.delete", "web-3");
    assert_eq!(verdict(&set, &delete), "deny step");
    delete.step = Some(StepId::parse("clean-up").unwrap());
    assert_eq!(verdict(&set, &delete), "permit all");
}

#[test]
fn a_handoff_is_judged_with_both_agents_in_sight() {
    let set = set("@id(\"hand\") permit (principal in Class::\"ops\", action == Action::\"handoff\", resource);
        @id(\"not-desk\") forbid (principal, action == Action::\"handoff\", resource in Class::\"desk\");
        @id(\"owner\") forbid (principal, action == Action::\"handoff\", resource) unless { principal.owner == resource.owner };
        @id(\"no-secrets\") forbid (principal, action == Action::\"handoff\", resource is Agent) when { context.fields.contains(\"password\") };");
    let mut act = call("cloud.vm.show", "web-3");
    act.hand_to = Some(agent("helper", "ops"));
    assert_eq!(verdict(&set, &act), "permit hand");
    assert_eq!(verdict(&set, &act.clone().with(r#"{"password":"x"}"#)), "deny no-secrets");
    act.hand_to = Some(agent("support", "desk"));
    assert_eq!(verdict(&set, &act), "deny not-desk");
    let mut other = agent("helper", "ops");
    other.owner = person("eve");
    act.hand_to = Some(other);
    assert_eq!(verdict(&set, &act), "deny owner");
}

#[test]
fn rules_of_a_class_speak_to_that_class_only() {
    let sources = [
        Source::new("all.cedar", "@id(\"all\") permit (principal, action, resource);"),
        Source::new(
            "classes/desk.cedar",
            "@id(\"desk\") forbid (principal, action in Action::\"write\", resource);",
        ),
        Source::new(
            "ops.cedar",
            "@id(\"ops\") @class(\"ops\") forbid (principal, action in Action::\"admin\", resource);",
        ),
    ];
    let set = compile(&sources, &inputs()).unwrap();
    let by = |mut act: Act, name: &str, class: &str| {
        act.agent = agent(name, class);
        verdict(&set, &act)
    };
    assert_eq!(by(call("cloud.vm.restart", "web-3"), "support", "desk"), "deny desk");
    assert_eq!(by(call("cloud.vm.restart", "web-3"), "remediator", "ops"), "permit all");
    assert_eq!(by(call("cloud.iam.grant", "web-3"), "remediator", "ops"), "deny ops");
    assert_eq!(by(call("cloud.iam.grant", "web-3"), "x", "lab"), "permit all");
}

// proves: A4
#[test]
fn several_rules_that_ask_become_one_question_on_the_strictest_terms() {
    let ask = |id: &str, more: &str| {
        format!("@id(\"{id}\") {more} forbid (principal, action in Action::\"write\", resource);\n")
    };
    let with = |rules: &[String]| {
        set(&format!("@id(\"all\") permit (principal, action, resource);\n{}", rules.concat()))
    };
    let act = call("cloud.vm.restart", "web-3");

    let any = with(&[
        ask("a", "@ask @initiator_may(\"true\") @ask_ttl(\"1h\") @reason(\"First.\")"),
        ask("b", "@ask(\"sre-oncall\") @quorum(\"2\") @ask_ttl(\"5m\") @reason(\"Second.\")"),
    ]);
    let Verdict::Ask { rule, reason, terms } = any.evaluate(&act.facts()) else { panic!() };
    assert_eq!(
        (rule.as_str(), reason.as_str()),
        ("b", "Second. First."),
        "the rule that names a group speaks"
    );
    let group = GroupId::parse("sre-oncall").unwrap();
    assert_eq!(terms, AskTerms { group, quorum: 2, initiator_may: false, ttl_ms: 300_000 });
    assert_eq!(
        verdict(&any, &act.clone().by(&["omar"])),
        "ask sre-oncall b",
        "enough for one rule, not for the other"
    );
    assert_eq!(
        verdict(&any, &act.clone().by(&["omar", "dana"])),
        "ask sre-oncall b",
        "the initiator does not count"
    );
    assert_eq!(verdict(&any, &act.clone().by(&["omar", "eve"])), "permit all");

    let none_named = with(&[ask("a", "@ask")]);
    assert_eq!(verdict(&none_named, &act), "ask approvers a");

    let torn = with(&[ask("a", "@ask(\"sre\")"), ask("b", "@ask(\"finance\")")]);
    assert_eq!(verdict(&torn, &act), "deny a");
    let Verdict::Forbid { reason, .. } = torn.evaluate(&act.facts()) else { panic!() };
    assert!(reason.contains("finance, sre"), "{reason}");

    let plain = with(&[ask("a", "@ask(\"sre\")"), ask("z", "")]);
    assert_eq!(verdict(&plain, &act.clone().by(&["omar"])), "deny z");
    assert_eq!(verdict(&plain, &act), "deny z", "a plain forbid is never a question");
}

// proves: D2
#[test]
fn what_is_wrong_with_a_policy_is_said_where_it_is() {
    let all = "permit (principal, action, resource);";
    for (text, code, line) in [
        (format!("// no name\n\n{all}"), "policy.id_missing", Some(3)),
        (format!("@id(\"a\") {all}\n@id(\"a\")\n{all}"), "policy.id_repeated", Some(2)),
        (format!("@id(\"no-permit\") {all}"), "policy.id_malformed", Some(1)),
        (format!("@id(\"a\\u{{202e}}b\") {all}"), "policy.id_malformed", Some(1)),
        (format!("@id(\"a\") @resaon(\"x\") {all}"), "policy.annotation", Some(1)),
        (format!("@id(\"a\") @ask(\"sre\") {all}"), "policy.ask_on_permit", Some(1)),
        (format!("@id(\"a\") @quorum(\"2\") {all}"), "policy.annotation", Some(1)),
        (
            "@id(\"a\") @ask @quorum(\"0\") forbid (principal, action, resource);".into(),
            "policy.annotation",
            Some(1),
        ),
        (
            "@id(\"a\") @ask @ask_ttl(\"9d\") forbid (principal, action, resource);".into(),
            "policy.annotation",
            Some(1),
        ),
        (
            "@id(\"a\") @ask(\"Bad Group\") forbid (principal, action, resource);".into(),
            "policy.annotation",
            Some(1),
        ),
        (
            "@id(\"a\") @ask forbid (principal, action == Action::\"handoff\", resource);".into(),
            "policy.ask_on_handoff",
            Some(1),
        ),
        (
            "@id(\"a\") permit (principal, action, resource)\nwhen { context.x == };".into(),
            "policy.syntax",
            Some(2),
        ),
        ("@id(\"a\") permit (principal == ?principal, action, resource);".into(), "policy.template", None),
        (
            "\n@id(\"a\") permit (principal, action == Action::\"cloud.vm.restrat\", resource);".into(),
            "policy.invalid",
            Some(2),
        ),
        ("\n@id(\"a\") permit (principal, action, resource is Vmm);".into(), "policy.invalid", Some(2)),
        (
            "@id(\"a\") permit (principal, action, resource is Vm) when { resource.env == \"prod\" };".into(),
            "policy.invalid",
            Some(1),
        ),
        (
            "@id(\"a\") permit (principal, action, resource is Vm) when { context.tained };".into(),
            "policy.invalid",
            Some(1),
        ),
        (
            "@id(\"a\") permit (principal, action, resource is Vm) when { context.depth == \"1\" };".into(),
            "policy.invalid",
            Some(1),
        ),
        (
            "@id(\"a\") permit (principal, action, resource is Vm) when { Vm::\"db-1\" has env };".into(),
            "policy.invalid",
            Some(1),
        ),
    ] {
        let errors = refused(&text);
        assert_eq!((errors.code(), errors.0[0].line), (code, line), "{text}\n{errors}");
        assert!(errors.to_string().starts_with("test.cedar"), "{errors}");
        assert!(errors.0.iter().any(|e| !e.help.is_empty()), "no next step: {errors}");
    }
    let slip = refused(&format!("@id(\"a\") @resaon(\"x\") {all}"));
    assert!(slip.to_string().contains("Did you mean `reason`?"), "{slip}");
    let two = refused(&format!("{all}\n{all}"));
    assert_eq!(two.0.len(), 2, "all errors are told at once");
    let twice = [Source::new("a.cedar", ""), Source::new("a.cedar", "")];
    assert_eq!(compile(&twice, &inputs()).unwrap_err().code(), "policy.source_repeated");
}

// proves: D2
#[test]
fn odd_but_valid_policies_are_warned_about() {
    let set = set("@id(\"a\") permit (principal == Agent::\"remediater\", action, resource);");
    let warning = &set.warnings()[0];
    assert_eq!(warning.code, "policy.stranger");
    assert!(warning.to_string().contains("Did you mean `remediator`?"), "{warning}");
}

// proves: D2
#[test]
fn an_explanation_names_every_rule_that_was_looked_at_and_what_it_said() {
    let set = set(TICKET);
    let mut act = call("cloud.vm.delete", "db-1").by(&["omar"]);
    act.label = Label::untrusted("tickets.get");
    let facts = act.facts();
    let why = set.explain(&facts);
    assert_eq!(why.verdict, set.evaluate(&facts));
    assert_eq!(
        why.to_string(),
        "remediator calls cloud.vm.delete (delete) on Vm db-1: refused by untrusted-never-destroys: \
         The call was derived from data a stranger wrote.\n  \
         forbid untrusted-never-destroys (test.cedar:13): decides\n  \
         forbid prod-asks (test.cedar:8): applies, lifted by approval\n  \
         permit remediator-acts (test.cedar:5): applies\n  \
         1 more speak about other acts"
    );
    let broken = Act { manifest: manifest("cloud.vm.melt", Effect::Update), ..act };
    let why = set.explain(&broken.facts());
    assert!(matches!(why.verdict, Verdict::Error { .. }) && why.considered.is_empty() && why.others == 4);
}

// proves: INV6, A75
#[test]
fn pathological_texts_are_refused_or_judged_but_never_fatal() {
    let deep = |part: &str, times: usize| {
        let body = part.repeat(times);
        let text = match part {
            ".a" => format!("@id(\"a\") permit (principal, action, resource) when {{ context{body} == 1 }};"),
            _ => format!("@id(\"a\") permit (principal, action, resource) when {{ {body}true }};"),
        };
        // On a small stack, because the answer must not depend on whose thread asks.
        let judge = move || match compile(&[Source::new("test.cedar", text)], &inputs()) {
            Ok(set) => verdict(&set, &call("cloud.vm.show", "db-1")),
            Err(errors) => errors.code().to_owned(),
        };
        std::thread::Builder::new().stack_size(1 << 20).spawn(judge).unwrap().join().unwrap()
    };
    for (part, most, answer) in [
        ("true && ", 250, "permit a"),
        ("false || ", 250, "permit a"),
        ("if true then true else ", 500, "permit a"),
        ("if(true)then(true)else ", 500, "permit a"),
        ("1 + 1 == 2 && ", 100, "permit a"),
        (".a", 500, "policy.invalid"),
    ] {
        assert_eq!(deep(part, most), answer, "{part}");
        assert_eq!(deep(part, 600), "policy.too_large", "{part}");
        assert_eq!(deep(part, 100_000), "policy.too_large", "{part}");
    }
    let many: String = (0..=crate::POLICIES_MAX)
        .map(|n| format!("@id(\"{n}\")permit(principal,action,resource);\n"))
        .collect();
    assert_eq!(refused(&many).code(), "policy.too_many");
}

#[test]
fn ten_thousand_rules_about_others_are_not_looked_at() {
    let mut text = TICKET.to_owned();
    for n in 0..2_500 {
        text.push_str(&format!(
            "@id(\"agent-{n}\") permit (principal == Agent::\"a{n}\", action in Action::\"write\", resource);
             @id(\"class-{n}\") forbid (principal in Class::\"c{n}\", action, resource);
             @id(\"vm-{n}\") forbid (principal, action in Action::\"write\", resource == Vm::\"vm-{n}\");
             @id(\"for-{n}\") @class(\"k{n}\") forbid (principal, action, resource);\n"
        ));
    }
    text.push_str("@id(\"others\") forbid (principal, action == Action::\"tickets.get\", resource);");
    let (small, large) = (set(TICKET), set(&text));
    assert_eq!(large.rules().len(), 10_005);
    for act in
        [call("cloud.vm.restart", "web-3"), call("cloud.vm.delete", "db-1"), call("cloud.vm.show", "x")]
    {
        let ids = |set: &CompiledSet| -> Vec<String> {
            set.considered(&act.facts()).unwrap().iter().map(|r| r.id.clone()).collect()
        };
        assert_eq!(ids(&small), ids(&large));
        assert_eq!(verdict(&small, &act), verdict(&large, &act));
    }
    let hit = call("cloud.vm.restart", "vm-7");
    assert_eq!(verdict(&large, &hit), "deny vm-7");
}

/// Rules over a small world, so that many of them meet.
fn any_rule() -> impl Strategy<Value = String> {
    let head = (
        prop::sample::select(vec!["permit", "forbid", "forbid", "@ask forbid", "@ask(\"sre\") forbid"]),
        prop::sample::select(vec!["", "@class(\"ops\")", "@class(\"desk\")"]),
    );
    let principal = prop::sample::select(vec![
        "principal",
        "principal is Agent",
        "principal == Agent::\"remediator\"",
        "principal in Agent::\"support\"",
        "principal in Class::\"ops\"",
        "principal is Agent in Class::\"desk\"",
    ]);
    let action = prop::sample::select(vec![
        "action",
        "action == Action::\"cloud.vm.restart\"",
        "action == Action::\"handoff\"",
        "action in Action::\"write\"",
        "action in [Action::\"destructive\", Action::\"delete\", Action::\"read\"]",
        "action in [Action::\"cloud.vm.show\", Action::\"tickets.get\"]",
    ]);
    let resource = prop::sample::select(vec![
        "resource",
        "resource is Vm",
        "resource == Vm::\"db-1\"",
        "resource in System::\"cloud\"",
        "resource == System::\"tickets\"",
        "resource is System",
        "resource in Class::\"desk\"",
        "resource is Vm in System::\"cloud\"",
    ]);
    let condition = prop::sample::select(vec![
        "",
        "when { context.untrusted }",
        "when { context has step }",
        "when { context.depth + 9223372036854775807 > 0 }",
        "when { context has approval }",
        "unless { context.unexplained.isEmpty() }",
    ]);
    (head, principal, action, resource, condition).prop_map(|((effect, class), p, a, r, c)| {
        let (ask, effect) = effect.rsplit_once(' ').unwrap_or(("", effect));
        format!("{class} {ask} {effect} ({p}, {a}, {r}) {c};")
    })
}

fn any_act() -> impl Strategy<Value = Act> {
    let tool = prop::sample::select(vec![
        ("cloud.vm.show", "db-1"),
        ("cloud.vm.restart", "db-1"),
        ("cloud.vm.delete", "web-3"),
        ("cloud.iam.grant", "nowhere"),
        ("tickets.get", "tickets"),
        ("handoff", ""),
    ]);
    let who = prop::sample::select(vec![("remediator", "ops"), ("support", "desk"), ("stray", "lab")]);
    (
        tool,
        who,
        any::<(bool, bool, bool)>(),
        prop::option::of(prop::sample::subsequence(vec!["dana", "omar"], 0..=2)),
    )
        .prop_map(|((tool, vm), (name, class), (untrusted, step, unexplained), by)| {
            let mut act = if tool == "handoff" { call("cloud.vm.show", "db-1") } else { call(tool, vm) };
            act.hand_to = (tool == "handoff").then(|| agent("support", "desk"));
            act.agent = agent(name, class);
            if untrusted {
                act.label = Label::untrusted("mail");
            }
            act.step = step.then(|| StepId::parse("s").unwrap());
            act.unexplained = if unexplained { ["name".to_owned()].into() } else { BTreeSet::new() };
            match by {
                Some(by) => act.by(&by),
                None => act,
            }
        })
}

/// Names the rules and drops those that are refused (an `@ask` on a handoff, an impossible head).
fn named(rules: &[String]) -> Vec<String> {
    let mut named: Vec<String> =
        rules.iter().enumerate().map(|(n, rule)| format!("@id(\"r{n:02}\") {rule}")).collect();
    while let Err(errors) = compile(&[Source::new("t.cedar", named.join("\n"))], &inputs()) {
        let bad: BTreeSet<String> =
            errors.0.into_iter().map(|e| e.policy.expect("every rule has a name")).collect();
        named.retain(|rule| !bad.iter().any(|id| rule.contains(&format!("\"{id}\""))));
    }
    named
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    // proves: INV5, INV6, D2
    #[test]
    fn looking_at_a_part_gives_the_answer_of_the_whole(
        rules in prop::collection::vec(any_rule(), 1..24), acts in prop::collection::vec(any_act(), 8)
    ) {
        let set = compile(&[Source::new("t.cedar", named(&rules).join("\n"))], &inputs()).unwrap();
        for act in acts {
            let whole = set.find_in_all(&act.facts()).unwrap();
            let part = set.find(&act.facts()).unwrap();
            prop_assert_eq!(&whole.permits, &part.permits);
            prop_assert_eq!(&whole.forbids, &part.forbids);
            prop_assert_eq!(&whole.errors, &part.errors);
            prop_assert_eq!(set.conclude(&act.facts(), &whole), set.evaluate(&act.facts()));
        }
    }

    // proves: INV5
    #[test]
    fn the_order_of_rules_and_files_changes_nothing(
        rules in prop::collection::vec(any_rule(), 2..16), seed in any::<u64>(), act in any_act()
    ) {
        let rules = named(&rules);
        let mut shuffled = rules.clone();
        shuffled.sort_by_key(|rule| (seed ^ rule.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        shuffled.reverse();
        let (left, right) = shuffled.split_at(shuffled.len() / 2);
        let one = compile(&[Source::new("t.cedar", rules.join("\n"))], &inputs()).unwrap();
        let two = compile(&[Source::new("z.cedar", left.join("\n")), Source::new("a.cedar", right.join("\n"))], &inputs()).unwrap();
        prop_assert_eq!(format!("{:?}", one.evaluate(&act.facts())), format!("{:?}", two.evaluate(&act.facts())));
    }

    // proves: INV6, A74
    #[test]
    fn no_approval_changes_what_a_plain_forbid_or_a_missing_permit_says(
        rules in prop::collection::vec(any_rule(), 1..16), act in any_act()
    ) {
        let rules = named(&rules).into_iter().filter(|r| !r.contains("has approval")).collect::<Vec<_>>();
        let set = compile(&[Source::new("t.cedar", rules.join("\n"))], &inputs()).unwrap();
        let (without, with) = (Act { by: None, ..act.clone() }, act.by(&["omar", "eve", "zoe"]));
        match (set.evaluate(&without.facts()), set.evaluate(&with.facts())) {
            (Verdict::Permit { rules: a }, Verdict::Permit { rules: b }) => prop_assert_eq!(a, b),
            (Verdict::Ask { .. }, Verdict::Permit { .. }) => {}
            (Verdict::Forbid { reason, .. }, Verdict::Permit { .. }) => prop_assert!(reason.contains("different groups")),
            (before, after) => prop_assert_eq!(before, after),
        }
    }
}

// proves: D2
#[test]
fn what_is_only_observed_is_told_and_enforces_nothing() {
    let permit = "@id(\"all\") permit (principal, action, resource);\n";
    let forbid = "@id(\"new\") @observe @reason(\"Too early.\") forbid (principal, action in Action::\"write\", resource);";
    let tried = set(&format!("{permit}{forbid}"));
    let restart = call("cloud.vm.restart", "db-1");
    assert_eq!(verdict(&tried, &restart), "permit all");
    let seen = tried.observe(&restart.facts()).unwrap();
    assert_eq!((seen.would, seen.reason.as_str()), (bailiwick_core::event::Ruled::Deny, "Too early."));
    assert_eq!(seen.rules, ["new".to_owned()].into());
    assert_eq!(tried.observe(&call("cloud.vm.show", "db-1").facts()), None, "it does not apply");
    assert!(tried.explain(&restart.facts()).to_string().contains("only observed"));

    let enforced = set(&format!("{permit}{}", forbid.replace("@observe ", "")));
    assert_eq!(verdict(&enforced, &restart), "deny new");
    assert_eq!(enforced.observe(&restart.facts()), None);

    // An observed permit permits nothing, an observed failure denies nothing.
    let hope = set("@id(\"hope\") @observe permit (principal, action, resource);");
    assert_eq!(verdict(&hope, &restart), "deny no-permit");
    assert_eq!(hope.observe(&restart.facts()).unwrap().would, bailiwick_core::event::Ruled::Allow);
    let broken = set(&format!(
        "{permit}@id(\"odd\") @observe forbid (principal, action in Action::\"write\", resource is Vm)
        when {{ context has amount && context.amount + 9223372036854775807 < 0 }};"
    ));
    let failing = restart.with(r#"{"amount":1}"#);
    assert_eq!(verdict(&broken, &failing), "permit all");
    assert_eq!(broken.observe(&failing.facts()).unwrap().would, bailiwick_core::event::Ruled::Deny);
    assert!(
        compile(
            &[Source::new("p", "@id(\"a\") @observe(\"yes\") permit (principal, action, resource);")],
            &inputs()
        )
        .is_err()
    );
}
