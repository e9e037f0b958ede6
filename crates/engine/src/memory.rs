//! What agents have put into the organisation's systems: by it a later task knows their words again.
//!
//! Inside one task the fold keeps what was written. Across tasks this memory does (A31, A32): each effect leaves
//! short marks of every value it carried out that nobody had vouched for, with the label of the branch that wrote
//! it. A result that brings such a value back explains nothing by it, whatever its manifest trusts, and the label
//! comes back with it. The marks are appended together with the decision that allowed the effect, so that no crash
//! and no other node can miss them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bailiwick_core::event::Decided;
use bailiwick_core::label::Label;
use bailiwick_core::origin::{
    Identifier, Origin, identify, leaves, mark, marks, record_mark, scan, steering,
};
use bailiwick_core::task::Task;
use bailiwick_core::tool::{Effect, Manifest};
use bailiwick_core::value::Value;
use bailiwick_core::{Time, ToolId};
use bailiwick_store::{Store, StoreError, ViewPut};
use serde::{Deserialize, Serialize};

/// How many marks a node holds, 1 million: about 32 MB. Past this, no result explains anything any more, which is
/// said loudly: stricter, never laxer.
const MARKS_MAX: usize = 1_000_000;
/// How many marks stand in one row.
const ROW_MAX: usize = 50_000;
/// Rows read at once.
const PAGE: usize = 1000;
/// How far back another node's rows are looked for again: more than clocks may differ.
const OVERLAP_MS: u64 = 120_000;

/// What one act leaves behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deposit {
    /// The label of what was written.
    label: Label,
    /// Marks of values nobody had vouched for.
    marks: BTreeSet<u64>,
    /// Marks of the records that were made or changed.
    records: BTreeSet<u64>,
}

impl Deposit {
    /// What an allowed call leaves; `None` for one that only looks.
    pub(crate) fn of_call(
        task: &Task,
        manifest: Option<&Manifest>,
        decided: &Decided,
        args: &Value,
    ) -> Option<Self> {
        let manifest = manifest.filter(|m| m.effect != Effect::Read)?;
        let chosen = |name: &str| decided.origins.get(name) == Some(&Origin::Chain);
        let members = args.as_map().into_iter().flatten();
        let free: BTreeMap<String, Value> =
            members.clone().filter(|(name, _)| !chosen(name)).map(|(n, v)| (n.clone(), v.clone())).collect();
        let records = members
            .flat_map(|(name, value)| steering(value, manifest.args.get(name)))
            .filter_map(|wanted| match wanted {
                bailiwick_core::origin::Wanted::One(id) => record_mark(&id),
                _ => None,
            })
            .collect();
        let label = decided.label.join(&Label::untrusted(manifest.tool.as_str()));
        Some(Deposit { label, marks: marks(&Value::Map(free), task.explained()), records })
    }

    /// What the result of an effect leaves: the ids of what it made, under the label of the branch that made it.
    pub(crate) fn of_result(label: &Label, tool: &ToolId, made: &[(Identifier, String)]) -> Option<Self> {
        let records: BTreeSet<u64> = made.iter().filter_map(|(id, _)| record_mark(id)).collect();
        let label = label.join(&Label::untrusted(tool.as_str()));
        (!records.is_empty()).then_some(Deposit { label, marks: BTreeSet::new(), records })
    }

    /// The rows to append with the event.
    pub(crate) fn rows(&self, view: &str, now: Time, place: &str) -> Vec<ViewPut> {
        let marks: Vec<u64> = self.marks.iter().copied().collect();
        let mut chunks: Vec<&[u64]> = marks.chunks(ROW_MAX).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let row = |(n, chunk): (usize, &[u64])| {
            let records = if n == 0 { self.records.clone() } else { BTreeSet::new() };
            let part = Deposit { label: self.label.clone(), marks: chunk.iter().copied().collect(), records };
            ViewPut {
                view: view.to_owned(),
                key: format!("{:020}-{place}-{n}", now.0),
                value: serde_json::to_vec(&part).ok(),
            }
        };
        chunks.into_iter().enumerate().map(row).collect()
    }
}

/// The marks of one tenant, as this node knows them.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    labels: Vec<Label>,
    marks: HashMap<u64, usize>,
    records: HashMap<u64, usize>,
    newest: Time,
    full: bool,
}

impl Memory {
    /// Reads all rows of a view.
    pub(crate) async fn load(store: &Store, view: &str) -> Result<Memory, StoreError> {
        let mut memory = Memory::default();
        memory.catch_up(store, view).await?;
        Ok(memory)
    }

