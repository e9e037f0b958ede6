//! The ledger as a node reads it: lines of recorded events, folded, asked about and judged on.
//!
//! A node reads what is in its log, whoever put it there. What cannot be read is an error, what is read is
//! written as it was, and no sequence of events makes the fold or a judgement panic or run without end.
#![no_main]

use bailiwick_core::decision::{Request, Scene, could_be_allowed, decide};
use bailiwick_core::event::{Recorded, Ruled, TaskEvent};
use bailiwick_core::label::Label;
use bailiwick_core::registry::{Registry, RegistryEvent};
use bailiwick_core::task::Task;
use bailiwick_core::verdict::{Facts, Policy, Verdict};
use bailiwick_core::{DecisionId, Digest, Time, ToolId, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut task, mut registry) = (None, Registry::default());
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Some(event) = read::<TaskEvent>(line) {
            follow(&mut task, &event);
        } else if let Some(event) = read::<RegistryEvent>(line) {
            registry.apply(&event.event);
        }
    }
    let Some(task) = task else { return };
    for grant in task.grants() {
        assert_eq!(task.lineage(grant).count(), usize::from(grant.depth) + 1);
        judge(&registry, &task, grant);
    }
});

/// Reads one event, and writes it as it was read.
fn read<E: serde::Serialize + serde::de::DeserializeOwned>(line: &[u8]) -> Option<Recorded<E>> {
    let event = Recorded::<E>::decode(line).ok()?;
    let written = event.encode().expect("what was read is written");
    let again = Recorded::<E>::decode(&written).expect("what was written is read");
    assert_eq!(again.encode().ok(), Some(written), "same event, same bytes");
    Some(event)
}

/// Folds one event. What is over stays over.
fn follow(task: &mut Option<Task>, event: &Recorded<TaskEvent>) {
    let Some(task) = task else {
        *task = Task::begin(&event.event, event.time);
        return;
    };
    let (ended, version) = (task.has_ended(), task.version());
    let revoked: Vec<_> = task.grants().filter(|grant| grant.revoked).map(|grant| grant.id.clone()).collect();
    task.apply(&event.event, event.time);
    assert_eq!(task.version(), version + 1);
    assert!(!ended || task.has_ended());
    assert!(revoked.iter().all(|id| task.grant(id).is_some_and(|grant| grant.revoked)));
}

/// Whatever was folded, a decision comes out, and a yes is only for what lives.
fn judge(registry: &Registry, task: &Task, grant: &bailiwick_core::grant::Grant) {
    let now = task.newest();
    let scene = Scene { registry, task, policy: &Open, now, fresh: true };
    for (tool, _) in registry.tools() {
        let ruling = decide(scene, &request(registry, task, grant, tool));
        if ruling.decided().outcome == Ruled::Allow {
            assert!(!task.has_ended() && task.is_live(&grant.id, now));
            assert!(could_be_allowed(scene, grant, tool));
        }
    }
}

fn request(registry: &Registry, task: &Task, grant: &bailiwick_core::grant::Grant, tool: &ToolId) -> Request {
    let key = registry.agent(&grant.agent).and_then(|agent| agent.keys.first().cloned());
    Request {
        decision: DecisionId::parse("d-fuzz").expect("an id"),
        fresh_approval: bailiwick_core::ApprovalId::parse("ap-fuzz").expect("an id"),
        grant: grant.id.clone(),
        agent: grant.agent.clone(),
        instance: key.unwrap_or_default(),
        token_until: Time(u64::MAX),
        proof: None,
        tool: tool.clone(),
        args: Value::Map(task.opening().inputs.clone()),
        definition: None,
        approval: task.approvals().next().map(|approval| approval.id.clone()),
        claims: Label::bottom(),
        says: None,
    }
}

/// Permits everything, so that the judgement itself is what refuses.
struct Open;

impl Policy for Open {
    fn evaluate(&self, _: &Facts<'_>) -> Verdict {
        Verdict::Permit { rules: vec!["open".to_owned()] }
    }
    fn version(&self) -> Digest {
        Digest::of(b"open")
    }
}
