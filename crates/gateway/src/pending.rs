//! Questions to people that callers of this gateway are waiting for.
//!
//! A model cannot attach a handle to a tool call; it can only call again. So the gateway remembers which
//! act is waiting under which handle and presents the handle when the very same act comes again. That is a
//! convenience: the control plane checks the handle against the frozen act all the same, and a node that
//! does not remember merely asks for the handle.

use crate::session::binding;
use bailiwick_api::Caller;
use bailiwick_core::{ApprovalId, Digest, ToolId, Value};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Most acts remembered; the oldest makes room.
const ACTS_MAX: usize = 10_000;

/// The acts that wait.
#[derive(Default)]
pub(crate) struct PendingActs {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_act: HashMap<Digest, ApprovalId>,
    tools: HashMap<ApprovalId, ToolId>,
    order: VecDeque<(Digest, ApprovalId)>,
}

fn act(caller: &Caller, tool: &ToolId, args: &Value) -> Digest {
    let who = binding(caller);
    Digest::of_parts(&[who.as_bytes(), tool.as_str().as_bytes(), args.canonical().as_bytes()])
}

impl PendingActs {
    /// Remembers that this act waits under this handle.
    pub(crate) fn remember(&self, caller: &Caller, tool: &ToolId, args: &Value, approval: &ApprovalId) {
        let key = act(caller, tool, args);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.by_act.insert(key, approval.clone()).as_ref() == Some(approval) {
            return;
        }
        inner.tools.insert(approval.clone(), tool.clone());
        inner.order.push_back((key, approval.clone()));
        if inner.order.len() > ACTS_MAX
            && let Some((oldest, handle)) = inner.order.pop_front()
        {
            if inner.by_act.get(&oldest) == Some(&handle) {
                inner.by_act.remove(&oldest);
            }
            inner.tools.remove(&handle);
        }
    }

    /// The handle under which this act waits.
    pub(crate) fn find(&self, caller: &Caller, tool: &ToolId, args: &Value) -> Option<ApprovalId> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.by_act.is_empty() {
            return None;
        }
        inner.by_act.get(&act(caller, tool, args)).cloned()
    }

    /// The tool of the act that waits under this handle.
    pub(crate) fn tool(&self, approval: &ApprovalId) -> Option<ToolId> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).tools.get(approval).cloned()
    }

    /// Forgets an act that no longer waits.
    pub(crate) fn forget(&self, caller: &Caller, tool: &ToolId, args: &Value) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.by_act.is_empty() {
            inner.by_act.remove(&act(caller, tool, args));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::caller;

    // proves: H7
    #[test]
    fn a_handle_is_found_for_the_same_act_of_the_same_agent_only() {
        let acts = PendingActs::default();
        let (tool, other) = (ToolId::parse("cloud.delete").unwrap(), ToolId::parse("cloud.stop").unwrap());
        let args = Value::from([("id", Value::Int(1))]);
        let handle = ApprovalId::parse("apr-1").unwrap();
        acts.remember(&caller("a"), &tool, &args, &handle);
        assert_eq!(acts.find(&caller("a"), &tool, &args), Some(handle));
        assert_eq!(acts.find(&caller("b"), &tool, &args), None);
        assert_eq!(acts.find(&caller("a"), &other, &args), None);
        assert_eq!(acts.find(&caller("a"), &tool, &Value::from([("id", Value::Int(2))])), None);
        acts.forget(&caller("a"), &tool, &args);
        assert_eq!(acts.find(&caller("a"), &tool, &args), None);
    }
}