    /// Reads what has been appended since, here or elsewhere.
    pub(crate) async fn catch_up(&mut self, store: &Store, view: &str) -> Result<(), StoreError> {
        let mut after = format!("{:020}", self.newest.0.saturating_sub(OVERLAP_MS));
        loop {
            let rows = store.view_scan(view, "", Some(&after), PAGE).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after.clone_from(last);
            for (key, value) in &rows {
                let time = key.get(..20).and_then(|t| t.parse().ok()).map_or(self.newest, Time);
                // A row that cannot be read hides what it held: then nothing may be trusted to be new.
                match serde_json::from_slice::<Deposit>(value) {
                    Ok(deposit) => self.keep(&deposit, time),
                    Err(_) => self.full = true,
                }
            }
        }
    }

    /// Keeps what an act has left.
    pub(crate) fn keep(&mut self, deposit: &Deposit, now: Time) {
        self.newest = self.newest.max(now);
        let label = self.labels.iter().position(|l| *l == deposit.label).unwrap_or_else(|| {
            self.labels.push(deposit.label.clone());
            self.labels.len() - 1
        });
        for (marks, new) in [(&mut self.marks, &deposit.marks), (&mut self.records, &deposit.records)] {
            for mark in new {
                if marks.len() >= MARKS_MAX && !marks.contains_key(mark) {
                    self.full = true;
                    continue;
                }
                let joined = marks
                    .get(mark)
                    .and_then(|held| self.labels.get(*held))
                    .map(|held| held.join(&deposit.label));
                let place = match joined {
                    Some(joined) if joined != deposit.label => {
                        self.labels.iter().position(|l| *l == joined).unwrap_or_else(|| {
                            self.labels.push(joined);
                            self.labels.len() - 1
                        })
                    }
                    _ => label,
                };
                marks.insert(*mark, place);
            }
        }
        if self.full {
            tracing::error!(
                "the memory of what agents have written is full: results explain no values any more"
            );
        }
    }

    /// Whether everything that an act leaves is known already, under labels at least as strict.
    pub(crate) fn covers(&self, deposit: &Deposit) -> bool {
        let covered = |marks: &HashMap<u64, usize>, mark: &u64| {
            let held = marks.get(mark).and_then(|at| self.labels.get(*at));
            held.is_some_and(|held| held.join(&deposit.label) == *held)
        };
        deposit.marks.iter().all(|mark| covered(&self.marks, mark))
            && deposit.records.iter().all(|mark| covered(&self.records, mark))
    }

    /// Whether a value that a result brings may be an agent's own words.
    pub(crate) fn may_be(&self, id: &Identifier) -> bool {
        self.full || self.marks.contains_key(&mark(id))
    }

    /// The label of everything that agents have written.
    pub(crate) fn worst(&self) -> Label {
        self.labels.iter().fold(Label::bottom(), |worst, label| worst.join(label))
    }

    /// The label that a result carries because agents wrote some of it, joined over all that is known again.
    pub(crate) fn label(&self, result: &Value, ids: &[(Identifier, String)]) -> Label {
        let held =
            |marks: &HashMap<u64, usize>, mark: u64| marks.get(&mark).and_then(|at| self.labels.get(*at));
        let mut label = Label::bottom();
        if self.marks.is_empty() && self.records.is_empty() {
            return label;
        }
        for found in ids.iter().filter_map(|(id, _)| held(&self.records, record_mark(id)?)) {
            label = label.join(found);
        }
        for leaf in leaves(result) {
            let lines = leaf.lines().map(identify).chain([identify(&leaf)]).chain(scan(&leaf));
            for found in lines.filter_map(|id| held(&self.marks, mark(&id))) {
                label = label.join(found);
            }
        }
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: A31
    #[test]
    fn what_is_known_under_a_laxer_label_is_news() {
        let left = |marks: &[u64], records: &[u64], origin: &str| Deposit {
            label: Label::untrusted(origin),
            marks: marks.iter().copied().collect(),
            records: records.iter().copied().collect(),
        };
        let mut memory = Memory::default();
        assert!(!memory.covers(&left(&[1], &[], "mail")), "nothing is known yet");
        memory.keep(&left(&[1], &[2], "mail"), Time(1));
        assert!(memory.covers(&left(&[1], &[2], "mail")));
        assert!(!memory.covers(&left(&[1], &[], "web")), "the same words, also from elsewhere");
        assert!(!memory.covers(&left(&[], &[2], "web")), "the same record, also from elsewhere");
        assert!(!memory.covers(&left(&[1, 3], &[], "mail")), "one word more");
        assert!(!memory.covers(&left(&[2], &[], "mail")), "a record is no word");
        memory.keep(&left(&[1], &[], "web"), Time(2));
        assert!(memory.covers(&left(&[1], &[], "mail")) && memory.covers(&left(&[1], &[], "web")));
    }
}
