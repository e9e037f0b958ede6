//! `policy diff` with a proof or a counterexample: what the solver cvc5 says, and what is said when it says nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::support::{House, Ran, text};

const CONFIG: &str = "
version: 1
trust_domain: example.org
listen: 127.0.0.1:$PORT
people:
  - { id: dana@example.org, groups: [operators] }
agents:
  - { id: clerk, owner: dana@example.org, class: desk, ceiling: [ { tool: notes.* } ] }
  - { id: ops, owner: dana@example.org, class: ops, ceiling: [ { tool: cloud.* } ] }
tools:
  - { tool: notes.read, effect: read, args: { id: { role: selector, required: true } } }
  - { tool: notes.delete, effect: delete, args: { id: { role: selector, required: true } } }
  - { tool: bank.pay, effect: egress, args: { to: { role: target, required: true }, sum: { role: free, amount: true } } }
  - tool: cloud.restart
    effect: update
    args: { name: { role: selector, required: true } }
    resource: { type: Vm, from: name, known: { db-1: { env: prod }, web-3: { env: test } } }
";

const ALL: &str = "@id(\"all\") permit (principal, action, resource);\n";

/// A house without a server, and two sets of policies in it.
fn house(old: &str, new: &str) -> House {
    let house = House::new(CONFIG);
    for (name, text) in [("old", old), ("new", new)] {
        std::fs::create_dir(house.path(name)).unwrap();
        house.write(&format!("{name}/p.cedar"), text);
    }
    house
}

const DIFF: [&str; 4] = ["policy", "diff", "old", "new"];

fn proof(house: &House) -> Json {
    let told = house.json(&DIFF);
    assert!(told["proof"]["unasked"].is_null(), "cvc5 has to be installed for this test: {}", told["proof"]);
    told["proof"].clone()
}

fn states(proof: &Json) -> (String, String) {
    (text(&proof["wider"], "state"), text(&proof["narrower"], "state"))
}

// Every pair is told apart in both ways; what counts as wider follows what people can let through.
// proves: D2
#[test]
fn a_change_is_proved_or_refuted_in_each_way() {
    let no = |terms: &str, condition: &str| {
        format!(
            "{ALL}@id(\"no\") {terms} forbid (principal, action == Action::\"notes.delete\", resource) when {{ {condition} }};"
        )
    };
    let (proved, refuted) = ("proved", "refuted");
    for (old, new, wider, narrower) in [
        (ALL.to_owned(), no("", "context.untrusted"), proved, refuted),
        (no("", "context.untrusted"), ALL.to_owned(), refuted, proved),
        // Said in other words, it is the same.
        (no("", "context.untrusted"), no("", "!context.origins.isEmpty()"), proved, proved),
        (
            no("", "context.confidential"),
            no("", "context.level == \"secret\" || context.level == \"confidential\""),
            proved,
            proved,
        ),
        (no("", "context.hour_utc > 22"), no("", "context.hour_utc == 23"), proved, proved),
        // More hours, and other hours.
        (no("", "context.hour_utc > 21"), no("", "context.hour_utc > 22"), refuted, proved),
        (no("", "context.hour_utc == 3"), no("", "context.hour_utc == 4"), refuted, refuted),
        // Asked instead of refused; by one instead of two; by other people.
        (no("", "context.untrusted"), no("@ask", "context.untrusted"), refuted, proved),
        (no("@ask @quorum(\"2\")", "true"), no("@ask", "true"), refuted, proved),
        (no("@ask", "true"), no("@ask @initiator_may(\"true\")", "true"), refuted, proved),
        (no("@ask(\"sre\")", "true"), no("@ask(\"boss\")", "true"), refuted, refuted),
        (no("@ask", "true"), ALL.to_owned(), refuted, proved),
        // What is only observed enforces nothing.
        (ALL.to_owned(), no("@observe", "true"), proved, proved),
        // One class less.
        (no("", "principal in Class::\"ops\""), no("@class(\"ops\")", "true"), proved, proved),
        (no("", "true"), no("@class(\"ops\")", "true"), refuted, proved),
    ] {
        let found = proof(&house(&old, &new));
        assert_eq!(states(&found), (wider.to_owned(), narrower.to_owned()), "{old}\n{new}\n{found:#}");
    }
}

