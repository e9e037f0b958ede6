//! Reporting what came of a call: labels, explained values, budgets.

use bailiwick_api::{Caller, Outcome, OutcomeStatus};
use bailiwick_core::DecisionId;
use bailiwick_core::capability::Spent;
use bailiwick_core::event::{Reported, TaskEvent, Went};
use bailiwick_core::label::Label;
use bailiwick_core::origin::{Identifier, harvest};
use bailiwick_core::registry::Registry;
use bailiwick_core::tool::{Manifest, Trust};
use bailiwick_core::value::Value;

use crate::error::EngineError;
use crate::log::Engine;

/// Bytes of explained values that one event may carry; what does not fit stays unexplained.
const EXPLAINS_BYTES: usize = 40_000;

impl Engine {
    /// Records the outcome of an allowed call. A decision is reported once; a second report is refused.
    pub async fn report(
        &self,
        caller: &Caller,
        decision: &DecisionId,
        outcome: Outcome,
    ) -> Result<(), EngineError> {
        self.conduct(
            &caller.task,
            |scene| {
                let Some(call) = scene.task.open_calls().get(decision) else {
                    return Err(EngineError::new(
                        crate::Kind::Conflict,
                        "report.not_open",
                        format!("{decision} is not an allowed call that waits for its outcome"),
                    ));
                };
                if call.grant != caller.grant {
                    return Err(EngineError::forbidden(
                        "report.not_yours",
                        "only the agent whose call it was reports its outcome",
                    ));
                }
                let reported = reported(scene.registry, decision, &call.tool, &outcome);
                let end = scene.task.end_after(&reported);
                Ok((reported, end))
            },
            |(reported, end)| {
                core::iter::once(TaskEvent::Reported(reported.clone())).chain(end.clone()).collect()
            },
        )
        .await
        .map(|_| ())
    }
}

fn reported(
    registry: &Registry,
    decision: &DecisionId,
    tool: &bailiwick_core::ToolId,
    outcome: &Outcome,
) -> Reported {
    let manifest = registry.tool(tool).and_then(|t| t.manifest.as_ref());
    let done = outcome.status == OutcomeStatus::Done;
    let explains = match (manifest, &outcome.result) {
        (Some(manifest), Some(result)) if done => explained(manifest, result, registry),
        _ => Vec::new(),
    };
    Reported {
        decision: decision.clone(),
        went: match outcome.status {
            OutcomeStatus::Done => Went::Done,
            OutcomeStatus::Failed => Went::Failed,
            OutcomeStatus::Unknown => Went::Unknown,
        },
        label: label(manifest, tool),
        result: outcome.result.as_ref().map(Value::digest),
        spent: Spent { bytes: outcome.bytes, rows: rows(outcome.result.as_ref()), ..Spent::default() },
        explains,
        note: outcome.note.as_ref().map(|n| n.chars().take(500).collect()),
    }
}

/// What reading this result does to the branch: the manifest's label, and untrusted unless it says otherwise.
fn label(manifest: Option<&Manifest>, tool: &bailiwick_core::ToolId) -> Label {
    match manifest {
        Some(m) if m.trusted_result => m.labels.clone(),
        Some(m) => m.labels.join(&Label::untrusted(tool.as_str())),
        None => Label::untrusted(tool.as_str()),
    }
}

fn explained(manifest: &Manifest, result: &Value, registry: &Registry) -> Vec<(Identifier, String)> {
    let rules = if manifest.trusted_result && manifest.result.is_empty() {
        vec![bailiwick_core::tool::ResultRule { path: "*".to_owned(), trust: Trust::Exact, when: None }]
    } else {
        manifest.result.clone()
    };
    let mut room = EXPLAINS_BYTES;
    let mut seen = std::collections::BTreeSet::new();
    harvest(result, &rules, &registry.directory().own_domains)
        .into_iter()
        .filter(|(id, _)| seen.insert(id.clone()))
        .take_while(|(id, field)| {
            let size = id.text.len() + field.len() + 48;
            room = room.saturating_sub(size);
            room > 0
        })
        .collect()
}

fn rows(result: Option<&Value>) -> u64 {
    match result {
        Some(Value::List(items)) => items.len() as u64,
        Some(Value::Null) | None => 0,
        Some(_) => 1,
    }
}
