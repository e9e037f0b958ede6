//! What the solver is asked is true of real acts, and what it answers is believed only where they agree.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_core::decision::resource;
use bailiwick_core::ids::{AgentClass, AgentId, PrincipalId, StepId, TaskId, ToolId};
use bailiwick_core::label::{Label, Level};
use bailiwick_core::time::Time;
use bailiwick_core::tool::{Effect, ResourceSpec, Role};
use bailiwick_core::value::Value;
use bailiwick_core::verdict::{Approved, Deed, Facts, Flow};
use cedar_policy::{Authorizer, Decision};

use super::*;
use crate::{Source, compile};

fn agent(name: &str, class: &str) -> Agent {
    Agent {
        id: AgentId::parse(name).unwrap(),
        owner: PrincipalId::parse("dana").unwrap(),
        class: AgentClass::parse(class).unwrap(),
        ceiling: Vec::new(),
        keys: BTreeSet::new(),
    }
}

fn tool(name: &str, effect: Effect) -> Manifest {
    Manifest::new(ToolId::parse(name).unwrap(), effect)
}

fn agents() -> Vec<Agent> {
    vec![agent("ops", "ops"), agent("desk", "support")]
}

fn tools() -> Vec<Manifest> {
    let mut restart =
        tool("cloud.restart", Effect::Update).arg("name", Role::Selector).arg("why", Role::Content);
    let env = |v: &str| BTreeMap::from([("env".to_owned(), v.to_owned())]);
    restart.resource = Some(ResourceSpec {
        kind: "Vm".to_owned(),
        from: Some("name".to_owned()),
        known: BTreeMap::from([("db-1".to_owned(), env("prod")), ("web-3".to_owned(), env("test"))]),
    });
    let mut pay = tool("bank.pay", Effect::Egress).arg("to", Role::Target).arg("amount", Role::Free);
    pay.args.get_mut("amount").unwrap().amount = true;
    vec![
        restart,
        pay,
        tool("tickets.get", Effect::Read).arg("id", Role::Selector),
        tool("cloud.wipe", Effect::Delete),
    ]
}

fn set(text: &str) -> CompiledSet {
    let inputs = SchemaInputs::new(&tools(), &agents()).unwrap();
    compile(&[Source::new("p.cedar", text)], &inputs).unwrap_or_else(|e| panic!("{e}"))
}

