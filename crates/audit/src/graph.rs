//! The provenance graph of a task: who wanted what, which agent did it with what, and where values came from.
//!
//! Built from the task's events alone, so that an auditor with an evidence bundle draws the same graph as the
//! control plane. Nodes and edges are ordered; the same events give the same graph.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bailiwick_core::amendment::Proposed;
use bailiwick_core::approval::Vote;
use bailiwick_core::event::{Decided, HandedOff, Opening, Reported, Ruled, TaskEvent, Went};
use bailiwick_core::origin::Origin;
use bailiwick_core::{DecisionId, GrantId};
use serde::Serialize;

use crate::movement::in_words;

/// What a node stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A person or workflow.
    Principal,
    /// The task with its intent.
    Task,
    /// A grant: one agent in this task.
    Grant,
    /// A decision about a call.
    Decision,
    /// A tool.
    Tool,
    /// A question to people.
    Approval,
    /// Where a value came from, when it is none of the above.
    Source,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vertex {
    /// Its key; unique in the graph.
    pub id: String,
    /// What it stands for.
    pub kind: NodeKind,
    /// For people.
    pub label: String,
    /// `allow`, `ask` or `deny` for decisions; `revoked` and the like for grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// An edge, from cause to effect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Edge {
    /// From.
    pub from: String,
    /// To.
    pub to: String,
    /// What happened along it: `opened`, `granted`, `handed_off`, `asked`, `called`, `approved`, `explained` …
    pub relation: String,
}

/// The provenance graph of one task.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Graph {
    /// Nodes by key.
    pub nodes: BTreeMap<String, Vertex>,
    /// Edges.
    pub edges: BTreeSet<Edge>,
}

