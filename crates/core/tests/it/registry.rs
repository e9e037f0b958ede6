//! What the registry remembers: definitions as a person looked at them, names that are gone, policies that were.

use bailiwick_core::registry::{Halt, Registry, RegistryEvent, Scope, Suspension};
use bailiwick_core::tool::{Effect, Manifest, Standing};
use bailiwick_core::{Digest, Value};

use crate::world::*;

fn definition(text: &str) -> Value {
    Value::from([("description", Value::from(text))])
}

fn sees(registry: &mut Registry, text: &str) {
    let definition = definition(text);
    let digest = definition.digest();
    registry.apply(&RegistryEvent::ToolSeen { tool: tool("cloud.wipe"), digest, definition });
}

fn classifies(registry: &mut Registry, pin: Option<Digest>) {
    let manifest = Manifest::new(tool("cloud.wipe"), Effect::Delete);
    registry.apply(&RegistryEvent::ToolClassified { manifest, pin, by: person("root") });
}

fn standing(registry: &Registry) -> &Standing {
    &registry.tool(&tool("cloud.wipe")).unwrap().standing
}

/// A tool that was seen and classified as it was seen.
fn classified() -> (Registry, Option<Digest>) {
    let mut registry = registry();
    sees(&mut registry, "wipes a disk");
    let pin = Some(definition("wipes a disk").digest());
    classifies(&mut registry, pin);
    (registry, pin)
}

// proves: D3, A39
#[test]
fn a_change_that_is_seen_again_stays_shut_until_the_old_one_is_back() {
    let (mut registry, pin) = classified();
    sees(&mut registry, "wipes a disk");
    assert_eq!(standing(&registry), &Standing::Classified { pin }, "seeing the same again changes nothing");
    for text in ["wipes all disks", "wipes all disks", "wipes everything"] {
        sees(&mut registry, text);
        assert_eq!(standing(&registry), &Standing::Quarantined { was: pin }, "{text}");
        assert_eq!(registry.pending_definition(&tool("cloud.wipe")), Some(&definition(text)));
    }
    assert_eq!(registry.definition(&tool("cloud.wipe")), Some(&definition("wipes a disk")));
    sees(&mut registry, "wipes a disk");
    assert_eq!(standing(&registry), &Standing::Classified { pin });
}

// proves: D3, A39
#[test]
fn a_definition_that_nobody_looked_at_is_not_kept_as_the_one_that_was() {
    let mut registry = registry();
    sees(&mut registry, "wipes a disk");
    sees(&mut registry, "wipes all disks");
    classifies(&mut registry, Some(definition("wipes a disk").digest()));
    assert!(matches!(standing(&registry), Standing::Quarantined { .. }));
    assert_eq!(registry.definition(&tool("cloud.wipe")), None);
}

// proves: D3
#[test]
fn a_tool_classified_without_a_definition_is_shut_when_one_is_seen() {
    let mut registry = registry();
    sees(&mut registry, "wipes a disk");
    classifies(&mut registry, None);
    assert_eq!(registry.definition(&tool("cloud.wipe")), None);
    sees(&mut registry, "wipes a disk");
    assert_eq!(standing(&registry), &Standing::Quarantined { was: None });
}

// proves: I3, D6
#[test]
fn a_retired_name_is_gone_for_good_and_is_told_apart_from_one_that_never_was() {
    let mut registry = registry();
    let reader = registry.agent(&agent("reader")).unwrap().clone();
    let known = |r: &Registry, name: &str| {
        (r.is_registered(&agent(name)), r.agent(&agent(name)).is_some(), r.is_retired(&agent(name)))
    };
    assert_eq!(known(&registry, "reader"), (true, true, false));
    assert_eq!(known(&registry, "nobody"), (false, false, false));
    registry.apply(&RegistryEvent::AgentRetired { agent: agent("reader"), by: person("root") });
    assert_eq!(known(&registry, "reader"), (false, false, true));
    registry.apply(&RegistryEvent::AgentSet { agent: reader, by: person("root") });
    assert_eq!(known(&registry, "reader"), (false, false, true), "no name comes back as somebody else");
}

// proves: R5
#[test]
fn a_suspension_is_told_for_exactly_what_it_was_aimed_at() {
    let mut registry = registry();
    assert!(registry.halts_nobody());
    let (by, reason, at) = (person("erin"), "odd".to_owned(), NOON);
    let suspension = Suspension { halt: Halt::Killed, by, reason, at };
    let scope = Scope::Agent(agent("reader"));
    registry.apply(&RegistryEvent::Suspended { target: scope.clone(), suspension: suspension.clone() });
    assert_eq!((registry.suspension(&scope), registry.halts_nobody()), (Some(&suspension), false));
    assert_eq!(registry.suspension(&Scope::Agent(agent("planner"))), None);
    assert_eq!(registry.suspension(&Scope::All), None);
}

// proves: D2
#[test]
fn every_policy_that_was_ever_active_is_remembered_with_who_made_it_so() {
    let mut registry = registry();
    assert_eq!((registry.policy(), registry.policy_versions().len()), (None, 0));
    for text in ["one", "two", "one"] {
        let (version, text) = (Digest::of(text.as_bytes()), text.to_owned());
        registry.apply(&RegistryEvent::PolicySet { version, text, by: person("root") });
    }
    assert_eq!(registry.policy(), Some((Digest::of(b"one"), "one")));
    let texts: Vec<&str> = registry.policy_versions().iter().map(|p| p.text.as_str()).collect();
    assert_eq!(texts, ["one", "two", "one"]);
    assert!(registry.policy_versions().is_sorted_by_key(|p| p.epoch));
}