fn with_questions(old: &str, new: &str, then: impl FnOnce(&Questions<'_>)) {
    let (old, new, agents, tools) = (set(old), set(new), agents(), tools());
    then(&Questions::between(&old, &new, &agents, &tools).unwrap());
}

const ALL: &str = "@id(\"all\") permit (principal, action, resource);\n";

// proves: D2
#[test]
fn only_what_the_rules_do_not_settle_themselves_is_asked() {
    // Another name, another reason and another order are no difference.
    let renamed = "@id(\"everything\") @reason(\"So be it.\") permit (principal, action, resource);";
    with_questions(ALL, renamed, |q| assert!(q.asked.is_empty() && q.same == 10, "{q:?}"));
    // A rule about one tool leaves the others alone.
    let one = format!("{ALL}@id(\"one\") forbid (principal, action == Action::\"cloud.wipe\", resource);");
    with_questions(ALL, &one, |q| {
        let about: Vec<_> = q.asked.iter().map(Question::subject).collect();
        let of = "agents calling cloud.wipe";
        assert_eq!(about, [(Way::Wider, of), (Way::Narrower, of)]);
    });
    // A rule that is only observed changes nothing.
    with_questions(ALL, &one.replace("@id(\"one\")", "@id(\"one\") @observe"), |q| {
        assert!(q.asked.is_empty())
    });
}

// proves: D2
#[test]
fn classes_and_every_yes_that_matters_are_asked_apart() {
    let ask = |terms: &str| {
        format!("{ALL}@id(\"a\") {terms} forbid (principal, action == Action::\"cloud.wipe\", resource);")
    };
    let yeses = |old: &str, new: &str| {
        let mut all = Vec::new();
        with_questions(old, new, |q| {
            all = q
                .asked
                .iter()
                .filter(|q| q.way == Way::Wider)
                .map(|q| q.yes.as_ref().map(Yes::in_words))
                .collect();
        });
        all
    };
    let plain = yeses(&ask(""), &ask("@ask"));
    assert!(plain.contains(&Some("with the yes of one person of approvers".to_owned())), "{plain:?}");
    assert!(!plain.contains(&None), "what stands unasked is the same: {plain:?}");
    // Two people instead of one: one person's yes no longer does.
    assert!(yeses(&ask("@ask @quorum(\"2\")"), &ask("@ask")).len() >= 2);
    // Who may answer changes nothing while nobody answers.
    let groups = yeses(&ask("@ask(\"sre\")"), &ask("@ask(\"boss\")"));
    assert!(groups.iter().flatten().any(|yes| yes.contains("boss")), "{groups:?}");

    let of_class = ask("@class(\"ops\")");
    with_questions(ALL, &of_class, |q| {
        let about: BTreeSet<_> = q.asked.iter().map(|q| q.about.as_str()).collect();
        assert_eq!(about, ["agents of class ops calling cloud.wipe"].into());
    });
    let in_class = format!(
        "{ALL}@id(\"c\") forbid (principal in Class::\"ops\", action == Action::\"handoff\", resource);"
    );
    with_questions(ALL, &in_class, |q| {
        let about: BTreeSet<_> = q.asked.iter().map(|q| q.about.as_str()).collect();
        assert_eq!(about.len(), 3, "ops, support and any other: {about:?}");
    });
}

// proves: D2, D6
#[test]
fn a_rule_that_only_one_side_has_must_not_fail_even_where_a_yes_lifts_it() {
    let risky = format!(
        "{ALL}@id(\"sum\") @ask forbid (principal, action == Action::\"bank.pay\", resource)
        when {{ context has amount && context.amount + 1 > 100 }};"
    );
    with_questions(&risky, ALL, |q| {
        let wider: Vec<_> = q.asked.iter().filter(|q| q.way == Way::Wider).collect();
        assert!(wider.len() > 1 && wider.iter().all(|q| q.must_not_fail.len() == 1), "{wider:?}");
        assert!(q.asked.iter().filter(|q| q.way == Way::Narrower).all(|q| q.must_not_fail.is_empty()));
    });
}

/// Acts of every shape, as the core hands them to a policy.
fn acts(tools: &[Manifest], agents: &[Agent], mut see: impl FnMut(&Facts<'_>, Option<usize>, Option<&Yes>)) {
    let (initiator, task) = (PrincipalId::parse("eve@example.org").unwrap(), TaskId::parse("t-1").unwrap());
    let step = StepId::parse("step").unwrap();
    let yes = Yes { group: GroupId::parse(APPROVERS).unwrap(), people: 1, initiator: false };
    let labels = [
        Label::bottom(),
        Label::untrusted("tickets.get"),
        Label { level: Level::Secret, ..Label::untrusted("a") },
        Label { level: Level::Confidential, ..Label::bottom() },
    ];
    let filled = |tool: &Manifest, text: &Value| {
        Value::Map(
            tool.args
                .keys()
                .map(|a| {
                    (
                        a.clone(),
                        if Some(a.as_str()) == tool.amount_arg() { Value::Int(7) } else { text.clone() },
                    )
                })
                .collect(),
        )
    };
    let texts = [
        Value::from("db-1"),
        Value::from(" web-3 "),
        Value::from("other"),
        Value::Null,
        Value::from(""),
        Value::List(vec![Value::from("db-1")]),
        Value::List(vec![Value::from("db-1"), Value::from("x@y.example")]),
    ];
    for agent in agents {
        for (n, tool) in tools.iter().enumerate() {
            for args in texts.iter().map(|text| filled(tool, text)).chain([Value::empty()]) {
                let map = args.as_map().unwrap();
                let flow = Flow::of(tool, map, |_| false, |_| n % 2 == 0);
                for (label, approved) in labels.iter().flat_map(|l| [(l, false), (l, true)]) {
                    let unexplained: BTreeSet<String> =
                        tool.args.keys().take(usize::from(approved)).cloned().collect();
                    let by = BTreeSet::from([PrincipalId::parse("omar").unwrap()]);
                    let facts = Facts {
                        deed: Deed::Call(tool),
                        agent,
                        initiator: &initiator,
                        task: &task,
                        has_chain: approved,
                        step: approved.then_some(&step),
                        depth: 3,
                        resource: Some(resource(tool, map)),
                        args: &args,
                        label,
                        unexplained: &unexplained,
                        flow: &flow,
                        approval: approved.then(|| Approved { by, group: yes.group.clone() }),
                        now: Time(1_795_435_200_000),
                        remaining_ms: 5,
                    };
                    see(&facts, Some(n), approved.then_some(&yes));
                }
            }
        }
        for child in agents.iter().filter(|child| child.id != agent.id) {
            let args = Value::from([("summary", Value::from("text"))]);
            let facts = Facts {
                deed: Deed::HandOff(child),
                agent,
                initiator: &initiator,
                task: &task,
                has_chain: true,
                step: None,
                depth: 0,
                resource: None,
                args: &args,
                label: &labels[1],
                unexplained: &BTreeSet::new(),
                flow: &Flow::default(),
                approval: None,
                now: Time(0),
                remaining_ms: 0,
            };
            see(&facts, None, None);
        }
    }
}

// What is taken for a fact holds of every act, or a proof would prove too little.
// proves: D2
#[test]
fn the_facts_that_questions_rest_on_hold_of_every_act() {
    let text = format!(
        "{ALL}@id(\"names\") forbid (principal == Agent::\"ops\", action, resource) when {{
            principal in Class::\"ops\" && resource in System::\"cloud\" && resource == Vm::\"db-1\"
        }};"
    );
    let (set, agents, tools) = (set(&text), agents(), tools());
    let trees: Vec<String> = spoken(&set).unwrap().into_iter().map(|s| s.text).collect();
    let literals = Literals::of(trees.iter().map(String::as_str)).unwrap();
    assert_eq!(literals.of_type("Vm").collect::<Vec<_>>(), ["db-1"]);
    let world = World { agents: &agents, literals: &literals };
    let (authorizer, mut held, mut kept) = (Authorizer::new(), 0, BTreeMap::new());
    let rules = spoken(&set).unwrap();
    acts(&tools, &agents, |facts, tool, yes| {
        let (manifest, class) = (tool.map(|n| &tools[n]), Class::Of(facts.agent.class.as_str().to_owned()));
        let stated = [world.facts(manifest, &class, yes), world.today(manifest, &class)];
        let assumed = kept.entry(stated.clone()).or_insert_with(|| {
            let all: Slice<'_, '_> = rules.iter().filter(|s| s.rule.id == "all").collect();
            super::set(&all, &[&stated[0], &stated[1]]).unwrap()
        });
        let prepared = set.in_cedars_terms(facts).unwrap();
        let response = authorizer.is_authorized(&prepared.request, assumed, &prepared.entities);
        let reasons: Vec<_> = response.diagnostics().reason().collect();
        assert!(response.decision() == Decision::Allow, "{reasons:?} {facts:?}\n{stated:#?}");
        assert_eq!(response.diagnostics().errors().count(), 0, "{facts:?}");
        held += 1;
    });
    assert!(held > 400, "{held}");
}