impl Graph {
    /// The graph of a task's events, in their order. Events that refer to nothing known are left out.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a TaskEvent>) -> Graph {
        let mut graph = Graph::default();
        events.into_iter().for_each(|event| graph.add(event));
        graph
    }

    /// Everything that led to a node, and the node itself: the way back to the human intent.
    pub fn behind(&self, id: &str) -> Graph {
        let mut wanted = BTreeSet::new();
        let mut open = vec![id.to_owned()];
        while let Some(next) = open.pop() {
            if self.nodes.contains_key(&next) && wanted.insert(next.clone()) {
                open.extend(self.edges.iter().filter(|e| e.to == next).map(|e| e.from.clone()));
            }
        }
        Graph {
            nodes: self
                .nodes
                .iter()
                .filter(|(k, _)| wanted.contains(*k))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
            edges: self
                .edges
                .iter()
                .filter(|e| wanted.contains(&e.from) && wanted.contains(&e.to))
                .cloned()
                .collect(),
        }
    }

    /// The graph in the DOT language, for drawing. Refused acts are red, questions amber.
    pub fn to_dot(&self) -> String {
        let mut out = String::from(
            "digraph provenance {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n",
        );
        for node in self.nodes.values() {
            let colour = match node.state.as_deref() {
                Some("deny") => ", color=red",
                Some("ask") => ", color=orange",
                _ => "",
            };
            let _ = writeln!(out, "  {} [label={}{colour}];", quoted(&node.id), quoted(&node.label));
        }
        for edge in &self.edges {
            let _ = writeln!(
                out,
                "  {} -> {} [label={}];",
                quoted(&edge.from),
                quoted(&edge.to),
                quoted(&edge.relation)
            );
        }
        out.push_str("}\n");
        out
    }

    fn add(&mut self, event: &TaskEvent) {
        match event {
            TaskEvent::Opened(opening) => self.opened(opening),
            TaskEvent::Decided(decided) => self.decided(decided),
            TaskEvent::Reported(reported) => self.reported(reported),
            TaskEvent::HandedOff(handed) => self.handed_off(handed),
            TaskEvent::AmendmentProposed(proposed) => self.proposed(proposed),
            TaskEvent::Amended(amended) => {
                self.edge(amended.approval.as_str(), amended.grant.as_str(), "amended");
            }
            TaskEvent::Voted { approval, by, vote } => {
                let relation = match vote {
                    Vote::Approve => "approved",
                    Vote::Narrow { .. } => "narrowed",
                    Vote::Deny { .. } => "denied",
                };
                self.node(by.as_str(), NodeKind::Principal, by.as_str(), None);
                self.edge(by.as_str(), approval.as_str(), relation);
            }
            TaskEvent::GrantRevoked { grant, .. } => self.state(grant.as_str(), "revoked"),
            TaskEvent::Ended { .. } => {
                let grants: Vec<String> =
                    self.nodes.values().filter(|n| n.kind == NodeKind::Grant).map(|n| n.id.clone()).collect();
                grants.iter().for_each(|grant| self.state(grant, "ended"));
            }
            TaskEvent::TokenMinted { .. }
            | TaskEvent::Frozen { .. }
            | TaskEvent::Resumed { .. }
            | TaskEvent::LeaseRequested(_)
            | TaskEvent::Lease { .. }
            | TaskEvent::Receipted(_) => {}
        }
    }

    fn opened(&mut self, opening: &Opening) {
        let (who, task) = (opening.initiator.as_str(), opening.task.as_str());
        self.node(who, NodeKind::Principal, who, None);
        self.node(task, NodeKind::Task, &opening.intent, None);
        self.edge(who, task, "opened");
        self.node(opening.grant.as_str(), NodeKind::Grant, opening.agent.as_str(), None);
        self.edge(task, opening.grant.as_str(), "granted");
    }

    fn decided(&mut self, decided: &Decided) {
        let id = decided.decision.as_str();
        let label = format!("{} {}", decided.tool, decided.args);
        self.node(id, NodeKind::Decision, &shorten(&label), Some(decided.outcome.as_str()));
        self.edge(decided.grant.as_str(), id, "wanted");
        for (argument, origin) in &decided.origins {
            let source = self.source(&decided.decision, &decided.grant, origin);
            self.edge(&source, id, &format!("explained {argument}"));
        }
        if let Some(asked) = &decided.asked {
            self.node(asked.approval.as_str(), NodeKind::Approval, &decided.why.reason, None);
            self.edge(id, asked.approval.as_str(), "asked");
        }
        if let (Some(used), Ruled::Allow) = (&decided.approval, decided.outcome) {
            self.edge(used.as_str(), id, "approved");
        }
        if decided.outcome == Ruled::Allow {
            self.node(decided.tool.as_str(), NodeKind::Tool, decided.tool.as_str(), None);
            self.edge(id, decided.tool.as_str(), "called");
        }
    }

    fn proposed(&mut self, proposed: &Proposed) {
        let id = proposed.decision.as_str();
        let steps: Vec<&str> = proposed.steps.iter().map(|s| s.id.as_str()).collect();
        let label = format!("amend the chain by {}", steps.join(", "));
        self.node(id, NodeKind::Decision, &shorten(&label), Some(proposed.outcome.as_str()));
        self.edge(proposed.grant.as_str(), id, "wanted");
        if let Some(asked) = &proposed.asked {
            self.node(asked.approval.as_str(), NodeKind::Approval, &proposed.why.reason, None);
            self.edge(id, asked.approval.as_str(), "asked");
        }
    }

    /// The node that vouches for a value.
    fn source(&mut self, decision: &DecisionId, grant: &GrantId, origin: &Origin) -> String {
        if let Origin::Result { tool, .. } = origin {
            let read = self.nodes.values().rfind(|n| {
                n.kind == NodeKind::Decision
                    && n.id != decision.as_str()
                    && n.label.starts_with(&format!("{tool} "))
            });
            if let Some(read) = read {
                return read.id.clone();
            }
        }
        if let Origin::Amendment { approval } = origin {
            return approval.to_string();
        }
        if matches!(origin, Origin::Input { .. } | Origin::Intent | Origin::Chain)
            && let Some(task) = self.nodes.values().find(|n| n.kind == NodeKind::Task)
        {
            return task.id.clone();
        }
        let id = format!("{grant}/{}", origin.in_words());
        self.node(&id, NodeKind::Source, &origin.in_words(), None);
        id
    }

    fn reported(&mut self, reported: &Reported) {
        // What came back went into the branch of whoever asked, under this label.
        let called =
            self.edges.iter().find(|e| e.from == reported.decision.as_str() && e.relation == "called");
        if let Some(tool) = called.map(|e| e.to.clone()) {
            let relation = format!("returned {}", in_words(&reported.label));
            self.edge(&tool, reported.decision.as_str(), &shorten(&relation));
        }
        let went = match reported.went {
            Went::Done => return,
            Went::Failed => "failed",
            Went::Unknown => "unknown",
        };
        self.state(reported.decision.as_str(), went);
    }

    fn handed_off(&mut self, handed: &HandedOff) {
        match &handed.grant {
            Some(new) => {
                self.node(new.grant.as_str(), NodeKind::Grant, handed.to.as_str(), None);
                self.edge(handed.parent.as_str(), new.grant.as_str(), "handed_off");
                if let Some(fields) = handed.delivered.as_map().filter(|fields| !fields.is_empty()) {
                    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                    let relation = format!("delivered {}: {}", names.join(", "), in_words(&new.label));
                    self.edge(handed.parent.as_str(), new.grant.as_str(), &shorten(&relation));
                }
            }
            None => {
                let id = handed.decision.as_str();
                self.node(id, NodeKind::Decision, &format!("handoff to {}", handed.to), Some("deny"));
                self.edge(handed.parent.as_str(), id, "wanted");
            }
        }
    }

    fn node(&mut self, id: &str, kind: NodeKind, label: &str, state: Option<&str>) {
        self.nodes.entry(id.to_owned()).or_insert_with(|| Vertex {
            id: id.to_owned(),
            kind,
            label: shorten(label),
            state: state.map(str::to_owned),
        });
    }

    fn edge(&mut self, from: &str, to: &str, relation: &str) {
        self.edges.insert(Edge { from: from.to_owned(), to: to.to_owned(), relation: relation.to_owned() });
    }

    fn state(&mut self, id: &str, state: &str) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.state = Some(state.to_owned());
        }
    }
}