// proves: D2
#[test]
fn a_counterexample_is_an_act_that_the_rules_themselves_let_through() {
    let prod = format!(
        "{ALL}@id(\"prod\") forbid (principal, action in Action::\"write\", resource is Vm)
        when {{ resource has env && resource.env == \"prod\" && context.args.name.contains(\"db-1\") }};"
    );
    let house = house(&prod, ALL);
    let found = proof(&house);
    let example = &found["wider"]["counterexamples"][0];
    assert_eq!(
        (&example["change"], &example["registered"]),
        (&"newly_allowed".into(), &true.into()),
        "{found:#}"
    );
    let (agent, tool) =
        text(example, "act").split_once(" calls ").map(|(a, t)| (a.to_owned(), t.to_owned())).unwrap();
    assert_eq!(tool, "cloud.restart");
    let args = example["args"].to_string();
    let explain = |set: &str| {
        house.run(&[
            "policy",
            "explain",
            "--agent",
            &agent,
            "--do",
            &tool,
            "--with",
            &args,
            "--policies",
            set,
        ])
    };
    explain("old").failed(3);
    assert!(explain("new").good().contains("permitted by all"));
    let told = house.run(&DIFF);
    assert!(
        told.good().contains("refuted  more is allowed") && told.good().contains("proved  nothing less"),
        "{told:?}"
    );
    let gate = house.run(&[&DIFF[..], &["--no-wider"]].concat());
    assert!(gate.failed(1).contains("allow more"), "{gate:?}");
}

// What nothing registered can do today is told apart from what nothing could ever do.
// proves: D2
#[test]
fn a_proof_for_what_is_registered_says_so() {
    let house =
        house(&format!("{ALL}@id(\"n\") forbid (principal in Class::\"temps\", action, resource);"), ALL);
    let found = proof(&house);
    assert_eq!(states(&found), ("proved_today".into(), "proved".into()), "{found:#}");
    assert_eq!(found["wider"]["counterexamples"][0]["registered"], false);
    assert!(house.run(&DIFF).good().contains("with the agents and resources there are"));
    assert!(house.run(&[&DIFF[..], &["--no-wider"]].concat()).good().contains("proved"));
}

// proves: D2, D6
#[test]
fn a_rule_that_can_fail_is_never_taken_for_one_that_holds() {
    let sum = |condition: &str| {
        format!(
            "{ALL}@id(\"sum\") forbid (principal, action == Action::\"bank.pay\", resource) when {{ context has amount && {condition} }};"
        )
    };
    // Overflow makes the old set refuse; Cedar alone would pass the rule over.
    let found = proof(&house(&sum("context.amount + 1 > 9223372036854775807"), ALL));
    assert_eq!(states(&found), ("unproved".into(), "proved".into()), "{found:#}");
    assert!(found["wider"]["unproved"][0]["why"].as_str().unwrap().contains("can fail"), "{found:#}");
    let bounded = proof(&house(&sum("context.amount > 1000"), &sum("context.amount > 100")));
    assert_eq!(states(&bounded), ("proved".into(), "refuted".into()), "{bounded:#}");
}

// ---- a solver that is not there, or not one ----------------------------------------------------------------------

/// What these words do in a shell, as a program that says it is cvc5.
fn pretender(house: &House, does: &str) -> String {
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'This is cvc5 version 9.9.9'; exit 0; fi\n{does}\n"
    );
    let path = house.write("pretender", &script);
    let run = std::process::Command::new("chmod").arg("+x").arg(&path).status().unwrap();
    assert!(run.success());
    path.display().to_string()
}

fn with_solver(house: &House, solver: &str, more: &[&str]) -> Ran {
    Ran::of(house.command(&[&DIFF[..], &["--json"], more].concat()).env("CVC5", solver).output().unwrap())
}

/// Loosens one rule: more is allowed, whatever a solver says.
fn loosened() -> House {
    house(&format!("{ALL}@id(\"no\") forbid (principal, action == Action::\"notes.delete\", resource);"), ALL)
}

fn unproved(told: &Json, why: &str) {
    for way in ["wider", "narrower"] {
        assert_eq!(told["proof"][way]["state"], "unproved", "{told:#}");
    }
    assert!(told["proof"].to_string().contains(why), "{why}: {:#}", told["proof"]);
}

// proves: D2, D6
#[test]
fn without_a_solver_nothing_is_proved_and_nothing_fails() {
    let house = loosened();
    let told = with_solver(&house, "/nowhere/cvc5", &[]);
    unproved(&told.json(), "cannot be started");
    let words = Ran::of(house.command(&DIFF).env("CVC5", "/nowhere/cvc5").output().unwrap());
    let lines: Vec<&str> = words.good().lines().filter(|line| line.contains("nothing proved")).collect();
    assert!(lines.len() == 1 && lines[0].contains("apt install cvc5"), "{words:?}");
    assert!(words.good().contains("newly allowed"), "what was tried is told all the same: {words:?}");
    let bare = Ran::of(house.command(&DIFF).env_remove("CVC5").env("PATH", "/nowhere").output().unwrap());
    assert!(bare.good().contains("the solver cvc5 is not installed"), "{bare:?}");
    let other = with_solver(&house, "/bin/true", &[]);
    unproved(&other.json(), "does not say that it is cvc5");
    with_solver(&house, "/nowhere/cvc5", &["--no-wider"]).failed(1);
    unproved(&house.json(&[&DIFF[..], &["--solver-secs", "0"]].concat()), "no time");
}

// proves: D2, D6
#[test]
fn a_solver_that_never_answers_is_given_up_and_ended() {
    let house = loosened();
    let number = house.path("number");
    let solver = pretender(&house, &format!("echo $$ > {}; exec sleep 600", number.display()));
    let began = Instant::now();
    let told = with_solver(&house, &solver, &["--solver-secs", "1"]);
    unproved(&told.json(), "gave up after 1 s");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let number = std::fs::read_to_string(number).unwrap();
    let process = Path::new("/proc").join(number.trim());
    let sleeps = || std::fs::read_to_string(process.join("cmdline")).is_ok_and(|line| line.contains("sleep"));
    while sleeps() {
        assert!(began.elapsed() < Duration::from_secs(60), "process {number} is still there");
        std::thread::yield_now();
    }
}

// proves: D2, D6
#[test]
fn a_solver_that_talks_nonsense_or_lies_proves_nothing() {
    let house = loosened();
    let answers =
        |word: &str| format!("while read -r line; do case \"$line\" in '(check-sat)') {word};; esac; done");
    for (does, why) in [
        ("exit 3".to_owned(), "strangely"),
        (answers("echo perhaps"), "perhaps"),
        (answers("printf '\\377\\376\\n'"), "strangely"),
        (answers("tr -d '\\n' </dev/zero"), "strangely"),
        (answers("echo unknown"), "cannot tell"),
        // It says that nothing more is allowed, and an act that was tried is.
        (answers("echo unsat"), "cannot be believed"),
        (answers("echo sat; echo '('; echo tomato; echo ')'"), "unproved"),
        (answers("echo sat; echo '('; echo ')'"), "unproved"),
    ] {
        let told = with_solver(&house, &pretender(&house, &does), &["--solver-secs", "20"]).json();
        assert_eq!(told["proof"]["wider"]["state"], "unproved", "{does}: {told:#}");
        assert!(told["proof"].to_string().contains(why), "{does}: {:#}", told["proof"]);
    }
}