// An act that is judged otherwise than the solver says is no counterexample.
// proves: D2, D6
#[test]
fn a_counterexample_counts_only_if_both_sets_agree() {
    let prod = format!(
        "{ALL}@id(\"prod\") forbid (principal, action in Action::\"write\", resource is Vm)
        when {{ resource has env && resource.env == \"prod\" }};"
    );
    let (old, new, agents, tools) = (set(&prod), set(ALL), agents(), tools());
    let questions = Questions::between(&old, &new, &agents, &tools).unwrap();
    let question = questions.asked.iter().find(|q| q.way == Way::Wider).unwrap();
    let tool = tools.first().unwrap();
    let (initiator, task) = (PrincipalId::parse("eve").unwrap(), TaskId::parse("t-1").unwrap());
    let confirm = |vm: &str| {
        let args = Value::from([("name", Value::from(vm))]);
        let facts = Facts {
            deed: Deed::Call(tool),
            agent: &agents[0],
            initiator: &initiator,
            task: &task,
            has_chain: false,
            step: None,
            depth: 0,
            resource: Some(resource(tool, args.as_map().unwrap())),
            args: &args,
            label: &Label::bottom(),
            unexplained: &BTreeSet::new(),
            flow: &Flow::default(),
            approval: None,
            now: Time(0),
            remaining_ms: 0,
        };
        let prepared = old.in_cedars_terms(&facts).unwrap();
        questions.confirm(question, &prepared.request, &prepared.entities)
    };
    let example = confirm("db-1").unwrap();
    assert_eq!(example.act, "ops calls cloud.restart");
    assert_eq!(example.args, Value::from([("name", Value::from("db-1"))]));
    assert!(example.when.contains("env prod") && example.old.contains("refused by prod"), "{example:?}");
    let why = confirm("web-3").unwrap_err();
    assert!(why.contains("the rules themselves say otherwise"), "{why}");
}