/// At most 120 characters, on one line.
fn shorten(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(120).collect()
}

/// A quoted string of the DOT language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bailiwick_core::event::TaskLimits;
    use bailiwick_core::{Time, Value};

    fn opened() -> TaskEvent {
        TaskEvent::Opened(Opening {
            task: "t-abc".parse().unwrap(),
            initiator: "dana@example.org".parse().unwrap(),
            intent: "Fix \"ticket\" 4711".to_owned(),
            inputs: BTreeMap::new(),
            types: BTreeMap::new(),
            chain: None,
            limits: TaskLimits {
                until: Time(9),
                asks: 1,
                handoffs: 1,
                depth: 1,
                refusals: None,
                seeking: None,
            },
            grant: "g-abc-0".parse().unwrap(),
            agent: "support".parse().unwrap(),
            capabilities: vec![],
            template: None,
        })
    }

    fn refused(decision: &str) -> TaskEvent {
        let text = format!(
            r#"{{"event":"decided","decision":"{decision}","grant":"g-abc-0","agent":"support","instance":"k",
                "tool":"cloud.delete","args":{{"name":"db-1"}},"outcome":"deny",
                "why":{{"step":5,"code":"capability.none","rule":"grant","reason":"no"}},
                "policy":"{}","epoch":1}}"#,
            bailiwick_core::Digest::of(b"")
        );
        serde_json::from_str(&text).unwrap()
    }

    // proves: P3
    #[test]
    fn every_act_leads_back_to_the_person_who_wanted_it() {
        let graph = Graph::of(&[opened(), refused("d-abc-1"), refused("d-abc-2")]);
        let behind = graph.behind("d-abc-2");
        let keys: Vec<&str> = behind.nodes.keys().map(String::as_str).collect();
        assert_eq!(keys, ["d-abc-2", "dana@example.org", "g-abc-0", "t-abc"]);
        assert!(graph.behind("d-none-1").nodes.is_empty());
    }

    // proves: A49
    #[test]
    fn what_an_agent_writes_cannot_break_out_of_the_drawing() {
        let dot = Graph::of(&[opened(), refused("d-abc-1")]).to_dot();
        assert!(dot.contains(r#"[label="Fix \"ticket\" 4711"]"#), "{dot}");
        assert!(dot.contains("color=red"));
        assert_eq!(quoted("a\"];evil[\""), r#""a\"];evil[\"""#);
        assert!(Value::parse(serde_json::to_string(&Graph::of(&[opened()])).unwrap().as_bytes()).is_ok());
    }
}
